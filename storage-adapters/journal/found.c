/* found.c - what the digests say, collected in log order, to be told in the host's: metadata, then each queue by qseq
 * (tell.c).
 *
 * Messages that stand in rows of a digest file are not collected: a reference to the row is enough, and its page is read only
 * when somebody must look inside. Only the tail's messages and small groups become items. Settled ranges are merged when they
 * come in order, which they mostly do. Order in the log says nothing: a SETTLE may stand before its MSG, queues are sorted by
 * qseq and swept against the merged ranges. Counts only grow, so the larger one holds; settled facts are never taken back; of
 * keyed records the last in the log holds. So reading a record twice, or an old one again, changes nothing. */
#include "found.h"

#include <stdlib.h>

struct found_meta {
    uint8_t *bytes; /* key, value */
    uint32_t key_len;
    size_t len;
    bool remove;
};

struct jrn_found *jrn_found_new(struct mqg_store *s)
{
    struct jrn_found *f = mqg_xcalloc(1, sizeof *f);
    f->s = s;
    return f;
}

void jrn_found_queue_fini(struct found_queue *q)
{
    free(q->items);
    free(q->rows);
    free(q->gone);
    free(q->counts);
    q->items = NULL;
    q->rows = NULL;
    q->gone = NULL;
    q->counts = NULL;
}

void jrn_found_free(struct jrn_found **found)
{
    struct jrn_found *f = *found;
    if (!f)
        return;
    for (uint32_t i = 0; i < f->nqueue; i++)
        jrn_found_queue_fini(&f->queues[i]);
    for (uint32_t i = 0; i < f->nmeta; i++)
        free(f->metas[i].bytes);
    jrn_map_fini(&f->queue_of);
    jrn_map_fini(&f->meta_of);
    free(f->queues);
    free(f->metas);
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

/* What was settled in an earlier life never gets a message any more: the high mark covers it. */
static void found_fact(struct jrn_found *f, struct jrn_seg *seg, const struct jrn_span *fact)
{
    jrn_spans_fact(&seg->facts, fact);
    jrn_spans_add(&f->s->high, fact->queue_id, fact->last, fact->last);
}

static void found_ranges(struct jrn_found *f, struct jrn_seg *seg, struct mqg_slice main)
{
    struct jrn_ranges it;
    struct mqg_range r;
    bool ok = jrn_ranges_init(&it, main);
    struct found_queue *q = ok ? found_queue(f, it.queue_id) : NULL;
    while (ok && jrn_ranges_next(&it, &r)) {
        found_fact(f, seg, &(struct jrn_span){q->id, r.first, r.last, 0, 0});
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
    seg->trims |= key.trim;
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

/* A record of a digest: of a batch its head only. */
static void found_record(struct jrn_found *f, struct jrn_seg *seg, const struct jrn_rec *rec, uint32_t off,
                         uint64_t term)
{
    struct jrn_count count;
    struct jrn_batch batch;
    switch (rec->type) {
    case JRN_REC_SETTLE:
    case JRN_REC_QSTATE: found_ranges(f, seg, rec->main); return;
    case JRN_REC_COUNT:
        if (jrn_rec_count(rec->main, &count)) {
            struct found_queue *q = found_queue(f, count.queue_id);
            found_fact(f, seg, &(struct jrn_span){count.queue_id, count.qseq, count.qseq, 1, 0});
            *FOUND_PUSH(q, counts, ncount, cap_count) = (struct found_count){count.qseq, count.delivery_count,
                                                                             count.acquired_count};
        }
        return;
    case JRN_REC_BATCH:
        if (rec->main.len == JRN_BATCH_HEAD && jrn_rec_batch(rec->main, &batch)) {
            batch.bytes = mqg_slice_of(NULL, mqg_le32(rec->main.ptr + 28));
            jrn_streams_found_batch(f->s, seg, off, &batch, term);
        }
        return;
    default: found_keyed(f, seg, rec, off); return;
    }
}

static bool found_said(struct jrn_found *f, struct jrn_seg *seg, const struct jrn_digest *d)
{
    struct jrn_said it = {mqg_cursor_of(mqg_dynbuf_view(&d->said))};
    struct jrn_rec rec;
    uint32_t off;
    uint64_t term;
    while (jrn_said_next(&it, &rec, &off, &term))
        found_record(f, seg, &rec, off, term);
    return !it.c.failed;
}

static void found_seen(struct jrn_found *f, struct jrn_seg *seg, const struct jrn_span *span)
{
    jrn_spans_hold(&seg->msgs, span);
    jrn_spans_add(&f->s->high, span->queue_id, span->last, span->last);
}

/* The entries of a page, one by one. */
static bool found_page(struct jrn_found *f, struct jrn_seg *seg, struct jrn_page *page)
{
    struct found_queue *q = found_queue(f, page->last.queue_id);
    struct found_item item = {.seg = seg};
    uint64_t first = page->last.qseq + 1;
    while (jrn_page_next(page, &item.e))
        *FOUND_PUSH(q, items, nitem, cap_item) = item;
    found_seen(f, seg, &(struct jrn_span){q->id, first, page->last.qseq, page->count, page->eights});
    return jrn_page_whole(page);
}

static bool found_smalls(struct jrn_found *f, struct jrn_seg *seg, const struct jrn_digest *d)
{
    struct jrn_small it = {mqg_cursor_of(mqg_dynbuf_view(&d->small))};
    struct jrn_page page;
    bool good = true;
    while (good && jrn_small_next(&it, &page))
        good = found_page(f, seg, &page);
    return good && !it.c.failed;
}

/* Rows whose pages are at hand and in no file: all their entries become items. */
static bool found_pages(struct jrn_found *f, struct jrn_seg *seg, const struct jrn_digest *d)
{
    struct mqg_slice pages = mqg_dynbuf_view(&d->pages);
    bool good = true;
    for (uint32_t i = 0; i < d->nrow && good; i++) {
        const struct jrn_row *row = &d->rows[i];
        struct jrn_page page;
        jrn_page_init(&page, mqg_slice_of(pages.ptr + row->page_off, row->page_len), row->queue_id,
                      row->first, row->count);
        page.eights = row->eights;
        good = found_page(f, seg, &page);
    }
    return good;
}

bool jrn_found_digest(struct jrn_found *f, struct jrn_seg *seg, struct jrn_digest *d, bool filed)
{
    bool good = found_said(f, seg, d) && found_smalls(f, seg, d) && (filed || found_pages(f, seg, d));
    if (!good || !filed)
        return good;
    jrn_index_attach(f->s, seg, d);
    const struct jrn_index *x = atomic_load(&seg->index);
    for (uint32_t i = 0; i < x->nrow; i++) {
        struct jrn_row *row = &x->rows[i];
        struct found_queue *q = found_queue(f, row->queue_id);
        *FOUND_PUSH(q, rows, nrow, cap_row) = (struct found_row){seg, row};
        found_seen(f, seg, &(struct jrn_span){row->queue_id, row->first, row->last, row->count, row->eights});
    }
    return true;
}

/* ---- metadata ------------------------------------------------------------------------------------------- */

void jrn_found_tell_meta(const struct jrn_found *f, struct mqg_recover *r)
{
    for (uint32_t i = 0; i < f->nmeta; i++) {
        const struct found_meta *m = &f->metas[i];
        if (!m->remove && r->meta)
            r->meta(r->arg, mqg_slice_of(m->bytes, m->key_len),
                    mqg_slice_of(m->bytes + m->key_len, m->len - m->key_len));
    }
    if (r->meta_end)
        r->meta_end(r->arg);
}
