/* random.c - bytes that nobody can guess, straight from the kernel.
 *
 * getrandom blocks only before the kernel's pool is first filled, and is interrupted by signals only for
 * requests over 256 bytes; the loop is for both. A kernel without it is one that we do not run on, hence the
 * assert. */
#include <mqgate/base.h>

#include <errno.h>
#include <sys/random.h>

void mqg_random_bytes(void *ptr, size_t n)
{
    uint8_t *at = ptr;
    while (n > 0) {
        ssize_t got = getrandom(at, n, 0);
        MQG_ASSERT(got > 0 || errno == EINTR);
        if (got > 0) {
            at += got;
            n -= (size_t)got;
        }
    }
}

uint64_t mqg_random_u64(void)
{
    uint64_t v;
    mqg_random_bytes(&v, sizeof v);
    return v;
}
