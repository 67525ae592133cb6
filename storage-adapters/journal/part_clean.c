/* part_clean.c - retention: what is over a partition's bounds of time or bytes is trimmed, a file at a time.
 *
 * The cleaner does what a host's TRIM does: it says the new start in the journal, and only when that is durable the files below
 * it are removed. So a log's start never goes back, and a crash in between leaves files that are removed at the next start. */
#include "stream.h"

#include <fcntl.h>
#include <stdlib.h>
#include <time.h>

/* The offset to trim to, or 0. Under the lock. */
static uint64_t clean_start(const struct stream_part *p, uint64_t now_ms)
{
    const struct mqg_stream_conf *c = &p->conf;
    uint64_t start = 0, bytes = 0;
    for (uint32_t i = 0; i < p->nfile; i++)
        bytes += p->files[i]->bytes;
    for (uint32_t i = 0; i < p->nfile; i++) {
        struct part_file *f = p->files[i];
        bool large = c->retention_bytes && bytes - f->bytes >= c->retention_bytes && i + 1 < p->nfile;
        bool old = c->retention_ms && f->timed && f->max_time_ms > 0 &&
                   f->max_time_ms + c->retention_ms < now_ms && f->end <= p->filed &&
                   (i + 1 < p->nfile || p->filed == p->high);
        if (!large && !old)
            break;
        bytes -= f->bytes;
        start = f->end;
    }
    return start > p->log_start ? start : 0;
}

static void clean_trim(struct mqg_store *s, uint64_t partition, uint64_t start)
{
    enum { CLEAN_LANE = 0xfffb };
    struct mqg_store_op op = {.kind = MQG_OP_TRIM, .trim = {partition, start}};
    struct jrn_chunk *c = jrn_chunk_new();
    jrn_chunk_begin(c, CLEAN_LANE, 0, 0, atomic_fetch_add(&s->salt, 1));
    jrn_chunk_op(c, &op);
    jrn_chunk_end(c);
    jrn_submit(s, c);
    mqg_log(MQG_LOG_INFO, MQG_EVENT_STORE, "store=%s what=retention partition=%llu start=%llu", s->section,
            (unsigned long long)partition, (unsigned long long)start);
}

/* The first file whose latest time is not known; referenced. */
static struct part_file *clean_untimed(struct mqg_store *s, const struct stream_part *p)
{
    struct part_file *found = NULL;
    pthread_mutex_lock(&s->streams->lock);
    for (uint32_t i = 0; i < p->nfile && !found; i++)
        found = p->files[i]->timed ? NULL : p->files[i];
    if (found)
        jrn_part_file_ref(found);
    pthread_mutex_unlock(&s->streams->lock);
    return found;
}

/* When was the latest record of a recovered file? Its index says so. */
static void clean_times(struct mqg_store *s, const struct stream_part *p)
{
    struct part_file *f;
    bool goes_on = true;
    while (goes_on && (f = clean_untimed(s, p)) != NULL) {
        goes_on = jrn_part_file_open(s, f, O_RDWR) >= 0;
        uint64_t latest = goes_on ? jrn_part_index_latest(s, f) : 0;
        if (goes_on)
            jrn_part_file_unpin(s, f);
        pthread_mutex_lock(&s->streams->lock);
        f->timed = goes_on;
        if (latest > f->max_time_ms)
            f->max_time_ms = latest;
        pthread_mutex_unlock(&s->streams->lock);
        jrn_part_file_unref(s, &f);
    }
}

/* What is to be done for a partition, as of now. */
struct clean_todo {
    bool trims, compacts, rolls, timed;
};

static struct clean_todo clean_todo(const struct stream_part *p, uint64_t now_ms)
{
    const struct mqg_stream_conf *c = &p->conf;
    struct clean_todo t = {.trims = false};
    if (p->gone || p->nfile == 0)
        return t;
    const struct part_file *last = p->files[p->nfile - 1];
    uint64_t age_ms = now_ms > last->first_ms ? now_ms - last->first_ms : 0;
    bool deletes = c->cleanup == 0 || (c->cleanup & MQG_CLEANUP_DELETE);
    t.trims = deletes && (c->retention_ms || c->retention_bytes);
    t.compacts = (c->cleanup & MQG_CLEANUP_COMPACT) && p->nfile > 1;
    t.rolls = last->bytes > 0 && ((c->segment_ms && age_ms >= c->segment_ms) ||
                                  ((c->cleanup & MQG_CLEANUP_COMPACT) && c->compact_lag_max_ms &&
                                   age_ms >= c->compact_lag_max_ms));
    t.timed = (deletes && c->retention_ms) || t.compacts;
    return t;
}

static void clean_part(struct mqg_store *s, struct stream_part *p, uint64_t now_ms)
{
    struct jrn_streams *st = s->streams;
    pthread_mutex_lock(&st->lock);
    struct clean_todo todo = clean_todo(p, now_ms);
    p->roll = p->roll || todo.rolls;
    if (todo.rolls || (p->gone && !p->removed))
        jrn_part_due(s, p);
    pthread_mutex_unlock(&st->lock);
    if (todo.timed)
        clean_times(s, p);
    if (todo.compacts)
        jrn_part_compact(s, p, now_ms);
    if (!todo.trims)
        return;
    pthread_mutex_lock(&st->lock);
    uint64_t start = clean_start(p, now_ms);
    pthread_mutex_unlock(&st->lock);
    if (start)
        clean_trim(s, p->id, start);
}

/* ---- the thread ---------------------------------------------------------------------------------------------- */

struct part_cleaner {
    struct mqg_store *s;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool running;
    _Atomic bool stop;
};

bool jrn_part_cleaner_ends(struct mqg_store *s)
{
    return atomic_load(&s->part_cleaner->stop) || atomic_load(&s->failed);
}

static void clean_all(struct mqg_store *s, uint64_t now_ms)
{
    struct jrn_streams *st = s->streams;
    for (uint32_t i = 0; !jrn_part_cleaner_ends(s); i++) {
        pthread_mutex_lock(&st->lock);
        struct stream_part *p = i < st->npart ? st->parts[i] : NULL;
        pthread_mutex_unlock(&st->lock);
        if (!p)
            return;
        clean_part(s, p, now_ms);
    }
}

static void *clean_run(void *arg)
{
    struct part_cleaner *c = arg;
    pthread_setname_np(pthread_self(), "journal-cleaner");
    while (!atomic_load(&c->stop)) {
        struct timespec until = mqg_wait_until(atomic_load(&c->s->clean_tick_ms));
        pthread_mutex_lock(&c->lock);
        if (!atomic_load(&c->stop))
            pthread_cond_timedwait(&c->wake, &c->lock, &until);
        pthread_mutex_unlock(&c->lock);
        clean_all(c->s, mqg_clock_now().wall_us / 1000);
    }
    return NULL;
}

struct part_cleaner *jrn_part_cleaner_new(struct mqg_store *s)
{
    struct part_cleaner *c = mqg_xcalloc(1, sizeof *c);
    c->s = s;
    pthread_mutex_init(&c->lock, NULL);
    mqg_cond_init(&c->wake);
    return c;
}

int jrn_part_cleaner_start(struct part_cleaner *c)
{
    int r = pthread_create(&c->thread, NULL, clean_run, c);
    c->running = r == 0;
    return -r;
}

void jrn_part_cleaner_stop(struct part_cleaner *c)
{
    if (!c->running)
        return;
    pthread_mutex_lock(&c->lock);
    atomic_store(&c->stop, true);
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->thread, NULL);
    c->running = false;
}

void jrn_part_cleaner_tick(struct mqg_store *s, uint32_t ms)
{
    struct part_cleaner *c = s->part_cleaner;
    pthread_mutex_lock(&c->lock);
    atomic_store(&s->clean_tick_ms, ms);
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
}

void jrn_part_cleaner_free(struct part_cleaner **cleaner)
{
    struct part_cleaner *c = *cleaner;
    if (!c)
        return;
    pthread_cond_destroy(&c->wake);
    pthread_mutex_destroy(&c->lock);
    free(c);
    *cleaner = NULL;
}
