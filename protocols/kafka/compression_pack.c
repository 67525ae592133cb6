/* compression_pack.c - plain records compressed again, for a store that took some of a batch out.
 *
 * What a store writes must be read by every client there is, so each codec is used the way the oldest readers want it: LZ4 in
 * blocks that stand alone and without a content size (Java's reader refuses linked blocks), snappy as one raw block, which all
 * take for what it is. Levels are the libraries' own: this runs in the background, but for as long as a folder is compacted. */
#include "compression.h"

#include <mqgate/records.h>

#include <lz4frame.h>
#include <snappy-c.h>
#include <zlib.h>
#include <zstd.h>

enum mqg_err kafka_gzip(struct mqg_slice in, struct mqg_dynbuf *out)
{
    enum { GZIP_ONLY = 16, GZIP_MEMORY = 8 };
    z_stream z = {.next_in = (Bytef *)(uintptr_t)in.ptr, .avail_in = (uInt)in.len};
    if (in.len > INT32_MAX)
        return MQG_TOO_LARGE;
    if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, MAX_WBITS + GZIP_ONLY, GZIP_MEMORY,
                     Z_DEFAULT_STRATEGY) != Z_OK)
        return MQG_NO_MEMORY;
    size_t most = deflateBound(&z, in.len);
    z.next_out = mqg_dynbuf_reserve(out, most);
    z.avail_out = (uInt)most;
    int r = z.next_out ? deflate(&z, Z_FINISH) : Z_BUF_ERROR;
    if (r == Z_STREAM_END)
        out->len += most - z.avail_out;
    deflateEnd(&z);
    return r == Z_STREAM_END ? MQG_OK : MQG_TOO_LARGE;
}

enum mqg_err kafka_snappy(struct mqg_slice in, struct mqg_dynbuf *out)
{
    size_t made = snappy_max_compressed_length(in.len);
    uint8_t *to = mqg_dynbuf_reserve(out, made);
    if (!to || snappy_compress((const char *)in.ptr, in.len, (char *)to, &made) != SNAPPY_OK)
        return MQG_TOO_LARGE;
    out->len += made;
    return MQG_OK;
}

enum mqg_err kafka_lz4(struct mqg_slice in, struct mqg_dynbuf *out)
{
    LZ4F_preferences_t p = {.frameInfo = {.blockSizeID = LZ4F_max64KB, .blockMode = LZ4F_blockIndependent}};
    size_t most = LZ4F_compressFrameBound(in.len, &p);
    uint8_t *to = mqg_dynbuf_reserve(out, most);
    size_t made = to ? LZ4F_compressFrame(to, most, in.ptr, in.len, &p) : 0;
    if (!to || LZ4F_isError(made))
        return MQG_TOO_LARGE;
    out->len += made;
    return MQG_OK;
}

enum mqg_err kafka_zstd(struct mqg_slice in, struct mqg_dynbuf *out)
{
    size_t most = ZSTD_compressBound(in.len);
    uint8_t *to = mqg_dynbuf_reserve(out, most);
    size_t made = to ? ZSTD_compress(to, most, in.ptr, in.len, ZSTD_CLEVEL_DEFAULT) : 0;
    if (!to || ZSTD_isError(made))
        return MQG_TOO_LARGE;
    out->len += made;
    return MQG_OK;
}

void kafka_compression_register(void)
{
    mqg_record_codec(1, kafka_gunzip);
    mqg_record_codec(2, kafka_unsnappy);
    mqg_record_codec(3, kafka_unlz4);
    mqg_record_codec(4, kafka_unzstd);
    mqg_record_packer(1, kafka_gzip);
    mqg_record_packer(2, kafka_snappy);
    mqg_record_packer(3, kafka_lz4);
    mqg_record_packer(4, kafka_zstd);
}
