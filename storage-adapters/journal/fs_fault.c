/* fs_fault.c - fails the n-th call of a kind, transfers one byte only, forgets to sync, is slow, or tells of
 * a full disk. */
#include "fs_test.h"

#include <errno.h>
#include <time.h>

static bool fault_is_meant(const struct jrn_fs_fault *f)
{
    char name[16] = "";
    if (!f->only)
        return true;
    pthread_getname_np(pthread_self(), name, sizeof name);
    return strcmp(name, f->only) == 0;
}

/* Is this call the one that fails? */
static bool fault_hits(struct jrn_fs_fault *f, enum jrn_fs_op op)
{
    if (((int)op != f->op && f->op != JRN_FS_OPS) || atomic_load(&f->nth) <= 0 || !fault_is_meant(f))
        return false;
    long left = atomic_fetch_sub(&f->nth, 1) - 1;
    if (left > 0)
        return false;
    atomic_store(&f->nth, atomic_load(&f->all_after) ? 1 : 0);
    atomic_fetch_add(&f->fired, 1);
    return true;
}

#define FAULT(f, op)               \
    do {                           \
        if (fault_hits((f), (op))) \
            return (f)->error;     \
    } while (0)

static int fault_open(void *ctx, const char *path, int flags)
{
    struct jrn_fs_fault *f = ctx;
    FAULT(f, JRN_FS_OPEN);
    return f->under->open(f->under->ctx, path, flags);
}

static int fault_close(void *ctx, int fd)
{
    struct jrn_fs_fault *f = ctx;
    return f->under->close(f->under->ctx, fd);
}

static ssize_t fault_pwritev(void *ctx, int fd, const struct iovec *iov, int n, uint64_t off)
{
    struct jrn_fs_fault *f = ctx;
    if (fault_hits(f, JRN_FS_WRITE)) {
        if (f->error)
            return f->error;
        struct iovec one = {iov[0].iov_base, iov[0].iov_len ? 1 : 0};
        return f->under->pwritev(f->under->ctx, fd, &one, 1, off);
    }
    return f->under->pwritev(f->under->ctx, fd, iov, n, off);
}

static ssize_t fault_preadv(void *ctx, int fd, const struct iovec *iov, int n, uint64_t off, bool nowait)
{
    struct jrn_fs_fault *f = ctx;
    if (nowait && f->cold)
        return -EAGAIN;
    if (!nowait && fault_hits(f, JRN_FS_READ)) {
        if (f->error)
            return f->error;
        struct iovec one = {iov[0].iov_base, iov[0].iov_len ? 1 : 0};
        return f->under->preadv(f->under->ctx, fd, &one, 1, off, nowait);
    }
    return f->under->preadv(f->under->ctx, fd, iov, n, off, nowait && !f->warm);
}

static int fault_fdatasync(void *ctx, int fd)
{
    struct jrn_fs_fault *f = ctx;
    FAULT(f, JRN_FS_SYNC);
    if (f->delay_us)
        nanosleep(&(struct timespec){f->delay_us / 1000000, (long)(f->delay_us % 1000000) * 1000}, NULL);
    return f->drop_sync ? 0 : f->under->fdatasync(f->under->ctx, fd);
}

static int fault_fsync_dir(void *ctx, const char *path)
{
    struct jrn_fs_fault *f = ctx;
    FAULT(f, JRN_FS_SYNC_DIR);
    return f->under->fsync_dir(f->under->ctx, path);
}

static int fault_rename(void *ctx, const char *from, const char *to)
{
    struct jrn_fs_fault *f = ctx;
    FAULT(f, JRN_FS_RENAME);
    return f->under->rename(f->under->ctx, from, to);
}

static int fault_unlink(void *ctx, const char *path)
{
    struct jrn_fs_fault *f = ctx;
    FAULT(f, JRN_FS_UNLINK);
    return f->under->unlink(f->under->ctx, path);
}

static int fault_ftruncate(void *ctx, int fd, uint64_t bytes)
{
    struct jrn_fs_fault *f = ctx;
    FAULT(f, JRN_FS_TRUNCATE);
    return f->under->ftruncate(f->under->ctx, fd, bytes);
}

static int fault_fallocate(void *ctx, int fd, uint64_t bytes)
{
    struct jrn_fs_fault *f = ctx;
    FAULT(f, JRN_FS_ALLOCATE);
    return f->under->fallocate(f->under->ctx, fd, bytes);
}

static int fault_size(void *ctx, int fd, uint64_t *bytes)
{
    struct jrn_fs_fault *f = ctx;
    FAULT(f, JRN_FS_SIZE);
    return f->under->size(f->under->ctx, fd, bytes);
}

static int fault_lock(void *ctx, int fd)
{
    struct jrn_fs_fault *f = ctx;
    FAULT(f, JRN_FS_LOCK);
    return f->under->lock(f->under->ctx, fd);
}

static int fault_space(void *ctx, const char *path, uint64_t *free_bytes)
{
    struct jrn_fs_fault *f = ctx;
    FAULT(f, JRN_FS_SPACE);
    int r = f->under->space(f->under->ctx, path, free_bytes);
    if (atomic_load(&f->free_bytes) != UINT64_MAX)
        *free_bytes = atomic_load(&f->free_bytes);
    return r;
}

static int fault_mkdir(void *ctx, const char *path)
{
    struct jrn_fs_fault *f = ctx;
    FAULT(f, JRN_FS_MKDIR);
    return f->under->mkdir(f->under->ctx, path);
}

static int fault_list(void *ctx, const char *path, void (*each)(void *arg, const char *name), void *arg)
{
    struct jrn_fs_fault *f = ctx;
    FAULT(f, JRN_FS_LIST);
    return f->under->list(f->under->ctx, path, each, arg);
}

static int fault_willneed(void *ctx, int fd, uint64_t off, uint64_t len)
{
    struct jrn_fs_fault *f = ctx;
    return f->under->willneed(f->under->ctx, fd, off, len);
}

static int fault_rmdir(void *ctx, const char *path)
{
    struct jrn_fs_fault *f = ctx;
    FAULT(f, JRN_FS_RMDIR);
    return f->under->rmdir(f->under->ctx, path);
}

static int fault_links(void *ctx, int fd)
{
    struct jrn_fs_fault *f = ctx;
    FAULT(f, JRN_FS_LINKS);
    return f->under->links ? f->under->links(f->under->ctx, fd) : 1;
}

void jrn_fs_fault_init(struct jrn_fs_fault *f, const struct jrn_fs *under)
{
    *f = (struct jrn_fs_fault){
        .fs = {f, fault_open, fault_close, fault_pwritev, fault_preadv, fault_fdatasync, fault_fsync_dir,
               fault_rename, fault_unlink, fault_ftruncate, fault_fallocate, fault_size, fault_lock,
               fault_space, fault_mkdir, fault_list, fault_willneed, fault_rmdir, fault_links},
        .under = under,
        .free_bytes = UINT64_MAX,
    };
}
