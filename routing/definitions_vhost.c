/* definitions_vhost.c - making and deleting vhosts.
 *
 * A vhost that goes takes its queues, exchanges and bindings along: each is taken out of the model and the
 * records one by one, but the snapshot is dropped as a whole. Its connections are closed after the lock is
 * given back. */
#include "definitions_int.h"

#include "names.h"

#include <mqgate/obs.h>

enum mqg_err mqg_vhost_put(struct mqg_slice name, uint64_t *ticket, struct mqg_error *e)
{
    *ticket = 0;
    if (name.len == 0 || name.len > NAMES_MAX_BYTES)
        return mqg_error_set(e, MQG_INVALID, 406, "a vhost's name has 1 to %d bytes", NAMES_MAX_BYTES);
    definitions_lock_settled();
    if (mqg_vhost_find(name) != NULL) {
        definitions_unlock();
        return MQG_OK;
    }
    struct definitions_edit d;
    struct mqg_vhost *v = vhost_add(name);
    definitions_edit_init(&d, v);
    definitions_record(&d, &(struct meta_record){.kind = META_VHOST, .vhost = v->name}, false);
    exchange_create_predeclared(&d);
    *ticket = definitions_end(&d);
    mqg_log(MQG_LOG_INFO, MQG_EVENT_ACCOUNT, "vhost=%s created=true", mqg_logq(name));
    return MQG_OK;
}

static void vhost_drop_exchanges(struct definitions_edit *d)
{
    for (struct mqg_map_iter it = {0}; mqg_map_next(&d->vhost->exchanges, &it);)
        exchange_drop(d, it.value);
    MQG_ASSERT(d->vhost->bindings.count == 0);
}

/* The walk is over the map that was dropped in one piece: it lives until the edit is published. A queue cannot have been
 * ended before: that happens under the mutex too. */
void vhost_dissolve(struct definitions_edit *d)
{
    struct mqg_pmap_cursor c;
    uint64_t messages;
    d->dissolving = true;
    definitions_drop_finish(d, MQG_SLICE_NONE, true);
    struct mqg_pmap *queues = d->topology.root.queues;
    topology_edit_clear(&d->topology);
    for (mqg_pmap_cursor_init(&c, queues); mqg_pmap_cursor_next(&c);) {
        enum mqg_err err = queue_entry_drop(d, queue_model(c.value), false, false, &messages, NULL);
        MQG_ASSERT(err == MQG_OK);
    }
    vhost_drop_exchanges(d);
}

void vhost_forget(struct definitions_edit *d)
{
    struct mqg_pmap_cursor c;
    d->dissolving = true;
    d->recovering = true;
    definitions_drop_finish(d, MQG_SLICE_NONE, true);
    struct mqg_pmap *queues = d->topology.root.queues;
    topology_edit_clear(&d->topology);
    for (mqg_pmap_cursor_init(&c, queues); mqg_pmap_cursor_next(&c);) {
        queue_timer_drop(c.value);
        queue_entry_remove(d, queue_model(c.value));
    }
    vhost_drop_exchanges(d);
}

static void (*vhost_observers[8])(struct mqg_vhost *v);
static size_t vhost_nobservers;

void mqg_vhost_on_delete(void (*fn)(struct mqg_vhost *v))
{
    for (size_t i = 0; i < vhost_nobservers; i++)
        if (vhost_observers[i] == fn)
            return;
    MQG_ASSERT(vhost_nobservers < MQG_COUNTOF(vhost_observers));
    vhost_observers[vhost_nobservers++] = fn;
}

enum mqg_err mqg_vhost_delete(struct mqg_slice name, uint64_t *ticket, struct mqg_error *e)
{
    *ticket = 0;
    definitions_lock_settled();
    struct mqg_vhost *v = mqg_vhost_find(name);
    if (v == NULL) {
        definitions_unlock();
        return mqg_error_set(e, MQG_NOT_FOUND, 404, "no vhost '%.*s'", MQG_SLICE_FMT(name));
    }
    struct definitions_edit d;
    definitions_edit_init(&d, v);
    atomic_store_explicit(&v->alive, false, memory_order_release);
    vhost_dissolve(&d);
    definitions_record(&d, &(struct meta_record){.kind = META_VHOST, .vhost = v->name}, true);
    *ticket = definitions_end(&d);
    vhost_kill_connections(v);
    for (size_t i = 0; i < vhost_nobservers; i++)
        vhost_observers[i](v);
    mqg_log(MQG_LOG_INFO, MQG_EVENT_ACCOUNT, "vhost=%s deleted=true", mqg_logq(name));
    return MQG_OK;
}
