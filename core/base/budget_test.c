/* budget_test.c - limits at every level, a refusal leaves no trace, threads never exceed the limit. */
#include "test_kit.h"

#include <pthread.h>

static void test_levels(void **state)
{
    (void)state;
    struct mqg_budget node = {.limit_bytes = 100};
    struct mqg_budget vhost = {.parent = &node, .limit_bytes = 0};
    struct mqg_budget conn = {.parent = &vhost, .limit_bytes = 60};
    assert_true(mqg_budget_take(&conn, 60));
    assert_int_equal(conn.used_bytes, 60);
    assert_int_equal(vhost.used_bytes, 60);
    assert_int_equal(node.used_bytes, 60);
    assert_false(mqg_budget_take(&conn, 1));
    assert_false(mqg_budget_take(&vhost, 41)); /* the node's limit */
    assert_int_equal(vhost.used_bytes, 60);    /* given back below */
    assert_true(mqg_budget_take(&vhost, 40));
    assert_true(mqg_budget_take(&vhost, 0));
    assert_int_equal(node.used_bytes, 100);
    mqg_budget_give(&conn, 60);
    mqg_budget_give(&vhost, 40);
    assert_int_equal(node.used_bytes, 0);
    assert_int_equal(conn.used_bytes, 0);
}

static void test_huge(void **state)
{
    (void)state;
    struct mqg_budget b = {.limit_bytes = 0};
    assert_false(mqg_budget_take(&b, SIZE_MAX));
    assert_true(mqg_budget_take(&b, INT64_MAX));
    assert_false(mqg_budget_take(&b, 1));
    mqg_budget_give(&b, INT64_MAX);
}

static void test_used_over_a_lowered_limit(void **state)
{
    (void)state;
    struct mqg_budget b = {.limit_bytes = 10};
    assert_true(mqg_budget_take(&b, 10));
    b.limit_bytes = 5;
    assert_false(mqg_budget_take(&b, 0));
    mqg_budget_give(&b, 5);
    assert_true(mqg_budget_take(&b, 0));
}

static void give_twice(void *arg)
{
    struct mqg_budget *b = arg;
    mqg_budget_give(b, 1);
}

static void test_give_twice(void **state)
{
    (void)state;
    char text[1024];
    struct mqg_budget b = {.limit_bytes = 10};
    assert_true(test_dies(give_twice, &b, text, sizeof text));
}

static void *budget_churn(void *arg)
{
    struct mqg_budget *b = arg;
    size_t taken = 0;
    for (int i = 0; i < 20000; i++) {
        size_t n = (size_t)i % 30;
        if (!mqg_budget_take(b, n))
            continue;
        taken++;
        if (b->limit_bytes > 0)
            assert_true(b->used_bytes <= b->limit_bytes);
        mqg_budget_give(b, n);
    }
    return taken > 0 ? b : NULL;
}

static void test_threads(void **state)
{
    (void)state;
    struct mqg_budget node = {.limit_bytes = 100};
    struct mqg_budget conn = {.parent = &node, .limit_bytes = 0};
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, budget_churn, i % 2 ? &node : &conn), 0);
    for (size_t i = 0; i < 4; i++) {
        void *result = NULL;
        pthread_join(threads[i], &result);
        assert_non_null(result);
    }
    assert_int_equal(node.used_bytes, 0);
    assert_int_equal(conn.used_bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_huge),
        cmocka_unit_test(test_used_over_a_lowered_limit),
        cmocka_unit_test(test_give_twice),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
