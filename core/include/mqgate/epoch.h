/* mqgate/epoch.h - freeing what others may still read, when they certainly no longer do.
 *
 * Readers of published roots (pmap.h) take no lock and count nothing. Each reader thread says once per turn
 * of its loop that it holds no such pointer now (quiescent); what was unlinked before all readers have said
 * so can be freed. The order of a writer: unlink (publish the new root), retire the old, reclaim now and
 * then.
 *
 * One domain per process. A reader that sleeps must go offline, else nothing is freed while it does. */
#ifndef MQGATE_EPOCH_H
#define MQGATE_EPOCH_H

#include <mqgate/base.h>

struct mqg_epoch_reader;

/* The calling thread becomes a reader, online. Unregister sets *r to NULL. Any thread; takes a lock. */
MQG_API struct mqg_epoch_reader *mqg_epoch_register(void);
MQG_API void mqg_epoch_unregister(struct mqg_epoch_reader **r);

/* All below with a reader: its own thread only. */

/* The reader holds no pointer got from a published root. Once per loop turn: two loads, seldom a store; no
 * lock. */
MQG_API void mqg_epoch_quiescent(struct mqg_epoch_reader *r);
/* Around a sleep: offline holds nothing up, and must not read published roots; online again before it does.
 */
MQG_API void mqg_epoch_offline(struct mqg_epoch_reader *r);
MQG_API void mqg_epoch_online(struct mqg_epoch_reader *r);

/* free_fn(ptr, arg) is called later, on the thread of some reclaim, without a lock: it may retire more. Call
 * after the unlinking. Any thread, reader or not. */
MQG_API void mqg_epoch_retire(void *ptr, void (*free_fn)(void *ptr, void *arg), void *arg);
/* Frees what no reader can hold any more; how many. Never waits; cheap when nothing is retired. Any thread; a
 * reader frees its own last turn's only after its next quiescent point. At the end, with all readers gone,
 * repeat it until 0. */
MQG_API size_t mqg_epoch_reclaim(void);
/* Retired and not yet freed, for the metrics. */
MQG_API size_t mqg_epoch_pending(void);

#endif
