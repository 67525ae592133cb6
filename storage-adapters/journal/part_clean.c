/* part_clean.c - retention: what is over a partition's bounds of time or bytes is trimmed, a file at a time.
 *
 * The cleaner does what a host's TRIM does: it says the new start in the journal, and only when that is durable the files below
 * it are removed. So a log's start never goes back, and a crash in between leaves files that are removed at the next start. */
#include "stream.h"

/* The offset to trim to, or 0. Under the lock; files are the writer's own. */
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

/* When was the latest record of a recovered file? Its index says so. */
static void clean_times(struct mqg_store *s, struct stream_part *p)
{
    for (uint32_t i = 0; i < p->nfile; i++) {
        struct part_file *f = p->files[i];
        if (f->timed)
            continue;
        if (jrn_part_file_open(s, f, 2) < 0)
            return;
        uint64_t latest = jrn_part_index_latest(s, f);
        jrn_part_file_unpin(s, f);
        pthread_mutex_lock(&s->streams->lock);
        f->max_time_ms = latest;
        f->timed = true;
        pthread_mutex_unlock(&s->streams->lock);
    }
}

void jrn_part_clean(struct mqg_store *s, uint64_t now_ms)
{
    struct jrn_streams *st = s->streams;
    pthread_mutex_lock(&st->lock);
    uint32_t n = st->npart;
    pthread_mutex_unlock(&st->lock);
    for (uint32_t i = 0; i < n && !atomic_load(&s->failed); i++) {
        pthread_mutex_lock(&st->lock);
        struct stream_part *p = st->parts[i];
        bool deletes = !p->gone && (p->conf.cleanup == 0 || (p->conf.cleanup & MQG_CLEANUP_DELETE));
        uint64_t age_ms = p->nfile ? now_ms - p->files[p->nfile - 1]->first_ms : 0;
        bool rolls = !p->gone && p->nfile && p->conf.segment_ms && age_ms >= p->conf.segment_ms &&
                     p->files[p->nfile - 1]->bytes > 0;
        bool bounded = deletes && (p->conf.retention_ms || p->conf.retention_bytes);
        pthread_mutex_unlock(&st->lock);
        if (rolls)
            jrn_part_roll(s, p);
        if (!bounded)
            continue;
        if (p->conf.retention_ms)
            clean_times(s, p);
        pthread_mutex_lock(&st->lock);
        uint64_t start = clean_start(p, now_ms);
        pthread_mutex_unlock(&st->lock);
        if (start)
            clean_trim(s, p->id, start);
    }
}
