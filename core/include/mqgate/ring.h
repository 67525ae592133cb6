/* mqgate/ring.h - handing pointers from thread to thread: a bounded ring for one producer and one consumer,
 * and a list into which any thread pushes and one thread takes all.
 *
 * Both give what was written before a push to whoever gets it out. Neither blocks and neither wakes anybody:
 * push tells when the other side may be asleep. Inline, because they are a few instructions on paths that are
 * taken per message. */
#ifndef MQGATE_RING_H
#define MQGATE_RING_H

#include <mqgate/base.h>

#include <stdlib.h>

/* ---- ring: one producer thread, one consumer thread, bounded ------------------------------------------- */

/* Each side has a line of its own, with its index and its last sight of the other's: the lines move between
 * the cores only when a side believes the ring full or empty. Padded, not aligned, so that owners may use
 * plain malloc. Indexes count on and are masked. */
struct mqg_ring {
    void **slots;
    size_t mask;
    uint8_t pad_shared[64];
    _Atomic size_t head; /* next to pop; written by the consumer */
    size_t tail_seen;
    uint8_t pad_consumer[64];
    _Atomic size_t tail; /* next to push; written by the producer */
    size_t head_seen;
    uint8_t pad_producer[64];
};

/* capacity: a power of two. Before both threads. */
static inline void mqg_ring_init(struct mqg_ring *r, size_t capacity)
{
    MQG_ASSERT(capacity > 0 && (capacity & (capacity - 1)) == 0);
    r->slots = (void **)mqg_xcalloc(capacity, sizeof(void *));
    r->mask = capacity - 1;
    atomic_init(&r->head, 0);
    atomic_init(&r->tail, 0);
    r->tail_seen = r->head_seen = 0;
}

/* After both threads. What is still in it is the caller's to pop before. */
static inline void mqg_ring_fini(struct mqg_ring *r)
{
    free(r->slots);
    r->slots = NULL;
}

/* Producer. false when full. item is not NULL. */
static inline bool mqg_ring_push(struct mqg_ring *r, void *item)
{
    MQG_ASSERT(item != NULL);
    size_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    if (tail - r->head_seen > r->mask) {
        r->head_seen = atomic_load_explicit(&r->head, memory_order_acquire);
        if (tail - r->head_seen > r->mask)
            return false;
    }
    r->slots[tail & r->mask] = item;
    atomic_store_explicit(&r->tail, tail + 1, memory_order_release);
    return true;
}

/* Consumer. The oldest, or NULL when empty. */
static inline void *mqg_ring_pop(struct mqg_ring *r)
{
    size_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
    if (head == r->tail_seen) {
        r->tail_seen = atomic_load_explicit(&r->tail, memory_order_acquire);
        if (head == r->tail_seen)
            return NULL;
    }
    void *item = r->slots[head & r->mask];
    atomic_store_explicit(&r->head, head + 1, memory_order_release);
    return item;
}

/* How many are in it: exact for either side when the other rests, else a sight of the moment. */
static inline size_t mqg_ring_count(const struct mqg_ring *r)
{
    size_t head = atomic_load_explicit(&r->head, memory_order_acquire);
    size_t tail = atomic_load_explicit(&r->tail, memory_order_acquire);
    return tail - head;
}

/* ---- mpsc: any thread pushes, one takes all ------------------------------------------------------------ */

/* A stack whose consumer takes it whole and turns it round: first pushed, first out. Taking all is one
 * exchange, so the ABA problem of lock-free stacks does not arise. Pushing is compare-and-swap and not
 * exchange-then-link, which would leave a gap that the consumer had to wait for when a producer is preempted
 * in it. */
struct mqg_mpsc_node {
    struct mqg_mpsc_node *next;
};

struct mqg_mpsc {
    _Atomic(struct mqg_mpsc_node *) top;
};

static inline void mqg_mpsc_init(struct mqg_mpsc *q)
{
    atomic_init(&q->top, NULL);
}

/* Any thread. The node is embedded in what is handed over and belongs to the list until it is taken. true
 * when the list was empty: this push is the one that wakes the consumer. */
static inline bool mqg_mpsc_push(struct mqg_mpsc *q, struct mqg_mpsc_node *node)
{
    struct mqg_mpsc_node *top = atomic_load_explicit(&q->top, memory_order_relaxed);
    do {
        node->next = top;
    } while (!atomic_compare_exchange_weak_explicit(&q->top, &top, node, memory_order_release,
                                                    memory_order_relaxed));
    return top == NULL;
}

/* The consumer, before it sleeps. */
static inline bool mqg_mpsc_empty(const struct mqg_mpsc *q)
{
    return atomic_load_explicit(&q->top, memory_order_acquire) == NULL;
}

/* The consumer. All nodes in the order of their pushes, linked by next; NULL when there are none. */
static inline struct mqg_mpsc_node *mqg_mpsc_take_all(struct mqg_mpsc *q)
{
    if (atomic_load_explicit(&q->top, memory_order_relaxed) == NULL)
        return NULL; /* an exchange would take the line away from the producers */
    struct mqg_mpsc_node *node = atomic_exchange_explicit(&q->top, NULL, memory_order_acquire);
    struct mqg_mpsc_node *first = NULL;
    while (node != NULL) {
        struct mqg_mpsc_node *next = node->next;
        node->next = first;
        first = node;
        node = next;
    }
    return first;
}

#endif
