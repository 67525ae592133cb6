/* module.c - the MQTT module: its descriptor, its settings, its place in the host. */
#include "mqtt.h"

#include <mqgate/conf.h>

#include <stdio.h>
#include <stdlib.h>

_Atomic(const struct mqtt_settings *) mqtt_settings_now;
static struct mqtt_settings *settings_last;

static const struct mqg_conf_row mqtt_rows[] = {
    {"mqtt", "vhost", MQG_CONF_STR, "/", 0, 0, NULL, "vhost of clients that name none"},
    {"mqtt", "port_vhosts", MQG_CONF_STR, "", 0, 0, NULL, "vhosts by port: 1884=tenant, 1885=other"},
    {"mqtt", "cert_vhosts", MQG_CONF_STR, "", 0, 0, NULL,
     "vhosts by the common name of the client's certificate: device=tenant"},
    {"mqtt", "cert_login", MQG_CONF_BOOL, "off", 0, 0, NULL,
     "a verified client certificate logs in, by its common name, who sends no user name"},
    {"mqtt", "exchange", MQG_CONF_STR, "amq.topic", 0, 0, NULL,
     "topic exchange that clients publish to and that subscriptions bind to"},
    {"mqtt", "topic_mapping", MQG_CONF_ENUM, "swap", 0, 0, "swap|rabbitmq",
     "how topics and routing keys are each other's: '/' and '.' swapped, or both as RabbitMQ's plugin has "
     "it"},
    {"mqtt", "connect_size", MQG_CONF_SIZE, "128KiB", 1024, 250 << 10, NULL,
     "largest CONNECT, its will included; it is held in memory before its sender has logged in"},
    {"mqtt", "subscriptions", MQG_CONF_INT, "100000", 1, 100000000, NULL, "subscriptions of one session"},
    {"mqtt", "receive_maximum", MQG_CONF_INT, "1024", 1, 65535, NULL,
     "publishes with QoS 1 and 2 that a 5.0 client may have under way to us"},
    {"mqtt", "inflight", MQG_CONF_INT, "1024", 1, 16000, NULL,
     "publishes with QoS 1 and 2 under way to a client, if it wants no fewer"},
    {"mqtt", "topic_aliases", MQG_CONF_INT, "64", 0, 65535, NULL, "topic aliases of a connection, each way"},
    {"mqtt", "keep_alive_max", MQG_CONF_DURATION, "0", 0, 65535000, NULL,
     "longest keep alive of 5.0 clients; 0: what they ask for"},
    {"mqtt", "session_expiry_max", MQG_CONF_DURATION, "0", 0, INT64_C(4294967294000), NULL,
     "longest life of a session without a connection; 0: what clients ask for"},
    {"mqtt", "queue_length", MQG_CONF_INT, "100000", 1, INT64_C(1) << 40, NULL,
     "messages that wait for a session; beyond, the oldest are dropped and counted"},
    {"mqtt", "queue_bytes", MQG_CONF_SIZE, "256MiB", 1024, INT64_C(1) << 50, NULL, "and their bytes"},
    {"mqtt", "qos0_length", MQG_CONF_INT, "10000", 1, INT64_C(1) << 40, NULL,
     "messages of QoS 0 subscriptions that wait for a slow client"},
    {"mqtt", "qos0_bytes", MQG_CONF_SIZE, "16MiB", 1024, INT64_C(1) << 50, NULL, "and their bytes"},
    {"mqtt", "retained", MQG_CONF_INT, "1000000", 0, INT64_C(1) << 31, NULL, "retained messages of a vhost"},
    {"mqtt", "sys_interval", MQG_CONF_DURATION, "10s", 0, 86400000, NULL,
     "how often the $SYS topics are published; 0: never"},
    {.section = NULL},
};

static void mqtt_read_texts(const struct mqg_conf *conf, struct mqtt_settings *s)
{
    snprintf(s->vhost, sizeof(s->vhost), "%s", mqg_conf_str(conf, "mqtt", "vhost"));
    snprintf(s->exchange, sizeof(s->exchange), "%s", mqg_conf_str(conf, "mqtt", "exchange"));
    snprintf(s->port_vhosts, sizeof(s->port_vhosts), "%s", mqg_conf_str(conf, "mqtt", "port_vhosts"));
    snprintf(s->cert_vhosts, sizeof(s->cert_vhosts), "%s", mqg_conf_str(conf, "mqtt", "cert_vhosts"));
    s->cert_login = mqg_conf_bool(conf, "mqtt", "cert_login");
    s->rabbit_topics = strcmp(mqg_conf_str(conf, "mqtt", "topic_mapping"), "rabbitmq") == 0;
}

static uint32_t mqtt_conf_u32(const struct mqg_conf *conf, const char *key)
{
    return (uint32_t)mqg_conf_int(conf, "mqtt", key);
}

static void mqtt_read(const struct mqg_conf *conf, struct mqtt_settings *s)
{
    mqtt_read_texts(conf, s);
    s->subscriptions_max = mqtt_conf_u32(conf, "subscriptions");
    s->receive_maximum = mqtt_conf_u32(conf, "receive_maximum");
    s->inflight_max = mqtt_conf_u32(conf, "inflight");
    s->alias_max = mqtt_conf_u32(conf, "topic_aliases");
    s->keep_alive_max_s = (uint32_t)(mqg_conf_int(conf, "mqtt", "keep_alive_max") / 1000);
    s->expiry_max_s = (uint32_t)(mqg_conf_int(conf, "mqtt", "session_expiry_max") / 1000);
    s->message_max = (uint32_t)mqg_conf_int(conf, "limits", "message_size");
    s->packet_max = s->message_max + MQTT_INPUT_MAX;
    s->connect_max = (uint32_t)mqg_conf_int(conf, "mqtt", "connect_size");
    s->retained_max = mqtt_conf_u32(conf, "retained");
    s->queue_length = (uint64_t)mqg_conf_int(conf, "mqtt", "queue_length");
    s->queue_bytes = (uint64_t)mqg_conf_int(conf, "mqtt", "queue_bytes");
    s->qos0_length = (uint64_t)mqg_conf_int(conf, "mqtt", "qos0_length");
    s->qos0_bytes = (uint64_t)mqg_conf_int(conf, "mqtt", "qos0_bytes");
    s->sys_interval_ms = (uint64_t)mqg_conf_int(conf, "mqtt", "sys_interval");
}

/* ---- workers -------------------------------------------------------------------------------------------------------- */

struct mqtt_start {
    struct mqg_task task;
};

static void start_arm(struct mqtt_session *s, void *arg)
{
    if (s->holder == ((struct mqg_worker *)arg)->index && !s->conn && !s->granting)
        mqtt_session_arm(s);
}

/* The first turn: the router is ready for us. */
static void start_run(struct mqg_task *task)
{
    struct mqg_worker *w = mqg_worker_self();
    free(MQG_CONTAINER_OF(task, struct mqtt_start, task));
    mqtt_session_each(start_arm, w);
    if (w->index == 0)
        mqtt_sys_start(w);
}

static void mqtt_worker_start(struct mqg_worker *w)
{
    struct mqtt_start *s = mqg_xcalloc(1, sizeof(*s));
    s->task.run = start_run;
    mqg_worker_post(w, &s->task);
}

static void mqtt_worker_stop(struct mqg_worker *w)
{
    if (w->index == 0)
        mqtt_sys_stop();
    mqtt_retained_stop(w);
}

/* ---- the host's calls --------------------------------------------------------------------------------------------------- */

static bool mqtt_sniff(struct mqg_slice head)
{
    return head.len >= 8 && head.ptr[0] == 0x10 &&
           (memmem(head.ptr, 12 < head.len ? 12 : head.len, "MQTT", 4) != NULL ||
            memmem(head.ptr, 12 < head.len ? 12 : head.len, "MQIsdp", 6) != NULL);
}

static void mqtt_describe(const struct mqg_conn *conn, struct mqg_describe *d)
{
    const struct mqtt_conn *c = mqg_conn_state((struct mqg_conn *)(uintptr_t)conn);
    static const char *const words[] = {"starting", "authenticating", "waiting",
                                        "starting", "running",        "closed"};
    const char *name = c->version == MQTT_5 ? "MQTT 5-0" : c->version == MQTT_31 ? "MQTT 3-1" : "MQTT 3-1-1";
    d->str(d->arg, "protocol", mqg_slice_str(name));
    d->str(d->arg, "state", mqg_slice_str(words[c->phase]));
    d->str(d->arg, "client_id", mqg_slice_of(c->client, c->client_len));
    d->num(d->arg, "channels", 0);
    d->num(d->arg, "timeout", c->keep_alive_s);
    d->flag(d->arg, "clean_start", c->clean);
    if (!c->session)
        return;
    d->num(d->arg, "session_expiry", c->session->expiry_s);
    d->num(d->arg, "subscriptions", (int64_t)c->session->subs.n);
    d->num(d->arg, "messages_unacknowledged", (int64_t)c->session->out.n);
    d->num(d->arg, "messages_unconfirmed", (int64_t)(c->seq - c->answered));
}

/* The main thread's. */
static void settings_publish(const struct mqtt_settings *fresh)
{
    struct mqtt_settings *s = mqg_xmalloc(sizeof *s);
    *s = *fresh;
    s->before = settings_last;
    settings_last = s;
    atomic_store_explicit(&mqtt_settings_now, s, memory_order_release);
}

static enum mqg_err mqtt_load(const struct mqg_conf *conf, struct mqg_error *e)
{
    (void)e;
    struct mqtt_settings first = {.before = NULL};
    mqtt_read(conf, &first);
    settings_publish(&first);
    mqg_origin_register(&mqtt_origin_ops);
    mqtt_persist_init();
    mqg_worker_on_start(mqtt_worker_start, mqtt_worker_stop);
    return MQG_OK;
}

static void mqtt_reload(const struct mqg_conf *conf)
{
    struct mqtt_settings fresh = *mqtt_settings();
    mqtt_read(conf, &fresh);
    fresh.rabbit_topics = mqtt_settings()->rabbit_topics;                      /* filters are kept mapped */
    memcpy(fresh.exchange, mqtt_settings()->exchange, sizeof(fresh.exchange)); /* bindings name it */
    settings_publish(&fresh);
}

static void mqtt_unload(void)
{
    mqtt_session_fini();
    mqtt_share_fini();
    mqtt_retained_fini();
    while (settings_last) {
        struct mqtt_settings *s = settings_last;
        settings_last = s->before;
        free(s);
    }
}

static const char *const mqtt_listeners[] = {"mqtt", "mqtt_ws", NULL};
static const char *const mqtt_ws_protocols[] = {"mqtt", "mqttv3.1", NULL};

static const struct mqg_protocol_ops mqtt_ops = {
    .name = "mqtt",
    .proto = MQG_PROTO_MQTT,
    .conn_bytes = sizeof(struct mqtt_conn),
    .listeners = mqtt_listeners,
    .default_port = 1883,
    .default_tls_port = 8883,
    .sniff = mqtt_sniff,
    .conn_init = mqtt_conn_init,
    .input = mqtt_conn_input,
    .event = mqtt_conn_event,
    .conn_fini = mqtt_conn_fini,
    .describe = mqtt_describe,
    .ws_protocols = mqtt_ws_protocols,
};

MQG_MODULE(mqtt) = {
    MQG_MODULE_HEAD(struct mqg_protocol_ops),
    .kind = MQG_MODULE_PROTOCOL,
    .name = "mqtt",
    .version = MQG_VERSION,
    .conf = mqtt_rows,
    .protocol = &mqtt_ops,
    .load = mqtt_load,
    .reload = mqtt_reload,
    .unload = mqtt_unload,
};
