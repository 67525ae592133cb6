/* admin_configs.c - DescribeConfigs, AlterConfigs, IncrementalAlterConfigs.
 *
 * A topic's configuration can be told and altered; the broker's is mqgate.conf and can be told only. A value's source is the topic
 * when somebody set it there (over any protocol), the file when it comes from a setting that has another default, else the
 * default. There are no sensitive values among them. */
#include "admin.h"
#include "topic_conf.h"

#include <stdio.h>

enum { CONFIG_TOPIC = 2, CONFIG_BROKER = 4 };
enum { SOURCE_TOPIC = 1, SOURCE_FILE = 4, SOURCE_DEFAULT = 5 };
enum { CONFIG_SET, CONFIG_DELETE, CONFIG_APPEND, CONFIG_SUBTRACT };
enum { CONFIG_VALUE_MAX_BYTES = 4096, CONFIG_BATCH_DEFAULT = 1048588 };

/* ---- values ----------------------------------------------------------------------------------------------------------------- */

static struct mqg_slice config_number(struct kafka_call *c, uint64_t n)
{
    return kafka_text(c, "%llu", (unsigned long long)n);
}

/* Where nothing is set. */
static struct mqg_slice config_initial(struct kafka_call *c, int key)
{
    const char *initial = kafka_topic_keys[key].initial;
    return initial != NULL ? mqg_slice_str(initial) : config_number(c, kafka_settings.batch_max_bytes);
}

static int8_t config_initial_source(int key)
{
    bool given = kafka_topic_keys[key].initial == NULL &&
                 kafka_settings.batch_max_bytes != CONFIG_BATCH_DEFAULT;
    return given ? SOURCE_FILE : SOURCE_DEFAULT;
}

/* ---- told: topics --------------------------------------------------------------------------------------------------------------- */

#define CONFIG_ROW     struct kafka_describe_configs_response_results_configs
#define CONFIG_SYNONYM struct kafka_describe_configs_response_results_configs_synonyms

static bool config_synonyms(struct kafka_call *c, int key, const struct kafka_key_set *set, CONFIG_ROW *row)
{
    const struct kafka_topic_key *k = &kafka_topic_keys[key];
    CONFIG_SYNONYM *s = kafka_call_alloc(c, 2, sizeof *s);
    if (s == NULL)
        return false;
    if (set->value[key].ptr != NULL)
        s[row->synonyms_n++] = (CONFIG_SYNONYM){mqg_slice_str(k->name), set->value[key], SOURCE_TOPIC};
    if (k->synonym != NULL)
        s[row->synonyms_n++] = (CONFIG_SYNONYM){mqg_slice_str(k->synonym), config_initial(c, key),
                                                config_initial_source(key)};
    row->synonyms = s;
    return true;
}

static bool config_topic_row(struct kafka_call *c, int key, const struct kafka_key_set *set, CONFIG_ROW *row)
{
    const struct kafka_describe_configs_request *q = c->request;
    const struct kafka_topic_key *k = &kafka_topic_keys[key];
    bool is_set = set->value[key].ptr != NULL;
    *row = (CONFIG_ROW){.name = mqg_slice_str(k->name),
                        .value = is_set ? set->value[key] : config_initial(c, key),
                        .is_default = !is_set,
                        .config_source = is_set ? SOURCE_TOPIC : config_initial_source(key),
                        .config_type = (int8_t)k->type};
    if (q->include_documentation)
        row->documentation = mqg_slice_str(k->doc);
    return !q->include_synonyms || config_synonyms(c, key, set, row);
}

static bool config_asked(const struct kafka_describe_configs_request_resources *q, struct mqg_slice name)
{
    bool asked = q->configuration_keys_n <= 0;
    for (int32_t i = 0; i < q->configuration_keys_n && !asked; i++)
        asked = mqg_slice_eq(q->configuration_keys[i], name);
    return asked;
}

static struct kafka_outcome config_no_room(struct kafka_call *c)
{
    return KAFKA_OUTCOME(c, KAFKA_INVALID_REQUEST, "The answer would be too large.");
}

static struct kafka_outcome config_tell_topic(struct kafka_call *c,
                                              const struct kafka_describe_configs_request_resources *q,
                                              struct kafka_describe_configs_response_results *r)
{
    struct kafka_key_set set;
    if (!kafka_permits(c->conn, KAFKA_RESOURCE_TOPIC, q->resource_name, KAFKA_OP_DESCRIBE_CONFIGS))
        return KAFKA_OUTCOME(c, KAFKA_TOPIC_AUTHORIZATION_FAILED, "Topic authorization failed.");
    if (!kafka_topic_name_ok(q->resource_name))
        return KAFKA_OUTCOME(c, KAFKA_INVALID_TOPIC_EXCEPTION, "Topic name is invalid.");
    struct mqg_stream *s = kafka_admin_stream(c->conn, q->resource_name);
    if (s == NULL)
        return KAFKA_OUTCOME(c, KAFKA_UNKNOWN_TOPIC_OR_PARTITION,
                             "This server does not host this topic-partition.");
    kafka_topic_set(s, &c->arena, &set);
    mqg_stream_unref(&s);
    r->configs = kafka_call_alloc(c, KAFKA_KEYS, sizeof *r->configs);
    bool room = r->configs != NULL;
    for (int i = 0; i < KAFKA_KEYS && room; i++)
        if (config_asked(q, mqg_slice_str(kafka_topic_keys[i].name)))
            room = config_topic_row(c, i, &set, &r->configs[r->configs_n++]);
    return room ? KAFKA_OUTCOME_OK : config_no_room(c);
}

/* ---- told: the broker ------------------------------------------------------------------------------------------------------------ */

struct broker_row {
    const char *name;
    enum kafka_key_type type;
    const char *text; /* NULL: `number` */
    uint64_t number;
};

#define BROKER_ROWS 18

static void broker_rows(struct broker_row rows[BROKER_ROWS])
{
    const struct kafka_settings *s = &kafka_settings;
    const struct broker_row all[BROKER_ROWS] = {
        {"advertised.listeners", KAFKA_KEY_LIST, s->advertised, 0},
        {"auto.create.topics.enable", KAFKA_KEY_BOOLEAN, s->auto_create ? "true" : "false", 0},
        {"broker.id", KAFKA_KEY_INT, NULL, (uint64_t)s->broker_id},
        {"compression.type", KAFKA_KEY_STRING, "producer", 0},
        {"connections.max.idle.ms", KAFKA_KEY_LONG, NULL, s->idle_ms},
        {"default.replication.factor", KAFKA_KEY_INT, "1", 0},
        {"delete.topic.enable", KAFKA_KEY_BOOLEAN, "true", 0},
        {"fetch.max.bytes", KAFKA_KEY_INT, NULL, s->fetch_max_bytes},
        {"log.cleanup.policy", KAFKA_KEY_LIST, "delete", 0},
        {"log.message.timestamp.type", KAFKA_KEY_STRING, "CreateTime", 0},
        {"log.retention.bytes", KAFKA_KEY_LONG, "-1", 0},
        {"log.retention.ms", KAFKA_KEY_LONG, "-1", 0},
        {"message.max.bytes", KAFKA_KEY_INT, NULL, s->batch_max_bytes},
        {"min.insync.replicas", KAFKA_KEY_INT, "1", 0},
        {"node.id", KAFKA_KEY_INT, NULL, (uint64_t)s->broker_id},
        {"num.partitions", KAFKA_KEY_INT, NULL, s->partitions},
        {"sasl.enabled.mechanisms", KAFKA_KEY_LIST, "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512", 0},
        {"socket.request.max.bytes", KAFKA_KEY_INT, NULL, s->request_max_bytes},
    };
    memcpy(rows, all, sizeof all);
}

/* "" means what holds for all brokers: nothing is set there. */
static struct kafka_outcome config_tell_broker(struct kafka_call *c,
                                               const struct kafka_describe_configs_request_resources *q,
                                               struct kafka_describe_configs_response_results *r)
{
    struct broker_row rows[BROKER_ROWS];
    char id[16];
    snprintf(id, sizeof id, "%d", kafka_settings.broker_id);
    if (!kafka_permits_cluster(c->conn, KAFKA_OP_DESCRIBE_CONFIGS))
        return KAFKA_OUTCOME(c, KAFKA_CLUSTER_AUTHORIZATION_FAILED, "Cluster authorization failed.");
    if (q->resource_name.len == 0)
        return KAFKA_OUTCOME_OK;
    if (!mqg_slice_eq(q->resource_name, mqg_slice_str(id)))
        return KAFKA_OUTCOME(c, KAFKA_INVALID_REQUEST,
                             "Unexpected broker id, expected %s or empty string, but received %.*s", id,
                             MQG_SLICE_FMT(q->resource_name));
    r->configs = kafka_call_alloc(c, BROKER_ROWS, sizeof *r->configs);
    if (r->configs == NULL)
        return config_no_room(c);
    broker_rows(rows);
    for (size_t i = 0; i < BROKER_ROWS; i++)
        if (config_asked(q, mqg_slice_str(rows[i].name)))
            r->configs[r->configs_n++] = (CONFIG_ROW){.name = mqg_slice_str(rows[i].name),
                                                      .value = rows[i].text != NULL
                                                                   ? mqg_slice_str(rows[i].text)
                                                                   : config_number(c, rows[i].number),
                                                      .read_only = true,
                                                      .config_source = SOURCE_FILE,
                                                      .config_type = (int8_t)rows[i].type};
    return KAFKA_OUTCOME_OK;
}

static struct kafka_outcome config_tell(struct kafka_call *c,
                                        const struct kafka_describe_configs_request_resources *q,
                                        struct kafka_describe_configs_response_results *r)
{
    if (q->resource_type == CONFIG_TOPIC)
        return config_tell_topic(c, q, r);
    if (q->resource_type == CONFIG_BROKER)
        return config_tell_broker(c, q, r);
    return KAFKA_OUTCOME(c, KAFKA_INVALID_REQUEST, "Unsupported resource type: %d", q->resource_type);
}

void kafka_describe_configs(struct kafka_call *c)
{
    const struct kafka_describe_configs_request *q = c->request;
    struct kafka_describe_configs_response *r = c->response;
    size_t n = q->resources_n > 0 ? (size_t)q->resources_n : 0;
    r->results = kafka_call_alloc(c, n + 1, sizeof *r->results);
    if (r->results == NULL) {
        kafka_call_drop(c, "too many resources");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        struct kafka_describe_configs_response_results *row = &r->results[r->results_n++];
        row->resource_type = q->resources[i].resource_type;
        row->resource_name = q->resources[i].resource_name;
        struct kafka_outcome o = config_tell(c, &q->resources[i], row);
        row->error_code = (int16_t)o.code;
        row->error_message = o.text;
    }
    kafka_call_answer(c);
}

void kafka_admin_created(struct kafka_call *c, struct mqg_slice name, uint32_t partitions,
                         const struct kafka_key_set *set, struct kafka_create_topics_response_topics *r)
{
    if (!kafka_permits(c->conn, KAFKA_RESOURCE_TOPIC, name, KAFKA_OP_DESCRIBE_CONFIGS)) {
        r->topic_config_error_code = KAFKA_TOPIC_AUTHORIZATION_FAILED;
        return;
    }
    r->num_partitions = (int32_t)partitions;
    r->replication_factor = 1;
    r->configs = c->head.version >= 5 ? kafka_call_alloc(c, KAFKA_KEYS, sizeof *r->configs) : NULL;
    r->configs_n = 0;
    for (int i = 0; r->configs != NULL && i < KAFKA_KEYS; i++) {
        bool is_set = set->value[i].ptr != NULL;
        r->configs[r->configs_n++] = (struct kafka_create_topics_response_topics_configs){
            .name = mqg_slice_str(kafka_topic_keys[i].name),
            .value = is_set ? set->value[i] : config_initial(c, i),
            .config_source = is_set ? SOURCE_TOPIC : config_initial_source(i)};
    }
}

/* ---- altered ---------------------------------------------------------------------------------------------------------------------- */

/* One key to change, of either request. */
struct change {
    struct mqg_slice name, value;
    int8_t how;
};

/* The list with the words of `value` added or taken away. */
static struct mqg_slice config_merge(struct kafka_call *c, struct mqg_slice list, struct mqg_slice value,
                                     bool add)
{
    struct mqg_dynbuf out;
    struct mqg_slice result;
    mqg_dynbuf_init(&out, 2 * (CONFIG_VALUE_MAX_BYTES + 1));
    for (int from = 0; from < (add ? 2 : 1); from++) {
        struct mqg_slice left = from == 0 ? list : value, part;
        while (kafka_key_word(&left, &part)) {
            struct mqg_slice other = from == 0 ? value : list;
            bool both = kafka_key_contains(other, part);
            if (part.len == 0 || (both && (from == 1 || !add)))
                continue;
            if (out.len > 0)
                mqg_dynbuf_u8(&out, ',');
            mqg_dynbuf_slice(&out, part);
        }
    }
    result = out.failed ? value : kafka_call_dup(c, mqg_dynbuf_view(&out));
    mqg_dynbuf_fini(&out);
    return result.ptr != NULL ? result : MQG_SLICE_LIT("");
}

static struct kafka_outcome config_change(struct kafka_call *c, const struct change *ch,
                                          struct kafka_key_set *set)
{
    struct mqg_error e;
    int key = kafka_key_find(ch->name);
    struct mqg_slice value = ch->value;
    if (key < 0)
        return KAFKA_OUTCOME(c, KAFKA_INVALID_CONFIG, "Unknown topic config name: %.*s",
                             MQG_SLICE_FMT(ch->name));
    if (ch->how == CONFIG_DELETE) {
        set->value[key] = MQG_SLICE_NONE;
        return KAFKA_OUTCOME_OK;
    }
    if (value.ptr == NULL)
        return KAFKA_OUTCOME(c, KAFKA_INVALID_REQUEST, "Null value not supported for topic configs: %.*s",
                             MQG_SLICE_FMT(ch->name));
    if (ch->how != CONFIG_SET && ch->how != CONFIG_APPEND && ch->how != CONFIG_SUBTRACT)
        return KAFKA_OUTCOME(c, KAFKA_INVALID_REQUEST, "Unknown operation type %d", ch->how);
    if (ch->how != CONFIG_SET && kafka_topic_keys[key].type != KAFKA_KEY_LIST)
        return KAFKA_OUTCOME(c, KAFKA_INVALID_CONFIG, "Can't %s to key %.*s because its type is not LIST.",
                             ch->how == CONFIG_APPEND ? "APPEND" : "SUBTRACT", MQG_SLICE_FMT(ch->name));
    if (ch->how != CONFIG_SET)
        value = config_merge(c, set->value[key].ptr != NULL ? set->value[key] : config_initial(c, key), value,
                             ch->how == CONFIG_APPEND);
    if (value.len > CONFIG_VALUE_MAX_BYTES)
        return KAFKA_OUTCOME(c, KAFKA_INVALID_CONFIG, "The value of %.*s is too long",
                             MQG_SLICE_FMT(ch->name));
    if (!kafka_key_check(key, value, &e))
        return kafka_outcome_of(c, KAFKA_INVALID_CONFIG, &e);
    set->value[key] = value;
    return KAFKA_OUTCOME_OK;
}

struct alteration {
    struct kafka_call *call;
    struct mqg_slice name;
    const struct change *changes;
    size_t n;
    bool whole; /* what is not named goes back to its default */
    bool validate_only;
    struct kafka_durable *durable;
};

static struct kafka_outcome config_put(const struct alteration *a, struct mqg_stream *s)
{
    struct kafka_outcome o = KAFKA_OUTCOME_OK;
    struct kafka_key_set set = {.value = {MQG_SLICE_NONE}};
    struct mqg_error e;
    uint64_t ticket = 0;
    if (!a->whole)
        kafka_topic_set(s, &a->call->arena, &set);
    for (size_t i = 0; i < a->n && o.code == KAFKA_NONE; i++)
        o = config_change(a->call, &a->changes[i], &set);
    if (o.code != KAFKA_NONE || a->validate_only)
        return o;
    struct mqg_session *node = mqg_session_internal(kafka_vhost(a->call->conn));
    enum mqg_err err = kafka_topic_put(node, s, &set, &ticket, &e);
    mqg_session_unref(&node);
    kafka_durable_meta(a->durable, ticket);
    return err == MQG_OK ? o
                         : kafka_outcome_of(
                               a->call, err == MQG_INVALID ? KAFKA_INVALID_CONFIG : kafka_error_of(err), &e);
}

static bool config_twice(const struct alteration *a)
{
    for (size_t i = 0; i < a->n; i++)
        for (size_t k = 0; k < i; k++)
            if (mqg_slice_eq(a->changes[i].name, a->changes[k].name))
                return true;
    return false;
}

static struct kafka_outcome config_alter(const struct alteration *a, int8_t type)
{
    struct kafka_call *c = a->call;
    if (type == CONFIG_BROKER)
        return kafka_permits_cluster(c->conn, KAFKA_OP_ALTER_CONFIGS)
                   ? KAFKA_OUTCOME(c, KAFKA_INVALID_REQUEST,
                                   "The broker's configuration is mqgate.conf; it is not altered here.")
                   : KAFKA_OUTCOME(c, KAFKA_CLUSTER_AUTHORIZATION_FAILED, "Cluster authorization failed.");
    if (type != CONFIG_TOPIC)
        return KAFKA_OUTCOME(c, KAFKA_INVALID_REQUEST, "Unsupported resource type: %d", type);
    if (!kafka_permits(c->conn, KAFKA_RESOURCE_TOPIC, a->name, KAFKA_OP_ALTER_CONFIGS))
        return KAFKA_OUTCOME(c, KAFKA_TOPIC_AUTHORIZATION_FAILED, "Topic authorization failed.");
    if (a->n > KAFKA_KEYS || config_twice(a))
        return KAFKA_OUTCOME(c, KAFKA_INVALID_REQUEST, "Error due to duplicate config keys");
    struct mqg_stream *s = kafka_admin_stream(c->conn, a->name);
    if (s == NULL)
        return KAFKA_OUTCOME(c, KAFKA_UNKNOWN_TOPIC_OR_PARTITION, "The topic '%.*s' does not exist.",
                             MQG_SLICE_FMT(a->name));
    kafka_topic_conf_lock();
    struct kafka_outcome o = config_put(a, s);
    kafka_topic_conf_unlock();
    mqg_stream_unref(&s);
    return o;
}

/* The changes of a resource; NULL: no room. */
static struct change *config_changes(struct kafka_call *c, int32_t n)
{
    return kafka_call_alloc(c, n > 0 ? (size_t)n + 1 : 1, sizeof(struct change));
}

void kafka_alter_configs(struct kafka_call *c)
{
    const struct kafka_alter_configs_request *q = c->request;
    struct kafka_alter_configs_response *r = c->response;
    struct kafka_durable durable = {{0}};
    size_t n = q->resources_n > 0 ? (size_t)q->resources_n : 0;
    r->responses = kafka_call_alloc(c, n + 1, sizeof *r->responses);
    for (size_t i = 0; r->responses != NULL && i < n; i++) {
        const struct kafka_alter_configs_request_resources *in = &q->resources[i];
        struct change *changes = config_changes(c, in->configs_n);
        struct alteration a = {c, in->resource_name, changes, 0, true, q->validate_only, &durable};
        for (int32_t k = 0; changes != NULL && k < in->configs_n; k++)
            changes[a.n++] = (struct change){in->configs[k].name, in->configs[k].value,
                                             in->configs[k].value.ptr == NULL ? CONFIG_DELETE : CONFIG_SET};
        struct kafka_outcome o = changes == NULL ? config_no_room(c) : config_alter(&a, in->resource_type);
        r->responses[r->responses_n++] = (struct kafka_alter_configs_response_responses){
            (int16_t)o.code, o.text, in->resource_type, in->resource_name};
    }
    kafka_durable_answer(c, &durable);
}

void kafka_incremental_alter_configs(struct kafka_call *c)
{
    const struct kafka_incremental_alter_configs_request *q = c->request;
    struct kafka_incremental_alter_configs_response *r = c->response;
    struct kafka_durable durable = {{0}};
    size_t n = q->resources_n > 0 ? (size_t)q->resources_n : 0;
    r->responses = kafka_call_alloc(c, n + 1, sizeof *r->responses);
    for (size_t i = 0; r->responses != NULL && i < n; i++) {
        const struct kafka_incremental_alter_configs_request_resources *in = &q->resources[i];
        struct change *changes = config_changes(c, in->configs_n);
        struct alteration a = {c, in->resource_name, changes, 0, false, q->validate_only, &durable};
        for (int32_t k = 0; changes != NULL && k < in->configs_n; k++)
            changes[a.n++] = (struct change){in->configs[k].name, in->configs[k].value,
                                             in->configs[k].config_operation};
        struct kafka_outcome o = changes == NULL ? config_no_room(c) : config_alter(&a, in->resource_type);
        r->responses[r->responses_n++] = (struct kafka_incremental_alter_configs_response_responses){
            (int16_t)o.code, o.text, in->resource_type, in->resource_name};
    }
    kafka_durable_answer(c, &durable);
}
