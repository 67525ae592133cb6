/* mqgate/auth.h - accounts: users, vhost permissions, sessions.
 *
 * Users and permissions are metadata ("user/NAME", "perm/VHOST/NAME"), kept in memory as an immutable table that is swapped
 * on change; sessions hold compiled patterns and a small cache, so that a check on the hot path is one compare. Password
 * hashes are RabbitMQ's: base64(4 bytes salt + SHA-256(salt + password)), or SHA-512; so definitions can be imported. */
#ifndef MQGATE_AUTH_H
#define MQGATE_AUTH_H

#include <mqgate/base.h>
#include <mqgate/conf.h>
#include <mqgate/protocol.h>

enum mqg_perm { MQG_CONFIGURE, MQG_WRITE, MQG_READ, MQG_PERM_COUNT };
enum mqg_tag {
    MQG_TAG_ADMINISTRATOR = 1u << 0,
    MQG_TAG_MONITORING = 1u << 1,
    MQG_TAG_POLICYMAKER = 1u << 2,
    MQG_TAG_MANAGEMENT = 1u << 3,
    MQG_TAG_IMPERSONATOR = 1u << 4,
};

struct mqg_vhost; /* broker.h */

/* One authenticated principal on one connection. Belongs to the connection's worker; counted only for listings. */
struct mqg_session {
    uint32_t magic;
    _Atomic uint32_t refs;
    struct mqg_vhost *vhost; /* NULL until a vhost was opened */
    char user[256];
    unsigned tags; /* MQG_TAG_* */
    uint64_t conn_id;
    struct mqg_session_cache *cache; /* auth's: compiled patterns, last answers */
};

/* Checks a name and password. Sets *e (UNAUTHENTICATED; the text tells nobody why, the log does). guest is refused from
 * elsewhere than loopback. Constant time in the password. Thread: worker. */
MQG_API enum mqg_err mqg_auth_password(const struct mqg_conn_info *from, struct mqg_slice user,
                                       struct mqg_slice password, struct mqg_session **out,
                                       struct mqg_error *e) MQG_MUST_CHECK;
/* A name that the transport has proved (EXTERNAL: certificate CN). Here and in the two other checks, an empty name (and
 * password) is an anonymous client: guest, when auth.anonymous is on and it comes from loopback. */
MQG_API enum mqg_err mqg_auth_external(const struct mqg_conn_info *from, struct mqg_slice user,
                                       struct mqg_session **out, struct mqg_error *e) MQG_MUST_CHECK;
/* SCRAM (RFC 5802, RFC 7677): a login in which the password is never sent. Two messages of the client, each answered; the
 * protocol carries them (Kafka's SaslAuthenticate, MQTT's AUTH). Channel binding is not offered: 'n' and 'y' are taken, 'p' is
 * refused. The state belongs to one connection. */
enum mqg_scram_hash { MQG_SCRAM_SHA256, MQG_SCRAM_SHA512, MQG_SCRAM_COUNT };
struct mqg_scram;
MQG_API const char *mqg_scram_name(enum mqg_scram_hash hash); /* "SCRAM-SHA-256" */
/* The mechanism of that name (their case counts); false: none. */
MQG_API bool mqg_scram_find(struct mqg_slice mechanism, enum mqg_scram_hash *out);
MQG_API struct mqg_scram *mqg_scram_new(enum mqg_scram_hash hash);
MQG_API void mqg_scram_free(struct mqg_scram **s);
/* Takes the client's next message. MORE: send *reply and wait for the next. OK: send *reply (the server's signature); *out is the
 * session. UNAUTHENTICATED (wrong password, unknown user, a user without this mechanism: all alike on the wire, told apart in the
 * log) and MALFORMED: it is over; *reply is then the "e=..." of RFC 5802 section 7 where a protocol has a place for it. *reply
 * lives until the next call or the free. Thread: worker. */
MQG_API enum mqg_err mqg_scram_step(struct mqg_scram *s, const struct mqg_conn_info *from,
                                    struct mqg_slice message, struct mqg_slice *reply,
                                    struct mqg_session **out, struct mqg_error *e) MQG_MUST_CHECK;
/* Enters a vhost: NOT_FOUND when there is none, DENIED without a permission row there. */
MQG_API enum mqg_err mqg_session_open(struct mqg_session *s, struct mqg_slice vhost,
                                      struct mqg_error *e) MQG_MUST_CHECK;
MQG_API struct mqg_session *mqg_session_ref(struct mqg_session *s);
MQG_API void mqg_session_unref(struct mqg_session **s);
/* May the principal do `perm` on the resource (queue or exchange name; "" is checked as amq.default)? (worker) */
MQG_API bool mqg_session_can(struct mqg_session *s, enum mqg_perm perm, struct mqg_slice resource);
/* Like can, with RabbitMQ's text: "access to queue 'x' in vhost '/' refused for user 'u'". kind: "queue", "exchange". */
MQG_API enum mqg_err mqg_session_need(struct mqg_session *s, enum mqg_perm perm, const char *kind,
                                      struct mqg_slice resource, struct mqg_error *e) MQG_MUST_CHECK;
/* A new session with every right, for the node's own work and tests; the caller unrefs it. */
MQG_API struct mqg_session *mqg_session_internal(struct mqg_vhost *v);

/* ---- management (any worker; effect at once, ticket = durable when) --------------------------------------------------- */

struct mqg_user_info {
    const char *name;
    const char *hash_base64;
    const char *algorithm;
    unsigned tags;
};
struct mqg_perm_info {
    const char *user, *vhost, *configure, *write, *read;
};

/* Topic permissions: patterns on routing keys (levels joined by '.') beside the permission on the exchange. {username}, {vhost} and
 * {client_id} in a pattern stand for the session's. Without a row for user, vhost and exchange every key is allowed. Protocols ask
 * for them that have topics (MQTT). A guard is a connection's cache, NULL at first; freed with the connection. */
struct mqg_topic_perm_info {
    const char *user, *vhost, *exchange, *write, *read;
};
struct mqg_topic_guard;
MQG_API bool mqg_topic_can(struct mqg_topic_guard **guard, const struct mqg_session *s, enum mqg_perm perm,
                           struct mqg_slice exchange, struct mqg_slice client_id, struct mqg_slice key);
MQG_API void mqg_topic_guard_free(struct mqg_topic_guard **guard);
MQG_API enum mqg_err mqg_topic_perm_put(struct mqg_slice user, struct mqg_slice vhost,
                                        struct mqg_slice exchange, struct mqg_slice write,
                                        struct mqg_slice read, uint64_t *ticket,
                                        struct mqg_error *e) MQG_MUST_CHECK;
/* All of the user's in the vhost. */
MQG_API enum mqg_err mqg_topic_perm_delete(struct mqg_slice user, struct mqg_slice vhost, uint64_t *ticket,
                                           struct mqg_error *e) MQG_MUST_CHECK;
MQG_API void mqg_topic_perm_each(void (*visit)(void *arg, const struct mqg_topic_perm_info *p), void *arg);
/* password NULL: no password login; hash_base64 instead of a password: imported. */
MQG_API enum mqg_err mqg_user_put(struct mqg_slice name, const struct mqg_slice *password,
                                  const struct mqg_slice *hash_base64, struct mqg_slice algorithm,
                                  unsigned tags, uint64_t *ticket, struct mqg_error *e) MQG_MUST_CHECK;
/* What SCRAM needs is made from the password whenever mqg_user_put gets one; an imported hash leaves a user without it (the same
 * hash again keeps what was there). These set, remove and tell it alone. salted: PBKDF2 of the password (Hi() of RFC 5802), as long
 * as the hash; salt: 8 to 64 bytes; iterations: 4,096 to 1,000,000. A user that does not exist is NOT_FOUND. */
MQG_API enum mqg_err mqg_user_scram_put(struct mqg_slice name, enum mqg_scram_hash hash, uint32_t iterations,
                                        struct mqg_slice salt, struct mqg_slice salted, uint64_t *ticket,
                                        struct mqg_error *e) MQG_MUST_CHECK;
/* NOT_FOUND also when the user has none of that mechanism. */
MQG_API enum mqg_err mqg_user_scram_delete(struct mqg_slice name, enum mqg_scram_hash hash, uint64_t *ticket,
                                           struct mqg_error *e) MQG_MUST_CHECK;
/* Iterations per mechanism, 0: no such credential. NOT_FOUND: no such user. Any thread. */
MQG_API enum mqg_err mqg_user_scram(struct mqg_slice name, uint32_t iterations[MQG_SCRAM_COUNT],
                                    struct mqg_error *e) MQG_MUST_CHECK;
MQG_API enum mqg_err mqg_user_tags(struct mqg_slice name, unsigned tags, uint64_t *ticket,
                                   struct mqg_error *e) MQG_MUST_CHECK;
/* The user's tags as they are now, which may be others than at its login; false: there is no such user any more. Any thread. */
MQG_API bool mqg_user_tags_now(struct mqg_slice name, unsigned *tags);
MQG_API enum mqg_err mqg_user_delete(struct mqg_slice name, uint64_t *ticket,
                                     struct mqg_error *e) MQG_MUST_CHECK;
MQG_API enum mqg_err mqg_perm_put(struct mqg_slice user, struct mqg_slice vhost, struct mqg_slice configure,
                                  struct mqg_slice write, struct mqg_slice read, uint64_t *ticket,
                                  struct mqg_error *e) MQG_MUST_CHECK;
MQG_API enum mqg_err mqg_perm_delete(struct mqg_slice user, struct mqg_slice vhost, uint64_t *ticket,
                                     struct mqg_error *e) MQG_MUST_CHECK;
/* The permissions in a vhost that was deleted go with it; the ticket of the last one, 0 when there was none. */
MQG_API uint64_t mqg_auth_vhost_gone(struct mqg_slice vhost);
MQG_API void mqg_user_each(void (*visit)(void *arg, const struct mqg_user_info *u),
                           void *arg); /* any thread */
MQG_API void mqg_perm_each(void (*visit)(void *arg, const struct mqg_perm_info *p), void *arg);
MQG_API unsigned mqg_tags_parse(struct mqg_slice words); /* comma or space separated; unknown words ignored */
MQG_API void mqg_tags_print(unsigned tags, char out[96]);
/* Admin HTTP: the same check as a login, without a connection. tags out. */
MQG_API enum mqg_err mqg_auth_check(struct mqg_slice user, struct mqg_slice password, bool loopback,
                                    unsigned *tags) MQG_MUST_CHECK;
/* (any) configure/write/read of a user in a vhost as compiled now: for admin commands. */
MQG_API bool mqg_user_can(struct mqg_slice user, struct mqg_slice vhost, enum mqg_perm perm,
                          struct mqg_slice resource);

/* host: before recovery; recovery feeds records; at the end the first user guest and its permission on "/" are made when
 * the store has never had a user. */
MQG_API enum mqg_err mqg_auth_init(const struct mqg_conf *conf, struct mqg_error *e);
/* Changes whenever a user or a permission does; who keeps an answer of mqg_session_can compares it. Any thread. */
MQG_API uint64_t mqg_auth_generation(void);
/* Moves it: a protocol's own rules changed, by which it answers beside the permissions (Kafka's ACLs). Any thread. */
MQG_API void mqg_auth_touch(void);
/* (main) Takes over what a changed configuration says: auth.*. */
MQG_API void mqg_auth_reload(const struct mqg_conf *conf);
MQG_API void mqg_auth_recover(struct mqg_slice key, struct mqg_slice value); /* keys user/, perm/ */
MQG_API void mqg_auth_recovered(void);
MQG_API void mqg_auth_fini(void);

#endif
