/* core_rows.c - the keys of the core.
 *
 * The listeners of all protocols stand here and not in their modules: "off" must be understood for a module that is
 * not built, and one that was asked for must be refused by the name of what is missing. Both loopbacks are the
 * default; whoever wants more says so. */
#include "core_rows.h"

#define CORE_LOOPBACK(port) "127.0.0.1:" #port ",[::1]:" #port
#define CORE_LISTENER(name, port, help)                                         \
    {                                                                           \
        "listeners", name, MQG_CONF_ADDR, CORE_LOOPBACK(port), 0, 0, NULL, help \
    }

const struct mqg_conf_row mqg_core_rows[] = {
    {"node", "workers", MQG_CONF_INT, "0", 0, 64, NULL, "worker threads; 0 is one for each processor"},
    {"node", "name", MQG_CONF_STR, "", 0, 0, NULL, "name in listings; empty is mqgate@HOSTNAME"},
    {"node", "drain_timeout", MQG_CONF_DURATION, "5s", 0, 86400000, NULL,
     "how long SIGTERM waits for clients to say goodbye"},
    {"node", "debug_dribble", MQG_CONF_BOOL, "off", 0, 0, NULL,
     "for tests: every connection is read and written one byte at a time"},
    {"modules", "path", MQG_CONF_STR, MQG_MODULES_DIR, 0, 0, NULL, "folder of the modules"},

    CORE_LISTENER("amqp", 5672, "AMQP 0-9-1"),
    CORE_LISTENER("amqps", 5671, "AMQP 0-9-1 over TLS; needs tls.cert"),
    CORE_LISTENER("mqtt", 1883, "MQTT 3.1, 3.1.1, 5.0"),
    CORE_LISTENER("mqtts", 8883, "MQTT over TLS; needs tls.cert"),
    CORE_LISTENER("mqtt_ws", 15675, "MQTT over WebSocket"),
    {"listeners", "mqtt_wss", MQG_CONF_ADDR, "off", 0, 0, NULL,
     "MQTT over WebSocket and TLS; needs tls.cert"},
    CORE_LISTENER("stomp", 61613, "STOMP 1.0, 1.1, 1.2"),
    CORE_LISTENER("stomps", 61614, "STOMP over TLS; needs tls.cert"),
    CORE_LISTENER("stomp_ws", 15674, "STOMP over WebSocket"),
    {"listeners", "stomp_wss", MQG_CONF_ADDR, "off", 0, 0, NULL,
     "STOMP over WebSocket and TLS; needs tls.cert"},
    CORE_LISTENER("kafka", 9092, "Kafka wire protocol"),
    CORE_LISTENER("kafkas", 9093, "Kafka over TLS; needs tls.cert"),
    CORE_LISTENER("http", 15672, "management API, console, /metrics"),
    {"listeners", "https", MQG_CONF_ADDR, "off", 0, 0, NULL, "management API over TLS; needs tls.cert"},
    CORE_LISTENER("rest", 8082, "REST proxy"),
    {"listeners", "ws_path", MQG_CONF_STR, "/ws", 0, 0, NULL, "path at which listeners of WebSocket answer"},
    {"listeners", "proxy_protocol", MQG_CONF_STR, "", 0, 0, NULL,
     "names of listeners that stand behind a proxy and expect its PROXY header, separated by commas"},

    {"tls", "cert", MQG_CONF_STR, "", 0, 0, NULL, "server certificate chain, PEM; read again at SIGHUP"},
    {"tls", "key", MQG_CONF_STR, "", 0, 0, NULL, "its private key, PEM"},
    {"tls", "ca", MQG_CONF_STR, "", 0, 0, NULL, "certificates that sign client certificates, PEM"},
    {"tls", "verify", MQG_CONF_ENUM, "none", 0, 0, "none|optional|required",
     "client certificates: not asked for, checked when sent, demanded"},

    {"auth", "anonymous", MQG_CONF_BOOL, "off", 0, 0, NULL,
     "on: no credentials from loopback means guest, in every protocol"},
    {"auth", "guest_loopback_only", MQG_CONF_BOOL, "on", 0, 0, NULL,
     "the user guest may only come from this machine"},
    {"log", "level", MQG_CONF_ENUM, "info", 0, 0, "debug|info|warn|error", "least level that is logged"},
    {"log", "trace", MQG_CONF_STR, "", 0, 0, NULL,
     "components whose trace is logged, separated by commas; all: every one"},
    {"log", "file", MQG_CONF_STR, "", 0, 0, NULL,
     "log file, opened again at SIGHUP; empty is standard error"},
    {"store", "default", MQG_CONF_STR, "journal", 0, 0, NULL,
     "the [store.NAME] that keeps metadata and what names no other"},

    {"store.*", "type", MQG_CONF_STR, NULL, 0, 0, NULL,
     "storage module of this store; without it the section's own name"},

    {"limits", "memory", MQG_CONF_SIZE, "0", 0, INT64_MAX, NULL,
     "bytes of messages in memory above which publishers are blocked; 0 is 40 percent of the machine's"},
    {"limits", "queue_index", MQG_CONF_INT, "131072", 256, 1 << 30, NULL,
     "messages of a durable queue whose place is kept in memory; those in between are left to the store"},
    {"limits", "connections", MQG_CONF_INT, "0", 0, 10000000, NULL,
     "connections at a time; 0 is what the system allows"},
    {"limits", "message_size", MQG_CONF_SIZE, "16MiB", 1024, 128 << 20, NULL, "largest message body"},
    {"limits", "login_timeout", MQG_CONF_DURATION, "10s", 100, 3600000, NULL, "time a client has to log in"},
    {.section = NULL},
};

const struct mqg_core_listener mqg_core_listeners[] = {
    {"amqp", "amqp", "amqp", false},          {"amqps", "amqp", "amqp", true},
    {"mqtt", "mqtt", "mqtt", false},          {"mqtts", "mqtt", "mqtt", true},
    {"mqtt_ws", "mqtt", "mqtt_ws", false},    {"mqtt_wss", "mqtt", "mqtt_ws", true},
    {"stomp", "stomp", "stomp", false},       {"stomps", "stomp", "stomp", true},
    {"stomp_ws", "stomp", "stomp_ws", false}, {"stomp_wss", "stomp", "stomp_ws", true},
    {"kafka", "kafka", "kafka", false},       {"kafkas", "kafka", "kafka", true},
    {"http", "http", "http", false},          {"https", "http", "http", true},
    {"rest", "rest", "rest", false},          {.name = NULL},
};
