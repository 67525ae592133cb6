/* mapping.c - the option mqtt.topic_mapping = rabbitmq: topics as RabbitMQ's plugin maps them, for applications that rely on it.
 *
 * Our own rule swaps '.' and '/' and is reversible; RabbitMQ's makes both of them a '/' in topics and a '.' in routing keys. So here a
 * '.' in what a client says becomes a '/' where it comes in, and in what goes out none is left: all between is as ever. */
#include "mqtt.h"

static void mapping_replace(uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] == '.')
            p[i] = '/';
}

struct mqg_slice mqtt_topic_in(struct mqg_slice topic, struct mqg_dynbuf *room)
{
    if (!mqtt_settings()->rabbit_topics || topic.len == 0 || !memchr(topic.ptr, '.', topic.len))
        return topic;
    mqg_dynbuf_reset(room);
    mqg_dynbuf_slice(room, topic);
    if (room->failed)
        return topic;
    mapping_replace(room->ptr, room->len);
    return mqg_dynbuf_view(room);
}

void mqtt_topic_out(struct mqg_dynbuf *out, struct mqg_slice key, char sep, bool *escaped)
{
    size_t before = out->len;
    mqtt_topic_of_key(out, key, sep, escaped);
    if (mqtt_settings()->rabbit_topics && !out->failed)
        mapping_replace(out->ptr + before, out->len - before);
}
