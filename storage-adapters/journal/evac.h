/* evac.h - evacuation: what little is live of a segment moves to a cold one, so that the file can be used again. */
#ifndef JRN_EVAC_H
#define JRN_EVAC_H

#include "cold.h"
#include "moved.h"

struct jrn_evac;

/* A segment on its way out. */
struct jrn_leaving {
    struct jrn_seg *seg;
    struct jrn_moved *moved; /* NULL: it was dead, nothing had to be moved */
    struct jrn_part parts[JRN_PARTS_MAX];
    uint32_t nparts;
    uint64_t bytes, messages;
};

struct jrn_evac *jrn_evac_new(struct mqg_store *s, const _Atomic bool *stop); /* stop: ends a run soon */
void jrn_evac_free(struct jrn_evac **e); /* readers and keeper have ended */
void jrn_evac_start(struct jrn_evac *e); /* before the keeper's first turn */

/* Bytes on the disk beyond twice what is live: what the bound is about. Any thread. */
uint64_t jrn_evac_excess(struct mqg_store *s);
/* Is there a segment worth evacuating? Any thread. */
bool jrn_evac_has_work(struct jrn_evac *e);
/* Writes what is live of one segment to cold ones; the chunk that makes them count instead of it. NULL when there is none, or
 * it did not work out. keyed: one that holds last words, too. Chunks are handed in in this order. Keeper's thread; so are the ones below. */
struct jrn_chunk *jrn_evac_one(struct jrn_evac *e, bool keyed, struct jrn_leaving *out);
/* That chunk is durable: readers find the new places. Takes what `out` holds. */
void jrn_evac_done(struct jrn_evac *e, struct jrn_leaving *done);
/* Files of evacuated segments that nobody reads any more are used again; tables that nobody needs go. */
void jrn_evac_ghosts(struct jrn_evac *e);

#endif
