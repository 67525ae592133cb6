/* group_target.c - what a KIP-848 group's members are to have, and how each gets there.
 *
 * The topics of a group are looked at again at every heartbeat: one lookup per topic that somebody names. An expression is
 * matched at the heartbeat of the member that has it, with that member's rights, and only when there may be other names.
 * A target is decided at the heartbeat that finds it outdated, whoever's that is; a group where nobody calls needs none. */
#include <stdlib.h>

#include "group_consumer.h"

/* ---- topics -------------------------------------------------------------------------------------------------------------- */

static void matched_add(void *to, struct mqg_slice name)
{
    mqg_vec_push(to, group_text(name));
}

static int name_order(const void *a, const void *b)
{
    return mqg_slice_cmp(group_view(*(struct mqg_buf *const *)a), group_view(*(struct mqg_buf *const *)b));
}

static void names_sort(struct mqg_vec *names)
{
    if (names->n > 0)
        qsort(names->items, names->n, sizeof *names->items, name_order);
}

static bool names_equal(const struct mqg_vec *a, const struct mqg_vec *b)
{
    bool same = a->n == b->n;
    for (size_t i = 0; same && i < a->n; i++)
        same = mqg_slice_eq(group_view(a->items[i]), group_view(b->items[i]));
    return same;
}

static void names_drop(struct mqg_vec *names)
{
    for (size_t i = 0; i < names->n; i++) {
        struct mqg_buf *b = names->items[i];
        mqg_buf_unref(&b);
    }
    mqg_vec_fini(names);
}

static enum mqg_err look_match(struct consumer_member *m, const struct consumer_world *world, bool *changed)
{
    struct mqg_vec found = {.n = 0};
    bool asked = m->regex != NULL && m->regex->len > 0;
    if (!asked || m->generation == world->generation + 1) {
        *changed = *changed || (!asked && m->matched.n > 0);
        if (!asked)
            names_drop(&m->matched);
        return MQG_OK;
    }
    if (!world->match(world->arg, group_view(m->regex), matched_add, &found)) {
        names_drop(&found);
        return MQG_INVALID;
    }
    names_sort(&found);
    *changed = *changed || !names_equal(&found, &m->matched);
    names_drop(&m->matched);
    m->matched = found;
    m->generation = world->generation + 1; /* 0: never */
    return MQG_OK;
}

/* All names that members subscribe to, once each; borrowed. */
static void names_all(const struct consumer_group *g, struct mqg_vec *out)
{
    for (size_t i = 0; i < g->members.n; i++) {
        const struct consumer_member *m = g->members.items[i];
        for (size_t k = 0; k < m->names.n; k++)
            mqg_vec_push(out, m->names.items[k]);
        for (size_t k = 0; k < m->matched.n; k++)
            mqg_vec_push(out, m->matched.items[k]);
    }
    names_sort(out);
    size_t n = 0;
    for (size_t i = 0; i < out->n; i++)
        if (n == 0 || !mqg_slice_eq(group_view(out->items[n - 1]), group_view(out->items[i])))
            out->items[n++] = out->items[i];
    out->n = n;
}

static bool known_equal(const struct consumer_known *a, const struct consumer_known *b)
{
    return a->partitions == b->partitions && memcmp(a->id.bytes, b->id.bytes, sizeof a->id.bytes) == 0 &&
           mqg_slice_eq(group_view(a->name), group_view(b->name));
}

static void known_replace(struct consumer_group *g, struct consumer_known *known, uint32_t n)
{
    for (uint32_t i = 0; i < g->nknown; i++)
        mqg_buf_unref(&g->known[i].name);
    free(g->known);
    g->known = known;
    g->nknown = n;
}

/* Nobody wants other names, and there are no others: are those that are known as they were? */
static bool look_same(const struct consumer_group *g, const struct consumer_world *world)
{
    if (g->stale || g->looked != world->generation + 1)
        return false;
    for (uint32_t i = 0; i < g->nknown; i++) {
        struct consumer_topic t;
        if (!world->find(world->arg, group_view(g->known[i].name), &t) ||
            t.partitions != g->known[i].partitions ||
            memcmp(t.id.bytes, g->known[i].id.bytes, sizeof t.id.bytes) != 0)
            return false;
    }
    return true;
}

static bool look_topics(struct consumer_group *g, const struct consumer_world *world)
{
    struct mqg_vec names = {.n = 0};
    if (look_same(g, world))
        return false;
    g->stale = false;
    g->looked = world->generation + 1;
    names_all(g, &names);
    struct consumer_known *known = mqg_xcalloc(names.n + 1, sizeof *known);
    uint32_t n = 0;
    for (size_t i = 0; i < names.n; i++) {
        struct consumer_topic t;
        if (!world->find(world->arg, group_view(names.items[i]), &t))
            continue;
        known[n++] = (struct consumer_known){mqg_buf_ref(names.items[i]), t.id, t.partitions};
    }
    mqg_vec_fini(&names);
    bool same = n == g->nknown;
    for (uint32_t i = 0; same && i < n; i++)
        same = known_equal(&known[i], &g->known[i]);
    known_replace(g, known, n);
    return !same;
}

enum mqg_err consumer_look(struct consumer_group *g, struct consumer_member *m,
                           const struct consumer_world *world, bool *changed)
{
    bool matched = false;
    enum mqg_err err = look_match(m, world, &matched);
    g->stale = g->stale || matched;
    *changed = *changed || matched;
    if (err == MQG_OK && look_topics(g, world))
        *changed = true;
    return err;
}

/* ---- the target ------------------------------------------------------------------------------------------------------------ */

/* The name most members ask for; the default when nobody does. */
static struct mqg_slice decide_assignor(const struct consumer_group *g)
{
    size_t range = 0, uniform = 0;
    for (size_t i = 0; i < g->members.n; i++) {
        const struct consumer_member *m = g->members.items[i];
        range += mqg_slice_eq(group_view(m->assignor), MQG_SLICE_LIT("range"));
        uniform += mqg_slice_eq(group_view(m->assignor), MQG_SLICE_LIT("uniform"));
    }
    return range > uniform ? MQG_SLICE_LIT("range") : MQG_SLICE_LIT("uniform");
}

static uint32_t known_find(const struct consumer_group *g, struct mqg_slice name)
{
    uint32_t low = 0, high = g->nknown;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        int order = mqg_slice_cmp(group_view(g->known[mid].name), name);
        if (order == 0)
            return mid;
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return UINT32_MAX;
}

static int index_order(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static uint32_t indexes_add(const struct consumer_group *g, const struct mqg_vec *names, uint32_t *out,
                            uint32_t n)
{
    for (size_t i = 0; i < names->n; i++) {
        uint32_t at = known_find(g, group_view(names->items[i]));
        if (at != UINT32_MAX)
            out[n++] = at;
    }
    return n;
}

/* The member's topics as indexes of known, ascending, once each; the caller frees them. */
static uint32_t *member_topics(const struct consumer_group *g, const struct consumer_member *m,
                               uint32_t *count)
{
    uint32_t *out = mqg_xcalloc(m->names.n + m->matched.n + 1, sizeof *out);
    uint32_t n = indexes_add(g, &m->matched, out, indexes_add(g, &m->names, out, 0));
    if (n > 0)
        qsort(out, n, sizeof *out, index_order);
    *count = 0;
    for (uint32_t i = 0; i < n; i++)
        if (*count == 0 || out[*count - 1] != out[i])
            out[(*count)++] = out[i];
    return out;
}

static struct mqg_slice member_place(const struct consumer_member *m)
{
    return m->instance_id != NULL ? group_view(m->instance_id) : group_view(m->id);
}

/* Static members first, by their instances: their places stay when they come back under another id. */
static int place_order(const void *a, const void *b)
{
    const struct consumer_member *x = *(struct consumer_member *const *)a;
    const struct consumer_member *y = *(struct consumer_member *const *)b;
    if ((x->instance_id != NULL) != (y->instance_id != NULL))
        return x->instance_id != NULL ? -1 : 1;
    return mqg_slice_cmp(member_place(x), member_place(y));
}

void consumer_decide(struct consumer_group *g)
{
    struct mqg_slice name = decide_assignor(g);
    uint32_t n = (uint32_t)g->members.n;
    struct assign_topic *topics = mqg_xcalloc(g->nknown + 1, sizeof *topics);
    struct assign_member *members = mqg_xcalloc(n + 1, sizeof *members);
    struct consumer_member **order = mqg_xcalloc(n + 1, sizeof *order);
    for (uint32_t i = 0; i < g->nknown; i++)
        topics[i] = (struct assign_topic){g->known[i].id, g->known[i].partitions};
    for (uint32_t i = 0; i < n; i++)
        order[i] = g->members.items[i];
    if (n > 0)
        qsort(order, n, sizeof *order, place_order);
    for (uint32_t i = 0; i < n; i++) {
        members[i].topics = member_topics(g, order[i], &members[i].ntopics);
        members[i].target = &order[i]->target;
    }
    group_assignor_find(name)(topics, g->nknown, members, n);
    for (uint32_t i = 0; i < n; i++)
        free((void *)(uintptr_t)members[i].topics);
    free(topics);
    free(members);
    free(order);
    group_replace_text(&g->assignor, name);
    g->target_epoch = g->epoch;
}

/* ---- a member's next step ---------------------------------------------------------------------------------------------------- */

/* Does another member hold the partition, or has not said that it let go? */
static bool part_taken(const struct consumer_group *g, const struct consumer_member *but,
                       const struct group_part *part)
{
    for (size_t i = 0; i < g->members.n; i++) {
        const struct consumer_member *m = g->members.items[i];
        if (m != but && (group_parts_has(&m->assigned, part) || group_parts_has(&m->revoking, part)))
            return true;
    }
    return false;
}

static void step_epoch(struct consumer_member *m, int32_t epoch)
{
    if (m->epoch == epoch)
        return;
    m->previous_epoch = m->epoch;
    m->epoch = epoch;
}

/* Adds what is free of the target to *assigned; true: some of it is not. */
static bool step_take_free(const struct consumer_group *g, const struct consumer_member *m,
                           struct group_parts *assigned)
{
    bool unreleased = false;
    uint32_t kept = assigned->n;
    struct group_parts had = {assigned->items, kept, 0};
    struct group_parts fresh = {.n = 0};
    group_parts_filter(&m->target, &had, false, &fresh);
    for (uint32_t i = 0; i < fresh.n; i++) {
        if (part_taken(g, m, &fresh.items[i]))
            unreleased = true;
        else
            group_parts_add(assigned, fresh.items[i].topic, fresh.items[i].partition);
    }
    group_parts_sort(assigned);
    group_parts_fini(&fresh);
    return unreleased;
}

static void step_towards(struct consumer_group *g, struct consumer_member *m, const struct group_parts *owned)
{
    struct group_parts keep = {.n = 0}, give = {.n = 0};
    group_parts_filter(&m->assigned, &m->target, true, &keep);
    group_parts_filter(&m->assigned, &m->target, false, &give);
    if (give.n > 0 && (owned == NULL || group_parts_meet(&give, owned))) {
        m->step = CONSUMER_UNREVOKED;
        group_parts_move(&m->revoking, &give);
    } else {
        m->step = step_take_free(g, m, &keep) ? CONSUMER_UNRELEASED : CONSUMER_STABLE;
        m->revoking.n = 0;
        step_epoch(m, g->target_epoch);
    }
    group_parts_move(&m->assigned, &keep);
    group_parts_fini(&give);
}

void consumer_step(struct consumer_group *g, struct consumer_member *m, const struct group_parts *owned)
{
    switch (m->step) {
    case CONSUMER_STABLE:
        if (m->epoch != g->target_epoch)
            step_towards(g, m, owned);
        return;
    case CONSUMER_UNREVOKED:
        if (owned == NULL || group_parts_meet(&m->revoking, owned))
            return;
        m->revoking.n = 0;
        step_towards(g, m, owned);
        return;
    case CONSUMER_UNRELEASED: step_towards(g, m, owned); return;
    }
}
