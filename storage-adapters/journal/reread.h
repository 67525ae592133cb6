/* reread.h - the keeper reads a segment once more, frame by frame. */
#ifndef JRN_REREAD_H
#define JRN_REREAD_H

#include "journal.h"

/* A frame that was checked stands at off; bytes are borrowed. false: enough. */
typedef bool (*jrn_reread_fn)(void *arg, uint64_t off, struct mqg_slice bytes);

/* Reads [header, end) in windows. false: not readable, which is logged (the file is to be kept), or fn had enough. */
bool jrn_reread(struct mqg_store *s, struct jrn_seg *seg, jrn_reread_fn fn, void *arg);

#endif
