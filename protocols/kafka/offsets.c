/* offsets.c - ListOffsets: where a partition begins and ends, and what was written at a time.
 *
 * The ends are known at once. A time is two questions to the store: which batch has the first record of that time or later, and
 * that batch, in which the record is then found. The largest time (KIP-734) is found by halving the range of times: the store can
 * say where a time begins, and beyond the largest there is nothing. */
#include "jobs.h"
#include "kafka_int.h"
#include "producer_part.h"

#include <stdlib.h>

enum {
    TIME_LATEST = -1,
    TIME_EARLIEST = -2,
    TIME_MAX = -3,
    TIME_EARLIEST_LOCAL = -4,
    TIME_LATEST_TIERED = -5
};
enum { PLAIN_MAX = 128 << 20 };

typedef struct kafka_list_offsets_request_topics_partitions want_row;
typedef struct kafka_list_offsets_response_topics_partitions told_row;

struct time_job {
    struct kafka_job job;
    told_row *row;
    int64_t time_ms;
    uint64_t low_ms, high_ms; /* of the largest time: there is a record at low or later, and none at high */
    bool largest;
    struct mqg_partition_time at;
};

/* ---- a record by its time ------------------------------------------------------------------------------------------------------ */

/* The first record of that time or later; of the largest time, the first that has it. */
static bool time_find(const struct time_job *t, struct mqg_slice bytes, struct mqg_batch *b,
                      struct mqg_record *found)
{
    struct mqg_dynbuf out;
    struct mqg_slice plain;
    struct mqg_record_iter it;
    struct mqg_record r;
    bool any = false;
    mqg_dynbuf_init(&out, PLAIN_MAX);
    if (mqg_batch_read(bytes, b) == MQG_OK && mqg_batch_plain(b, &out, &plain) == MQG_OK) {
        mqg_record_iter_init(&it, b, plain);
        while (!any && mqg_record_next(&it, &r)) {
            any = r.time_ms >= t->time_ms;
            *found = r;
        }
    }
    mqg_dynbuf_fini(&out);
    return any;
}

static void time_batch(struct kafka_job *job)
{
    struct time_job *t = (struct time_job *)job;
    struct mqg_batch b;
    struct mqg_record r;
    if (job->read.err != MQG_OK) {
        t->row->error_code = (int16_t)kafka_error_of(job->read.err);
    } else if (job->read.data != NULL &&
               time_find(t, mqg_slice_of(job->read.data->data, job->read.data->len), &b, &r)) {
        t->row->offset = (int64_t)r.offset;
        t->row->timestamp = r.time_ms;
        t->row->leader_epoch = b.leader_epoch;
    } else if (job->read.next_offset > job->read.offset) { /* compacted away: what follows is as late */
        kafka_job_read(job, job->read.next_offset, time_batch);
        return;
    }
    kafka_job_end(job);
}

static void time_ask(struct time_job *t, uint64_t time_ms);

/* Halves until low is the largest time. */
static void time_halve(struct time_job *t, bool there)
{
    if (there)
        t->low_ms = t->at.time_ms;
    else
        t->high_ms = t->at.time_ms;
    if (t->high_ms - t->low_ms > 1) {
        time_ask(t, t->low_ms + (t->high_ms - t->low_ms) / 2);
        return;
    }
    t->largest = false;
    t->time_ms = (int64_t)t->low_ms;
    time_ask(t, t->low_ms);
}

static void time_take(struct time_job *t)
{
    struct mqg_stream_bounds b;
    if (kafka_job_is_orphan(&t->job)) {
        kafka_job_end(&t->job);
        return;
    }
    enum mqg_err err = t->at.err != MQG_OK ? t->at.err : mqg_partition_bounds(t->job.partition, &b);
    if (err != MQG_OK) {
        t->row->error_code = (int16_t)kafka_error_of(err);
        kafka_job_end(&t->job);
        return;
    }
    bool there = t->at.offset < b.high_watermark;
    if (t->largest)
        time_halve(t, there);
    else if (there)
        kafka_job_read(&t->job, t->at.offset, time_batch);
    else
        kafka_job_end(&t->job);
}

static void time_came(struct mqg_partition_time *at)
{
    time_take(MQG_CONTAINER_OF(at, struct time_job, at));
}

static void time_ask(struct time_job *t, uint64_t time_ms)
{
    t->at = (struct mqg_partition_time){.time_ms = time_ms, .done = time_came};
    if (mqg_partition_time(t->job.partition, &t->at))
        time_take(t);
}

static void time_begin(struct kafka_jobs *js, struct mqg_partition *p, int64_t time_ms, told_row *row)
{
    struct mqg_stream_bounds b;
    if (mqg_partition_bounds(p, &b) != MQG_OK || b.high_watermark == b.log_start)
        return;
    struct time_job *t = mqg_xcalloc(1, sizeof *t);
    kafka_job_begin(js, &t->job, p);
    t->row = row;
    t->time_ms = time_ms;
    t->largest = time_ms == TIME_MAX;
    t->high_ms = 1ull << 62;
    time_ask(t, t->largest ? t->high_ms / 2 : (uint64_t)time_ms);
}

/* ---- the ends -------------------------------------------------------------------------------------------------------------------- */

static enum kafka_error offsets_end(struct mqg_partition *p, int64_t which, bool committed, told_row *row)
{
    struct mqg_stream_bounds b;
    enum mqg_err err = mqg_partition_bounds(p, &b);
    if (err != MQG_OK)
        return kafka_error_of(err);
    row->leader_epoch = mqg_stream_epoch();
    if (which == TIME_LATEST)
        row->offset = (int64_t)(committed ? kafka_txn_lso(p) : b.high_watermark);
    else if (which != TIME_LATEST_TIERED)
        row->offset = (int64_t)b.log_start;
    return KAFKA_NONE;
}

/* Version 0 tells of places from the asked one downwards: that, and the beginning. */
static void offsets_old_style(struct kafka_call *c, const want_row *want, struct mqg_partition *p,
                              told_row *row)
{
    int64_t *list = kafka_call_alloc(c, 2, sizeof *list);
    told_row earliest = {.offset = -1};
    if (list == NULL || row->error_code != KAFKA_NONE || want->max_num_offsets < 1)
        return;
    row->old_style_offsets = list;
    list[row->old_style_offsets_n++] = row->offset;
    if (want->max_num_offsets > 1 && offsets_end(p, TIME_EARLIEST, false, &earliest) == KAFKA_NONE &&
        earliest.offset < row->offset)
        list[row->old_style_offsets_n++] = earliest.offset;
}

static void offsets_partition(struct kafka_jobs *js, struct mqg_slice topic, const want_row *want,
                              told_row *row)
{
    struct kafka_call *c = js->call;
    const struct kafka_list_offsets_request *q = c->request;
    enum kafka_error code;
    struct mqg_partition *p = kafka_partition(c->conn, topic, want->partition_index, KAFKA_DESCRIBE, &code);
    *row = (told_row){
        .partition_index = want->partition_index, .timestamp = -1, .offset = -1, .leader_epoch = -1};
    if (code == KAFKA_NONE)
        code = kafka_leader_epoch_check(want->current_leader_epoch);
    bool time = want->timestamp >= 0 || want->timestamp == TIME_MAX;
    if (code == KAFKA_NONE && want->timestamp < TIME_LATEST_TIERED)
        code = KAFKA_UNSUPPORTED_VERSION;
    if (code == KAFKA_NONE && !time)
        code = offsets_end(p, want->timestamp, q->isolation_level == 1, row);
    row->error_code = (int16_t)code;
    if (code == KAFKA_NONE && time && c->head.version > 0)
        time_begin(js, p, want->timestamp, row);
    else if (code == KAFKA_NONE && c->head.version == 0)
        offsets_old_style(c, want, p, row);
}

static void offsets_call(struct kafka_call *c)
{
    const struct kafka_list_offsets_request *q = c->request;
    struct kafka_list_offsets_response *r = c->response;
    r->topics = kafka_call_alloc(c, (size_t)q->topics_n, sizeof *r->topics);
    for (int32_t t = 0; t < q->topics_n && r->topics != NULL; t++) {
        r->topics[t].name = q->topics[t].name;
        r->topics[t].partitions = kafka_call_alloc(c, (size_t)q->topics[t].partitions_n, sizeof(told_row));
        if (r->topics[t].partitions == NULL)
            r->topics = NULL;
        else
            r->topics[t].partitions_n = q->topics[t].partitions_n;
    }
    if (r->topics == NULL) {
        kafka_call_drop(c, "too many partitions");
        return;
    }
    r->topics_n = q->topics_n;
    struct kafka_jobs *js = kafka_jobs_new(c);
    for (int32_t t = 0; t < q->topics_n; t++)
        for (int32_t i = 0; i < q->topics[t].partitions_n; i++)
            offsets_partition(js, q->topics[t].name, &q->topics[t].partitions[i],
                              &r->topics[t].partitions[i]);
    kafka_jobs_begun(js);
}

const struct kafka_api kafka_offsets_apis[] = {
    {KAFKA_API_LIST_OFFSETS, 0, 10, 0, offsets_call},
    {KAFKA_API_OFFSET_FOR_LEADER_EPOCH, 0, 4, 0, kafka_epochs_call},
    {.key = -1},
};
