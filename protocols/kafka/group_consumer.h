/* group_consumer.h - one group of the consumer protocol (KIP-848): the coordinator assigns, members follow by heartbeats.
 *
 * Three numbers move apart and come together again:
 *
 *   group epoch    rises when members or subscriptions change, or the topics they name
 *   target epoch   the group epoch for which the assignor has decided
 *   member epoch   the target that a member has reached
 *
 * A member reaches a target in steps, each a heartbeat: what it must give up first (UNREVOKED: it is told a smaller assignment
 * and stays at its epoch until it says that it holds no more), then what is free of the new (UNRELEASED: others still hold
 * some). A partition belongs to one member at a time: to who has it assigned, or has not yet said that it let go.
 *
 * Pure, as group.h; heartbeats are answered at once, nobody waits. What topics there are is asked of a struct consumer_world. */
#ifndef KAFKA_GROUP_CONSUMER_H
#define KAFKA_GROUP_CONSUMER_H

#include <mqgate/map.h>
#include <mqgate/vec.h>

#include "group.h"
#include "group_assign.h"

struct consumer_topic {
    struct mqg_slice name;
    struct kafka_uuid id;
    int32_t partitions;
};

struct consumer_world {
    /* false: there is no such topic */
    bool (*find)(void *arg, struct mqg_slice name, struct consumer_topic *out);
    /* Visits the names that match; false: no valid expression. */
    bool (*match)(void *arg, struct mqg_slice regex, void (*visit)(void *to, struct mqg_slice name),
                  void *to);
    uint64_t generation; /* another: there may be other names */
    void *arg;
};

struct consumer_limits {
    uint32_t max_members;
    uint32_t session_ms;
};

enum consumer_step { CONSUMER_STABLE, CONSUMER_UNREVOKED, CONSUMER_UNRELEASED };

struct consumer_member {
    struct mqg_buf *id, *instance_id, *rack, *client_id, *client_host, *regex, *assignor;
    struct mqg_vec names;          /* of struct mqg_buf, sorted: as it said */
    struct mqg_vec matched;        /* ... and what its expression found */
    uint64_t generation;           /* of the world when it was matched */
    int32_t epoch, previous_epoch; /* -2: a static member that left for a while */
    uint32_t rebalance_ms;
    enum consumer_step step;
    uint64_t deadline_ms, revoke_ms; /* revoke_ms 0: need not give up anything */
    struct group_parts assigned, revoking, target;
};

/* A topic that somebody subscribes to, and that exists. */
struct consumer_known {
    struct mqg_buf *name;
    struct kafka_uuid id;
    int32_t partitions;
};

struct consumer_group {
    int32_t epoch, target_epoch;
    struct mqg_buf *assignor; /* of the target */
    struct mqg_vec members;
    struct mqg_map by_id, statics;
    struct consumer_known *known; /* sorted by name */
    uint32_t nknown;
    bool stale;      /* members or what they subscribe to changed since known was made */
    uint64_t looked; /* the world's generation then, and 1 */
    uint64_t due_ms;
    const struct consumer_limits *limits;
};

struct consumer_beat {
    struct mqg_slice member_id, instance_id, rack, client_id, client_host;
    struct mqg_slice new_id; /* what a member without an id is called */
    int32_t epoch;           /* 0 joins, -1 leaves, -2 leaves for a while */
    int32_t rebalance_ms;    /* -1: as before */
    const struct mqg_slice *names;
    int32_t nnames;                   /* -1: as before */
    struct mqg_slice regex, assignor; /* ptr NULL: as before */
    const struct group_parts *owned;  /* NULL: as before. Sorted */
};

struct consumer_answer {
    int16_t error;
    const char *message;
    struct mqg_slice member_id; /* borrowed: the member's, or the request's */
    int32_t epoch;
    const struct group_parts *assignment; /* NULL: as before */
};

void consumer_init(struct consumer_group *g, const struct consumer_limits *limits, int32_t epoch);
void consumer_fini(struct consumer_group *g);
void consumer_heartbeat(struct consumer_group *g, uint64_t now_ms, const struct consumer_beat *in,
                        const struct consumer_world *world, struct consumer_answer *out);
/* An operator removes a member, a static one by its instance alone. */
int16_t consumer_remove(struct consumer_group *g, uint64_t now_ms, struct mqg_slice member_id,
                        struct mqg_slice instance_id);
void consumer_expire(struct consumer_group *g, uint64_t now_ms);
/* May the member commit or fetch positions at this epoch? STALE_MEMBER_EPOCH, UNKNOWN_MEMBER_ID. */
int16_t consumer_check(const struct consumer_group *g, struct mqg_slice member_id, int32_t epoch);
/* "Assigning", "Reconciling"... */
const char *consumer_state_name(const struct consumer_group *g);
bool consumer_subscribes(const struct consumer_group *g, struct mqg_slice topic);
struct consumer_member *consumer_find(const struct consumer_group *g, struct mqg_slice id);
/* The name of a topic that the group knows; empty: none. */
struct mqg_slice consumer_topic_name(const struct consumer_group *g, const struct kafka_uuid *id);

/* ---- inside: group_target.c */
/* Looks at the topics again, and at expressions of m where the world changed. True: the group needs a new epoch. INVALID: m's
 * expression is none. */
enum mqg_err consumer_look(struct consumer_group *g, struct consumer_member *m,
                           const struct consumer_world *world, bool *changed) MQG_MUST_CHECK;
/* Decides for the group's epoch. */
void consumer_decide(struct consumer_group *g);
/* Takes the member's next step towards its target. owned: what it says it holds, NULL: it did not. */
void consumer_step(struct consumer_group *g, struct consumer_member *m, const struct group_parts *owned);

#endif
