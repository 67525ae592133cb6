/* definitions_binding.c - bindings: what tells them apart, putting and deleting, what goes with the last one.
 *
 * A binding is its source, destination, key and arguments; the arguments as a sorted table, so that their
 * order does not matter. These bytes are the key of the model's map. Exchanges that lose their last binding
 * are noted as doomed and deleted at the edit's end, one after another: a chain of auto-delete exchanges is a
 * loop, not a recursion. */
#include "definitions_int.h"

#include <stdlib.h>

/* ---- identity ------------------------------------------------------------------------------------------ */

static void binding_identity_part(struct mqg_dynbuf *out, struct mqg_slice part)
{
    mqg_dynbuf_le16(out, (uint16_t)part.len);
    mqg_dynbuf_slice(out, part);
}

/* In a scratch buffer, valid until the next one. */
static struct mqg_slice binding_identity(const struct mqg_binding_def *def)
{
    struct mqg_dynbuf *out = definitions_scratch(SCRATCH_IDENTITY);
    mqg_dynbuf_u8(out, def->to_exchange);
    binding_identity_part(out, def->source);
    binding_identity_part(out, def->destination);
    binding_identity_part(out, def->key);
    if (def->args.n > 0)
        meta_args_canonical(out, &def->args);
    MQG_ASSERT(!out->failed); /* bounds were checked */
    return mqg_dynbuf_view(out);
}

static struct mqg_slice binding_take(struct mqg_cursor *c)
{
    return mqg_cursor_slice(c, mqg_cursor_le16(c));
}

static struct mqg_slice binding_identity_of(const struct binding *b)
{
    return mqg_slice_of(b->identity, b->identity_len);
}

/* ---- the model ----------------------------------------------------------------------------------------- */

static struct topology_binding binding_view(const struct binding *b)
{
    return (struct topology_binding){.source = &b->source->cell,
                                     .dest = b->match.dest,
                                     .key = b->def.key,
                                     .id = b->id,
                                     .match = &b->match};
}

static void binding_record(struct definitions_edit *d, const struct binding *b, bool remove)
{
    definitions_log(d, "binding", b->def.source, b->def.destination, remove);
    if (b->durable)
        definitions_record(
            d, &(struct meta_record){.kind = META_BINDING, .vhost = d->vhost->name, .binding = b->def},
            remove);
}

static struct binding *binding_new(struct mqg_slice identity, const struct mqg_binding_def *def)
{
    struct binding *b = mqg_xcalloc(1, sizeof *b + identity.len);
    memcpy(b->identity, identity.ptr, identity.len);
    b->identity_len = identity.len;
    struct mqg_cursor c = mqg_cursor_of(binding_identity_of(b));
    b->def.to_exchange = mqg_cursor_u8(&c) != 0;
    b->def.source = binding_take(&c);
    b->def.destination = binding_take(&c);
    b->def.key = binding_take(&c);
    if (def->args.n > 0) {
        b->args = args_new(&def->args);
        b->def.args = *b->args;
    }
    b->match.args = &b->def.args;
    b->id = definitions_dest_id();
    return b;
}

static void binding_link(struct definitions_edit *d, struct binding *b)
{
    LIST_INSERT_HEAD(&b->source->from, b, from);
    if (b->to_exchange != NULL) {
        LIST_INSERT_HEAD(&b->to_exchange->to, b, to);
        b->match.dest = &b->to_exchange->cell.dest;
        b->durable = b->source->cell.durable && b->to_exchange->cell.durable;
    } else {
        LIST_INSERT_HEAD(&b->to_queue->to, b, to);
        b->match.dest = &b->to_queue->dest;
        b->durable = b->source->cell.durable && queue_durable(b->to_queue->queue);
    }
    binding_record(d, b, false);
    mqg_map_set(&d->vhost->bindings, binding_identity_of(b), b);
    struct topology_binding view = binding_view(b);
    topology_bind(&d->topology, &view);
}

enum mqg_err binding_create(struct definitions_edit *d, const struct mqg_binding_def *def,
                            struct exchange_entry *source, struct exchange_entry *to_exchange,
                            struct queue_entry *to_queue, struct mqg_error *e)
{
    enum headers_mode mode = HEADERS_ALL;
    enum mqg_err err = source->cell.type == MQG_X_HEADERS ? headers_mode_parse(&def->args, &mode, e) : MQG_OK;
    struct mqg_slice identity = binding_identity(def);
    if (err == MQG_OK && mqg_map_get(&d->vhost->bindings, identity) == NULL) {
        struct binding *b = binding_new(identity, def);
        b->source = source;
        b->to_exchange = to_exchange;
        b->to_queue = to_queue;
        b->match.mode = mode;
        binding_link(d, b);
    }
    return err;
}

static void binding_free(void *ptr, void *arg)
{
    struct binding *b = ptr;
    (void)arg;
    free(b->args);
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
    mqg_map_del(&d->vhost->bindings, binding_identity_of(b));
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

struct binding_ends {
    struct exchange_entry *source, *to_exchange;
    struct queue_entry *to_queue;
};

/* The source is named first when both are missing. */
static enum mqg_err binding_find_ends(struct mqg_session *s, const struct mqg_binding_def *def,
                                      struct binding_ends *ends, struct mqg_error *e)
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
    ends->to_queue = mqg_map_get(&v->queues, def->destination);
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
    err = binding_find_ends(s, def, &ends, e);
    if (err == MQG_OK)
        err = binding_create(&d, def, ends.source, ends.to_exchange, ends.to_queue, e);
    *ticket = definitions_end_later(&d, s);
    return err;
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
    struct binding *b = mqg_map_get(&s->vhost->bindings, binding_identity(def));
    if (b != NULL && b->to_queue != NULL)
        err = queue_check_owner(b->to_queue->queue, s->conn_id, e);
    if (b != NULL && err == MQG_OK)
        binding_drop(&d, b, true);
    *ticket = definitions_end_later(&d, s);
    return err;
}
