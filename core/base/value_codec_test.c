/* value_codec_test.c - the stored form: golden bytes, invalid rows, limits; whole, cut at each byte, bits
 * flipped. */
#include <mqgate/value.h>

#include "test_kit.h"

/* One field of each type, as value_codec.c draws them. */
static const uint8_t codec_golden[] = {
    1, 18,                                                      /* version, 18 fields */
    1, 'a', 0,                                                  /* null */
    1, 'b', 1,  1,                                              /* bool */
    1, 'c', 2,  0xff,                                           /* int8 -1 */
    1, 'd', 3,  0xfe, 0xff,                                     /* int16 -2 */
    1, 'e', 4,  3,    0,    0,    0,                            /* int32 3 */
    1, 'f', 5,  0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, /* int64 -4 */
    1, 'g', 6,  5,                                              /* uint8 */
    1, 'h', 7,  6,    0,                                        /* uint16 */
    1, 'i', 8,  7,    0,    0,    0,                            /* uint32 */
    1, 'j', 9,  8,    0,    0,    0,    0,    0,    0,    0x80, /* uint64 2^63 + 8 */
    1, 'k', 10, 0,    0,    0,    0x3f,                         /* float 0.5 */
    1, 'l', 11, 0,    0,    0,    0,    0,    0,    0xf8, 0xbf, /* double -1.5 */
    1, 'm', 12, 2,    0x96, 0,    0,    0,                      /* decimal 1.50 */
    1, 'n', 13, 0x40, 0x42, 0x0f, 0,    0,    0,    0,    0,    /* timestamp 1 s */
    1, 'o', 14, 2,    'h',  'i',                                /* string */
    0, 15,  3,  0,    0xff, 1,                                  /* bytes, under an empty name */
    1, 'q', 16, 2,    0,    1,    0,                            /* array of null, false */
    1, 'q', 17, 1,    1,    'x',  17,   0,                      /* table {x: {}}, repeated name */
};

static const struct mqg_slice codec_golden_slice = {codec_golden, sizeof codec_golden};

static enum mqg_err codec_decode(struct mqg_slice in, struct mqg_arena *a, struct mqg_table *t)
{
    t->n = 77; /* must be set by a failure too */
    enum mqg_err err = mqg_table_decode(in, a, t);
    if (err != MQG_OK)
        assert_int_equal(t->n, 0);
    return err;
}

static void test_golden_decodes(void **state)
{
    (void)state;
    struct mqg_arena a;
    mqg_arena_init(&a, 0);
    struct mqg_table t;
    assert_int_equal(codec_decode(codec_golden_slice, &a, &t), MQG_OK);
    assert_int_equal(t.n, 18);
    for (uint32_t i = 0; i < t.n; i++)
        assert_int_equal(t.fields[i].value.type, i);
    assert_true(t.fields[1].value.boolean);
    assert_int_equal(t.fields[2].value.i, -1);
    assert_int_equal(t.fields[3].value.i, -2);
    assert_int_equal(t.fields[4].value.i, 3);
    assert_int_equal(t.fields[5].value.i, -4);
    assert_true(t.fields[9].value.u == (UINT64_C(1) << 63) + 8);
    assert_true(t.fields[10].value.d == 0.5);
    assert_true(t.fields[11].value.d == -1.5);
    assert_int_equal(t.fields[12].value.dec.scale, 2);
    assert_int_equal(t.fields[12].value.dec.unscaled, 150);
    assert_int_equal(t.fields[13].value.i, 1000000);
    assert_true(mqg_slice_eq(t.fields[14].value.bytes, MQG_SLICE_LIT("hi")));
    assert_true(mqg_slice_eq(t.fields[15].value.bytes, MQG_SLICE_LIT("\0\xff\1")));
    assert_int_equal(t.fields[16].value.array.n, 2);
    assert_int_equal(t.fields[17].value.table.fields[0].value.type, MQG_VALUE_TABLE);
    mqg_arena_fini(&a);
}

static void test_golden_encodes(void **state)
{
    (void)state;
    struct mqg_arena a;
    mqg_arena_init(&a, 0);
    struct mqg_table t;
    assert_int_equal(codec_decode(codec_golden_slice, &a, &t), MQG_OK);
    struct mqg_dynbuf out;
    mqg_dynbuf_init(&out, sizeof codec_golden);
    mqg_table_encode(&out, &t);
    assert_false(out.failed);
    assert_true(mqg_slice_eq(mqg_dynbuf_view(&out), codec_golden_slice));
    mqg_dynbuf_fini(&out);
    mqg_dynbuf_init(&out, sizeof codec_golden - 1);
    mqg_table_encode(&out, &t);
    assert_true(out.failed);
    mqg_dynbuf_fini(&out);
    mqg_arena_fini(&a);
}

static void test_cut_at_each_byte(void **state)
{
    (void)state;
    struct mqg_arena a;
    mqg_arena_init(&a, 0);
    for (size_t cut = 0; cut < sizeof codec_golden; cut++) {
        struct mqg_table t;
        uint8_t *copy = test_exact_copy(mqg_slice_of(codec_golden, cut));
        assert_int_equal(codec_decode(mqg_slice_of(copy, cut), &a, &t), MQG_MALFORMED);
        mqg_arena_reset(&a);
        free(copy);
    }
    mqg_arena_fini(&a);
}

/* Whatever decodes must encode, to bytes that decode to the same meaning. */
static void codec_check_round_trip(const struct mqg_table *t)
{
    struct mqg_arena a;
    struct mqg_dynbuf out;
    struct mqg_table again;
    mqg_arena_init(&a, 0);
    mqg_dynbuf_init(&out, 1 << 20);
    mqg_table_encode(&out, t);
    assert_false(out.failed);
    assert_int_equal(codec_decode(mqg_dynbuf_view(&out), &a, &again), MQG_OK);
    assert_true(mqg_table_equal(t, &again));
    mqg_dynbuf_fini(&out);
    mqg_arena_fini(&a);
}

static void test_each_byte_changed(void **state)
{
    (void)state;
    struct mqg_arena a;
    mqg_arena_init(&a, 1 << 16);
    uint8_t *copy = test_exact_copy(codec_golden_slice);
    unsigned refused = 0;
    for (size_t i = 0; i < sizeof codec_golden; i++) {
        for (unsigned x = 1; x < 256; x++) {
            struct mqg_table t;
            copy[i] = (uint8_t)(codec_golden[i] ^ x);
            if (codec_decode(mqg_slice_of(copy, sizeof codec_golden), &a, &t) == MQG_OK)
                codec_check_round_trip(&t);
            else
                refused++;
            mqg_arena_reset(&a);
        }
        copy[i] = codec_golden[i];
    }
    assert_true(refused > 10000); /* counts, types, lengths: a change there is noticed */
    free(copy);
    mqg_arena_fini(&a);
}

static void test_rows(void **state)
{
    (void)state;
    static const struct {
        struct mqg_slice in;
        enum mqg_err err;
    } rows[] = {
        {MQG_SLICE_INIT("\1\0"), MQG_OK},
        {MQG_SLICE_INIT(""), MQG_MALFORMED},
        {MQG_SLICE_INIT("\1"), MQG_MALFORMED},
        {MQG_SLICE_INIT("\0\0"), MQG_MALFORMED},
        {MQG_SLICE_INIT("\2\0"), MQG_UNSUPPORTED},
        {MQG_SLICE_INIT("\1\0\0"), MQG_MALFORMED},         /* a byte left over */
        {MQG_SLICE_INIT("\1\1\0\0"), MQG_OK},              /* empty name, null */
        {MQG_SLICE_INIT("\1\2\0\0"), MQG_MALFORMED},       /* a field is missing */
        {MQG_SLICE_INIT("\1\1\0\x12"), MQG_MALFORMED},     /* unknown type */
        {MQG_SLICE_INIT("\1\1\0\xff"), MQG_MALFORMED},     /* unknown type */
        {MQG_SLICE_INIT("\1\1\0\1\1"), MQG_OK},            /* true */
        {MQG_SLICE_INIT("\1\1\0\1\2"), MQG_MALFORMED},     /* neither true nor false */
        {MQG_SLICE_INIT("\1\x80\0"), MQG_MALFORMED},       /* overlong count */
        {MQG_SLICE_INIT("\1\1\5ab\0"), MQG_MALFORMED},     /* name longer than the rest */
        {MQG_SLICE_INIT("\1\1\0\x0e\5ab"), MQG_MALFORMED}, /* string longer than the rest */
        {MQG_SLICE_INIT("\1\1\0\x0e\xff\xff\xff\xff\xff\xff\xff\xff\xff\1"), MQG_MALFORMED}, /* 2^64-1 long */
        {MQG_SLICE_INIT("\1\1\0\x10\xff\xff\xff\xff\xf"), MQG_MALFORMED}, /* 2^32-1 items */
        {MQG_SLICE_INIT("\1\xff\xff\xff\xff\xf"), MQG_MALFORMED},         /* and fields */
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        struct mqg_arena a;
        struct mqg_table t;
        mqg_arena_init(&a, 1000);
        uint8_t *copy = test_exact_copy(rows[i].in);
        enum mqg_err err = codec_decode(mqg_slice_of(copy, rows[i].in.len), &a, &t);
        if (err != rows[i].err)
            fail_msg("row %zu: %s", i, mqg_err_name(err));
        free(copy);
        mqg_arena_fini(&a);
    }
}

/* A table of arrays in arrays, `depth` of them below the table. */
static enum mqg_err codec_decode_depth(unsigned depth)
{
    struct mqg_arena a;
    struct mqg_dynbuf in;
    struct mqg_table t;
    mqg_arena_init(&a, 0);
    mqg_dynbuf_init(&in, 1 << 20);
    mqg_dynbuf_put(&in, "\1\1", 2);
    mqg_dynbuf_u8(&in, 0);
    for (unsigned i = 0; i < depth; i++)
        mqg_dynbuf_put(&in, "\x10\1", 2);
    mqg_dynbuf_u8(&in, 0);
    enum mqg_err err = codec_decode(mqg_dynbuf_view(&in), &a, &t);
    if (err == MQG_OK)
        codec_check_round_trip(&t);
    mqg_dynbuf_fini(&in);
    mqg_arena_fini(&a);
    return err;
}

static void test_depth(void **state)
{
    (void)state;
    assert_int_equal(codec_decode_depth(MQG_VALUE_DEPTH_MAX), MQG_OK);
    assert_int_equal(codec_decode_depth(MQG_VALUE_DEPTH_MAX + 1), MQG_TOO_LARGE);
    assert_int_equal(codec_decode_depth(400000), MQG_TOO_LARGE);
}

/* 4000 fields, one of which is an array of n nulls. */
static enum mqg_err codec_decode_fields(uint32_t n, size_t arena_bytes)
{
    struct mqg_arena a;
    struct mqg_dynbuf in;
    struct mqg_table t;
    mqg_arena_init(&a, arena_bytes);
    mqg_dynbuf_init(&in, 1 << 20);
    mqg_dynbuf_u8(&in, 1);
    mqg_dynbuf_varint(&in, 4000);
    for (unsigned i = 0; i < 3999; i++)
        mqg_dynbuf_put(&in, "\0\0", 2);
    mqg_dynbuf_put(&in, "\0\x10", 2);
    mqg_dynbuf_varint(&in, n);
    for (uint32_t i = 0; i < n; i++)
        mqg_dynbuf_u8(&in, 0);
    enum mqg_err err = codec_decode(mqg_dynbuf_view(&in), &a, &t);
    mqg_dynbuf_fini(&in);
    mqg_arena_fini(&a);
    return err;
}

static void test_fields_limit(void **state)
{
    (void)state;
    assert_int_equal(codec_decode_fields(MQG_VALUE_FIELDS_MAX - 4000, 0), MQG_OK);
    assert_int_equal(codec_decode_fields(MQG_VALUE_FIELDS_MAX - 4000 + 1, 0), MQG_TOO_LARGE);
    assert_int_equal(codec_decode_fields(1, 4000), MQG_NO_MEMORY);
}

static void test_encode_over_the_limits(void **state)
{
    (void)state;
    struct mqg_arena a;
    struct mqg_dynbuf out;
    mqg_arena_init(&a, 0);
    mqg_dynbuf_init(&out, 1 << 20);
    struct mqg_table t = {.fields = NULL};
    for (int i = 0; i < MQG_VALUE_FIELDS_MAX; i++)
        mqg_table_add(&a, &t, MQG_SLICE_NONE);
    mqg_table_encode(&out, &t);
    assert_false(out.failed);
    mqg_table_add(&a, &t, MQG_SLICE_NONE);
    mqg_table_encode(&out, &t);
    assert_true(out.failed);
    mqg_dynbuf_reset(&out);
    struct mqg_field loop = {.value = {.type = MQG_VALUE_TABLE}};
    loop.value.table = (struct mqg_table){.fields = &loop, .n = 1};
    mqg_table_encode(&out, &loop.value.table);
    assert_true(out.failed);
    mqg_dynbuf_fini(&out);
    mqg_arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_decodes),
        cmocka_unit_test(test_golden_encodes),
        cmocka_unit_test(test_cut_at_each_byte),
        cmocka_unit_test(test_each_byte_changed),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_fields_limit),
        cmocka_unit_test(test_encode_over_the_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
