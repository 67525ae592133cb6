/* disk.h - a disk in memory: a file-system table whose files are shared pages, so that a copy costs next to nothing,
 * and the log of what was done to it, from which disks are made as a power cut may leave them.
 *
 * A hundred thousand power cuts are out of reach with real files: each image would be written and synced. Here an
 * image is a copy of the last durable state, page by page shared, with the few sectors on top that the cut left or
 * did not leave. */
#ifndef CI_DISK_H
#define CI_DISK_H

#include "fs.h"

#include <pthread.h>

enum { DISK_PAGE = 4096, DISK_SECTOR = 512, DISK_FDS = 512, DISK_FD_BASE = 1000, DISK_PATH = 120 };

enum disk_op {
    DISK_WRITE,    /* file, off, len, data (NULL: zeros) */
    DISK_RESIZE,   /* file, off = new size (truncate), or at least that (allocate: len 1) */
    DISK_SYNC,     /* file: fdatasync begins */
    DISK_SYNCED,   /* file, off = event of its begin: it has returned */
    DISK_LINK,     /* file, path: a new name */
    DISK_UNLINK,   /* path */
    DISK_RENAME,   /* file, path, to */
    DISK_DIR_SYNC, /* path: fsync of a folder begins */
    DISK_DIR_SYNCED,
    DISK_MARK, /* off: the test's own */
};

struct disk_event {
    enum disk_op op;
    uint32_t file;
    uint64_t off, len;
    uint8_t *data;
    char *path, *to;
};

struct disk_log {
    struct disk_event *at;
    size_t n, cap;
};

struct disk_page {
    _Atomic uint32_t refs; /* shared by disks that have a lock each */
    uint8_t data[DISK_PAGE];
};

struct disk_file {
    struct disk_page **pages; /* NULL: zeros */
    size_t npage;
    uint64_t size;
};

#define DISK_NO_FILE UINT32_MAX /* a folder */

struct disk_name {
    char path[DISK_PATH];
    uint32_t file; /* DISK_NO_FILE: a folder */
};

struct disk {
    struct jrn_fs fs; /* give this to mqg_journal_fs */
    pthread_mutex_t lock;
    struct disk_file *files; /* numbers are never used again */
    uint32_t nfile, cap_file;
    struct disk_name *names;
    size_t nname, cap_name;
    uint32_t fds[DISK_FDS]; /* file + 1, or 0 */
    struct disk_log *log;   /* what is done is written down there, when set */
    bool drop_sync;         /* fdatasync does nothing and says that it did */
    unsigned delay_us;      /* a sync takes up to this long */
    uint64_t rng;
};

static inline uint64_t disk_random(uint64_t *rng)
{
    uint64_t z = (*rng += 0x9e3779b97f4a7c15ull);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

struct disk *disk_new(void);
struct disk *disk_clone(const struct disk *d); /* its content; no descriptors, no log */
void disk_free(struct disk **d);
void disk_mark(struct disk *d, uint64_t number);

/* Content, beside the table: nothing is logged. */
void disk_put(struct disk *d, uint32_t file, uint64_t off, const uint8_t *data, size_t len);
void disk_resize(struct disk *d, uint32_t file, uint64_t size);
void disk_file_at_least(struct disk *d, uint32_t file); /* files up to this number exist, empty */
struct disk_name *disk_find(struct disk *d, const char *path);
void disk_link(struct disk *d, const char *path, uint32_t file);
void disk_unlink(struct disk *d, const char *path);
size_t disk_read(const struct disk *d, uint32_t file, uint64_t off, uint8_t *out, size_t len);
/* Writes all files into a real folder, for whoever wants to look at them. */
void disk_dump(struct disk *d, const char *folder);

void disk_log_fini(struct disk_log *log);

#endif
