/* group_consumer.c - members of a KIP-848 group and their heartbeats; group_consumer.h has the idea.
 *
 * A heartbeat in order: who is it, may it say so at its epoch, what has it changed, does the group need a new epoch, a new target,
 * and what is the member's next step. An answer carries an assignment only where the member has to learn of it. */
#include "group_consumer.h"

#include <stdlib.h>

#include "error.h"

enum { EPOCH_JOIN = 0, EPOCH_LEAVE = -1, EPOCH_PAUSE = -2 };

/* ---- life ----------------------------------------------------------------------------------------------------------------- */

void consumer_init(struct consumer_group *g, const struct consumer_limits *limits, int32_t epoch)
{
    *g = (struct consumer_group){.epoch = epoch, .target_epoch = epoch, .limits = limits};
    mqg_map_init(&g->by_id, MQG_MAP_BORROW);
    mqg_map_init(&g->statics, MQG_MAP_BORROW);
}

static void text_drop(struct mqg_buf **b)
{
    if (*b != NULL)
        mqg_buf_unref(b);
}

static void names_drop(struct mqg_vec *names)
{
    for (size_t i = 0; i < names->n; i++) {
        struct mqg_buf *b = names->items[i];
        mqg_buf_unref(&b);
    }
    mqg_vec_fini(names);
}

static void member_free(struct consumer_member *m)
{
    text_drop(&m->id);
    text_drop(&m->instance_id);
    text_drop(&m->rack);
    text_drop(&m->client_id);
    text_drop(&m->client_host);
    text_drop(&m->regex);
    text_drop(&m->assignor);
    names_drop(&m->names);
    names_drop(&m->matched);
    group_parts_fini(&m->assigned);
    group_parts_fini(&m->revoking);
    group_parts_fini(&m->target);
    free(m);
}

void consumer_fini(struct consumer_group *g)
{
    for (size_t i = 0; i < g->members.n; i++)
        member_free(g->members.items[i]);
    mqg_vec_fini(&g->members);
    mqg_map_fini(&g->by_id);
    mqg_map_fini(&g->statics);
    text_drop(&g->assignor);
    for (uint32_t i = 0; i < g->nknown; i++)
        text_drop(&g->known[i].name);
    free(g->known);
}

static void consumer_due(struct consumer_group *g, uint64_t at_ms)
{
    if (g->due_ms == 0 || at_ms < g->due_ms)
        g->due_ms = at_ms;
}

struct consumer_member *consumer_find(const struct consumer_group *g, struct mqg_slice id)
{
    return mqg_map_get(&g->by_id, id);
}

static struct consumer_member *member_add(struct consumer_group *g, struct mqg_slice id,
                                          struct mqg_slice instance_id)
{
    struct consumer_member *m = mqg_xcalloc(1, sizeof *m);
    m->id = group_text(id);
    m->instance_id = group_text(instance_id);
    g->stale = true;
    mqg_vec_push(&g->members, m);
    (void)mqg_map_set(&g->by_id, group_view(m->id), m);
    if (m->instance_id != NULL)
        (void)mqg_map_set(&g->statics, group_view(m->instance_id), m);
    return m;
}

/* Its partitions are free at once; the others learn of it by a new target. */
static void member_remove(struct consumer_group *g, struct consumer_member *m)
{
    (void)mqg_map_del(&g->by_id, group_view(m->id));
    if (m->instance_id != NULL && mqg_map_get(&g->statics, group_view(m->instance_id)) == m)
        (void)mqg_map_del(&g->statics, group_view(m->instance_id));
    mqg_vec_remove(&g->members, mqg_vec_find(&g->members, m));
    member_free(m);
    g->epoch++;
    g->stale = true;
}

/* ---- the clock ---------------------------------------------------------------------------------------------------------------- */

void consumer_expire(struct consumer_group *g, uint64_t now_ms)
{
    g->due_ms = 0;
    for (size_t i = g->members.n; i-- > 0;) {
        struct consumer_member *m = g->members.items[i];
        if (m->deadline_ms <= now_ms || (m->revoke_ms > 0 && m->revoke_ms <= now_ms))
            member_remove(g, m);
    }
    for (size_t i = 0; i < g->members.n; i++) {
        const struct consumer_member *m = g->members.items[i];
        consumer_due(g, m->deadline_ms);
        if (m->revoke_ms > 0)
            consumer_due(g, m->revoke_ms);
    }
}

/* ---- leaving ------------------------------------------------------------------------------------------------------------------ */

static int16_t fail(struct consumer_answer *out, enum kafka_error error, const char *message)
{
    out->error = (int16_t)error;
    out->message = message;
    return out->error;
}

/* A static member that pauses keeps its assignment until its session ends. */
static void beat_leave(struct consumer_group *g, const struct consumer_beat *in, struct consumer_answer *out)
{
    struct consumer_member *m = in->instance_id.ptr != NULL ? mqg_map_get(&g->statics, in->instance_id)
                                                            : consumer_find(g, in->member_id);
    out->member_id = in->member_id;
    out->epoch = in->epoch;
    if (m == NULL) {
        (void)fail(out, KAFKA_UNKNOWN_MEMBER_ID, "The member is not in the group.");
    } else if (!mqg_slice_eq(group_view(m->id), in->member_id)) {
        (void)fail(out, KAFKA_FENCED_INSTANCE_ID, "Another member has this instance id.");
    } else if (in->epoch == EPOCH_PAUSE && m->instance_id != NULL) {
        m->epoch = EPOCH_PAUSE;
        m->revoke_ms = 0;
        m->step = CONSUMER_STABLE;
        m->revoking.n = 0;
    } else {
        member_remove(g, m);
    }
}

int16_t consumer_remove(struct consumer_group *g, uint64_t now_ms, struct mqg_slice member_id,
                        struct mqg_slice instance_id)
{
    struct consumer_member *m = instance_id.ptr != NULL ? mqg_map_get(&g->statics, instance_id)
                                                        : consumer_find(g, member_id);
    (void)now_ms;
    if (m == NULL)
        return KAFKA_UNKNOWN_MEMBER_ID;
    if (member_id.len > 0 && !mqg_slice_eq(group_view(m->id), member_id))
        return KAFKA_FENCED_INSTANCE_ID;
    member_remove(g, m);
    return KAFKA_NONE;
}

/* ---- who is it ---------------------------------------------------------------------------------------------------------------- */

/* An answer may have been lost: the epoch before is still good for who claims no more than it was given. */
static bool epoch_fits(const struct consumer_member *m, const struct consumer_beat *in)
{
    if (in->epoch == m->epoch)
        return true;
    if (in->epoch > m->epoch || in->epoch != m->previous_epoch)
        return false;
    return in->owned != NULL && group_parts_within(in->owned, &m->assigned);
}

/* A static member under a new id takes over what the old one was given. */
static struct consumer_member *who_returns(struct consumer_group *g, struct consumer_member *m,
                                           const struct consumer_beat *in, struct mqg_slice id,
                                           struct consumer_answer *out)
{
    bool same = mqg_slice_eq(group_view(m->id), id);
    if (m->epoch != EPOCH_PAUSE && !same) {
        (void)fail(out, KAFKA_UNRELEASED_INSTANCE_ID, "Another member has this instance id.");
        return NULL;
    }
    if (!same) {
        (void)mqg_map_del(&g->by_id, group_view(m->id));
        mqg_buf_unref(&m->id);
        m->id = group_text(id);
        (void)mqg_map_set(&g->by_id, group_view(m->id), m);
    }
    (void)in;
    m->epoch = m->previous_epoch = 0;
    m->step = CONSUMER_STABLE;
    m->revoking.n = 0;
    m->revoke_ms = 0;
    m->assigned.n = 0;
    return m;
}

static struct consumer_member *who_joins(struct consumer_group *g, const struct consumer_beat *in,
                                         struct consumer_answer *out)
{
    struct mqg_slice id = in->member_id.len > 0 ? in->member_id : in->new_id;
    struct consumer_member *m = in->instance_id.ptr != NULL ? mqg_map_get(&g->statics, in->instance_id)
                                                            : NULL;
    if (m != NULL)
        return who_returns(g, m, in, id, out);
    m = consumer_find(g, id);
    if (m != NULL && epoch_fits(m, in))
        return m;
    if (m != NULL) {
        (void)fail(out, KAFKA_FENCED_MEMBER_EPOCH, "The member is in the group at another epoch.");
        return NULL;
    }
    if (g->members.n >= g->limits->max_members) {
        (void)fail(out, KAFKA_GROUP_MAX_SIZE_REACHED, "The group has as many members as it may.");
        return NULL;
    }
    return member_add(g, id, in->instance_id);
}

static struct consumer_member *who_stays(struct consumer_group *g, const struct consumer_beat *in,
                                         struct consumer_answer *out)
{
    struct consumer_member *m = in->instance_id.ptr != NULL ? mqg_map_get(&g->statics, in->instance_id)
                                                            : consumer_find(g, in->member_id);
    if (m == NULL) {
        (void)fail(out, KAFKA_UNKNOWN_MEMBER_ID, "The member is not in the group.");
        return NULL;
    }
    if (!mqg_slice_eq(group_view(m->id), in->member_id)) {
        (void)fail(out, KAFKA_FENCED_INSTANCE_ID, "Another member has this instance id.");
        return NULL;
    }
    if (!epoch_fits(m, in)) {
        (void)fail(out, KAFKA_FENCED_MEMBER_EPOCH, "The member's epoch is not the one it was given.");
        return NULL;
    }
    return m;
}

/* ---- what has it changed --------------------------------------------------------------------------------------------------------- */

static int name_order(const void *a, const void *b)
{
    return mqg_slice_cmp(group_view(*(struct mqg_buf *const *)a), group_view(*(struct mqg_buf *const *)b));
}

static bool names_take(struct consumer_member *m, const struct consumer_beat *in)
{
    struct mqg_vec names = {.n = 0};
    if (in->nnames < 0)
        return false;
    for (int32_t i = 0; i < in->nnames; i++)
        mqg_vec_push(&names, group_text(in->names[i].ptr != NULL ? in->names[i] : MQG_SLICE_LIT("")));
    if (names.n > 0)
        qsort(names.items, names.n, sizeof *names.items, name_order);
    bool same = names.n == m->names.n;
    for (size_t i = 0; same && i < names.n; i++)
        same = mqg_slice_eq(group_view(names.items[i]), group_view(m->names.items[i]));
    names_drop(&m->names);
    m->names = names;
    return !same;
}

static bool regex_take(struct consumer_member *m, const struct consumer_beat *in)
{
    if (in->regex.ptr == NULL || mqg_slice_eq(in->regex, group_view(m->regex)))
        return false;
    group_replace_text(&m->regex, in->regex);
    m->generation = 0;
    names_drop(&m->matched);
    return true;
}

/* True: its subscription is another now. */
static bool member_take(struct consumer_member *m, const struct consumer_beat *in)
{
    if (in->rack.ptr != NULL)
        group_replace_text(&m->rack, in->rack);
    if (in->assignor.ptr != NULL)
        group_replace_text(&m->assignor, in->assignor);
    if (in->rebalance_ms >= 0)
        m->rebalance_ms = (uint32_t)in->rebalance_ms;
    group_replace_text(&m->client_id, in->client_id.ptr != NULL ? in->client_id : MQG_SLICE_LIT(""));
    group_replace_text(&m->client_host, in->client_host.ptr != NULL ? in->client_host : MQG_SLICE_LIT(""));
    bool names = names_take(m, in), regex = regex_take(m, in);
    return names || regex;
}

/* ---- the heartbeat ------------------------------------------------------------------------------------------------------------------ */

static int16_t beat_check(const struct consumer_beat *in, struct consumer_answer *out)
{
    bool subscribes = in->nnames > 0 || in->regex.len > 0;
    if (in->epoch < EPOCH_PAUSE)
        return fail(out, KAFKA_INVALID_REQUEST, "MemberEpoch is invalid.");
    if (in->epoch == EPOCH_PAUSE && in->instance_id.ptr == NULL)
        return fail(out, KAFKA_INVALID_REQUEST, "InstanceId can't be null.");
    if (in->instance_id.ptr != NULL && in->instance_id.len == 0)
        return fail(out, KAFKA_INVALID_REQUEST, "InstanceId can't be empty.");
    if (in->epoch != EPOCH_JOIN && in->member_id.len == 0)
        return fail(out, KAFKA_INVALID_REQUEST, "MemberId can't be empty.");
    if (in->epoch == EPOCH_JOIN && in->rebalance_ms < 0)
        return fail(out, KAFKA_INVALID_REQUEST, "RebalanceTimeoutMs must be provided in first request.");
    if (in->epoch == EPOCH_JOIN && (in->owned == NULL || in->owned->n > 0))
        return fail(out, KAFKA_INVALID_REQUEST, "TopicPartitions must be empty when (re-)joining.");
    if (in->epoch == EPOCH_JOIN && in->nnames < 0 && !subscribes)
        return fail(out, KAFKA_INVALID_REQUEST, "SubscribedTopicNames must be set in first request.");
    if (in->assignor.ptr != NULL && in->assignor.len > 0 && group_assignor_find(in->assignor) == NULL)
        return fail(out, KAFKA_UNSUPPORTED_ASSIGNOR, "Supported assignors: uniform, range.");
    return KAFKA_NONE;
}

static void beat_time(struct consumer_group *g, struct consumer_member *m, uint64_t now_ms)
{
    m->deadline_ms = now_ms + g->limits->session_ms;
    consumer_due(g, m->deadline_ms);
    if (m->step != CONSUMER_UNREVOKED) {
        m->revoke_ms = 0;
    } else if (m->revoke_ms == 0) {
        m->revoke_ms = now_ms + m->rebalance_ms;
        consumer_due(g, m->revoke_ms);
    }
}

static void beat_follow(struct consumer_group *g, struct consumer_member *m, uint64_t now_ms,
                        const struct consumer_beat *in, struct consumer_answer *out)
{
    struct group_parts before = {.n = 0};
    bool whole = in->epoch == EPOCH_JOIN || (in->rebalance_ms >= 0 && in->nnames >= 0 && in->owned != NULL);
    group_parts_copy(&before, &m->assigned);
    if (g->epoch > g->target_epoch)
        consumer_decide(g);
    consumer_step(g, m, in->owned);
    beat_time(g, m, now_ms);
    out->member_id = group_view(m->id);
    out->epoch = m->epoch;
    if (whole || !group_parts_equal(&before, &m->assigned))
        out->assignment = &m->assigned;
    group_parts_fini(&before);
}

void consumer_heartbeat(struct consumer_group *g, uint64_t now_ms, const struct consumer_beat *in,
                        const struct consumer_world *world, struct consumer_answer *out)
{
    bool looked = false;
    *out = (struct consumer_answer){.member_id = in->member_id};
    if (beat_check(in, out) != KAFKA_NONE)
        return;
    if (in->epoch < EPOCH_JOIN) {
        beat_leave(g, in, out);
        return;
    }
    size_t before = g->members.n;
    struct consumer_member *m = in->epoch == EPOCH_JOIN ? who_joins(g, in, out) : who_stays(g, in, out);
    if (m == NULL)
        return;
    bool newcomer = g->members.n > before;
    bool changed = member_take(m, in);
    g->stale = g->stale || changed;
    if (consumer_look(g, m, world, &looked) != MQG_OK) {
        (void)fail(out, KAFKA_INVALID_REGULAR_EXPRESSION, "The regular expression is not valid.");
        if (newcomer)
            member_remove(g, m);
        return;
    }
    if (newcomer || changed || looked)
        g->epoch++;
    beat_follow(g, m, now_ms, in, out);
}

/* ---- facts ------------------------------------------------------------------------------------------------------------------------ */

int16_t consumer_check(const struct consumer_group *g, struct mqg_slice member_id, int32_t epoch)
{
    const struct consumer_member *m = consumer_find(g, member_id);
    if (m == NULL)
        return KAFKA_UNKNOWN_MEMBER_ID;
    return epoch == m->epoch ? KAFKA_NONE : KAFKA_STALE_MEMBER_EPOCH;
}

const char *consumer_state_name(const struct consumer_group *g)
{
    if (g->members.n == 0)
        return "Empty";
    if (g->epoch > g->target_epoch)
        return "Assigning";
    for (size_t i = 0; i < g->members.n; i++) {
        const struct consumer_member *m = g->members.items[i];
        if (m->epoch != g->target_epoch || m->step != CONSUMER_STABLE)
            return "Reconciling";
    }
    return "Stable";
}

static bool names_have(const struct mqg_vec *names, struct mqg_slice name)
{
    for (size_t i = 0; i < names->n; i++)
        if (mqg_slice_eq(group_view(names->items[i]), name))
            return true;
    return false;
}

bool consumer_subscribes(const struct consumer_group *g, struct mqg_slice topic)
{
    for (size_t i = 0; i < g->members.n; i++) {
        const struct consumer_member *m = g->members.items[i];
        if (names_have(&m->names, topic) || names_have(&m->matched, topic))
            return true;
    }
    return false;
}

struct mqg_slice consumer_topic_name(const struct consumer_group *g, const struct kafka_uuid *id)
{
    for (uint32_t i = 0; i < g->nknown; i++)
        if (memcmp(g->known[i].id.bytes, id->bytes, sizeof id->bytes) == 0)
            return group_view(g->known[i].name);
    return MQG_SLICE_LIT("");
}
