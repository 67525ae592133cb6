/* part_fuzz.c - the bytes of a partition's files: batches, their records, rows of an index. Whatever comes, a batch that is
 * taken has bounds inside the input, its records lie one behind the other, and what is written is read again as it was. */
#include "part.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_records(struct mqg_slice whole, const struct part_batch *b)
{
    struct mqg_slice in = mqg_slice_of(whole.ptr + PART_BATCH_HEAD, b->len - PART_BATCH_HEAD);
    struct part_record r;
    const uint8_t *next = in.ptr;
    bool bad;
    while (jrn_part_record_take(&in, b, &r, &bad)) {
        MQG_ASSERT(r.whole.ptr == next && r.offset >= b->base && r.offset < b->end);
        MQG_ASSERT(!r.key.len ||
                   (r.key.ptr >= r.whole.ptr && r.key.ptr + r.key.len <= r.whole.ptr + r.whole.len));
        next += r.whole.len;
        MQG_ASSERT(in.ptr == next || in.len == 0);
    }
}

/* A batch of one record gets a horizon: its time, offset and key stay. */
static void fuzz_horizon(struct mqg_slice whole, const struct part_batch *b)
{
    struct mqg_slice in = mqg_slice_of(whole.ptr + PART_BATCH_HEAD, b->len - PART_BATCH_HEAD);
    struct part_batch with = *b, again;
    struct part_record r, back;
    struct mqg_dynbuf out;
    bool bad;
    if (!jrn_part_record_take(&in, b, &r, &bad) || in.len > 0)
        return;
    mqg_dynbuf_init(&out, 1 << 21);
    MQG_ASSERT(jrn_part_batch_horizon(&out, whole, &with, 1u << 31) && with.len == out.len);
    in = mqg_dynbuf_view(&out);
    MQG_ASSERT(jrn_part_batch_take(&in, &again) && in.len == 0);
    MQG_ASSERT((again.attributes & PART_BATCH_HORIZON) && again.base_time_ms == 1u << 31);
    in = mqg_slice_of(out.ptr + PART_BATCH_HEAD, out.len - PART_BATCH_HEAD);
    MQG_ASSERT(jrn_part_record_take(&in, &again, &back, &bad) && in.len == 0);
    MQG_ASSERT(back.time_ms == r.time_ms && back.offset == r.offset && mqg_slice_eq(back.key, r.key));
    mqg_dynbuf_fini(&out);
}

static void fuzz_batches(struct mqg_slice in)
{
    struct part_batch b, again;
    struct mqg_slice whole = in;
    if (jrn_part_batch_head(in, &b)) {
        MQG_ASSERT(b.len >= PART_BATCH_HEAD && b.end > b.base);
        if (b.len <= in.len && b.len < 1 << 20) { /* the sum is made right, so that records are reached */
            uint8_t *copy = mqg_xmalloc(b.len);
            memcpy(copy, in.ptr, b.len);
            jrn_part_batch_rewrite(copy, &b);
            struct mqg_slice fixed = mqg_slice_of(copy, b.len);
            MQG_ASSERT(jrn_part_batch_take(&fixed, &again) && fixed.len == 0 && again.end == b.end);
            fuzz_records(mqg_slice_of(copy, b.len), &again);
            fuzz_horizon(mqg_slice_of(copy, b.len), &again);
            free(copy);
        }
    }
    while (jrn_part_batch_take(&in, &b)) {
        MQG_ASSERT(whole.ptr + b.len == in.ptr || in.len == 0);
        whole = in;
    }
}

static void fuzz_index(struct mqg_slice in)
{
    struct part_file f = {.partition = 7, .base = 100};
    struct part_entry e, back;
    uint8_t row[PART_IDX_ROW];
    (void)jrn_part_idx_head_is(in, &f);
    for (; in.len >= PART_IDX_ROW; in = mqg_slice_of(in.ptr + PART_IDX_ROW, in.len - PART_IDX_ROW)) {
        (void)jrn_part_idx_row_is(in.ptr, &e, 5);
        jrn_part_idx_row(row, &e, 5);
        MQG_ASSERT(jrn_part_idx_row_is(row, &back, 5) && memcmp(&e, &back, sizeof e) == 0);
    }
}

static void fuzz_name(struct mqg_slice in)
{
    char name[64];
    struct part_name parsed;
    size_t n = in.len < sizeof name - 1 ? in.len : sizeof name - 1;
    if (n)
        memcpy(name, in.ptr, n);
    name[n] = '\0';
    if (jrn_part_parse(name, &parsed))
        MQG_ASSERT(parsed.base <= INT64_MAX && (parsed.gen > 0 || !parsed.gaps));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mqg_slice in = mqg_slice_of(data, size);
    fuzz_batches(in);
    fuzz_index(in);
    fuzz_name(in);
    return 0;
}
