/* permit.c - may the principal of a connection do this? Administrators, ACLs, then the vhost's permissions (acl.h). */
#include "admin.h"
#include "kafka.h"

#include <mqgate/broker.h>

#include <stdlib.h>

/* What the account is now: a connection outlives a change of its user's tags, and the user. */
struct kafka_acl {
    uint64_t generation; /* of the accounts, for: */
    unsigned tags;
    bool super;
};

static const struct kafka_acl *permit_account(struct kafka_conn *kc)
{
    uint64_t generation = mqg_auth_generation();
    if (kc->acl == NULL)
        kc->acl = mqg_xcalloc(1, sizeof *kc->acl);
    struct kafka_acl *a = kc->acl;
    if (a->generation == generation)
        return a;
    struct mqg_slice user = mqg_slice_str(kc->session->user);
    bool there = mqg_user_tags_now(user, &a->tags);
    a->super = there && ((a->tags & MQG_TAG_ADMINISTRATOR) != 0 || kafka_admin_is_super(user));
    a->generation = generation;
    return a;
}

void kafka_permit_conn_fini(struct kafka_conn *kc)
{
    free(kc->acl);
    kc->acl = NULL;
}

static bool permit_any(struct mqg_session *s, struct mqg_slice name)
{
    return mqg_session_can(s, MQG_READ, name) || mqg_session_can(s, MQG_WRITE, name) ||
           mqg_session_can(s, MQG_CONFIGURE, name);
}

static bool permit_topic(struct mqg_session *s, struct mqg_slice name, enum kafka_op op)
{
    switch (op) {
    case KAFKA_OP_READ: return mqg_session_can(s, MQG_READ, name);
    case KAFKA_OP_WRITE: return mqg_session_can(s, MQG_WRITE, name);
    case KAFKA_OP_DESCRIBE:
    case KAFKA_OP_DESCRIBE_CONFIGS: return permit_any(s, name);
    default: return mqg_session_can(s, MQG_CONFIGURE, name);
    }
}

static bool permit_cluster(unsigned tags, enum kafka_op op)
{
    return op == KAFKA_OP_IDEMPOTENT_WRITE ||
           ((op == KAFKA_OP_DESCRIBE || op == KAFKA_OP_DESCRIBE_CONFIGS) && (tags & MQG_TAG_MONITORING) != 0);
}

/* No ACL stands on it. */
static bool permit_vhost(struct kafka_conn *kc, enum kafka_resource type, struct mqg_slice name,
                         enum kafka_op op)
{
    struct mqg_session *s = kc->session;
    switch (type) {
    case KAFKA_RESOURCE_TOPIC: return permit_topic(s, name, op);
    case KAFKA_RESOURCE_GROUP: return op != KAFKA_OP_DELETE || mqg_session_can(s, MQG_CONFIGURE, name);
    case KAFKA_RESOURCE_TRANSACTIONAL_ID: return true;
    case KAFKA_RESOURCE_CLUSTER: return permit_cluster(permit_account(kc)->tags, op);
    default: return false;
    }
}

bool kafka_permits(struct kafka_conn *kc, enum kafka_resource type, struct mqg_slice name, enum kafka_op op)
{
    if (permit_account(kc)->super)
        return true;
    if (kafka_acl_count() > 0) {
        enum kafka_verdict v = kafka_acl_judge(mqg_vhost_name(kafka_vhost(kc)), type, name,
                                               mqg_slice_str(kc->session->user),
                                               mqg_slice_str(mqg_conn_info(kc->conn)->peer_host), op);
        if (v != KAFKA_VERDICT_NONE)
            return v == KAFKA_VERDICT_ALLOW;
    }
    return permit_vhost(kc, type, name, op);
}

bool kafka_permits_cluster(struct kafka_conn *kc, enum kafka_op op)
{
    return kafka_permits(kc, KAFKA_RESOURCE_CLUSTER, MQG_SLICE_LIT(KAFKA_CLUSTER_NAME), op);
}

int32_t kafka_permitted(struct kafka_conn *kc, enum kafka_resource type, struct mqg_slice name)
{
    static const uint32_t ops[] = {
        [KAFKA_RESOURCE_TOPIC] = 1u << KAFKA_OP_READ | 1u << KAFKA_OP_WRITE | 1u << KAFKA_OP_CREATE |
                                 1u << KAFKA_OP_DELETE | 1u << KAFKA_OP_ALTER | 1u << KAFKA_OP_DESCRIBE |
                                 1u << KAFKA_OP_DESCRIBE_CONFIGS | 1u << KAFKA_OP_ALTER_CONFIGS,
        [KAFKA_RESOURCE_GROUP] = 1u << KAFKA_OP_READ | 1u << KAFKA_OP_DELETE | 1u << KAFKA_OP_DESCRIBE,
        [KAFKA_RESOURCE_CLUSTER] = 1u << KAFKA_OP_CREATE | 1u << KAFKA_OP_ALTER | 1u << KAFKA_OP_DESCRIBE |
                                   1u << KAFKA_OP_CLUSTER_ACTION | 1u << KAFKA_OP_DESCRIBE_CONFIGS |
                                   1u << KAFKA_OP_ALTER_CONFIGS | 1u << KAFKA_OP_IDEMPOTENT_WRITE,
        [KAFKA_RESOURCE_TRANSACTIONAL_ID] = 1u << KAFKA_OP_WRITE | 1u << KAFKA_OP_DESCRIBE,
    };
    int32_t bits = 0;
    for (unsigned op = KAFKA_OP_READ; op <= KAFKA_OP_IDEMPOTENT_WRITE; op++)
        if ((ops[type] & 1u << op) && kafka_permits(kc, type, name, op))
            bits |= (int32_t)(1u << op);
    return bits;
}

bool kafka_allowed(struct kafka_conn *kc, enum mqg_perm perm, const char *kind, struct mqg_slice name)
{
    static const enum kafka_op ops[MQG_PERM_COUNT + 1] = {[MQG_CONFIGURE] = KAFKA_OP_CREATE,
                                                          [MQG_WRITE] = KAFKA_OP_WRITE,
                                                          [MQG_READ] = KAFKA_OP_READ,
                                                          [MQG_PERM_COUNT] = KAFKA_OP_DESCRIBE};
    enum kafka_resource type = strcmp(kind, "topic") == 0              ? KAFKA_RESOURCE_TOPIC
                               : strcmp(kind, "group") == 0            ? KAFKA_RESOURCE_GROUP
                               : strcmp(kind, "transactional_id") == 0 ? KAFKA_RESOURCE_TRANSACTIONAL_ID
                                                                       : KAFKA_RESOURCE_CLUSTER;
    enum kafka_op op = ops[perm];
    if (type == KAFKA_RESOURCE_GROUP && perm == MQG_CONFIGURE)
        op = KAFKA_OP_DELETE;
    if (type == KAFKA_RESOURCE_TRANSACTIONAL_ID && perm == MQG_READ)
        op = KAFKA_OP_DESCRIBE;
    if (type == KAFKA_RESOURCE_CLUSTER)
        op = KAFKA_OP_CLUSTER_ACTION;
    return kafka_permits(kc, type, type == KAFKA_RESOURCE_CLUSTER ? MQG_SLICE_LIT(KAFKA_CLUSTER_NAME) : name,
                         op);
}
