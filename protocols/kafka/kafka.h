/* kafka.h - a Kafka connection and its requests: what the handler's files share.
 *
 *   module.c    descriptor, settings, the parts           conn.c      frames out of the input, reading and its stops
 *   call.c      a request, until the turn of its answer
 *   request.c   the table of APIs, ApiVersions, the gate   node.c      cluster id
 *   listener.c  address, vhost, login by listener
 *   topic.c     names and ids of topics                    metadata.c  Metadata, DescribeCluster, DescribeTopicPartitions
 *   produce*.c  Produce                                    fetch*.c    Fetch, its sessions
 *   offsets.c   ListOffsets                               epochs.c    OffsetForLeaderEpoch
 *   group*.c    groups and their offsets                   txn*.c, producer*.c  transactions, idempotence
 *   admin*.c, topic_*.c  topics, their configuration      sasl.c, scram_api.c, acl*.c, permit.c, quota*.c  who may, how much
 *   compression.c, legacy*.c, batch_check.c  records       crossing.c  what other protocols may see of a topic
 *
 * A request is a struct kafka_call from its frame to its answer. Handlers of a connection run in the order of its requests, on
 * the connection's worker; a handler answers at once or later, and answers leave in the order of requests, whoever is ready
 * first. So only waiting overlaps.
 *
 * A part (groups, transactions, administration...) brings a table of APIs and is listed in module.c. */
#ifndef KAFKA_KAFKA_H
#define KAFKA_KAFKA_H

#include <mqgate/auth.h>
#include <mqgate/conf.h>
#include <mqgate/obs.h>
#include <mqgate/protocol.h>
#include <mqgate/stream.h>
#include <mqgate/worker.h>

#include "error.h"
#include "kafka_messages.h"

#define KAFKA_ARENA_BYTES (64u << 20) /* what one request may make of its bytes */

struct kafka_call;
struct fetch_set;    /* fetch.h */
struct kafka_topics; /* topic.c: the connection's cache */
struct kafka_sasl;   /* sasl.c's state of a login */
struct kafka_acl;    /* acl.c's cache */

/* ---- settings (module.c) -------------------------------------------------------------------------------------------------- */

enum kafka_anonymous { KAFKA_ANONYMOUS_OFF, KAFKA_ANONYMOUS_LOOPBACK, KAFKA_ANONYMOUS_ANY };

struct kafka_settings {
    uint32_t request_max_bytes; /* a frame */
    uint32_t batch_max_bytes;   /* max.message.bytes of topics that say nothing else */
    int32_t broker_id;
    bool auto_create;
    uint32_t partitions;     /* of a topic that is made without saying how many */
    const char *advertised;  /* as it was said, for DescribeConfigs */
    uint32_t fetch_sessions; /* per worker */
    uint32_t fetch_max_bytes;
    uint64_t idle_ms;
};
extern struct kafka_settings kafka_settings;

/* ---- a connection ----------------------------------------------------------------------------------------------------------- */

enum kafka_phase {
    KAFKA_STARTING, /* nobody yet: ApiVersions and Sasl* are answered, anything else tries to come in anonymously */
    KAFKA_RUNNING, /* session is there, with its vhost */
    KAFKA_CLOSED,
};

struct kafka_conn {
    struct mqg_conn *conn;
    enum kafka_phase phase;
    struct mqg_session *session; /* one reference; NULL while STARTING */
    struct mqg_dynbuf client_id; /* of the last request, for quotas and listings */
    char software[64];           /* "apache-kafka-java 3.9.1", as ApiVersions said */

    /* requests that are not answered yet, oldest first */
    struct kafka_call *first, **last;
    uint32_t waiting;
    size_t held_bytes; /* of their frames and of answers that wait for their turn */
    bool paused;       /* too many: reading stopped */
    bool muted;        /* kafka_conn_mute */
    bool alone;        /* a request with KAFKA_API_ALONE is under way */
    bool starved;      /* no budget for the next frame now */
    bool in_input, ending;
    struct mqg_timer mute;

    /* a frame that is not whole in the input is gathered here */
    uint8_t *frame;
    uint32_t frame_len, frame_at;

    struct kafka_topics *topics;
    struct fetch_set *fetch_session; /* KIP-227; NULL: none */
    struct kafka_sasl *sasl;
    struct kafka_acl *acl;
};

/* The identity of the principal is conn->session->user; its vhost is: */
static inline struct mqg_vhost *kafka_vhost(const struct kafka_conn *kc)
{
    return kc->session->vhost;
}

/* Takes the session (the reference goes over) and opens the vhost: of the listener, or the user's own. On failure the session
 * is given back and *e says why. For sasl.c; anonymous clients come in through request.c. */
enum mqg_err kafka_conn_login(struct kafka_conn *kc, struct mqg_session **session, struct mqg_error *e);
/* A fault of the client that has no answer: logs, closes. Does nothing the second time. */
void kafka_conn_fail(struct kafka_conn *kc, const char *fmt, ...) MQG_PRINTF(2, 3);
/* Reads no more for so long (quotas: the answer says it as throttle_time_ms). */
void kafka_conn_mute(struct kafka_conn *kc, uint32_t ms);
/* All answers that are ready leave, then the connection closes. */
void kafka_conn_end(struct kafka_conn *kc);

/* ---- a request --------------------------------------------------------------------------------------------------------------- */

struct kafka_api;

struct kafka_call {
    struct kafka_conn *conn;
    const struct kafka_api *api;
    struct kafka_request_head head; /* its slices borrow from the frame */
    struct mqg_arena arena;         /* until the answer is encoded: the request's and the response's arrays */
    const void *request;            /* struct kafka_<name>_request, decoded; strings borrow from the frame */
    void *response;                 /* struct kafka_<name>_response at its defaults; the handler fills it */
    /* Set by who answers later. gone: the connection is closing, forget the call; after its return nothing may be called for it.
     * resume: on the connection's worker, after kafka_call_wake. */
    void (*gone)(struct kafka_call *c);
    void (*resume)(struct kafka_call *c);
    void *owner;

    /* call.c's */
    struct kafka_call *next;
    struct mqg_worker *worker;
    uint8_t state;
    _Atomic bool waking;
    struct mqg_task task;
    struct mqg_timer timer;
    void (*timed)(struct kafka_call *c);
    uint8_t *frame; /* owned copy of the request, or NULL: it lies in the input */
    uint32_t frame_bytes;
    struct mqg_dynbuf out; /* an answer that waits for its turn */
    /* Writes the answer in place of the encoder, when its turn has come (answers with buffers that are not copied). It may not
     * come: then gone does. */
    void (*write)(struct kafka_call *c);
};

/* Encodes and sends, or keeps it until its turn; c is gone after it. On the connection's worker. What the response points to
 * need not live longer. */
void kafka_call_answer(struct kafka_call *c);
/* No answer at all (acks=0). */
void kafka_call_none(struct kafka_call *c);
/* Any thread: c->resume runs on the connection's worker, once for any number of calls before it. */
void kafka_call_wake(struct kafka_call *c);
/* One timer per call; fn runs on the connection's worker unless the call was answered before. fn NULL: no timer any more. */
void kafka_call_timer(struct kafka_call *c, uint64_t ms, void (*fn)(struct kafka_call *c));
/* Room from the call's arena, zeroed; NULL when the bound is reached: answer with an error, or kafka_call_drop. */
void *kafka_call_alloc(struct kafka_call *c, size_t n, size_t size);
/* The request cannot be answered: closes the connection. c is gone after it. */
void kafka_call_drop(struct kafka_call *c, const char *why);
static inline struct mqg_slice kafka_call_dup(struct kafka_call *c, struct mqg_slice s)
{
    return mqg_arena_dup(&c->arena, s);
}

/* ---- APIs --------------------------------------------------------------------------------------------------------------------- */

enum kafka_api_flag {
    /* Without it the frame is copied before it is decoded, so that the request may be kept beyond the handler's return. With
     * it the request lies in the input: a handler that answers later keeps nothing of it, not even c->request. */
    KAFKA_API_INPLACE = 1u << 0,
    KAFKA_API_OPEN = 1u << 1,  /* also before anybody is authenticated (Sasl*, ApiVersions) */
    KAFKA_API_ALONE = 1u << 2, /* the next request is not begun before this one is answered */
};

/* Versions first..last are told by ApiVersions: those that a named client uses in a test. */
struct kafka_api {
    int16_t key, first, last;
    unsigned flags;
    void (*call)(struct kafka_call *c);
};

/* A part of the module; everything may be NULL. Tables end with key -1. */
struct kafka_part {
    const char *name;
    const struct kafka_api *apis;
    enum mqg_err (*load)(const struct mqg_conf *conf, struct mqg_error *e); /* before recovery */
    void (*reload)(const struct mqg_conf *conf);
    void (*unload)(void);
    void (*conn_fini)(struct kafka_conn *kc);
};
extern const struct kafka_part *const kafka_parts[]; /* module.c; ended by NULL */

/* The API's row, NULL when nobody serves it. */
const struct kafka_api *kafka_api_find(int16_t key);
/* Decodes and begins one request. frame: without its length. owned: the same bytes, of kafka_frame_new, to be given
 * away; NULL: they lie in the input. */
void kafka_request(struct kafka_conn *kc, struct mqg_slice frame, uint8_t *owned);

/* ---- the node as clients know it (node.c) -------------------------------------------------------------------------------------- */

/* 22 characters of base64 (a random uuid), made at the first start and kept. */
struct mqg_slice kafka_cluster_id(void);
/* Host and port that a client of this connection is told: advertised for its listener, else where it came in (listener.c). */
void kafka_endpoint(const struct kafka_conn *kc, struct mqg_slice *host, int32_t *port);
void kafka_node_load(void);

/* ---- topics (topic.c) ------------------------------------------------------------------------------------------------------------ */

/* A name that may be a topic's: 1 to 249 of a-z A-Z 0-9 . _ -, not "." or "..". */
bool kafka_topic_name_ok(struct mqg_slice name);
/* The stream of that name, borrowed: valid until the turn ends, or take mqg_stream_ref. NULL and *code: UNKNOWN_TOPIC_OR_PARTITION,
 * TOPIC_AUTHORIZATION_FAILED (perm is checked, cached)... A queue that is no stream is UNKNOWN. */
struct mqg_stream *kafka_topic(struct kafka_conn *kc, struct mqg_slice name, enum mqg_perm perm,
                               enum kafka_error *code);
/* By id: UNKNOWN_TOPIC_ID. */
struct mqg_stream *kafka_topic_by_id(struct kafka_conn *kc, const struct kafka_uuid *id, enum mqg_perm perm,
                                     enum kafka_error *code);
/* The id of a stream: never used again, the same after a restart. */
struct kafka_uuid kafka_topic_id(const struct mqg_stream *s);
/* Stream and partition in one; index from the wire. */
struct mqg_partition *kafka_partition(struct kafka_conn *kc, struct mqg_slice name, int32_t index,
                                      enum mqg_perm perm, enum kafka_error *code);
struct mqg_partition *kafka_partition_by_id(struct kafka_conn *kc, const struct kafka_uuid *id, int32_t index,
                                            enum mqg_perm perm, enum kafka_error *code);
/* Visits all topics (streams) of the connection's vhost. Return false to stop. */
void kafka_topics_each(struct kafka_conn *kc, bool (*visit)(void *arg, struct mqg_stream *s), void *arg);
void kafka_topics_free(struct kafka_conn *kc);
/* What a client says that it knows as the leader's epoch (KIP-320; -1: nothing): FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH. */
enum kafka_error kafka_leader_epoch_check(int32_t told);

/* May this principal do perm on what has that name? kind is for a resource that is no topic ("group", "transactional_id",
 * "cluster"); topics: "topic". */
#define KAFKA_DESCRIBE ((enum mqg_perm)MQG_PERM_COUNT) /* beside the three: may see it */
bool kafka_allowed(struct kafka_conn *kc, enum mqg_perm perm, const char *kind, struct mqg_slice name);

#endif
