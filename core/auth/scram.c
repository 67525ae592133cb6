/* scram.c - what SCRAM keeps of a password: salt, iterations, stored key, server key, per mechanism (RFC 5802 section 3).
 *
 *   SaltedPassword = PBKDF2(password, salt, i)      StoredKey = H(HMAC(SaltedPassword, "Client Key"))
 *                                                   ServerKey = HMAC(SaltedPassword, "Server Key")
 *
 * Who reads these from the disk can pretend to be the server, but cannot log in without guessing the password at the price of
 * the iterations. As text they are "SCRAM-SHA-256$iterations:salt$stored:server", the form that others keep them in, too.
 *
 * A name that does not exist is answered like one that does: with a salt made from the name and a secret of the node, and with
 * keys that no proof fits. The secret outlives restarts, or the salts that change would be the unknown ones.
 *
 * Passwords are taken as the bytes they are. SASLprep (RFC 4013) would make some spellings of a non-ASCII password alike; clients
 * disagree about doing it, and for ASCII it changes nothing. */
#include "auth_int.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>

#include <stdio.h>

static uint8_t scram_secret[AUTH_SCRAM_SECRET_BYTES];

static const struct {
    const char *name;
    size_t bytes;
} scram_hashes[MQG_SCRAM_COUNT] = {
    [MQG_SCRAM_SHA256] = {"SCRAM-SHA-256", SHA256_DIGEST_LENGTH},
    [MQG_SCRAM_SHA512] = {"SCRAM-SHA-512", SHA512_DIGEST_LENGTH},
};

const char *mqg_scram_name(enum mqg_scram_hash hash)
{
    MQG_ASSERT(hash < MQG_SCRAM_COUNT);
    return scram_hashes[hash].name;
}

bool mqg_scram_find(struct mqg_slice mechanism, enum mqg_scram_hash *out)
{
    for (unsigned i = 0; i < MQG_SCRAM_COUNT; i++)
        if (mqg_slice_eq(mechanism, mqg_slice_str(scram_hashes[i].name))) {
            *out = i;
            return true;
        }
    return false;
}

/* ---- digests --------------------------------------------------------------------------------------------------- */

static const EVP_MD *scram_md(enum mqg_scram_hash hash)
{
    return hash == MQG_SCRAM_SHA512 ? EVP_sha512() : EVP_sha256();
}

size_t auth_scram_bytes(enum mqg_scram_hash hash)
{
    return scram_hashes[hash].bytes;
}

void auth_scram_digest(enum mqg_scram_hash hash, struct mqg_slice in, uint8_t out[AUTH_DIGEST_MAX_BYTES])
{
    MQG_ASSERT(EVP_Digest(in.ptr, in.len, out, NULL, scram_md(hash), NULL) == 1);
}

void auth_scram_hmac(enum mqg_scram_hash hash, struct mqg_slice key, struct mqg_slice in,
                     uint8_t out[AUTH_DIGEST_MAX_BYTES])
{
    MQG_ASSERT(HMAC(scram_md(hash), key.ptr, (int)key.len, in.ptr, in.len, out, NULL) != NULL);
}

/* ---- making ------------------------------------------------------------------------------------------------------ */

void auth_scram_from(struct auth_scram *v, enum mqg_scram_hash hash, uint32_t iterations,
                     struct mqg_slice salt, struct mqg_slice salted)
{
    uint8_t client[AUTH_DIGEST_MAX_BYTES];
    MQG_ASSERT(salt.len > 0 && salt.len <= sizeof v->salt);
    *v = (struct auth_scram){.iterations = iterations, .salt_bytes = (uint8_t)salt.len};
    memcpy(v->salt, salt.ptr, salt.len);
    auth_scram_hmac(hash, salted, MQG_SLICE_LIT("Client Key"), client);
    auth_scram_digest(hash, mqg_slice_of(client, auth_scram_bytes(hash)), v->stored);
    auth_scram_hmac(hash, salted, MQG_SLICE_LIT("Server Key"), v->server);
    OPENSSL_cleanse(client, sizeof client);
}

void auth_scram_make(struct auth_scram *v, enum mqg_scram_hash hash, struct mqg_slice password)
{
    uint8_t salt[AUTH_SCRAM_SALT_BYTES], salted[AUTH_DIGEST_MAX_BYTES];
    size_t bytes = auth_scram_bytes(hash);
    MQG_ASSERT(password.len <= INT32_MAX);
    mqg_random_bytes(salt, sizeof salt);
    MQG_ASSERT(PKCS5_PBKDF2_HMAC((const char *)password.ptr, (int)password.len, salt, sizeof salt,
                                 AUTH_SCRAM_ITERATIONS, scram_md(hash), (int)bytes, salted) == 1);
    auth_scram_from(v, hash, AUTH_SCRAM_ITERATIONS, mqg_slice_of(salt, sizeof salt),
                    mqg_slice_of(salted, bytes));
    OPENSSL_cleanse(salted, sizeof salted);
}

void auth_scram_secret(const uint8_t secret[AUTH_SCRAM_SECRET_BYTES])
{
    memcpy(scram_secret, secret, sizeof scram_secret);
}

void auth_scram_fake(struct auth_scram *v, enum mqg_scram_hash hash, struct mqg_slice user)
{
    uint8_t made[AUTH_DIGEST_MAX_BYTES];
    auth_scram_hmac(hash, mqg_slice_of(scram_secret, sizeof scram_secret), user, made);
    auth_scram_from(v, hash, AUTH_SCRAM_ITERATIONS, mqg_slice_of(made, AUTH_SCRAM_SALT_BYTES),
                    mqg_slice_of(made + AUTH_SCRAM_SALT_BYTES, AUTH_SCRAM_SALT_BYTES));
}

/* ---- as text -------------------------------------------------------------------------------------------------------- */

/* What does not come out again as it went in is none: blanks, missing padding, bits beyond the last byte. */
int auth_base64(struct mqg_slice in, uint8_t *out, size_t max)
{
    uint8_t raw[AUTH_BASE64_MAX_BYTES], again[AUTH_BASE64_MAX_BYTES / 3 * 4 + 1];
    size_t padding = 0;
    if (in.len == 0 || in.len % 4 != 0 || in.len >= sizeof again)
        return -1;
    while (padding < 2 && in.ptr[in.len - 1 - padding] == '=')
        padding++;
    int n = EVP_DecodeBlock(raw, in.ptr, (int)in.len) - (int)padding;
    if (n < 0 || (size_t)n > max || EVP_EncodeBlock(again, raw, n) != (int)in.len ||
        memcmp(again, in.ptr, in.len) != 0)
        return -1;
    memcpy(out, raw, (size_t)n);
    return n;
}

void auth_scram_print(const struct auth_scram *v, enum mqg_scram_hash hash, char out[AUTH_SCRAM_TEXT_BYTES])
{
    uint8_t salt[AUTH_HASH_TEXT_BYTES], stored[AUTH_HASH_TEXT_BYTES], server[AUTH_HASH_TEXT_BYTES];
    int bytes = (int)auth_scram_bytes(hash);
    EVP_EncodeBlock(salt, v->salt, v->salt_bytes);
    EVP_EncodeBlock(stored, v->stored, bytes);
    EVP_EncodeBlock(server, v->server, bytes);
    int n = snprintf(out, AUTH_SCRAM_TEXT_BYTES, "%s$%u:%s$%s:%s", mqg_scram_name(hash), v->iterations, salt,
                     stored, server);
    MQG_ASSERT(n > 0 && n < AUTH_SCRAM_TEXT_BYTES);
}

/* What stands before the next `end` (or the end of the text). */
static struct mqg_slice scram_part(struct mqg_slice *text, char end)
{
    const uint8_t *at = text->len > 0 ? memchr(text->ptr, end, text->len) : NULL;
    size_t n = at != NULL ? (size_t)(at - text->ptr) : text->len;
    struct mqg_slice part = mqg_slice_of(text->ptr, n), rest = MQG_SLICE_NONE;
    if (n < text->len)
        rest = mqg_slice_of(text->ptr + n + 1, text->len - n - 1);
    *text = rest;
    return part;
}

static uint32_t scram_number(struct mqg_slice text)
{
    uint32_t value = 0;
    if (text.len == 0 || text.len > 7 || text.ptr[0] == '0')
        return 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return 0;
        value = value * 10 + (uint32_t)(text.ptr[i] - '0');
    }
    return value;
}

bool auth_scram_parse(struct auth_scram *v, struct mqg_slice text, enum mqg_scram_hash *hash)
{
    *v = (struct auth_scram){0};
    if (!mqg_scram_find(scram_part(&text, '$'), hash))
        return false;
    v->iterations = scram_number(scram_part(&text, ':'));
    int bytes = (int)auth_scram_bytes(*hash);
    int salt = auth_base64(scram_part(&text, '$'), v->salt, sizeof v->salt);
    int stored = auth_base64(scram_part(&text, ':'), v->stored, sizeof v->stored);
    int server = auth_base64(text, v->server, sizeof v->server);
    if (v->iterations < AUTH_SCRAM_ITERATIONS || v->iterations > AUTH_SCRAM_ITERATIONS_MAX ||
        salt < AUTH_SCRAM_SALT_MIN_BYTES || stored != bytes || server != bytes)
        return false;
    v->salt_bytes = (uint8_t)salt;
    return true;
}
