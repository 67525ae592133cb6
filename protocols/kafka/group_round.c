/* group_round.c - one round of a group: members join, a protocol is chosen, the leader's assignment is handed out.
 *
 * A round ends when every member has joined and nobody holds a promised id, or when the longest rebalance timeout of the members
 * is over; who has not come back by then is no longer a member, unless it is static. In the first round of an empty group
 * newcomers prolong the wait, within the same bound, so that a fleet that starts together gets one generation and not many.
 * After the round everybody has to sync within that time again: the leader with what each member gets, the others to be told. */
#include "group.h"

#include "error.h"

/* ---- joining: the round begins and ends -------------------------------------------------------------------------------- */

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

/* ---- syncing: the assignment is handed out ----------------------------------------------------------------------------- */

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
            group_replace_text(&m->assignment, group_not_null(in->rows[i].assignment));
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
