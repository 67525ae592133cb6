/* memory.h - the memory store's inside: a bound on bytes, a pool of extents per lane, and the streams.
 *
 * Locks: an extent pool has its own, held for list work; all streams and positions share one. Neither is held while the
 * host is called, and never both together. */
#ifndef MEM_MEMORY_H
#define MEM_MEMORY_H

#include <mqgate/conf.h>
#include <mqgate/map.h>
#include <mqgate/store.h>

#include <pthread.h>

#define MEM_MAGIC 0x6d656d73u

/* The messages of one batch. In its lane's pool: in use, or in the list of those to use again. */
struct mem_extent {
    struct mqg_extent x; /* first: the host holds a pointer to it */
    struct mem_extent *next;
    uint32_t lane;
    struct mqg_msg **msgs; /* one reference each; a message's extent_off is its index */
    uint32_t n, cap;
    uint64_t bytes;
};

struct mem_lane {
    pthread_mutex_t lock;    /* below, and what extents of this lane hold */
    struct mem_extent *free; /* to use again */
    struct mem_extent **all; /* every extent made here, for fini */
    uint32_t nall;
    struct mqg_extent *current; /* the lane's thread: what the next batch fills */
} __attribute__((aligned(64)));

struct mem_streams; /* stream.c */

struct mqg_store {
    uint32_t magic;
    struct mqg_store_host host;
    uint32_t nlanes;
    struct mem_lane *lanes;
    struct mem_streams *streams;
    int64_t max_bytes; /* 0: no bound */
    _Atomic int64_t used_bytes;
    _Atomic bool blocked; /* pressure was told */
    _Atomic bool stopped; /* no callbacks from now on */
    _Atomic uint64_t stat_batches, stat_records, stat_extents;
};

extern const struct mqg_store_ops mem_ops;

/* ---- memory.c ------------------------------------------------------------------------------------------------------- */

/* Counts bytes that came (n > 0) or went, and tells pressure when a mark is passed. Any thread. */
void mem_charge(struct mqg_store *s, int64_t n);

/* ---- extent.c ------------------------------------------------------------------------------------------------------- */

void mem_lane_init(struct mem_lane *lane);
void mem_lane_fini(struct mem_lane *lane);
struct mqg_extent *mem_extent_open(struct mqg_store *s, uint32_t lane);
void mem_extent_dead(struct mqg_store *s, struct mqg_extent *x);
/* The batch's messages move into the lane's extent, which is then as durable as it will be. Lane's thread. */
void mem_extent_fill(struct mqg_store *s, uint32_t lane, const struct mqg_store_op *ops, size_t n);
void mem_load(struct mqg_store *s, struct mqg_load_req *req);

/* ---- stream.c ------------------------------------------------------------------------------------------------------- */

struct mem_streams *mem_streams_new(void);
void mem_streams_free(struct mem_streams **st);
/* Applies one batch's operations on streams and positions at once. */
void mem_streams_apply(struct mqg_store *s, const struct mqg_store_op *ops, size_t n);
enum mqg_err mem_stream_bounds(struct mqg_store *s, uint64_t partition, struct mqg_stream_bounds *out);
void mem_stream_read(struct mqg_store *s, struct mqg_stream_read *r);
void mem_stream_wait(struct mqg_store *s, uint64_t partition, uint64_t offset);
void mem_offset_for_time(struct mqg_store *s, struct mqg_time_req *req);
void mem_position_get(struct mqg_store *s, struct mqg_position_req *req);
enum mqg_err mem_stream_stats(struct mqg_store *s, uint64_t partition, struct mqg_stream_stats *out);

#endif
