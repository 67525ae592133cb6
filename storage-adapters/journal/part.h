/* part.h - a partition's own files: what stands in memory of them, and who may touch it.
 *
 *   committer -> rows (where a batch stands in the journal) -> stream writer -> streams/<partition>/<base offset>.log
 *                                                                 \-> fsync, later -> rows are dropped, segments go
 *   readers: from the journal while a row says where (small batches: until they are filed); else from the file
 *
 * Partitions, their rows and lists of files are under the lock of the streams (stream.c). Files are changed by the stream
 * writer alone (part_write.c); readers hold a reference and look no further than the bytes they were told of under the lock. What
 * is open of a file (descriptor, index) is under the lock of the table of open files (part_file.c), which is the inner one:
 * it may be taken with the streams' lock held, never the other way round. No lock is held around I/O. */
#ifndef JRN_PART_H
#define JRN_PART_H

#include "journal.h"
#include "part_batch.h"

enum {
    PART_HEAD_READ = 61,             /* a batch's head */
    PART_INTERVAL = 16 << 10,        /* bytes between two rows of an index, in files of 64 MiB and less */
    PART_SEGMENT_DEFAULT = 64 << 20, /* bytes of a file */
    PART_SEGMENT_MIN = 4096,
    PART_HINTS = 4,
    PART_NAME = 96, /* bytes of a name below the store's folder */
};

#define PART_SEGMENT_MAX (1ull << 30)

/* A row of a file's index: the batch at `pos` begins with `offset`; latest time of it and all up to the next row. */
struct part_entry {
    uint64_t offset, pos, time_ms;
};

/* Where a read ended: the next one of that cursor begins there. */
struct part_hint {
    uint64_t offset, pos;
};

struct part_index {
    struct part_entry *at;
    uint32_t n, cap, saved; /* saved: rows that stand in the .idx */
    uint64_t saved_pos;     /* end of the .idx; 0: it is not there */
};

struct part_file {
    uint64_t partition, base;
    uint32_t gen; /* how often it was compacted */
    bool gaps;    /* compacted by a version that left gaps between its batches */
    bool named;   /* its name is durable. Whoever syncs it */
    bool plain;   /* a pass saw: nothing of a transaction is in it. Cleaner's thread */
    _Atomic int refs;
    /* under the streams' lock */
    uint64_t end, bytes, max_time_ms; /* offsets [base, end) */
    uint64_t first_ms;                /* when its first batch came, by the wall clock */
    bool timed;                       /* max_time_ms is known */
    /* under the lock of open files */
    struct part_file *lru_next, *lru_prev;
    int fd, pins;
    bool indexed; /* the index below is all there is */
    struct part_index index;
    struct part_hint hints[PART_HINTS];
    uint32_t next_hint;
};

/* How far a log is whole. */
struct part_tail {
    uint64_t end, bytes, max_time_ms; /* of the whole batches */
    uint64_t sure_end;                /* offsets below were synced once, and are there */
    uint64_t lost_end;                /* lost: offsets below were synced once, too */
    bool torn;                        /* something else follows */
    bool lost;                        /* the index knows of more than there is */
};

struct part_files;   /* part_file.c */
struct part_writer;  /* part_write.c */
struct part_readers; /* part_read.c */
struct stream_part;  /* stream.h */

/* ---- part_file.c --------------------------------------------------------------------------------------- */

struct part_files *jrn_part_files_new(struct mqg_store *s, uint32_t max_open);
void jrn_part_files_free(struct part_files **t);
void jrn_part_files_lock(struct mqg_store *s); /* guards what is open and the indexes */
void jrn_part_files_unlock(struct mqg_store *s);
void jrn_part_files_rows(struct mqg_store *s, uint32_t more); /* an open file's index grew. Under the lock */
struct part_file *jrn_part_file_new(uint64_t partition, uint64_t base, uint32_t gen);
void jrn_part_file_ref(struct part_file *f);
void jrn_part_file_unref(struct mqg_store *s, struct part_file **f);
/* Opens the log (flags as open(2)) and, when its rows are not known, reads the index. Blocks. Pins it: the descriptor stays
 * until unpin. The descriptor, or -errno. */
int jrn_part_file_open(struct mqg_store *s, struct part_file *f, int flags);
/* The same without waiting: -EAGAIN when it is not open. */
int jrn_part_file_try(struct mqg_store *s, struct part_file *f);
void jrn_part_file_unpin(struct mqg_store *s, struct part_file *f);
/* part_name.c: names below the store's folder: "log", "idx"; suffix may be "" or ".tmp". */
void jrn_part_name(const struct part_file *f, const char *kind, const char *suffix, char out[PART_NAME]);
void jrn_part_folder(uint64_t partition, char out[PART_NAME]);
struct part_name {
    uint64_t base;
    uint32_t gen;
    bool gaps, log;
};
bool jrn_part_parse(const char *name, struct part_name *out);         /* false: not one of ours */
void jrn_part_unlink(struct mqg_store *s, const struct part_file *f); /* log and index; logs failures */

/* ---- part_index.c -------------------------------------------------------------------------------------- */

uint64_t jrn_part_interval(uint64_t segment_bytes);
/* Notes a batch that was written. Under no lock; takes that of open files. */
void jrn_part_index_add(struct mqg_store *s, struct part_file *f, const struct part_batch *b, uint64_t pos,
                        uint64_t interval);
/* The last row whose offset is not beyond; takes the lock. false: no rows. */
bool jrn_part_index_find(struct mqg_store *s, struct part_file *f, uint64_t offset, struct part_entry *out);
/* The first row with a batch of that time or later. */
bool jrn_part_index_time(struct mqg_store *s, struct part_file *f, uint64_t time_ms, struct part_entry *out);
uint64_t jrn_part_index_latest(struct mqg_store *s, struct part_file *f);
void jrn_part_index_hint(struct mqg_store *s, struct part_file *f, uint64_t offset, uint64_t pos);
/* Writes the rows that the .idx lacks, and one for the end: everything below was synced. 0 or -errno. */
int jrn_part_index_save(struct mqg_store *s, struct part_file *f, uint64_t end, uint64_t bytes);
/* Reads the .idx, then the log behind its last row up to `bytes`; with `check` every batch's sum there. Fills out and tail; f is
 * not changed. 0 or -errno. */
int jrn_part_index_load(struct mqg_store *s, const struct part_file *f, int fd, uint64_t bytes, bool check,
                        struct part_index *out, struct part_tail *tail);
/* Pure: header and rows, for the fuzzer. */
enum { PART_IDX_HEAD = 64, PART_IDX_ROW = 32 };
void jrn_part_idx_head(uint8_t out[PART_IDX_HEAD], const struct part_file *f);
bool jrn_part_idx_head_is(struct mqg_slice in, const struct part_file *f);
void jrn_part_idx_row(uint8_t out[PART_IDX_ROW], const struct part_entry *e, uint32_t seed);
bool jrn_part_idx_row_is(const uint8_t in[PART_IDX_ROW], struct part_entry *e, uint32_t seed);

/* ---- part_write.c -------------------------------------------------------------------------------------- */

struct part_writer *jrn_part_writer_new(struct mqg_store *s);
int jrn_part_writer_start(struct part_writer *w);
/* flush: files and syncs everything first. */
void jrn_part_writer_stop(struct part_writer *w, bool flush);
void jrn_part_writer_free(struct part_writer **w);
/* There is something to do for the partition (a trim, its end). Under the streams' lock; wakes the writer. */
void jrn_part_due(struct mqg_store *s, struct stream_part *p);
/* So many bytes more are to be filed. The same; wakes the writer when it is worth it, and at the latest after a tick. */
void jrn_part_grew(struct mqg_store *s, struct stream_part *p, uint32_t bytes);

/* ---- part_read.c --------------------------------------------------------------------------------------- */

struct part_readers *jrn_part_readers_new(struct mqg_store *s);
int jrn_part_readers_start(struct part_readers *r);
void jrn_part_readers_stop(struct part_readers *r);
void jrn_part_readers_free(struct part_readers **r);
/* Answers that several readers of a log get alike: asks for one (true: r has it), keeps one. gen: of the file, or PART_ROWS for what was
 * read from the journal; until: how far the file, or the log, goes. Any thread. */
#define PART_ROWS UINT32_MAX
bool jrn_part_share(struct mqg_store *s, struct mqg_stream_read *r, uint32_t gen, uint64_t until);
/* until 0: there was more, so the answer is as long as it may be. */
void jrn_part_keep(struct mqg_store *s, const struct mqg_stream_read *r, uint32_t gen, uint64_t until);
/* Answers from the partition's files; false: what is wanted does not stand there. */
bool jrn_part_read(struct mqg_store *s, struct mqg_stream_read *r);
void jrn_part_time(struct mqg_store *s, struct mqg_time_req *req);

/* ---- part_find.c --------------------------------------------------------------------------------------- */

/* Recovery: reads what partitions have of files. CORRUPT, IO: *e says what. */
enum mqg_err jrn_parts_find(struct mqg_store *s, struct mqg_error *e) MQG_MUST_CHECK;
/* After the rows are known: cuts torn tails that the journal has whole, reports damage that it has not. */
enum mqg_err jrn_part_found(struct mqg_store *s, struct stream_part *p, struct mqg_error *e) MQG_MUST_CHECK;

/* ---- part_clean.c -------------------------------------------------------------------------------------- */

struct part_cleaner *jrn_part_cleaner_new(struct mqg_store *s);
int jrn_part_cleaner_start(struct part_cleaner *c);
void jrn_part_cleaner_stop(struct part_cleaner *c);
void jrn_part_cleaner_free(struct part_cleaner **c);
void jrn_part_cleaner_tick(struct mqg_store *s, uint32_t ms); /* from now on, and a look at once; for tests */
bool jrn_part_cleaner_ends(struct mqg_store *s);              /* a long piece of work is to be left */

/* ---- part_dense.c -------------------------------------------------------------------------------------- */

/* A compacted file being written beside the old one. */
struct part_dense {
    struct mqg_store *s;
    struct part_file *f; /* the new one */
    int fd;
    uint64_t interval;
    uint64_t next;  /* the offset that the next batch begins with */
    uint64_t bytes; /* written; those in buf follow */
    struct mqg_dynbuf buf;
    bool ours; /* buf ends with a batch that may be made longer: */
    size_t last_at;
    struct part_batch last;
};
/* Begins the successor of `old`, which has `bytes`. 0 or -errno; end it in any case. */
int jrn_dense_begin(struct part_dense *d, struct mqg_store *s, const struct part_file *old, uint64_t bytes);
/* A batch that stays, in order of offsets; ours: records of it were looked into, so it may be changed. */
int jrn_dense_add(struct part_dense *d, const struct part_batch *b, struct mqg_slice whole, bool ours);
/* Offsets end at `end`: syncs the file and gives it its name, durably; d->f is the caller's then. With r < 0, or when that fails,
 * nothing is left, and d->f is NULL. */
int jrn_dense_end(struct part_dense *d, uint64_t end, int r);

/* ---- part_compact.c ------------------------------------------------------------------------------------ */

/* One pass, when enough is new. Cleaner's thread. */
void jrn_part_compact(struct mqg_store *s, struct stream_part *p, uint64_t now_ms);

#endif
