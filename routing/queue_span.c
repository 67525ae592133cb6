/* routing/queue_span.c - the middle of a long queue, handed to the store and taken back.
 *
 *   head ... kept | span, span ... | kept ... tail         cursor: what lies before it was looked at
 *
 * When a queue has more entries in memory than it may, those behind its head that are paged out are handed to the store, oldest
 * first, 64 at a time, as far as the store takes them (it wants whole segments whose index it can read). They become a span
 * (fifo_span.c). Entries that say more than their place (delivered in vain before, being loaded, damaged, transient) stay.
 *
 * Before the head comes near the first span, the lowest of its entries are asked for; they come on a thread of the store, go to
 * the worker that asked, and are put in. Whoever needs the head meanwhile waits, as for a body: nothing overtakes. One
 * request per queue is under way. What cannot be read back stays on the disk: reported, counted off, and found again by the
 * next start.
 *
 * Purge and delete count a span off at once, and settle it at once as one range, together with what lies in memory: in one
 * batch of the lane, so that a crash leaves all of the queue or nothing of it. (Between a span's first and last number nothing
 * lives that is not in the span.) Its entries are then read back in slices only to be let go of, since the store counts them
 * in its segments (**doomed** spans). */
#include "queue_int.h"

#include <stdlib.h>

#include <mqgate/obs.h>

#define SPAN_SLICE_MIN  64u
#define SPAN_SLICE_MAX  4096u
#define SPAN_BATCH      64u /* entries handed over at a time */
#define SPAN_BATCHES    16u /* of them per call, or twice what came: a queue that grows must not outrun it */
#define SPAN_SKIP       32u /* entries that the store refused, passed over */
#define SPAN_HEAD_MAX   8192u /* entries next to the head that are never handed over */
#define SPAN_NODE_TIMES 16    /* so many times a queue's keep, and the node is short of index memory */
#define SPAN_LOW_PART   16u   /* then a queue keeps only this part */

static uint32_t span_keep_entries = 131072;

struct span_read {
    struct mqg_index_req req;
    struct mqg_task task;
    struct mqg_worker *worker;
    struct mqg_queue *queue;
    uint32_t prio;
    bool doomed; /* its entries are to be let go of */
    struct mqg_index_entry entries[];
};

void queue_limits(const struct mqg_conf *conf)
{
    span_keep_entries = (uint32_t)mqg_conf_int(conf, "limits", "queue_index");
    queue_memory_limit(conf);
}

uint32_t queue_span_kept(void)
{
    int64_t node = fifo_chunks_all() * FIFO_CHUNK;
    return node > (int64_t)span_keep_entries * SPAN_NODE_TIMES ? span_keep_entries / SPAN_LOW_PART
                                                               : span_keep_entries;
}

/* Entries next to the head that are never handed over. */
static uint32_t span_head_kept(void)
{
    uint32_t keep = queue_span_kept();
    return keep / 4 < SPAN_HEAD_MAX ? keep / 4 : SPAN_HEAD_MAX;
}

/* Entries asked for at a time: half of what a queue keeps, within bounds. */
static uint32_t span_slice(void)
{
    uint32_t half = queue_span_kept() / 2;
    return half < SPAN_SLICE_MIN ? SPAN_SLICE_MIN : half < SPAN_SLICE_MAX ? half : SPAN_SLICE_MAX;
}

bool queue_span_able(const struct mqg_queue *q)
{
    return q->nfifos == 1 && q->storage && (q->storage->caps & MQG_STORE_INDEX);
}

/* ---- asking ----------------------------------------------------------------------------------------------------------- */

static void span_read_done(struct mqg_index_req *req)
{
    struct span_read *r = MQG_CONTAINER_OF(req, struct span_read, req);
    mqg_worker_post(r->worker, &r->task);
}

static struct span_read *span_read_new(struct queue_work *w, const struct fifo_span *s,
                                       void (*arrived)(struct mqg_task *task))
{
    uint32_t slice = span_slice(), max = s->count < slice ? (uint32_t)s->count : slice;
    struct span_read *r = mqg_xcalloc(1, sizeof(*r) + max * sizeof(r->entries[0]));
    r->worker = w->pub->worker;
    r->queue = mqg_queue_ref(w->queue);
    r->task.run = arrived;
    r->req = (struct mqg_index_req){
        .queue_id = w->queue->id,
        .first = s->first,
        .last = s->last,
        .entries = r->entries,
        .max = max,
        .lane = r->worker->index,
        .done = span_read_done,
        .next = w->spans,
    };
    w->spans = &r->req; /* asked for when the lock is given back */
    return r;
}

void queue_span_submit(struct queue_work *w)
{
    while (w->spans) {
        struct mqg_index_req *req = w->spans;
        struct mqg_storage *s = MQG_CONTAINER_OF(req, struct span_read, req)->queue->storage;
        w->spans = req->next;
        s->ops->index_read(s->store, req);
    }
}

/* ---- doomed spans ------------------------------------------------------------------------------------------------------- */

static void span_doom_next(struct queue_work *w);

/* What came was settled with its span. No lock is needed: nobody else knows these entries. */
static void span_let_go(const struct span_read *r)
{
    for (uint32_t i = 0; i < r->req.n; i++)
        mqg_extent_give(r->entries[i].extent, 1);
}

/* The part of s that was answered is counted off it; false: nothing of it is left. */
static bool span_advance(struct fifo_span *s, const struct span_read *r)
{
    uint64_t n = r->req.n;
    bool more = n > 0 && (n == r->req.max || r->req.err != MQG_OK);
    MQG_ASSERT(n <= r->req.max);
    for (uint64_t i = 0; i < n; i++)
        s->bytes -= s->bytes < r->entries[i].body_bytes ? s->bytes : r->entries[i].body_bytes;
    s->count -= s->count < n ? s->count : n;
    s->first = more ? r->entries[n - 1].qseq + 1 : r->req.last + 1;
    return s->count > 0 && s->first <= s->last && (more || r->req.last < s->last);
}

static void span_report(const struct mqg_queue *q, const struct span_read *r, uint64_t lost)
{
    mqg_log(MQG_LOG_ERROR, MQG_EVENT_CORRUPTION,
            "queue=%s what=\"entries cannot be read back; they stay on the disk\" entries=%llu err=%s",
            mqg_logq(q->def.name), (unsigned long long)lost, mqg_err_name(r->req.err));
}

static void span_doomed_arrived(struct mqg_task *task)
{
    struct span_read *r = MQG_CONTAINER_OF(task, struct span_read, task);
    struct mqg_queue *q = r->queue;
    struct queue_work w;
    span_let_go(r);
    queue_lock(q, &w);
    struct doomed *d = q->far->doomed;
    if (!span_advance(&d->span, r)) {
        if (d->span.count > 0)
            span_report(q, r, d->span.count);
        q->far->doomed = d->next;
        free(d);
    }
    span_doom_next(&w);
    queue_unlock(&w);
    mqg_queue_unref(&q);
    free(r);
}

static void span_doom_next(struct queue_work *w)
{
    const struct doomed *d = w->queue->far->doomed;
    if (d)
        span_read_new(w, &d->span, span_doomed_arrived);
}

static void span_doom(struct queue_work *w, const struct fifo_span *s)
{
    struct doomed *d = mqg_xmalloc(sizeof(*d)), **last = &queue_far(w->queue)->doomed;
    bool first = *last == NULL;
    *d = (struct doomed){NULL, *s};
    while (*last)
        last = &(*last)->next;
    *last = d;
    if (first)
        span_doom_next(w);
}

static void span_settle(struct queue_work *w, const struct fifo_span *s)
{
    publish_settled_span(w->pub, queue_slot(w->queue, w->pub->worker), s->first, s->last);
}

void queue_span_doom_all(struct queue_work *w)
{
    struct mqg_queue *q = w->queue;
    struct queue_far *far = q->far;
    struct fifo *f = &q->fifos[0];
    struct fifo_span *s;
    if (far && far->span_read &&
        !far->span_read->doomed) { /* its answer is on the way: the span goes when it is here */
        far->span_read->doomed = true;
        s = fifo_span_first(f);
        q->ready -= s->count;
        q->ready_bytes -= s->bytes;
        far->span_left = *s;
        span_settle(w, s);
        fifo_span_drop(f);
    }
    while ((s = fifo_span_first(f)) != NULL) {
        q->ready -= s->count;
        q->ready_bytes -= s->bytes;
        span_doom(w, s);
        span_settle(w, s);
        fifo_span_drop(f);
    }
}

/* ---- reading back ------------------------------------------------------------------------------------------------------- */

static void span_put(struct mqg_queue *q, const struct mqg_index_entry *i, bool redelivered)
{
    uint64_t pos;
    struct entry *e = fifo_span_restore(&q->fifos[0], i->qseq, &pos);
    e->extent = i->extent;
    e->off = i->off;
    e->len = i->len;
    e->body_bytes = i->body_bytes;
    e->flags = (uint8_t)(ENTRY_STORED | ENTRY_PAGED | (redelivered ? ENTRY_REDELIVERED : 0));
    e->due = queue_due_again(q, i->flags, i->ttl_ms, i->append_us);
}

/* The first span begins behind what has come. */
static void span_take(struct queue_work *w, const struct span_read *r)
{
    struct mqg_queue *q = w->queue;
    struct fifo *f = &q->fifos[0];
    struct fifo_span *s = fifo_span_first(f);
    uint64_t bytes = s->bytes;
    for (uint32_t i = 0; i < r->req.n; i++) {
        span_put(q, &r->entries[i], s->redelivered);
        q->ready_bytes += r->entries[i].body_bytes;
    }
    bool more = span_advance(s, r);
    q->ready_bytes -= bytes - s->bytes;
    if (more)
        return;
    if (s->count > 0)
        span_report(q, r, s->count);
    q->ready -= s->count;
    q->ready_bytes -= s->bytes;
    fifo_span_drop(f);
}

/* The span was purged while this was read. */
static void span_doom_left(struct queue_work *w, const struct span_read *r)
{
    struct mqg_queue *q = w->queue;
    span_let_go(r);
    if (span_advance(&q->far->span_left, r))
        span_doom(w, &q->far->span_left);
    else if (q->far->span_left.count > 0)
        span_report(q, r, q->far->span_left.count);
}

static void span_arrived(struct mqg_task *task)
{
    struct span_read *r = MQG_CONTAINER_OF(task, struct span_read, task);
    struct mqg_queue *q = r->queue;
    struct queue_work w;
    queue_lock(q, &w);
    q->far->span_read = NULL;
    if (r->doomed)
        span_doom_left(&w, r);
    else
        span_take(&w, r);
    queue_overflow(&w);
    queue_serve_gets(&w);
    queue_dispatch(&w);
    queue_expire(&w);
    queue_arm(q);
    queue_unlock(&w);
    mqg_queue_unref(&q);
    free(r);
}

static void span_ask(struct queue_work *w, const struct fifo_span *s)
{
    struct mqg_queue *q = w->queue;
    struct queue_far *far = queue_far(q);
    if (!far->span_read) /* else everybody looks again when that one has come */
        far->span_read = span_read_new(w, s, span_arrived);
}

struct entry *queue_head(struct queue_work *w, uint32_t prio, uint64_t *pos, bool *waits)
{
    struct fifo *f = &w->queue->fifos[prio];
    struct entry *e = fifo_head(f, pos);
    *waits = false;
    if (MQG_LIKELY(!f->spans))
        return e;
    const struct fifo_span *s = fifo_span_first(f);
    if (!e || *pos + span_head_kept() / 2 >= s->pos)
        span_ask(w, s);
    *waits = e == NULL;
    return e;
}

struct entry *queue_head_good(struct queue_work *w, uint32_t prio, uint64_t *pos, bool *waits)
{
    struct fifo *f = &w->queue->fifos[prio];
    struct entry *e = queue_head(w, prio, pos, waits);
    while (e && (e->flags & ENTRY_BROKEN)) {
        ++*pos;
        e = fifo_next_ready(f, pos);
    }
    if (!e && f->spans) {
        span_ask(w, fifo_span_first(f));
        *waits = true;
    }
    return e;
}

/* ---- handing over ----------------------------------------------------------------------------------------------------------- */

struct span_batch {
    struct mqg_index_entry entries[SPAN_BATCH];
    uint64_t at[SPAN_BATCH];
    uint64_t from; /* position: nothing that lives lies between it and the first entry */
    uint32_t n;
    bool redelivered;
};

enum span_fit { SPAN_FITS, SPAN_NEVER, SPAN_LATER };

static enum span_fit span_fits(const struct entry *e)
{
    if (e->state != ENTRY_READY || !(e->flags & ENTRY_STORED) || e->deliveries > 0)
        return SPAN_NEVER;
    if (e->flags & (ENTRY_LOADING | ENTRY_BROKEN))
        return SPAN_NEVER;
    return e->flags & ENTRY_PAGED ? SPAN_FITS : SPAN_LATER;
}

static void batch_add(struct fifo *f, struct span_batch *b, uint64_t pos, const struct entry *e)
{
    b->at[b->n] = pos;
    b->entries[b->n++] = (struct mqg_index_entry){.qseq = fifo_qseq(f, pos),
                                                  .extent = e->extent,
                                                  .off = e->off,
                                                  .len = e->len,
                                                  .body_bytes = e->body_bytes};
}

/* Does a span lie between the batch's begin and pos? An empty batch then begins behind it. */
static bool batch_broken(const struct fifo *f, struct span_batch *b, uint64_t pos)
{
    const struct fifo_span *s;
    while ((s = fifo_span_from(f, b->from)) != NULL && s->pos < pos) {
        if (b->n > 0)
            return true;
        b->from = s->end;
    }
    return false;
}

/* Collects entries that follow each other from *pos on; moves *pos behind them. False: none, and no use to go on now. */
static bool batch_collect(struct fifo *f, struct span_batch *b, uint64_t *pos)
{
    uint64_t end = f->tail / FIFO_CHUNK * FIFO_CHUNK;
    struct entry *e;
    b->n = 0;
    b->from = *pos;
    for (; b->n < SPAN_BATCH && (e = fifo_next_live(f, pos)) != NULL && *pos < end; ++*pos) {
        enum span_fit fit = span_fits(e);
        bool redelivered = (e->flags & ENTRY_REDELIVERED) != 0;
        if (batch_broken(f, b, *pos) || (b->n > 0 && redelivered != b->redelivered))
            return true;
        if (fit != SPAN_FITS) {
            if (b->n > 0)
                return true;
            if (fit == SPAN_LATER)
                return false;
            b->from = *pos + 1;
            continue;
        }
        b->redelivered = redelivered;
        batch_add(f, b, *pos, e);
    }
    return b->n > 0;
}

/* The store has taken the first n. */
static void batch_forget(struct fifo *f, const struct span_batch *b, size_t n)
{
    struct fifo_span s = {.pos = b->from,
                          .end = b->at[n - 1] + 1,
                          .first = b->entries[0].qseq,
                          .last = b->entries[n - 1].qseq,
                          .count = n,
                          .redelivered = b->redelivered};
    for (size_t i = 0; i < n; i++)
        s.bytes += b->entries[i].body_bytes;
    fifo_span_add(f, &s);
    for (size_t i = 0; i < n; i++)
        fifo_free(f, fifo_at(f, b->at[i]), b->at[i]);
}

/* Behind the kept head and all spans there are: what was read back stays, and no span comes before the one being read. */
static uint64_t span_begin(struct mqg_queue *q)
{
    const struct fifo *f = &q->fifos[0];
    uint64_t cursor = queue_far(q)->span_cursor, head = f->scan + span_head_kept(),
             pos = head > cursor ? head : cursor;
    uint64_t end = f->spans ? f->spans->span[f->spans->n - 1].end : 0;
    return end > pos ? end : pos;
}

/* Some that stand alone in their segment the store never takes. If it takes what lies behind them, they stay: they must not keep
 * all that follow in memory. */
static uint64_t span_skip(const struct fifo *f, uint64_t pos)
{
    for (uint32_t n = 0; n < SPAN_SKIP && fifo_next_live(f, &pos) != NULL; n++)
        pos++;
    return pos;
}

void queue_span_forget(struct mqg_queue *q, uint64_t came)
{
    struct fifo *f = &q->fifos[0];
    uint32_t keep = queue_span_kept();
    if (f->live <= keep || !queue_span_able(q))
        return;
    uint64_t pos = span_begin(q);
    uint64_t batches = came * 2 / SPAN_BATCH > SPAN_BATCHES ? came * 2 / SPAN_BATCH : SPAN_BATCHES;
    uint64_t refused = FIFO_NONE;
    struct span_batch b;
    for (uint64_t i = 0; i < batches && f->live > keep && batch_collect(f, &b, &pos); i++) {
        size_t took = q->storage->ops->index_forget(q->storage->store, q->id, b.entries, b.n);
        MQG_ASSERT(took <= b.n);
        if (took > 0) {
            batch_forget(f, &b, took);
            refused = FIFO_NONE;
        }
        if (took == b.n)
            continue;
        if (refused != FIFO_NONE)
            break;
        refused = b.at[took];
        pos = span_skip(f, refused);
    }
    q->far->span_cursor = refused != FIFO_NONE ? refused : pos; /* not now: the next call goes on here */
}
