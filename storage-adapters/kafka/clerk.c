/* clerk.c - the thread for what asks the engine and waits: topics made and deleted, positions committed.
 *
 * One thing at a time, in the order submitted, so that a topic deleted and made anew comes out right. Away engines are
 * asked again every half second for as long as it takes: an operation is done when it has happened, and a store whose
 * engine is away is slow, not failed. */
#include "kafka.h"

#include <stdlib.h>
#include <time.h>

enum { CLERK_TRY_MS = 5000, CLERK_PAUSE_MS = 500 };

/* Waits out the pause, or the store's end. */
static void clerk_pause(struct mqg_store *s)
{
    struct timespec until = mqg_wait_until(CLERK_PAUSE_MS);
    pthread_mutex_lock(&s->lock);
    if (!atomic_load(&s->stopping))
        pthread_cond_timedwait(&s->clerk_has, &s->lock, &until);
    pthread_mutex_unlock(&s->lock);
}

static bool clerk_passes(rd_kafka_resp_err_t err)
{
    switch (err) {
    case RD_KAFKA_RESP_ERR__TRANSPORT:
    case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
    case RD_KAFKA_RESP_ERR__TIMED_OUT:
    case RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE:
    case RD_KAFKA_RESP_ERR__WAIT_COORD:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE:
    case RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION:
    case RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT:
    case RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS:
    case RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE:
    case RD_KAFKA_RESP_ERR_NOT_COORDINATOR:
    case RD_KAFKA_RESP_ERR_NOT_CONTROLLER: return true;
    default: return false;
    }
}

/* ---- topics ------------------------------------------------------------------------------------------------------------ */

/* Partitions of the topic, 0 when there is none, -1 when the engine does not answer. Asks for all topics: asking for one by
 * name would make it on clusters that create topics on demand. */
static int clerk_partitions(struct mqg_store *s, const char *topic)
{
    const struct rd_kafka_metadata *md;
    if (rd_kafka_metadata(s->producer, 1, NULL, &md, CLERK_TRY_MS) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return -1;
    int n = 0;
    for (int i = 0; i < md->topic_cnt; i++)
        if (strcmp(md->topics[i].topic, topic) == 0 && md->topics[i].err == RD_KAFKA_RESP_ERR_NO_ERROR)
            n = md->topics[i].partition_cnt;
    rd_kafka_metadata_destroy(md);
    return n;
}

/* The answer to an administrative request on its queue: the request's error, or its one topic's. */
static rd_kafka_resp_err_t clerk_answer(rd_kafka_queue_t *q)
{
    rd_kafka_event_t *ev = rd_kafka_queue_poll(q, CLERK_TRY_MS * 2);
    if (!ev)
        return RD_KAFKA_RESP_ERR__TIMED_OUT;
    rd_kafka_resp_err_t err = rd_kafka_event_error(ev);
    const rd_kafka_topic_result_t **topics = NULL;
    size_t n = 0;
    if (!err && rd_kafka_event_type(ev) == RD_KAFKA_EVENT_CREATETOPICS_RESULT)
        topics = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(ev), &n);
    else if (!err && rd_kafka_event_type(ev) == RD_KAFKA_EVENT_CREATEPARTITIONS_RESULT)
        topics = rd_kafka_CreatePartitions_result_topics(rd_kafka_event_CreatePartitions_result(ev), &n);
    else if (!err && rd_kafka_event_type(ev) == RD_KAFKA_EVENT_DELETETOPICS_RESULT)
        topics = rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(ev), &n);
    if (n > 0)
        err = rd_kafka_topic_result_error(topics[0]);
    rd_kafka_event_destroy(ev);
    return err;
}

static rd_kafka_resp_err_t clerk_create(struct mqg_store *s, const char *topic, int partitions)
{
    char text[256];
    rd_kafka_NewTopic_t *want = rd_kafka_NewTopic_new(topic, partitions, -1, text, sizeof(text));
    if (!want)
        return RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION;
    rd_kafka_NewTopic_set_config(want, "retention.ms",
                                 "-1"); /* what goes when is said here, not by the cluster's default */
    rd_kafka_queue_t *q = rd_kafka_queue_new(s->producer);
    rd_kafka_CreateTopics(s->producer, &want, 1, NULL, q);
    rd_kafka_resp_err_t err = clerk_answer(q);
    rd_kafka_queue_destroy(q);
    rd_kafka_NewTopic_destroy(want);
    return err == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS ? RD_KAFKA_RESP_ERR_NO_ERROR : err;
}

static rd_kafka_resp_err_t clerk_widen(struct mqg_store *s, const char *topic, int partitions)
{
    char text[256];
    rd_kafka_NewPartitions_t *want = rd_kafka_NewPartitions_new(topic, (size_t)partitions, text,
                                                                sizeof(text));
    if (!want)
        return RD_KAFKA_RESP_ERR_INVALID_PARTITIONS;
    rd_kafka_queue_t *q = rd_kafka_queue_new(s->producer);
    rd_kafka_CreatePartitions(s->producer, &want, 1, NULL, q);
    rd_kafka_resp_err_t err = clerk_answer(q);
    rd_kafka_queue_destroy(q);
    rd_kafka_NewPartitions_destroy(want);
    return err;
}

/* A cluster that makes topics on demand does it when asked for one by name. */
static rd_kafka_resp_err_t clerk_ask_for(struct mqg_store *s, const char *topic)
{
    const struct rd_kafka_metadata *md;
    rd_kafka_topic_t *rkt = rd_kafka_topic_new(s->producer, topic, NULL);
    rd_kafka_resp_err_t err = rd_kafka_metadata(s->producer, 0, rkt, &md, CLERK_TRY_MS);
    if (!err)
        rd_kafka_metadata_destroy(md);
    rd_kafka_topic_destroy(rkt);
    return err;
}

/* The topic has the partition, and its bounds are known. */
static rd_kafka_resp_err_t clerk_define(struct mqg_store *s, const struct kfk_part *p, int64_t *low,
                                        int64_t *high)
{
    int have = clerk_partitions(s, p->topic);
    rd_kafka_resp_err_t err = have < 0 ? RD_KAFKA_RESP_ERR__TRANSPORT : RD_KAFKA_RESP_ERR_NO_ERROR;
    if (have == 0)
        err = s->create_topics ? clerk_create(s, p->topic, p->index + 1) : clerk_ask_for(s, p->topic);
    else if (have > 0 && have <= p->index)
        err = clerk_widen(s, p->topic, p->index + 1);
    if (err)
        return err;
    return rd_kafka_query_watermark_offsets(s->producer, p->topic, p->index, low, high, CLERK_TRY_MS);
}

static void clerk_stream_new(struct mqg_store *s, struct kfk_part *p)
{
    int64_t low = 0, high = 0;
    rd_kafka_resp_err_t err;
    while ((err = clerk_define(s, p, &low, &high)) != RD_KAFKA_RESP_ERR_NO_ERROR && !kfk_over(s)) {
        if (!clerk_passes(err)) {
            kfk_fail(s, MQG_IO, "topic %s partition %d: %s", p->topic, p->index, rd_kafka_err2str(err));
            return;
        }
        clerk_pause(s);
    }
    if (kfk_over(s))
        return;
    rd_kafka_topic_t *out = rd_kafka_topic_new(s->producer, p->topic, NULL);
    pthread_mutex_lock(&s->lock);
    p->out = out;
    p->start = (uint64_t)low;
    p->high = p->next_out = (uint64_t)high;
    p->ready = true;
    pthread_mutex_unlock(&s->lock);
    atomic_store(&s->parts_changed, true);
    kfk_part_advance(s, p, (uint64_t)high);
}

/* Takes the partition off the map; the topic's name when no other partition of it is left (the caller frees). */
static char *clerk_forget(struct mqg_store *s, uint64_t partition)
{
    char *last = NULL;
    pthread_mutex_lock(&s->lock);
    struct kfk_part *p = mqg_map_del(&s->parts, mqg_slice_of(&partition, sizeof(partition)));
    if (p) {
        p->gone = true;
        p->ready = false;
        last = mqg_xstrdup(p->topic);
        for (struct mqg_map_iter it = {.left = 0}; last && mqg_map_next(&s->parts, &it);) {
            const struct kfk_part *other = it.value;
            if (strcmp(other->topic, last) == 0) {
                free(last);
                last = NULL;
            }
        }
    }
    pthread_mutex_unlock(&s->lock);
    atomic_store(&s->parts_changed, true);
    return last;
}

static void clerk_stream_delete(struct mqg_store *s, uint64_t partition)
{
    char *topic = clerk_forget(s, partition);
    while (topic && !kfk_over(s)) {
        rd_kafka_DeleteTopic_t *want = rd_kafka_DeleteTopic_new(topic);
        rd_kafka_queue_t *q = rd_kafka_queue_new(s->producer);
        rd_kafka_DeleteTopics(s->producer, &want, 1, NULL, q);
        rd_kafka_resp_err_t err = clerk_answer(q);
        rd_kafka_queue_destroy(q);
        rd_kafka_DeleteTopic_destroy(want);
        bool lives_on = err != RD_KAFKA_RESP_ERR_NO_ERROR && err != RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
        if (lives_on && !clerk_passes(err)) {
            kfk_fail(s, MQG_IO, "topic %s cannot be deleted: %s", topic, rd_kafka_err2str(err));
            break;
        }
        if (!lives_on && clerk_partitions(s, topic) == 0)
            break; /* really gone: one made anew under its name cannot be taken for it */
        clerk_pause(s);
    }
    free(topic);
}

/* ---- positions --------------------------------------------------------------------------------------------------------- */

static rd_kafka_topic_partition_t *clerk_row(struct mqg_store *s, uint64_t partition,
                                             rd_kafka_topic_partition_list_t **list)
{
    pthread_mutex_lock(&s->lock);
    const struct kfk_part *p = kfk_part_find(s, partition);
    pthread_mutex_unlock(&s->lock); /* parts outlive the call */
    if (!p)
        return NULL;
    *list = rd_kafka_topic_partition_list_new(1);
    return rd_kafka_topic_partition_list_add(*list, p->topic, p->index);
}

static rd_kafka_resp_err_t clerk_commit(struct mqg_store *s, const char *group,
                                        rd_kafka_topic_partition_list_t *list)
{
    rd_kafka_AlterConsumerGroupOffsets_t *want = rd_kafka_AlterConsumerGroupOffsets_new(group, list);
    rd_kafka_queue_t *q = rd_kafka_queue_new(s->consumer);
    rd_kafka_AlterConsumerGroupOffsets(s->consumer, &want, 1, NULL, q);
    rd_kafka_event_t *ev = rd_kafka_queue_poll(q, CLERK_TRY_MS * 2);
    rd_kafka_resp_err_t err = ev ? rd_kafka_event_error(ev) : RD_KAFKA_RESP_ERR__TIMED_OUT;
    if (!err) {
        size_t n = 0;
        const rd_kafka_group_result_t **groups = rd_kafka_AlterConsumerGroupOffsets_result_groups(
            rd_kafka_event_AlterConsumerGroupOffsets_result(ev), &n);
        const rd_kafka_error_t *error = n ? rd_kafka_group_result_error(groups[0]) : NULL;
        err = error ? rd_kafka_error_code(error) : RD_KAFKA_RESP_ERR_NO_ERROR;
        const rd_kafka_topic_partition_list_t *rows = n ? rd_kafka_group_result_partitions(groups[0]) : NULL;
        if (!err && rows && rows->cnt > 0)
            err = rows->elems[0].err;
    }
    if (ev)
        rd_kafka_event_destroy(ev);
    rd_kafka_queue_destroy(q);
    rd_kafka_AlterConsumerGroupOffsets_destroy(want);
    return err;
}

static void clerk_position(struct mqg_store *s, const struct kfk_op *op)
{
    rd_kafka_topic_partition_list_t *list;
    rd_kafka_topic_partition_t *row = clerk_row(s, op->partition, &list);
    if (!row)
        return;
    row->offset = (int64_t)op->offset;
    row->metadata = strdup(op->metadata); /* librdkafka frees it */
    row->metadata_size = strlen(op->metadata);
    rd_kafka_resp_err_t err;
    while ((err = clerk_commit(s, op->name, list)) != RD_KAFKA_RESP_ERR_NO_ERROR && !kfk_over(s)) {
        if (!clerk_passes(err)) {
            kfk_fail(s, MQG_IO, "group %s: position cannot be committed: %s", op->name,
                     rd_kafka_err2str(err));
            break;
        }
        clerk_pause(s);
    }
    rd_kafka_topic_partition_list_destroy(list);
}

enum mqg_err kfk_position_ask(struct mqg_store *s, struct mqg_slice group, uint64_t partition,
                              uint64_t *offset)
{
    rd_kafka_topic_partition_list_t *list;
    if (!clerk_row(s, partition, &list))
        return MQG_NOT_FOUND;
    char *name = mqg_slice_dup(group);
    rd_kafka_ListConsumerGroupOffsets_t *want = rd_kafka_ListConsumerGroupOffsets_new(name, list);
    rd_kafka_queue_t *q = rd_kafka_queue_new(s->consumer);
    rd_kafka_ListConsumerGroupOffsets(s->consumer, &want, 1, NULL, q);
    rd_kafka_event_t *ev = rd_kafka_queue_poll(q, s->timeout_ms);
    enum mqg_err err = MQG_IO;
    if (ev && !rd_kafka_event_error(ev)) {
        size_t n = 0;
        const rd_kafka_group_result_t **groups = rd_kafka_ListConsumerGroupOffsets_result_groups(
            rd_kafka_event_ListConsumerGroupOffsets_result(ev), &n);
        const rd_kafka_topic_partition_list_t *rows = n && !rd_kafka_group_result_error(groups[0])
                                                          ? rd_kafka_group_result_partitions(groups[0])
                                                          : NULL;
        if (rows && rows->cnt > 0 && !rows->elems[0].err) {
            err = rows->elems[0].offset >= 0 ? MQG_OK : MQG_NOT_FOUND;
            *offset = (uint64_t)rows->elems[0].offset;
        }
    }
    if (ev)
        rd_kafka_event_destroy(ev);
    rd_kafka_queue_destroy(q);
    rd_kafka_ListConsumerGroupOffsets_destroy(want);
    rd_kafka_topic_partition_list_destroy(list);
    free(name);
    return err;
}

/* ---- the thread -------------------------------------------------------------------------------------------------------- */

static struct kfk_op *clerk_next(struct mqg_store *s)
{
    pthread_mutex_lock(&s->lock);
    while (!s->clerk_ops && !atomic_load(&s->stopping))
        pthread_cond_wait(&s->clerk_has, &s->lock);
    struct kfk_op *op = atomic_load(&s->stopping) ? NULL : s->clerk_ops;
    if (op) {
        s->clerk_ops = op->next;
        if (!s->clerk_ops)
            s->clerk_last = &s->clerk_ops;
    }
    pthread_mutex_unlock(&s->lock);
    return op;
}

void *kfk_clerk_run(void *store)
{
    struct mqg_store *s = store;
    for (struct kfk_op *op; (op = clerk_next(s)) != NULL;) {
        switch (op->kind) {
        case MQG_OP_STREAM_NEW: clerk_stream_new(s, op->part); break;
        case MQG_OP_STREAM_DELETE: clerk_stream_delete(s, op->partition); break;
        case MQG_OP_POSITION: clerk_position(s, op); break;
        default: break;
        }
        if (!kfk_over(s))
            kfk_op_done(s, op);
    }
    return NULL;
}
