/* wire_fuzz.c - a stream of frames, as a connection reads it: header, then frame by frame until the bytes end.
 *
 * What holds for each frame: the payload lies inside the input, the head alone says the same as the whole, and a
 * frame that is good is written again as the same bytes. */
#include "wire.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_frame(struct mqg_slice in, const struct amqp_frame *frame)
{
    uint8_t *again = malloc(frame->total_bytes);
    MQG_ASSERT(again != NULL);
    uint8_t *p = amqp_put_frame_head(again, (enum amqp_frame_type)frame->type, frame->channel,
                                     frame->payload_bytes);
    p = amqp_put_frame_end(amqp_put_bytes(p, frame->payload));
    MQG_ASSERT((size_t)(p - again) == frame->total_bytes);
    MQG_ASSERT(memcmp(again, in.ptr, frame->total_bytes) == 0);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mqg_slice in = mqg_slice_of(data, size);
    if (amqp_protocol_header_check(in) == MQG_OK)
        in = mqg_slice_of(in.ptr + AMQP_PROTOCOL_HEADER_BYTES, in.len - AMQP_PROTOCOL_HEADER_BYTES);
    for (;;) {
        struct amqp_frame head;
        struct amqp_frame frame;
        const enum mqg_err head_err = amqp_frame_head_peek(in, AMQP_FRAME_MIN_BYTES, &head);
        const enum mqg_err err = amqp_frame_peek(in, AMQP_FRAME_MIN_BYTES, &frame);
        MQG_ASSERT(head.total_bytes == frame.total_bytes && head.channel == frame.channel);
        MQG_ASSERT(err == MQG_OK ||
                   (frame.payload.ptr == NULL && amqp_frame_fault_text(frame.fault) != NULL));
        MQG_ASSERT(head_err == MQG_OK || head_err == err);
        if (err != MQG_OK)
            return 0;
        MQG_ASSERT(frame.total_bytes <= in.len && frame.payload_bytes <= AMQP_FRAME_MIN_BYTES);
        fuzz_frame(in, &frame);
        in = mqg_slice_of(in.ptr + frame.total_bytes, in.len - frame.total_bytes);
    }
}
