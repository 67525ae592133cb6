/* js_test.c - JSON and tables, with names and values that are no text. The rest is tested over HTTP (tests/http). */
#include "http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* What js.c needs of the rest. */
static unsigned answered;
void http_reply_error(struct http_request *r, unsigned status, const char *error, const char *fmt, ...)
{
    (void)r;
    (void)error;
    (void)fmt;
    answered = status;
}

static void slices(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        size_t len;
        const char *out;
    } rows[] = {
        {"", 0, ""},
        {"abc", 3, "abc"},
        {"h\xc3\xa9", 3, "h\xc3\xa9"},
        {"\xff", 1, "\xef\xbf\xbd"},
        {"a\xc3", 2, "a\xef\xbf\xbd"},
        {"\xed\xa0\x80", 3, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xf0\x9f\x98\x80z", 5, "\xf0\x9f\x98\x80z"},
        {"\x80\xf0\x9f\x98", 4, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        json_t *v = js_slice(mqg_slice_of(rows[i].in, rows[i].len));
        assert_string_equal(json_string_value(v), rows[i].out);
        json_decref(v);
    }
    json_t *with_nul = js_slice(mqg_slice_of("a\0b", 3));
    assert_int_equal(json_string_length(with_nul), 3);
    json_decref(with_nul);
}

static void tables(void **state)
{
    (void)state;
    const char *text = "{\"n\":null,\"t\":true,\"f\":false,\"i\":-5,\"d\":0.5,\"s\":\"x\",\"a\":[1,[2],{}],"
                       "\"o\":{\"k\":{}}}";
    struct mqg_arena a;
    struct mqg_table t;
    mqg_arena_init(&a, 1 << 20);
    json_t *in = json_loads(text, 0, NULL);
    assert_true(js_to_table(in, &a, &t));
    assert_int_equal(t.n, 8);
    json_t *out = js_table(&t);
    assert_true(json_equal(in, out));
    json_decref(in);
    json_decref(out);
    mqg_arena_fini(&a);
}

static void tables_refused(void **state)
{
    (void)state;
    struct mqg_arena a;
    struct mqg_table t;
    char deep[200], long_key[300];
    size_t n = 0;
    for (int i = 0; i < 30; i++)
        n += (size_t)snprintf(deep + n, sizeof deep - n, "{\"a\":");
    deep[n++] = '1';
    memset(deep + n, '}', 30);
    deep[n + 30] = '\0';
    snprintf(long_key, sizeof long_key, "{\"%0256d\":1}", 0);
    const char *rows[] = {deep, long_key};
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        mqg_arena_init(&a, 1 << 20);
        json_t *in = json_loads(rows[i], 0, NULL);
        assert_non_null(in);
        assert_false(js_to_table(in, &a, &t));
        json_decref(in);
        mqg_arena_fini(&a);
    }
    mqg_arena_init(&a, 1024); /* a bound that is reached */
    json_t *many = json_object();
    for (int i = 0; i < 200; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i);
        js_set_int(many, key, 1);
    }
    assert_false(js_to_table(many, &a, &t));
    json_decref(many);
    mqg_arena_fini(&a);
}

static void readers(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        bool good, yes;
        int64_t n;
    } rows[] = {
        {"{\"v\":true}", true, true, 7},
        {"{\"v\":false}", true, false, 7},
        {"{\"v\":\"true\"}", true, true, 7},
        {"{\"v\":\"false\"}", true, false, 7},
        {"{\"v\":1}", false, true, 1},
        {"{\"v\":\"12\"}", false, true, 12},
        {"{\"v\":\"1x\"}", false, true, -1},
        {"{\"v\":\"-1\"}", false, true, -1},
        {"{\"v\":[]}", false, true, -1},
        {"{\"v\":null}", true, true, 7},
        {"{}", true, true, 7},
        {"{\"v\":\"99999999999999999999\"}", false, true, -1},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        struct http_request r = {.json = json_loads(rows[i].json, 0, NULL)};
        bool yes = true;
        answered = 0;
        assert_int_equal(js_get_bool(&r, "v", &yes), rows[i].good);
        assert_int_equal(answered, rows[i].good ? 0 : 400);
        assert_int_equal(yes, rows[i].yes);
        int64_t n = 7;
        bool number = js_get_int(&r, "v", &n);
        bool absent = rows[i].n == 7 && strstr(rows[i].json, "true") == NULL &&
                      strstr(rows[i].json, "false") == NULL;
        assert_int_equal(number, absent || rows[i].n == 1 || rows[i].n == 12);
        if (number)
            assert_int_equal(n, rows[i].n);
        json_decref(r.json);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices),
        cmocka_unit_test(tables),
        cmocka_unit_test(tables_refused),
        cmocka_unit_test(readers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
