/* manage.c - changing and listing users and permissions.
 *
 * A change is written to the store's lane and to memory under one lock, so that both see the same order; the lane never
 * waits for the disk, and who must know that it is durable waits for the ticket. */
#include "auth_int.h"

#include <mqgate/broker.h>
#include <mqgate/lanes.h>
#include <mqgate/obs.h>

#include <stdlib.h>

enum { MANAGE_RECORD_MAX_BYTES = 64 << 10 };

/* ---- records --------------------------------------------------------------------------------------------------------------- */

struct manage_record {
    struct mqg_dynbuf key, value;
};

static void record_init(struct manage_record *r)
{
    mqg_dynbuf_init(&r->key, MANAGE_RECORD_MAX_BYTES);
    mqg_dynbuf_init(&r->value, MANAGE_RECORD_MAX_BYTES);
}

static void record_fini(struct manage_record *r)
{
    mqg_dynbuf_fini(&r->key);
    mqg_dynbuf_fini(&r->value);
}

static uint64_t record_put(const struct manage_record *r)
{
    MQG_ASSERT(!r->key.failed && !r->value.failed); /* names and patterns were measured before */
    return mqg_meta_put(mqg_dynbuf_view(&r->key), mqg_dynbuf_view(&r->value));
}

uint64_t auth_user_write_locked(struct auth_user *u)
{
    struct manage_record r;
    record_init(&r);
    auth_user_key(&r.key, mqg_slice_str(u->name));
    auth_user_encode(&r.value, u);
    uint64_t ticket = record_put(&r);
    record_fini(&r);
    auth_user_set_locked(u);
    return ticket;
}

static uint64_t perm_remove_locked(struct mqg_slice vhost, struct mqg_slice user)
{
    struct manage_record r;
    record_init(&r);
    auth_perm_key(&r.key, vhost, user);
    uint64_t ticket = mqg_meta_remove(mqg_dynbuf_view(&r.key));
    record_fini(&r);
    auth_perm_del_locked(vhost, user);
    return ticket;
}

/* ---- users ------------------------------------------------------------------------------------------------------------------ */

static enum mqg_err manage_name(struct mqg_slice name, struct mqg_error *e)
{
    if (name.len == 0)
        return mqg_error_set(e, MQG_INVALID, 0, "a user name is empty");
    if (name.len > AUTH_NAME_MAX_BYTES)
        return mqg_error_set(e, MQG_INVALID, 0, "a user name is longer than %d bytes", AUTH_NAME_MAX_BYTES);
    if (!mqg_utf8_valid(name) || memchr(name.ptr, 0, name.len) != NULL)
        return mqg_error_set(e, MQG_INVALID, 0, "a user name is not text in UTF-8");
    return MQG_OK;
}

static enum mqg_err manage_hash(struct auth_hash *h, const struct mqg_slice *password,
                                const struct mqg_slice *hash_base64, struct mqg_slice algorithm,
                                struct mqg_error *e)
{
    const char *known = auth_algorithm(algorithm);
    if (known == NULL)
        return mqg_error_set(e, MQG_UNSUPPORTED, 0,
                             "hashing algorithm '%.*s' is not known; these are: " AUTH_SHA256
                             ", " AUTH_SHA512,
                             MQG_SLICE_FMT(algorithm));
    if (hash_base64 != NULL) {
        if (!auth_hash_parse(h, known, *hash_base64))
            return mqg_error_set(e, MQG_INVALID, 0,
                                 "the password hash is not base64 of a salt and a digest of %s", known);
    } else if (password != NULL && password->len > 0) {
        auth_hash_make(h, *password);
    } else {
        *h = (struct auth_hash){.algorithm = known};
    }
    return MQG_OK;
}

static bool manage_same_hash(const struct auth_hash *a, const struct auth_hash *b)
{
    return a->digest_bytes > 0 && a->digest_bytes == b->digest_bytes &&
           memcmp(a->salt, b->salt, sizeof a->salt) == 0 &&
           memcmp(a->digest, b->digest, a->digest_bytes) == 0;
}

enum mqg_err mqg_user_put(struct mqg_slice name, const struct mqg_slice *password,
                          const struct mqg_slice *hash_base64, struct mqg_slice algorithm, unsigned tags,
                          uint64_t *ticket, struct mqg_error *e)
{
    struct auth_hash hash;
    struct auth_scram scram[MQG_SCRAM_COUNT] = {0};
    enum mqg_err err = manage_name(name, e);
    if (err == MQG_OK)
        err = manage_hash(&hash, password, hash_base64, algorithm, e);
    if (err != MQG_OK)
        return err;
    if (hash_base64 == NULL && password != NULL && password->len > 0)
        for (unsigned i = 0; i < MQG_SCRAM_COUNT; i++)
            auth_scram_make(&scram[i], i, *password);
    struct auth_user *u = auth_user_new(name, &hash, scram, tags);
    auth_lock();
    const struct auth_user *old = auth_user_locked(name);
    if (hash_base64 != NULL && old != NULL && manage_same_hash(&old->hash, &hash))
        memcpy(u->scram, old->scram, sizeof u->scram); /* an import of what we exported */
    *ticket = auth_user_write_locked(u);
    auth_unlock();
    char words[96];
    mqg_tags_print(tags, words);
    mqg_log(MQG_LOG_INFO, MQG_EVENT_ACCOUNT, "user=%s change=put tags=%s", mqg_logq(name), mqg_logqs(words));
    return MQG_OK;
}

enum mqg_err auth_no_user(struct mqg_slice name, struct mqg_error *e)
{
    return mqg_error_set(e, MQG_NOT_FOUND, 0, "user '%.*s' does not exist", MQG_SLICE_FMT(name));
}

enum mqg_err mqg_user_tags(struct mqg_slice name, unsigned tags, uint64_t *ticket, struct mqg_error *e)
{
    auth_lock();
    const struct auth_user *old = auth_user_locked(name);
    bool found = old != NULL;
    if (found)
        *ticket = auth_user_write_locked(auth_user_new(name, &old->hash, old->scram, tags));
    auth_unlock();
    if (!found)
        return auth_no_user(name, e);
    char words[96];
    mqg_tags_print(tags, words);
    mqg_log(MQG_LOG_INFO, MQG_EVENT_ACCOUNT, "user=%s change=tags tags=%s", mqg_logq(name), mqg_logqs(words));
    return MQG_OK;
}

bool mqg_user_tags_now(struct mqg_slice name, unsigned *tags)
{
    auth_lock();
    const struct auth_user *u = auth_user_locked(name);
    bool found = u != NULL;
    *tags = found ? u->tags : 0;
    auth_unlock();
    return found;
}

enum mqg_err mqg_user_delete(struct mqg_slice name, uint64_t *ticket, struct mqg_error *e)
{
    size_t n;
    struct auth_perm **perms = auth_perm_all(&n);
    struct manage_record r;
    record_init(&r);
    auth_user_key(&r.key, name);
    auth_lock();
    bool found = auth_user_locked(name) != NULL;
    if (found) {
        for (size_t i = 0; i < n; i++)
            if (mqg_slice_eq(mqg_slice_str(perms[i]->user), name))
                perm_remove_locked(mqg_slice_str(perms[i]->vhost), name);
        auth_topic_forget_locked(NULL, &name);
        *ticket = mqg_meta_remove(mqg_dynbuf_view(&r.key));
        auth_user_del_locked(name);
    }
    auth_unlock();
    record_fini(&r);
    for (size_t i = 0; i < n; i++)
        auth_perm_unref(&perms[i]);
    free(perms);
    if (!found)
        return auth_no_user(name, e);
    mqg_log(MQG_LOG_INFO, MQG_EVENT_ACCOUNT, "user=%s change=delete", mqg_logq(name));
    return MQG_OK;
}

void mqg_user_each(void (*visit)(void *arg, const struct mqg_user_info *u), void *arg)
{
    size_t n;
    struct auth_user **all = auth_user_all(&n);
    for (size_t i = 0; i < n; i++) {
        char text[AUTH_HASH_TEXT_BYTES];
        auth_hash_print(&all[i]->hash, text);
        visit(arg, &(struct mqg_user_info){all[i]->name, text, all[i]->hash.algorithm, all[i]->tags});
        auth_user_unref(&all[i]);
    }
    free(all);
}

/* ---- permissions -------------------------------------------------------------------------------------------------------------- */

static enum mqg_err manage_patterns(const struct mqg_slice text[MQG_PERM_COUNT], struct mqg_error *e)
{
    for (size_t i = 0; i < MQG_PERM_COUNT; i++) {
        if (text[i].len > AUTH_PATTERN_MAX_BYTES)
            return mqg_error_set(e, MQG_TOO_LARGE, 0, "a permission's pattern is longer than %d bytes",
                                 AUTH_PATTERN_MAX_BYTES);
        if (!mqg_utf8_valid(text[i]) || (text[i].len > 0 && memchr(text[i].ptr, 0, text[i].len) != NULL))
            return mqg_error_set(e, MQG_INVALID, 0, "a permission's pattern is not text in UTF-8");
    }
    return MQG_OK;
}

enum mqg_err mqg_perm_put(struct mqg_slice user, struct mqg_slice vhost, struct mqg_slice configure,
                          struct mqg_slice write, struct mqg_slice read, uint64_t *ticket,
                          struct mqg_error *e)
{
    const struct mqg_slice text[MQG_PERM_COUNT] = {
        [MQG_CONFIGURE] = configure, [MQG_WRITE] = write, [MQG_READ] = read};
    enum mqg_err err = manage_patterns(text, e);
    if (err != MQG_OK)
        return err;
    if (mqg_vhost_find(vhost) == NULL)
        return mqg_error_set(e, MQG_NOT_FOUND, 0, "vhost '%.*s' does not exist", MQG_SLICE_FMT(vhost));
    struct mqg_error why = {.err = MQG_INVALID};
    struct auth_perm *p = auth_perm_new(user, vhost, text, &why);
    if (p == NULL)
        return mqg_error_set(e, why.err, 0, "%s", why.text);
    struct manage_record r;
    record_init(&r);
    auth_perm_key(&r.key, vhost, user);
    auth_perm_encode(&r.value, p);
    auth_lock();
    bool found = auth_user_locked(user) != NULL;
    if (found) {
        *ticket = record_put(&r);
        auth_perm_set_locked(p);
    }
    auth_unlock();
    record_fini(&r);
    if (!found) {
        auth_perm_unref(&p);
        return auth_no_user(user, e);
    }
    mqg_log(MQG_LOG_INFO, MQG_EVENT_ACCOUNT,
            "user=%s change=permissions vhost=%s configure=%s write=%s read=%s", mqg_logq(user),
            mqg_logq(vhost), mqg_logq(configure), mqg_logq(write), mqg_logq(read));
    return MQG_OK;
}

enum mqg_err mqg_perm_delete(struct mqg_slice user, struct mqg_slice vhost, uint64_t *ticket,
                             struct mqg_error *e)
{
    auth_lock();
    bool found = auth_perm_locked(vhost, user) != NULL;
    if (found)
        *ticket = perm_remove_locked(vhost, user);
    auth_unlock();
    if (!found)
        return mqg_error_set(e, MQG_NOT_FOUND, 0, "user '%.*s' has no permissions in vhost '%.*s'",
                             MQG_SLICE_FMT(user), MQG_SLICE_FMT(vhost));
    mqg_log(MQG_LOG_INFO, MQG_EVENT_ACCOUNT, "user=%s change=permissions_delete vhost=%s", mqg_logq(user),
            mqg_logq(vhost));
    return MQG_OK;
}

uint64_t mqg_auth_vhost_gone(struct mqg_slice vhost)
{
    size_t n;
    uint64_t ticket = 0;
    struct auth_perm **perms = auth_perm_all(&n);
    auth_lock();
    for (size_t i = 0; i < n; i++)
        if (mqg_slice_eq(mqg_slice_str(perms[i]->vhost), vhost))
            ticket = perm_remove_locked(vhost, mqg_slice_str(perms[i]->user));
    auth_topic_forget_locked(&vhost, NULL);
    auth_unlock();
    for (size_t i = 0; i < n; i++)
        auth_perm_unref(&perms[i]);
    free(perms);
    return ticket;
}

void mqg_perm_each(void (*visit)(void *arg, const struct mqg_perm_info *p), void *arg)
{
    size_t n;
    struct auth_perm **all = auth_perm_all(&n);
    for (size_t i = 0; i < n; i++) {
        const struct auth_perm *p = all[i];
        visit(arg, &(struct mqg_perm_info){p->user, p->vhost, p->text[MQG_CONFIGURE], p->text[MQG_WRITE],
                                           p->text[MQG_READ]});
        auth_perm_unref(&all[i]);
    }
    free(all);
}

bool mqg_user_can(struct mqg_slice user, struct mqg_slice vhost, enum mqg_perm perm,
                  struct mqg_slice resource)
{
    struct auth_perm *p = auth_perm_find(vhost, user);
    if (p == NULL)
        return false;
    bool yes = auth_pattern_match(p->pattern[perm],
                                  resource.len > 0 ? resource : MQG_SLICE_LIT("amq.default"));
    auth_perm_unref(&p);
    return yes;
}
