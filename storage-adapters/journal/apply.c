/* apply.c - recovery applies the segments that count, oldest first: a closed one by its digest, the tail by its frames.
 *
 * A digest that is missing, stale or does not check is made again, by two threads at once, since a power cut may leave none.
 * What cannot be read so (a frame that does not check) is damage, and is read again slowly: every place is reported, the
 * file copied aside, and with on_corruption=continue the frames that check are applied from memory. */
#include "scan.h"

#include "collect.h"

#include <stdlib.h>
#include <time.h>

enum { APPLY_PROGRESS_US = 1000 * 1000, APPLY_THREADS = 2, APPLY_POLL_MS = 20 };

/* A closed segment and its digest. */
struct apply_seg {
    struct jrn_seg *seg;
    struct jrn_digest d;
    bool there, filed;
};

struct apply {
    struct scan *sc;
    struct apply_seg *at;
    size_t n;
    _Atomic size_t next;
    _Atomic uint64_t bytes; /* read by the makers, not yet reported */
    _Atomic int running;
    pthread_mutex_t lock; /* with `ended`: a thread has nothing more to do */
    pthread_cond_t ended;
};

void jrn_scan_progress(struct scan *sc, uint64_t bytes, bool force)
{
    uint64_t now = mqg_clock_mono_us();
    sc->done_bytes += bytes;
    if (!force && now - sc->told_us < APPLY_PROGRESS_US)
        return;
    sc->told_us = now;
    if (sc->r->progress)
        sc->r->progress(sc->r->arg, sc->done_bytes, sc->all_bytes);
}

/* ---- by frames --------------------------------------------------------------------------------------------- */

static enum mqg_err apply_frames(struct scan *sc, struct jrn_seg *seg, struct jrn_collect *c)
{
    struct jrn_frame f;
    struct mqg_slice bytes;
    uint64_t off = JRN_HEADER_BYTES;
    bool damaged = false;
    while (off < seg->end) {
        enum mqg_err err = jrn_scan_frame(sc, seg, off, &f, &bytes);
        if (err == MQG_OK && f.seq != seg->seq)
            err = MQG_CORRUPT;
        if (err == MQG_CORRUPT) { /* once per run of bad bytes; then every block until a frame checks */
            err = damaged ? MQG_OK
                          : jrn_scan_damage(sc, seg, off, "a frame that had been confirmed does not check");
            damaged = true;
            off += JRN_BLOCK;
            if (err == MQG_OK)
                continue;
        }
        damaged = false;
        if (err == MQG_OK)
            err = jrn_collect_frame(c, seg->name, bytes, &seg->use, &f, sc->e);
        if (err != MQG_OK)
            return err;
        off += jrn_round_block(f.length);
        jrn_scan_progress(sc, jrn_round_block(f.length), false);
    }
    return MQG_OK;
}

static enum mqg_err apply_digest(struct scan *sc, struct jrn_seg *seg, struct jrn_digest *d, bool filed)
{
    if (d->term > sc->term)
        sc->term = d->term;
    if (jrn_found_digest(sc->found, seg, d, filed))
        return MQG_OK;
    return mqg_error_set(sc->e, MQG_CORRUPT, 0, "%s/%s: its digest does not check", sc->s->path, seg->name);
}

static enum mqg_err apply_slowly(struct scan *sc, struct jrn_seg *seg)
{
    struct jrn_collect *c = jrn_collect_new(sc->s->row_min);
    struct jrn_digest d;
    jrn_digest_init(&d);
    enum mqg_err err = apply_frames(sc, seg, c);
    if (err == MQG_OK && jrn_collect_end(c, &d) != MQG_OK)
        err = mqg_error_set(sc->e, MQG_NO_MEMORY, 0, "%s/%s holds more than can be indexed", sc->s->path,
                            seg->name);
    jrn_collect_free(&c);
    if (err == MQG_OK)
        err = apply_digest(sc, seg, &d, false);
    jrn_digest_fini(&d);
    return err;
}

/* ---- by digests --------------------------------------------------------------------------------------------- */

static void *apply_make(void *arg)
{
    struct apply *a = arg;
    struct mqg_error e;
    for (size_t i; (i = atomic_fetch_add(&a->next, 1)) < a->n;) {
        struct apply_seg *x = &a->at[i];
        if (x->there)
            continue;
        x->there = jrn_index_make(a->sc->s, x->seg, &x->d, &x->filed, &e) == MQG_OK;
        if (x->there)
            atomic_fetch_add(&a->bytes, x->seg->end);
    }
    pthread_mutex_lock(&a->lock);
    atomic_fetch_sub(&a->running, 1);
    pthread_cond_signal(&a->ended);
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

/* Until a thread has ended, or it is time to tell how far we are. */
static void apply_wait(struct apply *a)
{
    struct timespec until = mqg_wait_until(APPLY_POLL_MS);
    pthread_mutex_lock(&a->lock);
    if (atomic_load(&a->running) > 0)
        pthread_cond_timedwait(&a->ended, &a->lock, &until);
    pthread_mutex_unlock(&a->lock);
}

/* Makes what is missing; the caller's thread only watches and tells. */
static void apply_make_all(struct apply *a)
{
    pthread_t threads[APPLY_THREADS];
    int n = 0;
    for (; n < APPLY_THREADS; n++) {
        atomic_fetch_add(&a->running, 1);
        if (pthread_create(&threads[n], NULL, apply_make, a) != 0) {
            atomic_fetch_sub(&a->running, 1);
            break;
        }
    }
    if (n == 0) {
        atomic_fetch_add(&a->running, 1);
        (void)apply_make(a);
    }
    while (atomic_load(&a->running) > 0) {
        apply_wait(a);
        jrn_scan_progress(a->sc, atomic_exchange(&a->bytes, 0), false);
    }
    for (int i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    jrn_scan_progress(a->sc, atomic_exchange(&a->bytes, 0), false);
}

static enum mqg_err apply_closed(struct apply *a)
{
    struct scan *sc = a->sc;
    enum mqg_err err = MQG_OK;
    for (size_t i = 0; i < a->n && err == MQG_OK; i++) {
        struct apply_seg *x = &a->at[i];
        err = x->there ? apply_digest(sc, x->seg, &x->d, x->filed) : apply_slowly(sc, x->seg);
        if (x->there)
            jrn_digest_fini(&x->d);
        x->there = false;
        jrn_scan_progress(sc, 0, false);
    }
    return err;
}

enum mqg_err jrn_scan_apply(struct scan *sc)
{
    struct apply a = {.sc = sc, .at = mqg_xcalloc(sc->nlive + 1, sizeof *a.at)};
    for (size_t i = 0; i < sc->nlive; i++) {
        if (sc->live[i] == sc->tail)
            continue;
        struct apply_seg *x = &a.at[a.n++];
        x->seg = sc->live[i];
        x->there = x->filed = jrn_index_load(sc->s, x->seg, &x->d) == MQG_OK;
        sc->made += !x->there;
        if (x->there)
            jrn_scan_progress(sc, x->seg->end, false);
    }
    pthread_mutex_init(&a.lock, NULL);
    mqg_cond_init(&a.ended);
    if (sc->made)
        apply_make_all(&a);
    pthread_cond_destroy(&a.ended);
    pthread_mutex_destroy(&a.lock);
    enum mqg_err err = apply_closed(&a);
    for (size_t i = 0; i < a.n; i++)
        if (a.at[i].there)
            jrn_digest_fini(&a.at[i].d);
    free(a.at);
    return err == MQG_OK && sc->tail ? apply_slowly(sc, sc->tail) : err;
}
