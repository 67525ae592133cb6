/* proxyproto_fuzz.c - a PROXY header from anybody: a pure function that stays inside its input, and does not change its
 * mind when more bytes follow. */
#include "proxyproto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mqg_proxy whole, part;
    struct mqg_error e;
    size_t used, part_used;
    enum mqg_err err = mqg_proxy_decode(mqg_slice_of(data, size), &whole, &used, &e);
    MQG_ASSERT(used <= size && used <= MQG_PROXY_HEADER_MAX);
    MQG_ASSERT((err == MQG_OK) == (used > 0) || err != MQG_MORE);
    if (err != MQG_OK)
        return 0;
    MQG_ASSERT(mqg_proxy_decode(mqg_slice_of(data, used), &part, &part_used, &e) == MQG_OK &&
               part_used == used);
    for (size_t n = 0; n < used; n++)
        MQG_ASSERT(mqg_proxy_decode(mqg_slice_of(data, n), &part, &part_used, &e) == MQG_MORE);
    return 0;
}
