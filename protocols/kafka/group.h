/* group.h - one group of the classic protocol: JoinGroup, SyncGroup, Heartbeat, LeaveGroup as a state machine.
 *
 *            join                      all joined, or time is up            leader's sync
 *   EMPTY ----------> PREPARING --------------------------------> COMPLETING --------------> STABLE
 *     ^                ^  |                                        |    ^                       |
 *     |   all are gone |  |        a member joins anew, leaves,    |    |                       |
 *     +----------------|--+        or is silent too long           |    |                       |
 *                      +-------------------------------------------+----+-----------------------+
 *
 * The protocol is the clients': the members agree on a name, the leader alone reads what the members said and decides what each
 * gets. The coordinator moves bytes and counts generations. Cooperative rebalancing needs nothing else of it: members keep
 * consuming while they rejoin, and that is theirs.
 *
 * Pure: time (monotonic ms) is passed in, nothing is sent. A call that must wait is a struct group_wait, embedded in its
 * owner; whoever must be answered now stands in g->answered afterwards, with what to say. The owner drains that list after
 * each call. Who takes a wait back (its connection ended) calls group_wait_cancel; its member stays until its session ends.
 *
 * Texts and bytes that outlive a request are counted buffers, so an answer holds what was true when it was decided.
 * Rules: the protocol guide; KIP-62 (session and rebalance timeouts), KIP-345 (static members), KIP-394 (member id required),
 * KIP-814 (static leaders skip the assignment), KIP-800 (reasons). */
#ifndef KAFKA_GROUP_H
#define KAFKA_GROUP_H

#include <mqgate/base.h>
#include <mqgate/map.h>
#include <mqgate/vec.h>

enum group_state { GROUP_EMPTY, GROUP_PREPARING, GROUP_COMPLETING, GROUP_STABLE, GROUP_DEAD };
/* As listings have it: "Empty", "PreparingRebalance"... */
const char *group_state_name(enum group_state s);

/* What a member can speak, in its order of preference. */
struct group_protocol {
    struct mqg_buf *name, *metadata;
};

struct group_wait;

struct group_member {
    struct mqg_buf *id, *instance_id; /* instance_id NULL: dynamic */
    struct mqg_buf *client_id, *client_host;
    struct group_protocol *protocols;
    uint32_t nprotocols;
    uint32_t session_ms, rebalance_ms;
    uint64_t deadline_ms; /* of its session; not judged while it waits */
    struct mqg_buf *assignment;
    struct group_wait *join, *sync;
    bool fresh;  /* its first join was not answered yet */
    bool synced; /* in this generation */
};

/* A member id that was given out and has not joined yet (KIP-394). */
struct group_promise {
    struct mqg_buf *id;
    uint64_t deadline_ms;
};

struct group_limits {
    uint32_t max_members;
    uint32_t initial_delay_ms; /* how long an empty group's first members wait for others */
    uint32_t fresh_join_ms;    /* how long a member that never joined may wait for its first generation */
};

struct group {
    enum group_state state;
    int32_t generation;
    struct mqg_buf *protocol_type, *protocol; /* NULL: none */
    struct group_member *leader;
    struct mqg_vec members;  /* in the order of joining */
    struct mqg_map by_id;    /* borrowed keys */
    struct mqg_map statics;  /* instance id -> member */
    struct mqg_vec promises; /* struct group_promise */
    uint64_t begun_ms;       /* the rebalance: the initial delay is bounded by it */
    uint64_t round_ms;       /* PREPARING: joins end; COMPLETING: syncs end; 0: none */
    bool first_round;        /* PREPARING from EMPTY: newcomers prolong it */
    bool newcomer;           /* ... one came since it was set */
    uint64_t due_ms;         /* when group_expire is to be called next, or earlier; 0: never */
    struct group_wait *answered;
    const struct group_limits *limits;
};

/* One other member, as the leader is told. */
struct group_peer {
    struct mqg_buf *id, *instance_id, *metadata;
};

struct group_wait {
    void *owner;
    bool sync; /* else a join */
    /* engine's */
    struct group_wait *next;
    struct group_member *member; /* waits; NULL: answered, or nothing */
    /* out: valid once it stood in `answered`; buffers are counted, group_wait_fini gives them back */
    int16_t error;
    int32_t generation;
    bool skip_assignment;
    struct mqg_buf *protocol_type, *protocol, *leader, *member_id, *assignment;
    struct group_peer *peers; /* for the leader */
    uint32_t npeers;
};

struct group_join {
    int16_t version;
    struct mqg_slice member_id, instance_id; /* ptr NULL: none */
    struct mqg_slice client_id, client_host, protocol_type;
    uint32_t session_ms, rebalance_ms;
    const struct group_join_protocol {
        struct mqg_slice name, metadata;
    } * protocols;
    uint32_t nprotocols;
    struct mqg_slice new_id; /* what a new member is called, should it be one */
};

struct group_sync {
    int32_t generation;
    struct mqg_slice member_id, instance_id;
    struct mqg_slice protocol_type, protocol; /* ptr NULL: not said */
    const struct group_sync_row {
        struct mqg_slice member_id, assignment;
    } * rows;
    uint32_t nrows;
};

void group_init(struct group *g, const struct group_limits *limits, int32_t generation);
/* No wait may be left in it. */
void group_fini(struct group *g);

/* Each puts w into g->answered now or later. */
void group_join(struct group *g, uint64_t now_ms, const struct group_join *in, struct group_wait *w);
void group_sync(struct group *g, uint64_t now_ms, const struct group_sync *in, struct group_wait *w);
/* These answer at once: an enum kafka_error. */
int16_t group_heartbeat(struct group *g, uint64_t now_ms, int32_t generation, struct mqg_slice member_id,
                        struct mqg_slice instance_id);
int16_t group_leave(struct group *g, uint64_t now_ms, struct mqg_slice member_id,
                    struct mqg_slice instance_id);
/* May this member commit? generation -1 with an empty id is a client without a group: only while there are no members.
 * transactional: such a client may always (KIP-447). Prolongs the session. */
int16_t group_check_commit(struct group *g, uint64_t now_ms, int32_t generation, struct mqg_slice member_id,
                           struct mqg_slice instance_id, bool transactional);
/* What the clock brings: sessions, rounds, promises. Sets due_ms. */
void group_expire(struct group *g, uint64_t now_ms);
/* Everybody is told to look for another coordinator, and the group is DEAD. */
void group_kill(struct group *g);

/* Does the group's protocol (consumer's subscriptions, as the members sent them) name the topic? */
bool group_subscribes(const struct group *g, struct mqg_slice topic);
/* The chosen protocol's metadata of the member; empty without one. */
struct mqg_slice group_metadata(const struct group *g, const struct group_member *m);

/* The next that is to be answered, taken out; NULL: none. */
struct group_wait *group_answered(struct group *g);
/* The member has a session's time to ask again. */
void group_wait_cancel(struct group *g, uint64_t now_ms, struct group_wait *w);
void group_wait_fini(struct group_wait *w);

/* Counted texts. */
struct mqg_buf *group_text(struct mqg_slice s); /* NULL for a null slice */
static inline struct mqg_slice group_view(const struct mqg_buf *b)
{
    return b != NULL ? mqg_slice_of(b->data, b->len) : MQG_SLICE_NONE;
}

static inline struct mqg_slice group_not_null(struct mqg_slice s)
{
    return s.ptr != NULL ? s : MQG_SLICE_LIT("");
}

/* ---- inside, shared by group.c, group_join.c, group_protocol.c and group_round.c ------------------------------------------ */

/* group.c */

/* By member id; NULL: none. */
struct group_member *group_find(const struct group *g, struct mqg_slice id);
/* Answers what it waits for with the error, and frees it. The caller goes on with group_prepare or group_try_complete. */
void group_member_remove(struct group *g, struct group_member *m, int16_t error);
/* An id that was given out is used, or given back: false when it was not. */
bool group_promise_take(struct group *g, struct mqg_slice id);
/* Into g->answered; nobody waits for it any more. */
void group_answer(struct group *g, struct group_wait *w, int16_t error);
/* Answers a join with the present generation; tell_peers: with all members, as the leader must know them. */
void group_answer_join(struct group *g, struct group_member *m, struct group_wait *w, bool tell_peers);
/* group_expire is called at that time or earlier. */
void group_due(struct group *g, uint64_t at_ms);
/* Its session begins anew. */
void group_touch(struct group *g, struct group_member *m, uint64_t now_ms);
void group_replace_text(struct mqg_buf **at, struct mqg_slice s);

/* group_round.c */

/* A rebalance begins, or goes on. */
void group_prepare(struct group *g, uint64_t now_ms);
/* In PREPARING: is everybody there? Then the next generation begins. */
void group_try_complete(struct group *g, uint64_t now_ms);
/* Joins or syncs had their time. */
void group_round_expire(struct group *g, uint64_t now_ms);

/* group_protocol.c */

/* The name most members prefer among those that all speak, borrowed from one of them; NULL: none. */
struct mqg_buf *group_choose(const struct group *g);
/* Would a name be left that all speak, with who joins and without `but` (its former self; NULL: none)? */
bool group_all_speak(const struct group *g, const struct group_join *in, const struct group_member *but);
/* Does the member join with the same names and metadata as before? */
bool group_member_says_same(const struct group_member *m, const struct group_join *in);
/* The member is now what it says in the join. */
void group_member_take(struct group_member *m, const struct group_join *in);

#endif
