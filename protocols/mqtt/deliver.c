/* deliver.c - PUBLISH to clients: what a delivery looks like on the wire, what is in flight, its acknowledgements.
 *
 * Of a session's queue the packet identifier is a function of the message's number there, so that after a restart the same message
 * comes with the same identifier, without a record of it. Two messages in flight cannot share one: the later stands back until the
 * earlier is through. Shared subscriptions take theirs from the numbers above.
 *
 * QoS 2 (4.3.3): with PUBREC the client has the message. In a session that outlives its connection the identifier is written down
 * first, then the message is settled and PUBREL sent: a crash in between finds the message in the queue and the identifier in the
 * list, and does not send it again. With PUBCOMP the identifier leaves the list, and is used anew when that is durable. */
#include "mqtt.h"

#include <stdlib.h>

#define OUT_SESSION_IDS 49151u /* 1..49151 by qseq; above: shared subscriptions */
#define OUT_LOOK_MS     1u
#define OUT_SMALL_BYTES 8192u
#define OUT_HEAD_BYTES  60000u

enum out_verdict { OUT_DONE, OUT_HELD, OUT_WAIT }; /* nothing to settle later; in flight; not now */

/* One PUBLISH, as it will be written. */
struct out_publish {
    struct mqg_msg *msg;
    struct mqg_slice topic, props; /* props: those that came with the message */
    uint32_t alias, left_s;
    bool has_left, retain, dup, alias_known;
    uint8_t qos;
    uint16_t packet_id;
    uint32_t nids;
    const uint32_t *ids;
};

/* ---- writing ------------------------------------------------------------------------------------------------------- */

static uint32_t out_props_bytes(const struct mqtt_conn *c, const struct out_publish *o)
{
    if (c->version != MQTT_5)
        return 0;
    size_t n = o->props.len + (o->has_left ? 5 : 0) + (o->alias ? 3 : 0);
    for (uint32_t i = 0; i < o->nids; i++)
        n += 1 + mqtt_varint_bytes(o->ids[i]);
    return (uint32_t)n;
}

static uint8_t *out_put_props(uint8_t *p, const struct out_publish *o, uint32_t bytes)
{
    p = mqtt_put_varint(p, bytes);
    if (o->has_left) {
        *p++ = MQTT_P_MESSAGE_EXPIRY;
        mqg_put_be32(p, o->left_s);
        p += 4;
    }
    if (o->alias) {
        *p++ = MQTT_P_TOPIC_ALIAS;
        mqg_put_be16(p, (uint16_t)o->alias);
        p += 2;
    }
    for (uint32_t i = 0; i < o->nids; i++) {
        *p++ = MQTT_P_SUBSCRIPTION_ID;
        p = mqtt_put_varint(p, o->ids[i]);
    }
    if (o->props.len > 0)
        memcpy(p, o->props.ptr, o->props.len);
    return p + o->props.len;
}

static uint8_t *out_put_head(uint8_t *p, const struct mqtt_conn *c, const struct out_publish *o,
                             uint32_t props, uint32_t total)
{
    *p++ = (uint8_t)(MQTT_PUBLISH << 4 | (o->dup ? 8 : 0) | o->qos << 1 | (o->retain ? 1 : 0));
    p = mqtt_put_varint(p, total);
    p = mqtt_put_bytes(p, o->alias_known ? MQG_SLICE_NONE : o->topic);
    if (o->qos > 0) {
        mqg_put_be16(p, o->packet_id);
        p += 2;
    }
    return c->version == MQTT_5 ? out_put_props(p, o, props) : p;
}

static void out_write(struct mqtt_conn *c, const struct out_publish *o, uint32_t props, uint32_t total)
{
    struct mqg_slice body = mqg_msg_body(o->msg);
    size_t head = 1 + mqtt_varint_bytes(total) + total - body.len;
    bool small = head + body.len <= OUT_SMALL_BYTES;
    if (head <= OUT_HEAD_BYTES) {
        uint8_t *at = mqg_conn_reserve(c->conn, small ? head + body.len : head);
        uint8_t *p = out_put_head(at, c, o, props, total);
        if (small && body.len > 0)
            memcpy(p, body.ptr, body.len);
        mqg_conn_commit(c->conn, small ? head + body.len : head);
    } else {
        uint8_t *big = mqg_xmalloc(head);
        out_put_head(big, c, o, props, total);
        mqg_conn_write(c->conn, mqg_slice_of(big, head));
        free(big);
    }
    if (!small)
        mqg_conn_write_msg(c->conn, o->msg, body);
}

static void out_alias(struct mqtt_conn *c, struct out_publish *o)
{
    void *known = mqg_map_get(&c->alias_out, o->topic);
    if (!known && c->naliases < c->alias_max) {
        c->naliases++;
        mqg_map_set(&c->alias_out, o->topic, (void *)(uintptr_t)c->naliases);
        o->alias = c->naliases;
    } else if (known) {
        o->alias = (uint32_t)(uintptr_t)known;
        o->alias_known = true;
    }
}

/* False: it is larger than the client takes, and was not sent ([MQTT-3.1.2-24]). */
static bool out_send(struct mqtt_conn *c, struct out_publish *o)
{
    size_t body = o->msg->st.body_len;
    uint32_t props = out_props_bytes(c, o);
    size_t fixed = 2 + o->topic.len + (o->qos ? 2 : 0) + body;
    size_t total = fixed + (c->version == MQTT_5 ? mqtt_varint_bytes(props) + props : 0);
    if (o->topic.len > UINT16_MAX || total > MQTT_VARINT_MAX ||
        (c->packet_max && total + 8 > c->packet_max)) {
        mqg_count(MQG_COUNT_OVERFLOW_DROPPED, 1);
        return false;
    }
    if (c->alias_max > 0) {
        out_alias(c, o);
        props = out_props_bytes(c, o);
        total = fixed - (o->alias_known ? o->topic.len : 0) + mqtt_varint_bytes(props) + props;
    }
    out_write(c, o, props, (uint32_t)total);
    return true;
}

/* ---- one delivery ------------------------------------------------------------------------------------------------------ */

/* Retained messages for a new subscription say in the exchange's place what they are for: mark, QoS, '/', identifier. */
static bool out_is_replay(const struct mqg_msg *m, struct mqtt_match *out)
{
    struct mqg_slice x = mqg_msg_exchange(m);
    static const struct mqg_slice mark = MQG_SLICE_INIT(MQTT_RETAINED_MARK);
    if (x.len < mark.len + 2 || !mqg_slice_starts(x, mark))
        return false;
    *out = (struct mqtt_match){.any = true, .retain = true};
    out->qos = (uint8_t)(x.ptr[mark.len] - '0') & 3;
    for (size_t i = mark.len + 2; i < x.len; i++)
        out->ids[0] = out->ids[0] * 10 + (uint32_t)(x.ptr[i] - '0');
    out->nids = out->ids[0] != 0;
    return true;
}

static void out_share_match(const struct mqtt_sub *sub, struct mqtt_match *out)
{
    *out = (struct mqtt_match){.any = true, .retain = sub->retain_as_published, .qos = sub->qos};
    out->ids[0] = sub->id;
    out->nids = sub->id != 0;
}

/* The time left; false: none is. */
static bool out_expiry(const struct mqg_msg *m, uint64_t now_us, struct out_publish *o)
{
    o->has_left = (m->st.flags & MQG_MSG_HAS_TTL) != 0;
    if (!o->has_left)
        return true;
    uint64_t gone_ms = now_us > m->st.append_us ? (now_us - m->st.append_us) / 1000 : 0;
    if (gone_ms >= m->st.ttl_ms)
        return false;
    uint64_t left = (m->st.ttl_ms - gone_ms + 999) / 1000;
    o->left_s = left > UINT32_MAX ? UINT32_MAX : (uint32_t)left;
    return true;
}

static bool out_is_released(const struct mqtt_session *s, uint64_t qseq)
{
    struct mqtt_id *x;
    for (uint32_t at = 0; (x = mqtt_ids_next(&s->out, &at)) != NULL;)
        if (x->qseq == qseq && (x->state == MQTT_OUT_RELEASED || x->state == MQTT_OUT_LEAVING))
            return true;
    return false;
}

/* 0: none is free now. */
static uint16_t out_packet_id(struct mqtt_conn *c, const struct mqtt_feed *f, uint64_t qseq)
{
    const struct mqtt_ids *ids = &c->session->out;
    if (f->kind == MQTT_FEED_SESSION) {
        uint64_t n = (qseq & UINT64_C(0xffffffffffff)) + (qseq >> 48) * 7919;
        uint16_t id = (uint16_t)(1 + n % OUT_SESSION_IDS);
        return mqtt_ids_get(ids, id) ? 0 : id;
    }
    for (uint32_t i = OUT_SESSION_IDS; i < UINT16_MAX; i++) {
        c->next_share_id = c->next_share_id == UINT16_MAX ? OUT_SESSION_IDS + 1
                                                          : (uint16_t)(c->next_share_id + 1);
        if (!mqtt_ids_get(ids, c->next_share_id))
            return c->next_share_id;
    }
    return 0;
}

/* Exactly once waits for the disk: what a crash takes away comes again from its publisher, under another number. */
static bool out_is_durable(const struct mqg_msg *m)
{
    return !m->extent || atomic_load_explicit(&m->extent->place, memory_order_acquire) != MQG_PLACE_NONE;
}

void mqtt_durable_look(struct mqg_timer *t)
{
    mqtt_feeds_kick(MQG_CONTAINER_OF(t, struct mqtt_conn, timer), true);
}

static enum out_verdict out_in_flight(struct mqtt_conn *c, struct mqtt_feed *f, const struct mqg_delivery *d,
                                      struct out_publish *o)
{
    struct mqtt_session *s = c->session;
    if (f->kind == MQTT_FEED_SESSION && d->redelivered && out_is_released(s, d->qseq))
        return OUT_DONE; /* the client has it: PUBREL was sent instead */
    if (o->qos == 2 && s->durable && !out_is_durable(d->msg)) {
        if (c->timer.due_ms == 0)
            mqg_timer_in(&c->timer, OUT_LOOK_MS);
        return OUT_WAIT;
    }
    o->packet_id = c->out_quota < c->send_max ? out_packet_id(c, f, d->qseq) : 0;
    if (o->packet_id == 0)
        return OUT_WAIT;
    o->dup = f->kind == MQTT_FEED_SESSION && (d->redelivered || d->qseq <= s->sent_upto);
    if (!out_send(c, o))
        return OUT_DONE;
    struct mqtt_id *x = mqtt_ids_add(&s->out, o->packet_id);
    x->state = o->qos == 1 ? MQTT_OUT_QOS1 : MQTT_OUT_QOS2;
    x->feed = f;
    x->handle = d->handle;
    x->qseq = f->kind == MQTT_FEED_SESSION ? d->qseq : 0;
    if (f->kind == MQTT_FEED_SESSION && d->qseq > s->sent_upto)
        s->sent_upto = d->qseq;
    c->out_quota++;
    return OUT_HELD;
}

/* What another protocol's message looks like here. */
static void out_foreign(struct mqtt_conn *c, const struct mqg_msg *m, struct mqg_dynbuf *topic,
                        struct mqg_dynbuf *props, struct out_publish *o)
{
    bool escaped = false;
    if (m->st.key_sep != '/') {
        mqtt_topic_out(topic, mqg_msg_key(m), (char)m->st.key_sep, &escaped);
        o->topic = mqg_dynbuf_view(topic);
    }
    if (escaped)
        mqg_count(MQG_COUNT_CONVERSION_DROPPED, 1);
    if (m->st.proto == MQG_PROTO_MQTT)
        return;
    o->qos = mqg_msg_persistent(m) ? 1 : 0;
    if (c->version == MQTT_5) {
        mqtt_props_of_view(m, props);
        o->props = props->failed ? MQG_SLICE_NONE : mqg_dynbuf_view(props);
    }
}

static enum out_verdict out_matched(struct mqtt_conn *c, struct mqtt_feed *f, const struct mqg_delivery *d,
                                    struct out_publish *o, bool was_retained)
{
    struct mqtt_match local;
    const struct mqtt_match *match = &local;
    bool replay = out_is_replay(d->msg, &local);
    if (f->kind == MQTT_FEED_SHARE)
        out_share_match(f->share, &local);
    else if (!replay)
        match = mqtt_match(c->session, d->msg, o->topic);
    if (!match->any)
        return OUT_DONE;
    if (f->kind == MQTT_FEED_QOS0 && match->qos > 0 && !replay)
        return OUT_DONE; /* the session's other queue has it too */
    o->retain = replay || (match->retain && was_retained);
    if (match->qos < o->qos)
        o->qos = match->qos;
    o->nids = c->version == MQTT_5 ? match->nids : 0;
    o->ids = match->ids;
    if (o->qos > 0)
        return out_in_flight(c, f, d, o);
    out_send(c, o);
    return OUT_DONE;
}

static enum out_verdict out_one(struct mqtt_conn *c, struct mqtt_feed *f, const struct mqg_delivery *d,
                                uint64_t now_us)
{
    struct mqtt_origin origin = mqtt_origin_of(d->msg);
    struct out_publish o = {
        .msg = d->msg, .topic = mqg_msg_key(d->msg), .props = origin.props, .qos = origin.qos};
    if (!out_expiry(d->msg, now_us, &o))
        return OUT_DONE;
    if (MQG_LIKELY(d->msg->st.proto == MQG_PROTO_MQTT && d->msg->st.key_sep == '/'))
        return out_matched(c, f, d, &o, origin.retain);
    struct mqg_dynbuf topic, props;
    mqg_dynbuf_init(&topic, 1u << 18);
    mqg_dynbuf_init(&props, 1u << 18);
    out_foreign(c, d->msg, &topic, &props, &o);
    enum out_verdict v = out_matched(c, f, d, &o, origin.retain);
    mqg_dynbuf_fini(&topic);
    mqg_dynbuf_fini(&props);
    return v;
}

/* ---- the queue's calls ----------------------------------------------------------------------------------------------------- */

static size_t feed_deliver(struct mqg_sub *sub, void *owner, const struct mqg_delivery *d, size_t n)
{
    struct mqtt_feed *f = owner;
    struct mqtt_conn *c = f->conn;
    uint64_t done[MQTT_SETTLE_BATCH];
    size_t took = 0, ndone = 0;
    uint64_t now_us = mqg_conn_worker(c->conn)->now.wall_us;
    if (c->phase != MQTT_UP)
        return 0;
    while (took < n && ndone < MQTT_SETTLE_BATCH && !mqg_conn_out_full(c->conn)) {
        enum out_verdict v = out_one(c, f, &d[took], now_us);
        f->waits = v == OUT_WAIT;
        if (v == OUT_WAIT)
            break;
        if (v == OUT_DONE && d[took].handle != 0)
            done[ndone++] = d[took].handle;
        struct mqg_msg *m = d[took].msg;
        mqg_msg_unref(&m);
        took++;
    }
    if (ndone > 0)
        mqg_settle(f->queue, f->sub, done, ndone, MQG_SETTLE_ACK);
    if (took < n && ndone == MQTT_SETTLE_BATCH)
        mqg_sub_kick(sub);
    return took;
}

static void feed_cancelled(struct mqg_sub *sub, void *owner)
{
    (void)sub;
    struct mqtt_feed *f = owner;
    mqtt_fail(f->conn, MQTT_RC_ADMINISTRATIVE, "the session's queue was deleted");
}

static const struct mqg_sub_ops feed_ops = {.deliver = feed_deliver, .cancelled = feed_cancelled};

enum mqg_err mqtt_feed_open(struct mqtt_conn *c, enum mqtt_feed_kind kind, struct mqtt_sub *share,
                            struct mqg_queue *q, struct mqg_error *e)
{
    struct mqtt_feed *f = mqg_xcalloc(1, sizeof(*f));
    *f = (struct mqtt_feed){.next = c->feeds, .conn = c, .queue = q, .share = share, .kind = kind};
    struct mqg_sub_def d = {.tag = mqg_slice_of(c->client, c->client_len),
                            .no_ack = kind == MQTT_FEED_QOS0,
                            .prefetch = kind == MQTT_FEED_QOS0 ? 0 : c->send_max,
                            .conn_id = mqg_conn_info(c->conn)->id};
    c->feeds = f;
    enum mqg_err err = mqg_subscribe(q, &d, &feed_ops, f, &f->sub, e);
    if (err == MQG_OK && kind != MQTT_FEED_QOS0)
        mqg_conn_has_unsettled(c->conn, true);
    if (err != MQG_OK)
        mqtt_feed_close(f);
    return err;
}

struct mqtt_feed *mqtt_feed_find(struct mqtt_conn *c, enum mqtt_feed_kind kind, const struct mqtt_sub *share)
{
    for (struct mqtt_feed *f = c->feeds; f; f = f->next)
        if (f->kind == kind && f->share == share)
            return f;
    return NULL;
}

void mqtt_feed_close(struct mqtt_feed *f)
{
    struct mqtt_feed **at = &f->conn->feeds;
    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    if (f->sub)
        mqg_unsubscribe(&f->sub);
    mqg_queue_unref(&f->queue);
    free(f);
}

void mqtt_feeds_kick(struct mqtt_conn *c, bool waiting_only)
{
    for (struct mqtt_feed *f = c->feeds; f; f = f->next) {
        if (!f->sub || (waiting_only && !f->waits))
            continue;
        f->waits = false;
        mqg_sub_kick(f->sub);
    }
}

/* ---- acknowledgements --------------------------------------------------------------------------------------------------------- */

void mqtt_settle_flush(struct mqtt_conn *c)
{
    uint32_t n = c->settle.n;
    struct mqtt_feed *f = c->settle.feed;
    c->settle.n = 0;
    c->settle.feed = NULL;
    if (n == 0)
        return;
    mqg_settle(f->queue, f->sub, c->settle.handles, n, MQG_SETTLE_ACK);
    mqtt_feeds_kick(c, true);
}

static void out_settle(struct mqtt_conn *c, struct mqtt_feed *f, uint64_t handle)
{
    if (c->settle.n == MQTT_SETTLE_BATCH || (c->settle.n > 0 && c->settle.feed != f))
        mqtt_settle_flush(c);
    c->settle.feed = f;
    c->settle.handles[c->settle.n++] = handle;
}

/* The identifier is free again. */
static void out_free(struct mqtt_conn *c, uint16_t packet_id)
{
    mqtt_ids_drop(&c->session->out, packet_id);
    if (c->out_quota > 0)
        c->out_quota--;
}

enum mqg_err mqtt_puback(struct mqtt_conn *c, struct mqtt_ack ack, struct mqg_error *e)
{
    struct mqtt_id *x = mqtt_ids_get(&c->session->out, ack.packet_id);
    if (!x) /* of a delivery before a reconnect, or of none: nothing can be said */
        return MQG_OK;
    if (x->state != MQTT_OUT_QOS1)
        return mqg_error_set(e, MQG_INVALID, MQTT_RC_PROTOCOL_ERROR, "PUBACK for a publish with QoS 2");
    out_settle(c, x->feed, x->handle);
    out_free(c, ack.packet_id);
    return MQG_OK;
}

/* It is written down that the client has it. */
static void out_received(struct mqtt_conn *c, uint16_t packet_id)
{
    struct mqtt_id *x = mqtt_ids_get(&c->session->out, packet_id);
    if (!x || x->state != MQTT_OUT_RECEIVED)
        return;
    mqg_settle(x->feed->queue, x->feed->sub, &x->handle, 1, MQG_SETTLE_ACK);
    x->state = MQTT_OUT_RELEASED;
    x->feed = NULL;
    x->handle = 0;
}

static void out_refused(struct mqtt_conn *c, struct mqtt_id *x)
{
    out_settle(c, x->feed, x->handle);
    out_free(c, x->id);
}

enum mqg_err mqtt_pubrec(struct mqtt_conn *c, struct mqtt_ack ack, struct mqg_error *e)
{
    struct mqtt_session *s = c->session;
    struct mqtt_id *x = mqtt_ids_get(&s->out, ack.packet_id);
    if (!x || x->state == MQTT_OUT_RELEASED) {
        if (ack.reason < 0x80)
            mqtt_send_ack(c, MQTT_PUBREL, ack.packet_id, x ? 0 : MQTT_RC_PACKET_ID_NOT_FOUND);
        return MQG_OK;
    }
    if (x->state == MQTT_OUT_QOS1)
        return mqg_error_set(e, MQG_INVALID, MQTT_RC_PROTOCOL_ERROR, "PUBREC for a publish with QoS 1");
    if (x->state != MQTT_OUT_QOS2)
        return MQG_OK; /* PUBREL is on its way */
    if (ack.reason >= 0x80) {
        out_refused(c, x);
        return MQG_OK;
    }
    x->state = MQTT_OUT_RECEIVED;
    uint8_t bytes[MQTT_ACK_MAX_BYTES];
    size_t n = mqtt_ack_put(bytes, MQTT_PUBREL, c->version, ack.packet_id, 0);
    c->ids_dirty = c->ids_dirty || s->durable;
    mqtt_answer(c, s->durable ? mqg_lane_ticket(mqg_storage_default()) : 0, mqg_slice_of(bytes, n),
                out_received, ack.packet_id);
    return MQG_OK;
}

static void out_left(struct mqtt_conn *c, uint16_t packet_id)
{
    mqtt_ids_drop(&c->session->out, packet_id);
    mqtt_feeds_kick(c, true);
}

enum mqg_err mqtt_pubcomp(struct mqtt_conn *c, struct mqtt_ack ack, struct mqg_error *e)
{
    struct mqtt_session *s = c->session;
    struct mqtt_id *x = mqtt_ids_get(&s->out, ack.packet_id);
    if (!x || x->state == MQTT_OUT_LEAVING)
        return MQG_OK;
    if (x->state != MQTT_OUT_RELEASED)
        return mqg_error_set(e, MQG_INVALID, MQTT_RC_PROTOCOL_ERROR, "PUBCOMP without PUBREL");
    if (c->out_quota > 0)
        c->out_quota--;
    if (!s->durable) {
        out_left(c, ack.packet_id);
        return MQG_OK;
    }
    x->state = MQTT_OUT_LEAVING;
    c->ids_dirty = true;
    mqtt_answer(c, mqg_lane_ticket(mqg_storage_default()), MQG_SLICE_NONE, out_left, ack.packet_id);
    mqtt_feeds_kick(c, true);
    return MQG_OK;
}

void mqtt_release_again(struct mqtt_conn *c)
{
    struct mqtt_id *x;
    for (uint32_t at = 0; (x = mqtt_ids_next(&c->session->out, &at)) != NULL;) {
        if (x->state != MQTT_OUT_RELEASED)
            continue;
        mqtt_send_ack(c, MQTT_PUBREL, x->id, 0);
        c->out_quota++;
    }
}
