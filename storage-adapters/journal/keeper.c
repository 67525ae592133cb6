/* keeper.c - the thread beside the committer: has a spare ready, lets segments go, watches the disk.
 *
 * Letting a segment go. When the last message of a closed segment was settled (and its last stream batch
 * trimmed), its file can be used again, but three kinds of records in it may still matter: the last word on a
 * key (META, positions...), and facts (SETTLE, QSTATE, COUNT) about messages that stand in other segments.
 * restate.c writes those once more at the tail, together with a FREE record, in one chunk: one frame, atomic.
 * Once that is durable the file may be overwritten.
 *
 * Why nothing can go wrong in between: facts are monotone (settled stays settled, counts only grow), so a
 * fact that stands twice in the log, or in another order, says the same. Keyed records are not monotone, so
 * the committer, who alone knows the order, drops a restated one when its key got a newer record before it.
 * And only facts that the journal itself has read back are restated, never the queue's present state: a
 * settle that belongs to a group (a transaction, a dead letter with its copy) may be true in memory before
 * its group is durable, and saying it early would lose the message.
 *
 * FREE stands in the frame, and the committer takes the segment off the list when it writes that frame: so
 * every manifest written later is without it, and every one written earlier is followed by the FREE in the
 * same tail.
 *
 * The disk. Publishers are blocked while less is free than what is not yet durable + two segments + the
 * reserve: whatever was accepted can then be written, and settles, deletes and control go on from the
 * reserve. */
#include "account.h"
#include "evac.h"
#include "restate.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    KEEPER_TURN_MS = 250,
    KEEPER_IDLE_MS = 1000,
    KEEPER_SPARES = 8,
    KEEPER_MAKESHIFT = 1 << 20, /* used bytes of a makeshift tail before a better file is made */
    KEEPER_SPARES_MIN = 2,
    KEEPER_LIMIT = 12, /* segments in excess: publishers wait for the cleaner; the bound is 16 */
    KEEPER_GOOD = 10,
    KEEPER_MUCH = 8, /* no spares beyond the least */
    KEEPER_DEAD_US = 2 * 1000 * 1000,
    KEEPER_AGAIN_US = 30 * 1000 * 1000, /* until a segment that was not worth moving is looked at again */
};

struct jrn_keeper {
    struct mqg_store *s;
    pthread_t thread;
    bool running;
    _Atomic bool stop;
    _Atomic uint32_t due; /* futex: 1 = look now */
    pthread_mutex_t lock;
    pthread_cond_t told;
    bool answered;
    struct jrn_seg *leaving; /* taken off the list, not yet a spare */
    struct jrn_evac *evac;
    uint64_t commits_seen;
    bool full, over; /* why publishers are blocked: free space, the bound */
};

/* ---- spares -------------------------------------------------------------------------------------------- */

struct jrn_seg *jrn_spare_take(struct mqg_store *s)
{
    pthread_mutex_lock(&s->seg_lock);
    struct jrn_seg *seg = s->spares;
    if (seg) {
        s->spares = seg->next;
        s->nspare--;
    }
    pthread_mutex_unlock(&s->seg_lock);
    return seg;
}

void jrn_spare_give(struct mqg_store *s, struct jrn_seg *seg)
{
    bool much = atomic_load(&s->started) && jrn_evac_excess(s) > KEEPER_MUCH * s->segment_bytes;
    pthread_mutex_lock(&s->seg_lock);
    bool keep = !seg->oversized && s->nspare < (much ? KEEPER_SPARES_MIN : KEEPER_SPARES);
    if (keep) {
        seg->next = s->spares;
        s->spares = seg;
        s->nspare++;
        pthread_cond_signal(&s->spare_there);
    }
    pthread_mutex_unlock(&s->seg_lock);
    if (!keep)
        jrn_seg_unlink(s, &seg);
}

bool jrn_spare_wait(struct mqg_store *s, int ms)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += (long)ms * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&s->seg_lock);
    if (s->nspare == 0 && ms > 0)
        pthread_cond_timedwait(&s->spare_there, &s->seg_lock, &until);
    bool there = s->nspare > 0;
    pthread_mutex_unlock(&s->seg_lock);
    return there;
}

/* Is it time to have the next file? Not before a quarter of the tail is used: a quiet broker keeps a small
 * folder. */
static bool keeper_wants_spare(struct mqg_store *s)
{
    pthread_mutex_lock(&s->seg_lock);
    const struct jrn_seg *tail = s->segs_last;
    uint64_t mark = tail ? tail->bytes / 4 : 0;
    if (tail && tail->makeshift && mark > KEEPER_MAKESHIFT)
        mark = KEEPER_MAKESHIFT;
    bool wants = s->nspare == 0 && tail && atomic_load(&tail->end) > mark;
    pthread_mutex_unlock(&s->seg_lock);
    return wants && !atomic_load(&s->blocked);
}

static void keeper_spare(struct mqg_store *s)
{
    struct jrn_seg *seg;
    if (!keeper_wants_spare(s))
        return;
    int r = jrn_seg_create(s, s->segment_bytes, false, true, &seg);
    if (r == 0)
        jrn_spare_give(s, seg);
    else
        mqg_log(MQG_LOG_WARN, MQG_EVENT_STORE, "store=%s what=no_spare error=%s", s->section,
                mqg_logqs(jrn_errno(r)));
}

/* ---- letting go ---------------------------------------------------------------------------------------- */

static void keeper_told(struct jrn_chunk *c, void *arg)
{
    struct jrn_keeper *k = arg;
    (void)c;
    pthread_mutex_lock(&k->lock);
    k->answered = true;
    pthread_cond_signal(&k->told);
    pthread_mutex_unlock(&k->lock);
}

bool jrn_keeper_commit(struct jrn_keeper *k, struct jrn_chunk *c)
{
    struct mqg_store *s = k->s;
    k->answered = false;
    c->told = keeper_told;
    c->told_arg = k;
    jrn_submit(s, c);
    pthread_mutex_lock(&k->lock);
    while (!k->answered && !atomic_load(&s->failed) && !atomic_load(&s->stopping)) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 1;
        pthread_cond_timedwait(&k->told, &k->lock, &until);
    }
    bool answered = k->answered;
    pthread_mutex_unlock(&k->lock);
    return answered;
}

bool jrn_keeper_stopping(struct jrn_keeper *k)
{
    return atomic_load(&k->stop) || atomic_load(&k->s->failed);
}

/* Nothing in it is live or being read, and nothing waits for a settle that is not durable yet: the host settles in memory
 * first. (What was dropped without a settle is waited for in vain, so not for long.) */
static bool keeper_is_dead(struct mqg_store *s, struct jrn_seg *seg, uint64_t now)
{
    if (atomic_load(&seg->state) != JRN_CLOSED || atomic_load(&seg->live) != 0 ||
        atomic_load(&seg->pins) != 0 || seg->again_us > now)
        return false;
    if (seg->dead_us == 0)
        seg->dead_us = now;
    atomic_store(&s->settle_wanted, true);
    return jrn_account_live(s, seg) == 0 || now - seg->dead_us >= KEEPER_DEAD_US;
}

/* The oldest segment that may go. *oldest: of all that hold keyed records. */
static struct jrn_seg *keeper_candidate(struct mqg_store *s, bool *oldest)
{
    uint64_t now = mqg_clock_mono_us();
    struct jrn_seg *found = NULL, *first = NULL;
    pthread_mutex_lock(&s->seg_lock);
    atomic_store(&s->settle_wanted, false);
    for (struct jrn_seg *seg = s->segs; seg && !found; seg = seg->next) {
        if (keeper_is_dead(s, seg, now))
            found = seg;
        if (!first && !jrn_seg_is_cold(seg))
            first = seg;
    }
    *oldest = found && found == first;
    pthread_mutex_unlock(&s->seg_lock);
    return found;
}

/* A file that is not what a spare should be goes: oversized, makeshift, or of another configuration's size. */
void jrn_keeper_reuse(struct mqg_store *s, struct jrn_seg *seg)
{
    bool keep = !seg->oversized && !seg->makeshift && seg->bytes == s->segment_bytes;
    int r = keep ? jrn_seg_renew(s, seg) : 0;
    if (r < 0)
        mqg_log(MQG_LOG_WARN, MQG_EVENT_STORE, "store=%s what=reuse file=%s error=%s", s->section, seg->name,
                mqg_logqs(jrn_errno(r)));
    if (!keep || r < 0) {
        jrn_seg_unlink(s, &seg);
        return;
    }
    s->fs->willneed(s->fs->ctx, seg->fd, 0, seg->bytes);
    jrn_spare_give(s, seg);
}

/* Lets one segment go; false when there was none, or it may not go now. */
static bool keeper_recycle(struct jrn_keeper *k)
{
    struct mqg_store *s = k->s;
    bool oldest;
    struct jrn_seg *seg = keeper_candidate(s, &oldest);
    if (!seg)
        return false;
    atomic_store(&seg->state, JRN_LEAVING);
    struct jrn_chunk *c = jrn_restate(s, seg, oldest, NULL, 0);
    if (!c) { /* not worth it, or not readable: its records keep it */
        seg->again_us = mqg_clock_mono_us() + KEEPER_AGAIN_US;
        atomic_store(&seg->state, JRN_CLOSED);
        return true;
    }
    k->leaving = seg;
    if (!jrn_keeper_commit(k, c))
        return false;
    k->leaving = NULL;
    MQG_TRACE("journal", 0, "what=recycled file=%s seq=%llu", seg->name, (unsigned long long)seg->seq);
    jrn_keeper_reuse(s, seg);
    return true;
}

/* ---- the disk ------------------------------------------------------------------------------------------ */

static uint64_t keeper_need(struct mqg_store *s)
{
    int64_t queued = atomic_load(&s->queued_bytes);
    pthread_mutex_lock(&s->seg_lock);
    uint64_t spares = s->nspare < 2 ? s->nspare : 2;
    pthread_mutex_unlock(&s->seg_lock);
    return (queued > 0 ? (uint64_t)queued : 0) + s->min_free_bytes + (2 - spares) * s->segment_bytes;
}

/* Too little free space for what was accepted? With why, when it has just come so. */
static bool keeper_is_full(struct jrn_keeper *k, char why[160])
{
    struct mqg_store *s = k->s;
    uint64_t free_bytes, need = keeper_need(s);
    if (s->fs->space(s->fs->ctx, s->path, &free_bytes) < 0)
        return k->full;
    snprintf(why, 160, "%llu bytes are free in %s, %llu are needed", (unsigned long long)free_bytes, s->path,
             (unsigned long long)need);
    /* The committer, out of space, blocks without us. */
    bool was = k->full || (atomic_load(&s->blocked) && !k->over);
    return free_bytes < need || (was && free_bytes < need + need / 8);
}

/* More than twice what is live and twelve segments on the disk, and the cleaner behind: who publishes waits for it. Not when
 * there is nothing to clean: waiting would change nothing. */
static bool keeper_is_over(struct jrn_keeper *k)
{
    uint64_t excess = jrn_evac_excess(k->s) / k->s->segment_bytes;
    if (excess <= (k->over ? KEEPER_GOOD : KEEPER_LIMIT))
        return false;
    bool oldest;
    return jrn_evac_has_work(k->evac) || keeper_candidate(k->s, &oldest) != NULL;
}

static void keeper_disk(struct jrn_keeper *k)
{
    struct mqg_store *s = k->s;
    char why[160] = "the store is full";
    if (atomic_load(&s->failed))
        return;
    k->full = keeper_is_full(k, why);
    k->over = keeper_is_over(k);
    bool block = k->full || k->over, blocked = atomic_exchange(&s->blocked, block);
    if (block == blocked)
        return;
    atomic_store(&s->state, block ? "blocked" : "ok");
    s->host.pressure(s->host.host, block,
                     !block    ? "the disk has room again"
                     : k->full ? why
                               : "mostly dead segments are waiting to be evacuated");
}

/* ---- the thread ---------------------------------------------------------------------------------------- */

static void keeper_sleep(struct jrn_keeper *k)
{
    uint64_t commits = atomic_load(&k->s->stat_commits);
    int ms = commits == k->commits_seen ? KEEPER_IDLE_MS : KEEPER_TURN_MS;
    struct timespec ts = {ms / 1000, (long)(ms % 1000) * 1000000};
    k->commits_seen = commits;
    if (atomic_exchange(&k->due, 0) == 0 && !atomic_load(&k->stop))
        syscall(SYS_futex, &k->due, FUTEX_WAIT_PRIVATE, 0, &ts, NULL, 0);
}

static void *keeper_run(void *arg)
{
    struct jrn_keeper *k = arg;
    pthread_setname_np(pthread_self(), "journal-keeper");
    while (!atomic_load(&k->stop)) {
        jrn_evac_ghosts(k->evac);
        jrn_account_look(k->s);
        jrn_account_sweep(k->s);
        keeper_disk(k);
        keeper_spare(k->s);
        if (atomic_load(&k->s->failed) || !(keeper_recycle(k) || jrn_evac_one(k->evac, k)))
            keeper_sleep(k);
    }
    return NULL;
}

void jrn_keeper_wake(struct mqg_store *s)
{
    struct jrn_keeper *k = s->keeper;
    if (k && atomic_exchange(&k->due, 1) == 0)
        syscall(SYS_futex, &k->due, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

struct jrn_keeper *jrn_keeper_new(struct mqg_store *s)
{
    struct jrn_keeper *k = mqg_xcalloc(1, sizeof *k);
    k->s = s;
    k->evac = jrn_evac_new(s);
    pthread_mutex_init(&k->lock, NULL);
    pthread_cond_init(&k->told, NULL);
    return k;
}

int jrn_keeper_start(struct jrn_keeper *k)
{
    jrn_evac_start(k->evac);
    int r = pthread_create(&k->thread, NULL, keeper_run, k);
    k->running = r == 0;
    return -r;
}

void jrn_keeper_stop(struct jrn_keeper *k)
{
    if (!k->running)
        return;
    atomic_store(&k->stop, true);
    jrn_keeper_wake(k->s);
    pthread_mutex_lock(&k->lock);
    pthread_cond_signal(&k->told);
    pthread_mutex_unlock(&k->lock);
    pthread_join(k->thread, NULL);
    k->running = false;
}

void jrn_keeper_free(struct jrn_keeper **keeper)
{
    struct jrn_keeper *k = *keeper;
    if (!k)
        return;
    if (k->leaving && atomic_load(&k->leaving->state) == JRN_FREED)
        jrn_seg_free(k->s, &k->leaving);
    jrn_evac_free(&k->evac);
    pthread_cond_destroy(&k->told);
    pthread_mutex_destroy(&k->lock);
    free(k);
    *keeper = NULL;
}
