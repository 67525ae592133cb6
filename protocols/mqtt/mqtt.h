/* mqtt.h - connections, sessions and subscriptions of MQTT: the state that the module's files share.
 *
 *   module.c     descriptor, settings           conn.c      input, dispatch of packets, closing, events
 *   connect.c    CONNECT, CONNACK, login        session.c   who holds a session: claims, take-over, expiry, the end
 *   publish.c    PUBLISH in, QoS 1 and 2        deliver.c   PUBLISH out, what is in flight
 *   acks.c       its acknowledgements
 *   subscribe.c  SUBSCRIBE, UNSUBSCRIBE         match.c     which of a session's filters a message came by
 *   subs.c       the table of a session's filters mapping.c   topics as RabbitMQ maps them
 *   share.c      shared subscriptions           retained.c  retained messages
 *   will.c       will messages                  persist.c   what sessions write down, and how they come back
 *   idtable.c    packet identifiers in use      origin.c    our properties as the common view, and back
 *   sys.c        $SYS topics                   auth.c      enhanced authentication
 *
 * A session belongs to one worker at a time, its holder, also while its client is away: only the holder touches it, so that its
 * timers, its queues and its connection need no lock. Another worker that wants it asks (session.c).
 *
 * A session has up to two queues. What subscriptions with QoS 0 bring goes to a transient one that is bounded and dies with the
 * connection; what those with QoS 1 and 2 bring goes to one that lives as long as the session and is durable if that may outlive
 * its connection. A message is looked up again among the session's own filters when it is delivered: so it is sent once, with the
 * highest QoS and all subscription identifiers, and what a coarser binding let through is left out. */
#ifndef MQGATE_MQTT_H
#define MQGATE_MQTT_H

#include <mqgate/broker.h>
#include <mqgate/map.h>
#include <mqgate/obs.h>
#include <mqgate/protocol.h>
#include <mqgate/vec.h>

#include "subs.h"
#include "wire.h"

#define MQTT_CLIENT_ID_MAX 200u
#define MQTT_INPUT_MAX \
    (256u << 10) /* a packet that is neither CONNECT nor PUBLISH, or the head of the latter */
#define MQTT_EXPIRY_NEVER   UINT32_MAX
#define MQTT_SETTLE_BATCH   128u
#define MQTT_SUBIDS_MAX     16u
#define MQTT_SYS_EXCHANGE   "mqtt.sys" /* $SYS topics: who binds "#" to amq.topic by AMQP does not get them */
#define MQTT_RETAINED_QUEUE "mqtt-retained"
#define MQTT_RETAINED_MARK  "mqtt.retained/"
#define MQTT_SHARED_MARK    "mqtt.shared/"

/* Immutable once it is published; a reload publishes another, and the old one stays for whoever reads it. */
struct mqtt_settings {
    char exchange[256], vhost[256];
    char port_vhosts[1024], cert_vhosts[1024];
    bool cert_login, rabbit_topics;
    uint32_t subscriptions_max, receive_maximum, inflight_max, alias_max, keep_alive_max_s, expiry_max_s;
    uint32_t message_max, packet_max, connect_max, retained_max;
    uint64_t queue_length, queue_bytes, qos0_length, qos0_bytes, sys_interval_ms;
    struct mqtt_settings *before; /* freed with the module */
};
extern _Atomic(const struct mqtt_settings *) mqtt_settings_now;
static inline const struct mqtt_settings *mqtt_settings(void)
{
    return atomic_load_explicit(&mqtt_settings_now, memory_order_acquire);
}

/* ---- packet identifiers in use ------------------------------------------------------------------------------- */

enum mqtt_id_state {
    MQTT_ID_FREE,
    MQTT_OUT_QOS1,     /* PUBLISH sent, PUBACK awaited; without a feed: on an earlier connection */
    MQTT_OUT_QOS2,     /* PUBLISH sent, PUBREC awaited; likewise */
    MQTT_OUT_RECEIVED, /* PUBREC came, being written down */
    MQTT_OUT_RELEASED, /* PUBREL sent, PUBCOMP awaited */
    MQTT_OUT_LEAVING,  /* PUBCOMP came, being written down */
    MQTT_IN_PENDING,   /* PUBLISH with QoS 2 came, not yet decided */
    MQTT_IN_RECEIVED,  /* decided: PUBREC was or may be sent */
    MQTT_IN_LEAVING,   /* PUBREL came, being written down */
};

struct mqtt_feed;

struct mqtt_id {
    uint16_t id;
    uint8_t state;          /* enum mqtt_id_state */
    bool noted;             /* that it was sent is written down */
    struct mqtt_feed *feed; /* NULL: sent on an earlier connection, or not with us any more */
    uint64_t handle, qseq;
};

/* Open addressing; ids are mostly consecutive, so the slot is the id's low bits. */
struct mqtt_ids {
    struct mqtt_id *slots;
    uint32_t cap, n; /* cap: a power of two, or 0 */
};
struct mqtt_id *mqtt_ids_get(const struct mqtt_ids *t, uint16_t id); /* NULL: not in use */
struct mqtt_id *mqtt_ids_add(struct mqtt_ids *t,
                             uint16_t id); /* must not be there; void after the next add or drop */
void mqtt_ids_drop(struct mqtt_ids *t, uint16_t id);
void mqtt_ids_fini(struct mqtt_ids *t);
/* for (uint32_t at = 0; (x = mqtt_ids_next(t, &at)) != NULL;) - no change meanwhile, but of what x says. */
struct mqtt_id *mqtt_ids_next(const struct mqtt_ids *t, uint32_t *at);

/* ---- subscriptions ---------------------------------------------------------------------------------------------- */

/* What a session's filters say of one topic. */
struct mqtt_match {
    bool any, retain;
    uint8_t qos;
    uint32_t nids;
    uint32_t ids[MQTT_SUBIDS_MAX];
};

/* The last answer of match.c, and its topic. The connection's: a session whose client is away needs none. */
struct mqtt_matched {
    struct mqtt_match match;
    uint16_t len;
    uint8_t topic[256];
};

enum mqtt_feed_kind { MQTT_FEED_QOS0, MQTT_FEED_SESSION, MQTT_FEED_SHARE };

/* A queue that a connection consumes for its session. */
struct mqtt_feed {
    struct mqtt_feed *next;
    struct mqtt_conn *conn;
    struct mqg_sub *sub;
    struct mqg_queue *queue; /* one reference */
    struct mqtt_sub *share;  /* of kind SHARE: the subscription */
    enum mqtt_feed_kind kind;
    bool waits; /* deliveries stand back until an acknowledgement makes room */
};

/* ---- sessions ------------------------------------------------------------------------------------------------------ */

struct mqtt_will {
    struct mqg_msg *msg;
    struct mqg_session
        *principal; /* NULL: it came back with a start of the node; its user is looked up in `vhost` */
    struct mqg_vhost *vhost;
    uint32_t delay_s;
    bool retain;
};

struct mqtt_claim;
struct mqtt_auth;

struct mqtt_session {
    uint32_t magic;
    struct mqg_slice key; /* vhost NUL client; owned */
    struct mqg_slice client;
    char hex[33]; /* names its records */
    struct mqg_vhost *vhost;
    /* under the registry's lock */
    uint32_t holder;
    bool granting, ask_posted;
    struct mqtt_claim *claims, **claims_tail;
    struct mqg_task ask;
    /* the holder's */
    struct mqtt_conn *conn; /* NULL: the client is away */
    bool durable;           /* its queue, filters and packet identifiers are stored */
    bool known;             /* there is state that a client may find present */
    bool begun;             /* some of `out` was sent on an earlier connection */
    uint32_t expiry_s;
    uint64_t gone_us;            /* wall; when the client went */
    uint64_t sent_upto;          /* highest qseq ever sent: what comes again at or below it has DUP */
    uint64_t expire_ms, will_ms; /* monotonic; 0: none */
    struct mqg_timer timer;
    struct mqtt_will *will;
    bool will_stored;  /* it has a record */
    bool has_queue[2]; /* MQTT_FEED_QOS0, MQTT_FEED_SESSION */
    struct mqtt_subs subs;
    struct mqtt_ids in, out;
    uint64_t ticket;           /* of its last record on this lane */
    struct mqg_waiter handing; /* waits for it before the session goes to another worker */
    struct mqtt_claim *next_claim;
    bool cached; /* conn->matched is right */
};

/* ---- connections ---------------------------------------------------------------------------------------------------- */

enum mqtt_phase { MQTT_FRESH, MQTT_PROVING, MQTT_WAITING, MQTT_STARTING, MQTT_UP, MQTT_CLOSED };

/* A packet, or a step, that waits for a ticket of the default store; in order. */
struct mqtt_answer {
    struct mqtt_answer *next;
    uint64_t ticket;
    void (*then)(struct mqtt_conn *c, uint16_t packet_id); /* may be NULL */
    uint16_t packet_id;
    uint32_t len;
    uint8_t bytes[];
};

/* A publish with QoS 1 or 2 that is not yet answered. */
struct mqtt_open {
    uint16_t packet_id;
    uint8_t qos, reason;
    bool decided;    /* refused without being published: answered in its turn */
    uint64_t ticket; /* QoS 2, durable session: of the record of its identifier; 0: this turn's */
};

struct mqtt_alias {
    uint32_t len;
    uint8_t *topic;
};

struct mqtt_conn {
    struct mqg_conn *conn;
    enum mqtt_phase phase;
    enum mqtt_version version;
    struct mqg_session *principal;
    struct mqtt_auth *auth;           /* NULL: CONNECT named no method */
    struct mqg_topic_guard *topics;   /* what it may publish and subscribe to */
    const struct mqtt_settings *told; /* those at its CONNECT: a reload changes no limit that CONNACK names */
    struct mqtt_session *session;
    struct mqtt_claim *claim;
    char client[MQTT_CLIENT_ID_MAX + 1];
    uint8_t client_len;
    bool clean, assigned, problem_info, response_info, session_present, normal_end, stalled;
    uint16_t keep_alive_s;
    uint32_t expiry_s, send_max, packet_max;
    struct mqtt_will *will;
    struct mqg_timer timer; /* waiting for the vhost's retained messages; then for messages to be durable */

    /* in */
    struct mqg_pub pub;
    bool publishing; /* pub is there */
    struct mqg_msg *msg;
    uint8_t *body_at;
    uint32_t body_left, skip_left;
    struct {
        uint8_t qos;
        bool retain;
        uint16_t packet_id;
    } now; /* the PUBLISH whose body comes */
    uint64_t seq, answered;
    struct mqtt_open *open; /* ring by seq */
    uint32_t open_cap;
    uint32_t in_quota; /* QoS 1 and 2 publishes of the client that are not complete */
    bool ids_dirty;    /* identifiers are to be written down at the end of this input */
    struct mqtt_alias *aliases;

    /* out */
    struct mqtt_feed *feeds;
    struct mqtt_matched *matched; /* NULL before the first message */
    uint32_t out_quota;           /* of send_max, used */
    uint32_t adopted; /* QoS 2 messages of shared subscriptions that wait in the session's queue */
    bool out_noted;   /* identifiers are to be written down at the end of this delivery */
    uint16_t next_share_id;
    uint16_t alias_max, naliases;
    struct mqg_map alias_out; /* topic -> number */
    struct {
        struct mqtt_feed *feed;
        uint32_t n;
        uint64_t handles[MQTT_SETTLE_BATCH];
    } settle;
    struct mqtt_answer *answers, **answers_tail;
    struct mqg_waiter waiter;
    bool waiting;
};

/* conn.c */
enum mqg_err mqtt_conn_init(struct mqg_conn *c);
void mqtt_conn_fini(struct mqg_conn *c);
size_t mqtt_conn_input(struct mqg_conn *c, struct mqg_slice in, struct mqg_error *e);
void mqtt_conn_event(struct mqg_conn *c, enum mqg_conn_event ev, struct mqg_slice text);
/* Says the reason in the client's words (CONNACK, DISCONNECT, nothing) and closes. */
void mqtt_fail(struct mqtt_conn *c, int reason, const char *fmt, ...) MQG_PRINTF(3, 4);
/* Stops and restarts reading. */
void mqtt_stall(struct mqtt_conn *c, bool on);
/* False: it is larger than the client takes, and was not sent. */
bool mqtt_send(struct mqtt_conn *c, enum mqtt_type type, struct mqg_slice head, struct mqg_slice props,
               struct mqg_slice tail);
/* With the text as its reason string, where that is wanted and fits. */
void mqtt_send_reason(struct mqtt_conn *c, enum mqtt_type type, struct mqg_slice head, const char *text);
void mqtt_send_ack(struct mqtt_conn *c, enum mqtt_type type, uint16_t packet_id, uint8_t reason);
/* When `ticket` is durable and the answers before have left: writes `bytes`, then calls `then`. */
void mqtt_answer(struct mqtt_conn *c, uint64_t ticket, struct mqg_slice bytes,
                 void (*then)(struct mqtt_conn *c, uint16_t packet_id), uint16_t packet_id);

/* connect.c */
enum mqg_err mqtt_connect(struct mqtt_conn *c, struct mqg_slice body, struct mqg_error *e);
/* The rest of it, once the account is proved or to be proved by the password. */
enum mqg_err mqtt_connect_go(struct mqtt_conn *c, const struct mqtt_connect *p, struct mqg_error *e);
/* The session is ours: CONNACK, then its queues. */
void mqtt_connected(struct mqtt_conn *c, struct mqtt_session *s);
void mqtt_connack_refuse(struct mqtt_conn *c, int reason, const char *text);

/* auth.c */
/* A CONNECT that names a method. */
enum mqg_err mqtt_auth_connect(struct mqtt_conn *c, struct mqg_slice body, const struct mqtt_connect *p,
                               struct mqg_error *e);
enum mqg_err mqtt_auth_packet(struct mqtt_conn *c, struct mqg_slice body, struct mqg_error *e);
void mqtt_auth_connack(const struct mqtt_auth *a, struct mqg_dynbuf *props); /* a may be NULL */
void mqtt_auth_free(struct mqtt_auth **a);

/* session.c */
/* Asks for the session; mqtt_connected follows, in this turn or later. */
void mqtt_session_claim(struct mqtt_conn *c);
void mqtt_session_unclaim(struct mqtt_conn *c); /* its connection ended before */
/* The connection ended, or is taken over: unsettled deliveries go back; the session stays, or ends. */
void mqtt_session_detach(struct mqtt_session *s, bool normal);
/* Forgets all state of the session: queues, filters, identifiers. */
void mqtt_session_wipe(struct mqtt_session *s);
/* Opens a queue of the session, making it when it is not there. *ticket: of its definition. */
enum mqg_err mqtt_session_queue(struct mqtt_session *s, enum mqtt_feed_kind kind, struct mqg_queue **out,
                                uint64_t *ticket, struct mqg_error *e) MQG_MUST_CHECK;
struct mqg_slice mqtt_session_queue_name(const struct mqtt_session *s, enum mqtt_feed_kind kind,
                                         char room[256]);
/* Recovery, before workers run: the session of that name, made when it is not there. */
struct mqtt_session *mqtt_session_recover(struct mqg_slice vhost, struct mqg_slice client);
void mqtt_session_drop_recovered(struct mqtt_session *s);
void mqtt_session_each(void (*visit)(struct mqtt_session *s, void *arg), void *arg); /* under the lock */
void mqtt_session_arm(struct mqtt_session *s); /* (holder) timers after recovery */
struct mqtt_census {
    uint64_t sessions, connected, most, expired; /* most: connected at a time since the start */
};
struct mqtt_census mqtt_session_census(void);
void mqtt_session_fini(void);

/* May it, on this topic or filter? */
bool mqtt_may(struct mqtt_conn *c, enum mqg_perm perm, struct mqg_slice topic);

/* subscribe.c */
enum mqg_err mqtt_subscribe(struct mqtt_conn *c, struct mqg_slice body, struct mqg_error *e);
enum mqg_err mqtt_unsubscribe(struct mqtt_conn *c, struct mqg_slice body, struct mqg_error *e);
struct mqtt_sub *mqtt_sub_put(struct mqtt_session *s, struct mqg_slice name, bool *fresh);
void mqtt_sub_free(struct mqtt_session *s, struct mqtt_sub *sub); /* takes it out first */
/* Binds or unbinds the queue of that kind by the filter, as the node itself. */
enum mqg_err mqtt_bind(struct mqg_vhost *v, struct mqg_slice queue, struct mqg_slice filter, bool on,
                       uint64_t *ticket, struct mqg_error *e) MQG_MUST_CHECK;

/* mapping.c */
/* A topic or filter of a client, as it is used here: itself, or its mapping in `room` (up to 64 KiB). */
struct mqg_slice mqtt_topic_in(struct mqg_slice topic, struct mqg_dynbuf *room);
/* As mqtt_topic_of_key. */
void mqtt_topic_out(struct mqg_dynbuf *out, struct mqg_slice key, char sep, bool *escaped);

/* match.c */
/* s has a connection; valid until the next call, at most as long as that connection. */
const struct mqtt_match *mqtt_match(struct mqtt_session *s, const struct mqg_msg *m, struct mqg_slice topic);

/* publish.c */
/* The beginning of a PUBLISH: bytes of `in` used; 0: more are needed, or *e says why not. */
size_t mqtt_publish(struct mqtt_conn *c, const struct mqtt_head *h, struct mqg_slice in, struct mqg_error *e);
/* Publishes a message of a client, RETAIN and all; takes m. As mqg_publish; *no_match: nobody wanted it (asked for with
 * `tell`; then OK). */
enum mqg_err mqtt_publish_msg(struct mqg_pub *pub, struct mqg_msg *m, bool retain, uint64_t seq, bool tell,
                              bool *no_match, struct mqg_error *e) MQG_MUST_CHECK;
size_t mqtt_publish_body(struct mqtt_conn *c, struct mqg_slice in, struct mqg_error *e);
enum mqg_err mqtt_pubrel(struct mqtt_conn *c, struct mqtt_ack ack, struct mqg_error *e);
void mqtt_publish_end_input(struct mqtt_conn *c);
void mqtt_publish_fini(struct mqtt_conn *c);
/* A message of a client, body not yet filled. NULL without memory. */
struct mqg_msg *mqtt_msg_new(struct mqg_slice user, struct mqg_slice client, struct mqg_slice topic,
                             unsigned qos, bool retain, enum mqtt_version v, const struct mqtt_props *props,
                             uint32_t body_len);

/* deliver.c */
enum mqg_err mqtt_feed_open(struct mqtt_conn *c, enum mqtt_feed_kind kind, struct mqtt_sub *share,
                            struct mqg_queue *q, struct mqg_error *e) MQG_MUST_CHECK; /* takes q */
struct mqtt_feed *mqtt_feed_find(struct mqtt_conn *c, enum mqtt_feed_kind kind, const struct mqtt_sub *share);
void mqtt_feed_close(struct mqtt_feed *f);
void mqtt_feeds_kick(struct mqtt_conn *c, bool waiting_only);
void mqtt_durable_look(struct mqg_timer *t); /* the connection's timer, while messages wait for the disk */
enum mqg_err mqtt_puback(struct mqtt_conn *c, struct mqtt_ack ack, struct mqg_error *e);
enum mqg_err mqtt_pubrec(struct mqtt_conn *c, struct mqtt_ack ack, struct mqg_error *e);
enum mqg_err mqtt_pubcomp(struct mqtt_conn *c, struct mqtt_ack ack, struct mqg_error *e);
void mqtt_settle_flush(struct mqtt_conn *c);
/* What is in flight is written down: its subscription changes. */
void mqtt_note_sent(struct mqtt_conn *c);
/* Sent on an earlier connection of the session, not acknowledged. */
static inline bool mqtt_id_begun(const struct mqtt_id *x)
{
    return !x->feed && (x->state == MQTT_OUT_QOS1 || x->state == MQTT_OUT_QOS2);
}
/* PUBREL again for what the client has received before. */
void mqtt_release_again(struct mqtt_conn *c);

/* share.c */
struct mqtt_share *mqtt_share_ref(struct mqg_vhost *v, struct mqg_slice group, struct mqg_slice filter);
void mqtt_share_unref(struct mqtt_share **s); /* with the last member its queue goes */
enum mqg_err mqtt_share_queue(struct mqtt_share *s, struct mqg_queue **out, uint64_t *ticket,
                              struct mqg_error *e) MQG_MUST_CHECK;
uint64_t mqtt_share_members(void);
void mqtt_share_fini(void);

/* retained.c */
/* Are the vhost's retained messages in memory? The first call starts bringing them there. (worker) */
bool mqtt_retained_ready(struct mqg_vhost *v);
/* Has an MQTT client been in the vhost since the start? Before, nothing is made there. */
bool mqtt_retained_begun(const struct mqg_vhost *v);
/* The exchange that a topic or filter goes by. */
struct mqg_slice mqtt_exchange_of(struct mqg_slice topic);
/* m was published with RETAIN: it takes its topic's place, or with an empty body clears it. `stored`: it is on its way through
 * the queue of retained messages. False: over the limit (then nothing has changed). */
bool mqtt_retained_set(struct mqg_vhost *v, struct mqg_msg *m, bool stored);
bool mqtt_retained_room(struct mqg_vhost *v, struct mqg_slice topic);
struct mqg_slice mqtt_retained_key(void); /* the routing key that leads to that queue */
/* Puts what the filter matches into the queue. */
void mqtt_retained_send(struct mqtt_session *s, const struct mqtt_sub *sub, struct mqg_queue *q);
void mqtt_retained_stop(struct mqg_worker *w);
void mqtt_retained_fini(void);
size_t mqtt_retained_count(void);

/* will.c */
struct mqtt_will *mqtt_will_new(const struct mqtt_connect *p, struct mqg_session *principal,
                                struct mqg_slice client);
void mqtt_will_publish(struct mqtt_will **w); /* and forgets it */
void mqtt_will_free(struct mqtt_will **w);
/* A session's: published or not, it is forgotten with its record. */
void mqtt_will_end(struct mqtt_session *s, bool publish);
/* Recovery: one that was written down. NULL: the bytes do not check. */
struct mqtt_will *mqtt_will_recover(struct mqg_vhost *v, struct mqg_slice stored, bool retain);

/* persist.c */
void mqtt_persist_init(void);
void mqtt_persist_session(struct mqtt_session *s);
void mqtt_persist_session_gone(struct mqtt_session *s);
void mqtt_persist_sub(struct mqtt_session *s, const struct mqtt_sub *sub, bool remove);
/* The session's will, to be sent at that time (wall), or with MQTT_WILL_OPEN when its client's connection is found to be gone. */
#define MQTT_WILL_OPEN (UINT64_C(1) << 63)
void mqtt_persist_will(struct mqtt_session *s, const struct mqtt_will *will, uint64_t due_us);
void mqtt_persist_will_gone(struct mqtt_session *s);
/* Adds the identifiers to what this turn submits: one batch with what was added before. */
void mqtt_persist_ids(struct mqtt_session *s);
/* 32 hex digits that stand for the bytes. */
void mqtt_digest_hex(struct mqg_slice s, char out[33]);

/* origin.c */
extern const struct mqg_origin_ops mqtt_origin_ops;
#define MQTT_ORIGIN_HEAD 6u
struct mqtt_origin {
    uint8_t qos;
    bool retain;
    struct mqg_slice props;
};
struct mqtt_origin mqtt_origin_of(const struct mqg_msg *m);
/* The properties of another protocol's message; false when none. */
void mqtt_props_of_view(const struct mqg_msg *m, struct mqg_dynbuf *out);

/* sys.c */
enum mqtt_tally {
    MQTT_TALLY_PACKETS_IN,
    MQTT_TALLY_PACKETS_OUT,
    MQTT_TALLY_PUBS_IN,
    MQTT_TALLY_PUBS_OUT,
    MQTT_TALLY_PUB_BYTES_IN,
    MQTT_TALLY_PUB_BYTES_OUT,
    MQTT_TALLY_CONNECTS,
    MQTT_TALLY_COUNT
};
void mqtt_tally(const struct mqtt_conn *c, enum mqtt_tally what, uint64_t n);
void mqtt_sys_start(struct mqg_worker *w);
void mqtt_sys_stop(void);

#endif
