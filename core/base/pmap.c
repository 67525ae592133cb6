/* pmap.c - a hash array mapped trie, by path copying.
 *
 * Six bits of the hash choose a child at each level. A branch stores only the children it has, in the order
 * of their bits, and a bitmap that tells which; a child is a leaf (lowest pointer bit set) or a node of the
 * next level. When all 64 bits are used up and keys still differ, the level below is a collision: a node of
 * leaves that all have the same hash, searched one by one.
 *
 *   root {count, top} -> branch {bitmap 0b100101, leaf, branch, leaf}
 *                                                      `-> branch {...} ... level 11: collision {leaf, leaf}
 *
 * The shape depends on the content alone: a branch below the top never has a single leaf (a deletion pulls it
 * up), so maps do not degrade with their history.
 *
 * Every node carries the id of the edit that made it. A node of the current edit has been seen by nobody
 * else: it is changed in place, and freed at once when it is replaced. Any other is copied and retired.
 * Readers never look at the ids, so nothing that they read is written after it was published. */
#include <mqgate/pmap.h>

#include <stdlib.h>

enum {
    PMAP_BITS = 6,
    PMAP_SHIFT_END = 66, /* no bits of the hash are left: a collision */
};
_Static_assert(PMAP_SHIFT_END / PMAP_BITS + 1 == MQG_PMAP_LEVELS, "a cursor holds a node of each level");

struct pmap_leaf {
    uint64_t edit;
    uint64_t hash;
    void *value;
    uint32_t len;
    uint8_t key[];
};

/* A branch or a collision: the latter counts its leaves where the former has its bitmap. */
struct pmap_node {
    uint64_t edit;
    uint64_t bits;
    void *child[];
};

struct mqg_pmap {
    uint64_t edit;
    size_t count;
    struct pmap_node *top;
};

/* One change on its way down and up. */
struct pmap_op {
    const struct mqg_pmap_edit *edit;
    uint64_t hash;
    struct mqg_slice key;
    void *value;
    bool changed; /* an entry was added or removed */
};

/* ---- children ------------------------------------------------------------------------------------------ */

static bool pmap_is_leaf(const void *child)
{
    return ((uintptr_t)child & 1) != 0;
}

static struct pmap_leaf *pmap_leaf_of(const void *child)
{
    return (struct pmap_leaf *)((uintptr_t)child - 1);
}

static void *pmap_leaf_child(struct pmap_leaf *leaf)
{
    return (void *)((uintptr_t)leaf + 1);
}

static bool pmap_leaf_is(const struct pmap_leaf *leaf, uint64_t hash, struct mqg_slice key)
{
    return leaf->hash == hash && mqg_slice_eq(mqg_slice_of(leaf->key, leaf->len), key);
}

static uint64_t pmap_bit(uint64_t hash, unsigned shift)
{
    return UINT64_C(1) << (hash >> shift & 63);
}

static size_t pmap_index(uint64_t bitmap, uint64_t bit)
{
    return (size_t)__builtin_popcountll(bitmap & (bit - 1));
}

static size_t pmap_node_size(const struct pmap_node *node, unsigned shift)
{
    return shift == PMAP_SHIFT_END ? (size_t)node->bits : (size_t)__builtin_popcountll(node->bits);
}

/* ---- memory -------------------------------------------------------------------------------------------- */

static void pmap_free_one(void *ptr, void *arg)
{
    (void)arg;
    free(ptr);
}

/* What the edit replaces: seen by nobody when it made it itself, else by readers of old roots. */
static void pmap_discard(const struct mqg_pmap_edit *edit, void *ptr, uint64_t made_by)
{
    if (made_by == edit->id)
        free(ptr);
    else
        edit->retire(ptr, pmap_free_one, NULL);
}

static void *pmap_leaf_new(const struct pmap_op *op)
{
    MQG_ASSERT(op->key.len <= UINT32_MAX);
    struct pmap_leaf *leaf = mqg_xmalloc(offsetof(struct pmap_leaf, key) + op->key.len);
    leaf->edit = op->edit->id;
    leaf->hash = op->hash;
    leaf->value = op->value;
    leaf->len = (uint32_t)op->key.len;
    if (op->key.len > 0)
        memcpy(leaf->key, op->key.ptr, op->key.len);
    return pmap_leaf_child(leaf);
}

/* Room for how many children a node of n has: larger ones grow by eights, so that an edit that adds many copies seldom. */
static size_t pmap_node_room(size_t n)
{
    return n <= 4 ? n : (n + 7) & ~(size_t)7;
}

static struct pmap_node *pmap_node_new(const struct pmap_op *op, uint64_t bits, size_t n)
{
    struct pmap_node *node = mqg_xmalloc(sizeof *node + pmap_node_room(n) * sizeof node->child[0]);
    node->edit = op->edit->id;
    node->bits = bits;
    return node;
}

/* The node with child i replaced: itself when the edit made it, else a copy. */
static struct pmap_node *pmap_node_put(const struct pmap_op *op, struct pmap_node *node, size_t n, size_t i,
                                       void *child)
{
    if (node->child[i] == child)
        return node;
    if (node->edit != op->edit->id) {
        struct pmap_node *copy = pmap_node_new(op, node->bits, n);
        memcpy(copy->child, node->child, n * sizeof node->child[0]);
        pmap_discard(op->edit, node, node->edit);
        node = copy;
    }
    node->child[i] = child;
    return node;
}

/* The node's n children with one more at i: in place when the edit made it and there is room, else a copy. */
static struct pmap_node *pmap_node_insert(const struct pmap_op *op, struct pmap_node *node, size_t n,
                                          uint64_t bits, size_t i, void *child)
{
    if (node->edit == op->edit->id && n < pmap_node_room(n)) {
        memmove(&node->child[i + 1], &node->child[i], (n - i) * sizeof child);
        node->child[i] = child;
        node->bits = bits;
        return node;
    }
    struct pmap_node *copy = pmap_node_new(op, bits, n + 1);
    memcpy(copy->child, node->child, i * sizeof child);
    copy->child[i] = child;
    memcpy(&copy->child[i + 1], &node->child[i], (n - i) * sizeof child);
    pmap_discard(op->edit, node, node->edit);
    return copy;
}

/* A copy of the node's n children without the one at i. */
static struct pmap_node *pmap_node_remove(const struct pmap_op *op, struct pmap_node *node, size_t n,
                                          uint64_t bits, size_t i)
{
    struct pmap_node *copy = pmap_node_new(op, bits, n - 1);
    memcpy(copy->child, node->child, i * sizeof(void *));
    memcpy(&copy->child[i], &node->child[i + 1], (n - 1 - i) * sizeof(void *));
    pmap_discard(op->edit, node, node->edit);
    return copy;
}

/* ---- lookup -------------------------------------------------------------------------------------------- */

static void *pmap_collision_get(const struct pmap_node *node, uint64_t hash, struct mqg_slice key)
{
    for (uint64_t i = 0; i < node->bits; i++)
        if (pmap_leaf_is(pmap_leaf_of(node->child[i]), hash, key))
            return pmap_leaf_of(node->child[i])->value;
    return NULL;
}

void *mqg_pmap_get_hashed(const struct mqg_pmap *root, uint64_t hash, struct mqg_slice key)
{
    if (root == NULL)
        return NULL;
    const struct pmap_node *node = root->top;
    for (unsigned shift = 0; shift < PMAP_SHIFT_END; shift += PMAP_BITS) {
        uint64_t bit = pmap_bit(hash, shift);
        if ((node->bits & bit) == 0)
            return NULL;
        const void *child = node->child[pmap_index(node->bits, bit)];
        if (pmap_is_leaf(child)) {
            const struct pmap_leaf *leaf = pmap_leaf_of(child);
            return pmap_leaf_is(leaf, hash, key) ? leaf->value : NULL;
        }
        node = child;
    }
    return pmap_collision_get(node, hash, key);
}

/* ---- adding -------------------------------------------------------------------------------------------- */

static void *pmap_leaf_replace(struct pmap_op *op, struct pmap_leaf *leaf)
{
    if (leaf->value == op->value)
        return pmap_leaf_child(leaf);
    if (leaf->edit == op->edit->id) {
        leaf->value = op->value;
        return pmap_leaf_child(leaf);
    }
    void *child = pmap_leaf_new(op);
    pmap_discard(op->edit, leaf, leaf->edit);
    return child;
}

/* Two leaves whose hashes are equal below `shift`: the branches down to where they differ, or a collision. */
static struct pmap_node *pmap_split(struct pmap_op *op, struct pmap_leaf *old, unsigned shift)
{
    if (shift == PMAP_SHIFT_END) {
        struct pmap_node *node = pmap_node_new(op, 2, 2);
        node->child[0] = pmap_leaf_child(old);
        node->child[1] = pmap_leaf_new(op);
        return node;
    }
    uint64_t old_bit = pmap_bit(old->hash, shift), bit = pmap_bit(op->hash, shift);
    if (old_bit == bit) {
        struct pmap_node *node = pmap_node_new(op, bit, 1);
        node->child[0] = pmap_split(op, old, shift + PMAP_BITS);
        return node;
    }
    struct pmap_node *node = pmap_node_new(op, old_bit | bit, 2);
    node->child[bit < old_bit] = pmap_leaf_child(old);
    node->child[bit > old_bit] = pmap_leaf_new(op);
    return node;
}

static struct pmap_node *pmap_collision_set(struct pmap_op *op, struct pmap_node *node)
{
    size_t n = node->bits;
    for (size_t i = 0; i < n; i++) {
        struct pmap_leaf *leaf = pmap_leaf_of(node->child[i]);
        if (pmap_leaf_is(leaf, op->hash, op->key))
            return pmap_node_put(op, node, n, i, pmap_leaf_replace(op, leaf));
    }
    op->changed = true;
    return pmap_node_insert(op, node, n, n + 1, n, pmap_leaf_new(op));
}

static struct pmap_node *pmap_node_set(struct pmap_op *op, struct pmap_node *node, unsigned shift);

static void *pmap_child_set(struct pmap_op *op, void *child, unsigned shift)
{
    if (!pmap_is_leaf(child))
        return pmap_node_set(op, child, shift);
    struct pmap_leaf *leaf = pmap_leaf_of(child);
    if (pmap_leaf_is(leaf, op->hash, op->key))
        return pmap_leaf_replace(op, leaf);
    op->changed = true;
    return pmap_split(op, leaf, shift);
}

static struct pmap_node *pmap_node_set(struct pmap_op *op, struct pmap_node *node, unsigned shift)
{
    if (shift == PMAP_SHIFT_END)
        return pmap_collision_set(op, node);
    uint64_t bit = pmap_bit(op->hash, shift);
    size_t n = pmap_node_size(node, shift), i = pmap_index(node->bits, bit);
    if ((node->bits & bit) == 0) {
        op->changed = true;
        return pmap_node_insert(op, node, n, node->bits | bit, i, pmap_leaf_new(op));
    }
    return pmap_node_put(op, node, n, i, pmap_child_set(op, node->child[i], shift + PMAP_BITS));
}

/* ---- removing ------------------------------------------------------------------------------------------ */

/* Takes child i, a leaf, out of a node of n. What is left: NULL, the other leaf, or the smaller node. */
static void *pmap_node_take(struct pmap_op *op, struct pmap_node *node, size_t n, uint64_t bits, size_t i,
                            unsigned shift)
{
    op->changed = true;
    struct pmap_leaf *leaf = pmap_leaf_of(node->child[i]);
    pmap_discard(op->edit, leaf, leaf->edit);
    void *left = NULL;
    if (n == 1 || (n == 2 && shift > 0 && pmap_is_leaf(node->child[1 - i]))) {
        left = n == 1 ? NULL : node->child[1 - i];
        pmap_discard(op->edit, node, node->edit);
        return left;
    }
    return pmap_node_remove(op, node, n, bits, i);
}

static void *pmap_collision_del(struct pmap_op *op, struct pmap_node *node)
{
    for (size_t i = 0; i < node->bits; i++)
        if (pmap_leaf_is(pmap_leaf_of(node->child[i]), op->hash, op->key))
            return pmap_node_take(op, node, node->bits, node->bits - 1, i, PMAP_SHIFT_END);
    return node;
}

/* What stands in the node's place without the key: itself, a copy, a leaf that was pulled up, or NULL. */
static void *pmap_node_del(struct pmap_op *op, struct pmap_node *node, unsigned shift)
{
    if (shift == PMAP_SHIFT_END)
        return pmap_collision_del(op, node);
    uint64_t bit = pmap_bit(op->hash, shift);
    if ((node->bits & bit) == 0)
        return node;
    size_t n = pmap_node_size(node, shift), i = pmap_index(node->bits, bit);
    void *child = node->child[i];
    if (pmap_is_leaf(child)) {
        bool mine = pmap_leaf_is(pmap_leaf_of(child), op->hash, op->key);
        return mine ? pmap_node_take(op, node, n, node->bits & ~bit, i, shift) : node;
    }
    child = pmap_node_del(op, child, shift + PMAP_BITS);
    if (n == 1 && shift > 0 && pmap_is_leaf(child)) {
        pmap_discard(op->edit, node, node->edit);
        return child; /* pulled up through a chain of single children */
    }
    return pmap_node_put(op, node, n, i, child);
}

/* ---- roots --------------------------------------------------------------------------------------------- */

void mqg_pmap_edit_begin(struct mqg_pmap_edit *edit,
                         void (*retire)(void *ptr, void (*free_fn)(void *ptr, void *arg), void *arg))
{
    static _Atomic uint64_t last_id;
    MQG_ASSERT(retire != NULL);
    edit->id = atomic_fetch_add_explicit(&last_id, 1, memory_order_relaxed) + 1;
    edit->retire = retire;
}

static struct mqg_pmap *pmap_root_new(const struct mqg_pmap_edit *edit, size_t count, struct pmap_node *top)
{
    struct mqg_pmap *root = mqg_xmalloc(sizeof *root);
    *root = (struct mqg_pmap){edit->id, count, top};
    return root;
}

/* The root after a change: in place when the edit made it. */
static struct mqg_pmap *pmap_root_put(const struct pmap_op *op, struct mqg_pmap *root, size_t count,
                                      struct pmap_node *top)
{
    if (root->edit != op->edit->id) {
        if (root->top == top)
            return root;
        struct mqg_pmap *copy = pmap_root_new(op->edit, count, top);
        pmap_discard(op->edit, root, root->edit);
        return copy;
    }
    root->count = count;
    root->top = top;
    return root;
}

struct mqg_pmap *mqg_pmap_set_hashed(const struct mqg_pmap_edit *edit, struct mqg_pmap *root, uint64_t hash,
                                     struct mqg_slice key, void *value)
{
    MQG_ASSERT(value != NULL);
    struct pmap_op op = {.edit = edit, .hash = hash, .key = key, .value = value};
    if (root == NULL) {
        struct pmap_node *top = pmap_node_new(&op, pmap_bit(hash, 0), 1);
        top->child[0] = pmap_leaf_new(&op);
        return pmap_root_new(edit, 1, top);
    }
    struct pmap_node *top = pmap_node_set(&op, root->top, 0);
    return pmap_root_put(&op, root, root->count + op.changed, top);
}

struct mqg_pmap *mqg_pmap_del_hashed(const struct mqg_pmap_edit *edit, struct mqg_pmap *root, uint64_t hash,
                                     struct mqg_slice key)
{
    struct pmap_op op = {.edit = edit, .hash = hash, .key = key};
    if (root == NULL)
        return NULL;
    struct pmap_node *top = pmap_node_del(&op, root->top, 0);
    if (top != NULL)
        return pmap_root_put(&op, root, root->count - op.changed, top);
    pmap_discard(edit, root, root->edit);
    return NULL;
}

void *mqg_pmap_get(const struct mqg_pmap *root, struct mqg_slice key)
{
    return root != NULL ? mqg_pmap_get_hashed(root, mqg_hash(key), key) : NULL;
}

struct mqg_pmap *mqg_pmap_set(const struct mqg_pmap_edit *edit, struct mqg_pmap *root, struct mqg_slice key,
                              void *value)
{
    return mqg_pmap_set_hashed(edit, root, mqg_hash(key), key, value);
}

struct mqg_pmap *mqg_pmap_del(const struct mqg_pmap_edit *edit, struct mqg_pmap *root, struct mqg_slice key)
{
    return mqg_pmap_del_hashed(edit, root, mqg_hash(key), key);
}

size_t mqg_pmap_count(const struct mqg_pmap *root)
{
    return root != NULL ? root->count : 0;
}

static void pmap_node_free(struct pmap_node *node, unsigned shift)
{
    size_t n = pmap_node_size(node, shift);
    for (size_t i = 0; i < n; i++) {
        if (pmap_is_leaf(node->child[i]))
            free(pmap_leaf_of(node->child[i]));
        else
            pmap_node_free(node->child[i], shift + PMAP_BITS);
    }
    free(node);
}

void mqg_pmap_free(void *root, void *arg)
{
    (void)arg;
    struct mqg_pmap *map = root;
    if (map == NULL)
        return;
    pmap_node_free(map->top, 0);
    free(map);
}

/* ---- walking ------------------------------------------------------------------------------------------- */

void mqg_pmap_cursor_init(struct mqg_pmap_cursor *c, const struct mqg_pmap *root)
{
    c->depth = 0;
    if (root != NULL) {
        c->nodes[0] = root->top;
        c->at[0] = 0;
        c->depth = 1;
    }
}

bool mqg_pmap_cursor_next(struct mqg_pmap_cursor *c)
{
    while (c->depth > 0) {
        unsigned level = c->depth - 1;
        const struct pmap_node *node = c->nodes[level];
        if (c->at[level] == pmap_node_size(node, level * PMAP_BITS)) {
            c->depth--;
            continue;
        }
        const void *child = node->child[c->at[level]++];
        if (pmap_is_leaf(child)) {
            const struct pmap_leaf *leaf = pmap_leaf_of(child);
            c->key = mqg_slice_of(leaf->key, leaf->len);
            c->value = leaf->value;
            return true;
        }
        c->nodes[c->depth] = child;
        c->at[c->depth++] = 0;
    }
    return false;
}

bool mqg_pmap_each(const struct mqg_pmap *root, bool (*visit)(struct mqg_slice key, void *value, void *arg),
                   void *arg)
{
    struct mqg_pmap_cursor c;
    for (mqg_pmap_cursor_init(&c, root); mqg_pmap_cursor_next(&c);)
        if (!visit(c.key, c.value, arg))
            return false;
    return true;
}
