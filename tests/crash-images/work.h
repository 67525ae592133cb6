/* work.h - the load that the power is cut under: queues, fan-out, settles, transactions, counts, definitions, entries that are
 * forgotten, transient messages put aside, streams with retention and compaction,
 * large messages, and bodies that look like frames. */
#ifndef CI_WORK_H
#define CI_WORK_H

#include "ledger.h"

struct work;

/* What all loads so far did, so that a run can say that it was there. */
struct work_counts {
    uint64_t forgotten, recalled, purged, aside,
        retained; /* retained: starts that the store itself had moved, as seen */
};
extern struct work_counts work_counts;

struct work *work_new(struct ledger *l, struct told *t, uint64_t seed);
void work_free(struct work **w);
/* Does so many steps and waits for all confirms; false when the store failed. */
bool work_run(struct work *w, size_t steps);
/* Deletes all partitions but one, and waits for that. */
bool work_delete_parts(struct work *w);

#endif
