/* vhosts.c - vhosts: listed, made, deleted. Who makes one may do everything in it, as in RabbitMQ. */
#include "http.h"

#include <mqgate/host.h>

static bool vhost_add_queue(void *arg, const struct mqg_queue_info *q)
{
    struct queue_totals *t = arg;
    t->ready += q->messages_ready;
    t->unacked += q->messages_unacked;
    return true;
}

static json_t *vhost_json(struct mqg_vhost *v)
{
    struct queue_totals t = {0};
    json_t *out = json_object(), *state = json_object(), *metadata = json_object();
    mqg_queue_each(v, vhost_add_queue, &t);
    js_set_str(state, mqg_node_name(), "running");
    js_set_str(metadata, "description", "");
    js_set(metadata, "tags", json_array());
    js_set_slice(out, "name", mqg_vhost_name(v));
    js_set_str(out, "description", "");
    js_set(out, "tags", json_array());
    js_set(out, "metadata", metadata);
    js_set_bool(out, "tracing", false);
    js_set(out, "cluster_state", state);
    js_set_int(out, "messages", t.ready + t.unacked);
    js_set_int(out, "messages_ready", t.ready);
    js_set_int(out, "messages_unacknowledged", t.unacked);
    return out;
}

struct vhost_listing {
    struct http_request *r;
    json_t *array;
};

static bool vhost_list_one(void *arg, struct mqg_vhost *v)
{
    struct vhost_listing *l = arg;
    if (http_sees_vhost(l->r, mqg_vhost_name(v)))
        json_array_append_new(l->array, vhost_json(v));
    return true;
}

void vhosts_get(struct http_request *r)
{
    struct vhost_listing l = {r, json_array()};
    mqg_vhost_each(vhost_list_one, &l);
    http_reply_list(r, l.array, "name");
}

void vhost_get(struct http_request *r)
{
    struct mqg_vhost *v = http_vhost(r, r->arg[0]);
    if (v != NULL)
        http_reply_object(r, vhost_json(v));
}

/* ---- commands ----------------------------------------------------------------------------------------------------------- */

struct vhost_command {
    struct http_command base;
    const struct http_request *r;
    bool grant;
};

static enum mqg_err vhost_run_put(struct http_command *c, struct mqg_session *s, uint64_t *ticket,
                                  struct mqg_error *e)
{
    struct vhost_command *v = MQG_CONTAINER_OF(c, struct vhost_command, base);
    const struct mqg_slice all = MQG_SLICE_LIT(".*");
    enum mqg_err err = mqg_vhost_put(v->r->arg[0], ticket, e);
    if (err == MQG_OK && v->grant)
        err = mqg_perm_put(mqg_slice_str(s->user), v->r->arg[0], all, all, all, ticket, e);
    return err;
}

void vhost_put(struct http_request *r)
{
    bool there = mqg_vhost_find(r->arg[0]) != NULL, grant = true;
    struct vhost_command c = {.base.run = vhost_run_put, .r = r};
    if (!mqg_utf8_valid(r->arg[0])) {
        http_reply_error(r, 400, "bad_request", "a vhost's name is text in UTF-8");
        return;
    }
    if (!js_get_bool(r, "mqgate_grant", &grant))
        return;
    c.grant = grant && !there;
    if (http_command(r, &c.base))
        http_reply_none(r, there ? 204 : 201);
}

/* Permissions go first: after a crash in between, a vhost of that name that is made again must not find old ones. And once more
 * at the end, for one that was given meanwhile. */
static enum mqg_err vhost_run_delete(struct http_command *c, struct mqg_session *s, uint64_t *ticket,
                                     struct mqg_error *e)
{
    struct vhost_command *v = MQG_CONTAINER_OF(c, struct vhost_command, base);
    (void)s;
    mqg_auth_vhost_gone(v->r->arg[0]);
    enum mqg_err err = mqg_vhost_delete(v->r->arg[0], ticket, e);
    if (err != MQG_OK)
        return err;
    uint64_t last = mqg_auth_vhost_gone(v->r->arg[0]);
    *ticket = last > *ticket ? last : *ticket;
    return MQG_OK;
}

void vhost_delete(struct http_request *r)
{
    struct vhost_command c = {.base.run = vhost_run_delete, .r = r};
    if (mqg_vhost_find(r->arg[0]) == NULL)
        http_reply_not_found(r);
    else if (http_command(r, &c.base))
        http_reply_none(r, 204);
}
