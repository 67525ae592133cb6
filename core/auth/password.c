/* password.c - password hashes as RabbitMQ keeps them, so that definitions can be imported.
 *
 *   base64( salt, 4 bytes | H(salt | password) )        H is SHA-256 or SHA-512
 *
 * One fast hash over a short salt is weak against whoever has the file; it is what the field's exports hold. Against who
 * only guesses over the wire, a name that does not exist must take as long as one that does: it is checked against a hash
 * that nothing fits. */
#include "auth_int.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/sha.h>

const char *auth_algorithm(struct mqg_slice name)
{
    if (name.len == 0 || mqg_slice_eq(name, MQG_SLICE_LIT(AUTH_SHA256)))
        return AUTH_SHA256;
    return mqg_slice_eq(name, MQG_SLICE_LIT(AUTH_SHA512)) ? AUTH_SHA512 : NULL;
}

static bool password_is_sha512(const char *algorithm)
{
    return strcmp(algorithm, AUTH_SHA512) == 0;
}

static size_t password_digest(const char *algorithm, const uint8_t *salt, struct mqg_slice password,
                              uint8_t out[AUTH_DIGEST_MAX_BYTES])
{
    const EVP_MD *md = password_is_sha512(algorithm) ? EVP_sha512() : EVP_sha256();
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    unsigned len = 0;
    MQG_ASSERT(ctx != NULL && EVP_DigestInit_ex(ctx, md, NULL) == 1 &&
               EVP_DigestUpdate(ctx, salt, AUTH_SALT_BYTES) == 1 &&
               (password.len == 0 || EVP_DigestUpdate(ctx, password.ptr, password.len) == 1) &&
               EVP_DigestFinal_ex(ctx, out, &len) == 1);
    EVP_MD_CTX_free(ctx);
    return len;
}

void auth_hash_make(struct auth_hash *h, struct mqg_slice password)
{
    *h = (struct auth_hash){.algorithm = AUTH_SHA256};
    mqg_random_bytes(h->salt, sizeof h->salt);
    h->digest_bytes = password_digest(h->algorithm, h->salt, password, h->digest);
}

bool auth_hash_parse(struct auth_hash *h, const char *algorithm, struct mqg_slice base64)
{
    uint8_t raw[AUTH_HASH_TEXT_BYTES];
    size_t want = AUTH_SALT_BYTES +
                  (password_is_sha512(algorithm) ? SHA512_DIGEST_LENGTH : SHA256_DIGEST_LENGTH);
    *h = (struct auth_hash){.algorithm = algorithm};
    if (base64.len == 0)
        return true; /* no password login */
    if (base64.len != 4 * ((want + 2) / 3))
        return false;
    int n = EVP_DecodeBlock(raw, base64.ptr, (int)base64.len);
    size_t padding = 0;
    while (padding < 2 && base64.ptr[base64.len - 1 - padding] == '=')
        padding++;
    if (n < 0 || (size_t)n - padding != want)
        return false;
    memcpy(h->salt, raw, AUTH_SALT_BYTES);
    h->digest_bytes = want - AUTH_SALT_BYTES;
    memcpy(h->digest, raw + AUTH_SALT_BYTES, h->digest_bytes);
    return true;
}

void auth_hash_print(const struct auth_hash *h, char out[AUTH_HASH_TEXT_BYTES])
{
    uint8_t raw[AUTH_SALT_BYTES + AUTH_DIGEST_MAX_BYTES];
    out[0] = '\0';
    if (h->digest_bytes == 0)
        return;
    memcpy(raw, h->salt, AUTH_SALT_BYTES);
    memcpy(raw + AUTH_SALT_BYTES, h->digest, h->digest_bytes);
    EVP_EncodeBlock((uint8_t *)out, raw, (int)(AUTH_SALT_BYTES + h->digest_bytes));
}

bool auth_hash_check(const struct auth_hash *h, struct mqg_slice password)
{
    static const struct auth_hash nobody = {.algorithm = AUTH_SHA256, .digest_bytes = SHA256_DIGEST_LENGTH};
    const struct auth_hash *against = h != NULL && h->digest_bytes > 0 ? h : &nobody;
    uint8_t digest[AUTH_DIGEST_MAX_BYTES];
    size_t len = password_digest(against->algorithm, against->salt, password, digest);
    bool same = len == against->digest_bytes && CRYPTO_memcmp(digest, against->digest, len) == 0;
    OPENSSL_cleanse(digest, sizeof digest);
    return same && against == h && password.len > 0;
}
