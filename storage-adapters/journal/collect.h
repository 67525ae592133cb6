/* collect.h - a digest in the making: frames of one segment go in, in order, a digest comes out. Any thread, one at a time. */
#ifndef JRN_COLLECT_H
#define JRN_COLLECT_H

#include "digest.h"

struct jrn_collect;

/* row_min: fewer entries of a queue are no row. */
struct jrn_collect *jrn_collect_new(uint32_t row_min);
void jrn_collect_free(struct jrn_collect **c);
/* Takes the records of a frame that was checked, all or none. UNSUPPORTED, CORRUPT: *e says which record of `name`. */
enum mqg_err jrn_collect_frame(struct jrn_collect *c, const char *name, struct mqg_slice bytes,
                               const struct jrn_use *use, const struct jrn_frame *frame,
                               struct mqg_error *e) MQG_MUST_CHECK;
/* Moves everything into *d, which is a fresh one; pages stand in d->pages. NO_SPACE: more than a digest can hold. */
enum mqg_err jrn_collect_end(struct jrn_collect *c, struct jrn_digest *d) MQG_MUST_CHECK;

#endif
