/* leave.h - segments that are let go: several at once, for each commit that says so costs the keeper a wait. */
#ifndef JRN_LEAVE_H
#define JRN_LEAVE_H

#include "evac.h"

struct jrn_leave;

struct jrn_leave *jrn_leave_new(struct mqg_store *s);
void jrn_leave_free(struct jrn_leave **l); /* the threads have ended */
void jrn_leave_start(struct jrn_leave *l); /* before the first turn */
void jrn_leave_stop(
    struct jrn_leave *l); /* any thread: what is under way ends soon, and nothing new is begun */
/* Lets go what may go, a few segments; false when there was none. Keeper's thread. */
bool jrn_leave_turn(struct jrn_leave *l);
/* Would more letting go make room? Any thread. */
bool jrn_leave_has_work(struct jrn_leave *l);
/* A file that no longer counts: used again or removed. Takes it. Keeper's thread. */
void jrn_leave_reuse(struct mqg_store *s, struct jrn_seg *seg);

#endif
