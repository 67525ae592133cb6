/* wire_fuzz.c - any bytes as a request, then as a response: read or refused; what was read is written and read again. */
#include "kafka_messages.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_body(const struct kafka_message *m, int16_t version, struct mqg_slice body)
{
    struct mqg_arena a;
    struct mqg_dynbuf out;
    void *value = mqg_xmalloc(m->layout->size);
    mqg_arena_init(&a, 1 << 20);
    mqg_dynbuf_init(&out, 4 << 20);
    if (kafka_decode(m, version, body, &a, value) == MQG_OK) {
        kafka_encode(m, version, value, &out);
        MQG_ASSERT(!out.failed);
        void *again = mqg_xmalloc(m->layout->size);
        MQG_ASSERT(kafka_decode(m, version, mqg_dynbuf_view(&out), &a, again) != MQG_MALFORMED);
        free(again);
    }
    mqg_dynbuf_fini(&out);
    mqg_arena_fini(&a);
    free(value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kafka_request_head h;
    if (kafka_request_head(mqg_slice_of(data, size), &h) != MQG_OK)
        return 0;
    fuzz_body(h.message, h.version, h.body);
    const struct kafka_message *response = kafka_responses[h.key];
    if (h.version >= response->first && h.version <= response->last)
        fuzz_body(response, h.version, h.body);
    return 0;
}
