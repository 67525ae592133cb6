/* scratch.h - transient messages that memory has no room for, on the disk without any promise (scratch.c). */
#ifndef JRN_SCRATCH_H
#define JRN_SCRATCH_H

#include "journal.h"

struct jrn_scratch;

struct jrn_scratch *jrn_scratch_new(struct mqg_store *s);
int jrn_scratch_start(struct jrn_scratch *x); /* 0 or -errno */
void jrn_scratch_stop(struct jrn_scratch *x); /* what waits is answered: not taken */
void jrn_scratch_free(struct jrn_scratch **x);
/* Any thread. Answers on the scratch thread. */
void jrn_scratch_put(struct mqg_store *s, struct mqg_scratch_req *req);
/* Bytes on the disk, for tests and the crash dump. */
uint64_t jrn_scratch_bytes(const struct jrn_scratch *x);

#endif
