/* part_dense.c - a compacted file being written: every offset of the old one belongs to a batch of the new one, too.
 *
 * A sum speaks for a batch, and nothing for which batches there are. In a file that was only appended to nothing more is needed,
 * for each batch begins where the one before it ends, and the file ends where the next one begins: a batch that is missing, has
 * moved or cannot be read breaks the row. Compaction takes batches out; if it left holes, the row would be broken everywhere, and
 * damage would look like one hole more. So there are none: a batch that stays is made to end where the next one that stays begins
 * (its last offset is covered by its sum), and where there is none to do that - at a file's beginning, or behind a batch that was
 * not looked into and must stay as it is - a batch without records stands for what went:
 *
 *   before    | 0-9 | 10-14 | 15 | 16-29 | 30-39 | 40-49 |      next file: 50
 *   after     | 0-14, no records | 15-29, one record | 30-49  |      0-14, 16-29 and 40-49 are gone
 *
 * One rule for every file, then: offsets follow each other from the first to the last. Readers never see a batch without records.
 *
 * The file is written under the name of a temporary one, synced, and renamed: what bears the name is whole. */
#include "part.h"

#include <fcntl.h>

enum { DENSE_WINDOW = 1 << 20 };

#define DENSE_BUF_MAX ((size_t)1 << 32) /* a batch, and a window before it */

static int dense_flush(struct part_dense *d)
{
    struct iovec iov = {d->buf.ptr, d->buf.len};
    int r = d->buf.len ? jrn_fs_write(d->s->fs, d->fd, &iov, 1, d->bytes) : 0;
    d->bytes += d->buf.len;
    d->ours = false;
    mqg_dynbuf_reset(&d->buf);
    return r;
}

static void dense_put(struct part_dense *d, const struct part_batch *b, struct mqg_slice whole, bool ours)
{
    d->last = *b;
    d->last_at = d->buf.len;
    d->ours = ours;
    d->next = b->end;
    jrn_part_index_add(d->s, d->f, b, d->bytes + d->buf.len, d->interval);
    mqg_dynbuf_slice(&d->buf, whole);
    if (b->max_time_ms > d->f->max_time_ms)
        d->f->max_time_ms = b->max_time_ms;
}

/* The last batch, or one without records, takes the offsets up to `to`. */
static void dense_close(struct part_dense *d, uint64_t to)
{
    uint8_t empty[PART_BATCH_HEAD];
    if (d->ours && to > d->next && to - d->last.base <= PART_BATCH_SPAN) {
        d->last.end = d->next = to;
        jrn_part_batch_stretch(d->buf.ptr + d->last_at, &d->last);
    }
    while (d->next < to) {
        uint64_t span = to - d->next < PART_BATCH_SPAN ? to - d->next : PART_BATCH_SPAN;
        struct part_batch b = {.base = d->next, .end = d->next + span};
        jrn_part_batch_empty(empty, &b);
        dense_put(d, &b, mqg_slice_of(empty, sizeof empty), true);
    }
}

int jrn_dense_begin(struct part_dense *d, struct mqg_store *s, const struct part_file *old, uint64_t bytes)
{
    char name[PART_NAME], path[4096];
    *d = (struct part_dense){.s = s, .interval = jrn_part_interval(bytes), .next = old->base};
    mqg_dynbuf_init(&d->buf, DENSE_BUF_MAX);
    d->f = jrn_part_file_new(old->partition, old->base, old->gen + 1);
    d->f->indexed = d->f->timed = true;
    d->f->first_ms = old->first_ms;
    jrn_part_name(d->f, "log", ".tmp", name);
    jrn_path(s, name, path);
    d->fd = s->fs->open(s->fs->ctx, path, O_RDWR | O_CREAT | O_TRUNC);
    return d->fd < 0 ? d->fd : 0;
}

int jrn_dense_add(struct part_dense *d, const struct part_batch *b, struct mqg_slice whole, bool ours)
{
    if (b->count == 0) /* of an earlier pass */
        return 0;
    dense_close(d, b->base);
    int r = d->buf.len >= DENSE_WINDOW ? dense_flush(d) : 0;
    dense_put(d, b, whole, ours);
    return r;
}

/* The new file gets its name, durably. */
static int dense_name(const struct part_dense *d)
{
    char name[PART_NAME], from[4096], to[4096], folder[4096];
    jrn_part_name(d->f, "log", ".tmp", name);
    jrn_path(d->s, name, from);
    jrn_part_name(d->f, "log", "", name);
    jrn_path(d->s, name, to);
    jrn_part_folder(d->f->partition, name);
    jrn_path(d->s, name, folder);
    int r = d->s->fs->rename(d->s->fs->ctx, from, to);
    return r < 0 ? r : d->s->fs->fsync_dir(d->s->fs->ctx, folder);
}

static int dense_finish(struct part_dense *d, uint64_t end)
{
    dense_close(d, end);
    int r = dense_flush(d);
    if (r == 0)
        r = jrn_fs_sync(d->s->fs, d->fd);
    return r == 0 ? dense_name(d) : r;
}

static void dense_unlink(const struct part_dense *d)
{
    char name[PART_NAME], path[4096];
    jrn_part_name(d->f, "log", ".tmp", name);
    jrn_path(d->s, name, path);
    (void)d->s->fs->unlink(d->s->fs->ctx, path);
}

int jrn_dense_end(struct part_dense *d, uint64_t end, int r)
{
    if (r == 0)
        r = dense_finish(d, end);
    if (d->fd >= 0)
        d->s->fs->close(d->s->fs->ctx, d->fd);
    mqg_dynbuf_fini(&d->buf);
    if (r < 0) {
        dense_unlink(d);
        jrn_part_unlink(d->s, d->f); /* renamed, and that not durable */
        jrn_part_file_unref(d->s, &d->f);
        return r;
    }
    d->f->end = end;
    d->f->bytes = d->bytes;
    (void)jrn_part_index_save(d->s, d->f, end, d->bytes); /* derived */
    return 0;
}
