/* lane.c - what a worker does: frames its turn's operations and hands them over, without a lock and without a
 * call.
 *
 * A lane belongs to one thread. Chunks and extents circle: the lane takes one, the committer (chunks) or
 * whoever settles the last message (extents) puts it on a stack of the lane, and the lane empties that stack
 * whole when its own list is empty. Taking all at once is what makes a plain lock-free stack safe here:
 * nothing is ever popped singly. */
#include "journal.h"

#include <stdlib.h>

enum {
    LANE_CHUNKS_KEPT = 4,
    LANE_PAGE = 64,
    LANE_QUEUED_MAX = 256 << 20, /* bytes not yet durable before submit says AGAIN */
};

struct jrn_extent_page {
    struct jrn_extent_page *next;
    struct jrn_extent extents[LANE_PAGE];
};

void jrn_lane_fini(struct jrn_lane *lane)
{
    while (lane->pages) {
        struct jrn_extent_page *page = lane->pages;
        lane->pages = page->next;
        free(page);
    }
    struct jrn_chunk *lists[2] = {lane->spare, atomic_exchange(&lane->back, NULL)};
    for (int i = 0; i < 2; i++) {
        for (struct jrn_chunk *c = lists[i], *next; c; c = next) {
            next = c->next;
            jrn_chunk_free(&c);
        }
    }
}

static void lane_page(struct jrn_lane *lane)
{
    struct jrn_extent_page *page = mqg_xcalloc(1, sizeof *page);
    page->next = lane->pages;
    lane->pages = page;
    for (int i = 0; i < LANE_PAGE; i++) {
        page->extents[i].lane = lane;
        page->extents[i].next = lane->fresh;
        lane->fresh = &page->extents[i];
    }
}

struct mqg_extent *jrn_extent_new(struct mqg_store *s, struct jrn_lane *lane)
{
    if (!lane->fresh)
        lane->fresh = atomic_exchange_explicit(&lane->dead, NULL, memory_order_acquire);
    if (!lane->fresh)
        lane_page(lane);
    struct jrn_extent *x = lane->fresh;
    lane->fresh = x->next;
    x->x.ops = &jrn_ops;
    x->x.store = s;
    x->x.owner = NULL;
    atomic_store_explicit(&x->x.place, MQG_PLACE_NONE, memory_order_relaxed);
    atomic_store_explicit(&x->x.live, 1, memory_order_relaxed); /* ours, until durable */
    atomic_fetch_add_explicit(&s->stat_extents, 1, memory_order_relaxed);
    return &x->x;
}

struct mqg_extent *jrn_extent_open(struct mqg_store *s, uint32_t lane)
{
    struct jrn_lane *l = &s->lanes[lane];
    if (MQG_UNLIKELY(!l->extent))
        l->extent = jrn_extent_new(s, l);
    return l->extent;
}

void jrn_extent_dead(struct mqg_store *s, struct mqg_extent *x)
{
    struct jrn_seg *seg = x->owner;
    if (seg && x == &seg->whole) {
        atomic_fetch_sub_explicit(&seg->extents, 1, memory_order_relaxed);
        jrn_seg_give(s, seg);
        return;
    }
    struct jrn_extent *e = MQG_CONTAINER_OF(x, struct jrn_extent, x);
    struct jrn_extent *head = atomic_load_explicit(&e->lane->dead, memory_order_relaxed);
    do {
        e->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&e->lane->dead, &head, e, memory_order_release,
                                                    memory_order_relaxed));
    atomic_fetch_sub_explicit(&s->stat_extents, 1, memory_order_relaxed);
    if (seg) {
        atomic_fetch_sub_explicit(&seg->extents, 1, memory_order_relaxed);
        jrn_seg_give(s, seg);
    }
}

static struct jrn_chunk *lane_chunk(struct jrn_lane *lane)
{
    if (!lane->spare) {
        lane->spare = atomic_exchange_explicit(&lane->back, NULL, memory_order_acquire);
        atomic_store_explicit(&lane->nback, 0, memory_order_relaxed);
    }
    struct jrn_chunk *c = lane->spare;
    if (!c)
        return jrn_chunk_new();
    lane->spare = c->next;
    return c;
}

void jrn_lane_back(struct mqg_store *s, struct jrn_chunk *c)
{
    jrn_chunk_reset(c);
    struct jrn_lane *lane = c->lane < s->nlanes ? &s->lanes[c->lane] : NULL;
    if (!lane || atomic_load_explicit(&lane->nback, memory_order_relaxed) >= LANE_CHUNKS_KEPT) {
        jrn_chunk_free(&c);
        return;
    }
    atomic_fetch_add_explicit(&lane->nback, 1, memory_order_relaxed);
    struct jrn_chunk *head = atomic_load_explicit(&lane->back, memory_order_relaxed);
    do {
        c->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&lane->back, &head, c, memory_order_release,
                                                    memory_order_relaxed));
}

/* A submission over the format's bound cannot be one chunk, and a chunk cannot be split. */
static bool lane_fits(const struct mqg_store_op *ops, size_t n)
{
    uint64_t bytes = JRN_CHUNK_HEAD;
    for (size_t i = 0; i < n; i++)
        bytes += jrn_chunk_cost(&ops[i]);
    return bytes < JRN_CHUNK_MAX;
}

enum mqg_err jrn_lane_submit(struct mqg_store *s, uint32_t lane, const struct mqg_store_op *ops, size_t n,
                             uint64_t ticket, unsigned flags)
{
    MQG_CHECK(s, JRN_MAGIC);
    MQG_ASSERT(lane < s->nlanes);
    struct jrn_lane *l = &s->lanes[lane];
    if (atomic_load_explicit(&s->failed, memory_order_relaxed))
        return MQG_OK; /* failed() was told: taken, and never done */
    if (MQG_UNLIKELY(!(flags & MQG_SUBMIT_CONTROL) &&
                     atomic_load_explicit(&s->queued_bytes, memory_order_relaxed) > LANE_QUEUED_MAX))
        return MQG_AGAIN;
    if (MQG_UNLIKELY(n > 64 && !lane_fits(ops, n)))
        return MQG_TOO_LARGE;
    struct jrn_chunk *c = lane_chunk(l);
    jrn_chunk_begin(c, lane, ticket, flags, atomic_fetch_add_explicit(&s->salt, 1, memory_order_relaxed));
    for (size_t i = 0; i < n; i++) {
        if (ops[i].kind == MQG_OP_MSG) {
            MQG_ASSERT(ops[i].msg.msg->extent == l->extent);
            c->extent = l->extent;
        }
        jrn_chunk_op(c, &ops[i]);
    }
    if (c->extent)
        l->extent = NULL;
    jrn_chunk_end(c);
    jrn_submit(s, c);
    return MQG_OK;
}
