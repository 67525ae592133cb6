/* evac.c - a segment that is mostly dead is emptied, so that one queue that never acks does not pin the disk.
 *
 * The order of the steps:
 *   1 read the segment; of each message keep the destinations that are not settled for sure (account.h)
 *   2 write those, sorted by queue and qseq, to the cold segment; sync it
 *   3 one chunk into the main log: the facts that still matter (restate.c), ADOPT cold, FREE old. One frame: a crash finds
 *     it or not, so exactly one copy counts
 *   4 once that is durable, publish the table old place -> new place; wait until nobody has the old file pinned
 *   5 use the file again
 *
 * A settle that races with this. Say a message is settled at any time: in memory first (the extent loses one), then by a
 * SETTLE record. (a) Durable before step 1 looks: it is not copied, and no table row names it; nobody asks for it again.
 * (b) Durable later, or never because of a crash: it is copied; the SETTLE stands in the main log and is kept there while
 * any segment holds a message of that queue in its span (restate.c asks the cold one, too: its spans are noted before step
 * 3), so recovery finds the message settled exactly if the SETTLE was durable. The live counts: an extent counts its
 * unsettled destinations wherever they stand, and is not changed by a move. The old segment's descriptor lives as long as
 * one of its extents, and is itself one live thing of each cold segment it points to. So a cold segment is let go when no
 * extent needs it; and that a message was settled in between needs no step at all. What is left out in (a) has had its
 * extent's count taken by the host before the SETTLE was submitted, so no count waits for it.
 *
 * A COUNT or SETTLE of a moved message stands in the old segment as often as not: step 3 says it again like any other.
 *
 * Which segment: the one with the smallest live part, once it is a second old (young ones empty themselves) and under 30 %.
 * When the disk holds more than twice what is live and eight segments, any that is under 65 %: some segment then is under
 * one half, so each move gains. What the cleaner reads and writes is paced (move_rate), and it steps aside while commits
 * wait. */
#include "evac.h"

#include "account.h"
#include "index.h"
#include "leave.h"
#include "reread.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

enum {
    EVAC_LANE = 0xfffc,
    EVAC_PIECE = 1 << 20,
    EVAC_POOL = 4 << 20, /* bytes of survivors per cold frame */
    EVAC_AGE_US = 1000 * 1000,
    EVAC_AGAIN_US = 30 * 1000 * 1000,
    EVAC_SOON_US = 500 * 1000,
    EVAC_PART = 30,        /* per cent live, below which it is worth it */
    EVAC_PART_EXCESS = 65, /* the same while there is too much on the disk */
    EVAC_NO_AGE = 6,       /* segments in excess: age does not matter */
    EVAC_MUCH = 8,
    EVAC_FOREGROUND = 1 << 20, /* bytes waiting for a commit: step aside */
};

struct evac_msg {
    uint64_t queue_id, qseq; /* of its first surviving destination: the order */
    uint64_t off;            /* of its main in the old file */
    size_t at;               /* in the pool */
    uint32_t len, dest, ndest;
};

struct evac_held {
    struct jrn_seg *seg;
    struct jrn_span span;
};

struct jrn_evac {
    struct mqg_store *s;
    struct jrn_cold cold;
    struct jrn_seg *ghosts;
    const _Atomic bool *stop;
    uint64_t paced_us; /* until then the rate is used up */
    uint64_t unpaced;  /* bytes not yet counted */
    /* one run */
    struct jrn_seg *seg;
    struct jrn_moved *moved;
    struct jrn_part parts[JRN_PARTS_MAX];
    uint32_t nparts;
    struct mqg_dynbuf pool;
    struct evac_msg *msgs;
    struct mqg_dest *dests;
    struct evac_held *held;
    uint32_t nmsg, cap_msg, ndest, cap_dest, nheld, cap_held;
    uint64_t bytes, limit, messages;
    int error;
    bool full; /* more survives than is worth moving */
};

#define EVAC_PUSH(e, list, count, cap)                                                       \
    ((e)->count == (e)->cap                                                                  \
         ? (void)((e)->cap = (e)->cap ? (e)->cap * 2 : 64,                                   \
                  (e)->list = mqg_xrealloc((e)->list, (size_t)(e)->cap * sizeof *(e)->list)) \
         : (void)0,                                                                          \
     &(e)->list[(e)->count++])

/* ---- pace ---------------------------------------------------------------------------------------------- */

static void evac_nap(uint64_t us)
{
    nanosleep(&(struct timespec){(time_t)(us / 1000000), (long)(us % 1000000) * 1000}, NULL);
}

static bool evac_stopping(const struct jrn_evac *e)
{
    return atomic_load(e->stop) || atomic_load(&e->s->failed);
}

/* So many bytes were read or written: wait until the rate allows the next ones, and a little while commits wait (unless
 * publishers wait for us). */
static void evac_pace(struct jrn_evac *e, uint64_t bytes)
{
    struct mqg_store *s = e->s;
    e->unpaced += bytes;
    if (e->unpaced < EVAC_PIECE)
        return;
    bytes = e->unpaced;
    e->unpaced = 0;
    uint64_t now = mqg_clock_mono_us(), from = e->paced_us > now ? e->paced_us : now;
    e->paced_us = from + bytes * 1000000 / s->move_rate_bytes;
    bool yields = !atomic_load(&s->blocked);
    for (int i = 0; yields && i < 4 && atomic_load(&s->queued_bytes) > EVAC_FOREGROUND; i++)
        evac_nap(500);
    while ((now = mqg_clock_mono_us()) + 1000 < e->paced_us && !evac_stopping(e))
        evac_nap(e->paced_us - now < 20000 ? e->paced_us - now : 20000);
}

/* ---- 2 writing ----------------------------------------------------------------------------------------- */

static int evac_order(const void *a, const void *b)
{
    const struct evac_msg *x = a, *y = b;
    if (x->queue_id != y->queue_id)
        return x->queue_id < y->queue_id ? -1 : 1;
    return x->qseq < y->qseq ? -1 : x->qseq > y->qseq;
}

/* The cold segment holds them from now on, as far as old facts are asked for (restate.c). */
static void evac_hold(struct jrn_evac *e, const struct jrn_chunk *c)
{
    pthread_mutex_lock(&e->s->seg_lock);
    for (uint32_t i = 0; i < c->msgs.n; i++) {
        jrn_spans_hold(&c->seg->msgs, &c->msgs.at[i]);
        *EVAC_PUSH(e, held, nheld, cap_held) = (struct evac_held){c->seg, c->msgs.at[i]};
    }
    pthread_mutex_unlock(&e->s->seg_lock);
}

/* Spans stay too wide, which costs a fact said once more; numbers must fit. */
static void evac_unhold(struct jrn_evac *e)
{
    pthread_mutex_lock(&e->s->seg_lock);
    for (uint32_t i = 0; i < e->nheld; i++) {
        const struct jrn_span *span = &e->held[i].span;
        uint32_t at = jrn_map_get(&e->held[i].seg->msgs.at, span->queue_id);
        struct jrn_span *have = &e->held[i].seg->msgs.list.at[at];
        have->count -= span->count;
        have->eights -= span->eights;
    }
    pthread_mutex_unlock(&e->s->seg_lock);
}

/* Writes the chunk and notes where each message went; offs: of the mains in the chunk. */
static bool evac_write(struct jrn_evac *e, struct jrn_chunk *c, const struct evac_msg *msgs,
                       const uint32_t *offs, uint32_t n)
{
    jrn_chunk_end(c);
    e->error = jrn_cold_append(e->s, &e->cold, c, e->parts, &e->nparts);
    if (e->error < 0)
        return false;
    evac_hold(e, c);
    for (uint32_t i = 0; i < n; i++)
        jrn_moved_add(e->moved, c->seg, msgs[i].off, c->place + offs[i]);
    evac_pace(e, c->total);
    return true;
}

static struct jrn_chunk *evac_chunk(struct jrn_evac *e)
{
    struct jrn_chunk *c = jrn_chunk_new();
    jrn_chunk_begin(c, EVAC_LANE, 0, 0, atomic_fetch_add(&e->s->salt, 1));
    return c;
}

static bool evac_flush(struct jrn_evac *e)
{
    if (e->nmsg == 0)
        return true;
    struct mqg_slice pool = mqg_dynbuf_view(&e->pool);
    uint32_t *offs = mqg_xcalloc(e->nmsg, sizeof *offs);
    struct jrn_chunk *c = evac_chunk(e);
    qsort(e->msgs, e->nmsg, sizeof *e->msgs, evac_order);
    for (uint32_t i = 0; i < e->nmsg; i++) {
        const struct evac_msg *m = &e->msgs[i];
        offs[i] = jrn_chunk_stored(c, mqg_slice_of(pool.ptr + m->at, m->len), &e->dests[m->dest], m->ndest);
    }
    bool good = evac_write(e, c, e->msgs, offs, e->nmsg);
    jrn_chunk_free(&c);
    free(offs);
    e->nmsg = e->ndest = 0;
    mqg_dynbuf_reset(&e->pool);
    return good;
}

/* One that is large enough to be a frame of its own: copied once, not twice. */
static bool evac_large(struct jrn_evac *e, const struct evac_msg *m, struct mqg_slice stored)
{
    struct jrn_chunk *c = evac_chunk(e);
    uint32_t off = jrn_chunk_stored(c, stored, &e->dests[m->dest], m->ndest);
    bool good = evac_write(e, c, m, &off, 1);
    jrn_chunk_free(&c);
    e->ndest = m->dest;
    return good;
}

/* ---- 1 reading ----------------------------------------------------------------------------------------- */

/* The destinations of the tail that are not settled for sure. */
static void evac_dests(struct jrn_evac *e, struct mqg_slice tail)
{
    struct jrn_dests it;
    struct mqg_dest d;
    pthread_mutex_lock(&e->s->seg_lock);
    for (bool ok = jrn_dests_init(&it, tail); ok && jrn_dests_next(&it, &d);)
        if (!jrn_account_is_settled(e->s, d.queue_id, d.qseq))
            *EVAC_PUSH(e, dests, ndest, cap_dest) = d;
    pthread_mutex_unlock(&e->s->seg_lock);
}

/* A message and all its destinations were read. */
static bool evac_take(struct jrn_evac *e, uint64_t off, struct mqg_slice stored, uint32_t first)
{
    if (e->ndest == first)
        return true;
    struct evac_msg m = {.queue_id = e->dests[first].queue_id,
                         .qseq = e->dests[first].qseq,
                         .off = off,
                         .at = mqg_dynbuf_view(&e->pool).len,
                         .len = (uint32_t)stored.len,
                         .dest = first,
                         .ndest = e->ndest - first};
    e->bytes += stored.len;
    e->messages++;
    e->full = e->bytes > e->limit;
    if (e->full)
        return false;
    if (stored.len >= EVAC_POOL)
        return evac_large(e, &m, stored);
    bool copied = mqg_dynbuf_slice(&e->pool, stored);
    MQG_ASSERT(copied);
    *EVAC_PUSH(e, msgs, nmsg, cap_msg) = m;
    return true;
}

static bool evac_frame(void *arg, uint64_t off, struct mqg_slice bytes)
{
    struct jrn_evac *e = arg;
    struct jrn_walk w;
    struct jrn_rec rec;
    struct mqg_slice stored = MQG_SLICE_NONE;
    uint64_t at = 0;
    uint32_t first = e->ndest;
    bool good = true;
    jrn_walk_init(&w, bytes, &e->seg->use, false);
    while (good && jrn_walk_next(&w, &rec)) {
        if (rec.type == JRN_REC_DESTS) {
            evac_dests(e, rec.tail);
        } else if (rec.type == JRN_REC_MSG) {
            good = evac_take(e, at, stored, first);
            first = e->ndest;
            at = off + rec.frame_off;
            stored = rec.main;
            evac_dests(e, rec.tail);
        }
    }
    good = good && evac_take(e, at, stored, first);
    if (good && mqg_dynbuf_view(&e->pool).len >= EVAC_POOL)
        good = evac_flush(e);
    evac_pace(e, bytes.len);
    return good && !evac_stopping(e);
}

/* ---- 3, 4 the change ----------------------------------------------------------------------------------- */

void jrn_evac_done(struct jrn_evac *e, struct jrn_leaving *done)
{
    struct mqg_store *s = e->s;
    struct jrn_seg *seg = done->seg;
    jrn_cold_keep(&e->cold, done->parts, done->nparts);
    pthread_mutex_lock(&s->seg_lock);
    s->moved_bytes += done->bytes;
    s->moved_messages += done->messages;
    pthread_mutex_unlock(&s->seg_lock);
    atomic_store(&seg->moved, done->moved);
    done->moved = NULL;
    seg->next = e->ghosts;
    e->ghosts = seg;
    MQG_TRACE("journal", 0, "what=evacuated file=%s seq=%llu messages=%llu bytes=%llu", seg->name,
              (unsigned long long)seg->seq, (unsigned long long)done->messages,
              (unsigned long long)done->bytes);
}

void jrn_evac_undo(struct jrn_evac *e, struct jrn_leaving *going)
{
    struct mqg_store *s = e->s;
    uint64_t now = mqg_clock_mono_us();
    evac_unhold(e);
    jrn_cold_undo(s, &e->cold, e->parts, e->nparts);
    jrn_moved_free(&e->moved);
    if (e->error < 0)
        mqg_log(MQG_LOG_WARN, MQG_EVENT_STORE, "store=%s what=not_evacuated file=%s error=%s", s->section,
                e->seg->name, mqg_logqs(jrn_errno(e->error)));
    pthread_mutex_lock(&s->seg_lock);
    e->seg->again_us = now + (e->error < 0 ? EVAC_SOON_US
                                           : EVAC_AGAIN_US); /* sooner when only a file was missing */
    if (e->full && e->seg->live_bytes < e->bytes) { /* the estimate was too low, and stays out of the way */
        e->seg->live_bytes = e->bytes;
        e->seg->kept_us = e->seg->again_us;
    }
    pthread_mutex_unlock(&s->seg_lock);
    atomic_store(&e->seg->state, JRN_CLOSED);
    *going = (struct jrn_leaving){.seg = NULL};
}

void jrn_evac_promise(struct jrn_evac *e, struct jrn_leaving *going)
{
    jrn_cold_promise(&e->cold, e->parts, e->nparts);
    jrn_moved_sort(e->moved);
    for (uint32_t i = 0; i < e->moved->ncold;
         i++) /* the descriptor's, from before anybody may look for dead ones */
        atomic_fetch_add(&e->moved->colds[i]->live, 1);
    going->moved = e->moved;
    e->moved = NULL;
}

static void evac_begin(struct jrn_evac *e, struct jrn_seg *seg)
{
    e->seg = seg;
    e->moved = jrn_moved_new();
    e->nparts = e->nheld = e->nmsg = e->ndest = 0;
    e->bytes = e->messages = 0;
    e->limit = seg->bytes * (EVAC_PART_EXCESS + 5) / 100;
    e->error = 0;
    e->full = false;
    mqg_dynbuf_reset(&e->pool);
}

bool jrn_evac_copy(struct jrn_evac *e, struct jrn_leaving *going)
{
    evac_begin(e, going->seg);
    if (!jrn_reread(e->s, going->seg, evac_frame, e) || !evac_flush(e)) {
        /* The copy is not trusted when it could not be written: that is the disk, not the copy. */
        if (e->error < 0 && e->error != -ENOSPC && e->error != -EDQUOT && e->error != -E2BIG &&
            e->error != -EMFILE && e->error != -ENFILE)
            jrn_fail(e->s, MQG_IO, "a cold segment cannot be written; nothing is confirmed from here on");
        jrn_evac_undo(e, going);
        return false;
    }
    going->nparts = e->nparts;
    going->bytes = e->bytes;
    going->messages = e->messages;
    memcpy(going->parts, e->parts, e->nparts * sizeof e->parts[0]);
    return true;
}

/* ---- which --------------------------------------------------------------------------------------------- */

uint64_t jrn_evac_excess(struct mqg_store *s)
{
    uint64_t live = 0;
    pthread_mutex_lock(&s->seg_lock);
    for (const struct jrn_seg *seg = s->segs; seg; seg = seg->next)
        live += seg->looked_us ? seg->live_bytes : atomic_load(&seg->end);
    uint64_t disk = s->disk_bytes;
    pthread_mutex_unlock(&s->seg_lock);
    return disk > 2 * live ? disk - 2 * live : 0;
}

/* Does the segment end where it says? A cold one does not while what was put into it last is not adopted yet. */
static bool evac_is_whole(const struct jrn_seg *seg)
{
    return atomic_load(&seg->end) >= seg->promised_end;
}

/* Batches of streams are not moved: their own files free the segment. */
static bool evac_may(const struct jrn_seg *seg)
{
    int64_t live = atomic_load(&seg->live), extents = atomic_load(&seg->extents);
    return atomic_load(&seg->state) == JRN_CLOSED && live > 0 && seg->looked_us != 0 && evac_is_whole(seg) &&
           (jrn_seg_is_cold(seg) || live <= extents);
}

struct jrn_seg *jrn_evac_pick(struct jrn_evac *e, bool keyed)
{
    struct mqg_store *s = e->s;
    uint64_t now = mqg_clock_mono_us(), excess = jrn_evac_excess(s) / s->segment_bytes, best_part = 100;
    uint64_t below = excess > EVAC_MUCH ? EVAC_PART_EXCESS : EVAC_PART;
    struct jrn_seg *best = NULL;
    pthread_mutex_lock(&s->seg_lock);
    for (struct jrn_seg *seg = s->segs; seg; seg = seg->next) {
        if (!evac_may(seg) || seg->again_us > now || (seg->keyed && !keyed))
            continue;
        uint64_t part = seg->live_bytes * 100 / seg->bytes;
        bool old = excess > EVAC_NO_AGE || now - seg->closed_us >= EVAC_AGE_US;
        if (part < below && part < best_part && old) {
            best = seg;
            best_part = part;
        }
    }
    pthread_mutex_unlock(&s->seg_lock);
    return best;
}

bool jrn_evac_has_work(struct jrn_evac *e)
{
    return jrn_evac_pick(e, true) != NULL;
}

/* ---- 5 afterwards -------------------------------------------------------------------------------------- */

/* The file without the descriptor. */
static void evac_file(struct mqg_store *s, struct jrn_seg *ghost)
{
    struct jrn_seg *seg = jrn_seg_new();
    seg->use = ghost->use;
    seg->bytes = ghost->bytes;
    seg->fd = ghost->fd;
    atomic_store(&seg->end, atomic_load(&ghost->end));
    seg->makeshift = ghost->makeshift;
    seg->oversized = ghost->oversized;
    memcpy(seg->name, ghost->name, sizeof seg->name);
    ghost->fd = -1;
    pthread_mutex_lock(&s->seg_lock); /* nobody asks it for spans any more */
    jrn_spans_fini(&ghost->msgs);
    jrn_spans_fini(&ghost->facts);
    pthread_mutex_unlock(&s->seg_lock);
    jrn_leave_reuse(s, seg);
}

static void evac_forget(struct mqg_store *s, struct jrn_seg *ghost)
{
    struct jrn_moved *m = atomic_load(&ghost->moved);
    for (uint32_t i = 0; i < m->ncold; i++)
        jrn_seg_give(s, m->colds[i]);
    jrn_moved_free(&m);
    jrn_index_drop(s, ghost);
    jrn_seg_free(s, &ghost);
}

void jrn_evac_ghosts(struct jrn_evac *e)
{
    for (struct jrn_seg **at = &e->ghosts, *seg; (seg = *at) != NULL;) {
        if (seg->fd >= 0 && atomic_load(&seg->pins) == 0)
            evac_file(e->s, seg);
        if (seg->fd >= 0 || atomic_load(&seg->live) > 0 || !jrn_index_hide(e->s, seg)) {
            at = &seg->next;
            continue;
        }
        *at = seg->next;
        evac_forget(e->s, seg);
    }
}

/* ---- life ---------------------------------------------------------------------------------------------- */

struct jrn_evac *jrn_evac_new(struct mqg_store *s, const _Atomic bool *stop)
{
    struct jrn_evac *e = mqg_xcalloc(1, sizeof *e);
    e->s = s;
    e->stop = stop;
    mqg_dynbuf_init(&e->pool, JRN_CHUNK_MAX);
    return e;
}

void jrn_evac_start(struct jrn_evac *e)
{
    jrn_cold_reopen(e->s, &e->cold);
}

void jrn_evac_free(struct jrn_evac **evac)
{
    struct jrn_evac *e = *evac;
    if (!e)
        return;
    for (struct jrn_seg *seg = e->ghosts, *next; seg; seg = next) {
        struct jrn_moved *m = atomic_load(&seg->moved);
        next = seg->next;
        jrn_moved_free(&m);
        jrn_seg_free(e->s, &seg);
    }
    mqg_dynbuf_fini(&e->pool);
    free(e->msgs);
    free(e->dests);
    free(e->held);
    free(e);
    *evac = NULL;
}
