/* collect.c - makes a digest out of the frames of a segment.
 *
 * Destinations are collected until there are 640k of them (a segment of 64 MiB of the smallest messages), then put in order
 * by a counting sort over the queues (within a queue they mostly are in order) and cut into pieces: rows and small groups. A
 * fan-out can bring more than that from one segment; then there are several such runs, and at the end the pieces of a queue
 * that overlap, or are small and stand side by side, are taken apart and cut anew. So memory is bounded by the run, and rows
 * of a queue never overlap.
 *
 * Of keyed records the last word of the segment is kept, settled ranges are merged per queue; what was settled before its run
 * ends is left out. All of this depends on the bytes of the segment alone: made twice, a digest is the same twice. */
#include "collect.h"

#include "chunk.h"
#include "map.h"
#include "piece.h"

#include <stdlib.h>

enum { COLLECT_RUN = 640 * 1024 };

struct collect_queue {
    uint64_t id;
    struct mqg_range *gone;
    uint32_t ngone, cap_gone;
    uint32_t n, at; /* entries of this run; where the next one goes */
};

/* A record that is not of a message: its bytes in `words`. */
struct collect_word {
    size_t at;
    uint64_t term;
    uint32_t off, len, hash2;
    uint32_t before; /* the key's word before it, + 1; 0: none */
    uint8_t type, flags;
    bool keyed, void_;
};

/* Words on a producer that are kept: the last five, and one that holds if these are cut off (stream_found.c). */
enum { COLLECT_PRODUCERS = 6 };

struct jrn_collect {
    struct jrn_map queue_of, key_of;
    struct collect_queue *queues;
    struct jrn_entry *entries;
    uint32_t *owner, *order; /* of an entry: its queue; entries by queue */
    struct jrn_pieces pieces;
    struct collect_word *items;
    struct mqg_dynbuf words;
    uint32_t nqueue, cap_queue, n, cap, nitem, cap_item, runs;
    uint32_t last_queue, row_min;
    uint64_t term;
    bool full; /* a buffer had no room */
};

#define COLLECT_PUSH(c, list, count, cap)                                                    \
    ((c)->count == (c)->cap                                                                  \
         ? (void)((c)->cap = (c)->cap ? (c)->cap * 2 : 16,                                   \
                  (c)->list = mqg_xrealloc((c)->list, (size_t)(c)->cap * sizeof *(c)->list)) \
         : (void)0,                                                                          \
     &(c)->list[(c)->count++])

struct jrn_collect *jrn_collect_new(uint32_t row_min)
{
    struct jrn_collect *c = mqg_xcalloc(1, sizeof *c);
    c->row_min = row_min;
    mqg_dynbuf_init(&c->words, JRN_CHUNK_MAX);
    mqg_dynbuf_init(&c->pieces.raw, JRN_CHUNK_MAX);
    return c;
}

void jrn_collect_free(struct jrn_collect **collect)
{
    struct jrn_collect *c = *collect;
    if (!c)
        return;
    for (uint32_t i = 0; i < c->nqueue; i++)
        free(c->queues[i].gone);
    jrn_map_fini(&c->queue_of);
    jrn_map_fini(&c->key_of);
    mqg_dynbuf_fini(&c->words);
    mqg_dynbuf_fini(&c->pieces.raw);
    free(c->queues);
    free(c->entries);
    free(c->owner);
    free(c->order);
    free(c->pieces.at);
    free(c->items);
    free(c);
    *collect = NULL;
}

/* The queue that was asked for last, or the one that came behind it when both came first: fan-outs name the same queues in the same
 * order, and a table of a hundred thousand is not in the processor's cache. */
static uint32_t collect_queue(struct jrn_collect *c, uint64_t id)
{
    bool fresh;
    for (uint32_t i = c->last_queue; i < c->nqueue && i <= c->last_queue + 1; i++)
        if (c->queues[i].id == id)
            return c->last_queue = i;
    uint32_t *at = jrn_map_put(&c->queue_of, id, &fresh);
    if (fresh) {
        *at = c->nqueue;
        *COLLECT_PUSH(c, queues, nqueue, cap_queue) = (struct collect_queue){.id = id};
    }
    return c->last_queue = *at;
}

/* ---- settled ranges ---------------------------------------------------------------------------------------- */

static void collect_gone(struct jrn_collect *c, struct mqg_slice main)
{
    struct jrn_ranges it;
    struct mqg_range r;
    bool ok = jrn_ranges_init(&it, main);
    uint32_t at = ok ? collect_queue(c, it.queue_id) : 0;
    struct collect_queue *q = ok ? &c->queues[at] : NULL;
    while (ok && jrn_ranges_next(&it, &r)) {
        struct mqg_range *last = q->ngone ? &q->gone[q->ngone - 1] : NULL;
        if (last && r.first >= last->first && r.first - 1 <= last->last) {
            if (r.last > last->last)
                last->last = r.last;
        } else {
            *COLLECT_PUSH(q, gone, ngone, cap_gone) = r;
        }
    }
}

static int collect_entry_order(const void *a, const void *b, void *arg)
{
    const struct jrn_entry *entries = arg;
    uint32_t i = *(const uint32_t *)a, k = *(const uint32_t *)b;
    if (entries[i].qseq != entries[k].qseq)
        return entries[i].qseq < entries[k].qseq ? -1 : 1;
    return i < k ? -1 : i > k; /* the later copy last */
}

static void collect_sort(struct jrn_collect *c, uint32_t *order, uint32_t n)
{
    bool sorted = true;
    for (uint32_t i = 1; i < n && sorted; i++)
        sorted = c->entries[order[i - 1]].qseq < c->entries[order[i]].qseq;
    if (!sorted)
        qsort_r(order, n, sizeof *order, collect_entry_order, c->entries);
}

/* The entries of one queue in this run, without what was settled and without older copies. */
static void collect_cut_queue(struct jrn_collect *c, struct collect_queue *q, uint32_t *order, uint32_t n)
{
    struct jrn_entry *out = mqg_xmalloc((size_t)n * sizeof *out);
    uint32_t kept = 0, gone = 0;
    collect_sort(c, order, n);
    for (uint32_t i = 0; i < n; i++) {
        const struct jrn_entry *e = &c->entries[order[i]];
        while (gone < q->ngone && q->gone[gone].last < e->qseq)
            gone++;
        bool settled = gone < q->ngone && q->gone[gone].first <= e->qseq;
        bool again = i + 1 < n && c->entries[order[i + 1]].qseq == e->qseq;
        if (!settled && !again)
            out[kept++] = *e;
    }
    jrn_pieces_cut(&c->pieces, out, kept);
    free(out);
}

/* Ends a run: everything collected becomes pieces. */
static void collect_run(struct jrn_collect *c)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < c->nqueue; at += c->queues[i++].n)
        c->queues[i].at = at;
    if (c->n)
        c->order = mqg_xrealloc(c->order, (size_t)c->n * sizeof *c->order);
    for (uint32_t i = 0; i < c->n; i++)
        c->order[c->queues[c->owner[i]].at++] = i;
    for (uint32_t i = 0; i < c->nqueue; i++) {
        struct collect_queue *q = &c->queues[i];
        q->ngone = jrn_ranges_merge(q->gone, q->ngone);
        if (q->n)
            collect_cut_queue(c, q, c->order + (q->at - q->n), q->n);
        q->n = 0;
    }
    c->runs += c->n != 0;
    c->n = 0;
}

/* ---- records --------------------------------------------------------------------------------------------------- */

/* A destination's share of what a message takes on the disk. */
static uint32_t collect_share(uint32_t len, uint64_t ndest)
{
    uint64_t eights = ((uint64_t)JRN_REC_HEAD + len + 16) / 8 / (ndest ? ndest : 1);
    return (uint32_t)(eights ? eights : 1);
}

static void collect_dests(struct jrn_collect *c, struct mqg_slice tail, struct jrn_entry e)
{
    struct jrn_dests it;
    struct mqg_dest d;
    bool ok = jrn_dests_init(&it, tail);
    e.eights = collect_share(e.len, it.left);
    while (ok && jrn_dests_next(&it, &d)) {
        if (c->n == COLLECT_RUN)
            collect_run(c);
        if (c->n == c->cap) {
            c->cap = c->cap ? c->cap * 2 : 1024;
            c->cap = c->cap < COLLECT_RUN ? c->cap : COLLECT_RUN;
            c->entries = mqg_xrealloc(c->entries, (size_t)c->cap * sizeof *c->entries);
            c->owner = mqg_xrealloc(c->owner, (size_t)c->cap * sizeof *c->owner);
        }
        uint32_t q = collect_queue(c, d.queue_id);
        e.queue_id = d.queue_id;
        e.qseq = d.qseq;
        c->owner[c->n] = q;
        c->entries[c->n++] = e;
        c->queues[q].n++;
    }
}

static struct jrn_entry collect_msg(const struct jrn_rec *rec, uint64_t off)
{
    struct mqg_stored head;
    struct jrn_entry e = {.len = 0};
    if (!jrn_stored_check(rec->main, &head))
        return e;
    return (struct jrn_entry){.append_us = head.append_us,
                              .ttl_ms = head.ttl_ms,
                              .off = (uint32_t)off,
                              .len = (uint32_t)rec->main.len,
                              .body_len = head.body_len,
                              .proto = head.proto,
                              .flags = head.flags,
                              .priority = head.priority,
                              .key_sep = head.key_sep};
}

/* Of trims the highest counts, whatever their order. */
static bool collect_higher(const struct jrn_collect *c, const struct collect_word *had, struct mqg_slice main)
{
    return had->type == JRN_REC_TRIM && main.len >= 16 &&
           mqg_le64(mqg_dynbuf_view(&c->words).ptr + had->at + 8) > mqg_le64(main.ptr + 8);
}

/* The key has a word more: which of those before count no longer? */
static void collect_void(struct jrn_collect *c, uint32_t last, struct mqg_slice main)
{
    struct collect_word *w = &c->items[last];
    for (int kept = 1; w->type == JRN_REC_PRODUCER && kept < COLLECT_PRODUCERS; kept++) {
        if (w->before == 0)
            return;
        w = &c->items[w->before - 1];
    }
    w->void_ = w->void_ || !collect_higher(c, w, main);
}

static void collect_word(struct jrn_collect *c, const struct jrn_rec *rec, uint64_t off, uint64_t term)
{
    struct jrn_keyed key = {0};
    uint8_t head[JRN_BATCH_HEAD];
    struct mqg_slice main = rec->main;
    bool fresh;
    if (rec->type == JRN_REC_BATCH) { /* its bytes stay where they are */
        memcpy(head, main.ptr, JRN_BATCH_HEAD);
        mqg_put_le32(head + 28, (uint32_t)(main.len - JRN_BATCH_HEAD));
        main = mqg_slice_of(head, sizeof head);
    }
    struct collect_word word = {.at = mqg_dynbuf_view(&c->words).len,
                                .term = rec->type == JRN_REC_BATCH ? term : 0,
                                .off = (uint32_t)off,
                                .len = (uint32_t)main.len,
                                .type = rec->type,
                                .flags = rec->flags,
                                .keyed = jrn_key_of(rec->type, rec->main, &key)};
    word.hash2 = key.hash2;
    if (word.keyed) {
        uint32_t *at = jrn_map_put(&c->key_of, key.hash, &fresh);
        if (!fresh && c->items[*at].hash2 == key.hash2) {
            word.before = *at + 1;
            collect_void(c, *at, main);
        }
        *at = c->nitem;
    }
    c->full = !mqg_dynbuf_slice(&c->words, main) || c->full;
    *COLLECT_PUSH(c, items, nitem, cap_item) = word;
}

static void collect_record(struct jrn_collect *c, const struct jrn_rec *rec, uint64_t off, uint64_t term,
                           struct jrn_entry *msg)
{
    switch (rec->type) {
    case JRN_REC_MSG:
        *msg = collect_msg(rec, off);
        if (msg->len)
            collect_dests(c, rec->tail, *msg);
        return;
    case JRN_REC_DESTS:
        if (msg->len)
            collect_dests(c, rec->tail, *msg);
        return;
    case JRN_REC_SETTLE:
    case JRN_REC_QSTATE: collect_gone(c, rec->main); return;
    case JRN_REC_NOP:
    case JRN_REC_SEAL:
    case JRN_REC_MANIFEST:
    case JRN_REC_FREE:
    case JRN_REC_ADOPT: return; /* of the tail's interest only */
    default:
        if (rec->type < JRN_REC_TYPES)
            collect_word(c, rec, off, term);
        return;
    }
}

enum mqg_err jrn_collect_frame(struct jrn_collect *c, const char *name, struct mqg_slice bytes,
                               const struct jrn_use *use, const struct jrn_frame *frame, struct mqg_error *e)
{
    struct jrn_walk w;
    struct jrn_rec rec;
    struct jrn_entry msg = {.len = 0};
    /* Structure first, whole: a frame takes effect as one. */
    jrn_walk_init(&w, bytes, use, false);
    while (jrn_walk_next(&w, &rec)) {
        enum mqg_err err = jrn_rec_check(&rec);
        if (err != MQG_OK)
            return mqg_error_set(e, err, 0, "%s at %llu holds a record of type %u (%s) that %s", name,
                                 (unsigned long long)(frame->offset + rec.frame_off), rec.type,
                                 jrn_rec_name(rec.type),
                                 err == MQG_UNSUPPORTED ? "this version does not know" : "does not check");
    }
    jrn_walk_init(&w, bytes, use, false);
    while (jrn_walk_next(&w, &rec))
        collect_record(c, &rec, frame->offset + rec.frame_off, frame->term, &msg);
    if (frame->term > c->term)
        c->term = frame->term;
    return MQG_OK;
}

/* ---- the end ------------------------------------------------------------------------------------------------------ */

static void collect_row(struct jrn_collect *c, struct jrn_digest *d, const struct jrn_cut *p,
                        struct mqg_slice bytes)
{
    struct jrn_page page;
    struct jrn_entry e;
    struct jrn_row row = {.queue_id = p->queue_id,
                          .first = p->first,
                          .last = p->last,
                          .count = p->count,
                          .page_off = d->pages_bytes,
                          .page_len = p->len,
                          .eights = p->eights,
                          .page_crc = jrn_crc32c(0, bytes.ptr, bytes.len)};
    jrn_page_init(&page, bytes, p->queue_id, p->first, p->count);
    while (jrn_page_next(&page, &e))
        row.body_bytes += e.body_len;
    c->full = !mqg_dynbuf_slice(&d->pages, bytes) || c->full;
    d->pages_bytes += bytes.len;
    d->rows[d->nrow++] = row;
}

static void collect_small(struct jrn_collect *c, struct jrn_digest *d, const struct jrn_cut *p,
                          struct mqg_slice bytes)
{
    bool good = mqg_dynbuf_varint(&d->small, p->queue_id) && mqg_dynbuf_varint(&d->small, p->first) &&
                mqg_dynbuf_varint(&d->small, p->count) && mqg_dynbuf_varint(&d->small, p->eights) &&
                mqg_dynbuf_varint(&d->small, p->len) && mqg_dynbuf_slice(&d->small, bytes);
    c->full = !good || c->full;
}

static void collect_say(struct jrn_collect *c, struct jrn_digest *d)
{
    struct mqg_slice words = mqg_dynbuf_view(&c->words);
    for (uint32_t i = 0; i < c->nitem; i++) {
        const struct collect_word *w = &c->items[i];
        if (!w->void_)
            c->full = !jrn_said_put(&d->said, w->type, w->flags, w->off, w->term,
                                    mqg_slice_of(words.ptr + w->at, w->len)) ||
                      c->full;
    }
    for (uint32_t i = 0; i < c->nqueue; i++) {
        const struct collect_queue *q = &c->queues[i];
        if (q->ngone == 0)
            continue;
        struct mqg_dynbuf main;
        uint64_t next = 0;
        mqg_dynbuf_init(&main, JRN_CHUNK_MAX);
        bool good = mqg_dynbuf_le64(&main, q->id) && mqg_dynbuf_varint(&main, q->ngone);
        for (uint32_t k = 0; k < q->ngone; next = q->gone[k++].last)
            good = good && mqg_dynbuf_varint(&main, q->gone[k].first - next) &&
                   mqg_dynbuf_varint(&main, q->gone[k].last - q->gone[k].first);
        good = good && jrn_said_put(&d->said, JRN_REC_QSTATE, 0, 0, 0, mqg_dynbuf_view(&main));
        c->full = !good || c->full;
        mqg_dynbuf_fini(&main);
    }
}

/* The pieces of one queue, from `first` on; where the next queue's begin. All are rows when one is large enough: a queue with a
 * row is long, and could not be forgotten from a piece without one on. */
static uint32_t collect_queue_out(struct jrn_collect *c, struct jrn_digest *d, uint32_t first)
{
    const struct jrn_cut *at = c->pieces.at;
    bool rows = false;
    uint32_t end = first;
    for (; end < c->pieces.n && at[end].queue_id == at[first].queue_id; end++)
        rows = rows || at[end].count >= c->row_min;
    for (uint32_t i = first; i < end; i++) {
        struct mqg_slice bytes = mqg_slice_of(mqg_dynbuf_view(&c->pieces.raw).ptr + at[i].at, at[i].len);
        if (c->full || at[i].count == 0)
            continue;
        if (rows)
            collect_row(c, d, &at[i], bytes);
        else
            collect_small(c, d, &at[i], bytes);
    }
    return end;
}

enum mqg_err jrn_collect_end(struct jrn_collect *c, struct jrn_digest *d)
{
    collect_run(c);
    jrn_pieces_order(&c->pieces, c->runs > 1, c->row_min);
    c->full = c->full || c->pieces.full;
    d->term = c->term;
    d->rows = mqg_xcalloc(c->pieces.n ? c->pieces.n : 1, sizeof *d->rows);
    for (uint32_t i = 0; i < c->pieces.n;)
        i = collect_queue_out(c, d, i);
    collect_say(c, d);
    return c->full ? MQG_NO_SPACE : MQG_OK;
}
