/* buf_test.c - the count, alone and from several threads; what is over the maximum is refused. */
#include "test_kit.h"

#include <pthread.h>

static void test_ref_unref(void **state)
{
    (void)state;
    struct mqg_buf *b = mqg_buf_new(5);
    assert_int_equal(b->len, 5);
    assert_int_equal(b->refs, 1);
    memcpy(b->data, "hello", 5);
    struct mqg_buf *second = mqg_buf_ref(b);
    assert_ptr_equal(second, b);
    assert_int_equal(b->refs, 2);
    mqg_buf_unref(&b);
    assert_null(b);
    assert_memory_equal(second->data, "hello", 5);
    mqg_buf_unref(&second);
    assert_null(second);
    mqg_buf_unref(&second);
}

static void test_sizes(void **state)
{
    (void)state;
    struct mqg_buf *b = mqg_buf_new(0);
    assert_non_null(b);
    mqg_buf_unref(&b);
    assert_null(mqg_buf_new((size_t)(UINT64_C(1) << 31) + 1));
    assert_null(mqg_buf_new(SIZE_MAX));
}

static void *buf_churn(void *arg)
{
    struct mqg_buf *mine = arg;
    for (int i = 0; i < 20000; i++) {
        struct mqg_buf *more = mqg_buf_ref(mine);
        assert_int_equal(more->data[0], 42);
        mqg_buf_unref(&more);
    }
    mqg_buf_unref(&mine);
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    struct mqg_buf *b = mqg_buf_new(1);
    b->data[0] = 42;
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, buf_churn, mqg_buf_ref(b)), 0);
    mqg_buf_unref(&b);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ref_unref),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
