/* slow_read.c - reads as slow disks have them: preloaded into a gateway, each preadv2 (all that the journal reads by) takes
 * SLOW_READ_US longer per MiB asked for. */
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <time.h>

/* preadv2, by the name it has where offsets have 64 bits. */
__attribute__((visibility("default"))) ssize_t preadv64v2(int fd, const struct iovec *iov, int n, off_t off,
                                                          int flags);

static void slow_wait(const struct iovec *iov, int n)
{
    const char *text = getenv("SLOW_READ_US");
    long long us = text ? strtoll(text, NULL, 10) : 0, bytes = 0;
    for (int i = 0; i < n; i++)
        bytes += (long long)iov[i].iov_len;
    us = us * bytes >> 20;
    struct timespec left = {us / 1000000, us % 1000000 * 1000};
    while (us > 0 && nanosleep(&left, &left) != 0) {
    }
}

ssize_t preadv64v2(int fd, const struct iovec *iov, int n, off_t off, int flags)
{
    ssize_t (*real)(int, const struct iovec *, int, off_t, int) = (ssize_t(*)(
        int, const struct iovec *, int, off_t, int))dlsym(RTLD_NEXT, "preadv64v2");
    slow_wait(iov, n);
    return real(fd, iov, n, off, flags);
}
