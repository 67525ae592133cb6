/* record.h - what stands inside records: destinations, ranges, keys. Decoding only (chunk.h encodes); pure.
 * */
#ifndef JRN_RECORD_H
#define JRN_RECORD_H

#include "format.h"

#include <mqgate/store.h>

/* Destinations of a MSG or DESTS: their number, then zigzag deltas of queue and qseq to the one before. */
struct jrn_dests {
    struct mqg_cursor c;
    uint64_t left;
    struct mqg_dest last;
};
bool jrn_dests_init(struct jrn_dests *it, struct mqg_slice tail);
bool jrn_dests_next(struct jrn_dests *it, struct mqg_dest *out); /* false: at the end, or it->c.failed */

/* Ranges of a SETTLE or QSTATE: ascending, each as (distance from the end of the one before, length - 1). */
struct jrn_ranges {
    struct mqg_cursor c;
    uint64_t queue_id, left, next;
};
bool jrn_ranges_init(struct jrn_ranges *it, struct mqg_slice main);
bool jrn_ranges_next(struct jrn_ranges *it, struct mqg_range *out);

/* Sorts ranges that may lie inside each other; afterwards they are apart and ascending. How many are left. */
uint32_t jrn_ranges_merge(struct mqg_range *r, uint32_t n);

struct jrn_count {
    uint64_t queue_id, qseq;
    uint32_t delivery_count, acquired_count;
};
struct jrn_meta {
    struct mqg_slice key, value;
    bool remove;
};
struct jrn_batch {
    uint64_t partition, base_offset, max_time_ms;
    uint32_t count;
    struct mqg_slice bytes;
};
struct jrn_stream_def {
    uint64_t partition;
    int32_t index;
    bool exists;
    struct mqg_slice name;
};
struct jrn_position {
    uint64_t partition, offset;
    struct mqg_slice group, metadata;
};
struct jrn_producer {
    uint64_t partition, producer_id, offset;
    int16_t epoch;
    int32_t base_seq, last_seq;
};
struct jrn_triple { /* TRIM: a = partition, b = start. CUT: partition, term, end. FREE: sequence, nonce */
    uint64_t a, b, c;
};
struct jrn_manifest_row {
    uint64_t seq, nonce, last_number, end;
};

struct jrn_stream_conf {
    uint64_t partition;
    struct mqg_stream_conf conf;
};

enum { JRN_STREAM_CONF_BYTES = 72, JRN_BATCH_HEAD = 32, JRN_MANIFEST_ROW = 32, JRN_FREE_ROW = 16 };

/* All: false when the bytes do not fit the type exactly. */
bool jrn_rec_count(struct mqg_slice main, struct jrn_count *out);
bool jrn_rec_meta(struct mqg_slice main, struct jrn_meta *out);
bool jrn_rec_batch(struct mqg_slice main, struct jrn_batch *out);
bool jrn_rec_stream(struct mqg_slice main, struct jrn_stream_def *out);
bool jrn_rec_position(struct mqg_slice main, struct jrn_position *out);
bool jrn_rec_producer(struct mqg_slice main, struct jrn_producer *out);
bool jrn_rec_trim(struct mqg_slice main, struct jrn_triple *out);
bool jrn_rec_stream_conf(struct mqg_slice main, struct jrn_stream_conf *out);
bool jrn_rec_cut(struct mqg_slice main, struct jrn_triple *out);
bool jrn_rec_free(struct mqg_slice main, size_t index, struct jrn_triple *out);
bool jrn_rec_manifest(struct mqg_slice main, size_t index, struct jrn_manifest_row *out);
/* The lengths in a stored form add up to its bytes, and its version is known. */
bool jrn_stored_check(struct mqg_slice main, struct mqg_stored *head);
/* Checks the inside of any record; UNSUPPORTED: an unknown type that may not be ignored. */
enum mqg_err jrn_rec_check(const struct jrn_rec *rec) MQG_MUST_CHECK;
const char *jrn_rec_name(uint8_t type);

#endif
