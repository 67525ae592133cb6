/* part_compact.c - compaction: of each key the last record stays.
 *
 * A pass has two halves. The first reads what was appended since the last pass and notes per key the highest offset: hashes of
 * 96 bits, unknown to outsiders, in a table with a bound; what did not fit is left to the next pass. The second goes over the
 * closed files from the first on, and drops each record whose key has a higher one. A file that loses nothing is not touched;
 * any other is written anew beside the old one, synced, given its name (BASE.dN.log) and only then the old one is removed:
 * a crash leaves one of both, and recovery takes the higher N. How it is written is part_dense.c's.
 *
 * Offsets stay: a batch keeps its base offset, the records in it their deltas; an empty batch goes.
 * The file written to is never compacted. Not looked into, and so left as they are: batches of transactions, control batches,
 * and what is compressed by a codec that nobody registered (mqg_record_codec), or becomes more than it may; a record without a
 * key stays, too. A tombstone goes when its time is over, unless something that was left as it is stands before it: that
 * might hold an older value of its key.
 *
 * What stays of a compressed batch is compressed again, by its own codec (mqg_record_packer). Where nobody can, it is written
 * plain, when it is no longer than the batch had been; else the batch stays whole, until more of it may go. */
#include "stream.h"

#include <mqgate/records.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

enum {
    COMPACT_KEYS_MAX = 1 << 20,
    COMPACT_WINDOW = 1 << 20,
    COMPACT_TOMBSTONE_MS = 24 * 3600 * 1000,
    COMPACT_AGAIN_US = 60 * 1000 * 1000, /* after a pass that failed: a full disk is not to be read all day */
    COMPACT_PLAIN_MAX = 64 << 20,        /* what a compressed batch may become: */
    COMPACT_RATIO_MAX = 128, /* times its own bytes, too, so that a file of bombs costs seconds, not hours */
};

#define COMPACT_BUF_MAX ((size_t)1 << 31) /* a batch */

struct compact_key {
    uint64_t hash, offset; /* offset + 1; 0: free */
    uint32_t hash2;
};

struct compact {
    struct mqg_store *s;
    struct stream_part *p;
    struct mqg_stream_conf conf;
    struct part_file **files; /* closed, old enough */
    uint64_t *bytes, *ends;
    uint32_t n;
    uint64_t from, upto; /* offsets the table speaks of */
    uint64_t now_ms;
    struct compact_key *keys;
    uint32_t nkey, cap;
    bool unseen; /* a batch was passed that nobody looked into, or that had to stay whole */
    uint64_t dropped;
    struct mqg_dynbuf plain;  /* records of a compressed batch */
    struct mqg_dynbuf packed; /* what stays of them */
};

/* ---- the table --------------------------------------------------------------------------------------------- */

static struct compact_key *compact_slot(struct compact_key *keys, uint32_t cap, uint64_t hash, uint32_t hash2)
{
    for (uint32_t i = (uint32_t)hash & (cap - 1);; i = (i + 1) & (cap - 1))
        if (keys[i].offset == 0 || (keys[i].hash == hash && keys[i].hash2 == hash2))
            return &keys[i];
}

static void compact_grow(struct compact *c)
{
    uint32_t cap = c->cap ? c->cap * 2 : 1024;
    struct compact_key *keys = mqg_xcalloc(cap, sizeof *keys);
    for (uint32_t i = 0; i < c->cap; i++)
        if (c->keys[i].offset)
            *compact_slot(keys, cap, c->keys[i].hash, c->keys[i].hash2) = c->keys[i];
    free(c->keys);
    c->keys = keys;
    c->cap = cap;
}

static struct compact_key *compact_find(const struct compact *c, struct mqg_slice key)
{
    uint32_t hash2 = jrn_crc32c(0, key.ptr, key.len);
    return compact_slot(c->keys, c->cap, mqg_hash(key), hash2);
}

/* false: no room for another key. */
static bool compact_note(struct compact *c, const struct part_record *r)
{
    if (c->nkey * 2 >= c->cap)
        compact_grow(c);
    struct compact_key *k = compact_find(c, r->key);
    if (k->offset == 0) {
        if (c->nkey == COMPACT_KEYS_MAX)
            return false;
        c->nkey++;
        k->hash = mqg_hash(r->key);
        k->hash2 = jrn_crc32c(0, r->key.ptr, r->key.len);
    }
    k->offset = r->offset + 1;
    return true;
}

/* ---- walking a file ------------------------------------------------------------------------------------------- */

struct compact_walk {
    struct part_file *f;
    int fd;
    uint64_t pos, bytes;
    uint64_t next, end; /* offsets: of the batch at pos, of the file */
    uint8_t *buf;
    uint64_t at; /* of buf's first byte */
    size_t have, cap;
};

/* Opens file i; 0 or -errno. compact_left ends it. */
static int compact_enter(struct compact *c, uint32_t i, struct compact_walk *w)
{
    *w = (struct compact_walk){
        .f = c->files[i], .bytes = c->bytes[i], .next = c->files[i]->base, .end = c->ends[i]};
    w->fd = jrn_part_file_open(c->s, w->f, O_RDWR);
    return w->fd < 0 ? w->fd : 0;
}

static void compact_leave(struct compact *c, struct compact_walk *w)
{
    if (w->fd >= 0)
        jrn_part_file_unpin(c->s, w->f);
    free(w->buf);
}

static int compact_bytes(struct compact *c, struct compact_walk *w, size_t n)
{
    if (w->pos >= w->at && w->pos + n <= w->at + w->have)
        return 0;
    size_t want = n > COMPACT_WINDOW ? n : COMPACT_WINDOW;
    want = want < w->bytes - w->pos ? want : (size_t)(w->bytes - w->pos);
    if (want > w->cap) {
        w->buf = mqg_xrealloc(w->buf, want);
        w->cap = want;
    }
    ssize_t got = jrn_fs_read(c->s->fs, w->fd, w->buf, want, w->pos);
    w->at = w->pos;
    w->have = got > 0 ? (size_t)got : 0;
    return got < 0 ? (int)got : w->have < n ? -EBADMSG : 0;
}

/* Is the batch where the one before it says? What an earlier version compacted has gaps. */
static bool compact_follows(const struct compact_walk *w, const struct part_batch *b)
{
    return (w->f->gaps ? b->base >= w->next : b->base == w->next) && b->end <= w->end;
}

static int compact_damaged(struct compact *c, const struct compact_walk *w)
{
    char name[PART_NAME];
    jrn_part_name(w->f, "log", "", name);
    mqg_log(MQG_LOG_ERROR, MQG_EVENT_CORRUPTION,
            "store=%s file=%s at=%llu what=\"a batch does not check; the partition is not compacted\"",
            c->s->section, name, (unsigned long long)w->pos);
    return -EBADMSG;
}

/* The next batch, whole and checked; 0: at the end, 1: one, or -errno. Nothing damaged may be written anew as if it were whole:
 * a file must go on to its end, too. */
static int compact_next(struct compact *c, struct compact_walk *w, struct part_batch *b,
                        struct mqg_slice *whole)
{
    if (w->pos == w->bytes)
        return w->f->gaps || w->next == w->end ? 0 : compact_damaged(c, w);
    int r = compact_bytes(c, w, PART_BATCH_HEAD);
    if (r == 0 && !jrn_part_batch_head(mqg_slice_of(w->buf + (w->pos - w->at), PART_BATCH_HEAD), b))
        r = -EBADMSG;
    if (r == 0)
        r = b->len <= w->bytes - w->pos ? compact_bytes(c, w, b->len) : -EBADMSG;
    if (r < 0)
        return r == -EBADMSG ? compact_damaged(c, w) : r;
    *whole = mqg_slice_of(w->buf + (w->pos - w->at), b->len);
    if (!compact_follows(w, b) || !jrn_part_batch_sum(whole->ptr, b))
        return compact_damaged(c, w);
    w->pos += b->len;
    w->next = b->end;
    return 1;
}

/* May its bounds be changed? */
static bool compact_is_ours(const struct part_batch *b)
{
    return (b->attributes & (PART_BATCH_TXN | PART_BATCH_CONTROL)) == 0;
}

/* The records of the batch; false: they are not to be looked into. Good until the next call. */
static bool compact_records(struct compact *c, const struct part_batch *b, struct mqg_slice whole,
                            struct mqg_slice *in)
{
    struct mqg_batch head;
    *in = mqg_slice_of(whole.ptr + PART_BATCH_HEAD, whole.len - PART_BATCH_HEAD);
    if (!compact_is_ours(b))
        return false;
    if ((b->attributes & PART_BATCH_CODEC) == 0)
        return true;
    size_t most = COMPACT_WINDOW + in->len * COMPACT_RATIO_MAX;
    c->plain.max = most < COMPACT_PLAIN_MAX ? most : COMPACT_PLAIN_MAX;
    return mqg_batch_read(whole, &head) == MQG_OK && mqg_batch_plain(&head, &c->plain, in) == MQG_OK;
}

/* ---- first half: which offset is each key's last ---------------------------------------------------------------- */

/* false: the table is full; *upto is then the batch where that was. */
static bool compact_note_batch(struct compact *c, const struct part_batch *b, struct mqg_slice whole)
{
    struct part_record r;
    struct mqg_slice in;
    bool bad = false;
    if (b->end <= c->from || !compact_records(c, b, whole, &in))
        return true;
    while (jrn_part_record_take(&in, b, &r, &bad)) {
        if (r.has_key && !compact_note(c, &r)) {
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
    struct compact_walk w;
    int r = compact_enter(c, i, &w);
    while (r >= 0 && !*full && (r = compact_next(c, &w, &b, &whole)) > 0)
        *full = !compact_note_batch(c, &b, whole);
    compact_leave(c, &w);
    return r < 0 ? r : 0;
}

/* ---- second half: what goes ---------------------------------------------------------------------------------------- */

static bool compact_drops(const struct compact *c, const struct part_record *r)
{
    if (!r->has_key)
        return false;
    const struct compact_key *k = compact_find(c, r->key);
    if (k->offset > r->offset + 1)
        return true;
    uint64_t keep_ms = c->conf.tombstone_ms ? c->conf.tombstone_ms : COMPACT_TOMBSTONE_MS;
    return !r->has_value && !c->unseen && r->offset < c->upto && r->time_ms + keep_ms < c->now_ms;
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

/* Writes what stays of the batch into out, which is empty; the batch as it is then, or false when nothing stays. *fewer:
 * something went. */
static bool compact_batch(struct compact *c, struct part_batch *b, struct mqg_slice whole,
                          struct mqg_dynbuf *out, bool *fewer)
{
    struct mqg_slice in;
    bool known = b->base < c->upto, looks = known && compact_records(c, b, whole, &in);
    *fewer = looks && compact_thin(c, b, whole, in, out);
    if (*fewer)
        return b->count > 0;
    c->unseen = c->unseen || (known && !looks);
    mqg_dynbuf_reset(out);
    return mqg_dynbuf_slice(out, whole);
}

/* Would anything go, or are there gaps to be closed? */
static int compact_worth(struct compact *c, uint32_t i, bool *worth)
{
    struct part_batch b;
    struct mqg_slice whole;
    struct mqg_dynbuf out;
    struct compact_walk w;
    bool unseen = c->unseen;
    uint64_t dropped = c->dropped;
    *worth = c->files[i]->gaps;
    mqg_dynbuf_init(&out, COMPACT_BUF_MAX);
    int r = compact_enter(c, i, &w);
    while (r >= 0 && !*worth && (r = compact_next(c, &w, &b, &whole)) > 0) {
        mqg_dynbuf_reset(&out);
        (void)compact_batch(c, &b, whole, &out, worth);
    }
    if (*worth)
        c->unseen = unseen; /* the file is walked again */
    c->dropped = dropped;
    compact_leave(c, &w);
    mqg_dynbuf_fini(&out);
    return r < 0 ? r : 0;
}

static int compact_copy(struct compact *c, uint32_t i, struct part_dense *d)
{
    struct part_batch b;
    struct mqg_slice whole;
    struct mqg_dynbuf out;
    struct compact_walk w;
    bool fewer;
    mqg_dynbuf_init(&out, COMPACT_BUF_MAX);
    int r = compact_enter(c, i, &w);
    while (r >= 0 && (r = compact_next(c, &w, &b, &whole)) > 0) {
        mqg_dynbuf_reset(&out);
        if (compact_batch(c, &b, whole, &out, &fewer))
            r = jrn_dense_add(d, &b, mqg_dynbuf_view(&out), compact_is_ours(&b));
    }
    compact_leave(c, &w);
    mqg_dynbuf_fini(&out);
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
    for (uint32_t i = 0; i + 1 < p->nfile; i++) {
        struct part_file *f = p->files[i];
        if (c->conf.compact_lag_min_ms && f->max_time_ms + c->conf.compact_lag_min_ms > c->now_ms)
            break;
        if (f->gen > 0 && f->base <= c->from && f->end > c->from && i == c->n)
            c->from = p->compacted == 0 ? f->end : c->from; /* a pass of an earlier life */
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
    return gaps || (dirty > 0 && (dirty * 2 >= all || late));
}

static int compact_pass(struct compact *c)
{
    bool full = false, worth;
    int r = 0;
    c->upto = c->ends[c->n - 1];
    compact_grow(c);
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

static void compact_end(struct compact *c, int r)
{
    struct stream_part *p = c->p;
    bool failed = r < 0 && r != -EBADMSG && r != -ENOENT; /* ENOENT: it was trimmed or deleted meanwhile */
    pthread_mutex_lock(&c->s->streams->lock);
    if (r == 0)
        p->compacted = c->upto;
    p->damaged = r == -EBADMSG;
    p->again_us = failed ? mqg_clock_mono_us() + COMPACT_AGAIN_US : 0;
    pthread_mutex_unlock(&c->s->streams->lock);
    if (failed)
        mqg_log(MQG_LOG_WARN, MQG_EVENT_STORE, "store=%s what=compaction partition=%llu error=%s",
                c->s->section, (unsigned long long)p->id, mqg_logqs(jrn_errno(r)));
    else if (r == 0 && c->dropped)
        mqg_log(MQG_LOG_INFO, MQG_EVENT_STORE, "store=%s what=compaction partition=%llu dropped=%llu keys=%u",
                c->s->section, (unsigned long long)p->id, (unsigned long long)c->dropped, c->nkey);
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
    mqg_dynbuf_init(&c.plain, COMPACT_PLAIN_MAX);
    mqg_dynbuf_init(&c.packed, COMPACT_BUF_MAX);
    int r = wanted ? compact_pass(&c) : 0;
    mqg_dynbuf_fini(&c.plain);
    mqg_dynbuf_fini(&c.packed);
    if (wanted)
        compact_end(&c, r);
    for (uint32_t i = 0; i < c.n; i++)
        jrn_part_file_unref(s, &c.files[i]);
    free(c.files);
    free(c.bytes);
    free(c.ends);
    free(c.keys);
}
