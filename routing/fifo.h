/* routing/fifo.h - the index of a queue: entries by position.
 *
 * A message gets the next **position** (dense, per fifo) and keeps it until it is settled, so "requeue to its place" is a
 * change of state, not a move, and an acknowledgement finds its entry in O(1): position / 64 names the chunk. A chunk whose
 * entries are all used and free again is given back at once, wherever it lies; an empty queue keeps at most its tail chunk.
 *
 *   ring of chunk pointers:  [first ........................... next)
 *   chunk: qseq base | ready | live | 64 x { message or extent, place, due time, state, flags, deliveries, qseq delta }
 *
 * `scan` is the lowest position that may be ready: requeue lowers it, taking raises it; chunks without ready entries are
 * skipped by their count. An entry is 32 bytes; when its message is paged out only the place is left.
 *
 * The middle of a long queue need not stand here: a **span** (fifo_span.c) stands for ready entries that the store remembers,
 * and keeps their positions reserved. Nothing behind the first span is ever the head. */
#ifndef MQG_ROUTING_FIFO_H
#define MQG_ROUTING_FIFO_H

#include <mqgate/msg.h>
#include <mqgate/store.h>

#define FIFO_CHUNK 64u
#define FIFO_NONE  UINT64_MAX

enum entry_state { ENTRY_FREE = 0, ENTRY_READY, ENTRY_UNACKED };

enum entry_flag {
    ENTRY_STORED = 1u << 0,  /* a store holds it: settling it is recorded */
    ENTRY_PAGED = 1u << 1,   /* the body is on disk only: extent, off, len name the place */
    ENTRY_LOADING = 1u << 2, /* a load is under way */
    ENTRY_REDELIVERED = 1u << 3,
    ENTRY_BROKEN = 1u << 4, /* its bytes did not check: kept, reported, never delivered */
};

struct entry {
    union {
        struct mqg_msg *msg;       /* in memory: one reference */
        struct mqg_extent *extent; /* paged out */
    };
    uint32_t off, len; /* of the stored form in the extent (paged) */
    uint32_t body_bytes;
    uint32_t due;        /* ms since the queue's birth + 1; 0: never expires */
    uint8_t state;       /* enum entry_state */
    uint8_t flags;       /* enum entry_flag */
    uint16_t deliveries; /* attempts that count */
    uint32_t qseq_delta; /* to the chunk's base */
};
_Static_assert(sizeof(struct entry) == 32, "the index is counted in these");

struct chunk {
    uint64_t qseq_base;
    uint16_t ready, live;
    struct entry entries[FIFO_CHUNK];
};

/* Ready entries that only the store knows. They come back to the lowest of its positions, in order, so an entry never stands
 * higher than it did before it was forgotten. */
struct fifo_span {
    uint64_t pos, end;     /* positions reserved: [pos, end) */
    uint64_t first, last;  /* qseq */
    uint64_t count, bytes; /* entries, bytes of bodies */
    bool redelivered;      /* all of them */
};

/* Ascending, disjoint. */
struct fifo_spans {
    struct fifo_span *span;
    uint32_t at, n, cap; /* in use: [at, n) */
};

struct fifo {
    struct chunk **ring; /* index: chunk number & (cap - 1); NULL where all entries were freed */
    uint32_t cap;
    uint64_t first, next; /* chunk numbers in the ring: [first, next) */
    uint64_t tail;        /* position of the next entry */
    uint64_t scan;
    uint64_t ready, live;     /* without those in spans */
    struct fifo_spans *spans; /* NULL: there are none */
};

/* Chunks of all fifos of the node. */
int64_t fifo_chunks_all(void);

void fifo_init(struct fifo *f);
void fifo_fini(struct fifo *f); /* chunks only: entries were let go before */
/* A new entry in state READY at the tail; the caller fills message, sizes, due, flags. qseq ascends. */
struct entry *fifo_append(struct fifo *f, uint64_t qseq, uint64_t *pos);
/* The entry at pos, NULL when it was freed. */
struct entry *fifo_at(const struct fifo *f, uint64_t pos);
uint64_t fifo_qseq(const struct fifo *f, uint64_t pos);
/* Lowest ready entry before the first span; NULL when none. Moves `scan` up to it. */
struct entry *fifo_head(struct fifo *f, uint64_t *pos);
/* The next ready entry at or after pos and before the first span; NULL when none. */
struct entry *fifo_next_ready(const struct fifo *f, uint64_t *pos);
/* The next entry that is not free at or after pos, over spans; NULL when none. */
struct entry *fifo_next_live(const struct fifo *f, uint64_t *pos);
void fifo_set_unacked(struct fifo *f, struct entry *e, uint64_t pos);
void fifo_set_ready(struct fifo *f, struct entry *e, uint64_t pos);
/* Frees the entry (its message was taken out before). */
void fifo_free(struct fifo *f, struct entry *e, uint64_t pos);

/* ---- spans: fifo_span.c ------------------------------------------------------------------------------------------------ */

/* The first span; NULL when there is none. */
struct fifo_span *fifo_span_first(const struct fifo *f);
/* The first one that ends behind pos; NULL when there is none. */
const struct fifo_span *fifo_span_from(const struct fifo *f, uint64_t pos);
/* A span over positions that hold nothing but the entries it stands for; these are freed by the caller right after. Joins the
 * span that ends at its begin and is of its kind. */
void fifo_span_add(struct fifo *f, const struct fifo_span *s);
/* At the tail, with as many positions as its entries can ever need (recovery). */
void fifo_span_append(struct fifo *f, const struct fifo_span *s);
/* An entry of the first span is back: READY, at the span's lowest position. The caller counts it off the span. */
struct entry *fifo_span_restore(struct fifo *f, uint64_t qseq, uint64_t *pos);
/* Nothing is left of the first span, or nobody wants it any more. */
void fifo_span_drop(struct fifo *f);

/* private to fifo*.c */
struct chunk *fifo_chunk(const struct fifo *f, uint64_t pos);
struct chunk *fifo_chunk_make(struct fifo *f, uint64_t number, uint64_t qseq); /* number is in the ring */
void fifo_ring_room(struct fifo *f, uint64_t n);                               /* for n more chunk numbers */
void fifo_trim(struct fifo *f); /* forgets numbers at the front whose chunks are gone */

#endif
