/* group_durable.c - waits until what this worker gave several stores is durable: one waiter per store. */
#include "group_table.h"

void kafka_durable_note(struct kafka_durable *d, struct mqg_storage *s, uint64_t ticket)
{
    for (uint32_t i = 0; i < d->n; i++) {
        if (d->ones[i].storage != s)
            continue;
        d->ones[i].ticket = ticket > d->ones[i].ticket ? ticket : d->ones[i].ticket;
        return;
    }
    MQG_ASSERT(d->n < MQG_STORES_MAX);
    d->ones[d->n++] = (struct kafka_durable_one){.all = d, .storage = s, .ticket = ticket};
}

static void durable_fire(struct mqg_waiter *w, enum mqg_err err)
{
    struct kafka_durable *d = MQG_CONTAINER_OF(w, struct kafka_durable_one, waiter)->all;
    d->failed = d->failed || err != MQG_OK;
    if (--d->left == 0)
        d->done(d);
}

bool kafka_durable_wait(struct kafka_durable *d, void (*done)(struct kafka_durable *d))
{
    d->done = done;
    d->left = d->n;
    for (uint32_t i = 0; i < d->n; i++) {
        d->ones[i].waiter = (struct mqg_waiter){.ticket = d->ones[i].ticket, .fire = durable_fire};
        mqg_lane_wait(d->ones[i].storage, &d->ones[i].waiter);
    }
    return d->n == 0;
}

void kafka_durable_list_add(struct kafka_durable_list *l, struct mqg_storage *s, uint64_t ticket)
{
    uint32_t i = 0;
    while (i < l->n && l->stores[i].storage != s)
        i++;
    MQG_ASSERT(i < MQG_STORES_MAX);
    if (i == l->n)
        l->stores[l->n++].storage = s;
    l->stores[i].ticket = ticket;
}
