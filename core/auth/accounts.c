/* accounts.c - the table of users and permissions: two sorted vectors of counted objects under one mutex.
 *
 * Logins, listings and the first check of a session after a change look here; a session's later checks compare a number
 * (mqg_auth_generation) and never come. So a mutex and a binary search are enough, and nothing needs an epoch. */
#include "auth_int.h"

#include <mqgate/vec.h>

#include <pthread.h>

static pthread_mutex_t accounts_lock = PTHREAD_MUTEX_INITIALIZER;
static struct mqg_vec accounts_users; /* by name; under the lock */
static struct mqg_vec accounts_perms; /* by vhost, then user; under the lock */
static _Atomic uint64_t accounts_generation = 1;

/* ---- objects ------------------------------------------------------------------------------------------------------- */

struct auth_user *auth_user_new(struct mqg_slice name, const struct auth_hash *hash,
                                const struct auth_scram *scram, unsigned tags)
{
    struct auth_user *u = mqg_xcalloc(1, sizeof *u);
    atomic_init(&u->refs, 1);
    u->name = mqg_slice_dup(name);
    u->hash = *hash;
    if (scram != NULL)
        memcpy(u->scram, scram, sizeof u->scram);
    u->tags = tags;
    return u;
}

void auth_user_unref(struct auth_user **u)
{
    struct auth_user *user = *u;
    *u = NULL;
    if (user == NULL || atomic_fetch_sub_explicit(&user->refs, 1, memory_order_acq_rel) != 1)
        return;
    free(user->name);
    free(user);
}

struct auth_perm *auth_perm_new(struct mqg_slice user, struct mqg_slice vhost,
                                const struct mqg_slice text[MQG_PERM_COUNT], struct mqg_error *e)
{
    struct auth_perm *p = mqg_xcalloc(1, sizeof *p);
    atomic_init(&p->refs, 1);
    p->user = mqg_slice_dup(user);
    p->vhost = mqg_slice_dup(vhost);
    bool good = true;
    for (size_t i = 0; i < MQG_PERM_COUNT; i++) {
        p->text[i] = mqg_slice_dup(text[i]);
        p->pattern[i] = good || e == NULL ? auth_pattern_new(text[i], e) : NULL;
        good = good && p->pattern[i] != NULL;
    }
    if (!good && e != NULL)
        auth_perm_unref(&p);
    return p;
}

void auth_perm_unref(struct auth_perm **p)
{
    struct auth_perm *perm = *p;
    *p = NULL;
    if (perm == NULL || atomic_fetch_sub_explicit(&perm->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < MQG_PERM_COUNT; i++) {
        free(perm->text[i]);
        auth_pattern_free(&perm->pattern[i]);
    }
    free(perm->user);
    free(perm->vhost);
    free(perm);
}

/* ---- searching ------------------------------------------------------------------------------------------------------ */

static int user_order(const void *item, struct mqg_slice name, struct mqg_slice unused)
{
    (void)unused;
    return mqg_slice_cmp(mqg_slice_str(((const struct auth_user *)item)->name), name);
}

static int perm_order(const void *item, struct mqg_slice vhost, struct mqg_slice user)
{
    const struct auth_perm *p = item;
    int order = mqg_slice_cmp(mqg_slice_str(p->vhost), vhost);
    return order != 0 ? order : mqg_slice_cmp(mqg_slice_str(p->user), user);
}

/* Where the item is, or would be. */
static size_t accounts_at(const struct mqg_vec *v,
                          int (*order)(const void *, struct mqg_slice, struct mqg_slice), struct mqg_slice a,
                          struct mqg_slice b, bool *found)
{
    size_t low = 0, high = v->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (order(v->items[mid], a, b) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    *found = low < v->n && order(v->items[low], a, b) == 0;
    return low;
}

struct auth_user *auth_user_locked(struct mqg_slice name)
{
    bool found;
    size_t at = accounts_at(&accounts_users, user_order, name, MQG_SLICE_NONE, &found);
    return found ? accounts_users.items[at] : NULL;
}

struct auth_perm *auth_perm_locked(struct mqg_slice vhost, struct mqg_slice user)
{
    bool found;
    size_t at = accounts_at(&accounts_perms, perm_order, vhost, user, &found);
    return found ? accounts_perms.items[at] : NULL;
}

struct auth_user *auth_user_find(struct mqg_slice name)
{
    auth_lock();
    struct auth_user *u = auth_user_locked(name);
    if (u != NULL)
        atomic_fetch_add_explicit(&u->refs, 1, memory_order_relaxed);
    auth_unlock();
    return u;
}

struct auth_perm *auth_perm_find(struct mqg_slice vhost, struct mqg_slice user)
{
    auth_lock();
    struct auth_perm *p = auth_perm_locked(vhost, user);
    if (p != NULL)
        atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
    auth_unlock();
    return p;
}

/* ---- changing -------------------------------------------------------------------------------------------------------- */

void auth_lock(void)
{
    pthread_mutex_lock(&accounts_lock);
}

void auth_unlock(void)
{
    pthread_mutex_unlock(&accounts_lock);
}

uint64_t mqg_auth_generation(void)
{
    return atomic_load_explicit(&accounts_generation, memory_order_acquire);
}

void mqg_auth_touch(void)
{
    atomic_fetch_add_explicit(&accounts_generation, 1, memory_order_release);
}

static void accounts_insert(struct mqg_vec *v, size_t at, void *item)
{
    mqg_vec_push(v, item);
    memmove(&v->items[at + 1], &v->items[at], (v->n - 1 - at) * sizeof(void *));
    v->items[at] = item;
}

void auth_user_set_locked(struct auth_user *u)
{
    bool found;
    size_t at = accounts_at(&accounts_users, user_order, mqg_slice_str(u->name), MQG_SLICE_NONE, &found);
    if (found) {
        struct auth_user *old = accounts_users.items[at];
        accounts_users.items[at] = u;
        auth_user_unref(&old);
    } else {
        accounts_insert(&accounts_users, at, u);
    }
    mqg_auth_touch();
}

void auth_perm_set_locked(struct auth_perm *p)
{
    bool found;
    size_t at = accounts_at(&accounts_perms, perm_order, mqg_slice_str(p->vhost), mqg_slice_str(p->user),
                            &found);
    if (found) {
        struct auth_perm *old = accounts_perms.items[at];
        accounts_perms.items[at] = p;
        auth_perm_unref(&old);
    } else {
        accounts_insert(&accounts_perms, at, p);
    }
    mqg_auth_touch();
}

bool auth_user_del_locked(struct mqg_slice name)
{
    bool found;
    size_t at = accounts_at(&accounts_users, user_order, name, MQG_SLICE_NONE, &found);
    if (!found)
        return false;
    struct auth_user *u = accounts_users.items[at];
    mqg_vec_remove(&accounts_users, at);
    auth_user_unref(&u);
    mqg_auth_touch();
    return true;
}

bool auth_perm_del_locked(struct mqg_slice vhost, struct mqg_slice user)
{
    bool found;
    size_t at = accounts_at(&accounts_perms, perm_order, vhost, user, &found);
    if (!found)
        return false;
    struct auth_perm *p = accounts_perms.items[at];
    mqg_vec_remove(&accounts_perms, at);
    auth_perm_unref(&p);
    mqg_auth_touch();
    return true;
}

/* ---- all of them ------------------------------------------------------------------------------------------------------- */

size_t auth_user_count(void)
{
    auth_lock();
    size_t n = accounts_users.n;
    auth_unlock();
    return n;
}

struct auth_user **auth_user_all(size_t *n)
{
    auth_lock();
    *n = accounts_users.n;
    struct auth_user **all = mqg_xcalloc(*n + 1, sizeof *all);
    for (size_t i = 0; i < *n; i++) {
        all[i] = accounts_users.items[i];
        atomic_fetch_add_explicit(&all[i]->refs, 1, memory_order_relaxed);
    }
    auth_unlock();
    return all;
}

struct auth_perm **auth_perm_all(size_t *n)
{
    auth_lock();
    *n = accounts_perms.n;
    struct auth_perm **all = mqg_xcalloc(*n + 1, sizeof *all);
    for (size_t i = 0; i < *n; i++) {
        all[i] = accounts_perms.items[i];
        atomic_fetch_add_explicit(&all[i]->refs, 1, memory_order_relaxed);
    }
    auth_unlock();
    return all;
}

void auth_accounts_clear(void)
{
    auth_lock();
    for (size_t i = 0; i < accounts_users.n; i++)
        auth_user_unref((struct auth_user **)&accounts_users.items[i]);
    for (size_t i = 0; i < accounts_perms.n; i++)
        auth_perm_unref((struct auth_perm **)&accounts_perms.items[i]);
    mqg_vec_fini(&accounts_users);
    mqg_vec_fini(&accounts_perms);
    mqg_auth_touch();
    auth_unlock();
}
