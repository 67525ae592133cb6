/* routing/queue_expire.c - time and length: messages that expire, heads that overflow, queues that nobody uses.
 *
 * A message expires at the head of its queue (RabbitMQ's rule): lazily when somebody looks, and by the timer of the queue's
 * home worker otherwise. The timer belongs to one worker; whoever finds that it must fire earlier posts the queue's task
 * there. Times are ms of the monotonic clock since the queue's birth, so a step of the wall clock expires nothing early. */
#include "queue_int.h"

#include <mqgate/obs.h>

static uint32_t queue_now(const struct mqg_queue *q, uint64_t now_ms)
{
    uint64_t since = now_ms - q->born_ms;
    return since > UINT32_MAX ? UINT32_MAX : (uint32_t)since;
}

/* May it expire at all? Due times are kept one higher, so that 0 can mean never; what mqg_queue_keep named does not. */
static bool entry_mortal(const struct mqg_queue *q, uint32_t prio, uint64_t pos, const struct entry *e)
{
    return e->due != 0 && (q->kept_upto == 0 || fifo_qseq(&q->fifos[prio], pos) > q->kept_upto);
}

void mqg_queue_keep(struct mqg_queue *q, uint64_t qseq)
{
    MQG_CHECK(q, QUEUE_MAGIC);
    pthread_mutex_lock(&q->lock);
    if (qseq > q->kept_upto)
        q->kept_upto = qseq;
    pthread_mutex_unlock(&q->lock);
}

void queue_expire(struct queue_work *w)
{
    struct mqg_queue *q = w->queue;
    uint32_t now = queue_now(q, w->pub->worker->now.mono_ms);
    for (uint32_t prio = 0; prio < q->nfifos; prio++) {
        uint64_t pos, n = 0;
        bool waits;
        struct entry *e;
        while ((e = queue_head(w, prio, &pos, &waits)) != NULL && e->due <= now &&
               entry_mortal(q, prio, pos, e)) {
            queue_die(w, prio, pos, e, "expired");
            n++;
        }
        if (n)
            mqg_count(MQG_COUNT_EXPIRED, n);
    }
}

void queue_overflow(struct queue_work *w)
{
    struct mqg_queue *q = w->queue;
    if (q->opts->overflow != QUEUE_DROP_HEAD)
        return;
    uint32_t prio = q->nfifos - 1; /* the head of the queue: its highest priority */
    while (q->ready > q->opts->max_length || q->ready_bytes > q->opts->max_bytes) {
        uint64_t pos;
        bool waits;
        struct entry *e = queue_head(w, prio, &pos, &waits);
        if (!e) {
            if (waits || prio-- == 0)
                return;
            continue;
        }
        queue_die(w, prio, pos, e, "maxlen");
        mqg_count(MQG_COUNT_OVERFLOW_DROPPED, 1);
    }
}

/* ---- the timer --------------------------------------------------------------------------------------------------------- */

/* When something is to happen next, by the monotonic clock; UINT64_MAX: nothing. */
static uint64_t queue_next_due(struct mqg_queue *q)
{
    uint64_t due = UINT64_MAX;
    if (q->ended)
        return due;
    for (uint32_t prio = 0; prio < q->nfifos; prio++) {
        uint64_t pos;
        struct entry *e = fifo_head(&q->fifos[prio], &pos);
        if (e && entry_mortal(q, prio, pos, e) && q->born_ms + e->due < due)
            due = q->born_ms + e->due;
        if (!e && q->fifos[prio].spans && !(q->far && q->far->span_read) && q->opts->ttl_ms != UINT64_MAX)
            due = q->born_ms; /* who looks finds that it must be read */
    }
    if (q->opts->expires_ms != UINT64_MAX && q->nsubs == 0 && q->last_used_ms + q->opts->expires_ms < due)
        due = q->last_used_ms + q->opts->expires_ms;
    return due;
}

static void queue_timer_set(struct mqg_task *task);
static void queue_timer_fire(struct mqg_timer *t);

static void queue_timer_post(struct mqg_queue *q)
{
    if (!q->clock) {
        q->clock = mqg_xcalloc(1, sizeof(*q->clock));
        q->clock->queue = q;
        q->clock->task.run = queue_timer_set;
        mqg_timer_init(&q->clock->timer, queue_timer_fire);
    }
    if (atomic_exchange(&q->clock->posted, true))
        return;
    mqg_queue_ref(q); /* the task's */
    mqg_worker_post(mqg_worker_at(q->home), &q->clock->task);
}

void queue_arm(struct mqg_queue *q)
{
    uint64_t due = queue_next_due(q);
    if (due == UINT64_MAX || (q->armed_ms != 0 && q->armed_ms <= due))
        return;
    q->armed_ms = due;
    queue_timer_post(q);
}

void queue_disarm(struct mqg_queue *q)
{
    if (q->armed_ms != 0)
        queue_timer_post(q);
}

void queue_timer_drop(struct mqg_queue *q)
{
    if (!q->clock || q->clock->timer.due_ms == 0)
        return;
    q->clock->timer.due_ms = 0;
    mqg_queue_unref(&q);
}

/* On the home worker: the timer stands at what armed_ms says, or is off when the queue has ended. An armed timer holds one
 * reference, as does the posted task. */
static void queue_timer_set(struct mqg_task *task)
{
    struct queue_clock *c = MQG_CONTAINER_OF(task, struct queue_clock, task);
    struct mqg_queue *q = c->queue;
    atomic_store(&c->posted, false);
    pthread_mutex_lock(&q->lock);
    uint64_t due = q->ended ? 0 : q->armed_ms;
    pthread_mutex_unlock(&q->lock);
    bool was_armed = c->timer.due_ms != 0;
    if (due == 0)
        mqg_timer_cancel(&c->timer);
    else
        mqg_timer_at(&c->timer, due);
    bool is_armed = due != 0;
    for (int give = 1 + was_armed - is_armed; give > 0; give--) {
        struct mqg_queue *ref = q;
        mqg_queue_unref(&ref);
    }
}

static void queue_timer_fire(struct mqg_timer *t)
{
    struct mqg_queue *q = MQG_CONTAINER_OF(t, struct queue_clock, timer)->queue;
    struct queue_work w;
    queue_lock(q, &w);
    q->armed_ms = 0;
    queue_expire(&w);
    uint64_t now_ms = w.pub->worker->now.mono_ms;
    if (q->opts->expires_ms != UINT64_MAX && q->nsubs == 0 && !q->ended &&
        q->last_used_ms + q->opts->expires_ms <= now_ms) {
        w.over = true;
        w.over_why = "x-expires";
    } else {
        queue_arm(q);
    }
    queue_unlock(&w);
    mqg_queue_unref(&q);
}
