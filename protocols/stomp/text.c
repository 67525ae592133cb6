/* text.c - typed values as text that people and programs read: the same words that other text protocols get (MAPPING,
 * "Keys, headers, values"). A double is written so that it reads back as the same one. */
#include "text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void stomp_base64_encode(struct mqg_dynbuf *out, struct mqg_slice in)
{
    for (size_t i = 0; i < in.len; i += 3) {
        uint32_t bits = (uint32_t)in.ptr[i] << 16;
        if (i + 1 < in.len)
            bits |= (uint32_t)in.ptr[i + 1] << 8;
        if (i + 2 < in.len)
            bits |= in.ptr[i + 2];
        char four[4] = {base64_digits[bits >> 18], base64_digits[bits >> 12 & 63],
                        i + 1 < in.len ? base64_digits[bits >> 6 & 63] : '=',
                        i + 2 < in.len ? base64_digits[bits & 63] : '='};
        mqg_dynbuf_put(out, four, sizeof four);
    }
}

static int base64_value(uint8_t c)
{
    const char *at = c != 0 ? memchr(base64_digits, c, 64) : NULL;
    return at != NULL ? (int)(at - base64_digits) : -1;
}

bool stomp_base64_decode(struct mqg_slice in, struct mqg_arena *a, struct mqg_slice *out)
{
    if (in.len % 4 != 0)
        return false;
    size_t pad = in.len > 0 && in.ptr[in.len - 1] == '=' ? (in.ptr[in.len - 2] == '=' ? 2 : 1) : 0, n = 0;
    uint8_t *to = mqg_arena_alloc(a, in.len / 4 * 3 + 1);
    if (to == NULL)
        return false;
    for (size_t i = 0; i < in.len; i += 4) {
        uint32_t bits = 0;
        for (size_t k = 0; k < 4; k++) {
            bool padding = i + k >= in.len - pad;
            int value = padding ? 0 : base64_value(in.ptr[i + k]);
            if (value < 0)
                return false;
            bits = bits << 6 | (uint32_t)value;
        }
        to[n++] = (uint8_t)(bits >> 16);
        to[n++] = (uint8_t)(bits >> 8);
        to[n++] = (uint8_t)bits;
    }
    *out = mqg_slice_of(to, n - pad);
    return true;
}

/* The shortest of three that reads back as the same number. */
static void text_double(struct mqg_dynbuf *out, double d, bool is_float)
{
    char text[40];
    for (int digits = is_float ? 6 : 15; digits <= (is_float ? 9 : 17); digits++) {
        snprintf(text, sizeof text, "%.*g", digits, d);
        double back = strtod(text, NULL);
        if (is_float ? (float)back == (float)d : back == d)
            break;
    }
    mqg_dynbuf_printf(out, "%s", isnan(d) ? "NaN" : isinf(d) ? (d > 0 ? "Infinity" : "-Infinity") : text);
}

static void text_timestamp(struct mqg_dynbuf *out, int64_t us)
{
    int64_t s = us / 1000000, rest = us % 1000000;
    if (rest < 0) {
        rest += 1000000;
        s--;
    }
    time_t at = (time_t)s;
    struct tm tm;
    char text[64];
    if (gmtime_r(&at, &tm) == NULL || strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm) == 0) {
        mqg_dynbuf_printf(out, "%lld", (long long)us);
        return;
    }
    mqg_dynbuf_printf(out, "%s", text);
    if (rest != 0)
        mqg_dynbuf_printf(out, ".%06lld", (long long)rest);
    mqg_dynbuf_u8(out, 'Z');
}

static void text_decimal(struct mqg_dynbuf *out, uint8_t scale, int32_t unscaled)
{
    int64_t n = unscaled < 0 ? -(int64_t)unscaled : unscaled;
    char digits[280];
    int len = snprintf(digits, sizeof digits, "%0*lld", scale + 1, (long long)n);
    mqg_dynbuf_printf(out, "%s%.*s", unscaled < 0 ? "-" : "", len - scale, digits);
    if (scale > 0)
        mqg_dynbuf_printf(out, ".%s", digits + len - scale);
}

/* JSON of a table with the array as its one field, without the table. */
static void text_array(struct mqg_dynbuf *out, const struct mqg_value *v)
{
    struct mqg_field f = {.name = MQG_SLICE_LIT("a"), .value = *v};
    struct mqg_table t = {.fields = &f, .n = 1, .cap = 1};
    struct mqg_dynbuf json;
    mqg_dynbuf_init(&json, out->max);
    mqg_table_json(&json, &t);
    const uint8_t *open = json.len > 0 ? memchr(json.ptr, '[', json.len) : NULL;
    if (json.failed || open == NULL || json.ptr[json.len - 1] != '}')
        out->failed = true;
    else
        mqg_dynbuf_put(out, open, (size_t)(json.ptr + json.len - 1 - open));
    mqg_dynbuf_fini(&json);
}

static void text_string(struct mqg_dynbuf *out, struct mqg_slice s)
{
    if (s.len > 0 && memchr(s.ptr, 0, s.len) != NULL)
        stomp_base64_encode(out, s);
    else
        mqg_dynbuf_slice(out, s);
}

void stomp_text_of(struct mqg_dynbuf *out, const struct mqg_value *v)
{
    switch (v->type) {
    case MQG_VALUE_NULL: break;
    case MQG_VALUE_BOOL: mqg_dynbuf_printf(out, "%s", v->boolean ? "true" : "false"); break;
    case MQG_VALUE_INT8:
    case MQG_VALUE_INT16:
    case MQG_VALUE_INT32:
    case MQG_VALUE_INT64: mqg_dynbuf_printf(out, "%lld", (long long)v->i); break;
    case MQG_VALUE_UINT8:
    case MQG_VALUE_UINT16:
    case MQG_VALUE_UINT32:
    case MQG_VALUE_UINT64: mqg_dynbuf_printf(out, "%llu", (unsigned long long)v->u); break;
    case MQG_VALUE_FLOAT:
    case MQG_VALUE_DOUBLE: text_double(out, v->d, v->type == MQG_VALUE_FLOAT); break;
    case MQG_VALUE_DECIMAL: text_decimal(out, v->dec.scale, v->dec.unscaled); break;
    case MQG_VALUE_TIMESTAMP: text_timestamp(out, v->i); break;
    case MQG_VALUE_STRING: text_string(out, v->bytes); break;
    case MQG_VALUE_BYTES: stomp_base64_encode(out, v->bytes); break;
    case MQG_VALUE_ARRAY: text_array(out, v); break;
    case MQG_VALUE_TABLE: mqg_table_json(out, &v->table); break;
    case MQG_VALUE_TYPE_COUNT: break;
    }
}
