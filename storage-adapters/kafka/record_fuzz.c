/* record_fuzz.c - any bytes as record batches: the decoder reads inside them, ends, and what it takes it can build. The sum of
 * the first batch is made right, or nothing would come past it. */
#include "record.h"

#include <stddef.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kfk_decoder d;
    struct kfk_record r;
    struct kfk_encoder e;
    if (size < 61)
        return 0;
    uint8_t *copy = mqg_xmalloc(size);
    memcpy(copy, data, size);
    size_t len = (size_t)mqg_be32(copy + 8) + 12;
    if (len >= 61 && len <= size)
        mqg_put_be32(copy + 17, mqg_crc32c(0, copy + 21, len - 21));
    kfk_encoder_init(&e, 4u << 20);
    kfk_decoder_init(&d, mqg_slice_of(copy, size), mqg_be64(copy));
    while (kfk_decoder_next(&d, &r) > 0)
        (void)kfk_encoder_add(&e, &r);
    struct mqg_buf *buf = kfk_encoder_end(&e);
    mqg_buf_unref(&buf);
    kfk_decoder_fini(&d);
    kfk_encoder_fini(&e);
    free(copy);
    return 0;
}
