/* frame.h - the STOMP codec: header blocks read and written, escapes of each version. Pure functions of bytes. */
#ifndef MQGATE_STOMP_FRAME_H
#define MQGATE_STOMP_FRAME_H

#include <mqgate/base.h>

enum stomp_version { STOMP_10, STOMP_11, STOMP_12, STOMP_VERSIONS };

/* X(symbol, text) */
#define STOMP_COMMANDS(X)         \
    X(CONNECT, "CONNECT")         \
    X(STOMP, "STOMP")             \
    X(SEND, "SEND")               \
    X(SUBSCRIBE, "SUBSCRIBE")     \
    X(UNSUBSCRIBE, "UNSUBSCRIBE") \
    X(ACK, "ACK")                 \
    X(NACK, "NACK")               \
    X(BEGIN, "BEGIN")             \
    X(COMMIT, "COMMIT")           \
    X(ABORT, "ABORT")             \
    X(DISCONNECT, "DISCONNECT")

enum stomp_command {
#define STOMP_COMMAND_ENUM(sym, text) STOMP_##sym,
    STOMP_COMMANDS(STOMP_COMMAND_ENUM)
#undef STOMP_COMMAND_ENUM
        STOMP_COMMAND_COUNT,
    STOMP_UNKNOWN = STOMP_COMMAND_COUNT
};

/* Headers that the server itself reads or writes, in groups: HOP means something between this client and us and is no part of a
 * message; PROP is a well-known property of a message; BODY is an end-to-end header that is also looked at. */
/* X(symbol, text, group) */
#define STOMP_HEADERS(X)                                  \
    X(DESTINATION, "destination", HOP)                    \
    X(CONTENT_LENGTH, "content-length", HOP)              \
    X(RECEIPT, "receipt", HOP)                            \
    X(TRANSACTION, "transaction", HOP)                    \
    X(ID, "id", BODY)                                     \
    X(ACK, "ack", HOP)                                    \
    X(SUBSCRIPTION, "subscription", HOP)                  \
    X(MESSAGE_ID, "message-id", HOP)                      \
    X(REDELIVERED, "redelivered", HOP)                    \
    X(RECEIPT_ID, "receipt-id", BODY)                     \
    X(ACCEPT_VERSION, "accept-version", BODY)             \
    X(HOST, "host", BODY)                                 \
    X(LOGIN, "login", HOP)                                \
    X(PASSCODE, "passcode", HOP)                          \
    X(HEART_BEAT, "heart-beat", BODY)                     \
    X(SELECTOR, "selector", BODY)                         \
    X(PREFETCH_COUNT, "prefetch-count", BODY)             \
    X(REQUEUE, "requeue", BODY)                           \
    X(DURABLE, "durable", BODY)                           \
    X(AUTO_DELETE, "auto-delete", BODY)                   \
    X(EXCLUSIVE, "exclusive", BODY)                       \
    X(X_QUEUE_NAME, "x-queue-name", BODY)                 \
    X(X_STREAM_OFFSET, "x-stream-offset", BODY)           \
    X(X_PRIORITY, "x-priority", BODY)                     \
    X(X_PARTITION_KEY, "x-partition-key", BODY)           \
    X(AMQ_SCHEDULED_DELAY, "AMQ_SCHEDULED_DELAY", BODY)   \
    X(AMQ_SCHEDULED_PERIOD, "AMQ_SCHEDULED_PERIOD", BODY) \
    X(AMQ_SCHEDULED_REPEAT, "AMQ_SCHEDULED_REPEAT", BODY) \
    X(AMQ_SCHEDULED_CRON, "AMQ_SCHEDULED_CRON", BODY)     \
    X(MQGATE_NULL_BODY, "mqgate-null-body", BODY)         \
    X(MQGATE_ORIGIN, "mqgate-origin", BODY)               \
    X(PERSISTENT, "persistent", PROP)                     \
    X(CONTENT_TYPE, "content-type", PROP)                 \
    X(CONTENT_ENCODING, "content-encoding", PROP)         \
    X(PRIORITY, "priority", PROP)                         \
    X(CORRELATION_ID, "correlation-id", PROP)             \
    X(REPLY_TO, "reply-to", PROP)                         \
    X(EXPIRATION, "expiration", PROP)                     \
    X(AMQP_MESSAGE_ID, "amqp-message-id", PROP)           \
    X(TIMESTAMP, "timestamp", PROP)                       \
    X(TYPE, "type", PROP)                                 \
    X(USER_ID, "user-id", PROP)                           \
    X(APP_ID, "app-id", PROP)

enum stomp_header_group { STOMP_GROUP_HOP, STOMP_GROUP_BODY, STOMP_GROUP_PROP };

enum stomp_header_id {
#define STOMP_HEADER_ENUM(sym, text, group) STOMP_H_##sym,
    STOMP_HEADERS(STOMP_HEADER_ENUM)
#undef STOMP_HEADER_ENUM
        STOMP_H_COUNT,
    STOMP_H_OTHER = STOMP_H_COUNT
};
_Static_assert(STOMP_H_COUNT <= 64, "the headers seen are one word of bits");

struct stomp_line {
    struct mqg_slice name, value; /* as they came: escaped */
    enum stomp_header_id id;
};

/* A header block, borrowed from the input. A header that repeats counts with its first value (1.2, "Repeated Header
 * Entries"). */
struct stomp_head {
    enum stomp_command command;
    struct mqg_slice command_text;
    size_t len; /* bytes, command line and empty line included */
    uint64_t has;
    struct mqg_slice known[STOMP_H_COUNT]; /* first value of each; valid where `has` says so */
    uint32_t n, max;
    struct stomp_line *lines; /* the caller's, room for max */
    bool escapes;             /* some line has a backslash */
};

static inline bool stomp_has(const struct stomp_head *h, enum stomp_header_id id)
{
    return (h->has >> id & 1) != 0;
}

/* Bytes of line ends (heart-beats) that stand before a frame. */
size_t stomp_eols(struct mqg_slice in);
/* Finds the end of a header block. MQG_MORE: it is not there yet, and *scanned says from where to look the next time.
 * MALFORMED: a NUL inside. */
enum mqg_err stomp_head_end(struct mqg_slice in, size_t *scanned, size_t *len) MQG_MUST_CHECK;
/* Reads a whole block, h->lines and h->max given. MALFORMED, TOO_LARGE (more than h->max headers) with a text. */
enum mqg_err stomp_head_read(struct mqg_slice block, struct stomp_head *h,
                             struct mqg_error *e) MQG_MUST_CHECK;

enum stomp_header_id stomp_header_find(struct mqg_slice name);
const char *stomp_header_name(enum stomp_header_id id);
enum stomp_header_group stomp_header_group(enum stomp_header_id id);
const char *stomp_version_name(enum stomp_version v);

/* Undoes the escapes of a version; `in` itself where there are none. MALFORMED: an escape that the version does not have
 * (1.1 and 1.2: fatal); NO_MEMORY. */
enum mqg_err stomp_unescape(struct mqg_slice in, enum stomp_version v, struct mqg_arena *a,
                            struct mqg_slice *out) MQG_MUST_CHECK;
/* Most bytes that n bytes become. */
#define STOMP_ESCAPED_MAX(n) ((n)*2)
/* Writes s as a header's name or value for a version; returns the end. In 1.0, which has no escapes, only what would break the
 * frame is written as 1.1 does. */
uint8_t *stomp_escape(uint8_t *to, struct mqg_slice s, enum stomp_version v, bool is_name);
/* "name:value\n". */
void stomp_put_header(struct mqg_dynbuf *out, enum stomp_version v, struct mqg_slice name,
                      struct mqg_slice value);

/* Decimal digits only, at most max; false else. */
bool stomp_number(struct mqg_slice s, uint64_t max, uint64_t *out);
/* "true" (and "1", "yes" as nobody forbids): the value of a header that is a flag. */
bool stomp_flag(const struct stomp_head *h, enum stomp_header_id id, bool fallback);

#endif
