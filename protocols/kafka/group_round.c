/* group_round.c - one round of a group: members join, a protocol is chosen, the leader's assignment is handed out.
 *
 * A round ends when every member has joined and nobody holds a promised id, or when the longest rebalance timeout of the members
 * is over; who has not come back by then is no longer a member, unless it is static. In the first round of an empty group
 * newcomers prolong the wait, within the same bound, so that a fleet that starts together gets one generation and not many.
 * After the round everybody has to sync within that time again. */
#include "group.h"

#include <stdlib.h>

#include "error.h"

/* ---- protocols --------------------------------------------------------------------------------------------------------- */

static bool member_speaks(const struct group_member *m, struct mqg_slice name)
{
    for (uint32_t i = 0; i < m->nprotocols; i++)
        if (mqg_slice_eq(group_view(m->protocols[i].name), name))
            return true;
    return false;
}

static bool name_for_all(const struct group *g, struct mqg_slice name, const struct group_member *but)
{
    for (size_t i = 0; i < g->members.n; i++)
        if (g->members.items[i] != but && !member_speaks(g->members.items[i], name))
            return false;
    return true;
}

bool group_all_speak(const struct group *g, const struct group_join *in, const struct group_member *but)
{
    if (in->protocol_type.len == 0 || in->nprotocols == 0)
        return false;
    if (g->members.n == 0)
        return true;
    if (!mqg_slice_eq(group_view(g->protocol_type), in->protocol_type))
        return false;
    for (uint32_t i = 0; i < in->nprotocols; i++)
        if (name_for_all(g, in->protocols[i].name, but))
            return true;
    return false;
}

/* A name that all speak, and how many prefer it to the others. */
struct candidate {
    struct mqg_buf *name;
    size_t votes;
};

/* The member's vote goes to the first of its names that is a candidate. */
static void member_vote(const struct group_member *m, struct candidate *candidates, uint32_t n)
{
    for (uint32_t i = 0; i < m->nprotocols; i++)
        for (uint32_t k = 0; k < n; k++)
            if (mqg_slice_eq(group_view(m->protocols[i].name), group_view(candidates[k].name))) {
                candidates[k].votes++;
                return;
            }
}

/* Candidates are among the names of any one member, so its list is looked at alone. */
struct mqg_buf *group_choose(const struct group *g)
{
    if (g->members.n == 0)
        return NULL;
    const struct group_member *first = g->members.items[0];
    struct candidate *candidates = mqg_xcalloc(first->nprotocols, sizeof *candidates);
    struct candidate best = {NULL, 0};
    uint32_t n = 0;
    for (uint32_t i = 0; i < first->nprotocols; i++)
        if (name_for_all(g, group_view(first->protocols[i].name), first))
            candidates[n++].name = first->protocols[i].name;
    for (size_t i = 0; i < g->members.n; i++)
        member_vote(g->members.items[i], candidates, n);
    for (uint32_t k = 0; k < n; k++)
        best = candidates[k].votes > best.votes ? candidates[k] : best;
    free(candidates);
    return best.name;
}

static bool member_same_protocols(const struct group_member *m, const struct group_join *in)
{
    bool same = m->nprotocols == in->nprotocols;
    for (uint32_t i = 0; same && i < in->nprotocols; i++)
        same = mqg_slice_eq(group_view(m->protocols[i].name), in->protocols[i].name) &&
               mqg_slice_eq(group_view(m->protocols[i].metadata), in->protocols[i].metadata);
    return same;
}

static struct mqg_slice not_null(struct mqg_slice s)
{
    return s.ptr != NULL ? s : MQG_SLICE_LIT("");
}

static void member_take(struct group_member *m, const struct group_join *in)
{
    for (uint32_t i = 0; i < m->nprotocols; i++) {
        mqg_buf_unref(&m->protocols[i].name);
        mqg_buf_unref(&m->protocols[i].metadata);
    }
    free(m->protocols);
    m->protocols = mqg_xcalloc(in->nprotocols, sizeof *m->protocols);
    m->nprotocols = in->nprotocols;
    for (uint32_t i = 0; i < in->nprotocols; i++) {
        m->protocols[i].name = group_text(not_null(in->protocols[i].name));
        m->protocols[i].metadata = group_text(not_null(in->protocols[i].metadata));
    }
    m->session_ms = in->session_ms;
    m->rebalance_ms = in->rebalance_ms;
    group_replace_text(&m->client_id, not_null(in->client_id));
    group_replace_text(&m->client_host, not_null(in->client_host));
}

/* ---- rounds --------------------------------------------------------------------------------------------------------------- */

static uint32_t rebalance_ms(const struct group *g)
{
    uint32_t most = 0;
    for (size_t i = 0; i < g->members.n; i++) {
        const struct group_member *m = g->members.items[i];
        most = m->rebalance_ms > most ? m->rebalance_ms : most;
    }
    return most;
}

/* Syncs that wait belong to a generation that is over. */
static void syncs_refuse(struct group *g)
{
    for (size_t i = 0; i < g->members.n; i++) {
        struct group_member *m = g->members.items[i];
        if (m->assignment != NULL)
            mqg_buf_unref(&m->assignment);
        if (m->sync == NULL)
            continue;
        group_answer(g, m->sync, KAFKA_REBALANCE_IN_PROGRESS);
    }
}

void group_prepare(struct group *g, uint64_t now_ms)
{
    bool first = g->state == GROUP_EMPTY;
    if (g->state == GROUP_PREPARING || g->state == GROUP_DEAD)
        return;
    if (g->state == GROUP_COMPLETING)
        syncs_refuse(g);
    g->state = GROUP_PREPARING;
    g->begun_ms = now_ms;
    g->first_round = first && g->limits->initial_delay_ms > 0;
    g->newcomer = false;
    g->round_ms = now_ms + (g->first_round ? g->limits->initial_delay_ms : rebalance_ms(g));
    group_due(g, g->round_ms);
    group_try_complete(g, now_ms);
}

static void round_prolong(struct group *g, uint64_t now_ms)
{
    uint64_t last_ms = g->begun_ms + rebalance_ms(g);
    g->newcomer = false;
    g->round_ms = now_ms + g->limits->initial_delay_ms;
    if (g->round_ms > last_ms)
        g->round_ms = last_ms;
    if (g->round_ms <= now_ms)
        g->first_round = false;
}

/* Who did not come; static members stay for their sessions. */
static void round_drop_absent(struct group *g)
{
    for (size_t i = g->members.n; i-- > 0;) {
        struct group_member *m = g->members.items[i];
        if (m->join == NULL && m->instance_id == NULL)
            group_member_remove(g, m, KAFKA_UNKNOWN_MEMBER_ID);
    }
}

/* The leader is one who is here; false when nobody is. */
static bool round_lead(struct group *g)
{
    if (g->leader != NULL && g->leader->join != NULL)
        return true;
    for (size_t i = 0; i < g->members.n; i++) {
        struct group_member *m = g->members.items[i];
        if (m->join != NULL) {
            g->leader = m;
            return true;
        }
    }
    return g->members.n == 0;
}

static void round_empty(struct group *g)
{
    g->state = GROUP_EMPTY;
    g->round_ms = 0;
    if (g->protocol != NULL)
        mqg_buf_unref(&g->protocol);
}

static void round_answer(struct group *g, uint64_t now_ms)
{
    for (size_t i = 0; i < g->members.n; i++) {
        struct group_member *m = g->members.items[i];
        m->synced = false;
        if (m->join == NULL)
            continue;
        m->fresh = false;
        group_touch(g, m, now_ms);
        group_answer_join(g, m, m->join, m == g->leader);
    }
}

static void round_complete(struct group *g, uint64_t now_ms)
{
    round_drop_absent(g);
    if (!round_lead(g)) { /* static members only, and none has come: wait on */
        g->round_ms = now_ms + rebalance_ms(g);
        group_due(g, g->round_ms);
        return;
    }
    g->generation = g->generation == INT32_MAX ? 1 : g->generation + 1;
    if (g->members.n == 0) {
        round_empty(g);
        return;
    }
    struct mqg_buf *chosen = group_choose(g);
    group_replace_text(&g->protocol, group_view(chosen));
    g->state = GROUP_COMPLETING;
    g->round_ms = now_ms + rebalance_ms(g);
    group_due(g, g->round_ms);
    round_answer(g, now_ms);
}

void group_try_complete(struct group *g, uint64_t now_ms)
{
    if (g->state != GROUP_PREPARING || g->first_round || g->promises.n > 0)
        return;
    for (size_t i = 0; i < g->members.n; i++)
        if (((struct group_member *)g->members.items[i])->join == NULL)
            return;
    round_complete(g, now_ms);
}

/* Members that joined and never synced. */
static void round_drop_unsynced(struct group *g, uint64_t now_ms)
{
    size_t before = g->members.n;
    for (size_t i = g->members.n; i-- > 0;) {
        struct group_member *m = g->members.items[i];
        if (!m->synced && m->sync == NULL)
            group_member_remove(g, m, KAFKA_UNKNOWN_MEMBER_ID);
    }
    if (g->members.n != before)
        group_prepare(g, now_ms);
}

void group_round_expire(struct group *g, uint64_t now_ms)
{
    if (g->round_ms == 0 || now_ms < g->round_ms)
        return;
    if (g->state == GROUP_PREPARING && g->first_round && g->newcomer) {
        round_prolong(g, now_ms);
        if (g->first_round)
            return;
    }
    if (g->state == GROUP_PREPARING) {
        g->first_round = false;
        round_complete(g, now_ms);
        return;
    }
    g->round_ms = 0;
    round_drop_unsynced(g, now_ms);
}

/* ---- join ------------------------------------------------------------------------------------------------------------------ */

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
    member_take(m, in);
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

static bool promise_take(struct group *g, struct mqg_slice id)
{
    for (size_t i = 0; i < g->promises.n; i++) {
        struct group_promise *p = g->promises.items[i];
        if (!mqg_slice_eq(group_view(p->id), id))
            continue;
        mqg_buf_unref(&p->id);
        free(p);
        mqg_vec_remove(&g->promises, i);
        return true;
    }
    return false;
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
    member_take(m, in);
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
    bool same = member_same_protocols(m, in);
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
        w->member_id = group_text(not_null(in->member_id));
        group_answer(g, w, refusal);
    } else if (in->member_id.len == 0) {
        join_new(g, now_ms, in, w);
    } else if (m == NULL && promise_take(g, in->member_id)) {
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

/* ---- sync ------------------------------------------------------------------------------------------------------------------ */

static void sync_answer(struct group *g, struct group_member *m, struct group_wait *w)
{
    w->protocol_type = group_text(group_view(g->protocol_type));
    w->protocol = group_text(group_view(g->protocol));
    w->assignment = m->assignment != NULL ? mqg_buf_ref(m->assignment) : group_text(MQG_SLICE_LIT(""));
    group_answer(g, w, KAFKA_NONE);
}

static void sync_assign(struct group *g, uint64_t now_ms, const struct group_sync *in)
{
    for (uint32_t i = 0; i < in->nrows; i++) {
        struct group_member *m = group_find(g, in->rows[i].member_id);
        if (m != NULL)
            group_replace_text(&m->assignment, not_null(in->rows[i].assignment));
    }
    g->state = GROUP_STABLE;
    for (size_t i = 0; i < g->members.n; i++) {
        struct group_member *m = g->members.items[i];
        if (m->sync == NULL)
            continue;
        group_touch(g, m, now_ms);
        sync_answer(g, m, m->sync);
    }
}

static int16_t sync_refusal(const struct group *g, const struct group_sync *in)
{
    const struct group_member *m = in->instance_id.ptr != NULL ? mqg_map_get(&g->statics, in->instance_id)
                                                               : group_find(g, in->member_id);
    if (g->state == GROUP_DEAD)
        return KAFKA_COORDINATOR_NOT_AVAILABLE;
    if (m == NULL)
        return KAFKA_UNKNOWN_MEMBER_ID;
    if (!mqg_slice_eq(group_view(m->id), in->member_id))
        return KAFKA_FENCED_INSTANCE_ID;
    if (in->generation != g->generation)
        return KAFKA_ILLEGAL_GENERATION;
    if (in->protocol_type.ptr != NULL && !mqg_slice_eq(in->protocol_type, group_view(g->protocol_type)))
        return KAFKA_INCONSISTENT_GROUP_PROTOCOL;
    if (in->protocol.ptr != NULL && !mqg_slice_eq(in->protocol, group_view(g->protocol)))
        return KAFKA_INCONSISTENT_GROUP_PROTOCOL;
    return g->state == GROUP_PREPARING ? KAFKA_REBALANCE_IN_PROGRESS : KAFKA_NONE;
}

void group_sync(struct group *g, uint64_t now_ms, const struct group_sync *in, struct group_wait *w)
{
    w->sync = true;
    int16_t refusal = sync_refusal(g, in);
    if (refusal != KAFKA_NONE) {
        group_answer(g, w, refusal);
        return;
    }
    struct group_member *m = group_find(g, in->member_id);
    group_touch(g, m, now_ms);
    m->synced = true;
    if (g->state == GROUP_STABLE) {
        sync_answer(g, m, w);
        return;
    }
    if (m->sync != NULL)
        group_answer(g, m->sync, KAFKA_REBALANCE_IN_PROGRESS);
    w->member = m;
    m->sync = w;
    if (m == g->leader)
        sync_assign(g, now_ms, in);
}
