/* part_txns.c - the transactions of a compaction pass: which batches were committed, which rolled back, which are open.
 *
 * A batch of a transaction says whose it is, not how it ended. That says a control batch, the marker, which its producer's
 * transaction has in the same partition, behind all its batches: so a batch belongs to the first marker of its producer id behind
 * it, whatever epoch that has (a coordinator that fences a producer raises it). A producer has one transaction at a time.
 *
 *   offset   0      3      5      8       9          12      15        16
 *            A: x   B: x   A: y   A ends  B ends     A: z    C ends    (the closed files end)
 *                                 commit  rollback           commit
 *
 *   0, 5 were committed: they are compacted as any batch. 3 was rolled back: its records go, and neither win a key nor lose it.
 *   12 is open: the pass ends before it, and the next one looks for its producer's word again.
 *   8 stays as long as 0 or 5 does, for without it a reader that was told of a rollback of A would not know where that ended;
 *   9 and 15 have no batches (left): they get a time until which they stay, and go in a pass after it.
 *
 * The first half of a pass walks all closed files for this, but those that are known to have no transactions. What it notes is not
 * every transaction - with one per record that would be as much as the log - but per producer with batches up to which offset
 * markers decided, and per rolled back transaction from where to where it went. What is not open and not rolled back was
 * committed. PRODUCERS_MAX and ABORTED_MAX bound that (about 24 MB); when one is reached, what follows counts as open: this pass
 * ends there, which is logged, and when it took the batches of rolled back transactions out, the next one has room for others. More
 * producers than that whose records stay are too many for a partition.
 *
 * The second half knows per producer whether a batch of the transaction at hand stays. A file may be walked twice (is it
 * worth it? then written), so the state at the file's beginning is kept, and taken again at a second walk. */
#include "part_pass.h"
#include "stream.h"

#include <stdlib.h>

enum { PRODUCERS_MAX = 1 << 17, ABORTED_MAX = 1 << 18, CAP_MIN = 64 };
enum { MARKER_KEY_BYTES = 4, MARKER_ABORT = 0, MARKER_COMMIT = 1 }; /* key: version 2, type 2 */

struct part_producer {
    uint64_t id;
    uint64_t first;   /* with `open`: its transaction's first batch */
    uint64_t decided; /* batches below have a marker */
    bool used, open;
    bool stays, stayed; /* a batch of the transaction at hand stays; the same where `file` began */
    uint32_t file, round;
};

struct part_aborted {
    uint64_t id, first, marker;
};

void jrn_part_txns_init(struct part_txns *t)
{
    *t = (struct part_txns){
        .cap_producer = CAP_MIN, .first = UINT64_MAX, .open = UINT64_MAX, .until = UINT64_MAX};
    t->producers = mqg_xcalloc(t->cap_producer, sizeof *t->producers);
}

void jrn_part_txns_fini(struct part_txns *t)
{
    free(t->producers);
    free(t->aborted);
    t->producers = NULL;
    t->aborted = NULL;
}

/* ---- producers ------------------------------------------------------------------------------------------- */

static struct part_producer *txns_slot(struct part_producer *at, uint32_t cap, uint64_t id)
{
    uint32_t i = (uint32_t)mqg_hash(mqg_slice_of(&id, sizeof id)) & (cap - 1);
    while (at[i].used && at[i].id != id)
        i = (i + 1) & (cap - 1);
    return &at[i];
}

/* NULL: no batch of it was seen. */
static struct part_producer *txns_find(const struct part_txns *t, uint64_t id)
{
    struct part_producer *p = txns_slot(t->producers, t->cap_producer, id);
    return p->used ? p : NULL;
}

static void txns_grow(struct part_txns *t)
{
    uint32_t cap = t->cap_producer * 2;
    struct part_producer *at = mqg_xcalloc(cap, sizeof *at);
    for (uint32_t i = 0; i < t->cap_producer; i++)
        if (t->producers[i].used)
            *txns_slot(at, cap, t->producers[i].id) = t->producers[i];
    free(t->producers);
    t->producers = at;
    t->cap_producer = cap;
}

/* NULL: no room. */
static struct part_producer *txns_take(struct part_txns *t, uint64_t id)
{
    if (t->nproducer * 2 >= t->cap_producer)
        txns_grow(t);
    struct part_producer *p = txns_slot(t->producers, t->cap_producer, id);
    if (p->used)
        return p;
    if (t->nproducer == PRODUCERS_MAX)
        return NULL;
    t->nproducer++;
    *p = (struct part_producer){.id = id, .used = true};
    return p;
}

/* ---- markers --------------------------------------------------------------------------------------------- */

/* *type: what the control batch says; false: no marker. */
static bool txns_marker(const struct part_batch *b, struct mqg_slice whole, uint16_t *type)
{
    struct mqg_slice in = mqg_slice_of(whole.ptr + PART_BATCH_HEAD, whole.len - PART_BATCH_HEAD);
    struct part_record r;
    bool bad;
    if ((b->attributes & (PART_BATCH_CONTROL | PART_BATCH_TXN | PART_BATCH_CODEC)) !=
            (PART_BATCH_CONTROL | PART_BATCH_TXN) ||
        b->count != 1 || !jrn_part_record_take(&in, b, &r, &bad) || in.len > 0 ||
        r.key.len < MARKER_KEY_BYTES)
        return false;
    *type = mqg_be16(r.key.ptr + 2);
    return *type == MARKER_ABORT || *type == MARKER_COMMIT;
}

static bool txns_aborted(struct part_txns *t, const struct part_producer *p, uint64_t marker)
{
    if (t->naborted == ABORTED_MAX)
        return false;
    *STREAM_PUSH(t, aborted, naborted, cap_aborted) = (struct part_aborted){p->id, p->first, marker};
    return true;
}

static bool txns_end(struct part_txns *t, const struct part_batch *b, uint16_t type)
{
    struct part_producer *p = txns_find(t, b->producer);
    if (!p || !p->open)
        return true;
    if (type == MARKER_ABORT && !txns_aborted(t, p, b->base))
        return false;
    p->open = false;
    p->decided = b->base;
    return true;
}

static bool txns_data(struct part_txns *t, const struct part_batch *b)
{
    struct part_producer *p = txns_take(t, b->producer);
    if (!p)
        return false;
    if (!p->open)
        p->first = b->base;
    p->open = true;
    if (t->first == UINT64_MAX)
        t->first = b->base;
    return true;
}

bool jrn_part_txns_note(struct part_txns *t, const struct part_batch *b, struct mqg_slice whole)
{
    uint16_t type;
    bool room = true;
    if (b->attributes & PART_BATCH_CONTROL)
        room = !txns_marker(b, whole, &type) || txns_end(t, b, type);
    else if (b->attributes & PART_BATCH_TXN)
        room = txns_data(t, b);
    if (!room)
        t->until = b->base;
    return room;
}

static int txns_order(const void *a, const void *b)
{
    const struct part_aborted *x = a, *y = b;
    if (x->id != y->id)
        return x->id < y->id ? -1 : 1;
    return x->marker < y->marker ? -1 : x->marker > y->marker;
}

void jrn_part_txns_ready(struct part_txns *t)
{
    if (t->naborted > 0)
        qsort(t->aborted, t->naborted, sizeof *t->aborted, txns_order);
    t->open = t->until;
    for (uint32_t i = 0; i < t->cap_producer; i++)
        if (t->producers[i].open && t->producers[i].first < t->open)
            t->open = t->producers[i].first;
}

/* ---- fates ----------------------------------------------------------------------------------------------- */

/* Of the producer's rolled back transactions the first that ends behind the batch: does it begin before it? */
static bool txns_is_aborted(const struct part_txns *t, const struct part_batch *b)
{
    const struct part_aborted at = {.id = b->producer, .marker = b->base};
    uint32_t low = 0, high = t->naborted;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (txns_order(&t->aborted[mid], &at) <= 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low < t->naborted && t->aborted[low].id == b->producer && t->aborted[low].first <= b->base;
}

enum part_fate jrn_part_txns_fate(const struct part_txns *t, const struct part_batch *b,
                                  struct mqg_slice whole)
{
    uint16_t type;
    if (b->attributes & PART_BATCH_CONTROL)
        return b->base < t->until && txns_marker(b, whole, &type) ? PART_FATE_MARKER : PART_FATE_CONTROL;
    if ((b->attributes & PART_BATCH_TXN) == 0)
        return PART_FATE_PLAIN;
    const struct part_producer *p = txns_find(t, b->producer);
    if (!p || b->base >= p->decided)
        return PART_FATE_OPEN;
    return txns_is_aborted(t, b) ? PART_FATE_ABORTED : PART_FATE_COMMITTED;
}

/* ---- what stays ------------------------------------------------------------------------------------------ */

void jrn_part_txns_walk(struct part_txns *t, uint32_t i)
{
    t->file = i + 1; /* 0: none yet */
    t->round++;
}

static struct part_producer *txns_at(const struct part_txns *t, uint64_t id)
{
    struct part_producer *p = txns_find(t, id);
    if (!p)
        return NULL;
    if (p->file != t->file) {
        p->file = t->file;
        p->stayed = p->stays;
    } else if (p->round != t->round) {
        p->stays = p->stayed;
    }
    p->round = t->round;
    return p;
}

void jrn_part_txns_stays(struct part_txns *t, const struct part_batch *b)
{
    struct part_producer *p = txns_at(t, b->producer);
    if (p)
        p->stays = true;
}

bool jrn_part_txns_bare(struct part_txns *t, const struct part_batch *b)
{
    struct part_producer *p = txns_at(t, b->producer);
    bool bare = !p || !p->stays;
    if (p)
        p->stays = false;
    return bare;
}
