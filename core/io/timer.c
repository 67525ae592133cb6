/* timer.c - millisecond timers: a heap, one per worker.
 *
 * Timers live in their owners and know their slot, so moving or cancelling one is a walk of a few levels and never a
 * search; there is no allocation beyond the heap's array. libevent is told only when the worker goes to sleep.
 *
 * The heap has its keys beside it, and four children to a node, which are a cache line: ten thousand timers are compared
 * without looking at one of them. A timer that is moved later, as an idle timeout is with each byte that comes, stays where it is: its key
 * says when to look at it, and it moves down then. */
#include "worker_int.h"

#include <stdlib.h>

enum { TIMER_CHILDREN = 4 };

static void timer_place(struct io_worker *w, uint32_t slot, struct timer_entry e)
{
    w->heap[slot] = e;
    e.t->slot = slot;
}

static void timer_up(struct io_worker *w, uint32_t slot, struct timer_entry e)
{
    for (uint32_t parent; slot > 0; slot = parent) {
        parent = (slot - 1) / TIMER_CHILDREN;
        if (w->heap[parent].key_ms <= e.key_ms)
            break;
        timer_place(w, slot, w->heap[parent]);
    }
    timer_place(w, slot, e);
}

/* The child that is due first; 0: there is none. */
static uint32_t timer_first_child(const struct io_worker *w, uint32_t slot)
{
    uint32_t first = slot * TIMER_CHILDREN + 1, best = first;
    if (first >= w->ntimers)
        return 0;
    uint32_t end = first + TIMER_CHILDREN < w->ntimers ? first + TIMER_CHILDREN : w->ntimers;
    for (uint32_t i = first + 1; i < end; i++)
        if (w->heap[i].key_ms < w->heap[best].key_ms)
            best = i;
    return best;
}

static void timer_down(struct io_worker *w, uint32_t slot, struct timer_entry e)
{
    uint32_t child;
    while ((child = timer_first_child(w, slot)) > 0 && w->heap[child].key_ms < e.key_ms) {
        timer_place(w, slot, w->heap[child]);
        slot = child;
    }
    timer_place(w, slot, e);
}

static void timer_sift(struct io_worker *w, uint32_t slot, struct timer_entry e)
{
    if (slot > 0 && w->heap[(slot - 1) / TIMER_CHILDREN].key_ms > e.key_ms)
        timer_up(w, slot, e);
    else
        timer_down(w, slot, e);
}

static struct io_worker *timer_worker(void)
{
    struct mqg_worker *self = mqg_worker_self();
    MQG_ASSERT(self != NULL);
    return io_worker_of(self);
}

void mqg_timer_init(struct mqg_timer *t, void (*fire)(struct mqg_timer *t))
{
    *t = (struct mqg_timer){.fire = fire};
}

static void timer_insert(struct io_worker *w, struct mqg_timer *t)
{
    if (w->ntimers == w->timers_cap) {
        w->timers_cap = w->timers_cap > 0 ? w->timers_cap * 2 : 64;
        w->heap = mqg_xrealloc(w->heap, w->timers_cap * sizeof(struct timer_entry));
    }
    timer_up(w, w->ntimers++, (struct timer_entry){t->due_ms, t});
}

void mqg_timer_at(struct mqg_timer *t, uint64_t due_mono_ms)
{
    struct io_worker *w = timer_worker();
    bool armed = t->due_ms != 0;
    MQG_ASSERT(!armed || w->heap[t->slot].t == t); /* another worker's timer */
    t->due_ms = due_mono_ms > 0 ? due_mono_ms : 1;
    if (!armed)
        timer_insert(w, t);
    else if (t->due_ms < w->heap[t->slot].key_ms)
        timer_up(w, t->slot, (struct timer_entry){t->due_ms, t});
}

void mqg_timer_in(struct mqg_timer *t, uint64_t delay_ms)
{
    uint64_t now = timer_worker()->pub.now.mono_ms;
    mqg_timer_at(t, delay_ms < UINT64_MAX - now ? now + delay_ms : UINT64_MAX);
}

static void timer_remove(struct io_worker *w, struct mqg_timer *t)
{
    uint32_t slot = t->slot;
    MQG_ASSERT(slot < w->ntimers && w->heap[slot].t == t);
    struct timer_entry last = w->heap[--w->ntimers];
    t->due_ms = 0;
    if (last.t != t)
        timer_sift(w, slot, last);
}

void mqg_timer_cancel(struct mqg_timer *t)
{
    if (t->due_ms != 0)
        timer_remove(timer_worker(), t);
}

/* Those that are due now; what they arm again at once waits for the next turn. */
bool worker_timers_run(struct io_worker *w)
{
    bool any = false;
    for (uint32_t most = w->ntimers; most > 0 && w->ntimers > 0; most--) {
        struct mqg_timer *t = w->heap[0].t;
        if (w->heap[0].key_ms > w->pub.now.mono_ms)
            break;
        if (t->due_ms > w->heap[0].key_ms) { /* it was moved */
            timer_down(w, 0, (struct timer_entry){t->due_ms, t});
            continue;
        }
        timer_remove(w, t);
        t->fire(t);
        any = true;
    }
    return any;
}

uint64_t worker_timers_next_ms(const struct io_worker *w)
{
    return w->ntimers > 0 ? w->heap[0].key_ms : UINT64_MAX;
}
