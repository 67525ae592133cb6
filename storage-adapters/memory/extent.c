/* extent.c - the messages of a batch, held until the last of them is settled.
 *
 * An extent keeps its messages by reference in an array, and a message's place in it is its index there: load() is one
 * look-up. Extents come from their lane's pool and go back to it; they are never freed before the store, so a load that
 * races with the last settle finds an empty extent (GONE) or another batch's messages, never freed memory. */
#include "memory.h"

#include <stdlib.h>

void mem_lane_init(struct mem_lane *lane)
{
    *lane = (struct mem_lane){.nall = 0};
    pthread_mutex_init(&lane->lock, NULL);
}

static void extent_drop(struct mqg_msg **msgs, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        mqg_msg_unref(&msgs[i]);
}

void mem_lane_fini(struct mem_lane *lane)
{
    for (uint32_t i = 0; i < lane->nall; i++) {
        extent_drop(lane->all[i]->msgs, lane->all[i]->n);
        free(lane->all[i]->msgs);
        free(lane->all[i]);
    }
    free(lane->all);
    pthread_mutex_destroy(&lane->lock);
}

static struct mem_extent *extent_new(struct mqg_store *s, uint32_t lane)
{
    struct mem_lane *l = &s->lanes[lane];
    struct mem_extent *e = mqg_xcalloc(1, sizeof(*e));
    e->x.ops = &mem_ops;
    e->x.store = s;
    e->lane = lane;
    if ((l->nall & (l->nall - 1)) == 0)
        l->all = mqg_xrealloc(l->all, (l->nall ? l->nall * 2 : 1) * sizeof(struct mem_extent *));
    l->all[l->nall++] = e;
    return e;
}

struct mqg_extent *mem_extent_open(struct mqg_store *s, uint32_t lane)
{
    MQG_CHECK(s, MEM_MAGIC);
    struct mem_lane *l = &s->lanes[lane];
    if (l->current)
        return l->current;
    pthread_mutex_lock(&l->lock);
    struct mem_extent *e = l->free;
    if (e)
        l->free = e->next;
    else
        e = extent_new(s, lane);
    pthread_mutex_unlock(&l->lock);
    atomic_store_explicit(&e->x.place, MQG_PLACE_NONE, memory_order_relaxed);
    atomic_store_explicit(&e->x.live, 1, memory_order_relaxed); /* the store's, until the batch is in */
    atomic_fetch_add_explicit(&s->stat_extents, 1, memory_order_relaxed);
    l->current = &e->x;
    return l->current;
}

void mem_extent_dead(struct mqg_store *s, struct mqg_extent *x)
{
    struct mem_extent *e = MQG_CONTAINER_OF(x, struct mem_extent, x);
    struct mem_lane *l = &s->lanes[e->lane];
    pthread_mutex_lock(&l->lock);
    struct mqg_msg **msgs = e->msgs;
    uint32_t n = e->n;
    int64_t bytes = (int64_t)e->bytes;
    e->msgs = NULL;
    e->n = e->cap = 0;
    e->bytes = 0;
    e->next = l->free;
    l->free = e;
    pthread_mutex_unlock(&l->lock);
    extent_drop(msgs, n);
    free(msgs);
    atomic_fetch_sub_explicit(&s->stat_extents, 1, memory_order_relaxed);
    mem_charge(s, -bytes);
}

static size_t extent_count(const struct mqg_store_op *ops, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += ops[i].kind == MQG_OP_MSG;
    return count;
}

static void extent_put(struct mem_extent *e, struct mqg_msg *m)
{
    MQG_ASSERT(m->extent == &e->x);
    m->extent_off = e->n;
    e->msgs[e->n++] = mqg_msg_ref(m);
    e->bytes += m->total_len;
}

void mem_extent_fill(struct mqg_store *s, uint32_t lane, const struct mqg_store_op *ops, size_t n)
{
    size_t count = extent_count(ops, n);
    if (count == 0)
        return;
    struct mem_lane *l = &s->lanes[lane];
    MQG_ASSERT(l->current != NULL && count <= UINT32_MAX);
    struct mem_extent *e = MQG_CONTAINER_OF(l->current, struct mem_extent, x);
    l->current = NULL;
    struct mqg_msg **msgs = mqg_xmalloc(count * sizeof(struct mqg_msg *));
    pthread_mutex_lock(&l->lock);
    e->msgs = msgs;
    e->cap = (uint32_t)count;
    for (size_t i = 0; i < n; i++)
        if (ops[i].kind == MQG_OP_MSG)
            extent_put(e, ops[i].msg.msg);
    int64_t bytes = (int64_t)e->bytes;
    pthread_mutex_unlock(&l->lock);
    mem_charge(s, bytes);
    atomic_store_explicit(&e->x.place, 0, memory_order_release);
    mqg_extent_give(&e->x, 1);
}

static void load_one(struct mqg_store *s, struct mqg_load *item)
{
    struct mem_extent *e = MQG_CONTAINER_OF(item->extent, struct mem_extent, x);
    struct mem_lane *l = &s->lanes[e->lane];
    item->msg = NULL;
    item->err = MQG_GONE;
    pthread_mutex_lock(&l->lock);
    if (item->off < e->n && e->msgs[item->off]->total_len == item->len) {
        item->msg = mqg_msg_ref(e->msgs[item->off]);
        item->err = MQG_OK;
    }
    pthread_mutex_unlock(&l->lock);
}

void mem_load(struct mqg_store *s, struct mqg_load_req *req)
{
    MQG_CHECK(s, MEM_MAGIC);
    for (uint32_t i = 0; i < req->n; i++)
        load_one(s, &req->items[i]);
    req->done(req);
}
