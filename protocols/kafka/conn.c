/* conn.c - a Kafka connection: frames out of the input, when reading stops, the end.
 *
 * A frame that is whole in the input is handled where it lies; a larger one is gathered in a buffer of its own, for which the
 * node's budget of requests is asked first: a client that announces a hundred megabytes gets no memory by that, and while others
 * use the budget up, it is not read.
 *
 * Too many requests that wait, or too many bytes of them, stop the reading, and so do answers that the client does not take: the
 * socket then says to it what it needs to know. Requests and answers themselves are call.c's. */
#include "kafka_int.h"
#include "sasl.h"

#include <stdio.h>

enum { CALLS_MAX = 1024, HELD_MAX = 32 << 20, FRAME_WHOLE = 65536 };
enum { BUDGET_RETRY_MS = 10, INPUT_BYTES = 131072, FRAME_STARTING_MAX = 1 << 20 };

/* ---- holding the reading -------------------------------------------------------------------------------------------------- */

static bool conn_is_busy(const struct kafka_conn *kc)
{
    return kc->alone || kc->muted || kc->starved || kc->waiting >= CALLS_MAX || kc->held_bytes > HELD_MAX ||
           mqg_conn_out_full(kc->conn);
}

void kafka_conn_hold_update(struct kafka_conn *kc)
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
    kafka_conn_hold_update(kc);
}

void kafka_conn_mute(struct kafka_conn *kc, uint32_t ms)
{
    if (ms == 0 || kc->phase == KAFKA_CLOSED)
        return;
    kc->muted = true;
    mqg_timer_in(&kc->mute, ms);
    kafka_conn_hold_update(kc);
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
    kc->frame = kafka_frame_new(len);
    if (kc->frame == NULL) {
        kc->starved = true;
        mqg_timer_in(&kc->mute, BUDGET_RETRY_MS);
        return false;
    }
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
    kafka_conn_hold_update(kc);
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
        kafka_calls_advance(kc);
}

void kafka_conn_event(struct mqg_conn *c, enum mqg_conn_event ev, struct mqg_slice text)
{
    (void)text;
    struct kafka_conn *kc = mqg_conn_state(c);
    if (ev == MQG_EV_WRITABLE)
        kafka_conn_hold_update(kc);
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
    kafka_calls_drop(kc);
    for (size_t i = 0; kafka_parts[i] != NULL; i++)
        if (kafka_parts[i]->conn_fini != NULL)
            kafka_parts[i]->conn_fini(kc);
    kafka_topics_free(kc);
    kafka_frame_free(kc->frame, kc->frame_len);
    if (kc->client_id.max != 0)
        mqg_dynbuf_fini(&kc->client_id);
    mqg_session_unref(&kc->session);
}

void kafka_conns_worker_stop(struct mqg_worker *w)
{
    (void)w;
    kafka_produce_worker_stop();
    kafka_fetch_worker_stop();
    kafka_calls_worker_stop();
}
