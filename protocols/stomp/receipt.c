/* receipt.c - RECEIPTs: each when what it promises is true, and in the order of the frames.
 *
 * The one for a SEND waits for the publisher's confirm: the message is accepted, and on disk where it had to be. That for a
 * SUBSCRIBE waits for the ticket of what was defined, that for an ACK or a COMMIT for a barrier behind all that this worker has
 * published and settled. A RECEIPT says too that all frames before it were handled ("cumulative", 1.2), so they leave in
 * order: a ring, looked at from its front. Their texts lie one behind the other in one buffer; nothing is allocated for one. */
#include "stomp.h"

#include <stdlib.h>

static struct stomp_receipt *receipt_at(const struct stomp_receipts *r, uint64_t n)
{
    return &r->ring[n & (r->cap - 1)];
}

static void receipts_grow(struct stomp_receipts *r)
{
    uint32_t cap = r->cap > 0 ? r->cap * 2 : 16;
    struct stomp_receipt *ring = mqg_xcalloc(cap, sizeof *ring);
    for (uint64_t n = r->first; n < r->next; n++)
        ring[n & (cap - 1)] = *receipt_at(r, n);
    free(r->ring);
    r->ring = ring;
    r->cap = cap;
}

/* ---- leaving ------------------------------------------------------------------------------------------------------------ */

/* `id` may be longer than one piece of output. */
static void receipt_write(struct stomp_conn *sc, struct mqg_slice id)
{
    static const char head[] = "RECEIPT\nreceipt-id:";
    size_t room = sizeof head - 1 + STOMP_ESCAPED_MAX(id.len) + 3;
    if (room > 60000) { /* as it came, but for its size it could not be told apart from a fault */
        struct mqg_dynbuf out;
        mqg_dynbuf_init(&out, room + 64);
        mqg_dynbuf_put(&out, "RECEIPT\n", 8);
        stomp_put_header(&out, sc->version, MQG_SLICE_LIT("receipt-id"), id);
        mqg_dynbuf_put(&out, "\n", 2);
        mqg_conn_write(sc->conn, mqg_dynbuf_view(&out));
        mqg_dynbuf_fini(&out);
        return;
    }
    uint8_t *start = mqg_conn_reserve(sc->conn, room);
    memcpy(start, head, sizeof head - 1);
    uint8_t *at = stomp_escape(start + sizeof head - 1, id, sc->version, false);
    memcpy(at, "\n\n", 3); /* line, empty line, NUL */
    mqg_conn_commit(sc->conn, (size_t)(at - start) + 3);
}

static void receipts_flush(struct stomp_conn *sc);

static void receipts_fire(struct mqg_waiter *w, enum mqg_err err)
{
    struct stomp_receipts *r = MQG_CONTAINER_OF(w, struct stomp_receipts, waiter);
    struct stomp_conn *sc = MQG_CONTAINER_OF(r, struct stomp_conn, receipts);
    r->waiting = false;
    if (err != MQG_OK) /* the store failed: nothing is answered any more, the process ends */
        return;
    for (uint64_t n = r->first; n < r->barrier_upto; n++)
        if (receipt_at(r, n)->wait != STOMP_WAIT_CONFIRM)
            receipt_at(r, n)->done = true;
    receipts_flush(sc);
}

static void receipts_wait(struct stomp_conn *sc, uint64_t ticket)
{
    struct stomp_receipts *r = &sc->receipts;
    r->waiting = true;
    r->waiter.fire = receipts_fire;
    if (ticket > 0) {
        r->barrier_upto = 0;
        r->waiter.ticket = ticket;
        mqg_lane_wait(mqg_storage_default(), &r->waiter);
    } else {
        r->barrier_upto = r->next;
        stomp_settle_flush(sc);
        mqg_publish_barrier(&r->waiter);
    }
}

/* May the first one leave? If not, whatever it needs is waited for. */
static bool receipt_is_due(struct stomp_conn *sc, const struct stomp_receipt *one)
{
    if (one->wait == STOMP_WAIT_CONFIRM && one->seq > sc->confirmed)
        return false; /* the confirm comes by itself */
    bool ticket = one->ticket > 0 && mqg_lane_done(mqg_storage_default()) < one->ticket;
    if (!ticket && (one->done || one->wait == STOMP_WAIT_CONFIRM))
        return true;
    if (!sc->receipts.waiting)
        receipts_wait(sc, ticket ? one->ticket : 0);
    return false;
}

static void receipts_compact(struct stomp_receipts *r)
{
    if (r->first == r->next) {
        if (r->text.cap > 65536) {
            size_t max = r->text.max;
            mqg_dynbuf_fini(&r->text);
            mqg_dynbuf_init(&r->text, max);
        }
        mqg_dynbuf_reset(&r->text);
        r->text_at = 0;
    } else if (r->text_at > 65536 && r->text_at > r->text.len / 2) {
        memmove(r->text.ptr, r->text.ptr + r->text_at, r->text.len - r->text_at);
        r->text.len -= r->text_at;
        r->text_at = 0;
    }
}

static void receipts_flush(struct stomp_conn *sc)
{
    struct stomp_receipts *r = &sc->receipts;
    while (r->first < r->next && sc->phase != STOMP_CLOSED) {
        struct stomp_receipt one = *receipt_at(r, r->first);
        struct mqg_slice id = mqg_slice_of(r->text.ptr + r->text_at, one.len);
        if (!receipt_is_due(sc, &one))
            break;
        if (one.rejected) {
            sc->receipt = id;
            stomp_fail(sc, "Rejected", "the message was not taken: a queue is full");
            sc->receipt = MQG_SLICE_NONE;
            break;
        }
        if (one.wait != STOMP_WAIT_BYE || one.len > 0)
            receipt_write(sc, id);
        r->text_at += one.len;
        r->first++;
        if (one.wait == STOMP_WAIT_BYE)
            stomp_end(sc);
    }
    receipts_compact(r);
    if (r->paused && !r->bye && r->next - r->first < STOMP_RECEIPTS_PAUSE / 2) {
        r->paused = false;
        mqg_conn_pause(sc->conn, MQG_PAUSE_HANDLER, false);
    }
}

/* ---- asking ------------------------------------------------------------------------------------------------------------- */

static void receipt_add(struct stomp_conn *sc, struct mqg_slice id, const struct stomp_receipt *one)
{
    struct stomp_receipts *r = &sc->receipts;
    if (sc->phase == STOMP_CLOSED)
        return;
    if (r->next - r->first == r->cap)
        receipts_grow(r);
    if (!mqg_dynbuf_put(&r->text, id.ptr, id.len)) {
        stomp_fail(sc, "Too many receipts", "the receipts that wait are larger than %zu bytes", r->text.max);
        return;
    }
    *receipt_at(r, r->next) = *one;
    receipt_at(r, r->next)->len = (uint32_t)id.len;
    r->next++;
    if (r->next - r->first >= STOMP_RECEIPTS_PAUSE && !r->paused) {
        r->paused = true;
        mqg_conn_pause(sc->conn, MQG_PAUSE_HANDLER, true);
    }
    if (r->next - r->first == 1)
        receipts_flush(sc);
}

void stomp_receipt(struct stomp_conn *sc, struct mqg_slice id, uint64_t seq, uint64_t ticket)
{
    if (id.ptr != NULL)
        receipt_add(sc, id,
                    &(struct stomp_receipt){.wait = STOMP_WAIT_CONFIRM, .seq = seq, .ticket = ticket});
}

void stomp_receipt_barrier(struct stomp_conn *sc, struct mqg_slice id)
{
    if (id.ptr != NULL)
        receipt_add(sc, id, &(struct stomp_receipt){.wait = STOMP_WAIT_BARRIER});
}

void stomp_receipt_bye(struct stomp_conn *sc, struct mqg_slice id)
{
    struct stomp_receipts *r = &sc->receipts;
    if (id.ptr == NULL && r->first == r->next) {
        stomp_end(sc);
        return;
    }
    r->bye = true;
    receipt_add(sc, id.ptr != NULL ? id : mqg_slice_of("", 0),
                &(struct stomp_receipt){.wait = STOMP_WAIT_BYE});
    if (sc->phase != STOMP_CLOSED && !r->paused) {
        r->paused = true;
        mqg_conn_pause(sc->conn, MQG_PAUSE_HANDLER, true);
    }
}

void stomp_receipts_confirmed(struct stomp_conn *sc, const uint64_t *rejected, size_t n)
{
    struct stomp_receipts *r = &sc->receipts;
    for (uint64_t k = r->first; k < r->next && n > 0; k++) {
        struct stomp_receipt *one = receipt_at(r, k);
        for (size_t i = 0; i < n; i++)
            one->rejected |= one->seq > 0 && one->seq == rejected[i];
    }
    receipts_flush(sc);
}

void stomp_receipts_fini(struct stomp_conn *sc)
{
    struct stomp_receipts *r = &sc->receipts;
    if (r->waiting)
        mqg_lane_unwait(mqg_storage_default(), &r->waiter);
    r->waiting = false;
    free(r->ring);
    r->ring = NULL;
    r->first = r->next = r->cap = 0;
    mqg_dynbuf_fini(&r->text);
}
