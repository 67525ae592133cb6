/* origin.c - our properties as the common view, and the way back.
 *
 * A message that came by AMQP and was changed by no hop is sent with its own bytes. Otherwise new ones are rendered: from the
 * origin with its overlay, or from another protocol's message by way of the common view (MAPPING "Keys, headers, values"). */
#include "amqp.h"

#include <stdio.h>
#include <stdlib.h>

#define RENDER_ARENA_BYTES (4u << 20)

/* ---- origin -> view ------------------------------------------------------------------------------------------------- */

static uint64_t expiration_ms(struct mqg_slice text)
{
    uint64_t ms = 0;
    for (size_t i = 0; i < text.len && text.ptr[i] >= '0' && text.ptr[i] <= '9' && ms < UINT32_MAX; i++)
        ms = ms * 10 + (uint64_t)(text.ptr[i] - '0');
    return ms;
}

static const struct {
    uint16_t amqp;
    uint32_t view;
} prop_bits[] = {
    {AMQP_PROP_CONTENT_TYPE, MQG_PROP_CONTENT_TYPE},
    {AMQP_PROP_CONTENT_ENCODING, MQG_PROP_CONTENT_ENCODING},
    {AMQP_PROP_DELIVERY_MODE, MQG_PROP_DELIVERY_MODE},
    {AMQP_PROP_PRIORITY, MQG_PROP_PRIORITY},
    {AMQP_PROP_CORRELATION_ID, MQG_PROP_CORRELATION_ID},
    {AMQP_PROP_REPLY_TO, MQG_PROP_REPLY_TO},
    {AMQP_PROP_EXPIRATION, MQG_PROP_EXPIRATION},
    {AMQP_PROP_MESSAGE_ID, MQG_PROP_MESSAGE_ID},
    {AMQP_PROP_TIMESTAMP, MQG_PROP_TIMESTAMP},
    {AMQP_PROP_TYPE, MQG_PROP_TYPE},
    {AMQP_PROP_USER_ID, MQG_PROP_USER_ID},
    {AMQP_PROP_APP_ID, MQG_PROP_APP_ID},
    {AMQP_PROP_CLUSTER_ID, MQG_PROP_CLUSTER_ID},
};

static enum mqg_err origin_decode(struct mqg_slice origin, struct mqg_arena *a, struct mqg_view *out)
{
    struct amqp_props p;
    *out = (struct mqg_view){0};
    enum mqg_err err = amqp_props_scan(origin, &p);
    if (err != MQG_OK)
        return err;
    for (size_t i = 0; i < MQG_COUNTOF(prop_bits); i++)
        if (p.flags & prop_bits[i].amqp)
            out->has |= prop_bits[i].view;
    out->content_type = p.content_type;
    out->content_encoding = p.content_encoding;
    out->correlation_id = p.correlation_id;
    out->reply_to = p.reply_to;
    out->message_id = p.message_id;
    out->type = p.type;
    out->app_id = p.app_id;
    out->user_id = p.user_id;
    out->timestamp_us = p.timestamp_s > UINT64_MAX / 1000000 ? UINT64_MAX : p.timestamp_s * 1000000;
    out->expiration_ms = expiration_ms(p.expiration);
    out->priority = p.priority;
    out->delivery_mode = p.delivery_mode;
    out->cluster_id = p.cluster_id;
    return p.headers.len ? amqp_table_decode(p.headers, a, &out->headers) : MQG_OK;
}

/* ---- view -> properties ------------------------------------------------------------------------------------------------ */

static struct mqg_slice prop_short(struct mqg_slice s)
{
    if (s.len <= AMQP_SHORTSTR_MAX_BYTES)
        return s;
    mqg_count(MQG_COUNT_CONVERSION_DROPPED, 1);
    return mqg_slice_of(s.ptr, AMQP_SHORTSTR_MAX_BYTES);
}

static void props_from_view(const struct mqg_view *v, struct amqp_props *p, char expiration[24])
{
    *p = (struct amqp_props){0};
    for (size_t i = 0; i < MQG_COUNTOF(prop_bits); i++)
        if (v->has & prop_bits[i].view)
            p->flags |= prop_bits[i].amqp;
    p->content_type = prop_short(v->content_type);
    p->content_encoding = prop_short(v->content_encoding);
    p->correlation_id = prop_short(v->correlation_id);
    p->reply_to = prop_short(v->reply_to);
    p->message_id = prop_short(v->message_id);
    p->type = prop_short(v->type);
    p->app_id = prop_short(v->app_id);
    p->cluster_id = prop_short(v->cluster_id);
    p->user_id = prop_short(v->user_id);
    p->timestamp_s = v->timestamp_us / 1000000;
    p->priority = v->priority;
    p->delivery_mode = v->delivery_mode;
    if ((v->has & MQG_PROP_EXPIRATION) == 0)
        return;
    int n = snprintf(expiration, 24, "%llu", (unsigned long long)v->expiration_ms);
    p->expiration = mqg_slice_of(expiration, (size_t)n);
}

static enum mqg_err origin_encode(const struct mqg_view *v, struct mqg_arena *a, struct mqg_dynbuf *out)
{
    (void)a;
    struct mqg_dynbuf headers;
    mqg_dynbuf_init(&headers, out->max);
    uint32_t dropped = 0;
    struct amqp_props p;
    char expiration[24];
    props_from_view(v, &p, expiration);
    enum mqg_err err = v->headers.n ? amqp_table_encode(&headers, &v->headers, &dropped) : MQG_OK;
    if (err == MQG_OK && v->headers.n) {
        p.flags |= AMQP_PROP_HEADERS;
        p.headers = mqg_dynbuf_view(&headers);
    }
    size_t n = amqp_props_size(&p);
    uint8_t *to = err == MQG_OK ? mqg_dynbuf_reserve(out, n) : NULL;
    if (to) {
        amqp_props_write(to, &p);
        out->len += n;
    }
    if (dropped)
        mqg_count(MQG_COUNT_CONVERSION_DROPPED, dropped);
    mqg_dynbuf_fini(&headers);
    return to ? MQG_OK : MQG_TOO_LARGE;
}

const struct mqg_origin_ops amqp_origin_ops = {.proto = MQG_PROTO_AMQP091,
                                               .decode = origin_decode,
                                               .encode = origin_encode,
                                               .names_once = true,
                                               .no_null = true};

/* A routing key of another protocol that AMQP has no room for is cut there (consume.c), and whole here. */
static void render_long_key(const struct mqg_msg *m, struct mqg_arena *a, struct mqg_table *headers)
{
    struct mqg_slice key = mqg_msg_key(m);
    if (key.len <= AMQP_SHORTSTR_MAX_BYTES)
        return;
    uint8_t *whole = mqg_arena_alloc(a, key.len);
    mqg_count(MQG_COUNT_CONVERSION_DROPPED, 1);
    if (!whole)
        return;
    mqg_key_swap(whole, key, (char)m->st.key_sep, '.');
    mqg_table_set_str(a, headers, "mqgate-routing-key", mqg_slice_of(whole, key.len));
}

static struct mqg_slice render(const struct mqg_msg *m, uint32_t delivery_count, struct mqg_arena *a,
                               struct mqg_dynbuf *out)
{
    struct mqg_view v;
    enum mqg_err err = mqg_msg_view(m, a, &v);
    if (err != MQG_OK && err != MQG_UNSUPPORTED)
        return mqg_msg_origin(m);
    if (m->st.proto != MQG_PROTO_AMQP091 && !mqg_headers_once(&v.headers, a))
        mqg_count(MQG_COUNT_CONVERSION_DROPPED, 1);
    if (m->st.flags & MQG_MSG_NULL_BODY)
        mqg_table_set_bool(a, &v.headers, "mqgate-null-body", true);
    render_long_key(m, a, &v.headers);
    if (delivery_count)
        mqg_table_set_int(a, &v.headers, "x-delivery-count", delivery_count);
    return origin_encode(&v, a, out) == MQG_OK ? mqg_dynbuf_view(out) : mqg_slice_of(AMQP_PROPS_EMPTY, 2);
}

/* ---- our own message with an overlay: fields that no hop touched are copied as they lie ------------------------------------ */

static bool overlay_touches(const struct mqg_overlay *o, struct mqg_slice name)
{
    return mqg_table_get(&o->remove, name) != NULL || mqg_table_get(&o->set, name) != NULL;
}

static void headers_untouched(struct mqg_slice headers, const struct mqg_overlay *o, struct mqg_dynbuf *out)
{
    struct amqp_table_iter it = amqp_table_iter_of(headers);
    const uint8_t *from = it.cursor.pos;
    while (amqp_table_next(&it)) {
        if (!overlay_touches(o, it.name))
            mqg_dynbuf_put(out, from, (size_t)(it.cursor.pos - from));
        from = it.cursor.pos;
    }
}

static uint16_t props_dropped(uint32_t drop)
{
    uint16_t flags = 0;
    for (size_t i = 0; i < MQG_COUNTOF(prop_bits); i++)
        if (drop & prop_bits[i].view)
            flags |= prop_bits[i].amqp;
    return flags;
}

/* False when it cannot be done: then the message goes out as it came in. */
static bool render_overlay(const struct mqg_msg *m, uint32_t delivery_count, struct mqg_arena *a,
                           struct mqg_dynbuf *headers, struct mqg_dynbuf *out)
{
    struct amqp_props p;
    struct mqg_overlay o = {0};
    struct mqg_slice overlay = mqg_msg_overlay(m);
    uint32_t dropped = 0;
    if (amqp_props_scan(mqg_msg_origin(m), &p) != MQG_OK ||
        (overlay.len > 0 && mqg_overlay_decode(overlay, a, &o) != MQG_OK))
        return false;
    if (delivery_count > 0)
        mqg_table_set_int(a, &o.set, "x-delivery-count", delivery_count);
    headers_untouched(p.headers, &o, headers);
    if (amqp_table_encode(headers, &o.set, &dropped) != MQG_OK)
        return false;
    if (dropped > 0)
        mqg_count(MQG_COUNT_CONVERSION_DROPPED, dropped);
    p.flags &= (uint16_t)~props_dropped(o.drop);
    if (o.has_reply_to) {
        p.flags |= AMQP_PROP_REPLY_TO;
        p.reply_to = prop_short(o.reply_to);
    }
    if (headers->len > 0)
        p.flags |= AMQP_PROP_HEADERS;
    p.headers = mqg_dynbuf_view(headers);
    size_t n = amqp_props_size(&p);
    uint8_t *to = mqg_dynbuf_reserve(out, n);
    if (to == NULL)
        return false;
    amqp_props_write(to, &p);
    out->len += n;
    return true;
}

static struct mqg_slice render_own(const struct mqg_msg *m, uint32_t delivery_count, struct mqg_arena *a,
                                   struct mqg_dynbuf *out)
{
    struct mqg_dynbuf headers;
    mqg_dynbuf_init(&headers, out->max);
    bool done = render_overlay(m, delivery_count, a, &headers, out);
    mqg_dynbuf_fini(&headers);
    return done ? mqg_dynbuf_view(out) : mqg_msg_origin(m);
}

struct mqg_slice amqp_render_props(const struct mqg_msg *m, uint32_t delivery_count, struct mqg_dynbuf *out)
{
    bool ours = m->st.proto == MQG_PROTO_AMQP091;
    if (MQG_LIKELY(ours && m->st.overlay_len == 0 && delivery_count == 0))
        return mqg_msg_origin(m);
    struct mqg_arena a;
    mqg_arena_init(&a, RENDER_ARENA_BYTES);
    struct mqg_slice raw = ours ? render_own(m, delivery_count, &a, out) : render(m, delivery_count, &a, out);
    mqg_arena_fini(&a);
    return raw;
}

/* ---- CC and BCC ------------------------------------------------------------------------------------------------------------ */

static uint32_t keys_of(struct mqg_slice headers, const char *name, struct mqg_slice *out, uint32_t max)
{
    struct amqp_value list;
    uint32_t n = 0;
    if (!amqp_table_find(headers, mqg_slice_str(name), &list) || list.type != 'A')
        return 0;
    struct amqp_table_iter it = amqp_array_iter_of(list.raw);
    while (n < max && amqp_table_next(&it))
        if (amqp_value_bytes(&it.value, &out[n]) && out[n].len <= AMQP_SHORTSTR_MAX_BYTES)
            n++;
    return n;
}

uint32_t amqp_extra_keys(struct mqg_slice headers, struct mqg_slice *out, uint32_t max)
{
    uint32_t n = keys_of(headers, "CC", out, max);
    return n + keys_of(headers, "BCC", out + n, max - n);
}
