/* subs_test.c - the table of subscriptions against a plain array, through growth and holes. */
#include "subs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { NAMES = 3000 };

static struct mqg_slice name_of(unsigned i, char room[32])
{
    return mqg_slice_of(room, (size_t)snprintf(room, 32, "site/%u/x%u", i % 7, i));
}

static void check_all(const struct mqtt_subs *t, const bool *there)
{
    char room[32];
    uint32_t n = 0;
    for (unsigned i = 0; i < NAMES; i++) {
        struct mqtt_sub *sub = mqtt_subs_get(t, name_of(i, room));
        assert_int_equal(sub != NULL, there[i]);
        if (!sub)
            continue;
        n++;
        assert_true(mqg_slice_eq(mqtt_sub_name(sub), name_of(i, room)));
        assert_int_equal(sub->id, i);
    }
    assert_int_equal(t->n, n);
}

static void test_add_and_del(void **state)
{
    (void)state;
    struct mqtt_subs t = {0};
    bool there[NAMES] = {false};
    char room[32];
    uint32_t seed = 1;
    for (unsigned step = 0; step < 40000; step++) {
        seed = seed * 1664525 + 1013904223;
        unsigned i = (seed >> 8) % (step < 500 ? 12 : NAMES);
        struct mqtt_sub *sub = mqtt_subs_get(&t, name_of(i, room));
        if (sub)
            mqtt_subs_del(&t, sub);
        else
            mqtt_subs_add(&t, name_of(i, room))->id = i;
        there[i] = !there[i];
        if (step % 997 == 0 || step < 200)
            check_all(&t, there);
    }
    while (t.n > 0)
        mqtt_subs_del(&t, t.list[t.n / 2]);
    assert_null(t.list);
    assert_null(t.index);
    mqtt_subs_fini(&t);
}

static void test_parts_of_a_name(void **state)
{
    (void)state;
    struct mqtt_subs t = {0};
    struct mqtt_sub *sub = mqtt_subs_add(&t, mqg_slice_str("$share/g/a/b"));
    sub->filter_at = 9;
    assert_true(mqg_slice_eq(mqtt_sub_filter(sub), mqg_slice_str("a/b")));
    assert_true(mqg_slice_eq(mqtt_sub_name(sub), mqg_slice_str("$share/g/a/b")));
    assert_null(mqtt_subs_get(&t, mqg_slice_str("a/b")));
    mqtt_subs_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_add_and_del),
        cmocka_unit_test(test_parts_of_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
