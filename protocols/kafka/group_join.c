/* group_join.c - JoinGroup: who asks to be a member, and what that does to the group.
 *
 * A join is refused, answered at once, or waits for the end of a round (group_round.c). At once: a newcomer that is given an id to
 * come back with (KIP-394: a client that never hears of its id must not leave a member behind that nobody is); a member that
 * says the same again, whose answer may have been lost; a static member under a new id while the group is stable (KIP-345). All
 * else begins a rebalance, or joins the one that goes on. */
#include "group.h"

#include <stdlib.h>

#include "error.h"

/* ---- waiting for the round ---------------------------------------------------------------------------------------------- */

static void join_wait(struct group *g, struct group_member *m, struct group_wait *w)
{
    if (m->join != NULL) /* it asked again, on another connection perhaps */
        group_answer(g, m->join, KAFKA_REBALANCE_IN_PROGRESS);
    w->member = m;
    m->join = w;
}

static void join_rebalance(struct group *g, uint64_t now_ms, struct group_member *m,
                           const struct group_join *in, struct group_wait *w)
{
    group_member_take(m, in);
    join_wait(g, m, w);
    if (g->state == GROUP_PREPARING)
        group_try_complete(g, now_ms);
    else
        group_prepare(g, now_ms);
}

static void join_add(struct group *g, uint64_t now_ms, struct mqg_slice id, const struct group_join *in,
                     struct group_wait *w)
{
    struct group_member *m = mqg_xcalloc(1, sizeof *m);
    m->id = group_text(id);
    m->instance_id = group_text(in->instance_id);
    m->fresh = true;
    m->deadline_ms = now_ms + g->limits->fresh_join_ms;
    group_due(g, m->deadline_ms);
    if (g->members.n == 0) {
        group_replace_text(&g->protocol_type, in->protocol_type);
        g->leader = m;
    }
    mqg_vec_push(&g->members, m);
    (void)mqg_map_set(&g->by_id, group_view(m->id), m);
    if (m->instance_id != NULL)
        (void)mqg_map_set(&g->statics, group_view(m->instance_id), m);
    g->newcomer = true;
    join_rebalance(g, now_ms, m, in, w);
}

static void join_promise(struct group *g, uint64_t now_ms, const struct group_join *in, struct group_wait *w)
{
    struct group_promise *p = mqg_xcalloc(1, sizeof *p);
    p->id = group_text(in->new_id);
    p->deadline_ms = now_ms + in->session_ms;
    group_due(g, p->deadline_ms);
    mqg_vec_push(&g->promises, p);
    w->generation = -1;
    w->member_id = mqg_buf_ref(p->id);
    group_answer(g, w, KAFKA_MEMBER_ID_REQUIRED);
}

/* The same instance under a new id: the old one is fenced, what the group knows of it stays (KIP-345). While the group is
 * stable and its protocol the same, nobody else notices. */
static void join_replace(struct group *g, uint64_t now_ms, struct group_member *m,
                         const struct group_join *in, struct group_wait *w)
{
    if (m->join != NULL)
        group_answer(g, m->join, KAFKA_FENCED_INSTANCE_ID);
    if (m->sync != NULL)
        group_answer(g, m->sync, KAFKA_FENCED_INSTANCE_ID);
    struct mqg_buf *old_id = m->id;
    (void)mqg_map_del(&g->by_id, group_view(m->id));
    m->id = group_text(in->new_id);
    (void)mqg_map_set(&g->by_id, group_view(m->id), m);
    group_member_take(m, in);
    group_touch(g, m, now_ms);
    struct mqg_buf *chosen = group_choose(g);
    if (g->state != GROUP_STABLE || !mqg_slice_eq(group_view(chosen), group_view(g->protocol))) {
        join_rebalance(g, now_ms, m, in, w);
    } else {
        bool leads = g->leader == m;
        w->skip_assignment = leads && in->version >= 9;
        group_answer_join(g, m, w, w->skip_assignment);
        if (leads && !w->skip_assignment) { /* it must not believe that it has to assign */
            mqg_buf_unref(&w->leader);
            w->leader = mqg_buf_ref(old_id);
        }
    }
    mqg_buf_unref(&old_id);
}

static void join_new(struct group *g, uint64_t now_ms, const struct group_join *in, struct group_wait *w)
{
    struct group_member *old = in->instance_id.ptr != NULL ? mqg_map_get(&g->statics, in->instance_id) : NULL;
    if (old != NULL)
        join_replace(g, now_ms, old, in, w);
    else if (g->members.n + g->promises.n >= g->limits->max_members)
        group_answer(g, w, KAFKA_GROUP_MAX_SIZE_REACHED);
    else if (in->instance_id.ptr == NULL && in->version >= 4)
        join_promise(g, now_ms, in, w);
    else
        join_add(g, now_ms, in->new_id, in, w);
}

/* A member that is in the group, in COMPLETING or STABLE: an answer may have been lost, or it wants another round. */
static void join_again(struct group *g, uint64_t now_ms, struct group_member *m, const struct group_join *in,
                       struct group_wait *w)
{
    bool same = group_member_says_same(m, in);
    bool leads = g->leader == m;
    if (same && (g->state == GROUP_COMPLETING || (g->state == GROUP_STABLE && !leads))) {
        group_touch(g, m, now_ms);
        group_answer_join(g, m, w, leads);
        return;
    }
    join_rebalance(g, now_ms, m, in, w);
}

static int16_t join_refusal(const struct group *g, const struct group_join *in)
{
    const struct group_member *m = group_find(g, in->member_id);
    const struct group_member *instance = in->instance_id.ptr != NULL
                                              ? mqg_map_get(&g->statics, in->instance_id)
                                              : NULL;
    if (g->state == GROUP_DEAD)
        return KAFKA_COORDINATOR_NOT_AVAILABLE;
    if (in->member_id.len == 0)
        m = instance;
    else if (in->instance_id.ptr != NULL && instance == NULL)
        return KAFKA_UNKNOWN_MEMBER_ID;
    else if (in->instance_id.ptr != NULL && instance != m)
        return KAFKA_FENCED_INSTANCE_ID;
    return group_all_speak(g, in, m) ? KAFKA_NONE : KAFKA_INCONSISTENT_GROUP_PROTOCOL;
}

void group_join(struct group *g, uint64_t now_ms, const struct group_join *in, struct group_wait *w)
{
    w->generation = -1;
    int16_t refusal = join_refusal(g, in);
    struct group_member *m = group_find(g, in->member_id);
    if (refusal != KAFKA_NONE) {
        w->member_id = group_text(group_not_null(in->member_id));
        group_answer(g, w, refusal);
    } else if (in->member_id.len == 0) {
        join_new(g, now_ms, in, w);
    } else if (m == NULL && group_promise_take(g, in->member_id)) {
        join_add(g, now_ms, in->member_id, in, w);
    } else if (m == NULL) {
        w->member_id = group_text(in->member_id);
        group_answer(g, w, KAFKA_UNKNOWN_MEMBER_ID);
    } else if (g->state == GROUP_PREPARING) {
        join_rebalance(g, now_ms, m, in, w);
    } else {
        join_again(g, now_ms, m, in, w);
    }
}
