/* wire.c - the fixed header, the primitive types, acknowledgements; names of packets and reasons. */
#include "wire.h"

const char *mqtt_reason_name(int code)
{
    switch (code) {
#define MQTT_REASON_CASE(sym, value, name) \
    case value: return name;
        MQTT_REASONS(MQTT_REASON_CASE)
#undef MQTT_REASON_CASE
    default: return "unknown";
    }
}

const char *mqtt_type_name(unsigned type)
{
    switch (type) {
#define MQTT_TYPE_CASE(name, value, flags) \
    case value: return #name;
        MQTT_PACKETS(MQTT_TYPE_CASE)
#undef MQTT_TYPE_CASE
    default: return "reserved";
    }
}

/* ---- primitive types --------------------------------------------------------------------------------------- */

uint32_t mqtt_get_varint(struct mqg_cursor *c)
{
    uint32_t v = 0;
    for (unsigned shift = 0; shift < 28; shift += 7) {
        uint8_t b = mqg_cursor_u8(c);
        v |= (uint32_t)(b & 0x7f) << shift;
        if (b < 0x80) {
            if (b == 0 && shift > 0) /* [MQTT-1.5.5-1]: as few bytes as it takes */
                mqg_cursor_fail(c);
            return c->failed ? 0 : v;
        }
    }
    mqg_cursor_fail(c);
    return 0;
}

size_t mqtt_varint_bytes(uint32_t v)
{
    return v < 128 ? 1 : v < 16384 ? 2 : v < 2097152 ? 3 : 4;
}

uint8_t *mqtt_put_varint(uint8_t *p, uint32_t v)
{
    MQG_ASSERT(v <= MQTT_VARINT_MAX);
    for (; v >= 128; v >>= 7)
        *p++ = (uint8_t)(v | 0x80);
    *p++ = (uint8_t)v;
    return p;
}

struct mqg_slice mqtt_get_bytes(struct mqg_cursor *c)
{
    return mqg_cursor_slice(c, mqg_cursor_be16(c));
}

uint8_t *mqtt_put_bytes(uint8_t *p, struct mqg_slice s)
{
    MQG_ASSERT(s.len <= UINT16_MAX);
    mqg_put_be16(p, (uint16_t)s.len);
    if (s.len > 0)
        memcpy(p + 2, s.ptr, s.len);
    return p + 2 + s.len;
}

bool mqtt_utf8_ok(struct mqg_slice s)
{
    return s.len == 0 || (memchr(s.ptr, 0, s.len) == NULL && mqg_utf8_valid(s));
}

/* ---- fixed header -------------------------------------------------------------------------------------------- */

enum mqg_err mqtt_head_peek(struct mqg_slice in, struct mqtt_head *out)
{
    *out = (struct mqtt_head){0};
    if (in.len < 2)
        return MQG_MORE;
    uint32_t v = 0;
    for (uint8_t i = 0; i < 4; i++) {
        if (i + 1u >= in.len)
            return MQG_MORE;
        uint8_t b = in.ptr[i + 1];
        v |= (uint32_t)(b & 0x7f) << (7 * i);
        if (b >= 0x80)
            continue;
        if (b == 0 && i > 0)
            return MQG_MALFORMED;
        *out = (struct mqtt_head){in.ptr[0] >> 4, in.ptr[0] & 15, (uint8_t)(i + 2), v};
        return MQG_OK;
    }
    return MQG_MALFORMED;
}

enum mqg_err mqtt_head_check(const struct mqtt_head *h, enum mqtt_version v, struct mqg_error *e)
{
    static const uint8_t want[16] = {[0] = 17,
#define MQTT_FLAGS_ROW(name, value, flags) [value] = flags,
                                     MQTT_PACKETS(MQTT_FLAGS_ROW)
#undef MQTT_FLAGS_ROW
    };
    uint8_t flags = h->flags;
    if (v == MQTT_31 && want[h->type] == 2)
        flags &= 7;
    if (want[h->type] == 17 || (want[h->type] != 16 && flags != want[h->type]))
        return mqg_error_set(e, MQG_MALFORMED, MQTT_RC_MALFORMED_PACKET, "%s with flags %u",
                             mqtt_type_name(h->type), h->flags);
    bool ours = h->type == MQTT_CONNACK || h->type == MQTT_SUBACK || h->type == MQTT_UNSUBACK ||
                h->type == MQTT_PINGRESP || (h->type == MQTT_AUTH && v != MQTT_5);
    if (ours)
        return mqg_error_set(e, MQG_INVALID, MQTT_RC_PROTOCOL_ERROR, "%s from a client",
                             mqtt_type_name(h->type));
    return MQG_OK;
}

/* ---- acknowledgements ------------------------------------------------------------------------------------------ */

enum mqg_err mqtt_ack_decode(enum mqtt_type type, struct mqg_slice body, enum mqtt_version v,
                             struct mqtt_ack *out, struct mqg_error *e)
{
    struct mqg_cursor c = mqg_cursor_of(body);
    *out = (struct mqtt_ack){.packet_id = mqg_cursor_be16(&c)};
    if (v == MQTT_5 && mqg_cursor_left(&c) > 0) {
        out->reason = mqg_cursor_u8(&c);
        struct mqtt_props props;
        if (mqg_cursor_left(&c) > 0) {
            enum mqg_err err = mqtt_props_get(&c, 1u << type, &props, e);
            if (err != MQG_OK)
                return err;
        }
    }
    if (!mqg_cursor_done(&c))
        return mqg_error_set(e, MQG_MALFORMED, MQTT_RC_MALFORMED_PACKET, "cannot decode %s",
                             mqtt_type_name(type));
    if (out->packet_id == 0)
        return mqg_error_set(e, MQG_INVALID, MQTT_RC_PROTOCOL_ERROR, "%s with packet identifier 0",
                             mqtt_type_name(type));
    return MQG_OK;
}

size_t mqtt_ack_put(uint8_t *p, enum mqtt_type type, enum mqtt_version v, uint16_t packet_id, uint8_t reason)
{
    bool tells = v == MQTT_5 && reason != 0;
    p[0] = (uint8_t)(type << 4 | (type == MQTT_PUBREL ? 2 : 0));
    p[1] = tells ? 3 : 2;
    mqg_put_be16(p + 2, packet_id);
    p[4] = reason;
    return tells ? 5 : 4;
}

uint8_t mqtt_connack_code_3(int reason)
{
    switch (reason) {
    case MQTT_RC_SUCCESS: return 0;
    case MQTT_RC_UNSUPPORTED_VERSION: return 1;
    case MQTT_RC_CLIENT_ID_INVALID: return 2;
    case MQTT_RC_BAD_USER_OR_PASSWORD: return 4;
    case MQTT_RC_NOT_AUTHORIZED:
    case MQTT_RC_BANNED:
    case MQTT_RC_BAD_AUTH_METHOD: return 5;
    default: return 3;
    }
}
