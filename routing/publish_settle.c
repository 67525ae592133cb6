/* routing/publish_settle.c - what was settled in a worker's turn leaves as ranges: one op per queue, however many
 * messages (see publish.h). */
#include "publish.h"
#include "queue_int.h"

void publish_settled_span(struct publisher *p, struct queue_slot *slot, uint64_t first, uint64_t last)
{
    struct settled *tail = slot->settle_head == PUT_NONE ? NULL : &p->settles[slot->settle_tail];
    if (tail && tail->range.last + 1 == first) {
        tail->range.last = last;
        return;
    }
    p->settles = publisher_room(p->settles, p->nsettles, &p->settles_cap, sizeof(*p->settles));
    p->settles[p->nsettles] = (struct settled){{first, last}, PUT_NONE};
    if (tail) {
        p->settles[slot->settle_tail].next = p->nsettles;
    } else {
        slot->settle_head = p->nsettles;
        slot->next_settle = p->dirty_settles;
        p->dirty_settles = slot;
        mqg_queue_ref(slot->queue);
    }
    slot->settle_tail = p->nsettles++;
}

void publish_settled(struct publisher *p, struct queue_slot *slot, uint64_t qseq, struct mqg_extent *extent)
{
    publish_settled_span(p, slot, qseq, qseq);
    mqg_extent_give(extent, 1);
}

static void publish_settle_slot(struct publisher *p, struct queue_slot *slot)
{
    struct mqg_queue *q = slot->queue;
    uint32_t n = 0;
    for (uint32_t at = slot->settle_head; at != PUT_NONE; at = p->settles[at].next) {
        p->ranges = publisher_room(p->ranges, n, &p->ranges_cap, sizeof(*p->ranges));
        p->ranges[n++] = p->settles[at].range;
    }
    slot->settle_head = slot->settle_tail = PUT_NONE;
    struct mqg_store_op op = {.kind = MQG_OP_SETTLE, .settle = {q->id, p->ranges, n}};
    mqg_lane_add(q->storage, &op, false);
    mqg_queue_unref(&q);
}

void publish_settle_flush(struct publisher *p)
{
    while (p->dirty_settles) {
        struct queue_slot *slot = p->dirty_settles;
        p->dirty_settles = slot->next_settle;
        publish_settle_slot(p, slot);
    }
    p->nsettles = 0;
}

void mqg_publish_barrier(struct mqg_waiter *w)
{
    struct publisher *p = publisher_self();
    publish_flush(p);
    publish_settle_flush(p);
    struct mqg_storage *s = mqg_storage_default();
    w->ticket = mqg_lane_collected(s) ? mqg_lane_ticket(s) : mqg_lane_ticket(s) - 1;
    mqg_lane_wait(s, w);
}
