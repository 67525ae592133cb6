/* quota_test.c - which quota holds, how long one waits, records. */
#include "quota.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define S(text) mqg_slice_str(text)

static int clear(void **state)
{
    (void)state;
    kafka_quota_clear();
    return 0;
}

static struct kafka_quota_entity entity(const char *user, const char *client)
{
    struct kafka_quota_entity e = {KAFKA_PART_NONE, KAFKA_PART_NONE, MQG_SLICE_NONE, MQG_SLICE_NONE};
    if (user != NULL) {
        e.user = *user != '\0' ? KAFKA_PART_NAMED : KAFKA_PART_DEFAULT;
        e.user_name = S(user);
    }
    if (client != NULL) {
        e.client = *client != '\0' ? KAFKA_PART_NAMED : KAFKA_PART_DEFAULT;
        e.client_name = S(client);
    }
    return e;
}

/* "" is the default, NULL: not in the entity. */
static void put(const char *user, const char *client, double produce)
{
    struct kafka_quota_entity e = entity(user, client);
    struct kafka_quota_values v = {.set = {produce > 0}, .rate = {produce}};
    kafka_quota_put(&e, &v);
}

/* How long one waits who sends ten seconds' worth of 1000 bytes a second: tells the rate. */
static uint32_t wait_of(const char *user, const char *client)
{
    return kafka_quota_take(S(user), S(client), KAFKA_QUOTA_PRODUCE, 10000, 100000000);
}

static void order(void **state)
{
    (void)state;
    assert_int_equal(wait_of("u", "c"), 0);
    put(NULL, "", 1000);
    assert_int_equal(wait_of("u", "c"), 9000);
    put(NULL, "c", 2000);
    assert_int_equal(wait_of("u", "c"), 4000);
    assert_int_equal(wait_of("u", "d"), 9000);
    put("", NULL, 2500);
    assert_int_equal(wait_of("u", "c"), 3000);
    put("", "", 5000);
    assert_int_equal(wait_of("u", "c"), 1000);
    put("", "c", 1000);
    assert_int_equal(wait_of("u", "c"), 9000);
    put("u", NULL, 2000);
    assert_int_equal(wait_of("u", "c"), 4000);
    put("u", "", 2500);
    assert_int_equal(wait_of("u", "c"), 3000);
    put("u", "c", 5000);
    assert_int_equal(wait_of("u", "c"), 1000);
    assert_int_equal(wait_of("v", "c"), 9000);
    put("u", "c", 0);
    assert_int_equal(wait_of("u", "c"), 3000);
    assert_int_equal(kafka_quota_count(), 7);
}

static void rates(void **state)
{
    (void)state;
    put("u", NULL, 1000);
    const uint64_t second = 1000000;
    static const struct {
        uint64_t at_s;
        const char *client;
        uint64_t bytes;
        uint32_t wait_ms;
    } rows[] = {
        {100, "a", 1000, 0},   /* a second's worth at once */
        {100, "b", 500, 500},  /* shared by the user's clients */
        {101, "a", 1000, 500}, /* at the rate: no further behind */
        {102, "a", 0, 0},       {110, "a", 1000, 0},
        {110, "a", 2000, 2000}, {110, "a", 1000000, 30000}, /* never longer than this */
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        uint32_t wait = kafka_quota_take(S("u"), S(rows[i].client), KAFKA_QUOTA_PRODUCE, rows[i].bytes,
                                         rows[i].at_s * second);
        if (wait != rows[i].wait_ms)
            fail_msg("row %zu: %u ms", i, wait);
    }
    assert_int_equal(kafka_quota_take(S("u"), S("a"), KAFKA_QUOTA_FETCH, 1000000, 110 * second), 0);
}

/* A default counts for each on its own. */
static void defaults_apart(void **state)
{
    (void)state;
    put(NULL, "", 1000);
    assert_int_equal(kafka_quota_take(S("u"), S("a"), KAFKA_QUOTA_PRODUCE, 2000, 100000000), 1000);
    assert_int_equal(kafka_quota_take(S("u"), S("b"), KAFKA_QUOTA_PRODUCE, 2000, 100000000), 1000);
    assert_int_equal(kafka_quota_take(S("v"), S("a"), KAFKA_QUOTA_PRODUCE, 1000, 100000000), 2000);
}

static void records(void **state)
{
    (void)state;
    struct kafka_quota_entity e = entity("a/b", ""), back;
    struct kafka_quota_values v = {.set = {true, false}, .rate = {12.5, 0}}, w;
    struct mqg_dynbuf key, value;
    mqg_dynbuf_init(&key, 4096);
    mqg_dynbuf_init(&value, 4096);
    kafka_quota_key(&key, &e);
    kafka_quota_encode(&value, &e, &v);
    assert_true(mqg_slice_eq(mqg_dynbuf_view(&key), S("kafka-quota/2612f62/1")));
    assert_int_equal(kafka_quota_decode(mqg_dynbuf_view(&value), &back, &w), MQG_OK);
    assert_true(back.user == e.user && back.client == e.client && mqg_slice_eq(back.user_name, e.user_name));
    assert_true(w.set[0] && !w.set[1] && w.rate[0] == 12.5);
    for (size_t i = 0; i < value.len; i++) {
        uint8_t *cut = malloc(i > 0 ? i : 1);
        memcpy(cut, mqg_dynbuf_view(&value).ptr, i);
        assert_int_not_equal(kafka_quota_decode(mqg_slice_of(cut, i), &back, &w), MQG_OK);
        free(cut);
    }
    mqg_dynbuf_fini(&key);
    mqg_dynbuf_fini(&value);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(order, clear),
        cmocka_unit_test_teardown(rates, clear),
        cmocka_unit_test_teardown(defaults_apart, clear),
        cmocka_unit_test(records),
    };
    return cmocka_run_group_tests_name("kafka_quota", tests, NULL, NULL);
}
