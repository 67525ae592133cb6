/* wait.c - see wait.h. */
#include <mqgate/wait.h>

void mqg_cond_init(pthread_cond_t *c)
{
    pthread_condattr_t attr;
    int rc = pthread_condattr_init(&attr);
    rc = rc == 0 ? pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) : rc;
    rc = rc == 0 ? pthread_cond_init(c, &attr) : rc;
    MQG_ASSERT(rc == 0);
    pthread_condattr_destroy(&attr);
}

struct timespec mqg_wait_until(uint64_t ms)
{
    struct timespec t;
    int rc = clock_gettime(CLOCK_MONOTONIC, &t);
    MQG_ASSERT(rc == 0);
    t.tv_nsec += (long)(ms % 1000) * 1000000;
    t.tv_sec += (time_t)(ms / 1000) + t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}
