/* scan.c - recovery's eyes: a window over the files, frames that check, heads that are left, damage said and
 * copied aside. recover.c tells what is made of it. */
#include "scan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

enum { SCAN_WINDOW = 4 << 20, SCAN_GLANCE = 64 << 10 };

enum mqg_err jrn_scan_io(struct scan *sc, const char *call, const char *name, int r)
{
    return mqg_error_set(sc->e, MQG_IO, 0, "%s of %s/%s: %s", call, sc->s->path, name, jrn_errno(r));
}

/* ---- reading ------------------------------------------------------------------------------------------- */

/* n bytes at off, or fewer at the end of the file; out borrows the window. */
enum mqg_err jrn_scan_bytes(struct scan *sc, const struct jrn_seg *seg, uint64_t off, size_t n,
                            struct mqg_slice *out)
{
    *out = MQG_SLICE_NONE;
    if (sc->in != seg || off < sc->from || off + n > sc->from + sc->have) {
        size_t window = sc->glance ? SCAN_GLANCE : SCAN_WINDOW, want = n > window ? n : window;
        if (want > sc->cap) {
            sc->buf = mqg_xrealloc(sc->buf, want);
            sc->cap = want;
        }
        ssize_t got = jrn_fs_read(sc->s->fs, seg->fd, sc->buf, want, off);
        sc->in = got < 0 ? NULL : seg;
        if (got < 0)
            return jrn_scan_io(sc, "read", seg->name, (int)got);
        sc->from = off;
        sc->have = (size_t)got;
    }
    size_t left = (size_t)(sc->from + sc->have - off);
    *out = mqg_slice_of(sc->buf + (off - sc->from), left < n ? left : n);
    return MQG_OK;
}

/* The frame at off, checked whole; CORRUPT when there is none. */
enum mqg_err jrn_scan_frame(struct scan *sc, const struct jrn_seg *seg, uint64_t off, struct jrn_frame *f,
                            struct mqg_slice *bytes)
{
    if (off + JRN_FRAME_HEAD > seg->bytes)
        return MQG_CORRUPT;
    enum mqg_err err = jrn_scan_bytes(sc, seg, off, JRN_FRAME_HEAD, bytes);
    if (err == MQG_OK)
        err = jrn_frame_head(*bytes, &seg->use, off, f);
    if (err != MQG_OK)
        return err;
    if (f->length > seg->bytes - off)
        return MQG_CORRUPT;
    err = jrn_scan_bytes(sc, seg, off, f->length, bytes);
    return err == MQG_OK ? jrn_frame_check(*bytes, &seg->use, f) : err;
}

enum mqg_err jrn_scan_rest(struct scan *sc, const struct jrn_seg *seg, uint64_t off, uint64_t end,
                           uint64_t number, struct scan_rest *rest)
{
    struct mqg_slice bytes;
    struct jrn_frame f;
    *rest = (struct scan_rest){0, 0};
    for (; off + JRN_BLOCK <= end; off += JRN_BLOCK) {
        enum mqg_err err = jrn_scan_bytes(sc, seg, off, JRN_BLOCK, &bytes);
        if (err != MQG_OK)
            return err;
        if (jrn_frame_head(bytes, &seg->use, off, &f) != MQG_OK)
            continue;
        rest->any = rest->any ? rest->any : off;
        if (f.durable_at_write > number) {
            rest->witness = off;
            return MQG_OK;
        }
    }
    return MQG_OK;
}

/* ---- damage -------------------------------------------------------------------------------------------- */

static enum mqg_err scan_copy(struct scan *sc, const struct jrn_seg *seg, int to)
{
    for (uint64_t off = 0; off < seg->bytes; off += SCAN_WINDOW) {
        struct mqg_slice bytes;
        enum mqg_err err = jrn_scan_bytes(sc, seg, off, SCAN_WINDOW, &bytes);
        if (err != MQG_OK || bytes.len == 0)
            return err;
        struct iovec iov = {(void *)(uintptr_t)bytes.ptr, bytes.len};
        int r = jrn_fs_write(sc->s->fs, to, &iov, 1, off);
        if (r < 0)
            return jrn_scan_io(sc, "write", "quarantine", r);
    }
    return MQG_OK;
}

/* Copies the file aside, once per use of it: a restart in a loop must not fill the disk. */
static void scan_quarantine(struct scan *sc, const struct jrn_seg *seg)
{
    char name[96], path[4096];
    snprintf(name, sizeof name, "quarantine-%s-%016llx", seg->name, (unsigned long long)seg->use.nonce);
    jrn_path(sc->s, name, path);
    int fd = sc->s->fs->open(sc->s->fs->ctx, path, O_WRONLY | O_CREAT | O_EXCL);
    if (fd == -EEXIST)
        return;
    bool good = fd >= 0 && scan_copy(sc, seg, fd) == MQG_OK && jrn_fs_sync(sc->s->fs, fd) == 0;
    if (fd >= 0)
        sc->s->fs->close(sc->s->fs->ctx, fd);
    mqg_log(MQG_LOG_ERROR, MQG_EVENT_CORRUPTION, "store=%s file=%s quarantine=%s copied=%s", sc->s->section,
            seg->name, name, good ? "yes" : "no");
}

enum mqg_err jrn_scan_damage(struct scan *sc, const struct jrn_seg *seg, uint64_t off, const char *what)
{
    sc->damages++;
    mqg_log(MQG_LOG_ERROR, MQG_EVENT_CORRUPTION, "store=%s file=%s at=%llu what=%s", sc->s->section,
            seg ? seg->name : "none", (unsigned long long)off, mqg_logqs(what));
    if (seg)
        scan_quarantine(sc, seg);
    if (sc->s->keep_going)
        return MQG_OK;
    return mqg_error_set(
        sc->e, MQG_CORRUPT, 0,
        "%s/%s is damaged at byte %llu: %s. Restore it, or set %s.on_corruption=continue to start with "
        "what can be read",
        sc->s->path, seg ? seg->name : "", (unsigned long long)off, what, sc->s->section);
}

/* ---- 1 files ------------------------------------------------------------------------------------------- */

struct scan_names {
    struct scan *sc;
    char (*names)[32];
    size_t n, cap;
};

static void scan_name(void *arg, const char *name)
{
    struct scan_names *list = arg;
    size_t len = strlen(name);
    if (jrn_index_is_name(name)) {
        *FOUND_PUSH(list->sc, indexes, nindex, cap_index) = mqg_xstrdup(name);
        return;
    }
    if (len < 5 || len >= 32 || strcmp(name + len - 4, ".seg") != 0)
        return;
    if (list->n == list->cap) {
        list->cap = list->cap ? list->cap * 2 : 64;
        list->names = mqg_xrealloc(list->names, list->cap * sizeof *list->names);
    }
    memcpy(list->names[list->n++], name, len + 1);
    uint64_t number = strtoull(name, NULL, 10);
    if (number >= list->sc->s->next_file)
        list->sc->s->next_file = number + 1;
}

static bool scan_zeros(struct mqg_slice bytes)
{
    for (size_t i = 0; i < bytes.len; i++)
        if (bytes.ptr[i])
            return false;
    return true;
}

/* Reads the header. NOT_FOUND: never finished, to be removed. */
static enum mqg_err scan_header(struct scan *sc, struct jrn_seg *seg)
{
    struct jrn_seg_head h;
    struct mqg_slice head, first;
    uint8_t copy[JRN_SEG_HEAD];
    enum mqg_err err = jrn_scan_bytes(sc, seg, 0, JRN_SEG_HEAD, &head);
    if (err != MQG_OK)
        return err;
    memcpy(copy, head.ptr, head.len);
    bool zeros = head.len < JRN_SEG_HEAD || scan_zeros(head);
    if (zeros) {
        err = jrn_scan_bytes(sc, seg, JRN_HEADER_BYTES, 4, &first);
        bool used = err == MQG_OK && first.len == 4 && mqg_le32(first.ptr) == JRN_FRAME_MAGIC;
        if (err != MQG_OK || !used)
            return err != MQG_OK ? err : MQG_NOT_FOUND;
    }
    err = zeros ? MQG_CORRUPT : jrn_seg_head_decode(mqg_slice_of(copy, sizeof copy), &h, sc->e);
    if (err == MQG_UNSUPPORTED)
        return err;
    if (err != MQG_OK) {
        err = jrn_scan_damage(sc, seg, 0, "the header does not check");
        return err == MQG_OK ? MQG_EXISTS : err; /* left where it is */
    }
    seg->use = h.use;
    seg->version = h.version;
    seg->oversized = (h.flags & JRN_SEG_OVERSIZED) != 0;
    seg->makeshift = (h.flags & JRN_SEG_MAKESHIFT) != 0;
    if (h.bytes > seg->bytes) /* the size was synced before the header was written: somebody cut the file */
        return jrn_scan_damage(sc, seg, seg->bytes, "the file is shorter than its header says");
    seg->bytes = h.bytes;
    return MQG_OK;
}

static enum mqg_err scan_uuid(struct scan *sc, const struct jrn_seg *seg)
{
    if (sc->nall == 1)
        memcpy(sc->s->uuid, seg->use.uuid, 16);
    if (memcmp(sc->s->uuid, seg->use.uuid, 16) == 0)
        return MQG_OK;
    return mqg_error_set(sc->e, MQG_CORRUPT, 0, "%s holds segments of two journals (%s is of another)",
                         sc->s->path, seg->name);
}

static enum mqg_err scan_open(struct scan *sc, const char *name)
{
    char path[4096];
    struct jrn_seg *seg = jrn_seg_new();
    memcpy(seg->name, name, strlen(name) + 1);
    jrn_path(sc->s, name, path);
    seg->fd = sc->s->fs->open(sc->s->fs->ctx, path, O_RDWR);
    int r = seg->fd < 0 ? seg->fd : sc->s->fs->size(sc->s->fs->ctx, seg->fd, &seg->bytes);
    if (r < 0) {
        jrn_seg_free(sc->s, &seg);
        return jrn_scan_io(sc, "open", name, r);
    }
    sc->s->disk_bytes += seg->bytes;
    enum mqg_err err = scan_header(sc, seg);
    if (err == MQG_OK) {
        if (sc->nall == sc->cap_all) {
            sc->cap_all = sc->cap_all ? sc->cap_all * 2 : 64;
            sc->all = mqg_xrealloc(sc->all, sc->cap_all * sizeof(struct jrn_seg *));
        }
        sc->all[sc->nall++] = seg;
        return scan_uuid(sc, seg);
    }
    sc->in = NULL;
    if (err == MQG_NOT_FOUND)
        jrn_seg_unlink(sc->s, &seg);
    else
        jrn_seg_free(sc->s, &seg);
    return err == MQG_NOT_FOUND || err == MQG_EXISTS ? MQG_OK : err;
}

enum mqg_err jrn_scan_files(struct scan *sc)
{
    struct scan_names list = {.sc = sc};
    int r = sc->s->fs->list(sc->s->fs->ctx, sc->s->path, scan_name, &list);
    enum mqg_err err = r < 0 ? jrn_scan_io(sc, "list", "", r) : MQG_OK;
    sc->glance = true;
    for (size_t i = 0; i < list.n && err == MQG_OK; i++)
        err = scan_open(sc, list.names[i]);
    sc->glance = false;
    free(list.names);
    return err;
}

/* ---- 2 sequences --------------------------------------------------------------------------------------- */

static enum mqg_err scan_sequences(struct scan *sc)
{
    for (size_t i = 0; i < sc->nall; i++) {
        struct jrn_seg *seg = sc->all[i];
        struct jrn_frame f;
        struct mqg_slice bytes;
        enum mqg_err err = jrn_scan_frame(sc, seg, JRN_HEADER_BYTES, &f, &bytes);
        if (err != MQG_OK && err != MQG_CORRUPT)
            return err;
        if (err == MQG_CORRUPT)
            continue;
        seg->seq = f.seq;
        seg->first_number = f.number;
        if (jrn_seg_is_cold(seg)) /* counts only if the main log says so */
            continue;
        if (!sc->tail || seg->seq > sc->tail->seq)
            sc->tail = seg;
    }
    return MQG_OK;
}

enum mqg_err jrn_scan_sequences(struct scan *sc)
{
    sc->glance = true;
    enum mqg_err err = scan_sequences(sc);
    sc->glance = false;
    sc->in = NULL;
    return err;
}
