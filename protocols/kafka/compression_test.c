/* compression_test.c - each codec against its library's other half: whole, cut at each byte, flipped, and as a bomb. */
#include "compression.h"

#include <mqgate/records.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <lz4frame.h>
#include <snappy-c.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

enum { TEXT = 100000, ROOM = 1 << 20 };

struct codec {
    const char *name;
    size_t (*press)(const uint8_t *in, size_t n, uint8_t *out);
    enum mqg_err (*plain)(struct mqg_slice in, struct mqg_dynbuf *out);
};

static size_t press_gzip(const uint8_t *in, size_t n, uint8_t *out)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)in, .avail_in = (uInt)n, .next_out = out, .avail_out = ROOM};
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    size_t made = ROOM - z.avail_out;
    deflateEnd(&z);
    return made;
}

static size_t press_snappy(const uint8_t *in, size_t n, uint8_t *out)
{
    size_t made = ROOM;
    assert_int_equal(snappy_compress((const char *)in, n, (char *)out, &made), SNAPPY_OK);
    return made;
}

/* As the Java library does it: blocks of 32 KiB. */
static size_t press_xerial(const uint8_t *in, size_t n, uint8_t *out)
{
    static const uint8_t head[16] = {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1};
    size_t made = sizeof head;
    memcpy(out, head, sizeof head);
    for (size_t at = 0; at < n; at += 32768) {
        size_t block = press_snappy(in + at, n - at < 32768 ? n - at : 32768, out + made + 4);
        mqg_put_be32(out + made, (uint32_t)block);
        made += 4 + block;
    }
    return made;
}

static size_t press_lz4(const uint8_t *in, size_t n, uint8_t *out)
{
    LZ4F_preferences_t p = {
        .frameInfo = {.contentSize = n, .contentChecksumFlag = LZ4F_contentChecksumEnabled}};
    size_t made = LZ4F_compressFrame(out, ROOM, in, n, &p);
    assert_false(LZ4F_isError(made));
    return made;
}

/* The sum in the head is taken over the magic number, too. */
static size_t press_lz4_magic0(const uint8_t *in, size_t n, uint8_t *out)
{
    size_t made = press_lz4(in, n, out);
    out[14] ^= 0x5a;
    return made;
}

static size_t press_zstd(const uint8_t *in, size_t n, uint8_t *out)
{
    ZSTD_CCtx *z = ZSTD_createCCtx();
    assert_false(ZSTD_isError(ZSTD_CCtx_setParameter(z, ZSTD_c_checksumFlag, 1)));
    size_t made = ZSTD_compress2(z, out, ROOM, in, n);
    ZSTD_freeCCtx(z);
    assert_false(ZSTD_isError(made));
    return made;
}

static const struct codec codecs[] = {
    {"gzip", press_gzip, kafka_gunzip},
    {"snappy", press_snappy, kafka_unsnappy},
    {"xerial", press_xerial, kafka_unsnappy},
    {"lz4", press_lz4, kafka_unlz4},
    {"lz4 0", press_lz4_magic0, kafka_unlz4_magic0},
    {"zstd", press_zstd, kafka_unzstd},
};

static uint8_t *codec_text(bool steady)
{
    uint8_t *text = mqg_xmalloc(TEXT);
    uint32_t x = 7;
    for (size_t i = 0; i < TEXT; i++) {
        x = x * 1664525 + 1013904223;
        text[i] = steady ? 'a' : (uint8_t)(x >> 28);
    }
    return text;
}

static enum mqg_err codec_plain(const struct codec *c, const uint8_t *in, size_t n, size_t max,
                                struct mqg_dynbuf *out)
{
    uint8_t *exact = mqg_xmalloc(n + 1); /* a sanitizer sees what reads beyond it */
    memcpy(exact, in, n);
    mqg_dynbuf_init(out, max);
    enum mqg_err err = c->plain(mqg_slice_of(exact, n), out);
    assert_true(out->len <= max);
    free(exact);
    return err;
}

static void codec_round_trip(void **state)
{
    (void)state;
    for (size_t i = 0; i < MQG_COUNTOF(codecs); i++)
        for (int steady = 0; steady < 2; steady++) {
            struct mqg_dynbuf out;
            uint8_t *text = codec_text(steady), *pressed = mqg_xmalloc(ROOM);
            size_t n = codecs[i].press(text, TEXT, pressed);
            assert_int_equal(codec_plain(&codecs[i], pressed, n, TEXT, &out), MQG_OK);
            assert_int_equal(out.len, TEXT);
            assert_memory_equal(out.ptr, text, TEXT);
            mqg_dynbuf_fini(&out);
            free(text);
            free(pressed);
        }
}

/* Cut anywhere it is not whole. (The Java framing has no end mark: a cut between blocks is a shorter text.) */
static void codec_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < MQG_COUNTOF(codecs); i++) {
        uint8_t *text = codec_text(false), *pressed = mqg_xmalloc(ROOM);
        size_t n = codecs[i].press(text, 3000, pressed);
        for (size_t cut = 0; cut < n; cut++) {
            struct mqg_dynbuf out;
            enum mqg_err err = codec_plain(&codecs[i], pressed, cut, TEXT, &out);
            if (err != MQG_MALFORMED && !(codecs[i].press == press_xerial && cut == 16 && out.len == 0))
                fail_msg("%s cut at %zu of %zu: %s", codecs[i].name, cut, n, mqg_err_name(err));
            mqg_dynbuf_fini(&out);
        }
        free(text);
        free(pressed);
    }
}

/* Flipped bits: refused or another text, and never beyond the bounds. */
static void codec_flipped(void **state)
{
    (void)state;
    for (size_t i = 0; i < MQG_COUNTOF(codecs); i++) {
        uint8_t *text = codec_text(false), *pressed = mqg_xmalloc(ROOM);
        size_t n = codecs[i].press(text, 2000, pressed);
        size_t refused = 0;
        for (size_t bit = 0; bit < n * 8; bit++) {
            struct mqg_dynbuf out;
            pressed[bit / 8] ^= (uint8_t)(1u << bit % 8);
            refused += codec_plain(&codecs[i], pressed, n, 4000, &out) != MQG_OK;
            pressed[bit / 8] ^= (uint8_t)(1u << bit % 8);
            mqg_dynbuf_fini(&out);
        }
        assert_true(refused > 0);
        free(text);
        free(pressed);
    }
}

static void codec_bomb(void **state)
{
    (void)state;
    for (size_t i = 0; i < MQG_COUNTOF(codecs); i++) {
        struct mqg_dynbuf out;
        uint8_t *text = codec_text(true), *pressed = mqg_xmalloc(ROOM);
        size_t n = codecs[i].press(text, TEXT, pressed);
        assert_int_equal(codec_plain(&codecs[i], pressed, n, TEXT - 1, &out), MQG_TOO_LARGE);
        assert_true(out.failed);
        mqg_dynbuf_fini(&out);
        free(text);
        free(pressed);
    }
}

/* A snappy block that claims 4 GiB of nothing is refused before anything is allocated. */
static void codec_claims(void **state)
{
    static const uint8_t claim[] = {0xff, 0xff, 0xff, 0xff, 0x0f, 0x00, 'x'};
    struct mqg_dynbuf out;
    (void)state;
    assert_int_equal(codec_plain(&codecs[1], claim, sizeof claim, (size_t)1 << 33, &out), MQG_MALFORMED);
    assert_int_equal(out.cap, 0);
    mqg_dynbuf_fini(&out);
}

/* Members and frames one after the other are one text. */
static void codec_members(void **state)
{
    static const size_t which[] = {0, 3, 5};
    (void)state;
    for (size_t i = 0; i < MQG_COUNTOF(which); i++) {
        struct mqg_dynbuf out;
        uint8_t *text = codec_text(false), *pressed = mqg_xmalloc(2 * (size_t)ROOM);
        size_t n = codecs[which[i]].press(text, 1000, pressed);
        n += codecs[which[i]].press(text + 1000, 500, pressed + n);
        assert_int_equal(codec_plain(&codecs[which[i]], pressed, n, TEXT, &out), MQG_OK);
        assert_int_equal(out.len, 1500);
        assert_memory_equal(out.ptr, text, 1500);
        mqg_dynbuf_fini(&out);
        free(text);
        free(pressed);
    }
}

/* What is packed here is plain again by the way that reads everybody's; the maximum holds. */
static void codec_packs(void **state)
{
    static const struct {
        enum mqg_err (*pack)(struct mqg_slice in, struct mqg_dynbuf *out),
            (*plain)(struct mqg_slice in, struct mqg_dynbuf *out);
    } ways[] = {{kafka_gzip, kafka_gunzip},
                {kafka_snappy, kafka_unsnappy},
                {kafka_lz4, kafka_unlz4},
                {kafka_zstd, kafka_unzstd}};
    static const size_t sizes[] = {1, 100, 65536, TEXT};
    (void)state;
    for (size_t i = 0; i < MQG_COUNTOF(ways) * MQG_COUNTOF(sizes); i++) {
        struct mqg_dynbuf packed, plain, small;
        uint8_t *text = codec_text(true);
        struct mqg_slice in = mqg_slice_of(text, sizes[i % MQG_COUNTOF(sizes)]);
        mqg_dynbuf_init(&packed, 2 * (size_t)ROOM);
        mqg_dynbuf_init(&plain, TEXT);
        mqg_dynbuf_init(&small, in.len / 8 + 1);
        assert_true(mqg_dynbuf_put(&packed, "head", 4)); /* is appended to */
        assert_int_equal(ways[i / MQG_COUNTOF(sizes)].pack(in, &packed), MQG_OK);
        assert_memory_equal(packed.ptr, "head", 4);
        assert_true(packed.len - 4 < in.len * 3 / 4 + 64);
        assert_int_equal(
            ways[i / MQG_COUNTOF(sizes)].plain(mqg_slice_of(packed.ptr + 4, packed.len - 4), &plain), MQG_OK);
        assert_true(mqg_slice_eq(mqg_dynbuf_view(&plain), in));
        assert_int_equal(ways[i / MQG_COUNTOF(sizes)].pack(in, &small), MQG_TOO_LARGE);
        assert_int_equal(small.len, 0);
        mqg_dynbuf_fini(&packed);
        mqg_dynbuf_fini(&plain);
        mqg_dynbuf_fini(&small);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codec_round_trip), cmocka_unit_test(codec_cut),    cmocka_unit_test(codec_flipped),
        cmocka_unit_test(codec_bomb),       cmocka_unit_test(codec_claims), cmocka_unit_test(codec_members),
        cmocka_unit_test(codec_packs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
