/* subscribe.c - SUBSCRIBE and UNSUBSCRIBE: a session's filters, as bindings of its queues on the topic exchange.
 *
 * A filter with QoS 0 binds the one queue of the session, one with QoS 1 or 2 the other. Where a repeated subscription changes
 * that, the new binding is made before the old one goes, so that nothing is lost in between ([MQTT-3.8.4-3]). SUBACK leaves when
 * the definitions are durable.
 *
 * The bindings of a packet are one change of the vhost's snapshot, which to look a queue up would publish early: so the queue is
 * taken from its feed, and retained messages are looked for when all bindings are published. What is retained after that comes by a
 * binding, so none is missed. */
#include "mqtt.h"

#include <stdlib.h>

/* No connection's: to have one says that the change may be published with the turn's others. */
#define BIND_CONN_ID UINT64_MAX

/* ---- the session's list ------------------------------------------------------------------------------------------- */

struct mqtt_sub *mqtt_sub_put(struct mqtt_session *s, struct mqg_slice name, bool *fresh)
{
    struct mqtt_sub *sub = mqtt_subs_get(&s->subs, name);
    struct mqg_slice group, filter;
    bool bad;
    s->cached = false;
    *fresh = sub == NULL;
    if (sub)
        return sub;
    sub = mqtt_subs_add(&s->subs, name);
    if (mqtt_share_split(mqtt_sub_name(sub), &group, &filter, &bad)) {
        sub->filter_at = (uint16_t)(sub->name_len - filter.len);
        sub->share = mqtt_share_ref(s->vhost, group, filter);
    }
    return sub;
}

void mqtt_sub_free(struct mqtt_session *s, struct mqtt_sub *sub)
{
    s->cached = false;
    if (sub->share)
        mqtt_share_unref(&sub->share);
    mqtt_subs_del(&s->subs, sub);
}

enum mqg_err mqtt_bind(struct mqg_vhost *v, struct mqg_slice queue, struct mqg_slice filter, bool on,
                       uint64_t *ticket, struct mqg_error *e)
{
    struct mqg_dynbuf key;
    mqg_dynbuf_init(&key, 1u << 17);
    mqtt_filter_key(&key, filter);
    struct mqg_binding_def b = {
        .source = mqtt_exchange_of(filter), .destination = queue, .key = mqg_dynbuf_view(&key)};
    uint64_t own_ticket = 0;
    struct mqg_session *own = mqg_session_internal(v);
    own->conn_id = BIND_CONN_ID;
    enum mqg_err err = on ? mqg_binding_put(own, &b, &own_ticket, e)
                          : mqg_binding_delete(own, &b, &own_ticket, e);
    mqg_session_unref(&own);
    mqg_dynbuf_fini(&key);
    if (own_ticket > *ticket)
        *ticket = own_ticket;
    return err;
}

/* ---- one filter --------------------------------------------------------------------------------------------------------- */

static enum mqtt_feed_kind sub_kind(uint8_t qos)
{
    return qos == 0 ? MQTT_FEED_QOS0 : MQTT_FEED_SESSION;
}

static enum mqg_err sub_feed(struct mqtt_conn *c, enum mqtt_feed_kind kind, struct mqtt_sub *share,
                             struct mqg_queue **q, struct mqg_error *e)
{
    if (mqtt_feed_find(c, kind, share))
        return MQG_OK;
    struct mqg_queue *own = mqg_queue_ref(*q);
    return mqtt_feed_open(c, kind, share, own, e);
}

/* Two filters of a session may be one binding (a literal star and a plus in one place): it goes with the last of them. */
static bool sub_key_shared(const struct mqtt_session *s, const struct mqtt_sub *sub, enum mqtt_feed_kind kind)
{
    struct mqg_dynbuf a, b;
    bool same = false;
    struct mqg_slice filter = mqtt_sub_filter(sub);
    if (!memchr(filter.ptr, '*', filter.len) && !memchr(filter.ptr, '+', filter.len))
        return false;
    mqg_dynbuf_init(&a, 1u << 17);
    mqg_dynbuf_init(&b, 1u << 17);
    mqtt_filter_key(&a, filter);
    for (uint32_t i = 0; i < s->subs.n && !same; i++) {
        const struct mqtt_sub *x = s->subs.list[i];
        if (x == sub || x->share || mqtt_sub_filter(x).len != filter.len || sub_kind(x->qos) != kind)
            continue;
        mqg_dynbuf_reset(&b);
        mqtt_filter_key(&b, mqtt_sub_filter(x));
        same = mqg_slice_eq(mqg_dynbuf_view(&a), mqg_dynbuf_view(&b));
    }
    mqg_dynbuf_fini(&a);
    mqg_dynbuf_fini(&b);
    return same;
}

static enum mqg_err sub_unbind(struct mqtt_session *s, const struct mqtt_sub *sub, uint8_t qos,
                               uint64_t *ticket, struct mqg_error *e)
{
    char room[256];
    if (sub_key_shared(s, sub, sub_kind(qos)))
        return MQG_OK;
    return mqtt_bind(s->vhost, mqtt_session_queue_name(s, sub_kind(qos), room), mqtt_sub_filter(sub), false,
                     ticket, e);
}

/* With QoS 2 what it gets goes through the session's queue (deliver.c). */
static enum mqg_err sub_bind_share(struct mqtt_conn *c, struct mqtt_sub *sub, struct mqg_queue **q,
                                   uint64_t *ticket, struct mqg_error *e)
{
    enum mqg_err err = MQG_OK;
    if (sub->qos == 2 && !mqtt_feed_find(c, MQTT_FEED_SESSION, NULL)) {
        err = mqtt_session_queue(c->session, MQTT_FEED_SESSION, q, ticket, e);
        if (err == MQG_OK)
            err = sub_feed(c, MQTT_FEED_SESSION, NULL, q, e);
        mqg_queue_unref(q);
    }
    if (err == MQG_OK)
        err = mqtt_share_queue(sub->share, q, ticket, e);
    return err == MQG_OK ? sub_feed(c, MQTT_FEED_SHARE, sub, q, e) : err;
}

static enum mqg_err sub_bind(struct mqtt_conn *c, struct mqtt_sub *sub, uint8_t old_qos, bool fresh,
                             struct mqg_queue **q, uint64_t *ticket, struct mqg_error *e)
{
    struct mqtt_session *s = c->session;
    enum mqtt_feed_kind kind = sub_kind(sub->qos);
    char room[256];
    if (sub->share)
        return sub_bind_share(c, sub, q, ticket, e);
    const struct mqtt_feed *f = mqtt_feed_find(c, kind, NULL);
    if (f)
        *q = mqg_queue_ref(f->queue);
    enum mqg_err err = f ? MQG_OK : mqtt_session_queue(s, kind, q, ticket, e);
    if (err == MQG_OK && (fresh || sub_kind(old_qos) != kind))
        err = mqtt_bind(s->vhost, mqtt_session_queue_name(s, kind, room), mqtt_sub_filter(sub), true, ticket,
                        e);
    if (err == MQG_OK && !fresh && sub_kind(old_qos) != kind)
        err = sub_unbind(s, sub, old_qos, ticket, e);
    return err == MQG_OK ? sub_feed(c, kind, NULL, q, e) : err;
}

/* 0, or the reason of a refusal. */
static int sub_judge(struct mqtt_conn *c, const struct mqtt_filter *f)
{
    struct mqg_slice group, filter = f->name;
    bool bad = false;
    bool shared = mqtt_share_split(f->name, &group, &filter, &bad);
    if (bad || !mqtt_filter_ok(shared ? filter : f->name) || (shared && group.len + filter.len > UINT16_MAX))
        return MQTT_RC_FILTER_INVALID;
    if (!mqtt_may(c, MQG_READ, filter))
        return MQTT_RC_NOT_AUTHORIZED;
    bool known = mqtt_subs_get(&c->session->subs, f->name) != NULL;
    if (!known && c->session->subs.n >= mqtt_settings()->subscriptions_max)
        return MQTT_RC_QUOTA_EXCEEDED;
    return 0;
}

/* *retained: the filter is to bring retained messages ([MQTT-3.3.1-9..11]). */
static uint8_t sub_one(struct mqtt_conn *c, const struct mqtt_filter *f, uint32_t id, uint64_t *ticket,
                       bool *retained)
{
    struct mqg_error e = {0};
    int reason = sub_judge(c, f);
    if (reason != 0) {
        mqg_log(MQG_LOG_INFO, MQG_EVENT_PROTOCOL_ERROR, "conn=%llu client=%s filter=%s reason=0x%02x",
                (unsigned long long)mqg_conn_info(c->conn)->id, mqg_logqs(c->client), mqg_logq(f->name),
                (unsigned)reason);
        return c->version == MQTT_5 ? (uint8_t)reason : 0x80;
    }
    bool fresh;
    struct mqg_queue *q = NULL;
    struct mqtt_sub *sub = mqtt_sub_put(c->session, f->name, &fresh);
    uint8_t old_qos = sub->qos;
    sub->qos = f->qos;
    sub->no_local = f->no_local;
    sub->retain_as_published = f->retain_as_published;
    sub->id = id;
    enum mqg_err err = sub_bind(c, sub, old_qos, fresh, &q, ticket, &e);
    mqg_queue_unref(&q);
    if (err != MQG_OK) {
        mqg_log(MQG_LOG_WARN, MQG_EVENT_DEFINE, "client=%s filter=%s why=%s", mqg_logqs(c->client),
                mqg_logq(f->name), mqg_logqs(e.text));
        if (fresh)
            mqtt_sub_free(c->session, sub);
        return 0x80;
    }
    if (c->session->durable)
        mqtt_persist_sub(c->session, sub, false);
    *retained = !sub->share && (f->retain_handling == 0 || (f->retain_handling == 1 && fresh));
    return sub->qos;
}

/* One filter whose binding is published. */
static void sub_retained(struct mqtt_conn *c, struct mqg_slice name)
{
    const struct mqtt_sub *sub = mqtt_subs_get(&c->session->subs, name);
    const struct mqtt_feed *f = sub ? mqtt_feed_find(c, sub_kind(sub->qos), NULL) : NULL;
    if (f)
        mqtt_retained_send(c->session, sub, f->queue);
}

/* The next filter of the packet, mapped; room: kept from one to the next. */
static bool subs_next(struct mqtt_filters *list, struct mqtt_filter *f, struct mqg_dynbuf *room)
{
    if (!mqtt_filters_next(list, f))
        return false;
    f->name = mqtt_topic_in(f->name, room);
    return true;
}

/* wanted: a byte for each filter of the packet. */
static void subs_retained(struct mqtt_conn *c, struct mqg_slice body, const struct mqg_dynbuf *wanted)
{
    struct mqtt_filters list;
    struct mqtt_filter f;
    struct mqg_error e = {0};
    struct mqg_queue *q = NULL;
    struct mqg_session *own = mqg_session_internal(c->session->vhost);
    if (mqg_queue_open(own, MQG_SLICE_LIT(MQTT_RETAINED_QUEUE), &q, &e) ==
        MQG_OK) /* publishes the bindings */
        mqg_queue_unref(&q);
    mqg_session_unref(&own);
    if (mqtt_filters_decode(MQTT_SUBSCRIBE, body, c->version, &list, &e) != MQG_OK)
        return;
    struct mqg_dynbuf room;
    mqg_dynbuf_init(&room, 1u << 16);
    for (size_t i = 0; i < wanted->len && subs_next(&list, &f, &room); i++)
        if (wanted->ptr[i])
            sub_retained(c, f.name);
    mqg_dynbuf_fini(&room);
}

/* ---- the packets ------------------------------------------------------------------------------------------------------------ */

static void sub_ack(struct mqtt_conn *c, enum mqtt_type type, uint16_t packet_id, uint64_t ticket,
                    const struct mqg_dynbuf *codes)
{
    struct mqg_dynbuf out;
    uint8_t head[2];
    if (c->session->durable)
        mqtt_note_sent(c);
    mqg_put_be16(head, packet_id);
    mqg_dynbuf_init(&out, 1u << 20);
    bool tells = type == MQTT_SUBACK || c->version == MQTT_5;
    mqtt_packet_put(&out, type, c->version, mqg_slice_of(head, 2), MQG_SLICE_NONE,
                    tells ? mqg_dynbuf_view(codes) : MQG_SLICE_NONE);
    mqtt_answer(c, c->session->durable ? ticket : 0, mqg_dynbuf_view(&out), NULL, 0);
    mqg_dynbuf_fini(&out);
}

enum mqg_err mqtt_subscribe(struct mqtt_conn *c, struct mqg_slice body, struct mqg_error *e)
{
    struct mqtt_filters list;
    enum mqg_err err = mqtt_filters_decode(MQTT_SUBSCRIBE, body, c->version, &list, e);
    if (err != MQG_OK)
        return err;
    mqtt_publish_end_input(c);
    mqg_publish_flush();
    struct mqg_dynbuf codes, wanted, room;
    struct mqtt_filter f;
    uint64_t ticket = 0;
    mqg_dynbuf_init(&codes, MQTT_INPUT_MAX);
    mqg_dynbuf_init(&wanted, MQTT_INPUT_MAX);
    mqg_dynbuf_init(&room, 1u << 16);
    while (subs_next(&list, &f, &room)) {
        bool retained = false;
        mqg_dynbuf_u8(&codes, sub_one(c, &f, list.subscription_id, &ticket, &retained));
        mqg_dynbuf_u8(&wanted, retained);
    }
    if (wanted.len > 0 && memchr(wanted.ptr, 1, wanted.len))
        subs_retained(c, body, &wanted);
    mqg_dynbuf_fini(&wanted);
    mqg_dynbuf_fini(&room);
    if (c->session->ticket > ticket)
        ticket = c->session->ticket;
    sub_ack(c, MQTT_SUBACK, list.packet_id, ticket, &codes);
    mqg_dynbuf_fini(&codes);
    return MQG_OK;
}

/* What is in flight of a shared subscription (QoS 1) goes to its other members. */
static void unsub_feed(struct mqtt_conn *c, struct mqtt_feed *f)
{
    struct mqtt_ids *ids = &c->session->out;
    mqtt_settle_flush(c);
    mqg_unsubscribe(&f->sub);
    struct mqtt_id *x;
    for (uint32_t at = 0; (x = mqtt_ids_next(ids, &at)) != NULL;) {
        if (x->feed != f)
            continue;
        mqg_settle(f->queue, NULL, &x->handle, 1, MQG_SETTLE_RETURN);
        mqtt_ids_drop(ids, x->id);
        if (c->out_quota > 0)
            c->out_quota--;
        at = 0;
    }
    mqtt_feed_close(f);
}

static uint8_t unsub_one(struct mqtt_conn *c, struct mqg_slice name, uint64_t *ticket)
{
    struct mqtt_session *s = c->session;
    struct mqtt_sub *sub = mqtt_subs_get(&s->subs, name);
    struct mqg_error e = {0};
    if (!sub)
        return MQTT_RC_NO_SUBSCRIPTION_EXISTED;
    struct mqtt_feed *f = sub->share ? mqtt_feed_find(c, MQTT_FEED_SHARE, sub) : NULL;
    if (f)
        unsub_feed(c, f);
    if (!sub->share && sub_unbind(s, sub, sub->qos, ticket, &e) != MQG_OK)
        mqg_log(MQG_LOG_WARN, MQG_EVENT_DEFINE, "client=%s filter=%s why=%s", mqg_logqs(c->client),
                mqg_logq(name), mqg_logqs(e.text));
    if (s->durable)
        mqtt_persist_sub(s, sub, true);
    mqtt_sub_free(s, sub);
    return 0;
}

enum mqg_err mqtt_unsubscribe(struct mqtt_conn *c, struct mqg_slice body, struct mqg_error *e)
{
    struct mqtt_filters list;
    enum mqg_err err = mqtt_filters_decode(MQTT_UNSUBSCRIBE, body, c->version, &list, e);
    if (err != MQG_OK)
        return err;
    mqtt_publish_end_input(c);
    mqg_publish_flush();
    struct mqg_dynbuf codes, room;
    struct mqtt_filter f;
    uint64_t ticket = 0;
    mqg_dynbuf_init(&codes, MQTT_INPUT_MAX);
    mqg_dynbuf_init(&room, 1u << 16);
    while (subs_next(&list, &f, &room)) {
        bool ok = mqtt_filter_ok(f.name);
        uint8_t code = ok ? unsub_one(c, f.name, &ticket) : MQTT_RC_FILTER_INVALID;
        mqg_dynbuf_u8(&codes, code);
    }
    if (c->session->ticket > ticket)
        ticket = c->session->ticket;
    sub_ack(c, MQTT_UNSUBACK, list.packet_id, ticket, &codes);
    mqg_dynbuf_fini(&codes);
    mqg_dynbuf_fini(&room);
    return MQG_OK;
}
