/* The loop that drives publishers and consumers of one process, and the report. */
#ifndef MQGATE_BENCH_LOAD_RUN_H
#define MQGATE_BENCH_LOAD_RUN_H

#include "load_job.h"

/* Publishes and/or consumes as the job says, prints one JSON line. The process's exit code: 0 if every
 * message that was published came to every queue once and in order. */
int load_run(const struct load_job *job);

/* Opens job->idle connections and holds them until a line or end of file comes on stdin. */
int load_idle(const struct load_job *job);

/* Prints {"ready":true...} and waits for a line on stdin, if the job says so. */
void load_wait_for_go(const struct load_job *job, const char *text);

#endif
