/* records_test.c - record batches against Apache Kafka's own bytes; cut and flipped ones; partitions for keys. */
#include "../base/test_kit.h"

#include <mqgate/records.h>

#include "records_golden.inc"

#define GOLDEN(name) mqg_slice_of(golden_##name, sizeof(golden_##name))

static uint8_t large_value[300];

/* What RecordsGolden.java appends. */
static void build_one(struct mqg_batch_builder *b)
{
    assert_true(
        mqg_builder_record(b, 1700000000123, MQG_SLICE_LIT("key"), false, MQG_SLICE_LIT("value"), false));
}

static void build_many(struct mqg_batch_builder *b)
{
    for (size_t i = 0; i < sizeof(large_value); i++)
        large_value[i] = (uint8_t)i;
    mqg_builder_header(b, MQG_SLICE_LIT("h"), MQG_SLICE_LIT("v"), false);
    mqg_builder_header(b, MQG_SLICE_LIT("h"), MQG_SLICE_LIT("again"), false);
    mqg_builder_header(b, MQG_SLICE_LIT("null"), MQG_SLICE_NONE, true);
    mqg_builder_header(b, MQG_SLICE_NONE, MQG_SLICE_NONE, false);
    mqg_builder_header(b, MQG_SLICE_LIT("bin"), MQG_SLICE_LIT("\0\xff\x80"), false);
    assert_true(mqg_builder_record(b, 1700000000500, MQG_SLICE_NONE, true, MQG_SLICE_LIT("no key"), false));
    assert_true(mqg_builder_record(b, 1700000000400, MQG_SLICE_NONE, false, MQG_SLICE_NONE, true));
    assert_true(
        mqg_builder_record(b, 1700000009999, MQG_SLICE_LIT("k\xc3\xa4y"), false, MQG_SLICE_NONE, false));
    assert_true(mqg_builder_record(b, 1700000009999, MQG_SLICE_LIT("large"), false,
                                   mqg_slice_of(large_value, sizeof(large_value)), false));
}

static void test_built_as_kafka_does(void **state)
{
    (void)state;
    struct mqg_batch_builder b;
    mqg_builder_init(&b, 1 << 20);
    for (int again = 0; again < 2; again++) { /* a builder is used again */
        mqg_builder_begin(&b);
        build_one(&b);
        assert_true(mqg_slice_eq(mqg_builder_end(&b), GOLDEN(one)));
        mqg_builder_begin(&b);
        build_many(&b);
        assert_true(mqg_slice_eq(mqg_builder_end(&b), GOLDEN(many)));
    }
    mqg_builder_begin(&b);
    assert_int_equal(mqg_builder_end(&b).len, 0);
    mqg_builder_fini(&b);
}

static void test_read_as_kafka_wrote(void **state)
{
    (void)state;
    struct mqg_batch b;
    struct mqg_record_iter it;
    struct mqg_record r[4];
    assert_int_equal(mqg_batch_read(GOLDEN(many), &b), MQG_OK);
    assert_true(mqg_batch_sum_ok(GOLDEN(many), &b));
    assert_int_equal(b.bytes, sizeof(golden_many));
    assert_true(b.base_offset == 0 && b.leader_epoch == -1 && b.attributes == 0 && b.count == 4 &&
                b.last_delta == 3 && b.producer_id == -1 && b.producer_epoch == -1 && b.base_sequence == -1);
    assert_true(b.base_time_ms == 1700000000500 && b.max_time_ms == 1700000009999);
    mqg_record_iter_init(&it, &b, b.records);
    for (size_t i = 0; i < MQG_COUNTOF(r); i++)
        assert_true(mqg_record_next(&it, &r[i]));
    assert_false(mqg_record_next(&it, &r[0]));
    assert_false(it.bad);
    assert_true(r[1].offset == 1 && r[1].time_ms == 1700000000400);
    assert_true(!r[1].null_key && r[1].key.len == 0 && r[1].null_value && r[1].nheaders == 0);
    assert_true(mqg_slice_eq(r[2].key, MQG_SLICE_LIT("k\xc3\xa4y")) && !r[2].null_value &&
                r[2].value.len == 0);
    assert_int_equal(r[3].value.len, 300);
}

static void test_headers(void **state)
{
    (void)state;
    static const struct mqg_record_header wanted[] = {
        {MQG_SLICE_INIT("h"), MQG_SLICE_INIT("v"), false},
        {MQG_SLICE_INIT("h"), MQG_SLICE_INIT("again"), false},
        {MQG_SLICE_INIT("null"), {NULL, 0}, true},
        {{NULL, 0}, {NULL, 0}, false},
        {MQG_SLICE_INIT("bin"), MQG_SLICE_INIT("\0\xff\x80"), false}};
    struct mqg_batch b;
    struct mqg_record_iter it;
    struct mqg_record r;
    assert_int_equal(mqg_batch_read(GOLDEN(many), &b), MQG_OK);
    mqg_record_iter_init(&it, &b, b.records);
    assert_true(mqg_record_next(&it, &r) && r.null_key && r.nheaders == MQG_COUNTOF(wanted));
    struct mqg_slice rest = r.headers;
    struct mqg_record_header h;
    for (size_t i = 0; i < MQG_COUNTOF(wanted); i++) {
        assert_true(mqg_record_header(&rest, &h));
        assert_true(mqg_slice_eq(h.name, wanted[i].name) && mqg_slice_eq(h.value, wanted[i].value) &&
                    h.null_value == wanted[i].null_value);
    }
    assert_false(mqg_record_header(&rest, &h));
}

/* Walks everything; true when nothing was wrong. */
static bool walk(struct mqg_slice in)
{
    struct mqg_batch b;
    struct mqg_record_iter it;
    struct mqg_record r;
    struct mqg_record_header h;
    uint32_t n = 0;
    if (mqg_batch_read(in, &b) != MQG_OK)
        return false;
    mqg_record_iter_init(&it, &b, b.records);
    for (; mqg_record_next(&it, &r); n++)
        for (struct mqg_slice rest = r.headers; mqg_record_header(&rest, &h);)
            continue;
    assert_true(it.bad || n == b.count);
    return !it.bad && mqg_batch_sum_ok(in, &b);
}

static void test_cut_at_each_byte(void **state)
{
    (void)state;
    assert_true(walk(GOLDEN(many)));
    for (size_t n = 0; n < sizeof(golden_many); n++) {
        struct mqg_batch b;
        uint8_t *copy = test_exact_copy(mqg_slice_of(golden_many, n));
        assert_int_equal(mqg_batch_read(mqg_slice_of(copy, n), &b), MQG_MORE);
        free(copy);
    }
}

static void test_each_byte_flipped(void **state)
{
    (void)state;
    for (size_t at = 0; at < sizeof(golden_many); at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            uint8_t *copy = test_exact_copy(GOLDEN(many));
            copy[at] ^= (uint8_t)(1u << bit);
            bool whole = walk(mqg_slice_of(copy, sizeof(golden_many)));
            /* Base offset and leader epoch are the server's to write; everything else is under the sum. */
            assert_true(!whole || at < 8 || (at >= 12 && at < 16));
            free(copy);
        }
    }
}

static void refuse(size_t at, uint32_t value, enum mqg_err wanted)
{
    struct mqg_batch b;
    uint8_t *copy = test_exact_copy(GOLDEN(many));
    mqg_put_be32(copy + at, value);
    assert_int_equal(mqg_batch_read(mqg_slice_of(copy, sizeof(golden_many)), &b), wanted);
    free(copy);
}

static void test_heads_that_lie(void **state)
{
    (void)state;
    refuse(8, 48, MQG_MALFORMED);         /* shorter than a head */
    refuse(8, UINT32_MAX, MQG_MALFORMED); /* 4 GiB */
    refuse(8, 5000, MQG_MORE);
    refuse(57, 5, MQG_MALFORMED);          /* more records than offsets */
    refuse(57, UINT32_MAX, MQG_MALFORMED); /* or than bytes */
    refuse(23, UINT32_MAX, MQG_MALFORMED); /* a last delta below 0 */
    refuse(13, 1, MQG_UNSUPPORTED);        /* magic 1 */
    refuse(0, UINT32_MAX, MQG_MALFORMED);  /* offsets beyond int64 */
}

static void test_over_the_maximum(void **state)
{
    (void)state;
    struct mqg_batch_builder b;
    mqg_builder_init(&b, sizeof(golden_one) + 4);
    mqg_builder_begin(&b);
    build_one(&b);
    mqg_builder_header(&b, MQG_SLICE_LIT("h"), MQG_SLICE_LIT("v"), false);
    assert_false(mqg_builder_record(&b, 1, MQG_SLICE_NONE, true, MQG_SLICE_NONE, true));
    assert_int_equal(b.count, 1);
    assert_true(mqg_slice_eq(mqg_builder_end(&b), GOLDEN(one))); /* as it was before */
    mqg_builder_fini(&b);
}

static void test_patch(void **state)
{
    (void)state;
    struct mqg_batch b;
    uint8_t *copy = test_exact_copy(GOLDEN(many));
    mqg_batch_patch(copy, UINT64_C(1) << 40, 7);
    assert_int_equal(mqg_batch_read(mqg_slice_of(copy, sizeof(golden_many)), &b), MQG_OK);
    assert_true(b.base_offset == UINT64_C(1) << 40 && b.leader_epoch == 7);
    assert_true(walk(mqg_slice_of(copy, sizeof(golden_many))));
    free(copy);
}

/* Each byte twice: stands for any codec. */
static enum mqg_err double_plain(struct mqg_slice in, struct mqg_dynbuf *out)
{
    for (size_t i = 0; i < in.len; i++)
        if (!mqg_dynbuf_put(out, (uint8_t[]){in.ptr[i], in.ptr[i]}, 2))
            return MQG_TOO_LARGE;
    return MQG_OK;
}

static void test_codecs(void **state)
{
    (void)state;
    struct mqg_batch b = {.attributes = 4, .records = MQG_SLICE_LIT("abcdefgh"), .count = 2};
    struct mqg_dynbuf out;
    struct mqg_slice plain;
    mqg_dynbuf_init(&out, 16);
    assert_int_equal(mqg_batch_plain(&b, &out, &plain), MQG_UNSUPPORTED);
    mqg_record_codec(4, double_plain);
    assert_int_equal(mqg_batch_plain(&b, &out, &plain), MQG_OK);
    assert_true(mqg_slice_eq(plain, MQG_SLICE_LIT("aabbccddeeffgghh")));
    b.count = 3; /* more records than bytes for them */
    assert_int_equal(mqg_batch_plain(&b, &out, &plain), MQG_MALFORMED);
    b.records = MQG_SLICE_LIT("abcdefghi"); /* over the maximum */
    assert_int_equal(mqg_batch_plain(&b, &out, &plain), MQG_TOO_LARGE);
    b.attributes = 0;
    assert_int_equal(mqg_batch_plain(&b, &out, &plain), MQG_OK);
    assert_true(mqg_slice_eq(plain, b.records));
    mqg_dynbuf_fini(&out);
}

static void test_partitions_as_kafka_chooses(void **state)
{
    (void)state;
    for (size_t i = 0; i < MQG_COUNTOF(golden_partitions); i++) {
        struct mqg_slice key = mqg_slice_str(golden_partitions[i].key);
        assert_int_equal(mqg_record_partition(key, 12), golden_partitions[i].of_12);
        assert_int_equal(mqg_record_partition(key, 1000), golden_partitions[i].of_1000);
        assert_int_equal(mqg_record_partition(key, 1), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_built_as_kafka_does),
        cmocka_unit_test(test_read_as_kafka_wrote),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_cut_at_each_byte),
        cmocka_unit_test(test_each_byte_flipped),
        cmocka_unit_test(test_heads_that_lie),
        cmocka_unit_test(test_over_the_maximum),
        cmocka_unit_test(test_patch),
        cmocka_unit_test(test_codecs),
        cmocka_unit_test(test_partitions_as_kafka_chooses),
    };
    return cmocka_run_group_tests_name("records", tests, NULL, NULL);
}
