/* routing/fifo.c - see fifo.h for why and how it is laid out. */
#include "fifo.h"

#include <stdlib.h>

#define FIFO_RING_FIRST 4u

static _Atomic int64_t fifo_chunks;

int64_t fifo_chunks_all(void)
{
    return atomic_load_explicit(&fifo_chunks, memory_order_relaxed);
}

void fifo_init(struct fifo *f)
{
    *f = (struct fifo){0};
}

static void fifo_chunk_free(struct chunk *c)
{
    if (!c)
        return;
    atomic_fetch_sub_explicit(&fifo_chunks, 1, memory_order_relaxed);
    free(c);
}

void fifo_fini(struct fifo *f)
{
    for (uint64_t n = f->first; n < f->next; n++)
        fifo_chunk_free(f->ring[n & (f->cap - 1)]);
    free(f->ring);
    f->ring = NULL;
    while (f->spans)
        fifo_span_drop(f);
    *f = (struct fifo){0};
}

struct chunk *fifo_chunk(const struct fifo *f, uint64_t pos)
{
    uint64_t number = pos / FIFO_CHUNK;
    if (number < f->first || number >= f->next)
        return NULL;
    return f->ring[number & (f->cap - 1)];
}

void fifo_ring_room(struct fifo *f, uint64_t n)
{
    uint64_t want = f->next - f->first + n, cap = f->cap ? f->cap : FIFO_RING_FIRST;
    if (want <= f->cap)
        return;
    while (cap < want)
        cap *= 2;
    MQG_ASSERT(cap <= UINT32_MAX);
    struct chunk **ring = mqg_xcalloc(cap, sizeof(struct chunk *));
    for (uint64_t i = f->first; i < f->next; i++)
        if (f->ring[i & (f->cap - 1)])
            ring[i & (cap - 1)] = f->ring[i & (f->cap - 1)];
    free(f->ring);
    f->ring = ring;
    f->cap = (uint32_t)cap;
}

struct chunk *fifo_chunk_make(struct fifo *f, uint64_t number, uint64_t qseq)
{
    struct chunk *c = mqg_xcalloc(1, sizeof(*c));
    atomic_fetch_add_explicit(&fifo_chunks, 1, memory_order_relaxed);
    c->qseq_base = qseq;
    f->ring[number & (f->cap - 1)] = c;
    return c;
}

static struct chunk *fifo_chunk_add(struct fifo *f, uint64_t qseq)
{
    if (f->first == f->next) /* nothing left: start anew at the tail */
        f->first = f->next = f->tail / FIFO_CHUNK;
    fifo_ring_room(f, 1);
    return fifo_chunk_make(f, f->next++, qseq);
}

/* Numbers of spans stay. */
void fifo_trim(struct fifo *f)
{
    const struct fifo_span *s = fifo_span_first(f);
    uint64_t stop = s ? s->pos / FIFO_CHUNK : f->next;
    while (f->first < stop && f->ring[f->first & (f->cap - 1)] == NULL)
        f->first++;
}

static void fifo_drop_chunk(struct fifo *f, struct chunk *c, uint64_t pos)
{
    f->ring[(pos / FIFO_CHUNK) & (f->cap - 1)] = NULL;
    fifo_chunk_free(c);
    fifo_trim(f);
}

/* The tail chunk takes no more entries: what is left of it counts as freed. */
static void fifo_close_tail(struct fifo *f, struct chunk *c)
{
    if (c->live == 0)
        fifo_drop_chunk(f, c, f->tail);
    f->tail = (f->tail / FIFO_CHUNK + 1) * FIFO_CHUNK;
}

struct entry *fifo_append(struct fifo *f, uint64_t qseq, uint64_t *pos)
{
    struct chunk *c = f->tail % FIFO_CHUNK ? fifo_chunk(f, f->tail) : NULL;
    if (c && qseq - c->qseq_base > UINT32_MAX) {
        fifo_close_tail(f, c);
        c = NULL;
    }
    if (!c)
        c = fifo_chunk_add(f, qseq);
    *pos = f->tail++;
    struct entry *e = &c->entries[*pos % FIFO_CHUNK];
    e->state = ENTRY_READY;
    e->qseq_delta = (uint32_t)(qseq - c->qseq_base);
    c->ready++;
    c->live++;
    if (f->ready++ == 0)
        f->scan = *pos;
    f->live++;
    return e;
}

struct entry *fifo_at(const struct fifo *f, uint64_t pos)
{
    struct chunk *c = fifo_chunk(f, pos);
    if (!c)
        return NULL;
    struct entry *e = &c->entries[pos % FIFO_CHUNK];
    return e->state == ENTRY_FREE ? NULL : e;
}

uint64_t fifo_qseq(const struct fifo *f, uint64_t pos)
{
    struct chunk *c = fifo_chunk(f, pos);
    MQG_ASSERT(c != NULL);
    return c->qseq_base + c->entries[pos % FIFO_CHUNK].qseq_delta;
}

/* Behind a chunk number without entries: the next one, or the end of the span that lies there. */
static uint64_t fifo_skip(const struct fifo *f, uint64_t at)
{
    uint64_t next = (at / FIFO_CHUNK + 1) * FIFO_CHUNK;
    const struct fifo_span *s = f->spans ? fifo_span_from(f, at) : NULL;
    return s && s->pos <= at && s->end > next ? s->end : next;
}

/* Walks from pos to the first entry before `end` that matches; whole chunks are skipped by their counts. */
static struct entry *fifo_walk(const struct fifo *f, uint64_t *pos, uint64_t end, bool ready_only)
{
    uint64_t at = *pos;
    if (at / FIFO_CHUNK < f->first)
        at = f->first * FIFO_CHUNK;
    while (at < end && at / FIFO_CHUNK < f->next) {
        struct chunk *c = f->ring[(at / FIFO_CHUNK) & (f->cap - 1)];
        if (!c || (ready_only ? c->ready : c->live) == 0) {
            at = c ? (at / FIFO_CHUNK + 1) * FIFO_CHUNK : fifo_skip(f, at);
            continue;
        }
        struct entry *e = &c->entries[at % FIFO_CHUNK];
        if (e->state == ENTRY_READY || (!ready_only && e->state != ENTRY_FREE)) {
            *pos = at;
            return e;
        }
        at++;
    }
    return NULL;
}

/* What stands behind a span is not looked at before the span is read. */
static uint64_t fifo_ready_end(const struct fifo *f)
{
    return f->spans ? fifo_span_first(f)->pos : UINT64_MAX;
}

struct entry *fifo_next_ready(const struct fifo *f, uint64_t *pos)
{
    return f->ready ? fifo_walk(f, pos, fifo_ready_end(f), true) : NULL;
}

struct entry *fifo_next_live(const struct fifo *f, uint64_t *pos)
{
    return f->live ? fifo_walk(f, pos, UINT64_MAX, false) : NULL;
}

struct entry *fifo_head(struct fifo *f, uint64_t *pos)
{
    if (f->ready == 0)
        return NULL;
    uint64_t end = fifo_ready_end(f);
    struct entry *e = fifo_walk(f, &f->scan, end, true);
    if (!e && f->scan < end)
        f->scan = end;
    *pos = f->scan;
    return e;
}

void fifo_set_unacked(struct fifo *f, struct entry *e, uint64_t pos)
{
    MQG_ASSERT(e->state == ENTRY_READY);
    e->state = ENTRY_UNACKED;
    fifo_chunk(f, pos)->ready--;
    f->ready--;
}

void fifo_set_ready(struct fifo *f, struct entry *e, uint64_t pos)
{
    MQG_ASSERT(e->state == ENTRY_UNACKED);
    e->state = ENTRY_READY;
    fifo_chunk(f, pos)->ready++;
    if (f->ready++ == 0 || pos < f->scan)
        f->scan = pos;
}

void fifo_free(struct fifo *f, struct entry *e, uint64_t pos)
{
    struct chunk *c = fifo_chunk(f, pos);
    if (e->state == ENTRY_READY) {
        c->ready--;
        f->ready--;
    }
    memset(e, 0, sizeof(*e));
    f->live--;
    bool filled = f->tail >= (pos / FIFO_CHUNK + 1) * FIFO_CHUNK;
    if (--c->live == 0 && filled)
        fifo_drop_chunk(f, c, pos);
}
