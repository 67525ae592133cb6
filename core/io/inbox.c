/* inbox.c - how other threads reach a worker: tasks, calls, and a wake that costs nothing while it is awake.
 *
 * Tasks are pushed on a lock-free stack; the worker takes it whole and turns it round, which keeps the order of each
 * poster. A worker about to sleep first says so (sleeping = true) and then looks once more; a poster first pushes and
 * then looks whether it sleeps. Both are sequentially consistent, so one of the two always sees the other, and the
 * eventfd is written only for a worker that really sleeps (one wake costs 18 us). */
#include "worker_int.h"

#include <mqgate/obs.h>

#include <errno.h>
#include <semaphore.h>
#include <unistd.h>

static void inbox_kick(struct io_worker *w)
{
    if (!atomic_load(&w->sleeping) || !atomic_exchange(&w->sleeping, false))
        return;
    uint64_t one = 1;
    ssize_t n = write(w->wake_fd, &one, sizeof one);
    MQG_ASSERT(n == (ssize_t)sizeof one);
    mqg_count(MQG_COUNT_WORKER_WAKES, 1);
}

void mqg_worker_wake(struct mqg_worker *worker)
{
    struct io_worker *w = io_worker_of(worker);
    if (mqg_worker_self() == worker)
        w->again = true;
    else if (!atomic_exchange(&w->wake, true))
        inbox_kick(w);
}

void mqg_worker_post(struct mqg_worker *worker, struct mqg_task *task)
{
    struct io_worker *w = io_worker_of(worker);
    struct mqg_task *head = atomic_load_explicit(&w->inbox, memory_order_relaxed);
    do
        task->next = head;
    while (!atomic_compare_exchange_weak(&w->inbox, &head, task));
    if (head == NULL && mqg_worker_self() != worker)
        inbox_kick(w);
}

bool worker_inbox_empty(const struct io_worker *w)
{
    return atomic_load(&w->inbox) == NULL;
}

static struct mqg_task *inbox_reverse(struct mqg_task *task)
{
    struct mqg_task *first = NULL;
    while (task != NULL) {
        struct mqg_task *next = task->next;
        task->next = first;
        first = task;
        task = next;
    }
    return first;
}

/* Tasks that tasks post run in the next round of the turn, or in the next turn. */
bool worker_inbox_run(struct io_worker *w)
{
    if (worker_inbox_empty(w))
        return false;
    struct mqg_task *task = inbox_reverse(atomic_exchange(&w->inbox, NULL));
    while (task != NULL) {
        struct mqg_task *next = task->next; /* run may free the task */
        task->run(task);
        task = next;
    }
    return true;
}

/* ---- calls ------------------------------------------------------------------------------------------------------------ */

struct inbox_call {
    struct mqg_task task;
    void (*fn)(void *arg);
    void *arg;
    sem_t done;
};

static void inbox_call_run(struct mqg_task *task)
{
    struct inbox_call *call = MQG_CONTAINER_OF(task, struct inbox_call, task);
    call->fn(call->arg);
    sem_post(&call->done);
}

bool mqg_worker_call(struct mqg_worker *worker, void (*fn)(void *arg), void *arg)
{
    struct io_worker *w = io_worker_of(worker);
    struct mqg_worker *self = mqg_worker_self();
    if (self == worker) {
        fn(arg); /* a test's manual worker */
        return true;
    }
    MQG_ASSERT(self == NULL); /* workers that wait for each other may wait for ever */
    struct inbox_call call = {.task.run = inbox_call_run, .fn = fn, .arg = arg};
    sem_init(&call.done, 0, 0);
    pthread_mutex_lock(&w->call_lock);
    bool open = !w->closed;
    if (open)
        mqg_worker_post(worker, &call.task);
    pthread_mutex_unlock(&w->call_lock);
    while (open && sem_wait(&call.done) != 0)
        MQG_ASSERT(errno == EINTR);
    sem_destroy(&call.done);
    return open;
}

/* No call is posted after this; those before it are in the inbox. */
void worker_call_close(struct io_worker *w)
{
    pthread_mutex_lock(&w->call_lock);
    w->closed = true;
    pthread_mutex_unlock(&w->call_lock);
}
