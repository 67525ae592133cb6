/* legacy_down.c - batches made message sets, for readers of the time before 0.11. legacy.h says what is lost on the way.
 *
 * Every message stands alone and plain with its own offset, so nothing has to be built twice, and a set can end behind any message: a
 * batch that is much larger when it is plain is told in pieces. */
#include "legacy.h"

#include <zlib.h>

enum {
    DOWN_BROKER_TIME = 8,
    DOWN_ENTRY_BYTES = 12,
    DOWN_FIXED_BYTES = 4 + 1 + 1 + 4 + 4,
    DOWN_TIME_BYTES = 8
};

struct down {
    const struct kafka_legacy_down *want;
    struct mqg_dynbuf *out;
    bool append_time; /* of the batch at hand */
};

static void down_bytes(struct mqg_dynbuf *out, struct mqg_slice s, bool null)
{
    mqg_dynbuf_be32(out, null ? UINT32_MAX : (uint32_t)s.len);
    mqg_dynbuf_slice(out, s);
}

static void down_message(const struct down *d, const struct mqg_record *r, size_t bytes)
{
    struct mqg_dynbuf *out = d->out;
    mqg_dynbuf_be64(out, r->offset);
    mqg_dynbuf_be32(out, (uint32_t)bytes);
    mqg_dynbuf_be32(out, 0);
    size_t from = out->len;
    mqg_dynbuf_u8(out, d->want->magic);
    mqg_dynbuf_u8(out, d->want->magic == 1 && d->append_time ? DOWN_BROKER_TIME : 0);
    if (d->want->magic == 1)
        mqg_dynbuf_be64(out, (uint64_t)r->time_ms);
    down_bytes(out, r->key, r->null_key);
    down_bytes(out, r->value, r->null_value);
    if (!out->failed)
        mqg_put_be32(out->ptr + from - 4, (uint32_t)crc32_z(0, out->ptr + from, out->len - from));
}

/* MORE: the set is full. */
static enum mqg_err down_record(const struct down *d, const struct mqg_record *r)
{
    size_t head = d->want->magic == 1 ? DOWN_FIXED_BYTES + DOWN_TIME_BYTES : DOWN_FIXED_BYTES;
    size_t bytes = head + r->key.len + r->value.len;
    if (r->offset < d->want->from)
        return MQG_OK;
    if (d->out->len > 0 && d->out->len + DOWN_ENTRY_BYTES + bytes > d->want->max_bytes)
        return MQG_MORE;
    down_message(d, r, bytes);
    return d->out->failed ? MQG_TOO_LARGE : MQG_OK;
}

static enum mqg_err down_batch(struct down *d, const struct mqg_batch *b, struct mqg_dynbuf *scratch)
{
    struct mqg_slice plain;
    struct mqg_record_iter it;
    struct mqg_record r;
    mqg_dynbuf_reset(scratch);
    enum mqg_err err = mqg_batch_plain(b, scratch, &plain);
    if (err != MQG_OK)
        return err;
    d->append_time = b->attributes & MQG_BATCH_APPEND_TIME;
    mqg_record_iter_init(&it, b, plain);
    while (err == MQG_OK && mqg_record_next(&it, &r))
        err = down_record(d, &r);
    return err == MQG_OK && it.bad ? MQG_MALFORMED : err;
}

enum mqg_err kafka_legacy_down(struct mqg_slice batches, struct kafka_legacy_down *want,
                               struct mqg_dynbuf *scratch, struct mqg_dynbuf *out)
{
    struct down d = {.want = want, .out = out};
    struct mqg_batch b = {.bytes = 0};
    enum mqg_err err = MQG_OK;
    want->plain_bytes = 0;
    for (size_t at = 0; at < batches.len && err == MQG_OK; at += b.bytes) {
        struct mqg_slice rest = mqg_slice_of(batches.ptr + at, batches.len - at);
        err = mqg_batch_read(rest, &b);
        if (err != MQG_OK || b.attributes & MQG_BATCH_CONTROL || b.base_offset + b.last_delta < want->from)
            continue;
        size_t kept = out->len;
        err = down_batch(&d, &b, scratch);
        want->plain_bytes += scratch->len;
        if (err != MQG_OK && err != MQG_MORE && !out->failed)
            out->len = kept;
    }
    return err == MQG_MORE || (err != MQG_OK && out->len > 0 && !out->failed) ? MQG_OK : err;
}
