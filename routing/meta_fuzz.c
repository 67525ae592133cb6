/* meta_fuzz.c - definitions read from any bytes: the first says which kind, the rest is the value. What
 * decodes must have a key, and must encode to something that decodes again. */
#include "meta_codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mqg_arena a;
    struct mqg_dynbuf key, value;
    struct meta_record r;
    if (size == 0)
        return 0;
    enum meta_kind kind = (enum meta_kind)(data[0] % META_KIND_COUNT);
    mqg_arena_init(&a, 64u << 20);
    mqg_dynbuf_init(&key, 4u << 20);
    mqg_dynbuf_init(&value, 4u << 20);
    if (meta_decode(kind, mqg_slice_of(data + 1, size - 1), &a, &r) == MQG_OK) {
        meta_key(&key, &r);
        MQG_ASSERT(!key.failed && meta_kind_of(mqg_dynbuf_view(&key)) == kind);
        meta_encode(&value, &r);
        MQG_ASSERT(!value.failed);
        MQG_ASSERT(meta_decode(kind, mqg_dynbuf_view(&value), &a, &r) == MQG_OK);
    }
    mqg_dynbuf_fini(&key);
    mqg_dynbuf_fini(&value);
    mqg_arena_fini(&a);
    return 0;
}
