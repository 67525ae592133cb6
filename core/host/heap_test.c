/* heap_test.c - what is freed does not stay. */
#include "heap.h"

#include <mqgate/base.h>

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BLOCK_BYTES = 8 << 20, SMALL_BYTES = 64 << 10, SMALL = 256 };

/* Touched, so that it is there. */
static void *heap_block(size_t bytes)
{
    return memset(mqg_xmalloc(bytes), 1, bytes);
}

/* Left alone, glibc takes the second from its heap, having learnt from the first. */
static void test_freed_block_teaches_nothing(void **state)
{
    (void)state;
    heap_init(1);
    size_t mapped = mallinfo2().hblkhd;
    for (int i = 0; i < 3; i++) {
        void *block = heap_block(BLOCK_BYTES);
        assert_true(mallinfo2().hblkhd >= mapped + BLOCK_BYTES);
        free(block);
        assert_int_equal(mallinfo2().hblkhd, mapped);
    }
}

static void test_burst_leaves_the_top(void **state)
{
    (void)state;
    void *blocks[SMALL];
    heap_init(1);
    size_t before = mallinfo2().arena;
    for (size_t i = 0; i < SMALL; i++)
        blocks[i] = heap_block(SMALL_BYTES);
    assert_true(mallinfo2().arena >= before + (SMALL - 64) * (size_t)SMALL_BYTES);
    for (size_t i = 0; i < SMALL; i++)
        free(blocks[i]);
    assert_true(mallinfo2().arena <= before + (4 << 20));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_freed_block_teaches_nothing),
        cmocka_unit_test(test_burst_leaves_the_top),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
