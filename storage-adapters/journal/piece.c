/* piece.c - see piece.h.
 *
 * A piece is a page in `raw` until the end, when all of a queue lie side by side; then pieces of several runs that got in each
 * other's way are decoded once more and cut anew, one queue at a time. */
#include "piece.h"

#include <stdlib.h>

#define PIECE_PUSH(ps)                                                                                      \
    ((ps)->n == (ps)->cap ? (void)((ps)->cap = (ps)->cap ? (ps)->cap * 2 : 16,                              \
                                   (ps)->at = mqg_xrealloc((ps)->at, (size_t)(ps)->cap * sizeof *(ps)->at)) \
                          : (void)0,                                                                        \
     &(ps)->at[(ps)->n++])

static void piece_add(struct jrn_pieces *ps, const struct jrn_entry *e, uint32_t n)
{
    struct jrn_cut piece = {.queue_id = e->queue_id,
                            .first = e->qseq,
                            .last = e[n - 1].qseq,
                            .at = mqg_dynbuf_view(&ps->raw).len,
                            .count = n};
    ps->full = !jrn_page_encode(&ps->raw, e, n) || ps->full;
    for (uint32_t i = 0; i < n; i++)
        piece.eights += e[i].eights;
    piece.len = (uint32_t)(mqg_dynbuf_view(&ps->raw).len - piece.at);
    *PIECE_PUSH(ps) = piece;
}

/* Cuts the entries of one queue, ascending, into pieces. */
void jrn_pieces_cut(struct jrn_pieces *ps, const struct jrn_entry *e, uint32_t n)
{
    for (uint32_t i = 0, k; i < n; i += k) {
        for (k = 1; k < JRN_ROW_ENTRIES && i + k < n && e[i + k].qseq - e[i].qseq < JRN_ROW_SPAN; k++) {
        }
        piece_add(ps, e + i, k);
    }
}

static int piece_order(const void *a, const void *b)
{
    const struct jrn_cut *x = a, *y = b;
    if (x->queue_id != y->queue_id)
        return x->queue_id < y->queue_id ? -1 : 1;
    if (x->first != y->first)
        return x->first < y->first ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* Do the pieces overlap, or could small ones be joined? */
static bool piece_untidy(const struct jrn_cut *p, uint32_t n, uint32_t row_min)
{
    for (uint32_t i = 1; i < n; i++) {
        bool small = p[i - 1].count < row_min || p[i].count < row_min;
        if (p[i].first <= p[i - 1].last || (small && p[i].last - p[i - 1].first < JRN_ROW_SPAN))
            return true;
    }
    return false;
}

static int piece_copy_order(const void *a, const void *b)
{
    const struct jrn_entry *x = a, *y = b;
    if (x->qseq != y->qseq)
        return x->qseq < y->qseq ? -1 : 1;
    return x->off < y->off ? -1 : x->off > y->off;
}

/* Mostly they are in order already. */
static void piece_sort(struct jrn_entry *e, uint32_t n)
{
    bool sorted = true;
    for (uint32_t i = 1; i < n && sorted; i++)
        sorted = piece_copy_order(&e[i - 1], &e[i]) <= 0;
    if (!sorted)
        qsort(e, n, sizeof *e, piece_copy_order);
}

/* Takes the pieces of one queue apart and cuts them anew, behind all others. */
static void piece_recut(struct jrn_pieces *ps, uint32_t from, uint32_t n)
{
    uint32_t all = 0, kept = 0;
    for (uint32_t i = from; i < from + n; i++)
        all += ps->at[i].count;
    struct jrn_entry *e = mqg_xmalloc((size_t)all * sizeof *e);
    all = 0;
    for (uint32_t i = from; i < from + n; i++) {
        struct jrn_cut *p = &ps->at[i];
        struct jrn_page page;
        struct mqg_slice raw = mqg_dynbuf_view(&ps->raw);
        jrn_page_init(&page, mqg_slice_of(raw.ptr + p->at, p->len), p->queue_id, p->first, p->count);
        while (jrn_page_next(&page, &e[all]))
            e[all++].eights = p->eights / p->count;
        p->count = 0;
    }
    piece_sort(e, all);
    for (uint32_t i = 0; i < all; i++)
        if (i + 1 == all || e[i + 1].qseq != e[i].qseq)
            e[kept++] = e[i];
    jrn_pieces_cut(ps, e, kept);
    free(e);
}

/* Those that were taken apart go, before the rest is sorted again: of a fan-out that is nearly all. */
static void piece_forget_empty(struct jrn_pieces *ps)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < ps->n; i++)
        if (ps->at[i].count > 0)
            ps->at[kept++] = ps->at[i];
    ps->n = kept;
}

void jrn_pieces_order(struct jrn_pieces *ps, bool tidy, uint32_t row_min)
{
    uint32_t n = ps->n;
    if (n)
        qsort(ps->at, n, sizeof *ps->at, piece_order);
    for (uint32_t i = 0, k; tidy && !ps->full && i < n; i += k) {
        for (k = 1; i + k < n && ps->at[i + k].queue_id == ps->at[i].queue_id; k++) {
        }
        if (piece_untidy(ps->at + i, k, row_min))
            piece_recut(ps, i, k);
    }
    if (ps->n == n)
        return;
    piece_forget_empty(ps);
    if (ps->n)
        qsort(ps->at, ps->n, sizeof *ps->at, piece_order);
}
