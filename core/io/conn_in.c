/* conn_in.c - how bytes come in: PROXY header, handshake, then the handler.
 *
 * All connections of a worker are read into one buffer. What the handler leaves unread is kept in an allocation of
 * just that size and put in front of the next read, so most connections own no buffer most of the time. There is one
 * read per turn and connection; libevent is level-triggered and announces again what is left in the kernel.
 *
 * A handler is never called while something holds the connection (a pause, or pressure). The read event is taken out
 * only when readiness is met while held, and put back when the hold ends; short pauses then cost no system call. */
#include "conn.h"
#include "conn_int.h"
#include "proxyproto.h"
#include "tls.h"
#include "ws.h"

#include <mqgate/obs.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

void conn_input_fini(struct mqg_conn *c)
{
    free(c->rest);
    free(c->proxy);
    c->rest = c->proxy = NULL;
    c->rest_len = c->rest_cap = 0;
}

/* ---- holding and letting go ------------------------------------------------------------------------------------------ */

static void conn_disarm(struct mqg_conn *c)
{
    event_del(&c->read_event);
    c->read_armed = false;
}

void conn_read_update(struct mqg_conn *c)
{
    if (c->state == CONN_DEAD || (c->state == CONN_OPEN && conn_is_held(c)))
        return;
    if (!c->read_armed && !c->eof) {
        c->read_armed = event_add(&c->read_event, NULL) == 0;
        c->last_read_ms = c->w->pub.now.mono_ms; /* not judged for the time it was not read */
    }
    c->refeed |= c->rest_len > 0;
    if (c->refeed || io_filter_pending(c->filter))
        conn_ready_later(c);
}

void mqg_conn_pause(struct mqg_conn *c, enum mqg_pause why, bool on)
{
    MQG_CHECK(c, CONN_MAGIC);
    MQG_ASSERT(on ? c->pauses[why] < UINT16_MAX : c->pauses[why] > 0);
    mqg_conn_note(c, on ? "pause" : "resume", why);
    c->pauses[why] = (uint16_t)(on ? c->pauses[why] + 1 : c->pauses[why] - 1);
    if (!on)
        conn_read_update(c);
}

void mqg_conn_input_max(struct mqg_conn *c, size_t bytes)
{
    c->input_max = bytes > 0 ? bytes : 1;
}

/* ---- the rest that was not used ----------------------------------------------------------------------------------------- */

static void conn_rest_keep(struct mqg_conn *c, const uint8_t *ptr, size_t n)
{
    if (n == 0 || n > c->rest_cap) {
        free(c->rest);
        c->rest_cap = n > 0 ? (n + 255) / 256 * 256 : 0;
        c->rest = n > 0 ? mqg_xmalloc(c->rest_cap) : NULL;
    }
    if (n > 0)
        memcpy(c->rest, ptr, n);
    c->rest_len = n;
}

static uint8_t *conn_input_buffer(struct mqg_conn *c, size_t room)
{
    struct conn_worker *cw = conn_worker_of(c->w);
    if (cw->input_cap < c->rest_len + room) {
        cw->input_cap = c->rest_len + room;
        cw->input = mqg_xrealloc(cw->input, cw->input_cap);
    }
    if (c->rest_len > 0)
        memcpy(cw->input, c->rest, c->rest_len);
    return cw->input;
}

/* ---- who knocked at the wrong door ---------------------------------------------------------------------------- */

static const char *(*conn_guesser)(struct mqg_slice head);

void conn_on_guess(const char *(*guess)(struct mqg_slice head))
{
    conn_guesser = guess;
}

static const char *conn_guess(struct mqg_slice head)
{
    if (head.len >= 3 && head.ptr[0] == 0x16 && head.ptr[1] == 0x03)
        return "TLS";
    if (mqg_slice_starts(head, MQG_SLICE_LIT("PROXY ")) || mqg_slice_starts(head, MQG_SLICE_LIT("\r\n\r\n")))
        return "a PROXY header, see listeners.proxy_protocol";
    if (mqg_slice_starts(head, MQG_SLICE_LIT("GET ")) || mqg_slice_starts(head, MQG_SLICE_LIT("POST ")))
        return "HTTP";
    return conn_guesser != NULL ? conn_guesser(head) : NULL;
}

/* Refused for its very first bytes, whether the handler calls it a fault or just ends it: often they belong to another
 * protocol, and the log says which. */
static void conn_explain(const struct mqg_conn *c, struct mqg_slice in)
{
    if (c->login_due_ms == 0 || c->bytes_in != in.len)
        return;
    const char *looks = conn_guess(in);
    if (looks == NULL || strcmp(looks, c->ops->name) == 0)
        return;
    mqg_log(MQG_LOG_INFO, MQG_EVENT_PROTOCOL_ERROR,
            "conn=%llu peer=%s:%u listener=%s first_bytes_look_like=%s", (unsigned long long)c->info.id,
            c->info.peer_host, c->info.peer_port, c->info.listener, mqg_logqs(looks));
}

/* ---- the handler --------------------------------------------------------------------------------------------------------- */

static void conn_feed(struct mqg_conn *c, const uint8_t *ptr, size_t n)
{
    struct mqg_error e = {.err = MQG_OK};
    size_t used = c->ops->input(c, mqg_slice_of(ptr, n), &e);
    MQG_ASSERT(used <= n);
    if (e.err != MQG_OK || c->state != CONN_OPEN)
        conn_explain(c, mqg_slice_of(ptr, n));
    if (e.err != MQG_OK) {
        conn_fail(c, &e);
        return;
    }
    if (c->state != CONN_OPEN)
        return;
    if (used == 0 && n >= c->input_max && !conn_is_held(c)) {
        mqg_error_set(&e, MQG_TOO_LARGE, 0, "%zu bytes of input without a whole frame", n);
        conn_fail(c, &e);
        return;
    }
    conn_rest_keep(c, ptr + used, n - used);
}

static void conn_count_in(struct mqg_conn *c, size_t n)
{
    mqg_conn_note(c, "read", (uint32_t)n);
    c->bytes_in += n;
    c->last_read_ms = c->w->pub.now.mono_ms;
    c->trickle -= c->trickle < n ? c->trickle : (uint32_t)n;
    mqg_count(MQG_COUNT_BYTES_IN, n);
    MQG_TRACE("io", c->info.id, "conn=%llu read=%zu unread=%zu", (unsigned long long)c->info.id, n,
              c->rest_len);
}

static void conn_lost(struct mqg_conn *c, const char *why)
{
    mqg_log(MQG_LOG_DEBUG, MQG_EVENT_CONN_CLOSE, "conn=%llu peer=%s:%u why=%s",
            (unsigned long long)c->info.id, c->info.peer_host, c->info.peer_port, mqg_logqs(why));
    c->eof = true;
    mqg_conn_abort(c);
}

static void conn_ended(struct mqg_conn *c)
{
    c->eof = true;
    if (c->read_armed)
        conn_disarm(c);
    mqg_conn_close(c);
}

/* One read; 0 when nothing came now. */
static size_t conn_read(struct mqg_conn *c, uint8_t *to, size_t room)
{
    if (room == 0)
        return 0;
    ssize_t n = io_filter_read(c->filter, to, room);
    if (n > 0) {
        conn_count_in(c, (size_t)n);
        return (size_t)n;
    }
    if (n == 0)
        conn_ended(c);
    else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
        conn_lost(c, strerror(errno));
    else if (io_filter_wants_write(c->filter))
        event_add(&c->write_event, NULL);
    return 0;
}

static void conn_input_open(struct mqg_conn *c)
{
    if (!c->read_armed && !c->eof)
        c->read_armed = event_add(&c->read_event, NULL) == 0;
    size_t room = c->input_max > c->rest_len ? c->input_max - c->rest_len : 0;
    room = conn_read_room(c, room < CONN_READ_BYTES ? room : CONN_READ_BYTES);
    size_t had = c->rest_len;
    uint8_t *buf = conn_input_buffer(c, room);
    size_t n = conn_read(c, buf + had, room);
    if (c->state != CONN_OPEN)
        return;
    if (n > 0 || c->refeed) {
        c->refeed = false;
        conn_feed(c, buf, had + n);
    }
    if (c->state == CONN_OPEN && io_filter_pending(c->filter))
        conn_ready_later(c);
}

/* ---- before and after the handler's time ------------------------------------------------------------------------------------- */

static void conn_discard(struct mqg_conn *c)
{
    struct conn_worker *cw = conn_worker_of(c->w);
    ssize_t n = recv(c->fd, cw->input, cw->input_cap, MSG_DONTWAIT);
    if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
        return;
    c->eof = true;
    if (c->read_armed)
        conn_disarm(c);
    if (c->state == CONN_LINGER || n < 0)
        mqg_conn_abort(c);
}

/* Takes what has come of a PROXY header, not a byte of what follows it. true when it is over. */
static bool conn_proxy(struct mqg_conn *c)
{
    if (c->proxy == NULL)
        c->proxy = mqg_xmalloc(MQG_PROXY_HEADER_MAX);
    size_t room = MQG_PROXY_HEADER_MAX - c->proxy_len;
    ssize_t n = recv(c->fd, c->proxy + c->proxy_len, room, MSG_DONTWAIT | MSG_PEEK);
    if (n <= 0) {
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
            conn_lost(c, "ended inside the PROXY header");
        return false;
    }
    struct mqg_proxy header;
    struct mqg_error e;
    size_t used = 0;
    enum mqg_err err = mqg_proxy_decode(mqg_slice_of(c->proxy, c->proxy_len + (size_t)n), &header, &used, &e);
    size_t take = err == MQG_OK ? used - c->proxy_len : (size_t)n;
    if (recv(c->fd, c->proxy + c->proxy_len, take, MSG_DONTWAIT) != (ssize_t)take)
        conn_lost(c, "the PROXY header went away");
    c->proxy_len += take;
    if (err != MQG_OK && err != MQG_MORE)
        conn_fail(c, &e);
    if (err != MQG_OK || c->state != CONN_PREFACE)
        return false;
    mqg_proxy_apply(&header, &c->info);
    return true;
}

void conn_open(struct mqg_conn *c)
{
    io_tls_filter_info(c->filter, &c->info);
    io_ws_filter_info(c->filter, &c->info);
    c->state = CONN_OPEN;
    mqg_log(MQG_LOG_DEBUG, MQG_EVENT_CONN_OPEN, "conn=%llu peer=%s:%u listener=%s tls=%s",
            (unsigned long long)c->info.id, c->info.peer_host, c->info.peer_port, c->info.listener,
            c->info.tls_protocol[0] ? c->info.tls_protocol : "-");
    if (c->ops->conn_init(c) != MQG_OK)
        mqg_conn_abort(c);
    else
        c->handler_up = true;
    mqg_conn_note(c, "open", 0);
    if (io_filter_pending(c->filter))
        conn_ready_later(c);
}

static void conn_handshake_failed(struct mqg_conn *c, const struct mqg_error *e)
{
    mqg_log(MQG_LOG_INFO, MQG_EVENT_CONN_LOGIN, "conn=%llu peer=%s:%u listener=%s refused=%s",
            (unsigned long long)c->info.id, c->info.peer_host, c->info.peer_port, c->info.listener,
            mqg_logqs(e->text));
    if (e->code != 0) /* the peer was told: let it read that */
        mqg_conn_close(c);
    else
        mqg_conn_abort(c);
}

void conn_preface(struct mqg_conn *c)
{
    if (c->wants_proxy && !conn_proxy(c))
        return;
    c->wants_proxy = false;
    free(c->proxy);
    c->proxy = NULL;
    struct mqg_error e = {.err = MQG_OK};
    enum mqg_err err = io_filter_handshake(c->filter, &e);
    if (err == MQG_OK)
        conn_open(c);
    else if (err != MQG_AGAIN)
        conn_handshake_failed(c, &e);
    else if (io_filter_wants_write(c->filter))
        event_add(&c->write_event, NULL);
}

void conn_input(struct mqg_conn *c)
{
    if (c->state == CONN_PREFACE)
        conn_preface(c);
    if (c->state == CONN_DEAD || c->state == CONN_PREFACE)
        return;
    if (c->state != CONN_OPEN)
        conn_discard(c);
    else if (!conn_is_held(c))
        conn_input_open(c);
    else if (c->read_armed)
        conn_disarm(c);
}
