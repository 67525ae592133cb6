/* arena_test.c - zeroed, aligned, bounded, and reused after a reset. */
#include "test_kit.h"

static void test_alloc_is_zeroed_and_aligned(void **state)
{
    (void)state;
    struct mqg_arena a;
    mqg_arena_init(&a, 0);
    for (int round = 0; round < 3; round++) {
        for (size_t n = 0; n < 3000; n += 7) {
            uint8_t *p = mqg_arena_alloc(&a, n);
            assert_non_null(p);
            assert_int_equal((uintptr_t)p % 16, 0);
            for (size_t i = 0; i < n; i++)
                assert_int_equal(p[i], 0);
            memset(p, 0xa5, n); /* the next round must not see it */
        }
        mqg_arena_reset(&a);
        assert_int_equal(a.used_bytes, 0);
    }
    mqg_arena_fini(&a);
}

static void test_allocations_do_not_overlap(void **state)
{
    (void)state;
    struct mqg_arena a;
    mqg_arena_init(&a, 0);
    uint64_t seed = 7;
    uint8_t *parts[500];
    size_t sizes[500];
    for (size_t i = 0; i < 500; i++) {
        sizes[i] = (size_t)(test_random(&seed) % (i % 50 == 0 ? 100000 : 300));
        parts[i] = mqg_arena_alloc(&a, sizes[i]);
        memset(parts[i], (int)i, sizes[i]);
    }
    for (size_t i = 0; i < 500; i++)
        for (size_t j = 0; j < sizes[i]; j++)
            assert_int_equal(parts[i][j], (uint8_t)i);
    mqg_arena_fini(&a);
}

static void test_bound(void **state)
{
    (void)state;
    struct mqg_arena a;
    mqg_arena_init(&a, 64);
    assert_non_null(mqg_arena_alloc(&a, 48));
    assert_null(mqg_arena_alloc(&a, 17));
    assert_non_null(mqg_arena_alloc(&a, 16)); /* a refusal takes nothing */
    assert_null(mqg_arena_alloc(&a, 0));
    assert_null(mqg_arena_alloc(&a, SIZE_MAX));
    assert_null(mqg_arena_alloc(&a, SIZE_MAX / 4));
    mqg_arena_reset(&a);
    assert_non_null(mqg_arena_alloc(&a, 64));
    mqg_arena_fini(&a);
}

static void test_dup(void **state)
{
    (void)state;
    struct mqg_arena a;
    mqg_arena_init(&a, 64);
    struct mqg_slice s = mqg_arena_dup(&a, MQG_SLICE_LIT("abc"));
    assert_true(mqg_slice_eq(s, MQG_SLICE_LIT("abc")));
    s = mqg_arena_dup(&a, MQG_SLICE_NONE);
    assert_int_equal(s.len, 0);
    assert_non_null(s.ptr); /* which tells it from a refusal */
    static const uint8_t big[100];
    s = mqg_arena_dup(&a, mqg_slice_of(big, sizeof big));
    assert_null(s.ptr);
    mqg_arena_fini(&a);
}

static void test_reset_keeps_first_block(void **state)
{
    (void)state;
    struct mqg_arena a;
    mqg_arena_init(&a, 0);
    void *first = mqg_arena_alloc(&a, 100);
    for (int i = 0; i < 100; i++)
        mqg_arena_alloc(&a, 5000);
    mqg_arena_reset(&a);
    assert_ptr_equal(mqg_arena_alloc(&a, 100), first);
    mqg_arena_fini(&a);
    mqg_arena_reset(&a); /* empty: nothing to do */
    mqg_arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alloc_is_zeroed_and_aligned),
        cmocka_unit_test(test_allocations_do_not_overlap),
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_dup),
        cmocka_unit_test(test_reset_keeps_first_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
