/* routing/queue_dispatch.c - consumers: who gets the next message, and how it reaches their worker.
 *
 * Under the queue's lock a ready entry is given to the first available consumer of the highest priority, which then goes to
 * the end of its group (round-robin). A consumer is available while it has credit (its prefetch, the shared one of its
 * channel) and room in its window; else it leaves the list and comes back by settle, drain or kick, so that a dispatch never
 * looks at consumers that cannot take. The delivery lands in the consumer's inbox; only the wake-up of its worker is
 * deferred. The consumer's worker swaps the inbox out in its DELIVER phase and hands it to the protocol.
 *
 * Entries of no_ack consumers stay unacked until that swap, so that what was on its way can go back to its place when the
 * consumer leaves before. */
#include "definitions_int.h"
#include "queue_int.h"
#include "stream_int.h"

#include <stdlib.h>

#include <mqgate/obs.h>

/* ---- availability ------------------------------------------------------------------------------------------------- */

static bool sub_has_room(const struct mqg_sub *s)
{
    const struct mqg_queue *q = s->queue;
    return !s->paused && !s->over && !q->ended && (q->single == NULL || q->single == s) &&
           (s->def.prefetch == 0 || s->unacked < s->def.prefetch) && s->inbox_n < SUB_WINDOW &&
           s->inbox_bytes < SUB_WINDOW_BYTES;
}

void sub_make_available(struct mqg_queue *q, struct mqg_sub *s)
{
    (void)q;
    if (s->on_avail || !sub_has_room(s))
        return;
    TAILQ_INSERT_TAIL(&s->group->avail, s, avail);
    s->on_avail = true;
}

void sub_make_unavailable(struct mqg_sub *s)
{
    if (!s->on_avail)
        return;
    TAILQ_REMOVE(&s->group->avail, s, avail);
    s->on_avail = false;
}

/* One unit of the shared credit; false: none left, and the consumer waits for a kick. */
static bool sub_reserve(struct mqg_sub *s)
{
    struct mqg_credit *c = s->def.credit;
    if (!c || c->limit == 0 || s->def.no_ack)
        return true;
    if (atomic_fetch_sub_explicit(&c->left, 1, memory_order_acq_rel) > 0)
        return true;
    atomic_fetch_add_explicit(&c->left, 1, memory_order_acq_rel);
    return false;
}

static void sub_unreserve(struct mqg_sub *s)
{
    struct mqg_credit *c = s->def.credit;
    if (c && c->limit != 0 && !s->def.no_ack)
        atomic_fetch_add_explicit(&c->left, 1, memory_order_acq_rel);
}

static struct mqg_sub *queue_next_sub(struct mqg_queue *q)
{
    struct sub_group *g;
    TAILQ_FOREACH (g, &q->groups, link) {
        struct mqg_sub *s;
        while ((s = TAILQ_FIRST(&g->avail)) != NULL) {
            if (sub_has_room(s) && sub_reserve(s))
                return s;
            sub_make_unavailable(s);
        }
    }
    return NULL;
}

/* ---- dispatch ---------------------------------------------------------------------------------------------------------- */

static void sub_push(struct mqg_sub *s, struct entry *e, uint64_t handle, uint64_t qseq)
{
    if (s->inbox_n == s->inbox_cap) {
        s->inbox_cap = s->inbox_cap ? s->inbox_cap * 2 : 8;
        s->inbox = mqg_xrealloc(s->inbox, s->inbox_cap * sizeof(*s->inbox));
    }
    s->inbox[s->inbox_n++] = (struct mqg_delivery){
        .msg = mqg_msg_ref(e->msg),
        .handle = handle,
        .delivery_count = e->deliveries,
        .redelivered = (e->flags & ENTRY_REDELIVERED) != 0,
        .qseq = qseq,
    };
    s->inbox_bytes += e->body_bytes;
}

static void queue_give(struct queue_work *w, struct mqg_sub *s, uint32_t prio, uint64_t pos, struct entry *e)
{
    struct mqg_queue *q = w->queue;
    fifo_set_unacked(&q->fifos[prio], e, pos);
    q->ready--;
    q->ready_bytes -= e->body_bytes;
    q->unacked++;
    q->unacked_bytes += e->body_bytes;
    q->delivered++;
    s->unacked++;
    sub_push(s, e, queue_handle(prio, pos), fifo_qseq(&q->fifos[prio], pos));
    queue_schedule(w, s);
    /* Round-robin: to the end of its group, or out of it when it can take no more. */
    if (!sub_has_room(s)) {
        sub_make_unavailable(s);
    } else if (TAILQ_NEXT(s, avail) != NULL) {
        TAILQ_REMOVE(&s->group->avail, s, avail);
        TAILQ_INSERT_TAIL(&s->group->avail, s, avail);
    }
}

/* Highest priority first; NULL when nothing can be delivered now (empty, or a body is being loaded). */
static struct entry *queue_next_entry(struct queue_work *w, uint32_t *prio, uint64_t *pos)
{
    struct mqg_queue *q = w->queue;
    for (uint32_t i = q->nfifos; i-- > 0;) {
        bool waits;
        struct entry *e = queue_head_good(w, i, pos, &waits);
        if (waits)
            return NULL;
        if (!e)
            continue;
        *prio = i;
        if ((e->flags & ENTRY_PAGED) && !queue_load_ahead(w, i, *pos))
            return NULL; /* never overtaken: what comes behind it waits */
        return e;
    }
    return NULL;
}

void queue_dispatch(struct queue_work *w)
{
    struct mqg_queue *q = w->queue;
    if (q->ready == 0 || q->ended)
        return;
    queue_expire(w);
    struct mqg_sub *s;
    while (q->ready > 0 && (s = queue_next_sub(q)) != NULL) {
        uint32_t prio = 0;
        uint64_t pos = 0;
        struct entry *e = queue_next_entry(w, &prio, &pos);
        if (!e) {
            sub_unreserve(s); /* reserved for nothing */
            break;
        }
        queue_give(w, s, prio, pos, e);
    }
}

/* ---- the consumer's worker takes them ------------------------------------------------------------------------------------ */

/* Deliveries without acknowledgement are settled when the consumer's worker takes them. */
static void sub_settle_no_ack(struct queue_work *w, struct mqg_sub *s)
{
    struct mqg_queue *q = w->queue;
    for (uint32_t i = 0; i < s->out_n; i++) {
        struct entry *e = queue_entry(q, s->out[i].handle);
        if (e)
            queue_drop(w, queue_handle_prio(s->out[i].handle), queue_handle_pos(s->out[i].handle), e);
        s->out[i].handle = 0;
    }
    s->unacked -= s->out_n;
}

static void sub_swap(struct mqg_sub *s)
{
    struct queue_work w;
    queue_lock(s->queue, &w);
    struct mqg_delivery *old = s->out;
    uint32_t old_cap = s->out_cap;
    s->out = s->inbox;
    s->out_n = s->inbox_n;
    s->out_cap = s->inbox_cap;
    s->out_at = 0;
    s->inbox = old;
    s->inbox_cap = old_cap;
    s->inbox_n = 0;
    s->inbox_bytes = 0;
    if (s->def.no_ack)
        sub_settle_no_ack(&w, s);
    if (!s->on_avail && s->out_n > 0) {
        sub_make_available(s->queue, s);
        queue_dispatch(&w);
    }
    queue_unlock(&w);
}

static void sub_free(struct mqg_sub *s)
{
    MQG_ASSERT(s->reader == NULL);
    for (uint32_t i = s->out_at; i < s->out_n; i++)
        mqg_msg_unref(&s->out[i].msg);
    free(s->out);
    free(s->inbox);
    mqg_queue_unref(&s->queue);
    free(s->args);
    free(s->tag);
    s->magic = 0;
    free(s);
}

static bool sub_deliver(struct mqg_sub *s)
{
    bool any = false;
    for (;;) {
        if (s->out_at == s->out_n)
            sub_swap(s);
        if (s->out_at == s->out_n)
            break;
        uint32_t n = s->out_n - s->out_at;
        size_t took = s->ops->deliver(s, s->owner, s->out + s->out_at, n);
        MQG_ASSERT(took <= n);
        s->out_at += (uint32_t)took;
        any = any || took > 0;
        mqg_count(s->def.no_ack ? MQG_COUNT_DELIVERED_NO_ACK : MQG_COUNT_DELIVERED, took);
        if (took < n || s->freed)
            break;
    }
    return any;
}

bool sub_ready_drain(struct publisher *p)
{
    struct mqg_sub *s = atomic_exchange_explicit(&p->ready, NULL, memory_order_acquire);
    bool any = false;
    while (s) {
        struct mqg_sub *next = s->ready_next;
        MQG_CHECK(s, SUB_MAGIC);
        atomic_store_explicit(&s->scheduled, false, memory_order_release);
        s->busy = true; /* its handler may unsubscribe from inside a callback */
        if (!s->freed && (s->reader ? stream_sub_deliver(s) : sub_deliver(s)))
            any = true;
        if (!s->freed && atomic_load_explicit(&s->cancelled, memory_order_acquire) && !s->cancel_told) {
            s->cancel_told = true;
            s->ops->cancelled(s, s->owner);
            any = true;
        }
        s->busy = false;
        /* Scheduled again meanwhile: it is on the list once more, and freed there. */
        if (s->freed && !atomic_load_explicit(&s->scheduled, memory_order_acquire))
            sub_free(s);
        s = next;
    }
    return any;
}

/* ---- subscribe and unsubscribe ------------------------------------------------------------------------------------------------ */

static struct sub_group *queue_group(struct mqg_queue *q, int32_t priority)
{
    struct sub_group *g;
    TAILQ_FOREACH (g, &q->groups, link) {
        if (g->priority == priority)
            return g;
        if (g->priority < priority)
            break;
    }
    struct sub_group *fresh = mqg_xcalloc(1, sizeof(*fresh));
    fresh->priority = priority;
    TAILQ_INIT(&fresh->avail);
    if (g)
        TAILQ_INSERT_BEFORE(g, fresh, link);
    else
        TAILQ_INSERT_TAIL(&q->groups, fresh, link);
    return fresh;
}

static enum mqg_err queue_sub_check(struct mqg_queue *q, const struct mqg_sub_def *d, struct mqg_error *e)
{
    struct mqg_slice vhost = mqg_vhost_name(q->vhost);
    if (q->ended)
        return mqg_error_set(e, MQG_NOT_FOUND, 404, "no queue '%.*s' in vhost '%.*s'",
                             MQG_SLICE_FMT(q->def.name), MQG_SLICE_FMT(vhost));
    if (q->exclusive || (d->exclusive && (q->nsubs > 0 || q->opts->single_active)))
        return mqg_error_set(e, MQG_IN_USE, 403, "queue '%.*s' in vhost '%.*s' in exclusive use",
                             MQG_SLICE_FMT(q->def.name), MQG_SLICE_FMT(vhost));
    return MQG_OK;
}

static struct mqg_sub *sub_new(struct mqg_queue *q, const struct mqg_sub_def *d,
                               const struct mqg_sub_ops *ops, void *owner)
{
    struct mqg_sub *s = mqg_xcalloc(1, sizeof(*s));
    s->magic = SUB_MAGIC;
    s->queue = mqg_queue_ref(q);
    s->worker = mqg_worker_self();
    s->ops = ops;
    s->owner = owner;
    s->def = *d;
    s->tag = mqg_slice_dup(d->tag);
    s->def.tag = mqg_slice_of(s->tag, d->tag.len);
    s->args = args_new(&d->args);
    s->def.args = *s->args;
    return s;
}

enum mqg_err mqg_subscribe(struct mqg_queue *q, const struct mqg_sub_def *d, const struct mqg_sub_ops *ops,
                           void *owner, struct mqg_sub **out, struct mqg_error *e)
{
    enum mqg_err err = q->stream ? stream_sub_check(q, d, e) : MQG_OK;
    if (err != MQG_OK)
        return err;
    struct mqg_sub *s = sub_new(q, d, ops, owner);
    struct queue_work w;
    queue_lock(q, &w);
    err = queue_sub_check(q, d, e);
    if (err != MQG_OK) {
        queue_unlock(&w);
        sub_free(s);
        return err;
    }
    s->group = queue_group(q, d->priority);
    s->group->subs++;
    TAILQ_INSERT_TAIL(&q->subs, s, all);
    q->nsubs++;
    if (d->exclusive)
        q->exclusive = s;
    if (q->opts->single_active && !q->single)
        q->single = s;
    sub_make_available(q, s);
    queue_dispatch(&w);
    queue_unlock(&w);
    if (q->stream)
        stream_sub_start(s);
    *out = s;
    return MQG_OK;
}

/* What was on its way goes back to its place, as if never delivered. */
static void sub_take_back(struct queue_work *w, struct mqg_sub *s, struct mqg_delivery *d, uint32_t from,
                          uint32_t to)
{
    struct mqg_queue *q = w->queue;
    for (uint32_t i = from; i < to; i++) {
        struct entry *e = d[i].handle ? queue_entry(q, d[i].handle) : NULL;
        if (e && e->state == ENTRY_UNACKED) {
            if (q->nsubs > 1) /* others may have got what was behind it: the mark explains the order */
                e->flags |= ENTRY_REDELIVERED;
            fifo_set_ready(&q->fifos[queue_handle_prio(d[i].handle)], e, queue_handle_pos(d[i].handle));
            q->unacked--;
            q->unacked_bytes -= e->body_bytes;
            q->ready++;
            q->ready_bytes += e->body_bytes;
        }
        if (d[i].handle) /* also when the queue was deleted meanwhile, and the entry with it */
            sub_unreserve(s);
        mqg_msg_unref(&d[i].msg);
    }
}

static void queue_sub_left(struct queue_work *w, struct mqg_sub *s)
{
    struct mqg_queue *q = w->queue;
    TAILQ_REMOVE(&q->subs, s, all);
    q->nsubs--;
    if (--s->group->subs == 0) {
        TAILQ_REMOVE(&q->groups, s->group, link);
        free(s->group);
    }
    s->group = NULL;
    if (q->exclusive == s)
        q->exclusive = NULL;
    if (q->single == s) {
        q->single = TAILQ_FIRST(&q->subs);
        if (q->single)
            sub_make_available(q, q->single);
    }
    q->last_used_ms = w->pub->worker->now.mono_ms;
    if (q->nsubs == 0 && q->def.auto_delete && !q->ended) {
        w->over = true;
        w->over_why = "auto-delete";
    }
    if (q->nsubs == 0)
        queue_arm(q);
}

void mqg_unsubscribe(struct mqg_sub **sub)
{
    struct mqg_sub *s = *sub;
    *sub = NULL;
    MQG_CHECK(s, SUB_MAGIC);
    struct queue_work w;
    struct mqg_queue *q = mqg_queue_ref(s->queue);
    if (s->reader)
        stream_sub_stop(s);
    queue_lock(q, &w);
    s->over = true;
    sub_make_unavailable(s);
    sub_take_back(&w, s, s->inbox, 0, s->inbox_n);
    s->inbox_n = 0;
    sub_take_back(&w, s, s->out, s->out_at, s->out_n);
    s->out_at = s->out_n;
    queue_sub_left(&w, s);
    queue_dispatch(&w);
    s->freed = true;
    bool later = s->busy || atomic_load_explicit(&s->scheduled, memory_order_acquire);
    queue_unlock(&w);
    mqg_queue_unref(&q);
    if (!later)
        sub_free(s);
}

/* ---- credit from outside ----------------------------------------------------------------------------------------------------- */

struct mqg_queue *mqg_sub_queue(const struct mqg_sub *sub)
{
    return sub->queue;
}

uint32_t mqg_sub_unacked(struct mqg_sub *s)
{
    pthread_mutex_lock(&s->queue->lock);
    uint32_t n = s->unacked;
    pthread_mutex_unlock(&s->queue->lock);
    return n;
}

void mqg_sub_kick(struct mqg_sub *s)
{
    struct queue_work w;
    if (s->reader) {
        sub_ready(s);
        return;
    }
    queue_lock(s->queue, &w);
    sub_make_available(s->queue, s);
    queue_dispatch(&w);
    if (s->out_at < s->out_n || s->inbox_n > 0)
        queue_schedule(&w, s);
    queue_unlock(&w);
}

void mqg_sub_prefetch(struct mqg_sub *s, uint32_t prefetch)
{
    struct queue_work w;
    queue_lock(s->queue, &w);
    s->def.prefetch = prefetch;
    sub_make_available(s->queue, s);
    queue_dispatch(&w);
    queue_unlock(&w);
    if (s->reader)
        sub_ready(s);
}

void mqg_sub_pause(struct mqg_sub *s, bool paused)
{
    struct queue_work w;
    queue_lock(s->queue, &w);
    s->paused = paused;
    if (paused)
        sub_make_unavailable(s);
    else
        sub_make_available(s->queue, s);
    queue_dispatch(&w);
    queue_unlock(&w);
    if (s->reader)
        sub_ready(s);
}

bool queue_consumers(struct mqg_queue *q, bool (*visit)(void *arg, const struct mqg_consumer_info *c),
                     void *arg)
{
    bool more = true;
    struct mqg_sub *s;
    pthread_mutex_lock(&q->lock);
    TAILQ_FOREACH (s, &q->subs, all) {
        struct mqg_consumer_info info = {
            .tag = s->def.tag,
            .queue = q->def.name,
            .vhost = mqg_vhost_name(q->vhost),
            .no_ack = s->def.no_ack,
            .exclusive = s->def.exclusive,
            .active = q->single == NULL || q->single == s,
            .priority = s->def.priority,
            .prefetch = s->def.prefetch,
            .channel = s->def.channel,
            .conn_id = s->def.conn_id,
            .args = &s->def.args,
        };
        if (!(more = visit(arg, &info)))
            break;
    }
    pthread_mutex_unlock(&q->lock);
    return more;
}
