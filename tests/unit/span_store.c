/* span_store.c - see span_store.h. One lock; rows of a queue ascend by qseq. */
#include "span_store.h"

#include <pthread.h>
#include <stdlib.h>

#include <mqgate/map.h>

#define STORE_QUEUES 32
#define STORE_YOUNG  500u /* the latest rows are in no segment that has an index */
#define STORE_RUN    700u /* rows told as one span */

/* A message, of one queue or of several. */
struct body {
    uint32_t id, len;
    uint8_t bytes[];
};

struct row {
    uint64_t queue, qseq;
    struct mqg_extent *extent;
    const struct body *body; /* NULL: only its settle has come */
    bool settled, forgotten;
};

struct rows {
    uint64_t queue;
    struct row **row;
    size_t n, cap;
};

struct mqg_store {
    struct mqg_store_host host;
    struct mqg_extent **open; /* per lane */
    uint32_t nlanes;
    pthread_t thread;
    pthread_cond_t some;
    bool started, stop;
    struct mqg_load_req *loads, **loads_last;
    struct mqg_index_req *reads, **reads_last;
};

/* What outlives the store; under the lock. */
static pthread_mutex_t disk_lock = PTHREAD_MUTEX_INITIALIZER;
static struct rows disk_rows[STORE_QUEUES];
static size_t disk_queues;
static struct body **disk_all; /* by id */
static size_t disk_n, disk_cap;
static struct mqg_map disk_meta;
static struct mqg_extent **disk_extents;
static size_t disk_extents_n;
static bool disk_unclean, disk_hold;
static uint64_t disk_broken[2];

struct meta {
    size_t len;
    uint8_t bytes[];
};

/* ---- rows ---------------------------------------------------------------------------------------------------------- */

static struct rows *rows_of(uint64_t queue)
{
    for (size_t i = 0; i < disk_queues; i++)
        if (disk_rows[i].queue == queue)
            return &disk_rows[i];
    MQG_ASSERT(disk_queues < STORE_QUEUES);
    disk_rows[disk_queues].queue = queue;
    return &disk_rows[disk_queues++];
}

/* Index of the first row whose qseq is not below. */
static size_t rows_find(const struct rows *r, uint64_t qseq)
{
    size_t low = 0, high = r->n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (r->row[mid]->qseq < qseq)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static struct row *row_at(uint64_t queue, uint64_t qseq, bool make)
{
    struct rows *r = rows_of(queue);
    size_t i = rows_find(r, qseq);
    if (i < r->n && r->row[i]->qseq == qseq)
        return r->row[i];
    if (!make)
        return NULL;
    if (r->n == r->cap) {
        r->cap = r->cap ? r->cap * 2 : 1024;
        r->row = mqg_xrealloc(r->row, r->cap * sizeof(struct row *));
    }
    memmove(r->row + i + 1, r->row + i, (r->n++ - i) * sizeof(struct row *));
    struct row *row = r->row[i] = mqg_xcalloc(1, sizeof(*row));
    row->queue = queue;
    row->qseq = qseq;
    return row;
}

static const struct body *body_new(const struct mqg_msg *m)
{
    if (disk_n == disk_cap) {
        disk_cap = disk_cap ? disk_cap * 2 : 1024;
        disk_all = mqg_xrealloc(disk_all, disk_cap * sizeof(struct body *));
    }
    struct body *b = disk_all[disk_n] = mqg_xmalloc(sizeof(*b) + m->total_len);
    b->id = (uint32_t)disk_n++;
    b->len = m->total_len;
    memcpy(b->bytes, mqg_msg_stored(m).ptr, b->len);
    return b;
}

static size_t rows_count(bool (*is)(const struct row *row))
{
    size_t n = 0;
    pthread_mutex_lock(&disk_lock);
    for (size_t i = 0; i < disk_queues; i++)
        for (size_t k = 0; k < disk_rows[i].n; k++)
            n += is(disk_rows[i].row[k]);
    pthread_mutex_unlock(&disk_lock);
    return n;
}

static bool row_live(const struct row *row)
{
    return !row->settled;
}
static bool row_forgotten(const struct row *row)
{
    return row->forgotten;
}
size_t span_store_live(void)
{
    return rows_count(row_live);
}
size_t span_store_forgotten(void)
{
    return rows_count(row_forgotten);
}

/* ---- what tests may do ------------------------------------------------------------------------------------------------ */

static struct mqg_extent *extent_new(void)
{
    struct mqg_extent *x = mqg_xcalloc(1, sizeof(*x));
    x->ops = &span_store_ops;
    atomic_init(&x->place, MQG_PLACE_NONE);
    disk_extents = mqg_xrealloc(disk_extents, (disk_extents_n + 1) * sizeof(struct mqg_extent *));
    disk_extents[disk_extents_n++] = x;
    return x;
}

void span_store_reset(void)
{
    for (size_t i = 0; i < disk_queues; i++) {
        for (size_t k = 0; k < disk_rows[i].n; k++)
            free(disk_rows[i].row[k]);
        free(disk_rows[i].row);
        disk_rows[i] = (struct rows){0};
    }
    for (size_t i = 0; i < disk_n; i++)
        free(disk_all[i]);
    for (size_t i = 0; i < disk_extents_n; i++)
        free(disk_extents[i]);
    for (struct mqg_map_iter it = {0}; mqg_map_next(&disk_meta, &it);)
        free(it.value);
    mqg_map_fini(&disk_meta);
    mqg_map_init(&disk_meta, MQG_MAP_COPY);
    free(disk_all);
    free(disk_extents);
    disk_all = NULL;
    disk_extents = NULL;
    disk_n = disk_cap = disk_extents_n = disk_queues = 0;
    disk_unclean = disk_hold = false;
    disk_broken[0] = disk_broken[1] = 0;
}

void span_store_unclean(bool unclean)
{
    disk_unclean = unclean;
}

int64_t span_store_extents(void)
{
    int64_t n = 0;
    pthread_mutex_lock(&disk_lock);
    for (size_t i = 0; i < disk_extents_n; i++)
        n += atomic_load(&disk_extents[i]->live);
    pthread_mutex_unlock(&disk_lock);
    return n;
}

static struct mqg_store *store_now;

void span_store_hold(bool hold)
{
    pthread_mutex_lock(&disk_lock);
    disk_hold = hold;
    if (store_now)
        pthread_cond_signal(&store_now->some);
    pthread_mutex_unlock(&disk_lock);
}

bool span_store_waiting(void)
{
    pthread_mutex_lock(&disk_lock);
    bool any = store_now && (store_now->reads || store_now->loads);
    pthread_mutex_unlock(&disk_lock);
    return any;
}

void span_store_break(uint64_t first, uint64_t last)
{
    pthread_mutex_lock(&disk_lock);
    disk_broken[0] = first;
    disk_broken[1] = last;
    pthread_mutex_unlock(&disk_lock);
}

/* ---- life ------------------------------------------------------------------------------------------------------------- */

static enum mqg_err store_open(struct mqg_store **out, const struct mqg_store_host *host,
                               const struct mqg_conf *conf, const char *section, uint32_t nlanes,
                               struct mqg_error *e)
{
    (void)conf, (void)section, (void)e;
    struct mqg_store *s = mqg_xcalloc(1, sizeof(*s));
    s->host = *host;
    s->nlanes = nlanes;
    s->open = mqg_xcalloc(nlanes, sizeof(struct mqg_extent *));
    s->loads_last = &s->loads;
    s->reads_last = &s->reads;
    pthread_cond_init(&s->some, NULL);
    store_now = *out = s;
    return MQG_OK;
}

static void recover_metas(struct mqg_recover *r)
{
    for (struct mqg_map_iter it = {0}; mqg_map_next(&disk_meta, &it);)
        r->meta(r->arg, it.key,
                mqg_slice_of(((struct meta *)it.value)->bytes, ((struct meta *)it.value)->len));
    r->meta_end(r->arg);
}

static const struct mqg_stored *row_head(const struct row *row)
{
    return (const struct mqg_stored *)(const void *)row->body->bytes;
}

static void recover_run(struct mqg_recover *r, const struct rows *rows, size_t from, size_t to,
                        uint64_t count)
{
    uint64_t bytes = 0;
    for (size_t i = from; i < to; i++) {
        struct row *row = rows->row[i];
        if (row->settled)
            continue;
        row->forgotten = true;
        bytes += row_head(row)->body_len;
    }
    MQG_ASSERT(r->span(r->arg, rows->queue, rows->row[from]->qseq, rows->row[to - 1]->qseq, count, bytes));
}

/* Spans of STORE_RUN rows, and one row told by itself after each. */
static void recover_rows(struct mqg_store *s, struct mqg_recover *r, const struct rows *rows)
{
    bool spans = r->span && r->spans_wanted(r->arg, rows->queue);
    struct mqg_extent *x = extent_new();
    x->store = s;
    atomic_store(&x->place, 0);
    size_t from = 0;
    uint64_t count = 0;
    for (size_t i = 0; i < rows->n; i++) {
        struct row *row = rows->row[i];
        if (row->settled)
            continue;
        mqg_extent_take(x, 1);
        row->extent = x;
        row->forgotten = false;
        if (count++ == 0)
            from = i;
        if (spans && count <= STORE_RUN)
            continue;
        if (spans)
            recover_run(r, rows, from, i, count - 1);
        MQG_ASSERT(
            r->message(r->arg, row->queue, row->qseq, x, row->body->id, row->body->len, row_head(row), 0, 0));
        count = 0;
    }
    if (spans && count > 0)
        recover_run(r, rows, from, rows->n, count);
}

static enum mqg_err store_recover(struct mqg_store *s, struct mqg_recover *r, struct mqg_error *e)
{
    (void)e;
    for (size_t i = 0; i < disk_extents_n; i++) /* those who held them are gone */
        atomic_store(&disk_extents[i]->live, 0);
    recover_metas(r);
    for (size_t i = 0; i < disk_queues; i++)
        recover_rows(s, r, &disk_rows[i]);
    r->unclean = disk_unclean;
    return MQG_OK;
}

/* ---- answers ------------------------------------------------------------------------------------------------------------ */

static void answer_load(struct mqg_load_req *req)
{
    for (uint32_t i = 0; i < req->n; i++) {
        struct mqg_load *item = &req->items[i];
        pthread_mutex_lock(&disk_lock);
        const struct body *b = disk_all[item->off];
        MQG_ASSERT(b->len == item->len);
        item->msg = mqg_msg_from_stored(mqg_slice_of(b->bytes, b->len), &item->err);
        pthread_mutex_unlock(&disk_lock);
    }
    req->done(req);
}

static bool row_broken(const struct row *row)
{
    uint64_t counter = row->qseq & ((UINT64_C(1) << 48) - 1);
    return counter >= disk_broken[0] && counter <= disk_broken[1];
}

static void answer_read(struct mqg_index_req *req)
{
    pthread_mutex_lock(&disk_lock);
    struct rows *rows = rows_of(req->queue_id);
    req->n = 0;
    req->err = MQG_OK;
    for (size_t i = rows_find(rows, req->first); i < rows->n && req->n < req->max; i++) {
        struct row *row = rows->row[i];
        if (row->qseq > req->last)
            break;
        if (!row->forgotten)
            continue;
        if (row_broken(row)) {
            req->err = MQG_CORRUPT;
            break;
        }
        row->forgotten = false; /* settled or not: it is counted until it was asked back */
        const struct mqg_stored *st = row_head(row);
        req->entries[req->n++] = (struct mqg_index_entry){.qseq = row->qseq,
                                                          .extent = row->extent,
                                                          .off = row->body->id,
                                                          .len = row->body->len,
                                                          .body_bytes = st->body_len,
                                                          .flags = st->flags,
                                                          .priority = st->priority,
                                                          .append_us = st->append_us,
                                                          .ttl_ms = st->ttl_ms};
    }
    pthread_mutex_unlock(&disk_lock);
    req->done(req);
}

static void *store_run(void *arg)
{
    struct mqg_store *s = arg;
    pthread_mutex_lock(&disk_lock);
    while (!s->stop || s->loads || s->reads) {
        struct mqg_load_req *load = disk_hold ? NULL : s->loads;
        struct mqg_index_req *read = disk_hold ? NULL : s->reads;
        if (load && !(s->loads = load->next))
            s->loads_last = &s->loads;
        if (read && !(s->reads = read->next))
            s->reads_last = &s->reads;
        if (!load && !read) {
            pthread_cond_wait(&s->some, &disk_lock);
            continue;
        }
        pthread_mutex_unlock(&disk_lock);
        if (load)
            answer_load(load);
        if (read)
            answer_read(read);
        pthread_mutex_lock(&disk_lock);
    }
    pthread_mutex_unlock(&disk_lock);
    return NULL;
}

static void store_load(struct mqg_store *s, struct mqg_load_req *req)
{
    pthread_mutex_lock(&disk_lock);
    req->next = NULL;
    *s->loads_last = req;
    s->loads_last = &req->next;
    pthread_cond_signal(&s->some);
    pthread_mutex_unlock(&disk_lock);
}

static void store_read(struct mqg_store *s, struct mqg_index_req *req)
{
    pthread_mutex_lock(&disk_lock);
    req->next = NULL;
    *s->reads_last = req;
    s->reads_last = &req->next;
    pthread_cond_signal(&s->some);
    pthread_mutex_unlock(&disk_lock);
}

static size_t store_forget(struct mqg_store *s, uint64_t queue, const struct mqg_index_entry *entries,
                           size_t n)
{
    (void)s;
    size_t took = 0;
    pthread_mutex_lock(&disk_lock);
    for (; took < n; took++) {
        struct row *row = row_at(queue, entries[took].qseq, false);
        MQG_ASSERT(row && row->body && !row->settled && !row->forgotten &&
                   row->body->id == entries[took].off);
        MQG_ASSERT(row->extent == entries[took].extent && (took == 0 || row->qseq > entries[took - 1].qseq));
        if (row->body->id + STORE_YOUNG > disk_n)
            break;
        row->forgotten = true;
    }
    pthread_mutex_unlock(&disk_lock);
    return took;
}

static enum mqg_err store_start(struct mqg_store *s, struct mqg_error *e)
{
    (void)e;
    MQG_ASSERT(pthread_create(&s->thread, NULL, store_run, s) == 0);
    s->started = true;
    return MQG_OK;
}

/* ---- batches ------------------------------------------------------------------------------------------------------------- */

static struct mqg_extent *store_extent_open(struct mqg_store *s, uint32_t lane)
{
    if (s->open[lane])
        return s->open[lane];
    pthread_mutex_lock(&disk_lock);
    struct mqg_extent *x = extent_new();
    pthread_mutex_unlock(&disk_lock);
    x->store = s;
    atomic_store(&x->live, 1);
    return s->open[lane] = x;
}

static void store_extent_dead(struct mqg_store *s, struct mqg_extent *x)
{
    (void)s, (void)x; /* freed with the folder */
}

static void apply_msg(struct mqg_msg *m, const struct mqg_dest *dests, uint32_t n)
{
    const struct body *b = body_new(m);
    m->extent_off = b->id;
    for (uint32_t i = 0; i < n; i++) {
        struct row *row = row_at(dests[i].queue_id, dests[i].qseq, true);
        MQG_ASSERT(!row->body);
        row->body = b;
        row->extent = m->extent;
    }
}

/* A range over what was forgotten is a span's, and says again what was settled in it before; it may run over two lives. */
static void apply_settle_span(uint64_t queue, const struct mqg_range *r)
{
    struct rows *rows = rows_of(queue);
    for (size_t i = rows_find(rows, r->first); i < rows->n && rows->row[i]->qseq <= r->last; i++)
        rows->row[i]->settled = true;
}

static void apply_settle(uint64_t queue, const struct mqg_range *r)
{
    struct row *first = row_at(queue, r->first, true);
    if (first->forgotten) {
        apply_settle_span(queue, r);
        return;
    }
    for (uint64_t qseq = r->first; qseq <= r->last; qseq++) {
        struct row *row = row_at(queue, qseq, true);
        MQG_ASSERT(!row->settled || row->forgotten || r->first != r->last);
        row->settled = true; /* perhaps before its message */
    }
}

static void apply_meta(const struct mqg_store_op *op)
{
    struct meta *m = NULL;
    if (!op->meta.remove) {
        m = mqg_xmalloc(sizeof(*m) + op->meta.value.len);
        m->len = op->meta.value.len;
        memcpy(m->bytes, op->meta.value.ptr, m->len);
    }
    free(m ? mqg_map_set(&disk_meta, op->meta.key, m) : mqg_map_del(&disk_meta, op->meta.key));
}

static enum mqg_err store_submit(struct mqg_store *s, uint32_t lane, const struct mqg_store_op *ops, size_t n,
                                 uint64_t ticket, unsigned flags)
{
    (void)flags;
    bool any = false;
    pthread_mutex_lock(&disk_lock);
    for (size_t i = 0; i < n; i++) {
        const struct mqg_store_op *op = &ops[i];
        if (op->kind == MQG_OP_MSG) {
            any = true;
            apply_msg(op->msg.msg, op->msg.dests, op->msg.ndest);
        } else if (op->kind == MQG_OP_SETTLE) {
            for (uint32_t k = 0; k < op->settle.n; k++)
                apply_settle(op->settle.queue_id, &op->settle.ranges[k]);
        } else if (op->kind == MQG_OP_META) {
            apply_meta(op);
        }
    }
    pthread_mutex_unlock(&disk_lock);
    if (any) {
        struct mqg_extent *x = s->open[lane];
        s->open[lane] = NULL;
        atomic_store_explicit(&x->place, 0, memory_order_release);
        mqg_extent_give(x, 1);
    }
    s->host.done(s->host.host, lane, ticket);
    return MQG_OK;
}

static void store_stats(struct mqg_store *s, struct mqg_store_stats *out)
{
    (void)s;
    *out = (struct mqg_store_stats){.state = "ok"};
}

static void store_close(struct mqg_store *s)
{
    (void)s;
}

static void store_stop(struct mqg_store *s)
{
    if (!s->started)
        return;
    pthread_mutex_lock(&disk_lock);
    s->stop = true;
    pthread_cond_signal(&s->some);
    pthread_mutex_unlock(&disk_lock);
    pthread_join(s->thread, NULL);
}

static void store_fini(struct mqg_store **store)
{
    struct mqg_store *s = *store;
    store_now = *store = NULL;
    pthread_cond_destroy(&s->some);
    free(s->open);
    free(s);
}

static void store_dump(struct mqg_store *s, int fd)
{
    (void)s, (void)fd;
}

const struct mqg_store_ops span_store_ops = {
    .type = "span",
    .caps = MQG_STORE_DURABLE | MQG_STORE_QUEUES | MQG_STORE_META | MQG_STORE_ATOMIC_GROUPS | MQG_STORE_INDEX,
    .open = store_open,
    .recover = store_recover,
    .start = store_start,
    .extent_open = store_extent_open,
    .extent_dead = store_extent_dead,
    .submit = store_submit,
    .load = store_load,
    .stats = store_stats,
    .close = store_close,
    .stop = store_stop,
    .fini = store_fini,
    .dump = store_dump,
    .index_forget = store_forget,
    .index_read = store_read,
};
