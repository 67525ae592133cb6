/* part_sync.c - partitions' files become durable, many in one round.
 *
 * One after the other, each fdatasync would wait for the disk alone, and a thousand partitions would keep the journal's segments for
 * seconds. So several threads wait side by side, as long as a round takes, and the disk flushes for many at once. Names cost once: that of
 * a file when it is new, those above it once in a round with new partitions.
 *
 * Rows of the journal go when all that they stand for is durable, bytes and names. */
#include "part_write.h"

#include <fcntl.h>

enum {
    SYNC_TOGETHER = 256, /* files that are held open at once */
    SYNC_THREADS = 16,
    SYNC_SHARE = 8, /* files that are worth one more thread */
};

void jrn_side_by_side(void *(*run)(void *), void *const *args, uint32_t n)
{
    enum { MOST = 16 };
    pthread_t threads[MOST];
    uint32_t used = 0;
    MQG_ASSERT(n > 0 && n <= MOST);
    while (used + 1 < n && pthread_create(&threads[used], NULL, run, args[used + 1]) == 0)
        used++;
    (void)run(args[0]);
    while (used > 0)
        pthread_join(threads[--used], NULL);
}

struct sync_round {
    struct mqg_store *s;
    struct part_sync *at;
    uint32_t n;
    _Atomic uint32_t next;
};

int jrn_part_sync_dir(struct mqg_store *s, const char *name)
{
    char path[4096];
    jrn_path(s, name, path);
    return s->fs->fsync_dir(s->fs->ctx, path);
}

/* What stands in a partition's last file; earlier ones were synced before it was begun. */
static void sync_begin(struct mqg_store *s, struct part_sync *at)
{
    const struct stream_part *p = at->p;
    pthread_mutex_lock(&s->streams->lock);
    at->f = p->nfile && !p->gone ? p->files[p->nfile - 1] : NULL;
    at->end = p->filed;
    at->bytes = at->f ? at->f->bytes : 0;
    if (at->f)
        jrn_part_file_ref(at->f);
    pthread_mutex_unlock(&s->streams->lock);
    at->fd = -1;
    if (!at->f)
        return;
    at->call = "open";
    at->fd = jrn_part_file_open(s, at->f, O_RDWR);
    at->r = at->fd < 0 ? at->fd : 0;
}

/* Its name is as durable as its bytes. */
static int sync_name(struct mqg_store *s, const struct part_sync *at)
{
    char name[PART_NAME];
    if (at->f->named)
        return 0;
    jrn_part_folder(at->p->id, name);
    int r = jrn_part_sync_dir(s, name);
    at->f->named = r == 0;
    return r;
}

static void sync_index(struct mqg_store *s, const struct part_sync *at)
{
    char name[PART_NAME];
    int r = jrn_part_index_save(s, at->f, at->end, at->bytes);
    if (r == 0)
        return; /* derived: a full disk may have none */
    jrn_part_name(at->f, "idx", "", name);
    mqg_log(MQG_LOG_WARN, MQG_EVENT_STORE, "store=%s what=stream_file call=index file=%s error=%s",
            s->section, name, mqg_logqs(jrn_errno(r)));
}

static void sync_file(struct mqg_store *s, struct part_sync *at)
{
    if (at->fd < 0)
        return;
    at->call = "fdatasync";
    at->r = jrn_fs_sync(s->fs, at->fd);
    if (at->r == 0) {
        at->call = "syncing the folder";
        at->r = sync_name(s, at);
    }
    if (at->r == 0)
        sync_index(s, at);
    jrn_part_file_unpin(s, at->f);
}

static void *sync_share(void *arg)
{
    struct sync_round *round = arg;
    for (uint32_t i; (i = atomic_fetch_add(&round->next, 1)) < round->n;)
        sync_file(round->s, &round->at[i]);
    return NULL;
}

static void sync_files(struct sync_round *round)
{
    void *same[SYNC_THREADS];
    uint32_t n = 1 + round->n / SYNC_SHARE;
    for (uint32_t i = 0; i < SYNC_THREADS; i++)
        same[i] = round;
    jrn_side_by_side(sync_share, same, n < SYNC_THREADS ? n : SYNC_THREADS);
}

/* The folders of partitions that are new stand in one that is new, perhaps. */
static int sync_above(const struct sync_round *round)
{
    struct mqg_store *s = round->s;
    bool some = false;
    for (uint32_t i = 0; i < round->n; i++)
        some = some || (round->at[i].f && round->at[i].r == 0 && !round->at[i].p->folder);
    if (!some)
        return 0;
    int r = jrn_part_sync_dir(s, "streams");
    return r < 0 ? r : s->fs->fsync_dir(s->fs->ctx, s->path);
}

static void sync_end(struct mqg_store *s, struct part_sync *at, int above)
{
    struct stream_part *p = at->p;
    if (!at->f)
        return;
    if (at->r == 0 && !p->folder) {
        at->call = "syncing the folder above";
        at->r = above;
    }
    if (at->r < 0)
        return;
    pthread_mutex_lock(&s->streams->lock);
    p->folder = true;
    if (!p->gone) {
        p->synced = at->end;
        jrn_stream_drop(s, p, jrn_stream_row(p, at->end));
    }
    pthread_mutex_unlock(&s->streams->lock);
}

void jrn_part_sync(struct mqg_store *s, struct part_sync *at, uint32_t n)
{
    for (uint32_t m; n > 0; at += m, n -= m) {
        m = n < SYNC_TOGETHER ? n : SYNC_TOGETHER;
        struct sync_round round = {.s = s, .at = at, .n = m};
        for (uint32_t i = 0; i < m; i++)
            sync_begin(s, &at[i]);
        sync_files(&round);
        int above = sync_above(&round);
        for (uint32_t i = 0; i < m; i++)
            sync_end(s, &at[i], above);
    }
}
