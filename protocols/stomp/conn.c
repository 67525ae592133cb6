/* conn.c - a STOMP connection: frames out of the input, heart-beats, ERROR, the end.
 *
 *   HEAD --SEND, content-length, body not all there--> BODY --> NUL --> HEAD
 *   HEAD --SEND, no content-length, no NUL in sight--> GATHER --------> HEAD
 *
 * A frame that is whole in the input is handled where it lies; that is nearly every one. A body with a length is copied into
 * its message piece by piece; one without must be gathered first, bounded, because a message's length must be known. Other
 * frames than SEND have no body that anybody reads: they must fit into the input.
 *
 * An ERROR is the last thing a client hears ("the server MUST then close", 1.2). Its receipt-id names the frame that was
 * being handled. */
#include "stomp.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- the end ------------------------------------------------------------------------------------------------------------ */

void stomp_end(struct stomp_conn *sc)
{
    sc->phase = STOMP_CLOSED;
    mqg_conn_close(sc->conn);
}

static void conn_error_frame(struct stomp_conn *sc, const char *message, struct mqg_slice detail)
{
    struct mqg_dynbuf out;
    mqg_dynbuf_init(&out, 65536);
    mqg_dynbuf_printf(&out, "ERROR\n");
    stomp_put_header(&out, sc->version, MQG_SLICE_LIT("message"), mqg_slice_str(message));
    if (sc->receipt.ptr != NULL)
        stomp_put_header(&out, sc->version, MQG_SLICE_LIT("receipt-id"), sc->receipt);
    mqg_dynbuf_printf(&out, "version:1.0,1.1,1.2\ncontent-type:text/plain\ncontent-length:%zu\n\n",
                      detail.len);
    mqg_dynbuf_slice(&out, detail);
    mqg_dynbuf_u8(&out, 0);
    if (!out.failed)
        mqg_conn_write(sc->conn, mqg_dynbuf_view(&out));
    mqg_dynbuf_fini(&out);
}

void stomp_fail(struct stomp_conn *sc, const char *message, const char *fmt, ...)
{
    if (sc->phase == STOMP_CLOSED)
        return;
    char text[1200];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text - 1, fmt, args);
    va_end(args);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof text - 1 ? (size_t)n : sizeof text - 2;
    text[len] = '\n';
    mqg_count(MQG_COUNT_PROTOCOL_ERRORS, 1);
    mqg_log(MQG_LOG_INFO, MQG_EVENT_PROTOCOL_ERROR, "conn=%llu message=%s text=%s",
            (unsigned long long)mqg_conn_info(sc->conn)->id, mqg_logqs(message),
            mqg_logq(mqg_slice_of(text, len)));
    conn_error_frame(sc, message, mqg_slice_of(text, len + 1));
    stomp_end(sc);
}

/* RabbitMQ's words for the router's faults: its adapter shows AMQP's names. */
void stomp_fail_router(struct stomp_conn *sc, const struct mqg_error *e)
{
    static const struct {
        enum mqg_err err;
        const char *message, *name;
    } rows[] = {
        {MQG_NOT_FOUND, "not_found", "NOT_FOUND"},
        {MQG_GONE, "not_found", "NOT_FOUND"},
        {MQG_DENIED, "access_refused", "ACCESS_REFUSED"},
        {MQG_UNAUTHENTICATED, "access_refused", "ACCESS_REFUSED"},
        {MQG_LOCKED, "resource_locked", "RESOURCE_LOCKED"},
        {MQG_NO_MEMORY, "resource_error", "RESOURCE_ERROR"},
        {MQG_NO_SPACE, "resource_error", "RESOURCE_ERROR"},
        {MQG_UNSUPPORTED, "not_implemented", "NOT_IMPLEMENTED"},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++)
        if (rows[i].err == e->err) {
            stomp_fail(sc, rows[i].message, "%s - %s", rows[i].name, e->text);
            return;
        }
    stomp_fail(sc, "precondition_failed", "PRECONDITION_FAILED - %s", e->text);
}

/* ---- values of the present frame ---------------------------------------------------------------------------------------- */

struct mqg_arena *stomp_arena(struct stomp_conn *sc)
{
    sc->arena_used = true;
    return &sc->arena;
}

bool stomp_value(struct stomp_conn *sc, const struct stomp_head *h, enum stomp_header_id id,
                 struct mqg_slice *out)
{
    *out = MQG_SLICE_NONE;
    if (!stomp_has(h, id))
        return true;
    *out = h->known[id];
    if (!h->escapes || stomp_unescape(h->known[id], sc->version, stomp_arena(sc), out) == MQG_OK)
        return true;
    stomp_fail(sc, "Invalid header", "the header %s has an escape that STOMP %s does not know",
               stomp_header_name(id), stomp_version_name(sc->version));
    return false;
}

/* ---- heart-beats -------------------------------------------------------------------------------------------------------- */

static void conn_timer(struct mqg_timer *t)
{
    struct stomp_conn *sc = MQG_CONTAINER_OF(t, struct stomp_conn, timer);
    if (sc->phase != STOMP_RUNNING)
        return;
    uint64_t quiet_ms = mqg_conn_worker(sc->conn)->now.mono_ms - mqg_conn_last_write_ms(sc->conn);
    uint64_t due_ms = sc->heart_out_ms * 4 / 5; /* before the other side's patience ends */
    if (quiet_ms >= due_ms) {
        mqg_conn_write(sc->conn, MQG_SLICE_LIT("\n"));
        quiet_ms = 0;
    }
    mqg_timer_in(t, due_ms > quiet_ms ? due_ms - quiet_ms : 1);
}

void stomp_heart_beats(struct stomp_conn *sc)
{
    mqg_conn_idle(sc->conn, sc->heart_in_ms * 2);
    if (sc->heart_out_ms > 0)
        mqg_timer_in(&sc->timer, sc->heart_out_ms * 4 / 5);
}

/* ---- frames ------------------------------------------------------------------------------------------------------------- */

/* Nothing is delivered any more once the client is told that it is out: another connection may take over what it had. */
static void conn_disconnect(struct stomp_conn *sc)
{
    stomp_txs_free(sc);
    stomp_subs_free(sc);
    stomp_settle_flush(sc);
    stomp_receipt_bye(sc, sc->receipt);
}

static void conn_frame_running(struct stomp_conn *sc, const struct stomp_head *h)
{
    switch (h->command) {
    case STOMP_SUBSCRIBE: stomp_subscribe(sc, h); break;
    case STOMP_UNSUBSCRIBE: stomp_unsubscribe(sc, h); break;
    case STOMP_ACK: stomp_ack(sc, h, false); break;
    case STOMP_NACK: stomp_ack(sc, h, true); break;
    case STOMP_BEGIN: stomp_begin(sc, h); break;
    case STOMP_COMMIT: stomp_commit(sc, h); break;
    case STOMP_ABORT: stomp_abort(sc, h); break;
    case STOMP_DISCONNECT: conn_disconnect(sc); break;
    case STOMP_CONNECT:
    case STOMP_STOMP: stomp_fail(sc, "Illegal command", "this connection is connected already"); break;
    default:
        stomp_fail(sc, "Bad command", "Could not interpret command \"%.*s\"", MQG_SLICE_FMT(h->command_text));
        break;
    }
}

/* May this frame be handled now? CONNECT first, or the default user's implicit one. */
static bool conn_may_run(struct stomp_conn *sc, const struct stomp_head *h)
{
    if (sc->phase == STOMP_RUNNING)
        return true;
    if (h->command == STOMP_UNKNOWN)
        stomp_fail(sc, "Bad command", "Could not interpret command \"%.*s\"", MQG_SLICE_FMT(h->command_text));
    else if (stomp_settings.implicit_connect)
        stomp_connect_implicit(sc);
    else
        stomp_fail(sc, "Illegal command", "You must log in using CONNECT first");
    return sc->phase == STOMP_RUNNING;
}

/* A whole frame but SEND. */
static void conn_frame(struct stomp_conn *sc, const struct stomp_head *h)
{
    bool connect = h->command == STOMP_CONNECT || h->command == STOMP_STOMP;
    if (sc->phase == STOMP_CONNECTING && connect) {
        stomp_connect(sc, h);
        return;
    }
    if (!conn_may_run(sc, h))
        return;
    if (h->command != STOMP_ACK && h->command != STOMP_NACK)
        stomp_settle_flush(sc);
    conn_frame_running(sc, h);
}

/* ---- bodies ------------------------------------------------------------------------------------------------------------- */

/* Length of the body if it is all there with its NUL; MORE if not yet; MALFORMED: no NUL where it must be. */
static enum mqg_err conn_body_end(const struct stomp_head *h, struct mqg_slice rest, bool has_len,
                                  uint64_t len, size_t *n)
{
    struct mqg_slice body = mqg_slice_of(rest.ptr + h->len, rest.len - h->len);
    if (has_len) {
        if (len >= body.len)
            return MQG_MORE;
        *n = (size_t)len;
        return body.ptr[len] == 0 ? MQG_OK : MQG_MALFORMED;
    }
    const uint8_t *nul = body.len > 0 ? memchr(body.ptr, 0, body.len) : NULL;
    *n = nul != NULL ? (size_t)(nul - body.ptr) : 0;
    return nul != NULL ? MQG_OK : MQG_MORE;
}

static void conn_too_large(struct stomp_conn *sc, uint64_t len)
{
    stomp_fail(sc, "Frame too large", "message size %llu is larger than configured max size %u",
               (unsigned long long)len, stomp_settings.body_max);
}

static void conn_send_whole(struct stomp_conn *sc, const struct stomp_head *h, struct mqg_slice body)
{
    if (!stomp_send_begin(sc, h, (uint32_t)body.len))
        return;
    if (body.len > 0)
        memcpy(sc->send.body_at, body.ptr, body.len);
    stomp_send_end(sc);
}

/* The body goes on beyond the input. Bytes used. */
static size_t conn_send_part(struct stomp_conn *sc, const struct stomp_head *h, struct mqg_slice rest,
                             bool has_len, uint64_t len)
{
    if (!has_len) {
        sc->in = STOMP_IN_GATHER;
        sc->gather_head = h->len;
        mqg_dynbuf_init(&sc->gather, (size_t)h->len + stomp_settings.body_max + 1);
        mqg_dynbuf_slice(&sc->gather, rest);
        return rest.len;
    }
    if (!stomp_send_begin(sc, h, (uint32_t)len))
        return rest.len;
    stomp_send_keep(sc);
    size_t n = rest.len - h->len;
    memcpy(sc->send.body_at, rest.ptr + h->len, n);
    sc->send.body_at += n;
    sc->send.body_left = len - n;
    sc->in = sc->send.body_left > 0 ? STOMP_IN_BODY : STOMP_IN_NUL;
    return rest.len;
}

static bool conn_content_length(struct stomp_conn *sc, const struct stomp_head *h, bool *has, uint64_t *len)
{
    *has = stomp_has(h, STOMP_H_CONTENT_LENGTH);
    *len = 0;
    if (!*has)
        return true;
    struct mqg_slice text = h->known[STOMP_H_CONTENT_LENGTH];
    while (text.len > 0 && text.ptr[text.len - 1] == ' ')
        text.len--;
    while (text.len > 0 && text.ptr[0] == ' ')
        text = mqg_slice_of(text.ptr + 1, text.len - 1);
    if (!stomp_number(text, UINT64_MAX, len)) {
        stomp_fail(sc, "Invalid header", "content-length must be a number of bytes, this is '%.*s'",
                   MQG_SLICE_FMT(text));
        return false;
    }
    if (*len > stomp_settings.body_max) {
        conn_too_large(sc, *len);
        return false;
    }
    return true;
}

/* Bytes used of `rest`, which begins with the header block; 0: more must come. */
static size_t conn_head(struct stomp_conn *sc, const struct stomp_head *h, struct mqg_slice rest)
{
    bool has_len;
    uint64_t len;
    size_t n;
    if (!stomp_value(sc, h, STOMP_H_RECEIPT, &sc->receipt) || !conn_content_length(sc, h, &has_len, &len))
        return rest.len;
    enum mqg_err err = conn_body_end(h, rest, has_len, len, &n);
    if (err == MQG_MALFORMED) {
        stomp_fail(sc, "Invalid frame", "no NUL behind a body of content-length %llu",
                   (unsigned long long)len);
        return rest.len;
    }
    if (h->command == STOMP_SEND && !conn_may_run(sc, h))
        return rest.len;
    if (err == MQG_OK) {
        if (n > stomp_settings.body_max)
            conn_too_large(sc, n);
        else if (h->command == STOMP_SEND)
            conn_send_whole(sc, h, mqg_slice_of(rest.ptr + h->len, n));
        else
            conn_frame(sc, h);
        return h->len + n + 1;
    }
    if (h->command == STOMP_SEND)
        return conn_send_part(sc, h, rest, has_len, len);
    if (len >= STOMP_INPUT_BYTES / 2 ||
        rest.len >= (sc->phase == STOMP_RUNNING ? STOMP_INPUT_BYTES : 16384u)) {
        stomp_fail(sc, "Frame too large", "a %.*s frame has no body to speak of",
                   MQG_SLICE_FMT(h->command_text));
        return rest.len;
    }
    return 0;
}

static uint32_t conn_head_max(const struct stomp_conn *sc)
{
    return sc->phase == STOMP_RUNNING || stomp_settings.head_max < STOMP_LOGIN_HEAD_MAX
               ? stomp_settings.head_max
               : STOMP_LOGIN_HEAD_MAX;
}

/* The present frame is over. */
static void conn_frame_done(struct stomp_conn *sc)
{
    sc->receipt = MQG_SLICE_NONE;
    if (sc->arena_used)
        mqg_arena_reset(&sc->arena);
    sc->arena_used = false;
}

static bool conn_head_read(struct stomp_conn *sc, struct mqg_slice block, struct stomp_head *h)
{
    struct mqg_error e;
    h->max = stomp_settings.headers_max;
    enum mqg_err err = stomp_head_read(block, h, &e);
    if (err != MQG_OK)
        stomp_fail(sc, err == MQG_TOO_LARGE ? "Frame too large" : "Invalid frame", "%s", e.text);
    return err == MQG_OK;
}

/* A frame that begins here; bytes used, 0: more must come. */
static size_t conn_input_head(struct stomp_conn *sc, struct mqg_slice rest)
{
    struct stomp_line lines[STOMP_HEADERS_LIMIT];
    struct stomp_head h;
    size_t len = 0;
    enum mqg_err err = stomp_head_end(rest, &sc->scanned, &len);
    if (err == MQG_MALFORMED) {
        stomp_fail(sc, "Invalid frame", "a NUL among the headers: an empty line must end them");
        return rest.len;
    }
    if ((err == MQG_MORE ? rest.len : len) > conn_head_max(sc)) {
        stomp_fail(sc, "Frame too large", "the headers are larger than %u bytes", conn_head_max(sc));
        return rest.len;
    }
    if (err == MQG_MORE)
        return 0;
    h.lines = lines;
    if (!conn_head_read(sc, mqg_slice_of(rest.ptr, len), &h))
        return rest.len;
    size_t used = conn_head(sc, &h, rest);
    conn_frame_done(sc);
    return used;
}

/* A body without a length goes on; up to its NUL. */
static size_t conn_input_gather(struct stomp_conn *sc, struct mqg_slice rest)
{
    const uint8_t *nul = memchr(rest.ptr, 0, rest.len);
    size_t n = nul != NULL ? (size_t)(nul - rest.ptr) : rest.len;
    if (!mqg_dynbuf_put(&sc->gather, rest.ptr, n)) {
        conn_too_large(sc, sc->gather.len - sc->gather_head + n);
        return rest.len;
    }
    if (nul == NULL)
        return n;
    struct stomp_line lines[STOMP_HEADERS_LIMIT];
    struct stomp_head h = {.lines = lines};
    struct mqg_slice all = mqg_dynbuf_view(&sc->gather);
    sc->in = STOMP_IN_HEAD;
    if (conn_head_read(sc, mqg_slice_of(all.ptr, sc->gather_head), &h) &&
        stomp_value(sc, &h, STOMP_H_RECEIPT, &sc->receipt))
        conn_send_whole(sc, &h, mqg_slice_of(all.ptr + sc->gather_head, all.len - sc->gather_head));
    conn_frame_done(sc);
    mqg_dynbuf_fini(&sc->gather);
    return n + 1;
}

static size_t conn_input_body(struct stomp_conn *sc, struct mqg_slice rest)
{
    size_t n = rest.len < sc->send.body_left ? rest.len : (size_t)sc->send.body_left;
    memcpy(sc->send.body_at, rest.ptr, n);
    sc->send.body_at += n;
    sc->send.body_left -= n;
    if (sc->send.body_left == 0)
        sc->in = STOMP_IN_NUL;
    return n;
}

static size_t conn_input_nul(struct stomp_conn *sc, struct mqg_slice rest)
{
    sc->in = STOMP_IN_HEAD;
    sc->receipt = sc->send.receipt;
    if (rest.ptr[0] != 0)
        stomp_fail(sc, "Invalid frame", "no NUL behind the body");
    else
        stomp_send_end(sc);
    conn_frame_done(sc);
    return 1;
}

static size_t conn_input_some(struct stomp_conn *sc, struct mqg_slice rest)
{
    switch (sc->in) {
    case STOMP_IN_BODY: return conn_input_body(sc, rest);
    case STOMP_IN_NUL: return conn_input_nul(sc, rest);
    case STOMP_IN_GATHER: return conn_input_gather(sc, rest);
    case STOMP_IN_HEAD: break;
    }
    size_t eols = sc->scanned == 0 ? stomp_eols(rest) : 0;
    if (eols > 0)
        return eols;
    size_t used = conn_input_head(sc, rest);
    if (used > 0)
        sc->scanned = 0;
    return used;
}

size_t stomp_conn_input(struct mqg_conn *c, struct mqg_slice in, struct mqg_error *e)
{
    struct stomp_conn *sc = mqg_conn_state(c);
    (void)e; /* faults are answered in the protocol's way */
    size_t used = 0;
    while (used < in.len && sc->phase != STOMP_CLOSED && !sc->receipts.paused) {
        size_t n = conn_input_some(sc, mqg_slice_of(in.ptr + used, in.len - used));
        if (n == 0)
            break;
        used += n;
    }
    if (sc->settle != NULL)
        stomp_settle_flush(sc);
    return sc->phase == STOMP_CLOSED ? in.len : used;
}

/* ---- the host's other calls --------------------------------------------------------------------------------------------- */

enum mqg_err stomp_conn_init(struct mqg_conn *c)
{
    struct stomp_conn *sc = mqg_conn_state(c);
    sc->conn = c;
    sc->tag_first = sc->tag_next = 1;
    mqg_timer_init(&sc->timer, conn_timer);
    mqg_arena_init(&sc->arena, STOMP_ARENA_BYTES);
    mqg_map_init(&sc->subs, MQG_MAP_BORROW);
    mqg_map_init(&sc->made, MQG_MAP_COPY);
    mqg_dynbuf_init(&sc->origin, (size_t)stomp_settings.head_max * 2 + 1024);
    mqg_dynbuf_init(&sc->last_dest, 8192);
    mqg_dynbuf_init(&sc->last_mean, 8192);
    mqg_dynbuf_init(&sc->receipts.text, 64u << 20);
    return MQG_OK;
}

void stomp_conn_fini(struct mqg_conn *c)
{
    struct stomp_conn *sc = mqg_conn_state(c);
    stomp_settle_flush(sc);
    stomp_send_drop(sc);
    stomp_txs_free(sc);
    stomp_receipts_fini(sc);
    stomp_subs_free(sc);
    stomp_settle_flush(sc);
    mqg_timer_cancel(&sc->timer);
    if (sc->pub.state != NULL)
        mqg_pub_fini(&sc->pub);
    if (sc->session != NULL) {
        if (sc->session->vhost != NULL)
            mqg_conn_gone(sc->session);
        mqg_session_unref(&sc->session);
    }
    if (sc->in == STOMP_IN_GATHER)
        mqg_dynbuf_fini(&sc->gather);
    mqg_dynbuf_fini(&sc->origin);
    mqg_dynbuf_fini(&sc->last_dest);
    mqg_dynbuf_fini(&sc->last_mean);
    mqg_arena_fini(&sc->arena);
    mqg_map_fini(&sc->made);
    free(sc->unacked);
    free(sc->settle);
}

void stomp_conn_event(struct mqg_conn *c, enum mqg_conn_event ev, struct mqg_slice text)
{
    struct stomp_conn *sc = mqg_conn_state(c);
    switch (ev) {
    case MQG_EV_WRITABLE: stomp_subs_kick(sc); break;
    case MQG_EV_DRAINING: stomp_fail(sc, "Server shutdown", "the server stops"); break;
    case MQG_EV_KILL:
        stomp_fail(sc, "Connection closed", "closed by the operator: %.*s", MQG_SLICE_FMT(text));
        break;
    case MQG_EV_BLOCKED:
    case MQG_EV_UNBLOCKED:
    case MQG_EV_AUTH_CHANGED:
    case MQG_EV_STORE_DOWN: break;
    }
}
