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
 * last words, the coordinator's and the partition's records): they stay what they are. */
#include "part_pass.h"
#include "stream.h"

#include <errno.h>
#include <stdlib.h>

enum {
    COMPACT_TOMBSTONE_MS = 24 * 3600 * 1000,
    COMPACT_AGAIN_US = 60 * 1000 * 1000, /* after a pass that failed: a full disk is not to be read all day */
};

struct compact {
    struct mqg_store *s;
    struct stream_part *p;
    struct mqg_stream_conf conf;
    struct part_file **files; /* closed, old enough */
    uint64_t *bytes, *ends;
    uint32_t n;
    uint64_t from; /* the table of keys speaks of offsets [from, t.upto) */
    bool first;    /* pass of this life */
    struct part_thin t;
};

static int compact_enter(const struct compact *c, uint32_t i, struct part_walk *w)
{
    return jrn_part_walk_enter(w, c->s, c->files[i], c->bytes[i], c->ends[i]);
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
        room = jrn_part_txns_note(&c->t.txns, &b, whole);
    }
    c->files[i]->plain = r == 0 && plain;
    jrn_part_walk_leave(&w);
    return r < 0 ? r : 0;
}

static int compact_txns(struct compact *c)
{
    int r = 0;
    for (uint32_t i = 0; i < c->n && r == 0 && c->t.txns.until == UINT64_MAX; i++)
        r = compact_note_txns(c, i);
    jrn_part_txns_ready(&c->t.txns);
    if (c->t.txns.until != UINT64_MAX)
        mqg_log(
            MQG_LOG_WARN, MQG_EVENT_STORE,
            "store=%s what=compaction partition=%llu upto=%llu error=\"more transactions than a pass notes\"",
            c->s->section, (unsigned long long)c->p->id, (unsigned long long)c->t.txns.until);
    if (c->first && c->t.txns.first < c->from)
        c->from = c->t.txns.first;
    return r;
}

/* ---- and which offset is each key's last ---------------------------------------------------------------- */

/* false: the table is full; *upto is then the batch where that was. */
static bool compact_note_batch(struct compact *c, const struct part_batch *b, struct mqg_slice whole)
{
    struct part_record r;
    struct mqg_slice in;
    bool bad = false;
    if (b->end <= c->from || b->base >= c->t.upto)
        return true;
    enum part_fate fate = jrn_part_txns_fate(&c->t.txns, b, whole);
    if ((fate != PART_FATE_PLAIN && fate != PART_FATE_COMMITTED) ||
        !jrn_part_thin_records(&c->t, b, whole, &in))
        return true;
    while (jrn_part_record_take(&in, b, &r, &bad)) {
        if (r.has_key && !jrn_part_keys_note(&c->t.keys, r.key, r.offset)) {
            c->t.upto = r.offset;
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

/* Would anything go, or are there gaps to be closed? */
static int compact_worth(struct compact *c, uint32_t i, bool *worth)
{
    struct part_stay st;
    struct mqg_slice whole;
    struct part_walk w;
    bool unseen = c->t.unseen;
    uint64_t dropped = c->t.dropped;
    *worth = c->files[i]->gaps;
    jrn_part_stay_init(&st);
    jrn_part_txns_walk(&c->t.txns, i);
    int r = compact_enter(c, i, &w);
    while (r >= 0 && !*worth && (r = jrn_part_walk_next(&w, &st.b, &whole)) > 0) {
        (void)jrn_part_thin_batch(&c->t, whole, &st);
        *worth = st.changed;
    }
    if (*worth)
        c->t.unseen = unseen; /* the file is walked again */
    c->t.dropped = dropped;
    jrn_part_walk_leave(&w);
    jrn_part_stay_fini(&st);
    return r < 0 ? r : 0;
}

static int compact_copy(struct compact *c, uint32_t i, struct part_dense *d)
{
    struct part_stay st;
    struct mqg_slice whole;
    struct part_walk w;
    jrn_part_stay_init(&st);
    jrn_part_txns_walk(&c->t.txns, i);
    int r = compact_enter(c, i, &w);
    while (r >= 0 && (r = jrn_part_walk_next(&w, &st.b, &whole)) > 0)
        if (jrn_part_thin_batch(&c->t, whole, &st))
            r = jrn_dense_add(d, &st.b, mqg_dynbuf_view(&st.out), st.ours);
    jrn_part_walk_leave(&w);
    jrn_part_stay_fini(&st);
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
        if (c->conf.compact_lag_min_ms && f->max_time_ms + c->conf.compact_lag_min_ms > c->t.now_ms)
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
                        f->first_ms + c->conf.compact_lag_max_ms < c->t.now_ms);
    }
    if (!c->first && p->noted < c->from)
        c->from = p->noted;
    return gaps || (dirty > 0 && (dirty * 2 >= all || late));
}

static int compact_pass(struct compact *c)
{
    bool full = false, worth;
    int r = compact_txns(c);
    c->t.upto = c->ends[c->n - 1] < c->t.txns.open ? c->ends[c->n - 1] : c->t.txns.open;
    for (uint32_t i = 0; i < c->n && r == 0 && !full; i++)
        if (c->ends[i] > c->from)
            r = compact_note_file(c, i, &full);
    for (uint32_t i = 0; i < c->n && r == 0 && c->files[i]->base < c->t.upto && !jrn_part_cleaner_ends(c->s);
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
    c->p->noted = c->t.upto;
    c->p->compacted = c->t.upto > c->from ? c->t.upto : c->ends[c->n - 1];
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
    else if (r == 0 && c->t.dropped)
        mqg_log(MQG_LOG_INFO, MQG_EVENT_STORE, "store=%s what=compaction partition=%llu dropped=%llu keys=%u",
                c->s->section, (unsigned long long)p->id, (unsigned long long)c->t.dropped, c->t.keys.n);
}

static int compact_run(struct compact *c)
{
    jrn_part_thin_init(&c->t);
    c->t.keep_ms = c->conf.tombstone_ms ? c->conf.tombstone_ms : COMPACT_TOMBSTONE_MS;
    int r = compact_pass(c);
    jrn_part_thin_fini(&c->t);
    return r;
}

void jrn_part_compact(struct mqg_store *s, struct stream_part *p, uint64_t now_ms)
{
    struct compact c = {.s = s, .p = p, .t = {.now_ms = now_ms}};
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
