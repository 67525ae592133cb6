/* wire_fuzz.c - the first byte names the version, the rest is a stream of packets as a connection reads it.
 *
 * What holds: nothing is read outside the input; a fault has a reason; what decodes lies inside the packet. */
#include "wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_inside(struct mqg_slice part, struct mqg_slice whole)
{
    MQG_ASSERT(part.len == 0 || (part.ptr >= whole.ptr && part.ptr + part.len <= whole.ptr + whole.len));
}

static enum mqg_err fuzz_filters(enum mqtt_type type, struct mqg_slice body, enum mqtt_version v,
                                 struct mqg_error *e)
{
    struct mqtt_filters f;
    struct mqtt_filter one;
    enum mqg_err err = mqtt_filters_decode(type, body, v, &f, e);
    uint32_t n = 0;
    if (err != MQG_OK)
        return err;
    for (; mqtt_filters_next(&f, &one); n++) {
        struct mqg_slice group, filter;
        bool bad;
        fuzz_inside(one.name, body);
        if (mqtt_share_split(one.name, &group, &filter, &bad))
            fuzz_inside(group, body);
        if (mqtt_filter_ok(one.name))
            mqtt_topic_matches(one.name, one.name);
    }
    MQG_ASSERT(n == f.n);
    return MQG_OK;
}

static enum mqg_err fuzz_packet(const struct mqtt_head *h, struct mqg_slice body, enum mqtt_version v,
                                struct mqg_error *e)
{
    struct mqtt_connect connect;
    struct mqtt_publish publish;
    struct mqtt_ack ack;
    struct mqtt_goodbye bye;
    enum mqg_err err;
    switch (h->type) {
    case MQTT_CONNECT: return mqtt_connect_decode(body, &connect, e);
    case MQTT_PUBLISH:
        err = mqtt_publish_decode(h, body, v, &publish, e);
        if (err == MQG_OK) {
            fuzz_inside(publish.topic, body);
            MQG_ASSERT(publish.head_bytes + publish.payload_bytes == body.len);
        }
        return err;
    case MQTT_SUBSCRIBE:
    case MQTT_UNSUBSCRIBE: return fuzz_filters((enum mqtt_type)h->type, body, v, e);
    case MQTT_DISCONNECT:
    case MQTT_AUTH: return mqtt_goodbye_decode((enum mqtt_type)h->type, body, v, &bye, e);
    case MQTT_PINGREQ: return MQG_OK;
    default: return mqtt_ack_decode((enum mqtt_type)h->type, body, v, &ack, e);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    enum mqtt_version v = (enum mqtt_version)(3 + data[0] % 3);
    struct mqg_slice in = mqg_slice_of(data + 1, size - 1);
    struct mqtt_head h;
    while (mqtt_head_peek(in, &h) == MQG_OK) {
        struct mqg_error e = {.err = MQG_OK};
        if (mqtt_head_check(&h, v, &e) != MQG_OK || in.len - h.head_bytes < h.body_bytes)
            return 0;
        struct mqg_slice body = mqg_slice_of(in.ptr + h.head_bytes, h.body_bytes);
        enum mqg_err err = fuzz_packet(&h, body, v, &e);
        MQG_ASSERT(err != MQG_MORE && (err == MQG_OK || e.code >= 0x80));
        if (err != MQG_OK)
            return 0;
        in = mqg_slice_of(body.ptr + body.len, in.len - h.head_bytes - body.len);
    }
    return 0;
}
