/* mqgate/broker.h - the core router as protocols and services see it: vhosts, exchanges, queues, bindings; publish, consume,
 * settle.
 *
 * Threads: all calls on a worker unless said. Definitions take the topology mutex for a moment and never wait for the disk:
 * they take effect at once and give a **ticket** on the default store (0 = nothing to wait for); the protocol answers "-ok"
 * when the ticket is durable (lanes.h). Publishing reads the immutable topology snapshot without a lock. Objects got from a
 * snapshot are valid until the end of the turn (epochs) unless a reference is taken.
 *
 * Error texts are RabbitMQ's, without the leading "NAME - " that the protocol puts before. */
#ifndef MQGATE_BROKER_H
#define MQGATE_BROKER_H

#include <mqgate/auth.h>
#include <mqgate/lanes.h>
#include <mqgate/msg.h>
#include <mqgate/value.h>
#include <mqgate/worker.h>

struct mqg_vhost;
struct mqg_queue;
struct mqg_exchange; /* immutable version in the snapshot */

/* ---- vhosts ------------------------------------------------------------------------------------------------------------- */

MQG_API struct mqg_vhost *mqg_vhost_find(
    struct mqg_slice name); /* (any, epoch reader) NULL when there is none; vhosts are never freed */
MQG_API struct mqg_slice mqg_vhost_name(const struct mqg_vhost *v);
MQG_API bool mqg_vhost_alive(const struct mqg_vhost *v);
/* Changes whenever a definition in it does: who keeps an answer about its names compares it. (worker) */
MQG_API uint64_t mqg_vhost_generation(const struct mqg_vhost *v);
MQG_API enum mqg_err mqg_vhost_put(struct mqg_slice name, uint64_t *ticket,
                                   struct mqg_error *e) MQG_MUST_CHECK;
/* Deletes everything in it; its connections get MQG_EV_KILL. */
MQG_API enum mqg_err mqg_vhost_delete(struct mqg_slice name, uint64_t *ticket,
                                      struct mqg_error *e) MQG_MUST_CHECK;
/* Before workers start, at most 8: fn runs in mqg_vhost_delete, without any lock, when the vhost is gone. Who keeps something by
 * its name forgets it there, as that name may be given again. What is in the records at a start and has no vhost is for
 * mqg_meta_on_recover's end. (fn: worker) */
MQG_API void mqg_vhost_on_delete(void (*fn)(struct mqg_vhost *v));

/* ---- definitions ---------------------------------------------------------------------------------------------------------- */

enum mqg_exchange_type { MQG_X_DIRECT, MQG_X_FANOUT, MQG_X_TOPIC, MQG_X_HEADERS, MQG_X_TYPE_COUNT };

struct mqg_exchange_def {
    struct mqg_slice name;
    struct mqg_slice type; /* the word, as the client gave it */
    bool durable, auto_delete, internal;
    struct mqg_table args; /* alternate-exchange; others kept and listed */
};

struct mqg_queue_def {
    struct mqg_slice name; /* "" = server-named: amq.gen-… */
    bool durable, exclusive, auto_delete;
    uint64_t owner_conn; /* exclusive: the connection */
    bool reserved;       /* the node's own (direct reply-to): a name with amq. is allowed */
    struct mqg_table args;
};

struct mqg_binding_def {
    struct mqg_slice source;      /* exchange */
    struct mqg_slice destination; /* queue or exchange */
    bool to_exchange;
    struct mqg_slice key;
    struct mqg_table args;
};

/* Declares; when it exists with equal properties, OK. passive: only looks. RabbitMQ's refusals (406, 403 amq.*, 503 unknown
 * type -> MQG_INVALID with code set by meaning: see routing/definitions.c). Permissions are checked here. */
MQG_API enum mqg_err mqg_exchange_declare(struct mqg_session *s, const struct mqg_exchange_def *d,
                                          bool passive, uint64_t *ticket, struct mqg_error *e) MQG_MUST_CHECK;
/* Deleting what is not there is OK (as RabbitMQ since 3.x). */
MQG_API enum mqg_err mqg_exchange_delete(struct mqg_session *s, struct mqg_slice name, bool if_unused,
                                         uint64_t *ticket, struct mqg_error *e) MQG_MUST_CHECK;

struct mqg_queue_ok {
    struct mqg_slice name; /* valid until the next call on this worker */
    uint64_t messages, consumers;
};
/* d->owner_conn is the connection asking, also for passive (exclusive to another connection: MQG_LOCKED). */
MQG_API enum mqg_err mqg_queue_declare(struct mqg_session *s, const struct mqg_queue_def *d, bool passive,
                                       struct mqg_queue_ok *ok, uint64_t *ticket,
                                       struct mqg_error *e) MQG_MUST_CHECK;
MQG_API enum mqg_err mqg_queue_delete(struct mqg_session *s, struct mqg_slice name, bool if_unused,
                                      bool if_empty, uint64_t *messages, uint64_t *ticket,
                                      struct mqg_error *e) MQG_MUST_CHECK;
MQG_API enum mqg_err mqg_queue_purge(struct mqg_session *s, struct mqg_slice name, uint64_t *messages,
                                     struct mqg_error *e) MQG_MUST_CHECK;
MQG_API enum mqg_err mqg_binding_put(struct mqg_session *s, const struct mqg_binding_def *d, uint64_t *ticket,
                                     struct mqg_error *e) MQG_MUST_CHECK;
MQG_API enum mqg_err mqg_binding_delete(struct mqg_session *s, const struct mqg_binding_def *d,
                                        uint64_t *ticket, struct mqg_error *e) MQG_MUST_CHECK;
/* The connection ended: its exclusive queues go. */
MQG_API void mqg_conn_gone(struct mqg_session *s);

/* ---- queues ----------------------------------------------------------------------------------------------------------------- */

/* Finds and takes a reference; s checked for exclusive ownership (MQG_LOCKED), NOT_FOUND "no queue 'x' in vhost '/'". */
MQG_API enum mqg_err mqg_queue_open(struct mqg_session *s, struct mqg_slice name, struct mqg_queue **out,
                                    struct mqg_error *e) MQG_MUST_CHECK;
MQG_API struct mqg_queue *mqg_queue_ref(struct mqg_queue *q);
MQG_API void mqg_queue_unref(struct mqg_queue **q);
MQG_API struct mqg_slice mqg_queue_name(const struct mqg_queue *q);
MQG_API uint64_t mqg_queue_id(const struct mqg_queue *q);
/* Reading it takes nothing out of it. */
MQG_API bool mqg_queue_is_stream(const struct mqg_queue *q);
/* What has a number up to that does not expire in q by its time any more: it was begun to be sent, and its consumer judges
 * ([MQTT-4.3.3-7]). Holds until the node stops. (worker, or before workers run) */
MQG_API void mqg_queue_keep(struct mqg_queue *q, uint64_t qseq);

/* ---- publish ------------------------------------------------------------------------------------------------------------------ */

struct mqg_pub;
struct mqg_pub_ops {
    /* Every publish with seq <= upto is decided: accepted (and durable where it had to be) except those listed, which were
     * rejected. Called in the PUBLISH or STORE phase, at most once per pub and turn; seqs ascend. */
    void (*confirm)(struct mqg_pub *p, uint64_t upto, const uint64_t *rejected, size_t n);
};

/* One publisher: an AMQP channel, an MQTT connection. Embedded in the handler's state; same worker for life. */
struct mqg_pub {
    const struct mqg_pub_ops *ops;
    struct mqg_session *session;
    void *owner;
    /* routing's: */
    struct mqg_pub_state *state;
};

MQG_API void mqg_pub_init(struct mqg_pub *p, const struct mqg_pub_ops *ops, struct mqg_session *s,
                          void *owner);
/* Pending confirms are dropped; what was published stays published. */
MQG_API void mqg_pub_fini(struct mqg_pub *p);

enum mqg_publish_flag { MQG_PUBLISH_MANDATORY = 1u << 0 };

/* Takes m (the reference is the router's from now on, also on error, except for NOT_FOUND with code 312, see below). seq: the
 * confirm's number, ascending, or 0. extra_keys: CC and BCC. Answers
 *   OK
 *   NOT_FOUND  no such exchange ("no exchange 'x' in vhost '/'")
 *   DENIED     no write permission, or internal exchange
 *   NOT_FOUND with e->code 312 (NO_ROUTE): mandatory and no destination; m is **not** taken (the handler returns it to its
 *              client and unrefs); a confirm for seq still comes.
 * The exchange and key are m's. (worker) */
MQG_API enum mqg_err mqg_publish(struct mqg_pub *p, struct mqg_msg *m, unsigned flags, uint64_t seq,
                                 const struct mqg_slice *extra_keys, size_t nkeys,
                                 struct mqg_error *e) MQG_MUST_CHECK;
/* Checks existence and permission without publishing (so that a handler refuses before the body has come). */
MQG_API enum mqg_err mqg_publish_check(struct mqg_pub *p, struct mqg_slice exchange,
                                       struct mqg_error *e) MQG_MUST_CHECK;
/* Puts m (its reference is taken) into one queue as the node itself, without an exchange, and without a confirm. (worker) */
MQG_API void mqg_publish_direct(struct mqg_queue *q, struct mqg_msg *m);
/* Makes everything published so far on this worker visible in its queues now (before a get, declare, purge on the same
 * connection). Cheap when there is nothing. */
MQG_API void mqg_publish_flush(void);
/* Fires when all that this worker has published and settled so far is durable (tx.commit). */
MQG_API void mqg_publish_barrier(struct mqg_waiter *w);

/* ---- consume ------------------------------------------------------------------------------------------------------------------ */

/* A message on its way to a consumer. */
struct mqg_delivery {
    struct mqg_msg *msg;     /* one reference, the receiver's */
    uint64_t handle;         /* names the entry in its queue until settled; 0 with no_ack */
    uint32_t delivery_count; /* failed attempts so far */
    bool redelivered;
    uint64_t qseq; /* its number in the queue: epoch:16 | counter:48, the same after a restart */
};

/* Credit shared by several subscriptions (AMQP channel prefetch with global=true). limit 0 = none. */
struct mqg_credit {
    _Atomic int64_t left;
    _Atomic int64_t limit; /* any worker reads it, the owner's sets it */
};

struct mqg_sub;
struct mqg_sub_ops {
    /* DELIVER phase: takes up to n deliveries, in order; returns how many it took (fewer when the output is full: the rest
     * comes again after MQG_EV_WRITABLE or the next turn). */
    size_t (*deliver)(struct mqg_sub *sub, void *owner, const struct mqg_delivery *d, size_t n);
    /* The queue was deleted (or its node lost it): the subscription is over, unsettled handles are void; call
     * mqg_unsubscribe to free it. */
    void (*cancelled)(struct mqg_sub *sub, void *owner);
};

struct mqg_sub_def {
    struct mqg_slice tag; /* for listings */
    bool no_ack, exclusive, no_local;
    int32_t priority;
    uint32_t prefetch;         /* 0 = unlimited */
    struct mqg_credit *credit; /* shared, or NULL */
    struct mqg_table args;     /* of a stream: x-stream-offset says where it begins */
    uint64_t conn_id;
    uint32_t channel;
    enum mqg_proto proto; /* the form in which a stream's records are wanted; NONE: the common one */
};

/* Takes its own reference on q. First deliveries come in the next DELIVER phase. LOCKED/IN_USE with RabbitMQ's text when
 * exclusive rules are hurt. Read permission is checked by the caller through mqg_session_need. */
MQG_API enum mqg_err mqg_subscribe(struct mqg_queue *q, const struct mqg_sub_def *d,
                                   const struct mqg_sub_ops *ops, void *owner, struct mqg_sub **out,
                                   struct mqg_error *e) MQG_MUST_CHECK;
/* No delivery after it; what was on its way goes back to its place. Unsettled deliveries stay with the handler, to be
 * settled or requeued by it. Frees the sub; auto-delete queues may go. */
MQG_API void mqg_unsubscribe(struct mqg_sub **sub);
MQG_API struct mqg_queue *mqg_sub_queue(const struct mqg_sub *sub);
/* The output has room again, or shared credit was given back: let the queue look at this subscription. */
MQG_API void mqg_sub_kick(struct mqg_sub *sub);
/* Deliveries given to it and not settled: on their way, or with the handler. */
MQG_API uint32_t mqg_sub_unacked(struct mqg_sub *sub);
/* MQTT/STOMP/KAFKA windows and basic.qos on a living consumer. */
MQG_API void mqg_sub_prefetch(struct mqg_sub *sub, uint32_t prefetch);
MQG_API void mqg_sub_pause(struct mqg_sub *sub, bool paused); /* channel.flow */

enum mqg_settle {
    MQG_SETTLE_ACK,
    MQG_SETTLE_REQUEUE, /* back to its place, redelivered, counts towards the delivery limit */
    MQG_SETTLE_RETURN,  /* back to its place, redelivered, does not count (channel closed, recover) */
    MQG_SETTLE_REJECT,  /* dropped: dead letter "rejected" */
    MQG_SETTLE_UNSENT,  /* back to its place as if never delivered */
};

/* Settles deliveries of one queue. sub gets its credit back when given (NULL: it is gone, or a get). Unknown handles are
 * ignored (the queue was purged or deleted). */
MQG_API void mqg_settle(struct mqg_queue *q, struct mqg_sub *sub, const uint64_t *handles, size_t n,
                        enum mqg_settle how);

/* basic.get and its like. `done` fires before the call returns or later on this worker (the body had to be read); g must live
 * until then (a handler that goes away settles the delivery in `done` with MQG_SETTLE_UNSENT). */
struct mqg_get {
    bool no_ack;
    struct mqg_delivery d;  /* out; msg NULL: empty */
    uint64_t messages_left; /* out */
    void (*done)(struct mqg_get *g);
    /* routing's until done */
    struct mqg_queue *q;
    struct mqg_get *next;
    struct mqg_worker *worker;
    struct mqg_task task;
};
MQG_API void mqg_queue_get(struct mqg_queue *q, struct mqg_get *g);

/* ---- listings (any thread that is registered with epochs, or a worker) ------------------------------------------------------ */

struct mqg_queue_info {
    struct mqg_slice name, vhost, type; /* "classic", "quorum", "stream" */
    bool durable, exclusive, auto_delete;
    uint64_t messages_ready, messages_unacked, bytes_ready, bytes_unacked, consumers, memory_messages;
    uint64_t published, delivered, acked;
    const struct mqg_table *args;
    const char *state; /* "running" */
    struct mqg_slice single_active_tag;
    uint64_t owner_conn;
    struct mqg_queue *queue;
};
struct mqg_exchange_info {
    struct mqg_slice name, vhost, type;
    bool durable, auto_delete, internal;
    const struct mqg_table *args;
};
struct mqg_binding_info {
    struct mqg_slice vhost, source, destination, key;
    bool to_exchange;
    const struct mqg_table *args;
};
struct mqg_consumer_info {
    struct mqg_slice tag, queue, vhost;
    bool no_ack, exclusive, active;
    int32_t priority;
    uint32_t prefetch, channel;
    uint64_t conn_id;
    const struct mqg_table *args;
};
/* Visits under a short lock; the strings are valid during the visit. vhost NULL = all. Return false to stop. */
MQG_API void mqg_vhost_each(bool (*visit)(void *arg, struct mqg_vhost *v), void *arg);
MQG_API void mqg_queue_each(struct mqg_vhost *v, bool (*visit)(void *arg, const struct mqg_queue_info *q),
                            void *arg);
MQG_API void mqg_exchange_each(struct mqg_vhost *v,
                               bool (*visit)(void *arg, const struct mqg_exchange_info *x), void *arg);
MQG_API void mqg_binding_each(struct mqg_vhost *v, bool (*visit)(void *arg, const struct mqg_binding_info *b),
                              void *arg);
MQG_API void mqg_consumer_each(struct mqg_vhost *v,
                               bool (*visit)(void *arg, const struct mqg_consumer_info *c), void *arg);

/* ---- host ------------------------------------------------------------------------------------------------------------------------ */

MQG_API enum mqg_err mqg_routing_init(const struct mqg_conf *conf,
                                      struct mqg_error *e); /* before recovery; registers phases */
MQG_API void mqg_routing_recover_meta(struct mqg_slice key, struct mqg_slice value); /* vhost/ x/ q/ b/ */
MQG_API void mqg_routing_recovered_meta(void);
MQG_API bool mqg_routing_recover_message(uint64_t queue_id, uint64_t qseq, struct mqg_extent *extent,
                                         uint32_t off, uint32_t len, const struct mqg_stored *head,
                                         uint32_t delivery_count, uint32_t acquired_count);
/* mqg_recover.span and spans_wanted. */
MQG_API bool mqg_routing_recover_span(uint64_t queue_id, uint64_t first, uint64_t last, uint64_t count,
                                      uint64_t body_bytes);
MQG_API bool mqg_routing_spans_wanted(uint64_t queue_id);
MQG_API void mqg_routing_recovered(
    bool unclean); /* first vhost "/" with amq.* exchanges is made when there is none */
MQG_API size_t mqg_routing_queue_live(uint64_t queue_id, struct mqg_range *ranges, size_t max,
                                      uint64_t *upto); /* store hook */
MQG_API void mqg_routing_fini(void);

#endif
