/* routing/stream_int.h - the inside of a stream, shared by the stream*.c files, and what queues and publishing call.
 *
 * A stream hangs on a queue object of type stream: that gives it its name, its bindings, its consumers' list and its life.
 * Lock order: a partition's mutex is innermost. */
#ifndef MQG_ROUTING_STREAM_INT_H
#define MQG_ROUTING_STREAM_INT_H

#include <mqgate/stream.h>

#include <pthread.h>

#include "queue_int.h"

#define STREAM_MAGIC    0x5354524du
#define PARTITION_MAGIC 0x50415254u

#define STREAM_CHUNKS 15u /* 16,384 partitions */

#define STREAM_BATCH_MAX_BYTES ((size_t)MQG_MSG_BODY_MAX + (16u << 20)) /* one body with its headers */

/* A worker's part in waiting for a partition. The list is the worker's own; others only look whether it is armed. */
struct part_worker {
    struct mqg_partition *partition;
    struct mqg_partition_wait *waits;
    struct mqg_task task;
    _Atomic bool armed;  /* somebody waits, and has not been told */
    _Atomic bool posted; /* the task is on its way, and holds a reference */
};

struct mqg_partition {
    uint32_t magic;
    uint32_t index;
    uint64_t id;
    struct mqg_stream *stream;
    struct part_worker *workers; /* one per worker */
    pthread_mutex_t lock;
    /* under it */
    uint64_t next_offset;
    uint64_t asked; /* lowest offset that the store was asked to tell of; MQG_STREAM_NONE: nothing is asked */
    bool recovered; /* the store told of it */
    /* what it told of producers; not changed once workers run */
    struct mqg_producer_state *producers;
    uint32_t nproducers, cap_producers;
    _Atomic bool ended;
};

struct mqg_stream {
    uint32_t magic;
    _Atomic uint32_t npartitions; /* grows */
    struct mqg_queue *queue;      /* it holds us: no reference */
    struct mqg_storage *storage;
    struct mqg_stream_conf conf;     /* under the queue's mutex */
    _Atomic uint32_t bridge;         /* conf.bridge, for those who route */
    uint32_t ncursors;               /* of the router; under the queue's mutex */
    _Atomic uint32_t next_partition; /* for records without a key */
    struct mqg_partition
        *chunks[STREAM_CHUNKS]; /* of 1, 1, 2, 4, 8... partitions: none moves when more come */
};

static inline uint32_t stream_chunk_of(uint32_t index)
{
    return index == 0 ? 0 : 32u - (uint32_t)__builtin_clz(index);
}

static inline uint32_t stream_chunk_base(uint32_t chunk)
{
    return chunk == 0 ? 0 : 1u << (chunk - 1);
}

static inline struct mqg_partition *stream_at(const struct mqg_stream *s, uint32_t index)
{
    uint32_t chunk = stream_chunk_of(index);
    return &s->chunks[chunk][index - stream_chunk_base(chunk)];
}

/* ---- stream.c: called by queue.c and the definitions */
struct mqg_stream *stream_new(struct mqg_queue *q);
void stream_free(struct mqg_stream **s);
/* Deleted: appends and reads answer GONE, waiters are told. */
void stream_end(struct mqg_stream *s);
uint64_t stream_messages(struct mqg_stream *s);
/* More partitions (or as many), another configuration. Under the topology mutex; adds to the lane. */
void stream_change(struct mqg_stream *s, const struct queue_opts *opts);
/* By id, with a reference to its queue; NULL: none (any). */
struct mqg_partition *stream_partition_find(uint64_t id);

/* ---- stream_wait.c */
void partition_waits_init(struct mqg_partition *p);
void partition_waits_fini(struct mqg_partition *p);
/* The high watermark may have moved, or the partition ended: wakes the workers that wait (any). */
void partition_tell(struct mqg_partition *p);

/* ---- stream_put.c: called by publish.c */
uint64_t stream_put(struct publisher *p, struct queue_slot *slot);

/* ---- stream_router.c */
/* Cursors for the partitions that have none, where the stream leads somewhere: after its declaration, after that of the
 * exchange that fronts it, after more partitions came. recovered: their positions may have been kept. */
void stream_router_start(struct mqg_stream *s, bool recovered);
/* Without workers and stores. */
void stream_router_fini(void);

/* ---- stream_sub.c: called by queue_dispatch.c and queue_settle.c, on the subscription's worker */
/* What a subscription of a stream may ask for; RabbitMQ's refusals. */
enum mqg_err stream_sub_check(struct mqg_queue *q, const struct mqg_sub_def *d, struct mqg_error *e);
void stream_sub_start(struct mqg_sub *s);
void stream_sub_stop(struct mqg_sub *s);
bool stream_sub_deliver(struct mqg_sub *s);
void stream_sub_settle(struct mqg_sub *s, size_t n);

#endif
