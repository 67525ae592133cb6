/* overlay.c - what the hops changed, encoded beside the untouched origin bytes.
 *
 *   version:1 | flags:1 | drop:4 | [reply_to_len:2 | reply_to] | remove_len:4 | remove | set_len:4 | set
 *
 * All little-endian; remove and set are tables as mqg_table_encode writes them, or nothing. It is a stored format: a
 * later version is refused as unsupported, an unknown flag as corrupt, a byte left over as malformed. */
#include <mqgate/msg.h>

enum { OVERLAY_VERSION = 1, OVERLAY_REPLY_TO = 1, OVERLAY_TABLE_MAX_BYTES = 1 << 20 };

#define OVERLAY_PROPS_KNOWN ((uint32_t)MQG_PROP_CLUSTER_ID * 2 - 1)

static void overlay_put_table(struct mqg_dynbuf *out, const struct mqg_table *t)
{
    size_t at = out->len;
    if (!mqg_dynbuf_le32(out, 0) || t->n == 0)
        return;
    mqg_table_encode(out, t);
    if (!out->failed)
        mqg_put_le32(out->ptr + at, (uint32_t)(out->len - at - 4));
}

void mqg_overlay_encode(struct mqg_dynbuf *out, const struct mqg_overlay *o)
{
    MQG_ASSERT(o->reply_to.len <= UINT16_MAX);
    mqg_dynbuf_u8(out, OVERLAY_VERSION);
    mqg_dynbuf_u8(out, o->has_reply_to ? OVERLAY_REPLY_TO : 0);
    mqg_dynbuf_le32(out, o->drop);
    if (o->has_reply_to) {
        mqg_dynbuf_le16(out, (uint16_t)o->reply_to.len);
        mqg_dynbuf_slice(out, o->reply_to);
    }
    overlay_put_table(out, &o->remove);
    overlay_put_table(out, &o->set);
}

static enum mqg_err overlay_get_table(struct mqg_cursor *c, struct mqg_arena *a, struct mqg_table *t)
{
    uint32_t len = mqg_cursor_le32(c);
    if (len > OVERLAY_TABLE_MAX_BYTES)
        return MQG_TOO_LARGE;
    struct mqg_slice bytes = mqg_cursor_slice(c, len);
    if (c->failed)
        return MQG_MALFORMED;
    return len > 0 ? mqg_table_decode(bytes, a, t) : MQG_OK;
}

static enum mqg_err overlay_get_head(struct mqg_cursor *c, struct mqg_overlay *o)
{
    uint8_t version = mqg_cursor_u8(c);
    uint8_t flags = mqg_cursor_u8(c);
    o->drop = mqg_cursor_le32(c);
    if (!c->failed && version > OVERLAY_VERSION)
        return MQG_UNSUPPORTED;
    if (c->failed || version == 0 || flags > OVERLAY_REPLY_TO || o->drop > OVERLAY_PROPS_KNOWN)
        return MQG_MALFORMED;
    o->has_reply_to = flags != 0;
    if (o->has_reply_to)
        o->reply_to = mqg_cursor_slice(c, mqg_cursor_le16(c));
    return c->failed ? MQG_MALFORMED : MQG_OK;
}

enum mqg_err mqg_overlay_decode(struct mqg_slice in, struct mqg_arena *a, struct mqg_overlay *o)
{
    *o = (struct mqg_overlay){0};
    if (in.len == 0)
        return MQG_OK; /* no hop changed anything */
    struct mqg_cursor c = mqg_cursor_of(in);
    enum mqg_err err = overlay_get_head(&c, o);
    if (err == MQG_OK)
        err = overlay_get_table(&c, a, &o->remove);
    if (err == MQG_OK)
        err = overlay_get_table(&c, a, &o->set);
    if (err == MQG_OK && !mqg_cursor_done(&c))
        err = MQG_MALFORMED;
    return err;
}
