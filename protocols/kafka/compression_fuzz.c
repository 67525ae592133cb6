/* compression_fuzz.c - the first byte chooses a codec, the rest is its input: plain or refused, never more than the bound. */
#include "compression.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static enum mqg_err (*const codecs[])(struct mqg_slice, struct mqg_dynbuf *) = {
        kafka_gunzip, kafka_unsnappy, kafka_unlz4, kafka_unlz4_magic0, kafka_unzstd};
    struct mqg_dynbuf out;
    if (size == 0)
        return 0;
    mqg_dynbuf_init(&out, 1 << 16);
    enum mqg_err err = codecs[data[0] % MQG_COUNTOF(codecs)](mqg_slice_of(data + 1, size - 1), &out);
    MQG_ASSERT(out.len <= 1 << 16);
    MQG_ASSERT(err != MQG_OK || !out.failed);
    mqg_dynbuf_fini(&out);
    return 0;
}
