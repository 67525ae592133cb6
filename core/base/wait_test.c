/* wait_test.c - a wait ends by the monotonic clock, and when it is told. */
#include <mqgate/wait.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static uint64_t us_of(struct timespec t)
{
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void test_moment(void **state)
{
    (void)state;
    const uint64_t ms[] = {0, 1, 999, 1000, 86400999};
    for (size_t i = 0; i < MQG_COUNTOF(ms); i++) {
        uint64_t before = mqg_clock_mono_us();
        struct timespec t = mqg_wait_until(ms[i]);
        assert_true(t.tv_nsec >= 0 && t.tv_nsec < 1000000000);
        assert_true(us_of(t) >= before + ms[i] * 1000 && us_of(t) <= mqg_clock_mono_us() + ms[i] * 1000);
    }
}

static void test_time_over(void **state)
{
    (void)state;
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t c;
    mqg_cond_init(&c);
    uint64_t before = mqg_clock_mono_us();
    struct timespec until = mqg_wait_until(20);
    int rc = 0;
    pthread_mutex_lock(&lock);
    while (rc == 0)
        rc = pthread_cond_timedwait(&c, &lock, &until);
    pthread_mutex_unlock(&lock);
    assert_int_equal(rc, ETIMEDOUT); /* at once, were it another clock */
    assert_true(mqg_clock_mono_us() >= before + 20000);
    pthread_cond_destroy(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_moment), cmocka_unit_test(test_time_over)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
