/* compression.h - compressed records made plain, and the way back: gzip, snappy, LZ4 and Zstandard, as producers use them.
 *
 * A batch is stored and served as it came; these run only when somebody has to look at a record. What a small input may
 * become is bounded by the output's maximum, and no size that an input claims is believed before it is held against what
 * such an input can become at most.
 *
 *   1 gzip    RFC 1952, members one after the other
 *   2 snappy  one raw block, or the framing of the Java library: 0x82 "SNAPPY" 0, version 4, compatible 4,
 *             then length 4 (big-endian) and raw block, again and again
 *   3 lz4     frames of the LZ4 frame format. In message sets of magic 0 the sum in the frame's head is wrong by
 *             tradition (KIP-57): kafka_unlz4_magic0 does not look at it.
 *   4 zstd    frames, RFC 8878
 *
 * All append to `out`. MALFORMED: not that format, cut, bytes left over; TOO_LARGE: more than out's maximum (out is then
 * failed); NO_MEMORY. Any thread. */
#ifndef KAFKA_COMPRESSION_H
#define KAFKA_COMPRESSION_H

#include <mqgate/base.h>

enum mqg_err kafka_gunzip(struct mqg_slice in, struct mqg_dynbuf *out) MQG_MUST_CHECK;
enum mqg_err kafka_unsnappy(struct mqg_slice in, struct mqg_dynbuf *out) MQG_MUST_CHECK;
enum mqg_err kafka_unlz4(struct mqg_slice in, struct mqg_dynbuf *out) MQG_MUST_CHECK;
enum mqg_err kafka_unlz4_magic0(struct mqg_slice in, struct mqg_dynbuf *out) MQG_MUST_CHECK;
enum mqg_err kafka_unzstd(struct mqg_slice in, struct mqg_dynbuf *out) MQG_MUST_CHECK;

/* compression_pack.c, the other way: one member, block or frame. TOO_LARGE: more than out's maximum, or than the format takes. */
enum mqg_err kafka_gzip(struct mqg_slice in, struct mqg_dynbuf *out) MQG_MUST_CHECK;
enum mqg_err kafka_snappy(struct mqg_slice in, struct mqg_dynbuf *out) MQG_MUST_CHECK;
enum mqg_err kafka_lz4(struct mqg_slice in, struct mqg_dynbuf *out) MQG_MUST_CHECK;
enum mqg_err kafka_zstd(struct mqg_slice in, struct mqg_dynbuf *out) MQG_MUST_CHECK;

/* Makes them known to everybody who reads or rewrites records (mqg_record_codec, mqg_record_packer). Once, at load. */
void kafka_compression_register(void);

#endif
