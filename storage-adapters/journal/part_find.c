/* part_find.c - the files of partitions at recovery: which there are, and how far the last one is whole.
 *
 * A file is begun only when the one before it was synced, so only the last file of a partition can have a torn end. Its index
 * says up to where it had been synced; from there on every batch is checked. What does not check there was never synced, and
 * then the journal still has it: the file is cut and written again. If the journal has not, or if synced bytes are missing,
 * that is damage: reported, the file copied aside, the start refused (or, with on_corruption=continue, the log cut there).
 *
 * Files below the log's start, older generations of a compacted file and what was never finished (.tmp) are removed; the
 * folder of a deleted partition too. A folder of a partition that the journal does not know is taken as it is: nothing is
 * removed that nobody asked to remove. */
#include "stream.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* One folder being read. */
struct find {
    struct mqg_store *s;
    struct stream_part *p;
    char folder[PART_NAME];
};

static enum mqg_err find_io(const struct mqg_store *s, struct mqg_error *e, const char *call,
                            const char *name, int r)
{
    return mqg_error_set(e, MQG_IO, 0, "%s: %s of %s/%s: %s", s->section, call, s->path, name, jrn_errno(r));
}

static void find_unlink(const struct find *f, const char *entry)
{
    char path[4096], name[PART_NAME + 256];
    if (snprintf(name, sizeof name, "%s/%s", f->folder, entry) >= (int)sizeof name)
        return;
    jrn_path(f->s, name, path);
    (void)f->s->fs->unlink(f->s->fs->ctx, path);
}

/* ---- which files there are ------------------------------------------------------------------------------- */

static void find_entry(void *arg, const char *name)
{
    struct find *f = arg;
    struct part_name is;
    size_t len = strlen(name);
    if (len > 4 && strcmp(name + len - 4, ".tmp") == 0)
        find_unlink(f, name);
    else if (jrn_part_parse(name, &is) && is.log) {
        struct part_file *file = jrn_part_file_new(f->p->id, is.base, is.gen);
        file->gaps = is.gaps;
        *STREAM_PUSH(f->p, files, nfile, cap_file) = file;
    }
}

static int find_order(const void *a, const void *b)
{
    const struct part_file *x = *(struct part_file *const *)a, *y = *(struct part_file *const *)b;
    if (x->base != y->base)
        return x->base < y->base ? -1 : 1;
    return x->gen < y->gen ? 1 : -1; /* the last generation first */
}

/* Of files with one base the last generation counts; files end where the next one begins; those below the start go. */
static void find_choose(struct find *f)
{
    struct stream_part *p = f->p;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < p->nfile; i++) {
        struct part_file *file = p->files[i];
        bool again = kept > 0 && p->files[kept - 1]->base == file->base;
        if (again) {
            jrn_part_unlink(f->s, file);
            jrn_part_file_unref(f->s, &file);
            continue;
        }
        p->files[kept++] = file;
    }
    p->nfile = kept;
    for (uint32_t i = 0; i + 1 < kept; i++)
        p->files[i]->end = p->files[i + 1]->base;
    uint32_t below = 0;
    while (below + 1 < kept && p->files[below]->end <= p->log_start) {
        jrn_part_unlink(f->s, p->files[below]);
        jrn_part_file_unref(f->s, &p->files[below++]);
    }
    p->nfile -= below;
    if (below)
        memmove(p->files, p->files + below, p->nfile * sizeof(struct part_file *));
}

/* ---- how long they are ------------------------------------------------------------------------------------ */

static enum mqg_err find_size(struct find *f, struct part_file *file, bool last, struct mqg_error *e)
{
    struct mqg_store *s = f->s;
    char name[PART_NAME], path[4096];
    jrn_part_name(file, "log", "", name);
    jrn_path(s, name, path);
    int fd = s->fs->open(s->fs->ctx, path, O_RDWR);
    if (fd < 0)
        return find_io(s, e, "open", name, fd);
    int r = s->fs->size(s->fs->ctx, fd, &file->bytes);
    if (r == 0 && last) {
        r = jrn_part_index_load(s, file, fd, file->bytes, true, &file->index, &f->p->tail);
        file->indexed = r == 0;
        file->timed = true;
        file->max_time_ms = f->p->tail.max_time_ms;
        file->end = f->p->tail.end;
    }
    file->first_ms = mqg_clock_now().wall_us / 1000;
    s->fs->close(s->fs->ctx, fd);
    return r < 0 ? find_io(s, e, "read", name, r) : MQG_OK;
}

static enum mqg_err find_part(struct mqg_store *s, struct stream_part *p, struct mqg_error *e)
{
    struct find f = {.s = s, .p = p};
    char path[4096];
    enum mqg_err err = MQG_OK;
    jrn_part_folder(p->id, f.folder);
    jrn_path(s, f.folder, path);
    int r = s->fs->list(s->fs->ctx, path, find_entry, &f);
    if (r < 0)
        return find_io(s, e, "list", f.folder, r);
    p->folder = p->named = true;
    if (p->nfile)
        qsort(p->files, p->nfile, sizeof(struct part_file *), find_order);
    find_choose(&f);
    for (uint32_t i = 0; i < p->nfile && err == MQG_OK; i++)
        err = find_size(&f, p->files[i], i + 1 == p->nfile, e);
    if (p->nfile) {
        p->filed = p->files[p->nfile - 1]->end;
        p->synced = p->tail.sure_end;
    }
    return err;
}

struct find_names {
    uint64_t *ids;
    uint32_t n, cap;
};

static void find_folder(void *arg, const char *name)
{
    struct find_names *names = arg;
    char *end;
    if (strlen(name) != 16 || strspn(name, "0123456789abcdef") != 16)
        return;
    *STREAM_PUSH(names, ids, n, cap) = strtoull(name, &end, 16);
}

enum mqg_err jrn_parts_find(struct mqg_store *s, struct mqg_error *e)
{
    struct find_names names = {.ids = NULL};
    char path[4096];
    enum mqg_err err = MQG_OK;
    jrn_path(s, "streams", path);
    int r = s->fs->list(s->fs->ctx, path, find_folder, &names);
    if (r < 0 && r != -ENOENT)
        err = find_io(s, e, "list", "streams", r);
    for (uint32_t i = 0; i < names.n && err == MQG_OK; i++) {
        struct stream_part *p = jrn_stream_part(s->streams, names.ids[i]);
        if (!p->gone)
            err = find_part(s, p, e);
    }
    free(names.ids);
    return err;
}

/* ---- torn or damaged ---------------------------------------------------------------------------------------- */

/* Copies the file aside, as it is. */
static void find_quarantine(struct mqg_store *s, const struct part_file *f, int from, uint64_t bytes)
{
    enum { PIECE = 1 << 20 };
    char name[160], path[4096];
    snprintf(name, sizeof name, "quarantine-%016" PRIx64 "-%020" PRIu64 "-%" PRIu32, f->partition, f->base,
             f->gen);
    jrn_path(s, name, path);
    int to = s->fs->open(s->fs->ctx, path, O_RDWR | O_CREAT | O_EXCL), r = to;
    uint8_t *buf = mqg_xmalloc(PIECE);
    for (uint64_t at = 0; at < bytes && r >= 0; at += PIECE) {
        ssize_t got = jrn_fs_read(s->fs, from, buf, PIECE, at);
        struct iovec iov = {buf, got > 0 ? (size_t)got : 0};
        r = got < 0 ? (int)got : jrn_fs_write(s->fs, to, &iov, iov.iov_len ? 1 : 0, at);
    }
    free(buf);
    if (to >= 0)
        s->fs->close(s->fs->ctx, to);
    if (r < 0 && r != -EEXIST)
        mqg_log(MQG_LOG_WARN, MQG_EVENT_CORRUPTION, "store=%s file=%s what=no_copy error=%s", s->section,
                name, mqg_logqs(jrn_errno(r)));
}

/* Cuts the file to its whole batches. */
static int find_cut(struct mqg_store *s, const struct stream_part *p, struct part_file *f, bool damage)
{
    int fd = jrn_part_file_open(s, f, O_RDWR);
    if (fd < 0)
        return fd;
    if (damage)
        find_quarantine(s, f, fd, f->bytes);
    int r = s->fs->ftruncate(s->fs->ctx, fd, p->tail.bytes);
    if (r == 0)
        r = jrn_fs_sync(s->fs, fd);
    jrn_part_file_unpin(s, f);
    if (r == 0)
        f->bytes = p->tail.bytes;
    return r;
}

static enum mqg_err find_damage(struct mqg_store *s, const struct part_file *f, uint64_t at, const char *what,
                                struct mqg_error *e)
{
    char name[PART_NAME];
    jrn_part_name(f, "log", "", name);
    mqg_log(MQG_LOG_ERROR, MQG_EVENT_CORRUPTION, "store=%s file=%s at=%" PRIu64 " what=%s", s->section, name,
            at, mqg_logqs(what));
    return s->keep_going ? MQG_OK
                         : mqg_error_set(e, MQG_CORRUPT, 0,
                                         "%s/%s at %" PRIu64
                                         ": %s; restore it, or set %s.on_corruption=continue to go on "
                                         "with what can be read",
                                         s->path, name, at, what, s->section);
}

/* Has the journal what comes behind the whole batches: the next one, and all up to `end`? (What was trimmed nobody misses;
 * rows are in the order of their offsets.) */
static bool find_has(const struct stream_part *p, uint64_t end)
{
    bool trimmed = p->tail.end < p->log_start;
    uint64_t at = trimmed ? p->log_start : p->tail.end;
    for (uint32_t i = 0; i < p->n && p->at[i].base_offset <= at; i++)
        if (jrn_batch_end(&p->at[i]) > at)
            at = jrn_batch_end(&p->at[i]);
    return (trimmed || at > p->tail.end) && at >= end;
}

enum mqg_err jrn_part_found(struct mqg_store *s, struct stream_part *p, struct mqg_error *e)
{
    enum mqg_err err = MQG_OK;
    if (p->nfile == 0)
        return MQG_OK;
    struct part_file *f = p->files[p->nfile - 1];
    bool lost = p->tail.lost && !find_has(p, p->tail.lost_end), torn = p->tail.torn && !find_has(p, 0);
    if (p->files[0]->base > p->log_start)
        err = find_damage(s, p->files[0], 0, "the file before it is missing", e);
    if (err == MQG_OK && lost)
        err = find_damage(s, f, p->tail.bytes, "bytes that had been synced are missing", e);
    else if (err == MQG_OK && torn)
        err = find_damage(s, f, p->tail.bytes, "a batch that had been synced does not check", e);
    if (err != MQG_OK || !p->tail.torn)
        return err;
    mqg_log(MQG_LOG_WARN, MQG_EVENT_RECOVERY,
            "store=%s what=torn_stream partition=%" PRIu64 " cut_at=%" PRIu64, s->section, p->id,
            p->tail.end);
    int r = find_cut(s, p, f, torn);
    return r < 0 ? find_io(s, e, "cut", "a partition's file", r) : MQG_OK;
}
