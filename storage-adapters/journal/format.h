/* format.h - the bytes of the journal: segment header, batch frame, chunk, record. All numbers are
 * little-endian.
 *
 * A segment is a file of fixed size. Its first 4,096 bytes are the header, then batch frames follow, each at
 * a bound of 512 bytes, to the end of use; what stands behind is zeros or the bytes of an earlier use, which
 * never pass (below).
 *
 *   segment   +--------+---------+---------+---------+--------------------+
 *             | header | frame 1 | frame 2 | frame 3 | zeros, stale bytes |
 *             +--------+---------+---------+---------+--------------------+
 *             0        4096      each at a bound of 512
 *
 *   header     0  8 "MQGJSEG1"         24 16 journal uuid        56  8 made at, us since 1970
 *   (512)      8  2 format version     40  8 nonce of this use   64  4 flags: 1 = oversized,
 *             12  4 incompatible bits  48  8 bytes in the file       2 = makeshift (never zeroed)
 *             16  4 read-only bits                             508  4 crc32c of the first 508
 *             20  4 compatible bits
 *
 *   frame     +-----------+---------+---------+-----+-----------------+
 *             | head (96) | chunk 1 | chunk 2 | ... | zeros up to 512 |   a chunk is one submission of a worker
 *             +-----------+---------+---------+-----+-----------------+
 *   head       0  4 "MQGB"             32  8 sequence of segment 68  4 length: head + chunks
 *   (96)       4  2 version            40  8 number of frame     72  4 chunks
 *              6  2 flags: 1 = seal,   48  8 durable_at_write    76  4 records
 *                   2 = clean stop     56  8 term (start count)  80  4 crc32c of all chunk heads
 *              8  8 nonce              64  4 place, in 512s      84  8 zero
 *             16 16 journal uuid                                 92  4 crc32c of the first 92
 *
 *   chunk      0  4 length: head + records, a multiple of 8      8  4 records       14  2 zero
 *   head (16)  4  4 salt                                        12  2 lane
 *
 *   record     0  4 crc32c of bytes 4.. up to the end of main, begun with the salt
 *   head (16)  4  4 salt of its chunk
 *              8  1 type    9  1 flags: 1 = ignorable   10  2 length of tail   12  4 length of main
 *             16  main, tail (with a crc32c of its own in its last 4 bytes), zeros up to a multiple of 8
 *
 * Why two levels. A worker frames its records into a chunk and computes all their checksums on its own core;
 * the one committer only adds a head over the chunk heads. Nothing is summed twice, and the committer's work
 * does not grow with the messages. Why a salt: a segment is used again and again, and messages of one size
 * fall on the same places in each use. So a stale record could stand, whole and with a good checksum, where a
 * torn write left a hole. The nonce (random, one per use of the segment) keeps stale frame heads out, the
 * salt (one per chunk, never twice in a run) stale records; the salt is bound to its frame because the
 * frame's checksum covers the chunk heads, and both are random to outsiders, so that no body that a client
 * forges looks like a frame of ours.
 *
 * The format version is the store's: what the segment headers say is what the whole folder may hold. A program that meets a header of a
 * version that it does not know refuses the folder, so one header is enough to keep it out of files that it would not understand.
 *
 *   1   the first
 *   2   partitions' files may be compacted without gaps (streams/ID/BASE.dN.log), which a program of version 1 would pass over
 *
 * Both are read; frames and records are the same in both, and have a version of their own. A store of version 1 is raised at its start
 * (commit.c): before anything else is written, a segment of version 2, durable with its name, becomes the tail, and there is one from
 * then on.
 *
 * A record's checksum covers head and main but not the tail, so that a message is read back and checked with
 * one read of what its index entry names, whatever the number of queues that stand in the tail. */
#ifndef JRN_FORMAT_H
#define JRN_FORMAT_H

#include <mqgate/base.h>

enum {
    JRN_BLOCK = 512,
    JRN_HEADER_BYTES = 4096, /* of the segment: frames begin here */
    JRN_SEG_HEAD = 512,
    JRN_FRAME_HEAD = 96,
    JRN_CHUNK_HEAD = 16,
    JRN_REC_HEAD = 16,
    JRN_VERSION = 2,
    JRN_VERSION_OLDEST = 1, /* that is read */
    JRN_FRAME_VERSION = 1,
    JRN_TAIL_MAX = 65528,
};

#define JRN_SEG_MAGIC   "MQGJSEG1"
#define JRN_FRAME_MAGIC 0x4247514du /* "MQGB" */
#define JRN_SEGMENT_MIN (1ull << 20)
#define JRN_SEGMENT_MAX (1ull << 30)
#define JRN_CHUNK_MAX   (1ull << 31) /* one submission */
#define JRN_SEQ_COLD    (1ull << 63) /* sequences of cold segments: an order of their own */

enum jrn_seg_flag { JRN_SEG_OVERSIZED = 1u << 0, JRN_SEG_MAKESHIFT = 1u << 1 };
enum jrn_frame_flag { JRN_FRAME_SEAL = 1u << 0, JRN_FRAME_CLEAN = 1u << 1 };
enum jrn_rec_flag { JRN_REC_IGNORABLE = 1u << 0 };

/* Numbers are for ever. */
enum jrn_rec_type {
    JRN_REC_NOP = 0,
    JRN_REC_MSG = 1,       /* main: stored form; tail: destinations */
    JRN_REC_DESTS = 2,     /* tail: more destinations of the MSG before it in this chunk */
    JRN_REC_SETTLE = 3,    /* queue 8, ranges */
    JRN_REC_COUNT = 4,     /* queue 8, qseq 8, delivery count 4, acquired count 4 */
    JRN_REC_META = 5,      /* key length varint, remove 1, key, value */
    JRN_REC_BATCH = 6,     /* partition 8, base offset 8, latest time 8, count 4, zero 4, the batch */
    JRN_REC_TRIM = 7,      /* partition 8, start offset 8 */
    JRN_REC_STREAM = 8,    /* partition 8, index 4, exists 1, name */
    JRN_REC_POSITION = 9,  /* partition 8, offset 8, length of group 4, group, metadata */
    JRN_REC_PRODUCER = 10, /* partition 8, producer 8, epoch 2, zero 2, base 4, last 4, offset 8 */
    JRN_REC_SEAL = 11,     /* number of the last frame before it 8; ignorable */
    JRN_REC_QSTATE = 12,   /* as SETTLE: settled ranges, said again because their segment goes */
    JRN_REC_MANIFEST = 13, /* the segments that count: sequence 8, nonce 8, last frame 8, end 8 each */
    JRN_REC_FREE = 14,     /* segments that no longer count: sequence 8, nonce 8 each */
    JRN_REC_CUT = 15,      /* partition 8, term 8, end 8: earlier terms' batches from there on are void */
    JRN_REC_ADOPT = 16,    /* cold segments that count from here on, as rows of MANIFEST (cold.h) */
    JRN_REC_STREAM_CONF =
        20, /* partition 8, cleanup 4, zero 4, retention ms 8, bytes 8, segment bytes 8, ms 8,
                                 compaction lag min 8, max 8, tombstones 8 */
    JRN_REC_TYPES
};

/* What names one use of a segment: part of every frame, and of every check. */
struct jrn_use {
    uint8_t uuid[16];
    uint64_t nonce;
};

struct jrn_seg_head {
    struct jrn_use use;
    uint64_t bytes;
    uint64_t made_us;
    uint32_t flags;
    uint16_t version; /* decoded; encoded is the present one */
};

struct jrn_frame {
    uint16_t flags;
    uint64_t seq, number, durable_at_write, term;
    uint64_t offset; /* in the segment */
    uint32_t length; /* head + chunks, without the padding */
    uint32_t chunks, records;
    uint32_t chunks_crc;
};

struct jrn_rec {
    uint8_t type, flags;
    struct mqg_slice main, tail; /* tail without its checksum */
    uint32_t main_off;           /* of main, from the chunk's first byte */
    uint32_t frame_off;          /* of main, from the frame's first byte */
};

/* ---- segment header and frames (frame.c): pure --------------------------------------------------------- */

void jrn_seg_head_encode(uint8_t out[JRN_SEG_HEAD], const struct jrn_seg_head *h);
/* NOT_FOUND: no magic; UNSUPPORTED: newer, too old, or with incompatible bits; CORRUPT: the checksum. */
enum mqg_err jrn_seg_head_decode(struct mqg_slice in, struct jrn_seg_head *h,
                                 struct mqg_error *e) MQG_MUST_CHECK;

void jrn_frame_encode(uint8_t out[JRN_FRAME_HEAD], const struct jrn_use *use, const struct jrn_frame *f);
/* Reads and checks a head that stands at `offset` of a segment in this use. CORRUPT: none of ours. A head
 * that passes is a witness (durable_at_write) even when its chunks do not. */
enum mqg_err jrn_frame_head(struct mqg_slice in, const struct jrn_use *use, uint64_t offset,
                            struct jrn_frame *f) MQG_MUST_CHECK;
/* Checks all chunks and records of a whole frame (f->length bytes, head included). */
enum mqg_err jrn_frame_check(struct mqg_slice frame, const struct jrn_use *use,
                             const struct jrn_frame *f) MQG_MUST_CHECK;

/* CRC-32C as mqg_crc32c, quick for short runs. ptr may be NULL when n is 0. */
uint32_t jrn_crc32c(uint32_t crc, const void *ptr, size_t n);

static inline uint64_t jrn_round_block(uint64_t n)
{
    return (n + JRN_BLOCK - 1) / JRN_BLOCK * JRN_BLOCK;
}

static inline uint32_t jrn_round_8(uint32_t n)
{
    return (n + 7u) & ~7u;
}

/* The checksum that binds the frame to its chunk heads; begun from the nonce, continued head by head. */
uint32_t jrn_chunks_crc_begin(const struct jrn_use *use);

/* Walks the records of a frame that was checked (or is to be: every step is bounded and sums are verified
 * with `verify`). */
struct jrn_walk {
    struct mqg_slice frame;
    size_t pos, chunk, chunk_end;
    uint32_t salt, chunk_left; /* records left in the chunk */
    uint32_t records;          /* seen */
    uint32_t crc;              /* of the chunk heads so far */
    uint32_t chunks;
    bool verify, failed;
};

void jrn_walk_init(struct jrn_walk *w, struct mqg_slice frame, const struct jrn_use *use, bool verify);
bool jrn_walk_next(struct jrn_walk *w, struct jrn_rec *rec); /* false at the end, or with w->failed */

#endif
