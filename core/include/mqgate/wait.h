/* wait.h - waiting on a condition variable with a time limit, on the monotonic clock: a wall clock that is set back an hour must not
 * make a wait an hour long. The real clock, always: mqg_clock_set does not move it.
 *
 *     mqg_cond_init(&c);
 *     struct timespec until = mqg_wait_until(500);
 *     while (!there && rc == 0)
 *         rc = pthread_cond_timedwait(&c, &lock, &until);  */
#ifndef MQGATE_WAIT_H
#define MQGATE_WAIT_H

#include <mqgate/base.h>

#include <pthread.h>
#include <time.h>

/* Instead of pthread_cond_init, for one that is waited on with a limit. */
MQG_API void mqg_cond_init(pthread_cond_t *c);
/* The moment that is ms milliseconds away, for pthread_cond_timedwait. Any thread. */
MQG_API struct timespec mqg_wait_until(uint64_t ms);

#endif
