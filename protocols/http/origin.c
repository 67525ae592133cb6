/* origin.c - the properties of messages that came by this API, and of any message as JSON.
 *
 * The origin form is a table in the encoding of value.h: the properties by RabbitMQ's JSON names, the headers as a table in
 * "headers". Other protocols read it through the common view. */
#include "http.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { ORIGIN_ARENA_BYTES = 8 << 20 };

/* ---- strings of the view by name --------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    uint32_t bit;
    size_t offset;
} origin_strings[] = {
    {"content_type", MQG_PROP_CONTENT_TYPE, offsetof(struct mqg_view, content_type)},
    {"content_encoding", MQG_PROP_CONTENT_ENCODING, offsetof(struct mqg_view, content_encoding)},
    {"correlation_id", MQG_PROP_CORRELATION_ID, offsetof(struct mqg_view, correlation_id)},
    {"reply_to", MQG_PROP_REPLY_TO, offsetof(struct mqg_view, reply_to)},
    {"message_id", MQG_PROP_MESSAGE_ID, offsetof(struct mqg_view, message_id)},
    {"type", MQG_PROP_TYPE, offsetof(struct mqg_view, type)},
    {"app_id", MQG_PROP_APP_ID, offsetof(struct mqg_view, app_id)},
    {"user_id", MQG_PROP_USER_ID, offsetof(struct mqg_view, user_id)},
};

static struct mqg_slice *origin_string(struct mqg_view *v, size_t i)
{
    return (struct mqg_slice *)(void *)((char *)v + origin_strings[i].offset);
}

/* A number, or a string of digits. */
static bool origin_number(const struct mqg_value *v, uint64_t *out)
{
    int64_t n = 0;
    if (v == NULL)
        return false;
    if (v->type != MQG_VALUE_STRING) {
        bool number = mqg_value_int(v, &n) && n >= 0;
        *out = (uint64_t)n;
        return number;
    }
    *out = 0;
    for (size_t i = 0; i < v->bytes.len; i++) {
        if (v->bytes.ptr[i] < '0' || v->bytes.ptr[i] > '9' || *out > UINT64_C(1) << 50)
            return false;
        *out = *out * 10 + (v->bytes.ptr[i] - '0');
    }
    return v->bytes.len > 0;
}

static void origin_view(const struct mqg_table *t, struct mqg_view *out)
{
    uint64_t n = 0;
    *out = (struct mqg_view){0};
    for (size_t i = 0; i < MQG_COUNTOF(origin_strings); i++) {
        const struct mqg_value *v = mqg_table_get(t, mqg_slice_str(origin_strings[i].name));
        if (v == NULL || v->type != MQG_VALUE_STRING)
            continue;
        *origin_string(out, i) = v->bytes;
        out->has |= origin_strings[i].bit;
    }
    if (origin_number(mqg_table_get(t, MQG_SLICE_LIT("delivery_mode")), &n) && n <= 255) {
        out->delivery_mode = (uint8_t)n;
        out->has |= MQG_PROP_DELIVERY_MODE;
    }
    if (origin_number(mqg_table_get(t, MQG_SLICE_LIT("priority")), &n) && n <= 255) {
        out->priority = (uint8_t)n;
        out->has |= MQG_PROP_PRIORITY;
    }
    if (origin_number(mqg_table_get(t, MQG_SLICE_LIT("timestamp")), &n)) {
        out->timestamp_us = n > UINT64_MAX / 1000000 ? UINT64_MAX : n * 1000000;
        out->has |= MQG_PROP_TIMESTAMP;
    }
    if (origin_number(mqg_table_get(t, MQG_SLICE_LIT("expiration")), &n)) {
        out->expiration_ms = n;
        out->has |= MQG_PROP_EXPIRATION;
    }
    const struct mqg_value *headers = mqg_table_get(t, MQG_SLICE_LIT("headers"));
    if (headers != NULL && headers->type == MQG_VALUE_TABLE)
        out->headers = headers->table;
}

static enum mqg_err origin_decode(struct mqg_slice origin, struct mqg_arena *a, struct mqg_view *out)
{
    struct mqg_table t = {0};
    *out = (struct mqg_view){0};
    enum mqg_err err = origin.len > 0 ? mqg_table_decode(origin, a, &t) : MQG_OK;
    if (err == MQG_OK)
        origin_view(&t, out);
    return err;
}

const struct mqg_origin_ops http_origin_ops = {.proto = MQG_PROTO_HTTP, .decode = origin_decode};

/* ---- from a request -------------------------------------------------------------------------------------------------------------- */

static bool origin_known(const char *name)
{
    static const char *const others[] = {"delivery_mode", "priority", "timestamp",
                                         "expiration",    "headers",  "cluster_id"};
    for (size_t i = 0; i < MQG_COUNTOF(origin_strings); i++)
        if (strcmp(name, origin_strings[i].name) == 0)
            return true;
    for (size_t i = 0; i < MQG_COUNTOF(others); i++)
        if (strcmp(name, others[i]) == 0)
            return true;
    return false;
}

static bool origin_check(struct http_request *r, const json_t *properties)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)properties, key, value)
    {
        if (!origin_known(key) || json_is_array(value) ||
            (json_is_object(value) != (strcmp(key, "headers") == 0))) {
            http_reply_error(r, 400, "bad_request", "properties: '%.64s' is not known or not of its type",
                             key);
            return false;
        }
    }
    const char *user = json_string_value(json_object_get(properties, "user_id"));
    if (user == NULL || strcmp(user, r->user) == 0)
        return true;
    http_reply_error(r, 400, "bad_request",
                     "user_id property set to '%.64s' but authenticated user was '%.64s'", user, r->user);
    return false;
}

bool http_origin_encode(struct http_request *r, const json_t *properties, struct mqg_dynbuf *out,
                        struct mqg_msg_parts *parts)
{
    struct mqg_arena arena;
    struct mqg_table t = {0};
    struct mqg_view v;
    if (!origin_check(r, properties))
        return false;
    mqg_arena_init(&arena, ORIGIN_ARENA_BYTES);
    bool good = js_to_table(properties, &arena, &t);
    if (good) {
        mqg_table_encode(out, &t);
        origin_view(&t, &v);
        parts->flags = (uint8_t)((v.delivery_mode == 2 ? MQG_MSG_PERSISTENT : 0) |
                                 (v.has & MQG_PROP_EXPIRATION ? MQG_MSG_HAS_TTL : 0));
        parts->ttl_ms = v.expiration_ms;
        parts->priority = v.priority;
        parts->origin = mqg_dynbuf_view(out);
    }
    mqg_arena_fini(&arena);
    if (good && !out->failed)
        return true;
    http_reply_error(r, 400, "bad_request", "properties: too large or too deep");
    return false;
}

/* ---- as JSON -------------------------------------------------------------------------------------------------------------------------- */

json_t *http_properties_json(const struct mqg_msg *m)
{
    struct mqg_arena arena;
    struct mqg_view v;
    json_t *out = json_object();
    mqg_arena_init(&arena, ORIGIN_ARENA_BYTES);
    if (mqg_msg_view(m, &arena, &v) == MQG_OK) {
        for (size_t i = 0; i < MQG_COUNTOF(origin_strings); i++)
            if (v.has & origin_strings[i].bit)
                js_set_slice(out, origin_strings[i].name, *origin_string(&v, i));
        if (v.has & MQG_PROP_DELIVERY_MODE)
            js_set_int(out, "delivery_mode", v.delivery_mode);
        if (v.has & MQG_PROP_PRIORITY)
            js_set_int(out, "priority", v.priority);
        if (v.has & MQG_PROP_TIMESTAMP)
            js_set_int(out, "timestamp", v.timestamp_us / 1000000);
        if (v.has & MQG_PROP_EXPIRATION)
            js_set(out, "expiration", json_sprintf("%" PRIu64, v.expiration_ms));
        if (v.headers.n > 0)
            js_set(out, "headers", js_table(&v.headers));
    }
    mqg_arena_fini(&arena);
    return out;
}
