/* mqgate/stream.h - streams: partitioned, offset-addressed logs that reading does not empty.
 *
 * A stream has a name (in the vhost's namespace of queues, so bindings lead to it as to a queue), a configuration, and
 * partitions. A partition is an order of record batches v2 (records.h) in its stream's store; offsets count records from 0 and
 * are given here, under the partition's own mutex, when a batch is appended. What AMQP calls a queue of type stream and Kafka
 * a topic are both this; a group is a name under which positions are kept.
 *
 * Durability: an append answers a **ticket** of the calling worker's lane (lanes.h). The high watermark is the end of what is
 * contiguous and durable; only what lies before it is read. So a reader never sees what a crash could take back.
 *
 * Waiting costs nothing: a waiter lies in a list of its worker until the store says that the high watermark passed somebody's
 * offset (stream_ready), which posts one task per worker and partition. Nobody polls.
 *
 * Threads: everything on a worker unless said. Objects live as long as a reference (mqg_stream_ref); a deleted stream answers
 * GONE. No call here waits for a disk or for another thread.
 *
 * For the Kafka wire protocol: produce = mqg_partition_append (verbatim, many partitions, one ticket per turn), fetch =
 * mqg_partition_read + mqg_partition_wait with a timer of the handler's, list offsets = mqg_partition_time, seek and bounds, delete
 * records = mqg_partition_trim, groups = mqg_group_*, leader epochs = mqg_stream_epoch (those of the past stand in the heads of
 * the batches and rise with the offsets, so the end of one is found by halving). A handler whose producers need an
 * order of their own (sequence numbers checked against what was appended) keeps that state under a mutex of its own around
 * check and append: this one is innermost. */
#ifndef MQGATE_STREAM_H
#define MQGATE_STREAM_H

#include <mqgate/broker.h>
#include <mqgate/lanes.h>
#include <mqgate/records.h>

struct mqg_stream;
struct mqg_partition;

#define MQG_STREAM_PARTITIONS_MAX 10000u
#define MQG_STREAM_NONE           UINT64_MAX

/* ---- crossing ---------------------------------------------------------------------------------------------------------- */

/* Whether a stream is an address of amq.topic, too (DESIGN, R2); argument x-mqgate-bridge. In: what is published to amq.topic with
 * the stream's name as key is appended, for publishers who may write to both. Out: what its own protocol appends is published
 * to amq.topic under its name. An exchange of the stream's name declared with x-stream fronts it (R3): both ways, through the
 * exchange's bindings. */
enum mqg_stream_bridge {
    MQG_BRIDGE_IN = 1,
    MQG_BRIDGE_OUT = 2,
};

/* A handler with transactions says which records may be read by others. Set at load, called on any worker. NULL: all may. */
struct mqg_stream_txns {
    uint64_t (*stable)(
        struct mqg_partition *p); /* the first offset that is not decided yet, or beyond the end */
    /* Of a decided transaction: was it given up? For a batch's producer and base offset. */
    bool (*aborted)(struct mqg_partition *p, int64_t producer_id, uint64_t base_offset);
};
MQG_API void mqg_stream_txns_set(const struct mqg_stream_txns *txns);

/* ---- streams ----------------------------------------------------------------------------------------------------------- */

/* Declares the stream `name` as queue.declare with x-queue-type=stream does (which it is): rights, refusals, bindings, records
 * in the metadata. An existing stream with the same configuration is OK, another one MISMATCH, a queue of that name MISMATCH.
 * What c leaves 0 is the store's choice; retention takes whole files at the front, never what is newest. retention_bytes is x-max-length-bytes, per partition.
 * partitions: 1 to MQG_STREAM_PARTITIONS_MAX. */
MQG_API enum mqg_err mqg_stream_declare(struct mqg_session *s, struct mqg_slice name, uint32_t partitions,
                                        const struct mqg_stream_conf *c, uint64_t *ticket,
                                        struct mqg_error *e) MQG_MUST_CHECK;
/* More partitions (0: as many as there are; fewer: INVALID), another configuration (NULL: as it is; what c leaves 0 becomes the
 * store's choice, but for the bridge, which stays). NOT_FOUND, MISMATCH. The reference on a partition taken before stays good. */
MQG_API enum mqg_err mqg_stream_alter(struct mqg_session *s, struct mqg_slice name, uint32_t partitions,
                                      const struct mqg_stream_conf *c, uint64_t *ticket,
                                      struct mqg_error *e) MQG_MUST_CHECK;
/* Finds and takes a reference; NOT_FOUND as queues, MISMATCH when the name is a queue's. Rights are the caller's to check. */
MQG_API enum mqg_err mqg_stream_open(struct mqg_session *s, struct mqg_slice name, struct mqg_stream **out,
                                     struct mqg_error *e) MQG_MUST_CHECK;
/* The stream behind a queue of that type; NULL for any other. Borrowed. (any) */
MQG_API struct mqg_stream *mqg_queue_stream(const struct mqg_queue *q);
MQG_API struct mqg_queue *mqg_stream_queue(const struct mqg_stream *s);
MQG_API struct mqg_stream *mqg_stream_ref(struct mqg_stream *s);
MQG_API void mqg_stream_unref(struct mqg_stream **s);
/* Facts (any). */
MQG_API struct mqg_slice mqg_stream_name(const struct mqg_stream *s);
MQG_API uint32_t mqg_stream_partitions(const struct mqg_stream *s);
/* Borrowed from the stream; NULL beyond the last. */
MQG_API struct mqg_partition *mqg_stream_partition(const struct mqg_stream *s, uint32_t index);
MQG_API struct mqg_stream_conf mqg_stream_conf(const struct mqg_stream *s);
MQG_API struct mqg_storage *mqg_stream_storage(const struct mqg_stream *s);
/* The leader epoch of this start: higher than any before. Stands in every batch appended since. */
MQG_API int32_t mqg_stream_epoch(void);

/* ---- partitions ---------------------------------------------------------------------------------------------------------- */

MQG_API struct mqg_stream *mqg_partition_stream(const struct mqg_partition *p);
MQG_API uint64_t mqg_partition_id(const struct mqg_partition *p); /* 64 bit, never used again */
MQG_API uint32_t mqg_partition_index(const struct mqg_partition *p);
/* By its id, with a reference to its stream (mqg_stream_unref); NULL: there is none, or no more. (any) */
MQG_API struct mqg_partition *mqg_partition_find(uint64_t id);
/* (any) GONE when the stream was deleted. log_end counts what was appended and is not durable yet. */
MQG_API enum mqg_err mqg_partition_bounds(struct mqg_partition *p,
                                          struct mqg_stream_bounds *out) MQG_MUST_CHECK;

/* One whole batch. Its head (MQG_BATCH_PATCH_BYTES at least) lies in the first piece of the rope; base offset and leader epoch
 * are written by the append into a copy. The batch was checked by the caller (mqg_batch_read, its sum). */
struct mqg_append {
    const struct mqg_slice *rope;
    uint32_t nrope;       /* at most 15 */
    uint32_t count;       /* offsets it takes: last_delta + 1 */
    uint64_t max_time_ms; /* of its records */
    /* an idempotent producer's state, recorded with the batch; producer_id -1: none */
    int64_t producer_id;
    int16_t producer_epoch;
    int32_t base_sequence, last_sequence;
    /* out */
    uint64_t base_offset;
    uint64_t ticket; /* of mqg_stream_storage: mqg_lane_wait for durable */
};
/* Gives the offset, hands the batch to the lane; the rope may go after the return. `urgent`: somebody waits for it. GONE. */
MQG_API enum mqg_err mqg_partition_append(struct mqg_partition *p, struct mqg_append *a,
                                          bool urgent) MQG_MUST_CHECK;

/* Where to begin; a time is asked for by mqg_partition_time. */
enum mqg_seek {
    MQG_SEEK_FIRST,  /* log start */
    MQG_SEEK_LAST,   /* the newest record that is readable; log start when empty */
    MQG_SEEK_NEXT,   /* the high watermark: what comes from now on */
    MQG_SEEK_OFFSET, /* arg, moved into the log: its start, or the high watermark, where it lies outside */
};
MQG_API enum mqg_err mqg_partition_seek(struct mqg_partition *p, enum mqg_seek how, uint64_t arg,
                                        uint64_t *offset) MQG_MUST_CHECK;

/* What a question to the store needs to come home to the worker that asked. */
struct mqg_reply {
    struct mqg_partition *partition;
    struct mqg_worker *worker;
    struct mqg_task task;
    _Atomic int state;
};

/* Questions are embedded in their owner, who keeps them until they are answered. Asking answers true when the answer is there
 * at once, and `done` is then not called; else `done` comes on the worker that asked. */

/* The first offset of the batch that holds the first record of that time or later; the high watermark when there is none. */
struct mqg_partition_time {
    uint64_t time_ms;
    void (*done)(struct mqg_partition_time *t);
    /* out */
    enum mqg_err err; /* GONE, IO... */
    uint64_t offset;
    /* routing's until answered */
    struct mqg_reply reply;
    struct mqg_time_req store;
};
MQG_API bool mqg_partition_time(struct mqg_partition *p, struct mqg_partition_time *t) MQG_MUST_CHECK;

/* One read. */
struct mqg_partition_read {
    uint64_t offset;    /* first wanted; the batch that holds it comes whole */
    uint32_t max_bytes; /* at least one batch comes, whatever its size */
    /* out */
    enum mqg_err err; /* NOT_FOUND: before log start or beyond the end; GONE; IO, CORRUPT */
    /* Whole batches as stored, counted and shared with other readers: never written to; the caller unrefs. NULL: none yet, or,
     * with next_offset > offset, nothing left there. */
    struct mqg_buf *data;
    uint64_t next_offset; /* behind data */
    uint64_t high_watermark, log_start;
    void (*done)(struct mqg_partition_read *r);
    /* routing's until answered */
    struct mqg_reply reply;
    struct mqg_stream_read store;
};
MQG_API bool mqg_partition_read(struct mqg_partition *p, struct mqg_partition_read *r) MQG_MUST_CHECK;

/* Waiting for more. Embedded; fires once, on the worker that waits: OK when the high watermark passed `offset`, GONE when the
 * stream was deleted. Never from inside mqg_partition_wait. */
struct mqg_partition_wait {
    void (*fire)(struct mqg_partition_wait *w, enum mqg_err err);
    /* routing's until fired or taken back */
    struct mqg_partition *partition; /* NULL: waits for nothing */
    uint64_t offset;
    struct mqg_partition_wait *next, **prev;
};
MQG_API void mqg_partition_wait(struct mqg_partition *p, struct mqg_partition_wait *w, uint64_t offset);
MQG_API void mqg_partition_unwait(struct mqg_partition_wait *w); /* also when it does not wait */

/* What the store kept of idempotent producers, as it was when the node started: the last words per producer (one at least, five at
 * most), by rising offset. For a handler that builds its own state from it, once. Return false to stop. (any) */
struct mqg_producer_state {
    uint64_t producer_id;
    int16_t epoch;
    int32_t base_sequence, last_sequence;
    uint64_t offset; /* of the batch that had them */
};
MQG_API void mqg_partition_producers(struct mqg_partition *p,
                                     bool (*visit)(void *arg, const struct mqg_producer_state *state),
                                     void *arg);

/* Records before start_offset go (as far as the high watermark). The ticket to wait for. */
MQG_API uint64_t mqg_partition_trim(struct mqg_partition *p, uint64_t start_offset);

/* ---- groups ---------------------------------------------------------------------------------------------------------------- */

/* Positions of a group by name, kept by the partition's store. The ticket to wait for. */
MQG_API uint64_t mqg_group_commit(struct mqg_partition *p, struct mqg_slice group, uint64_t offset,
                                  struct mqg_slice metadata);
/* MQG_OFFSET_NONE as offset forgets. Reading it back: */
struct mqg_group_position {
    struct mqg_slice group; /* the owner's until answered */
    void (*done)(struct mqg_group_position *g);
    /* out */
    enum mqg_err err; /* NOT_FOUND: none; UNSUPPORTED: the store keeps none */
    uint64_t offset;
    /* routing's until answered */
    struct mqg_reply reply;
    struct mqg_position_req store;
};
MQG_API bool mqg_group_position(struct mqg_partition *p, struct mqg_group_position *g) MQG_MUST_CHECK;

/* A position as recovery tells it: the last word per group and partition of a stream that is there. The slices are valid
 * during the call. */
struct mqg_group_found {
    struct mqg_vhost *vhost;
    struct mqg_stream *stream;
    uint32_t index;
    struct mqg_partition *partition;
    struct mqg_slice group, metadata;
    uint64_t offset;
};
/* In load(), before recovery: who keeps all positions in memory (a group coordinator) is told each, on the main thread, after
 * all streams and before workers run. One reader. Stores that keep positions elsewhere tell none. */
MQG_API void mqg_group_on_recover(void (*fn)(const struct mqg_group_found *f));

/* ---- host ------------------------------------------------------------------------------------------------------------------ */

/* Recovery tells a partition's bounds, after the metadata. Main thread. */
MQG_API void mqg_routing_recover_stream(uint64_t partition, const struct mqg_stream_bounds *b);
/* After it, in any order. */
MQG_API void mqg_routing_recover_producer(uint64_t partition, const struct mqg_producer_state *state);
MQG_API void mqg_routing_recover_position(struct mqg_slice group, uint64_t partition, uint64_t offset,
                                          struct mqg_slice metadata);
/* struct mqg_store_host.stream_ready (any). */
MQG_API void mqg_routing_stream_ready(uint64_t partition);

#endif
