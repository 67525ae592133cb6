/* wire_test.c - frame heads and ends at their limits, the protocol header, reply codes and texts. */
#include "wire.h"
#include "wire_kit.h"

/* ---- frames ---------------------------------------------------------------------------------------------------- */

struct frame_row {
    const char *what;
    struct mqg_slice in;
    uint32_t frame_max;
    enum mqg_err err;
    enum amqp_frame_fault fault;
    size_t total_bytes;
};

static const struct frame_row frame_rows[] = {
    {"nothing", {NULL, 0}, 4096, MQG_MORE, AMQP_FRAME_FINE, 0},
    {"a type", {(const uint8_t *)"\x01", 1}, 4096, MQG_MORE, AMQP_FRAME_FINE, 0},
    {"type 0", {(const uint8_t *)"\x00", 1}, 4096, MQG_MALFORMED, AMQP_FRAME_BAD_TYPE, 0},
    {"type 4", {(const uint8_t *)"\x04", 1}, 4096, MQG_MALFORMED, AMQP_FRAME_BAD_TYPE, 0},
    {"type 7", {(const uint8_t *)"\x07", 1}, 4096, MQG_MALFORMED, AMQP_FRAME_BAD_TYPE, 0},
    {"type 9", {(const uint8_t *)"\x09", 1}, 4096, MQG_MALFORMED, AMQP_FRAME_BAD_TYPE, 0},
    {"a protocol header in the middle",
     {(const uint8_t *)"AMQP", 4},
     4096,
     MQG_MALFORMED,
     AMQP_FRAME_BAD_TYPE,
     0},
    {"6 of 7", {(const uint8_t *)"\x01\0\1\0\0\0", 6}, 4096, MQG_MORE, AMQP_FRAME_FINE, 0},
    {"a head", {(const uint8_t *)"\x03\0\1\0\0\0\5", 7}, 4096, MQG_MORE, AMQP_FRAME_FINE, 13},
    {"all but the end", {(const uint8_t *)"\x03\0\1\0\0\0\1x", 8}, 4096, MQG_MORE, AMQP_FRAME_FINE, 9},
    {"a body", {(const uint8_t *)"\x03\0\1\0\0\0\1x\xce", 9}, 4096, MQG_OK, AMQP_FRAME_FINE, 9},
    {"a body and more", {(const uint8_t *)"\x03\0\1\0\0\0\1x\xce\x01", 10}, 4096, MQG_OK, AMQP_FRAME_FINE, 9},
    {"a wrong end",
     {(const uint8_t *)"\x03\0\1\0\0\0\1x\xcd", 9},
     4096,
     MQG_MALFORMED,
     AMQP_FRAME_BAD_END,
     9},
    {"an empty body", {(const uint8_t *)"\x03\0\1\0\0\0\0\xce", 8}, 4096, MQG_OK, AMQP_FRAME_FINE, 8},
    {"the largest", {(const uint8_t *)"\x03\0\1\0\0\x10\0", 7}, 4096, MQG_MORE, AMQP_FRAME_FINE, 4104},
    {"too large", {(const uint8_t *)"\x03\0\1\0\0\x10\1", 7}, 4096, MQG_TOO_LARGE, AMQP_FRAME_OVERSIZE, 4105},
    {"4 GiB",
     {(const uint8_t *)"\x01\0\1\xff\xff\xff\xff", 7},
     131072,
     MQG_TOO_LARGE,
     AMQP_FRAME_OVERSIZE,
     4294967303u},
    {"no limit", {(const uint8_t *)"\x01\0\1\xff\xff\xff\xff", 7}, 0, MQG_MORE, AMQP_FRAME_FINE, 4294967303u},
    {"heartbeat", {(const uint8_t *)AMQP_HEARTBEAT_FRAME, 8}, 4096, MQG_OK, AMQP_FRAME_FINE, 8},
    {"heartbeat with payload",
     {(const uint8_t *)"\x08\0\0\0\0\0\1", 7},
     4096,
     MQG_MALFORMED,
     AMQP_FRAME_BAD_HEARTBEAT,
     9},
    {"heartbeat on a channel",
     {(const uint8_t *)"\x08\0\1\0\0\0\0", 7},
     4096,
     MQG_MALFORMED,
     AMQP_FRAME_BAD_HEARTBEAT,
     8},
};

static void test_frames(void **state)
{
    (void)state;
    for (size_t i = 0; i < MQG_COUNTOF(frame_rows); i++) {
        const struct frame_row *row = &frame_rows[i];
        const struct mqg_slice in = kit_exact_copy(row->in);
        struct amqp_frame frame;
        const enum mqg_err err = amqp_frame_peek(in, row->frame_max, &frame);
        if (err != row->err || frame.fault != row->fault || frame.total_bytes != row->total_bytes)
            fail_msg("%s: %s, fault %u, %zu bytes", row->what, mqg_err_name(err), frame.fault,
                     frame.total_bytes);
        assert_true(err == MQG_OK || frame.payload.ptr == NULL);
        assert_non_null(amqp_frame_fault_text((enum amqp_frame_fault)frame.fault));
        kit_free(in);
    }
}

static void test_frame_head_and_end(void **state)
{
    (void)state;
    uint8_t bytes[AMQP_FRAME_OVERHEAD_BYTES + 2];
    uint8_t *p = amqp_put_frame_head(bytes, AMQP_FRAME_BODY, 0x1234, 2);
    p = amqp_put_frame_end(amqp_put_bytes(p, MQG_SLICE_LIT("hi")));
    assert_ptr_equal(p, bytes + sizeof bytes);
    struct amqp_frame frame;
    assert_int_equal(amqp_frame_peek(mqg_slice_of(bytes, sizeof bytes), 4096, &frame), MQG_OK);
    assert_int_equal(frame.channel, 0x1234);
    kit_assert_slice(frame.payload, MQG_SLICE_LIT("hi"));
    assert_ptr_equal(frame.payload.ptr, bytes + AMQP_FRAME_HEAD_BYTES);
}

static void test_method_split(void **state)
{
    (void)state;
    uint32_t id = 0;
    struct mqg_slice args = MQG_SLICE_NONE;
    assert_int_equal(amqp_method_split(MQG_SLICE_LIT("\0\x3c\0"), &id, &args), MQG_MALFORMED);
    assert_int_equal(amqp_method_split(MQG_SLICE_NONE, &id, &args), MQG_MALFORMED);
    assert_int_equal(amqp_method_split(MQG_SLICE_LIT("\0\x3c\0\x50"), &id, &args), MQG_OK);
    assert_int_equal(id, 60 << 16 | 80);
    assert_int_equal(args.len, 0);
    assert_int_equal(amqp_method_split(MQG_SLICE_LIT("\0\x3c\0\x50"
                                                     "abc"),
                                       &id, &args),
                     MQG_OK);
    kit_assert_slice(args, MQG_SLICE_LIT("abc"));
}

/* ---- protocol header ----------------------------------------------------------------------------------------------- */

static void test_protocol_header(void **state)
{
    (void)state;
    static const struct {
        struct mqg_slice in;
        enum mqg_err err;
    } rows[] = {
        {{NULL, 0}, MQG_MORE},
        {{(const uint8_t *)"A", 1}, MQG_MORE},
        {{(const uint8_t *)"AMQP", 4}, MQG_MORE},
        {{(const uint8_t *)"AMQP\0\0\x09", 7}, MQG_MORE},
        {{(const uint8_t *)AMQP_PROTOCOL_HEADER, 8}, MQG_OK},
        {{(const uint8_t *)AMQP_PROTOCOL_HEADER "\x01", 9}, MQG_OK},
        {{(const uint8_t *)"AMQP\x01\x01\x00\x09", 8}, MQG_UNSUPPORTED},
        {{(const uint8_t *)"AMQP\x00\x01\x00\x00", 8}, MQG_UNSUPPORTED},
        {{(const uint8_t *)"AMQP\x03\x01\x00\x00", 8}, MQG_UNSUPPORTED},
        {{(const uint8_t *)"G", 1}, MQG_MALFORMED},
        {{(const uint8_t *)"AMQX", 4}, MQG_MALFORMED},
        {{(const uint8_t *)"GET / HTTP/1.1", 14}, MQG_MALFORMED},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        const struct mqg_slice in = kit_exact_copy(rows[i].in);
        assert_int_equal(amqp_protocol_header_check(in), rows[i].err);
        kit_free(in);
    }
}

/* ---- replies --------------------------------------------------------------------------------------------------------- */

/* As RabbitMQ's lookup of exceptions has them. */
static void test_reply_codes(void **state)
{
    (void)state;
    static const struct {
        int code;
        const char *name;
        bool hard;
    } rows[] = {
        {311, "CONTENT_TOO_LARGE", false},   {312, "NO_ROUTE", false},
        {313, "NO_CONSUMERS", false},        {403, "ACCESS_REFUSED", false},
        {404, "NOT_FOUND", false},           {405, "RESOURCE_LOCKED", false},
        {406, "PRECONDITION_FAILED", false}, {320, "CONNECTION_FORCED", true},
        {402, "INVALID_PATH", true},         {501, "FRAME_ERROR", true},
        {502, "SYNTAX_ERROR", true},         {503, "COMMAND_INVALID", true},
        {504, "CHANNEL_ERROR", true},        {505, "UNEXPECTED_FRAME", true},
        {506, "RESOURCE_ERROR", true},       {530, "NOT_ALLOWED", true},
        {540, "NOT_IMPLEMENTED", true},      {541, "INTERNAL_ERROR", true},
        {1, "INTERNAL_ERROR", true},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        assert_string_equal(amqp_reply_name(rows[i].code), rows[i].name);
        assert_int_equal(amqp_reply_is_hard(rows[i].code), rows[i].hard);
    }
    assert_int_equal(AMQP_REPLY_SUCCESS, 200);
}

static void test_reply_text(void **state)
{
    (void)state;
    char text[AMQP_SHORTSTR_MAX_BYTES + 1];
    char name[300];
    memset(name, 'q', sizeof name);
    kit_assert_slice(amqp_reply_text(text, 404, "no queue '%s' in vhost '/'", "x"),
                     MQG_SLICE_LIT("NOT_FOUND - no queue 'x' in vhost '/'"));
    /* "NOT_FOUND - " is 12 bytes: 243 fit, the 244th makes it "...". */
    struct mqg_slice s = amqp_reply_text(text, 404, "%.*s", 243, name);
    assert_int_equal(s.len, 255);
    assert_int_equal(s.ptr[254], 'q');
    s = amqp_reply_text(text, 404, "%.*s", 244, name);
    assert_int_equal(s.len, 255);
    assert_memory_equal(s.ptr + 251, "q...", 4);
    s = amqp_reply_text(text, 404, "%.*s", 300, name);
    assert_int_equal(s.len, 255);
    assert_memory_equal(s.ptr + 252, "...", 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames),       cmocka_unit_test(test_frame_head_and_end),
        cmocka_unit_test(test_method_split), cmocka_unit_test(test_protocol_header),
        cmocka_unit_test(test_reply_codes),  cmocka_unit_test(test_reply_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
