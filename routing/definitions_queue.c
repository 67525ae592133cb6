/* definitions_queue.c - queues: declare, delete, purge, open; exclusive owners; names that the server gives.
 *
 * A declaration that finds its queue compares against the snapshot and takes no lock. Exclusive queues hang
 * on their owner's connection id, so that a connection that ends finds them at once; a durable exclusive
 * queue is exclusive only, as in RabbitMQ: its owner does not outlive the node. */
#include "definitions_int.h"

#include "names.h"
#include "publish.h"
#include "queue_args.h"

#include <mqgate/obs.h>

#include <stdlib.h>

LIST_HEAD(queue_entry_list, queue_entry);

struct queue_owner {
    uint64_t conn;
    struct queue_entry_list queues;
};

/* under the topology mutex; conn id (8 bytes) -> owner */
static struct mqg_map queue_owners = {.keys = MQG_MAP_BORROW};

static struct mqg_slice queue_owner_key(const uint64_t *conn)
{
    return mqg_slice_of(conn, sizeof *conn);
}

static void queue_own(struct queue_entry *q, uint64_t conn)
{
    struct queue_owner *owner = mqg_map_get(&queue_owners, queue_owner_key(&conn));
    if (owner == NULL) {
        owner = mqg_xcalloc(1, sizeof *owner);
        owner->conn = conn;
        mqg_map_set(&queue_owners, queue_owner_key(&owner->conn), owner);
    }
    q->owner = owner;
    LIST_INSERT_HEAD(&owner->queues, q, owned);
}

static void queue_disown(struct queue_entry *q)
{
    struct queue_owner *owner = q->owner;
    if (owner == NULL)
        return;
    LIST_REMOVE(q, owned);
    q->owner = NULL;
    if (!LIST_EMPTY(&owner->queues))
        return;
    mqg_map_del(&queue_owners, queue_owner_key(&owner->conn));
    free(owner);
}

void queue_owners_fini(void)
{
    mqg_map_fini(&queue_owners);
    mqg_map_init(&queue_owners, MQG_MAP_BORROW);
}

/* ---- the model ----------------------------------------------------------------------------------------- */

static void queue_record(struct definitions_edit *d, const struct mqg_queue *q, bool remove)
{
    definitions_log(d, "queue", mqg_queue_name(q), MQG_SLICE_NONE, remove);
    if (!queue_durable(q) || queue_exclusive(q))
        return;
    struct meta_record r = {.kind = META_QUEUE, .vhost = d->vhost->name, .number = mqg_queue_id(q)};
    r.queue = (struct mqg_queue_def){.name = mqg_queue_name(q),
                                     .durable = true,
                                     .auto_delete = queue_auto_delete(q),
                                     .args = *queue_args(q)};
    definitions_record(d, &r, remove);
}

void queue_record_again(struct definitions_edit *d, const struct mqg_queue *q)
{
    queue_record(d, q, false);
}

struct queue_entry *queue_find(const struct definitions_edit *d, struct mqg_slice name)
{
    struct mqg_queue *q = mqg_pmap_get(d->topology.root.queues, name);
    return q != NULL ? queue_model(q) : NULL;
}

struct queue_entry *queue_create(struct definitions_edit *d, const struct mqg_queue_def *def,
                                 const struct queue_opts *opts, uint64_t id)
{
    struct mqg_storage *storage = def->durable ? mqg_storage_default() : NULL;
    if (id == 0)
        id = definitions_queue_id(d);
    struct mqg_queue *made = queue_new(d->vhost, id, def, opts, storage);
    struct queue_entry *q = queue_model(made);
    q->queue = made;
    if (!d->recovering)
        queue_stream_store(q->queue, false);
    q->dest = (struct dest){.id = definitions_dest_id(), .queue = q->queue};
    if (def->exclusive)
        queue_own(q, def->owner_conn);
    queue_record(d, q->queue, false);
    queue_ids_add(q);
    topology_add_queue(&d->topology, q->queue);
    return q;
}

static void queue_entry_free(void *ptr, void *arg)
{
    struct queue_entry *q = ptr;
    (void)arg;
    struct mqg_queue *queue = q->queue;
    mqg_queue_unref(&queue); /* and the entry with it */
}

void queue_entry_remove(struct definitions_edit *d, struct queue_entry *q)
{
    while (!LIST_EMPTY(&q->to))
        binding_drop(d, LIST_FIRST(&q->to), true);
    if (!d->recovering)
        queue_stream_store(q->queue, true);
    queue_record(d, q->queue, true);
    if (!d->dissolving)
        topology_remove_queue(&d->topology, mqg_queue_name(q->queue));
    queue_ids_remove(q);
    queue_disown(q);
    topology_retire(q, queue_entry_free, NULL);
}

enum mqg_err queue_entry_drop(struct definitions_edit *d, struct queue_entry *q, bool if_unused,
                              bool if_empty, uint64_t *messages, struct mqg_error *e)
{
    enum mqg_err err = queue_end(q->queue, if_unused, if_empty, messages, e);
    if (err == MQG_OK)
        queue_entry_remove(d, q);
    return err;
}

enum mqg_err queue_check_owner(const struct mqg_queue *q, uint64_t conn, struct mqg_error *e)
{
    if (!queue_exclusive(q) || queue_owner(q) == conn)
        return MQG_OK;
    return definitions_locked(e, mqg_queue_name(q), queue_vhost(q));
}

/* ---- declare ------------------------------------------------------------------------------------------- */

static void queue_fill_ok(struct mqg_queue *q, struct mqg_queue_ok *ok)
{
    mqg_publish_flush();
    queue_touch(q);
    ok->name = mqg_queue_name(q);
    queue_counts(q, &ok->messages, &ok->consumers);
}

/* "classic" said and not said is the same. */
static bool queue_type_implied(const struct mqg_queue *q, const struct mqg_queue_def *def)
{
    const struct mqg_value *v = mqg_table_get(&def->args, MQG_SLICE_LIT("x-queue-type"));
    bool classic = v == NULL ||
                   (v->type == MQG_VALUE_STRING && mqg_slice_eq(v->bytes, MQG_SLICE_LIT("classic")));
    return classic && queue_opts(q)->type == QUEUE_CLASSIC;
}

static enum mqg_err queue_compare_args(const struct args_equal *w, const struct mqg_queue *q,
                                       const struct mqg_queue_def *def, struct mqg_error *e)
{
    enum mqg_err err = MQG_OK;
    const char *arg;
    for (size_t i = 0; err == MQG_OK && (arg = queue_args_compared(queue_opts(q), i)) != NULL; i++)
        if (strcmp(arg, "x-queue-type") != 0 || !queue_type_implied(q, def))
            err = args_equal_arg(w, arg, &def->args, queue_args(q), e);
    return err;
}

static enum mqg_err queue_compare(const struct mqg_queue *q, const struct mqg_queue_def *def,
                                  struct mqg_error *e)
{
    bool same_owner = queue_exclusive(q) ? def->exclusive && queue_owner(q) == def->owner_conn
                                         : !def->exclusive;
    if (!same_owner)
        return definitions_locked(e, mqg_queue_name(q), queue_vhost(q));
    struct args_equal w = {"queue", mqg_queue_name(q), mqg_vhost_name(queue_vhost(q))};
    enum mqg_err err = args_equal_bool(&w, "durable", def->durable, queue_durable(q), e);
    if (err == MQG_OK)
        err = args_equal_bool(&w, "auto_delete", def->auto_delete, queue_auto_delete(q), e);
    return err == MQG_OK ? queue_compare_args(&w, q, def, e) : err;
}

static enum mqg_err queue_check_new(struct mqg_session *s, const struct mqg_queue_def *def,
                                    struct queue_opts *opts, struct mqg_error *e)
{
    const struct mqg_value *dlx = mqg_table_get(&def->args, MQG_SLICE_LIT("x-dead-letter-exchange"));
    enum mqg_err err = definitions_bounds("queue", def->name, &def->args, e);
    if (err == MQG_OK && dlx != NULL && dlx->type == MQG_VALUE_STRING) {
        err = definitions_need(s, MQG_READ, "queue", def->name, e);
        if (err == MQG_OK)
            err = definitions_need(s, MQG_WRITE, "exchange", dlx->bytes, e);
    }
    if (err == MQG_OK)
        err = queue_opts_parse(def, mqg_vhost_name(s->vhost), opts, e);
    if (err == MQG_OK && opts->type == QUEUE_STREAM && (mqg_storage_default()->caps & MQG_STORE_STREAMS) == 0)
        err = mqg_error_set(e, MQG_UNSUPPORTED, 540, "the default store keeps no streams");
    return err;
}

static enum mqg_err queue_make(struct mqg_session *s, struct mqg_queue_def *def,
                               const struct queue_opts *opts, struct mqg_queue **out, uint64_t *ticket,
                               struct mqg_error *e)
{
    struct definitions_edit d;
    enum mqg_err err = MQG_OK;
    definitions_begin(&d, s->vhost);
    struct queue_entry *q = queue_find(&d, def->name);
    if (!mqg_vhost_alive(s->vhost))
        err = definitions_vhost_gone(e, s->vhost);
    else if (q != NULL)
        err = queue_compare(q->queue, def, e); /* somebody was faster */
    else
        q = queue_create(&d, def, opts, 0);
    *out = q != NULL ? q->queue : NULL;
    *ticket = definitions_end_later(&d, s);
    return err;
}

static enum mqg_err queue_declare_new(struct mqg_session *s, struct mqg_queue_def *def,
                                      struct mqg_queue_ok *ok, uint64_t *ticket, struct mqg_error *e)
{
    struct queue_opts opts;
    struct mqg_queue *q = NULL;
    enum mqg_err err = queue_check_new(s, def, &opts, e);
    if (err != MQG_OK)
        return err;
    def->durable = def->durable && !def->exclusive;
    err = queue_make(s, def, &opts, &q, ticket, e);
    if (err == MQG_OK) {
        queue_fill_ok(q, ok);
        queue_stream_declared(q);
    }
    return err;
}

static enum mqg_err queue_declare_passive(struct mqg_session *s, const struct mqg_queue_def *def,
                                          struct mqg_queue_ok *ok, struct mqg_error *e)
{
    struct mqg_queue *q = definitions_look_queue(s->vhost, def->name);
    if (q == NULL)
        return definitions_no(e, "queue", def->name, s->vhost);
    enum mqg_err err = queue_check_owner(q, def->owner_conn, e);
    if (err == MQG_OK)
        queue_fill_ok(q, ok);
    return err;
}

static enum mqg_err queue_declare_named(struct mqg_session *s, struct mqg_queue_def *def,
                                        struct mqg_queue_ok *ok, uint64_t *ticket, struct mqg_error *e)
{
    enum mqg_err err = definitions_need(s, MQG_CONFIGURE, "queue", def->name, e);
    if (err != MQG_OK)
        return err;
    struct mqg_queue *q = definitions_look_queue(s->vhost, def->name);
    if (q == NULL)
        return queue_declare_new(s, def, ok, ticket, e);
    struct mqg_queue_def wanted = *def;
    wanted.durable = def->durable && !def->exclusive;
    err = queue_compare(q, &wanted, e);
    if (err == MQG_OK)
        queue_fill_ok(q, ok);
    return err;
}

enum mqg_err mqg_queue_declare(struct mqg_session *s, const struct mqg_queue_def *d, bool passive,
                               struct mqg_queue_ok *ok, uint64_t *ticket, struct mqg_error *e)
{
    char generated[NAMES_GENERATED_BYTES + 1];
    struct mqg_queue_def def = *d;
    *ticket = 0;
    if (passive)
        return queue_declare_passive(s, &def, ok, e);
    if (def.name.len == 0) {
        names_generate(generated);
        def.name = mqg_slice_str(generated);
    } else if (names_reserved(def.name) && !def.reserved) {
        return mqg_error_set(e, MQG_DENIED, 403, "queue name '%.*s' contains reserved prefix 'amq.*'",
                             MQG_SLICE_FMT(def.name));
    }
    return queue_declare_named(s, &def, ok, ticket, e);
}

/* ---- delete, purge, open ------------------------------------------------------------------------------- */

enum mqg_err mqg_queue_delete(struct mqg_session *s, struct mqg_slice name, bool if_unused, bool if_empty,
                              uint64_t *messages, uint64_t *ticket, struct mqg_error *e)
{
    *ticket = 0;
    *messages = 0;
    enum mqg_err err = definitions_need(s, MQG_CONFIGURE, "queue", name, e);
    if (err != MQG_OK)
        return err;
    mqg_publish_flush();
    struct definitions_edit d;
    definitions_begin(&d, s->vhost);
    struct queue_entry *q = queue_find(&d, name);
    if (q != NULL)
        err = queue_check_owner(q->queue, s->conn_id, e);
    if (q != NULL && err == MQG_OK)
        err = queue_entry_drop(&d, q, if_unused, if_empty, messages, e);
    *ticket = definitions_end(&d);
    return err;
}

enum mqg_err mqg_queue_purge(struct mqg_session *s, struct mqg_slice name, uint64_t *messages,
                             struct mqg_error *e)
{
    *messages = 0;
    enum mqg_err err = definitions_need(s, MQG_READ, "queue", name, e);
    if (err != MQG_OK)
        return err;
    struct mqg_queue *q = topology_queue(s->vhost, name);
    if (q == NULL)
        return definitions_no(e, "queue", name, s->vhost);
    err = queue_check_owner(q, s->conn_id, e);
    if (err != MQG_OK)
        return err;
    if (queue_opts(q)->type == QUEUE_STREAM)
        return mqg_error_set(e, MQG_UNSUPPORTED, 540,
                             "queue.purge not supported by stream queues queue '%.*s' in vhost '%.*s'",
                             MQG_SLICE_FMT(name), MQG_SLICE_FMT(mqg_vhost_name(s->vhost)));
    mqg_publish_flush();
    *messages = queue_purge(q);
    return MQG_OK;
}

enum mqg_err mqg_queue_open(struct mqg_session *s, struct mqg_slice name, struct mqg_queue **out,
                            struct mqg_error *e)
{
    struct mqg_queue *q = topology_queue(s->vhost, name);
    *out = NULL;
    if (q == NULL)
        return definitions_no(e, "queue", name, s->vhost);
    enum mqg_err err = queue_check_owner(q, s->conn_id, e);
    if (err == MQG_OK)
        *out = mqg_queue_ref(q);
    return err;
}

/* ---- queues that end by themselves --------------------------------------------------------------------- */

static struct queue_entry *queue_first_owned(uint64_t conn)
{
    struct queue_owner *owner = mqg_map_get(&queue_owners, queue_owner_key(&conn));
    return owner != NULL ? LIST_FIRST(&owner->queues) : NULL;
}

void mqg_conn_gone(struct mqg_session *s)
{
    uint64_t messages;
    if (s->vhost == NULL || s->conn_id == 0)
        return;
    struct definitions_edit d;
    definitions_begin(&d, s->vhost);
    for (struct queue_entry *q; (q = queue_first_owned(s->conn_id)) != NULL;) {
        MQG_ASSERT(queue_vhost(q->queue) == s->vhost);
        enum mqg_err err = queue_entry_drop(&d, q, false, false, &messages, NULL);
        MQG_ASSERT(err == MQG_OK); /* a queue that is ended is in no list */
    }
    definitions_end(&d);
}

void definitions_queue_over(struct mqg_queue *q, const char *why)
{
    struct mqg_vhost *v = queue_vhost(q);
    uint64_t messages = 0;
    struct definitions_edit d;
    definitions_begin(&d, v);
    struct queue_entry *entry = queue_find(&d, mqg_queue_name(q));
    bool dropped = entry != NULL && entry->queue == q &&
                   queue_entry_drop(&d, entry, true, false, &messages, NULL) == MQG_OK;
    definitions_end(&d);
    if (dropped)
        MQG_TRACE("queue", 0, "queue=%s over=%s", mqg_logq(mqg_queue_name(q)), why);
}
