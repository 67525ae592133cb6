/* part_write.c - the stream writer: copies what was committed into the partitions' files, syncs them when a segment of the journal is
 * to go, begins new files and removes old ones.
 *
 * Only what is durable in the journal and contiguous is copied, in offset order; so a file is always a beginning of its log,
 * and whatever a power cut does to its unsynced end, the journal still has it. Each turn takes over the list of partitions that have
 * something; several threads work it off when it is long, each partition in one of them: what waits for the disk is not the
 * processor's. A partition whose files somebody reads is filed at once; the others wait a little, for more to be written in one go.
 *
 * Syncing is lazy: rows hold their segment, the keeper recycles a segment when nothing holds it, so a partition is synced
 * once per few journal segments that it has rows in, after they were closed. An idle partition costs nothing.
 *
 * A failed write leaves the file as long as it was noted to be; ENOSPC is tried again, any other error fails the store: what
 * the page cache has of the file can no longer be known. */
#include "part_write.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    WRITE_ROWS_MAX = 65536,     /* rows of a partition before it is synced for their memory's sake */
    WRITE_WORTH = 1 << 20,      /* bytes to be filed that are worth a turn, */
    WRITE_EACH = 256 << 10,     /* in the mean of each partition */
    WRITE_SYNC_US = 250 * 1000, /* from the end of a segment on */
    WRITE_TICK_MS = 500,
    WRITE_IDLE_MS = 60000,
    WRITE_SHARE = 8, /* partitions of a turn that are worth one more thread */
};

static void list_push(struct part_list *l, struct stream_part *p)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 16;
        l->at = mqg_xrealloc(l->at, l->cap * sizeof(struct stream_part *));
    }
    l->at[l->n++] = p;
}

static void write_is_due(struct part_writer *w, struct stream_part *p)
{
    if (p->due)
        return;
    p->due = true;
    if (w->due.n == 0)
        w->due_us = mqg_clock_mono_us();
    list_push(&w->due, p);
}

/* Nobody waits for it, the journal has it all: so there should be something to write into each file. */
static bool write_is_worth(const struct part_writer *w)
{
    return w->due.n > 0 && w->due_bytes >= WRITE_WORTH && w->due_bytes / w->due.n >= WRITE_EACH;
}

void jrn_part_due(struct mqg_store *s, struct stream_part *p)
{
    struct part_writer *w = s->part_writer;
    w->urgent = true;
    write_is_due(w, p);
    pthread_cond_signal(&w->some);
}

void jrn_part_grew(struct mqg_store *s, struct stream_part *p, uint32_t bytes)
{
    struct part_writer *w = s->part_writer;
    w->due_bytes += bytes;
    write_is_due(w, p);
    w->urgent = w->urgent || jrn_stream_is_read(p, w->due_us);
    if (w->urgent || w->due.n == 1 || write_is_worth(w))
        pthread_cond_signal(&w->some);
}

static void write_log(const struct mqg_store *s, const char *call, const char *name, int r)
{
    mqg_log(MQG_LOG_WARN, MQG_EVENT_STORE, "store=%s what=stream_file call=%s file=%s error=%s", s->section,
            call, name, mqg_logqs(jrn_errno(r)));
}

/* Answers r; a full disk is waited for, anything else is the end. */
int jrn_write_failed(struct part_writer *w, const char *call, const char *name, int r)
{
    char text[256];
    if (r == -ENOSPC || r == -EDQUOT) {
        if (!atomic_exchange(&w->pausing, true))
            write_log(w->s, call, name, r);
        atomic_store(&w->pause, true);
        return r;
    }
    snprintf(text, sizeof text, "%s of %s: %s", call, name, jrn_errno(r));
    jrn_fail(w->s, MQG_IO, text);
    return r;
}

int jrn_write_file_failed(struct part_writer *w, const char *call, const struct part_file *f, int r)
{
    char name[PART_NAME];
    jrn_part_name(f, "log", "", name);
    return jrn_write_failed(w, call, name, r);
}

/* ---- folders --------------------------------------------------------------------------------------------- */

static int write_mkdir(struct mqg_store *s, const char *name)
{
    char path[4096];
    jrn_path(s, name, path);
    int r = s->fs->mkdir(s->fs->ctx, path);
    return r == -EEXIST ? 0 : r;
}

static int write_folder(struct part_writer *w, struct stream_part *p)
{
    char name[PART_NAME];
    jrn_part_folder(p->id, name);
    int r = write_mkdir(w->s, "streams");
    if (r == 0)
        r = write_mkdir(w->s, name);
    return r < 0 ? jrn_write_failed(w, "mkdir", name, r) : 0;
}

/* ---- syncing --------------------------------------------------------------------------------------------- */

static int write_synced(struct part_writer *w, struct part_sync *at)
{
    if (at->r < 0)
        (void)jrn_write_file_failed(w, at->call, at->f, at->r);
    if (at->f)
        jrn_part_file_unref(w->s, &at->f);
    return at->r;
}

static int write_sync(struct part_writer *w, struct stream_part *p)
{
    struct part_sync at = {.p = p};
    jrn_part_sync(w->s, &at, 1);
    return write_synced(w, &at);
}

void jrn_write_is_dirty(struct part_writer *w, struct stream_part *p)
{
    if (!p->dirty)
        list_push(&w->dirty, p);
    p->dirty = true;
}

/* Has a segment waited for it long enough? The longer, the more of a partition goes with one sync. */
static bool write_sync_now(const struct part_writer *w, const struct stream_part *p, uint64_t now_us)
{
    if (w->flush || p->gone || p->n > WRITE_ROWS_MAX)
        return true;
    return p->n > 0 && atomic_load(&p->at[0].seg->state) != JRN_TAIL &&
           now_us >= p->at[0].seg->left_us + WRITE_SYNC_US;
}

static void write_sync_due(struct part_writer *w)
{
    struct jrn_streams *st = w->s->streams;
    struct part_list all = w->dirty;
    uint64_t now_us = mqg_clock_mono_us();
    struct part_sync *at = all.n ? mqg_xcalloc(all.n, sizeof *at) : NULL;
    uint32_t n = 0;
    w->dirty = (struct part_list){.at = NULL};
    pthread_mutex_lock(&st->lock);
    for (uint32_t i = 0; i < all.n; i++) {
        all.at[i]->dirty = false;
        if (write_sync_now(w, all.at[i], now_us) && !w->pause && !atomic_load(&w->s->failed))
            at[n++].p = all.at[i];
        else
            jrn_write_is_dirty(w, all.at[i]);
    }
    pthread_mutex_unlock(&st->lock);
    jrn_part_sync(w->s, at, n);
    for (uint32_t i = 0; i < n; i++) {
        if (write_synced(w, &at[i]) == 0)
            continue;
        pthread_mutex_lock(&st->lock);
        jrn_write_is_dirty(w, at[i].p);
        pthread_mutex_unlock(&st->lock);
    }
    free(at);
    free(all.at);
}

/* ---- files: the next one, old ones ------------------------------------------------------------------------- */

static int write_create(struct part_writer *w, struct stream_part *p, uint64_t base)
{
    struct mqg_store *s = w->s;
    int r = write_folder(w, p);
    if (r < 0)
        return r;
    struct part_file *f = jrn_part_file_new(p->id, base, 0);
    f->indexed = f->timed = true;
    f->first_ms = mqg_clock_now().wall_us / 1000;
    int fd = jrn_part_file_open(s, f, O_RDWR | O_CREAT | O_EXCL);
    if (fd < 0) {
        r = jrn_write_file_failed(w, "open", f, fd);
        jrn_part_file_unref(s, &f);
        return r;
    }
    jrn_part_file_unpin(s, f);
    pthread_mutex_lock(&s->streams->lock);
    *STREAM_PUSH(p, files, nfile, cap_file) = f;
    pthread_mutex_unlock(&s->streams->lock);
    return 0;
}

/* A file is begun when the one before it is durable to its end: only the last may be torn. */
int jrn_write_roll(struct part_writer *w, struct stream_part *p, uint64_t base)
{
    int r = p->nfile > 0 ? write_sync(w, p) : 0;
    return r < 0 ? r : write_create(w, p, base);
}

/* Files below the log's start, one by one. */
static void write_prune(struct part_writer *w, struct stream_part *p)
{
    struct mqg_store *s = w->s;
    for (;;) {
        pthread_mutex_lock(&s->streams->lock);
        struct part_file *f = p->nfile && p->files[0]->end <= p->log_start ? p->files[0] : NULL;
        if (f)
            memmove(p->files, p->files + 1, --p->nfile * sizeof(struct part_file *));
        pthread_mutex_unlock(&s->streams->lock);
        if (!f)
            return;
        jrn_part_unlink(s, f);
        jrn_part_file_unref(s, &f);
    }
}

struct write_folder_walk {
    struct mqg_store *s;
    char folder[PART_NAME];
    bool again; /* failures were said before */
};

static void write_unlink(void *arg, const char *entry)
{
    const struct write_folder_walk *walk = arg;
    char path[4096], name[PART_NAME + 256];
    if (snprintf(name, sizeof name, "%s/%s", walk->folder, entry) >= (int)sizeof name)
        return;
    jrn_path(walk->s, name, path);
    int r = walk->s->fs->unlink(walk->s->fs->ctx, path);
    if (r < 0 && !walk->again)
        write_log(walk->s, "unlink", name, r);
}

/* A deleted partition: nothing of it stays. Who compacts may be writing into the folder just now, and a disk may say no: the
 * cleaner asks again until it is done. */
static void write_remove(struct part_writer *w, struct stream_part *p)
{
    struct mqg_store *s = w->s;
    struct write_folder_walk walk = {.s = s, .again = p->stuck};
    char path[4096];
    pthread_mutex_lock(&s->streams->lock);
    struct part_file **files = p->files;
    uint32_t n = p->nfile;
    p->files = NULL;
    p->nfile = p->cap_file = 0;
    pthread_mutex_unlock(&s->streams->lock);
    for (uint32_t i = 0; i < n; i++)
        jrn_part_file_unref(s, &files[i]);
    free(files);
    jrn_part_folder(p->id, walk.folder);
    jrn_path(s, walk.folder, path);
    int r = s->fs->list(s->fs->ctx, path, write_unlink, &walk);
    if (r == 0)
        r = s->fs->fsync_dir(s->fs->ctx, path);
    if (r == 0)
        r = s->fs->rmdir(s->fs->ctx, path);
    if (r == 0 || r == -ENOENT) /* the folder may have been removed, and that not be durable */
        r = jrn_part_sync_dir(s, "streams");
    bool removed = r == 0 || r == -ENOENT;
    if (!removed && !p->stuck)
        write_log(s, "removing", walk.folder, r);
    pthread_mutex_lock(&s->streams->lock);
    p->removed = removed;
    p->stuck = !removed;
    pthread_mutex_unlock(&s->streams->lock);
}

/* ---- a turn ---------------------------------------------------------------------------------------------------- */

/* What was there to be filed when the turn came to it; more is for the next one, or there would be no end to this one. */
static void write_file(struct part_hand *hand, struct stream_part *p)
{
    struct mqg_store *s = hand->w->s;
    pthread_mutex_lock(&s->streams->lock);
    uint64_t goal = p->high;
    pthread_mutex_unlock(&s->streams->lock);
    while (!atomic_load(&s->failed) && p->filed < goal && jrn_part_put(hand, p)) {
    }
}

static void write_part(struct part_hand *hand, struct stream_part *p)
{
    struct part_writer *w = hand->w;
    pthread_mutex_lock(&w->s->streams->lock);
    bool gone = p->gone, roll = p->roll;
    p->due = p->roll = false;
    if (!gone && p->n > 0 && jrn_batch_end(&p->at[0]) <= p->filed)
        jrn_write_is_dirty(w, p); /* recovered: filed, and not known to be synced */
    pthread_mutex_unlock(&w->s->streams->lock);
    if (gone) {
        write_remove(w, p);
        return;
    }
    write_prune(w, p);
    if (roll && p->nfile > 0 && p->files[p->nfile - 1]->bytes > 0)
        (void)jrn_write_roll(w, p, p->filed);
    write_file(hand, p);
    if (!atomic_load(&w->pause))
        return;
    pthread_mutex_lock(&w->s->streams->lock);
    jrn_part_due(w->s, p); /* again, after a while */
    pthread_mutex_unlock(&w->s->streams->lock);
}

static void *write_share(void *arg)
{
    struct part_hand *hand = arg;
    struct part_writer *w = hand->w;
    for (uint32_t i; (i = atomic_fetch_add(&w->next, 1)) < w->work.n;)
        write_part(hand, w->work.at[i]);
    return NULL;
}

static void write_work(struct part_writer *w)
{
    void *hands[WRITE_HANDS];
    uint32_t n = 1 + w->work.n / WRITE_SHARE;
    for (uint32_t i = 0; i < WRITE_HANDS; i++)
        hands[i] = &w->hands[i];
    atomic_store(&w->next, 0);
    jrn_side_by_side(write_share, hands, n < WRITE_HANDS ? n : WRITE_HANDS);
    w->work.n = 0;
}

/* ---- the thread ------------------------------------------------------------------------------------------------ */

/* Is there a turn to be made now? */
static bool write_is_time(const struct part_writer *w)
{
    if (w->stop)
        return true;
    return !w->pause && w->due.n > 0 &&
           (w->urgent || write_is_worth(w) || mqg_clock_mono_us() >= w->due_us + WRITE_TICK_MS * 1000ull);
}

/* Takes over the list of what is due; waits for some, at most a tick. false: the end. */
static bool write_wait(struct part_writer *w)
{
    struct part_list was = w->work;
    int r = 0;
    pthread_mutex_lock(&w->s->streams->lock);
    while (!write_is_time(w) && r == 0) {
        bool soon = w->dirty.n || w->pause || w->due.n;
        struct timespec until = mqg_wait_until(soon ? WRITE_TICK_MS : WRITE_IDLE_MS);
        r = pthread_cond_timedwait(&w->some, &w->s->streams->lock, &until);
    }
    w->work = w->due;
    w->due = was;
    w->due.n = 0;
    w->due_bytes = 0;
    w->urgent = false;
    bool over = w->stop && (!w->flush || (w->work.n == 0 && w->dirty.n == 0));
    pthread_mutex_unlock(&w->s->streams->lock);
    w->pause = false;
    return !over;
}

static void *write_run_thread(void *arg)
{
    struct part_writer *w = arg;
    pthread_setname_np(pthread_self(), "journal-streams");
    while (write_wait(w)) {
        write_work(w);
        write_sync_due(w);
        if (w->stop && (w->pause || atomic_load(&w->s->failed)))
            return NULL; /* what is left stands in the journal */
    }
    return NULL;
}

struct part_writer *jrn_part_writer_new(struct mqg_store *s)
{
    struct part_writer *w = mqg_xcalloc(1, sizeof *w);
    w->s = s;
    for (uint32_t i = 0; i < WRITE_HANDS; i++)
        w->hands[i].w = w;
    mqg_cond_init(&w->some);
    return w;
}

int jrn_part_writer_start(struct part_writer *w)
{
    int r = pthread_create(&w->thread, NULL, write_run_thread, w);
    w->running = r == 0;
    return -r;
}

void jrn_part_writer_stop(struct part_writer *w, bool flush)
{
    if (!w->running)
        return;
    pthread_mutex_lock(&w->s->streams->lock);
    w->stop = true;
    w->flush = flush;
    pthread_cond_signal(&w->some);
    pthread_mutex_unlock(&w->s->streams->lock);
    pthread_join(w->thread, NULL);
    w->running = false;
}

void jrn_part_writer_free(struct part_writer **writer)
{
    struct part_writer *w = *writer;
    if (!w)
        return;
    pthread_cond_destroy(&w->some);
    free(w->due.at);
    free(w->work.at);
    free(w->dirty.at);
    for (uint32_t i = 0; i < WRITE_HANDS; i++)
        jrn_part_hand_fini(&w->hands[i]);
    free(w);
    *writer = NULL;
}
