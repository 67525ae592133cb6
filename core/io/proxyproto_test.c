/* proxyproto_test.c - PROXY headers: tables of good and bad ones, each cut at every byte. */
#include "proxyproto.h"

#include <mqgate/protocol.h>

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define V2 "\r\n\r\n\0\r\nQUIT\n"
#define BYTES(text)                               \
    {                                             \
        (const uint8_t *)(text), sizeof(text) - 1 \
    }

struct good_row {
    struct mqg_slice in;
    bool local, loopback;
    const char *src, *dst;
    uint16_t src_port, dst_port;
    size_t after; /* bytes behind the header */
};

static const struct good_row good[] = {
    {BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 51000 5672\r\nAMQP"), false, false, "192.0.2.1", "192.0.2.2",
     51000, 5672, 4},
    {BYTES("PROXY TCP4 127.0.0.1 127.0.0.2 0 65535\r\n"), false, true, "127.0.0.1", "127.0.0.2", 0, 65535, 0},
    {BYTES("PROXY TCP6 2001:DB8:0::1 ::1 1 2\r\n"), false, false, "2001:db8::1", "::1", 1, 2, 0},
    {BYTES("PROXY TCP6 ::1 ::1 1 2\r\n"), false, true, "::1", "::1", 1, 2, 0},
    {BYTES("PROXY UNKNOWN\r\n"), true, false, "", "", 0, 0, 0},
    {BYTES("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"), true, false, "", "", 0, 0, 0},
    {BYTES(V2 "\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\xc7\x38\x16\x28X"), false, false, "192.0.2.1",
     "192.0.2.2", 51000, 5672, 1},
    {BYTES(V2 "\x21\x11\0\x10\x7f\0\0\x01\xc0\0\x02\x02\xc7\x38\x16\x28\x04\0\x01z"), false, true,
     "127.0.0.1", "192.0.2.2", 51000, 5672, 0},
    {BYTES(V2 "\x21\x21\0\x24\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\0"
              "\x01\0\x02"),
     false, true, "::1", "2001:db8::1", 1, 2, 0},
    {BYTES(V2 "\x20\0\0\0"), true, false, "", "", 0, 0, 0},
    {BYTES(V2 "\x20\x11\0\x02zz"), true, false, "", "", 0, 0, 0},
    {BYTES(V2 "\x21\0\0\0"), true, false, "", "", 0, 0, 0},
};

/* From memory of exactly that size, so that a byte read too far is seen. */
static enum mqg_err decode(struct mqg_slice in, size_t n, struct mqg_proxy *out, size_t *used)
{
    struct mqg_error e;
    uint8_t *exact = malloc(n + 1);
    memcpy(exact, in.ptr, n);
    enum mqg_err err = mqg_proxy_decode(mqg_slice_of(exact, n), out, used, &e);
    free(exact);
    return err;
}

static void test_good_headers(void **state)
{
    (void)state;
    for (size_t i = 0; i < MQG_COUNTOF(good); i++) {
        const struct good_row *row = &good[i];
        struct mqg_proxy p;
        size_t used;
        assert_int_equal(decode(row->in, row->in.len, &p, &used), MQG_OK);
        assert_int_equal(used, row->in.len - row->after);
        assert_int_equal(p.local, row->local);
        assert_int_equal(p.src_loopback, row->loopback);
        assert_string_equal(p.src_host, row->src);
        assert_string_equal(p.dst_host, row->dst);
        assert_int_equal(p.src_port, row->src_port);
        assert_int_equal(p.dst_port, row->dst_port);
        for (size_t n = 0; n < used; n++) {
            size_t none;
            assert_int_equal(decode(row->in, n, &p, &none), MQG_MORE);
        }
    }
}

static const struct bad_row {
    struct mqg_slice in;
    enum mqg_err err;
} bad[] = {
    {BYTES("GET / HTTP/1.1\r\n"), MQG_MALFORMED},
    {BYTES("AMQP\0\0\x09\x01"), MQG_MALFORMED},
    {BYTES("proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n"), MQG_MALFORMED},
    {BYTES("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n"), MQG_MALFORMED},
    {BYTES("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n"), MQG_MALFORMED},
    {BYTES("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n"), MQG_MALFORMED},
    {BYTES("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n"), MQG_MALFORMED},
    {BYTES("PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n"), MQG_MALFORMED},
    {BYTES("PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n"), MQG_MALFORMED},
    {BYTES("PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n"), MQG_MALFORMED},
    {BYTES("PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n"), MQG_MALFORMED},
    {BYTES("PROXY TCP4 ::1 ::1 1 2\r\n"), MQG_MALFORMED},
    {BYTES("PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n"), MQG_MALFORMED},
    {BYTES("PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n"), MQG_MALFORMED},
    {BYTES("PROXY TCP4 host 1.2.3.4 1 2\r\n"), MQG_MALFORMED},
    {BYTES("PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n"), MQG_MALFORMED},
    {BYTES("PROXY \r\n"), MQG_MALFORMED},
    {BYTES(V2 "\x11\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\xc7\x38\x16\x28"), MQG_UNSUPPORTED},
    {BYTES(V2 "\x22\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\xc7\x38\x16\x28"), MQG_UNSUPPORTED},
    {BYTES(V2 "\x21\x12\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\xc7\x38\x16\x28"), MQG_UNSUPPORTED},
    {BYTES(V2 "\x21\x31\0\0"), MQG_UNSUPPORTED},
    {BYTES(V2 "\x21\x11\0\x0b\xc0\0\x02\x01\xc0\0\x02\x02\xc7\x38\x16"), MQG_MALFORMED},
    {BYTES(V2 "\x21\x21\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\xc7\x38\x16\x28"), MQG_MALFORMED},
    {BYTES(V2 "\x21\x11\xff\xff"), MQG_TOO_LARGE},
};

static void test_bad_headers(void **state)
{
    (void)state;
    for (size_t i = 0; i < MQG_COUNTOF(bad); i++) {
        struct mqg_proxy p;
        size_t used;
        assert_int_equal(decode(bad[i].in, bad[i].in.len, &p, &used), bad[i].err);
    }
}

static void test_a_line_that_does_not_end(void **state)
{
    (void)state;
    char line[200];
    struct mqg_proxy p;
    size_t used;
    memset(line, 'x', sizeof line);
    memcpy(line, "PROXY ", 6);
    assert_int_equal(decode(mqg_slice_of(line, 106), 106, &p, &used), MQG_MORE);
    assert_int_equal(decode(mqg_slice_of(line, 107), 107, &p, &used), MQG_MALFORMED);
}

static void test_flipped_bytes_stay_inside(void **state)
{
    (void)state;
    for (size_t i = 0; i < MQG_COUNTOF(good); i++) {
        for (size_t at = 0; at < good[i].in.len; at++) {
            uint8_t copy[128];
            struct mqg_proxy p;
            size_t used;
            memcpy(copy, good[i].in.ptr, good[i].in.len);
            for (unsigned bit = 0; bit < 8; bit++) {
                copy[at] = (uint8_t)(good[i].in.ptr[at] ^ (1u << bit));
                decode(mqg_slice_of(copy, good[i].in.len), good[i].in.len, &p, &used);
                assert_true(used <= good[i].in.len || used <= MQG_PROXY_HEADER_MAX);
            }
        }
    }
}

static void test_what_it_says_becomes_the_peer(void **state)
{
    (void)state;
    struct mqg_conn_info info = {.peer_host = "127.0.0.1", .flags = MQG_CONN_LOOPBACK};
    struct mqg_proxy p = {.src_host = "192.0.2.1", .dst_host = "192.0.2.2", .src_port = 5, .dst_port = 6};
    mqg_proxy_apply(&p, &info);
    assert_string_equal(info.peer_host, "192.0.2.1");
    assert_string_equal(info.host, "192.0.2.2");
    assert_int_equal(info.flags, MQG_CONN_PROXIED);
    p.local = true;
    info.flags = MQG_CONN_LOOPBACK;
    mqg_proxy_apply(&p, &info);
    assert_int_equal(info.flags, MQG_CONN_LOOPBACK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_headers),
        cmocka_unit_test(test_bad_headers),
        cmocka_unit_test(test_a_line_that_does_not_end),
        cmocka_unit_test(test_flipped_bytes_stay_inside),
        cmocka_unit_test(test_what_it_says_becomes_the_peer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
