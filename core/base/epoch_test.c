/* epoch_test.c - nothing is freed before each reader was quiescent, everything after; then with threads on a
 * map. */
#include <mqgate/epoch.h>
#include <mqgate/pmap.h>

#include "test_kit.h"

#include <pthread.h>

static size_t freed;

static void count_free(void *ptr, void *arg)
{
    assert_ptr_equal(arg, &freed);
    free(ptr);
    freed++;
}

static void retire_one(void)
{
    mqg_epoch_retire(mqg_xmalloc(8), count_free, &freed);
}

static void test_without_readers(void **state)
{
    (void)state;
    freed = 0;
    assert_int_equal(mqg_epoch_reclaim(), 0);
    for (int i = 0; i < 1000; i++)
        retire_one();
    assert_int_equal(mqg_epoch_pending(), 1000);
    assert_int_equal(mqg_epoch_reclaim(), 1000);
    assert_int_equal(freed, 1000);
    assert_int_equal(mqg_epoch_pending(), 0);
}

static void test_reader_holds_until_quiescent(void **state)
{
    (void)state;
    freed = 0;
    struct mqg_epoch_reader *a = mqg_epoch_register(), *b = mqg_epoch_register();
    retire_one();
    for (int i = 0; i < 5; i++)
        assert_int_equal(mqg_epoch_reclaim(), 0);
    mqg_epoch_quiescent(a);
    assert_int_equal(mqg_epoch_reclaim(), 0); /* b may hold it still */
    retire_one();                             /* and a this one */
    mqg_epoch_quiescent(b);
    assert_int_equal(mqg_epoch_reclaim(), 1);
    assert_int_equal(mqg_epoch_pending(), 1);
    mqg_epoch_quiescent(a);
    mqg_epoch_quiescent(b);
    assert_int_equal(mqg_epoch_reclaim(), 1);
    mqg_epoch_unregister(&a);
    mqg_epoch_unregister(&b);
    assert_null(a);
    mqg_epoch_unregister(&a);
    assert_int_equal(freed, 2);
}

static void test_quiescent_before_retiring_does_not_count(void **state)
{
    (void)state;
    freed = 0;
    struct mqg_epoch_reader *a = mqg_epoch_register();
    mqg_epoch_quiescent(a);
    retire_one();
    assert_int_equal(mqg_epoch_reclaim(), 0);
    mqg_epoch_quiescent(a);
    assert_int_equal(mqg_epoch_reclaim(), 1);
    mqg_epoch_unregister(&a);
}

static void test_offline_and_unregistered_hold_nothing(void **state)
{
    (void)state;
    freed = 0;
    struct mqg_epoch_reader *a = mqg_epoch_register(), *b = mqg_epoch_register();
    mqg_epoch_offline(a);
    mqg_epoch_quiescent(b);
    retire_one();
    mqg_epoch_reclaim();
    mqg_epoch_unregister(&b);
    assert_int_equal(mqg_epoch_reclaim(), 1);
    mqg_epoch_online(a);
    retire_one();
    assert_int_equal(mqg_epoch_reclaim(), 0);
    mqg_epoch_offline(a);
    assert_int_equal(mqg_epoch_reclaim(), 1);
    mqg_epoch_unregister(&a);
    assert_int_equal(freed, 2);
}

static void quiescent_offline(void *arg)
{
    mqg_epoch_offline(arg);
    mqg_epoch_quiescent(arg);
}

static void online_twice(void *arg)
{
    mqg_epoch_online(arg);
}

static void test_misuse(void **state)
{
    (void)state;
    char text[1024];
    struct mqg_epoch_reader *a = mqg_epoch_register();
    assert_true(test_dies(quiescent_offline, a, text, sizeof text));
    assert_true(test_dies(online_twice, a, text, sizeof text));
    mqg_epoch_unregister(&a);
}

static void free_and_retire(void *ptr, void *arg)
{
    count_free(ptr, arg);
    if (freed < 5)
        mqg_epoch_retire(mqg_xmalloc(8), free_and_retire, arg);
}

static void test_free_may_retire(void **state)
{
    (void)state;
    freed = 0;
    mqg_epoch_retire(mqg_xmalloc(8), free_and_retire, &freed);
    while (mqg_epoch_reclaim() > 0)
        ;
    assert_int_equal(freed, 5);
    assert_int_equal(mqg_epoch_pending(), 0);
}

/* ---- threads ------------------------------------------------------------------------------------------- */

enum { THINGS = 64, READERS = 3, WRITES = 50000 };

/* A thing says which key it is for; freed things are overwritten first, so that a reader of one notices. */
struct thing {
    size_t key;
    uint64_t check;
};

static _Atomic(struct mqg_pmap *) published;
static pthread_barrier_t start;
static _Atomic bool stop;
static _Atomic uint64_t reads;

static void thing_free(void *ptr, void *arg)
{
    (void)arg;
    struct thing *t = ptr;
    t->check = 0;
    free(t);
}

static struct mqg_slice thing_key(size_t i, char *text, size_t size)
{
    int n = snprintf(text, size, "thing-%zu", i);
    return mqg_slice_of(text, (size_t)n);
}

static void *reader_run(void *arg)
{
    struct mqg_epoch_reader *me = mqg_epoch_register();
    uint64_t seed = *(uint64_t *)arg, bad = 0, found = 0;
    char text[32];
    pthread_barrier_wait(&start);
    while (!atomic_load(&stop) || found == 0) {
        struct mqg_pmap *root = atomic_load_explicit(&published, memory_order_acquire);
        for (int n = 0; n < 20; n++) {
            size_t i = (size_t)(test_random(&seed) % THINGS);
            struct thing *t = mqg_pmap_get(root, thing_key(i, text, sizeof text));
            found += t != NULL;
            bad += t != NULL && (t->key != i || t->check != UINT64_C(0xfeed));
        }
        mqg_epoch_quiescent(me);
        if (test_random(&seed) % 8 == 0) {
            mqg_epoch_offline(me);
            mqg_epoch_online(me);
        }
    }
    atomic_fetch_add(&reads, found);
    mqg_epoch_unregister(&me);
    return bad == 0 ? arg : NULL;
}

static struct mqg_pmap *writer_change(const struct mqg_pmap_edit *edit, struct mqg_pmap *root, uint64_t *seed,
                                      struct thing **replaced)
{
    char text[32];
    size_t i = (size_t)(test_random(seed) % THINGS);
    struct mqg_slice key = thing_key(i, text, sizeof text);
    *replaced = mqg_pmap_get(root, key);
    if (test_random(seed) % 3 == 0)
        return mqg_pmap_del(edit, root, key);
    struct thing *t = mqg_xmalloc(sizeof *t);
    *t = (struct thing){i, UINT64_C(0xfeed)};
    return mqg_pmap_set(edit, root, key, t);
}

static void writer_run(void)
{
    uint64_t seed = 77;
    struct mqg_pmap *root = NULL;
    for (int w = 0; w < WRITES; w++) {
        struct mqg_pmap_edit edit;
        struct thing *replaced = NULL;
        mqg_pmap_edit_begin(&edit, mqg_epoch_retire);
        root = writer_change(&edit, root, &seed, &replaced);
        atomic_store_explicit(&published, root, memory_order_release);
        if (replaced != NULL)
            mqg_epoch_retire(replaced, thing_free, NULL);
        if (w % 4 == 0)
            mqg_epoch_reclaim();
    }
}

static bool thing_retire(struct mqg_slice key, void *value, void *arg)
{
    (void)key;
    (void)arg;
    mqg_epoch_retire(value, thing_free, NULL);
    return true;
}

static void test_threads(void **state)
{
    (void)state;
    pthread_t threads[READERS];
    uint64_t seeds[READERS] = {3, 5, 7};
    assert_int_equal(pthread_barrier_init(&start, NULL, READERS + 1), 0);
    for (size_t i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, reader_run, &seeds[i]), 0);
    pthread_barrier_wait(&start);
    writer_run();
    atomic_store(&stop, true);
    for (size_t i = 0; i < READERS; i++) {
        void *good = NULL;
        pthread_join(threads[i], &good);
        assert_non_null(good);
    }
    assert_true(atomic_load(&reads) > 0);
    pthread_barrier_destroy(&start);
    struct mqg_pmap *root = atomic_load(&published);
    mqg_pmap_each(root, thing_retire, NULL);
    mqg_epoch_retire(root, mqg_pmap_free, NULL);
    while (mqg_epoch_reclaim() > 0)
        ;
    assert_int_equal(mqg_epoch_pending(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_readers),
        cmocka_unit_test(test_reader_holds_until_quiescent),
        cmocka_unit_test(test_quiescent_before_retiring_does_not_count),
        cmocka_unit_test(test_offline_and_unregistered_hold_nothing),
        cmocka_unit_test(test_misuse),
        cmocka_unit_test(test_free_may_retire),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
