/* journal.c - the module: its table, its configuration, and the life of a store from open to fini.
 *
 * The other files each own one noun: fs (system calls), format/frame/record (bytes), chunk (framing), lane (a
 * worker's side), commit (the writer), segment (files), keys (last writer wins), recover/found (reading
 * back), keeper (spares, recycling, disk space), stream (partitions), load (reading bodies), scratch (transient
 * messages put aside). */
#include "account.h"
#include "index.h"
#include "part.h"
#include "scratch.h"

#include <mqgate/module.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    JOURNAL_FILES_MIN = 256,
    JOURNAL_FILES_MAX = 2048,
    JOURNAL_DIGEST_WAIT_US = 500 * 1000,
    JOURNAL_CLEAN_TICK_MS = 1000
};

static const struct mqg_conf_row journal_conf[] = {
    {"store.*", "path", MQG_CONF_STR, "/var/lib/mqgate", 0, 0, NULL,
     "folder of the journal; one process at a time"},
    {"store.*", "flush", MQG_CONF_ENUM, "sync", 0, 0, "sync|os",
     "sync: confirms wait for fdatasync; os: for the kernel's page cache only"},
    {"store.*", "segment_size", MQG_CONF_SIZE, "64MiB", JRN_SEGMENT_MIN, JRN_SEGMENT_MAX, NULL,
     "bytes of a journal file; larger messages get a file of their own"},
    {"store.*", "min_free", MQG_CONF_SIZE, "128MiB", 0, 0, NULL,
     "free disk kept as a reserve: below it (and two segments) publishers are blocked"},
    {"store.*", "on_corruption", MQG_CONF_ENUM, "refuse", 0, 0, "refuse|continue",
     "damage found at the start: refuse, or go on with what can be read"},
    {"store.*", "move_rate", MQG_CONF_SIZE, "256MiB", 1 << 20, INT64_MAX / 1000000, NULL,
     "bytes a second that evacuation of mostly dead segments reads and writes at most"},
    {NULL, NULL, MQG_CONF_STR, NULL, 0, 0, NULL, NULL},
};

/* A folder that was made is durable when the one it stands in was synced; one that may not be read cannot be. */
static int journal_sync_parent(const struct mqg_store *s, char *path)
{
    char *slash = strrchr(path, '/');
    if (!slash)
        return s->fs->fsync_dir(s->fs->ctx, ".");
    char cut = slash[1];
    slash[slash == path] = '\0';
    int r = s->fs->fsync_dir(s->fs->ctx, path);
    if (slash == path)
        slash[1] = cut;
    else
        *slash = '/';
    return r == -EACCES ? 0 : r;
}

/* mkdir -p. */
static int journal_mkdirs(const struct mqg_store *s)
{
    char path[4096];
    size_t len = strlen(s->path);
    if (len >= sizeof path)
        return -ENAMETOOLONG;
    memcpy(path, s->path, len + 1);
    for (size_t i = 1; i <= len; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        char cut = path[i];
        path[i] = '\0';
        int r = s->fs->mkdir(s->fs->ctx, path), synced = r == 0 ? journal_sync_parent(s, path) : 0;
        path[i] = cut;
        if (synced < 0)
            return synced;
        if (r < 0 && r != -EEXIST && cut == '\0')
            return r;
    }
    return 0;
}

/* Who holds the lock, from what the holder wrote into the file. */
static void journal_holder(const struct mqg_store *s, int fd, char out[64])
{
    char pid[32] = "";
    ssize_t n = jrn_fs_read(s->fs, fd, pid, sizeof pid - 1, 0);
    pid[n > 0 ? n : 0] = '\0';
    pid[strspn(pid, "0123456789")] = '\0';
    snprintf(out, 64, "%s%s", pid[0] ? "process " : "another process", pid);
}

static enum mqg_err journal_lock(struct mqg_store *s, struct mqg_error *e)
{
    char path[4096], holder[64], pid[32];
    jrn_path(s, "lock", path);
    s->lock_fd = s->fs->open(s->fs->ctx, path, O_RDWR | O_CREAT);
    if (s->lock_fd < 0)
        return mqg_error_set(e, MQG_IO, 0,
                             "%s.path: cannot write in %s: %s; give this user the folder or set another path",
                             s->section, s->path, jrn_errno(s->lock_fd));
    int r = s->fs->lock(s->fs->ctx, s->lock_fd);
    if (r < 0) {
        journal_holder(s, s->lock_fd, holder);
        return mqg_error_set(e, MQG_LOCKED, 0, "%s.path: %s is in use by %s; stop it or set another path",
                             s->section, s->path, holder);
    }
    struct iovec iov = {pid, (size_t)snprintf(pid, sizeof pid, "%d\n", (int)getpid())};
    r = s->fs->ftruncate(s->fs->ctx, s->lock_fd, 0);
    if (r == 0)
        r = jrn_fs_write(s->fs, s->lock_fd, &iov, 1, 0);
    if (r < 0 && r != -ENOSPC)
        return mqg_error_set(e, MQG_IO, 0, "%s.path: cannot write in %s: %s", s->section, s->path,
                             jrn_errno(r));
    return MQG_OK;
}

static void journal_configure(struct mqg_store *s, const struct mqg_conf *conf, const char *section)
{
    s->section = mqg_xstrdup(section);
    s->path = mqg_xstrdup(mqg_conf_str(conf, section, "path"));
    s->flush_sync = strcmp(mqg_conf_str(conf, section, "flush"), "sync") == 0;
    s->keep_going = strcmp(mqg_conf_str(conf, section, "on_corruption"), "continue") == 0;
    s->segment_bytes = jrn_round_block((uint64_t)mqg_conf_int(conf, section, "segment_size"));
    s->min_free_bytes = (uint64_t)mqg_conf_int(conf, section, "min_free");
    s->move_rate_bytes = (uint64_t)mqg_conf_int(conf, section, "move_rate");
}

static void journal_fini(struct mqg_store **store)
{
    struct mqg_store *s = *store;
    if (!s)
        return;
    MQG_CHECK(s, JRN_MAGIC);
    jrn_readers_free(&s->readers);
    jrn_scratch_free(&s->scratch);
    jrn_digester_free(&s->digester);
    jrn_keeper_free(&s->keeper); /* looks at the segment it was letting go */
    jrn_lists_free(s);
    jrn_part_cleaner_free(&s->part_cleaner);
    jrn_part_writer_free(&s->part_writer);
    jrn_part_readers_free(&s->part_readers);
    if (s->streams)
        jrn_streams_free(s, &s->streams);
    jrn_part_files_free(&s->part_files);
    jrn_committer_fini(s);
    for (uint32_t i = 0; i <= s->nlanes; i++)
        jrn_lane_fini(&s->lanes[i]);
    free(s->lanes);
    jrn_keys_fini(&s->keys);
    jrn_spans_fini(&s->high);
    jrn_account_fini(s);
    pthread_cond_destroy(&s->spare_there);
    pthread_mutex_destroy(&s->seg_lock);
    if (s->lock_fd >= 0)
        s->fs->close(s->fs->ctx, s->lock_fd);
    free(s->path);
    free(s->section);
    s->magic = 0;
    free(s);
    *store = NULL;
}

/* An eighth of what the process may have; the rest are connections. */
static uint32_t journal_open_files(void)
{
    struct rlimit files;
    uint64_t n = getrlimit(RLIMIT_NOFILE, &files) == 0 ? files.rlim_cur / 8 : 0;
    return n < JOURNAL_FILES_MIN   ? JOURNAL_FILES_MIN
           : n > JOURNAL_FILES_MAX ? JOURNAL_FILES_MAX
                                   : (uint32_t)n;
}

static enum mqg_err journal_open(struct mqg_store **out, const struct mqg_store_host *host,
                                 const struct mqg_conf *conf, const char *section, uint32_t nlanes,
                                 struct mqg_error *e)
{
    MQG_ASSERT(nlanes > 0 && nlanes < 0xfff0);
    struct mqg_store *s = mqg_xcalloc(1, sizeof *s);
    s->magic = JRN_MAGIC;
    s->host = *host;
    s->fs = jrn_fs_current();
    s->nlanes = nlanes;
    s->lock_fd = -1;
    s->next_file = 1;
    s->digest_wait_us = JOURNAL_DIGEST_WAIT_US;
    s->row_min = JRN_ROW_MIN;
    atomic_store(&s->clean_tick_ms, JOURNAL_CLEAN_TICK_MS);
    /* One lane more for what nobody submitted: recovery's extents. */
    s->lanes = aligned_alloc(64, (nlanes + 1) * sizeof *s->lanes);
    MQG_ASSERT(s->lanes != NULL);
    memset(s->lanes, 0, (nlanes + 1) * sizeof *s->lanes);
    pthread_mutex_init(&s->seg_lock, NULL);
    mqg_cond_init(&s->spare_there);
    jrn_keys_init(&s->keys);
    atomic_store(&s->salt, (uint32_t)mqg_random_u64());
    atomic_store(&s->state, "recovering");
    journal_configure(s, conf, section);
    s->com.last_next = &s->com.first;
    s->streams = jrn_streams_new(s);
    s->part_files = jrn_part_files_new(s, journal_open_files());
    s->part_writer = jrn_part_writer_new(s);
    s->part_readers = jrn_part_readers_new(s);
    s->part_cleaner = jrn_part_cleaner_new(s);
    s->readers = jrn_readers_new(s);
    s->keeper = jrn_keeper_new(s);
    s->scratch = jrn_scratch_new(s);
    s->digester = jrn_digester_new(s);
    int r = journal_mkdirs(s);
    enum mqg_err err = r == 0 ? journal_lock(s, e)
                              : mqg_error_set(e, MQG_IO, 0, "%s.path: cannot make %s: %s", section, s->path,
                                              jrn_errno(r));
    if (err != MQG_OK)
        journal_fini(&s);
    *out = s;
    return err;
}

static uint32_t journal_caps_of(const struct mqg_store *s)
{
    uint32_t caps = jrn_ops.caps;
    return s->flush_sync ? caps : caps & ~(uint32_t)MQG_STORE_DURABLE;
}

static enum mqg_err journal_start(struct mqg_store *s, struct mqg_error *e)
{
    atomic_store(&s->state, "ok");
    atomic_store(&s->started, true);
    if (!s->flush_sync)
        mqg_log(MQG_LOG_WARN, MQG_EVENT_STORE,
                "store=%s flush=os what=\"confirms do not wait for the disk: a power cut may lose confirmed "
                "messages\"",
                s->section);
    int r = jrn_committer_raise(s); /* before anybody writes what an older program would not know */
    if (r == 0)
        r = jrn_readers_start(s->readers);
    if (r == 0)
        r = jrn_part_readers_start(s->part_readers);
    if (r == 0)
        r = jrn_part_writer_start(s->part_writer);
    if (r == 0)
        r = jrn_part_cleaner_start(s->part_cleaner);
    if (r == 0)
        r = jrn_scratch_start(s->scratch);
    if (r == 0)
        r = jrn_keeper_start(s->keeper);
    if (r == 0)
        r = jrn_digester_start(s->digester);
    if (r == 0)
        r = jrn_committer_start(s);
    if (r == 0)
        return MQG_OK;
    return mqg_error_set(e, r == -ENOSPC ? MQG_NO_SPACE : MQG_IO, 0, "%s: cannot start in %s: %s", s->section,
                         s->path, jrn_errno(r));
}

static void journal_stats(struct mqg_store *s, struct mqg_store_stats *out)
{
    *out = (struct mqg_store_stats){.commits = atomic_load(&s->stat_commits),
                                    .synced_bytes = atomic_load(&s->stat_bytes),
                                    .records = atomic_load(&s->stat_records),
                                    .last_sync_us = atomic_load(&s->stat_sync_us),
                                    .live_extents = atomic_load(&s->stat_extents),
                                    .state = atomic_load(&s->state)};
    uint64_t filed = jrn_streams_bytes(s);
    pthread_mutex_lock(&s->seg_lock);
    out->disk_bytes = s->disk_bytes + filed + jrn_scratch_bytes(s->scratch);
    out->live_bytes = filed;
    out->segments = s->nseg;
    for (const struct jrn_seg *seg = s->segs; seg; seg = seg->next)
        out->live_bytes += seg->live_bytes;
    out->moved_bytes = s->moved_bytes;
    out->moved_messages = s->moved_messages;
    pthread_mutex_unlock(&s->seg_lock);
}

static void journal_close(struct mqg_store *s)
{
    jrn_part_cleaner_stop(s->part_cleaner);
    jrn_digester_stop(s->digester);
    jrn_keeper_stop(s->keeper); /* before the committer, for which it may wait */
    atomic_store(&s->closing, true);
    jrn_committer_stop(s);
    if (!atomic_load(&s->failed))
        jrn_last_note(s);                       /* the seal may have begun another segment */
    jrn_part_writer_stop(s->part_writer, true); /* what was committed last stands in the files, too */
}

static void journal_stop(struct mqg_store *s)
{
    atomic_store(&s->stopping, true);
    jrn_part_cleaner_stop(s->part_cleaner);
    jrn_digester_stop(s->digester);
    jrn_keeper_stop(s->keeper);
    jrn_committer_stop(s);
    jrn_part_writer_stop(s->part_writer, false);
    jrn_part_readers_stop(s->part_readers);
    jrn_scratch_stop(s->scratch);
    jrn_readers_stop(s->readers);
}

/* In a crash: atomics and constants only. */
static void journal_dump(struct mqg_store *s, int fd)
{
    dprintf(fd,
            "journal path=%s state=%s frame=%llu durable=%llu segments=%u spares=%u queued_bytes=%lld "
            "extents=%llu\n",
            s->path, atomic_load(&s->state), (unsigned long long)s->com.number,
            (unsigned long long)s->com.durable, s->nseg, s->nspare, (long long)atomic_load(&s->queued_bytes),
            (unsigned long long)atomic_load(&s->stat_extents));
}

const struct mqg_store_ops jrn_ops = {
    .type = "journal",
    .caps = MQG_STORE_DURABLE | MQG_STORE_QUEUES | MQG_STORE_STREAMS | MQG_STORE_SEEK | MQG_STORE_TRIM |
            MQG_STORE_POSITIONS | MQG_STORE_META | MQG_STORE_ATOMIC_GROUPS | MQG_STORE_SCRATCH |
            MQG_STORE_INDEX,
    .open = journal_open,
    .caps_of = journal_caps_of,
    .recover = jrn_recover,
    .start = journal_start,
    .extent_open = jrn_extent_open,
    .extent_dead = jrn_extent_dead,
    .submit = jrn_lane_submit,
    .load = jrn_load,
    .stream_bounds = jrn_stream_bounds,
    .stream_read = jrn_stream_read,
    .stream_wait = jrn_stream_wait,
    .offset_for_time = jrn_part_time,
    .position_get = jrn_position_get,
    .stats = journal_stats,
    .close = journal_close,
    .stop = journal_stop,
    .fini = journal_fini,
    .dump = journal_dump,
    .scratch_put = jrn_scratch_put,
    .segments = jrn_account_segments,
    .queue_usage = jrn_account_queue,
    .stream_stats = jrn_stream_stats,
    .index_forget = jrn_index_forget,
    .index_read = jrn_index_read,
};

MQG_MODULE(journal) = {
    MQG_MODULE_HEAD(struct mqg_store_ops),
    .kind = MQG_MODULE_STORAGE,
    .name = "journal",
    .version = MQG_VERSION,
    .conf = journal_conf,
    .storage = &jrn_ops,
};
