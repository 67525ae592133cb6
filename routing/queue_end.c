/* routing/queue_end.c - purging a queue, and its end.
 *
 * Both answer their counts at once. What a purge finds in memory goes at once too; an ended queue lets go of its entries a slice
 * per turn, and spans are read back in slices by themselves (queue_span.c). An ended queue takes nothing more, cancels its
 * consumers and lives on until the last reference is given back. */
#include "queue_int.h"
#include "stream_int.h"

#include <stdlib.h>

#define QUEUE_REAP_SLICE 4096

uint64_t queue_purge(struct mqg_queue *q)
{
    struct queue_work w;
    queue_lock(q, &w);
    uint64_t n = q->ready;
    queue_span_doom_all(&w);
    for (uint32_t prio = 0; prio < q->nfifos; prio++) {
        uint64_t pos;
        struct entry *e;
        while ((e = fifo_head(&q->fifos[prio], &pos)) != NULL)
            queue_drop(&w, prio, pos, e);
    }
    q->last_used_ms = w.pub->worker->now.mono_ms;
    queue_unlock(&w);
    return n;
}

/* Lets go of a dead queue's entries, a slice per turn, so that a long queue does not stall its worker. */
static bool queue_reap_slice(struct queue_work *w)
{
    struct mqg_queue *q = w->queue;
    uint32_t n = 0;
    for (uint32_t prio = 0; prio < q->nfifos; prio++) {
        uint64_t pos = 0;
        struct entry *e;
        while ((e = fifo_next_live(&q->fifos[prio], &pos)) != NULL) {
            if (n++ == QUEUE_REAP_SLICE)
                return true;
            queue_drop(w, prio, pos, e);
        }
    }
    return false;
}

struct reaper {
    struct mqg_task task;
    struct mqg_queue *queue;
};

static void queue_reap(struct mqg_task *task)
{
    struct reaper *r = MQG_CONTAINER_OF(task, struct reaper, task);
    struct queue_work w;
    queue_lock(r->queue, &w);
    bool more = queue_reap_slice(&w);
    queue_unlock(&w);
    if (more) {
        mqg_worker_post(mqg_worker_self(), task);
        return;
    }
    mqg_queue_unref(&r->queue);
    free(r);
}

static enum mqg_err queue_end_check(struct mqg_queue *q, bool if_unused, bool if_empty, uint64_t held,
                                    struct mqg_error *e)
{
    struct mqg_slice vhost = mqg_vhost_name(q->vhost);
    if (q->ended)
        return MQG_GONE;
    if (if_unused && q->nsubs > 0)
        return mqg_error_set(e, MQG_IN_USE, 406, "queue '%.*s' in vhost '%.*s' in use",
                             MQG_SLICE_FMT(q->def.name), MQG_SLICE_FMT(vhost));
    if (if_empty && held > 0)
        return mqg_error_set(e, MQG_NOT_EMPTY, 406, "queue '%.*s' in vhost '%.*s' not empty",
                             MQG_SLICE_FMT(q->def.name), MQG_SLICE_FMT(vhost));
    return MQG_OK;
}

enum mqg_err queue_end(struct mqg_queue *q, bool if_unused, bool if_empty, uint64_t *messages,
                       struct mqg_error *e)
{
    struct queue_work w;
    uint64_t held = q->stream ? stream_messages(q->stream) : 0;
    queue_lock(q, &w);
    held = q->stream ? held : q->ready;
    enum mqg_err err = queue_end_check(q, if_unused, if_empty, held, e);
    if (err != MQG_OK) {
        queue_unlock(&w);
        return err;
    }
    *messages = held;
    q->ended = true;
    queue_span_doom_all(&w);
    queue_disarm(q);
    struct mqg_sub *s;
    TAILQ_FOREACH (s, &q->subs, all) {
        sub_make_unavailable(s);
        atomic_store_explicit(&s->cancelled, true, memory_order_release);
        queue_schedule(&w, s);
    }
    queue_unlock(&w);
    queue_gets_fail(q);
    if (q->stream)
        stream_end(q->stream);
    struct reaper *r = mqg_xcalloc(1, sizeof(*r));
    r->task.run = queue_reap;
    r->queue = mqg_queue_ref(q);
    mqg_worker_post(mqg_worker_self(), &r->task);
    return MQG_OK;
}
