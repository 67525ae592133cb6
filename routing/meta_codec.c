/* meta_codec.c - definitions as metadata: keys and values.
 *
 * Keys:  vhost/V   x/V/EXCHANGE   q/V/QUEUE   b/V/SOURCE/q|x/DESTINATION/KEY/ARGS
 *        node/queue_id   node/epoch
 *        parts percent-encoded; ARGS is empty without arguments, else 32 hex digits of their SHA-256,
 *        because arguments may be larger than a key should be.
 *
 * Values, little-endian, strings as u16 length and bytes, args as u32 length and a table in the encoding of
 * value.h:
 *
 *   vhost     | 1 | flags 0 | name |
 *   exchange  | 1 | flags   | vhost | name | type | args |
 *   queue     | 1 | flags   | id u64 | vhost | name | args |
 *   binding   | 1 | flags   | vhost | source | destination | key | args |
 *   queue id  | 1 | flags 0 | next u64 |
 *   epoch     | 1 | flags 0 | starts u64 |
 *
 * The first byte is the version. A flag that this version does not know is refused like a later version: it
 * was written because it matters. */
#include "meta_codec.h"

#include "names.h"

#include <openssl/sha.h>
#include <stdlib.h>

enum { META_VERSION = 1, META_ARGS_MAX_BYTES = 1u << 20, META_ARGS_DIGEST_BYTES = 16 };
enum { META_DURABLE = 1, META_AUTO_DELETE = 2, META_INTERNAL = 4, META_EXCLUSIVE = 4, META_TO_EXCHANGE = 1 };

/* ---- keys ---------------------------------------------------------------------------------------------- */

enum meta_kind meta_kind_of(struct mqg_slice key)
{
    if (mqg_slice_starts(key, MQG_SLICE_LIT("vhost/")))
        return META_VHOST;
    if (mqg_slice_starts(key, MQG_SLICE_LIT("x/")))
        return META_EXCHANGE;
    if (mqg_slice_starts(key, MQG_SLICE_LIT("q/")))
        return META_QUEUE;
    if (mqg_slice_starts(key, MQG_SLICE_LIT("b/")))
        return META_BINDING;
    if (mqg_slice_eq(key, MQG_SLICE_LIT("node/queue_id")))
        return META_QUEUE_ID;
    if (mqg_slice_eq(key, MQG_SLICE_LIT("node/epoch")))
        return META_EPOCH;
    return META_KIND_COUNT;
}

static bool meta_is_node(enum meta_kind kind)
{
    return kind == META_QUEUE_ID || kind == META_EPOCH;
}

/* qsort has no stability of its own, so equal names keep their order by address. */
static int meta_field_order(const void *a, const void *b)
{
    const struct mqg_field *const *x = a, *const *y = b;
    int order = mqg_slice_cmp((*x)->name, (*y)->name);
    return order != 0 ? order : (*x > *y) - (*x < *y);
}

void meta_args_canonical(struct mqg_dynbuf *out, const struct mqg_table *args)
{
    if (args->n < 2) {
        mqg_table_encode(out, args);
        return;
    }
    const struct mqg_field **order = mqg_xcalloc(args->n, sizeof *order);
    struct mqg_field *fields = mqg_xcalloc(args->n, sizeof *fields);
    for (uint32_t i = 0; i < args->n; i++)
        order[i] = &args->fields[i];
    qsort(order, args->n, sizeof *order, meta_field_order);
    for (uint32_t i = 0; i < args->n; i++)
        fields[i] = *order[i];
    struct mqg_table sorted = {fields, args->n, args->n};
    mqg_table_encode(out, &sorted);
    free(fields);
    free(order);
}

static void meta_key_args(struct mqg_dynbuf *out, const struct mqg_table *args)
{
    if (args->n == 0) {
        names_key_part(out, MQG_SLICE_NONE);
        return;
    }
    struct mqg_dynbuf canonical;
    mqg_dynbuf_init(&canonical, META_ARGS_MAX_BYTES);
    meta_args_canonical(&canonical, args);
    out->failed |= canonical.failed;
    uint8_t digest[SHA256_DIGEST_LENGTH];
    SHA256(canonical.ptr, canonical.len, digest);
    mqg_dynbuf_u8(out, '/');
    for (size_t i = 0; i < META_ARGS_DIGEST_BYTES; i++)
        mqg_dynbuf_printf(out, "%02x", digest[i]);
    mqg_dynbuf_fini(&canonical);
}

static void meta_key_binding(struct mqg_dynbuf *out, const struct mqg_binding_def *b)
{
    names_key_part(out, b->source);
    names_key_part(out, b->to_exchange ? MQG_SLICE_LIT("x") : MQG_SLICE_LIT("q"));
    names_key_part(out, b->destination);
    names_key_part(out, b->key);
    meta_key_args(out, &b->args);
}

void meta_key(struct mqg_dynbuf *out, const struct meta_record *r)
{
    static const char *const first[] = {"vhost", "x", "q", "b", "node", "node"};
    MQG_ASSERT(r->kind < META_KIND_COUNT && out->len == 0);
    names_key_part(out, mqg_slice_str(first[r->kind]));
    if (meta_is_node(r->kind)) {
        names_key_part(out, r->kind == META_EPOCH ? MQG_SLICE_LIT("epoch") : MQG_SLICE_LIT("queue_id"));
        return;
    }
    names_key_part(out, r->vhost);
    if (r->kind == META_EXCHANGE)
        names_key_part(out, r->exchange.name);
    else if (r->kind == META_QUEUE)
        names_key_part(out, r->queue.name);
    else if (r->kind == META_BINDING)
        meta_key_binding(out, &r->binding);
}

/* ---- values: writing ----------------------------------------------------------------------------------- */

static void meta_put_string(struct mqg_dynbuf *out, struct mqg_slice s)
{
    if (s.len > UINT16_MAX) {
        out->failed = true;
        return;
    }
    mqg_dynbuf_le16(out, (uint16_t)s.len);
    mqg_dynbuf_slice(out, s);
}

static void meta_put_args(struct mqg_dynbuf *out, const struct mqg_table *args)
{
    size_t at = out->len;
    mqg_dynbuf_le32(out, 0);
    mqg_table_encode(out, args);
    if (out->failed)
        return;
    size_t len = out->len - at - 4;
    if (len > META_ARGS_MAX_BYTES) {
        out->failed = true;
        return;
    }
    mqg_put_le32(out->ptr + at, (uint32_t)len);
}

static uint8_t meta_flags(const struct meta_record *r)
{
    const struct mqg_exchange_def *x = &r->exchange;
    const struct mqg_queue_def *q = &r->queue;
    switch (r->kind) {
    case META_EXCHANGE:
        return (uint8_t)((x->durable ? META_DURABLE : 0) | (x->auto_delete ? META_AUTO_DELETE : 0) |
                         (x->internal ? META_INTERNAL : 0));
    case META_QUEUE:
        return (uint8_t)((q->durable ? META_DURABLE : 0) | (q->auto_delete ? META_AUTO_DELETE : 0) |
                         (q->exclusive ? META_EXCLUSIVE : 0));
    case META_BINDING: return r->binding.to_exchange ? META_TO_EXCHANGE : 0;
    default: return 0;
    }
}

static void meta_put_binding(struct mqg_dynbuf *out, const struct mqg_binding_def *b)
{
    meta_put_string(out, b->source);
    meta_put_string(out, b->destination);
    meta_put_string(out, b->key);
    meta_put_args(out, &b->args);
}

void meta_encode(struct mqg_dynbuf *out, const struct meta_record *r)
{
    mqg_dynbuf_u8(out, META_VERSION);
    mqg_dynbuf_u8(out, meta_flags(r));
    if (r->kind == META_QUEUE || meta_is_node(r->kind))
        mqg_dynbuf_le64(out, r->number);
    if (!meta_is_node(r->kind))
        meta_put_string(out, r->vhost);
    if (r->kind == META_EXCHANGE) {
        meta_put_string(out, r->exchange.name);
        meta_put_string(out, r->exchange.type);
        meta_put_args(out, &r->exchange.args);
    } else if (r->kind == META_QUEUE) {
        meta_put_string(out, r->queue.name);
        meta_put_args(out, &r->queue.args);
    } else if (r->kind == META_BINDING) {
        meta_put_binding(out, &r->binding);
    }
}

/* ---- values: reading ----------------------------------------------------------------------------------- */

static struct mqg_slice meta_take_string(struct mqg_cursor *c)
{
    return mqg_cursor_slice(c, mqg_cursor_le16(c));
}

static enum mqg_err meta_take_args(struct mqg_cursor *c, struct mqg_arena *a, struct mqg_table *out)
{
    uint32_t len = mqg_cursor_le32(c);
    struct mqg_slice bytes = mqg_cursor_slice(c, len);
    if (c->failed)
        return MQG_MALFORMED;
    if (len > META_ARGS_MAX_BYTES)
        return MQG_TOO_LARGE;
    return mqg_table_decode(bytes, a, out);
}

static enum mqg_err meta_take_exchange(struct mqg_cursor *c, uint8_t flags, struct mqg_arena *a,
                                       struct mqg_exchange_def *x)
{
    if (flags & ~(META_DURABLE | META_AUTO_DELETE | META_INTERNAL))
        return MQG_UNSUPPORTED;
    x->durable = flags & META_DURABLE;
    x->auto_delete = flags & META_AUTO_DELETE;
    x->internal = flags & META_INTERNAL;
    x->name = meta_take_string(c);
    x->type = meta_take_string(c);
    return meta_take_args(c, a, &x->args);
}

static enum mqg_err meta_take_queue(struct mqg_cursor *c, uint8_t flags, struct mqg_arena *a,
                                    struct mqg_queue_def *q)
{
    if (flags & ~(META_DURABLE | META_AUTO_DELETE | META_EXCLUSIVE))
        return MQG_UNSUPPORTED;
    q->durable = flags & META_DURABLE;
    q->auto_delete = flags & META_AUTO_DELETE;
    q->exclusive = flags & META_EXCLUSIVE;
    q->name = meta_take_string(c);
    return meta_take_args(c, a, &q->args);
}

static enum mqg_err meta_take_binding(struct mqg_cursor *c, uint8_t flags, struct mqg_arena *a,
                                      struct mqg_binding_def *b)
{
    if (flags & ~META_TO_EXCHANGE)
        return MQG_UNSUPPORTED;
    b->to_exchange = flags & META_TO_EXCHANGE;
    b->source = meta_take_string(c);
    b->destination = meta_take_string(c);
    b->key = meta_take_string(c);
    return meta_take_args(c, a, &b->args);
}

static enum mqg_err meta_take_rest(struct mqg_cursor *c, uint8_t flags, struct mqg_arena *a,
                                   struct meta_record *r)
{
    if (r->kind == META_EXCHANGE)
        return meta_take_exchange(c, flags, a, &r->exchange);
    if (r->kind == META_QUEUE)
        return meta_take_queue(c, flags, a, &r->queue);
    if (r->kind == META_BINDING)
        return meta_take_binding(c, flags, a, &r->binding);
    return flags != 0 ? MQG_UNSUPPORTED : MQG_OK;
}

enum mqg_err meta_decode(enum meta_kind kind, struct mqg_slice value, struct mqg_arena *a,
                         struct meta_record *out)
{
    *out = (struct meta_record){.kind = kind};
    struct mqg_cursor c = mqg_cursor_of(value);
    uint8_t version = mqg_cursor_u8(&c);
    uint8_t flags = mqg_cursor_u8(&c);
    if (c.failed)
        return MQG_MALFORMED;
    if (version != META_VERSION)
        return MQG_UNSUPPORTED;
    if (kind == META_QUEUE || meta_is_node(kind))
        out->number = mqg_cursor_le64(&c);
    if (!meta_is_node(kind))
        out->vhost = meta_take_string(&c);
    enum mqg_err err = meta_take_rest(&c, flags, a, out);
    if (err != MQG_OK)
        return err;
    return mqg_cursor_done(&c) ? MQG_OK : MQG_MALFORMED;
}
