/* mqgate/msg.h - the envelope: what a message is between the protocol it came by, the queues and the store.
 *
 * One message is one immutable, counted block: a runtime head, then the **stored form** (struct mqg_stored and the
 * bytes behind it) exactly as the journal writes it, so that storing and loading are one memcpy each:
 *
 *   struct mqg_msg | struct mqg_stored | exchange | key | pkey | user | client | origin | overlay | body
 *
 * `origin` are the property and header bytes of the protocol by which it came, untouched: the same protocol sends them
 * out again. `overlay` is what hops changed (x-death, dropped expiration, stripped BCC...): applied on delivery. The
 * common view (typed headers, well-known properties) is decoded lazily, only for header matching, dead letters and when
 * protocols are crossed. Memory comes from per-worker slabs (64 KiB, bump allocated, recycled when the last message in
 * them is gone); large messages have a block of their own, which the kernel only backs as the body arrives.
 *
 * The routing key is a list of levels: its bytes are kept as they came together with the separator of the protocol
 * ('.' or '/'), so the levels are known without a copy and rendering for another protocol swaps separators inside levels
 * (MAPPING "Names"). */
#ifndef MQGATE_MSG_H
#define MQGATE_MSG_H

#include <mqgate/base.h>
#include <mqgate/value.h>

struct mqg_extent;
struct mqg_slab;

enum mqg_proto { /* ingress protocol; stored, so numbers are for ever */
                 MQG_PROTO_NONE = 0,
                 MQG_PROTO_AMQP091 = 1,
                 MQG_PROTO_MQTT = 2,
                 MQG_PROTO_STOMP = 3,
                 MQG_PROTO_KAFKA = 4,
                 MQG_PROTO_HTTP = 5,
                 MQG_PROTO_INTERNAL = 6,
                 MQG_PROTO_COUNT
};

enum mqg_msg_flag { /* stored */
                    MQG_MSG_PERSISTENT = 1u << 0,
                    MQG_MSG_NULL_BODY = 1u << 1, /* a tombstone is not an empty body */
                    MQG_MSG_HAS_PKEY = 1u << 2,  /* a partition key was given (it may be empty) */
                    MQG_MSG_HAS_TTL = 1u << 3,
};

#define MQG_STORED_VERSION 1
#define MQG_MSG_BODY_MAX   (128u << 20)
#define MQG_KEY_LEVELS_MAX 128

/* The stored form's head: little-endian, 80 bytes, no padding, version first. */
struct mqg_stored {
    uint8_t version;
    uint8_t proto; /* enum mqg_proto */
    uint8_t flags; /* enum mqg_msg_flag */
    uint8_t priority;
    uint8_t key_sep; /* '.' or '/' */
    uint8_t user_len;
    uint8_t client_len;
    uint8_t reserved;
    uint64_t id_hi; /* time-ordered: microseconds << 0 */
    uint64_t id_lo; /* node epoch, worker, counter */
    uint64_t create_us;
    uint64_t append_us;
    uint64_t ttl_ms; /* with HAS_TTL: relative to append_us */
    uint16_t exchange_len;
    uint16_t key_len;
    uint32_t pkey_len;
    uint32_t origin_len;
    uint32_t overlay_len;
    uint32_t body_len;
    uint32_t reserved2;
    uint64_t reserved3;
};
_Static_assert(sizeof(struct mqg_stored) == 80, "the stored form is a file format");

#define MQG_MSG_MAGIC 0x6d71676du

struct mqg_msg {
    uint32_t magic;
    _Atomic uint32_t refs;
    struct mqg_slab *slab; /* where the memory lives */
    struct mqg_extent
        *extent;         /* store.h: set before the message is visible to others when it will be stored */
    uint32_t extent_off; /* of its stored form in the extent; valid once the extent is durable */
    uint32_t total_len;  /* sizeof(struct mqg_stored) + all parts */
    struct mqg_stored st;
    uint8_t data[];
};

/* What a handler knows before the body has come; lengths are final, bytes are copied in. Limits were checked before. */
struct mqg_msg_parts {
    enum mqg_proto proto;
    uint8_t flags;
    uint8_t priority;
    char key_sep;
    uint64_t ttl_ms;
    struct mqg_slice exchange, key, pkey, user, client, origin, overlay;
    uint32_t body_len;
};

/* A new message, refs = 1, body not yet filled: the creator writes it through mqg_msg_body_mut() before publishing.
 * Identity and times come from the calling worker's turn clock. NULL when the node's message budget is used up.
 * Thread: a worker. */
MQG_API struct mqg_msg *mqg_msg_new(const struct mqg_msg_parts *parts);
/* Rebuilds a message from its stored form (checked: version, lengths). NULL + *err on bytes that do not check. */
MQG_API struct mqg_msg *mqg_msg_from_stored(struct mqg_slice stored, enum mqg_err *err);
/* A copy with another exchange, key and overlay (dead letter, retry): identity, origin and body kept. flags replace. */
MQG_API struct mqg_msg *mqg_msg_derive(const struct mqg_msg *m, struct mqg_slice exchange,
                                       struct mqg_slice key, struct mqg_slice overlay, uint8_t flags,
                                       uint64_t ttl_ms);
/* A message made of what a stream holds: its identity is the record's (partition, offset), both its times are time_us. The
 * body is written by the caller. What was accepted once is not refused for want of message memory: NULL only when the
 * system has none. */
MQG_API struct mqg_msg *mqg_msg_restore(const struct mqg_msg_parts *parts, uint64_t partition,
                                        uint64_t offset, uint64_t time_us);
/* A copy for a second store. */
MQG_API struct mqg_msg *mqg_msg_clone(const struct mqg_msg *m);
MQG_API void mqg_msg_free_block(struct mqg_msg *m); /* called by unref at zero */

static inline struct mqg_msg *mqg_msg_ref(struct mqg_msg *m)
{
    atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
    return m;
}

static inline void mqg_msg_unref(struct mqg_msg **m)
{
    struct mqg_msg *msg = *m;
    *m = NULL;
    if (msg && atomic_fetch_sub_explicit(&msg->refs, 1, memory_order_acq_rel) == 1)
        mqg_msg_free_block(msg);
}

/* ---- parts ------------------------------------------------------------------------------------------------------ */

static inline const uint8_t *mqg_msg_at_key(const struct mqg_msg *m)
{
    return m->data + m->st.exchange_len;
}
static inline const uint8_t *mqg_msg_at_pkey(const struct mqg_msg *m)
{
    return mqg_msg_at_key(m) + m->st.key_len;
}
static inline const uint8_t *mqg_msg_at_user(const struct mqg_msg *m)
{
    return mqg_msg_at_pkey(m) + m->st.pkey_len;
}
static inline const uint8_t *mqg_msg_at_origin(const struct mqg_msg *m)
{
    return mqg_msg_at_user(m) + m->st.user_len + m->st.client_len;
}
static inline struct mqg_slice mqg_msg_exchange(const struct mqg_msg *m)
{
    return mqg_slice_of(m->data, m->st.exchange_len);
}
static inline struct mqg_slice mqg_msg_key(const struct mqg_msg *m)
{
    return mqg_slice_of(mqg_msg_at_key(m), m->st.key_len);
}
static inline struct mqg_slice mqg_msg_pkey(const struct mqg_msg *m)
{
    return mqg_slice_of(mqg_msg_at_pkey(m), m->st.pkey_len);
}
static inline struct mqg_slice mqg_msg_user(const struct mqg_msg *m)
{
    return mqg_slice_of(mqg_msg_at_user(m), m->st.user_len);
}
static inline struct mqg_slice mqg_msg_origin(const struct mqg_msg *m)
{
    return mqg_slice_of(mqg_msg_at_origin(m), m->st.origin_len);
}
static inline struct mqg_slice mqg_msg_overlay(const struct mqg_msg *m)
{
    return mqg_slice_of(mqg_msg_at_origin(m) + m->st.origin_len, m->st.overlay_len);
}
static inline struct mqg_slice mqg_msg_body(const struct mqg_msg *m)
{
    return mqg_slice_of(mqg_msg_at_origin(m) + m->st.origin_len + m->st.overlay_len, m->st.body_len);
}
static inline uint8_t *mqg_msg_body_mut(struct mqg_msg *m)
{
    return (uint8_t *)(uintptr_t)mqg_msg_body(m).ptr;
}
/* The stored form: what the journal writes. */
static inline struct mqg_slice mqg_msg_stored(const struct mqg_msg *m)
{
    return mqg_slice_of(&m->st, m->total_len);
}
static inline bool mqg_msg_persistent(const struct mqg_msg *m)
{
    return (m->st.flags & MQG_MSG_PERSISTENT) != 0;
}

/* ---- overlay ------------------------------------------------------------------------------------------------------ */

/* Well-known properties by bit: those an overlay drops, and the fields of the common view. */
enum mqg_prop {
    MQG_PROP_CONTENT_TYPE = 1u << 0,
    MQG_PROP_CONTENT_ENCODING = 1u << 1,
    MQG_PROP_CORRELATION_ID = 1u << 2,
    MQG_PROP_REPLY_TO = 1u << 3,
    MQG_PROP_MESSAGE_ID = 1u << 4,
    MQG_PROP_TYPE = 1u << 5,
    MQG_PROP_APP_ID = 1u << 6,
    MQG_PROP_USER_ID = 1u << 7,
    MQG_PROP_TIMESTAMP = 1u << 8,
    MQG_PROP_PRIORITY = 1u << 9,
    MQG_PROP_DELIVERY_MODE = 1u << 10,
    MQG_PROP_EXPIRATION = 1u << 11,
    MQG_PROP_CLUSTER_ID = 1u << 12,
};

/* The change list of the hops so far, relative to the origin form. Encoded: version, drop bits, remove table, set table. */
struct mqg_overlay {
    uint32_t drop;     /* MQG_PROP_* no longer there */
    bool has_reply_to; /* reply_to replaced (direct reply-to) */
    struct mqg_slice reply_to;
    struct mqg_table remove; /* headers gone (values ignored) */
    struct mqg_table set;    /* headers set or replaced, in order */
};
MQG_API void mqg_overlay_encode(struct mqg_dynbuf *out, const struct mqg_overlay *o);
MQG_API enum mqg_err mqg_overlay_decode(struct mqg_slice in, struct mqg_arena *a,
                                        struct mqg_overlay *o) MQG_MUST_CHECK;

/* ---- the common view ------------------------------------------------------------------------------------------------ */

struct mqg_view {
    uint32_t has; /* MQG_PROP_* */
    struct mqg_slice content_type, content_encoding, correlation_id, reply_to, message_id, type, app_id,
        user_id;
    uint64_t timestamp_us;
    uint64_t expiration_ms;
    uint8_t priority, delivery_mode;
    struct mqg_table headers;
    struct mqg_slice cluster_id;
};

/* A protocol registers how its origin bytes are read; once, at load, before workers start. */
struct mqg_origin_ops {
    enum mqg_proto proto;
    enum mqg_err (*decode)(struct mqg_slice origin, struct mqg_arena *a, struct mqg_view *out);
    /* The way back, for messages that are made of a stream's records: appends to `out`. What the protocol cannot say is
     * dropped and counted. NULL: its consumers get the common form and render it as any other protocol's message. */
    enum mqg_err (*encode)(const struct mqg_view *v, struct mqg_arena *a, struct mqg_dynbuf *out);
    bool names_once; /* its clients keep one value a header name: what repeats becomes an array */
    bool no_null;    /* it has no null body: the header mqgate-null-body says so */
};
MQG_API void mqg_origin_register(const struct mqg_origin_ops *ops);
/* The ops by which a message for a consumer of `proto` is written: its own where it can encode, else those of the common
 * form (MQG_PROTO_INTERNAL), which mqg_msg_view reads. Never NULL. */
MQG_API const struct mqg_origin_ops *mqg_origin_writer(enum mqg_proto proto);
/* Decodes origin + overlay into the common view; strings borrow from the message and the arena. A protocol whose module
 * is not loaded gives an empty view and MQG_UNSUPPORTED. */
MQG_API enum mqg_err mqg_msg_view(const struct mqg_msg *m, struct mqg_arena *a, struct mqg_view *out);

/* A name that repeats becomes one array at its first place, for protocols whose clients keep one value a name. For headers of
 * protocols without arrays of their own. False: the arena is full. */
MQG_API bool mqg_headers_once(struct mqg_table *t, struct mqg_arena *a);

/* ---- levels ---------------------------------------------------------------------------------------------------------- */

/* Splits a key into at most max levels (slices into key); the number, or 0 when there are more. An empty key is one
 * empty level (as RabbitMQ). */
MQG_API size_t mqg_key_levels(struct mqg_slice key, char sep, struct mqg_slice *levels, size_t max);
/* Renders the key for another separator, swapping separators inside levels; appends to out. */
MQG_API void mqg_key_render(struct mqg_dynbuf *out, struct mqg_slice key, char from_sep, char to_sep);
/* The same into memory of the caller's: key.len bytes, since swapping keeps the length. */
MQG_API void mqg_key_swap(uint8_t *to, struct mqg_slice key, char from_sep, char to_sep);

/* Bytes of message memory in use on the node (slabs and large blocks), and the budget's limit. Any thread. */
MQG_API int64_t mqg_msg_memory_used(void);
MQG_API void mqg_msg_memory_limit(int64_t bytes);

#endif
