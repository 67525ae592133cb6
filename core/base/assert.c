/* assert.c - how the process dies of its own bug.
 *
 * A broken invariant means that our picture of the state is wrong; going on would write that picture to disk.
 * So asserts are never compiled out, and a crash explains itself: whoever keeps a table registers a dump of
 * it. The dumps run in the dying thread, without locks, hence they only read; a dump that fails itself ends
 * the process at once. Output goes by write(2) because stdio's locks may be held by the very code that
 * failed. */
#include <mqgate/base.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { ASSERT_DUMPS_MAX = 16, ASSERT_LINE_BYTES = 1024 };

struct assert_dump {
    _Atomic bool ready; /* set last: the other fields are then readable from any thread */
    void (*dump)(int fd, void *arg);
    void *arg;
};

static struct assert_dump assert_dumps[ASSERT_DUMPS_MAX];
static _Atomic uint32_t assert_dump_count;
static _Atomic bool assert_failing;
static _Thread_local bool assert_failing_here;

static void assert_print(const char *expr, const char *file, int line, const char *func)
{
    char text[ASSERT_LINE_BYTES];
    int n = snprintf(text, sizeof text, "assert failed: %s at %s:%d in %s\n", expr, file, line, func);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    ssize_t written = write(STDERR_FILENO, text, len);
    (void)written; /* nothing is left to do about it */
}

static void assert_dump_all(void)
{
    for (size_t i = 0; i < ASSERT_DUMPS_MAX; i++)
        if (atomic_load_explicit(&assert_dumps[i].ready, memory_order_acquire))
            assert_dumps[i].dump(STDERR_FILENO, assert_dumps[i].arg);
}

void mqg_assert_fail(const char *expr, const char *file, int line, const char *func)
{
    assert_print(expr, file, line, func);
    if (assert_failing_here)
        abort(); /* inside a dump */
    assert_failing_here = true;
    if (atomic_exchange(&assert_failing, true))
        for (;;)
            pause(); /* another thread is dumping already and ends us all */
    assert_dump_all();
    abort();
}

void mqg_assert_on_fail(void (*dump)(int fd, void *arg), void *arg)
{
    uint32_t i = atomic_fetch_add(&assert_dump_count, 1);
    MQG_ASSERT(dump != NULL && i < ASSERT_DUMPS_MAX);
    assert_dumps[i].dump = dump;
    assert_dumps[i].arg = arg;
    atomic_store_explicit(&assert_dumps[i].ready, true, memory_order_release);
}
