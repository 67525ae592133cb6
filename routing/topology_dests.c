/* topology_dests.c - persistent sets of destinations, and the set that routing fills.
 *
 * Most keys lead to one queue, some fanouts to a hundred thousand. One destination alone takes no memory: the
 * set's pointer is the destination's, marked. Up to DESTS_FLAT_MAX a set is one array: a bind copies it, a
 * route walks it. Beyond, the copies would make declaring quadratic: the set turns into a
 * map by destination id. It turns back only when it is empty; a set that was large once may well be again.
 * Each member counts the bindings that name it, since the same queue may be bound twice with other arguments
 * (or, to a fanout, with other keys).
 *
 * A route_set finds duplicates by looking through its array while that is short, and by a hash table of
 * pointers beyond; `mark` numbers the uses of the table, so that emptying it is one increment. */
#include "topology_route.h"

#include <stdlib.h>

enum { DESTS_FLAT_MAX = 64, ROUTE_LINEAR_MAX = 16, ROUTE_CAP_MIN = 16 };

/* ---- persistent sets ----------------------------------------------------------------------------------- */

static struct mqg_slice dests_key(const struct dest *const *d)
{
    return mqg_slice_of(&(*d)->id, sizeof(*d)->id);
}

static struct dest_set *dests_new(const struct topology_edit *t, uint32_t cap)
{
    struct dest_set *set = mqg_xcalloc(1, sizeof *set + cap * sizeof set->refs[0]);
    set->edit = t->pmap.id;
    set->cap = cap;
    return set;
}

/* The set, made for writing by this edit, with room for `cap` members. */
static struct dest_set *dests_own(const struct topology_edit *t, struct dest_set *set, uint32_t cap)
{
    bool ours = set->edit == t->pmap.id;
    if (ours && set->cap >= cap)
        return set;
    struct dest_set *own = dests_new(t, ours ? cap * 2 : cap);
    own->n = set->n;
    own->many = set->many;
    if (set->many == NULL)
        memcpy(own->refs, set->refs, set->n * sizeof set->refs[0]);
    if (ours)
        free(set);
    else
        topology_retire_plain(set);
    return own;
}

static uint32_t dests_find(const struct dest_set *set, const struct dest *d)
{
    for (uint32_t i = 0; i < set->n; i++)
        if (set->refs[i].dest == d)
            return i;
    return UINT32_MAX;
}

static void dests_many_put(const struct topology_edit *t, struct dest_set *set, struct dest_ref ref)
{
    struct dest_ref *boxed = mqg_xmalloc(sizeof *boxed);
    *boxed = ref;
    set->many = mqg_pmap_set(&t->pmap, set->many, dests_key(&ref.dest), boxed);
}

static void dests_many_count(const struct topology_edit *t, struct dest_set *set, struct dest_ref *old,
                             int change)
{
    struct dest_ref ref = {old->dest, old->count + (uint32_t)change};
    if (ref.count > 0) {
        dests_many_put(t, set, ref);
    } else {
        set->many = mqg_pmap_del(&t->pmap, set->many, dests_key(&ref.dest));
        set->n--;
    }
    topology_retire_plain(old);
}

static struct dest_set *dests_many_add(const struct topology_edit *t, struct dest_set *set,
                                       const struct dest *d)
{
    struct dest_ref *old = mqg_pmap_get(set->many, dests_key(&d));
    set = dests_own(t, set, 0);
    if (old != NULL) {
        dests_many_count(t, set, old, 1);
        return set;
    }
    dests_many_put(t, set, (struct dest_ref){d, 1});
    set->n++;
    return set;
}

/* From the one to a set with room for another. */
static struct dest_set *dests_open(const struct topology_edit *t, const struct dest *only)
{
    struct dest_set *set = dests_new(t, 2);
    set->refs[set->n++] = (struct dest_ref){only, 1};
    return set;
}

/* From flat to map. */
static struct dest_set *dests_spread(const struct topology_edit *t, struct dest_set *set)
{
    struct dest_set *wide = dests_new(t, 0);
    for (uint32_t i = 0; i < set->n; i++)
        dests_many_put(t, wide, set->refs[i]);
    wide->n = set->n;
    if (set->edit == t->pmap.id)
        free(set);
    else
        topology_retire_plain(set);
    return wide;
}

struct dest_set *dests_add(const struct topology_edit *t, struct dest_set *set, const struct dest *d)
{
    if (set == NULL)
        return dest_mark(d);
    if (dest_marked(set) != NULL)
        set = dests_open(t, dest_marked(set));
    if (set->many != NULL)
        return dests_many_add(t, set, d);
    uint32_t at = dests_find(set, d);
    if (at == UINT32_MAX && set->n == DESTS_FLAT_MAX)
        return dests_many_add(t, dests_spread(t, set), d);
    set = dests_own(t, set, at == UINT32_MAX ? set->n + 1 : set->n);
    if (at == UINT32_MAX)
        set->refs[set->n++] = (struct dest_ref){d, 1};
    else
        set->refs[at].count++;
    return set;
}

static struct dest_set *dests_drop_empty(const struct topology_edit *t, struct dest_set *set)
{
    if (set->n > 0)
        return set;
    MQG_ASSERT(set->edit == t->pmap.id);
    free(set);
    return NULL;
}

struct dest_set *dests_remove(const struct topology_edit *t, struct dest_set *set, const struct dest *d)
{
    MQG_ASSERT(set != NULL);
    if (dest_marked(set) != NULL) {
        MQG_ASSERT(dest_marked(set) == d);
        return NULL;
    }
    if (set->many != NULL) {
        struct dest_ref *old = mqg_pmap_get(set->many, dests_key(&d));
        MQG_ASSERT(old != NULL);
        set = dests_own(t, set, 0);
        dests_many_count(t, set, old, -1);
        return dests_drop_empty(t, set);
    }
    uint32_t at = dests_find(set, d);
    MQG_ASSERT(at != UINT32_MAX);
    set = dests_own(t, set, set->n);
    if (--set->refs[at].count == 0)
        set->refs[at] = set->refs[--set->n];
    return dests_drop_empty(t, set);
}

void dests_free(struct dest_set *set)
{
    if (set == NULL || dest_marked(set) != NULL)
        return;
    struct mqg_pmap_cursor c;
    for (mqg_pmap_cursor_init(&c, set->many); mqg_pmap_cursor_next(&c);)
        free(c.value);
    mqg_pmap_free(set->many, NULL);
    free(set);
}

/* ---- the set that routing fills ------------------------------------------------------------------------ */

void route_set_init(struct route_set *r)
{
    *r = (struct route_set){.queues = NULL};
}

void route_set_fini(struct route_set *r)
{
    struct route_scratch *s = r->scratch;
    if (s != NULL) {
        free(s->slots);
        free(s->visited);
        free(s->keys);
        topic_scratch_fini(&s->topic);
        mqg_arena_fini(&s->arena);
        mqg_dynbuf_fini(&s->swapped);
        free(s);
    }
    free(r->queues);
    *r = (struct route_set){.queues = NULL};
}

struct route_scratch *route_scratch(struct route_set *r)
{
    if (r->scratch == NULL) {
        struct route_scratch *s = mqg_xcalloc(1, sizeof *s);
        mqg_arena_init(&s->arena, ROUTE_HEADERS_MAX_BYTES);
        mqg_dynbuf_init(&s->swapped, ROUTE_KEYS_MAX_BYTES);
        r->scratch = s;
    }
    return r->scratch;
}

static size_t route_slot(const struct route_scratch *s, const struct mqg_queue *q)
{
    uint64_t h = (uint64_t)(uintptr_t)q;
    h = (h >> 4) * UINT64_C(0x9E3779B97F4A7C15);
    return (size_t)(h >> 32) & (s->slots_cap - 1);
}

/* True when q was not there; notes it. */
static bool route_note(struct route_scratch *s, uint64_t mark, struct mqg_queue *q)
{
    size_t at = route_slot(s, q);
    while (s->slots[at].mark == mark) {
        if (s->slots[at].queue == q)
            return false;
        at = (at + 1) & (s->slots_cap - 1);
    }
    s->slots[at] = (struct route_slot){q, mark};
    return true;
}

/* A table with room for twice the queues, holding those there now. */
static void route_table(struct route_set *r, struct route_scratch *s)
{
    if (s->slots_cap < r->cap * 2) {
        free(s->slots);
        s->slots_cap = r->cap * 2;
        s->slots = mqg_xcalloc(s->slots_cap, sizeof *s->slots);
    }
    r->mark++;
    for (size_t i = 0; i < r->n; i++)
        route_note(s, r->mark, r->queues[i]);
    s->tabled = true;
}

static bool route_is_new(struct route_set *r, struct mqg_queue *q)
{
    if (r->n <= ROUTE_LINEAR_MAX) {
        for (size_t i = 0; i < r->n; i++)
            if (r->queues[i] == q)
                return false;
        return true;
    }
    struct route_scratch *s = route_scratch(r);
    if (!s->tabled || s->slots_cap < r->cap * 2)
        route_table(r, s);
    return route_note(s, r->mark, q);
}

static void route_push(struct route_set *r, struct mqg_queue *q)
{
    if (r->n == r->cap) {
        r->cap = r->cap > 0 ? r->cap * 2 : ROUTE_CAP_MIN;
        r->queues = mqg_xrealloc(r->queues, r->cap * sizeof *r->queues);
    }
    r->queues[r->n++] = q;
}

void route_add_queue(struct route_set *r, struct mqg_queue *q)
{
    if (route_is_new(r, q))
        route_push(r, q);
}

static void route_add_dest(struct route_job *job, const struct dest *d, bool unseen)
{
    if (d->queue == NULL)
        route_add_exchange(job, d->exchange);
    else if (unseen)
        route_push(job->out, d->queue);
    else
        route_add_queue(job->out, d->queue);
}

/* Members of one set differ, so into an empty route they go unchecked. */
void route_add_dests(struct route_job *job, const struct dest_set *set)
{
    if (set == NULL)
        return;
    bool unseen = job->out->n == 0;
    job->matched = true;
    if (dest_marked(set) != NULL) {
        route_add_dest(job, dest_marked(set), unseen);
        return;
    }
    for (uint32_t i = 0; set->many == NULL && i < set->n; i++)
        route_add_dest(job, set->refs[i].dest, unseen);
    struct mqg_pmap_cursor c;
    for (mqg_pmap_cursor_init(&c, set->many); mqg_pmap_cursor_next(&c);)
        route_add_dest(job, ((const struct dest_ref *)c.value)->dest, unseen);
}
