/* props_test.c - properties and content headers: limits, refusals, presence. Whole, cut and flipped vectors of every
 * property are in wire_golden_test.c. */
#include "props.h"
#include "table.h"
#include "wire_kit.h"

static void test_none(void **state)
{
    (void)state;
    struct amqp_props props;
    memset(&props, 0xaa, sizeof props);
    assert_int_equal(amqp_props_scan(MQG_SLICE_LIT(AMQP_PROPS_EMPTY), &props), MQG_OK);
    const struct amqp_props zero = {0};
    assert_int_equal(props.flags, 0);
    assert_int_equal(props.timestamp_s, 0);
    assert_int_equal(props.delivery_mode, 0);
    assert_int_equal(props.headers.len, 0);
    assert_null(props.cluster_id.ptr);
    assert_int_equal(amqp_props_size(&zero), 2);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        struct mqg_slice raw;
        enum mqg_err err;
    } rows[] = {
        {"nothing", {NULL, 0}, MQG_MALFORMED},
        {"half a flag word", {(const uint8_t *)"\x80", 1}, MQG_MALFORMED},
        {"continuation", {(const uint8_t *)"\0\1\0\0", 4}, MQG_UNSUPPORTED},
        {"continuation alone", {(const uint8_t *)"\0\1", 2}, MQG_UNSUPPORTED},
        {"a bit without property", {(const uint8_t *)"\0\2", 2}, MQG_UNSUPPORTED},
        {"a flag without its property", {(const uint8_t *)"\x80\0", 2}, MQG_MALFORMED},
        {"a byte too many", {(const uint8_t *)"\0\0\0", 3}, MQG_MALFORMED},
        {"a string that is cut", {(const uint8_t *)"\x80\0\3ab", 5}, MQG_MALFORMED},
        {"a timestamp that is cut", {(const uint8_t *)"\0\x40\0\0\0\0\0\0\0", 9}, MQG_MALFORMED},
        {"headers that are cut", {(const uint8_t *)"\x20\0\0\0\0\5", 6}, MQG_MALFORMED},
        {"headers of 4 GiB", {(const uint8_t *)"\x20\0\xff\xff\xff\xff", 6}, MQG_MALFORMED},
        {"headers of a wrong type", {(const uint8_t *)"\x20\0\0\0\0\3\1k?", 9}, MQG_MALFORMED},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        struct amqp_props props;
        const struct mqg_slice raw = kit_exact_copy(rows[i].raw);
        const enum mqg_err err = amqp_props_scan(raw, &props);
        if (err != rows[i].err)
            fail_msg("%s: %s", rows[i].what, mqg_err_name(err));
        kit_free(raw);
    }
}

/* Empty is not absent: both come back as they were. */
static void test_empty_is_there(void **state)
{
    (void)state;
    struct amqp_props props;
    const struct mqg_slice raw = MQG_SLICE_LIT("\xa0\0\0\0\0\0\0");
    assert_int_equal(amqp_props_scan(raw, &props), MQG_OK);
    assert_true(amqp_props_has(&props, AMQP_PROP_CONTENT_TYPE));
    assert_true(amqp_props_has(&props, AMQP_PROP_HEADERS));
    assert_false(amqp_props_has(&props, AMQP_PROP_CONTENT_ENCODING));
    uint8_t out[8];
    assert_int_equal(amqp_props_size(&props), raw.len);
    kit_assert_slice(mqg_slice_of(out, (size_t)(amqp_props_write(out, &props) - out)), raw);
}

/* Each flag alone is in the place that its order says. */
static void test_each_flag(void **state)
{
    (void)state;
    for (unsigned flag = AMQP_PROP_CONTENT_TYPE; flag >= AMQP_PROP_CLUSTER_ID; flag >>= 1) {
        struct amqp_props props = {
            .flags = (uint16_t)flag, .delivery_mode = 2, .priority = 9, .timestamp_s = 77};
        struct amqp_props back;
        uint8_t out[16];
        const size_t size = amqp_props_size(&props);
        assert_in_range(size, 3, 10);
        assert_ptr_equal(amqp_props_write(out, &props), out + size);
        assert_int_equal(amqp_props_scan(mqg_slice_of(out, size), &back), MQG_OK);
        assert_int_equal(back.flags, flag);
        assert_int_equal(back.delivery_mode, flag == AMQP_PROP_DELIVERY_MODE ? 2 : 0);
        assert_int_equal(back.priority, flag == AMQP_PROP_PRIORITY ? 9 : 0);
        assert_int_equal(back.timestamp_s, flag == AMQP_PROP_TIMESTAMP ? 77 : 0);
    }
}

static void test_deep_headers(void **state)
{
    (void)state;
    /* name "" and an array, 1,000 times; only the outermost lengths matter, the depth must end it. */
    enum { LEVELS = 1000, STEP = 6 };
    uint8_t *raw = calloc(1, 6 + LEVELS * STEP);
    assert_non_null(raw);
    uint8_t *p = amqp_put_be16(raw, AMQP_PROP_HEADERS);
    p = amqp_put_be32(p, LEVELS * STEP);
    for (uint32_t i = 0; i < LEVELS; i++) {
        p = amqp_put_u8(amqp_put_u8(p, 0), 'F');
        p = amqp_put_be32(p, (LEVELS - 1 - i) * STEP);
    }
    struct amqp_props props;
    assert_int_equal(amqp_props_scan(mqg_slice_of(raw, (size_t)(p - raw)), &props), MQG_TOO_LARGE);
    free(raw);
}

static void test_content(void **state)
{
    (void)state;
    static const struct {
        struct mqg_slice payload;
        enum mqg_err err;
    } rows[] = {
        {{(const uint8_t *)"\0\x3c\0\0\0\0\0\0\0\0\0\5\0\0", 14}, MQG_OK},
        {{(const uint8_t *)"\0\x3c\0\0\0\0\0\0\0\0\0\5\0", 13}, MQG_MALFORMED},
        {{(const uint8_t *)"\0\x3c\0\0\0\0\0\0\0\0\0\5", 12}, MQG_MALFORMED},
        {{(const uint8_t *)"\0\x3c\0\1\0\0\0\0\0\0\0\5\0\0", 14}, MQG_MALFORMED},
        {{(const uint8_t *)"\0\x3c\0", 3}, MQG_MALFORMED},
        {{NULL, 0}, MQG_MALFORMED},
    };
    struct amqp_content content;
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        const struct mqg_slice payload = kit_exact_copy(rows[i].payload);
        assert_int_equal(amqp_content_peek(payload, &content), rows[i].err);
        kit_free(payload);
    }
    assert_int_equal(amqp_content_peek(rows[0].payload, &content), MQG_OK);
    assert_int_equal(content.class_id, 60);
    assert_int_equal(content.body_bytes, 5);
    assert_int_equal(content.raw.len, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_none),           cmocka_unit_test(test_refused),
        cmocka_unit_test(test_empty_is_there), cmocka_unit_test(test_each_flag),
        cmocka_unit_test(test_deep_headers),   cmocka_unit_test(test_content),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
