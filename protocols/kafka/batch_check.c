/* batch_check.c - structure and sum of a producer's batch.
 *
 * Whoever reads the log trusts it, so nothing is stored that does not check: lengths, the sum, as many records as the head says,
 * offsets from 0 on without a hole. Records under a codec are not unpacked for that: they were summed, and a consumer that
 * unpacks them holds their number against the head again.
 *
 * The walk over plain records looks at lengths only: the fields of a record must end where the record does. */
#include "batch_check.h"

enum { AT_CRC = 17, AT_ATTRIBUTES = 21, AT_MAX_TIME = 35 };

/* A zigzag varint of 32 bits. */
static int32_t walk_varint(struct mqg_cursor *c)
{
    if (MQG_LIKELY(c->pos < c->end && *c->pos < 0x80)) {
        uint32_t v = *c->pos++;
        return (int32_t)(v >> 1) ^ -(int32_t)(v & 1);
    }
    uint64_t v = mqg_cursor_varint(c);
    if (v > UINT32_MAX)
        mqg_cursor_fail(c);
    return (int32_t)((uint32_t)v >> 1) ^ -(int32_t)(v & 1);
}

/* Bytes that may be null (-1). */
static void walk_bytes(struct mqg_cursor *c)
{
    int32_t n = walk_varint(c);
    if (n < -1)
        mqg_cursor_fail(c);
    else if (n > 0)
        mqg_cursor_take(c, (size_t)n);
}

static void walk_headers(struct mqg_cursor *c)
{
    int32_t n = walk_varint(c);
    if (n < 0 || (uint32_t)n > MQG_RECORD_HEADERS_MAX)
        mqg_cursor_fail(c);
    for (int32_t i = 0; i < n && !c->failed; i++) {
        int32_t name = walk_varint(c);
        if (name < 0)
            mqg_cursor_fail(c);
        else
            mqg_cursor_take(c, (size_t)name);
        walk_bytes(c);
    }
}

static bool walk_record(struct mqg_cursor *all, int32_t delta)
{
    int32_t len = walk_varint(all);
    if (len < 0 || all->failed)
        return false;
    struct mqg_cursor c = mqg_cursor_sub(all, (size_t)len);
    mqg_cursor_u8(&c);     /* attributes: none are used */
    mqg_cursor_varint(&c); /* time */
    if (walk_varint(&c) != delta)
        return false;
    walk_bytes(&c);
    walk_bytes(&c);
    walk_headers(&c);
    return mqg_cursor_done(&c);
}

static bool records_ok(const struct mqg_batch *b)
{
    struct mqg_cursor c = mqg_cursor_of(b->records);
    for (uint32_t i = 0; i < b->count; i++)
        if (!walk_record(&c, (int32_t)i))
            return false;
    return mqg_cursor_done(&c);
}

enum kafka_error kafka_batch_check(struct mqg_slice records, uint32_t max_bytes, struct mqg_batch *out)
{
    if (records.len == 0)
        return KAFKA_INVALID_RECORD;
    enum mqg_err err = mqg_batch_read(records, out);
    if (err != MQG_OK) /* cut, or a head that contradicts itself */
        return err == MQG_MORE ? KAFKA_CORRUPT_MESSAGE : KAFKA_INVALID_RECORD;
    if (out->bytes > max_bytes)
        return KAFKA_MESSAGE_TOO_LARGE;
    if (!mqg_batch_sum_ok(records, out))
        return KAFKA_CORRUPT_MESSAGE;
    if (out->bytes != records.len) /* more than one */
        return KAFKA_INVALID_RECORD;
    if (out->attributes & (MQG_BATCH_CONTROL | MQG_BATCH_ROUTED) || out->count == 0 ||
        out->count != out->last_delta + 1)
        return KAFKA_INVALID_RECORD;
    if (out->producer_id >= 0 && (out->base_sequence < 0 || out->producer_epoch < 0))
        return KAFKA_INVALID_RECORD;
    if (out->producer_id < 0 && out->attributes & MQG_BATCH_TRANSACTIONAL)
        return KAFKA_INVALID_RECORD;
    unsigned codec = out->attributes & MQG_BATCH_CODEC;
    if (codec > 4)
        return KAFKA_UNSUPPORTED_COMPRESSION_TYPE;
    return codec != 0 || records_ok(out) ? KAFKA_NONE : KAFKA_INVALID_RECORD;
}

void kafka_batch_restamp(struct mqg_slice batch, int64_t now_ms, uint8_t head[MQG_BATCH_HEAD_BYTES])
{
    memcpy(head, batch.ptr, MQG_BATCH_HEAD_BYTES);
    mqg_put_be16(head + AT_ATTRIBUTES, mqg_be16(head + AT_ATTRIBUTES) | MQG_BATCH_APPEND_TIME);
    mqg_put_be64(head + AT_MAX_TIME, (uint64_t)now_ms);
    uint32_t sum = mqg_crc32c(0, head + AT_ATTRIBUTES, MQG_BATCH_HEAD_BYTES - AT_ATTRIBUTES);
    sum = mqg_crc32c(sum, batch.ptr + MQG_BATCH_HEAD_BYTES, batch.len - MQG_BATCH_HEAD_BYTES);
    mqg_put_be32(head + AT_CRC, sum);
}
