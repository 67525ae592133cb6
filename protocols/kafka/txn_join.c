/* txn_join.c - AddPartitionsToTxn: partitions join a transaction. Up to version 3 one transaction per request, as clients send it;
 * from version 4 several, as brokers do, and "verify only", which asks and changes nothing (KIP-890).
 *
 * Either all partitions of a transaction join or none: where one cannot, the others say OPERATION_NOT_ATTEMPTED. Both shapes of
 * the request are brought into one here, and the answer is written from it. */
#include "producer_part.h"
#include "txn_api.h"

enum { BATCHED_FROM = 4 };

struct join_topic {
    struct mqg_slice name;
    const int32_t *indexes;
    int32_t n;
    struct mqg_partition **partitions; /* n; borrowed for the turn */
    int16_t *codes;                    /* n */
};

struct join {
    struct mqg_slice id;
    int64_t producer_id;
    int16_t epoch;
    bool verify;
    struct join_topic *topics;
    int32_t n;
};

/* ---- the request -------------------------------------------------------------------------------------------------------- */

static bool join_topic_init(struct kafka_call *c, struct join_topic *t, struct mqg_slice name,
                            const int32_t *indexes, int32_t n)
{
    size_t room = n > 0 ? (size_t)n : 1;
    *t = (struct join_topic){name, indexes, n, kafka_call_alloc(c, room, sizeof(*t->partitions)),
                             kafka_call_alloc(c, room, sizeof(*t->codes))};
    return t->partitions != NULL && t->codes != NULL;
}

static bool join_topics(struct kafka_call *c, struct join *j, int32_t n)
{
    j->n = n > 0 ? n : 0;
    j->topics = kafka_call_alloc(c, (size_t)j->n + 1, sizeof(*j->topics));
    return j->topics != NULL;
}

static bool join_one(struct kafka_call *c, const struct kafka_add_partitions_to_txn_request *r,
                     struct join *j)
{
    *j = (struct join){.id = r->v3_and_below_transactional_id,
                       .producer_id = r->v3_and_below_producer_id,
                       .epoch = r->v3_and_below_producer_epoch};
    bool ok = join_topics(c, j, r->v3_and_below_topics_n);
    for (int32_t i = 0; ok && i < j->n; i++)
        ok = join_topic_init(c, &j->topics[i], r->v3_and_below_topics[i].name,
                             r->v3_and_below_topics[i].partitions, r->v3_and_below_topics[i].partitions_n);
    return ok;
}

static bool join_batched(struct kafka_call *c,
                         const struct kafka_add_partitions_to_txn_request_transactions *r, struct join *j)
{
    *j = (struct join){.id = r->transactional_id,
                       .producer_id = r->producer_id,
                       .epoch = r->producer_epoch,
                       .verify = r->verify_only};
    bool ok = join_topics(c, j, r->topics_n);
    for (int32_t i = 0; ok && i < j->n; i++)
        ok = join_topic_init(c, &j->topics[i], r->topics[i].name, r->topics[i].partitions,
                             r->topics[i].partitions_n);
    return ok;
}

/* ---- one transaction ------------------------------------------------------------------------------------------------------ */

static void join_codes(struct join *j, int16_t code)
{
    for (int32_t i = 0; i < j->n; i++)
        for (int32_t k = 0; k < j->topics[i].n; k++)
            j->topics[i].codes[k] = code;
}

static int16_t join_look(struct kafka_call *c, struct join_topic *t, int32_t k)
{
    enum kafka_error code = KAFKA_NONE;
    t->partitions[k] = kafka_partition(c->conn, t->name, t->indexes[k], MQG_WRITE, &code);
    if (t->partitions[k] != NULL && !kafka_part_can(t->partitions[k]))
        code = KAFKA_INVALID_TXN_STATE;
    return (int16_t)code;
}

/* Finds all partitions; false: one cannot be had. */
static bool join_look_all(struct kafka_call *c, struct join *j)
{
    bool ok = true;
    for (int32_t i = 0; i < j->n; i++)
        for (int32_t k = 0; k < j->topics[i].n; k++) {
            j->topics[i].codes[k] = join_look(c, &j->topics[i], k);
            ok = ok && j->topics[i].codes[k] == KAFKA_NONE;
        }
    for (int32_t i = 0; !ok && i < j->n; i++)
        for (int32_t k = 0; k < j->topics[i].n; k++)
            if (j->topics[i].codes[k] == KAFKA_NONE)
                j->topics[i].codes[k] = KAFKA_OPERATION_NOT_ATTEMPTED;
    return ok;
}

static bool join_partition(struct kafka_txn *t, struct mqg_partition *p, uint64_t now_ms,
                           enum kafka_error *error)
{
    uint64_t first, id = mqg_partition_id(p);
    if (t->state == KAFKA_TXN_ONGOING && kafka_txn_has_part(t, id))
        return false;
    if (!kafka_part_begin(p, t->producer_id, t->epoch, &first)) {
        *error = KAFKA_PRODUCER_FENCED;
        return false;
    }
    kafka_txn_add_part(t, id, first, now_ms);
    return true;
}

/* True: something joined, and is to be written. Under the lock. */
static bool join_all(struct join *j, struct kafka_txn *t, enum kafka_error *error)
{
    uint64_t now_ms = mqg_clock_now().wall_us / 1000;
    bool joined = false;
    for (int32_t i = 0; i < j->n; i++)
        for (int32_t k = 0; k < j->topics[i].n; k++)
            joined = join_partition(t, j->topics[i].partitions[k], now_ms, error) || joined;
    return joined;
}

static void join_verify(struct join *j, const struct kafka_txn *t)
{
    for (int32_t i = 0; i < j->n; i++)
        for (int32_t k = 0; k < j->topics[i].n; k++)
            if (t->state != KAFKA_TXN_ONGOING ||
                !kafka_txn_has_part(t, mqg_partition_id(j->topics[i].partitions[k])))
                j->topics[i].codes[k] = KAFKA_TRANSACTION_ABORTABLE;
}

/* The transaction, when it was written. Under the lock. */
static struct kafka_txn *join_step(struct kafka_call *c, struct join *j)
{
    struct kafka_txn *t = kafka_txns_find(kafka_vhost(c->conn), j->id);
    enum kafka_error error = t != NULL ? kafka_txn_check(t, j->producer_id, j->epoch)
                                       : KAFKA_INVALID_PRODUCER_ID_MAPPING;
    bool joined = false;
    if (error == KAFKA_NONE && j->verify)
        join_verify(j, t);
    else if (error == KAFKA_NONE)
        joined = join_all(j, t, &error);
    if (error != KAFKA_NONE)
        join_codes(j, kafka_txn_code(c, error));
    if (joined)
        kafka_txns_write(t);
    return joined ? t : NULL;
}

/* ---- the answer ------------------------------------------------------------------------------------------------------------ */

static bool answer_one(struct kafka_call *c, const struct join *j)
{
    struct kafka_add_partitions_to_txn_response *out = c->response;
    out->results_by_topic_v3_and_below = kafka_call_alloc(c, (size_t)j->n + 1,
                                                          sizeof(*out->results_by_topic_v3_and_below));
    if (out->results_by_topic_v3_and_below == NULL)
        return false;
    out->results_by_topic_v3_and_below_n = j->n;
    for (int32_t i = 0; i < j->n; i++) {
        const struct join_topic *from = &j->topics[i];
        struct kafka_add_partitions_to_txn_response_results_by_topic_v3_and_below *to =
            &out->results_by_topic_v3_and_below[i];
        to->name = from->name;
        to->results_by_partition_n = from->n > 0 ? from->n : 0;
        to->results_by_partition = kafka_call_alloc(c, (size_t)to->results_by_partition_n + 1,
                                                    sizeof(*to->results_by_partition));
        if (to->results_by_partition == NULL)
            return false;
        for (int32_t k = 0; k < from->n; k++) {
            to->results_by_partition[k].partition_index = from->indexes[k];
            to->results_by_partition[k].partition_error_code = from->codes[k];
        }
    }
    return true;
}

static bool answer_batched(struct kafka_call *c, const struct join *j,
                           struct kafka_add_partitions_to_txn_response_results_by_transaction *out)
{
    out->transactional_id = j->id;
    out->topic_results = kafka_call_alloc(c, (size_t)j->n + 1, sizeof(*out->topic_results));
    if (out->topic_results == NULL)
        return false;
    out->topic_results_n = j->n;
    for (int32_t i = 0; i < j->n; i++) {
        const struct join_topic *from = &j->topics[i];
        struct kafka_add_partitions_to_txn_response_results_by_transaction_topic_results *to =
            &out->topic_results[i];
        to->name = from->name;
        to->results_by_partition_n = from->n > 0 ? from->n : 0;
        to->results_by_partition = kafka_call_alloc(c, (size_t)to->results_by_partition_n + 1,
                                                    sizeof(*to->results_by_partition));
        if (to->results_by_partition == NULL)
            return false;
        for (int32_t k = 0; k < from->n; k++) {
            to->results_by_partition[k].partition_index = from->indexes[k];
            to->results_by_partition[k].partition_error_code = from->codes[k];
        }
    }
    return true;
}

static bool answer_build(struct kafka_call *c, const struct join *joins, int32_t n)
{
    struct kafka_add_partitions_to_txn_response *out = c->response;
    if (c->head.version < BATCHED_FROM)
        return answer_one(c, &joins[0]);
    out->results_by_transaction = kafka_call_alloc(c, (size_t)n + 1, sizeof(*out->results_by_transaction));
    out->results_by_transaction_n = out->results_by_transaction != NULL ? n : 0;
    bool ok = out->results_by_transaction != NULL;
    for (int32_t i = 0; ok && i < n; i++)
        ok = answer_batched(c, &joins[i], &out->results_by_transaction[i]);
    return ok;
}

/* ---- the handler ------------------------------------------------------------------------------------------------------------ */

static struct join *joins_of(struct kafka_call *c, int32_t *n)
{
    const struct kafka_add_partitions_to_txn_request *r = c->request;
    bool batched = c->head.version >= BATCHED_FROM;
    *n = !batched ? 1 : r->transactions_n > 0 ? r->transactions_n : 0;
    struct join *joins = kafka_call_alloc(c, (size_t)*n + 1, sizeof(*joins));
    bool ok = joins != NULL;
    for (int32_t i = 0; ok && i < *n; i++)
        ok = batched ? join_batched(c, &r->transactions[i], &joins[i]) : join_one(c, r, &joins[i]);
    return ok ? joins : NULL;
}

/* A client's request comes again when its transaction is not busy. Under the lock. */
static bool join_parked(struct kafka_call *c, const struct join *j)
{
    struct kafka_txn *t = c->head.version < BATCHED_FROM ? kafka_txns_find(kafka_vhost(c->conn), j->id)
                                                         : NULL;
    return t != NULL && kafka_txn_check(t, j->producer_id, j->epoch) == KAFKA_CONCURRENT_TRANSACTIONS &&
           kafka_txns_park(t, c, kafka_add_partitions);
}

/* Under the lock; answers how many transactions were written. */
static size_t join_each(struct kafka_call *c, struct join *joins, int32_t n, struct kafka_txn **txns)
{
    size_t written = 0;
    for (int32_t i = 0; i < n; i++) {
        struct kafka_txn *t = NULL;
        if (!kafka_txn_id_allowed(c, joins[i].id))
            join_codes(&joins[i], KAFKA_TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
        else if (join_look_all(c, &joins[i]))
            t = join_step(c, &joins[i]);
        if (t != NULL)
            txns[written++] = t;
    }
    return written;
}

void kafka_add_partitions(struct kafka_call *c)
{
    int32_t n;
    struct join *joins = joins_of(c, &n);
    struct kafka_txn **txns = joins != NULL ? kafka_call_alloc(c, (size_t)n + 1, sizeof(struct kafka_txn *))
                                            : NULL;
    if (txns == NULL) {
        kafka_call_drop(c, "a request that is too large to be answered");
        return;
    }
    kafka_txns_lock();
    if (n > 0 && join_parked(c, &joins[0])) {
        kafka_txns_unlock();
        return;
    }
    size_t written = join_each(c, joins, n, txns);
    bool ok = answer_build(c, joins, n);
    if (written > 0)
        kafka_txns_wait(txns, written, ok ? c : NULL, kafka_call_answer);
    kafka_txns_unlock();
    if (!ok)
        kafka_call_drop(c, "an answer that is too large");
    else if (written == 0)
        kafka_call_answer(c);
}
