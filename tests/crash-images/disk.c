/* disk.c - see disk.h. */
#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- content ---------------------------------------------------------------------------------------------------- */

static void disk_page_drop(struct disk_page **p)
{
    if (*p && atomic_fetch_sub_explicit(&(*p)->refs, 1, memory_order_acq_rel) == 1)
        free(*p);
    *p = NULL;
}

static void disk_pages(struct disk_file *f, size_t n)
{
    if (n <= f->npage)
        return;
    f->pages = mqg_xrealloc(f->pages, n * sizeof *f->pages);
    memset(f->pages + f->npage, 0, (n - f->npage) * sizeof *f->pages);
    f->npage = n;
}

/* The page as one that only this file has. */
static uint8_t *disk_own_page(struct disk_file *f, size_t i)
{
    struct disk_page *p = f->pages[i];
    if (p && atomic_load_explicit(&p->refs, memory_order_acquire) == 1)
        return p->data;
    struct disk_page *own = mqg_xmalloc(sizeof *own);
    own->refs = 1;
    if (p)
        memcpy(own->data, p->data, DISK_PAGE);
    else
        memset(own->data, 0, DISK_PAGE);
    disk_page_drop(&f->pages[i]);
    f->pages[i] = own;
    return own->data;
}

void disk_file_at_least(struct disk *d, uint32_t file)
{
    if (file >= d->cap_file) {
        d->cap_file = file * 2 + 16;
        d->files = mqg_xrealloc(d->files, d->cap_file * sizeof *d->files);
    }
    while (d->nfile <= file)
        d->files[d->nfile++] = (struct disk_file){NULL, 0, 0};
}

void disk_put(struct disk *d, uint32_t file, uint64_t off, const uint8_t *data, size_t len)
{
    struct disk_file *f = &d->files[file];
    if (off + len > f->size)
        f->size = off + len;
    disk_pages(f, (f->size + DISK_PAGE - 1) / DISK_PAGE);
    while (len > 0) {
        size_t page = off / DISK_PAGE, in = off % DISK_PAGE;
        size_t n = len < DISK_PAGE - in ? len : DISK_PAGE - in;
        if (!data && n == DISK_PAGE)
            disk_page_drop(&f->pages[page]);
        else if (data)
            memcpy(disk_own_page(f, page) + in, data, n);
        else if (f->pages[page])
            memset(disk_own_page(f, page) + in, 0, n);
        data = data ? data + n : NULL;
        off += n;
        len -= n;
    }
}

void disk_resize(struct disk *d, uint32_t file, uint64_t size)
{
    struct disk_file *f = &d->files[file];
    size_t keep = (size + DISK_PAGE - 1) / DISK_PAGE;
    if (size < f->size) {
        for (size_t i = keep; i < f->npage; i++)
            disk_page_drop(&f->pages[i]);
        if (size % DISK_PAGE && f->pages[keep - 1])
            memset(disk_own_page(f, keep - 1) + size % DISK_PAGE, 0, DISK_PAGE - size % DISK_PAGE);
    }
    f->size = size;
    disk_pages(f, keep);
}

size_t disk_read(const struct disk *d, uint32_t file, uint64_t off, uint8_t *out, size_t len)
{
    const struct disk_file *f = &d->files[file];
    size_t left = off >= f->size ? 0 : f->size - off < len ? (size_t)(f->size - off) : len, done = 0;
    while (done < left) {
        size_t page = (off + done) / DISK_PAGE, in = (off + done) % DISK_PAGE;
        size_t n = left - done < DISK_PAGE - in ? left - done : DISK_PAGE - in;
        if (page < f->npage && f->pages[page])
            memcpy(out + done, f->pages[page]->data + in, n);
        else
            memset(out + done, 0, n);
        done += n;
    }
    return left;
}

/* ---- names ------------------------------------------------------------------------------------------------------ */

struct disk_name *disk_find(struct disk *d, const char *path)
{
    for (size_t i = 0; i < d->nname; i++)
        if (strcmp(d->names[i].path, path) == 0)
            return &d->names[i];
    return NULL;
}

void disk_link(struct disk *d, const char *path, uint32_t file)
{
    struct disk_name *name = disk_find(d, path);
    if (!name) {
        if (d->nname == d->cap_name) {
            d->cap_name = d->cap_name ? d->cap_name * 2 : 64;
            d->names = mqg_xrealloc(d->names, d->cap_name * sizeof *d->names);
        }
        name = &d->names[d->nname++];
        MQG_ASSERT(strlen(path) < sizeof name->path);
        snprintf(name->path, sizeof name->path, "%s", path);
    }
    name->file = file;
}

void disk_unlink(struct disk *d, const char *path)
{
    struct disk_name *name = disk_find(d, path);
    if (name)
        *name = d->names[--d->nname];
}

/* ---- the log ---------------------------------------------------------------------------------------------------- */

static size_t disk_log_add(struct disk *d, struct disk_event e)
{
    struct disk_log *log = d->log;
    if (!log)
        return 0;
    if (log->n == log->cap) {
        log->cap = log->cap ? log->cap * 2 : 1024;
        log->at = mqg_xrealloc(log->at, log->cap * sizeof *log->at);
    }
    log->at[log->n] = e;
    return log->n++;
}

static char *disk_copy(const struct disk *d, const char *path)
{
    return d->log ? mqg_xstrdup(path) : NULL;
}

void disk_mark(struct disk *d, uint64_t number)
{
    pthread_mutex_lock(&d->lock);
    disk_log_add(d, (struct disk_event){.op = DISK_MARK, .off = number});
    pthread_mutex_unlock(&d->lock);
}

void disk_log_fini(struct disk_log *log)
{
    for (size_t i = 0; i < log->n; i++) {
        free(log->at[i].data);
        free(log->at[i].path);
        free(log->at[i].to);
    }
    free(log->at);
    *log = (struct disk_log){NULL, 0, 0};
}

/* ---- the table -------------------------------------------------------------------------------------------------- */

static uint32_t disk_fd(const struct disk *d, int fd)
{
    MQG_ASSERT(fd >= DISK_FD_BASE && fd < DISK_FD_BASE + DISK_FDS && d->fds[fd - DISK_FD_BASE] != 0);
    return d->fds[fd - DISK_FD_BASE] - 1;
}

static int disk_open_locked(struct disk *d, const char *path, int flags)
{
    const struct disk_name *name = disk_find(d, path);
    uint32_t file = name ? name->file : 0;
    if (name && (flags & O_EXCL))
        return -EEXIST;
    if (!name && !(flags & O_CREAT))
        return -ENOENT;
    if (name && file == DISK_NO_FILE)
        return -EISDIR;
    if (!name) {
        file = d->nfile;
        disk_file_at_least(d, file);
        disk_link(d, path, file);
        disk_log_add(d, (struct disk_event){.op = DISK_LINK, .file = file, .path = disk_copy(d, path)});
    }
    for (int i = 0; i < DISK_FDS; i++) {
        if (d->fds[i])
            continue;
        d->fds[i] = file + 1;
        return DISK_FD_BASE + i;
    }
    return -EMFILE;
}

static int disk_open(void *ctx, const char *path, int flags)
{
    struct disk *d = ctx;
    pthread_mutex_lock(&d->lock);
    int r = disk_open_locked(d, path, flags);
    pthread_mutex_unlock(&d->lock);
    return r;
}

static int disk_close(void *ctx, int fd)
{
    struct disk *d = ctx;
    pthread_mutex_lock(&d->lock);
    (void)disk_fd(d, fd);
    d->fds[fd - DISK_FD_BASE] = 0;
    pthread_mutex_unlock(&d->lock);
    return 0;
}

static bool disk_is_zero(const uint8_t *p, size_t len)
{
    return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

static ssize_t disk_pwritev(void *ctx, int fd, const struct iovec *iov, int n, uint64_t off)
{
    struct disk *d = ctx;
    size_t len = 0, at = 0;
    for (int i = 0; i < n; i++)
        len += iov[i].iov_len;
    uint8_t *data = mqg_xmalloc(len ? len : 1);
    for (int i = 0; i < n; at += iov[i].iov_len, i++)
        if (iov[i].iov_len)
            memcpy(data + at, iov[i].iov_base, iov[i].iov_len);
    if (disk_is_zero(data, len)) {
        free(data);
        data = NULL;
    }
    pthread_mutex_lock(&d->lock);
    uint32_t file = disk_fd(d, fd);
    disk_put(d, file, off, data, len);
    disk_log_add(d,
                 (struct disk_event){.op = DISK_WRITE, .file = file, .off = off, .len = len, .data = data});
    bool logged = d->log != NULL;
    pthread_mutex_unlock(&d->lock);
    if (!logged)
        free(data);
    return (ssize_t)len;
}

static ssize_t disk_preadv(void *ctx, int fd, const struct iovec *iov, int n, uint64_t off, bool nowait)
{
    struct disk *d = ctx;
    size_t got = 0;
    (void)nowait;
    pthread_mutex_lock(&d->lock);
    uint32_t file = disk_fd(d, fd);
    for (int i = 0; i < n; i++) {
        size_t r = disk_read(d, file, off + got, iov[i].iov_base, iov[i].iov_len);
        got += r;
        if (r < iov[i].iov_len)
            break;
    }
    pthread_mutex_unlock(&d->lock);
    return (ssize_t)got;
}

static void disk_wait(struct disk *d)
{
    pthread_mutex_lock(&d->lock);
    unsigned us = d->delay_us ? (unsigned)(disk_random(&d->rng) % d->delay_us) : 0;
    pthread_mutex_unlock(&d->lock);
    if (us)
        usleep(us); /* lint:allow banned_calls a disk takes its time */
}

static int disk_fdatasync(void *ctx, int fd)
{
    struct disk *d = ctx;
    if (d->drop_sync)
        return 0;
    pthread_mutex_lock(&d->lock);
    uint32_t file = disk_fd(d, fd);
    size_t begin = disk_log_add(d, (struct disk_event){.op = DISK_SYNC, .file = file});
    pthread_mutex_unlock(&d->lock);
    disk_wait(d);
    pthread_mutex_lock(&d->lock);
    disk_log_add(d, (struct disk_event){.op = DISK_SYNCED, .file = file, .off = begin});
    pthread_mutex_unlock(&d->lock);
    return 0;
}

static int disk_fsync_dir(void *ctx, const char *path)
{
    struct disk *d = ctx;
    pthread_mutex_lock(&d->lock);
    size_t begin = disk_log_add(d, (struct disk_event){.op = DISK_DIR_SYNC, .path = disk_copy(d, path)});
    pthread_mutex_unlock(&d->lock);
    disk_wait(d);
    pthread_mutex_lock(&d->lock);
    disk_log_add(d, (struct disk_event){.op = DISK_DIR_SYNCED, .off = begin, .path = disk_copy(d, path)});
    pthread_mutex_unlock(&d->lock);
    return 0;
}

static int disk_table_rename(void *ctx, const char *from, const char *to)
{
    struct disk *d = ctx;
    pthread_mutex_lock(&d->lock);
    const struct disk_name *name = disk_find(d, from);
    bool there = name != NULL;
    uint32_t file = there ? name->file : 0;
    if (there) {
        disk_unlink(d, from);
        disk_link(d, to, file);
        disk_log_add(
            d, (struct disk_event){
                   .op = DISK_RENAME, .file = file, .path = disk_copy(d, from), .to = disk_copy(d, to)});
    }
    pthread_mutex_unlock(&d->lock);
    return there ? 0 : -ENOENT;
}

static int disk_table_unlink(void *ctx, const char *path)
{
    struct disk *d = ctx;
    pthread_mutex_lock(&d->lock);
    bool there = disk_find(d, path) != NULL;
    disk_unlink(d, path);
    if (there)
        disk_log_add(d, (struct disk_event){.op = DISK_UNLINK, .path = disk_copy(d, path)});
    pthread_mutex_unlock(&d->lock);
    return there ? 0 : -ENOENT;
}

static int disk_set_size(struct disk *d, int fd, uint64_t bytes, bool at_least)
{
    pthread_mutex_lock(&d->lock);
    uint32_t file = disk_fd(d, fd);
    if (!at_least || d->files[file].size < bytes)
        disk_resize(d, file, bytes);
    disk_log_add(d, (struct disk_event){.op = DISK_RESIZE, .file = file, .off = bytes, .len = at_least});
    pthread_mutex_unlock(&d->lock);
    return 0;
}

static int disk_ftruncate(void *ctx, int fd, uint64_t bytes)
{
    return disk_set_size(ctx, fd, bytes, false);
}

static int disk_fallocate(void *ctx, int fd, uint64_t bytes)
{
    return disk_set_size(ctx, fd, bytes, true);
}

static int disk_size(void *ctx, int fd, uint64_t *bytes)
{
    struct disk *d = ctx;
    pthread_mutex_lock(&d->lock);
    *bytes = d->files[disk_fd(d, fd)].size;
    pthread_mutex_unlock(&d->lock);
    return 0;
}

static int disk_flock(void *ctx, int fd)
{
    (void)ctx;
    (void)fd;
    return 0;
}

static int disk_space(void *ctx, const char *path, uint64_t *free_bytes)
{
    (void)ctx;
    (void)path;
    *free_bytes = 1ull << 40;
    return 0;
}

/* Is the folder there that path is to be made in? */
static bool disk_has_parent(struct disk *d, const char *path)
{
    char parent[DISK_PATH];
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path)
        return true;
    snprintf(parent, sizeof parent, "%.*s", (int)(slash - path), path);
    return disk_find(d, parent) != NULL;
}

static int disk_mkdir(void *ctx, const char *path)
{
    struct disk *d = ctx;
    pthread_mutex_lock(&d->lock);
    bool there = disk_find(d, path) != NULL, good = disk_has_parent(d, path);
    if (!there && good) {
        disk_link(d, path, DISK_NO_FILE);
        disk_log_add(d,
                     (struct disk_event){.op = DISK_LINK, .file = DISK_NO_FILE, .path = disk_copy(d, path)});
    }
    pthread_mutex_unlock(&d->lock);
    return there ? -EEXIST : good ? 0 : -ENOENT;
}

/* Is path an entry of the folder itself? Its last part, or NULL. */
static const char *disk_entry(const char *folder, const char *path)
{
    size_t n = strlen(folder);
    if (strncmp(path, folder, n) != 0 || path[n] != '/')
        return NULL;
    return strchr(path + n + 1, '/') ? NULL : path + n + 1;
}

static int disk_list(void *ctx, const char *path, void (*each)(void *arg, const char *name), void *arg)
{
    struct disk *d = ctx;
    pthread_mutex_lock(&d->lock);
    size_t n = d->nname;
    struct disk_name *copy = mqg_xmalloc((n ? n : 1) * sizeof *copy);
    memcpy(copy, d->names, n * sizeof *copy);
    bool there = disk_find(d, path) != NULL;
    pthread_mutex_unlock(&d->lock);
    for (size_t i = 0; i < n; i++)
        if (disk_entry(path, copy[i].path))
            each(arg, disk_entry(path, copy[i].path));
    free(copy);
    return there ? 0 : -ENOENT;
}

static int disk_willneed(void *ctx, int fd, uint64_t off, uint64_t len)
{
    (void)ctx;
    (void)fd;
    (void)off;
    (void)len;
    return 0;
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

struct disk *disk_new(void)
{
    struct disk *d = mqg_xcalloc(1, sizeof *d);
    d->fs = (struct jrn_fs){.ctx = d,
                            .open = disk_open,
                            .close = disk_close,
                            .pwritev = disk_pwritev,
                            .preadv = disk_preadv,
                            .fdatasync = disk_fdatasync,
                            .fsync_dir = disk_fsync_dir,
                            .rename = disk_table_rename,
                            .unlink = disk_table_unlink,
                            .ftruncate = disk_ftruncate,
                            .fallocate = disk_fallocate,
                            .size = disk_size,
                            .lock = disk_flock,
                            .space = disk_space,
                            .mkdir = disk_mkdir,
                            .list = disk_list,
                            .willneed = disk_willneed,
                            .rmdir = disk_table_unlink};
    pthread_mutex_init(&d->lock, NULL);
    return d;
}

struct disk *disk_clone(const struct disk *d)
{
    struct disk *c = disk_new();
    c->files = mqg_xcalloc(d->nfile ? d->nfile : 1, sizeof *c->files);
    c->nfile = c->cap_file = d->nfile;
    for (uint32_t i = 0; i < d->nfile; i++) {
        const struct disk_file *f = &d->files[i];
        c->files[i] = (struct disk_file){NULL, 0, f->size};
        disk_pages(&c->files[i], f->npage);
        for (size_t p = 0; p < f->npage; p++) {
            c->files[i].pages[p] = f->pages[p];
            if (f->pages[p])
                f->pages[p]->refs++;
        }
    }
    c->names = mqg_xcalloc(d->nname ? d->nname : 1, sizeof *c->names);
    c->nname = c->cap_name = d->nname;
    if (d->nname)
        memcpy(c->names, d->names, d->nname * sizeof *c->names);
    return c;
}

void disk_free(struct disk **disk)
{
    struct disk *d = *disk;
    if (!d)
        return;
    for (uint32_t i = 0; i < d->nfile; i++) {
        for (size_t p = 0; p < d->files[i].npage; p++)
            disk_page_drop(&d->files[i].pages[p]);
        free(d->files[i].pages);
    }
    free(d->files);
    free(d->names);
    pthread_mutex_destroy(&d->lock);
    free(d);
    *disk = NULL;
}

static void disk_dump_file(const struct disk *d, uint32_t file, const char *path)
{
    uint8_t page[DISK_PAGE];
    size_t n;
    FILE *out = fopen(path, "wb");
    if (!out)
        return;
    for (uint64_t off = 0; (n = disk_read(d, file, off, page, sizeof page)) > 0; off += n)
        if (fwrite(page, 1, n, out) != n)
            break;
    fclose(out);
}

void disk_dump(struct disk *d, const char *folder)
{
    mkdir(folder, 0700);
    for (int files = 0; files < 2; files++) { /* folders first */
        for (size_t i = 0; i < d->nname; i++) {
            char path[4096];
            const char *rest = strchr(d->names[i].path + 1, '/'); /* without the store's own folder */
            if (!rest)
                continue;
            snprintf(path, sizeof path, "%s%s", folder, rest);
            if (files && d->names[i].file != DISK_NO_FILE)
                disk_dump_file(d, d->names[i].file, path);
            else if (!files && d->names[i].file == DISK_NO_FILE)
                mkdir(path, 0700);
        }
    }
}
