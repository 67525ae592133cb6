/* auth.c - start and end: settings, recovery, the first user.
 *
 * A node that has never had a user gets guest with the password guest, who may do everything on "/" and come from this
 * machine only: the first steps work, and an open port gives nobody anything. */
#include "auth_int.h"

#include <mqgate/lanes.h>
#include <mqgate/obs.h>

/* Written once the first user was: who deletes all users does not find guest again after a restart. Its value is '1' and the
 * secret from which the salts are made that SCRAM shows for users who do not exist. */
#define AUTH_FIRST_KEY "user/"
enum { AUTH_FIRST_BYTES = 1 + AUTH_SCRAM_SECRET_BYTES };

static bool auth_had_first, auth_had_secret;
static _Atomic bool auth_anonymous_on;
static _Atomic bool auth_guest_loopback = true;

bool auth_anonymous(void)
{
    return atomic_load_explicit(&auth_anonymous_on, memory_order_relaxed);
}

bool auth_from_ok(const char *name, bool loopback)
{
    return loopback || strcmp(name, "guest") != 0 ||
           !atomic_load_explicit(&auth_guest_loopback, memory_order_relaxed);
}

void mqg_auth_reload(const struct mqg_conf *conf)
{
    atomic_store(&auth_anonymous_on, mqg_conf_bool(conf, "auth", "anonymous"));
    atomic_store(&auth_guest_loopback, mqg_conf_bool(conf, "auth", "guest_loopback_only"));
}

enum mqg_err mqg_auth_init(const struct mqg_conf *conf, struct mqg_error *e)
{
    (void)e;
    mqg_auth_reload(conf);
    return MQG_OK;
}

static bool auth_same_key(const struct mqg_dynbuf *made, struct mqg_slice key)
{
    return mqg_slice_eq(mqg_dynbuf_view(made), key);
}

static enum mqg_err auth_recover_user(struct mqg_slice key, struct mqg_slice value, struct mqg_dynbuf *made)
{
    struct auth_user *u;
    enum mqg_err err = auth_user_decode(value, &u);
    if (err != MQG_OK)
        return err;
    auth_user_key(made, mqg_slice_str(u->name));
    if (!auth_same_key(made, key)) {
        auth_user_unref(&u);
        return MQG_CORRUPT;
    }
    auth_lock();
    auth_user_set_locked(u);
    auth_unlock();
    return MQG_OK;
}

static enum mqg_err auth_recover_perm(struct mqg_slice key, struct mqg_slice value, struct mqg_dynbuf *made)
{
    struct auth_perm *p;
    enum mqg_err err = auth_perm_decode(value, &p);
    if (err != MQG_OK)
        return err;
    auth_perm_key(made, mqg_slice_str(p->vhost), mqg_slice_str(p->user));
    if (!auth_same_key(made, key)) {
        auth_perm_unref(&p);
        return MQG_CORRUPT;
    }
    auth_lock();
    auth_perm_set_locked(p);
    auth_unlock();
    return MQG_OK;
}

void mqg_auth_recover(struct mqg_slice key, struct mqg_slice value)
{
    struct mqg_dynbuf made;
    if (mqg_slice_eq(key, MQG_SLICE_LIT(AUTH_FIRST_KEY))) {
        auth_had_first = true;
        auth_had_secret = value.len == AUTH_FIRST_BYTES;
        if (auth_had_secret)
            auth_scram_secret(value.ptr + 1);
        return;
    }
    mqg_dynbuf_init(&made, 4096);
    enum mqg_err err = mqg_slice_starts(key, MQG_SLICE_LIT("tperm/"))  ? auth_topic_recover(value)
                       : mqg_slice_starts(key, MQG_SLICE_LIT("user/")) ? auth_recover_user(key, value, &made)
                                                                       : auth_recover_perm(key, value, &made);
    mqg_dynbuf_fini(&made);
    /* The account is left out: its owner cannot come in, which is the safe side. */
    if (err != MQG_OK)
        mqg_log(MQG_LOG_ERROR, MQG_EVENT_CORRUPTION, "what=account key=%s err=%s", mqg_logq(key),
                mqg_err_name(err));
}

static void auth_first_user(void)
{
    const struct mqg_slice guest = MQG_SLICE_LIT("guest"), vhost = MQG_SLICE_LIT("/");
    const struct mqg_slice all[MQG_PERM_COUNT] = {MQG_SLICE_LIT(".*"), MQG_SLICE_LIT(".*"),
                                                  MQG_SLICE_LIT(".*")};
    struct auth_hash hash;
    struct auth_scram scram[MQG_SCRAM_COUNT];
    auth_hash_make(&hash, guest);
    for (unsigned i = 0; i < MQG_SCRAM_COUNT; i++)
        auth_scram_make(&scram[i], i, guest);
    struct auth_user *u = auth_user_new(guest, &hash, scram, MQG_TAG_ADMINISTRATOR);
    struct auth_perm *p = auth_perm_new(guest, vhost, all, NULL);
    struct mqg_dynbuf key, value;
    mqg_dynbuf_init(&key, 4096);
    mqg_dynbuf_init(&value, 4096);
    auth_user_key(&key, guest);
    auth_user_encode(&value, u);
    mqg_meta_put(mqg_dynbuf_view(&key), mqg_dynbuf_view(&value));
    mqg_dynbuf_reset(&key);
    mqg_dynbuf_reset(&value);
    auth_perm_key(&key, vhost, guest);
    auth_perm_encode(&value, p);
    mqg_meta_put(mqg_dynbuf_view(&key), mqg_dynbuf_view(&value));
    mqg_dynbuf_fini(&key);
    mqg_dynbuf_fini(&value);
    auth_lock();
    auth_user_set_locked(u);
    auth_perm_set_locked(p);
    auth_unlock();
    mqg_log(MQG_LOG_INFO, MQG_EVENT_ACCOUNT, "user=guest change=first tags=administrator vhost=/");
}

static void auth_first_record(void)
{
    uint8_t value[AUTH_FIRST_BYTES] = {'1'};
    mqg_random_bytes(value + 1, AUTH_SCRAM_SECRET_BYTES);
    auth_scram_secret(value + 1);
    mqg_meta_put(MQG_SLICE_LIT(AUTH_FIRST_KEY), mqg_slice_of(value, sizeof value));
}

void mqg_auth_recovered(void)
{
    if (auth_user_count() == 0 && !auth_had_first)
        auth_first_user();
    if (!auth_had_secret)
        auth_first_record();
    auth_had_first = auth_had_secret = true;
}

void mqg_auth_fini(void)
{
    auth_had_first = auth_had_secret = false;
    auth_accounts_clear();
    auth_topic_clear();
}
