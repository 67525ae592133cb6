/* arena.c - many small allocations that live and die together.
 *
 * A decode makes dozens of little things whose lifetime is one frame or one command: freeing them one by one
 * would be most of the work. Blocks are chained newest first and double in size up to a bound, the oldest is
 * kept by a reset so that a connection in its steady state allocates nothing. Under AddressSanitizer all that
 * is not handed out is poisoned: a pointer kept beyond a reset is found where it is used.
 *
 *   head -> [block 8K | used] -> [block 4K | full] -> NULL */
#include <mqgate/base.h>

#include <stdlib.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_ASAN
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define ARENA_ASAN
#endif
#ifdef ARENA_ASAN
#include <sanitizer/asan_interface.h>
#define ARENA_POISON(ptr, n)   __asan_poison_memory_region((ptr), (n))
#define ARENA_UNPOISON(ptr, n) __asan_unpoison_memory_region((ptr), (n))
#else
#define ARENA_POISON(ptr, n)   ((void)(ptr), (void)(n))
#define ARENA_UNPOISON(ptr, n) ((void)(ptr), (void)(n))
#endif

enum { ARENA_ALIGN = 16, ARENA_BLOCK_MIN = 4096, ARENA_BLOCK_MAX = 65536 };

struct mqg_arena_block {
    struct mqg_arena_block *next; /* older */
    size_t size;
    size_t used;
    _Alignas(ARENA_ALIGN) uint8_t data[];
};

void mqg_arena_init(struct mqg_arena *a, size_t max_bytes)
{
    *a = (struct mqg_arena){.max_bytes = max_bytes};
}

static void arena_block_free(struct mqg_arena_block *block)
{
    ARENA_UNPOISON(block->data, block->size);
    free(block);
}

void mqg_arena_fini(struct mqg_arena *a)
{
    while (a->head != NULL) {
        struct mqg_arena_block *block = a->head;
        a->head = block->next;
        arena_block_free(block);
    }
    a->used_bytes = 0;
}

void mqg_arena_reset(struct mqg_arena *a)
{
    a->used_bytes = 0;
    if (a->head == NULL)
        return;
    while (a->head->next != NULL) {
        struct mqg_arena_block *block = a->head;
        a->head = block->next;
        arena_block_free(block);
    }
    a->head->used = 0;
    ARENA_POISON(a->head->data, a->head->size);
}

static size_t arena_block_size(const struct mqg_arena *a, size_t n)
{
    size_t size = a->head != NULL ? a->head->size * 2 : ARENA_BLOCK_MIN;
    if (size > ARENA_BLOCK_MAX)
        size = ARENA_BLOCK_MAX;
    return size < n ? n : size;
}

static bool arena_block_add(struct mqg_arena *a, size_t n)
{
    size_t size = arena_block_size(a, n);
    struct mqg_arena_block *block = malloc(sizeof *block + size);
    if (block == NULL)
        return false;
    block->next = a->head;
    block->size = size;
    block->used = 0;
    ARENA_POISON(block->data, size);
    a->head = block;
    return true;
}

void *mqg_arena_alloc(struct mqg_arena *a, size_t n)
{
    if (n > SIZE_MAX / 4)
        return NULL;
    size_t step = n > 0 ? (n + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1) : ARENA_ALIGN;
    if (a->max_bytes > 0 && (step > a->max_bytes || a->used_bytes > a->max_bytes - step))
        return NULL;
    if ((a->head == NULL || a->head->size - a->head->used < step) && !arena_block_add(a, step))
        return NULL;
    uint8_t *ptr = a->head->data + a->head->used;
    a->head->used += step;
    a->used_bytes += step;
    ARENA_UNPOISON(ptr, n);
    return memset(ptr, 0, n);
}

struct mqg_slice mqg_arena_dup(struct mqg_arena *a, struct mqg_slice s)
{
    uint8_t *copy = mqg_arena_alloc(a, s.len);
    if (copy == NULL)
        return MQG_SLICE_NONE;
    if (s.len > 0)
        memcpy(copy, s.ptr, s.len);
    return mqg_slice_of(copy, s.len);
}
