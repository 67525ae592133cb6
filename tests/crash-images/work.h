/* work.h - the load that the power is cut under: queues, fan-out, settles, transactions, counts, streams, definitions,
 * large messages, and bodies that look like frames. */
#ifndef CI_WORK_H
#define CI_WORK_H

#include "ledger.h"

struct work;

struct work *work_new(struct ledger *l, struct told *t, uint64_t seed);
void work_free(struct work **w);
/* Does so many steps and waits for all confirms; false when the store failed. */
bool work_run(struct work *w, size_t steps);

#endif
