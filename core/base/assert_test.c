/* assert_test.c - a broken invariant ends the process, and says what it knows before. */
#include "test_kit.h"

static void fail_one_is_two(void *arg)
{
    MQG_ASSERT(*(int *)arg == 2);
}

static void pass(void *arg)
{
    MQG_ASSERT(*(int *)arg == 1);
}

static char words_first[] = "first";
static char words_second[] = "second";

static void dump_words(int fd, void *arg)
{
    dprintf(fd, "dump: %s\n", (const char *)arg);
}

static void dump_that_fails(int fd, void *arg)
{
    (void)arg;
    MQG_ASSERT(fd < 0 && "a dump that fails");
}

static void fail_with_dumps(void *arg)
{
    mqg_assert_on_fail(dump_words, words_first);
    mqg_assert_on_fail(dump_words, words_second);
    fail_one_is_two(arg);
}

static void fail_in_dump(void *arg)
{
    mqg_assert_on_fail(dump_that_fails, NULL);
    fail_one_is_two(arg);
}

static void register_17(void *arg)
{
    (void)arg;
    for (int i = 0; i < 17; i++)
        mqg_assert_on_fail(dump_words, words_first);
}

struct thing {
    uint32_t magic;
};

static void check_magic(void *arg)
{
    MQG_CHECK((struct thing *)arg, 0x7716u);
}

static void test_assert_prints_and_aborts(void **state)
{
    (void)state;
    int one = 1;
    char text[2048];
    assert_true(test_dies(fail_one_is_two, &one, text, sizeof text));
    assert_non_null(strstr(text, "*(int *)arg == 2"));
    assert_non_null(strstr(text, "assert_test.c:"));
    assert_non_null(strstr(text, "fail_one_is_two"));
    assert_false(test_dies(pass, &one, text, sizeof text));
    assert_string_equal(text, "");
}

static void test_dumps_run_in_order(void **state)
{
    (void)state;
    int one = 1;
    char text[2048];
    assert_true(test_dies(fail_with_dumps, &one, text, sizeof text));
    assert_non_null(strstr(text, "dump: first\ndump: second\n"));
}

static void test_failing_dump_ends_it(void **state)
{
    (void)state;
    int one = 1;
    char text[2048];
    assert_true(test_dies(fail_in_dump, &one, text, sizeof text));
    assert_non_null(strstr(text, "a dump that fails"));
}

static void test_at_most_16_dumps(void **state)
{
    (void)state;
    char text[2048];
    assert_true(test_dies(register_17, NULL, text, sizeof text));
}

static void test_check_magic(void **state)
{
    (void)state;
    char text[2048];
    struct thing good = {0x7716u}, bad = {0x7717u};
    assert_false(test_dies(check_magic, &good, text, sizeof text));
    assert_true(test_dies(check_magic, &bad, text, sizeof text));
    assert_true(test_dies(check_magic, NULL, text, sizeof text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_assert_prints_and_aborts),
        cmocka_unit_test(test_dumps_run_in_order),
        cmocka_unit_test(test_failing_dump_ends_it),
        cmocka_unit_test(test_at_most_16_dumps),
        cmocka_unit_test(test_check_magic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
