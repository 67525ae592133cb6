/* msg_overlay_fuzz.c - an overlay from a broken disk: refused, or one that encodes and decodes again to the same. */
#include <mqgate/msg.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_again(const struct mqg_overlay *o, struct mqg_arena *a)
{
    struct mqg_dynbuf out;
    mqg_dynbuf_init(&out, 4 << 20);
    mqg_overlay_encode(&out, o);
    MQG_ASSERT(!out.failed);
    struct mqg_overlay again;
    enum mqg_err err = mqg_overlay_decode(mqg_dynbuf_view(&out), a, &again);
    MQG_ASSERT(err == MQG_OK || err == MQG_NO_MEMORY);
    if (err == MQG_OK)
        MQG_ASSERT(again.drop == o->drop && mqg_slice_eq(again.reply_to, o->reply_to) &&
                   again.set.n == o->set.n && again.remove.n == o->remove.n);
    mqg_dynbuf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mqg_arena a;
    mqg_arena_init(&a, 8 << 20);
    struct mqg_overlay o;
    if (mqg_overlay_decode(mqg_slice_of(data, size), &a, &o) == MQG_OK)
        fuzz_again(&o, &a);
    mqg_arena_fini(&a);
    return 0;
}
