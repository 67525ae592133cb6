/* tx.c - BEGIN, COMMIT, ABORT.
 *
 * A transaction is a list of what was sent and settled under its name. COMMIT publishes and settles it all in one turn of the
 * worker, hence in one frame of the journal: after a crash it is there whole or not at all. Queues that have to be made are
 * made before, and exchanges and permissions are looked at, so that nothing is done when one thing cannot be. An open
 * transaction of a connection that ends is aborted (1.2, "BEGIN"). */
#include "stomp.h"

#include <stdlib.h>

struct tx_op {
    struct tx_op *next;
    struct mqg_msg *msg; /* NULL: a settle */
    bool to_queue;
    uint64_t tag;
    enum mqg_settle how;
};

struct stomp_tx {
    struct stomp_tx *next;
    struct tx_op *first, **last;
    size_t name_len;
    uint8_t name[];
};

static struct stomp_tx **tx_find(struct stomp_conn *sc, struct mqg_slice name)
{
    for (struct stomp_tx **at = &sc->txs; *at != NULL; at = &(*at)->next)
        if (mqg_slice_eq(mqg_slice_of((*at)->name, (*at)->name_len), name))
            return at;
    return NULL;
}

/* Takes it out of the list and frees it; what it would have settled waits again. */
static void tx_free(struct stomp_conn *sc, struct stomp_tx **at)
{
    struct stomp_tx *tx = *at;
    *at = tx->next;
    sc->ntxs--;
    while (tx->first != NULL) {
        struct tx_op *op = tx->first;
        tx->first = op->next;
        if (op->msg == NULL)
            stomp_settle_mark(sc, op->tag, false);
        mqg_msg_unref(&op->msg);
        free(op);
    }
    free(tx);
}

void stomp_txs_free(struct stomp_conn *sc)
{
    while (sc->txs != NULL)
        tx_free(sc, &sc->txs);
}

/* The transaction that the frame names; NULL: failed. */
static struct stomp_tx **tx_named(struct stomp_conn *sc, struct mqg_slice name)
{
    struct stomp_tx **at = tx_find(sc, name);
    if (at == NULL)
        stomp_fail(sc, "Bad transaction", "Invalid transaction identifier: '%.*s'", MQG_SLICE_FMT(name));
    return at;
}

static bool tx_name(struct stomp_conn *sc, const struct stomp_head *h, struct mqg_slice *name)
{
    if (!stomp_value(sc, h, STOMP_H_TRANSACTION, name))
        return false;
    if (name->ptr != NULL)
        return true;
    stomp_fail(sc, "Missing transaction", "%.*s must include a 'transaction' header",
               MQG_SLICE_FMT(h->command_text));
    return false;
}

static struct tx_op *tx_add(struct stomp_tx *tx)
{
    struct tx_op *op = mqg_xcalloc(1, sizeof *op);
    *tx->last = op;
    tx->last = &op->next;
    return op;
}

bool stomp_tx_send(struct stomp_conn *sc, struct mqg_slice name, struct mqg_msg *m, bool to_queue)
{
    struct stomp_tx **at = tx_named(sc, name);
    if (at == NULL) {
        mqg_msg_unref(&m);
        return false;
    }
    struct tx_op *op = tx_add(*at);
    op->msg = m;
    op->to_queue = to_queue;
    return true;
}

bool stomp_tx_settle(struct stomp_conn *sc, struct mqg_slice name, uint64_t tag, enum mqg_settle how)
{
    struct stomp_tx **at = tx_named(sc, name);
    if (at == NULL)
        return false;
    struct tx_op *op = tx_add(*at);
    op->tag = tag;
    op->how = how;
    stomp_settle_mark(sc, tag, true);
    return true;
}

/* ---- frames ------------------------------------------------------------------------------------------------------------- */

void stomp_begin(struct stomp_conn *sc, const struct stomp_head *h)
{
    struct mqg_slice name;
    if (!tx_name(sc, h, &name))
        return;
    if (tx_find(sc, name) != NULL) {
        stomp_fail(sc, "Bad transaction", "the transaction '%.*s' has begun already", MQG_SLICE_FMT(name));
        return;
    }
    if (sc->ntxs >= STOMP_TX_MAX) {
        stomp_fail(sc, "Bad transaction", "a connection may have %u open transactions", STOMP_TX_MAX);
        return;
    }
    struct stomp_tx *tx = mqg_xcalloc(1, sizeof *tx + name.len);
    tx->last = &tx->first;
    tx->name_len = name.len;
    memcpy(tx->name, name.ptr, name.len);
    tx->next = sc->txs;
    sc->txs = tx;
    sc->ntxs++;
    stomp_receipt(sc, sc->receipt, 0, 0);
}

/* All that could refuse, before anything is done. */
static bool tx_prepare(struct stomp_conn *sc, const struct stomp_tx *tx)
{
    struct mqg_error e;
    uint64_t ticket;
    for (const struct tx_op *op = tx->first; op != NULL; op = op->next) {
        if (op->msg == NULL)
            continue;
        e.code = 0;
        if (mqg_publish_check(&sc->pub, mqg_msg_exchange(op->msg), &e) != MQG_OK) {
            stomp_fail_router(sc, &e);
            return false;
        }
        if (op->to_queue && !stomp_queue_make(sc, mqg_msg_key(op->msg), &ticket))
            return false;
    }
    return true;
}

static void tx_apply(struct stomp_conn *sc, struct stomp_tx *tx)
{
    for (struct tx_op *op = tx->first; op != NULL && sc->phase == STOMP_RUNNING; op = op->next) {
        uint64_t seq, ticket;
        struct mqg_msg *m = op->msg;
        op->msg = NULL;
        if (m == NULL)
            stomp_settle_tag(sc, op->tag, op->how);
        else
            (void)stomp_publish(sc, m, op->to_queue, false, &seq, &ticket);
    }
    stomp_settle_flush(sc);
}

void stomp_commit(struct stomp_conn *sc, const struct stomp_head *h)
{
    struct mqg_slice name;
    struct stomp_tx **at = tx_name(sc, h, &name) ? tx_named(sc, name) : NULL;
    if (at == NULL)
        return;
    if (tx_prepare(sc, *at)) {
        tx_apply(sc, *at);
        stomp_receipt_barrier(sc, sc->receipt);
    }
    tx_free(sc, tx_find(sc, name));
}

void stomp_abort(struct stomp_conn *sc, const struct stomp_head *h)
{
    struct mqg_slice name;
    struct stomp_tx **at = tx_name(sc, h, &name) ? tx_named(sc, name) : NULL;
    if (at == NULL)
        return;
    tx_free(sc, at);
    stomp_receipt(sc, sc->receipt, 0, 0);
}
