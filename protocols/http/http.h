/* http.h - the management API: what its files share.
 *
 * A request is handled from its first to its last byte by one thread of the library's small pool. It reads snapshots itself
 * (the thread is a reader of epochs while it handles), and lets a worker do what changes something. */
#ifndef MQG_HTTP_H
#define MQG_HTTP_H

#include <mqgate/broker.h>
#include <mqgate/epoch.h>

#include <jansson.h>
#include <microhttpd.h>
#include <pthread.h>

enum {
    HTTP_BODY_MAX_BYTES = 1 << 20,
    HTTP_URL_MAX_BYTES = 8192,
    HTTP_PARTS_MAX = 9,
    HTTP_ARGS_MAX = 5,
    HTTP_REASON_BYTES = 640,
    HTTP_COMMAND_TIMEOUT_S = 30,
};

enum http_method { HTTP_GET = 1, HTTP_PUT = 2, HTTP_POST = 4, HTTP_DELETE = 8 };

/* Who may: any user with a management tag, who sees all vhosts, who changes accounts; everybody, even without a name. */
enum http_need { HTTP_NEED_TAG, HTTP_NEED_MONITOR, HTTP_NEED_ADMIN, HTTP_NEED_NOTHING };

struct http_request {
    struct MHD_Connection *mhd;
    char *url; /* as it came, without the query */
    enum http_method method;
    bool head;  /* answered as GET, without the body */
    bool early; /* came before the node was up: it is told how far the start is, whatever it asks */
    struct mqg_dynbuf body;
    uint64_t received; /* bytes of the body, those dropped included */
    bool too_large;
    /* set by http_login; no user: nobody, or none is needed */
    char user[256];
    unsigned tags;
    bool loopback;
    /* set when it is handled */
    struct mqg_slice parts[HTTP_PARTS_MAX]; /* decoded parts of the path behind /api/ */
    size_t nparts;
    struct mqg_slice arg[HTTP_ARGS_MAX]; /* what stood where the route has a ":" */
    json_t *json;                        /* the body of PUT and POST; an object */
    struct mqg_epoch_reader *reader;
    /* the answer */
    unsigned status;
    json_t *reply;
    struct mqg_dynbuf text; /* instead of reply: /metrics */
    const char *text_type;
    char location[1024];
    char allow[32];
};

/* ---- reply.c ---------------------------------------------------------------------------------------------------- */

/* Takes the reference. */
void http_reply(struct http_request *r, unsigned status, json_t *value);
void http_reply_none(struct http_request *r, unsigned status);
void http_reply_error(struct http_request *r, unsigned status, const char *error, const char *fmt, ...)
    MQG_PRINTF(4, 5);
void http_reply_not_found(struct http_request *r);
/* The status and word that RabbitMQ gives for such a fault. */
void http_reply_fault(struct http_request *r, const struct mqg_error *e);

/* ---- js.c --------------------------------------------------------------------------------------------------------- */

/* A string, bytes that are no UTF-8 shown as U+FFFD. */
json_t *js_slice(struct mqg_slice s);
/* object[key] = value, taking the reference. */
void js_set(json_t *object, const char *key, json_t *value);
void js_set_slice(json_t *object, const char *key, struct mqg_slice s);
void js_set_str(json_t *object, const char *key, const char *s);
void js_set_int(json_t *object, const char *key, uint64_t n);
void js_set_bool(json_t *object, const char *key, bool yes);
json_t *js_table(const struct mqg_table *t);
/* false: deeper or larger than a table may be. Strings are borrowed from the JSON. */
bool js_to_table(const json_t *object, struct mqg_arena *a, struct mqg_table *out);
/* Readers of a request's body; on a value of another type they answer 400 and give false. Absent: *out stays. */
bool js_get_bool(struct http_request *r, const char *key, bool *out);
bool js_get_str(struct http_request *r, const char *key, struct mqg_slice *out);
bool js_get_int(struct http_request *r, const char *key, int64_t *out);
bool js_get_table(struct http_request *r, const char *key, struct mqg_arena *a, struct mqg_table *out);

/* ---- server.c, route.c -------------------------------------------------------------------------------------------- */

/* Binds, and answers everybody with how far the start is; from http_start on, as the API. */
enum mqg_err http_prepare(const struct mqg_conf *conf, struct mqg_error *e);
enum mqg_err http_start(const struct mqg_conf *conf, struct mqg_error *e);
void http_stop(void);
void http_describe(struct mqg_dynbuf *out);
/* Who calls, from the head of the request. */
void http_login(struct http_request *r);
/* Finds the route, handles, fills the answer. Once per request, its body complete. */
void http_handle(struct http_request *r);
/* A value of the query string, decoded by the arena-less rule: valid until the request ends; NULL when absent. */
const char *http_query(const struct http_request *r, const char *key);
/* Is the query's value "true"? */
bool http_query_true(const struct http_request *r, const char *key);
/* Decodes %XX in place; the new length, or SIZE_MAX when it is malformed. */
size_t http_unescape(char *s);
bool http_is_monitor(const struct http_request *r);
bool http_is_admin(const struct http_request *r);

/* ---- starting.c: what anybody may know, without a login ---------------------------------------------------------------------- */

void starting_reply(struct http_request *r);
void status_get(struct http_request *r);

/* ---- command.c: what a worker does --------------------------------------------------------------------------------- */

/* Embedded in what the command needs. Runs on a worker, with a session of the request's user; answers when what it changed
 * is durable. */
struct http_command {
    enum mqg_err (*run)(struct http_command *c, struct mqg_session *s, uint64_t *ticket, struct mqg_error *e);
    /* true: the session is opened in `vhost` first, with the answer of a user who may not */
    bool in_vhost;
    struct mqg_slice vhost;
};

/* What a request waits for after its worker call: held by the request, and by the worker until it fires. */
struct http_async {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool fired;
    unsigned refs;
    void (*free_fn)(struct http_async *a);
};
void http_async_init(struct http_async *a, void (*free_fn)(struct http_async *a)); /* the caller holds it */
void http_async_hold(struct http_async *a);
void http_async_leave(struct http_async *a);
/* (worker) Wakes the request and gives back the worker's hold. */
void http_async_fire(struct http_async *a);
/* true: nobody else holds it, or it fired. false: not within HTTP_COMMAND_TIMEOUT_S. */
bool http_async_wait(struct http_request *r, struct http_async *a);

/* (worker) A session of the request's user, in the vhost if one is given. *s may be set on a fault too. */
enum mqg_err http_session(const struct http_request *r, const struct mqg_slice *vhost, struct mqg_session **s,
                          struct mqg_error *e) MQG_MUST_CHECK;
/* false: the fault has been answered. */
bool http_command(struct http_request *r, struct http_command *c);
/* Runs fn on the worker and waits; the caller is no reader of epochs meanwhile. false: the node stops (answered). */
bool http_on_worker(struct http_request *r, struct mqg_worker *w, void (*fn)(void *arg), void *arg);
struct mqg_worker *http_some_worker(void);
/* The vhost of that name if the user may see it; else NULL, and answered. */
struct mqg_vhost *http_vhost(struct http_request *r, struct mqg_slice name);
bool http_sees_vhost(const struct http_request *r, struct mqg_slice vhost);

/* ---- page.c ----------------------------------------------------------------------------------------------------------- */

/* Answers a listing: name filter, sorting, columns, pages as the query asks for; sorted by `order` ("vhost,name") when it asks
 * for none. Takes the reference. */
void http_reply_list(struct http_request *r, json_t *array, const char *order);
/* Answers one object, with the columns that the query asks for. */
void http_reply_object(struct http_request *r, json_t *object);

/* ---- what is listed in more than one place ------------------------------------------------------------------------------ */

/* What a queue keeps on the disk, over all stores (stores.c). */
void store_queue_json(json_t *out, uint64_t queue_id);
json_t *queue_json(const struct mqg_queue_info *q);
json_t *consumer_json(const struct mqg_consumer_info *c, const json_t *connections);
json_t *binding_json(const struct mqg_binding_info *b);
struct queue_totals {
    uint64_t queues, ready, unacked, bytes_ready, bytes_unacked, consumers, memory_messages;
};
void queue_sum(struct queue_totals *t);
/* Every connection, or NULL and answered. Those with channels have an array "channels_list". */
json_t *connections_json(struct http_request *r);
/* Those that the caller may see, or NULL and answered. */
json_t *connections_visible(struct http_request *r);
/* The connection that the path names by name, pid or id; NULL: answered. */
json_t *connection_find(struct http_request *r);
/* Closes the connections that `which` says yes to; how many. */
size_t connections_close(struct http_request *r, bool (*which)(const struct mqg_conn *c, const void *arg),
                         const void *arg, struct mqg_slice reason);

/* origin.c: what a message says that came by this API. Registered at load. */
extern const struct mqg_origin_ops http_origin_ops;
/* Encodes a request's "properties"; false: answered. persistent, priority, TTL come out besides. */
bool http_origin_encode(struct http_request *r, const json_t *properties, struct mqg_dynbuf *out,
                        struct mqg_msg_parts *parts);
json_t *http_properties_json(const struct mqg_msg *m);

/* ---- handlers ------------------------------------------------------------------------------------------------------------ */

#define HTTP_HANDLERS(X)        \
    X(overview_get)             \
    X(whoami_get)               \
    X(nodes_get)                \
    X(stores_get)               \
    X(store_get)                \
    X(store_segments_get)       \
    X(node_get)                 \
    X(health_get)               \
    X(aliveness_get)            \
    X(metrics_get)              \
    X(trace_put)                \
    X(trace_delete)             \
    X(vhosts_get)               \
    X(vhost_get)                \
    X(vhost_put)                \
    X(vhost_delete)             \
    X(vhost_permissions_get)    \
    X(users_get)                \
    X(user_get)                 \
    X(user_put)                 \
    X(user_delete)              \
    X(user_permissions_get)     \
    X(permissions_get)          \
    X(permission_get)           \
    X(permission_put)           \
    X(permission_delete)        \
    X(topic_permissions_get)    \
    X(topic_permission_get)     \
    X(topic_permission_put)     \
    X(topic_permission_delete)  \
    X(exchanges_get)            \
    X(exchange_get)             \
    X(exchange_put)             \
    X(exchange_delete)          \
    X(exchange_source_get)      \
    X(exchange_destination_get) \
    X(exchange_publish)         \
    X(queues_get)               \
    X(queue_get)                \
    X(queue_put)                \
    X(queue_delete)             \
    X(queue_contents_delete)    \
    X(queue_bindings_get)       \
    X(queue_messages)           \
    X(bindings_get)             \
    X(binding_pair_get)         \
    X(binding_post)             \
    X(binding_get)              \
    X(binding_delete)           \
    X(connections_get)          \
    X(connection_get)           \
    X(connection_delete)        \
    X(connection_channels_get)  \
    X(connections_delete)       \
    X(channels_get)             \
    X(channel_get)              \
    X(consumers_get)
#define HTTP_HANDLER_DECLARE(name) void name(struct http_request *r);
HTTP_HANDLERS(HTTP_HANDLER_DECLARE)
#undef HTTP_HANDLER_DECLARE

#endif
