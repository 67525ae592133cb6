/* heap.h - how much free memory the C library's heap may keep. */
#ifndef MQG_HOST_HEAP_H
#define MQG_HOST_HEAP_H

#include <stdint.h>

/* Sets the heap's bounds for a process with so many workers. Once, on the main thread, before any other thread is there: an
 * arena that exists stays. */
void heap_init(uint32_t workers);
/* Gives the system every free page of the heap. Holds up all threads that allocate, for milliseconds and more: only while nobody is
 * served. */
void heap_trim(void);

#endif
