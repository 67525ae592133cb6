/* subs.c - a session's subscriptions: an array of pointers, and beyond a few of them an index by hash.
 *
 * Most sessions have one or two, some a hundred thousand; a million in ten thousand sessions must not take much. So a subscription is
 * one allocation that holds its name, the array is what matching walks, and the index has four bytes a slot: the place in the array
 * plus one. The last of the array moves into a hole. */
#include "subs.h"

#include <stdlib.h>

static _Atomic uint64_t subs_total; /* of all tables */

enum { SUBS_CAP_MIN = 2, SUBS_LINEAR_MAX = 8, SUBS_INDEX_MIN = 32 };

static uint32_t subs_slot_of(const struct mqtt_subs *t, uint32_t hash, uint32_t place)
{
    uint32_t i = hash & (t->index_cap - 1);
    while (t->index[i] != place + 1)
        i = (i + 1) & (t->index_cap - 1);
    return i;
}

static void subs_index_put(struct mqtt_subs *t, uint32_t place)
{
    uint32_t i = t->list[place]->hash & (t->index_cap - 1);
    while (t->index[i] != 0)
        i = (i + 1) & (t->index_cap - 1);
    t->index[i] = place + 1;
}

static void subs_index_build(struct mqtt_subs *t, uint32_t cap)
{
    free(t->index);
    t->index = mqg_xcalloc(cap, sizeof(*t->index));
    t->index_cap = cap;
    for (uint32_t i = 0; i < t->n; i++)
        subs_index_put(t, i);
}

/* The hole is filled with what stands behind it and may move there. */
static void subs_index_del(struct mqtt_subs *t, uint32_t place)
{
    uint32_t mask = t->index_cap - 1, i = subs_slot_of(t, t->list[place]->hash, place);
    for (uint32_t j = (i + 1) & mask; t->index[j] != 0; j = (j + 1) & mask) {
        uint32_t home = t->list[t->index[j] - 1]->hash & mask;
        if (((j - home) & mask) < ((j - i) & mask))
            continue;
        t->index[i] = t->index[j];
        i = j;
    }
    t->index[i] = 0;
}

static bool sub_is(const struct mqtt_sub *sub, uint32_t hash, struct mqg_slice name)
{
    return sub->hash == hash && mqg_slice_eq(mqtt_sub_name(sub), name);
}

struct mqtt_sub *mqtt_subs_get(const struct mqtt_subs *t, struct mqg_slice name)
{
    uint32_t hash = (uint32_t)mqg_hash(name);
    for (uint32_t i = 0; !t->index && i < t->n; i++)
        if (sub_is(t->list[i], hash, name))
            return t->list[i];
    for (uint32_t i = hash; t->index && t->index[i & (t->index_cap - 1)] != 0; i++) {
        struct mqtt_sub *sub = t->list[t->index[i & (t->index_cap - 1)] - 1];
        if (sub_is(sub, hash, name))
            return sub;
    }
    return NULL;
}

struct mqtt_sub *mqtt_subs_add(struct mqtt_subs *t, struct mqg_slice name)
{
    MQG_ASSERT(name.len <= UINT16_MAX);
    struct mqtt_sub *sub = mqg_xcalloc(1, offsetof(struct mqtt_sub, name) + name.len);
    sub->hash = (uint32_t)mqg_hash(name);
    sub->name_len = (uint16_t)name.len;
    if (name.len > 0)
        memcpy(sub->name, name.ptr, name.len);
    if (t->n == t->cap) {
        t->cap = t->cap ? t->cap + t->cap / 2 + 1 : SUBS_CAP_MIN;
        t->list = mqg_xrealloc(t->list, t->cap * sizeof(struct mqtt_sub *));
    }
    t->list[t->n++] = sub;
    atomic_fetch_add_explicit(&subs_total, 1, memory_order_relaxed);
    if (t->n > SUBS_LINEAR_MAX && t->n > t->index_cap / 4 * 3)
        subs_index_build(t, t->index_cap ? t->index_cap * 2 : SUBS_INDEX_MIN);
    else if (t->index)
        subs_index_put(t, t->n - 1);
    return sub;
}

static uint32_t subs_place(const struct mqtt_subs *t, const struct mqtt_sub *sub)
{
    uint32_t i = 0;
    if (t->index) {
        uint32_t slot = sub->hash & (t->index_cap - 1);
        while (t->list[t->index[slot] - 1] != sub)
            slot = (slot + 1) & (t->index_cap - 1);
        return t->index[slot] - 1;
    }
    while (t->list[i] != sub)
        i++;
    return i;
}

void mqtt_subs_del(struct mqtt_subs *t, struct mqtt_sub *sub)
{
    uint32_t place = subs_place(t, sub), last = t->n - 1;
    if (t->index) {
        subs_index_del(t, place);
        if (place != last)
            t->index[subs_slot_of(t, t->list[last]->hash, last)] = place + 1;
    }
    t->list[place] = t->list[last];
    t->n = last;
    atomic_fetch_sub_explicit(&subs_total, 1, memory_order_relaxed);
    free(sub);
    if (t->n == 0)
        mqtt_subs_fini(t);
}

void mqtt_subs_fini(struct mqtt_subs *t)
{
    atomic_fetch_sub_explicit(&subs_total, t->n, memory_order_relaxed);
    for (uint32_t i = 0; i < t->n; i++)
        free(t->list[i]);
    free(t->list);
    free(t->index);
    *t = (struct mqtt_subs){.list = NULL};
}

uint64_t mqtt_subs_total(void)
{
    return atomic_load_explicit(&subs_total, memory_order_relaxed);
}
