/* batch.h - record batches v2: made, taken apart and checked, for tests.
 *
 *   base offset 8 | length 4 | leader epoch 4 | magic 1 = 2 | crc32c 4 | attributes 2 | last offset delta 4 |
 *   base time 8 | max time 8 | producer id 8, epoch 2, sequence 4 | count 4 | records            (big-endian)
 *
 * The length counts what follows it, the crc covers what follows itself. */
#ifndef SUITE_BATCH_H
#define SUITE_BATCH_H

#include <mqgate/base.h>

#define BATCH_HEAD_BYTES 61

/* What a batch is to hold; everything follows from it. */
struct batch_spec {
    uint64_t base, seed, time_ms; /* record i has time_ms + i */
    uint32_t count, value_bytes;
    bool rich; /* null keys, null values and headers among the records */
};

void batch_build(struct mqg_dynbuf *out, const struct batch_spec *spec);

struct batch_view {
    struct mqg_slice bytes;
    uint64_t base, end; /* offsets [base, end) */
    uint64_t max_time_ms;
    uint32_t count;
};
/* Takes the next batch off *in, checked (structure, crc); false at the end or on bytes that do not check (*bad). */
bool batch_next(struct mqg_slice *in, struct batch_view *out, bool *bad);

struct batch_record {
    uint64_t offset;
    int64_t time_ms;
    uint64_t digest; /* over time, key, value, headers, with nulls told from empty */
};
/* Visits the records of an uncompressed batch; false when they do not check. */
bool batch_records(const struct batch_view *b, void (*visit)(void *arg, const struct batch_record *r),
                   void *arg);

#endif
