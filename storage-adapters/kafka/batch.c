/* batch.c - a worker's submission becomes a batch of ours: bytes copied, handed to the writer, counted until done.
 *
 * Nothing is decoded on the worker. What is queued and not yet taken by the engine is bounded: from half of it on the
 * host is told to block publishers, at all of it submit answers AGAIN. */
#include "kafka.h"

#include <stdlib.h>
#include <unistd.h>

enum { QUEUED_MAX = 64 << 20 };

void kfk_wake(struct mqg_store *s)
{
    uint64_t one = 1;
    ssize_t n = write(s->wake_fd, &one, sizeof(one));
    (void)n; /* full means awake */
}

static void batch_charge(struct mqg_store *s, int64_t n)
{
    int64_t now = atomic_fetch_add(&s->queued_bytes, n) + n;
    bool block = now > QUEUED_MAX / 2;
    if (n > 0 ? !block : now > QUEUED_MAX / 8)
        return;
    if (atomic_exchange(&s->blocked, block) != block && !atomic_load(&s->stopping))
        s->host.pressure(s->host.host, block, "kafka takes less than is published");
}

static struct mqg_buf *batch_join(const struct mqg_slice *rope, uint32_t n)
{
    size_t len = 0;
    for (uint32_t i = 0; i < n; i++)
        len += rope[i].len;
    struct mqg_buf *buf = mqg_buf_new(len);
    MQG_ASSERT(buf != NULL); /* the host's frame limit stands far below 2 GiB */
    uint8_t *to = buf->data;
    for (uint32_t i = 0; i < n; to += rope[i++].len)
        if (rope[i].len)
            memcpy(to, rope[i].ptr, rope[i].len);
    return buf;
}

static void batch_take(struct kfk_op *op, const struct mqg_store_op *from)
{
    switch (from->kind) {
    case MQG_OP_APPEND:
        op->partition = from->append.partition;
        op->offset = from->append.base_offset;
        op->count = from->append.count;
        op->buf = batch_join(from->append.rope, from->append.nrope);
        op->batch->bytes += op->buf->len;
        break;
    case MQG_OP_STREAM_NEW:
    case MQG_OP_STREAM_DELETE:
        op->partition = from->stream.partition;
        op->name = mqg_slice_dup(from->stream.name);
        op->index = from->stream.index;
        break;
    case MQG_OP_POSITION:
        op->partition = from->position.partition;
        op->offset = from->position.offset;
        op->name = mqg_slice_dup(from->position.group);
        op->metadata = mqg_slice_dup(from->position.metadata);
        break;
    default: break; /* not ours: the host knows our capabilities */
    }
}

static bool batch_wants(const struct mqg_store_op *op)
{
    return op->kind == MQG_OP_APPEND || op->kind == MQG_OP_STREAM_NEW || op->kind == MQG_OP_STREAM_DELETE ||
           (op->kind == MQG_OP_POSITION && op->position.offset != MQG_OFFSET_NONE);
}

enum mqg_err kfk_submit(struct mqg_store *s, uint32_t lane, const struct mqg_store_op *ops, size_t n,
                        uint64_t ticket, unsigned flags)
{
    MQG_CHECK(s, KFK_MAGIC);
    MQG_ASSERT(lane < s->nlanes);
    (void)flags; /* linger is the producer's */
    if (atomic_load(&s->failed))
        return MQG_OK; /* failed() was told: taken, and never done */
    if (atomic_load(&s->queued_bytes) > QUEUED_MAX)
        return MQG_AGAIN;
    struct kfk_batch *b = mqg_xcalloc(1, sizeof(*b) + n * sizeof(b->ops[0]));
    b->lane = lane;
    b->ticket = ticket;
    for (size_t i = 0; i < n; i++) {
        if (!batch_wants(&ops[i]))
            continue;
        struct kfk_op *op = &b->ops[b->nops++];
        op->kind = ops[i].kind;
        op->batch = b;
        batch_take(op, &ops[i]);
    }
    atomic_init(&b->pending, b->nops);
    batch_charge(s, b->bytes);
    pthread_mutex_lock(&s->lock);
    *s->inbox_last = b;
    s->inbox_last = &b->next;
    s->open_batches++;
    pthread_mutex_unlock(&s->lock);
    kfk_wake(s);
    return MQG_OK;
}

void kfk_op_done(struct mqg_store *s, struct kfk_op *op)
{
    if (op->buf) {
        batch_charge(s, -(int64_t)op->buf->len);
        mqg_buf_unref(&op->buf);
    }
    if (atomic_fetch_sub_explicit(&op->batch->pending, 1, memory_order_acq_rel) == 1)
        kfk_wake(s);
}

void kfk_batch_free(struct kfk_batch **batch)
{
    struct kfk_batch *b = *batch;
    *batch = NULL;
    for (uint32_t i = 0; i < b->nops; i++) {
        free(b->ops[i].name);
        free(b->ops[i].metadata);
        mqg_buf_unref(&b->ops[i].buf);
    }
    free(b);
}
