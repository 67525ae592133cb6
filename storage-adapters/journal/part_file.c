/* part_file.c - the files of partitions: names, references, and how many of them are open.
 *
 * A node may have ten thousand partitions with a dozen files each, and a process a thousand descriptors: so a file is open
 * while somebody works in it, and some time longer: an eighth of the descriptors, with 12 MiB of indexes. What was used longest ago is
 * closed, and its index forgotten, as long as that stands in the .idx. A reader that finds its file closed goes to the threads that may
 * wait. */
#include "part.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct part_files {
    struct mqg_store *s;
    pthread_mutex_t lock;
    struct part_file *newest, *oldest; /* open ones */
    uint32_t n, max;
    uint64_t rows; /* of their indexes */
};

enum { FILES_ROWS = 512 << 10 }; /* 12 MiB */

struct part_files *jrn_part_files_new(struct mqg_store *s, uint32_t max_open)
{
    struct part_files *t = mqg_xcalloc(1, sizeof *t);
    t->s = s;
    t->max = max_open;
    pthread_mutex_init(&t->lock, NULL);
    return t;
}

void jrn_part_files_free(struct part_files **table)
{
    struct part_files *t = *table;
    if (!t)
        return;
    MQG_ASSERT(t->n == 0);
    pthread_mutex_destroy(&t->lock);
    free(t);
    *table = NULL;
}

void jrn_part_files_rows(struct mqg_store *s, uint32_t more)
{
    s->part_files->rows += more;
}

void jrn_part_files_lock(struct mqg_store *s)
{
    pthread_mutex_lock(&s->part_files->lock);
}

void jrn_part_files_unlock(struct mqg_store *s)
{
    pthread_mutex_unlock(&s->part_files->lock);
}

/* ---- the list of open ones ------------------------------------------------------------------------------ */

static void file_out(struct part_files *t, struct part_file *f)
{
    *(f->lru_prev ? &f->lru_prev->lru_next : &t->newest) = f->lru_next;
    *(f->lru_next ? &f->lru_next->lru_prev : &t->oldest) = f->lru_prev;
    f->lru_next = f->lru_prev = NULL;
    t->n--;
    t->rows -= f->index.n;
}

static void file_in(struct part_files *t, struct part_file *f)
{
    f->lru_next = t->newest;
    f->lru_prev = NULL;
    *(t->newest ? &t->newest->lru_prev : &t->oldest) = f;
    t->newest = f;
    t->n++;
    t->rows += f->index.n;
}

static void file_forget_index(struct part_file *f)
{
    free(f->index.at);
    f->index.at = NULL;
    f->index.n = f->index.cap = 0;
    f->indexed = false;
}

/* Closes the one used longest ago that nobody works in; its descriptor, or -1. */
static int file_evict(struct part_files *t)
{
    if (t->n <= t->max && t->rows <= FILES_ROWS)
        return -1;
    struct part_file *f = t->oldest;
    while (f && f->pins > 0)
        f = f->lru_prev;
    if (!f)
        return -1;
    int fd = f->fd;
    f->fd = -1;
    file_out(t, f);
    if (f->index.saved == f->index.n && f->index.saved_pos > 0)
        file_forget_index(f);
    return fd;
}

/* ---- one file ------------------------------------------------------------------------------------------- */

struct part_file *jrn_part_file_new(uint64_t partition, uint64_t base, uint32_t gen)
{
    struct part_file *f = mqg_xcalloc(1, sizeof *f);
    f->partition = partition;
    f->base = f->end = base;
    f->gen = gen;
    f->fd = -1;
    atomic_init(&f->refs, 1);
    return f;
}

void jrn_part_file_ref(struct part_file *f)
{
    atomic_fetch_add(&f->refs, 1);
}

void jrn_part_file_unref(struct mqg_store *s, struct part_file **file)
{
    struct part_file *f = *file;
    struct part_files *t = s->part_files;
    *file = NULL;
    if (!f || atomic_fetch_sub(&f->refs, 1) > 1)
        return;
    pthread_mutex_lock(&t->lock);
    MQG_ASSERT(f->pins == 0);
    if (f->fd >= 0)
        file_out(t, f);
    pthread_mutex_unlock(&t->lock);
    if (f->fd >= 0)
        s->fs->close(s->fs->ctx, f->fd);
    free(f->index.at);
    free(f);
}

/* Under the lock: pins it when all of it is there. */
static int file_pin(struct part_files *t, struct part_file *f)
{
    if (f->fd < 0 || !f->indexed)
        return -EAGAIN;
    file_out(t, f);
    file_in(t, f);
    f->pins++;
    return f->fd;
}

int jrn_part_file_try(struct mqg_store *s, struct part_file *f)
{
    struct part_files *t = s->part_files;
    pthread_mutex_lock(&t->lock);
    int fd = file_pin(t, f);
    pthread_mutex_unlock(&t->lock);
    return fd;
}

/* Takes over what was opened, unless somebody else was quicker; *spare is to be closed. */
static int file_adopt(struct part_files *t, struct part_file *f, int fd, struct part_index *index, int *spare)
{
    pthread_mutex_lock(&t->lock);
    *spare = fd;
    if (f->fd >= 0)
        file_out(t, f);
    if (!f->indexed && index) {
        free(f->index.at);
        f->index = *index;
        f->indexed = true;
        index->at = NULL;
    }
    if (f->fd < 0) {
        f->fd = fd;
        *spare = -1;
    }
    file_in(t, f);
    int got = file_pin(t, f);
    if (*spare < 0)
        *spare = file_evict(t);
    pthread_mutex_unlock(&t->lock);
    return got;
}

int jrn_part_file_open(struct mqg_store *s, struct part_file *f, int flags)
{
    struct part_files *t = s->part_files;
    char name[PART_NAME], path[4096];
    struct part_index index = {.at = NULL};
    struct part_tail tail;
    uint64_t bytes;
    int spare, fd = jrn_part_file_try(s, f);
    if (fd >= 0)
        return fd;
    jrn_part_name(f, "log", "", name);
    jrn_path(s, name, path);
    fd = s->fs->open(s->fs->ctx, path, flags);
    if (fd < 0)
        return fd;
    pthread_mutex_lock(&t->lock);
    bool indexed = f->indexed;
    pthread_mutex_unlock(&t->lock);
    int r = indexed ? 0 : s->fs->size(s->fs->ctx, fd, &bytes);
    if (r == 0 && !indexed)
        r = jrn_part_index_load(s, f, fd, bytes, false, &index, &tail);
    if (r < 0) {
        s->fs->close(s->fs->ctx, fd);
        return r;
    }
    int got = file_adopt(t, f, fd, indexed ? NULL : &index, &spare);
    free(index.at);
    if (spare >= 0)
        s->fs->close(s->fs->ctx, spare);
    return got;
}

void jrn_part_file_unpin(struct mqg_store *s, struct part_file *f)
{
    struct part_files *t = s->part_files;
    pthread_mutex_lock(&t->lock);
    MQG_ASSERT(f->pins > 0);
    f->pins--;
    int spare = file_evict(t);
    pthread_mutex_unlock(&t->lock);
    if (spare >= 0)
        s->fs->close(s->fs->ctx, spare);
}

void jrn_part_unlink(struct mqg_store *s, const struct part_file *f)
{
    static const char *const kinds[] = {"idx", "log"};
    char name[PART_NAME], path[4096];
    for (int i = 0; i < 2; i++) {
        jrn_part_name(f, kinds[i], "", name);
        jrn_path(s, name, path);
        int r = s->fs->unlink(s->fs->ctx, path);
        if (r < 0 && r != -ENOENT)
            mqg_log(MQG_LOG_WARN, MQG_EVENT_STORE, "store=%s what=unlink file=%s error=%s", s->section, name,
                    mqg_logqs(jrn_errno(r)));
    }
}
