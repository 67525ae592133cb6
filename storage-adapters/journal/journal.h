/* journal.h - the store's inside: who owns what, and which thread may touch it.
 *
 *   workers (lanes)      committer (one thread)        keeper (one thread)         readers (two threads)
 *   frame into chunks -> inbox (lock-free) ->          prepares the spare,         answer loads and stream
 *   chunks come back  <- write, sync, tell             recycles, watches the disk  reads that are not in memory
 *
 * The tail segment, the numbers of frames and the order of records belong to the committer alone. The lists
 * of segments are under `seg_lock`, keyed records (last writer wins) under `key_lock`, streams under
 * `stream_lock`; locks are held for list work only, never around I/O, and never two of them together. */
#ifndef JRN_JOURNAL_H
#define JRN_JOURNAL_H

#include "chunk.h"
#include "fs.h"
#include "map.h"
#include "set.h"

#include <mqgate/conf.h>
#include <mqgate/obs.h>
#include <mqgate/store.h>
#include <mqgate/wait.h>

#include <pthread.h>

#define JRN_MAGIC 0x4a524e4cu

enum jrn_seg_state {
    JRN_SPARE,
    JRN_TAIL,
    JRN_CLOSED,
    JRN_LEAVING, /* the keeper moves what still counts out of it */
    JRN_FREED,   /* its FREE record is written */
    JRN_COLD,    /* being filled with what evacuation moves */
};

/* Spans by queue. */
struct jrn_spans {
    struct jrn_map at; /* queue -> index of list */
    struct jrn_span_list list;
};

struct jrn_seg {
    struct jrn_seg *next; /* by sequence, or in the list of spares */
    struct jrn_use use;
    uint64_t seq, bytes, first_number, last_number;
    _Atomic uint64_t end; /* of use; the committer writes it */
    int fd;
    uint16_t version;      /* of the format, by its header */
    bool makeshift;        /* made in a hurry: allocated, not zeroed */
    bool oversized, keyed; /* keyed: holds last-writer-wins records */
    bool trims;            /* among them some of which not only the last counts */
    uint64_t again_us;     /* keeper: not before this time */
    char name[32];
    _Atomic int state;            /* enum jrn_seg_state */
    _Atomic int64_t live;         /* extents, stream batches not yet trimmed, segments that moved here */
    _Atomic int64_t extents;      /* of these: extents */
    _Atomic int32_t pins;         /* reads under way */
    bool adopted;                 /* cold: it counts; the committer sets it */
    bool promised;                /* cold: the chunk that makes it count is handed in; the keeper's */
    uint64_t promised_end;        /* cold: where the last part ends that was promised; keeper's thread */
    _Atomic uint64_t batch_bytes; /* of stream batches, while it is written */
    uint64_t live_bytes, live_messages, looked_us; /* the keeper's last look (account.c); under seg_lock */
    uint64_t closed_us;
    uint64_t left_us;                  /* by the committer, before it is CLOSED; 0: found so */
    uint64_t kept_us;                  /* keeper: until then live_bytes is exact, do not estimate */
    uint64_t dead_us;                  /* keeper: since when nothing has been live */
    _Atomic(struct jrn_moved *) moved; /* what it held stands elsewhere (moved.h) */
    struct mqg_extent whole;           /* stands for the whole file: what recovery told, what was forgotten */
    _Atomic(struct jrn_index *) index; /* of its messages, once its digest is written (index.h) */
    struct jrn_seg *next_indexed;      /* under seg_lock */
    struct jrn_spans msgs, facts;      /* what stands here; under seg_lock */
};

/* An extent in its lane's pool: given back by any thread, used again by the lane, freed with the store. */
struct jrn_extent {
    struct mqg_extent x; /* first: the host holds a pointer to it */
    struct jrn_extent *next;
    struct jrn_lane *lane;
};

struct jrn_lane {
    struct mqg_extent *extent;         /* lane: for the next submit */
    struct jrn_extent *fresh;          /* lane: extents to use */
    _Atomic(struct jrn_extent *) dead; /* given back */
    struct jrn_extent_page *pages;
    struct jrn_chunk *spare;          /* lane: chunks to use again */
    _Atomic(struct jrn_chunk *) back; /* chunks that the committer gave back */
    _Atomic uint32_t nback;
} __attribute__((aligned(64)));

struct jrn_key_row {
    uint64_t hash, seq;
    uint32_t hash2, off;
    bool gone;
};

enum { JRN_KEYS_MAPS = 64 };

/* Last-writer-wins records: where the latest of each key stands (keys.c). */
struct jrn_keys {
    pthread_mutex_t lock;
    struct jrn_map at[JRN_KEYS_MAPS]; /* hash -> row, by the hash's first bits */
    struct jrn_key_row *rows;
    uint32_t nrow, cap_row, free_row;
};

enum jrn_sleep {
    JRN_AWAKE,
    JRN_DEEP,  /* any submit wakes */
    JRN_LIGHT, /* only an urgent one, or the time */
};

/* Per queue, what is settled for sure: the SETTLE that says so is durable (account.c). Under seg_lock. */
struct jrn_settled {
    struct jrn_map at; /* queue -> index */
    struct jrn_set *sets;
    uint64_t *ids;
    uint32_t n, cap, nfree, sweep;
    uint32_t *unused;
};

struct jrn_streams;  /* stream.h */
struct part_files;   /* part_file.c */
struct part_writer;  /* part_write.c */
struct part_readers; /* part_read.c */
struct part_cleaner; /* part_clean.c */
struct jrn_readers;  /* load.c */
struct jrn_keeper;   /* keeper.c */
struct jrn_scratch;  /* scratch.c */
struct jrn_index;    /* index.h */
struct jrn_digester; /* digester.c */

/* The committer's own (commit.c). */
struct jrn_committer {
    pthread_t thread;
    bool running;
    struct jrn_seg *tail;
    uint64_t number;  /* of the last frame written */
    uint64_t durable; /* of the last frame synced */
    uint64_t term;
    struct jrn_chunk *first, **last_next; /* waiting, in order */
    uint64_t lazy_since_us;
    uint64_t last_us;   /* of the last commit */
    bool sealed, dirty; /* dirty: written and not synced (flush=os) */
    uint64_t slept_us;  /* when it last went to sleep */
    uint64_t *told;     /* per lane: highest ticket of this round */
    struct iovec *iov;
    size_t cap_iov;
};

/* Which segment was in use last (last.c). Recovery's, then the keeper's, but for sure_seq. */
struct jrn_last {
    _Atomic uint64_t sure_seq; /* the tail, since its first frame is synced; the committer writes it */
    uint64_t seq, count;       /* what the file says */
    uint8_t uuid[16];
    bool named; /* its name is durable */
    uint64_t again_us;
};

struct mqg_store {
    uint32_t magic;
    struct mqg_store_host host;
    const struct jrn_fs *fs;
    char *path, *section;
    bool flush_sync, keep_going; /* flush=sync; on_corruption=continue */
    uint64_t segment_bytes, min_free_bytes, move_rate_bytes;
    uint64_t digest_wait_us;        /* from a segment's end to its digest */
    _Atomic uint32_t clean_tick_ms; /* between two looks at retention and compaction */
    uint32_t row_min; /* entries that make a row of a digest, and a span; tests have smaller ones */
    uint32_t nlanes;
    int lock_fd;
    uint8_t uuid[16];
    struct jrn_lane *lanes;

    _Atomic(struct jrn_chunk *) inbox;
    _Atomic uint32_t sleep; /* futex: enum jrn_sleep */
    _Atomic bool started, closing, stopping, failed, blocked;
    _Atomic bool settle_wanted; /* the keeper waits for one that is not durable yet */
    _Atomic uint32_t salt;
    _Atomic int64_t queued_bytes; /* submitted, not yet durable */
    struct jrn_committer com;
    struct jrn_last last;

    pthread_mutex_t seg_lock;
    pthread_cond_t spare_there;       /* with seg_lock: a spare was given */
    struct jrn_seg *segs, *segs_last; /* live, by sequence; the last is the tail */
    struct jrn_seg *spares;
    struct jrn_settled settled;
    struct jrn_seg *indexed; /* every segment with an index, evacuated ones too */
    uint32_t nseg, nspare;
    struct jrn_spans high; /* per queue: the highest qseq that ever stood in the journal; under seg_lock */
    uint64_t next_file, next_cold;
    uint64_t disk_bytes;
    uint64_t moved_bytes, moved_messages; /* by evacuation since the start; under seg_lock */

    struct jrn_keys keys;
    struct jrn_streams *streams;
    struct part_files *part_files;
    struct part_writer *part_writer;
    struct part_readers *part_readers;
    struct part_cleaner *part_cleaner;
    struct jrn_readers *readers;
    struct jrn_keeper *keeper;
    struct jrn_scratch *scratch;
    struct jrn_digester *digester;

    _Atomic uint64_t stat_commits, stat_bytes, stat_records, stat_sync_us, stat_extents;
    _Atomic uint64_t stat_ahead; /* chunks of last words that went ahead of their segment (leave.c) */
    const char *_Atomic state;
};

extern const struct mqg_store_ops jrn_ops; /* journal.c */

static inline bool jrn_seg_is_cold(const struct jrn_seg *seg)
{
    return (seg->seq & JRN_SEQ_COLD) != 0;
}

static inline const char *jrn_errno(int negative)
{
    return strerror(-negative);
}

/* ---- segment.c ----------------------------------------------------------------------------------------- */

void jrn_path(const struct mqg_store *s, const char *name, char out[4096]);
/* Makes a new file with a durable header and name. zero: written once with zeros, else only allocated. 0 or
 * -errno. */
int jrn_seg_create(struct mqg_store *s, uint64_t bytes, bool oversized, bool zero, struct jrn_seg **out);
/* Gives the file a new use: fresh nonce, durable header. */
int jrn_seg_renew(struct mqg_store *s, struct jrn_seg *seg);
/* A makeshift file that was written up to its end becomes a proper one: writes the rest. Keeper's thread. */
int jrn_seg_finish(struct mqg_store *s, struct jrn_seg *seg);
void jrn_seg_unlink(struct mqg_store *s, struct jrn_seg **seg); /* closes, removes, frees */
void jrn_seg_free(struct mqg_store *s, struct jrn_seg **seg);   /* closes, frees */
struct jrn_seg *jrn_seg_new(void);
void jrn_seg_append(struct mqg_store *s, struct jrn_seg *seg); /* to the list of live ones; takes seg_lock */
void jrn_spans_fact(struct jrn_spans *spans, const struct jrn_span *more); /* chunk.h has the rule */
void jrn_spans_add(struct jrn_spans *spans, uint64_t queue_id, uint64_t first, uint64_t last);
/* Adds messages with their number and bytes. */
void jrn_spans_hold(struct jrn_spans *spans, const struct jrn_span *more);
const struct jrn_span *jrn_spans_get(const struct jrn_spans *spans, uint64_t queue_id); /* NULL when none */
void jrn_spans_fini(struct jrn_spans *spans);
void jrn_seg_remove(struct mqg_store *s,
                    struct jrn_seg *seg); /* from the list of live ones; takes seg_lock */
void jrn_lists_free(struct mqg_store *s); /* at the end: all segments, closed */
/* One live thing less; the last one makes the segment a candidate. */
void jrn_seg_give(struct mqg_store *s, struct jrn_seg *seg);

/* ---- last.c -------------------------------------------------------------------------------------------- */

/* Reads the file into s->last; without one, or when it does not check, nothing is known. IO, UNSUPPORTED: *e. */
enum mqg_err jrn_last_read(struct mqg_store *s, struct mqg_error *e) MQG_MUST_CHECK;
/* Writes it when the tail is another one. Keeper, or who is alone. */
void jrn_last_note(struct mqg_store *s);

/* ---- lane.c -------------------------------------------------------------------------------------------- */

void jrn_lane_fini(struct jrn_lane *lane);
struct mqg_extent *jrn_extent_new(struct mqg_store *s, struct jrn_lane *lane);
struct mqg_extent *jrn_extent_open(struct mqg_store *s, uint32_t lane);
void jrn_extent_dead(struct mqg_store *s, struct mqg_extent *x);
enum mqg_err jrn_lane_submit(struct mqg_store *s, uint32_t lane, const struct mqg_store_op *ops, size_t n,
                             uint64_t ticket, unsigned flags);
void jrn_lane_back(struct mqg_store *s, struct jrn_chunk *c); /* committer: the chunk is done with */

/* ---- inbox.c ------------------------------------------------------------------------------------------- */

void jrn_submit(struct mqg_store *s, struct jrn_chunk *c); /* any thread: hands it to the committer */
void jrn_inbox_wake(struct mqg_store *s);                  /* any thread: the committer takes a turn */
/* Committer: moves what came behind its waiting list, oldest first; sleeps until woken or for us (DEEP: for
 * ever). */
void jrn_inbox_gather(struct mqg_store *s);
void jrn_inbox_sleep(struct mqg_store *s, enum jrn_sleep how, uint64_t us);

/* ---- commit.c ------------------------------------------------------------------------------------------ */

void jrn_fail(struct mqg_store *s, enum mqg_err err, const char *text);
/* A store of an older format becomes one of the present: durable when this returns. Before any thread writes. 0 or -errno. */
int jrn_committer_raise(struct mqg_store *s);
int jrn_committer_start(struct mqg_store *s);
void jrn_committer_stop(
    struct mqg_store *s); /* ends the thread; with s->closing it empties the inbox and seals first */
void jrn_committer_fini(struct mqg_store *s);

/* ---- keys.c -------------------------------------------------------------------------------------------- */

void jrn_keys_init(struct jrn_keys *k);
void jrn_keys_fini(struct jrn_keys *k);
/* Notes the latest place of a key. */
void jrn_keys_set(struct jrn_keys *k, const struct jrn_keyed *key, uint64_t seq, uint32_t off);
/* Is this the latest place of the key? *gone: and a tombstone. */
bool jrn_keys_is(struct jrn_keys *k, const struct jrn_keyed *key, uint64_t seq, uint32_t off);
/* Where in the segment last words stand, ascending; the caller frees. */
uint32_t *jrn_keys_in(struct jrn_keys *k, uint64_t seq, uint32_t *n);
void jrn_keys_drop(struct jrn_keys *k, const struct jrn_keyed *key);

/* ---- recover.c ----------------------------------------------------------------------------------------- */

enum mqg_err jrn_recover(struct mqg_store *s, struct mqg_recover *r, struct mqg_error *e);

/* ---- load.c -------------------------------------------------------------------------------------------- */

struct jrn_readers *jrn_readers_new(struct mqg_store *s);
int jrn_readers_start(struct jrn_readers *r);
void jrn_readers_stop(struct jrn_readers *r);
void jrn_readers_free(struct jrn_readers **r);
void jrn_load(struct mqg_store *s, struct mqg_load_req *req);
void jrn_stream_read(struct mqg_store *s, struct mqg_stream_read *r);
/* Runs it on a reader thread; at once when there are none. */
void jrn_readers_run(struct mqg_store *s, void (*run)(struct mqg_store *s, void *arg), void *arg);
/* One reader less; wakes the keeper when the segment is of no more use. */
void jrn_seg_unpin(struct mqg_store *s, struct jrn_seg *seg);

/* ---- stream.c ------------------------------------------------------------------------------------------ */

struct jrn_streams *jrn_streams_new(struct mqg_store *s);
void jrn_streams_free(struct mqg_store *s, struct jrn_streams **st);
/* The chunk is durable: its notes take effect. Committer. */
void jrn_streams_apply(struct mqg_store *s, const struct jrn_chunk *c);
bool jrn_stream_gone(struct mqg_store *s, uint64_t partition);    /* it was there and was deleted */
bool jrn_stream_removed(struct mqg_store *s, uint64_t partition); /* and nothing of it can come back */
uint64_t jrn_streams_bytes(struct mqg_store *s);                  /* of the partitions' files */
/* Does this TRIM say where the partition begins? */
bool jrn_stream_starts(struct mqg_store *s, struct mqg_slice trim);
/* Recovery: facts in log order, then the end: cuts at gaps (reported through cut), tells r->stream. */
void jrn_streams_found_batch(struct mqg_store *s, struct jrn_seg *seg, uint64_t off,
                             const struct jrn_batch *b, uint64_t term);
void jrn_streams_found_def(struct mqg_store *s, const struct jrn_stream_def *d);
void jrn_streams_found_trim(struct mqg_store *s, uint64_t partition, uint64_t start);
void jrn_streams_found_cut(struct mqg_store *s, uint64_t partition, uint64_t term, uint64_t end);
void jrn_streams_found_conf(struct mqg_store *s, const struct jrn_stream_conf *conf);
void jrn_streams_found_word(struct mqg_store *s, uint8_t type,
                            struct mqg_slice main); /* POSITION, PRODUCER */
/* Joins the journal's batches to the partitions' files; tells streams, positions, producers. New cuts become the first chunk
 * of the inbox, so that they stand before anything that is appended. CORRUPT, IO: *e says what. */
enum mqg_err jrn_streams_found_end(struct mqg_store *s, struct mqg_recover *r, uint64_t term,
                                   struct mqg_error *e) MQG_MUST_CHECK;

/* One stored batch that a read wants. */
struct jrn_batch_ref {
    uint64_t base_offset, max_time_ms;
    uint32_t count, len, off; /* off: of the record's main in the segment's file; len: of the batch */
    struct jrn_seg *seg;
};
/* Picks the batches for a read: pins their segments, fills the bounds of r. NOT_FOUND beyond the bounds; n =
 * 0: none yet. MORE: they stand in a file by now. */
enum mqg_err jrn_streams_pick(struct mqg_store *s, struct mqg_stream_read *r, struct jrn_batch_ref *refs,
                              size_t max, size_t *n);
enum mqg_err jrn_stream_bounds(struct mqg_store *s, uint64_t partition, struct mqg_stream_bounds *out);
void jrn_stream_wait(struct mqg_store *s, uint64_t partition, uint64_t offset);
enum mqg_err jrn_stream_stats(struct mqg_store *s, uint64_t partition, struct mqg_stream_stats *out);
void jrn_position_get(struct mqg_store *s, struct mqg_position_req *req);

/* ---- keeper.c ------------------------------------------------------------------------------------------ */

struct jrn_keeper *jrn_keeper_new(struct mqg_store *s);
int jrn_keeper_start(struct jrn_keeper *k);
void jrn_keeper_stop(struct jrn_keeper *k);
void jrn_keeper_free(struct jrn_keeper **k);
void jrn_keeper_wake(struct mqg_store *s); /* any thread: there may be work */
/* Committer: a segment was begun. Blocks publishers at once when the disk holds too much that is not live. */
void jrn_keeper_rolled(struct mqg_store *s);
/* A spare for the committer, or NULL. */
struct jrn_seg *jrn_spare_take(struct mqg_store *s);
/* Waits until there is a spare, at most ms; true when there is. */
bool jrn_spare_wait(struct mqg_store *s, int ms);
/* A segment of no more use: becomes a spare, or is unlinked. Takes it. */
void jrn_spare_give(struct mqg_store *s, struct jrn_seg *seg);

#endif
