/* scram_api.c - DescribeUserScramCredentials, AlterUserScramCredentials (KIP-554): the verifiers of core/auth over the wire.
 *
 * A client sends a salted password, never the password: what is set here changes the one SCRAM credential and no other way in. A
 * user that is not there yet is made, without a password and tags, and may enter the vhost of the connection without any right
 * there: ACLs or an administrator give it some. A deletion takes the credential, not the user. */
#include "admin.h"

#include <mqgate/broker.h>
#include <mqgate/map.h>

#include <stdlib.h>

enum { SCRAM_ITERATIONS_MAX = 16384 }; /* as Kafka: its clients pay for them at each login */

/* Of the protocol: 1 SCRAM-SHA-256, 2 SCRAM-SHA-512. */
static bool scram_hash(int8_t mechanism, enum mqg_scram_hash *out)
{
    *out = mechanism == 2 ? MQG_SCRAM_SHA512 : MQG_SCRAM_SHA256;
    return mechanism == 1 || mechanism == 2;
}

/* ---- told ------------------------------------------------------------------------------------------------------------------- */

#define SCRAM_TOLD struct kafka_describe_user_scram_credentials_response_results

static bool scram_tell(struct kafka_call *c, struct mqg_slice user, SCRAM_TOLD *row)
{
    uint32_t iterations[MQG_SCRAM_COUNT] = {0};
    struct mqg_error e;
    row->user = user;
    row->credential_infos = kafka_call_alloc(c, MQG_SCRAM_COUNT, sizeof *row->credential_infos);
    enum mqg_err err = mqg_user_scram(user, iterations, &e);
    for (int i = 0; err == MQG_OK && row->credential_infos != NULL && i < MQG_SCRAM_COUNT; i++)
        if (iterations[i] > 0) {
            row->credential_infos[row->credential_infos_n].mechanism = (int8_t)(i == MQG_SCRAM_SHA512 ? 2
                                                                                                      : 1);
            row->credential_infos[row->credential_infos_n++].iterations = (int32_t)iterations[i];
        }
    return row->credential_infos_n > 0;
}

struct scram_users {
    struct kafka_call *call;
    SCRAM_TOLD *rows;
    int32_t n, max;
};

static void scram_count(void *arg, const struct mqg_user_info *u)
{
    (void)u;
    ((struct scram_users *)arg)->max++;
}

static void scram_list(void *arg, const struct mqg_user_info *u)
{
    struct scram_users *s = arg;
    if (s->n < s->max && scram_tell(s->call, kafka_call_dup(s->call, mqg_slice_str(u->name)), &s->rows[s->n]))
        s->n++;
}

static bool scram_tell_all(struct kafka_call *c)
{
    struct kafka_describe_user_scram_credentials_response *r = c->response;
    struct scram_users users = {.call = c};
    mqg_user_each(scram_count, &users);
    users.rows = r->results = kafka_call_alloc(c, (size_t)users.max + 1, sizeof *r->results);
    if (r->results == NULL)
        return false;
    mqg_user_each(scram_list, &users);
    r->results_n = users.n;
    return true;
}

static bool scram_asked_twice(const struct kafka_describe_user_scram_credentials_request *q, int32_t at)
{
    bool twice = false;
    for (int32_t i = 0; i < q->users_n && !twice; i++)
        twice = i != at && mqg_slice_eq(q->users[i].name, q->users[at].name);
    return twice;
}

static bool scram_tell_asked(struct kafka_call *c)
{
    const struct kafka_describe_user_scram_credentials_request *q = c->request;
    struct kafka_describe_user_scram_credentials_response *r = c->response;
    r->results = kafka_call_alloc(c, (size_t)q->users_n, sizeof *r->results);
    if (r->results == NULL)
        return false;
    for (int32_t i = 0; i < q->users_n; i++) {
        SCRAM_TOLD *row = &r->results[r->results_n++];
        if (scram_asked_twice(q, i)) {
            row->user = q->users[i].name;
            row->error_code = KAFKA_DUPLICATE_RESOURCE;
            row->error_message = kafka_text(
                c,
                "Cannot describe SCRAM credentials for the same user twice in a single "
                "request: %.*s",
                MQG_SLICE_FMT(row->user));
        } else if (!scram_tell(c, q->users[i].name, row)) {
            row->error_code = KAFKA_RESOURCE_NOT_FOUND;
            row->error_message = kafka_text(c,
                                            "Attempt to describe a user credential that does not exist: %.*s",
                                            MQG_SLICE_FMT(row->user));
        }
    }
    return true;
}

void kafka_describe_user_scram_credentials(struct kafka_call *c)
{
    const struct kafka_describe_user_scram_credentials_request *q = c->request;
    struct kafka_describe_user_scram_credentials_response *r = c->response;
    bool room = true;
    if (!kafka_permits_cluster(c->conn, KAFKA_OP_DESCRIBE))
        r->error_code = KAFKA_CLUSTER_AUTHORIZATION_FAILED;
    else
        room = q->users_n > 0 ? q->users_n <= 10000 && scram_tell_asked(c) : scram_tell_all(c);
    if (room)
        kafka_call_answer(c);
    else
        kafka_call_drop(c, "too many users");
}

/* ---- altered ------------------------------------------------------------------------------------------------------------------- */

/* There is such a user, or now there is. */
static enum mqg_err scram_user(struct kafka_conn *kc, struct mqg_slice name, struct kafka_durable *d,
                               struct mqg_error *e)
{
    uint32_t iterations[MQG_SCRAM_COUNT];
    uint64_t ticket = 0;
    const struct mqg_slice nothing = MQG_SLICE_LIT("");
    if (mqg_user_scram(name, iterations, e) == MQG_OK)
        return MQG_OK;
    enum mqg_err err = mqg_user_put(name, NULL, NULL, nothing, 0, &ticket, e);
    if (err != MQG_OK)
        return err;
    kafka_durable_meta(d, ticket);
    err = mqg_perm_put(name, mqg_vhost_name(kafka_vhost(kc)), nothing, nothing, nothing, &ticket, e);
    if (err == MQG_OK)
        kafka_durable_meta(d, ticket);
    return err;
}

static struct kafka_outcome scram_upsert(
    struct kafka_call *c, const struct kafka_alter_user_scram_credentials_request_upsertions *q,
    struct kafka_durable *d)
{
    enum mqg_scram_hash hash;
    struct mqg_error e;
    uint64_t ticket = 0;
    if (q->name.len == 0)
        return KAFKA_OUTCOME(c, KAFKA_UNACCEPTABLE_CREDENTIAL, "Username must not be empty");
    if (!scram_hash(q->mechanism, &hash))
        return KAFKA_OUTCOME(c, KAFKA_UNSUPPORTED_SASL_MECHANISM, "Unknown SCRAM mechanism");
    if (q->iterations > SCRAM_ITERATIONS_MAX)
        return KAFKA_OUTCOME(c, KAFKA_UNACCEPTABLE_CREDENTIAL, "Too many iterations");
    if (q->iterations < 4096)
        return KAFKA_OUTCOME(c, KAFKA_UNACCEPTABLE_CREDENTIAL, "Too few iterations");
    enum mqg_err err = scram_user(c->conn, q->name, d, &e);
    if (err == MQG_OK)
        err = mqg_user_scram_put(q->name, hash, (uint32_t)q->iterations, q->salt, q->salted_password, &ticket,
                                 &e);
    kafka_durable_meta(d, ticket);
    return err == MQG_OK ? KAFKA_OUTCOME_OK : kafka_outcome_of(c, KAFKA_UNACCEPTABLE_CREDENTIAL, &e);
}

static struct kafka_outcome scram_delete(struct kafka_call *c,
                                         const struct kafka_alter_user_scram_credentials_request_deletions *q,
                                         struct kafka_durable *d)
{
    enum mqg_scram_hash hash;
    struct mqg_error e;
    uint64_t ticket = 0;
    if (!scram_hash(q->mechanism, &hash))
        return KAFKA_OUTCOME(c, KAFKA_UNSUPPORTED_SASL_MECHANISM, "Unknown SCRAM mechanism");
    enum mqg_err err = mqg_user_scram_delete(q->name, hash, &ticket, &e);
    kafka_durable_meta(d, ticket);
    return err == MQG_OK ? KAFKA_OUTCOME_OK
                         : KAFKA_OUTCOME(c, KAFKA_RESOURCE_NOT_FOUND,
                                         "Attempt to delete a user credential that does not exist");
}

/* A user has one row in the answer, its first fault in it; who stands twice for one mechanism is refused. */
struct scram_alter {
    struct kafka_call *call;
    struct mqg_map rows; /* user -> row */
};

static struct kafka_alter_user_scram_credentials_response_results *scram_row(struct scram_alter *a,
                                                                             struct mqg_slice user)
{
    struct kafka_alter_user_scram_credentials_response *r = a->call->response;
    struct kafka_alter_user_scram_credentials_response_results *row = mqg_map_get(&a->rows, user);
    if (row != NULL)
        return row;
    row = &r->results[r->results_n++];
    row->user = user;
    mqg_map_set(&a->rows, user, row);
    return row;
}

static bool scram_is_twice(const struct kafka_alter_user_scram_credentials_request *q, struct mqg_slice user,
                           int8_t mechanism)
{
    int n = 0;
    for (int32_t i = 0; i < q->deletions_n; i++)
        n += q->deletions[i].mechanism == mechanism && mqg_slice_eq(q->deletions[i].name, user);
    for (int32_t i = 0; i < q->upsertions_n; i++)
        n += q->upsertions[i].mechanism == mechanism && mqg_slice_eq(q->upsertions[i].name, user);
    return n > 1;
}

static void scram_note(struct kafka_alter_user_scram_credentials_response_results *row,
                       struct kafka_outcome o)
{
    if (row->error_code != KAFKA_NONE)
        return;
    row->error_code = (int16_t)o.code;
    row->error_message = o.text;
}

static struct kafka_outcome scram_may(struct kafka_call *c, bool may, struct mqg_slice user, int8_t mechanism)
{
    if (!may)
        return KAFKA_OUTCOME(c, KAFKA_CLUSTER_AUTHORIZATION_FAILED, "Cluster authorization failed.");
    if (scram_is_twice(c->request, user, mechanism))
        return KAFKA_OUTCOME(c, KAFKA_DUPLICATE_RESOURCE,
                             "A user credential cannot be altered twice in the same request");
    return KAFKA_OUTCOME_OK;
}

static void scram_alter_all(struct scram_alter *a, bool may, struct kafka_durable *d)
{
    struct kafka_call *c = a->call;
    const struct kafka_alter_user_scram_credentials_request *q = c->request;
    for (int32_t i = 0; i < q->deletions_n; i++) {
        struct kafka_outcome o = scram_may(c, may, q->deletions[i].name, q->deletions[i].mechanism);
        scram_note(scram_row(a, q->deletions[i].name),
                   o.code == KAFKA_NONE ? scram_delete(c, &q->deletions[i], d) : o);
    }
    for (int32_t i = 0; i < q->upsertions_n; i++) {
        struct kafka_outcome o = scram_may(c, may, q->upsertions[i].name, q->upsertions[i].mechanism);
        scram_note(scram_row(a, q->upsertions[i].name),
                   o.code == KAFKA_NONE ? scram_upsert(c, &q->upsertions[i], d) : o);
    }
}

void kafka_alter_user_scram_credentials(struct kafka_call *c)
{
    const struct kafka_alter_user_scram_credentials_request *q = c->request;
    struct kafka_alter_user_scram_credentials_response *r = c->response;
    struct kafka_durable durable = {{0}};
    struct scram_alter a = {.call = c};
    size_t n = (q->deletions_n > 0 ? (size_t)q->deletions_n : 0) +
               (q->upsertions_n > 0 ? (size_t)q->upsertions_n : 0);
    r->results = n <= 10000 ? kafka_call_alloc(c, n + 1, sizeof *r->results) : NULL;
    if (r->results == NULL) {
        kafka_call_drop(c, "too many users");
        return;
    }
    mqg_map_init(&a.rows, MQG_MAP_BORROW);
    scram_alter_all(&a, kafka_permits_cluster(c->conn, KAFKA_OP_ALTER), &durable);
    mqg_map_fini(&a.rows);
    kafka_durable_answer(c, &durable);
}
