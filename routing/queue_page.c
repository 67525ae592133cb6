/* routing/queue_page.c - bodies that are on disk only: paging out, reading back.
 *
 * When message memory runs short, stored entries far from the head give up their message and keep the place in its extent
 * (16 bytes that the index has anyway). After a restart every recovered entry begins like that. When a dispatch or a get
 * meets such an entry, the following ones are asked for too in one request, and the queue waits: nothing overtakes. The
 * store answers on a thread of its own; the answer goes to the asking worker, which puts the messages in and dispatches. */
#include "queue_int.h"

#include <stdlib.h>

#include <mqgate/obs.h>

#define QUEUE_PAGE_KEEP       8192u /* entries next to the head that stay in memory */
#define QUEUE_PAGE_KEEP_LOW   256u  /* the same when much of the node's message memory is used */
#define QUEUE_PAGE_KEEP_SHORT 16u   /* and when publishers will soon be blocked */
#define QUEUE_PAGE_SLICE      4096u /* entries looked at per call, or twice what came */

struct load {
    struct mqg_load_req req;
    struct mqg_task task;
    struct mqg_worker *worker;
    struct mqg_queue *queue;
    struct publisher *pub;
    uint64_t handles[QUEUE_LOAD_MAX];
    struct mqg_load items[QUEUE_LOAD_MAX];
};

/* A store that holds messages in memory gives the same one to several queues: it has its place, and is only read. */
static void load_place(struct mqg_msg *m, struct mqg_extent *extent, uint32_t off)
{
    if (m->extent == extent && m->extent_off == off)
        return;
    m->extent = extent;
    m->extent_off = off;
}

/* The message came, or its bytes do not check: then the entry is kept for the operator, and never delivered. */
static void load_attach(struct mqg_queue *q, uint64_t handle, struct mqg_load *item)
{
    struct entry *e = queue_entry(q, handle);
    if (!e || !(e->flags & ENTRY_PAGED) || !(e->flags & ENTRY_LOADING)) {
        if (item->msg)
            mqg_msg_unref(&item->msg);
        return;
    }
    e->flags &= (uint8_t)~ENTRY_LOADING;
    if (!item->msg) {
        e->flags |= ENTRY_BROKEN;
        mqg_log(MQG_LOG_ERROR, MQG_EVENT_CORRUPTION, "queue=%s what=\"message cannot be read back\" err=%s",
                mqg_logq(q->def.name), mqg_err_name(item->err));
        return;
    }
    bool stored = (e->flags & ENTRY_STORED) != 0;
    load_place(item->msg, stored ? item->extent : NULL, item->off);
    e->msg = item->msg; /* e->extent shares its place */
    e->flags &= (uint8_t)~ENTRY_PAGED;
    q->in_memory++;
    if (!stored) /* it was put aside, and is back */
        mqg_extent_give(item->extent, 1);
}

static void load_arrived(struct mqg_task *task)
{
    struct load *l = MQG_CONTAINER_OF(task, struct load, task);
    struct queue_work w;
    queue_lock(l->queue, &w);
    l->queue->loads--;
    for (uint32_t i = 0; i < l->req.n; i++)
        load_attach(l->queue, l->handles[i], &l->items[i]);
    queue_serve_gets(&w);
    queue_dispatch(&w);
    queue_unlock(&w);
    mqg_count(MQG_COUNT_STORE_LOADS, l->req.n);
    mqg_queue_unref(&l->queue);
    free(l);
}

static void load_done(struct mqg_load_req *req)
{
    struct load *l = MQG_CONTAINER_OF(req, struct load, req);
    mqg_worker_post(l->worker, &l->task);
}

static void load_collect(struct mqg_queue *q, struct load *l, uint32_t prio, uint64_t pos)
{
    struct entry *e;
    uint64_t bytes = 0;
    while (l->req.n < QUEUE_LOAD_MAX && bytes < (4u << 20) &&
           (e = fifo_next_ready(&q->fifos[prio], &pos)) != NULL) {
        if (!(e->flags & ENTRY_PAGED))
            break;
        if (!(e->flags & (ENTRY_LOADING | ENTRY_BROKEN))) {
            e->flags |= ENTRY_LOADING;
            l->handles[l->req.n] = queue_handle(prio, pos);
            l->items[l->req.n++] = (struct mqg_load){.extent = e->extent, .off = e->off, .len = e->len};
            bytes += e->len;
        }
        pos++;
    }
}

/* True when the entry at pos has its message now. */
bool queue_load_ahead(struct queue_work *w, uint32_t prio, uint64_t pos)
{
    struct mqg_queue *q = w->queue;
    struct entry *e = fifo_at(&q->fifos[prio], pos);
    if (!(e->flags & ENTRY_PAGED))
        return true;
    if (e->flags & ENTRY_LOADING)
        return false;
    if (w->load) /* looked at again when that has come */
        return false;
    struct load *l = mqg_xcalloc(1, sizeof(*l));
    l->worker = w->pub->worker;
    l->queue = mqg_queue_ref(q);
    l->task.run = load_arrived;
    l->req.items = l->items;
    l->req.lane = w->pub->worker->index;
    l->req.done = load_done;
    load_collect(q, l, prio, pos);
    q->loads++;
    w->load = l; /* asked for when the lock is given back */
    return false;
}

void queue_load_submit(struct queue_work *w)
{
    struct load *l = w->load;
    w->load = NULL;
    struct mqg_storage *s = queue_load_storage(l->queue);
    s->ops->load(s->store, &l->req);
}

void queue_page_out(struct mqg_queue *q, uint64_t came)
{
    uint32_t keep = queue_memory_low() ? QUEUE_PAGE_KEEP_LOW : QUEUE_PAGE_KEEP;
    if (queue_memory_short())
        keep = QUEUE_PAGE_KEEP_SHORT;
    if (keep > queue_span_kept() / 4)
        keep = queue_span_kept() / 4;
    if (q->nfifos != 1 || q->in_memory < 2 * keep)
        return;
    struct queue_far *far = queue_far(q);
    struct fifo *f = &q->fifos[0];
    uint64_t pos = f->scan + keep;
    if (far->page_scan > pos)
        pos = far->page_scan;
    uint64_t slice = came * 2 > QUEUE_PAGE_SLICE ? came * 2 : QUEUE_PAGE_SLICE;
    struct entry *e;
    for (uint64_t n = 0; n < slice && (e = fifo_next_live(f, &pos)) != NULL; n++, pos++) {
        if (e->state != ENTRY_READY || (e->flags & (ENTRY_STORED | ENTRY_PAGED)) != ENTRY_STORED)
            continue;
        struct mqg_extent *x = e->msg->extent;
        if (atomic_load_explicit(&x->place, memory_order_acquire) == MQG_PLACE_NONE)
            break; /* not durable yet: the next call goes on here */
        e->off = e->msg->extent_off;
        e->len = e->msg->total_len;
        mqg_msg_unref(&e->msg);
        e->extent = x;
        e->flags |= ENTRY_PAGED;
        q->in_memory--;
    }
    far->page_scan = pos;
}
