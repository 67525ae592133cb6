/* selector_token.c - the words of a selector's text.
 *
 * Reserved words are known in any case; names are as they are written. A name with other letters than SQL's stands in double
 * quotes, "content-type", or the selector begins with hyphenated_props: (ActiveMQ's word). A fault makes the present token the
 * end, so that a parser needs to look for one only once. */
#include "selector_token.h"

#include <stdlib.h>

static const struct mqg_slice token_words[STOMP_WORDS] = {
    MQG_SLICE_INIT("NOT"),  MQG_SLICE_INIT("AND"),  MQG_SLICE_INIT("OR"),    MQG_SLICE_INIT("BETWEEN"),
    MQG_SLICE_INIT("LIKE"), MQG_SLICE_INIT("IN"),   MQG_SLICE_INIT("IS"),    MQG_SLICE_INIT("ESCAPE"),
    MQG_SLICE_INIT("NULL"), MQG_SLICE_INIT("TRUE"), MQG_SLICE_INIT("FALSE"),
};

void stomp_tokens_fail(struct stomp_tokens *t, enum mqg_err err, const char *what)
{
    if (t->err != MQG_OK)
        return;
    t->err = mqg_error_set(t->e, err, 0, "at byte %zu: %s", t->start, what);
    t->kind = STOMP_TOKEN_END;
    t->at = t->in.len;
}

static bool token_is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

/* Letters beyond ASCII count as letters. */
static bool token_is_letter(const struct stomp_tokens *t, uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '$' || c >= 0x80 ||
           (c == '-' && t->hyphens && t->at > t->start);
}

static uint8_t token_peek(const struct stomp_tokens *t)
{
    return t->at < t->in.len ? t->in.ptr[t->at] : 0;
}

static bool token_word_is(struct mqg_slice text, struct mqg_slice word)
{
    if (text.len != word.len)
        return false;
    for (size_t i = 0; i < text.len; i++)
        if ((text.ptr[i] & ~0x20) != word.ptr[i])
            return false;
    return true;
}

static void token_name(struct stomp_tokens *t)
{
    while (t->at < t->in.len && (token_is_letter(t, token_peek(t)) || token_is_digit(token_peek(t))))
        t->at++;
    t->kind = STOMP_TOKEN_NAME;
    t->text = mqg_slice_of(t->in.ptr + t->start, t->at - t->start);
    for (int i = 0; i < STOMP_WORDS; i++)
        if (token_word_is(t->text, token_words[i])) {
            t->kind = STOMP_TOKEN_WORD;
            t->word = (enum stomp_word)i;
        }
}

/* Between quotes; a quote inside is written twice. */
static void token_quoted(struct stomp_tokens *t, uint8_t quote)
{
    size_t n = 0;
    bool closed = false;
    for (t->at++; t->at < t->in.len && !closed; t->at++) {
        bool twice = t->at + 1 < t->in.len && t->in.ptr[t->at + 1] == quote;
        closed = t->in.ptr[t->at] == quote && !twice;
        if (t->in.ptr[t->at] == quote && twice)
            t->at++;
        if (!closed)
            t->quoted[n++] = t->in.ptr[t->at];
    }
    t->kind = quote == '\'' ? STOMP_TOKEN_STRING : STOMP_TOKEN_NAME;
    t->text = mqg_slice_of(t->quoted, n);
    if (!closed)
        stomp_tokens_fail(t, MQG_INVALID, "a quote that does not end");
}

static void token_number(struct stomp_tokens *t)
{
    char text[64], *end;
    bool real = false;
    for (; t->at < t->in.len; t->at++) {
        uint8_t c = token_peek(t);
        bool exponent = (c == 'e' || c == 'E') && t->at > t->start;
        bool sign = (c == '+' || c == '-') && (t->in.ptr[t->at - 1] | 0x20) == 'e';
        if (!token_is_digit(c) && c != '.' && !exponent && !sign)
            break;
        real = real || !token_is_digit(c);
    }
    size_t n = t->at - t->start;
    if (n >= sizeof text) {
        stomp_tokens_fail(t, MQG_TOO_LARGE, "a number is too long");
        return;
    }
    memcpy(text, t->in.ptr + t->start, n);
    text[n] = '\0';
    uint8_t suffix = (uint8_t)(token_peek(t) | 0x20);
    if (suffix == 'l' || suffix == 'f' || suffix == 'd') {
        real = real || suffix != 'l';
        t->at++;
    }
    t->kind = STOMP_TOKEN_NUMBER;
    long long whole = strtoll(text, &end, 10);
    if (!real && whole != INT64_MAX)
        t->number = (struct mqg_value){.type = MQG_VALUE_INT64, .i = whole};
    else
        t->number = (struct mqg_value){.type = MQG_VALUE_DOUBLE, .d = strtod(text, &end)};
    bool letter = token_peek(t) != '-' && token_is_letter(t, token_peek(t));
    if ((real && *end != '\0') || letter || token_peek(t) == '.')
        stomp_tokens_fail(t, MQG_INVALID, "this is no number");
}

static void token_sign(struct stomp_tokens *t)
{
    static const struct mqg_slice signs[] = {
        MQG_SLICE_INIT("<>"), MQG_SLICE_INIT("<="), MQG_SLICE_INIT(">="), MQG_SLICE_INIT("="),
        MQG_SLICE_INIT("<"),  MQG_SLICE_INIT(">"),  MQG_SLICE_INIT("+"),  MQG_SLICE_INIT("-"),
        MQG_SLICE_INIT("*"),  MQG_SLICE_INIT("/"),  MQG_SLICE_INIT("%"),  MQG_SLICE_INIT("("),
        MQG_SLICE_INIT(")"),  MQG_SLICE_INIT(","),
    };
    struct mqg_slice rest = mqg_slice_of(t->in.ptr + t->at, t->in.len - t->at);
    for (size_t i = 0; i < MQG_COUNTOF(signs); i++)
        if (mqg_slice_starts(rest, signs[i])) {
            t->kind = STOMP_TOKEN_SIGN;
            t->text = signs[i];
            t->at += signs[i].len;
            return;
        }
    stomp_tokens_fail(t, MQG_INVALID, "a letter that means nothing here");
}

void stomp_tokens_next(struct stomp_tokens *t)
{
    if (t->err != MQG_OK)
        return;
    while (t->at < t->in.len && (token_peek(t) == ' ' || (token_peek(t) >= '\t' && token_peek(t) <= '\r')))
        t->at++;
    t->start = t->at;
    t->kind = STOMP_TOKEN_END;
    if (t->at == t->in.len)
        return;
    uint8_t c = token_peek(t);
    bool point = c == '.' && t->at + 1 < t->in.len && token_is_digit(t->in.ptr[t->at + 1]);
    if (c == '\'' || c == '"')
        token_quoted(t, c);
    else if (token_is_digit(c) || point)
        token_number(t);
    else if (token_is_letter(t, c))
        token_name(t);
    else
        token_sign(t);
}

bool stomp_tokens_is(const struct stomp_tokens *t, struct mqg_slice sign)
{
    return t->kind == STOMP_TOKEN_SIGN && mqg_slice_eq(t->text, sign);
}

bool stomp_tokens_sign(struct stomp_tokens *t, struct mqg_slice sign)
{
    bool is = stomp_tokens_is(t, sign);
    if (is)
        stomp_tokens_next(t);
    return is;
}

bool stomp_tokens_word(struct stomp_tokens *t, enum stomp_word word)
{
    bool is = t->kind == STOMP_TOKEN_WORD && t->word == word;
    if (is)
        stomp_tokens_next(t);
    return is;
}
