/* props.h - content headers: the properties of a message (class basic, specification part 1, 1.8.2; part 2,
 * 4.2.6.1).
 *
 * The payload of a content header frame:
 *
 *   0        2        4           12      14
 *   +--------+--------+-----------+-------+--------------------- - -
 *   | class  | weight | body size | flags | properties that are set
 *   +--------+--------+-----------+-------+--------------------- - -
 *    short    short 0  longlong    short   in the flags' order
 *
 * Flags and properties together ("raw" below) are what a message keeps as its origin form: they are checked
 * once when they come in and sent again byte by byte. So one bit or length that slipped through would break
 * every consumer; all of it is validated, the headers table to its depth.
 *
 * Flag bit 0 announces a second word of flags. Class basic has 14 properties and never needs it: refused,
 * like bit 1, which no property uses. */
#ifndef MQGATE_AMQP_PROPS_H
#define MQGATE_AMQP_PROPS_H

#include "wire.h"

#define AMQP_CONTENT_HEAD_BYTES 12u /* class, weight, body size: what stands before the raw properties */
#define AMQP_PROPS_EMPTY        "\x00\x00" /* raw properties of a message that has none: 2 bytes */

enum amqp_prop_flag {
    AMQP_PROP_CONTENT_TYPE = 1 << 15,
    AMQP_PROP_CONTENT_ENCODING = 1 << 14,
    AMQP_PROP_HEADERS = 1 << 13,
    AMQP_PROP_DELIVERY_MODE = 1 << 12,
    AMQP_PROP_PRIORITY = 1 << 11,
    AMQP_PROP_CORRELATION_ID = 1 << 10,
    AMQP_PROP_REPLY_TO = 1 << 9,
    AMQP_PROP_EXPIRATION = 1 << 8,
    AMQP_PROP_MESSAGE_ID = 1 << 7,
    AMQP_PROP_TIMESTAMP = 1 << 6,
    AMQP_PROP_TYPE = 1 << 5,
    AMQP_PROP_USER_ID = 1 << 4,
    AMQP_PROP_APP_ID = 1 << 3,
    AMQP_PROP_CLUSTER_ID = 1 << 2,
    AMQP_PROP_RESERVED = 0x0003, /* continuation, and a bit without a property */
};

/* A property is there when its flag is set: an empty string that is there is not the same as none. Members
 * without their flag are empty slices and zeros after a scan, and not looked at by a write. */
struct amqp_props {
    uint16_t flags;        /* enum amqp_prop_flag */
    uint8_t delivery_mode; /* 1 transient, 2 persistent; other values are as transient */
    uint8_t priority;
    uint64_t timestamp_s;     /* seconds since 1970, as the peer says */
    struct mqg_slice headers; /* a table's content (table.h) */
    struct mqg_slice content_type;
    struct mqg_slice content_encoding;
    struct mqg_slice correlation_id;
    struct mqg_slice reply_to;
    struct mqg_slice expiration; /* milliseconds in decimal text */
    struct mqg_slice message_id;
    struct mqg_slice type;
    struct mqg_slice user_id;
    struct mqg_slice app_id;
    struct mqg_slice cluster_id;
};

static inline bool amqp_props_has(const struct amqp_props *p, enum amqp_prop_flag flag)
{
    return (p->flags & (unsigned)flag) != 0;
}

/* One pass over raw properties, which must end where raw ends. All members of out are set; slices point into
 * raw. No allocation. MQG_OK, MQG_MALFORMED (502 SYNTAX_ERROR), MQG_TOO_LARGE (headers nested too deep or too
 * many; 502), MQG_UNSUPPORTED (a reserved flag; 502). */
enum mqg_err amqp_props_scan(struct mqg_slice raw, struct amqp_props *out) MQG_MUST_CHECK;

/* Bytes of the raw form, and the raw form at p; returns the place behind. Only what has its flag is written.
 * A short string over 255 bytes is our own bug and asserts, as does a reserved flag. */
size_t amqp_props_size(const struct amqp_props *props);
uint8_t *amqp_props_write(uint8_t *p, const struct amqp_props *props);

/* ---- content header frame ----------------------------------------------------------------------------- */

struct amqp_content {
    uint16_t class_id;
    uint64_t body_bytes;
    struct mqg_slice raw; /* flags and properties, not yet scanned */
};

/* Splits a content header's payload. MQG_MALFORMED (501 FRAME_ERROR): too short, or a weight that is not 0.
 * The class is the caller's to compare with the method's (505 UNEXPECTED_FRAME). */
enum mqg_err amqp_content_peek(struct mqg_slice payload, struct amqp_content *out) MQG_MUST_CHECK;

/* A whole content header frame for class basic around raw properties, which are copied. */
static inline size_t amqp_content_frame_size(struct mqg_slice raw)
{
    return AMQP_FRAME_OVERHEAD_BYTES + AMQP_CONTENT_HEAD_BYTES + raw.len;
}

static inline uint8_t *amqp_content_frame(uint8_t *p, uint16_t channel, uint64_t body_bytes,
                                          struct mqg_slice raw)
{
    p = amqp_put_frame_head(p, AMQP_FRAME_HEADER, channel, AMQP_CONTENT_HEAD_BYTES + raw.len);
    p = amqp_put_be32(p, 60u << 16); /* class basic, weight 0 */
    p = amqp_put_be64(p, body_bytes);
    return amqp_put_frame_end(amqp_put_bytes(p, raw));
}

#endif
