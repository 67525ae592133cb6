/* exchanges.c - exchanges: listed, declared, deleted. In a path the default exchange is amq.default. */
#include "http.h"

struct exchange_listing {
    const struct http_request *r;
    json_t *array;
    const struct mqg_slice *name; /* NULL: all */
};

static struct mqg_slice exchange_name(struct mqg_slice part)
{
    return mqg_slice_eq(part, MQG_SLICE_LIT("amq.default")) ? MQG_SLICE_LIT("") : part;
}

static bool exchange_list_one(void *arg, const struct mqg_exchange_info *x)
{
    struct exchange_listing *l = arg;
    if (l->name != NULL && !mqg_slice_eq(*l->name, x->name))
        return true;
    json_t *out = json_object();
    js_set_slice(out, "name", x->name);
    js_set_slice(out, "vhost", x->vhost);
    js_set_slice(out, "type", x->type);
    js_set_bool(out, "durable", x->durable);
    js_set_bool(out, "auto_delete", x->auto_delete);
    js_set_bool(out, "internal", x->internal);
    js_set(out, "arguments", js_table(x->args));
    json_array_append_new(l->array, out);
    return l->name == NULL;
}

static bool exchange_list_vhost(void *arg, struct mqg_vhost *v)
{
    struct exchange_listing *l = arg;
    if (http_sees_vhost(l->r, mqg_vhost_name(v)))
        mqg_exchange_each(v, exchange_list_one, l);
    return true;
}

void exchanges_get(struct http_request *r)
{
    struct exchange_listing l = {r, json_array(), NULL};
    if (r->nparts == 1) {
        mqg_vhost_each(exchange_list_vhost, &l);
    } else {
        struct mqg_vhost *v = http_vhost(r, r->arg[0]);
        if (v == NULL) {
            json_decref(l.array);
            return;
        }
        mqg_exchange_each(v, exchange_list_one, &l);
    }
    http_reply_list(r, l.array, "vhost,name");
}

/* NULL when there is none. */
static json_t *exchange_json(const struct http_request *r, struct mqg_vhost *v)
{
    struct mqg_slice name = exchange_name(r->arg[1]);
    struct exchange_listing l = {r, json_array(), &name};
    mqg_exchange_each(v, exchange_list_one, &l);
    json_t *out = json_incref(json_array_get(l.array, 0));
    json_decref(l.array);
    return out;
}

void exchange_get(struct http_request *r)
{
    struct mqg_vhost *v = http_vhost(r, r->arg[0]);
    json_t *exchange = v != NULL ? exchange_json(r, v) : NULL;
    if (exchange != NULL) {
        js_set(exchange, "incoming", json_array());
        js_set(exchange, "outgoing", json_array());
        http_reply_object(r, exchange);
    } else if (v != NULL) {
        http_reply_not_found(r);
    }
}

/* ---- commands ----------------------------------------------------------------------------------------------------------- */

struct exchange_command {
    struct http_command base;
    struct mqg_exchange_def def;
    bool if_unused;
};

static enum mqg_err exchange_run_put(struct http_command *c, struct mqg_session *s, uint64_t *ticket,
                                     struct mqg_error *e)
{
    const struct exchange_command *x = MQG_CONTAINER_OF(c, struct exchange_command, base);
    return mqg_exchange_declare(s, &x->def, false, ticket, e);
}

void exchange_put(struct http_request *r)
{
    struct exchange_command c = {
        .base = {.run = exchange_run_put, .in_vhost = true, .vhost = r->arg[0]},
        .def = {.name = exchange_name(r->arg[1]), .type = MQG_SLICE_LIT("direct"), .durable = true}};
    struct mqg_arena arena;
    mqg_arena_init(&arena, HTTP_BODY_MAX_BYTES * 4);
    struct mqg_vhost *v = mqg_vhost_find(r->arg[0]);
    json_t *there = v != NULL ? exchange_json(r, v) : NULL;
    json_decref(there);
    if (js_get_str(r, "type", &c.def.type) && js_get_bool(r, "durable", &c.def.durable) &&
        js_get_bool(r, "auto_delete", &c.def.auto_delete) && js_get_bool(r, "internal", &c.def.internal) &&
        js_get_table(r, "arguments", &arena, &c.def.args) && http_command(r, &c.base))
        http_reply_none(r, there != NULL ? 204 : 201);
    mqg_arena_fini(&arena);
}

static enum mqg_err exchange_run_delete(struct http_command *c, struct mqg_session *s, uint64_t *ticket,
                                        struct mqg_error *e)
{
    const struct exchange_command *x = MQG_CONTAINER_OF(c, struct exchange_command, base);
    return mqg_exchange_delete(s, x->def.name, x->if_unused, ticket, e);
}

void exchange_delete(struct http_request *r)
{
    struct mqg_vhost *v = http_vhost(r, r->arg[0]);
    if (v == NULL)
        return;
    json_t *there = exchange_json(r, v);
    json_decref(there);
    struct exchange_command c = {.base = {.run = exchange_run_delete, .in_vhost = true, .vhost = r->arg[0]},
                                 .def.name = exchange_name(r->arg[1]),
                                 .if_unused = http_query_true(r, "if-unused")};
    if (there == NULL)
        http_reply_not_found(r);
    else if (http_command(r, &c.base))
        http_reply_none(r, 204);
}
