/* props.c - reads and writes the properties of class basic.
 *
 * The order of the flags is the order of the properties, so a scan is a straight line of tests with a cursor
 * that remembers a failure: the end is checked once. Most messages carry two to four properties; the tests
 * that are not taken cost less than a loop over a table would. */
#include "props.h"
#include "table.h"

static struct mqg_slice props_str(struct mqg_cursor *c, unsigned flags, enum amqp_prop_flag flag)
{
    return (flags & (unsigned)flag) != 0 ? amqp_get_shortstr(c) : MQG_SLICE_NONE;
}

enum mqg_err amqp_props_scan(struct mqg_slice raw, struct amqp_props *out)
{
    struct mqg_cursor c = mqg_cursor_of(raw);
    const unsigned flags = mqg_cursor_be16(&c);
    out->flags = (uint16_t)flags;
    out->content_type = props_str(&c, flags, AMQP_PROP_CONTENT_TYPE);
    out->content_encoding = props_str(&c, flags, AMQP_PROP_CONTENT_ENCODING);
    out->headers = (flags & AMQP_PROP_HEADERS) != 0 ? amqp_get_longstr(&c) : MQG_SLICE_NONE;
    out->delivery_mode = (flags & AMQP_PROP_DELIVERY_MODE) != 0 ? mqg_cursor_u8(&c) : 0;
    out->priority = (flags & AMQP_PROP_PRIORITY) != 0 ? mqg_cursor_u8(&c) : 0;
    out->correlation_id = props_str(&c, flags, AMQP_PROP_CORRELATION_ID);
    out->reply_to = props_str(&c, flags, AMQP_PROP_REPLY_TO);
    out->expiration = props_str(&c, flags, AMQP_PROP_EXPIRATION);
    out->message_id = props_str(&c, flags, AMQP_PROP_MESSAGE_ID);
    out->timestamp_s = (flags & AMQP_PROP_TIMESTAMP) != 0 ? mqg_cursor_be64(&c) : 0;
    out->type = props_str(&c, flags, AMQP_PROP_TYPE);
    out->user_id = props_str(&c, flags, AMQP_PROP_USER_ID);
    out->app_id = props_str(&c, flags, AMQP_PROP_APP_ID);
    out->cluster_id = props_str(&c, flags, AMQP_PROP_CLUSTER_ID);
    if (MQG_UNLIKELY((flags & AMQP_PROP_RESERVED) != 0))
        return MQG_UNSUPPORTED;
    if (MQG_UNLIKELY(!mqg_cursor_done(&c)))
        return MQG_MALFORMED;
    return out->headers.len != 0 ? amqp_table_check(out->headers) : MQG_OK;
}

size_t amqp_props_size(const struct amqp_props *props)
{
    size_t n = 2;
#define PROPS_STR_SIZE(FLAG, member) n += amqp_props_has(props, AMQP_PROP_##FLAG) ? 1 + props->member.len : 0
    PROPS_STR_SIZE(CONTENT_TYPE, content_type);
    PROPS_STR_SIZE(CONTENT_ENCODING, content_encoding);
    n += amqp_props_has(props, AMQP_PROP_HEADERS) ? 4 + props->headers.len : 0;
    n += amqp_props_has(props, AMQP_PROP_DELIVERY_MODE) ? 1 : 0;
    n += amqp_props_has(props, AMQP_PROP_PRIORITY) ? 1 : 0;
    PROPS_STR_SIZE(CORRELATION_ID, correlation_id);
    PROPS_STR_SIZE(REPLY_TO, reply_to);
    PROPS_STR_SIZE(EXPIRATION, expiration);
    PROPS_STR_SIZE(MESSAGE_ID, message_id);
    n += amqp_props_has(props, AMQP_PROP_TIMESTAMP) ? 8 : 0;
    PROPS_STR_SIZE(TYPE, type);
    PROPS_STR_SIZE(USER_ID, user_id);
    PROPS_STR_SIZE(APP_ID, app_id);
    PROPS_STR_SIZE(CLUSTER_ID, cluster_id);
#undef PROPS_STR_SIZE
    return n;
}

static uint8_t *props_put_str(uint8_t *p, const struct amqp_props *props, enum amqp_prop_flag flag,
                              struct mqg_slice value)
{
    return amqp_props_has(props, flag) ? amqp_put_shortstr(p, value) : p;
}

uint8_t *amqp_props_write(uint8_t *p, const struct amqp_props *props)
{
    MQG_ASSERT((props->flags & AMQP_PROP_RESERVED) == 0);
    p = amqp_put_be16(p, props->flags);
    p = props_put_str(p, props, AMQP_PROP_CONTENT_TYPE, props->content_type);
    p = props_put_str(p, props, AMQP_PROP_CONTENT_ENCODING, props->content_encoding);
    p = amqp_props_has(props, AMQP_PROP_HEADERS) ? amqp_put_longstr(p, props->headers) : p;
    p = amqp_props_has(props, AMQP_PROP_DELIVERY_MODE) ? amqp_put_u8(p, props->delivery_mode) : p;
    p = amqp_props_has(props, AMQP_PROP_PRIORITY) ? amqp_put_u8(p, props->priority) : p;
    p = props_put_str(p, props, AMQP_PROP_CORRELATION_ID, props->correlation_id);
    p = props_put_str(p, props, AMQP_PROP_REPLY_TO, props->reply_to);
    p = props_put_str(p, props, AMQP_PROP_EXPIRATION, props->expiration);
    p = props_put_str(p, props, AMQP_PROP_MESSAGE_ID, props->message_id);
    p = amqp_props_has(props, AMQP_PROP_TIMESTAMP) ? amqp_put_be64(p, props->timestamp_s) : p;
    p = props_put_str(p, props, AMQP_PROP_TYPE, props->type);
    p = props_put_str(p, props, AMQP_PROP_USER_ID, props->user_id);
    p = props_put_str(p, props, AMQP_PROP_APP_ID, props->app_id);
    return props_put_str(p, props, AMQP_PROP_CLUSTER_ID, props->cluster_id);
}

enum mqg_err amqp_content_peek(struct mqg_slice payload, struct amqp_content *out)
{
    struct mqg_cursor c = mqg_cursor_of(payload);
    out->class_id = mqg_cursor_be16(&c);
    const uint16_t weight = mqg_cursor_be16(&c);
    out->body_bytes = mqg_cursor_be64(&c);
    out->raw = mqg_cursor_slice(&c, mqg_cursor_left(&c));
    return !c.failed && out->raw.len >= 2 && weight == 0 ? MQG_OK : MQG_MALFORMED;
}
