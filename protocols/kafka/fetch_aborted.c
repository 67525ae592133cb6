/* fetch_aborted.c - of what was rolled back, that which this answer has batches of.
 *
 * A client goes by a list: from the first offset of a rolled back transaction on it drops the producer's batches, until it meets
 * that transaction's marker. Compaction takes out first the batches and then, a time later, the marker, and makes batches that stay
 * longer; our records of what was rolled back know nothing of that. Told as they are, they would make a client drop what its
 * producer committed later: where the marker is gone there is no end, and a batch of an earlier transaction may reach to the
 * first offset. So each answer gets a list of its own, made from its batches: a transaction without one here is not told, any other
 * begins with the first batch that is here. An answer is a stretch of one file, and a file that has such a batch has all that
 * follows it, up to the marker, if that is in the same file. */
#include "fetch.h"
#include "producer_part.h"

#include <stdlib.h>

struct told {
    struct kafka_aborted aborted;
    bool told;
};

static int told_order(const void *a, const void *b)
{
    const struct kafka_aborted *x = &((const struct told *)a)->aborted,
                               *y = &((const struct told *)b)->aborted;
    if (x->producer_id != y->producer_id)
        return x->producer_id < y->producer_id ? -1 : 1;
    return x->marker < y->marker ? -1 : x->marker > y->marker;
}

/* The transaction of the batch, which begins at `base`: the producer's first that ends behind it, if it begins before it. NULL: not
 * among these, which are in order. */
static struct told *told_of(struct told *t, size_t n, int64_t producer_id, uint64_t base)
{
    const struct told at = {.aborted = {.producer_id = producer_id, .marker = base}};
    size_t low = 0, high = n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (told_order(&t[mid], &at) <= 0)
            low = mid + 1;
        else
            high = mid;
    }
    bool mine = low < n && t[low].aborted.producer_id == producer_id && t[low].aborted.first <= base;
    return mine ? &t[low] : NULL;
}

bool fetch_part_aborted(struct fetch_part *p, const struct kafka_aborted *aborted, size_t n)
{
    struct mqg_arena *a = &p->set->call->arena;
    struct told *t = n > 0 ? mqg_arena_alloc(a, n * sizeof(*t)) : NULL;
    struct kafka_aborted *out = n > 0 ? mqg_arena_alloc(a, n * sizeof(*out)) : NULL;
    struct mqg_slice rest = p->records;
    struct mqg_batch b;
    p->naborted = 0;
    p->aborted = out;
    if (n == 0 || t == NULL || out == NULL)
        return n == 0;
    for (size_t i = 0; i < n; i++)
        t[i] = (struct told){aborted[i], false};
    qsort(t, n, sizeof(*t), told_order);
    for (; mqg_batch_read(rest, &b) == MQG_OK; rest = mqg_slice_of(rest.ptr + b.bytes, rest.len - b.bytes)) {
        if ((b.attributes & (MQG_BATCH_TRANSACTIONAL | MQG_BATCH_CONTROL)) != MQG_BATCH_TRANSACTIONAL)
            continue;
        struct told *mine = told_of(t, n, b.producer_id, b.base_offset);
        if (mine == NULL || mine->told)
            continue;
        mine->told = true;
        out[p->naborted++] = (struct kafka_aborted){b.producer_id, b.base_offset, mine->aborted.marker};
    }
    return true;
}
