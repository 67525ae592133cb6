/* commit.c - the one thread that writes: it takes what all lanes have handed over, puts a head over it,
 * writes it, syncs it, and only then tells.
 *
 * Group commit needs no timer: while one fdatasync runs, the next batch gathers itself in the inbox, so a
 * busy disk makes larger commits and an idle one commits at once. The order of the four steps is the promise
 * of the whole store:
 *
 *   pwritev (all frames of the round) -> fdatasync -> extents get places, streams batches -> done(lane, ticket)
 *
 * A segment is written only after its predecessor was synced whole: so a torn tail can be in the last segment
 * only, and whatever does not check before it is corruption. Every segment begins with a manifest of the
 * segments that count; what is on disk and not in it (a recycled file, a cut tail) does not exist.
 *
 * When nothing came for 100 ms a SEAL follows: its durable_at_write is the witness for the last frame that
 * was confirmed. */
#include "account.h"
#include "cold.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
    COMMIT_LAZY_US = 100 * 1000,
    COMMIT_FRAME_MAX = 8 << 20, /* a frame is closed beyond this, so that recovery needs no large buffer */
    COMMIT_RETRY_MS = 50,
    COMMIT_LANE = 0xffff, /* the committer's own chunks: manifest, seal */
};

/* ---- failure ------------------------------------------------------------------------------------------- */

void jrn_fail(struct mqg_store *s, enum mqg_err err, const char *text)
{
    if (atomic_exchange(&s->failed, true))
        return;
    atomic_store(&s->state, "failed");
    s->host.failed(s->host.host, err, text); /* logs it */
}

static int commit_fail(struct mqg_store *s, const char *call, int r)
{
    char text[256];
    snprintf(text, sizeof text,
             "%s in %s: %s; nothing is confirmed from here on, a restart reads what the disk has", call,
             s->path, jrn_errno(r));
    jrn_fail(s, r == -ENOSPC ? MQG_NO_SPACE : MQG_IO, text);
    return r;
}

/* ---- writing ------------------------------------------------------------------------------------------- */

static int commit_sync(struct mqg_store *s)
{
    struct jrn_committer *com = &s->com;
    uint64_t begin = mqg_clock_mono_us();
    int r = jrn_fs_sync(s->fs, com->tail->fd);
    if (r < 0)
        return commit_fail(s, "fdatasync", r);
    uint64_t us = mqg_clock_mono_us() - begin;
    com->durable = com->number;
    com->dirty = false;
    if (atomic_exchange_explicit(&s->last.sure_seq, com->tail->seq, memory_order_relaxed) != com->tail->seq)
        jrn_keeper_wake(s);
    atomic_store_explicit(&s->stat_sync_us, us, memory_order_relaxed);
    mqg_count(MQG_COUNT_STORE_SYNC_US, us);
    return 0;
}

static struct iovec *commit_iov(struct jrn_committer *com, size_t n)
{
    if (n > com->cap_iov) {
        com->cap_iov = n * 2;
        com->iov = mqg_xrealloc(com->iov, com->cap_iov * sizeof *com->iov);
    }
    return com->iov;
}

/* Writes one frame over the chunks from first up to (not including) end; length is head + chunks. */
static int commit_frame(struct mqg_store *s, struct jrn_chunk *first, const struct jrn_chunk *end,
                        uint64_t length, uint16_t flags)
{
    static const uint8_t zeros[JRN_BLOCK];
    struct jrn_committer *com = &s->com;
    struct jrn_seg *seg = com->tail;
    uint8_t head[JRN_FRAME_HEAD];
    struct jrn_frame f = {.flags = flags,
                          .seq = seg->seq,
                          .number = com->number + 1,
                          .durable_at_write = com->durable,
                          .term = com->term,
                          .offset = seg->end,
                          .length = (uint32_t)length};
    size_t n = 2;
    uint64_t at = seg->end + JRN_FRAME_HEAD;
    f.chunks_crc = jrn_chunks_crc_begin(&seg->use);
    for (struct jrn_chunk *c = first; c != end; c = c->next) {
        c->seg = seg;
        c->place = at;
        at += c->total;
        n += 2 * (size_t)c->npiece + 1;
        f.chunks++;
        f.records += c->records;
        f.chunks_crc = jrn_crc32c(f.chunks_crc, c->arena, JRN_CHUNK_HEAD);
    }
    jrn_frame_encode(head, &seg->use, &f);
    struct iovec *iov = commit_iov(com, n);
    int used = 1;
    iov[0] = (struct iovec){head, sizeof head};
    for (const struct jrn_chunk *c = first; c != end; c = c->next)
        used += jrn_chunk_iov(c, iov + used);
    uint64_t padded = jrn_round_block(length);
    if (padded > length)
        iov[used++] = (struct iovec){(void *)(uintptr_t)zeros, (size_t)(padded - length)};
    int r = jrn_fs_write(s->fs, seg->fd, iov, used, seg->end);
    if (r < 0)
        return commit_fail(s, "write", r);
    com->number = seg->last_number = f.number;
    seg->end += padded;
    com->dirty = true;
    com->sealed = (flags & JRN_FRAME_SEAL) != 0;
    atomic_fetch_add_explicit(&s->stat_bytes, padded, memory_order_relaxed);
    atomic_fetch_add_explicit(&s->stat_records, f.records, memory_order_relaxed);
    mqg_count(MQG_COUNT_STORE_BYTES, padded);
    return 0;
}

/* ---- segments ------------------------------------------------------------------------------------------ */

static struct jrn_chunk *commit_own_chunk(struct mqg_store *s)
{
    struct jrn_chunk *c = jrn_chunk_new();
    jrn_chunk_begin(c, COMMIT_LANE, 0, 0, atomic_fetch_add(&s->salt, 1));
    return c;
}

/* The segments that count besides the one that is to begin. */
static struct jrn_chunk *commit_manifest(struct mqg_store *s)
{
    struct mqg_dynbuf rows;
    mqg_dynbuf_init(&rows, JRN_CHUNK_MAX);
    pthread_mutex_lock(&s->seg_lock);
    for (struct jrn_seg *seg = s->segs; seg; seg = seg->next) {
        if (jrn_seg_is_cold(seg) && !seg->adopted)
            continue;
        mqg_dynbuf_le64(&rows, seg->seq);
        mqg_dynbuf_le64(&rows, seg->use.nonce);
        mqg_dynbuf_le64(&rows, seg->last_number);
        mqg_dynbuf_le64(&rows, seg->end);
    }
    pthread_mutex_unlock(&s->seg_lock);
    struct jrn_chunk *c = commit_own_chunk(s);
    (void)jrn_chunk_raw(c, JRN_REC_MANIFEST, 0, mqg_dynbuf_view(&rows));
    jrn_chunk_end(c);
    mqg_dynbuf_fini(&rows);
    return c;
}

/* A file for the next segment; waits while the disk is full, for recycling or an operator may make room. */
static int commit_next_file(struct mqg_store *s, uint64_t bytes, struct jrn_seg **out)
{
    bool oversized = bytes > s->segment_bytes;
    for (;;) {
        if (!oversized && (*out = jrn_spare_take(s)) != NULL)
            return 0;
        int r = jrn_seg_create(s, oversized ? bytes : s->segment_bytes, oversized, false, out);
        if (r != -ENOSPC && r != -EDQUOT)
            return r;
        if (!atomic_exchange(&s->blocked, true)) {
            atomic_store(&s->state, "blocked");
            s->host.pressure(s->host.host, true, "the disk is full");
        }
        if (atomic_load(&s->stopping) || atomic_load(&s->closing))
            return r;
        jrn_keeper_wake(s);
        (void)jrn_spare_wait(s, COMMIT_RETRY_MS);
    }
}

/* Ends the tail and begins the next segment with its manifest; `need` are the bytes that must fit in one
 * frame. */
static int commit_roll(struct mqg_store *s, uint64_t need)
{
    struct jrn_committer *com = &s->com;
    struct jrn_seg *old = com->tail, *seg;
    if (old && com->dirty && commit_sync(s) < 0)
        return -EIO;
    struct jrn_chunk *manifest = commit_manifest(s);
    uint64_t length = JRN_FRAME_HEAD + manifest->total;
    int r = commit_next_file(s, JRN_HEADER_BYTES + jrn_round_block(length) + jrn_round_block(need), &seg);
    if (r < 0) {
        jrn_chunk_free(&manifest);
        return commit_fail(s, "making a segment", r);
    }
    seg->seq = s->segs_last ? s->segs_last->seq + 1 : 1;
    seg->first_number = com->number + 1;
    atomic_store(&seg->state, JRN_TAIL);
    com->tail = seg;
    jrn_seg_append(s, seg);
    r = commit_frame(s, manifest, NULL, length, 0);
    jrn_chunk_free(&manifest);
    if (old) {
        old->closed_us = old->left_us = mqg_clock_mono_us();
        atomic_store(&old->state, JRN_CLOSED);
    }
    jrn_keeper_rolled(s);
    return r;
}

/* ---- a round ------------------------------------------------------------------------------------------- */

/* A record that was written again is void when its key got a newer one meanwhile. */
static void commit_void_stale(struct mqg_store *s, struct jrn_chunk *c)
{
    if (!c->restates)
        return;
    for (uint32_t i = 0; i < c->nkeyed; i++) {
        const struct jrn_keyed *k = &c->keyed[i];
        if (k->restated && !jrn_keys_is(&s->keys, k, k->old_seq, k->old_off))
            jrn_chunk_void(c, k->arena_off);
    }
}

/* What the segment holds now; others read that under the lock. */
static void commit_spans(struct mqg_store *s, struct jrn_seg *seg, const struct jrn_chunk *c)
{
    if (c->msgs.n == 0 && c->facts.n == 0 && c->nkeyed == 0)
        return;
    pthread_mutex_lock(&s->seg_lock);
    for (uint32_t i = 0; i < c->msgs.n; i++) {
        const struct jrn_span *span = &c->msgs.at[i];
        jrn_spans_hold(&seg->msgs, span);
        jrn_spans_add(&s->high, span->queue_id, span->last, span->last);
    }
    for (uint32_t i = 0; i < c->facts.n; i++)
        jrn_spans_fact(&seg->facts, &c->facts.at[i]);
    seg->keyed |= c->nkeyed != 0;
    for (uint32_t i = 0; i < c->nkeyed; i++)
        seg->trims |= c->keyed[i].trim;
    pthread_mutex_unlock(&s->seg_lock);
}

/* After the write the places are known. */
static void commit_note(struct mqg_store *s, struct jrn_chunk *c)
{
    struct jrn_seg *seg = c->seg;
    for (uint32_t i = 0; i < c->nkeyed; i++) {
        const struct jrn_keyed *k = &c->keyed[i];
        if (!k->restated || jrn_keys_is(&s->keys, k, k->old_seq, k->old_off))
            jrn_keys_set(&s->keys, k, seg->seq, (uint32_t)(c->place + k->off));
    }
    commit_spans(s, seg, c);
    if (c->nparts)
        jrn_cold_adopted(s, c);
    if (c->frees) {
        jrn_seg_remove(s, c->frees);
        atomic_store(&c->frees->state, JRN_FREED);
    }
    if (c->extent) {
        c->extent->owner = seg;
        atomic_fetch_add(&seg->extents, 1);
        atomic_fetch_add(&seg->live, 1);
    }
    for (uint32_t i = 0; i < c->nnote; i++)
        if (c->notes[i].kind == JRN_NOTE_BATCH) {
            atomic_fetch_add(&seg->live, 1);
            seg->batch_bytes += c->notes[i].len;
        }
}

static uint64_t commit_room(const struct mqg_store *s)
{
    return s->com.tail ? s->com.tail->bytes - s->com.tail->end : 0;
}

/* May the chunk stand in the frame that begins with `from` and is `length` long? One that says old facts
 * again comes alone: what it may repeat depends on the keys of everything before it, and those are noted when
 * a frame is written. */
static bool commit_joins(const struct mqg_store *s, const struct jrn_chunk *from, const struct jrn_chunk *c,
                         uint64_t length)
{
    if (c != from && (c->restates || from->restates || length >= COMMIT_FRAME_MAX))
        return false;
    return jrn_round_block(length + c->total) <= commit_room(s);
}

/* Writes all waiting chunks: as few frames as the segments' bounds allow. */
static int commit_write(struct mqg_store *s)
{
    struct jrn_committer *com = &s->com;
    struct jrn_chunk *c = com->first;
    while (c) {
        struct jrn_chunk *from = c;
        uint64_t length = JRN_FRAME_HEAD;
        for (; c && commit_joins(s, from, c, length); c = c->next)
            length += c->total;
        if (c == from) { /* not even one fits */
            int r = commit_roll(s, JRN_FRAME_HEAD + c->total);
            if (r < 0)
                return r;
            continue;
        }
        commit_void_stale(s, from);
        int r = commit_frame(s, from, c, length, 0);
        if (r < 0)
            return r;
        for (; from != c; from = from->next)
            commit_note(s, from);
    }
    return 0;
}

/* Everything written is as durable as promised: places, streams, tickets. */
static void commit_tell(struct mqg_store *s)
{
    struct jrn_committer *com = &s->com;
    memset(com->told, 0, s->nlanes * sizeof *com->told);
    struct jrn_chunk *c = com->first;
    com->first = NULL;
    com->last_next = &com->first;
    for (struct jrn_chunk *next; c; c = next) {
        next = c->next;
        if (c->gone.n)
            jrn_account_settled(s, c);
        if (c->nnote)
            jrn_streams_apply(s, c);
        if (c->extent) {
            struct mqg_extent *x = c->extent;
            atomic_store_explicit(&x->place, c->place, memory_order_release);
            if (atomic_fetch_sub_explicit(&x->live, 1, memory_order_acq_rel) == 1)
                jrn_extent_dead(s, x);
        }
        atomic_fetch_sub_explicit(&s->queued_bytes, (int64_t)c->total, memory_order_relaxed);
        if (c->told)
            c->told(c, c->told_arg);
        else if (c->lane < s->nlanes)
            com->told[c->lane] = c->ticket;
        jrn_lane_back(s, c);
    }
    for (uint32_t lane = 0; lane < s->nlanes; lane++)
        if (com->told[lane])
            s->host.done(s->host.host, lane, com->told[lane]);
}

/* A makeshift tail costs twice at each sync: it is left for a proper file as soon as the keeper has one. Not when much of it is used: it
 * will soon be full, and can be used again then (jrn_seg_finish). */
static int commit_better_tail(struct mqg_store *s)
{
    const struct jrn_seg *tail = s->com.tail;
    if (!tail || !tail->makeshift || atomic_load(&tail->end) > tail->bytes / 4 || !jrn_spare_wait(s, 0))
        return 0;
    return commit_roll(s, 0);
}

/* A file that somebody removed takes what is in it along, however well it was synced. */
static int commit_still_there(struct mqg_store *s)
{
    int links = s->fs->links ? s->fs->links(s->fs->ctx, s->com.tail->fd) : 1;
    return links == 0 ? commit_fail(s, "somebody removed the segment that is being written", -ENOENT) : 0;
}

static void commit_round(struct mqg_store *s)
{
    if (commit_better_tail(s) < 0)
        return;
    if (commit_write(s) < 0 || (s->flush_sync && commit_sync(s) < 0) || commit_still_there(s) < 0)
        return;
    atomic_fetch_add_explicit(&s->stat_commits, 1, memory_order_relaxed);
    mqg_count(MQG_COUNT_STORE_COMMITS, 1);
    MQG_TRACE("journal", 0, "what=commit frame=%llu file=%s end=%llu sync_us=%llu",
              (unsigned long long)s->com.number, s->com.tail->name, (unsigned long long)s->com.tail->end,
              (unsigned long long)atomic_load(&s->stat_sync_us));
    commit_tell(s);
    s->com.last_us = mqg_clock_mono_us();
}

static int commit_seal(struct mqg_store *s, bool clean)
{
    struct jrn_committer *com = &s->com;
    uint8_t number[8];
    if (com->dirty && commit_sync(s) < 0)
        return -EIO;
    mqg_put_le64(number, com->durable);
    struct jrn_chunk *c = commit_own_chunk(s);
    (void)jrn_chunk_raw(c, JRN_REC_SEAL, JRN_REC_IGNORABLE, mqg_slice_of(number, sizeof number));
    jrn_chunk_end(c);
    uint64_t length = JRN_FRAME_HEAD + c->total;
    int r = commit_room(s) < jrn_round_block(length) ? commit_roll(s, length) : 0;
    if (r == 0)
        r = commit_frame(s, c, NULL, length, (uint16_t)(JRN_FRAME_SEAL | (clean ? JRN_FRAME_CLEAN : 0)));
    jrn_chunk_free(&c);
    return r == 0 ? commit_sync(s) : r;
}

/* ---- the thread ---------------------------------------------------------------------------------------- */

static bool commit_urgent(const struct mqg_store *s)
{
    if (atomic_load(&s->closing))
        return true;
    for (const struct jrn_chunk *c = s->com.first; c; c = c->next)
        if (c->flags & MQG_SUBMIT_URGENT)
            return true;
    return false;
}

/* Failed or stopped: what waits is dropped, never told. */
static void commit_drop(struct mqg_store *s)
{
    struct jrn_chunk *c = s->com.first;
    s->com.first = NULL;
    s->com.last_next = &s->com.first;
    for (struct jrn_chunk *next; c; c = next) {
        next = c->next;
        jrn_chunk_free(&c);
    }
}

/* Nothing to write: seal when it is time, else sleep. */
static void commit_idle(struct mqg_store *s)
{
    struct jrn_committer *com = &s->com;
    if (com->sealed || !com->tail) {
        jrn_inbox_sleep(s, JRN_DEEP, 0);
        return;
    }
    uint64_t since = mqg_clock_mono_us() - com->last_us;
    if (since >= COMMIT_LAZY_US)
        (void)commit_seal(s, false);
    else
        jrn_inbox_sleep(s, JRN_LIGHT, COMMIT_LAZY_US - since);
}

static bool commit_turn(struct mqg_store *s)
{
    struct jrn_committer *com = &s->com;
    jrn_inbox_gather(s);
    com->slept_us = 0;
    if (atomic_load(&s->failed)) {
        commit_drop(s);
        if (atomic_load(&s->stopping) || atomic_load(&s->closing))
            return false;
        jrn_inbox_sleep(s, JRN_DEEP, 0);
        return true;
    }
    if (atomic_load(&s->stopping))
        return false;
    if (!com->first && atomic_load(&s->closing)) {
        (void)commit_seal(s, true);
        return false;
    }
    if (!com->first) {
        commit_idle(s);
        return true;
    }
    uint64_t age = mqg_clock_mono_us() - com->lazy_since_us;
    if (commit_urgent(s) || age >= COMMIT_LAZY_US)
        commit_round(s);
    else
        jrn_inbox_sleep(s, JRN_LIGHT, COMMIT_LAZY_US - age);
    return true;
}

static void *commit_run(void *arg)
{
    struct mqg_store *s = arg;
    pthread_setname_np(pthread_self(), "journal");
    while (commit_turn(s)) {
    }
    return NULL;
}

/* The next segment begins at once: it has the present version in its header, and is synced, with its name, before it is used. On a
 * full disk the start is refused; the older program can still drain the store then. */
int jrn_committer_raise(struct mqg_store *s)
{
    struct jrn_seg *tail = s->com.tail, *spare;
    if (!tail || tail->version == JRN_VERSION)
        return 0;
    if (!jrn_spare_wait(s, 0)) {
        int r = jrn_seg_create(s, s->segment_bytes, false, false, &spare);
        if (r < 0)
            return r;
        jrn_spare_give(s, spare);
    }
    mqg_log(MQG_LOG_INFO, MQG_EVENT_STORE, "store=%s what=format_raised from=%u to=%d", s->section,
            tail->version, JRN_VERSION);
    return commit_roll(s, 0) < 0 ? -EIO : 0;
}

int jrn_committer_start(struct mqg_store *s)
{
    struct jrn_committer *com = &s->com;
    com->last_next = &com->first;
    com->told = mqg_xcalloc(s->nlanes, sizeof *com->told);
    com->last_us = mqg_clock_mono_us();
    if (!com->tail && commit_roll(s, 0) < 0)
        return -EIO;
    if (commit_seal(s, false) < 0) /* from here on the last stop was not a clean one */
        return -EIO;
    int r = pthread_create(&com->thread, NULL, commit_run, s);
    com->running = r == 0;
    return -r;
}

void jrn_committer_stop(struct mqg_store *s)
{
    if (s->com.running) {
        jrn_inbox_wake(s);
        pthread_join(s->com.thread, NULL);
        s->com.running = false;
    }
}

void jrn_committer_fini(struct mqg_store *s)
{
    jrn_inbox_gather(s);
    commit_drop(s);
    free(s->com.told);
    free(s->com.iov);
}
