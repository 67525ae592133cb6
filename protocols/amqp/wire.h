/* wire.h - AMQP 0-9-1 on the wire: frames, the protocol header, reply codes, and the bricks of encoding.
 *
 * Everything here is a pure function of its input: no state, no allocation, any thread. A decoder hands out
 * slices into what it was given; an encoder writes where the caller says, who asked for the size before.
 *
 * A frame (specification part 2, 4.2.3):
 *
 *   0      1         3         7                7 + size  8 + size
 *   +------+---------+---------+----------------+-----------+
 *   | type | channel |  size   |    payload     | 0xCE      |
 *   +------+---------+---------+----------------+-----------+
 *    octet   short     long       size octets      octet
 *
 *   method payload          class id (short), method id (short), arguments        -> amqp_methods.h
 *   content header payload  class id, weight (short, 0), body size (longlong), flags, properties   -> props.h
 *   body payload            bytes; heartbeat payload: none
 */
#ifndef MQGATE_AMQP_WIRE_H
#define MQGATE_AMQP_WIRE_H

#include <mqgate/base.h>

/* ---- limits ------------------------------------------------------------------------------------------- */

#define AMQP_FRAME_HEAD_BYTES     7u    /* type, channel, size */
#define AMQP_FRAME_OVERHEAD_BYTES 8u    /* head and end octet */
#define AMQP_FRAME_MIN_BYTES      4096u /* the least frame_max a peer may ask for (frame-min-size) */
#define AMQP_FRAME_END            0xCEu
#define AMQP_SHORTSTR_MAX_BYTES   255u
#define AMQP_HEARTBEAT_FRAME      "\x08\x00\x00\x00\x00\x00\x00\xce" /* 8 bytes and the literal's NUL */

/* ---- protocol header (4.2.2) -------------------------------------------------------------------------- */

#define AMQP_PROTOCOL_HEADER       "AMQP\x00\x00\x09\x01" /* 8 bytes and the literal's NUL */
#define AMQP_PROTOCOL_HEADER_BYTES 8u

/* Judges the first bytes of a connection. MQG_OK: our version, 8 bytes are used. MQG_MORE: a beginning of a
 * header. MQG_UNSUPPORTED: AMQP of another version, MQG_MALFORMED: no AMQP (known at the first wrong byte):
 * to both the answer is AMQP_PROTOCOL_HEADER and the end of the connection. */
enum mqg_err amqp_protocol_header_check(struct mqg_slice in) MQG_MUST_CHECK;

/* ---- reading frames ----------------------------------------------------------------------------------- */

enum amqp_frame_type {
    AMQP_FRAME_METHOD = 1,
    AMQP_FRAME_HEADER = 2,
    AMQP_FRAME_BODY = 3,
    AMQP_FRAME_HEARTBEAT = 8,
};

/* What is wrong with a frame, for the text of the connection.close. */
enum amqp_frame_fault {
    AMQP_FRAME_FINE = 0,
    AMQP_FRAME_BAD_TYPE,      /* a type that is none */
    AMQP_FRAME_BAD_HEARTBEAT, /* with a payload, or on a channel other than 0 (4.2.7) */
    AMQP_FRAME_BAD_END,       /* the octet after the payload is not 0xCE */
    AMQP_FRAME_OVERSIZE,      /* larger than was negotiated */
};

struct amqp_frame {
    uint8_t type;  /* enum amqp_frame_type */
    uint8_t fault; /* enum amqp_frame_fault */
    uint16_t channel;
    uint32_t payload_bytes;   /* as the head says, also when the payload is not there yet */
    size_t total_bytes;       /* of the whole frame; 0 while the head is not complete */
    struct mqg_slice payload; /* into the input; set with MQG_OK only */
};

/* Reads the head of a frame alone: type, channel, size, limits. Needs 7 bytes, but refuses a wrong type at
 * the first. frame_max: the negotiated maximum of a whole frame, 0 for none. As RabbitMQ we let a *payload*
 * be frame_max long: there are clients that forgot the 8 bytes around it. MQG_OK, MQG_MORE, MQG_MALFORMED
 * (501 FRAME_ERROR), MQG_TOO_LARGE (501). out is always filled, as far as known. */
enum mqg_err amqp_frame_head_peek(struct mqg_slice in, uint32_t frame_max,
                                  struct amqp_frame *out) MQG_MUST_CHECK;
/* The same for a whole frame that lies in one piece: payload and end octet too. Use total_bytes to go on. */
enum mqg_err amqp_frame_peek(struct mqg_slice in, uint32_t frame_max, struct amqp_frame *out) MQG_MUST_CHECK;
/* "unknown frame type", ... Static storage. */
const char *amqp_frame_fault_text(enum amqp_frame_fault fault);

/* Splits a method frame's payload in the method's id (class << 16 | method) and its arguments. MQG_MALFORMED:
 * shorter than 4 bytes (501 FRAME_ERROR). */
MQG_MUST_CHECK
static inline enum mqg_err amqp_method_split(struct mqg_slice payload, uint32_t *id, struct mqg_slice *args)
{
    if (MQG_UNLIKELY(payload.len < 4))
        return MQG_MALFORMED;
    *id = mqg_be32(payload.ptr);
    *args = mqg_slice_of(payload.ptr + 4, payload.len - 4);
    return MQG_OK;
}

/* ---- reply codes (part 1, 1.2) ------------------------------------------------------------------------ */

/* X(code, NAME, hard): NAME as RabbitMQ writes it before " - " in a reply text. A soft error closes the
 * channel, a hard one the connection. */
#define AMQP_REPLIES(X)                \
    X(200, REPLY_SUCCESS, false)       \
    X(311, CONTENT_TOO_LARGE, false)   \
    X(312, NO_ROUTE, false)            \
    X(313, NO_CONSUMERS, false)        \
    X(320, CONNECTION_FORCED, true)    \
    X(402, INVALID_PATH, true)         \
    X(403, ACCESS_REFUSED, false)      \
    X(404, NOT_FOUND, false)           \
    X(405, RESOURCE_LOCKED, false)     \
    X(406, PRECONDITION_FAILED, false) \
    X(501, FRAME_ERROR, true)          \
    X(502, SYNTAX_ERROR, true)         \
    X(503, COMMAND_INVALID, true)      \
    X(504, CHANNEL_ERROR, true)        \
    X(505, UNEXPECTED_FRAME, true)     \
    X(506, RESOURCE_ERROR, true)       \
    X(530, NOT_ALLOWED, true)          \
    X(540, NOT_IMPLEMENTED, true)      \
    X(541, INTERNAL_ERROR, true)

enum amqp_reply {
#define AMQP_REPLY_ENUM(code, name, hard) AMQP_##name = code,
    AMQP_REPLIES(AMQP_REPLY_ENUM)
#undef AMQP_REPLY_ENUM
};

/* "NOT_FOUND"; "INTERNAL_ERROR" for a code that is none, as RabbitMQ does. Static storage. */
const char *amqp_reply_name(int code);
/* True when the code closes the connection; also for a code that is none. */
bool amqp_reply_is_hard(int code);
/* Writes "NAME - explanation" into out; what is longer than a short string ends in "..." at 255 bytes
 * (RabbitMQ's rule). The slice returned is into out. */
struct mqg_slice amqp_reply_text(char out[AMQP_SHORTSTR_MAX_BYTES + 1], int code, const char *fmt, ...)
    MQG_PRINTF(3, 4);

/* ---- bricks: reading ---------------------------------------------------------------------------------- */

/* A short string: octet length, bytes (4.2.5.3). Sticky failure, as every cursor read. */
static inline struct mqg_slice amqp_get_shortstr(struct mqg_cursor *c)
{
    return mqg_cursor_slice(c, mqg_cursor_u8(c));
}

/* A long string or a table: long length, bytes. */
static inline struct mqg_slice amqp_get_longstr(struct mqg_cursor *c)
{
    return mqg_cursor_slice(c, mqg_cursor_be32(c));
}

/* ---- bricks: writing ---------------------------------------------------------------------------------- */
/* All write at p and return the place behind. */

static inline uint8_t *amqp_put_u8(uint8_t *p, uint8_t v)
{
    *p = v;
    return p + 1;
}

static inline uint8_t *amqp_put_be16(uint8_t *p, uint16_t v)
{
    mqg_put_be16(p, v);
    return p + 2;
}

static inline uint8_t *amqp_put_be32(uint8_t *p, uint32_t v)
{
    mqg_put_be32(p, v);
    return p + 4;
}

static inline uint8_t *amqp_put_be64(uint8_t *p, uint64_t v)
{
    mqg_put_be64(p, v);
    return p + 8;
}

static inline uint8_t *amqp_put_bytes(uint8_t *p, struct mqg_slice s)
{
    if (s.len != 0)
        memcpy(p, s.ptr, s.len);
    return p + s.len;
}

static inline uint8_t *amqp_put_shortstr(uint8_t *p, struct mqg_slice s)
{
    MQG_ASSERT(s.len <= AMQP_SHORTSTR_MAX_BYTES);
    return amqp_put_bytes(amqp_put_u8(p, (uint8_t)s.len), s);
}

/* A long string, or a table's content. */
static inline uint8_t *amqp_put_longstr(uint8_t *p, struct mqg_slice s)
{
    MQG_ASSERT(s.len <= UINT32_MAX);
    return amqp_put_bytes(amqp_put_be32(p, (uint32_t)s.len), s);
}

static inline uint8_t *amqp_put_frame_head(uint8_t *p, enum amqp_frame_type type, uint16_t channel,
                                           size_t payload_bytes)
{
    MQG_ASSERT(payload_bytes <= UINT32_MAX);
    p = amqp_put_be16(amqp_put_u8(p, (uint8_t)type), channel);
    return amqp_put_be32(p, (uint32_t)payload_bytes);
}

static inline uint8_t *amqp_put_frame_end(uint8_t *p)
{
    return amqp_put_u8(p, AMQP_FRAME_END);
}

#endif
