/* restate.h - what must be said again before a segment goes (leave.c tells why that is safe).
 *
 * All on the keeper's thread, of a segment that is LEAVING. A chunk is the caller's, to submit or to free. */
#ifndef JRN_RESTATE_H
#define JRN_RESTATE_H

#include "journal.h"

/* The last words that stand in one segment, by their places: collected once, and said from the front. Zero is none. */
struct jrn_words {
    uint64_t seq;   /* whose */
    uint32_t *offs; /* ascending */
    uint32_t n, said;
    uint64_t bytes; /* of those that were said ahead */
};

/* Those of the segment, unless they are already. */
void jrn_words_of(struct mqg_store *s, struct jrn_words *w, const struct jrn_seg *seg);
void jrn_words_fini(struct jrn_words *w);

/* Of many last words the next few, as a chunk that frees nothing: to be committed, and to be called again, before jrn_restate, so that
 * no commit has to carry them all. *out NULL: what is left fits into one chunk, and is jrn_restate's. oldest: nothing stands before the
 * segment, so tombstones have nothing left to hide. False: one cannot be read, or there are so many that letting it go would gain
 * nothing. */
bool jrn_restate_ahead(struct mqg_store *s, struct jrn_seg *seg, bool oldest, struct jrn_words *w,
                       struct jrn_chunk **out);

/* Reads the segment where it may hold records that still count, and makes the chunk that says them again with what is left of its last
 * words, adopts the parts (what an evacuation wrote; none otherwise) and frees it. NULL: it cannot be read (logged), or so much of it
 * counts that moving it would gain nothing. */
struct jrn_chunk *jrn_restate(struct mqg_store *s, struct jrn_seg *seg, bool oldest,
                              const struct jrn_words *w, const struct jrn_part *parts, uint32_t nparts);

#endif
