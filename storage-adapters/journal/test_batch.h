/* test_batch.h - record batches for the tests of compaction, and a codec to compress them. */
#ifndef JRN_TEST_BATCH_H
#define JRN_TEST_BATCH_H

#include "test_part.h"

enum { TEST_CODEC = 7, TEST_CODEC_UNKNOWN = 6, TEST_CODEC_BOTH_WAYS = 5 };

void test_codecs(void); /* registers them */
enum mqg_err test_pack(struct mqg_slice in, struct mqg_dynbuf *out);

/* One record, `delta` behind its batch's base; value NULL: a tombstone. */
void put_record(struct mqg_dynbuf *out, uint32_t delta, uint32_t key, const char *value);

struct test_batch {
    uint64_t base;
    uint32_t count;           /* of offsets, and records */
    struct mqg_slice records; /* compressed, when attributes say so */
    uint64_t time_ms;
    uint16_t attributes;
    uint64_t producer;
    uint16_t epoch;
    uint32_t sequence;
};
/* Submits it; kit_wait for k->ticket[0] waits. */
void put_test_batch(struct kit *k, const struct test_batch *t);
/* The same of nobody. */
void put_batch(struct kit *k, uint64_t base, uint32_t count, struct mqg_slice records, uint64_t time_ms,
               uint16_t attributes);
/* Of one record. */
void part_put_key(struct kit *k, uint64_t offset, uint32_t key, const char *value, uint64_t time_ms,
                  uint16_t attributes);
/* The same of a producer's transaction. */
void part_put_txn(struct kit *k, uint64_t offset, uint64_t producer, uint32_t key, const char *value,
                  uint64_t time_ms);
void part_put_marker(struct kit *k, uint64_t offset, uint64_t producer, bool commit, uint64_t time_ms);

/* Does the copy in files go as far? For kit_wait_for. */
bool compact_is_filed(struct kit *k, uint64_t upto);
/* Records of the batch that holds the offset, 0: none; its head in *b. */
uint32_t compact_is_at(struct kit *k, uint64_t offset, struct part_batch *b);

#endif
