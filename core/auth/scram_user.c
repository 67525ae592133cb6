/* scram_user.c - SCRAM credentials of a user set, removed and told alone, without the password (Kafka's
 * AlterUserScramCredentials brings salt and salted password: the password itself is never here). */
#include "auth_int.h"

#include <mqgate/obs.h>

static struct auth_user *scram_user_with(const struct auth_user *old, enum mqg_scram_hash hash,
                                         const struct auth_scram *v)
{
    struct auth_user *u = auth_user_new(mqg_slice_str(old->name), &old->hash, old->scram, old->tags);
    u->scram[hash] = *v;
    return u;
}

static void scram_user_log(struct mqg_slice name, enum mqg_scram_hash hash, const char *change)
{
    mqg_log(MQG_LOG_INFO, MQG_EVENT_ACCOUNT, "user=%s change=%s mechanism=%s", mqg_logq(name), change,
            mqg_scram_name(hash));
}

enum mqg_err mqg_user_scram_put(struct mqg_slice name, enum mqg_scram_hash hash, uint32_t iterations,
                                struct mqg_slice salt, struct mqg_slice salted, uint64_t *ticket,
                                struct mqg_error *e)
{
    struct auth_scram v;
    if (iterations < AUTH_SCRAM_ITERATIONS || iterations > AUTH_SCRAM_ITERATIONS_MAX)
        return mqg_error_set(e, MQG_INVALID, 0, "iterations must be %d to %d", AUTH_SCRAM_ITERATIONS,
                             AUTH_SCRAM_ITERATIONS_MAX);
    if (salt.len < AUTH_SCRAM_SALT_MIN_BYTES || salt.len > AUTH_SCRAM_SALT_MAX_BYTES)
        return mqg_error_set(e, MQG_INVALID, 0, "a salt must be %d to %d bytes", AUTH_SCRAM_SALT_MIN_BYTES,
                             AUTH_SCRAM_SALT_MAX_BYTES);
    if (salted.len != auth_scram_bytes(hash))
        return mqg_error_set(e, MQG_INVALID, 0, "a salted password of %s has %zu bytes", mqg_scram_name(hash),
                             auth_scram_bytes(hash));
    auth_scram_from(&v, hash, iterations, salt, salted);
    auth_lock();
    const struct auth_user *old = auth_user_locked(name);
    bool found = old != NULL;
    if (found)
        *ticket = auth_user_write_locked(scram_user_with(old, hash, &v));
    auth_unlock();
    if (!found)
        return auth_no_user(name, e);
    scram_user_log(name, hash, "scram");
    return MQG_OK;
}

enum mqg_err mqg_user_scram_delete(struct mqg_slice name, enum mqg_scram_hash hash, uint64_t *ticket,
                                   struct mqg_error *e)
{
    const struct auth_scram none = {0};
    auth_lock();
    const struct auth_user *old = auth_user_locked(name);
    bool user = old != NULL, has = user && old->scram[hash].iterations > 0;
    if (has)
        *ticket = auth_user_write_locked(scram_user_with(old, hash, &none));
    auth_unlock();
    if (!user)
        return auth_no_user(name, e);
    if (!has)
        return mqg_error_set(e, MQG_NOT_FOUND, 0, "user '%.*s' has no credential for %s", MQG_SLICE_FMT(name),
                             mqg_scram_name(hash));
    scram_user_log(name, hash, "scram_delete");
    return MQG_OK;
}

enum mqg_err mqg_user_scram(struct mqg_slice name, uint32_t iterations[MQG_SCRAM_COUNT], struct mqg_error *e)
{
    struct auth_user *u = auth_user_find(name);
    if (u == NULL)
        return auth_no_user(name, e);
    for (unsigned i = 0; i < MQG_SCRAM_COUNT; i++)
        iterations[i] = u->scram[i].iterations;
    auth_user_unref(&u);
    return MQG_OK;
}
