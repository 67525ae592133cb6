/* stream_read.c - what a partition is asked: its records, a time, a group's position.
 *
 * A store answers on any thread, and often before the call returns (from memory). Who asked gets that second kind of answer as
 * the call's own result: no task, no second turn, no recursion. Which of the two it was is decided by one exchange: whoever
 * comes second, the caller or the answer, goes on. */
#include "stream_int.h"

enum { REPLY_ASKED, REPLY_ANSWERED, REPLY_AWAITED };

static void reply_begin(struct mqg_reply *r, struct mqg_partition *p, void (*home)(struct mqg_task *task))
{
    MQG_CHECK(p, PARTITION_MAGIC);
    mqg_queue_ref(p->stream->queue);
    r->partition = p;
    r->worker = mqg_worker_self();
    r->task.run = home;
    atomic_store_explicit(&r->state, REPLY_ASKED, memory_order_relaxed);
}

/* The store's thread. */
static void reply_answered(struct mqg_reply *r)
{
    if (atomic_exchange_explicit(&r->state, REPLY_ANSWERED, memory_order_acq_rel) == REPLY_AWAITED)
        mqg_worker_post(r->worker, &r->task);
}

/* After the store's function has returned: is the answer there? */
static bool reply_there(struct mqg_reply *r)
{
    return atomic_exchange_explicit(&r->state, REPLY_AWAITED, memory_order_acq_rel) == REPLY_ANSWERED;
}

/* GONE when the stream was deleted meanwhile. */
static enum mqg_err reply_end(struct mqg_reply *r, enum mqg_err err)
{
    struct mqg_queue *q = r->partition->stream->queue;
    if (atomic_load_explicit(&r->partition->ended, memory_order_acquire))
        err = MQG_GONE;
    mqg_queue_unref(&q);
    return err;
}

/* ---- records ------------------------------------------------------------------------------------------------------------ */

static void read_take(struct mqg_partition_read *r)
{
    r->data = r->store.data;
    r->next_offset = r->store.next_offset;
    r->high_watermark = r->store.high_watermark;
    r->log_start = r->store.log_start;
    r->err = reply_end(&r->reply, r->store.err);
}

static void read_home(struct mqg_task *task)
{
    struct mqg_partition_read *r = MQG_CONTAINER_OF(task, struct mqg_partition_read, reply.task);
    read_take(r);
    r->done(r);
}

static void read_answered(struct mqg_stream_read *store)
{
    reply_answered(&((struct mqg_partition_read *)store->arg)->reply);
}

bool mqg_partition_read(struct mqg_partition *p, struct mqg_partition_read *r)
{
    struct mqg_storage *s = p->stream->storage;
    reply_begin(&r->reply, p, read_home);
    r->store = (struct mqg_stream_read){.partition = p->id,
                                        .offset = r->offset,
                                        .max_bytes = r->max_bytes,
                                        .durable_only = true,
                                        .lane = r->reply.worker->index,
                                        .done = read_answered,
                                        .arg = r};
    s->ops->stream_read(s->store, &r->store);
    if (!reply_there(&r->reply))
        return false;
    read_take(r);
    return true;
}

/* ---- where to begin ------------------------------------------------------------------------------------------------------ */

enum mqg_err mqg_partition_seek(struct mqg_partition *p, enum mqg_seek how, uint64_t arg, uint64_t *offset)
{
    struct mqg_stream_bounds b;
    enum mqg_err err = mqg_partition_bounds(p, &b);
    *offset = b.high_watermark;
    if (err != MQG_OK)
        return err;
    switch (how) {
    case MQG_SEEK_FIRST: *offset = b.log_start; break;
    case MQG_SEEK_LAST: *offset = b.high_watermark > b.log_start ? b.high_watermark - 1 : b.log_start; break;
    case MQG_SEEK_NEXT: break;
    case MQG_SEEK_OFFSET:
        *offset = arg < b.log_start ? b.log_start : arg > b.high_watermark ? b.high_watermark : arg;
        break;
    }
    return MQG_OK;
}

static void time_take(struct mqg_partition_time *t)
{
    t->offset = t->store.offset;
    t->err = t->store.err;
    if (t->err == MQG_NOT_FOUND) { /* its STREAM_NEW is still on the way */
        t->err = MQG_OK;
        t->offset = 0;
    }
    t->err = reply_end(&t->reply, t->err);
}

static void time_home(struct mqg_task *task)
{
    struct mqg_partition_time *t = MQG_CONTAINER_OF(task, struct mqg_partition_time, reply.task);
    time_take(t);
    t->done(t);
}

static void time_answered(struct mqg_time_req *store)
{
    reply_answered(&((struct mqg_partition_time *)store->arg)->reply);
}

bool mqg_partition_time(struct mqg_partition *p, struct mqg_partition_time *t)
{
    struct mqg_storage *s = p->stream->storage;
    reply_begin(&t->reply, p, time_home);
    t->store = (struct mqg_time_req){.partition = p->id,
                                     .time_ms = t->time_ms,
                                     .lane = t->reply.worker->index,
                                     .done = time_answered,
                                     .arg = t};
    s->ops->offset_for_time(s->store, &t->store);
    if (!reply_there(&t->reply))
        return false;
    time_take(t);
    return true;
}

/* ---- groups ------------------------------------------------------------------------------------------------------------- */

uint64_t mqg_group_commit(struct mqg_partition *p, struct mqg_slice group, uint64_t offset,
                          struct mqg_slice metadata)
{
    struct mqg_store_op op = {.kind = MQG_OP_POSITION, .position = {group, p->id, offset, metadata}};
    mqg_lane_add(p->stream->storage, &op, true);
    return mqg_lane_ticket(p->stream->storage);
}

static void position_take(struct mqg_group_position *g)
{
    g->offset = g->store.offset;
    g->err = reply_end(&g->reply, g->store.err);
}

static void position_home(struct mqg_task *task)
{
    struct mqg_group_position *g = MQG_CONTAINER_OF(task, struct mqg_group_position, reply.task);
    position_take(g);
    g->done(g);
}

static void position_answered(struct mqg_position_req *store)
{
    reply_answered(&((struct mqg_group_position *)store->arg)->reply);
}

bool mqg_group_position(struct mqg_partition *p, struct mqg_group_position *g)
{
    struct mqg_storage *s = p->stream->storage;
    if ((s->caps & MQG_STORE_POSITIONS) == 0) {
        g->err = MQG_UNSUPPORTED;
        return true;
    }
    reply_begin(&g->reply, p, position_home);
    g->store = (struct mqg_position_req){.group = g->group,
                                         .partition = p->id,
                                         .lane = g->reply.worker->index,
                                         .done = position_answered,
                                         .arg = g};
    s->ops->position_get(s->store, &g->store);
    if (!reply_there(&g->reply))
        return false;
    position_take(g);
    return true;
}
