/* inbox.c - from the lanes to the committer: a stack that anybody pushes on and one thread empties whole.
 *
 * Pushing is one compare-and-swap; the committer takes everything at once and turns it around, so each lane's
 * chunks stay in their order. Nothing is popped singly, so the stack needs no protection against reused
 * addresses.
 *
 * Sleeping: the committer says how deeply it sleeps (futex word), then looks into the inbox once more; a
 * submitter pushes, then looks at the word. Both are sequentially consistent, so one of them sees the other.
 * */
#include "journal.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void inbox_futex_wake(struct mqg_store *s)
{
    syscall(SYS_futex, &s->sleep, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void jrn_inbox_wake(struct mqg_store *s)
{
    atomic_store(&s->sleep, JRN_AWAKE);
    inbox_futex_wake(s);
}

void jrn_submit(struct mqg_store *s, struct jrn_chunk *c)
{
    bool urgent = (c->flags & MQG_SUBMIT_URGENT) != 0; /* the committer owns c after the push */
    atomic_fetch_add_explicit(&s->queued_bytes, (int64_t)c->total, memory_order_relaxed);
    struct jrn_chunk *head = atomic_load_explicit(&s->inbox, memory_order_relaxed);
    do {
        c->next = head;
    } while (!atomic_compare_exchange_weak(&s->inbox, &head, c));
    uint32_t sleep = atomic_load(&s->sleep);
    if (sleep == JRN_DEEP || (sleep == JRN_LIGHT && urgent))
        if (atomic_compare_exchange_strong(&s->sleep, &sleep, JRN_AWAKE))
            inbox_futex_wake(s);
}

/* Moves the inbox behind the waiting list, oldest first. */
void jrn_inbox_gather(struct mqg_store *s)
{
    struct jrn_committer *com = &s->com;
    struct jrn_chunk *c = atomic_exchange(&s->inbox, NULL), *fifo = NULL, **last = NULL;
    if (!c)
        return;
    while (c) {
        struct jrn_chunk *next = c->next;
        if (!fifo)
            last = &c->next;
        c->next = fifo;
        fifo = c;
        c = next;
    }
    if (!com->first) /* slept through: as old as the sleep; else as old as the last commit */
        com->lazy_since_us = com->slept_us ? com->slept_us : mqg_clock_mono_us();
    *com->last_next = fifo;
    com->last_next = last;
}

void jrn_inbox_sleep(struct mqg_store *s, enum jrn_sleep how, uint64_t us)
{
    s->com.slept_us = mqg_clock_mono_us();
    atomic_store(&s->sleep, how);
    if (!atomic_load(&s->inbox) && !atomic_load(&s->stopping) && !atomic_load(&s->closing)) {
        struct timespec ts = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
        syscall(SYS_futex, &s->sleep, FUTEX_WAIT_PRIVATE, how, how == JRN_DEEP ? NULL : &ts, NULL, 0);
    }
    atomic_store(&s->sleep, JRN_AWAKE);
}
