/* value_json.c - header values as JSON text, for listings that people and dashboards read.
 *
 * Not a storage form: what JSON lacks is shown, not kept. Bytes that are no text become base64, a timestamp
 * its microseconds, a decimal a number with an exponent. A name that repeats would make an object whose
 * second value most readers drop, so it becomes an array at its first place. Written by hand rather than by
 * jansson, because the bytes are a peer's and the output has a maximum. */
#include <mqgate/base.h>
#include <mqgate/value.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void json_value(struct mqg_dynbuf *out, const struct mqg_value *v, int depth);

static void json_raw(struct mqg_dynbuf *out, const char *text)
{
    mqg_dynbuf_slice(out, mqg_slice_str(text));
}

static void json_base64(struct mqg_dynbuf *out, struct mqg_slice s)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < s.len && !out->failed; i += 3) {
        size_t n = s.len - i < 3 ? s.len - i : 3;
        uint32_t bits = (uint32_t)s.ptr[i] << 16;
        bits |= n > 1 ? (uint32_t)s.ptr[i + 1] << 8 : 0;
        bits |= n > 2 ? s.ptr[i + 2] : 0;
        char quad[4] = {digits[bits >> 18], digits[bits >> 12 & 63], digits[bits >> 6 & 63],
                        digits[bits & 63]};
        if (n < 3)
            quad[3] = '=';
        if (n < 2)
            quad[2] = '=';
        mqg_dynbuf_put(out, quad, sizeof quad);
    }
}

static void json_char(struct mqg_dynbuf *out, uint8_t c)
{
    if (c == '"' || c == '\\')
        mqg_dynbuf_u8(out, '\\');
    if (c < 0x20 || c == 0x7f)
        mqg_dynbuf_printf(out, "\\u%04x", c);
    else
        mqg_dynbuf_u8(out, c);
}

static void json_string(struct mqg_dynbuf *out, struct mqg_slice s)
{
    mqg_dynbuf_u8(out, '"');
    if (!mqg_utf8_valid(s))
        json_base64(out, s);
    else
        for (size_t i = 0; i < s.len && !out->failed; i++)
            json_char(out, s.ptr[i]);
    mqg_dynbuf_u8(out, '"');
}

/* The shortest digits that read back as the same number: 0.1 and not 0.10000000000000001. */
static void json_double(struct mqg_dynbuf *out, double d, bool is_float)
{
    if (d != d || d - d != 0) {
        json_raw(out, d != d ? "\"NaN\"" : d > 0 ? "\"Infinity\"" : "\"-Infinity\"");
        return;
    }
    char text[40];
    for (int digits = is_float ? 6 : 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, d);
        if (is_float ? (double)strtof(text, NULL) == d : strtod(text, NULL) == d)
            break;
    }
    json_raw(out, text);
}

static void json_array(struct mqg_dynbuf *out, const struct mqg_array *array, int depth)
{
    mqg_dynbuf_u8(out, '[');
    for (uint32_t i = 0; i < array->n && !out->failed; i++) {
        if (i > 0)
            mqg_dynbuf_u8(out, ',');
        json_value(out, &array->items[i], depth);
    }
    mqg_dynbuf_u8(out, ']');
}

/* All values of the name of field `first`, which repeats, as one array. */
static void json_repeated(struct mqg_dynbuf *out, const struct mqg_table *t, uint32_t first, int depth)
{
    mqg_dynbuf_u8(out, '[');
    for (uint32_t i = first; i < t->n && !out->failed; i++) {
        if (!mqg_slice_eq(t->fields[i].name, t->fields[first].name))
            continue;
        if (i > first)
            mqg_dynbuf_u8(out, ',');
        json_value(out, &t->fields[i].value, depth);
    }
    mqg_dynbuf_u8(out, ']');
}

static bool json_name_within(const struct mqg_table *t, struct mqg_slice name, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++)
        if (mqg_slice_eq(t->fields[i].name, name))
            return true;
    return false;
}

static void json_table(struct mqg_dynbuf *out, const struct mqg_table *t, int depth)
{
    mqg_dynbuf_u8(out, '{');
    for (uint32_t i = 0; i < t->n && !out->failed; i++) {
        struct mqg_slice name = t->fields[i].name;
        if (json_name_within(t, name, 0, i))
            continue; /* stands in the array at its first place */
        if (i > 0)
            mqg_dynbuf_u8(out, ',');
        json_string(out, name);
        mqg_dynbuf_u8(out, ':');
        if (json_name_within(t, name, i + 1, t->n))
            json_repeated(out, t, i, depth);
        else
            json_value(out, &t->fields[i].value, depth);
    }
    mqg_dynbuf_u8(out, '}');
}

static void json_nested(struct mqg_dynbuf *out, const struct mqg_value *v, int depth)
{
    if (depth > MQG_VALUE_DEPTH_MAX)
        out->failed = true;
    else if (v->type == MQG_VALUE_ARRAY)
        json_array(out, &v->array, depth);
    else
        json_table(out, &v->table, depth);
}

static void json_value(struct mqg_dynbuf *out, const struct mqg_value *v, int depth)
{
    switch (v->type) {
    case MQG_VALUE_NULL: json_raw(out, "null"); break;
    case MQG_VALUE_BOOL: json_raw(out, v->boolean ? "true" : "false"); break;
    case MQG_VALUE_INT8:
    case MQG_VALUE_INT16:
    case MQG_VALUE_INT32:
    case MQG_VALUE_INT64:
    case MQG_VALUE_TIMESTAMP: mqg_dynbuf_printf(out, "%" PRId64, v->i); break;
    case MQG_VALUE_UINT8:
    case MQG_VALUE_UINT16:
    case MQG_VALUE_UINT32:
    case MQG_VALUE_UINT64: mqg_dynbuf_printf(out, "%" PRIu64, v->u); break;
    case MQG_VALUE_FLOAT:
    case MQG_VALUE_DOUBLE: json_double(out, v->d, v->type == MQG_VALUE_FLOAT); break;
    case MQG_VALUE_DECIMAL: mqg_dynbuf_printf(out, "%" PRId32 "e-%d", v->dec.unscaled, v->dec.scale); break;
    case MQG_VALUE_STRING:
    case MQG_VALUE_BYTES: json_string(out, v->bytes); break;
    case MQG_VALUE_ARRAY:
    case MQG_VALUE_TABLE: json_nested(out, v, depth + 1); break;
    case MQG_VALUE_TYPE_COUNT: MQG_ASSERT(false);
    }
}

void mqg_table_json(struct mqg_dynbuf *out, const struct mqg_table *t)
{
    json_table(out, t, 0);
}
