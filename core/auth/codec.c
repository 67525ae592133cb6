/* codec.c - accounts as metadata: keys and values.
 *
 * Keys:  user/NAME   perm/VHOST/NAME   tperm/VHOST/NAME/EXCHANGE (topic.c)      parts percent-encoded: every byte but [A-Za-z0-9._-] as %XX, so one key each
 *
 * Values, little-endian, strings as u16 length and bytes:
 *
 *   user  | 1 | flags | tags u32 | name | algorithm | hash, base64 |     flags 1: | verifiers u8 | SCRAM verifier (scram.c) ... |
 *   perm  | 1 | flags 0 | vhost | user | configure | write | read |
 *
 * The first byte is the version. A flag or a tag that this version does not know is refused like a later version: it was
 * written because it matters. */
#include "auth_int.h"

enum { CODEC_VERSION = 1, CODEC_SCRAM = 1 };

static void codec_part(struct mqg_dynbuf *out, struct mqg_slice part)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    if (out->len > 0)
        mqg_dynbuf_u8(out, '/');
    for (size_t i = 0; i < part.len; i++) {
        uint8_t c = part.ptr[i];
        if (c != 0 && strchr(plain, c) != NULL)
            mqg_dynbuf_u8(out, c);
        else
            mqg_dynbuf_printf(out, "%%%02X", c);
    }
}

void auth_user_key(struct mqg_dynbuf *out, struct mqg_slice name)
{
    codec_part(out, MQG_SLICE_LIT("user"));
    codec_part(out, name);
}

void auth_perm_key(struct mqg_dynbuf *out, struct mqg_slice vhost, struct mqg_slice user)
{
    codec_part(out, MQG_SLICE_LIT("perm"));
    codec_part(out, vhost);
    codec_part(out, user);
}

void auth_topic_key(struct mqg_dynbuf *out, struct mqg_slice vhost, struct mqg_slice user,
                    struct mqg_slice exchange)
{
    codec_part(out, MQG_SLICE_LIT("tperm"));
    codec_part(out, vhost);
    codec_part(out, user);
    codec_part(out, exchange);
}

/* ---- writing ----------------------------------------------------------------------------------------------------------- */

static void codec_put(struct mqg_dynbuf *out, const char *s)
{
    size_t len = strlen(s);
    MQG_ASSERT(len <= UINT16_MAX);
    mqg_dynbuf_le16(out, (uint16_t)len);
    mqg_dynbuf_put(out, s, len);
}

static uint8_t codec_verifiers(const struct auth_user *u)
{
    uint8_t n = 0;
    for (unsigned i = 0; i < MQG_SCRAM_COUNT; i++)
        n = (uint8_t)(n + (u->scram[i].iterations > 0));
    return n;
}

void auth_user_encode(struct mqg_dynbuf *out, const struct auth_user *u)
{
    char text[AUTH_HASH_TEXT_BYTES];
    uint8_t verifiers = codec_verifiers(u);
    auth_hash_print(&u->hash, text);
    mqg_dynbuf_u8(out, CODEC_VERSION);
    mqg_dynbuf_u8(out, verifiers > 0 ? CODEC_SCRAM : 0);
    mqg_dynbuf_le32(out, u->tags);
    codec_put(out, u->name);
    codec_put(out, u->hash.algorithm);
    codec_put(out, text);
    if (verifiers > 0)
        mqg_dynbuf_u8(out, verifiers);
    for (unsigned i = 0; i < MQG_SCRAM_COUNT; i++) {
        char verifier[AUTH_SCRAM_TEXT_BYTES];
        if (u->scram[i].iterations == 0)
            continue;
        auth_scram_print(&u->scram[i], i, verifier);
        codec_put(out, verifier);
    }
}

void auth_perm_encode(struct mqg_dynbuf *out, const struct auth_perm *p)
{
    mqg_dynbuf_u8(out, CODEC_VERSION);
    mqg_dynbuf_u8(out, 0);
    codec_put(out, p->vhost);
    codec_put(out, p->user);
    for (size_t i = 0; i < MQG_PERM_COUNT; i++)
        codec_put(out, p->text[i]);
}

/* ---- reading ----------------------------------------------------------------------------------------------------------- */

static enum mqg_err codec_head(struct mqg_cursor *c, uint8_t known_flags, uint8_t *flags)
{
    uint8_t version = mqg_cursor_u8(c);
    *flags = mqg_cursor_u8(c);
    if (c->failed)
        return MQG_MALFORMED;
    return version == CODEC_VERSION && (*flags & ~known_flags) == 0 ? MQG_OK : MQG_UNSUPPORTED;
}

/* Texts become C strings, so a NUL inside would hide a part. */
static struct mqg_slice codec_take(struct mqg_cursor *c, size_t max_bytes)
{
    struct mqg_slice s = mqg_cursor_slice(c, mqg_cursor_le16(c));
    if (s.len > max_bytes || (s.len > 0 && memchr(s.ptr, 0, s.len) != NULL))
        mqg_cursor_fail(c);
    return s;
}

/* At least one, and each mechanism once. */
static void codec_take_scram(struct mqg_cursor *c, struct auth_scram scram[MQG_SCRAM_COUNT])
{
    size_t n = mqg_cursor_u8(c);
    if (n == 0 || n > MQG_SCRAM_COUNT)
        mqg_cursor_fail(c);
    for (size_t i = 0; i < n && !c->failed; i++) {
        struct auth_scram v;
        enum mqg_scram_hash hash;
        if (!auth_scram_parse(&v, codec_take(c, AUTH_SCRAM_TEXT_BYTES), &hash) || scram[hash].iterations > 0)
            mqg_cursor_fail(c);
        else
            scram[hash] = v;
    }
}

enum mqg_err auth_user_decode(struct mqg_slice value, struct auth_user **out)
{
    const unsigned known = MQG_TAG_ADMINISTRATOR | MQG_TAG_MONITORING | MQG_TAG_POLICYMAKER |
                           MQG_TAG_MANAGEMENT | MQG_TAG_IMPERSONATOR;
    struct mqg_cursor c = mqg_cursor_of(value);
    struct auth_scram scram[MQG_SCRAM_COUNT] = {0};
    uint8_t flags;
    enum mqg_err err = codec_head(&c, CODEC_SCRAM, &flags);
    if (err != MQG_OK)
        return err;
    uint32_t tags = mqg_cursor_le32(&c);
    struct mqg_slice name = codec_take(&c, AUTH_NAME_MAX_BYTES);
    const char *algorithm = auth_algorithm(codec_take(&c, AUTH_NAME_MAX_BYTES));
    struct mqg_slice text = codec_take(&c, AUTH_HASH_TEXT_BYTES);
    struct auth_hash hash;
    if (flags & CODEC_SCRAM)
        codec_take_scram(&c, scram);
    if (!mqg_cursor_done(&c) || name.len == 0)
        return MQG_MALFORMED;
    if (algorithm == NULL || (tags & ~known) != 0)
        return MQG_UNSUPPORTED;
    if (!auth_hash_parse(&hash, algorithm, text))
        return MQG_MALFORMED;
    *out = auth_user_new(name, &hash, scram, tags);
    return MQG_OK;
}

enum mqg_err auth_perm_decode(struct mqg_slice value, struct auth_perm **out)
{
    struct mqg_cursor c = mqg_cursor_of(value);
    uint8_t flags;
    enum mqg_err err = codec_head(&c, 0, &flags);
    if (err != MQG_OK)
        return err;
    struct mqg_slice vhost = codec_take(&c, AUTH_NAME_MAX_BYTES), user = codec_take(&c, AUTH_NAME_MAX_BYTES);
    struct mqg_slice text[MQG_PERM_COUNT];
    for (size_t i = 0; i < MQG_PERM_COUNT; i++)
        text[i] = codec_take(&c, AUTH_PATTERN_MAX_BYTES);
    if (!mqg_cursor_done(&c) || user.len == 0)
        return MQG_MALFORMED;
    *out = auth_perm_new(user, vhost, text, NULL);
    return MQG_OK;
}
