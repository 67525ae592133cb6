/* recover.c - reading the journal after a stop of any kind: which files count, where the log ends, and
 * whether its end is a torn tail or damage.
 *
 * 1 Headers. Every *.seg is opened; its header names its use (uuid, nonce). A header of zeros is a file that was
 *   being made; a header that does not check is damage, for a header is one sector and is written before the file
 *   is used.
 * 2 First frames. A segment whose first frame checks is used and has a sequence; the highest is the tail. The others
 *   are blank (spares, or cut before their first frame was whole), unless a witness in them says otherwise.
 *   A note (last.c) says which segment was in use last: if there is none as high, its file is gone, and that is damage.
 * 3 The tail is walked to its end. Its first record, the manifest, says which segments count and where they end; FREE
 *   records behind it take some away. What is used but does not count was recycled.
 * 4 Torn or damaged? Behind the last good frame, number E, frames of ours that say "E+1 was durable when I was
 *   written" are witnesses: then E+1 is damaged, loudly. Without a witness E+1 was never confirmed: cut, wiped and
 *   logged. A frame head alone is witness enough, for it says what was true before it was written. A segment begins
 *   only after its predecessor was synced, so in all but the tail (and a blank successor) anything that does not
 *   check is damage.
 * 5 The segments that count are applied in order (apply.c): by their digests where these check, else by reading them,
 *   and the tail last. The tail is synced before anything is told: what a killed process left in the page cache is
 *   then as durable as what was confirmed.
 *
 * Damage: the file is copied aside (quarantine-...), every place is logged, and the start is refused. With
 * on_corruption=continue reading goes on at the next frame that checks, and new records go to a new segment.
 * */
#include "scan.h"

#include <stdio.h>
#include <stdlib.h>

enum { SCAN_NEAR = 1 << 20 };

/* ---- 3 the tail ---------------------------------------------------------------------------------------- */

static enum mqg_err scan_tail_records(struct scan *sc, struct mqg_slice bytes, bool first)
{
    struct jrn_walk w;
    struct jrn_rec rec;
    bool manifest = false;
    jrn_walk_init(&w, bytes, &sc->tail->use, false);
    while (jrn_walk_next(&w, &rec)) {
        if (rec.type == JRN_REC_MANIFEST && first && w.records == 1)
            manifest = mqg_dynbuf_slice(&sc->manifest, rec.main);
        else if (rec.type == JRN_REC_ADOPT)
            (void)mqg_dynbuf_slice(&sc->adopted, rec.main);
        else if (rec.type == JRN_REC_FREE)
            (void)mqg_dynbuf_slice(&sc->freed, rec.main);
    }
    sc->lost = sc->lost || (first && !manifest);
    return first && !manifest
               ? jrn_scan_damage(sc, sc->tail, JRN_HEADER_BYTES, "no manifest in the first frame")
               : MQG_OK;
}

/* Walks the tail: its end, last number, term; manifest and frees. */
static enum mqg_err scan_tail(struct scan *sc)
{
    struct jrn_seg *seg = sc->tail;
    struct jrn_frame f;
    struct mqg_slice bytes;
    enum mqg_err err;
    seg->last_number = seg->first_number - 1;
    while ((err = jrn_scan_frame(sc, seg, seg->end, &f, &bytes)) == MQG_OK) {
        if (f.number != seg->last_number + 1 || f.seq != seg->seq)
            break;
        err = scan_tail_records(sc, bytes, f.number == seg->first_number);
        if (err != MQG_OK)
            return err;
        seg->last_number = f.number;
        seg->end += jrn_round_block(f.length);
        if (f.term > sc->term)
            sc->term = f.term;
        sc->clean = (f.flags & JRN_FRAME_CLEAN) != 0;
        sc->sealed = (f.flags & JRN_FRAME_SEAL) != 0;
    }
    return err == MQG_CORRUPT ? MQG_OK : err;
}

/* ---- 4 torn or damaged --------------------------------------------------------------------------------- */

/* A blank segment that was in use after all. Going on without its first frame, its manifest is lost: then
 * every segment that is used counts. Facts in one that had been freed were said again, so reading it does no
 * harm. */
static enum mqg_err scan_lost_start(struct scan *sc, struct jrn_seg *seg, uint64_t at)
{
    struct jrn_frame f;
    struct mqg_slice bytes;
    enum mqg_err err = jrn_scan_damage(sc, seg, JRN_HEADER_BYTES,
                                       "the first frame of a segment in use does not check");
    if (err == MQG_OK)
        err = jrn_scan_bytes(sc, seg, at, JRN_FRAME_HEAD, &bytes);
    if (err != MQG_OK || jrn_frame_head(bytes, &seg->use, at, &f) != MQG_OK)
        return err;
    seg->seq = f.seq;
    seg->last_number = 0;
    if (sc->tail && sc->tail->seq > seg->seq)
        return MQG_OK;
    sc->tail = seg;
    sc->lost = true;
    sc->clean = sc->sealed = false;
    return MQG_OK;
}

/* A blank segment with a witness for more than the tail has is no blank. Without any tail at all the journal
 * is new (then nothing was durable when its first frames were written), or the first frame of its only
 * segment is damaged: a segment is freed only by a record in its durable successor. */
static enum mqg_err scan_blanks(struct scan *sc)
{
    uint64_t number = sc->tail ? sc->tail->last_number : 0;
    for (size_t i = 0; i < sc->nall; i++) {
        struct jrn_seg *seg = sc->all[i];
        struct scan_rest rest;
        if (seg->seq)
            continue;
        /* After a clean stop only damage can hide a frame, and damage to a first frame leaves the second near
         * by. */
        uint64_t end = sc->clean && seg->bytes > SCAN_NEAR ? SCAN_NEAR : seg->bytes;
        enum mqg_err err = jrn_scan_rest(sc, seg, JRN_HEADER_BYTES, end, number, &rest);
        if (err == MQG_OK && rest.witness)
            err = scan_lost_start(sc, seg, rest.witness);
        if (err != MQG_OK)
            return err;
    }
    return MQG_OK;
}

static enum mqg_err scan_end(struct scan *sc)
{
    struct jrn_seg *tail = sc->tail;
    struct scan_rest rest;
    enum mqg_err err = jrn_scan_rest(sc, tail, tail->end, tail->bytes, tail->last_number, &rest);
    if (err != MQG_OK)
        return err;
    sc->torn = rest.any != 0;
    sc->clean = sc->clean && !sc->torn;
    return rest.witness
               ? jrn_scan_damage(sc, tail, tail->end, "a frame that had been confirmed does not check")
               : MQG_OK;
}

/* Zeros behind the cut: frames that were cut must never continue the log that is written over them. */
static enum mqg_err scan_wipe(struct scan *sc)
{
    struct jrn_seg *tail = sc->tail;
    uint8_t *zeros = mqg_xcalloc(1, 1 << 20);
    int r = 0;
    for (uint64_t at = tail->end; at < tail->bytes && r == 0; at += 1 << 20) {
        struct iovec iov = {zeros, tail->bytes - at < 1 << 20 ? (size_t)(tail->bytes - at) : 1 << 20};
        r = jrn_fs_write(sc->s->fs, tail->fd, &iov, 1, at);
    }
    free(zeros);
    sc->in = NULL;
    mqg_log(MQG_LOG_WARN, MQG_EVENT_RECOVERY, "store=%s what=torn_tail file=%s cut_at=%llu last_frame=%llu",
            sc->s->section, tail->name, (unsigned long long)tail->end, (unsigned long long)tail->last_number);
    return r < 0 ? jrn_scan_io(sc, "write", tail->name, r) : MQG_OK;
}

/* ---- 5 what counts ------------------------------------------------------------------------------------- */

static bool scan_is_freed(const struct scan *sc, uint64_t seq, uint64_t nonce)
{
    struct jrn_triple t;
    for (size_t i = 0; jrn_rec_free(mqg_dynbuf_view(&sc->freed), i, &t); i++)
        if (t.a == seq && t.b == nonce)
            return true;
    return false;
}

static struct jrn_seg *scan_by_nonce(const struct scan *sc, uint64_t nonce)
{
    for (size_t i = 0; i < sc->nall; i++)
        if (sc->all[i]->use.nonce == nonce)
            return sc->all[i];
    return NULL;
}

static int scan_by_seq(const void *a, const void *b)
{
    const struct jrn_seg *x = *(struct jrn_seg *const *)a, *y = *(struct jrn_seg *const *)b;
    uint64_t p = x->seq ^ JRN_SEQ_COLD, q = y->seq ^ JRN_SEQ_COLD; /* cold ones first, the tail last */
    return p < q ? -1 : p > q;
}

static void scan_counts(struct scan *sc, struct jrn_seg *seg)
{
    sc->all_bytes += seg->end;
    sc->live[sc->nlive++] = seg;
}

/* Without a manifest: all that is used. */
static void scan_all_count(struct scan *sc)
{
    for (size_t i = 0; i < sc->nall; i++) {
        struct jrn_seg *seg = sc->all[i];
        if (!seg->seq)
            continue;
        if (seg != sc->tail)
            seg->end = seg->bytes;
        scan_counts(sc, seg);
    }
    qsort(sc->live, sc->nlive, sizeof(struct jrn_seg *), scan_by_seq);
}

static bool scan_is_counted(const struct scan *sc, const struct jrn_seg *seg)
{
    for (size_t i = 0; i < sc->nlive; i++)
        if (sc->live[i] == seg)
            return true;
    return false;
}

/* The manifest, or an ADOPT, says that this segment counts, and how far. Named twice, it would be told twice. */
static enum mqg_err scan_row(struct scan *sc, const struct jrn_manifest_row *row)
{
    bool cold = (row->seq & JRN_SEQ_COLD) != 0;
    struct jrn_seg *seg = scan_by_nonce(sc, row->nonce);
    uint64_t before = sc->nlive && !jrn_seg_is_cold(sc->live[sc->nlive - 1]) ? sc->live[sc->nlive - 1]->seq
                                                                             : 0;
    bool fits = (cold || (row->seq > before && row->seq < sc->tail->seq)) && seg != sc->tail &&
                !scan_is_counted(sc, seg);
    if (!seg || !fits || (cold && row->end > seg->bytes)) {
        char what[128];
        snprintf(what, sizeof what, "%ssegment %llu, which the manifest names, %s", cold ? "cold " : "",
                 (unsigned long long)(row->seq & ~JRN_SEQ_COLD), fits ? "is missing" : "stands out of order");
        return jrn_scan_damage(sc, NULL, 0, what);
    }
    seg->seq = row->seq;
    seg->last_number = row->last_number;
    seg->end = row->end;
    seg->adopted = cold;
    scan_counts(sc, seg);
    return MQG_OK;
}

static bool scan_is_adopted(const struct scan *sc, uint64_t nonce, size_t from)
{
    struct jrn_manifest_row row;
    for (size_t i = from; jrn_rec_manifest(mqg_dynbuf_view(&sc->adopted), i, &row); i++)
        if (row.nonce == nonce)
            return true;
    return false;
}

/* Cold segments: of each the last ADOPT holds, the manifest's row only where there is none. */
static enum mqg_err scan_adopted(struct scan *sc)
{
    struct jrn_manifest_row row;
    enum mqg_err err = MQG_OK;
    for (size_t i = 0; err == MQG_OK && jrn_rec_manifest(mqg_dynbuf_view(&sc->manifest), i, &row); i++)
        if ((row.seq & JRN_SEQ_COLD) && !scan_is_freed(sc, row.seq, row.nonce) &&
            !scan_is_adopted(sc, row.nonce, 0))
            err = scan_row(sc, &row);
    for (size_t i = 0; err == MQG_OK && jrn_rec_manifest(mqg_dynbuf_view(&sc->adopted), i, &row); i++)
        if (!scan_is_freed(sc, row.seq, row.nonce) && !scan_is_adopted(sc, row.nonce, i + 1))
            err = scan_row(sc, &row);
    return err;
}

static enum mqg_err scan_manifest(struct scan *sc)
{
    struct jrn_manifest_row row;
    struct mqg_slice rows = mqg_dynbuf_view(&sc->manifest);
    sc->live = mqg_xcalloc((rows.len + mqg_dynbuf_view(&sc->adopted).len) / JRN_MANIFEST_ROW + sc->nall + 1,
                           sizeof(struct jrn_seg *));
    if (sc->lost) {
        scan_all_count(sc);
        return MQG_OK;
    }
    enum mqg_err err = scan_adopted(sc);
    for (size_t i = 0; err == MQG_OK && jrn_rec_manifest(rows, i, &row); i++) {
        if (!(row.seq & JRN_SEQ_COLD) && !scan_is_freed(sc, row.seq, row.nonce))
            err = scan_row(sc, &row);
    }
    if (err != MQG_OK)
        return err;
    scan_counts(sc, sc->tail);
    return MQG_OK;
}

/* With damage in the tail and the order to go on: reading goes to the last frame that checks. */
static enum mqg_err scan_stretch(struct scan *sc)
{
    struct jrn_seg *seg = sc->tail;
    struct jrn_frame f;
    struct mqg_slice bytes;
    for (uint64_t off = seg->end; off < seg->bytes; off += JRN_BLOCK) {
        enum mqg_err err = jrn_scan_frame(sc, seg, off, &f, &bytes);
        if (err != MQG_OK && err != MQG_CORRUPT)
            return err;
        if (err == MQG_OK && f.seq == seg->seq && f.number > seg->last_number) {
            seg->last_number = f.number;
            seg->end = off + jrn_round_block(f.length);
        }
    }
    return MQG_OK;
}

/* From the end of the log to what is to be read; the tail is durable when this returns. */
static enum mqg_err scan_tail_settled(struct scan *sc)
{
    enum mqg_err err = MQG_OK;
    if (sc->damages)
        err = scan_stretch(sc);
    else if (sc->torn)
        err = scan_wipe(sc);
    if (err == MQG_OK)
        err = scan_manifest(sc);
    int r = err == MQG_OK && !sc->clean ? jrn_fs_sync(sc->s->fs, sc->tail->fd) : 0;
    return r < 0 ? jrn_scan_io(sc, "fdatasync", sc->tail->name, r) : err;
}

/* Is the segment there that was in use last? Without it the one before it would pass for the tail. */
static enum mqg_err scan_last(struct scan *sc)
{
    const struct jrn_last *last = &sc->s->last;
    uint64_t highest = sc->tail ? sc->tail->seq : 0;
    char what[128];
    if (last->seq <= highest || (sc->tail && memcmp(last->uuid, sc->s->uuid, 16) != 0))
        return MQG_OK;
    snprintf(what, sizeof what, "segment %llu, which was in use last, is missing",
             (unsigned long long)last->seq);
    return jrn_scan_damage(sc, NULL, 0, what);
}

static enum mqg_err scan_log(struct scan *sc)
{
    enum mqg_err err = jrn_last_read(sc->s, sc->e);
    if (err == MQG_OK)
        err = jrn_scan_files(sc);
    if (err == MQG_OK)
        err = jrn_scan_sequences(sc);
    if (err == MQG_OK && sc->tail)
        err = scan_tail(sc);
    if (err == MQG_OK && sc->tail)
        err = scan_end(sc);
    if (err == MQG_OK)
        err = scan_blanks(sc);
    if (err == MQG_OK)
        err = scan_last(sc);
    return err == MQG_OK && sc->tail ? scan_tail_settled(sc) : err;
}

static enum mqg_err scan_tell(struct scan *sc)
{
    struct mqg_store *s = sc->s;
    uint64_t begun_us = mqg_clock_mono_us(), read_us;
    jrn_scan_progress(sc, 0, true);
    enum mqg_err err = jrn_scan_apply(sc);
    if (err == MQG_OK && sc->tail) {
        jrn_scan_adopt_live(sc);
        sc->r->unclean = !sc->clean;
        err = jrn_scan_adopt_blank(sc);
    }
    if (err != MQG_OK)
        return err;
    read_us = mqg_clock_mono_us();
    s->com.term = sc->term + 1;
    jrn_found_tell_meta(sc->found, sc->r);
    err = jrn_found_tell(sc->found, sc->r, sc->e);
    if (err != MQG_OK)
        return err;
    err = jrn_streams_found_end(s, sc->r, s->com.term, sc->e);
    jrn_scan_release(sc);
    if (err != MQG_OK)
        return err;
    jrn_scan_progress(sc, 0, true);
    mqg_log(MQG_LOG_INFO, MQG_EVENT_RECOVERY,
            "store=%s what=done segments=%zu indexes_made=%zu bytes=%llu messages=%llu spans=%llu clean=%s "
            "damages=%llu "
            "read_ms=%llu tell_ms=%llu",
            s->section, sc->nlive, sc->made, (unsigned long long)sc->done_bytes,
            (unsigned long long)sc->found->told, (unsigned long long)sc->found->spans,
            sc->r->unclean ? "no" : "yes", (unsigned long long)sc->damages,
            (unsigned long long)(read_us - begun_us) / 1000,
            (unsigned long long)(mqg_clock_mono_us() - read_us) / 1000);
    return MQG_OK;
}

enum mqg_err jrn_recover(struct mqg_store *s, struct mqg_recover *r, struct mqg_error *e)
{
    struct scan sc = {.s = s, .r = r, .e = e, .told_us = mqg_clock_mono_us()};
    mqg_dynbuf_init(&sc.manifest, JRN_CHUNK_MAX);
    mqg_dynbuf_init(&sc.adopted, JRN_CHUNK_MAX);
    mqg_dynbuf_init(&sc.freed, JRN_CHUNK_MAX);
    sc.found = jrn_found_new(s);
    r->unclean = false;
    mqg_random_bytes(s->uuid, sizeof s->uuid); /* a new journal's, unless files say otherwise */
    enum mqg_err err = scan_log(&sc);
    if (err == MQG_OK)
        err = scan_tell(&sc);
    for (size_t i = 0; i < sc.nall; i++)
        jrn_seg_free(s, &sc.all[i]);
    jrn_found_free(&sc.found);
    mqg_dynbuf_fini(&sc.manifest);
    mqg_dynbuf_fini(&sc.adopted);
    mqg_dynbuf_fini(&sc.freed);
    for (size_t i = 0; i < sc.nindex; i++)
        free(sc.indexes[i]);
    free(sc.indexes);
    free(sc.all);
    free(sc.live);
    free(sc.buf);
    return err;
}
