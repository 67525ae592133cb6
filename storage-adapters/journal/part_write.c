/* part_write.c - the stream writer: one thread that copies what was committed into the partitions' files, syncs them when a
 * segment of the journal is to go, begins new files and removes old ones.
 *
 * Only what is durable in the journal and contiguous is copied, in offset order; so a file is always a beginning of its log,
 * and whatever a power cut does to its unsynced end, the journal still has it. The copy is read from the journal's file, which
 * the committer has just written (it is in memory), checked once more, and taken apart into batches to see that they fit each
 * other. Bytes that are no record batches stay in the journal: with them nothing could be found again.
 *
 * Syncing is lazy: rows hold their segment, the keeper recycles a segment when nothing holds it, so a partition is synced
 * once per journal segment that it has rows in, when that segment is closed. An idle partition costs nothing.
 *
 * A failed write leaves the file as long as it was noted to be; ENOSPC is tried again, any other error fails the store: what
 * the page cache has of the file can no longer be known. */
#include "stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    WRITE_ROWS = 64,
    WRITE_RUN = 4 << 20,    /* bytes read from the journal in one go */
    WRITE_GAP = 64 << 10,   /* between two rows of a run */
    WRITE_KEEP = 8 << 20,   /* buffers over this are given back */
    WRITE_ROWS_MAX = 65536, /* rows of a partition before it is synced for their memory's sake */
    WRITE_TICK_MS = 250,
    WRITE_IDLE_MS = 60000,
};

struct part_list {
    struct stream_part **at;
    uint32_t n, cap;
};

struct part_writer {
    struct mqg_store *s;
    pthread_t thread;
    bool running, stop, flush;
    pthread_cond_t some;   /* with the streams' lock */
    struct part_list due;  /* under it */
    struct part_list work; /* the thread's */
    struct part_list dirty;
    bool pause, pausing; /* the disk is full; and that was said */
    uint8_t *buf;
    size_t cap;
};

/* What is being written to one file. */
struct part_put {
    struct stream_part *p;
    struct jrn_batch_ref rows[WRITE_ROWS];
    size_t place[WRITE_ROWS]; /* of the record in the writer's buffer */
    uint32_t nrow;
    uint64_t filed, segment_bytes;
    struct part_file *f;
    struct iovec iov[WRITE_ROWS];
    int niov;
    uint64_t bytes; /* in iov */
    struct part_batch *batches;
    uint32_t nbatch, cap_batch;
};

static void list_push(struct part_list *l, struct stream_part *p)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 16;
        l->at = mqg_xrealloc(l->at, l->cap * sizeof(struct stream_part *));
    }
    l->at[l->n++] = p;
}

void jrn_part_due(struct mqg_store *s, struct stream_part *p)
{
    struct part_writer *w = s->part_writer;
    if (p->due)
        return;
    p->due = true;
    list_push(&w->due, p);
    if (w->due.n == 1)
        pthread_cond_signal(&w->some);
}

static void write_log(const struct mqg_store *s, const char *call, const char *name, int r)
{
    mqg_log(MQG_LOG_WARN, MQG_EVENT_STORE, "store=%s what=stream_file call=%s file=%s error=%s", s->section,
            call, name, mqg_logqs(jrn_errno(r)));
}

/* Answers r; a full disk is waited for, anything else is the end. */
static int write_failed(struct part_writer *w, const char *call, const char *name, int r)
{
    char text[256];
    if (r == -ENOSPC || r == -EDQUOT) {
        if (!w->pausing)
            write_log(w->s, call, name, r);
        w->pause = w->pausing = true;
        return r;
    }
    snprintf(text, sizeof text, "%s of %s: %s", call, name, jrn_errno(r));
    jrn_fail(w->s, MQG_IO, text);
    return r;
}

static int write_file_failed(struct part_writer *w, const char *call, const struct part_file *f, int r)
{
    char name[PART_NAME];
    jrn_part_name(f, "log", "", name);
    return write_failed(w, call, name, r);
}

/* ---- folders --------------------------------------------------------------------------------------------- */

static int write_sync_dir(struct mqg_store *s, const char *name)
{
    char path[4096];
    jrn_path(s, name, path);
    return s->fs->fsync_dir(s->fs->ctx, path);
}

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
    return r < 0 ? write_failed(w, "mkdir", name, r) : 0;
}

/* The names are as durable as the bytes. */
static int write_sync_names(struct mqg_store *s, struct stream_part *p)
{
    char name[PART_NAME];
    jrn_part_folder(p->id, name);
    int r = write_sync_dir(s, name);
    if (r == 0 && !p->folder) {
        r = write_sync_dir(s, "streams");
        if (r == 0)
            r = s->fs->fsync_dir(s->fs->ctx, s->path);
    }
    p->folder = p->folder || r == 0;
    return r;
}

/* ---- syncing --------------------------------------------------------------------------------------------- */

static int write_sync_file(struct part_writer *w, struct stream_part *p, struct part_file *f, uint64_t end,
                           uint64_t bytes)
{
    struct mqg_store *s = w->s;
    int fd = jrn_part_file_open(s, f, O_RDWR), r = fd;
    if (fd < 0)
        return write_file_failed(w, "open", f, r);
    r = jrn_fs_sync(s->fs, fd);
    if (r < 0)
        r = write_file_failed(w, "fdatasync", f, r);
    if (r == 0 && (r = write_sync_names(s, p)) < 0)
        r = write_file_failed(w, "syncing the folder", f, r);
    if (r == 0) {
        int idx = jrn_part_index_save(s, f, end, bytes); /* derived: a full disk may have none */
        if (idx < 0)
            write_log(s, "index", "idx", idx);
    }
    jrn_part_file_unpin(s, f);
    return r;
}

/* Everything filed so far becomes durable; its rows go. */
static int write_sync(struct part_writer *w, struct stream_part *p)
{
    struct jrn_streams *st = w->s->streams;
    pthread_mutex_lock(&st->lock);
    struct part_file *f = p->nfile && !p->gone ? p->files[p->nfile - 1] : NULL;
    uint64_t end = p->filed, bytes = f ? f->bytes : 0;
    if (f)
        jrn_part_file_ref(f);
    pthread_mutex_unlock(&st->lock);
    if (!f)
        return 0;
    int r = write_sync_file(w, p, f, end, bytes);
    jrn_part_file_unref(w->s, &f);
    pthread_mutex_lock(&st->lock);
    if (r == 0 && !p->gone) {
        p->synced = end;
        jrn_stream_drop(w->s, p, jrn_stream_row(p, end));
    }
    pthread_mutex_unlock(&st->lock);
    return r;
}

static void write_is_dirty(struct part_writer *w, struct stream_part *p)
{
    if (!p->dirty)
        list_push(&w->dirty, p);
    p->dirty = true;
}

/* Is a segment waiting for it? */
static bool write_sync_now(const struct part_writer *w, const struct stream_part *p)
{
    return w->flush || p->gone || p->n > WRITE_ROWS_MAX ||
           (p->n > 0 && atomic_load(&p->at[0].seg->state) != JRN_TAIL);
}

static void write_sync_due(struct part_writer *w)
{
    struct jrn_streams *st = w->s->streams;
    struct part_list all = w->dirty;
    w->dirty = (struct part_list){.at = NULL};
    for (uint32_t i = 0; i < all.n; i++) {
        pthread_mutex_lock(&st->lock);
        bool now = write_sync_now(w, all.at[i]) && !w->pause && !atomic_load(&w->s->failed);
        all.at[i]->dirty = false;
        pthread_mutex_unlock(&st->lock);
        if (now && write_sync(w, all.at[i]) == 0)
            continue;
        pthread_mutex_lock(&st->lock);
        write_is_dirty(w, all.at[i]);
        pthread_mutex_unlock(&st->lock);
    }
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
        r = write_file_failed(w, "open", f, fd);
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
static int write_roll(struct part_writer *w, struct stream_part *p, uint64_t base)
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
        r = write_sync_dir(s, "streams");
    bool removed = r == 0 || r == -ENOENT;
    if (!removed && !p->stuck)
        write_log(s, "removing", walk.folder, r);
    pthread_mutex_lock(&s->streams->lock);
    p->removed = removed;
    p->stuck = !removed;
    pthread_mutex_unlock(&s->streams->lock);
}

/* ---- from the journal ---------------------------------------------------------------------------------------- */

static bool write_take(struct part_writer *w, struct part_put *put)
{
    struct jrn_streams *st = w->s->streams;
    struct stream_part *p = put->p;
    uint64_t bytes = 0;
    put->nrow = 0;
    pthread_mutex_lock(&st->lock);
    put->filed = p->filed;
    put->segment_bytes = p->conf.segment_bytes ? p->conf.segment_bytes : PART_SEGMENT_DEFAULT;
    uint32_t i = p->gone || p->opaque ? UINT32_MAX : jrn_stream_row(p, p->filed);
    for (; i < p->whole && put->nrow < WRITE_ROWS && bytes < WRITE_RUN; i++) {
        bytes += p->at[i].len;
        atomic_fetch_add(&p->at[i].seg->pins, 1);
        put->rows[put->nrow++] = p->at[i];
    }
    pthread_mutex_unlock(&st->lock);
    return put->nrow > 0;
}

static void write_unpin(struct part_writer *w, const struct part_put *put)
{
    for (uint32_t i = 0; i < put->nrow; i++) {
        struct jrn_seg *seg = put->rows[i].seg;
        bool dead = atomic_load(&seg->live) == 0; /* before: without the pin the keeper may free it */
        if (atomic_fetch_sub(&seg->pins, 1) == 1 && dead)
            jrn_keeper_wake(w->s);
    }
}

static uint64_t write_row_end(const struct jrn_batch_ref *row)
{
    return (uint64_t)row->off + JRN_BATCH_HEAD + row->len;
}

/* How many rows from i on are read in one go, and the bytes that takes. */
static uint32_t write_run(const struct part_put *put, uint32_t i, size_t *bytes)
{
    const struct jrn_batch_ref *first = &put->rows[i];
    uint64_t end = write_row_end(first);
    uint32_t n = 1;
    for (; i + n < put->nrow; n++) {
        const struct jrn_batch_ref *row = &put->rows[i + n];
        if (row->seg != first->seg || row->off < end || row->off - end > WRITE_GAP ||
            write_row_end(row) - first->off > WRITE_RUN)
            break;
        end = write_row_end(row);
    }
    *bytes = (size_t)(end - first->off) + JRN_REC_HEAD;
    return n;
}

static int write_read(struct part_writer *w, struct part_put *put)
{
    size_t used = 0, bytes;
    for (uint32_t i = 0, n; i < put->nrow; i += n) {
        const struct jrn_batch_ref *first = &put->rows[i];
        n = write_run(put, i, &bytes);
        if (used + bytes > w->cap) {
            w->cap = used + bytes;
            w->buf = mqg_xrealloc(w->buf, w->cap);
        }
        uint64_t from = (uint64_t)first->off - JRN_REC_HEAD;
        ssize_t got = jrn_fs_read(w->s->fs, first->seg->fd, w->buf + used, bytes, from);
        if (got != (ssize_t)bytes)
            return got < 0 ? (int)got : -EIO;
        for (uint32_t k = i; k < i + n; k++)
            put->place[k] = used + (size_t)(put->rows[k].off - first->off);
        used += bytes;
    }
    return 0;
}

/* The record against its own sum. */
static bool write_checks(const uint8_t *p, uint32_t len)
{
    return p[8] == JRN_REC_BATCH && mqg_le32(p + 12) == len - JRN_REC_HEAD &&
           mqg_le32(p) == jrn_crc32c(mqg_le32(p + 4), p + 4, len - 4);
}

/* ---- into the file ------------------------------------------------------------------------------------------- */

/* Writes what was collected. */
static int write_put(struct part_writer *w, struct part_put *put)
{
    struct mqg_store *s = w->s;
    struct part_file *f = put->f;
    if (put->niov == 0)
        return 0;
    int fd = jrn_part_file_open(s, f, O_RDWR);
    if (fd < 0)
        return write_file_failed(w, "open", f, fd);
    int r = jrn_fs_write(s->fs, fd, put->iov, put->niov, f->bytes);
    uint64_t pos = f->bytes, interval = jrn_part_interval(put->segment_bytes), time_ms = 0;
    for (uint32_t i = 0; i < put->nbatch && r == 0; i++) {
        const struct part_batch *b = &put->batches[i];
        jrn_part_index_add(s, f, b, pos, interval);
        pos += b->len;
        time_ms = b->max_time_ms > time_ms ? b->max_time_ms : time_ms;
    }
    jrn_part_file_unpin(s, f);
    if (r < 0)
        return write_file_failed(w, "write", f, r);
    w->pausing = false;
    pthread_mutex_lock(&s->streams->lock);
    struct stream_part *p = put->p;
    f->bytes = pos;
    f->end = p->filed = put->batches[put->nbatch - 1].end;
    f->max_time_ms = time_ms > f->max_time_ms ? time_ms : f->max_time_ms;
    write_is_dirty(w, p);
    pthread_mutex_unlock(&s->streams->lock);
    put->filed = f->end;
    put->niov = 0;
    put->nbatch = 0;
    put->bytes = 0;
    return 0;
}

static void write_batch(struct part_put *put, const struct part_batch *b)
{
    *STREAM_PUSH(put, batches, nbatch, cap_batch) = *b;
}

/* Do the bytes hold the batches that the row says, and nothing else? Collects those that are not filed yet; *skip: bytes of
 * those that are. */
static bool write_split(struct part_put *put, const struct jrn_batch_ref *row, struct mqg_slice in,
                        size_t *skip)
{
    struct part_batch b;
    uint32_t had = put->nbatch;
    uint64_t next = row->base_offset;
    *skip = 0;
    for (bool ok = true; in.len > 0;) {
        ok = jrn_part_batch_take(&in, &b) && b.base == next;
        if (!ok) {
            put->nbatch = had;
            return false;
        }
        next = b.end;
        if (b.end <= put->filed)
            *skip += b.len;
        else
            write_batch(put, &b);
    }
    if (next == jrn_batch_end(row))
        return true;
    put->nbatch = had;
    return false;
}

static void write_is_opaque(struct part_writer *w, struct stream_part *p, const struct jrn_batch_ref *row)
{
    pthread_mutex_lock(&w->s->streams->lock);
    p->opaque = true;
    pthread_mutex_unlock(&w->s->streams->lock);
    mqg_log(MQG_LOG_WARN, MQG_EVENT_STORE, "store=%s what=no_record_batch partition=%llu offset=%llu",
            w->s->section, (unsigned long long)p->id, (unsigned long long)row->base_offset);
}

static bool write_rolls(const struct part_put *put, uint64_t base, uint64_t len)
{
    const struct part_file *f = put->f;
    return !f || base > f->end || (f->bytes > 0 && f->bytes + len > put->segment_bytes);
}

/* A row's bytes join what is to be written; first a new file, when it is time for one. */
static int write_row(struct part_writer *w, struct part_put *put, uint32_t i)
{
    const struct jrn_batch_ref *row = &put->rows[i];
    const uint8_t *rec = w->buf + put->place[i];
    struct stream_part *p = put->p;
    size_t skip;
    if (!write_checks(rec, JRN_REC_HEAD + JRN_BATCH_HEAD + row->len)) {
        mqg_log(MQG_LOG_ERROR, MQG_EVENT_CORRUPTION, "store=%s file=%s at=%u what=\"a batch does not check\"",
                w->s->section, row->seg->name, row->off);
        write_is_opaque(w, p, row);
        return -EINVAL;
    }
    if (put->f && put->bytes > 0 && put->f->bytes + put->bytes + row->len > put->segment_bytes) {
        int r = write_put(w, put);
        if (r < 0)
            return r;
    }
    struct mqg_slice in = mqg_slice_of(rec + JRN_REC_HEAD + JRN_BATCH_HEAD, row->len);
    uint32_t had = put->nbatch;
    if (!write_split(put, row, in, &skip)) {
        write_is_opaque(w, p, row);
        return -EINVAL;
    }
    if (put->nbatch == had)
        return 0;
    if (put->bytes == 0 && write_rolls(put, put->batches[0].base, row->len - skip)) {
        int r = write_roll(w, p, put->batches[0].base);
        if (r < 0)
            return r;
        put->f = p->files[p->nfile - 1];
    }
    put->iov[put->niov++] = (struct iovec){(void *)(uintptr_t)(in.ptr + skip), in.len - skip};
    put->bytes += in.len - skip;
    return 0;
}

/* Files some rows; true when there may be more. */
static bool write_some(struct part_writer *w, struct stream_part *p)
{
    struct part_put put = {.p = p, .f = p->nfile ? p->files[p->nfile - 1] : NULL};
    if (!write_take(w, &put))
        return false;
    int r = write_read(w, &put);
    if (r < 0)
        r = write_failed(w, "reading the journal", put.rows[0].seg->name, r);
    for (uint32_t i = 0; i < put.nrow && r == 0; i++)
        r = write_row(w, &put, i);
    if (r == 0 || r == -EINVAL) {
        int put_r = write_put(w, &put);
        r = put_r < 0 ? put_r : r;
    }
    write_unpin(w, &put);
    free(put.batches);
    if (w->cap > WRITE_KEEP) {
        free(w->buf);
        w->buf = NULL;
        w->cap = 0;
    }
    return r == 0;
}

static void write_part(struct part_writer *w, struct stream_part *p)
{
    pthread_mutex_lock(&w->s->streams->lock);
    bool gone = p->gone, roll = p->roll;
    p->due = p->roll = false;
    if (!gone && p->n > 0 && jrn_batch_end(&p->at[0]) <= p->filed)
        write_is_dirty(w, p); /* recovered: filed, and not known to be synced */
    pthread_mutex_unlock(&w->s->streams->lock);
    if (gone) {
        write_remove(w, p);
        return;
    }
    write_prune(w, p);
    if (roll && p->nfile > 0 && p->files[p->nfile - 1]->bytes > 0)
        (void)write_roll(w, p, p->filed);
    while (!atomic_load(&w->s->failed) && write_some(w, p)) {
    }
    if (!w->pause)
        return;
    pthread_mutex_lock(&w->s->streams->lock);
    jrn_part_due(w->s, p); /* again, after a while */
    pthread_mutex_unlock(&w->s->streams->lock);
}

/* ---- the thread ------------------------------------------------------------------------------------------------ */

/* Takes over the list of what is due; waits for some, at most a tick. false: the end. */
static bool write_wait(struct part_writer *w)
{
    struct timespec until = mqg_wait_until(w->dirty.n || w->pause ? WRITE_TICK_MS : WRITE_IDLE_MS);
    struct part_list was = w->work;
    pthread_mutex_lock(&w->s->streams->lock);
    int r = 0;
    while ((w->due.n == 0 || w->pause) && !w->stop && r == 0)
        r = pthread_cond_timedwait(&w->some, &w->s->streams->lock, &until);
    w->work = w->due;
    w->due = was;
    w->due.n = 0;
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
        for (uint32_t i = 0; i < w->work.n; i++)
            write_part(w, w->work.at[i]);
        w->work.n = 0;
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
    free(w->buf);
    free(w);
    *writer = NULL;
}
