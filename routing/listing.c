/* listing.c - what is there, for the management API.
 *
 * A listing holds the lock only while it copies pointers, a queue's or exchange's facts being read
 * afterwards: visitors print, and a slow one must not stop declarations. The caller is a reader of epochs (a
 * worker, or a registered thread), so what the pointers lead to lives until its quiescent point, even if it
 * is deleted meanwhile. */
#include "definitions_int.h"

#include <mqgate/vec.h>

static const struct topology *listing_root(const struct mqg_vhost *v)
{
    topology_see();
    return vhost_root(v);
}

/* ---- over vhosts --------------------------------------------------------------------------------------- */

void mqg_vhost_each(bool (*visit)(void *arg, struct mqg_vhost *v), void *arg)
{
    for (struct mqg_vhost *v = vhost_first(); v != NULL; v = v->next_all)
        if (mqg_vhost_alive(v) && !visit(arg, v))
            return;
}

static bool listing_wants(const struct mqg_vhost *v, const struct mqg_vhost *one)
{
    return one != NULL ? v == one : mqg_vhost_alive(v);
}

/* ---- queues -------------------------------------------------------------------------------------------- */

/* Queues of v, or of all vhosts: from the snapshot, without a lock. */
static void listing_queues(const struct mqg_vhost *one, struct mqg_vec *out)
{
    struct mqg_pmap_cursor c;
    for (struct mqg_vhost *v = vhost_first(); v != NULL; v = v->next_all)
        if (listing_wants(v, one))
            for (mqg_pmap_cursor_init(&c, listing_root(v)->queues); mqg_pmap_cursor_next(&c);)
                mqg_vec_push(out, c.value);
}

void mqg_queue_each(struct mqg_vhost *v, bool (*visit)(void *arg, const struct mqg_queue_info *q), void *arg)
{
    struct mqg_vec queues = {NULL, 0, 0};
    listing_queues(v, &queues);
    for (size_t i = 0; i < queues.n; i++) {
        struct mqg_queue_info info;
        queue_info(queues.items[i], &info);
        if (!visit(arg, &info))
            break;
    }
    mqg_vec_fini(&queues);
}

void mqg_consumer_each(struct mqg_vhost *v, bool (*visit)(void *arg, const struct mqg_consumer_info *c),
                       void *arg)
{
    struct mqg_vec queues = {NULL, 0, 0};
    listing_queues(v, &queues);
    for (size_t i = 0; i < queues.n; i++)
        if (!queue_consumers(queues.items[i], visit, arg))
            break;
    mqg_vec_fini(&queues);
}

/* ---- exchanges ----------------------------------------------------------------------------------------- */

static bool listing_exchange(const struct exchange_cell *c,
                             bool (*visit)(void *arg, const struct mqg_exchange_info *x), void *arg)
{
    struct mqg_exchange_info info = {.name = c->name,
                                     .vhost = mqg_vhost_name(c->vhost),
                                     .type = exchange_type_word(c->type),
                                     .durable = c->durable,
                                     .auto_delete = c->auto_delete,
                                     .internal = c->internal,
                                     .args = c->args};
    return visit(arg, &info);
}

void mqg_exchange_each(struct mqg_vhost *one, bool (*visit)(void *arg, const struct mqg_exchange_info *x),
                       void *arg)
{
    struct mqg_pmap_cursor c;
    for (struct mqg_vhost *v = vhost_first(); v != NULL; v = v->next_all)
        if (listing_wants(v, one))
            for (mqg_pmap_cursor_init(&c, listing_root(v)->exchanges); mqg_pmap_cursor_next(&c);)
                if (!listing_exchange(((const struct mqg_exchange *)c.value)->cell, visit, arg))
                    return;
}

/* ---- bindings ------------------------------------------------------------------------------------------ */

/* The snapshot has no arguments of bindings, so these come from the model, under the lock. */
static void listing_bindings(const struct mqg_vhost *v, struct mqg_vec *out)
{
    definitions_lock();
    mqg_vec_reserve(out, v->bindings.count);
    for (size_t i = 0; i < v->bindings.cap; i++)
        if (v->bindings.slots[i] != NULL)
            mqg_vec_push(out, v->bindings.slots[i]);
    definitions_unlock();
}

static bool listing_vhost_bindings(struct mqg_vhost *v,
                                   bool (*visit)(void *arg, const struct mqg_binding_info *b), void *arg)
{
    struct mqg_vec bindings = {NULL, 0, 0};
    bool more = true;
    listing_bindings(v, &bindings);
    for (size_t i = 0; i < bindings.n && more; i++) {
        struct mqg_binding_def def = binding_def(bindings.items[i]);
        struct mqg_binding_info info = {.vhost = mqg_vhost_name(v),
                                        .source = def.source,
                                        .destination = def.destination,
                                        .key = def.key,
                                        .to_exchange = def.to_exchange,
                                        .args = &def.args};
        more = visit(arg, &info);
    }
    mqg_vec_fini(&bindings);
    return more;
}

/* Every queue is bound to the default exchange by its name. */
static bool listing_default_bindings(struct mqg_vhost *v,
                                     bool (*visit)(void *arg, const struct mqg_binding_info *b), void *arg)
{
    static const struct mqg_table none;
    struct mqg_pmap_cursor c;
    for (mqg_pmap_cursor_init(&c, listing_root(v)->queues); mqg_pmap_cursor_next(&c);) {
        struct mqg_slice name = mqg_queue_name(c.value);
        struct mqg_binding_info info = {
            .vhost = mqg_vhost_name(v), .destination = name, .key = name, .args = &none};
        if (!visit(arg, &info))
            return false;
    }
    return true;
}

void mqg_binding_each(struct mqg_vhost *one, bool (*visit)(void *arg, const struct mqg_binding_info *b),
                      void *arg)
{
    for (struct mqg_vhost *v = vhost_first(); v != NULL; v = v->next_all)
        if (listing_wants(v, one) &&
            (!listing_default_bindings(v, visit, arg) || !listing_vhost_bindings(v, visit, arg)))
            return;
}
