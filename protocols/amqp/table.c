/* table.c - field tables: iterate, check, decode. (Encoding: table_encode.c.)
 *
 * One brick reads a value's type and bytes (table_value); everything else stands on it. Peers choose nesting
 * and number, so nothing follows them before the check has bounded both: the check keeps the ends of the open
 * levels in an array instead of recursing, and a decode recurses only over what was checked.
 *
 * A value's size is known from its letter: a row of table_kinds says how many bytes, or that a long length
 * stands before them, and which of our types it is. */
#include "table.h"

enum table_form {
    TABLE_NONE = 0, /* the letter is no type */
    TABLE_FIXED,
    TABLE_BYTES,
    TABLE_NESTED,
};

struct table_kind {
    uint8_t form;       /* enum table_form */
    uint8_t bytes;      /* of a TABLE_FIXED */
    uint8_t value_type; /* enum mqg_value_type */
};

static const struct table_kind table_kinds[256] = {
    ['t'] = {TABLE_FIXED, 1, MQG_VALUE_BOOL},      ['b'] = {TABLE_FIXED, 1, MQG_VALUE_INT8},
    ['B'] = {TABLE_FIXED, 1, MQG_VALUE_UINT8},     ['s'] = {TABLE_FIXED, 2, MQG_VALUE_INT16},
    ['u'] = {TABLE_FIXED, 2, MQG_VALUE_UINT16},    ['I'] = {TABLE_FIXED, 4, MQG_VALUE_INT32},
    ['i'] = {TABLE_FIXED, 4, MQG_VALUE_UINT32},    ['l'] = {TABLE_FIXED, 8, MQG_VALUE_INT64},
    ['L'] = {TABLE_FIXED, 8, MQG_VALUE_INT64},     ['f'] = {TABLE_FIXED, 4, MQG_VALUE_FLOAT},
    ['d'] = {TABLE_FIXED, 8, MQG_VALUE_DOUBLE},    ['D'] = {TABLE_FIXED, 5, MQG_VALUE_DECIMAL},
    ['T'] = {TABLE_FIXED, 8, MQG_VALUE_TIMESTAMP}, ['V'] = {TABLE_FIXED, 0, MQG_VALUE_NULL},
    ['S'] = {TABLE_BYTES, 0, MQG_VALUE_STRING},    ['x'] = {TABLE_BYTES, 0, MQG_VALUE_BYTES},
    ['A'] = {TABLE_NESTED, 0, MQG_VALUE_ARRAY},    ['F'] = {TABLE_NESTED, 0, MQG_VALUE_TABLE},
};

#define TABLE_US_PER_S    1000000
#define TABLE_SECONDS_MAX ((uint64_t)INT64_MAX / TABLE_US_PER_S)

/* ---- one level ---------------------------------------------------------------------------------------- */

/* Reads a type octet and its value; fails the cursor on a letter that is no type. */
static inline struct amqp_value table_value(struct mqg_cursor *c)
{
    const uint8_t type = mqg_cursor_u8(c);
    const struct table_kind *kind = &table_kinds[type];
    if (MQG_UNLIKELY(kind->form == TABLE_NONE))
        mqg_cursor_fail(c);
    const size_t n = kind->form == TABLE_FIXED ? kind->bytes : mqg_cursor_be32(c);
    return (struct amqp_value){type, mqg_cursor_slice(c, n)};
}

bool amqp_table_next(struct amqp_table_iter *it)
{
    if (mqg_cursor_left(&it->cursor) == 0)
        return false;
    it->name = it->array ? MQG_SLICE_NONE : amqp_get_shortstr(&it->cursor);
    it->value = table_value(&it->cursor);
    return !it->cursor.failed;
}

bool amqp_table_find(struct mqg_slice table, struct mqg_slice name, struct amqp_value *out)
{
    struct amqp_table_iter it = amqp_table_iter_of(table);
    while (amqp_table_next(&it)) {
        if (mqg_slice_eq(it.name, name)) {
            *out = it.value;
            return true;
        }
    }
    *out = (struct amqp_value){0, MQG_SLICE_NONE};
    return false;
}

/* ---- check -------------------------------------------------------------------------------------------- */

struct table_level {
    const uint8_t *end;
    bool array;
};

/* levels[] are the tables and arrays that are open, the innermost last; the cursor ends where that one does.
 * */
static enum mqg_err table_check_nested(struct mqg_slice raw, bool array, size_t depth_max)
{
    struct table_level levels[MQG_VALUE_DEPTH_MAX + 1];
    struct mqg_cursor c = mqg_cursor_of(raw);
    size_t depth = 0;
    uint32_t fields = 0;
    levels[0] = (struct table_level){c.end, array};
    for (;;) {
        while (c.pos == levels[depth].end) {
            if (depth == 0)
                return MQG_OK;
            c.end = levels[--depth].end;
        }
        if (!levels[depth].array)
            (void)amqp_get_shortstr(&c);
        const struct amqp_value value = table_value(&c);
        if (MQG_UNLIKELY(c.failed))
            return MQG_MALFORMED;
        if (MQG_UNLIKELY(++fields > MQG_VALUE_FIELDS_MAX))
            return MQG_TOO_LARGE;
        if (table_kinds[value.type].form != TABLE_NESTED)
            continue;
        if (MQG_UNLIKELY(depth == depth_max))
            return MQG_TOO_LARGE;
        levels[++depth] = (struct table_level){c.pos, value.type == 'A'};
        c.end = c.pos;
        c.pos = value.raw.ptr;
    }
}

enum mqg_err amqp_table_check(struct mqg_slice table)
{
    return table_check_nested(table, false, MQG_VALUE_DEPTH_MAX);
}

/* ---- values ------------------------------------------------------------------------------------------- */

static double table_float(const uint8_t *p)
{
    const uint32_t bits = mqg_be32(p);
    float value;
    memcpy(&value, &bits, sizeof value);
    return (double)value;
}

static double table_double(const uint8_t *p)
{
    const uint64_t bits = mqg_be64(p);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static int64_t table_timestamp_us(uint64_t seconds)
{
    return (int64_t)(seconds < TABLE_SECONDS_MAX ? seconds : TABLE_SECONDS_MAX) * TABLE_US_PER_S;
}

/* Every type but array and table. raw has the bytes that the type's row says. */
static struct mqg_value table_scalar(const struct amqp_value *v)
{
    struct mqg_value out = {.type = (enum mqg_value_type)table_kinds[v->type].value_type};
    const uint8_t *p = v->raw.ptr;
    switch (v->type) {
    case 't': out.boolean = p[0] != 0; break;
    case 'b': out.i = (int8_t)p[0]; break;
    case 'B': out.u = p[0]; break;
    case 's': out.i = (int16_t)mqg_be16(p); break;
    case 'u': out.u = mqg_be16(p); break;
    case 'I': out.i = (int32_t)mqg_be32(p); break;
    case 'i': out.u = mqg_be32(p); break;
    case 'l':
    case 'L': out.i = (int64_t)mqg_be64(p); break;
    case 'f': out.d = table_float(p); break;
    case 'd': out.d = table_double(p); break;
    case 'D':
        out.dec.scale = p[0];
        out.dec.unscaled = (int32_t)mqg_be32(p + 1);
        break;
    case 'T': out.i = table_timestamp_us(mqg_be64(p)); break;
    case 'S':
    case 'x': out.bytes = v->raw; break;
    default: break;
    }
    return out;
}

bool amqp_value_int(const struct amqp_value *v, int64_t *out)
{
    if (table_kinds[v->type].form != TABLE_FIXED || v->type == 'T')
        return false;
    const struct mqg_value value = table_scalar(v);
    return mqg_value_int(&value, out);
}

bool amqp_value_bytes(const struct amqp_value *v, struct mqg_slice *out)
{
    if (v->type != 'S' && v->type != 'x')
        return false;
    *out = v->raw;
    return true;
}

bool amqp_value_bool(const struct amqp_value *v, bool *out)
{
    if (v->type != 't')
        return false;
    *out = v->raw.ptr[0] != 0;
    return true;
}

/* ---- decode ------------------------------------------------------------------------------------------- */

static enum mqg_err table_build(const struct amqp_value *v, struct mqg_arena *a, struct mqg_value *out);

static uint32_t table_count(struct amqp_table_iter it)
{
    uint32_t n = 0;
    while (amqp_table_next(&it))
        n++;
    return n;
}

static enum mqg_err table_build_table(struct mqg_slice raw, struct mqg_arena *a, struct mqg_table *out)
{
    struct amqp_table_iter it = amqp_table_iter_of(raw);
    *out = (struct mqg_table){.n = table_count(it)};
    if (out->n == 0)
        return MQG_OK;
    out->fields = mqg_arena_alloc(a, out->n * sizeof *out->fields);
    if (out->fields == NULL)
        return MQG_NO_MEMORY;
    for (uint32_t i = 0; amqp_table_next(&it); i++) {
        out->fields[i].name = it.name;
        const enum mqg_err err = table_build(&it.value, a, &out->fields[i].value);
        if (err != MQG_OK)
            return err;
    }
    return MQG_OK;
}

static enum mqg_err table_build_array(struct mqg_slice raw, struct mqg_arena *a, struct mqg_array *out)
{
    struct amqp_table_iter it = amqp_array_iter_of(raw);
    *out = (struct mqg_array){.n = table_count(it)};
    if (out->n == 0)
        return MQG_OK;
    out->items = mqg_arena_alloc(a, out->n * sizeof *out->items);
    if (out->items == NULL)
        return MQG_NO_MEMORY;
    for (uint32_t i = 0; amqp_table_next(&it); i++) {
        const enum mqg_err err = table_build(&it.value, a, &out->items[i]);
        if (err != MQG_OK)
            return err;
    }
    return MQG_OK;
}

/* Recurses over bytes that amqp_table_check has bounded. */
static enum mqg_err table_build(const struct amqp_value *v, struct mqg_arena *a, struct mqg_value *out)
{
    if (v->type == 'F') {
        out->type = MQG_VALUE_TABLE;
        return table_build_table(v->raw, a, &out->table);
    }
    if (v->type == 'A') {
        out->type = MQG_VALUE_ARRAY;
        return table_build_array(v->raw, a, &out->array);
    }
    *out = table_scalar(v);
    return MQG_OK;
}

enum mqg_err amqp_table_decode(struct mqg_slice table, struct mqg_arena *a, struct mqg_table *out)
{
    const enum mqg_err err = amqp_table_check(table);
    return err == MQG_OK ? table_build_table(table, a, out) : err;
}

enum mqg_err amqp_value_decode(const struct amqp_value *v, struct mqg_arena *a, struct mqg_value *out)
{
    const uint8_t form = table_kinds[v->type].form;
    if (form == TABLE_NONE)
        return MQG_INVALID;
    if (form == TABLE_NESTED) {
        const enum mqg_err err = table_check_nested(v->raw, v->type == 'A', MQG_VALUE_DEPTH_MAX - 1);
        if (err != MQG_OK)
            return err;
    }
    return table_build(v, a, out);
}
