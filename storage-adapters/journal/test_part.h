/* test_part.h - one partition for the tests of partitions' files. */
#ifndef JRN_TEST_PART_H
#define JRN_TEST_PART_H

#include "stream.h"
#include "test_kit.h"

enum { PART = 0x51 };

/* A store with the partition, whose files have segment_bytes. */
void part_begin(struct kit *k, const char *name, uint64_t segment_bytes);
void part_define(struct kit *k, bool exists);
void part_conf(struct kit *k, struct mqg_stream_conf conf);
struct mqg_stream_read part_read(struct kit *k, uint64_t offset, uint32_t max_bytes); /* waits */
struct mqg_stream_stats part_stats(struct kit *k);
/* kind: "log", "idx"; of a file that was not compacted. */
void part_path(const struct kit *k, uint64_t base, const char *kind, char out[512]);
bool part_folder_gone(struct kit *k, uint64_t unused); /* for kit_wait_for */

#endif
