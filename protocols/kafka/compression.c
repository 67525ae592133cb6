/* compression.c - see compression.h.
 *
 * The three that stream (zlib, LZ4, Zstandard) are fed the whole input and asked for output piece by piece, straight into
 * the dynbuf. The loop is the same: room, a step of the library, count what came. codec_room never asks for more than the
 * maximum leaves, so a bomb ends there with what it has written so far and not one byte more. */
#include "compression.h"

#include <mqgate/msg.h>
#include <mqgate/records.h>

#include <lz4frame.h>
#include <snappy-c.h>
#include <xxhash.h>
#include <zlib.h>
#include <zstd.h>

enum {
    CODEC_PIECE = 32 << 10,
    SNAPPY_HEAD = 16,
    SNAPPY_RATIO = 22, /* a copy of 3 bytes makes 64 */
    LZ4_HEAD_MIN = 7,  /* magic 4, FLG, BD, sum */
    LZ4_HEAD_MAX = 19, /* with content size and dictionary */
    LZ4_FLG_SIZE = 8,
    LZ4_FLG_DICT = 1,
};

/* Where the next output goes, and how much of it: 0 when the maximum is reached. */
static size_t codec_room(struct mqg_dynbuf *out, uint8_t **at)
{
    size_t left = out->max - out->len, n = left < CODEC_PIECE ? left : CODEC_PIECE;
    *at = n ? mqg_dynbuf_reserve(out, n) : NULL;
    return *at ? n : 0;
}

static enum mqg_err codec_full(struct mqg_dynbuf *out)
{
    out->failed = true;
    return MQG_TOO_LARGE;
}

/* ---- gzip ----------------------------------------------------------------------------------------------------------- */

/* One step; *more is false behind the last member. */
static enum mqg_err gunzip_step(z_stream *z, struct mqg_dynbuf *out, bool *more)
{
    size_t room = codec_room(out, &z->next_out);
    if (room == 0)
        return codec_full(out);
    z->avail_out = (uInt)room;
    uInt had = z->avail_in;
    int r = inflate(z, Z_NO_FLUSH);
    size_t made = room - z->avail_out;
    out->len += made;
    if (r == Z_MEM_ERROR)
        return MQG_NO_MEMORY;
    if (r == Z_STREAM_END) {
        *more = z->avail_in > 0;
        return *more && inflateReset(z) != Z_OK ? MQG_MALFORMED : MQG_OK;
    }
    return r == Z_OK && (made > 0 || z->avail_in < had) ? MQG_OK : MQG_MALFORMED;
}

enum mqg_err kafka_gunzip(struct mqg_slice in, struct mqg_dynbuf *out)
{
    enum { GZIP_ONLY = 16 };
    z_stream z = {.next_in = (Bytef *)(uintptr_t)in.ptr, .avail_in = (uInt)in.len};
    enum mqg_err err = MQG_OK;
    if (in.len > UINT32_MAX)
        return MQG_MALFORMED;
    if (inflateInit2(&z, MAX_WBITS + GZIP_ONLY) != Z_OK)
        return MQG_NO_MEMORY;
    for (bool more = true; err == MQG_OK && more;)
        err = gunzip_step(&z, out, &more);
    inflateEnd(&z);
    return err;
}

/* ---- snappy ----------------------------------------------------------------------------------------------------------- */

static enum mqg_err snappy_block(struct mqg_slice in, struct mqg_dynbuf *out)
{
    const char *from = (const char *)in.ptr;
    size_t len;
    if (snappy_uncompressed_length(from, in.len, &len) != SNAPPY_OK || len / SNAPPY_RATIO > in.len)
        return MQG_MALFORMED;
    uint8_t *to = mqg_dynbuf_reserve(out, len);
    if (!to)
        return codec_full(out);
    if (snappy_uncompress(from, in.len, (char *)to, &len) != SNAPPY_OK)
        return MQG_MALFORMED;
    out->len += len;
    return MQG_OK;
}

enum mqg_err kafka_unsnappy(struct mqg_slice in, struct mqg_dynbuf *out)
{
    static const uint8_t magic[8] = {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0};
    if (in.len < SNAPPY_HEAD || memcmp(in.ptr, magic, sizeof magic) != 0)
        return snappy_block(in, out);
    struct mqg_cursor c = mqg_cursor_of(mqg_slice_of(in.ptr + SNAPPY_HEAD, in.len - SNAPPY_HEAD));
    enum mqg_err err = MQG_OK;
    while (err == MQG_OK && mqg_cursor_left(&c) > 0) {
        struct mqg_slice block = mqg_cursor_slice(&c, mqg_cursor_be32(&c));
        err = c.failed ? MQG_MALFORMED : snappy_block(block, out);
    }
    return err;
}

/* ---- LZ4 -------------------------------------------------------------------------------------------------------------- */

/* Feeds `in` from *at on, until its end or the end of a frame. *left: what the library would still like to see. */
static enum mqg_err lz4_feed(LZ4F_dctx *ctx, struct mqg_slice in, size_t *left, struct mqg_dynbuf *out)
{
    while (in.len > 0 || *left > 0) {
        uint8_t *to;
        size_t made = codec_room(out, &to), taken = in.len;
        uint8_t spare = 0;
        bool full = made == 0;
        if (full) /* the end of a frame needs no room */
            to = &spare;
        *left = LZ4F_decompress(ctx, to, &made, in.ptr, &taken, NULL);
        if (LZ4F_isError(*left))
            return MQG_MALFORMED;
        out->len += made;
        in.ptr += taken;
        in.len -= taken;
        if (taken == 0 && made == 0)
            return full && in.len > 0 ? codec_full(out) : MQG_OK; /* it wants more than there is */
    }
    return MQG_OK;
}

static enum mqg_err lz4_frames(struct mqg_slice head, struct mqg_slice rest, struct mqg_dynbuf *out)
{
    LZ4F_dctx *ctx;
    size_t left = 0;
    if (LZ4F_isError(LZ4F_createDecompressionContext(&ctx, LZ4F_VERSION)))
        return MQG_NO_MEMORY;
    enum mqg_err err = lz4_feed(ctx, head, &left, out);
    if (err == MQG_OK && rest.len > 0)
        err = lz4_feed(ctx, rest, &left, out);
    LZ4F_freeDecompressionContext(ctx);
    return err == MQG_OK && left > 0 ? MQG_MALFORMED : err;
}

enum mqg_err kafka_unlz4(struct mqg_slice in, struct mqg_dynbuf *out)
{
    return in.len == 0 ? MQG_MALFORMED : lz4_frames(in, mqg_slice_of(NULL, 0), out);
}

enum mqg_err kafka_unlz4_magic0(struct mqg_slice in, struct mqg_dynbuf *out)
{
    uint8_t head[LZ4_HEAD_MAX];
    if (in.len < LZ4_HEAD_MIN)
        return MQG_MALFORMED;
    uint8_t flags = in.ptr[4];
    size_t n = LZ4_HEAD_MIN + (flags & LZ4_FLG_SIZE ? 8u : 0) + (flags & LZ4_FLG_DICT ? 4u : 0);
    if (in.len < n)
        return MQG_MALFORMED;
    memcpy(head, in.ptr, n);
    head[n - 1] = (uint8_t)(XXH32(head + 4, n - 5, 0) >> 8); /* descriptor only: what the frame format says */
    return lz4_frames(mqg_slice_of(head, n), mqg_slice_of(in.ptr + n, in.len - n), out);
}

/* ---- Zstandard ---------------------------------------------------------------------------------------------------------- */

static enum mqg_err zstd_all(ZSTD_DStream *z, ZSTD_inBuffer *from, struct mqg_dynbuf *out)
{
    size_t left = 1;
    while (from->pos < from->size || left > 0) {
        uint8_t *at, spare = 0;
        ZSTD_outBuffer to = {.size = codec_room(out, &at)};
        bool full = to.size == 0;
        size_t had = from->pos;
        to.dst = full ? &spare : at;
        left = ZSTD_decompressStream(z, &to, from);
        if (ZSTD_isError(left))
            return MQG_MALFORMED;
        out->len += to.pos;
        if (to.pos == 0 && from->pos == had && left > 0)
            return full ? codec_full(out) : MQG_MALFORMED; /* cut */
    }
    return MQG_OK;
}

enum mqg_err kafka_unzstd(struct mqg_slice in, struct mqg_dynbuf *out)
{
    ZSTD_inBuffer from = {.src = in.ptr, .size = in.len};
    ZSTD_DStream *z = ZSTD_createDStream();
    if (!z)
        return MQG_NO_MEMORY;
    enum mqg_err err = zstd_all(z, &from, out);
    ZSTD_freeDStream(z);
    return err;
}
