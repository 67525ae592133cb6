/* frame_fuzz.c - any bytes as a STOMP stream and as a destination: what is read lies inside the input, the end of a block does
 * not move when more follows, and a value that was unescaped is escaped to what reads the same. */
#include "dest.h"
#include "frame.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_value(struct mqg_slice raw, enum stomp_version v, struct mqg_arena *a)
{
    struct mqg_slice plain, again;
    if (stomp_unescape(raw, v, a, &plain) != MQG_OK || v == STOMP_10)
        return;
    struct mqg_dynbuf out;
    mqg_dynbuf_init(&out, STOMP_ESCAPED_MAX(plain.len) + 8);
    uint8_t *to = mqg_dynbuf_reserve(&out, STOMP_ESCAPED_MAX(plain.len) + 1);
    MQG_ASSERT(to != NULL);
    size_t n = (size_t)(stomp_escape(to, plain, v, false) - to);
    MQG_ASSERT(n <= STOMP_ESCAPED_MAX(plain.len));
    bool good = stomp_unescape(mqg_slice_of(to, n), v, a, &again) == MQG_OK && mqg_slice_eq(plain, again);
    MQG_ASSERT(good);
    mqg_dynbuf_fini(&out);
}

static void fuzz_block(struct mqg_slice block, enum stomp_version v, struct mqg_arena *a)
{
    struct stomp_line lines[32];
    struct stomp_head h = {.lines = lines, .max = MQG_COUNTOF(lines)};
    struct mqg_error e;
    if (stomp_head_read(block, &h, &e) != MQG_OK)
        return;
    for (uint32_t i = 0; i < h.n; i++) {
        MQG_ASSERT(lines[i].name.ptr > block.ptr &&
                   lines[i].value.ptr + lines[i].value.len < block.ptr + block.len);
        fuzz_value(lines[i].value, v, a);
    }
}

static void fuzz_dest(struct mqg_slice in, struct mqg_arena *a)
{
    struct stomp_dest d, back;
    struct mqg_error e;
    if (stomp_dest_read(in, a, &d, &e) != MQG_OK)
        return;
    struct mqg_dynbuf out;
    mqg_dynbuf_init(&out, 1u << 20);
    stomp_dest_write(&out, d.exchange, d.key, '.');
    if (d.key.len > 0 && !out.failed) {
        bool good = stomp_dest_read(mqg_dynbuf_view(&out), a, &back, &e) == MQG_OK &&
                    mqg_slice_eq(back.key, d.key) && mqg_slice_eq(back.exchange, d.exchange);
        MQG_ASSERT(good);
    }
    mqg_dynbuf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    enum stomp_version v = (enum stomp_version)(data[0] % STOMP_VERSIONS);
    struct mqg_slice in = mqg_slice_of(data + 1, size - 1);
    struct mqg_arena a;
    mqg_arena_init(&a, 1u << 20);
    size_t eols = stomp_eols(in), scanned = 0, len = 0;
    MQG_ASSERT(eols <= in.len);
    in = mqg_slice_of(in.ptr + eols, in.len - eols);
    if (stomp_head_end(in, &scanned, &len) == MQG_OK) {
        size_t again = 0, same = 0;
        bool good = len <= in.len && stomp_head_end(mqg_slice_of(in.ptr, len), &again, &same) == MQG_OK &&
                    same == len;
        MQG_ASSERT(good);
        fuzz_block(mqg_slice_of(in.ptr, len), v, &a);
    }
    fuzz_dest(in, &a);
    mqg_arena_fini(&a);
    return 0;
}
