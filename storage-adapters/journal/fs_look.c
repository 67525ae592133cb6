/* fs_look.c - see fs_look.h.
 *
 * A file is the real one, opened for reading, under 64 KiB pages of what was written to it. Files that are made exist
 * in memory only; an unlinked one is only forgotten. */
#include "fs_look.h"

#include "map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LOOK_PAGE = 64 << 10 };

struct look_file {
    char *path;
    int fd; /* of the real file; -1: there is none */
    uint64_t size;
    bool gone;
    struct jrn_map at; /* page number -> index in pages */
    uint8_t **pages;
    uint32_t npage, cap_page;
};

struct jrn_fs_look {
    struct jrn_fs fs;
    struct look_file *files; /* a descriptor is an index */
    int nfile, cap_file;
    int lock_fd;
};

static struct look_file *look_file(void *ctx, int fd)
{
    struct jrn_fs_look *look = ctx;
    MQG_ASSERT(fd >= 0 && fd < look->nfile);
    return &look->files[fd];
}

static int look_find(const struct jrn_fs_look *look, const char *path)
{
    for (int i = 0; i < look->nfile; i++)
        if (!look->files[i].gone && strcmp(look->files[i].path, path) == 0)
            return i;
    return -1;
}

static int look_open(void *ctx, const char *path, int flags)
{
    struct jrn_fs_look *look = ctx;
    struct stat st = {.st_size = 0};
    int found = look_find(look, path);
    if (strstr(path, "/quarantine-"))
        return -EEXIST; /* damage is told, not copied */
    if (found >= 0)
        return (flags & O_EXCL) ? -EEXIST : found;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && (errno != ENOENT || !(flags & O_CREAT)))
        return -errno;
    if (fd >= 0 && ((flags & O_EXCL) || fstat(fd, &st) != 0)) {
        close(fd);
        return -EEXIST;
    }
    if (look->nfile == look->cap_file) {
        look->cap_file = look->cap_file ? look->cap_file * 2 : 64;
        look->files = mqg_xrealloc(look->files, (size_t)look->cap_file * sizeof *look->files);
    }
    look->files[look->nfile] = (struct look_file){
        .path = mqg_xstrdup(path), .fd = fd, .size = (uint64_t)st.st_size};
    return look->nfile++;
}

static int look_close(void *ctx, int fd)
{
    (void)look_file(ctx, fd); /* what was written is asked for again */
    return 0;
}

static ssize_t look_under(const struct look_file *f, uint8_t *to, size_t n, uint64_t off)
{
    ssize_t got = f->fd >= 0 ? pread(f->fd, to, n, (off_t)off) : 0;
    if (got < 0)
        return -errno;
    memset(to + got, 0, n - (size_t)got);
    return 0;
}

static int look_page(struct look_file *f, uint64_t number, uint8_t **out)
{
    bool fresh;
    uint32_t *at = jrn_map_put(&f->at, number, &fresh);
    if (fresh) {
        if (f->npage == f->cap_page) {
            f->cap_page = f->cap_page ? f->cap_page * 2 : 16;
            f->pages = mqg_xrealloc(f->pages, f->cap_page * sizeof(uint8_t *));
        }
        *at = f->npage++;
        f->pages[*at] = mqg_xmalloc(LOOK_PAGE);
        ssize_t r = look_under(f, f->pages[*at], LOOK_PAGE, number * LOOK_PAGE);
        if (r < 0)
            return (int)r;
    }
    *out = f->pages[*at];
    return 0;
}

static ssize_t look_pwritev(void *ctx, int fd, const struct iovec *iov, int n, uint64_t off)
{
    struct look_file *f = look_file(ctx, fd);
    size_t done = 0;
    for (int i = 0; i < n; i++) {
        const uint8_t *from = iov[i].iov_base;
        for (size_t left = iov[i].iov_len; left > 0;) {
            uint64_t at = off + done;
            size_t in = at % LOOK_PAGE, part = left < LOOK_PAGE - in ? left : LOOK_PAGE - in;
            uint8_t *page = NULL;
            int r = look_page(f, at / LOOK_PAGE, &page);
            if (r < 0)
                return r;
            memcpy(page + in, from, part);
            from += part;
            left -= part;
            done += part;
        }
    }
    if (off + done > f->size)
        f->size = off + done;
    return (ssize_t)done;
}

static ssize_t look_read(const struct look_file *f, uint8_t *to, size_t n, uint64_t off)
{
    size_t done = 0;
    n = off >= f->size ? 0 : f->size - off < n ? (size_t)(f->size - off) : n;
    if (f->npage == 0 && n > 0) {
        ssize_t r = look_under(f, to, n, off);
        return r < 0 ? r : (ssize_t)n;
    }
    while (done < n) {
        uint64_t at = off + done;
        size_t in = at % LOOK_PAGE, part = n - done < LOOK_PAGE - in ? n - done : LOOK_PAGE - in;
        uint32_t page = jrn_map_get(&f->at, at / LOOK_PAGE);
        ssize_t r = page == JRN_MAP_NONE ? look_under(f, to + done, part, at) : 0;
        if (r < 0)
            return r;
        if (page != JRN_MAP_NONE)
            memcpy(to + done, f->pages[page] + in, part);
        done += part;
    }
    return (ssize_t)done;
}

static ssize_t look_preadv(void *ctx, int fd, const struct iovec *iov, int n, uint64_t off, bool nowait)
{
    size_t done = 0;
    (void)nowait;
    for (int i = 0; i < n; i++) {
        ssize_t r = look_read(look_file(ctx, fd), iov[i].iov_base, iov[i].iov_len, off + done);
        if (r < 0)
            return r;
        done += (size_t)r;
        if ((size_t)r < iov[i].iov_len)
            break;
    }
    return (ssize_t)done;
}

static int look_nothing(void *ctx, int fd)
{
    (void)look_file(ctx, fd);
    return 0;
}

static int look_fsync_dir(void *ctx, const char *path)
{
    (void)ctx;
    (void)path;
    return 0;
}

static int look_unlink(void *ctx, const char *path)
{
    struct jrn_fs_look *look = ctx;
    int found = look_find(look, path);
    if (found < 0)
        return -ENOENT;
    look->files[found].gone = true;
    return 0;
}

static int look_rename(void *ctx, const char *from, const char *to)
{
    struct jrn_fs_look *look = ctx;
    int found = look_open(ctx, from, O_RDONLY), over = look_find(look, to);
    if (found < 0)
        return found;
    if (over >= 0)
        look->files[over].gone = true;
    free(look->files[found].path);
    look->files[found].path = mqg_xstrdup(to);
    return 0;
}

static int look_rmdir(void *ctx, const char *path)
{
    (void)ctx;
    (void)path;
    return 0;
}

static int look_ftruncate(void *ctx, int fd, uint64_t bytes)
{
    look_file(ctx, fd)->size = bytes;
    return 0;
}

static int look_fallocate(void *ctx, int fd, uint64_t bytes)
{
    struct look_file *f = look_file(ctx, fd);
    f->size = bytes > f->size ? bytes : f->size;
    return 0;
}

static int look_size(void *ctx, int fd, uint64_t *bytes)
{
    *bytes = look_file(ctx, fd)->size;
    return 0;
}

static int look_space(void *ctx, const char *path, uint64_t *free_bytes)
{
    (void)ctx;
    (void)path;
    *free_bytes = UINT64_MAX / 4;
    return 0;
}

static int look_mkdir(void *ctx, const char *path)
{
    struct stat st;
    (void)ctx;
    return stat(path, &st) == 0 ? -EEXIST : 0;
}

static int look_list(void *ctx, const char *path, void (*each)(void *arg, const char *name), void *arg)
{
    (void)ctx;
    return jrn_fs_real.list(jrn_fs_real.ctx, path, each, arg);
}

static int look_willneed(void *ctx, int fd, uint64_t off, uint64_t len)
{
    (void)off;
    (void)len;
    return look_nothing(ctx, fd);
}

static void look_holder(int fd, char out[64])
{
    char pid[32] = "";
    ssize_t n = pread(fd, pid, sizeof pid - 1, 0);
    pid[n > 0 ? n : 0] = '\0';
    pid[strspn(pid, "0123456789")] = '\0';
    snprintf(out, 64, "%s%s", pid[0] ? "process " : "another process", pid);
}

static void look_segments(void *arg, const char *name)
{
    size_t len = strlen(name);
    *(size_t *)arg += len > 4 && strcmp(name + len - 4, ".seg") == 0;
}

enum mqg_err jrn_fs_look_begin(struct jrn_fs_look *look, const char *path, struct mqg_error *e)
{
    char lock[4096], holder[64];
    size_t segments = 0;
    int r = jrn_fs_real.list(jrn_fs_real.ctx, path, look_segments, &segments);
    if (r < 0)
        return mqg_error_set(e, MQG_IO, 0, "%s: %s", path, strerror(-r));
    if (segments == 0)
        return mqg_error_set(e, MQG_NOT_FOUND, 0, "%s holds no journal: there is no *.seg", path);
    if ((size_t)snprintf(lock, sizeof lock, "%s/lock", path) >= sizeof lock)
        return mqg_error_set(e, MQG_IO, 0, "%s: the path is too long", path);
    look->lock_fd = open(lock, O_RDONLY | O_CLOEXEC);
    if (look->lock_fd < 0)
        return MQG_OK; /* a copy without it: nobody can hold it */
    if (flock(look->lock_fd, LOCK_SH | LOCK_NB) == 0)
        return MQG_OK;
    look_holder(look->lock_fd, holder);
    return mqg_error_set(e, MQG_LOCKED, 0, "%s is in use by %s; stop it, or look at a copy", path, holder);
}

struct jrn_fs_look *jrn_fs_look_new(void)
{
    struct jrn_fs_look *look = mqg_xcalloc(1, sizeof *look);
    look->lock_fd = -1;
    look->fs = (struct jrn_fs){.ctx = look,
                               .open = look_open,
                               .close = look_close,
                               .pwritev = look_pwritev,
                               .preadv = look_preadv,
                               .fdatasync = look_nothing,
                               .fsync_dir = look_fsync_dir,
                               .rename = look_rename,
                               .unlink = look_unlink,
                               .ftruncate = look_ftruncate,
                               .fallocate = look_fallocate,
                               .size = look_size,
                               .lock = look_nothing,
                               .space = look_space,
                               .mkdir = look_mkdir,
                               .list = look_list,
                               .willneed = look_willneed,
                               .rmdir = look_rmdir};
    return look;
}

void jrn_fs_look_free(struct jrn_fs_look **look)
{
    if (!*look)
        return;
    for (int i = 0; i < (*look)->nfile; i++) {
        struct look_file *f = &(*look)->files[i];
        for (uint32_t p = 0; p < f->npage; p++)
            free(f->pages[p]);
        free(f->pages);
        free(f->path);
        jrn_map_fini(&f->at);
        if (f->fd >= 0)
            close(f->fd);
    }
    free((*look)->files);
    if ((*look)->lock_fd >= 0)
        close((*look)->lock_fd);
    free(*look);
    *look = NULL;
}

const struct jrn_fs *jrn_fs_look_table(const struct jrn_fs_look *look)
{
    return &look->fs;
}
