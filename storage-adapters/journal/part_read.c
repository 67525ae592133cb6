/* part_read.c - reading from a partition's files: many cursors, each where it likes.
 *
 * A read becomes one pread: the index (or the mark that the cursor's last read left) says where to begin, the batches come as
 * they stand in the file, whole, and are checked against their sums. The worker tries first, without waiting: what the page
 * cache has is answered on the spot. Everything else - a file that is closed, an index to be read, bytes on the disk - goes to
 * threads of their own, which then ask the kernel for the bytes behind as well: the next read of that cursor finds them.
 *
 * Cursors that follow each other through the same stretch share what was read: an answer is a counted buffer, and the last few
 * are kept for whoever asks for the same offset. So a hundred readers at the end of a stream cost one read and one checksum. */
#include "stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

enum {
    READ_THREADS = 2,
    READ_MAX = 8 << 20, /* bytes of one answer, but for a batch that is larger */
    READ_SHARED = 64,   /* answers kept */
    READ_SHARED_BYTES = 8 << 20,
    READ_AHEAD = 1 << 20,
};

struct part_job {
    struct part_job *next;
    struct mqg_stream_read *read;
    struct mqg_time_req *time;
    struct part_file **files; /* one for a read; a time: all, in order */
    uint64_t *bytes, *ends;   /* of each, as noted under the lock */
    uint32_t nfile;
    uint64_t log_start;
    uint64_t rest; /* time: the answer when no file has one */
};

struct read_shared {
    uint64_t partition, offset, next_offset;
    uint64_t until; /* how far the file went then; 0: there was more, so the answer is as long as it may be */
    uint32_t max_bytes;
    uint32_t gen; /* of the file: a compacted one answers otherwise */
    struct mqg_buf *data;
};

struct part_readers {
    struct mqg_store *s;
    pthread_t threads[READ_THREADS];
    int running;
    pthread_mutex_t lock;
    pthread_cond_t some;
    struct part_job *first, **last;
    bool stop;
    /* what was answered lately; under `lock` as well */
    struct read_shared shared[READ_SHARED];
    uint32_t next_shared;
    uint64_t shared_bytes;
};

/* ---- shared answers ------------------------------------------------------------------------------------- */

bool jrn_part_share(struct mqg_store *s, struct mqg_stream_read *r, uint32_t gen, uint64_t until)
{
    struct part_readers *rs = s->part_readers;
    bool found = false;
    pthread_mutex_lock(&rs->lock);
    for (uint32_t i = 0; i < READ_SHARED && !found; i++) {
        const struct read_shared *sh = &rs->shared[i];
        found = sh->data && sh->partition == r->partition && sh->offset == r->offset &&
                sh->max_bytes == r->max_bytes && sh->gen == gen && (sh->until == 0 || sh->until == until);
        if (found) {
            r->data = mqg_buf_ref(sh->data);
            r->next_offset = sh->next_offset;
        }
    }
    pthread_mutex_unlock(&rs->lock);
    return found;
}

static void read_unshare(struct part_readers *rs, struct read_shared *sh)
{
    if (sh->data)
        rs->shared_bytes -= sh->data->len;
    mqg_buf_unref(&sh->data);
}

/* Keeps an answer. One that went to the file's end is good for as long as the file does not grow. */
void jrn_part_keep(struct mqg_store *s, const struct mqg_stream_read *r, uint32_t gen, uint64_t until)
{
    struct part_readers *rs = s->part_readers;
    if (!r->data || r->data->len > READ_SHARED_BYTES / 4)
        return;
    pthread_mutex_lock(&rs->lock);
    for (uint32_t i = 0; i < READ_SHARED && rs->shared_bytes + r->data->len > READ_SHARED_BYTES; i++)
        read_unshare(rs, &rs->shared[(rs->next_shared + i) % READ_SHARED]);
    struct read_shared *sh = &rs->shared[rs->next_shared++ % READ_SHARED];
    read_unshare(rs, sh);
    *sh = (struct read_shared){r->partition, r->offset, r->next_offset,      until,
                               r->max_bytes, gen,       mqg_buf_ref(r->data)};
    rs->shared_bytes += r->data->len;
    pthread_mutex_unlock(&rs->lock);
}

/* ---- one file --------------------------------------------------------------------------------------------- */

/* Was the file trimmed or compacted since? Then it is no error that it is not there. */
static bool read_replaced(struct mqg_store *s, const struct part_file *f)
{
    bool is = false;
    pthread_mutex_lock(&s->streams->lock);
    const struct stream_part *p = jrn_stream_find(s->streams, f->partition);
    for (uint32_t i = 0; p && i < p->nfile && !is; i++)
        is = p->files[i] == f;
    pthread_mutex_unlock(&s->streams->lock);
    return !is;
}

static ssize_t read_bytes(struct mqg_store *s, int fd, void *buf, size_t n, uint64_t pos, bool wait)
{
    if (wait)
        return jrn_fs_read(s->fs, fd, buf, n, pos);
    struct iovec iov = {buf, n};
    ssize_t got = s->fs->preadv(s->fs->ctx, fd, &iov, 1, pos, true);
    return got == (ssize_t)n ? got : -EAGAIN;
}

/* Whole batches in buf, from the one that holds the offset. */
struct read_span {
    size_t from, len;
    uint64_t next_offset; /* behind the last one taken */
    uint64_t passed;      /* bytes of whole batches before the offset */
    uint32_t need;        /* the batch wanted has so many bytes: more than are here */
    bool bad;
};

/* Offsets follow each other from *expect on; only in what an earlier version compacted (gaps) some are missing. */
static bool read_follows(const struct part_batch *b, uint64_t *expect, bool gaps)
{
    bool follows = gaps ? b->base >= *expect : b->base == *expect;
    *expect = b->end;
    return follows;
}

/* limit: where the file's offsets end. */
static struct read_span read_cut(const uint8_t *buf, size_t n, const struct mqg_stream_read *r,
                                 uint64_t *expect, uint64_t limit, bool gaps)
{
    uint64_t offset = r->offset;
    struct read_span span = {.next_offset = offset};
    struct part_batch b;
    size_t at = 0;
    while (at + PART_BATCH_HEAD <= n && !span.bad && !span.need) {
        uint64_t next = *expect;
        if (!jrn_part_batch_head(mqg_slice_of(buf + at, n - at), &b) || !read_follows(&b, &next, gaps) ||
            b.end > limit) {
            span.bad = true;
        } else if (b.end <= offset) {
            at += b.len;
            span.passed = span.from = at;
            *expect = next;
        } else if (span.len > 0 && (b.count == 0 || span.len + b.len > r->max_bytes)) {
            return span;
        } else if (b.len > n - at) {
            span.need = span.len ? 0 : b.len;
            return span;
        } else if (!jrn_part_batch_sum(buf + at, &b)) {
            span.bad = true;
        } else if (b.count == 0) { /* compaction left nothing of it: nobody is to see that */
            at += b.len;
            span.passed = span.from = at;
            *expect = next;
        } else {
            at += b.len;
            span.len += b.len;
            span.next_offset = *expect = next;
        }
    }
    return span;
}

static void read_damage(struct mqg_store *s, const struct part_file *f, uint64_t pos)
{
    char name[PART_NAME];
    jrn_part_name(f, "log", "", name);
    mqg_log(MQG_LOG_ERROR, MQG_EVENT_CORRUPTION, "store=%s file=%s at=%llu what=\"a batch does not check\"",
            s->section, name, (unsigned long long)pos);
}

/* The bytes that a read wants, from pos on. */
static size_t read_want(const struct mqg_stream_read *r, uint64_t pos, uint64_t bytes, bool exact,
                        uint32_t need)
{
    uint64_t want = r->max_bytes < READ_MAX ? r->max_bytes : READ_MAX;
    want = (want < 4096 ? 4096 : want) + (exact ? 0 : PART_INTERVAL);
    if (want < need)
        want = need;
    return want < bytes - pos ? (size_t)want : (size_t)(bytes - pos);
}

/* From place to place until the batch is found. 0, -EAGAIN (would wait), or another -errno; -EBADMSG: damage. */
static int read_from(struct mqg_store *s, const struct part_job *job, int fd, bool wait, uint64_t *end)
{
    struct mqg_stream_read *r = job->read;
    struct part_file *f = job->files[0];
    struct part_entry at;
    uint32_t need = 0;
    if (!jrn_part_index_find(s, f, r->offset, &at))
        at = (struct part_entry){f->base, 0, 0};
    bool exact = at.offset == r->offset;
    uint64_t expect = at.offset;
    for (uint64_t pos = at.pos; pos < job->bytes[0];) {
        size_t n = read_want(r, pos, job->bytes[0], exact, need);
        struct mqg_buf *buf = mqg_buf_new(n);
        if (!buf)
            return -ENOMEM;
        ssize_t got = read_bytes(s, fd, buf->data, n, pos, wait);
        struct read_span span = {.bad = true};
        if (got == (ssize_t)n)
            span = read_cut(buf->data, n, r, &expect, job->ends[0], f->gaps);
        if (span.len > 0) {
            if (span.from)
                memmove(buf->data, buf->data + span.from, span.len);
            buf->len = (uint32_t)span.len;
            r->data = buf;
            r->next_offset = span.next_offset;
            *end = pos + span.from + span.len;
            return 0;
        }
        mqg_buf_unref(&buf);
        if (got < 0)
            return (int)got;
        if (span.bad || (span.passed == 0 && span.need <= need)) {
            read_damage(s, f, pos + span.passed);
            return -EBADMSG;
        }
        need = span.need;
        pos += span.passed;
    }
    *end = job->bytes[0];
    if (!f->gaps && expect != job->ends[0]) { /* it should be here */
        read_damage(s, f, job->bytes[0]);
        return -EBADMSG;
    }
    r->next_offset = job->ends[0]; /* compaction left nothing from here to the end of the file */
    return 0;
}

static void read_free(struct mqg_store *s, struct part_job *job)
{
    for (uint32_t i = 0; i < job->nfile; i++)
        jrn_part_file_unref(s, &job->files[i]);
    free(job->files);
    free(job->bytes);
    free(job->ends);
    free(job);
}

/* The descriptor is pinned by the caller. */
static int read_answer(struct mqg_store *s, const struct part_job *job, int fd, bool wait)
{
    struct mqg_stream_read *r = job->read;
    uint64_t end = 0;
    int err = read_from(s, job, fd, wait, &end);
    if (err < 0)
        return err;
    if (end < job->bytes[0])
        jrn_part_index_hint(s, job->files[0], r->next_offset, end);
    jrn_part_keep(s, r, job->files[0]->gen, end < job->bytes[0] ? 0 : job->bytes[0]);
    if (wait && end < job->bytes[0])
        s->fs->willneed(s->fs->ctx, fd, end,
                        job->bytes[0] - end < READ_AHEAD ? job->bytes[0] - end : READ_AHEAD);
    return 0;
}

static enum mqg_err read_error(int r)
{
    return r == 0 ? MQG_OK : r == -EBADMSG ? MQG_CORRUPT : r == -ENOMEM ? MQG_NO_MEMORY : MQG_IO;
}

static void read_done(struct mqg_store *s, struct part_job *job, int r)
{
    struct mqg_stream_read *read = job->read;
    read->err = read_error(r);
    mqg_count(MQG_COUNT_STORE_LOADS, 1);
    read_free(s, job);
    read->done(read);
}

/* ---- by time ------------------------------------------------------------------------------------------------ */

/* The batch of file i that has it: heads from the row on. 0 and the offset, 1: none, or -errno. */
static int time_in(struct mqg_store *s, const struct part_job *job, uint32_t i, int fd)
{
    struct part_file *f = job->files[i];
    struct part_entry at;
    struct part_batch b;
    uint8_t head[PART_BATCH_HEAD];
    if (!jrn_part_index_time(s, f, job->time->time_ms, &at))
        return 1;
    uint64_t expect = at.offset, pos = at.pos;
    for (; pos < job->bytes[i]; pos += b.len) {
        ssize_t got = jrn_fs_read(s->fs, fd, head, sizeof head, pos);
        if (got < 0)
            return (int)got;
        if (!jrn_part_batch_head(mqg_slice_of(head, (size_t)got), &b) || !read_follows(&b, &expect, f->gaps))
            break;
        job->time->offset = b.base;
        if (b.count > 0 && b.max_time_ms >= job->time->time_ms)
            return 0;
    }
    if (pos == job->bytes[i] && (f->gaps || expect == job->ends[i]))
        return 1;
    read_damage(s, f, pos);
    return -EBADMSG;
}

static void time_answer(struct mqg_store *s, struct part_job *job)
{
    struct mqg_time_req *req = job->time;
    int r = 1;
    for (uint32_t i = 0; i < job->nfile && r == 1; i++) {
        int fd = jrn_part_file_open(s, job->files[i], O_RDWR);
        if (fd == -ENOENT && read_replaced(s, job->files[i])) {
            read_free(s, job);
            jrn_part_time(s, req);
            return;
        }
        r = fd < 0 ? fd : time_in(s, job, i, fd);
        if (fd >= 0)
            jrn_part_file_unpin(s, job->files[i]);
    }
    if (r == 1) {
        req->offset = job->rest;
        r = 0;
    }
    req->err = read_error(r);
    if (req->err == MQG_OK && req->offset < job->log_start)
        req->offset = job->log_start;
    read_free(s, job);
    req->done(req);
}

/* ---- the pool ------------------------------------------------------------------------------------------------ */

static void readers_put(struct part_readers *rs, struct part_job *job)
{
    pthread_mutex_lock(&rs->lock);
    job->next = NULL;
    *rs->last = job;
    rs->last = &job->next;
    pthread_cond_signal(&rs->some);
    pthread_mutex_unlock(&rs->lock);
}

static void readers_work(struct mqg_store *s, struct part_job *job)
{
    if (job->time) {
        time_answer(s, job);
        return;
    }
    int r = jrn_part_file_open(s, job->files[0], O_RDWR);
    if (r == -ENOENT && read_replaced(s, job->files[0])) { /* look again */
        struct mqg_stream_read *read = job->read;
        read_free(s, job);
        jrn_stream_read(s, read);
        return;
    }
    if (r >= 0) {
        r = read_answer(s, job, r, true);
        jrn_part_file_unpin(s, job->files[0]);
    }
    read_done(s, job, r);
}

static struct part_job *readers_take(struct part_readers *rs)
{
    pthread_mutex_lock(&rs->lock);
    while (!rs->first && !rs->stop)
        pthread_cond_wait(&rs->some, &rs->lock);
    struct part_job *job = rs->first;
    if (job && !(rs->first = job->next))
        rs->last = &rs->first;
    pthread_mutex_unlock(&rs->lock);
    return job;
}

/* Ends when told to and nothing waits: every request is answered. */
static void *readers_run(void *arg)
{
    struct part_readers *rs = arg;
    struct part_job *job;
    pthread_setname_np(pthread_self(), "journal-reads");
    while ((job = readers_take(rs)) != NULL)
        readers_work(rs->s, job);
    return NULL;
}

static void readers_submit(struct mqg_store *s, struct part_job *job)
{
    if (s->part_readers->running > 0)
        readers_put(s->part_readers, job);
    else
        readers_work(s, job);
}

struct part_readers *jrn_part_readers_new(struct mqg_store *s)
{
    struct part_readers *rs = mqg_xcalloc(1, sizeof *rs);
    rs->s = s;
    rs->last = &rs->first;
    pthread_mutex_init(&rs->lock, NULL);
    pthread_cond_init(&rs->some, NULL);
    return rs;
}

int jrn_part_readers_start(struct part_readers *rs)
{
    for (int i = 0; i < READ_THREADS; i++) {
        int err = pthread_create(&rs->threads[i], NULL, readers_run, rs);
        if (err)
            return -err;
        rs->running++;
    }
    return 0;
}

void jrn_part_readers_stop(struct part_readers *rs)
{
    pthread_mutex_lock(&rs->lock);
    rs->stop = true;
    pthread_cond_broadcast(&rs->some);
    pthread_mutex_unlock(&rs->lock);
    for (; rs->running > 0; rs->running--)
        pthread_join(rs->threads[rs->running - 1], NULL);
}

void jrn_part_readers_free(struct part_readers **readers)
{
    struct part_readers *rs = *readers;
    if (!rs)
        return;
    for (uint32_t i = 0; i < READ_SHARED; i++)
        mqg_buf_unref(&rs->shared[i].data);
    pthread_cond_destroy(&rs->some);
    pthread_mutex_destroy(&rs->lock);
    free(rs);
    *readers = NULL;
}

/* ---- requests --------------------------------------------------------------------------------------------------- */

/* Under the streams' lock: files [from, to) of the partition, referenced. */
static struct part_job *read_job(const struct stream_part *p, uint32_t from, uint32_t to)
{
    struct part_job *job = mqg_xcalloc(1, sizeof *job);
    job->files = mqg_xcalloc(to - from + 1, sizeof(struct part_file *));
    job->bytes = mqg_xcalloc(to - from + 1, sizeof *job->bytes);
    job->ends = mqg_xcalloc(to - from + 1, sizeof *job->ends);
    job->nfile = to - from;
    job->log_start = p->log_start;
    for (uint32_t i = from; i < to; i++) {
        jrn_part_file_ref(p->files[i]);
        job->files[i - from] = p->files[i];
        job->bytes[i - from] = p->files[i]->bytes;
        job->ends[i - from] = p->files[i]->end;
    }
    return job;
}

/* The file that holds the offset. */
static uint32_t read_file_of(const struct stream_part *p, uint64_t offset)
{
    uint32_t low = 0, high = p->nfile;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (p->files[mid]->base <= offset)
            low = mid + 1;
        else
            high = mid;
    }
    return low ? low - 1 : 0;
}

bool jrn_part_read(struct mqg_store *s, struct mqg_stream_read *r)
{
    struct jrn_streams *st = s->streams;
    struct part_job *job = NULL;
    pthread_mutex_lock(&st->lock);
    struct stream_part *p = jrn_stream_find(st, r->partition);
    if (p && jrn_stream_in_files(p, r->offset)) {
        p->read_us = mqg_clock_mono_us();
        uint32_t at = read_file_of(p, r->offset);
        job = read_job(p, at, at + 1);
        job->read = r;
        r->high_watermark = p->high;
        r->log_start = p->log_start;
    }
    pthread_mutex_unlock(&st->lock);
    if (!job)
        return false;
    r->data = NULL;
    r->next_offset = r->offset;
    if (jrn_part_share(s, r, job->files[0]->gen, job->bytes[0])) {
        read_done(s, job, 0);
        return true;
    }
    int fd = jrn_part_file_try(s, job->files[0]);
    int err = fd < 0 ? -EAGAIN : read_answer(s, job, fd, false);
    if (fd >= 0)
        jrn_part_file_unpin(s, job->files[0]);
    if (err == -EAGAIN)
        readers_submit(s, job);
    else
        read_done(s, job, err);
    return true;
}

/* What the rows say is noted together with the list of files: in between, rows may become part of a file. */
void jrn_part_time(struct mqg_store *s, struct mqg_time_req *req)
{
    struct jrn_streams *st = s->streams;
    struct part_job *job = NULL;
    pthread_mutex_lock(&st->lock);
    const struct stream_part *p = jrn_stream_find(st, req->partition);
    req->err = p ? MQG_OK : MQG_NOT_FOUND;
    if (p)
        req->offset = jrn_stream_row_time(p, req->time_ms);
    if (p && p->nfile > 0) {
        job = read_job(p, 0, p->nfile);
        job->time = req;
        job->rest = req->offset;
    }
    pthread_mutex_unlock(&st->lock);
    if (job)
        readers_submit(s, job);
    else
        req->done(req);
}
