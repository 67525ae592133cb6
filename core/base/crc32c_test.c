/* crc32c_test.c - RFC 3720's vectors, and each form against the other at every length and alignment. */
#include "test_kit.h"

static void test_vectors(void **state)
{
    (void)state;
    uint8_t zeros[32] = {0}, ones[32], up[32], down[32];
    for (size_t i = 0; i < 32; i++) {
        ones[i] = 0xff;
        up[i] = (uint8_t)i;
        down[i] = (uint8_t)(31 - i);
    }
    const struct {
        const void *ptr;
        size_t n;
        uint32_t crc;
    } rows[] = {
        {"123456789", 9, 0xe3069283},
        {zeros, 32, 0x8a9136aa}, /* RFC 3720 B.4 */
        {ones, 32, 0x62a8ab43},
        {up, 32, 0x46dd794e},
        {down, 32, 0x113fdb5c},
        {"", 0, 0},
        {NULL, 0, 0},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        assert_int_equal(mqg_crc32c(0, rows[i].ptr, rows[i].n), rows[i].crc);
        assert_int_equal(mqg_crc32c_table(0, rows[i].ptr, rows[i].n), rows[i].crc);
    }
}

static void test_both_forms_agree(void **state)
{
    (void)state;
    uint8_t bytes[3000];
    uint64_t seed = 3;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)test_random(&seed);
    for (size_t start = 0; start < 16; start++) {
        for (size_t n = 0; n < 600; n++)
            assert_int_equal(mqg_crc32c(5, bytes + start, n), mqg_crc32c_table(5, bytes + start, n));
        assert_int_equal(mqg_crc32c(0, bytes + start, 2900), mqg_crc32c_table(0, bytes + start, 2900));
    }
}

static void test_continues(void **state)
{
    (void)state;
    const char text[] = "the crc of a whole is the crc of its parts, one after the other";
    uint32_t whole = mqg_crc32c(0, text, sizeof text);
    for (size_t cut = 0; cut <= sizeof text; cut++) {
        uint32_t crc = mqg_crc32c(0, text, cut);
        assert_int_equal(mqg_crc32c(crc, text + cut, sizeof text - cut), whole);
        assert_int_equal(mqg_crc32c_table(crc, text + cut, sizeof text - cut), whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_both_forms_agree),
        cmocka_unit_test(test_continues),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
