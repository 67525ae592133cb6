/* selector.h - a subscription's selector: a condition on headers, in the SQL-92 subset of JMS (2.0, 3.8 "Message selection").
 *
 * Pure functions: a text is parsed once, with bounds on its length, depth and parts; what it asks for is told by the caller. */
#ifndef MQGATE_STOMP_SELECTOR_H
#define MQGATE_STOMP_SELECTOR_H

#include <mqgate/base.h>
#include <mqgate/value.h>

#define STOMP_SELECTOR_BYTES_MAX 2048u   /* its text */
#define STOMP_SELECTOR_DEPTH_MAX 32u     /* parentheses, NOTs and signs inside one another */
#define STOMP_SELECTOR_OPS_MAX   512u    /* names, literals and operators */
#define STOMP_SELECTOR_STEPS_MAX 1000000 /* bytes that all LIKEs of one message may look at */

enum stomp_selector_code {
    STOMP_SEL_VALUE, /* the operand `first` */
    STOMP_SEL_NAME,  /* what is called operands[first] */
    STOMP_SEL_OR,
    STOMP_SEL_AND,
    STOMP_SEL_NOT,
    STOMP_SEL_EQ,
    STOMP_SEL_NE,
    STOMP_SEL_LT,
    STOMP_SEL_LE,
    STOMP_SEL_GT,
    STOMP_SEL_GE,
    STOMP_SEL_BETWEEN,
    STOMP_SEL_IN,   /* n operands from `first` on */
    STOMP_SEL_LIKE, /* pattern: the operand `first`; n: the escape, 0 when there is none */
    STOMP_SEL_IS_NULL,
    STOMP_SEL_ADD,
    STOMP_SEL_SUB,
    STOMP_SEL_MUL,
    STOMP_SEL_DIV,
    STOMP_SEL_MOD,
    STOMP_SEL_NEG,
};

struct stomp_selector_op {
    enum stomp_selector_code code;
    uint32_t first, n;
};

/* A program in postfix order, and the literals and names that it speaks of. */
struct stomp_selector {
    struct mqg_arena arena;
    struct stomp_selector_op *ops;
    uint32_t nops;
    struct mqg_value *operands;
    uint32_t noperands;
    bool convert; /* strings that look like numbers or flags are compared as such */
};

/* Reads a selector; *out is the caller's, freed by stomp_selector_free. INVALID: what is wrong, and at which byte; TOO_LARGE: over
 * a bound. `text` is not kept. */
enum mqg_err stomp_selector_parse(struct mqg_slice text, struct stomp_selector **out,
                                  struct mqg_error *e) MQG_MUST_CHECK;
void stomp_selector_free(struct stomp_selector **s);

/* What is called `name`, into *out (borrowed until the match is over); false: there is no such thing. */
typedef bool stomp_selector_get(void *arg, struct mqg_slice name, struct mqg_value *out);
/* True when the condition is true; not when it is false or unknown. */
bool stomp_selector_match(const struct stomp_selector *s, stomp_selector_get *get, void *arg);

#endif
