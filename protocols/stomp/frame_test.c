/* frame_test.c - header blocks: found at every cut, read, refused; escapes there and back; names, numbers. */
#include "frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct stomp_line lines[8];

static enum mqg_err read_block(const char *text, size_t len, struct stomp_head *h)
{
    struct mqg_error e;
    h->lines = lines;
    h->max = MQG_COUNTOF(lines);
    return stomp_head_read(mqg_slice_of(text, len), h, &e);
}

static const char whole[] = "SEND\r\ndestination:/queue/a\nx:1:2\nx:second\r\nempty:\n\r\n";

static void the_end_is_found_at_every_cut(void **state)
{
    (void)state;
    size_t n = sizeof whole - 1, len = 0;
    for (size_t cut = 0; cut <= n; cut++) {
        size_t scanned = 0;
        enum mqg_err err = stomp_head_end(mqg_slice_of(whole, cut), &scanned, &len);
        assert_int_equal(err, cut < n ? MQG_MORE : MQG_OK);
        assert_true(scanned <= cut);
        if (cut < n) /* goes on from there */
            assert_int_equal(stomp_head_end(mqg_slice_of(whole, n), &scanned, &len), MQG_OK);
        assert_int_equal(len, n);
    }
}

static void a_nul_among_headers_is_malformed(void **state)
{
    (void)state;
    size_t scanned = 0, len;
    assert_int_equal(stomp_head_end(mqg_slice_of("SEND\nx\0y:1\n\n", 13), &scanned, &len), MQG_MALFORMED);
    scanned = 0;
    assert_int_equal(stomp_head_end(mqg_slice_of("DISCONNECT\0", 11), &scanned, &len), MQG_MALFORMED);
}

static void a_block_is_read(void **state)
{
    (void)state;
    struct stomp_head h;
    assert_int_equal(read_block(whole, sizeof whole - 1, &h), MQG_OK);
    assert_int_equal(h.command, STOMP_SEND);
    assert_int_equal(h.n, 4);
    assert_true(stomp_has(&h, STOMP_H_DESTINATION) && !stomp_has(&h, STOMP_H_RECEIPT));
    assert_true(mqg_slice_eq(h.known[STOMP_H_DESTINATION], MQG_SLICE_LIT("/queue/a")));
    assert_true(mqg_slice_eq(lines[1].value, MQG_SLICE_LIT("1:2")));
    assert_int_equal(lines[3].value.len, 0);
    assert_false(h.escapes);
}

static void the_first_of_a_repeated_header_counts(void **state)
{
    (void)state;
    struct stomp_head h;
    static const char text[] = "ACK\nid:1\nid:2\n\n";
    assert_int_equal(read_block(text, sizeof text - 1, &h), MQG_OK);
    assert_true(mqg_slice_eq(h.known[STOMP_H_ID], MQG_SLICE_LIT("1")));
    assert_int_equal(h.n, 2);
}

static const struct bad_row {
    const char *text;
    enum mqg_err err;
} bad_rows[] = {
    {"SEND\nno colon\n\n", MQG_MALFORMED},
    {"SEND\n:no name\n\n", MQG_MALFORMED},
    {"SEND\na:1\nb:2\nc:3\nd:4\ne:5\nf:6\ng:7\nh:8\ni:9\n\n", MQG_TOO_LARGE},
    {"SEND\na:1\n", MQG_MALFORMED},
};

static void bad_blocks_are_refused(void **state)
{
    (void)state;
    struct stomp_head h;
    for (size_t i = 0; i < MQG_COUNTOF(bad_rows); i++)
        assert_int_equal(read_block(bad_rows[i].text, strlen(bad_rows[i].text), &h), bad_rows[i].err);
}

static void any_flip_stays_inside(void **state)
{
    (void)state;
    char text[sizeof whole];
    struct stomp_head h;
    for (size_t i = 0; i < sizeof whole - 1; i++)
        for (int bit = 0; bit < 8; bit++) {
            memcpy(text, whole, sizeof whole);
            text[i] = (char)(text[i] ^ (1 << bit));
            size_t scanned = 0, len = 0;
            if (stomp_head_end(mqg_slice_of(text, sizeof whole - 1), &scanned, &len) != MQG_OK)
                continue;
            assert_true(len <= sizeof whole - 1);
            (void)!read_block(text, len, &h);
        }
}

static void every_known_name_is_found(void **state)
{
    (void)state;
    for (int i = 0; i < STOMP_H_COUNT; i++)
        assert_int_equal(stomp_header_find(mqg_slice_str(stomp_header_name((enum stomp_header_id)i))), i);
    assert_int_equal(stomp_header_find(MQG_SLICE_LIT("Destination")), STOMP_H_OTHER);
    assert_int_equal(stomp_header_find(MQG_SLICE_LIT("")), STOMP_H_OTHER);
}

static const struct escape_row {
    const char *raw;
    const char *wire[STOMP_VERSIONS];
} escape_rows[] = {
    {"plain", {"plain", "plain", "plain"}}, {"a:b", {"a:b", "a\\cb", "a\\cb"}},
    {"a\\b", {"a\\b", "a\\\\b", "a\\\\b"}}, {"a\nb", {"a\\nb", "a\\nb", "a\\nb"}},
    {"a\rb", {"a\rb", "a\rb", "a\\rb"}},    {"", {"", "", ""}},
};

static void values_are_escaped_and_back(void **state)
{
    (void)state;
    struct mqg_arena a;
    mqg_arena_init(&a, 0);
    for (size_t i = 0; i < MQG_COUNTOF(escape_rows); i++)
        for (int v = 0; v < STOMP_VERSIONS; v++) {
            uint8_t out[64];
            struct mqg_slice raw = mqg_slice_str(escape_rows[i].raw), back;
            size_t n = (size_t)(stomp_escape(out, raw, (enum stomp_version)v, false) - out);
            assert_true(mqg_slice_eq(mqg_slice_of(out, n), mqg_slice_str(escape_rows[i].wire[v])));
            assert_int_equal(stomp_unescape(mqg_slice_of(out, n), (enum stomp_version)v, &a, &back), MQG_OK);
            if (v != STOMP_10)
                assert_true(mqg_slice_eq(back, raw));
        }
    mqg_arena_fini(&a);
}

static void unknown_escapes_are_malformed(void **state)
{
    (void)state;
    struct mqg_arena a;
    struct mqg_slice out;
    mqg_arena_init(&a, 0);
    assert_int_equal(stomp_unescape(MQG_SLICE_LIT("a\\tb"), STOMP_12, &a, &out), MQG_MALFORMED);
    assert_int_equal(stomp_unescape(MQG_SLICE_LIT("a\\rb"), STOMP_11, &a, &out), MQG_MALFORMED);
    assert_int_equal(stomp_unescape(MQG_SLICE_LIT("end\\"), STOMP_12, &a, &out), MQG_MALFORMED);
    assert_int_equal(stomp_unescape(MQG_SLICE_LIT("a\\tb"), STOMP_10, &a, &out), MQG_OK);
    mqg_arena_fini(&a);
}

static void numbers_are_strict(void **state)
{
    (void)state;
    uint64_t n;
    assert_true(stomp_number(MQG_SLICE_LIT("18446744073709551615"), UINT64_MAX, &n) && n == UINT64_MAX);
    assert_false(stomp_number(MQG_SLICE_LIT("18446744073709551616"), UINT64_MAX, &n));
    assert_true(stomp_number(MQG_SLICE_LIT("255"), 255, &n) && n == 255);
    assert_false(stomp_number(MQG_SLICE_LIT("256"), 255, &n));
    assert_false(stomp_number(MQG_SLICE_LIT(""), 255, &n));
    assert_false(stomp_number(MQG_SLICE_LIT("-1"), 255, &n));
    assert_false(stomp_number(MQG_SLICE_LIT("1 "), 255, &n));
}

static void line_ends_between_frames_are_counted(void **state)
{
    (void)state;
    assert_int_equal(stomp_eols(MQG_SLICE_LIT("\n\r\n\nSEND")), 4);
    assert_int_equal(stomp_eols(MQG_SLICE_LIT("\n\r")), 1);
    assert_int_equal(stomp_eols(MQG_SLICE_LIT("\rSEND")), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_end_is_found_at_every_cut),
        cmocka_unit_test(a_nul_among_headers_is_malformed),
        cmocka_unit_test(a_block_is_read),
        cmocka_unit_test(the_first_of_a_repeated_header_counts),
        cmocka_unit_test(bad_blocks_are_refused),
        cmocka_unit_test(any_flip_stays_inside),
        cmocka_unit_test(every_known_name_is_found),
        cmocka_unit_test(values_are_escaped_and_back),
        cmocka_unit_test(unknown_escapes_are_malformed),
        cmocka_unit_test(numbers_are_strict),
        cmocka_unit_test(line_ends_between_frames_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
