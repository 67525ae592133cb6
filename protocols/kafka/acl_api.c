/* acl_api.c - DescribeAcls, CreateAcls, DeleteAcls. What is created or deleted belongs to the vhost of the connection. */
#include "admin.h"

#include <mqgate/broker.h>
#include <mqgate/lanes.h>

#include <pthread.h>

/* Records and table change together, so that both see one order. */
static pthread_mutex_t acl_change = PTHREAD_MUTEX_INITIALIZER;

static uint64_t acl_record(const struct kafka_acl_rule *r, bool remove)
{
    struct mqg_dynbuf key, value;
    mqg_dynbuf_init(&key, 16384);
    mqg_dynbuf_init(&value, 16384);
    kafka_acl_key(&key, r);
    kafka_acl_encode(&value, r);
    MQG_ASSERT(!key.failed && !value.failed); /* texts were measured */
    uint64_t ticket = remove ? mqg_meta_remove(mqg_dynbuf_view(&key))
                             : mqg_meta_put(mqg_dynbuf_view(&key), mqg_dynbuf_view(&value));
    mqg_dynbuf_fini(&key);
    mqg_dynbuf_fini(&value);
    return ticket;
}

static void acl_log(const struct kafka_conn *kc, const struct kafka_acl_rule *r, const char *change)
{
    mqg_log(
        MQG_LOG_INFO, MQG_EVENT_ACCOUNT,
        "change=%s by=%s vhost=%s principal=%s host=%s resource=%u name=%s pattern=%u operation=%u allow=%d",
        change, mqg_logqs(kc->session->user), mqg_logq(r->vhost), mqg_logq(r->principal), mqg_logq(r->host),
        r->type, mqg_logq(r->name), r->pattern, r->op, r->permission == KAFKA_PERMISSION_ALLOW);
}

/* ---- collecting -------------------------------------------------------------------------------------------------------- */

struct acl_found {
    struct kafka_call *call;
    struct kafka_acl_rule *rules;
    size_t n, max;
};

static void acl_collect_one(void *arg, const struct kafka_acl_rule *r)
{
    struct acl_found *f = arg;
    if (f->n == f->max)
        return; /* came in between */
    struct kafka_acl_rule *copy = &f->rules[f->n++];
    *copy = *r;
    copy->vhost = kafka_call_dup(f->call, r->vhost);
    copy->name = kafka_call_dup(f->call, r->name);
    copy->principal = kafka_call_dup(f->call, r->principal);
    copy->host = kafka_call_dup(f->call, r->host);
}

static bool acl_collect(struct kafka_call *c, const struct kafka_acl_filter *filter, struct acl_found *f)
{
    *f = (struct acl_found){.call = c, .max = kafka_acl_count()};
    f->rules = kafka_call_alloc(c, f->max + 1, sizeof *f->rules);
    if (f->rules == NULL)
        return false;
    kafka_acl_each(filter, acl_collect_one, f);
    return true;
}

/* NULL: the filter is one; else what is wrong. */
static const char *acl_filter_wrong(const struct kafka_acl_filter *f)
{
    if (f->type < 1 || f->type > 7)
        return "the resource type of the filter is not known";
    if (f->pattern < KAFKA_PATTERN_ANY || f->pattern > KAFKA_PATTERN_PREFIXED)
        return "the pattern type of the filter is not known";
    if (f->op < 1 || f->op > 15)
        return "the operation of the filter is not known";
    if (f->permission < KAFKA_PERMISSION_ANY || f->permission > KAFKA_PERMISSION_ALLOW)
        return "the permission type of the filter is not known";
    return NULL;
}

/* ---- DescribeAcls -------------------------------------------------------------------------------------------------------- */

static bool acl_same_resource(const struct kafka_acl_rule *a, const struct kafka_acl_rule *b)
{
    return a->type == b->type && a->pattern == b->pattern && mqg_slice_eq(a->name, b->name);
}

static bool acl_describe_fill(struct kafka_call *c, const struct acl_found *f)
{
    struct kafka_describe_acls_response *r = c->response;
    struct kafka_describe_acls_response_resources_acls *acls = kafka_call_alloc(c, f->n + 1, sizeof *acls);
    r->resources = kafka_call_alloc(c, f->n + 1, sizeof *r->resources);
    if (acls == NULL || r->resources == NULL)
        return false;
    for (size_t i = 0; i < f->n; i++) {
        const struct kafka_acl_rule *rule = &f->rules[i];
        if (i == 0 || !acl_same_resource(rule, rule - 1))
            r->resources[r->resources_n++] = (struct kafka_describe_acls_response_resources){
                .resource_type = (int8_t)rule->type,
                .resource_name = rule->name,
                .pattern_type = (int8_t)rule->pattern,
                .acls = &acls[i]};
        r->resources[r->resources_n - 1].acls_n++;
        acls[i] = (struct kafka_describe_acls_response_resources_acls){
            rule->principal, rule->host, (int8_t)rule->op, (int8_t)rule->permission};
    }
    return true;
}

static void acl_describe(struct kafka_call *c)
{
    const struct kafka_describe_acls_request *q = c->request;
    struct kafka_describe_acls_response *r = c->response;
    const struct kafka_acl_filter filter = {.vhost = mqg_vhost_name(kafka_vhost(c->conn)),
                                            .name = q->resource_name_filter,
                                            .principal = q->principal_filter,
                                            .host = q->host_filter,
                                            .type = q->resource_type_filter,
                                            .pattern = q->pattern_type_filter,
                                            .op = q->operation,
                                            .permission = q->permission_type};
    const char *wrong = acl_filter_wrong(&filter);
    struct acl_found found;
    if (!kafka_permits_cluster(c->conn, KAFKA_OP_DESCRIBE)) {
        r->error_code = KAFKA_CLUSTER_AUTHORIZATION_FAILED;
    } else if (wrong != NULL) {
        r->error_code = KAFKA_INVALID_REQUEST;
        r->error_message = mqg_slice_str(wrong);
    } else if (!acl_collect(c, &filter, &found) || !acl_describe_fill(c, &found)) {
        kafka_call_drop(c, "too many ACLs for one answer");
        return;
    }
    kafka_call_answer(c);
}

/* ---- CreateAcls ------------------------------------------------------------------------------------------------------------ */

static bool acl_op_fits(unsigned type, unsigned op)
{
    static const uint32_t ops[] = {
        [KAFKA_RESOURCE_TOPIC] = 1u << KAFKA_OP_READ | 1u << KAFKA_OP_WRITE | 1u << KAFKA_OP_CREATE |
                                 1u << KAFKA_OP_DELETE | 1u << KAFKA_OP_ALTER | 1u << KAFKA_OP_DESCRIBE |
                                 1u << KAFKA_OP_DESCRIBE_CONFIGS | 1u << KAFKA_OP_ALTER_CONFIGS,
        [KAFKA_RESOURCE_GROUP] = 1u << KAFKA_OP_READ | 1u << KAFKA_OP_DELETE | 1u << KAFKA_OP_DESCRIBE |
                                 1u << KAFKA_OP_DESCRIBE_CONFIGS | 1u << KAFKA_OP_ALTER_CONFIGS,
        [KAFKA_RESOURCE_CLUSTER] = 1u << KAFKA_OP_CREATE | 1u << KAFKA_OP_ALTER | 1u << KAFKA_OP_DESCRIBE |
                                   1u << KAFKA_OP_CLUSTER_ACTION | 1u << KAFKA_OP_DESCRIBE_CONFIGS |
                                   1u << KAFKA_OP_ALTER_CONFIGS | 1u << KAFKA_OP_IDEMPOTENT_WRITE,
        [KAFKA_RESOURCE_TRANSACTIONAL_ID] = 1u << KAFKA_OP_WRITE | 1u << KAFKA_OP_DESCRIBE,
    };
    return op == KAFKA_OP_ALL || (op <= KAFKA_OP_IDEMPOTENT_WRITE && (ops[type] & 1u << op) != 0);
}

static bool acl_text_ok(struct mqg_slice s)
{
    return s.len > 0 && s.len <= KAFKA_ACL_TEXT_MAX_BYTES && mqg_utf8_valid(s);
}

/* NULL: *out is the rule; else what is wrong. */
static const char *acl_rule(const struct kafka_create_acls_request_creations *q, struct mqg_slice vhost,
                            struct kafka_acl_rule *out)
{
    if (q->resource_type < KAFKA_RESOURCE_TOPIC || q->resource_type > KAFKA_RESOURCE_TRANSACTIONAL_ID)
        return "ACLs stand on topics, groups, the cluster and transactional ids only";
    if (q->resource_pattern_type != KAFKA_PATTERN_LITERAL &&
        q->resource_pattern_type != KAFKA_PATTERN_PREFIXED)
        return "the pattern type must be LITERAL or PREFIXED";
    if (!acl_text_ok(q->resource_name) || !acl_text_ok(q->principal) || !acl_text_ok(q->host))
        return "a name, principal or host is empty, too long or no text";
    if (q->resource_type == KAFKA_RESOURCE_CLUSTER &&
        !mqg_slice_eq(q->resource_name, MQG_SLICE_LIT(KAFKA_CLUSTER_NAME)))
        return "the only cluster is named " KAFKA_CLUSTER_NAME;
    if (!mqg_slice_starts(q->principal, MQG_SLICE_LIT("User:")))
        return "a principal is written User:NAME";
    if (q->operation < KAFKA_OP_ALL || !acl_op_fits((unsigned)q->resource_type, (unsigned)q->operation))
        return "that operation does not exist on that kind of resource";
    if (q->permission_type != KAFKA_PERMISSION_DENY && q->permission_type != KAFKA_PERMISSION_ALLOW)
        return "the permission must be ALLOW or DENY";
    *out = (struct kafka_acl_rule){vhost,
                                   q->resource_name,
                                   q->principal,
                                   q->host,
                                   (uint8_t)q->resource_type,
                                   (uint8_t)q->resource_pattern_type,
                                   (uint8_t)q->operation,
                                   (uint8_t)q->permission_type};
    return NULL;
}

static void acl_create_one(struct kafka_call *c, const struct kafka_create_acls_request_creations *q,
                           struct kafka_create_acls_response_results *r, struct kafka_durable *d)
{
    struct kafka_acl_rule rule;
    const char *wrong = acl_rule(q, mqg_vhost_name(kafka_vhost(c->conn)), &rule);
    if (wrong == NULL && kafka_acl_count() >= KAFKA_ACL_MAX)
        wrong = "there are too many ACLs";
    if (wrong != NULL) {
        r->error_code = KAFKA_INVALID_REQUEST;
        r->error_message = mqg_slice_str(wrong);
        return;
    }
    pthread_mutex_lock(&acl_change);
    kafka_durable_meta(d, acl_record(&rule, false));
    kafka_acl_add(&rule);
    pthread_mutex_unlock(&acl_change);
    acl_log(c->conn, &rule, "acl");
}

static void acl_create(struct kafka_call *c)
{
    const struct kafka_create_acls_request *q = c->request;
    struct kafka_create_acls_response *r = c->response;
    struct kafka_durable durable = {{0}};
    size_t n = q->creations_n > 0 ? (size_t)q->creations_n : 0;
    bool may = kafka_permits_cluster(c->conn, KAFKA_OP_ALTER);
    r->results = kafka_call_alloc(c, n + 1, sizeof *r->results);
    if (r->results == NULL) {
        kafka_call_drop(c, "too many ACLs");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (may)
            acl_create_one(c, &q->creations[i], &r->results[i], &durable);
        else
            r->results[i].error_code = KAFKA_CLUSTER_AUTHORIZATION_FAILED;
    }
    r->results_n = (int32_t)n;
    mqg_auth_touch();
    kafka_durable_answer(c, &durable);
}

/* ---- DeleteAcls -------------------------------------------------------------------------------------------------------------- */

static bool acl_delete_found(struct kafka_call *c, const struct acl_found *f,
                             struct kafka_delete_acls_response_filter_results *r, struct kafka_durable *d)
{
    r->matching_acls = kafka_call_alloc(c, f->n + 1, sizeof *r->matching_acls);
    if (r->matching_acls == NULL)
        return false;
    for (size_t i = 0; i < f->n; i++) {
        const struct kafka_acl_rule *rule = &f->rules[i];
        pthread_mutex_lock(&acl_change);
        bool removed = kafka_acl_remove(rule);
        if (removed)
            kafka_durable_meta(d, acl_record(rule, true));
        pthread_mutex_unlock(&acl_change);
        if (!removed)
            continue;
        acl_log(c->conn, rule, "acl_delete");
        r->matching_acls[r->matching_acls_n++] =
            (struct kafka_delete_acls_response_filter_results_matching_acls){
                .resource_type = (int8_t)rule->type,
                .resource_name = rule->name,
                .pattern_type = (int8_t)rule->pattern,
                .principal = rule->principal,
                .host = rule->host,
                .operation = (int8_t)rule->op,
                .permission_type = (int8_t)rule->permission};
    }
    return true;
}

static bool acl_delete_one(struct kafka_call *c, const struct kafka_delete_acls_request_filters *q,
                           struct kafka_delete_acls_response_filter_results *r, struct kafka_durable *d)
{
    const struct kafka_acl_filter filter = {.vhost = mqg_vhost_name(kafka_vhost(c->conn)),
                                            .name = q->resource_name_filter,
                                            .principal = q->principal_filter,
                                            .host = q->host_filter,
                                            .type = q->resource_type_filter,
                                            .pattern = q->pattern_type_filter,
                                            .op = q->operation,
                                            .permission = q->permission_type};
    const char *wrong = acl_filter_wrong(&filter);
    struct acl_found found;
    if (wrong == NULL)
        return acl_collect(c, &filter, &found) && acl_delete_found(c, &found, r, d);
    r->error_code = KAFKA_INVALID_REQUEST;
    r->error_message = mqg_slice_str(wrong);
    return true;
}

static void acl_delete(struct kafka_call *c)
{
    const struct kafka_delete_acls_request *q = c->request;
    struct kafka_delete_acls_response *r = c->response;
    struct kafka_durable durable = {{0}};
    size_t n = q->filters_n > 0 ? (size_t)q->filters_n : 0;
    bool may = kafka_permits_cluster(c->conn, KAFKA_OP_ALTER), room = true;
    r->filter_results = kafka_call_alloc(c, n + 1, sizeof *r->filter_results);
    for (size_t i = 0; r->filter_results != NULL && i < n && room; i++) {
        if (may)
            room = acl_delete_one(c, &q->filters[i], &r->filter_results[i], &durable);
        else
            r->filter_results[i].error_code = KAFKA_CLUSTER_AUTHORIZATION_FAILED;
    }
    mqg_auth_touch();
    if (r->filter_results == NULL || !room) {
        kafka_call_drop(c, "too many ACLs for one answer");
        return;
    }
    r->filter_results_n = (int32_t)n;
    kafka_durable_answer(c, &durable);
}

/* ---- the part ------------------------------------------------------------------------------------------------------------------ */

static void acl_recover(struct mqg_slice key, struct mqg_slice value)
{
    struct kafka_acl_rule r;
    enum mqg_err err = kafka_acl_decode(value, &r);
    if (err == MQG_OK)
        kafka_acl_add(&r);
    else
        mqg_log(MQG_LOG_ERROR, MQG_EVENT_CORRUPTION, "what=acl key=%s err=%s", mqg_logq(key),
                mqg_err_name(err));
}

static bool acl_is_of(void *arg, struct mqg_slice vhost)
{
    return mqg_slice_eq(mqg_vhost_name(arg), vhost);
}

static bool acl_is_orphan(void *arg, struct mqg_slice vhost)
{
    (void)arg;
    return mqg_vhost_find(vhost) == NULL;
}

static void acl_swept(void *arg, const struct kafka_acl_rule *r)
{
    (void)arg;
    (void)acl_record(r, true);
}

/* A vhost of that name that is made again must not find them. */
static void acl_vhost_gone(struct mqg_vhost *v)
{
    pthread_mutex_lock(&acl_change);
    size_t n = kafka_acl_sweep(acl_is_of, acl_swept, v);
    pthread_mutex_unlock(&acl_change);
    if (n > 0)
        mqg_auth_touch();
}

static void acl_recovered(void)
{
    (void)kafka_acl_sweep(acl_is_orphan, acl_swept, NULL);
}

static enum mqg_err acl_load(const struct mqg_conf *conf, struct mqg_error *e)
{
    (void)conf;
    (void)e;
    mqg_meta_on_recover(KAFKA_ACL_PREFIX, acl_recover, acl_recovered);
    mqg_vhost_on_delete(acl_vhost_gone);
    return MQG_OK;
}

static const struct kafka_api acl_apis[] = {
    {KAFKA_API_DESCRIBE_ACLS, 0, 3, 0, acl_describe},
    {KAFKA_API_CREATE_ACLS, 0, 3, 0, acl_create},
    {KAFKA_API_DELETE_ACLS, 0, 3, 0, acl_delete},
    {.key = -1},
};

const struct kafka_part kafka_acl_part = {.name = "acl",
                                          .apis = acl_apis,
                                          .load = acl_load,
                                          .unload = kafka_acl_clear,
                                          .conn_fini = kafka_permit_conn_fini};
