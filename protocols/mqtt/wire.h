/* wire.h - the bytes of MQTT 3.1, 3.1.1 and 5.0: packets in and out, properties, without a connection.
 *
 * Everything here is a pure function of its input. A fault is an enum mqg_err with the 5.0 reason code in mqg_error.code; what a
 * version 3 client hears of it (nothing, or a CONNACK) is the connection's matter. Slices borrow from the input.
 *
 *   wire.c     fixed header (2.1), variable byte integers (1.5.5), strings (1.5.4), acknowledgements
 *   props.c    properties (5.0: 2.2.2), by one table
 *   packets.c  CONNECT, PUBLISH, SUBSCRIBE, UNSUBSCRIBE, DISCONNECT, AUTH in; all of the server's out
 *   topic.c    topic names and filters (4.7), as routing keys and back */
#ifndef MQGATE_MQTT_WIRE_H
#define MQGATE_MQTT_WIRE_H

#include <mqgate/base.h>

enum mqtt_version { MQTT_31 = 3, MQTT_311 = 4, MQTT_5 = 5 };

/* X(type, value, what flags must be; 16 = any) - 2.1.2, 2.1.3 */
#define MQTT_PACKETS(X)   \
    X(CONNECT, 1, 0)      \
    X(CONNACK, 2, 0)      \
    X(PUBLISH, 3, 16)     \
    X(PUBACK, 4, 0)       \
    X(PUBREC, 5, 0)       \
    X(PUBREL, 6, 2)       \
    X(PUBCOMP, 7, 0)      \
    X(SUBSCRIBE, 8, 2)    \
    X(SUBACK, 9, 0)       \
    X(UNSUBSCRIBE, 10, 2) \
    X(UNSUBACK, 11, 0)    \
    X(PINGREQ, 12, 0)     \
    X(PINGRESP, 13, 0)    \
    X(DISCONNECT, 14, 0)  \
    X(AUTH, 15, 0)

enum mqtt_type {
#define MQTT_TYPE_ENUM(name, value, flags) MQTT_##name = value,
    MQTT_PACKETS(MQTT_TYPE_ENUM)
#undef MQTT_TYPE_ENUM
};

/* X(symbol, code, name) - 2.4 */
#define MQTT_REASONS(X)                                                   \
    X(SUCCESS, 0x00, "success")                                           \
    X(DISCONNECT_WITH_WILL, 0x04, "disconnect with will message")         \
    X(NO_MATCHING_SUBSCRIBERS, 0x10, "no matching subscribers")           \
    X(NO_SUBSCRIPTION_EXISTED, 0x11, "no subscription existed")           \
    X(CONTINUE_AUTHENTICATION, 0x18, "continue authentication")           \
    X(REAUTHENTICATE, 0x19, "re-authenticate")                            \
    X(UNSPECIFIED, 0x80, "unspecified error")                             \
    X(MALFORMED_PACKET, 0x81, "malformed packet")                         \
    X(PROTOCOL_ERROR, 0x82, "protocol error")                             \
    X(IMPLEMENTATION, 0x83, "implementation specific error")              \
    X(UNSUPPORTED_VERSION, 0x84, "unsupported protocol version")          \
    X(CLIENT_ID_INVALID, 0x85, "client identifier not valid")             \
    X(BAD_USER_OR_PASSWORD, 0x86, "bad user name or password")            \
    X(NOT_AUTHORIZED, 0x87, "not authorized")                             \
    X(SERVER_UNAVAILABLE, 0x88, "server unavailable")                     \
    X(SERVER_BUSY, 0x89, "server busy")                                   \
    X(BANNED, 0x8A, "banned")                                             \
    X(SHUTTING_DOWN, 0x8B, "server shutting down")                        \
    X(BAD_AUTH_METHOD, 0x8C, "bad authentication method")                 \
    X(KEEP_ALIVE_TIMEOUT, 0x8D, "keep alive timeout")                     \
    X(TAKEN_OVER, 0x8E, "session taken over")                             \
    X(FILTER_INVALID, 0x8F, "topic filter invalid")                       \
    X(TOPIC_INVALID, 0x90, "topic name invalid")                          \
    X(PACKET_ID_IN_USE, 0x91, "packet identifier in use")                 \
    X(PACKET_ID_NOT_FOUND, 0x92, "packet identifier not found")           \
    X(RECEIVE_MAXIMUM_EXCEEDED, 0x93, "receive maximum exceeded")         \
    X(TOPIC_ALIAS_INVALID, 0x94, "topic alias invalid")                   \
    X(PACKET_TOO_LARGE, 0x95, "packet too large")                         \
    X(MESSAGE_RATE_TOO_HIGH, 0x96, "message rate too high")               \
    X(QUOTA_EXCEEDED, 0x97, "quota exceeded")                             \
    X(ADMINISTRATIVE, 0x98, "administrative action")                      \
    X(PAYLOAD_FORMAT_INVALID, 0x99, "payload format invalid")             \
    X(RETAIN_UNSUPPORTED, 0x9A, "retain not supported")                   \
    X(QOS_UNSUPPORTED, 0x9B, "QoS not supported")                         \
    X(USE_ANOTHER_SERVER, 0x9C, "use another server")                     \
    X(SERVER_MOVED, 0x9D, "server moved")                                 \
    X(SHARED_UNSUPPORTED, 0x9E, "shared subscriptions not supported")     \
    X(CONNECTION_RATE, 0x9F, "connection rate exceeded")                  \
    X(MAXIMUM_CONNECT_TIME, 0xA0, "maximum connect time")                 \
    X(SUBIDS_UNSUPPORTED, 0xA1, "subscription identifiers not supported") \
    X(WILDCARDS_UNSUPPORTED, 0xA2, "wildcard subscriptions not supported")

enum mqtt_reason {
#define MQTT_REASON_ENUM(sym, code, name) MQTT_RC_##sym = code,
    MQTT_REASONS(MQTT_REASON_ENUM)
#undef MQTT_REASON_ENUM
};
/* "malformed packet"; "unknown" for a code that is none. Static. */
const char *mqtt_reason_name(int code);
const char *mqtt_type_name(unsigned type);

/* ---- the fixed header -------------------------------------------------------------------------------------- */

#define MQTT_VARINT_MAX 268435455u

struct mqtt_head {
    uint8_t type, flags;
    uint8_t head_bytes; /* 2..5 */
    uint32_t body_bytes;
};

/* MORE, MALFORMED (a length of more than four bytes, 2.1.4), OK. Looks at five bytes at most. */
enum mqg_err mqtt_head_peek(struct mqg_slice in, struct mqtt_head *out);
/* Are type and flags those of a packet that a client may send (2.1.3)? In 3.1 a repeated SUBSCRIBE, UNSUBSCRIBE or PUBREL may
 * have DUP set. */
enum mqg_err mqtt_head_check(const struct mqtt_head *h, enum mqtt_version v, struct mqg_error *e);

/* Variable byte integer; fails the cursor on a fifth byte or an overlong form. */
uint32_t mqtt_get_varint(struct mqg_cursor *c);
size_t mqtt_varint_bytes(uint32_t v);
uint8_t *mqtt_put_varint(uint8_t *p, uint32_t v);
/* A 2-byte length and its bytes. */
struct mqg_slice mqtt_get_bytes(struct mqg_cursor *c);
uint8_t *mqtt_put_bytes(uint8_t *p, struct mqg_slice s);
/* Well-formed UTF-8 without U+0000 (1.5.4). */
bool mqtt_utf8_ok(struct mqg_slice s);

/* ---- properties -------------------------------------------------------------------------------------------- */

enum mqtt_prop_kind { MQTT_BYTE, MQTT_U16, MQTT_U32, MQTT_VARINT, MQTT_UTF8, MQTT_BIN, MQTT_PAIR };

#define MQTT_IN(type) (1u << MQTT_##type)
#define MQTT_IN_WILL  (1u << 0)
#define MQTT_IN_ACKS  (MQTT_IN(PUBACK) | MQTT_IN(PUBREC) | MQTT_IN(PUBREL) | MQTT_IN(PUBCOMP))
#define MQTT_IN_ANY   (0xffffu)

/* X(symbol, id, kind, packets) - table 2-4 */
#define MQTT_PROPS(X)                                                                               \
    X(PAYLOAD_FORMAT, 0x01, BYTE, MQTT_IN(PUBLISH) | MQTT_IN_WILL)                                  \
    X(MESSAGE_EXPIRY, 0x02, U32, MQTT_IN(PUBLISH) | MQTT_IN_WILL)                                   \
    X(CONTENT_TYPE, 0x03, UTF8, MQTT_IN(PUBLISH) | MQTT_IN_WILL)                                    \
    X(RESPONSE_TOPIC, 0x08, UTF8, MQTT_IN(PUBLISH) | MQTT_IN_WILL)                                  \
    X(CORRELATION_DATA, 0x09, BIN, MQTT_IN(PUBLISH) | MQTT_IN_WILL)                                 \
    X(SUBSCRIPTION_ID, 0x0B, VARINT, MQTT_IN(PUBLISH) | MQTT_IN(SUBSCRIBE))                         \
    X(SESSION_EXPIRY, 0x11, U32, MQTT_IN(CONNECT) | MQTT_IN(CONNACK) | MQTT_IN(DISCONNECT))         \
    X(ASSIGNED_CLIENT_ID, 0x12, UTF8, MQTT_IN(CONNACK))                                             \
    X(SERVER_KEEP_ALIVE, 0x13, U16, MQTT_IN(CONNACK))                                               \
    X(AUTH_METHOD, 0x15, UTF8, MQTT_IN(CONNECT) | MQTT_IN(CONNACK) | MQTT_IN(AUTH))                 \
    X(AUTH_DATA, 0x16, BIN, MQTT_IN(CONNECT) | MQTT_IN(CONNACK) | MQTT_IN(AUTH))                    \
    X(REQUEST_PROBLEM, 0x17, BYTE, MQTT_IN(CONNECT))                                                \
    X(WILL_DELAY, 0x18, U32, MQTT_IN_WILL)                                                          \
    X(REQUEST_RESPONSE, 0x19, BYTE, MQTT_IN(CONNECT))                                               \
    X(RESPONSE_INFO, 0x1A, UTF8, MQTT_IN(CONNACK))                                                  \
    X(SERVER_REFERENCE, 0x1C, UTF8, MQTT_IN(CONNACK) | MQTT_IN(DISCONNECT))                         \
    X(REASON_STRING, 0x1F, UTF8,                                                                    \
      MQTT_IN(CONNACK) | MQTT_IN_ACKS | MQTT_IN(SUBACK) | MQTT_IN(UNSUBACK) | MQTT_IN(DISCONNECT) | \
          MQTT_IN(AUTH))                                                                            \
    X(RECEIVE_MAXIMUM, 0x21, U16, MQTT_IN(CONNECT) | MQTT_IN(CONNACK))                              \
    X(TOPIC_ALIAS_MAXIMUM, 0x22, U16, MQTT_IN(CONNECT) | MQTT_IN(CONNACK))                          \
    X(TOPIC_ALIAS, 0x23, U16, MQTT_IN(PUBLISH))                                                     \
    X(MAXIMUM_QOS, 0x24, BYTE, MQTT_IN(CONNACK))                                                    \
    X(RETAIN_AVAILABLE, 0x25, BYTE, MQTT_IN(CONNACK))                                               \
    X(USER_PROPERTY, 0x26, PAIR, MQTT_IN_ANY)                                                       \
    X(MAXIMUM_PACKET_SIZE, 0x27, U32, MQTT_IN(CONNECT) | MQTT_IN(CONNACK))                          \
    X(WILDCARD_AVAILABLE, 0x28, BYTE, MQTT_IN(CONNACK))                                             \
    X(SUBIDS_AVAILABLE, 0x29, BYTE, MQTT_IN(CONNACK))                                               \
    X(SHARED_AVAILABLE, 0x2A, BYTE, MQTT_IN(CONNACK))

enum mqtt_prop {
#define MQTT_PROP_ENUM(sym, id, kind, packets) MQTT_P_##sym = id,
    MQTT_PROPS(MQTT_PROP_ENUM)
#undef MQTT_PROP_ENUM
        MQTT_P_END = 0x2B
};

/* What a block says; num and str are filled only where `has` has the bit of the id. Repeatable properties (user properties, the
 * subscription identifiers of a server's PUBLISH) are iterated over in `raw`. */
struct mqtt_props {
    uint64_t has;
    struct mqg_slice raw;
    uint32_t num[MQTT_P_END];
    struct mqg_slice str[MQTT_P_END];
};

static inline bool mqtt_has(const struct mqtt_props *p, enum mqtt_prop id)
{
    return (p->has >> id & 1) != 0;
}
static inline uint32_t mqtt_num(const struct mqtt_props *p, enum mqtt_prop id, uint32_t otherwise)
{
    return mqtt_has(p, id) ? p->num[id] : otherwise;
}
static inline struct mqg_slice mqtt_str(const struct mqtt_props *p, enum mqtt_prop id)
{
    return mqtt_has(p, id) ? p->str[id] : MQG_SLICE_NONE;
}

/* The length and the block; checks ids, packet, repetition and values. `where`: MQTT_IN(type) or MQTT_IN_WILL. */
enum mqg_err mqtt_props_get(struct mqg_cursor *c, unsigned where, struct mqtt_props *out,
                            struct mqg_error *e);
/* The block alone. */
enum mqg_err mqtt_props_scan(struct mqg_slice block, unsigned where, struct mqtt_props *out,
                             struct mqg_error *e);

/* One property after the other of a block that was checked before. */
struct mqtt_prop_iter {
    struct mqg_cursor cursor;
    uint8_t id;
    uint32_t num;
    struct mqg_slice str;   /* UTF8, BIN; a pair's name */
    struct mqg_slice value; /* a pair's */
    struct mqg_slice whole; /* id and all */
};
struct mqtt_prop_iter mqtt_prop_iter_of(struct mqg_slice block);
bool mqtt_prop_next(struct mqtt_prop_iter *it);

/* Appending; the length in front is the packet's. */
void mqtt_add_num(struct mqg_dynbuf *b, enum mqtt_prop id, uint32_t v);
void mqtt_add_str(struct mqg_dynbuf *b, enum mqtt_prop id, struct mqg_slice s);
void mqtt_add_pair(struct mqg_dynbuf *b, struct mqg_slice name, struct mqg_slice value);

/* ---- packets that clients send ------------------------------------------------------------------------------- */

struct mqtt_connect {
    enum mqtt_version version;
    bool clean, has_will, will_retain, has_user, has_password;
    uint8_t will_qos;
    uint16_t keep_alive_s;
    struct mqg_slice client_id, will_topic, will_payload, user, password;
    struct mqtt_props props, will_props;
};
/* Sets out->version as soon as it is known, so that a refusal can be put in the client's words; 0 before. */
enum mqg_err mqtt_connect_decode(struct mqg_slice body, struct mqtt_connect *out, struct mqg_error *e);

/* The beginning of a PUBLISH, up to its payload. */
struct mqtt_publish {
    bool dup, retain;
    uint8_t qos;
    uint16_t packet_id;
    struct mqg_slice topic;
    struct mqtt_props props;
    uint32_t head_bytes;    /* of the variable header */
    uint32_t payload_bytes; /* all of it; it need not be in the input */
};
/* `in` starts behind the fixed header; MORE while the variable header is not whole. Topic names are checked here, but for an
 * empty one with an alias. */
enum mqg_err mqtt_publish_decode(const struct mqtt_head *h, struct mqg_slice in, enum mqtt_version v,
                                 struct mqtt_publish *out, struct mqg_error *e);

/* PUBACK, PUBREC, PUBREL, PUBCOMP. */
struct mqtt_ack {
    uint16_t packet_id;
    uint8_t reason;
};
enum mqg_err mqtt_ack_decode(enum mqtt_type type, struct mqg_slice body, enum mqtt_version v,
                             struct mqtt_ack *out, struct mqg_error *e);

/* SUBSCRIBE and UNSUBSCRIBE: checked whole, then iterated. */
struct mqtt_filters {
    uint16_t packet_id;
    bool with_options;
    enum mqtt_version version;
    uint32_t n;
    uint32_t subscription_id; /* 0: none */
    struct mqg_cursor cursor;
};
struct mqtt_filter {
    struct mqg_slice name;
    uint8_t qos, retain_handling;
    bool no_local, retain_as_published;
};
enum mqg_err mqtt_filters_decode(enum mqtt_type type, struct mqg_slice body, enum mqtt_version v,
                                 struct mqtt_filters *out, struct mqg_error *e);
bool mqtt_filters_next(struct mqtt_filters *f, struct mqtt_filter *out);

/* DISCONNECT and AUTH (5.0). */
struct mqtt_goodbye {
    uint8_t reason;
    struct mqtt_props props;
};
enum mqg_err mqtt_goodbye_decode(enum mqtt_type type, struct mqg_slice body, enum mqtt_version v,
                                 struct mqtt_goodbye *out, struct mqg_error *e);

/* ---- packets that the server sends ----------------------------------------------------------------------------- */

/* Appends a whole packet: fixed header, `head` (the variable header before the properties), properties if the version has
 * them, `tail`. */
void mqtt_packet_put(struct mqg_dynbuf *out, enum mqtt_type type, enum mqtt_version v, struct mqg_slice head,
                     struct mqg_slice props, struct mqg_slice tail);
/* An acknowledgement in at most MQTT_ACK_MAX_BYTES; the bytes written. A reason of 0 takes the short form. */
#define MQTT_ACK_MAX_BYTES 5
size_t mqtt_ack_put(uint8_t *p, enum mqtt_type type, enum mqtt_version v, uint16_t packet_id, uint8_t reason);
/* What a 3.x client hears in a CONNACK for a reason of 5.0 (3.1.1: 3.2.2.3). */
uint8_t mqtt_connack_code_3(int reason);

/* ---- topics ------------------------------------------------------------------------------------------------------ */

#define MQTT_LEVELS_MAX 64

/* 4.7: not empty, no wildcards, no U+0000, at most MQTT_LEVELS_MAX levels. */
bool mqtt_topic_ok(struct mqg_slice topic);
bool mqtt_filter_ok(struct mqg_slice filter);
/* Splits "$share/group/filter" (5.0: 4.8.2). false: not a shared one; *bad: it begins like one and is malformed. */
bool mqtt_share_split(struct mqg_slice name, struct mqg_slice *group, struct mqg_slice *filter, bool *bad);
/* Does the filter match the topic (4.7.1, and 4.7.2 for topics that begin with $)? */
bool mqtt_topic_matches(struct mqg_slice filter, struct mqg_slice topic);
/* A filter as a binding key: levels joined by '.', '+' as '*', separators inside a level swapped. A literal '*' or a '#' that
 * is no wildcard cannot be said; the binding then matches more, and the session's own filters decide. */
void mqtt_filter_key(struct mqg_dynbuf *out, struct mqg_slice filter);
/* A routing key of another protocol as a topic name: separators swapped, what a name cannot carry percent-escaped; *escaped
 * says that something was. */
void mqtt_topic_of_key(struct mqg_dynbuf *out, struct mqg_slice key, char sep, bool *escaped);

#endif
