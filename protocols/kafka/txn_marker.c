/* txn_marker.c - WriteTxnMarkers: an operator ends a transaction that hangs in a partition (kafka-transactions.sh abort).
 *
 * Transactions of ours do not hang: the coordinator is here. So where the producer's transaction is open, a rollback is done by the
 * coordinator, in all partitions; otherwise the marker is written as asked. Needs the right to configure the cluster. */
#include "producer_part.h"
#include "txn_api.h"

struct owner {
    int64_t producer_id;
    struct kafka_txn *txn;
};

static void owner_visit(void *arg, struct kafka_txn *t)
{
    struct owner *o = arg;
    if (t->producer_id == o->producer_id && t->state != KAFKA_TXN_EMPTY)
        o->txn = t;
}

typedef const struct kafka_write_txn_markers_request_markers *marker_in;

static int16_t marker_write(struct kafka_call *c, marker_in in, struct mqg_slice topic, int32_t index)
{
    enum kafka_error code = KAFKA_NONE;
    struct kafka_marker m = {.producer_id = in->producer_id,
                             .epoch = in->producer_epoch,
                             .coordinator_epoch = in->coordinator_epoch,
                             .commit = in->transaction_result};
    struct mqg_partition *p = kafka_partition(c->conn, topic, index, MQG_WRITE, &code);
    if (p == NULL)
        return (int16_t)code;
    if (!kafka_part_can(p))
        return KAFKA_INVALID_TXN_STATE;
    return (int16_t)kafka_error_of(kafka_part_end(p, &m));
}

/* Something to be waited for? */
static bool marker_is_written(const struct kafka_write_txn_markers_response_markers *m)
{
    for (int32_t i = 0; i < m->topics_n; i++)
        for (int32_t k = 0; k < m->topics[i].partitions_n; k++)
            if (m->topics[i].partitions[k].error_code == KAFKA_NONE)
                return true;
    return false;
}

/* What the coordinator says to it: NONE with *mine: it has ended the transaction. */
static enum kafka_error marker_owner(marker_in in, struct kafka_txn **mine)
{
    struct owner o = {in->producer_id, NULL};
    *mine = NULL;
    kafka_txns_each(owner_visit, &o);
    if (o.txn == NULL)
        return KAFKA_NONE;
    if (o.txn->epoch > in->producer_epoch)
        return KAFKA_INVALID_PRODUCER_EPOCH;
    if (o.txn->busy)
        return KAFKA_CONCURRENT_TRANSACTIONS;
    if (o.txn->state != KAFKA_TXN_ONGOING)
        return KAFKA_NONE;
    if (in->transaction_result)
        return KAFKA_INVALID_TXN_STATE;
    kafka_txn_fence(o.txn, false);
    kafka_txns_end(o.txn, false);
    *mine = o.txn;
    return KAFKA_NONE;
}

static bool marker_answer(struct kafka_call *c, marker_in in, enum kafka_error error, bool ended,
                          struct kafka_write_txn_markers_response_markers *out)
{
    int32_t n = in->topics_n > 0 ? in->topics_n : 0;
    out->producer_id = in->producer_id;
    out->topics = kafka_call_alloc(c, (size_t)n + 1, sizeof(*out->topics));
    if (out->topics == NULL)
        return false;
    out->topics_n = n;
    for (int32_t i = 0; i < n; i++) {
        int32_t m = in->topics[i].partition_indexes_n > 0 ? in->topics[i].partition_indexes_n : 0;
        out->topics[i].name = in->topics[i].name;
        out->topics[i].partitions = kafka_call_alloc(c, (size_t)m + 1, sizeof(*out->topics[i].partitions));
        if (out->topics[i].partitions == NULL)
            return false;
        out->topics[i].partitions_n = m;
        for (int32_t k = 0; k < m; k++) {
            int32_t index = in->topics[i].partition_indexes[k];
            out->topics[i].partitions[k].partition_index = index;
            out->topics[i].partitions[k].error_code = error != KAFKA_NONE || ended
                                                          ? (int16_t)error
                                                          : marker_write(c, in, in->topics[i].name, index);
        }
    }
    return true;
}

void kafka_write_markers(struct kafka_call *c)
{
    const struct kafka_write_txn_markers_request *r = c->request;
    struct kafka_write_txn_markers_response *out = c->response;
    int32_t n = r->markers_n > 0 ? r->markers_n : 0;
    bool allowed = kafka_allowed(c->conn, MQG_CONFIGURE, "cluster", MQG_SLICE_LIT("kafka-cluster"));
    struct kafka_txn **ended = kafka_call_alloc(c, (size_t)n + 1, sizeof(struct kafka_txn *));
    size_t nended = 0;
    bool written = false;
    out->markers = kafka_call_alloc(c, (size_t)n + 1, sizeof(*out->markers));
    bool ok = out->markers != NULL && ended != NULL;
    kafka_txns_lock();
    for (int32_t i = 0; ok && i < n; i++) {
        struct kafka_txn *mine = NULL;
        enum kafka_error error = allowed ? marker_owner(&r->markers[i], &mine)
                                         : KAFKA_CLUSTER_AUTHORIZATION_FAILED;
        if (mine != NULL)
            ended[nended++] = mine;
        ok = marker_answer(c, &r->markers[i], error, mine != NULL, &out->markers[i]);
        out->markers_n = i + 1;
        written = written || mine != NULL || marker_is_written(&out->markers[i]);
    }
    if (written && (ok || nended > 0)) /* a wait for nothing would last till something is written */
        kafka_txns_wait(ended, nended, ok ? c : NULL, kafka_call_answer);
    kafka_txns_unlock();
    if (!ok)
        kafka_call_drop(c, "an answer that is too large");
    else if (!written)
        kafka_call_answer(c);
}
