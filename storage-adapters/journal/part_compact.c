/* part_compact.c - compaction: of each key the last record stays.
 *
 * A pass has two halves. The first learns how the transactions in the closed files ended (part_txns.c), then reads what was
 * appended since the last pass and notes per key the highest offset (part_keys.c); what did not fit is left to the next pass. The
 * second goes over the closed files from the first on, and drops each record whose key has a higher one, and each of a
 * transaction that was rolled back. A file that loses nothing is not touched;
 * any other is written anew beside the old one, synced, given its name (BASE.dN.log) and only then the old one is removed:
 * a crash leaves one of both, and recovery takes the higher N. How it is written is part_dense.c's.
 *
 * Offsets stay: a batch keeps its base offset, the records in it their deltas; an empty batch goes.
 * The file written to is never compacted. Not looked into, and so left as it is, is what is compressed by a codec that nobody
 * registered (mqg_record_codec), or becomes more than it may; a record without a key stays, too. A tombstone goes when its time is
 * over, unless something that was left as it is stands before it: that might hold an older value of its key.
 *
 * **Transactions.** Open is what has no marker up to the end of the closed files. A pass ends before the first such batch: who reads
 * what is committed comes no farther, and must find the last value of each key up to there, which no record behind it may
 * take away. The next pass goes on from there (`noted`). A start forgets how far that was, and that a file was compacted does not say
 * that all of it was: the first pass of a life notes keys from the first batch of a transaction on.
 * A marker whose transaction has no batch left gets a horizon, now and `tombstone_ms` (24 h), in the place of its base time, and
 * goes in a pass after that (KIP-534): it is for readers that have seen the batches. It stands in the same file as the last of
 * them, or in a later one, and files are put in place in their order: at no moment, and after no crash, is there a batch that was
 * rolled back and whose marker is not there.
 * Producers' sequences, the last stable offset and the list of what was rolled back are told by nobody's files (the journal's
 * last words, the coordinator's and the partition's records): they stay what they are.
 *
 * What stays of a compressed batch is compressed again, by its own codec (mqg_record_packer). Where nobody can, it is written
 * plain, when it is no longer than the batch had been; else the batch stays whole, until more of it may go. */
#include "part_pass.h"
#include "stream.h"

#include <mqgate/records.h>

#include <errno.h>
#include <stdlib.h>

enum {
    COMPACT_PLAIN_MIN = 1 << 20,
    COMPACT_TOMBSTONE_MS = 24 * 3600 * 1000,
    COMPACT_AGAIN_US = 60 * 1000 * 1000, /* after a pass that failed: a full disk is not to be read all day */
    COMPACT_PLAIN_MAX = 64 << 20,        /* what a compressed batch may become: */
    COMPACT_RATIO_MAX = 128, /* times its own bytes, too, so that a file of bombs costs seconds, not hours */
};

#define COMPACT_BUF_MAX ((size_t)1 << 31) /* a batch */

struct compact {
    struct mqg_store *s;
    struct stream_part *p;
    struct mqg_stream_conf conf;
    struct part_file **files; /* closed, old enough */
    uint64_t *bytes, *ends;
    uint32_t n;
    uint64_t from, upto; /* offsets the table speaks of */
    bool first;          /* pass of this life */
    uint64_t now_ms;
    struct part_keys keys;
    struct part_txns txns;
    bool unseen; /* a batch was passed that nobody looked into, or that had to stay whole */
    uint64_t dropped;
    struct mqg_dynbuf plain;  /* records of a compressed batch */
    struct mqg_dynbuf packed; /* what stays of them */
};

static uint64_t compact_keep_ms(const struct compact *c)
{
    return c->conf.tombstone_ms ? c->conf.tombstone_ms : COMPACT_TOMBSTONE_MS;
}

static int compact_enter(const struct compact *c, uint32_t i, struct part_walk *w)
{
    return jrn_part_walk_enter(w, c->s, c->files[i], c->bytes[i], c->ends[i]);
}

/* The records of the batch; false: they are not to be looked into. Good until the next call. */
static bool compact_records(struct compact *c, const struct part_batch *b, struct mqg_slice whole,
                            struct mqg_slice *in)
{
    struct mqg_batch head;
    *in = mqg_slice_of(whole.ptr + PART_BATCH_HEAD, whole.len - PART_BATCH_HEAD);
    if ((b->attributes & PART_BATCH_CODEC) == 0)
        return true;
    size_t most = COMPACT_PLAIN_MIN + in->len * COMPACT_RATIO_MAX;
    c->plain.max = most < COMPACT_PLAIN_MAX ? most : COMPACT_PLAIN_MAX;
    return mqg_batch_read(whole, &head) == MQG_OK && mqg_batch_plain(&head, &c->plain, in) == MQG_OK;
}

/* ---- first half: how each transaction ended ------------------------------------------------------------------------ */

static int compact_note_txns(struct compact *c, uint32_t i)
{
    struct part_batch b;
    struct mqg_slice whole;
    struct part_walk w;
    bool plain = true, room = true;
    if (c->files[i]->plain)
        return 0;
    int r = compact_enter(c, i, &w);
    while (r >= 0 && room && (r = jrn_part_walk_next(&w, &b, &whole)) > 0) {
        plain = plain && (b.attributes & (PART_BATCH_TXN | PART_BATCH_CONTROL)) == 0;
        room = jrn_part_txns_note(&c->txns, &b, whole);
    }
    c->files[i]->plain = r == 0 && plain;
    jrn_part_walk_leave(&w);
    return r < 0 ? r : 0;
}

static int compact_txns(struct compact *c)
{
    int r = 0;
    for (uint32_t i = 0; i < c->n && r == 0 && c->txns.until == UINT64_MAX; i++)
        r = compact_note_txns(c, i);
    jrn_part_txns_ready(&c->txns);
    if (c->first && c->txns.first < c->from)
        c->from = c->txns.first;
    return r;
}

/* ---- and which offset is each key's last ---------------------------------------------------------------- */

/* false: the table is full; *upto is then the batch where that was. */
static bool compact_note_batch(struct compact *c, const struct part_batch *b, struct mqg_slice whole)
{
    struct part_record r;
    struct mqg_slice in;
    bool bad = false;
    if (b->end <= c->from || b->base >= c->upto)
        return true;
    enum part_fate fate = jrn_part_txns_fate(&c->txns, b, whole);
    if ((fate != PART_FATE_PLAIN && fate != PART_FATE_COMMITTED) || !compact_records(c, b, whole, &in))
        return true;
    while (jrn_part_record_take(&in, b, &r, &bad)) {
        if (r.has_key && !jrn_part_keys_note(&c->keys, r.key, r.offset)) {
            c->upto = r.offset;
            return false;
        }
    }
    return true;
}

static int compact_note_file(struct compact *c, uint32_t i, bool *full)
{
    struct part_batch b;
    struct mqg_slice whole;
    struct part_walk w;
    int r = compact_enter(c, i, &w);
    while (r >= 0 && !*full && (r = jrn_part_walk_next(&w, &b, &whole)) > 0)
        *full = !compact_note_batch(c, &b, whole);
    jrn_part_walk_leave(&w);
    return r < 0 ? r : 0;
}

/* ---- second half: what goes ---------------------------------------------------------------------------------------- */

static bool compact_drops(const struct compact *c, const struct part_record *r)
{
    if (!r->has_key)
        return false;
    if (jrn_part_keys_over(&c->keys, r->key, r->offset))
        return true;
    return !r->has_value && !c->unseen && r->offset < c->upto && r->time_ms + compact_keep_ms(c) < c->now_ms;
}

/* The records behind the head in out, by the codec that the batch had, or plain with *codec 0. false: plain they are longer than
 * `was`, and nobody can compress them. */
static bool compact_pack(struct compact *c, struct mqg_dynbuf *out, size_t was, uint16_t *codec)
{
    struct mqg_slice plain = mqg_slice_of(out->ptr + PART_BATCH_HEAD, out->len - PART_BATCH_HEAD);
    mqg_dynbuf_reset(&c->packed);
    if (*codec != 0 && plain.len > 0 && mqg_records_pack(*codec, plain, &c->packed) == MQG_OK &&
        c->packed.len < plain.len) {
        out->len = PART_BATCH_HEAD;
        return mqg_dynbuf_slice(out, mqg_dynbuf_view(&c->packed));
    }
    *codec = 0;
    return out->len <= was;
}

/* The batch with the records that stay in out; *b as it is then. false: no record was to go, or records do not fit it and are
 * nobody's to drop, or what stays would be longer. */
static bool compact_thin(struct compact *c, struct part_batch *b, struct mqg_slice whole, struct mqg_slice in,
                         struct mqg_dynbuf *out)
{
    struct part_record r;
    uint32_t kept = 0, seen = 0;
    uint64_t latest = 0;
    bool bad = false;
    mqg_dynbuf_put(out, whole.ptr, PART_BATCH_HEAD);
    for (; jrn_part_record_take(&in, b, &r, &bad); seen++) {
        if (compact_drops(c, &r))
            continue;
        mqg_dynbuf_slice(out, r.whole);
        latest = r.time_ms > latest ? r.time_ms : latest;
        kept++;
    }
    uint16_t codec = b->attributes & PART_BATCH_CODEC;
    bool stays = bad || seen != b->count || (kept < seen && !compact_pack(c, out, whole.len, &codec));
    c->unseen = c->unseen || stays;
    if (stays || kept == seen)
        return false;
    c->dropped += seen - kept;
    b->len = (uint32_t)out->len;
    b->count = kept;
    b->attributes = (uint16_t)((b->attributes & ~PART_BATCH_CODEC) | codec);
    if (!(b->attributes & PART_BATCH_LOG_TIME))
        b->max_time_ms = latest;
    jrn_part_batch_rewrite(out->ptr, b);
    return true;
}

/* A marker: it gets a horizon when its transaction has no batches left, and goes behind that. *b is changed with it; false: it
 * goes. */
static bool compact_marker(struct compact *c, struct part_batch *b, struct mqg_slice whole,
                           struct mqg_dynbuf *out, bool *changed)
{
    if (!jrn_part_txns_bare(&c->txns, b))
        return true;
    if (b->attributes & PART_BATCH_HORIZON) {
        *changed = b->base_time_ms < c->now_ms;
        c->dropped += *changed;
        return !*changed;
    }
    *changed = jrn_part_batch_horizon(out, whole, b, c->now_ms + compact_keep_ms(c));
    return true;
}

/* A batch with keys; false: nothing of it stays. */
static bool compact_keyed(struct compact *c, struct part_batch *b, struct mqg_slice whole,
                          struct mqg_dynbuf *out, bool looks, bool *changed)
{
    struct mqg_slice in;
    looks = looks && compact_records(c, b, whole, &in);
    *changed = looks && compact_thin(c, b, whole, in, out);
    c->unseen = c->unseen || !looks;
    return !*changed || b->count > 0;
}

static bool compact_fated(struct compact *c, struct part_batch *b, struct mqg_slice whole,
                          enum part_fate fate, struct mqg_dynbuf *out, bool *changed)
{
    switch (fate) {
    case PART_FATE_CONTROL: return true;
    case PART_FATE_MARKER: return compact_marker(c, b, whole, out, changed);
    case PART_FATE_ABORTED:
        c->dropped += b->count;
        *changed = true;
        return false;
    case PART_FATE_PLAIN:
    case PART_FATE_COMMITTED:
    case PART_FATE_OPEN: break;
    }
    bool stays = compact_keyed(c, b, whole, out, fate != PART_FATE_OPEN, changed);
    if (stays && fate != PART_FATE_PLAIN)
        jrn_part_txns_stays(&c->txns, b);
    return stays;
}

/* What stays of a batch. */
struct compact_stay {
    struct part_batch b;   /* as it is then */
    struct mqg_dynbuf out; /* all of it */
    bool changed;          /* something went */
    bool ours;             /* it may be changed further */
};

/* false: nothing. */
static bool compact_batch(struct compact *c, struct mqg_slice whole, struct compact_stay *st)
{
    enum part_fate fate = jrn_part_txns_fate(&c->txns, &st->b, whole);
    st->ours = fate != PART_FATE_OPEN && fate != PART_FATE_CONTROL;
    st->changed = false;
    mqg_dynbuf_reset(&st->out);
    if (st->b.base < c->upto && !compact_fated(c, &st->b, whole, fate, &st->out, &st->changed))
        return false;
    if (!st->changed)
        mqg_dynbuf_reset(&st->out);
    return st->changed || mqg_dynbuf_slice(&st->out, whole);
}

/* Would anything go, or are there gaps to be closed? */
static int compact_worth(struct compact *c, uint32_t i, bool *worth)
{
    struct compact_stay st;
    struct mqg_slice whole;
    struct part_walk w;
    bool unseen = c->unseen;
    uint64_t dropped = c->dropped;
    *worth = c->files[i]->gaps;
    mqg_dynbuf_init(&st.out, COMPACT_BUF_MAX);
    jrn_part_txns_walk(&c->txns, i);
    int r = compact_enter(c, i, &w);
    while (r >= 0 && !*worth && (r = jrn_part_walk_next(&w, &st.b, &whole)) > 0) {
        (void)compact_batch(c, whole, &st);
        *worth = st.changed;
    }
    if (*worth)
        c->unseen = unseen; /* the file is walked again */
    c->dropped = dropped;
    jrn_part_walk_leave(&w);
    mqg_dynbuf_fini(&st.out);
    return r < 0 ? r : 0;
}

static int compact_copy(struct compact *c, uint32_t i, struct part_dense *d)
{
    struct compact_stay st;
    struct mqg_slice whole;
    struct part_walk w;
    mqg_dynbuf_init(&st.out, COMPACT_BUF_MAX);
    jrn_part_txns_walk(&c->txns, i);
    int r = compact_enter(c, i, &w);
    while (r >= 0 && (r = jrn_part_walk_next(&w, &st.b, &whole)) > 0)
        if (compact_batch(c, whole, &st))
            r = jrn_dense_add(d, &st.b, mqg_dynbuf_view(&st.out), st.ours);
    jrn_part_walk_leave(&w);
    mqg_dynbuf_fini(&st.out);
    return r < 0 ? r : 0;
}

/* Puts the new file in the place of the old one, unless that was trimmed meanwhile. */
static bool compact_swap(struct compact *c, uint32_t i, struct part_file *f)
{
    bool swapped = false;
    pthread_mutex_lock(&c->s->streams->lock);
    for (uint32_t k = 0; k + 1 < c->p->nfile && !c->p->gone && !swapped; k++) {
        swapped = c->p->files[k] == c->files[i];
        if (swapped)
            c->p->files[k] = f;
    }
    pthread_mutex_unlock(&c->s->streams->lock);
    return swapped;
}

static int compact_file(struct compact *c, uint32_t i)
{
    struct mqg_store *s = c->s;
    struct part_file *old = c->files[i];
    struct part_dense d;
    int r = jrn_dense_begin(&d, s, old, c->bytes[i]);
    if (r == 0)
        r = compact_copy(c, i, &d);
    r = jrn_dense_end(&d, c->ends[i], r);
    if (r < 0)
        return r;
    if (compact_swap(c, i, d.f)) {
        jrn_part_unlink(s, old);
        jrn_part_file_unref(s, &old); /* the list's */
    } else {
        jrn_part_unlink(s, d.f);
        jrn_part_file_unref(s, &d.f);
    }
    return 0;
}

/* ---- a pass ----------------------------------------------------------------------------------------------------------- */

/* Under the lock: the closed files that are old enough, and whether enough of them is new, or of an earlier version. */
static bool compact_begin(struct compact *c)
{
    struct stream_part *p = c->p;
    uint64_t dirty = 0, all = 0;
    bool late = false, gaps = false;
    c->from = p->compacted;
    c->first = p->compacted == 0;
    for (uint32_t i = 0; i + 1 < p->nfile; i++) {
        struct part_file *f = p->files[i];
        if (c->conf.compact_lag_min_ms && f->max_time_ms + c->conf.compact_lag_min_ms > c->now_ms)
            break;
        if (f->gen > 0 && f->base <= c->from && f->end > c->from && i == c->n)
            c->from = c->first ? f->end : c->from; /* a pass of an earlier life */
        jrn_part_file_ref(f);
        c->files[c->n] = f;
        c->bytes[c->n] = f->bytes;
        c->ends[c->n++] = f->end;
        gaps = gaps || f->gaps;
        all += f->bytes;
        dirty += f->end > c->from ? f->bytes : 0;
        late = late || (f->end > c->from && c->conf.compact_lag_max_ms &&
                        f->first_ms + c->conf.compact_lag_max_ms < c->now_ms);
    }
    if (!c->first && p->noted < c->from)
        c->from = p->noted;
    return gaps || (dirty > 0 && (dirty * 2 >= all || late));
}

static int compact_pass(struct compact *c)
{
    bool full = false, worth;
    int r = compact_txns(c);
    c->upto = c->ends[c->n - 1] < c->txns.open ? c->ends[c->n - 1] : c->txns.open;
    for (uint32_t i = 0; i < c->n && r == 0 && !full; i++)
        if (c->ends[i] > c->from)
            r = compact_note_file(c, i, &full);
    for (uint32_t i = 0; i < c->n && r == 0 && c->files[i]->base < c->upto && !jrn_part_cleaner_ends(c->s);
         i++) {
        r = compact_worth(c, i, &worth);
        if (r == 0 && worth)
            r = compact_file(c, i);
    }
    return r;
}

/* Under the lock. Where the next pass would begin where this one did (an open transaction is there), it waits for new files. */
static void compact_went(struct compact *c)
{
    c->p->noted = c->upto;
    c->p->compacted = c->upto > c->from ? c->upto : c->ends[c->n - 1];
}

static void compact_end(struct compact *c, int r)
{
    struct stream_part *p = c->p;
    bool failed = r < 0 && r != -EBADMSG && r != -ENOENT; /* ENOENT: it was trimmed or deleted meanwhile */
    pthread_mutex_lock(&c->s->streams->lock);
    if (r == 0)
        compact_went(c);
    p->damaged = r == -EBADMSG;
    p->again_us = failed ? mqg_clock_mono_us() + COMPACT_AGAIN_US : 0;
    pthread_mutex_unlock(&c->s->streams->lock);
    if (failed)
        mqg_log(MQG_LOG_WARN, MQG_EVENT_STORE, "store=%s what=compaction partition=%llu error=%s",
                c->s->section, (unsigned long long)p->id, mqg_logqs(jrn_errno(r)));
    else if (r == 0 && c->dropped)
        mqg_log(MQG_LOG_INFO, MQG_EVENT_STORE, "store=%s what=compaction partition=%llu dropped=%llu keys=%u",
                c->s->section, (unsigned long long)p->id, (unsigned long long)c->dropped, c->keys.n);
}

static int compact_run(struct compact *c)
{
    jrn_part_keys_init(&c->keys);
    jrn_part_txns_init(&c->txns);
    mqg_dynbuf_init(&c->plain, COMPACT_PLAIN_MAX);
    mqg_dynbuf_init(&c->packed, COMPACT_BUF_MAX);
    int r = compact_pass(c);
    mqg_dynbuf_fini(&c->plain);
    mqg_dynbuf_fini(&c->packed);
    jrn_part_txns_fini(&c->txns);
    jrn_part_keys_fini(&c->keys);
    return r;
}

void jrn_part_compact(struct mqg_store *s, struct stream_part *p, uint64_t now_ms)
{
    struct compact c = {.s = s, .p = p, .now_ms = now_ms};
    pthread_mutex_lock(&s->streams->lock);
    c.conf = p->conf;
    bool wanted = !p->gone && !p->damaged && p->nfile > 1 && mqg_clock_mono_us() >= p->again_us;
    if (wanted) {
        c.files = mqg_xcalloc(p->nfile, sizeof(struct part_file *));
        c.bytes = mqg_xcalloc(p->nfile, sizeof *c.bytes);
        c.ends = mqg_xcalloc(p->nfile, sizeof *c.ends);
        wanted = compact_begin(&c);
    }
    pthread_mutex_unlock(&s->streams->lock);
    if (wanted)
        compact_end(&c, compact_run(&c));
    for (uint32_t i = 0; i < c.n; i++)
        jrn_part_file_unref(s, &c.files[i]);
    free(c.files);
    free(c.bytes);
    free(c.ends);
}
