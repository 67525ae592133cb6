/* load.c - reading back: messages by place, stream batches by offset.
 *
 * The worker tries first, with preadv2(RWF_NOWAIT): what the page cache has is read on the spot. The rest
 * goes to two reader threads, so that no worker ever waits for a disk. Items are sorted by place and
 * neighbours are read together, up to 1 MiB at a time and over gaps of 64 KiB, which is the read-ahead of a
 * queue that is drained: its next messages mostly stand side by side.
 *
 * Every record is checked against its own checksum before anybody sees it: a flipped bit costs one message an
 * error, never wrong bytes. A segment is pinned while somebody reads in it; pins are taken on the caller's
 * thread, while what is to be read still keeps the segment alive, so the keeper cannot miss them. */
#include "moved.h"
#include "stream.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/uio.h>

enum {
    LOAD_RUN = 1 << 20,
    LOAD_GAP = 64 << 10,
    LOAD_READERS = 2,
    LOAD_PICK = 512, /* batches per stream read */
};

/* One piece of a request: where it stands, and whose it is. */
struct load_item {
    uint64_t off; /* of the record's head in the file */
    uint32_t len; /* with the head */
    uint32_t index;
    struct jrn_seg *seg;
    bool done;
};

/* A request on its way: a load, or a stream read. */
struct load_job {
    struct load_job *next;
    struct mqg_load_req *load;
    struct mqg_stream_read *stream;
    void (*run)(struct mqg_store *s, void *arg); /* neither: somebody else's work */
    void *arg;
    struct mqg_buf *data; /* stream: filled in place */
    uint32_t *at;         /* stream: where each batch goes in data */
    struct load_item *items;
    uint32_t n, left;
    uint8_t *buf;
    size_t cap;
};

struct jrn_readers {
    struct mqg_store *s;
    pthread_t threads[LOAD_READERS];
    int running;
    pthread_mutex_t lock;
    pthread_cond_t some;
    struct load_job *first, **last;
    bool stop;
};

/* ---- one record ---------------------------------------------------------------------------------------- */

/* The record as it stands in the file, against its own sum. */
static bool load_checks(const uint8_t *p, uint32_t len, uint8_t type)
{
    return len >= JRN_REC_HEAD && p[8] == type && mqg_le32(p + 12) == len - JRN_REC_HEAD &&
           mqg_le32(p) == jrn_crc32c(mqg_le32(p + 4), p + 4, len - 4);
}

static void load_damage(struct mqg_store *s, const struct load_item *it)
{
    mqg_log(MQG_LOG_ERROR, MQG_EVENT_CORRUPTION,
            "store=%s file=%s at=%llu len=%u what=\"a record does not check\"", s->section, it->seg->name,
            (unsigned long long)it->off, it->len);
}

/* Hands a read record to its owner. */
static void load_give(struct mqg_store *s, struct load_job *job, struct load_item *it, const uint8_t *p,
                      enum mqg_err err)
{
    bool good = err == MQG_OK && load_checks(p, it->len, job->load ? JRN_REC_MSG : JRN_REC_BATCH);
    if (err == MQG_OK && !good) {
        load_damage(s, it);
        err = MQG_CORRUPT;
    }
    it->done = true;
    job->left--;
    if (job->stream) {
        if (good)
            memcpy(job->data->data + job->at[it->index], p + JRN_REC_HEAD + JRN_BATCH_HEAD,
                   it->len - JRN_REC_HEAD - JRN_BATCH_HEAD);
        else if (job->stream->err == MQG_OK)
            job->stream->err = err;
        return;
    }
    struct mqg_load *load = &job->load->items[it->index];
    load->err = err;
    load->msg = good ? mqg_msg_from_stored(mqg_slice_of(p + JRN_REC_HEAD, it->len - JRN_REC_HEAD), &load->err)
                     : NULL;
    if (load->msg) {
        load->msg->extent = load->extent;
        load->msg->extent_off = load->off;
    }
}

/* ---- runs of neighbours -------------------------------------------------------------------------------- */

static int load_order(const void *a, const void *b)
{
    const struct load_item *x = a, *y = b;
    if (x->seg != y->seg)
        return x->seg->seq < y->seg->seq ? -1 : 1;
    return x->off < y->off ? -1 : x->off > y->off;
}

/* How many items from i on are read in one go, and the bytes that takes. */
static uint32_t load_run(const struct load_job *job, uint32_t i, size_t *bytes)
{
    const struct load_item *first = &job->items[i];
    uint64_t end = first->off + first->len;
    uint32_t n = 1;
    for (; i + n < job->n; n++) {
        const struct load_item *it = &job->items[i + n];
        uint64_t it_end = it->off + it->len > end ? it->off + it->len : end;
        if (it->seg != first->seg || it->done || it->off > end + LOAD_GAP || it_end - first->off > LOAD_RUN)
            break;
        end = it_end;
    }
    *bytes = (size_t)(end - first->off);
    return n;
}

/* Reads a run; with nowait false when not all of it is in memory. */
static bool load_read(struct mqg_store *s, struct load_job *job, uint32_t i, uint32_t n, size_t bytes,
                      bool nowait)
{
    struct load_item *first = &job->items[i];
    enum mqg_err err = MQG_OK;
    if (bytes > job->cap) {
        free(job->buf);
        job->cap = bytes;
        job->buf = mqg_xmalloc(bytes);
    }
    if (nowait) {
        struct iovec iov = {job->buf, bytes};
        if (s->fs->preadv(s->fs->ctx, first->seg->fd, &iov, 1, first->off, true) != (ssize_t)bytes)
            return false;
    } else if (jrn_fs_read(s->fs, first->seg->fd, job->buf, bytes, first->off) != (ssize_t)bytes) {
        err = MQG_IO;
    }
    for (uint32_t k = i; k < i + n; k++)
        load_give(s, job, &job->items[k], job->buf + (job->items[k].off - first->off), err);
    return true;
}

static void load_work(struct mqg_store *s, struct load_job *job, bool nowait)
{
    for (uint32_t i = 0, n; i < job->n; i += n) {
        size_t bytes;
        n = 1;
        if (job->items[i].done)
            continue;
        n = load_run(job, i, &bytes);
        if (!load_read(s, job, i, n, bytes, nowait))
            return; /* the disk is behind: the readers take it from here */
    }
}

/* ---- jobs ---------------------------------------------------------------------------------------------- */

void jrn_seg_unpin(struct mqg_store *s, struct jrn_seg *seg)
{
    bool dead = atomic_load(&seg->live) == 0; /* before: without the pin the keeper may free it */
    if (atomic_fetch_sub(&seg->pins, 1) == 1 && dead)
        jrn_keeper_wake(s);
}

/* Answers and ends the job. The caller's request may be gone after its done. */
static void load_finish(struct mqg_store *s, struct load_job *job)
{
    for (uint32_t i = 0; i < job->n; i++)
        jrn_seg_unpin(s, job->items[i].seg);
    mqg_count(MQG_COUNT_STORE_LOADS, job->n);
    struct mqg_load_req *load = job->load;
    struct mqg_stream_read *stream = job->stream;
    if (stream && stream->err != MQG_OK)
        mqg_buf_unref(&job->data);
    if (stream)
        stream->data = job->data;
    free(job->items);
    free(job->at);
    free(job->buf);
    free(job);
    if (load)
        load->done(load);
    else
        stream->done(stream);
}

static void load_hand(struct jrn_readers *r, struct load_job *job)
{
    pthread_mutex_lock(&r->lock);
    job->next = NULL;
    *r->last = job;
    r->last = &job->next;
    pthread_cond_signal(&r->some);
    pthread_mutex_unlock(&r->lock);
}

static void load_start(struct mqg_store *s, struct load_job *job)
{
    struct jrn_readers *r = s->readers;
    qsort(job->items, job->n, sizeof *job->items, load_order);
    load_work(s, job, true);
    if (job->left == 0 || r->running == 0) {
        load_work(s, job, false);
        load_finish(s, job);
        return;
    }
    load_hand(r, job);
}

void jrn_readers_run(struct mqg_store *s, void (*run)(struct mqg_store *s, void *arg), void *arg)
{
    if (s->readers->running == 0) {
        run(s, arg);
        return;
    }
    struct load_job *job = mqg_xcalloc(1, sizeof *job);
    job->run = run;
    job->arg = arg;
    load_hand(s->readers, job);
}

void jrn_load(struct mqg_store *s, struct mqg_load_req *req)
{
    struct load_job *job = mqg_xcalloc(1, sizeof *job);
    job->load = req;
    job->items = mqg_xcalloc(req->n ? req->n : 1, sizeof *job->items);
    for (uint32_t i = 0; i < req->n; i++) {
        struct mqg_load *load = &req->items[i];
        uint64_t place = atomic_load_explicit(&load->extent->place, memory_order_acquire);
        load->msg = NULL;
        load->err = MQG_AGAIN; /* not durable: still the host's, in memory */
        if (place == MQG_PLACE_NONE)
            continue;
        uint64_t at = place + load->off;
        struct jrn_seg *seg = jrn_moved_pin(load->extent->owner, &at);
        load->err = MQG_CORRUPT; /* evacuated without it */
        if (!seg)
            continue;
        job->items[job->n++] = (struct load_item){at - JRN_REC_HEAD, JRN_REC_HEAD + load->len, i, seg, false};
    }
    job->left = job->n;
    load_start(s, job);
}

/* ---- streams ------------------------------------------------------------------------------------------- */

/* One batch, straight to where it belongs, if it is in memory and checks. */
static bool load_row(struct mqg_store *s, const struct jrn_batch_ref *ref, uint8_t *to)
{
    uint8_t head[JRN_REC_HEAD + JRN_BATCH_HEAD];
    struct iovec iov[2] = {{head, sizeof head}, {to, ref->len}};
    ssize_t bytes = (ssize_t)(sizeof head + ref->len);
    if (s->fs->preadv(s->fs->ctx, ref->seg->fd, iov, 2, ref->off - JRN_REC_HEAD, true) != bytes)
        return false;
    return head[8] == JRN_REC_BATCH && mqg_le32(head + 12) == JRN_BATCH_HEAD + ref->len &&
           mqg_le32(head) ==
               jrn_crc32c(jrn_crc32c(mqg_le32(head + 4), head + 4, sizeof head - 4), to, ref->len);
}

/* Answers on the spot. false: the disk has to be asked, or something is wrong with it. */
static bool load_rows(struct mqg_store *s, struct mqg_stream_read *r, const struct jrn_batch_ref *refs,
                      size_t n, size_t bytes)
{
    r->next_offset = jrn_batch_end(&refs[n - 1]);
    if (jrn_part_share(s, r, PART_ROWS, r->high_watermark))
        return true;
    struct mqg_buf *data = mqg_buf_new(bytes);
    bool good = data != NULL;
    size_t at = 0;
    for (size_t i = 0; i < n && good; i++) {
        good = load_row(s, &refs[i], data->data + at);
        at += refs[i].len;
    }
    if (!good) {
        mqg_buf_unref(&data);
        return false;
    }
    r->data = data;
    mqg_count(MQG_COUNT_STORE_LOADS, n);
    jrn_part_keep(s, r, PART_ROWS, r->next_offset < r->high_watermark ? 0 : r->high_watermark);
    return true;
}

static struct load_job *load_job_of(struct mqg_stream_read *r, const struct jrn_batch_ref *refs, size_t n,
                                    size_t bytes)
{
    struct load_job *job = mqg_xcalloc(1, sizeof *job);
    size_t at = 0;
    job->stream = r;
    job->items = mqg_xcalloc(n, sizeof *job->items);
    job->at = mqg_xcalloc(n, sizeof *job->at);
    for (size_t i = 0; i < n; i++) {
        job->at[i] = (uint32_t)at;
        at += refs[i].len;
        job->items[i] = (struct load_item){refs[i].off - JRN_REC_HEAD,
                                           JRN_REC_HEAD + JRN_BATCH_HEAD + refs[i].len, (uint32_t)i,
                                           refs[i].seg, false};
    }
    job->n = job->left = (uint32_t)n;
    job->data = mqg_buf_new(bytes);
    return job;
}

void jrn_stream_read(struct mqg_store *s, struct mqg_stream_read *r)
{
    struct jrn_batch_ref refs[LOAD_PICK];
    size_t n = 0, bytes = 0;
    if (jrn_part_read(s, r))
        return;
    r->data = NULL;
    r->next_offset = r->offset;
    while ((r->err = jrn_streams_pick(s, r, refs, LOAD_PICK, &n)) == MQG_MORE) /* filed in between */
        if (jrn_part_read(s, r))
            return;
    if (r->err != MQG_OK || n == 0) {
        r->done(r);
        return;
    }
    for (size_t i = 0; i < n; i++)
        bytes += refs[i].len;
    if (bytes / n >= STREAM_LARGE && load_rows(s, r, refs, n, bytes)) {
        for (size_t i = 0; i < n; i++)
            jrn_seg_unpin(s, refs[i].seg);
        r->done(r);
        return;
    }
    r->next_offset = jrn_batch_end(&refs[n - 1]);
    struct load_job *job = load_job_of(r, refs, n, bytes);
    if (job->data) {
        load_start(s, job);
        return;
    }
    r->err = MQG_NO_MEMORY;
    load_finish(s, job);
}

/* ---- the pool ------------------------------------------------------------------------------------------ */

static struct load_job *readers_take(struct jrn_readers *r)
{
    pthread_mutex_lock(&r->lock);
    while (!r->first && !r->stop)
        pthread_cond_wait(&r->some, &r->lock);
    struct load_job *job = r->first;
    if (job && !(r->first = job->next))
        r->last = &r->first;
    pthread_mutex_unlock(&r->lock);
    return job;
}

/* Ends when told to and nothing waits: every request is answered. */
static void *readers_run(void *arg)
{
    struct jrn_readers *r = arg;
    struct load_job *job;
    pthread_setname_np(pthread_self(), "journal-reader");
    while ((job = readers_take(r)) != NULL) {
        if (job->run) {
            job->run(r->s, job->arg);
            free(job);
            continue;
        }
        load_work(r->s, job, false);
        load_finish(r->s, job);
    }
    return NULL;
}

struct jrn_readers *jrn_readers_new(struct mqg_store *s)
{
    struct jrn_readers *r = mqg_xcalloc(1, sizeof *r);
    r->s = s;
    r->last = &r->first;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->some, NULL);
    return r;
}

int jrn_readers_start(struct jrn_readers *r)
{
    for (int i = 0; i < LOAD_READERS; i++) {
        int err = pthread_create(&r->threads[i], NULL, readers_run, r);
        if (err)
            return -err;
        r->running++;
    }
    return 0;
}

void jrn_readers_stop(struct jrn_readers *r)
{
    pthread_mutex_lock(&r->lock);
    r->stop = true;
    pthread_cond_broadcast(&r->some);
    pthread_mutex_unlock(&r->lock);
    for (; r->running > 0; r->running--)
        pthread_join(r->threads[r->running - 1], NULL);
}

void jrn_readers_free(struct jrn_readers **readers)
{
    struct jrn_readers *r = *readers;
    if (!r)
        return;
    pthread_cond_destroy(&r->some);
    pthread_mutex_destroy(&r->lock);
    free(r);
    *readers = NULL;
}
