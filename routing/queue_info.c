/* routing/queue_info.c - facts about a queue, for declarations, listings and checks. */
#include "queue_int.h"
#include "stream_int.h"

struct mqg_slice mqg_queue_name(const struct mqg_queue *q)
{
    return q->def.name;
}
bool mqg_queue_is_stream(const struct mqg_queue *q)
{
    return q->stream != NULL;
}
uint64_t mqg_queue_id(const struct mqg_queue *q)
{
    return q->id;
}
const struct mqg_table *queue_args(const struct mqg_queue *q)
{
    const struct mqg_table *args = q->args;
    return args ? args : &q->def.args;
}
const struct queue_opts *queue_opts(const struct mqg_queue *q)
{
    return q->opts;
}
struct mqg_vhost *queue_vhost(const struct mqg_queue *q)
{
    return q->vhost;
}
bool queue_durable(const struct mqg_queue *q)
{
    return q->def.durable;
}
bool queue_exclusive(const struct mqg_queue *q)
{
    return q->def.exclusive;
}
bool queue_auto_delete(const struct mqg_queue *q)
{
    return q->def.auto_delete;
}
uint64_t queue_owner(const struct mqg_queue *q)
{
    return q->def.owner_conn;
}

void queue_counts(struct mqg_queue *q, uint64_t *ready, uint64_t *consumers)
{
    pthread_mutex_lock(&q->lock);
    *ready = q->ready;
    *consumers = q->nsubs;
    pthread_mutex_unlock(&q->lock);
    if (q->stream)
        *ready = stream_messages(q->stream);
}

void queue_touch(struct mqg_queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->last_used_ms = mqg_clock_now().mono_ms;
    pthread_mutex_unlock(&q->lock);
}

static struct mqg_slice queue_type_word(const struct mqg_queue *q)
{
    static const struct mqg_slice words[] = {[QUEUE_CLASSIC] = MQG_SLICE_INIT("classic"),
                                             [QUEUE_QUORUM] = MQG_SLICE_INIT("quorum"),
                                             [QUEUE_STREAM] = MQG_SLICE_INIT("stream")};
    return words[q->opts->type];
}

void queue_info(struct mqg_queue *q, struct mqg_queue_info *out)
{
    pthread_mutex_lock(&q->lock);
    *out = (struct mqg_queue_info){
        .name = q->def.name,
        .vhost = mqg_vhost_name(q->vhost),
        .type = queue_type_word(q),
        .durable = q->def.durable,
        .exclusive = q->def.exclusive,
        .auto_delete = q->def.auto_delete,
        .messages_ready = q->ready,
        .messages_unacked = q->unacked,
        .bytes_ready = q->ready_bytes,
        .bytes_unacked = q->unacked_bytes,
        .consumers = q->nsubs,
        .memory_messages = q->in_memory,
        .published = q->published,
        .delivered = q->delivered,
        .acked = q->acked,
        .args = queue_args(q),
        .state = q->ended ? "stopped" : "running",
        .single_active_tag = q->single ? q->single->def.tag : MQG_SLICE_NONE,
        .owner_conn = q->def.owner_conn,
        .queue = q,
    };
    pthread_mutex_unlock(&q->lock);
    if (q->stream)
        out->messages_ready = stream_messages(q->stream);
}
