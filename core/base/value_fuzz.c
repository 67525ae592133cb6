/* value_fuzz.c - any bytes as stored headers: refused, or a tree that encodes, copies and prints as itself.
 *
 * The arena has a bound as its users' have. The encoding has one spelling, so what was accepted must come
 * back byte for byte; only a signalling NaN may change, which is why the second encoding is held against the
 * first. */
#include <mqgate/value.h>

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FUZZ_ARENA_BYTES = 1 << 20, FUZZ_OUT_BYTES = 1 << 22 };

static void fuzz_accepted(struct mqg_arena *a, const struct mqg_table *t, size_t size)
{
    struct mqg_dynbuf first, second, json;
    mqg_dynbuf_init(&first, FUZZ_OUT_BYTES);
    mqg_dynbuf_init(&second, FUZZ_OUT_BYTES);
    mqg_dynbuf_init(&json, FUZZ_OUT_BYTES);
    mqg_table_encode(&first, t);
    MQG_ASSERT(!first.failed && first.len == size);
    struct mqg_table copy = mqg_table_copy(a, t), again;
    MQG_ASSERT(mqg_table_equal(t, &copy));
    MQG_ASSERT(mqg_table_decode(mqg_dynbuf_view(&first), a, &again) == MQG_OK);
    MQG_ASSERT(mqg_table_equal(t, &again));
    mqg_table_encode(&second, &again);
    MQG_ASSERT(mqg_slice_eq(mqg_dynbuf_view(&first), mqg_dynbuf_view(&second)));
    mqg_table_json(&json, t);
    MQG_ASSERT(json.failed || mqg_utf8_valid(mqg_dynbuf_view(&json)));
    mqg_dynbuf_fini(&first);
    mqg_dynbuf_fini(&second);
    mqg_dynbuf_fini(&json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mqg_arena bounded, free_arena;
    mqg_arena_init(&bounded, FUZZ_ARENA_BYTES);
    mqg_arena_init(&free_arena, 0);
    struct mqg_table t;
    if (mqg_table_decode(mqg_slice_of(data, size), &bounded, &t) == MQG_OK)
        fuzz_accepted(&free_arena, &t, size);
    mqg_arena_fini(&bounded);
    mqg_arena_fini(&free_arena);
    return 0;
}
