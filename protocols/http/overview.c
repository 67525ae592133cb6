/* overview.c - the node: what it is, how it is, how much is in it. */
#include "http.h"

#include <mqgate/host.h>
#include <mqgate/obs.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* What client tools compare with what they can do. */
#define OVERVIEW_COMPATIBLE "3.10.8"

/* ---- parts ---------------------------------------------------------------------------------------------------------------- */

static json_t *overview_exchange_types(void)
{
    static const char *const types[] = {"direct", "fanout", "headers", "topic"};
    json_t *out = json_array();
    for (size_t i = 0; i < MQG_COUNTOF(types); i++) {
        json_t *type = json_object();
        js_set_str(type, "name", types[i]);
        js_set(type, "description", json_sprintf("%s exchange", types[i]));
        js_set_bool(type, "enabled", true);
        json_array_append_new(out, type);
    }
    return out;
}

/* "amqp=127.0.0.1:5672,[::1]:5672 http=..." */
static json_t *overview_listeners(void)
{
    char text[2048], *save = NULL;
    json_t *out = json_array();
    text[0] = '\0';
    mqg_node_listeners(text, sizeof text);
    for (char *word = strtok_r(text, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save)) {
        char *value = strchr(word, '='), *inner = NULL;
        if (value == NULL)
            continue;
        *value++ = '\0';
        for (char *address = strtok_r(value, ",\"", &inner); address != NULL;
             address = strtok_r(NULL, ",\"", &inner)) {
            char *colon = strrchr(address, ':');
            if (colon == NULL)
                continue;
            *colon = '\0';
            json_t *listener = json_object();
            js_set_str(listener, "node", mqg_node_name());
            js_set_str(listener, "protocol", word);
            js_set_str(listener, "ip_address", address);
            js_set_int(listener, "port", strtoul(colon + 1, NULL, 10));
            json_array_append_new(out, listener);
        }
    }
    return out;
}

static json_t *overview_stats(void)
{
    json_t *out = json_object();
    uint64_t acked = mqg_count_sum(MQG_COUNT_DELIVERED), unacked = mqg_count_sum(MQG_COUNT_DELIVERED_NO_ACK);
    uint64_t got = mqg_count_sum(MQG_COUNT_GOT);
    js_set_int(out, "publish", mqg_count_sum(MQG_COUNT_PUBLISHED));
    js_set_int(out, "confirm", mqg_count_sum(MQG_COUNT_CONFIRMED));
    js_set_int(out, "deliver", acked);
    js_set_int(out, "deliver_no_ack", unacked);
    js_set_int(out, "get", got);
    js_set_int(out, "deliver_get", acked + unacked + got);
    js_set_int(out, "ack", mqg_count_sum(MQG_COUNT_ACKED));
    js_set_int(out, "redeliver", mqg_count_sum(MQG_COUNT_REDELIVERED));
    js_set_int(out, "return_unroutable", mqg_count_sum(MQG_COUNT_UNROUTABLE_RETURNED));
    js_set_int(out, "drop_unroutable", mqg_count_sum(MQG_COUNT_UNROUTABLE_DROPPED));
    return out;
}

static json_t *overview_churn(void)
{
    json_t *out = json_object();
    js_set_int(out, "connection_created", mqg_count_sum(MQG_COUNT_CONNS_OPENED));
    js_set_int(out, "connection_closed", mqg_count_sum(MQG_COUNT_CONNS_CLOSED));
    js_set_int(out, "channel_created", mqg_count_sum(MQG_COUNT_CHANNELS_OPENED));
    js_set_int(out, "channel_closed", mqg_count_sum(MQG_COUNT_CHANNELS_CLOSED));
    return out;
}

static bool overview_count_exchange(void *arg, const struct mqg_exchange_info *x)
{
    (void)x;
    ++*(uint64_t *)arg;
    return true;
}

static uint64_t overview_open(enum mqg_counter opened, enum mqg_counter closed)
{
    uint64_t gone = mqg_count_sum(closed), came = mqg_count_sum(opened);
    return came > gone ? came - gone : 0;
}

static void overview_totals(json_t *out)
{
    struct queue_totals t;
    uint64_t exchanges = 0;
    json_t *queues = json_object(), *objects = json_object();
    queue_sum(&t);
    mqg_exchange_each(NULL, overview_count_exchange, &exchanges);
    js_set_int(queues, "messages", t.ready + t.unacked);
    js_set_int(queues, "messages_ready", t.ready);
    js_set_int(queues, "messages_unacknowledged", t.unacked);
    js_set_int(objects, "channels", overview_open(MQG_COUNT_CHANNELS_OPENED, MQG_COUNT_CHANNELS_CLOSED));
    js_set_int(objects, "connections", overview_open(MQG_COUNT_CONNS_OPENED, MQG_COUNT_CONNS_CLOSED));
    js_set_int(objects, "consumers", t.consumers);
    js_set_int(objects, "exchanges", exchanges);
    js_set_int(objects, "queues", t.queues);
    js_set(out, "queue_totals", queues);
    js_set(out, "object_totals", objects);
}

void overview_get(struct http_request *r)
{
    json_t *out = json_object();
    js_set_str(out, "management_version", OVERVIEW_COMPATIBLE);
    js_set_str(out, "rates_mode", "none");
    js_set(out, "exchange_types", overview_exchange_types());
    js_set_str(out, "product_name", "mqgate");
    js_set_str(out, "product_version", MQG_VERSION);
    js_set_str(out, "rabbitmq_version", OVERVIEW_COMPATIBLE);
    js_set_str(out, "cluster_name", mqg_node_name());
    js_set_str(out, "node", mqg_node_name());
    js_set_str(out, "state", mqg_node_state());
    js_set(out, "message_stats", overview_stats());
    js_set(out, "churn_rates", overview_churn());
    overview_totals(out);
    js_set(out, "listeners", http_is_monitor(r) ? overview_listeners() : json_array());
    js_set(out, "contexts", json_array());
    http_reply_object(r, out);
}

/* ---- the node ------------------------------------------------------------------------------------------------------------------ */

/* Resident bytes of this process. */
static uint64_t node_memory(void)
{
    unsigned long size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f == NULL)
        return 0;
    if (fscanf(f, "%lu %lu", &size, &resident) != 2)
        resident = 0;
    fclose(f);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static json_t *node_json(void)
{
    json_t *out = json_object();
    js_set_str(out, "name", mqg_node_name());
    js_set_str(out, "type", "disc");
    js_set_bool(out, "running", strcmp(mqg_node_state(), "running") == 0);
    js_set_str(out, "state", mqg_node_state());
    js_set(out, "os_pid", json_sprintf("%d", (int)getpid()));
    js_set_int(out, "uptime", (mqg_clock_now().wall_us - mqg_node_started_us()) / 1000);
    js_set_int(out, "processors", (uint64_t)sysconf(_SC_NPROCESSORS_ONLN));
    js_set_int(out, "workers", mqg_worker_count());
    js_set_int(out, "mem_used", node_memory());
    js_set_bool(out, "mem_alarm", mqg_node_blocked());
    const struct mqg_storage *s = mqg_storage_default();
    js_set_bool(out, "disk_free_alarm",
                s != NULL && atomic_load(&((struct mqg_storage *)(uintptr_t)s)->blocked));
    js_set(out, "partitions", json_array());
    js_set(out, "exchange_types", overview_exchange_types());
    js_set_str(out, "rates_mode", "none");
    return out;
}

void nodes_get(struct http_request *r)
{
    json_t *array = json_array();
    json_array_append_new(array, node_json());
    http_reply_list(r, array, "name");
}

void node_get(struct http_request *r)
{
    if (mqg_slice_eq(r->arg[0], mqg_slice_str(mqg_node_name())))
        http_reply_object(r, node_json());
    else
        http_reply_not_found(r);
}

/* ---- health ----------------------------------------------------------------------------------------------------------------------- */

void health_get(struct http_request *r)
{
    const char *failure = mqg_stores_failure();
    const char *why = failure != NULL      ? failure
                      : mqg_node_blocked() ? "publishers are blocked: memory or disk is short"
                      : strcmp(mqg_node_state(), "running") != 0 ? mqg_node_state()
                                                                 : NULL;
    json_t *out = json_object();
    js_set_str(out, "status", why == NULL ? "ok" : "failed");
    if (why != NULL)
        js_set_str(out, "reason", why);
    http_reply(r, why == NULL ? 200 : 503, out);
}

/* ---- runtime trace ---------------------------------------------------------------------------------------------------------------- */

static void trace_set(struct http_request *r, bool on)
{
    char component[32];
    const char *conn = http_query(r, "connection");
    if (r->arg[0].len == 0 || r->arg[0].len >= sizeof component) {
        http_reply_error(r, 400, "bad_request", "a component's name has 1 to %zu bytes",
                         sizeof component - 1);
        return;
    }
    memcpy(component, r->arg[0].ptr, r->arg[0].len);
    component[r->arg[0].len] = '\0';
    mqg_trace_set(component, conn != NULL ? strtoull(conn, NULL, 10) : 0, on);
    http_reply_none(r, 204);
}

void trace_put(struct http_request *r)
{
    trace_set(r, true);
}

void trace_delete(struct http_request *r)
{
    trace_set(r, false);
}
