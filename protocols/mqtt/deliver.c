/* deliver.c - PUBLISH to clients: what a delivery looks like on the wire, what is in flight (its acknowledgements: acks.c).
 *
 * Of a session's queue the packet identifier is a function of the message's number there, so that after a restart the same message
 * comes with the same identifier, without a record of it. Two messages in flight cannot share one: the later stands back until the
 * earlier is through. Shared subscriptions take theirs from the numbers above.
 *
 * What was sent and not acknowledged when the connection ended stays in the table, without a feed: it comes again as it was sent,
 * with the same QoS, also when its subscription is gone ([MQTT-3.10.4-3]) or, with QoS 2, its time is over ([MQTT-4.3.3-7]).
 *
 * A message with QoS 2 of a shared subscription is the session's before it is sent: it goes from the group's queue to the session's,
 * in one turn, so that nobody else of the group gets it, whatever becomes of the connection ([MQTT-4.8.2-4], [MQTT-4.8.2-5]). */
#include "mqtt.h"

#include <stdio.h>
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
    bool has_left, over, retain, dup, alias_known; /* over: its time to live has passed */
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
    mqtt_tally(c, MQTT_TALLY_PACKETS_OUT, 1);
    mqtt_tally(c, MQTT_TALLY_PUBS_OUT, 1);
    mqtt_tally(c, MQTT_TALLY_PUB_BYTES_OUT, body.len);
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

static bool out_has_mark(const struct mqg_msg *m, struct mqg_slice mark, struct mqtt_match *out)
{
    struct mqg_slice x = mqg_msg_exchange(m);
    if (x.len < mark.len + 2 || !mqg_slice_starts(x, mark))
        return false;
    unsigned bits = (unsigned)(x.ptr[mark.len] - '0');
    *out = (struct mqtt_match){.any = true, .retain = (bits & 4) != 0, .qos = bits & 3};
    for (size_t i = mark.len + 2; i < x.len; i++)
        out->ids[0] = out->ids[0] * 10 + (uint32_t)(x.ptr[i] - '0');
    out->nids = out->ids[0] != 0;
    return true;
}

/* Messages for one subscription, a retained one for a new one or what a shared one got, say so in the exchange's place: mark, QoS
 * (and 4: RETAIN), '/', identifier. */
static bool out_is_marked(const struct mqg_msg *m, struct mqtt_match *out, bool *shared)
{
    *shared = false;
    if (out_has_mark(m, MQG_SLICE_LIT(MQTT_RETAINED_MARK), out)) {
        out->retain = true;
        return true;
    }
    *shared = out_has_mark(m, MQG_SLICE_LIT(MQTT_SHARED_MARK), out);
    return *shared;
}

static void out_share_match(const struct mqtt_sub *sub, struct mqtt_match *out)
{
    *out = (struct mqtt_match){.any = true, .retain = sub->retain_as_published, .qos = sub->qos};
    out->ids[0] = sub->id;
    out->nids = sub->id != 0;
}

/* The time left. */
static void out_expiry(const struct mqg_msg *m, uint64_t now_us, struct out_publish *o)
{
    o->has_left = (m->st.flags & MQG_MSG_HAS_TTL) != 0;
    if (!o->has_left)
        return;
    uint64_t gone_ms = now_us > m->st.append_us ? (now_us - m->st.append_us) / 1000 : 0;
    o->over = gone_ms >= m->st.ttl_ms;
    uint64_t left = o->over ? 0 : (m->st.ttl_ms - gone_ms + 999) / 1000;
    o->left_s = left > UINT32_MAX ? UINT32_MAX : (uint32_t)left;
}

static uint16_t out_session_id(uint64_t qseq)
{
    uint64_t n = (qseq & UINT64_C(0xffffffffffff)) + (qseq >> 48) * 7919;
    return (uint16_t)(1 + n % OUT_SESSION_IDS);
}

static bool out_is_released(const struct mqtt_session *s, uint64_t qseq)
{
    const struct mqtt_id *x = mqtt_ids_get(&s->out, out_session_id(qseq));
    return x && x->qseq == qseq && (x->state == MQTT_OUT_RELEASED || x->state == MQTT_OUT_LEAVING);
}

/* The entry of what was sent on an earlier connection, or NULL. */
static struct mqtt_id *out_begun(const struct mqtt_session *s, const struct mqtt_feed *f, uint64_t qseq)
{
    if (MQG_LIKELY(!s->begun) || f->kind != MQTT_FEED_SESSION)
        return NULL;
    struct mqtt_id *x = mqtt_ids_get(&s->out, out_session_id(qseq));
    return x && x->qseq == qseq && mqtt_id_begun(x) ? x : NULL;
}

/* The session's queue delivers in order: what was begun below that number is not there any more. */
static void out_prune(struct mqtt_session *s, uint64_t qseq)
{
    struct mqtt_ids kept = {0};
    struct mqtt_id *x;
    s->begun = false;
    for (uint32_t at = 0; (x = mqtt_ids_next(&s->out, &at)) != NULL;) {
        if (mqtt_id_begun(x) && x->qseq < qseq)
            continue;
        s->begun = s->begun || mqtt_id_begun(x);
        *mqtt_ids_add(&kept, x->id) = *x;
    }
    mqtt_ids_fini(&s->out);
    s->out = kept;
}

/* 0: none is free now. */
static uint16_t out_packet_id(struct mqtt_conn *c, const struct mqtt_feed *f, uint64_t qseq)
{
    const struct mqtt_ids *ids = &c->session->out;
    if (f->kind == MQTT_FEED_SESSION) {
        if (c->session->begun)
            out_prune(c->session, qseq);
        uint16_t id = out_session_id(qseq);
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

/* It is the session's from now on. */
static enum out_verdict out_adopt(struct mqtt_conn *c, const struct mqtt_feed *f,
                                  const struct mqg_delivery *d, const struct out_publish *o)
{
    const struct mqg_msg *m = d->msg;
    const struct mqtt_feed *own = mqtt_feed_find(c, MQTT_FEED_SESSION, NULL);
    if (!own || c->out_quota + c->adopted >= c->send_max)
        return OUT_WAIT;
    char mark[64];
    int n = snprintf(mark, sizeof(mark), MQTT_SHARED_MARK "%u/%u", o->qos + (o->retain ? 4u : 0),
                     f->share->id);
    uint8_t flags = m->st.flags;
    if (!c->session->durable)
        flags &= (uint8_t)~MQG_MSG_PERSISTENT;
    struct mqg_msg *copy = mqg_msg_derive(m, mqg_slice_of(mark, (size_t)n), mqg_msg_key(m),
                                          mqg_msg_overlay(m), flags, m->st.ttl_ms);
    if (!copy)
        return OUT_WAIT;
    copy->st.append_us = m->st.append_us;
    mqg_publish_direct(own->queue, copy);
    c->adopted++;
    return OUT_DONE;
}

/* Sent: its place in the table. */
static void out_enter(struct mqtt_conn *c, struct mqtt_feed *f, const struct mqg_delivery *d,
                      const struct out_publish *o, struct mqtt_id *x)
{
    struct mqtt_session *s = c->session;
    if (!x)
        x = mqtt_ids_add(&s->out, o->packet_id);
    x->state = o->qos == 1 ? MQTT_OUT_QOS1 : MQTT_OUT_QOS2;
    x->feed = f;
    x->handle = d->handle;
    x->qseq = f->kind == MQTT_FEED_SESSION ? d->qseq : 0;
    if (f->kind == MQTT_FEED_SESSION && d->qseq > s->sent_upto)
        s->sent_upto = d->qseq;
    if (o->qos == 2 && o->has_left && s->durable && !x->noted)
        x->noted = c->out_noted = true;
    c->out_quota++;
}

static enum out_verdict out_in_flight(struct mqtt_conn *c, struct mqtt_feed *f, const struct mqg_delivery *d,
                                      struct out_publish *o, struct mqtt_id *begun)
{
    struct mqtt_session *s = c->session;
    if (f->kind == MQTT_FEED_SESSION && d->redelivered && out_is_released(s, d->qseq))
        return OUT_DONE; /* the client has it: PUBREL was sent instead */
    if (o->qos == 2 && s->durable && !out_is_durable(d->msg)) {
        if (c->timer.due_ms == 0)
            mqg_timer_in(&c->timer, OUT_LOOK_MS);
        return OUT_WAIT;
    }
    if (c->out_quota >= c->send_max)
        return OUT_WAIT;
    o->packet_id = begun ? begun->id : out_packet_id(c, f, d->qseq);
    if (o->packet_id == 0)
        return OUT_WAIT;
    o->dup = f->kind == MQTT_FEED_SESSION && (d->redelivered || d->qseq <= s->sent_upto);
    if (out_send(c, o)) {
        out_enter(c, f, d, o, begun);
        return OUT_HELD;
    }
    if (begun)
        mqtt_ids_drop(&s->out, o->packet_id);
    return OUT_DONE;
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
    bool shared, marked = out_is_marked(d->msg, &local, &shared);
    struct mqtt_id *begun = out_begun(c->session, f, d->qseq);
    if (f->kind == MQTT_FEED_SHARE)
        out_share_match(f->share, &local);
    else if (!marked)
        match = mqtt_match(c->session, d->msg, o->topic);
    if (!match->any && !begun)
        return OUT_DONE;
    if (f->kind == MQTT_FEED_QOS0 && match->qos > 0 && !marked)
        return OUT_DONE; /* the session's other queue has it too */
    o->retain = match->retain && (marked || was_retained);
    if (begun)
        o->qos = begun->state == MQTT_OUT_QOS2 ? 2 : 1;
    else if (match->qos < o->qos)
        o->qos = match->qos;
    o->nids = c->version == MQTT_5 ? match->nids : 0;
    o->ids = match->ids;
    if (f->kind == MQTT_FEED_SHARE && o->qos == 2)
        return out_adopt(c, f, d, o);
    enum out_verdict v = OUT_DONE;
    if (o->over && begun && o->qos == 1)
        mqtt_ids_drop(&c->session->out, begun->id);
    else if (o->qos > 0 && (!o->over || begun))
        v = out_in_flight(c, f, d, o, begun);
    else if (!o->over)
        out_send(c, o);
    if (v != OUT_WAIT && shared && c->adopted > 0)
        c->adopted--;
    return v;
}

static enum out_verdict out_one(struct mqtt_conn *c, struct mqtt_feed *f, const struct mqg_delivery *d,
                                uint64_t now_us)
{
    struct mqtt_origin origin = mqtt_origin_of(d->msg);
    struct out_publish o = {
        .msg = d->msg, .topic = mqg_msg_key(d->msg), .props = origin.props, .qos = origin.qos};
    out_expiry(d->msg, now_us, &o);
    if (o.over && f->kind != MQTT_FEED_SESSION)
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

/* A shared subscription with QoS 2 is given as much as the client takes now: what it adopts is settled at once, so that the
 * queue's own window does not bound it. */
static void feed_room(struct mqtt_feed *f)
{
    struct mqtt_conn *c = f->conn;
    uint32_t used = c->out_quota + c->adopted;
    if (f->kind != MQTT_FEED_SHARE || f->share->qos < 2 || !f->sub)
        return;
    f->waits = used >= c->send_max;
    if (!f->waits)
        mqg_sub_prefetch(f->sub, c->send_max - used);
    mqg_sub_pause(f->sub, f->waits);
}

static size_t feed_deliver(struct mqg_sub *sub, void *owner, const struct mqg_delivery *d, size_t n)
{
    struct mqtt_feed *f = owner;
    struct mqtt_conn *c = f->conn;
    uint64_t done[MQTT_SETTLE_BATCH];
    size_t took = 0, ndone = 0;
    uint32_t adopted = c->adopted;
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
    if (c->adopted > adopted) {
        feed_room(f);
        mqg_publish_flush(); /* into one batch with what is settled now */
    }
    if (c->adopted < adopted)
        mqtt_feeds_kick(c, true);
    if (c->out_noted)
        mqtt_persist_ids(c->session);
    c->out_noted = false;
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
        feed_room(f);
        mqg_sub_kick(f->sub);
    }
}
