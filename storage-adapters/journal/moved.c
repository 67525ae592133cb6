/* moved.c - see moved.h. Rows are 12 bytes a message, made once and never changed. */
#include "moved.h"

#include <stdlib.h>

struct jrn_moved *jrn_moved_new(void)
{
    return mqg_xcalloc(1, sizeof(struct jrn_moved));
}

void jrn_moved_free(struct jrn_moved **m)
{
    if (!*m)
        return;
    free((*m)->rows);
    free(*m);
    *m = NULL;
}

static uint32_t moved_cold(struct jrn_moved *m, struct jrn_seg *cold)
{
    for (uint32_t i = m->ncold; i-- > 0;)
        if (m->colds[i] == cold)
            return i;
    MQG_ASSERT(m->ncold < JRN_PARTS_MAX);
    m->colds[m->ncold] = cold;
    return m->ncold++;
}

void jrn_moved_add(struct jrn_moved *m, struct jrn_seg *cold, uint64_t off, uint64_t new_off)
{
    MQG_ASSERT(off <= UINT32_MAX && new_off <= UINT32_MAX);
    if (m->n == m->cap) {
        m->cap = m->cap ? m->cap * 2 : 64;
        m->rows = mqg_xrealloc(m->rows, m->cap * sizeof *m->rows);
    }
    m->rows[m->n++] = (struct jrn_moved_row){(uint32_t)off, (uint32_t)new_off, moved_cold(m, cold)};
}

static int moved_order(const void *a, const void *b)
{
    const struct jrn_moved_row *x = a, *y = b;
    return x->off < y->off ? -1 : x->off > y->off;
}

void jrn_moved_sort(struct jrn_moved *m)
{
    if (m->n == 0)
        return;
    qsort(m->rows, m->n, sizeof *m->rows, moved_order);
    m->rows = mqg_xrealloc(m->rows, m->n * sizeof *m->rows);
    m->cap = m->n;
}

static const struct jrn_moved_row *moved_find(const struct jrn_moved *m, uint64_t off)
{
    uint32_t low = 0, high = m->n;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (m->rows[mid].off < off)
            low = mid + 1;
        else
            high = mid;
    }
    return low < m->n && m->rows[low].off == off ? &m->rows[low] : NULL;
}

struct jrn_seg *jrn_moved_pin(struct jrn_seg *seg, uint64_t *off)
{
    for (;;) {
        atomic_fetch_add(&seg->pins, 1);
        const struct jrn_moved *m = atomic_load(&seg->moved);
        if (!m)
            return seg;
        atomic_fetch_sub(&seg->pins, 1);
        const struct jrn_moved_row *row = moved_find(m, *off);
        if (!row)
            return NULL;
        seg = m->colds[row->cold];
        *off = row->new_off;
    }
}
