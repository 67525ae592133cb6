/* pmap_test.c - the persistent map against a model, with old roots kept alive; under hashes that collide as
 * well.
 *
 * Retired nodes wait in a queue, as epochs would keep them: they are freed when no snapshot older than their
 * retiring is left. A node retired too early is then a use after free, one never retired a leak:
 * AddressSanitizer sees both. */
#include <mqgate/pmap.h>
#include <mqgate/vec.h>

#include "test_kit.h"

enum { KEYS = 600, SNAPSHOTS = 6, OPS = 100000 };

/* ---- a world with snapshots ---------------------------------------------------------------------------- */

static struct mqg_vec limbo; /* retired, oldest first */
static size_t limbo_freed;   /* how many were freed before limbo.items[0] */
static int values[2][KEYS];  /* each key may have either of two values */

struct snapshot {
    struct mqg_pmap *root;
    size_t limbo_at;     /* retired from here on may be reached from root */
    uint8_t model[KEYS]; /* 0 absent, 1 or 2: which value */
};

static void limbo_retire(void *ptr, void (*free_fn)(void *ptr, void *arg), void *arg)
{
    assert_non_null(ptr);
    assert_non_null(free_fn);
    assert_null(arg);
    mqg_vec_push(&limbo, ptr);
}

static void limbo_free_before(size_t at)
{
    size_t n = at - limbo_freed;
    if (n == 0)
        return;
    for (size_t i = 0; i < n; i++)
        free(limbo.items[i]);
    limbo.n -= n;
    memmove(limbo.items, limbo.items + n, limbo.n * sizeof(void *));
    limbo_freed = at;
}

static void limbo_end(void)
{
    limbo_free_before(limbo_freed + limbo.n);
    mqg_vec_fini(&limbo);
    limbo_freed = 0;
}

static struct mqg_slice key_of(size_t i, char *text, size_t size)
{
    int n = snprintf(text, size, "%s-%zu", i % 3 ? "queue" : "an.exchange.with.a.longer.name", i);
    return mqg_slice_of(text, (size_t)n);
}

static void *value_of(size_t i, uint8_t which)
{
    return which ? &values[which - 1][i] : NULL;
}

static size_t key_index(void *value)
{
    int *v = value;
    return (size_t)(v >= values[1] ? v - values[1] : v - values[0]);
}

static void snapshot_check_walk(const struct snapshot *s)
{
    uint8_t seen[KEYS] = {0};
    char text[64];
    size_t n = 0;
    struct mqg_pmap_cursor c;
    for (mqg_pmap_cursor_init(&c, s->root); mqg_pmap_cursor_next(&c); n++) {
        size_t i = key_index(c.value);
        assert_int_equal(seen[i]++, 0);
        assert_ptr_equal(c.value, value_of(i, s->model[i]));
        assert_true(mqg_slice_eq(c.key, key_of(i, text, sizeof text)));
    }
    assert_int_equal(n, mqg_pmap_count(s->root));
}

static void snapshot_check(const struct snapshot *s, uint64_t (*hash)(size_t i))
{
    char text[64];
    size_t count = 0;
    for (size_t i = 0; i < KEYS; i++) {
        struct mqg_slice key = key_of(i, text, sizeof text);
        assert_ptr_equal(mqg_pmap_get_hashed(s->root, hash(i), key), value_of(i, s->model[i]));
        count += s->model[i] != 0;
    }
    assert_int_equal(mqg_pmap_count(s->root), count);
    snapshot_check_walk(s);
}

static void snapshot_change(struct snapshot *s, const struct mqg_pmap_edit *edit, uint64_t (*hash)(size_t i),
                            size_t i, uint8_t which)
{
    char text[64];
    struct mqg_slice key = key_of(i, text, sizeof text);
    if (which > 0)
        s->root = mqg_pmap_set_hashed(edit, s->root, hash(i), key, value_of(i, which));
    else
        s->root = mqg_pmap_del_hashed(edit, s->root, hash(i), key);
    s->model[i] = which;
    memset(text, 'x', sizeof text); /* keys are copies */
    assert_ptr_equal(mqg_pmap_get_hashed(s->root, hash(i), key_of(i, text, sizeof text)), value_of(i, which));
}

/* ---- hashes -------------------------------------------------------------------------------------------- */

static uint64_t hash_good(size_t i)
{
    char text[64];
    return mqg_hash(key_of(i, text, sizeof text));
}

static uint64_t hash_none(size_t i)
{
    (void)i;
    return UINT64_C(0x123456789abcdef0);
}

static uint64_t hash_seven(size_t i)
{
    return (i % 7) * UINT64_C(0x9e3779b97f4a7c15);
}

/* Equal in all levels but the last, where four bits are left. */
static uint64_t hash_last_level(size_t i)
{
    return ((uint64_t)i % 16) << 60 | 5;
}

/* Differ only from the fourth level on. */
static uint64_t hash_deep(size_t i)
{
    return (uint64_t)i << 18;
}

/* ---- tests --------------------------------------------------------------------------------------------- */

static void random_ops(uint64_t (*hash)(size_t i), int ops)
{
    struct snapshot now = {.root = NULL}, old[SNAPSHOTS] = {{.root = NULL}};
    struct mqg_pmap_edit edit;
    uint64_t seed = 5;
    mqg_pmap_edit_begin(&edit, limbo_retire);
    for (int op = 0; op < ops; op++) {
        bool filling = op / (ops / 10) % 2 == 0;
        bool remove = test_random(&seed) % 100 < (filling ? 25 : 75);
        uint8_t which = remove ? 0 : (uint8_t)(1 + test_random(&seed) % 2);
        snapshot_change(&now, &edit, hash, (size_t)(test_random(&seed) % KEYS), which);
        if (test_random(&seed) % 20 != 0)
            continue;
        mqg_pmap_edit_begin(&edit, limbo_retire); /* published: the oldest snapshot gives way to it */
        if (test_random(&seed) % 16 == 0)
            snapshot_check(&old[0], hash);
        memmove(&old[0], &old[1], sizeof old - sizeof old[0]);
        now.limbo_at = limbo_freed + limbo.n;
        old[SNAPSHOTS - 1] = now;
        limbo_free_before(old[0].limbo_at);
    }
    for (size_t i = 0; i < SNAPSHOTS; i++)
        snapshot_check(&old[i], hash);
    snapshot_check(&now, hash);
    limbo_end();
    mqg_pmap_free(now.root, NULL);
}

static void test_random_ops(void **state)
{
    (void)state;
    random_ops(hash_good, OPS);
}

static void test_random_ops_colliding(void **state)
{
    (void)state;
    random_ops(hash_none, OPS / 20);
    random_ops(hash_seven, OPS / 10);
    random_ops(hash_last_level, OPS / 10);
    random_ops(hash_deep, OPS);
}

static void test_empty(void **state)
{
    (void)state;
    struct mqg_pmap_edit edit;
    struct mqg_pmap_cursor c;
    mqg_pmap_edit_begin(&edit, limbo_retire);
    assert_null(mqg_pmap_get(NULL, MQG_SLICE_LIT("a")));
    assert_null(mqg_pmap_del(&edit, NULL, MQG_SLICE_LIT("a")));
    assert_int_equal(mqg_pmap_count(NULL), 0);
    mqg_pmap_cursor_init(&c, NULL);
    assert_false(mqg_pmap_cursor_next(&c));
    mqg_pmap_free(NULL, NULL);
}

static void test_set_get_del(void **state)
{
    (void)state;
    struct mqg_pmap_edit edit;
    int one = 1, two = 2;
    mqg_pmap_edit_begin(&edit, limbo_retire);
    struct mqg_pmap *root = mqg_pmap_set(&edit, NULL, MQG_SLICE_LIT("a"), &one);
    root = mqg_pmap_set(&edit, root, MQG_SLICE_NONE, &two); /* the empty key is a key */
    assert_ptr_equal(mqg_pmap_get(root, MQG_SLICE_LIT("a")), &one);
    assert_ptr_equal(mqg_pmap_get(root, MQG_SLICE_LIT("")), &two);
    assert_null(mqg_pmap_get(root, MQG_SLICE_LIT("b")));
    root = mqg_pmap_del(&edit, root, MQG_SLICE_LIT("a"));
    assert_null(mqg_pmap_get(root, MQG_SLICE_LIT("a")));
    assert_int_equal(mqg_pmap_count(root), 1);
    root = mqg_pmap_del(&edit, root, MQG_SLICE_NONE);
    assert_null(root);
    assert_int_equal(limbo.n, 0);
    limbo_end();
}

static void test_no_change_keeps_the_root(void **state)
{
    (void)state;
    struct mqg_pmap_edit edit;
    struct snapshot s = {.root = NULL};
    mqg_pmap_edit_begin(&edit, limbo_retire);
    for (size_t i = 0; i < KEYS / 2; i++)
        snapshot_change(&s, &edit, hash_good, i, 1);
    mqg_pmap_edit_begin(&edit, limbo_retire);
    struct mqg_pmap *before = s.root;
    for (size_t i = 0; i < KEYS; i++)
        snapshot_change(&s, &edit, hash_good, i, i < KEYS / 2); /* the same value, or absent already */
    assert_ptr_equal(s.root, before);
    assert_int_equal(limbo.n, 0);
    limbo_end();
    mqg_pmap_free(s.root, NULL);
}

static void test_one_edit_changes_in_place(void **state)
{
    (void)state;
    struct mqg_pmap_edit edit;
    struct snapshot s = {.root = NULL};
    mqg_pmap_edit_begin(&edit, limbo_retire);
    for (size_t i = 0; i < KEYS; i++)
        snapshot_change(&s, &edit, hash_good, i, 1);
    assert_int_equal(limbo.n, 0); /* nothing was ever published */
    mqg_pmap_edit_begin(&edit, limbo_retire);
    snapshot_change(&s, &edit, hash_good, 0, 2);
    size_t path = limbo.n;
    assert_in_range(path, 3, 6); /* root, top, perhaps two branches, leaf */
    for (size_t round = 0; round < 4; round++)
        for (size_t i = 0; i < KEYS; i++)
            snapshot_change(&s, &edit, hash_good, i, (uint8_t)(1 + round % 2));
    assert_in_range(limbo.n, KEYS, 2 * KEYS); /* each old node once, however often its place was changed */
    snapshot_check(&s, hash_good);
    limbo_end();
    mqg_pmap_free(s.root, NULL);
}

static bool count_to_three(struct mqg_slice key, void *value, void *arg)
{
    assert_true(key.len > 0);
    assert_non_null(value);
    return ++*(int *)arg < 3;
}

static bool count_all(struct mqg_slice key, void *value, void *arg)
{
    (void)key;
    (void)value;
    ++*(int *)arg;
    return true;
}

static void test_each(void **state)
{
    (void)state;
    struct mqg_pmap_edit edit;
    struct snapshot s = {.root = NULL};
    mqg_pmap_edit_begin(&edit, limbo_retire);
    for (size_t i = 0; i < 100; i++)
        snapshot_change(&s, &edit, hash_good, i, 1);
    int n = 0;
    assert_false(mqg_pmap_each(s.root, count_to_three, &n));
    assert_int_equal(n, 3);
    n = 0;
    assert_true(mqg_pmap_each(s.root, count_all, &n));
    assert_int_equal(n, 100);
    mqg_pmap_free(s.root, NULL);
}

static void set_null(void *arg)
{
    struct mqg_pmap *root = mqg_pmap_set(arg, NULL, MQG_SLICE_LIT("a"), NULL);
    (void)root;
}

static void test_values_are_never_null(void **state)
{
    (void)state;
    char text[1024];
    struct mqg_pmap_edit edit;
    mqg_pmap_edit_begin(&edit, limbo_retire);
    assert_true(test_dies(set_null, &edit, text, sizeof text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_set_get_del),
        cmocka_unit_test(test_no_change_keeps_the_root),
        cmocka_unit_test(test_one_edit_changes_in_place),
        cmocka_unit_test(test_each),
        cmocka_unit_test(test_values_are_never_null),
        cmocka_unit_test(test_random_ops),
        cmocka_unit_test(test_random_ops_colliding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
