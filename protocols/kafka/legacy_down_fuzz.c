/* legacy_down_fuzz.c - the first byte chooses magic, start and bound, the rest is batches: refused, or a set that reads back whole. */
#include "compression.h"
#include "legacy.h"

enum { ROOM = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_set(struct mqg_slice set)
{
    struct mqg_batch_builder back;
    struct mqg_dynbuf scratch;
    mqg_builder_init(&back, 4 * ROOM);
    mqg_dynbuf_init(&scratch, ROOM);
    enum mqg_err err = kafka_legacy_up(set, 1, &back, &scratch);
    MQG_ASSERT(err == MQG_OK);
    mqg_dynbuf_fini(&scratch);
    mqg_builder_fini(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool begun;
    struct mqg_dynbuf out, scratch;
    if (!begun)
        kafka_compression_register();
    begun = true;
    if (size == 0)
        return 0;
    struct kafka_legacy_down want = {
        .magic = data[0] & 1, .from = data[0] >> 4, .max_bytes = (data[0] & 2) != 0 ? 100 : ROOM};
    mqg_dynbuf_init(&out, ROOM);
    mqg_dynbuf_init(&scratch, ROOM);
    enum mqg_err err = kafka_legacy_down(mqg_slice_of(data + 1, size - 1), &want, &scratch, &out);
    if (err == MQG_OK && out.len > 0)
        fuzz_set(mqg_dynbuf_view(&out));
    mqg_dynbuf_fini(&scratch);
    mqg_dynbuf_fini(&out);
    return 0;
}
