/* fs_real.c - the table's calls as Linux answers them, and the two loops everybody needs around them.
 *
 * EINTR and short transfers are no errors, they are the contract of the kernel: they are handled here once,
 * above the table, so that a test table can produce them. */
#include "fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static int real_result(long r)
{
    return r < 0 ? -errno : (int)r;
}

static int real_open(void *ctx, const char *path, int flags)
{
    (void)ctx;
    return real_result(open(path, flags | O_CLOEXEC, 0640));
}

static int real_close(void *ctx, int fd)
{
    (void)ctx;
    return real_result(close(fd));
}

static ssize_t real_pwritev(void *ctx, int fd, const struct iovec *iov, int n, uint64_t off)
{
    (void)ctx;
    ssize_t r = pwritev(fd, iov, n, (off_t)off);
    return r < 0 ? -errno : r;
}

static ssize_t real_preadv(void *ctx, int fd, const struct iovec *iov, int n, uint64_t off, bool nowait)
{
    (void)ctx;
    ssize_t r = preadv2(fd, iov, n, (off_t)off, nowait ? RWF_NOWAIT : 0);
    return r < 0 ? -errno : r;
}

static int real_fdatasync(void *ctx, int fd)
{
    (void)ctx;
    return real_result(fdatasync(fd));
}

static int real_fsync_dir(void *ctx, const char *path)
{
    (void)ctx;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int r = real_result(fsync(fd));
    close(fd);
    return r;
}

static int real_rename(void *ctx, const char *from, const char *to)
{
    (void)ctx;
    return real_result(rename(from, to));
}

static int real_unlink(void *ctx, const char *path)
{
    (void)ctx;
    return real_result(unlink(path));
}

static int real_ftruncate(void *ctx, int fd, uint64_t bytes)
{
    (void)ctx;
    return real_result(ftruncate(fd, (off_t)bytes));
}

static int real_fallocate(void *ctx, int fd, uint64_t bytes)
{
    (void)ctx;
    return real_result(fallocate(fd, 0, 0, (off_t)bytes));
}

static int real_size(void *ctx, int fd, uint64_t *bytes)
{
    (void)ctx;
    struct stat st;
    if (fstat(fd, &st) != 0)
        return -errno;
    *bytes = (uint64_t)st.st_size;
    return 0;
}

static int real_lock(void *ctx, int fd)
{
    (void)ctx;
    return real_result(flock(fd, LOCK_EX | LOCK_NB));
}

static int real_space(void *ctx, const char *path, uint64_t *free_bytes)
{
    (void)ctx;
    struct statvfs st;
    if (statvfs(path, &st) != 0)
        return -errno;
    *free_bytes = (uint64_t)st.f_bavail * st.f_frsize;
    return 0;
}

static int real_mkdir(void *ctx, const char *path)
{
    (void)ctx;
    return real_result(mkdir(path, 0750));
}

static int real_list(void *ctx, const char *path, void (*each)(void *arg, const char *name), void *arg)
{
    (void)ctx;
    DIR *dir = opendir(path);
    if (!dir)
        return -errno;
    errno = 0;
    for (struct dirent *d; (d = readdir(dir)) != NULL; errno = 0)
        if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
            each(arg, d->d_name);
    int r = errno;
    closedir(dir);
    return -r;
}

static int real_willneed(void *ctx, int fd, uint64_t off, uint64_t len)
{
    (void)ctx;
    return -posix_fadvise(fd, (off_t)off, (off_t)len, POSIX_FADV_WILLNEED);
}

static int real_rmdir(void *ctx, const char *path)
{
    (void)ctx;
    return real_result(rmdir(path));
}

static int real_links(void *ctx, int fd)
{
    (void)ctx;
    struct stat st;
    if (fstat(fd, &st) != 0)
        return -errno;
    return st.st_nlink > INT_MAX ? INT_MAX : (int)st.st_nlink;
}

const struct jrn_fs jrn_fs_real = {
    .open = real_open,
    .close = real_close,
    .pwritev = real_pwritev,
    .preadv = real_preadv,
    .fdatasync = real_fdatasync,
    .fsync_dir = real_fsync_dir,
    .rename = real_rename,
    .unlink = real_unlink,
    .ftruncate = real_ftruncate,
    .fallocate = real_fallocate,
    .size = real_size,
    .lock = real_lock,
    .space = real_space,
    .mkdir = real_mkdir,
    .list = real_list,
    .willneed = real_willneed,
    .rmdir = real_rmdir,
    .links = real_links,
};

static const struct jrn_fs *fs_current = &jrn_fs_real;

void mqg_journal_fs(const struct jrn_fs *fs)
{
    fs_current = fs ? fs : &jrn_fs_real;
}

const struct jrn_fs *jrn_fs_current(void)
{
    return fs_current;
}

/* Drops n written bytes from the front of the vector; returns the pieces that are left. */
static int fs_consume(struct iovec **iov, int n, size_t bytes)
{
    while (n > 0 && bytes >= (*iov)->iov_len) {
        bytes -= (*iov)->iov_len;
        (*iov)++;
        n--;
    }
    if (n > 0) {
        (*iov)->iov_base = (uint8_t *)(*iov)->iov_base + bytes;
        (*iov)->iov_len -= bytes;
    }
    return n;
}

int jrn_fs_write(const struct jrn_fs *fs, int fd, struct iovec *iov, int n, uint64_t off)
{
    while (n > 0) {
        ssize_t r = fs->pwritev(fs->ctx, fd, iov, n < IOV_MAX ? n : IOV_MAX, off);
        if (r == -EINTR)
            continue;
        if (r < 0)
            return (int)r;
        if (r == 0)
            return -ENOSPC; /* a device that takes nothing and says nothing */
        off += (uint64_t)r;
        n = fs_consume(&iov, n, (size_t)r);
    }
    return 0;
}

ssize_t jrn_fs_read(const struct jrn_fs *fs, int fd, void *buf, size_t n, uint64_t off)
{
    size_t got = 0;
    while (got < n) {
        struct iovec iov = {(uint8_t *)buf + got, n - got};
        ssize_t r = fs->preadv(fs->ctx, fd, &iov, 1, off + got, false);
        if (r == -EINTR)
            continue;
        if (r < 0)
            return r;
        if (r == 0)
            break;
        got += (size_t)r;
    }
    return (ssize_t)got;
}

int jrn_fs_sync(const struct jrn_fs *fs, int fd)
{
    int r;
    do {
        r = fs->fdatasync(fs->ctx, fd);
    } while (r == -EINTR);
    return r;
}
