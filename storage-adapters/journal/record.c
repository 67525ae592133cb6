/* record.c - record payloads, read. The checksum was good before anything comes here, but a checksum only
 * says that somebody wrote these bytes: lengths and counts are bounded again, so that a bug or an attacker
 * with the disk costs an error and never memory. */
#include "record.h"

#include <stdlib.h>

static uint64_t record_unzigzag(uint64_t v)
{
    return (v >> 1) ^ (0 - (v & 1));
}

bool jrn_dests_init(struct jrn_dests *it, struct mqg_slice tail)
{
    *it = (struct jrn_dests){.c = mqg_cursor_of(tail)};
    it->left = mqg_cursor_varint(&it->c);
    if (it->left > mqg_cursor_left(&it->c) / 2) /* a destination takes at least two bytes */
        mqg_cursor_fail(&it->c);
    return !it->c.failed;
}

bool jrn_dests_next(struct jrn_dests *it, struct mqg_dest *out)
{
    if (it->left == 0 || it->c.failed)
        return false;
    it->left--;
    it->last.queue_id += record_unzigzag(mqg_cursor_varint(&it->c));
    it->last.qseq += record_unzigzag(mqg_cursor_varint(&it->c));
    *out = it->last;
    return !it->c.failed;
}

bool jrn_ranges_init(struct jrn_ranges *it, struct mqg_slice main)
{
    *it = (struct jrn_ranges){.c = mqg_cursor_of(main)};
    it->queue_id = mqg_cursor_le64(&it->c);
    it->left = mqg_cursor_varint(&it->c);
    if (it->left > mqg_cursor_left(&it->c) / 2)
        mqg_cursor_fail(&it->c);
    return !it->c.failed;
}

bool jrn_ranges_next(struct jrn_ranges *it, struct mqg_range *out)
{
    if (it->left == 0 || it->c.failed)
        return false;
    it->left--;
    out->first = it->next + mqg_cursor_varint(&it->c);
    out->last = out->first + mqg_cursor_varint(&it->c);
    if (out->first < it->next || out->last < out->first) {
        mqg_cursor_fail(&it->c);
        return false;
    }
    it->next = out->last;
    return !it->c.failed;
}

static int ranges_order(const void *a, const void *b)
{
    const struct mqg_range *x = a, *y = b;
    return x->first < y->first ? -1 : x->first > y->first;
}

uint32_t jrn_ranges_merge(struct mqg_range *r, uint32_t n)
{
    uint32_t kept = 0;
    if (n)
        qsort(r, n, sizeof *r, ranges_order);
    for (uint32_t i = 0; i < n; i++) {
        struct mqg_range next = r[i];
        if (kept && (r[kept - 1].last == UINT64_MAX || next.first <= r[kept - 1].last + 1)) {
            if (next.last > r[kept - 1].last)
                r[kept - 1].last = next.last;
        } else {
            r[kept++] = next;
        }
    }
    return kept;
}

bool jrn_rec_count(struct mqg_slice main, struct jrn_count *out)
{
    struct mqg_cursor c = mqg_cursor_of(main);
    out->queue_id = mqg_cursor_le64(&c);
    out->qseq = mqg_cursor_le64(&c);
    out->delivery_count = mqg_cursor_le32(&c);
    out->acquired_count = mqg_cursor_le32(&c);
    return mqg_cursor_done(&c);
}

bool jrn_rec_meta(struct mqg_slice main, struct jrn_meta *out)
{
    struct mqg_cursor c = mqg_cursor_of(main);
    uint64_t key_len = mqg_cursor_varint(&c);
    uint8_t remove = mqg_cursor_u8(&c);
    out->key = mqg_cursor_slice(&c, key_len);
    out->value = mqg_cursor_slice(&c, mqg_cursor_left(&c));
    out->remove = remove != 0;
    return mqg_cursor_done(&c) && remove <= 1;
}

bool jrn_rec_batch(struct mqg_slice main, struct jrn_batch *out)
{
    struct mqg_cursor c = mqg_cursor_of(main);
    out->partition = mqg_cursor_le64(&c);
    out->base_offset = mqg_cursor_le64(&c);
    out->max_time_ms = mqg_cursor_le64(&c);
    out->count = mqg_cursor_le32(&c);
    (void)mqg_cursor_le32(&c);
    out->bytes = mqg_cursor_slice(&c, mqg_cursor_left(&c));
    return mqg_cursor_done(&c) && out->base_offset + out->count >= out->base_offset;
}

bool jrn_rec_stream(struct mqg_slice main, struct jrn_stream_def *out)
{
    struct mqg_cursor c = mqg_cursor_of(main);
    out->partition = mqg_cursor_le64(&c);
    out->index = (int32_t)mqg_cursor_le32(&c);
    uint8_t exists = mqg_cursor_u8(&c);
    out->name = mqg_cursor_slice(&c, mqg_cursor_left(&c));
    out->exists = exists != 0;
    return mqg_cursor_done(&c) && exists <= 1;
}

bool jrn_rec_stream_conf(struct mqg_slice main, struct jrn_stream_conf *out)
{
    struct mqg_cursor c = mqg_cursor_of(main);
    out->partition = mqg_cursor_le64(&c);
    out->conf.cleanup = mqg_cursor_le32(&c);
    (void)mqg_cursor_le32(&c);
    out->conf.retention_ms = mqg_cursor_le64(&c);
    out->conf.retention_bytes = mqg_cursor_le64(&c);
    out->conf.segment_bytes = mqg_cursor_le64(&c);
    out->conf.segment_ms = mqg_cursor_le64(&c);
    out->conf.compact_lag_min_ms = mqg_cursor_le64(&c);
    out->conf.compact_lag_max_ms = mqg_cursor_le64(&c);
    out->conf.tombstone_ms = mqg_cursor_le64(&c);
    return mqg_cursor_done(&c);
}

bool jrn_rec_position(struct mqg_slice main, struct jrn_position *out)
{
    struct mqg_cursor c = mqg_cursor_of(main);
    out->partition = mqg_cursor_le64(&c);
    out->offset = mqg_cursor_le64(&c);
    out->group = mqg_cursor_slice(&c, mqg_cursor_le32(&c));
    out->metadata = mqg_cursor_slice(&c, mqg_cursor_left(&c));
    return mqg_cursor_done(&c);
}

bool jrn_rec_producer(struct mqg_slice main, struct jrn_producer *out)
{
    struct mqg_cursor c = mqg_cursor_of(main);
    out->partition = mqg_cursor_le64(&c);
    out->producer_id = mqg_cursor_le64(&c);
    out->epoch = (int16_t)mqg_cursor_le16(&c);
    (void)mqg_cursor_le16(&c);
    out->base_seq = (int32_t)mqg_cursor_le32(&c);
    out->last_seq = (int32_t)mqg_cursor_le32(&c);
    out->offset = mqg_cursor_le64(&c);
    return mqg_cursor_done(&c);
}

bool jrn_rec_trim(struct mqg_slice main, struct jrn_triple *out)
{
    struct mqg_cursor c = mqg_cursor_of(main);
    *out = (struct jrn_triple){.a = mqg_cursor_le64(&c), .b = 0};
    out->b = mqg_cursor_le64(&c);
    return mqg_cursor_done(&c);
}

bool jrn_rec_cut(struct mqg_slice main, struct jrn_triple *out)
{
    struct mqg_cursor c = mqg_cursor_of(main);
    out->a = mqg_cursor_le64(&c);
    out->b = mqg_cursor_le64(&c);
    out->c = mqg_cursor_le64(&c);
    return mqg_cursor_done(&c);
}

bool jrn_rec_free(struct mqg_slice main, size_t index, struct jrn_triple *out)
{
    if (main.len % JRN_FREE_ROW != 0 || index >= main.len / JRN_FREE_ROW)
        return false;
    const uint8_t *p = main.ptr + index * JRN_FREE_ROW;
    *out = (struct jrn_triple){.a = mqg_le64(p), .b = mqg_le64(p + 8)};
    return true;
}

bool jrn_rec_manifest(struct mqg_slice main, size_t index, struct jrn_manifest_row *out)
{
    if (main.len % JRN_MANIFEST_ROW != 0 || index >= main.len / JRN_MANIFEST_ROW)
        return false;
    const uint8_t *p = main.ptr + index * JRN_MANIFEST_ROW;
    *out = (struct jrn_manifest_row){mqg_le64(p), mqg_le64(p + 8), mqg_le64(p + 16), mqg_le64(p + 24)};
    return true;
}

bool jrn_stored_check(struct mqg_slice main, struct mqg_stored *head)
{
    if (main.len < sizeof *head)
        return false;
    memcpy(head, main.ptr, sizeof *head);
    uint64_t parts = (uint64_t)head->exchange_len + head->key_len + head->pkey_len + head->user_len +
                     head->client_len + head->origin_len + head->overlay_len + head->body_len;
    return head->version == MQG_STORED_VERSION && parts == main.len - sizeof *head;
}

static bool record_dests_fit(struct mqg_slice tail)
{
    struct jrn_dests it;
    struct mqg_dest d;
    if (!jrn_dests_init(&it, tail))
        return false;
    while (jrn_dests_next(&it, &d)) {
    }
    return mqg_cursor_done(&it.c);
}

static bool record_ranges_fit(struct mqg_slice main)
{
    struct jrn_ranges it;
    struct mqg_range r;
    if (!jrn_ranges_init(&it, main))
        return false;
    while (jrn_ranges_next(&it, &r)) {
    }
    return mqg_cursor_done(&it.c);
}

static bool record_fits(const struct jrn_rec *rec)
{
    union {
        struct mqg_stored stored;
        struct jrn_count count;
        struct jrn_meta meta;
        struct jrn_batch batch;
        struct jrn_triple triple;
        struct jrn_stream_def stream;
        struct jrn_position position;
        struct jrn_producer producer;
        struct jrn_stream_conf conf;
    } u;
    switch (rec->type) {
    case JRN_REC_NOP: return true;
    case JRN_REC_MSG: return jrn_stored_check(rec->main, &u.stored) && record_dests_fit(rec->tail);
    case JRN_REC_DESTS: return rec->main.len == 0 && record_dests_fit(rec->tail);
    case JRN_REC_SETTLE:
    case JRN_REC_QSTATE: return record_ranges_fit(rec->main);
    case JRN_REC_COUNT: return jrn_rec_count(rec->main, &u.count);
    case JRN_REC_META: return jrn_rec_meta(rec->main, &u.meta);
    case JRN_REC_BATCH: return jrn_rec_batch(rec->main, &u.batch);
    case JRN_REC_TRIM: return jrn_rec_trim(rec->main, &u.triple);
    case JRN_REC_STREAM: return jrn_rec_stream(rec->main, &u.stream);
    case JRN_REC_POSITION: return jrn_rec_position(rec->main, &u.position);
    case JRN_REC_PRODUCER: return jrn_rec_producer(rec->main, &u.producer);
    case JRN_REC_SEAL: return rec->main.len == 8;
    case JRN_REC_MANIFEST:
    case JRN_REC_ADOPT: return rec->main.len % JRN_MANIFEST_ROW == 0;
    case JRN_REC_FREE: return rec->main.len % JRN_FREE_ROW == 0;
    case JRN_REC_CUT: return jrn_rec_cut(rec->main, &u.triple);
    case JRN_REC_STREAM_CONF: return jrn_rec_stream_conf(rec->main, &u.conf);
    default: return false;
    }
}

enum mqg_err jrn_rec_check(const struct jrn_rec *rec)
{
    if (rec->type >= JRN_REC_TYPES)
        return (rec->flags & JRN_REC_IGNORABLE) ? MQG_OK : MQG_UNSUPPORTED;
    return record_fits(rec) ? MQG_OK : MQG_CORRUPT;
}

const char *jrn_rec_name(uint8_t type)
{
    static const char *const names[JRN_REC_TYPES] = {"nop",
                                                     "msg",
                                                     "dests",
                                                     "settle",
                                                     "count",
                                                     "meta",
                                                     "batch",
                                                     "trim",
                                                     "stream",
                                                     "position",
                                                     "producer",
                                                     "seal",
                                                     "qstate",
                                                     "manifest",
                                                     "free",
                                                     "cut",
                                                     [JRN_REC_ADOPT] = "adopt",
                                                     [JRN_REC_STREAM_CONF] = "stream_conf"};
    return type < JRN_REC_TYPES && names[type] ? names[type] : "unknown";
}
