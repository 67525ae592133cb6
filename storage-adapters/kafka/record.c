/* record.c - see record.h.
 *
 *   base offset 8 | length 4 | leader epoch 4 | magic 1 = 2 | crc32c 4 | attributes 2 | last offset delta 4 |
 *   base time 8 | max time 8 | producer id 8, epoch 2, sequence 4 | count 4 | records            (big-endian)
 *
 *   record: length, attributes 1, time delta, offset delta, key, value, count of headers, headers   (zigzag varints; the
 *   lengths of key, value and header values may be -1: null)
 *
 * The sum runs from the attributes to the end. Attributes: bits 0-2 codec, 3 append time, 4 transactional, 5 control. */
#include "record.h"

#include <stdlib.h>

enum {
    HEAD_BYTES = 61,
    AT_LENGTH = 8,
    AT_MAGIC = 16,
    AT_CRC = 17,
    AT_ATTRIBUTES = 21,
    AT_LAST_DELTA = 23,
    AT_TIME = 27,
    AT_MAX_TIME = 35,
    AT_PRODUCER = 43,
    AT_COUNT = 57,
    ATTR_CODEC = 7,
    ATTR_APPEND_TIME = 8,
    ATTR_CONTROL = 32,
    RECORD_MIN = 7,
};

static int64_t take_zigzag(struct mqg_cursor *c)
{
    uint64_t v = mqg_cursor_varint(c);
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

static void put_zigzag(struct mqg_dynbuf *out, int64_t v)
{
    mqg_dynbuf_varint(out, v < 0 ? ~((uint64_t)v << 1) : (uint64_t)v << 1);
}

/* ---- taking apart ------------------------------------------------------------------------------------------------------ */

void kfk_decoder_init(struct kfk_decoder *d, struct mqg_slice batches, uint64_t base)
{
    *d = (struct kfk_decoder){.all = mqg_cursor_of(batches), .next = base};
}

void kfk_decoder_fini(struct kfk_decoder *d)
{
    free(d->many);
    d->many = NULL;
}

static int decoder_bad(struct kfk_decoder *d, const char *why)
{
    d->why = why;
    mqg_cursor_fail(&d->all);
    return -1;
}

/* Checks the next batch's head and stands before its first record. */
static int decoder_batch(struct kfk_decoder *d)
{
    const uint8_t *head = d->all.pos;
    if (mqg_cursor_left(&d->all) < HEAD_BYTES || head[AT_MAGIC] != 2)
        return decoder_bad(d, "no record batch v2");
    uint64_t len = (uint64_t)mqg_be32(head + AT_LENGTH) + AT_LENGTH + 4;
    if (len < HEAD_BYTES || len > mqg_cursor_left(&d->all))
        return decoder_bad(d, "a batch that is cut");
    if (mqg_be32(head + AT_CRC) != mqg_crc32c(0, head + AT_ATTRIBUTES, len - AT_ATTRIBUTES))
        return decoder_bad(d, "a batch whose sum is wrong");
    uint16_t attributes = mqg_be16(head + AT_ATTRIBUTES);
    if (attributes & ATTR_CODEC)
        return decoder_bad(d, "a compressed batch: this store takes plain ones");
    if (attributes & ATTR_CONTROL)
        return decoder_bad(d, "a control batch: markers are the engine's own");
    uint32_t count = mqg_be32(head + AT_COUNT);
    if (count > (len - HEAD_BYTES) / RECORD_MIN || count != (uint64_t)mqg_be32(head + AT_LAST_DELTA) + 1)
        return decoder_bad(d, "a batch with offsets left out, or a false count");
    if (mqg_be64(head) != d->next)
        return decoder_bad(d, "a batch that does not follow the one before");
    d->time_ms = (int64_t)mqg_be64(head + AT_TIME);
    d->append_time = (attributes & ATTR_APPEND_TIME) != 0;
    if (d->append_time)
        d->time_ms = (int64_t)mqg_be64(head + AT_MAX_TIME);
    d->left = d->count = count;
    d->batch = mqg_cursor_sub(&d->all, len);
    (void)mqg_cursor_take(&d->batch, HEAD_BYTES);
    return 1;
}

/* A length and its bytes; *null for -1. */
static struct mqg_slice take_bytes(struct mqg_cursor *c, bool *null)
{
    int64_t len = take_zigzag(c);
    *null = len == -1;
    if (len < -1)
        mqg_cursor_fail(c);
    return len > 0 ? mqg_cursor_slice(c, (size_t)len) : mqg_slice_of(c->pos, 0);
}

static void take_headers(struct kfk_decoder *d, struct mqg_cursor *c, struct kfk_record *r)
{
    int64_t n = take_zigzag(c);
    if (n < 0 || n > KFK_HEADERS_MAX || (uint64_t)n > mqg_cursor_left(c) / 2) {
        mqg_cursor_fail(c);
        return;
    }
    r->headers = d->headers;
    if ((size_t)n > MQG_COUNTOF(d->headers)) {
        if (!d->many)
            d->many = mqg_xcalloc(KFK_HEADERS_MAX, sizeof(*d->many));
        r->headers = d->many;
    }
    bool null_name = false;
    for (int64_t i = 0; i < n && !c->failed; i++) {
        struct kfk_header *h = &r->headers[r->nheader++];
        h->name = take_bytes(c, &null_name);
        h->value = take_bytes(c, &h->null_value);
        if (null_name)
            mqg_cursor_fail(c);
    }
}

int kfk_decoder_next(struct kfk_decoder *d, struct kfk_record *r)
{
    while (d->left == 0) {
        if (d->why || (d->batch.pos && !mqg_cursor_done(&d->batch)))
            return d->why ? -1 : decoder_bad(d, "bytes behind a batch's last record");
        if (mqg_cursor_left(&d->all) == 0)
            return 0;
        if (decoder_batch(d) < 0)
            return -1;
    }
    int64_t len = take_zigzag(&d->batch);
    if (len < 0)
        return decoder_bad(d, "a record without a length");
    struct mqg_cursor c = mqg_cursor_sub(&d->batch, (size_t)len);
    *r = (struct kfk_record){.offset = d->next, .append_time = d->append_time};
    (void)mqg_cursor_u8(&c);
    int64_t delta_ms = take_zigzag(&c);
    /* Both are a peer's: they may add up to anything. */
    r->time_ms = d->append_time ? d->time_ms : (int64_t)((uint64_t)d->time_ms + (uint64_t)delta_ms);
    if (take_zigzag(&c) != (int64_t)(d->count - d->left))
        mqg_cursor_fail(&c);
    r->key = take_bytes(&c, &r->null_key);
    r->value = take_bytes(&c, &r->null_value);
    take_headers(d, &c, r);
    if (!mqg_cursor_done(&c))
        return decoder_bad(d, "a record that does not check");
    d->left--;
    d->next++;
    return 1;
}

/* ---- building ---------------------------------------------------------------------------------------------------------- */

void kfk_encoder_init(struct kfk_encoder *e, size_t max_bytes)
{
    *e = (struct kfk_encoder){.count = 0};
    mqg_dynbuf_init(&e->out, max_bytes);
}

void kfk_encoder_fini(struct kfk_encoder *e)
{
    mqg_dynbuf_fini(&e->out);
}

static void put_bytes(struct mqg_dynbuf *out, struct mqg_slice s, bool null)
{
    put_zigzag(out, null ? -1 : (int64_t)s.len);
    if (!null)
        mqg_dynbuf_slice(out, s);
}

/* A varint's length at the front needs the record first. */
static void put_record(struct mqg_dynbuf *out, const struct kfk_encoder *e, const struct kfk_record *r)
{
    struct mqg_dynbuf body;
    mqg_dynbuf_init(&body, out->max);
    mqg_dynbuf_u8(&body, 0);
    put_zigzag(&body, (int64_t)((uint64_t)r->time_ms - (uint64_t)e->base_ms));
    put_zigzag(&body, (int64_t)(r->offset - e->base));
    put_bytes(&body, r->key, r->null_key);
    put_bytes(&body, r->value, r->null_value);
    put_zigzag(&body, r->nheader);
    for (uint32_t i = 0; i < r->nheader; i++) {
        put_bytes(&body, r->headers[i].name, false);
        put_bytes(&body, r->headers[i].value, r->headers[i].null_value);
    }
    put_zigzag(out, (int64_t)body.len);
    mqg_dynbuf_slice(out, mqg_dynbuf_view(&body));
    out->failed = out->failed || body.failed;
    mqg_dynbuf_fini(&body);
}

bool kfk_encoder_add(struct kfk_encoder *e, const struct kfk_record *r)
{
    if (e->count == 0) {
        if (!mqg_dynbuf_reserve(&e->out, HEAD_BYTES))
            return false;
        e->out.len = HEAD_BYTES;
        e->base = r->offset;
        e->base_ms = e->max_ms = r->time_ms;
        e->append_time = r->append_time;
    }
    put_record(&e->out, e, r);
    if (e->out.failed)
        return false;
    e->last = r->offset;
    e->max_ms = r->time_ms > e->max_ms ? r->time_ms : e->max_ms;
    e->count++;
    return true;
}

struct mqg_buf *kfk_encoder_end(struct kfk_encoder *e)
{
    if (e->count == 0 || e->out.failed)
        return NULL;
    uint8_t *head = e->out.ptr;
    memset(head, 0, HEAD_BYTES);
    mqg_put_be64(head, e->base);
    mqg_put_be32(head + AT_LENGTH, (uint32_t)(e->out.len - AT_LENGTH - 4));
    head[AT_MAGIC] = 2;
    mqg_put_be16(head + AT_ATTRIBUTES, e->append_time ? ATTR_APPEND_TIME : 0);
    mqg_put_be32(head + AT_LAST_DELTA, (uint32_t)(e->last - e->base));
    mqg_put_be64(head + AT_TIME, (uint64_t)e->base_ms);
    mqg_put_be64(head + AT_MAX_TIME, (uint64_t)e->max_ms);
    memset(head + AT_PRODUCER, 0xff, 14); /* no producer: its state is the engine's */
    mqg_put_be32(head + AT_COUNT, e->count);
    mqg_put_be32(head + AT_CRC, mqg_crc32c(0, head + AT_ATTRIBUTES, e->out.len - AT_ATTRIBUTES));
    struct mqg_buf *buf = mqg_buf_new(e->out.len);
    if (buf)
        memcpy(buf->data, head, e->out.len);
    return buf;
}
