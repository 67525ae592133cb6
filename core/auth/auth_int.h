/* auth_int.h - what the files of core/auth share.
 *
 * An account or a permission is an immutable, counted object. The table that names them is guarded by one mutex, held for
 * a search or an insertion only; whoever found an object holds a reference and reads it without the lock. */
#ifndef MQG_AUTH_INT_H
#define MQG_AUTH_INT_H

#include <mqgate/auth.h>

enum {
    AUTH_NAME_MAX_BYTES = 255,
    AUTH_PATTERN_MAX_BYTES = 8192,
    AUTH_SALT_BYTES = 4,
    AUTH_DIGEST_MAX_BYTES = 64, /* SHA-512 */
    AUTH_HASH_TEXT_BYTES = 4 * ((AUTH_SALT_BYTES + AUTH_DIGEST_MAX_BYTES + 2) / 3) + 1,
};

#define AUTH_SHA256 "rabbit_password_hashing_sha256"
#define AUTH_SHA512 "rabbit_password_hashing_sha512"

/* ---- password.c ------------------------------------------------------------------------------------------------ */

/* Salt and digest as they are stored; size 0: no password login. */
struct auth_hash {
    const char *algorithm; /* AUTH_SHA256 or AUTH_SHA512 */
    uint8_t salt[AUTH_SALT_BYTES];
    uint8_t digest[AUTH_DIGEST_MAX_BYTES];
    size_t digest_bytes;
};

/* AUTH_SHA256 for "" and for that name, AUTH_SHA512 likewise; NULL for what we cannot check. */
const char *auth_algorithm(struct mqg_slice name);
/* A fresh salt and the digest under SHA-256. */
void auth_hash_make(struct auth_hash *h, struct mqg_slice password);
/* From and to the base64 of definitions. false: not base64, or not of the algorithm's length. */
bool auth_hash_parse(struct auth_hash *h, const char *algorithm, struct mqg_slice base64);
void auth_hash_print(const struct auth_hash *h, char out[AUTH_HASH_TEXT_BYTES]);
/* Takes as long for a wrong password as for the right one. h NULL (no such user): as long, and false. */
bool auth_hash_check(const struct auth_hash *h, struct mqg_slice password);

/* ---- scram.c ---------------------------------------------------------------------------------------------------- */

enum {
    AUTH_SCRAM_ITERATIONS = 4096, /* RFC 7677 section 4: at least; each new password costs them twice */
    AUTH_SCRAM_ITERATIONS_MAX = 1000000,
    AUTH_SCRAM_SALT_BYTES = 16,
    AUTH_SCRAM_SALT_MIN_BYTES = 8,
    AUTH_SCRAM_SALT_MAX_BYTES = 64,
    AUTH_SCRAM_SECRET_BYTES = 32,
    AUTH_SCRAM_TEXT_BYTES = 320, /* of a printed verifier, with its NUL */
    AUTH_BASE64_MAX_BYTES = 600, /* decoded */
};

/* What the server keeps of a password for one mechanism. */
struct auth_scram {
    uint32_t iterations; /* 0: nothing */
    uint8_t salt_bytes;
    uint8_t salt[AUTH_SCRAM_SALT_MAX_BYTES];
    uint8_t stored[AUTH_DIGEST_MAX_BYTES], server[AUTH_DIGEST_MAX_BYTES];
};

size_t auth_scram_bytes(enum mqg_scram_hash hash); /* of its digests */
void auth_scram_digest(enum mqg_scram_hash hash, struct mqg_slice in, uint8_t out[AUTH_DIGEST_MAX_BYTES]);
void auth_scram_hmac(enum mqg_scram_hash hash, struct mqg_slice key, struct mqg_slice in,
                     uint8_t out[AUTH_DIGEST_MAX_BYTES]);
/* From the salted password; from the password under a fresh salt. */
void auth_scram_from(struct auth_scram *v, enum mqg_scram_hash hash, uint32_t iterations,
                     struct mqg_slice salt, struct mqg_slice salted);
void auth_scram_make(struct auth_scram *v, enum mqg_scram_hash hash, struct mqg_slice password);
/* What is shown for a user who has none: the same at each try, and at each start as long as the secret is the same. */
void auth_scram_fake(struct auth_scram *v, enum mqg_scram_hash hash, struct mqg_slice user);
void auth_scram_secret(const uint8_t secret[AUTH_SCRAM_SECRET_BYTES]);
/* "SCRAM-SHA-256$4096:salt$stored:server", in base64; parse says of which mechanism. */
void auth_scram_print(const struct auth_scram *v, enum mqg_scram_hash hash, char out[AUTH_SCRAM_TEXT_BYTES]);
bool auth_scram_parse(struct auth_scram *v, struct mqg_slice text, enum mqg_scram_hash *hash);
/* Strict base64; the bytes decoded, or -1 when it is none or longer than max. */
int auth_base64(struct mqg_slice in, uint8_t *out, size_t max);

/* ---- scram_login.c ---------------------------------------------------------------------------------------------- */

/* For the test vectors: with this server's nonce. */
struct mqg_scram *auth_scram_login(enum mqg_scram_hash hash, struct mqg_slice nonce);

/* ---- pattern.c -------------------------------------------------------------------------------------------------- */

struct auth_pattern; /* immutable; NULL matches nothing */

/* NULL and *e filled when it does not compile. */
struct auth_pattern *auth_pattern_new(struct mqg_slice text, struct mqg_error *e);
void auth_pattern_free(struct auth_pattern **p);
/* Any thread. A match that takes too many steps is none. */
bool auth_pattern_match(const struct auth_pattern *p, struct mqg_slice subject);

/* ---- accounts.c -------------------------------------------------------------------------------------------------- */

struct auth_user {
    _Atomic uint32_t refs;
    char *name;
    struct auth_hash hash;
    struct auth_scram scram[MQG_SCRAM_COUNT];
    unsigned tags;
};

struct auth_perm {
    _Atomic uint32_t refs;
    char *user, *vhost;
    char *text[MQG_PERM_COUNT];
    struct auth_pattern *pattern[MQG_PERM_COUNT];
};

/* scram: MQG_SCRAM_COUNT of them, or NULL: none. */
struct auth_user *auth_user_new(struct mqg_slice name, const struct auth_hash *hash,
                                const struct auth_scram *scram, unsigned tags);
void auth_user_unref(struct auth_user **u);
/* NULL and *e filled when a pattern does not compile; with e NULL such a pattern refuses everything. */
struct auth_perm *auth_perm_new(struct mqg_slice user, struct mqg_slice vhost,
                                const struct mqg_slice text[MQG_PERM_COUNT], struct mqg_error *e);
void auth_perm_unref(struct auth_perm **p);

/* With a reference, or NULL. Any thread. */
struct auth_user *auth_user_find(struct mqg_slice name);
struct auth_perm *auth_perm_find(struct mqg_slice vhost, struct mqg_slice user);

/* Changes: between lock and unlock, so that the order of the records in the store is the order in memory. */
void auth_lock(void);
void auth_unlock(void);
struct auth_user *auth_user_locked(struct mqg_slice name); /* borrowed */
struct auth_perm *auth_perm_locked(struct mqg_slice vhost, struct mqg_slice user);
void auth_user_set_locked(struct auth_user *u); /* takes the reference; replaces one of that name */
void auth_perm_set_locked(struct auth_perm *p);
bool auth_user_del_locked(struct mqg_slice name);
bool auth_perm_del_locked(struct mqg_slice vhost, struct mqg_slice user);
size_t auth_user_count(void);
/* All, with references, in an array that the caller frees; sorted by name (vhost, user). Any thread. */
struct auth_user **auth_user_all(size_t *n);
struct auth_perm **auth_perm_all(size_t *n);
void auth_accounts_clear(void);

/* ---- manage.c ----------------------------------------------------------------------------------------------------- */

uint64_t auth_user_write_locked(struct auth_user *u); /* record and memory; takes the reference; the ticket */
enum mqg_err auth_no_user(struct mqg_slice name, struct mqg_error *e);

/* ---- topic.c ------------------------------------------------------------------------------------------------------ */

enum mqg_err auth_topic_recover(struct mqg_slice value);
void auth_topic_forget_locked(const struct mqg_slice *vhost, const struct mqg_slice *user);
void auth_topic_clear(void);
void auth_topic_key(struct mqg_dynbuf *out, struct mqg_slice vhost, struct mqg_slice user,
                    struct mqg_slice exchange);

/* ---- codec.c ------------------------------------------------------------------------------------------------------ */

void auth_user_key(struct mqg_dynbuf *out, struct mqg_slice name);
void auth_perm_key(struct mqg_dynbuf *out, struct mqg_slice vhost, struct mqg_slice user);
void auth_user_encode(struct mqg_dynbuf *out, const struct auth_user *u);
void auth_perm_encode(struct mqg_dynbuf *out, const struct auth_perm *p);
enum mqg_err auth_user_decode(struct mqg_slice value, struct auth_user **out) MQG_MUST_CHECK;
enum mqg_err auth_perm_decode(struct mqg_slice value, struct auth_perm **out) MQG_MUST_CHECK;

/* ---- session.c ------------------------------------------------------------------------------------------------------ */

/* Counts, logs why, and answers UNAUTHENTICATED without telling. */
enum mqg_err auth_refuse(const struct mqg_conn_info *from, struct mqg_slice user, const char *why,
                         struct mqg_error *e);
struct mqg_session *auth_admit(const struct mqg_conn_info *from, const struct auth_user *u);

/* ---- auth.c --------------------------------------------------------------------------------------------------------- */

bool auth_anonymous(void);
/* May a user of that name come from there? */
bool auth_from_ok(const char *name, bool loopback);

#endif
