/* crash_test.c - power cuts: from the record of one run, the disk as it may be found after a cut at any moment is
 * built again and again, recovered, and compared with what had been confirmed by then.
 *
 * A write that no fdatasync has covered may be there whole, in part (sector by sector), or not at all; a file whose
 * folder was not synced may be missing, a removed one may be back. What must hold for every such image:
 *   - recovery takes it: a cut is never damage;
 *   - a message that was confirmed and that nobody had begun to settle is there, with its bytes;
 *   - a message whose settling was confirmed is not;
 *   - a definition has the last confirmed value or a later one that had been submitted.
 * Small segments and a slow queue make the run roll, recycle and evacuate all the time, so that images fall between every two
 * steps of it; a hundred definitions that are said once make last words go ahead of their segments in several chunks. With --no-fsync the same run leaves the fdatasync out, and images must break the rules (registered as
 * journal_crash_no_fsync_must_fail). usage: crash_test [--no-fsync] [--images N] [--seed S] */
#include "test_kit.h"

#include <sys/stat.h>

enum {
    CRASH_MSGS = 1500,
    CRASH_FILES = 64,
    CRASH_BODY = 24000,
    CRASH_LATE = 90,
    CRASH_SLOW_EVERY = 16,  /* go to a queue that is slow */
    CRASH_NEVER_EVERY = 48, /* never settled */
    CRASH_SLOW_LATE = 500,
    CRASH_ONCE = 120, /* definitions that are said once */
    CRASH_AFTER = 10, /* ... after so many messages */
    CRASH_QUEUE = 1,
    CRASH_SLOW = 2
};

#define CRASH_BEGAN (1ull << 63) /* a mark: this ticket is about to be submitted */

static size_t crash_images = 150;
static uint64_t crash_seed;
static bool crash_no_fsync;

/* What the run did, by qseq: tickets of lane 0 (put) and lane 1 (settle); of lane 2: definitions, ticket = value. */
static uint64_t crash_put[CRASH_MSGS + 1], crash_settle[CRASH_MSGS + 1];

struct crash_file {
    char name[32];
    bool exists, entry_durable, removed; /* removed: unlinked, the folder not yet synced */
    int fd;
    uint8_t *bytes; /* durable content */
    size_t len;
    size_t *pending;                         /* events: writes that are not covered yet */
    size_t npending, cap_pending, sync_from; /* writes before this one are covered by the sync under way */
};

struct crash_disk {
    const struct jrn_fs_record *record;
    struct crash_file files[CRASH_FILES];
    size_t nfile, at; /* the next event */
    uint64_t began[KIT_LANES], done[KIT_LANES];
    uint64_t rng;
};

static bool crash_is_slow(uint64_t qseq)
{
    return qseq % CRASH_SLOW_EVERY == 0;
}

/* Most messages are settled soon, some only when their segment is long behind, a few when they have been moved to a cold
 * one, the rest never. */
static uint64_t crash_lag(uint64_t qseq)
{
    if (crash_is_slow(qseq))
        return qseq % CRASH_NEVER_EVERY == 0 ? CRASH_MSGS : CRASH_SLOW_LATE;
    return qseq % 10 == 3 ? CRASH_LATE : 12;
}

/* The key of the n-th definition: many that are said once, two that change all the time. */
static const char *crash_key(uint64_t value, char out[24])
{
    if (value <= CRASH_ONCE)
        snprintf(out, 24, "once %llu", (unsigned long long)value);
    else
        snprintf(out, 24, "%s", value % 2 ? "odd" : "even");
    return out;
}

static uint64_t crash_random(struct crash_disk *d)
{
    d->rng ^= d->rng << 13;
    d->rng ^= d->rng >> 7;
    d->rng ^= d->rng << 17;
    return d->rng;
}

/* ---- the run ------------------------------------------------------------------------------------------- */

static void crash_began(struct kit *k, uint32_t lane)
{
    jrn_fs_record_mark(k->record, CRASH_BEGAN | (uint64_t)lane << 32 | (k->ticket[lane] + 1));
}

static void crash_define(struct kit *k, uint64_t value)
{
    char text[24], name[24];
    struct mqg_slice key = mqg_slice_str(crash_key(value, name));
    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    struct mqg_store_op op = {.kind = MQG_OP_META, .meta = {key, mqg_slice_str(text), false}};
    crash_began(k, 2);
    assert_int_equal(kit_submit(k, 2, &op, 1, MQG_SUBMIT_URGENT), value);
}

static void crash_done_with(struct kit *k, uint64_t qseq, struct mqg_extent *x)
{
    crash_began(k, 1);
    crash_settle[qseq] = kit_settle(k, 1, crash_is_slow(qseq) ? CRASH_SLOW : CRASH_QUEUE, qseq, qseq);
    mqg_extent_give(x, 1);
}

static void crash_run(struct kit *k)
{
    struct mqg_extent *extents[CRASH_MSGS + 1];
    for (uint64_t i = 1; i <= CRASH_MSGS; i++) {
        uint64_t queue = crash_is_slow(i) ? CRASH_SLOW : CRASH_QUEUE;
        extents[i] = jrn_ops.extent_open(k->s, 0);
        crash_began(k, 0);
        crash_put[i] = kit_put(k, 0, queue, i, i * 7919 % CRASH_BODY);
        for (uint64_t v = 1; i == CRASH_AFTER && v <= CRASH_ONCE; v++)
            crash_define(k, v);
        if (i % 25 == 0)
            crash_define(k, CRASH_ONCE + i / 25);
        for (uint64_t old = i > CRASH_SLOW_LATE ? i - CRASH_SLOW_LATE : 1; old < i; old++)
            if (old + crash_lag(old) == i)
                crash_done_with(k, old, extents[old]);
        if (i % 5 == 0)
            assert_true(kit_wait(k, 0, crash_put[i]));
    }
    assert_true(kit_wait(k, 0, crash_put[CRASH_MSGS]));
}

/* Headers written: how often a segment began a new use, which is what the run is for. */
static size_t crash_uses(const struct jrn_fs_record *r)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++)
        n += r->events[i].op == JRN_FS_WRITE && r->events[i].off == 0 && r->events[i].len == JRN_SEG_HEAD;
    return n;
}

/* ---- the disk at a moment -------------------------------------------------------------------------------- */

static struct crash_file *crash_file(struct crash_disk *d, const char *path, bool make)
{
    const char *name = strrchr(path, '/') + 1;
    if (strlen(name) < 5 || strcmp(name + strlen(name) - 4, ".seg") != 0)
        return NULL;
    for (size_t i = 0; i < d->nfile; i++)
        if (strcmp(d->files[i].name, name) == 0)
            return &d->files[i];
    assert_true(!make || d->nfile < CRASH_FILES);
    if (!make)
        return NULL;
    struct crash_file *f = &d->files[d->nfile++];
    *f = (struct crash_file){.exists = true, .fd = -1};
    snprintf(f->name, sizeof f->name, "%s", name);
    return f;
}

static struct crash_file *crash_by_fd(struct crash_disk *d, int fd)
{
    for (size_t i = 0; i < d->nfile; i++)
        if (d->files[i].fd == fd && fd >= 0)
            return &d->files[i];
    return NULL;
}

static void crash_put_bytes(struct crash_file *f, uint64_t off, const uint8_t *data, size_t len)
{
    if (off + len > f->len) {
        f->bytes = mqg_xrealloc(f->bytes, off + len);
        memset(f->bytes + f->len, 0, off + len - f->len);
        f->len = off + len;
    }
    if (data)
        memcpy(f->bytes + off, data, len);
}

static void crash_sync_end(struct crash_disk *d, struct crash_file *f)
{
    size_t kept = 0;
    for (size_t i = 0; i < f->npending; i++) {
        const struct jrn_fs_event *e = &d->record->events[f->pending[i]];
        if (f->pending[i] < f->sync_from)
            crash_put_bytes(f, e->off, e->data, e->len);
        else
            f->pending[kept++] = f->pending[i];
    }
    f->npending = kept;
}

static void crash_write(struct crash_file *f, size_t event)
{
    if (f->npending == f->cap_pending) {
        f->cap_pending = f->cap_pending ? f->cap_pending * 2 : 16;
        f->pending = mqg_xrealloc(f->pending, f->cap_pending * sizeof *f->pending);
    }
    f->pending[f->npending++] = event;
}

static void crash_opened(struct crash_disk *d, const struct jrn_fs_event *e)
{
    struct crash_file *was = crash_by_fd(d, e->fd), *f = crash_file(d, (const char *)e->data, true);
    if (was)
        was->fd = -1; /* the number is used again */
    if (f)
        f->fd = e->fd;
}

static void crash_folder_synced(struct crash_disk *d)
{
    for (size_t i = 0; i < d->nfile; i++) {
        d->files[i].entry_durable = true;
        d->files[i].exists = d->files[i].exists && !d->files[i].removed;
    }
}

static void crash_mark(struct crash_disk *d, uint64_t number)
{
    uint64_t *lanes = number & CRASH_BEGAN ? d->began : d->done;
    lanes[number >> 32 & 0xff] = number & 0xffffffff;
}

/* Takes the next event into account. */
static void crash_step(struct crash_disk *d)
{
    const struct jrn_fs_event *e = &d->record->events[d->at];
    struct crash_file *f = crash_by_fd(d, e->fd);
    switch (e->op) {
    case JRN_FS_OPEN: crash_opened(d, e); break;
    case JRN_FS_MARK: crash_mark(d, e->off); break;
    case JRN_FS_SYNC_DIR: crash_folder_synced(d); break;
    case JRN_FS_UNLINK:
        f = crash_file(d, (const char *)e->data, false);
        if (f)
            f->removed = true;
        break;
    case JRN_FS_ALLOCATE:
        if (f)
            crash_put_bytes(f, 0, NULL, e->off);
        break;
    case JRN_FS_WRITE:
        if (f)
            crash_write(f, d->at);
        break;
    case JRN_FS_SYNC:
        if (f)
            f->sync_from = d->at;
        break;
    case JRN_FS_SYNC_END:
        if (f)
            crash_sync_end(d, f);
        break;
    default: break;
    }
    d->at++;
}

/* ---- an image ----------------------------------------------------------------------------------------------- */

/* Writes that no sync covers, as the disk may have taken them: none, all, a prefix, or any sectors. */
static void crash_tear(struct crash_disk *d, struct crash_file *image, const struct crash_file *f)
{
    uint64_t mode = crash_random(d) % 4;
    size_t prefix = f->npending ? crash_random(d) % (f->npending + 1) : 0;
    for (size_t i = 0; i < f->npending; i++) {
        const struct jrn_fs_event *e = &d->record->events[f->pending[i]];
        for (size_t at = 0; at < e->len; at += JRN_BLOCK) {
            size_t n = e->len - at < JRN_BLOCK ? e->len - at : JRN_BLOCK;
            bool there = mode == 1 || (mode == 2 && i < prefix) || (mode == 3 && crash_random(d) % 2);
            if (there)
                crash_put_bytes(image, e->off + at, e->data + at, n);
        }
    }
}

static void crash_image(struct crash_disk *d, const struct kit *k)
{
    mkdir(k->path, 0700);
    for (size_t i = 0; i < d->nfile; i++) {
        const struct crash_file *f = &d->files[i];
        char path[512];
        bool there = f->exists && (f->entry_durable || crash_random(d) % 2) &&
                     !(f->removed && crash_random(d) % 2);
        if (!there)
            continue;
        struct crash_file image = {.len = f->len, .bytes = mqg_xmalloc(f->len ? f->len : 1)};
        memcpy(image.bytes, f->bytes ? f->bytes : (const uint8_t *)"", f->len);
        crash_tear(d, &image, f);
        snprintf(path, sizeof path, "%s/%s", k->path, f->name);
        kit_write(path, image.bytes, image.len);
        free(image.bytes);
    }
}

static size_t crash_broken(const struct crash_disk *d, const char *rule, uint64_t number)
{
    print_message("event %zu: %s: %llu\n", d->at, rule, (unsigned long long)number);
    return 1;
}

static size_t crash_check_messages(const struct crash_disk *d, struct kit *k)
{
    size_t broken = 0;
    for (uint64_t i = 1; i <= CRASH_MSGS; i++) {
        const struct kit_msg *m = kit_find(k, crash_is_slow(i) ? CRASH_SLOW : CRASH_QUEUE, i);
        bool confirmed = crash_put[i] <= d->done[0];
        bool touched = crash_settle[i] && crash_settle[i] <= d->began[1];
        bool settled = crash_settle[i] && crash_settle[i] <= d->done[1];
        if (confirmed && !touched && !m)
            broken += crash_broken(d, "a confirmed message is missing", i);
        if (settled && m)
            broken += crash_broken(d, "a settled message is back", i);
        if (crash_put[i] > d->began[0] && m)
            broken += crash_broken(d, "a message of the future", i);
        if (m && i % 7 == 0)
            kit_check_body(k, m);
    }
    return broken;
}

static size_t crash_check_meta(const struct crash_disk *d, const struct kit *k)
{
    size_t broken = 0;
    char key[24], other[24];
    for (uint64_t v = 1; v <= CRASH_ONCE + 2; v++) {
        const char *text = kit_meta_value(k, crash_key(v, key));
        uint64_t value = text ? strtoull(text, NULL, 10) : 0, sure = d->done[2];
        if (v <= CRASH_ONCE)
            sure = sure >= v ? v : 0;
        while (sure > 0 && strcmp(crash_key(sure, other), key) != 0)
            sure--;
        if (value < sure || value > d->began[2])
            broken += crash_broken(d, "a definition is not the last one", value);
    }
    return broken;
}

static void crash_clear(const struct kit *k)
{
    char path[512];
    const char *const ends[] = {".seg", "lock", "quarantine", "last"}; /* not of this image */
    for (size_t i = 0; i < MQG_COUNTOF(ends); i++) {
        while (kit_files(k, ends[i]) > 0) {
            kit_file(k, ends[i], 0, path);
            unlink(path);
        }
    }
}

/* One power cut, now. Returns the number of broken rules. */
static size_t crash_now(struct crash_disk *d, struct kit *k)
{
    crash_clear(k);
    crash_image(d, k);
    if (kit_try(k) != MQG_OK) {
        print_message("%s\n", k->error.text);
        return crash_broken(d, "recovery refused", 0);
    }
    size_t broken = crash_check_messages(d, k) + crash_check_meta(d, k);
    if (crash_random(d) % 4 == 0) { /* and once more, after a second cut right behind the first */
        kit_crash(k);
        kit_open(k);
        broken += crash_check_messages(d, k) + crash_check_meta(d, k);
    }
    kit_crash(k);
    return broken;
}

static int crash_order(const void *a, const void *b)
{
    const size_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

static bool crash_has_moved(struct kit *k, uint64_t arg)
{
    (void)arg;
    return kit_stats(k).moved_messages > 0 && atomic_load(&k->s->stat_ahead) > 1;
}

static void crash_everywhere(void **state)
{
    struct kit k, images;
    struct jrn_fs_record record;
    struct jrn_fs_fault fault;
    (void)state;
    kit_init(&k, "cut", "1MiB");
    jrn_fs_record_init(&record, &jrn_fs_real);
    jrn_fs_fault_init(&fault, &record.fs);
    fault.drop_sync = crash_no_fsync;
    mqg_journal_fs(&fault.fs);
    k.record = &record;
    kit_open(&k);
    crash_run(&k);
    if (!crash_no_fsync)
        kit_wait_for(crash_has_moved, &k, 0); /* a busy machine's keeper may only begin now */
    uint64_t moved = kit_stats(&k).moved_messages, ahead = atomic_load(&k.s->stat_ahead);
    kit_crash(&k);
    mqg_journal_fs(NULL);
    kit_fini(&k);
    struct crash_disk d = {.record = &record, .rng = crash_seed * 2 + 1};
    size_t *moments = mqg_xcalloc(crash_images, sizeof *moments), broken = 0;
    for (size_t i = 0; i < crash_images; i++)
        moments[i] = crash_random(&d) % record.n;
    qsort(moments, crash_images, sizeof *moments, crash_order);
    kit_init(&images, "image", "1MiB");
    for (size_t i = 0; i < crash_images && broken == 0; i++) {
        while (d.at < moments[i])
            crash_step(&d);
        broken += crash_now(&d, &images);
    }
    print_message("seed=%llu events=%zu uses=%zu moved=%llu ahead=%llu images=%zu broken=%zu\n",
                  (unsigned long long)crash_seed, record.n, crash_uses(&record), (unsigned long long)moved,
                  (unsigned long long)ahead, crash_images, broken);
    for (size_t i = 0; i < d.nfile; i++) {
        free(d.files[i].bytes);
        free(d.files[i].pending);
    }
    free(moments);
    jrn_fs_record_fini(&record);
    kit_fini(&images);
    assert_int_equal(broken, 0);
    assert_true(moved > 0 || crash_no_fsync); /* evacuation was part of it */
    assert_true(ahead > 1 || crash_no_fsync); /* and words that go ahead */
}

int main(int argc, char **argv)
{
    crash_seed = mqg_random_u64() % 1000000000;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--no-fsync") == 0)
            crash_no_fsync = true;
        else if (strcmp(argv[i], "--images") == 0 && i + 1 < argc)
            crash_images = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            crash_seed = strtoull(argv[++i], NULL, 10);
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(crash_everywhere)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
