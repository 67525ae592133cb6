/* origin.c - a message of MQTT as it is kept, its properties as the common view, and the way back (MAPPING "Keys, headers").
 *
 *   origin: version | flags: QoS 0..1, RETAIN 2 | message expiry, 4 bytes little-endian, ffffffff none | properties
 *
 * The properties are the client's bytes, without topic alias and message expiry: MQTT 5.0 clients get them back as they came, in
 * order and repeated. Another protocol's message gets its properties from the common view: well-known ones where 5.0 has a place
 * for them, else user properties called mqgate-...; what is called so is put back into its place on the way in. */
#include "mqtt.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define ORIGIN_VERSION   1u
#define ORIGIN_NO_EXPIRY UINT32_MAX
#define ORIGIN_ARENA     (4u << 20)
#define ORIGIN_PREFIX    "mqgate-"
#define ORIGIN_BASE64    ";base64"

/* ---- making a message ---------------------------------------------------------------------------------------------- */

static bool origin_keeps(uint8_t id)
{
    return id != MQTT_P_TOPIC_ALIAS && id != MQTT_P_MESSAGE_EXPIRY && id != MQTT_P_WILL_DELAY;
}

static void origin_put_props(struct mqg_dynbuf *out, const struct mqtt_props *p)
{
    const uint64_t left_out = UINT64_C(1) << MQTT_P_TOPIC_ALIAS | UINT64_C(1) << MQTT_P_MESSAGE_EXPIRY |
                              UINT64_C(1) << MQTT_P_WILL_DELAY;
    if ((p->has & left_out) == 0) {
        mqg_dynbuf_slice(out, p->raw);
        return;
    }
    struct mqtt_prop_iter it = mqtt_prop_iter_of(p->raw);
    while (mqtt_prop_next(&it))
        if (origin_keeps(it.id))
            mqg_dynbuf_slice(out, it.whole);
}

struct mqg_msg *mqtt_msg_new(struct mqg_slice user, struct mqg_slice client, struct mqg_slice topic,
                             unsigned qos, bool retain, enum mqtt_version v, const struct mqtt_props *props,
                             uint32_t body_len)
{
    uint8_t head[MQTT_ORIGIN_HEAD] = {ORIGIN_VERSION, (uint8_t)(qos | (retain ? 4u : 0))};
    bool has_ttl = v == MQTT_5 && mqtt_has(props, MQTT_P_MESSAGE_EXPIRY);
    uint32_t ttl_s = has_ttl ? props->num[MQTT_P_MESSAGE_EXPIRY] : ORIGIN_NO_EXPIRY;
    mqg_put_le32(head + 2, ttl_s);
    struct mqg_dynbuf origin;
    struct mqg_slice exchange = mqtt_exchange_of(topic);
    struct mqg_msg_parts parts;
    memset(&parts, 0, sizeof(parts));
    parts.proto = MQG_PROTO_MQTT;
    parts.flags = (uint8_t)((qos > 0 || retain ? MQG_MSG_PERSISTENT : 0) | (has_ttl ? MQG_MSG_HAS_TTL : 0));
    parts.key_sep = '/';
    parts.ttl_ms = has_ttl ? UINT64_C(1000) * ttl_s : 0;
    parts.exchange = exchange;
    parts.key = topic;
    parts.user = user;
    parts.client = client;
    parts.origin = mqg_slice_of(head, sizeof(head));
    parts.body_len = body_len;
    mqg_dynbuf_init(&origin, MQTT_INPUT_MAX + MQTT_ORIGIN_HEAD);
    if (v == MQTT_5 && props->raw.len > 0) {
        mqg_dynbuf_put(&origin, head, sizeof(head));
        origin_put_props(&origin, props);
        parts.origin = mqg_dynbuf_view(&origin);
    }
    struct mqg_msg *m = origin.failed ? NULL : mqg_msg_new(&parts);
    mqg_dynbuf_fini(&origin);
    return m;
}

struct mqtt_origin mqtt_origin_of(const struct mqg_msg *m)
{
    struct mqg_slice o = mqg_msg_origin(m);
    if (m->st.proto != MQG_PROTO_MQTT || o.len < MQTT_ORIGIN_HEAD || o.ptr[0] != ORIGIN_VERSION)
        return (struct mqtt_origin){.qos = mqg_msg_persistent(m) ? 1 : 0};
    return (struct mqtt_origin){.qos = o.ptr[1] & 3,
                                .retain = (o.ptr[1] & 4) != 0,
                                .props = mqg_slice_of(o.ptr + MQTT_ORIGIN_HEAD, o.len - MQTT_ORIGIN_HEAD)};
}

/* ---- base64 (RFC 4648) ------------------------------------------------------------------------------------------------- */

static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void base64_put(struct mqg_dynbuf *out, struct mqg_slice s)
{
    for (size_t i = 0; i < s.len; i += 3) {
        size_t n = s.len - i < 3 ? s.len - i : 3;
        uint32_t v = (uint32_t)s.ptr[i] << 16 | (n > 1 ? (uint32_t)s.ptr[i + 1] << 8 : 0) |
                     (n > 2 ? s.ptr[i + 2] : 0);
        char text[4] = {base64_digits[v >> 18], base64_digits[v >> 12 & 63],
                        n > 1 ? base64_digits[v >> 6 & 63] : '=', n > 2 ? base64_digits[v & 63] : '='};
        mqg_dynbuf_put(out, text, 4);
    }
}

static bool base64_get(struct mqg_slice s, struct mqg_arena *a, struct mqg_slice *out)
{
    uint8_t *to = mqg_arena_alloc(a, s.len / 4 * 3 + 1);
    size_t n = 0;
    if (!to || s.len % 4 != 0)
        return false;
    for (size_t i = 0; i < s.len; i += 4) {
        uint32_t v = 0, pad = 0;
        for (size_t k = 0; k < 4; k++) {
            const char *at = s.ptr[i + k] ? strchr(base64_digits, s.ptr[i + k]) : NULL;
            bool is_pad = s.ptr[i + k] == '=' && i + 4 == s.len && k >= 2;
            if ((!at && !is_pad) || (at && pad > 0))
                return false;
            pad += is_pad;
            v = v << 6 | (at ? (uint32_t)(at - base64_digits) : 0);
        }
        to[n++] = (uint8_t)(v >> 16);
        if (pad < 2)
            to[n++] = (uint8_t)(v >> 8);
        if (pad < 1)
            to[n++] = (uint8_t)v;
    }
    *out = mqg_slice_of(to, n);
    return true;
}

/* ---- origin -> view -------------------------------------------------------------------------------------------------------- */

/* Well-known properties that 5.0 has no place for. */
static const struct {
    const char *name;
    uint32_t bit;
    size_t offset;
} origin_texts[] = {
    {ORIGIN_PREFIX "content-encoding", MQG_PROP_CONTENT_ENCODING,
     offsetof(struct mqg_view, content_encoding)},
    {ORIGIN_PREFIX "message-id", MQG_PROP_MESSAGE_ID, offsetof(struct mqg_view, message_id)},
    {ORIGIN_PREFIX "type", MQG_PROP_TYPE, offsetof(struct mqg_view, type)},
    {ORIGIN_PREFIX "app-id", MQG_PROP_APP_ID, offsetof(struct mqg_view, app_id)},
};

static bool view_number(struct mqg_slice s, uint64_t *out)
{
    uint64_t v = 0;
    if (s.len == 0 || s.len > 18)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return false;
        v = v * 10 + (uint64_t)(s.ptr[i] - '0');
    }
    *out = v;
    return true;
}

static bool view_well_known(struct mqg_view *v, struct mqg_slice name, struct mqg_slice value)
{
    uint64_t number;
    if (!mqg_slice_starts(name, MQG_SLICE_LIT(ORIGIN_PREFIX)))
        return false;
    for (size_t i = 0; i < MQG_COUNTOF(origin_texts); i++) {
        if (!mqg_slice_eq(name, mqg_slice_str(origin_texts[i].name)))
            continue;
        v->has |= origin_texts[i].bit;
        *(struct mqg_slice *)(void *)((char *)v + origin_texts[i].offset) = value;
        return true;
    }
    if (mqg_slice_eq(name, MQG_SLICE_LIT(ORIGIN_PREFIX "priority")) && view_number(value, &number) &&
        number < 256) {
        v->has |= MQG_PROP_PRIORITY;
        v->priority = (uint8_t)number;
        return true;
    }
    if (mqg_slice_eq(name, MQG_SLICE_LIT(ORIGIN_PREFIX "timestamp")) && view_number(value, &number)) {
        v->has |= MQG_PROP_TIMESTAMP;
        v->timestamp_us = number * 1000000;
        return true;
    }
    return false;
}

static void view_header(struct mqg_view *v, struct mqg_arena *a, struct mqg_slice name,
                        struct mqg_slice value)
{
    static const struct mqg_slice suffix = MQG_SLICE_INIT(ORIGIN_BASE64);
    if (view_well_known(v, name, value))
        return;
    enum mqg_value_type type = MQG_VALUE_STRING;
    struct mqg_slice bytes;
    if (name.len > suffix.len && memcmp(name.ptr + name.len - suffix.len, suffix.ptr, suffix.len) == 0 &&
        base64_get(value, a, &bytes)) {
        type = MQG_VALUE_BYTES;
        name.len -= suffix.len;
        value = bytes;
    }
    struct mqg_field *f = mqg_table_add(a, &v->headers, name);
    if (f)
        f->value = (struct mqg_value){.type = type, .bytes = value};
}

static void view_prop(struct mqg_view *v, struct mqg_arena *a, const struct mqtt_prop_iter *it)
{
    switch (it->id) {
    case MQTT_P_CONTENT_TYPE:
        v->has |= MQG_PROP_CONTENT_TYPE;
        v->content_type = it->str;
        break;
    case MQTT_P_RESPONSE_TOPIC:
        v->has |= MQG_PROP_REPLY_TO;
        v->reply_to = it->str;
        break;
    case MQTT_P_CORRELATION_DATA:
        v->has |= MQG_PROP_CORRELATION_ID;
        v->correlation_id = it->str;
        break;
    case MQTT_P_PAYLOAD_FORMAT:
        mqg_table_set_int(a, &v->headers, ORIGIN_PREFIX "payload-format", it->num);
        break;
    case MQTT_P_USER_PROPERTY: view_header(v, a, it->str, it->value); break;
    default: break;
    }
}

static enum mqg_err origin_decode(struct mqg_slice o, struct mqg_arena *a, struct mqg_view *out)
{
    *out = (struct mqg_view){0};
    if (o.len < MQTT_ORIGIN_HEAD || o.ptr[0] != ORIGIN_VERSION)
        return MQG_MALFORMED;
    uint32_t expiry = mqg_le32(o.ptr + 2);
    out->has = MQG_PROP_DELIVERY_MODE;
    out->delivery_mode = (o.ptr[1] & 3) > 0 ? 2 : 1;
    if (expiry != ORIGIN_NO_EXPIRY) {
        out->has |= MQG_PROP_EXPIRATION;
        out->expiration_ms = UINT64_C(1000) * expiry;
    }
    struct mqtt_prop_iter it = mqtt_prop_iter_of(
        mqg_slice_of(o.ptr + MQTT_ORIGIN_HEAD, o.len - MQTT_ORIGIN_HEAD));
    while (mqtt_prop_next(&it))
        view_prop(out, a, &it);
    return it.cursor.failed ? MQG_MALFORMED : MQG_OK;
}

const struct mqg_origin_ops mqtt_origin_ops = {.proto = MQG_PROTO_MQTT, .decode = origin_decode};

/* ---- view -> properties ------------------------------------------------------------------------------------------------------ */

static void out_dropped(void)
{
    mqg_count(MQG_COUNT_CONVERSION_DROPPED, 1);
}

static void out_pair(struct mqg_dynbuf *out, struct mqg_slice name, struct mqg_slice value)
{
    if (name.len > UINT16_MAX || value.len > UINT16_MAX || !mqtt_utf8_ok(name) || !mqtt_utf8_ok(value))
        out_dropped();
    else
        mqtt_add_pair(out, name, value);
}

static void out_time(char text[40], int64_t us)
{
    time_t s = (time_t)(us / 1000000);
    struct tm tm;
    gmtime_r(&s, &tm);
    size_t n = strftime(text, 32, "%Y-%m-%dT%H:%M:%S", &tm);
    if (us % 1000000 != 0)
        n += (size_t)snprintf(text + n, 40 - n, ".%06d", (int)(us % 1000000));
    snprintf(text + n, 40 - n, "Z");
}

static void out_scalar(const struct mqg_value *v, char text[40])
{
    text[0] = '\0';
    switch (v->type) {
    case MQG_VALUE_BOOL: snprintf(text, 40, "%s", v->boolean ? "true" : "false"); break;
    case MQG_VALUE_FLOAT: snprintf(text, 40, "%.9g", v->d); break;
    case MQG_VALUE_DOUBLE: snprintf(text, 40, "%.17g", v->d); break;
    case MQG_VALUE_TIMESTAMP: out_time(text, v->i); break;
    case MQG_VALUE_DECIMAL: snprintf(text, 40, "%de-%u", v->dec.unscaled, v->dec.scale); break;
    case MQG_VALUE_UINT8:
    case MQG_VALUE_UINT16:
    case MQG_VALUE_UINT32:
    case MQG_VALUE_UINT64: snprintf(text, 40, "%llu", (unsigned long long)v->u); break;
    case MQG_VALUE_NULL: break;
    default: snprintf(text, 40, "%lld", (long long)v->i); break;
    }
}

static void out_bytes(struct mqg_dynbuf *out, struct mqg_slice name, struct mqg_slice bytes)
{
    struct mqg_dynbuf long_name, text;
    mqg_dynbuf_init(&long_name, 1u << 16);
    mqg_dynbuf_init(&text, 1u << 17);
    mqg_dynbuf_slice(&long_name, name);
    mqg_dynbuf_put(&long_name, ORIGIN_BASE64, strlen(ORIGIN_BASE64));
    base64_put(&text, bytes);
    if (text.failed || long_name.failed)
        out_dropped();
    else
        out_pair(out, mqg_dynbuf_view(&long_name), mqg_dynbuf_view(&text));
    mqg_dynbuf_fini(&long_name);
    mqg_dynbuf_fini(&text);
}

static void out_json(struct mqg_dynbuf *out, struct mqg_slice name, const struct mqg_table *t)
{
    struct mqg_dynbuf text;
    mqg_dynbuf_init(&text, 1u << 16);
    mqg_table_json(&text, t);
    if (text.failed)
        out_dropped();
    else
        out_pair(out, name, mqg_dynbuf_view(&text));
    mqg_dynbuf_fini(&text);
}

/* Arrays of plain values are repeated properties; what is nested is JSON. */
static void out_header(struct mqg_dynbuf *out, struct mqg_slice name, const struct mqg_value *v, bool inner)
{
    char text[40];
    struct mqg_field one = {name, *v};
    struct mqg_table nested = {.fields = &one, .n = 1};
    switch (v->type) {
    case MQG_VALUE_STRING:
        if (mqtt_utf8_ok(v->bytes))
            out_pair(out, name, v->bytes);
        else
            out_bytes(out, name, v->bytes);
        break;
    case MQG_VALUE_BYTES: out_bytes(out, name, v->bytes); break;
    case MQG_VALUE_TABLE: out_json(out, name, &v->table); break;
    case MQG_VALUE_ARRAY:
        for (uint32_t i = 0; !inner && i < v->array.n; i++)
            out_header(out, name, &v->array.items[i], true);
        if (inner)
            out_json(out, name, &nested);
        break;
    default:
        out_scalar(v, text);
        out_pair(out, name, mqg_slice_str(text));
        break;
    }
}

static void out_well_known(struct mqg_dynbuf *out, const struct mqg_view *v)
{
    char text[40];
    if (v->has & MQG_PROP_CONTENT_TYPE && mqtt_utf8_ok(v->content_type))
        mqtt_add_str(out, MQTT_P_CONTENT_TYPE, v->content_type);
    if (v->has & MQG_PROP_REPLY_TO && mqtt_topic_ok(v->reply_to))
        mqtt_add_str(out, MQTT_P_RESPONSE_TOPIC, v->reply_to);
    else if (v->has & MQG_PROP_REPLY_TO)
        out_dropped();
    if (v->has & MQG_PROP_CORRELATION_ID)
        mqtt_add_str(out, MQTT_P_CORRELATION_DATA, v->correlation_id);
    for (size_t i = 0; i < MQG_COUNTOF(origin_texts); i++)
        if (v->has & origin_texts[i].bit)
            out_pair(out, mqg_slice_str(origin_texts[i].name),
                     *(const struct mqg_slice *)(const void *)((const char *)v + origin_texts[i].offset));
    if (v->has & MQG_PROP_PRIORITY) {
        snprintf(text, sizeof(text), "%u", v->priority);
        out_pair(out, MQG_SLICE_LIT(ORIGIN_PREFIX "priority"), mqg_slice_str(text));
    }
    if (v->has & MQG_PROP_TIMESTAMP) {
        snprintf(text, sizeof(text), "%llu", (unsigned long long)(v->timestamp_us / 1000000));
        out_pair(out, MQG_SLICE_LIT(ORIGIN_PREFIX "timestamp"), mqg_slice_str(text));
    }
}

void mqtt_props_of_view(const struct mqg_msg *m, struct mqg_dynbuf *out)
{
    struct mqg_arena a;
    struct mqg_view v;
    mqg_arena_init(&a, ORIGIN_ARENA);
    if (mqg_msg_view(m, &a, &v) == MQG_OK) {
        out_well_known(out, &v);
        for (uint32_t i = 0; i < v.headers.n; i++) {
            const struct mqg_field *f = &v.headers.fields[i];
            if (mqg_slice_eq(f->name, MQG_SLICE_LIT(ORIGIN_PREFIX "payload-format")) &&
                f->value.type >= MQG_VALUE_INT8 && f->value.type <= MQG_VALUE_INT64 &&
                (f->value.i & ~INT64_C(1)) == 0)
                mqtt_add_num(out, MQTT_P_PAYLOAD_FORMAT, (uint32_t)f->value.i);
            else
                out_header(out, f->name, &f->value, false);
        }
    }
    if (m->st.flags & MQG_MSG_NULL_BODY)
        mqtt_add_pair(out, MQG_SLICE_LIT(ORIGIN_PREFIX "null-body"), MQG_SLICE_LIT("true"));
    mqg_arena_fini(&a);
}
