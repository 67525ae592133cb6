/* origin_test.c - typed values as text, and every type there and back: a message of another protocol is rendered as STOMP
 * headers, these make the origin of a new message, and its view must have the same values of the same types. */
#include "stomp.h"
#include "text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct stomp_settings stomp_settings;

static struct mqg_table given; /* what the fake protocol's messages carry */

static enum mqg_err fake_decode(struct mqg_slice origin, struct mqg_arena *a, struct mqg_view *out)
{
    (void)origin;
    *out = (struct mqg_view){.has = MQG_PROP_CONTENT_TYPE | MQG_PROP_REPLY_TO | MQG_PROP_TIMESTAMP |
                                    MQG_PROP_DELIVERY_MODE,
                             .content_type = MQG_SLICE_LIT("a/b"),
                             .reply_to = MQG_SLICE_LIT("answers"),
                             .timestamp_us = 1700000000000000,
                             .delivery_mode = 2};
    out->headers = mqg_table_copy(a, &given);
    return MQG_OK;
}

static const struct mqg_origin_ops fake_ops = {.proto = MQG_PROTO_INTERNAL, .decode = fake_decode};

static int setup(void **state)
{
    (void)state;
    mqg_worker_manual();
    mqg_origin_register(&fake_ops);
    mqg_origin_register(&stomp_origin_ops);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mqg_workers_fini();
    return 0;
}

static struct mqg_value items[] = {
    {.type = MQG_VALUE_INT32, .i = -1},
    {.type = MQG_VALUE_STRING, .bytes = MQG_SLICE_INIT("\"quoted\"")},
    {.type = MQG_VALUE_NULL},
};
static struct mqg_field inner[] = {{MQG_SLICE_INIT("k"), {.type = MQG_VALUE_DOUBLE, .d = 0.5}}};

static const struct value_row {
    struct mqg_value value;
    const char *text;
} value_rows[] = {
    {{.type = MQG_VALUE_NULL}, ""},
    {{.type = MQG_VALUE_BOOL, .boolean = true}, "true"},
    {{.type = MQG_VALUE_INT8, .i = -128}, "-128"},
    {{.type = MQG_VALUE_INT16, .i = 300}, "300"},
    {{.type = MQG_VALUE_INT32, .i = -70000}, "-70000"},
    {{.type = MQG_VALUE_INT64, .i = INT64_MIN}, "-9223372036854775808"},
    {{.type = MQG_VALUE_UINT8, .u = 255}, "255"},
    {{.type = MQG_VALUE_UINT16, .u = 65535}, "65535"},
    {{.type = MQG_VALUE_UINT32, .u = UINT32_MAX}, "4294967295"},
    {{.type = MQG_VALUE_UINT64, .u = UINT64_MAX}, "18446744073709551615"},
    {{.type = MQG_VALUE_FLOAT, .d = 0.25}, "0.25"},
    {{.type = MQG_VALUE_DOUBLE, .d = 0.1}, "0.1"},
    {{.type = MQG_VALUE_DOUBLE, .d = 1e300}, "1e+300"},
    {{.type = MQG_VALUE_DECIMAL, .dec = {2, 1234}}, "12.34"},
    {{.type = MQG_VALUE_DECIMAL, .dec = {3, -5}}, "-0.005"},
    {{.type = MQG_VALUE_TIMESTAMP, .i = 1709208001000000}, "2024-02-29T12:00:01Z"},
    {{.type = MQG_VALUE_TIMESTAMP, .i = 1709208001000250}, "2024-02-29T12:00:01.000250Z"},
    {{.type = MQG_VALUE_STRING, .bytes = MQG_SLICE_INIT("text: \\ and\nmore")}, "text: \\ and\nmore"},
    {{.type = MQG_VALUE_STRING, .bytes = {(const uint8_t *)"a\0b", 3}}, "YQBi"},
    {{.type = MQG_VALUE_BYTES, .bytes = {(const uint8_t *)"\0\xff\1", 3}}, "AP8B"},
    {{.type = MQG_VALUE_ARRAY, .array = {items, 3, 3}}, "[-1,\"\\\"quoted\\\"\",null]"},
    {{.type = MQG_VALUE_TABLE, .table = {inner, 1, 1}}, "{\"k\":0.5}"},
};

static void each_type_has_its_text(void **state)
{
    (void)state;
    for (size_t i = 0; i < MQG_COUNTOF(value_rows); i++) {
        struct mqg_dynbuf out;
        mqg_dynbuf_init(&out, 4096);
        stomp_text_of(&out, &value_rows[i].value);
        if (!mqg_slice_eq(mqg_dynbuf_view(&out), mqg_slice_str(value_rows[i].text)))
            fail_msg("row %zu: '%.*s' is not '%s'", i, (int)out.len, (const char *)out.ptr,
                     value_rows[i].text);
        mqg_dynbuf_fini(&out);
    }
}

static struct mqg_msg *message(enum mqg_proto proto, struct mqg_slice origin)
{
    struct mqg_msg_parts parts = {.proto = proto, .key_sep = '.', .origin = origin};
    struct mqg_msg *m = mqg_msg_new(&parts);
    assert_non_null(m);
    return m;
}

/* The lines that a client of this version gets, made into the origin of what it sends on. */
static struct mqg_msg *sent_on(struct mqg_msg *m, enum stomp_version v)
{
    struct mqg_dynbuf lines, origin;
    mqg_dynbuf_init(&lines, 1u << 20);
    mqg_dynbuf_init(&origin, 1u << 20);
    stomp_origin_begin(&origin, v, true);
    mqg_dynbuf_slice(&origin, stomp_render(m, v, 0, &lines));
    struct mqg_msg *out = message(MQG_PROTO_STOMP, mqg_dynbuf_view(&origin));
    mqg_dynbuf_fini(&lines);
    mqg_dynbuf_fini(&origin);
    return out;
}

static void each_type_comes_back(void **state)
{
    (void)state;
    struct mqg_field fields[MQG_COUNTOF(value_rows)];
    char names[MQG_COUNTOF(value_rows)][8];
    for (size_t i = 0; i < MQG_COUNTOF(value_rows); i++) {
        snprintf(names[i], sizeof names[i], "h%zu:", i);
        fields[i] = (struct mqg_field){mqg_slice_str(names[i]), value_rows[i].value};
    }
    given = (struct mqg_table){fields, MQG_COUNTOF(fields), MQG_COUNTOF(fields)};
    for (int v = STOMP_11; v < STOMP_VERSIONS; v++) {
        struct mqg_arena a;
        struct mqg_view view;
        mqg_arena_init(&a, 0);
        struct mqg_msg *m = message(MQG_PROTO_INTERNAL, MQG_SLICE_NONE);
        struct mqg_msg *back = sent_on(m, (enum stomp_version)v);
        assert_int_equal(mqg_msg_view(back, &a, &view), MQG_OK);
        assert_int_equal(view.headers.n, given.n);
        for (uint32_t i = 0; i < given.n; i++) {
            assert_true(mqg_slice_eq(view.headers.fields[i].name, fields[i].name));
            assert_int_equal(view.headers.fields[i].value.type, fields[i].value.type);
            assert_true(mqg_value_equal(&view.headers.fields[i].value, &fields[i].value));
        }
        assert_true(mqg_slice_eq(view.content_type, MQG_SLICE_LIT("a/b")));
        assert_true(mqg_slice_eq(view.reply_to, MQG_SLICE_LIT("answers")));
        assert_int_equal(view.timestamp_us, 1700000000000000);
        assert_int_equal(view.delivery_mode, 2);
        mqg_msg_unref(&m);
        mqg_msg_unref(&back);
        mqg_arena_fini(&a);
    }
}

static void own_lines_are_sent_as_they_are(void **state)
{
    (void)state;
    static const char origin[] = "\x12"
                                 "a:1\nb:2\n";
    struct mqg_msg *m = message(MQG_PROTO_STOMP, mqg_slice_of(origin, sizeof origin - 1));
    struct mqg_dynbuf out;
    mqg_dynbuf_init(&out, 4096);
    for (int v = 0; v < STOMP_VERSIONS; v++) {
        struct mqg_slice lines = stomp_render(m, (enum stomp_version)v, 0, &out);
        assert_true(mqg_slice_eq(lines, MQG_SLICE_LIT("a:1\nb:2\n")));
        assert_ptr_equal(lines.ptr, mqg_msg_origin(m).ptr + 1);
    }
    struct mqg_slice counted = stomp_render(m, STOMP_12, 3, &out);
    assert_true(mqg_slice_starts(counted, MQG_SLICE_LIT("a:1\nb:2\nx-delivery-count:3\nmqgate-origin:1 ")));
    mqg_dynbuf_fini(&out);
    mqg_msg_unref(&m);
}

static void versions_write_the_same_value_their_way(void **state)
{
    (void)state;
    static const char origin[] = "\x02"
                                 "a:x\\cy\\rz\n";
    struct mqg_msg *m = message(MQG_PROTO_STOMP, mqg_slice_of(origin, sizeof origin - 1));
    static const char *const want[] = {"a:x:y\rz\n", "a:x\\cy\rz\n", "a:x\\cy\\rz\n"};
    for (int v = 0; v < STOMP_VERSIONS; v++) {
        struct mqg_dynbuf out;
        mqg_dynbuf_init(&out, 4096);
        assert_true(mqg_slice_eq(stomp_render(m, (enum stomp_version)v, 0, &out), mqg_slice_str(want[v])));
        mqg_dynbuf_fini(&out);
    }
    mqg_msg_unref(&m);
}

static void broken_origins_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
        enum mqg_err err;
    } rows[] = {{"", 0, MQG_OK},
                {"\x12", 1, MQG_OK},
                {"\x12"
                 "a:1",
                 4, MQG_MALFORMED},
                {"\x12"
                 "a\n",
                 3, MQG_MALFORMED},
                {"\x02"
                 "a:\\x\n",
                 6, MQG_MALFORMED},
                {"\x0f"
                 "a:1\n",
                 5, MQG_UNSUPPORTED}};
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        struct mqg_arena a;
        struct mqg_view view;
        mqg_arena_init(&a, 0);
        assert_int_equal(stomp_origin_ops.decode(mqg_slice_of(rows[i].bytes, rows[i].len), &a, &view),
                         rows[i].err);
        mqg_arena_fini(&a);
    }
}

static void base64_goes_there_and_back(void **state)
{
    (void)state;
    uint8_t bytes[64];
    for (size_t n = 0; n < sizeof bytes; n++) {
        struct mqg_arena a;
        struct mqg_dynbuf out;
        struct mqg_slice back;
        mqg_arena_init(&a, 0);
        mqg_dynbuf_init(&out, 4096);
        mqg_random_bytes(bytes, n);
        stomp_base64_encode(&out, mqg_slice_of(bytes, n));
        assert_true(stomp_base64_decode(mqg_dynbuf_view(&out), &a, &back));
        assert_true(mqg_slice_eq(back, mqg_slice_of(bytes, n)));
        if (n > 0) {
            out.ptr[0] = '!';
            assert_false(stomp_base64_decode(mqg_dynbuf_view(&out), &a, &back));
        }
        mqg_dynbuf_fini(&out);
        mqg_arena_fini(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_type_has_its_text),
        cmocka_unit_test(each_type_comes_back),
        cmocka_unit_test(own_lines_are_sent_as_they_are),
        cmocka_unit_test(versions_write_the_same_value_their_way),
        cmocka_unit_test(broken_origins_are_refused),
        cmocka_unit_test(base64_goes_there_and_back),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
