/* mqgate/pmap.h - a persistent hash map from bytes to pointers: one writer, readers without a lock.
 *
 * A map is a root pointer, and what a root shows never changes once it is published; NULL is the empty map.
 * The writer makes a new root by copying the path to what it changes, publishes it (an atomic store with
 * release, by the owner of the root) and hands the nodes that only old roots reach to edit->retire, which
 * frees them when no reader can hold an old root any more (epoch.h fits). Values are the caller's: never
 * NULL, not freed here.
 *
 *   struct mqg_pmap_edit edit;
 *   mqg_pmap_edit_begin(&edit, keep);      (collects; retire by epochs after the new root is published)
 *   for each declaration: root = mqg_pmap_set(&edit, root, name, thing);
 *   atomic_store_explicit(&published, root, memory_order_release);
 *
 * Within one edit, nodes that the edit has made are changed in place, so many changes cost little more than
 * one. Hence only the last root of an edit may be published, and an edit ends when its root is published:
 * begin a new one. */
#ifndef MQGATE_PMAP_H
#define MQGATE_PMAP_H

#include <mqgate/base.h>

struct mqg_pmap;

struct mqg_pmap_edit {
    uint64_t id; /* in each node that the edit has made */
    void (*retire)(void *ptr, void (*free_fn)(void *ptr, void *arg), void *arg);
};

/* A fresh id, never used before in this process. Any thread. */
MQG_API void mqg_pmap_edit_begin(struct mqg_pmap_edit *edit,
                                 void (*retire)(void *ptr, void (*free_fn)(void *ptr, void *arg), void *arg));

/* NULL when absent. Any reader that may hold the root. */
MQG_API void *mqg_pmap_get(const struct mqg_pmap *root, struct mqg_slice key);
MQG_API size_t mqg_pmap_count(const struct mqg_pmap *root);
/* Adds or replaces; the new root. The key is copied. Aborts without memory. Writer only. */
MQG_API struct mqg_pmap *mqg_pmap_set(const struct mqg_pmap_edit *edit, struct mqg_pmap *root,
                                      struct mqg_slice key, void *value) MQG_MUST_CHECK;
/* Removes; the new root, which is the old one when the key is absent, and NULL when nothing is left. Writer
 * only. */
MQG_API struct mqg_pmap *mqg_pmap_del(const struct mqg_pmap_edit *edit, struct mqg_pmap *root,
                                      struct mqg_slice key) MQG_MUST_CHECK;

/* The same with the hash of the key at hand (a map must see the same hash for a key always). */
MQG_API void *mqg_pmap_get_hashed(const struct mqg_pmap *root, uint64_t hash, struct mqg_slice key);
MQG_API struct mqg_pmap *mqg_pmap_set_hashed(const struct mqg_pmap_edit *edit, struct mqg_pmap *root,
                                             uint64_t hash, struct mqg_slice key, void *value) MQG_MUST_CHECK;
MQG_API struct mqg_pmap *mqg_pmap_del_hashed(const struct mqg_pmap_edit *edit, struct mqg_pmap *root,
                                             uint64_t hash, struct mqg_slice key) MQG_MUST_CHECK;

/* Frees all nodes of a root that nobody else reads; roots that it shares nodes with are gone with it. As the
 * free_fn of a retire: mqg_epoch_retire(root, mqg_pmap_free, NULL). arg is not used. */
MQG_API void mqg_pmap_free(void *root, void *arg);

/* Calls visit for each entry until it returns false; false when it did. In no order. The key lives as long as
 * root. */
MQG_API bool mqg_pmap_each(const struct mqg_pmap *root,
                           bool (*visit)(struct mqg_slice key, void *value, void *arg), void *arg);

/* The same as a loop: for (mqg_pmap_cursor_init(&c, root); mqg_pmap_cursor_next(&c);) use(c.key, c.value); */
#define MQG_PMAP_LEVELS 12
struct mqg_pmap_cursor {
    struct mqg_slice key;
    void *value;
    const void *nodes[MQG_PMAP_LEVELS]; /* private, as all below */
    uint32_t at[MQG_PMAP_LEVELS];
    unsigned depth;
};

MQG_API void mqg_pmap_cursor_init(struct mqg_pmap_cursor *c, const struct mqg_pmap *root);
MQG_API bool mqg_pmap_cursor_next(struct mqg_pmap_cursor *c);

#endif
