/* ws.c - WebSocket (RFC 6455) as a filter: HTTP upgrade, then messages, whose payload is all that the handler sees.
 *
 * To a handler a WebSocket is a stream of bytes: where messages and frames begin says nothing (MQTT 5.0, 6.0; STOMP says
 * nothing of it). So no message is ever gathered. A read takes raw bytes into the caller's own buffer, and the payload is
 * put back over them: it is never longer than what it came from. wslay keeps the rules (masks, opcodes, fragments, UTF-8 of
 * text, control frames) and queues pongs and closes.
 *
 * What leaves in one write is one message of one frame: ten bytes of header before the connection's own chain, which is not
 * copied. Once a header has gone out its frame must be filled, so `frame_left` is remembered; control frames go between
 * frames. A text message must be UTF-8 (8.1): it ends before a character that is not whole yet, and bytes that are no UTF-8
 * leave as a binary message, because a browser drops the connection otherwise.
 *
 * Bounded: 8 KiB of request, 16 KiB of answers to pings that the peer does not read. */
#include "ws.h"

#include <mqgate/protocol.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <wslay/wslay.h>

enum {
    WS_IOV_MAX = 64,            /* what the filters below take */
    WS_FRAME_BYTES = 1 << 20,   /* payload of one frame of ours, at most */
    WS_CONTROL_BYTES = 16 << 10 /* control frames that the peer does not take */
};

enum ws_state { WS_REQUEST, WS_ANSWERING, WS_OPEN, WS_REFUSED };

struct ws_filter {
    struct io_filter filter;
    const struct io_ws_rules *rules;
    enum ws_state state;
    wslay_event_context_ptr events;
    struct io_ws_upgrade *upgrade; /* while it is answered */
    const char *protocol;
    bool text;    /* kind of our messages: the client's last one */
    bool control; /* the frame being read is none of data */
    bool ended;   /* a close frame, or a fault: nothing more is read */
    bool faulty;  /* by what wslay calls a fault of framing, and says without a code */
    bool broken;

    uint8_t *request; /* what came before the handshake was over */
    size_t request_len, request_at;
    struct mqg_dynbuf out; /* HTTP answer, control frames */
    size_t out_at;
    uint8_t head[10]; /* of the frame being written */
    size_t head_len, head_at;
    uint64_t frame_left;

    const uint8_t *raw; /* during a read */
    size_t raw_len, raw_at;
    uint8_t *to;
    size_t got;
};

static struct ws_filter *ws_of(struct io_filter *f)
{
    return MQG_CONTAINER_OF(f, struct ws_filter, filter);
}

static ssize_t ws_fail(int error)
{
    errno = error;
    return -1;
}

/* ---- what goes between frames ------------------------------------------------------------------------------------------ */

/* True when nothing is left of it. Else errno says why. */
static bool ws_out_flush(struct ws_filter *w)
{
    w->filter.wants_write = false;
    while (w->out_at < w->out.len) {
        struct iovec iov = {w->out.ptr + w->out_at, w->out.len - w->out_at};
        ssize_t n = io_filter_writev(w->filter.below, &iov, 1);
        if (n <= 0) {
            if (n == 0)
                errno = EAGAIN;
            w->filter.wants_write = errno == EAGAIN || errno == EINTR;
            return false;
        }
        w->out_at += (size_t)n;
    }
    mqg_dynbuf_fini(&w->out);
    mqg_dynbuf_init(&w->out, WS_CONTROL_BYTES);
    w->out_at = 0;
    return true;
}

static ssize_t ws_on_send(wslay_event_context_ptr events, const uint8_t *data, size_t len, int flags,
                          void *arg)
{
    (void)events;
    (void)flags;
    struct ws_filter *w = arg;
    if (mqg_dynbuf_put(&w->out, data, len))
        return (ssize_t)len;
    w->broken = true; /* pings without end, and no answer of ours is read */
    wslay_event_set_error(w->events, WSLAY_ERR_CALLBACK_FAILURE);
    return -1;
}

/* Pongs leave at once if they can; a close waits for the end (ws_shutdown), so that no data follows it. */
static void ws_say(struct ws_filter *w)
{
    if (!w->ended && wslay_event_want_write(w->events))
        w->broken |= wslay_event_send(w->events) != 0;
    if (w->frame_left == 0 && w->out.len > 0 && !ws_out_flush(w) && errno != EAGAIN && errno != EINTR)
        w->broken = true;
}

/* ---- reading -------------------------------------------------------------------------------------------------------------- */

static ssize_t ws_on_recv(wslay_event_context_ptr events, uint8_t *buf, size_t len, int flags, void *arg)
{
    (void)flags;
    struct ws_filter *w = arg;
    size_t n = w->raw_len - w->raw_at;
    if (n == 0) {
        wslay_event_set_error(events, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    if (n > len)
        n = len;
    memcpy(buf, w->raw + w->raw_at, n);
    w->raw_at += n;
    return (ssize_t)n;
}

static void ws_refuse_text(struct ws_filter *w)
{
    wslay_event_shutdown_read(w->events);
    (void)wslay_event_queue_close(w->events, WSLAY_CODE_UNSUPPORTED_DATA, NULL, 0);
    w->control = true; /* its payload goes nowhere */
}

static void ws_on_frame(wslay_event_context_ptr events,
                        const struct wslay_event_on_frame_recv_start_arg *frame, void *arg)
{
    (void)events;
    struct ws_filter *w = arg;
    w->control = wslay_is_ctrl_frame(frame->opcode);
    if (frame->opcode == WSLAY_TEXT_FRAME && !w->rules->text)
        ws_refuse_text(w);
    else if (frame->opcode == WSLAY_TEXT_FRAME || frame->opcode == WSLAY_BINARY_FRAME)
        w->text = frame->opcode == WSLAY_TEXT_FRAME;
}

static void ws_on_payload(wslay_event_context_ptr events,
                          const struct wslay_event_on_frame_recv_chunk_arg *chunk, void *arg)
{
    (void)events;
    struct ws_filter *w = arg;
    if (w->control)
        return;
    MQG_ASSERT(w->got + chunk->data_length <= w->raw_at); /* over bytes already taken */
    memcpy(w->to + w->got, chunk->data, chunk->data_length);
    w->got += chunk->data_length;
}

static ssize_t ws_read_raw(struct ws_filter *w, void *buf, size_t n)
{
    size_t left = w->request_len - w->request_at;
    if (left == 0)
        return io_filter_read(w->filter.below, buf, n);
    if (left > n)
        left = n;
    memcpy(buf, w->request + w->request_at, left);
    w->request_at += left;
    if (w->request_at == w->request_len) {
        free(w->request);
        w->request = NULL;
        w->request_len = w->request_at = 0;
    }
    return (ssize_t)left;
}

static ssize_t ws_read(struct io_filter *f, void *buf, size_t n)
{
    struct ws_filter *w = ws_of(f);
    if (w->ended)
        return 0;
    ssize_t raw = ws_read_raw(w, buf, n);
    int error = errno;
    if (raw <= 0) {
        if (raw < 0 && (error == EAGAIN || error == EINTR))
            ws_say(w);
        return raw < 0 ? ws_fail(w->broken ? EPROTO : error) : 0;
    }
    w->raw = w->to = buf;
    w->raw_len = (size_t)raw;
    w->raw_at = w->got = 0;
    w->faulty = wslay_event_recv(w->events) != 0;
    w->ended = w->faulty || !wslay_event_get_read_enabled(w->events) ||
               wslay_event_get_close_received(w->events);
    ws_say(w);
    if (w->broken)
        return ws_fail(EPROTO);
    if (w->got > 0)
        return (ssize_t)w->got;
    return w->ended ? 0 : ws_fail(EAGAIN);
}

static bool ws_pending(const struct io_filter *f)
{
    const struct ws_filter *w = (const struct ws_filter *)(const void *)f;
    return w->state == WS_OPEN && (w->request_at < w->request_len || w->ended);
}

/* ---- UTF-8 of what leaves ---------------------------------------------------------------------------------------------------- */

struct ws_utf8 {
    size_t whole; /* bytes up to the last character that is all there */
    size_t len;
    uint8_t left; /* bytes that the present character still needs */
    uint8_t low, high;
};

/* The first byte of a character; false when none begins with it (RFC 3629, 4). */
static bool ws_utf8_first(struct ws_utf8 *u, uint8_t c)
{
    u->low = 0x80;
    u->high = 0xbf;
    if (c < 0x80)
        u->left = 0;
    else if (c >= 0xc2 && c <= 0xdf)
        u->left = 1;
    else if (c >= 0xe0 && c <= 0xef)
        u->left = 2;
    else if (c >= 0xf0 && c <= 0xf4)
        u->left = 3;
    else
        return false;
    if (c == 0xe0)
        u->low = 0xa0;
    else if (c == 0xed)
        u->high = 0x9f;
    else if (c == 0xf0)
        u->low = 0x90;
    else if (c == 0xf4)
        u->high = 0x8f;
    return true;
}

static bool ws_utf8_feed(struct ws_utf8 *u, const uint8_t *p, size_t n)
{
    size_t i = 0;
    while (i < n) {
        uint64_t eight;
        if (u->left == 0 && n - i >= 8 && (memcpy(&eight, p + i, 8), (eight & 0x8080808080808080u) == 0)) {
            i += 8;
            u->len += 8;
            u->whole = u->len;
            continue;
        }
        if (u->left == 0) {
            if (!ws_utf8_first(u, p[i]))
                return false;
        } else {
            if (p[i] < u->low || p[i] > u->high)
                return false;
            u->low = 0x80;
            u->high = 0xbf;
            u->left--;
        }
        i++;
        u->len++;
        if (u->left == 0)
            u->whole = u->len;
    }
    return true;
}

/* ---- writing -------------------------------------------------------------------------------------------------------------------- */

/* How much of these goes into the next message, and whether it may be text. */
static uint64_t ws_frame_measure(const struct ws_filter *w, const struct iovec *iov, int n, bool *text)
{
    struct ws_utf8 u = {.len = 0};
    uint64_t total = 0;
    *text = w->text;
    for (int i = 0; i < n && total < WS_FRAME_BYTES; i++) {
        size_t take = iov[i].iov_len;
        if (take > WS_FRAME_BYTES - total)
            take = (size_t)(WS_FRAME_BYTES - total);
        if (*text)
            *text = ws_utf8_feed(&u, iov[i].iov_base, take);
        total += take;
    }
    if (*text && u.whole == 0) /* not one character whole, and no more will come with it */
        *text = false;
    return *text ? u.whole : total;
}

static void ws_frame_begin(struct ws_filter *w, const struct iovec *iov, int n)
{
    bool text;
    uint64_t len = ws_frame_measure(w, iov, n, &text);
    w->head_len = w->head_at = 0;
    w->frame_left = len;
    if (len == 0)
        return;
    w->head[0] = (uint8_t)(0x80 | (text ? WSLAY_TEXT_FRAME : WSLAY_BINARY_FRAME));
    if (len < 126) {
        w->head[1] = (uint8_t)len;
        w->head_len = 2;
    } else if (len <= UINT16_MAX) {
        w->head[1] = 126;
        mqg_put_be16(w->head + 2, (uint16_t)len);
        w->head_len = 4;
    } else {
        w->head[1] = 127;
        mqg_put_be64(w->head + 2, len);
        w->head_len = 10;
    }
}

/* Header and payload as far as the frame goes. */
static int ws_frame_gather(struct ws_filter *w, const struct iovec *iov, int n, struct iovec *out)
{
    int k = 0;
    if (w->head_at < w->head_len)
        out[k++] = (struct iovec){w->head + w->head_at, w->head_len - w->head_at};
    uint64_t left = w->frame_left;
    for (int i = 0; i < n && left > 0 && k < WS_IOV_MAX; i++) {
        size_t take = iov[i].iov_len < left ? iov[i].iov_len : (size_t)left;
        if (take > 0)
            out[k++] = (struct iovec){iov[i].iov_base, take};
        left -= take;
    }
    return k;
}

static ssize_t ws_writev(struct io_filter *f, const struct iovec *iov, int n)
{
    struct ws_filter *w = ws_of(f);
    struct iovec out[WS_IOV_MAX];
    if (n > WS_IOV_MAX - 1)
        n = WS_IOV_MAX - 1;
    if (w->frame_left == 0) {
        if (w->out.len > 0 && !ws_out_flush(w))
            return -1;
        ws_frame_begin(w, iov, n);
    }
    if (w->frame_left == 0)
        return 0;
    ssize_t sent = io_filter_writev(f->below, out, ws_frame_gather(w, iov, n, out));
    if (sent < 0)
        return -1;
    size_t head = w->head_len - w->head_at;
    if (head > (size_t)sent)
        head = (size_t)sent;
    w->head_at += head;
    w->frame_left -= (uint64_t)sent - head;
    if (w->frame_left == 0 && w->out.len > 0)
        (void)ws_out_flush(w);
    return (size_t)sent > head ? sent - (ssize_t)head : ws_fail(EAGAIN);
}

/* ---- the handshake ----------------------------------------------------------------------------------------------------------------- */

static void ws_open(struct ws_filter *w)
{
    static const struct wslay_event_callbacks calls = {
        .recv_callback = ws_on_recv,
        .send_callback = ws_on_send,
        .on_frame_recv_start_callback = ws_on_frame,
        .on_frame_recv_chunk_callback = ws_on_payload,
    };
    int rc = wslay_event_context_server_init(&w->events, &calls, w);
    MQG_ASSERT(rc == 0);
    wslay_event_config_set_no_buffering(w->events, 1);
    wslay_event_config_set_max_recv_msg_length(w->events, UINT64_MAX);
    w->state = WS_OPEN;
}

/* Takes what has come of the request; the bytes behind it stay for the first read. */
static enum mqg_err ws_request_take(struct ws_filter *w, struct mqg_error *e)
{
    if (w->request == NULL)
        w->request = mqg_xmalloc(WS_REQUEST_MAX);
    if (w->upgrade == NULL)
        w->upgrade = mqg_xmalloc(sizeof *w->upgrade);
    for (;;) {
        ssize_t n = io_filter_read(w->filter.below, w->request + w->request_len,
                                   WS_REQUEST_MAX - w->request_len);
        if (n == 0)
            return mqg_error_set(e, MQG_CLOSED, 0, "WebSocket: ended inside the request");
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return MQG_AGAIN;
        if (n < 0)
            return mqg_error_set(e, MQG_IO, 0, "WebSocket: %s", strerror(errno));
        w->request_len += (size_t)n;
        enum mqg_err err = io_ws_upgrade(mqg_slice_of(w->request, w->request_len), w->rules, w->upgrade,
                                         &w->request_at);
        if (err == MQG_OK)
            return MQG_OK;
    }
}

static enum mqg_err ws_handshake(struct io_filter *f, struct mqg_error *e)
{
    struct ws_filter *w = ws_of(f);
    f->wants_write = false;
    if (w->state == WS_OPEN)
        return MQG_OK;
    if (w->state == WS_REQUEST) {
        enum mqg_err err = ws_request_take(w, e);
        if (err != MQG_OK)
            return err;
        mqg_dynbuf_put(&w->out, w->upgrade->answer, w->upgrade->answer_len);
        w->state = WS_ANSWERING;
    }
    if (!ws_out_flush(w))
        return f->wants_write ? MQG_AGAIN : mqg_error_set(e, MQG_IO, 0, "WebSocket: %s", strerror(errno));
    if (w->upgrade->status != 101) {
        w->state = WS_REFUSED;
        return mqg_error_set(e, MQG_INVALID, w->upgrade->status, "WebSocket: answered %d: %s",
                             w->upgrade->status, w->upgrade->why);
    }
    w->protocol = w->upgrade->protocol;
    free(w->upgrade);
    w->upgrade = NULL;
    ws_open(w);
    if (w->request_at == w->request_len) {
        free(w->request);
        w->request = NULL;
        w->request_len = w->request_at = 0;
    }
    return MQG_OK;
}

/* ---- the end ---------------------------------------------------------------------------------------------------------------------------- */

/* Our close frame, or the answer to the peer's: both wait in wslay's queue. */
static void ws_shutdown(struct io_filter *f)
{
    struct ws_filter *w = ws_of(f);
    if (w->state != WS_OPEN || w->frame_left > 0 || w->broken)
        return;
    if (w->faulty) {
        mqg_dynbuf_put(&w->out, "\x88\x02\x03\xea", 4); /* 1002, protocol error */
    } else {
        if (!w->ended)
            (void)wslay_event_queue_close(w->events, WSLAY_CODE_NORMAL_CLOSURE, NULL, 0);
        (void)wslay_event_send(w->events);
    }
    (void)ws_out_flush(w);
}

static void ws_free(struct io_filter *f)
{
    struct ws_filter *w = ws_of(f);
    if (w->events != NULL)
        wslay_event_context_free(w->events);
    mqg_dynbuf_fini(&w->out);
    free(w->upgrade);
    free(w->request);
    free(w);
}

static const struct io_filter_ops ws_filter_ops = {
    .name = "websocket",
    .read = ws_read,
    .writev = ws_writev,
    .pending = ws_pending,
    .handshake = ws_handshake,
    .shutdown = ws_shutdown,
    .free = ws_free,
};

struct io_filter *io_ws_filter_new(struct io_filter *below, const struct io_ws_rules *rules)
{
    struct ws_filter *w = mqg_xcalloc(1, sizeof *w);
    w->filter.ops = &ws_filter_ops;
    w->filter.below = below;
    w->rules = rules;
    w->text = rules->text;
    mqg_dynbuf_init(&w->out, WS_CONTROL_BYTES);
    return &w->filter;
}

void io_ws_filter_info(struct io_filter *f, struct mqg_conn_info *info)
{
    while (f != NULL && f->ops != &ws_filter_ops)
        f = f->below;
    if (f == NULL)
        return;
    info->flags |= MQG_CONN_WEBSOCKET;
    snprintf(info->ws_protocol, sizeof info->ws_protocol, "%s",
             ws_of(f)->protocol != NULL ? ws_of(f)->protocol : "");
}
