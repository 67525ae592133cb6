/* conn.c - a connection: packets in, their dispatch, answers that wait for the disk, closing.
 *
 * Whole packets are handled as they lie in the host's buffer; a PUBLISH is taken in pieces, its payload going straight into the
 * message (publish.c). The first packet is CONNECT (3.1.0-1); what comes before the session is ours waits in the kernel. A fault
 * is said in the client's words: CONNACK before it is in, DISCONNECT after, if it speaks 5.0; then the socket closes. */
#include "mqtt.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- sending ------------------------------------------------------------------------------------------------- */

/* [MQTT-3.1.2-24] */
static bool conn_takes(const struct mqtt_conn *c, size_t len)
{
    return c->packet_max == 0 || len <= c->packet_max;
}

bool mqtt_send(struct mqtt_conn *c, enum mqtt_type type, struct mqg_slice head, struct mqg_slice props,
               struct mqg_slice tail)
{
    struct mqg_dynbuf out;
    mqg_dynbuf_init(&out, 1u << 20);
    mqtt_packet_put(&out, type, c->version, head, props, tail);
    bool fits = !out.failed && conn_takes(c, out.len);
    if (fits)
        mqtt_tally(c, MQTT_TALLY_PACKETS_OUT, 1);
    if (fits)
        mqg_conn_write(c->conn, mqg_dynbuf_view(&out));
    mqg_dynbuf_fini(&out);
    return fits;
}

void mqtt_send_reason(struct mqtt_conn *c, enum mqtt_type type, struct mqg_slice head, const char *text)
{
    struct mqg_dynbuf props;
    mqg_dynbuf_init(&props, 1024);
    if (c->problem_info && text[0] != '\0')
        mqtt_add_str(&props, MQTT_P_REASON_STRING, mqg_slice_str(text));
    if (!mqtt_send(c, type, head, mqg_dynbuf_view(&props), MQG_SLICE_NONE) && props.len > 0)
        mqtt_send(c, type, head, MQG_SLICE_NONE, MQG_SLICE_NONE);
    mqg_dynbuf_fini(&props);
}

void mqtt_send_ack(struct mqtt_conn *c, enum mqtt_type type, uint16_t packet_id, uint8_t reason)
{
    uint8_t *p = mqg_conn_reserve(c->conn, MQTT_ACK_MAX_BYTES);
    mqtt_tally(c, MQTT_TALLY_PACKETS_OUT, 1);
    mqg_conn_commit(c->conn, mqtt_ack_put(p, type, c->version, packet_id, reason));
}

static void answer_fire(struct mqg_waiter *w, enum mqg_err err);

static void answer_wait(struct mqtt_conn *c)
{
    c->waiting = true;
    c->waiter.ticket = c->answers->ticket;
    c->waiter.fire = answer_fire;
    mqg_lane_wait(mqg_storage_default(), &c->waiter);
}

static void answers_leave(struct mqtt_conn *c)
{
    struct mqg_storage *s = mqg_storage_default();
    while (c->answers && c->answers->ticket <= mqg_lane_done(s)) {
        struct mqtt_answer *a = c->answers;
        c->answers = a->next;
        if (!c->answers)
            c->answers_tail = &c->answers;
        if (a->len > 0 && c->phase != MQTT_CLOSED && conn_takes(c, a->len)) {
            mqg_conn_write(c->conn, mqg_slice_of(a->bytes, a->len));
            mqtt_tally(c, MQTT_TALLY_PACKETS_OUT, 1);
        }
        if (a->then && c->phase != MQTT_CLOSED)
            a->then(c, a->packet_id);
        free(a);
    }
    if (c->answers && !c->waiting)
        answer_wait(c);
}

static void answer_fire(struct mqg_waiter *w, enum mqg_err err)
{
    struct mqtt_conn *c = MQG_CONTAINER_OF(w, struct mqtt_conn, waiter);
    c->waiting = false;
    if (err == MQG_OK)
        answers_leave(c);
}

void mqtt_answer(struct mqtt_conn *c, uint64_t ticket, struct mqg_slice bytes,
                 void (*then)(struct mqtt_conn *c, uint16_t packet_id), uint16_t packet_id)
{
    struct mqtt_answer *a = mqg_xmalloc(sizeof(*a) + bytes.len);
    *a = (struct mqtt_answer){
        .ticket = ticket, .then = then, .packet_id = packet_id, .len = (uint32_t)bytes.len};
    if (bytes.len > 0)
        memcpy(a->bytes, bytes.ptr, bytes.len);
    *c->answers_tail = a;
    c->answers_tail = &a->next;
    if (!c->waiting)
        answers_leave(c);
}

static void answers_drop(struct mqtt_conn *c)
{
    if (c->waiting)
        mqg_lane_unwait(mqg_storage_default(), &c->waiter);
    c->waiting = false;
    while (c->answers) {
        struct mqtt_answer *a = c->answers;
        c->answers = a->next;
        free(a);
    }
    c->answers_tail = &c->answers;
}

/* ---- closing --------------------------------------------------------------------------------------------------- */

void mqtt_stall(struct mqtt_conn *c, bool on)
{
    if (c->stalled == on)
        return;
    c->stalled = on;
    mqg_conn_pause(c->conn, MQG_PAUSE_HANDLER, on);
}

static void conn_say_goodbye(struct mqtt_conn *c, int reason, const char *text)
{
    if (c->phase != MQTT_UP) {
        if (c->phase != MQTT_STARTING && c->version != 0)
            mqtt_connack_refuse(c, reason, text);
        return;
    }
    if (c->version != MQTT_5)
        return;
    uint8_t code = (uint8_t)reason;
    mqtt_send_reason(c, MQTT_DISCONNECT, mqg_slice_of(&code, 1), text);
}

void mqtt_fail(struct mqtt_conn *c, int reason, const char *fmt, ...)
{
    if (c->phase == MQTT_CLOSED)
        return;
    char text[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    bool peers_fault = reason != MQTT_RC_TAKEN_OVER && reason != MQTT_RC_SHUTTING_DOWN &&
                       reason != MQTT_RC_ADMINISTRATIVE;
    if (peers_fault)
        mqg_count(MQG_COUNT_PROTOCOL_ERRORS, 1);
    mqg_log(MQG_LOG_INFO, peers_fault ? MQG_EVENT_PROTOCOL_ERROR : MQG_EVENT_CONN_CLOSE,
            "conn=%llu client=%s reason=0x%02x name=%s text=%s",
            (unsigned long long)mqg_conn_info(c->conn)->id, mqg_logqs(c->client), (unsigned)reason,
            mqg_logqs(mqtt_reason_name(reason)), mqg_logqs(text));
    conn_say_goodbye(c, reason, text);
    c->phase = MQTT_CLOSED;
    mqtt_stall(c, false);
    mqg_conn_close(c->conn);
}

/* ---- packets ------------------------------------------------------------------------------------------------------ */

static enum mqg_err conn_disconnect(struct mqtt_conn *c, struct mqg_slice body, struct mqg_error *e)
{
    struct mqtt_goodbye bye;
    enum mqg_err err = mqtt_goodbye_decode(MQTT_DISCONNECT, body, c->version, &bye, e);
    if (err != MQG_OK)
        return err;
    if (!c->session) { /* while it proves who it is */
        c->phase = MQTT_CLOSED;
        mqg_conn_close(c->conn);
        return MQG_OK;
    }
    uint32_t expiry = mqtt_num(&bye.props, MQTT_P_SESSION_EXPIRY, c->expiry_s);
    if (c->expiry_s == 0 && expiry != 0) /* 3.14.2.2.2 */
        return mqg_error_set(e, MQG_INVALID, MQTT_RC_PROTOCOL_ERROR,
                             "a session expiry at the end of a session");
    c->expiry_s = mqtt_settings()->expiry_max_s && expiry > mqtt_settings()->expiry_max_s
                      ? mqtt_settings()->expiry_max_s
                      : expiry;
    c->session->expiry_s = c->expiry_s;
    c->normal_end = bye.reason == 0; /* [MQTT-3.14.4-3] */
    c->phase = MQTT_CLOSED;
    mqg_conn_close(c->conn);
    return MQG_OK;
}

static enum mqg_err conn_ack(struct mqtt_conn *c, enum mqtt_type type, struct mqg_slice body,
                             struct mqg_error *e)
{
    struct mqtt_ack ack;
    enum mqg_err err = mqtt_ack_decode(type, body, c->version, &ack, e);
    if (err != MQG_OK)
        return err;
    switch (type) {
    case MQTT_PUBACK: return mqtt_puback(c, ack, e);
    case MQTT_PUBREC: return mqtt_pubrec(c, ack, e);
    case MQTT_PUBREL: return mqtt_pubrel(c, ack, e);
    default: return mqtt_pubcomp(c, ack, e);
    }
}

static enum mqg_err conn_packet(struct mqtt_conn *c, enum mqtt_type type, struct mqg_slice body,
                                struct mqg_error *e)
{
    switch (type) {
    case MQTT_CONNECT: return mqtt_connect(c, body, e);
    case MQTT_PUBACK:
    case MQTT_PUBREC:
    case MQTT_PUBREL:
    case MQTT_PUBCOMP: return conn_ack(c, type, body, e);
    case MQTT_SUBSCRIBE: return mqtt_subscribe(c, body, e);
    case MQTT_UNSUBSCRIBE: return mqtt_unsubscribe(c, body, e);
    case MQTT_DISCONNECT: return conn_disconnect(c, body, e);
    case MQTT_PINGREQ:
        if (body.len > 0)
            return mqg_error_set(e, MQG_MALFORMED, MQTT_RC_MALFORMED_PACKET, "PINGREQ with a body");
        mqg_conn_write(c->conn, mqg_slice_of("\xd0\x00", 2));
        mqtt_tally(c, MQTT_TALLY_PACKETS_OUT, 1);
        return MQG_OK;
    case MQTT_AUTH: return mqtt_auth_packet(c, body, e);
    default: return mqg_error_set(e, MQG_INVALID, MQTT_RC_PROTOCOL_ERROR, "unexpected packet");
    }
}

static enum mqg_err conn_head_check(const struct mqtt_conn *c, const struct mqtt_head *h, struct mqg_error *e)
{
    bool fresh = c->phase == MQTT_FRESH;
    enum mqg_err err = mqtt_head_check(h, c->version, e);
    if (fresh != (h->type == MQTT_CONNECT)) /* [MQTT-3.1.0-1], [MQTT-3.1.0-2] */
        return mqg_error_set(e, MQG_INVALID, MQTT_RC_PROTOCOL_ERROR, fresh ? "%s before CONNECT" : "%s twice",
                             mqtt_type_name(h->type));
    if (err != MQG_OK)
        return err;
    bool proving = c->phase == MQTT_PROVING;
    if (proving && h->type != MQTT_AUTH && h->type != MQTT_DISCONNECT) /* [MQTT-3.1.2-30] */
        return mqg_error_set(e, MQG_INVALID, MQTT_RC_PROTOCOL_ERROR, "%s before CONNACK",
                             mqtt_type_name(h->type));
    uint32_t max = fresh || proving          ? mqtt_settings()->connect_max
                   : h->type == MQTT_PUBLISH ? c->told->packet_max
                                             : MQTT_INPUT_MAX - 5;
    if (h->body_bytes > max)
        return mqg_error_set(e, MQG_TOO_LARGE, MQTT_RC_PACKET_TOO_LARGE, "%s of %u bytes",
                             mqtt_type_name(h->type), h->body_bytes);
    return MQG_OK;
}

/* Bytes used; 0: more are needed, or *e says what is wrong. */
static size_t conn_step(struct mqtt_conn *c, struct mqg_slice in, struct mqg_error *e)
{
    if (c->msg || c->skip_left > 0)
        return mqtt_publish_body(c, in, e);
    struct mqtt_head h;
    enum mqg_err err = mqtt_head_peek(in, &h);
    if (err == MQG_MORE)
        return 0;
    if (err != MQG_OK) {
        (void)mqg_error_set(e, err, MQTT_RC_MALFORMED_PACKET, "cannot decode the remaining length");
        return 0;
    }
    if (conn_head_check(c, &h, e) != MQG_OK)
        return 0;
    struct mqg_slice rest = mqg_slice_of(in.ptr + h.head_bytes, in.len - h.head_bytes);
    if (h.type == MQTT_PUBLISH) {
        size_t n = mqtt_publish(c, &h, rest, e);
        mqtt_tally(c, MQTT_TALLY_PACKETS_IN, n > 0);
        return n > 0 ? h.head_bytes + n : 0;
    }
    if (rest.len < h.body_bytes)
        return 0;
    mqtt_tally(c, MQTT_TALLY_PACKETS_IN, 1);
    err = conn_packet(c, (enum mqtt_type)h.type, mqg_slice_of(rest.ptr, h.body_bytes), e);
    return err == MQG_OK ? h.head_bytes + h.body_bytes : 0;
}

size_t mqtt_conn_input(struct mqg_conn *conn, struct mqg_slice in, struct mqg_error *e)
{
    struct mqtt_conn *c = mqg_conn_state(conn);
    size_t used = 0;
    e->err = MQG_OK;
    while (used < in.len && c->phase != MQTT_CLOSED && !c->stalled) {
        size_t n = conn_step(c, mqg_slice_of(in.ptr + used, in.len - used), e);
        if (n == 0)
            break;
        used += n;
    }
    if (e->err == MQG_OK && used < in.len && !c->stalled && c->phase != MQTT_CLOSED &&
        in.len - used >= MQTT_INPUT_MAX)
        (void)mqg_error_set(e, MQG_TOO_LARGE, MQTT_RC_PACKET_TOO_LARGE,
                            "the head of the packet is too large");
    mqtt_publish_end_input(c);
    mqtt_settle_flush(c);
    if (e->err != MQG_OK)
        mqtt_fail(c, e->code, "%s", e->text);
    e->err = MQG_OK; /* faults were answered in the protocol's way */
    return c->phase == MQTT_CLOSED ? in.len : used;
}

/* ---- the host's other calls --------------------------------------------------------------------------------------- */

enum mqg_err mqtt_conn_init(struct mqg_conn *conn)
{
    struct mqtt_conn *c = mqg_conn_state(conn);
    c->conn = conn;
    c->answers_tail = &c->answers;
    c->problem_info = true;
    c->next_share_id = UINT16_MAX;
    mqg_map_init(&c->alias_out, MQG_MAP_COPY);
    mqg_timer_init(&c->timer, NULL);
    c->told = mqtt_settings();
    mqg_conn_input_max(conn, c->told->connect_max + 16);
    return MQG_OK;
}

void mqtt_conn_fini(struct mqg_conn *conn)
{
    struct mqtt_conn *c = mqg_conn_state(conn);
    c->phase = MQTT_CLOSED;
    mqg_timer_cancel(&c->timer);
    mqtt_session_unclaim(c);
    mqtt_publish_fini(c);
    answers_drop(c);
    if (c->session)
        mqtt_session_detach(c->session, c->normal_end);
    mqtt_will_free(&c->will);
    mqg_map_fini(&c->alias_out);
    free(c->matched);
    mqg_topic_guard_free(&c->topics);
    mqtt_auth_free(&c->auth);
    mqg_session_unref(&c->principal);
}

void mqtt_conn_event(struct mqg_conn *conn, enum mqg_conn_event ev, struct mqg_slice text)
{
    struct mqtt_conn *c = mqg_conn_state(conn);
    switch (ev) {
    case MQG_EV_WRITABLE: mqtt_feeds_kick(c, false); break;
    case MQG_EV_DRAINING: mqtt_fail(c, MQTT_RC_SHUTTING_DOWN, "the server shuts down"); break;
    case MQG_EV_KILL: mqtt_fail(c, MQTT_RC_ADMINISTRATIVE, "%.*s", MQG_SLICE_FMT(text)); break;
    case MQG_EV_BLOCKED: /* the host stops reading publishers; nothing can be said of it in MQTT */
    case MQG_EV_UNBLOCKED:
    case MQG_EV_AUTH_CHANGED: /* checked with each publish and subscription */
    case MQG_EV_STORE_DOWN: break;
    }
}
