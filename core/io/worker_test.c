/* worker_test.c - timers, tasks, calls, phases: by hand on a virtual clock, and with threads. */
#include "worker_int.h"

#include <mqgate/obs.h>

#include <sched.h>
#include <setjmp.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static struct mqg_worker *worker;

static int manual_setup(void **state)
{
    (void)state;
    worker = mqg_worker_manual();
    return 0;
}

static int manual_teardown(void **state)
{
    (void)state;
    mqg_workers_fini();
    mqg_clock_set(NULL);
    return 0;
}

static void clock_at(uint64_t ms)
{
    mqg_clock_set(&(struct mqg_time){ms, ms * 1000});
    mqg_worker_turn(worker, 0);
}

/* ---- timers -------------------------------------------------------------------------------------------------------------- */

enum { TIMERS = 500 };

struct test_timer {
    struct mqg_timer timer;
    uint64_t fired_ms;
};

static struct test_timer timers[TIMERS];
static uint64_t last_fired_ms;
static int fired;

static void timer_fired(struct mqg_timer *t)
{
    struct test_timer *mine = MQG_CONTAINER_OF(t, struct test_timer, timer);
    assert_int_equal(t->due_ms, 0);
    mine->fired_ms = worker->now.mono_ms;
    last_fired_ms = worker->now.mono_ms;
    fired++;
}

static void test_timers_fire_in_order_and_never_early(void **state)
{
    (void)state;
    clock_at(1000);
    unsigned seed = 7;
    uint64_t due[TIMERS];
    for (int i = 0; i < TIMERS; i++) {
        mqg_timer_init(&timers[i].timer, timer_fired);
        due[i] = 1000 + (uint64_t)(rand_r(&seed) % 300);
        mqg_timer_at(&timers[i].timer, i % 2 ? due[i] + 50 : 1000 + (due[i] - 1000) / 2);
        mqg_timer_at(&timers[i].timer, due[i]); /* moved, to earlier or later */
    }
    for (int i = 0; i < TIMERS; i += 5)
        mqg_timer_cancel(&timers[i].timer);
    fired = 0;
    for (uint64_t ms = 1000; ms <= 1300; ms++)
        clock_at(ms);
    assert_int_equal(fired, TIMERS - TIMERS / 5);
    for (int i = 0; i < TIMERS; i++)
        assert_int_equal(timers[i].fired_ms, i % 5 == 0 ? 0 : due[i]);
}

static int again_count;

static void timer_again(struct mqg_timer *t)
{
    again_count++;
    mqg_timer_in(t, 0);
}

static void test_a_timer_that_arms_itself_does_not_hold_the_turn(void **state)
{
    (void)state;
    clock_at(1000);
    struct mqg_timer t;
    mqg_timer_init(&t, timer_again);
    mqg_timer_in(&t, 0);
    clock_at(1000);
    assert_int_equal(again_count, 1);
    clock_at(1000);
    assert_int_equal(again_count, 2);
    mqg_timer_cancel(&t);
    mqg_timer_cancel(&t); /* twice is fine */
    clock_at(2000);
    assert_int_equal(again_count, 2);
}

static void test_sleep_ends_for_a_timer(void **state)
{
    (void)state;
    mqg_worker_turn(worker, 0);
    struct test_timer *t = &timers[0];
    mqg_timer_init(&t->timer, timer_fired);
    fired = 0;
    uint64_t start = mqg_clock_now().mono_ms;
    mqg_timer_in(&t->timer, 30);
    while (fired == 0)
        mqg_worker_turn(worker, 600000); /* a turn that overslept the timer meets the harness's limit */
    assert_true(mqg_clock_now().mono_ms - start >= 29);
}

/* ---- phases ---------------------------------------------------------------------------------------------------------------- */

static char phase_log[64];
static int publish_work, deliver_work;

static bool phase_note(char c, int *work)
{
    size_t n = strlen(phase_log);
    assert_true(n + 1 < sizeof phase_log);
    phase_log[n] = c;
    return work != NULL && *work > 0 && (*work)-- > 0;
}

static bool phase_publish(struct mqg_worker *w)
{
    (void)w;
    return phase_note('P', &publish_work);
}

static bool phase_deliver(struct mqg_worker *w)
{
    (void)w;
    return phase_note('D', &deliver_work);
}

static bool phase_store(struct mqg_worker *w)
{
    (void)w;
    return phase_note('S', NULL);
}

static void test_phases_run_until_nothing_is_left(void **state)
{
    (void)state;
    mqg_worker_on_phase(MQG_PHASE_PUBLISH, phase_publish);
    mqg_worker_on_phase(MQG_PHASE_DELIVER, phase_deliver);
    mqg_worker_on_phase(MQG_PHASE_STORE, phase_store);
    memset(phase_log, 0, sizeof phase_log);
    mqg_worker_turn(worker, 0);
    assert_string_equal(phase_log, "PDS");
    memset(phase_log, 0, sizeof phase_log);
    publish_work = 1;
    deliver_work = 2;
    mqg_worker_turn(worker, 0);
    assert_string_equal(phase_log, "PDPDPDSPDS");
}

/* ---- tasks ------------------------------------------------------------------------------------------------------------------- */

struct count_task {
    struct mqg_task task;
    int number;
};

static int task_last;

static void count_run(struct mqg_task *task)
{
    struct count_task *mine = MQG_CONTAINER_OF(task, struct count_task, task);
    assert_int_equal(mine->number, task_last + 1);
    task_last = mine->number;
}

static void test_tasks_keep_their_order(void **state)
{
    (void)state;
    static struct count_task tasks[100];
    task_last = 0;
    for (int i = 0; i < 100; i++) {
        tasks[i] = (struct count_task){{NULL, count_run}, i + 1};
        mqg_worker_post(worker, &tasks[i].task);
    }
    mqg_worker_turn(worker, 5000); /* does not sleep: there is work */
    assert_int_equal(task_last, 100);
}

enum { POSTERS = 3, POSTS = 20000 };

struct poster {
    pthread_t thread;
    int index;
    struct mqg_task tasks[POSTS];
};

static struct poster posters[POSTERS];
static struct mqg_task *poster_next[POSTERS];
static _Atomic int posts_run;

static void post_run(struct mqg_task *task)
{
    for (int i = 0; i < POSTERS; i++) {
        if (task < posters[i].tasks || task >= posters[i].tasks + POSTS)
            continue;
        MQG_ASSERT(task == poster_next[i]); /* the order of each poster */
        poster_next[i]++;
    }
    atomic_fetch_add(&posts_run, 1);
}

static void *poster_main(void *arg)
{
    struct poster *p = arg;
    for (int i = 0; i < POSTS; i++) {
        p->tasks[i].run = post_run;
        mqg_worker_post(mqg_worker_at(0), &p->tasks[i]);
        if (i % 1000 == 0)
            usleep(100); /* so that the worker falls asleep now and then */
    }
    return NULL;
}

static void test_posts_from_threads_all_arrive(void **state)
{
    (void)state;
    struct mqg_error e;
    atomic_store(&posts_run, 0);
    assert_int_equal(mqg_workers_init(2, &e), MQG_OK);
    for (int i = 0; i < POSTERS; i++)
        poster_next[i] = posters[i].tasks;
    mqg_workers_start();
    for (int i = 0; i < POSTERS; i++)
        assert_int_equal(pthread_create(&posters[i].thread, NULL, poster_main, &posters[i]), 0);
    for (int i = 0; i < POSTERS; i++)
        pthread_join(posters[i].thread, NULL);
    for (int i = 0; i < 50000 && atomic_load(&posts_run) < POSTERS * POSTS; i++)
        usleep(1000);
    assert_int_equal(atomic_load(&posts_run), POSTERS * POSTS);
    mqg_workers_fini();
}

/* ---- wake and call -------------------------------------------------------------------------------------------------------------- */

static _Atomic int wake_seen, wake_wanted;

static bool wake_phase(struct mqg_worker *w)
{
    if (w->index == 0)
        atomic_store(&wake_seen, atomic_load(&wake_wanted));
    return false;
}

static void test_no_wake_is_lost(void **state)
{
    (void)state;
    struct mqg_error e;
    mqg_worker_on_phase(MQG_PHASE_PUBLISH, wake_phase);
    assert_int_equal(mqg_workers_init(1, &e), MQG_OK);
    mqg_workers_start();
    for (int i = 1; i <= 5000; i++) {
        atomic_store(&wake_wanted, i);
        mqg_worker_wake(mqg_worker_at(0));
        uint64_t deadline = mqg_clock_now().mono_ms + 50000;
        while (atomic_load(&wake_seen) != i) {
            assert_true(mqg_clock_now().mono_ms < deadline);
            sched_yield();
        }
    }
    mqg_workers_fini();
}

static void call_note(void *arg)
{
    *(struct mqg_worker **)arg = mqg_worker_self();
}

static _Atomic int hooks_started, hooks_stopped;

static void hook_start(struct mqg_worker *w)
{
    MQG_ASSERT(mqg_worker_self() == w);
    hooks_started++;
}

static void hook_stop(struct mqg_worker *w)
{
    MQG_ASSERT(mqg_worker_self() == w);
    hooks_stopped++;
}

static void test_calls_run_there_and_end_with_the_worker(void **state)
{
    (void)state;
    struct mqg_error e;
    mqg_worker_on_start(hook_start, hook_stop);
    mqg_worker_on_start(hook_start, hook_stop); /* once */
    assert_int_equal(mqg_workers_init(2, &e), MQG_OK);
    mqg_workers_start();
    assert_int_equal(hooks_started, 2);
    struct mqg_worker *seen = NULL;
    assert_true(mqg_worker_call(mqg_worker_at(1), call_note, &seen));
    assert_ptr_equal(seen, mqg_worker_at(1));
    assert_null(mqg_worker_self());
    mqg_workers_stop();
    assert_int_equal(hooks_stopped, 2);
    assert_false(mqg_worker_call(mqg_worker_at(1), call_note, &seen));
    mqg_workers_fini();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_timers_fire_in_order_and_never_early, manual_setup,
                                        manual_teardown),
        cmocka_unit_test_setup_teardown(test_a_timer_that_arms_itself_does_not_hold_the_turn, manual_setup,
                                        manual_teardown),
        cmocka_unit_test_setup_teardown(test_sleep_ends_for_a_timer, manual_setup, manual_teardown),
        cmocka_unit_test_setup_teardown(test_phases_run_until_nothing_is_left, manual_setup, manual_teardown),
        cmocka_unit_test_setup_teardown(test_tasks_keep_their_order, manual_setup, manual_teardown),
        cmocka_unit_test(test_posts_from_threads_all_arrive),
        cmocka_unit_test(test_no_wake_is_lost),
        cmocka_unit_test(test_calls_run_there_and_end_with_the_worker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
