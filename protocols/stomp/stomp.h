/* stomp.h - a STOMP connection: the state that the handler's files share.
 *
 *   module.c     descriptor, settings, listings        conn.c       which frame goes where, ERROR, the end
 *   login.c      CONNECT: version, account, vhost      receipt.c    RECEIPTs, in order, each when its time has come
 *   send.c       SEND, SEND's body, publishing         subscribe.c  SUBSCRIBE, UNSUBSCRIBE, temporary queues
 *   deliver.c    MESSAGE frames                        settle.c     ACK, NACK, what is unacknowledged
 *   queue.c      the queues behind destinations        args.c       x-* headers as arguments
 *   input.c      frames out of the input
 *   tx.c         BEGIN, COMMIT, ABORT                  origin.c     our headers as the common view, and back
 *   filter.c     selectors at work                     frame.c, dest.c, selector.c   pure functions of bytes
 *   later.c, later_slot.c   messages that are to come later
 *
 * Everything of a connection runs on its worker. A fault of the client becomes an ERROR frame, and the connection ends. */
#ifndef MQGATE_STOMP_H
#define MQGATE_STOMP_H

#include <mqgate/broker.h>
#include <mqgate/obs.h>
#include <mqgate/protocol.h>

#include <mqgate/map.h>

#include "dest.h"
#include "frame.h"

#define STOMP_LOGIN_HEAD_MAX      8192u   /* bytes of a header block before login */
#define STOMP_HEADERS_LIMIT       1024u   /* what stomp.headers_max may be at most */
#define STOMP_INPUT_BYTES         131072u /* unread input after login */
#define STOMP_ARENA_BYTES         (4u << 20)
#define STOMP_SETTLE_BATCH        256u
#define STOMP_FILTER_BATCH        64u
#define STOMP_SUBS_MAX            4096u  /* subscriptions of a connection */
#define STOMP_TX_MAX              256u   /* open transactions of a connection */
#define STOMP_RECEIPTS_PAUSE      65536u /* RECEIPTs that wait: no more is read */
#define STOMP_KEY_MAX             4096u  /* bytes of a routing key */
#define STOMP_GATHERED_BODIES     16u    /* of the largest size, that all connections may gather at a time */
#define STOMP_HEART_BEAT_LEAST_MS 100u

struct stomp_settings {
    uint32_t headers_max, head_max, body_max;
    bool vhost_fallback, implicit_connect;
    const char *vhost, *user, *password;
};
extern struct stomp_settings stomp_settings;

enum stomp_phase { STOMP_CONNECTING, STOMP_RUNNING, STOMP_CLOSED };
enum stomp_in { STOMP_IN_HEAD, STOMP_IN_BODY, STOMP_IN_NUL, STOMP_IN_GATHER };
enum stomp_ack_mode { STOMP_ACK_AUTO, STOMP_ACK_CLIENT, STOMP_ACK_INDIVIDUAL };

struct stomp_conn;
struct stomp_tx;
struct stomp_filter;

struct stomp_sub {
    struct stomp_conn *sc;
    struct mqg_sub *sub;
    struct mqg_queue *queue;     /* one reference */
    struct stomp_filter *filter; /* NULL: it wants all */
    enum stomp_ack_mode mode;
    uint32_t unacked;
    bool temp;                 /* of a /temp-queue/ in a reply-to */
    struct mqg_slice id;       /* malloc'ed; the key in the map: "T_" id, or "Q_" destination without one */
    struct mqg_dynbuf head;    /* "MESSAGE\nsubscription:...\n" */
    struct mqg_dynbuf mid;     /* "message-id:...@@" up to the number */
    struct mqg_dynbuf address; /* exchange, NUL, key of which `dest` was made */
    struct mqg_dynbuf dest;    /* "destination:...\n" */
};

/* A delivery that the client has not settled; a hole (sub NULL) when it has, out of order. */
struct stomp_unacked {
    struct stomp_sub *sub;
    uint64_t handle;
    bool in_tx; /* an open transaction will settle it */
};

struct stomp_settle {
    struct mqg_queue *queue; /* one reference */
    struct mqg_sub *sub;
    enum mqg_settle how;
    uint32_t n;
    uint64_t handles[STOMP_SETTLE_BATCH];
};

enum stomp_wait { STOMP_WAIT_CONFIRM, STOMP_WAIT_BARRIER, STOMP_WAIT_BYE };

/* A RECEIPT that waits: for the confirm of `seq`, for the ticket of a definition, for a barrier; the text is in the ring of
 * bytes behind those before it. */
struct stomp_receipt {
    uint64_t seq, ticket;
    uint32_t len;
    enum stomp_wait wait;
    bool done, rejected;
};

struct stomp_receipts {
    struct stomp_receipt *ring;
    uint32_t cap; /* a power of two */
    uint64_t first, next;
    struct mqg_dynbuf text; /* ids of all that wait; those before `text_at` are gone */
    size_t text_at;
    uint64_t barrier_upto; /* receipts before it are covered by the barrier under way */
    bool waiting, paused;
    bool bye; /* DISCONNECT was said: nothing behind it is read */
    struct mqg_waiter waiter;
};

/* What a SEND said, while its body comes and until it is published. */
struct stomp_send {
    struct mqg_msg *msg;
    uint8_t *body_at;
    uint64_t body_left;
    bool to_queue;            /* made when it is not there */
    struct mqg_slice receipt; /* in the input, or in `kept` */
    struct mqg_slice tx;      /* name; ptr NULL: none */
    uint8_t *kept;
};

struct stomp_conn {
    struct mqg_conn *conn;
    enum stomp_phase phase;
    enum stomp_version version;
    struct mqg_session *session;
    struct mqg_pub pub;
    char session_name[24];

    enum stomp_in in;
    size_t scanned;
    struct mqg_dynbuf gather; /* a frame whose body says no length: header block and body so far */
    size_t gather_head;
    struct stomp_send send;
    struct mqg_dynbuf origin; /* of the SEND being read */
    struct mqg_dynbuf later;  /* when it is to come, if that is not now */
    struct mqg_slice receipt; /* the present frame's, for RECEIPT and ERROR; ptr NULL: none */
    struct mqg_arena arena;   /* of the present frame */
    bool arena_used;

    struct mqg_dynbuf last_dest; /* the text of the last SEND's destination */
    struct mqg_dynbuf last_mean; /* and what it means: exchange, key */
    size_t last_exchange_len;
    enum stomp_dest_kind last_kind;
    struct mqg_map made; /* queues that were found or made for SENDs */

    uint64_t publish_seq, confirmed;
    struct stomp_receipts receipts;

    struct mqg_map subs;
    struct stomp_unacked *unacked; /* ring by delivery number */
    uint32_t unacked_cap;
    uint64_t tag_first, tag_next;
    uint32_t unacked_n;
    struct stomp_settle *settle;
    struct stomp_tx *txs;
    uint32_t ntxs;

    uint64_t heart_out_ms, heart_in_ms;
    struct mqg_timer timer;
};

/* ---- conn.c ------------------------------------------------------------------------------------------------------------- */

enum mqg_err stomp_conn_init(struct mqg_conn *c);
void stomp_conn_fini(struct mqg_conn *c);
void stomp_conn_event(struct mqg_conn *c, enum mqg_conn_event ev, struct mqg_slice text);
/* ERROR with this message and text, and the end. Does nothing the second time. */
void stomp_fail(struct stomp_conn *sc, const char *message, const char *fmt, ...) MQG_PRINTF(3, 4);
/* The same for a fault that the router found. */
void stomp_fail_router(struct stomp_conn *sc, const struct mqg_error *e);
/* A known header of the present frame, unescaped; fails the connection (and answers false) when an escape is wrong. An absent one
 * is empty with ptr NULL. */
bool stomp_value(struct stomp_conn *sc, const struct stomp_head *h, enum stomp_header_id id,
                 struct mqg_slice *out);
/* The arena of the present frame. */
struct mqg_arena *stomp_arena(struct stomp_conn *sc);
void stomp_heart_beats(struct stomp_conn *sc);
/* All is said: close once what was written has left. */
void stomp_end(struct stomp_conn *sc);
/* May this frame be handled now? CONNECT first, or the default user's implicit one. False: failed. */
bool stomp_may_run(struct stomp_conn *sc, const struct stomp_head *h);
/* A whole frame but SEND. */
void stomp_frame(struct stomp_conn *sc, const struct stomp_head *h);

/* ---- input.c ------------------------------------------------------------------------------------------------------------ */

/* mqg_protocol_ops.input. */
size_t stomp_input(struct mqg_conn *c, struct mqg_slice in, struct mqg_error *e);
/* Bytes of all bodies that are gathered because they say no length. */
extern struct mqg_budget stomp_gather_budget;
void stomp_gather_free(struct stomp_conn *sc);

/* ---- login.c ------------------------------------------------------------------------------------------------------------ */

void stomp_connect(struct stomp_conn *sc, const struct stomp_head *h);
/* Without a CONNECT, where that is configured: as the default user. */
void stomp_connect_implicit(struct stomp_conn *sc);

/* ---- receipt.c ---------------------------------------------------------------------------------------------------------- */

/* The present frame's RECEIPT, if it asked for one: after `seq` is confirmed (0: none), after `ticket`, and after all before. */
void stomp_receipt(struct stomp_conn *sc, struct mqg_slice id, uint64_t seq, uint64_t ticket);
/* After all that was published and settled so far is durable. */
void stomp_receipt_barrier(struct stomp_conn *sc, struct mqg_slice id);
/* RECEIPT of DISCONNECT (or none), then the end. */
void stomp_receipt_bye(struct stomp_conn *sc, struct mqg_slice id);
void stomp_receipts_confirmed(struct stomp_conn *sc, const uint64_t *rejected, size_t n);
void stomp_receipts_fini(struct stomp_conn *sc);

/* ---- send.c ------------------------------------------------------------------------------------------------------------- */

/* Reads a SEND's headers and makes its message; body_len is final. False: failed. */
bool stomp_send_begin(struct stomp_conn *sc, const struct stomp_head *h, uint32_t body_len);
/* What was borrowed from the input is kept: the body is not all there. */
void stomp_send_keep(struct stomp_conn *sc);
/* The body is there. */
void stomp_send_end(struct stomp_conn *sc);
void stomp_send_drop(struct stomp_conn *sc);
/* Publishes; takes m. The seq given when a receipt waits for it, else 0; false: failed. */
bool stomp_publish(struct stomp_conn *sc, struct mqg_msg *m, bool to_queue, bool confirm, uint64_t *seq,
                   uint64_t *ticket);
/* A message that is to come later, for which a receipt waits by a barrier: it is put where it waits, when it is published. */
static inline bool stomp_is_for_later(const struct mqg_msg *m)
{
    return m->st.overlay_len > 0; /* no hop was before us */
}
extern const struct mqg_pub_ops stomp_pub_ops;

/* ---- subscribe.c -------------------------------------------------------------------------------------------------------- */

void stomp_subscribe(struct stomp_conn *sc, const struct stomp_head *h);
void stomp_unsubscribe(struct stomp_conn *sc, const struct stomp_head *h);
/* A queue for answers, made and subscribed to at its first mention; its name out. False: failed. */
bool stomp_temp_queue(struct stomp_conn *sc, struct mqg_slice reply_to, struct mqg_slice *out);
void stomp_subs_kick(struct stomp_conn *sc);
void stomp_subs_free(struct stomp_conn *sc);

/* ---- queue.c ------------------------------------------------------------------------------------------------------------ */

/* What a SUBSCRIBE asks for, until it has its queue. */
struct stomp_want {
    const struct stomp_head *h;
    struct stomp_dest dest;
    struct mqg_slice text; /* the destination as it was given */
    struct mqg_slice id;
    bool durable, says_properties, filters;
    struct mqg_queue_def def;
    char name[96];
    uint64_t ticket;
};

/* "/queue/q" for a SEND: there, or made. */
bool stomp_queue_make(struct stomp_conn *sc, struct mqg_slice name, uint64_t *ticket);
/* Declares w->def; *q is one reference. False: failed. */
bool stomp_queue_declare(struct stomp_conn *sc, struct stomp_want *w, struct mqg_queue **q);
/* The queue behind w->dest, found or made; *q is one reference. False: failed. */
bool stomp_queue_open(struct stomp_conn *sc, struct stomp_want *w, struct mqg_queue **q);

/* ---- args.c ------------------------------------------------------------------------------------------------------------- */

/* The x-* headers of the consumer, or those of its queue. False: failed. */
bool stomp_args(struct stomp_conn *sc, const struct stomp_head *h, bool consumers, struct mqg_table *out);

/* ---- filter.c ----------------------------------------------------------------------------------------------------------- */

/* The selector of a subscription at work. NULL when the header is not there or empty. False: failed. */
bool stomp_filter_new(struct stomp_conn *sc, const struct stomp_head *h, struct stomp_filter **out);
void stomp_filter_free(struct stomp_filter **f);
bool stomp_filter_match(struct stomp_filter *f, const struct mqg_delivery *d);
/* A delivery that does not match is settled, soon: once there are many, or at the flush. */
void stomp_filter_drop(struct stomp_sub *s, const struct mqg_delivery *d);
void stomp_filter_flush(struct stomp_sub *s);

/* ---- deliver.c ---------------------------------------------------------------------------------------------------------- */

extern const struct mqg_sub_ops stomp_sub_ops;

/* ---- settle.c ----------------------------------------------------------------------------------------------------------- */

uint64_t stomp_unacked_add(struct stomp_conn *sc, struct stomp_sub *sub, uint64_t handle);
void stomp_ack(struct stomp_conn *sc, const struct stomp_head *h, bool nack);
/* Settles one delivery, or all of its subscription up to it, as the subscription's mode says. */
void stomp_settle_tag(struct stomp_conn *sc, uint64_t tag, enum mqg_settle how);
/* Marks what a transaction will settle, or what it does not any more. */
void stomp_settle_mark(struct stomp_conn *sc, uint64_t tag, bool in_tx);
void stomp_settle_flush(struct stomp_conn *sc);
/* What a subscription (NULL: all) has not settled goes back. */
void stomp_settle_return(struct stomp_conn *sc, struct stomp_sub *sub);

/* ---- tx.c --------------------------------------------------------------------------------------------------------------- */

void stomp_begin(struct stomp_conn *sc, const struct stomp_head *h);
void stomp_commit(struct stomp_conn *sc, const struct stomp_head *h);
void stomp_abort(struct stomp_conn *sc, const struct stomp_head *h);
/* Into an open transaction; false: there is none of that name, the connection failed. Takes m. */
bool stomp_tx_send(struct stomp_conn *sc, struct mqg_slice name, struct mqg_msg *m, bool to_queue);
bool stomp_tx_settle(struct stomp_conn *sc, struct mqg_slice name, uint64_t tag, enum mqg_settle how);
void stomp_txs_free(struct stomp_conn *sc);

/* ---- origin.c ----------------------------------------------------------------------------------------------------------- */

extern const struct mqg_origin_ops stomp_origin_ops;
/* The end-to-end header lines of m for a version: its own bytes, or new ones in `out`. */
struct mqg_slice stomp_render(const struct mqg_msg *m, enum stomp_version v, uint32_t delivery_count,
                              struct mqg_dynbuf *out);
/* Begins an origin; lines are added to it by stomp_put_origin. */
void stomp_origin_begin(struct mqg_dynbuf *out, enum stomp_version v, bool escapes);
/* A well-known property by the name that STOMP has for it; false: the message does not say it. */
bool stomp_property(const struct mqg_view *v, enum stomp_header_id id, struct mqg_value *out);

#endif
