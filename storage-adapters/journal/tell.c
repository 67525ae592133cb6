/* tell.c - recovery tells the queues: every live message one by one, or as spans where the host wants them.
 *
 * A queue is a set of rows (in files) and of items (from the tail, and from groups too small for a row). They are swept in
 * qseq order. A row that nothing touches - no other row or item between its ends, no settled range, no count - is told by
 * its table line alone, its page unread; so a backlog costs nothing per message. Any other row is opened: its entries go
 * into a buffer, are merged with what overlaps, and leave it as soon as no later row can bring a smaller number. So memory
 * is bounded by what overlaps, not by the queue.
 *
 * The same message in two segments (a survivor that was copied) is told once, with the place in the later one. A message
 * with a delivery count is told by itself, for a span has no place for it; so are runs that are too short to be worth a
 * span. Everything else that stands in rows goes into one span until something must be told in between. */
#include "found.h"

#include "account.h"

#include <stdlib.h>

struct tell_touched {
    struct jrn_seg *seg;
    struct jrn_row *row;
    int64_t n;
};

struct tell {
    struct jrn_found *f;
    struct mqg_recover *r;
    struct mqg_error *e;
    struct found_queue *q;
    bool wanted;
    uint32_t gone, count, item; /* how far the sweep has come in each */
    struct found_item *buf;     /* opened rows, ascending */
    uint32_t nbuf, cap_buf;
    bool holds;
    struct found_item held; /* waits for a later copy of itself */
    /* the run: a few items, or a span already */
    struct found_item few[JRN_ROW_MIN];
    uint32_t nfew;
    bool span;
    uint64_t first, last, messages, bytes;
    struct tell_touched *touched;
    uint32_t ntouched, cap_touched;
    uint8_t *page;
    size_t cap_page;
};

/* ---- one message ------------------------------------------------------------------------------------------- */

static void tell_message(struct tell *t, const struct found_item *m, struct found_count count)
{
    struct mqg_recover *r = t->r;
    struct mqg_extent *x = &m->seg->whole;
    struct mqg_stored head = {.version = MQG_STORED_VERSION,
                              .proto = m->e.proto,
                              .flags = m->e.flags,
                              .priority = m->e.priority,
                              .key_sep = m->e.key_sep,
                              .append_us = m->e.append_us,
                              .ttl_ms = m->e.ttl_ms,
                              .body_len = m->e.body_len};
    mqg_extent_take(x, 1);
    if (r->message && r->message(r->arg, t->q->id, m->e.qseq, x, m->e.off, m->e.len, &head,
                                 count.delivery_count, count.acquired_count))
        t->f->told++;
    else {
        mqg_extent_take(x, -1);
        jrn_account_found(t->f->s, t->q->id, m->e.qseq,
                          m->e.qseq); /* its queue is gone, and with it the message */
    }
}

/* ---- the run -------------------------------------------------------------------------------------------------- */

static void tell_touch(struct tell *t, struct jrn_seg *seg, struct jrn_row *row, int64_t n)
{
    struct tell_touched *last = t->ntouched ? &t->touched[t->ntouched - 1] : NULL;
    mqg_extent_take(&seg->whole, n);
    if (last && last->row == row)
        last->n += n;
    else
        *FOUND_PUSH(t, touched, ntouched, cap_touched) = (struct tell_touched){seg, row, n};
}

static void tell_widen(struct tell *t, uint64_t first, uint64_t last, uint64_t n, uint64_t bytes)
{
    if (!t->span) {
        t->span = true;
        t->first = first;
        t->messages = t->bytes = 0;
    }
    t->last = last;
    t->messages += n;
    t->bytes += bytes;
}

static void tell_into_span(struct tell *t, const struct found_item *m)
{
    (void)jrn_row_set(m->row, m->e.qseq);
    tell_touch(t, m->seg, m->row, 1);
    tell_widen(t, m->e.qseq, m->e.qseq, 1, m->e.body_len);
}

/* The few become the beginning of a span. */
static void tell_begin_span(struct tell *t)
{
    for (uint32_t i = 0; i < t->nfew; i++)
        tell_into_span(t, &t->few[i]);
    t->nfew = 0;
}

/* The host did not want it: nothing of it stays forgotten. */
static void tell_undo(struct tell *t)
{
    for (uint32_t i = 0; i < t->ntouched; i++) {
        struct tell_touched *x = &t->touched[i];
        uint64_t first = x->row->first > t->first ? x->row->first : t->first;
        uint64_t last = x->row->last < t->last ? x->row->last : t->last;
        for (uint64_t n = first; n <= last && n >= first; n++)
            (void)jrn_row_clear(x->row, n);
        mqg_extent_take(&x->seg->whole, -x->n);
    }
    jrn_account_found(t->f->s, t->q->id, t->first, t->last);
}

static void tell_end_run(struct tell *t)
{
    for (uint32_t i = 0; i < t->nfew; i++)
        tell_message(t, &t->few[i], (struct found_count){0});
    t->nfew = 0;
    if (!t->span)
        return;
    if (t->r->span(t->r->arg, t->q->id, t->first, t->last, t->messages, t->bytes)) {
        t->f->told += t->messages;
        t->f->spans++;
    } else {
        tell_undo(t);
    }
    t->span = false;
    t->ntouched = 0;
}

static void tell_run_item(struct tell *t, const struct found_item *m)
{
    if (t->span) {
        tell_into_span(t, m);
        return;
    }
    t->few[t->nfew++] = *m;
    if (t->nfew >= t->f->s->row_min || t->nfew == JRN_ROW_MIN)
        tell_begin_span(t);
}

static void tell_run_row(struct tell *t, const struct found_row *at)
{
    tell_begin_span(t);
    jrn_row_set_all(at->row);
    tell_touch(t, at->seg, at->row, at->row->count);
    tell_widen(t, at->row->first, at->row->last, at->row->count, at->row->body_bytes);
}

/* ---- the sweep ------------------------------------------------------------------------------------------------- */

/* The last (largest) count of the qseq. */
static struct found_count tell_count(struct tell *t, uint64_t qseq)
{
    const struct found_queue *q = t->q;
    struct found_count c = {0};
    for (; t->count < q->ncount && q->counts[t->count].qseq <= qseq; t->count++) {
        const struct found_count *row = &q->counts[t->count];
        if (row->qseq != qseq)
            continue;
        c.delivery_count = row->delivery_count;
        if (row->acquired_count > c.acquired_count)
            c.acquired_count = row->acquired_count;
    }
    return c;
}

static bool tell_settled(struct tell *t, uint64_t first, uint64_t last)
{
    const struct found_queue *q = t->q;
    while (t->gone < q->ngone && q->gone[t->gone].last < first)
        t->gone++;
    return t->gone < q->ngone && q->gone[t->gone].first <= last;
}

/* The newest copy of a message. */
static void tell_out(struct tell *t, const struct found_item *m)
{
    struct found_count c = tell_count(t, m->e.qseq);
    if (tell_settled(t, m->e.qseq, m->e.qseq))
        return;
    if (t->wanted && m->row && c.delivery_count == 0 && c.acquired_count == 0) {
        tell_run_item(t, m);
    } else {
        tell_end_run(t);
        tell_message(t, m, c);
    }
}

static void tell_release(struct tell *t)
{
    if (t->holds)
        tell_out(t, &t->held);
    t->holds = false;
}

static bool tell_newer(const struct found_item *a, const struct found_item *b)
{
    return a->seg->seq != b->seg->seq ? a->seg->seq > b->seg->seq : a->e.off >= b->e.off;
}

static void tell_next(struct tell *t, const struct found_item *m)
{
    if (t->holds && t->held.e.qseq == m->e.qseq) {
        if (tell_newer(m, &t->held))
            t->held = *m;
        return;
    }
    tell_release(t);
    t->held = *m;
    t->holds = true;
}

/* Sends everything below `limit` on, items and opened rows together; all: everything. */
static void tell_flush(struct tell *t, uint64_t limit, bool all)
{
    const struct found_queue *q = t->q;
    uint32_t at = 0;
    for (;;) {
        const struct found_item *a = t->item < q->nitem ? &q->items[t->item] : NULL;
        const struct found_item *b = at < t->nbuf ? &t->buf[at] : NULL;
        bool first = a && (!b || a->e.qseq <= b->e.qseq);
        const struct found_item *m = first ? a : b;
        if (!m || (!all && m->e.qseq >= limit))
            break;
        tell_next(t, m);
        if (first)
            t->item++;
        else
            at++;
    }
    if (at)
        memmove(t->buf, t->buf + at, (t->nbuf - at) * sizeof *t->buf);
    t->nbuf -= at;
}

static int tell_item_order(const void *a, const void *b)
{
    const struct found_item *x = a, *y = b;
    if (x->e.qseq != y->e.qseq)
        return x->e.qseq < y->e.qseq ? -1 : 1;
    return x->seg->seq < y->seg->seq ? -1 : x->seg->seq > y->seg->seq;
}

static void tell_sort(struct found_item *items, uint32_t n)
{
    bool sorted = true;
    for (uint32_t i = 1; i < n && sorted; i++)
        sorted = items[i - 1].e.qseq <= items[i].e.qseq;
    if (!sorted)
        qsort(items, n, sizeof *items, tell_item_order);
}

/* Reads the row's page into the buffer. */
static enum mqg_err tell_open(struct tell *t, const struct found_row *at)
{
    struct jrn_page page;
    struct found_item item = {.seg = at->seg, .row = at->row};
    enum mqg_err err = jrn_index_page(t->f->s, at->seg, at->row, &t->page, &t->cap_page);
    if (err == MQG_OK) {
        jrn_page_init(&page, mqg_slice_of(t->page, at->row->page_len), at->row->queue_id, at->row->first,
                      at->row->count);
        while (jrn_page_next(&page, &item.e) && item.e.qseq <= at->row->last)
            *FOUND_PUSH(t, buf, nbuf, cap_buf) = item;
        err = jrn_page_whole(&page) ? MQG_OK : MQG_CORRUPT;
    }
    if (err != MQG_OK && !t->f->s->keep_going)
        return mqg_error_set(t->e, err, 0,
                             "%s: the index of %s cannot be read, nor made again; restore it, or set "
                             "%s.on_corruption=continue to start with what can be read",
                             t->f->s->section, at->seg->name, t->f->s->section);
    tell_sort(t->buf, t->nbuf);
    return MQG_OK;
}

/* Does nothing else lie between the row's ends? Everything below it was sent on. */
static bool tell_untouched(struct tell *t, const struct found_row *at, const struct found_row *next)
{
    const struct found_queue *q = t->q;
    const struct jrn_row *row = at->row;
    if (!t->wanted || t->nbuf || (next && next->row->first <= row->last) ||
        tell_settled(t, row->first, row->last))
        return false;
    if (t->item < q->nitem && q->items[t->item].e.qseq <= row->last)
        return false;
    while (t->count < q->ncount && q->counts[t->count].qseq < row->first)
        t->count++;
    return t->count == q->ncount || q->counts[t->count].qseq > row->last;
}

static enum mqg_err tell_rows(struct tell *t)
{
    const struct found_queue *q = t->q;
    for (uint32_t i = 0; i < q->nrow; i++) {
        const struct found_row *at = &q->rows[i], *next = i + 1 < q->nrow ? at + 1 : NULL;
        tell_flush(t, at->row->first, false);
        if (t->holds && t->held.e.qseq < at->row->first)
            tell_release(t);
        if (!t->holds && tell_untouched(t, at, next)) {
            tell_run_row(t, at);
            continue;
        }
        enum mqg_err err = tell_open(t, at);
        if (err != MQG_OK)
            return err;
    }
    tell_flush(t, 0, true);
    tell_release(t);
    tell_end_run(t);
    return MQG_OK;
}

/* ---- a queue --------------------------------------------------------------------------------------------------- */

static int tell_row_order(const void *a, const void *b)
{
    const struct found_row *x = a, *y = b;
    if (x->row->first != y->row->first)
        return x->row->first < y->row->first ? -1 : 1;
    return x->seg->seq < y->seg->seq ? -1 : x->seg->seq > y->seg->seq;
}

static int tell_count_order(const void *a, const void *b)
{
    const struct found_count *x = a, *y = b;
    if (x->qseq != y->qseq)
        return x->qseq < y->qseq ? -1 : 1;
    return x->delivery_count < y->delivery_count ? -1 : x->delivery_count > y->delivery_count;
}

static enum mqg_err tell_queue(struct tell *t, struct found_queue *q)
{
    struct mqg_recover *r = t->r;
    q->ngone = jrn_ranges_merge(q->gone, q->ngone); /* the sweep wants them apart */
    tell_sort(q->items, q->nitem);
    if (q->nrow)
        qsort(q->rows, q->nrow, sizeof *q->rows, tell_row_order);
    if (q->ncount)
        qsort(q->counts, q->ncount, sizeof *q->counts, tell_count_order);
    for (uint32_t i = 0; q->nitem + q->nrow > 0 && i < q->ngone; i++)
        jrn_account_found(t->f->s, q->id, q->gone[i].first, q->gone[i].last);
    t->q = q;
    t->gone = t->count = t->item = 0;
    t->wanted = q->nrow && r->span && r->spans_wanted && r->spans_wanted(r->arg, q->id);
    enum mqg_err err = tell_rows(t);
    jrn_found_queue_fini(q);
    return err;
}

enum mqg_err jrn_found_tell(struct jrn_found *f, struct mqg_recover *r, struct mqg_error *e)
{
    struct tell *t = mqg_xcalloc(1, sizeof *t);
    enum mqg_err err = MQG_OK;
    *t = (struct tell){.f = f, .r = r, .e = e};
    for (uint32_t i = 0; i < f->nqueue && err == MQG_OK; i++)
        err = tell_queue(t, &f->queues[i]);
    free(t->buf);
    free(t->touched);
    free(t->page);
    free(t);
    return err;
}
