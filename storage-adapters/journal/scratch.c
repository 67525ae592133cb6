/* scratch.c - transient messages put aside while memory is short, in files that nobody can find again.
 *
 *   put -> queue -> scratch thread: one pwritev per request -> extent {place, live} -> done
 *   load -> load.c, as any message: the files look to it like segments, the records like MSG records
 *
 * A file is opened under a fixed name and unlinked at once: its bytes are gone with the process, whatever way it ends, and there
 * is nothing to clean up. It is filled from its begin; when the last message in it is gone it is closed,
 * which gives the space back. Nothing is synced. A full disk, an error, or publishers being blocked for want of
 * disk: the messages are not taken, and stay where they are, in memory.
 *
 * Each record has the checksum of the journal's own, so what comes back is what was put, or an error. */
#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>

enum { SCRATCH_FILE_BYTES = 32 << 20, SCRATCH_ITEMS = IOV_MAX / 2 };

struct scratch_file {
    struct jrn_seg seg; /* what load.c needs of it: fd, name, live, pins */
    struct scratch_file *next;
    uint64_t end;
};

struct jrn_scratch {
    struct mqg_store *s;
    pthread_t thread;
    bool running;
    pthread_mutex_t lock;
    pthread_cond_t some;
    /* under the lock */
    struct mqg_scratch_req *first, **last;
    bool stop, swept; /* swept: no file has died since the last look */
    /* the thread's; the first is the current one */
    struct scratch_file *files;
    uint64_t next_seq;
    uint8_t *heads;
    struct iovec *iov;
    _Atomic uint64_t bytes;
};

/* ---- extents ------------------------------------------------------------------------------------------- */

static void scratch_extent_dead(struct mqg_store *s, struct mqg_extent *x)
{
    struct jrn_seg *seg = x->owner;
    struct jrn_scratch *all = s->scratch;
    free(x);
    if (atomic_fetch_sub(&seg->live, 1) > 1)
        return;
    pthread_mutex_lock(&all->lock);
    all->swept = false;
    pthread_cond_signal(&all->some);
    pthread_mutex_unlock(&all->lock);
}

/* Only what an extent needs. */
static const struct mqg_store_ops scratch_ops = {.type = "scratch", .extent_dead = scratch_extent_dead};

static struct mqg_extent *scratch_extent_new(struct mqg_store *s, struct scratch_file *f)
{
    struct mqg_extent *x = mqg_xcalloc(1, sizeof *x);
    x->ops = &scratch_ops;
    x->store = s;
    x->owner = &f->seg;
    atomic_init(&x->place, f->end);
    atomic_init(&x->live, 0);
    atomic_fetch_add(&f->seg.live, 1);
    return x;
}

/* ---- files --------------------------------------------------------------------------------------------- */

static void scratch_file_close(struct jrn_scratch *x, struct scratch_file *f)
{
    x->s->fs->close(x->s->fs->ctx, f->seg.fd);
    atomic_fetch_sub(&x->bytes, f->end);
    free(f);
}

static struct scratch_file *scratch_file_open(struct jrn_scratch *x)
{
    char path[4096];
    jrn_path(x->s, "scratch", path);
    int fd = x->s->fs->open(x->s->fs->ctx, path, O_RDWR | O_CREAT | O_TRUNC);
    if (fd < 0)
        return NULL;
    x->s->fs->unlink(x->s->fs->ctx, path);
    struct scratch_file *f = mqg_xcalloc(1, sizeof *f);
    f->seg.fd = fd;
    f->seg.seq = UINT64_MAX - x->next_seq++; /* a load sorts by it */
    memcpy(f->seg.name, "scratch", sizeof "scratch");
    f->next = x->files;
    x->files = f;
    return f;
}

static bool scratch_file_dead(const struct scratch_file *f)
{
    return atomic_load(&f->seg.live) == 0 && atomic_load(&f->seg.pins) == 0;
}

/* Closes what nobody needs. A file that is still being read is looked at again with the next one that dies. */
static void scratch_sweep(struct jrn_scratch *x)
{
    struct scratch_file **at = &x->files;
    while (*at) {
        struct scratch_file *f = *at;
        if (!scratch_file_dead(f)) {
            at = &f->next;
            continue;
        }
        *at = f->next;
        scratch_file_close(x, f);
    }
}

/* The file that the next n bytes go to; NULL when there is none to be had. */
static struct scratch_file *scratch_file_for(struct jrn_scratch *x, uint64_t n)
{
    struct scratch_file *f = x->files;
    if (f && (f->end == 0 || f->end + n <= SCRATCH_FILE_BYTES))
        return f;
    scratch_sweep(x);
    return scratch_file_open(x);
}

/* ---- writing ------------------------------------------------------------------------------------------- */

static void scratch_head(uint8_t head[JRN_REC_HEAD], const struct mqg_msg *m, uint32_t salt)
{
    struct mqg_slice stored = mqg_msg_stored(m);
    memset(head, 0, JRN_REC_HEAD);
    mqg_put_le32(head + 4, salt);
    head[8] = JRN_REC_MSG;
    mqg_put_le32(head + 12, (uint32_t)stored.len);
    uint32_t crc = jrn_crc32c(salt, head + 4, JRN_REC_HEAD - 4);
    mqg_put_le32(head, jrn_crc32c(crc, stored.ptr, stored.len));
}

/* How many items from i on go into one write, and their bytes: as many as fit a file, at least one. */
static uint32_t scratch_run(const struct mqg_scratch_req *req, uint32_t i, uint64_t *bytes)
{
    uint32_t n = 0;
    *bytes = 0;
    for (; i + n < req->n && n < SCRATCH_ITEMS; n++) {
        uint64_t one = JRN_REC_HEAD + req->items[i + n].msg->total_len;
        if (n > 0 && *bytes + one > SCRATCH_FILE_BYTES)
            break;
        *bytes += one;
    }
    return n;
}

static bool scratch_write(struct jrn_scratch *x, struct scratch_file *f, struct mqg_scratch_item *items,
                          uint32_t n)
{
    uint32_t off = 0, salt = atomic_fetch_add(&x->s->salt, 1);
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *head = x->heads + (size_t)i * JRN_REC_HEAD;
        struct mqg_slice stored = mqg_msg_stored(items[i].msg);
        scratch_head(head, items[i].msg, salt);
        x->iov[2 * i] = (struct iovec){head, JRN_REC_HEAD};
        x->iov[2 * i + 1] = (struct iovec){(void *)(uintptr_t)stored.ptr, stored.len};
        items[i].off = off + JRN_REC_HEAD;
        off += JRN_REC_HEAD + (uint32_t)stored.len;
    }
    return jrn_fs_write(x->s->fs, f->seg.fd, x->iov, (int)(2 * n), f->end) == 0;
}

/* False: not taken, and the rest need not be tried. */
static bool scratch_put_run(struct jrn_scratch *x, struct mqg_scratch_item *items, uint32_t n, uint64_t bytes)
{
    struct scratch_file *f = scratch_file_for(x, bytes);
    if (!f || !scratch_write(x, f, items, n))
        return false;
    struct mqg_extent *extent = scratch_extent_new(x->s, f);
    mqg_extent_take(extent, n);
    for (uint32_t i = 0; i < n; i++)
        items[i].extent = extent;
    f->end += bytes;
    atomic_fetch_add(&x->bytes, bytes);
    return true;
}

static void scratch_answer(struct jrn_scratch *x, struct mqg_scratch_req *req, bool stopping)
{
    for (uint32_t i = 0; i < req->n; i++)
        req->items[i].extent = NULL;
    bool may = !stopping && !atomic_load(&x->s->blocked) && !atomic_load(&x->s->failed);
    for (uint32_t i = 0, n; may && i < req->n; i += n) {
        uint64_t bytes;
        n = scratch_run(req, i, &bytes);
        may = scratch_put_run(x, req->items + i, n, bytes);
    }
    req->done(req);
}

static void *scratch_thread(void *arg)
{
    struct jrn_scratch *x = arg;
    pthread_setname_np(pthread_self(), "journal-scratch");
    pthread_mutex_lock(&x->lock);
    while (!x->stop || x->first) {
        struct mqg_scratch_req *req = x->first;
        bool sweep = !x->swept, stopping = x->stop;
        if (req && !(x->first = req->next))
            x->last = &x->first;
        x->swept = true;
        if (!req && !sweep) {
            pthread_cond_wait(&x->some, &x->lock);
            continue;
        }
        pthread_mutex_unlock(&x->lock);
        if (sweep)
            scratch_sweep(x);
        if (req)
            scratch_answer(x, req, stopping);
        pthread_mutex_lock(&x->lock);
    }
    pthread_mutex_unlock(&x->lock);
    return NULL;
}

void jrn_scratch_put(struct mqg_store *s, struct mqg_scratch_req *req)
{
    struct jrn_scratch *x = s->scratch;
    pthread_mutex_lock(&x->lock);
    req->next = NULL;
    *x->last = req;
    x->last = &req->next;
    pthread_cond_signal(&x->some);
    pthread_mutex_unlock(&x->lock);
}

/* ---- life ---------------------------------------------------------------------------------------------- */

struct jrn_scratch *jrn_scratch_new(struct mqg_store *s)
{
    struct jrn_scratch *x = mqg_xcalloc(1, sizeof *x);
    x->s = s;
    x->last = &x->first;
    x->swept = true;
    x->heads = mqg_xmalloc((size_t)SCRATCH_ITEMS * JRN_REC_HEAD);
    x->iov = mqg_xmalloc((size_t)SCRATCH_ITEMS * 2 * sizeof *x->iov);
    pthread_mutex_init(&x->lock, NULL);
    pthread_cond_init(&x->some, NULL);
    return x;
}

int jrn_scratch_start(struct jrn_scratch *x)
{
    int err = pthread_create(&x->thread, NULL, scratch_thread, x);
    x->running = err == 0;
    return -err;
}

void jrn_scratch_stop(struct jrn_scratch *x)
{
    pthread_mutex_lock(&x->lock);
    x->stop = true;
    pthread_cond_signal(&x->some);
    pthread_mutex_unlock(&x->lock);
    if (x->running)
        pthread_join(x->thread, NULL);
    x->running = false;
}

void jrn_scratch_free(struct jrn_scratch **scratch)
{
    struct jrn_scratch *x = *scratch;
    if (!x)
        return;
    while (x->files) {
        struct scratch_file *f = x->files;
        x->files = f->next;
        scratch_file_close(x, f);
    }
    pthread_cond_destroy(&x->some);
    pthread_mutex_destroy(&x->lock);
    free(x->heads);
    free(x->iov);
    free(x);
    *scratch = NULL;
}

uint64_t jrn_scratch_bytes(const struct jrn_scratch *x)
{
    return atomic_load(&x->bytes);
}
