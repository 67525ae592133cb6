/* digest.c - a digest to bytes and back; digest.h draws it.
 *
 * Pure functions over slices, like frame.c. What is read here was summed, but a sum only says that somebody wrote it: counts
 * and lengths are bounded before anything is allocated, and an entry that makes no sense fails its page. */
#include "digest.h"

#include <stdlib.h>

enum { PAGE_LENGTHS = 1, PAGE_KIND = 2, PAGE_TTL = 4, PAGE_FAR = 31 };

static uint64_t digest_zigzag(uint64_t delta)
{
    return (delta << 1) ^ (0 - (delta >> 63));
}

static uint64_t digest_unzigzag(uint64_t v)
{
    return (v >> 1) ^ (0 - (v & 1));
}

void jrn_digest_init(struct jrn_digest *d)
{
    *d = (struct jrn_digest){.nrow = 0};
    mqg_dynbuf_init(&d->said, JRN_CHUNK_MAX);
    mqg_dynbuf_init(&d->small, JRN_CHUNK_MAX);
    mqg_dynbuf_init(&d->pages, JRN_CHUNK_MAX);
}

void jrn_digest_fini(struct jrn_digest *d)
{
    for (uint32_t i = 0; i < d->nrow; i++)
        free((void *)(uintptr_t)atomic_load(&d->rows[i].bits));
    free(d->rows);
    mqg_dynbuf_fini(&d->said);
    mqg_dynbuf_fini(&d->small);
    mqg_dynbuf_fini(&d->pages);
    d->rows = NULL;
    d->nrow = 0;
}

/* ---- head and table -------------------------------------------------------------------------------------- */

static void digest_row_encode(uint8_t *p, const struct jrn_row *r)
{
    mqg_put_le64(p, r->queue_id);
    mqg_put_le64(p + 8, r->first);
    mqg_put_le64(p + 16, r->last);
    mqg_put_le32(p + 24, r->count);
    mqg_put_le32(p + 28, r->page_len);
    mqg_put_le64(p + 32, r->body_bytes);
    mqg_put_le64(p + 40, r->page_off);
    mqg_put_le32(p + 48, r->page_crc);
    mqg_put_le32(p + 52, r->eights);
}

void jrn_digest_encode(const struct jrn_digest *d, uint8_t head[JRN_DIGEST_HEAD], uint8_t *table)
{
    struct mqg_slice said = mqg_dynbuf_view(&d->said), small = mqg_dynbuf_view(&d->small);
    for (uint32_t i = 0; i < d->nrow; i++)
        digest_row_encode(table + (size_t)i * JRN_ROW_BYTES, &d->rows[i]);
    memset(head, 0, JRN_DIGEST_HEAD);
    memcpy(head, JRN_DIGEST_MAGIC, 8);
    mqg_put_le16(head + 8, JRN_DIGEST_VERSION);
    memcpy(head + 16, d->use.uuid, 16);
    mqg_put_le64(head + 32, d->use.nonce);
    mqg_put_le64(head + 40, d->seq);
    mqg_put_le64(head + 48, d->last_number);
    mqg_put_le64(head + 56, d->end);
    mqg_put_le64(head + 64, d->term);
    mqg_put_le64(head + 72, d->pages_bytes);
    mqg_put_le32(head + 80, d->nrow);
    mqg_put_le32(head + 84, jrn_crc32c(0, table, (size_t)d->nrow * JRN_ROW_BYTES));
    mqg_put_le32(head + 92, jrn_crc32c(0, said.ptr, said.len));
    mqg_put_le64(head + 96, said.len);
    mqg_put_le64(head + 104, small.len);
    mqg_put_le32(head + 112, jrn_crc32c(0, small.ptr, small.len));
    mqg_put_le32(head + 124, jrn_crc32c(0, head, 124));
}

enum mqg_err jrn_digest_head_decode(struct mqg_slice in, struct jrn_digest *d, struct jrn_digest_head *h)
{
    const uint8_t *p = in.ptr;
    if (in.len < JRN_DIGEST_HEAD || memcmp(p, JRN_DIGEST_MAGIC, 8) != 0 ||
        mqg_le32(p + 124) != jrn_crc32c(0, p, 124))
        return MQG_CORRUPT;
    if (mqg_le16(p + 8) != JRN_DIGEST_VERSION)
        return MQG_UNSUPPORTED;
    memcpy(d->use.uuid, p + 16, 16);
    d->use.nonce = mqg_le64(p + 32);
    d->seq = mqg_le64(p + 40);
    d->last_number = mqg_le64(p + 48);
    d->end = mqg_le64(p + 56);
    d->term = mqg_le64(p + 64);
    *h = (struct jrn_digest_head){.pages = mqg_le64(p + 72),
                                  .rows = mqg_le32(p + 80),
                                  .table_crc = mqg_le32(p + 84),
                                  .said_crc = mqg_le32(p + 92),
                                  .said = mqg_le64(p + 96),
                                  .small = mqg_le64(p + 104),
                                  .small_crc = mqg_le32(p + 112)};
    d->pages_bytes = h->pages;
    bool fits = h->said < JRN_CHUNK_MAX && h->small < JRN_CHUNK_MAX && h->pages < JRN_CHUNK_MAX &&
                h->rows < JRN_CHUNK_MAX / JRN_ROW_BYTES;
    return fits ? MQG_OK : MQG_CORRUPT;
}

static bool digest_row_decode(const uint8_t *p, const struct jrn_digest_head *h, struct jrn_row *r)
{
    *r = (struct jrn_row){.queue_id = mqg_le64(p),
                          .first = mqg_le64(p + 8),
                          .last = mqg_le64(p + 16),
                          .count = mqg_le32(p + 24),
                          .page_len = mqg_le32(p + 28),
                          .body_bytes = mqg_le64(p + 32),
                          .page_off = mqg_le64(p + 40),
                          .page_crc = mqg_le32(p + 48),
                          .eights = mqg_le32(p + 52)};
    bool numbers = r->first <= r->last && r->last - r->first < JRN_ROW_SPAN && r->count > 0 &&
                   r->count <= r->last - r->first + 1 && r->count <= JRN_ROW_ENTRIES;
    return numbers && r->page_off <= h->pages && r->page_len <= h->pages - r->page_off;
}

enum mqg_err jrn_digest_table_decode(struct mqg_slice in, const struct jrn_digest_head *h,
                                     struct jrn_digest *d)
{
    if (in.len != (size_t)h->rows * JRN_ROW_BYTES || jrn_crc32c(0, in.ptr, in.len) != h->table_crc)
        return MQG_CORRUPT;
    d->rows = mqg_xcalloc(h->rows ? h->rows : 1, sizeof *d->rows);
    d->nrow = h->rows;
    for (uint32_t i = 0; i < d->nrow; i++) {
        struct jrn_row *r = &d->rows[i], *before = i ? r - 1 : NULL;
        if (!digest_row_decode(in.ptr + (size_t)i * JRN_ROW_BYTES, h, r))
            return MQG_CORRUPT;
        bool ordered = !before || before->queue_id < r->queue_id ||
                       (before->queue_id == r->queue_id && before->last < r->first);
        if (!ordered)
            return MQG_CORRUPT;
    }
    return MQG_OK;
}

/* ---- pages ------------------------------------------------------------------------------------------------- */

static uint8_t *page_varint(uint8_t *p, uint64_t v)
{
    while (v >= 0x80) {
        *p++ = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    *p++ = (uint8_t)v;
    return p;
}

static bool page_same_kind(const struct jrn_entry *a, const struct jrn_entry *b)
{
    return a->proto == b->proto && a->flags == b->flags && a->priority == b->priority &&
           a->key_sep == b->key_sep;
}

static uint8_t *page_entry(uint8_t *p, const struct jrn_entry *e, const struct jrn_entry *last)
{
    uint64_t far = e->qseq - last->qseq - 1;
    bool lengths = e->len != last->len || e->body_len != last->body_len;
    bool kind = !page_same_kind(e, last), ttl = e->ttl_ms != last->ttl_ms;
    MQG_ASSERT(e->off % 8 == 0);
    *p++ = (uint8_t)((lengths ? PAGE_LENGTHS : 0) | (kind ? PAGE_KIND : 0) | (ttl ? PAGE_TTL : 0) |
                     (far < PAGE_FAR ? far : PAGE_FAR) << 3);
    if (far >= PAGE_FAR)
        p = page_varint(p, far - PAGE_FAR);
    p = page_varint(p, digest_zigzag(((uint64_t)e->off >> 3) - ((uint64_t)last->off >> 3)));
    p = page_varint(p, digest_zigzag(e->append_us - last->append_us));
    if (lengths)
        p = page_varint(page_varint(p, e->len), e->body_len);
    if (kind) {
        *p++ = e->proto;
        *p++ = e->flags;
        *p++ = e->priority;
        *p++ = e->key_sep;
    }
    return ttl ? page_varint(p, e->ttl_ms) : p;
}

bool jrn_page_encode(struct mqg_dynbuf *out, const struct jrn_entry *e, uint32_t n)
{
    enum { ENTRY_MAX = 64 };
    struct jrn_entry last = {.qseq = n ? e[0].qseq - 1 : 0};
    for (uint32_t i = 0; i < n; last = e[i++]) {
        uint8_t bytes[ENTRY_MAX], *end = page_entry(bytes, &e[i], &last);
        if (!mqg_dynbuf_put(out, bytes, (size_t)(end - bytes)))
            return false;
    }
    return true;
}

void jrn_page_init(struct jrn_page *p, struct mqg_slice bytes, uint64_t queue_id, uint64_t first,
                   uint32_t count)
{
    *p = (struct jrn_page){.c = mqg_cursor_of(bytes), .left = count, .count = count};
    p->last.queue_id = queue_id;
    p->last.qseq = first - 1;
    if (count > bytes.len / 3) /* an entry takes at least three bytes */
        mqg_cursor_fail(&p->c);
}

bool jrn_page_next(struct jrn_page *p, struct jrn_entry *out)
{
    if (p->left == 0 || p->c.failed)
        return false;
    struct jrn_entry *e = &p->last;
    uint8_t bits = mqg_cursor_u8(&p->c);
    uint64_t far = bits >> 3, before = e->qseq;
    p->left--;
    if (far == PAGE_FAR)
        far += mqg_cursor_varint(&p->c);
    e->qseq += far + 1;
    uint64_t off = ((uint64_t)e->off >> 3) + digest_unzigzag(mqg_cursor_varint(&p->c));
    e->off = (uint32_t)(off << 3);
    e->append_us += digest_unzigzag(mqg_cursor_varint(&p->c));
    if (bits & PAGE_LENGTHS) {
        uint64_t len = mqg_cursor_varint(&p->c), body = mqg_cursor_varint(&p->c);
        if (len > UINT32_MAX || body > len)
            mqg_cursor_fail(&p->c);
        e->len = (uint32_t)len;
        e->body_len = (uint32_t)body;
    }
    if (bits & PAGE_KIND) {
        e->proto = mqg_cursor_u8(&p->c);
        e->flags = mqg_cursor_u8(&p->c);
        e->priority = mqg_cursor_u8(&p->c);
        e->key_sep = mqg_cursor_u8(&p->c);
    }
    if (bits & PAGE_TTL)
        e->ttl_ms = mqg_cursor_varint(&p->c);
    if (off > UINT32_MAX >> 3 || (e->qseq <= before && before != UINT64_MAX))
        mqg_cursor_fail(&p->c);
    *out = *e;
    return !p->c.failed;
}

bool jrn_page_whole(const struct jrn_page *p)
{
    return p->left == 0 && mqg_cursor_done(&p->c);
}

/* ---- small and said ---------------------------------------------------------------------------------------- */

bool jrn_small_next(struct jrn_small *s, struct jrn_page *page)
{
    if (s->c.failed || mqg_cursor_left(&s->c) == 0)
        return false;
    uint64_t queue_id = mqg_cursor_varint(&s->c), first = mqg_cursor_varint(&s->c),
             count = mqg_cursor_varint(&s->c), eights = mqg_cursor_varint(&s->c),
             bytes = mqg_cursor_varint(&s->c);
    struct mqg_slice in = mqg_cursor_slice(&s->c, bytes);
    if (count == 0 || count > JRN_ROW_ENTRIES || eights > UINT32_MAX)
        mqg_cursor_fail(&s->c);
    if (s->c.failed)
        return false;
    jrn_page_init(page, in, queue_id, first, (uint32_t)count);
    page->eights = (uint32_t)eights;
    return true;
}

bool jrn_said_put(struct mqg_dynbuf *out, uint8_t type, uint8_t flags, uint32_t off, uint64_t term,
                  struct mqg_slice main)
{
    return mqg_dynbuf_u8(out, type) && mqg_dynbuf_u8(out, flags) && mqg_dynbuf_varint(out, off) &&
           mqg_dynbuf_varint(out, term) && mqg_dynbuf_varint(out, main.len) && mqg_dynbuf_slice(out, main);
}

bool jrn_said_next(struct jrn_said *s, struct jrn_rec *rec, uint32_t *off, uint64_t *term)
{
    if (s->c.failed || mqg_cursor_left(&s->c) == 0)
        return false;
    *rec = (struct jrn_rec){.type = mqg_cursor_u8(&s->c)};
    rec->flags = mqg_cursor_u8(&s->c);
    uint64_t place = mqg_cursor_varint(&s->c);
    *term = mqg_cursor_varint(&s->c);
    rec->main = mqg_cursor_slice(&s->c, mqg_cursor_varint(&s->c));
    if (place > UINT32_MAX)
        mqg_cursor_fail(&s->c);
    *off = (uint32_t)place;
    return !s->c.failed;
}
