/* error_test.c - every outcome has its own name; a text is cut and clean. */
#include "test_kit.h"

static void test_names(void **state)
{
    (void)state;
    for (int i = 0; i < MQG_ERR_COUNT; i++) {
        const char *name = mqg_err_name((enum mqg_err)i);
        assert_non_null(name);
        assert_true(name[0] != '\0');
        for (int j = 0; j < i; j++)
            assert_string_not_equal(name, mqg_err_name((enum mqg_err)j));
    }
    assert_string_equal(mqg_err_name(MQG_NOT_FOUND), "not_found");
    assert_string_equal(mqg_err_name(MQG_ERR_COUNT), "unknown");
    assert_string_equal(mqg_err_name((enum mqg_err) - 1), "unknown");
}

static void test_set(void **state)
{
    (void)state;
    struct mqg_error e;
    assert_int_equal(mqg_error_set(&e, MQG_LOCKED, 405, "queue '%s'", "q"), MQG_LOCKED);
    assert_int_equal(e.err, MQG_LOCKED);
    assert_int_equal(e.code, 405);
    assert_string_equal(e.text, "queue 'q'");
    assert_int_equal(mqg_error_set(NULL, MQG_IO, 0, "x"), MQG_IO);
}

static void test_text_is_cut(void **state)
{
    (void)state;
    struct mqg_error e;
    char name[2000];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    mqg_error_set(&e, MQG_TOO_LARGE, 0, "%s", name);
    assert_int_equal(strlen(e.text), sizeof e.text - 1);
}

static void test_text_has_no_control_characters(void **state)
{
    (void)state;
    struct mqg_error e;
    mqg_error_set(&e, MQG_INVALID, 0, "%s", "a\r\nb\x1b[0m\x7f \xc3\xa9");
    assert_string_equal(e.text, "a??b?[0m? \xc3\xa9");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_text_is_cut),
        cmocka_unit_test(test_text_has_no_control_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
