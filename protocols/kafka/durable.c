/* durable.c - an answer that leaves when what it tells is durable. A request may have touched several stores (records deleted in
 * topics of different ones); they are waited for one after the other. */
#include "admin.h"

#include <stdarg.h>
#include <stdio.h>

struct durable_wait {
    struct mqg_waiter waiter;
    struct kafka_call *call;
    struct kafka_durable left;
    struct mqg_storage *storage; /* the one waited for */
};

void kafka_durable_note(struct kafka_durable *d, const struct mqg_storage *s, uint64_t ticket)
{
    if (ticket > d->ticket[s->index])
        d->ticket[s->index] = ticket;
}

void kafka_durable_meta(struct kafka_durable *d, uint64_t ticket)
{
    kafka_durable_note(d, mqg_storage_default(), ticket);
}

static void durable_next(struct durable_wait *w);

static void durable_fire(struct mqg_waiter *waiter, enum mqg_err err)
{
    struct durable_wait *w = MQG_CONTAINER_OF(waiter, struct durable_wait, waiter);
    if (err != MQG_OK)
        kafka_call_drop(w->call, "the store failed");
    else
        durable_next(w);
}

static void durable_gone(struct kafka_call *c)
{
    struct durable_wait *w = c->owner;
    mqg_lane_unwait(w->storage, &w->waiter);
}

static void durable_next(struct durable_wait *w)
{
    for (uint32_t i = 0; i < MQG_STORES_MAX; i++) {
        struct mqg_storage *s = w->left.ticket[i] > 0 ? mqg_storage_at(i) : NULL;
        if (s == NULL || mqg_lane_done(s) >= w->left.ticket[i])
            continue;
        w->waiter = (struct mqg_waiter){.ticket = w->left.ticket[i], .fire = durable_fire};
        w->left.ticket[i] = 0;
        w->storage = s;
        mqg_lane_wait(s, &w->waiter);
        return;
    }
    w->call->gone = NULL;
    kafka_call_answer(w->call);
}

void kafka_durable_answer(struct kafka_call *c, const struct kafka_durable *d)
{
    struct durable_wait *w = kafka_call_alloc(c, 1, sizeof *w);
    if (w == NULL) {
        kafka_call_drop(c, "no room");
        return;
    }
    w->call = c;
    w->left = *d;
    c->owner = w;
    c->gone = durable_gone;
    durable_next(w);
}

struct mqg_slice kafka_text(struct kafka_call *c, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    while (len > 0 && !mqg_utf8_valid(mqg_slice_of((const uint8_t *)text, len)))
        len--; /* a character that was cut */
    return kafka_call_dup(c, mqg_slice_of((const uint8_t *)text, len));
}
