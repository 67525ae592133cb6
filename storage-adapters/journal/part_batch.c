/* part_batch.c - see part_batch.h. Every length is held against what is left before it is used; a batch that passes here has
 * bounds that fit, whatever its bytes are. */
#include "part_batch.h"

#include "format.h"

enum {
    AT_LENGTH = 8,
    AT_MAGIC = 16,
    AT_LAST_DELTA = 23,
    AT_TIME = 27,
    AT_MAX_TIME = 35,
    AT_PRODUCER = 43, /* id, epoch, sequence */
    AT_COUNT = 57,
    BATCH_LENGTH_MIN = PART_BATCH_HEAD - 12,
    BATCH_LENGTH_MAX = INT32_MAX - 12,
    RECORD_TIME_BYTES_MAX = 16, /* a record's attributes and time */
};

/* A time of -1 means none. */
static uint64_t batch_time(uint64_t ms)
{
    return ms > INT64_MAX ? 0 : ms;
}

bool jrn_part_batch_head(struct mqg_slice in, struct part_batch *b)
{
    if (in.len < PART_BATCH_HEAD || in.ptr[AT_MAGIC] != 2)
        return false;
    uint32_t length = mqg_be32(in.ptr + AT_LENGTH), delta = mqg_be32(in.ptr + AT_LAST_DELTA);
    b->base = mqg_be64(in.ptr);
    b->count = mqg_be32(in.ptr + AT_COUNT);
    if (length < BATCH_LENGTH_MIN || length > BATCH_LENGTH_MAX || delta > INT32_MAX || b->count > INT32_MAX ||
        b->base > INT64_MAX - (uint64_t)delta - 1)
        return false;
    b->end = b->base + delta + 1;
    b->len = length + 12;
    b->attributes = mqg_be16(in.ptr + PART_BATCH_AT_ATTRIBUTES);
    b->base_time_ms = batch_time(mqg_be64(in.ptr + AT_TIME));
    b->max_time_ms = batch_time(mqg_be64(in.ptr + AT_MAX_TIME));
    b->producer = mqg_be64(in.ptr + AT_PRODUCER);
    return true;
}

bool jrn_part_batch_sum(const uint8_t *p, const struct part_batch *b)
{
    return mqg_be32(p + PART_BATCH_AT_CRC) ==
           jrn_crc32c(0, p + PART_BATCH_AT_ATTRIBUTES, b->len - PART_BATCH_AT_ATTRIBUTES);
}

void jrn_part_batch_rewrite(uint8_t *p, const struct part_batch *b)
{
    mqg_put_be32(p + AT_LENGTH, b->len - 12);
    mqg_put_be16(p + PART_BATCH_AT_ATTRIBUTES, b->attributes);
    mqg_put_be32(p + AT_COUNT, b->count);
    mqg_put_be64(p + AT_MAX_TIME, b->max_time_ms);
    jrn_part_batch_stretch(p, b);
}

void jrn_part_batch_stretch(uint8_t *p, const struct part_batch *b)
{
    mqg_put_be32(p + AT_LAST_DELTA, (uint32_t)(b->end - b->base - 1));
    mqg_put_be32(p + PART_BATCH_AT_CRC,
                 jrn_crc32c(0, p + PART_BATCH_AT_ATTRIBUTES, b->len - PART_BATCH_AT_ATTRIBUTES));
}

void jrn_part_batch_empty(uint8_t out[PART_BATCH_HEAD], struct part_batch *b)
{
    b->len = PART_BATCH_HEAD;
    b->count = 0;
    b->attributes = 0;
    memset(out, 0, PART_BATCH_HEAD);
    mqg_put_be64(out, b->base);
    out[AT_MAGIC] = 2;
    mqg_put_be64(out + AT_TIME, UINT64_MAX); /* none */
    b->max_time_ms = UINT64_MAX;
    memset(out + AT_PRODUCER, 0xff, AT_COUNT - AT_PRODUCER); /* nobody's */
    jrn_part_batch_rewrite(out, b);
    b->base_time_ms = b->max_time_ms = 0;
    b->producer = UINT64_MAX;
}

bool jrn_part_batch_take(struct mqg_slice *in, struct part_batch *b)
{
    if (!jrn_part_batch_head(*in, b) || b->len > in->len || !jrn_part_batch_sum(in->ptr, b))
        return false;
    *in = mqg_slice_of(in->ptr + b->len, in->len - b->len);
    return true;
}

/* ---- records ------------------------------------------------------------------------------------------- */

static int64_t record_zigzag(struct mqg_cursor *c)
{
    uint64_t v = mqg_cursor_varint(c);
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

/* A length and as many bytes; -1: none. */
static bool record_bytes(struct mqg_cursor *c, struct mqg_slice *out)
{
    int64_t len = record_zigzag(c);
    *out = MQG_SLICE_NONE;
    if (len < -1 || (len > 0 && (uint64_t)len > mqg_cursor_left(c)))
        mqg_cursor_fail(c);
    else if (len > 0)
        *out = mqg_cursor_slice(c, (size_t)len);
    return len >= 0;
}

static bool record_headers_fit(struct mqg_cursor *c)
{
    struct mqg_slice bytes;
    int64_t n = record_zigzag(c);
    if (n < 0 || (uint64_t)n > mqg_cursor_left(c) / 2)
        return false;
    for (int64_t i = 0; i < n && !c->failed; i++) {
        if (!record_bytes(c, &bytes))
            return false;
        (void)record_bytes(c, &bytes);
    }
    return mqg_cursor_done(c);
}

bool jrn_part_record_take(struct mqg_slice *in, const struct part_batch *b, struct part_record *out,
                          bool *bad)
{
    *bad = false;
    if (in->len == 0)
        return false;
    *bad = true;
    struct mqg_cursor all = mqg_cursor_of(*in);
    int64_t len = record_zigzag(&all);
    if (all.failed || len < 0 || (uint64_t)len > mqg_cursor_left(&all))
        return false;
    size_t whole = in->len - mqg_cursor_left(&all) + (size_t)len;
    struct mqg_cursor c = mqg_cursor_sub(&all, (size_t)len);
    struct mqg_slice value;
    (void)mqg_cursor_u8(&c);
    int64_t time = record_zigzag(&c), delta = record_zigzag(&c);
    out->has_key = record_bytes(&c, &out->key);
    out->has_value = record_bytes(&c, &value);
    if (delta < 0 || (uint64_t)delta >= b->end - b->base || !record_headers_fit(&c))
        return false;
    out->offset = b->base + (uint64_t)delta;
    out->time_ms = b->attributes & PART_BATCH_LOG_TIME ? b->max_time_ms : b->base_time_ms + (uint64_t)time;
    out->whole = mqg_slice_of(in->ptr, whole);
    *in = mqg_slice_of(in->ptr + whole, in->len - whole);
    *bad = false;
    return true;
}

static void record_put_zigzag(struct mqg_dynbuf *out, int64_t v)
{
    (void)mqg_dynbuf_varint(out, (uint64_t)v << 1 ^ (uint64_t)(v >> 63));
}

/* length | attributes 1 | time | the rest: length and time become others. */
bool jrn_part_batch_horizon(struct mqg_dynbuf *out, struct mqg_slice whole, struct part_batch *b,
                            uint64_t horizon_ms)
{
    struct mqg_cursor in = mqg_cursor_of(
        mqg_slice_of(whole.ptr + PART_BATCH_HEAD, whole.len - PART_BATCH_HEAD));
    struct mqg_dynbuf head;
    (void)record_zigzag(&in);
    uint8_t attributes = mqg_cursor_u8(&in);
    uint64_t time_ms = b->base_time_ms + (uint64_t)record_zigzag(&in);
    if (in.failed)
        return false;
    size_t rest = mqg_cursor_left(&in);
    mqg_dynbuf_init(&head, RECORD_TIME_BYTES_MAX);
    (void)mqg_dynbuf_u8(&head, attributes);
    record_put_zigzag(&head, (int64_t)(time_ms - horizon_ms));
    size_t at = out->len;
    mqg_dynbuf_slice(out, mqg_slice_of(whole.ptr, PART_BATCH_HEAD));
    record_put_zigzag(out, (int64_t)(head.len + rest));
    mqg_dynbuf_slice(out, mqg_dynbuf_view(&head));
    mqg_dynbuf_slice(out, mqg_cursor_slice(&in, rest));
    mqg_dynbuf_fini(&head);
    b->base_time_ms = horizon_ms;
    b->attributes |= PART_BATCH_HORIZON;
    b->len = (uint32_t)(out->len - at);
    mqg_put_be64(out->ptr + at + AT_TIME, horizon_ms);
    jrn_part_batch_rewrite(out->ptr + at, b);
    return true;
}
