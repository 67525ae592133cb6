/* frame.c - segment headers and batch frames to bytes and back; format.h draws them.
 *
 * Pure functions over slices: the same code serves recovery, tools, tests and the fuzzer. What is read here
 * may be the leftovers of a power cut or of another use of the file, so nothing is believed before it was
 * bounded and summed. */
#include "format.h"

void jrn_seg_head_encode(uint8_t out[JRN_SEG_HEAD], const struct jrn_seg_head *h)
{
    memset(out, 0, JRN_SEG_HEAD);
    memcpy(out, JRN_SEG_MAGIC, 8);
    mqg_put_le16(out + 8, JRN_VERSION);
    memcpy(out + 24, h->use.uuid, 16);
    mqg_put_le64(out + 40, h->use.nonce);
    mqg_put_le64(out + 48, h->bytes);
    mqg_put_le64(out + 56, h->made_us);
    mqg_put_le32(out + 64, h->flags);
    mqg_put_le32(out + 508, jrn_crc32c(0, out, 508));
}

enum mqg_err jrn_seg_head_decode(struct mqg_slice in, struct jrn_seg_head *h, struct mqg_error *e)
{
    if (in.len < JRN_SEG_HEAD || memcmp(in.ptr, JRN_SEG_MAGIC, 8) != 0)
        return mqg_error_set(e, MQG_NOT_FOUND, 0, "no segment of a journal");
    if (mqg_le32(in.ptr + 508) != jrn_crc32c(0, in.ptr, 508))
        return mqg_error_set(e, MQG_CORRUPT, 0, "the checksum of the segment header does not fit");
    uint16_t version = mqg_le16(in.ptr + 8);
    uint32_t bits = mqg_le32(in.ptr + 12);
    if (version < JRN_VERSION_OLDEST || version > JRN_VERSION || bits != 0)
        return mqg_error_set(
            e, MQG_UNSUPPORTED, 0,
            "the journal has format version %u, features %#x; this program reads versions %d to %d: %s",
            version, bits, JRN_VERSION_OLDEST, JRN_VERSION,
            version < JRN_VERSION_OLDEST ? "run the older program that wrote it, and drain it"
                                         : "run the newer program that wrote it");
    h->version = version;
    memcpy(h->use.uuid, in.ptr + 24, 16);
    h->use.nonce = mqg_le64(in.ptr + 40);
    h->bytes = mqg_le64(in.ptr + 48);
    h->made_us = mqg_le64(in.ptr + 56);
    h->flags = mqg_le32(in.ptr + 64);
    return MQG_OK;
}

void jrn_frame_encode(uint8_t out[JRN_FRAME_HEAD], const struct jrn_use *use, const struct jrn_frame *f)
{
    memset(out, 0, JRN_FRAME_HEAD);
    mqg_put_le32(out, JRN_FRAME_MAGIC);
    mqg_put_le16(out + 4, JRN_FRAME_VERSION);
    mqg_put_le16(out + 6, f->flags);
    mqg_put_le64(out + 8, use->nonce);
    memcpy(out + 16, use->uuid, 16);
    mqg_put_le64(out + 32, f->seq);
    mqg_put_le64(out + 40, f->number);
    mqg_put_le64(out + 48, f->durable_at_write);
    mqg_put_le64(out + 56, f->term);
    mqg_put_le32(out + 64, (uint32_t)(f->offset / JRN_BLOCK));
    mqg_put_le32(out + 68, f->length);
    mqg_put_le32(out + 72, f->chunks);
    mqg_put_le32(out + 76, f->records);
    mqg_put_le32(out + 80, f->chunks_crc);
    mqg_put_le32(out + 92, jrn_crc32c(0, out, 92));
}

enum mqg_err jrn_frame_head(struct mqg_slice in, const struct jrn_use *use, uint64_t offset,
                            struct jrn_frame *f)
{
    if (in.len < JRN_FRAME_HEAD || mqg_le32(in.ptr) != JRN_FRAME_MAGIC || mqg_le64(in.ptr + 8) != use->nonce)
        return MQG_CORRUPT;
    if (mqg_le32(in.ptr + 92) != jrn_crc32c(0, in.ptr, 92) || memcmp(in.ptr + 16, use->uuid, 16) != 0)
        return MQG_CORRUPT;
    if (mqg_le16(in.ptr + 4) != JRN_FRAME_VERSION || mqg_le32(in.ptr + 64) * (uint64_t)JRN_BLOCK != offset)
        return MQG_CORRUPT;
    f->flags = mqg_le16(in.ptr + 6);
    f->seq = mqg_le64(in.ptr + 32);
    f->number = mqg_le64(in.ptr + 40);
    f->durable_at_write = mqg_le64(in.ptr + 48);
    f->term = mqg_le64(in.ptr + 56);
    f->offset = offset;
    f->length = mqg_le32(in.ptr + 68);
    f->chunks = mqg_le32(in.ptr + 72);
    f->records = mqg_le32(in.ptr + 76);
    f->chunks_crc = mqg_le32(in.ptr + 80);
    return f->length < JRN_FRAME_HEAD ? MQG_CORRUPT : MQG_OK;
}

uint32_t jrn_chunks_crc_begin(const struct jrn_use *use)
{
    return jrn_crc32c(0, &use->nonce, sizeof use->nonce);
}

void jrn_walk_init(struct jrn_walk *w, struct mqg_slice frame, const struct jrn_use *use, bool verify)
{
    *w = (struct jrn_walk){
        .frame = frame, .pos = JRN_FRAME_HEAD, .chunk_end = JRN_FRAME_HEAD, .verify = verify};
    w->crc = jrn_chunks_crc_begin(use);
    w->failed = frame.len < JRN_FRAME_HEAD;
}

static bool walk_fail(struct jrn_walk *w)
{
    w->failed = true;
    return false;
}

static bool walk_chunk(struct jrn_walk *w)
{
    if (w->frame.len - w->pos < JRN_CHUNK_HEAD)
        return walk_fail(w);
    const uint8_t *p = w->frame.ptr + w->pos;
    uint32_t length = mqg_le32(p);
    if (length < JRN_CHUNK_HEAD || length % 8 != 0 || length > w->frame.len - w->pos)
        return walk_fail(w);
    w->crc = jrn_crc32c(w->crc, p, JRN_CHUNK_HEAD);
    w->chunk = w->pos;
    w->chunk_end = w->pos + length;
    w->salt = mqg_le32(p + 4);
    w->chunk_left = mqg_le32(p + 8);
    w->chunks++;
    w->pos += JRN_CHUNK_HEAD;
    return true;
}

static bool walk_sums(const struct jrn_walk *w, const uint8_t *head, const struct jrn_rec *r)
{
    uint32_t crc = jrn_crc32c(w->salt, head + 4, JRN_REC_HEAD - 4 + r->main.len);
    if (mqg_le32(head + 4) != w->salt || mqg_le32(head) != crc)
        return false;
    return r->tail.len == 0 ||
           jrn_crc32c(w->salt, r->tail.ptr, r->tail.len) == mqg_le32(r->tail.ptr + r->tail.len);
}

bool jrn_walk_next(struct jrn_walk *w, struct jrn_rec *rec)
{
    while (!w->failed && w->pos == w->chunk_end) {
        if (w->chunk_left != 0)
            return walk_fail(w);
        if (w->pos == w->frame.len || !walk_chunk(w))
            return false;
    }
    if (w->failed || w->chunk_left == 0 || w->chunk_end - w->pos < JRN_REC_HEAD)
        return walk_fail(w);
    const uint8_t *p = w->frame.ptr + w->pos;
    uint64_t tail = mqg_le16(p + 10), main = mqg_le32(p + 12);
    uint64_t whole = (JRN_REC_HEAD + main + tail + 7) & ~7ull;
    if (whole > w->chunk_end - w->pos || (tail != 0 && tail <= 4))
        return walk_fail(w);
    *rec = (struct jrn_rec){.type = p[8], .flags = p[9]};
    rec->main = mqg_slice_of(p + JRN_REC_HEAD, main);
    rec->tail = mqg_slice_of(p + JRN_REC_HEAD + main, tail ? tail - 4 : 0);
    rec->main_off = (uint32_t)(w->pos - w->chunk + JRN_REC_HEAD);
    rec->frame_off = (uint32_t)(w->pos + JRN_REC_HEAD);
    if (w->verify && !walk_sums(w, p, rec))
        return walk_fail(w);
    w->pos += whole;
    w->chunk_left--;
    w->records++;
    return true;
}

enum mqg_err jrn_frame_check(struct mqg_slice frame, const struct jrn_use *use, const struct jrn_frame *f)
{
    if (frame.len != f->length)
        return MQG_CORRUPT;
    struct jrn_walk w;
    struct jrn_rec rec;
    jrn_walk_init(&w, frame, use, true);
    while (jrn_walk_next(&w, &rec)) {
    }
    bool good = !w.failed && w.records == f->records && w.chunks == f->chunks && w.crc == f->chunks_crc;
    return good ? MQG_OK : MQG_CORRUPT;
}
