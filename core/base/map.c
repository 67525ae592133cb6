/* map.c - open addressing with linear probing, deletion by shifting back.
 *
 * One array, no node per entry: a lookup is one or two cache lines. A deleted slot is filled with the next
 * entry of its run that may stand there, so no tombstones gather in a map whose keys come and go for months.
 * The map grows at three quarters and does not shrink: its users are tables that fill up again.
 *
 * A walk goes downward around the ring, from an empty slot. Shifting back moves only entries that stand later
 * in a run, which the walk has already passed; and no run reaches across an empty slot. So the entry at hand
 * can be deleted without that another is missed or seen twice. */
#include <mqgate/map.h>

#include <stdlib.h>

enum { MAP_CAP_MIN = 8 };

struct mqg_map_slot {
    uint64_t hash;
    const uint8_t *key;
    size_t len;
    void *value; /* NULL: the slot is empty */
};

void mqg_map_init(struct mqg_map *m, enum mqg_map_keys keys)
{
    *m = (struct mqg_map){.keys = keys};
}

static void map_key_free(const struct mqg_map *m, const struct mqg_map_slot *slot)
{
    if (m->keys == MQG_MAP_COPY)
        free((void *)(uintptr_t)slot->key);
}

void mqg_map_fini(struct mqg_map *m)
{
    for (size_t i = 0; i < m->cap; i++)
        if (m->slots[i].value != NULL)
            map_key_free(m, &m->slots[i]);
    free(m->slots);
    mqg_map_init(m, m->keys);
}

/* The slot of the key, or the empty one where it would stand. The map has an empty slot. */
static size_t map_find(const struct mqg_map *m, uint64_t hash, struct mqg_slice key)
{
    size_t i = hash & (m->cap - 1);
    for (; m->slots[i].value != NULL; i = (i + 1) & (m->cap - 1)) {
        const struct mqg_map_slot *slot = &m->slots[i];
        if (slot->hash == hash && mqg_slice_eq(mqg_slice_of(slot->key, slot->len), key))
            break;
    }
    return i;
}

static void map_resize(struct mqg_map *m, size_t cap)
{
    struct mqg_map_slot *old = m->slots;
    size_t old_cap = m->cap;
    m->slots = mqg_xcalloc(cap, sizeof *m->slots);
    m->cap = cap;
    for (size_t i = 0; i < old_cap; i++)
        if (old[i].value != NULL)
            m->slots[map_find(m, old[i].hash, mqg_slice_of(old[i].key, old[i].len))] = old[i];
    free(old);
}

void mqg_map_reserve(struct mqg_map *m, size_t n)
{
    MQG_ASSERT(n < SIZE_MAX / sizeof *m->slots / 4);
    size_t cap = m->cap > 0 ? m->cap : MAP_CAP_MIN;
    while (cap - cap / 4 < n)
        cap *= 2;
    if (cap > m->cap)
        map_resize(m, cap);
}

void *mqg_map_get(const struct mqg_map *m, struct mqg_slice key)
{
    return m->count > 0 ? m->slots[map_find(m, mqg_hash(key), key)].value : NULL;
}

static const uint8_t *map_key_keep(const struct mqg_map *m, struct mqg_slice key)
{
    return m->keys == MQG_MAP_COPY ? (const uint8_t *)mqg_slice_dup(key) : key.ptr;
}

void *mqg_map_set(struct mqg_map *m, struct mqg_slice key, void *value)
{
    MQG_ASSERT(value != NULL);
    mqg_map_reserve(m, m->count + 1);
    uint64_t hash = mqg_hash(key);
    struct mqg_map_slot *slot = &m->slots[map_find(m, hash, key)];
    void *old = slot->value;
    if (old == NULL) {
        *slot = (struct mqg_map_slot){hash, map_key_keep(m, key), key.len, NULL};
        m->count++;
    } else if (m->keys == MQG_MAP_BORROW) {
        slot->key = key.ptr; /* the old bytes may go with the old value */
    }
    slot->value = value;
    return old;
}

/* Fills the hole at i with the entries behind it that may move there. */
static void map_shift_back(struct mqg_map *m, size_t i)
{
    size_t mask = m->cap - 1;
    for (size_t j = (i + 1) & mask; m->slots[j].value != NULL; j = (j + 1) & mask) {
        size_t home = m->slots[j].hash & mask;
        if (((j - home) & mask) < ((j - i) & mask))
            continue; /* its home lies behind the hole */
        m->slots[i] = m->slots[j];
        i = j;
    }
    m->slots[i].value = NULL;
}

void *mqg_map_del(struct mqg_map *m, struct mqg_slice key)
{
    if (m->count == 0)
        return NULL;
    size_t i = map_find(m, mqg_hash(key), key);
    void *old = m->slots[i].value;
    if (old == NULL)
        return NULL;
    map_key_free(m, &m->slots[i]);
    map_shift_back(m, i);
    m->count--;
    return old;
}

/* An empty slot to walk from: there always is one. */
static void map_iter_start(const struct mqg_map *m, struct mqg_map_iter *it)
{
    it->started = true;
    if (m->cap == 0)
        return;
    while (m->slots[it->at].value != NULL)
        it->at++;
    it->left = m->cap - 1; /* all others */
}

bool mqg_map_next(const struct mqg_map *m, struct mqg_map_iter *it)
{
    if (!it->started)
        map_iter_start(m, it);
    while (it->left > 0) {
        it->left--;
        it->at = (it->at - 1) & (m->cap - 1);
        const struct mqg_map_slot *slot = &m->slots[it->at];
        if (slot->value == NULL)
            continue;
        it->key = mqg_slice_of(slot->key, slot->len);
        it->value = slot->value;
        return true;
    }
    return false;
}
