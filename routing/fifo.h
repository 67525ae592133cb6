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
 * skipped by their count. An entry is 32 bytes; when its message is paged out only the place is left. */
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

struct fifo {
    struct chunk **ring; /* index: chunk number & (cap - 1); NULL where all entries were freed */
    uint32_t cap;
    uint64_t first, next; /* chunk numbers in the ring: [first, next) */
    uint64_t tail;        /* position of the next entry */
    uint64_t scan;
    uint64_t ready, live;
};

void fifo_init(struct fifo *f);
void fifo_fini(struct fifo *f); /* chunks only: entries were let go before */
/* A new entry in state READY at the tail; the caller fills message, sizes, due, flags. qseq ascends. */
struct entry *fifo_append(struct fifo *f, uint64_t qseq, uint64_t *pos);
/* The entry at pos, NULL when it was freed. */
struct entry *fifo_at(const struct fifo *f, uint64_t pos);
uint64_t fifo_qseq(const struct fifo *f, uint64_t pos);
/* Lowest ready entry; NULL when none. Moves `scan` up to it. */
struct entry *fifo_head(struct fifo *f, uint64_t *pos);
/* The next ready entry at or after pos; NULL when none. */
struct entry *fifo_next_ready(const struct fifo *f, uint64_t *pos);
/* The next entry that is not free at or after pos; NULL when none. */
struct entry *fifo_next_live(const struct fifo *f, uint64_t *pos);
void fifo_set_unacked(struct fifo *f, struct entry *e, uint64_t pos);
void fifo_set_ready(struct fifo *f, struct entry *e, uint64_t pos);
/* Frees the entry (its message was taken out before). */
void fifo_free(struct fifo *f, struct entry *e, uint64_t pos);

#endif
