/* legacy_test.c - message sets of both magics, plain and compressed, become the batch they should. */
#include "legacy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <lz4frame.h>
#include <snappy-c.h>
#include <stdlib.h>
#include <xxhash.h>
#include <zlib.h>

enum { NOW_MS = 5000, ROOM = 1 << 16 };

static void put_bytes(struct mqg_dynbuf *b, struct mqg_slice s)
{
    mqg_dynbuf_be32(b, s.ptr ? (uint32_t)s.len : UINT32_MAX);
    mqg_dynbuf_slice(b, s);
}

static void put_message(struct mqg_dynbuf *b, uint8_t magic, uint8_t attributes, int64_t time_ms,
                        struct mqg_slice key, struct mqg_slice value)
{
    mqg_dynbuf_be64(b, 77);
    size_t length_at = b->len;
    mqg_dynbuf_be32(b, 0);
    mqg_dynbuf_be32(b, 0);
    size_t sum_from = b->len;
    mqg_dynbuf_u8(b, magic);
    mqg_dynbuf_u8(b, attributes);
    if (magic == 1)
        mqg_dynbuf_be64(b, (uint64_t)time_ms);
    put_bytes(b, key);
    put_bytes(b, value);
    assert_false(b->failed);
    mqg_put_be32(b->ptr + length_at, (uint32_t)(b->len - length_at - 4));
    mqg_put_be32(b->ptr + sum_from - 4, (uint32_t)crc32(0, b->ptr + sum_from, (uInt)(b->len - sum_from)));
}

static void put_set(struct mqg_dynbuf *b, uint8_t magic)
{
    put_message(b, magic, 0, 1001, MQG_SLICE_LIT("k1"), MQG_SLICE_LIT("first"));
    put_message(b, magic, 0, 1003, mqg_slice_of(NULL, 0), MQG_SLICE_LIT("second"));
    put_message(b, magic, 0, 1002, MQG_SLICE_LIT("k3"), mqg_slice_of(NULL, 0));
}

struct up {
    struct mqg_dynbuf set, scratch;
    struct mqg_batch_builder out;
    enum mqg_err err;
};

static void up_init(struct up *u)
{
    mqg_dynbuf_init(&u->set, ROOM);
    mqg_dynbuf_init(&u->scratch, ROOM);
    mqg_builder_init(&u->out, ROOM);
}

static void up_fini(struct up *u)
{
    mqg_dynbuf_fini(&u->set);
    mqg_dynbuf_fini(&u->scratch);
    mqg_builder_fini(&u->out);
}

static void up_run(struct up *u)
{
    u->err = kafka_legacy_up(mqg_dynbuf_view(&u->set), NOW_MS, &u->out, &u->scratch);
}

static void up_check(struct up *u, const int64_t times_ms[3])
{
    static const char *const keys[] = {"k1", NULL, "k3"}, *const values[] = {"first", "second", NULL};
    struct mqg_batch b;
    struct mqg_record_iter it;
    struct mqg_record r;
    assert_int_equal(u->err, MQG_OK);
    struct mqg_slice bytes = mqg_builder_end(&u->out);
    assert_int_equal(mqg_batch_read(bytes, &b), MQG_OK);
    assert_true(mqg_batch_sum_ok(bytes, &b));
    assert_int_equal(b.count, 3);
    assert_int_equal(b.max_time_ms, times_ms[0] < 0 ? NOW_MS : times_ms[1]);
    mqg_record_iter_init(&it, &b, b.records);
    for (size_t i = 0; i < 3; i++) {
        assert_true(mqg_record_next(&it, &r));
        assert_int_equal(r.offset, i);
        assert_int_equal(r.time_ms, times_ms[i]);
        assert_int_equal(r.null_key, keys[i] == NULL);
        assert_int_equal(r.null_value, values[i] == NULL);
        assert_true(!keys[i] || mqg_slice_eq(r.key, mqg_slice_of(keys[i], strlen(keys[i]))));
        assert_true(!values[i] || mqg_slice_eq(r.value, mqg_slice_of(values[i], strlen(values[i]))));
    }
    assert_false(mqg_record_next(&it, &r));
    assert_false(it.bad);
}

static const int64_t times_own[3] = {1001, 1003, 1002}, times_none[3] = {-1, -1, -1},
                     times_broker[3] = {9000, 9000, 9000};

static void legacy_plain(void **state)
{
    (void)state;
    for (uint8_t magic = 0; magic < 2; magic++) {
        struct up u;
        up_init(&u);
        put_set(&u.set, magic);
        assert_true(kafka_legacy_is(mqg_dynbuf_view(&u.set)));
        up_run(&u);
        up_check(&u, magic ? times_own : times_none);
        up_fini(&u);
    }
}

static size_t pack(unsigned codec, uint8_t magic, struct mqg_slice in, uint8_t *out)
{
    size_t n = ROOM;
    if (codec == 1) {
        z_stream z = {.next_in = (Bytef *)(uintptr_t)in.ptr,
                      .avail_in = (uInt)in.len,
                      .next_out = out,
                      .avail_out = ROOM};
        assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
        assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
        deflateEnd(&z);
        return ROOM - z.avail_out;
    }
    if (codec == 2) {
        assert_int_equal(snappy_compress((const char *)in.ptr, in.len, (char *)out, &n), SNAPPY_OK);
        return n;
    }
    n = LZ4F_compressFrame(out, ROOM, in.ptr, in.len, NULL);
    assert_false(LZ4F_isError(n));
    if (magic == 0) /* over the frame's magic number, too: the mistake that old clients make */
        out[6] = (uint8_t)(XXH32(out, 6, 0) >> 8);
    return n;
}

static void put_packed(struct up *u, unsigned codec, uint8_t magic, uint8_t attributes)
{
    uint8_t *packed = mqg_xmalloc(ROOM);
    struct mqg_dynbuf inner;
    mqg_dynbuf_init(&inner, ROOM);
    put_set(&inner, magic);
    size_t n = pack(codec, magic, mqg_dynbuf_view(&inner), packed);
    put_message(&u->set, magic, (uint8_t)(codec | attributes), 9000, mqg_slice_of(NULL, 0),
                mqg_slice_of(packed, n));
    mqg_dynbuf_fini(&inner);
    free(packed);
}

static void legacy_compressed(void **state)
{
    (void)state;
    for (unsigned codec = 1; codec <= 3; codec++)
        for (uint8_t magic = 0; magic < 2; magic++) {
            struct up u;
            up_init(&u);
            put_packed(&u, codec, magic, 0);
            up_run(&u);
            up_check(&u, magic ? times_own : times_none);
            up_fini(&u);
        }
}

static void legacy_broker_time(void **state)
{
    struct up u;
    (void)state;
    up_init(&u);
    put_packed(&u, 1, 1, 8);
    up_run(&u);
    up_check(&u, times_broker);
    up_fini(&u);
}

static void legacy_damaged(void **state)
{
    struct up u;
    size_t whole;
    (void)state;
    up_init(&u);
    put_set(&u.set, 1);
    whole = u.set.len;
    for (size_t bit = 0; bit < whole * 8; bit++) {
        bool offset = bit / 8 < 8 || (bit / 8 >= 41 && bit / 8 < 49) || (bit / 8 >= 81 && bit / 8 < 89);
        u.set.ptr[bit / 8] ^= (uint8_t)(1u << bit % 8);
        up_run(&u);
        if (!offset)
            assert_int_equal(u.err, MQG_MALFORMED);
        u.set.ptr[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t cut = 0; cut < whole; cut++) {
        u.set.len = cut;
        up_run(&u);
        if (cut != 41 && cut != 81) /* between messages */
            assert_int_equal(u.err, MQG_MALFORMED);
    }
    up_fini(&u);
}

static void legacy_refused(void **state)
{
    struct up u;
    (void)state;
    up_init(&u);
    put_message(&u.set, 1, 5, 0, mqg_slice_of(NULL, 0), MQG_SLICE_LIT("x")); /* no such codec */
    up_run(&u);
    assert_int_equal(u.err, MQG_UNSUPPORTED);
    mqg_dynbuf_reset(&u.set);
    put_packed(&u, 1, 1, 0); /* a set in a set in a set */
    uint8_t *packed = mqg_xmalloc(ROOM);
    size_t n = pack(1, 1, mqg_dynbuf_view(&u.set), packed);
    mqg_dynbuf_reset(&u.set);
    put_message(&u.set, 1, 1, 0, mqg_slice_of(NULL, 0), mqg_slice_of(packed, n));
    up_run(&u);
    assert_int_equal(u.err, MQG_UNSUPPORTED);
    free(packed);
    up_fini(&u);
}

static void legacy_bounded(void **state)
{
    struct up u;
    (void)state;
    up_init(&u);
    put_packed(&u, 1, 1, 0);
    mqg_dynbuf_fini(&u.scratch);
    mqg_dynbuf_init(&u.scratch, 64);
    up_run(&u);
    assert_int_equal(u.err, MQG_TOO_LARGE);
    up_fini(&u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(legacy_plain),       cmocka_unit_test(legacy_compressed),
        cmocka_unit_test(legacy_broker_time), cmocka_unit_test(legacy_damaged),
        cmocka_unit_test(legacy_refused),     cmocka_unit_test(legacy_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
