/* conn.c - a Kafka connection: frames out of the input, answers in the order of requests, the end.
 *
 * A frame that is whole in the input is handled where it lies; a larger one is gathered in a buffer of its own, for which the
 * node's budget of requests is asked first: a client that announces a hundred megabytes gets no memory by that, and while others
 * use the budget up, it is not read.
 *
 * Requests wait in a list in the order in which they came. Who is ready at the head of the list writes into the connection's
 * output at once; an answer that is ready before its turn is encoded and kept. Too many that wait, or too many bytes of them,
 * stop the reading, and so do answers that the client does not take: the socket then says to it what it needs to know.
 *
 * Requests are taken from the worker's pool and go back to it with their arena's first block, so that a connection in its
 * steady state allocates nothing. */
#include "kafka_int.h"
#include "sasl.h"

#include <stdio.h>
#include <stdlib.h>

enum { CALLS_KEPT = 64, CALLS_MAX = 1024, HELD_MAX = 32 << 20, FRAME_WHOLE = 65536, SCRATCH_KEEP = 1 << 20 };
enum { FRAME_IN_ARENA = 2048 };
enum { BUDGET_RETRY_MS = 10, INPUT_BYTES = 131072, FRAME_STARTING_MAX = 1 << 20 };

enum call_state { CALL_BEGUN, CALL_READY, CALL_SILENT, CALL_GONE };

static _Thread_local struct kafka_call *conn_pool;
static _Thread_local uint32_t conn_pool_n;
static _Thread_local struct mqg_dynbuf conn_scratch;
static struct mqg_budget conn_budget;

/* ---- the pool of requests ------------------------------------------------------------------------------------------------- */

static void call_task(struct mqg_task *t);
static void call_timer(struct mqg_timer *t);

static struct kafka_call *call_new(struct kafka_conn *kc)
{
    struct kafka_call *c = conn_pool;
    struct mqg_arena arena;
    if (c != NULL) {
        conn_pool = c->next;
        conn_pool_n--;
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
    if (conn_pool_n >= CALLS_KEPT) {
        mqg_arena_fini(&c->arena);
        free(c);
        return;
    }
    mqg_arena_reset(&c->arena);
    c->next = conn_pool;
    conn_pool = c;
    conn_pool_n++;
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

void kafka_conns_worker_stop(struct mqg_worker *w)
{
    (void)w;
    kafka_produce_worker_stop();
    kafka_fetch_worker_stop();
    while (conn_pool != NULL) {
        struct kafka_call *c = conn_pool;
        conn_pool = c->next;
        mqg_arena_fini(&c->arena);
        free(c);
    }
    conn_pool_n = CALLS_KEPT; /* connections that end after this give nothing back to it */
    if (conn_scratch.max != 0)
        mqg_dynbuf_fini(&conn_scratch);
}

void kafka_conns_load(int64_t budget_bytes)
{
    conn_budget.limit_bytes = budget_bytes;
}

/* ---- holding the reading -------------------------------------------------------------------------------------------------- */

static bool conn_is_busy(const struct kafka_conn *kc)
{
    return kc->alone || kc->muted || kc->starved || kc->waiting >= CALLS_MAX || kc->held_bytes > HELD_MAX ||
           mqg_conn_out_full(kc->conn);
}

/* Inside the input only the loop's end says it to the host. */
static void conn_hold_update(struct kafka_conn *kc)
{
    bool hold = conn_is_busy(kc);
    if (kc->in_input || kc->phase == KAFKA_CLOSED || hold == kc->paused)
        return;
    kc->paused = hold;
    mqg_conn_pause(kc->conn, MQG_PAUSE_HANDLER, hold);
}

static void conn_mute_over(struct mqg_timer *t)
{
    struct kafka_conn *kc = MQG_CONTAINER_OF(t, struct kafka_conn, mute);
    kc->muted = kc->starved = false;
    conn_hold_update(kc);
}

void kafka_conn_mute(struct kafka_conn *kc, uint32_t ms)
{
    if (ms == 0 || kc->phase == KAFKA_CLOSED)
        return;
    kc->muted = true;
    mqg_timer_in(&kc->mute, ms);
    conn_hold_update(kc);
}

/* ---- answers -------------------------------------------------------------------------------------------------------------- */

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
        if (conn_scratch.max == 0)
            mqg_dynbuf_init(&conn_scratch, KAFKA_ARENA_BYTES);
        mqg_dynbuf_reset(&conn_scratch);
        answer_encode(c, &conn_scratch);
        if (conn_scratch.failed)
            kafka_conn_fail(kc, "an answer to api %d is too large", c->head.key);
        else
            mqg_conn_write(kc->conn, mqg_dynbuf_view(&conn_scratch));
        if (conn_scratch.cap > SCRATCH_KEEP) {
            mqg_dynbuf_fini(&conn_scratch);
            conn_scratch.max = 0;
        }
    }
}

static void conn_pop(struct kafka_conn *kc)
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

/* Everything at the head that is ready leaves. */
static void conn_advance(struct kafka_conn *kc)
{
    while (kc->first != NULL && kc->first->state != CALL_BEGUN && kc->phase != KAFKA_CLOSED) {
        if (kc->first->state == CALL_READY)
            answer_write(kc, kc->first);
        if (kc->phase != KAFKA_CLOSED)
            conn_pop(kc);
    }
    if (kc->ending && kc->first == NULL && kc->phase != KAFKA_CLOSED) {
        kc->phase = KAFKA_CLOSED;
        mqg_conn_close(kc->conn);
    }
    conn_hold_update(kc);
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
    conn_advance(kc);
}

void kafka_call_none(struct kafka_call *c)
{
    MQG_ASSERT(c->conn != NULL && c->state == CALL_BEGUN);
    c->gone = c->resume = c->timed = NULL;
    mqg_timer_cancel(&c->timer);
    c->state = CALL_SILENT;
    if (c->conn->phase != KAFKA_CLOSED)
        conn_advance(c->conn);
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

void *kafka_call_alloc(struct kafka_call *c, size_t n, size_t size)
{
    if (size != 0 && n > KAFKA_ARENA_BYTES / size)
        return NULL;
    return mqg_arena_alloc(&c->arena, n * size > 0 ? n * size : 1);
}

/* ---- requests ------------------------------------------------------------------------------------------------------------- */

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
        atomic_fetch_add(&conn_budget.used_bytes, (int64_t)frame.len); /* bounded by HELD_MAX */
    }
    memcpy(to, frame.ptr, frame.len);
    return mqg_slice_of(to, frame.len);
}

void kafka_frame_free(uint8_t *owned, size_t bytes)
{
    if (owned != NULL)
        mqg_budget_give(&conn_budget, bytes);
    free(owned);
}

/* ---- frames --------------------------------------------------------------------------------------------------------------- */

static void conn_gather_end(struct kafka_conn *kc)
{
    uint8_t *frame = kc->frame;
    kc->frame = NULL;
    kafka_request(kc, mqg_slice_of(frame, kc->frame_len), frame);
}

/* Begins to gather; false: no budget now, the reading stops for a moment. */
static bool conn_gather(struct kafka_conn *kc, uint32_t len)
{
    if (!mqg_budget_take(&conn_budget, len)) {
        kc->starved = true;
        mqg_timer_in(&kc->mute, BUDGET_RETRY_MS);
        return false;
    }
    kc->frame = mqg_xmalloc(len);
    kc->frame_len = len;
    kc->frame_at = 0;
    return true;
}

static size_t conn_gather_more(struct kafka_conn *kc, struct mqg_slice in)
{
    size_t n = kc->frame_len - kc->frame_at;
    n = n < in.len ? n : in.len;
    memcpy(kc->frame + kc->frame_at, in.ptr, n);
    kc->frame_at += (uint32_t)n;
    if (kc->frame_at == kc->frame_len)
        conn_gather_end(kc);
    return n;
}

/* One step; 0: more must come, or the reading has to stop. */
static size_t conn_step(struct kafka_conn *kc, struct mqg_slice in)
{
    if (kc->frame != NULL)
        return conn_gather_more(kc, in);
    if (in.len < 4)
        return 0;
    uint32_t len = mqg_be32(in.ptr);
    uint32_t max = kc->phase == KAFKA_RUNNING || kafka_settings.request_max_bytes < FRAME_STARTING_MAX
                       ? kafka_settings.request_max_bytes
                       : FRAME_STARTING_MAX;
    if ((len < 8 && !kafka_sasl_is_raw(kc)) || len > max) {
        kafka_conn_fail(kc, "a request of %u bytes: 8 to %u are taken", len, max);
        return 0;
    }
    if (in.len - 4 >= len) {
        kafka_request(kc, mqg_slice_of(in.ptr + 4, len), NULL);
        return 4 + (size_t)len;
    }
    return len <= FRAME_WHOLE - 4 ? 0 : conn_gather(kc, len) ? 4 : 0;
}

size_t kafka_conn_input(struct mqg_conn *c, struct mqg_slice in, struct mqg_error *e)
{
    (void)e;
    struct kafka_conn *kc = mqg_conn_state(c);
    size_t used = 0;
    kc->in_input = true;
    while (used < in.len && kc->phase != KAFKA_CLOSED && !conn_is_busy(kc)) {
        size_t n = conn_step(kc, mqg_slice_of(in.ptr + used, in.len - used));
        used += n;
        if (n == 0)
            break;
    }
    kc->in_input = false;
    if (kc->phase == KAFKA_CLOSED)
        return in.len;
    conn_hold_update(kc);
    return used;
}

/* ---- begin and end -------------------------------------------------------------------------------------------------------- */

enum mqg_err kafka_conn_init(struct mqg_conn *c)
{
    struct kafka_conn *kc = mqg_conn_state(c);
    kc->conn = c;
    kc->last = &kc->first;
    mqg_timer_init(&kc->mute, conn_mute_over);
    mqg_conn_input_max(c, INPUT_BYTES);
    return MQG_OK;
}

void kafka_conn_fail(struct kafka_conn *kc, const char *fmt, ...)
{
    if (kc->phase == KAFKA_CLOSED)
        return;
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    mqg_count(MQG_COUNT_PROTOCOL_ERRORS, 1);
    mqg_log(MQG_LOG_INFO, MQG_EVENT_PROTOCOL_ERROR, "conn=%llu text=%s",
            (unsigned long long)mqg_conn_info(kc->conn)->id, mqg_logqs(text));
    kc->phase = KAFKA_CLOSED;
    mqg_conn_close(kc->conn);
}

void kafka_conn_end(struct kafka_conn *kc)
{
    kc->ending = true;
    if (kc->phase != KAFKA_CLOSED)
        conn_advance(kc);
}

void kafka_conn_event(struct mqg_conn *c, enum mqg_conn_event ev, struct mqg_slice text)
{
    (void)text;
    struct kafka_conn *kc = mqg_conn_state(c);
    if (ev == MQG_EV_WRITABLE)
        conn_hold_update(kc);
    if (kc->phase == KAFKA_CLOSED || (ev != MQG_EV_DRAINING && ev != MQG_EV_KILL))
        return;
    kc->phase = KAFKA_CLOSED; /* the protocol has no goodbye */
    mqg_conn_close(c);
}

void kafka_conn_fini(struct mqg_conn *c)
{
    struct kafka_conn *kc = mqg_conn_state(c);
    kc->phase = KAFKA_CLOSED;
    mqg_timer_cancel(&kc->mute);
    while (kc->first != NULL) {
        struct kafka_call *call = kc->first;
        void (*gone)(struct kafka_call *) = call->gone;
        kc->first = call->next;
        call->gone = call->resume = call->timed = NULL;
        if (gone != NULL)
            gone(call);
        call_release(call);
    }
    for (size_t i = 0; kafka_parts[i] != NULL; i++)
        if (kafka_parts[i]->conn_fini != NULL)
            kafka_parts[i]->conn_fini(kc);
    kafka_topics_free(kc);
    kafka_frame_free(kc->frame, kc->frame_len);
    if (kc->client_id.max != 0)
        mqg_dynbuf_fini(&kc->client_id);
    mqg_session_unref(&kc->session);
}
