/* props.c - properties (5.0: 2.2.2). One table says what an id is, and where it may stand; reading, checking and iterating
 * follow from it. Unknown ids are malformed, known ones in the wrong packet or twice are protocol errors. */
#include "wire.h"

struct prop_row {
    const char *name;
    uint8_t kind; /* enum mqtt_prop_kind + 1; 0: no such property */
    uint16_t packets;
};

static const struct prop_row prop_rows[MQTT_P_END] = {
#define PROP_ROW(sym, id, kind, packets) [id] = {#sym, MQTT_##kind + 1, (uint16_t)(packets)},
    MQTT_PROPS(PROP_ROW)
#undef PROP_ROW
};

struct mqtt_prop_iter mqtt_prop_iter_of(struct mqg_slice block)
{
    return (struct mqtt_prop_iter){.cursor = mqg_cursor_of(block)};
}

/* False at the end, and on what does not decode (then the cursor has failed). */
bool mqtt_prop_next(struct mqtt_prop_iter *it)
{
    struct mqg_cursor *c = &it->cursor;
    if (c->failed || mqg_cursor_left(c) == 0)
        return false;
    const uint8_t *from = c->pos;
    uint32_t id = mqtt_get_varint(c);
    if (id >= MQTT_P_END || prop_rows[id].kind == 0) {
        mqg_cursor_fail(c);
        return false;
    }
    it->id = (uint8_t)id;
    it->num = 0;
    it->str = it->value = MQG_SLICE_NONE;
    switch ((enum mqtt_prop_kind)(prop_rows[id].kind - 1)) {
    case MQTT_BYTE: it->num = mqg_cursor_u8(c); break;
    case MQTT_U16: it->num = mqg_cursor_be16(c); break;
    case MQTT_U32: it->num = mqg_cursor_be32(c); break;
    case MQTT_VARINT: it->num = mqtt_get_varint(c); break;
    case MQTT_PAIR:
        it->str = mqtt_get_bytes(c);
        it->value = mqtt_get_bytes(c);
        break;
    default: it->str = mqtt_get_bytes(c); break;
    }
    it->whole = mqg_slice_of(from, (size_t)(c->pos - from));
    return !c->failed;
}

static bool prop_text_ok(const struct mqtt_prop_iter *it)
{
    switch ((enum mqtt_prop_kind)(prop_rows[it->id].kind - 1)) {
    case MQTT_UTF8: return mqtt_utf8_ok(it->str);
    case MQTT_PAIR: return mqtt_utf8_ok(it->str) && mqtt_utf8_ok(it->value);
    default: return true;
    }
}

/* Values that the specification calls a protocol error (3.1.2.11, 3.3.2.3, 3.8.2.1.2). */
static bool prop_value_ok(const struct mqtt_prop_iter *it)
{
    switch (it->id) {
    case MQTT_P_PAYLOAD_FORMAT:
    case MQTT_P_REQUEST_PROBLEM:
    case MQTT_P_REQUEST_RESPONSE: return it->num <= 1;
    case MQTT_P_RECEIVE_MAXIMUM:
    case MQTT_P_MAXIMUM_PACKET_SIZE:
    case MQTT_P_SUBSCRIPTION_ID: return it->num > 0;
    default: return true;
    }
}

static enum mqg_err prop_take(const struct mqtt_prop_iter *it, unsigned where, struct mqtt_props *out,
                              struct mqg_error *e)
{
    const struct prop_row *row = &prop_rows[it->id];
    if ((row->packets & where) == 0)
        return mqg_error_set(e, MQG_INVALID, MQTT_RC_PROTOCOL_ERROR, "property %s does not belong here",
                             row->name);
    if (!prop_text_ok(it))
        return mqg_error_set(e, MQG_MALFORMED, MQTT_RC_MALFORMED_PACKET, "property %s is not UTF-8",
                             row->name);
    if (mqtt_has(out, it->id) && it->id != MQTT_P_USER_PROPERTY)
        return mqg_error_set(e, MQG_INVALID, MQTT_RC_PROTOCOL_ERROR, "property %s twice", row->name);
    if (!prop_value_ok(it))
        return mqg_error_set(e, MQG_INVALID, MQTT_RC_PROTOCOL_ERROR, "property %s cannot be %u", row->name,
                             it->num);
    out->has |= UINT64_C(1) << it->id;
    out->num[it->id] = it->num;
    out->str[it->id] = it->str;
    return MQG_OK;
}

enum mqg_err mqtt_props_scan(struct mqg_slice block, unsigned where, struct mqtt_props *out,
                             struct mqg_error *e)
{
    out->has = 0;
    out->raw = block;
    struct mqtt_prop_iter it = mqtt_prop_iter_of(block);
    while (mqtt_prop_next(&it)) {
        enum mqg_err err = prop_take(&it, where, out, e);
        if (err != MQG_OK)
            return err;
    }
    if (it.cursor.failed)
        return mqg_error_set(e, MQG_MALFORMED, MQTT_RC_MALFORMED_PACKET, "cannot decode properties");
    return MQG_OK;
}

enum mqg_err mqtt_props_get(struct mqg_cursor *c, unsigned where, struct mqtt_props *out, struct mqg_error *e)
{
    struct mqg_slice block = mqg_cursor_slice(c, mqtt_get_varint(c));
    out->has = 0;
    if (c->failed)
        return mqg_error_set(e, MQG_MALFORMED, MQTT_RC_MALFORMED_PACKET, "cannot decode the property length");
    return mqtt_props_scan(block, where, out, e);
}

/* ---- writing --------------------------------------------------------------------------------------------------- */

void mqtt_add_num(struct mqg_dynbuf *b, enum mqtt_prop id, uint32_t v)
{
    uint8_t bytes[4];
    mqg_dynbuf_u8(b, (uint8_t)id);
    switch ((enum mqtt_prop_kind)(prop_rows[id].kind - 1)) {
    case MQTT_BYTE: mqg_dynbuf_u8(b, (uint8_t)v); break;
    case MQTT_U16: mqg_dynbuf_be16(b, (uint16_t)v); break;
    case MQTT_U32: mqg_dynbuf_be32(b, v); break;
    default: mqg_dynbuf_put(b, bytes, (size_t)(mqtt_put_varint(bytes, v) - bytes)); break;
    }
}

void mqtt_add_str(struct mqg_dynbuf *b, enum mqtt_prop id, struct mqg_slice s)
{
    mqg_dynbuf_u8(b, (uint8_t)id);
    mqg_dynbuf_be16(b, (uint16_t)(s.len > UINT16_MAX ? UINT16_MAX : s.len));
    mqg_dynbuf_put(b, s.ptr, s.len > UINT16_MAX ? UINT16_MAX : s.len);
}

void mqtt_add_pair(struct mqg_dynbuf *b, struct mqg_slice name, struct mqg_slice value)
{
    mqtt_add_str(b, MQTT_P_USER_PROPERTY, name);
    mqg_dynbuf_be16(b, (uint16_t)(value.len > UINT16_MAX ? UINT16_MAX : value.len));
    mqg_dynbuf_put(b, value.ptr, value.len > UINT16_MAX ? UINT16_MAX : value.len);
}
