/* wire.c - frames, protocol header, reply codes.
 *
 * A frame is judged as early as it can be: a wrong type at its first byte, a wrong size at its seventh, so
 * that a peer that sends garbage or gigabytes is refused before anything of it is kept. */
#include "wire.h"

#include <stdio.h>

enum mqg_err amqp_protocol_header_check(struct mqg_slice in)
{
    const size_t name_bytes = in.len < 4 ? in.len : 4;
    if (name_bytes != 0 && memcmp(in.ptr, AMQP_PROTOCOL_HEADER, name_bytes) != 0)
        return MQG_MALFORMED;
    if (in.len < AMQP_PROTOCOL_HEADER_BYTES)
        return MQG_MORE;
    return memcmp(in.ptr, AMQP_PROTOCOL_HEADER, AMQP_PROTOCOL_HEADER_BYTES) == 0 ? MQG_OK : MQG_UNSUPPORTED;
}

static bool frame_type_known(uint8_t type)
{
    return (type >= AMQP_FRAME_METHOD && type <= AMQP_FRAME_BODY) || type == AMQP_FRAME_HEARTBEAT;
}

static enum mqg_err frame_fail(struct amqp_frame *out, enum amqp_frame_fault fault)
{
    out->fault = (uint8_t)fault;
    return fault == AMQP_FRAME_OVERSIZE ? MQG_TOO_LARGE : MQG_MALFORMED;
}

enum mqg_err amqp_frame_head_peek(struct mqg_slice in, uint32_t frame_max, struct amqp_frame *out)
{
    *out = (struct amqp_frame){0};
    if (in.len == 0)
        return MQG_MORE;
    out->type = in.ptr[0];
    if (MQG_UNLIKELY(!frame_type_known(out->type)))
        return frame_fail(out, AMQP_FRAME_BAD_TYPE);
    if (in.len < AMQP_FRAME_HEAD_BYTES)
        return MQG_MORE;
    out->channel = mqg_be16(in.ptr + 1);
    out->payload_bytes = mqg_be32(in.ptr + 3);
    out->total_bytes = (size_t)out->payload_bytes + AMQP_FRAME_OVERHEAD_BYTES;
    if (MQG_UNLIKELY(frame_max != 0 && out->payload_bytes > frame_max))
        return frame_fail(out, AMQP_FRAME_OVERSIZE);
    if (MQG_UNLIKELY(out->type == AMQP_FRAME_HEARTBEAT && (out->payload_bytes != 0 || out->channel != 0)))
        return frame_fail(out, AMQP_FRAME_BAD_HEARTBEAT);
    return MQG_OK;
}

enum mqg_err amqp_frame_peek(struct mqg_slice in, uint32_t frame_max, struct amqp_frame *out)
{
    const enum mqg_err err = amqp_frame_head_peek(in, frame_max, out);
    if (err != MQG_OK)
        return err;
    if (in.len < out->total_bytes)
        return MQG_MORE;
    if (MQG_UNLIKELY(in.ptr[out->total_bytes - 1] != AMQP_FRAME_END))
        return frame_fail(out, AMQP_FRAME_BAD_END);
    out->payload = mqg_slice_of(in.ptr + AMQP_FRAME_HEAD_BYTES, out->payload_bytes);
    return MQG_OK;
}

const char *amqp_frame_fault_text(enum amqp_frame_fault fault)
{
    switch (fault) {
    case AMQP_FRAME_FINE: return "no fault";
    case AMQP_FRAME_BAD_TYPE: return "unknown frame type";
    case AMQP_FRAME_BAD_HEARTBEAT: return "heartbeat with a payload or a channel";
    case AMQP_FRAME_BAD_END: return "invalid frame end marker";
    case AMQP_FRAME_OVERSIZE: return "frame too large";
    }
    return "no fault";
}

static const struct {
    int code;
    const char *name;
    bool hard;
} wire_replies[] = {
#define WIRE_REPLY_ROW(code, name, hard) {code, #name, hard},
    AMQP_REPLIES(WIRE_REPLY_ROW)
#undef WIRE_REPLY_ROW
};

const char *amqp_reply_name(int code)
{
    for (size_t i = 0; i < MQG_COUNTOF(wire_replies); i++) {
        if (wire_replies[i].code == code)
            return wire_replies[i].name;
    }
    return "INTERNAL_ERROR";
}

bool amqp_reply_is_hard(int code)
{
    for (size_t i = 0; i < MQG_COUNTOF(wire_replies); i++) {
        if (wire_replies[i].code == code)
            return wire_replies[i].hard;
    }
    return true;
}

struct mqg_slice amqp_reply_text(char out[AMQP_SHORTSTR_MAX_BYTES + 1], int code, const char *fmt, ...)
{
    const size_t room = AMQP_SHORTSTR_MAX_BYTES + 1;
    const size_t head = (size_t)snprintf(out, room, "%s - ", amqp_reply_name(code));
    static const char dots[3] = {'.', '.', '.'};
    va_list args;
    va_start(args, fmt);
    const int text = vsnprintf(out + head, room - head, fmt, args);
    va_end(args);
    MQG_ASSERT(text >= 0);
    size_t len = head + (size_t)text;
    if (len > AMQP_SHORTSTR_MAX_BYTES) {
        len = AMQP_SHORTSTR_MAX_BYTES;
        memcpy(out + len - sizeof dots, dots, sizeof dots);
    }
    return mqg_slice_of(out, len);
}
