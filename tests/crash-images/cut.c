/* cut.c - see cut.h.
 *
 * The rules of the disk, as pessimistic as POSIX allows and real disks are:
 *   - what was written before an fdatasync of the file that has returned is there, with the size it needs;
 *   - of other writes any sector (512 bytes) may be there, in any combination, whatever the order of the writes;
 *     a sector is whole: the old or the new one;
 *   - a change of size that no sync covers has happened or not;
 *   - names made, removed or changed are sure after the fsync of their folder only; before it any of them may have
 *     happened, also the later without the earlier. A rename happens whole.
 *
 * Most images follow one rule for the whole disk (nothing, everything, the first so many operations, any sectors),
 * since that is what disks mostly do; the rest choose file by file. */
#include "cut.h"

#include <stdlib.h>

enum cut_mode { CUT_NOTHING, CUT_ALL, CUT_PREFIX, CUT_SECTORS, CUT_MODES, CUT_PER_FILE = CUT_MODES };

static bool cut_is_name(const struct disk_event *e)
{
    return e->op == DISK_LINK || e->op == DISK_UNLINK || e->op == DISK_RENAME;
}

void cut_init(struct cut *c, const struct disk *start, const struct disk_log *log)
{
    *c = (struct cut){.log = log, .durable = disk_clone(start)};
}

void cut_fini(struct cut *c)
{
    disk_free(&c->durable);
    free(c->pending.at);
}

/* ---- the walk ---------------------------------------------------------------------------------------------------- */

static void cut_pend(struct cut_pending *p, size_t event)
{
    if (p->n == p->cap) {
        p->cap = p->cap ? p->cap * 2 : 64;
        p->at = mqg_xrealloc(p->at, p->cap * sizeof *p->at);
    }
    p->at[p->n++] = event;
}

static void cut_resize(struct disk *d, const struct disk_event *e)
{
    if (!e->len || d->files[e->file].size < e->off)
        disk_resize(d, e->file, e->off);
}

static void cut_name(struct disk *d, const struct disk_event *e)
{
    if (e->op != DISK_LINK)
        disk_unlink(d, e->path);
    if (e->op != DISK_UNLINK)
        disk_link(d, e->op == DISK_RENAME ? e->to : e->path, e->file);
}

static void cut_apply(struct disk *d, const struct disk_event *e)
{
    if (e->file != DISK_NO_FILE)
        disk_file_at_least(d, e->file);
    if (e->op == DISK_WRITE)
        disk_put(d, e->file, e->off, e->data, e->len);
    else if (e->op == DISK_RESIZE)
        cut_resize(d, e);
    else
        cut_name(d, e);
}

/* Is the name in this folder itself? */
static bool cut_in_folder(const char *path, const char *folder)
{
    size_t n = strcmp(folder, "/") == 0 ? 0 : strlen(folder);
    return path && strncmp(path, folder, n) == 0 && path[n] == '/' && !strchr(path + n + 1, '/');
}

static bool cut_covers(const struct disk_event *synced, const struct disk_event *e)
{
    if (synced->op == DISK_SYNCED)
        return !cut_is_name(e) && e->file == synced->file;
    return cut_is_name(e) && (cut_in_folder(e->path, synced->path) || cut_in_folder(e->to, synced->path));
}

/* What the sync that began at event `began` covers becomes durable. */
static void cut_synced(struct cut *c, const struct disk_event *synced)
{
    size_t kept = 0;
    for (size_t i = 0; i < c->pending.n; i++) {
        size_t event = c->pending.at[i];
        if (event < synced->off && cut_covers(synced, &c->log->at[event]))
            cut_apply(c->durable, &c->log->at[event]);
        else
            c->pending.at[kept++] = event;
    }
    c->pending.n = kept;
}

void cut_to(struct cut *c, size_t event)
{
    for (; c->at < event && c->at < c->log->n; c->at++) {
        const struct disk_event *e = &c->log->at[c->at];
        if (e->op == DISK_SYNCED || e->op == DISK_DIR_SYNCED)
            cut_synced(c, e);
        else if (e->op == DISK_WRITE || e->op == DISK_RESIZE || cut_is_name(e))
            cut_pend(&c->pending, c->at);
    }
}

/* ---- images ------------------------------------------------------------------------------------------------------ */

/* Which of the sectors of a write are there: one in `of`, or all but one in -`of`. */
static void cut_sectors(struct disk *d, const struct disk_event *e, uint64_t *rng, int of)
{
    for (uint64_t at = 0; at < e->len;) {
        uint64_t n = DISK_SECTOR - (e->off + at) % DISK_SECTOR;
        n = n < e->len - at ? n : e->len - at;
        bool hit = disk_random(rng) % (uint64_t)abs(of) == 0;
        if (hit == (of > 0))
            disk_put(d, e->file, e->off + at, e->data ? e->data + at : NULL, n);
        at += n;
    }
}

struct cut_choice {
    enum cut_mode mode;
    size_t prefix;
    int of;
};

static struct cut_choice cut_choose(const struct cut *c, uint64_t *rng, unsigned modes)
{
    static const int of[] = {2, 2, 8, -8, -2, 40};
    return (struct cut_choice){.mode = (enum cut_mode)(disk_random(rng) % modes),
                               .prefix = c->pending.n ? disk_random(rng) % (c->pending.n + 1) : 0,
                               .of = of[disk_random(rng) % MQG_COUNTOF(of)]};
}

static void cut_maybe(struct disk *d, const struct cut *c, size_t i, const struct cut_choice *how,
                      uint64_t *rng)
{
    const struct disk_event *e = &c->log->at[c->pending.at[i]];
    if (e->op == DISK_WRITE && how->mode == CUT_SECTORS) {
        disk_file_at_least(d, e->file);
        cut_sectors(d, e, rng, how->of);
        return;
    }
    bool there = how->mode == CUT_ALL || (how->mode == CUT_PREFIX && i < how->prefix) ||
                 (how->mode == CUT_SECTORS && disk_random(rng) % 2);
    if (there)
        cut_apply(d, e);
}

/* A file whose folder is not there is not there. */
static void cut_orphans(struct disk *d)
{
    for (size_t i = 0; i < d->nname;) {
        char parent[DISK_PATH];
        memcpy(parent, d->names[i].path, sizeof parent);
        char *slash = strrchr(parent, '/');
        *slash = '\0';
        if (slash != parent && !disk_find(d, parent)) {
            disk_unlink(d, d->names[i].path);
            i = 0;
        } else {
            i++;
        }
    }
}

struct disk *cut_image(const struct cut *c, uint64_t *rng)
{
    struct disk *d = disk_clone(c->durable);
    struct cut_choice all = cut_choose(c, rng, CUT_PER_FILE + 1), names = cut_choose(c, rng, CUT_MODES),
                      file = all;
    uint32_t last = DISK_NO_FILE;
    uint64_t salt = disk_random(rng);
    for (uint32_t i = 0; i < c->pending.n; i++) {
        const struct disk_event *e = &c->log->at[c->pending.at[i]];
        if (all.mode == CUT_PER_FILE && !cut_is_name(e) && e->file != last) {
            uint64_t own = salt + e->file;
            file = cut_choose(c, &own, CUT_MODES);
            last = e->file;
        }
        bool own_rule = cut_is_name(e) && (all.mode == CUT_PER_FILE || all.mode == CUT_SECTORS);
        cut_maybe(d, c, i, own_rule ? &names : all.mode == CUT_PER_FILE ? &file : &all, rng);
    }
    for (size_t i = 0; i < d->nname; i++)
        if (d->names[i].file != DISK_NO_FILE)
            disk_file_at_least(d, d->names[i].file);
    cut_orphans(d);
    return d;
}
