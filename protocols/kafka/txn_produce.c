/* txn_produce.c - partitions that join a transaction because a batch for them comes (KIP-890): Produce from version 12 on, whose
 * clients ask for nothing before.
 *
 * The record of the transaction goes into the worker's lane before the batch does, so both are one group of the store, or the record is
 * the earlier one: no batch of a transaction is on the disk of which the coordinator does not know. More batches may come
 * while the record is on its way; as they come by the same worker, their records follow in order. Another worker's have to
 * wait, and their client tries again. */
#include "kafka_int.h"
#include "producer_part.h"
#include "txn_api.h"

/* Busy is in the way only when another worker brings the change, or when the transaction is being ended. */
static enum kafka_error produce_check(const struct kafka_txn *t, int64_t producer_id, int16_t epoch)
{
    if (t == NULL)
        return KAFKA_INVALID_PRODUCER_ID_MAPPING;
    enum kafka_error error = kafka_txn_check(t, producer_id, epoch);
    bool ending = t->state == KAFKA_TXN_PREPARE_COMMIT || t->state == KAFKA_TXN_PREPARE_ABORT;
    if (error == KAFKA_CONCURRENT_TRANSACTIONS && !ending && t->writer == mqg_worker_self())
        error = KAFKA_NONE;
    return error == KAFKA_PRODUCER_FENCED ? KAFKA_INVALID_PRODUCER_EPOCH : error;
}

/* True: it joined just now. Who cannot take part is told so when its batch is refused again. */
static bool produce_join(struct kafka_txn *t, struct mqg_partition *p, uint64_t now_ms)
{
    uint64_t first, id = mqg_partition_id(p);
    if (!kafka_part_can(p) || (t->state == KAFKA_TXN_ONGOING && kafka_txn_has_part(t, id)) ||
        !kafka_part_begin(p, t->producer_id, t->epoch, &first))
        return false;
    kafka_txn_add_part(t, id, first, now_ms);
    return true;
}

static bool produce_join_topic(struct kafka_call *c, struct kafka_txn *t,
                               const struct kafka_produce_request_topic_data *topic)
{
    uint64_t now_ms = mqg_clock_now().wall_us / 1000;
    bool joined = false;
    for (int32_t i = 0; i < topic->partition_data_n; i++) {
        enum kafka_error code;
        struct mqg_partition *p = kafka_produce_partition(c, topic, topic->partition_data[i].index, &code);
        joined = (p != NULL && produce_join(t, p, now_ms)) || joined;
    }
    return joined;
}

enum kafka_error kafka_txn_join_produce(struct kafka_call *c, int64_t producer_id, int16_t epoch)
{
    const struct kafka_produce_request *r = c->request;
    if (!kafka_txn_id_allowed(c, r->transactional_id))
        return KAFKA_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
    kafka_txns_lock();
    struct kafka_txn *t = kafka_txns_find(kafka_vhost(c->conn), r->transactional_id);
    enum kafka_error error = produce_check(t, producer_id, epoch);
    bool joined = false;
    for (int32_t i = 0; error == KAFKA_NONE && i < r->topic_data_n; i++)
        joined = produce_join_topic(c, t, &r->topic_data[i]) || joined;
    if (joined) {
        kafka_txns_write(t);
        kafka_txns_wait(&t, 1, NULL, NULL);
    }
    kafka_txns_unlock();
    return error;
}
