/* epoch.c - reclamation by quiescent states.
 *
 * A global epoch counts up. A reader's own epoch is the global one that it saw at its last quiescent point,
 * or 0 while it is offline. What is retired is tagged with the epoch of that moment and freed when each
 * online reader's epoch is greater than the tag: its last quiescent point then came after the tag's epoch had
 * ended, so after the unlinking.
 *
 *   writer:  unlink -> retire (tag = E) ...... reclaim: E -> E + 1, look at readers, free tags < min(readers)
 *   reader:  read roots ... quiescent: own = E ... read roots ... offline: own = 0, sleep, online: own = E
 *
 * Order between threads: a reader that stores E + 1 has read it from the writer's increment, which comes
 * after the unlinking: it cannot find the old root any more. Its release store, read by reclaim, puts its
 * earlier reads before the free. Coming online is the subtle case, for reclaim may look at the reader just
 * before: both sides then use sequentially consistent operations (exchange own epoch, then look at E again;
 * increment E, then look at own epoch), so that either reclaim sees the reader, or the reader sees the new
 * epoch and with it the unlinking.
 *
 * Retiring takes a lock; it is for definitions and whole structures, not for messages. Tags never decrease
 * along the list, so freeing takes chunks from its front. */
#include <mqgate/epoch.h>

#include <pthread.h>
#include <stdlib.h>

enum { EPOCH_OFFLINE = 0, EPOCH_FIRST = 1, EPOCH_CHUNK = 126 };

/* A line of its own each: the owner writes it once a turn, reclaim only reads. */
struct mqg_epoch_reader {
    _Alignas(64) _Atomic uint64_t epoch;
    struct mqg_epoch_reader *next; /* under the lock */
};

struct epoch_item {
    void *ptr;
    void (*free_fn)(void *ptr, void *arg);
    void *arg;
    uint64_t tag;
};

struct epoch_chunk {
    struct epoch_chunk *next;
    size_t begin, end; /* items[begin, end) wait */
    struct epoch_item items[EPOCH_CHUNK];
};

static _Atomic uint64_t epoch_now = EPOCH_FIRST;
static _Atomic size_t epoch_waiting;

static pthread_mutex_t epoch_lock = PTHREAD_MUTEX_INITIALIZER;
/* under the lock */
static struct mqg_epoch_reader *epoch_readers;
static struct epoch_chunk *epoch_first, *epoch_last;
static uint64_t epoch_last_tag;

/* ---- readers ------------------------------------------------------------------------------------------- */

void mqg_epoch_online(struct mqg_epoch_reader *r)
{
    MQG_ASSERT(atomic_load_explicit(&r->epoch, memory_order_relaxed) == EPOCH_OFFLINE);
    uint64_t now = atomic_load(&epoch_now), seen;
    do {
        seen = now;
        atomic_exchange(&r->epoch, seen);
        now = atomic_load(&epoch_now);
    } while (now != seen);
}

void mqg_epoch_offline(struct mqg_epoch_reader *r)
{
    MQG_ASSERT(atomic_load_explicit(&r->epoch, memory_order_relaxed) != EPOCH_OFFLINE);
    atomic_store_explicit(&r->epoch, EPOCH_OFFLINE, memory_order_release);
}

void mqg_epoch_quiescent(struct mqg_epoch_reader *r)
{
    uint64_t now = atomic_load_explicit(&epoch_now, memory_order_acquire);
    uint64_t own = atomic_load_explicit(&r->epoch, memory_order_relaxed);
    MQG_ASSERT(own != EPOCH_OFFLINE);
    if (own != now)
        atomic_store_explicit(&r->epoch, now, memory_order_release);
}

struct mqg_epoch_reader *mqg_epoch_register(void)
{
    struct mqg_epoch_reader *r = aligned_alloc(_Alignof(struct mqg_epoch_reader), sizeof *r);
    MQG_ASSERT(r != NULL);
    atomic_init(&r->epoch, EPOCH_OFFLINE);
    pthread_mutex_lock(&epoch_lock);
    r->next = epoch_readers;
    epoch_readers = r;
    pthread_mutex_unlock(&epoch_lock);
    mqg_epoch_online(r);
    return r;
}

void mqg_epoch_unregister(struct mqg_epoch_reader **r)
{
    if (*r == NULL)
        return;
    pthread_mutex_lock(&epoch_lock);
    struct mqg_epoch_reader **at = &epoch_readers;
    while (*at != NULL && *at != *r)
        at = &(*at)->next;
    MQG_ASSERT(*at == *r);
    *at = (*r)->next;
    pthread_mutex_unlock(&epoch_lock);
    free(*r);
    *r = NULL;
}

/* ---- retired ------------------------------------------------------------------------------------------- */

/* Room for an item at the end of the list. Under the lock. */
static struct epoch_item *epoch_item_add(void)
{
    if (epoch_last == NULL || epoch_last->end == EPOCH_CHUNK) {
        struct epoch_chunk *chunk = mqg_xmalloc(sizeof *chunk);
        chunk->next = NULL;
        chunk->begin = chunk->end = 0;
        if (epoch_last == NULL)
            epoch_first = chunk;
        else
            epoch_last->next = chunk;
        epoch_last = chunk;
    }
    return &epoch_last->items[epoch_last->end++];
}

void mqg_epoch_retire(void *ptr, void (*free_fn)(void *ptr, void *arg), void *arg)
{
    MQG_ASSERT(free_fn != NULL);
    pthread_mutex_lock(&epoch_lock);
    epoch_last_tag = atomic_load_explicit(&epoch_now, memory_order_relaxed);
    *epoch_item_add() = (struct epoch_item){ptr, free_fn, arg, epoch_last_tag};
    atomic_fetch_add_explicit(&epoch_waiting, 1, memory_order_relaxed);
    pthread_mutex_unlock(&epoch_lock);
}

/* The least epoch of an online reader. Under the lock. */
static uint64_t epoch_oldest(void)
{
    uint64_t oldest = UINT64_MAX;
    for (struct mqg_epoch_reader *r = epoch_readers; r != NULL; r = r->next) {
        uint64_t epoch = atomic_load(&r->epoch);
        if (epoch != EPOCH_OFFLINE && epoch < oldest)
            oldest = epoch;
    }
    return oldest;
}

/* Moves up to max items that nobody can hold from the list to `out`; how many. Takes the lock. */
static size_t epoch_collect(struct epoch_item *out, size_t max)
{
    size_t n = 0;
    pthread_mutex_lock(&epoch_lock);
    if (epoch_last_tag == atomic_load_explicit(&epoch_now, memory_order_relaxed))
        atomic_fetch_add(&epoch_now, 1); /* what is retired from here on has a later tag */
    uint64_t oldest = epoch_oldest();
    struct epoch_chunk *chunk = epoch_first;
    while (chunk != NULL && n < max && chunk->items[chunk->begin].tag < oldest) {
        out[n++] = chunk->items[chunk->begin++];
        if (chunk->begin < chunk->end)
            continue;
        epoch_first = chunk->next;
        if (epoch_first == NULL)
            epoch_last = NULL;
        free(chunk);
        chunk = epoch_first;
    }
    atomic_fetch_sub_explicit(&epoch_waiting, n, memory_order_relaxed);
    pthread_mutex_unlock(&epoch_lock);
    return n;
}

size_t mqg_epoch_reclaim(void)
{
    struct epoch_item items[EPOCH_CHUNK];
    size_t freed = 0, n = EPOCH_CHUNK;
    while (n == EPOCH_CHUNK && mqg_epoch_pending() > 0) {
        n = epoch_collect(items, EPOCH_CHUNK);
        for (size_t i = 0; i < n; i++)
            items[i].free_fn(items[i].ptr, items[i].arg);
        freed += n;
    }
    return freed;
}

size_t mqg_epoch_pending(void)
{
    return atomic_load_explicit(&epoch_waiting, memory_order_relaxed);
}
