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
/* The segment that is most worth it; NULL: none. keyed: one that holds last words, too. Keeper's thread; so are the ones below. */
struct jrn_seg *jrn_evac_pick(struct jrn_evac *e, bool keyed);
/* Writes what is live of going->seg, which is LEAVING, to cold ones, and notes there where. False: it did not work out, and is undone. Next
 * comes the chunk that makes the cold ones count instead of it (restate.h); these are handed in in this order. */
bool jrn_evac_copy(struct jrn_evac *e, struct jrn_leaving *going);
/* There is no such chunk: the copies are nobody's, the segment is looked at again later. */
void jrn_evac_undo(struct jrn_evac *e, struct jrn_leaving *going);
/* That chunk is about to be handed in. */
void jrn_evac_promise(struct jrn_evac *e, struct jrn_leaving *going);
/* That chunk is durable: readers find the new places. Takes what `done` holds. */
void jrn_evac_done(struct jrn_evac *e, struct jrn_leaving *done);
/* Files of evacuated segments that nobody reads any more are used again; tables that nobody needs go. */
void jrn_evac_ghosts(struct jrn_evac *e);

#endif
