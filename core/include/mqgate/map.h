/* mqgate/map.h - a hash map from bytes to pointers, for one thread at a time.
 *
 * The hash is seeded (mqg_hash), so peers may choose keys. Values are never NULL, and never the map's own:
 * who removes or replaces gets the old one back and frees it. For a map that others read meanwhile see
 * pmap.h. */
#ifndef MQGATE_MAP_H
#define MQGATE_MAP_H

#include <mqgate/base.h>

enum mqg_map_keys {
    MQG_MAP_COPY = 0, /* the map keeps copies of the keys */
    MQG_MAP_BORROW,   /* the bytes of a key live in its value (or longer than the entry) */
};

struct mqg_map_slot;

struct mqg_map {
    struct mqg_map_slot *slots;
    size_t cap; /* a power of two, or 0 */
    size_t count;
    enum mqg_map_keys keys;
};

MQG_API void mqg_map_init(struct mqg_map *m, enum mqg_map_keys keys);
/* Frees slots and copied keys; values are the caller's, who walks the map before. */
MQG_API void mqg_map_fini(struct mqg_map *m);
/* NULL when absent. */
MQG_API void *mqg_map_get(const struct mqg_map *m, struct mqg_slice key);
/* Adds or replaces; the value replaced, or NULL. A borrowed key moves to the new bytes. */
MQG_API void *mqg_map_set(struct mqg_map *m, struct mqg_slice key, void *value);
/* Removes; the value removed, or NULL. Memory is kept. */
MQG_API void *mqg_map_del(struct mqg_map *m, struct mqg_slice key);
/* Room for n entries without growing again. */
MQG_API void mqg_map_reserve(struct mqg_map *m, size_t n);

/* for (struct mqg_map_iter it = {.left = 0}; mqg_map_next(&m, &it);) use(it.key, it.value);
 * In no order. The entry just returned may be deleted; any other change ends the walk. The key is valid as
 * long as the entry is. */
struct mqg_map_iter {
    struct mqg_slice key;
    void *value;
    size_t at, left; /* private, as all below */
    bool started;
};

MQG_API bool mqg_map_next(const struct mqg_map *m, struct mqg_map_iter *it);

#endif
