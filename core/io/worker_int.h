/* worker_int.h - a worker as core/io sees it. */
#ifndef MQG_IO_WORKER_INT_H
#define MQG_IO_WORKER_INT_H

#include <mqgate/epoch.h>
#include <mqgate/worker.h>

#include <event2/event.h>
#include <pthread.h>

#define WORKER_MAGIC 0x776f726bu

struct conn_worker; /* conn_int.h: the connections of a worker */

struct timer_entry {
    uint64_t key_ms; /* when to look at it: not after it is due */
    struct mqg_timer *t;
};

struct io_worker {
    struct mqg_worker pub; /* first: pointers to it are pointers to this */
    struct mqg_epoch_reader *reader;
    pthread_t thread;
    bool threaded;
    struct event *wake_event, *sleep_event;
    int wake_fd;
    bool again; /* own thread: work is left, the next turn does not sleep */

    struct timer_entry *heap; /* timer.c */
    uint32_t ntimers, timers_cap;

    /* Written by other threads, so apart from what only the worker touches. */
    _Alignas(64) _Atomic(struct mqg_task *) inbox; /* newest first */
    _Atomic bool wake;                             /* somebody asked for a turn */
    _Atomic bool sleeping;                         /* or about to: the eventfd must be written */
    _Atomic bool stopping;
    pthread_mutex_t call_lock;
    bool closed; /* under call_lock: takes no more calls */
};

static inline struct io_worker *io_worker_of(struct mqg_worker *w)
{
    MQG_CHECK(w, WORKER_MAGIC);
    return (struct io_worker *)w;
}

/* inbox.c */
bool worker_inbox_empty(const struct io_worker *w);
bool worker_inbox_run(struct io_worker *w); /* true when a task ran */
void worker_call_close(struct io_worker *w);

/* timer.c */
bool worker_timers_run(struct io_worker *w);
uint64_t worker_timers_next_ms(const struct io_worker *w); /* UINT64_MAX when none */

#endif
