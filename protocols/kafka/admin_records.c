/* admin_records.c - DeleteRecords, DescribeLogDirs: what the store keeps of a topic. */
#include "admin.h"
#include "topic_conf.h"

#include <mqgate/lanes.h>

#include <stdlib.h>

/* ---- DeleteRecords ------------------------------------------------------------------------------------------------------- */

static enum kafka_error records_trim(struct mqg_partition *p, int64_t wanted, int64_t *low,
                                     struct kafka_durable *d)
{
    struct mqg_stream_bounds b;
    if (p == NULL || mqg_partition_bounds(p, &b) != MQG_OK)
        return KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
    if (wanted < -1 || (wanted >= 0 && (uint64_t)wanted > b.high_watermark))
        return KAFKA_OFFSET_OUT_OF_RANGE;
    uint64_t start = wanted == -1 ? b.high_watermark : (uint64_t)wanted;
    if (start > b.log_start)
        kafka_durable_note(d, mqg_stream_storage(mqg_partition_stream(p)), mqg_partition_trim(p, start));
    *low = (int64_t)(start > b.log_start ? start : b.log_start);
    return KAFKA_NONE;
}

static enum kafka_error records_topic(struct kafka_call *c, struct mqg_slice name, struct mqg_stream *s)
{
    if (!kafka_permits(c->conn, KAFKA_RESOURCE_TOPIC, name, KAFKA_OP_DELETE))
        return KAFKA_TOPIC_AUTHORIZATION_FAILED;
    if (s == NULL)
        return KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
    const struct mqg_stream_conf conf = mqg_stream_conf(s);
    return kafka_key_only_compact(&conf) ? KAFKA_POLICY_VIOLATION : KAFKA_NONE;
}

static bool records_row(struct kafka_call *c, const struct kafka_delete_records_request_topics *q,
                        struct kafka_delete_records_response_topics *r, struct kafka_durable *d)
{
    size_t n = q->partitions_n > 0 ? (size_t)q->partitions_n : 0;
    r->name = q->name;
    r->partitions = kafka_call_alloc(c, n + 1, sizeof *r->partitions);
    if (r->partitions == NULL)
        return false;
    struct mqg_stream *s = kafka_admin_stream(c->conn, q->name);
    enum kafka_error code = records_topic(c, q->name, s);
    for (size_t i = 0; i < n; i++) {
        struct kafka_delete_records_response_topics_partitions *row = &r->partitions[r->partitions_n++];
        int32_t index = q->partitions[i].partition_index;
        row->partition_index = index;
        row->low_watermark = -1;
        struct mqg_partition *p = code == KAFKA_NONE && index >= 0 ? mqg_stream_partition(s, (uint32_t)index)
                                                                   : NULL;
        row->error_code = (int16_t)(code != KAFKA_NONE
                                        ? code
                                        : records_trim(p, q->partitions[i].offset, &row->low_watermark, d));
    }
    if (s != NULL)
        mqg_stream_unref(&s);
    return true;
}

void kafka_delete_records(struct kafka_call *c)
{
    const struct kafka_delete_records_request *q = c->request;
    struct kafka_delete_records_response *r = c->response;
    struct kafka_durable durable = {{0}};
    size_t n = q->topics_n > 0 ? (size_t)q->topics_n : 0;
    bool room = true;
    r->topics = kafka_call_alloc(c, n + 1, sizeof *r->topics);
    for (size_t i = 0; r->topics != NULL && i < n && room; i++)
        room = records_row(c, &q->topics[i], &r->topics[r->topics_n++], &durable);
    if (r->topics == NULL || !room)
        kafka_call_drop(c, "too many partitions");
    else
        kafka_durable_answer(c, &durable);
}

/* ---- DescribeLogDirs --------------------------------------------------------------------------------------------------------- */

/* A store is a log directory: it stands by its name. */
struct dirs {
    struct kafka_call *call;
    const struct mqg_storage *storage;
    struct kafka_describe_log_dirs_response_results *row;
    struct mqg_stream **streams; /* referenced */
    size_t n, max;
};

static bool dirs_collect(void *arg, struct mqg_stream *s)
{
    struct dirs *d = arg;
    if (d->n == d->max) {
        d->max = d->max > 0 ? 2 * d->max : 64;
        d->streams = mqg_xrealloc(d->streams, d->max * sizeof(struct mqg_stream *));
    }
    d->streams[d->n++] = mqg_stream_ref(s);
    return true;
}

static int64_t dirs_bytes(const struct mqg_storage *storage, const struct mqg_partition *p)
{
    struct mqg_stream_stats stats;
    if (storage->ops->stream_stats == NULL ||
        storage->ops->stream_stats(storage->store, mqg_partition_id(p), &stats) != MQG_OK)
        return 0;
    return (int64_t)stats.bytes;
}

static bool dirs_wants(const struct kafka_describe_log_dirs_request_topics *q, int32_t index)
{
    bool wanted = q == NULL || q->partitions_n <= 0;
    for (int32_t i = 0; q != NULL && i < q->partitions_n && !wanted; i++)
        wanted = q->partitions[i] == index;
    return wanted;
}

static bool dirs_topic(struct dirs *d, struct mqg_stream *s,
                       const struct kafka_describe_log_dirs_request_topics *q)
{
    uint32_t n = mqg_stream_partitions(s);
    struct kafka_describe_log_dirs_response_results_topics *topic = &d->row->topics[d->row->topics_n];
    topic->partitions = kafka_call_alloc(d->call, n, sizeof *topic->partitions);
    if (topic->partitions == NULL)
        return false;
    d->row->topics_n++;
    topic->name = kafka_call_dup(d->call, mqg_stream_name(s));
    for (uint32_t i = 0; i < n; i++)
        if (dirs_wants(q, (int32_t)i))
            topic->partitions[topic->partitions_n++] =
                (struct kafka_describe_log_dirs_response_results_topics_partitions){
                    .partition_index = (int32_t)i,
                    .partition_size = dirs_bytes(d->storage, mqg_stream_partition(s, i))};
    return true;
}

static const struct kafka_describe_log_dirs_request_topics *dirs_asked(
    const struct kafka_describe_log_dirs_request *q, struct mqg_slice name)
{
    for (int32_t i = 0; i < q->topics_n; i++)
        if (mqg_slice_eq(q->topics[i].topic, name))
            return &q->topics[i];
    return NULL;
}

static bool dirs_store(struct dirs *d)
{
    const struct kafka_describe_log_dirs_request *q = d->call->request;
    d->row->log_dir = mqg_slice_str(d->storage->name);
    d->row->total_bytes = d->row->usable_bytes = -1;
    d->row->topics = kafka_call_alloc(d->call, d->n + 1, sizeof *d->row->topics);
    bool room = d->row->topics != NULL;
    for (size_t i = 0; i < d->n && room; i++) {
        const struct kafka_describe_log_dirs_request_topics *asked = dirs_asked(
            q, mqg_stream_name(d->streams[i]));
        if (mqg_stream_storage(d->streams[i]) == d->storage && (q->topics_n < 0 || asked != NULL))
            room = dirs_topic(d, d->streams[i], asked);
    }
    return room;
}

static bool dirs_fill(struct dirs *d)
{
    struct kafka_describe_log_dirs_response *r = d->call->response;
    bool room = true;
    r->results = kafka_call_alloc(d->call, MQG_STORES_MAX, sizeof *r->results);
    for (uint32_t i = 0; r->results != NULL && i < MQG_STORES_MAX && room; i++) {
        d->storage = mqg_storage_at(i);
        if (d->storage == NULL || !(d->storage->caps & MQG_STORE_STREAMS))
            continue;
        d->row = &r->results[r->results_n++];
        room = dirs_store(d);
    }
    return r->results != NULL && room;
}

void kafka_describe_log_dirs(struct kafka_call *c)
{
    struct kafka_describe_log_dirs_response *r = c->response;
    struct dirs d = {.call = c};
    if (!kafka_permits_cluster(c->conn, KAFKA_OP_DESCRIBE)) {
        r->error_code = KAFKA_CLUSTER_AUTHORIZATION_FAILED;
        kafka_call_answer(c);
        return;
    }
    kafka_topics_each(c->conn, dirs_collect, &d);
    bool room = dirs_fill(&d);
    for (size_t i = 0; i < d.n; i++)
        mqg_stream_unref(&d.streams[i]);
    free(d.streams);
    if (room)
        kafka_call_answer(c);
    else
        kafka_call_drop(c, "too many partitions for one answer");
}
