/* routing/queue_aside.c - transient messages that memory has no room for.
 *
 * They are in no store, so paging one out means to write it first: when half of the node's message memory is used, those far
 * from the head of a queue are handed to the store's scratch space, a request per queue at a time. The answer comes to the
 * worker that asked; entries that are still there and ready then keep the place only, as durable ones do, and are loaded like
 * them; a message that is loaded back gives its place up. What was not taken (no room, an error) stays in memory, and is
 * offered again after a while.
 *
 * Queues are looked at when something is published to them. When memory is short all are looked at once a second as well
 * (the watch), since the one that fills memory may be one that nobody publishes to any more, while publishers are blocked. */
#include "queue_int.h"

#include <stdlib.h>
#include <unistd.h>

#include <mqgate/conf.h>

#define ASIDE_ITEMS       1024u
#define ASIDE_BYTES       (8u << 20) /* per request, at least one message */
#define ASIDE_KEEP        256u       /* entries next to the head that stay */
#define ASIDE_KEEP_PART   16         /* and of the node's message memory they may use this part */
#define ASIDE_AGAIN_MS    1000u      /* after a refusal */
#define ASIDE_WATCH_MS    1000u
#define ASIDE_LOW_BYTES   (INT64_C(64) << 20)
#define ASIDE_RAM_PERCENT 40 /* of the machine's memory, when limits.memory does not say */

static int64_t aside_high_bytes = INT64_MAX;

struct aside {
    struct mqg_scratch_req req;
    struct mqg_task task;
    struct mqg_worker *worker;
    struct mqg_queue *queue;
    uint64_t handles[ASIDE_ITEMS];
    struct mqg_scratch_item items[ASIDE_ITEMS];
};

static int64_t aside_ram_bytes(void)
{
    int64_t pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? pages / 100 * ASIDE_RAM_PERCENT * page : INT64_C(1) << 30;
}

void queue_memory_limit(const struct mqg_conf *conf)
{
    int64_t given = mqg_conf_int(conf, "limits", "memory");
    aside_high_bytes = given > 0 ? given : aside_ram_bytes();
}

bool queue_memory_low(void)
{
    int64_t low = aside_high_bytes / 2 < ASIDE_LOW_BYTES ? aside_high_bytes / 2 : ASIDE_LOW_BYTES;
    return mqg_msg_memory_used() > low;
}

/* Half of what is there before publishers are blocked. */
static bool aside_wanted(void)
{
    return mqg_msg_memory_used() > aside_high_bytes / 2;
}

bool queue_memory_short(void)
{
    return mqg_msg_memory_used() > aside_high_bytes / 4 * 3;
}

struct mqg_storage *queue_load_storage(const struct mqg_queue *q)
{
    return q->storage ? q->storage : mqg_storage_default();
}

/* ---- the answer --------------------------------------------------------------------------------------------------------- */

static void aside_page_out(struct mqg_queue *q, uint64_t handle, struct mqg_scratch_item *item)
{
    struct entry *e = queue_entry(q, handle);
    if (!e || e->state != ENTRY_READY || (e->flags & ENTRY_PAGED) || e->msg != item->msg) {
        mqg_extent_give(item->extent, 1); /* somebody was faster */
        return;
    }
    uint32_t len = e->msg->total_len;
    mqg_msg_unref(&e->msg);
    e->extent = item->extent;
    e->off = item->off;
    e->len = len;
    e->flags |= ENTRY_PAGED;
    q->in_memory--;
}

static void aside_arrived(struct mqg_task *task)
{
    struct aside *a = MQG_CONTAINER_OF(task, struct aside, task);
    struct mqg_queue *q = a->queue;
    struct queue_work w;
    queue_lock(q, &w);
    q->far->aside_busy = false;
    for (uint32_t i = 0; i < a->req.n; i++) {
        if (a->items[i].extent)
            aside_page_out(q, a->handles[i], &a->items[i]);
        else
            q->far->aside_again_ms = w.pub->worker->now.mono_ms + ASIDE_AGAIN_MS;
    }
    queue_put_aside(&w);
    queue_unlock(&w);
    for (uint32_t i = 0; i < a->req.n; i++)
        mqg_msg_unref(&a->items[i].msg);
    mqg_queue_unref(&q);
    free(a);
}

static void aside_done(struct mqg_scratch_req *req)
{
    struct aside *a = MQG_CONTAINER_OF(req, struct aside, req);
    mqg_worker_post(a->worker, &a->task);
}

/* ---- asking -------------------------------------------------------------------------------------------------------------- */

/* Where the part of the head that stays in memory ends. */
static uint64_t aside_begin(const struct fifo *f)
{
    uint64_t pos = f->scan, bytes = 0;
    struct entry *e;
    for (uint32_t n = 0; n < ASIDE_KEEP && (e = fifo_next_live(f, &pos)) != NULL; n++, pos++) {
        bytes += e->body_bytes;
        if (bytes > (uint64_t)(aside_high_bytes / ASIDE_KEEP_PART))
            break;
    }
    return pos;
}

static void aside_collect(struct mqg_queue *q, struct aside *a)
{
    const struct fifo *f = &q->fifos[0];
    uint64_t pos = aside_begin(f), bytes = 0;
    struct entry *e;
    if (q->far->aside_scan > pos)
        pos = q->far->aside_scan;
    for (; a->req.n < ASIDE_ITEMS && bytes < ASIDE_BYTES && (e = fifo_next_live(f, &pos)) != NULL; pos++) {
        if (e->state != ENTRY_READY || (e->flags & (ENTRY_STORED | ENTRY_PAGED)))
            continue;
        a->handles[a->req.n] = queue_handle(0, pos);
        a->items[a->req.n++] = (struct mqg_scratch_item){.msg = mqg_msg_ref(e->msg)};
        bytes += e->msg->total_len;
    }
    q->far->aside_scan = pos;
}

void queue_put_aside(struct queue_work *w)
{
    struct mqg_queue *q = w->queue;
    if (MQG_LIKELY(!aside_wanted()) || q->nfifos != 1 || q->in_memory == 0 || q->ended)
        return;
    struct queue_far *far = queue_far(q);
    struct mqg_storage *s = queue_load_storage(q);
    uint64_t now_ms = w->pub->worker->now.mono_ms;
    if (far->aside_busy || !s || !(s->caps & MQG_STORE_SCRATCH) || now_ms < far->aside_again_ms)
        return;
    if (far->aside_again_ms) { /* what was refused is behind the cursor */
        far->aside_again_ms = 0;
        far->aside_scan = 0;
    }
    struct aside *a = mqg_xcalloc(1, sizeof(*a));
    aside_collect(q, a);
    if (a->req.n == 0) {
        free(a);
        return;
    }
    a->worker = w->pub->worker;
    a->queue = mqg_queue_ref(q);
    a->task.run = aside_arrived;
    a->req.items = a->items;
    a->req.lane = a->worker->index;
    a->req.done = aside_done;
    far->aside_busy = true;
    w->aside = &a->req; /* asked for when the lock is given back */
}

void queue_aside_submit(struct queue_work *w)
{
    struct mqg_scratch_req *req = w->aside;
    w->aside = NULL;
    struct mqg_storage *s = queue_load_storage(MQG_CONTAINER_OF(req, struct aside, req)->queue);
    s->ops->scratch_put(s->store, req);
}

/* ---- the watch ------------------------------------------------------------------------------------------------------------ */

static bool aside_look(void *arg, struct mqg_queue *q)
{
    struct queue_work w;
    (void)arg;
    queue_lock(q, &w);
    if (q->storage)
        queue_page_out(q, 0);
    queue_put_aside(&w);
    queue_unlock(&w);
    return true;
}

/* On one worker, once a second. */
static void aside_watch(struct mqg_timer *t)
{
    if (aside_wanted())
        topology_queues_each(aside_look, NULL);
    mqg_timer_in(t, ASIDE_WATCH_MS);
}

void queue_memory_watch(void)
{
    static struct mqg_timer timer;
    mqg_timer_init(&timer, aside_watch);
    mqg_timer_in(&timer, ASIDE_WATCH_MS);
}
