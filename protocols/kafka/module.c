/* module.c - the Kafka module: its descriptor, its settings, its parts, its place in the host. */
#include "admin.h"
#include "compression.h"
#include "kafka_int.h"
#include "txn_api.h"

#include "group_part.h"

#include <stdlib.h>

#define KAFKA_REQUEST_LIMIT (1 << 30)

struct kafka_settings kafka_settings = {
    .request_max_bytes = 100u << 20,
    .batch_max_bytes = 1048588,
    .broker_id = 1,
    .partitions = 1,
    .advertised = "",
    .fetch_sessions = 1000,
    .fetch_max_bytes = 16 << 20,
    .idle_ms = 600000,
};

/* ---- parts: one line each ------------------------------------------------------------------------------------------------- */

static const struct kafka_part core_part = {.name = "core", .apis = kafka_core_apis};
static const struct kafka_part metadata_part = {.name = "metadata", .apis = kafka_metadata_apis};
static const struct kafka_part produce_part = {.name = "produce", .apis = kafka_produce_apis};
static const struct kafka_part fetch_part = {
    .name = "fetch", .apis = kafka_fetch_apis, .conn_fini = fetch_session_close};
static const struct kafka_part offsets_part = {.name = "offsets", .apis = kafka_offsets_apis};

const struct kafka_part *const kafka_parts[] = {
    /* clang-format off */
    &core_part,
    &metadata_part,
    &produce_part,
    &fetch_part,
    &offsets_part,
    &kafka_admin_part,
    &kafka_acl_part,
    &kafka_group_part,
    &kafka_sasl_part,
    &kafka_quota_part,
    &kafka_txn_part,
    NULL,
    /* clang-format on */
};

/* ---- settings --------------------------------------------------------------------------------------------------------------- */

static const struct mqg_conf_row kafka_rows[] = {
    {"kafka", "broker_id", MQG_CONF_INT, "1", 0, INT32_MAX, NULL, "the node's number in its cluster of one"},
    {"kafka", "advertised", MQG_CONF_STR, "", 0, 0, NULL,
     "address that clients are told, HOST:PORT or LISTENER=HOST:PORT,...; empty: where they came in"},
    {"kafka", "vhost", MQG_CONF_STR, "/", 0, 0, NULL,
     "vhost of clients, NAME or NAME,LISTENER=NAME,...; a user who may enter but one other enters that"},
    {"kafka", "anonymous", MQG_CONF_ENUM, "loopback", 0, 0, "off|loopback|any",
     "from where clients may come that do not log in"},
    {"kafka", "anonymous_user", MQG_CONF_STR, "guest", 0, 0, NULL, "account of clients that do not log in"},
    {"kafka", "auto_create", MQG_CONF_BOOL, "on", 0, 0, NULL,
     "on: a topic that a client asks for is made, if the client allows it"},
    {"kafka", "partitions", MQG_CONF_INT, "1", 1, MQG_STREAM_PARTITIONS_MAX, NULL,
     "partitions of topics that are made without saying how many"},
    {"kafka", "request_size", MQG_CONF_SIZE, "100MiB", 65536, KAFKA_REQUEST_LIMIT, NULL,
     "bytes of one request; before login at most 1 MiB"},
    {"kafka", "request_memory", MQG_CONF_SIZE, "512MiB", 1048576, INT64_MAX, NULL,
     "bytes of large requests that are on their way, of all clients; beyond it clients are read later"},
    {"kafka", "batch_size", MQG_CONF_SIZE, "1048588", 1024, 1 << 30, NULL,
     "largest record batch of topics that say nothing else (max.message.bytes)"},
    {"kafka", "fetch_size", MQG_CONF_SIZE, "16MiB", 1024, 1 << 30, NULL,
     "bytes of one fetch's answer, at most"},
    {"kafka", "fetch_sessions", MQG_CONF_INT, "1000", 0, 1000000, NULL,
     "fetch sessions that a worker keeps (KIP-227)"},
    {"kafka", "idle_timeout", MQG_CONF_DURATION, "10m", 1000, INT64_MAX, NULL,
     "a connection that sends nothing for so long is closed"},
    KAFKA_ADMIN_CONF_ROWS,
    KAFKA_GROUP_ROWS,
    {"kafka", "transaction_max_timeout", MQG_CONF_DURATION, "15m", 1000, INT32_MAX, NULL,
     "the longest transaction that a producer may ask for; what is open longer than it asked for is rolled "
     "back"},
    {"kafka", "transactional_id_expiry", MQG_CONF_DURATION, "7d", 60000, INT64_MAX, NULL,
     "a transactional id that was not used so long is forgotten"},
    {"kafka", "producer_id_expiry", MQG_CONF_DURATION, "1d", 60000, INT64_MAX, NULL,
     "the sequences of a producer that was silent so long are forgotten"},
    /* Further listeners, one per section: [kafka.internal]. */
    {"kafka.*", "listen", MQG_CONF_ADDR, NULL, 0, 0, NULL, "addresses of a further listener"},
    {"kafka.*", "tls", MQG_CONF_BOOL, "off", 0, 0, NULL, "on: it is one over TLS; needs tls.cert"},
    {"kafka.*", "advertised", MQG_CONF_STR, NULL, 0, 0, NULL,
     "address that its clients are told, HOST:PORT; not set: what kafka.advertised says"},
    {"kafka.*", "vhost", MQG_CONF_STR, NULL, 0, 0, NULL, "vhost of its clients; not set: kafka.vhost's"},
    {"kafka.*", "anonymous", MQG_CONF_ENUM, NULL, 0, 0, "off|loopback|any",
     "from where its clients may come that do not log in; not set: kafka.anonymous"},
    {"kafka.*", "anonymous_user", MQG_CONF_STR, NULL, 0, 0, NULL,
     "account of those; not set: kafka.anonymous_user"},
    {.section = NULL},
};

static enum mqg_err settings_read(const struct mqg_conf *conf, struct mqg_error *e)
{
    uint64_t batch = (uint64_t)mqg_conf_int(conf, "kafka", "batch_size");
    kafka_settings = (struct kafka_settings){
        .request_max_bytes = (uint32_t)mqg_conf_int(conf, "kafka", "request_size"),
        .batch_max_bytes = (uint32_t)batch,
        .broker_id = (int32_t)mqg_conf_int(conf, "kafka", "broker_id"),
        .auto_create = mqg_conf_bool(conf, "kafka", "auto_create"),
        .partitions = (uint32_t)mqg_conf_int(conf, "kafka", "partitions"),
        .advertised = mqg_conf_str(conf, "kafka", "advertised"),
        .fetch_sessions = (uint32_t)mqg_conf_int(conf, "kafka", "fetch_sessions"),
        .fetch_max_bytes = (uint32_t)mqg_conf_int(conf, "kafka", "fetch_size"),
        .idle_ms = (uint64_t)mqg_conf_int(conf, "kafka", "idle_timeout"),
    };
    return kafka_listeners_load(conf, e);
}

static enum mqg_err kafka_load(const struct mqg_conf *conf, struct mqg_error *e)
{
    enum mqg_err err = settings_read(conf, e);
    if (err == MQG_OK)
        err = kafka_apis_load(e);
    for (size_t i = 0; kafka_parts[i] != NULL && err == MQG_OK; i++)
        if (kafka_parts[i]->load != NULL)
            err = kafka_parts[i]->load(conf, e);
    if (err != MQG_OK)
        return err;
    kafka_compression_register();
    mqg_stream_txns_set(&kafka_txns);
    kafka_node_load();
    kafka_frames_load(mqg_conf_int(conf, "kafka", "request_memory"));
    mqg_worker_on_start(NULL, kafka_conns_worker_stop);
    return MQG_OK;
}

static void kafka_reload(const struct mqg_conf *conf)
{
    for (size_t i = 0; kafka_parts[i] != NULL; i++)
        if (kafka_parts[i]->reload != NULL)
            kafka_parts[i]->reload(conf);
}

static void kafka_unload(void)
{
    for (size_t i = 0; kafka_parts[i] != NULL; i++)
        if (kafka_parts[i]->unload != NULL)
            kafka_parts[i]->unload();
}

/* ---- in the host -------------------------------------------------------------------------------------------------------------- */

static const char *const kafka_listeners[] = {"kafka", NULL};

/* A request's length, then ApiVersions or Metadata of a version that could be. */
static bool kafka_sniff(struct mqg_slice head)
{
    if (head.len < 12 || mqg_be32(head.ptr) < 8 || mqg_be32(head.ptr) > 65536)
        return false;
    uint16_t key = mqg_be16(head.ptr + 4);
    return (key == KAFKA_API_API_VERSIONS || key == KAFKA_API_METADATA) && mqg_be16(head.ptr + 6) < 32;
}

static void kafka_describe(const struct mqg_conn *c, struct mqg_describe *d)
{
    const struct kafka_conn *kc = mqg_conn_state((struct mqg_conn *)(uintptr_t)c);
    static const char *const states[] = {"starting", "running", "closing"};
    d->str(d->arg, "protocol", mqg_slice_str("Kafka"));
    d->str(d->arg, "state", mqg_slice_str(states[kc->phase]));
    d->str(d->arg, "client_id", mqg_dynbuf_view(&kc->client_id));
    d->str(d->arg, "product", mqg_slice_str(kc->software));
    d->num(d->arg, "channels", 0);
    d->num(d->arg, "timeout", (int64_t)(kafka_settings.idle_ms / 1000));
}

static const struct mqg_protocol_ops kafka_ops = {
    .name = "kafka",
    .proto = MQG_PROTO_KAFKA,
    .conn_bytes = sizeof(struct kafka_conn),
    .listeners = kafka_listeners,
    .default_port = 9092,
    .default_tls_port = 9093,
    .sniff = kafka_sniff,
    .conn_init = kafka_conn_init,
    .input = kafka_conn_input,
    .event = kafka_conn_event,
    .conn_fini = kafka_conn_fini,
    .describe = kafka_describe,
};

MQG_MODULE(kafka) = {
    MQG_MODULE_HEAD(struct mqg_protocol_ops),
    .kind = MQG_MODULE_PROTOCOL,
    .name = "kafka",
    .version = MQG_VERSION,
    .conf = kafka_rows,
    .protocol = &kafka_ops,
    .load = kafka_load,
    .reload = kafka_reload,
    .unload = kafka_unload,
};
