/* legacy.c - see legacy.h. */
#include "legacy.h"

#include "compression.h"

#include <zlib.h>

enum {
    ENTRY_MAGIC_AT = 16,
    SUM_FROM = 4, /* of a message: behind the sum */
    ATTR_CODEC = 7,
    ATTR_BROKER_TIME = 8,
};

struct legacy {
    struct mqg_batch_builder *out;
    struct mqg_dynbuf *scratch;
    const int64_t *outer_time_ms; /* the broker's, when the message around says so */
};

struct legacy_message {
    uint8_t magic, attributes;
    int64_t time_ms;
    bool null_key, null_value;
    struct mqg_slice key, value;
};

bool kafka_legacy_is(struct mqg_slice records)
{
    return records.len > ENTRY_MAGIC_AT && records.ptr[ENTRY_MAGIC_AT] < 2;
}

static struct mqg_slice legacy_bytes(struct mqg_cursor *c, bool *null)
{
    uint32_t len = mqg_cursor_be32(c);
    *null = len == UINT32_MAX;
    return *null ? mqg_slice_of(NULL, 0) : mqg_cursor_slice(c, len); /* other negatives are beyond any end */
}

static enum mqg_err legacy_message(struct mqg_slice in, struct legacy_message *m)
{
    struct mqg_cursor c = mqg_cursor_of(in);
    uint32_t sum = mqg_cursor_be32(&c);
    if (c.failed || sum != crc32_z(0, in.ptr + SUM_FROM, in.len - SUM_FROM))
        return MQG_MALFORMED;
    m->magic = mqg_cursor_u8(&c);
    m->attributes = mqg_cursor_u8(&c);
    m->time_ms = m->magic == 1 ? (int64_t)mqg_cursor_be64(&c) : -1;
    m->key = legacy_bytes(&c, &m->null_key);
    m->value = legacy_bytes(&c, &m->null_value);
    return c.failed || m->magic > 1 || mqg_cursor_left(&c) > 0 ? MQG_MALFORMED : MQG_OK;
}

static enum mqg_err legacy_plain(const struct legacy_message *m, struct mqg_dynbuf *out)
{
    mqg_dynbuf_reset(out);
    switch (m->attributes & ATTR_CODEC) {
    case 1: return kafka_gunzip(m->value, out);
    case 2: return kafka_unsnappy(m->value, out);
    case 3: return m->magic == 0 ? kafka_unlz4_magic0(m->value, out) : kafka_unlz4(m->value, out);
    default: return MQG_UNSUPPORTED;
    }
}

static enum mqg_err legacy_set(const struct legacy *l, struct mqg_slice set, bool inner);

static enum mqg_err legacy_wrapped(const struct legacy *l, const struct legacy_message *m)
{
    struct legacy inner = *l;
    enum mqg_err err = legacy_plain(m, l->scratch);
    if (err != MQG_OK)
        return err;
    if (m->magic == 1 && (m->attributes & ATTR_BROKER_TIME))
        inner.outer_time_ms = &m->time_ms;
    return legacy_set(&inner, mqg_dynbuf_view(l->scratch), true);
}

static enum mqg_err legacy_add(const struct legacy *l, const struct legacy_message *m, bool inner)
{
    if (m->attributes & ATTR_CODEC)
        return inner ? MQG_UNSUPPORTED : legacy_wrapped(l, m);
    int64_t time_ms = l->outer_time_ms ? *l->outer_time_ms : m->time_ms;
    return mqg_builder_record(l->out, time_ms, m->key, m->null_key, m->value, m->null_value) ? MQG_OK
                                                                                             : MQG_TOO_LARGE;
}

static enum mqg_err legacy_set(const struct legacy *l, struct mqg_slice set, bool inner)
{
    struct mqg_cursor c = mqg_cursor_of(set);
    struct legacy_message m;
    enum mqg_err err = mqg_cursor_left(&c) ? MQG_OK : MQG_MALFORMED;
    while (err == MQG_OK && mqg_cursor_left(&c) > 0) {
        (void)mqg_cursor_be64(&c); /* the offset: given anew */
        struct mqg_slice bytes = mqg_cursor_slice(&c, mqg_cursor_be32(&c));
        err = c.failed ? MQG_MALFORMED : legacy_message(bytes, &m);
        if (err == MQG_OK)
            err = legacy_add(l, &m, inner);
    }
    return err;
}

enum mqg_err kafka_legacy_up(struct mqg_slice set, int64_t now_ms, struct mqg_batch_builder *out,
                             struct mqg_dynbuf *scratch)
{
    struct legacy l = {.out = out, .scratch = scratch};
    mqg_builder_begin(out);
    enum mqg_err err = legacy_set(&l, set, false);
    if (out->max_time_ms < 0)
        out->max_time_ms = now_ms;
    return err;
}
