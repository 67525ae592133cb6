/* slow_read.c - reads as slow disks have them: preloaded into a gateway, each preadv2 (all that the journal reads by) takes
 * SLOW_READ_US longer per MiB asked for; and when SLOW_READ_HOLD_BYTES were asked for, each waits while there is a file
 * SLOW_READ_HOLD. */
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { SLOW_LOOK_MS = 20 };

static atomic_llong slow_bytes; /* asked for so far */

/* preadv2, by the name it has where offsets have 64 bits. */
__attribute__((visibility("default"))) ssize_t preadv64v2(int fd, const struct iovec *iov, int n, off_t off,
                                                          int flags);

static long long slow_number(const char *name)
{
    const char *text = getenv(name);
    return text ? strtoll(text, NULL, 10) : 0;
}

static void slow_sleep_us(long long us)
{
    struct timespec left = {us / 1000000, us % 1000000 * 1000};
    while (us > 0 && nanosleep(&left, &left) != 0) {
    }
}

static void slow_hold(long long bytes)
{
    const char *file = getenv("SLOW_READ_HOLD");
    if (atomic_fetch_add(&slow_bytes, bytes) < slow_number("SLOW_READ_HOLD_BYTES"))
        return;
    while (file && access(file, F_OK) == 0)
        slow_sleep_us(SLOW_LOOK_MS * 1000);
}

ssize_t preadv64v2(int fd, const struct iovec *iov, int n, off_t off, int flags)
{
    ssize_t (*real)(int, const struct iovec *, int, off_t, int) = (ssize_t(*)(
        int, const struct iovec *, int, off_t, int))dlsym(RTLD_NEXT, "preadv64v2");
    long long bytes = 0;
    for (int i = 0; i < n; i++)
        bytes += (long long)iov[i].iov_len;
    slow_sleep_us(slow_number("SLOW_READ_US") * bytes >> 20);
    slow_hold(bytes);
    return real(fd, iov, n, off, flags);
}
