/* tx.c - tx.select, commit, rollback (part 1, 1.9).
 *
 * A transaction is a list of what the channel published and settled. Commit publishes and settles it all in one turn of the
 * worker, hence in one frame of the journal: after a crash it is there whole or not at all. commit-ok leaves when that frame is
 * durable; until then the connection stands still. */
#include "amqp.h"

#include <stdlib.h>

struct tx_op {
    struct tx_op *next;
    struct mqg_msg *msg; /* NULL: a settle */
    bool mandatory, multiple;
    uint64_t tag;
    enum mqg_settle how;
};

struct amqp_tx {
    struct amqp_channel *channel; /* NULL: it went while a commit was under way */
    struct tx_op *first, **last;
    struct mqg_waiter waiter;
    bool committing;
};

static struct amqp_tx *tx_of(struct amqp_channel *ch)
{
    if (!ch->txs) {
        ch->txs = mqg_xcalloc(1, sizeof(*ch->txs));
        ch->txs->channel = ch;
        ch->txs->last = &ch->txs->first;
    }
    return ch->txs;
}

static struct tx_op *tx_add(struct amqp_channel *ch)
{
    struct amqp_tx *tx = tx_of(ch);
    struct tx_op *op = mqg_xcalloc(1, sizeof(*op));
    *tx->last = op;
    tx->last = &op->next;
    return op;
}

void amqp_tx_publish(struct amqp_channel *ch, struct mqg_msg *m, bool mandatory)
{
    struct tx_op *op = tx_add(ch);
    op->msg = m;
    op->mandatory = mandatory;
}

void amqp_tx_settle(struct amqp_channel *ch, uint64_t tag, bool multiple, enum mqg_settle how)
{
    struct tx_op *op = tx_add(ch);
    op->tag = tag;
    op->multiple = multiple;
    op->how = how;
}

static void tx_clear(struct amqp_tx *tx)
{
    while (tx->first) {
        struct tx_op *op = tx->first;
        tx->first = op->next;
        mqg_msg_unref(&op->msg);
        free(op);
    }
    tx->last = &tx->first;
}

void amqp_tx_free(struct amqp_channel *ch)
{
    struct amqp_tx *tx = ch->txs;
    ch->txs = NULL;
    if (!tx)
        return;
    tx_clear(tx);
    if (tx->committing)
        mqg_lane_unwait(mqg_storage_default(), &tx->waiter);
    free(tx);
}

static void tx_committed(struct mqg_waiter *w, enum mqg_err err)
{
    struct amqp_tx *tx = MQG_CONTAINER_OF(w, struct amqp_tx, waiter);
    tx->committing = false;
    if (err != MQG_OK)
        return;
    AMQP_REPLY(tx->channel, 0, tx_commit_ok, 0);
    amqp_conn_stall(tx->channel->ac, false);
}

static enum mqg_err tx_apply(struct amqp_channel *ch, struct tx_op *op, struct mqg_error *e)
{
    if (!op->msg)
        return amqp_settle_tag(ch, op->tag, op->multiple, op->how, e);
    struct mqg_msg *m = op->msg;
    struct mqg_slice keys[128];
    struct amqp_props props;
    uint32_t nkeys = 0;
    op->msg = NULL;
    if (amqp_props_scan(mqg_msg_origin(m), &props) == MQG_OK)
        nkeys = amqp_extra_keys(props.headers, keys, MQG_COUNTOF(keys));
    return amqp_content_publish(ch, m, op->mandatory, keys, nkeys, e);
}

static enum mqg_err tx_commit(struct amqp_channel *ch, struct mqg_error *e)
{
    struct amqp_tx *tx = tx_of(ch);
    ch->tx = false; /* what is applied is not collected again */
    enum mqg_err err = MQG_OK;
    for (struct tx_op *op = tx->first; op && err == MQG_OK; op = op->next)
        err = tx_apply(ch, op, e);
    ch->tx = true;
    tx_clear(tx);
    if (err != MQG_OK)
        return err;
    amqp_settle_flush(ch->ac);
    tx->committing = true;
    tx->waiter.fire = tx_committed;
    amqp_conn_stall(ch->ac, true);
    mqg_publish_barrier(&tx->waiter);
    return MQG_OK;
}

enum mqg_err amqp_tx_method(struct amqp_channel *ch, uint32_t id, struct mqg_error *e)
{
    if (id == AMQP_TX_SELECT) {
        if (ch->confirm)
            return mqg_error_set(e, MQG_INVALID, AMQP_PRECONDITION_FAILED,
                                 "cannot switch from confirm to tx mode");
        ch->tx = true;
        AMQP_REPLY(ch, 0, tx_select_ok, 0);
        return MQG_OK;
    }
    if (!ch->tx)
        return mqg_error_set(e, MQG_INVALID, AMQP_PRECONDITION_FAILED, "channel is not transactional");
    if (id == AMQP_TX_COMMIT)
        return tx_commit(ch, e);
    tx_clear(tx_of(ch));
    AMQP_REPLY(ch, 0, tx_rollback_ok, 0);
    return MQG_OK;
}
