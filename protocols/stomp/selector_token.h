/* selector_token.h - the words of a selector's text, one after the other. */
#ifndef MQGATE_STOMP_SELECTOR_TOKEN_H
#define MQGATE_STOMP_SELECTOR_TOKEN_H

#include "selector.h"

enum stomp_token {
    STOMP_TOKEN_END,
    STOMP_TOKEN_NAME,
    STOMP_TOKEN_STRING,
    STOMP_TOKEN_NUMBER,
    STOMP_TOKEN_SIGN, /* an operator or a parenthesis: `text` */
    STOMP_TOKEN_WORD, /* a reserved word: `word` */
};

enum stomp_word {
    STOMP_WORD_NOT,
    STOMP_WORD_AND,
    STOMP_WORD_OR,
    STOMP_WORD_BETWEEN,
    STOMP_WORD_LIKE,
    STOMP_WORD_IN,
    STOMP_WORD_IS,
    STOMP_WORD_ESCAPE,
    STOMP_WORD_NULL,
    STOMP_WORD_TRUE,
    STOMP_WORD_FALSE,
    STOMP_WORDS
};

/* A text and the token that stands at its present place. `in`, `e` and `hyphens` are the caller's to set; then
 * stomp_tokens_next. */
struct stomp_tokens {
    struct mqg_slice in;
    size_t at;    /* behind the present token */
    bool hyphens; /* names may have them */
    /* the present token */
    enum stomp_token kind;
    enum stomp_word word;
    size_t start;
    struct mqg_slice text; /* of a name, string or sign */
    struct mqg_value number;
    uint8_t quoted[STOMP_SELECTOR_BYTES_MAX]; /* `text` of what stood between quotes */
    /* the first fault; behind it there is only the end */
    enum mqg_err err;
    struct mqg_error *e;
};

/* Keeps the first fault, with its place. */
void stomp_tokens_fail(struct stomp_tokens *t, enum mqg_err err, const char *what);
void stomp_tokens_next(struct stomp_tokens *t);
bool stomp_tokens_is(const struct stomp_tokens *t, struct mqg_slice sign);
/* When it stands here it is passed. */
bool stomp_tokens_sign(struct stomp_tokens *t, struct mqg_slice sign);
bool stomp_tokens_word(struct stomp_tokens *t, enum stomp_word word);

#endif
