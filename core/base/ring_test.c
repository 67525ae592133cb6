/* ring_test.c - order and bounds alone; with threads, that nothing is lost, doubled or reordered, nor a wake
 * missed. */
#include <mqgate/ring.h>

#include "test_kit.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>

enum { ITEMS = 50000, PRODUCERS = 4 };

struct item {
    struct mqg_mpsc_node node;
    size_t producer, number;
};

static struct item items[PRODUCERS][ITEMS];

/* ---- ring ---------------------------------------------------------------------------------------------- */

static void test_ring_bounds(void **state)
{
    (void)state;
    struct mqg_ring r;
    mqg_ring_init(&r, 4);
    assert_null(mqg_ring_pop(&r));
    for (int lap = 0; lap < 10; lap++) {
        for (size_t i = 0; i < 4; i++)
            assert_true(mqg_ring_push(&r, &items[0][i]));
        assert_false(mqg_ring_push(&r, &items[0][4]));
        assert_int_equal(mqg_ring_count(&r), 4);
        assert_ptr_equal(mqg_ring_pop(&r), &items[0][0]);
        assert_true(mqg_ring_push(&r, &items[0][4]));
        for (size_t i = 1; i < 5; i++)
            assert_ptr_equal(mqg_ring_pop(&r), &items[0][i]);
        assert_null(mqg_ring_pop(&r));
        assert_int_equal(mqg_ring_count(&r), 0);
    }
    mqg_ring_fini(&r);
}

static void ring_of_three(void *arg)
{
    mqg_ring_init(arg, 3);
}

static void test_ring_capacity(void **state)
{
    (void)state;
    char text[1024];
    struct mqg_ring r;
    assert_true(test_dies(ring_of_three, &r, text, sizeof text));
    mqg_ring_init(&r, 1);
    assert_true(mqg_ring_push(&r, &r));
    assert_false(mqg_ring_push(&r, &r));
    assert_ptr_equal(mqg_ring_pop(&r), &r);
    mqg_ring_fini(&r);
}

static void *ring_produce(void *arg)
{
    struct mqg_ring *r = arg;
    for (size_t i = 0; i < ITEMS; i++) {
        items[0][i].number = i; /* plain: the push must carry it over */
        while (!mqg_ring_push(r, &items[0][i]))
            sched_yield();
    }
    return NULL;
}

static void test_ring_threads(void **state)
{
    (void)state;
    struct mqg_ring r;
    pthread_t producer;
    mqg_ring_init(&r, 16);
    assert_int_equal(pthread_create(&producer, NULL, ring_produce, &r), 0);
    for (size_t i = 0; i < ITEMS;) {
        struct item *item = mqg_ring_pop(&r);
        assert_true(mqg_ring_count(&r) <= 16);
        if (item == NULL) {
            sched_yield();
            continue;
        }
        assert_ptr_equal(item, &items[0][i]);
        assert_int_equal(item->number, i);
        i++;
    }
    pthread_join(producer, NULL);
    assert_null(mqg_ring_pop(&r));
    mqg_ring_fini(&r);
}

/* ---- mpsc ---------------------------------------------------------------------------------------------- */

static void test_mpsc_order(void **state)
{
    (void)state;
    struct mqg_mpsc q;
    mqg_mpsc_init(&q);
    assert_null(mqg_mpsc_take_all(&q));
    assert_true(mqg_mpsc_empty(&q));
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(mqg_mpsc_push(&q, &items[0][i].node), i == 0);
    assert_false(mqg_mpsc_empty(&q));
    struct mqg_mpsc_node *node = mqg_mpsc_take_all(&q);
    assert_true(mqg_mpsc_empty(&q));
    for (size_t i = 0; i < 5; i++, node = node->next)
        assert_ptr_equal(MQG_CONTAINER_OF(node, struct item, node), &items[0][i]);
    assert_null(node);
    assert_true(mqg_mpsc_push(&q, &items[0][0].node));
    assert_null(mqg_mpsc_take_all(&q)->next);
}

struct mpsc_world {
    struct mqg_mpsc q;
    sem_t wake;
    _Atomic size_t producers;
};

static void *mpsc_produce(void *arg)
{
    struct mpsc_world *w = arg;
    size_t me = atomic_fetch_add(&w->producers, 1);
    for (size_t i = 0; i < ITEMS; i++) {
        items[me][i].producer = me;
        items[me][i].number = i;
        if (mqg_mpsc_push(&w->q, &items[me][i].node))
            sem_post(&w->wake);
        if (i % 64 == 0)
            sched_yield();
    }
    return NULL;
}

static size_t mpsc_consume(struct mpsc_world *w, size_t *next)
{
    size_t n = 0;
    for (struct mqg_mpsc_node *node = mqg_mpsc_take_all(&w->q), *after; node != NULL; node = after, n++) {
        struct item *item = MQG_CONTAINER_OF(node, struct item, node);
        after = node->next;
        assert_int_equal(item->number, next[item->producer]);
        next[item->producer]++;
    }
    return n;
}

static void test_mpsc_threads(void **state)
{
    (void)state;
    struct mpsc_world w = {.producers = 0};
    pthread_t threads[PRODUCERS];
    size_t next[PRODUCERS] = {0}, total = 0;
    mqg_mpsc_init(&w.q);
    assert_int_equal(sem_init(&w.wake, 0, 0), 0);
    for (size_t i = 0; i < PRODUCERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, mpsc_produce, &w), 0);
    while (total < (size_t)PRODUCERS * ITEMS) {
        sem_wait(&w.wake); /* hangs when a push to the empty list did not say so */
        total += mpsc_consume(&w, next);
    }
    for (size_t i = 0; i < PRODUCERS; i++)
        pthread_join(threads[i], NULL);
    assert_true(mqg_mpsc_empty(&w.q));
    sem_destroy(&w.wake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ring_bounds),  cmocka_unit_test(test_ring_capacity),
        cmocka_unit_test(test_ring_threads), cmocka_unit_test(test_mpsc_order),
        cmocka_unit_test(test_mpsc_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
