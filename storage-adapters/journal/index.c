/* index.c - digest files: made, written, found again, removed.
 *
 * A file is written whole and then synced by whoever made it, never by the committer: nobody waits for it. Its name holds
 * the nonce of the segment's use, so that a file of an earlier use can never be taken for this one's, and is never written
 * over while somebody reads it. The parts are summed one by one: recovery reads head, table, said and small and leaves the
 * pages alone; each page is checked when it is read, and when it does not check, the whole file is made again from the
 * segment: the same bytes, so the rows in memory still fit. */
#include "index.h"

#include "collect.h"
#include "reread.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

void jrn_index_name(const struct jrn_seg *seg, char out[64])
{
    size_t n = strlen(seg->name);
    snprintf(out, 64, "%.*s-%016llx.idx", (int)(n > 4 ? n - 4 : n), seg->name,
             (unsigned long long)seg->use.nonce);
}

bool jrn_index_is_name(const char *name)
{
    size_t n = strlen(name);
    return n > 4 && n < 64 && strcmp(name + n - 4, ".idx") == 0;
}

/* ---- writing ------------------------------------------------------------------------------------------- */

static int index_write_fd(struct mqg_store *s, int fd, const struct jrn_digest *d)
{
    uint8_t head[JRN_DIGEST_HEAD], *table = mqg_xmalloc((size_t)d->nrow * JRN_ROW_BYTES + 1);
    struct mqg_slice parts[] = {mqg_dynbuf_view(&d->said), mqg_dynbuf_view(&d->small),
                                mqg_dynbuf_view(&d->pages)};
    struct iovec iov[5];
    int n = 2;
    jrn_digest_encode(d, head, table);
    iov[0] = (struct iovec){head, sizeof head};
    iov[1] = (struct iovec){table, (size_t)d->nrow * JRN_ROW_BYTES};
    for (size_t i = 0; i < MQG_COUNTOF(parts); i++)
        if (parts[i].len)
            iov[n++] = (struct iovec){(void *)(uintptr_t)parts[i].ptr, parts[i].len};
    int r = jrn_fs_write(s->fs, fd, iov, n, 0);
    free(table);
    return r < 0 ? r : jrn_fs_sync(s->fs, fd);
}

static int index_write(struct mqg_store *s, const struct jrn_seg *seg, const struct jrn_digest *d)
{
    char name[64], path[4096];
    jrn_index_name(seg, name);
    jrn_path(s, name, path);
    int fd = s->fs->open(s->fs->ctx, path, O_RDWR | O_CREAT);
    if (fd < 0)
        return fd;
    int r = s->fs->ftruncate(s->fs->ctx, fd, 0);
    if (r == 0)
        r = index_write_fd(s, fd, d);
    s->fs->close(s->fs->ctx, fd);
    if (r < 0)
        (void)s->fs->unlink(s->fs->ctx, path);
    return r;
}

struct index_make {
    struct jrn_collect *c;
    const struct jrn_seg *seg;
    struct mqg_error *e;
    enum mqg_err err;
};

static bool index_frame(void *arg, uint64_t off, struct mqg_slice bytes)
{
    struct index_make *m = arg;
    struct jrn_frame f;
    m->err = jrn_frame_head(bytes, &m->seg->use, off, &f);
    if (m->err == MQG_OK && f.seq != m->seg->seq)
        m->err = MQG_CORRUPT;
    if (m->err == MQG_OK)
        m->err = jrn_collect_frame(m->c, m->seg->name, bytes, &m->seg->use, &f, m->e);
    return m->err == MQG_OK;
}

enum mqg_err jrn_index_make(struct mqg_store *s, struct jrn_seg *seg, struct jrn_digest *d, bool *written,
                            struct mqg_error *e)
{
    struct index_make m = {jrn_collect_new(s->row_min), seg, e, MQG_OK};
    *written = false;
    jrn_digest_init(d);
    d->use = seg->use;
    d->seq = seg->seq;
    d->last_number = seg->last_number;
    d->end = atomic_load(&seg->end);
    bool all = jrn_reread(s, seg, index_frame, &m);
    enum mqg_err err = all ? MQG_OK : m.err != MQG_OK ? m.err : MQG_CORRUPT;
    if (err == MQG_OK)
        err = jrn_collect_end(m.c, d);
    jrn_collect_free(&m.c);
    if (err != MQG_OK) {
        jrn_digest_fini(d);
        return err;
    }
    int r = index_write(s, seg, d);
    if (r < 0)
        mqg_log(MQG_LOG_WARN, MQG_EVENT_STORE, "store=%s what=index file=%s error=%s", s->section, seg->name,
                mqg_logqs(jrn_errno(r)));
    else
        mqg_dynbuf_fini(&d->pages);
    *written = r == 0;
    return MQG_OK;
}

/* ---- reading ------------------------------------------------------------------------------------------- */

static int index_open(struct mqg_store *s, const struct jrn_seg *seg)
{
    char name[64], path[4096];
    jrn_index_name(seg, name);
    jrn_path(s, name, path);
    return s->fs->open(s->fs->ctx, path, O_RDONLY);
}

static bool index_part(struct mqg_store *s, int fd, uint64_t off, uint64_t n, uint32_t crc,
                       struct mqg_dynbuf *out)
{
    uint8_t *room = mqg_dynbuf_reserve(out, (size_t)n);
    if (!room || jrn_fs_read(s->fs, fd, room, (size_t)n, off) != (ssize_t)n)
        return false;
    out->len += (size_t)n;
    return jrn_crc32c(0, room, (size_t)n) == crc;
}

static enum mqg_err index_load_fd(struct mqg_store *s, int fd, const struct jrn_seg *seg,
                                  struct jrn_digest *d)
{
    uint8_t head[JRN_DIGEST_HEAD];
    struct jrn_digest_head h;
    uint64_t size;
    if (jrn_fs_read(s->fs, fd, head, sizeof head, 0) != (ssize_t)sizeof head ||
        s->fs->size(s->fs->ctx, fd, &size) < 0)
        return MQG_CORRUPT;
    enum mqg_err err = jrn_digest_head_decode(mqg_slice_of(head, sizeof head), d, &h);
    if (err != MQG_OK)
        return err;
    uint64_t table = (uint64_t)h.rows * JRN_ROW_BYTES;
    if (d->use.nonce != seg->use.nonce || memcmp(d->use.uuid, seg->use.uuid, 16) != 0 || d->seq != seg->seq ||
        d->last_number != seg->last_number || d->end != atomic_load(&seg->end) ||
        size != JRN_DIGEST_HEAD + table + h.said + h.small + h.pages)
        return MQG_CORRUPT;
    struct mqg_dynbuf rows;
    mqg_dynbuf_init(&rows, JRN_CHUNK_MAX);
    bool good = index_part(s, fd, JRN_DIGEST_HEAD, table, h.table_crc, &rows) &&
                index_part(s, fd, JRN_DIGEST_HEAD + table, h.said, h.said_crc, &d->said) &&
                index_part(s, fd, JRN_DIGEST_HEAD + table + h.said, h.small, h.small_crc, &d->small);
    err = good ? jrn_digest_table_decode(mqg_dynbuf_view(&rows), &h, d) : MQG_CORRUPT;
    mqg_dynbuf_fini(&rows);
    return err;
}

enum mqg_err jrn_index_load(struct mqg_store *s, const struct jrn_seg *seg, struct jrn_digest *d)
{
    jrn_digest_init(d);
    int fd = index_open(s, seg);
    if (fd < 0)
        return fd == -ENOENT ? MQG_NOT_FOUND : MQG_IO;
    enum mqg_err err = index_load_fd(s, fd, seg, d);
    s->fs->close(s->fs->ctx, fd);
    if (err != MQG_OK)
        jrn_digest_fini(d);
    return err;
}

/* ---- life ---------------------------------------------------------------------------------------------- */

void jrn_index_attach(struct mqg_store *s, struct jrn_seg *seg, struct jrn_digest *d)
{
    struct jrn_index *x = mqg_xcalloc(1, sizeof *x);
    x->rows = d->rows;
    x->nrow = d->nrow;
    x->pages_at = JRN_DIGEST_HEAD + (uint64_t)d->nrow * JRN_ROW_BYTES + mqg_dynbuf_view(&d->said).len +
                  mqg_dynbuf_view(&d->small).len;
    x->bytes = x->pages_at + d->pages_bytes;
    x->end = d->end;
    d->rows = NULL;
    d->nrow = 0;
    pthread_mutex_lock(&s->seg_lock);
    s->disk_bytes += x->bytes;
    atomic_store_explicit(&seg->index, x, memory_order_release);
    seg->next_indexed = s->indexed;
    s->indexed = seg;
    pthread_mutex_unlock(&s->seg_lock);
}

bool jrn_index_hide(struct mqg_store *s, struct jrn_seg *seg)
{
    pthread_mutex_lock(&s->seg_lock);
    bool free_ = atomic_load(&seg->pins) == 0;
    for (struct jrn_seg **at = &s->indexed; free_ && *at; at = &(*at)->next_indexed) {
        if (*at != seg)
            continue;
        *at = seg->next_indexed;
        break;
    }
    pthread_mutex_unlock(&s->seg_lock);
    return free_;
}

static void index_free(struct jrn_index *x)
{
    for (uint32_t i = 0; i < x->nrow; i++)
        free((void *)(uintptr_t)atomic_load(&x->rows[i].bits));
    free(x->rows);
    free(x);
}

void jrn_index_free(struct mqg_store *s, struct jrn_seg *seg)
{
    struct jrn_index *x = atomic_load(&seg->index);
    if (!x)
        return;
    (void)jrn_index_hide(s, seg);
    atomic_store(&seg->index, NULL);
    index_free(x);
}

void jrn_index_drop(struct mqg_store *s, struct jrn_seg *seg)
{
    char name[64], path[4096];
    struct jrn_index *x = atomic_load(&seg->index);
    if (!x)
        return;
    jrn_index_name(seg, name);
    jrn_path(s, name, path);
    (void)s->fs->unlink(s->fs->ctx, path);
    pthread_mutex_lock(&s->seg_lock);
    s->disk_bytes -= x->bytes;
    pthread_mutex_unlock(&s->seg_lock);
    jrn_index_free(s, seg);
}

static enum mqg_err index_page_read(struct mqg_store *s, const struct jrn_seg *seg, const struct jrn_row *row,
                                    uint8_t *buf)
{
    const struct jrn_index *x = atomic_load_explicit(&seg->index, memory_order_acquire);
    int fd = index_open(s, seg);
    if (fd < 0)
        return MQG_IO;
    ssize_t got = jrn_fs_read(s->fs, fd, buf, row->page_len, x->pages_at + row->page_off);
    s->fs->close(s->fs->ctx, fd);
    if (got < 0)
        return MQG_IO;
    return got == (ssize_t)row->page_len && jrn_crc32c(0, buf, row->page_len) == row->page_crc ? MQG_OK
                                                                                               : MQG_CORRUPT;
}

enum mqg_err jrn_index_page(struct mqg_store *s, struct jrn_seg *seg, const struct jrn_row *row,
                            uint8_t **buf, size_t *cap)
{
    if (row->page_len > *cap) {
        free(*buf);
        *cap = row->page_len;
        *buf = mqg_xmalloc(*cap);
    }
    enum mqg_err err = index_page_read(s, seg, row, *buf);
    if (err == MQG_OK || atomic_load(&seg->end) != atomic_load(&seg->index)->end || seg->fd < 0)
        return err;
    struct jrn_digest d;
    struct mqg_error e;
    bool written;
    mqg_log(MQG_LOG_WARN, MQG_EVENT_STORE, "store=%s what=index_again file=%s", s->section, seg->name);
    err = jrn_index_make(s, seg, &d, &written, &e);
    if (err != MQG_OK)
        return err;
    jrn_digest_fini(&d);
    return written ? index_page_read(s, seg, row, *buf) : MQG_IO;
}
