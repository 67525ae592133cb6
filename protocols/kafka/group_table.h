/* group_table.h - all groups of the node: found by vhost and name, shared by the workers, kept over restarts.
 *
 * A group is one of two kinds, decided by whoever joins it while it is empty: classic (group.h) or consumer (KIP-848,
 * group_consumer.h). Its positions (group_offsets.h) are the same for both. Each has a mutex; locking order: a group's, then the
 * table's, then what the router takes. Nothing waits under it.
 *
 * Clock: a group's timer belongs to its home worker. Who sees an earlier deadline posts one task there; heartbeats only move
 * deadlines away and post nothing, and the timer looks again when it fires.
 *
 * What is kept: positions by their stores, told at recovery; and one metadata record per group that ever had members:
 *
 *   "kafka/group/VHOST/GROUP" -> | version 1 | kind 1 | generation or epoch 4 | since, ms 8 | protocol type |
 *
 * written when a generation begins and when the group becomes empty, waited for by nobody: a crash forgets at most a
 * generation whose members are unknown afterwards anyway. Members live in memory: after a restart they are told
 * UNKNOWN_MEMBER_ID and join again, with the group's positions as they were. */
#ifndef KAFKA_GROUP_TABLE_H
#define KAFKA_GROUP_TABLE_H

#include <mqgate/broker.h>
#include <mqgate/stream.h>
#include <mqgate/worker.h>

#include <pthread.h>

#include "group.h"
#include "group_consumer.h"
#include "group_offsets.h"
#include "group_part.h"
#include "kafka.h"

#define KAFKA_GROUP_NAME_MAX 1024u /* bytes; a longer name is never a group's */

enum kafka_group_kind { KAFKA_GROUP_CLASSIC, KAFKA_GROUP_CONSUMER };

struct kafka_group {
    _Atomic uint32_t refs;
    struct mqg_vhost *vhost;
    struct mqg_buf *name;
    struct mqg_worker *home; /* its timer's; NULL before workers run */
    struct mqg_timer timer;
    struct mqg_task task;
    pthread_mutex_t lock;
    /* under it */
    bool gone; /* no longer in the table: look again */
    enum kafka_group_kind kind;
    struct group classic;
    struct consumer_group consumer;
    struct group_offsets offsets;
    uint64_t since_ms; /* wall clock: since when it is empty */
    bool empty;        /* as it was when last looked at */
    int32_t written;   /* the generation in the record; -1: there is no record */
    bool posted;       /* the task is on its way, and holds a reference */
    uint64_t armed_ms; /* when the timer will look; it holds a reference then. 0: not armed */
};

struct kafka_group_settings {
    struct group_limits limits;
    uint32_t session_min_ms, session_max_ms;
    uint64_t offsets_retention_ms, sweep_ms;
    struct consumer_limits consumer;
    uint32_t consumer_heartbeat_ms;
};
extern struct kafka_group_settings kafka_group_settings;

/* The group, locked and with a reference; NULL: there is none (create false), or too many. kafka_group_done gives it back,
 * wakes whoever was answered, arms its timer, writes its record. (worker) */
struct kafka_group *kafka_group_lock(struct mqg_vhost *v, struct mqg_slice name, bool create);
/* The same group again, for who kept a reference; false: it is gone from the table (it is locked all the same). */
bool kafka_group_relock(struct kafka_group *g);
void kafka_group_done(struct kafka_group *g);
/* Keeps the reference. */
void kafka_group_unlock(struct kafka_group *g);
struct kafka_group *kafka_group_ref(struct kafka_group *g);
void kafka_group_unref(struct kafka_group *g);

/* With a reference, not locked; NULL: none, or too many. */
struct kafka_group *kafka_group_find(struct mqg_vhost *v, struct mqg_slice name, bool create);
void kafka_groups_init(void);
void kafka_groups_fini(void); /* workers have stopped, connections are gone */

/* group_record.c, under the group's mutex: writes the record if there is news; removes it, for the ticket. */
void kafka_group_record_look(struct kafka_group *g);
uint64_t kafka_group_record_remove(const struct kafka_group *g);
void kafka_group_records_load(void); /* before recovery */

/* Visits each group of the vhost, locked. Return false to stop. */
void kafka_groups_each(struct mqg_vhost *v, bool (*visit)(void *arg, struct kafka_group *g), void *arg);
/* Nobody is in it. Under its mutex, as all below. */
bool kafka_group_empty(const struct kafka_group *g);
/* "Stable"... */
const char *kafka_group_state(const struct kafka_group *g);
const char *kafka_group_type(const struct kafka_group *g);
/* Becomes that kind when it is empty; false: it is another and has members. */
bool kafka_group_become(struct kafka_group *g, enum kafka_group_kind kind);
/* Forgets the group: table, record. Positions are the caller's to forget before. The default store's ticket, 0: nothing to wait
 * for. */
uint64_t kafka_group_remove(struct kafka_group *g);
/* The partition of a row, with a reference on its stream; NULL when it is no longer there. */
struct mqg_partition *kafka_group_partition(const struct kafka_group *g, const struct kafka_offset_row *row,
                                            struct mqg_stream **stream);
struct kafka_durable;
/* Adds the removal of one position to this worker's lane, and notes the ticket (admin.h; NULL: nobody waits). */
void kafka_group_position_drop(struct kafka_group *g, const struct kafka_offset_row *row,
                               struct kafka_durable *durable);
/* May the member write positions? An enum kafka_error. */
int16_t kafka_group_check(struct kafka_group *g, int32_t generation, struct mqg_slice member_id,
                          struct mqg_slice instance_id, bool transactional);

static inline uint64_t kafka_now_ms(void)
{
    return mqg_worker_self()->now.mono_ms;
}
static inline uint64_t kafka_wall_ms(void)
{
    return mqg_worker_self()->now.wall_us / 1000;
}

/* ---- a call that waits for its group (group_call.c) ------------------------------------------------------------------------- */

/* Wakes the call behind an answered wait; under the group's mutex. */
void kafka_group_call_answered(struct group_wait *w);

/* ---- waiting for the disk (group_disk.c) ------------------------------------------------------------------------------------- */

/* Positions on their way to their stores. They become visible when they are durable, whether somebody still waits for an answer
 * or not, so the wait is their owner's and not the call's. */
struct group_disk {
    struct group_disk_one {
        struct mqg_waiter waiter;
        struct group_disk *all;
        struct mqg_storage *storage;
        uint64_t ticket;
    } ones[MQG_STORES_MAX];
    uint32_t n, left;
    bool failed; /* a store did: nothing of it may be told as done */
    void (*done)(struct group_disk *d);
};
/* What this worker has added to the storage's lane so far is to be durable. */
void group_disk_note(struct group_disk *d, struct mqg_storage *s, uint64_t ticket);
/* True: nothing to wait for, done is not called. Else done comes on this worker; d stays until then. */
bool group_disk_wait(struct group_disk *d, void (*done)(struct group_disk *d)) MQG_MUST_CHECK;

extern const struct kafka_api kafka_group_apis[];

/* "/127.0.0.1"; a random uuid. In the call's arena. */
struct mqg_slice kafka_group_host(struct kafka_call *c);
struct mqg_slice kafka_group_new_id(struct kafka_call *c);
/* authorized_operations of a group. */
int32_t kafka_group_operations(struct kafka_call *c, struct mqg_slice name);

/* Handlers, by file. */
void kafka_find_coordinator(struct kafka_call *c);
void kafka_join_group(struct kafka_call *c);
void kafka_sync_group(struct kafka_call *c);
void kafka_heartbeat(struct kafka_call *c);
void kafka_leave_group(struct kafka_call *c);
void kafka_offset_commit(struct kafka_call *c);
void kafka_offset_fetch(struct kafka_call *c);
void kafka_offset_delete(struct kafka_call *c);
void kafka_list_groups(struct kafka_call *c);
void kafka_describe_groups(struct kafka_call *c);
void kafka_delete_groups(struct kafka_call *c);
void kafka_consumer_group_heartbeat(struct kafka_call *c);
void kafka_consumer_group_describe(struct kafka_call *c);

#endif
