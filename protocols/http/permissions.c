/* permissions.c - a user's rights in a vhost. */
#include "http.h"

struct permission_listing {
    json_t *array;
    const struct mqg_slice *vhost, *user; /* NULL: all */
};

static void permission_list_one(void *arg, const struct mqg_perm_info *p)
{
    struct permission_listing *l = arg;
    if ((l->vhost != NULL && !mqg_slice_eq(*l->vhost, mqg_slice_str(p->vhost))) ||
        (l->user != NULL && !mqg_slice_eq(*l->user, mqg_slice_str(p->user))))
        return;
    json_t *out = json_object();
    js_set_str(out, "user", p->user);
    js_set_str(out, "vhost", p->vhost);
    js_set_str(out, "configure", p->configure);
    js_set_str(out, "write", p->write);
    js_set_str(out, "read", p->read);
    json_array_append_new(l->array, out);
}

static json_t *permissions_json(const struct mqg_slice *vhost, const struct mqg_slice *user)
{
    struct permission_listing l = {json_array(), vhost, user};
    mqg_perm_each(permission_list_one, &l);
    return l.array;
}

static bool permission_there(struct mqg_slice vhost, struct mqg_slice user)
{
    json_t *array = permissions_json(&vhost, &user);
    bool there = json_array_size(array) > 0;
    json_decref(array);
    return there;
}

void permissions_get(struct http_request *r)
{
    http_reply_list(r, permissions_json(NULL, NULL), "vhost,user");
}

void user_permissions_get(struct http_request *r)
{
    http_reply_list(r, permissions_json(NULL, &r->arg[0]), "vhost,user");
}

void vhost_permissions_get(struct http_request *r)
{
    if (http_vhost(r, r->arg[0]) != NULL)
        http_reply_list(r, permissions_json(&r->arg[0], NULL), "vhost,user");
}

void permission_get(struct http_request *r)
{
    json_t *array = permissions_json(&r->arg[0], &r->arg[1]);
    if (json_array_size(array) > 0)
        http_reply_object(r, json_incref(json_array_get(array, 0)));
    else
        http_reply_not_found(r);
    json_decref(array);
}

/* ---- commands ----------------------------------------------------------------------------------------------------------- */

/* A member of the body that must be there; false: answered. */
static bool permission_text(struct http_request *r, const char *key, struct mqg_slice *out)
{
    if (json_object_get(r->json, key) != NULL)
        return js_get_str(r, key, out);
    http_reply_error(r, 400, "bad_request", "[{key_missing,%s}]", key);
    return false;
}

/* The path names what is to be made; its parts must be there. */
static void permission_do(struct http_request *r, struct http_command *c, unsigned status)
{
    if (http_command(r, c))
        http_reply_none(r, status);
    else if (r->status == 404)
        http_reply_error(r, 400, "bad_request", "vhost_or_user_not_found");
}

struct permission_command {
    struct http_command base;
    const struct http_request *r;
    struct mqg_slice text[MQG_PERM_COUNT];
};

static enum mqg_err permission_run_put(struct http_command *c, struct mqg_session *s, uint64_t *ticket,
                                       struct mqg_error *e)
{
    const struct permission_command *p = MQG_CONTAINER_OF(c, struct permission_command, base);
    (void)s;
    return mqg_perm_put(p->r->arg[1], p->r->arg[0], p->text[MQG_CONFIGURE], p->text[MQG_WRITE],
                        p->text[MQG_READ], ticket, e);
}

void permission_put(struct http_request *r)
{
    static const char *const keys[MQG_PERM_COUNT] = {
        [MQG_CONFIGURE] = "configure", [MQG_WRITE] = "write", [MQG_READ] = "read"};
    struct permission_command c = {.base.run = permission_run_put, .r = r};
    for (size_t i = 0; i < MQG_PERM_COUNT; i++)
        if (!permission_text(r, keys[i], &c.text[i]))
            return;
    bool there = permission_there(r->arg[0], r->arg[1]);
    permission_do(r, &c.base, there ? 204 : 201);
}

static enum mqg_err permission_run_delete(struct http_command *c, struct mqg_session *s, uint64_t *ticket,
                                          struct mqg_error *e)
{
    const struct permission_command *p = MQG_CONTAINER_OF(c, struct permission_command, base);
    (void)s;
    return mqg_perm_delete(p->r->arg[1], p->r->arg[0], ticket, e);
}

void permission_delete(struct http_request *r)
{
    struct permission_command c = {.base.run = permission_run_delete, .r = r};
    if (!permission_there(r->arg[0], r->arg[1]))
        http_reply_not_found(r);
    else if (http_command(r, &c.base))
        http_reply_none(r, 204);
}

/* ---- topic permissions ------------------------------------------------------------------------------------------------- */

static void topic_list_one(void *arg, const struct mqg_topic_perm_info *p)
{
    struct permission_listing *l = arg;
    if ((l->vhost != NULL && !mqg_slice_eq(*l->vhost, mqg_slice_str(p->vhost))) ||
        (l->user != NULL && !mqg_slice_eq(*l->user, mqg_slice_str(p->user))))
        return;
    json_t *out = json_object();
    js_set_str(out, "user", p->user);
    js_set_str(out, "vhost", p->vhost);
    js_set_str(out, "exchange", p->exchange);
    js_set_str(out, "write", p->write);
    js_set_str(out, "read", p->read);
    json_array_append_new(l->array, out);
}

void topic_permissions_get(struct http_request *r)
{
    struct permission_listing l = {json_array(), NULL, NULL};
    mqg_topic_perm_each(topic_list_one, &l);
    http_reply_list(r, l.array, "vhost,user,exchange");
}

void topic_permission_get(struct http_request *r)
{
    struct permission_listing l = {json_array(), &r->arg[0], &r->arg[1]};
    mqg_topic_perm_each(topic_list_one, &l);
    if (json_array_size(l.array) > 0) {
        http_reply_list(r, l.array, "exchange");
        return;
    }
    json_decref(l.array);
    http_reply_not_found(r);
}

struct topic_command {
    struct http_command base;
    const struct http_request *r;
    struct mqg_slice exchange, write, read;
};

static enum mqg_err topic_run_put(struct http_command *c, struct mqg_session *s, uint64_t *ticket,
                                  struct mqg_error *e)
{
    const struct topic_command *t = MQG_CONTAINER_OF(c, struct topic_command, base);
    (void)s;
    return mqg_topic_perm_put(t->r->arg[1], t->r->arg[0], t->exchange, t->write, t->read, ticket, e);
}

void topic_permission_put(struct http_request *r)
{
    struct topic_command c = {.base.run = topic_run_put, .r = r};
    static const char *const keys[] = {"exchange", "write", "read"};
    struct mqg_slice *const to[] = {&c.exchange, &c.write, &c.read};
    for (size_t i = 0; i < MQG_COUNTOF(keys); i++)
        if (!permission_text(r, keys[i], to[i]))
            return;
    permission_do(r, &c.base, 204);
}

static enum mqg_err topic_run_delete(struct http_command *c, struct mqg_session *s, uint64_t *ticket,
                                     struct mqg_error *e)
{
    const struct topic_command *t = MQG_CONTAINER_OF(c, struct topic_command, base);
    (void)s;
    return mqg_topic_perm_delete(t->r->arg[1], t->r->arg[0], ticket, e);
}

void topic_permission_delete(struct http_request *r)
{
    struct topic_command c = {.base.run = topic_run_delete, .r = r};
    if (http_command(r, &c.base))
        http_reply_none(r, 204);
}
