/* value_codec.c - header values as bytes of ours, for overlays and definitions in the store.
 *
 * Little-endian, varints with one spelling only, and a version in front, because stored bytes outlive the
 * code:
 *
 *   document   version:u8 = 1 | table
 *   table      count:varint | count x (length:varint name | value)
 *   value      type:u8 (enum mqg_value_type) | content
 *   content    null: nothing    bool: u8, 0 or 1    int, uint: 1, 2, 4 or 8 bytes    float: 4    double: 8
 *              decimal: scale:u8 unscaled:i32    timestamp: i64    string, bytes: length:varint bytes
 *              array: count:varint | count x value    table: as above
 *
 * The decoder believes nothing: a count is held against the bytes that are left and against the limit on
 * fields before anything is allocated for it, and nesting is bounded, since it recurses. */
#include <mqgate/base.h>
#include <mqgate/value.h>

enum { CODEC_VERSION = 1, CODEC_FIELD_BYTES_MIN = 2, CODEC_ITEM_BYTES_MIN = 1 };

/* ---- encoding ------------------------------------------------------------------------------------------ */

struct codec_writer {
    struct mqg_dynbuf *out;
    uint32_t fields; /* so far, all levels */
};

static void codec_put_table(struct codec_writer *w, const struct mqg_table *t, int depth);

static void codec_put_slice(struct codec_writer *w, struct mqg_slice s)
{
    mqg_dynbuf_varint(w->out, s.len);
    mqg_dynbuf_slice(w->out, s);
}

/* Starts a table or an array of n; false when the tree is over a limit, which the output then shows. */
static bool codec_put_count(struct codec_writer *w, uint32_t n, int depth)
{
    if (depth > MQG_VALUE_DEPTH_MAX || n > MQG_VALUE_FIELDS_MAX - w->fields) {
        w->out->failed = true;
        return false;
    }
    w->fields += n;
    return mqg_dynbuf_varint(w->out, n);
}

static void codec_put_float(struct codec_writer *w, double d)
{
    float f = (float)d;
    mqg_dynbuf_put(w->out, &f, sizeof f);
}

static void codec_put_value(struct codec_writer *w, const struct mqg_value *v, int depth);

static void codec_put_array(struct codec_writer *w, const struct mqg_array *array, int depth)
{
    if (!codec_put_count(w, array->n, depth))
        return;
    for (uint32_t i = 0; i < array->n && !w->out->failed; i++)
        codec_put_value(w, &array->items[i], depth);
}

static void codec_put_value(struct codec_writer *w, const struct mqg_value *v, int depth)
{
    mqg_dynbuf_u8(w->out, (uint8_t)v->type);
    switch (v->type) {
    case MQG_VALUE_NULL: break;
    case MQG_VALUE_BOOL: mqg_dynbuf_u8(w->out, v->boolean); break;
    case MQG_VALUE_INT8:
    case MQG_VALUE_UINT8: mqg_dynbuf_u8(w->out, (uint8_t)v->u); break;
    case MQG_VALUE_INT16:
    case MQG_VALUE_UINT16: mqg_dynbuf_le16(w->out, (uint16_t)v->u); break;
    case MQG_VALUE_INT32:
    case MQG_VALUE_UINT32: mqg_dynbuf_le32(w->out, (uint32_t)v->u); break;
    case MQG_VALUE_INT64:
    case MQG_VALUE_UINT64:
    case MQG_VALUE_TIMESTAMP: mqg_dynbuf_le64(w->out, v->u); break;
    case MQG_VALUE_FLOAT: codec_put_float(w, v->d); break;
    case MQG_VALUE_DOUBLE: mqg_dynbuf_put(w->out, &v->d, sizeof v->d); break;
    case MQG_VALUE_DECIMAL:
        mqg_dynbuf_u8(w->out, v->dec.scale);
        mqg_dynbuf_le32(w->out, (uint32_t)v->dec.unscaled);
        break;
    case MQG_VALUE_STRING:
    case MQG_VALUE_BYTES: codec_put_slice(w, v->bytes); break;
    case MQG_VALUE_ARRAY: codec_put_array(w, &v->array, depth + 1); break;
    case MQG_VALUE_TABLE: codec_put_table(w, &v->table, depth + 1); break;
    case MQG_VALUE_TYPE_COUNT: MQG_ASSERT(false);
    }
}

static void codec_put_table(struct codec_writer *w, const struct mqg_table *t, int depth)
{
    if (!codec_put_count(w, t->n, depth))
        return;
    for (uint32_t i = 0; i < t->n && !w->out->failed; i++) {
        codec_put_slice(w, t->fields[i].name);
        codec_put_value(w, &t->fields[i].value, depth);
    }
}

void mqg_table_encode(struct mqg_dynbuf *out, const struct mqg_table *t)
{
    struct codec_writer w = {.out = out};
    mqg_dynbuf_u8(out, CODEC_VERSION);
    codec_put_table(&w, t, 0);
}

/* ---- decoding ------------------------------------------------------------------------------------------ */

struct codec_reader {
    struct mqg_cursor in;
    struct mqg_arena *arena;
    uint32_t fields;  /* so far, all levels */
    enum mqg_err err; /* the first fault */
};

static void codec_get_table(struct codec_reader *r, struct mqg_table *t, int depth);
static void codec_get_value(struct codec_reader *r, struct mqg_value *v, int depth);

static void codec_fail(struct codec_reader *r, enum mqg_err err)
{
    if (r->err == MQG_OK)
        r->err = err;
    mqg_cursor_fail(&r->in);
}

/* The number of elements of a table or array and room for them; NULL when a limit or the bytes forbid it. */
static void *codec_get_count(struct codec_reader *r, int depth, size_t bytes_min, size_t size, uint32_t *n)
{
    uint64_t count = mqg_cursor_varint(&r->in);
    *n = 0;
    if (r->in.failed || count > mqg_cursor_left(&r->in) / bytes_min) {
        codec_fail(r, MQG_MALFORMED);
        return NULL;
    }
    if (depth > MQG_VALUE_DEPTH_MAX || count > MQG_VALUE_FIELDS_MAX - r->fields) {
        codec_fail(r, MQG_TOO_LARGE);
        return NULL;
    }
    void *room = mqg_arena_alloc(r->arena, count * size);
    if (room == NULL) {
        codec_fail(r, MQG_NO_MEMORY);
        return NULL;
    }
    *n = (uint32_t)count;
    r->fields += *n;
    return room;
}

static struct mqg_slice codec_get_slice(struct codec_reader *r)
{
    uint64_t len = mqg_cursor_varint(&r->in);
    return mqg_cursor_slice(&r->in, len);
}

static void codec_get_bool(struct codec_reader *r, struct mqg_value *v)
{
    uint8_t byte = mqg_cursor_u8(&r->in);
    if (byte > 1)
        codec_fail(r, MQG_MALFORMED);
    v->boolean = byte == 1;
}

static double codec_get_float(struct codec_reader *r)
{
    uint32_t bits = mqg_cursor_le32(&r->in);
    float f;
    memcpy(&f, &bits, sizeof f);
    return (double)f;
}

static double codec_get_double(struct codec_reader *r)
{
    uint64_t bits = mqg_cursor_le64(&r->in);
    double d;
    memcpy(&d, &bits, sizeof d);
    return d;
}

static void codec_get_array(struct codec_reader *r, struct mqg_array *array, int depth)
{
    array->items = codec_get_count(r, depth, CODEC_ITEM_BYTES_MIN, sizeof *array->items, &array->n);
    array->cap = array->n;
    for (uint32_t i = 0; i < array->n && !r->in.failed; i++)
        codec_get_value(r, &array->items[i], depth);
}

static void codec_get_decimal(struct codec_reader *r, struct mqg_value *v)
{
    v->dec.scale = mqg_cursor_u8(&r->in);
    v->dec.unscaled = (int32_t)mqg_cursor_le32(&r->in);
}

static void codec_get_value(struct codec_reader *r, struct mqg_value *v, int depth)
{
    uint8_t type = mqg_cursor_u8(&r->in);
    if (type >= MQG_VALUE_TYPE_COUNT) {
        codec_fail(r, MQG_MALFORMED);
        return;
    }
    v->type = (enum mqg_value_type)type;
    switch (v->type) {
    case MQG_VALUE_NULL: break;
    case MQG_VALUE_BOOL: codec_get_bool(r, v); break;
    case MQG_VALUE_INT8: v->i = (int8_t)mqg_cursor_u8(&r->in); break;
    case MQG_VALUE_INT16: v->i = (int16_t)mqg_cursor_le16(&r->in); break;
    case MQG_VALUE_INT32: v->i = (int32_t)mqg_cursor_le32(&r->in); break;
    case MQG_VALUE_INT64:
    case MQG_VALUE_TIMESTAMP: v->i = (int64_t)mqg_cursor_le64(&r->in); break;
    case MQG_VALUE_UINT8: v->u = mqg_cursor_u8(&r->in); break;
    case MQG_VALUE_UINT16: v->u = mqg_cursor_le16(&r->in); break;
    case MQG_VALUE_UINT32: v->u = mqg_cursor_le32(&r->in); break;
    case MQG_VALUE_UINT64: v->u = mqg_cursor_le64(&r->in); break;
    case MQG_VALUE_FLOAT: v->d = codec_get_float(r); break;
    case MQG_VALUE_DOUBLE: v->d = codec_get_double(r); break;
    case MQG_VALUE_DECIMAL: codec_get_decimal(r, v); break;
    case MQG_VALUE_STRING:
    case MQG_VALUE_BYTES: v->bytes = codec_get_slice(r); break;
    case MQG_VALUE_ARRAY: codec_get_array(r, &v->array, depth + 1); break;
    case MQG_VALUE_TABLE: codec_get_table(r, &v->table, depth + 1); break;
    case MQG_VALUE_TYPE_COUNT: break;
    }
}

static void codec_get_table(struct codec_reader *r, struct mqg_table *t, int depth)
{
    t->fields = codec_get_count(r, depth, CODEC_FIELD_BYTES_MIN, sizeof *t->fields, &t->n);
    t->cap = t->n;
    for (uint32_t i = 0; i < t->n && !r->in.failed; i++) {
        t->fields[i].name = codec_get_slice(r);
        codec_get_value(r, &t->fields[i].value, depth);
    }
}

enum mqg_err mqg_table_decode(struct mqg_slice in, struct mqg_arena *a, struct mqg_table *out)
{
    struct codec_reader r = {.in = mqg_cursor_of(in), .arena = a};
    *out = (struct mqg_table){.fields = NULL};
    uint8_t version = mqg_cursor_u8(&r.in);
    if (!r.in.failed && version != CODEC_VERSION)
        return version == 0 ? MQG_MALFORMED : MQG_UNSUPPORTED;
    struct mqg_table t;
    codec_get_table(&r, &t, 0);
    if (r.err != MQG_OK)
        return r.err;
    if (!mqg_cursor_done(&r.in))
        return MQG_MALFORMED;
    *out = t;
    return MQG_OK;
}
