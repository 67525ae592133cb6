/* batch_check_fuzz.c - any bytes as what Produce brings for a partition, with the sum set right: what is taken can be read. */
#include "batch_check.h"

#include <stdlib.h>

enum { AT_LENGTH = 8, AT_CRC = 17, AT_ATTRIBUTES = 21 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_records(const struct mqg_batch *b)
{
    struct mqg_record_iter it;
    struct mqg_record r;
    uint32_t n = 0;
    if (b->attributes & MQG_BATCH_CODEC)
        return;
    mqg_record_iter_init(&it, b, b->records);
    while (mqg_record_next(&it, &r))
        n++;
    MQG_ASSERT(n <= b->count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mqg_batch b;
    uint8_t *copy = mqg_xmalloc(size + 1);
    if (size > 0)
        memcpy(copy, data, size);
    if (size >= MQG_BATCH_HEAD_BYTES) {
        mqg_put_be32(copy + AT_LENGTH, (uint32_t)(size - AT_LENGTH - 4));
        mqg_put_be32(copy + AT_CRC, mqg_crc32c(0, copy + AT_ATTRIBUTES, size - AT_ATTRIBUTES));
    }
    if (kafka_batch_check(mqg_slice_of(copy, size), 1 << 20, &b) == KAFKA_NONE)
        fuzz_records(&b);
    free(copy);
    return 0;
}
