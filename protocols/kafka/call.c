/* call.c - a request from its frame to the turn of its answer.
 *
 * Requests wait in a list of their connection in the order in which they came, and answers leave in that order. Who is ready at
 * the head of the list writes into the connection's output at once; an answer that is ready before its turn is encoded and kept.
 *
 * A request is taken from the worker's pool and goes back to it with its arena's first block, so that a connection in its steady
 * state allocates nothing. Frames that must outlive the input are charged to one budget of the node. */
#include "kafka_int.h"

#include <stdlib.h>

enum { CALLS_KEPT = 64, SCRATCH_KEEP = 1 << 20, FRAME_IN_ARENA = 2048 };

enum call_state { CALL_BEGUN, CALL_READY, CALL_SILENT, CALL_GONE };

static _Thread_local struct kafka_call *call_pool;
static _Thread_local uint32_t call_pool_n;
static _Thread_local struct mqg_dynbuf call_scratch;
static struct mqg_budget call_budget;

/* ---- frames -------------------------------------------------------------------------------------------------------------------- */

void kafka_frames_load(int64_t budget_bytes)
{
    call_budget.limit_bytes = budget_bytes;
}

uint8_t *kafka_frame_new(size_t bytes)
{
    return mqg_budget_take(&call_budget, bytes) ? mqg_xmalloc(bytes) : NULL;
}

void kafka_frame_free(uint8_t *owned, size_t bytes)
{
    if (owned != NULL)
        mqg_budget_give(&call_budget, bytes);
    free(owned);
}

/* ---- the pool -------------------------------------------------------------------------------------------------------------------- */

static void call_task(struct mqg_task *t);
static void call_timer(struct mqg_timer *t);

static struct kafka_call *call_new(struct kafka_conn *kc)
{
    struct kafka_call *c = call_pool;
    struct mqg_arena arena;
    if (c != NULL) {
        call_pool = c->next;
        call_pool_n--;
        arena = c->arena;
    } else {
        c = mqg_xmalloc(sizeof *c);
        mqg_arena_init(&arena, KAFKA_ARENA_BYTES);
    }
    *c = (struct kafka_call){.conn = kc, .arena = arena, .task = {.run = call_task}};
    mqg_timer_init(&c->timer, call_timer);
    return c;
}

static void call_free(struct kafka_call *c)
{
    mqg_timer_cancel(&c->timer);
    kafka_frame_free(c->frame, c->frame_bytes);
    if (c->out.max != 0)
        mqg_dynbuf_fini(&c->out);
    if (call_pool_n >= CALLS_KEPT) {
        mqg_arena_fini(&c->arena);
        free(c);
        return;
    }
    mqg_arena_reset(&c->arena);
    c->next = call_pool;
    call_pool = c;
    call_pool_n++;
}

/* A call whose wake is on its way is freed by that. */
static void call_release(struct kafka_call *c)
{
    c->state = CALL_GONE;
    c->conn = NULL;
    mqg_timer_cancel(&c->timer);
    if (!atomic_load_explicit(&c->waking, memory_order_acquire))
        call_free(c);
}

void kafka_calls_worker_stop(void)
{
    while (call_pool != NULL) {
        struct kafka_call *c = call_pool;
        call_pool = c->next;
        mqg_arena_fini(&c->arena);
        free(c);
    }
    call_pool_n = CALLS_KEPT; /* connections that end after this give nothing back to it */
    if (call_scratch.max != 0)
        mqg_dynbuf_fini(&call_scratch);
}

/* ---- begin --------------------------------------------------------------------------------------------------------------------- */

struct kafka_call *kafka_call_begin(struct kafka_conn *kc, uint8_t *owned, uint32_t bytes)
{
    struct kafka_call *c = call_new(kc);
    c->worker = mqg_conn_worker(kc->conn);
    c->frame = owned;
    c->frame_bytes = owned != NULL ? bytes : 0;
    *kc->last = c;
    kc->last = &c->next;
    kc->waiting++;
    kc->held_bytes += c->frame_bytes;
    return c;
}

/* Small ones lie in the arena, where they cost no allocation. */
struct mqg_slice kafka_call_keep(struct kafka_call *c, struct mqg_slice frame)
{
    uint8_t *to = frame.len <= FRAME_IN_ARENA ? mqg_arena_alloc(&c->arena, frame.len) : NULL;
    if (to == NULL) {
        to = c->frame = mqg_xmalloc(frame.len);
        c->frame_bytes = (uint32_t)frame.len;
        c->conn->held_bytes += frame.len;
        /* without asking: bounded by what a connection may hold */
        atomic_fetch_add(&call_budget.used_bytes, (int64_t)frame.len);
    }
    memcpy(to, frame.ptr, frame.len);
    return mqg_slice_of(to, frame.len);
}

void *kafka_call_alloc(struct kafka_call *c, size_t n, size_t size)
{
    if (size != 0 && n > KAFKA_ARENA_BYTES / size)
        return NULL;
    return mqg_arena_alloc(&c->arena, n * size > 0 ? n * size : 1);
}

/* ---- answers -------------------------------------------------------------------------------------------------------------------- */

static void answer_encode(struct kafka_call *c, struct mqg_dynbuf *out)
{
    size_t at = out->len;
    mqg_dynbuf_be32(out, 0);
    kafka_response_head(out, kafka_responses[c->head.key], c->head.version, c->head.correlation_id);
    kafka_encode(kafka_responses[c->head.key], c->head.version, c->response, out);
    if (!out->failed)
        mqg_put_be32(out->ptr + at, (uint32_t)(out->len - at - 4));
}

/* At the head of the list: straight into the output. */
static void answer_write(struct kafka_conn *kc, struct kafka_call *c)
{
    if (c->write != NULL) {
        c->write(c);
    } else if (c->out.max != 0) {
        mqg_conn_write(kc->conn, mqg_dynbuf_view(&c->out));
    } else {
        if (call_scratch.max == 0)
            mqg_dynbuf_init(&call_scratch, KAFKA_ARENA_BYTES);
        mqg_dynbuf_reset(&call_scratch);
        answer_encode(c, &call_scratch);
        if (call_scratch.failed)
            kafka_conn_fail(kc, "an answer to api %d is too large", c->head.key);
        else
            mqg_conn_write(kc->conn, mqg_dynbuf_view(&call_scratch));
        if (call_scratch.cap > SCRATCH_KEEP) {
            mqg_dynbuf_fini(&call_scratch);
            call_scratch.max = 0;
        }
    }
}

static void calls_pop(struct kafka_conn *kc)
{
    struct kafka_call *c = kc->first;
    kc->first = c->next;
    if (kc->first == NULL)
        kc->last = &kc->first;
    kc->waiting--;
    kc->held_bytes -= c->frame_bytes + (c->out.max != 0 ? c->out.len : 0);
    if (c->api != NULL && c->api->flags & KAFKA_API_ALONE)
        kc->alone = false;
    call_release(c);
}

void kafka_calls_advance(struct kafka_conn *kc)
{
    while (kc->first != NULL && kc->first->state != CALL_BEGUN && kc->phase != KAFKA_CLOSED) {
        if (kc->first->state == CALL_READY)
            answer_write(kc, kc->first);
        if (kc->phase != KAFKA_CLOSED)
            calls_pop(kc);
    }
    if (kc->ending && kc->first == NULL && kc->phase != KAFKA_CLOSED) {
        kc->phase = KAFKA_CLOSED;
        mqg_conn_close(kc->conn);
    }
    kafka_conn_hold_update(kc);
}

void kafka_call_answer(struct kafka_call *c)
{
    struct kafka_conn *kc = c->conn;
    MQG_ASSERT(kc != NULL && c->state == CALL_BEGUN);
    if (c->write == NULL)
        c->gone = NULL;
    c->resume = c->timed = NULL;
    mqg_timer_cancel(&c->timer);
    c->state = CALL_READY;
    if (kc->phase == KAFKA_CLOSED)
        return; /* freed with the connection */
    if (c != kc->first && c->write == NULL) {
        mqg_dynbuf_init(&c->out, KAFKA_ARENA_BYTES);
        answer_encode(c, &c->out);
        if (c->out.failed) {
            kafka_conn_fail(kc, "an answer to api %d is too large", c->head.key);
            return;
        }
        kc->held_bytes += c->out.len;
    }
    kafka_calls_advance(kc);
}

void kafka_call_none(struct kafka_call *c)
{
    MQG_ASSERT(c->conn != NULL && c->state == CALL_BEGUN);
    c->gone = c->resume = c->timed = NULL;
    mqg_timer_cancel(&c->timer);
    c->state = CALL_SILENT;
    if (c->conn->phase != KAFKA_CLOSED)
        kafka_calls_advance(c->conn);
}

void kafka_call_drop(struct kafka_call *c, const char *why)
{
    struct kafka_conn *kc = c->conn;
    c->gone = c->resume = c->timed = NULL;
    c->state = CALL_SILENT;
    kafka_conn_fail(kc, "api %d version %d: %s", c->head.key, c->head.version, why);
}

/* ---- answers from elsewhere, and later ------------------------------------------------------------------------------------ */

static void call_task(struct mqg_task *t)
{
    struct kafka_call *c = MQG_CONTAINER_OF(t, struct kafka_call, task);
    atomic_store_explicit(&c->waking, false, memory_order_release);
    if (c->state == CALL_GONE)
        call_free(c);
    else if (c->resume != NULL)
        c->resume(c);
}

void kafka_call_wake(struct kafka_call *c)
{
    if (!atomic_exchange_explicit(&c->waking, true, memory_order_acq_rel))
        mqg_worker_post(c->worker, &c->task);
}

static void call_timer(struct mqg_timer *t)
{
    struct kafka_call *c = MQG_CONTAINER_OF(t, struct kafka_call, timer);
    if (c->timed != NULL)
        c->timed(c);
}

void kafka_call_timer(struct kafka_call *c, uint64_t ms, void (*fn)(struct kafka_call *c))
{
    c->timed = fn;
    if (fn != NULL)
        mqg_timer_in(&c->timer, ms);
    else
        mqg_timer_cancel(&c->timer);
}

/* ---- the connection's end -------------------------------------------------------------------------------------------------- */

void kafka_calls_drop(struct kafka_conn *kc)
{
    while (kc->first != NULL) {
        struct kafka_call *c = kc->first;
        void (*gone)(struct kafka_call *) = c->gone;
        kc->first = c->next;
        c->gone = c->resume = c->timed = NULL;
        if (gone != NULL)
            gone(c);
        call_release(c);
    }
}
