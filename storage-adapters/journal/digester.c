/* digester.c - the thread that reads segments once more, soon after they were left, and writes what they hold.
 *
 * It waits half a second: a segment of a busy queue is mostly dead by then, is recycled, and never needs a digest. What is
 * still there is read from the page cache, from front to end, and its digest written and synced beside the commits; nobody
 * waits for it. If the process is killed before, the next start makes what is missing. The thread runs as a batch: the
 * kernel takes the processor from it whenever a worker wants it. */
#include "index.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

enum {
    DIGESTER_TURN_MS = 250,
    DIGESTER_AGAIN_US = 5 * 1000 *
                        1000, /* after one that could not be made: long queues wait for it in memory */
};

struct jrn_digester {
    struct mqg_store *s;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t due;
    bool running;
    _Atomic bool stop;
};

/* What is mostly batches is free to go as soon as their partitions were synced. */
static uint64_t digester_patience(const struct jrn_seg *seg)
{
    return seg->batch_bytes > seg->bytes / 2 ? 8 : 1;
}

/* The oldest closed segment without an index; pinned. */
static struct jrn_seg *digester_pick(struct mqg_store *s)
{
    uint64_t now = mqg_clock_mono_us();
    struct jrn_seg *found = NULL;
    pthread_mutex_lock(&s->seg_lock);
    for (struct jrn_seg *seg = s->segs; seg && !found; seg = seg->next)
        if (atomic_load(&seg->state) == JRN_CLOSED && !atomic_load(&seg->index) &&
            now >= seg->closed_us + s->digest_wait_us * digester_patience(seg))
            found = seg;
    if (found)
        atomic_fetch_add(&found->pins, 1);
    pthread_mutex_unlock(&s->seg_lock);
    return found;
}

static void digester_make(struct mqg_store *s, struct jrn_seg *seg)
{
    struct jrn_digest d;
    struct mqg_error e;
    bool written = false;
    enum mqg_err err = jrn_index_make(s, seg, &d, &written, &e);
    if (err == MQG_OK && written)
        jrn_index_attach(s, seg, &d);
    if (err == MQG_OK)
        jrn_digest_fini(&d);
    if (!written) {
        pthread_mutex_lock(&s->seg_lock);
        seg->closed_us = mqg_clock_mono_us() + DIGESTER_AGAIN_US;
        pthread_mutex_unlock(&s->seg_lock);
        mqg_log(MQG_LOG_DEBUG, MQG_EVENT_STORE, "store=%s what=no_digest file=%s err=%s text=%s", s->section,
                seg->name, mqg_err_name(err), mqg_logqs(err == MQG_OK ? "not written" : e.text));
    }
    MQG_TRACE("journal", 0, "what=digest file=%s err=%s", seg->name, mqg_err_name(err));
}

static void digester_sleep(struct jrn_digester *d)
{
    struct timespec until = mqg_wait_until(DIGESTER_TURN_MS);
    pthread_mutex_lock(&d->lock);
    if (!atomic_load(&d->stop))
        pthread_cond_timedwait(&d->due, &d->lock, &until);
    pthread_mutex_unlock(&d->lock);
}

static void *digester_run(void *arg)
{
    struct jrn_digester *d = arg;
    struct sched_param param = {0};
    pthread_setname_np(pthread_self(), "journal-digest");
    (void)pthread_setschedparam(pthread_self(), SCHED_BATCH, &param);
    while (!atomic_load(&d->stop)) {
        struct jrn_seg *seg = atomic_load(&d->s->failed) ? NULL : digester_pick(d->s);
        if (!seg) {
            digester_sleep(d);
            continue;
        }
        digester_make(d->s, seg);
        jrn_seg_unpin(d->s, seg);
    }
    return NULL;
}

struct jrn_digester *jrn_digester_new(struct mqg_store *s)
{
    struct jrn_digester *d = mqg_xcalloc(1, sizeof *d);
    d->s = s;
    pthread_mutex_init(&d->lock, NULL);
    mqg_cond_init(&d->due);
    return d;
}

int jrn_digester_start(struct jrn_digester *d)
{
    int r = pthread_create(&d->thread, NULL, digester_run, d);
    d->running = r == 0;
    return -r;
}

void jrn_digester_stop(struct jrn_digester *d)
{
    if (!d->running)
        return;
    atomic_store(&d->stop, true);
    pthread_mutex_lock(&d->lock);
    pthread_cond_signal(&d->due);
    pthread_mutex_unlock(&d->lock);
    pthread_join(d->thread, NULL);
    d->running = false;
}

void jrn_digester_free(struct jrn_digester **digester)
{
    struct jrn_digester *d = *digester;
    if (!d)
        return;
    pthread_cond_destroy(&d->due);
    pthread_mutex_destroy(&d->lock);
    free(d);
    *digester = NULL;
}
