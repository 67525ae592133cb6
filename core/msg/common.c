/* common.c - the common view as origin bytes, for messages that no protocol's own bytes belong to.
 *
 *   version 1 | has 4 | nine texts (length 4, bytes), those that `has` names | timestamp 8 | expiration 8 | priority 1 |
 *   delivery mode 1 | headers in value.h's encoding                                                   (little-endian)
 *
 * A record of a stream, read by a protocol that has no way to write its own form, becomes such a message; so does what the
 * node itself makes. Empty origin bytes are an empty view. */
#include "common.h"

enum { COMMON_VERSION = 1 };

static enum mqg_err common_encode(const struct mqg_view *v, struct mqg_arena *a, struct mqg_dynbuf *out)
{
    (void)a;
    mqg_dynbuf_u8(out, COMMON_VERSION);
    mqg_dynbuf_le32(out, v->has);
    for (size_t i = 0; i < VIEW_TEXTS; i++) {
        if ((v->has & view_texts[i].bit) == 0)
            continue;
        struct mqg_slice s = *view_text_at((struct mqg_view *)(uintptr_t)v, i);
        mqg_dynbuf_le32(out, (uint32_t)s.len);
        mqg_dynbuf_slice(out, s);
    }
    mqg_dynbuf_le64(out, v->timestamp_us);
    mqg_dynbuf_le64(out, v->expiration_ms);
    mqg_dynbuf_u8(out, v->priority);
    mqg_dynbuf_u8(out, v->delivery_mode);
    mqg_table_encode(out, &v->headers);
    return out->failed ? MQG_TOO_LARGE : MQG_OK;
}

static enum mqg_err common_decode(struct mqg_slice origin, struct mqg_arena *a, struct mqg_view *out)
{
    *out = (struct mqg_view){.has = 0};
    if (origin.len == 0)
        return MQG_OK;
    struct mqg_cursor c = mqg_cursor_of(origin);
    if (mqg_cursor_u8(&c) != COMMON_VERSION)
        return MQG_UNSUPPORTED;
    out->has = mqg_cursor_le32(&c);
    for (size_t i = 0; i < VIEW_TEXTS; i++)
        if (out->has & view_texts[i].bit)
            *view_text_at(out, i) = mqg_cursor_slice(&c, mqg_cursor_le32(&c));
    out->timestamp_us = mqg_cursor_le64(&c);
    out->expiration_ms = mqg_cursor_le64(&c);
    out->priority = mqg_cursor_u8(&c);
    out->delivery_mode = mqg_cursor_u8(&c);
    if (c.failed)
        return MQG_MALFORMED;
    return mqg_table_decode(mqg_cursor_slice(&c, mqg_cursor_left(&c)), a, &out->headers);
}

const struct mqg_origin_ops common_origin_ops = {
    .proto = MQG_PROTO_INTERNAL, .decode = common_decode, .encode = common_encode};
