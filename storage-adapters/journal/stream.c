/* stream.c - partitions that live in the journal's segments: where each batch stands, and how far the log is
 * whole.
 *
 * Offsets are given by the host under the partition's lock, but batches of one partition come by several
 * lanes and so in any order. The high watermark is the end of the run that is contiguous and durable: a batch
 * beyond a gap is kept, not shown. After an unclean stop a gap may remain for ever (the batch in it was never
 * confirmed); then the log is cut there, and a CUT record says "batches of earlier terms from this offset on
 * are void": the term is raised at each start, so the offsets can be given again, and a second recovery does
 * not find the old bytes. A CUT is a fact, it may be said twice.
 *
 * An index row of 40 bytes per batch stays in memory; partition files with a sparse index take over later.
 * Until then a batch keeps its segment alive until it is trimmed. */
#include "journal.h"

#include <stdlib.h>

struct stream_found {
    uint64_t term, order;
    struct jrn_batch_ref ref;
};

struct stream_cut {
    uint64_t term, end;
};

struct stream_part {
    uint64_t id;
    bool gone;
    uint64_t log_start, high;
    struct jrn_batch_ref *at; /* by base offset; [0, whole) is the contiguous run */
    uint32_t n, cap, whole;
    uint64_t *waits; /* offsets somebody waits for */
    uint32_t nwait, cap_wait;
    struct stream_found *found; /* recovery only */
    struct stream_cut *cuts;
    uint32_t nfound, cap_found, ncut, cap_cut;
};

struct stream_position {
    uint32_t hash2;
    uint64_t offset;
};

struct jrn_streams {
    pthread_mutex_t lock;
    struct jrn_map part_of, position_of;
    struct stream_part *parts;
    struct stream_position *positions;
    uint32_t npart, cap_part, nposition, cap_position;
    uint64_t *ready; /* committer: partitions to tell about, outside the lock */
    uint32_t nready, cap_ready;
};

#define STREAM_PUSH(owner, list, count, cap)                                                                 \
    ((owner)->count == (owner)->cap                                                                          \
         ? (void)((owner)->cap = (owner)->cap ? (owner)->cap * 2 : 4,                                        \
                  (owner)->list = mqg_xrealloc((owner)->list, (size_t)(owner)->cap * sizeof *(owner)->list)) \
         : (void)0,                                                                                          \
     &(owner)->list[(owner)->count++])

struct jrn_streams *jrn_streams_new(struct mqg_store *s)
{
    (void)s;
    struct jrn_streams *st = mqg_xcalloc(1, sizeof *st);
    pthread_mutex_init(&st->lock, NULL);
    return st;
}

void jrn_streams_free(struct jrn_streams **streams)
{
    struct jrn_streams *st = *streams;
    if (!st)
        return;
    for (uint32_t i = 0; i < st->npart; i++) {
        free(st->parts[i].at);
        free(st->parts[i].waits);
        free(st->parts[i].found);
        free(st->parts[i].cuts);
    }
    jrn_map_fini(&st->part_of);
    jrn_map_fini(&st->position_of);
    free(st->parts);
    free(st->positions);
    free(st->ready);
    pthread_mutex_destroy(&st->lock);
    free(st);
    *streams = NULL;
}

static struct stream_part *stream_part(struct jrn_streams *st, uint64_t id)
{
    bool fresh;
    uint32_t *at = jrn_map_put(&st->part_of, id, &fresh);
    if (fresh) {
        *at = st->npart;
        *STREAM_PUSH(st, parts, npart, cap_part) = (struct stream_part){.id = id};
    }
    return &st->parts[*at];
}

static struct stream_part *stream_find(struct jrn_streams *st, uint64_t id)
{
    uint32_t at = jrn_map_get(&st->part_of, id);
    return at == JRN_MAP_NONE || st->parts[at].gone ? NULL : &st->parts[at];
}

/* ---- the index of a partition -------------------------------------------------------------------------- */

static uint64_t stream_end(const struct jrn_batch_ref *ref)
{
    return ref->base_offset + ref->count;
}

/* The first row that ends beyond the offset. */
static uint32_t stream_row(const struct stream_part *p, uint64_t offset)
{
    uint32_t low = 0, high = p->n;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (stream_end(&p->at[mid]) > offset)
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

static void stream_insert(struct stream_part *p, struct jrn_batch_ref ref)
{
    uint32_t at = p->n;
    while (at > 0 && p->at[at - 1].base_offset > ref.base_offset)
        at--;
    (void)STREAM_PUSH(p, at, n, cap);
    memmove(&p->at[at + 1], &p->at[at], (p->n - 1 - at) * sizeof *p->at);
    p->at[at] = ref;
    while (p->whole < p->n && p->at[p->whole].base_offset <= p->high) {
        uint64_t end = stream_end(&p->at[p->whole++]);
        if (end > p->high)
            p->high = end;
    }
}

/* Forgets the first n rows; their segments are one live thing poorer. */
static void stream_drop(struct mqg_store *s, struct stream_part *p, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        jrn_seg_give(s, p->at[i].seg);
    memmove(p->at, p->at + n, (p->n - n) * sizeof *p->at);
    p->n -= n;
    p->whole = p->whole > n ? p->whole - n : 0;
}

static void stream_trim(struct mqg_store *s, struct stream_part *p, uint64_t start)
{
    if (start <= p->log_start)
        return;
    p->log_start = start;
    if (p->high < start)
        p->high = start;
    stream_drop(s, p, stream_row(p, start));
}

static void stream_delete(struct mqg_store *s, struct stream_part *p)
{
    p->gone = true;
    stream_drop(s, p, p->n);
    free(p->at);
    p->at = NULL;
    p->cap = 0;
}

/* ---- positions ----------------------------------------------------------------------------------------- */

static void stream_position(struct jrn_streams *st, struct mqg_slice main, uint64_t offset)
{
    struct jrn_keyed key = {0};
    bool fresh;
    if (!jrn_key_of(JRN_REC_POSITION, main, &key))
        return;
    uint32_t *at = jrn_map_put(&st->position_of, key.hash, &fresh);
    if (fresh) {
        *at = st->nposition;
        (void)STREAM_PUSH(st, positions, nposition, cap_position);
    }
    st->positions[*at] = (struct stream_position){key.hash2, offset};
}

void jrn_position_get(struct mqg_store *s, struct mqg_position_req *req)
{
    struct jrn_streams *st = s->streams;
    struct mqg_slice group = req->group;
    struct jrn_keyed key = {0};
    uint8_t *main = mqg_xcalloc(1, 20 + group.len);
    mqg_put_le64(main, req->partition);
    mqg_put_le32(main + 16, (uint32_t)group.len);
    if (group.len)
        memcpy(main + 20, group.ptr, group.len);
    bool keyed = jrn_key_of(JRN_REC_POSITION, mqg_slice_of(main, 20 + group.len), &key);
    free(main);
    MQG_ASSERT(keyed);
    pthread_mutex_lock(&st->lock);
    uint32_t at = jrn_map_get(&st->position_of, key.hash);
    bool found = at != JRN_MAP_NONE && st->positions[at].hash2 == key.hash2 &&
                 st->positions[at].offset != MQG_OFFSET_NONE;
    if (found)
        req->offset = st->positions[at].offset;
    pthread_mutex_unlock(&st->lock);
    req->err = found ? MQG_OK : MQG_NOT_FOUND;
    req->done(req);
}

/* ---- what became durable ------------------------------------------------------------------------------- */

/* Moves the waits that are over to the list of those to tell. Under the lock. */
static void stream_wake(struct jrn_streams *st, struct stream_part *p)
{
    uint32_t kept = 0, had = p->nwait;
    for (uint32_t i = 0; i < had; i++)
        if (p->waits[i] >= p->high)
            p->waits[kept++] = p->waits[i];
    p->nwait = kept;
    if (kept < had)
        *STREAM_PUSH(st, ready, nready, cap_ready) = p->id;
}

static void stream_note(struct mqg_store *s, const struct jrn_chunk *c, const struct jrn_note *note)
{
    struct jrn_streams *st = s->streams;
    if (note->kind == JRN_NOTE_POSITION) {
        stream_position(st, mqg_slice_of(c->arena + note->arena_off, note->len), note->offset);
        return;
    }
    struct stream_part *p = stream_part(st, note->partition);
    if (p->gone) {
        if (note->kind == JRN_NOTE_BATCH)
            jrn_seg_give(s, c->seg);
        return;
    }
    switch (note->kind) {
    case JRN_NOTE_BATCH:
        stream_insert(p, (struct jrn_batch_ref){note->offset, note->max_time_ms, note->count, note->len,
                                                (uint32_t)(c->place + note->off), c->seg});
        stream_wake(st, p);
        return;
    case JRN_NOTE_TRIM: stream_trim(s, p, note->offset); return;
    case JRN_NOTE_STREAM:
        if (!note->exists)
            stream_delete(s, p);
        return;
    case JRN_NOTE_CONF:
    case JRN_NOTE_POSITION: return;
    }
}

void jrn_streams_apply(struct mqg_store *s, const struct jrn_chunk *c)
{
    struct jrn_streams *st = s->streams;
    pthread_mutex_lock(&st->lock);
    for (uint32_t i = 0; i < c->nnote; i++)
        stream_note(s, c, &c->notes[i]);
    pthread_mutex_unlock(&st->lock);
    for (uint32_t i = 0; i < st->nready; i++) /* the committer's own list */
        s->host.stream_ready(s->host.host, st->ready[i]);
    st->nready = 0;
}

/* ---- recovery ------------------------------------------------------------------------------------------ */

void jrn_streams_found_batch(struct mqg_store *s, struct jrn_seg *seg, uint64_t off,
                             const struct jrn_batch *b, uint64_t term)
{
    struct stream_part *p = stream_part(s->streams, b->partition);
    struct jrn_batch_ref ref = {b->base_offset,         b->max_time_ms, b->count,
                                (uint32_t)b->bytes.len, (uint32_t)off,  seg};
    *STREAM_PUSH(p, found, nfound, cap_found) = (struct stream_found){term, p->nfound, ref};
}

void jrn_streams_found_def(struct mqg_store *s, const struct jrn_stream_def *d)
{
    struct stream_part *p = stream_part(s->streams, d->partition);
    p->gone = p->gone || !d->exists;
}

void jrn_streams_found_trim(struct mqg_store *s, uint64_t partition, uint64_t start)
{
    struct stream_part *p = stream_part(s->streams, partition);
    if (start > p->log_start)
        p->log_start = start;
}

void jrn_streams_found_cut(struct mqg_store *s, uint64_t partition, uint64_t term, uint64_t end)
{
    struct stream_part *p = stream_part(s->streams, partition);
    *STREAM_PUSH(p, cuts, ncut, cap_cut) = (struct stream_cut){term, end};
}

void jrn_streams_found_position(struct mqg_store *s, const struct jrn_position *pos)
{
    size_t len = 20 + pos->group.len; /* the record's main begins 20 bytes before the group */
    stream_position(s->streams, mqg_slice_of(pos->group.ptr - 20, len), pos->offset);
}

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
    return stream_end(&f->ref) <= p->log_start;
}

/* Takes over what continues the log; true when something that does not was left behind. */
static bool stream_settle(struct stream_part *p)
{
    bool beyond = false;
    if (p->nfound)
        qsort(p->found, p->nfound, sizeof *p->found, stream_found_order);
    p->high = p->log_start;
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
        if (stream_end(&f->ref) <= p->high)
            continue;
        atomic_fetch_add(&f->ref.seg->live, 1);
        stream_insert(p, f->ref);
    }
    free(p->found);
    p->found = NULL;
    p->nfound = p->cap_found = 0;
    return beyond;
}

static void stream_cut(struct mqg_store *s, struct stream_part *p, uint64_t term)
{
    enum { STREAM_LANE = 0xfffd };
    uint8_t main[24];
    mqg_put_le64(main, p->id);
    mqg_put_le64(main + 8, term);
    mqg_put_le64(main + 16, p->high);
    struct jrn_chunk *c = jrn_chunk_new();
    struct jrn_keyed key = {0};
    jrn_chunk_begin(c, STREAM_LANE, 0, MQG_SUBMIT_URGENT, atomic_fetch_add(&s->salt, 1));
    bool keyed = jrn_key_of(JRN_REC_CUT, mqg_slice_of(main, sizeof main), &key);
    MQG_ASSERT(keyed);
    key.arena_off = (uint32_t)c->len;
    key.off = jrn_chunk_raw(c, JRN_REC_CUT, 0, mqg_slice_of(main, sizeof main));
    jrn_chunk_note_key(c, key);
    jrn_chunk_end(c);
    jrn_submit(s, c);
    mqg_log(MQG_LOG_WARN, MQG_EVENT_RECOVERY, "store=%s what=stream_cut partition=%llu end=%llu", s->section,
            (unsigned long long)p->id, (unsigned long long)p->high);
}

void jrn_streams_found_end(struct mqg_store *s, struct mqg_recover *r, uint64_t term)
{
    struct jrn_streams *st = s->streams;
    for (uint32_t i = 0; i < st->npart; i++) {
        struct stream_part *p = &st->parts[i];
        if (p->gone) {
            free(p->found);
            p->found = NULL;
            continue;
        }
        if (stream_settle(p))
            stream_cut(s, p, term);
        struct mqg_stream_bounds b = {p->log_start, p->high, p->high};
        if (r->stream)
            r->stream(r->arg, p->id, &b);
    }
}

/* ---- reading ------------------------------------------------------------------------------------------- */

enum mqg_err jrn_streams_pick(struct mqg_store *s, struct mqg_stream_read *r, struct jrn_batch_ref *refs,
                              size_t max, size_t *n)
{
    struct jrn_streams *st = s->streams;
    enum mqg_err err = MQG_NOT_FOUND;
    uint64_t bytes = 0;
    *n = 0;
    pthread_mutex_lock(&st->lock);
    struct stream_part *p = stream_find(st, r->partition);
    if (p) {
        r->high_watermark = p->high;
        r->log_start = p->log_start;
        err = r->offset < p->log_start || r->offset > p->high ? MQG_NOT_FOUND : MQG_OK;
    }
    for (uint32_t i = err == MQG_OK ? stream_row(p, r->offset) : UINT32_MAX;
         i < (p ? p->whole : 0) && *n < max; i++) {
        if (*n > 0 && bytes + p->at[i].len > r->max_bytes)
            break;
        bytes += p->at[i].len;
        atomic_fetch_add(&p->at[i].seg->pins, 1);
        refs[(*n)++] = p->at[i];
    }
    pthread_mutex_unlock(&st->lock);
    return err;
}

enum mqg_err jrn_stream_bounds(struct mqg_store *s, uint64_t partition, struct mqg_stream_bounds *out)
{
    struct jrn_streams *st = s->streams;
    pthread_mutex_lock(&st->lock);
    const struct stream_part *p = stream_find(st, partition);
    if (p)
        *out = (struct mqg_stream_bounds){p->log_start, p->high,
                                          p->n ? stream_end(&p->at[p->n - 1]) : p->high};
    pthread_mutex_unlock(&st->lock);
    return p ? MQG_OK : MQG_NOT_FOUND;
}

void jrn_stream_wait(struct mqg_store *s, uint64_t partition, uint64_t offset)
{
    struct jrn_streams *st = s->streams;
    pthread_mutex_lock(&st->lock);
    struct stream_part *p = stream_find(st, partition);
    bool now = !p || p->high > offset; /* gone: the reader learns it by reading */
    if (!now)
        *STREAM_PUSH(p, waits, nwait, cap_wait) = offset;
    pthread_mutex_unlock(&st->lock);
    if (now)
        s->host.stream_ready(s->host.host, partition);
}

void jrn_stream_time(struct mqg_store *s, struct mqg_time_req *req)
{
    struct jrn_streams *st = s->streams;
    pthread_mutex_lock(&st->lock);
    const struct stream_part *p = stream_find(st, req->partition);
    req->err = p ? MQG_OK : MQG_NOT_FOUND;
    if (p) {
        req->offset = p->high;
        for (uint32_t i = 0; i < p->whole; i++) {
            if (p->at[i].max_time_ms < req->time_ms)
                continue;
            req->offset = p->at[i].base_offset > p->log_start ? p->at[i].base_offset : p->log_start;
            break;
        }
    }
    pthread_mutex_unlock(&st->lock);
    req->done(req);
}

bool jrn_stream_gone(struct mqg_store *s, uint64_t partition)
{
    struct jrn_streams *st = s->streams;
    pthread_mutex_lock(&st->lock);
    uint32_t at = jrn_map_get(&st->part_of, partition);
    bool gone = at != JRN_MAP_NONE && st->parts[at].gone;
    pthread_mutex_unlock(&st->lock);
    return gone;
}
