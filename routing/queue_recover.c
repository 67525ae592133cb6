/* routing/queue_recover.c - a queue after a restart, and what the store asks about it.
 *
 * Recovered entries are paged out: only their place is known, bodies are read when somebody wants them. Times to live go on
 * by the wall clock, since the monotonic one began anew; so time spent stopped counts. */
#include "queue_int.h"

/* What has passed by the wall clock since it was published counts. Without a time to live no clock is asked: ten million may be
 * recovered. */
uint32_t queue_due_again(const struct mqg_queue *q, uint8_t flags, uint64_t ttl_ms, uint64_t append_us)
{
    uint64_t ttl = q->opts->ttl_ms;
    if ((flags & MQG_MSG_HAS_TTL) && ttl_ms < ttl)
        ttl = ttl_ms;
    if (ttl == UINT64_MAX)
        return 0;
    struct mqg_time now = mqg_clock_now();
    uint64_t age_ms = now.wall_us > append_us ? (now.wall_us - append_us) / 1000 : 0;
    uint64_t due = now.mono_ms - q->born_ms + (ttl > age_ms ? ttl - age_ms : 0) + 1;
    return due > UINT32_MAX ? UINT32_MAX : (uint32_t)due;
}

void queue_recover(struct mqg_queue *q, uint64_t qseq, struct mqg_extent *extent, uint32_t off, uint32_t len,
                   const struct mqg_stored *head, uint32_t delivery_count, bool redelivered)
{
    uint32_t prio = 0;
    if (q->nfifos > 1)
        prio = head->priority < q->nfifos ? head->priority : q->nfifos - 1;
    uint64_t pos;
    struct entry *e = fifo_append(queue_fifo(q, prio), qseq, &pos);
    e->extent = extent;
    e->off = off;
    e->len = len;
    e->body_bytes = head->body_len;
    e->flags = (uint8_t)(ENTRY_STORED | ENTRY_PAGED | (redelivered ? ENTRY_REDELIVERED : 0));
    e->deliveries = delivery_count > UINT16_MAX ? UINT16_MAX : (uint16_t)delivery_count;
    e->due = queue_due_again(q, head->flags, head->ttl_ms, head->append_us);
    q->ready++;
    q->ready_bytes += e->body_bytes;
    if (qseq >= q->next_qseq)
        q->next_qseq = qseq + 1;
}

bool queue_recover_spans(const struct mqg_queue *q)
{
    return queue_span_able(q);
}

void queue_recover_span(struct mqg_queue *q, uint64_t first, uint64_t last, uint64_t count, uint64_t bytes)
{
    struct fifo_span s = {.first = first, .last = last, .count = count, .bytes = bytes};
    fifo_span_append(queue_fifo(q, 0), &s);
    q->ready += count;
    q->ready_bytes += bytes;
    if (last >= q->next_qseq)
        q->next_qseq = last + 1;
}

/* Nobody knows whether they had been delivered. */
static void recovered_unclean(struct fifo *f)
{
    uint64_t pos = 0;
    struct entry *e;
    for (; (e = fifo_next_live(f, &pos)) != NULL; pos++)
        e->flags |= ENTRY_REDELIVERED;
    for (uint32_t i = f->spans ? f->spans->at : 0; f->spans && i < f->spans->n; i++)
        f->spans->span[i].redelivered = true;
}

void queue_recovered(struct mqg_queue *q, bool unclean)
{
    struct queue_work w;
    queue_lock(q, &w);
    for (uint32_t prio = 0; unclean && prio < q->nfifos; prio++)
        recovered_unclean(&q->fifos[prio]);
    queue_arm(q);
    queue_unlock(&w);
}

struct ranges {
    struct mqg_range *out;
    size_t n, max;
};

static void ranges_add(struct ranges *r, uint64_t first, uint64_t last)
{
    if (r->n > 0 && r->n <= r->max && r->out[r->n - 1].last + 1 == first) {
        r->out[r->n - 1].last = last;
        return;
    }
    if (r->n < r->max)
        r->out[r->n] = (struct mqg_range){first, last};
    r->n++;
}

/* Entries and spans in the order of positions. What was settled within a span counts as live: the hook may say too much. */
static void ranges_of(struct ranges *r, const struct fifo *f)
{
    uint64_t pos = 0, looked = 0;
    struct entry *e;
    do {
        e = fifo_next_live(f, &pos);
        const struct fifo_span *s;
        while ((s = fifo_span_from(f, looked)) != NULL && (!e || s->pos < pos)) {
            ranges_add(r, s->first, s->last);
            looked = s->end;
        }
        if (e && (e->flags & ENTRY_STORED))
            ranges_add(r, fifo_qseq(f, pos), fifo_qseq(f, pos));
        pos++;
    } while (e);
}

size_t queue_live_ranges(struct mqg_queue *q, struct mqg_range *ranges, size_t max, uint64_t *upto)
{
    struct ranges r = {.out = ranges, .max = max};
    pthread_mutex_lock(&q->lock);
    *upto = q->next_qseq - 1;
    for (uint32_t prio = 0; prio < q->nfifos; prio++)
        ranges_of(&r, &q->fifos[prio]);
    pthread_mutex_unlock(&q->lock);
    return r.n;
}
