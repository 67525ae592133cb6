/* definitions_args.c - arguments of definitions: compact copies, and the texts of a redeclaration that
 * differs.
 *
 * There may be 100,000 bindings with a few arguments each, so a copy is one block of exactly its size instead
 * of an arena. */
#include "definitions_int.h"

#include "names.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { ARGS_ALIGN = 16, ARGS_TEXT_BYTES = 200 };

/* ---- copies -------------------------------------------------------------------------------------------- */

static size_t args_up(size_t n)
{
    return (n + ARGS_ALIGN - 1) & ~(size_t)(ARGS_ALIGN - 1);
}

static size_t args_table_bytes(const struct mqg_table *t);

static size_t args_value_bytes(const struct mqg_value *v)
{
    size_t n = 0;
    if (v->type == MQG_VALUE_STRING || v->type == MQG_VALUE_BYTES)
        return args_up(v->bytes.len);
    if (v->type == MQG_VALUE_TABLE)
        return args_table_bytes(&v->table);
    if (v->type != MQG_VALUE_ARRAY)
        return 0;
    for (uint32_t i = 0; i < v->array.n; i++)
        n += args_value_bytes(&v->array.items[i]);
    return n + args_up(v->array.n * sizeof *v->array.items);
}

static size_t args_table_bytes(const struct mqg_table *t)
{
    size_t n = args_up(t->n * sizeof *t->fields);
    for (uint32_t i = 0; i < t->n; i++)
        n += args_up(t->fields[i].name.len) + args_value_bytes(&t->fields[i].value);
    return n;
}

static void *args_take(uint8_t **at, size_t n)
{
    void *ptr = *at;
    *at += args_up(n);
    return ptr;
}

static struct mqg_slice args_copy_slice(uint8_t **at, struct mqg_slice s)
{
    void *copy = args_take(at, s.len);
    if (s.len > 0)
        memcpy(copy, s.ptr, s.len);
    return mqg_slice_of(copy, s.len);
}

static void args_copy_table(uint8_t **at, const struct mqg_table *from, struct mqg_table *to);

static void args_copy_value(uint8_t **at, const struct mqg_value *from, struct mqg_value *to)
{
    *to = *from;
    if (from->type == MQG_VALUE_STRING || from->type == MQG_VALUE_BYTES)
        to->bytes = args_copy_slice(at, from->bytes);
    else if (from->type == MQG_VALUE_TABLE)
        args_copy_table(at, &from->table, &to->table);
    if (from->type != MQG_VALUE_ARRAY)
        return;
    to->array.cap = from->array.n;
    to->array.items = args_take(at, from->array.n * sizeof *from->array.items);
    for (uint32_t i = 0; i < from->array.n; i++)
        args_copy_value(at, &from->array.items[i], &to->array.items[i]);
}

static void args_copy_table(uint8_t **at, const struct mqg_table *from, struct mqg_table *to)
{
    struct mqg_field *fields = args_take(at, from->n * sizeof *fields);
    *to = (struct mqg_table){fields, from->n, from->n};
    for (uint32_t i = 0; i < from->n; i++) {
        fields[i].name = args_copy_slice(at, from->fields[i].name);
        args_copy_value(at, &from->fields[i].value, &fields[i].value);
    }
}

struct mqg_table *args_new(const struct mqg_table *t)
{
    size_t head = args_up(sizeof(struct mqg_table));
    uint8_t *block = mqg_xcalloc(1, head + args_table_bytes(t));
    struct mqg_table *copy = (struct mqg_table *)(void *)block;
    uint8_t *at = block + head;
    args_copy_table(&at, t, copy);
    return copy;
}

/* ---- texts --------------------------------------------------------------------------------------------- */

static void args_value_text(char *out, size_t size, const struct mqg_value *v)
{
    struct mqg_dynbuf json;
    int64_t n = 0;
    if (v->type == MQG_VALUE_STRING || v->type == MQG_VALUE_BYTES)
        snprintf(out, size, "%.*s", MQG_SLICE_FMT(v->bytes));
    else if (v->type == MQG_VALUE_BOOL)
        snprintf(out, size, "%s", v->boolean ? "true" : "false");
    else if (v->type == MQG_VALUE_NULL)
        snprintf(out, size, "undefined");
    else if (v->type == MQG_VALUE_FLOAT || v->type == MQG_VALUE_DOUBLE)
        snprintf(out, size, "%.15g", v->d);
    else if (v->type == MQG_VALUE_TIMESTAMP)
        snprintf(out, size, "%" PRId64, v->i / 1000000);
    else if (mqg_value_int(v, &n))
        snprintf(out, size, "%" PRId64, n);
    else {
        struct mqg_field field = {MQG_SLICE_LIT("value"), *v};
        struct mqg_table one = {&field, 1, 1};
        mqg_dynbuf_init(&json, 64u << 10);
        mqg_table_json(&json, &one);
        snprintf(out, size, "%.*s", MQG_SLICE_FMT(mqg_dynbuf_view(&json)));
        mqg_dynbuf_fini(&json);
    }
}

/* "none", "'10'" when both are there, else "the value '10' of type 'signedint'". */
static void args_side(char out[ARGS_TEXT_BYTES + 64], const struct mqg_value *v, bool both)
{
    char text[ARGS_TEXT_BYTES];
    if (v == NULL) {
        snprintf(out, ARGS_TEXT_BYTES + 64, "none");
        return;
    }
    args_value_text(text, sizeof text, v);
    if (both)
        snprintf(out, ARGS_TEXT_BYTES + 64, v->type == MQG_VALUE_NULL ? "none" : "'%s'", text);
    else
        snprintf(out, ARGS_TEXT_BYTES + 64, "the value '%s' of type '%s'", text, names_value_type(v->type));
}

static enum mqg_err args_differ(const struct args_equal *w, const char *arg, const char *received,
                                const char *current, struct mqg_error *e)
{
    return mqg_error_set(e, MQG_MISMATCH, 406,
                         "inequivalent arg '%s' for %s '%.*s' in vhost '%.*s': received %s but current is %s",
                         arg, w->kind, MQG_SLICE_FMT(w->name), MQG_SLICE_FMT(w->vhost), received, current);
}

enum mqg_err args_equal_bool(const struct args_equal *w, const char *arg, bool received, bool current,
                             struct mqg_error *e)
{
    if (received == current)
        return MQG_OK;
    return args_differ(w, arg, received ? "'true'" : "'false'", current ? "'true'" : "'false'", e);
}

enum mqg_err args_equal_word(const struct args_equal *w, const char *arg, struct mqg_slice received,
                             struct mqg_slice current, struct mqg_error *e)
{
    if (mqg_slice_eq(received, current))
        return MQG_OK;
    char left[ARGS_TEXT_BYTES], right[ARGS_TEXT_BYTES];
    snprintf(left, sizeof left, "'%.*s'", MQG_SLICE_FMT(received));
    snprintf(right, sizeof right, "'%.*s'", MQG_SLICE_FMT(current));
    return args_differ(w, arg, left, right, e);
}

enum mqg_err args_equal_arg(const struct args_equal *w, const char *arg, const struct mqg_table *received,
                            const struct mqg_table *current, struct mqg_error *e)
{
    const struct mqg_value *a = mqg_table_get(received, mqg_slice_str(arg));
    const struct mqg_value *b = mqg_table_get(current, mqg_slice_str(arg));
    if ((a == NULL && b == NULL) || (a != NULL && b != NULL && mqg_value_equal(a, b)))
        return MQG_OK;
    char left[ARGS_TEXT_BYTES + 64], right[ARGS_TEXT_BYTES + 64];
    args_side(left, a, b != NULL);
    args_side(right, b, a != NULL);
    return args_differ(w, arg, left, right, e);
}
