/* produce.c - Produce: batches into partitions, and an answer when they are safe.
 *
 * A batch goes to the store as it came: it is checked where it lies, its offset is given, and the store's lane copies it once.
 * What the answer then waits for is produce_wait.c's.
 *
 * acks: 0 has no answer, and a fault of such a request ends the connection, which is all that its client can notice; 1 and -1
 * mean the same here, since one durable copy is all there is. */
#include "batch_check.h"
#include "kafka_int.h"
#include "legacy.h"
#include "produce_wait.h"
#include "producer_part.h"
#include "quota.h"
#include "topic_conf.h"
#include "txn_api.h"

#include <stdlib.h>

enum { PRODUCE_SCRATCH_KEEP = 4 << 20, PRODUCE_JOINS_FROM = 12, PRODUCE_BY_ID_FROM = 13 };

/* What one request is doing. */
struct produce {
    struct kafka_call *call;
    const struct kafka_produce_request *request;
    struct produce_wait *wait;
    bool failed; /* something was refused */
    bool joined; /* its partitions were asked into the producer's transaction */
    int64_t now_ms;
};

static _Thread_local struct mqg_batch_builder produce_builder;
static _Thread_local struct mqg_dynbuf produce_scratch;

/* ---- one partition -------------------------------------------------------------------------------------------------------------- */

static bool produce_wants_answer(const struct produce *p)
{
    return p->request->acks != 0;
}

/* KIP-890: once for all of a request. */
static bool produce_may_join(const struct produce *p, const struct mqg_batch *b)
{
    return p->call->head.version >= PRODUCE_JOINS_FROM && p->request->transactional_id.ptr != NULL &&
           b->attributes & MQG_BATCH_TRANSACTIONAL && !p->joined;
}

/* Appends a batch that was checked. */
static enum kafka_error produce_append(struct produce *p, struct mqg_partition *part,
                                       const struct mqg_slice *rope, uint32_t nrope,
                                       const struct mqg_batch *b, produce_row *row)
{
    bool urgent = produce_wants_answer(p);
    struct mqg_append a = {.rope = rope,
                           .nrope = nrope,
                           .count = b->last_delta + 1,
                           .max_time_ms = b->max_time_ms > 0 ? (uint64_t)b->max_time_ms : 0,
                           .producer_id = -1};
    struct kafka_produced done = {.base_offset = 0};
    int code = 0;
    if (b->producer_id >= 0) {
        code = kafka_producer_append(part, b, &a, urgent, &done);
        if (MQG_UNLIKELY(code == KAFKA_INVALID_TXN_STATE) && produce_may_join(p, b)) {
            code = (int)kafka_txn_join_produce(p->call, b->producer_id, b->producer_epoch);
            p->joined = true;
            if (code == KAFKA_NONE)
                code = kafka_producer_append(part, b, &a, urgent, &done);
        }
    } else {
        code = (int)kafka_error_of(mqg_partition_append(part, &a, urgent));
        done = (struct kafka_produced){.base_offset = a.base_offset, .end = a.base_offset + a.count};
    }
    if (code != KAFKA_NONE)
        return (enum kafka_error)code;
    row->base_offset = (int64_t)done.base_offset;
    if (urgent)
        produce_wait_note(p->wait, part, row, done.end, a.ticket);
    if (!done.duplicate) {
        mqg_count(MQG_COUNT_PUBLISHED, b->count);
        mqg_count(MQG_COUNT_ROUTED, b->count);
    }
    return KAFKA_NONE;
}

/* A message set of old becomes a batch, which is then appended like any other. */
static enum kafka_error produce_legacy(struct produce *p, struct mqg_slice *records, uint32_t max_bytes)
{
    if (produce_builder.out.max == 0) {
        mqg_builder_init(&produce_builder, kafka_settings.request_max_bytes);
        mqg_dynbuf_init(&produce_scratch, kafka_settings.request_max_bytes);
    }
    if (records->len > max_bytes)
        return KAFKA_MESSAGE_TOO_LARGE;
    mqg_dynbuf_reset(&produce_scratch);
    enum mqg_err err = kafka_legacy_up(*records, p->now_ms, &produce_builder, &produce_scratch);
    if (err == MQG_UNSUPPORTED)
        return KAFKA_UNSUPPORTED_COMPRESSION_TYPE;
    if (err != MQG_OK)
        return kafka_error_of(err);
    *records = mqg_builder_end(&produce_builder);
    return KAFKA_NONE;
}

/* Do the times that the batch says lie where the topic wants them? The head tells the first and the latest. */
static bool produce_time_ok(const struct produce *p, const struct kafka_topic_conf *conf,
                            const struct mqg_batch *b)
{
    if (conf->append_time)
        return true;
    bool late = b->max_time_ms > p->now_ms && b->max_time_ms - p->now_ms > conf->after_max_ms;
    return !late && b->base_time_ms >= p->now_ms - conf->before_max_ms;
}

static enum kafka_error produce_batch(struct produce *p, struct mqg_partition *part, struct mqg_slice records,
                                      produce_row *row)
{
    const struct kafka_topic_conf *conf = kafka_topic_conf(mqg_partition_stream(part));
    uint32_t max_bytes = conf->max_message_bytes;
    struct mqg_batch b;
    uint8_t head[MQG_BATCH_HEAD_BYTES];
    if (kafka_legacy_is(records) && p->call->head.version < 3) {
        enum kafka_error code = produce_legacy(p, &records, max_bytes);
        if (code != KAFKA_NONE)
            return code;
        max_bytes = UINT32_MAX; /* it is a little longer now */
    }
    enum kafka_error code = kafka_batch_check(records, max_bytes, &b);
    if (code != KAFKA_NONE)
        return code;
    if (!produce_time_ok(p, conf, &b))
        return KAFKA_INVALID_TIMESTAMP;
    struct mqg_slice rope[2] = {records};
    if (!conf->append_time)
        return produce_append(p, part, rope, 1, &b, row);
    kafka_batch_restamp(records, p->now_ms, head);
    rope[0] = mqg_slice_of(head, sizeof head);
    rope[1] = b.records;
    b.max_time_ms = row->log_append_time_ms = p->now_ms;
    return produce_append(p, part, rope, 2, &b, row);
}

struct mqg_partition *kafka_produce_partition(struct kafka_call *c,
                                              const struct kafka_produce_request_topic_data *topic,
                                              int32_t index, enum kafka_error *code)
{
    if (c->head.version < PRODUCE_BY_ID_FROM)
        return kafka_partition(c->conn, topic->name, index, MQG_WRITE, code);
    return kafka_partition_by_id(c->conn, &topic->topic_id, index, MQG_WRITE, code);
}

static void produce_partition(struct produce *p, const struct kafka_produce_request_topic_data *topic,
                              const struct kafka_produce_request_topic_data_partition_data *want,
                              produce_row *row)
{
    enum kafka_error code;
    struct mqg_partition *part = kafka_produce_partition(p->call, topic, want->index, &code);
    *row = (produce_row){.index = want->index,
                         .base_offset = -1,
                         .log_append_time_ms = -1,
                         .log_start_offset = -1,
                         .current_leader = {.leader_id = -1, .leader_epoch = -1}};
    if (part != NULL)
        code = produce_batch(p, part, want->records, row);
    row->error_code = (int16_t)code;
    struct mqg_stream_bounds b;
    if (code != KAFKA_NONE) {
        p->failed = true;
        row->base_offset = -1;
    } else if (p->call->head.version >= 5 && produce_wants_answer(p) &&
               mqg_partition_bounds(part, &b) == MQG_OK) {
        row->log_start_offset = (int64_t)b.log_start;
    }
}

/* ---- a request -------------------------------------------------------------------------------------------------------------------- */

static bool produce_topic(struct produce *p, const struct kafka_produce_request_topic_data *topic,
                          struct kafka_produce_response_responses *out)
{
    out->name = kafka_call_dup(p->call, topic->name);
    out->topic_id = topic->topic_id;
    out->partition_responses = kafka_call_alloc(p->call, (size_t)topic->partition_data_n,
                                                sizeof(produce_row));
    if (out->partition_responses == NULL)
        return false;
    out->partition_responses_n = topic->partition_data_n;
    for (int32_t i = 0; i < topic->partition_data_n; i++)
        produce_partition(p, topic, &topic->partition_data[i], &out->partition_responses[i]);
    return true;
}

static bool produce_prepare(struct produce *p)
{
    struct kafka_produce_response *r = p->call->response;
    size_t n = 0;
    for (int32_t i = 0; i < p->request->topic_data_n; i++)
        n += (size_t)p->request->topic_data[i].partition_data_n;
    r->responses = kafka_call_alloc(p->call, (size_t)p->request->topic_data_n, sizeof *r->responses);
    p->wait = produce_wait_new(p->call, n);
    return r->responses != NULL && p->wait != NULL;
}

static void produce_refuse_all(struct produce *p, enum kafka_error code)
{
    struct kafka_produce_response *r = p->call->response;
    for (int32_t t = 0; t < p->request->topic_data_n; t++) {
        const struct kafka_produce_request_topic_data *topic = &p->request->topic_data[t];
        struct kafka_produce_response_responses *out = &r->responses[t];
        out->name = topic->name;
        out->topic_id = topic->topic_id;
        out->partition_responses = kafka_call_alloc(p->call, (size_t)topic->partition_data_n,
                                                    sizeof(produce_row));
        if (out->partition_responses == NULL)
            break;
        out->partition_responses_n = topic->partition_data_n;
        for (int32_t i = 0; i < topic->partition_data_n; i++)
            out->partition_responses[i] = (produce_row){.index = topic->partition_data[i].index,
                                                        .error_code = (int16_t)code,
                                                        .base_offset = -1,
                                                        .log_append_time_ms = -1,
                                                        .log_start_offset = -1,
                                                        .current_leader = {-1, -1}};
        r->responses_n = t + 1;
    }
    kafka_call_answer(p->call);
}

/* All is appended: now, later, or never. */
static void produce_answer(struct produce *p)
{
    struct kafka_call *c = p->call;
    uint32_t throttle_ms = kafka_quota(c->conn, KAFKA_QUOTA_PRODUCE, c->head.body.len);
    ((struct kafka_produce_response *)c->response)->throttle_time_ms = (int32_t)throttle_ms;
    kafka_conn_mute(c->conn, throttle_ms);
    if (!produce_wants_answer(p)) {
        if (p->failed)
            kafka_call_drop(c, "a batch with acks=0 was refused");
        else
            kafka_call_none(c);
        return;
    }
    produce_wait_begin(p->wait);
}

static void produce_trim_scratch(void)
{
    if (produce_builder.out.cap <= PRODUCE_SCRATCH_KEEP && produce_scratch.cap <= PRODUCE_SCRATCH_KEEP)
        return;
    mqg_builder_fini(&produce_builder);
    mqg_dynbuf_fini(&produce_scratch);
    produce_builder.out.max = 0;
}

static void produce_call(struct kafka_call *c)
{
    struct produce p = {
        .call = c, .request = c->request, .now_ms = (int64_t)(mqg_worker_self()->now.wall_us / 1000)};
    struct kafka_produce_response *r = c->response;
    mqg_conn_publishes(c->conn->conn);
    if (!produce_prepare(&p)) {
        kafka_call_drop(c, "too many partitions");
        return;
    }
    if (p.request->acks < -1 || p.request->acks > 1) {
        produce_refuse_all(&p, KAFKA_INVALID_REQUIRED_ACKS);
        return;
    }
    for (int32_t i = 0; i < p.request->topic_data_n; i++) {
        if (!produce_topic(&p, &p.request->topic_data[i], &r->responses[i])) {
            produce_wait_drop(p.wait);
            kafka_call_drop(c, "too many partitions");
            return;
        }
        r->responses_n++;
    }
    produce_answer(&p);
    produce_trim_scratch();
}

void kafka_produce_worker_stop(void)
{
    if (produce_builder.out.max == 0)
        return;
    mqg_builder_fini(&produce_builder);
    mqg_dynbuf_fini(&produce_scratch);
    produce_builder.out.max = 0;
}

const struct kafka_api kafka_produce_apis[] = {
    {KAFKA_API_PRODUCE, 0, 13, KAFKA_API_INPLACE, produce_call},
    {.key = -1},
};
