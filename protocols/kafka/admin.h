/* admin.h - what the administrative parts share: topics and their configuration, logins, ACLs, quotas. */
#ifndef KAFKA_ADMIN_H
#define KAFKA_ADMIN_H

#include "acl.h"
#include "kafka.h"

extern const struct kafka_part kafka_admin_part, kafka_sasl_part, kafka_acl_part, kafka_quota_part;

/* Rows of the configuration, section [kafka]; module.c's table names them. */
#define KAFKA_ADMIN_CONF_ROWS                                                                              \
    {"kafka",                                                                                              \
     "super_users",                                                                                        \
     MQG_CONF_STR,                                                                                         \
     "",                                                                                                   \
     0,                                                                                                    \
     0,                                                                                                    \
     NULL,                                                                                                 \
     "users, separated by commas, who may do everything over Kafka, as administrators may"},               \
    {                                                                                                      \
        "kafka", "sasl_lifetime", MQG_CONF_DURATION, "0", 0, INT64_MAX, NULL,                              \
            "how long a login over SASL is good until the client must log in again; 0: for ever (KIP-368)" \
    }

/* Is it one of kafka.super_users? */
bool kafka_admin_is_super(struct mqg_slice user);
/* Forgets what the connection's principal may do (permit.c). */
void kafka_permit_conn_fini(struct kafka_conn *kc);

/* ---- answering when it is durable (durable.c) --------------------------------------------------------------------- */

/* The newest tickets of what a request did, per store. All zero: nothing. */
struct kafka_durable {
    uint64_t ticket[MQG_STORES_MAX];
};
void kafka_durable_note(struct kafka_durable *d, const struct mqg_storage *s, uint64_t ticket);
/* Metadata: on the default store. */
void kafka_durable_meta(struct kafka_durable *d, uint64_t ticket);
/* Answers c once all of it is durable: at once when it is. The struct is copied. */
void kafka_durable_answer(struct kafka_call *c, const struct kafka_durable *d);

/* ---- outcomes ----------------------------------------------------------------------------------------------------------- */

/* Of one row of a request; text NULL: the code alone. */
struct kafka_outcome {
    enum kafka_error code;
    struct mqg_slice text;
};
#define KAFKA_OUTCOME_OK            ((struct kafka_outcome){.code = KAFKA_NONE})
#define KAFKA_OUTCOME(c, code, ...) ((struct kafka_outcome){(code), kafka_text((c), __VA_ARGS__)})
static inline struct kafka_outcome kafka_outcome_of(struct kafka_call *c, enum kafka_error code,
                                                    const struct mqg_error *e);

/* ---- handlers that stand in the table of admin.c --------------------------------------------------------------------------- */

void kafka_create_topics(struct kafka_call *c);
void kafka_delete_topics(struct kafka_call *c);
void kafka_create_partitions(struct kafka_call *c);
void kafka_delete_records(struct kafka_call *c);
void kafka_describe_log_dirs(struct kafka_call *c);
void kafka_describe_configs(struct kafka_call *c);
void kafka_alter_configs(struct kafka_call *c);
void kafka_incremental_alter_configs(struct kafka_call *c);
void kafka_describe_user_scram_credentials(struct kafka_call *c);
void kafka_alter_user_scram_credentials(struct kafka_call *c);

/* The stream of that name, with a reference, whoever asks; NULL: none. */
struct mqg_stream *kafka_admin_stream(struct kafka_conn *kc, struct mqg_slice name);
/* Tells in a row of CreateTopics how the topic was made (KIP-525). */
struct kafka_key_set;
void kafka_admin_created(struct kafka_call *c, struct mqg_slice name, uint32_t partitions,
                         const struct kafka_key_set *set, struct kafka_create_topics_response_topics *r);

/* ---- texts -------------------------------------------------------------------------------------------------------------- */

/* printf into the call's arena; NULL slice when there is no room. */
struct mqg_slice kafka_text(struct kafka_call *c, const char *fmt, ...) MQG_PRINTF(2, 3);

static inline struct kafka_outcome kafka_outcome_of(struct kafka_call *c, enum kafka_error code,
                                                    const struct mqg_error *e)
{
    return KAFKA_OUTCOME(c, code, "%s", e->text);
}

#endif
