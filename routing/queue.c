/* routing/queue.c - the queue object: birth, appending, taking out; queue_end.c purges and ends it, queue_info.c tells of it.
 *
 * One mutex per queue guards entries and consumers. What must not happen under it (waking workers, dead letters, telling the
 * definitions that an auto-delete queue is over) is collected in a queue_work and done by queue_unlock. A queue never takes
 * another queue's lock: a dead letter is published like any message, in the PUBLISH phase, after the lock was given back. */
#include "definitions_int.h"
#include "queue_int.h"
#include "stream_int.h"

#include <stdlib.h>

#include <mqgate/obs.h>

static struct fifo queue_no_fifo; /* read only */
static struct queue_opts queue_plain;
static bool queue_plain_known;

/* ---- birth ------------------------------------------------------------------------------------------------------- */

static struct mqg_slice queue_arg(const struct mqg_queue *q, const char *name)
{
    const struct mqg_value *v = mqg_table_get(&q->def.args, mqg_slice_str(name));
    return v && v->type == MQG_VALUE_STRING ? v->bytes : MQG_SLICE_NONE;
}

/* Queues without arguments are the many, and share theirs. Under the topology mutex. */
static const struct queue_opts *queue_opts_keep(const struct mqg_queue *q, const struct queue_opts *opts)
{
    if (!q->args) {
        if (!queue_plain_known)
            queue_plain = *opts;
        queue_plain_known = true;
        return &queue_plain;
    }
    struct queue_opts *own = mqg_xmalloc(sizeof(*own));
    *own = *opts;
    own->dlx = queue_arg(q, "x-dead-letter-exchange");
    own->dlk = queue_arg(q, "x-dead-letter-routing-key");
    return own;
}

static void queue_copy_def(struct mqg_queue *q, const struct mqg_queue_def *d, const struct queue_opts *opts)
{
    char *name = (char *)&q->slots[mqg_worker_count()];
    q->def = *d;
    memcpy(name, d->name.ptr, d->name.len);
    q->def.name = mqg_slice_of(name, d->name.len);
    q->def.args = (struct mqg_table){.n = 0};
    if (d->args.n > 0) {
        q->args = args_new(&d->args);
        q->def.args = *q->args;
    }
    q->opts = queue_opts_keep(q, opts);
}

struct queue_slot *queue_slot_make(struct mqg_queue *q, uint32_t worker)
{
    struct queue_slot *slot = mqg_xmalloc(sizeof(*slot));
    *slot = (struct queue_slot){q, NULL, NULL, PUT_NONE, PUT_NONE, PUT_NONE, PUT_NONE};
    q->slots[worker] = slot;
    return slot;
}

struct mqg_queue *queue_new(struct mqg_vhost *v, uint64_t id, const struct mqg_queue_def *d,
                            const struct queue_opts *opts, struct mqg_storage *storage)
{
    size_t slots = mqg_worker_count() * sizeof(struct queue_slot *);
    struct mqg_queue *q = mqg_xcalloc(1, sizeof(*q) + slots + d->name.len);
    q->magic = QUEUE_MAGIC;
    atomic_init(&q->refs, 1);
    q->id = id;
    q->vhost = v;
    q->storage = storage;
    queue_copy_def(q, d, opts);
    q->born_ms = mqg_clock_now().mono_ms;
    q->last_used_ms = q->born_ms;
    q->home = (uint32_t)(id % mqg_worker_count());
    pthread_mutex_init(&q->lock, NULL);
    q->next_qseq = publish_qseq_base();
    q->nfifos = opts->max_priority ? opts->max_priority + 1u : 1u;
    q->fifos = q->nfifos == 1 ? &queue_no_fifo : mqg_xcalloc(q->nfifos, sizeof(*q->fifos));
    TAILQ_INIT(&q->subs);
    TAILQ_INIT(&q->groups);
    q->gets_tail = &q->gets;
    if (opts->type == QUEUE_STREAM)
        q->stream = stream_new(q);
    if (opts->expires_ms != UINT64_MAX) {
        struct queue_work w;
        queue_lock(q, &w);
        queue_arm(q);
        queue_unlock(&w);
    }
    return q;
}

/* At the end of the process: what is stored stays so, memory is given back. */
static void queue_let_go(struct fifo *f)
{
    uint64_t pos = 0;
    struct entry *e;
    for (; (e = fifo_next_live(f, &pos)) != NULL; pos++)
        if (!(e->flags & ENTRY_PAGED))
            mqg_msg_unref(&e->msg);
        else if (!(e->flags & ENTRY_STORED))
            mqg_extent_give(e->extent, 1);
    fifo_fini(f);
}

static void queue_far_free(struct queue_far *far)
{
    while (far && far->doomed) {
        struct doomed *d = far->doomed;
        far->doomed = d->next;
        free(d);
    }
    free(far);
}

static void queue_free(struct mqg_queue *q)
{
    MQG_ASSERT(q->nsubs == 0 && q->gets == NULL);
    for (uint32_t i = 0; i < q->nfifos && q->fifos != &queue_no_fifo; i++)
        queue_let_go(&q->fifos[i]);
    if (q->stream)
        stream_free(&q->stream);
    if (q->fifos != &queue_no_fifo)
        free(q->fifos);
    for (uint32_t i = 0; i < mqg_worker_count(); i++)
        free(q->slots[i]);
    queue_far_free(q->far);
    free(q->clock);
    if (q->opts != &queue_plain)
        free((void *)(uintptr_t)q->opts);
    pthread_mutex_destroy(&q->lock);
    free(q->args);
    q->magic = 0;
    free(q);
}

struct queue_entry *queue_model(struct mqg_queue *q)
{
    return &q->model;
}

struct mqg_queue *mqg_queue_ref(struct mqg_queue *q)
{
    atomic_fetch_add_explicit(&q->refs, 1, memory_order_relaxed);
    return q;
}

void mqg_queue_unref(struct mqg_queue **q)
{
    struct mqg_queue *queue = *q;
    *q = NULL;
    if (queue && atomic_fetch_sub_explicit(&queue->refs, 1, memory_order_acq_rel) == 1)
        queue_free(queue);
}

/* ---- lock and work ----------------------------------------------------------------------------------------------- */

void queue_lock(struct mqg_queue *q, struct queue_work *w)
{
    w->queue = q;
    w->pub = publisher_self();
    w->nwake = 0;
    w->dead = NULL;
    w->dead_tail = &w->dead;
    w->over = false;
    w->load = NULL;
    w->spans = NULL;
    w->aside = NULL;
    pthread_mutex_lock(&q->lock);
}

static void sub_push_ready(struct mqg_sub *s)
{
    /* Its publisher's list; read before the push, since the sub may be freed by its worker right after. */
    struct mqg_worker *target = s->worker;
    struct publisher *p = target->routing;
    struct mqg_sub *head = atomic_load_explicit(&p->ready, memory_order_relaxed);
    do
        s->ready_next = head;
    while (!atomic_compare_exchange_weak_explicit(&p->ready, &head, s, memory_order_release,
                                                  memory_order_relaxed));
    if (head == NULL)
        mqg_worker_wake(target);
}

void sub_ready(struct mqg_sub *s)
{
    if (!atomic_exchange_explicit(&s->scheduled, true, memory_order_acq_rel))
        sub_push_ready(s);
}

static void work_schedule(struct queue_work *w)
{
    for (uint32_t i = 0; i < w->nwake; i++)
        sub_push_ready(w->wake[i]);
    w->nwake = 0;
}

void queue_unlock(struct queue_work *w)
{
    struct mqg_queue *q = w->queue;
    pthread_mutex_unlock(&q->lock);
    work_schedule(w);
    if (w->load)
        queue_load_submit(w);
    if (w->spans)
        queue_span_submit(w);
    if (w->aside)
        queue_aside_submit(w);
    while (w->dead) {
        struct dead *d = w->dead;
        w->dead = d->next;
        deadletter_publish(w->pub, q, d);
    }
    if (w->over)
        definitions_queue_over(q, w->over_why);
}

void queue_schedule(struct queue_work *w, struct mqg_sub *s)
{
    if (atomic_load_explicit(&s->scheduled, memory_order_relaxed) ||
        atomic_exchange_explicit(&s->scheduled, true, memory_order_acq_rel))
        return;
    if (w->nwake == MQG_COUNTOF(w->wake))
        work_schedule(w);
    w->wake[w->nwake++] = s;
}

/* ---- entries ------------------------------------------------------------------------------------------------------- */

struct fifo *queue_fifo(struct mqg_queue *q, uint32_t prio)
{
    if (MQG_UNLIKELY(q->fifos == &queue_no_fifo))
        q->fifos = mqg_xcalloc(1, sizeof(*q->fifos));
    return &q->fifos[prio];
}

struct queue_far *queue_far(struct mqg_queue *q)
{
    if (!q->far)
        q->far = mqg_xcalloc(1, sizeof(*q->far));
    return q->far;
}

struct entry *queue_entry(struct mqg_queue *q, uint64_t handle)
{
    uint32_t prio = queue_handle_prio(handle);
    if (handle < 0x100 || prio >= q->nfifos)
        return NULL;
    return fifo_at(&q->fifos[prio], queue_handle_pos(handle));
}

static uint32_t queue_due(const struct mqg_queue *q, const struct mqg_msg *m, uint64_t now_ms)
{
    uint64_t ttl = q->opts->ttl_ms;
    if ((m->st.flags & MQG_MSG_HAS_TTL) && m->st.ttl_ms < ttl)
        ttl = m->st.ttl_ms;
    if (ttl == UINT64_MAX)
        return 0;
    uint64_t due = now_ms - q->born_ms + ttl + 1;
    return due > UINT32_MAX ? UINT32_MAX : (uint32_t)due;
}

/* Over the limit if one more message of that size were ready? */
static bool queue_full(const struct mqg_queue *q, uint64_t more, uint64_t more_bytes)
{
    return q->ready + more > q->opts->max_length || q->ready_bytes + more_bytes > q->opts->max_bytes;
}

static bool queue_rejects(const struct mqg_queue *q, const struct mqg_msg *m)
{
    return q->opts->overflow != QUEUE_DROP_HEAD && queue_full(q, 1, m->st.body_len);
}

/* reject-publish-dlx: the refused message itself goes to the dead letter exchange. */
static void queue_reject_dlx(struct queue_work *w, struct mqg_msg *m)
{
    if (w->queue->opts->overflow != QUEUE_REJECT_PUBLISH_DLX || !w->queue->opts->has_dlx)
        return;
    struct dead *d = mqg_xcalloc(1, sizeof(*d));
    d->msg = mqg_msg_ref(m);
    d->reason = "maxlen";
    *w->dead_tail = d;
    w->dead_tail = &d->next;
}

bool queue_append(struct queue_work *w, struct mqg_msg *m, struct mqg_dest *dest, bool stored)
{
    struct mqg_queue *q = w->queue;
    if (MQG_UNLIKELY(queue_rejects(q, m))) {
        queue_reject_dlx(w, m);
        return false;
    }
    uint32_t prio = 0;
    if (q->nfifos > 1)
        prio = m->st.priority < q->nfifos ? m->st.priority : q->nfifos - 1;
    uint64_t pos, qseq = q->next_qseq++;
    struct entry *e = fifo_append(queue_fifo(q, prio), qseq, &pos);
    e->msg = m;
    e->body_bytes = m->st.body_len;
    e->due = queue_due(q, m, w->pub->worker->now.mono_ms);
    if (stored) {
        e->flags = ENTRY_STORED;
        *dest = (struct mqg_dest){q->id, qseq};
    }
    q->ready++;
    q->ready_bytes += e->body_bytes;
    q->in_memory++;
    q->published++;
    return true;
}

static void queue_uncount(struct mqg_queue *q, const struct entry *e)
{
    if (e->state == ENTRY_READY) {
        q->ready--;
        q->ready_bytes -= e->body_bytes;
    } else {
        q->unacked--;
        q->unacked_bytes -= e->body_bytes;
    }
    if (!(e->flags & ENTRY_PAGED))
        q->in_memory--;
}

void queue_drop(struct queue_work *w, uint32_t prio, uint64_t pos, struct entry *e)
{
    struct mqg_queue *q = w->queue;
    struct fifo *f = &q->fifos[prio];
    queue_uncount(q, e);
    if (e->flags & ENTRY_STORED) {
        struct mqg_extent *x = e->flags & ENTRY_PAGED ? e->extent : e->msg->extent;
        publish_settled(w->pub, queue_slot(q, w->pub->worker), fifo_qseq(f, pos), x);
    }
    if (!(e->flags & ENTRY_PAGED))
        mqg_msg_unref(&e->msg);
    else if (!(e->flags & ENTRY_STORED))
        mqg_extent_give(e->extent, 1);
    fifo_free(f, e, pos);
}

void queue_die(struct queue_work *w, uint32_t prio, uint64_t pos, struct entry *e, const char *reason)
{
    struct mqg_queue *q = w->queue;
    if (!q->opts->has_dlx || (e->flags & ENTRY_BROKEN)) {
        queue_drop(w, prio, pos, e);
        return;
    }
    struct dead *d = mqg_xcalloc(1, sizeof(*d));
    d->reason = reason;
    d->qseq = fifo_qseq(&q->fifos[prio], pos);
    d->stored = (e->flags & ENTRY_STORED) != 0;
    d->off = e->off;
    d->len = e->len;
    if (e->flags & ENTRY_PAGED) {
        d->extent = e->extent;
    } else {
        d->msg = e->msg;
        d->extent = e->msg->extent;
    }
    *w->dead_tail = d;
    w->dead_tail = &d->next;
    queue_uncount(q, e);
    fifo_free(&q->fifos[prio], e, pos);
}
