/* stream_found.c - partitions at recovery: what the journal has of them, joined to what their files have.
 *
 * The files come first: all that is whole in them is the log's beginning. Batches of the journal go on from there; those that
 * stand in a file already keep their rows until it is known to be synced. The run ends at the first gap. What lies beyond was
 * never shown to anybody and is void from now on: a CUT record says "batches of earlier terms from this offset on are void".
 * The term is raised at each start, so the offsets can be given again, and a second recovery does not find the old bytes. A
 * CUT is a fact, it may be said twice. */
#include "stream.h"

#include <stdlib.h>

void jrn_streams_found_batch(struct mqg_store *s, struct jrn_seg *seg, uint64_t off,
                             const struct jrn_batch *b, uint64_t term)
{
    struct stream_part *p = jrn_stream_part(s->streams, b->partition);
    struct jrn_batch_ref ref = {b->base_offset,         b->max_time_ms, b->count,
                                (uint32_t)b->bytes.len, (uint32_t)off,  seg};
    *STREAM_PUSH(p, found, nfound, cap_found) = (struct stream_found){term, p->nfound, ref};
}

void jrn_streams_found_def(struct mqg_store *s, const struct jrn_stream_def *d)
{
    struct stream_part *p = jrn_stream_part(s->streams, d->partition);
    p->gone = p->gone || !d->exists;
    p->named = true;
}

void jrn_streams_found_conf(struct mqg_store *s, const struct jrn_stream_conf *conf)
{
    jrn_stream_part(s->streams, conf->partition)->conf = conf->conf;
}

void jrn_streams_found_trim(struct mqg_store *s, uint64_t partition, uint64_t start)
{
    struct stream_part *p = jrn_stream_part(s->streams, partition);
    if (start > p->log_start)
        p->log_start = start;
}

void jrn_streams_found_cut(struct mqg_store *s, uint64_t partition, uint64_t term, uint64_t end)
{
    struct stream_part *p = jrn_stream_part(s->streams, partition);
    *STREAM_PUSH(p, cuts, ncut, cap_cut) = (struct stream_cut){term, end};
}

/* ---- groups and producers --------------------------------------------------------------------------------
 *
 * Of a group the last word counts. Of a producer the last few are kept as they are found, for two reasons: a handler that knows
 * a producer's last batches can tell one that is sent again; and where the log is cut, the words on the batches behind the cut
 * are void with them, and the last word before holds again. That is then written down once more, behind a word that
 * forgets the void ones, in the chunk of the CUT. */

enum { PRODUCER_BYTES = 36, PRODUCER_FOUND = 8, PRODUCER_TOLD = 5 };

static void stream_word_add(struct stream_word *w, struct mqg_slice main)
{
    if (w->main && w->len == PRODUCER_FOUND * PRODUCER_BYTES) {
        w->len -= PRODUCER_BYTES;
        memmove(w->main, w->main + PRODUCER_BYTES, w->len);
    }
    if (!w->main) {
        w->main = mqg_xmalloc((size_t)PRODUCER_FOUND * PRODUCER_BYTES);
        w->len = 0;
    }
    memcpy(w->main + w->len, main.ptr, PRODUCER_BYTES);
    w->len += PRODUCER_BYTES;
}

/* Keeps the last one per key; the record's bytes, for they are told at the end. */
static void stream_word(struct jrn_streams *st, uint8_t type, struct mqg_slice main)
{
    struct jrn_keyed key = {0};
    bool fresh;
    if (!jrn_key_of(type, main, &key))
        return;
    uint32_t *at = jrn_map_put(&st->word_of, key.hash, &fresh);
    if (fresh) {
        *at = st->nword;
        *STREAM_PUSH(st, words, nword, cap_word) = (struct stream_word){.main = NULL};
    }
    struct stream_word *w = &st->words[*at];
    if (type == JRN_REC_PRODUCER && !key.gone && main.len == PRODUCER_BYTES) {
        w->partition = mqg_le64(main.ptr);
        w->hash = type;
        stream_word_add(w, main);
        return;
    }
    free(w->main);
    *w = (struct stream_word){mqg_le64(main.ptr), type, NULL, (uint32_t)main.len};
    if (!key.gone) {
        w->main = mqg_xmalloc(main.len);
        memcpy(w->main, main.ptr, main.len);
    }
}

void jrn_streams_found_word(struct mqg_store *s, uint8_t type, struct mqg_slice main)
{
    struct jrn_position pos;
    stream_word(s->streams, type, main);
    if (type == JRN_REC_POSITION && jrn_rec_position(main, &pos))
        jrn_stream_position(s->streams, mqg_slice_of(main.ptr, 20 + pos.group.len), pos.offset);
}

/* ---- the run --------------------------------------------------------------------------------------------- */

static int stream_found_order(const void *a, const void *b)
{
    const struct stream_found *x = a, *y = b;
    if (x->ref.base_offset != y->ref.base_offset)
        return x->ref.base_offset < y->ref.base_offset ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

static bool stream_is_void(const struct stream_part *p, const struct stream_found *f)
{
    for (uint32_t i = 0; i < p->ncut; i++)
        if (f->term < p->cuts[i].term && f->ref.base_offset >= p->cuts[i].end)
            return true;
    return jrn_batch_end(&f->ref) <= p->log_start || jrn_batch_end(&f->ref) <= p->synced;
}

/* Takes over what continues the log; true when something that does not was left behind. */
static bool stream_settle(struct stream_part *p)
{
    bool beyond = false;
    if (p->nfound)
        qsort(p->found, p->nfound, sizeof *p->found, stream_found_order);
    p->high = p->filed > p->log_start ? p->filed : p->log_start;
    for (uint32_t i = 0; i < p->nfound; i++) {
        const struct stream_found *f = &p->found[i];
        bool again = i + 1 < p->nfound && p->found[i + 1].ref.base_offset == f->ref.base_offset &&
                     !stream_is_void(p, &p->found[i + 1]);
        if (again || stream_is_void(p, f))
            continue;
        if (f->ref.base_offset > p->high) {
            beyond = true;
            continue;
        }
        uint64_t end = jrn_batch_end(&f->ref);
        if (end <= p->high && end > p->filed)
            continue;
        atomic_fetch_add(&f->ref.seg->live, 1);
        jrn_stream_insert(p, f->ref);
    }
    return beyond;
}

/* The words of a producer by offset, those that hold, each once. Answers how many. */
static uint32_t stream_producer(const struct stream_word *w, const struct stream_part *p,
                                struct jrn_producer out[PRODUCER_FOUND])
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < w->len; i += PRODUCER_BYTES) {
        struct jrn_producer pr;
        if (!jrn_rec_producer(mqg_slice_of(w->main + i, PRODUCER_BYTES), &pr) ||
            (p && p->beyond && pr.offset >= p->high))
            continue;
        uint32_t at = n;
        while (at > 0 && out[at - 1].offset > pr.offset)
            at--;
        if (at > 0 && out[at - 1].offset == pr.offset)
            continue;
        memmove(&out[at + 1], &out[at], (n - at) * sizeof *out);
        out[at] = pr;
        n++;
    }
    return n;
}

static void stream_tell_words(struct mqg_store *s, struct mqg_recover *r)
{
    struct jrn_streams *st = s->streams;
    struct jrn_position pos;
    struct jrn_producer pr[PRODUCER_FOUND];
    for (uint32_t i = 0; i < st->nword; i++) {
        struct stream_word *w = &st->words[i];
        struct mqg_slice main = mqg_slice_of(w->main, w->len);
        if (!w->main || jrn_stream_gone(s, w->partition))
            continue;
        if (w->hash == JRN_REC_POSITION && r->position && jrn_rec_position(main, &pos))
            r->position(r->arg, pos.group, pos.partition, pos.offset, pos.metadata);
        uint32_t n = w->hash == JRN_REC_PRODUCER && r->producer
                         ? stream_producer(w, jrn_stream_find(st, w->partition), pr)
                         : 0;
        for (uint32_t k = n > PRODUCER_TOLD ? n - PRODUCER_TOLD : 0; k < n; k++)
            r->producer(r->arg, pr[k].partition, pr[k].producer_id, pr[k].epoch, pr[k].base_seq,
                        pr[k].last_seq, pr[k].offset);
    }
    for (uint32_t i = 0; i < st->nword; i++)
        free(st->words[i].main);
    free(st->words);
    st->words = NULL;
    st->nword = st->cap_word = 0;
    jrn_map_fini(&st->word_of);
    st->word_of = (struct jrn_map){NULL, 0, 0};
}

/* ---- the cut --------------------------------------------------------------------------------------------- */

static void stream_say(struct jrn_chunk *c, uint8_t type, struct mqg_slice main)
{
    struct jrn_keyed key = {0};
    bool keyed = jrn_key_of(type, main, &key);
    MQG_ASSERT(keyed);
    key.arena_off = (uint32_t)c->len;
    key.off = jrn_chunk_raw(c, type, 0, main);
    jrn_chunk_note_key(c, key);
}

/* The words of one producer again, without the void ones, if it has any. */
static void stream_say_producer(struct jrn_chunk *c, const struct stream_word *w, const struct stream_part *p)
{
    struct jrn_producer pr[PRODUCER_FOUND];
    uint8_t forget[PRODUCER_BYTES];
    bool any = false;
    for (uint32_t i = 0; i < w->len; i += PRODUCER_BYTES)
        any = any || mqg_le64(w->main + i + 28) >= p->high;
    if (!any)
        return;
    memcpy(forget, w->main, sizeof forget);
    mqg_put_le64(forget + 28, MQG_OFFSET_NONE);
    stream_say(c, JRN_REC_PRODUCER, mqg_slice_of(forget, sizeof forget));
    uint32_t n = stream_producer(w, p, pr);
    for (uint32_t k = 0; k < n; k++)
        for (uint32_t i = 0; i < w->len; i += PRODUCER_BYTES)
            if (mqg_le64(w->main + i + 28) == pr[k].offset) {
                stream_say(c, JRN_REC_PRODUCER, mqg_slice_of(w->main + i, PRODUCER_BYTES));
                break;
            }
}

static void stream_cut(struct mqg_store *s, struct stream_part *p, uint64_t term)
{
    enum { STREAM_LANE = 0xfffd };
    struct jrn_streams *st = s->streams;
    uint8_t main[24];
    mqg_put_le64(main, p->id);
    mqg_put_le64(main + 8, term);
    mqg_put_le64(main + 16, p->high);
    struct jrn_chunk *c = jrn_chunk_new();
    jrn_chunk_begin(c, STREAM_LANE, 0, MQG_SUBMIT_URGENT, atomic_fetch_add(&s->salt, 1));
    stream_say(c, JRN_REC_CUT, mqg_slice_of(main, sizeof main));
    for (uint32_t i = 0; i < st->nword; i++)
        if (st->words[i].main && st->words[i].hash == JRN_REC_PRODUCER && st->words[i].partition == p->id)
            stream_say_producer(c, &st->words[i], p);
    jrn_chunk_end(c);
    jrn_submit(s, c);
    mqg_log(MQG_LOG_WARN, MQG_EVENT_RECOVERY, "store=%s what=stream_cut partition=%llu end=%llu", s->section,
            (unsigned long long)p->id, (unsigned long long)p->high);
}

static void stream_found_free(struct stream_part *p)
{
    free(p->found);
    p->found = NULL;
    p->nfound = p->cap_found = 0;
}

enum mqg_err jrn_streams_found_end(struct mqg_store *s, struct mqg_recover *r, uint64_t term,
                                   struct mqg_error *e)
{
    struct jrn_streams *st = s->streams;
    enum mqg_err err = jrn_parts_find(s, e);
    for (uint32_t i = 0; i < st->npart && err == MQG_OK; i++) {
        struct stream_part *p = st->parts[i];
        p->gone = p->gone || !p->named; /* records that came behind its end */
        p->beyond = !p->gone && stream_settle(p);
        if (!p->gone)
            err = jrn_part_found(s, p, e);
        stream_found_free(p);
        if (p->gone || p->nfile > 0 || p->n > 0)
            jrn_part_due(s, p);
        if (p->gone || err != MQG_OK)
            continue;
        if (p->beyond)
            stream_cut(s, p, term);
        struct mqg_stream_bounds b = {p->log_start, p->high, p->high};
        if (r->stream)
            r->stream(r->arg, p->id, &b);
    }
    if (err == MQG_OK)
        stream_tell_words(s, r);
    return err;
}
