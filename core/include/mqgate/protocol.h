/* mqgate/protocol.h - the protocol table: what a handler offers, and the connection the host gives it.
 *
 * The host owns sockets, listeners, TLS, PROXY protocol, WebSocket, buffers, limits, slow-client and idle rules; it
 * feeds a handler bytes and takes bytes. A handler's decoder is a pure function of its input, so it is tested and fuzzed
 * without a socket. Everything here runs on the connection's worker, which never changes.
 *
 * Input: `input` gets all unread bytes in one contiguous slice and answers how many it has used. What is left comes again,
 * with more behind it. The host never buffers more than conn->input_max (16 KiB until the handler raises it after login);
 * a handler whose frame is larger must consume it in pieces (bodies are copied into the message as they come), and one that
 * uses nothing of a full buffer is closed. With `input_paused` the host stops calling.
 *
 * Output: reserve/commit into the connection's chain, or a reference to a message's body (no copy for large ones). All
 * output of a turn leaves in one writev in the WRITE phase. */
#ifndef MQGATE_PROTOCOL_H
#define MQGATE_PROTOCOL_H

#include <mqgate/base.h>
#include <mqgate/module.h>
#include <mqgate/msg.h>
#include <mqgate/worker.h>

struct mqg_conn;
struct mqg_session; /* auth.h */
struct mqg_sub;     /* broker.h */

enum mqg_conn_event {
    MQG_EV_BLOCKED, /* the node takes no publishes now (text says why); the handler tells its client if it can */
    MQG_EV_UNBLOCKED,
    MQG_EV_WRITABLE,     /* output fell below the low mark: deliveries may go on */
    MQG_EV_DRAINING,     /* the node stops: say goodbye in the protocol's way, then close */
    MQG_EV_KILL,         /* the operator closes this connection (text = reason) */
    MQG_EV_AUTH_CHANGED, /* permissions changed: caches are void */
    MQG_EV_STORE_DOWN,
};

/* One line of a listing; handlers and routing describe themselves through it (management API, mqgatectl). */
struct mqg_describe {
    void *arg;
    void (*str)(void *arg, const char *key, struct mqg_slice value);
    void (*num)(void *arg, const char *key, int64_t value);
    void (*flag)(void *arg, const char *key, bool value);
    void (*table)(void *arg, const char *key, const struct mqg_table *value);
    void (*begin)(void *arg, const char *kind); /* a child: "channel", "consumer" */
    void (*end)(void *arg);
};

#define MQG_PROTOCOL_ABI_MINOR 1

struct mqg_protocol_ops {
    const char *name; /* "amqp": listeners.amqp and listeners.amqps are its listeners */
    enum mqg_proto proto;
    size_t conn_bytes;            /* the handler's state per connection, zeroed, at mqg_conn_state() */
    const char *const *listeners; /* names without 's' for TLS, e.g. {"amqp", NULL} */
    uint16_t default_port, default_tls_port;
    /* Was this first data meant for us? Only used to give a better refusal on a wrong port. May be NULL. */
    bool (*sniff)(struct mqg_slice head);
    enum mqg_err (*conn_init)(struct mqg_conn *c);
    /* Bytes used; on a fatal fault sets *e (the handler has written its goodbye): the host flushes and closes. */
    size_t (*input)(struct mqg_conn *c, struct mqg_slice in, struct mqg_error *e);
    void (*event)(struct mqg_conn *c, enum mqg_conn_event ev, struct mqg_slice text);
    /* The socket is gone or closing: give everything back (subscriptions, unsettled deliveries). Called exactly once after
     * a successful conn_init; the state's memory is freed after it. */
    void (*conn_fini)(struct mqg_conn *c);
    void (*describe)(const struct mqg_conn *c, struct mqg_describe *d); /* (worker) */
    void (*dump)(const struct mqg_conn *c, int fd);                     /* in a crash */
    /* A listener whose name ends in "_ws" ("_wss" over TLS) speaks WebSocket: the handler sees the payload of its messages as
     * one stream of bytes, and what it writes leaves as messages. Sub-protocols that a client may choose, best first, NULL
     * at the end; one that names none is taken, one that names only others is refused. */
    const char *const *ws_protocols;
    /* Text messages are taken, and the answer is of the kind that the client used last, text at first (STOMP). Else binary
     * only, and text ends the connection with 1003 (MQTT 5.0, 6.0). */
    bool ws_text;
};

/* ---- the connection, as a handler sees it --------------------------------------------------------------------------- */

enum mqg_transport_flag {
    MQG_CONN_TLS = 1u << 0,
    MQG_CONN_LOOPBACK = 1u << 1,
    MQG_CONN_PROXIED = 1u << 2,
    MQG_CONN_WEBSOCKET = 1u << 3,
};

struct mqg_conn_info {
    uint64_t id; /* never used again */
    char peer_host[64];
    char host[64];
    uint16_t peer_port, port;
    unsigned flags; /* MQG_CONN_*: LOOPBACK judged by the address the PROXY header announced */
    uint64_t connected_us;
    char tls_protocol[16], tls_cipher[48];
    char cert_subject_cn[128]; /* verified client certificate, else "" */
    char cert_subject[256];    /* its distinguished name */
    const char *listener;      /* "amqps" */
    char ws_protocol[32];      /* WebSocket's sub-protocol, "" when there is none */
};

MQG_API void *mqg_conn_state(struct mqg_conn *c);
MQG_API const struct mqg_conn_info *mqg_conn_info(const struct mqg_conn *c);
MQG_API struct mqg_worker *mqg_conn_worker(const struct mqg_conn *c);
MQG_API uint64_t mqg_conn_bytes_in(const struct mqg_conn *c);
MQG_API uint64_t mqg_conn_bytes_out(const struct mqg_conn *c);
/* Raises or lowers the bound on unread input. */
MQG_API void mqg_conn_input_max(struct mqg_conn *c, size_t bytes);
/* The host closes a connection that sent nothing for `read_ms` (0 = never). Not judged while input is paused or publishers
 * are blocked. It also says that the client is in: until the first call of this or of mqg_conn_session the connection ends
 * limits.login_timeout after it began, however busily it sends. */
MQG_API void mqg_conn_idle(struct mqg_conn *c, uint64_t read_ms);
/* Monotonic ms of the last bytes handed to the socket, and got from it (for heartbeats). */
MQG_API uint64_t mqg_conn_last_write_ms(const struct mqg_conn *c);
MQG_API uint64_t mqg_conn_last_read_ms(const struct mqg_conn *c);
/* Notes what happened on the connection: the last 64 notes of each are kept and told by a crash. `what` is never copied, hence
 * a literal or the like. A few nanoseconds; for requests and changes of state, not for every message. */
MQG_API void mqg_conn_note(struct mqg_conn *c, const char *what, uint32_t arg);
/* Stops and restarts input; counted per reason, so that pauses nest. */
enum mqg_pause { MQG_PAUSE_HANDLER, MQG_PAUSE_MEMORY, MQG_PAUSE_OUTPUT, MQG_PAUSE_COUNT };
MQG_API void mqg_conn_pause(struct mqg_conn *c, enum mqg_pause why, bool on);
/* A connection that holds unsettled deliveries is read at a trickle under pressure; the handler keeps this true to life. */
MQG_API void mqg_conn_has_unsettled(struct mqg_conn *c, bool yes);
/* The handler marks what its client does; a pure publisher is the first to be stopped under pressure. */
MQG_API void mqg_conn_publishes(struct mqg_conn *c);
MQG_API bool mqg_node_blocked(void);
/* What makes the node blocked; memory is watched by the host itself, a store says it (any thread; takes a lock). */
enum mqg_pressure { MQG_PRESSURE_MEMORY, MQG_PRESSURE_STORE };
MQG_API void mqg_node_pressure(enum mqg_pressure source, bool on, const char *why);
/* The name the account layer knows (set at login; for listings and logs). The conn takes one reference. */
MQG_API void mqg_conn_session(struct mqg_conn *c, struct mqg_session *s);
/* Flushes what is written, then closes. Further input is discarded; conn_fini follows in this turn or a later one. */
MQG_API void mqg_conn_close(struct mqg_conn *c);
/* Closes without flushing. */
MQG_API void mqg_conn_abort(struct mqg_conn *c);

/* ---- output ------------------------------------------------------------------------------------------------------------- */

/* n contiguous writable bytes (n <= 64 KiB); commit says how many were used. Never NULL: an output over its hard limit marks the
 * connection for abort and hands a scratch area. */
MQG_API uint8_t *mqg_conn_reserve(struct mqg_conn *c, size_t n);
MQG_API void mqg_conn_commit(struct mqg_conn *c, size_t n);
MQG_API void mqg_conn_write(struct mqg_conn *c, struct mqg_slice s); /* copies */
/* Sends bytes that lie inside m's block without copying when that is worth it (>= 8 KiB); takes its own reference. */
MQG_API void mqg_conn_write_msg(struct mqg_conn *c, struct mqg_msg *m, struct mqg_slice part);
/* The same for bytes that lie inside b, which nobody writes to any more. */
MQG_API void mqg_conn_write_buf(struct mqg_conn *c, struct mqg_buf *b, struct mqg_slice part);
/* Bytes not yet taken by the socket. Above the high mark (256 KiB) a handler stops delivering until MQG_EV_WRITABLE. */
MQG_API size_t mqg_conn_out_pending(const struct mqg_conn *c);
MQG_API bool mqg_conn_out_full(const struct mqg_conn *c);

/* ---- all connections of a worker (listings, closing by id) ------------------------------------------------------------ */

/* (worker) Visits each connection; return false to stop. */
MQG_API void mqg_conn_each(struct mqg_worker *w, bool (*visit)(struct mqg_conn *c, void *arg), void *arg);
MQG_API const struct mqg_protocol_ops *mqg_conn_protocol(const struct mqg_conn *c);
MQG_API struct mqg_session *mqg_conn_get_session(const struct mqg_conn *c);
/* (worker) Sends MQG_EV_KILL to the connection with that id. */
MQG_API bool mqg_conn_kill(struct mqg_worker *w, uint64_t id, struct mqg_slice reason);

#endif
