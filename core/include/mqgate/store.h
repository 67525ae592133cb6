/* mqgate/store.h - the storage table: what an adapter offers, and what the host gives it.
 *
 * One call and one completion per worker (lane), store and loop turn, never per message. Rules:
 *  - submit() never blocks and never fails one by one: a batch is accepted whole or answers MQG_AGAIN (pressure; the host
 *    keeps it and slows publishers). Everything of one batch that lies between GROUP_BEGIN and GROUP_END is atomic; an
 *    adapter may make a whole batch atomic. Batches of one lane take effect in submit order.
 *  - done(lane, ticket) says that all batches of the lane up to and including `ticket` are as durable as the adapter
 *    promises. Tickets are the host's: 1, 2, 3... per lane. A store that fails says so by failed(): no done after it.
 *  - Queue order is qseq order, never the order of records; a SETTLE may reach the store before its MSG (another lane).
 *  - What an adapter does not declare in `caps` the host never asks for; its functions may then be NULL.
 * Callbacks to the host come on any thread of the adapter and are cheap; they never call back into the adapter.
 *
 * Places. Durable messages live in **extents**: one per lane and batch. A message points to its extent from before it is
 * visible to anybody; the store fills extent->place once, when the batch is durable (one update per batch, not per
 * message). extent->live counts unsettled destinations, plus one held by the store until the batch is durable; whoever
 * brings it to zero calls ops->extent_dead. */
#ifndef MQGATE_STORE_H
#define MQGATE_STORE_H

#include <mqgate/base.h>
#include <mqgate/module.h>
#include <mqgate/msg.h>

struct mqg_store; /* adapter's own, opaque to the host */
struct mqg_conf;  /* conf.h */

enum mqg_store_cap {
    MQG_STORE_DURABLE = 1u << 0,   /* done() means: survives kill -9 and power loss (flush=sync) */
    MQG_STORE_QUEUES = 1u << 1,    /* MSG, SETTLE, COUNT, load */
    MQG_STORE_STREAMS = 1u << 2,   /* APPEND, stream_* */
    MQG_STORE_SEEK = 1u << 3,      /* streams are read from any offset */
    MQG_STORE_TRIM = 1u << 4,      /* streams can be cut at the front */
    MQG_STORE_POSITIONS = 1u << 5, /* keeps group positions itself (else they are META) */
    MQG_STORE_META = 1u << 6,
    MQG_STORE_ATOMIC_GROUPS = 1u << 7,
    MQG_STORE_NATIVE_QUEUE = 1u << 8, /* queues live in the engine: queue_consume, credit, get */
    MQG_STORE_PUSH = 1u << 9,
    MQG_STORE_REMOTE = 1u << 10,  /* may be away; submit may answer AGAIN for long */
    MQG_STORE_INDEX = 1u << 11,   /* index_forget, index_read: entries of a queue's index may be forgotten */
    MQG_STORE_SCRATCH = 1u << 12, /* scratch_put: transient messages may be put aside while memory is short */
};

/* ---- extents ------------------------------------------------------------------------------------------------------ */

#define MQG_PLACE_NONE UINT64_MAX

struct mqg_extent {
    _Atomic int64_t live;
    _Atomic uint64_t
        place; /* MQG_PLACE_NONE until durable; then the adapter's position of the extent's first byte */
    const struct mqg_store_ops *ops;
    struct mqg_store *store;
    void *owner; /* the adapter's: segment... */
};

static inline void mqg_extent_take(struct mqg_extent *x, int64_t n)
{
    atomic_fetch_add_explicit(&x->live, n, memory_order_relaxed);
}

MQG_API void mqg_extent_give(struct mqg_extent *x, int64_t n); /* calls ops->extent_dead at zero */

/* ---- batches ------------------------------------------------------------------------------------------------------ */

enum mqg_store_op_kind {
    MQG_OP_MSG = 1,
    MQG_OP_SETTLE,
    MQG_OP_COUNT,
    MQG_OP_META,
    MQG_OP_APPEND,
    MQG_OP_TRIM,
    MQG_OP_STREAM_NEW,
    MQG_OP_STREAM_DELETE,
    MQG_OP_POSITION,
    MQG_OP_PRODUCER,
    MQG_OP_GROUP_BEGIN,
    MQG_OP_GROUP_END,
    MQG_OP_STREAM_CONF,
};

/* POSITION, PRODUCER with this offset: forget it. */
#define MQG_OFFSET_NONE UINT64_MAX

enum mqg_stream_cleanup {
    MQG_CLEANUP_DELETE = 1u << 0,  /* what is over a bound of time or bytes goes */
    MQG_CLEANUP_COMPACT = 1u << 1, /* of each key the last record stays */
};

/* How a partition is kept. What an adapter cannot do it leaves undone (never more is deleted than is said here). A field of 0
 * means the adapter's default, which for both retentions is: for ever. */
struct mqg_stream_conf {
    uint32_t cleanup;                       /* enum mqg_stream_cleanup; 0 = DELETE */
    uint64_t retention_ms, retention_bytes; /* DELETE; by the latest time in a file, by bytes of all files */
    uint64_t segment_bytes, segment_ms;     /* a file ends at this size, or this long after its first batch */
    uint64_t compact_lag_min_ms,
        compact_lag_max_ms; /* COMPACT: not younger than min; not left longer than max */
    uint64_t tombstone_ms;  /* COMPACT: how long a record without a value stays */
    uint32_t bridge;        /* enum mqg_stream_bridge (stream.h): routing's, no store's */
};

struct mqg_dest {
    uint64_t queue_id; /* incarnation: 64 bit, never used again */
    uint64_t qseq;
};

struct mqg_range {
    uint64_t first, last; /* inclusive */
};

/* Bytes of a rope from which on it stays valid until its submission is done: what is shorter is cheaper to copy. */
enum { MQG_ROPE_HELD = 8 << 10 };

struct mqg_store_op {
    enum mqg_store_op_kind kind;
    union {
        struct {
            struct mqg_msg *msg;
            const struct mqg_dest *dests;
            uint32_t ndest;
        } msg; /* msg->extent is the lane's */
        struct {
            uint64_t queue_id;
            const struct mqg_range *ranges;
            uint32_t n;
        } settle;
        struct {
            uint64_t queue_id;
            uint64_t qseq;
            uint32_t delivery_count;
            uint32_t acquired_count;
        } count;
        struct {
            struct mqg_slice key, value;
            bool remove;
        } meta; /* last writer wins per key */
        struct {
            uint64_t partition;
            uint64_t base_offset;
            uint32_t count;
            uint64_t max_time_ms;
            const struct mqg_slice *rope;
            uint32_t nrope;
        } append; /* record batches v2, verbatim */
        struct {
            uint64_t partition;
            uint64_t start_offset;
        } trim;
        struct {
            uint64_t partition;
            struct mqg_slice name;
            int32_t index;
        } stream; /* name: remote engines' topic */
        struct {
            struct mqg_slice group;
            uint64_t partition;
            uint64_t offset; /* MQG_OFFSET_NONE: forgotten */
            struct mqg_slice metadata;
        } position;
        struct {
            uint64_t partition;
            uint64_t producer_id;
            int16_t epoch;
            int32_t base_seq, last_seq;
            uint64_t offset; /* MQG_OFFSET_NONE: forgotten */
        } producer;          /* last writer wins per partition and producer */
        struct {
            uint64_t partition;
            const struct mqg_stream_conf *conf;
        } stream_conf; /* last writer wins; a partition without one is never cleaned */
    };
};

enum mqg_submit_flag {
    MQG_SUBMIT_URGENT =
        1u << 0, /* somebody waits; without it the adapter may let the batch ride up to 100 ms */
    /* Holds a definition, whose snapshot others will see right after: a local store takes it however much is queued, since a
     * message for the new queue may reach it from another lane next, and must find the definition before it in the log. */
    MQG_SUBMIT_CONTROL = 1u << 1,
};

/* ---- loading bodies and reading streams ------------------------------------------------------------------------------ */

/* One message to bring back from its place. Caller's memory until `loaded`. */
struct mqg_load {
    struct mqg_extent *extent;
    uint32_t off, len;
    struct mqg_msg *msg; /* out: refs = 1, or NULL with err */
    enum mqg_err err;
};

struct mqg_load_req {
    struct mqg_load *items;
    uint32_t n;
    uint32_t lane;
    void (*done)(struct mqg_load_req *req); /* host: called on any thread, hands the request to its lane */
    void *arg;
    struct mqg_load_req *next; /* adapter's while it has it */
};

/* ---- forgetting parts of a queue's index -------------------------------------------------------------------------------
 *
 * A long queue keeps entries in memory for its head and its tail only. What lies between is a **span**: first and last qseq,
 * how many, how many bytes. Its entries are the store's to remember: it knows which qseqs of a queue stand in which segment and
 * which of them were handed over to it (forgotten) and not yet asked back. The live count of a forgotten entry moves from the
 * extent of its batch to one that stands for the whole segment; an entry read back names that one, and is settled as any
 * other. So a backlog costs memory per span, at run time and after a restart, where recovery tells spans at once. */

/* An entry as an index needs it. */
struct mqg_index_entry {
    uint64_t qseq;
    struct mqg_extent *extent; /* counted: settling it gives it */
    uint32_t off, len;         /* of the stored form in the extent */
    uint32_t body_bytes;
    uint8_t flags; /* enum mqg_msg_flag */
    uint8_t priority;
    uint64_t append_us, ttl_ms; /* ttl_ms with HAS_TTL only */
};

/* Asks for the forgotten entries of a queue with first <= qseq <= last, lowest first, at most max. Caller's memory until
 * `done`. What comes back is no longer forgotten. */
struct mqg_index_req {
    uint64_t queue_id, first, last;
    struct mqg_index_entry *entries;
    uint32_t max;
    uint32_t lane;
    /* out */
    uint32_t n;       /* fewer than max: these were all in [first, last] */
    enum mqg_err err; /* CORRUPT, IO: what could not be read stays forgotten, and on the disk */
    void (*done)(struct mqg_index_req *req); /* host: any thread, may come before the call returns */
    void *arg;
    struct mqg_index_req *next; /* adapter's while it has it */
};

/* ---- putting transient messages aside ---------------------------------------------------------------------------------- */

/* Messages to write to scratch space, without any promise: gone after a stop. Caller's memory until `done`; the adapter fills
 * extent and off for each that it took (a counted live, place set), the caller then lets go of the message and may `load` it
 * back. len is msg->total_len. */
struct mqg_scratch_item {
    struct mqg_msg *msg;       /* the caller's reference stays the caller's */
    struct mqg_extent *extent; /* out; NULL: not taken (no room, error) */
    uint32_t off;              /* out */
};
struct mqg_scratch_req {
    struct mqg_scratch_item *items;
    uint32_t n;
    uint32_t lane;
    void (*done)(struct mqg_scratch_req *req); /* host: any thread */
    void *arg;
    struct mqg_scratch_req *next; /* adapter's while it has it */
};

struct mqg_stream_read {
    uint64_t partition;
    uint64_t offset;    /* first wanted; the batch that holds it comes whole */
    uint32_t max_bytes; /* at least one batch comes, whatever its size */
    bool durable_only;  /* up to the high watermark */
    uint32_t lane;
    /* out */
    enum mqg_err err; /* NOT_FOUND: before start or beyond end */
    struct mqg_buf
        *data; /* whole batches, verbatim; caller unrefs, and never writes: it may be shared. NULL: nothing
                           * there yet, or, with next_offset > offset, nothing left there (compaction) */
    uint64_t next_offset;
    uint64_t high_watermark, log_start;
    void (*done)(struct mqg_stream_read *r);
    void *arg;
    struct mqg_stream_read *next;
};

/* Which offset has the first record with a time >= time_ms? Exact to the batch: the first offset of the batch that holds it (the
 * adapter does not look inside); the high watermark when there is none. Caller's memory until `done`. */
struct mqg_time_req {
    uint64_t partition;
    uint64_t time_ms;
    uint32_t lane;
    /* out */
    enum mqg_err err; /* NOT_FOUND: no such partition */
    uint64_t offset;
    void (*done)(struct mqg_time_req *req); /* host: any thread, may come before the call returns */
    void *arg;
    struct mqg_time_req *next; /* adapter's while it has it */
};

/* Where does a group stand? Caller's memory, the group's name included, until `done`. */
struct mqg_position_req {
    struct mqg_slice group;
    uint64_t partition;
    uint32_t lane;
    /* out */
    enum mqg_err err; /* NOT_FOUND: none */
    uint64_t offset;
    void (*done)(struct mqg_position_req *req); /* host: any thread, may come before the call returns */
    void *arg;
    struct mqg_position_req *next; /* adapter's while it has it */
};

struct mqg_stream_bounds {
    uint64_t log_start, high_watermark, log_end; /* high watermark: contiguous and durable */
};

/* Of one partition, for listings. */
struct mqg_stream_stats {
    struct mqg_stream_bounds bounds;
    uint64_t bytes, segments; /* on the disk, or in memory; segments: files */
};

/* ---- what the host gives the adapter ---------------------------------------------------------------------------------- */

struct mqg_store_host {
    /* All batches of the lane up to `ticket` are durable. Any thread; wakes the lane's worker if it sleeps. */
    void (*done)(void *host, uint32_t lane, uint64_t ticket);
    /* The store cannot go on (fsync error...). The host stops confirms, logs, and ends the process non-zero. */
    void (*failed)(void *host, enum mqg_err err, const char *text);
    /* true: publishers are to be blocked (disk watermark) / may go on. */
    void (*pressure)(void *host, bool blocked, const char *why);
    /* The partition's high watermark moved past an offset somebody waits for. */
    void (*stream_ready)(void *host, uint64_t partition);
    /* Checkpoint hook: the live qseq ranges of a queue as of now; every qseq <= *upto not in them is settled **in memory**. A
     * settle that belongs to a group may not be durable yet, so an adapter must not write this down as settled before the
     * batches submitted so far are durable. Called on an adapter thread, without its locks. Returns the number of ranges,
     * filling at most max (call again with more room). The journal restates settles from its own records instead. */
    size_t (*queue_live)(void *host, uint64_t queue_id, struct mqg_range *ranges, size_t max, uint64_t *upto);
    void *host;
};

/* What recovery tells, before workers start, in this order: metadata (final value per key), then per queue its messages in
 * qseq order, then streams. Of a message's `head` only proto, flags, priority, key_sep, append_us, ttl_ms and body_len are
 * set; extent->live has counted it already. Long recovery calls progress about once a second. */
struct mqg_recover {
    void (*meta)(void *arg, struct mqg_slice key, struct mqg_slice value);
    void (*meta_end)(
        void *
            arg); /* definitions may be built now; queues unknown then are dropped by returning false below */
    /* The adapter has already counted this message in extent->live; on false it takes that back. The head holds what an
     * index needs (proto, flags, priority, key_sep, append_us, ttl_ms, body_len); other lengths, id and create_us may be 0. */
    bool (*message)(void *arg, uint64_t queue_id, uint64_t qseq, struct mqg_extent *extent, uint32_t off,
                    uint32_t len, const struct mqg_stored *head, uint32_t delivery_count,
                    uint32_t acquired_count);
    /* INDEX: instead of `message`, for what the adapter holds as forgotten from the start: `count` live entries of the queue
     * between first and last, `body_bytes` in all. Spans of one queue come in ascending order; they never overlap each other, nor
     * the messages told one by one, which may lie between them. Counted in extents already, as messages are; on false they
     * are taken back. NULL: the host wants every message told. */
    bool (*span)(void *arg, uint64_t queue_id, uint64_t first, uint64_t last, uint64_t count,
                 uint64_t body_bytes);
    /* Is the queue one whose entries may be told as spans? Asked once per queue, after meta_end. NULL: none. */
    bool (*spans_wanted)(void *arg, uint64_t queue_id);
    void (*stream)(void *arg, uint64_t partition, const struct mqg_stream_bounds *b);
    void (*progress)(void *arg, uint64_t done_bytes, uint64_t all_bytes);
    bool unclean; /* out: the last stop was not clean: recovered messages count as redelivered */
    void *arg;
    /* After all streams, in any order: the last word per group and partition, per producer and partition. Not of partitions that
     * were deleted. Of a producer up to four words before the last may be told too: by rising offset, one after the other. What
     * says something of a batch that was appended in the same batch of operations and is lost, is lost with it. May be NULL. */
    void (*position)(void *arg, struct mqg_slice group, uint64_t partition, uint64_t offset,
                     struct mqg_slice metadata);
    void (*producer)(void *arg, uint64_t partition, uint64_t producer_id, int16_t epoch, int32_t base_seq,
                     int32_t last_seq, uint64_t offset);
};

struct mqg_store_stats {
    uint64_t disk_bytes, live_bytes, segments, live_extents;
    uint64_t commits, synced_bytes, records;
    uint64_t last_sync_us;
    const char *state;                    /* "ok", "failed", "blocked", "recovering" */
    uint64_t moved_bytes, moved_messages; /* by evacuation, since the start */
};

/* A file of the store, as its operator sees it. live_bytes and live_messages are estimates, some 100 ms old. */
struct mqg_store_segment {
    uint64_t sequence;
    const char *state; /* static text: "tail", "closed", "cold", "cold_tail", "leaving" */
    bool cold;         /* holds what evacuation moved; numbered apart */
    uint64_t disk_bytes, used_bytes, live_bytes, live_messages;
    uint32_t queues; /* that have messages in it, live or not */
};
typedef void (*mqg_store_segment_fn)(void *arg, const struct mqg_store_segment *segment);

/* What one queue keeps on the disk. A message that stands in several queues counts for each with its share. */
struct mqg_store_usage {
    uint64_t bytes, messages, segments;
};

/* ---- the table ------------------------------------------------------------------------------------------------------------ */

#define MQG_STORE_ABI_MAJOR 1
#define MQG_STORE_ABI_MINOR 1

/* Appending a function is a minor change; required ones are marked (r). Threads: (any), (lane) = the worker that owns the
 * lane, (main) = the main thread before workers start or after they have stopped. */
struct mqg_store_ops {
    const char *type; /* "journal": [store.NAME] type=journal */
    uint32_t caps;    /* most it can do; caps() narrows it per configuration */
    /* (r)(main) Reads its section; makes the store; does no I/O beyond taking the folder's lock. nlanes is fixed. */
    enum mqg_err (*open)(struct mqg_store **out, const struct mqg_store_host *host,
                         const struct mqg_conf *conf, const char *section, uint32_t nlanes,
                         struct mqg_error *e);
    uint32_t (*caps_of)(const struct mqg_store *s); /* (any) */
    /* (r)(main) Reads what is there; blocks. */
    enum mqg_err (*recover)(struct mqg_store *s, struct mqg_recover *r, struct mqg_error *e);
    /* (r)(main) Starts threads; from now on submit is legal. */
    enum mqg_err (*start)(struct mqg_store *s, struct mqg_error *e);
    /* QUEUES (lane): the extent that the lane's next batch will fill. Same pointer until the next submit. */
    struct mqg_extent *(*extent_open)(struct mqg_store *s, uint32_t lane);
    /* QUEUES (any): live reached zero; the adapter frees or recycles. */
    void (*extent_dead)(struct mqg_store *s, struct mqg_extent *x);
    /* (r)(lane) ops and what they point to stay the caller's and are not touched after the return, but for msg (the adapter
     * takes references it needs) and ropes of MQG_ROPE_HELD bytes and more, which stay valid until done. */
    enum mqg_err (*submit)(struct mqg_store *s, uint32_t lane, const struct mqg_store_op *ops, size_t n,
                           uint64_t ticket, unsigned flags);
    /* QUEUES (lane): answers by req->done, also when all was in memory. */
    void (*load)(struct mqg_store *s, struct mqg_load_req *req);
    /* STREAMS */
    enum mqg_err (*stream_bounds)(struct mqg_store *s, uint64_t partition,
                                  struct mqg_stream_bounds *out);        /* (any) */
    void (*stream_read)(struct mqg_store *s, struct mqg_stream_read *r); /* (lane) */
    /* (any) Asks for one stream_ready when the high watermark is beyond `offset`; at once when it already is. */
    void (*stream_wait)(struct mqg_store *s, uint64_t partition, uint64_t offset);
    /* (any) Both answer by req->done: an engine may be far away, and a worker must not wait for it. */
    void (*offset_for_time)(struct mqg_store *s, struct mqg_time_req *req);
    void (*position_get)(struct mqg_store *s, struct mqg_position_req *req); /* POSITIONS */
    /* NATIVE_QUEUE: behind a proxy queue; see docs/decisions. */
    enum mqg_err (*queue_consume)(struct mqg_store *s, uint64_t queue_id, struct mqg_slice name,
                                  uint32_t lane, void *sub);
    enum mqg_err (*queue_credit)(struct mqg_store *s, void *sub, uint32_t credit);
    enum mqg_err (*queue_get)(struct mqg_store *s, uint64_t queue_id, struct mqg_load_req *req);
    void (*stats)(struct mqg_store *s, struct mqg_store_stats *out); /* (r)(any) */
    /* close: no new work, flush what is there, seal (blocks, main). stop: end threads. fini: free. Each once, in order;
     * stop and fini also after a failed open's successful part or without close (a crash test). */
    void (*close)(struct mqg_store *s);        /* (r) */
    void (*stop)(struct mqg_store *s);         /* (r) */
    void (*fini)(struct mqg_store **s);        /* (r) */
    void (*dump)(struct mqg_store *s, int fd); /* (any, in a crash: no locks, no malloc) */
    /* INDEX (any): hands over entries of a queue, qseq ascending, all durable. Takes no lock and reads no disk (it may be
     * called under the queue's lock). Answers how many of the first n it took: those that lie in a segment it can read an index of;
     * for them the caller's live count has moved to the adapter. 0 when the first one cannot be taken now. */
    size_t (*index_forget)(struct mqg_store *s, uint64_t queue_id, const struct mqg_index_entry *entries,
                           size_t n);
    /* INDEX (any): answers by req->done. A forgotten entry may be settled before it is asked back (a purge settles a whole
     * span): it is answered all the same, for its count. */
    void (*index_read)(struct mqg_store *s, struct mqg_index_req *req);
    /* SCRATCH (lane): answers by req->done. */
    void (*scratch_put)(struct mqg_store *s, struct mqg_scratch_req *req);
    /* STREAMS (any): at once, from memory. NULL: bounds are all there is. */
    enum mqg_err (*stream_stats)(struct mqg_store *s, uint64_t partition, struct mqg_stream_stats *out);
    /* (any) Calls fn for every file that counts, without a lock held; may allocate. NULL: the store has none to show. */
    void (*segments)(struct mqg_store *s, mqg_store_segment_fn fn, void *arg);
    /* (any) What the queue keeps on the disk; false: nothing. NULL: not known. */
    bool (*queue_usage)(struct mqg_store *s, uint64_t queue_id, struct mqg_store_usage *out);
};

#endif
