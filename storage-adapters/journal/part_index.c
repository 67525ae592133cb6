/* part_index.c - which batch stands where in a log: one row for every 16 KiB, by offset and by time at once.
 *
 *   .idx    0  8 "MQGSIDX1"      24  8 base offset      60  4 crc32c of the first 60
 *   (64)    8  4 version = 1     32  4 generation
 *          12  4 zero            36 24 zero
 *          16  8 partition
 *   row     0  8 offset          16  8 latest time of the batch there and all up to the next row
 *   (32)    8  8 place           24  4 zero    28  4 crc32c, begun with the header's
 *
 * It is derived: what is missing or does not check is read from the log again, from the last row that does. Rows are written
 * only after the log was synced up to their place; so the last row is also a witness of how far the log had been safe, and a
 * log that is shorter was damaged. Each sync leaves a row at the log's end. */
#include "part.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

enum { INDEX_WINDOW = 256 << 10, INDEX_ROWS_MAX = 1 << 22 };

uint64_t jrn_part_interval(uint64_t segment_bytes)
{
    uint64_t interval = segment_bytes / 4096;
    return interval < PART_INTERVAL ? PART_INTERVAL : interval;
}

/* ---- rows: the bytes are in part_row.c ------------------------------------------------------------------- */

static uint32_t index_seed(const struct part_file *f)
{
    uint8_t head[PART_IDX_HEAD];
    jrn_part_idx_head(head, f);
    return mqg_le32(head + 60);
}

/* ---- rows ----------------------------------------------------------------------------------------------- */

static struct part_entry *index_push(struct part_index *x, struct part_entry e)
{
    if (x->n == x->cap) {
        x->cap = x->cap ? x->cap * 2 : 8;
        x->at = mqg_xrealloc(x->at, x->cap * sizeof *x->at);
    }
    x->at[x->n] = e;
    return &x->at[x->n++];
}

static void index_note(struct part_index *x, const struct part_batch *b, uint64_t pos, uint64_t interval)
{
    struct part_entry *last = x->n ? &x->at[x->n - 1] : NULL;
    bool saved = last &&
                 x->n == x->saved; /* what is written is not changed any more, but the end's row is ours */
    if (!last || pos - last->pos >= interval || (saved && pos > last->pos))
        last = index_push(x, (struct part_entry){b->base, pos, 0});
    else if (saved)
        x->saved--; /* the row of the last sync's end: the batches behind it are its own */
    if (b->max_time_ms > last->time_ms)
        last->time_ms = b->max_time_ms;
}

static uint32_t index_row(const struct part_index *x, uint64_t offset)
{
    uint32_t low = 0, high = x->n;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (x->at[mid].offset <= offset)
            low = mid + 1;
        else
            high = mid;
    }
    return low; /* the one before it is the last that is not beyond */
}

void jrn_part_index_add(struct mqg_store *s, struct part_file *f, const struct part_batch *b, uint64_t pos,
                        uint64_t interval)
{
    jrn_part_files_lock(s);
    uint32_t had = f->index.n;
    index_note(&f->index, b, pos, interval);
    jrn_part_files_rows(s, f->index.n - had);
    jrn_part_files_unlock(s);
}

bool jrn_part_index_find(struct mqg_store *s, struct part_file *f, uint64_t offset, struct part_entry *out)
{
    bool found = false;
    jrn_part_files_lock(s);
    for (int i = 0; i < PART_HINTS && !found; i++) {
        found = f->hints[i].pos > 0 && f->hints[i].offset == offset;
        if (found)
            *out = (struct part_entry){offset, f->hints[i].pos, 0};
    }
    uint32_t row = found ? 0 : index_row(&f->index, offset);
    if (row > 0) {
        *out = f->index.at[row - 1];
        found = true;
    }
    jrn_part_files_unlock(s);
    return found;
}

bool jrn_part_index_time(struct mqg_store *s, struct part_file *f, uint64_t time_ms, struct part_entry *out)
{
    bool found = false;
    jrn_part_files_lock(s);
    for (uint32_t i = 0; i < f->index.n && !found; i++) {
        found = f->index.at[i].time_ms >= time_ms;
        if (found)
            *out = f->index.at[i];
    }
    jrn_part_files_unlock(s);
    return found;
}

uint64_t jrn_part_index_latest(struct mqg_store *s, struct part_file *f)
{
    uint64_t latest = 0;
    jrn_part_files_lock(s);
    for (uint32_t i = 0; i < f->index.n; i++)
        if (f->index.at[i].time_ms > latest)
            latest = f->index.at[i].time_ms;
    jrn_part_files_unlock(s);
    return latest;
}

void jrn_part_index_hint(struct mqg_store *s, struct part_file *f, uint64_t offset, uint64_t pos)
{
    jrn_part_files_lock(s);
    f->hints[f->next_hint++ % PART_HINTS] = (struct part_hint){offset, pos};
    jrn_part_files_unlock(s);
}

/* ---- writing -------------------------------------------------------------------------------------------- */

/* The rows to write, encoded; the last one is of the log's end. */
static uint32_t index_encode(struct mqg_store *s, struct part_file *f, uint64_t end, uint64_t bytes,
                             struct mqg_dynbuf *out, uint64_t *at)
{
    uint8_t row[PART_IDX_ROW], head[PART_IDX_HEAD];
    uint32_t seed = index_seed(f);
    jrn_part_files_lock(s);
    struct part_index *x = &f->index;
    if (x->n == 0 || x->at[x->n - 1].pos < bytes)
        (void)index_push(x, (struct part_entry){end, bytes, 0});
    *at = x->saved_pos ? PART_IDX_HEAD + (uint64_t)x->saved * PART_IDX_ROW : 0;
    if (*at == 0) {
        x->saved = 0;
        jrn_part_idx_head(head, f);
        mqg_dynbuf_put(out, head, sizeof head);
    }
    for (uint32_t i = x->saved; i < x->n; i++) {
        jrn_part_idx_row(row, &x->at[i], seed);
        mqg_dynbuf_put(out, row, sizeof row);
    }
    uint32_t n = x->n;
    jrn_part_files_unlock(s);
    return n;
}

int jrn_part_index_save(struct mqg_store *s, struct part_file *f, uint64_t end, uint64_t bytes)
{
    char name[PART_NAME], path[4096];
    struct mqg_dynbuf out;
    uint64_t at;
    mqg_dynbuf_init(&out, PART_IDX_HEAD + (size_t)INDEX_ROWS_MAX * PART_IDX_ROW);
    uint32_t n = index_encode(s, f, end, bytes, &out, &at);
    jrn_part_name(f, "idx", "", name);
    jrn_path(s, name, path);
    int fd = s->fs->open(s->fs->ctx, path, O_RDWR | O_CREAT), r = fd;
    if (fd >= 0) {
        struct iovec iov = {out.ptr, out.len};
        r = jrn_fs_write(s->fs, fd, &iov, 1, at);
        if (r == 0)
            r = s->fs->ftruncate(s->fs->ctx, fd, at + out.len);
        s->fs->close(s->fs->ctx, fd);
    }
    jrn_part_files_lock(s);
    f->index.saved = r < 0 ? 0 : n;
    f->index.saved_pos = r < 0 ? 0 : at + out.len;
    jrn_part_files_unlock(s);
    mqg_dynbuf_fini(&out);
    return r;
}

/* ---- reading -------------------------------------------------------------------------------------------- */

/* The rows of the .idx, as far as they check and ascend. */
static void index_read_rows(struct mqg_slice in, const struct part_file *f, struct part_index *x)
{
    struct part_entry e;
    uint32_t seed = index_seed(f);
    if (!jrn_part_idx_head_is(in, f))
        return;
    x->saved_pos = PART_IDX_HEAD;
    for (size_t at = PART_IDX_HEAD; at + PART_IDX_ROW <= in.len; at += PART_IDX_ROW) {
        const struct part_entry *last = x->n ? &x->at[x->n - 1] : NULL;
        if (!jrn_part_idx_row_is(in.ptr + at, &e, seed) || e.offset < f->base || x->n == INDEX_ROWS_MAX ||
            (last ? e.offset <= last->offset || e.pos <= last->pos : e.pos != 0))
            return;
        (void)index_push(x, e);
        x->saved = x->n;
        x->saved_pos = at + PART_IDX_ROW;
    }
}

static int index_read_file(struct mqg_store *s, const struct part_file *f, struct part_index *x)
{
    char name[PART_NAME], path[4096];
    uint64_t bytes = 0;
    jrn_part_name(f, "idx", "", name);
    jrn_path(s, name, path);
    int fd = s->fs->open(s->fs->ctx, path, O_RDONLY);
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    int r = s->fs->size(s->fs->ctx, fd, &bytes);
    if (bytes > PART_IDX_HEAD + (uint64_t)INDEX_ROWS_MAX * PART_IDX_ROW)
        bytes = 0; /* none of ours */
    uint8_t *buf = mqg_xmalloc(bytes ? bytes : 1);
    ssize_t got = r < 0 ? r : jrn_fs_read(s->fs, fd, buf, bytes, 0);
    if (got > 0)
        index_read_rows(mqg_slice_of(buf, (size_t)got), f, x);
    free(buf);
    s->fs->close(s->fs->ctx, fd);
    return got < 0 ? (int)got : 0;
}

/* A window of the log that begins at the place asked for and has n bytes, or what is left. */
struct index_window {
    uint8_t *buf;
    uint64_t from;
    size_t have, cap;
};

static int index_bytes(struct mqg_store *s, int fd, struct index_window *w, uint64_t pos, size_t n,
                       uint64_t bytes, struct mqg_slice *out)
{
    if (pos < w->from || pos + n > w->from + w->have) {
        size_t want = n > INDEX_WINDOW ? n : INDEX_WINDOW;
        if (want > bytes - pos)
            want = (size_t)(bytes - pos);
        if (want > w->cap) {
            w->buf = mqg_xrealloc(w->buf, want);
            w->cap = want;
        }
        ssize_t got = jrn_fs_read(s->fs, fd, w->buf, want, pos);
        if (got < 0)
            return (int)got;
        w->from = pos;
        w->have = (size_t)got;
    }
    size_t have = (size_t)(w->from + w->have - pos);
    *out = mqg_slice_of(w->buf + (pos - w->from), have);
    return 0;
}

/* Walks the log from the last row on. Offsets follow each other without a gap, but where an earlier version left one. */
static int index_walk(struct mqg_store *s, const struct part_file *f, int fd, uint64_t bytes, bool check,
                      struct part_index *x, struct part_tail *tail)
{
    struct index_window w = {.buf = NULL};
    struct part_batch b;
    struct mqg_slice in;
    uint64_t interval = jrn_part_interval(bytes);
    int r = 0;
    tail->torn = false;
    while (tail->bytes < bytes && !tail->torn) {
        r = index_bytes(s, fd, &w, tail->bytes, PART_BATCH_HEAD, bytes, &in);
        if (r < 0)
            break;
        tail->torn = !jrn_part_batch_head(in, &b) || b.len > bytes - tail->bytes ||
                     (f->gaps ? b.base < tail->end : b.base != tail->end);
        if (tail->torn)
            break;
        if (check) {
            r = index_bytes(s, fd, &w, tail->bytes, b.len, bytes, &in);
            if (r < 0)
                break;
            tail->torn = in.len < b.len || !jrn_part_batch_sum(in.ptr, &b);
            if (tail->torn)
                break;
        }
        index_note(x, &b, tail->bytes, interval);
        tail->bytes += b.len;
        tail->end = b.end;
    }
    free(w.buf);
    return r;
}

int jrn_part_index_load(struct mqg_store *s, const struct part_file *f, int fd, uint64_t bytes, bool check,
                        struct part_index *out, struct part_tail *tail)
{
    *out = (struct part_index){.at = NULL};
    *tail = (struct part_tail){.end = f->base, .sure_end = f->base};
    int r = index_read_file(s, f, out);
    if (r < 0)
        return r;
    while (out->n > 0 && out->at[out->n - 1].pos > bytes) {
        if (!tail->lost)
            tail->lost_end = out->at[out->n - 1].offset;
        out->n--;
        tail->lost = true;
    }
    if (out->n < out->saved)
        out->saved = out->n;
    if (out->n > 0) {
        tail->end = tail->sure_end = out->at[out->n - 1].offset;
        tail->bytes = out->at[out->n - 1].pos;
    }
    r = index_walk(s, f, fd, bytes, check, out, tail);
    for (uint32_t i = 0; i < out->n; i++)
        if (out->at[i].time_ms > tail->max_time_ms)
            tail->max_time_ms = out->at[i].time_ms;
    return r;
}
