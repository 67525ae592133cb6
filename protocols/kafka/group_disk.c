/* group_disk.c - waits until what this worker gave several stores is durable: one waiter per store. */
#include "group_table.h"

void group_disk_note(struct group_disk *d, struct mqg_storage *s, uint64_t ticket)
{
    for (uint32_t i = 0; i < d->n; i++) {
        if (d->ones[i].storage != s)
            continue;
        d->ones[i].ticket = ticket > d->ones[i].ticket ? ticket : d->ones[i].ticket;
        return;
    }
    MQG_ASSERT(d->n < MQG_STORES_MAX);
    d->ones[d->n++] = (struct group_disk_one){.all = d, .storage = s, .ticket = ticket};
}

static void disk_fire(struct mqg_waiter *w, enum mqg_err err)
{
    struct group_disk *d = MQG_CONTAINER_OF(w, struct group_disk_one, waiter)->all;
    d->failed = d->failed || err != MQG_OK;
    if (--d->left == 0)
        d->done(d);
}

bool group_disk_wait(struct group_disk *d, void (*done)(struct group_disk *d))
{
    d->done = done;
    d->left = d->n;
    for (uint32_t i = 0; i < d->n; i++) {
        d->ones[i].waiter = (struct mqg_waiter){.ticket = d->ones[i].ticket, .fire = disk_fire};
        mqg_lane_wait(d->ones[i].storage, &d->ones[i].waiter);
    }
    return d->n == 0;
}
