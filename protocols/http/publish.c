/* publish.c - one message in: for tries and checks, not for traffic.
 *
 * The answer comes when the message is confirmed, so "routed" is said of a message that is safe. That is later than the worker
 * call that began it, so the state is shared with the worker (struct http_async). */
#include "messages.h"

#include <openssl/evp.h>

#include <stdlib.h>

/* ---- the body of the request ------------------------------------------------------------------------------------ */

/* The encoded length is a multiple of 4; what padding stands for is cut off. false: not base64. */
static bool payload_decode(struct mqg_slice text, struct mqg_dynbuf *out)
{
    uint8_t *room = mqg_dynbuf_reserve(out, text.len / 4 * 3 + 3);
    if (text.len == 0)
        return true;
    if (room == NULL || text.len % 4 != 0)
        return false;
    int n = EVP_DecodeBlock(room, text.ptr, (int)text.len);
    if (n < 0)
        return false;
    size_t padding = text.ptr[text.len - 1] != '=' ? 0 : text.ptr[text.len - 2] != '=' ? 1 : 2;
    out->len += (size_t)n - padding;
    return true;
}

bool messages_keys(struct http_request *r, const char *const *keys, size_t n)
{
    struct mqg_dynbuf missing;
    mqg_dynbuf_init(&missing, 512);
    for (size_t i = 0; i < n; i++)
        if (json_object_get(r->json, keys[i]) == NULL)
            mqg_dynbuf_printf(&missing, "%s{key_missing,%s}", missing.len > 0 ? "," : "", keys[i]);
    bool good = missing.len == 0;
    if (!good)
        http_reply_error(r, 400, "bad_request", "[%.*s]", MQG_SLICE_FMT(mqg_dynbuf_view(&missing)));
    mqg_dynbuf_fini(&missing);
    return good;
}

/* ---- publishing ---------------------------------------------------------------------------------------------------------------- */

struct publishing {
    struct http_async async;
    /* the worker's */
    struct mqg_pub pub;
    struct mqg_session *session;
    struct mqg_task end;
    /* in: valid during the worker call */
    struct http_request *r;
    struct mqg_slice vhost;
    const struct mqg_msg_parts *parts;
    struct mqg_slice body;
    /* out */
    enum mqg_err err;
    struct mqg_error e;
    bool routed, rejected;
};

static void publishing_free(struct http_async *a)
{
    free(MQG_CONTAINER_OF(a, struct publishing, async));
}

static void publishing_release(struct publishing *p)
{
    if (p->pub.ops != NULL)
        mqg_pub_fini(&p->pub);
    mqg_session_unref(&p->session);
}

/* Not from within confirm: the router is still using the publisher. */
static void publishing_end(struct mqg_task *task)
{
    struct publishing *p = MQG_CONTAINER_OF(task, struct publishing, end);
    publishing_release(p);
    http_async_fire(&p->async);
}

static void publishing_confirm(struct mqg_pub *pub, uint64_t upto, const uint64_t *rejected, size_t n)
{
    struct publishing *p = MQG_CONTAINER_OF(pub, struct publishing, pub);
    (void)rejected;
    if (upto == 0 && n == 0)
        return;
    p->rejected = n > 0;
    p->end.run = publishing_end;
    mqg_worker_post(mqg_worker_self(), &p->end);
}

static const struct mqg_pub_ops publishing_ops = {.confirm = publishing_confirm};

static void publishing_send(struct publishing *p)
{
    struct mqg_msg *m = mqg_msg_new(p->parts);
    if (m == NULL) {
        p->err = mqg_error_set(&p->e, MQG_NO_MEMORY, 0, "the node's memory for messages is used up");
        return;
    }
    if (p->body.len > 0)
        memcpy(mqg_msg_body_mut(m), p->body.ptr, p->body.len);
    mqg_pub_init(&p->pub, &publishing_ops, p->session, p);
    http_async_hold(&p->async);
    p->err = mqg_publish(&p->pub, m, MQG_PUBLISH_MANDATORY, 1, NULL, 0, &p->e);
    p->routed = p->err == MQG_OK;
    if (p->err == MQG_NOT_FOUND && p->e.code == 312) {
        mqg_msg_unref(&m);
        p->err = MQG_OK; /* its confirm comes */
    } else if (p->err != MQG_OK) {
        publishing_release(p);
        http_async_fire(&p->async);
    }
}

/* (worker) */
static void publishing_run(void *arg)
{
    struct publishing *p = arg;
    p->err = http_session(p->r, &p->vhost, &p->session, &p->e);
    if (p->err == MQG_OK)
        publishing_send(p);
    else
        mqg_session_unref(&p->session);
}

bool messages_publish(struct http_request *r, struct mqg_slice vhost, const struct mqg_msg_parts *parts,
                      struct mqg_slice body, bool *routed)
{
    struct publishing *p = mqg_xcalloc(1, sizeof *p);
    http_async_init(&p->async, publishing_free);
    p->r = r;
    p->vhost = vhost;
    p->parts = parts;
    p->body = body;
    bool good = http_on_worker(r, http_some_worker(), publishing_run, p);
    if (good && p->err != MQG_OK) {
        p->e.err = p->err;
        http_reply_fault(r, &p->e);
        good = false;
    } else if (good && !http_async_wait(r, &p->async)) {
        http_reply_error(r, 503, "not_durable", "published, but not confirmed in time");
        good = false;
    } else if (good && p->rejected) {
        http_reply_error(r, 503, "unavailable", "the message was rejected by its queue or store");
        good = false;
    }
    *routed = p->routed;
    http_async_leave(&p->async);
    return good;
}

static void publish_answer(struct http_request *r, const struct mqg_slice *exchange, struct mqg_slice key,
                           struct mqg_slice body)
{
    struct mqg_msg_parts parts = {.proto = MQG_PROTO_HTTP, .key_sep = '.', .exchange = *exchange, .key = key};
    const json_t *properties = json_object_get(r->json, "properties");
    struct mqg_dynbuf origin;
    json_t *none = json_object();
    bool routed = false;
    mqg_dynbuf_init(&origin, HTTP_BODY_MAX_BYTES * 2);
    parts.body_len = (uint32_t)body.len;
    parts.user = mqg_slice_str(r->user);
    if (http_origin_encode(r, json_is_object(properties) ? properties : none, &origin, &parts) &&
        messages_publish(r, r->arg[0], &parts, body, &routed)) {
        json_t *out = json_object();
        js_set_bool(out, "routed", routed);
        http_reply(r, 200, out);
    }
    json_decref(none);
    mqg_dynbuf_fini(&origin);
}

void exchange_publish(struct http_request *r)
{
    static const char *const keys[] = {"routing_key", "properties", "payload", "payload_encoding"};
    struct mqg_slice exchange = r->arg[1], key = MQG_SLICE_NONE, payload = MQG_SLICE_NONE,
                     encoding = MQG_SLICE_NONE;
    struct mqg_dynbuf decoded;
    if (mqg_slice_eq(exchange, MQG_SLICE_LIT("amq.default")))
        exchange = MQG_SLICE_NONE;
    if (!messages_keys(r, keys, MQG_COUNTOF(keys)) || !js_get_str(r, "routing_key", &key) ||
        !js_get_str(r, "payload", &payload) || !js_get_str(r, "payload_encoding", &encoding))
        return;
    mqg_dynbuf_init(&decoded, HTTP_BODY_MAX_BYTES);
    if (key.len > 255 || exchange.len > 255)
        http_reply_error(r, 400, "bad_request", "an exchange and a routing key have at most 255 bytes");
    else if (mqg_slice_eq(encoding, MQG_SLICE_LIT("string")))
        publish_answer(r, &exchange, key, payload);
    else if (!mqg_slice_eq(encoding, MQG_SLICE_LIT("base64")))
        http_reply_error(r, 400, "bad_request", "unsupported_encoding: %.*s", MQG_SLICE_FMT(encoding));
    else if (!payload_decode(payload, &decoded))
        http_reply_error(r, 400, "bad_request", "payload is not base64");
    else
        publish_answer(r, &exchange, key, mqg_dynbuf_view(&decoded));
    mqg_dynbuf_fini(&decoded);
}
