/* mqgate/worker.h - worker threads: one loop turn, what happens in it, and how threads talk.
 *
 * One worker per core, each with one libevent base; whatever belongs to a worker (its connections, channels, subscriptions)
 * is touched by that worker only. A turn:
 *
 *   wait for events -> clock reading -> readable connections: input -> timers -> inbox (tasks of other threads)
 *   -> flush phases in order: PUBLISH (queues take what was published, consumers' rings fill), DELIVER (rings of this
 *      worker's subscriptions are written to connections), STORE (one submit per store), WRITE (one writev per dirty
 *      connection) -> quiescent point (epochs) -> sleep only if nothing is left to do
 *
 * Phases repeat until none has work (bounded), so that a publish to a consumer on the same worker is delivered in the turn.
 * An eventfd is written only if the target worker sleeps. */
#ifndef MQGATE_WORKER_H
#define MQGATE_WORKER_H

#include <mqgate/base.h>

#define MQG_WORKERS_MAX 64
/* Lanes: one per worker, and one for the main thread's own commands (index nworkers). */
#define MQG_LANES_MAX   (MQG_WORKERS_MAX + 1)

struct event_base;

struct mqg_worker {
    uint32_t magic;
    uint32_t index; /* also its lane */
    struct event_base *base;
    struct mqg_time now; /* one reading per turn */
    uint64_t turn;
    void *routing; /* per-worker state of routing/ */
    void *store;   /* per-worker state of core/store (lanes) */
    void *io;      /* per-worker state of core/io */
};

/* The calling thread's worker, NULL on other threads. One TLS load. */
MQG_API struct mqg_worker *mqg_worker_self(void);
MQG_API uint32_t mqg_worker_count(void);
MQG_API struct mqg_worker *mqg_worker_at(uint32_t index);

/* ---- tasks: run something on another worker --------------------------------------------------------------------- */

/* Intrusive; must not be posted again before it has run. Order per posting thread is kept. */
struct mqg_task {
    struct mqg_task *next;
    void (*run)(struct mqg_task *task);
};

/* Any thread. Wakes the worker only if it sleeps. Posting to oneself runs it later in this turn. */
MQG_API void mqg_worker_post(struct mqg_worker *w, struct mqg_task *task);
/* Any thread, not a worker: runs fn on the worker and waits for it (admin). false when the worker is stopping. */
MQG_API bool mqg_worker_call(struct mqg_worker *w, void (*fn)(void *arg), void *arg);

/* ---- flush phases ------------------------------------------------------------------------------------------------- */

enum mqg_phase { MQG_PHASE_PUBLISH, MQG_PHASE_DELIVER, MQG_PHASE_STORE, MQG_PHASE_WRITE, MQG_PHASE_COUNT };

/* Registers what a phase does; before workers start, one function per phase. Returns true when it did something (then the
 * phases run once more). */
MQG_API void mqg_worker_on_phase(enum mqg_phase phase, bool (*fn)(struct mqg_worker *w));
/* Called on each worker's own thread at its start and end. */
MQG_API void mqg_worker_on_start(void (*start)(struct mqg_worker *w), void (*stop)(struct mqg_worker *w));
/* Any thread: makes sure the worker takes another turn soon (an MPSC list of somebody's got an entry). */
MQG_API void mqg_worker_wake(struct mqg_worker *w);

/* ---- timers ---------------------------------------------------------------------------------------------------------- */

/* Embedded in its owner. Belongs to one worker; all calls on that worker. Fires once, never early, by monotonic ms. */
struct mqg_timer {
    uint64_t due_ms; /* 0: not armed */
    uint32_t slot;   /* the heap's */
    void (*fire)(struct mqg_timer *t);
};

MQG_API void mqg_timer_init(struct mqg_timer *t, void (*fire)(struct mqg_timer *t));
/* Arms, or moves. */
MQG_API void mqg_timer_at(struct mqg_timer *t, uint64_t due_mono_ms);
MQG_API void mqg_timer_in(struct mqg_timer *t, uint64_t delay_ms);
MQG_API void mqg_timer_cancel(struct mqg_timer *t);

/* ---- start and stop (host/main and tests) ------------------------------------------------------------------------------ */

MQG_API enum mqg_err mqg_workers_init(uint32_t n, struct mqg_error *e);
MQG_API void mqg_workers_start(void);
MQG_API void mqg_workers_stop(void); /* after their present turn; joins */
MQG_API void mqg_workers_fini(void);
/* Tests: one worker without a thread, turned by hand on the calling thread; timeout 0 = do not wait. */
MQG_API struct mqg_worker *mqg_worker_manual(void);
MQG_API void mqg_worker_turn(struct mqg_worker *w, int timeout_ms);

#endif
