/* leave.c - segments are let go: what still matters of them is said again, then their files are used again.
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
 * Many last words (a hundred thousand bindings) go ahead, a few in each turn of the keeper, each chunk durable before the next is
 * made: said all at once they would be one frame of tens of megabytes, and every confirm beside it would wait for that (measured with
 * 400,000 bindings: 41 MB, 100 ms). That is so whether the segment is dead or is to be evacuated, and nothing of it is freed, moved or
 * copied before. A power cut in between finds the segment as it was and some of its words twice: a word that stands twice is the same
 * word, and what became of the key meanwhile the committer knows. The list of words is made once for a segment.
 *
 * FREE stands in the frame, and the committer takes the segment off the list when it writes that frame: so
 * every manifest written later is without it, and every one written earlier is followed by the FREE in the
 * same tail.
 *
 * A turn takes several segments (one that holds last words goes alone: which word is the last, another chunk on its way may
 * be about to change): it hands in one chunk each, and waits once. Chunks of one submitter keep their order, so
 * the ADOPT records of one cold segment come with ascending ends. */
#include "leave.h"

#include "account.h"
#include "restate.h"

#include <time.h>
#include <stdlib.h>

enum {
    LEAVE_TOGETHER = 8,
    LEAVE_AGAIN_US = 30 * 1000 * 1000, /* until a segment that was not worth moving is looked at again */
    LEAVE_DEAD_US = 2 * 1000 * 1000,
};

struct jrn_leave {
    struct mqg_store *s;
    struct jrn_evac *evac;
    pthread_mutex_t lock;
    pthread_cond_t told;
    uint32_t waiting; /* chunks handed in and not yet durable */
    _Atomic bool stop;
    struct jrn_leaving going[LEAVE_TOGETHER];
    uint32_t n;
    struct jrn_words words; /* of the segment that was looked at last */
};

/* What became of a look for a segment. */
enum leave_look {
    LEAVE_NONE,    /* there is none, or it cannot be copied now */
    LEAVE_NOT_NOW, /* it did not work out, and is left alone for a while */
    LEAVE_AHEAD,   /* some of its last words went ahead */
    LEAVE_GOES,
};

/* ---- committing ------------------------------------------------------------------------------------------ */

static void leave_told(struct jrn_chunk *c, void *arg)
{
    struct jrn_leave *l = arg;
    (void)c;
    pthread_mutex_lock(&l->lock);
    if (--l->waiting == 0)
        pthread_cond_signal(&l->told);
    pthread_mutex_unlock(&l->lock);
}

static void leave_submit(struct jrn_leave *l, struct jrn_chunk *c)
{
    pthread_mutex_lock(&l->lock);
    l->waiting++;
    pthread_mutex_unlock(&l->lock);
    c->told = leave_told;
    c->told_arg = l;
    jrn_submit(l->s, c);
}

static bool leave_stopping(const struct jrn_leave *l)
{
    return atomic_load(&l->stop) || atomic_load(&l->s->failed);
}

/* Until all that was handed in is durable; false when the store fails or stops first. */
static bool leave_wait(struct jrn_leave *l)
{
    pthread_mutex_lock(&l->lock);
    while (l->waiting && !atomic_load(&l->s->failed) && !atomic_load(&l->s->stopping)) {
        struct timespec until = mqg_wait_until(1000);
        pthread_cond_timedwait(&l->told, &l->lock, &until);
    }
    bool all = l->waiting == 0;
    pthread_mutex_unlock(&l->lock);
    return all;
}

/* ---- which ----------------------------------------------------------------------------------------------- */

/* Nothing in it is live or being read, and nothing waits for a settle that is not durable yet: the host settles in memory
 * first. (What was dropped without a settle is waited for in vain, so not for long.) Under seg_lock. */
static bool leave_is_dead(struct mqg_store *s, struct jrn_seg *seg, uint64_t now)
{
    if (atomic_load(&seg->state) != JRN_CLOSED || atomic_load(&seg->live) != 0 ||
        atomic_load(&seg->pins) != 0 || seg->again_us > now)
        return false;
    if (seg->dead_us == 0)
        seg->dead_us = now;
    atomic_store(&s->settle_wanted, true);
    return jrn_account_live(s, seg) == 0 || now - seg->dead_us >= LEAVE_DEAD_US;
}

/* The oldest segment that is dead; keyed: one that holds last words, too. */
static struct jrn_seg *leave_dead(struct mqg_store *s, bool keyed)
{
    uint64_t now = mqg_clock_mono_us();
    struct jrn_seg *found = NULL;
    pthread_mutex_lock(&s->seg_lock);
    atomic_store(&s->settle_wanted, false);
    for (struct jrn_seg *seg = s->segs; seg && !found; seg = seg->next)
        if ((keyed || !seg->keyed) && leave_is_dead(s, seg, now))
            found = seg;
    if (found) /* under the lock: who pins a segment for itself looks at this */
        atomic_store(&found->state, JRN_LEAVING);
    pthread_mutex_unlock(&s->seg_lock);
    return found;
}

bool jrn_leave_has_work(struct jrn_leave *l)
{
    struct mqg_store *s = l->s;
    bool dead = false;
    pthread_mutex_lock(&s->seg_lock);
    for (const struct jrn_seg *seg = s->segs; seg && !dead; seg = seg->next) {
        int state = atomic_load(&seg->state);
        dead = state == JRN_LEAVING ||
               (state == JRN_CLOSED && atomic_load(&seg->live) == 0 && !seg->again_us);
    }
    pthread_mutex_unlock(&s->seg_lock);
    return dead || jrn_evac_has_work(l->evac);
}

/* ---- a turn ---------------------------------------------------------------------------------------------- */

/* A file that is not what a spare should be goes: oversized, of another configuration's size, or made in a hurry and hardly used. */
void jrn_leave_reuse(struct mqg_store *s, struct jrn_seg *seg)
{
    bool used = atomic_load(&seg->end) > seg->bytes / 4 * 3;
    bool keep = !seg->oversized && seg->bytes == s->segment_bytes && (!seg->makeshift || used);
    int r = keep && seg->makeshift ? jrn_seg_finish(s, seg) : 0;
    if (keep && r == 0)
        r = jrn_seg_renew(s, seg);
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

/* Nothing that holds last words stands before it. */
static bool leave_is_oldest(struct mqg_store *s, const struct jrn_seg *seg)
{
    pthread_mutex_lock(&s->seg_lock);
    const struct jrn_seg *first = s->segs;
    while (first && jrn_seg_is_cold(first))
        first = first->next;
    pthread_mutex_unlock(&s->seg_lock);
    return first == seg;
}

/* Not worth it, or not readable: its records keep it. */
static void leave_put_off(struct jrn_leave *l, struct jrn_seg *seg)
{
    pthread_mutex_lock(&l->s->seg_lock);
    seg->again_us = mqg_clock_mono_us() + LEAVE_AGAIN_US;
    pthread_mutex_unlock(&l->s->seg_lock);
    atomic_store(&seg->state, JRN_CLOSED);
}

/* One that is dead as a whole goes; else one whose rest is moved. It is LEAVING then. */
static struct jrn_seg *leave_pick(struct jrn_leave *l, bool *dead)
{
    bool keyed = l->n == 0;
    struct jrn_seg *seg = leave_dead(l->s, keyed);
    *dead = seg != NULL;
    if (!seg && (seg = jrn_evac_pick(l->evac, keyed)) != NULL)
        atomic_store(&seg->state, JRN_LEAVING);
    return seg;
}

/* The chunk that lets it go; NULL: not now, all is as it was. */
static struct jrn_chunk *leave_chunk(struct jrn_leave *l, struct jrn_leaving *going, bool dead, bool oldest)
{
    if (!dead && !jrn_evac_copy(l->evac, going))
        return NULL;
    struct jrn_chunk *c = jrn_restate(l->s, going->seg, oldest, &l->words, going->parts, going->nparts);
    if (c && !dead)
        jrn_evac_promise(l->evac, going);
    else if (!c && !dead)
        jrn_evac_undo(l->evac, going);
    else if (!c)
        leave_put_off(l, going->seg);
    return c;
}

static enum leave_look leave_look(struct jrn_leave *l)
{
    struct mqg_store *s = l->s;
    struct jrn_leaving *going = &l->going[l->n];
    struct jrn_chunk *c;
    bool dead;
    struct jrn_seg *seg = leave_pick(l, &dead);
    if (!seg)
        return LEAVE_NONE;
    bool oldest = leave_is_oldest(s, seg);
    *going = (struct jrn_leaving){.seg = seg};
    jrn_words_of(s, &l->words, seg);
    if (!jrn_restate_ahead(s, seg, oldest, &l->words, &c)) {
        leave_put_off(l, seg);
        return LEAVE_NOT_NOW;
    }
    if (c) { /* it stays until all of them are said: nothing of it is free before */
        atomic_store(&seg->state, JRN_CLOSED);
        atomic_fetch_add(&s->stat_ahead, 1);
        leave_submit(l, c);
        return LEAVE_AHEAD;
    }
    c = leave_chunk(l, going, dead, oldest);
    if (!c) /* what could not be copied is a matter of the disk: not the next one at once */
        return dead ? LEAVE_NOT_NOW : LEAVE_NONE;
    l->n++;
    leave_submit(l, c);
    return LEAVE_GOES;
}

static void leave_gone(struct jrn_leave *l, struct jrn_leaving *gone)
{
    if (gone->moved) {
        jrn_evac_done(l->evac, gone);
        return;
    }
    MQG_TRACE("journal", 0, "what=recycled file=%s seq=%llu", gone->seg->name,
              (unsigned long long)gone->seg->seq);
    jrn_leave_reuse(l->s, gone->seg);
}

/* Hands in what may go, or words of it; was there anything? */
static bool leave_gather(struct jrn_leave *l)
{
    bool some = false;
    while (l->n < LEAVE_TOGETHER && !leave_stopping(l)) {
        enum leave_look look = leave_look(l);
        some = some || look != LEAVE_NONE;
        /* What is the last word is asked again only when these are written. */
        if (look == LEAVE_NONE || look == LEAVE_AHEAD ||
            (look == LEAVE_GOES && l->going[l->n - 1].seg->keyed))
            break;
    }
    return some;
}

bool jrn_leave_turn(struct jrn_leave *l)
{
    /* What was handed in never became durable: the store stops or failed, jrn_leave_free has the rest. */
    if (l->n > 0 || !leave_wait(l))
        return false;
    jrn_evac_ghosts(l->evac);
    bool some = leave_gather(l);
    if (!leave_wait(l))
        return false;
    for (uint32_t i = 0; i < l->n; i++)
        leave_gone(l, &l->going[i]);
    if (l->n > 0)
        jrn_words_fini(&l->words);
    l->n = 0;
    jrn_evac_ghosts(l->evac);
    return some;
}

/* ---- life ------------------------------------------------------------------------------------------------ */

struct jrn_leave *jrn_leave_new(struct mqg_store *s)
{
    struct jrn_leave *l = mqg_xcalloc(1, sizeof *l);
    l->s = s;
    l->evac = jrn_evac_new(s, &l->stop);
    pthread_mutex_init(&l->lock, NULL);
    mqg_cond_init(&l->told);
    return l;
}

void jrn_leave_start(struct jrn_leave *l)
{
    jrn_evac_start(l->evac);
}

void jrn_leave_stop(struct jrn_leave *l)
{
    atomic_store(&l->stop, true);
    pthread_mutex_lock(&l->lock);
    pthread_cond_signal(&l->told);
    pthread_mutex_unlock(&l->lock);
}

/* What was handed in last and did not become durable: off the list, if its FREE was written. */
void jrn_leave_free(struct jrn_leave **leave)
{
    struct jrn_leave *l = *leave;
    if (!l)
        return;
    for (uint32_t i = 0; i < l->n; i++) {
        jrn_moved_free(&l->going[i].moved);
        if (atomic_load(&l->going[i].seg->state) == JRN_FREED)
            jrn_seg_free(l->s, &l->going[i].seg);
    }
    jrn_evac_free(&l->evac);
    jrn_words_fini(&l->words);
    pthread_cond_destroy(&l->told);
    pthread_mutex_destroy(&l->lock);
    free(l);
    *leave = NULL;
}
