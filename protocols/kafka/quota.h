/* quota.h - how many bytes per second a user or a client may produce and fetch (KIP-13, KIP-55, KIP-124's throttling, KIP-219).
 *
 * A quota stands on a user, a client id, both, or what has no quota of its own (the defaults). The most particular one holds, in
 * Kafka's order. Whoever is over it is answered at once, told so as throttle_time_ms, and not read from for that long. */
#ifndef KAFKA_QUOTA_H
#define KAFKA_QUOTA_H

#include <mqgate/base.h>

struct kafka_conn;

enum kafka_quota_kind { KAFKA_QUOTA_PRODUCE, KAFKA_QUOTA_FETCH, KAFKA_QUOTA_KINDS };

/* Counts bytes against the connection's quota: the milliseconds to tell as throttle_time_ms, and to mute for by
 * kafka_conn_mute(kc, ms), after the answer was given. 0: within it, or there is none. One load where nobody has a quota. */
uint32_t kafka_quota(struct kafka_conn *kc, enum kafka_quota_kind kind, uint64_t bytes);

/* ---- the table (quota.c); any thread ------------------------------------------------------------------------------------- */

enum kafka_quota_part { KAFKA_PART_NONE, KAFKA_PART_DEFAULT, KAFKA_PART_NAMED };

struct kafka_quota_entity {
    enum kafka_quota_part user, client;
    struct mqg_slice user_name, client_name; /* NAMED */
};

struct kafka_quota_values {
    bool set[KAFKA_QUOTA_KINDS];
    double rate[KAFKA_QUOTA_KINDS]; /* bytes per second */
};

#define KAFKA_QUOTA_NAME_MAX_BYTES 255u
#define KAFKA_QUOTA_MAX            10000u
#define KAFKA_QUOTA_PREFIX         "kafka-quota/"

/* Nothing set: forgotten. */
void kafka_quota_put(const struct kafka_quota_entity *e, const struct kafka_quota_values *v);
bool kafka_quota_get(const struct kafka_quota_entity *e, struct kafka_quota_values *v);
size_t kafka_quota_count(void);
void kafka_quota_each(void (*visit)(void *arg, const struct kafka_quota_entity *e,
                                    const struct kafka_quota_values *v),
                      void *arg);
/* kafka_quota for anybody, at a time of the caller's. */
uint32_t kafka_quota_take(struct mqg_slice user, struct mqg_slice client, enum kafka_quota_kind kind,
                          uint64_t bytes, uint64_t now_us);
void kafka_quota_clear(void);

/* Records. */
void kafka_quota_key(struct mqg_dynbuf *out, const struct kafka_quota_entity *e);
void kafka_quota_encode(struct mqg_dynbuf *out, const struct kafka_quota_entity *e,
                        const struct kafka_quota_values *v);
enum mqg_err kafka_quota_decode(struct mqg_slice value, struct kafka_quota_entity *e,
                                struct kafka_quota_values *v) MQG_MUST_CHECK;

#endif
