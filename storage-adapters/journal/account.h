/* account.h - who uses the disk: what of each segment and queue is live.
 *
 * Two kinds of knowledge. **For sure settled**: ranges that a durable SETTLE names (kept per queue, journal.h); the host
 * settles in memory first, and a settle that belongs to a group may be lost with its group in a crash, so only these may
 * be left out when a segment is evacuated. **Live**: for each queue with messages in a segment, their number and bytes less
 * what is settled in their span, which is right but for qseqs of the span that stand in a neighbour segment; the keeper
 * looks at it each turn, and evacuation counts exactly before it moves anything. */
#ifndef JRN_ACCOUNT_H
#define JRN_ACCOUNT_H

#include "journal.h"

void jrn_account_fini(struct mqg_store *s);
/* The chunk is durable: what it settles is settled for sure. Committer. */
void jrn_account_settled(struct mqg_store *s, const struct jrn_chunk *c);
/* The same, as recovery found it. */
void jrn_account_found(struct mqg_store *s, uint64_t queue_id, uint64_t first, uint64_t last);
/* Under seg_lock. */
bool jrn_account_is_settled(const struct mqg_store *s, uint64_t queue_id, uint64_t qseq);
/* How many messages of the segment are not settled for sure, as the estimate has it. Under seg_lock. */
uint64_t jrn_account_live(const struct mqg_store *s, const struct jrn_seg *seg);
/* Estimates live bytes and messages of all segments, a bounded number of queues per call. Keeper. */
void jrn_account_look(struct mqg_store *s);
/* The same for segments nobody has looked at for a while, few queues, under one hold of the lock. Committer. */
void jrn_account_glance(struct mqg_store *s);
/* Forgets what is settled of queues that have no message in any segment, some per call. Keeper. */
void jrn_account_sweep(struct mqg_store *s);
/* For the table. */
void jrn_account_segments(struct mqg_store *s, mqg_store_segment_fn fn, void *arg);
bool jrn_account_queue(struct mqg_store *s, uint64_t queue_id, struct mqg_store_usage *out);

#endif
