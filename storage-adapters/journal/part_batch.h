/* part_batch.h - Kafka's record batch v2 as a partition's file holds it: its head, its sum, its bounds. Pure.
 *
 *   base offset 8 | length 4 | leader epoch 4 | magic 1 = 2 | crc32c 4 | attributes 2 | last offset delta 4 |
 *   base time 8 | max time 8 | producer id 8, epoch 2, sequence 4 | count 4 | records            (big-endian)
 *
 * The length counts what follows it, the sum covers what follows itself: base offset and leader epoch may be rewritten. */
#ifndef JRN_PART_BATCH_H
#define JRN_PART_BATCH_H

#include <mqgate/base.h>

#define PART_BATCH_SPAN ((uint64_t)INT32_MAX + 1) /* offsets of a batch at most */

enum { PART_BATCH_HEAD = 61, PART_BATCH_AT_CRC = 17, PART_BATCH_AT_ATTRIBUTES = 21 };

enum part_attribute {
    PART_BATCH_CODEC = 7u, /* bits 0-2; 0 = not compressed */
    PART_BATCH_LOG_TIME = 1u << 3,
    PART_BATCH_TXN = 1u << 4,
    PART_BATCH_CONTROL = 1u << 5,
    PART_BATCH_HORIZON = 1u << 6, /* the base time says until when the batch stays (KIP-534) */
};

struct part_batch {
    uint64_t base, end; /* offsets [base, end) */
    uint64_t max_time_ms;
    uint64_t base_time_ms;
    uint64_t producer; /* its id; all ones: nobody's */
    uint32_t len;      /* whole, head included */
    uint32_t count;
    uint16_t attributes;
};

/* Reads a head of at least PART_BATCH_HEAD bytes; false when it cannot be one. */
bool jrn_part_batch_head(struct mqg_slice in, struct part_batch *b);
/* Is the whole batch what its sum says? */
bool jrn_part_batch_sum(const uint8_t *p, const struct part_batch *b);
/* Takes the first batch off *in, whole and checked. */
bool jrn_part_batch_take(struct mqg_slice *in, struct part_batch *b);

/* Writes length, attributes, last offset, count, latest time and sum of *b into a batch whose records were changed. */
void jrn_part_batch_rewrite(uint8_t *p, const struct part_batch *b);

/* Only its last offset and the sum. */
void jrn_part_batch_stretch(uint8_t *p, const struct part_batch *b);
/* A batch without records that holds the offsets [b->base, b->end), at most PART_BATCH_SPAN; the rest of *b is filled. */
void jrn_part_batch_empty(uint8_t out[PART_BATCH_HEAD], struct part_batch *b);
/* Appends the batch of one record, which is not compressed, with the horizon; the record's time stays what it was. *b as it is
 * then. false: the record does not read. */
bool jrn_part_batch_horizon(struct mqg_dynbuf *out, struct mqg_slice whole, struct part_batch *b,
                            uint64_t horizon_ms);

/* A record of a batch that is not compressed. */
struct part_record {
    struct mqg_slice whole; /* with its length before it */
    struct mqg_slice key;
    uint64_t offset, time_ms;
    bool has_key, has_value;
};
/* Takes the next record off *in (what follows the batch's head); false at the end, or with *bad. */
bool jrn_part_record_take(struct mqg_slice *in, const struct part_batch *b, struct part_record *out,
                          bool *bad);

#endif
