/* mem_test.c - memory that must be there, the empty kinds too. */
#include "test_kit.h"

static void test_empty_is_not_null(void **state)
{
    (void)state;
    void *p = mqg_xmalloc(0);
    assert_non_null(p);
    p = mqg_xrealloc(p, 0);
    assert_non_null(p);
    free(p);
    p = mqg_xcalloc(0, 8);
    assert_non_null(p);
    free(p);
}

static void test_calloc_zeroes_and_realloc_keeps(void **state)
{
    (void)state;
    uint8_t *p = mqg_xcalloc(10, 10);
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(p[i], 0);
    memset(p, 9, 100);
    p = mqg_xrealloc(p, 10000);
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(p[i], 9);
    free(p);
    char *s = mqg_xstrdup("text");
    assert_string_equal(s, "text");
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_is_not_null),
        cmocka_unit_test(test_calloc_zeroes_and_realloc_keeps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
