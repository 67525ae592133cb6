/* dynbuf_test.c - growth up to the maximum and not one byte beyond; the failure sticks. */
#include "test_kit.h"

static void test_grows_to_max(void **state)
{
    (void)state;
    struct mqg_dynbuf b;
    mqg_dynbuf_init(&b, 1000);
    for (int i = 0; i < 1000; i++)
        assert_true(mqg_dynbuf_u8(&b, (uint8_t)i));
    assert_int_equal(b.len, 1000);
    for (size_t i = 0; i < b.len; i++)
        assert_int_equal(b.ptr[i], (uint8_t)i);
    assert_true(mqg_dynbuf_put(&b, NULL, 0));
    assert_false(mqg_dynbuf_u8(&b, 0));
    assert_true(b.failed);
    assert_int_equal(b.len, 1000);
    mqg_dynbuf_fini(&b);
}

static void test_failure_sticks_until_reset(void **state)
{
    (void)state;
    struct mqg_dynbuf b;
    mqg_dynbuf_init(&b, 4);
    assert_false(mqg_dynbuf_be64(&b, 1));
    assert_false(mqg_dynbuf_u8(&b, 1));
    assert_null(mqg_dynbuf_reserve(&b, 0));
    mqg_dynbuf_reset(&b);
    assert_true(mqg_dynbuf_be32(&b, 0x01020304));
    assert_memory_equal(b.ptr, "\1\2\3\4", 4);
    assert_null(mqg_dynbuf_reserve(&b, SIZE_MAX));
    mqg_dynbuf_fini(&b);
}

static void test_reserve(void **state)
{
    (void)state;
    struct mqg_dynbuf b;
    mqg_dynbuf_init(&b, 100);
    assert_non_null(mqg_dynbuf_reserve(&b, 0));
    uint8_t *room = mqg_dynbuf_reserve(&b, 100);
    assert_non_null(room);
    memset(room, 7, 100);
    assert_int_equal(b.len, 0); /* not counted until the writer does */
    b.len += 100;
    assert_non_null(mqg_dynbuf_reserve(&b, 0));
    assert_null(mqg_dynbuf_reserve(&b, 1));
    mqg_dynbuf_fini(&b);
}

static void test_numbers(void **state)
{
    (void)state;
    struct mqg_dynbuf b;
    mqg_dynbuf_init(&b, 100);
    mqg_dynbuf_be16(&b, 0x0102);
    mqg_dynbuf_be64(&b, 3);
    mqg_dynbuf_le16(&b, 0x0102);
    mqg_dynbuf_le32(&b, 4);
    mqg_dynbuf_le64(&b, 5);
    mqg_dynbuf_slice(&b, MQG_SLICE_LIT("z"));
    static const uint8_t want[] = {1, 2, 0, 0, 0, 0, 0, 0, 0, 3, 2, 1,  4,
                                   0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 'z'};
    assert_int_equal(b.len, sizeof want);
    assert_memory_equal(b.ptr, want, sizeof want);
    mqg_dynbuf_fini(&b);
}

static void test_printf(void **state)
{
    (void)state;
    struct mqg_dynbuf b;
    mqg_dynbuf_init(&b, 6);
    assert_true(mqg_dynbuf_printf(&b, "%d", 123));
    assert_true(mqg_dynbuf_printf(&b, "%s", "abc")); /* exactly max: the NUL does not count */
    assert_memory_equal(b.ptr, "123abc", 6);
    assert_int_equal(b.len, 6);
    assert_true(mqg_dynbuf_printf(&b, "%s", ""));
    assert_false(mqg_dynbuf_printf(&b, "%s", "x"));
    assert_true(b.failed);
    assert_int_equal(b.len, 6);
    mqg_dynbuf_fini(&b);
}

static void test_fini_leaves_it_usable(void **state)
{
    (void)state;
    struct mqg_dynbuf b;
    mqg_dynbuf_init(&b, 6);
    assert_true(mqg_dynbuf_u8(&b, 1));
    mqg_dynbuf_fini(&b);
    assert_null(b.ptr);
    mqg_dynbuf_fini(&b);
    assert_true(mqg_dynbuf_u8(&b, 1));
    mqg_dynbuf_fini(&b);
}

static void put_without_init(void *arg)
{
    struct mqg_dynbuf b = {.ptr = NULL};
    mqg_dynbuf_put(&b, arg, 1);
}

static void test_without_init(void **state)
{
    (void)state;
    char text[1024];
    assert_true(test_dies(put_without_init, text, text, sizeof text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grows_to_max), cmocka_unit_test(test_failure_sticks_until_reset),
        cmocka_unit_test(test_reserve),      cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_printf),       cmocka_unit_test(test_fini_leaves_it_usable),
        cmocka_unit_test(test_without_init),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
