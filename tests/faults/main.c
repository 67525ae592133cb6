/* main.c - faults: every call of the file-system table that can fail fails at its n-th time, for every kind of thread of the
 * store: the one that starts and recovers it, the committer, the keeper (spares, recycling, evacuation, digests), the
 * others.
 *
 * A store (a new one; one with a past: a crash, mostly dead segments, cold ones, partitions) starts on a disk in memory whose n-th
 * call fails, and runs under crash-images' mixed load. Whatever happens:
 *   - a start that fails says why, and the next one, without the fault, has everything;
 *   - what was confirmed is there after the process is gone, and also after a power cut that leaves of unsynced writes what
 *     it likes: a failed fdatasync has synced nothing;
 *   - once a store failed it confirms nothing more;
 *   - what is no failure (EINTR, a short transfer, a call whose answer is only a hint) is none: the load goes through.
 * The ledger of crash-images judges.
 *
 * usage: faults [--all] [--seed S] [--case TEXT] [--verbose]. Without --all n grows by half a time from the sixth on. */
#include "cut.h"
#include "fs_test.h"
#include "work.h"

#include <mqgate/obs.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { FAULTS_SEGMENT = 128 << 10, FAULTS_PAST = 500, FAULTS_STEPS = 150, FAULTS_MAX = 100000 };

struct fault_case {
    const char *name;
    enum jrn_fs_op op;
    int error;
    bool harmless; /* the work goes through as if nothing had been */
    bool rare;     /* the store may get by without such a call */
};

static const struct fault_case cases[] = {
    {"open EMFILE", JRN_FS_OPEN, -EMFILE, false, false},
    {"open EACCES", JRN_FS_OPEN, -EACCES, false, false},
    {"open ENOSPC", JRN_FS_OPEN, -ENOSPC, false, false},
    {"write EIO", JRN_FS_WRITE, -EIO, false, false},
    {"write ENOSPC", JRN_FS_WRITE, -ENOSPC, false, false},
    {"write EROFS", JRN_FS_WRITE, -EROFS, false, false},
    {"write EINTR", JRN_FS_WRITE, -EINTR, true, false},
    {"write short", JRN_FS_WRITE, 0, true, false},
    {"read EIO", JRN_FS_READ, -EIO, false, false},
    {"read EINTR", JRN_FS_READ, -EINTR, true, false},
    {"read short", JRN_FS_READ, 0, true, false},
    {"fdatasync EIO", JRN_FS_SYNC, -EIO, false, false},
    {"fdatasync ENOSPC", JRN_FS_SYNC, -ENOSPC, false, false},
    {"fdatasync EINTR", JRN_FS_SYNC, -EINTR, true, false},
    {"fsync of a folder EIO", JRN_FS_SYNC_DIR, -EIO, false, false},
    {"rename EIO", JRN_FS_RENAME, -EIO, false, true},
    {"unlink EIO", JRN_FS_UNLINK, -EIO, false, false},
    {"ftruncate EIO", JRN_FS_TRUNCATE, -EIO, false, false},
    {"fallocate EIO", JRN_FS_ALLOCATE, -EIO, false, false},
    {"fallocate ENOSPC", JRN_FS_ALLOCATE, -ENOSPC, false, false},
    {"fallocate EOPNOTSUPP", JRN_FS_ALLOCATE, -EOPNOTSUPP, true, false},
    {"size EIO", JRN_FS_SIZE, -EIO, false, false},
    {"lock EIO", JRN_FS_LOCK, -EIO, false, false},
    {"statvfs EIO", JRN_FS_SPACE, -EIO, true, false},
    {"mkdir EACCES", JRN_FS_MKDIR, -EACCES, false, false},
    {"list EIO", JRN_FS_LIST, -EIO, false, false},
    {"rmdir EIO", JRN_FS_RMDIR, -EIO, false, false},
    {"the folder is removed", JRN_FS_LINKS, 0, false, false},
    {"a read-only remount", JRN_FS_OPS, -EROFS, false, false}, /* everything fails from there on */
};

/* Threads by name; the main one has the program's. */
static const char *const threads[] = {"faults", "journal", "journal-keeper", "journal-streams", NULL};

struct faults {
    struct disk *past; /* a disk to start from, and what is known of it */
    struct ledger past_ledger;
    struct led_cut past_cut;
    uint64_t seed, runs, fired, failed, refused, moved;
    uint64_t hits[sizeof cases / sizeof cases[0]];
    const char *only;
    bool all, verbose;
};

/* ---- the past -------------------------------------------------------------------------------------------------- */

static struct led_cut faults_cut(const struct ledger *l, const struct told *t)
{
    struct led_cut cut;
    for (int i = 0; i < CI_LANES; i++) {
        cut.began[i] = l->tickets[i];
        cut.done[i] = atomic_load(&t->done[i]);
    }
    cut.began[CI_SEEN] = cut.done[CI_SEEN] = l->tickets[CI_SEEN];
    return cut;
}

/* steps 0: a folder that is not there yet. */
static bool faults_past(struct faults *f, size_t steps)
{
    struct told t = {.go_on = false};
    f->past = disk_new();
    f->past->rng = f->seed;
    ledger_init(&f->past_ledger);
    f->past_cut = (struct led_cut){{0}, {0}};
    if (steps == 0)
        return true;
    if (told_open(&t, f->past, FAULTS_SEGMENT) != MQG_OK)
        return false;
    struct work *w = work_new(&f->past_ledger, &t, f->seed);
    bool good = work_run(w, steps);
    work_free(&w);
    f->past_cut = faults_cut(&f->past_ledger, &t);
    told_end(&t, false);
    return good;
}

/* ---- judging --------------------------------------------------------------------------------------------------- */

static size_t faults_broken(const struct fault_case *fc, const char *thread, long n, const char *what,
                            const char *why)
{
    printf("VIOLATION: %s, call %ld of %s: %s\n%s", fc->name, n, thread ? thread : "any thread", what, why);
    return 1;
}

/* Starts without a fault and judges; the store is stopped again. */
static size_t faults_judge(const struct fault_case *fc, const char *thread, long n, const char *what,
                           struct ledger *l, const struct led_cut *cut, struct disk *d)
{
    struct told t = {.go_on = false};
    struct mqg_dynbuf why;
    mqg_dynbuf_init(&why, 1 << 16);
    size_t broken = 0;
    if (told_open(&t, d, FAULTS_SEGMENT) != MQG_OK) {
        mqg_dynbuf_printf(&why, "    refused: %s\n", t.error.text);
        broken = 1;
    } else {
        told_load(&t);
        broken = ledger_check(l, cut, &t, &why);
        told_end(&t, false);
    }
    mqg_dynbuf_u8(&why, 0);
    if (broken)
        faults_broken(fc, thread, n, what, (const char *)why.ptr);
    mqg_dynbuf_fini(&why);
    return broken;
}

/* ---- one run --------------------------------------------------------------------------------------------------- */

struct faults_run {
    struct faults *f;
    const struct fault_case *fc;
    const char *thread;
    long n;
    struct jrn_fs plain; /* the disk's own table */
    struct jrn_fs_fault fault;
    struct ledger ledger;
};

static void faults_entry(void *arg, const char *name)
{
    (void)arg;
    (void)name;
}

/* Is the partition's folder on the disk? */
static bool faults_has_folder(const struct faults_run *run, uint64_t partition)
{
    char path[128];
    snprintf(path, sizeof path, CI_PATH "/streams/%016llx", (unsigned long long)partition);
    return run->plain.list(run->plain.ctx, path, faults_entry, NULL) == 0;
}

/* The deleted partitions' folders go, unless the fault that is waited for comes. false: one stays. */
static bool faults_await_removal(const struct faults_run *run, struct told *t)
{
    for (int i = 0; i < 60000; i++) {
        bool all = true;
        for (size_t k = 0; k < run->ledger.npart && all; k++)
            all = !run->ledger.parts[k].gone.ticket || !faults_has_folder(run, run->ledger.parts[k].id);
        if (all || atomic_load(&run->fault.fired) > 0 || atomic_load(&t->failed))
            return true;
        usleep(500); /* lint:allow banned_calls another thread removes them */
    }
    return false;
}

/* The load under the fault; the cut says how far it came. */
static size_t faults_load(struct faults_run *run, struct told *t, struct led_cut *cut)
{
    struct mqg_dynbuf why;
    mqg_dynbuf_init(&why, 1 << 16);
    told_load(t);
    /* What cannot be read is an error, told. */
    run->ledger.mode = run->fc->harmless ? LED_POWER_CUT : LED_FLIPPED;
    size_t broken = 0;
    if (t->span_errors <= 3)
        broken = ledger_check(&run->ledger, &run->f->past_cut, t, &why);
    run->ledger.mode = LED_POWER_CUT;
    mqg_dynbuf_u8(&why, 0);
    if (broken)
        faults_broken(run->fc, run->thread, run->n, "judged under the fault", (const char *)why.ptr);
    mqg_dynbuf_fini(&why);
    if (broken || t->span_errors > 3) /* what was not read back is not known: the next start judges */
        return broken;
    ledger_settle(&run->ledger, t);
    struct work *w = work_new(&run->ledger, t, run->f->seed + (uint64_t)run->n);
    bool good = work_run(w, FAULTS_STEPS) && work_delete_parts(w);
    work_free(&w);
    if (good && !faults_await_removal(run, t))
        return faults_broken(run->fc, run->thread, run->n, "a deleted partition's folder stays", "");
    *cut = faults_cut(&run->ledger, t);
    struct mqg_store_stats st;
    jrn_ops.stats(t->s, &st);
    run->f->moved += st.moved_messages;
    run->f->failed += atomic_load(&t->failed);
    if (!good && (run->fc->harmless || !atomic_load(&t->failed)))
        return faults_broken(run->fc, run->thread, run->n, "the load did not go through", "");
    return 0;
}

/* After the process is gone, and after a power cut at that moment. */
static size_t faults_after(struct faults_run *run, const struct led_cut *cut, struct disk *d,
                           const struct disk_log *log)
{
    struct cut c;
    uint64_t rng = run->f->seed * 31 + (uint64_t)run->n;
    cut_init(&c, run->f->past, log);
    cut_to(&c, log->n);
    struct disk *image = cut_image(&c, &rng);
    cut_fini(&c);
    d->fs = run->plain;
    d->log = NULL;
    size_t broken = faults_judge(run->fc, run->thread, run->n, "after the process was gone", &run->ledger,
                                 cut, d);
    if (!broken)
        broken = faults_judge(run->fc, run->thread, run->n, "after a power cut", &run->ledger, cut, image);
    disk_free(&image);
    return broken;
}

/* One life with the n-th call failing; *fired: there was an n-th call. */
static size_t faults_once(struct faults_run *run, bool *fired)
{
    struct faults *f = run->f;
    struct disk *d = disk_clone(f->past);
    struct disk_log log = {NULL, 0, 0};
    struct told t = {.faulty = true};
    struct led_cut cut = f->past_cut;
    size_t broken = 0;
    d->log = &log;
    d->rng = f->seed + (uint64_t)run->n;
    ledger_copy(&run->ledger, &f->past_ledger);
    run->plain = d->fs;
    jrn_fs_fault_init(&run->fault, &run->plain);
    run->fault.op = (int)run->fc->op;
    run->fault.error = run->fc->error;
    run->fault.only = run->thread;
    atomic_store(&run->fault.all_after, run->fc->op == JRN_FS_OPS);
    atomic_store(&run->fault.nth, run->n);
    d->fs = run->fault.fs;
    if (told_open(&t, d, FAULTS_SEGMENT) == MQG_OK) {
        broken = faults_load(run, &t, &cut);
        told_end(&t, false);
    } else {
        f->refused++;
        if (run->fc->harmless || t.error.text[0] == '\0')
            broken = faults_broken(run->fc, run->thread, run->n, "refused", t.error.text);
    }
    *fired = atomic_load(&run->fault.fired) > 0;
    if (!broken)
        broken = faults_after(run, &cut, d, &log);
    f->runs++;
    f->fired += *fired;
    ledger_fini(&run->ledger);
    disk_log_fini(&log);
    disk_free(&d);
    return broken;
}

/* ---- all of them ----------------------------------------------------------------------------------------------- */

static long faults_next(const struct faults *f, long n)
{
    return f->all || n < 6 ? n + 1 : n + n / 2;
}

static size_t faults_case(struct faults *f, const struct fault_case *fc, const char *thread)
{
    long n = 1, last = 0;
    for (bool fired = true; fired && n < FAULTS_MAX; n = faults_next(f, n)) {
        struct faults_run run = {.f = f, .fc = fc, .thread = thread, .n = n};
        if (faults_once(&run, &fired))
            return 1;
        last = fired ? n : last;
    }
    if (f->verbose)
        printf("%-24s %-16s failed up to call %ld\n", fc->name, thread ? thread : "any", last);
    return 0;
}

static size_t faults_all(struct faults *f)
{
    size_t broken = 0;
    for (size_t i = 0; i < MQG_COUNTOF(cases) && !broken; i++) {
        if (f->only && !strstr(cases[i].name, f->only))
            continue;
        uint64_t before = f->fired;
        for (size_t k = 0; k < MQG_COUNTOF(threads) && !broken; k++)
            broken = faults_case(f, &cases[i], threads[k]);
        f->hits[i] += f->fired - before;
    }
    return broken;
}

/* From nothing, and from a past; every case must have happened. */
static size_t faults_both(struct faults *f)
{
    size_t broken = 0;
    for (size_t past = 0; past < 2 && !broken; past++) {
        broken = faults_past(f, past * FAULTS_PAST) ? faults_all(f) : 1;
        ledger_fini(&f->past_ledger);
        disk_free(&f->past);
    }
    for (size_t i = 0; i < MQG_COUNTOF(cases) && !broken; i++) {
        if (f->only && !strstr(cases[i].name, f->only))
            continue;
        printf("%-24s %llu times\n", cases[i].name, (unsigned long long)f->hits[i]);
        broken += f->hits[i] == 0 && !cases[i].rare;
    }
    return broken;
}

int main(int argc, char **argv)
{
    struct faults f = {.seed = mqg_random_u64() % 1000000000};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--all") == 0)
            f.all = true;
        else if (strcmp(argv[i], "--verbose") == 0)
            f.verbose = true;
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            f.seed = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--case") == 0 && i + 1 < argc)
            f.only = argv[++i];
        else {
            fprintf(stderr, "usage: faults [--all] [--seed S] [--case TEXT] [--verbose]\n");
            return 2;
        }
    }
    mqg_log_level_set(MQG_LOG_ERROR + 1);
    pthread_setname_np(pthread_self(), "faults");
    printf("seed=%llu\n", (unsigned long long)f.seed);
    fflush(stdout);
    size_t broken = faults_both(&f);
    printf("%s: %llu runs, %llu with a fault, %llu stores failed, %llu starts refused, %llu messages moved\n",
           broken ? "VIOLATED" : "held", (unsigned long long)f.runs, (unsigned long long)f.fired,
           (unsigned long long)f.failed, (unsigned long long)f.refused, (unsigned long long)f.moved);
    return broken != 0;
}
