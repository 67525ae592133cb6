/* fs_test.h - file-system tables for tests: one that writes down what was called in which order, one that
 * misbehaves.
 *
 * They stack: the store calls the fault table, that calls the record table, that calls the kernel. What the
 * fault table leaves out (a dropped fdatasync) the record therefore never shows, as if the journal had not
 * called it. */
#ifndef JRN_FS_TEST_H
#define JRN_FS_TEST_H

#include "fs.h"

#include <pthread.h>

enum jrn_fs_op {
    JRN_FS_OPEN,
    JRN_FS_WRITE,
    JRN_FS_READ,
    JRN_FS_SYNC,
    JRN_FS_SYNC_END,
    JRN_FS_SYNC_DIR,
    JRN_FS_RENAME,
    JRN_FS_UNLINK,
    JRN_FS_TRUNCATE,
    JRN_FS_ALLOCATE,
    JRN_FS_SIZE,
    JRN_FS_LOCK,
    JRN_FS_SPACE,
    JRN_FS_MKDIR,
    JRN_FS_LIST,
    JRN_FS_RMDIR,
    JRN_FS_LINKS,
    JRN_FS_MARK, /* the test's own: something was told */
    JRN_FS_OPS
};

struct jrn_fs_event {
    enum jrn_fs_op op;
    int fd;
    uint64_t off; /* MARK: the test's number */
    size_t len;
    uint8_t *data; /* WRITE: what was written; OPEN, UNLINK, MKDIR, RMDIR, SYNC_DIR: the path */
};

struct jrn_fs_record {
    struct jrn_fs fs; /* give this to mqg_journal_fs */
    const struct jrn_fs *under;
    pthread_mutex_t lock;
    struct jrn_fs_event *events;
    size_t n, cap;
};

void jrn_fs_record_init(struct jrn_fs_record *r, const struct jrn_fs *under);
void jrn_fs_record_fini(struct jrn_fs_record *r);
void jrn_fs_record_mark(struct jrn_fs_record *r, uint64_t number);

struct jrn_fs_fault {
    struct jrn_fs fs;
    const struct jrn_fs *under;
    _Atomic int op;            /* enum jrn_fs_op: which calls fail; JRN_FS_OPS: all */
    const char *only;          /* calls of threads with this name; NULL: of all */
    _Atomic long nth;          /* the n-th from now; 0 = none */
    _Atomic bool all_after;    /* and all that follow */
    _Atomic int error;         /* -EIO...; 0 with WRITE or READ: a short transfer of one byte */
    _Atomic bool cold;         /* nothing is in memory: reads with nowait answer -EAGAIN */
    _Atomic bool warm;         /* everything is in memory: reads with nowait wait all the same */
    _Atomic bool drop_sync;    /* fdatasync answers 0 and does nothing */
    _Atomic unsigned delay_us; /* before each fdatasync */
    _Atomic long fired;
    _Atomic uint64_t free_bytes; /* what space() says; UINT64_MAX = the truth */
};

void jrn_fs_fault_init(struct jrn_fs_fault *f, const struct jrn_fs *under);

#endif
