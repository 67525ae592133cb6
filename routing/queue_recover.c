/* routing/queue_recover.c - a queue after a restart, and what the store asks about it.
 *
 * Recovered entries are paged out: only their place is known, bodies are read when somebody wants them. Times to live go on
 * by the wall clock, since the monotonic one began anew; so time spent stopped counts. */
#include "queue_int.h"

void queue_recover(struct mqg_queue *q, uint64_t qseq, struct mqg_extent *extent, uint32_t off, uint32_t len,
                   const struct mqg_stored *head, uint32_t delivery_count, bool redelivered)
{
    uint32_t prio = 0;
    if (q->nfifos > 1)
        prio = head->priority < q->nfifos ? head->priority : q->nfifos - 1;
    uint64_t pos;
    struct entry *e = fifo_append(&q->fifos[prio], qseq, &pos);
    e->extent = extent;
    e->off = off;
    e->len = len;
    e->body_bytes = head->body_len;
    e->flags = (uint8_t)(ENTRY_STORED | ENTRY_PAGED | (redelivered ? ENTRY_REDELIVERED : 0));
    e->deliveries = delivery_count > UINT16_MAX ? UINT16_MAX : (uint16_t)delivery_count;
    uint64_t ttl = q->opts.ttl_ms;
    if ((head->flags & MQG_MSG_HAS_TTL) && head->ttl_ms < ttl)
        ttl = head->ttl_ms;
    if (ttl != UINT64_MAX) { /* what has passed by the wall clock while we were away counts */
        uint64_t now_us = mqg_clock_now().wall_us;
        uint64_t age_ms = now_us > head->append_us ? (now_us - head->append_us) / 1000 : 0;
        uint64_t due = mqg_clock_now().mono_ms - q->born_ms + (ttl > age_ms ? ttl - age_ms : 0) + 1;
        e->due = due > UINT32_MAX ? UINT32_MAX : (uint32_t)due;
    }
    q->ready++;
    q->ready_bytes += e->body_bytes;
    if (qseq >= q->next_qseq)
        q->next_qseq = qseq + 1;
}

void queue_recovered(struct mqg_queue *q, bool unclean)
{
    struct queue_work w;
    queue_lock(q, &w);
    for (uint32_t prio = 0; unclean && prio < q->nfifos; prio++) {
        uint64_t pos = 0;
        struct entry *e;
        for (; (e = fifo_next_live(&q->fifos[prio], &pos)) != NULL; pos++)
            e->flags |= ENTRY_REDELIVERED; /* nobody knows whether it had been delivered */
    }
    queue_arm(q);
    queue_unlock(&w);
}

static size_t ranges_add(struct mqg_range *ranges, size_t n, size_t max, uint64_t qseq)
{
    if (n > 0 && n <= max && ranges[n - 1].last + 1 == qseq) {
        ranges[n - 1].last = qseq;
        return n;
    }
    if (n < max)
        ranges[n] = (struct mqg_range){qseq, qseq};
    return n + 1;
}

size_t queue_live_ranges(struct mqg_queue *q, struct mqg_range *ranges, size_t max, uint64_t *upto)
{
    size_t n = 0;
    pthread_mutex_lock(&q->lock);
    *upto = q->next_qseq - 1;
    for (uint32_t prio = 0; prio < q->nfifos; prio++) {
        uint64_t pos = 0;
        struct entry *e;
        while ((e = fifo_next_live(&q->fifos[prio], &pos)) != NULL) {
            if (e->flags & ENTRY_STORED)
                n = ranges_add(ranges, n, max, fifo_qseq(&q->fifos[prio], pos));
            pos++;
        }
    }
    pthread_mutex_unlock(&q->lock);
    return n;
}
