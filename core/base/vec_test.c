/* vec_test.c - push, pop, find, both removals. */
#include <mqgate/vec.h>

#include "test_kit.h"

static int numbers[100];

static void test_push_pop(void **state)
{
    (void)state;
    struct mqg_vec v = {.items = NULL};
    assert_null(mqg_vec_pop(&v));
    for (size_t i = 0; i < 100; i++)
        mqg_vec_push(&v, &numbers[i]);
    assert_int_equal(v.n, 100);
    for (size_t i = 0; i < 100; i++)
        assert_ptr_equal(mqg_vec_at(&v, i), &numbers[i]);
    for (size_t i = 100; i > 0; i--)
        assert_ptr_equal(mqg_vec_pop(&v), &numbers[i - 1]);
    assert_null(mqg_vec_pop(&v));
    mqg_vec_fini(&v);
    assert_int_equal(v.cap, 0);
}

static void test_remove(void **state)
{
    (void)state;
    struct mqg_vec v = {.items = NULL};
    mqg_vec_reserve(&v, 3);
    for (size_t i = 0; i < 5; i++)
        mqg_vec_push(&v, &numbers[i]);
    assert_int_equal(mqg_vec_find(&v, &numbers[3]), 3);
    assert_true(mqg_vec_find(&v, &numbers[7]) == SIZE_MAX);
    mqg_vec_remove(&v, 1); /* 0 2 3 4 */
    assert_ptr_equal(mqg_vec_at(&v, 1), &numbers[2]);
    assert_ptr_equal(mqg_vec_at(&v, 3), &numbers[4]);
    mqg_vec_remove_swap(&v, 0); /* 4 2 3 */
    assert_ptr_equal(mqg_vec_at(&v, 0), &numbers[4]);
    assert_ptr_equal(mqg_vec_at(&v, 2), &numbers[3]);
    mqg_vec_remove_swap(&v, 2);
    mqg_vec_remove(&v, 1);
    mqg_vec_remove(&v, 0);
    assert_int_equal(v.n, 0);
    mqg_vec_fini(&v);
}

static void at_beyond(void *arg)
{
    mqg_vec_at(arg, 0);
}

static void remove_beyond(void *arg)
{
    mqg_vec_remove(arg, 0);
}

static void test_bounds(void **state)
{
    (void)state;
    struct mqg_vec v = {.items = NULL};
    char text[1024];
    assert_true(test_dies(at_beyond, &v, text, sizeof text));
    assert_true(test_dies(remove_beyond, &v, text, sizeof text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_push_pop),
        cmocka_unit_test(test_remove),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
