/* account.c - see account.h. Everything here is under seg_lock, taken in slices so that the committer never waits long. */
#include "account.h"

#include <stdlib.h>

enum {
    ACCOUNT_SLICE = 512,       /* queues of a segment per hold of the lock */
    ACCOUNT_LOOKS = 64 * 1024, /* queues per turn of the keeper */
    ACCOUNT_GLANCE = 4096,
    ACCOUNT_SWEEP = 128,
    ACCOUNT_AGE_US = 200 * 1000,
};

/* ---- settled for sure ---------------------------------------------------------------------------------- */

void jrn_account_fini(struct mqg_store *s)
{
    struct jrn_settled *st = &s->settled;
    for (uint32_t i = 0; i < st->n; i++)
        jrn_set_fini(&st->sets[i]);
    jrn_map_fini(&st->at);
    free(st->sets);
    free(st->ids);
    free(st->unused);
}

static struct jrn_set *account_set(struct jrn_settled *st, uint64_t queue_id)
{
    bool fresh;
    uint32_t *at = jrn_map_put(&st->at, queue_id, &fresh);
    if (!fresh)
        return &st->sets[*at];
    if (st->nfree) {
        *at = st->unused[--st->nfree];
    } else {
        if (st->n == st->cap) {
            st->cap = st->cap ? st->cap * 2 : 16;
            st->sets = mqg_xrealloc(st->sets, st->cap * sizeof *st->sets);
            st->ids = mqg_xrealloc(st->ids, st->cap * sizeof *st->ids);
            st->unused = mqg_xrealloc(st->unused, st->cap * sizeof *st->unused);
        }
        *at = st->n++;
    }
    st->sets[*at] = (struct jrn_set){0};
    st->ids[*at] = queue_id;
    return &st->sets[*at];
}

void jrn_account_found(struct mqg_store *s, uint64_t queue_id, uint64_t first, uint64_t last)
{
    pthread_mutex_lock(&s->seg_lock);
    jrn_set_add(account_set(&s->settled, queue_id), first, last);
    pthread_mutex_unlock(&s->seg_lock);
}

void jrn_account_settled(struct mqg_store *s, const struct jrn_chunk *c)
{
    pthread_mutex_lock(&s->seg_lock);
    for (uint32_t i = 0; i < c->gone.n; i++) {
        const struct jrn_span *span = &c->gone.at[i];
        jrn_set_add(account_set(&s->settled, span->queue_id), span->first, span->last);
    }
    pthread_mutex_unlock(&s->seg_lock);
    if (atomic_load(&s->settle_wanted))
        jrn_keeper_wake(s);
}

static const struct jrn_set *account_get(const struct mqg_store *s, uint64_t queue_id)
{
    uint32_t at = jrn_map_get(&s->settled.at, queue_id);
    return at == JRN_MAP_NONE ? NULL : &s->settled.sets[at];
}

bool jrn_account_is_settled(const struct mqg_store *s, uint64_t queue_id, uint64_t qseq)
{
    const struct jrn_set *set = account_get(s, queue_id);
    return set && jrn_set_has(set, qseq);
}

static bool account_in_use(const struct mqg_store *s, uint64_t queue_id)
{
    for (const struct jrn_seg *seg = s->segs; seg; seg = seg->next)
        if (jrn_spans_get(&seg->msgs, queue_id))
            return true;
    return false;
}

/* Losing a range that is still on its way costs a needless copy at worst: unknown counts as live. */
void jrn_account_sweep(struct mqg_store *s)
{
    struct jrn_settled *st = &s->settled;
    pthread_mutex_lock(&s->seg_lock);
    for (uint32_t i = 0; i < ACCOUNT_SWEEP && i < st->n; i++) {
        uint32_t at = st->sweep++ % st->n;
        uint64_t id = st->ids[at];
        if (jrn_map_get(&st->at, id) != at || account_in_use(s, id))
            continue;
        jrn_map_remove(&st->at, id);
        jrn_set_fini(&st->sets[at]);
        st->unused[st->nfree++] = at;
    }
    pthread_mutex_unlock(&s->seg_lock);
}

/* ---- live ---------------------------------------------------------------------------------------------- */

/* How many of the queue's messages in the span are live, and their bytes. */
static uint64_t account_span(const struct mqg_store *s, const struct jrn_span *span, uint64_t *bytes)
{
    const struct jrn_set *set = account_get(s, span->queue_id);
    uint64_t gone = set ? jrn_set_count(set, span->first, span->last) : 0;
    uint64_t live = gone < span->count ? span->count - gone : 0;
    *bytes = span->count ? (uint64_t)span->eights * 8 * live / span->count : 0;
    return live;
}

uint64_t jrn_account_live(const struct mqg_store *s, const struct jrn_seg *seg)
{
    uint64_t bytes, live = 0;
    for (uint32_t i = 0; i < seg->msgs.list.n && live == 0; i++)
        live += account_span(s, &seg->msgs.list.at[i], &bytes);
    return live;
}

static void account_set_live(struct jrn_seg *seg, uint64_t messages, uint64_t bytes)
{
    int64_t batches = atomic_load(&seg->live) - atomic_load(&seg->extents);
    if (batches > 0 && !jrn_seg_is_cold(seg))
        bytes += seg->batch_bytes;
    seg->live_messages = messages;
    seg->live_bytes = bytes < atomic_load(&seg->end) ? bytes : atomic_load(&seg->end);
}

/* Only the keeper takes segments off the list, so it may walk it between two holds of the lock. */
static uint32_t account_look_at(struct mqg_store *s, struct jrn_seg *seg, uint64_t now)
{
    uint64_t messages = 0, bytes = 0, one;
    uint32_t i = 0, all;
    do {
        pthread_mutex_lock(&s->seg_lock);
        all = seg->msgs.list.n;
        for (uint32_t k = 0; k < ACCOUNT_SLICE && i < all; k++, i++) {
            messages += account_span(s, &seg->msgs.list.at[i], &one);
            bytes += one;
        }
        pthread_mutex_unlock(&s->seg_lock);
    } while (i < all);
    pthread_mutex_lock(&s->seg_lock);
    account_set_live(seg, messages, bytes);
    seg->looked_us = now;
    pthread_mutex_unlock(&s->seg_lock);
    return all;
}

/* With the lock. */
static void account_count(struct mqg_store *s, struct jrn_seg *seg)
{
    uint64_t messages = 0, bytes = 0, one;
    for (uint32_t i = 0; i < seg->msgs.list.n; i++) {
        messages += account_span(s, &seg->msgs.list.at[i], &one);
        bytes += one;
    }
    account_set_live(seg, messages, bytes);
}

void jrn_account_glance(struct mqg_store *s)
{
    uint64_t now = mqg_clock_mono_us();
    uint32_t looks = 0;
    pthread_mutex_lock(&s->seg_lock);
    for (struct jrn_seg *seg = s->segs; seg; seg = seg->next) {
        looks += seg->msgs.list.n;
        if (seg->kept_us > now || looks > ACCOUNT_GLANCE)
            continue;
        account_count(s, seg);
        seg->looked_us = now;
    }
    pthread_mutex_unlock(&s->seg_lock);
}

void jrn_account_look(struct mqg_store *s)
{
    uint64_t now = mqg_clock_mono_us();
    uint32_t looks = 0;
    pthread_mutex_lock(&s->seg_lock);
    struct jrn_seg *seg = s->segs;
    pthread_mutex_unlock(&s->seg_lock);
    while (seg && looks < ACCOUNT_LOOKS) {
        pthread_mutex_lock(&s->seg_lock);
        bool exact = seg->kept_us > now && atomic_load(&seg->live) > 0;
        bool due = !exact && (seg->looked_us == 0 || now - seg->looked_us >= ACCOUNT_AGE_US);
        pthread_mutex_unlock(&s->seg_lock);
        if (due)
            looks += account_look_at(s, seg, now);
        pthread_mutex_lock(&s->seg_lock);
        seg = seg->next;
        pthread_mutex_unlock(&s->seg_lock);
    }
}

/* ---- the table's ----------------------------------------------------------------------------------------- */

static const char *account_state(const struct jrn_seg *seg)
{
    switch ((enum jrn_seg_state)atomic_load(&seg->state)) {
    case JRN_SPARE: return "spare";
    case JRN_TAIL: return "tail";
    case JRN_COLD: return "cold_tail";
    case JRN_CLOSED: return jrn_seg_is_cold(seg) ? "cold" : "closed";
    case JRN_LEAVING:
    case JRN_FREED: return "leaving";
    }
    return "unknown";
}

static struct mqg_store_segment account_row(const struct jrn_seg *seg)
{
    return (struct mqg_store_segment){.sequence = seg->seq & ~JRN_SEQ_COLD,
                                      .state = account_state(seg),
                                      .cold = jrn_seg_is_cold(seg),
                                      .disk_bytes = seg->bytes,
                                      .used_bytes = atomic_load(&seg->end),
                                      .live_bytes = seg->live_bytes,
                                      .live_messages = seg->live_messages,
                                      .queues = seg->msgs.list.n};
}

void jrn_account_segments(struct mqg_store *s, mqg_store_segment_fn fn, void *arg)
{
    uint32_t n = 0;
    pthread_mutex_lock(&s->seg_lock);
    struct mqg_store_segment *rows = mqg_xcalloc(s->nseg + 1, sizeof *rows);
    for (const struct jrn_seg *seg = s->segs; seg && n < s->nseg; seg = seg->next)
        rows[n++] = account_row(seg);
    pthread_mutex_unlock(&s->seg_lock);
    for (uint32_t i = 0; i < n; i++)
        fn(arg, &rows[i]);
    free(rows);
}

bool jrn_account_queue(struct mqg_store *s, uint64_t queue_id, struct mqg_store_usage *out)
{
    uint64_t bytes;
    *out = (struct mqg_store_usage){0};
    pthread_mutex_lock(&s->seg_lock);
    for (const struct jrn_seg *seg = s->segs; seg; seg = seg->next) {
        const struct jrn_span *span = jrn_spans_get(&seg->msgs, queue_id);
        uint64_t live = span ? account_span(s, span, &bytes) : 0;
        if (live == 0)
            continue;
        out->messages += live;
        out->bytes += bytes;
        out->segments++;
    }
    pthread_mutex_unlock(&s->seg_lock);
    return out->segments > 0;
}
