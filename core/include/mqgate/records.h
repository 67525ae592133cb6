/* mqgate/records.h - record batches v2 (Kafka's format, KIP-98): the one form in which streams are stored.
 *
 *   base offset 8 | length 4 | leader epoch 4 | magic 1 = 2 | crc32c 4 | attributes 2 | last offset delta 4 |
 *   base time 8 | max time 8 | producer id 8, epoch 2, base sequence 4 | count 4 | records          (big-endian)
 *
 *   record: length, attributes 1, time delta, offset delta, key, value, count of headers, headers  (zigzag varints;
 *   the lengths of key, value and header values may be -1: null)
 *
 * The sum runs from the attributes to the end, so base offset and leader epoch may be rewritten without touching it.
 * Producers' batches are stored as they came; what other protocols publish is built into batches here, one per partition
 * and turn, and taken apart here. How an envelope becomes a record and back is docs/mapping-streams.md.
 *
 * Every byte may be hostile. Nothing here allocates by a length that a peer chose. Any thread. */
#ifndef MQGATE_RECORDS_H
#define MQGATE_RECORDS_H

#include <mqgate/base.h>
#include <mqgate/msg.h>

/* ---- batches -------------------------------------------------------------------------------------------------------- */

#define MQG_BATCH_HEAD_BYTES   61u
#define MQG_BATCH_PATCH_BYTES  16u /* base offset, length, leader epoch: what a server may rewrite */
#define MQG_RECORD_HEADERS_MAX 8192u

enum mqg_batch_attr {
    MQG_BATCH_CODEC = 7, /* 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd */
    MQG_BATCH_APPEND_TIME = 8,
    MQG_BATCH_TRANSACTIONAL = 16,
    MQG_BATCH_CONTROL = 32,
    MQG_BATCH_ROUTED =
        0x4000, /* ours: routing appended it, so it met its other destinations already; clients skip such bits */
};

/* A batch's head, and where its records lie. */
struct mqg_batch {
    uint64_t base_offset;
    int32_t leader_epoch;
    uint16_t attributes;
    uint32_t
        last_delta; /* the last offset is base_offset + last_delta, whatever records were compacted away */
    int64_t base_time_ms, max_time_ms;
    int64_t producer_id; /* -1: none */
    int16_t producer_epoch;
    int32_t base_sequence;
    uint32_t count;           /* records that are there */
    size_t bytes;             /* of the whole batch */
    struct mqg_slice records; /* compressed where attributes say so */
};

/* Reads the head of the batch at the front of `in` and checks what can be checked without records: MORE (cut), MALFORMED
 * (lengths, counts, times), UNSUPPORTED (magic other than 2). The sum is not looked at. */
MQG_API enum mqg_err mqg_batch_read(struct mqg_slice in, struct mqg_batch *out) MQG_MUST_CHECK;
/* Does the sum of the batch that was read from the front of `in` hold? */
MQG_API bool mqg_batch_sum_ok(struct mqg_slice in, const struct mqg_batch *b);
/* Writes base offset and leader epoch into the first MQG_BATCH_PATCH_BYTES of a batch. */
MQG_API void mqg_batch_patch(uint8_t *head, uint64_t base_offset, int32_t leader_epoch);

/* A codec's way to plain bytes: appends to `out`, whose maximum bounds what a small input may become. Registered once, at load,
 * by the module that has the library. */
MQG_API void mqg_record_codec(unsigned codec,
                              enum mqg_err (*plain)(struct mqg_slice in, struct mqg_dynbuf *out));
/* The records of b, in `out` where they were compressed; UNSUPPORTED: nobody here knows the codec. */
MQG_API enum mqg_err mqg_batch_plain(const struct mqg_batch *b, struct mqg_dynbuf *out,
                                     struct mqg_slice *plain) MQG_MUST_CHECK;

/* The way back: appends the codec's form of `in` to `out`. Registered once, at load, beside the codec. */
MQG_API void mqg_record_packer(unsigned codec,
                               enum mqg_err (*pack)(struct mqg_slice in, struct mqg_dynbuf *out));
/* Appends the compressed form of plain records to `out`. UNSUPPORTED: nobody here can; TOO_LARGE: more than out's maximum. Any
 * thread. */
MQG_API enum mqg_err mqg_records_pack(unsigned codec, struct mqg_slice plain,
                                      struct mqg_dynbuf *out) MQG_MUST_CHECK;

/* ---- records --------------------------------------------------------------------------------------------------------- */

struct mqg_record {
    uint64_t offset;
    int64_t time_ms;
    bool null_key, null_value;
    struct mqg_slice key, value;
    uint32_t nheaders;
    struct mqg_slice headers; /* their bytes; mqg_record_header walks them */
};

/* Walks the records of one plain batch. */
struct mqg_record_iter {
    struct mqg_cursor cursor;
    uint64_t base_offset;
    uint32_t last_delta;
    uint32_t left;
    int64_t next_delta; /* offsets rise */
    int64_t base_time_ms, max_time_ms;
    bool append_time, bad;
};

/* `plain`: the batch's records, decompressed where they were compressed. */
MQG_API void mqg_record_iter_init(struct mqg_record_iter *it, const struct mqg_batch *b,
                                  struct mqg_slice plain);
/* False at the end, or at bytes that do not check: then it->bad, and no more comes. Slices borrow from `plain`. All of a
 * record's headers were walked once: mqg_record_header does not fail on them. */
MQG_API bool mqg_record_next(struct mqg_record_iter *it, struct mqg_record *out);

struct mqg_record_header {
    struct mqg_slice name, value;
    bool null_value;
};
/* Takes the next header from the front of *headers; false when there is none. */
MQG_API bool mqg_record_header(struct mqg_slice *headers, struct mqg_record_header *out);

/* ---- building ---------------------------------------------------------------------------------------------------------- */

/* One uncompressed batch under construction. Reused from batch to batch: begin forgets, memory is kept. */
struct mqg_batch_builder {
    struct mqg_dynbuf out;                 /* head and records */
    struct mqg_dynbuf headers;             /* of the record at hand */
    struct mqg_dynbuf text, origin, types; /* scratch of mqg_record_from_msg */
    uint32_t nheaders;
    uint32_t count;
    uint16_t attributes; /* enum mqg_batch_attr; stays from batch to batch */
    int64_t base_time_ms, max_time_ms;
};

MQG_API void mqg_builder_init(struct mqg_batch_builder *b, size_t max_bytes);
MQG_API void mqg_builder_fini(struct mqg_batch_builder *b);
MQG_API void mqg_builder_begin(struct mqg_batch_builder *b);
/* Adds a header to the record that mqg_builder_record will write. */
MQG_API void mqg_builder_header(struct mqg_batch_builder *b, struct mqg_slice name, struct mqg_slice value,
                                bool null_value);
/* Writes the record; false when the batch would be over max_bytes: the batch is then as before, without the record's
 * headers too. */
MQG_API bool mqg_builder_record(struct mqg_batch_builder *b, int64_t time_ms, struct mqg_slice key,
                                bool null_key, struct mqg_slice value, bool null_value);
/* The finished batch with base offset 0 and leader epoch -1, valid until the next call; empty without records. */
MQG_API struct mqg_slice mqg_builder_end(struct mqg_batch_builder *b);

/* ---- envelope <-> record (core/msg/convert.c) ---------------------------------------------------------------------------- */

#define MQG_RECORD_ORIGIN "mqgate-origin"

/* Adds m as a record. False when it does not fit into the batch any more (or ever, if the batch is empty). Headers that
 * cannot be said are dropped and counted. `a` is reset by the caller. */
MQG_API bool mqg_record_from_msg(struct mqg_batch_builder *b, const struct mqg_msg *m, struct mqg_arena *a);

/* The key that its record will have; false: none (null). Borrows from m and the arena. */
MQG_API bool mqg_record_key(const struct mqg_msg *m, struct mqg_arena *a, struct mqg_slice *key);

/* What a record says in terms of the envelope. Strings borrow from the record and the arena. */
struct mqg_record_view {
    enum mqg_proto proto; /* by which it came: NONE when the record does not say */
    uint8_t flags;        /* PERSISTENT, NULL_BODY */
    char key_sep;
    struct mqg_slice exchange, key;
    struct mqg_view view; /* properties and headers */
};
/* A forged or damaged mqgate-origin is ignored and counted; NO_MEMORY when the arena's bound is reached. */
MQG_API enum mqg_err mqg_record_view(const struct mqg_record *r, struct mqg_arena *a,
                                     struct mqg_record_view *out) MQG_MUST_CHECK;

/* A message of its own made of a record, for a consumer that speaks `proto`: its origin bytes are written by that protocol's
 * mqg_origin_ops.encode, in a form common to all where it has none. `offset_header` adds x-stream-offset. Never refused for
 * want of message memory. NULL + *err. The arena may be reset afterwards. */
struct mqg_record_to {
    enum mqg_proto proto;
    uint64_t partition; /* for the message's identity */
    bool offset_header;
    const struct mqg_slice *exchange,
        *key; /* another address than the record's (key: levels split at '.'); NULL: its own */
};
MQG_API struct mqg_msg *mqg_record_to_msg(const struct mqg_record *r, const struct mqg_record_to *to,
                                          struct mqg_arena *a, struct mqg_dynbuf *scratch, enum mqg_err *err);

/* The partition for a key: murmur2 as the Java client's default partitioner; 0 for a null key. */
MQG_API uint32_t mqg_record_partition(struct mqg_slice key, uint32_t partitions);

#endif
