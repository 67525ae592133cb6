/* table_test.c - field tables: a vector of every type and its meaning, refusals, limits, and the way back. */
#include "table.h"
#include "wire_kit.h"

/* One field per type, laid out by hand after RabbitMQ's letters: name, letter, value. */
#define EVERY_TYPE                      \
    "\1a"                               \
    "t\1"                               \
    "\1b"                               \
    "b\xfe"                             \
    "\1c"                               \
    "B\xfe"                             \
    "\1d"                               \
    "s\xff\xfd"                         \
    "\1e"                               \
    "u\xff\xfd"                         \
    "\1f"                               \
    "I\xff\xff\xff\xfc"                 \
    "\1g"                               \
    "i\xff\xff\xff\xfc"                 \
    "\1h"                               \
    "l\xff\xff\xff\xff\xff\xff\xff\xfb" \
    "\1i"                               \
    "f\x3f\xc0\0\0"                     \
    "\1j"                               \
    "d\xc0\x04\0\0\0\0\0\0"             \
    "\1k"                               \
    "D\2\xff\xff\xff\x9c"               \
    "\1l"                               \
    "S\0\0\0\3str"                      \
    "\1m"                               \
    "x\0\0\0\2\0\xff"                   \
    "\1n"                               \
    "T\0\0\0\0\x6b\1\x0c\x87"           \
    "\1o"                               \
    "V"                                 \
    "\1p"                               \
    "A\0\0\0\5"                         \
    "t\0"                               \
    "u\0\1"                             \
    "\1q"                               \
    "F\0\0\0\x0b"                       \
    "\1x"                               \
    "F\0\0\0\4"                         \
    "\2yyV"

static struct mqg_arena arena;

static int setup(void **state)
{
    (void)state;
    mqg_arena_init(&arena, 1 << 20);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mqg_arena_fini(&arena);
    return 0;
}

static const struct mqg_value *field(const struct mqg_table *t, uint32_t at, enum mqg_value_type type)
{
    assert_true(at < t->n);
    assert_int_equal(t->fields[at].name.len, 1);
    assert_int_equal(t->fields[at].name.ptr[0], 'a' + at);
    assert_int_equal(t->fields[at].value.type, type);
    return &t->fields[at].value;
}

static void test_every_type(void **state)
{
    (void)state;
    struct mqg_table t;
    assert_int_equal(amqp_table_decode(MQG_SLICE_LIT(EVERY_TYPE), &arena, &t), MQG_OK);
    assert_int_equal(t.n, 17);
    assert_true(field(&t, 0, MQG_VALUE_BOOL)->boolean);
    assert_int_equal(field(&t, 1, MQG_VALUE_INT8)->i, -2);
    assert_int_equal(field(&t, 2, MQG_VALUE_UINT8)->u, 254);
    assert_int_equal(field(&t, 3, MQG_VALUE_INT16)->i, -3);
    assert_int_equal(field(&t, 4, MQG_VALUE_UINT16)->u, 65533);
    assert_int_equal(field(&t, 5, MQG_VALUE_INT32)->i, -4);
    assert_int_equal(field(&t, 6, MQG_VALUE_UINT32)->u, 4294967292u);
    assert_int_equal(field(&t, 7, MQG_VALUE_INT64)->i, -5);
    assert_true(field(&t, 8, MQG_VALUE_FLOAT)->d == 1.5);
    assert_true(field(&t, 9, MQG_VALUE_DOUBLE)->d == -2.5);
    assert_int_equal(field(&t, 10, MQG_VALUE_DECIMAL)->dec.scale, 2);
    assert_int_equal(field(&t, 10, MQG_VALUE_DECIMAL)->dec.unscaled, -100);
    kit_assert_slice(field(&t, 11, MQG_VALUE_STRING)->bytes, MQG_SLICE_LIT("str"));
    kit_assert_slice(field(&t, 12, MQG_VALUE_BYTES)->bytes, MQG_SLICE_LIT("\0\xff"));
    assert_int_equal(field(&t, 13, MQG_VALUE_TIMESTAMP)->i, 1795230855000000);
    field(&t, 14, MQG_VALUE_NULL);
    const struct mqg_array *array = &field(&t, 15, MQG_VALUE_ARRAY)->array;
    assert_int_equal(array->n, 2);
    assert_false(array->items[0].boolean);
    assert_int_equal(array->items[1].u, 1);
    const struct mqg_table *outer = &field(&t, 16, MQG_VALUE_TABLE)->table;
    assert_int_equal(outer->n, 1);
    assert_int_equal(outer->fields[0].value.table.n, 1);
    kit_assert_slice(outer->fields[0].value.table.fields[0].name, MQG_SLICE_LIT("yy"));
}

/* 'L' is signed, as 'l'; a bool is any octet but 0. */
static void test_aliases(void **state)
{
    (void)state;
    struct mqg_table t;
    const struct mqg_slice raw = MQG_SLICE_LIT("\1a"
                                               "L\xff\xff\xff\xff\xff\xff\xff\xff"
                                               "\1b"
                                               "t\x80");
    assert_int_equal(amqp_table_decode(raw, &arena, &t), MQG_OK);
    assert_int_equal(field(&t, 0, MQG_VALUE_INT64)->i, -1);
    assert_true(field(&t, 1, MQG_VALUE_BOOL)->boolean);
}

static void test_timestamp_limit(void **state)
{
    (void)state;
    struct mqg_table t;
    assert_int_equal(amqp_table_decode(MQG_SLICE_LIT("\1aT\xff\xff\xff\xff\xff\xff\xff\xff"), &arena, &t),
                     MQG_OK);
    assert_int_equal(field(&t, 0, MQG_VALUE_TIMESTAMP)->i, INT64_MAX / 1000000 * 1000000);
}

/* ---- the way back ------------------------------------------------------------------------------------------------ */

static void assert_encodes(const struct mqg_table *t, struct mqg_slice want, uint32_t want_dropped)
{
    struct mqg_dynbuf out;
    uint32_t dropped = 99;
    mqg_dynbuf_init(&out, 1 << 20);
    assert_int_equal(amqp_table_encode(&out, t, &dropped), MQG_OK);
    kit_assert_slice(mqg_dynbuf_view(&out), want);
    assert_int_equal(dropped, want_dropped);
    mqg_dynbuf_fini(&out);
}

static void test_way_back(void **state)
{
    (void)state;
    struct mqg_table t;
    assert_int_equal(amqp_table_decode(MQG_SLICE_LIT(EVERY_TYPE), &arena, &t), MQG_OK);
    assert_encodes(&t, MQG_SLICE_LIT(EVERY_TYPE), 0);
}

static void test_without_amqp_type(void **state)
{
    (void)state;
    static const char long_name[256] = "name";
    struct mqg_value items[] = {{.type = MQG_VALUE_TIMESTAMP, .i = -1}, {.type = MQG_VALUE_NULL}};
    struct mqg_field fields[] = {
        {MQG_SLICE_LIT("a"), {.type = MQG_VALUE_UINT64, .u = 7}},
        {{(const uint8_t *)long_name, 256}, {.type = MQG_VALUE_NULL}},
        {MQG_SLICE_LIT("b"), {.type = MQG_VALUE_UINT64, .u = UINT64_MAX}},
        {MQG_SLICE_LIT("c"), {.type = MQG_VALUE_TIMESTAMP, .i = -1000000}},
        {MQG_SLICE_LIT("d"), {.type = MQG_VALUE_TIMESTAMP, .i = 1999999}},
        {MQG_SLICE_LIT("e"), {.type = MQG_VALUE_ARRAY, .array = {.items = items, .n = 2}}},
    };
    const struct mqg_table t = {.fields = fields, .n = MQG_COUNTOF(fields)};
    assert_encodes(&t,
                   MQG_SLICE_LIT("\1a"
                                 "l\0\0\0\0\0\0\0\7"
                                 "\1b"
                                 "S\0\0\0\x14"
                                 "18446744073709551615"
                                 "\1d"
                                 "T\0\0\0\0\0\0\0\1"
                                 "\1e"
                                 "A\0\0\0\1V"),
                   3);
}

/* The innermost level that may not be is left out; what is around it stays. */
static void test_encode_too_deep(void **state)
{
    (void)state;
    struct mqg_value values[MQG_VALUE_DEPTH_MAX + 1] = {0};
    for (size_t i = 0; i < MQG_COUNTOF(values); i++) {
        values[i].type = MQG_VALUE_ARRAY;
        if (i + 1 < MQG_COUNTOF(values))
            values[i].array = (struct mqg_array){.items = &values[i + 1], .n = 1};
    }
    struct mqg_field only = {MQG_SLICE_LIT("a"), values[0]};
    const struct mqg_table t = {.fields = &only, .n = 1};
    struct mqg_dynbuf out;
    uint32_t dropped = 0;
    mqg_dynbuf_init(&out, 4096);
    assert_int_equal(amqp_table_encode(&out, &t, &dropped), MQG_OK);
    assert_int_equal(dropped, 1);
    assert_int_equal(out.len, 2 + MQG_VALUE_DEPTH_MAX * 5);
    assert_int_equal(amqp_table_check(mqg_dynbuf_view(&out)), MQG_OK);
    mqg_dynbuf_fini(&out);
}

static void test_encode_no_room(void **state)
{
    (void)state;
    struct mqg_table t;
    const struct mqg_slice whole = MQG_SLICE_LIT(EVERY_TYPE);
    assert_int_equal(amqp_table_decode(whole, &arena, &t), MQG_OK);
    for (size_t max = 1; max < whole.len; max++) {
        struct mqg_dynbuf out;
        mqg_dynbuf_init(&out, max);
        assert_int_equal(amqp_table_encode(&out, &t, NULL), MQG_TOO_LARGE);
        mqg_dynbuf_fini(&out);
    }
}

/* ---- refusals ------------------------------------------------------------------------------------------------------ */

static void test_refused(void **state)
{
    (void)state;
    static const struct mqg_slice rows[] = {
        {(const uint8_t *)"\1", 1},     /* a name that is cut */
        {(const uint8_t *)"\1a", 2},    /* no type */
        {(const uint8_t *)"\1aZ\0", 4}, /* no such type */
        {(const uint8_t *)"\1a\0\0", 4},
        {(const uint8_t *)"\1at", 3},             /* no value */
        {(const uint8_t *)"\1aS\0\0\0\4str", 10}, /* a string that is cut */
        {(const uint8_t *)"\1aS\xff\xff\xff\xff", 7},
        {(const uint8_t *)"\1aF\0\0\0\2\1", 8},              /* a table that is cut */
        {(const uint8_t *)"\1aF\0\0\0\2\1xV", 10},           /* a field over its table's end */
        {(const uint8_t *)"\1aA\0\0\0\1I\0\0\0\0", 12},      /* an item over its array's end */
        {(const uint8_t *)"\1aA\0\0\0\6A\0\0\0\2V\1bV", 16}, /* an array over its array's end */
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        struct mqg_table t;
        const struct mqg_slice raw = kit_exact_copy(rows[i]);
        assert_int_equal(amqp_table_check(raw), MQG_MALFORMED);
        assert_int_equal(amqp_table_decode(raw, &arena, &t), MQG_MALFORMED);
        kit_free(raw);
    }
    assert_int_equal(amqp_table_check(MQG_SLICE_NONE), MQG_OK);
}

/* depth arrays or tables, one in the other, in a table. The caller frees. */
static struct mqg_slice nested(uint32_t depth, char letter)
{
    const uint32_t step = letter == 'F' ? 6 : 5;
    uint8_t *raw = malloc(depth * step + 1);
    assert_non_null(raw);
    uint8_t *p = raw;
    for (uint32_t i = 0; i < depth; i++) {
        if (i == 0 || letter == 'F')
            p = amqp_put_u8(p, 0);
        p = amqp_put_u8(p, (uint8_t)letter);
        p = amqp_put_be32(p, (depth - 1 - i) * step);
    }
    return mqg_slice_of(raw, (size_t)(p - raw));
}

static void test_nesting(void **state)
{
    (void)state;
    static const struct {
        uint32_t depth;
        enum mqg_err err;
    } rows[] = {{1, MQG_OK},
                {MQG_VALUE_DEPTH_MAX, MQG_OK},
                {MQG_VALUE_DEPTH_MAX + 1, MQG_TOO_LARGE},
                {1000, MQG_TOO_LARGE},
                {100000, MQG_TOO_LARGE}};
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        for (const char *letter = "FA"; *letter != '\0'; letter++) {
            struct mqg_table t;
            const struct mqg_slice raw = nested(rows[i].depth, *letter);
            assert_int_equal(amqp_table_check(raw), rows[i].err);
            assert_int_equal(amqp_table_decode(raw, &arena, &t), rows[i].err);
            kit_free(raw);
        }
    }
}

static void test_number(void **state)
{
    (void)state;
    uint8_t *raw = malloc((MQG_VALUE_FIELDS_MAX + 1) * 2);
    assert_non_null(raw);
    uint8_t *p = raw;
    for (int i = 0; i < MQG_VALUE_FIELDS_MAX + 1; i++)
        p = amqp_put_u8(amqp_put_u8(p, 0), 'V');
    assert_int_equal(amqp_table_check(mqg_slice_of(raw, MQG_VALUE_FIELDS_MAX * 2)), MQG_OK);
    assert_int_equal(amqp_table_check(mqg_slice_of(raw, (MQG_VALUE_FIELDS_MAX + 1) * 2)), MQG_TOO_LARGE);
    free(raw);
}

static void test_arena_bound(void **state)
{
    (void)state;
    struct mqg_arena small;
    struct mqg_table t;
    mqg_arena_init(&small, 64);
    assert_int_equal(amqp_table_decode(MQG_SLICE_LIT(EVERY_TYPE), &small, &t), MQG_NO_MEMORY);
    mqg_arena_fini(&small);
}

/* ---- cut and flipped ------------------------------------------------------------------------------------------------- */

static void cut(struct mqg_slice in, void *arg)
{
    size_t *good = arg;
    const enum mqg_err err = amqp_table_check(in);
    assert_true(err == MQG_OK || err == MQG_MALFORMED);
    *good += err == MQG_OK;
}

/* Whatever passes the check is decoded, encoded, and passes again with the same meaning. */
static void flip(struct mqg_slice in, void *arg)
{
    (void)arg;
    struct mqg_table first;
    struct mqg_table second;
    struct mqg_dynbuf out;
    mqg_arena_reset(&arena);
    const enum mqg_err err = amqp_table_decode(in, &arena, &first);
    assert_int_equal(err, amqp_table_check(in));
    if (err != MQG_OK)
        return;
    mqg_dynbuf_init(&out, 1 << 16);
    assert_int_equal(amqp_table_encode(&out, &first, NULL), MQG_OK);
    assert_int_equal(out.len, in.len);
    assert_int_equal(amqp_table_decode(mqg_dynbuf_view(&out), &arena, &second), MQG_OK);
    assert_int_equal(first.n, second.n);
    mqg_dynbuf_fini(&out);
}

static void test_cut(void **state)
{
    (void)state;
    /* A table has no end mark: what is cut between two fields is a table too. 17 fields have 17 such places before
     * the end, the beginning being one. */
    size_t good = 0;
    kit_each_cut(MQG_SLICE_LIT(EVERY_TYPE), cut, &good);
    assert_int_equal(good, 17);
}

static void test_flip(void **state)
{
    (void)state;
    kit_each_flip(MQG_SLICE_LIT(EVERY_TYPE), flip, NULL);
}

/* ---- one level --------------------------------------------------------------------------------------------------------- */

static void test_find(void **state)
{
    (void)state;
    struct amqp_value v;
    int64_t number = 0;
    bool flag = false;
    struct mqg_slice bytes = MQG_SLICE_NONE;
    const struct mqg_slice raw = MQG_SLICE_LIT(EVERY_TYPE "\1a"
                                                          "t\0");
    assert_true(amqp_table_find(raw, MQG_SLICE_LIT("a"), &v));
    assert_true(amqp_value_bool(&v, &flag) && flag); /* the first of two */
    assert_false(amqp_value_int(&v, &number));
    assert_true(amqp_table_find(raw, MQG_SLICE_LIT("h"), &v));
    assert_true(amqp_value_int(&v, &number));
    assert_int_equal(number, -5);
    assert_false(amqp_value_bool(&v, &flag));
    assert_false(amqp_value_bytes(&v, &bytes));
    assert_true(amqp_table_find(raw, MQG_SLICE_LIT("l"), &v));
    assert_true(amqp_value_bytes(&v, &bytes));
    kit_assert_slice(bytes, MQG_SLICE_LIT("str"));
    assert_true(amqp_table_find(raw, MQG_SLICE_LIT("q"), &v));
    assert_int_equal(v.type, 'F');
    assert_true(amqp_table_find(v.raw, MQG_SLICE_LIT("x"), &v));
    assert_false(amqp_table_find(raw, MQG_SLICE_LIT("x"), &v)); /* a nested name */
    assert_int_equal(v.type, 0);
    assert_false(amqp_value_int(&v, &number));
    assert_false(amqp_table_find(MQG_SLICE_LIT("\1aS\0\0\1\0"), MQG_SLICE_LIT("a"), &v));
}

static void test_value_int(void **state)
{
    (void)state;
    static const struct {
        struct mqg_slice raw;
        uint8_t type;
        bool ok;
        int64_t want;
    } rows[] = {
        {{(const uint8_t *)"\xff", 1}, 'b', true, -1},
        {{(const uint8_t *)"\xff", 1}, 'B', true, 255},
        {{(const uint8_t *)"\xff\xff\xff\xff", 4}, 'i', true, 4294967295},
        {{(const uint8_t *)"\x40\x24\0\0\0\0\0\0", 8}, 'd', true, 10},
        {{(const uint8_t *)"\x40\x25\0\0\0\0\0\0", 8}, 'd', false, 0},
        {{(const uint8_t *)"\x7f\xf8\0\0\0\0\0\0", 8}, 'd', false, 0},
        {{(const uint8_t *)"\0\0\0\0\0\0\0\1", 8}, 'T', false, 0},
        {{(const uint8_t *)"1", 1}, 'S', false, 0},
        {{(const uint8_t *)"", 0}, 'V', false, 0},
        {{(const uint8_t *)"\0\0\0\0\1", 5}, 'D', false, 0},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        const struct amqp_value v = {rows[i].type, rows[i].raw};
        int64_t got = 0;
        assert_int_equal(amqp_value_int(&v, &got), rows[i].ok);
        assert_int_equal(got, rows[i].want);
    }
}

/* As CC and BCC are read: an array of strings. */
static void test_iterate_array(void **state)
{
    (void)state;
    struct amqp_value v;
    struct mqg_slice bytes = MQG_SLICE_NONE;
    const struct mqg_slice raw = MQG_SLICE_LIT("\2CCA\0\0\0\x0c"
                                               "S\0\0\0\1a"
                                               "S\0\0\0\1b");
    assert_true(amqp_table_find(raw, MQG_SLICE_LIT("CC"), &v));
    struct amqp_table_iter it = amqp_array_iter_of(v.raw);
    assert_true(amqp_table_next(&it) && amqp_value_bytes(&it.value, &bytes));
    kit_assert_slice(bytes, MQG_SLICE_LIT("a"));
    assert_true(amqp_table_next(&it) && amqp_value_bytes(&it.value, &bytes));
    kit_assert_slice(bytes, MQG_SLICE_LIT("b"));
    assert_false(amqp_table_next(&it));
    assert_false(it.cursor.failed);
    it = amqp_array_iter_of(mqg_slice_of(v.raw.ptr, v.raw.len - 1));
    assert_true(amqp_table_next(&it));
    assert_false(amqp_table_next(&it));
    assert_true(it.cursor.failed);
}

static void test_value_decode(void **state)
{
    (void)state;
    struct amqp_value v;
    struct mqg_value out;
    assert_true(amqp_table_find(MQG_SLICE_LIT(EVERY_TYPE), MQG_SLICE_LIT("p"), &v));
    assert_int_equal(amqp_value_decode(&v, &arena, &out), MQG_OK);
    assert_int_equal(out.type, MQG_VALUE_ARRAY);
    assert_int_equal(out.array.n, 2);
    v.raw.len--;
    assert_int_equal(amqp_value_decode(&v, &arena, &out), MQG_MALFORMED);
    v = (struct amqp_value){0, MQG_SLICE_NONE};
    assert_int_equal(amqp_value_decode(&v, &arena, &out), MQG_INVALID);
    /* A nested value has its own level, so that it may stand in a table again. */
    const struct mqg_slice deep = nested(MQG_VALUE_DEPTH_MAX, 'F');
    v = (struct amqp_value){'F', deep};
    assert_int_equal(amqp_value_decode(&v, &arena, &out), MQG_TOO_LARGE);
    kit_free(deep);
}

#define TABLE_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TABLE_TEST(test_every_type),
        TABLE_TEST(test_aliases),
        TABLE_TEST(test_timestamp_limit),
        TABLE_TEST(test_way_back),
        TABLE_TEST(test_without_amqp_type),
        TABLE_TEST(test_encode_too_deep),
        TABLE_TEST(test_encode_no_room),
        TABLE_TEST(test_refused),
        TABLE_TEST(test_nesting),
        TABLE_TEST(test_number),
        TABLE_TEST(test_arena_bound),
        TABLE_TEST(test_cut),
        TABLE_TEST(test_flip),
        TABLE_TEST(test_find),
        TABLE_TEST(test_value_int),
        TABLE_TEST(test_iterate_array),
        TABLE_TEST(test_value_decode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
