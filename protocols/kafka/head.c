/* head.c - what stands before a request's and a response's body. */
#include "kafka_messages.h"

static void head_skip_tags(struct mqg_cursor *c)
{
    for (uint64_t n = mqg_cursor_varint(c); n > 0 && !c->failed; n--) {
        mqg_cursor_varint(c);
        uint64_t size = mqg_cursor_varint(c);
        if (size > mqg_cursor_left(c))
            mqg_cursor_fail(c);
        else
            mqg_cursor_take(c, (size_t)size);
    }
}

/* The client id keeps its old form in flexible heads too: the version is not known before it. */
static struct mqg_slice head_client_id(struct mqg_cursor *c)
{
    int16_t n = (int16_t)mqg_cursor_be16(c);
    if (n == -1)
        return MQG_SLICE_NONE;
    if (n < 0)
        mqg_cursor_fail(c);
    return c->failed ? MQG_SLICE_NONE : mqg_cursor_slice(c, (size_t)n);
}

enum mqg_err kafka_request_head(struct mqg_slice frame, struct kafka_request_head *out)
{
    struct mqg_cursor c = mqg_cursor_of(frame);
    *out = (struct kafka_request_head){.key = (int16_t)mqg_cursor_be16(&c),
                                       .version = (int16_t)mqg_cursor_be16(&c),
                                       .correlation_id = (int32_t)mqg_cursor_be32(&c)};
    if (c.failed)
        return MQG_MALFORMED;
    const struct kafka_message *m = out->key >= 0 && (size_t)out->key < kafka_api_slots
                                        ? kafka_requests[out->key]
                                        : NULL;
    out->message = m;
    if (!m || out->version < m->first || out->version > m->last)
        return MQG_UNSUPPORTED;
    out->client_id = head_client_id(&c);
    if (kafka_is_flexible(m, out->version))
        head_skip_tags(&c);
    if (c.failed)
        return MQG_MALFORMED;
    out->body = mqg_slice_of(c.pos, mqg_cursor_left(&c));
    return MQG_OK;
}

/* ApiVersions is answered with the old head always: a client that is newer than us must be able to read it (KIP-511). */
void kafka_response_head(struct mqg_dynbuf *out, const struct kafka_message *response, int16_t version,
                         int32_t correlation_id)
{
    mqg_dynbuf_be32(out, (uint32_t)correlation_id);
    if (kafka_is_flexible(response, version) && response->key != KAFKA_API_API_VERSIONS)
        mqg_dynbuf_varint(out, 0);
}
