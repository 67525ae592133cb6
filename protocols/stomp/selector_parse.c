/* selector_parse.c - the text of a selector to its program.
 *
 *   condition = and { OR and }              sum     = product { ("+" | "-") product }
 *   and       = not { AND not }             product = sign { ("*" | "/" | "%") sign }
 *   not       = [ NOT ] test                sign    = [ "+" | "-" ] part
 *   test      = sum [ compare sum           part    = literal | name | "(" condition ")"
 *             | [ NOT ] BETWEEN sum AND sum
 *             | [ NOT ] IN "(" literal, ... ")" | [ NOT ] LIKE string [ ESCAPE string ] | IS [ NOT ] NULL ]
 *
 * One function a rule, one token of look-ahead; what a rule reads is written in postfix order behind what it is made of. Each
 * rule says what kind of value it leaves, so that nonsense ('a' + 1, NOT 5) is refused at SUBSCRIBE instead of matching nothing
 * for ever. A name may be anything. */
#include "selector_token.h"

#include <stdlib.h>

/* What a rule leaves on the stack, as far as it is known before a message comes. */
enum parse_kind { PARSE_ANY, PARSE_BOOL, PARSE_NUM, PARSE_TEXT };

struct parse {
    struct stomp_tokens t;
    struct stomp_selector *s;
    uint32_t depth;
};

/* ---- the program -------------------------------------------------------------------------------------------------------- */

static void parse_emit(struct parse *p, enum stomp_selector_code code, uint32_t first, uint32_t n)
{
    if (p->t.err == MQG_OK && p->s->nops == STOMP_SELECTOR_OPS_MAX)
        stomp_tokens_fail(&p->t, MQG_TOO_LARGE, "it has too many parts");
    if (p->t.err == MQG_OK)
        p->s->ops[p->s->nops++] = (struct stomp_selector_op){.code = code, .first = first, .n = n};
}

static uint32_t parse_operand(struct parse *p, struct mqg_value v)
{
    if (p->t.err == MQG_OK && p->s->noperands == STOMP_SELECTOR_OPS_MAX)
        stomp_tokens_fail(&p->t, MQG_TOO_LARGE, "it has too many parts");
    if (p->t.err != MQG_OK)
        return 0;
    if (v.type == MQG_VALUE_STRING)
        v.bytes = mqg_arena_dup(&p->s->arena, v.bytes);
    p->s->operands[p->s->noperands] = v;
    return p->s->noperands++;
}

static void parse_need(struct parse *p, enum parse_kind kind, enum parse_kind want, const char *what)
{
    if (kind != want && kind != PARSE_ANY)
        stomp_tokens_fail(&p->t, MQG_INVALID, what);
}

static bool parse_deeper(struct parse *p)
{
    if (++p->depth > STOMP_SELECTOR_DEPTH_MAX)
        stomp_tokens_fail(&p->t, MQG_TOO_LARGE, "it is too deep");
    return p->t.err == MQG_OK;
}

/* ---- rules -------------------------------------------------------------------------------------------------------------- */

static enum parse_kind parse_condition(struct parse *p);

/* A literal; false: the token is none. */
static bool parse_literal(struct parse *p, struct mqg_value *v, enum parse_kind *kind)
{
    if (p->t.kind == STOMP_TOKEN_STRING) {
        *v = (struct mqg_value){.type = MQG_VALUE_STRING, .bytes = p->t.text};
        *kind = PARSE_TEXT;
    } else if (p->t.kind == STOMP_TOKEN_NUMBER) {
        *v = p->t.number;
        *kind = PARSE_NUM;
    } else if (p->t.kind == STOMP_TOKEN_WORD &&
               (p->t.word == STOMP_WORD_TRUE || p->t.word == STOMP_WORD_FALSE)) {
        *v = (struct mqg_value){.type = MQG_VALUE_BOOL, .boolean = p->t.word == STOMP_WORD_TRUE};
        *kind = PARSE_BOOL;
    } else {
        return false;
    }
    return true;
}

static enum parse_kind parse_part(struct parse *p)
{
    struct mqg_value v;
    enum parse_kind kind = PARSE_ANY;
    if (p->t.kind == STOMP_TOKEN_NAME) {
        v = (struct mqg_value){.type = MQG_VALUE_STRING, .bytes = p->t.text};
        parse_emit(p, STOMP_SEL_NAME, parse_operand(p, v), 0);
        stomp_tokens_next(&p->t);
    } else if (parse_literal(p, &v, &kind)) {
        parse_emit(p, STOMP_SEL_VALUE, parse_operand(p, v), 0);
        stomp_tokens_next(&p->t);
    } else if (stomp_tokens_sign(&p->t, MQG_SLICE_LIT("("))) {
        if (parse_deeper(p))
            kind = parse_condition(p);
        p->depth--;
        if (!stomp_tokens_sign(&p->t, MQG_SLICE_LIT(")")))
            stomp_tokens_fail(&p->t, MQG_INVALID, "here ) is missing");
    } else {
        stomp_tokens_fail(&p->t, MQG_INVALID, "here a name or a value is missing");
    }
    return kind;
}

static enum parse_kind parse_sign(struct parse *p)
{
    bool minus = stomp_tokens_is(&p->t, MQG_SLICE_LIT("-"));
    if (!minus && !stomp_tokens_is(&p->t, MQG_SLICE_LIT("+")))
        return parse_part(p);
    stomp_tokens_next(&p->t);
    enum parse_kind kind = parse_deeper(p) ? parse_sign(p) : PARSE_NUM;
    p->depth--;
    parse_need(p, kind, PARSE_NUM, "a sign stands before what is no number");
    if (minus)
        parse_emit(p, STOMP_SEL_NEG, 0, 0);
    return PARSE_NUM;
}

struct parse_infix {
    struct mqg_slice sign;
    enum stomp_selector_code code;
};

/* The operator of that table that stands here; NULL: none. */
static const struct parse_infix *parse_infix(struct parse *p, const struct parse_infix *rows, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (stomp_tokens_sign(&p->t, rows[i].sign))
            return &rows[i];
    return NULL;
}

static enum parse_kind parse_left(struct parse *p, const struct parse_infix *rows, size_t n,
                                  enum parse_kind (*rule)(struct parse *))
{
    enum parse_kind kind = rule(p);
    for (const struct parse_infix *found; (found = parse_infix(p, rows, n)) != NULL;) {
        parse_need(p, kind, PARSE_NUM, "arithmetic needs numbers");
        parse_need(p, rule(p), PARSE_NUM, "arithmetic needs numbers");
        parse_emit(p, found->code, 0, 0);
        kind = PARSE_NUM;
    }
    return kind;
}

static enum parse_kind parse_product(struct parse *p)
{
    static const struct parse_infix rows[] = {{MQG_SLICE_INIT("*"), STOMP_SEL_MUL},
                                              {MQG_SLICE_INIT("/"), STOMP_SEL_DIV},
                                              {MQG_SLICE_INIT("%"), STOMP_SEL_MOD}};
    return parse_left(p, rows, MQG_COUNTOF(rows), parse_sign);
}

static enum parse_kind parse_sum(struct parse *p)
{
    static const struct parse_infix rows[] = {{MQG_SLICE_INIT("+"), STOMP_SEL_ADD},
                                              {MQG_SLICE_INIT("-"), STOMP_SEL_SUB}};
    return parse_left(p, rows, MQG_COUNTOF(rows), parse_product);
}

/* Strings and flags are equal or not; only numbers have an order (JMS 2.0, 3.8.1.3). */
static void parse_compare(struct parse *p, enum parse_kind left, enum stomp_selector_code code)
{
    enum parse_kind right = parse_sum(p);
    if (code != STOMP_SEL_EQ && code != STOMP_SEL_NE) {
        parse_need(p, left, PARSE_NUM, "only numbers are less or greater");
        parse_need(p, right, PARSE_NUM, "only numbers are less or greater");
    }
    parse_emit(p, code, 0, 0);
}

static void parse_between(struct parse *p, enum parse_kind left)
{
    parse_need(p, left, PARSE_NUM, "BETWEEN needs numbers");
    parse_need(p, parse_sum(p), PARSE_NUM, "BETWEEN needs numbers");
    if (!stomp_tokens_word(&p->t, STOMP_WORD_AND))
        stomp_tokens_fail(&p->t, MQG_INVALID, "here the AND of a BETWEEN is missing");
    parse_need(p, parse_sum(p), PARSE_NUM, "BETWEEN needs numbers");
    parse_emit(p, STOMP_SEL_BETWEEN, 0, 0);
}

static void parse_in(struct parse *p)
{
    struct mqg_value v;
    enum parse_kind kind;
    uint32_t first = p->s->noperands;
    if (!stomp_tokens_sign(&p->t, MQG_SLICE_LIT("(")))
        stomp_tokens_fail(&p->t, MQG_INVALID, "here the ( of an IN is missing");
    do {
        if (!parse_literal(p, &v, &kind))
            stomp_tokens_fail(&p->t, MQG_INVALID, "IN needs a list of values");
        else
            (void)parse_operand(p, v);
        stomp_tokens_next(&p->t);
    } while (stomp_tokens_sign(&p->t, MQG_SLICE_LIT(",")));
    if (!stomp_tokens_sign(&p->t, MQG_SLICE_LIT(")")))
        stomp_tokens_fail(&p->t, MQG_INVALID, "here ) is missing");
    parse_emit(p, STOMP_SEL_IN, first, p->s->noperands - first);
}

static void parse_like(struct parse *p)
{
    uint8_t escape = 0;
    if (p->t.kind != STOMP_TOKEN_STRING)
        stomp_tokens_fail(&p->t, MQG_INVALID, "LIKE needs a string");
    uint32_t pattern = parse_operand(p, (struct mqg_value){.type = MQG_VALUE_STRING, .bytes = p->t.text});
    stomp_tokens_next(&p->t);
    if (stomp_tokens_word(&p->t, STOMP_WORD_ESCAPE)) {
        if (p->t.kind != STOMP_TOKEN_STRING || p->t.text.len != 1 || p->t.text.ptr[0] == 0)
            stomp_tokens_fail(&p->t, MQG_INVALID, "ESCAPE needs a string of one letter");
        else
            escape = p->t.text.ptr[0];
        stomp_tokens_next(&p->t);
    }
    parse_emit(p, STOMP_SEL_LIKE, pattern, escape);
}

/* What may stand behind [NOT] in the middle of a test; false: nothing did. */
static bool parse_middle(struct parse *p, enum parse_kind left)
{
    if (stomp_tokens_word(&p->t, STOMP_WORD_BETWEEN)) {
        parse_between(p, left);
    } else if (stomp_tokens_word(&p->t, STOMP_WORD_IN)) {
        parse_in(p);
    } else if (stomp_tokens_word(&p->t, STOMP_WORD_LIKE)) {
        parse_need(p, left, PARSE_TEXT, "LIKE is about strings");
        parse_like(p);
    } else {
        return false;
    }
    return true;
}

static enum parse_kind parse_test(struct parse *p)
{
    static const struct parse_infix rows[] = {
        {MQG_SLICE_INIT("="), STOMP_SEL_EQ}, {MQG_SLICE_INIT("<>"), STOMP_SEL_NE},
        {MQG_SLICE_INIT("<"), STOMP_SEL_LT}, {MQG_SLICE_INIT("<="), STOMP_SEL_LE},
        {MQG_SLICE_INIT(">"), STOMP_SEL_GT}, {MQG_SLICE_INIT(">="), STOMP_SEL_GE}};
    enum parse_kind left = parse_sum(p);
    const struct parse_infix *found = parse_infix(p, rows, MQG_COUNTOF(rows));
    bool not = false;
    if (found != NULL) {
        parse_compare(p, left, found->code);
    } else if (stomp_tokens_word(&p->t, STOMP_WORD_IS)) {
        not = stomp_tokens_word(&p->t, STOMP_WORD_NOT);
        if (!stomp_tokens_word(&p->t, STOMP_WORD_NULL))
            stomp_tokens_fail(&p->t, MQG_INVALID, "here NULL is missing");
        parse_emit(p, STOMP_SEL_IS_NULL, 0, 0);
    } else {
        not = stomp_tokens_word(&p->t, STOMP_WORD_NOT);
        if (!parse_middle(p, left)) {
            if (not )
                stomp_tokens_fail(&p->t, MQG_INVALID, "here BETWEEN, IN or LIKE is missing");
            return left;
        }
    }
    if (not )
        parse_emit(p, STOMP_SEL_NOT, 0, 0);
    return PARSE_BOOL;
}

static enum parse_kind parse_not(struct parse *p)
{
    if (!stomp_tokens_word(&p->t, STOMP_WORD_NOT))
        return parse_test(p);
    enum parse_kind kind = parse_deeper(p) ? parse_not(p) : PARSE_BOOL;
    p->depth--;
    parse_need(p, kind, PARSE_BOOL, "NOT stands before what is no condition");
    parse_emit(p, STOMP_SEL_NOT, 0, 0);
    return PARSE_BOOL;
}

static enum parse_kind parse_chain(struct parse *p, enum stomp_word word, enum stomp_selector_code code,
                                   enum parse_kind (*rule)(struct parse *))
{
    enum parse_kind kind = rule(p);
    while (stomp_tokens_word(&p->t, word)) {
        parse_need(p, kind, PARSE_BOOL, "AND and OR stand between conditions");
        parse_need(p, rule(p), PARSE_BOOL, "AND and OR stand between conditions");
        parse_emit(p, code, 0, 0);
        kind = PARSE_BOOL;
    }
    return kind;
}

static enum parse_kind parse_and(struct parse *p)
{
    return parse_chain(p, STOMP_WORD_AND, STOMP_SEL_AND, parse_not);
}

static enum parse_kind parse_condition(struct parse *p)
{
    return parse_chain(p, STOMP_WORD_OR, STOMP_SEL_OR, parse_and);
}

/* ---- the whole ---------------------------------------------------------------------------------------------------------- */

/* ActiveMQ's prefixes, in any order. */
static void parse_prefixes(struct parse *p)
{
    const struct mqg_slice convert = MQG_SLICE_LIT("convert_string_expressions:"),
                           hyphens = MQG_SLICE_LIT("hyphenated_props:");
    for (;;) {
        struct mqg_slice rest = mqg_slice_of(p->t.in.ptr + p->t.at, p->t.in.len - p->t.at);
        if (mqg_slice_starts(rest, convert)) {
            p->s->convert = true;
            p->t.at += convert.len;
        } else if (mqg_slice_starts(rest, hyphens)) {
            p->t.hyphens = true;
            p->t.at += hyphens.len;
        } else {
            return;
        }
    }
}

static struct stomp_selector *selector_new(void)
{
    struct stomp_selector *s = mqg_xcalloc(1, sizeof *s);
    mqg_arena_init(&s->arena, 32u * STOMP_SELECTOR_BYTES_MAX);
    s->ops = mqg_xcalloc(STOMP_SELECTOR_OPS_MAX, sizeof *s->ops);
    s->operands = mqg_xcalloc(STOMP_SELECTOR_OPS_MAX, sizeof *s->operands);
    return s;
}

void stomp_selector_free(struct stomp_selector **s)
{
    struct stomp_selector *one = *s;
    *s = NULL;
    if (one == NULL)
        return;
    mqg_arena_fini(&one->arena);
    free(one->ops);
    free(one->operands);
    free(one);
}

/* Only as much as it needs, since there may be thousands. */
static void selector_trim(struct stomp_selector *s)
{
    s->ops = mqg_xrealloc(s->ops, s->nops * sizeof *s->ops);
    s->operands = mqg_xrealloc(s->operands, (s->noperands + 1) * sizeof *s->operands);
}

enum mqg_err stomp_selector_parse(struct mqg_slice text, struct stomp_selector **out, struct mqg_error *e)
{
    *out = NULL;
    if (text.len > STOMP_SELECTOR_BYTES_MAX)
        return mqg_error_set(e, MQG_TOO_LARGE, 0, "it is longer than %u bytes", STOMP_SELECTOR_BYTES_MAX);
    struct parse p = {.s = selector_new(), .t = {.in = text, .e = e}};
    parse_prefixes(&p);
    stomp_tokens_next(&p.t);
    parse_need(&p, parse_condition(&p), PARSE_BOOL, "it is a value, not a condition");
    if (p.t.kind != STOMP_TOKEN_END)
        stomp_tokens_fail(&p.t, MQG_INVALID, "here something stands behind its end");
    if (p.t.err != MQG_OK) {
        stomp_selector_free(&p.s);
        return p.t.err;
    }
    selector_trim(p.s);
    *out = p.s;
    return MQG_OK;
}
