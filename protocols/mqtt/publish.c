/* publish.c - PUBLISH from clients: topic aliases, the message, QoS 1 and 2.
 *
 * What is published with QoS 1 or 2 gets a number; the router decides numbers in order, so acknowledgements leave in the order in
 * which the packets came ([MQTT-4.6.0-2], [MQTT-4.6.0-3]). A publish that is refused here takes its place in that line.
 *
 * Exactly once (QoS 2, a session that outlives its connection): the set of identifiers received is written down in the same batch
 * as the messages, so after a crash both are there or neither. The batch is made by flushing what was published and adding the
 * record right behind it. PUBREC waits for that batch; PUBCOMP for the batch that took the identifier out again, since the client
 * may use it anew. */
#include "mqtt.h"

#include <stdlib.h>

/* ---- the line of those not yet answered -------------------------------------------------------------------------- */

static struct mqtt_open *publish_open(struct mqtt_conn *c, uint64_t seq)
{
    return &c->open[seq & (c->open_cap - 1)];
}

static struct mqtt_open *publish_add(struct mqtt_conn *c)
{
    if (c->seq + 1 - c->answered > c->open_cap) {
        struct mqtt_open *old = c->open;
        uint32_t old_cap = c->open_cap;
        c->open_cap = old_cap ? old_cap * 2 : 8;
        c->open = mqg_xcalloc(c->open_cap, sizeof(*c->open));
        for (uint64_t i = c->answered + 1; i <= c->seq; i++)
            *publish_open(c, i) = old[i & (old_cap - 1)];
        free(old);
    }
    c->seq++;
    struct mqtt_open *o = publish_open(c, c->seq);
    *o = (struct mqtt_open){.packet_id = c->now.packet_id, .qos = c->now.qos};
    return o;
}

static void publish_quota_back(struct mqtt_conn *c)
{
    if (c->in_quota > 0)
        c->in_quota--;
}

static void publish_pubrec(struct mqtt_conn *c, const struct mqtt_open *o)
{
    struct mqtt_session *s = c->session;
    struct mqtt_id *x = s ? mqtt_ids_get(&s->in, o->packet_id) : NULL;
    if (x && o->reason >= 0x80) {
        mqtt_ids_drop(&s->in, o->packet_id);
        publish_quota_back(c);
        c->ids_dirty = c->ids_dirty || s->durable;
    } else if (x) {
        x->state = MQTT_IN_RECEIVED;
    }
    uint8_t bytes[MQTT_ACK_MAX_BYTES];
    uint8_t reason = c->version == MQTT_5 ? o->reason : 0;
    size_t n = mqtt_ack_put(bytes, MQTT_PUBREC, c->version, o->packet_id, reason);
    uint64_t ticket = 0;
    if (s && s->durable && !o->decided)
        ticket = o->ticket ? o->ticket : mqg_lane_ticket(mqg_storage_default());
    mqtt_answer(c, ticket, mqg_slice_of(bytes, n), NULL, 0);
}

static void publish_answer(struct mqtt_conn *c, const struct mqtt_open *o)
{
    if (o->qos == 2) {
        publish_pubrec(c, o);
        return;
    }
    publish_quota_back(c);
    mqtt_send_ack(c, MQTT_PUBACK, o->packet_id, o->reason);
}

static void publish_answer_decided(struct mqtt_conn *c)
{
    while (c->answered < c->seq && publish_open(c, c->answered + 1)->decided)
        publish_answer(c, publish_open(c, ++c->answered));
}

static void publish_confirm(struct mqg_pub *p, uint64_t upto, const uint64_t *rejected, size_t n)
{
    struct mqtt_conn *c = p->owner;
    if (c->phase == MQTT_CLOSED)
        return;
    size_t at = 0;
    mqg_count(MQG_COUNT_CONFIRMED, upto - c->answered);
    while (c->answered < upto) {
        struct mqtt_open *o = publish_open(c, ++c->answered);
        while (at < n && rejected[at] < c->answered)
            at++;
        if (at < n && rejected[at] == c->answered)
            o->reason = MQTT_RC_QUOTA_EXCEEDED;
        publish_answer(c, o);
    }
    publish_answer_decided(c);
}

static const struct mqg_pub_ops publish_ops = {.confirm = publish_confirm};

/* Refused: QoS 0 is dropped; else the reason takes its place in the line. 3.x has no words for it ([MQTT-3.3.5-2]). */
static void publish_refuse(struct mqtt_conn *c, int reason)
{
    if (c->now.qos == 0)
        return;
    struct mqtt_open *o = publish_add(c);
    o->reason = (uint8_t)(c->version == MQTT_5 ? reason : 0);
    o->decided = true;
    publish_answer_decided(c);
}

/* ---- publishing --------------------------------------------------------------------------------------------------------- */

enum mqg_err mqtt_publish_msg(struct mqg_pub *pub, struct mqg_msg *m, bool retain, uint64_t seq, bool tell,
                              bool *no_match, struct mqg_error *e)
{
    struct mqg_slice key = mqtt_retained_key();
    struct mqg_msg *held = retain ? mqg_msg_ref(m) : NULL;
    unsigned flags = tell && !retain ? MQG_PUBLISH_MANDATORY : 0;
    *no_match = false;
    e->code = 0;
    enum mqg_err err = mqg_publish(pub, m, flags, seq, &key, retain ? 1 : 0, e);
    if (err == MQG_NOT_FOUND && e->code == 312) {
        mqg_msg_unref(&m);
        *no_match = true;
        err = MQG_OK;
    }
    if (held && err == MQG_OK)
        mqtt_retained_set(pub->session->vhost, held, true);
    mqg_msg_unref(&held);
    return err;
}

static void publish_done(struct mqtt_conn *c)
{
    struct mqg_msg *m = c->msg;
    struct mqg_error e = {0};
    bool no_match = false;
    c->msg = NULL;
    struct mqtt_open *o = c->now.qos > 0 ? publish_add(c) : NULL;
    if (c->now.qos == 2) {
        mqtt_ids_add(&c->session->in, c->now.packet_id)->state = MQTT_IN_PENDING;
        c->ids_dirty = c->ids_dirty || c->session->durable;
    }
    enum mqg_err err = mqtt_publish_msg(&c->pub, m, c->now.retain, o ? c->seq : 0,
                                        c->version == MQTT_5 && c->now.qos > 0, &no_match, &e);
    if (!o)
        return;
    o->reason = no_match ? MQTT_RC_NO_MATCHING_SUBSCRIBERS : 0;
    if (err != MQG_OK) {
        o->reason = c->version != MQTT_5 ? 0
                    : err == MQG_DENIED  ? MQTT_RC_NOT_AUTHORIZED
                                         : MQTT_RC_IMPLEMENTATION;
        o->decided = true;
        publish_answer_decided(c);
    }
}

size_t mqtt_publish_body(struct mqtt_conn *c, struct mqg_slice in, struct mqg_error *e)
{
    (void)e;
    uint32_t *left = c->msg ? &c->body_left : &c->skip_left;
    size_t n = in.len < *left ? in.len : *left;
    if (c->msg && n > 0) {
        memcpy(c->body_at, in.ptr, n);
        c->body_at += n;
    }
    *left -= (uint32_t)n;
    if (c->msg && *left == 0)
        publish_done(c);
    return n;
}

/* ---- the head of a PUBLISH ------------------------------------------------------------------------------------------------ */

static enum mqg_err publish_alias(struct mqtt_conn *c, struct mqtt_publish *p, struct mqg_error *e)
{
    if (!mqtt_has(&p->props, MQTT_P_TOPIC_ALIAS))
        return MQG_OK;
    uint32_t alias = p->props.num[MQTT_P_TOPIC_ALIAS];
    if (alias == 0 || alias > c->told->alias_max) /* [MQTT-3.3.2-8], [MQTT-3.3.2-9] */
        return mqg_error_set(e, MQG_INVALID, MQTT_RC_TOPIC_ALIAS_INVALID, "topic alias %u", alias);
    if (!c->aliases)
        c->aliases = mqg_xcalloc(c->told->alias_max + 1, sizeof(*c->aliases));
    struct mqtt_alias *a = &c->aliases[alias];
    if (p->topic.len > 0) {
        free(a->topic);
        a->topic = (uint8_t *)mqg_slice_dup(p->topic);
        a->len = (uint32_t)p->topic.len;
    } else if (!a->topic) {
        return mqg_error_set(e, MQG_INVALID, MQTT_RC_PROTOCOL_ERROR, "topic alias %u means nothing yet",
                             alias);
    } else {
        p->topic = mqg_slice_of(a->topic, a->len);
    }
    return MQG_OK;
}

/* 0, or the reason why this publish is not taken. */
static int publish_judge(struct mqtt_conn *c, const struct mqtt_publish *p)
{
    struct mqg_error e = {0};
    if (!c->publishing) {
        mqg_pub_init(&c->pub, &publish_ops, c->principal, c);
        c->publishing = true;
        mqg_conn_publishes(c->conn);
    }
    if (mqg_slice_starts(p->topic, MQG_SLICE_LIT("$SYS/")) ||
        mqg_slice_starts(p->topic, MQG_SLICE_LIT("$share/")) ||
        mqg_slice_starts(p->topic, mqtt_retained_key()))
        return MQTT_RC_NOT_AUTHORIZED;
    struct mqg_slice exchange = mqg_slice_str(mqtt_settings()->exchange);
    if (!mqtt_may(c, MQG_WRITE, p->topic)) /* the router skips its check while its route is cached */
        return MQTT_RC_NOT_AUTHORIZED;
    enum mqg_err err = mqg_publish_check(&c->pub, exchange, &e);
    if (err != MQG_OK)
        return err == MQG_DENIED ? MQTT_RC_NOT_AUTHORIZED : MQTT_RC_IMPLEMENTATION;
    if (p->retain && !mqtt_retained_room(c->principal->vhost, p->topic))
        return MQTT_RC_QUOTA_EXCEEDED;
    return 0;
}

/* QoS 2 with an identifier that is here already: the same message again ([MQTT-4.3.3-10]). */
static bool publish_again(struct mqtt_conn *c, const struct mqtt_publish *p)
{
    const struct mqtt_id *x = p->qos == 2 ? mqtt_ids_get(&c->session->in, p->packet_id) : NULL;
    if (!x)
        return false;
    if (x->state == MQTT_IN_RECEIVED)
        mqtt_send_ack(c, MQTT_PUBREC, p->packet_id, 0);
    return true;
}

static enum mqg_err publish_check(struct mqtt_conn *c, const struct mqtt_publish *p, struct mqg_error *e)
{
    if (p->payload_bytes > mqtt_settings()->message_max)
        return mqg_error_set(e, MQG_TOO_LARGE, MQTT_RC_PACKET_TOO_LARGE, "a payload of %u bytes",
                             p->payload_bytes);
    bool again = p->qos == 2 && mqtt_ids_get(&c->session->in, p->packet_id) != NULL;
    if (c->version == MQTT_5 && p->qos > 0 && !again && c->in_quota >= c->told->receive_maximum)
        return mqg_error_set(e, MQG_INVALID, MQTT_RC_RECEIVE_MAXIMUM_EXCEEDED,
                             "more than %u publishes with QoS 1 or 2 at a time", c->told->receive_maximum);
    return MQG_OK;
}

static enum mqg_err publish_begin(struct mqtt_conn *c, const struct mqtt_publish *p, struct mqg_error *e)
{
    c->now.qos = p->qos;
    c->now.retain = p->retain;
    c->now.packet_id = p->packet_id;
    c->skip_left = p->payload_bytes;
    mqtt_tally(c, MQTT_TALLY_PUBS_IN, 1);
    mqtt_tally(c, MQTT_TALLY_PUB_BYTES_IN, p->payload_bytes);
    if (publish_again(c, p))
        return MQG_OK;
    if (p->qos > 0)
        c->in_quota++;
    int reason = publish_judge(c, p);
    if (reason == 0) {
        c->msg = mqtt_msg_new(mqg_slice_str(c->principal->user), c->session->client, p->topic, p->qos,
                              p->retain, c->version, &p->props, p->payload_bytes);
        if (!c->msg)
            reason = MQTT_RC_QUOTA_EXCEEDED;
    }
    if (reason != 0) {
        publish_refuse(c, reason);
        if (p->qos == 2)
            publish_quota_back(c);
        return MQG_OK;
    }
    (void)e;
    c->skip_left = 0;
    c->body_at = mqg_msg_body_mut(c->msg);
    c->body_left = p->payload_bytes;
    if (c->body_left == 0)
        publish_done(c);
    return MQG_OK;
}

size_t mqtt_publish(struct mqtt_conn *c, const struct mqtt_head *h, struct mqg_slice in, struct mqg_error *e)
{
    struct mqtt_publish p;
    enum mqg_err err = mqtt_publish_decode(h, in, c->version, &p, e);
    if (err == MQG_MORE)
        return 0;
    if (err == MQG_OK)
        err = publish_alias(c, &p, e);
    struct mqg_dynbuf room;
    mqg_dynbuf_init(&room, 1u << 16);
    p.topic = err == MQG_OK ? mqtt_topic_in(p.topic, &room) : MQG_SLICE_NONE;
    if (err == MQG_OK)
        err = publish_check(c, &p, e);
    if (err == MQG_OK)
        err = publish_begin(c, &p, e);
    mqg_dynbuf_fini(&room);
    if (err != MQG_OK)
        return 0;
    size_t used = p.head_bytes, more = in.len - used;
    if (more > 0 && (c->msg || c->skip_left > 0))
        used += mqtt_publish_body(c, mqg_slice_of(in.ptr + used, more), e);
    return used;
}

/* ---- PUBREL ------------------------------------------------------------------------------------------------------------------ */

static void publish_left(struct mqtt_conn *c, uint16_t packet_id)
{
    if (c->session)
        mqtt_ids_drop(&c->session->in, packet_id);
    publish_quota_back(c);
}

enum mqg_err mqtt_pubrel(struct mqtt_conn *c, struct mqtt_ack ack, struct mqg_error *e)
{
    (void)e;
    struct mqtt_id *x = mqtt_ids_get(&c->session->in, ack.packet_id);
    if (!x || x->state != MQTT_IN_RECEIVED) {
        mqtt_send_ack(c, MQTT_PUBCOMP, ack.packet_id, x ? 0 : MQTT_RC_PACKET_ID_NOT_FOUND);
        return MQG_OK;
    }
    if (!c->session->durable) {
        publish_left(c, ack.packet_id);
        mqtt_send_ack(c, MQTT_PUBCOMP, ack.packet_id, 0);
        return MQG_OK;
    }
    x->state = MQTT_IN_LEAVING;
    c->ids_dirty = true;
    uint8_t bytes[MQTT_ACK_MAX_BYTES];
    size_t n = mqtt_ack_put(bytes, MQTT_PUBCOMP, c->version, ack.packet_id, 0);
    mqtt_answer(c, mqg_lane_ticket(mqg_storage_default()), mqg_slice_of(bytes, n), publish_left,
                ack.packet_id);
    return MQG_OK;
}

/* ---- the end of an input, and of the connection ------------------------------------------------------------------------------ */

void mqtt_publish_end_input(struct mqtt_conn *c)
{
    if (!c->ids_dirty || !c->session)
        return;
    c->ids_dirty = false;
    mqg_publish_flush();
    mqtt_persist_ids(c->session);
    uint64_t ticket = mqg_lane_ticket(mqg_storage_default());
    for (uint64_t i = c->seq; i > c->answered; i--) {
        struct mqtt_open *o = publish_open(c, i);
        if (o->qos == 2 && o->ticket != 0)
            break;
        o->ticket = ticket;
    }
}

void mqtt_publish_fini(struct mqtt_conn *c)
{
    mqtt_publish_end_input(c);
    mqg_msg_unref(&c->msg);
    if (c->publishing)
        mqg_pub_fini(&c->pub);
    c->publishing = false;
    free(c->open);
    c->open = NULL;
    for (uint32_t i = 0; c->aliases && i <= c->told->alias_max; i++)
        free(c->aliases[i].topic);
    free(c->aliases);
    c->aliases = NULL;
}
