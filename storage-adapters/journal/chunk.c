/* chunk.c - framing: operations of the host become records in a lane's arena, on the worker's own core.
 *
 * This is the part of the journal that every message pays for, so: one bounds check per record, one memcpy of
 * the stored form (which is laid out in memory as it is on disk), one pass of the checksum, no allocation
 * once the arena has its size. Foreign bytes of 16 KiB and more are referenced instead: the kernel copies
 * them once, straight from the message. */
#include "chunk.h"

#include <stdlib.h>
#include <sys/uio.h>

struct jrn_chunk *jrn_chunk_new(void)
{
    return mqg_xcalloc(1, sizeof(struct jrn_chunk));
}

/* A message for 100,000 queues makes 4 MB of spans: as the arena, such a list is not kept. */
static void chunk_spans_reset(struct jrn_span_list *list)
{
    list->n = 0;
    if (list->cap <= JRN_CHUNK_KEEP / sizeof(*list->at))
        return;
    free(list->at);
    *list = (struct jrn_span_list){NULL, 0, 0};
}

void jrn_chunk_reset(struct jrn_chunk *c)
{
    for (uint32_t i = 0; i < c->npiece; i++)
        mqg_msg_unref(&c->pieces[i].msg);
    c->npiece = c->nkeyed = c->nnote = 0;
    chunk_spans_reset(&c->msgs);
    chunk_spans_reset(&c->facts);
    chunk_spans_reset(&c->gone);
    c->nparts = 0;
    c->len = c->total = 0;
    c->records = 0;
    c->extent = NULL;
    c->restates = false;
    c->frees = NULL;
    c->told = NULL;
    if (c->cap > JRN_CHUNK_KEEP) {
        free(c->arena);
        c->arena = NULL;
        c->cap = 0;
    }
}

void jrn_chunk_free(struct jrn_chunk **c)
{
    if (!*c)
        return;
    jrn_chunk_reset(*c);
    free((*c)->arena);
    free((*c)->pieces);
    free((*c)->msgs.at);
    free((*c)->facts.at);
    free((*c)->gone.at);
    free((*c)->keyed);
    free((*c)->notes);
    free(*c);
    *c = NULL;
}

/* Room for n bytes behind the arena's content. */
static uint8_t *chunk_room(struct jrn_chunk *c, size_t n)
{
    if (MQG_UNLIKELY(c->cap - c->len < n)) {
        size_t cap = c->cap ? c->cap : 4096;
        while (cap - c->len < n)
            cap *= 2;
        c->arena = mqg_xrealloc(c->arena, cap);
        c->cap = cap;
    }
    return c->arena + c->len;
}

#define CHUNK_PUSH(c, list, count, cap)                                                                 \
    ((c)->count == (c)->cap ? (void)((c)->cap = (c)->cap ? (c)->cap * 2 : 8,                            \
                                     (c)->list = mqg_xrealloc((c)->list, (c)->cap * sizeof *(c)->list)) \
                            : (void)0,                                                                  \
     &(c)->list[(c)->count++])

void jrn_chunk_begin(struct jrn_chunk *c, uint32_t lane, uint64_t ticket, unsigned flags, uint32_t salt)
{
    c->lane = lane;
    c->ticket = ticket;
    c->flags = flags;
    c->salt = salt;
    (void)chunk_room(c, JRN_CHUNK_HEAD);
    c->len = c->total = JRN_CHUNK_HEAD;
}

void jrn_chunk_end(struct jrn_chunk *c)
{
    uint8_t *p = c->arena;
    mqg_put_le32(p, (uint32_t)c->total);
    mqg_put_le32(p + 4, c->salt);
    mqg_put_le32(p + 8, c->records);
    mqg_put_le16(p + 12, (uint16_t)c->lane);
    mqg_put_le16(p + 14, 0);
}

/* ---- records ------------------------------------------------------------------------------------------- */

static uint8_t *chunk_varint(uint8_t *p, uint64_t v)
{
    while (v >= 0x80) {
        *p++ = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    *p++ = (uint8_t)v;
    return p;
}

static uint64_t chunk_zigzag(uint64_t delta)
{
    return (delta << 1) ^ (0 - (delta >> 63));
}

static void chunk_rec_head(uint8_t *p, uint32_t salt, uint8_t type, uint8_t flags, size_t tail, size_t main)
{
    mqg_put_le32(p + 4, salt);
    p[8] = type;
    p[9] = flags;
    mqg_put_le16(p + 10, (uint16_t)tail);
    mqg_put_le32(p + 12, (uint32_t)main);
}

/* Closes a record whose head, main and tail stand in the arena from `at`: sums, pads, counts. */
static void chunk_rec_end(struct jrn_chunk *c, size_t at, size_t main, size_t tail)
{
    uint8_t *p = c->arena + at;
    size_t whole = JRN_REC_HEAD + main + tail, padded = (whole + 7) & ~(size_t)7;
    mqg_put_le32(p, jrn_crc32c(c->salt, p + 4, JRN_REC_HEAD - 4 + main));
    memset(p + whole, 0, padded - whole);
    c->len += padded;
    c->total += padded;
    c->records++;
}

/* Begins a record whose main is at most `max` bytes; where main goes. chunk_close gives its real length. */
static uint8_t *chunk_open(struct jrn_chunk *c, size_t max)
{
    return chunk_room(c, JRN_REC_HEAD + max + 8) + JRN_REC_HEAD;
}

/* Returns the place of main in the chunk. */
static uint32_t chunk_close(struct jrn_chunk *c, uint8_t type, uint8_t flags, const uint8_t *end)
{
    size_t at = c->len, main = (size_t)(end - (c->arena + at + JRN_REC_HEAD));
    uint32_t off = (uint32_t)c->total + JRN_REC_HEAD;
    chunk_rec_head(c->arena + at, c->salt, type, flags, 0, main);
    chunk_rec_end(c, at, main, 0);
    return off;
}

/* Widens the span of the queue; looks at the last few only, for turns mostly speak of the same queues. */
static struct jrn_span *chunk_span(struct jrn_span_list *list, uint64_t queue_id, uint64_t first,
                                   uint64_t last)
{
    for (uint32_t i = list->n; i-- > 0 && i + 4 >= list->n;) {
        struct jrn_span *span = &list->at[i];
        if (span->queue_id != queue_id)
            continue;
        if (first < span->first)
            span->first = first;
        if (last > span->last)
            span->last = last;
        return span;
    }
    struct jrn_span *span = CHUNK_PUSH(list, at, n, cap);
    *span = (struct jrn_span){queue_id, first, last, 0, 0};
    return span;
}

static void chunk_fact(struct jrn_chunk *c, const struct jrn_span *more)
{
    struct jrn_span_list *list = &c->facts;
    for (uint32_t i = list->n; i-- > 0 && i + 4 >= list->n;) {
        if (list->at[i].queue_id != more->queue_id)
            continue;
        jrn_span_fact(&list->at[i], more);
        return;
    }
    *CHUNK_PUSH(list, at, n, cap) = *more;
}

static void chunk_holds(struct jrn_chunk *c, const struct mqg_dest *d, uint32_t eights)
{
    struct jrn_span *span = chunk_span(&c->msgs, d->queue_id, d->qseq, d->qseq);
    span->count++;
    span->eights += eights;
}

/* A destination's share of a message's bytes. */
static uint32_t chunk_share(size_t stored, uint32_t ndest)
{
    uint64_t eights = (JRN_REC_HEAD + stored + 16) / 8 / (ndest ? ndest : 1);
    return (uint32_t)(eights ? eights : 1);
}

/* Encodes destinations into at most JRN_TAIL_MAX bytes, with room for the sum; how many it took. */
static uint32_t chunk_dests(struct jrn_chunk *c, uint8_t *start, uint8_t **end, const struct mqg_dest *d,
                            uint32_t n, uint32_t share)
{
    enum { DEST_MAX = 20, FIT = (JRN_TAIL_MAX - 16) / DEST_MAX };
    struct mqg_dest last = {0, 0};
    uint32_t take = n < FIT ? n : FIT;
    uint8_t *p = chunk_varint(start, take);
    for (uint32_t i = 0; i < take; i++) {
        p = chunk_varint(p, chunk_zigzag(d[i].queue_id - last.queue_id));
        p = chunk_varint(p, chunk_zigzag(d[i].qseq - last.qseq));
        last = d[i];
        chunk_holds(c, &d[i], share);
    }
    mqg_put_le32(p, jrn_crc32c(c->salt, start, (size_t)(p - start)));
    *end = p + 4;
    return take;
}

static size_t chunk_dests_max(uint32_t n)
{
    size_t all = 16 + (size_t)n * 20;
    return all < JRN_TAIL_MAX ? all : JRN_TAIL_MAX;
}

/* Destinations that did not fit into the MSG's tail. */
static void chunk_more_dests(struct jrn_chunk *c, const struct mqg_dest *d, uint32_t n, uint32_t share)
{
    while (n > 0) {
        uint8_t *tail = chunk_room(c, JRN_REC_HEAD + chunk_dests_max(n) + 8) + JRN_REC_HEAD, *end;
        uint32_t took = chunk_dests(c, tail, &end, d, n, share);
        size_t at = c->len, len = (size_t)(end - tail);
        chunk_rec_head(c->arena + at, c->salt, JRN_REC_DESTS, 0, len, 0);
        chunk_rec_end(c, at, 0, len);
        d += took;
        n -= took;
    }
}

/* A message whose stored form is copied: head, main and tail are one run in the arena. */
static uint32_t chunk_msg_copy(struct jrn_chunk *c, struct mqg_slice stored, const struct mqg_dest *d,
                               uint32_t n)
{
    size_t main = stored.len, at = c->len;
    uint8_t *p = chunk_room(c, JRN_REC_HEAD + main + chunk_dests_max(n) + 8), *tail = p + JRN_REC_HEAD + main,
            *end;
    memcpy(p + JRN_REC_HEAD, stored.ptr, main);
    uint32_t took = chunk_dests(c, tail, &end, d, n, chunk_share(main, n));
    chunk_rec_head(p, c->salt, JRN_REC_MSG, 0, (size_t)(end - tail), main);
    chunk_rec_end(c, at, main, (size_t)(end - tail));
    return took;
}

/* Notes foreign bytes behind the arena's present content and counts them. */
static void chunk_piece(struct jrn_chunk *c, const uint8_t *ptr, size_t len, struct mqg_msg *msg)
{
    *CHUNK_PUSH(c, pieces, npiece, cap_piece) = (struct jrn_piece){c->len, ptr, len,
                                                                   msg ? mqg_msg_ref(msg) : NULL};
    c->total += len;
}

/* A large message: head in the arena, the stored form by reference, tail and padding in the arena again. */
static uint32_t chunk_msg_ref(struct jrn_chunk *c, struct mqg_msg *m, const struct mqg_dest *d, uint32_t n)
{
    struct mqg_slice stored = mqg_msg_stored(m);
    uint8_t *p = chunk_room(c, JRN_REC_HEAD + chunk_dests_max(n) + 8), *tail = p + JRN_REC_HEAD, *end;
    uint32_t took = chunk_dests(c, tail, &end, d, n, chunk_share(stored.len, n));
    size_t tail_len = (size_t)(end - tail), whole = JRN_REC_HEAD + stored.len + tail_len;
    size_t pad = ((whole + 7) & ~(size_t)7) - whole;
    chunk_rec_head(p, c->salt, JRN_REC_MSG, 0, tail_len, stored.len);
    uint32_t crc = jrn_crc32c(c->salt, p + 4, JRN_REC_HEAD - 4);
    mqg_put_le32(p, jrn_crc32c(crc, stored.ptr, stored.len));
    memset(end, 0, pad);
    c->len += JRN_REC_HEAD;
    c->total += JRN_REC_HEAD;
    chunk_piece(c, stored.ptr, stored.len, m);
    c->len += tail_len + pad;
    c->total += tail_len + pad;
    c->records++;
    return took;
}

static void chunk_msg(struct jrn_chunk *c, struct mqg_msg *m, const struct mqg_dest *d, uint32_t n)
{
    m->extent_off = (uint32_t)c->total + JRN_REC_HEAD;
    uint32_t took = m->total_len < JRN_COPY_MAX ? chunk_msg_copy(c, mqg_msg_stored(m), d, n)
                                                : chunk_msg_ref(c, m, d, n);
    if (MQG_UNLIKELY(took < n))
        chunk_more_dests(c, d + took, n - took, chunk_share(m->total_len, n));
}

uint32_t jrn_chunk_stored(struct jrn_chunk *c, struct mqg_slice stored, const struct mqg_dest *d, uint32_t n)
{
    uint32_t off = (uint32_t)c->total + JRN_REC_HEAD;
    uint32_t took = chunk_msg_copy(c, stored, d, n);
    if (took < n)
        chunk_more_dests(c, d + took, n - took, chunk_share(stored.len, n));
    return off;
}

void jrn_chunk_ranges(struct jrn_chunk *c, enum jrn_rec_type type, uint64_t queue_id,
                      const struct mqg_range *r, size_t n)
{
    uint8_t *p = chunk_open(c, 8 + 10 + n * 20);
    uint64_t next = 0;
    mqg_put_le64(p, queue_id);
    p = chunk_varint(p + 8, n);
    for (size_t i = 0; i < n; i++) {
        MQG_ASSERT(r[i].first >= next && r[i].last >= r[i].first);
        p = chunk_varint(p, r[i].first - next);
        p = chunk_varint(p, r[i].last - r[i].first);
        next = r[i].last;
        if (type == JRN_REC_SETTLE)
            *CHUNK_PUSH(&c->gone, at, n, cap) = (struct jrn_span){queue_id, r[i].first, r[i].last, 0, 0};
    }
    for (size_t i = 0; i < n; i++)
        chunk_fact(c, &(struct jrn_span){queue_id, r[i].first, r[i].last, 0, 0});
    (void)chunk_close(c, (uint8_t)type, 0, p);
}

/* The host's ranges come in any order; a record holds ascending ones. Unordered input becomes several
 * records. */
static void chunk_settle(struct jrn_chunk *c, uint64_t queue_id, const struct mqg_range *r, uint32_t n)
{
    for (uint32_t i = 0, run; i < n; i += run) {
        for (run = 1; i + run < n && r[i + run].first >= r[i + run - 1].last; run++) {
        }
        jrn_chunk_ranges(c, JRN_REC_SETTLE, queue_id, r + i, run);
    }
}

uint32_t jrn_chunk_raw(struct jrn_chunk *c, enum jrn_rec_type type, uint8_t flags, struct mqg_slice main)
{
    uint8_t *p = chunk_open(c, main.len);
    if (main.len)
        memcpy(p, main.ptr, main.len);
    return chunk_close(c, (uint8_t)type, flags, p + main.len);
}

void jrn_chunk_note_key(struct jrn_chunk *c, struct jrn_keyed key)
{
    *CHUNK_PUSH(c, keyed, nkeyed, cap_keyed) = key;
}

/* Closes a keyed record that begins at the arena's end and notes its key. */
static uint32_t chunk_close_keyed(struct jrn_chunk *c, uint8_t type, const uint8_t *end)
{
    size_t at = c->len;
    uint32_t off = chunk_close(c, type, 0, end);
    struct jrn_keyed key = {0};
    bool keyed = jrn_key_of(type, mqg_slice_of(c->arena + at + JRN_REC_HEAD, mqg_le32(c->arena + at + 12)),
                            &key);
    MQG_ASSERT(keyed);
    key.off = off;
    key.arena_off = (uint32_t)at;
    jrn_chunk_note_key(c, key);
    return off;
}

static void chunk_meta(struct jrn_chunk *c, struct mqg_slice key, struct mqg_slice value, bool remove)
{
    uint8_t *p = chunk_varint(chunk_open(c, 11 + key.len + value.len), key.len);
    *p++ = remove;
    if (key.len)
        memcpy(p, key.ptr, key.len);
    p += key.len;
    if (value.len)
        memcpy(p, value.ptr, value.len);
    (void)chunk_close_keyed(c, JRN_REC_META, p + value.len);
}

static void chunk_note(struct jrn_chunk *c, struct jrn_note note)
{
    *CHUNK_PUSH(c, notes, nnote, cap_note) = note;
}

static size_t chunk_rope_len(const struct mqg_slice *rope, uint32_t n)
{
    size_t len = 0;
    for (uint32_t i = 0; i < n; i++)
        len += rope[i].len;
    return len;
}

/* Heads are in the arena; the batches stay where they are until they are written. */
static void chunk_append_ref(struct jrn_chunk *c, const struct mqg_store_op *op, size_t len)
{
    enum { HEADS = JRN_REC_HEAD + JRN_BATCH_HEAD };
    uint8_t *p = c->arena + c->len;
    size_t pad = ((HEADS + len + 7) & ~(size_t)7) - HEADS - len;
    uint32_t crc = jrn_crc32c(c->salt, p + 4, HEADS - 4);
    c->len += HEADS;
    c->total += HEADS;
    for (uint32_t i = 0; i < op->append.nrope; i++) {
        crc = jrn_crc32c(crc, op->append.rope[i].ptr, op->append.rope[i].len);
        chunk_piece(c, op->append.rope[i].ptr, op->append.rope[i].len, NULL);
    }
    mqg_put_le32(p, crc);
    memset(chunk_room(c, pad), 0, pad);
    c->len += pad;
    c->total += pad;
    c->records++;
}

static void chunk_append(struct jrn_chunk *c, const struct mqg_store_op *op)
{
    size_t len = chunk_rope_len(op->append.rope, op->append.nrope), at = c->len;
    bool held = len >= MQG_ROPE_HELD;
    uint8_t *p = chunk_open(c, JRN_BATCH_HEAD + (held ? 0 : len));
    struct jrn_note note = {.kind = JRN_NOTE_BATCH,
                            .partition = op->append.partition,
                            .exists = true,
                            .offset = op->append.base_offset,
                            .max_time_ms = op->append.max_time_ms,
                            .count = op->append.count,
                            .off = (uint32_t)c->total + JRN_REC_HEAD,
                            .len = (uint32_t)len};
    mqg_put_le64(p, op->append.partition);
    mqg_put_le64(p + 8, op->append.base_offset);
    mqg_put_le64(p + 16, op->append.max_time_ms);
    mqg_put_le32(p + 24, op->append.count);
    mqg_put_le32(p + 28, 0);
    chunk_rec_head(p - JRN_REC_HEAD, c->salt, JRN_REC_BATCH, 0, 0, JRN_BATCH_HEAD + len);
    chunk_note(c, note);
    if (held) {
        chunk_append_ref(c, op, len);
        return;
    }
    p += JRN_BATCH_HEAD;
    for (uint32_t i = 0; i < op->append.nrope; p += op->append.rope[i++].len)
        if (op->append.rope[i].len)
            memcpy(p, op->append.rope[i].ptr, op->append.rope[i].len);
    chunk_rec_end(c, at, JRN_BATCH_HEAD + len, 0);
}

static void chunk_stream(struct jrn_chunk *c, const struct mqg_store_op *op)
{
    uint8_t *p = chunk_open(c, 13 + op->stream.name.len);
    bool exists = op->kind == MQG_OP_STREAM_NEW;
    mqg_put_le64(p, op->stream.partition);
    mqg_put_le32(p + 8, (uint32_t)op->stream.index);
    p[12] = exists;
    if (op->stream.name.len)
        memcpy(p + 13, op->stream.name.ptr, op->stream.name.len);
    (void)chunk_close_keyed(c, JRN_REC_STREAM, p + 13 + op->stream.name.len);
    chunk_note(
        c, (struct jrn_note){.kind = JRN_NOTE_STREAM, .partition = op->stream.partition, .exists = exists});
}

static void chunk_trim(struct jrn_chunk *c, uint64_t partition, uint64_t start)
{
    uint8_t *p = chunk_open(c, 16);
    mqg_put_le64(p, partition);
    mqg_put_le64(p + 8, start);
    (void)chunk_close_keyed(c, JRN_REC_TRIM, p + 16);
    chunk_note(
        c, (struct jrn_note){.kind = JRN_NOTE_TRIM, .partition = partition, .offset = start, .exists = true});
}

static void chunk_position(struct jrn_chunk *c, const struct mqg_store_op *op)
{
    struct mqg_slice group = op->position.group, metadata = op->position.metadata;
    size_t at = c->len;
    uint8_t *p = chunk_open(c, 20 + group.len + metadata.len);
    mqg_put_le64(p, op->position.partition);
    mqg_put_le64(p + 8, op->position.offset);
    mqg_put_le32(p + 16, (uint32_t)group.len);
    if (group.len)
        memcpy(p + 20, group.ptr, group.len);
    if (metadata.len)
        memcpy(p + 20 + group.len, metadata.ptr, metadata.len);
    (void)chunk_close_keyed(c, JRN_REC_POSITION, p + 20 + group.len + metadata.len);
    chunk_note(c, (struct jrn_note){.kind = JRN_NOTE_POSITION,
                                    .partition = op->position.partition,
                                    .exists = true,
                                    .offset = op->position.offset,
                                    .arena_off = at + JRN_REC_HEAD,
                                    .len = (uint32_t)(20 + group.len + metadata.len)});
}

static void chunk_stream_conf(struct jrn_chunk *c, uint64_t partition, const struct mqg_stream_conf *conf)
{
    const uint64_t rows[] = {conf->retention_ms, conf->retention_bytes,    conf->segment_bytes,
                             conf->segment_ms,   conf->compact_lag_min_ms, conf->compact_lag_max_ms,
                             conf->tombstone_ms};
    size_t at = c->len;
    uint8_t *p = chunk_open(c, JRN_STREAM_CONF_BYTES);
    mqg_put_le64(p, partition);
    mqg_put_le32(p + 8, conf->cleanup);
    mqg_put_le32(p + 12, 0);
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++)
        mqg_put_le64(p + 16 + 8 * i, rows[i]);
    (void)chunk_close_keyed(c, JRN_REC_STREAM_CONF, p + JRN_STREAM_CONF_BYTES);
    chunk_note(c, (struct jrn_note){.kind = JRN_NOTE_CONF,
                                    .partition = partition,
                                    .exists = true,
                                    .arena_off = at + JRN_REC_HEAD,
                                    .len = JRN_STREAM_CONF_BYTES});
}

static void chunk_producer(struct jrn_chunk *c, const struct mqg_store_op *op)
{
    uint8_t *p = chunk_open(c, 36);
    mqg_put_le64(p, op->producer.partition);
    mqg_put_le64(p + 8, op->producer.producer_id);
    mqg_put_le16(p + 16, (uint16_t)op->producer.epoch);
    mqg_put_le16(p + 18, 0);
    mqg_put_le32(p + 20, (uint32_t)op->producer.base_seq);
    mqg_put_le32(p + 24, (uint32_t)op->producer.last_seq);
    mqg_put_le64(p + 28, op->producer.offset);
    (void)chunk_close_keyed(c, JRN_REC_PRODUCER, p + 36);
}

void jrn_chunk_count(struct jrn_chunk *c, const struct jrn_count *count)
{
    uint8_t *p = chunk_open(c, 24);
    mqg_put_le64(p, count->queue_id);
    mqg_put_le64(p + 8, count->qseq);
    mqg_put_le32(p + 16, count->delivery_count);
    mqg_put_le32(p + 20, count->acquired_count);
    chunk_fact(c, &(struct jrn_span){count->queue_id, count->qseq, count->qseq, 1, 0});
    (void)chunk_close(c, JRN_REC_COUNT, 0, p + 24);
}

static void chunk_count(struct jrn_chunk *c, const struct mqg_store_op *op)
{
    struct jrn_count count = {op->count.queue_id, op->count.qseq, op->count.delivery_count,
                              op->count.acquired_count};
    jrn_chunk_count(c, &count);
}

void jrn_chunk_op(struct jrn_chunk *c, const struct mqg_store_op *op)
{
    switch (op->kind) {
    case MQG_OP_MSG: chunk_msg(c, op->msg.msg, op->msg.dests, op->msg.ndest); return;
    case MQG_OP_SETTLE: chunk_settle(c, op->settle.queue_id, op->settle.ranges, op->settle.n); return;
    case MQG_OP_COUNT: chunk_count(c, op); return;
    case MQG_OP_META: chunk_meta(c, op->meta.key, op->meta.value, op->meta.remove); return;
    case MQG_OP_APPEND: chunk_append(c, op); return;
    case MQG_OP_TRIM: chunk_trim(c, op->trim.partition, op->trim.start_offset); return;
    case MQG_OP_STREAM_NEW:
    case MQG_OP_STREAM_DELETE: chunk_stream(c, op); return;
    case MQG_OP_POSITION: chunk_position(c, op); return;
    case MQG_OP_PRODUCER: chunk_producer(c, op); return;
    case MQG_OP_STREAM_CONF: chunk_stream_conf(c, op->stream_conf.partition, op->stream_conf.conf); return;
    case MQG_OP_GROUP_BEGIN:
    case MQG_OP_GROUP_END: return;
    }
    bool known_operation = false;
    MQG_ASSERT(known_operation);
}

size_t jrn_chunk_cost(const struct mqg_store_op *op)
{
    switch (op->kind) {
    case MQG_OP_MSG: return 64 + (size_t)op->msg.msg->total_len + (size_t)op->msg.ndest * 21;
    case MQG_OP_SETTLE: return 64 + (size_t)op->settle.n * 56;
    case MQG_OP_META: return 64 + op->meta.key.len + op->meta.value.len;
    case MQG_OP_APPEND: return 96 + chunk_rope_len(op->append.rope, op->append.nrope);
    case MQG_OP_STREAM_NEW:
    case MQG_OP_STREAM_DELETE: return 64 + op->stream.name.len;
    case MQG_OP_STREAM_CONF: return 64 + JRN_STREAM_CONF_BYTES;
    case MQG_OP_POSITION: return 64 + op->position.group.len + op->position.metadata.len;
    default: return 64;
    }
}

void jrn_chunk_void(struct jrn_chunk *c, uint32_t arena_off)
{
    uint8_t *p = c->arena + arena_off;
    p[8] = JRN_REC_NOP;
    mqg_put_le32(p, jrn_crc32c(c->salt, p + 4, JRN_REC_HEAD - 4 + mqg_le32(p + 12)));
}

int jrn_chunk_iov(const struct jrn_chunk *c, struct iovec *iov)
{
    int n = 0;
    size_t at = 0;
    for (uint32_t i = 0; i < c->npiece; i++) {
        const struct jrn_piece *piece = &c->pieces[i];
        if (piece->at > at)
            iov[n++] = (struct iovec){c->arena + at, piece->at - at};
        iov[n++] = (struct iovec){(void *)(uintptr_t)piece->ptr, piece->len};
        at = piece->at;
    }
    if (c->len > at)
        iov[n++] = (struct iovec){c->arena + at, c->len - at};
    return n;
}
