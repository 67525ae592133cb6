/* main.c - crash-images: power cuts by the thousand.
 *
 * A store runs under a mixed load (work.c) on a disk in memory that writes down every operation (disk.c). From that log
 * disks are made as a cut at any moment may leave them (cut.c); each is recovered and judged by the ledger of what had
 * been confirmed (check.c). Then, on the same disk:
 *   - every second image is cut once more, while it recovers or right after it, and recovered and judged again: what a
 *     finished recovery told, the next one must tell, too;
 *   - every eighth lives on: more load, another cut, another judgement, since what a cut leaves behind (frames that were
 *     cut off, files half made) may come back only when the log grows over it.
 *
 * usage: crash_images [--images N] [--seed S] [--image N] [--without fsync|crc|nonce] [--keep FOLDER] [--verbose]
 *
 * It stops at the first violation, says what was broken and what had been confirmed, and leaves the disks in a folder.
 * Image N of seed S is made of the same load and the same cut each time; threads may interleave otherwise, though. With
 * --without a protection is taken out, and a violation is what must be found: then the exit code is 0 for "found".
 * */
#include "cut.h"
#include "mutant.h"
#include "work.h"

#include <mqgate/obs.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    MAIN_PER_RUN = 1000, /* images of one load */
    MAIN_STEPS = 700,
    MAIN_STEPS_ON = 40, /* of a store that lives on */
    MAIN_SEGMENT = 128 << 10,
    MAIN_SYNC_US = 150,
};

struct main_options {
    uint64_t images, seed, only;
    bool one, must_find, no_sync, verbose;
    const char *without, *keep;
};

/* One load and the disks that may come of it. */
struct main_run {
    const struct main_options *o;
    uint64_t seed, first; /* number of its first image */
    struct ledger ledger;
    struct disk_log log;
    uint64_t events, second, lived;
};

struct main_image {
    uint64_t number, rng;
    size_t moment;
};

/* ---- judging ---------------------------------------------------------------------------------------------------- */

static void main_dump(const struct main_run *run, uint64_t number, const char *what, struct disk *d)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/crash-images-%llu-%llu-%s", run->o->keep,
             (unsigned long long)run->o->seed, (unsigned long long)number, what);
    mkdir(path, 0700);
    disk_dump(d, path);
    printf("    the disk as it was found: %s/journal\n", path);
}

static size_t main_verdict(const struct main_run *run, const struct main_image *im, const char *what,
                           size_t event, struct disk *found, const struct mqg_dynbuf *why)
{
    printf("VIOLATION: seed %llu image %llu, %s, cut at event %zu:\n%.*s", (unsigned long long)run->o->seed,
           (unsigned long long)im->number, what, event, (int)why->len, (const char *)why->ptr);
    if (!run->o->must_find)
        main_dump(run, im->number, "disk", found);
    return 1;
}

/* Opens the disk and judges what is told; t stays open when that went well. found: the disk before it was opened. */
static size_t main_judge(const struct main_run *run, const struct main_image *im, const char *what,
                         size_t event, struct ledger *l, const struct led_cut *cut, struct told *t,
                         struct disk *d)
{
    struct disk *found = disk_clone(d);
    struct mqg_dynbuf why;
    size_t broken = 0;
    mqg_dynbuf_init(&why, 1 << 16);
    if (told_open(t, d, MAIN_SEGMENT) != MQG_OK) {
        mqg_dynbuf_printf(&why, "    recovery refused: %s\n", t->error.text);
        broken = 1;
    } else {
        told_load(t);
        broken = ledger_check(l, cut, t, &why);
        if (broken)
            told_end(t, false);
    }
    if (broken)
        main_verdict(run, im, what, event, found, &why);
    mqg_dynbuf_fini(&why);
    disk_free(&found);
    return broken;
}

/* How far the lanes were at an event of the log. */
static void main_mark(struct led_cut *cut, const struct disk_event *e)
{
    if (e->op != DISK_MARK || (e->off & CI_TOLD))
        return;
    uint32_t *lanes = e->off & CI_BEGAN ? cut->began : cut->done;
    lanes[e->off >> 32 & 0xff] = (uint32_t)e->off;
}

static size_t main_told_at(const struct disk_log *log)
{
    for (size_t i = 0; i < log->n; i++)
        if (log->at[i].op == DISK_MARK && (log->at[i].off & CI_TOLD))
            return i;
    return log->n;
}

/* ---- one image -------------------------------------------------------------------------------------------------- */

/* The disk that a cut at `moment` of the log leaves, when it all began with `start`. */
static struct disk *main_cut(const struct disk *start, const struct disk_log *log, size_t moment,
                             uint64_t *rng)
{
    struct cut c;
    cut_init(&c, start, log);
    cut_to(&c, moment);
    struct disk *d = cut_image(&c, rng);
    cut_fini(&c);
    return d;
}

/* A second cut, in the recovery after the first or right behind it. */
static size_t main_again(struct main_run *run, struct main_image *im, const struct disk *start,
                         const struct disk_log *log, const struct led_cut *cut, struct ledger *told)
{
    size_t moment = disk_random(&im->rng) % (log->n + 1);
    bool finished = moment > main_told_at(log);
    static const struct led_cut nothing;
    struct told t = {.go_on = false};
    struct disk *d = main_cut(start, log, moment, &im->rng);
    size_t broken = main_judge(run, im, finished ? "cut after a recovery" : "cut in a recovery", moment,
                               finished ? told : &run->ledger, finished ? &nothing : cut, &t, d);
    if (!broken)
        told_end(&t, false);
    disk_free(&d);
    run->second++;
    return broken;
}

static void main_cut_at(const struct disk_log *log, size_t from, size_t moment, struct led_cut *cut)
{
    for (size_t i = from; i < moment; i++)
        main_mark(cut, &log->at[i]);
}

/* After the load goes on for a while, one more cut. */
static size_t main_live_on(struct main_run *run, struct main_image *im, const struct disk *start,
                           const struct disk_log *log, struct ledger *l)
{
    size_t told_at = main_told_at(log), moment = told_at + disk_random(&im->rng) % (log->n - told_at + 1);
    struct led_cut cut = {{0}, {0}};
    struct told t = {.go_on = false};
    main_cut_at(log, 0, moment, &cut);
    struct disk *d = main_cut(start, log, moment, &im->rng);
    size_t broken = main_judge(run, im, "cut in the life after a recovery", moment, l, &cut, &t, d);
    if (!broken)
        told_end(&t, false);
    disk_free(&d);
    run->lived++;
    return broken;
}

/* The store goes on with the load. */
static bool main_work_on(struct ledger *l, struct told *t, uint64_t seed)
{
    struct work *w = work_new(l, t, seed);
    bool good = work_run(w, MAIN_STEPS_ON);
    work_free(&w);
    return good;
}

static size_t main_image(struct main_run *run, struct main_image *im, const struct cut *c,
                         const struct led_cut *cut)
{
    struct disk *d = cut_image(c, &im->rng), *start = disk_clone(d);
    struct disk_log log = {NULL, 0, 0};
    struct ledger told;
    struct told t = {.go_on = false};
    bool again = im->number % 2 == 0, on = im->number % 8 == 1;
    d->log = again || on ? &log : NULL;
    d->drop_sync = run->o->no_sync;
    size_t broken = main_judge(run, im, "cut in the load", im->moment, &run->ledger, cut, &t, d);
    if (!broken) {
        ledger_copy(&told, &run->ledger);
        ledger_settle(&told, &t);
        bool good = !on || main_work_on(&told, &t, im->rng);
        if (!good)
            printf("VIOLATION: seed %llu image %llu: the store failed in its second life\n",
                   (unsigned long long)run->o->seed, (unsigned long long)im->number);
        told_end(&t, false);
        broken = !good || (again && main_again(run, im, start, &log, cut, &told)) ||
                 (on && main_live_on(run, im, start, &log, &told));
        ledger_fini(&told);
    }
    disk_log_fini(&log);
    disk_free(&start);
    disk_free(&d);
    return broken;
}

/* ---- a run ------------------------------------------------------------------------------------------------------ */

static bool main_load(struct main_run *run)
{
    struct disk *d = disk_new();
    struct told t = {.go_on = false};
    d->log = &run->log;
    d->delay_us = MAIN_SYNC_US;
    d->rng = run->seed;
    d->drop_sync = run->o->no_sync;
    ledger_init(&run->ledger);
    enum mqg_err err = told_open(&t, d, MAIN_SEGMENT);
    struct work *w = work_new(&run->ledger, &t, run->seed);
    bool good = err == MQG_OK && work_run(w, MAIN_STEPS / 2);
    if (good && run->seed % 2)
        usleep(120 * 1000); /* lint:allow banned_calls nothing comes: a seal */
    good = good && work_run(w, MAIN_STEPS / 2);
    work_free(&w);
    if (!good)
        printf("the load failed: %s\n", t.error.text);
    if (err == MQG_OK)
        told_end(&t, run->seed % 3 == 0);
    disk_free(&d);
    return good;
}

static int main_order(const void *a, const void *b)
{
    const struct main_image *x = a, *y = b;
    return x->moment < y->moment ? -1 : x->moment > y->moment;
}

static size_t main_choose(const struct main_run *run, struct main_image *images)
{
    uint64_t last = run->first + MAIN_PER_RUN < run->o->images ? run->first + MAIN_PER_RUN : run->o->images;
    size_t n = 0;
    for (uint64_t i = run->first; i < last; i++) {
        struct main_image im = {.number = i, .rng = run->o->seed * 1000003 + i};
        im.moment = disk_random(&im.rng) % (run->log.n + 1);
        if (!run->o->one || i == run->o->only)
            images[n++] = im;
    }
    qsort(images, n, sizeof *images, main_order);
    return n;
}

static size_t main_images(struct main_run *run)
{
    struct main_image *images = mqg_xcalloc(MAIN_PER_RUN, sizeof *images);
    struct disk *empty = disk_new();
    struct led_cut cut = {{0}, {0}};
    struct cut c;
    size_t n = main_choose(run, images), broken = 0;
    cut_init(&c, empty, &run->log);
    for (size_t i = 0; i < n && !broken; i++) {
        main_cut_at(&run->log, c.at, images[i].moment, &cut);
        cut_to(&c, images[i].moment);
        broken = main_image(run, &images[i], &c, &cut);
    }
    cut_fini(&c);
    disk_free(&empty);
    free(images);
    return broken;
}

static size_t main_run(const struct main_options *o, uint64_t first, uint64_t sums[5])
{
    struct main_run run = {.o = o, .seed = o->seed * 7919 + first, .first = first};
    size_t broken = 1;
    if (main_load(&run))
        broken = main_images(&run);
    sums[0] += run.log.n;
    for (size_t i = 0; i < run.log.n; i++)
        sums[3] += run.log.at[i].op == DISK_WRITE && run.log.at[i].off == 0 &&
                   run.log.at[i].len == JRN_SEG_HEAD;
    for (size_t i = 0; i < run.log.n; i++)
        sums[4] += run.log.at[i].op == DISK_RENAME;
    sums[1] += run.second;
    sums[2] += run.lived;
    if (o->verbose)
        printf("images %llu...: %zu events\n", (unsigned long long)first, run.log.n);
    ledger_fini(&run.ledger);
    disk_log_fini(&run.log);
    return broken;
}

/* ---- options ---------------------------------------------------------------------------------------------------- */

static int main_usage(void)
{
    fprintf(stderr, "usage: crash_images [--images N] [--seed S] [--image N] [--without fsync|crc|nonce] "
                    "[--keep FOLDER] [--verbose]\n");
    return 2;
}

static bool main_without(struct main_options *o, const char *what)
{
    o->without = what;
    o->must_find = true;
    o->no_sync = strcmp(what, "fsync") == 0;
    mutant_no_crc = strcmp(what, "crc") == 0;
    mutant_no_nonce = strcmp(what, "nonce") == 0;
    return o->no_sync || mutant_no_crc || mutant_no_nonce;
}

static bool main_option(struct main_options *o, const char *name, const char *value)
{
    if (strcmp(name, "--images") == 0)
        o->images = strtoull(value, NULL, 10);
    else if (strcmp(name, "--seed") == 0)
        o->seed = strtoull(value, NULL, 10);
    else if (strcmp(name, "--keep") == 0)
        o->keep = value;
    else if (strcmp(name, "--without") == 0)
        return main_without(o, value);
    else if (strcmp(name, "--image") == 0) {
        o->only = strtoull(value, NULL, 10);
        o->one = true;
    } else
        return false;
    return true;
}

int main(int argc, char **argv)
{
    const char *tmp = getenv("TMPDIR");
    struct main_options o = {
        .images = 2000, .seed = mqg_random_u64() % 1000000000, .keep = tmp ? tmp : "/tmp"};
    uint64_t sums[5] = {0}, done;
    size_t broken = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--verbose") == 0)
            o.verbose = true;
        else if (i + 1 >= argc || !main_option(&o, argv[i], argv[i + 1]))
            return main_usage();
        else
            i++;
    }
    if (!o.verbose)
        mqg_log_level_set(MQG_LOG_ERROR + 1);
    printf("seed=%llu images=%llu%s%s\n", (unsigned long long)o.seed, (unsigned long long)o.images,
           o.without ? " without " : "", o.without ? o.without : "");
    fflush(stdout);
    if (o.one && o.only >= o.images)
        o.images = o.only + 1;
    for (done = o.one ? o.only / MAIN_PER_RUN * MAIN_PER_RUN : 0; done < o.images && !broken;
         done += MAIN_PER_RUN) {
        broken = main_run(&o, done, sums);
        if (o.one)
            break;
    }
    printf("%s: %llu events of load, %llu uses of segments, %llu second cuts, %llu second lives\n",
           broken ? "VIOLATED" : "held", (unsigned long long)sums[0], (unsigned long long)sums[3],
           (unsigned long long)sums[1], (unsigned long long)sums[2]);
    printf("%llu entries forgotten, %llu asked back, %llu purges, %llu messages put aside, %llu files "
           "compacted, %llu starts "
           "moved by retention\n",
           (unsigned long long)work_counts.forgotten, (unsigned long long)work_counts.recalled,
           (unsigned long long)work_counts.purged, (unsigned long long)work_counts.aside,
           (unsigned long long)sums[4], (unsigned long long)work_counts.retained);
    return o.must_find ? !broken : broken != 0;
}
