/* group_beat.c - ConsumerGroupHeartbeat and ConsumerGroupDescribe as they come from the wire; the world of topics that the engine asks
 * about is what the calling client may see. */
#include "group_table.h"

#include <stdlib.h>

#include "group_regex.h"

/* ---- the world ---------------------------------------------------------------------------------------------------------- */

static bool world_find(void *arg, struct mqg_slice name, struct consumer_topic *out)
{
    struct kafka_conn *kc = arg;
    enum kafka_error error = KAFKA_NONE;
    const struct mqg_stream *s = kafka_topic(kc, name, MQG_READ, &error);
    if (s == NULL)
        return false;
    *out = (struct consumer_topic){name, kafka_topic_id(s), (int32_t)mqg_stream_partitions(s)};
    return true;
}

/* Topics are visited under a lock, so they are only noted there. */
static bool world_note(void *arg, struct mqg_stream *s)
{
    mqg_vec_push(arg, mqg_stream_ref(s));
    return true;
}

static bool world_match(void *arg, struct mqg_slice regex, void (*visit)(void *to, struct mqg_slice name),
                        void *to)
{
    struct group_regex *compiled = NULL;
    struct mqg_vec streams = {.n = 0};
    if (group_regex_new(regex, &compiled) != MQG_OK)
        return false;
    kafka_topics_each(arg, world_note, &streams);
    for (size_t i = 0; i < streams.n; i++) {
        struct mqg_stream *s = streams.items[i];
        struct mqg_slice name = mqg_stream_name(s);
        if (group_regex_matches(compiled, name) && kafka_allowed(arg, MQG_READ, "topic", name))
            visit(to, name);
        mqg_stream_unref(&s);
    }
    bool quick = !group_regex_slow(compiled);
    mqg_vec_fini(&streams);
    group_regex_free(&compiled);
    return quick;
}

/* ---- ConsumerGroupHeartbeat ---------------------------------------------------------------------------------------------- */

static struct mqg_slice text_copy(struct kafka_call *c, struct mqg_slice s)
{
    return s.len > 0 ? kafka_call_dup(c, s) : MQG_SLICE_LIT("");
}

static void owned_read(const struct kafka_consumer_group_heartbeat_request *in, struct group_parts *out)
{
    for (int32_t t = 0; t < in->topic_partitions_n; t++)
        for (int32_t i = 0; i < in->topic_partitions[t].partitions_n; i++)
            group_parts_add(out, in->topic_partitions[t].topic_id, in->topic_partitions[t].partitions[i]);
    group_parts_sort(out);
}

static size_t parts_topics(const struct group_parts *p)
{
    size_t n = 0;
    for (uint32_t i = 0; i < p->n; i++)
        n += i == 0 || memcmp(p->items[i].topic.bytes, p->items[i - 1].topic.bytes, 16) != 0;
    return n;
}

static void assignment_write(struct kafka_call *c, const struct group_parts *p)
{
    struct kafka_consumer_group_heartbeat_response *out = c->response;
    size_t n = parts_topics(p);
    out->assignment.topic_partitions = kafka_call_alloc(c, n, sizeof *out->assignment.topic_partitions);
    out->has_assignment = out->assignment.topic_partitions != NULL;
    out->assignment.topic_partitions_n = 0;
    for (uint32_t i = 0; out->has_assignment && i < p->n;) {
        struct kafka_consumer_group_heartbeat_response_assignment_topic_partitions *t =
            &out->assignment.topic_partitions[out->assignment.topic_partitions_n++];
        uint32_t end = i;
        while (end < p->n && memcmp(p->items[end].topic.bytes, p->items[i].topic.bytes, 16) == 0)
            end++;
        t->topic_id = p->items[i].topic;
        t->partitions = kafka_call_alloc(c, end - i, sizeof *t->partitions);
        t->partitions_n = t->partitions != NULL ? (int32_t)(end - i) : 0;
        for (int32_t k = 0; k < t->partitions_n; k++)
            t->partitions[k] = p->items[i + (uint32_t)k].partition;
        i = end;
    }
}

static void beat_run(struct kafka_call *c, struct kafka_group *g, const struct group_parts *owned)
{
    const struct kafka_consumer_group_heartbeat_request *in = c->request;
    struct kafka_consumer_group_heartbeat_response *out = c->response;
    struct consumer_world world = {world_find, world_match, mqg_vhost_generation(g->vhost), c->conn};
    struct consumer_beat beat = {.member_id = in->member_id,
                                 .instance_id = in->instance_id,
                                 .rack = in->rack_id,
                                 .client_id = c->head.client_id,
                                 .client_host = kafka_group_host(c),
                                 .new_id = kafka_group_new_id(c),
                                 .epoch = in->member_epoch,
                                 .rebalance_ms = in->rebalance_timeout_ms,
                                 .names = in->subscribed_topic_names,
                                 .nnames = in->subscribed_topic_names_n,
                                 .regex = in->subscribed_topic_regex,
                                 .assignor = in->server_assignor,
                                 .owned = owned};
    struct consumer_answer got;
    consumer_heartbeat(&g->consumer, kafka_now_ms(), &beat, &world, &got);
    out->error_code = got.error;
    if (got.message != NULL)
        out->error_message = mqg_slice_str(got.message);
    out->member_id = text_copy(c, got.member_id);
    out->member_epoch = got.epoch;
    out->heartbeat_interval_ms = (int32_t)kafka_group_settings.consumer_heartbeat_ms;
    if (got.assignment != NULL)
        assignment_write(c, got.assignment);
}

static void beat_fail(struct kafka_call *c, enum kafka_error error, const char *message)
{
    struct kafka_consumer_group_heartbeat_response *out = c->response;
    out->error_code = (int16_t)error;
    out->error_message = mqg_slice_str(message);
    kafka_call_answer(c);
}

#define BEAT_NAMES_MAX 10000 /* topics that one member names */

static bool beat_may_read(struct kafka_call *c)
{
    const struct kafka_consumer_group_heartbeat_request *in = c->request;
    for (int32_t i = 0; i < in->subscribed_topic_names_n; i++)
        if (!kafka_allowed(c->conn, MQG_READ, "topic", in->subscribed_topic_names[i]))
            return false;
    return true;
}

void kafka_consumer_group_heartbeat(struct kafka_call *c)
{
    const struct kafka_consumer_group_heartbeat_request *in = c->request;
    bool joins = in->member_epoch == 0;
    if (in->group_id.len == 0 || in->subscribed_topic_names_n > BEAT_NAMES_MAX) {
        beat_fail(c, KAFKA_INVALID_REQUEST,
                  in->group_id.len == 0 ? "GroupId can't be empty." : "Too many topics.");
        return;
    }
    if (!kafka_allowed(c->conn, MQG_READ, "group", in->group_id)) {
        beat_fail(c, KAFKA_GROUP_AUTHORIZATION_FAILED, "Not authorized to access group.");
        return;
    }
    if (!beat_may_read(c)) {
        beat_fail(c, KAFKA_TOPIC_AUTHORIZATION_FAILED, "Not authorized to access topics.");
        return;
    }
    struct kafka_group *g = kafka_group_lock(kafka_vhost(c->conn), in->group_id, joins);
    bool ours = g != NULL &&
                (joins ? kafka_group_become(g, KAFKA_GROUP_CONSUMER) : g->kind == KAFKA_GROUP_CONSUMER);
    if (!ours) {
        if (g != NULL)
            kafka_group_done(g);
        beat_fail(c, joins ? KAFKA_GROUP_ID_NOT_FOUND : KAFKA_UNKNOWN_MEMBER_ID,
                  joins ? "The group is a classic one and has members." : "The member is not in the group.");
        return;
    }
    struct group_parts owned = {.n = 0};
    owned_read(in, &owned);
    beat_run(c, g, in->topic_partitions_n >= 0 ? &owned : NULL);
    group_parts_fini(&owned);
    kafka_group_done(g);
    kafka_call_answer(c);
}

/* ---- ConsumerGroupDescribe ------------------------------------------------------------------------------------------------ */

enum { MEMBER_CONSUMER = 1 }; /* KIP-1099; 0 is a classic one */

#define DESCRIBE(name) struct kafka_consumer_group_describe_response_groups##name

static void parts_describe(struct kafka_call *c, const struct consumer_group *g, const struct group_parts *p,
                           DESCRIBE(_members_assignment) * out)
{
    out->topic_partitions = kafka_call_alloc(c, parts_topics(p), sizeof *out->topic_partitions);
    out->topic_partitions_n = 0;
    for (uint32_t i = 0; out->topic_partitions != NULL && i < p->n;) {
        DESCRIBE(_members_assignment_topic_partitions) *t = &out->topic_partitions[out->topic_partitions_n++];
        uint32_t end = i;
        while (end < p->n && memcmp(p->items[end].topic.bytes, p->items[i].topic.bytes, 16) == 0)
            end++;
        t->topic_id = p->items[i].topic;
        t->topic_name = text_copy(c, consumer_topic_name(g, &t->topic_id));
        t->partitions = kafka_call_alloc(c, end - i, sizeof *t->partitions);
        t->partitions_n = t->partitions != NULL ? (int32_t)(end - i) : 0;
        for (int32_t k = 0; k < t->partitions_n; k++)
            t->partitions[k] = p->items[i + (uint32_t)k].partition;
        i = end;
    }
}

/* Both assignments have the same fields, by two types. */
static void target_describe(struct kafka_call *c, const struct consumer_group *g, const struct group_parts *p,
                            DESCRIBE(_members_target_assignment) * out)
{
    DESCRIBE(_members_assignment) plain = {.topic_partitions_n = 0};
    parts_describe(c, g, p, &plain);
    out->topic_partitions = kafka_call_alloc(c, (size_t)plain.topic_partitions_n,
                                             sizeof *out->topic_partitions);
    out->topic_partitions_n = out->topic_partitions != NULL ? plain.topic_partitions_n : 0;
    for (int32_t i = 0; i < out->topic_partitions_n; i++)
        out->topic_partitions[i] = (DESCRIBE(_members_target_assignment_topic_partitions)){
            plain.topic_partitions[i].topic_id, plain.topic_partitions[i].topic_name,
            plain.topic_partitions[i].partitions, plain.topic_partitions[i].partitions_n};
}

static struct mqg_slice buf_copy(struct kafka_call *c, const struct mqg_buf *b)
{
    return b != NULL ? text_copy(c, group_view(b)) : MQG_SLICE_NONE;
}

static void member_describe(struct kafka_call *c, const struct consumer_group *g,
                            const struct consumer_member *m, DESCRIBE(_members) * out)
{
    out->member_id = buf_copy(c, m->id);
    out->instance_id = buf_copy(c, m->instance_id);
    out->rack_id = buf_copy(c, m->rack);
    out->member_epoch = m->epoch;
    out->member_type = MEMBER_CONSUMER;
    out->client_id = buf_copy(c, m->client_id);
    out->client_host = buf_copy(c, m->client_host);
    out->subscribed_topic_names = kafka_call_alloc(c, m->names.n, sizeof *out->subscribed_topic_names);
    out->subscribed_topic_names_n = 0;
    for (size_t i = 0; out->subscribed_topic_names != NULL && i < m->names.n; i++)
        out->subscribed_topic_names[out->subscribed_topic_names_n++] = buf_copy(c, m->names.items[i]);
    if (m->regex != NULL && m->regex->len > 0)
        out->subscribed_topic_regex = buf_copy(c, m->regex);
    parts_describe(c, g, &m->assigned, &out->assignment);
    target_describe(c, g, &m->target, &out->target_assignment);
}

static void group_describe(struct kafka_call *c, struct kafka_group *g, DESCRIBE() * out)
{
    const struct consumer_group *k = &g->consumer;
    out->group_state = mqg_slice_str(consumer_state_name(k));
    out->group_epoch = k->epoch;
    out->assignment_epoch = k->target_epoch;
    out->assignor_name = k->assignor != NULL ? buf_copy(c, k->assignor) : MQG_SLICE_LIT("uniform");
    out->members = kafka_call_alloc(c, k->members.n, sizeof *out->members);
    for (size_t i = 0; out->members != NULL && i < k->members.n; i++)
        member_describe(c, k, k->members.items[i], &out->members[out->members_n++]);
}

static void name_describe(struct kafka_call *c, struct mqg_slice name, DESCRIBE() * out)
{
    const struct kafka_consumer_group_describe_request *in = c->request;
    out->group_id = name;
    out->group_state = out->assignor_name = MQG_SLICE_LIT("");
    out->members_n = 0;
    out->authorized_operations = INT32_MIN;
    if (!kafka_allowed(c->conn, KAFKA_DESCRIBE, "group", name)) {
        out->error_code = KAFKA_GROUP_AUTHORIZATION_FAILED;
        return;
    }
    if (in->include_authorized_operations)
        out->authorized_operations = kafka_group_operations(c, name);
    struct kafka_group *g = kafka_group_lock(kafka_vhost(c->conn), name, false);
    if (g != NULL && g->kind == KAFKA_GROUP_CONSUMER) {
        group_describe(c, g, out);
    } else {
        out->error_code = KAFKA_GROUP_ID_NOT_FOUND;
        out->error_message = MQG_SLICE_LIT("No consumer group of that name.");
    }
    if (g != NULL)
        kafka_group_done(g);
}

void kafka_consumer_group_describe(struct kafka_call *c)
{
    const struct kafka_consumer_group_describe_request *in = c->request;
    struct kafka_consumer_group_describe_response *out = c->response;
    int32_t n = in->group_ids_n > 0 ? in->group_ids_n : 0;
    out->groups = kafka_call_alloc(c, (size_t)n, sizeof *out->groups);
    out->groups_n = out->groups != NULL ? n : 0;
    for (int32_t i = 0; i < out->groups_n; i++)
        name_describe(c, in->group_ids[i], &out->groups[i]);
    kafka_call_answer(c);
}
