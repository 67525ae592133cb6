/* idtable.c - packet identifiers in use, by number.
 *
 * Linear probing, the entries of a run in the order of their homes (Robin Hood), without tombstones. Identifiers are mostly
 * consecutive, so nearly all stand at home, in one long run: what is not there is known at the first entry that is nearer to its
 * home, and a hole is closed at the first entry that is at home. A plain run would have to be walked to its end each time. The table never
 * shrinks while its connection lives. */
#include "mqtt.h"

#include <stdlib.h>

/* How far the entry at that slot is from its home. */
static uint32_t ids_away(const struct mqtt_ids *t, uint32_t at)
{
    return (at - t->slots[at].id) & (t->cap - 1);
}

struct mqtt_id *mqtt_ids_get(const struct mqtt_ids *t, uint16_t id)
{
    if (t->cap == 0)
        return NULL;
    uint32_t at = id & (t->cap - 1);
    for (uint32_t away = 0; t->slots[at].state != MQTT_ID_FREE && ids_away(t, at) >= away; away++) {
        if (t->slots[at].id == id)
            return &t->slots[at];
        at = (at + 1) & (t->cap - 1);
    }
    return NULL;
}

/* Room for the identifier, in its place in the run; what is nearer to its home moves on. */
static struct mqtt_id *ids_place(struct mqtt_ids *t, uint16_t id)
{
    uint32_t mask = t->cap - 1, at = id & mask;
    for (uint32_t away = 0; t->slots[at].state != MQTT_ID_FREE && ids_away(t, at) >= away; away++)
        at = (at + 1) & mask;
    struct mqtt_id moved = t->slots[at];
    for (uint32_t to = (at + 1) & mask; moved.state != MQTT_ID_FREE; to = (to + 1) & mask) {
        struct mqtt_id next = t->slots[to];
        t->slots[to] = moved;
        moved = next;
    }
    return &t->slots[at];
}

static void ids_grow(struct mqtt_ids *t)
{
    struct mqtt_ids old = *t;
    t->cap = old.cap ? old.cap * 2 : 8;
    t->slots = mqg_xcalloc(t->cap, sizeof(*t->slots));
    for (uint32_t i = 0; i < old.cap; i++)
        if (old.slots[i].state != MQTT_ID_FREE)
            *ids_place(t, old.slots[i].id) = old.slots[i];
    free(old.slots);
}

struct mqtt_id *mqtt_ids_add(struct mqtt_ids *t, uint16_t id)
{
    MQG_ASSERT(mqtt_ids_get(t, id) == NULL);
    if ((t->n + 1) * 2 > t->cap)
        ids_grow(t);
    t->n++;
    struct mqtt_id *x = ids_place(t, id);
    *x = (struct mqtt_id){.id = id};
    return x;
}

void mqtt_ids_drop(struct mqtt_ids *t, uint16_t id)
{
    struct mqtt_id *x = mqtt_ids_get(t, id);
    if (!x)
        return;
    uint32_t hole = (uint32_t)(x - t->slots), mask = t->cap - 1, at = (hole + 1) & mask;
    for (; t->slots[at].state != MQTT_ID_FREE && ids_away(t, at) > 0; at = (at + 1) & mask) {
        t->slots[hole] = t->slots[at];
        hole = at;
    }
    t->slots[hole].state = MQTT_ID_FREE;
    t->n--;
}

struct mqtt_id *mqtt_ids_next(const struct mqtt_ids *t, uint32_t *at)
{
    while (*at < t->cap) {
        struct mqtt_id *x = &t->slots[(*at)++];
        if (x->state != MQTT_ID_FREE)
            return x;
    }
    return NULL;
}

void mqtt_ids_fini(struct mqtt_ids *t)
{
    free(t->slots);
    *t = (struct mqtt_ids){0};
}
