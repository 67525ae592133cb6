/* clock_test.c - the clocks move by themselves, stand when set, and move again. */
#include "test_kit.h"

#include <time.h>

static void test_real(void **state)
{
    (void)state;
    struct mqg_time a = mqg_clock_now();
    uint64_t us = mqg_clock_mono_us();
    assert_true(us / 1000 >= a.mono_ms);
    while (mqg_clock_mono_us() == us)
        ;                       /* a stopped clock hangs here, and the harness says so */
    time_t before = time(NULL); /* its second may begin a tick late */
    struct mqg_time b = mqg_clock_now();
    assert_true(b.mono_ms >= a.mono_ms);
    time_t wall_s = (time_t)(b.wall_us / 1000000);
    assert_true(wall_s >= before && wall_s <= time(NULL) + 1);
}

static void test_frozen(void **state)
{
    (void)state;
    struct mqg_time t = {5000, 1700000000000000};
    mqg_clock_set(&t);
    struct mqg_time now = mqg_clock_now();
    assert_true(now.mono_ms == 5000);
    assert_true(now.wall_us == 1700000000000000);
    assert_true(mqg_clock_mono_us() == 5000000);
    t.mono_ms += 1;
    assert_true(mqg_clock_now().mono_ms == 5000); /* a copy was taken */
    mqg_clock_set(&t);
    assert_true(mqg_clock_now().mono_ms == 5001);
    mqg_clock_set(NULL);
    assert_true(mqg_clock_now().wall_us != 1700000000000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_real),
        cmocka_unit_test(test_frozen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
