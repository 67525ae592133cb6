/* metadata.c - Metadata, DescribeCluster, DescribeTopicPartitions: what there is, and who leads it.
 *
 * One node is one broker: it leads every partition, with the epoch of its start. A topic is told to whom may do anything with
 * it, or by an ACL describe it. A topic that a client names and that is not there is made, where both sides allow it; the answer waits until the
 * definition is durable, so that what was told is there after a crash. */
#include "acl.h"
#include "kafka_int.h"

#include <mqgate/vec.h>

#include <stdlib.h>

enum { OPERATIONS_NONE = INT32_MIN };
/* Every partition has the same replicas: this node. */
static int32_t *metadata_self(void)
{
    return &kafka_settings.broker_id;
}

static int32_t operations_topic(struct kafka_conn *kc, struct mqg_slice name)
{
    return kafka_permitted(kc, KAFKA_RESOURCE_TOPIC, name);
}

static int32_t operations_cluster(struct kafka_conn *kc)
{
    return kafka_permitted(kc, KAFKA_RESOURCE_CLUSTER, MQG_SLICE_LIT(KAFKA_CLUSTER_NAME));
}

/* The topic, if the user may see it. */
static struct mqg_stream *metadata_topic(struct kafka_conn *kc, struct mqg_slice name, enum kafka_error *code)
{
    if (!kafka_topic_name_ok(name)) {
        *code = KAFKA_INVALID_TOPIC_EXCEPTION;
        return NULL;
    }
    return kafka_topic(kc, name, KAFKA_DESCRIBE, code);
}

/* ---- all topics ------------------------------------------------------------------------------------------------------------- */

static bool collect_one(void *arg, struct mqg_stream *s)
{
    mqg_vec_push(arg, mqg_stream_ref(s));
    return true;
}

static int collect_order(const void *a, const void *b)
{
    struct mqg_stream *const *x = a, *const *y = b;
    return mqg_slice_cmp(mqg_stream_name(*x), mqg_stream_name(*y));
}

static void collect_fini(struct mqg_vec *all)
{
    for (size_t i = 0; i < all->n; i++) {
        struct mqg_stream *s = all->items[i];
        mqg_stream_unref(&s);
    }
    mqg_vec_fini(all);
}

/* Topics that the user may see, by name. */
static void collect_all(struct kafka_conn *kc, struct mqg_vec *all)
{
    size_t kept = 0;
    kafka_topics_each(kc, collect_one, all);
    for (size_t i = 0; i < all->n; i++) {
        struct mqg_stream *s = all->items[i];
        if (operations_topic(kc, mqg_stream_name(s)) != 0)
            all->items[kept++] = s;
        else
            mqg_stream_unref(&s);
    }
    all->n = kept;
    if (kept > 0)
        qsort(all->items, kept, sizeof(void *), collect_order);
}

/* ---- Metadata ---------------------------------------------------------------------------------------------------------------- */

static bool metadata_partitions(struct kafka_call *c, struct kafka_metadata_response_topics *row,
                                const struct mqg_stream *s)
{
    uint32_t n = mqg_stream_partitions(s);
    row->partitions = kafka_call_alloc(c, n, sizeof *row->partitions);
    if (row->partitions == NULL)
        return false;
    row->partitions_n = (int32_t)n;
    for (uint32_t i = 0; i < n; i++)
        row->partitions[i] = (struct kafka_metadata_response_topics_partitions){
            .partition_index = (int32_t)i,
            .leader_id = kafka_settings.broker_id,
            .leader_epoch = mqg_stream_epoch(),
            .replica_nodes = metadata_self(),
            .replica_nodes_n = 1,
            .isr_nodes = metadata_self(),
            .isr_nodes_n = 1};
    return true;
}

static bool metadata_fill(struct kafka_call *c, struct kafka_metadata_response_topics *row,
                          const struct mqg_stream *s)
{
    const struct kafka_metadata_request *q = c->request;
    row->name = kafka_call_dup(c, mqg_stream_name(s));
    row->topic_id = kafka_topic_id(s);
    row->topic_authorized_operations = q->include_topic_authorized_operations
                                           ? operations_topic(c->conn, row->name)
                                           : OPERATIONS_NONE;
    return metadata_partitions(c, row, s);
}

static bool metadata_may_create(const struct kafka_metadata_request *q)
{
    return kafka_settings.auto_create && q->allow_auto_topic_creation;
}

static bool metadata_permits_create(struct kafka_conn *kc, struct mqg_slice name)
{
    return kafka_permits_cluster(kc, KAFKA_OP_CREATE) ||
           kafka_permits(kc, KAFKA_RESOURCE_TOPIC, name, KAFKA_OP_CREATE);
}

/* Makes the topic, as the node itself: an ACL's right is unknown to the router. */
static struct mqg_stream *metadata_create(struct kafka_call *c, struct mqg_slice name, uint64_t *ticket,
                                          enum kafka_error *code)
{
    struct mqg_error e;
    struct mqg_stream_conf conf = {.cleanup = 0};
    uint64_t mine = 0;
    if (!metadata_permits_create(c->conn, name)) {
        *code = KAFKA_TOPIC_AUTHORIZATION_FAILED;
        return NULL;
    }
    struct mqg_session *node = mqg_session_internal(kafka_vhost(c->conn));
    enum mqg_err err = mqg_stream_declare(node, name, kafka_settings.partitions, &conf, &mine, &e);
    mqg_session_unref(&node);
    if (err != MQG_OK) {
        *code = err == MQG_DENIED ? KAFKA_TOPIC_AUTHORIZATION_FAILED : kafka_error_of(err);
        return NULL;
    }
    *ticket = mine > *ticket ? mine : *ticket;
    return metadata_topic(c->conn, name, code);
}

static bool metadata_named(struct kafka_call *c, const struct kafka_metadata_request_topics *want,
                           struct kafka_metadata_response_topics *row, uint64_t *ticket)
{
    static const struct kafka_uuid none;
    enum kafka_error code = KAFKA_NONE;
    struct mqg_stream *s;
    row->name = want->name;
    row->topic_id = want->topic_id;
    if (want->name.ptr == NULL || memcmp(&want->topic_id, &none, sizeof none) != 0) {
        s = kafka_topic_by_id(c->conn, &want->topic_id, KAFKA_DESCRIBE, &code);
        row->name = MQG_SLICE_NONE;
    } else {
        s = metadata_topic(c->conn, want->name, &code);
        if (code == KAFKA_UNKNOWN_TOPIC_OR_PARTITION && metadata_may_create(c->request))
            s = metadata_create(c, want->name, ticket, &code);
    }
    row->error_code = (int16_t)code;
    row->topic_authorized_operations = OPERATIONS_NONE;
    return s == NULL || metadata_fill(c, row, s);
}

static bool metadata_topics(struct kafka_call *c, uint64_t *ticket)
{
    const struct kafka_metadata_request *q = c->request;
    struct kafka_metadata_response *r = c->response;
    r->topics = kafka_call_alloc(c, (size_t)q->topics_n, sizeof *r->topics);
    bool ok = r->topics != NULL;
    for (int32_t i = 0; i < q->topics_n && ok; i++) {
        ok = metadata_named(c, &q->topics[i], &r->topics[i], ticket);
        r->topics_n++;
    }
    return ok;
}

static bool metadata_all(struct kafka_call *c)
{
    struct kafka_metadata_response *r = c->response;
    struct mqg_vec all = {0};
    collect_all(c->conn, &all);
    r->topics = kafka_call_alloc(c, all.n, sizeof *r->topics);
    bool ok = r->topics != NULL;
    for (size_t i = 0; i < all.n && ok; i++) {
        ok = metadata_fill(c, &r->topics[i], all.items[i]);
        r->topics_n++;
    }
    collect_fini(&all);
    return ok;
}

struct metadata_wait {
    struct mqg_waiter waiter;
    struct kafka_call *call;
};

static void metadata_durable(struct mqg_waiter *w, enum mqg_err err)
{
    struct metadata_wait *wait = MQG_CONTAINER_OF(w, struct metadata_wait, waiter);
    if (err != MQG_OK)
        kafka_call_drop(wait->call, "the store failed");
    else
        kafka_call_answer(wait->call);
}

static void metadata_gone(struct kafka_call *c)
{
    struct metadata_wait *wait = c->owner;
    mqg_lane_unwait(mqg_storage_default(), &wait->waiter);
}

static void metadata_answer(struct kafka_call *c, uint64_t ticket)
{
    struct metadata_wait *wait = ticket > mqg_lane_done(mqg_storage_default())
                                     ? kafka_call_alloc(c, 1, sizeof *wait)
                                     : NULL;
    if (wait == NULL) {
        kafka_call_answer(c);
        return;
    }
    wait->call = c;
    wait->waiter = (struct mqg_waiter){.ticket = ticket, .fire = metadata_durable};
    c->owner = wait;
    c->gone = metadata_gone;
    mqg_lane_wait(mqg_storage_default(), &wait->waiter);
}

static void metadata_call(struct kafka_call *c)
{
    const struct kafka_metadata_request *q = c->request;
    struct kafka_metadata_response *r = c->response;
    uint64_t ticket = 0;
    r->brokers = kafka_call_alloc(c, 1, sizeof *r->brokers);
    MQG_ASSERT(r->brokers != NULL);
    r->brokers_n = 1;
    r->brokers->node_id = kafka_settings.broker_id;
    kafka_endpoint(c->conn, &r->brokers->host, &r->brokers->port);
    r->cluster_id = kafka_cluster_id();
    r->controller_id = kafka_settings.broker_id;
    if (q->include_cluster_authorized_operations)
        r->cluster_authorized_operations = operations_cluster(c->conn);
    bool all = q->topics_n < 0 || (q->topics_n == 0 && c->head.version == 0);
    if (all ? metadata_all(c) : metadata_topics(c, &ticket))
        metadata_answer(c, ticket);
    else
        kafka_call_drop(c, "too many topics for one answer");
}

/* ---- DescribeCluster ----------------------------------------------------------------------------------------------------------- */

static void cluster_call(struct kafka_call *c)
{
    const struct kafka_describe_cluster_request *q = c->request;
    struct kafka_describe_cluster_response *r = c->response;
    r->endpoint_type = q->endpoint_type;
    r->cluster_id = kafka_cluster_id();
    if (q->endpoint_type != 1) { /* 2: controllers, which are no brokers' ports */
        r->error_code = q->endpoint_type == 2 ? KAFKA_MISMATCHED_ENDPOINT_TYPE
                                              : KAFKA_UNSUPPORTED_ENDPOINT_TYPE;
        kafka_call_answer(c);
        return;
    }
    r->brokers = kafka_call_alloc(c, 1, sizeof *r->brokers);
    MQG_ASSERT(r->brokers != NULL);
    r->brokers_n = 1;
    r->brokers->broker_id = r->controller_id = kafka_settings.broker_id;
    kafka_endpoint(c->conn, &r->brokers->host, &r->brokers->port);
    if (q->include_cluster_authorized_operations)
        r->cluster_authorized_operations = operations_cluster(c->conn);
    kafka_call_answer(c);
}

/* ---- DescribeTopicPartitions (KIP-966) -------------------------------------------------------------------------------------------- */

enum { DESCRIBE_LIMIT = 2000 };

/* A page of partitions, from the cursor on. */
struct page {
    int32_t left;
    uint32_t from; /* the first partition of the first topic */
    bool full;
};

static bool page_partitions(struct kafka_call *c, struct page *page,
                            struct kafka_describe_topic_partitions_response_topics *row,
                            const struct mqg_stream *s)
{
    struct kafka_describe_topic_partitions_response *r = c->response;
    uint32_t all = mqg_stream_partitions(s), from = page->from < all ? page->from : all;
    uint32_t n = all - from < (uint32_t)page->left ? all - from : (uint32_t)page->left;
    row->partitions = kafka_call_alloc(c, n, sizeof *row->partitions);
    if (row->partitions == NULL)
        return false;
    row->partitions_n = (int32_t)n;
    for (uint32_t i = 0; i < n; i++)
        row->partitions[i] = (struct kafka_describe_topic_partitions_response_topics_partitions){
            .partition_index = (int32_t)(from + i),
            .leader_id = kafka_settings.broker_id,
            .leader_epoch = mqg_stream_epoch(),
            .replica_nodes = metadata_self(),
            .replica_nodes_n = 1,
            .isr_nodes = metadata_self(),
            .isr_nodes_n = 1};
    page->left -= (int32_t)n;
    page->from = 0;
    if (from + n < all) {
        page->full = r->has_next_cursor = true;
        r->next_cursor.topic_name = row->name;
        r->next_cursor.partition_index = (int32_t)(from + n);
    }
    return true;
}

static bool page_topic(struct kafka_call *c, struct page *page,
                       struct kafka_describe_topic_partitions_response_topics *row, struct mqg_slice name)
{
    struct kafka_describe_topic_partitions_response *r = c->response;
    enum kafka_error code;
    struct mqg_stream *s = metadata_topic(c->conn, name, &code);
    if (page->left == 0) {
        page->full = r->has_next_cursor = true;
        r->next_cursor.topic_name = kafka_call_dup(c, name);
        return true;
    }
    row->name = kafka_call_dup(c, name);
    row->error_code = (int16_t)code;
    row->topic_authorized_operations = OPERATIONS_NONE;
    r->topics_n++;
    if (s == NULL)
        return true;
    row->topic_id = kafka_topic_id(s);
    row->topic_authorized_operations = operations_topic(c->conn, name);
    return page_partitions(c, page, row, s);
}

static int name_order(const void *a, const void *b)
{
    const struct mqg_slice *x = a, *y = b;
    return mqg_slice_cmp(*x, *y);
}

/* The names that were asked for, or all, in order. */
static struct mqg_slice *page_names(struct kafka_call *c, size_t *n)
{
    const struct kafka_describe_topic_partitions_request *q = c->request;
    struct mqg_vec all = {0};
    if (q->topics_n == 0)
        collect_all(c->conn, &all);
    *n = q->topics_n > 0 ? (size_t)q->topics_n : all.n;
    struct mqg_slice *names = kafka_call_alloc(c, *n, sizeof *names);
    for (size_t i = 0; i < *n && names != NULL; i++)
        names[i] = q->topics_n > 0 ? q->topics[i].name : kafka_call_dup(c, mqg_stream_name(all.items[i]));
    collect_fini(&all);
    if (names != NULL)
        qsort(names, *n, sizeof *names, name_order);
    return names;
}

static void describe_call(struct kafka_call *c)
{
    const struct kafka_describe_topic_partitions_request *q = c->request;
    struct kafka_describe_topic_partitions_response *r = c->response;
    int32_t limit = q->response_partition_limit;
    struct page page = {.left = limit < 1 || limit > DESCRIBE_LIMIT ? DESCRIBE_LIMIT : limit};
    size_t n, at = 0;
    struct mqg_slice *names = page_names(c, &n);
    r->topics = names != NULL ? kafka_call_alloc(c, n, sizeof *r->topics) : NULL;
    bool ok = r->topics != NULL;
    while (ok && q->has_cursor && at < n && mqg_slice_cmp(names[at], q->cursor.topic_name) < 0)
        at++;
    if (ok && q->has_cursor && at < n && mqg_slice_eq(names[at], q->cursor.topic_name))
        page.from = q->cursor.partition_index > 0 ? (uint32_t)q->cursor.partition_index : 0;
    for (; ok && at < n && !page.full; at++)
        ok = page_topic(c, &page, &r->topics[r->topics_n], names[at]);
    if (ok)
        kafka_call_answer(c);
    else
        kafka_call_drop(c, "too many topics for one answer");
}

const struct kafka_api kafka_metadata_apis[] = {
    {KAFKA_API_METADATA, 0, 13, 0, metadata_call},
    {KAFKA_API_DESCRIBE_CLUSTER, 0, 2, KAFKA_API_INPLACE, cluster_call},
    {KAFKA_API_DESCRIBE_TOPIC_PARTITIONS, 0, 0, KAFKA_API_INPLACE, describe_call},
    {.key = -1},
};
