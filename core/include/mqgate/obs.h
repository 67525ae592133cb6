/* mqgate/obs.h - seeing inside: logfmt log, counters, trace.
 *
 * A log line is `ts=... level=... event=NAME key=value ...`; event names are a closed list (the table below feeds code and
 * docs). Peers' faults are logged at info, never error. Counters live in one table of X-macro rows that feeds the code,
 * /metrics and the docs; each worker adds to its own row of memory, readers sum. */
#ifndef MQGATE_OBS_H
#define MQGATE_OBS_H

#include <mqgate/base.h>

enum mqg_log_level { MQG_LOG_DEBUG, MQG_LOG_INFO, MQG_LOG_WARN, MQG_LOG_ERROR };

/* X(symbol, "name", "what it says") */
#define MQG_EVENTS(X)                                                    \
    X(START, "start", "the daemon starts: version, configuration")       \
    X(READY, "ready", "every listener is bound: name=address for each")  \
    X(STOP, "stop", "the daemon stops, and why")                         \
    X(DRAIN, "drain", "graceful stop began or ended")                    \
    X(RELOAD, "reload", "configuration read again")                      \
    X(CONFIG, "config", "a setting worth knowing, or a refusal")         \
    X(MODULE, "module", "a module was loaded, left out or refused")      \
    X(LISTEN, "listen", "a listener was bound or refused")               \
    X(CONN_OPEN, "conn_open", "a connection was accepted")               \
    X(CONN_LOGIN, "conn_login", "a client was authenticated or refused") \
    X(CONN_CLOSE, "conn_close", "a connection ended, and why")           \
    X(PROTOCOL_ERROR, "protocol_error", "a peer broke its protocol")     \
    X(RECOVERY, "recovery", "progress and result of reading the store")  \
    X(STORE, "store", "the store's state changed")                       \
    X(CORRUPTION, "corruption", "stored bytes do not check")             \
    X(PRESSURE, "pressure", "publishers are blocked or go on")           \
    X(DEFINE, "define", "a definition was made, changed or removed")     \
    X(ACCOUNT, "account", "users, vhosts, permissions changed")          \
    X(ADMIN, "admin", "an operator's command")                           \
    X(TRACE, "trace", "runtime trace")                                   \
    X(ASSERT, "assert", "a bug of ours; the process ends")

enum mqg_event {
#define MQG_EVENT_ENUM(sym, name, help) MQG_EVENT_##sym,
    MQG_EVENTS(MQG_EVENT_ENUM)
#undef MQG_EVENT_ENUM
        MQG_EVENT_COUNT
};

/* fmt is the rest of the line in logfmt ("conn=%llu why=%s"); the caller quotes values with mqg_logq where they may hold
 * spaces or come from a peer. Any thread; one write per line. */
MQG_API void mqg_log(enum mqg_log_level level, enum mqg_event event, const char *fmt, ...) MQG_PRINTF(3, 4);
/* A value made safe for a logfmt line (quoted, escaped, cut at 256) in one of 8 rotating thread-local buffers. */
MQG_API const char *mqg_logq(struct mqg_slice s);
MQG_API const char *mqg_logqs(const char *s);
/* Would a line of that level be written? For lines whose values cost something to make. */
MQG_API bool mqg_log_on(enum mqg_log_level level);
MQG_API void mqg_log_level_set(enum mqg_log_level level);
MQG_API bool mqg_log_level_parse(const char *word, enum mqg_log_level *out);
MQG_API enum mqg_err mqg_log_file(const char *path,
                                  struct mqg_error *e); /* NULL = stderr; call again to reopen */

/* Runtime trace by component ("amqp", "journal", "queue"...) and connection id; off costs one relaxed load. */
MQG_API bool mqg_trace_on(const char *component, uint64_t conn_id);
MQG_API void mqg_trace_set(const char *component, uint64_t conn_id, bool on);
MQG_API extern _Atomic int mqg_trace_any;
#define MQG_TRACE(component, conn_id, ...)                                              \
    do {                                                                                \
        if (MQG_UNLIKELY(atomic_load_explicit(&mqg_trace_any, memory_order_relaxed)) && \
            mqg_trace_on(component, conn_id))                                           \
            mqg_log(MQG_LOG_DEBUG, MQG_EVENT_TRACE, __VA_ARGS__);                       \
    } while (0)

/* X(symbol, "prometheus_name", counter|gauge, "help") */
#define MQG_COUNTERS(X)                                                                                 \
    X(CONNS_OPENED, "mqgate_connections_opened_total", counter, "connections accepted")                 \
    X(CONNS_CLOSED, "mqgate_connections_closed_total", counter, "connections ended")                    \
    X(LOGINS_FAILED, "mqgate_logins_failed_total", counter, "logins refused")                           \
    X(BYTES_IN, "mqgate_bytes_received_total", counter, "bytes read from sockets")                      \
    X(BYTES_OUT, "mqgate_bytes_sent_total", counter, "bytes written to sockets")                        \
    X(PROTOCOL_ERRORS, "mqgate_protocol_errors_total", counter,                                         \
      "connections or channels ended for a peer's fault")                                               \
    X(CHANNELS_OPENED, "mqgate_channels_opened_total", counter, "channels opened")                      \
    X(CHANNELS_CLOSED, "mqgate_channels_closed_total", counter, "channels closed")                      \
    X(PUBLISHED, "mqgate_messages_published_total", counter, "messages accepted from publishers")       \
    X(ROUTED, "mqgate_messages_routed_total", counter, "copies put into queues and streams")            \
    X(UNROUTABLE_DROPPED, "mqgate_messages_unroutable_dropped_total", counter,                          \
      "messages without a destination, dropped")                                                        \
    X(UNROUTABLE_RETURNED, "mqgate_messages_unroutable_returned_total", counter,                        \
      "messages without a destination, returned")                                                       \
    X(CONFIRMED, "mqgate_messages_confirmed_total", counter, "publisher confirms sent, positive")       \
    X(REJECTED, "mqgate_messages_rejected_total", counter, "publisher confirms sent, negative")         \
    X(DELIVERED, "mqgate_messages_delivered_total", counter, "deliveries that want an acknowledgement") \
    X(DELIVERED_NO_ACK, "mqgate_messages_delivered_no_ack_total", counter,                              \
      "deliveries without acknowledgement")                                                             \
    X(REDELIVERED, "mqgate_messages_redelivered_total", counter, "deliveries marked redelivered")       \
    X(ACKED, "mqgate_messages_acked_total", counter, "deliveries acknowledged")                         \
    X(GOT, "mqgate_messages_got_total", counter, "messages fetched by basic.get and its like")          \
    X(EXPIRED, "mqgate_messages_expired_total", counter, "messages whose time to live ran out")         \
    X(DEAD_LETTERED, "mqgate_messages_dead_lettered_total", counter, "messages dead-lettered")          \
    X(DEAD_LETTER_DROPPED, "mqgate_messages_dead_letter_dropped_total", counter,                        \
      "dead letters without target or in a cycle")                                                      \
    X(OVERFLOW_DROPPED, "mqgate_messages_overflow_dropped_total", counter,                              \
      "messages dropped from the head of a full queue")                                                 \
    X(CONVERSION_DROPPED, "mqgate_conversion_dropped_total", counter,                                   \
      "header fields a protocol could not carry")                                                       \
    X(CROSSING_DENIED, "mqgate_crossing_denied_total", counter,                                         \
      "routes to a stream's bridge that its permissions closed")                                        \
    X(STORE_COMMITS, "mqgate_store_commits_total", counter, "group commits")                            \
    X(STORE_SYNC_US, "mqgate_store_sync_microseconds_total", counter, "time spent in fdatasync")        \
    X(STORE_BYTES, "mqgate_store_written_bytes_total", counter, "bytes written to the store")           \
    X(STORE_LOADS, "mqgate_store_loads_total", counter, "message bodies read back from the store")      \
    X(WORKER_WAKES, "mqgate_worker_wakes_total", counter, "eventfd wake-ups written")                   \
    X(TURNS, "mqgate_worker_turns_total", counter, "loop turns")

enum mqg_counter {
#define MQG_COUNTER_ENUM(sym, name, kind, help) MQG_COUNT_##sym,
    MQG_COUNTERS(MQG_COUNTER_ENUM)
#undef MQG_COUNTER_ENUM
        MQG_COUNTER_COUNT
};

/* Adds on the calling thread's row (a plain add for workers, an atomic one elsewhere). */
MQG_API void mqg_count(enum mqg_counter c, uint64_t n);
MQG_API uint64_t mqg_count_sum(enum mqg_counter c);
MQG_API void mqg_count_prometheus(struct mqg_dynbuf *out);

#endif
