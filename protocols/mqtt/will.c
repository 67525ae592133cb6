/* will.c - will messages (3.1.2.5): made at CONNECT, published when the connection ends without a normal DISCONNECT, after the
 * will delay of 5.0, or when the session ends before that.
 *
 * The will of a session that outlives its connection is written down (persist.c), so that a node that stops or crashes meanwhile sends
 * it when it is there again, in its user's name and with the rights that the user has then. The record goes after the publish: a
 * crash in between sends it twice rather than never. */
#include "mqtt.h"

#include <stdlib.h>

struct mqtt_will *mqtt_will_new(const struct mqtt_connect *p, struct mqg_session *principal,
                                struct mqg_slice client)
{
    struct mqg_msg *m = mqtt_msg_new(mqg_slice_str(principal->user), client, p->will_topic, p->will_qos,
                                     p->will_retain, p->version, &p->will_props,
                                     (uint32_t)p->will_payload.len);
    if (!m)
        return NULL;
    if (p->will_payload.len > 0)
        memcpy(mqg_msg_body_mut(m), p->will_payload.ptr, p->will_payload.len);
    struct mqtt_will *w = mqg_xcalloc(1, sizeof(*w));
    w->msg = m;
    w->principal = mqg_session_ref(principal);
    w->retain = p->will_retain;
    w->delay_s = p->version == MQTT_5 ? mqtt_num(&p->will_props, MQTT_P_WILL_DELAY, 0) : 0;
    return w;
}

void mqtt_will_free(struct mqtt_will **will)
{
    struct mqtt_will *w = *will;
    *will = NULL;
    if (!w)
        return;
    mqg_msg_unref(&w->msg);
    mqg_session_unref(&w->principal);
    free(w);
}

static void will_confirm(struct mqg_pub *p, uint64_t upto, const uint64_t *rejected, size_t n)
{
    (void)p;
    (void)upto;
    (void)rejected;
    (void)n;
}

static const struct mqg_pub_ops will_pub_ops = {.confirm = will_confirm};

/* Who publishes it; false: the user is gone, or may not enter the vhost any more. */
static bool will_principal(struct mqtt_will *w)
{
    static const struct mqg_conn_info here = {.peer_host = "will", .flags = MQG_CONN_LOOPBACK};
    struct mqg_error e = {0};
    struct mqg_slice user = mqg_slice_of(mqg_msg_at_user(w->msg), w->msg->st.user_len);
    if (w->principal)
        return true;
    if (user.len > 0 && mqg_auth_external(&here, user, &w->principal, &e) == MQG_OK &&
        mqg_session_open(w->principal, mqg_vhost_name(w->vhost), &e) == MQG_OK)
        return true;
    mqg_log(MQG_LOG_WARN, MQG_EVENT_PROTOCOL_ERROR, "user=%s will=dropped why=%s", mqg_logq(user),
            mqg_logqs(e.text));
    return false;
}

void mqtt_will_publish(struct mqtt_will **will)
{
    struct mqtt_will *w = *will;
    if (w && !will_principal(w))
        mqtt_will_free(will);
    w = *will;
    if (!w)
        return;
    struct mqg_pub pub;
    struct mqg_error e = {0};
    bool no_match;
    struct mqg_msg *m = w->msg;
    w->msg = NULL;
    m->st.append_us =
        mqg_worker_self()->now.wall_us; /* its time to live begins now; nobody else has seen it */
    mqg_pub_init(&pub, &will_pub_ops, w->principal, NULL);
    bool room = !w->retain || mqtt_retained_room(w->principal->vhost, mqg_msg_key(m));
    if (mqtt_publish_msg(&pub, m, w->retain && room, 0, false, &no_match, &e) != MQG_OK)
        mqg_log(MQG_LOG_INFO, MQG_EVENT_PROTOCOL_ERROR, "user=%s will=refused why=%s",
                mqg_logqs(w->principal->user), mqg_logqs(e.text));
    mqg_pub_fini(&pub);
    mqtt_will_free(will);
}

void mqtt_will_end(struct mqtt_session *s, bool publish)
{
    if (publish)
        mqtt_will_publish(&s->will);
    mqtt_will_free(&s->will);
    s->will_ms = 0;
    if (s->will_stored)
        mqtt_persist_will_gone(s);
    s->will_stored = false;
}

struct mqtt_will *mqtt_will_recover(struct mqg_vhost *v, struct mqg_slice stored, bool retain)
{
    enum mqg_err err;
    struct mqg_msg *m = mqg_msg_from_stored(stored, &err);
    if (!m)
        return NULL;
    struct mqtt_will *w = mqg_xcalloc(1, sizeof(*w));
    *w = (struct mqtt_will){.msg = m, .vhost = v, .retain = retain};
    return w;
}
