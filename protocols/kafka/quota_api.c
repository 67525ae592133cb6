/* quota_api.c - DescribeClientQuotas, AlterClientQuotas (KIP-546), and what Produce and Fetch ask.
 *
 * producer_byte_rate and consumer_byte_rate are what is enforced. Other keys (request_percentage, controller_mutation_rate, rates of
 * connections by address) are refused: a quota that is shown and does nothing would be a lie. */
#include "quota.h"

#include "admin.h"

#include <mqgate/lanes.h>

#include <pthread.h>

static pthread_mutex_t quota_change = PTHREAD_MUTEX_INITIALIZER; /* record and table, one order */
static const char *const quota_keys[KAFKA_QUOTA_KINDS] = {"producer_byte_rate", "consumer_byte_rate"};

uint32_t kafka_quota(struct kafka_conn *kc, enum kafka_quota_kind kind, uint64_t bytes)
{
    if (MQG_LIKELY(kafka_quota_count() == 0))
        return 0;
    return kafka_quota_take(mqg_slice_str(kc->session->user), mqg_dynbuf_view(&kc->client_id), kind, bytes,
                            mqg_clock_mono_us());
}

/* ---- told -------------------------------------------------------------------------------------------------------------------- */

enum { MATCH_EXACT, MATCH_DEFAULT, MATCH_ANY };

struct quota_ask {
    struct kafka_call *call;
    bool has_user, has_client, strict;
    int8_t user_match, client_match;
    struct mqg_slice user, client;
    size_t max;
    bool no_room;
};

static bool ask_part(bool asked, int8_t match, struct mqg_slice wanted, enum kafka_quota_part part,
                     struct mqg_slice name, bool strict)
{
    if (!asked)
        return !strict || part == KAFKA_PART_NONE;
    if (match == MATCH_DEFAULT)
        return part == KAFKA_PART_DEFAULT;
    if (match == MATCH_EXACT)
        return part == KAFKA_PART_NAMED && mqg_slice_eq(wanted, name);
    return part != KAFKA_PART_NONE;
}

#define QUOTA_ENTRY  struct kafka_describe_client_quotas_response_entries
#define QUOTA_ENTITY struct kafka_describe_client_quotas_response_entries_entity
#define QUOTA_VALUE  struct kafka_describe_client_quotas_response_entries_values

static void entry_part(struct kafka_call *c, QUOTA_ENTRY *entry, const char *type, enum kafka_quota_part part,
                       struct mqg_slice name)
{
    if (part == KAFKA_PART_NONE)
        return;
    entry->entity[entry->entity_n++] = (QUOTA_ENTITY){
        mqg_slice_str(type), part == KAFKA_PART_NAMED ? kafka_call_dup(c, name) : MQG_SLICE_NONE};
}

static void quota_tell(void *arg, const struct kafka_quota_entity *e, const struct kafka_quota_values *v)
{
    struct quota_ask *ask = arg;
    struct kafka_describe_client_quotas_response *r = ask->call->response;
    if ((size_t)r->entries_n == ask->max ||
        !ask_part(ask->has_user, ask->user_match, ask->user, e->user, e->user_name, ask->strict) ||
        !ask_part(ask->has_client, ask->client_match, ask->client, e->client, e->client_name, ask->strict))
        return;
    QUOTA_ENTRY *entry = &r->entries[r->entries_n];
    entry->entity = kafka_call_alloc(ask->call, 2, sizeof *entry->entity);
    entry->values = kafka_call_alloc(ask->call, KAFKA_QUOTA_KINDS, sizeof *entry->values);
    ask->no_room = ask->no_room || entry->entity == NULL || entry->values == NULL;
    if (ask->no_room)
        return;
    r->entries_n++;
    entry_part(ask->call, entry, "user", e->user, e->user_name);
    entry_part(ask->call, entry, "client-id", e->client, e->client_name);
    for (int i = 0; i < KAFKA_QUOTA_KINDS; i++)
        if (v->set[i])
            entry->values[entry->values_n++] = (QUOTA_VALUE){mqg_slice_str(quota_keys[i]), v->rate[i]};
}

static struct kafka_outcome ask_read(struct kafka_call *c, struct quota_ask *ask)
{
    const struct kafka_describe_client_quotas_request *q = c->request;
    *ask = (struct quota_ask){.call = c, .strict = q->strict};
    for (int32_t i = 0; i < q->components_n; i++) {
        const struct kafka_describe_client_quotas_request_components *part = &q->components[i];
        bool user = mqg_slice_eq(part->entity_type, MQG_SLICE_LIT("user"));
        if (!user && !mqg_slice_eq(part->entity_type, MQG_SLICE_LIT("client-id")))
            return KAFKA_OUTCOME(c, KAFKA_UNSUPPORTED_VERSION, "Custom entity type '%.*s' not supported",
                                 MQG_SLICE_FMT(part->entity_type));
        if (part->match_type < MATCH_EXACT || part->match_type > MATCH_ANY ||
            (part->match_type == MATCH_EXACT) != (part->match.ptr != NULL))
            return KAFKA_OUTCOME(c, KAFKA_INVALID_REQUEST, "Unexpected match type or match");
        if (user ? ask->has_user : ask->has_client)
            return KAFKA_OUTCOME(c, KAFKA_INVALID_REQUEST, "Duplicate filter component entity type '%.*s'",
                                 MQG_SLICE_FMT(part->entity_type));
        *(user ? &ask->has_user : &ask->has_client) = true;
        *(user ? &ask->user_match : &ask->client_match) = part->match_type;
        *(user ? &ask->user : &ask->client) = part->match;
    }
    return KAFKA_OUTCOME_OK;
}

static void quota_describe(struct kafka_call *c)
{
    struct kafka_describe_client_quotas_response *r = c->response;
    struct quota_ask ask;
    struct kafka_outcome o = kafka_permits_cluster(c->conn, KAFKA_OP_DESCRIBE_CONFIGS)
                                 ? ask_read(c, &ask)
                                 : KAFKA_OUTCOME(c, KAFKA_CLUSTER_AUTHORIZATION_FAILED,
                                                 "Cluster authorization failed.");
    if (o.code != KAFKA_NONE) {
        r->error_code = (int16_t)o.code;
        r->error_message = o.text;
        r->entries_n = -1;
        kafka_call_answer(c);
        return;
    }
    ask.max = kafka_quota_count();
    r->entries = kafka_call_alloc(c, ask.max + 1, sizeof *r->entries);
    ask.no_room = r->entries == NULL;
    r->entries_n = 0;
    if (!ask.no_room)
        kafka_quota_each(quota_tell, &ask);
    if (ask.no_room)
        kafka_call_drop(c, "too many quotas for one answer");
    else
        kafka_call_answer(c);
}

/* ---- altered -------------------------------------------------------------------------------------------------------------------- */

#define QUOTA_ALTER struct kafka_alter_client_quotas_request_entries

static struct kafka_outcome entity_part(struct kafka_call *c, struct mqg_slice name,
                                        enum kafka_quota_part *part, struct mqg_slice *out)
{
    if (*part != KAFKA_PART_NONE)
        return KAFKA_OUTCOME(c, KAFKA_INVALID_REQUEST, "Duplicate entity type in entity");
    if (name.ptr != NULL && (name.len == 0 || name.len > KAFKA_QUOTA_NAME_MAX_BYTES))
        return KAFKA_OUTCOME(c, KAFKA_INVALID_REQUEST, "An entity's name is empty or longer than %u bytes",
                             KAFKA_QUOTA_NAME_MAX_BYTES);
    *part = name.ptr != NULL ? KAFKA_PART_NAMED : KAFKA_PART_DEFAULT;
    *out = name.ptr != NULL ? name : MQG_SLICE_NONE;
    return KAFKA_OUTCOME_OK;
}

static struct kafka_outcome entity_read(struct kafka_call *c, const QUOTA_ALTER *q,
                                        struct kafka_quota_entity *e)
{
    struct kafka_outcome o = KAFKA_OUTCOME_OK;
    *e = (struct kafka_quota_entity){KAFKA_PART_NONE, KAFKA_PART_NONE, MQG_SLICE_NONE, MQG_SLICE_NONE};
    for (int32_t i = 0; i < q->entity_n && o.code == KAFKA_NONE; i++) {
        struct mqg_slice type = q->entity[i].entity_type;
        if (mqg_slice_eq(type, MQG_SLICE_LIT("user")))
            o = entity_part(c, q->entity[i].entity_name, &e->user, &e->user_name);
        else if (mqg_slice_eq(type, MQG_SLICE_LIT("client-id")))
            o = entity_part(c, q->entity[i].entity_name, &e->client, &e->client_name);
        else
            o = KAFKA_OUTCOME(c, KAFKA_INVALID_REQUEST, "Unhandled client quota entity type: %.*s",
                              MQG_SLICE_FMT(type));
    }
    if (o.code == KAFKA_NONE && e->user == KAFKA_PART_NONE && e->client == KAFKA_PART_NONE)
        o = KAFKA_OUTCOME(c, KAFKA_INVALID_REQUEST, "Invalid empty client quota entity");
    return o;
}

static struct kafka_outcome ops_apply(struct kafka_call *c, const QUOTA_ALTER *q,
                                      struct kafka_quota_values *v)
{
    for (int32_t i = 0; i < q->ops_n; i++) {
        int kind = 0;
        while (kind < KAFKA_QUOTA_KINDS && !mqg_slice_eq(q->ops[i].key, mqg_slice_str(quota_keys[kind])))
            kind++;
        if (kind == KAFKA_QUOTA_KINDS)
            return KAFKA_OUTCOME(
                c, KAFKA_INVALID_REQUEST,
                "Quota key %.*s is not enforced here: producer_byte_rate and consumer_byte_rate are",
                MQG_SLICE_FMT(q->ops[i].key));
        v->set[kind] = !q->ops[i].remove;
        if (!v->set[kind])
            continue;
        v->rate[kind] = q->ops[i].value;
        bool sane = v->rate[kind] >= 1 &&
                    v->rate[kind] < 1e18; /* a conversion beyond uint64_t is undefined */
        if (!sane || (double)(uint64_t)v->rate[kind] != v->rate[kind])
            return KAFKA_OUTCOME(c, KAFKA_INVALID_REQUEST, "Quota %s must be a whole number greater than 0",
                                 quota_keys[kind]);
    }
    return KAFKA_OUTCOME_OK;
}

static uint64_t quota_record(const struct kafka_quota_entity *e, const struct kafka_quota_values *v)
{
    struct mqg_dynbuf key, value;
    mqg_dynbuf_init(&key, 2048);
    mqg_dynbuf_init(&value, 2048);
    kafka_quota_key(&key, e);
    kafka_quota_encode(&value, e, v);
    MQG_ASSERT(!key.failed && !value.failed); /* names were measured */
    bool any = v->set[KAFKA_QUOTA_PRODUCE] || v->set[KAFKA_QUOTA_FETCH];
    uint64_t ticket = any ? mqg_meta_put(mqg_dynbuf_view(&key), mqg_dynbuf_view(&value))
                          : mqg_meta_remove(mqg_dynbuf_view(&key));
    mqg_dynbuf_fini(&key);
    mqg_dynbuf_fini(&value);
    return ticket;
}

static struct kafka_outcome quota_set(struct kafka_call *c, const QUOTA_ALTER *q, struct kafka_durable *d)
{
    const struct kafka_alter_client_quotas_request *request = c->request;
    struct kafka_quota_entity e;
    struct kafka_quota_values v;
    struct kafka_outcome o = entity_read(c, q, &e);
    if (o.code != KAFKA_NONE)
        return o;
    pthread_mutex_lock(&quota_change);
    bool there = kafka_quota_get(&e, &v);
    o = ops_apply(c, q, &v);
    if (o.code == KAFKA_NONE && !there && kafka_quota_count() >= KAFKA_QUOTA_MAX)
        o = KAFKA_OUTCOME(c, KAFKA_INVALID_REQUEST, "There are too many quotas");
    if (o.code == KAFKA_NONE && !request->validate_only) {
        kafka_durable_meta(d, quota_record(&e, &v));
        kafka_quota_put(&e, &v);
    }
    pthread_mutex_unlock(&quota_change);
    return o;
}

/* The entity of the question, in the answer's form. */
static void alter_entity(struct kafka_call *c, const QUOTA_ALTER *q,
                         struct kafka_alter_client_quotas_response_entries *row)
{
    size_t n = q->entity_n > 0 ? (size_t)q->entity_n : 0;
    row->entity = kafka_call_alloc(c, n + 1, sizeof *row->entity);
    for (size_t i = 0; row->entity != NULL && i < n; i++) {
        row->entity[i].entity_type = q->entity[i].entity_type;
        row->entity[i].entity_name = q->entity[i].entity_name;
        row->entity_n++;
    }
}

static void quota_alter(struct kafka_call *c)
{
    const struct kafka_alter_client_quotas_request *q = c->request;
    struct kafka_alter_client_quotas_response *r = c->response;
    struct kafka_durable durable = {{0}};
    size_t n = q->entries_n > 0 ? (size_t)q->entries_n : 0;
    bool may = kafka_permits_cluster(c->conn, KAFKA_OP_ALTER_CONFIGS);
    r->entries = kafka_call_alloc(c, n + 1, sizeof *r->entries);
    if (r->entries == NULL) {
        kafka_call_drop(c, "too many quotas");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        struct kafka_outcome o = may ? quota_set(c, &q->entries[i], &durable)
                                     : KAFKA_OUTCOME(c, KAFKA_CLUSTER_AUTHORIZATION_FAILED,
                                                     "Cluster authorization failed.");
        struct kafka_alter_client_quotas_response_entries *row = &r->entries[r->entries_n++];
        row->error_code = (int16_t)o.code;
        row->error_message = o.text;
        alter_entity(c, &q->entries[i], row);
    }
    kafka_durable_answer(c, &durable);
}

/* ---- the part ------------------------------------------------------------------------------------------------------------------- */

static void quota_recover(struct mqg_slice key, struct mqg_slice value)
{
    struct kafka_quota_entity e;
    struct kafka_quota_values v;
    enum mqg_err err = kafka_quota_decode(value, &e, &v);
    if (err == MQG_OK)
        kafka_quota_put(&e, &v);
    else
        mqg_log(MQG_LOG_ERROR, MQG_EVENT_CORRUPTION, "what=quota key=%s err=%s", mqg_logq(key),
                mqg_err_name(err));
}

static enum mqg_err quota_load(const struct mqg_conf *conf, struct mqg_error *e)
{
    (void)conf;
    (void)e;
    mqg_meta_on_recover(KAFKA_QUOTA_PREFIX, quota_recover, NULL);
    return MQG_OK;
}

static const struct kafka_api quota_apis[] = {
    {KAFKA_API_DESCRIBE_CLIENT_QUOTAS, 0, 1, 0, quota_describe},
    {KAFKA_API_ALTER_CLIENT_QUOTAS, 0, 1, 0, quota_alter},
    {.key = -1},
};

const struct kafka_part kafka_quota_part = {
    .name = "quota", .apis = quota_apis, .load = quota_load, .unload = kafka_quota_clear};
