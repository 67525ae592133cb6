/* set_test.c - the set of ranges against a plain bitmap. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "set.h"

enum { SET_ALL = 4096, SET_ROUNDS = 3000 };

static void set_check(const struct jrn_set *set, const bool *want)
{
    uint64_t before = 0, members = 0;
    for (uint32_t p = 0; p < set->npage; p++) {
        uint64_t in_page = 0;
        assert_true(set->pages[p]->n > 0 && set->pages[p]->n <= set->pages[p]->cap);
        for (uint32_t i = 0; i < set->pages[p]->n; i++) {
            struct mqg_range r = set->pages[p]->at[i];
            assert_true(r.first <= r.last);
            assert_true(members == 0 || r.first > before + 1); /* apart */
            before = r.last;
            in_page += r.last - r.first + 1;
            members += r.last - r.first + 1;
        }
        assert_int_equal(in_page, set->pages[p]->members);
    }
    uint64_t n = 0;
    for (uint64_t q = 0; q < SET_ALL; q++) {
        assert_int_equal(jrn_set_has(set, q), want[q]);
        n += want[q];
    }
    assert_int_equal(members, n);
}

static uint64_t set_slow_count(const bool *want, uint64_t first, uint64_t last)
{
    uint64_t n = 0;
    for (uint64_t q = first; q <= last && q < SET_ALL; q++)
        n += want[q];
    return n;
}

static void set_against_bitmap(void **state)
{
    (void)state;
    for (uint32_t width = 1; width <= 64; width *= 4) {
        static bool want[SET_ALL];
        struct jrn_set set = {0};
        memset(want, 0, sizeof want);
        for (int i = 0; i < SET_ROUNDS; i++) {
            uint64_t first = mqg_random_u64() % SET_ALL, last = first + mqg_random_u64() % width;
            last = last < SET_ALL ? last : SET_ALL - 1;
            jrn_set_add(&set, first, last);
            for (uint64_t q = first; q <= last; q++)
                want[q] = true;
            uint64_t a = mqg_random_u64() % SET_ALL, b = a + mqg_random_u64() % SET_ALL;
            assert_int_equal(jrn_set_count(&set, a, b), set_slow_count(want, a, b));
            if (i % 100 == 0)
                set_check(&set, want);
        }
        set_check(&set, want);
        jrn_set_fini(&set);
    }
}

static void set_in_order(void **state)
{
    struct jrn_set set = {0};
    (void)state;
    for (uint64_t q = 1; q < 100000; q += 3)
        jrn_set_add(&set, q, q + 2);
    assert_int_equal(set.npage, 1);
    assert_int_equal(set.pages[0]->n, 1);
    assert_int_equal(set.pages[0]->cap, 2); /* an idle queue costs bytes, not pages */
    assert_int_equal(jrn_set_count(&set, 0, UINT64_MAX - 1), 99999);
    jrn_set_fini(&set);
}

/* Every second one: a range each, and cheap where it grows; then the gaps are filled and one range is left. */
static void set_every_second(void **state)
{
    struct jrn_set set = {0};
    (void)state;
    for (uint64_t q = 0; q < 100000; q += 2)
        jrn_set_add(&set, q, q);
    assert_int_equal(jrn_set_count(&set, 0, 99999), 50000);
    assert_true(set.npage <= 50000 / 128 + 1);
    assert_false(jrn_set_has(&set, 77));
    for (uint64_t q = 99999; q < 100000; q -= 2)
        jrn_set_add(&set, q, q);
    assert_int_equal(set.npage, 1);
    assert_int_equal(set.pages[0]->n, 1);
    jrn_set_fini(&set);
}

static void set_bounds(void **state)
{
    struct jrn_set set = {0};
    (void)state;
    assert_false(jrn_set_has(&set, 0));
    assert_int_equal(jrn_set_count(&set, 0, UINT64_MAX), 0);
    jrn_set_add(&set, 0, 0);
    jrn_set_add(&set, UINT64_MAX - 2, UINT64_MAX - 1);
    jrn_set_add(&set, 5, UINT64_MAX); /* no qseq is that large */
    assert_true(jrn_set_has(&set, 0));
    assert_true(jrn_set_has(&set, UINT64_MAX - 1));
    assert_false(jrn_set_has(&set, UINT64_MAX));
    assert_int_equal(jrn_set_count(&set, 0, UINT64_MAX), 3);
    jrn_set_add(&set, 1, UINT64_MAX - 3);
    assert_int_equal(set.pages[0]->n, 1);
    jrn_set_fini(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(set_against_bitmap), cmocka_unit_test(set_in_order),
                                       cmocka_unit_test(set_every_second), cmocka_unit_test(set_bounds)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
