/* sys.c - the $SYS topics, named as Mosquitto names them, retained in the default vhost, from the node's counters. One worker
 * publishes them, once a client of MQTT has been there; a value that has not changed is not published again. */
#include "mqtt.h"

#include <stdio.h>
#include <stdlib.h>

struct sys_topic {
    const char *name;
    uint64_t (*value)(void);
};

#define SYS_FIRST_MS 200u /* until the first client has come */

static struct mqg_timer sys_timer;
static uint64_t sys_started_ms;
static bool sys_version_said;

static uint64_t sys_counter(enum mqg_counter c)
{
    return mqg_count_sum(c);
}

static uint64_t sys_uptime(void)
{
    return (mqg_clock_now().mono_ms - sys_started_ms) / 1000;
}
static uint64_t sys_total(void)
{
    size_t connected;
    return mqtt_session_count(&connected);
}
static uint64_t sys_connected(void)
{
    size_t connected;
    mqtt_session_count(&connected);
    return connected;
}
static uint64_t sys_disconnected(void)
{
    size_t connected;
    size_t n = mqtt_session_count(&connected);
    return n > connected ? n - connected : 0;
}
static uint64_t sys_bytes_in(void)
{
    return sys_counter(MQG_COUNT_BYTES_IN);
}
static uint64_t sys_bytes_out(void)
{
    return sys_counter(MQG_COUNT_BYTES_OUT);
}
static uint64_t sys_published(void)
{
    return sys_counter(MQG_COUNT_PUBLISHED);
}
static uint64_t sys_sent(void)
{
    return sys_counter(MQG_COUNT_DELIVERED) + sys_counter(MQG_COUNT_DELIVERED_NO_ACK);
}
static uint64_t sys_dropped(void)
{
    return sys_counter(MQG_COUNT_OVERFLOW_DROPPED);
}
static uint64_t sys_retained(void)
{
    return mqtt_retained_count();
}

static const struct sys_topic sys_topics[] = {
    {"$SYS/broker/uptime", sys_uptime},
    {"$SYS/broker/clients/total", sys_total},
    {"$SYS/broker/clients/connected", sys_connected},
    {"$SYS/broker/clients/active", sys_connected},
    {"$SYS/broker/clients/disconnected", sys_disconnected},
    {"$SYS/broker/clients/inactive", sys_disconnected},
    {"$SYS/broker/bytes/received", sys_bytes_in},
    {"$SYS/broker/bytes/sent", sys_bytes_out},
    {"$SYS/broker/messages/received", sys_published},
    {"$SYS/broker/messages/sent", sys_sent},
    {"$SYS/broker/publish/messages/received", sys_published},
    {"$SYS/broker/publish/messages/sent", sys_sent},
    {"$SYS/broker/publish/messages/dropped", sys_dropped},
    {"$SYS/broker/retained messages/count", sys_retained},
};

static char sys_last[MQG_COUNTOF(sys_topics)][24];

static void sys_confirm(struct mqg_pub *p, uint64_t upto, const uint64_t *rejected, size_t n)
{
    (void)p;
    (void)upto;
    (void)rejected;
    (void)n;
}

static const struct mqg_pub_ops sys_pub_ops = {.confirm = sys_confirm};

static void sys_publish(struct mqg_vhost *v, const char *topic, const char *text)
{
    struct mqtt_props none = {.has = 0};
    struct mqg_msg *m = mqtt_msg_new(MQG_SLICE_NONE, MQG_SLICE_NONE, mqg_slice_str(topic), 0, true, MQTT_311,
                                     &none, (uint32_t)strlen(text));
    if (!m)
        return;
    memcpy(mqg_msg_body_mut(m), text, strlen(text));
    m->st.flags &= (uint8_t)~MQG_MSG_PERSISTENT; /* made anew after a restart */
    struct mqg_session *own = mqg_session_internal(v);
    struct mqg_pub pub;
    struct mqg_error e = {0};
    mqg_pub_init(&pub, &sys_pub_ops, own, NULL);
    struct mqg_msg *held = mqg_msg_ref(m);
    if (mqg_publish(&pub, m, 0, 0, NULL, 0, &e) == MQG_OK)
        mqtt_retained_set(v, held, false);
    mqg_msg_unref(&held);
    mqg_pub_fini(&pub);
    mqg_session_unref(&own);
}

static void sys_tick(struct mqg_timer *t)
{
    struct mqg_vhost *v = mqg_vhost_find(mqg_slice_str(mqtt_settings()->vhost));
    if (mqtt_settings()->sys_interval_ms == 0) {
        mqg_timer_in(t, 10000); /* a reload may switch it on */
        return;
    }
    if (v && mqg_vhost_alive(v) && mqtt_retained_begun(v)) {
        if (!sys_version_said)
            sys_publish(v, "$SYS/broker/version", "mqgate version " MQG_VERSION);
        sys_version_said = true;
        for (size_t i = 0; i < MQG_COUNTOF(sys_topics); i++) {
            char text[24];
            snprintf(text, sizeof(text), i == 0 ? "%llu seconds" : "%llu",
                     (unsigned long long)sys_topics[i].value());
            if (strcmp(text, sys_last[i]) == 0)
                continue;
            memcpy(sys_last[i], text, sizeof(text));
            sys_publish(v, sys_topics[i].name, text);
        }
    }
    uint64_t pause_ms = mqtt_settings()->sys_interval_ms;
    mqg_timer_in(t, sys_version_said || pause_ms < SYS_FIRST_MS ? pause_ms : SYS_FIRST_MS);
}

void mqtt_sys_start(struct mqg_worker *w)
{
    memset(sys_last, 0, sizeof(sys_last));
    sys_started_ms = w->now.mono_ms;
    sys_version_said = false;
    mqg_timer_init(&sys_timer, sys_tick);
    mqg_timer_in(&sys_timer, 100);
}

void mqtt_sys_stop(void)
{
    mqg_timer_cancel(&sys_timer);
}
