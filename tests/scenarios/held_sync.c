/* held_sync.c - a disk that does not get done: preloaded into a gateway, each fsync and fdatasync waits while there is a file
 * HELD_SYNC. */
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { HELD_LOOK_MS = 10 };

__attribute__((visibility("default"))) int fsync(int fd);
__attribute__((visibility("default"))) int fdatasync(int fd);

static void held_wait(void)
{
    const char *file = getenv("HELD_SYNC");
    while (file && access(file, F_OK) == 0)
        nanosleep(&(struct timespec){0, HELD_LOOK_MS * 1000000L}, NULL);
}

static int held_call(const char *name, int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    held_wait();
    return real(fd);
}

int fsync(int fd)
{
    return held_call("fsync", fd);
}

int fdatasync(int fd)
{
    return held_call("fdatasync", fd);
}
