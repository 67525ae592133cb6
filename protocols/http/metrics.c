/* metrics.c - /metrics, the text that Prometheus reads.
 *
 * Sums only, no names: it is answered without a login, so that a scraper needs no account. */
#include "http.h"

#include <mqgate/host.h>
#include <mqgate/obs.h>

#include <inttypes.h>

static void metrics_gauge(struct mqg_dynbuf *out, const char *name, const char *help, uint64_t value)
{
    mqg_dynbuf_printf(out, "# HELP %s %s\n# TYPE %s gauge\n%s %" PRIu64 "\n", name, help, name, name, value);
}

static uint64_t metrics_open(enum mqg_counter opened, enum mqg_counter closed)
{
    uint64_t gone = mqg_count_sum(closed), came = mqg_count_sum(opened);
    return came > gone ? came - gone : 0;
}

static void metrics_queues(struct mqg_dynbuf *out)
{
    struct queue_totals t;
    queue_sum(&t);
    metrics_gauge(out, "mqgate_queues", "queues", t.queues);
    metrics_gauge(out, "mqgate_queue_messages_ready", "messages ready in queues", t.ready);
    metrics_gauge(out, "mqgate_queue_messages_unacked", "messages delivered and not yet settled", t.unacked);
    metrics_gauge(out, "mqgate_queue_messages_in_memory", "messages of queues with their body in memory",
                  t.memory_messages);
    metrics_gauge(out, "mqgate_queue_bytes_ready", "bytes of messages ready in queues", t.bytes_ready);
    metrics_gauge(out, "mqgate_queue_bytes_unacked", "bytes of messages not yet settled", t.bytes_unacked);
    metrics_gauge(out, "mqgate_consumers", "consumers of queues", t.consumers);
}

void metrics_get(struct http_request *r)
{
    struct mqg_dynbuf *out = &r->text;
    r->reader = mqg_epoch_register();
    mqg_dynbuf_printf(out,
                      "# HELP mqgate_info version and node\n# TYPE mqgate_info gauge\n"
                      "mqgate_info{version=\"" MQG_VERSION "\",node=\"%s\"} 1\n",
                      mqg_node_name());
    metrics_gauge(out, "mqgate_up_seconds", "seconds since the node started",
                  (mqg_clock_now().wall_us - mqg_node_started_us()) / 1000000);
    metrics_gauge(out, "mqgate_workers", "worker threads", mqg_worker_count());
    metrics_gauge(out, "mqgate_connections", "connections open now",
                  metrics_open(MQG_COUNT_CONNS_OPENED, MQG_COUNT_CONNS_CLOSED));
    metrics_gauge(out, "mqgate_channels", "channels open now",
                  metrics_open(MQG_COUNT_CHANNELS_OPENED, MQG_COUNT_CHANNELS_CLOSED));
    metrics_gauge(out, "mqgate_blocked", "1 while the node takes no publishes", mqg_node_blocked());
    int64_t used = mqg_msg_memory_used();
    metrics_gauge(out, "mqgate_message_memory_bytes", "memory of messages", used > 0 ? (uint64_t)used : 0);
    metrics_gauge(out, "mqgate_epoch_pending", "retired objects not yet freed", mqg_epoch_pending());
    metrics_queues(out);
    mqg_count_prometheus(out);
    mqg_epoch_unregister(&r->reader);
    r->status = 200;
    r->text_type = "text/plain; version=0.0.4; charset=utf-8";
}
