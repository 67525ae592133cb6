/* restate.h - what must be said again before a segment goes (leave.c tells why that is safe).
 *
 * All on the keeper's thread, of a segment that is LEAVING. A chunk is the caller's, to submit or to free. */
#ifndef JRN_RESTATE_H
#define JRN_RESTATE_H

#include "journal.h"

/* Reads the segment where it may hold records that still count, and makes the chunk that says them again, adopts the parts (what an
 * evacuation wrote; none otherwise) and frees it. oldest: nothing stands before it, so tombstones have nothing left to hide. NULL: it
 * cannot be read (logged), or so much of it counts that moving it would gain nothing. */
struct jrn_chunk *jrn_restate(struct mqg_store *s, struct jrn_seg *seg, bool oldest,
                              const struct jrn_part *parts, uint32_t nparts);

/* The chunk that says the last words at these places of the segment again, and frees nothing: what is done before jrn_restate, so that
 * no commit has to carry them all. *bytes: those of the words are added. *out NULL: none counts any more. False: one cannot be read. */
bool jrn_restate_ahead(struct mqg_store *s, struct jrn_seg *seg, bool oldest, const uint32_t *offs,
                       uint32_t n, uint64_t *bytes, struct jrn_chunk **out);

#endif
