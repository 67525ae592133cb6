/* part.c - partitions: which topic a 64-bit id means, and what is known of its bounds.
 *
 * The gateway is a partition's only writer, so its high watermark is known here without asking: delivery reports with
 * acks=all move it. The log start is the engine's matter (retention); it is asked when the partition is made known, and
 * again when a read is refused as too old. */
#include "kafka.h"

#include <stdlib.h>

static struct mqg_slice part_key(const uint64_t *id)
{
    return mqg_slice_of(id, sizeof(*id));
}

struct kfk_part *kfk_part_find(struct mqg_store *s, uint64_t id)
{
    return mqg_map_get(&s->parts, part_key(&id));
}

struct kfk_part *kfk_part_new(struct mqg_store *s, uint64_t id, char *topic, int32_t index)
{
    struct kfk_part *p = NULL;
    pthread_mutex_lock(&s->lock);
    if (!kfk_part_find(s, id)) {
        p = mqg_xcalloc(1, sizeof(*p));
        p->id = id;
        p->topic = topic;
        p->index = index;
        mqg_map_set(&s->parts, part_key(&p->id), p);
        mqg_vec_push(&s->all, p);
    }
    pthread_mutex_unlock(&s->lock);
    if (!p)
        free(topic);
    return p;
}

void kfk_part_free(struct kfk_part **part)
{
    struct kfk_part *p = *part;
    *part = NULL;
    kfk_reader_forget(p);
    if (p->out)
        rd_kafka_topic_destroy(p->out);
    free(p->topic);
    free(p->waits);
    free(p);
}

static bool part_passed(struct kfk_part *p)
{
    size_t kept = 0;
    for (size_t i = 0; i < p->nwait; i++)
        if (p->waits[i] >= p->high)
            p->waits[kept++] = p->waits[i];
    bool passed = kept < p->nwait;
    p->nwait = kept;
    return passed;
}

void kfk_part_advance(struct mqg_store *s, struct kfk_part *p, uint64_t high)
{
    pthread_mutex_lock(&s->lock);
    p->high = high;
    bool passed = part_passed(p);
    pthread_mutex_unlock(&s->lock);
    if (passed)
        s->host.stream_ready(s->host.host, p->id);
}

enum mqg_err kfk_stream_bounds(struct mqg_store *s, uint64_t partition, struct mqg_stream_bounds *out)
{
    pthread_mutex_lock(&s->lock);
    const struct kfk_part *p = kfk_part_find(s, partition);
    bool known = p && p->ready;
    if (known)
        *out = (struct mqg_stream_bounds){p->start, p->high, p->high};
    pthread_mutex_unlock(&s->lock);
    return known ? MQG_OK : MQG_NOT_FOUND;
}

void kfk_stream_wait(struct mqg_store *s, uint64_t partition, uint64_t offset)
{
    pthread_mutex_lock(&s->lock);
    struct kfk_part *p = kfk_part_find(s, partition);
    bool ready = p && p->ready && p->high > offset;
    if (p && !ready) {
        if (p->nwait == p->cap_wait) {
            p->cap_wait = p->cap_wait ? p->cap_wait * 2 : 4;
            p->waits = mqg_xrealloc(p->waits, p->cap_wait * sizeof(*p->waits));
        }
        p->waits[p->nwait++] = offset;
    }
    pthread_mutex_unlock(&s->lock);
    if (ready)
        s->host.stream_ready(s->host.host, partition);
}

enum mqg_err kfk_time_ask(struct mqg_store *s, uint64_t partition, uint64_t time_ms, uint64_t *offset)
{
    pthread_mutex_lock(&s->lock);
    const struct kfk_part *p = kfk_part_find(s, partition);
    bool known = p && p->ready;
    uint64_t high = known ? p->high : 0;
    pthread_mutex_unlock(&s->lock);
    if (!known)
        return MQG_NOT_FOUND;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_t *row = rd_kafka_topic_partition_list_add(list, p->topic, p->index);
    row->offset = (int64_t)time_ms;
    rd_kafka_resp_err_t err = rd_kafka_offsets_for_times(s->consumer, list, s->timeout_ms);
    if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
        err = row->err;
    *offset = row->offset >= 0 ? (uint64_t)row->offset : high;
    rd_kafka_topic_partition_list_destroy(list);
    return err == RD_KAFKA_RESP_ERR_NO_ERROR ? MQG_OK : MQG_IO;
}
