/* methods_fuzz.c - a method frame's payload: class id, method id, arguments.
 *
 * What holds for each that decodes: it is written in as many bytes as it came in, what was written decodes, and
 * writes the same again. (Not the same bytes as came in: unused bits are dropped.) */
#include "methods.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t *fuzz_written(uint32_t id, const union amqp_any *m)
{
    const size_t size = amqp_any_size(id, m);
    uint8_t *bytes = malloc(size);
    MQG_ASSERT(bytes != NULL);
    MQG_ASSERT(amqp_any_write(bytes, id, m) == bytes + size);
    return bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint32_t id = 0;
    struct mqg_slice args = MQG_SLICE_NONE;
    union amqp_any m;
    if (amqp_method_split(mqg_slice_of(data, size), &id, &args) != MQG_OK)
        return 0;
    const enum mqg_err err = amqp_any_decode(id, args, &m);
    MQG_ASSERT((err == MQG_UNSUPPORTED) == (amqp_method_find(id) == NULL));
    if (err != MQG_OK)
        return 0;
    MQG_ASSERT(amqp_any_size(id, &m) == size);
    uint8_t *once = fuzz_written(id, &m);
    union amqp_any again;
    MQG_ASSERT(amqp_any_decode(id, mqg_slice_of(once + 4, size - 4), &again) == MQG_OK);
    uint8_t *twice = fuzz_written(id, &again);
    MQG_ASSERT(memcmp(once, twice, size) == 0);
    free(once);
    free(twice);
    return 0;
}
