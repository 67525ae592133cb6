/* wire_kit.h - what the codec's unit tests share: exact copies, and a slice compared with text.
 *
 * A decoder is fed from an allocation of exactly its input's size, so that AddressSanitizer sees a read of one byte
 * too many. */
#ifndef MQGATE_AMQP_WIRE_KIT_H
#define MQGATE_AMQP_WIRE_KIT_H

#include <mqgate/base.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static inline struct mqg_slice kit_exact_copy(struct mqg_slice s)
{
    uint8_t *copy = malloc(s.len > 0 ? s.len : 1);
    assert_non_null(copy);
    if (s.len > 0)
        memcpy(copy, s.ptr, s.len);
    return mqg_slice_of(copy, s.len);
}

static inline void kit_free(struct mqg_slice s)
{
    free((void *)(uintptr_t)s.ptr);
}

static inline void kit_assert_slice(struct mqg_slice got, struct mqg_slice want)
{
    assert_int_equal(got.len, want.len);
    if (want.len > 0)
        assert_memory_equal(got.ptr, want.ptr, want.len);
}

/* Calls judge(input, arg) for every proper beginning of whole, each in a block of its own. */
static inline void kit_each_cut(struct mqg_slice whole, void (*judge)(struct mqg_slice cut, void *arg),
                                void *arg)
{
    for (size_t n = 0; n < whole.len; n++) {
        struct mqg_slice cut = kit_exact_copy(mqg_slice_of(whole.ptr, n));
        judge(cut, arg);
        kit_free(cut);
    }
}

/* Calls judge(input, arg) for whole with one byte changed: each byte in turn, in each bit, and all its bits. */
static inline void kit_each_flip(struct mqg_slice whole, void (*judge)(struct mqg_slice bad, void *arg),
                                 void *arg)
{
    for (size_t at = 0; at < whole.len; at++) {
        for (unsigned bit = 0; bit <= 8; bit++) {
            struct mqg_slice bad = kit_exact_copy(whole);
            ((uint8_t *)(uintptr_t)bad.ptr)[at] ^= (uint8_t)(bit < 8 ? 1u << bit : 0xffu);
            judge(bad, arg);
            kit_free(bad);
        }
    }
}

#endif
