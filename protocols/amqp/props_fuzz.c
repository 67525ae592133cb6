/* props_fuzz.c - a content header frame's payload.
 *
 * What holds for each that passes: its properties are written as the very bytes they came in, because each byte of
 * them has one meaning; and the frame around them reads back. */
#include "props.h"
#include "table.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_written(const struct amqp_content *content, const struct amqp_props *props)
{
    MQG_ASSERT(amqp_props_size(props) == content->raw.len);
    const size_t frame_size = amqp_content_frame_size(content->raw);
    uint8_t *raw = malloc(content->raw.len);
    uint8_t *frame = malloc(frame_size);
    MQG_ASSERT(raw != NULL && frame != NULL);
    MQG_ASSERT(amqp_props_write(raw, props) == raw + content->raw.len);
    MQG_ASSERT(mqg_slice_eq(mqg_slice_of(raw, content->raw.len), content->raw));
    MQG_ASSERT(amqp_content_frame(frame, 1, content->body_bytes, content->raw) == frame + frame_size);
    struct amqp_frame back;
    MQG_ASSERT(amqp_frame_peek(mqg_slice_of(frame, frame_size), 0, &back) == MQG_OK);
    free(raw);
    free(frame);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct amqp_content content;
    struct amqp_props props;
    if (amqp_content_peek(mqg_slice_of(data, size), &content) != MQG_OK)
        return 0;
    if (amqp_props_scan(content.raw, &props) != MQG_OK)
        return 0;
    MQG_ASSERT(amqp_table_check(props.headers) == MQG_OK);
    fuzz_written(&content, &props);
    return 0;
}
