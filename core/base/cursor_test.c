/* cursor_test.c - reads, the sticky error at every cut, sub-cursors, varints with one spelling. */
#include "test_kit.h"

static const uint8_t cursor_bytes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,  15, 1,
                                       0, 3, 0, 0, 0, 5, 0, 0, 0, 0,  0,  0,  0,  'x', 'y'};

/* u8, be16, be32, be64, le16, le32, le64, slice of 2: 31 bytes in all. */
static bool cursor_read_all(struct mqg_cursor *c)
{
    bool good = mqg_cursor_u8(c) == 1;
    good &= mqg_cursor_be16(c) == 0x0203;
    good &= mqg_cursor_be32(c) == 0x04050607;
    good &= mqg_cursor_be64(c) == UINT64_C(0x08090a0b0c0d0e0f);
    good &= mqg_cursor_le16(c) == 1;
    good &= mqg_cursor_le32(c) == 3;
    good &= mqg_cursor_le64(c) == 5;
    good &= mqg_slice_eq(mqg_cursor_slice(c, 2), MQG_SLICE_LIT("xy"));
    return good;
}

static void test_reads(void **state)
{
    (void)state;
    struct mqg_cursor c = mqg_cursor_of(mqg_slice_of(cursor_bytes, sizeof cursor_bytes));
    assert_true(cursor_read_all(&c));
    assert_true(mqg_cursor_done(&c));
}

static void test_cut_at_each_byte(void **state)
{
    (void)state;
    for (size_t cut = 0; cut < sizeof cursor_bytes; cut++) {
        uint8_t *copy = test_exact_copy(mqg_slice_of(cursor_bytes, cut));
        struct mqg_cursor c = mqg_cursor_of(mqg_slice_of(copy, cut));
        assert_false(cursor_read_all(&c));
        assert_true(c.failed);
        assert_false(mqg_cursor_done(&c));
        assert_int_equal(mqg_cursor_left(&c), 0);
        assert_int_equal(mqg_cursor_u8(&c), 0);
        assert_null(mqg_cursor_slice(&c, 0).ptr);
        free(copy);
    }
}

static void test_empty(void **state)
{
    (void)state;
    struct mqg_cursor c = mqg_cursor_of(MQG_SLICE_NONE);
    assert_true(mqg_cursor_done(&c));
    assert_int_equal(mqg_cursor_slice(&c, 0).len, 0);
    assert_false(c.failed);
    assert_null(mqg_cursor_take(&c, SIZE_MAX));
    assert_true(c.failed);
}

static void test_sub(void **state)
{
    (void)state;
    struct mqg_cursor c = mqg_cursor_of(mqg_slice_of(cursor_bytes, 4));
    struct mqg_cursor sub = mqg_cursor_sub(&c, 3);
    assert_int_equal(mqg_cursor_left(&sub), 3);
    assert_int_equal(mqg_cursor_left(&c), 1);
    mqg_cursor_be32(&sub);
    assert_true(sub.failed);
    assert_false(c.failed); /* its own bytes are fine */
    sub = mqg_cursor_sub(&c, 2);
    assert_true(sub.failed);
    assert_true(c.failed);
    assert_int_equal(mqg_cursor_left(&sub), 0);
}

static void test_varint_rows(void **state)
{
    (void)state;
    static const struct {
        struct mqg_slice in;
        bool valid;
        uint64_t value;
    } rows[] = {
        {MQG_SLICE_INIT("\x00"), true, 0},
        {MQG_SLICE_INIT("\x7f"), true, 127},
        {MQG_SLICE_INIT("\x80\x01"), true, 128},
        {MQG_SLICE_INIT("\xe5\x8e\x26"), true, 624485},
        {MQG_SLICE_INIT("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), true, UINT64_MAX},
        {MQG_SLICE_INIT("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"), true, UINT64_C(1) << 63},
        {MQG_SLICE_INIT("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"), false, 0},     /* 65 bits */
        {MQG_SLICE_INIT("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"), false, 0}, /* 11 bytes */
        {MQG_SLICE_INIT("\x80\x00"), false, 0},                                     /* overlong 0 */
        {MQG_SLICE_INIT("\xff\x80\x00"), false, 0},
        {MQG_SLICE_INIT("\x80"), false, 0}, /* cut */
        {MQG_SLICE_INIT(""), false, 0},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        uint8_t *copy = test_exact_copy(rows[i].in);
        struct mqg_cursor c = mqg_cursor_of(mqg_slice_of(copy, rows[i].in.len));
        assert_true(mqg_cursor_varint(&c) == rows[i].value);
        assert_int_equal(mqg_cursor_done(&c), rows[i].valid);
        free(copy);
    }
}

static void test_varint_round_trip(void **state)
{
    (void)state;
    for (unsigned shift = 0; shift < 64; shift++) {
        for (int64_t delta = -1; delta <= 1; delta++) {
            uint64_t v = (UINT64_C(1) << shift) + (uint64_t)delta;
            struct mqg_dynbuf b;
            mqg_dynbuf_init(&b, 10);
            assert_true(mqg_dynbuf_varint(&b, v));
            struct mqg_cursor c = mqg_cursor_of(mqg_dynbuf_view(&b));
            assert_true(mqg_cursor_varint(&c) == v);
            assert_true(mqg_cursor_done(&c));
            mqg_dynbuf_fini(&b);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads),       cmocka_unit_test(test_cut_at_each_byte),
        cmocka_unit_test(test_empty),       cmocka_unit_test(test_sub),
        cmocka_unit_test(test_varint_rows), cmocka_unit_test(test_varint_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
