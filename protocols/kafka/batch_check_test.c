/* batch_check_test.c - what may be stored and what not; the head of a batch that gets the node's time. */
#include "batch_check.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <stdlib.h>

enum { AT_LENGTH = 8, AT_CRC = 17, AT_ATTRIBUTES = 21, AT_DELTA = 23, AT_PRODUCER = 43, AT_COUNT = 57 };

/* A batch of n records with a header each, made by the builder. */
static uint8_t *made(uint32_t n, size_t *len)
{
    struct mqg_batch_builder b;
    mqg_builder_init(&b, 1 << 20);
    mqg_builder_begin(&b);
    for (uint32_t i = 0; i < n; i++) {
        mqg_builder_header(&b, MQG_SLICE_LIT("name"), MQG_SLICE_LIT("text"), i & 1);
        assert_true(mqg_builder_record(&b, 1000 + i, MQG_SLICE_LIT("key"), i % 3 == 0, MQG_SLICE_LIT("value"),
                                       i % 5 == 0));
    }
    struct mqg_slice all = mqg_builder_end(&b);
    uint8_t *copy = malloc(all.len + 64);
    memcpy(copy, all.ptr, all.len);
    *len = all.len;
    mqg_builder_fini(&b);
    return copy;
}

static void sum(uint8_t *batch, size_t len)
{
    mqg_put_be32(batch + AT_CRC, mqg_crc32c(0, batch + AT_ATTRIBUTES, len - AT_ATTRIBUTES));
}

static enum kafka_error check(const uint8_t *batch, size_t len)
{
    struct mqg_batch b;
    return kafka_batch_check(mqg_slice_of(batch, len), 1 << 20, &b);
}

static void good(void **state)
{
    (void)state;
    for (uint32_t n = 1; n < 200; n += 37) {
        size_t len;
        uint8_t *batch = made(n, &len);
        assert_int_equal(check(batch, len), KAFKA_NONE);
        struct mqg_batch b;
        assert_int_equal(kafka_batch_check(mqg_slice_of(batch, len), (uint32_t)len - 1, &b),
                         KAFKA_MESSAGE_TOO_LARGE);
        free(batch);
    }
}

/* Each byte flipped: the sum finds it, or the head. Base offset and leader epoch are not summed. */
static void flipped(void **state)
{
    (void)state;
    size_t len;
    uint8_t *batch = made(7, &len);
    for (size_t i = AT_LENGTH; i < len; i++) {
        if (i >= 12 && i < 16)
            continue;
        batch[i] ^= 0x10;
        assert_int_not_equal(check(batch, len), KAFKA_NONE);
        batch[i] ^= 0x10;
    }
    for (size_t n = 0; n < len; n++)
        assert_int_not_equal(check(batch, n), KAFKA_NONE);
    free(batch);
}

/* The same with a sum that fits: the structure must find it, or it is another good batch. */
static void forged(void **state)
{
    (void)state;
    size_t len;
    uint8_t *batch = made(3, &len);
    for (size_t i = AT_ATTRIBUTES; i < len; i++)
        for (int bit = 0; bit < 8; bit++) {
            batch[i] ^= (uint8_t)(1 << bit);
            sum(batch, len);
            (void)check(batch, len);
            batch[i] ^= (uint8_t)(1 << bit);
        }
    free(batch);
}

static void lies(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint8_t value;
        enum kafka_error code;
    } rows[] = {
        {AT_DELTA + 3, 7, KAFKA_INVALID_RECORD},
        {AT_COUNT + 3, 3, KAFKA_INVALID_RECORD},
        {AT_COUNT + 3, 5, KAFKA_INVALID_RECORD},
        {AT_ATTRIBUTES + 1, MQG_BATCH_CONTROL, KAFKA_INVALID_RECORD},
        {AT_ATTRIBUTES + 1, 5, KAFKA_UNSUPPORTED_COMPRESSION_TYPE},
        {AT_ATTRIBUTES + 1, MQG_BATCH_TRANSACTIONAL, KAFKA_INVALID_RECORD},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        size_t len;
        uint8_t *batch = made(4, &len);
        batch[rows[i].at] = rows[i].value;
        sum(batch, len);
        assert_int_equal(check(batch, len), rows[i].code);
        free(batch);
    }
}

static void two_are_one_too_many(void **state)
{
    (void)state;
    size_t len;
    uint8_t *batch = made(1, &len);
    uint8_t *two = malloc(len * 2);
    memcpy(two, batch, len);
    memcpy(two + len, batch, len);
    assert_int_equal(check(two, len * 2), KAFKA_INVALID_RECORD);
    free(two);
    free(batch);
}

static void producers(void **state)
{
    (void)state;
    size_t len;
    uint8_t *batch = made(2, &len);
    mqg_put_be64(batch + AT_PRODUCER, 7);
    sum(batch, len);
    assert_int_equal(check(batch, len), KAFKA_INVALID_RECORD); /* no epoch, no sequence */
    mqg_put_be16(batch + AT_PRODUCER + 8, 0);
    mqg_put_be32(batch + AT_PRODUCER + 10, 0);
    sum(batch, len);
    assert_int_equal(check(batch, len), KAFKA_NONE);
    free(batch);
}

static void restamped(void **state)
{
    (void)state;
    size_t len;
    uint8_t *batch = made(9, &len), head[MQG_BATCH_HEAD_BYTES];
    kafka_batch_restamp(mqg_slice_of(batch, len), 123456789, head);
    memcpy(batch, head, sizeof head);
    struct mqg_batch b;
    assert_int_equal(kafka_batch_check(mqg_slice_of(batch, len), 1 << 20, &b), KAFKA_NONE);
    assert_int_equal(b.max_time_ms, 123456789);
    assert_true(b.attributes & MQG_BATCH_APPEND_TIME);
    struct mqg_record_iter it;
    struct mqg_record r;
    mqg_record_iter_init(&it, &b, b.records);
    assert_true(mqg_record_next(&it, &r));
    assert_int_equal(r.time_ms, 123456789);
    free(batch);
}

static void names_of_errors(void **state)
{
    (void)state;
    assert_string_equal(kafka_error_name(KAFKA_NONE), "NONE");
    assert_string_equal(kafka_error_name(KAFKA_UNKNOWN_TOPIC_ID), "UNKNOWN_TOPIC_ID");
    assert_string_equal(kafka_error_name((enum kafka_error)4711), "UNKNOWN_SERVER_ERROR");
    assert_int_equal(kafka_error_of(MQG_GONE), KAFKA_UNKNOWN_TOPIC_OR_PARTITION);
    assert_int_equal(kafka_error_of(MQG_CLOSED), KAFKA_UNKNOWN_SERVER_ERROR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good),      cmocka_unit_test(flipped),
        cmocka_unit_test(forged),    cmocka_unit_test(lies),
        cmocka_unit_test(producers), cmocka_unit_test(two_are_one_too_many),
        cmocka_unit_test(restamped), cmocka_unit_test(names_of_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
