/* stream_wait.c - waiting until a partition has more.
 *
 * Every worker keeps its waiters in a list that nobody else touches. What threads share is two flags per worker and the lowest
 * offset that the store was asked for, so an idle partition with a thousand parked consumers costs one question to the store
 * and memory. When the store answers, each worker that waits gets one task; it fires those whose offset was passed and asks
 * again for the others.
 *
 * The order of steps makes a wake-up that nobody hears impossible: a waiter arms its worker first and looks at `asked` after;
 * the store's answer clears `asked` first and looks at who is armed after. */
#include "stream_int.h"

#include <stdlib.h>

void partition_waits_init(struct mqg_partition *p)
{
    p->workers = mqg_xcalloc(mqg_worker_count(), sizeof(*p->workers));
    for (uint32_t i = 0; i < mqg_worker_count(); i++)
        p->workers[i].partition = p;
}

void partition_waits_fini(struct mqg_partition *p)
{
    for (uint32_t i = 0; i < mqg_worker_count(); i++)
        MQG_ASSERT(p->workers[i].waits == NULL);
    free(p->workers);
    p->workers = NULL;
}

/* ---- the list of a worker ----------------------------------------------------------------------------------------------- */

static struct part_worker *wait_worker(struct mqg_partition *p)
{
    return &p->workers[mqg_worker_self()->index];
}

static void wait_link(struct mqg_partition_wait **list, struct mqg_partition_wait *w)
{
    w->next = *list;
    w->prev = list;
    if (w->next != NULL)
        w->next->prev = &w->next;
    *list = w;
}

static void wait_unlink(struct mqg_partition_wait *w)
{
    *w->prev = w->next;
    if (w->next != NULL)
        w->next->prev = w->prev;
    w->next = NULL;
    w->prev = NULL;
}

/* ---- asking and being told ---------------------------------------------------------------------------------------------- */

static void partition_ask(struct mqg_partition *p, uint64_t offset)
{
    struct mqg_storage *s = p->stream->storage;
    pthread_mutex_lock(&p->lock);
    bool ended = atomic_load_explicit(&p->ended, memory_order_relaxed);
    bool ask = !ended && offset < p->asked;
    if (ask)
        p->asked = offset;
    pthread_mutex_unlock(&p->lock);
    if (ask)
        s->ops->stream_wait(s->store, p->id, offset);
    if (ended)
        partition_tell(p);
}

static void wait_fire(struct mqg_partition *p, struct mqg_partition_wait *w, enum mqg_err err)
{
    struct mqg_queue *q = p->stream->queue;
    wait_unlink(w);
    w->partition = NULL;
    w->fire(w, err);
    mqg_queue_unref(&q);
}

/* On the worker that waits. A fired waiter may take others back or wait again, so the list is walked from its front. */
static void wait_run(struct mqg_task *task)
{
    struct part_worker *pw = MQG_CONTAINER_OF(task, struct part_worker, task);
    struct mqg_partition *p = pw->partition;
    struct mqg_queue *q = p->stream->queue; /* the task's reference */
    struct mqg_stream_bounds b;
    struct mqg_partition_wait *todo = pw->waits;
    uint64_t lowest = MQG_STREAM_NONE;
    atomic_store_explicit(&pw->posted, false, memory_order_seq_cst);
    enum mqg_err err = mqg_partition_bounds(p, &b);
    pw->waits = NULL;
    if (todo != NULL)
        todo->prev = &todo;
    while (todo != NULL) {
        struct mqg_partition_wait *w = todo;
        if (err != MQG_OK || b.high_watermark > w->offset) {
            wait_fire(p, w, err != MQG_OK ? MQG_GONE : MQG_OK);
            continue;
        }
        wait_unlink(w);
        wait_link(&pw->waits, w);
        lowest = w->offset < lowest ? w->offset : lowest;
    }
    if (lowest != MQG_STREAM_NONE) {
        atomic_store_explicit(&pw->armed, true, memory_order_seq_cst);
        partition_ask(p, lowest);
    }
    mqg_queue_unref(&q);
}

void partition_tell(struct mqg_partition *p)
{
    pthread_mutex_lock(&p->lock);
    p->asked = MQG_STREAM_NONE;
    pthread_mutex_unlock(&p->lock);
    for (uint32_t i = 0; i < mqg_worker_count(); i++) {
        struct part_worker *pw = &p->workers[i];
        if (!atomic_exchange_explicit(&pw->armed, false, memory_order_seq_cst) ||
            atomic_exchange_explicit(&pw->posted, true, memory_order_seq_cst))
            continue;
        mqg_queue_ref(p->stream->queue);
        pw->task.run = wait_run;
        mqg_worker_post(mqg_worker_at(i), &pw->task);
    }
}

void mqg_routing_stream_ready(uint64_t partition)
{
    struct mqg_partition *p = stream_partition_find(partition);
    if (p == NULL)
        return;
    struct mqg_queue *q = p->stream->queue;
    partition_tell(p);
    mqg_queue_unref(&q);
}

void mqg_partition_wait(struct mqg_partition *p, struct mqg_partition_wait *w, uint64_t offset)
{
    MQG_CHECK(p, PARTITION_MAGIC);
    MQG_ASSERT(w->partition == NULL);
    struct part_worker *pw = wait_worker(p);
    mqg_queue_ref(p->stream->queue);
    w->partition = p;
    w->offset = offset;
    wait_link(&pw->waits, w);
    atomic_store_explicit(&pw->armed, true, memory_order_seq_cst);
    partition_ask(p, offset);
}

void mqg_partition_unwait(struct mqg_partition_wait *w)
{
    struct mqg_partition *p = w->partition;
    if (p == NULL)
        return;
    struct mqg_queue *q = p->stream->queue;
    wait_unlink(w);
    w->partition = NULL;
    mqg_queue_unref(&q);
}
