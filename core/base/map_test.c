/* map_test.c - the map against an array that is its model, walks with deletion, borrowed and copied keys. */
#include <mqgate/map.h>

#include "test_kit.h"

enum { KEYS = 700 };

struct entry {
    char name[16];
    bool in;
    unsigned seen;
};

static struct entry entries[KEYS];

static struct mqg_slice entry_key(size_t i)
{
    struct entry *e = &entries[i];
    int n = snprintf(e->name, sizeof e->name, "key-%zu", i);
    return mqg_slice_of(e->name, (size_t)n);
}

static void test_empty(void **state)
{
    (void)state;
    struct mqg_map m;
    mqg_map_init(&m, MQG_MAP_COPY);
    struct mqg_map_iter it = {.left = 0};
    assert_null(mqg_map_get(&m, MQG_SLICE_LIT("x")));
    assert_null(mqg_map_del(&m, MQG_SLICE_LIT("x")));
    assert_false(mqg_map_next(&m, &it));
    mqg_map_fini(&m);
}

static void test_set_replaces(void **state)
{
    (void)state;
    struct mqg_map m;
    int one = 1, two = 2;
    mqg_map_init(&m, MQG_MAP_COPY);
    assert_null(mqg_map_set(&m, MQG_SLICE_LIT("a"), &one));
    assert_ptr_equal(mqg_map_set(&m, MQG_SLICE_LIT("a"), &two), &one);
    assert_int_equal(m.count, 1);
    assert_null(mqg_map_set(&m, MQG_SLICE_NONE, &one)); /* the empty key is a key */
    assert_ptr_equal(mqg_map_get(&m, MQG_SLICE_LIT("")), &one);
    assert_ptr_equal(mqg_map_del(&m, MQG_SLICE_LIT("a")), &two);
    assert_null(mqg_map_get(&m, MQG_SLICE_LIT("a")));
    mqg_map_fini(&m);
}

static void test_copied_keys_outlive_their_source(void **state)
{
    (void)state;
    struct mqg_map m;
    int one = 1;
    char name[] = "queue";
    mqg_map_init(&m, MQG_MAP_COPY);
    mqg_map_set(&m, mqg_slice_str(name), &one);
    name[0] = 'X';
    assert_ptr_equal(mqg_map_get(&m, MQG_SLICE_LIT("queue")), &one);
    mqg_map_fini(&m);
}

static void test_borrowed_key_moves_to_the_new_bytes(void **state)
{
    (void)state;
    struct mqg_map m;
    mqg_map_init(&m, MQG_MAP_BORROW);
    char *old = mqg_xstrdup("queue");
    mqg_map_set(&m, mqg_slice_str(old), old);
    char *new = mqg_xstrdup("queue");
    assert_ptr_equal(mqg_map_set(&m, mqg_slice_str(new), new), old);
    free(old);
    assert_ptr_equal(mqg_map_get(&m, MQG_SLICE_LIT("queue")), new);
    mqg_map_fini(&m);
    free(new);
}

static void check_walk(const struct mqg_map *m)
{
    for (size_t i = 0; i < KEYS; i++)
        entries[i].seen = 0;
    size_t n = 0;
    for (struct mqg_map_iter it = {.left = 0}; mqg_map_next(m, &it); n++) {
        struct entry *e = it.value;
        e->seen++;
        assert_true(mqg_slice_eq(it.key, mqg_slice_str(e->name)));
    }
    assert_int_equal(n, m->count);
    for (size_t i = 0; i < KEYS; i++)
        assert_int_equal(entries[i].seen, entries[i].in);
}

static void test_random_ops(void **state)
{
    (void)state;
    struct mqg_map m;
    uint64_t seed = 11;
    size_t count = 0;
    mqg_map_init(&m, MQG_MAP_COPY);
    for (int op = 0; op < 100000; op++) {
        size_t i = (size_t)(test_random(&seed) % KEYS);
        struct entry *e = &entries[i];
        struct mqg_slice key = entry_key(i);
        void *before = e->in ? e : NULL;
        assert_ptr_equal(mqg_map_get(&m, key), before);
        bool set = test_random(&seed) % 100 < (op / 10000 % 2 ? 30 : 70);
        assert_ptr_equal(set ? mqg_map_set(&m, key, e) : mqg_map_del(&m, key), before);
        count = count + (size_t)(set && !e->in) - (size_t)(!set && e->in);
        e->in = set;
        assert_int_equal(m.count, count);
        if (op % 1000 == 0)
            check_walk(&m);
    }
    assert_true(m.cap <= 1024); /* tombstones or leaks would have made it grow */
    mqg_map_fini(&m);
}

static void test_deletion_while_walking(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 200; seed++) {
        struct mqg_map m;
        uint64_t random = seed;
        size_t n = (size_t)(test_random(&random) % KEYS);
        mqg_map_init(&m, MQG_MAP_COPY);
        for (size_t i = 0; i < KEYS; i++) {
            entries[i].seen = 0;
            entries[i].in = i < n;
            if (i < n)
                mqg_map_set(&m, entry_key(i), &entries[i]);
        }
        for (struct mqg_map_iter it = {.left = 0}; mqg_map_next(&m, &it);) {
            struct entry *e = it.value;
            e->seen++;
            if (test_random(&random) % 2 == 0)
                continue;
            assert_ptr_equal(mqg_map_del(&m, it.key), e);
            e->in = false;
        }
        for (size_t i = 0; i < KEYS; i++)
            assert_int_equal(entries[i].seen, i < n);
        check_walk(&m);
        mqg_map_fini(&m);
    }
}

static void test_reserve(void **state)
{
    (void)state;
    struct mqg_map m;
    mqg_map_init(&m, MQG_MAP_BORROW);
    mqg_map_reserve(&m, 96);
    assert_int_equal(m.cap, 128);
    for (size_t i = 0; i < 96; i++)
        mqg_map_set(&m, entry_key(i), &entries[i]);
    assert_int_equal(m.cap, 128);
    mqg_map_set(&m, entry_key(96), &entries[96]);
    assert_int_equal(m.cap, 256);
    mqg_map_fini(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_set_replaces),
        cmocka_unit_test(test_copied_keys_outlive_their_source),
        cmocka_unit_test(test_borrowed_key_moves_to_the_new_bytes),
        cmocka_unit_test(test_random_ops),
        cmocka_unit_test(test_deletion_while_walking),
        cmocka_unit_test(test_reserve),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
