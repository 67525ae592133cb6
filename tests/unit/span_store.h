/* span_store.h - a store for tests that remembers forgotten entries: in memory, as honest as it can be made.
 *
 * What is submitted is durable at once; loads and index reads are answered on a thread of its own. Metadata and messages
 * outlive the store's close, so that a node can be started again over them. It asserts the table's rules: nothing is forgotten
 * twice, read back twice, or settled while it is forgotten. */
#ifndef SPAN_STORE_H
#define SPAN_STORE_H

#include <mqgate/store.h>

extern const struct mqg_store_ops span_store_ops;

void span_store_reset(void);           /* all is gone: a new folder */
void span_store_unclean(bool unclean); /* what the next recovery says */
size_t span_store_live(void);          /* messages not settled */
size_t span_store_forgotten(void);
int64_t span_store_extents(void); /* live counts of all extents: messages in the host's hands or forgotten */
void span_store_hold(bool hold);  /* answers wait */
bool span_store_waiting(void);    /* something is asked for and held */
/* Index reads that meet these qseq counters (low 48 bits) fail from there on. 0: none. */
void span_store_break(uint64_t first, uint64_t last);

#endif
