/* selector.c - selectors at work: is this condition true of these headers?
 *
 * The program is postfix, so it is run by one loop over a stack that is as deep as the program is long at most. Conditions are
 * true, false or unknown (SQL's three values; here BOOL and NULL): what is said of a header that is not there is unknown, and so
 * is arithmetic that has no result. Values of unlike types are not compared: that is false (JMS 2.0, 3.8.1.3). Headers are typed
 * as their sender typed them: STOMP's are text, so a number in one is compared as a number only behind the prefix
 * convert_string_expressions: (ActiveMQ's word).
 *
 * A LIKE against a hostile header could take the product of their lengths; steps are counted, and one that takes too many is
 * unknown. */
#include "selector.h"

#include <math.h>
#include <stdlib.h>

struct selector_run {
    const struct stomp_selector *s;
    stomp_selector_get *get;
    void *arg;
    int64_t steps_left;
    struct mqg_value *top; /* of the stack: the last value on it */
};

static const struct mqg_value selector_unknown = {.type = MQG_VALUE_NULL};

static struct mqg_value selector_bool(bool b)
{
    return (struct mqg_value){.type = MQG_VALUE_BOOL, .boolean = b};
}

static struct mqg_value selector_int(int64_t i)
{
    return (struct mqg_value){.type = MQG_VALUE_INT64, .i = i};
}

static struct mqg_value selector_double(double d)
{
    return (struct mqg_value){.type = MQG_VALUE_DOUBLE, .d = d};
}

static struct mqg_value selector_decimal(int32_t unscaled, uint8_t scale)
{
    double d = unscaled;
    while (scale-- > 0)
        d /= 10;
    return selector_double(d);
}

/* One of NULL, BOOL, INT64, DOUBLE, STRING, BYTES; the last stands for all that is only there or not. */
static struct mqg_value selector_simple(struct mqg_value v)
{
    switch (v.type) {
    case MQG_VALUE_INT8:
    case MQG_VALUE_INT16:
    case MQG_VALUE_INT32: return selector_int(v.i);
    case MQG_VALUE_UINT8:
    case MQG_VALUE_UINT16:
    case MQG_VALUE_UINT32:
    case MQG_VALUE_UINT64:
        return v.u <= INT64_MAX ? selector_int((int64_t)v.u) : selector_double((double)v.u);
    case MQG_VALUE_TIMESTAMP: return selector_int(v.i / 1000); /* as JMSTimestamp: ms */
    case MQG_VALUE_FLOAT: return selector_double(v.d);
    case MQG_VALUE_DECIMAL: return selector_decimal(v.dec.unscaled, v.dec.scale);
    case MQG_VALUE_ARRAY:
    case MQG_VALUE_TABLE:
        v.type = MQG_VALUE_BYTES;
        v.bytes = MQG_SLICE_NONE;
        return v;
    default: return v;
    }
}

static bool selector_is_number(const struct mqg_value *v)
{
    return v->type == MQG_VALUE_INT64 || v->type == MQG_VALUE_DOUBLE;
}

static double selector_as_double(const struct mqg_value *v)
{
    return v->type == MQG_VALUE_INT64 ? (double)v->i : v->d;
}

/* ---- comparing ---------------------------------------------------------------------------------------------------------- */

/* Text as a value of the other one's type, if it reads as one. */
static struct mqg_value selector_convert(struct mqg_value v, const struct mqg_value *like)
{
    if (v.type != MQG_VALUE_STRING)
        return v;
    if (like->type == MQG_VALUE_BOOL &&
        (mqg_slice_eq(v.bytes, MQG_SLICE_LIT("true")) || mqg_slice_eq(v.bytes, MQG_SLICE_LIT("false"))))
        return selector_bool(v.bytes.len == 4);
    char text[64], *end;
    if (!selector_is_number(like) || v.bytes.len == 0 || v.bytes.len >= sizeof text)
        return v;
    memcpy(text, v.bytes.ptr, v.bytes.len);
    text[v.bytes.len] = '\0';
    if (strspn(text, "0123456789+-.eE") != v.bytes.len)
        return v;
    long long whole = strtoll(text, &end, 10);
    if (*end == '\0' && whole != INT64_MIN && whole != INT64_MAX)
        return selector_int(whole);
    double d = strtod(text, &end);
    return *end == '\0' ? selector_double(d) : v;
}

/* -1, 0, 1 of two numbers; 2 when one is none (NaN). */
static int selector_order(const struct mqg_value *a, const struct mqg_value *b)
{
    if (a->type == MQG_VALUE_INT64 && b->type == MQG_VALUE_INT64)
        return a->i < b->i ? -1 : a->i > b->i;
    double x = selector_as_double(a), y = selector_as_double(b);
    if (isnan(x) || isnan(y))
        return 2;
    return x < y ? -1 : x > y;
}

static bool selector_ordered(enum stomp_selector_code code, int order)
{
    switch (code) {
    case STOMP_SEL_EQ: return order == 0;
    case STOMP_SEL_NE: return order != 0;
    case STOMP_SEL_LT: return order == -1;
    case STOMP_SEL_LE: return order == -1 || order == 0;
    case STOMP_SEL_GT: return order == 1;
    default: return order == 1 || order == 0;
    }
}

static struct mqg_value selector_compare(enum stomp_selector_code code, struct mqg_value a,
                                         struct mqg_value b, bool convert)
{
    if (a.type == MQG_VALUE_NULL || b.type == MQG_VALUE_NULL)
        return selector_unknown;
    if (convert) {
        a = selector_convert(a, &b);
        b = selector_convert(b, &a);
    }
    if (selector_is_number(&a) && selector_is_number(&b))
        return selector_bool(selector_ordered(code, selector_order(&a, &b)));
    bool same_only = code == STOMP_SEL_EQ || code == STOMP_SEL_NE;
    if (a.type != b.type || !same_only || a.type == MQG_VALUE_BYTES)
        return selector_bool(false);
    bool equal = a.type == MQG_VALUE_BOOL ? a.boolean == b.boolean : mqg_slice_eq(a.bytes, b.bytes);
    return selector_bool(equal == (code == STOMP_SEL_EQ));
}

static struct mqg_value selector_not(struct mqg_value v)
{
    return v.type == MQG_VALUE_BOOL ? selector_bool(!v.boolean) : selector_unknown;
}

/* AND of two; OR is its mirror: NOT (NOT a AND NOT b). */
static struct mqg_value selector_and(struct mqg_value a, struct mqg_value b)
{
    if ((a.type == MQG_VALUE_BOOL && !a.boolean) || (b.type == MQG_VALUE_BOOL && !b.boolean))
        return selector_bool(false);
    return a.type == MQG_VALUE_BOOL && b.type == MQG_VALUE_BOOL ? selector_bool(true) : selector_unknown;
}

static struct mqg_value selector_between(const struct selector_run *r, const struct mqg_value *v)
{
    return selector_and(selector_compare(STOMP_SEL_GE, v[0], v[1], r->s->convert),
                        selector_compare(STOMP_SEL_LE, v[0], v[2], r->s->convert));
}

static struct mqg_value selector_in(const struct selector_run *r, const struct stomp_selector_op *op,
                                    struct mqg_value v)
{
    if (v.type == MQG_VALUE_NULL)
        return selector_unknown;
    bool found = false;
    for (uint32_t i = 0; i < op->n && !found; i++)
        found = selector_compare(STOMP_SEL_EQ, v, r->s->operands[op->first + i], r->s->convert).boolean;
    return selector_bool(found);
}

/* ---- LIKE --------------------------------------------------------------------------------------------------------------- */

static size_t selector_character(struct mqg_slice s, size_t at)
{
    size_t n = 1;
    while (at + n < s.len && (s.ptr[at + n] & 0xc0) == 0x80)
        n++;
    return n;
}

/* % is any number of characters, _ is one. When one way does not lead on, the last % takes one character more: earlier ones
 * need not be tried again. */
static struct mqg_value selector_like(struct selector_run *r, struct mqg_slice text, struct mqg_slice pattern,
                                      uint8_t escape)
{
    size_t at = 0, p = 0, star = SIZE_MAX, star_at = 0;
    while (at < text.len) {
        if (--r->steps_left < 0)
            return selector_unknown;
        bool quoted = p + 1 < pattern.len && escape != 0 && pattern.ptr[p] == escape;
        uint8_t c = p < pattern.len ? pattern.ptr[quoted ? p + 1 : p] : 0;
        if (p < pattern.len && !quoted && c == '%') {
            star = ++p;
            star_at = at;
        } else if (p < pattern.len && !quoted && c == '_') {
            at += selector_character(text, at);
            p++;
        } else if (p < pattern.len && c == text.ptr[at]) {
            at++;
            p += quoted ? 2 : 1;
        } else if (star != SIZE_MAX) {
            p = star;
            at = star_at += selector_character(text, star_at);
        } else {
            return selector_bool(false);
        }
    }
    while (p < pattern.len && pattern.ptr[p] == '%' && escape != '%')
        p++;
    return selector_bool(p == pattern.len);
}

static struct mqg_value selector_like_op(struct selector_run *r, const struct stomp_selector_op *op,
                                         struct mqg_value v)
{
    if (v.type == MQG_VALUE_NULL)
        return selector_unknown;
    if (v.type != MQG_VALUE_STRING)
        return selector_bool(false);
    return selector_like(r, v.bytes, r->s->operands[op->first].bytes, (uint8_t)op->n);
}

/* ---- arithmetic --------------------------------------------------------------------------------------------------------- */

/* False: it does not fit, or has no result. */
static bool selector_whole(enum stomp_selector_code code, int64_t a, int64_t b, int64_t *out)
{
    switch (code) {
    case STOMP_SEL_ADD: return !__builtin_add_overflow(a, b, out);
    case STOMP_SEL_SUB: return !__builtin_sub_overflow(a, b, out);
    case STOMP_SEL_MUL: return !__builtin_mul_overflow(a, b, out);
    default: break;
    }
    if (b == 0 || (a == INT64_MIN && b == -1))
        return false;
    *out = code == STOMP_SEL_DIV ? a / b : a % b;
    return true;
}

static double selector_real(enum stomp_selector_code code, double a, double b)
{
    switch (code) {
    case STOMP_SEL_ADD: return a + b;
    case STOMP_SEL_SUB: return a - b;
    case STOMP_SEL_MUL: return a * b;
    default: return a / b;
    }
}

static struct mqg_value selector_arithmetic(const struct selector_run *r, enum stomp_selector_code code,
                                            struct mqg_value a, struct mqg_value b)
{
    if (r->s->convert) {
        const struct mqg_value number = selector_int(0);
        a = selector_convert(a, &number);
        b = selector_convert(b, &number);
    }
    if (!selector_is_number(&a) || !selector_is_number(&b))
        return selector_unknown;
    int64_t whole;
    if ((a.type == MQG_VALUE_DOUBLE || b.type == MQG_VALUE_DOUBLE) && code != STOMP_SEL_MOD)
        return selector_double(selector_real(code, selector_as_double(&a), selector_as_double(&b)));
    bool good = a.type == b.type && a.type == MQG_VALUE_INT64 && selector_whole(code, a.i, b.i, &whole);
    return good ? selector_int(whole) : selector_unknown;
}

/* ---- the loop ----------------------------------------------------------------------------------------------------------- */

static void selector_push(struct selector_run *r, const struct stomp_selector_op *op)
{
    struct mqg_value v = r->s->operands[op->first];
    if (op->code == STOMP_SEL_NAME) {
        struct mqg_slice name = v.bytes;
        v = selector_unknown;
        if (!r->get(r->arg, name, &v))
            v = selector_unknown;
    }
    *++r->top = selector_simple(v);
}

static void selector_step(struct selector_run *r, const struct stomp_selector_op *op)
{
    struct mqg_value *top = r->top;
    switch (op->code) {
    case STOMP_SEL_VALUE:
    case STOMP_SEL_NAME: selector_push(r, op); return;
    case STOMP_SEL_NOT: *top = selector_not(*top); return;
    case STOMP_SEL_IS_NULL: *top = selector_bool(top->type == MQG_VALUE_NULL); return;
    case STOMP_SEL_IN: *top = selector_in(r, op, *top); return;
    case STOMP_SEL_LIKE: *top = selector_like_op(r, op, *top); return;
    case STOMP_SEL_NEG: *top = selector_arithmetic(r, STOMP_SEL_SUB, selector_int(0), *top); return;
    case STOMP_SEL_BETWEEN:
        top[-2] = selector_between(r, top - 2);
        r->top -= 2;
        return;
    case STOMP_SEL_AND: top[-1] = selector_and(top[-1], top[0]); break;
    case STOMP_SEL_OR:
        top[-1] = selector_not(selector_and(selector_not(top[-1]), selector_not(top[0])));
        break;
    case STOMP_SEL_ADD:
    case STOMP_SEL_SUB:
    case STOMP_SEL_MUL:
    case STOMP_SEL_DIV:
    case STOMP_SEL_MOD: top[-1] = selector_arithmetic(r, op->code, top[-1], top[0]); break;
    case STOMP_SEL_EQ:
    case STOMP_SEL_NE:
    case STOMP_SEL_LT:
    case STOMP_SEL_LE:
    case STOMP_SEL_GT:
    case STOMP_SEL_GE: top[-1] = selector_compare(op->code, top[-1], top[0], r->s->convert); break;
    }
    r->top--;
}

bool stomp_selector_match(const struct stomp_selector *s, stomp_selector_get *get, void *arg)
{
    struct mqg_value stack[STOMP_SELECTOR_OPS_MAX + 1];
    struct selector_run r = {.s = s, .get = get, .arg = arg, .steps_left = STOMP_SELECTOR_STEPS_MAX};
    r.top = stack; /* the lowest is not used */
    for (uint32_t i = 0; i < s->nops; i++)
        selector_step(&r, &s->ops[i]);
    MQG_ASSERT(r.top == stack + 1);
    return r.top->type == MQG_VALUE_BOOL && r.top->boolean;
}
