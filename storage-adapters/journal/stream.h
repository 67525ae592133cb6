/* stream.h - partitions in memory: bounds, rows of what stands in the journal, the list of files. */
#ifndef JRN_STREAM_H
#define JRN_STREAM_H

#include "part.h"

struct stream_found {
    uint64_t term, order;
    struct jrn_batch_ref ref;
};

struct stream_cut {
    uint64_t term, end;
};

struct stream_part {
    uint64_t id;
    bool gone;
    bool named; /* recovery: somebody said that it is there */
    uint64_t log_start, high;
    struct jrn_batch_ref *at; /* by base offset; [0, whole) is what ends at the high watermark or before */
    uint32_t n, cap, whole;
    uint64_t *waits; /* offsets somebody waits for */
    uint32_t nwait, cap_wait;
    struct stream_found *found; /* recovery only */
    struct stream_cut *cuts;
    uint32_t nfound, cap_found, ncut, cap_cut;
    /* its files (part_write.c) */
    struct part_file **files; /* by base; the last one is written to */
    uint32_t nfile, cap_file;
    uint64_t filed;   /* offsets below stand in files, or were trimmed */
    uint64_t synced;  /* of them, durable there */
    bool due;         /* in the writer's list */
    uint64_t read_us; /* when somebody read in its files last */
    bool dirty;       /* in the writer's list of those to sync */
    bool opaque;  /* something else than record batches was appended: it stays in the journal from there on */
    bool folder;  /* its name is durable */
    bool removed; /* gone, and its folder with it, durably */
    bool stuck;   /* gone, and its folder could not be removed; that was said */
    bool roll;    /* the cleaner wants a new file */
    uint64_t compacted; /* offsets below went through compaction */
    uint64_t noted;     /* of them, those whose keys were noted; behind them lies an open transaction */
    bool damaged;       /* compaction met damage: it waits for the next start */
    uint64_t again_us;  /* compaction failed otherwise: not before then */
    struct mqg_stream_conf conf;
    struct part_tail tail; /* recovery only: how far the last file is whole */
    bool beyond;           /* recovery only: batches behind a gap were left out */
};

struct stream_position {
    uint32_t hash2;
    uint64_t offset;
};

/* The last word on a group, whole, or the last few on a producer, one after the other; recovery only. */
struct stream_word {
    uint64_t partition, hash;
    uint8_t *main;
    uint32_t len;
};

struct jrn_streams {
    pthread_mutex_t lock;
    struct jrn_map part_of, position_of;
    struct stream_part **parts;
    struct stream_position *positions;
    uint32_t npart, cap_part, nposition, cap_position;
    uint32_t free_position; /* the first row of forgotten ones, which name each other by their offsets */
    uint64_t *ready;        /* committer: partitions to tell about, outside the lock */
    uint32_t nready, cap_ready;
    /* recovery */
    struct jrn_map word_of;
    struct stream_word *words;
    uint32_t nword, cap_word;
};

#define STREAM_PUSH(owner, list, count, cap)                                                                 \
    ((owner)->count == (owner)->cap                                                                          \
         ? (void)((owner)->cap = (owner)->cap ? (owner)->cap * 2 : 4,                                        \
                  (owner)->list = mqg_xrealloc((owner)->list, (size_t)(owner)->cap * sizeof *(owner)->list)) \
         : (void)0,                                                                                          \
     &(owner)->list[(owner)->count++])

/* All under the streams' lock (recovery: one thread). */
struct stream_part *jrn_stream_part(struct jrn_streams *st, uint64_t id); /* makes it */
struct stream_part *jrn_stream_find(struct jrn_streams *st, uint64_t id); /* NULL: not there, or deleted */
uint32_t jrn_stream_row(const struct stream_part *p, uint64_t offset);    /* the first that ends beyond it */
void jrn_stream_insert(struct stream_part *p, struct jrn_batch_ref ref);
void jrn_stream_position(struct jrn_streams *st, struct mqg_slice main, uint64_t offset);
uint64_t jrn_stream_row_time(const struct stream_part *p, uint64_t time_ms);
void jrn_stream_drop(struct mqg_store *s, struct stream_part *p, uint32_t n);

enum { STREAM_LARGE = 4 << 10 }; /* bytes of a batch that is worth a read of its own */

/* Does somebody read in its files? Then what is written there stays in memory for a while. */
static inline bool jrn_stream_is_read(const struct stream_part *p, uint64_t now_us)
{
    enum { STREAM_READ_US = 60 * 1000 * 1000 };
    return p->read_us && now_us < p->read_us + STREAM_READ_US;
}

/* Is the offset to be read from a file? Not while the journal has it: what was committed lately is in memory there, and who follows a
 * log reads only that. Of small batches a file has many in one place. */
static inline bool jrn_stream_in_files(const struct stream_part *p, uint64_t offset)
{
    if (p->nfile == 0 || offset < p->log_start || offset >= p->filed)
        return false;
    return p->n == 0 || offset < p->at[0].base_offset || p->at[jrn_stream_row(p, offset)].len < STREAM_LARGE;
}

static inline uint64_t jrn_batch_end(const struct jrn_batch_ref *ref)
{
    return ref->base_offset + ref->count;
}

#endif
