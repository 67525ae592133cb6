/* acks.c - what clients say of deliveries: PUBACK, PUBREC, PUBCOMP, and what of that is written down.
 *
 * QoS 2 (4.3.3): with PUBREC the client has the message. In a session that outlives its connection the identifier is written down
 * first, then the message is settled and PUBREL sent: a crash in between finds the message in the queue and the identifier in the
 * list, and does not send it again. With PUBCOMP the identifier leaves the list, and is used anew when that is durable. */
#include "mqtt.h"

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

static void acks_settle(struct mqtt_conn *c, struct mqtt_feed *f, uint64_t handle)
{
    if (c->settle.n == MQTT_SETTLE_BATCH || (c->settle.n > 0 && c->settle.feed != f))
        mqtt_settle_flush(c);
    c->settle.feed = f;
    c->settle.handles[c->settle.n++] = handle;
}

/* The identifier is free again. */
static void acks_free(struct mqtt_conn *c, uint16_t packet_id)
{
    mqtt_ids_drop(&c->session->out, packet_id);
    if (c->out_quota > 0)
        c->out_quota--;
}

enum mqg_err mqtt_puback(struct mqtt_conn *c, struct mqtt_ack ack, struct mqg_error *e)
{
    struct mqtt_id *x = mqtt_ids_get(&c->session->out, ack.packet_id);
    if (!x || mqtt_id_begun(x)) /* of a delivery before a reconnect, or of none: nothing can be said */
        return MQG_OK;
    if (x->state != MQTT_OUT_QOS1)
        return mqg_error_set(e, MQG_INVALID, MQTT_RC_PROTOCOL_ERROR, "PUBACK for a publish with QoS 2");
    acks_settle(c, x->feed, x->handle);
    acks_free(c, ack.packet_id);
    return MQG_OK;
}

/* It is written down that the client has it. */
static void acks_received(struct mqtt_conn *c, uint16_t packet_id)
{
    struct mqtt_id *x = mqtt_ids_get(&c->session->out, packet_id);
    if (!x || x->state != MQTT_OUT_RECEIVED)
        return;
    mqg_settle(x->feed->queue, x->feed->sub, &x->handle, 1, MQG_SETTLE_ACK);
    x->state = MQTT_OUT_RELEASED;
    x->feed = NULL;
    x->handle = 0;
}

static void acks_refused(struct mqtt_conn *c, struct mqtt_id *x)
{
    acks_settle(c, x->feed, x->handle);
    acks_free(c, x->id);
}

enum mqg_err mqtt_pubrec(struct mqtt_conn *c, struct mqtt_ack ack, struct mqg_error *e)
{
    struct mqtt_session *s = c->session;
    struct mqtt_id *x = mqtt_ids_get(&s->out, ack.packet_id);
    if (x && mqtt_id_begun(x)) /* it is sent again, and answered then */
        return MQG_OK;
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
        acks_refused(c, x);
        return MQG_OK;
    }
    x->state = MQTT_OUT_RECEIVED;
    uint8_t bytes[MQTT_ACK_MAX_BYTES];
    size_t n = mqtt_ack_put(bytes, MQTT_PUBREL, c->version, ack.packet_id, 0);
    c->ids_dirty = c->ids_dirty || s->durable;
    mqtt_answer(c, s->durable ? mqg_lane_ticket(mqg_storage_default()) : 0, mqg_slice_of(bytes, n),
                acks_received, ack.packet_id);
    return MQG_OK;
}

static void acks_left(struct mqtt_conn *c, uint16_t packet_id)
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
        acks_left(c, ack.packet_id);
        return MQG_OK;
    }
    x->state = MQTT_OUT_LEAVING;
    c->ids_dirty = true;
    mqtt_answer(c, mqg_lane_ticket(mqg_storage_default()), MQG_SLICE_NONE, acks_left, ack.packet_id);
    mqtt_feeds_kick(c, true);
    return MQG_OK;
}

void mqtt_note_sent(struct mqtt_conn *c)
{
    struct mqtt_id *x;
    for (uint32_t at = 0; (x = mqtt_ids_next(&c->session->out, &at)) != NULL;) {
        bool sent = x->qseq != 0 && (x->state == MQTT_OUT_QOS1 || x->state == MQTT_OUT_QOS2);
        c->ids_dirty = c->ids_dirty || (sent && !x->noted);
        x->noted = x->noted || sent;
    }
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
