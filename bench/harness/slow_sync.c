/* slow_sync.c - fsync as slow disks have it: preloaded into a server, each fsync and fdatasync takes SLOW_SYNC_US longer.
 *
 * The same library for every server, below whatever it is written in, so that nobody's sync is slower than another's. */
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

int fsync(int fd);
int fdatasync(int fd);

static void slow_wait(void)
{
    const char *text = getenv("SLOW_SYNC_US");
    long us = text ? strtol(text, NULL, 10) : 0;
    struct timespec left = {us / 1000000, us % 1000000 * 1000};
    while (us > 0 && nanosleep(&left, &left) != 0) {
    }
}

static int slow_call(const char *name, int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    slow_wait();
    return real(fd);
}

int fsync(int fd)
{
    return slow_call("fsync", fd);
}

int fdatasync(int fd)
{
    return slow_call("fdatasync", fd);
}
