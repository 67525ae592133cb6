/* get.c - a few messages out: for tries and checks, not for traffic; and a message through a queue and back, to see that the
 * node is alive.
 *
 * Messages are taken one after another and given back at the end, unless they shall be taken for good. That may go on after the
 * worker call that began it (bodies are read from the store), so the state is shared with the worker (struct http_async). */
#include "messages.h"

#include <openssl/evp.h>

#include <stdlib.h>

enum { GET_MAX = 10000, GET_BYTES_MAX = 16 << 20 };

static json_t *payload_base64(struct mqg_slice body)
{
    char *text = mqg_xmalloc(4 * ((body.len + 2) / 3) + 1);
    int n = EVP_EncodeBlock((uint8_t *)text, body.ptr, (int)body.len);
    json_t *out = json_stringn(text, (size_t)n);
    free(text);
    return out;
}

/* ---- getting ------------------------------------------------------------------------------------------------------------------------ */

struct getting {
    struct http_async async;
    /* the worker's */
    struct mqg_get get;
    struct mqg_session *session;
    struct mqg_queue *queue;
    bool stepping, answered;
    size_t bytes;
    /* in */
    struct http_request *r; /* valid during the worker call only */
    struct mqg_slice vhost, name;
    size_t count, truncate;
    bool base64, no_ack;
    enum mqg_settle after;
    /* out */
    enum mqg_err err;
    struct mqg_error e;
    json_t *array;
    uint64_t *handles;
    size_t n;
};

static void getting_free(struct http_async *a)
{
    struct getting *g = MQG_CONTAINER_OF(a, struct getting, async);
    json_decref(g->array);
    free(g->handles);
    free(g);
}

static json_t *getting_message(const struct getting *g)
{
    const struct mqg_msg *m = g->get.d.msg;
    struct mqg_slice body = mqg_msg_body(m);
    json_t *out = json_object();
    js_set_int(out, "payload_bytes", body.len);
    js_set_bool(out, "redelivered", g->get.d.redelivered);
    js_set_slice(out, "exchange", mqg_msg_exchange(m));
    js_set_slice(out, "routing_key", mqg_msg_key(m));
    js_set_int(out, "message_count", g->get.messages_left);
    js_set(out, "properties", http_properties_json(m));
    if (body.len > g->truncate)
        body.len = g->truncate;
    bool text = !g->base64 && (body.len == 0 || mqg_utf8_valid(body));
    js_set(out, "payload", text ? js_slice(body) : payload_base64(body));
    js_set_str(out, "payload_encoding", text ? "string" : "base64");
    return out;
}

static void getting_end(struct getting *g)
{
    if (g->n > 0)
        mqg_settle(g->queue, NULL, g->handles, g->n, g->after);
    mqg_queue_unref(&g->queue);
    mqg_session_unref(&g->session);
    http_async_fire(&g->async);
}

/* Takes what get brought; true when one more shall be fetched. */
static bool getting_take(struct getting *g)
{
    if (g->get.d.msg == NULL)
        return false;
    json_array_append_new(g->array, getting_message(g));
    g->bytes += mqg_msg_body(g->get.d.msg).len;
    if (!g->no_ack)
        g->handles[g->n++] = g->get.d.handle;
    mqg_msg_unref(&g->get.d.msg);
    return json_array_size(g->array) < g->count && g->bytes < GET_BYTES_MAX;
}

static void getting_done(struct mqg_get *get);

/* A get may answer at once, so this is a loop and not a recursion. */
static void getting_step(struct getting *g)
{
    bool more = true;
    while (more) {
        g->get = (struct mqg_get){.no_ack = g->no_ack, .done = getting_done};
        g->answered = false;
        g->stepping = true;
        mqg_queue_get(g->queue, &g->get);
        g->stepping = false;
        if (!g->answered)
            return; /* done comes later */
        more = getting_take(g);
    }
    getting_end(g);
}

static void getting_done(struct mqg_get *get)
{
    struct getting *g = MQG_CONTAINER_OF(get, struct getting, get);
    g->answered = true;
    if (g->stepping)
        return;
    if (getting_take(g))
        getting_step(g);
    else
        getting_end(g);
}

/* (worker) */
static void getting_run(void *arg)
{
    struct getting *g = arg;
    g->err = http_session(g->r, &g->vhost, &g->session, &g->e);
    if (g->err == MQG_OK)
        g->err = mqg_session_need(g->session, MQG_READ, "queue", g->name, &g->e);
    if (g->err == MQG_OK)
        g->err = mqg_queue_open(g->session, g->name, &g->queue, &g->e);
    if (g->err != MQG_OK) {
        mqg_session_unref(&g->session);
        return;
    }
    http_async_hold(&g->async);
    mqg_publish_flush();
    getting_step(g);
}

static struct getting *getting_new(struct http_request *r, struct mqg_slice name, size_t count)
{
    struct getting *g = mqg_xcalloc(1, sizeof *g);
    http_async_init(&g->async, getting_free);
    g->r = r;
    g->vhost = r->arg[0];
    g->name = name;
    g->count = count;
    g->truncate = SIZE_MAX;
    g->after = MQG_SETTLE_REQUEUE;
    g->array = json_array();
    g->handles = mqg_xcalloc(count, sizeof *g->handles);
    return g;
}

/* false: answered. Leaves g to the caller. */
static bool messages_get(struct http_request *r, struct getting *g)
{
    if (!http_on_worker(r, http_some_worker(), getting_run, g))
        return false;
    if (g->err != MQG_OK) {
        g->e.err = g->err;
        http_reply_fault(r, &g->e);
        return false;
    }
    bool good = http_async_wait(r, &g->async);
    if (!good)
        http_reply_error(r, 503, "unavailable", "the messages were not read in time");
    return good;
}

/* false: answered. */
static bool getting_mode(struct http_request *r, struct getting *g, struct mqg_slice mode,
                         struct mqg_slice encoding)
{
    g->base64 = mqg_slice_eq(encoding, MQG_SLICE_LIT("base64"));
    if (mqg_slice_eq(mode, MQG_SLICE_LIT("ack_requeue_false")))
        g->no_ack = true;
    else if (mqg_slice_eq(mode, MQG_SLICE_LIT("reject_requeue_false")))
        g->after = MQG_SETTLE_REJECT;
    else if (!mqg_slice_eq(mode, MQG_SLICE_LIT("ack_requeue_true")) &&
             !mqg_slice_eq(mode, MQG_SLICE_LIT("reject_requeue_true"))) {
        http_reply_error(r, 400, "bad_request",
                         "ackmode: not one of ack_requeue_true, reject_requeue_true, "
                         "ack_requeue_false, reject_requeue_false");
        return false;
    }
    if (g->base64 || mqg_slice_eq(encoding, MQG_SLICE_LIT("auto")))
        return true;
    http_reply_error(r, 400, "bad_request", "encoding: not one of auto, base64");
    return false;
}

void queue_messages(struct http_request *r)
{
    static const char *const keys[] = {"count", "ackmode", "encoding"};
    struct mqg_slice mode = MQG_SLICE_NONE, encoding = MQG_SLICE_NONE;
    int64_t count = 0, truncate = -1;
    if (!messages_keys(r, keys, MQG_COUNTOF(keys)) || !js_get_str(r, "ackmode", &mode) ||
        !js_get_str(r, "encoding", &encoding) || !js_get_int(r, "count", &count) ||
        !js_get_int(r, "truncate", &truncate))
        return;
    if (count < 1 || count > GET_MAX) {
        http_reply_error(r, 400, "bad_request", "count: 1 to %d", GET_MAX);
        return;
    }
    struct getting *g = getting_new(r, r->arg[1], (size_t)count);
    if (truncate >= 0)
        g->truncate = (size_t)truncate;
    if (getting_mode(r, g, mode, encoding) && messages_get(r, g))
        http_reply(r, 200, json_incref(g->array));
    http_async_leave(&g->async);
}

/* ---- is the node alive? A message through a queue and back. ---------------------------------------------------------------------------- */

struct alive_command {
    struct http_command base;
    struct mqg_queue_def def;
};

static enum mqg_err alive_run(struct http_command *c, struct mqg_session *s, uint64_t *ticket,
                              struct mqg_error *e)
{
    const struct alive_command *a = MQG_CONTAINER_OF(c, struct alive_command, base);
    struct mqg_queue_ok ok;
    return mqg_queue_declare(s, &a->def, false, &ok, ticket, e);
}

void aliveness_get(struct http_request *r)
{
    const struct mqg_slice name = MQG_SLICE_LIT("aliveness-test"), body = MQG_SLICE_LIT("test_message");
    struct alive_command c = {.base = {.run = alive_run, .in_vhost = true, .vhost = r->arg[0]},
                              .def.name = name};
    struct mqg_msg_parts parts = {
        .proto = MQG_PROTO_HTTP, .key_sep = '.', .key = name, .body_len = (uint32_t)body.len};
    bool routed = false;
    if (http_vhost(r, r->arg[0]) == NULL || !http_command(r, &c.base) ||
        !messages_publish(r, r->arg[0], &parts, body, &routed))
        return;
    struct getting *g = getting_new(r, name, 1);
    g->no_ack = true;
    if (messages_get(r, g)) {
        json_t *out = json_object();
        bool good = routed && json_array_size(g->array) == 1;
        js_set_str(out, "status", good ? "ok" : "failed");
        http_reply(r, good ? 200 : 503, out);
    }
    http_async_leave(&g->async);
}
