/* fs.h - the file-system table: every byte the journal reads or writes goes through these calls.
 *
 * The promise of the journal is an order of system calls (write, sync, only then tell). An order can be
 * tested when the calls can be watched, failed, delayed and left out; so they stand in a table that a test
 * may replace: fs_record notes the order, fs_fault fails the n-th call. Nothing else in this folder calls the
 * kernel about files (a lint keeps it so).
 *
 * All calls answer >= 0 or -errno. Paths are complete; fds are the kernel's. Any thread. */
#ifndef JRN_FS_H
#define JRN_FS_H

#include <mqgate/base.h>

#include <sys/types.h>
#include <sys/uio.h>

struct jrn_fs {
    void *ctx;
    int (*open)(void *ctx, const char *path,
                int flags); /* mode 0640 when it makes the file; always O_CLOEXEC */
    int (*close)(void *ctx, int fd);
    ssize_t (*pwritev)(void *ctx, int fd, const struct iovec *iov, int n, uint64_t off);
    /* nowait: only what is in memory; -EAGAIN when the first byte is not. */
    ssize_t (*preadv)(void *ctx, int fd, const struct iovec *iov, int n, uint64_t off, bool nowait);
    int (*fdatasync)(void *ctx, int fd);
    int (*fsync_dir)(void *ctx, const char *path);
    int (*rename)(void *ctx, const char *from, const char *to);
    int (*unlink)(void *ctx, const char *path);
    int (*ftruncate)(void *ctx, int fd, uint64_t bytes);
    int (*fallocate)(void *ctx, int fd, uint64_t bytes); /* blocks for [0, bytes), reading as zeros */
    int (*size)(void *ctx, int fd, uint64_t *bytes);
    int (*lock)(void *ctx, int fd); /* -EWOULDBLOCK: somebody else has it; goes with the fd */
    int (*space)(void *ctx, const char *path, uint64_t *free_bytes);
    int (*mkdir)(void *ctx, const char *path);
    /* Calls each() with the name of every entry but . and .. */
    int (*list)(void *ctx, const char *path, void (*each)(void *arg, const char *name), void *arg);
    int (*willneed)(void *ctx, int fd, uint64_t off, uint64_t len);
    int (*rmdir)(void *ctx, const char *path);
    int (*links)(void *ctx,
                 int fd); /* names that the file has: 0 when somebody removed it. NULL: not known */
};

extern const struct jrn_fs jrn_fs_real;
/* What stores opened from now on use; NULL = the real one. For tests and tools, before open. */
MQG_API void mqg_journal_fs(const struct jrn_fs *fs);
const struct jrn_fs *jrn_fs_current(void);

/* Writes all, over EINTR and short writes; 0 or -errno. iov is consumed (changed). */
int jrn_fs_write(const struct jrn_fs *fs, int fd, struct iovec *iov, int n, uint64_t off);
/* Reads up to n bytes, over EINTR and short reads; the number read (less at the end of the file) or -errno.
 * */
ssize_t jrn_fs_read(const struct jrn_fs *fs, int fd, void *buf, size_t n, uint64_t off);

int jrn_fs_sync(const struct jrn_fs *fs, int fd); /* fdatasync, over EINTR */

#endif
