/* producer.c - sequences, epochs, open and rolled back transactions of one partition. producer.h says why. */
#include "producer.h"

#include <stdlib.h>

void kafka_producers_init(struct kafka_producers *ps)
{
    *ps = (struct kafka_producers){.nending = 0};
    mqg_map_init(&ps->by_id, MQG_MAP_BORROW);
}

void kafka_producers_fini(struct kafka_producers *ps)
{
    for (struct mqg_map_iter it = {.left = 0}; mqg_map_next(&ps->by_id, &it);)
        free(it.value);
    mqg_map_fini(&ps->by_id);
    mqg_vec_fini(&ps->open);
    free(ps->ending);
    free(ps->aborted);
}

static struct mqg_slice producer_key(const int64_t *id)
{
    return mqg_slice_of(id, sizeof(*id));
}

struct kafka_producer *kafka_producers_find(const struct kafka_producers *ps, int64_t id)
{
    return mqg_map_get(&ps->by_id, producer_key(&id));
}

static struct kafka_producer *producer_take(struct kafka_producers *ps, int64_t id, int16_t epoch)
{
    struct kafka_producer *p = kafka_producers_find(ps, id);
    if (p != NULL)
        return p;
    p = mqg_xcalloc(1, sizeof(*p));
    *p = (struct kafka_producer){
        .id = id, .epoch = epoch, .floor = -1, .last_time_ms = -1, .coordinator_epoch = -1};
    (void)mqg_map_set(&ps->by_id, producer_key(&p->id), p);
    return p;
}

/* ---- sequences ---------------------------------------------------------------------------------------------------- */

static int32_t sequence_next(int32_t sequence)
{
    return sequence == INT32_MAX ? 0 : sequence + 1;
}

/* Was the sequence used before `next`, on a circle of 2^31? */
static bool sequence_before(int32_t sequence, int32_t next)
{
    uint32_t ahead = ((uint32_t)next - (uint32_t)sequence) & INT32_MAX;
    return ahead > 0 && ahead < (UINT32_C(1) << 30);
}

static const struct kafka_seen_batch *producer_seen(const struct kafka_producer *p,
                                                    const struct kafka_sequence *s)
{
    for (unsigned i = 0; i < p->nbatch; i++)
        if (p->batch[i].base_sequence == s->base_sequence && p->batch[i].last_sequence == s->last_sequence)
            return &p->batch[i];
    return NULL;
}

/* A producer of which no batch is known may begin anywhere (its state was forgotten, or its records were deleted), unless its
 * epoch is known to be new. */
static enum kafka_verdict producer_order(const struct kafka_producer *p, const struct kafka_sequence *s)
{
    bool unknown = p == NULL || (s->epoch == p->epoch && p->nbatch == 0);
    if (unknown && (p == NULL || !p->from_zero))
        return KAFKA_VERDICT_APPEND;
    if (unknown || s->epoch > p->epoch)
        return s->base_sequence == 0 ? KAFKA_VERDICT_APPEND : KAFKA_VERDICT_OUT_OF_ORDER;
    int32_t next = sequence_next(p->batch[p->nbatch - 1].last_sequence);
    if (s->base_sequence == next)
        return KAFKA_VERDICT_APPEND;
    if (!sequence_before(s->last_sequence, next) ||
        (p->floor >= 0 && sequence_before(s->base_sequence, p->floor)))
        return KAFKA_VERDICT_OUT_OF_ORDER;
    return KAFKA_VERDICT_OLD;
}

enum kafka_verdict kafka_producers_check(const struct kafka_producers *ps, const struct kafka_sequence *s,
                                         uint64_t *base_offset)
{
    const struct kafka_producer *p = kafka_producers_find(ps, s->producer_id);
    if (p != NULL && s->epoch < p->epoch)
        return KAFKA_VERDICT_FENCED;
    const struct kafka_seen_batch *seen = p != NULL && s->epoch == p->epoch ? producer_seen(p, s) : NULL;
    if (seen != NULL) {
        *base_offset = seen->base_offset;
        return KAFKA_VERDICT_DUPLICATE;
    }
    bool in_txn = p != NULL && p->in_txn && s->epoch == p->epoch;
    if (s->transactional != in_txn)
        return KAFKA_VERDICT_NO_TXN;
    return producer_order(p, s);
}

static void producer_push(struct kafka_producer *p, struct kafka_seen_batch batch)
{
    if (p->nbatch == KAFKA_PRODUCER_BATCHES)
        memmove(p->batch, p->batch + 1, --p->nbatch * sizeof(p->batch[0]));
    p->batch[p->nbatch++] = batch;
}

static void producer_epoch(struct kafka_producer *p, int16_t epoch)
{
    if (epoch > p->epoch) {
        p->epoch = epoch;
        p->nbatch = 0;
        p->from_zero = true;
        p->floor = -1;
    }
}

void kafka_producers_note(struct kafka_producers *ps, const struct kafka_sequence *s, uint64_t base_offset)
{
    struct kafka_producer *p = producer_take(ps, s->producer_id, s->epoch);
    producer_epoch(p, s->epoch);
    if (p->nbatch == 0 && s->base_sequence != 0)
        p->floor = s->base_sequence;
    producer_push(p, (struct kafka_seen_batch){s->base_sequence, s->last_sequence, base_offset});
    p->used_ms = s->now_ms;
    p->last_time_ms = s->time_ms;
    if (s->transactional && !p->txn_exact) {
        p->txn_first = base_offset;
        p->txn_exact = true;
    }
}

void kafka_producers_found(struct kafka_producers *ps, const struct mqg_producer_state *state,
                           uint64_t now_ms)
{
    struct kafka_producer *p = producer_take(ps, (int64_t)state->producer_id, state->epoch);
    p->used_ms = now_ms;
    if (state->epoch < p->epoch)
        return;
    producer_epoch(p, state->epoch);
    if (state->base_sequence >= 0)
        producer_push(p,
                      (struct kafka_seen_batch){state->base_sequence, state->last_sequence, state->offset});
    else
        p->from_zero = true; /* a marker's word on the epoch */
}

size_t kafka_producers_expire(struct kafka_producers *ps, uint64_t before_ms,
                              void (*gone)(void *arg, int64_t id), void *arg)
{
    size_t n = 0;
    for (struct mqg_map_iter it = {.left = 0}; mqg_map_next(&ps->by_id, &it);) {
        struct kafka_producer *p = it.value;
        if (p->in_txn || p->used_ms >= before_ms)
            continue;
        if (gone != NULL)
            gone(arg, p->id);
        (void)mqg_map_del(&ps->by_id, producer_key(&p->id));
        free(p);
        n++;
    }
    return n;
}

/* ---- transactions ------------------------------------------------------------------------------------------------- */

bool kafka_producers_begin(struct kafka_producers *ps, int64_t id, int16_t epoch, uint64_t first,
                           uint64_t now_ms)
{
    struct kafka_producer *p = producer_take(ps, id, epoch);
    if (epoch < p->epoch)
        return false;
    producer_epoch(p, epoch);
    p->used_ms = now_ms;
    if (p->in_txn)
        return true;
    p->in_txn = true;
    p->txn_exact = false;
    p->txn_first = first;
    mqg_vec_push(&ps->open, p);
    return true;
}

static void ending_add(struct kafka_producers *ps, uint64_t first, uint64_t marker)
{
    if (ps->nending == ps->cap_ending) {
        ps->cap_ending = ps->cap_ending ? ps->cap_ending * 2 : 4;
        ps->ending = mqg_xrealloc(ps->ending, ps->cap_ending * sizeof(*ps->ending));
    }
    ps->ending[ps->nending++] = (struct kafka_ending){first, marker};
}

void kafka_producers_aborted_found(struct kafka_producers *ps, const struct kafka_aborted *a)
{
    if (ps->naborted == ps->cap_aborted) {
        ps->cap_aborted = ps->cap_aborted ? ps->cap_aborted * 2 : 4;
        ps->aborted = mqg_xrealloc(ps->aborted, ps->cap_aborted * sizeof(*ps->aborted));
    }
    size_t at = ps->naborted++;
    for (; at > 0 && ps->aborted[at - 1].marker > a->marker; at--)
        ps->aborted[at] = ps->aborted[at - 1];
    ps->aborted[at] = *a;
}

bool kafka_producers_end(struct kafka_producers *ps, int64_t id, int16_t epoch, int32_t coordinator_epoch,
                         uint64_t marker, bool commit, uint64_t *first)
{
    struct kafka_producer *p = producer_take(ps, id, epoch);
    producer_epoch(p, epoch);
    p->coordinator_epoch = coordinator_epoch;
    if (!p->in_txn)
        return false;
    *first = p->txn_first;
    p->in_txn = p->txn_exact = false;
    mqg_vec_remove_swap(&ps->open, mqg_vec_find(&ps->open, p));
    ending_add(ps, *first, marker);
    if (!commit)
        kafka_producers_aborted_found(ps, &(struct kafka_aborted){id, *first, marker});
    return true;
}

uint64_t kafka_producers_lso(struct kafka_producers *ps, uint64_t high_watermark)
{
    uint64_t lso = high_watermark;
    size_t kept = 0;
    for (size_t i = 0; i < ps->nending; i++)
        if (ps->ending[i].marker >= high_watermark)
            ps->ending[kept++] = ps->ending[i];
    ps->nending = kept;
    for (size_t i = 0; i < kept; i++)
        if (ps->ending[i].first < lso)
            lso = ps->ending[i].first;
    for (size_t i = 0; i < ps->open.n; i++) {
        const struct kafka_producer *p = ps->open.items[i];
        if (p->txn_first < lso)
            lso = p->txn_first;
    }
    return lso;
}

const struct kafka_aborted *kafka_producers_aborted(const struct kafka_producers *ps, uint64_t from,
                                                    size_t *n)
{
    size_t low = 0, high = ps->naborted;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (ps->aborted[mid].marker < from)
            low = mid + 1;
        else
            high = mid;
    }
    *n = ps->naborted - low;
    return ps->aborted + low;
}

size_t kafka_producers_trim(struct kafka_producers *ps, uint64_t log_start,
                            void (*gone)(void *arg, const struct kafka_aborted *a), void *arg)
{
    size_t n = 0;
    for (; n < ps->naborted && ps->aborted[n].marker < log_start; n++)
        if (gone != NULL)
            gone(arg, &ps->aborted[n]);
    ps->naborted -= n;
    if (n > 0)
        memmove(ps->aborted, ps->aborted + n, ps->naborted * sizeof(*ps->aborted));
    return n;
}
