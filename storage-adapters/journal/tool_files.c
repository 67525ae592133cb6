/* tool_files.c - mqgatectl store: everything that lies in the folder, what it is, and what it takes.
 *
 * Segments that count and partitions' files have rows of their own. Of the rest each file is named: digests (derived; each is
 * read whole and every sum verified), spares, what an earlier life left, copies of damage, scratch files, strangers. The
 * folder itself is read here, not the view that the trial start has changed. */
#include "tool.h"

#include "index.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

enum { FILES_PIECE = 1 << 20, FILES_NAME = 600 };

struct files {
    struct tool *t;
    bool whole;
    struct tool_disk *sum;
    struct jrn_map spare_of, live_of; /* numbers of segment files -> 0 */
    char folder[PART_NAME];           /* of the partition that is listed; "" = the top */
    const struct stream_part *part;
    char (*names)[256];
    uint32_t n, cap;
};

/* ---- the folder --------------------------------------------------------------------------------------------- */

static void files_name(void *arg, const char *name)
{
    struct files *f = arg;
    snprintf(*STREAM_PUSH(f, names, n, cap), sizeof *f->names, "%s", name);
}

static int files_order(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Fills f->names with what stands in the folder. */
static void files_list(struct files *f, const char *folder)
{
    char path[4096];
    f->n = 0;
    jrn_path(f->t->s, folder, path);
    (void)jrn_fs_real.list(jrn_fs_real.ctx, path, files_name, f);
    if (f->n)
        qsort(f->names, f->n, sizeof *f->names, files_order);
}

static int files_open(const struct files *f, const char *name, uint64_t *bytes)
{
    char path[4096];
    jrn_path(f->t->s, name, path);
    int fd = jrn_fs_real.open(jrn_fs_real.ctx, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    *bytes = 0;
    if (fd >= 0)
        (void)jrn_fs_real.size(jrn_fs_real.ctx, fd, bytes);
    return fd;
}

static uint64_t files_bytes(const struct files *f, const char *name)
{
    uint64_t bytes;
    int fd = files_open(f, name, &bytes);
    if (fd >= 0)
        jrn_fs_real.close(jrn_fs_real.ctx, fd);
    return bytes;
}

static void files_row(const struct files *f, const char *name, uint64_t bytes, const char *is)
{
    tool_row(f->t, "file");
    tool_word(f->t, "file", name);
    tool_number(f->t, "bytes", bytes);
    tool_word(f->t, "is", is);
    tool_row_end(f->t);
}

/* ---- digests ------------------------------------------------------------------------------------------------ */

/* Every page against its sum. */
static bool files_pages(const struct files *f, const char *name, const struct jrn_digest *d,
                        uint64_t pages_at)
{
    uint64_t bytes;
    uint8_t *buf = NULL;
    size_t cap = 0;
    bool good = true;
    int fd = files_open(f, name, &bytes);
    for (uint32_t i = 0; i < d->nrow && good && fd >= 0; i++) {
        const struct jrn_row *row = &d->rows[i];
        if (row->page_len > cap)
            buf = mqg_xrealloc(buf, cap = row->page_len);
        good = jrn_fs_read(&jrn_fs_real, fd, buf, row->page_len, pages_at + row->page_off) ==
                   (ssize_t)row->page_len &&
               jrn_crc32c(0, buf, row->page_len) == row->page_crc;
    }
    free(buf);
    if (fd >= 0)
        jrn_fs_real.close(jrn_fs_real.ctx, fd);
    return good && fd >= 0;
}

/* The digest of a closed segment, as it lies on the disk. */
static const char *files_digest(struct files *f, const struct jrn_seg *seg, const char *name)
{
    struct mqg_store *s = f->t->s;
    const struct jrn_fs *view = s->fs;
    struct jrn_digest d;
    s->fs = &jrn_fs_real;
    enum mqg_err err = jrn_index_load(s, seg, &d);
    s->fs = view;
    if (err != MQG_OK)
        return err == MQG_NOT_FOUND ? "missing" : err == MQG_IO ? "unreadable" : "damaged";
    uint64_t pages_at = JRN_DIGEST_HEAD + (uint64_t)d.nrow * JRN_ROW_BYTES + mqg_dynbuf_view(&d.said).len +
                        mqg_dynbuf_view(&d.small).len;
    bool good = files_pages(f, name, &d, pages_at);
    jrn_digest_fini(&d);
    return good ? "good" : "damaged";
}

static void files_digests(struct files *f)
{
    struct tool *t = f->t;
    for (const struct jrn_seg *seg = t->s->segs; seg; seg = seg->next) {
        char name[64];
        if (seg == t->s->segs_last) /* it goes on being written, and has none */
            break;
        jrn_index_name(seg, name);
        const char *state = files_digest(f, seg, name);
        t->stale = t->stale || strcmp(state, "good") != 0;
        tool_row(t, "digest");
        tool_word(t, "file", name);
        tool_word(t, "of", seg->name);
        tool_word(t, "state", state);
        tool_row_end(t);
    }
}

/* ---- scratch files ------------------------------------------------------------------------------------------ */

/* Counts the records that check from the front on. */
static uint64_t files_scratch_records(const struct files *f, const char *name, uint64_t *good_bytes)
{
    uint8_t head[JRN_REC_HEAD], *buf = NULL;
    uint64_t bytes, n = 0;
    int fd = files_open(f, name, &bytes);
    *good_bytes = 0;
    while (fd >= 0 && jrn_fs_read(&jrn_fs_real, fd, head, sizeof head, *good_bytes) == (ssize_t)sizeof head) {
        uint32_t len = mqg_le32(head + 12), salt = mqg_le32(head + 4);
        if (head[8] != JRN_REC_MSG || len > bytes - *good_bytes - JRN_REC_HEAD)
            break;
        buf = mqg_xrealloc(buf, len + 1u);
        uint32_t crc = jrn_crc32c(salt, head + 4, JRN_REC_HEAD - 4);
        if (jrn_fs_read(&jrn_fs_real, fd, buf, len, *good_bytes + JRN_REC_HEAD) != (ssize_t)len ||
            jrn_crc32c(crc, buf, len) != mqg_le32(head))
            break;
        *good_bytes += JRN_REC_HEAD + len;
        n++;
    }
    free(buf);
    if (fd >= 0)
        jrn_fs_real.close(jrn_fs_real.ctx, fd);
    return n;
}

static void files_scratch(struct files *f, const char *name, uint64_t bytes)
{
    uint64_t good = 0, n = f->whole ? files_scratch_records(f, name, &good) : 0;
    tool_row(f->t, "file");
    tool_word(f->t, "file", name);
    tool_number(f->t, "bytes", bytes);
    tool_word(f->t, "is",
              "scratch: transient messages put aside by a process that ended; nothing of it counts");
    if (f->whole) {
        tool_number(f->t, "messages", n);
        tool_number(f->t, "checked_bytes", good);
    }
    tool_row_end(f->t);
}

/* ---- the top ------------------------------------------------------------------------------------------------ */

static bool files_ends(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n > m && strcmp(name + n - m, end) == 0;
}

static void files_segment(struct files *f, const char *name, uint64_t bytes)
{
    uint64_t number = strtoull(name, NULL, 10);
    f->sum->segments += bytes;
    if (jrn_map_get(&f->live_of, number) != JRN_MAP_NONE)
        return;
    bool spare = jrn_map_get(&f->spare_of, number) != JRN_MAP_NONE;
    files_row(f, name, bytes,
              spare ? "spare: a segment that does not count, to be used again"
                    : "a segment that does not count, or whose header does not check");
}

/* Is it the digest of a segment that counts? */
static bool files_is_digest(const struct files *f, const char *name)
{
    for (const struct jrn_seg *seg = f->t->s->segs; seg; seg = seg->next) {
        char of[64];
        jrn_index_name(seg, of);
        if (seg != f->t->s->segs_last && strcmp(of, name) == 0)
            return true;
    }
    return false;
}

static void files_top(struct files *f, const char *name)
{
    uint64_t bytes = strcmp(name, "streams") == 0 ? 0 : files_bytes(f, name);
    if (files_ends(name, ".seg")) {
        files_segment(f, name, bytes);
    } else if (jrn_index_is_name(name)) {
        f->sum->indexes += bytes;
        if (!files_is_digest(f, name))
            files_row(f, name, bytes, "digest of an earlier use: removed by the next start");
    } else if (strcmp(name, "lock") != 0 && strcmp(name, "streams") != 0) {
        f->sum->others += bytes;
        if (strcmp(name, "last") == 0)
            return;
        if (strcmp(name, "scratch") == 0)
            files_scratch(f, name, bytes);
        else
            files_row(f, name, bytes,
                      strncmp(name, "quarantine-", 11) == 0 ? "copy of a damaged file, as it was found"
                                                            : "not of the journal");
    }
}

/* ---- partitions' folders ------------------------------------------------------------------------------------ */

/* What a file of a partition is, when it is none that counts; NULL: it counts. */
static const char *files_in_part(const struct files *f, const char *name)
{
    struct part_name is;
    if (files_ends(name, ".tmp"))
        return "a compaction that did not end: removed by the next start";
    if (!jrn_part_parse(name, &is))
        return "not of the journal";
    for (uint32_t i = 0; f->part && i < f->part->nfile; i++) {
        const struct part_file *file = f->part->files[i];
        if (file->base == is.base && file->gen == is.gen && file->gaps == is.gaps)
            return NULL;
    }
    return f->part ? "compacted since, or below the log's start: removed by the next start"
                   : "of a partition that was deleted: removed by the next start";
}

static void files_part(struct files *f, const char *entry)
{
    char name[FILES_NAME];
    if ((size_t)snprintf(name, sizeof name, "%s/%s", f->folder, entry) >= sizeof name)
        return;
    uint64_t bytes = files_bytes(f, name);
    const char *is = files_in_part(f, entry);
    f->sum->partitions += bytes;
    if (is)
        files_row(f, name, bytes, is);
}

static void files_parts(struct files *f)
{
    files_list(f, "streams");
    uint32_t n = f->n;
    char(*folders)[256] = f->names;
    f->names = NULL;
    f->cap = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t id = strtoull(folders[i], NULL, 16);
        snprintf(f->folder, sizeof f->folder, "streams/%.80s", folders[i]);
        f->part = jrn_stream_find(f->t->s->streams, id);
        files_list(f, f->folder);
        for (uint32_t k = 0; k < f->n; k++)
            files_part(f, f->names[k]);
    }
    free(folders);
}

/* ---- all ---------------------------------------------------------------------------------------------------- */

static void files_numbers(struct jrn_map *m, const struct jrn_seg *seg)
{
    bool fresh;
    for (; seg; seg = seg->next)
        *jrn_map_put(m, strtoull(seg->name, NULL, 10), &fresh) = 0;
}

void tool_files(struct tool *t, bool whole, struct tool_disk *sum)
{
    struct files f = {.t = t, .whole = whole, .sum = sum};
    *sum = (struct tool_disk){0};
    files_numbers(&f.live_of, t->s->segs);
    files_numbers(&f.spare_of, t->s->spares);
    if (whole)
        files_digests(&f);
    files_list(&f, "");
    for (uint32_t i = 0; i < f.n; i++)
        files_top(&f, f.names[i]);
    files_parts(&f);
    free(f.names);
    jrn_map_fini(&f.live_of);
    jrn_map_fini(&f.spare_of);
}
