/* conn.c - an AMQP connection: protocol header, start, tune, open, running, closing; heartbeats.
 *
 * The handshake is the specification's (part 1, 1.4): a phase names the one method that may come. Faults before open go out as
 * connection.close too (RabbitMQ just drops the socket there: saying why helps and harms nobody), but for a failed login of a
 * client without authentication_failure_close.
 *
 * Input is a loop over whole frames. A method that has to wait for an answer to leave (a get behind a declare that is not yet
 * durable) stalls the connection: the frame stays in the host's buffer and comes again. */
#include "amqp.h"

#include <stdio.h>
#include <stdlib.h>

#include <mqgate/host.h>

#define RUNNING_TEXT "unexpected method in connection state running"

/* ---- closing ------------------------------------------------------------------------------------------------ */

static void conn_free_channels(struct amqp_conn *ac)
{
    amqp_settle_flush(ac);
    for (uint32_t i = 0; i < ac->channels_cap; i++)
        if (ac->channels[i])
            amqp_channel_free(ac->channels[i]);
}

void amqp_conn_fail(struct amqp_conn *ac, int code, uint32_t method, const char *fmt, ...)
{
    if (ac->phase == AMQP_CLOSING || ac->phase == AMQP_CLOSED)
        return;
    char why[AMQP_SHORTSTR_MAX_BYTES + 1], text[AMQP_SHORTSTR_MAX_BYTES + 1];
    va_list args;
    va_start(args, fmt);
    vsnprintf(why, sizeof(why), fmt, args);
    va_end(args);
    struct mqg_slice reply = amqp_reply_text(text, code, "%s", why);
    mqg_count(MQG_COUNT_PROTOCOL_ERRORS, 1);
    mqg_log(MQG_LOG_INFO, MQG_EVENT_PROTOCOL_ERROR, "conn=%llu code=%d text=%s method=%s",
            (unsigned long long)mqg_conn_info(ac->conn)->id, code, mqg_logq(reply), amqp_method_name(method));
    conn_free_channels(ac);
    AMQP_SEND(ac->conn, 0, connection_close, .reply_code = (uint16_t)code, .reply_text = reply,
              .class_id = amqp_method_class(method), .method_id = (uint16_t)method);
    ac->phase = AMQP_CLOSING;
    amqp_conn_stall(ac, false);
    mqg_conn_idle(ac->conn, 0);
    mqg_timer_in(&ac->timer, AMQP_CLOSE_WAIT_MS);
}

static void conn_end(struct amqp_conn *ac)
{
    ac->phase = AMQP_CLOSED;
    mqg_conn_close(ac->conn);
}

void amqp_conn_stall(struct amqp_conn *ac, bool on)
{
    if (ac->stalled == on)
        return;
    ac->stalled = on;
    mqg_conn_pause(ac->conn, MQG_PAUSE_HANDLER, on);
}

/* ---- heartbeats (part 2, 4.2.7) ------------------------------------------------------------------------------- */

static void conn_timer(struct mqg_timer *t)
{
    struct amqp_conn *ac = MQG_CONTAINER_OF(t, struct amqp_conn, timer);
    if (ac->phase == AMQP_CLOSED) /* the last word was said */
        return;
    if (ac->phase == AMQP_CLOSING) {
        mqg_conn_abort(ac->conn);
        return;
    }
    uint64_t half_ms = ac->heartbeat_s * 500u;
    uint64_t now_ms = mqg_conn_worker(ac->conn)->now.mono_ms;
    uint64_t quiet_ms = now_ms - mqg_conn_last_write_ms(ac->conn);
    if (quiet_ms >= half_ms) {
        mqg_conn_write(ac->conn, MQG_SLICE_LIT(AMQP_HEARTBEAT_FRAME));
        quiet_ms = 0;
    }
    mqg_timer_in(t, half_ms - quiet_ms);
}

static void conn_heartbeats_on(struct amqp_conn *ac)
{
    mqg_conn_idle(ac->conn, ac->heartbeat_s * 2000u);
    if (ac->heartbeat_s)
        mqg_timer_in(&ac->timer, ac->heartbeat_s * 500u);
}

/* ---- start ------------------------------------------------------------------------------------------------------ */

static void conn_send_start(struct amqp_conn *ac)
{
    static const char *const can[] = {
        "publisher_confirms",           "exchange_exchange_bindings", "basic.nack",
        "consumer_cancel_notify",       "connection.blocked",         "consumer_priorities",
        "authentication_failure_close", "per_consumer_qos",           "direct_reply_to",
    };
    struct mqg_arena a;
    struct mqg_dynbuf out;
    mqg_arena_init(&a, 0);
    mqg_dynbuf_init(&out, 8192);
    struct mqg_table props = {0}, caps = {0};
    for (size_t i = 0; i < MQG_COUNTOF(can); i++)
        mqg_table_set_bool(&a, &caps, can[i], true);
    struct mqg_field *f = mqg_table_add(&a, &props, MQG_SLICE_LIT("capabilities"));
    f->value = (struct mqg_value){.type = MQG_VALUE_TABLE, .table = caps};
    mqg_table_set_str(&a, &props, "cluster_name", mqg_slice_str(mqg_node_name()));
    mqg_table_set_str(&a, &props, "copyright", MQG_SLICE_LIT("The mqgate authors"));
    mqg_table_set_str(&a, &props, "information", MQG_SLICE_LIT("Licensed under the Apache License 2.0"));
    mqg_table_set_str(&a, &props, "platform", MQG_SLICE_LIT("C"));
    mqg_table_set_str(&a, &props, "product", MQG_SLICE_LIT("mqgate"));
    mqg_table_set_str(&a, &props, "version", MQG_SLICE_LIT(MQG_VERSION));
    enum mqg_err err = amqp_table_encode(&out, &props, NULL);
    MQG_ASSERT(err == MQG_OK);
    AMQP_SEND(ac->conn, 0, connection_start, .version_major = 0, .version_minor = 9,
              .server_properties = mqg_dynbuf_view(&out),
              .mechanisms = mqg_slice_str(amqp_mechanisms(mqg_conn_info(ac->conn))),
              .locales = MQG_SLICE_LIT("en_US"));
    mqg_dynbuf_fini(&out);
    mqg_arena_fini(&a);
}

static bool client_can(struct mqg_slice caps, const char *what)
{
    struct amqp_value v;
    bool yes = false;
    return amqp_table_find(caps, mqg_slice_str(what), &v) && amqp_value_bool(&v, &yes) && yes;
}

static enum mqg_err conn_login_refused(struct amqp_conn *ac, struct mqg_slice mechanism,
                                       const struct mqg_error *why, struct mqg_error *e)
{
    mqg_count(MQG_COUNT_LOGINS_FAILED, 1);
    mqg_log(MQG_LOG_INFO, MQG_EVENT_CONN_LOGIN, "conn=%llu result=refused mechanism=%s why=%s",
            (unsigned long long)mqg_conn_info(ac->conn)->id, mqg_logq(mechanism), mqg_logqs(why->text));
    if (why->err == MQG_UNSUPPORTED) {
        *e = *why;
        return e->err;
    }
    if (!ac->auth_close) {
        conn_end(ac);
        return MQG_OK;
    }
    return mqg_error_set(
        e, MQG_UNAUTHENTICATED, AMQP_ACCESS_REFUSED,
        "Login was refused using authentication mechanism %.*s. For details see the broker logfile.",
        MQG_SLICE_FMT(mechanism));
}

static enum mqg_err conn_start_ok(struct amqp_conn *ac, struct mqg_slice args, struct mqg_error *e)
{
    struct amqp_connection_start_ok m;
    if (amqp_connection_start_ok_decode(args, &m) != MQG_OK ||
        amqp_table_check(m.client_properties) != MQG_OK)
        return mqg_error_set(e, MQG_MALFORMED, AMQP_SYNTAX_ERROR, "cannot decode connection.start-ok");
    struct amqp_value caps;
    if (amqp_table_find(m.client_properties, MQG_SLICE_LIT("capabilities"), &caps) && caps.type == 'F') {
        ac->cancel_notify = client_can(caps.raw, "consumer_cancel_notify");
        ac->auth_close = client_can(caps.raw, "authentication_failure_close");
        ac->tells_blocked = client_can(caps.raw, "connection.blocked");
    }
    if (m.client_properties.len && m.client_properties.len < 8192) {
        ac->client_props = mqg_xmalloc(m.client_properties.len);
        ac->client_props_len = (uint32_t)m.client_properties.len;
        memcpy(ac->client_props, m.client_properties.ptr, m.client_properties.len);
    }
    struct mqg_error why = {0};
    if (amqp_login(ac, m.mechanism, m.response, &why) != MQG_OK)
        return conn_login_refused(ac, m.mechanism, &why, e);
    mqg_conn_session(ac->conn, ac->session);
    AMQP_SEND(ac->conn, 0, connection_tune, .channel_max = AMQP_CHANNEL_MAX,
              .frame_max = AMQP_FRAME_MAX_BYTES, .heartbeat = AMQP_HEARTBEAT_S);
    ac->phase = AMQP_TUNING;
    return MQG_OK;
}

/* ---- tune, open ---------------------------------------------------------------------------------------------------- */

static enum mqg_err conn_tune_ok(struct amqp_conn *ac, struct mqg_slice args, struct mqg_error *e)
{
    struct amqp_connection_tune_ok m;
    if (amqp_connection_tune_ok_decode(args, &m) != MQG_OK)
        return mqg_error_set(e, MQG_MALFORMED, AMQP_SYNTAX_ERROR, "cannot decode connection.tune-ok");
    uint32_t frame_max = m.frame_max ? m.frame_max : AMQP_FRAME_MAX_BYTES;
    if (frame_max < AMQP_FRAME_MIN_BYTES)
        return mqg_error_set(e, MQG_INVALID, AMQP_NOT_ALLOWED,
                             "negotiated frame_max = %u is lower than the minimum allowed value (%u)",
                             frame_max, AMQP_FRAME_MIN_BYTES);
    if (frame_max > AMQP_FRAME_MAX_BYTES)
        return mqg_error_set(e, MQG_INVALID, AMQP_NOT_ALLOWED,
                             "negotiated frame_max = %u is higher than the maximum allowed value (%u)",
                             frame_max, AMQP_FRAME_MAX_BYTES);
    if (m.channel_max > AMQP_CHANNEL_MAX)
        return mqg_error_set(e, MQG_INVALID, AMQP_NOT_ALLOWED,
                             "negotiated channel_max = %u is higher than the maximum allowed value (%u)",
                             m.channel_max, AMQP_CHANNEL_MAX);
    ac->frame_max = frame_max;
    ac->channel_max = m.channel_max ? m.channel_max : AMQP_CHANNEL_MAX;
    ac->heartbeat_s = m.heartbeat;
    conn_heartbeats_on(ac);
    ac->phase = AMQP_OPENING;
    return MQG_OK;
}

static enum mqg_err conn_open(struct amqp_conn *ac, struct mqg_slice args, struct mqg_error *e)
{
    struct amqp_connection_open m;
    if (amqp_connection_open_decode(args, &m) != MQG_OK)
        return mqg_error_set(e, MQG_MALFORMED, AMQP_SYNTAX_ERROR, "cannot decode connection.open");
    struct mqg_error why = {0};
    enum mqg_err err = mqg_session_open(ac->session, m.virtual_host, &why);
    if (err != MQG_OK)
        return mqg_error_set(e, err, AMQP_NOT_ALLOWED, "%s", why.text);
    AMQP_SEND(ac->conn, 0, connection_open_ok, .known_hosts = MQG_SLICE_NONE);
    ac->phase = AMQP_RUNNING;
    mqg_conn_input_max(ac->conn, ac->frame_max + 64);
    const struct mqg_conn_info *i = mqg_conn_info(ac->conn);
    mqg_log(MQG_LOG_INFO, MQG_EVENT_CONN_LOGIN,
            "conn=%llu result=ok user=%s vhost=%s mechanism=%s peer=%s:%u", (unsigned long long)i->id,
            mqg_logqs(ac->session->user), mqg_logq(m.virtual_host), mqg_logqs(ac->mechanism), i->peer_host,
            i->peer_port);
    return MQG_OK;
}

static enum mqg_err conn_update_secret(struct amqp_conn *ac, struct mqg_slice args, struct mqg_error *e)
{
    struct amqp_connection_update_secret m;
    if (amqp_connection_update_secret_decode(args, &m) != MQG_OK)
        return mqg_error_set(e, MQG_MALFORMED, AMQP_FRAME_ERROR, "cannot decode connection.update-secret");
    /* Internal users have no secret that expires: accepted, as RabbitMQ does. */
    AMQP_SEND(ac->conn, 0, connection_update_secret_ok, 0);
    return MQG_OK;
}

/* ---- methods on channel 0 ---------------------------------------------------------------------------------------------- */

static enum mqg_err conn_close(struct amqp_conn *ac)
{
    conn_free_channels(ac);
    AMQP_SEND(ac->conn, 0, connection_close_ok, 0);
    conn_end(ac);
    return MQG_OK;
}

enum mqg_err amqp_conn_method(struct amqp_conn *ac, uint32_t id, struct mqg_slice args, struct mqg_error *e)
{
    if (id == AMQP_CONNECTION_CLOSE)
        return conn_close(ac);
    switch (ac->phase) {
    case AMQP_STARTING:
        if (id == AMQP_CONNECTION_START_OK)
            return conn_start_ok(ac, args, e);
        break;
    case AMQP_TUNING:
        if (id == AMQP_CONNECTION_TUNE_OK)
            return conn_tune_ok(ac, args, e);
        break;
    case AMQP_OPENING:
        if (id == AMQP_CONNECTION_OPEN)
            return conn_open(ac, args, e);
        break;
    default:
        if (id == AMQP_CONNECTION_UPDATE_SECRET)
            return conn_update_secret(ac, args, e);
        break;
    }
    return mqg_error_set(e, MQG_INVALID, AMQP_CHANNEL_ERROR, RUNNING_TEXT);
}

/* ---- frames ------------------------------------------------------------------------------------------------------------------ */

/* May this method be handled while earlier answers of its channel still wait for the disk? */
static bool method_pipelines(uint32_t id)
{
    uint16_t class_id = amqp_method_class(id);
    return class_id == amqp_method_class(AMQP_QUEUE_DECLARE) ||
           class_id == amqp_method_class(AMQP_EXCHANGE_DECLARE);
}

static bool method_must_wait(const struct amqp_channel *ch, uint32_t id)
{
    if (ch->get)
        return true;
    if (!ch->replies || method_pipelines(id))
        return false;
    const struct amqp_method_info *info = amqp_method_find(id);
    return info && (info->flags & AMQP_SYNC);
}

static enum mqg_err conn_channel_method(struct amqp_conn *ac, const struct amqp_frame *f, uint32_t id,
                                        struct mqg_slice args, struct mqg_error *e)
{
    if (ac->phase != AMQP_RUNNING)
        return mqg_error_set(e, MQG_INVALID, AMQP_CHANNEL_ERROR, "unexpected method before connection.open");
    const struct amqp_method_info *info = amqp_method_find(id);
    if (!info)
        return mqg_error_set(e, MQG_MALFORMED, AMQP_FRAME_ERROR, "unknown method %u of class %u", id & 0xffff,
                             id >> 16);
    struct amqp_channel *ch = amqp_channel_at(ac, f->channel);
    if (id == AMQP_CHANNEL_OPEN) {
        if (ch && !ch->closing)
            return mqg_error_set(e, MQG_INVALID, AMQP_CHANNEL_ERROR, "second 'channel.open' seen");
        if (!ch)
            return amqp_channel_open(ac, f->channel, e);
        return MQG_OK;
    }
    if (!ch) {
        if (id == AMQP_CHANNEL_CLOSE_OK) /* crossed with our close of a channel long gone */
            return MQG_OK;
        return mqg_error_set(e, MQG_INVALID, AMQP_CHANNEL_ERROR, "expected 'channel.open'");
    }
    if (!ch->closing && ch->content != AMQP_NO_CONTENT)
        return ch->content == AMQP_WANT_HEADER
                   ? mqg_error_set(
                         e, MQG_INVALID, AMQP_UNEXPECTED_FRAME,
                         "expected content header for class 60, got non content header frame instead")
                   : mqg_error_set(e, MQG_INVALID, AMQP_UNEXPECTED_FRAME,
                                   "expected content body, got non content body frame instead");
    return amqp_channel_method(ch, id, args, e);
}

static void conn_method_frame(struct amqp_conn *ac, const struct amqp_frame *f, bool *again,
                              struct mqg_error *e)
{
    uint32_t id;
    struct mqg_slice args;
    if (amqp_method_split(f->payload, &id, &args) != MQG_OK) {
        amqp_conn_fail(ac, AMQP_FRAME_ERROR, 0, "method frame without a method");
        return;
    }
    struct amqp_channel *ch = f->channel ? amqp_channel_at(ac, f->channel) : NULL;
    if (MQG_UNLIKELY(ch && !ch->closing && (ch->replies || ch->get) && method_must_wait(ch, id))) {
        amqp_conn_stall(ac, true);
        *again = true;
        return;
    }
    e->text[0] = '\0';
    if (id != AMQP_BASIC_PUBLISH && id != AMQP_BASIC_ACK) /* they would be all that a crash tells */
        mqg_conn_note(ac->conn, amqp_method_name(id), f->channel);
    enum mqg_err err = f->channel ? conn_channel_method(ac, f, id, args, e)
                                  : amqp_conn_method(ac, id, args, e);
    if (err != MQG_OK) {
        ch = f->channel ? amqp_channel_at(ac, f->channel) : NULL;
        if (ch && !ch->closing)
            amqp_channel_fail(ch, id, e);
        else
            amqp_conn_fail(ac, amqp_code_of(e), id, "%s", e->text);
    }
}

static void conn_content_frame(struct amqp_conn *ac, const struct amqp_frame *f, struct mqg_error *e)
{
    struct amqp_channel *ch = f->channel && ac->phase == AMQP_RUNNING ? amqp_channel_at(ac, f->channel)
                                                                      : NULL;
    if (!ch) {
        amqp_conn_fail(ac, AMQP_UNEXPECTED_FRAME, 0, "content on a channel that is not open");
        return;
    }
    if (ch->closing)
        return;
    enum mqg_err err = f->type == AMQP_FRAME_HEADER ? amqp_content_header(ch, f->payload, e)
                                                    : amqp_content_body(ch, f->payload, e);
    if (err != MQG_OK)
        amqp_channel_fail(ch, AMQP_BASIC_PUBLISH, e);
}

/* One whole frame; *again: not now, it has to come once more. */
static void conn_frame(struct amqp_conn *ac, const struct amqp_frame *f, bool *again, struct mqg_error *e)
{
    if (ac->phase == AMQP_CLOSING) {
        if (f->type == AMQP_FRAME_METHOD && f->channel == 0 && f->payload.len >= 4) {
            uint32_t id = mqg_be32(f->payload.ptr);
            if (id == AMQP_CONNECTION_CLOSE)
                conn_close(ac);
            else if (id == AMQP_CONNECTION_CLOSE_OK)
                conn_end(ac);
        }
        return;
    }
    switch (f->type) {
    case AMQP_FRAME_METHOD: conn_method_frame(ac, f, again, e); break;
    case AMQP_FRAME_HEADER:
    case AMQP_FRAME_BODY: conn_content_frame(ac, f, e); break;
    default: break; /* a heartbeat: the host has seen that bytes came */
    }
}

static void conn_bad_frame(struct amqp_conn *ac, const struct amqp_frame *f)
{
    int code = f->fault == AMQP_FRAME_BAD_HEARTBEAT ? AMQP_UNEXPECTED_FRAME : AMQP_FRAME_ERROR;
    bool closing = ac->phase == AMQP_CLOSING;
    amqp_conn_fail(ac, code, 0, "%s (type %u, channel %u, %u bytes)",
                   amqp_frame_fault_text((enum amqp_frame_fault)f->fault), f->type, f->channel,
                   f->payload_bytes);
    if (closing) /* framing is lost: nothing that follows can be read */
        conn_end(ac);
}

static size_t conn_header_input(struct amqp_conn *ac, struct mqg_slice in)
{
    enum mqg_err err = amqp_protocol_header_check(in);
    if (err == MQG_MORE)
        return 0;
    if (err != MQG_OK) {
        mqg_conn_write(ac->conn, MQG_SLICE_LIT(AMQP_PROTOCOL_HEADER));
        conn_end(ac);
        return in.len;
    }
    conn_send_start(ac);
    ac->phase = AMQP_STARTING;
    return AMQP_PROTOCOL_HEADER_BYTES;
}

size_t amqp_conn_input(struct mqg_conn *c, struct mqg_slice in, struct mqg_error *e)
{
    struct amqp_conn *ac = mqg_conn_state(c);
    size_t used = 0;
    if (ac->phase == AMQP_HEADER)
        used = conn_header_input(ac, in);
    while (used < in.len && ac->phase != AMQP_HEADER && ac->phase != AMQP_CLOSED && !ac->stalled) {
        struct amqp_frame f;
        enum mqg_err err = amqp_frame_peek(mqg_slice_of(in.ptr + used, in.len - used), ac->frame_max, &f);
        if (err == MQG_MORE)
            break;
        if (err != MQG_OK) {
            conn_bad_frame(ac, &f);
            used = in.len;
            break;
        }
        bool again = false;
        conn_frame(ac, &f, &again, e);
        if (again)
            break;
        used += f.total_bytes;
    }
    if (ac->settle)
        amqp_settle_flush(ac);
    e->err = MQG_OK; /* faults were answered in the protocol's way */
    return ac->phase == AMQP_CLOSED ? in.len : used;
}

/* ---- the host's other calls ---------------------------------------------------------------------------------------------------- */

enum mqg_err amqp_conn_init(struct mqg_conn *c)
{
    struct amqp_conn *ac = mqg_conn_state(c);
    ac->conn = c;
    ac->frame_max = AMQP_FRAME_MIN_BYTES; /* until tune (4.2.3: frame-min-size) */
    ac->channel_max = AMQP_CHANNEL_MAX;
    mqg_timer_init(&ac->timer, conn_timer);
    return MQG_OK;
}

void amqp_conn_fini(struct mqg_conn *c)
{
    struct amqp_conn *ac = mqg_conn_state(c);
    conn_free_channels(ac);
    mqg_timer_cancel(&ac->timer);
    if (ac->session) {
        if (ac->session->vhost)
            mqg_conn_gone(ac->session);
        mqg_session_unref(&ac->session);
    }
    free(ac->channels);
    free(ac->settle);
    free(ac->client_props);
}

static void conn_writable(struct amqp_conn *ac)
{
    for (uint32_t i = 0; i < ac->channels_cap; i++)
        if (ac->channels[i])
            amqp_consumers_kick(ac->channels[i]);
}

void amqp_conn_event(struct mqg_conn *c, enum mqg_conn_event ev, struct mqg_slice text)
{
    struct amqp_conn *ac = mqg_conn_state(c);
    switch (ev) {
    case MQG_EV_BLOCKED:
        if (ac->phase == AMQP_RUNNING && ac->tells_blocked && !ac->blocked)
            AMQP_SEND(c, 0, connection_blocked, .reason = text);
        ac->blocked = true;
        break;
    case MQG_EV_UNBLOCKED:
        if (ac->phase == AMQP_RUNNING && ac->tells_blocked && ac->blocked)
            AMQP_SEND(c, 0, connection_unblocked, 0);
        ac->blocked = false;
        break;
    case MQG_EV_WRITABLE: conn_writable(ac); break;
    case MQG_EV_DRAINING:
        amqp_conn_fail(ac, AMQP_CONNECTION_FORCED, 0,
                       "broker forced connection closure with reason 'shutdown'");
        break;
    case MQG_EV_KILL: amqp_conn_fail(ac, AMQP_CONNECTION_FORCED, 0, "%.*s", MQG_SLICE_FMT(text)); break;
    case MQG_EV_AUTH_CHANGED:
    case MQG_EV_STORE_DOWN: break;
    }
}
