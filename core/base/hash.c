/* hash.c - XXH3 under a secret of this process.
 *
 * Names of queues, topics and clients are chosen by peers: with a known hash they could be chosen to collide.
 * The 64-bit seed variants of XXH3 mix their seed by addition, which is too little against somebody who looks
 * for inputs that collide under every seed; a whole random secret takes that handle away at the same cost. */
#include <mqgate/base.h>

#include <pthread.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

static uint8_t hash_secret[192];
static _Atomic bool hash_ready;
static pthread_once_t hash_once = PTHREAD_ONCE_INIT;
_Static_assert(sizeof hash_secret >= XXH3_SECRET_SIZE_MIN, "XXH3 needs a longer secret");

static void hash_secret_draw(void)
{
    mqg_random_bytes(hash_secret, sizeof hash_secret);
    atomic_store_explicit(&hash_ready, true, memory_order_release);
}

uint64_t mqg_hash(struct mqg_slice s)
{
    if (MQG_UNLIKELY(!atomic_load_explicit(&hash_ready, memory_order_acquire)))
        pthread_once(&hash_once, hash_secret_draw);
    const void *ptr = s.ptr != NULL ? (const void *)s.ptr : "";
    return XXH3_64bits_withSecret(ptr, s.len, hash_secret, sizeof hash_secret);
}
