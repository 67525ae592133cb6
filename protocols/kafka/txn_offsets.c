/* txn_offsets.c - TxnOffsetCommit: positions that become a group's when the transaction is committed.
 *
 * They stand in the transaction's record until then, so a restart between this answer and EndTxn loses nothing; the group
 * keeps them beside its own (group_offsets.h), so that OffsetFetch can say that a position is about to change (KIP-447). */
#include "txn_api.h"

enum { COMMIT_JOINS_FROM = 5 };

struct rows {
    struct kafka_offset_row *at;
    size_t n;
};

static int16_t row_of(struct kafka_call *c, struct mqg_slice topic,
                      const struct kafka_txn_offset_commit_request_topics_partitions *p, struct rows *rows)
{
    enum kafka_error code = KAFKA_NONE;
    struct mqg_partition *partition = kafka_partition(c->conn, topic, p->partition_index, MQG_READ, &code);
    if (partition == NULL)
        return (int16_t)code;
    if (p->committed_metadata.len > GROUP_POSITION_METADATA_MAX)
        return KAFKA_OFFSET_METADATA_TOO_LARGE;
    if (p->committed_offset < 0)
        return KAFKA_OFFSET_OUT_OF_RANGE;
    rows->at[rows->n++] = (struct kafka_offset_row){
        .topic = topic,
        .index = p->partition_index,
        .partition_id = mqg_partition_id(partition),
        .offset = p->committed_offset,
        .leader_epoch = p->committed_leader_epoch,
        .commit_ms = mqg_clock_now().wall_us / 1000,
        .metadata = p->committed_metadata,
    };
    return KAFKA_NONE;
}

/* An answer for every partition; error: the same for all that had none of their own. */
static bool answer_build(struct kafka_call *c, struct rows *rows)
{
    const struct kafka_txn_offset_commit_request *r = c->request;
    struct kafka_txn_offset_commit_response *out = c->response;
    int32_t n = r->topics_n > 0 ? r->topics_n : 0;
    size_t all = 0;
    for (int32_t i = 0; i < n; i++)
        all += r->topics[i].partitions_n > 0 ? (size_t)r->topics[i].partitions_n : 0;
    out->topics = kafka_call_alloc(c, (size_t)n + 1, sizeof(*out->topics));
    rows->at = kafka_call_alloc(c, all + 1, sizeof(*rows->at));
    if (out->topics == NULL || rows->at == NULL)
        return false;
    out->topics_n = n;
    for (int32_t i = 0; i < n; i++) {
        int32_t m = r->topics[i].partitions_n > 0 ? r->topics[i].partitions_n : 0;
        out->topics[i].name = r->topics[i].name;
        out->topics[i].partitions = kafka_call_alloc(c, (size_t)m + 1, sizeof(*out->topics[i].partitions));
        if (out->topics[i].partitions == NULL)
            return false;
        out->topics[i].partitions_n = m;
        for (int32_t k = 0; k < m; k++) {
            out->topics[i].partitions[k].partition_index = r->topics[i].partitions[k].partition_index;
            out->topics[i].partitions[k].error_code = row_of(c, r->topics[i].name,
                                                             &r->topics[i].partitions[k], rows);
        }
    }
    return true;
}

static void answer_error(struct kafka_call *c, enum kafka_error error)
{
    struct kafka_txn_offset_commit_response *out = c->response;
    for (int32_t i = 0; i < out->topics_n; i++)
        for (int32_t k = 0; k < out->topics[i].partitions_n; k++)
            out->topics[i].partitions[k].error_code = kafka_txn_code(c, error);
}

static enum kafka_error commit_check(struct kafka_call *c, const struct kafka_txn_offset_commit_request *r)
{
    if (!kafka_txn_id_allowed(c, r->transactional_id))
        return KAFKA_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
    if (!kafka_allowed(c->conn, MQG_READ, "group", r->group_id))
        return KAFKA_GROUP_AUTHORIZATION_FAILED;
    int16_t error = kafka_offsets_check(kafka_vhost(c->conn), r->group_id, r->generation_id, r->member_id,
                                        r->group_instance_id);
    /* Producers do not know the word of KIP-848's groups, and would give up. */
    return error == KAFKA_STALE_MEMBER_EPOCH ? KAFKA_ILLEGAL_GENERATION : (enum kafka_error)error;
}

/* From version 5 on the group joins by itself (KIP-890). */
static struct kafka_txn_group *commit_group(const struct kafka_call *c, struct kafka_txn *t,
                                            struct mqg_slice name, const struct rows *rows)
{
    if (c->head.version >= COMMIT_JOINS_FROM && rows->n > 0)
        return kafka_txn_add_group(t, name, mqg_clock_now().wall_us / 1000);
    return kafka_txn_group(t, name);
}

/* The transaction, when it was written, or when the call waits for it. Under the lock. */
static struct kafka_txn *commit_step(struct kafka_call *c, const struct kafka_txn_offset_commit_request *r,
                                     const struct rows *rows, enum kafka_error *error)
{
    struct kafka_txn *t = kafka_txns_find(kafka_vhost(c->conn), r->transactional_id);
    *error = t != NULL ? kafka_txn_check(t, r->producer_id, r->producer_epoch)
                       : KAFKA_INVALID_PRODUCER_ID_MAPPING;
    if (*error == KAFKA_CONCURRENT_TRANSACTIONS && kafka_txns_park(t, c, kafka_txn_commit_offsets))
        return t;
    struct kafka_txn_group *g = *error == KAFKA_NONE ? commit_group(c, t, r->group_id, rows) : NULL;
    if (*error == KAFKA_NONE && (g == NULL || t->state != KAFKA_TXN_ONGOING))
        *error = KAFKA_INVALID_TXN_STATE;
    if (*error != KAFKA_NONE || rows->n == 0)
        return NULL;
    for (size_t i = 0; i < rows->n; i++)
        kafka_txn_add_row(g, &rows->at[i]);
    kafka_offsets_hold(kafka_vhost(c->conn), r->group_id, r->producer_id, rows->at, rows->n);
    kafka_txns_write(t);
    kafka_txns_wait(&t, 1, c, kafka_call_answer);
    return t;
}

void kafka_txn_commit_offsets(struct kafka_call *c)
{
    const struct kafka_txn_offset_commit_request *r = c->request;
    struct rows rows = {NULL, 0};
    if (!answer_build(c, &rows)) {
        kafka_call_drop(c, "a request that is too large to be answered");
        return;
    }
    enum kafka_error error = commit_check(c, r);
    struct kafka_txn *t = NULL;
    if (error == KAFKA_NONE) {
        kafka_txns_lock();
        t = commit_step(c, r, &rows, &error);
        kafka_txns_unlock();
    }
    if (t != NULL)
        return;
    if (error != KAFKA_NONE)
        answer_error(c, error);
    kafka_call_answer(c);
}
