/* restate.c - reads a segment that is to go and writes what still counts into a chunk.
 *
 * Facts first ask a cheap question: does any other segment hold messages of this queue in this span? A busy
 * queue moves on, its settles and its messages leave together, and the answer is mostly no. Where it is yes, and what the
 * segment settles of that queue is one range (a queue that is consumed in order), the range is known from memory. So of a
 * segment of busy queues nothing is read but its last words, by their places. A slow queue's old segment makes the answer yes for what was published beside it;
 * those facts are few ranges once they are merged. Facts about qseqs above all that ever came (a SETTLE that
 * overtook its MSG) are kept as well. */
#include "restate.h"

#include "reread.h"

#include <stdlib.h>

enum {
    RESTATE_LANE = 0xfffe,
    /* Last words in one chunk: so many, of so many bytes, in segments of this size, and fewer in smaller ones. */
    RESTATE_SEGMENT = 64 << 20,
    RESTATE_WORDS = 1024,
    RESTATE_BYTES = 128 << 10,
};

struct restate_facts {
    uint64_t queue_id;
    struct mqg_range *at;
    uint32_t n, cap;
};

struct restate {
    struct mqg_store *s;
    struct jrn_seg *seg;
    struct jrn_chunk *c;
    bool oldest;
    struct jrn_map queue_of;
    struct restate_facts *queues;
    uint32_t nqueue, cap_queue;
    size_t moved_bytes;
};

/* ---- who still needs a fact ---------------------------------------------------------------------------- */

static bool restate_overlaps(const struct jrn_span *span, uint64_t first, uint64_t last)
{
    return span && span->first <= last && span->last >= first;
}

/* May some message of the span be in another segment, or still come? Under seg_lock. */
static bool restate_needed(const struct mqg_store *s, const struct jrn_seg *leaving, uint64_t queue_id,
                           uint64_t first, uint64_t last)
{
    const struct jrn_span *high = jrn_spans_get(&s->high, queue_id);
    if (!high || last > high->last)
        return true;
    for (const struct jrn_seg *seg = s->segs; seg; seg = seg->next)
        if (seg != leaving && restate_overlaps(jrn_spans_get(&seg->msgs, queue_id), first, last))
            return true;
    return false;
}

static bool restate_wants(struct restate *rs, uint64_t queue_id, uint64_t first, uint64_t last)
{
    pthread_mutex_lock(&rs->s->seg_lock);
    bool wants = restate_needed(rs->s, rs->seg, queue_id, first, last);
    pthread_mutex_unlock(&rs->s->seg_lock);
    return wants;
}

/* ---- collecting ---------------------------------------------------------------------------------------- */

static void restate_fact(struct restate *rs, uint64_t queue_id, struct mqg_range r)
{
    bool fresh;
    uint32_t *at = jrn_map_put(&rs->queue_of, queue_id, &fresh);
    if (fresh) {
        if (rs->nqueue == rs->cap_queue) {
            rs->cap_queue = rs->cap_queue ? rs->cap_queue * 2 : 16;
            rs->queues = mqg_xrealloc(rs->queues, rs->cap_queue * sizeof *rs->queues);
        }
        *at = rs->nqueue;
        rs->queues[rs->nqueue++] = (struct restate_facts){.queue_id = queue_id};
    }
    struct restate_facts *q = &rs->queues[*at];
    struct mqg_range *last = q->n ? &q->at[q->n - 1] : NULL;
    if (last && r.first >= last->first && r.first <= last->last + 1) {
        if (r.last > last->last)
            last->last = r.last;
        return;
    }
    if (q->n == q->cap) {
        q->cap = q->cap ? q->cap * 2 : 8;
        q->at = mqg_xrealloc(q->at, q->cap * sizeof *q->at);
    }
    q->at[q->n++] = r;
}

/* The tombstone of a partition hides its files, until they are gone for good. */
static bool restate_hides(const struct restate *rs, const struct jrn_rec *rec)
{
    return rec->type == JRN_REC_STREAM && !jrn_stream_removed(rs->s, mqg_le64(rec->main.ptr));
}

static void restate_keyed(struct restate *rs, const struct jrn_rec *rec, uint32_t off)
{
    struct jrn_keyed key = {0};
    if (!jrn_key_of(rec->type, rec->main, &key))
        return;
    /* Trims of several lanes may come in any order, and the highest counts: it alone is said again, as a new word, which a lower
     * one that comes meanwhile does not make void. */
    bool last = jrn_keys_is(&rs->s->keys, &key, rs->seg->seq, off);
    if (!(key.trim ? jrn_stream_starts(rs->s, rec->main) : last)) {
        if (last)
            jrn_keys_drop(&rs->s->keys, &key);
        return;
    }
    /* Of a deleted partition only the tombstone matters, and a tombstone only while something older stands.
     * */
    bool of_gone = rec->type != JRN_REC_META && rec->type != JRN_REC_STREAM && rec->main.len >= 8 &&
                   jrn_stream_gone(rs->s, mqg_le64(rec->main.ptr));
    if (of_gone || (key.gone && rs->oldest && !restate_hides(rs, rec))) {
        if (last)
            jrn_keys_drop(&rs->s->keys, &key);
        return;
    }
    key.restated = last && !key.trim;
    key.old_seq = rs->seg->seq;
    key.old_off = off;
    key.arena_off = (uint32_t)rs->c->len;
    key.off = jrn_chunk_raw(rs->c, rec->type, rec->flags, rec->main);
    jrn_chunk_note_key(rs->c, key);
    rs->c->restates = rs->c->restates || key.restated;
    rs->moved_bytes += rec->main.len;
}

static void restate_record(struct restate *rs, const struct jrn_rec *rec, uint32_t off)
{
    struct jrn_ranges it;
    struct mqg_range r;
    struct jrn_count count;
    switch (rec->type) {
    case JRN_REC_SETTLE:
    case JRN_REC_QSTATE:
        for (bool ok = jrn_ranges_init(&it, rec->main); ok && jrn_ranges_next(&it, &r);)
            restate_fact(rs, it.queue_id, r);
        return;
    case JRN_REC_COUNT:
        if (jrn_rec_count(rec->main, &count) && restate_wants(rs, count.queue_id, count.qseq, count.qseq))
            jrn_chunk_count(rs->c, &count);
        return;
    default: restate_keyed(rs, rec, off); return;
    }
}

/* ---- from memory ---------------------------------------------------------------------------------------- */

/* Reads one record, whose main stands at off; *buf grows. */
static bool restate_read_one(struct restate *rs, uint32_t off, uint8_t **buf, size_t *cap,
                             struct jrn_rec *rec)
{
    const struct mqg_store *s = rs->s;
    uint8_t head[JRN_REC_HEAD];
    if (off < JRN_HEADER_BYTES + JRN_REC_HEAD ||
        jrn_fs_read(s->fs, rs->seg->fd, head, sizeof head, off - JRN_REC_HEAD) != (ssize_t)sizeof head)
        return false;
    size_t len = mqg_le32(head + 12);
    if (len > atomic_load(&rs->seg->end) - off)
        return false;
    if (len > *cap) {
        *cap = len;
        *buf = mqg_xrealloc(*buf, len);
    }
    if (jrn_fs_read(s->fs, rs->seg->fd, *buf, len, off) != (ssize_t)len)
        return false;
    uint32_t crc = jrn_crc32c(mqg_le32(head + 4), head + 4, JRN_REC_HEAD - 4);
    *rec = (struct jrn_rec){.type = head[8], .flags = head[9], .main = mqg_slice_of(*buf, len)};
    return mqg_le32(head) == jrn_crc32c(crc, *buf, len) && jrn_rec_check(rec) == MQG_OK;
}

/* The bound of a kind for this store's segments. */
static uint32_t restate_most(const struct mqg_store *s, uint64_t of_large)
{
    uint64_t most = of_large * s->segment_bytes / RESTATE_SEGMENT;
    return most < 1 ? 1 : most > of_large ? (uint32_t)of_large : (uint32_t)most;
}

/* Words from the at-th on, as many as a chunk may have, or all; where it ended, or UINT32_MAX: one does not check. */
static uint32_t restate_words(struct restate *rs, const struct jrn_words *w, uint32_t at, bool all)
{
    uint32_t most = restate_most(rs->s, RESTATE_WORDS), bytes = restate_most(rs->s, RESTATE_BYTES);
    struct jrn_rec rec;
    uint8_t *buf = NULL;
    size_t cap = 0;
    for (; at < w->n && (all || (rs->c->nkeyed < most && rs->c->len < bytes)); at++) {
        if (!restate_read_one(rs, w->offs[at], &buf, &cap, &rec)) {
            at = UINT32_MAX;
            break;
        }
        restate_keyed(rs, &rec, w->offs[at]);
    }
    free(buf);
    return at;
}

/* Facts that are one settled range per queue are known without the file; false: it must be read. */
static bool restate_known(struct restate *rs)
{
    const struct jrn_spans *facts = &rs->seg->facts;
    bool known = !rs->seg->trims;
    pthread_mutex_lock(&rs->s->seg_lock);
    for (uint32_t i = 0; i < facts->list.n && known; i++) {
        const struct jrn_span *span = &facts->list.at[i];
        if (!restate_needed(rs->s, rs->seg, span->queue_id, span->first, span->last))
            continue;
        known = span->count == 0;
        if (known)
            restate_fact(rs, span->queue_id, (struct mqg_range){span->first, span->last});
    }
    pthread_mutex_unlock(&rs->s->seg_lock);
    return known;
}

/* ---- reading ------------------------------------------------------------------------------------------- */

static bool restate_frame(void *arg, uint64_t off, struct mqg_slice bytes)
{
    struct restate *rs = arg;
    struct jrn_walk w;
    struct jrn_rec rec;
    jrn_walk_init(&w, bytes, &rs->seg->use, false);
    while (jrn_walk_next(&w, &rec))
        restate_record(rs, &rec, (uint32_t)(off + rec.frame_off));
    return true;
}

/* ---- writing ------------------------------------------------------------------------------------------- */

static int restate_order(const void *a, const void *b)
{
    const struct mqg_range *x = a, *y = b;
    return x->first < y->first ? -1 : x->first > y->first;
}

/* Sorts, merges and keeps the ranges that somebody needs. */
static uint32_t restate_merge(struct restate *rs, struct restate_facts *q)
{
    uint32_t n = 0, kept = 0;
    qsort(q->at, q->n, sizeof *q->at, restate_order);
    for (uint32_t i = 0; i < q->n; i++) {
        if (n && q->at[i].first <= q->at[n - 1].last + 1) {
            if (q->at[i].last > q->at[n - 1].last)
                q->at[n - 1].last = q->at[i].last;
        } else {
            q->at[n++] = q->at[i];
        }
    }
    for (uint32_t i = 0; i < n; i++)
        if (restate_wants(rs, q->queue_id, q->at[i].first, q->at[i].last))
            q->at[kept++] = q->at[i];
    return kept;
}

static void restate_facts(struct restate *rs)
{
    for (uint32_t i = 0; i < rs->nqueue; i++) {
        struct restate_facts *q = &rs->queues[i];
        uint32_t n = restate_merge(rs, q);
        if (n)
            jrn_chunk_ranges(rs->c, JRN_REC_QSTATE, q->queue_id, q->at, n);
        free(q->at);
    }
    free(rs->queues);
    jrn_map_fini(&rs->queue_of);
}

/* The cold segments that hold what was live here count from the same frame on. */
static void restate_adopt(struct restate *rs, const struct jrn_part *parts, uint32_t nparts)
{
    uint8_t rows[JRN_PARTS_MAX * JRN_MANIFEST_ROW];
    for (uint32_t i = 0; i < nparts; i++) {
        uint8_t *p = rows + i * JRN_MANIFEST_ROW;
        mqg_put_le64(p, parts[i].seg->seq);
        mqg_put_le64(p + 8, parts[i].seg->use.nonce);
        mqg_put_le64(p + 16, parts[i].last_number);
        mqg_put_le64(p + 24, parts[i].end);
        rs->c->parts[i] = parts[i];
    }
    rs->c->nparts = nparts;
    if (nparts)
        (void)jrn_chunk_raw(rs->c, JRN_REC_ADOPT, 0, mqg_slice_of(rows, nparts * JRN_MANIFEST_ROW));
}

static void restate_free(struct restate *rs)
{
    uint8_t row[JRN_FREE_ROW];
    mqg_put_le64(row, rs->seg->seq);
    mqg_put_le64(row + 8, rs->seg->use.nonce);
    (void)jrn_chunk_raw(rs->c, JRN_REC_FREE, 0, mqg_slice_of(row, sizeof row));
    rs->c->frees = rs->seg;
    jrn_chunk_end(rs->c);
}

/* An empty chunk, nothing collected; what was begun is forgotten. */
static void restate_begin(struct restate *rs)
{
    struct mqg_store *s = rs->s;
    unsigned flags = atomic_load(&s->blocked) ? MQG_SUBMIT_URGENT : 0;
    jrn_chunk_free(&rs->c);
    for (uint32_t i = 0; i < rs->nqueue; i++)
        free(rs->queues[i].at);
    free(rs->queues);
    jrn_map_fini(&rs->queue_of);
    *rs = (struct restate){.s = s, .seg = rs->seg, .oldest = rs->oldest, .c = jrn_chunk_new()};
    jrn_chunk_begin(rs->c, RESTATE_LANE, 0, flags, atomic_fetch_add(&s->salt, 1));
}

/* Is it worth it, if the words that are left are like those that were said? */
static bool restate_gains(const struct mqg_store *s, const struct jrn_words *w, uint32_t said, uint64_t bytes)
{
    return said == 0 || bytes / said * w->n <= s->segment_bytes / 2;
}

bool jrn_restate_ahead(struct mqg_store *s, struct jrn_seg *seg, bool oldest, struct jrn_words *w,
                       struct jrn_chunk **out)
{
    struct restate rs = {.s = s, .seg = seg, .oldest = oldest};
    *out = NULL;
    restate_begin(&rs);
    uint32_t end = restate_words(&rs, w, w->said, false);
    bool good = end != UINT32_MAX && restate_gains(s, w, end, w->bytes + rs.moved_bytes);
    if (!good || end == w->n) {
        jrn_chunk_free(&rs.c);
        return good;
    }
    w->said = end;
    w->bytes += rs.moved_bytes;
    jrn_chunk_end(rs.c);
    *out = rs.c;
    return true;
}

struct jrn_chunk *jrn_restate(struct mqg_store *s, struct jrn_seg *seg, bool oldest,
                              const struct jrn_words *w, const struct jrn_part *parts, uint32_t nparts)
{
    struct restate rs = {.s = s, .seg = seg, .oldest = oldest};
    restate_begin(&rs);
    bool good = restate_known(&rs) && restate_words(&rs, w, w->said, true) == w->n;
    if (!good) {
        restate_begin(&rs);
        good = jrn_reread(s, seg, restate_frame, &rs);
    }
    restate_facts(&rs);
    if (good && w->bytes + rs.moved_bytes <= s->segment_bytes / 2) {
        restate_adopt(&rs, parts, nparts);
        restate_free(&rs);
        return rs.c;
    }
    jrn_chunk_free(&rs.c);
    return NULL;
}

/* ---- the list of words ----------------------------------------------------------------------------------- */

void jrn_words_of(struct mqg_store *s, struct jrn_words *w, const struct jrn_seg *seg)
{
    if (w->seq == seg->seq)
        return;
    jrn_words_fini(w);
    w->seq = seg->seq;
    if (seg->keyed)
        w->offs = jrn_keys_in(&s->keys, seg->seq, &w->n);
}

void jrn_words_fini(struct jrn_words *w)
{
    free(w->offs);
    *w = (struct jrn_words){0};
}
