/* shifted_clock.c - another day: preloaded into a gateway, the wall clock is SHIFT_S seconds ahead. What is measured by the
 * monotonic clock is left alone. */
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

__attribute__((visibility("default"))) int clock_gettime(clockid_t id, struct timespec *at);

static int (*real_gettime)(clockid_t, struct timespec *);
static long shift_s;

__attribute__((constructor)) static void shift_begin(void)
{
    const char *text = getenv("SHIFT_S");
    real_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    shift_s = text ? strtol(text, NULL, 10) : 0;
}

int clock_gettime(clockid_t id, struct timespec *at)
{
    if (!real_gettime)
        shift_begin();
    int r = real_gettime(id, at);
    if (r == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        at->tv_sec += shift_s;
    return r;
}
