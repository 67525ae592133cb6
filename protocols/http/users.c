/* users.c - users: listed, made, changed, deleted; and who the caller is.
 *
 * A PUT says everything about a user: with neither password nor password_hash it has no password, as in RabbitMQ. A deleted
 * user's connections are closed. */
#include "http.h"

static json_t *user_tags_json(unsigned tags)
{
    char words[96];
    json_t *out = json_array();
    mqg_tags_print(tags, words);
    for (const char *at = words; *at != '\0';) {
        size_t len = strcspn(at, ",");
        json_array_append_new(out, json_stringn(at, len));
        at += len + (at[len] == ',');
    }
    return out;
}

void whoami_get(struct http_request *r)
{
    json_t *out = json_object();
    js_set_str(out, "name", r->user);
    js_set(out, "tags", user_tags_json(r->tags));
    http_reply(r, 200, out);
}

struct user_listing {
    json_t *array;
    const struct mqg_slice *name; /* NULL: all */
};

static void user_list_one(void *arg, const struct mqg_user_info *u)
{
    struct user_listing *l = arg;
    if (l->name != NULL && !mqg_slice_eq(*l->name, mqg_slice_str(u->name)))
        return;
    json_t *out = json_object();
    js_set_str(out, "name", u->name);
    js_set_str(out, "password_hash", u->hash_base64);
    js_set_str(out, "hashing_algorithm", u->algorithm);
    js_set(out, "tags", user_tags_json(u->tags));
    js_set(out, "limits", json_object());
    json_array_append_new(l->array, out);
}

void users_get(struct http_request *r)
{
    struct user_listing l = {json_array(), NULL};
    mqg_user_each(user_list_one, &l);
    http_reply_list(r, l.array, "name");
}

/* NULL when there is none. */
static json_t *user_json(struct mqg_slice name)
{
    struct user_listing l = {json_array(), &name};
    mqg_user_each(user_list_one, &l);
    json_t *out = json_incref(json_array_get(l.array, 0));
    json_decref(l.array);
    return out;
}

void user_get(struct http_request *r)
{
    json_t *user = user_json(r->arg[0]);
    if (user != NULL)
        http_reply_object(r, user);
    else
        http_reply_not_found(r);
}

/* ---- commands ----------------------------------------------------------------------------------------------------------- */

struct user_command {
    struct http_command base;
    const struct http_request *r;
    const struct mqg_slice *password, *hash;
    struct mqg_slice algorithm;
    unsigned tags;
    bool keep_password;
};

/* "administrator,monitoring", or an array of words. false: answered. */
static bool user_tags_of(struct http_request *r, unsigned *tags)
{
    const json_t *value = json_object_get(r->json, "tags");
    *tags = 0;
    if (json_is_string(value)) {
        *tags = mqg_tags_parse(mqg_slice_str(json_string_value(value)));
        return true;
    }
    for (size_t i = 0; i < json_array_size(value); i++) {
        const char *word = json_string_value(json_array_get(value, i));
        *tags |= mqg_tags_parse(mqg_slice_str(word != NULL ? word : ""));
    }
    if (!json_is_array(value))
        http_reply_error(r, 400, "bad_request", "tags_not_present");
    return json_is_array(value);
}

static enum mqg_err user_run_put(struct http_command *c, struct mqg_session *s, uint64_t *ticket,
                                 struct mqg_error *e)
{
    const struct user_command *u = MQG_CONTAINER_OF(c, struct user_command, base);
    (void)s;
    if (u->keep_password)
        return mqg_user_tags(u->r->arg[0], u->tags, ticket, e);
    return mqg_user_put(u->r->arg[0], u->password, u->hash, u->algorithm, u->tags, ticket, e);
}

void user_put(struct http_request *r)
{
    struct user_command c = {.base.run = user_run_put, .r = r};
    struct mqg_slice password = MQG_SLICE_NONE, hash = MQG_SLICE_NONE;
    json_t *there = user_json(r->arg[0]);
    bool known = there != NULL;
    json_decref(there);
    if (!user_tags_of(r, &c.tags) || !js_get_str(r, "password", &password) ||
        !js_get_str(r, "password_hash", &hash) || !js_get_str(r, "hashing_algorithm", &c.algorithm) ||
        !js_get_bool(r, "mqgate_keep_password", &c.keep_password))
        return;
    c.password = json_is_string(json_object_get(r->json, "password")) ? &password : NULL;
    c.hash = c.password == NULL && json_is_string(json_object_get(r->json, "password_hash")) ? &hash : NULL;
    if (http_command(r, &c.base))
        http_reply_none(r, known ? 204 : 201);
}

static enum mqg_err user_run_delete(struct http_command *c, struct mqg_session *s, uint64_t *ticket,
                                    struct mqg_error *e)
{
    const struct user_command *u = MQG_CONTAINER_OF(c, struct user_command, base);
    (void)s;
    return mqg_user_delete(u->r->arg[0], ticket, e);
}

static bool user_owns(const struct mqg_conn *c, const void *arg)
{
    const struct mqg_session *s = mqg_conn_get_session(c);
    const struct mqg_slice *name = arg;
    return s != NULL && mqg_slice_eq(mqg_slice_str(s->user), *name);
}

void user_delete(struct http_request *r)
{
    struct user_command c = {.base.run = user_run_delete, .r = r};
    json_t *there = user_json(r->arg[0]);
    json_decref(there);
    if (there == NULL) {
        http_reply_not_found(r);
    } else if (http_command(r, &c.base)) {
        connections_close(r, user_owns, &r->arg[0], MQG_SLICE_LIT("user was deleted"));
        http_reply_none(r, 204);
    }
}
