/* digest.h - what a closed segment holds, in short: one file beside it, so that neither recovery nor a long queue has to
 * read the segment again.
 *
 *   digest    +--------+-------+------+-------+-------+
 *             | header | table | said | small | pages |      NAME-NONCE.idx beside NAME.seg
 *             +--------+-------+------+-------+-------+
 *             0        128
 *
 *   header     0  8 "MQGJIDX1"         48  8 last frame          92  4 crc32c of said
 *   (128)      8  2 version            56  8 end                 96  8 bytes of said
 *             10  2 zero               64  8 highest term       104  8 bytes of small
 *             12  4 zero               72  8 bytes of pages     112  4 crc32c of small
 *             16 16 journal uuid       80  4 rows of the table  116  8 zero
 *             32  8 nonce              84  4 crc32c of table    124  4 crc32c of the first 124
 *             40  8 sequence           88  4 zero
 *
 *   row        0  8 queue              24  4 entries            40  8 page, from the first page's first byte
 *   (56)       8  8 first qseq         28  4 bytes of the page  48  4 crc32c of the page
 *             16  8 last qseq          32  8 bytes of bodies    52  4 bytes on the disk / 8
 *
 *   said: every record but messages: type 1, flags 1, place varint, term varint, length varint, main. Of a key only its
 *   last word (of a producer the last six), settled ranges of a queue merged into one QSTATE, of a stream batch its head (its length in bytes 28..31).
 *   small: what is too little for a row: queue varint, first qseq varint, entries varint, bytes on the disk / 8 varint,
 *   bytes of the page varint, page.
 *
 *   page: one entry after the other, each against the one before it (the first against first - 1 and zeros):
 *     1 bits 0 lengths follow, 1 kind follows, 2 ttl follows, 3..7 the distance of qseq - 1, 31 = varint follows
 *     [distance of qseq - 32 varint] distance of place / 8 zigzag varint, distance of append_us zigzag varint
 *     [length varint, body length varint] [proto 1, flags 1, priority 1, key_sep 1] [ttl varint]
 *   so an entry of a steady queue takes 4 or 5 bytes.
 *
 * It is derived data: made from the segment alone, always the same for the same segment, bound to one use of it by the
 * nonce. Missing, stale or damaged it is made again, and no promise hangs on it. Messages that the same segment settles are
 * left out: settled stays settled. A row covers at most 2,048 entries and 65,536 numbers, so that its bitmap and its page are
 * small; rows of a queue do not overlap within a digest, so a qseq of this segment that lies within a row is in it. */
#ifndef JRN_DIGEST_H
#define JRN_DIGEST_H

#include "record.h"

enum {
    JRN_DIGEST_HEAD = 128,
    JRN_DIGEST_VERSION = 1,
    JRN_ROW_BYTES = 56,
    JRN_ROW_ENTRIES = 2048,
    JRN_ROW_SPAN = 65536,
    JRN_ROW_MIN = 32, /* fewer entries are no row */
};

#define JRN_DIGEST_MAGIC "MQGJIDX1"

/* One message in one queue. */
struct jrn_entry {
    uint64_t queue_id, qseq, append_us, ttl_ms;
    uint32_t off, len, body_len; /* off: of the stored form in the file */
    uint8_t proto, flags, priority, key_sep;
    uint32_t eights; /* its share of the disk, in 8 bytes; not in pages */
};

struct jrn_row {
    uint64_t queue_id, first, last, body_bytes, page_off;
    uint32_t count, page_len, page_crc, eights;
    _Atomic(_Atomic uint64_t *) bits; /* at run time: forgotten entries, one bit per number; NULL: none */
};

struct jrn_digest {
    struct jrn_use use;
    uint64_t seq, last_number, end, term;
    struct jrn_row *rows; /* by queue and first */
    uint32_t nrow;
    uint64_t pages_bytes;
    struct mqg_dynbuf said, small, pages; /* pages: only until they are in the file */
};

void jrn_digest_init(struct jrn_digest *d);
void jrn_digest_fini(struct jrn_digest *d); /* frees bitmaps, too */

/* Sums table, said and small, and writes head and table. table: JRN_ROW_BYTES * nrow bytes. */
void jrn_digest_encode(const struct jrn_digest *d, uint8_t head[JRN_DIGEST_HEAD], uint8_t *table);

/* The lengths and sums of a head. */
struct jrn_digest_head {
    uint64_t said, small, pages;
    uint32_t rows, table_crc, said_crc, small_crc;
};
/* Reads and checks a head into d (use, sequence, ends) and h. CORRUPT, UNSUPPORTED. */
enum mqg_err jrn_digest_head_decode(struct mqg_slice in, struct jrn_digest *d,
                                    struct jrn_digest_head *h) MQG_MUST_CHECK;
/* Reads and checks the table into d->rows. */
enum mqg_err jrn_digest_table_decode(struct mqg_slice in, const struct jrn_digest_head *h,
                                     struct jrn_digest *d) MQG_MUST_CHECK;

/* Entries of one queue, qseq ascending; places are multiples of 8. false: no room. */
bool jrn_page_encode(struct mqg_dynbuf *out, const struct jrn_entry *e, uint32_t n);

struct jrn_page {
    struct mqg_cursor c;
    struct jrn_entry last;
    uint32_t left, count, eights; /* eights: small_next fills it */
};
void jrn_page_init(struct jrn_page *p, struct mqg_slice bytes, uint64_t queue_id, uint64_t first,
                   uint32_t count);
bool jrn_page_next(struct jrn_page *p, struct jrn_entry *out); /* false: at the end, or p->c.failed */
/* After the last one: all bytes were used, nothing failed. */
bool jrn_page_whole(const struct jrn_page *p);

struct jrn_small {
    struct mqg_cursor c;
};
/* The next group of `small`, ready to be read. false: at the end, or c.failed. */
bool jrn_small_next(struct jrn_small *s, struct jrn_page *page);

struct jrn_said {
    struct mqg_cursor c;
};
/* The next record; rec->main borrows. Batches have their head only. false: at the end, or c.failed. */
bool jrn_said_next(struct jrn_said *s, struct jrn_rec *rec, uint32_t *off, uint64_t *term);
bool jrn_said_put(struct mqg_dynbuf *out, uint8_t type, uint8_t flags, uint32_t off, uint64_t term,
                  struct mqg_slice main);

#endif
