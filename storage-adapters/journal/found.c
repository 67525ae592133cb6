/* found.c - the journal's records, collected in log order and told in the host's: metadata, then each queue
 * by qseq.
 *
 * A backlog of ten million is read here, so an entry is 48 bytes in a vector per queue, with what an index
 * entry needs of the stored form's head; settled ranges are merged when they come in order, which they mostly
 * do. Order in the log says nothing: a SETTLE may stand before its MSG, queues are sorted by qseq (already
 * nearly so) and swept against the merged ranges. Counts only grow, so the larger one holds; settled facts
 * are never taken back; of keyed records the last in the log holds. So reading a record twice, or an old one
 * again, changes nothing. */
#include "found.h"

#include "account.h"

#include <stdlib.h>

/* The head of a message as recovery tells it: what an index needs; lengths but the body's, identity and times
 * but append_us are read with the message itself. */
struct found_msg {
    uint64_t qseq, append_us, ttl_ms;
    uint32_t seg, off, len, body_len;
    uint8_t proto, flags, priority, key_sep;
};

struct found_count {
    uint64_t qseq;
    uint32_t delivery_count, acquired_count;
};

struct found_queue {
    uint64_t id;
    struct found_msg *msgs;
    struct mqg_range *gone;
    struct found_count *counts;
    uint32_t nmsg, cap_msg, ngone, cap_gone, ncount, cap_count;
};

struct found_meta {
    uint8_t *bytes; /* key, value */
    uint32_t key_len;
    size_t len;
    bool remove;
};

struct jrn_found {
    struct mqg_store *s;
    struct jrn_map queue_of, meta_of;
    struct found_queue *queues;
    struct found_meta *metas;
    struct jrn_seg **segs;
    uint32_t nqueue, cap_queue, nmeta, cap_meta, nseg, cap_seg;
    uint64_t told;
};

#define FOUND_PUSH(owner, list, count, cap)                                                                  \
    ((owner)->count == (owner)->cap                                                                          \
         ? (void)((owner)->cap = (owner)->cap ? (owner)->cap * 2 : 4,                                        \
                  (owner)->list = mqg_xrealloc((owner)->list, (size_t)(owner)->cap * sizeof *(owner)->list)) \
         : (void)0,                                                                                          \
     &(owner)->list[(owner)->count++])

struct jrn_found *jrn_found_new(struct mqg_store *s)
{
    struct jrn_found *f = mqg_xcalloc(1, sizeof *f);
    f->s = s;
    return f;
}

static void found_queue_fini(struct found_queue *q)
{
    free(q->msgs);
    free(q->gone);
    free(q->counts);
    q->msgs = NULL;
    q->gone = NULL;
    q->counts = NULL;
}

void jrn_found_free(struct jrn_found **found)
{
    struct jrn_found *f = *found;
    if (!f)
        return;
    for (uint32_t i = 0; i < f->nqueue; i++)
        found_queue_fini(&f->queues[i]);
    for (uint32_t i = 0; i < f->nmeta; i++)
        free(f->metas[i].bytes);
    jrn_map_fini(&f->queue_of);
    jrn_map_fini(&f->meta_of);
    free(f->queues);
    free(f->metas);
    free(f->segs);
    free(f);
    *found = NULL;
}

static struct found_queue *found_queue(struct jrn_found *f, uint64_t id)
{
    bool fresh;
    uint32_t *at = jrn_map_put(&f->queue_of, id, &fresh);
    if (fresh) {
        *at = f->nqueue;
        *FOUND_PUSH(f, queues, nqueue, cap_queue) = (struct found_queue){.id = id};
    }
    return &f->queues[*at];
}

/* ---- records ------------------------------------------------------------------------------------------- */

static void found_dests(struct jrn_found *f, struct jrn_seg *seg, struct mqg_slice tail, struct found_msg m)
{
    struct jrn_dests it;
    struct mqg_dest d;
    uint32_t share = 0;
    for (bool ok = jrn_dests_init(&it, tail); ok && jrn_dests_next(&it, &d);) {
        struct found_queue *q = found_queue(f, d.queue_id);
        m.qseq = d.qseq;
        *FOUND_PUSH(q, msgs, nmsg, cap_msg) = m;
        if (share == 0)
            share = (JRN_REC_HEAD + m.len + 16) / 8 / ((uint32_t)it.left + 1);
        jrn_spans_hold(&seg->msgs, &(struct jrn_span){d.queue_id, d.qseq, d.qseq, 1, share ? share : 1});
        jrn_spans_add(&f->s->high, d.queue_id, d.qseq, d.qseq);
    }
}

/* What was settled in an earlier life never gets a message any more: the high mark covers it. */
static void found_fact(struct jrn_found *f, struct jrn_seg *seg, uint64_t queue_id, uint64_t first,
                       uint64_t last)
{
    jrn_spans_add(&seg->facts, queue_id, first, last);
    jrn_spans_add(&f->s->high, queue_id, last, last);
}

static void found_ranges(struct jrn_found *f, struct jrn_seg *seg, struct mqg_slice main)
{
    struct jrn_ranges it;
    struct mqg_range r;
    bool ok = jrn_ranges_init(&it, main);
    struct found_queue *q = ok ? found_queue(f, it.queue_id) : NULL;
    while (ok && jrn_ranges_next(&it, &r)) {
        found_fact(f, seg, q->id, r.first, r.last);
        struct mqg_range *last = q->ngone ? &q->gone[q->ngone - 1] : NULL;
        if (last && r.first >= last->first && r.first <= last->last + 1) {
            if (r.last > last->last)
                last->last = r.last;
        } else {
            *FOUND_PUSH(q, gone, ngone, cap_gone) = r;
        }
    }
}

static void found_meta(struct jrn_found *f, const struct jrn_meta *m, const struct jrn_keyed *key)
{
    bool fresh;
    uint32_t *at = jrn_map_put(&f->meta_of, key->hash, &fresh);
    if (fresh) {
        *at = f->nmeta;
        *FOUND_PUSH(f, metas, nmeta, cap_meta) = (struct found_meta){.bytes = NULL};
    }
    struct found_meta *meta = &f->metas[*at];
    free(meta->bytes);
    *meta = (struct found_meta){
        .key_len = (uint32_t)m->key.len, .len = m->key.len + m->value.len, .remove = m->remove};
    meta->bytes = mqg_xmalloc(meta->len ? meta->len : 1);
    memcpy(meta->bytes, m->key.ptr, m->key.len);
    if (m->value.len)
        memcpy(meta->bytes + m->key.len, m->value.ptr, m->value.len);
}

static void found_keyed(struct jrn_found *f, struct jrn_seg *seg, const struct jrn_rec *rec, uint64_t off)
{
    struct jrn_keyed key = {0};
    struct jrn_meta meta;
    struct jrn_stream_def def;
    struct jrn_stream_conf conf;
    struct jrn_triple t;
    if (!jrn_key_of(rec->type, rec->main, &key))
        return;
    seg->keyed = true;
    jrn_keys_set(&f->s->keys, &key, seg->seq, (uint32_t)off);
    if (rec->type == JRN_REC_META && jrn_rec_meta(rec->main, &meta))
        found_meta(f, &meta, &key);
    else if (rec->type == JRN_REC_STREAM && jrn_rec_stream(rec->main, &def))
        jrn_streams_found_def(f->s, &def);
    else if (rec->type == JRN_REC_TRIM && jrn_rec_trim(rec->main, &t))
        jrn_streams_found_trim(f->s, t.a, t.b);
    else if (rec->type == JRN_REC_CUT && jrn_rec_cut(rec->main, &t))
        jrn_streams_found_cut(f->s, t.a, t.b, t.c);
    else if (rec->type == JRN_REC_STREAM_CONF && jrn_rec_stream_conf(rec->main, &conf))
        jrn_streams_found_conf(f->s, &conf);
    else if (rec->type == JRN_REC_POSITION || rec->type == JRN_REC_PRODUCER)
        jrn_streams_found_word(f->s, rec->type, rec->main);
}

static void found_record(struct jrn_found *f, struct jrn_seg *seg, const struct jrn_rec *rec, uint64_t off,
                         uint64_t term, struct found_msg *msg)
{
    struct mqg_stored head;
    struct jrn_count count;
    struct jrn_batch batch;
    switch (rec->type) {
    case JRN_REC_MSG:
        if (!jrn_stored_check(rec->main, &head))
            return;
        *msg = (struct found_msg){.append_us = head.append_us,
                                  .ttl_ms = head.ttl_ms,
                                  .seg = f->nseg - 1,
                                  .off = (uint32_t)off,
                                  .len = (uint32_t)rec->main.len,
                                  .body_len = head.body_len,
                                  .proto = head.proto,
                                  .flags = head.flags,
                                  .priority = head.priority,
                                  .key_sep = head.key_sep};
        found_dests(f, seg, rec->tail, *msg);
        return;
    case JRN_REC_DESTS:
        if (msg->len)
            found_dests(f, seg, rec->tail, *msg);
        return;
    case JRN_REC_SETTLE:
    case JRN_REC_QSTATE: found_ranges(f, seg, rec->main); return;
    case JRN_REC_COUNT:
        if (jrn_rec_count(rec->main, &count)) {
            struct found_queue *q = found_queue(f, count.queue_id);
            found_fact(f, seg, count.queue_id, count.qseq, count.qseq);
            *FOUND_PUSH(q, counts, ncount, cap_count) = (struct found_count){count.qseq, count.delivery_count,
                                                                             count.acquired_count};
        }
        return;
    case JRN_REC_BATCH:
        if (jrn_rec_batch(rec->main, &batch))
            jrn_streams_found_batch(f->s, seg, off, &batch, term);
        return;
    default: found_keyed(f, seg, rec, off); return;
    }
}

enum mqg_err jrn_found_frame(struct jrn_found *f, struct jrn_seg *seg, struct mqg_slice bytes,
                             const struct jrn_frame *frame, struct mqg_error *e)
{
    struct jrn_walk w;
    struct jrn_rec rec;
    struct found_msg msg = {0};
    if (f->nseg == 0 || f->segs[f->nseg - 1] != seg)
        *FOUND_PUSH(f, segs, nseg, cap_seg) = seg;
    /* Structure first, whole: a frame takes effect as one. */
    jrn_walk_init(&w, bytes, &seg->use, false);
    while (jrn_walk_next(&w, &rec)) {
        enum mqg_err err = jrn_rec_check(&rec);
        if (err != MQG_OK)
            return mqg_error_set(e, err, 0, "%s at %llu holds a record of type %u (%s) that %s", seg->name,
                                 (unsigned long long)(frame->offset + rec.frame_off), rec.type,
                                 jrn_rec_name(rec.type),
                                 err == MQG_UNSUPPORTED ? "this version does not know" : "does not check");
    }
    jrn_walk_init(&w, bytes, &seg->use, false);
    while (jrn_walk_next(&w, &rec))
        found_record(f, seg, &rec, frame->offset + rec.frame_off, frame->term, &msg);
    return MQG_OK;
}

/* ---- telling ------------------------------------------------------------------------------------------- */

static int found_msg_order(const void *a, const void *b)
{
    const struct found_msg *x = a, *y = b;
    return x->qseq < y->qseq ? -1 : x->qseq > y->qseq;
}

static int found_range_order(const void *a, const void *b)
{
    const struct mqg_range *x = a, *y = b;
    return x->first < y->first ? -1 : x->first > y->first;
}

static int found_count_order(const void *a, const void *b)
{
    const struct found_count *x = a, *y = b;
    if (x->qseq != y->qseq)
        return x->qseq < y->qseq ? -1 : 1;
    return x->delivery_count < y->delivery_count ? -1 : x->delivery_count > y->delivery_count;
}

static void found_sort(struct found_queue *q)
{
    bool sorted = true;
    for (uint32_t i = 1; i < q->nmsg && sorted; i++)
        sorted = q->msgs[i - 1].qseq <= q->msgs[i].qseq;
    if (!sorted)
        qsort(q->msgs, q->nmsg, sizeof *q->msgs, found_msg_order);
    if (q->ncount)
        qsort(q->counts, q->ncount, sizeof *q->counts, found_count_order);
}

/* The last (largest) count of the qseq; *at moves forward only. */
static struct found_count found_count_of(const struct found_queue *q, uint32_t *at, uint64_t qseq)
{
    struct found_count c = {0};
    for (; *at < q->ncount && q->counts[*at].qseq <= qseq; (*at)++) {
        const struct found_count *row = &q->counts[*at];
        if (row->qseq != qseq)
            continue;
        c.delivery_count = row->delivery_count;
        if (row->acquired_count > c.acquired_count)
            c.acquired_count = row->acquired_count;
    }
    return c;
}

static void found_tell_msg(struct jrn_found *f, struct mqg_recover *r, const struct found_queue *q,
                           const struct found_msg *m, struct found_count count)
{
    struct jrn_seg *seg = f->segs[m->seg];
    struct mqg_stored head = {.version = MQG_STORED_VERSION,
                              .proto = m->proto,
                              .flags = m->flags,
                              .priority = m->priority,
                              .key_sep = m->key_sep,
                              .append_us = m->append_us,
                              .ttl_ms = m->ttl_ms,
                              .body_len = m->body_len};
    mqg_extent_take(seg->extent, 1);
    if (r->message && r->message(r->arg, q->id, m->qseq, seg->extent, m->off, m->len, &head,
                                 count.delivery_count, count.acquired_count))
        f->told++;
    else {
        mqg_extent_take(seg->extent, -1);
        jrn_account_found(f->s, q->id, m->qseq, m->qseq); /* its queue is gone, and with it the message */
    }
}

static void found_tell_queue(struct jrn_found *f, struct mqg_recover *r, struct found_queue *q)
{
    uint32_t gone = 0, count = 0;
    found_sort(q);
    for (uint32_t i = 0; q->nmsg && i < q->ngone; i++)
        jrn_account_found(f->s, q->id, q->gone[i].first, q->gone[i].last);
    for (uint32_t i = 0; i < q->nmsg; i++) {
        const struct found_msg *m = &q->msgs[i];
        if (i + 1 < q->nmsg && q->msgs[i + 1].qseq == m->qseq)
            continue;
        while (gone < q->ngone && q->gone[gone].last < m->qseq)
            gone++;
        struct found_count c = found_count_of(q, &count, m->qseq);
        if (gone < q->ngone && q->gone[gone].first <= m->qseq)
            continue;
        found_tell_msg(f, r, q, m, c);
    }
    found_queue_fini(q);
}

/* Ranges may lie inside each other; the sweep wants them apart. */
static void found_merge(struct found_queue *q)
{
    uint32_t n = 0;
    if (q->ngone)
        qsort(q->gone, q->ngone, sizeof *q->gone, found_range_order);
    for (uint32_t i = 0; i < q->ngone; i++) {
        struct mqg_range r = q->gone[i];
        if (n && r.first <= q->gone[n - 1].last + 1 && q->gone[n - 1].last != UINT64_MAX) {
            if (r.last > q->gone[n - 1].last)
                q->gone[n - 1].last = r.last;
        } else if (!n || q->gone[n - 1].last != UINT64_MAX) {
            q->gone[n++] = r;
        }
    }
    q->ngone = n;
}

void jrn_found_tell(struct jrn_found *f, struct mqg_recover *r)
{
    for (uint32_t i = 0; i < f->nmeta; i++) {
        const struct found_meta *m = &f->metas[i];
        if (!m->remove && r->meta)
            r->meta(r->arg, mqg_slice_of(m->bytes, m->key_len),
                    mqg_slice_of(m->bytes + m->key_len, m->len - m->key_len));
    }
    if (r->meta_end)
        r->meta_end(r->arg);
    for (uint32_t i = 0; i < f->nqueue; i++) {
        found_merge(&f->queues[i]);
        found_tell_queue(f, r, &f->queues[i]);
    }
}

uint64_t jrn_found_messages(const struct jrn_found *f)
{
    return f->told;
}
