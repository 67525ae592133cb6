/* segment.c - segment files: made, used, used again, removed.
 *
 * A file is zero-written once, so that its blocks are real and an fdatasync of a frame never has to write the
 * file system's own books (measured: 127 us instead of 288); after that it is used again and again. Before a
 * file may be used it has its name, its header and the folder on disk: then nothing that a confirm depends on
 * can be lost with a folder entry. A file that must be there at once (no spare in time) is only allocated:
 * slower, not less safe. Such a makeshift file is left when the keeper has a proper one before a quarter of it is used. One that was
 * filled for the most part is as good as another then: its rest gets its zeros, and it is used again.
 *
 * Nothing here is done in one large step, for the commits share the disk and the file system's own journal with it. Measured beside
 * 4 KiB writes with fdatasync (ext4, discard; p99 0.6 to 2.3 ms alone): zeros in synced steps of 1 MiB, one after the other, make their
 * p99 3.4 to 9.2 ms; steps of 512 KiB with a rest of 4 ms 0.7 to 4.6 ms; of 128 KiB with half a millisecond, which takes as long, 1.3 to
 * 8.3 ms. A file of 64 MiB that is closed for good takes 20 ms, and holds up a commit for 12 to 17 ms of them; cut by 4 MiB at a time none
 * waits longer than without it.
 *
 * Names (NNNNNNNN.seg) mean nothing: which file is which part of the log is in headers and frames. */
#include "index.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

void jrn_path(const struct mqg_store *s, const char *name, char out[4096])
{
    int n = snprintf(out, 4096, "%s/%s", s->path, name);
    MQG_ASSERT(n > 0 && n < 4096);
}

struct jrn_seg *jrn_seg_new(void)
{
    struct jrn_seg *seg = mqg_xcalloc(1, sizeof *seg);
    seg->fd = -1;
    seg->end = JRN_HEADER_BYTES;
    seg->whole.owner = seg;
    seg->whole.ops = &jrn_ops;
    atomic_init(&seg->state, JRN_SPARE);
    return seg;
}

void jrn_seg_free(struct mqg_store *s, struct jrn_seg **seg)
{
    if (!*seg)
        return;
    if ((*seg)->fd >= 0)
        s->fs->close(s->fs->ctx, (*seg)->fd);
    jrn_spans_fini(&(*seg)->msgs);
    jrn_spans_fini(&(*seg)->facts);
    jrn_index_free(s, *seg);
    free(*seg);
    *seg = NULL;
}

/* Its name is gone: gives the blocks back in steps. First the folder is synced, or a power cut might bring the name back, and what
 * stands there now would be a file that somebody cut. */
static void segment_shrink(struct mqg_store *s, const struct jrn_seg *seg)
{
    enum { STEP = 4 << 20 };
    if (seg->fd < 0 || seg->bytes <= STEP || !atomic_load(&s->started) ||
        s->fs->fsync_dir(s->fs->ctx, s->path) < 0)
        return;
    int r = 0;
    for (uint64_t left = seg->bytes; left > STEP && r == 0 && !atomic_load(&s->stopping);) {
        left -= STEP;
        r = s->fs->ftruncate(s->fs->ctx, seg->fd, left);
        if (r == 0)
            r = jrn_fs_sync(s->fs, seg->fd);
    }
}

void jrn_seg_unlink(struct mqg_store *s, struct jrn_seg **seg)
{
    char path[4096];
    jrn_index_drop(s, *seg);
    jrn_path(s, (*seg)->name, path);
    int r = s->fs->unlink(s->fs->ctx, path);
    if (r < 0 && r != -ENOENT)
        mqg_log(MQG_LOG_WARN, MQG_EVENT_STORE, "store=%s what=unlink file=%s error=%s", s->section,
                (*seg)->name, mqg_logqs(jrn_errno(r)));
    if (r == 0)
        segment_shrink(s, *seg);
    pthread_mutex_lock(&s->seg_lock);
    s->disk_bytes -= (*seg)->bytes;
    pthread_mutex_unlock(&s->seg_lock);
    jrn_seg_free(s, seg);
}

static int segment_head(struct mqg_store *s, struct jrn_seg *seg)
{
    uint8_t head[JRN_SEG_HEAD];
    struct jrn_seg_head h = {.use = seg->use,
                             .bytes = seg->bytes,
                             .made_us = mqg_clock_now().wall_us,
                             .flags = (seg->oversized ? JRN_SEG_OVERSIZED : 0u) |
                                      (seg->makeshift ? JRN_SEG_MAKESHIFT : 0u)};
    jrn_seg_head_encode(head, &h);
    seg->version = JRN_VERSION;
    struct iovec iov = {head, sizeof head};
    return jrn_fs_write(s->fs, seg->fd, &iov, 1, 0);
}

int jrn_seg_renew(struct mqg_store *s, struct jrn_seg *seg)
{
    jrn_index_drop(s, seg);
    seg->use.nonce = mqg_random_u64();
    seg->seq = seg->first_number = seg->last_number = 0;
    seg->end = JRN_HEADER_BYTES;
    seg->keyed = seg->trims = seg->adopted = seg->promised = false;
    seg->promised_end = 0;
    seg->left_us = seg->again_us = seg->kept_us = seg->dead_us = seg->looked_us = 0;
    seg->batch_bytes = seg->live_bytes = seg->live_messages = 0;
    jrn_spans_fini(&seg->msgs);
    jrn_spans_fini(&seg->facts);
    atomic_store(&seg->state, JRN_SPARE);
    int r = segment_head(s, seg);
    return r < 0 ? r : jrn_fs_sync(s->fs, seg->fd);
}

/* Is the committer further on in its segment than we are in the next one, or does it wait? */
static bool segment_is_late(struct mqg_store *s, const struct jrn_seg *seg, uint64_t at)
{
    pthread_mutex_lock(&s->seg_lock);
    const struct jrn_seg *tail = s->segs_last;
    bool late = !tail ||
                atomic_load(&tail->end) / 1024 * (seg->bytes / 1024) > at / 1024 * (tail->bytes / 1024);
    pthread_mutex_unlock(&s->seg_lock);
    return late || atomic_load(&s->blocked) || atomic_load(&s->stopping);
}

/* In synced steps, small ones with a rest in between while there is time. Written in small pieces: the page cache keeps a file
 * in folios as large as the writes that brought it there, and each later write into a folio pays for all of its blocks (measured
 * with 512 bytes and fdatasync: 43 us CPU over pieces of 64 KiB, 53 us over those of 1 MiB). */
static int segment_zero(struct mqg_store *s, struct jrn_seg *seg, uint64_t from)
{
    enum { PIECE = 64 << 10, STEP = 512 << 10, STEP_LATE = 1 << 20, REST_NS = 4 * 1000 * 1000 };
    uint8_t *zeros = mqg_xcalloc(1, PIECE);
    int r = 0;
    uint64_t synced = from;
    for (uint64_t at = from; at < seg->bytes && r == 0;) {
        struct iovec iov = {zeros, seg->bytes - at < PIECE ? (size_t)(seg->bytes - at) : PIECE};
        uint64_t next = at + iov.iov_len;
        r = jrn_fs_write(s->fs, seg->fd, &iov, 1, at);
        at = next;
        bool late = segment_is_late(s, seg, at);
        if (r < 0 || (at < seg->bytes && at - synced < (late ? STEP_LATE : STEP)))
            continue;
        r = jrn_fs_sync(s->fs, seg->fd);
        synced = at;
        if (!late)
            nanosleep(&(struct timespec){0, REST_NS}, NULL);
    }
    free(zeros);
    return r;
}

int jrn_seg_finish(struct mqg_store *s, struct jrn_seg *seg)
{
    int r = segment_zero(s, seg, atomic_load(&seg->end));
    seg->makeshift = seg->makeshift && r < 0;
    return r;
}

static int segment_fill(struct mqg_store *s, struct jrn_seg *seg, bool zero)
{
    int r = s->fs->fallocate(s->fs->ctx, seg->fd, seg->bytes);
    if (r == -EOPNOTSUPP) {
        r = 0;
        zero = true;
        seg->makeshift = false;
    }
    if (r == 0 && zero)
        r = segment_zero(s, seg, 0);
    else if (r == 0)
        r = jrn_fs_sync(s->fs, seg->fd); /* a header in a file that is too short is damage, always */
    if (r == 0)
        r = jrn_seg_renew(s, seg);
    return r < 0 ? r : s->fs->fsync_dir(s->fs->ctx, s->path);
}

int jrn_seg_create(struct mqg_store *s, uint64_t bytes, bool oversized, bool zero, struct jrn_seg **out)
{
    char path[4096];
    struct jrn_seg *seg = jrn_seg_new();
    pthread_mutex_lock(&s->seg_lock);
    snprintf(seg->name, sizeof seg->name, "%08llu.seg", (unsigned long long)s->next_file++);
    s->disk_bytes += bytes;
    pthread_mutex_unlock(&s->seg_lock);
    seg->bytes = bytes;
    seg->oversized = oversized;
    seg->makeshift = !zero && !oversized;
    memcpy(seg->use.uuid, s->uuid, 16);
    jrn_path(s, seg->name, path);
    int r = s->fs->open(s->fs->ctx, path, O_RDWR | O_CREAT | O_EXCL);
    if (r >= 0) {
        seg->fd = r;
        r = segment_fill(s, seg, zero);
    }
    if (r < 0) {
        jrn_seg_unlink(s, &seg);
        return r;
    }
    *out = seg;
    return 0;
}

void jrn_seg_append(struct mqg_store *s, struct jrn_seg *seg)
{
    seg->whole.store = s;
    pthread_mutex_lock(&s->seg_lock);
    seg->next = NULL;
    if (s->segs_last)
        s->segs_last->next = seg;
    else
        s->segs = seg;
    s->segs_last = seg;
    s->nseg++;
    pthread_mutex_unlock(&s->seg_lock);
}

void jrn_seg_remove(struct mqg_store *s, struct jrn_seg *seg)
{
    pthread_mutex_lock(&s->seg_lock);
    struct jrn_seg **at = &s->segs, *before = NULL;
    while (*at != seg) {
        before = *at;
        at = &before->next;
    }
    *at = seg->next;
    if (s->segs_last == seg)
        s->segs_last = before;
    s->nseg--;
    pthread_mutex_unlock(&s->seg_lock);
}

void jrn_spans_fini(struct jrn_spans *spans)
{
    jrn_map_fini(&spans->at);
    free(spans->list.at);
    spans->list = (struct jrn_span_list){0};
}

const struct jrn_span *jrn_spans_get(const struct jrn_spans *spans, uint64_t queue_id)
{
    uint32_t at = jrn_map_get(&spans->at, queue_id);
    return at == JRN_MAP_NONE ? NULL : &spans->list.at[at];
}

void jrn_spans_add(struct jrn_spans *spans, uint64_t queue_id, uint64_t first, uint64_t last)
{
    jrn_spans_hold(spans, &(struct jrn_span){queue_id, first, last, 0, 0});
}

void jrn_spans_fact(struct jrn_spans *spans, const struct jrn_span *more)
{
    uint32_t at = jrn_map_get(&spans->at, more->queue_id);
    if (at == JRN_MAP_NONE)
        jrn_spans_hold(spans, more);
    else
        jrn_span_fact(&spans->list.at[at], more);
}

void jrn_spans_hold(struct jrn_spans *spans, const struct jrn_span *more)
{
    bool fresh;
    uint32_t *at = jrn_map_put(&spans->at, more->queue_id, &fresh);
    struct jrn_span_list *list = &spans->list;
    if (fresh) {
        if (list->n == list->cap) {
            list->cap = list->cap ? list->cap * 2 : 16;
            list->at = mqg_xrealloc(list->at, list->cap * sizeof *list->at);
        }
        *at = list->n++;
        list->at[*at] = *more;
        return;
    }
    struct jrn_span *span = &list->at[*at];
    if (more->first < span->first)
        span->first = more->first;
    if (more->last > span->last)
        span->last = more->last;
    span->count += more->count;
    span->eights += more->eights;
}

void jrn_seg_give(struct mqg_store *s, struct jrn_seg *seg)
{
    /* Looked at before: with the last one given, the keeper may free the segment under our hands. If the
     * committer closes it in between, it wakes the keeper itself. */
    bool closed = atomic_load(&seg->state) == JRN_CLOSED;
    if (atomic_fetch_sub(&seg->live, 1) == 1 && closed)
        jrn_keeper_wake(s);
}

void jrn_lists_free(struct mqg_store *s)
{
    struct jrn_seg *lists[2] = {s->segs, s->spares};
    for (int i = 0; i < 2; i++) {
        for (struct jrn_seg *seg = lists[i], *next; seg; seg = next) {
            next = seg->next;
            jrn_seg_free(s, &seg);
        }
    }
    s->segs = s->segs_last = s->spares = NULL;
}
