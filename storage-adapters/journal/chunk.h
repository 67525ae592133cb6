/* chunk.h - a submission on its way: framed by its worker, committed and told by the committer.
 *
 * A chunk is what one submit() of one lane became. Its bytes are an arena plus references into messages and
 * batches that are too large to copy; a list of what the committer must know of it (extent, keys, stream batches, touched
 * queues) goes with it, so that the committer never parses records. */
#ifndef JRN_CHUNK_H
#define JRN_CHUNK_H

#include "record.h"

#include <sys/uio.h>

enum {
    JRN_COPY_MAX = 16 * 1024,    /* larger stored forms are referenced, not copied */
    JRN_CHUNK_KEEP = 512 * 1024, /* arenas up to this size are kept for the next chunk */
};

/* Foreign bytes that stand in the chunk behind `at` bytes of the arena. */
struct jrn_piece {
    size_t at;
    const uint8_t *ptr;
    size_t len;
    struct mqg_msg *msg; /* counted while we need it; NULL for ropes */
};

/* A queue and the span of qseq that records speak of; in a chunk's list a queue may come twice. Of messages also how many,
 * and their bytes in eights (a message in several queues counts for each with its share). */
struct jrn_span {
    uint64_t queue_id, first, last;
    uint32_t count,
        eights; /* of messages; of facts: count > 0 says that the span is more than one settled range */
};

/* Widens a span of facts by a range; one that does not touch it, or is no settled range, is remembered as such. */
static inline void jrn_span_fact(struct jrn_span *span, const struct jrn_span *more)
{
    bool touch = more->first <= span->last + 1 && span->first <= more->last + 1;
    span->count |= more->count | !touch;
    span->first = more->first < span->first ? more->first : span->first;
    span->last = more->last > span->last ? more->last : span->last;
}

struct jrn_span_list {
    struct jrn_span *at;
    uint32_t n, cap;
};

/* A last-writer-wins record: which key, where it stands. */
struct jrn_keyed {
    uint64_t hash;
    uint32_t hash2;
    uint32_t off;  /* of its main in the chunk */
    bool gone;     /* a tombstone */
    bool trim;     /* of a partition: the highest counts, not only the last */
    bool restated; /* copied from (old_seq, old_off): void if that is not the latest any more */
    uint64_t old_seq;
    uint32_t old_off;
    uint32_t arena_off; /* of the record in the arena, to void it */
};

enum jrn_note_kind { JRN_NOTE_BATCH, JRN_NOTE_TRIM, JRN_NOTE_STREAM, JRN_NOTE_POSITION, JRN_NOTE_CONF };

/* What the stream index learns once the chunk is durable. */
struct jrn_note {
    enum jrn_note_kind kind;
    uint64_t partition, offset, max_time_ms; /* base offset, trim start or position */
    uint32_t count, off, len;                /* of the batch's main in the chunk */
    bool exists;
    size_t arena_off; /* POSITION, CONF: its main in the arena */
};

struct jrn_seg;

enum { JRN_PARTS_MAX = 8 };

/* How far a cold segment counts, once the chunk that says so is written (cold.h). */
struct jrn_part {
    struct jrn_seg *seg;
    uint64_t last_number, end;
};

struct jrn_chunk {
    struct jrn_chunk *next;
    uint64_t ticket;
    uint32_t lane;
    unsigned flags; /* enum mqg_submit_flag */
    struct mqg_extent *extent;
    uint8_t *arena;
    size_t len, cap;
    size_t total; /* on disk, head included */
    uint32_t records, salt;
    struct jrn_piece *pieces;
    struct jrn_span_list msgs, facts; /* of MSG; of SETTLE, QSTATE, COUNT */
    struct jrn_span_list gone;        /* each range of SETTLE */
    struct jrn_keyed *keyed;
    struct jrn_note *notes;
    uint32_t npiece, nkeyed, nnote;
    uint32_t cap_piece, cap_keyed, cap_note;
    bool restates; /* has records with `restated` keys */
    /* the committer's */
    struct jrn_seg *seg;
    struct jrn_seg *frees; /* its FREE record stands here: no longer counts once this is written */
    struct jrn_part parts[JRN_PARTS_MAX]; /* its ADOPT record stands here: these count from then on */
    uint32_t nparts;
    uint64_t place;
    void (*told)(struct jrn_chunk *c, void *arg); /* internal chunks: instead of host->done */
    void *told_arg;
};

struct jrn_chunk *jrn_chunk_new(void);
void jrn_chunk_free(struct jrn_chunk **c); /* with the references it still holds */
/* Makes it empty for a new submission; releases references. */
void jrn_chunk_reset(struct jrn_chunk *c);
void jrn_chunk_begin(struct jrn_chunk *c, uint32_t lane, uint64_t ticket, unsigned flags, uint32_t salt);
/* Writes the head; the chunk is then whole. */
void jrn_chunk_end(struct jrn_chunk *c);

/* Appends an operation; for MSG sets msg->extent_off. GROUP_BEGIN and END need nothing: a chunk is atomic. */
void jrn_chunk_op(struct jrn_chunk *c, const struct mqg_store_op *op);
/* Bytes that the operation will take at most. */
size_t jrn_chunk_cost(const struct mqg_store_op *op);

/* Internal records. */
void jrn_chunk_ranges(struct jrn_chunk *c, enum jrn_rec_type type, uint64_t queue_id,
                      const struct mqg_range *r, size_t n);
/* A record of any type with a ready main; the place of its main in the chunk. */
uint32_t jrn_chunk_raw(struct jrn_chunk *c, enum jrn_rec_type type, uint8_t flags, struct mqg_slice main);
void jrn_chunk_count(struct jrn_chunk *c, const struct jrn_count *count);
/* A message in its stored form, copied, with all its destinations; the place of its main in the chunk. */
uint32_t jrn_chunk_stored(struct jrn_chunk *c, struct mqg_slice stored, const struct mqg_dest *d, uint32_t n);
void jrn_chunk_note_key(struct jrn_chunk *c, struct jrn_keyed key);
/* Turns a keyed record of the arena into a NOP. */
void jrn_chunk_void(struct jrn_chunk *c, uint32_t arena_off);

/* Fills iov with the chunk's pieces; the number used (max is enough when 2 * npiece + 1). */
int jrn_chunk_iov(const struct jrn_chunk *c, struct iovec *iov);

/* The key of a last-writer-wins record, from its main; false for other types. */
bool jrn_key_of(uint8_t type, struct mqg_slice main, struct jrn_keyed *key);

#endif
