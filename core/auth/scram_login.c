/* scram_login.c - the server's side of a SCRAM login: two messages in, two out (RFC 5802 sections 5 and 7).
 *
 *   client-first   n,,n=user,r=cnonce                    gs2 header: 'n' or 'y', no channel binding
 *   server-first   r=cnonce snonce,s=salt,i=iterations
 *   client-final   c=base64(gs2 header),r=...,p=proof
 *   server-final   v=signature                           or e=reason
 *
 * Nothing before the proof tells whether the user exists: who does not gets a made-up verifier that no proof fits, and the same
 * sums are done with it. The reason stands in the log. */
#include "auth_int.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

enum {
    SCRAM_MESSAGE_MAX_BYTES = 2048,
    SCRAM_NONCE_MAX_BYTES = 256,
    SCRAM_NONCE_RAW_BYTES = 18, /* 24 characters of base64, which has no comma */
};

enum scram_state { SCRAM_FIRST, SCRAM_FINAL, SCRAM_OVER };

struct mqg_scram {
    enum mqg_scram_hash hash;
    enum scram_state state;
    const char *unfit; /* why the proof will not do whatever it is; NULL: it may */
    struct mqg_slice user;
    char name[AUTH_NAME_MAX_BYTES + 1];
    struct auth_scram verifier;
    char snonce[SCRAM_NONCE_MAX_BYTES];
    struct mqg_dynbuf gs2;   /* the header, which comes again */
    struct mqg_dynbuf nonce; /* both halves */
    size_t cnonce_bytes;     /* of the first one */
    struct mqg_dynbuf auth;  /* AuthMessage */
    struct mqg_dynbuf reply;
};

/* ---- making ------------------------------------------------------------------------------------------------------- */

struct mqg_scram *auth_scram_login(enum mqg_scram_hash hash, struct mqg_slice nonce)
{
    struct mqg_scram *s = mqg_xcalloc(1, sizeof *s);
    MQG_ASSERT(nonce.len < sizeof s->snonce);
    s->hash = hash;
    memcpy(s->snonce, nonce.ptr, nonce.len);
    mqg_dynbuf_init(&s->gs2, SCRAM_MESSAGE_MAX_BYTES);
    mqg_dynbuf_init(&s->nonce, 2 * SCRAM_NONCE_MAX_BYTES);
    mqg_dynbuf_init(&s->auth, 4 * SCRAM_MESSAGE_MAX_BYTES);
    mqg_dynbuf_init(&s->reply, SCRAM_MESSAGE_MAX_BYTES);
    return s;
}

struct mqg_scram *mqg_scram_new(enum mqg_scram_hash hash)
{
    uint8_t raw[SCRAM_NONCE_RAW_BYTES], text[SCRAM_NONCE_RAW_BYTES / 3 * 4 + 1];
    mqg_random_bytes(raw, sizeof raw);
    EVP_EncodeBlock(text, raw, sizeof raw);
    return auth_scram_login(hash, mqg_slice_of(text, sizeof text - 1));
}

void mqg_scram_free(struct mqg_scram **scram)
{
    struct mqg_scram *s = *scram;
    *scram = NULL;
    if (s == NULL)
        return;
    mqg_dynbuf_fini(&s->gs2);
    mqg_dynbuf_fini(&s->nonce);
    mqg_dynbuf_fini(&s->auth);
    mqg_dynbuf_fini(&s->reply);
    OPENSSL_cleanse(s, sizeof *s);
    free(s);
}

/* ---- refusing ------------------------------------------------------------------------------------------------------ */

static void scram_put(struct mqg_dynbuf *out, const char *text)
{
    mqg_dynbuf_put(out, text, strlen(text));
}

static void scram_over(struct mqg_scram *s, const char *code)
{
    s->state = SCRAM_OVER;
    mqg_dynbuf_reset(&s->reply);
    scram_put(&s->reply, "e=");
    scram_put(&s->reply, code);
}

static enum mqg_err scram_malformed(struct mqg_scram *s, const char *code, const char *what,
                                    struct mqg_error *e)
{
    scram_over(s, code);
    return mqg_error_set(e, MQG_MALFORMED, 0, "SCRAM: %s", what);
}

/* ---- reading --------------------------------------------------------------------------------------------------------- */

/* What stands before the next comma; the comma goes, too. */
static struct mqg_slice scram_word(struct mqg_slice *rest)
{
    const uint8_t *comma = rest->len > 0 ? memchr(rest->ptr, ',', rest->len) : NULL;
    size_t n = comma != NULL ? (size_t)(comma - rest->ptr) : rest->len;
    struct mqg_slice word = mqg_slice_of(rest->ptr, n);
    *rest = comma != NULL ? mqg_slice_of(comma + 1, rest->len - n - 1) : MQG_SLICE_NONE;
    return word;
}

/* The value of the attribute that comes next, when it is `name`. */
static bool scram_attribute(struct mqg_slice *rest, char name, struct mqg_slice *value)
{
    if (rest->len < 2 || rest->ptr[0] != name || rest->ptr[1] != '=')
        return false;
    struct mqg_slice word = scram_word(rest);
    *value = mqg_slice_of(word.ptr + 2, word.len - 2);
    return true;
}

/* saslname: "=2C" is a comma, "=3D" an equals sign, and no other '=' may be there. */
static bool scram_saslname(struct mqg_scram *s, struct mqg_slice in)
{
    size_t n = 0;
    for (size_t i = 0; i < in.len; i++) {
        char c = (char)in.ptr[i];
        if (c == '=') {
            struct mqg_slice code = mqg_slice_of(in.ptr + i, in.len - i < 3 ? in.len - i : 3);
            if (!mqg_slice_eq(code, MQG_SLICE_LIT("=2C")) && !mqg_slice_eq(code, MQG_SLICE_LIT("=3D")))
                return false;
            c = code.ptr[1] == '2' ? ',' : '=';
            i += 2;
        }
        if (c == '\0' || n == AUTH_NAME_MAX_BYTES)
            return false;
        s->name[n++] = c;
    }
    s->name[n] = '\0';
    s->user = mqg_slice_of((const uint8_t *)s->name, n);
    return n > 0 && mqg_utf8_valid(s->user);
}

static bool scram_printable(struct mqg_slice nonce)
{
    for (size_t i = 0; i < nonce.len; i++)
        if (nonce.ptr[i] < 0x21 || nonce.ptr[i] > 0x7e)
            return false;
    return nonce.len > 0 && nonce.len <= SCRAM_NONCE_MAX_BYTES;
}

/* ---- client-first ------------------------------------------------------------------------------------------------------ */

/* The gs2 header; *rest is then client-first-message-bare, *authzid what the client wants to be, "" for itself. */
static enum mqg_err scram_gs2(struct mqg_scram *s, struct mqg_slice *rest, struct mqg_slice *authzid,
                              struct mqg_error *e)
{
    struct mqg_slice whole = *rest, flag = scram_word(rest);
    *authzid = MQG_SLICE_NONE;
    if (flag.len > 1 && flag.ptr[0] == 'p' && flag.ptr[1] == '=')
        return scram_malformed(s, "channel-binding-not-supported", "channel binding is not supported", e);
    if (!mqg_slice_eq(flag, MQG_SLICE_LIT("n")) && !mqg_slice_eq(flag, MQG_SLICE_LIT("y")))
        return scram_malformed(s, "other-error", "the first message has no gs2 header", e);
    if (!scram_attribute(rest, 'a', authzid) && scram_word(rest).len > 0)
        return scram_malformed(s, "other-error", "the gs2 header has something else than an authzid", e);
    if (rest->len == 0)
        return scram_malformed(s, "other-error", "the first message ends with its gs2 header", e);
    mqg_dynbuf_slice(&s->gs2, mqg_slice_of(whole.ptr, (size_t)(rest->ptr - whole.ptr)));
    return MQG_OK;
}

static void scram_verifier(struct mqg_scram *s, bool loopback)
{
    struct auth_user *u = auth_user_find(s->user);
    bool has = u != NULL && u->scram[s->hash].iterations > 0;
    auth_scram_fake(&s->verifier, s->hash, s->user); /* always: it takes its time */
    if (has)
        s->verifier = u->scram[s->hash];
    s->unfit = u == NULL ? "no such user"
               : !has    ? "the user has no credential for this mechanism: set the password again"
               : !auth_from_ok(u->name, loopback) ? "guest may only come from this machine"
                                                  : NULL;
    auth_user_unref(&u);
}

static void scram_server_first(struct mqg_scram *s, struct mqg_slice bare, struct mqg_slice cnonce)
{
    uint8_t salt[AUTH_HASH_TEXT_BYTES];
    mqg_dynbuf_slice(&s->nonce, cnonce);
    s->cnonce_bytes = cnonce.len;
    scram_put(&s->nonce, s->snonce);
    EVP_EncodeBlock(salt, s->verifier.salt, s->verifier.salt_bytes);
    mqg_dynbuf_printf(&s->reply, "r=%.*s,s=%s,i=%u", MQG_SLICE_FMT(mqg_dynbuf_view(&s->nonce)), salt,
                      s->verifier.iterations);
    mqg_dynbuf_slice(&s->auth, bare);
    mqg_dynbuf_u8(&s->auth, ',');
    mqg_dynbuf_slice(&s->auth, mqg_dynbuf_view(&s->reply));
    mqg_dynbuf_u8(&s->auth, ',');
}

static enum mqg_err scram_first(struct mqg_scram *s, const struct mqg_conn_info *from,
                                struct mqg_slice message, struct mqg_error *e)
{
    struct mqg_slice rest = message, authzid, name, cnonce;
    enum mqg_err err = scram_gs2(s, &rest, &authzid, e);
    if (err != MQG_OK)
        return err;
    struct mqg_slice bare = rest;
    if (bare.ptr[0] == 'm')
        return scram_malformed(s, "extensions-not-supported", "a mandatory extension is not known", e);
    if (!scram_attribute(&rest, 'n', &name))
        return scram_malformed(s, "other-error", "the first message has no name", e);
    if (!scram_saslname(s, name))
        return scram_malformed(s, "invalid-username-encoding", "the name is not a saslname", e);
    if (authzid.len > 0 && !mqg_slice_eq(authzid, name))
        return scram_malformed(s, "other-error", "the authzid is another than the name", e);
    if (!scram_attribute(&rest, 'r', &cnonce) || !scram_printable(cnonce))
        return scram_malformed(s, "other-error", "the first message has no nonce", e);
    scram_verifier(s, (from->flags & MQG_CONN_LOOPBACK) != 0);
    scram_server_first(s, bare, cnonce);
    s->state = SCRAM_FINAL;
    return MQG_MORE;
}

/* ---- client-final ------------------------------------------------------------------------------------------------------- */

/* Does the proof fit? Its xor with the client's signature is the client's key, whose hash is stored. */
static bool scram_proof_fits(const struct mqg_scram *s, const uint8_t *proof)
{
    uint8_t key[AUTH_DIGEST_MAX_BYTES], stored[AUTH_DIGEST_MAX_BYTES];
    size_t bytes = auth_scram_bytes(s->hash);
    auth_scram_hmac(s->hash, mqg_slice_of(s->verifier.stored, bytes), mqg_dynbuf_view(&s->auth), key);
    for (size_t i = 0; i < bytes; i++)
        key[i] ^= proof[i];
    auth_scram_digest(s->hash, mqg_slice_of(key, bytes), stored);
    OPENSSL_cleanse(key, sizeof key);
    return CRYPTO_memcmp(stored, s->verifier.stored, bytes) == 0;
}

static void scram_server_final(struct mqg_scram *s)
{
    uint8_t signature[AUTH_DIGEST_MAX_BYTES], text[AUTH_HASH_TEXT_BYTES];
    size_t bytes = auth_scram_bytes(s->hash);
    auth_scram_hmac(s->hash, mqg_slice_of(s->verifier.server, bytes), mqg_dynbuf_view(&s->auth), signature);
    EVP_EncodeBlock(text, signature, (int)bytes);
    mqg_dynbuf_printf(&s->reply, "v=%s", (const char *)text);
    s->state = SCRAM_OVER;
}

static enum mqg_err scram_judge(struct mqg_scram *s, const struct mqg_conn_info *from, const uint8_t *proof,
                                struct mqg_session **out, struct mqg_error *e)
{
    bool fits = scram_proof_fits(s, proof);
    struct auth_user *u = auth_user_find(s->user);
    const char *why = s->unfit != NULL ? s->unfit
                      : !fits          ? "wrong password"
                      : u == NULL      ? "the user went away"
                                       : NULL;
    if (why == NULL) {
        scram_server_final(s);
        *out = auth_admit(from, u);
    } else {
        scram_over(s, "invalid-proof");
    }
    auth_user_unref(&u);
    return why == NULL ? MQG_OK : auth_refuse(from, s->user, why, e);
}

/* Where the proof begins: the last attribute. NULL: there is none. */
static const uint8_t *scram_proof_at(struct mqg_slice message)
{
    for (size_t i = message.len; i > 2; i--)
        if (message.ptr[i - 1] == '=' && message.ptr[i - 2] == 'p' && message.ptr[i - 3] == ',')
            return message.ptr + i - 3;
    return NULL;
}

/* Ours, whole. librdkafka before 2.6.1 puts its own half before it once more; the server's half is there, and all is signed. */
static bool scram_nonce_ok(const struct mqg_scram *s, struct mqg_slice nonce)
{
    struct mqg_slice whole = mqg_dynbuf_view(&s->nonce), half = mqg_slice_of(whole.ptr, s->cnonce_bytes);
    if (nonce.len == half.len + whole.len && mqg_slice_starts(nonce, half))
        nonce = mqg_slice_of(nonce.ptr + half.len, whole.len);
    return mqg_slice_eq(nonce, whole);
}

static enum mqg_err scram_final(struct mqg_scram *s, const struct mqg_conn_info *from,
                                struct mqg_slice message, struct mqg_session **out, struct mqg_error *e)
{
    struct mqg_slice rest = message, binding, nonce;
    uint8_t header[AUTH_BASE64_MAX_BYTES], proof[AUTH_DIGEST_MAX_BYTES];
    if (!scram_attribute(&rest, 'c', &binding) || !scram_attribute(&rest, 'r', &nonce))
        return scram_malformed(s, "other-error", "the final message has no binding or nonce", e);
    int n = auth_base64(binding, header, sizeof header);
    if (n < 0 || !mqg_slice_eq(mqg_slice_of(header, (size_t)n), mqg_dynbuf_view(&s->gs2)))
        return scram_malformed(s, "channel-bindings-dont-match", "the gs2 header came differently again", e);
    if (!scram_nonce_ok(s, nonce))
        return scram_malformed(s, "other-error", "the nonce is another one", e);
    const uint8_t *at = scram_proof_at(message);
    if (at == NULL)
        return scram_malformed(s, "other-error", "the final message has no proof", e);
    struct mqg_slice text = mqg_slice_of(at + 3, (size_t)(message.ptr + message.len - at - 3));
    if (auth_base64(text, proof, sizeof proof) != (int)auth_scram_bytes(s->hash))
        return scram_malformed(s, "invalid-encoding", "the proof is not base64 of a digest", e);
    mqg_dynbuf_slice(&s->auth, mqg_slice_of(message.ptr, (size_t)(at - message.ptr)));
    MQG_ASSERT(!s->auth.failed);
    return scram_judge(s, from, proof, out, e);
}

enum mqg_err mqg_scram_step(struct mqg_scram *s, const struct mqg_conn_info *from, struct mqg_slice message,
                            struct mqg_slice *reply, struct mqg_session **out, struct mqg_error *e)
{
    enum mqg_err err;
    *out = NULL;
    mqg_dynbuf_reset(&s->reply);
    if (message.len == 0 || message.len > SCRAM_MESSAGE_MAX_BYTES)
        err = scram_malformed(s, "other-error", "a message is empty or too long", e);
    else if (s->state == SCRAM_FIRST)
        err = scram_first(s, from, message, e);
    else if (s->state == SCRAM_FINAL)
        err = scram_final(s, from, message, out, e);
    else
        err = scram_malformed(s, "other-error", "a message after the last one", e);
    *reply = mqg_dynbuf_view(&s->reply);
    return err;
}
