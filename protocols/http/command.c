/* command.c - what changes something runs on a worker, and is answered when it is durable.
 *
 * The thread of the request waits in two steps: for the worker to run the command, and for the ticket that the command got from
 * the store. The second wait has an end, because a store may fail; its state is shared with the worker's waiter and freed by
 * whoever leaves last. */
#include "http.h"

#include <mqgate/wait.h>

#include <stdlib.h>

struct durable {
    struct http_async async;
    struct mqg_waiter waiter;
    enum mqg_err err;
};

struct running {
    struct http_request *r;
    struct http_command *c;
    struct durable *durable;
    enum mqg_err err;
    struct mqg_error e;
};

/* ---- waiting for a worker's later word ------------------------------------------------------------------------------------- */

void http_async_init(struct http_async *a, void (*free_fn)(struct http_async *a))
{
    mqg_cond_init(&a->changed);
    pthread_mutex_init(&a->lock, NULL);
    a->free_fn = free_fn;
    a->fired = false;
    a->refs = 1;
}

void http_async_hold(struct http_async *a)
{
    pthread_mutex_lock(&a->lock);
    a->refs++;
    pthread_mutex_unlock(&a->lock);
}

/* a->lock is held, and given back. */
static void async_leave(struct http_async *a)
{
    bool last = --a->refs == 0;
    pthread_mutex_unlock(&a->lock);
    if (!last)
        return;
    pthread_cond_destroy(&a->changed);
    pthread_mutex_destroy(&a->lock);
    a->free_fn(a);
}

void http_async_leave(struct http_async *a)
{
    pthread_mutex_lock(&a->lock);
    async_leave(a);
}

void http_async_fire(struct http_async *a)
{
    pthread_mutex_lock(&a->lock);
    a->fired = true;
    pthread_cond_signal(&a->changed);
    async_leave(a);
}

bool http_async_wait(struct http_request *r, struct http_async *a)
{
    struct timespec until = mqg_wait_until(HTTP_COMMAND_TIMEOUT_S * 1000);
    int rc = 0;
    mqg_epoch_offline(r->reader);
    pthread_mutex_lock(&a->lock);
    while (a->refs > 1 && !a->fired && rc == 0)
        rc = pthread_cond_timedwait(&a->changed, &a->lock, &until);
    bool done = a->fired || a->refs == 1;
    pthread_mutex_unlock(&a->lock);
    mqg_epoch_online(r->reader);
    return done;
}

static void durable_free(struct http_async *a)
{
    free(MQG_CONTAINER_OF(a, struct durable, async));
}

static void durable_fire(struct mqg_waiter *w, enum mqg_err err)
{
    struct durable *d = MQG_CONTAINER_OF(w, struct durable, waiter);
    d->err = err;
    http_async_fire(&d->async);
}

/* ---- on the worker ------------------------------------------------------------------------------------------------------------- */

enum mqg_err http_session(const struct http_request *r, const struct mqg_slice *vhost, struct mqg_session **s,
                          struct mqg_error *e)
{
    struct mqg_conn_info from = {
        .flags = r->loopback ? MQG_CONN_LOOPBACK : 0, .listener = "http", .peer_host = "http"};
    enum mqg_err err = mqg_auth_external(&from, mqg_slice_str(r->user), s, e);
    return err == MQG_OK && vhost != NULL ? mqg_session_open(*s, *vhost, e) : err;
}

static void command_run(void *arg)
{
    struct running *x = arg;
    struct mqg_session *s = NULL;
    uint64_t ticket = 0;
    x->err = http_session(x->r, x->c->in_vhost ? &x->c->vhost : NULL, &s, &x->e);
    if (x->err == MQG_OK)
        x->err = x->c->run(x->c, s, &ticket, &x->e);
    mqg_session_unref(&s);
    if (x->err != MQG_OK || ticket == 0)
        return;
    http_async_hold(&x->durable->async);
    x->durable->waiter = (struct mqg_waiter){.ticket = ticket, .fire = durable_fire};
    mqg_lane_wait(mqg_storage_default(), &x->durable->waiter);
}

/* ---- from the request's thread ---------------------------------------------------------------------------------------------------- */

struct mqg_worker *http_some_worker(void)
{
    static _Atomic uint32_t next;
    return mqg_worker_at(atomic_fetch_add_explicit(&next, 1, memory_order_relaxed) % mqg_worker_count());
}

bool http_on_worker(struct http_request *r, struct mqg_worker *w, void (*fn)(void *arg), void *arg)
{
    mqg_epoch_offline(r->reader);
    bool ran = mqg_worker_call(w, fn, arg);
    mqg_epoch_online(r->reader);
    if (!ran)
        http_reply_error(r, 503, "unavailable", "the node is stopping");
    return ran;
}

static bool command_answer(struct http_request *r, struct running *x)
{
    if (!http_on_worker(r, http_some_worker(), command_run, x))
        return false;
    if (x->err != MQG_OK) {
        x->e.err = x->err;
        http_reply_fault(r, &x->e);
        return false;
    }
    if (!http_async_wait(r, &x->durable->async)) {
        http_reply_error(r, 503, "not_durable", "done, but the store has not confirmed it in time");
        return false;
    }
    if (x->durable->err != MQG_OK)
        http_reply_error(r, 500, "not_durable", "the store has failed");
    return x->durable->err == MQG_OK;
}

bool http_command(struct http_request *r, struct http_command *c)
{
    struct running x = {.r = r, .c = c, .durable = mqg_xcalloc(1, sizeof *x.durable)};
    http_async_init(&x.durable->async, durable_free);
    bool good = command_answer(r, &x);
    http_async_leave(&x.durable->async);
    return good;
}

/* ---- vhosts ----------------------------------------------------------------------------------------------------------------------- */

struct vhost_sight {
    const struct http_request *r;
    struct mqg_slice vhost;
    bool sees;
};

static void vhost_sight_perm(void *arg, const struct mqg_perm_info *p)
{
    struct vhost_sight *v = arg;
    v->sees = v->sees ||
              (strcmp(p->user, v->r->user) == 0 && mqg_slice_eq(mqg_slice_str(p->vhost), v->vhost));
}

bool http_sees_vhost(const struct http_request *r, struct mqg_slice vhost)
{
    struct vhost_sight v = {r, vhost, http_is_monitor(r)};
    if (!v.sees)
        mqg_perm_each(vhost_sight_perm, &v);
    return v.sees;
}

struct mqg_vhost *http_vhost(struct http_request *r, struct mqg_slice name)
{
    struct mqg_vhost *v = mqg_vhost_find(name);
    if (v == NULL) {
        http_reply_not_found(r);
    } else if (!http_sees_vhost(r, name)) {
        http_reply_error(r, 401, "not_authorised", "User not authorised to access virtual host");
        v = NULL;
    }
    return v;
}
