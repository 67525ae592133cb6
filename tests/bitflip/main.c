/* main.c - bitflip: a store with everything in it, stopped; one spot of one of its files is changed; then it is started.
 *
 * Changed is what disks change: a bit, a byte, a sector of zeros, a sector of another place, the end of a file. Every kind
 * of spot gets as many changes as any other: header, head of a frame, head of a chunk, each type of record, each kind of
 * file beside the segments. What must hold, on a store that was stopped properly, so that all was confirmed:
 *   - the start is refused (damage, a newer format), or nothing is missing: a message or batch that cannot be read is told
 *     as an error when it is read, never as wrong bytes, and never left out in silence;
 *   - with on_corruption=continue it starts (or is refused), with less perhaps, but with nothing that is wrong;
 *   - nothing crashes (the same under the address sanitizer).
 *
 * usage: bitflip [--flips N] [--seed S] [--flip N] [--keep FOLDER] */
#include "ledger.h"
#include "work.h"

#include <mqgate/obs.h>

#include <stdio.h>
#include <stdlib.h>

enum { FLIP_LABELS = 64, FLIP_STEPS = 500, FLIP_SEGMENT = 128 << 10, FLIP_PER_STORE = 1000 };

struct flip_label {
    char name[24];
    struct flip_spot {
        uint32_t file;
        uint64_t off, len;
    } * at;
    size_t n, cap;
    uint64_t refused, errors, harmless, less;
};

struct flip {
    uint64_t seed, rng;
    const char *keep;
    struct disk *disk;
    struct ledger ledger;
    struct led_cut all;
    struct flip_label labels[FLIP_LABELS];
    size_t nlabel;
    bool one;
    uint64_t only, flips;
};

/* ---- spots ------------------------------------------------------------------------------------------------------ */

static void flip_spot(struct flip *f, const char *name, uint32_t file, uint64_t off, uint64_t len)
{
    size_t i = 0;
    while (i < f->nlabel && strcmp(f->labels[i].name, name) != 0)
        i++;
    MQG_ASSERT(i < FLIP_LABELS);
    struct flip_label *l = &f->labels[i];
    if (i == f->nlabel) {
        snprintf(l->name, sizeof l->name, "%s", name);
        f->nlabel++;
    }
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 16;
        l->at = mqg_xrealloc(l->at, l->cap * sizeof *l->at);
    }
    l->at[l->n++] = (struct flip_spot){file, off, len};
}

static void flip_records(struct flip *f, uint32_t file, const struct jrn_use *use,
                         const struct jrn_frame *frame, struct mqg_slice bytes)
{
    struct jrn_walk w;
    struct jrn_rec rec;
    size_t chunk = 0;
    jrn_walk_init(&w, bytes, use, false);
    while (jrn_walk_next(&w, &rec)) {
        if (w.chunk != chunk)
            flip_spot(f, "head of a chunk", file, frame->offset + w.chunk, JRN_CHUNK_HEAD);
        chunk = w.chunk;
        flip_spot(f, jrn_rec_name(rec.type), file, frame->offset + rec.frame_off - JRN_REC_HEAD,
                  JRN_REC_HEAD + rec.main.len + rec.tail.len);
    }
}

static void flip_segment(struct flip *f, uint32_t file)
{
    size_t size = f->disk->files[file].size;
    uint8_t *data = mqg_xmalloc(size + 1);
    struct jrn_seg_head h;
    struct jrn_frame frame;
    struct mqg_error e;
    disk_read(f->disk, file, 0, data, size);
    flip_spot(f, "segment header", file, 0, JRN_SEG_HEAD);
    if (jrn_seg_head_decode(mqg_slice_of(data, size), &h, &e) == MQG_OK) {
        for (uint64_t off = JRN_HEADER_BYTES; off < size; off += jrn_round_block(frame.length)) {
            if (jrn_frame_head(mqg_slice_of(data + off, size - off), &h.use, off, &frame) != MQG_OK ||
                frame.length > size - off)
                break;
            flip_spot(f, "head of a frame", file, off, JRN_FRAME_HEAD);
            flip_records(f, file, &h.use, &frame, mqg_slice_of(data + off, frame.length));
        }
        flip_spot(f, "unused", file, 0, size);
    }
    free(data);
}

/* By what its name ends in; compacted files are a kind of their own. */
static void flip_other(struct flip *f, const struct disk_name *name)
{
    const char *last = strrchr(name->path, '/') + 1, *dot = strrchr(last, '.');
    char label[24];
    bool in_folder = strncmp(name->path, CI_PATH "/", sizeof CI_PATH) == 0 &&
                     strchr(name->path + sizeof CI_PATH, '/');
    bool compacted = in_folder && strstr(last, ".d");
    snprintf(label, sizeof label, "%s%.12s",
             compacted   ? "compacted "
             : in_folder ? "partition "
                         : "file ",
             dot ? dot : last);
    if (strcmp(last, "lock") != 0 && f->disk->files[name->file].size > 0)
        flip_spot(f, label, name->file, 0, f->disk->files[name->file].size);
}

static void flip_spots(struct flip *f)
{
    for (size_t i = 0; i < f->disk->nname; i++) {
        const struct disk_name *name = &f->disk->names[i];
        size_t len = strlen(name->path);
        if (name->file == DISK_NO_FILE)
            continue;
        if (len > 4 && strcmp(name->path + len - 4, ".seg") == 0)
            flip_segment(f, name->file);
        else
            flip_other(f, name);
    }
}

/* ---- one change ------------------------------------------------------------------------------------------------- */

static const char *const flip_kinds[] = {
    "a bit", "a bit", "a bit", "a byte", "a sector of zeros", "a misplaced sector", "a short file"};

static void flip_apply(struct disk *d, const struct flip_spot *spot, unsigned kind, uint64_t *rng)
{
    uint64_t at = spot->off + disk_random(rng) % spot->len, size = d->files[spot->file].size;
    uint8_t byte, sector[DISK_SECTOR];
    disk_read(d, spot->file, at, &byte, 1);
    if (kind < 3)
        byte ^= (uint8_t)(1u << disk_random(rng) % 8);
    else if (kind == 3)
        byte = (uint8_t)disk_random(rng);
    if (kind < 4)
        disk_put(d, spot->file, at, &byte, 1);
    else if (kind == 4)
        disk_put(d, spot->file, at / DISK_SECTOR * DISK_SECTOR, NULL,
                 size - at / DISK_SECTOR * DISK_SECTOR < DISK_SECTOR ? (size_t)(size % DISK_SECTOR)
                                                                     : DISK_SECTOR);
    else if (kind == 5 && size >= 2 * DISK_SECTOR) {
        uint64_t sectors = size / DISK_SECTOR;
        disk_read(d, spot->file, disk_random(rng) % sectors * DISK_SECTOR, sector, sizeof sector);
        disk_put(d, spot->file, at % (sectors * DISK_SECTOR) / DISK_SECTOR * DISK_SECTOR, sector,
                 sizeof sector);
    } else if (kind == 6)
        disk_resize(d, spot->file,
                    at < DISK_SECTOR ? DISK_SECTOR : at); /* a segment without its header never was one */
}

static const char *flip_file(const struct flip *f, uint32_t file)
{
    for (size_t i = 0; i < f->disk->nname; i++)
        if (f->disk->names[i].file == file)
            return f->disk->names[i].path;
    return "?";
}

/* Starts the changed store; true when a rule was broken. */
static bool flip_start(struct flip *f, struct disk *d, struct flip_label *l, bool go_on,
                       struct mqg_dynbuf *why)
{
    struct told t = {.go_on = go_on};
    f->ledger.mode = go_on ? LED_GO_ON : LED_FLIPPED;
    f->ledger.errors = 0;
    enum mqg_err err = told_open(&t, d, FLIP_SEGMENT);
    if (err != MQG_OK) {
        l->refused++;
        bool said = err == MQG_CORRUPT || err == MQG_UNSUPPORTED;
        if (!said)
            mqg_dynbuf_printf(why, "    refused by %s: %s\n", mqg_err_name(err), t.error.text);
        return !said;
    }
    told_load(&t);
    size_t broken = ledger_check(&f->ledger, &f->all, &t, why);
    l->errors += f->ledger.errors != 0;
    l->harmless += !broken && !f->ledger.errors;
    told_end(&t, false);
    return broken != 0;
}

static bool flip_one(struct flip *f, uint64_t number)
{
    uint64_t rng = f->seed * 1000003 + number;
    struct flip_label *l = &f->labels[number % f->nlabel];
    const struct flip_spot *spot = &l->at[disk_random(&rng) % l->n];
    unsigned kind = (unsigned)(disk_random(&rng) % MQG_COUNTOF(flip_kinds));
    bool go_on = disk_random(&rng) % 3 == 0, broken;
    struct mqg_dynbuf why;
    struct disk *d = disk_clone(f->disk), *found;
    mqg_dynbuf_init(&why, 1 << 16);
    flip_apply(d, spot, kind, &rng);
    found = disk_clone(d);
    broken = flip_start(f, d, l, go_on, &why);
    if (broken) {
        char path[4096];
        snprintf(path, sizeof path, "%s/bitflip-%llu-%llu", f->keep, (unsigned long long)f->seed,
                 (unsigned long long)number);
        disk_dump(found, path);
        printf("VIOLATION: seed %llu flip %llu: %s in %s, %s at %llu+%llu%s:\n%.*s    the disk: %s\n",
               (unsigned long long)f->seed, (unsigned long long)number, flip_kinds[kind], l->name,
               flip_file(f, spot->file), (unsigned long long)spot->off, (unsigned long long)spot->len,
               go_on ? ", going on" : "", (int)why.len, (const char *)why.ptr, path);
    }
    mqg_dynbuf_fini(&why);
    disk_free(&found);
    disk_free(&d);
    return broken;
}

/* ---- a store ---------------------------------------------------------------------------------------------------- */

static bool flip_fill(struct flip *f, uint64_t seed)
{
    struct told t = {.go_on = false};
    f->disk = disk_new();
    ledger_init(&f->ledger);
    if (told_open(&t, f->disk, FLIP_SEGMENT) != MQG_OK)
        return false;
    struct work *w = work_new(&f->ledger, &t, seed);
    bool good = work_run(w, FLIP_STEPS);
    if (!good)
        printf("the load failed: %s\n", t.error.text);
    work_free(&w);
    told_end(&t, true);
    memset(f->disk->fds, 0, sizeof f->disk->fds);
    for (uint32_t lane = 0; lane < CI_MARKS; lane++)
        f->all.began[lane] = f->all.done[lane] = UINT32_MAX;
    return good;
}

static void flip_end(struct flip *f)
{
    disk_free(&f->disk);
    ledger_fini(&f->ledger);
    for (size_t i = 0; i < f->nlabel; i++) {
        free(f->labels[i].at);
        f->labels[i].at = NULL;
        f->labels[i].n = f->labels[i].cap = 0;
    }
}

/* Kinds that this store happens not to have are given a byte of another. */
static void flip_lend(struct flip *f)
{
    size_t rich = 0;
    while (f->labels[rich].n == 0)
        rich++;
    struct flip_spot lent = f->labels[rich].at[0];
    for (size_t i = 0; i < f->nlabel; i++)
        if (f->labels[i].n == 0)
            flip_spot(f, f->labels[i].name, lent.file, lent.off, 1);
}

static bool flip_store(struct flip *f, uint64_t first)
{
    bool broken = !flip_fill(f, f->seed * 31 + first);
    if (!broken)
        flip_spots(f);
    uint64_t last = first + FLIP_PER_STORE < f->flips ? first + FLIP_PER_STORE : f->flips;
    if (!broken)
        flip_lend(f);
    for (uint64_t i = f->one ? f->only : first; i < last && !broken; i++) {
        broken = flip_one(f, i);
        if (f->one)
            break;
    }
    flip_end(f);
    return broken;
}

static void flip_table(const struct flip *f)
{
    printf("%-22s %9s %9s %9s\n", "", "refused", "an error", "harmless");
    for (size_t i = 0; i < f->nlabel; i++)
        printf("%-22s %9llu %9llu %9llu\n", f->labels[i].name, (unsigned long long)f->labels[i].refused,
               (unsigned long long)f->labels[i].errors, (unsigned long long)f->labels[i].harmless);
}

int main(int argc, char **argv)
{
    const char *tmp = getenv("TMPDIR");
    struct flip f = {.seed = mqg_random_u64() % 1000000000, .flips = 3000, .keep = tmp ? tmp : "/tmp"};
    bool broken = false;
    for (int i = 1; i + 1 < argc; i += 2) {
        uint64_t number = strtoull(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--flips") == 0)
            f.flips = number;
        else if (strcmp(argv[i], "--seed") == 0)
            f.seed = number;
        else if (strcmp(argv[i], "--flip") == 0)
            f.only = number, f.one = true;
        else if (strcmp(argv[i], "--keep") == 0)
            f.keep = argv[i + 1];
    }
    mqg_log_level_set(MQG_LOG_ERROR + 1);
    printf("seed=%llu flips=%llu\n", (unsigned long long)f.seed, (unsigned long long)f.flips);
    if (f.one && f.only >= f.flips)
        f.flips = f.only + 1;
    for (uint64_t first = f.one ? f.only / FLIP_PER_STORE * FLIP_PER_STORE : 0; first < f.flips && !broken;
         first += FLIP_PER_STORE) {
        broken = flip_store(&f, first);
        if (f.one)
            break;
    }
    flip_table(&f);
    printf("%s\n", broken ? "VIOLATED" : "held");
    return broken;
}
