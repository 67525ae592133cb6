/* value_json_test.c - the text of each type, and jansson as the judge that it is JSON at all. */
#include <mqgate/value.h>

#include "test_kit.h"

#include <jansson.h>

static void test_rows(void **state)
{
    (void)state;
    static const struct {
        struct mqg_value v;
        const char *text;
    } rows[] = {
        {{.type = MQG_VALUE_NULL}, "null"},
        {{.type = MQG_VALUE_BOOL, .boolean = true}, "true"},
        {{.type = MQG_VALUE_BOOL, .boolean = false}, "false"},
        {{.type = MQG_VALUE_INT64, .i = INT64_MIN}, "-9223372036854775808"},
        {{.type = MQG_VALUE_UINT64, .u = UINT64_MAX}, "18446744073709551615"},
        {{.type = MQG_VALUE_TIMESTAMP, .i = 1000000}, "1000000"},
        {{.type = MQG_VALUE_DOUBLE, .d = 0.1}, "0.1"},
        {{.type = MQG_VALUE_DOUBLE, .d = 1.0 / 3.0}, "0.3333333333333333"},
        {{.type = MQG_VALUE_DOUBLE, .d = 1e300}, "1e+300"},
        {{.type = MQG_VALUE_DOUBLE, .d = -2.0}, "-2"},
        {{.type = MQG_VALUE_FLOAT, .d = (double)0.1f}, "0.1"},
        {{.type = MQG_VALUE_DOUBLE, .d = __builtin_nan("")}, "\"NaN\""},
        {{.type = MQG_VALUE_DOUBLE, .d = __builtin_inf()}, "\"Infinity\""},
        {{.type = MQG_VALUE_DOUBLE, .d = -__builtin_inf()}, "\"-Infinity\""},
        {{.type = MQG_VALUE_DECIMAL, .dec = {2, -150}}, "-150e-2"},
        {{.type = MQG_VALUE_STRING, .bytes = {NULL, 0}}, "\"\""},
        {{.type = MQG_VALUE_STRING, .bytes = MQG_SLICE_INIT("a\"b\\c\n\x7f\0")},
         "\"a\\\"b\\\\c\\u000a\\u007f\\u0000\""},
        {{.type = MQG_VALUE_STRING, .bytes = MQG_SLICE_INIT("caf\xc3\xa9")}, "\"caf\xc3\xa9\""},
        {{.type = MQG_VALUE_BYTES, .bytes = MQG_SLICE_INIT("text")}, "\"text\""},
        {{.type = MQG_VALUE_BYTES, .bytes = MQG_SLICE_INIT("\xff")}, "\"/w==\""},
        {{.type = MQG_VALUE_BYTES, .bytes = MQG_SLICE_INIT("\xff\xfe")}, "\"//4=\""},
        {{.type = MQG_VALUE_BYTES, .bytes = MQG_SLICE_INIT("\xff\xfe\x00")}, "\"//4A\""},
        {{.type = MQG_VALUE_ARRAY}, "[]"},
        {{.type = MQG_VALUE_TABLE}, "{}"},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        struct mqg_field f = {MQG_SLICE_LIT("k"), rows[i].v};
        struct mqg_table t = {.fields = &f, .n = 1};
        struct mqg_dynbuf out;
        char want[200];
        mqg_dynbuf_init(&out, 1000);
        mqg_table_json(&out, &t);
        snprintf(want, sizeof want, "{\"k\":%s}", rows[i].text);
        if (!mqg_slice_eq(mqg_dynbuf_view(&out), mqg_slice_str(want)))
            fail_msg("row %zu: %.*s", i, (int)out.len, (const char *)out.ptr);
        json_t *root = json_loadb((const char *)out.ptr, out.len, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL,
                                  NULL);
        assert_non_null(root);
        json_decref(root);
        mqg_dynbuf_fini(&out);
    }
}

static void test_repeated_names(void **state)
{
    (void)state;
    struct mqg_value items[2] = {{.type = MQG_VALUE_INT8, .i = 8}, {.type = MQG_VALUE_INT8, .i = 9}};
    struct mqg_field fields[] = {
        {MQG_SLICE_INIT("a"), {.type = MQG_VALUE_INT8, .i = 1}},
        {MQG_SLICE_INIT("b"), {.type = MQG_VALUE_INT8, .i = 2}},
        {MQG_SLICE_INIT("a"), {.type = MQG_VALUE_INT8, .i = 3}},
        {MQG_SLICE_INIT("c"), {.type = MQG_VALUE_ARRAY, .array = {.items = items, .n = 2}}},
        {MQG_SLICE_INIT("a"), {.type = MQG_VALUE_NULL}},
        {MQG_SLICE_INIT("\xff"), {.type = MQG_VALUE_NULL}},
    };
    struct mqg_table t = {.fields = fields, .n = MQG_COUNTOF(fields)};
    struct mqg_dynbuf out;
    mqg_dynbuf_init(&out, 1000);
    mqg_table_json(&out, &t);
    struct mqg_slice want = MQG_SLICE_LIT("{\"a\":[1,3,null],\"b\":2,\"c\":[8,9],\"/w==\":null}");
    assert_true(mqg_slice_eq(mqg_dynbuf_view(&out), want));
    mqg_dynbuf_fini(&out);
    mqg_dynbuf_init(&out, want.len - 1);
    mqg_table_json(&out, &t);
    assert_true(out.failed);
    mqg_dynbuf_fini(&out);
}

static void test_endless_nesting(void **state)
{
    (void)state;
    struct mqg_field loop = {.value = {.type = MQG_VALUE_TABLE}};
    loop.value.table = (struct mqg_table){.fields = &loop, .n = 1};
    struct mqg_dynbuf out;
    mqg_dynbuf_init(&out, 1 << 20);
    mqg_table_json(&out, &loop.value.table);
    assert_true(out.failed);
    mqg_dynbuf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_repeated_names),
        cmocka_unit_test(test_endless_nesting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
