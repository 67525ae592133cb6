/* acl.h - who may do what: Kafka's access control lists before the vhost's permissions.
 *
 * An ACL belongs to a vhost and says: this principal, from that host, may (or may not) do that operation on the resources of
 * that name or prefix. Administrators and kafka.super_users may do everything. Where ACLs stand on a resource they alone decide,
 * as with Kafka: a DENY that matches wins, else an ALLOW that matches, else no. Where none stands on it the vhost's permissions
 * decide:
 *
 *   topic             READ: read; WRITE: write; CREATE, DELETE, ALTER, ALTER_CONFIGS: configure;
 *                     DESCRIBE, DESCRIBE_CONFIGS: any of them
 *   group             READ, DESCRIBE: everybody in the vhost; DELETE: configure, on the group's name
 *   transactional id  everybody in the vhost
 *   cluster           IDEMPOTENT_WRITE: everybody; DESCRIBE, DESCRIBE_CONFIGS: the tag monitoring; all else: administrators
 *
 * With the vhost its ACLs go. Other protocols know nothing of ACLs. Sources: KIP-11, KIP-290, KIP-140; the numbers are the protocol's. */
#ifndef KAFKA_ACL_H
#define KAFKA_ACL_H

#include <mqgate/base.h>

struct kafka_conn;

enum kafka_resource {
    KAFKA_RESOURCE_ANY = 1,
    KAFKA_RESOURCE_TOPIC = 2,
    KAFKA_RESOURCE_GROUP = 3,
    KAFKA_RESOURCE_CLUSTER = 4, /* its name: KAFKA_CLUSTER_NAME */
    KAFKA_RESOURCE_TRANSACTIONAL_ID = 5,
};

enum kafka_pattern {
    KAFKA_PATTERN_ANY = 1,
    KAFKA_PATTERN_MATCH = 2, /* in filters: what bears on that name */
    KAFKA_PATTERN_LITERAL = 3,
    KAFKA_PATTERN_PREFIXED = 4,
};

enum kafka_op {
    KAFKA_OP_ANY = 1,
    KAFKA_OP_ALL = 2,
    KAFKA_OP_READ = 3,
    KAFKA_OP_WRITE = 4,
    KAFKA_OP_CREATE = 5,
    KAFKA_OP_DELETE = 6,
    KAFKA_OP_ALTER = 7,
    KAFKA_OP_DESCRIBE = 8,
    KAFKA_OP_CLUSTER_ACTION = 9,
    KAFKA_OP_DESCRIBE_CONFIGS = 10,
    KAFKA_OP_ALTER_CONFIGS = 11,
    KAFKA_OP_IDEMPOTENT_WRITE = 12,
};

enum kafka_permission { KAFKA_PERMISSION_ANY = 1, KAFKA_PERMISSION_DENY = 2, KAFKA_PERMISSION_ALLOW = 3 };

#define KAFKA_CLUSTER_NAME "kafka-cluster"

/* May the connection's principal do it? Worker of the connection, with its session there. Changes of ACLs move
 * mqg_auth_generation, so an answer may be kept as long as that stands. */
bool kafka_permits(struct kafka_conn *kc, enum kafka_resource type, struct mqg_slice name, enum kafka_op op);
/* The same on the cluster. */
bool kafka_permits_cluster(struct kafka_conn *kc, enum kafka_op op);
/* The operations that are permitted, as bits by enum kafka_op: Metadata and DescribeGroups tell them when asked. */
int32_t kafka_permitted(struct kafka_conn *kc, enum kafka_resource type, struct mqg_slice name);

/* ---- the table (acl.c) ------------------------------------------------------------------------------------------------- */

struct kafka_acl_rule {
    struct mqg_slice vhost, name, principal, host;
    uint8_t type, pattern, op, permission;
};

/* What of it is ANY or a null (ptr NULL) matches everything. vhost is always compared. */
struct kafka_acl_filter {
    struct mqg_slice vhost, name, principal, host;
    int8_t type, pattern, op, permission;
};

enum kafka_verdict { KAFKA_VERDICT_NONE, KAFKA_VERDICT_ALLOW, KAFKA_VERDICT_DENY };

/* All: any thread. false: it was there. */
bool kafka_acl_add(const struct kafka_acl_rule *r);
bool kafka_acl_remove(const struct kafka_acl_rule *r);
/* Visits the rules that match, in the order of type, name, pattern; under the table's lock: visit calls nothing of here. */
void kafka_acl_each(const struct kafka_acl_filter *f,
                    void (*visit)(void *arg, const struct kafka_acl_rule *r), void *arg);
/* Removes those of which gone(vhost) is true, and tells them like each. Answers how many. */
size_t kafka_acl_sweep(bool (*gone)(void *arg, struct mqg_slice vhost),
                       void (*visit)(void *arg, const struct kafka_acl_rule *r), void *arg);
size_t kafka_acl_count(void);
/* NONE: no rule stands on that resource. user: without "User:". */
enum kafka_verdict kafka_acl_judge(struct mqg_slice vhost, enum kafka_resource type, struct mqg_slice name,
                                   struct mqg_slice user, struct mqg_slice host, enum kafka_op op);
void kafka_acl_clear(void);

/* ---- records (acl_store.c) ---------------------------------------------------------------------------------------------- */

void kafka_acl_key(struct mqg_dynbuf *out, const struct kafka_acl_rule *r);
void kafka_acl_encode(struct mqg_dynbuf *out, const struct kafka_acl_rule *r);
/* Borrows from value. */
enum mqg_err kafka_acl_decode(struct mqg_slice value, struct kafka_acl_rule *out) MQG_MUST_CHECK;

#define KAFKA_ACL_PREFIX         "kafka-acl/"
#define KAFKA_ACL_MAX            100000u
#define KAFKA_ACL_TEXT_MAX_BYTES 1024u

#endif
