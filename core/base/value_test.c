/* value_test.c - equality by meaning, building, copying. */
#include <mqgate/value.h>

#include "test_kit.h"

#define V_NULL         ((struct mqg_value){.type = MQG_VALUE_NULL})
#define V_BOOL(v)      ((struct mqg_value){.type = MQG_VALUE_BOOL, .boolean = (v)})
#define V_INT(t, v)    ((struct mqg_value){.type = MQG_VALUE_##t, .i = (v)})
#define V_UINT(t, v)   ((struct mqg_value){.type = MQG_VALUE_##t, .u = (v)})
#define V_DOUBLE(t, v) ((struct mqg_value){.type = MQG_VALUE_##t, .d = (v)})
#define V_DEC(s, v)    ((struct mqg_value){.type = MQG_VALUE_DECIMAL, .dec = {.scale = (s), .unscaled = (v)}})
#define V_STR(s)       ((struct mqg_value){.type = MQG_VALUE_STRING, .bytes = MQG_SLICE_LIT(s)})
#define V_BYTES(s)     ((struct mqg_value){.type = MQG_VALUE_BYTES, .bytes = MQG_SLICE_LIT(s)})
#define V_ARRAY(items_, n_) \
    ((struct mqg_value){.type = MQG_VALUE_ARRAY, .array = {.items = (items_), .n = (n_)}})

static void test_equal_rows(void **state)
{
    (void)state;
    struct mqg_value one_two[] = {V_INT(INT8, 1), V_INT(INT8, 2)};
    struct mqg_value one_two_wide[] = {V_INT(INT64, 1), V_DOUBLE(DOUBLE, 2.0)};
    struct mqg_value two_one[] = {V_INT(INT8, 2), V_INT(INT8, 1)};
    const struct {
        struct mqg_value a, b;
        bool equal;
    } rows[] = {
        {V_NULL, V_NULL, true},
        {V_NULL, V_BOOL(false), false},
        {V_NULL, V_INT(INT32, 0), false},
        {V_NULL, V_STR(""), false},
        {V_BOOL(true), V_BOOL(true), true},
        {V_BOOL(true), V_BOOL(false), false},
        {V_BOOL(true), V_INT(INT8, 1), false},
        {V_INT(INT8, 10), V_INT(INT64, 10), true},
        {V_INT(INT8, 10), V_UINT(UINT64, 10), true},
        {V_INT(INT64, -1), V_UINT(UINT64, UINT64_MAX), false},
        {V_INT(INT64, INT64_MIN), V_DOUBLE(DOUBLE, -0x1p63), true},
        {V_UINT(UINT64, UINT64_MAX), V_DOUBLE(DOUBLE, 0x1p64), false}, /* which rounding would make equal */
        {V_INT(INT64, (INT64_C(1) << 53) + 1), V_DOUBLE(DOUBLE, 0x1p53), false},
        {V_INT(INT16, 10), V_DOUBLE(DOUBLE, 10.0), true},
        {V_INT(INT16, 10), V_DOUBLE(FLOAT, 10.5), false},
        {V_INT(INT16, 0), V_DOUBLE(DOUBLE, -0.0), true},
        {V_DOUBLE(FLOAT, 0.5), V_DOUBLE(DOUBLE, 0.5), true},
        {V_DOUBLE(DOUBLE, 1e300), V_DOUBLE(DOUBLE, 1e300), true},
        {V_DOUBLE(DOUBLE, 1e300), V_DOUBLE(DOUBLE, -1e300), false},
        {V_DOUBLE(DOUBLE, __builtin_nan("")), V_DOUBLE(FLOAT, __builtin_nan("")), true},
        {V_DOUBLE(DOUBLE, __builtin_nan("")), V_INT(INT8, 0), false},
        {V_DOUBLE(DOUBLE, __builtin_inf()), V_DOUBLE(DOUBLE, __builtin_inf()), true},
        {V_DOUBLE(DOUBLE, __builtin_inf()), V_DOUBLE(DOUBLE, -__builtin_inf()), false},
        {V_DEC(2, 150), V_DEC(1, 15), true},
        {V_DEC(2, 150), V_DEC(2, 151), false},
        {V_DEC(255, 0), V_DEC(0, 0), true},
        {V_DEC(255, 1), V_DEC(0, 1), false},
        {V_DEC(0, INT32_MIN), V_DEC(1, INT32_MIN), false},
        {V_DEC(0, 10), V_INT(INT8, 10), false},
        {V_INT(TIMESTAMP, 5), V_INT(TIMESTAMP, 5), true},
        {V_INT(TIMESTAMP, 5), V_INT(INT64, 5), false},
        {V_STR("a"), V_STR("a"), true},
        {V_STR("a"), V_STR("b"), false},
        {V_STR("a"), V_BYTES("a"), false},
        {V_STR("10"), V_INT(INT8, 10), false},
        {V_ARRAY(one_two, 2), V_ARRAY(one_two_wide, 2), true},
        {V_ARRAY(one_two, 2), V_ARRAY(two_one, 2), false},
        {V_ARRAY(one_two, 2), V_ARRAY(one_two, 1), false},
        {V_ARRAY(NULL, 0), V_ARRAY(NULL, 0), true},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        if (mqg_value_equal(&rows[i].a, &rows[i].b) != rows[i].equal ||
            mqg_value_equal(&rows[i].b, &rows[i].a) != rows[i].equal)
            fail_msg("row %zu", i);
    }
}

static void test_int_rows(void **state)
{
    (void)state;
    static const struct {
        struct mqg_value v;
        bool is_int;
        int64_t value;
    } rows[] = {
        {{.type = MQG_VALUE_INT8, .i = -5}, true, -5},
        {{.type = MQG_VALUE_INT64, .i = INT64_MIN}, true, INT64_MIN},
        {{.type = MQG_VALUE_UINT64, .u = INT64_MAX}, true, INT64_MAX},
        {{.type = MQG_VALUE_UINT64, .u = (uint64_t)INT64_MAX + 1}, false, 0},
        {{.type = MQG_VALUE_DOUBLE, .d = 30.0}, true, 30},
        {{.type = MQG_VALUE_DOUBLE, .d = 30.5}, false, 0},
        {{.type = MQG_VALUE_DOUBLE, .d = -0x1p63}, true, INT64_MIN},
        {{.type = MQG_VALUE_DOUBLE, .d = 0x1p63}, false, 0},
        {{.type = MQG_VALUE_DOUBLE, .d = 1e30}, false, 0},
        {{.type = MQG_VALUE_STRING}, false, 0},
        {{.type = MQG_VALUE_BOOL, .boolean = true}, false, 0},
        {{.type = MQG_VALUE_TIMESTAMP, .i = 7}, false, 0},
        {{.type = MQG_VALUE_NULL}, false, 0},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        int64_t out = 99;
        assert_int_equal(mqg_value_int(&rows[i].v, &out), rows[i].is_int);
        assert_true(out == (rows[i].is_int ? rows[i].value : 99));
    }
}

static void test_build_and_get(void **state)
{
    (void)state;
    struct mqg_arena a;
    mqg_arena_init(&a, 0);
    struct mqg_table t = {.fields = NULL};
    assert_null(mqg_table_get(&t, MQG_SLICE_LIT("a")));
    for (int i = 0; i < 100; i++) {
        struct mqg_field *f = mqg_table_add(&a, &t, MQG_SLICE_LIT("repeated"));
        f->value = V_INT(INT32, i);
    }
    mqg_table_set_str(&a, &t, "s", MQG_SLICE_LIT("text"));
    mqg_table_set_bool(&a, &t, "b", true);
    mqg_table_set_int(&a, &t, "s", 5); /* replaces */
    assert_int_equal(t.n, 102);
    assert_int_equal(mqg_table_get(&t, MQG_SLICE_LIT("s"))->type, MQG_VALUE_INT64);
    assert_true(mqg_table_get(&t, MQG_SLICE_LIT("b"))->boolean);
    assert_int_equal(mqg_table_get(&t, MQG_SLICE_LIT("repeated"))->i, 0); /* the first */
    for (int i = 0; i < 100; i++)
        assert_int_equal(t.fields[i].value.i, i);
    mqg_arena_fini(&a);
}

static void test_add_to_a_table_made_by_hand(void **state)
{
    (void)state;
    struct mqg_arena a;
    mqg_arena_init(&a, 0);
    struct mqg_field own[5] = {{.name = MQG_SLICE_LIT("x")}};
    struct mqg_table t = {.fields = own, .n = 5};
    assert_non_null(mqg_table_add(&a, &t, MQG_SLICE_LIT("y")));
    assert_int_equal(t.n, 6);
    assert_ptr_not_equal(t.fields, own);
    assert_true(mqg_slice_eq(t.fields[0].name, MQG_SLICE_LIT("x")));
    struct mqg_array array = {.items = NULL};
    for (int i = 0; i < 20; i++)
        mqg_array_add(&a, &array)->i = i;
    for (int i = 0; i < 20; i++)
        assert_int_equal(array.items[i].i, i);
    mqg_arena_fini(&a);
}

static void test_arena_bound(void **state)
{
    (void)state;
    struct mqg_arena a;
    mqg_arena_init(&a, 200);
    struct mqg_table t = {.fields = NULL};
    for (int i = 0; i < 4; i++)
        assert_non_null(mqg_table_add(&a, &t, MQG_SLICE_LIT("n")));
    assert_null(mqg_table_add(&a, &t, MQG_SLICE_LIT("n")));
    mqg_table_set_int(&a, &t, "other", 1);
    assert_int_equal(t.n, 4);
    assert_int_equal(mqg_table_copy(&a, &t).n, 0);
    mqg_arena_fini(&a);
}

static struct mqg_table value_sample(struct mqg_arena *a, bool reversed)
{
    struct mqg_table inner = {.fields = NULL}, t = {.fields = NULL};
    mqg_table_set_str(a, &inner, reversed ? "b" : "a", reversed ? MQG_SLICE_LIT("2") : MQG_SLICE_LIT("1"));
    mqg_table_set_str(a, &inner, reversed ? "a" : "b", reversed ? MQG_SLICE_LIT("1") : MQG_SLICE_LIT("2"));
    for (uint32_t i = 0; i < 100; i++) {
        struct mqg_field *f = mqg_table_add(a, &t, MQG_SLICE_LIT("n"));
        f->value = V_INT(INT64, (reversed ? 99 - i : i) / 2);
    }
    struct mqg_field *f = mqg_table_add(a, &t, MQG_SLICE_LIT("inner"));
    f->value = (struct mqg_value){.type = MQG_VALUE_TABLE, .table = inner};
    return t;
}

static void test_tables_equal_in_any_order(void **state)
{
    (void)state;
    struct mqg_arena a;
    mqg_arena_init(&a, 0);
    struct mqg_table t = value_sample(&a, false), r = value_sample(&a, true);
    assert_true(mqg_table_equal(&t, &r));
    assert_true(mqg_table_equal(&t, &t));
    r.fields[0].value.i = 0; /* 0 three times and 49 once: a set would not see it */
    assert_false(mqg_table_equal(&t, &r));
    assert_false(mqg_table_equal(&r, &t));
    r.n--;
    assert_false(mqg_table_equal(&t, &r));
    mqg_arena_fini(&a);
}

static void test_copy_is_deep(void **state)
{
    (void)state;
    struct mqg_arena a, b;
    mqg_arena_init(&a, 0);
    mqg_arena_init(&b, 0);
    char text[] = "text";
    struct mqg_value items[] = {V_STR("x"), V_NULL};
    struct mqg_table t = value_sample(&a, false);
    mqg_table_set_str(&a, &t, "s", mqg_slice_str(text));
    mqg_table_add(&a, &t, MQG_SLICE_LIT("array"))->value = V_ARRAY(items, 2);
    struct mqg_table copy = mqg_table_copy(&b, &t);
    assert_true(mqg_table_equal(&copy, &t));
    text[0] = 'n';
    items[1] = V_BOOL(true);
    mqg_arena_fini(&a);
    assert_true(mqg_slice_eq(mqg_table_get(&copy, MQG_SLICE_LIT("s"))->bytes, MQG_SLICE_LIT("text")));
    assert_int_equal(mqg_table_get(&copy, MQG_SLICE_LIT("array"))->array.items[1].type, MQG_VALUE_NULL);
    assert_int_equal(mqg_table_get(&copy, MQG_SLICE_LIT("inner"))->table.n, 2);
    mqg_arena_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_rows),    cmocka_unit_test(test_int_rows),
        cmocka_unit_test(test_build_and_get), cmocka_unit_test(test_add_to_a_table_made_by_hand),
        cmocka_unit_test(test_arena_bound),   cmocka_unit_test(test_tables_equal_in_any_order),
        cmocka_unit_test(test_copy_is_deep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
