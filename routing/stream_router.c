/* stream_router.c - what producers put into a stream by its own protocol reaches everybody else who is bound.
 *
 * Two ways lead from a stream into the topology: its **bridge** (its records are published to amq.topic under the stream's
 * name) and its **front** (an exchange of the stream's name, declared with x-stream, whose bindings they go through). A cursor
 * per partition reads what is durable and committed, makes messages of records, and routes each once; the stream itself is no
 * destination. What routing appended bears a mark in its batch (MQG_BATCH_ROUTED), and is passed over: it met its
 * destinations when it was published.
 *
 * Its position is written in the same turn as the messages that it made: one group of the store, so a crash repeats nothing and
 * leaves nothing out (as long as the queues' messages lie in the stream's store). As long as nobody is bound nothing is read or
 * decoded: the cursor follows the high watermark, and notes that once a second. So after a crash somebody who had just bound
 * may get what came in the second before; nobody misses what came after.
 *
 * A cursor belongs to one worker, lives as long as its stream, and holds a reference on it. */
#include "stream_int.h"

#include <stdlib.h>

#include <mqgate/obs.h>

#include "topology_int.h"

enum {
    ROUTER_READ_BYTES = 64 << 10, /* a turn's work */
    ROUTER_PAUSE_MS = 20,         /* while the store is at a watermark */
    ROUTER_IDLE_KEEP_MS = 1000,
    ROUTER_ARENA_BYTES = 4 << 20,
};

struct stream_cursor {
    struct stream_cursor *next, **prev; /* of all, under router_lock */
    struct mqg_partition *partition;
    uint64_t offset; /* what it looks at next */
    uint64_t kept;   /* what is written */
    uint64_t kept_ms;
    bool asking, reading;
    struct mqg_task task;
    struct mqg_timer timer;
    struct mqg_partition_wait wait;
    struct mqg_group_position position;
    struct mqg_partition_read read;
};

/* What a turn's routing needs; the worker's. */
struct router {
    struct publisher *publisher;
    struct route_set front, bridge;
    struct mqg_dynbuf plain, scratch;
    struct mqg_arena arena;
};

/* One way into the topology. */
struct router_way {
    const struct mqg_exchange *exchange; /* NULL: it does not lead there */
    bool keyed;                          /* under the stream's name, else under the record's key */
};

static const struct mqg_slice router_group = MQG_SLICE_INIT("mqgate.router");
static pthread_mutex_t router_lock = PTHREAD_MUTEX_INITIALIZER;
static struct stream_cursor *router_all;
static struct mqg_stream_txns router_txns;

static void cursor_step(struct stream_cursor *c);

void mqg_stream_txns_set(const struct mqg_stream_txns *txns)
{
    router_txns = *txns;
}

/* ---- ways ------------------------------------------------------------------------------------------------------------ */

static struct mqg_queue *cursor_queue(const struct stream_cursor *c)
{
    return c->partition->stream->queue;
}

static struct router_way way_front(const struct stream_cursor *c)
{
    const struct mqg_queue *q = cursor_queue(c);
    const struct mqg_exchange *x = topology_exchange(q->vhost, q->def.name);
    return (struct router_way){.exchange = x != NULL && x->cell->fronts ? x : NULL};
}

static struct router_way way_bridge(const struct stream_cursor *c)
{
    bool out = (atomic_load_explicit(&c->partition->stream->bridge, memory_order_relaxed) & MQG_BRIDGE_OUT) !=
               0;
    return (struct router_way){
        .exchange = out ? topology_exchange(cursor_queue(c)->vhost, MQG_SLICE_LIT("amq.topic")) : NULL,
        .keyed = true};
}

static void routes_without(struct route_set *r, const struct mqg_queue *q)
{
    for (size_t i = 0; i < r->n; i++)
        if (r->queues[i] == q) {
            r->queues[i] = r->queues[--r->n];
            return;
        }
}

/* Is anybody bound? Where other exchanges may follow, only a record can tell. */
static bool way_leads(const struct stream_cursor *c, const struct router_way *w, struct route_set *r)
{
    const struct mqg_exchange *x = w->exchange;
    if (x == NULL)
        return false;
    if (!w->keyed || x->to_exchanges > 0)
        return x->bindings > 0 || x->cell->has_alternate;
    topology_route(cursor_queue(c)->vhost, x, NULL, &cursor_queue(c)->def.name, 1, r);
    routes_without(r, cursor_queue(c));
    return r->n > 0;
}

/* ---- routing ----------------------------------------------------------------------------------------------------------- */

static void way_route(struct router *r, const struct stream_cursor *c, const struct router_way *w,
                      const struct mqg_record *record, const struct route_set *had, struct route_set *out)
{
    const struct mqg_queue *q = cursor_queue(c);
    struct mqg_record_to to = {.proto = MQG_PROTO_KAFKA,
                               .partition = c->partition->id,
                               .exchange = &w->exchange->cell->name,
                               .key = w->keyed ? &q->def.name : NULL};
    enum mqg_err err;
    mqg_arena_reset(&r->arena);
    struct mqg_msg *m = mqg_record_to_msg(record, &to, &r->arena, &r->scratch, &err);
    if (m == NULL) {
        mqg_count(MQG_COUNT_CONVERSION_DROPPED, 1);
        return;
    }
    struct mqg_slice key = mqg_msg_key(m);
    topology_route(q->vhost, w->exchange, m, &key, 1, out);
    routes_without(out, q);
    for (size_t i = 0; had != NULL && i < had->n; i++)
        routes_without(out, had->queues[i]);
    publish_internal(r->publisher, m, out);
}

static void cursor_record(struct router *r, const struct stream_cursor *c, const struct mqg_record *record)
{
    struct router_way front = way_front(c), bridge = way_bridge(c);
    r->front.n = 0;
    if (front.exchange != NULL)
        way_route(r, c, &front, record, NULL, &r->front);
    if (bridge.exchange != NULL)
        way_route(r, c, &bridge, record, &r->front, &r->bridge);
}

static bool cursor_passes(const struct stream_cursor *c, const struct mqg_batch *b)
{
    if (b->attributes & (MQG_BATCH_ROUTED | MQG_BATCH_CONTROL))
        return true;
    return (b->attributes & MQG_BATCH_TRANSACTIONAL) && router_txns.aborted != NULL &&
           router_txns.aborted(c->partition, b->producer_id, b->base_offset);
}

static void cursor_batch(struct router *r, struct stream_cursor *c, const struct mqg_batch *b)
{
    struct mqg_record_iter it;
    struct mqg_record record;
    struct mqg_slice plain;
    if (cursor_passes(c, b))
        return;
    enum mqg_err err = mqg_batch_plain(b, &r->plain, &plain);
    if (err != MQG_OK) {
        mqg_count(MQG_COUNT_CONVERSION_DROPPED, b->count);
        mqg_log(MQG_LOG_WARN, MQG_EVENT_STORE, "what=unreadable_batch partition=%llu offset=%llu err=%s",
                (unsigned long long)c->partition->id, (unsigned long long)b->base_offset, mqg_err_name(err));
        return;
    }
    mqg_record_iter_init(&it, b, plain);
    while (mqg_record_next(&it, &record))
        if (record.offset >= c->offset)
            cursor_record(r, c, &record);
    if (it.bad)
        mqg_count(MQG_COUNT_CONVERSION_DROPPED, 1);
}

/* The whole batches below `stable`; where to go on. */
static uint64_t cursor_batches(struct router *r, struct stream_cursor *c, struct mqg_slice data,
                               uint64_t next, uint64_t stable)
{
    struct mqg_batch b;
    while (mqg_batch_read(data, &b) == MQG_OK) {
        uint64_t end = b.base_offset + b.last_delta + 1;
        if (end > stable)
            return b.base_offset > c->offset ? b.base_offset : c->offset;
        if (end > c->offset)
            cursor_batch(r, c, &b);
        data = mqg_slice_of(data.ptr + b.bytes, data.len - b.bytes);
    }
    return next < stable ? next : stable;
}

/* ---- reading -------------------------------------------------------------------------------------------------------------- */

static void cursor_keep(struct stream_cursor *c)
{
    struct mqg_store_op op = {
        .kind = MQG_OP_POSITION,
        .position = {router_group, c->partition->id, c->offset, MQG_SLICE_NONE},
    };
    if (c->offset == c->kept)
        return;
    c->kept = c->offset;
    c->kept_ms = mqg_worker_self()->now.mono_ms;
    mqg_lane_add(c->partition->stream->storage, &op, false);
}

static uint64_t cursor_stable(const struct stream_cursor *c, uint64_t high_watermark)
{
    uint64_t stable = router_txns.stable != NULL ? router_txns.stable(c->partition) : high_watermark;
    return stable < high_watermark ? stable : high_watermark;
}

static void router_init(struct router *r)
{
    r->publisher = publisher_self();
    route_set_init(&r->front);
    route_set_init(&r->bridge);
    mqg_dynbuf_init(&r->plain, STREAM_BATCH_MAX_BYTES);
    mqg_dynbuf_init(&r->scratch, STREAM_BATCH_MAX_BYTES);
    mqg_arena_init(&r->arena, ROUTER_ARENA_BYTES);
}

static void router_fini(struct router *r)
{
    route_set_fini(&r->front);
    route_set_fini(&r->bridge);
    mqg_dynbuf_fini(&r->plain);
    mqg_dynbuf_fini(&r->scratch);
    mqg_arena_fini(&r->arena);
}

/* The messages first, the position behind them: the turn's submit holds both. */
static void cursor_take(struct stream_cursor *c)
{
    struct router r;
    struct mqg_buf *data = c->read.data;
    uint64_t stable = cursor_stable(c, c->read.high_watermark);
    router_init(&r);
    c->offset = data != NULL
                    ? cursor_batches(&r, c, mqg_slice_of(data->data, data->len), c->read.next_offset, stable)
                    : c->read.next_offset;
    mqg_publish_flush();
    cursor_keep(c);
    router_fini(&r);
    mqg_buf_unref(&data);
    c->read.data = NULL;
}

static void cursor_again(struct stream_cursor *c)
{
    mqg_worker_post(mqg_worker_self(), &c->task);
}

static void cursor_link(struct stream_cursor *c)
{
    pthread_mutex_lock(&router_lock);
    c->next = router_all;
    c->prev = &router_all;
    if (c->next != NULL)
        c->next->prev = &c->next;
    router_all = c;
    pthread_mutex_unlock(&router_lock);
}

static void cursor_free(struct stream_cursor *c)
{
    struct mqg_queue *q = cursor_queue(c);
    pthread_mutex_lock(&router_lock);
    *c->prev = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    pthread_mutex_unlock(&router_lock);
    mqg_buf_unref(&c->read.data);
    mqg_queue_unref(&q);
    free(c);
}

static void cursor_end(struct stream_cursor *c)
{
    mqg_timer_cancel(&c->timer);
    cursor_free(c);
}

static void cursor_read(struct mqg_partition_read *read)
{
    struct stream_cursor *c = MQG_CONTAINER_OF(read, struct stream_cursor, read);
    c->reading = false;
    if (read->err == MQG_GONE) {
        cursor_end(c);
        return;
    }
    if (read->err == MQG_OK) {
        cursor_take(c);
        cursor_again(c);
        return;
    }
    mqg_buf_unref(&c->read.data);
    if (read->err == MQG_NOT_FOUND) { /* retention was faster: the next step sees where the log begins */
        cursor_again(c);
        return;
    }
    mqg_log(MQG_LOG_ERROR, MQG_EVENT_STORE, "what=router_stands partition=%llu offset=%llu err=%s",
            (unsigned long long)c->partition->id, (unsigned long long)c->offset, mqg_err_name(read->err));
    mqg_timer_in(&c->timer, ROUTER_PAUSE_MS * 50);
}

static void cursor_fetch(struct stream_cursor *c)
{
    c->reading = true;
    c->read = (struct mqg_partition_read){
        .offset = c->offset, .max_bytes = ROUTER_READ_BYTES, .done = cursor_read};
    if (mqg_partition_read(c->partition, &c->read))
        cursor_read(&c->read);
}

static bool cursor_is_bound(const struct stream_cursor *c)
{
    struct router_way front = way_front(c), bridge = way_bridge(c);
    struct route_set *r = &publisher_self()->routes;
    return way_leads(c, &front, r) || way_leads(c, &bridge, r);
}

/* Nobody wants it: what comes is passed over. */
static void cursor_idle(struct stream_cursor *c, uint64_t high_watermark)
{
    uint64_t due_ms = c->kept_ms + ROUTER_IDLE_KEEP_MS;
    c->offset = high_watermark;
    if (mqg_worker_self()->now.mono_ms >= due_ms)
        cursor_keep(c);
    else if (c->offset != c->kept)
        mqg_timer_at(&c->timer, due_ms);
    mqg_partition_wait(c->partition, &c->wait, high_watermark);
}

static void cursor_step(struct stream_cursor *c)
{
    struct mqg_storage *s = c->partition->stream->storage;
    struct mqg_stream_bounds b;
    mqg_timer_cancel(&c->timer);
    if (mqg_partition_bounds(c->partition, &b) != MQG_OK) {
        cursor_end(c);
        return;
    }
    if (!cursor_is_bound(c)) {
        cursor_idle(c, b.high_watermark);
        return;
    }
    if (c->offset < b.log_start)
        c->offset = b.log_start;
    if (c->offset >= cursor_stable(c, b.high_watermark))
        mqg_partition_wait(c->partition, &c->wait, b.high_watermark);
    else if (atomic_load_explicit(&s->blocked, memory_order_relaxed) ||
             atomic_load_explicit(&s->behind, memory_order_relaxed) > 0)
        mqg_timer_in(&c->timer, ROUTER_PAUSE_MS);
    else
        cursor_fetch(c);
}

/* ---- what sets it going ----------------------------------------------------------------------------------------------------- */

static void cursor_run(struct mqg_task *task)
{
    cursor_step(MQG_CONTAINER_OF(task, struct stream_cursor, task));
}

static void cursor_timer(struct mqg_timer *timer)
{
    struct stream_cursor *c = MQG_CONTAINER_OF(timer, struct stream_cursor, timer);
    mqg_partition_unwait(&c->wait);
    cursor_step(c);
}

static void cursor_woken(struct mqg_partition_wait *wait, enum mqg_err err)
{
    struct stream_cursor *c = MQG_CONTAINER_OF(wait, struct stream_cursor, wait);
    if (err != MQG_OK)
        cursor_end(c);
    else
        cursor_step(c);
}

static void cursor_positioned(struct mqg_group_position *g)
{
    struct stream_cursor *c = MQG_CONTAINER_OF(g, struct stream_cursor, position);
    c->asking = false;
    if (g->err == MQG_OK)
        c->offset = c->kept = g->offset;
    cursor_step(c);
}

/* Its first turn on its worker. */
static void cursor_begin(struct mqg_task *task)
{
    struct stream_cursor *c = MQG_CONTAINER_OF(task, struct stream_cursor, task);
    c->task.run = cursor_run;
    mqg_timer_init(&c->timer, cursor_timer);
    if (c->offset != MQG_OFFSET_NONE) {
        cursor_keep(c);
        cursor_step(c);
        return;
    }
    struct mqg_stream_bounds b;
    if (mqg_partition_bounds(c->partition, &b) == MQG_OK)
        c->offset = b.log_start; /* where none was kept: it was made right before the end */
    c->asking = true;
    c->position = (struct mqg_group_position){.group = router_group, .done = cursor_positioned};
    if (mqg_group_position(c->partition, &c->position))
        cursor_positioned(&c->position);
}

static void cursor_new(struct mqg_partition *p, bool recovered)
{
    struct stream_cursor *c = mqg_xcalloc(1, sizeof *c);
    struct mqg_stream_bounds b;
    mqg_queue_ref(p->stream->queue);
    c->partition = p;
    c->wait.fire = cursor_woken;
    c->offset = c->kept = MQG_OFFSET_NONE; /* what was kept */
    if (!recovered && mqg_partition_bounds(p, &b) == MQG_OK)
        c->offset = b.high_watermark;
    c->task.run = cursor_begin;
    cursor_link(c);
    mqg_worker_post(mqg_worker_at((uint32_t)((p->stream->queue->id + p->index) % mqg_worker_count())),
                    &c->task);
}

static bool router_may_lead(const struct mqg_stream *s)
{
    const struct mqg_exchange *x = topology_exchange(s->queue->vhost, s->queue->def.name);
    return (atomic_load_explicit(&s->bridge, memory_order_relaxed) & MQG_BRIDGE_OUT) != 0 ||
           (x != NULL && x->cell->fronts);
}

void stream_router_start(struct mqg_stream *s, bool recovered)
{
    if (!router_may_lead(s))
        return;
    uint32_t n = mqg_stream_partitions(s);
    pthread_mutex_lock(&s->queue->lock);
    uint32_t have = s->ncursors;
    s->ncursors = have < n ? n : have;
    pthread_mutex_unlock(&s->queue->lock);
    for (; have < n; have++)
        cursor_new(stream_at(s, have), recovered);
}

/* What was asked when the workers stopped is not answered any more, and its reference is ours to give back. */
static void cursor_abandon(struct stream_cursor *c)
{
    struct mqg_queue *q = cursor_queue(c);
    mqg_partition_unwait(&c->wait);
    if (c->reading || c->asking)
        mqg_queue_unref(&q);
    if (c->reading)
        mqg_buf_unref(&c->read.store.data);
    cursor_free(c);
}

void stream_router_fini(void)
{
    while (router_all != NULL)
        cursor_abandon(router_all);
}
