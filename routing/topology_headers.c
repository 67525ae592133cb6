/* topology_headers.c - does a message's headers table fit a binding of a headers exchange?
 *
 * As RabbitMQ: a field of the binding without a value asks for presence; any other asks for the same type and
 * the same value, so 1 as a 32-bit integer is not 1 as a 64-bit one. Names that start with "x-" are not
 * looked at, unless the mode says with-x, which leaves out "x-match" only. "all" of nothing fits, "any" of
 * nothing does not. */
#include "topology_int.h"

#include "names.h"

#include <inttypes.h>
#include <stdio.h>

static const char *const headers_words[] = {[HEADERS_ALL] = "all",
                                            [HEADERS_ANY] = "any",
                                            [HEADERS_ALL_X] = "all-with-x",
                                            [HEADERS_ANY_X] = "any-with-x"};

static void headers_print_value(char *out, size_t size, const struct mqg_value *v)
{
    int64_t n = 0;
    if (v->type == MQG_VALUE_NULL)
        snprintf(out, size, "undefined");
    else if (v->type == MQG_VALUE_BOOL)
        snprintf(out, size, "%s", v->boolean ? "true" : "false");
    else if (mqg_value_int(v, &n))
        snprintf(out, size, "%" PRId64, n);
    else
        snprintf(out, size, "...");
}

enum mqg_err headers_mode_parse(const struct mqg_table *args, enum headers_mode *out, struct mqg_error *e)
{
    const struct mqg_value *v = mqg_table_get(args, MQG_SLICE_LIT("x-match"));
    *out = HEADERS_ALL;
    if (v == NULL)
        return MQG_OK;
    if (v->type != MQG_VALUE_STRING) {
        char value[32];
        headers_print_value(value, sizeof value, v);
        return mqg_error_set(e, MQG_INVALID, 406,
                             "Invalid x-match field type %s (value %s); expected longstr",
                             names_value_type(v->type), value);
    }
    for (unsigned i = 0; i < MQG_COUNTOF(headers_words); i++) {
        if (mqg_slice_eq(v->bytes, mqg_slice_str(headers_words[i]))) {
            *out = (enum headers_mode)i;
            return MQG_OK;
        }
    }
    return mqg_error_set(
        e, MQG_INVALID, 406,
        "Invalid x-match field value <<\"%.*s\">>; expected all, any, all-with-x, or any-with-x",
        MQG_SLICE_FMT(v->bytes));
}

static bool headers_looked_at(enum headers_mode mode, struct mqg_slice name)
{
    if (mode == HEADERS_ALL || mode == HEADERS_ANY)
        return !mqg_slice_starts(name, MQG_SLICE_LIT("x-"));
    return !mqg_slice_eq(name, MQG_SLICE_LIT("x-match"));
}

static bool headers_field(const struct mqg_field *want, const struct mqg_table *headers)
{
    const struct mqg_value *v = mqg_table_get(headers, want->name);
    if (v == NULL)
        return false;
    if (want->value.type == MQG_VALUE_NULL)
        return true;
    return v->type == want->value.type && mqg_value_equal(v, &want->value);
}

bool headers_match(const struct headers_match *m, const struct mqg_table *headers)
{
    bool all = m->mode == HEADERS_ALL || m->mode == HEADERS_ALL_X;
    for (uint32_t i = 0; i < m->args->n; i++) {
        const struct mqg_field *want = &m->args->fields[i];
        if (headers_looked_at(m->mode, want->name) && headers_field(want, headers) != all)
            return !all; /* decided */
    }
    return all;
}
