/* timer.c - millisecond timers: a binary heap of pointers, one per worker.
 *
 * Timers live in their owners and know their slot, so moving or cancelling one is a walk of a few levels and never a
 * search; there is no allocation beyond the heap's array. libevent is told only when the worker goes to sleep. */
#include "worker_int.h"

#include <stdlib.h>

/* Slots count from 1: a timer that is not armed has due_ms 0, and its slot means nothing. */
static void timer_place(struct io_worker *w, uint32_t slot, struct mqg_timer *t)
{
    w->heap[slot] = t;
    t->slot = slot;
}

static void timer_up(struct io_worker *w, uint32_t slot, struct mqg_timer *t)
{
    while (slot > 1 && w->heap[slot / 2]->due_ms > t->due_ms) {
        timer_place(w, slot, w->heap[slot / 2]);
        slot /= 2;
    }
    timer_place(w, slot, t);
}

static void timer_down(struct io_worker *w, uint32_t slot, struct mqg_timer *t)
{
    for (;;) {
        uint32_t child = slot * 2;
        if (child > w->ntimers)
            break;
        if (child < w->ntimers && w->heap[child + 1]->due_ms < w->heap[child]->due_ms)
            child++;
        if (w->heap[child]->due_ms >= t->due_ms)
            break;
        timer_place(w, slot, w->heap[child]);
        slot = child;
    }
    timer_place(w, slot, t);
}

static void timer_sift(struct io_worker *w, uint32_t slot, struct mqg_timer *t)
{
    if (slot > 1 && w->heap[slot / 2]->due_ms > t->due_ms)
        timer_up(w, slot, t);
    else
        timer_down(w, slot, t);
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
    if (w->ntimers + 1 >= w->timers_cap) {
        w->timers_cap = w->timers_cap > 0 ? w->timers_cap * 2 : 64;
        w->heap = mqg_xrealloc(w->heap, w->timers_cap * sizeof(struct mqg_timer *));
    }
    timer_up(w, ++w->ntimers, t);
}

void mqg_timer_at(struct mqg_timer *t, uint64_t due_mono_ms)
{
    struct io_worker *w = timer_worker();
    bool armed = t->due_ms != 0;
    MQG_ASSERT(!armed || w->heap[t->slot] == t); /* another worker's timer */
    t->due_ms = due_mono_ms > 0 ? due_mono_ms : 1;
    if (armed)
        timer_sift(w, t->slot, t);
    else
        timer_insert(w, t);
}

void mqg_timer_in(struct mqg_timer *t, uint64_t delay_ms)
{
    uint64_t now = timer_worker()->pub.now.mono_ms;
    mqg_timer_at(t, delay_ms < UINT64_MAX - now ? now + delay_ms : UINT64_MAX);
}

static void timer_remove(struct io_worker *w, struct mqg_timer *t)
{
    uint32_t slot = t->slot;
    MQG_ASSERT(slot >= 1 && slot <= w->ntimers && w->heap[slot] == t);
    struct mqg_timer *last = w->heap[w->ntimers--];
    t->due_ms = 0;
    if (last != t)
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
        struct mqg_timer *t = w->heap[1];
        if (t->due_ms > w->pub.now.mono_ms)
            break;
        timer_remove(w, t);
        t->fire(t);
        any = true;
    }
    return any;
}

uint64_t worker_timers_next_ms(const struct io_worker *w)
{
    return w->ntimers > 0 ? w->heap[1]->due_ms : UINT64_MAX;
}
