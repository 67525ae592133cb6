/* record_test.c - batches built and taken apart: round trip, cut at each byte, each byte flipped, and what is refused. */
#include "record.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { RECORDS = 5, BASE = 1000 };

static const struct kfk_header headers[] = {
    {MQG_SLICE_INIT("a"), MQG_SLICE_INIT("1"), false},
    {MQG_SLICE_INIT("a"), MQG_SLICE_INIT(""), false},
    {MQG_SLICE_INIT(""), MQG_SLICE_INIT(""), true},
};

/* Nulls, empties, headers, and times that go back. */
static struct kfk_record record_of(uint32_t i)
{
    struct kfk_record r = {.offset = BASE + i, .time_ms = 1700000000000 - 10 * (int64_t)i};
    r.null_key = i == 1;
    r.key = i == 2 ? MQG_SLICE_LIT("") : MQG_SLICE_LIT("key");
    r.null_value = i == 3;
    r.value = MQG_SLICE_LIT("value");
    r.headers = (struct kfk_header *)(uintptr_t)headers;
    r.nheader = i % 4;
    return r;
}

static struct mqg_buf *batch_of(uint32_t n)
{
    struct kfk_encoder e;
    kfk_encoder_init(&e, 1u << 20);
    for (uint32_t i = 0; i < n; i++) {
        struct kfk_record r = record_of(i);
        assert_true(kfk_encoder_add(&e, &r));
    }
    struct mqg_buf *buf = kfk_encoder_end(&e);
    kfk_encoder_fini(&e);
    assert_non_null(buf);
    return buf;
}

static void expect_same(const struct kfk_record *a, const struct kfk_record *b)
{
    assert_int_equal(a->offset, b->offset);
    assert_int_equal(a->time_ms, b->time_ms);
    assert_int_equal(a->null_key, b->null_key);
    assert_int_equal(a->null_value, b->null_value);
    assert_true(a->null_key || mqg_slice_eq(a->key, b->key));
    assert_true(a->null_value || mqg_slice_eq(a->value, b->value));
    assert_int_equal(a->nheader, b->nheader);
    for (uint32_t i = 0; i < a->nheader; i++) {
        assert_true(mqg_slice_eq(a->headers[i].name, b->headers[i].name));
        assert_int_equal(a->headers[i].null_value, b->headers[i].null_value);
        assert_true(mqg_slice_eq(a->headers[i].value, b->headers[i].value));
    }
}

/* How many records came before the end (*end 0) or the fault (*end -1). */
static uint32_t decode(struct mqg_slice in, int *end)
{
    struct kfk_decoder d;
    struct kfk_record r;
    uint32_t n = 0;
    kfk_decoder_init(&d, in, BASE);
    while ((*end = kfk_decoder_next(&d, &r)) > 0)
        n++;
    assert_true((*end < 0) == (d.why != NULL));
    kfk_decoder_fini(&d);
    return n;
}

static void test_goes_round(void **state)
{
    (void)state;
    struct mqg_buf *buf = batch_of(RECORDS);
    struct kfk_decoder d;
    struct kfk_record r;
    kfk_decoder_init(&d, mqg_slice_of(buf->data, buf->len), BASE);
    for (uint32_t i = 0; i < RECORDS; i++) {
        struct kfk_record want = record_of(i);
        assert_int_equal(kfk_decoder_next(&d, &r), 1);
        expect_same(&r, &want);
    }
    assert_int_equal(kfk_decoder_next(&d, &r), 0);
    kfk_decoder_fini(&d);
    mqg_buf_unref(&buf);
}

static void test_cut_at_each_byte(void **state)
{
    (void)state;
    struct mqg_buf *buf = batch_of(RECORDS);
    for (uint32_t len = 1; len < buf->len; len++) {
        uint8_t *exact = mqg_xmalloc(len); /* so that a sanitizer sees one byte too many */
        int end;
        memcpy(exact, buf->data, len);
        assert_int_equal(decode(mqg_slice_of(exact, len), &end), 0);
        assert_int_equal(end, -1);
        free(exact);
    }
    mqg_buf_unref(&buf);
}

/* Flips each byte, with the sum made right again, so that the decoder has to look itself. */
static void test_each_byte_flipped(void **state)
{
    (void)state;
    struct mqg_buf *buf = batch_of(RECORDS);
    for (uint32_t i = 0; i < buf->len; i++) {
        for (uint32_t bit = 0; bit < 8; bit++) {
            uint8_t *copy = mqg_xmalloc(buf->len);
            int end;
            memcpy(copy, buf->data, buf->len);
            copy[i] ^= (uint8_t)(1u << bit);
            uint32_t n = decode(mqg_slice_of(copy, buf->len), &end);
            if (i >= 16 && i != 12 && i < buf->len) /* the sum covers what follows it */
                assert_true(end == -1 && n == 0);
            mqg_put_be32(copy + 17, mqg_crc32c(0, copy + 21, buf->len - 21));
            n = decode(mqg_slice_of(copy, buf->len), &end);
            assert_true(end == -1 || n == RECORDS);
            free(copy);
        }
    }
    mqg_buf_unref(&buf);
}

static void patch(struct mqg_buf *buf, size_t at, uint32_t value, size_t len)
{
    for (size_t i = 0; i < len; i++)
        buf->data[at + i] = (uint8_t)(value >> 8 * (len - 1 - i));
    mqg_put_be32(buf->data + 17, mqg_crc32c(0, buf->data + 21, buf->len - 21));
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        size_t at, len;
        uint32_t value;
    } rows[] = {
        {"another base offset", 4, 4, BASE + 1},
        {"message set v1", 16, 1, 1},
        {"gzip", 21, 2, 1},
        {"zstd", 21, 2, 4},
        {"control batch", 21, 2, 0x20},
        {"no records", 57, 4, 0},
        {"too many records", 57, 4, 0x7fffffff},
        {"offsets left out", 23, 4, 90},
        {"negative last offset", 23, 4, 0xffffffff},
        {"length beyond the end", 8, 4, 100000},
        {"negative length", 8, 4, 0xffffffff},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        struct mqg_buf *buf = batch_of(RECORDS);
        int end;
        patch(buf, rows[i].at, rows[i].value, rows[i].len);
        if (decode(mqg_slice_of(buf->data, buf->len), &end) != 0 || end != -1)
            fail_msg("%s was taken", rows[i].what);
        mqg_buf_unref(&buf);
    }
}

static void test_several_batches(void **state)
{
    (void)state;
    struct mqg_buf *one = batch_of(2), *two = batch_of(2);
    mqg_put_be64(two->data, BASE + 2);
    uint8_t both[1024];
    int end;
    memcpy(both, one->data, one->len);
    memcpy(both + one->len, two->data, two->len);
    assert_int_equal(decode(mqg_slice_of(both, one->len + two->len), &end), 4);
    assert_int_equal(end, 0);
    mqg_put_be64(both + one->len, BASE + 3); /* a gap */
    assert_int_equal(decode(mqg_slice_of(both, one->len + two->len), &end), 2);
    assert_int_equal(end, -1);
    mqg_buf_unref(&one);
    mqg_buf_unref(&two);
}

static void test_bound(void **state)
{
    (void)state;
    struct kfk_encoder e;
    kfk_encoder_init(&e, 100);
    struct kfk_record r = record_of(0);
    bool full = false;
    for (int i = 0; i < 10 && !full; i++)
        full = !kfk_encoder_add(&e, &r);
    assert_true(full);
    assert_null(kfk_encoder_end(&e));
    kfk_encoder_fini(&e);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goes_round),        cmocka_unit_test(test_cut_at_each_byte),
        cmocka_unit_test(test_each_byte_flipped), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_several_batches),   cmocka_unit_test(test_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
