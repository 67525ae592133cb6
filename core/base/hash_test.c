/* hash_test.c - the same within a process, different between processes, no clumps; and random bytes. */
#include "test_kit.h"

static void test_same_within_process(void **state)
{
    (void)state;
    char name[] = "orders.eu";
    assert_true(mqg_hash(MQG_SLICE_LIT("orders.eu")) == mqg_hash(mqg_slice_str(name)));
    assert_true(mqg_hash(MQG_SLICE_LIT("orders.eu")) != mqg_hash(MQG_SLICE_LIT("orders.us")));
    assert_true(mqg_hash(MQG_SLICE_NONE) == mqg_hash(MQG_SLICE_LIT("")));
}

static uint64_t hash_of_other_process(void)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        uint64_t h = mqg_hash(MQG_SLICE_LIT("orders.eu"));
        _exit(write(ends[1], &h, sizeof h) == (ssize_t)sizeof h ? 0 : 1);
    }
    close(ends[1]);
    uint64_t h = 0;
    assert_int_equal(read(ends[0], &h, sizeof h), sizeof h);
    close(ends[0]);
    assert_int_equal(waitpid(child, NULL, 0), child);
    return h;
}

/* Runs first, while this process has not drawn its own secret: a child would inherit it. */
static void test_differs_between_processes(void **state)
{
    (void)state;
    assert_true(hash_of_other_process() != hash_of_other_process());
}

static void test_spreads(void **state)
{
    (void)state;
    unsigned buckets[64] = {0};
    for (unsigned i = 0; i < 64000; i++) {
        char name[32];
        int n = snprintf(name, sizeof name, "queue-%u", i);
        buckets[mqg_hash(mqg_slice_of(name, (size_t)n)) & 63]++;
    }
    for (size_t i = 0; i < 64; i++)
        assert_in_range(buckets[i], 750, 1250); /* 1000 +- 8 standard deviations */
}

static void test_every_length(void **state)
{
    (void)state;
    uint8_t zeros[600] = {0};
    uint64_t last = mqg_hash(MQG_SLICE_NONE);
    for (size_t n = 1; n <= sizeof zeros; n++) {
        uint8_t *copy = test_exact_copy(mqg_slice_of(zeros, n));
        uint64_t h = mqg_hash(mqg_slice_of(copy, n));
        assert_true(h != last);
        last = h;
        free(copy);
    }
}

static void test_random_bytes(void **state)
{
    (void)state;
    assert_true(mqg_random_u64() != mqg_random_u64());
    uint8_t bytes[1000] = {0};
    mqg_random_bytes(bytes, 0);
    assert_int_equal(bytes[0], 0);
    mqg_random_bytes(bytes, sizeof bytes);
    unsigned zeros = 0;
    for (size_t i = 0; i < sizeof bytes; i++)
        zeros += bytes[i] == 0;
    assert_true(zeros < 40); /* 4 are expected */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_differs_between_processes),
        cmocka_unit_test(test_same_within_process),
        cmocka_unit_test(test_spreads),
        cmocka_unit_test(test_every_length),
        cmocka_unit_test(test_random_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
