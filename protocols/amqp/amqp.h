/* amqp.h - connections and channels of AMQP 0-9-1: the state that the handler's files share.
 *
 *   module.c   descriptor, the host's calls            conn.c      handshake, connection methods, heartbeats, closing
 *   login.c    SASL mechanisms                         channel.c   channels: opening, closing, dispatch of methods, replies
 *   define.c   exchange.* and queue.*                  content.c   basic.publish: method, header, body frames
 *   consume.c  basic.consume, deliver, get             settle.c    ack, nack, reject, recover; what is unacknowledged
 *   tx.c       tx.*                                    origin.c    our properties as the common view, and back
 *
 * Everything of a connection runs on its worker. A fault is a struct mqg_error with the reply code in `code`: a soft code
 * closes the channel, a hard one the connection (amqp_reply_is_hard). */
#ifndef MQGATE_AMQP_H
#define MQGATE_AMQP_H

#include <mqgate/broker.h>
#include <mqgate/obs.h>
#include <mqgate/protocol.h>

#include "methods.h"
#include "props.h"
#include "table.h"
#include "wire.h"

#define AMQP_FRAME_MAX_BYTES 131072u /* what we offer */
#define AMQP_CHANNEL_MAX     2047u
#define AMQP_HEARTBEAT_S     60u
#define AMQP_CLOSE_WAIT_MS   5000u /* for the peer's close-ok */
#define AMQP_SETTLE_BATCH    256u
#define AMQP_REPLY_TO        "amq.rabbitmq.reply-to"

enum amqp_phase {
    AMQP_HEADER,
    AMQP_STARTING,
    AMQP_TUNING,
    AMQP_OPENING,
    AMQP_RUNNING,
    AMQP_CLOSING,
    AMQP_CLOSED
};

struct amqp_channel;

/* Settles of deliveries that came together; handed on when the queue, the consumer or the verdict changes. */
struct amqp_settle {
    struct mqg_queue *queue; /* borrowed from the unacked entry's consumer or its own reference */
    struct mqg_sub *sub;
    enum mqg_settle how;
    uint32_t n;
    uint64_t handles[AMQP_SETTLE_BATCH];
};

struct amqp_conn {
    struct mqg_conn *conn;
    enum amqp_phase phase;
    struct mqg_session *session;
    uint32_t frame_max;
    uint16_t channel_max, heartbeat_s;
    uint32_t nchannels;
    struct amqp_channel **channels; /* by number */
    uint32_t channels_cap;
    bool cancel_notify, auth_close, tells_blocked, blocked;
    bool stalled;           /* input stands still until a reply has left */
    struct mqg_timer timer; /* heartbeats; then the wait for close-ok */
    struct amqp_settle *settle;
    uint8_t *client_props; /* its table's content, malloc'ed, for listings */
    uint32_t client_props_len;
    char mechanism[32];
};

struct amqp_consumer {
    struct amqp_consumer *next; /* the channel's list */
    struct amqp_channel *channel;
    struct mqg_sub *sub;
    struct mqg_queue *queue; /* one reference */
    bool no_ack, held;       /* held: paused until earlier replies have left */
    bool reply_to;           /* the direct reply-to pseudo consumer */
    uint8_t tag_len;
    uint8_t tag[255];
};

/* A delivery that the client has not settled; a hole (queue NULL) when it has, out of order. */
struct amqp_unacked {
    struct mqg_queue *queue;        /* the consumer's reference; a get's own */
    struct amqp_consumer *consumer; /* NULL: basic.get, or its consumer was cancelled */
    uint64_t handle;
    bool counts; /* came to a consumer: counts towards the channel's prefetch, also after its cancel */
};

/* An answer that waits for its definition to be durable, and those behind it. */
struct amqp_answer {
    struct amqp_answer *next;
    uint64_t ticket;
    size_t len;
    uint8_t bytes[];
};

enum amqp_content_state { AMQP_NO_CONTENT, AMQP_WANT_HEADER, AMQP_WANT_BODY, AMQP_SKIP_BODY };

struct amqp_channel {
    struct amqp_conn *ac;
    uint16_t number;
    bool closing; /* we sent channel.close: everything but its answer is dropped */
    bool confirm, tx, flow_off;

    /* content being received */
    enum amqp_content_state content;
    bool mandatory;
    uint8_t exchange_len, key_len;
    uint8_t exchange[255], key[255];
    struct mqg_msg *msg;
    uint8_t *body_at;
    uint64_t body_left;
    struct mqg_slice extra_keys[128]; /* CC and BCC, into msg's origin */
    uint32_t nextra;

    struct mqg_pub pub;
    uint64_t publish_seq; /* last confirm number given */
    uint64_t confirmed;   /* last decided */

    struct amqp_consumer *consumers;
    struct mqg_credit credit; /* basic.qos global */
    uint32_t prefetch;        /* for new consumers */

    struct amqp_unacked *unacked; /* ring by delivery tag */
    uint32_t unacked_cap;
    uint64_t tag_first, tag_next; /* [first, next): tags that may be unsettled */
    uint32_t unacked_n;

    struct amqp_answer *replies, **replies_tail;
    struct mqg_waiter waiter;
    bool waiting;

    struct amqp_get *get;
    struct amqp_tx *txs;
    struct mqg_queue *reply_queue; /* direct reply-to: its hidden queue */
    uint8_t last_queue_len;
    uint8_t last_queue[255];
};

/* ---- sending ---------------------------------------------------------------------------------------------- */

#define AMQP_SEND(conn_, channel_, X, ...)                                      \
    do {                                                                        \
        const struct amqp_##X amqp_m_ = {__VA_ARGS__};                          \
        size_t amqp_n_ = amqp_##X##_frame_size(&amqp_m_);                       \
        amqp_##X##_frame(mqg_conn_reserve(conn_, amqp_n_), channel_, &amqp_m_); \
        mqg_conn_commit(conn_, amqp_n_);                                        \
    } while (0)

/* The answer to a synchronous method, once `ticket` is durable (0: now) and after the channel's earlier answers. */
#define AMQP_REPLY(ch_, ticket_, X, ...)                    \
    do {                                                    \
        const struct amqp_##X amqp_m_ = {__VA_ARGS__};      \
        uint8_t amqp_b_[320];                               \
        size_t amqp_n_ = amqp_##X##_frame_size(&amqp_m_);   \
        MQG_ASSERT(amqp_n_ <= sizeof(amqp_b_));             \
        amqp_##X##_frame(amqp_b_, (ch_)->number, &amqp_m_); \
        amqp_reply_send(ch_, ticket_, amqp_b_, amqp_n_);    \
    } while (0)

/* ---- conn.c ------------------------------------------------------------------------------------------------ */

enum mqg_err amqp_conn_init(struct mqg_conn *c);
void amqp_conn_fini(struct mqg_conn *c);
size_t amqp_conn_input(struct mqg_conn *c, struct mqg_slice in, struct mqg_error *e);
void amqp_conn_event(struct mqg_conn *c, enum mqg_conn_event ev, struct mqg_slice text);
/* Sends connection.close and lets go of all channels; what the peer still sends is dropped. */
void amqp_conn_fail(struct amqp_conn *ac, int code, uint32_t method, const char *fmt, ...) MQG_PRINTF(4, 5);
/* A method on channel 0. */
enum mqg_err amqp_conn_method(struct amqp_conn *ac, uint32_t id, struct mqg_slice args, struct mqg_error *e);
/* Stops and restarts reading: an answer has to leave first. */
void amqp_conn_stall(struct amqp_conn *ac, bool on);

/* ---- login.c ----------------------------------------------------------------------------------------------- */

const char *amqp_mechanisms(const struct mqg_conn_info *from);
enum mqg_err amqp_login(struct amqp_conn *ac, struct mqg_slice mechanism, struct mqg_slice response,
                        struct mqg_error *e);

/* ---- channel.c ----------------------------------------------------------------------------------------------- */

enum mqg_err amqp_channel_open(struct amqp_conn *ac, uint16_t number, struct mqg_error *e);
struct amqp_channel *amqp_channel_at(const struct amqp_conn *ac, uint16_t number);
/* Gives everything back (consumers, unacked deliveries, a message half received) and frees the channel. */
void amqp_channel_free(struct amqp_channel *ch);
enum mqg_err amqp_channel_method(struct amqp_channel *ch, uint32_t id, struct mqg_slice args,
                                 struct mqg_error *e);
/* channel.close for a soft error, connection.close for a hard one. */
void amqp_channel_fail(struct amqp_channel *ch, uint32_t method, const struct mqg_error *e);
void amqp_reply_send(struct amqp_channel *ch, uint64_t ticket, const uint8_t *frame, size_t n);
/* The queue a method means: "" is the last declared one. */
enum mqg_err amqp_channel_queue_name(struct amqp_channel *ch, struct mqg_slice given, struct mqg_slice *out,
                                     struct mqg_error *e);
/* Our code for a fault found by the router. */
int amqp_code_of(const struct mqg_error *e);

/* ---- define.c ------------------------------------------------------------------------------------------------- */

enum mqg_err amqp_exchange_method(struct amqp_channel *ch, uint32_t id, struct mqg_slice args,
                                  struct mqg_error *e);
enum mqg_err amqp_queue_method(struct amqp_channel *ch, uint32_t id, struct mqg_slice args,
                               struct mqg_error *e);

/* ---- content.c -------------------------------------------------------------------------------------------------- */

enum mqg_err amqp_content_method(struct amqp_channel *ch, struct mqg_slice args, struct mqg_error *e);
enum mqg_err amqp_content_header(struct amqp_channel *ch, struct mqg_slice payload, struct mqg_error *e);
enum mqg_err amqp_content_body(struct amqp_channel *ch, struct mqg_slice payload, struct mqg_error *e);
void amqp_content_drop(struct amqp_channel *ch);
extern uint32_t amqp_body_max_bytes;
extern const struct mqg_pub_ops amqp_pub_ops;
/* Publishes what a transaction held, or what has just come. Takes m. */
enum mqg_err amqp_content_publish(struct amqp_channel *ch, struct mqg_msg *m, bool mandatory,
                                  const struct mqg_slice *keys, uint32_t nkeys, struct mqg_error *e);

/* ---- consume.c ---------------------------------------------------------------------------------------------------- */

enum mqg_err amqp_consume(struct amqp_channel *ch, struct mqg_slice args, struct mqg_error *e);
enum mqg_err amqp_cancel(struct amqp_channel *ch, struct mqg_slice args, struct mqg_error *e);
enum mqg_err amqp_qos(struct amqp_channel *ch, struct mqg_slice args, struct mqg_error *e);
enum mqg_err amqp_get(struct amqp_channel *ch, struct mqg_slice args, struct mqg_error *e);
enum mqg_err amqp_flow(struct amqp_channel *ch, bool active, struct mqg_error *e);
void amqp_consumer_free(struct amqp_consumer *co);
void amqp_get_orphan(struct amqp_channel *ch);
void amqp_consumers_kick(struct amqp_channel *ch);
/* Deliver, get-ok or return: method frame, content header, body frames. */
void amqp_send_content(struct amqp_conn *ac, uint16_t channel, const uint8_t *method, size_t method_len,
                       struct mqg_msg *m, uint32_t delivery_count);

/* ---- settle.c ------------------------------------------------------------------------------------------------------ */

/* The tag of a delivery that will have to be settled. */
uint64_t amqp_unacked_add(struct amqp_channel *ch, struct mqg_queue *q, struct amqp_consumer *co,
                          uint64_t handle);
/* The tag of a delivery that nobody settles (no_ack): it counts, and is a hole. */
uint64_t amqp_unacked_skip(struct amqp_channel *ch);
enum mqg_err amqp_settle_tag(struct amqp_channel *ch, uint64_t tag, bool multiple, enum mqg_settle how,
                             struct mqg_error *e);
/* Hands on what was collected; before anything whose effect the client may compare with it. */
void amqp_settle_flush(struct amqp_conn *ac);
/* All that is unsettled: recover, channel end. */
void amqp_settle_all(struct amqp_channel *ch, enum mqg_settle how);
/* The consumer is gone: its deliveries stay unsettled, without it. */
void amqp_unacked_forget(struct amqp_channel *ch, struct amqp_consumer *co);

/* ---- tx.c -------------------------------------------------------------------------------------------------------------- */

enum mqg_err amqp_tx_method(struct amqp_channel *ch, uint32_t id, struct mqg_error *e);
void amqp_tx_publish(struct amqp_channel *ch, struct mqg_msg *m, bool mandatory);
void amqp_tx_settle(struct amqp_channel *ch, uint64_t tag, bool multiple, enum mqg_settle how);
void amqp_tx_free(struct amqp_channel *ch);

/* ---- origin.c ------------------------------------------------------------------------------------------------------------ */

extern const struct mqg_origin_ops amqp_origin_ops;
/* The raw properties to send for m: its own bytes, or new ones in `out` where hops or another protocol changed them. */
struct mqg_slice amqp_render_props(const struct mqg_msg *m, uint32_t delivery_count, struct mqg_dynbuf *out);
/* CC and BCC lists of raw headers as routing keys; the number, at most max. */
uint32_t amqp_extra_keys(struct mqg_slice headers, struct mqg_slice *out, uint32_t max);

#endif
