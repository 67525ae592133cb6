/* epochs.c - OffsetForLeaderEpoch (KIP-320): where the records of a leader's epoch end.
 *
 * Each start of the node has an epoch of its own, which stands in the head of every batch that it appended, and they rise with
 * the offsets. So no list of epochs is kept: the first batch of a later epoch is found by halving between the log's ends. */
#include "jobs.h"
#include "kafka_int.h"

#include <stdlib.h>

typedef struct kafka_offset_for_leader_epoch_request_topics_partitions want_row;
typedef struct kafka_offset_for_leader_epoch_response_topics_partitions told_row;

struct epoch_job {
    struct kafka_job job;
    told_row *row;
    int32_t epoch;      /* asked for */
    uint64_t low, high; /* below low all batches are of it or earlier, from high on all are later */
    int32_t below;      /* the epoch of the last batch below low; -1: none was seen */
};

static void epoch_step(struct epoch_job *j);

static void epoch_over(struct epoch_job *j)
{
    j->row->leader_epoch = j->below >= 0 ? j->below : j->epoch;
    j->row->end_offset = (int64_t)j->high;
    kafka_job_end(&j->job);
}

static void epoch_batch(struct kafka_job *job)
{
    struct epoch_job *j = (struct epoch_job *)job;
    struct mqg_partition_read *r = &job->read;
    struct mqg_batch b;
    if (r->err != MQG_OK) {
        j->row->error_code = (int16_t)kafka_error_of(r->err);
        kafka_job_end(job);
        return;
    }
    if (r->data == NULL && r->next_offset <= r->offset) { /* nothing there any more */
        j->high = r->offset;
    } else if (r->data == NULL) { /* compacted away: as if of the epoch before */
        j->low = r->next_offset;
    } else if (mqg_batch_read(mqg_slice_of(r->data->data, r->data->len), &b) != MQG_OK) {
        j->row->error_code = KAFKA_KAFKA_STORAGE_ERROR;
        kafka_job_end(job);
        return;
    } else if (b.leader_epoch > j->epoch) {
        j->high = b.base_offset > j->low ? b.base_offset : j->low;
    } else {
        j->below = b.leader_epoch > j->below ? b.leader_epoch : j->below;
        j->low = b.base_offset + b.last_delta + 1;
    }
    epoch_step(j);
}

static void epoch_step(struct epoch_job *j)
{
    if (j->low >= j->high)
        epoch_over(j);
    else
        kafka_job_read(&j->job, j->low + (j->high - j->low) / 2, epoch_batch);
}

static void epoch_partition(struct kafka_jobs *js, struct mqg_slice topic, const want_row *want,
                            told_row *row)
{
    enum kafka_error code;
    struct mqg_stream_bounds b;
    struct mqg_partition *p = kafka_partition(js->call->conn, topic, want->partition, KAFKA_DESCRIBE, &code);
    *row = (told_row){.partition = want->partition, .leader_epoch = -1, .end_offset = -1};
    if (code == KAFKA_NONE)
        code = kafka_leader_epoch_check(want->current_leader_epoch);
    if (code == KAFKA_NONE && mqg_partition_bounds(p, &b) != MQG_OK)
        code = KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
    row->error_code = (int16_t)code;
    if (code != KAFKA_NONE || want->leader_epoch > mqg_stream_epoch() || want->leader_epoch < 0)
        return;
    if (want->leader_epoch == mqg_stream_epoch()) {
        row->leader_epoch = want->leader_epoch;
        row->end_offset = (int64_t)b.high_watermark;
        return;
    }
    struct epoch_job *j = mqg_xcalloc(1, sizeof *j);
    kafka_job_begin(js, &j->job, p);
    j->row = row;
    j->epoch = want->leader_epoch;
    j->low = b.log_start;
    j->high = b.high_watermark;
    j->below = -1;
    epoch_step(j);
}

void kafka_epochs_call(struct kafka_call *c)
{
    const struct kafka_offset_for_leader_epoch_request *q = c->request;
    struct kafka_offset_for_leader_epoch_response *r = c->response;
    r->topics = kafka_call_alloc(c, (size_t)q->topics_n, sizeof *r->topics);
    for (int32_t t = 0; t < q->topics_n && r->topics != NULL; t++) {
        r->topics[t].topic = q->topics[t].topic;
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
            epoch_partition(js, q->topics[t].topic, &q->topics[t].partitions[i], &r->topics[t].partitions[i]);
    kafka_jobs_begun(js);
}
