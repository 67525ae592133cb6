/* conn.c - a STOMP connection: which frame goes where, heart-beats, ERROR, the end.
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

bool stomp_may_run(struct stomp_conn *sc, const struct stomp_head *h)
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

void stomp_frame(struct stomp_conn *sc, const struct stomp_head *h)
{
    bool connect = h->command == STOMP_CONNECT || h->command == STOMP_STOMP;
    if (sc->phase == STOMP_CONNECTING && connect) {
        stomp_connect(sc, h);
        return;
    }
    if (!stomp_may_run(sc, h))
        return;
    if (h->command != STOMP_ACK && h->command != STOMP_NACK)
        stomp_settle_flush(sc);
    conn_frame_running(sc, h);
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
    mqg_dynbuf_init(&sc->later, 4096);
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
    stomp_gather_free(sc);
    mqg_dynbuf_fini(&sc->origin);
    mqg_dynbuf_fini(&sc->later);
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
