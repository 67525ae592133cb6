/* records.c - record batches v2: taken apart with bounds, and built.
 *
 * The decoder is two cursors: one over a batch's head, one over its records, each record in a sub-cursor of its own length,
 * so that no field can reach beyond its record. Counts are held against the bytes there are before anything is walked. A
 * builder writes a record's headers aside first, because a record begins with its own length; everything else of the length
 * is arithmetic, so keys and values are copied once. */
#include <mqgate/records.h>

enum {
    AT_LENGTH = 8,
    AT_EPOCH = 12,
    AT_MAGIC = 16,
    AT_CRC = 17,
    AT_ATTRIBUTES = 21,
    AT_LAST_DELTA = 23,
    AT_BASE_TIME = 27,
    AT_MAX_TIME = 35,
    AT_PRODUCER = 43,
    AT_PRODUCER_EPOCH = 51,
    AT_SEQUENCE = 53,
    AT_COUNT = 57,
    RECORD_BYTES_MIN = 7, /* length, attributes, deltas, two null lengths, no headers */
    HEADER_BYTES_MIN = 2,
    BUILDER_SCRATCH_MAX_BYTES = 4 << 20,
};

/* ---- zigzag varints --------------------------------------------------------------------------------------------------- */

static inline int64_t zigzag_take(struct mqg_cursor *c)
{
    uint64_t v;
    if (MQG_LIKELY(!c->failed && c->pos < c->end && *c->pos < 0x80))
        v = *c->pos++;
    else
        v = mqg_cursor_varint(c);
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

static inline uint64_t zigzag_of(int64_t v)
{
    return (uint64_t)v << 1 ^ (uint64_t)(v >> 63);
}

static inline size_t zigzag_bytes(int64_t v)
{
    size_t n = 1;
    for (uint64_t u = zigzag_of(v); u >= 0x80; u >>= 7)
        n++;
    return n;
}

static inline uint8_t *zigzag_put(uint8_t *to, int64_t v)
{
    uint64_t u = zigzag_of(v);
    for (; u >= 0x80; u >>= 7)
        *to++ = (uint8_t)(u | 0x80);
    *to++ = (uint8_t)u;
    return to;
}

/* ---- heads ------------------------------------------------------------------------------------------------------------ */

static void batch_fields(const uint8_t *p, struct mqg_batch *b)
{
    b->base_offset = mqg_be64(p);
    b->leader_epoch = (int32_t)mqg_be32(p + AT_EPOCH);
    b->attributes = mqg_be16(p + AT_ATTRIBUTES);
    b->last_delta = mqg_be32(p + AT_LAST_DELTA);
    b->base_time_ms = (int64_t)mqg_be64(p + AT_BASE_TIME);
    b->max_time_ms = (int64_t)mqg_be64(p + AT_MAX_TIME);
    b->producer_id = (int64_t)mqg_be64(p + AT_PRODUCER);
    b->producer_epoch = (int16_t)mqg_be16(p + AT_PRODUCER_EPOCH);
    b->base_sequence = (int32_t)mqg_be32(p + AT_SEQUENCE);
    b->count = mqg_be32(p + AT_COUNT);
}

static bool batch_counts_ok(const struct mqg_batch *b)
{
    if (b->last_delta > INT32_MAX || b->base_offset > INT64_MAX - (uint64_t)b->last_delta)
        return false;
    if ((uint64_t)b->count > (uint64_t)b->last_delta + 1) /* compaction leaves records out, none comes in */
        return false;
    return (b->attributes & MQG_BATCH_CODEC) != 0 || b->count <= b->records.len / RECORD_BYTES_MIN;
}

enum mqg_err mqg_batch_read(struct mqg_slice in, struct mqg_batch *out)
{
    if (in.len > AT_MAGIC && in.ptr[AT_MAGIC] != 2)
        return MQG_UNSUPPORTED;
    if (in.len < MQG_BATCH_HEAD_BYTES)
        return MQG_MORE;
    uint64_t bytes = (uint64_t)mqg_be32(in.ptr + AT_LENGTH) + AT_LENGTH + 4;
    if (bytes < MQG_BATCH_HEAD_BYTES || bytes > INT32_MAX)
        return MQG_MALFORMED;
    if (bytes > in.len)
        return MQG_MORE;
    batch_fields(in.ptr, out);
    out->bytes = (size_t)bytes;
    out->records = mqg_slice_of(in.ptr + MQG_BATCH_HEAD_BYTES, out->bytes - MQG_BATCH_HEAD_BYTES);
    return batch_counts_ok(out) ? MQG_OK : MQG_MALFORMED;
}

bool mqg_batch_sum_ok(struct mqg_slice in, const struct mqg_batch *b)
{
    return mqg_be32(in.ptr + AT_CRC) == mqg_crc32c(0, in.ptr + AT_ATTRIBUTES, b->bytes - AT_ATTRIBUTES);
}

void mqg_batch_patch(uint8_t *head, uint64_t base_offset, int32_t leader_epoch)
{
    mqg_put_be64(head, base_offset);
    mqg_put_be32(head + AT_EPOCH, (uint32_t)leader_epoch);
}

/* ---- codecs ------------------------------------------------------------------------------------------------------------- */

static enum mqg_err (*batch_codecs[MQG_BATCH_CODEC + 1])(struct mqg_slice in, struct mqg_dynbuf *out);

void mqg_record_codec(unsigned codec, enum mqg_err (*plain)(struct mqg_slice in, struct mqg_dynbuf *out))
{
    MQG_ASSERT(codec > 0 && codec <= MQG_BATCH_CODEC);
    batch_codecs[codec] = plain;
}

enum mqg_err mqg_batch_plain(const struct mqg_batch *b, struct mqg_dynbuf *out, struct mqg_slice *plain)
{
    unsigned codec = b->attributes & MQG_BATCH_CODEC;
    *plain = b->records;
    if (codec == 0)
        return MQG_OK;
    if (batch_codecs[codec] == NULL)
        return MQG_UNSUPPORTED;
    mqg_dynbuf_reset(out);
    enum mqg_err err = batch_codecs[codec](b->records, out);
    *plain = mqg_dynbuf_view(out);
    return err == MQG_OK && b->count > plain->len / RECORD_BYTES_MIN ? MQG_MALFORMED : err;
}

static enum mqg_err (*batch_packers[MQG_BATCH_CODEC + 1])(struct mqg_slice in, struct mqg_dynbuf *out);

void mqg_record_packer(unsigned codec, enum mqg_err (*pack)(struct mqg_slice in, struct mqg_dynbuf *out))
{
    MQG_ASSERT(codec > 0 && codec <= MQG_BATCH_CODEC);
    batch_packers[codec] = pack;
}

enum mqg_err mqg_records_pack(unsigned codec, struct mqg_slice plain, struct mqg_dynbuf *out)
{
    MQG_ASSERT(codec <= MQG_BATCH_CODEC);
    return batch_packers[codec] == NULL ? MQG_UNSUPPORTED : batch_packers[codec](plain, out);
}

/* ---- records ---------------------------------------------------------------------------------------------------------- */

void mqg_record_iter_init(struct mqg_record_iter *it, const struct mqg_batch *b, struct mqg_slice plain)
{
    *it = (struct mqg_record_iter){
        .cursor = mqg_cursor_of(plain),
        .base_offset = b->base_offset,
        .last_delta = b->last_delta,
        .left = b->count,
        .base_time_ms = b->base_time_ms,
        .max_time_ms = b->max_time_ms,
        .append_time = (b->attributes & MQG_BATCH_APPEND_TIME) != 0,
    };
}

/* A length and its bytes; -1 is null where that is allowed. */
static struct mqg_slice record_bytes(struct mqg_cursor *c, bool *null)
{
    int64_t len = zigzag_take(c);
    *null = len == -1;
    if (len < -1)
        mqg_cursor_fail(c);
    return len >= 0 ? mqg_cursor_slice(c, (size_t)len) : mqg_slice_of(c->pos, 0);
}

static bool record_header_take(struct mqg_cursor *c, struct mqg_record_header *out)
{
    bool null_name;
    out->name = record_bytes(c, &null_name);
    if (null_name)
        mqg_cursor_fail(c);
    out->value = record_bytes(c, &out->null_value);
    return !c->failed;
}

static void record_headers(struct mqg_cursor *c, struct mqg_record *out)
{
    int64_t n = zigzag_take(c);
    if (n < 0 || n > MQG_RECORD_HEADERS_MAX || (uint64_t)n > mqg_cursor_left(c) / HEADER_BYTES_MIN) {
        mqg_cursor_fail(c);
        return;
    }
    out->nheaders = (uint32_t)n;
    out->headers = mqg_slice_of(c->pos, mqg_cursor_left(c));
    struct mqg_record_header skipped;
    while (n-- > 0 && record_header_take(c, &skipped))
        continue;
}

bool mqg_record_header(struct mqg_slice *headers, struct mqg_record_header *out)
{
    if (headers->len == 0)
        return false;
    struct mqg_cursor c = mqg_cursor_of(*headers);
    bool taken = record_header_take(&c, out);
    *headers = mqg_slice_of(c.pos, mqg_cursor_left(&c));
    return taken;
}

static bool record_read(struct mqg_record_iter *it, struct mqg_record *out)
{
    int64_t len = zigzag_take(&it->cursor);
    if (len < 0)
        return false;
    struct mqg_cursor c = mqg_cursor_sub(&it->cursor, (size_t)len);
    (void)mqg_cursor_u8(&c); /* attributes: none are defined */
    int64_t time_delta = zigzag_take(&c), delta = zigzag_take(&c);
    if (delta < it->next_delta || delta > (int64_t)it->last_delta)
        return false;
    it->next_delta = delta + 1;
    out->offset = it->base_offset + (uint64_t)delta;
    /* Both are a peer's: they may add up to anything. */
    out->time_ms = it->append_time ? it->max_time_ms
                                   : (int64_t)((uint64_t)it->base_time_ms + (uint64_t)time_delta);
    out->key = record_bytes(&c, &out->null_key);
    out->value = record_bytes(&c, &out->null_value);
    record_headers(&c, out);
    return mqg_cursor_done(&c);
}

bool mqg_record_next(struct mqg_record_iter *it, struct mqg_record *out)
{
    if (it->left == 0) {
        it->bad = it->bad || !mqg_cursor_done(&it->cursor);
        return false;
    }
    if (!record_read(it, out)) {
        it->bad = true;
        it->left = 0;
        return false;
    }
    it->left--;
    return true;
}

/* ---- building ---------------------------------------------------------------------------------------------------------- */

void mqg_builder_init(struct mqg_batch_builder *b, size_t max_bytes)
{
    *b = (struct mqg_batch_builder){.count = 0};
    mqg_dynbuf_init(&b->out, max_bytes);
    mqg_dynbuf_init(&b->headers, max_bytes);
    mqg_dynbuf_init(&b->text, BUILDER_SCRATCH_MAX_BYTES);
    mqg_dynbuf_init(&b->origin, BUILDER_SCRATCH_MAX_BYTES);
    mqg_dynbuf_init(&b->types, BUILDER_SCRATCH_MAX_BYTES);
}

void mqg_builder_fini(struct mqg_batch_builder *b)
{
    mqg_dynbuf_fini(&b->out);
    mqg_dynbuf_fini(&b->headers);
    mqg_dynbuf_fini(&b->text);
    mqg_dynbuf_fini(&b->origin);
    mqg_dynbuf_fini(&b->types);
}

void mqg_builder_begin(struct mqg_batch_builder *b)
{
    mqg_dynbuf_reset(&b->out);
    mqg_dynbuf_reset(&b->headers);
    b->nheaders = b->count = 0;
}

void mqg_builder_header(struct mqg_batch_builder *b, struct mqg_slice name, struct mqg_slice value,
                        bool null_value)
{
    uint8_t lengths[20];
    uint8_t *end = zigzag_put(lengths, (int64_t)name.len);
    mqg_dynbuf_put(&b->headers, lengths, (size_t)(end - lengths));
    mqg_dynbuf_slice(&b->headers, name);
    end = zigzag_put(lengths, null_value ? -1 : (int64_t)value.len);
    mqg_dynbuf_put(&b->headers, lengths, (size_t)(end - lengths));
    if (!null_value)
        mqg_dynbuf_slice(&b->headers, value);
    b->nheaders++;
}

static uint8_t *builder_bytes(uint8_t *to, struct mqg_slice s, bool null)
{
    to = zigzag_put(to, null ? -1 : (int64_t)s.len);
    if (!null && s.len > 0) {
        memcpy(to, s.ptr, s.len);
        to += s.len;
    }
    return to;
}

static size_t builder_bytes_size(struct mqg_slice s, bool null)
{
    return null ? 1 : zigzag_bytes((int64_t)s.len) + s.len;
}

static void builder_headers_forget(struct mqg_batch_builder *b)
{
    mqg_dynbuf_reset(&b->headers);
    b->nheaders = 0;
}

static void builder_times(struct mqg_batch_builder *b, int64_t time_ms)
{
    if (b->count == 0)
        b->base_time_ms = b->max_time_ms = time_ms;
    else if (time_ms > b->max_time_ms)
        b->max_time_ms = time_ms;
}

bool mqg_builder_record(struct mqg_batch_builder *b, int64_t time_ms, struct mqg_slice key, bool null_key,
                        struct mqg_slice value, bool null_value)
{
    int64_t time_delta = b->count == 0 ? 0 : (int64_t)((uint64_t)time_ms - (uint64_t)b->base_time_ms);
    size_t len = 1 + zigzag_bytes(time_delta) + zigzag_bytes(b->count) + builder_bytes_size(key, null_key) +
                 builder_bytes_size(value, null_value) + zigzag_bytes(b->nheaders) + b->headers.len;
    size_t head = b->count == 0 ? MQG_BATCH_HEAD_BYTES : 0;
    size_t before = b->out.len;
    uint8_t *to = b->headers.failed ? NULL
                                    : mqg_dynbuf_reserve(&b->out, head + zigzag_bytes((int64_t)len) + len);
    if (to == NULL) {
        b->out.failed = false; /* nothing was written */
        b->out.len = before;
        builder_headers_forget(b);
        return false;
    }
    uint8_t *from = to;
    builder_times(b, time_ms);
    to = zigzag_put(to + head, (int64_t)len);
    *to++ = 0;
    to = zigzag_put(zigzag_put(to, time_delta), b->count);
    to = builder_bytes(builder_bytes(to, key, null_key), value, null_value);
    to = zigzag_put(to, b->nheaders);
    if (b->headers.len > 0) {
        memcpy(to, b->headers.ptr, b->headers.len);
        to += b->headers.len;
    }
    b->out.len += (size_t)(to - from);
    b->count++;
    builder_headers_forget(b);
    return true;
}

struct mqg_slice mqg_builder_end(struct mqg_batch_builder *b)
{
    if (b->count == 0)
        return MQG_SLICE_NONE;
    uint8_t *p = b->out.ptr;
    memset(p, 0, MQG_BATCH_HEAD_BYTES);
    mqg_put_be32(p + AT_LENGTH, (uint32_t)(b->out.len - AT_LENGTH - 4));
    mqg_put_be32(p + AT_EPOCH, UINT32_MAX);
    p[AT_MAGIC] = 2;
    mqg_put_be16(p + AT_ATTRIBUTES, b->attributes);
    mqg_put_be32(p + AT_LAST_DELTA, b->count - 1);
    mqg_put_be64(p + AT_BASE_TIME, (uint64_t)b->base_time_ms);
    mqg_put_be64(p + AT_MAX_TIME, (uint64_t)b->max_time_ms);
    memset(p + AT_PRODUCER, 0xff, AT_COUNT - AT_PRODUCER);
    mqg_put_be32(p + AT_COUNT, b->count);
    mqg_put_be32(p + AT_CRC, mqg_crc32c(0, p + AT_ATTRIBUTES, b->out.len - AT_ATTRIBUTES));
    return mqg_dynbuf_view(&b->out);
}

/* ---- partitions --------------------------------------------------------------------------------------------------------- */

static uint32_t murmur2(struct mqg_slice s)
{
    const uint32_t m = 0x5bd1e995u;
    uint32_t h = 0x9747b28cu ^ (uint32_t)s.len;
    const uint8_t *p = s.ptr;
    size_t left = s.len;
    for (; left >= 4; p += 4, left -= 4) {
        uint32_t k = mqg_le32(p) * m;
        h = h * m ^ (k ^ k >> 24) * m;
    }
    if (left == 3)
        h ^= (uint32_t)p[2] << 16;
    if (left >= 2)
        h ^= (uint32_t)p[1] << 8;
    if (left >= 1)
        h = (h ^ p[0]) * m;
    h = (h ^ h >> 13) * m;
    return h ^ h >> 15;
}

uint32_t mqg_record_partition(struct mqg_slice key, uint32_t partitions)
{
    return partitions <= 1 ? 0 : (murmur2(key) & INT32_MAX) % partitions;
}
