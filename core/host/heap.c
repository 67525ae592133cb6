/* heap.c - free memory goes back to the system, but not between two messages.
 *
 * glibc's heap is made to be fast, and left alone it learns from what is freed: a block of 10 MB that was mapped by itself raises the
 * size from which blocks are mapped to 10 MB, and what each arena keeps free at its top to twice that; and each thread may have an
 * arena. A gateway has bursts of buffers of some MiB (a Kafka request, a lane's chunk), made by one thread and freed by another. So
 * after a load over 1,000 partitions 5 MB were in use and 60 MB were kept.
 *
 * Setting the bounds ends the learning. A request of 1 MiB with its head, which is what clients send at most by default, stays below
 * them: smaller bounds would give back and fetch again the pages of each, and a page costs about what a small message costs. There
 * is one arena for each worker and one for all other threads: in an arena freed memory waits for threads that ask the same one. */
#include "heap.h"

#ifdef __GLIBC__
#include <malloc.h>

enum {
    HEAP_MAPPED_BYTES =
        3 << 19, /* larger blocks are mapped by themselves: their end is the system's gain at once */
    HEAP_KEPT_BYTES = 2 << 20 /* free at an arena's top at most */
};

void heap_init(uint32_t workers)
{
    (void)mallopt(M_MMAP_THRESHOLD, HEAP_MAPPED_BYTES);
    (void)mallopt(M_TRIM_THRESHOLD, HEAP_KEPT_BYTES);
    (void)mallopt(M_ARENA_MAX, (int)workers + 1);
}

void heap_trim(void)
{
    (void)malloc_trim(0);
}

#else

void heap_init(uint32_t workers)
{
    (void)workers;
}

void heap_trim(void)
{
}

#endif
