/* methods_test.c - the list of methods: ids, names, flags, what is not in it, and bits that nobody defined. */
#include "methods.h"
#include "wire_kit.h"

static void test_list(void **state)
{
    (void)state;
    static const struct {
        enum amqp_method id;
        const char *name;
        unsigned flags;
    } rows[] = {
        {AMQP_BASIC_PUBLISH, "basic.publish", AMQP_FROM_CLIENT | AMQP_CONTENT},
        {AMQP_BASIC_GET_OK, "basic.get-ok", AMQP_FROM_SERVER | AMQP_CONTENT},
        {AMQP_BASIC_ACK, "basic.ack", AMQP_FROM_CLIENT | AMQP_FROM_SERVER},
        {AMQP_BASIC_CANCEL, "basic.cancel", AMQP_FROM_CLIENT | AMQP_FROM_SERVER | AMQP_SYNC},
        {AMQP_QUEUE_DECLARE, "queue.declare", AMQP_FROM_CLIENT | AMQP_SYNC | AMQP_HAS_TABLE},
        {AMQP_CONNECTION_START, "connection.start", AMQP_FROM_SERVER | AMQP_SYNC | AMQP_HAS_TABLE},
        {AMQP_CONNECTION_BLOCKED, "connection.blocked", AMQP_FROM_SERVER},
        {AMQP_EXCHANGE_UNBIND_OK, "exchange.unbind-ok", AMQP_FROM_SERVER},
        {AMQP_CONFIRM_SELECT, "confirm.select", AMQP_FROM_CLIENT | AMQP_SYNC},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        const struct amqp_method_info *info = amqp_method_find(rows[i].id);
        assert_non_null(info);
        assert_int_equal(info->id, rows[i].id);
        assert_string_equal(info->name, rows[i].name);
        assert_int_equal(info->flags, rows[i].flags);
    }
}

static void test_ids(void **state)
{
    (void)state;
    assert_int_equal(AMQP_EXCHANGE_BIND, 40 << 16 | 30);
    assert_int_equal(AMQP_EXCHANGE_UNBIND_OK, 40 << 16 | 51);
    assert_int_equal(AMQP_BASIC_NACK, 60 << 16 | 120);
    assert_int_equal(AMQP_CONFIRM_SELECT_OK, 85 << 16 | 11);
    assert_int_equal(AMQP_CONNECTION_UNBLOCKED, 10 << 16 | 61);
    assert_int_equal(AMQP_CONNECTION_UPDATE_SECRET_OK, 10 << 16 | 71);
    assert_int_equal(AMQP_METHOD_COUNT, 66);
    assert_int_equal(amqp_method_class(AMQP_TX_COMMIT), AMQP_CLASS_TX);
}

static void test_ordinals(void **state)
{
    (void)state;
    static const struct {
        uint32_t id;
        uint32_t class_id;
        uint32_t method_id;
        unsigned flags;
    } rows[AMQP_METHOD_COUNT] = {
#define METHODS_ROW(ENUM, name, class_id, method_id, flags) {ENUM, class_id, method_id, flags},
        AMQP_METHODS(METHODS_ROW)
#undef METHODS_ROW
    };
    for (size_t i = 0; i < AMQP_METHOD_COUNT; i++) {
        const struct amqp_method_info *info = amqp_method_find(rows[i].id);
        assert_int_equal(info->ordinal, i);
        assert_int_equal(info->flags, rows[i].flags);
        assert_int_equal(rows[i].id, rows[i].class_id << 16 | rows[i].method_id);
        assert_string_not_equal(amqp_class_name((uint16_t)rows[i].class_id), "unknown");
    }
}

static void test_unknown(void **state)
{
    (void)state;
    static const uint32_t ids[] = {0, 60 << 16, 60 << 16 | 200, 11 << 16 | 10, 10, UINT32_MAX};
    union amqp_any any;
    for (size_t i = 0; i < MQG_COUNTOF(ids); i++) {
        assert_null(amqp_method_find(ids[i]));
        assert_string_equal(amqp_method_name(ids[i]), "unknown");
        assert_int_equal(amqp_any_decode(ids[i], MQG_SLICE_NONE, &any), MQG_UNSUPPORTED);
    }
    assert_string_equal(amqp_class_name(85), "confirm");
    assert_string_equal(amqp_class_name(86), "unknown");
}

/* Bits beyond those that a method has are ignored, as RabbitMQ does; the defined ones come out of their places. */
static void test_bits(void **state)
{
    (void)state;
    struct amqp_queue_declare m;
    assert_int_equal(amqp_queue_declare_decode(MQG_SLICE_LIT("\0\0\1q\xe4\0\0\0\0"), &m), MQG_OK);
    assert_false(m.passive);
    assert_false(m.durable);
    assert_true(m.exclusive);
    assert_false(m.auto_delete);
    assert_false(m.nowait);
    uint8_t out[16];
    assert_int_equal(amqp_queue_declare_size(&m), 13);
    amqp_queue_declare_write(out, &m);
    assert_int_equal(out[8], 0x04);
}

/* Lengths that reach beyond the arguments. */
static void test_lengths(void **state)
{
    (void)state;
    struct amqp_queue_declare declare;
    struct amqp_connection_start_ok start_ok;
    struct amqp_basic_publish publish;
    const struct mqg_slice rows[] = {
        kit_exact_copy(MQG_SLICE_LIT("\0\0\5q\0\0\0\0\0")),
        kit_exact_copy(MQG_SLICE_LIT("\0\0\1q\0\0\0\0\1")),
        kit_exact_copy(MQG_SLICE_LIT("\0\0\1q\0\xff\xff\xff\xff")),
        kit_exact_copy(MQG_SLICE_LIT("\xff\xff\xff\xff")),
        kit_exact_copy(MQG_SLICE_LIT("")),
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        assert_int_equal(amqp_queue_declare_decode(rows[i], &declare), MQG_MALFORMED);
        assert_int_equal(amqp_connection_start_ok_decode(rows[i], &start_ok), MQG_MALFORMED);
        assert_int_equal(amqp_basic_publish_decode(rows[i], &publish), MQG_MALFORMED);
        kit_free(rows[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list),    cmocka_unit_test(test_ids),  cmocka_unit_test(test_ordinals),
        cmocka_unit_test(test_unknown), cmocka_unit_test(test_bits), cmocka_unit_test(test_lengths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
