/* keeper.c - the thread beside the committer: has a spare ready, lets segments go, watches the disk.
 *
 * The disk. Publishers are blocked while less is free than what is not yet durable + two segments + the
 * reserve: whatever was accepted can then be written, and settles, deletes and control go on from the
 * reserve. */
#include "account.h"
#include "leave.h"

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
    KEEPER_MUCH = 6, /* no spares beyond the least */
};

static const char keeper_behind[] = "mostly dead segments are waiting to be evacuated";

struct jrn_keeper {
    struct mqg_store *s;
    struct jrn_leave *leave;
    pthread_t thread;
    bool running;
    _Atomic bool stop;
    _Atomic uint32_t due; /* futex: 1 = look now */
    uint64_t commits_seen;
    bool full;         /* why publishers are blocked: free space */
    _Atomic bool over; /* the bound */
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
    struct timespec until = mqg_wait_until(ms > 0 ? (uint64_t)ms : 0);
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

/* ---- the disk ------------------------------------------------------------------------------------------ */

static uint64_t keeper_need(struct mqg_store *s)
{
    int64_t queued = atomic_load(&s->queued_bytes);
    pthread_mutex_lock(&s->seg_lock);
    uint64_t spares = s->nspare < 2 ? s->nspare : 2;
    pthread_mutex_unlock(&s->seg_lock);
    return (queued > 0 ? (uint64_t)queued : 0) + s->min_free_bytes + (2 - spares) * s->segment_bytes;
}

void jrn_keeper_rolled(struct mqg_store *s)
{
    struct jrn_keeper *k = s->keeper;
    jrn_account_glance(s);
    if (!atomic_load(&s->blocked) && jrn_evac_excess(s) > KEEPER_LIMIT * s->segment_bytes &&
        jrn_leave_has_work(k->leave) && !atomic_exchange(&s->blocked, true)) {
        atomic_store(&k->over, true);
        atomic_store(&s->state, "blocked");
        s->host.pressure(s->host.host, true, keeper_behind);
    }
    jrn_keeper_wake(s);
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
    return jrn_leave_has_work(k->leave);
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
    s->host.pressure(s->host.host, block, !block ? "the disk has room again" : k->full ? why : keeper_behind);
}

/* Somebody removed the folder, or the lock: another process may be in it by now. */
static void keeper_folder(struct mqg_store *s)
{
    if (s->fs->links && !atomic_load(&s->failed) && s->fs->links(s->fs->ctx, s->lock_fd) == 0)
        jrn_fail(s, MQG_IO,
                 "somebody removed the store's folder or its lock; nothing is confirmed from here on");
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
        jrn_account_look(k->s);
        jrn_account_sweep(k->s);
        keeper_folder(k->s);
        keeper_disk(k);
        if (!atomic_load(&k->s->failed))
            jrn_last_note(k->s);
        keeper_spare(k->s);
        if (atomic_load(&k->s->failed) || !jrn_leave_turn(k->leave))
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
    k->leave = jrn_leave_new(s);
    return k;
}

int jrn_keeper_start(struct jrn_keeper *k)
{
    jrn_leave_start(k->leave);
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
    jrn_leave_stop(k->leave);
    pthread_join(k->thread, NULL);
    k->running = false;
}

void jrn_keeper_free(struct jrn_keeper **keeper)
{
    struct jrn_keeper *k = *keeper;
    if (!k)
        return;
    jrn_leave_free(&k->leave);
    free(k);
    *keeper = NULL;
}
