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
 * Many last words (a hundred thousand bindings) go ahead, a few at a time, each chunk durable before the next is made: said all
 * at once they would be one frame of tens of megabytes, and every confirm beside it would wait for that (measured with 400,000
 * bindings: 41 MB, 100 ms). A word that stands twice is the same word, and what became of the key meanwhile the committer knows.
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
    LEAVE_WORDS = 1024,             /* said at a time, of a segment of ... */
    LEAVE_WORDS_SEGMENT = 64 << 20, /* ... this size, and fewer of smaller ones */
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
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 1;
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

/* The oldest segment that may go; keyed: one that holds last words, too. *oldest: of all that hold keyed records. */
static struct jrn_seg *leave_candidate(struct mqg_store *s, bool keyed, bool *oldest)
{
    uint64_t now = mqg_clock_mono_us();
    struct jrn_seg *found = NULL, *first = NULL;
    pthread_mutex_lock(&s->seg_lock);
    atomic_store(&s->settle_wanted, false);
    for (struct jrn_seg *seg = s->segs; seg && !found; seg = seg->next) {
        if ((keyed || !seg->keyed) && leave_is_dead(s, seg, now))
            found = seg;
        if (!first && !jrn_seg_is_cold(seg))
            first = seg;
    }
    *oldest = found && found == first;
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

/* A file that is not what a spare should be goes: oversized, makeshift, or of another configuration's size. */
void jrn_leave_reuse(struct mqg_store *s, struct jrn_seg *seg)
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

/* Of many last words all but some; false: it cannot be done now, or is not worth it. */
static bool leave_words(struct jrn_leave *l, struct jrn_seg *seg, bool oldest)
{
    struct mqg_store *s = l->s;
    uint64_t moved = 0, share = s->segment_bytes / (LEAVE_WORDS_SEGMENT / LEAVE_WORDS);
    uint32_t n = 0, step = share < 1 ? 1 : share > LEAVE_WORDS ? LEAVE_WORDS : (uint32_t)share;
    uint32_t *offs = seg->keyed ? jrn_keys_in(&s->keys, seg->seq, &n) : NULL;
    bool good = true;
    for (uint32_t at = 0; good && n - at > step; at += step) {
        struct jrn_chunk *c;
        good = !leave_stopping(l) && jrn_restate_ahead(s, seg, oldest, offs + at, step, &moved, &c);
        if (!good || !c)
            continue;
        good = moved / (at + step) * n <= s->segment_bytes / 2;
        if (good)
            leave_submit(l, c);
        else
            jrn_chunk_free(&c);
        good = good && leave_wait(l);
    }
    free(offs);
    return good;
}

/* A segment that is dead as a whole; NULL when there is none, *again: that one may not go now. */
static struct jrn_chunk *leave_dead(struct jrn_leave *l, bool *again)
{
    struct mqg_store *s = l->s;
    bool oldest;
    struct jrn_seg *seg = leave_candidate(s, l->n == 0, &oldest);
    *again = seg != NULL;
    if (!seg)
        return NULL;
    struct jrn_chunk *c = leave_words(l, seg, oldest) ? jrn_restate(s, seg, oldest, NULL, 0) : NULL;
    if (!c) { /* not worth it, or not readable: its records keep it */
        pthread_mutex_lock(&s->seg_lock);
        seg->again_us = mqg_clock_mono_us() + LEAVE_AGAIN_US;
        pthread_mutex_unlock(&s->seg_lock);
        atomic_store(&seg->state, JRN_CLOSED);
        return NULL;
    }
    l->going[l->n] = (struct jrn_leaving){.seg = seg};
    return c;
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

bool jrn_leave_turn(struct jrn_leave *l)
{
    if (l->n >
        0) /* what was handed in never became durable: the store stops or failed, jrn_leave_free has the rest */
        return false;
    jrn_evac_ghosts(l->evac);
    bool some = false;
    while (l->n < LEAVE_TOGETHER && !leave_stopping(l)) {
        bool again = false;
        struct jrn_chunk *c = leave_dead(l, &again);
        if (!c && !again)
            c = jrn_evac_one(l->evac, l->n == 0, &l->going[l->n]);
        some = some || c || again;
        if (!c && !again)
            break;
        if (!c)
            continue;
        bool keyed = l->going[l->n++].seg->keyed;
        leave_submit(l, c);
        if (keyed) /* what is the last word is asked again only when this one's are written */
            break;
    }
    if (!leave_wait(l))
        return false;
    for (uint32_t i = 0; i < l->n; i++)
        leave_gone(l, &l->going[i]);
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
    pthread_cond_init(&l->told, NULL);
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
    pthread_cond_destroy(&l->told);
    pthread_mutex_destroy(&l->lock);
    free(l);
    *leave = NULL;
}
