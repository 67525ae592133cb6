/* acl_store.c - ACLs as metadata, one record each.
 *
 *   key    kafka-acl/VHOST/TYPE/PATTERN/NAME/PRINCIPAL/HOST/OPERATION/PERMISSION     parts percent-encoded
 *   value  | 1 | type | pattern | operation | permission | vhost | name | principal | host |   strings: u16 length, bytes; little-endian
 */
#include "acl.h"

enum { ACL_VERSION = 1 };

static void acl_part(struct mqg_dynbuf *out, struct mqg_slice part)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    for (size_t i = 0; i < part.len; i++) {
        uint8_t c = part.ptr[i];
        if (c != 0 && strchr(plain, c) != NULL)
            mqg_dynbuf_u8(out, c);
        else
            mqg_dynbuf_printf(out, "%%%02X", c);
    }
    mqg_dynbuf_u8(out, '/');
}

void kafka_acl_key(struct mqg_dynbuf *out, const struct kafka_acl_rule *r)
{
    mqg_dynbuf_slice(out, MQG_SLICE_LIT(KAFKA_ACL_PREFIX));
    acl_part(out, r->vhost);
    mqg_dynbuf_printf(out, "%u/%u/", r->type, r->pattern);
    acl_part(out, r->name);
    acl_part(out, r->principal);
    acl_part(out, r->host);
    mqg_dynbuf_printf(out, "%u/%u", r->op, r->permission);
}

static void acl_put(struct mqg_dynbuf *out, struct mqg_slice s)
{
    mqg_dynbuf_le16(out, (uint16_t)s.len);
    mqg_dynbuf_slice(out, s);
}

void kafka_acl_encode(struct mqg_dynbuf *out, const struct kafka_acl_rule *r)
{
    const uint8_t head[] = {ACL_VERSION, r->type, r->pattern, r->op, r->permission};
    mqg_dynbuf_put(out, head, sizeof head);
    acl_put(out, r->vhost);
    acl_put(out, r->name);
    acl_put(out, r->principal);
    acl_put(out, r->host);
}

static struct mqg_slice acl_take(struct mqg_cursor *c)
{
    struct mqg_slice s = mqg_cursor_slice(c, mqg_cursor_le16(c));
    if (s.len > KAFKA_ACL_TEXT_MAX_BYTES)
        mqg_cursor_fail(c);
    return s;
}

enum mqg_err kafka_acl_decode(struct mqg_slice value, struct kafka_acl_rule *out)
{
    struct mqg_cursor c = mqg_cursor_of(value);
    if (mqg_cursor_u8(&c) != ACL_VERSION)
        return MQG_UNSUPPORTED;
    out->type = mqg_cursor_u8(&c);
    out->pattern = mqg_cursor_u8(&c);
    out->op = mqg_cursor_u8(&c);
    out->permission = mqg_cursor_u8(&c);
    out->vhost = acl_take(&c);
    out->name = acl_take(&c);
    out->principal = acl_take(&c);
    out->host = acl_take(&c);
    if (!mqg_cursor_done(&c))
        return MQG_CORRUPT;
    bool known = out->type >= KAFKA_RESOURCE_TOPIC && out->type <= KAFKA_RESOURCE_TRANSACTIONAL_ID &&
                 (out->pattern == KAFKA_PATTERN_LITERAL || out->pattern == KAFKA_PATTERN_PREFIXED) &&
                 out->op >= KAFKA_OP_ALL && out->op <= KAFKA_OP_IDEMPOTENT_WRITE &&
                 (out->permission == KAFKA_PERMISSION_DENY || out->permission == KAFKA_PERMISSION_ALLOW);
    return known ? MQG_OK : MQG_UNSUPPORTED;
}
