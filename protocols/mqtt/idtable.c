/* idtable.c - packet identifiers in use, by number. Linear probing with backward shifting: no tombstones, so a table that was
 * full once is quick again. It never shrinks while its connection lives; it is freed when empty at the end. */
#include "mqtt.h"

#include <stdlib.h>

static uint32_t ids_slot(const struct mqtt_ids *t, uint16_t id)
{
    return id & (t->cap - 1);
}

struct mqtt_id *mqtt_ids_get(const struct mqtt_ids *t, uint16_t id)
{
    if (t->cap == 0)
        return NULL;
    for (uint32_t at = ids_slot(t, id); t->slots[at].state != MQTT_ID_FREE; at = (at + 1) & (t->cap - 1))
        if (t->slots[at].id == id)
            return &t->slots[at];
    return NULL;
}

static struct mqtt_id *ids_place(struct mqtt_ids *t, uint16_t id)
{
    uint32_t at = ids_slot(t, id);
    while (t->slots[at].state != MQTT_ID_FREE)
        at = (at + 1) & (t->cap - 1);
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
    uint32_t hole = (uint32_t)(x - t->slots), mask = t->cap - 1;
    for (uint32_t at = (hole + 1) & mask; t->slots[at].state != MQTT_ID_FREE; at = (at + 1) & mask) {
        uint32_t home = ids_slot(t, t->slots[at].id);
        if (((at - home) & mask) < ((at - hole) & mask))
            continue; /* its home lies behind the hole */
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
