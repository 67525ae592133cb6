/* slab.c - the memory of messages: bump allocation in 64 KiB slabs, one open slab per thread.
 *
 * A message is made by one thread and freed by any other, a moment or hours later. malloc pays for that generality
 * with 60 ns and with fragments; here a new message is an addition, and a free is one atomic subtraction. The price
 * is that one old message keeps its slab alive, which the store pays back by dropping bodies that it can load again.
 *
 *   slab  [ live | next | used ][ msg ][ msg ][ msg ]...[ free ]          64 KiB
 *
 * `live` counts the blocks that are not freed. While a slab is open its owner counts what it hands out in `given`,
 * without an atomic, and `live` carries a bias so that it cannot reach zero. Closing the slab replaces the bias by
 * `given`: whoever then brings the sum to zero (a free, or the close itself) recycles it. A slab whose blocks were all
 * freed by the time it is full is used again at once, still warm in the cache: the usual case of a broker that keeps
 * up.
 *
 * Dead slabs go to a global pool, bounded, so that a burst's memory returns to the system. Blocks over 16 KiB are
 * allocated alone: the kernel backs their pages only as the body arrives. The bound is that high because malloc gives the memory
 * of such bodies back to the kernel between two bursts, and getting it again, page by page and cold, costs an eighth of all that a
 * message of 10 KiB costs. */
#include "slab.h"

#include <mqgate/msg.h>

#include <pthread.h>
#include <stdlib.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SLAB_ASAN
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define SLAB_ASAN
#endif
#ifdef SLAB_ASAN
#include <sanitizer/asan_interface.h>
#define SLAB_POISON(ptr, n)   __asan_poison_memory_region((ptr), (n))
#define SLAB_UNPOISON(ptr, n) __asan_unpoison_memory_region((ptr), (n))
#else
#define SLAB_POISON(ptr, n)   ((void)(ptr), (void)(n))
#define SLAB_UNPOISON(ptr, n) ((void)(ptr), (void)(n))
#endif

#define SLAB_BIAS     (UINT32_C(1) << 30)
#define SLAB_POOL_MAX 256u /* 16 MiB kept for reuse */
#define SLAB_MAGIC    0x736c6162u

struct mqg_slab {
    uint32_t magic;
    _Atomic uint32_t live; /* + SLAB_BIAS - given while open */
    uint32_t given;        /* owner's */
    uint32_t used;         /* owner's: bytes of data */
    struct mqg_slab *next; /* in the pool */
    _Alignas(MSG_BLOCK_ALIGN) uint8_t data[];
};

#define SLAB_DATA_BYTES (MSG_SLAB_BYTES - (uint32_t)sizeof(struct mqg_slab))

static struct mqg_budget slab_budget;
static pthread_mutex_t slab_pool_lock = PTHREAD_MUTEX_INITIALIZER;
static struct mqg_slab *slab_pool;
static uint32_t slab_pool_count;
static pthread_key_t slab_thread_key;
static pthread_once_t slab_thread_once = PTHREAD_ONCE_INIT;
static _Thread_local struct mqg_slab *slab_open;

/* ---- budget ------------------------------------------------------------------------------------------------------ */

static bool slab_charge(size_t n, bool force)
{
    if (!force)
        return mqg_budget_take(&slab_budget, n);
    atomic_fetch_add_explicit(&slab_budget.used_bytes, (int64_t)n, memory_order_relaxed);
    return true;
}

int64_t mqg_msg_memory_used(void)
{
    return atomic_load_explicit(&slab_budget.used_bytes, memory_order_relaxed);
}

void mqg_msg_memory_limit(int64_t bytes)
{
    slab_budget.limit_bytes = bytes;
}

/* ---- the pool ---------------------------------------------------------------------------------------------------- */

static struct mqg_slab *slab_pool_get(void)
{
    pthread_mutex_lock(&slab_pool_lock);
    struct mqg_slab *slab = slab_pool;
    if (slab != NULL) {
        slab_pool = slab->next;
        slab_pool_count--;
    }
    pthread_mutex_unlock(&slab_pool_lock);
    return slab;
}

static bool slab_pool_put(struct mqg_slab *slab)
{
    pthread_mutex_lock(&slab_pool_lock);
    bool room = slab_pool_count < SLAB_POOL_MAX;
    if (room) {
        slab->next = slab_pool;
        slab_pool = slab;
        slab_pool_count++;
    }
    pthread_mutex_unlock(&slab_pool_lock);
    return room;
}

static void slab_dead(struct mqg_slab *slab)
{
    MQG_CHECK(slab, SLAB_MAGIC);
    mqg_budget_give(&slab_budget, MSG_SLAB_BYTES);
    if (slab_pool_put(slab))
        return;
    SLAB_UNPOISON(slab->data, SLAB_DATA_BYTES);
    free(slab);
}

/* ---- the open slab of a thread ------------------------------------------------------------------------------------- */

static void slab_reset(struct mqg_slab *slab)
{
    slab->magic = SLAB_MAGIC;
    slab->given = 0;
    slab->used = 0;
    slab->next = NULL;
    atomic_store_explicit(&slab->live, SLAB_BIAS, memory_order_relaxed);
    SLAB_POISON(slab->data, SLAB_DATA_BYTES);
}

static void slab_close(struct mqg_slab *slab)
{
    uint32_t drop = SLAB_BIAS - slab->given;
    if (atomic_fetch_sub_explicit(&slab->live, drop, memory_order_acq_rel) == drop)
        slab_dead(slab);
}

static void slab_thread_end(void *slab)
{
    slab_open = NULL;
    slab_close(slab);
}

static void slab_thread_init(void)
{
    int rc = pthread_key_create(&slab_thread_key, slab_thread_end);
    MQG_ASSERT(rc == 0);
}

static struct mqg_slab *slab_new(bool force)
{
    if (!slab_charge(MSG_SLAB_BYTES, force))
        return NULL;
    struct mqg_slab *slab = slab_pool_get();
    if (slab == NULL)
        slab = aligned_alloc(64, MSG_SLAB_BYTES);
    if (slab == NULL) {
        mqg_budget_give(&slab_budget, MSG_SLAB_BYTES);
        return NULL;
    }
    slab_reset(slab);
    return slab;
}

/* All that was given out is freed already: nobody else looks at it, start again at its front. */
static bool slab_is_idle(const struct mqg_slab *slab)
{
    return atomic_load_explicit(&slab->live, memory_order_acquire) == SLAB_BIAS - slab->given;
}

static struct mqg_slab *slab_renew(bool force)
{
    struct mqg_slab *old = slab_open;
    if (old != NULL && slab_is_idle(old)) {
        slab_reset(old);
        return old;
    }
    pthread_once(&slab_thread_once, slab_thread_init);
    struct mqg_slab *slab = slab_new(force);
    if (slab == NULL)
        return NULL;
    slab_open = slab;
    pthread_setspecific(slab_thread_key, slab);
    if (old != NULL)
        slab_close(old);
    return slab;
}

/* ---- blocks ------------------------------------------------------------------------------------------------------- */

static void *slab_alloc_large(size_t n, bool force)
{
    if (!slab_charge(n, force))
        return NULL;
    void *ptr = malloc(n);
    if (ptr == NULL)
        mqg_budget_give(&slab_budget, n);
    return ptr;
}

void *msg_slab_alloc(size_t n, bool force, struct mqg_slab **slab)
{
    *slab = NULL;
    if (MQG_UNLIKELY(n > MSG_SLAB_ITEM_MAX))
        return slab_alloc_large(n, force);
    uint32_t step = ((uint32_t)n + MSG_BLOCK_ALIGN - 1) & ~(MSG_BLOCK_ALIGN - 1);
    struct mqg_slab *open = slab_open;
    if (MQG_UNLIKELY(open == NULL || SLAB_DATA_BYTES - open->used < step)) {
        open = slab_renew(force);
        if (open == NULL)
            return NULL;
    }
    void *ptr = open->data + open->used;
    open->used += step;
    open->given++;
    SLAB_UNPOISON(ptr, n);
    *slab = open;
    return ptr;
}

/* live of an open slab starts at the bias and falls by one per free; `given` joins in at the close. */
void msg_slab_free(struct mqg_slab *slab, void *ptr, size_t n)
{
    if (slab == NULL) {
        free(ptr);
        mqg_budget_give(&slab_budget, n);
        return;
    }
    SLAB_POISON(ptr, n);
    if (atomic_fetch_sub_explicit(&slab->live, 1, memory_order_acq_rel) == 1)
        slab_dead(slab);
}
