/* batch.c - see batch.h. Written from the format's description alone, so that an adapter which shares a mistake with its
 * own encoder is found out. */
#include "batch.h"

enum {
    AT_LENGTH = 8,
    AT_EPOCH = 12,
    AT_MAGIC = 16,
    AT_CRC = 17,
    AT_ATTRIBUTES = 21,
    AT_LAST_DELTA = 23,
    AT_TIME = 27,
    AT_MAX_TIME = 35,
    AT_PRODUCER = 43,
    AT_COUNT = 57
};

static void put_zigzag(struct mqg_dynbuf *out, int64_t v)
{
    mqg_dynbuf_varint(out, v < 0 ? ~((uint64_t)v << 1) : (uint64_t)v << 1);
}

static int64_t take_zigzag(struct mqg_cursor *c)
{
    uint64_t v = mqg_cursor_varint(c);
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

/* Bytes with a length before them; -1 is null. */
static void put_bytes(struct mqg_dynbuf *out, const char *ptr, int64_t len)
{
    put_zigzag(out, len);
    if (len > 0)
        mqg_dynbuf_put(out, ptr, (size_t)len);
}

static void put_filler(struct mqg_dynbuf *out, uint64_t seed, uint32_t len)
{
    uint8_t *to = mqg_dynbuf_reserve(out, len);
    MQG_ASSERT(to != NULL || len == 0);
    for (uint32_t i = 0; i < len; i++)
        to[i] = (uint8_t)((seed * 0x9e3779b97f4a7c15u + i * 2654435761u) >> 24);
    out->len += len;
}

static void put_headers(struct mqg_dynbuf *out, uint64_t seed)
{
    put_zigzag(out, 3);
    put_bytes(out, "kind", 4);
    put_bytes(out, "twice", 5);
    put_bytes(out, "kind", 4); /* names may repeat */
    put_bytes(out, (const char *)&seed, sizeof(seed));
    put_bytes(out, "nothing", 7);
    put_bytes(out, NULL, -1);
}

static void put_record(struct mqg_dynbuf *out, const struct batch_spec *s, uint32_t i)
{
    uint64_t seed = s->seed + i;
    struct mqg_dynbuf body;
    mqg_dynbuf_init(&body, (size_t)s->value_bytes + 256);
    mqg_dynbuf_u8(&body, 0);
    put_zigzag(&body, i);
    put_zigzag(&body, i);
    if (s->rich && i % 3 == 1)
        put_bytes(&body, NULL, -1);
    else
        put_bytes(&body, (const char *)&seed, s->rich && i % 3 == 2 ? 0 : (int64_t)sizeof(seed));
    if (s->rich && i % 4 == 3) {
        put_bytes(&body, NULL, -1);
    } else {
        put_zigzag(&body, s->value_bytes);
        put_filler(&body, seed, s->value_bytes);
    }
    if (s->rich)
        put_headers(&body, seed);
    else
        put_zigzag(&body, 0);
    put_zigzag(out, (int64_t)body.len);
    mqg_dynbuf_slice(out, mqg_dynbuf_view(&body));
    mqg_dynbuf_fini(&body);
}

void batch_build(struct mqg_dynbuf *out, const struct batch_spec *s)
{
    size_t at = out->len;
    uint8_t *head = mqg_dynbuf_reserve(out, BATCH_HEAD_BYTES);
    MQG_ASSERT(head != NULL && s->count > 0);
    memset(head, 0, BATCH_HEAD_BYTES);
    out->len += BATCH_HEAD_BYTES;
    for (uint32_t i = 0; i < s->count; i++)
        put_record(out, s, i);
    MQG_ASSERT(!out->failed);
    head = out->ptr + at;
    mqg_put_be64(head, s->base);
    mqg_put_be32(head + AT_LENGTH, (uint32_t)(out->len - at - 12));
    mqg_put_be32(head + AT_EPOCH, 0);
    head[AT_MAGIC] = 2;
    mqg_put_be32(head + AT_LAST_DELTA, s->count - 1);
    mqg_put_be64(head + AT_TIME, s->time_ms);
    mqg_put_be64(head + AT_MAX_TIME, s->time_ms + s->count - 1);
    memset(head + AT_PRODUCER, 0xff, 14); /* no producer */
    mqg_put_be32(head + AT_COUNT, s->count);
    mqg_put_be32(head + AT_CRC, mqg_crc32c(0, head + AT_ATTRIBUTES, out->len - at - AT_ATTRIBUTES));
}

bool batch_next(struct mqg_slice *in, struct batch_view *out, bool *bad)
{
    if (in->len == 0)
        return false;
    *bad = true;
    if (in->len < BATCH_HEAD_BYTES || in->ptr[AT_MAGIC] != 2)
        return false;
    size_t len = (size_t)mqg_be32(in->ptr + AT_LENGTH) + 12;
    if (len < BATCH_HEAD_BYTES || len > in->len)
        return false;
    if (mqg_be32(in->ptr + AT_CRC) != mqg_crc32c(0, in->ptr + AT_ATTRIBUTES, len - AT_ATTRIBUTES))
        return false;
    out->bytes = mqg_slice_of(in->ptr, len);
    out->base = mqg_be64(in->ptr);
    out->end = out->base + mqg_be32(in->ptr + AT_LAST_DELTA) + 1;
    out->max_time_ms = mqg_be64(in->ptr + AT_MAX_TIME);
    out->count = mqg_be32(in->ptr + AT_COUNT);
    *in = mqg_slice_of(in->ptr + len, in->len - len);
    *bad = false;
    return true;
}

static uint64_t digest_add(uint64_t digest, const void *ptr, size_t n)
{
    const uint8_t *p = ptr;
    for (size_t i = 0; i < n; i++)
        digest = (digest ^ p[i]) * 0x100000001b3u;
    return digest;
}

/* Takes a field and adds it with its length, so that null, empty and shifted bytes all differ. */
static uint64_t digest_field(struct mqg_cursor *c, uint64_t digest)
{
    int64_t len = take_zigzag(c);
    if (len < -1) {
        mqg_cursor_fail(c);
        return digest;
    }
    struct mqg_slice bytes = len > 0 ? mqg_cursor_slice(c, (size_t)len) : MQG_SLICE_NONE;
    digest = digest_add(digest, &len, sizeof(len));
    return digest_add(digest, bytes.ptr, bytes.len);
}

static bool take_record(struct mqg_cursor *all, const struct batch_view *b, struct batch_record *r)
{
    int64_t len = take_zigzag(all);
    if (len < 0)
        return false;
    struct mqg_cursor c = mqg_cursor_sub(all, (size_t)len);
    (void)mqg_cursor_u8(&c);
    r->time_ms = (int64_t)mqg_be64(b->bytes.ptr + AT_TIME) + take_zigzag(&c);
    r->offset = b->base + (uint64_t)take_zigzag(&c);
    r->digest = digest_add(0xcbf29ce484222325u, &r->time_ms, sizeof(r->time_ms));
    r->digest = digest_field(&c, r->digest);
    r->digest = digest_field(&c, r->digest);
    int64_t headers = take_zigzag(&c);
    for (int64_t i = 0; i < headers * 2 && !c.failed; i++)
        r->digest = digest_field(&c, r->digest);
    return mqg_cursor_done(&c);
}

bool batch_records(const struct batch_view *b, void (*visit)(void *arg, const struct batch_record *r),
                   void *arg)
{
    if ((mqg_be16(b->bytes.ptr + AT_ATTRIBUTES) & 7) != 0)
        return false;
    struct mqg_cursor c = mqg_cursor_of(
        mqg_slice_of(b->bytes.ptr + BATCH_HEAD_BYTES, b->bytes.len - BATCH_HEAD_BYTES));
    for (uint32_t i = 0; i < b->count; i++) {
        struct batch_record r;
        if (!take_record(&c, b, &r))
            return false;
        visit(arg, &r);
    }
    return mqg_cursor_done(&c);
}
