/* definitions_binding.c - bindings: what tells them apart, putting and deleting, what goes with the last one.
 *
 * A binding is its source, destination, key and arguments; the arguments as a sorted table, so that their
 * order does not matter. There may be a million of them, so a record holds pointers to its ends, the key, and
 * nothing that they hold already; the table that finds them is an array of pointers (8 bytes at most three
 * quarters full), whose keys are the records themselves. A vhost's deleted exchange keeps its entry as long
 * as its bindings are there (definitions_drop.c), so that an entry stands for one exchange always.
 *
 * Exchanges that lose their last binding are noted as doomed and deleted at the edit's end, one after
 * another: a chain of auto-delete exchanges is a loop, not a recursion. */
#include "definitions_int.h"

#include <stdlib.h>

enum { BINDINGS_CAP_MIN = 16 };

struct binding_ends {
    struct exchange_entry *source, *to_exchange;
    struct queue_entry *to_queue;
};

/* ---- identity ------------------------------------------------------------------------------------------ */

struct binding_identity {
    const struct exchange_entry *source;
    const void *dest;
    struct mqg_slice key, canonical;
    uint32_t hash;
};

static struct mqg_slice binding_pointer(const void *const *p)
{
    return mqg_slice_of(p, sizeof *p);
}

/* The canonical arguments lie in a scratch buffer, valid until the next one. */
static struct binding_identity binding_identity(const struct mqg_binding_def *def,
                                                const struct binding_ends *ends)
{
    struct binding_identity id = {.source = ends->source, .key = def->key};
    id.dest = ends->to_exchange != NULL ? (const void *)ends->to_exchange : ends->to_queue;
    const void *source = ends->source;
    struct mqg_dynbuf *out = definitions_scratch(SCRATCH_IDENTITY);
    if (def->args.n > 0)
        meta_args_canonical(out, &def->args);
    size_t args = out->len;
    mqg_dynbuf_slice(out, binding_pointer(&source));
    mqg_dynbuf_slice(out, binding_pointer(&id.dest));
    mqg_dynbuf_slice(out, def->key);
    MQG_ASSERT(!out->failed); /* bounds were checked */
    struct mqg_slice all = mqg_dynbuf_view(out);
    id.canonical = mqg_slice_of(all.ptr, args);
    id.hash = (uint32_t)mqg_hash(all);
    return id;
}

static const void *binding_dest_entry(const struct binding *b)
{
    return b->to_exchange ? (const void *)b->dest.exchange : b->dest.queue;
}

static bool binding_is(const struct binding *b, const struct binding_identity *id)
{
    struct mqg_slice canonical = b->more != NULL ? mqg_slice_of(b->more->canonical, b->more->canonical_len)
                                                 : MQG_SLICE_NONE;
    return b->hash == id->hash && b->source == id->source && binding_dest_entry(b) == id->dest &&
           mqg_slice_eq(mqg_slice_of(b->key, b->key_len), id->key) && mqg_slice_eq(canonical, id->canonical);
}

/* ---- the table ----------------------------------------------------------------------------------------- */

static struct binding *bindings_get(const struct binding_table *t, const struct binding_identity *id)
{
    for (size_t i = id->hash; t->cap > 0; i++) {
        struct binding *b = t->slots[i & (t->cap - 1)];
        if (b == NULL || binding_is(b, id))
            return b;
    }
    return NULL;
}

static void bindings_place(struct binding_table *t, struct binding *b)
{
    size_t i = b->hash & (t->cap - 1);
    while (t->slots[i] != NULL)
        i = (i + 1) & (t->cap - 1);
    t->slots[i] = b;
}

static void bindings_resize(struct binding_table *t, size_t cap)
{
    struct binding_table old = *t;
    t->slots = mqg_xcalloc(cap, sizeof(struct binding *));
    t->cap = cap;
    for (size_t i = 0; i < old.cap; i++)
        if (old.slots[i] != NULL)
            bindings_place(t, old.slots[i]);
    free(old.slots);
}

static void bindings_add(struct binding_table *t, struct binding *b)
{
    if (t->count >= t->cap - t->cap / 4)
        bindings_resize(t, t->cap > 0 ? t->cap * 2 : BINDINGS_CAP_MIN);
    bindings_place(t, b);
    t->count++;
}

/* b is in it. What stands behind the hole and may move there does, as in core/base/map.c. */
static void bindings_del(struct binding_table *t, const struct binding *b)
{
    size_t mask = t->cap - 1, i = b->hash & mask;
    while (t->slots[i] != b)
        i = (i + 1) & mask;
    for (size_t j = (i + 1) & mask; t->slots[j] != NULL; j = (j + 1) & mask) {
        size_t home = t->slots[j]->hash & mask;
        if (((j - home) & mask) < ((j - i) & mask))
            continue;
        t->slots[i] = t->slots[j];
        i = j;
    }
    t->slots[i] = NULL;
    t->count--;
    if (t->count == 0) {
        free(t->slots);
        *t = (struct binding_table){NULL, 0, 0};
    } else if (t->cap > BINDINGS_CAP_MIN && t->count < t->cap / 8) {
        bindings_resize(t, t->cap / 4);
    }
}

/* ---- the model ----------------------------------------------------------------------------------------- */

struct mqg_binding_def binding_def(const struct binding *b)
{
    struct mqg_binding_def def = {.source = b->source->cell.name,
                                  .destination = b->to_exchange ? b->dest.exchange->cell.name
                                                                : mqg_queue_name(b->dest.queue->queue),
                                  .to_exchange = b->to_exchange,
                                  .key = mqg_slice_of(b->key, b->key_len)};
    if (b->more != NULL && b->more->args != NULL)
        def.args = *b->more->args;
    return def;
}

static struct topology_binding binding_view(const struct binding *b)
{
    return (struct topology_binding){.source = &b->source->cell,
                                     .dest = b->to_exchange ? &b->dest.exchange->cell.dest
                                                            : &b->dest.queue->dest,
                                     .key = mqg_slice_of(b->key, b->key_len),
                                     .id = b->more != NULL ? b->more->id : 0,
                                     .match = b->more != NULL ? &b->more->match : NULL};
}

static void binding_record(struct definitions_edit *d, const struct binding *b, bool remove)
{
    struct mqg_binding_def def = binding_def(b);
    definitions_log(d, "binding", def.source, def.destination, remove);
    if (b->durable)
        definitions_record(
            d, &(struct meta_record){.kind = META_BINDING, .vhost = d->vhost->name, .binding = def}, remove);
}

static struct binding_more *binding_more_new(const struct binding_identity *id,
                                             const struct mqg_binding_def *def, enum headers_mode mode)
{
    static const struct mqg_table none;
    struct binding_more *more = mqg_xcalloc(1, sizeof *more + id->canonical.len);
    more->canonical_len = id->canonical.len;
    if (id->canonical.len > 0)
        memcpy(more->canonical, id->canonical.ptr, id->canonical.len);
    if (def->args.n > 0)
        more->args = args_new(&def->args);
    more->match = (struct headers_match){.mode = mode, .args = more->args != NULL ? more->args : &none};
    more->id = definitions_dest_id();
    return more;
}

static struct binding *binding_new(const struct binding_identity *id, const struct binding_ends *ends)
{
    struct binding *b = mqg_xcalloc(1, offsetof(struct binding, key) + id->key.len);
    b->source = ends->source;
    b->hash = id->hash;
    b->key_len = (uint16_t)id->key.len;
    if (id->key.len > 0)
        memcpy(b->key, id->key.ptr, id->key.len);
    b->to_exchange = ends->to_exchange != NULL;
    if (b->to_exchange)
        b->dest.exchange = ends->to_exchange;
    else
        b->dest.queue = ends->to_queue;
    return b;
}

static void binding_link(struct definitions_edit *d, struct binding *b)
{
    LIST_INSERT_HEAD(&b->source->from, b, from);
    if (b->to_exchange)
        LIST_INSERT_HEAD(&b->dest.exchange->to, b, to);
    else
        LIST_INSERT_HEAD(&b->dest.queue->to, b, to);
    b->durable = b->source->cell.durable &&
                 (b->to_exchange ? b->dest.exchange->cell.durable : queue_durable(b->dest.queue->queue));
    struct topology_binding view = binding_view(b);
    if (b->more != NULL)
        b->more->match.dest = view.dest;
    binding_record(d, b, false);
    bindings_add(&d->vhost->bindings, b);
    topology_bind(&d->topology, &view);
}

enum mqg_err binding_create(struct definitions_edit *d, const struct mqg_binding_def *def,
                            struct exchange_entry *source, struct exchange_entry *to_exchange,
                            struct queue_entry *to_queue, struct mqg_error *e)
{
    enum headers_mode mode = HEADERS_ALL;
    bool headers = source->cell.type == MQG_X_HEADERS;
    enum mqg_err err = headers ? headers_mode_parse(&def->args, &mode, e) : MQG_OK;
    struct binding_ends ends = {source, to_exchange, to_queue};
    struct binding_identity id = binding_identity(def, &ends);
    if (err == MQG_OK && bindings_get(&d->vhost->bindings, &id) == NULL) {
        struct binding *b = binding_new(&id, &ends);
        if (headers || def->args.n > 0)
            b->more = binding_more_new(&id, def, mode);
        binding_link(d, b);
    }
    return err;
}

static void binding_free(void *ptr, void *arg)
{
    struct binding *b = ptr;
    (void)arg;
    if (b->more != NULL)
        free(b->more->args);
    free(b->more);
    free(b);
}

static void binding_source_lost_one(struct definitions_edit *d, struct exchange_entry *x)
{
    if (!x->cell.auto_delete || x->doomed || !LIST_EMPTY(&x->from) || d->dissolving)
        return;
    x->doomed = true;
    x->next_doomed = d->doomed;
    d->doomed = x;
}

void binding_drop(struct definitions_edit *d, struct binding *b, bool unbind)
{
    LIST_REMOVE(b, from);
    LIST_REMOVE(b, to);
    binding_record(d, b, true);
    bindings_del(&d->vhost->bindings, b);
    if (unbind && !d->dissolving && !b->source->gone) {
        struct topology_binding view = binding_view(b);
        topology_unbind(&d->topology, &view);
    }
    binding_source_lost_one(d, b->source);
    topology_retire(b, binding_free, NULL);
}

/* ---- commands ------------------------------------------------------------------------------------------ */

static enum mqg_err binding_check(struct mqg_session *s, const struct mqg_binding_def *def,
                                  struct mqg_error *e)
{
    if (def->source.len == 0 || (def->to_exchange && def->destination.len == 0))
        return definitions_default_exchange(e);
    enum mqg_err err = definitions_need(s, MQG_WRITE, def->to_exchange ? "exchange" : "queue",
                                        def->destination, e);
    if (err == MQG_OK)
        err = definitions_need(s, MQG_READ, "exchange", def->source, e);
    if (err == MQG_OK && def->key.len > UINT16_MAX)
        err = mqg_error_set(e, MQG_TOO_LARGE, 406, "binding key of %zu bytes is too long", def->key.len);
    return err == MQG_OK ? definitions_bounds("binding to", def->destination, &def->args, e) : err;
}

/* The source is named first when both are missing. */
static enum mqg_err binding_find_ends(const struct definitions_edit *d, const struct mqg_session *s,
                                      const struct mqg_binding_def *def, struct binding_ends *ends,
                                      struct mqg_error *e)
{
    struct mqg_vhost *v = s->vhost;
    *ends = (struct binding_ends){.source = mqg_map_get(&v->exchanges, def->source)};
    if (!mqg_vhost_alive(v))
        return definitions_vhost_gone(e, v);
    if (ends->source == NULL)
        return definitions_no(e, "exchange", def->source, v);
    if (def->to_exchange) {
        ends->to_exchange = mqg_map_get(&v->exchanges, def->destination);
        return ends->to_exchange != NULL ? MQG_OK : definitions_no(e, "exchange", def->destination, v);
    }
    ends->to_queue = queue_find(d, def->destination);
    if (ends->to_queue == NULL)
        return definitions_no(e, "queue", def->destination, v);
    return queue_check_owner(ends->to_queue->queue, s->conn_id, e);
}

enum mqg_err mqg_binding_put(struct mqg_session *s, const struct mqg_binding_def *def, uint64_t *ticket,
                             struct mqg_error *e)
{
    *ticket = 0;
    enum mqg_err err = binding_check(s, def, e);
    if (err != MQG_OK)
        return err;
    struct definitions_edit d;
    struct binding_ends ends;
    definitions_begin(&d, s->vhost);
    err = binding_find_ends(&d, s, def, &ends, e);
    if (err == MQG_OK)
        err = binding_create(&d, def, ends.source, ends.to_exchange, ends.to_queue, e);
    *ticket = definitions_end_later(&d, s);
    return err;
}

/* NULL when there is none: one whose exchange is gone is on its way out itself. */
static struct binding *binding_find(const struct definitions_edit *d, const struct mqg_binding_def *def)
{
    const struct mqg_vhost *v = d->vhost;
    struct binding_ends ends = {.source = mqg_map_get(&v->exchanges, def->source)};
    if (def->to_exchange)
        ends.to_exchange = mqg_map_get(&v->exchanges, def->destination);
    else
        ends.to_queue = queue_find(d, def->destination);
    if (ends.source == NULL || (ends.to_exchange == NULL && ends.to_queue == NULL))
        return NULL;
    struct binding_identity id = binding_identity(def, &ends);
    return bindings_get(&v->bindings, &id);
}

enum mqg_err mqg_binding_delete(struct mqg_session *s, const struct mqg_binding_def *def, uint64_t *ticket,
                                struct mqg_error *e)
{
    *ticket = 0;
    enum mqg_err err = binding_check(s, def, e);
    if (err != MQG_OK)
        return err;
    struct definitions_edit d;
    definitions_begin(&d, s->vhost);
    struct binding *b = binding_find(&d, def);
    if (b != NULL && !b->to_exchange)
        err = queue_check_owner(b->dest.queue->queue, s->conn_id, e);
    if (b != NULL && err == MQG_OK)
        binding_drop(&d, b, true);
    *ticket = definitions_end_later(&d, s);
    return err;
}
