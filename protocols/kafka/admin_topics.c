/* admin_topics.c - CreateTopics, DeleteTopics, CreatePartitions.
 *
 * What is allowed was asked of the ACLs and permissions (acl.h); the changes are then made as the node itself, since a right
 * that only an ACL gives is unknown to the router. Names are checked and made under one mutex, so that of two who create the
 * same topic one is told that it exists. */
#include "admin.h"
#include "topic_conf.h"

#include <mqgate/broker.h>
#include <mqgate/map.h>

#include <pthread.h>

enum { ADMIN_VALUE_MAX_BYTES = 4096 };

static pthread_mutex_t topics_change = PTHREAD_MUTEX_INITIALIZER;

struct mqg_stream *kafka_admin_stream(struct kafka_conn *kc, struct mqg_slice name)
{
    struct mqg_session *node = mqg_session_internal(kafka_vhost(kc));
    struct mqg_stream *s = NULL;
    struct mqg_error e;
    if (!kafka_topic_name_ok(name) || mqg_stream_open(node, name, &s, &e) != MQG_OK)
        s = NULL;
    mqg_session_unref(&node);
    return s;
}

/* Names that come more than once in a request; keys borrow from it. */
static void topics_count(struct mqg_map *seen, struct mqg_slice name)
{
    uintptr_t n = (uintptr_t)mqg_map_get(seen, name);
    mqg_map_set(seen, name, (void *)(n + 1));
}

static bool topics_twice(const struct mqg_map *seen, struct mqg_slice name)
{
    return (uintptr_t)mqg_map_get(seen, name) > 1;
}

/* ---- CreateTopics: what is asked for ------------------------------------------------------------------------------------ */

struct creation {
    uint32_t partitions;
    struct kafka_key_set set;
};

static bool creation_brokers_ok(const int32_t *ids, int32_t n)
{
    return n == 1 && ids[0] == kafka_settings.broker_id;
}

static struct kafka_outcome creation_assigned(struct kafka_call *c,
                                              const struct kafka_create_topics_request_topics *q,
                                              struct creation *out)
{
    if (q->num_partitions != -1 || q->replication_factor != -1)
        return KAFKA_OUTCOME(
            c, KAFKA_INVALID_REQUEST,
            "A manual partition assignment was specified, but numPartitions or replicationFactor "
            "was not set to -1.");
    for (int32_t i = 0; i < q->assignments_n; i++) {
        const struct kafka_create_topics_request_topics_assignments *a = &q->assignments[i];
        if (a->partition_index != i)
            return KAFKA_OUTCOME(c, KAFKA_INVALID_REPLICA_ASSIGNMENT,
                                 "partitions should be a consecutive 0-based integer sequence");
        if (!creation_brokers_ok(a->broker_ids, a->broker_ids_n))
            return KAFKA_OUTCOME(
                c, KAFKA_INVALID_REPLICA_ASSIGNMENT,
                "The manual partition assignment includes a broker that is not registered: broker %d "
                "is the only one.",
                kafka_settings.broker_id);
    }
    out->partitions = (uint32_t)q->assignments_n;
    return KAFKA_OUTCOME_OK;
}

static struct kafka_outcome creation_counted(struct kafka_call *c,
                                             const struct kafka_create_topics_request_topics *q,
                                             struct creation *out)
{
    if (q->num_partitions == 0 || q->num_partitions < -1)
        return KAFKA_OUTCOME(c, KAFKA_INVALID_PARTITIONS,
                             "Number of partitions must be larger than 0, or -1 to use the default value.");
    if (q->replication_factor == 0 || q->replication_factor < -1)
        return KAFKA_OUTCOME(c, KAFKA_INVALID_REPLICATION_FACTOR,
                             "Replication factor must be larger than 0, or -1 to use the default value.");
    if (q->replication_factor > 1)
        return KAFKA_OUTCOME(
            c, KAFKA_INVALID_REPLICATION_FACTOR,
            "Unable to replicate the partition %d time(s): The target replication factor of %d cannot be "
            "reached because only 1 broker(s) are registered.",
            q->replication_factor, q->replication_factor);
    out->partitions = q->num_partitions == -1 ? kafka_settings.partitions : (uint32_t)q->num_partitions;
    return KAFKA_OUTCOME_OK;
}

static struct kafka_outcome creation_configs(struct kafka_call *c,
                                             const struct kafka_create_topics_request_topics *q,
                                             struct creation *out)
{
    struct mqg_error e;
    for (int32_t i = 0; i < q->configs_n; i++) {
        struct mqg_slice name = q->configs[i].name, value = q->configs[i].value;
        int key = kafka_key_find(name);
        if (key < 0)
            return KAFKA_OUTCOME(c, KAFKA_INVALID_CONFIG, "Unknown topic config name: %.*s",
                                 MQG_SLICE_FMT(name));
        if (value.ptr == NULL)
            return KAFKA_OUTCOME(c, KAFKA_INVALID_CONFIG, "Null value not supported for topic configs: %.*s",
                                 MQG_SLICE_FMT(name));
        if (value.len > ADMIN_VALUE_MAX_BYTES)
            return KAFKA_OUTCOME(c, KAFKA_INVALID_CONFIG, "The value of %.*s is too long",
                                 MQG_SLICE_FMT(name));
        if (!kafka_key_check(key, value, &e))
            return kafka_outcome_of(c, KAFKA_INVALID_CONFIG, &e);
        out->set.value[key] = value;
    }
    return KAFKA_OUTCOME_OK;
}

static struct kafka_outcome creation_read(struct kafka_call *c,
                                          const struct kafka_create_topics_request_topics *q,
                                          struct creation *out)
{
    *out = (struct creation){.partitions = 0};
    if (!kafka_topic_name_ok(q->name))
        return KAFKA_OUTCOME(
            c, KAFKA_INVALID_TOPIC_EXCEPTION,
            "Topic name is invalid: '%.*s' is empty, '.' or '..', longer than 249 characters, or has "
            "others than letters, digits, '.', '_' and '-'",
            MQG_SLICE_FMT(q->name));
    struct kafka_outcome o = q->assignments_n > 0 ? creation_assigned(c, q, out)
                                                  : creation_counted(c, q, out);
    if (o.code == KAFKA_NONE && out->partitions > MQG_STREAM_PARTITIONS_MAX)
        o = KAFKA_OUTCOME(c, KAFKA_INVALID_PARTITIONS, "A topic may have at most %u partitions.",
                          MQG_STREAM_PARTITIONS_MAX);
    return o.code == KAFKA_NONE ? creation_configs(c, q, out) : o;
}

/* ---- CreateTopics: making ------------------------------------------------------------------------------------------------ */

static bool creation_taken(struct kafka_conn *kc, struct mqg_session *node, struct mqg_slice name)
{
    struct mqg_queue *queue = NULL;
    struct mqg_error e;
    (void)kc;
    if (mqg_queue_open(node, name, &queue, &e) != MQG_OK)
        return e.err != MQG_NOT_FOUND;
    mqg_queue_unref(&queue);
    return true;
}

/* Topics of the first vhost are addresses of amq.topic, too (mqgate/stream.h); internal ones are not. */
static uint32_t creation_bridge(const struct kafka_conn *kc, struct mqg_slice name)
{
    bool internal = name.ptr[0] == '_' || mqg_slice_starts(name, MQG_SLICE_LIT("mqgate."));
    bool first = mqg_slice_eq(mqg_vhost_name(kafka_vhost(kc)), MQG_SLICE_LIT("/"));
    return first && !internal ? MQG_BRIDGE_IN | MQG_BRIDGE_OUT : 0;
}

static struct kafka_outcome creation_make(struct kafka_call *c, struct mqg_session *node,
                                          struct mqg_slice name, const struct creation *made,
                                          struct kafka_create_topics_response_topics *r,
                                          struct kafka_durable *d)
{
    struct mqg_stream_conf conf;
    struct mqg_stream *s = NULL;
    struct mqg_error e;
    uint64_t ticket = 0;
    kafka_key_stream(&made->set, &conf);
    conf.bridge = creation_bridge(c->conn, name);
    enum mqg_err err = mqg_stream_declare(node, name, made->partitions, &conf, &ticket, &e);
    if (err == MQG_OK)
        err = mqg_stream_open(node, name, &s, &e);
    if (err != MQG_OK)
        return kafka_outcome_of(c, err == MQG_DENIED ? KAFKA_POLICY_VIOLATION : KAFKA_INVALID_CONFIG, &e);
    kafka_durable_meta(d, ticket);
    kafka_durable_meta(d, kafka_topic_keep(s, &made->set));
    r->topic_id = kafka_topic_id(s);
    mqg_stream_unref(&s);
    return KAFKA_OUTCOME_OK;
}

static struct kafka_outcome creation_do(struct kafka_call *c,
                                        const struct kafka_create_topics_request_topics *q,
                                        struct kafka_create_topics_response_topics *r,
                                        struct kafka_durable *d)
{
    const struct kafka_create_topics_request *request = c->request;
    struct creation made;
    struct kafka_outcome o = creation_read(c, q, &made);
    if (o.code != KAFKA_NONE)
        return o;
    struct mqg_session *node = mqg_session_internal(kafka_vhost(c->conn));
    pthread_mutex_lock(&topics_change);
    if (creation_taken(c->conn, node, q->name))
        o = KAFKA_OUTCOME(c, KAFKA_TOPIC_ALREADY_EXISTS, "Topic '%.*s' already exists.",
                          MQG_SLICE_FMT(q->name));
    else if (!request->validate_only)
        o = creation_make(c, node, q->name, &made, r, d);
    pthread_mutex_unlock(&topics_change);
    mqg_session_unref(&node);
    if (o.code == KAFKA_NONE)
        kafka_admin_created(c, q->name, made.partitions, &made.set, r);
    return o;
}

static struct kafka_outcome creation_answer(struct kafka_call *c,
                                            const struct kafka_create_topics_request_topics *q,
                                            struct kafka_create_topics_response_topics *r,
                                            const struct mqg_map *seen, struct kafka_durable *d)
{
    if (topics_twice(seen, q->name))
        return KAFKA_OUTCOME(c, KAFKA_INVALID_REQUEST, "Duplicate topic name.");
    if (!kafka_permits_cluster(c->conn, KAFKA_OP_CREATE) &&
        !kafka_permits(c->conn, KAFKA_RESOURCE_TOPIC, q->name, KAFKA_OP_CREATE))
        return KAFKA_OUTCOME(c, KAFKA_TOPIC_AUTHORIZATION_FAILED, "Authorization failed.");
    return creation_do(c, q, r, d);
}

void kafka_create_topics(struct kafka_call *c)
{
    const struct kafka_create_topics_request *q = c->request;
    struct kafka_create_topics_response *r = c->response;
    struct kafka_durable durable = {{0}};
    struct mqg_map seen;
    size_t n = q->topics_n > 0 ? (size_t)q->topics_n : 0;
    r->topics = kafka_call_alloc(c, n + 1, sizeof *r->topics);
    if (r->topics == NULL) {
        kafka_call_drop(c, "too many topics");
        return;
    }
    mqg_map_init(&seen, MQG_MAP_BORROW);
    for (size_t i = 0; i < n; i++)
        topics_count(&seen, q->topics[i].name);
    for (size_t i = 0; i < n; i++) {
        struct kafka_create_topics_response_topics *row = &r->topics[r->topics_n++];
        *row = (struct kafka_create_topics_response_topics){
            .name = q->topics[i].name, .num_partitions = -1, .replication_factor = -1, .configs_n = -1};
        struct kafka_outcome o = creation_answer(c, &q->topics[i], row, &seen, &durable);
        row->error_code = (int16_t)o.code;
        row->error_message = o.text;
    }
    mqg_map_fini(&seen);
    kafka_durable_answer(c, &durable);
}

/* ---- DeleteTopics ---------------------------------------------------------------------------------------------------------- */

struct by_id {
    const struct kafka_uuid *id;
    struct mqg_stream *found; /* one reference */
};

static bool by_id_visit(void *arg, struct mqg_stream *s)
{
    struct by_id *b = arg;
    struct kafka_uuid id = kafka_topic_id(s);
    if (memcmp(id.bytes, b->id->bytes, sizeof id.bytes) == 0)
        b->found = mqg_stream_ref(s);
    return b->found == NULL;
}

static struct kafka_outcome deletion_do(struct kafka_call *c, struct mqg_stream *s, struct kafka_durable *d)
{
    struct mqg_session *node = mqg_session_internal(kafka_vhost(c->conn));
    uint64_t id = mqg_queue_id(mqg_stream_queue(s)), messages, ticket = 0;
    struct mqg_error e;
    enum mqg_err err = mqg_queue_delete(node, mqg_stream_name(s), false, false, &messages, &ticket, &e);
    mqg_session_unref(&node);
    if (err != MQG_OK)
        return kafka_outcome_of(c, kafka_error_of(err), &e);
    kafka_durable_meta(d, ticket);
    kafka_durable_meta(d, kafka_topic_forget(id));
    return KAFKA_OUTCOME_OK;
}

static struct kafka_outcome deletion_by_name(struct kafka_call *c, struct mqg_slice name,
                                             struct kafka_delete_topics_response_responses *r,
                                             struct kafka_durable *d)
{
    struct kafka_outcome o = KAFKA_OUTCOME_OK;
    if (!kafka_permits(c->conn, KAFKA_RESOURCE_TOPIC, name, KAFKA_OP_DELETE))
        return KAFKA_OUTCOME(c, KAFKA_TOPIC_AUTHORIZATION_FAILED, "Authorization failed.");
    struct mqg_stream *s = kafka_admin_stream(c->conn, name);
    if (s == NULL)
        return KAFKA_OUTCOME(c, KAFKA_UNKNOWN_TOPIC_OR_PARTITION,
                             "This server does not host this topic-partition.");
    r->topic_id = kafka_topic_id(s);
    o = deletion_do(c, s, d);
    mqg_stream_unref(&s);
    return o;
}

/* Who may not see a topic is not told the name that belongs to its id. */
static struct kafka_outcome deletion_by_id(struct kafka_call *c, const struct kafka_uuid *id,
                                           struct kafka_delete_topics_response_responses *r,
                                           struct kafka_durable *d)
{
    struct by_id b = {.id = id};
    kafka_topics_each(c->conn, by_id_visit, &b);
    if (b.found == NULL ||
        !kafka_permits(c->conn, KAFKA_RESOURCE_TOPIC, mqg_stream_name(b.found), KAFKA_OP_DESCRIBE)) {
        mqg_stream_unref(&b.found);
        return KAFKA_OUTCOME(c, KAFKA_UNKNOWN_TOPIC_ID, "This server does not host this topic ID.");
    }
    r->name = kafka_call_dup(c, mqg_stream_name(b.found));
    struct kafka_outcome o = kafka_permits(c->conn, KAFKA_RESOURCE_TOPIC, r->name, KAFKA_OP_DELETE)
                                 ? deletion_do(c, b.found, d)
                                 : KAFKA_OUTCOME(c, KAFKA_TOPIC_AUTHORIZATION_FAILED,
                                                 "Authorization failed.");
    mqg_stream_unref(&b.found);
    return o;
}

static bool id_is_zero(const struct kafka_uuid *id)
{
    static const struct kafka_uuid zero;
    return memcmp(id->bytes, zero.bytes, sizeof zero.bytes) == 0;
}

static void deletion_row(struct kafka_call *c, struct mqg_slice name, const struct kafka_uuid *id,
                         struct kafka_durable *d)
{
    struct kafka_delete_topics_response *r = c->response;
    struct kafka_delete_topics_response_responses *row = &r->responses[r->responses_n++];
    *row = (struct kafka_delete_topics_response_responses){.name = name};
    struct kafka_outcome o;
    if (name.ptr != NULL && !id_is_zero(id))
        o = KAFKA_OUTCOME(c, KAFKA_INVALID_REQUEST, "You may not specify both topic name and topic id.");
    else if (name.ptr != NULL)
        o = deletion_by_name(c, name, row, d);
    else {
        row->topic_id = *id;
        o = id_is_zero(id)
                ? KAFKA_OUTCOME(c, KAFKA_INVALID_REQUEST, "Neither topic name nor id were specified.")
                : deletion_by_id(c, id, row, d);
    }
    row->error_code = (int16_t)o.code;
    row->error_message = o.text;
}

void kafka_delete_topics(struct kafka_call *c)
{
    const struct kafka_delete_topics_request *q = c->request;
    struct kafka_delete_topics_response *r = c->response;
    struct kafka_durable durable = {{0}};
    static const struct kafka_uuid none;
    size_t names = q->topic_names_n > 0 ? (size_t)q->topic_names_n : 0,
           topics = q->topics_n > 0 ? (size_t)q->topics_n : 0;
    r->responses = kafka_call_alloc(c, names + topics + 1, sizeof *r->responses);
    if (r->responses == NULL) {
        kafka_call_drop(c, "too many topics");
        return;
    }
    for (size_t i = 0; i < names; i++)
        deletion_row(c, q->topic_names[i], &none, &durable);
    for (size_t i = 0; i < topics; i++)
        deletion_row(c, q->topics[i].name, &q->topics[i].topic_id, &durable);
    kafka_durable_answer(c, &durable);
}

/* ---- CreatePartitions -------------------------------------------------------------------------------------------------------- */

static struct kafka_outcome growth_check(struct kafka_call *c,
                                         const struct kafka_create_partitions_request_topics *q,
                                         uint32_t have)
{
    if (q->count <= 0 || (uint32_t)q->count < have)
        return KAFKA_OUTCOME(c, KAFKA_INVALID_PARTITIONS,
                             "The topic %.*s currently has %u partition(s); %d would not be an increase.",
                             MQG_SLICE_FMT(q->name), have, q->count);
    if ((uint32_t)q->count == have)
        return KAFKA_OUTCOME(c, KAFKA_INVALID_PARTITIONS, "Topic already has %u partition(s).", have);
    if ((uint32_t)q->count > MQG_STREAM_PARTITIONS_MAX)
        return KAFKA_OUTCOME(c, KAFKA_INVALID_PARTITIONS, "A topic may have at most %u partitions.",
                             MQG_STREAM_PARTITIONS_MAX);
    if (q->assignments_n > 0 && (uint32_t)q->assignments_n != (uint32_t)q->count - have)
        return KAFKA_OUTCOME(
            c, KAFKA_INVALID_REPLICA_ASSIGNMENT,
            "Attempted to add %u additional partition(s), but only %d assignment(s) were specified.",
            (uint32_t)q->count - have, q->assignments_n);
    for (int32_t i = 0; i < q->assignments_n; i++)
        if (!creation_brokers_ok(q->assignments[i].broker_ids, q->assignments[i].broker_ids_n))
            return KAFKA_OUTCOME(
                c, KAFKA_INVALID_REPLICA_ASSIGNMENT,
                "The manual partition assignment includes a broker that is not registered: broker %d is "
                "the only one.",
                kafka_settings.broker_id);
    return KAFKA_OUTCOME_OK;
}

static struct kafka_outcome growth_do(struct kafka_call *c,
                                      const struct kafka_create_partitions_request_topics *q,
                                      struct kafka_durable *d)
{
    const struct kafka_create_partitions_request *request = c->request;
    if (!kafka_permits(c->conn, KAFKA_RESOURCE_TOPIC, q->name, KAFKA_OP_ALTER))
        return KAFKA_OUTCOME(c, KAFKA_TOPIC_AUTHORIZATION_FAILED, "Authorization failed.");
    struct mqg_stream *s = kafka_admin_stream(c->conn, q->name);
    if (s == NULL)
        return KAFKA_OUTCOME(c, KAFKA_UNKNOWN_TOPIC_OR_PARTITION,
                             "This server does not host this topic-partition.");
    struct kafka_outcome o = growth_check(c, q, mqg_stream_partitions(s));
    if (o.code == KAFKA_NONE && !request->validate_only) {
        struct mqg_session *node = mqg_session_internal(kafka_vhost(c->conn));
        struct mqg_error e;
        uint64_t ticket = 0;
        enum mqg_err err = mqg_stream_alter(node, q->name, (uint32_t)q->count, NULL, &ticket, &e);
        kafka_durable_meta(d, ticket);
        if (err != MQG_OK)
            o = kafka_outcome_of(c, err == MQG_INVALID ? KAFKA_INVALID_PARTITIONS : kafka_error_of(err), &e);
        mqg_session_unref(&node);
    }
    mqg_stream_unref(&s);
    return o;
}

void kafka_create_partitions(struct kafka_call *c)
{
    const struct kafka_create_partitions_request *q = c->request;
    struct kafka_create_partitions_response *r = c->response;
    struct kafka_durable durable = {{0}};
    struct mqg_map seen;
    size_t n = q->topics_n > 0 ? (size_t)q->topics_n : 0;
    r->results = kafka_call_alloc(c, n + 1, sizeof *r->results);
    if (r->results == NULL) {
        kafka_call_drop(c, "too many topics");
        return;
    }
    mqg_map_init(&seen, MQG_MAP_BORROW);
    for (size_t i = 0; i < n; i++)
        topics_count(&seen, q->topics[i].name);
    for (size_t i = 0; i < n; i++) {
        struct kafka_outcome o = topics_twice(&seen, q->topics[i].name)
                                     ? KAFKA_OUTCOME(c, KAFKA_INVALID_REQUEST, "Duplicate topic name.")
                                     : growth_do(c, &q->topics[i], &durable);
        r->results[r->results_n++] = (struct kafka_create_partitions_response_results){
            q->topics[i].name, (int16_t)o.code, o.text};
    }
    mqg_map_fini(&seen);
    kafka_durable_answer(c, &durable);
}
