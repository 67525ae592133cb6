/* natural.c - header values as text: what a Kafka client sees of a typed header.
 *
 * The text is for readers who know nothing of us; the type stands in mqgate-origin. So a tool that rewrites "5" to "6" on its
 * way changes the value, and the type holds. What text cannot say exactly (NaN's bits, years beyond 9999, nested values) is
 * kept whole in mqgate-origin instead, and its text is a service to readers. */
#include "natural.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { NUMBER_TEXT_MAX = 64 };
#define SECONDS_A_DAY 86400
#define TIME_US_MIN   (-INT64_C(62167219200) * 1000000)     /* year 0 */
#define TIME_US_MAX   (INT64_C(253402300800) * 1000000 - 1) /* the end of 9999 */

/* ---- times: days from the civil calendar and back, in eras of 400 years that begin in March ---------------------------- */

static int64_t days_of(int64_t y, unsigned m, unsigned d)
{
    y -= m <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t year = y - era * 400;
    int64_t day = (153 * ((int64_t)m + (m > 2 ? -3 : 9)) + 2) / 5 + (int64_t)d - 1;
    return era * 146097 + year * 365 + year / 4 - year / 100 + day - 719468;
}

static void civil_of(int64_t days, int64_t *y, unsigned *m, unsigned *d)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t of_era = days - era * 146097;
    int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
    int64_t mp = (5 * of_year + 2) / 153;
    *d = (unsigned)(of_year - (153 * mp + 2) / 5 + 1);
    *m = (unsigned)(mp < 10 ? mp + 3 : mp - 9);
    *y = year + era * 400 + (*m <= 2);
}

bool natural_put_time(struct mqg_dynbuf *out, int64_t us)
{
    if (us < TIME_US_MIN || us > TIME_US_MAX)
        return false;
    int64_t s = us / 1000000, rest = us % 1000000;
    if (rest < 0) {
        rest += 1000000;
        s--;
    }
    int64_t days = s / SECONDS_A_DAY, second = s % SECONDS_A_DAY;
    if (second < 0) {
        second += SECONDS_A_DAY;
        days--;
    }
    int64_t y;
    unsigned m, d;
    civil_of(days, &y, &m, &d);
    mqg_dynbuf_printf(out, "%04" PRId64 "-%02u-%02uT%02" PRId64 ":%02" PRId64 ":%02" PRId64, y, m, d,
                      second / 3600, second / 60 % 60, second % 60);
    if (rest > 0)
        mqg_dynbuf_printf(out, ".%06" PRId64, rest);
    return mqg_dynbuf_u8(out, 'Z');
}

/* n digits at the front of c as a number; the cursor fails when they are none. */
static int64_t take_digits(struct mqg_cursor *c, unsigned n)
{
    int64_t value = 0;
    while (n-- > 0) {
        uint8_t digit = mqg_cursor_u8(c);
        if (digit < '0' || digit > '9')
            mqg_cursor_fail(c);
        value = value * 10 + (digit - '0');
    }
    return value;
}

static void take_char(struct mqg_cursor *c, char wanted)
{
    if (mqg_cursor_u8(c) != (uint8_t)wanted)
        mqg_cursor_fail(c);
}

static int64_t take_fraction(struct mqg_cursor *c)
{
    int64_t us = 0, unit = 100000;
    if (mqg_cursor_left(c) == 0 || *c->pos != '.')
        return 0;
    (void)mqg_cursor_u8(c);
    do {
        us += take_digits(c, 1) * unit;
        unit /= 10;
    } while (unit > 0 && mqg_cursor_left(c) > 0 && *c->pos >= '0' && *c->pos <= '9');
    return us;
}

bool natural_take_time(struct mqg_slice text, int64_t *us)
{
    struct mqg_cursor c = mqg_cursor_of(text);
    int64_t y = take_digits(&c, 4);
    take_char(&c, '-');
    int64_t m = take_digits(&c, 2);
    take_char(&c, '-');
    int64_t d = take_digits(&c, 2);
    take_char(&c, 'T');
    int64_t second = take_digits(&c, 2) * 3600;
    take_char(&c, ':');
    second += take_digits(&c, 2) * 60;
    take_char(&c, ':');
    second += take_digits(&c, 2);
    int64_t fraction = take_fraction(&c);
    take_char(&c, 'Z');
    if (!mqg_cursor_done(&c) || m < 1 || m > 12 || d < 1 || d > 31 || second > SECONDS_A_DAY)
        return false;
    *us = (days_of(y, (unsigned)m, (unsigned)d) * SECONDS_A_DAY + second) * 1000000 + fraction;
    return true;
}

/* ---- numbers ----------------------------------------------------------------------------------------------------------- */

/* The shortest digits that read back as the same number. */
static bool put_double(struct mqg_dynbuf *out, double d, bool is_float)
{
    char text[NUMBER_TEXT_MAX];
    if (!isfinite(d)) {
        mqg_dynbuf_slice(out, mqg_slice_str(isnan(d) ? "NaN" : d > 0 ? "Infinity" : "-Infinity"));
        return false;
    }
    for (int digits = is_float ? 6 : 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, d);
        if (is_float ? (double)strtof(text, NULL) == d : strtod(text, NULL) == d)
            break;
    }
    mqg_dynbuf_slice(out, mqg_slice_str(text));
    return !is_float || (double)(float)d == d;
}

static bool put_decimal(struct mqg_dynbuf *out, uint8_t scale, int32_t unscaled)
{
    char digits[NUMBER_TEXT_MAX];
    int64_t magnitude = unscaled < 0 ? -(int64_t)unscaled : unscaled;
    int n = snprintf(digits, sizeof digits, "%0*" PRId64, scale < 32 ? scale + 1 : 32, magnitude);
    if (scale >= 32) { /* nobody's decimal */
        mqg_dynbuf_printf(out, "%" PRId32 "e-%u", unscaled, scale);
        return false;
    }
    if (unscaled < 0)
        mqg_dynbuf_u8(out, '-');
    mqg_dynbuf_put(out, digits, (size_t)n - scale);
    if (scale > 0) {
        mqg_dynbuf_u8(out, '.');
        mqg_dynbuf_put(out, digits + n - scale, scale);
    }
    return true;
}

static bool take_integer(struct mqg_slice text, bool *negative, uint64_t *magnitude)
{
    size_t at = text.len > 0 && text.ptr[0] == '-';
    *negative = at == 1;
    *magnitude = 0;
    if (at == text.len || text.len - at > 20)
        return false;
    for (; at < text.len; at++) {
        unsigned digit = (unsigned)text.ptr[at] - '0';
        if (digit > 9 || *magnitude > (UINT64_MAX - digit) / 10)
            return false;
        *magnitude = *magnitude * 10 + digit;
    }
    return true;
}

static bool take_signed(struct mqg_slice text, int64_t min, int64_t max, int64_t *out)
{
    bool negative;
    uint64_t magnitude;
    if (!take_integer(text, &negative, &magnitude) || magnitude > (uint64_t)INT64_MAX + negative)
        return false;
    *out = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return *out >= min && *out <= max;
}

static bool take_unsigned(struct mqg_slice text, uint64_t max, uint64_t *out)
{
    bool negative;
    return take_integer(text, &negative, out) && !negative && *out <= max;
}

static bool take_double(struct mqg_slice text, bool is_float, double *out)
{
    char copy[NUMBER_TEXT_MAX], *end;
    if (text.len == 0 || text.len >= sizeof copy)
        return false;
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    *out = is_float ? (double)strtof(copy, &end) : strtod(copy, &end);
    return *end == '\0' && isfinite(*out) && end == copy + text.len;
}

static bool take_decimal(struct mqg_slice text, struct mqg_value *out)
{
    char digits[NUMBER_TEXT_MAX];
    size_t n = 0;
    bool point = false;
    out->dec.scale = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '.' && !point) {
            point = true;
            continue;
        }
        if (n == sizeof digits)
            return false;
        digits[n++] = (char)text.ptr[i];
        out->dec.scale = (uint8_t)(out->dec.scale + point);
    }
    int64_t unscaled;
    size_t zeros = n > 0 && digits[0] == '-';
    size_t first = zeros;
    while (first + 1 < n && digits[first] == '0')
        first++;
    if (zeros == 1 && first > 0)
        digits[--first] = '-';
    if (!take_signed(mqg_slice_of(digits + first, n - first), INT32_MIN, INT32_MAX, &unscaled))
        return false;
    out->dec.unscaled = (int32_t)unscaled;
    return true;
}

/* ---- values ------------------------------------------------------------------------------------------------------------ */

/* JSON of an array: that of a table which holds nothing else, without the table. */
static void put_json(struct mqg_dynbuf *out, const struct mqg_value *v)
{
    if (v->type == MQG_VALUE_TABLE) {
        mqg_table_json(out, &v->table);
        return;
    }
    struct mqg_field field = {MQG_SLICE_LIT("v"), *v};
    struct mqg_table table = {&field, 1, 1};
    size_t at = out->len;
    mqg_table_json(out, &table);
    const size_t front = sizeof("{\"v\":") - 1;
    if (out->failed || out->len - at <= front)
        return;
    out->len -= front + 1;
    memmove(out->ptr + at, out->ptr + at + front, out->len - at);
}

bool natural_put(struct mqg_dynbuf *out, const struct mqg_value *v)
{
    switch (v->type) {
    case MQG_VALUE_NULL: return true;
    case MQG_VALUE_BOOL: mqg_dynbuf_slice(out, mqg_slice_str(v->boolean ? "true" : "false")); return true;
    case MQG_VALUE_INT8:
    case MQG_VALUE_INT16:
    case MQG_VALUE_INT32:
    case MQG_VALUE_INT64: mqg_dynbuf_printf(out, "%" PRId64, v->i); return true;
    case MQG_VALUE_UINT8:
    case MQG_VALUE_UINT16:
    case MQG_VALUE_UINT32:
    case MQG_VALUE_UINT64: mqg_dynbuf_printf(out, "%" PRIu64, v->u); return true;
    case MQG_VALUE_FLOAT:
    case MQG_VALUE_DOUBLE: return put_double(out, v->d, v->type == MQG_VALUE_FLOAT);
    case MQG_VALUE_DECIMAL: return put_decimal(out, v->dec.scale, v->dec.unscaled);
    case MQG_VALUE_TIMESTAMP:
        if (natural_put_time(out, v->i))
            return true;
        mqg_dynbuf_printf(out, "%" PRId64, v->i);
        return false;
    case MQG_VALUE_STRING:
    case MQG_VALUE_BYTES: mqg_dynbuf_slice(out, v->bytes); return true;
    case MQG_VALUE_ARRAY:
    case MQG_VALUE_TABLE: put_json(out, v); return false;
    case MQG_VALUE_TYPE_COUNT: break;
    }
    MQG_ASSERT(false);
    return false;
}

static bool take_bool(struct mqg_slice text, bool *out)
{
    *out = mqg_slice_eq(text, MQG_SLICE_LIT("true"));
    return *out || mqg_slice_eq(text, MQG_SLICE_LIT("false"));
}

bool natural_take(struct mqg_slice text, enum mqg_value_type type, struct mqg_value *out)
{
    *out = (struct mqg_value){.type = type};
    switch (type) {
    case MQG_VALUE_BOOL: return take_bool(text, &out->boolean);
    case MQG_VALUE_INT8: return take_signed(text, INT8_MIN, INT8_MAX, &out->i);
    case MQG_VALUE_INT16: return take_signed(text, INT16_MIN, INT16_MAX, &out->i);
    case MQG_VALUE_INT32: return take_signed(text, INT32_MIN, INT32_MAX, &out->i);
    case MQG_VALUE_INT64: return take_signed(text, INT64_MIN, INT64_MAX, &out->i);
    case MQG_VALUE_UINT8: return take_unsigned(text, UINT8_MAX, &out->u);
    case MQG_VALUE_UINT16: return take_unsigned(text, UINT16_MAX, &out->u);
    case MQG_VALUE_UINT32: return take_unsigned(text, UINT32_MAX, &out->u);
    case MQG_VALUE_UINT64: return take_unsigned(text, UINT64_MAX, &out->u);
    case MQG_VALUE_FLOAT: return take_double(text, true, &out->d);
    case MQG_VALUE_DOUBLE: return take_double(text, false, &out->d);
    case MQG_VALUE_DECIMAL: return take_decimal(text, out);
    case MQG_VALUE_TIMESTAMP: return natural_take_time(text, &out->i);
    case MQG_VALUE_STRING:
    case MQG_VALUE_BYTES: out->bytes = text; return true;
    default: return false;
    }
}
