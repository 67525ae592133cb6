/* legacy.h - message sets, magic 0 and 1: made into one batch v2 on arrival, and made of batches for those who still read them.
 *
 *   entry     | offset 8 | length 4 | message |                                           (big-endian)
 *   message   | crc32 4 | magic 1 | attributes 1 | time 8, magic 1 only | key length 4, key | value length 4, value |
 *   attributes  0..2 codec (0 none, 1 gzip, 2 snappy, 3 lz4), 3 the time is the broker's (magic 1)
 *
 * A compressed message holds a whole set as its value, one level deep. Lengths of -1 are null. The sum is that of gzip, from
 * the magic on. The batch that comes out is not compressed: whoever still speaks this is old or small, and what is stored
 * stays readable to everybody. A message of magic 0 has no time: its record has -1, as in Apache Kafka, and the batch that of
 * its arrival, so that retention by time works.
 * Source: the protocol guide, "Message sets"; KIP-31 and KIP-32 (magic 1). */
#ifndef KAFKA_LEGACY_H
#define KAFKA_LEGACY_H

#include <mqgate/records.h>

/* Does `records` begin with a message set? (Its magic, at byte 16, is 0 or 1.) */
bool kafka_legacy_is(struct mqg_slice records);

/* Begins `out` and adds all messages of the set; mqg_builder_end(out) is the batch. scratch: where a compressed set becomes plain,
 * its maximum bounds that. MALFORMED: cut, a wrong sum, lengths that cannot be, no message at all; UNSUPPORTED: a codec of
 * its own, sets within sets; TOO_LARGE: more than out's or scratch's maximum. Any thread. */
enum mqg_err kafka_legacy_up(struct mqg_slice set, int64_t now_ms, struct mqg_batch_builder *out,
                             struct mqg_dynbuf *scratch) MQG_MUST_CHECK;

/* The other way (legacy_down.c): what a fetch of versions 0 to 3 gets. Nothing is compressed in it, headers of records and control
 * batches are left out; magic 0 has no times either. */
struct kafka_legacy_down {
    uint8_t magic;      /* 0 or 1 */
    uint64_t from;      /* records before it are left out */
    size_t max_bytes;   /* of the set; its first message comes whatever its size */
    size_t plain_bytes; /* out: what was decompressed, also of what came to nothing */
};
/* Appends messages to `out`, which is empty. It may stay so: there was nothing that such a reader sees. scratch: where a compressed
 * batch becomes plain. Fails by the first batch only, later ones end the set: MALFORMED, UNSUPPORTED: a codec that nobody knows;
 * TOO_LARGE: more than scratch's or out's maximum. Any thread. */
enum mqg_err kafka_legacy_down(struct mqg_slice batches, struct kafka_legacy_down *want,
                               struct mqg_dynbuf *scratch, struct mqg_dynbuf *out) MQG_MUST_CHECK;

#endif
