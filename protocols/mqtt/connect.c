/* connect.c - CONNECT: who is it, in which vhost, which session; CONNACK.
 *
 * The order: decode, account, vhost, then the session, which may be another worker's (session.c). CONNACK leaves when what it
 * promises is durable, and the session's queues are consumed only after it. */
#include "mqtt.h"

#include <mqgate/conf.h>

#include <stdio.h>
#include <stdlib.h>

enum { CONNECT_LOOK_MS = 2 };

/* ---- refusals ---------------------------------------------------------------------------------------------------- */

void mqtt_connack_refuse(struct mqtt_conn *c, int reason, const char *text)
{
    uint8_t head[2] = {0, (uint8_t)reason};
    if (c->version != MQTT_5)
        head[1] = mqtt_connack_code_3(reason);
    if (c->version != MQTT_5 && (reason == MQTT_RC_MALFORMED_PACKET || reason == MQTT_RC_PROTOCOL_ERROR ||
                                 reason == MQTT_RC_TOPIC_INVALID || reason == MQTT_RC_PACKET_TOO_LARGE))
        return; /* 3.x: the connection just closes */
    mqtt_send_reason(c, MQTT_CONNACK, mqg_slice_of(head, 2), text);
}

/* ---- the account ---------------------------------------------------------------------------------------------------- */

/* The value of `key` in "key=value, key=value". */
static bool connect_map(const char *list, const char *key, struct mqg_slice *out)
{
    size_t n = strlen(key);
    for (const char *p = list; *p != '\0';) {
        p += strspn(p, " ,");
        size_t len = strcspn(p, ",");
        if (n > 0 && len > n && memcmp(p, key, n) == 0 && p[n] == '=') {
            while (len > n + 1 && p[len - 1] == ' ')
                len--;
            *out = mqg_slice_of(p + n + 1, len - n - 1);
            return true;
        }
        p += len;
    }
    return false;
}

/* "vhost:user" says the vhost itself; else the certificate's, the port's, the default one, in this order. */
static void connect_vhost(const struct mqg_conn_info *from, struct mqg_slice *user, struct mqg_slice *vhost)
{
    const uint8_t *colon = user->len ? memrchr(user->ptr, ':', user->len) : NULL;
    char port[8];
    snprintf(port, sizeof(port), "%u", from->port);
    *vhost = mqg_slice_str(mqtt_settings()->vhost);
    if (colon) {
        *vhost = mqg_slice_of(user->ptr, (size_t)(colon - user->ptr));
        *user = mqg_slice_of(colon + 1, user->len - vhost->len - 1);
    } else if (!connect_map(mqtt_settings()->cert_vhosts, from->cert_subject_cn, vhost)) {
        connect_map(mqtt_settings()->port_vhosts, port, vhost);
    }
}

/* By the account that AUTH has proved, by the certificate, or by the password. */
static enum mqg_err connect_account(struct mqtt_conn *c, const struct mqtt_connect *p, struct mqg_slice user,
                                    struct mqg_error *e)
{
    const struct mqg_conn_info *from = mqg_conn_info(c->conn);
    if (c->principal)
        return MQG_OK;
    if (!p->has_user && mqtt_settings()->cert_login && from->cert_subject_cn[0] != '\0')
        return mqg_auth_external(from, mqg_slice_str(from->cert_subject_cn), &c->principal, e);
    return mqg_auth_password(from, user, p->password, &c->principal, e);
}

static enum mqg_err connect_login(struct mqtt_conn *c, const struct mqtt_connect *p, struct mqg_error *e)
{
    const struct mqg_conn_info *from = mqg_conn_info(c->conn);
    struct mqg_slice user = p->user, vhost;
    struct mqg_error why = {0};
    connect_vhost(from, &user, &vhost);
    enum mqg_err err = connect_account(c, p, user, &why);
    if (err != MQG_OK)
        return mqg_error_set(e, err, p->has_user ? MQTT_RC_BAD_USER_OR_PASSWORD : MQTT_RC_NOT_AUTHORIZED,
                             "%s", why.text);
    mqg_conn_session(c->conn, c->principal);
    err = mqg_session_open(c->principal, vhost, &why);
    if (err != MQG_OK)
        return mqg_error_set(e, err, MQTT_RC_NOT_AUTHORIZED, "%s", why.text);
    mqg_log(MQG_LOG_INFO, MQG_EVENT_CONN_LOGIN, "conn=%llu result=ok user=%s vhost=%s client=%s peer=%s:%u",
            (unsigned long long)from->id, mqg_logqs(c->principal->user), mqg_logq(vhost),
            mqg_logqs(c->client), from->peer_host, from->peer_port);
    return MQG_OK;
}

/* The permission on the exchange, and on the topic; a filter is judged as the key that it binds by. */
bool mqtt_may(struct mqtt_conn *c, enum mqg_perm perm, struct mqg_slice topic)
{
    struct mqg_slice exchange = mqg_slice_str(mqtt_settings()->exchange);
    if (!mqg_session_can(c->principal, perm, exchange))
        return false;
    struct mqg_dynbuf key;
    mqg_dynbuf_init(&key, 1u << 17);
    mqtt_filter_key(&key, topic);
    bool may = mqg_topic_can(&c->topics, c->principal, perm, exchange, mqg_slice_of(c->client, c->client_len),
                             mqg_dynbuf_view(&key));
    mqg_dynbuf_fini(&key);
    return may;
}

/* ---- the client identifier (3.1.3.1) ------------------------------------------------------------------------------- */

static enum mqg_err connect_client(struct mqtt_conn *c, const struct mqtt_connect *p, struct mqg_error *e)
{
    struct mqg_slice id = p->client_id;
    if (id.len > MQTT_CLIENT_ID_MAX)
        return mqg_error_set(e, MQG_INVALID, MQTT_RC_CLIENT_ID_INVALID,
                             "a client identifier has at most %u bytes", MQTT_CLIENT_ID_MAX);
    if (id.len == 0 && (p->version == MQTT_31 || (p->version == MQTT_311 && !p->clean))) /* [MQTT-3.1.3-8] */
        return mqg_error_set(e, MQG_INVALID, MQTT_RC_CLIENT_ID_INVALID,
                             "an empty client identifier wants a clean session");
    if (id.len > 0) {
        memcpy(c->client, id.ptr, id.len);
        c->client_len = (uint8_t)id.len;
        return MQG_OK;
    }
    c->client_len = (uint8_t)snprintf(c->client, sizeof(c->client), "auto-%016llx%08x",
                                      (unsigned long long)mqg_random_u64(), (unsigned)mqg_random_u64());
    c->assigned = true;
    return MQG_OK;
}

/* ---- CONNECT ---------------------------------------------------------------------------------------------------------- */

static uint32_t connect_expiry(const struct mqtt_conn *c, const struct mqtt_connect *p)
{
    uint32_t max = c->told->expiry_max_s;
    uint32_t s = p->version == MQTT_5 ? mqtt_num(&p->props, MQTT_P_SESSION_EXPIRY, 0)
                 : p->clean           ? 0
                                      : MQTT_EXPIRY_NEVER;
    return max > 0 && s > max ? max : s;
}

static void connect_take(struct mqtt_conn *c, const struct mqtt_connect *p)
{
    c->told = mqtt_settings();
    uint32_t most = c->told->inflight_max;
    c->clean = p->clean;
    c->keep_alive_s = p->keep_alive_s;
    uint32_t max_s = c->told->keep_alive_max_s;
    if (max_s > 0 && p->version == MQTT_5 && (c->keep_alive_s == 0 || c->keep_alive_s > max_s))
        c->keep_alive_s = (uint16_t)max_s;
    c->expiry_s = connect_expiry(c, p);
    c->send_max = mqtt_num(&p->props, MQTT_P_RECEIVE_MAXIMUM, UINT16_MAX);
    if (c->send_max > most)
        c->send_max = most;
    c->packet_max = mqtt_num(&p->props, MQTT_P_MAXIMUM_PACKET_SIZE, 0);
    c->alias_max = (uint16_t)mqtt_num(&p->props, MQTT_P_TOPIC_ALIAS_MAXIMUM, 0);
    if (c->alias_max > c->told->alias_max)
        c->alias_max = (uint16_t)c->told->alias_max;
    c->problem_info = mqtt_num(&p->props, MQTT_P_REQUEST_PROBLEM, 1) != 0;
    c->response_info = mqtt_num(&p->props, MQTT_P_REQUEST_RESPONSE, 0) != 0;
}

static void connect_look(struct mqg_timer *t)
{
    struct mqtt_conn *c = MQG_CONTAINER_OF(t, struct mqtt_conn, timer);
    if (c->phase != MQTT_WAITING)
        return;
    if (mqtt_retained_ready(c->principal->vhost))
        mqtt_session_claim(c);
    else
        mqg_timer_in(t, CONNECT_LOOK_MS);
}

static enum mqg_err connect_will_take(struct mqtt_conn *c, const struct mqtt_connect *p, struct mqg_error *e)
{
    if (p->will_payload.len > mqtt_settings()->message_max)
        return mqg_error_set(e, MQG_TOO_LARGE, MQTT_RC_PACKET_TOO_LARGE, "the will is too large");
    if (mqg_slice_starts(p->will_topic, MQG_SLICE_LIT("$SYS/")) || !mqtt_may(c, MQG_WRITE, p->will_topic))
        return mqg_error_set(e, MQG_DENIED, MQTT_RC_NOT_AUTHORIZED, "not allowed to publish the will");
    c->will = mqtt_will_new(p, c->principal, mqg_slice_of(c->client, c->client_len));
    return c->will ? MQG_OK
                   : mqg_error_set(e, MQG_NO_MEMORY, MQTT_RC_QUOTA_EXCEEDED, "out of message memory");
}

static enum mqg_err connect_will(struct mqtt_conn *c, const struct mqtt_connect *p, struct mqg_error *e)
{
    if (!p->has_will)
        return MQG_OK;
    struct mqg_dynbuf room;
    struct mqtt_connect mapped = *p;
    mqg_dynbuf_init(&room, 1u << 16);
    mapped.will_topic = mqtt_topic_in(p->will_topic, &room);
    enum mqg_err err = connect_will_take(c, &mapped, e);
    mqg_dynbuf_fini(&room);
    return err;
}

enum mqg_err mqtt_connect(struct mqtt_conn *c, struct mqg_slice body, struct mqg_error *e)
{
    struct mqtt_connect p;
    enum mqg_err err = mqtt_connect_decode(body, &p, e);
    c->version = p.version;
    if (err ==
        MQG_UNSUPPORTED) /* 3.1.2.2: code 1 in the words of 3.1.1, the reason in those of 5.0 and later */
        c->version = body.len > 6 && body.ptr[6] >= 5 && body.ptr[6] < 0x80 ? MQTT_5 : MQTT_311;
    if (err != MQG_OK)
        return err;
    connect_take(c, &p);
    if (mqtt_has(&p.props, MQTT_P_AUTH_METHOD))
        return mqtt_auth_connect(c, body, &p, e);
    return mqtt_connect_go(c, &p, e);
}

enum mqg_err mqtt_connect_go(struct mqtt_conn *c, const struct mqtt_connect *p, struct mqg_error *e)
{
    enum mqg_err err = connect_client(c, p, e);
    if (err == MQG_OK)
        err = connect_login(c, p, e);
    if (err == MQG_OK)
        err = connect_will(c, p, e);
    if (err != MQG_OK)
        return err;
    c->phase = MQTT_WAITING;
    mqtt_stall(c, true);
    mqg_timer_init(&c->timer, connect_look);
    connect_look(&c->timer);
    return MQG_OK;
}

/* ---- CONNACK ------------------------------------------------------------------------------------------------------------- */

static void connack_props(struct mqtt_conn *c, struct mqg_dynbuf *out)
{
    const struct mqtt_settings *told = c->told;
    uint32_t max_s = told->keep_alive_max_s;
    if (told->expiry_max_s > 0 && c->expiry_s == told->expiry_max_s)
        mqtt_add_num(out, MQTT_P_SESSION_EXPIRY, c->expiry_s);
    if (told->receive_maximum < UINT16_MAX)
        mqtt_add_num(out, MQTT_P_RECEIVE_MAXIMUM, told->receive_maximum);
    mqtt_add_num(out, MQTT_P_MAXIMUM_PACKET_SIZE, told->packet_max);
    if (c->assigned)
        mqtt_add_str(out, MQTT_P_ASSIGNED_CLIENT_ID, mqg_slice_of(c->client, c->client_len));
    if (told->alias_max > 0)
        mqtt_add_num(out, MQTT_P_TOPIC_ALIAS_MAXIMUM, told->alias_max);
    if (max_s > 0 && c->keep_alive_s == max_s)
        mqtt_add_num(out, MQTT_P_SERVER_KEEP_ALIVE, max_s);
    mqtt_auth_connack(c->auth, out);
    if (c->response_info) {
        char topic[MQTT_CLIENT_ID_MAX + 32];
        int n = snprintf(topic, sizeof(topic), "mqtt/response/%s/", c->client);
        mqtt_add_str(out, MQTT_P_RESPONSE_INFO, mqg_slice_of(topic, (size_t)n));
    }
}

static void connect_open(struct mqtt_conn *c, enum mqtt_feed_kind kind)
{
    struct mqg_queue *q = NULL;
    struct mqg_error e = {0};
    uint64_t ticket = 0;
    if (mqtt_session_queue(c->session, kind, &q, &ticket, &e) != MQG_OK ||
        mqtt_feed_open(c, kind, NULL, q, &e) != MQG_OK)
        mqtt_fail(c, MQTT_RC_UNSPECIFIED, "%s", e.text);
}

static void connect_open_shares(struct mqtt_conn *c)
{
    for (uint32_t i = 0; c->phase == MQTT_UP && i < c->session->subs.n; i++) {
        struct mqtt_sub *sub = c->session->subs.list[i];
        struct mqg_queue *q = NULL;
        struct mqg_error e = {0};
        uint64_t ticket = 0;
        if (sub->share && (mqtt_share_queue(sub->share, &q, &ticket, &e) != MQG_OK ||
                           mqtt_feed_open(c, MQTT_FEED_SHARE, sub, q, &e) != MQG_OK))
            mqtt_fail(c, MQTT_RC_UNSPECIFIED, "%s", e.text);
    }
}

/* CONNACK has left. */
static void connect_up(struct mqtt_conn *c, uint16_t packet_id)
{
    (void)packet_id;
    c->phase = MQTT_UP;
    mqtt_tally(c, MQTT_TALLY_CONNECTS, 1);
    mqg_timer_init(&c->timer, mqtt_durable_look);
    mqg_conn_input_max(c->conn, MQTT_INPUT_MAX + 16);
    mqg_conn_idle(c->conn, c->keep_alive_s * 1500u); /* [MQTT-3.1.2-22] */
    mqtt_stall(c, false);
    mqtt_release_again(c);
    for (int k = MQTT_FEED_QOS0; k <= MQTT_FEED_SESSION && c->phase == MQTT_UP; k++)
        if (c->session->has_queue[k])
            connect_open(c, (enum mqtt_feed_kind)k);
    connect_open_shares(c);
}

void mqtt_connected(struct mqtt_conn *c, struct mqtt_session *s)
{
    if (c->clean || s->vhost != c->principal->vhost)
        mqtt_session_wipe(s);
    c->session_present = s->known;
    if (!s->known)
        s->durable = c->expiry_s > 0;
    s->known = true;
    s->vhost = c->principal->vhost;
    s->conn = c;
    s->expiry_s = c->expiry_s;
    s->expire_ms = 0;
    mqtt_will_end(s, false); /* the session goes on: the delayed will is not sent */
    mqg_timer_cancel(&s->timer);
    c->session = s;
    c->phase = MQTT_STARTING;
    s->gone_us = 0;
    s->will_stored = s->durable && c->will;
    if (s->will_stored)
        mqtt_persist_will(s, c->will, MQTT_WILL_OPEN);
    if (s->durable)
        mqtt_persist_session(s);
    uint8_t head[2] = {c->session_present, 0};
    struct mqg_dynbuf props, out;
    mqg_dynbuf_init(&props, 4096);
    mqg_dynbuf_init(&out, 8192);
    if (c->version == MQTT_5)
        connack_props(c, &props);
    if (c->version == MQTT_31)
        head[0] = 0;
    mqtt_packet_put(&out, MQTT_CONNACK, c->version, mqg_slice_of(head, 2), mqg_dynbuf_view(&props),
                    MQG_SLICE_NONE);
    if (c->packet_max > 0 && out.len > c->packet_max)
        mqtt_fail(c, MQTT_RC_PACKET_TOO_LARGE, "a client that takes %u bytes does not take CONNACK",
                  c->packet_max);
    else
        mqtt_answer(c, s->durable ? s->ticket : 0, mqg_dynbuf_view(&out), connect_up, 0);
    mqg_dynbuf_fini(&props);
    mqg_dynbuf_fini(&out);
}
