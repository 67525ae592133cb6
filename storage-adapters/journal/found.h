/* found.h - what recovery collects while it reads the journal in log order, and gives out in the host's
 * order. */
#ifndef JRN_FOUND_H
#define JRN_FOUND_H

#include "journal.h"

struct jrn_found;

struct jrn_found *jrn_found_new(struct mqg_store *s);
void jrn_found_free(struct jrn_found **f);
/* Applies the records of a frame that was checked. UNSUPPORTED, CORRUPT: *e says which record. */
enum mqg_err jrn_found_frame(struct jrn_found *f, struct jrn_seg *seg, struct mqg_slice bytes,
                             const struct jrn_frame *frame, struct mqg_error *e) MQG_MUST_CHECK;
/* Tells everything: metadata, queues in qseq order; the streams are told by the caller. */
void jrn_found_tell(struct jrn_found *f, struct mqg_recover *r);
uint64_t jrn_found_messages(const struct jrn_found *f); /* told */

#endif
