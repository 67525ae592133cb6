/* table_encode.c - writes field tables.
 *
 * Nested tables stand behind their length, which is known when they are written: room is left for it and
 * filled in afterwards. A field that AMQP cannot say is taken back to where it began and counted, so that one
 * bad header does not cost a message its others. Recursion is bounded by MQG_VALUE_DEPTH_MAX: a tree that a
 * module built deeper loses what is below. */
#include "table.h"

#include <inttypes.h>
#include <stdio.h>

struct table_writer {
    struct mqg_dynbuf *out;
    uint32_t dropped;
    uint32_t depth; /* open tables and arrays, without the outermost */
};

static bool writer_value(struct table_writer *w, const struct mqg_value *v);

static void writer_letter(struct table_writer *w, char letter)
{
    (void)mqg_dynbuf_u8(w->out, (uint8_t)letter);
}

static bool writer_bytes(struct table_writer *w, char letter, struct mqg_slice bytes)
{
    if (bytes.len > UINT32_MAX)
        return false;
    writer_letter(w, letter);
    (void)mqg_dynbuf_be32(w->out, (uint32_t)bytes.len);
    (void)mqg_dynbuf_slice(w->out, bytes);
    return true;
}

static bool writer_uint64(struct table_writer *w, uint64_t value)
{
    char digits[24];
    if (value <= INT64_MAX) {
        writer_letter(w, 'l');
        (void)mqg_dynbuf_be64(w->out, value);
        return true;
    }
    snprintf(digits, sizeof digits, "%" PRIu64, value);
    return writer_bytes(w, 'S', mqg_slice_str(digits));
}

static bool writer_timestamp(struct table_writer *w, int64_t us)
{
    if (us < 0)
        return false;
    writer_letter(w, 'T');
    (void)mqg_dynbuf_be64(w->out, (uint64_t)us / 1000000u);
    return true;
}

static bool writer_float(struct table_writer *w, double value)
{
    const float narrow = (float)value;
    uint32_t bits;
    memcpy(&bits, &narrow, sizeof bits);
    writer_letter(w, 'f');
    (void)mqg_dynbuf_be32(w->out, bits);
    return true;
}

static bool writer_double(struct table_writer *w, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    writer_letter(w, 'd');
    (void)mqg_dynbuf_be64(w->out, bits);
    return true;
}

static bool writer_decimal(struct table_writer *w, const struct mqg_value *v)
{
    writer_letter(w, 'D');
    (void)mqg_dynbuf_u8(w->out, v->dec.scale);
    (void)mqg_dynbuf_be32(w->out, (uint32_t)v->dec.unscaled);
    return true;
}

/* Forgets a field that cannot be said. */
static void writer_take_back(struct table_writer *w, size_t len)
{
    w->out->len = len;
    w->dropped++;
}

static void writer_fields(struct table_writer *w, const struct mqg_table *t)
{
    for (uint32_t i = 0; i < t->n && !w->out->failed; i++) {
        const struct mqg_field *field = &t->fields[i];
        const size_t start = w->out->len;
        bool said = field->name.len <= AMQP_SHORTSTR_MAX_BYTES;
        if (said) {
            (void)mqg_dynbuf_u8(w->out, (uint8_t)field->name.len);
            (void)mqg_dynbuf_slice(w->out, field->name);
            said = writer_value(w, &field->value);
        }
        if (!said && !w->out->failed)
            writer_take_back(w, start);
    }
}

static void writer_items(struct table_writer *w, const struct mqg_array *array)
{
    for (uint32_t i = 0; i < array->n && !w->out->failed; i++) {
        const size_t start = w->out->len;
        if (!writer_value(w, &array->items[i]) && !w->out->failed)
            writer_take_back(w, start);
    }
}

static bool writer_nested(struct table_writer *w, const struct mqg_value *v)
{
    if (w->depth >= MQG_VALUE_DEPTH_MAX)
        return false;
    w->depth++;
    writer_letter(w, v->type == MQG_VALUE_TABLE ? 'F' : 'A');
    const size_t length_at = w->out->len;
    (void)mqg_dynbuf_be32(w->out, 0);
    if (v->type == MQG_VALUE_TABLE)
        writer_fields(w, &v->table);
    else
        writer_items(w, &v->array);
    w->depth--;
    if (w->out->failed)
        return true;
    const size_t len = w->out->len - length_at - 4;
    if (len > UINT32_MAX)
        return false;
    mqg_put_be32(w->out->ptr + length_at, (uint32_t)len);
    return true;
}

/* False when AMQP cannot say the value; what was written of it is then the caller's to take back. */
static bool writer_value(struct table_writer *w, const struct mqg_value *v)
{
    switch (v->type) {
    case MQG_VALUE_NULL: writer_letter(w, 'V'); return true;
    case MQG_VALUE_BOOL: writer_letter(w, 't'); return mqg_dynbuf_u8(w->out, v->boolean);
    case MQG_VALUE_INT8: writer_letter(w, 'b'); return mqg_dynbuf_u8(w->out, (uint8_t)v->i);
    case MQG_VALUE_UINT8: writer_letter(w, 'B'); return mqg_dynbuf_u8(w->out, (uint8_t)v->u);
    case MQG_VALUE_INT16: writer_letter(w, 's'); return mqg_dynbuf_be16(w->out, (uint16_t)v->i);
    case MQG_VALUE_UINT16: writer_letter(w, 'u'); return mqg_dynbuf_be16(w->out, (uint16_t)v->u);
    case MQG_VALUE_INT32: writer_letter(w, 'I'); return mqg_dynbuf_be32(w->out, (uint32_t)v->i);
    case MQG_VALUE_UINT32: writer_letter(w, 'i'); return mqg_dynbuf_be32(w->out, (uint32_t)v->u);
    case MQG_VALUE_INT64: writer_letter(w, 'l'); return mqg_dynbuf_be64(w->out, (uint64_t)v->i);
    case MQG_VALUE_UINT64: return writer_uint64(w, v->u);
    case MQG_VALUE_FLOAT: return writer_float(w, v->d);
    case MQG_VALUE_DOUBLE: return writer_double(w, v->d);
    case MQG_VALUE_DECIMAL: return writer_decimal(w, v);
    case MQG_VALUE_TIMESTAMP: return writer_timestamp(w, v->i);
    case MQG_VALUE_STRING: return writer_bytes(w, 'S', v->bytes);
    case MQG_VALUE_BYTES: return writer_bytes(w, 'x', v->bytes);
    case MQG_VALUE_ARRAY:
    case MQG_VALUE_TABLE: return writer_nested(w, v);
    case MQG_VALUE_TYPE_COUNT: break;
    }
    return false;
}

enum mqg_err amqp_table_encode(struct mqg_dynbuf *out, const struct mqg_table *t, uint32_t *dropped)
{
    struct table_writer w = {.out = out, .dropped = 0, .depth = 0};
    writer_fields(&w, t);
    if (dropped != NULL)
        *dropped = w.dropped;
    return out->failed ? MQG_TOO_LARGE : MQG_OK;
}
