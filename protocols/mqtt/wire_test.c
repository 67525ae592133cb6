/* wire_test.c - packets against golden vectors with their clause; each fed whole, cut at each byte, and flipped bit by bit. */
#include "wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct vector {
    const char *clause;
    enum mqtt_version version;
    int reason; /* 0: it decodes */
    size_t len;
    const char *bytes;
};

#define V(clause_, version_, reason_, bytes_)                  \
    {                                                          \
        clause_, version_, reason_, sizeof(bytes_) - 1, bytes_ \
    }

static const struct vector vectors[] = {
    /* CONNECT */
    V("3.1.1 3.1", MQTT_311, 0, "\x10\x0d\0\4MQTT\4\2\0\x3c\0\1a"),
    V("3.1 CONNECT", MQTT_31, 0, "\x10\x0f\0\6MQIsdp\3\2\0\x3c\0\1a"),
    V("5.0 3.1.2.11", MQTT_5, 0, "\x10\x13\0\4MQTT\5\2\0\x3c\5\x11\0\0\0\xa\0\1a"),
    V("5.0 3.1.3.2 will", MQTT_5, 0,
      "\x10\x25\0\4MQTT\5\xc6\0\x3c\0\0\1a\5\x18\0\0\0\1\0\1w\0\2hi\0\1u\0\1p"),
    V("MQTT-3.1.2-3 reserved flag", MQTT_311, 0x81, "\x10\x0d\0\4MQTT\4\3\0\x3c\0\1a"),
    V("MQTT-3.1.2-14 will QoS 3", MQTT_311, 0x81, "\x10\x0d\0\4MQTT\4\x1e\0\x3c\0\1a"),
    V("MQTT-3.1.2-11 will QoS without will", MQTT_311, 0x81, "\x10\x0d\0\4MQTT\4\x0a\0\x3c\0\1a"),
    V("MQTT-3.1.2-13 will retain without will", MQTT_311, 0x81, "\x10\x0d\0\4MQTT\4\x22\0\x3c\0\1a"),
    V("MQTT-3.1.2-22 password without user", MQTT_311, 0x81, "\x10\x10\0\4MQTT\4\x42\0\x3c\0\1a\0\1p"),
    V("5.0 password without user", MQTT_5, 0, "\x10\x11\0\4MQTT\5\x42\0\x3c\0\0\1a\0\1p"),
    V("MQTT-3.1.2-2 level", MQTT_311, 0x84, "\x10\x0d\0\4MQTT\6\2\0\x3c\0\1a"),
    V("MQTT-3.1.2-1 name", MQTT_311, 0x84, "\x10\x0d\0\4MQTX\4\2\0\x3c\0\1a"),
    V("MQTT-1.5.3-1 client id", MQTT_311, 0x81, "\x10\x0d\0\4MQTT\4\2\0\x3c\0\1\xff"),
    V("3.1.2.11.3 receive maximum 0", MQTT_5, 0x82, "\x10\x11\0\4MQTT\5\2\0\x3c\3\x21\0\0\0\1a"),
    V("3.1.2.11.4 packet size 0", MQTT_5, 0x82, "\x10\x13\0\4MQTT\5\2\0\x3c\5\x27\0\0\0\0\0\1a"),
    V("3.1.2.11.6 problem info 2", MQTT_5, 0x82, "\x10\x10\0\4MQTT\5\2\0\x3c\2\x17\2\0\1a"),
    V("3.1.2.11.2 twice", MQTT_5, 0x82, "\x10\x18\0\4MQTT\5\2\0\x3c\xa\x11\0\0\0\1\x11\0\0\0\1\0\1a"),
    V("2.2.2.2 not in CONNECT", MQTT_5, 0x82, "\x10\x11\0\4MQTT\5\2\0\x3c\3\x23\0\1\0\1a"),
    V("2.2.2.2 unknown", MQTT_5, 0x81, "\x10\x10\0\4MQTT\5\2\0\x3c\2\x7f\1\0\1a"),
    V("3.1.2.11.10 data without method", MQTT_5, 0x82, "\x10\x12\0\4MQTT\5\2\0\x3c\4\x16\0\1x\0\1a"),
    V("bytes behind", MQTT_311, 0x81, "\x10\x0e\0\4MQTT\4\2\0\x3c\0\1a!"),
    /* PUBLISH */
    V("3.3 QoS 0", MQTT_311, 0, "\x30\x06\0\3a/bx"),
    V("3.3 QoS 1", MQTT_311, 0, "\x32\x07\0\3a/b\0\1"),
    V("3.3 QoS 2 DUP", MQTT_5, 0, "\x3c\x08\0\3a/b\0\1\0"),
    V("3.3.2.3", MQTT_5, 0, "\x30\x0e\0\1a\x0a\1\1\2\0\0\0\5\x23\0\1"),
    V("MQTT-3.3.1-4 QoS 3", MQTT_311, 0x81, "\x36\x07\0\3a/b\0\1"),
    V("MQTT-3.3.1-2 DUP with QoS 0", MQTT_311, 0x81, "\x38\x05\0\3a/b"),
    V("MQTT-3.3.2-2 wildcard", MQTT_311, 0x90, "\x30\x05\0\3a/+"),
    V("MQTT-3.3.2-1 UTF-8", MQTT_311, 0x81, "\x30\x05\0\3a/\xff"),
    V("MQTT-1.5.3-2 NUL", MQTT_311, 0x81, "\x30\x05\0\3a\0b"),
    V("MQTT-4.7.3-1 empty", MQTT_311, 0x82, "\x30\x02\0\0"),
    V("5.0 empty with alias", MQTT_5, 0, "\x30\x06\0\0\3\x23\0\1"),
    V("5.0 empty without alias", MQTT_5, 0x82, "\x30\x03\0\0\0"),
    V("MQTT-2.3.1-1 identifier 0", MQTT_311, 0x82, "\x32\x07\0\3a/b\0\0"),
    V("MQTT-3.3.4-6 subscription id", MQTT_5, 0x82, "\x30\x08\0\3a/b\2\x0b\1"),
    V("MQTT-3.3.2-14 response topic", MQTT_5, 0x82, "\x30\x0b\0\3a/b\5\x08\0\2a#"),
    /* acknowledgements */
    V("3.4", MQTT_311, 0, "\x40\x02\0\1"),
    V("5.0 3.4 reason", MQTT_5, 0, "\x40\x03\0\1\x10"),
    V("5.0 3.4 properties", MQTT_5, 0, "\x40\x04\0\1\x10\0"),
    V("3.6", MQTT_311, 0, "\x62\x02\0\1"),
    V("MQTT-3.6.1-1", MQTT_311, 0x81, "\x60\x02\0\1"),
    V("3.4 identifier 0", MQTT_311, 0x82, "\x40\x02\0\0"),
    V("3.4 long", MQTT_311, 0x81, "\x40\x03\0\1\0"),
    /* SUBSCRIBE */
    V("3.8", MQTT_311, 0, "\x82\x08\0\1\0\3a/b\1"),
    V("5.0 3.8", MQTT_5, 0, "\x82\x0b\0\1\2\x0b\5\0\3a/b\x2d"),
    V("MQTT-3.8.1-1", MQTT_311, 0x81, "\x80\x08\0\1\0\3a/b\1"),
    V("MQTT-3.8.3-3 no filter", MQTT_311, 0x82, "\x82\x02\0\1"),
    V("MQTT-3-8.3-4 reserved bits", MQTT_311, 0x81, "\x82\x08\0\1\0\3a/b\5"),
    V("MQTT-3-8.3-4 QoS 3", MQTT_311, 0x81, "\x82\x08\0\1\0\3a/b\3"),
    V("5.0 retain handling 3", MQTT_5, 0x82, "\x82\x09\0\1\0\0\3a/b\x31"),
    V("MQTT-3.8.3-5 reserved bits", MQTT_5, 0x81, "\x82\x09\0\1\0\0\3a/b\x41"),
    V("MQTT-3.8.3-4 shared no-local", MQTT_5, 0x82, "\x82\x10\0\1\0\0\x0a$share/g/a\4"),
    V("3.8.2.1.2 identifier 0", MQTT_5, 0x82, "\x82\x0b\0\1\2\x0b\0\0\3a/b\1"),
    V("MQTT-2.3.1-1", MQTT_311, 0x82, "\x82\x08\0\0\0\3a/b\1"),
    /* UNSUBSCRIBE */
    V("3.10", MQTT_311, 0, "\xa2\x07\0\1\0\3a/b"),
    V("5.0 3.10", MQTT_5, 0, "\xa2\x08\0\1\0\0\3a/b"),
    V("MQTT-3.10.1-1", MQTT_311, 0x81, "\xa0\x07\0\1\0\3a/b"),
    V("MQTT-3.10.3-2 no filter", MQTT_311, 0x82, "\xa2\x02\0\1"),
    /* the rest */
    V("3.12", MQTT_311, 0, "\xc0\0"),
    V("3.14", MQTT_311, 0, "\xe0\0"),
    V("5.0 3.14", MQTT_5, 0, "\xe0\x07\4\5\x11\0\0\0\0"),
    V("MQTT-3.14.1-1", MQTT_311, 0x81, "\xe1\0"),
    V("3.14 with a body", MQTT_311, 0x81, "\xe0\1\0"),
    V("5.0 3.14 unknown reason", MQTT_5, 0x81, "\xe0\1\5"),
    V("5.0 3.15", MQTT_5, 0, "\xf0\x06\x18\4\x15\0\1x"),
    V("5.0 3.15 reason", MQTT_5, 0x82, "\xf0\x01\0"),
    V("2.2.1 reserved type", MQTT_311, 0x81, "\0\0"),
    V("AUTH in 3.1.1", MQTT_311, 0x82, "\xf0\0"),
    V("CONNACK from a client", MQTT_311, 0x82, "\x20\2\0\0"),
};

static enum mqg_err decode_filters(enum mqtt_type type, struct mqg_slice body, enum mqtt_version v,
                                   struct mqg_error *e)
{
    struct mqtt_filters f;
    struct mqtt_filter one;
    enum mqg_err err = mqtt_filters_decode(type, body, v, &f, e);
    for (uint32_t n = 0; err == MQG_OK && n < f.n; n++)
        assert_true(mqtt_filters_next(&f, &one));
    return err;
}

static enum mqg_err decode_body(const struct mqtt_head *h, struct mqg_slice body, enum mqtt_version v,
                                struct mqg_error *e)
{
    static struct mqtt_connect connect;
    static struct mqtt_publish publish;
    static struct mqtt_goodbye bye;
    struct mqtt_ack ack;
    switch (h->type) {
    case MQTT_CONNECT: return mqtt_connect_decode(body, &connect, e);
    case MQTT_PUBLISH: return mqtt_publish_decode(h, body, v, &publish, e);
    case MQTT_SUBSCRIBE:
    case MQTT_UNSUBSCRIBE: return decode_filters((enum mqtt_type)h->type, body, v, e);
    case MQTT_DISCONNECT:
    case MQTT_AUTH: return mqtt_goodbye_decode((enum mqtt_type)h->type, body, v, &bye, e);
    case MQTT_PINGREQ: return MQG_OK;
    default: return mqtt_ack_decode((enum mqtt_type)h->type, body, v, &ack, e);
    }
}

/* From an allocation of exactly that size, so that a read of one byte too many is seen. MORE when it is cut. */
static enum mqg_err decode(const uint8_t *bytes, size_t n, enum mqtt_version v, struct mqg_error *e)
{
    uint8_t *copy = malloc(n > 0 ? n : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, n);
    struct mqtt_head h;
    enum mqg_err err = mqtt_head_peek(mqg_slice_of(copy, n), &h);
    if (err == MQG_OK)
        err = mqtt_head_check(&h, v, e);
    if (err == MQG_OK && n - h.head_bytes < h.body_bytes && h.type != MQTT_PUBLISH)
        err = MQG_MORE;
    size_t body = n - h.head_bytes < h.body_bytes ? n - h.head_bytes : h.body_bytes;
    if (err == MQG_OK)
        err = decode_body(&h, mqg_slice_of(copy + h.head_bytes, body), v, e);
    free(copy);
    return err;
}

static void test_vectors(void **state)
{
    (void)state;
    for (size_t i = 0; i < MQG_COUNTOF(vectors); i++) {
        const struct vector *x = &vectors[i];
        uint8_t bytes[128];
        struct mqg_error e = {.code = 0};
        memcpy(bytes, x->bytes, x->len);
        bytes[1] = (uint8_t)(x->len - 2); /* one byte of length: the vectors are short */
        enum mqg_err err = decode(bytes, x->len, x->version, &e);
        if ((err == MQG_OK) != (x->reason == 0) || (err != MQG_OK && e.code != x->reason))
            fail_msg("%s: %s, reason 0x%02x, wanted 0x%02x (%s)", x->clause, mqg_err_name(err),
                     (unsigned)e.code, (unsigned)x->reason, e.text);
    }
}

/* A packet that is not whole is never taken and never refused for what has not come; but a PUBLISH once its head is there. */
static void test_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < MQG_COUNTOF(vectors); i++) {
        const struct vector *x = &vectors[i];
        uint8_t bytes[128];
        memcpy(bytes, x->bytes, x->len);
        bytes[1] = (uint8_t)(x->len - 2);
        for (size_t n = 0; x->reason == 0 && n < x->len; n++) {
            struct mqg_error e = {.code = 0};
            enum mqg_err err = decode(bytes, n, x->version, &e);
            bool publish = bytes[0] >> 4 == MQTT_PUBLISH;
            if (err != MQG_MORE && !(publish && err == MQG_OK))
                fail_msg("%s cut at %zu: %s", x->clause, n, mqg_err_name(err));
        }
    }
}

static void test_flip(void **state)
{
    (void)state;
    for (size_t i = 0; i < MQG_COUNTOF(vectors); i++) {
        const struct vector *x = &vectors[i];
        for (size_t at = 0; at < x->len * 8; at++) {
            uint8_t bytes[128];
            struct mqg_error e = {.code = 0};
            memcpy(bytes, x->bytes, x->len);
            bytes[1] = (uint8_t)(x->len - 2);
            bytes[at / 8] ^= (uint8_t)(1u << at % 8);
            enum mqg_err err = decode(bytes, x->len, x->version, &e);
            if (err != MQG_OK && err != MQG_MORE && err != MQG_MALFORMED)
                assert_true(e.code >= 0x80);
        }
    }
}

static void test_head(void **state)
{
    (void)state;
    struct mqtt_head h;
    static const struct {
        uint32_t value;
        size_t len;
        const char *bytes;
    } rows[] = {
        {0, 2, "\x30\0"},           {127, 2, "\x30\x7f"},         {128, 3, "\x30\x80\1"},
        {16383, 3, "\x30\xff\x7f"}, {16384, 4, "\x30\x80\x80\1"}, {268435455, 5, "\x30\xff\xff\xff\x7f"}};
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        uint8_t back[4];
        assert_int_equal(mqtt_head_peek(mqg_slice_of(rows[i].bytes, rows[i].len), &h), MQG_OK);
        assert_int_equal(h.body_bytes, rows[i].value);
        assert_int_equal(h.head_bytes, rows[i].len);
        assert_int_equal(mqtt_head_peek(mqg_slice_of(rows[i].bytes, rows[i].len - 1), &h), MQG_MORE);
        assert_int_equal(mqtt_put_varint(back, rows[i].value) - back, (int)rows[i].len - 1);
        assert_memory_equal(back, rows[i].bytes + 1, rows[i].len - 1);
        assert_int_equal(mqtt_varint_bytes(rows[i].value), rows[i].len - 1);
    }
    assert_int_equal(mqtt_head_peek(MQG_SLICE_LIT("\x30\xff\xff\xff\xff\1"), &h), MQG_MALFORMED); /* 2.2.3 */
    assert_int_equal(mqtt_head_peek(MQG_SLICE_LIT("\x30\x80\0"), &h), MQG_MALFORMED); /* [MQTT-1.5.5-1] */
}

static void test_out(void **state)
{
    (void)state;
    struct mqg_dynbuf out, props;
    uint8_t ack[MQTT_ACK_MAX_BYTES];
    mqg_dynbuf_init(&out, 1024);
    mqg_dynbuf_init(&props, 1024);
    mqtt_add_num(&props, MQTT_P_RECEIVE_MAXIMUM, 10);
    mqtt_packet_put(&out, MQTT_CONNACK, MQTT_5, MQG_SLICE_LIT("\0\0"), mqg_dynbuf_view(&props),
                    MQG_SLICE_NONE);
    assert_true(mqg_slice_eq(mqg_dynbuf_view(&out), MQG_SLICE_LIT("\x20\6\0\0\3\x21\0\x0a")));
    mqg_dynbuf_reset(&out);
    mqtt_packet_put(&out, MQTT_CONNACK, MQTT_311, MQG_SLICE_LIT("\1\0"), MQG_SLICE_NONE, MQG_SLICE_NONE);
    assert_true(mqg_slice_eq(mqg_dynbuf_view(&out), MQG_SLICE_LIT("\x20\2\1\0")));
    assert_int_equal(mqtt_ack_put(ack, MQTT_PUBREL, MQTT_311, 0x102, 0x92), 4);
    assert_memory_equal(ack, "\x62\2\1\2", 4);
    assert_int_equal(mqtt_ack_put(ack, MQTT_PUBACK, MQTT_5, 0x102, 0x10), 5);
    assert_memory_equal(ack, "\x40\3\1\2\x10", 5);
    mqg_dynbuf_reset(&props);
    mqtt_add_num(&props, MQTT_P_SUBSCRIPTION_ID, 268435455);
    mqtt_add_pair(&props, MQG_SLICE_LIT("k"), MQG_SLICE_LIT("v"));
    struct mqtt_props p;
    struct mqg_error e;
    assert_int_equal(mqtt_props_scan(mqg_dynbuf_view(&props), MQTT_IN(PUBLISH), &p, &e), MQG_OK);
    assert_int_equal(p.num[MQTT_P_SUBSCRIPTION_ID], 268435455);
    struct mqtt_prop_iter it = mqtt_prop_iter_of(mqg_dynbuf_view(&props));
    assert_true(mqtt_prop_next(&it) && mqtt_prop_next(&it));
    assert_true(mqg_slice_eq(it.value, MQG_SLICE_LIT("v")));
    assert_false(mqtt_prop_next(&it));
    mqg_dynbuf_fini(&out);
    mqg_dynbuf_fini(&props);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors), cmocka_unit_test(test_cut), cmocka_unit_test(test_flip),
        cmocka_unit_test(test_head),    cmocka_unit_test(test_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
