/* evac.h - evacuation: what little is live of a segment moves to a cold one, so that the file can be used again. */
#ifndef JRN_EVAC_H
#define JRN_EVAC_H

#include "cold.h"

struct jrn_evac;

struct jrn_evac *jrn_evac_new(struct mqg_store *s);
void jrn_evac_free(struct jrn_evac **e); /* readers and keeper have ended */
void jrn_evac_start(struct jrn_evac *e); /* before the keeper's first turn */

/* Bytes on the disk beyond twice what is live: what the bound is about. Keeper; so are all below. */
uint64_t jrn_evac_excess(struct mqg_store *s);
/* Is there a segment worth evacuating? */
bool jrn_evac_has_work(struct jrn_evac *e);
/* Evacuates one; false when there is none, or it did not work out. */
bool jrn_evac_one(struct jrn_evac *e, struct jrn_keeper *k);
/* Files of evacuated segments that nobody reads any more are used again; tables that nobody needs go. */
void jrn_evac_ghosts(struct jrn_evac *e);

#endif
