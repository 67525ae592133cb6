/* txn_table.h - the coordinator's transactional ids, one mutex around all, and how a change of them becomes durable.
 *
 * A handler locks, asks the engine (txn.h), changes, writes, unlocks and waits. What it wrote is one group with everything else that
 * the worker collects in this turn: so nobody submits a lane in between. The mutex is taken before a partition's engine and
 * before a group's. */
#ifndef KAFKA_TXN_TABLE_H
#define KAFKA_TXN_TABLE_H

#include "kafka.h"
#include "txn.h"

struct kafka_txn_settings {
    uint64_t timeout_max_ms;     /* of a transaction: what a producer may ask for */
    uint64_t id_expiry_ms;       /* a transactional id that was not used so long is forgotten */
    uint64_t producer_expiry_ms; /* a producer that was silent so long, likewise */
};
extern struct kafka_txn_settings kafka_txn_settings;

void kafka_txns_lock(void);
void kafka_txns_unlock(void);

/* ---- under the lock ------------------------------------------------------------------------------------------------------ */

struct kafka_txn *kafka_txns_find(struct mqg_vhost *v, struct mqg_slice id);
struct kafka_txn *kafka_txns_take(struct mqg_vhost *v, struct mqg_slice id); /* makes it */
void kafka_txns_each(void (*visit)(void *arg, struct kafka_txn *t), void *arg);
size_t kafka_txns_count(void);
/* Removes it, and its record. Not busy, nothing open. */
void kafka_txns_drop(struct kafka_txn *t);
/* Its vhost is gone: what is open is forgotten with it. Not busy. */
void kafka_txns_abandon(struct kafka_txn *t);
/* Removes the record of one that is not in the table. */
void kafka_txns_erase(struct kafka_txn *t);
/* Adds its record to the worker's lane; busy until kafka_txns_wait's wait is over: one for each write. */
void kafka_txns_write(struct kafka_txn *t);
/* It is busy: again(call) runs on the call's worker when it is not. False: no room, nothing happens. */
bool kafka_txns_park(struct kafka_txn *t, struct kafka_call *call,
                     void (*again)(struct kafka_call *call)) MQG_MUST_CHECK;
/* Ends the open transaction: markers, positions and the decision in one group. Written; kafka_txns_wait follows. */
void kafka_txns_end(struct kafka_txn *t, bool commit);
/* What the worker has collected becomes durable, the n transactions are not busy any more, and those that were ended are over; then
 * done(call), without the lock. call NULL: nobody asked. */
void kafka_txns_wait(struct kafka_txn *const *txns, size_t n, struct kafka_call *call,
                     void (*done)(struct kafka_call *call));

/* The clock of txn_part.c: it is told of a transaction that opens (hurry runs on w) unless it said last that some are open. */
void kafka_txns_clock(struct mqg_worker *w, struct mqg_task *hurry);
void kafka_txns_clock_said(bool open);
void kafka_txns_clock_hurried(void); /* the task has run */

/* ---- any time ------------------------------------------------------------------------------------------------------------ */

/* A producer id, never given before, also not before a restart. */
int64_t kafka_producer_id_new(void);
/* In load(): reads what was written down (txn_recover.c). */
void kafka_txns_load(void);
void kafka_txns_fini(void);

#endif
