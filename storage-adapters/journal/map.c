/* map.c - the id table. Linear probing with backward-shift deletion, at most 3/4 full. */
#include "map.h"

#include <stdlib.h>

static size_t map_home(const struct jrn_map *m, uint64_t key)
{
    uint64_t h = key * 0x9e3779b97f4a7c15ull;
    return (size_t)(h ^ (h >> 32)) & (m->cap - 1);
}

void jrn_map_fini(struct jrn_map *m)
{
    free(m->slots);
    *m = (struct jrn_map){0};
}

/* The slot of the key, or the empty one where it would stand. */
static struct jrn_map_slot *map_find(const struct jrn_map *m, uint64_t key)
{
    size_t i = map_home(m, key);
    while (m->slots[i].value != JRN_MAP_NONE && m->slots[i].key != key)
        i = (i + 1) & (m->cap - 1);
    return &m->slots[i];
}

uint32_t jrn_map_get(const struct jrn_map *m, uint64_t key)
{
    return m->cap ? map_find(m, key)->value : JRN_MAP_NONE;
}

static void map_grow(struct jrn_map *m)
{
    struct jrn_map old = *m;
    m->cap = old.cap ? old.cap * 2 : 16;
    m->slots = mqg_xmalloc(m->cap * sizeof *m->slots);
    for (size_t i = 0; i < m->cap; i++)
        m->slots[i] = (struct jrn_map_slot){0, JRN_MAP_NONE};
    for (size_t i = 0; i < old.cap; i++)
        if (old.slots[i].value != JRN_MAP_NONE)
            *map_find(m, old.slots[i].key) = old.slots[i];
    free(old.slots);
}

uint32_t *jrn_map_put(struct jrn_map *m, uint64_t key, bool *fresh)
{
    if ((m->used + 1) * 4 > m->cap * 3)
        map_grow(m);
    struct jrn_map_slot *s = map_find(m, key);
    *fresh = s->value == JRN_MAP_NONE;
    if (*fresh) {
        s->key = key;
        m->used++;
    }
    return &s->value;
}

void jrn_map_remove(struct jrn_map *m, uint64_t key)
{
    if (!m->cap)
        return;
    struct jrn_map_slot *s = map_find(m, key);
    if (s->value == JRN_MAP_NONE)
        return;
    size_t hole = (size_t)(s - m->slots), mask = m->cap - 1;
    for (size_t i = (hole + 1) & mask; m->slots[i].value != JRN_MAP_NONE; i = (i + 1) & mask) {
        size_t home = map_home(m, m->slots[i].key);
        if (((i - home) & mask) < ((i - hole) & mask))
            continue;
        m->slots[hole] = m->slots[i];
        hole = i;
    }
    m->slots[hole].value = JRN_MAP_NONE;
    m->used--;
}
