/* slice_test.c - order, copies, byte order and UTF-8, the latter against an arithmetic oracle. */
#include "test_kit.h"

static void test_compare(void **state)
{
    (void)state;
    static const struct {
        struct mqg_slice a, b;
        int order;
        bool starts; /* a starts with b */
    } rows[] = {
        {MQG_SLICE_INIT("a"), MQG_SLICE_INIT("b"), -1, false},
        {MQG_SLICE_INIT("b"), MQG_SLICE_INIT("a"), 1, false},
        {MQG_SLICE_INIT("ab"), MQG_SLICE_INIT("ab"), 0, true},
        {MQG_SLICE_INIT("ab"), MQG_SLICE_INIT("a"), 1, true},
        {MQG_SLICE_INIT("a"), MQG_SLICE_INIT("ab"), -1, false},
        {MQG_SLICE_INIT(""), {NULL, 0}, 0, true},
        {{NULL, 0}, {NULL, 0}, 0, true},
        {{NULL, 0}, MQG_SLICE_INIT("a"), -1, false},
        {MQG_SLICE_INIT("\xff"), MQG_SLICE_INIT("a"), 1, false}, /* bytes are unsigned */
        {MQG_SLICE_INIT("a\0b"), MQG_SLICE_INIT("a\0c"), -1, false},
        {MQG_SLICE_INIT("a\0b"), MQG_SLICE_INIT("a\0"), 1, true},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        assert_int_equal(mqg_slice_cmp(rows[i].a, rows[i].b), rows[i].order);
        assert_int_equal(mqg_slice_cmp(rows[i].b, rows[i].a), -rows[i].order);
        assert_int_equal(mqg_slice_eq(rows[i].a, rows[i].b), rows[i].order == 0);
        assert_int_equal(mqg_slice_starts(rows[i].a, rows[i].b), rows[i].starts);
    }
}

static void test_dup(void **state)
{
    (void)state;
    char *copy = mqg_slice_dup(MQG_SLICE_LIT("a\0b"));
    assert_memory_equal(copy, "a\0b", 4);
    free(copy);
    copy = mqg_slice_dup(MQG_SLICE_NONE);
    assert_string_equal(copy, "");
    free(copy);
}

static void test_byte_order(void **state)
{
    (void)state;
    uint8_t b[8];
    mqg_put_be64(b, UINT64_C(0x0102030405060708));
    assert_memory_equal(b, "\1\2\3\4\5\6\7\10", 8);
    assert_true(mqg_be64(b) == UINT64_C(0x0102030405060708));
    assert_int_equal(mqg_be32(b + 1), 0x02030405);
    assert_int_equal(mqg_be16(b + 3), 0x0405);
    assert_int_equal(mqg_le16(b + 3), 0x0504);
    mqg_put_le32(b, 0x01020304);
    assert_memory_equal(b, "\4\3\2\1", 4);
    assert_int_equal(mqg_le32(b), 0x01020304);
    mqg_put_be16(b, 0x0102);
    mqg_put_le16(b + 2, 0x0102);
    assert_memory_equal(b, "\1\2\2\1", 4);
    mqg_put_be32(b, 0x01020304);
    assert_memory_equal(b, "\1\2\3\4", 4);
    mqg_put_le64(b, 5);
    assert_true(mqg_le64(b) == 5);
}

static void test_format(void **state)
{
    (void)state;
    char text[2000];
    assert_int_equal(snprintf(text, sizeof text, "%.*s|", MQG_SLICE_FMT(MQG_SLICE_LIT("abc"))), 4);
    assert_string_equal(text, "abc|");
    assert_int_equal(snprintf(text, sizeof text, "%.*s|", MQG_SLICE_FMT(MQG_SLICE_NONE)), 1);
}

static void test_utf8_rows(void **state)
{
    (void)state;
    static const struct {
        struct mqg_slice s;
        bool valid;
    } rows[] = {
        {MQG_SLICE_INIT(""), true},
        {MQG_SLICE_INIT("plain text, long enough for words of eight"), true},
        {MQG_SLICE_INIT("a\0b"), true},
        {MQG_SLICE_INIT("\xc3\xa9t\xc3\xa9"), true},
        {MQG_SLICE_INIT("\xe2\x82\xac"), true},
        {MQG_SLICE_INIT("\xf0\x9f\x90\x87"), true},
        {MQG_SLICE_INIT("\xf4\x8f\xbf\xbf"), true},      /* U+10FFFF */
        {MQG_SLICE_INIT("\xf4\x90\x80\x80"), false},     /* beyond */
        {MQG_SLICE_INIT("\xed\x9f\xbf"), true},          /* last before the surrogates */
        {MQG_SLICE_INIT("\xed\xa0\x80"), false},         /* first surrogate */
        {MQG_SLICE_INIT("\xee\x80\x80"), true},          /* first after */
        {MQG_SLICE_INIT("\xc0\x80"), false},             /* overlong NUL */
        {MQG_SLICE_INIT("\xc1\xbf"), false},             /* overlong */
        {MQG_SLICE_INIT("\xe0\x9f\xbf"), false},         /* overlong */
        {MQG_SLICE_INIT("\xf0\x8f\xbf\xbf"), false},     /* overlong */
        {MQG_SLICE_INIT("\x80"), false},                 /* tail alone */
        {MQG_SLICE_INIT("abcdefgh\xff"), false},         /* after a word of ASCII */
        {MQG_SLICE_INIT("abc\xffzzzz"), false},          /* within one */
        {MQG_SLICE_INIT("\xe2\x82"), false},             /* cut */
        {MQG_SLICE_INIT("\xe2\x28\xa1"), false},         /* wrong tail */
        {MQG_SLICE_INIT("\xf8\x88\x80\x80\x80"), false}, /* five bytes */
    };
    assert_true(mqg_utf8_valid(MQG_SLICE_NONE));
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        uint8_t *copy = test_exact_copy(rows[i].s);
        assert_int_equal(mqg_utf8_valid(mqg_slice_of(copy, rows[i].s.len)), rows[i].valid);
        free(copy);
    }
}

static size_t utf8_write(uint8_t *p, uint32_t c)
{
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const uint8_t heads[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n; i > 1; i--, c >>= 6)
        p[i - 1] = (uint8_t)(0x80 | (c & 0x3f));
    p[0] = (uint8_t)(heads[n] | c);
    return n;
}

static void test_utf8_every_code_point(void **state)
{
    (void)state;
    for (uint32_t c = 0; c < 0x120000; c++) {
        uint8_t text[4];
        size_t n = utf8_write(text, c);
        bool valid = c <= 0x10ffff && !(c >= 0xd800 && c <= 0xdfff);
        assert_int_equal(mqg_utf8_valid(mqg_slice_of(text, n)), valid);
        if (n > 1)
            assert_false(mqg_utf8_valid(mqg_slice_of(text, n - 1)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compare),    cmocka_unit_test(test_dup),
        cmocka_unit_test(test_byte_order), cmocka_unit_test(test_format),
        cmocka_unit_test(test_utf8_rows),  cmocka_unit_test(test_utf8_every_code_point),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
