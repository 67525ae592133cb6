/* part_put.c - batches go from the journal into the partitions' files.
 *
 * They are read from the journal's file, which the committer has just written (so it is in memory), checked once more, and taken apart
 * to see that they fit each other. Bytes that are no record batches stay in the journal: with them nothing could be found again.
 *
 * Where nobody reads the partition, whole pages go past the page cache: there they would only push out what somebody does read, and
 * pages are dear when the cache has to grow for them. (Measured on a virtual machine that gives free memory back to its host: 2.6 to
 * 3.3 s of system time per GiB through fresh pages, 0.4 s through pages that are there.) The first and the last page of a write, which
 * are not full, go through the cache, so the file is never longer than what is in it. */
#include "part_write.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

enum {
    PUT_ROWS = 64,
    PUT_RUN = 256 << 10,   /* bytes read from the journal in one go */
    PUT_GAP = 4 << 10,     /* between two rows of a run */
    PUT_KEEP = 1 << 20,    /* larger buffers are given back */
    PUT_DIRECT = 32 << 10, /* what is less goes through the page cache */
    PUT_EVEN = 64 << 10,   /* buffers for whole pages grow by it */
    PUT_PAGE = 4096,
};

/* What is being written to one file. */
struct part_put {
    struct stream_part *p;
    struct jrn_batch_ref rows[PUT_ROWS];
    size_t place[PUT_ROWS]; /* of the record in the hand's buffer */
    uint32_t nrow;
    uint64_t filed, segment_bytes;
    bool read; /* somebody reads it: it stays in memory */
    struct part_file *f;
    struct iovec iov[PUT_ROWS];
    int niov;
    uint64_t bytes; /* in iov */
    struct part_batch *batches;
    uint32_t nbatch, cap_batch;
};

/* ---- from the journal ---------------------------------------------------------------------------------------- */

static bool put_take(struct part_writer *w, struct part_put *put)
{
    struct jrn_streams *st = w->s->streams;
    struct stream_part *p = put->p;
    uint64_t bytes = 0;
    put->nrow = 0;
    pthread_mutex_lock(&st->lock);
    put->filed = p->filed;
    put->f = p->nfile ? p->files[p->nfile - 1] : NULL;
    put->read = jrn_stream_is_read(p, mqg_clock_mono_us());
    put->segment_bytes = p->conf.segment_bytes ? p->conf.segment_bytes : PART_SEGMENT_DEFAULT;
    uint32_t i = p->gone || p->opaque ? UINT32_MAX : jrn_stream_row(p, p->filed);
    for (; i < p->whole && put->nrow < PUT_ROWS && bytes < PUT_RUN; i++) {
        bytes += p->at[i].len;
        atomic_fetch_add(&p->at[i].seg->pins, 1);
        put->rows[put->nrow++] = p->at[i];
    }
    pthread_mutex_unlock(&st->lock);
    return put->nrow > 0;
}

static uint64_t put_row_end(const struct jrn_batch_ref *row)
{
    return (uint64_t)row->off + JRN_BATCH_HEAD + row->len;
}

/* How many rows from i on are read in one go, and the bytes that takes. */
static uint32_t put_run(const struct part_put *put, uint32_t i, size_t *bytes)
{
    const struct jrn_batch_ref *first = &put->rows[i];
    uint64_t end = put_row_end(first);
    uint32_t n = 1;
    for (; i + n < put->nrow; n++) {
        const struct jrn_batch_ref *row = &put->rows[i + n];
        if (row->seg != first->seg || row->off < end || row->off - end > PUT_GAP ||
            put_row_end(row) - first->off > PUT_RUN)
            break;
        end = put_row_end(row);
    }
    *bytes = (size_t)(end - first->off) + JRN_REC_HEAD;
    return n;
}

/* What is in it stays. */
static void put_room(uint8_t **buf, size_t *cap, size_t bytes)
{
    if (bytes <= *cap)
        return;
    *buf = mqg_xrealloc(*buf, bytes);
    *cap = bytes;
}

static int put_read(struct part_hand *hand, struct part_put *put)
{
    struct mqg_store *s = hand->w->s;
    size_t used = 0, bytes;
    for (uint32_t i = 0, n; i < put->nrow; i += n) {
        const struct jrn_batch_ref *first = &put->rows[i];
        n = put_run(put, i, &bytes);
        put_room(&hand->buf, &hand->cap, used + bytes);
        uint64_t from = (uint64_t)first->off - JRN_REC_HEAD;
        ssize_t got = jrn_fs_read(s->fs, first->seg->fd, hand->buf + used, bytes, from);
        if (got != (ssize_t)bytes)
            return got < 0 ? (int)got : -EIO;
        for (uint32_t k = i; k < i + n; k++)
            put->place[k] = used + (size_t)(put->rows[k].off - first->off);
        used += bytes;
    }
    return 0;
}

/* The record against its own sum. */
static bool put_checks(const uint8_t *p, uint32_t len)
{
    return p[8] == JRN_REC_BATCH && mqg_le32(p + 12) == len - JRN_REC_HEAD &&
           mqg_le32(p) == jrn_crc32c(mqg_le32(p + 4), p + 4, len - 4);
}

/* ---- into the file ------------------------------------------------------------------------------------------- */

/* What was collected, with the bytes that belong to a place in the file at such a place in memory. */
static const uint8_t *put_even(struct part_hand *hand, const struct part_put *put)
{
    size_t lead = put->f->bytes % PUT_PAGE, need = lead + put->bytes;
    if (hand->even_cap < need) {
        free(hand->even);
        hand->even_cap = (need + PUT_EVEN - 1) / PUT_EVEN * PUT_EVEN;
        hand->even = aligned_alloc(PUT_PAGE, hand->even_cap);
        MQG_ASSERT(hand->even);
    }
    uint8_t *at = hand->even + lead;
    for (int i = 0; i < put->niov; i++) {
        memcpy(at, put->iov[i].iov_base, put->iov[i].iov_len);
        at += put->iov[i].iov_len;
    }
    return hand->even + lead;
}

static int put_bytes(struct mqg_store *s, int fd, const uint8_t *p, size_t n, uint64_t off)
{
    struct iovec iov = {(void *)(uintptr_t)p, n};
    return n > 0 ? jrn_fs_write(s->fs, fd, &iov, 1, off) : 0;
}

/* Whole pages past the page cache; how many bytes of them were written. What was not goes the usual way, and tells why then. */
static size_t put_pages(struct part_hand *hand, const struct part_file *f, const uint8_t *p, size_t n,
                        uint64_t off)
{
    struct mqg_store *s = hand->w->s;
    char name[PART_NAME], path[4096];
    jrn_part_name(f, "log", "", name);
    jrn_path(s, name, path);
    int fd = s->fs->open(s->fs->ctx, path, O_RDWR | O_DIRECT);
    ssize_t got = fd;
    if (fd >= 0) {
        struct iovec iov = {(void *)(uintptr_t)p, n};
        got = s->fs->pwritev(s->fs->ctx, fd, &iov, 1, off);
        s->fs->close(s->fs->ctx, fd);
    }
    if (got == -EINVAL || got == -EOPNOTSUPP)
        atomic_store(&hand->w->no_direct, true);
    return got > 0 ? (size_t)got / PUT_PAGE * PUT_PAGE : 0;
}

static int put_direct(struct part_hand *hand, const struct part_put *put, int fd)
{
    struct mqg_store *s = hand->w->s;
    const struct part_file *f = put->f;
    const uint8_t *p = put_even(hand, put);
    size_t first = (PUT_PAGE - f->bytes % PUT_PAGE) % PUT_PAGE,
           whole = (put->bytes - first) / PUT_PAGE * PUT_PAGE;
    int r = put_bytes(s, fd, p, first, f->bytes);
    if (r < 0)
        return r;
    size_t done = first + put_pages(hand, f, p + first, whole, f->bytes + first);
    return put_bytes(s, fd, p + done, put->bytes - done, f->bytes + done);
}

static int put_data(struct part_hand *hand, struct part_put *put, int fd)
{
    if (put->read || put->bytes < PUT_DIRECT ||
        atomic_load_explicit(&hand->w->no_direct, memory_order_relaxed))
        return jrn_fs_write(hand->w->s->fs, fd, put->iov, put->niov, put->f->bytes);
    return put_direct(hand, put, fd);
}

/* Writes what was collected. */
static int put_write(struct part_hand *hand, struct part_put *put)
{
    struct part_writer *w = hand->w;
    struct mqg_store *s = w->s;
    struct part_file *f = put->f;
    if (put->niov == 0)
        return 0;
    int fd = jrn_part_file_open(s, f, O_RDWR);
    if (fd < 0)
        return jrn_write_file_failed(w, "open", f, fd);
    int r = put_data(hand, put, fd);
    uint64_t pos = f->bytes, interval = jrn_part_interval(put->segment_bytes), time_ms = 0;
    for (uint32_t i = 0; i < put->nbatch && r == 0; i++) {
        const struct part_batch *b = &put->batches[i];
        jrn_part_index_add(s, f, b, pos, interval);
        pos += b->len;
        time_ms = b->max_time_ms > time_ms ? b->max_time_ms : time_ms;
    }
    jrn_part_file_unpin(s, f);
    if (r < 0)
        return jrn_write_file_failed(w, "write", f, r);
    atomic_store(&w->pausing, false);
    pthread_mutex_lock(&s->streams->lock);
    struct stream_part *p = put->p;
    f->bytes = pos;
    f->end = p->filed = put->batches[put->nbatch - 1].end;
    f->max_time_ms = time_ms > f->max_time_ms ? time_ms : f->max_time_ms;
    jrn_write_is_dirty(w, p);
    pthread_mutex_unlock(&s->streams->lock);
    put->filed = f->end;
    put->niov = 0;
    put->nbatch = 0;
    put->bytes = 0;
    return 0;
}

static void put_batch(struct part_put *put, const struct part_batch *b)
{
    *STREAM_PUSH(put, batches, nbatch, cap_batch) = *b;
}

/* Do the bytes hold the batches that the row says, and nothing else? Collects those that are not filed yet; *skip: bytes of
 * those that are. */
static bool put_split(struct part_put *put, const struct jrn_batch_ref *row, struct mqg_slice in,
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
            put_batch(put, &b);
    }
    if (next == jrn_batch_end(row))
        return true;
    put->nbatch = had;
    return false;
}

static void put_is_opaque(struct part_writer *w, struct stream_part *p, const struct jrn_batch_ref *row)
{
    pthread_mutex_lock(&w->s->streams->lock);
    p->opaque = true;
    pthread_mutex_unlock(&w->s->streams->lock);
    mqg_log(MQG_LOG_WARN, MQG_EVENT_STORE, "store=%s what=no_record_batch partition=%llu offset=%llu",
            w->s->section, (unsigned long long)p->id, (unsigned long long)row->base_offset);
}

static bool put_rolls(const struct part_put *put, uint64_t base, uint64_t len)
{
    const struct part_file *f = put->f;
    return !f || base > f->end || (f->bytes > 0 && f->bytes + len > put->segment_bytes);
}

/* A row's bytes join what is to be written; first a new file, when it is time for one. */
static int put_row(struct part_hand *hand, struct part_put *put, uint32_t i)
{
    struct part_writer *w = hand->w;
    const struct jrn_batch_ref *row = &put->rows[i];
    const uint8_t *rec = hand->buf + put->place[i];
    struct stream_part *p = put->p;
    size_t skip;
    if (!put_checks(rec, JRN_REC_HEAD + JRN_BATCH_HEAD + row->len)) {
        mqg_log(MQG_LOG_ERROR, MQG_EVENT_CORRUPTION, "store=%s file=%s at=%u what=\"a batch does not check\"",
                w->s->section, row->seg->name, row->off);
        put_is_opaque(w, p, row);
        return -EINVAL;
    }
    if (put->f && put->bytes > 0 && put->f->bytes + put->bytes + row->len > put->segment_bytes) {
        int r = put_write(hand, put);
        if (r < 0)
            return r;
    }
    struct mqg_slice in = mqg_slice_of(rec + JRN_REC_HEAD + JRN_BATCH_HEAD, row->len);
    uint32_t had = put->nbatch;
    if (!put_split(put, row, in, &skip)) {
        put_is_opaque(w, p, row);
        return -EINVAL;
    }
    if (put->nbatch == had)
        return 0;
    if (put->bytes == 0 && put_rolls(put, put->batches[0].base, row->len - skip)) {
        int r = jrn_write_roll(w, p, put->batches[0].base);
        if (r < 0)
            return r;
        pthread_mutex_lock(&w->s->streams->lock);
        put->f = p->files[p->nfile - 1];
        pthread_mutex_unlock(&w->s->streams->lock);
    }
    put->iov[put->niov++] = (struct iovec){(void *)(uintptr_t)(in.ptr + skip), in.len - skip};
    put->bytes += in.len - skip;
    return 0;
}

/* One large batch is no reason to keep so much. */
static void put_keep(uint8_t **buf, size_t *cap)
{
    if (*cap <= PUT_KEEP)
        return;
    free(*buf);
    *buf = NULL;
    *cap = 0;
}

bool jrn_part_put(struct part_hand *hand, struct stream_part *p)
{
    struct part_writer *w = hand->w;
    struct part_put put = {.p = p};
    if (!put_take(w, &put))
        return false;
    int r = put_read(hand, &put);
    if (r < 0)
        r = jrn_write_failed(w, "reading the journal", put.rows[0].seg->name, r);
    for (uint32_t i = 0; i < put.nrow && r == 0; i++)
        r = put_row(hand, &put, i);
    if (r == 0 || r == -EINVAL) {
        int put_r = put_write(hand, &put);
        r = put_r < 0 ? put_r : r;
    }
    for (uint32_t i = 0; i < put.nrow; i++)
        jrn_seg_unpin(w->s, put.rows[i].seg);
    free(put.batches);
    put_keep(&hand->buf, &hand->cap);
    put_keep(&hand->even, &hand->even_cap);
    return r == 0;
}

void jrn_part_hand_fini(struct part_hand *hand)
{
    free(hand->buf);
    free(hand->even);
}
