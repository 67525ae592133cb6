/* wire_test.c - what golden vectors do not show: defaults, unknown tags, hostile counts, heads. */
#include "kafka_messages.h"

#include <setjmp.h>
#include <stdio.h>

#include <cmocka.h>

#define BYTES(...) mqg_slice_of((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static enum mqg_err decode(const struct kafka_message *m, int16_t version, struct mqg_slice in,
                           size_t arena_bytes, void *out)
{
    static struct mqg_arena a;
    static bool begun;
    if (begun)
        mqg_arena_fini(&a);
    begun = true;
    mqg_arena_init(&a, arena_bytes);
    return kafka_decode(m, version, in, &a, out);
}

static void test_fields_of_other_versions_have_their_defaults(void **state)
{
    (void)state;
    struct kafka_fetch_request r;
    struct mqg_slice v0 = BYTES(0xff, 0xff, 0xff, 0xff, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0);
    assert_int_equal(decode(&kafka_fetch_request_message, 0, v0, 4096, &r), MQG_OK);
    assert_int_equal(r.replica_id, -1);
    assert_int_equal(r.max_wait_ms, 7);
    assert_int_equal(r.max_bytes, 0x7fffffff);
    assert_int_equal(r.session_epoch, -1);
    assert_int_equal(r.replica_state.replica_epoch, -1);
    assert_null(r.cluster_id.ptr);
    assert_non_null(r.rack_id.ptr); /* empty, not null */
    assert_int_equal(r.topics_n, 0);
}

static void test_nulls_and_empties_are_two_things(void **state)
{
    (void)state;
    struct kafka_metadata_request r;
    assert_int_equal(decode(&kafka_metadata_request_message, 1, BYTES(0xff, 0xff, 0xff, 0xff), 4096, &r),
                     MQG_OK);
    assert_int_equal(r.topics_n, -1);
    assert_int_equal(decode(&kafka_metadata_request_message, 1, BYTES(0, 0, 0, 0), 4096, &r), MQG_OK);
    assert_int_equal(r.topics_n, 0);
    /* Version 0 has no null. */
    assert_int_equal(decode(&kafka_metadata_request_message, 0, BYTES(0xff, 0xff, 0xff, 0xff), 4096, &r),
                     MQG_MALFORMED);
}

static void test_unknown_tags_are_skipped(void **state)
{
    (void)state;
    struct kafka_api_versions_request r;
    struct mqg_slice with = BYTES(2, 'n', 2, 'v', 2, 5, 1, 0xaa, 99, 2, 1, 2);
    assert_int_equal(decode(&kafka_api_versions_request_message, 3, with, 4096, &r), MQG_OK);
    assert_true(mqg_slice_eq(r.client_software_name, MQG_SLICE_LIT("n")));
    struct mqg_slice descending = BYTES(2, 'n', 2, 'v', 2, 5, 1, 0xaa, 4, 0);
    assert_int_equal(decode(&kafka_api_versions_request_message, 3, descending, 4096, &r), MQG_MALFORMED);
    struct mqg_slice twice = BYTES(2, 'n', 2, 'v', 2, 5, 0, 5, 0);
    assert_int_equal(decode(&kafka_api_versions_request_message, 3, twice, 4096, &r), MQG_MALFORMED);
    struct mqg_slice beyond = BYTES(2, 'n', 2, 'v', 1, 5, 9, 0);
    assert_int_equal(decode(&kafka_api_versions_request_message, 3, beyond, 4096, &r), MQG_MALFORMED);
}

static void test_a_tag_must_be_filled_by_its_value(void **state)
{
    (void)state;
    struct kafka_fetch_request r;
    uint8_t bytes[64] = {0};
    size_t n = 4 + 4 + 4 + 1 + 4 + 4; /* waits, sizes, isolation, session: version 15 */
    bytes[n++] = 1;                   /* no topics */
    bytes[n++] = 1;                   /* nothing forgotten */
    bytes[n++] = 1;                   /* no rack */
    bytes[n++] = 1;                   /* one tag: replica state, 13 bytes */
    bytes[n++] = 1;
    bytes[n++] = 13;
    bytes[n + 3] = 5;
    n += 13;
    assert_int_equal(decode(&kafka_fetch_request_message, 15, mqg_slice_of(bytes, n), 4096, &r), MQG_OK);
    assert_int_equal(r.replica_state.replica_id, 5);
    bytes[n - 14] = 14; /* one more than the struct has */
    assert_int_equal(decode(&kafka_fetch_request_message, 15, mqg_slice_of(bytes, n + 1), 4096, &r),
                     MQG_MALFORMED);
}

static void test_counts_are_held_against_the_bytes(void **state)
{
    (void)state;
    struct kafka_metadata_request r;
    assert_int_equal(
        decode(&kafka_metadata_request_message, 1, BYTES(0x7f, 0xff, 0xff, 0xff, 0, 0), 1 << 20, &r),
        MQG_MALFORMED);
    assert_int_equal(decode(&kafka_metadata_request_message, 1, BYTES(0xff, 0xff, 0xff, 0xfe), 1 << 20, &r),
                     MQG_MALFORMED);
    /* Many small ones: the arena's bound. */
    static uint8_t many[4 + 2 * 10000];
    mqg_put_be32(many, 10000);
    assert_int_equal(
        decode(&kafka_metadata_request_message, 1, mqg_slice_of(many, sizeof many), 64 << 10, &r),
        MQG_TOO_LARGE);
    assert_int_equal(decode(&kafka_metadata_request_message, 1, mqg_slice_of(many, sizeof many), 4 << 20, &r),
                     MQG_OK);
    assert_int_equal(r.topics_n, 10000);
}

static void test_a_varint_has_32_bits(void **state)
{
    (void)state;
    struct kafka_api_versions_request r;
    struct mqg_slice over = BYTES(0xff, 0xff, 0xff, 0xff, 0x7f, 'n', 2, 'v', 0);
    assert_int_equal(decode(&kafka_api_versions_request_message, 3, over, 4096, &r), MQG_MALFORMED);
}

static void test_what_is_at_its_default_is_not_tagged(void **state)
{
    (void)state;
    struct kafka_fetch_response r;
    struct mqg_dynbuf out;
    mqg_dynbuf_init(&out, 4096);
    kafka_init(&kafka_fetch_response_message, &r);
    r.session_id = 3;
    kafka_encode(&kafka_fetch_response_message, 16, &r, &out);
    assert_int_equal(out.len, 4 + 2 + 4 + 1 + 1);
    struct kafka_fetch_response_node_endpoints node;
    memset(&node, 0, sizeof node);
    node.host = MQG_SLICE_LIT("h");
    r.node_endpoints = &node;
    r.node_endpoints_n = 1;
    mqg_dynbuf_reset(&out);
    kafka_encode(&kafka_fetch_response_message, 16, &r, &out);
    assert_int_equal(out.len, 4 + 2 + 4 + 1 + 1 + 1 + 1 + 1 + (4 + 2 + 4 + 1 + 1));
    mqg_dynbuf_fini(&out);
}

/* ---- heads -------------------------------------------------------------------------------------------------------------- */

static void test_heads(void **state)
{
    (void)state;
    struct kafka_request_head h;
    struct mqg_slice old = BYTES(0, 3, 0, 1, 0, 0, 0, 9, 0, 2, 'i', 'd', 0xff, 0xff, 0xff, 0xff);
    assert_int_equal(kafka_request_head(old, &h), MQG_OK);
    assert_int_equal(h.correlation_id, 9);
    assert_true(mqg_slice_eq(h.client_id, MQG_SLICE_LIT("id")));
    assert_ptr_equal(h.message, &kafka_metadata_request_message);
    assert_int_equal(h.body.len, 4);
    struct mqg_slice flexible = BYTES(0, 18, 0, 3, 0, 0, 0, 9, 0xff, 0xff, 1, 7, 2, 0xaa, 0xbb, 1, 1, 0);
    assert_int_equal(kafka_request_head(flexible, &h), MQG_OK);
    assert_null(h.client_id.ptr);
    assert_int_equal(h.body.len, 3);
}

static void test_heads_that_are_refused(void **state)
{
    (void)state;
    struct kafka_request_head h;
    assert_int_equal(kafka_request_head(BYTES(0, 18, 0, 3, 0, 0, 0), &h), MQG_MALFORMED);
    assert_int_equal(kafka_request_head(BYTES(0, 18, 0, 99, 0, 0, 0, 5, 0, 0), &h), MQG_UNSUPPORTED);
    assert_int_equal(h.key, KAFKA_API_API_VERSIONS); /* it is answered with what there is */
    assert_int_equal(h.version, 99);
    assert_int_equal(h.correlation_id, 5);
    assert_int_equal(kafka_request_head(BYTES(0x7f, 0xff, 0, 0, 0, 0, 0, 5, 0, 0), &h), MQG_UNSUPPORTED);
    assert_null(h.message);
    assert_int_equal(kafka_request_head(BYTES(0xff, 0xff, 0, 0, 0, 0, 0, 5, 0, 0), &h), MQG_UNSUPPORTED);
    assert_int_equal(kafka_request_head(BYTES(0, 3, 0, 1, 0, 0, 0, 9, 0, 5, 'i'), &h), MQG_MALFORMED);
    assert_int_equal(kafka_request_head(BYTES(0, 3, 0, 1, 0, 0, 0, 9, 0xff, 0xfe), &h), MQG_MALFORMED);
    assert_int_equal(kafka_request_head(BYTES(0, 18, 0, 3, 0, 0, 0, 9, 0xff, 0xff, 1, 7, 99), &h),
                     MQG_MALFORMED);
}

static void test_the_head_of_api_versions_stays_old(void **state)
{
    (void)state;
    struct mqg_dynbuf out;
    mqg_dynbuf_init(&out, 64);
    kafka_response_head(&out, &kafka_api_versions_response_message, 3, 5);
    assert_int_equal(out.len, 4);
    kafka_response_head(&out, &kafka_metadata_response_message, 9, 5);
    assert_int_equal(out.len, 4 + 5);
    kafka_response_head(&out, &kafka_metadata_response_message, 8, 5);
    assert_int_equal(out.len, 4 + 5 + 4);
    mqg_dynbuf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields_of_other_versions_have_their_defaults),
        cmocka_unit_test(test_nulls_and_empties_are_two_things),
        cmocka_unit_test(test_unknown_tags_are_skipped),
        cmocka_unit_test(test_a_tag_must_be_filled_by_its_value),
        cmocka_unit_test(test_counts_are_held_against_the_bytes),
        cmocka_unit_test(test_a_varint_has_32_bits),
        cmocka_unit_test(test_what_is_at_its_default_is_not_tagged),
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_heads_that_are_refused),
        cmocka_unit_test(test_the_head_of_api_versions_stays_old),
    };
    return cmocka_run_group_tests_name("kafka_wire", tests, NULL, NULL);
}
