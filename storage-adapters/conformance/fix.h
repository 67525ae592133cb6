/* fix.h - the host's side of a store under test: lanes with tickets, what was done, what recovery told.
 *
 * A test owns one fixture. The fixture checks by itself what holds always: done() rises by lane, names only what was
 * submitted, comes at most once per batch; recovery keeps its order; an extent dies once, and only when nobody holds it.
 * A broken rule is noted and fails the test at its end, because callbacks run on the adapter's threads. */
#ifndef SUITE_FIX_H
#define SUITE_FIX_H

#include "held.h"
#include "suite.h"

#include <mqgate/conf.h>
#include <mqgate/store.h>
#include <mqgate/vec.h>
#include <mqgate/wait.h>

#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define FIX_LANES   4
#define FIX_WAIT_MS 20000

struct fix_lane {
    _Atomic uint64_t submitted; /* highest ticket handed over */
    uint64_t done, done_calls;  /* under the fixture's lock */
    struct mqg_extent *current; /* lane's thread */
    struct held *held;          /* the same; until the store is gone */
};

struct fix_msg { /* what recovery told of a message */
    uint64_t queue_id, qseq;
    struct mqg_extent *extent;
    uint32_t off, len;
    uint32_t delivery_count, acquired_count;
    struct mqg_stored head;
};

struct fix_meta {
    char *key;
    size_t key_len;
    struct mqg_slice value; /* malloc'ed */
};

struct fix_stream {
    uint64_t partition;
    struct mqg_stream_bounds bounds;
};

struct fix_position {
    char *group, *metadata;
    uint64_t partition, offset;
};

struct fix_producer {
    uint64_t partition, producer_id, offset;
    int32_t base_seq, last_seq;
    int16_t epoch;
};

struct fix {
    const struct suite_adapter *adapter;
    const struct mqg_store_ops *ops; /* the adapter's */
    struct mqg_store_ops counted;    /* the same, with extent_dead counted: what extents point to */
    struct mqg_conf *conf;
    struct mqg_store *store;
    uint32_t caps;
    char folder[64];
    struct fix_lane lanes[FIX_LANES];
    pthread_mutex_t lock;
    pthread_cond_t moved;
    uint64_t opened, dead; /* extents of this life; dead: by the host; under lock */
    struct mqg_vec ready;  /* partitions that stream_ready named; under lock */
    char broken[256];      /* the first broken rule; under lock */
    bool blocked;          /* last pressure told */
    bool failed;           /* failed() was told */
    /* recovery */
    struct mqg_vec metas, msgs, streams, positions, producers;
    int phase; /* 0 metadata, 1 after meta_end and messages, 2 streams */
    bool unclean, drop_messages;
};

/* ---- life ---------------------------------------------------------------------------------------------------------- */

int fix_setup(void **state);    /* cmocka: a store that is open, recovered and started */
int fix_teardown(void **state); /* stops it cleanly, fails on a broken rule */
extern const struct suite_adapter *fix_adapter;

/* Singly, for tests of a store's life. fix_new opens nothing. */
struct fix *fix_new(void);
void fix_free(struct fix **f);
enum mqg_err fix_open(struct fix *f, struct mqg_error *e);
void fix_recover(struct fix *f);
void fix_start(struct fix *f);
void fix_up(struct fix *f);                 /* open, recover, start */
void fix_down(struct fix *f, bool cleanly); /* (close,) stop, fini */
void fix_reopen(struct fix *f, bool cleanly);
void fix_broke(struct fix *f, const char *fmt, ...) MQG_PRINTF(2, 3);
bool fix_local(const struct fix *f); /* a folder of its own, not a remote engine */

/* ---- batches ------------------------------------------------------------------------------------------------------- */

/* Submits, urgent; AGAIN is tried again until the deadline. The ticket. */
uint64_t fix_submit(struct fix *f, uint32_t lane, const struct mqg_store_op *ops, size_t n);
uint64_t fix_submit_flags(struct fix *f, uint32_t lane, const struct mqg_store_op *ops, size_t n,
                          unsigned flags);
/* Waits for done; false when it does not come in time. */
bool fix_wait(struct fix *f, uint32_t lane, uint64_t ticket);
void fix_do(struct fix *f, uint32_t lane, const struct mqg_store_op *ops, size_t n); /* submit and wait */
struct mqg_extent *fix_extent(struct fix *f, uint32_t lane);
/* Waits until so many of this life's extents have died, by the store's own count: it may bring one to zero itself. */
bool fix_dead_reach(struct fix *f, uint64_t dead);
uint64_t fix_dead(struct fix *f); /* those that the host brought to zero */
uint64_t fix_opened(struct fix *f);

/* ---- messages ------------------------------------------------------------------------------------------------------ */

/* A message whose parts and body follow from seed and size. */
struct mqg_msg *fix_msg(uint64_t seed, uint32_t body_bytes);
/* Takes live for ndest destinations, and fills op. The fixture's extent of the lane is the message's. */
struct mqg_store_op fix_op_msg(struct fix *f, uint32_t lane, struct mqg_msg *m, const struct mqg_dest *dests,
                               uint32_t ndest);
struct mqg_store_op fix_op_settle(uint64_t queue_id, const struct mqg_range *ranges, uint32_t n);
/* One message to one destination, done; the message (the caller unrefs). */
struct mqg_msg *fix_put(struct fix *f, uint32_t lane, uint64_t queue_id, uint64_t qseq, uint64_t seed,
                        uint32_t body_bytes);
/* SETTLE of one qseq, done, and the extent's live given back. */
void fix_settle(struct fix *f, uint32_t lane, uint64_t queue_id, uint64_t qseq, struct mqg_extent *x);
/* Loads; every item must be there. The caller unrefs the messages. */
void fix_load(struct fix *f, uint32_t lane, struct mqg_load *items, uint32_t n);
bool fix_same(const struct mqg_msg *a, const struct mqg_msg *b); /* equal stored forms */
/* What recovery told of a queue's message, or NULL; how many of the queue. */
struct fix_msg *fix_found(struct fix *f, uint64_t queue_id, uint64_t qseq);
size_t fix_found_count(struct fix *f, uint64_t queue_id);
struct fix_meta *fix_found_meta(struct fix *f, const char *key);
/* Holds a found message against the one that was stored. */
void fix_found_same(struct fix *f, uint64_t queue_id, uint64_t qseq, const struct mqg_msg *m);

/* ---- streams ------------------------------------------------------------------------------------------------------- */

/* Defines a partition (STREAM_NEW); a new name per call. */
uint64_t fix_stream_new(struct fix *f);
/* Says the definition again to stores that keep none themselves, as the host does after a restart. */
void fix_stream_again(struct fix *f, uint64_t partition);
uint32_t fix_ready_count(struct fix *f, uint64_t partition);
bool fix_ready_reach(struct fix *f, uint64_t partition, uint32_t count); /* waits */
/* Reads and waits for the answer. The caller unrefs data. */
struct mqg_stream_read fix_read(struct fix *f, uint64_t partition, uint64_t offset, uint32_t max_bytes,
                                bool durable_only);
/* Ask and wait for the answer. */
enum mqg_err fix_time(struct fix *f, uint64_t partition, uint64_t time_ms, uint64_t *offset);
enum mqg_err fix_position(struct fix *f, const char *group, uint64_t partition, uint64_t *offset);
/* Waits for the high watermark. */
bool fix_high_reach(struct fix *f, uint64_t partition, uint64_t high);

/* ---- time ---------------------------------------------------------------------------------------------------------- */

uint64_t fix_now_ms(void);
void fix_pause(void); /* a step of polling: one millisecond */

/* The tests' tables, one per file; ended by a row without a name. */
struct suite_test {
    const char *name;
    uint32_t needs; /* capabilities */
    void (*run)(void **state);
    bool bare; /* makes its store itself */
};
extern const struct suite_test suite_life[], suite_queues[], suite_durable[], suite_streams[],
    suite_stream_life[], suite_threads[];

#endif
