/* fs_record.c - writes down every call in the order in which it happened, with the bytes that were written.
 * */
#include "fs_test.h"

#include <stdlib.h>

static struct jrn_fs_event *record_add(struct jrn_fs_record *r, enum jrn_fs_op op, int fd, uint64_t off,
                                       size_t len)
{
    if (r->n == r->cap) {
        r->cap = r->cap ? r->cap * 2 : 256;
        r->events = mqg_xrealloc(r->events, r->cap * sizeof *r->events);
    }
    r->events[r->n] = (struct jrn_fs_event){op, fd, off, len, NULL};
    return &r->events[r->n++];
}

static void record_event(struct jrn_fs_record *r, enum jrn_fs_op op, int fd, uint64_t off, size_t len)
{
    pthread_mutex_lock(&r->lock);
    record_add(r, op, fd, off, len);
    pthread_mutex_unlock(&r->lock);
}

static void record_path(struct jrn_fs_record *r, enum jrn_fs_op op, int fd, const char *path)
{
    pthread_mutex_lock(&r->lock);
    struct jrn_fs_event *e = record_add(r, op, fd, 0, strlen(path) + 1);
    e->data = (uint8_t *)mqg_xstrdup(path);
    pthread_mutex_unlock(&r->lock);
}

void jrn_fs_record_mark(struct jrn_fs_record *r, uint64_t number)
{
    record_event(r, JRN_FS_MARK, -1, number, 0);
}

static int record_open(void *ctx, const char *path, int flags)
{
    struct jrn_fs_record *r = ctx;
    int fd = r->under->open(r->under->ctx, path, flags);
    record_path(r, JRN_FS_OPEN, fd, path);
    return fd;
}

static int record_close(void *ctx, int fd)
{
    struct jrn_fs_record *r = ctx;
    return r->under->close(r->under->ctx, fd);
}

static ssize_t record_pwritev(void *ctx, int fd, const struct iovec *iov, int n, uint64_t off)
{
    struct jrn_fs_record *r = ctx;
    ssize_t got = r->under->pwritev(r->under->ctx, fd, iov, n, off);
    if (got <= 0)
        return got;
    pthread_mutex_lock(&r->lock);
    struct jrn_fs_event *e = record_add(r, JRN_FS_WRITE, fd, off, (size_t)got);
    e->data = mqg_xmalloc((size_t)got);
    size_t at = 0;
    for (int i = 0; i < n && at < (size_t)got; i++) {
        size_t len = iov[i].iov_len < (size_t)got - at ? iov[i].iov_len : (size_t)got - at;
        memcpy(e->data + at, iov[i].iov_base, len);
        at += len;
    }
    pthread_mutex_unlock(&r->lock);
    return got;
}

static ssize_t record_preadv(void *ctx, int fd, const struct iovec *iov, int n, uint64_t off, bool nowait)
{
    struct jrn_fs_record *r = ctx;
    return r->under->preadv(r->under->ctx, fd, iov, n, off, nowait);
}

static int record_fdatasync(void *ctx, int fd)
{
    struct jrn_fs_record *r = ctx;
    record_event(r, JRN_FS_SYNC, fd, 0, 0);
    int got = r->under->fdatasync(r->under->ctx, fd);
    if (got == 0)
        record_event(r, JRN_FS_SYNC_END, fd, 0, 0);
    return got;
}

static int record_fsync_dir(void *ctx, const char *path)
{
    struct jrn_fs_record *r = ctx;
    int got = r->under->fsync_dir(r->under->ctx, path);
    record_path(r, JRN_FS_SYNC_DIR, -1, path);
    return got;
}

static int record_rename(void *ctx, const char *from, const char *to)
{
    struct jrn_fs_record *r = ctx;
    record_event(r, JRN_FS_RENAME, -1, 0, 0);
    return r->under->rename(r->under->ctx, from, to);
}

static int record_unlink(void *ctx, const char *path)
{
    struct jrn_fs_record *r = ctx;
    record_path(r, JRN_FS_UNLINK, -1, path);
    return r->under->unlink(r->under->ctx, path);
}

static int record_ftruncate(void *ctx, int fd, uint64_t bytes)
{
    struct jrn_fs_record *r = ctx;
    record_event(r, JRN_FS_TRUNCATE, fd, bytes, 0);
    return r->under->ftruncate(r->under->ctx, fd, bytes);
}

static int record_fallocate(void *ctx, int fd, uint64_t bytes)
{
    struct jrn_fs_record *r = ctx;
    record_event(r, JRN_FS_ALLOCATE, fd, bytes, 0);
    return r->under->fallocate(r->under->ctx, fd, bytes);
}

static int record_size(void *ctx, int fd, uint64_t *bytes)
{
    struct jrn_fs_record *r = ctx;
    return r->under->size(r->under->ctx, fd, bytes);
}

static int record_lock(void *ctx, int fd)
{
    struct jrn_fs_record *r = ctx;
    return r->under->lock(r->under->ctx, fd);
}

static int record_space(void *ctx, const char *path, uint64_t *free_bytes)
{
    struct jrn_fs_record *r = ctx;
    return r->under->space(r->under->ctx, path, free_bytes);
}

static int record_mkdir(void *ctx, const char *path)
{
    struct jrn_fs_record *r = ctx;
    record_path(r, JRN_FS_MKDIR, -1, path);
    return r->under->mkdir(r->under->ctx, path);
}

static int record_list(void *ctx, const char *path, void (*each)(void *arg, const char *name), void *arg)
{
    struct jrn_fs_record *r = ctx;
    return r->under->list(r->under->ctx, path, each, arg);
}

static int record_willneed(void *ctx, int fd, uint64_t off, uint64_t len)
{
    struct jrn_fs_record *r = ctx;
    return r->under->willneed(r->under->ctx, fd, off, len);
}

static int record_rmdir(void *ctx, const char *path)
{
    struct jrn_fs_record *r = ctx;
    record_path(r, JRN_FS_RMDIR, -1, path);
    return r->under->rmdir(r->under->ctx, path);
}

static int record_links(void *ctx, int fd)
{
    struct jrn_fs_record *r = ctx;
    return r->under->links ? r->under->links(r->under->ctx, fd) : 1;
}

void jrn_fs_record_init(struct jrn_fs_record *r, const struct jrn_fs *under)
{
    *r = (struct jrn_fs_record){
        .fs = {r, record_open, record_close, record_pwritev, record_preadv, record_fdatasync,
               record_fsync_dir, record_rename, record_unlink, record_ftruncate, record_fallocate,
               record_size, record_lock, record_space, record_mkdir, record_list, record_willneed,
               record_rmdir, record_links},
        .under = under,
    };
    pthread_mutex_init(&r->lock, NULL);
}

void jrn_fs_record_fini(struct jrn_fs_record *r)
{
    for (size_t i = 0; i < r->n; i++)
        free(r->events[i].data);
    free(r->events);
    pthread_mutex_destroy(&r->lock);
}
