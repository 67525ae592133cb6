/* settle.c - ACK and NACK, and what a connection has got and not settled yet.
 *
 * Deliveries of a connection are numbered, so the unsettled ones lie in a ring by number; the number stands at the end of
 * message-id and ack. Which header names the message depends on the version: message-id in 1.0 and 1.1, id in 1.2. With
 * ack:client an ACK settles all of its subscription up to that one. ACKs that come in one read are collected per queue and
 * handed on together: one lock of the queue for up to 256 of them. */
#include "stomp.h"

#include <stdlib.h>

#define UNACKED_FIRST 16u

static struct stomp_unacked *unacked_at(const struct stomp_conn *sc, uint64_t tag)
{
    return &sc->unacked[tag & (sc->unacked_cap - 1)];
}

static void unacked_grow(struct stomp_conn *sc)
{
    uint32_t cap = sc->unacked_cap > 0 ? sc->unacked_cap * 2 : UNACKED_FIRST;
    struct stomp_unacked *ring = mqg_xcalloc(cap, sizeof *ring);
    for (uint64_t tag = sc->tag_first; tag < sc->tag_next; tag++)
        ring[tag & (cap - 1)] = *unacked_at(sc, tag);
    free(sc->unacked);
    sc->unacked = ring;
    sc->unacked_cap = cap;
}

uint64_t stomp_unacked_add(struct stomp_conn *sc, struct stomp_sub *sub, uint64_t handle)
{
    if (sub == NULL && sc->tag_first == sc->tag_next) { /* nothing before it waits */
        sc->tag_first++;
        return sc->tag_next++;
    }
    if (sc->tag_next - sc->tag_first == sc->unacked_cap)
        unacked_grow(sc);
    *unacked_at(sc, sc->tag_next) = (struct stomp_unacked){.sub = sub, .handle = handle};
    if (sub != NULL) {
        sub->unacked++;
        if (sc->unacked_n++ == 0)
            mqg_conn_has_unsettled(sc->conn, true);
    }
    return sc->tag_next++;
}

/* ---- handing on --------------------------------------------------------------------------------------------------------- */

void stomp_settle_flush(struct stomp_conn *sc)
{
    struct stomp_settle *s = sc->settle;
    if (s == NULL || s->n == 0)
        return;
    uint32_t n = s->n;
    s->n = 0;
    mqg_settle(s->queue, s->sub, s->handles, n, s->how);
    mqg_queue_unref(&s->queue);
}

static void settle_entry(struct stomp_conn *sc, struct stomp_unacked *u, enum mqg_settle how)
{
    struct stomp_settle *s = sc->settle;
    struct stomp_sub *sub = u->sub;
    if (s == NULL)
        s = sc->settle = mqg_xcalloc(1, sizeof *s);
    if (s->n > 0 && (s->n == STOMP_SETTLE_BATCH || s->sub != sub->sub || s->how != how))
        stomp_settle_flush(sc);
    if (s->n == 0) {
        s->queue = mqg_queue_ref(sub->queue);
        s->sub = sub->sub;
        s->how = how;
    }
    s->handles[s->n++] = u->handle;
    *u = (struct stomp_unacked){.sub = NULL};
    sub->unacked--;
    sc->unacked_n--;
}

static void unacked_advance(struct stomp_conn *sc)
{
    while (sc->tag_first < sc->tag_next && unacked_at(sc, sc->tag_first)->sub == NULL)
        sc->tag_first++;
    if (sc->unacked_n == 0)
        mqg_conn_has_unsettled(sc->conn, false);
}

static struct stomp_unacked *unacked_find(const struct stomp_conn *sc, uint64_t tag)
{
    if (tag < sc->tag_first || tag >= sc->tag_next)
        return NULL;
    struct stomp_unacked *u = unacked_at(sc, tag);
    return u->sub != NULL ? u : NULL;
}

void stomp_settle_tag(struct stomp_conn *sc, uint64_t tag, enum mqg_settle how)
{
    struct stomp_unacked *u = unacked_find(sc, tag);
    if (u == NULL)
        return;
    struct stomp_sub *sub = u->sub;
    uint64_t first = sub->mode == STOMP_ACK_CLIENT ? sc->tag_first : tag;
    for (uint64_t t = first; t <= tag; t++) {
        u = unacked_at(sc, t);
        if (u->sub == sub && (t == tag || !u->in_tx))
            settle_entry(sc, u, how);
    }
    unacked_advance(sc);
}

void stomp_settle_mark(struct stomp_conn *sc, uint64_t tag, bool in_tx)
{
    struct stomp_unacked *u = unacked_find(sc, tag);
    if (u != NULL)
        u->in_tx = in_tx;
}

/* From the last to the first, so that each goes back before what was behind it; and not to this subscription once more, which
 * would let others have what is behind it. */
void stomp_settle_return(struct stomp_conn *sc, struct stomp_sub *sub)
{
    if (sub->unacked == 0)
        return;
    stomp_settle_flush(sc);
    mqg_sub_pause(sub->sub, true);
    for (uint64_t t = sc->tag_next; t-- > sc->tag_first;) {
        struct stomp_unacked *u = unacked_at(sc, t);
        if (u->sub == sub)
            settle_entry(sc, u, MQG_SETTLE_RETURN);
    }
    stomp_settle_flush(sc);
    unacked_advance(sc);
}

/* ---- ACK, NACK ---------------------------------------------------------------------------------------------------------- */

/* The number behind the last "@@"; what stands before it must be what we wrote. A number alone is taken, too. */
static bool ack_number(const struct stomp_conn *sc, struct mqg_slice id, uint64_t *tag)
{
    size_t at = id.len;
    while (at > 0 && id.ptr[at - 1] >= '0' && id.ptr[at - 1] <= '9')
        at--;
    if (!stomp_number(mqg_slice_of(id.ptr + at, id.len - at), UINT64_MAX, tag))
        return false;
    const struct stomp_unacked *u = unacked_find(sc, *tag);
    if (u == NULL || at == 0)
        return u != NULL;
    struct mqg_slice key = u->sub->id, name = mqg_slice_str(sc->session_name);
    return at == key.len + name.len + 4 && memcmp(id.ptr, key.ptr, key.len) == 0 &&
           memcmp(id.ptr + key.len, "@@", 2) == 0 && memcmp(id.ptr + key.len + 2, name.ptr, name.len) == 0;
}

void stomp_ack(struct stomp_conn *sc, const struct stomp_head *h, bool nack)
{
    enum stomp_header_id which = sc->version == STOMP_12 ? STOMP_H_ID : STOMP_H_MESSAGE_ID;
    const char *command = nack ? "NACK" : "ACK", *header = stomp_header_name(which);
    struct mqg_slice id, tx;
    uint64_t tag;
    if (!stomp_value(sc, h, which, &id) || !stomp_value(sc, h, STOMP_H_TRANSACTION, &tx))
        return;
    if (id.ptr == NULL) {
        stomp_fail(sc, "Missing header", "%s must include a '%s' header", command, header);
        return;
    }
    if (!ack_number(sc, id, &tag)) {
        stomp_fail(sc, "Invalid header",
                   "%s must include a valid '%s' header; '%.*s' is no message that waits for one", command,
                   header, MQG_SLICE_FMT(id));
        return;
    }
    if (unacked_at(sc, tag)->in_tx) {
        stomp_fail(sc, "Invalid header", "the message '%.*s' is in a transaction already", MQG_SLICE_FMT(id));
        return;
    }
    enum mqg_settle how = !nack                                  ? MQG_SETTLE_ACK
                          : stomp_flag(h, STOMP_H_REQUEUE, true) ? MQG_SETTLE_REQUEUE
                                                                 : MQG_SETTLE_REJECT;
    if (tx.ptr != NULL) {
        if (stomp_tx_settle(sc, tx, tag, how))
            stomp_receipt(sc, sc->receipt, 0, 0);
        return;
    }
    stomp_settle_tag(sc, tag, how);
    stomp_receipt_barrier(sc, sc->receipt);
}
