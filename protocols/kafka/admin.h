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

/* ---- texts -------------------------------------------------------------------------------------------------------------- */

/* printf into the call's arena; NULL slice when there is no room. */
struct mqg_slice kafka_text(struct kafka_call *c, const char *fmt, ...) MQG_PRINTF(2, 3);

#endif
