/* forget.c - entries of a queue's index that the store remembers in the host's place.
 *
 * One bit per number says that an entry was handed over and not asked back. Handing over takes no lock and reads nothing:
 * the entry's extent names the segment, the segment's rows (sorted, in memory) name the bitmap. The live count moves from the
 * batch's extent to the segment's own, whose place is the file's first byte. Asking back pins the segments that hold such
 * rows, reads their pages on a reader thread, lowest numbers first, and clears the bits of what it answers; whoever clears a
 * bit has the entry, so two that ask at once never get the same.
 *
 * The segment's own extent may come to zero and be counted again: forgetting takes from an extent that is alive in the same
 * segment, so the segment's count cannot pass zero in between. */
#include "index.h"

#include <stdlib.h>

/* ---- bits -------------------------------------------------------------------------------------------------- */

static size_t row_words(const struct jrn_row *row)
{
    return (size_t)((row->last - row->first) / 64 + 1);
}

/* The row's bitmap, made when it is first needed; two that make it at once agree on one. */
static _Atomic uint64_t *row_bits(struct jrn_row *row)
{
    _Atomic uint64_t *bits = atomic_load_explicit(&row->bits, memory_order_acquire);
    if (MQG_LIKELY(bits != NULL))
        return bits;
    _Atomic uint64_t *made = mqg_xcalloc(row_words(row), sizeof *made);
    if (atomic_compare_exchange_strong(&row->bits, &bits, made))
        return made;
    free((void *)(uintptr_t)made);
    return bits;
}

bool jrn_row_set(struct jrn_row *row, uint64_t qseq)
{
    uint64_t at = qseq - row->first, bit = 1ull << (at % 64);
    return (atomic_fetch_or_explicit(&row_bits(row)[at / 64], bit, memory_order_acq_rel) & bit) == 0;
}

void jrn_row_set_all(struct jrn_row *row)
{
    _Atomic uint64_t *bits = row_bits(row);
    for (size_t i = 0; i < row_words(row); i++)
        atomic_store_explicit(&bits[i], UINT64_MAX, memory_order_relaxed);
}

bool jrn_row_is_set(const struct jrn_row *row, uint64_t qseq)
{
    const _Atomic uint64_t *bits = atomic_load_explicit(&row->bits, memory_order_acquire);
    uint64_t at = qseq - row->first;
    return bits && (atomic_load_explicit(&bits[at / 64], memory_order_acquire) >> (at % 64) & 1);
}

bool jrn_row_clear(struct jrn_row *row, uint64_t qseq)
{
    _Atomic uint64_t *bits = atomic_load_explicit(&row->bits, memory_order_acquire);
    uint64_t at = qseq - row->first, bit = 1ull << (at % 64);
    return bits && (atomic_fetch_and_explicit(&bits[at / 64], ~bit, memory_order_acq_rel) & bit) != 0;
}

struct jrn_row *jrn_index_row(const struct jrn_index *x, uint64_t queue_id, uint64_t qseq)
{
    uint32_t low = 0, high = x->nrow;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        const struct jrn_row *r = &x->rows[mid];
        if (r->queue_id < queue_id || (r->queue_id == queue_id && r->last < qseq))
            low = mid + 1;
        else
            high = mid;
    }
    return low < x->nrow && x->rows[low].queue_id == queue_id ? &x->rows[low] : NULL;
}

/* ---- handing over -------------------------------------------------------------------------------------------- */

void jrn_index_take(struct jrn_seg *seg, int64_t n)
{
    if (atomic_fetch_add_explicit(&seg->whole.live, n, memory_order_acq_rel) == 0) {
        atomic_fetch_add(&seg->extents, 1);
        atomic_fetch_add(&seg->live, 1);
    }
}

/* The row that has the entry; NULL when it cannot be forgotten now. *last is the row of the entry before it. */
static struct jrn_row *forget_find(uint64_t queue_id, const struct mqg_index_entry *e, struct jrn_seg **seg,
                                   struct jrn_row *last)
{
    if (atomic_load_explicit(&e->extent->place, memory_order_acquire) == MQG_PLACE_NONE)
        return NULL;
    struct jrn_seg *its = e->extent->owner;
    if (last && its == *seg && e->qseq >= last->first && e->qseq <= last->last)
        return last;
    const struct jrn_index *x = its ? atomic_load_explicit(&its->index, memory_order_acquire) : NULL;
    struct jrn_row *row = x ? jrn_index_row(x, queue_id, e->qseq) : NULL;
    *seg = its;
    return row && row->first <= e->qseq ? row : NULL;
}

size_t jrn_index_forget(struct mqg_store *s, uint64_t queue_id, const struct mqg_index_entry *entries,
                        size_t n)
{
    struct jrn_seg *seg = NULL;
    struct jrn_row *row = NULL;
    (void)s;
    for (size_t i = 0; i < n; i++) {
        struct mqg_extent *from = entries[i].extent;
        row = forget_find(queue_id, &entries[i], &seg, row);
        if (!row)
            return i;
        jrn_index_take(seg, 1); /* before the bit: who clears it has the count */
        if (!jrn_row_set(row, entries[i].qseq)) {
            mqg_extent_give(&seg->whole,
                            1); /* forgotten already: the host's error, and nothing is lost by it */
            return i;
        }
        mqg_extent_give(from, 1);
    }
    return n;
}

/* ---- asking back ---------------------------------------------------------------------------------------------- */

struct forget_row {
    struct jrn_seg *seg;
    struct jrn_row *row;
};

struct forget_job {
    struct mqg_store *s;
    struct mqg_index_req *req;
    struct forget_row *rows; /* by first */
    struct jrn_seg **pinned;
    uint32_t nrow, cap_row, npinned, cap_pinned;
    struct forget_found *found; /* by qseq */
    uint32_t nfound, cap_found;
    uint8_t *buf;
    size_t cap;
};

struct forget_found {
    struct jrn_entry e;
    struct forget_row at;
};

#define FORGET_PUSH(job, list, count, cap)                                                           \
    ((job)->count == (job)->cap                                                                      \
         ? (void)((job)->cap = (job)->cap ? (job)->cap * 2 : 16,                                     \
                  (job)->list = mqg_xrealloc((job)->list, (size_t)(job)->cap * sizeof *(job)->list)) \
         : (void)0,                                                                                  \
     &(job)->list[(job)->count++])

/* The rows of one segment that may hold what is asked for. Under seg_lock. */
static void forget_collect(struct forget_job *job, struct jrn_seg *seg)
{
    const struct jrn_index *x = atomic_load_explicit(&seg->index, memory_order_acquire);
    const struct mqg_index_req *req = job->req;
    uint32_t had = job->nrow;
    if (!x || atomic_load(&seg->whole.live) == 0) /* it never rises again once the segment is dead */
        return;
    struct jrn_row *row = jrn_index_row(x, req->queue_id, req->first);
    for (; row && row < x->rows + x->nrow && row->queue_id == req->queue_id && row->first <= req->last; row++)
        if (atomic_load_explicit(&row->bits, memory_order_relaxed))
            *FORGET_PUSH(job, rows, nrow, cap_row) = (struct forget_row){seg, row};
    if (job->nrow == had)
        return;
    atomic_fetch_add(&seg->pins, 1);
    *FORGET_PUSH(job, pinned, npinned, cap_pinned) = seg;
}

static int forget_row_order(const void *a, const void *b)
{
    const struct forget_row *x = a, *y = b;
    return x->row->first < y->row->first ? -1 : x->row->first > y->row->first;
}

static int forget_found_order(const void *a, const void *b)
{
    const struct forget_found *x = a, *y = b;
    if (x->e.qseq != y->e.qseq)
        return x->e.qseq < y->e.qseq ? -1 : 1;
    return x->at.seg->seq < y->at.seg->seq ? -1 : x->at.seg->seq > y->at.seg->seq;
}

/* Adds what is forgotten of one row; an error leaves all of it where it is. */
static enum mqg_err forget_page(struct forget_job *job, struct forget_row at)
{
    struct jrn_page page;
    struct jrn_entry e;
    uint64_t end = atomic_load(&at.seg->end);
    uint32_t had = job->nfound;
    enum mqg_err err = jrn_index_page(job->s, at.seg, at.row, &job->buf, &job->cap);
    if (err != MQG_OK)
        return err;
    jrn_page_init(&page, mqg_slice_of(job->buf, at.row->page_len), at.row->queue_id, at.row->first,
                  at.row->count);
    while (jrn_page_next(&page, &e)) {
        bool wanted = e.qseq >= job->req->first && e.qseq <= job->req->last && e.qseq <= at.row->last;
        if (wanted && e.off <= end && e.len <= end - e.off && jrn_row_is_set(at.row, e.qseq))
            *FORGET_PUSH(job, found, nfound, cap_found) = (struct forget_found){e, at};
    }
    if (!jrn_page_whole(&page)) {
        job->nfound = had;
        return MQG_CORRUPT;
    }
    return MQG_OK;
}

/* Takes the found entries below `limit` into the request, as long as there is room. */
static void forget_answer(struct forget_job *job, uint64_t limit)
{
    struct mqg_index_req *req = job->req;
    uint32_t i = 0;
    for (; i < job->nfound && req->n < req->max && job->found[i].e.qseq <= limit; i++) {
        const struct jrn_entry *e = &job->found[i].e;
        struct forget_row at = job->found[i].at;
        if (!jrn_row_clear(at.row, e->qseq))
            continue; /* somebody else was quicker */
        req->entries[req->n++] = (struct mqg_index_entry){.qseq = e->qseq,
                                                          .extent = &at.seg->whole,
                                                          .off = e->off,
                                                          .len = e->len,
                                                          .body_bytes = e->body_len,
                                                          .flags = e->flags,
                                                          .priority = e->priority,
                                                          .append_us = e->append_us,
                                                          .ttl_ms = e->ttl_ms};
    }
    if (i)
        memmove(job->found, job->found + i, (job->nfound - i) * sizeof *job->found);
    job->nfound -= i;
}

static void forget_work(struct forget_job *job)
{
    struct mqg_index_req *req = job->req;
    if (job->nrow)
        qsort(job->rows, job->nrow, sizeof *job->rows, forget_row_order);
    for (uint32_t i = 0; i < job->nrow && req->n < req->max; i++) {
        enum mqg_err err = forget_page(job, job->rows[i]);
        if (err != MQG_OK)
            req->err = err;
        if (job->nfound)
            qsort(job->found, job->nfound, sizeof *job->found, forget_found_order);
        bool last = i + 1 == job->nrow;
        uint64_t next = last ? 0 : job->rows[i + 1].row->first;
        if (last || next > job->rows[i].row->first)
            forget_answer(job, last ? UINT64_MAX : next - 1);
    }
}

/* On a reader thread, or at once when there are none or there is nothing to read. */
static void forget_run(struct mqg_store *s, void *arg)
{
    struct forget_job *job = arg;
    struct mqg_index_req *req = job->req;
    forget_work(job);
    for (uint32_t i = 0; i < job->npinned; i++)
        jrn_seg_unpin(s, job->pinned[i]);
    free(job->rows);
    free(job->pinned);
    free(job->found);
    free(job->buf);
    free(job);
    req->done(req);
}

void jrn_index_read(struct mqg_store *s, struct mqg_index_req *req)
{
    struct forget_job *job = mqg_xcalloc(1, sizeof *job);
    job->s = s;
    job->req = req;
    req->n = 0;
    req->err = MQG_OK;
    pthread_mutex_lock(&s->seg_lock);
    for (struct jrn_seg *seg = s->indexed; seg; seg = seg->next_indexed)
        forget_collect(job, seg);
    pthread_mutex_unlock(&s->seg_lock);
    if (job->nrow == 0)
        forget_run(s, job);
    else
        jrn_readers_run(s, forget_run, job);
}
