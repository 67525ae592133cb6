/* packets.c - whole packets: what clients send, decoded and checked against chapter 3; what the server sends, put together.
 *
 * The order of the checks is that of the bytes, so the first fault is the one that is reported. */
#include "wire.h"

static enum mqg_err packet_malformed(struct mqg_error *e, const char *what)
{
    return mqg_error_set(e, MQG_MALFORMED, MQTT_RC_MALFORMED_PACKET, "%s", what);
}

static enum mqg_err packet_wrong(struct mqg_error *e, const char *what)
{
    return mqg_error_set(e, MQG_INVALID, MQTT_RC_PROTOCOL_ERROR, "%s", what);
}

/* ---- CONNECT (3.1) ------------------------------------------------------------------------------------------- */

static enum mqg_err connect_version(struct mqg_cursor *c, struct mqtt_connect *out, struct mqg_error *e)
{
    struct mqg_slice name = mqtt_get_bytes(c);
    uint8_t level = mqg_cursor_u8(c);
    if (c->failed)
        return packet_malformed(e, "cannot decode CONNECT");
    if (mqg_slice_eq(name, MQG_SLICE_LIT("MQTT")) && (level == MQTT_311 || level == MQTT_5))
        out->version = (enum mqtt_version)level;
    else if (mqg_slice_eq(name, MQG_SLICE_LIT("MQIsdp")) && level == MQTT_31)
        out->version = MQTT_31;
    else
        return mqg_error_set(e, MQG_UNSUPPORTED, MQTT_RC_UNSUPPORTED_VERSION,
                             "protocol '%.*s' level %u is not supported", MQG_SLICE_FMT(name), level);
    return MQG_OK;
}

static enum mqg_err connect_flags(uint8_t flags, struct mqtt_connect *out, struct mqg_error *e)
{
    out->clean = (flags & 2) != 0;
    out->has_will = (flags & 4) != 0;
    out->will_qos = flags >> 3 & 3;
    out->will_retain = (flags & 32) != 0;
    out->has_password = (flags & 64) != 0;
    out->has_user = (flags & 128) != 0;
    if (flags & 1) /* [MQTT-3.1.2-3] */
        return packet_malformed(e, "CONNECT with the reserved flag");
    if (out->will_qos == 3 || (!out->has_will && (out->will_qos > 0 || out->will_retain)))
        return packet_malformed(e, "CONNECT with will flags that do not fit");
    if (out->has_password && !out->has_user && out->version != MQTT_5) /* 3.1.1: [MQTT-3.1.2-22] */
        return packet_malformed(e, "CONNECT with a password and no user name");
    return MQG_OK;
}

static enum mqg_err connect_will(struct mqg_cursor *c, struct mqtt_connect *out, struct mqg_error *e)
{
    if (!out->has_will)
        return MQG_OK;
    if (out->version == MQTT_5) {
        enum mqg_err err = mqtt_props_get(c, MQTT_IN_WILL, &out->will_props, e);
        if (err != MQG_OK)
            return err;
    }
    out->will_topic = mqtt_get_bytes(c);
    out->will_payload = mqtt_get_bytes(c);
    if (c->failed || !mqtt_utf8_ok(out->will_topic))
        return packet_malformed(e, "cannot decode the will");
    if (!mqtt_topic_ok(out->will_topic))
        return mqg_error_set(e, MQG_INVALID, MQTT_RC_TOPIC_INVALID, "the will's topic is not valid");
    return MQG_OK;
}

enum mqg_err mqtt_connect_decode(struct mqg_slice body, struct mqtt_connect *out, struct mqg_error *e)
{
    struct mqg_cursor c = mqg_cursor_of(body);
    memset(out, 0, sizeof(*out));
    enum mqg_err err = connect_version(&c, out, e);
    if (err == MQG_OK)
        err = connect_flags(mqg_cursor_u8(&c), out, e);
    if (err != MQG_OK)
        return err;
    out->keep_alive_s = mqg_cursor_be16(&c);
    if (out->version == MQTT_5)
        err = mqtt_props_get(&c, MQTT_IN(CONNECT), &out->props, e);
    if (err != MQG_OK)
        return err;
    out->client_id = mqtt_get_bytes(&c);
    if (c.failed || !mqtt_utf8_ok(out->client_id))
        return packet_malformed(e, "cannot decode the client identifier");
    err = connect_will(&c, out, e);
    if (err != MQG_OK)
        return err;
    if (out->has_user)
        out->user = mqtt_get_bytes(&c);
    if (out->has_password)
        out->password = mqtt_get_bytes(&c);
    if (!mqg_cursor_done(&c) || !mqtt_utf8_ok(out->user))
        return packet_malformed(e, "cannot decode CONNECT");
    if (mqtt_has(&out->props, MQTT_P_AUTH_DATA) && !mqtt_has(&out->props, MQTT_P_AUTH_METHOD))
        return packet_wrong(e, "authentication data without a method");
    return MQG_OK;
}

/* ---- PUBLISH (3.3) -------------------------------------------------------------------------------------------- */

static enum mqg_err publish_flags(const struct mqtt_head *h, struct mqtt_publish *out, struct mqg_error *e)
{
    out->dup = (h->flags & 8) != 0;
    out->qos = h->flags >> 1 & 3;
    out->retain = (h->flags & 1) != 0;
    if (out->qos == 3)
        return packet_malformed(e, "PUBLISH with QoS 3");
    if (out->dup && out->qos == 0)
        return packet_malformed(e, "PUBLISH with DUP and QoS 0");
    return MQG_OK;
}

/* How many bytes the variable header has; MORE when the input does not say yet. */
static enum mqg_err publish_extent(const struct mqtt_head *h, struct mqg_slice in, enum mqtt_version v,
                                   uint32_t *bytes, struct mqg_error *e)
{
    struct mqg_slice known = mqg_slice_of(in.ptr, in.len < h->body_bytes ? in.len : h->body_bytes);
    bool all = known.len == h->body_bytes;
    struct mqg_cursor c = mqg_cursor_of(known);
    mqtt_get_bytes(&c);
    if (h->flags & 6)
        mqg_cursor_be16(&c);
    if (v == MQTT_5) {
        struct mqg_cursor before = c;
        uint32_t n = mqtt_get_varint(&c);
        bool endless = c.failed && !before.failed && mqg_cursor_left(&before) >= 4;
        if (endless)
            return packet_malformed(e, "cannot decode PUBLISH");
        mqg_cursor_take(&c, n);
    }
    if (c.failed && all)
        return packet_malformed(e, "cannot decode PUBLISH");
    if (c.failed)
        return MQG_MORE;
    *bytes = (uint32_t)(c.pos - known.ptr);
    return MQG_OK;
}

static enum mqg_err publish_topic(const struct mqtt_publish *p, struct mqg_error *e)
{
    bool aliased = mqtt_has(&p->props, MQTT_P_TOPIC_ALIAS);
    if (p->topic.len == 0 && aliased)
        return MQG_OK;
    if (!mqtt_utf8_ok(p->topic))
        return packet_malformed(e, "the topic name is not UTF-8");
    if (p->topic.len == 0)
        return packet_wrong(e, "PUBLISH without a topic name");
    if (!mqtt_topic_ok(p->topic))
        return mqg_error_set(e, MQG_INVALID, MQTT_RC_TOPIC_INVALID, "the topic name is not valid");
    return MQG_OK;
}

enum mqg_err mqtt_publish_decode(const struct mqtt_head *h, struct mqg_slice in, enum mqtt_version v,
                                 struct mqtt_publish *out, struct mqg_error *e)
{
    uint32_t bytes = 0;
    enum mqg_err err = publish_flags(h, out, e);
    if (err == MQG_OK)
        err = publish_extent(h, in, v, &bytes, e);
    if (err != MQG_OK)
        return err;
    struct mqg_cursor c = mqg_cursor_of(mqg_slice_of(in.ptr, bytes));
    out->topic = mqtt_get_bytes(&c);
    out->packet_id = out->qos > 0 ? mqg_cursor_be16(&c) : 0;
    out->props.has = 0;
    out->props.raw = MQG_SLICE_NONE;
    if (v == MQTT_5)
        err = mqtt_props_get(&c, MQTT_IN(PUBLISH), &out->props, e);
    if (err != MQG_OK)
        return err;
    if (!mqg_cursor_done(&c))
        return packet_malformed(e, "cannot decode PUBLISH");
    out->head_bytes = bytes;
    out->payload_bytes = h->body_bytes - bytes;
    if (out->qos > 0 && out->packet_id == 0)
        return packet_wrong(e, "PUBLISH with packet identifier 0");
    if (mqtt_has(&out->props, MQTT_P_SUBSCRIPTION_ID)) /* [MQTT-3.3.4-6] */
        return packet_wrong(e, "PUBLISH from a client with a subscription identifier");
    if (mqtt_has(&out->props, MQTT_P_RESPONSE_TOPIC) && !mqtt_topic_ok(out->props.str[MQTT_P_RESPONSE_TOPIC]))
        return packet_wrong(e, "the response topic is not a topic name");
    return publish_topic(out, e);
}

/* ---- SUBSCRIBE, UNSUBSCRIBE (3.8, 3.10) ------------------------------------------------------------------------- */

static enum mqg_err filter_options(uint8_t o, enum mqtt_version v, struct mqg_error *e)
{
    if ((o & 3) == 3 || (o & (v == MQTT_5 ? 0xc0 : 0xfc)) != 0)
        return packet_malformed(e, "SUBSCRIBE with reserved bits in its options");
    if (v == MQTT_5 && (o >> 4 & 3) == 3)
        return packet_wrong(e, "SUBSCRIBE with retain handling 3");
    return MQG_OK;
}

static enum mqg_err filters_check(struct mqtt_filters *f, struct mqg_error *e)
{
    struct mqg_cursor c = f->cursor;
    while (mqg_cursor_left(&c) > 0) {
        struct mqg_slice name = mqtt_get_bytes(&c);
        uint8_t options = f->with_options ? mqg_cursor_u8(&c) : 0;
        if (c.failed || !mqtt_utf8_ok(name))
            return packet_malformed(e, "cannot decode a topic filter");
        enum mqg_err err = filter_options(options, f->version, e);
        if (err != MQG_OK)
            return err;
        struct mqg_slice group, filter;
        bool bad;
        bool shared = f->with_options && mqtt_share_split(name, &group, &filter, &bad);
        if (shared && !bad && f->version == MQTT_5 && (options & 4)) /* [MQTT-3.8.3-4] */
            return packet_wrong(e, "no-local on a shared subscription");
        f->n++;
    }
    return f->n > 0 ? MQG_OK : packet_wrong(e, "no topic filter");
}

enum mqg_err mqtt_filters_decode(enum mqtt_type type, struct mqg_slice body, enum mqtt_version v,
                                 struct mqtt_filters *out, struct mqg_error *e)
{
    struct mqg_cursor c = mqg_cursor_of(body);
    *out = (struct mqtt_filters){.with_options = type == MQTT_SUBSCRIBE, .version = v};
    out->packet_id = mqg_cursor_be16(&c);
    if (c.failed)
        return packet_malformed(e, "cannot decode the packet identifier");
    if (out->packet_id == 0)
        return packet_wrong(e, "packet identifier 0");
    if (v == MQTT_5) {
        struct mqtt_props p;
        enum mqg_err err = mqtt_props_get(&c, 1u << type, &p, e);
        if (err != MQG_OK)
            return err;
        out->subscription_id = mqtt_num(&p, MQTT_P_SUBSCRIPTION_ID, 0);
    }
    out->cursor = c;
    return filters_check(out, e);
}

bool mqtt_filters_next(struct mqtt_filters *f, struct mqtt_filter *out)
{
    if (mqg_cursor_left(&f->cursor) == 0)
        return false;
    out->name = mqtt_get_bytes(&f->cursor);
    uint8_t o = f->with_options ? mqg_cursor_u8(&f->cursor) : 0;
    out->qos = o & 3;
    out->no_local = (o & 4) != 0;
    out->retain_as_published = (o & 8) != 0;
    out->retain_handling = o >> 4 & 3;
    return !f->cursor.failed;
}

/* ---- DISCONNECT, AUTH (3.14, 3.15) --------------------------------------------------------------------------------- */

enum mqg_err mqtt_goodbye_decode(enum mqtt_type type, struct mqg_slice body, enum mqtt_version v,
                                 struct mqtt_goodbye *out, struct mqg_error *e)
{
    struct mqg_cursor c = mqg_cursor_of(body);
    out->reason = 0;
    out->props.has = 0;
    out->props.raw = MQG_SLICE_NONE;
    if (v != MQTT_5 && body.len > 0)
        return packet_malformed(e, "DISCONNECT with a body");
    if (body.len > 0)
        out->reason = mqg_cursor_u8(&c);
    if (mqg_cursor_left(&c) > 0) {
        enum mqg_err err = mqtt_props_get(&c, 1u << type, &out->props, e);
        if (err != MQG_OK)
            return err;
    }
    if (!mqg_cursor_done(&c))
        return packet_malformed(e, "bytes behind the properties");
    bool auth_ok = out->reason == MQTT_RC_CONTINUE_AUTHENTICATION || out->reason == MQTT_RC_REAUTHENTICATE;
    if (type == MQTT_AUTH && !auth_ok)
        return packet_wrong(e, "AUTH with a reason that is not a client's");
    if (type == MQTT_DISCONNECT && strcmp(mqtt_reason_name(out->reason), "unknown") == 0)
        return packet_malformed(e, "DISCONNECT with an unknown reason");
    return MQG_OK;
}

/* ---- out ------------------------------------------------------------------------------------------------------------- */

void mqtt_packet_put(struct mqg_dynbuf *out, enum mqtt_type type, enum mqtt_version v, struct mqg_slice head,
                     struct mqg_slice props, struct mqg_slice tail)
{
    uint8_t fixed[5], length[4];
    size_t n = v == MQTT_5 ? (size_t)(mqtt_put_varint(length, (uint32_t)props.len) - length) : 0;
    size_t body = head.len + (v == MQTT_5 ? n + props.len : 0) + tail.len;
    fixed[0] = (uint8_t)(type << 4);
    uint8_t *end = mqtt_put_varint(fixed + 1, (uint32_t)body);
    mqg_dynbuf_put(out, fixed, (size_t)(end - fixed));
    mqg_dynbuf_slice(out, head);
    if (v == MQTT_5) {
        mqg_dynbuf_put(out, length, n);
        mqg_dynbuf_slice(out, props);
    }
    mqg_dynbuf_slice(out, tail);
}
