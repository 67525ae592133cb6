/* routing/queue_settle.c - what consumers say about deliveries (ack, requeue, reject), and basic.get.
 *
 * A handle names an entry until it is settled; one that names nothing any more (purged, deleted, settled twice by a confused
 * handler) is ignored. Requeue puts the entry back to its own place, so order survives; the delivery limit counts attempts
 * that failed, not explicit returns (a closed channel, recover). */
#include "queue_int.h"
#include "stream_int.h"

#include <mqgate/obs.h>

void queue_put_back(struct mqg_queue *q, uint32_t prio, uint64_t pos, struct entry *e)
{
    fifo_set_ready(&q->fifos[prio], e, pos);
    q->unacked--;
    q->unacked_bytes -= e->body_bytes;
    q->ready++;
    q->ready_bytes += e->body_bytes;
}

/* The store keeps that it was delivered, and how often in vain. */
static void queue_note_count(struct queue_work *w, uint32_t prio, uint64_t pos, const struct entry *e)
{
    struct mqg_queue *q = w->queue;
    if (!(e->flags & ENTRY_STORED))
        return;
    struct mqg_store_op op = {.kind = MQG_OP_COUNT,
                              .count = {q->id, fifo_qseq(&q->fifos[prio], pos), e->deliveries, 1}};
    mqg_lane_add(q->storage, &op, false);
}

static void queue_requeue(struct queue_work *w, uint32_t prio, uint64_t pos, struct entry *e,
                          enum mqg_settle how)
{
    struct mqg_queue *q = w->queue;
    if (how != MQG_SETTLE_UNSENT)
        e->flags |= ENTRY_REDELIVERED;
    if (how == MQG_SETTLE_REQUEUE && e->deliveries < UINT16_MAX)
        e->deliveries++;
    if (e->deliveries > q->opts->delivery_limit) {
        queue_die(w, prio, pos, e, "delivery_limit");
        return;
    }
    if (how != MQG_SETTLE_UNSENT)
        queue_note_count(w, prio, pos, e);
    queue_put_back(q, prio, pos, e);
}

static void queue_settle_one(struct queue_work *w, uint64_t handle, enum mqg_settle how)
{
    struct mqg_queue *q = w->queue;
    struct entry *e = queue_entry(q, handle);
    if (!e || e->state != ENTRY_UNACKED)
        return;
    uint32_t prio = queue_handle_prio(handle);
    uint64_t pos = queue_handle_pos(handle);
    if (how == MQG_SETTLE_ACK) {
        q->acked++;
        queue_drop(w, prio, pos, e);
    } else if (how == MQG_SETTLE_REJECT) {
        queue_die(w, prio, pos, e, "rejected");
    } else {
        queue_requeue(w, prio, pos, e, how);
    }
}

void mqg_settle(struct mqg_queue *q, struct mqg_sub *sub, const uint64_t *handles, size_t n,
                enum mqg_settle how)
{
    MQG_CHECK(q, QUEUE_MAGIC);
    struct queue_work w;
    if (q->stream) { /* credit, and nothing else */
        if (sub)
            stream_sub_settle(sub, n);
        if (how == MQG_SETTLE_ACK)
            mqg_count(MQG_COUNT_ACKED, n);
        return;
    }
    queue_lock(q, &w);
    for (size_t i = 0; i < n; i++)
        queue_settle_one(&w, handles[i], how);
    if (sub) {
        sub->unacked -= sub->unacked < n ? sub->unacked : (uint32_t)n;
        sub_make_available(q, sub);
    }
    if (how == MQG_SETTLE_ACK)
        mqg_count(MQG_COUNT_ACKED, n);
    queue_overflow(&w);
    queue_dispatch(&w);
    queue_arm(q);
    queue_unlock(&w);
}

/* ---- get ------------------------------------------------------------------------------------------------------------- */

/* Takes the head for g; false: its body is being read, g has to wait. */
static bool queue_get_head(struct queue_work *w, struct mqg_get *g)
{
    struct mqg_queue *q = w->queue;
    queue_expire(w);
    for (uint32_t prio = q->nfifos; prio-- > 0;) {
        uint64_t pos;
        bool waits;
        struct entry *e = queue_head_good(w, prio, &pos, &waits);
        if (waits)
            return false;
        if (!e)
            continue;
        if ((e->flags & ENTRY_PAGED) && !queue_load_ahead(w, prio, pos))
            return false;
        g->d = (struct mqg_delivery){mqg_msg_ref(e->msg), queue_handle(prio, pos), e->deliveries,
                                     (e->flags & ENTRY_REDELIVERED) != 0, fifo_qseq(&q->fifos[prio], pos)};
        fifo_set_unacked(&q->fifos[prio], e, pos);
        q->ready--;
        q->ready_bytes -= e->body_bytes;
        q->unacked++;
        q->unacked_bytes += e->body_bytes;
        q->delivered++;
        if (g->no_ack) {
            queue_drop(w, prio, pos, e);
            g->d.handle = 0;
        }
        mqg_count(MQG_COUNT_GOT, 1);
        break;
    }
    g->messages_left = q->ready;
    return true;
}

void mqg_queue_get(struct mqg_queue *q, struct mqg_get *g)
{
    struct queue_work w;
    g->d = (struct mqg_delivery){0};
    g->messages_left = 0;
    g->next = NULL;
    g->q = mqg_queue_ref(q);
    queue_lock(q, &w);
    q->last_used_ms = w.pub->worker->now.mono_ms;
    bool ready = q->ended || (q->gets == NULL && queue_get_head(&w, g));
    if (!ready) {
        g->worker = w.pub->worker;
        *q->gets_tail = g;
        q->gets_tail = &g->next;
    }
    queue_unlock(&w);
    if (!ready)
        return;
    mqg_queue_unref(&g->q);
    g->done(g);
}

/* A get whose answer is ready goes home to the worker that asked. */
static void get_answer(struct mqg_task *task)
{
    struct mqg_get *g = MQG_CONTAINER_OF(task, struct mqg_get, task);
    mqg_queue_unref(&g->q);
    g->done(g);
}

static void get_go_home(struct mqg_get *g)
{
    g->task.run = get_answer;
    mqg_worker_post(g->worker, &g->task);
}

void queue_serve_gets(struct queue_work *w)
{
    struct mqg_queue *q = w->queue;
    while (q->gets) {
        struct mqg_get *g = q->gets;
        if (!queue_get_head(w, g))
            return;
        q->gets = g->next;
        if (!q->gets)
            q->gets_tail = &q->gets;
        get_go_home(g);
    }
}

void queue_gets_fail(struct mqg_queue *q)
{
    pthread_mutex_lock(&q->lock);
    struct mqg_get *g = q->gets;
    q->gets = NULL;
    q->gets_tail = &q->gets;
    pthread_mutex_unlock(&q->lock);
    while (g) {
        struct mqg_get *next = g->next;
        get_go_home(g);
        g = next;
    }
}
