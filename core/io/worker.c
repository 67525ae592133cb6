/* worker.c - worker threads and their turn.
 *
 * What a turn does, and in which order, is drawn in worker.h. libevent only says who is ready: its callbacks put
 * connections on a list, and the reading happens after the one clock reading of the turn. Phases run in rounds:
 * PUBLISH and DELIVER until neither finds work, then STORE and WRITE once, so that all that a turn caused leaves in one
 * batch and one writev. Rounds are bounded; what is left over keeps the worker from sleeping.
 *
 * The end of a worker is a turn too: connections are closed first (their handlers give back what they hold), phases
 * run to settle that, then the parts' stop hooks, then calls that still wait are answered. */
#include "conn_int.h"
#include "self.h"
#include "worker_int.h"

#include <mqgate/obs.h>

#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { WORKER_ROUNDS_MAX = 8, WORKER_HOOKS_MAX = 8, WORKER_STOP_TURNS = 3 };

/* Both: with NONBLOCK alone libevent goes round as long as something is ready, and level-triggered data stays ready. */
#define WORKER_POLL (EVLOOP_NONBLOCK | EVLOOP_ONCE)

struct worker_hook {
    void (*start)(struct mqg_worker *w);
    void (*stop)(struct mqg_worker *w);
};

static struct io_worker *workers[MQG_WORKERS_MAX];
static uint32_t worker_number;
static bool (*worker_phases[MQG_PHASE_COUNT])(struct mqg_worker *w);
static struct worker_hook worker_hooks[WORKER_HOOKS_MAX];
static size_t worker_nhooks;
static sem_t worker_started;

/* ---- registry ------------------------------------------------------------------------------------------------------------ */

uint32_t mqg_worker_count(void)
{
    return worker_number;
}

struct mqg_worker *mqg_worker_at(uint32_t index)
{
    MQG_ASSERT(index < worker_number);
    return &workers[index]->pub;
}

void mqg_worker_on_phase(enum mqg_phase phase, bool (*fn)(struct mqg_worker *w))
{
    MQG_ASSERT((size_t)phase < MQG_PHASE_COUNT);
    MQG_ASSERT(worker_phases[phase] == NULL || worker_phases[phase] == fn);
    worker_phases[phase] = fn;
}

void mqg_worker_on_start(void (*start)(struct mqg_worker *w), void (*stop)(struct mqg_worker *w))
{
    for (size_t i = 0; i < worker_nhooks; i++)
        if (worker_hooks[i].start == start && worker_hooks[i].stop == stop)
            return;
    MQG_ASSERT(worker_nhooks < WORKER_HOOKS_MAX);
    worker_hooks[worker_nhooks++] = (struct worker_hook){start, stop};
}

/* ---- the turn -------------------------------------------------------------------------------------------------------------- */

static bool worker_phase(struct io_worker *w, enum mqg_phase phase)
{
    return worker_phases[phase] != NULL && worker_phases[phase](&w->pub);
}

static bool worker_round(struct io_worker *w)
{
    bool any = false, more = true;
    for (int i = 0; i < WORKER_ROUNDS_MAX && more; i++) {
        more = worker_phase(w, MQG_PHASE_PUBLISH);
        more |= worker_phase(w, MQG_PHASE_DELIVER);
        any |= more;
    }
    any |= worker_phase(w, MQG_PHASE_STORE);
    any |= worker_phase(w, MQG_PHASE_WRITE);
    return any;
}

static void worker_run_phases(struct io_worker *w)
{
    bool more = true;
    for (int i = 0; i < WORKER_ROUNDS_MAX && more; i++)
        more = worker_round(w);
    w->again |= more;
}

/* How long to sleep: 0 not at all, -1 until something happens. */
static int64_t worker_sleep_ms(const struct io_worker *w, int timeout_ms)
{
    if (w->again || timeout_ms == 0)
        return 0;
    uint64_t due = worker_timers_next_ms(w);
    if (due == UINT64_MAX)
        return timeout_ms;
    uint64_t now = mqg_clock_now().mono_ms;
    int64_t ms = due > now ? (int64_t)(due - now) : 0;
    return timeout_ms < 0 || ms < timeout_ms ? ms : timeout_ms;
}

static void worker_sleep(struct io_worker *w, int64_t ms)
{
    if (ms > 0) {
        struct timeval tv = {.tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000 * 1000)};
        event_add(w->sleep_event, &tv);
    }
    mqg_epoch_offline(w->reader);
    event_base_loop(w->pub.base, EVLOOP_ONCE);
    mqg_epoch_online(w->reader);
    if (ms > 0)
        event_del(w->sleep_event);
}

/* Waits for readiness. Says that it sleeps before the last look, see inbox.c. */
static void worker_wait(struct io_worker *w, int timeout_ms)
{
    int64_t ms = worker_sleep_ms(w, timeout_ms);
    w->again = false;
    if (ms == 0) {
        event_base_loop(w->pub.base, WORKER_POLL);
        return;
    }
    atomic_store(&w->sleeping, true);
    if (worker_inbox_empty(w) && !atomic_load(&w->wake) && !atomic_load(&w->stopping))
        worker_sleep(w, ms);
    else
        event_base_loop(w->pub.base, WORKER_POLL);
    atomic_store(&w->sleeping, false);
}

void mqg_worker_turn(struct mqg_worker *worker, int timeout_ms)
{
    struct io_worker *w = io_worker_of(worker);
    MQG_ASSERT(mqg_worker_self() == worker);
    worker_wait(w, timeout_ms);
    atomic_exchange(&w->wake, false); /* an exchange: what was published before a wake is seen after it */
    w->pub.now = mqg_clock_now();
    w->pub.turn++;
    mqg_count(MQG_COUNT_TURNS, 1);
    conn_turn_begin(w);
    worker_timers_run(w);
    worker_inbox_run(w);
    worker_run_phases(w);
    conn_turn_end(w);
    if (!worker_inbox_empty(w))
        w->again = true;
    mqg_epoch_quiescent(w->reader);
    mqg_epoch_reclaim();
}

/* ---- life -------------------------------------------------------------------------------------------------------------------- */

static void worker_woken(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    (void)arg;
    uint64_t count;
    ssize_t n = read(fd, &count, sizeof count);
    MQG_ASSERT(n > 0 || errno == EAGAIN);
}

static void worker_slept(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg; /* its only use is to end the wait */
}

static struct event_base *worker_base_new(void)
{
    struct event_config *config = event_config_new();
    MQG_ASSERT(config != NULL);
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    struct event_base *base = event_base_new_with_config(config);
    event_config_free(config);
    return base;
}

static bool worker_events_init(struct io_worker *w)
{
    w->pub.base = worker_base_new();
    w->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (w->pub.base == NULL || w->wake_fd < 0)
        return false;
    w->wake_event = event_new(w->pub.base, w->wake_fd, EV_READ | EV_PERSIST, worker_woken, w);
    w->sleep_event = event_new(w->pub.base, -1, 0, worker_slept, w);
    return w->wake_event != NULL && w->sleep_event != NULL && event_add(w->wake_event, NULL) == 0;
}

static void worker_free(struct io_worker *w)
{
    conn_worker_free(w);
    if (w->wake_event != NULL)
        event_free(w->wake_event);
    if (w->sleep_event != NULL)
        event_free(w->sleep_event);
    if (w->pub.base != NULL)
        event_base_free(w->pub.base);
    if (w->wake_fd >= 0)
        close(w->wake_fd);
    pthread_mutex_destroy(&w->call_lock);
    free(w->heap);
    free(w);
}

static struct io_worker *worker_new(uint32_t index)
{
    struct io_worker *w = aligned_alloc(64, (sizeof *w + 63) / 64 * 64);
    MQG_ASSERT(w != NULL);
    memset(w, 0, sizeof *w);
    w->pub.magic = WORKER_MAGIC;
    w->pub.index = index;
    w->pub.now = mqg_clock_now();
    w->wake_fd = -1;
    pthread_mutex_init(&w->call_lock, NULL);
    conn_worker_init(w);
    if (worker_events_init(w))
        return w;
    worker_free(w);
    return NULL;
}

/* On the worker's own thread. */
static void worker_begin(struct io_worker *w)
{
    mqg_self_set(&w->pub);
    w->reader = mqg_epoch_register();
    w->pub.now = mqg_clock_now();
    for (size_t i = 0; i < worker_nhooks; i++)
        if (worker_hooks[i].start != NULL)
            worker_hooks[i].start(&w->pub);
}

static void worker_end(struct io_worker *w)
{
    conn_close_all(w);
    for (int i = 0; i < WORKER_STOP_TURNS; i++)
        mqg_worker_turn(&w->pub, 0);
    worker_call_close(w);
    for (size_t i = worker_nhooks; i > 0; i--)
        if (worker_hooks[i - 1].stop != NULL)
            worker_hooks[i - 1].stop(&w->pub);
    while (worker_inbox_run(w))
        continue;
    conn_close_all(w);
    mqg_epoch_unregister(&w->reader);
    mqg_self_set(NULL);
}

static void *worker_main(void *arg)
{
    struct io_worker *w = arg;
    char name[16];
    snprintf(name, sizeof name, "mqg-w%u", w->pub.index % 1000);
    pthread_setname_np(pthread_self(), name);
    worker_begin(w);
    sem_post(&worker_started);
    while (!atomic_load(&w->stopping))
        mqg_worker_turn(&w->pub, -1);
    worker_end(w);
    return NULL;
}

static void worker_dump_once(void)
{
    mqg_assert_on_fail(conn_dump, NULL);
}

enum mqg_err mqg_workers_init(uint32_t n, struct mqg_error *e)
{
    static pthread_once_t dump_once = PTHREAD_ONCE_INIT;
    pthread_once(&dump_once, worker_dump_once);
    MQG_ASSERT(worker_number == 0 && n > 0 && n <= MQG_WORKERS_MAX);
    signal(SIGPIPE, SIG_IGN); /* OpenSSL writes by write(2) */
    mqg_worker_on_phase(MQG_PHASE_WRITE, conn_write_phase);
    for (uint32_t i = 0; i < n; i++) {
        workers[i] = worker_new(i);
        if (workers[i] == NULL) {
            enum mqg_err err = mqg_error_set(e, MQG_IO, errno, "worker %u cannot be made: %s", i,
                                             strerror(errno));
            mqg_workers_fini();
            return err;
        }
        worker_number = i + 1;
    }
    return MQG_OK;
}

/* Signals are the main thread's: workers are born with all of them blocked. */
void mqg_workers_start(void)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    sem_init(&worker_started, 0, 0);
    for (uint32_t i = 0; i < worker_number; i++) {
        int rc = pthread_create(&workers[i]->thread, NULL, worker_main, workers[i]);
        MQG_ASSERT(rc == 0);
        workers[i]->threaded = true;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    for (uint32_t i = 0; i < worker_number;)
        if (sem_wait(&worker_started) == 0)
            i++;
    sem_destroy(&worker_started);
}

void mqg_workers_stop(void)
{
    for (uint32_t i = 0; i < worker_number; i++) {
        if (!workers[i]->threaded)
            continue;
        atomic_store(&workers[i]->stopping, true);
        mqg_worker_wake(&workers[i]->pub);
    }
    for (uint32_t i = 0; i < worker_number; i++) {
        if (workers[i]->threaded)
            pthread_join(workers[i]->thread, NULL);
        workers[i]->threaded = false;
    }
}

void mqg_workers_fini(void)
{
    mqg_workers_stop();
    for (uint32_t i = 0; i < worker_number; i++) {
        if (workers[i]->reader != NULL) /* a manual one, on this thread */
            worker_end(workers[i]);
        worker_free(workers[i]);
        workers[i] = NULL;
    }
    while (mqg_epoch_reclaim() > 0)
        continue;
    worker_number = 0;
    worker_nhooks = 0;
    memset(worker_phases, 0, sizeof worker_phases);
}

struct mqg_worker *mqg_worker_manual(void)
{
    struct mqg_error e;
    enum mqg_err err = mqg_workers_init(1, &e);
    MQG_ASSERT(err == MQG_OK);
    worker_begin(workers[0]);
    return &workers[0]->pub;
}
