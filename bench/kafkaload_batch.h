/* The batch that is sent again and again, each time with another number. */
#ifndef MQGATE_BENCH_KAFKALOAD_BATCH_H
#define MQGATE_BENCH_KAFKALOAD_BATCH_H

#include <stddef.h>
#include <stdint.h>

enum { BATCH_HEAD = 61, AT_CRC = 17, AT_SUMMED = 21, STAMP = 8 };

/* One batch with number 0, and what any byte of another number does to its sum. */
struct model {
    uint8_t *bytes;
    size_t len, stamp_at;
    uint32_t count, sum;
    uint32_t change[STAMP][256];
};

/* Records of `size` bytes, in a batch of at most `bytes`, but one record at least. */
void model_build(struct model *m, uint32_t size, uint32_t bytes);
/* The sum that the batch of that number has. */
uint32_t model_sum(const struct model *m, const uint8_t stamp[STAMP]);
/* Makes it the batch of that number. */
void model_stamp(const struct model *m, uint8_t *batch, uint64_t number);

#endif
