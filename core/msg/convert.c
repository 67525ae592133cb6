/* convert.c - an envelope as a record of a stream, and back.
 *
 * What any Kafka client can use is said naturally: the key, the body (null stays null), each header as text, each well-known
 * property as a header with the prefix "mqgate-". What that cannot say stands in one last header, mqgate-origin:
 *
 *   version 1 | protocol 1 | flags 1 | key separator 1 | [delivery mode 1] | exchange | [routing key] |
 *   properties (bits of the rows below, varint) | headers (how many, varint) | { index varint, type 1, [value] } ...
 *
 * with strings as varint length and bytes. The list names only headers whose type is not the one that text would be read as;
 * a value stands there (as a table of one field in value.h's encoding) where text cannot give it back. It never holds
 * another protocol's bytes. The properties' headers come first, in the rows' order, then the message's own: so a client's
 * header that looks like one of ours cannot be taken for it.
 *
 * A producer may forge mqgate-origin; it then gets what it forged, if that fits together, as it could have published it. One
 * that does not fit is ignored and counted, and the record is read as any other: text is a string, other bytes are bytes. */
#include <mqgate/map.h>
#include <mqgate/obs.h>
#include <mqgate/records.h>

#include "natural.h"

#include <inttypes.h>

enum { ORIGIN_VERSION = 1, ONCE_FEW = 32 };
enum origin_flag {
    ORIGIN_PERSISTENT = 1,
    ORIGIN_DELIVERY_MODE = 2,
    ORIGIN_KEY = 4, /* the routing key is not the record's key */
    ORIGIN_KNOWN = 7,
};
enum origin_entry_flag { ENTRY_VALUE = 0x80 }; /* beside the type: the value follows */

/* ---- properties as headers ----------------------------------------------------------------------------------------------- */

enum prop_kind { PROP_TEXT, PROP_TIME, PROP_MS, PROP_BYTE };

static const struct prop_row {
    uint32_t bit;
    enum prop_kind kind;
    size_t offset; /* in struct mqg_view */
    struct mqg_slice name;
} prop_rows[] = {
    {MQG_PROP_CONTENT_TYPE, PROP_TEXT, offsetof(struct mqg_view, content_type),
     MQG_SLICE_INIT("mqgate-content-type")},
    {MQG_PROP_CONTENT_ENCODING, PROP_TEXT, offsetof(struct mqg_view, content_encoding),
     MQG_SLICE_INIT("mqgate-content-encoding")},
    {MQG_PROP_CORRELATION_ID, PROP_TEXT, offsetof(struct mqg_view, correlation_id),
     MQG_SLICE_INIT("mqgate-correlation-id")},
    {MQG_PROP_REPLY_TO, PROP_TEXT, offsetof(struct mqg_view, reply_to), MQG_SLICE_INIT("mqgate-reply-to")},
    {MQG_PROP_MESSAGE_ID, PROP_TEXT, offsetof(struct mqg_view, message_id),
     MQG_SLICE_INIT("mqgate-message-id")},
    {MQG_PROP_TYPE, PROP_TEXT, offsetof(struct mqg_view, type), MQG_SLICE_INIT("mqgate-type")},
    {MQG_PROP_APP_ID, PROP_TEXT, offsetof(struct mqg_view, app_id), MQG_SLICE_INIT("mqgate-app-id")},
    {MQG_PROP_USER_ID, PROP_TEXT, offsetof(struct mqg_view, user_id), MQG_SLICE_INIT("mqgate-user-id")},
    {MQG_PROP_CLUSTER_ID, PROP_TEXT, offsetof(struct mqg_view, cluster_id),
     MQG_SLICE_INIT("mqgate-cluster-id")},
    {MQG_PROP_TIMESTAMP, PROP_TIME, offsetof(struct mqg_view, timestamp_us),
     MQG_SLICE_INIT("mqgate-timestamp")},
    {MQG_PROP_EXPIRATION, PROP_MS, offsetof(struct mqg_view, expiration_ms),
     MQG_SLICE_INIT("mqgate-expiration")},
    {MQG_PROP_PRIORITY, PROP_BYTE, offsetof(struct mqg_view, priority), MQG_SLICE_INIT("mqgate-priority")},
};

static const void *prop_at(const struct mqg_view *v, const struct prop_row *row)
{
    return (const char *)v + row->offset;
}

static void prop_put(struct mqg_batch_builder *b, const struct mqg_view *v, const struct prop_row *row,
                     struct mqg_dynbuf *text)
{
    mqg_dynbuf_reset(text);
    switch (row->kind) {
    case PROP_TEXT: {
        mqg_builder_header(b, row->name, *(const struct mqg_slice *)prop_at(v, row), false);
        return;
    }
    case PROP_TIME: {
        uint64_t us = *(const uint64_t *)prop_at(v, row);
        if (us > INT64_MAX || !natural_put_time(text, (int64_t)us))
            mqg_dynbuf_printf(text, "%" PRIu64, us); /* digits alone: microseconds */
        break;
    }
    case PROP_MS: mqg_dynbuf_printf(text, "%" PRIu64, *(const uint64_t *)prop_at(v, row)); break;
    case PROP_BYTE: mqg_dynbuf_printf(text, "%u", *(const uint8_t *)prop_at(v, row)); break;
    }
    mqg_builder_header(b, row->name, mqg_dynbuf_view(text), false);
}

static bool prop_take(struct mqg_view *v, const struct prop_row *row, struct mqg_slice text)
{
    void *to = (char *)v + row->offset;
    struct mqg_value number;
    int64_t us;
    switch (row->kind) {
    case PROP_TEXT: *(struct mqg_slice *)to = text; break;
    case PROP_TIME:
        if (natural_take_time(text, &us) && us >= 0)
            *(uint64_t *)to = (uint64_t)us;
        else if (natural_take(text, MQG_VALUE_UINT64, &number))
            *(uint64_t *)to = number.u;
        else
            return false;
        break;
    case PROP_MS:
        if (!natural_take(text, MQG_VALUE_UINT64, &number))
            return false;
        *(uint64_t *)to = number.u;
        break;
    case PROP_BYTE:
        if (!natural_take(text, MQG_VALUE_UINT8, &number))
            return false;
        *(uint8_t *)to = (uint8_t)number.u;
        break;
    }
    v->has |= row->bit;
    return true;
}

/* ---- envelope -> record -------------------------------------------------------------------------------------------------- */

struct convert {
    struct mqg_batch_builder *out;
    const struct mqg_msg *msg;
    struct mqg_view view;
    struct mqg_slice key;
    bool null_key, null_value;
    uint32_t nheaders;
    struct mqg_dynbuf *text, *origin, *types;
};

static void put_string(struct mqg_dynbuf *out, struct mqg_slice s)
{
    mqg_dynbuf_varint(out, s.len);
    mqg_dynbuf_slice(out, s);
}

static struct mqg_slice take_string(struct mqg_cursor *c)
{
    uint64_t len = mqg_cursor_varint(c);
    return mqg_cursor_slice(c, len);
}

/* The type that a reader without mqgate-origin would take it for. */
static enum mqg_value_type type_of_text(struct mqg_slice text, bool null)
{
    return null ? MQG_VALUE_NULL : mqg_utf8_valid(text) ? MQG_VALUE_STRING : MQG_VALUE_BYTES;
}

static void convert_header(struct convert *w, const struct mqg_field *f)
{
    mqg_dynbuf_reset(w->text);
    bool exact = natural_put(w->text, &f->value);
    bool null = f->value.type == MQG_VALUE_NULL;
    struct mqg_slice text = mqg_dynbuf_view(w->text);
    if (w->text->failed || f->name.len > UINT16_MAX) {
        mqg_count(MQG_COUNT_CONVERSION_DROPPED, 1);
        return;
    }
    mqg_builder_header(w->out, f->name, text, null);
    uint32_t index = w->nheaders++;
    if (exact && f->value.type == type_of_text(text, null))
        return;
    mqg_dynbuf_varint(w->types, index);
    mqg_dynbuf_u8(w->types, (uint8_t)(f->value.type | (exact ? 0 : ENTRY_VALUE)));
    if (exact)
        return;
    struct mqg_field field = {MQG_SLICE_NONE, f->value};
    struct mqg_table one = {&field, 1, 1};
    mqg_dynbuf_reset(w->text);
    mqg_table_encode(w->text, &one);
    put_string(w->types, mqg_dynbuf_view(w->text));
    w->types->failed = w->types->failed || w->text->failed;
}

/* From a protocol without null: an empty body marked as one. */
static bool header_means_null(const struct convert *w, const struct mqg_field *f)
{
    if (w->msg->st.body_len > 0 || !mqg_slice_eq(f->name, MQG_SLICE_LIT("mqgate-null-body")))
        return false;
    if (f->value.type == MQG_VALUE_BOOL)
        return f->value.boolean;
    return f->value.type == MQG_VALUE_STRING && mqg_slice_eq(f->value.bytes, MQG_SLICE_LIT("true"));
}

static void convert_key(struct convert *w)
{
    const struct mqg_msg *m = w->msg;
    w->key = mqg_msg_key(m);
    w->null_key = w->key.len == 0;
    if (m->st.flags & MQG_MSG_HAS_PKEY) {
        w->key = mqg_msg_pkey(m);
        w->null_key = false;
        return;
    }
    const struct mqg_value *v = mqg_table_get(&w->view.headers, MQG_SLICE_LIT("x-partition-key"));
    if (v == NULL || (v->type != MQG_VALUE_STRING && v->type != MQG_VALUE_BYTES))
        return;
    w->key = v->bytes;
    w->null_key = false;
}

static void convert_origin(struct convert *w, uint32_t props)
{
    const struct mqg_msg *m = w->msg;
    struct mqg_slice routing_key = mqg_msg_key(m);
    bool own_key = !mqg_slice_eq(w->key, routing_key);
    bool mode = (w->view.has & MQG_PROP_DELIVERY_MODE) != 0;
    mqg_dynbuf_u8(w->origin, ORIGIN_VERSION);
    mqg_dynbuf_u8(w->origin, m->st.proto);
    mqg_dynbuf_u8(w->origin, (uint8_t)((mqg_msg_persistent(m) ? ORIGIN_PERSISTENT : 0) |
                                       (mode ? ORIGIN_DELIVERY_MODE : 0) | (own_key ? ORIGIN_KEY : 0)));
    mqg_dynbuf_u8(w->origin, m->st.key_sep);
    if (mode)
        mqg_dynbuf_u8(w->origin, w->view.delivery_mode);
    put_string(w->origin, mqg_msg_exchange(m));
    if (own_key)
        put_string(w->origin, routing_key);
    mqg_dynbuf_varint(w->origin, props);
    mqg_dynbuf_varint(w->origin, w->nheaders);
    mqg_dynbuf_slice(w->origin, mqg_dynbuf_view(w->types));
    if (w->types->failed || w->origin->failed) { /* headers beyond all bounds: they stay text */
        mqg_count(MQG_COUNT_CONVERSION_DROPPED, 1);
        return;
    }
    mqg_builder_header(w->out, MQG_SLICE_LIT(MQG_RECORD_ORIGIN), mqg_dynbuf_view(w->origin), false);
}

static void convert_headers(struct convert *w)
{
    uint32_t props = 0;
    for (uint32_t i = 0; i < MQG_COUNTOF(prop_rows); i++) {
        if ((w->view.has & prop_rows[i].bit) == 0)
            continue;
        props |= 1u << i;
        prop_put(w->out, &w->view, &prop_rows[i], w->text);
    }
    for (uint32_t i = 0; i < w->view.headers.n; i++) {
        if (header_means_null(w, &w->view.headers.fields[i]))
            w->null_value = true;
        else
            convert_header(w, &w->view.headers.fields[i]);
    }
    convert_origin(w, props);
}

bool mqg_record_key(const struct mqg_msg *m, struct mqg_arena *a, struct mqg_slice *key)
{
    struct convert w = {.msg = m};
    if ((m->st.flags & MQG_MSG_HAS_PKEY) == 0)
        (void)mqg_msg_view(m, a, &w.view); /* an empty view when it does not decode */
    convert_key(&w);
    *key = w.key;
    return !w.null_key;
}

bool mqg_record_from_msg(struct mqg_batch_builder *b, const struct mqg_msg *m, struct mqg_arena *a)
{
    struct convert w = {.out = b,
                        .msg = m,
                        .null_value = (m->st.flags & MQG_MSG_NULL_BODY) != 0,
                        .text = &b->text,
                        .origin = &b->origin,
                        .types = &b->types};
    if (mqg_msg_view(m, a, &w.view) != MQG_OK)
        mqg_count(MQG_COUNT_CONVERSION_DROPPED, m->st.origin_len > 0);
    mqg_dynbuf_reset(w.origin);
    mqg_dynbuf_reset(w.types);
    convert_key(&w);
    convert_headers(&w);
    return mqg_builder_record(b, (int64_t)(m->st.append_us / 1000), w.key, w.null_key, mqg_msg_body(m),
                              w.null_value);
}

/* ---- record -> envelope -------------------------------------------------------------------------------------------------- */

struct origin {
    uint8_t proto, flags, key_sep, delivery_mode;
    struct mqg_slice exchange, key;
    uint32_t props, nprops;
    uint64_t nheaders;
    struct mqg_cursor types;
};

static bool origin_read(struct mqg_slice in, struct origin *o)
{
    struct mqg_cursor c = mqg_cursor_of(in);
    if (mqg_cursor_u8(&c) != ORIGIN_VERSION)
        return false;
    o->proto = mqg_cursor_u8(&c);
    o->flags = mqg_cursor_u8(&c);
    o->key_sep = mqg_cursor_u8(&c);
    if (o->proto >= MQG_PROTO_COUNT || (o->flags & ~ORIGIN_KNOWN) != 0 ||
        (o->key_sep != '.' && o->key_sep != '/'))
        return false;
    o->delivery_mode = o->flags & ORIGIN_DELIVERY_MODE ? mqg_cursor_u8(&c) : 0;
    o->exchange = take_string(&c);
    o->key = o->flags & ORIGIN_KEY ? take_string(&c) : MQG_SLICE_NONE;
    uint64_t props = mqg_cursor_varint(&c);
    o->nheaders = mqg_cursor_varint(&c);
    o->types = c;
    if (c.failed || props >> MQG_COUNTOF(prop_rows) != 0 || o->exchange.len > UINT8_MAX ||
        o->key.len > UINT16_MAX)
        return false;
    o->props = (uint32_t)props;
    o->nprops = (uint32_t)__builtin_popcount(o->props);
    return true;
}

/* The record's last header, if that is ours. */
static bool origin_find(const struct mqg_record *r, struct origin *o)
{
    struct mqg_slice rest = r->headers;
    struct mqg_record_header h = {.null_value = true};
    for (uint32_t i = 0; i < r->nheaders; i++)
        if (!mqg_record_header(&rest, &h))
            return false;
    if (h.null_value || !mqg_slice_eq(h.name, MQG_SLICE_LIT(MQG_RECORD_ORIGIN)))
        return false;
    return origin_read(h.value, o) && (uint64_t)o->nprops + o->nheaders + 1 == r->nheaders;
}

static bool value_restore(struct mqg_cursor *c, uint8_t type, struct mqg_slice text, struct mqg_arena *a,
                          struct mqg_value *out)
{
    if ((type & ENTRY_VALUE) == 0)
        return natural_take(text, (enum mqg_value_type)type, out);
    struct mqg_table one;
    if (mqg_table_decode(take_string(c), a, &one) != MQG_OK || one.n != 1)
        return false;
    *out = one.fields[0].value;
    return out->type == (enum mqg_value_type)(type & ~ENTRY_VALUE);
}

/* A value as text alone says it. */
static struct mqg_value value_plain(const struct mqg_record_header *h)
{
    return (struct mqg_value){.type = type_of_text(h->value, h->null_value), .bytes = h->value};
}

static bool restore_props(const struct origin *o, struct mqg_slice *headers, struct mqg_view *v)
{
    struct mqg_record_header h;
    for (uint32_t i = 0; i < MQG_COUNTOF(prop_rows); i++)
        if ((o->props & 1u << i) &&
            (!mqg_record_header(headers, &h) || h.null_value || !mqg_slice_eq(h.name, prop_rows[i].name) ||
             !prop_take(v, &prop_rows[i], h.value)))
            return false;
    return true;
}

static bool restore_headers(struct origin *o, struct mqg_slice *headers, struct mqg_arena *a,
                            struct mqg_view *v)
{
    struct mqg_record_header h;
    uint64_t special = mqg_cursor_left(&o->types) > 0 ? mqg_cursor_varint(&o->types) : UINT64_MAX;
    for (uint64_t i = 0; i < o->nheaders; i++) {
        if (!mqg_record_header(headers, &h))
            return false;
        struct mqg_field *f = mqg_table_add(a, &v->headers, h.name);
        if (f == NULL)
            return false;
        f->value = value_plain(&h);
        if (special != i)
            continue;
        if (!value_restore(&o->types, mqg_cursor_u8(&o->types), h.value, a, &f->value))
            return false;
        special = mqg_cursor_left(&o->types) > 0 ? mqg_cursor_varint(&o->types) : UINT64_MAX;
    }
    return mqg_cursor_done(&o->types);
}

static bool view_restore(const struct mqg_record *r, struct mqg_arena *a, struct mqg_record_view *out)
{
    struct origin o;
    struct mqg_slice headers = r->headers;
    if (!origin_find(r, &o) || !restore_props(&o, &headers, &out->view) ||
        !restore_headers(&o, &headers, a, &out->view))
        return false;
    out->proto = (enum mqg_proto)o.proto;
    out->key_sep = (char)o.key_sep;
    out->flags = o.flags & ORIGIN_PERSISTENT ? MQG_MSG_PERSISTENT : 0;
    out->exchange = o.exchange;
    out->key = o.flags & ORIGIN_KEY ? o.key : r->key;
    if (o.flags & ORIGIN_DELIVERY_MODE) {
        out->view.has |= MQG_PROP_DELIVERY_MODE;
        out->view.delivery_mode = o.delivery_mode;
    }
    return out->key.len <= UINT16_MAX;
}

static const struct prop_row *prop_named(struct mqg_slice name)
{
    if (!mqg_slice_starts(name, MQG_SLICE_LIT("mqgate-")))
        return NULL;
    for (size_t i = 0; i < MQG_COUNTOF(prop_rows); i++)
        if (mqg_slice_eq(prop_rows[i].name, name))
            return &prop_rows[i];
    return NULL;
}

static bool names_routing_key(struct mqg_slice name)
{
    return mqg_slice_eq(name, MQG_SLICE_LIT("routing-key")) ||
           mqg_slice_eq(name, MQG_SLICE_LIT("routing key"));
}

/* A record that another Kafka client made. */
static enum mqg_err view_natural(const struct mqg_record *r, struct mqg_arena *a, struct mqg_record_view *out)
{
    struct mqg_slice headers = r->headers;
    struct mqg_record_header h;
    out->key_sep = '.';
    out->flags = MQG_MSG_PERSISTENT;
    if (!r->null_key && r->key.len <= UINT8_MAX && mqg_utf8_valid(r->key))
        out->key = r->key;
    for (uint32_t i = 0; i < r->nheaders && mqg_record_header(&headers, &h); i++) {
        const struct prop_row *row = h.null_value ? NULL : prop_named(h.name);
        if (row != NULL && (out->view.has & row->bit) == 0 && prop_take(&out->view, row, h.value))
            continue;
        if (mqg_slice_eq(h.name, MQG_SLICE_LIT(MQG_RECORD_ORIGIN))) {
            mqg_count(MQG_COUNT_CONVERSION_DROPPED, 1);
            continue;
        }
        if (names_routing_key(h.name) && !h.null_value && h.value.len <= UINT8_MAX)
            out->key = h.value;
        struct mqg_field *f = mqg_table_add(a, &out->view.headers, h.name);
        if (f == NULL)
            return MQG_NO_MEMORY;
        f->value = value_plain(&h);
    }
    return MQG_OK;
}

enum mqg_err mqg_record_view(const struct mqg_record *r, struct mqg_arena *a, struct mqg_record_view *out)
{
    *out = (struct mqg_record_view){.proto = MQG_PROTO_NONE};
    enum mqg_err err = MQG_OK;
    if (!view_restore(r, a, out)) {
        *out = (struct mqg_record_view){.proto = MQG_PROTO_NONE};
        err = view_natural(r, a, out);
    }
    if (r->null_value)
        out->flags |= MQG_MSG_NULL_BODY;
    return err;
}

/* ---- record -> message ------------------------------------------------------------------------------------------------------ */

/* The value becomes an array, if it is none yet, and gets one more item. */
static bool once_append(struct mqg_value *first, const struct mqg_value *more, struct mqg_arena *a)
{
    if (first->type != MQG_VALUE_ARRAY) { /* records bring no arrays of their own here */
        struct mqg_value was = *first;
        *first = (struct mqg_value){.type = MQG_VALUE_ARRAY};
        struct mqg_value *item = mqg_array_add(a, &first->array);
        if (item == NULL)
            return false;
        *item = was;
    }
    struct mqg_value *item = mqg_array_add(a, &first->array);
    if (item == NULL)
        return false;
    *item = *more;
    return true;
}

/* The value of that name among the first n fields. Few are looked through; many, whose number a peer chose, stand in a map. */
static struct mqg_value *once_find(const struct mqg_table *t, uint32_t n, const struct mqg_map *many,
                                   struct mqg_slice name)
{
    struct mqg_table before = {t->fields, n, n};
    return t->n > ONCE_FEW ? mqg_map_get(many, name)
                           : (struct mqg_value *)(uintptr_t)mqg_table_get(&before, name);
}

bool mqg_headers_once(struct mqg_table *t, struct mqg_arena *a)
{
    struct mqg_map many;
    uint32_t kept = 0;
    bool good = true;
    mqg_map_init(&many, MQG_MAP_BORROW);
    for (uint32_t i = 0; i < t->n && good; i++) {
        struct mqg_value *first = once_find(t, kept, &many, t->fields[i].name);
        if (first != NULL) {
            good = once_append(first, &t->fields[i].value, a);
            continue;
        }
        struct mqg_field *f = &t->fields[kept++];
        *f = t->fields[i];
        if (t->n > ONCE_FEW)
            mqg_map_set(&many, f->name, &f->value);
    }
    mqg_map_fini(&many);
    if (good)
        t->n = kept;
    return good;
}

static struct mqg_msg *record_msg(const struct mqg_record *r, const struct mqg_record_to *to,
                                  const struct mqg_record_view *v, enum mqg_proto proto,
                                  struct mqg_slice origin)
{
    struct mqg_msg_parts parts = {
        .proto = proto,
        .flags = v->flags,
        .priority = v->view.priority,
        .key_sep = v->key_sep,
        .exchange = v->exchange,
        .key = v->key,
        .origin = origin,
        .body_len = (uint32_t)r->value.len,
    };
    if (!r->null_key && !mqg_slice_eq(r->key, v->key)) {
        parts.flags |= MQG_MSG_HAS_PKEY;
        parts.pkey = r->key;
    }
    if (v->view.has & MQG_PROP_EXPIRATION) {
        parts.flags |= MQG_MSG_HAS_TTL;
        parts.ttl_ms = v->view.expiration_ms;
    }
    uint64_t us = r->time_ms > 0 && r->time_ms <= INT64_MAX / 1000 ? (uint64_t)r->time_ms * 1000 : 0;
    struct mqg_msg *m = mqg_msg_restore(&parts, to->partition, r->offset, us);
    if (m != NULL && r->value.len > 0)
        memcpy(mqg_msg_body_mut(m), r->value.ptr, r->value.len);
    return m;
}

static enum mqg_err headers_finish(const struct mqg_record *r, const struct mqg_record_to *to,
                                   const struct mqg_origin_ops *ops, struct mqg_arena *a,
                                   struct mqg_record_view *v)
{
    if (v->proto == MQG_PROTO_NONE && ops->names_once && !mqg_headers_once(&v->view.headers, a))
        return MQG_NO_MEMORY;
    if (r->null_value && ops->no_null)
        mqg_table_set_bool(a, &v->view.headers, "mqgate-null-body", true);
    if (to->offset_header)
        mqg_table_set_int(a, &v->view.headers, "x-stream-offset", (int64_t)r->offset);
    return MQG_OK;
}

static void record_readdress(const struct mqg_record_to *to, struct mqg_record_view *v)
{
    if (to->exchange != NULL)
        v->exchange = *to->exchange;
    if (to->key != NULL) {
        v->key = *to->key;
        v->key_sep = '.';
    }
}

struct mqg_msg *mqg_record_to_msg(const struct mqg_record *r, const struct mqg_record_to *to,
                                  struct mqg_arena *a, struct mqg_dynbuf *scratch, enum mqg_err *err)
{
    struct mqg_record_view v;
    const struct mqg_origin_ops *ops = mqg_origin_writer(to->proto);
    if (r->value.len > MQG_MSG_BODY_MAX) {
        *err = MQG_TOO_LARGE;
        return NULL;
    }
    *err = mqg_record_view(r, a, &v);
    if (*err == MQG_OK)
        *err = headers_finish(r, to, ops, a, &v);
    if (*err == MQG_OK)
        record_readdress(to, &v);
    mqg_dynbuf_reset(scratch);
    if (*err == MQG_OK)
        *err = ops->encode(&v.view, a, scratch);
    if (*err != MQG_OK)
        return NULL;
    struct mqg_msg *m = record_msg(r, to, &v, ops->proto, mqg_dynbuf_view(scratch));
    if (m == NULL)
        *err = MQG_NO_MEMORY;
    return m;
}
