/* records_fuzz.c - a batch from a producer or a broken disk: walked within its bounds; what reads as a batch of records can be
 * made into messages and back into records. */
#include <mqgate/records.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_record(const struct mqg_record *r, struct mqg_arena *a, struct mqg_batch_builder *b,
                        struct mqg_dynbuf *scratch)
{
    struct mqg_record_to to = {.proto = MQG_PROTO_INTERNAL, .partition = 1, .offset_header = true};
    enum mqg_err err;
    struct mqg_msg *m = mqg_record_to_msg(r, &to, a, scratch, &err);
    if (m == NULL) {
        MQG_ASSERT(err != MQG_OK);
        return;
    }
    MQG_ASSERT(mqg_slice_eq(mqg_msg_body(m), r->value));
    mqg_builder_begin(b);
    if (mqg_record_from_msg(b, m, a))
        MQG_ASSERT(mqg_builder_end(b).len > MQG_BATCH_HEAD_BYTES);
    mqg_msg_unref(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mqg_slice in = mqg_slice_of(data, size);
    struct mqg_batch b;
    if (mqg_batch_read(in, &b) != MQG_OK)
        return 0;
    (void)mqg_batch_sum_ok(in, &b);
    struct mqg_arena a;
    struct mqg_batch_builder builder;
    struct mqg_dynbuf scratch;
    mqg_arena_init(&a, 4 << 20);
    mqg_builder_init(&builder, 4 << 20);
    mqg_dynbuf_init(&scratch, 4 << 20);
    struct mqg_record_iter it;
    struct mqg_record r;
    uint32_t n = 0;
    mqg_record_iter_init(&it, &b, b.records);
    for (; mqg_record_next(&it, &r); n++) {
        mqg_arena_reset(&a);
        fuzz_record(&r, &a, &builder, &scratch);
    }
    MQG_ASSERT(it.bad || n == b.count);
    mqg_dynbuf_fini(&scratch);
    mqg_builder_fini(&builder);
    mqg_arena_fini(&a);
    return 0;
}
