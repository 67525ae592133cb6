/* value.c - typed header values: looking up, comparing, building, copying.
 *
 * Equality is by meaning, because it decides whether a redeclaration is the same: clients write 10 as
 * whatever width their language prefers. Integers are compared as (sign, magnitude), against doubles exactly,
 * never by rounding one of them to the other. Tables compare as bags of fields; each pair of fields is looked
 * at once at most, so that the cost is bounded by the product of both sizes, however the tables nest. */
#include <mqgate/base.h>
#include <mqgate/value.h>

#include <stdlib.h>

enum { VALUE_CAP_MIN = 4, VALUE_SEEN_LOCAL = 64 };

/* ---- numbers ------------------------------------------------------------------------------------------- */

/* A whole number beyond int64 and uint64: what every integer type fits in. */
struct value_whole {
    bool negative;
    uint64_t magnitude;
};

static bool value_is_signed(const struct mqg_value *v)
{
    return v->type >= MQG_VALUE_INT8 && v->type <= MQG_VALUE_INT64;
}

static bool value_is_unsigned(const struct mqg_value *v)
{
    return v->type >= MQG_VALUE_UINT8 && v->type <= MQG_VALUE_UINT64;
}

static bool value_is_double(const struct mqg_value *v)
{
    return v->type == MQG_VALUE_FLOAT || v->type == MQG_VALUE_DOUBLE;
}

static bool value_is_number(const struct mqg_value *v)
{
    return value_is_signed(v) || value_is_unsigned(v) || value_is_double(v);
}

static bool value_double_whole(double d, struct value_whole *out)
{
    if (!(d > -0x1p64 && d < 0x1p64)) /* NaN too */
        return false;
    double size = d < 0 ? -d : d;
    *out = (struct value_whole){d < 0, (uint64_t)size};
    return (double)out->magnitude == size;
}

/* The number as a whole one; false when it has a fraction, or is none. */
static bool value_whole(const struct mqg_value *v, struct value_whole *out)
{
    if (value_is_double(v))
        return value_double_whole(v->d, out);
    if (value_is_unsigned(v))
        *out = (struct value_whole){false, v->u};
    else if (value_is_signed(v))
        *out = (struct value_whole){v->i < 0, v->i < 0 ? 0 - (uint64_t)v->i : (uint64_t)v->i};
    else
        return false;
    return true;
}

static bool value_number_equal(const struct mqg_value *a, const struct mqg_value *b)
{
    struct value_whole x = {0}, y = {0};
    bool x_whole = value_whole(a, &x);
    bool y_whole = value_whole(b, &y);
    if (x_whole && y_whole)
        return x.negative == y.negative && x.magnitude == y.magnitude;
    if (x_whole || y_whole || !value_is_double(a) || !value_is_double(b))
        return false;
    return a->d == b->d || (a->d != a->d && b->d != b->d); /* NaN is the same setting as NaN */
}

bool mqg_value_int(const struct mqg_value *v, int64_t *out)
{
    struct value_whole w;
    if (!value_whole(v, &w) || w.magnitude > (uint64_t)INT64_MAX + w.negative)
        return false;
    *out = w.negative ? (int64_t)(0 - w.magnitude) : (int64_t)w.magnitude;
    return true;
}

/* 1.50 equals 1.5: the shorter is scaled up until it would overflow, and then no int32 equals it. */
static bool value_decimal_equal(const struct mqg_value *a, const struct mqg_value *b)
{
    if (a->dec.scale > b->dec.scale)
        return value_decimal_equal(b, a);
    int64_t scaled = a->dec.unscaled;
    for (int i = a->dec.scale; i < b->dec.scale; i++) {
        scaled *= 10;
        if (scaled > INT32_MAX || scaled < INT32_MIN)
            return false;
    }
    return scaled == b->dec.unscaled;
}

/* ---- equality ------------------------------------------------------------------------------------------ */

static bool value_array_equal(const struct mqg_array *a, const struct mqg_array *b)
{
    if (a->n != b->n)
        return false;
    for (uint32_t i = 0; i < a->n; i++)
        if (!mqg_value_equal(&a->items[i], &b->items[i]))
            return false;
    return true;
}

bool mqg_value_equal(const struct mqg_value *a, const struct mqg_value *b)
{
    if (value_is_number(a) && value_is_number(b))
        return value_number_equal(a, b);
    if (a->type != b->type)
        return false;
    switch (a->type) {
    case MQG_VALUE_NULL: return true;
    case MQG_VALUE_BOOL: return a->boolean == b->boolean;
    case MQG_VALUE_TIMESTAMP: return a->i == b->i;
    case MQG_VALUE_DECIMAL: return value_decimal_equal(a, b);
    case MQG_VALUE_STRING:
    case MQG_VALUE_BYTES: return mqg_slice_eq(a->bytes, b->bytes);
    case MQG_VALUE_ARRAY: return value_array_equal(&a->array, &b->array);
    case MQG_VALUE_TABLE: return mqg_table_equal(&a->table, &b->table);
    default: return false; /* the numbers are done above */
    }
}

static bool value_field_equal(const struct mqg_field *a, const struct mqg_field *b)
{
    return mqg_slice_eq(a->name, b->name) && mqg_value_equal(&a->value, &b->value);
}

/* Finds a field of t that equals f and was not seen, starting at index `from`, where it most often is. */
static bool value_table_match(const struct mqg_table *t, bool *seen, const struct mqg_field *f, uint32_t from)
{
    for (uint32_t i = 0; i < t->n; i++) {
        uint32_t at = (from + i) % t->n;
        if (seen[at] || !value_field_equal(f, &t->fields[at]))
            continue;
        seen[at] = true;
        return true;
    }
    return false;
}

bool mqg_table_equal(const struct mqg_table *a, const struct mqg_table *b)
{
    if (a->n != b->n)
        return false;
    bool local[VALUE_SEEN_LOCAL] = {false};
    bool *seen = a->n <= VALUE_SEEN_LOCAL ? local : mqg_xcalloc(a->n, sizeof *seen);
    bool equal = true;
    for (uint32_t i = 0; i < a->n && equal; i++)
        equal = value_table_match(b, seen, &a->fields[i], i);
    if (seen != local)
        free(seen);
    return equal;
}

/* ---- looking up and building --------------------------------------------------------------------------- */

const struct mqg_value *mqg_table_get(const struct mqg_table *t, struct mqg_slice name)
{
    for (uint32_t i = 0; i < t->n; i++)
        if (mqg_slice_eq(t->fields[i].name, name))
            return &t->fields[i].value;
    return NULL;
}

/* A bigger copy of n elements in the arena; NULL when that has no room. */
static void *value_grow(struct mqg_arena *a, const void *old, uint32_t n, size_t size, uint32_t *cap)
{
    MQG_ASSERT(n < UINT32_MAX / 2);
    uint32_t want = n < VALUE_CAP_MIN ? VALUE_CAP_MIN : n * 2;
    void *grown = mqg_arena_alloc(a, want * size);
    if (grown == NULL)
        return NULL;
    if (n > 0)
        memcpy(grown, old, n * size);
    *cap = want;
    return grown;
}

struct mqg_field *mqg_table_add(struct mqg_arena *a, struct mqg_table *t, struct mqg_slice name)
{
    if (t->n >= t->cap) {
        struct mqg_field *fields = value_grow(a, t->fields, t->n, sizeof *fields, &t->cap);
        if (fields == NULL)
            return NULL;
        t->fields = fields;
    }
    struct mqg_field *field = &t->fields[t->n++];
    *field = (struct mqg_field){.name = name};
    return field;
}

struct mqg_value *mqg_array_add(struct mqg_arena *a, struct mqg_array *array)
{
    if (array->n >= array->cap) {
        struct mqg_value *items = value_grow(a, array->items, array->n, sizeof *items, &array->cap);
        if (items == NULL)
            return NULL;
        array->items = items;
    }
    struct mqg_value *item = &array->items[array->n++];
    *item = (struct mqg_value){.type = MQG_VALUE_NULL};
    return item;
}

static void value_table_set(struct mqg_arena *a, struct mqg_table *t, const char *name, struct mqg_value v)
{
    struct mqg_slice key = mqg_slice_str(name);
    for (uint32_t i = 0; i < t->n; i++) {
        if (mqg_slice_eq(t->fields[i].name, key)) {
            t->fields[i].value = v;
            return;
        }
    }
    struct mqg_field *field = mqg_table_add(a, t, key);
    if (field != NULL)
        field->value = v;
}

void mqg_table_set_str(struct mqg_arena *a, struct mqg_table *t, const char *name, struct mqg_slice v)
{
    value_table_set(a, t, name, (struct mqg_value){.type = MQG_VALUE_STRING, .bytes = v});
}

void mqg_table_set_int(struct mqg_arena *a, struct mqg_table *t, const char *name, int64_t v)
{
    value_table_set(a, t, name, (struct mqg_value){.type = MQG_VALUE_INT64, .i = v});
}

void mqg_table_set_bool(struct mqg_arena *a, struct mqg_table *t, const char *name, bool v)
{
    value_table_set(a, t, name, (struct mqg_value){.type = MQG_VALUE_BOOL, .boolean = v});
}

/* ---- copies -------------------------------------------------------------------------------------------- */

static bool value_copy_table(struct mqg_arena *a, const struct mqg_table *from, struct mqg_table *to);

static bool value_copy_slice(struct mqg_arena *a, struct mqg_slice from, struct mqg_slice *to)
{
    *to = mqg_arena_dup(a, from);
    return to->ptr != NULL;
}

static bool value_copy(struct mqg_arena *a, const struct mqg_value *from, struct mqg_value *to);

static bool value_copy_array(struct mqg_arena *a, const struct mqg_array *from, struct mqg_array *to)
{
    *to = (struct mqg_array){mqg_arena_alloc(a, from->n * sizeof *to->items), from->n, from->n};
    bool good = to->items != NULL;
    for (uint32_t i = 0; i < from->n && good; i++)
        good = value_copy(a, &from->items[i], &to->items[i]);
    return good;
}

static bool value_copy(struct mqg_arena *a, const struct mqg_value *from, struct mqg_value *to)
{
    *to = *from;
    switch (from->type) {
    case MQG_VALUE_STRING:
    case MQG_VALUE_BYTES: return value_copy_slice(a, from->bytes, &to->bytes);
    case MQG_VALUE_ARRAY: return value_copy_array(a, &from->array, &to->array);
    case MQG_VALUE_TABLE: return value_copy_table(a, &from->table, &to->table);
    default: return true;
    }
}

static bool value_copy_table(struct mqg_arena *a, const struct mqg_table *from, struct mqg_table *to)
{
    *to = (struct mqg_table){mqg_arena_alloc(a, from->n * sizeof *to->fields), from->n, from->n};
    bool good = to->fields != NULL;
    for (uint32_t i = 0; i < from->n && good; i++)
        good = value_copy_slice(a, from->fields[i].name, &to->fields[i].name) &&
               value_copy(a, &from->fields[i].value, &to->fields[i].value);
    return good;
}

struct mqg_table mqg_table_copy(struct mqg_arena *a, const struct mqg_table *t)
{
    struct mqg_table copy;
    if (!value_copy_table(a, t, &copy))
        return (struct mqg_table){.fields = NULL};
    return copy;
}
