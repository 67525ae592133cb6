/* session.c - one authenticated principal on one connection.
 *
 * A publisher asks for the same permission on the same exchange again and again, so a session keeps its last answer per
 * permission, and besides a few older ones. All of them are void when the generation of the accounts has moved on. The
 * check of the hot path is thus: one load, and one comparison of a name with the last one. */
#include "auth_int.h"

#include <mqgate/broker.h>
#include <mqgate/obs.h>

#include <stdio.h>
#include <stdlib.h>

#define SESSION_MAGIC 0x53455353u /* "SESS" */
enum { SESSION_ANSWERS = 4, SESSION_ANSWER_NAME_BYTES = 62 };

struct session_answer {
    uint8_t name[SESSION_ANSWER_NAME_BYTES];
    uint8_t len; /* 0: nothing here */
    bool yes;
};

struct mqg_session_cache {
    bool internal;
    uint64_t generation;    /* of what follows; 0: none */
    struct auth_perm *perm; /* NULL: no permission in the vhost */
    uint8_t next[MQG_PERM_COUNT];
    struct session_answer answers[MQG_PERM_COUNT][SESSION_ANSWERS];
};

/* ---- making ------------------------------------------------------------------------------------------------------------------- */

static struct mqg_session *session_new(const char *user, unsigned tags, uint64_t conn_id)
{
    struct mqg_session *s = mqg_xcalloc(1, sizeof *s);
    s->magic = SESSION_MAGIC;
    atomic_init(&s->refs, 1);
    snprintf(s->user, sizeof s->user, "%s", user);
    s->tags = tags;
    s->conn_id = conn_id;
    s->cache = mqg_xcalloc(1, sizeof *s->cache);
    return s;
}

struct mqg_session *mqg_session_ref(struct mqg_session *s)
{
    MQG_CHECK(s, SESSION_MAGIC);
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

void mqg_session_unref(struct mqg_session **session)
{
    struct mqg_session *s = *session;
    *session = NULL;
    if (s == NULL)
        return;
    MQG_CHECK(s, SESSION_MAGIC);
    if (atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
        return;
    auth_perm_unref(&s->cache->perm);
    free(s->cache);
    s->magic = 0;
    free(s);
}

struct mqg_session *mqg_session_internal(struct mqg_vhost *v)
{
    struct mqg_session *s = session_new("", MQG_TAG_ADMINISTRATOR, 0);
    s->cache->internal = true;
    s->vhost = v;
    return s;
}

/* ---- logging in ----------------------------------------------------------------------------------------------------------------- */

static bool session_is_anonymous(struct mqg_slice user, bool loopback)
{
    return user.len == 0 && loopback && auth_anonymous();
}

/* The user when name and password fit, with a reference; else NULL, and why for the log. */
static struct auth_user *session_check(struct mqg_slice name, struct mqg_slice password, bool loopback,
                                       const char **why)
{
    if (session_is_anonymous(name, loopback) && password.len == 0) {
        *why = "there is no user guest for anonymous clients";
        return auth_user_find(MQG_SLICE_LIT("guest"));
    }
    struct auth_user *u = auth_user_find(name);
    bool right = auth_hash_check(u != NULL ? &u->hash : NULL, password);
    *why = u == NULL                          ? "no such user"
           : !right                           ? "wrong password"
           : !auth_from_ok(u->name, loopback) ? "guest may only come from this machine"
                                              : NULL;
    if (*why != NULL)
        auth_user_unref(&u);
    return u;
}

enum mqg_err auth_refuse(const struct mqg_conn_info *from, struct mqg_slice user, const char *why,
                         struct mqg_error *e)
{
    mqg_count(MQG_COUNT_LOGINS_FAILED, 1);
    mqg_log(MQG_LOG_INFO, MQG_EVENT_CONN_LOGIN, "conn=%llu result=refused user=%s peer=%s:%u why=%s",
            (unsigned long long)from->id, mqg_logq(user), from->peer_host, from->peer_port, mqg_logqs(why));
    return mqg_error_set(e, MQG_UNAUTHENTICATED, 403, "Login was refused");
}

struct mqg_session *auth_admit(const struct mqg_conn_info *from, const struct auth_user *u)
{
    return session_new(u->name, u->tags, from->id);
}

static void session_made(const struct mqg_conn_info *from, struct auth_user **u, struct mqg_session **out)
{
    *out = auth_admit(from, *u);
    auth_user_unref(u);
}

enum mqg_err mqg_auth_password(const struct mqg_conn_info *from, struct mqg_slice user,
                               struct mqg_slice password, struct mqg_session **out, struct mqg_error *e)
{
    const char *why;
    struct auth_user *u = session_check(user, password, (from->flags & MQG_CONN_LOOPBACK) != 0, &why);
    if (u == NULL)
        return auth_refuse(from, user, why, e);
    session_made(from, &u, out);
    return MQG_OK;
}

enum mqg_err mqg_auth_external(const struct mqg_conn_info *from, struct mqg_slice user,
                               struct mqg_session **out, struct mqg_error *e)
{
    bool loopback = (from->flags & MQG_CONN_LOOPBACK) != 0;
    struct mqg_slice name = session_is_anonymous(user, loopback) ? MQG_SLICE_LIT("guest") : user;
    struct auth_user *u = auth_user_find(name);
    if (u == NULL)
        return auth_refuse(from, user, "no such user", e);
    if (!auth_from_ok(u->name, loopback)) {
        auth_user_unref(&u);
        return auth_refuse(from, user, "guest may only come from this machine", e);
    }
    session_made(from, &u, out);
    return MQG_OK;
}

enum mqg_err mqg_auth_check(struct mqg_slice user, struct mqg_slice password, bool loopback, unsigned *tags)
{
    const char *why;
    struct auth_user *u = session_check(user, password, loopback, &why);
    if (u == NULL && user.len == 0 && password.len == 0)
        return MQG_UNAUTHENTICATED; /* nobody tried: a browser's first request */
    if (u == NULL) {
        mqg_count(MQG_COUNT_LOGINS_FAILED, 1);
        mqg_log(MQG_LOG_INFO, MQG_EVENT_CONN_LOGIN, "result=refused user=%s why=%s", mqg_logq(user),
                mqg_logqs(why));
        return MQG_UNAUTHENTICATED;
    }
    *tags = u->tags;
    auth_user_unref(&u);
    return MQG_OK;
}

/* ---- rights ------------------------------------------------------------------------------------------------------------------------ */

enum mqg_err mqg_session_open(struct mqg_session *s, struct mqg_slice vhost, struct mqg_error *e)
{
    MQG_CHECK(s, SESSION_MAGIC);
    struct mqg_vhost *v = mqg_vhost_find(vhost);
    if (v == NULL)
        return mqg_error_set(e, MQG_NOT_FOUND, 530, "vhost %.*s not found", MQG_SLICE_FMT(vhost));
    struct auth_perm *p = auth_perm_find(vhost, mqg_slice_str(s->user));
    if (p == NULL)
        return mqg_error_set(e, MQG_DENIED, 530, "access to vhost '%.*s' refused for user '%s'",
                             MQG_SLICE_FMT(vhost), s->user);
    auth_perm_unref(&p);
    s->vhost = v;
    s->cache->generation = 0;
    return MQG_OK;
}

/* The generation is read before the permission: a change in between is seen at the next check. */
static void session_refresh(struct mqg_session *s, uint64_t generation)
{
    struct mqg_session_cache *c = s->cache;
    auth_perm_unref(&c->perm);
    memset(c, 0, sizeof *c);
    c->generation = generation;
    struct auth_user *u = auth_user_find(mqg_slice_str(s->user));
    if (u != NULL && s->vhost != NULL)
        c->perm = auth_perm_find(mqg_vhost_name(s->vhost), mqg_slice_str(s->user));
    auth_user_unref(&u);
}

static bool session_ask(struct mqg_session_cache *c, enum mqg_perm perm, struct mqg_slice resource)
{
    bool yes = c->perm != NULL && auth_pattern_match(c->perm->pattern[perm], resource);
    if (resource.len > SESSION_ANSWER_NAME_BYTES)
        return yes;
    struct session_answer *a = &c->answers[perm][c->next[perm]];
    c->next[perm] = (uint8_t)((c->next[perm] + 1) % SESSION_ANSWERS);
    memcpy(a->name, resource.ptr, resource.len);
    a->len = (uint8_t)resource.len;
    a->yes = yes;
    return yes;
}

bool mqg_session_can(struct mqg_session *s, enum mqg_perm perm, struct mqg_slice resource)
{
    MQG_CHECK(s, SESSION_MAGIC);
    struct mqg_session_cache *c = s->cache;
    if (c->internal)
        return true;
    if (resource.len == 0)
        resource = MQG_SLICE_LIT("amq.default");
    uint64_t generation = mqg_auth_generation();
    if (MQG_UNLIKELY(c->generation != generation))
        session_refresh(s, generation);
    for (size_t i = 0; i < SESSION_ANSWERS; i++) {
        const struct session_answer *a = &c->answers[perm][i];
        if (a->len == resource.len && memcmp(a->name, resource.ptr, resource.len) == 0)
            return a->yes;
    }
    return session_ask(c, perm, resource);
}

enum mqg_err mqg_session_need(struct mqg_session *s, enum mqg_perm perm, const char *kind,
                              struct mqg_slice resource, struct mqg_error *e)
{
    if (MQG_LIKELY(mqg_session_can(s, perm, resource)))
        return MQG_OK;
    if (resource.len == 0 && strcmp(kind, "exchange") == 0)
        resource = MQG_SLICE_LIT("amq.default");
    struct mqg_slice vhost = s->vhost != NULL ? mqg_vhost_name(s->vhost) : MQG_SLICE_NONE;
    return mqg_error_set(e, MQG_DENIED, 403, "access to %s '%.*s' in vhost '%.*s' refused for user '%s'",
                         kind, MQG_SLICE_FMT(resource), MQG_SLICE_FMT(vhost), s->user);
}
