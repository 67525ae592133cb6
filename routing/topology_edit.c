/* topology_edit.c - changing the snapshot: path copies, then one store of a pointer.
 *
 * What an edit replaces is still read by others until the new root is published, and some time after. So it
 * is collected here first, and given to the epochs after the store: a thing retired before it is unlinked
 * might be freed under a reader who comes in between. The list is one for all, because all edits run under
 * the topology mutex. */
#include "topology_int.h"

#include "topic.h"
#include "vhost.h"

#include <stdlib.h>

struct topology_garbage {
    void *ptr;
    void (*free_fn)(void *ptr, void *arg);
    void *arg;
};

/* under the topology mutex */
static struct topology_garbage *topology_list;
static size_t topology_list_n, topology_list_cap;

/* ---- garbage ------------------------------------------------------------------------------------------- */

void topology_retire(void *ptr, void (*free_fn)(void *ptr, void *arg), void *arg)
{
    if (topology_list_n == topology_list_cap) {
        topology_list_cap = topology_list_cap > 0 ? topology_list_cap * 2 : 64;
        topology_list = mqg_xrealloc(topology_list, topology_list_cap * sizeof *topology_list);
    }
    topology_list[topology_list_n++] = (struct topology_garbage){ptr, free_fn, arg};
}

static void topology_free_plain(void *ptr, void *arg)
{
    (void)arg;
    free(ptr);
}

void topology_retire_plain(void *ptr)
{
    topology_retire(ptr, topology_free_plain, NULL);
}

static void topology_flush_garbage(void)
{
    for (size_t i = 0; i < topology_list_n; i++)
        mqg_epoch_retire(topology_list[i].ptr, topology_list[i].free_fn, topology_list[i].arg);
    topology_list_n = 0;
}

/* ---- whole structures ---------------------------------------------------------------------------------- */

static void exchange_free(void *ptr, void *arg)
{
    struct mqg_exchange *x = ptr;
    (void)arg;
    struct mqg_pmap_cursor c;
    switch (x->cell->type) {
    case MQG_X_DIRECT:
        for (mqg_pmap_cursor_init(&c, x->keys); mqg_pmap_cursor_next(&c);)
            dests_free(c.value);
        mqg_pmap_free(x->keys, NULL);
        break;
    case MQG_X_FANOUT: dests_free(x->all); break;
    case MQG_X_TOPIC: topic_free(x->topic); break;
    default: mqg_pmap_free(x->headers, NULL); break;
    }
    free(x);
}

struct topology *topology_new(void)
{
    return mqg_xcalloc(1, sizeof(struct topology));
}

void topology_free(struct topology *root)
{
    struct mqg_pmap_cursor c;
    for (mqg_pmap_cursor_init(&c, root->exchanges); mqg_pmap_cursor_next(&c);)
        exchange_free(c.value, NULL);
    mqg_pmap_free(root->exchanges, NULL);
    mqg_pmap_free(root->queues, NULL);
    free(root);
}

/* ---- an edit ------------------------------------------------------------------------------------------- */

void topology_edit_begin(struct topology_edit *t, struct mqg_vhost *v)
{
    *t = (struct topology_edit){.vhost = v, .root = *vhost_root(v)};
    mqg_pmap_edit_begin(&t->pmap, topology_retire);
}

void topology_edit_commit(struct topology_edit *t)
{
    if (t->changed) {
        struct topology *root = mqg_xmalloc(sizeof *root);
        *root = t->root;
        root->generation++;
        struct topology *old = atomic_load_explicit(&t->vhost->root, memory_order_relaxed);
        atomic_store_explicit(&t->vhost->root, root, memory_order_release);
        topology_retire_plain(old);
    }
    topology_flush_garbage();
}

void topology_add_queue(struct topology_edit *t, struct mqg_queue *q)
{
    t->root.queues = mqg_pmap_set(&t->pmap, t->root.queues, mqg_queue_name(q), q);
    t->changed = true;
}

void topology_remove_queue(struct topology_edit *t, struct mqg_slice name)
{
    t->root.queues = mqg_pmap_del(&t->pmap, t->root.queues, name);
    t->changed = true;
}

void topology_add_exchange(struct topology_edit *t, const struct exchange_cell *cell)
{
    struct mqg_exchange *x = mqg_xcalloc(1, sizeof *x);
    x->magic = EXCHANGE_MAGIC;
    x->cell = cell;
    x->edit = t->pmap.id;
    t->root.exchanges = mqg_pmap_set(&t->pmap, t->root.exchanges, cell->name, x);
    t->changed = true;
}

void topology_remove_exchange(struct topology_edit *t, const struct exchange_cell *cell)
{
    struct mqg_exchange *x = mqg_pmap_get(t->root.exchanges, cell->name);
    MQG_CHECK(x, EXCHANGE_MAGIC);
    if (cell->type == MQG_X_HEADERS)
        t->root.headers_bound -= x->bindings;
    t->root.exchanges = mqg_pmap_del(&t->pmap, t->root.exchanges, cell->name);
    topology_retire(x, exchange_free, NULL);
    t->changed = true;
}

static void topology_free_retired(void *ptr, void *arg)
{
    (void)arg;
    topology_free(ptr);
}

void topology_edit_clear(struct topology_edit *t)
{
    struct topology *all = topology_new();
    *all = t->root;
    topology_retire(all, topology_free_retired, NULL);
    t->root = (struct topology){.generation = t->root.generation};
    t->changed = true;
}

/* ---- bindings ------------------------------------------------------------------------------------------ */

static struct mqg_exchange *exchange_own(struct topology_edit *t, const struct exchange_cell *cell)
{
    struct mqg_exchange *x = mqg_pmap_get(t->root.exchanges, cell->name);
    MQG_CHECK(x, EXCHANGE_MAGIC);
    t->changed = true;
    if (x->edit == t->pmap.id)
        return x;
    struct mqg_exchange *own = mqg_xmalloc(sizeof *own);
    *own = *x;
    own->edit = t->pmap.id;
    t->root.exchanges = mqg_pmap_set(&t->pmap, t->root.exchanges, cell->name, own);
    topology_retire_plain(x);
    return own;
}

static struct mqg_slice exchange_binding_id(const struct topology_binding *b)
{
    return mqg_slice_of(&b->id, sizeof b->id);
}

static void exchange_key_set(const struct topology_edit *t, struct mqg_exchange *x, struct mqg_slice key,
                             const struct dest_set *old, struct dest_set *set)
{
    if (set == NULL)
        x->keys = mqg_pmap_del(&t->pmap, x->keys, key);
    else if (set != old)
        x->keys = mqg_pmap_set(&t->pmap, x->keys, key, set);
}

void topology_bind(struct topology_edit *t, const struct topology_binding *b)
{
    struct mqg_exchange *x = exchange_own(t, b->source);
    x->bindings++;
    x->to_exchanges += b->dest->queue == NULL;
    struct dest_set *old;
    switch (b->source->type) {
    case MQG_X_DIRECT:
        old = mqg_pmap_get(x->keys, b->key);
        exchange_key_set(t, x, b->key, old, dests_add(t, old, b->dest));
        break;
    case MQG_X_FANOUT: x->all = dests_add(t, x->all, b->dest); break;
    case MQG_X_TOPIC: x->topic = topic_add(t, x->topic, b->key, b->dest); break;
    default:
        x->headers = mqg_pmap_set(&t->pmap, x->headers, exchange_binding_id(b), (void *)(uintptr_t)b->match);
        t->root.headers_bound++;
    }
}

void topology_unbind(struct topology_edit *t, const struct topology_binding *b)
{
    struct mqg_exchange *x = exchange_own(t, b->source);
    x->bindings--;
    x->to_exchanges -= b->dest->queue == NULL;
    struct dest_set *old;
    switch (b->source->type) {
    case MQG_X_DIRECT:
        old = mqg_pmap_get(x->keys, b->key);
        exchange_key_set(t, x, b->key, old, dests_remove(t, old, b->dest));
        break;
    case MQG_X_FANOUT: x->all = dests_remove(t, x->all, b->dest); break;
    case MQG_X_TOPIC: x->topic = topic_remove(t, x->topic, b->key, b->dest); break;
    default: x->headers = mqg_pmap_del(&t->pmap, x->headers, exchange_binding_id(b)); t->root.headers_bound--;
    }
}

void topology_queues_each(bool (*visit)(void *arg, struct mqg_queue *q), void *arg)
{
    struct mqg_pmap_cursor c;
    for (const struct mqg_vhost *v = vhost_first(); v != NULL; v = v->next_all)
        for (mqg_pmap_cursor_init(&c, vhost_root(v)->queues); mqg_pmap_cursor_next(&c);)
            if (!visit(arg, c.value))
                return;
}

void topology_fini(void)
{
    topology_flush_garbage();
    free(topology_list);
    topology_list = NULL;
    topology_list_cap = 0;
}
