/* wire_golden_test.c - every message and version against the bytes of Apache Kafka's own client library (Vectors.java).
 *
 * Values differ from their defaults and from each other, so bytes that are decoded and encoded again to themselves were read
 * into the right fields: a field that was skipped, doubled or swapped gives other bytes. Each vector is also cut at every
 * byte and flipped at every byte. */
#include "kafka_messages.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct golden {
    const char *name;
    bool request;
    int16_t key, version;
    const char *hex;
};

static const struct golden goldens[] = {
#include "wire_golden.inc"
};

enum { GOLDEN_MAX_BYTES = 1 << 16 };

static const struct kafka_message *golden_message(const struct golden *g)
{
    const struct kafka_message *m = g->request ? kafka_requests[g->key] : kafka_responses[g->key];
    assert_non_null(m);
    assert_string_equal(m->name, g->name);
    return m;
}

static size_t golden_bytes(const struct golden *g, uint8_t *out)
{
    size_t n = strlen(g->hex) / 2;
    assert_true(n <= GOLDEN_MAX_BYTES);
    for (size_t i = 0; i < n; i++) {
        char two[3] = {g->hex[2 * i], g->hex[2 * i + 1], '\0'};
        out[i] = (uint8_t)strtoul(two, NULL, 16);
    }
    return n;
}

/* Decodes from a block of exactly n bytes, so that a sanitizer sees a read behind it; encodes again when that went well. */
static enum mqg_err golden_turn(const struct kafka_message *m, int16_t version, const uint8_t *bytes,
                                size_t n, struct mqg_dynbuf *again)
{
    uint8_t *exact = malloc(n + !n);
    void *out = malloc(m->layout->size);
    struct mqg_arena a;
    assert_true(exact != NULL && out != NULL);
    memcpy(exact, bytes, n);
    mqg_arena_init(&a, 1 << 20);
    enum mqg_err err = kafka_decode(m, version, mqg_slice_of(exact, n), &a, out);
    mqg_dynbuf_reset(again);
    kafka_encode(m, version, out, again); /* also what is left after a failure is whole */
    assert_false(again->failed);
    mqg_arena_fini(&a);
    free(out);
    free(exact);
    return err;
}

static void test_every_version_comes_back(void **state)
{
    (void)state;
    static uint8_t bytes[GOLDEN_MAX_BYTES];
    struct mqg_dynbuf again;
    mqg_dynbuf_init(&again, 1 << 20);
    for (size_t i = 0; i < MQG_COUNTOF(goldens); i++) {
        const struct golden *g = &goldens[i];
        size_t n = golden_bytes(g, bytes);
        enum mqg_err err = golden_turn(golden_message(g), g->version, bytes, n, &again);
        if (err != MQG_OK || again.len != n || memcmp(again.ptr, bytes, n) != 0)
            fail_msg("%s %s version %d (vector %zu): %s, %zu bytes of %zu", g->name,
                     g->request ? "request" : "response", g->version, i, mqg_err_name(err), again.len, n);
    }
    mqg_dynbuf_fini(&again);
}

static void test_cut_anywhere_is_malformed(void **state)
{
    (void)state;
    static uint8_t bytes[GOLDEN_MAX_BYTES];
    struct mqg_dynbuf again;
    mqg_dynbuf_init(&again, 1 << 20);
    for (size_t i = 0; i < MQG_COUNTOF(goldens); i++) {
        size_t n = golden_bytes(&goldens[i], bytes);
        for (size_t cut = 0; cut < n; cut++)
            assert_int_equal(golden_turn(golden_message(&goldens[i]), goldens[i].version, bytes, cut, &again),
                             MQG_MALFORMED);
        bytes[n] = 0;
        assert_int_equal(golden_turn(golden_message(&goldens[i]), goldens[i].version, bytes, n + 1, &again),
                         MQG_OK);
        assert_true(again.len == n && memcmp(again.ptr, bytes, n) == 0); /* what follows is not looked at */
    }
    mqg_dynbuf_fini(&again);
}

static void test_flipped_bytes_are_read_or_refused(void **state)
{
    (void)state;
    static uint8_t bytes[GOLDEN_MAX_BYTES];
    static const uint8_t flips[] = {0x01, 0x80, 0xff};
    struct mqg_dynbuf again;
    size_t good = 0, bad = 0;
    mqg_dynbuf_init(&again, 1 << 20);
    for (size_t i = 0; i < MQG_COUNTOF(goldens); i++) {
        size_t n = golden_bytes(&goldens[i], bytes);
        for (size_t at = 0; at < n * MQG_COUNTOF(flips); at++) {
            bytes[at % n] ^= flips[at / n];
            enum mqg_err err = golden_turn(golden_message(&goldens[i]), goldens[i].version, bytes, n, &again);
            assert_true(err == MQG_OK || err == MQG_MALFORMED || err == MQG_TOO_LARGE);
            *(err == MQG_OK ? &good : &bad) += 1;
            bytes[at % n] ^= flips[at / n];
        }
    }
    assert_true(good > 1000 && bad > 1000); /* values change meaning, lengths break */
    mqg_dynbuf_fini(&again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_version_comes_back),
        cmocka_unit_test(test_cut_anywhere_is_malformed),
        cmocka_unit_test(test_flipped_bytes_are_read_or_refused),
    };
    return cmocka_run_group_tests_name("kafka_wire_golden", tests, NULL, NULL);
}
