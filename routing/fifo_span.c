/* routing/fifo_span.c - the parts of an index that only the store remembers.
 *
 *   positions   0 ......... 8191 | 8192 ......................... 9999999 | 10000000 ... tail
 *               entries          | span: qseqs, count, bytes             | entries
 *
 * A span keeps the ring's numbers (8 bytes for 64 entries) and nothing else. When its entries come back they take its
 * positions from the lowest on: the order of positions stays the order of qseqs, which is all that matters, for a ready
 * entry's position is known to nobody. The gaps that settled entries left close thereby, so an entry comes to stand at its old
 * position or below, and a chunk's qseqs still fit the chunk (they are as many or fewer, and as near to each other); where a
 * chunk has another base the next one is taken. A span told by recovery never had positions: it gets one per entry, and one
 * chunk more for each time the 32 bit that count within a chunk may run over. */
#include "fifo.h"

#include <stdlib.h>

#define SPANS_FIRST 4u

struct fifo_span *fifo_span_first(const struct fifo *f)
{
    return f->spans ? &f->spans->span[f->spans->at] : NULL;
}

/* Index of the first span that ends behind pos. */
static uint32_t span_find(const struct fifo_spans *all, uint64_t pos)
{
    uint32_t low = all->at, high = all->n;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (all->span[mid].end <= pos)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

const struct fifo_span *fifo_span_from(const struct fifo *f, uint64_t pos)
{
    if (!f->spans)
        return NULL;
    uint32_t i = span_find(f->spans, pos);
    return i < f->spans->n ? &f->spans->span[i] : NULL;
}

static void span_insert(struct fifo_spans *all, uint32_t i, const struct fifo_span *s)
{
    if (all->n == all->cap && all->at > 0) {
        all->n -= all->at;
        i -= all->at;
        memmove(all->span, all->span + all->at, all->n * sizeof(*all->span));
        all->at = 0;
    } else if (all->n == all->cap) {
        all->cap = all->cap ? all->cap * 2 : SPANS_FIRST;
        all->span = mqg_xrealloc(all->span, all->cap * sizeof(*all->span));
    }
    memmove(all->span + i + 1, all->span + i, (all->n - i) * sizeof(*all->span));
    all->span[i] = *s;
    all->n++;
}

static bool span_joins(const struct fifo_span *before, const struct fifo_span *s)
{
    return before->end == s->pos && before->last < s->first && before->redelivered == s->redelivered;
}

void fifo_span_add(struct fifo *f, const struct fifo_span *s)
{
    MQG_ASSERT(s->count > 0 && s->count <= s->end - s->pos && s->first <= s->last);
    if (!f->spans)
        f->spans = mqg_xcalloc(1, sizeof(*f->spans));
    struct fifo_spans *all = f->spans;
    uint32_t i = span_find(all, s->pos);
    MQG_ASSERT(i == all->n || s->end <= all->span[i].pos);
    struct fifo_span *before = i > all->at ? &all->span[i - 1] : NULL;
    if (!before || !span_joins(before, s)) {
        span_insert(all, i, s);
        return;
    }
    before->end = s->end;
    before->last = s->last;
    before->count += s->count;
    before->bytes += s->bytes;
}

static uint64_t span_chunks(const struct fifo_span *s)
{
    uint64_t runs_over = (s->last - s->first) >> 32;
    if (runs_over > s->count)
        runs_over = s->count;
    return (s->count + FIFO_CHUNK - 1) / FIFO_CHUNK + runs_over;
}

void fifo_span_append(struct fifo *f, const struct fifo_span *s)
{
    uint64_t begin = (f->tail + FIFO_CHUNK - 1) / FIFO_CHUNK, chunks = span_chunks(s);
    struct fifo_span own = *s;
    if (f->first == f->next)
        f->first = f->next = begin;
    MQG_ASSERT(f->next == begin);
    fifo_ring_room(f, chunks);
    f->next += chunks;
    own.pos = begin * FIFO_CHUNK;
    own.end = f->tail = f->next * FIFO_CHUNK;
    fifo_span_add(f, &own);
}

struct entry *fifo_span_restore(struct fifo *f, uint64_t qseq, uint64_t *pos)
{
    struct fifo_span *s = fifo_span_first(f);
    struct chunk *c = fifo_chunk(f, s->pos);
    if (c && qseq - c->qseq_base > UINT32_MAX) { /* also when it is below */
        s->pos = (s->pos / FIFO_CHUNK + 1) * FIFO_CHUNK;
        c = fifo_chunk(f, s->pos);
    }
    MQG_ASSERT(s->pos < s->end);
    if (!c)
        c = fifo_chunk_make(f, s->pos / FIFO_CHUNK, qseq);
    MQG_ASSERT(qseq - c->qseq_base <= UINT32_MAX);
    *pos = s->pos++;
    struct entry *e = &c->entries[*pos % FIFO_CHUNK];
    MQG_ASSERT(e->state == ENTRY_FREE);
    e->state = ENTRY_READY;
    e->qseq_delta = (uint32_t)(qseq - c->qseq_base);
    c->ready++;
    c->live++;
    if (f->ready++ == 0 || *pos < f->scan)
        f->scan = *pos;
    f->live++;
    return e;
}

void fifo_span_drop(struct fifo *f)
{
    struct fifo_spans *all = f->spans;
    if (++all->at == all->n) {
        free(all->span);
        free(all);
        f->spans = NULL;
    }
    if (f->ring)
        fifo_trim(f);
}
