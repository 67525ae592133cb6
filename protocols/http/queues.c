/* queues.c - queues and their consumers: listed, declared, deleted, purged. */
#include "http.h"

#include <mqgate/host.h>

#include <inttypes.h>

/* ---- as JSON ------------------------------------------------------------------------------------------------------------ */

static void queue_json_counts(json_t *out, const struct mqg_queue_info *q)
{
    js_set_int(out, "messages", q->messages_ready + q->messages_unacked);
    js_set_int(out, "messages_ready", q->messages_ready);
    js_set_int(out, "messages_unacknowledged", q->messages_unacked);
    js_set_int(out, "message_bytes", q->bytes_ready + q->bytes_unacked);
    js_set_int(out, "message_bytes_ready", q->bytes_ready);
    js_set_int(out, "message_bytes_unacknowledged", q->bytes_unacked);
    js_set_int(out, "messages_ram", q->memory_messages);
    js_set_int(out, "memory", q->bytes_ready + q->bytes_unacked);
    js_set_int(out, "consumers", q->consumers);
    store_queue_json(out, mqg_queue_id(q->queue));
    json_t *stats = json_object();
    js_set_int(stats, "publish", q->published);
    js_set_int(stats, "deliver_get", q->delivered);
    js_set_int(stats, "ack", q->acked);
    js_set(out, "message_stats", stats);
}

json_t *queue_json(const struct mqg_queue_info *q)
{
    json_t *out = json_object();
    js_set_slice(out, "name", q->name);
    js_set_slice(out, "vhost", q->vhost);
    js_set_slice(out, "type", q->type);
    js_set_bool(out, "durable", q->durable);
    js_set_bool(out, "auto_delete", q->auto_delete);
    js_set_bool(out, "exclusive", q->exclusive);
    js_set(out, "arguments", js_table(q->args));
    js_set_str(out, "node", mqg_node_name());
    js_set_str(out, "state", q->state != NULL ? q->state : "running");
    queue_json_counts(out, q);
    js_set(out, "policy", json_null());
    js_set(out, "operator_policy", json_null());
    js_set(out, "effective_policy_definition", json_object());
    js_set(out, "single_active_consumer_tag",
           q->single_active_tag.len > 0 ? js_slice(q->single_active_tag) : json_null());
    js_set(out, "pid", json_sprintf("<%s.q.%" PRIu64 ">", mqg_node_name(), mqg_queue_id(q->queue)));
    if (q->exclusive)
        js_set_int(out, "owner_connection_id", q->owner_conn);
    return out;
}

/* The connection's own facts come from its entry in `connections`. */
static json_t *consumer_channel_json(const struct mqg_consumer_info *c, const json_t *connections)
{
    json_t *out = json_object();
    js_set_int(out, "number", c->channel);
    js_set(out, "pid",
           json_sprintf("<%s.%" PRIu64 ".%u>", mqg_node_name(), c->conn_id, (unsigned)c->channel));
    for (size_t i = 0; i < json_array_size(connections); i++) {
        const json_t *conn = json_array_get(connections, i);
        if ((uint64_t)json_integer_value(json_object_get(conn, "id")) != c->conn_id)
            continue;
        const char *name = json_string_value(json_object_get(conn, "name"));
        json_object_set(out, "connection_name", json_object_get(conn, "name"));
        js_set(out, "name", json_sprintf("%s (%u)", name, (unsigned)c->channel));
        json_object_set(out, "peer_host", json_object_get(conn, "peer_host"));
        json_object_set(out, "peer_port", json_object_get(conn, "peer_port"));
        json_object_set(out, "user", json_object_get(conn, "user"));
        js_set_str(out, "node", mqg_node_name());
    }
    return out;
}

json_t *consumer_json(const struct mqg_consumer_info *c, const json_t *connections)
{
    json_t *out = json_object(), *queue = json_object();
    js_set_slice(queue, "name", c->queue);
    js_set_slice(queue, "vhost", c->vhost);
    js_set_slice(out, "consumer_tag", c->tag);
    js_set(out, "queue", queue);
    js_set_bool(out, "ack_required", !c->no_ack);
    js_set_bool(out, "exclusive", c->exclusive);
    js_set_bool(out, "active", c->active);
    js_set_str(out, "activity_status", c->active ? "up" : "waiting");
    js_set(out, "priority", json_integer(c->priority));
    js_set_int(out, "prefetch_count", c->prefetch);
    js_set(out, "arguments", js_table(c->args));
    js_set(out, "channel_details", consumer_channel_json(c, connections));
    return out;
}

/* ---- listings ------------------------------------------------------------------------------------------------------------ */

struct queue_listing {
    const struct http_request *r;
    json_t *array;
    const struct mqg_slice *name; /* NULL: all */
    const json_t *connections;
};

static bool queue_list_one(void *arg, const struct mqg_queue_info *q)
{
    struct queue_listing *l = arg;
    if (l->name != NULL && !mqg_slice_eq(*l->name, q->name))
        return true;
    json_array_append_new(l->array, queue_json(q));
    return l->name == NULL;
}

static bool queue_list_vhost(void *arg, struct mqg_vhost *v)
{
    struct queue_listing *l = arg;
    if (http_sees_vhost(l->r, mqg_vhost_name(v)))
        mqg_queue_each(v, queue_list_one, l);
    return true;
}

void queues_get(struct http_request *r)
{
    struct queue_listing l = {r, json_array(), NULL, NULL};
    if (r->nparts == 1) {
        mqg_vhost_each(queue_list_vhost, &l);
    } else {
        struct mqg_vhost *v = http_vhost(r, r->arg[0]);
        if (v == NULL) {
            json_decref(l.array);
            return;
        }
        mqg_queue_each(v, queue_list_one, &l);
    }
    http_reply_list(r, l.array, "vhost,name");
}

/* NULL when there is none. */
static json_t *queue_find(const struct http_request *r, struct mqg_vhost *v)
{
    struct queue_listing l = {r, json_array(), &r->arg[1], NULL};
    mqg_queue_each(v, queue_list_one, &l);
    json_t *out = json_incref(json_array_get(l.array, 0));
    json_decref(l.array);
    return out;
}

static bool consumer_list_one(void *arg, const struct mqg_consumer_info *c)
{
    struct queue_listing *l = arg;
    if (l->name == NULL || mqg_slice_eq(*l->name, c->queue))
        json_array_append_new(l->array, consumer_json(c, l->connections));
    return true;
}

void queue_get(struct http_request *r)
{
    struct mqg_vhost *v = http_vhost(r, r->arg[0]);
    json_t *queue = v != NULL ? queue_find(r, v) : NULL;
    if (queue == NULL) {
        if (v != NULL)
            http_reply_not_found(r);
        return;
    }
    json_t *connections = connections_json(r);
    struct queue_listing l = {r, json_array(), &r->arg[1], connections};
    mqg_consumer_each(v, consumer_list_one, &l);
    js_set(queue, "consumer_details", l.array);
    js_set(queue, "incoming", json_array());
    js_set(queue, "deliveries", json_array());
    json_decref(connections);
    http_reply_object(r, queue);
}

static bool consumer_list_vhost(void *arg, struct mqg_vhost *v)
{
    struct queue_listing *l = arg;
    if (http_sees_vhost(l->r, mqg_vhost_name(v)))
        mqg_consumer_each(v, consumer_list_one, l);
    return true;
}

void consumers_get(struct http_request *r)
{
    struct mqg_vhost *v = r->nparts > 1 ? http_vhost(r, r->arg[0]) : NULL;
    if (r->nparts > 1 && v == NULL)
        return;
    json_t *connections = connections_json(r);
    if (connections == NULL)
        return;
    struct queue_listing l = {r, json_array(), NULL, connections};
    if (v != NULL)
        mqg_consumer_each(v, consumer_list_one, &l);
    else
        mqg_vhost_each(consumer_list_vhost, &l);
    json_decref(connections);
    http_reply_list(r, l.array, "queue.vhost,queue.name,consumer_tag");
}

static bool queue_sum_one(void *arg, const struct mqg_queue_info *q)
{
    struct queue_totals *t = arg;
    t->queues++;
    t->ready += q->messages_ready;
    t->unacked += q->messages_unacked;
    t->bytes_ready += q->bytes_ready;
    t->bytes_unacked += q->bytes_unacked;
    t->consumers += q->consumers;
    t->memory_messages += q->memory_messages;
    return true;
}

void queue_sum(struct queue_totals *t)
{
    *t = (struct queue_totals){0};
    mqg_queue_each(NULL, queue_sum_one, t);
}

/* ---- commands -------------------------------------------------------------------------------------------------------------- */

struct queue_command {
    struct http_command base;
    struct mqg_queue_def def;
    bool if_unused, if_empty;
    uint64_t messages;
};

static enum mqg_err queue_run_put(struct http_command *c, struct mqg_session *s, uint64_t *ticket,
                                  struct mqg_error *e)
{
    const struct queue_command *q = MQG_CONTAINER_OF(c, struct queue_command, base);
    struct mqg_queue_ok ok;
    return mqg_queue_declare(s, &q->def, false, &ok, ticket, e);
}

void queue_put(struct http_request *r)
{
    struct queue_command c = {.base = {.run = queue_run_put, .in_vhost = true, .vhost = r->arg[0]},
                              .def = {.name = r->arg[1], .durable = true}};
    struct mqg_arena arena;
    mqg_arena_init(&arena, HTTP_BODY_MAX_BYTES * 4);
    struct mqg_vhost *v = mqg_vhost_find(r->arg[0]);
    json_t *there = v != NULL ? queue_find(r, v) : NULL;
    json_decref(there);
    if (r->arg[1].len == 0)
        http_reply_not_found(r);
    else if (js_get_bool(r, "durable", &c.def.durable) && js_get_bool(r, "auto_delete", &c.def.auto_delete) &&
             js_get_table(r, "arguments", &arena, &c.def.args) && http_command(r, &c.base))
        http_reply_none(r, there != NULL ? 204 : 201);
    mqg_arena_fini(&arena);
}

static enum mqg_err queue_run_delete(struct http_command *c, struct mqg_session *s, uint64_t *ticket,
                                     struct mqg_error *e)
{
    struct queue_command *q = MQG_CONTAINER_OF(c, struct queue_command, base);
    return mqg_queue_delete(s, q->def.name, q->if_unused, q->if_empty, &q->messages, ticket, e);
}

static enum mqg_err queue_run_purge(struct http_command *c, struct mqg_session *s, uint64_t *ticket,
                                    struct mqg_error *e)
{
    struct queue_command *q = MQG_CONTAINER_OF(c, struct queue_command, base);
    *ticket = 0;
    return mqg_queue_purge(s, q->def.name, &q->messages, e);
}

/* What the path names must be there: deleting nothing is no success here, other than over AMQP. */
static void queue_do(struct http_request *r, struct queue_command *c)
{
    struct mqg_vhost *v = http_vhost(r, r->arg[0]);
    if (v == NULL)
        return;
    json_t *there = queue_find(r, v);
    json_decref(there);
    c->base.in_vhost = true;
    c->base.vhost = r->arg[0];
    c->def.name = r->arg[1];
    if (there == NULL)
        http_reply_not_found(r);
    else if (http_command(r, &c->base))
        http_reply_none(r, 204);
}

void queue_delete(struct http_request *r)
{
    struct queue_command c = {.base.run = queue_run_delete,
                              .if_unused = http_query_true(r, "if-unused"),
                              .if_empty = http_query_true(r, "if-empty")};
    queue_do(r, &c);
}

void queue_contents_delete(struct http_request *r)
{
    struct queue_command c = {.base.run = queue_run_purge};
    queue_do(r, &c);
}
