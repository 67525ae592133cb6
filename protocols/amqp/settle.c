/* settle.c - what a channel has delivered and its client has not settled yet.
 *
 * Delivery tags count up, so the unsettled ones lie in a ring by tag; acknowledging out of order leaves holes, and the front
 * moves over holes. Acknowledgements that come in one read are collected per queue and consumer and handed on together: one
 * lock of the queue for up to 256 of them. */
#include "amqp.h"

#include <mqgate/stream.h>

#include <stdlib.h>

#define UNACKED_FIRST 16u

static struct amqp_unacked *unacked_at(const struct amqp_channel *ch, uint64_t tag)
{
    return &ch->unacked[tag & (ch->unacked_cap - 1)];
}

static void unacked_grow(struct amqp_channel *ch)
{
    uint32_t cap = ch->unacked_cap ? ch->unacked_cap * 2 : UNACKED_FIRST;
    struct amqp_unacked *ring = mqg_xcalloc(cap, sizeof(*ring));
    for (uint64_t tag = ch->tag_first; tag < ch->tag_next; tag++)
        ring[tag & (cap - 1)] = *unacked_at(ch, tag);
    free(ch->unacked);
    ch->unacked = ring;
    ch->unacked_cap = cap;
}

uint64_t amqp_unacked_add(struct amqp_channel *ch, struct mqg_queue *q, struct amqp_consumer *co,
                          uint64_t handle)
{
    if (ch->tag_next - ch->tag_first == ch->unacked_cap)
        unacked_grow(ch);
    uint64_t tag = ch->tag_next++;
    *unacked_at(ch, tag) = (struct amqp_unacked){co ? q : mqg_queue_ref(q), co, handle, co != NULL};
    if (ch->unacked_n++ == 0)
        mqg_conn_has_unsettled(ch->ac->conn, true);
    return tag;
}

uint64_t amqp_unacked_skip(struct amqp_channel *ch)
{
    if (ch->tag_first == ch->tag_next) {
        ch->tag_first++;
        return ch->tag_next++;
    }
    if (ch->tag_next - ch->tag_first == ch->unacked_cap)
        unacked_grow(ch);
    *unacked_at(ch, ch->tag_next) = (struct amqp_unacked){0};
    return ch->tag_next++;
}

/* ---- handing on -------------------------------------------------------------------------------------------------- */

void amqp_settle_flush(struct amqp_conn *ac)
{
    struct amqp_settle *s = ac->settle;
    if (!s || s->n == 0)
        return;
    uint32_t n = s->n;
    s->n = 0;
    mqg_settle(s->queue, s->sub, s->handles, n, s->how);
    mqg_queue_unref(&s->queue);
}

static void settle_collect(struct amqp_conn *ac, struct mqg_queue *q, struct mqg_sub *sub, uint64_t handle,
                           enum mqg_settle how)
{
    struct amqp_settle *s = ac->settle;
    if (!s)
        s = ac->settle = mqg_xcalloc(1, sizeof(*s));
    if (s->n > 0 && (s->n == AMQP_SETTLE_BATCH || s->queue != q || s->sub != sub || s->how != how))
        amqp_settle_flush(ac);
    if (s->n == 0) {
        s->queue = mqg_queue_ref(q);
        s->sub = sub;
        s->how = how;
    }
    s->handles[s->n++] = handle;
}

/* The shared credit of global prefetch comes back with each settle. */
static void credit_back(struct amqp_channel *ch, const struct amqp_unacked *u)
{
    if (ch->credit.limit == 0 || !u->counts)
        return;
    atomic_fetch_add_explicit(&ch->credit.left, 1, memory_order_acq_rel);
}

static void settle_entry(struct amqp_channel *ch, struct amqp_unacked *u, enum mqg_settle how)
{
    credit_back(ch, u);
    settle_collect(ch->ac, u->queue, u->consumer ? u->consumer->sub : NULL, u->handle, how);
    if (!u->consumer)
        mqg_queue_unref(&u->queue);
    *u = (struct amqp_unacked){0};
    ch->unacked_n--;
}

static void unacked_advance(struct amqp_channel *ch)
{
    while (ch->tag_first < ch->tag_next && !unacked_at(ch, ch->tag_first)->queue)
        ch->tag_first++;
    if (ch->unacked_n > 0)
        return;
    for (uint32_t i = 0; i < ch->ac->channels_cap; i++)
        if (ch->ac->channels[i] && ch->ac->channels[i]->unacked_n > 0)
            return;
    mqg_conn_has_unsettled(ch->ac->conn, false);
}

/* ---- by tag ---------------------------------------------------------------------------------------------------------- */

static enum mqg_err settle_unknown(uint64_t tag, struct mqg_error *e)
{
    return mqg_error_set(e, MQG_INVALID, AMQP_PRECONDITION_FAILED, "unknown delivery tag %llu",
                         (unsigned long long)tag);
}

static void settle_kick(struct amqp_channel *ch)
{
    if (ch->credit.limit == 0)
        return;
    amqp_settle_flush(ch->ac);
    amqp_consumers_kick(ch);
}

/* A stream gives its records to all: none can be sent back or thrown away by one of them. */
static enum mqg_err settle_streams(struct amqp_channel *ch, uint64_t first, uint64_t last,
                                   struct mqg_error *e)
{
    for (uint64_t t = first; t < last; t++) {
        const struct mqg_queue *q = unacked_at(ch, t)->queue;
        if (q && mqg_queue_stream(q))
            return mqg_error_set(
                e, MQG_UNSUPPORTED, AMQP_NOT_IMPLEMENTED,
                "basic.nack and basic.reject not supported by stream queues queue '%.*s' in vhost '%.*s'",
                MQG_SLICE_FMT(mqg_queue_name(q)), MQG_SLICE_FMT(mqg_vhost_name(ch->ac->session->vhost)));
    }
    return MQG_OK;
}

enum mqg_err amqp_settle_tag(struct amqp_channel *ch, uint64_t tag, bool multiple, enum mqg_settle how,
                             struct mqg_error *e)
{
    bool all = multiple && tag == 0;
    if (!all && (tag < ch->tag_first || tag >= ch->tag_next || (!multiple && !unacked_at(ch, tag)->queue)))
        return settle_unknown(tag, e);
    if (multiple && !all && ch->unacked_n == 0)
        return settle_unknown(tag, e);
    uint64_t first = multiple ? ch->tag_first : tag;
    uint64_t last = all ? ch->tag_next : tag + 1;
    enum mqg_err err = how == MQG_SETTLE_ACK ? MQG_OK : settle_streams(ch, first, last, e);
    if (err != MQG_OK)
        return err;
    if (ch->tx) {
        amqp_tx_settle(ch, tag, multiple, how);
        return MQG_OK;
    }
    for (uint64_t t = first; t < last; t++) {
        struct amqp_unacked *u = unacked_at(ch, t);
        if (u->queue)
            settle_entry(ch, u, how);
    }
    unacked_advance(ch);
    settle_kick(ch);
    return MQG_OK;
}

void amqp_settle_all(struct amqp_channel *ch, enum mqg_settle how)
{
    /* From the last to the first, so that each goes back before what was behind it. */
    for (uint64_t t = ch->tag_next; t-- > ch->tag_first;) {
        struct amqp_unacked *u = unacked_at(ch, t);
        if (u->queue)
            settle_entry(ch, u, how);
    }
    unacked_advance(ch);
}

void amqp_unacked_forget(struct amqp_channel *ch, struct amqp_consumer *co)
{
    for (uint64_t t = ch->tag_first; t < ch->tag_next; t++) {
        struct amqp_unacked *u = unacked_at(ch, t);
        if (u->consumer == co) {
            u->consumer = NULL;
            u->queue = mqg_queue_ref(u->queue);
        }
    }
}
