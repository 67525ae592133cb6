/* module.c - the STOMP module: its descriptor, its settings, its place in the host. */
#include "later.h"
#include "stomp.h"

#include <mqgate/conf.h>

#include <stdlib.h>

struct stomp_settings stomp_settings = {
    .headers_max = 256,
    .head_max = 65536,
    .body_max = 16u << 20,
    .vhost_fallback = true,
    .vhost = "/",
    .user = "",
    .password = "",
};

static const struct mqg_conf_row stomp_rows[] = {
    {"stomp", "headers_max", MQG_CONF_INT, "256", 16, STOMP_HEADERS_LIMIT, NULL, "headers of one frame"},
    {"stomp", "header_size", MQG_CONF_SIZE, "64KiB", 1024, 98304, NULL,
     "bytes of one frame's headers; before login at most 8 KiB"},
    {"stomp", "vhost", MQG_CONF_STR, "/", 0, 0, NULL, "vhost of clients that name none"},
    {"stomp", "vhost_fallback", MQG_CONF_BOOL, "on", 0, 0, NULL,
     "on: a header host that names no vhost means stomp.vhost (clients send their server's name there)"},
    {"stomp", "default_user", MQG_CONF_STR, "", 0, 0, NULL, "account of clients without login; empty: none"},
    {"stomp", "default_password", MQG_CONF_STR, "", 0, 0, NULL, "its password"},
    {"stomp", "implicit_connect", MQG_CONF_BOOL, "off", 0, 0, NULL,
     "on: a first frame that is no CONNECT logs the default user in"},
    {.section = NULL},
};

static const char *const stomp_listeners[] = {"stomp", "stomp_ws", NULL};
static const char *const stomp_ws_protocols[] = {"v12.stomp", "v11.stomp", "v10.stomp", NULL};

static bool stomp_sniff(struct mqg_slice head)
{
    return mqg_slice_starts(head, MQG_SLICE_LIT("CONNECT\n")) ||
           mqg_slice_starts(head, MQG_SLICE_LIT("STOMP\n")) ||
           mqg_slice_starts(head, MQG_SLICE_LIT("CONNECT\r\n")) ||
           mqg_slice_starts(head, MQG_SLICE_LIT("STOMP\r\n"));
}

static void stomp_describe(const struct mqg_conn *c, struct mqg_describe *d)
{
    const struct stomp_conn *sc = mqg_conn_state((struct mqg_conn *)(uintptr_t)c);
    static const char *const names[] = {"STOMP 1.0", "STOMP 1.1", "STOMP 1.2"};
    static const char *const states[] = {"starting", "running", "closing"};
    d->str(d->arg, "protocol", mqg_slice_str(names[sc->version]));
    d->str(d->arg, "state", mqg_slice_str(states[sc->phase]));
    d->num(d->arg, "channels", 1);
    d->num(d->arg, "timeout", (int64_t)(sc->heart_in_ms / 1000));
    d->begin(d->arg, "channel");
    d->num(d->arg, "number", 1);
    d->flag(d->arg, "confirm", true);
    d->flag(d->arg, "transactional", sc->ntxs > 0);
    d->num(d->arg, "messages_unacknowledged", sc->unacked_n);
    d->num(d->arg, "messages_unconfirmed", (int64_t)(sc->publish_seq - sc->confirmed));
    d->num(d->arg, "consumer_count", (int64_t)sc->subs.count);
    d->str(d->arg, "state", mqg_slice_str("running"));
    d->end(d->arg);
}

static enum mqg_err stomp_load(const struct mqg_conf *conf, struct mqg_error *e)
{
    (void)e;
    stomp_settings = (struct stomp_settings){
        .headers_max = (uint32_t)mqg_conf_int(conf, "stomp", "headers_max"),
        .head_max = (uint32_t)mqg_conf_int(conf, "stomp", "header_size"),
        .body_max = (uint32_t)mqg_conf_int(conf, "limits", "message_size"),
        .vhost = mqg_conf_str(conf, "stomp", "vhost"),
        .vhost_fallback = mqg_conf_bool(conf, "stomp", "vhost_fallback"),
        .user = mqg_conf_str(conf, "stomp", "default_user"),
        .password = mqg_conf_str(conf, "stomp", "default_password"),
        .implicit_connect = mqg_conf_bool(conf, "stomp", "implicit_connect"),
    };
    stomp_gather_budget.limit_bytes = (int64_t)stomp_settings.body_max * STOMP_GATHERED_BODIES;
    mqg_origin_register(&stomp_origin_ops);
    mqg_worker_on_start(stomp_later_worker_start, stomp_later_worker_stop);
    return MQG_OK;
}

static const struct mqg_protocol_ops stomp_ops = {
    .name = "stomp",
    .proto = MQG_PROTO_STOMP,
    .conn_bytes = sizeof(struct stomp_conn),
    .listeners = stomp_listeners,
    .default_port = 61613,
    .default_tls_port = 61614,
    .sniff = stomp_sniff,
    .conn_init = stomp_conn_init,
    .input = stomp_input,
    .event = stomp_conn_event,
    .conn_fini = stomp_conn_fini,
    .describe = stomp_describe,
    .ws_protocols = stomp_ws_protocols,
    .ws_text = true,
};

MQG_MODULE(stomp) = {
    MQG_MODULE_HEAD(struct mqg_protocol_ops),
    .kind = MQG_MODULE_PROTOCOL,
    .name = "stomp",
    .version = MQG_VERSION,
    .conf = stomp_rows,
    .protocol = &stomp_ops,
    .load = stomp_load,
    .unload = stomp_later_fini,
};
