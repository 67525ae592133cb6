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

struct told {
    struct kafka_aborted aborted;
    uint64_t first_from_here; /* the lowest of this one and those that follow */
    bool told;
};

static void told_init(struct told *t, const struct kafka_aborted *aborted, size_t n)
{
    uint64_t first = UINT64_MAX;
    for (size_t i = n; i-- > 0;) {
        first = aborted[i].first < first ? aborted[i].first : first;
        t[i] = (struct told){aborted[i], first, false};
    }
}

/* The transaction of the batch, which begins at `base`; NULL: not among these. They come by marker. */
static struct told *told_of(struct told *t, size_t n, int64_t producer_id, uint64_t base)
{
    for (size_t i = 0; i < n && t[i].first_from_here <= base; i++)
        if (t[i].aborted.producer_id == producer_id && t[i].aborted.first <= base)
            return &t[i];
    return NULL;
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
    told_init(t, aborted, n);
    for (size_t over = 0; mqg_batch_read(rest, &b) == MQG_OK;
         rest = mqg_slice_of(rest.ptr + b.bytes, rest.len - b.bytes)) {
        while (over < n && t[over].aborted.marker < b.base_offset)
            over++;
        if ((b.attributes & (MQG_BATCH_TRANSACTIONAL | MQG_BATCH_CONTROL)) != MQG_BATCH_TRANSACTIONAL)
            continue;
        struct told *mine = told_of(t + over, n - over, b.producer_id, b.base_offset);
        if (mine == NULL || mine->told)
            continue;
        mine->told = true;
        out[p->naborted++] = (struct kafka_aborted){b.producer_id, b.base_offset, mine->aborted.marker};
    }
    return true;
}
