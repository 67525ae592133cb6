/* adopt.c - the end of recovery's reading: what counts becomes the journal's list of segments, what does not becomes spares
 * or goes. */
#include "scan.h"

#include <stdio.h>
#include <stdlib.h>

static void scan_taken(struct scan *sc, const struct jrn_seg *seg)
{
    for (size_t i = 0; i < sc->nall; i++)
        if (sc->all[i] == seg)
            sc->all[i] = NULL;
}

void jrn_scan_adopt_live(struct scan *sc)
{
    struct mqg_store *s = sc->s;
    for (size_t i = 0; i < sc->nlive; i++) {
        struct jrn_seg *seg = sc->live[i];
        atomic_store(&seg->whole.live, 1); /* ours, until everything is told */
        atomic_fetch_add(&seg->extents, 1);
        atomic_fetch_add(&seg->live, 1);
        atomic_store(&seg->state, JRN_CLOSED);
        scan_taken(sc, seg);
        jrn_seg_append(s, seg);
    }
    if (sc->damages == 0) {
        s->com.tail = sc->tail;
        atomic_store(&sc->tail->state, JRN_TAIL);
    }
    s->com.number = s->com.durable = sc->tail->last_number;
    s->com.sealed = sc->sealed;
}

/* Digests of segments that do not count, or go on being written. */
static void scan_drop_indexes(struct scan *sc)
{
    char path[4096], name[64];
    for (size_t i = 0; i < sc->nindex; i++) {
        bool ours = false;
        for (size_t k = 0; k < sc->nlive && !ours; k++) {
            jrn_index_name(sc->live[k], name);
            ours = atomic_load(&sc->live[k]->index) && strcmp(name, sc->indexes[i]) == 0;
        }
        if (ours)
            continue;
        jrn_path(sc->s, sc->indexes[i], path);
        (void)sc->s->fs->unlink(sc->s->fs->ctx, path);
    }
}

/* Files that do not count get a fresh use at once, so that their old frames are nobody's. */
enum mqg_err jrn_scan_adopt_blank(struct scan *sc)
{
    for (size_t i = 0; i < sc->nall; i++) {
        struct jrn_seg *seg = sc->all[i];
        if (!seg)
            continue;
        sc->all[i] = NULL;
        if (seg->oversized || seg->makeshift || seg->bytes != sc->s->segment_bytes) {
            jrn_seg_unlink(sc->s, &seg);
            continue;
        }
        int r = jrn_seg_renew(sc->s, seg);
        if (r < 0) {
            enum mqg_err err = jrn_scan_io(sc, "write", seg->name, r);
            jrn_seg_free(sc->s, &seg);
            return err;
        }
        jrn_spare_give(sc->s, seg);
    }
    scan_drop_indexes(sc);
    return MQG_OK;
}

void jrn_scan_release(struct scan *sc)
{
    for (size_t i = 0; i < sc->nlive; i++) {
        mqg_extent_give(&sc->live[i]->whole, 1);
    }
}
