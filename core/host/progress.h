/* progress.h - how far a start has come; the setting side of mqg_node_progress. All on the main thread. */
#ifndef MQG_HOST_PROGRESS_H
#define MQG_HOST_PROGRESS_H

#include <mqgate/host.h>

void progress_phase(const char *phase); /* static storage */
/* So much of the store has been read. */
void progress_reading(const char *store, uint64_t done_bytes, uint64_t all_bytes);
/* The store that was read last is read; it tells what was in it. Cheap: called for each record. */
void progress_building(void);
/* So many messages more; how many in all. Cheap: called for each. */
uint64_t progress_built(uint64_t messages);

#endif
