/* legacy_fuzz.c - any bytes as a message set: refused, or a batch that reads back whole. */
#include "legacy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_batch(struct mqg_slice bytes)
{
    struct mqg_batch b;
    struct mqg_record_iter it;
    struct mqg_record r;
    uint32_t n = 0;
    MQG_ASSERT(mqg_batch_read(bytes, &b) == MQG_OK && mqg_batch_sum_ok(bytes, &b));
    mqg_record_iter_init(&it, &b, b.records);
    while (mqg_record_next(&it, &r))
        n++;
    MQG_ASSERT(!it.bad && n == b.count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mqg_batch_builder out;
    struct mqg_dynbuf scratch;
    mqg_builder_init(&out, 1 << 16);
    mqg_dynbuf_init(&scratch, 1 << 16);
    if (kafka_legacy_up(mqg_slice_of(data, size), 1700000000000, &out, &scratch) == MQG_OK)
        fuzz_batch(mqg_builder_end(&out));
    mqg_dynbuf_fini(&scratch);
    mqg_builder_fini(&out);
    return 0;
}
