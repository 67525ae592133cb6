/* bindings.c - bindings: listed, made, removed.
 *
 * A binding has no name; in a path it is found by its properties key: the routing key, "~" when that is empty, and with
 * arguments "~" and a digest of them behind it. The digest only has to tell apart the bindings of one pair, and to be the same
 * for as long as they are listed: clients copy it from a listing. */
#include "http.h"

#include <stdio.h>

struct binding_listing {
    const struct http_request *r;
    json_t *array;
    /* NULL: any */
    const struct mqg_slice *source, *destination;
    bool any_kind, to_exchange;
};

/* ---- the properties key --------------------------------------------------------------------------------------------------- */

static void binding_quote(struct mqg_dynbuf *out, struct mqg_slice key)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    for (size_t i = 0; i < key.len; i++) {
        uint8_t c = key.ptr[i];
        if (c == ' ')
            mqg_dynbuf_u8(out, '+');
        else if (c != 0 && strchr(plain, c) != NULL)
            mqg_dynbuf_u8(out, c);
        else
            mqg_dynbuf_printf(out, "%%%02X", c);
    }
}

/* Sorted by the JSON printer, so the order in which arguments were given does not matter. */
static uint32_t binding_digest(const struct mqg_table *args)
{
    json_t *value = js_table(args);
    char *text = json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS);
    MQG_ASSERT(text != NULL);
    uint32_t digest = mqg_crc32c(0, text, strlen(text));
    free(text);
    json_decref(value);
    return digest;
}

static void binding_props(struct mqg_dynbuf *out, const struct mqg_binding_info *b)
{
    bool args = b->args != NULL && b->args->n > 0;
    binding_quote(out, b->key);
    if (args)
        mqg_dynbuf_printf(out, "~%08x", binding_digest(b->args));
    else if (b->key.len == 0)
        mqg_dynbuf_u8(out, '~');
}

/* ---- listings ---------------------------------------------------------------------------------------------------------------- */

json_t *binding_json(const struct mqg_binding_info *b)
{
    json_t *out = json_object();
    struct mqg_dynbuf props;
    mqg_dynbuf_init(&props, 256 << 10);
    binding_props(&props, b);
    js_set_slice(out, "source", b->source);
    js_set_slice(out, "vhost", b->vhost);
    js_set_slice(out, "destination", b->destination);
    js_set_str(out, "destination_type", b->to_exchange ? "exchange" : "queue");
    js_set_slice(out, "routing_key", b->key);
    js_set(out, "arguments", js_table(b->args));
    js_set_slice(out, "properties_key", mqg_dynbuf_view(&props));
    mqg_dynbuf_fini(&props);
    return out;
}

static bool binding_list_one(void *arg, const struct mqg_binding_info *b)
{
    struct binding_listing *l = arg;
    if ((l->source != NULL && !mqg_slice_eq(*l->source, b->source)) ||
        (l->destination != NULL && !mqg_slice_eq(*l->destination, b->destination)) ||
        (!l->any_kind && l->to_exchange != b->to_exchange))
        return true;
    json_array_append_new(l->array, binding_json(b));
    return true;
}

static bool binding_list_vhost(void *arg, struct mqg_vhost *v)
{
    struct binding_listing *l = arg;
    if (http_sees_vhost(l->r, mqg_vhost_name(v)))
        mqg_binding_each(v, binding_list_one, l);
    return true;
}

#define BINDING_ORDER "vhost,source,destination_type,destination,properties_key"

/* The vhost is the path's first argument. */
static void binding_reply(struct http_request *r, const struct mqg_slice *source,
                          const struct mqg_slice *destination, bool any_kind, bool to_exchange)
{
    struct mqg_vhost *v = http_vhost(r, r->arg[0]);
    struct binding_listing l = {r, NULL, source, destination, any_kind, to_exchange};
    if (v == NULL)
        return;
    l.array = json_array();
    mqg_binding_each(v, binding_list_one, &l);
    http_reply_list(r, l.array, BINDING_ORDER);
}

static struct mqg_slice binding_exchange(struct mqg_slice part)
{
    return mqg_slice_eq(part, MQG_SLICE_LIT("amq.default")) ? MQG_SLICE_LIT("") : part;
}

void bindings_get(struct http_request *r)
{
    struct binding_listing l = {.r = r, .any_kind = true};
    if (r->nparts > 1) {
        binding_reply(r, NULL, NULL, true, false);
        return;
    }
    l.array = json_array();
    mqg_vhost_each(binding_list_vhost, &l);
    http_reply_list(r, l.array, BINDING_ORDER);
}

void exchange_source_get(struct http_request *r)
{
    struct mqg_slice name = binding_exchange(r->arg[1]);
    binding_reply(r, &name, NULL, true, false);
}

void exchange_destination_get(struct http_request *r)
{
    struct mqg_slice name = binding_exchange(r->arg[1]);
    binding_reply(r, NULL, &name, false, true);
}

void queue_bindings_get(struct http_request *r)
{
    binding_reply(r, NULL, &r->arg[1], false, false);
}

/* ---- one pair: /bindings/VHOST/e/SOURCE/q|e/DESTINATION ------------------------------------------------------------------------ */

struct binding_pair {
    struct mqg_slice source, destination;
    bool to_exchange;
};

static bool binding_pair(struct http_request *r, struct binding_pair *p)
{
    p->source = binding_exchange(r->arg[1]);
    p->destination = r->arg[3];
    p->to_exchange = mqg_slice_eq(r->arg[2], MQG_SLICE_LIT("e"));
    if (p->to_exchange)
        p->destination = binding_exchange(p->destination);
    if (p->to_exchange || mqg_slice_eq(r->arg[2], MQG_SLICE_LIT("q")))
        return true;
    http_reply_not_found(r);
    return false;
}

void binding_pair_get(struct http_request *r)
{
    struct binding_pair p;
    if (binding_pair(r, &p))
        binding_reply(r, &p.source, &p.destination, false, p.to_exchange);
}

struct binding_command {
    struct http_command base;
    struct mqg_binding_def def;
};

static enum mqg_err binding_run_put(struct http_command *c, struct mqg_session *s, uint64_t *ticket,
                                    struct mqg_error *e)
{
    const struct binding_command *b = MQG_CONTAINER_OF(c, struct binding_command, base);
    return mqg_binding_put(s, &b->def, ticket, e);
}

static void binding_location(struct http_request *r, const struct binding_command *c)
{
    const struct mqg_binding_info info = {.key = c->def.key, .args = &c->def.args};
    struct mqg_dynbuf text;
    mqg_dynbuf_init(&text, sizeof r->location - 1);
    binding_quote(&text, c->def.destination);
    mqg_dynbuf_u8(&text, '/');
    binding_props(&text, &info);
    if (!text.failed)
        snprintf(r->location, sizeof r->location, "%.*s", (int)text.len, (const char *)text.ptr);
    mqg_dynbuf_fini(&text);
}

void binding_post(struct http_request *r)
{
    struct binding_pair p;
    struct mqg_arena arena;
    if (!binding_pair(r, &p))
        return;
    struct binding_command c = {
        .base = {.run = binding_run_put, .in_vhost = true, .vhost = r->arg[0]},
        .def = {.source = p.source, .destination = p.destination, .to_exchange = p.to_exchange}};
    mqg_arena_init(&arena, HTTP_BODY_MAX_BYTES * 4);
    if (js_get_str(r, "routing_key", &c.def.key) && js_get_table(r, "arguments", &arena, &c.def.args) &&
        http_command(r, &c.base)) {
        binding_location(r, &c);
        http_reply_none(r, 201);
    }
    mqg_arena_fini(&arena);
}

/* ---- one binding: the pair, and its properties key ------------------------------------------------------------------------------- */

struct binding_search {
    const struct binding_pair *pair;
    struct mqg_slice props; /* as it came, decoded once */
    /* what was found, copied: the visit's strings end with it */
    json_t *found;
    struct mqg_arena *arena;
    struct mqg_binding_def def;
};

static bool binding_fits(const struct binding_search *s, const struct mqg_binding_info *b)
{
    if (!mqg_slice_eq(b->source, s->pair->source) || !mqg_slice_eq(b->destination, s->pair->destination) ||
        b->to_exchange != s->pair->to_exchange)
        return false;
    struct mqg_dynbuf props;
    mqg_dynbuf_init(&props, 256 << 10);
    binding_props(&props, b);
    bool fits = mqg_slice_eq(mqg_dynbuf_view(&props), s->props);
    /* The path was decoded: a client that did not encode the key again means the key itself. */
    if (!fits && (b->args == NULL || b->args->n == 0))
        fits = mqg_slice_eq(b->key, s->props);
    mqg_dynbuf_fini(&props);
    return fits;
}

static bool binding_search_one(void *arg, const struct mqg_binding_info *b)
{
    struct binding_search *s = arg;
    if (!binding_fits(s, b))
        return true;
    s->found = binding_json(b);
    s->def = (struct mqg_binding_def){.source = mqg_arena_dup(s->arena, b->source),
                                      .destination = mqg_arena_dup(s->arena, b->destination),
                                      .to_exchange = b->to_exchange,
                                      .key = mqg_arena_dup(s->arena, b->key),
                                      .args = b->args != NULL ? mqg_table_copy(s->arena, b->args)
                                                              : (struct mqg_table){0}};
    return false;
}

/* false: answered. The caller frees s->found. */
static bool binding_find(struct http_request *r, struct binding_pair *p, struct mqg_arena *arena,
                         struct binding_search *s)
{
    if (!binding_pair(r, p))
        return false;
    struct mqg_vhost *v = http_vhost(r, r->arg[0]);
    *s = (struct binding_search){.pair = p, .props = r->arg[4], .arena = arena};
    if (v == NULL)
        return false;
    mqg_binding_each(v, binding_search_one, s);
    if (s->found == NULL)
        http_reply_not_found(r);
    return s->found != NULL;
}

void binding_get(struct http_request *r)
{
    struct binding_pair p;
    struct binding_search s;
    struct mqg_arena arena;
    mqg_arena_init(&arena, 0);
    if (binding_find(r, &p, &arena, &s))
        http_reply_object(r, s.found);
    mqg_arena_fini(&arena);
}

static enum mqg_err binding_run_delete(struct http_command *c, struct mqg_session *s, uint64_t *ticket,
                                       struct mqg_error *e)
{
    const struct binding_command *b = MQG_CONTAINER_OF(c, struct binding_command, base);
    return mqg_binding_delete(s, &b->def, ticket, e);
}

void binding_delete(struct http_request *r)
{
    struct binding_pair p;
    struct binding_search s;
    struct mqg_arena arena;
    mqg_arena_init(&arena, 0);
    if (binding_find(r, &p, &arena, &s)) {
        struct binding_command c = {.base = {.run = binding_run_delete, .in_vhost = true, .vhost = r->arg[0]},
                                    .def = s.def};
        json_decref(s.found);
        if (http_command(r, &c.base))
            http_reply_none(r, 204);
    }
    mqg_arena_fini(&arena);
}
