/* origin.c - our headers as the common view, and the way back.
 *
 * An origin is one byte, then the end-to-end header lines as the client escaped them:
 *
 *   version (low 4 bits) | ORIGIN_PLAIN   name ':' value LF   name ':' value LF ...
 *
 * A STOMP subscriber gets the lines as they are where its version writes them the same way. Everybody else goes by the common
 * view: what AMQP calls properties by RabbitMQ's header names, the rest as strings.
 *
 * STOMP knows text only. A typed value of another protocol is written as its natural text (5, true, RFC 3339, JSON, base64 of
 * bytes), and one header `mqgate-origin` carries all typed ones in our own encoding: a client that sends a message on, with the
 * headers it got, gives each its type back. It is believed only where the text still says the same; else it is ignored and
 * counted (MAPPING, "Keys, headers, values"). */
#include "stomp.h"
#include "text.h"

#include <stdio.h>
#include <stdlib.h>

#define ORIGIN_PLAIN        0x10u /* no byte that any version escapes */
#define ORIGIN_TYPES        "1 "  /* version of the header mqgate-origin */
#define ORIGIN_TYPES_MAX    32768u
#define ORIGIN_REPLY_PREFIX "/reply-queue/"

void stomp_origin_begin(struct mqg_dynbuf *out, enum stomp_version v, bool escapes)
{
    mqg_dynbuf_u8(out, (uint8_t)((unsigned)v | (escapes ? 0 : ORIGIN_PLAIN)));
}

/* ---- origin -> view ----------------------------------------------------------------------------------------------------- */

struct origin_line {
    struct mqg_slice name, value; /* unescaped */
    enum stomp_header_id id;
};

static bool origin_next(struct mqg_slice *rest, enum stomp_version v, struct mqg_arena *a,
                        struct origin_line *out, enum mqg_err *err)
{
    const uint8_t *lf = rest->len > 0 ? memchr(rest->ptr, '\n', rest->len) : NULL;
    *err = rest->len > 0 && lf == NULL ? MQG_MALFORMED : MQG_OK;
    if (lf == NULL)
        return false;
    struct mqg_slice line = mqg_slice_of(rest->ptr, (size_t)(lf - rest->ptr));
    *rest = mqg_slice_of(lf + 1, rest->len - line.len - 1);
    const uint8_t *colon = line.len > 0 ? memchr(line.ptr, ':', line.len) : NULL;
    if (colon == NULL) {
        *err = MQG_MALFORMED;
        return false;
    }
    struct mqg_slice name = mqg_slice_of(line.ptr, (size_t)(colon - line.ptr));
    *err = stomp_unescape(name, v, a, &out->name);
    if (*err == MQG_OK)
        *err = stomp_unescape(mqg_slice_of(colon + 1, line.len - name.len - 1), v, a, &out->value);
    out->id = stomp_header_find(out->name);
    return *err == MQG_OK;
}

static const struct {
    enum stomp_header_id id;
    uint32_t bit;
    size_t offset;
} origin_texts[] = {
    {STOMP_H_CONTENT_TYPE, MQG_PROP_CONTENT_TYPE, offsetof(struct mqg_view, content_type)},
    {STOMP_H_CONTENT_ENCODING, MQG_PROP_CONTENT_ENCODING, offsetof(struct mqg_view, content_encoding)},
    {STOMP_H_CORRELATION_ID, MQG_PROP_CORRELATION_ID, offsetof(struct mqg_view, correlation_id)},
    {STOMP_H_REPLY_TO, MQG_PROP_REPLY_TO, offsetof(struct mqg_view, reply_to)},
    {STOMP_H_AMQP_MESSAGE_ID, MQG_PROP_MESSAGE_ID, offsetof(struct mqg_view, message_id)},
    {STOMP_H_TYPE, MQG_PROP_TYPE, offsetof(struct mqg_view, type)},
    {STOMP_H_APP_ID, MQG_PROP_APP_ID, offsetof(struct mqg_view, app_id)},
    {STOMP_H_USER_ID, MQG_PROP_USER_ID, offsetof(struct mqg_view, user_id)},
};

static struct mqg_slice *origin_text_field(struct mqg_view *v, size_t i)
{
    return (struct mqg_slice *)(void *)((char *)v + origin_texts[i].offset);
}

/* A well-known property; false when it is none, or not of its form: then it is a header like any other. */
static bool origin_property(struct mqg_view *v, const struct origin_line *line)
{
    uint64_t n;
    for (size_t i = 0; i < MQG_COUNTOF(origin_texts); i++)
        if (origin_texts[i].id == line->id) {
            v->has |= origin_texts[i].bit;
            *origin_text_field(v, i) = line->value;
            return true;
        }
    if (line->id == STOMP_H_PERSISTENT) {
        v->delivery_mode = mqg_slice_eq(line->value, MQG_SLICE_LIT("true")) ? 2 : 1;
        v->has |= MQG_PROP_DELIVERY_MODE;
    } else if (line->id == STOMP_H_PRIORITY && stomp_number(line->value, 255, &n)) {
        v->priority = (uint8_t)n;
        v->has |= MQG_PROP_PRIORITY;
    } else if (line->id == STOMP_H_EXPIRATION && stomp_number(line->value, UINT32_MAX, &n)) {
        v->expiration_ms = n;
        v->has |= MQG_PROP_EXPIRATION;
    } else if (line->id == STOMP_H_TIMESTAMP && stomp_number(line->value, UINT64_MAX / 1000000, &n)) {
        v->timestamp_us = n * 1000000;
        v->has |= MQG_PROP_TIMESTAMP;
    } else {
        return false;
    }
    return true;
}

bool stomp_property(const struct mqg_view *v, enum stomp_header_id id, struct mqg_value *out)
{
    const struct {
        enum stomp_header_id id;
        uint32_t bit;
        uint64_t n;
    } numbers[] = {{STOMP_H_PRIORITY, MQG_PROP_PRIORITY, v->priority},
                   {STOMP_H_EXPIRATION, MQG_PROP_EXPIRATION, v->expiration_ms},
                   {STOMP_H_TIMESTAMP, MQG_PROP_TIMESTAMP, v->timestamp_us / 1000000}};
    for (size_t i = 0; i < MQG_COUNTOF(origin_texts); i++)
        if (origin_texts[i].id == id) {
            const void *field = (const char *)v + origin_texts[i].offset;
            *out = (struct mqg_value){.type = MQG_VALUE_STRING, .bytes = *(const struct mqg_slice *)field};
            return (v->has & origin_texts[i].bit) != 0;
        }
    for (size_t i = 0; i < MQG_COUNTOF(numbers); i++)
        if (numbers[i].id == id) {
            *out = (struct mqg_value){.type = MQG_VALUE_UINT64, .u = numbers[i].n};
            return (v->has & numbers[i].bit) != 0;
        }
    *out = (struct mqg_value){.type = MQG_VALUE_BOOL, .boolean = v->delivery_mode == 2};
    return id == STOMP_H_PERSISTENT && (v->has & MQG_PROP_DELIVERY_MODE) != 0;
}

/* "/reply-queue/q" is queue q to everybody else. */
static void origin_reply_to(struct mqg_view *v)
{
    struct mqg_slice prefix = MQG_SLICE_LIT(ORIGIN_REPLY_PREFIX);
    if (mqg_slice_starts(v->reply_to, prefix))
        v->reply_to = mqg_slice_of(v->reply_to.ptr + prefix.len, v->reply_to.len - prefix.len);
}

/* ---- types given back --------------------------------------------------------------------------------------------------- */

/* The first header of that name which is still text gets the type, if its text is the value's. */
static bool origin_retype(struct mqg_table *headers, const struct mqg_field *typed)
{
    struct mqg_dynbuf text;
    bool done = false;
    mqg_dynbuf_init(&text, 4u << 20);
    stomp_text_of(&text, &typed->value);
    for (uint32_t i = 0; i < headers->n && !done; i++) {
        struct mqg_field *f = &headers->fields[i];
        bool is_text = f->value.type == MQG_VALUE_STRING || f->value.type == MQG_VALUE_BYTES;
        if (!is_text || !mqg_slice_eq(f->name, typed->name))
            continue;
        if (text.failed || !mqg_slice_eq(f->value.bytes, mqg_dynbuf_view(&text)))
            continue;
        f->value = typed->value;
        done = true;
    }
    mqg_dynbuf_fini(&text);
    return done;
}

static void origin_types(struct mqg_table *headers, struct mqg_slice coded, struct mqg_arena *a)
{
    struct mqg_slice prefix = MQG_SLICE_LIT(ORIGIN_TYPES), raw;
    struct mqg_table typed;
    uint64_t unfit = 1;
    if (mqg_slice_starts(coded, prefix) &&
        stomp_base64_decode(mqg_slice_of(coded.ptr + prefix.len, coded.len - prefix.len), a, &raw) &&
        mqg_table_decode(raw, a, &typed) == MQG_OK) {
        unfit = 0;
        for (uint32_t i = 0; i < typed.n; i++)
            unfit += !origin_retype(headers, &typed.fields[i]);
    }
    if (unfit > 0)
        mqg_count(MQG_COUNT_CONVERSION_DROPPED, unfit);
}

static enum mqg_err origin_decode(struct mqg_slice origin, struct mqg_arena *a, struct mqg_view *out)
{
    *out = (struct mqg_view){0};
    if (origin.len == 0)
        return MQG_OK;
    unsigned version = origin.ptr[0] & 0x0fu;
    if (version >= STOMP_VERSIONS)
        return MQG_UNSUPPORTED;
    struct mqg_slice rest = mqg_slice_of(origin.ptr + 1, origin.len - 1), types = MQG_SLICE_NONE;
    struct origin_line line;
    struct mqg_value said;
    enum mqg_err err;
    while (origin_next(&rest, (enum stomp_version)version, a, &line, &err)) {
        if (line.id == STOMP_H_MQGATE_NULL_BODY)
            continue; /* the message says it itself */
        if (line.id == STOMP_H_MQGATE_ORIGIN) {
            types = line.value;
            continue;
        }
        if (stomp_header_group(line.id) == STOMP_GROUP_PROP && !stomp_property(out, line.id, &said) &&
            origin_property(out, &line))
            continue;
        struct mqg_field *f = mqg_table_add(a, &out->headers, line.name);
        if (f == NULL)
            return MQG_NO_MEMORY;
        f->value.type = mqg_utf8_valid(line.value) ? MQG_VALUE_STRING : MQG_VALUE_BYTES;
        f->value.bytes = line.value;
    }
    if (err == MQG_OK && types.ptr != NULL)
        origin_types(&out->headers, types, a);
    origin_reply_to(out);
    return err;
}

const struct mqg_origin_ops stomp_origin_ops = {.proto = MQG_PROTO_STOMP, .decode = origin_decode};

/* ---- view -> lines ------------------------------------------------------------------------------------------------------ */

static void render_number(struct mqg_dynbuf *out, enum stomp_header_id id, uint64_t n)
{
    mqg_dynbuf_printf(out, "%s:%llu\n", stomp_header_name(id), (unsigned long long)n);
}

static void render_properties(struct mqg_dynbuf *out, enum stomp_version version, struct mqg_view *v)
{
    for (size_t i = 0; i < MQG_COUNTOF(origin_texts); i++) {
        if ((v->has & origin_texts[i].bit) == 0)
            continue;
        struct mqg_slice value = *origin_text_field(v, i),
                         name = mqg_slice_str(stomp_header_name(origin_texts[i].id));
        struct mqg_dynbuf full;
        mqg_dynbuf_init(&full, 1u << 20);
        if (origin_texts[i].id == STOMP_H_REPLY_TO && (value.len == 0 || value.ptr[0] != '/'))
            mqg_dynbuf_printf(&full, ORIGIN_REPLY_PREFIX);
        mqg_dynbuf_slice(&full, value);
        stomp_put_header(out, version, name, mqg_dynbuf_view(&full));
        mqg_dynbuf_fini(&full);
    }
    if ((v->has & MQG_PROP_DELIVERY_MODE) != 0 && v->delivery_mode == 2)
        mqg_dynbuf_printf(out, "persistent:true\n");
    if ((v->has & MQG_PROP_PRIORITY) != 0)
        render_number(out, STOMP_H_PRIORITY, v->priority);
    if ((v->has & MQG_PROP_EXPIRATION) != 0)
        render_number(out, STOMP_H_EXPIRATION, v->expiration_ms);
    if ((v->has & MQG_PROP_TIMESTAMP) != 0)
        render_number(out, STOMP_H_TIMESTAMP, v->timestamp_us / 1000000);
}

/* What a text alone does not give back: anything but a string that can be written as it is. */
static bool render_is_typed(const struct mqg_value *v)
{
    return v->type != MQG_VALUE_STRING || (v->bytes.len > 0 && memchr(v->bytes.ptr, 0, v->bytes.len) != NULL);
}

static void render_types(struct mqg_dynbuf *out, const struct mqg_table *typed)
{
    struct mqg_dynbuf coded, text;
    mqg_dynbuf_init(&coded, ORIGIN_TYPES_MAX);
    mqg_dynbuf_init(&text, ORIGIN_TYPES_MAX * 2);
    mqg_table_encode(&coded, typed);
    mqg_dynbuf_printf(&text, ORIGIN_TYPES);
    stomp_base64_encode(&text, mqg_dynbuf_view(&coded));
    if (coded.failed || text.failed) {
        mqg_count(MQG_COUNT_CONVERSION_DROPPED, typed->n);
    } else {
        mqg_dynbuf_printf(out, "mqgate-origin:");
        mqg_dynbuf_slice(out, mqg_dynbuf_view(&text)); /* base64 needs no escapes */
        mqg_dynbuf_u8(out, '\n');
    }
    mqg_dynbuf_fini(&coded);
    mqg_dynbuf_fini(&text);
}

static void render_headers(struct mqg_dynbuf *out, enum stomp_version version,
                           const struct mqg_table *headers, struct mqg_arena *a)
{
    struct mqg_table typed = {0};
    struct mqg_dynbuf text;
    mqg_dynbuf_init(&text, 4u << 20);
    for (uint32_t i = 0; i < headers->n; i++) {
        const struct mqg_field *f = &headers->fields[i];
        bool named = f->name.len > 0 && memchr(f->name.ptr, 0, f->name.len) == NULL;
        mqg_dynbuf_reset(&text);
        text.failed = false;
        stomp_text_of(&text, &f->value);
        if (!named || text.failed || stomp_header_group(stomp_header_find(f->name)) == STOMP_GROUP_HOP) {
            mqg_count(MQG_COUNT_CONVERSION_DROPPED, 1);
            continue;
        }
        stomp_put_header(out, version, f->name, mqg_dynbuf_view(&text));
        struct mqg_field *kept = render_is_typed(&f->value) ? mqg_table_add(a, &typed, f->name) : NULL;
        if (kept != NULL)
            kept->value = f->value;
    }
    mqg_dynbuf_fini(&text);
    if (typed.n > 0)
        render_types(out, &typed);
}

static struct mqg_slice render_view(const struct mqg_msg *m, enum stomp_version version,
                                    uint32_t delivery_count, struct mqg_dynbuf *out)
{
    struct mqg_arena a;
    struct mqg_view v;
    mqg_arena_init(&a, STOMP_ARENA_BYTES);
    enum mqg_err err = mqg_msg_view(m, &a, &v);
    if (err != MQG_OK)
        mqg_count(MQG_COUNT_CONVERSION_DROPPED, 1);
    if (delivery_count > 0)
        mqg_table_set_int(&a, &v.headers, "x-delivery-count", delivery_count);
    render_properties(out, version, &v);
    if ((m->st.flags & MQG_MSG_NULL_BODY) != 0)
        mqg_dynbuf_printf(out, "mqgate-null-body:true\n");
    render_headers(out, version, &v.headers, &a);
    mqg_arena_fini(&a);
    return out->failed ? MQG_SLICE_NONE : mqg_dynbuf_view(out);
}

/* Do these lines read the same in that version? */
static bool render_is_own(const struct mqg_msg *m, enum stomp_version version)
{
    struct mqg_slice origin = mqg_msg_origin(m);
    if (m->st.proto != MQG_PROTO_STOMP || m->st.overlay_len > 0 || origin.len == 0)
        return false;
    return (origin.ptr[0] & 0x0fu) == (unsigned)version || (origin.ptr[0] & ORIGIN_PLAIN) != 0;
}

struct mqg_slice stomp_render(const struct mqg_msg *m, enum stomp_version v, uint32_t delivery_count,
                              struct mqg_dynbuf *out)
{
    struct mqg_slice origin = mqg_msg_origin(m);
    if (MQG_LIKELY(delivery_count == 0 && render_is_own(m, v)))
        return mqg_slice_of(origin.ptr + 1, origin.len - 1);
    return render_view(m, v, delivery_count, out);
}
