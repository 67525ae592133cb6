/* group.c - a group's members: who they are, how long they may be silent, how they leave; group.h has the picture.
 *
 * A member that waits for an answer is alive, however long it takes; its session runs from the answer on. What the clock asks of a
 * group is one number, due_ms: heartbeats only ever move deadlines away, so they do not touch it, and a visit too early
 * computes the next. So a heartbeat costs a lookup. */
#include "group.h"

#include "error.h"

const char *group_state_name(enum group_state s)
{
    static const char *const names[] = {"Empty", "PreparingRebalance", "CompletingRebalance", "Stable",
                                        "Dead"};
    return names[s];
}

/* ---- texts ------------------------------------------------------------------------------------------------------------ */

struct mqg_buf *group_text(struct mqg_slice s)
{
    if (s.ptr == NULL)
        return NULL;
    struct mqg_buf *b = mqg_buf_new(s.len);
    MQG_ASSERT(b != NULL);
    if (s.len > 0)
        memcpy(b->data, s.ptr, s.len);
    return b;
}

void group_replace_text(struct mqg_buf **at, struct mqg_slice s)
{
    struct mqg_buf *old = *at;
    if (old != NULL && s.ptr != NULL && mqg_slice_eq(group_view(old), s))
        return;
    *at = group_text(s);
    mqg_buf_unref(&old);
}

static struct mqg_buf *text_ref(struct mqg_buf *b)
{
    return b != NULL ? mqg_buf_ref(b) : NULL;
}

static void text_drop(struct mqg_buf **b)
{
    if (*b != NULL)
        mqg_buf_unref(b);
}

/* ---- promises --------------------------------------------------------------------------------------------------------- */

static void promise_remove(struct group *g, size_t i)
{
    struct group_promise *p = g->promises.items[i];
    mqg_buf_unref(&p->id);
    free(p);
    mqg_vec_remove(&g->promises, i);
}

bool group_promise_take(struct group *g, struct mqg_slice id)
{
    for (size_t i = 0; i < g->promises.n; i++)
        if (mqg_slice_eq(group_view(((struct group_promise *)g->promises.items[i])->id), id)) {
            promise_remove(g, i);
            return true;
        }
    return false;
}

/* ---- waits -------------------------------------------------------------------------------------------------------------- */

void group_wait_fini(struct group_wait *w)
{
    text_drop(&w->protocol_type);
    text_drop(&w->protocol);
    text_drop(&w->leader);
    text_drop(&w->member_id);
    text_drop(&w->assignment);
    for (uint32_t i = 0; i < w->npeers; i++) {
        text_drop(&w->peers[i].id);
        text_drop(&w->peers[i].instance_id);
        text_drop(&w->peers[i].metadata);
    }
    free(w->peers);
    w->peers = NULL;
    w->npeers = 0;
}

void group_answer(struct group *g, struct group_wait *w, int16_t error)
{
    if (w->member != NULL) {
        struct group_wait **at = w->sync ? &w->member->sync : &w->member->join;
        MQG_ASSERT(*at == w);
        *at = NULL;
        w->member = NULL;
    }
    w->error = error;
    struct group_wait **end = &g->answered;
    while (*end != NULL)
        end = &(*end)->next;
    w->next = NULL;
    *end = w;
}

struct group_wait *group_answered(struct group *g)
{
    struct group_wait *w = g->answered;
    if (w != NULL)
        g->answered = w->next;
    return w;
}

void group_wait_cancel(struct group *g, uint64_t now_ms, struct group_wait *w)
{
    if (w->member != NULL) {
        *(w->sync ? &w->member->sync : &w->member->join) = NULL;
        group_touch(g, w->member, now_ms);
        w->member = NULL;
    }
    for (struct group_wait **at = &g->answered; *at != NULL; at = &(*at)->next)
        if (*at == w) {
            *at = w->next;
            break;
        }
}

static void peers_fill(struct group *g, struct group_wait *w)
{
    w->peers = mqg_xcalloc(g->members.n, sizeof *w->peers);
    w->npeers = (uint32_t)g->members.n;
    for (size_t i = 0; i < g->members.n; i++) {
        const struct group_member *m = g->members.items[i];
        w->peers[i].id = mqg_buf_ref(m->id);
        w->peers[i].instance_id = text_ref(m->instance_id);
        for (uint32_t k = 0; k < m->nprotocols; k++)
            if (mqg_slice_eq(group_view(m->protocols[k].name), group_view(g->protocol)))
                w->peers[i].metadata = mqg_buf_ref(m->protocols[k].metadata);
    }
}

void group_answer_join(struct group *g, struct group_member *m, struct group_wait *w, bool tell_peers)
{
    w->generation = g->generation;
    w->protocol_type = text_ref(g->protocol_type);
    w->protocol = text_ref(g->protocol);
    w->leader = g->leader != NULL ? mqg_buf_ref(g->leader->id) : NULL;
    w->member_id = mqg_buf_ref(m->id);
    if (tell_peers)
        peers_fill(g, w);
    group_answer(g, w, KAFKA_NONE);
}

/* ---- time ------------------------------------------------------------------------------------------------------------- */

void group_due(struct group *g, uint64_t at_ms)
{
    if (g->due_ms == 0 || at_ms < g->due_ms)
        g->due_ms = at_ms;
}

void group_touch(struct group *g, struct group_member *m, uint64_t now_ms)
{
    m->deadline_ms = now_ms + m->session_ms;
    group_due(g, m->deadline_ms);
}

static void promises_expire(struct group *g, uint64_t now_ms)
{
    size_t before = g->promises.n;
    for (size_t i = g->promises.n; i-- > 0;)
        if (((struct group_promise *)g->promises.items[i])->deadline_ms <= now_ms)
            promise_remove(g, i);
    if (g->promises.n != before)
        group_try_complete(g, now_ms);
}

static bool member_late(const struct group_member *m, uint64_t now_ms)
{
    if (m->deadline_ms > now_ms || m->sync != NULL)
        return false;
    return m->join == NULL || m->fresh;
}

static void members_expire(struct group *g, uint64_t now_ms)
{
    size_t gone = 0;
    for (size_t i = g->members.n; i-- > 0;) {
        struct group_member *m = g->members.items[i];
        if (!member_late(m, now_ms))
            continue;
        group_member_remove(g, m, KAFKA_UNKNOWN_MEMBER_ID);
        gone++;
    }
    if (gone == 0)
        return;
    if (g->state == GROUP_PREPARING)
        group_try_complete(g, now_ms);
    else
        group_prepare(g, now_ms);
}

static void expire_next(struct group *g)
{
    g->due_ms = 0;
    if (g->round_ms > 0)
        group_due(g, g->round_ms);
    for (size_t i = 0; i < g->promises.n; i++)
        group_due(g, ((struct group_promise *)g->promises.items[i])->deadline_ms);
    for (size_t i = 0; i < g->members.n; i++) {
        const struct group_member *m = g->members.items[i];
        if (m->sync == NULL && (m->join == NULL || m->fresh))
            group_due(g, m->deadline_ms);
    }
}

void group_expire(struct group *g, uint64_t now_ms)
{
    if (g->state == GROUP_DEAD)
        return;
    promises_expire(g, now_ms);
    members_expire(g, now_ms);
    group_round_expire(g, now_ms);
    expire_next(g);
}

/* ---- birth and end ------------------------------------------------------------------------------------------------------ */

void group_init(struct group *g, const struct group_limits *limits, int32_t generation)
{
    *g = (struct group){.generation = generation, .limits = limits};
    mqg_map_init(&g->by_id, MQG_MAP_BORROW);
    mqg_map_init(&g->statics, MQG_MAP_BORROW);
}

static void member_free(struct group_member *m)
{
    for (uint32_t i = 0; i < m->nprotocols; i++) {
        text_drop(&m->protocols[i].name);
        text_drop(&m->protocols[i].metadata);
    }
    free(m->protocols);
    text_drop(&m->id);
    text_drop(&m->instance_id);
    text_drop(&m->client_id);
    text_drop(&m->client_host);
    text_drop(&m->assignment);
    free(m);
}

void group_member_remove(struct group *g, struct group_member *m, int16_t error)
{
    if (m->join != NULL)
        group_answer(g, m->join, error);
    if (m->sync != NULL)
        group_answer(g, m->sync, error);
    (void)mqg_map_del(&g->by_id, group_view(m->id));
    if (m->instance_id != NULL && mqg_map_get(&g->statics, group_view(m->instance_id)) == m)
        (void)mqg_map_del(&g->statics, group_view(m->instance_id));
    mqg_vec_remove(&g->members, mqg_vec_find(&g->members, m));
    if (g->leader == m)
        g->leader = g->members.n > 0 ? g->members.items[0] : NULL;
    member_free(m);
}

static void promises_drop(struct group *g)
{
    while (g->promises.n > 0)
        promise_remove(g, g->promises.n - 1);
    mqg_vec_fini(&g->promises);
}

void group_kill(struct group *g)
{
    while (g->members.n > 0)
        group_member_remove(g, g->members.items[g->members.n - 1], KAFKA_COORDINATOR_NOT_AVAILABLE);
    promises_drop(g);
    g->state = GROUP_DEAD;
    g->round_ms = g->due_ms = 0;
}

void group_fini(struct group *g)
{
    group_kill(g);
    MQG_ASSERT(g->answered == NULL);
    mqg_vec_fini(&g->members);
    mqg_map_fini(&g->by_id);
    mqg_map_fini(&g->statics);
    text_drop(&g->protocol_type);
    text_drop(&g->protocol);
}

/* ---- finding ------------------------------------------------------------------------------------------------------------- */

struct group_member *group_find(const struct group *g, struct mqg_slice id)
{
    return mqg_map_get(&g->by_id, id);
}

/* The member that says it is (id, instance); KIP-345's fencing. */
static struct group_member *group_who(const struct group *g, struct mqg_slice id,
                                      struct mqg_slice instance_id, int16_t *error)
{
    struct group_member *m = instance_id.ptr != NULL ? mqg_map_get(&g->statics, instance_id)
                                                     : group_find(g, id);
    *error = m == NULL ? KAFKA_UNKNOWN_MEMBER_ID : KAFKA_NONE;
    if (m != NULL && !mqg_slice_eq(group_view(m->id), id)) {
        *error = KAFKA_FENCED_INSTANCE_ID;
        return NULL;
    }
    return m;
}

/* ---- calls that are answered at once ------------------------------------------------------------------------------------ */

int16_t group_heartbeat(struct group *g, uint64_t now_ms, int32_t generation, struct mqg_slice member_id,
                        struct mqg_slice instance_id)
{
    int16_t error;
    if (g->state == GROUP_DEAD)
        return KAFKA_COORDINATOR_NOT_AVAILABLE;
    struct group_member *m = group_who(g, member_id, instance_id, &error);
    if (m == NULL)
        return error;
    if (generation != g->generation)
        return KAFKA_ILLEGAL_GENERATION;
    group_touch(g, m, now_ms);
    return g->state == GROUP_PREPARING ? KAFKA_REBALANCE_IN_PROGRESS : KAFKA_NONE;
}

/* An operator removes a static member by its instance alone. */
int16_t group_leave(struct group *g, uint64_t now_ms, struct mqg_slice member_id,
                    struct mqg_slice instance_id)
{
    int16_t error;
    if (g->state == GROUP_DEAD)
        return KAFKA_COORDINATOR_NOT_AVAILABLE;
    struct group_member *m = instance_id.ptr != NULL && member_id.len == 0
                                 ? mqg_map_get(&g->statics, instance_id)
                                 : group_who(g, member_id, instance_id, &error);
    if (m == NULL && instance_id.ptr == NULL && group_promise_take(g, member_id)) {
        group_try_complete(g, now_ms);
        return KAFKA_NONE;
    }
    if (m == NULL)
        return instance_id.ptr == NULL || member_id.len == 0 ? KAFKA_UNKNOWN_MEMBER_ID : error;
    group_member_remove(g, m, KAFKA_UNKNOWN_MEMBER_ID);
    if (g->state == GROUP_PREPARING)
        group_try_complete(g, now_ms);
    else
        group_prepare(g, now_ms);
    return KAFKA_NONE;
}

int16_t group_check_commit(struct group *g, uint64_t now_ms, int32_t generation, struct mqg_slice member_id,
                           struct mqg_slice instance_id, bool transactional)
{
    int16_t error;
    if (g->state == GROUP_DEAD)
        return KAFKA_COORDINATOR_NOT_AVAILABLE;
    if (generation < 0 && member_id.len == 0 && instance_id.ptr == NULL)
        return transactional || g->members.n == 0 ? KAFKA_NONE : KAFKA_UNKNOWN_MEMBER_ID;
    if (generation < 0 && g->members.n == 0)
        return KAFKA_NONE;
    struct group_member *m = group_who(g, member_id, instance_id, &error);
    if (m == NULL)
        return error;
    if (generation != g->generation)
        return KAFKA_ILLEGAL_GENERATION;
    group_touch(g, m, now_ms);
    if (g->state == GROUP_COMPLETING && !transactional)
        return KAFKA_REBALANCE_IN_PROGRESS;
    return KAFKA_NONE;
}
