/* change.c - commands that change something. The texts in rabbitmqctl's voice are its own. */
#include "ctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* The answer's exit code, when nothing more is to be said; frees the answer. */
static int change_end(const struct ctl *c, struct answer *a)
{
    int code = client_good(a) ? CTL_OK : client_fault(c, a);
    answer_fini(a);
    return code;
}

/* true: the user is there, and its tags were taken. Else *code, printed. */
static bool change_user(const struct ctl *c, const char *user, json_t **tags, int *code)
{
    struct answer a;
    client_call(c, "GET", client_path("users", user, NULL), NULL, NULL, &a);
    bool there = client_good(&a);
    if (there && tags != NULL)
        *tags = json_incref(json_object_get(a.json, "tags"));
    if (a.status == 404)
        *code = ctl_error(c, CTL_NO_USER, "User \"%s\" does not exist", user);
    else if (!there)
        *code = client_fault(c, &a);
    answer_fini(&a);
    return there;
}

/* The argument, or the first line of standard input; NULL when there is neither. */
static const char *change_secret(const struct ctl *c, int at, char line[1024])
{
    if (c->nargs > at)
        return c->args[at];
    if (isatty(STDIN_FILENO))
        fprintf(stderr, "Password: ");
    if (fgets(line, 1024, stdin) == NULL)
        return NULL;
    line[strcspn(line, "\r\n")] = '\0';
    return line;
}

/* ---- users --------------------------------------------------------------------------------------------------------------------- */

int change_add_user(struct ctl *c)
{
    char line[1024];
    struct answer a;
    const char *user = c->args[1];
    print_banner(c, "Adding user \"%s\" ...", user);
    const char *password = change_secret(c, 2, line);
    if (password == NULL)
        return ctl_error(c, CTL_DATA, "Password is not provided via argument or stdin");
    client_call(c, "GET", client_path("users", user, NULL), NULL, NULL, &a);
    int status = a.status;
    if (status == 200) {
        answer_fini(&a);
        return ctl_error(c, CTL_SOFTWARE, "User \"%s\" already exists", user);
    }
    if (status != 404)
        return change_end(c, &a);
    answer_fini(&a);
    client_call(c, "PUT", client_path("users", user, NULL),
                json_pack("{s:s,s:s}", "password", password, "tags", ""), NULL, &a);
    if (client_good(&a))
        print_banner(
            c,
            "Done. Don't forget to grant the user permissions to some virtual hosts! See 'rabbitmqctl help "
            "set_permissions' to learn more.");
    return change_end(c, &a);
}

static int change_password_to(struct ctl *c, const char *key, const char *value)
{
    json_t *tags = NULL;
    int code = CTL_OK;
    struct answer a;
    if (!change_user(c, c->args[1], &tags, &code))
        return code;
    client_call(c, "PUT", client_path("users", c->args[1], NULL),
                json_pack("{s:s,s:o}", key, value, "tags", tags), NULL, &a);
    return change_end(c, &a);
}

int change_password(struct ctl *c)
{
    char line[1024];
    print_banner(c, "Changing password for user \"%s\" ...", c->args[1]);
    const char *password = change_secret(c, 2, line);
    if (password == NULL)
        return ctl_error(c, CTL_DATA, "Password is not provided via argument or stdin");
    return change_password_to(c, "password", password);
}

int change_clear_password(struct ctl *c)
{
    print_banner(c, "Clearing password for user \"%s\" ...", c->args[1]);
    return change_password_to(c, "password_hash", "");
}

int change_user_tags(struct ctl *c)
{
    struct answer a;
    int code = CTL_OK;
    json_t *tags = json_array();
    struct mqg_dynbuf words;
    mqg_dynbuf_init(&words, 1 << 20);
    for (int i = 2; i < c->nargs; i++) {
        mqg_dynbuf_printf(&words, "%s%s", i > 2 ? ", " : "", c->args[i]);
        json_array_append_new(tags, json_string(c->args[i]));
    }
    print_banner(c, "Setting tags for user \"%s\" to [%.*s] ...", c->args[1], (int)words.len,
                 words.len > 0 ? (const char *)words.ptr : "");
    mqg_dynbuf_fini(&words);
    if (!change_user(c, c->args[1], NULL, &code)) {
        json_decref(tags);
        return code;
    }
    client_call(c, "PUT", client_path("users", c->args[1], NULL),
                json_pack("{s:o,s:b}", "tags", tags, "mqgate_keep_password", 1), NULL, &a);
    return change_end(c, &a);
}

int change_delete_user(struct ctl *c)
{
    struct answer a;
    int code = CTL_OK;
    print_banner(c, "Deleting user \"%s\" ...", c->args[1]);
    if (!change_user(c, c->args[1], NULL, &code))
        return code;
    client_call(c, "DELETE", client_path("users", c->args[1], NULL), NULL, NULL, &a);
    return change_end(c, &a);
}

/* ---- vhosts and permissions ---------------------------------------------------------------------------------------------------- */

int change_add_vhost(struct ctl *c)
{
    struct answer a;
    print_banner(c, "Adding vhost \"%s\" ...", c->args[1]);
    /* On the command line nobody gets permissions by making a vhost. */
    client_call(c, "PUT", client_path("vhosts", c->args[1], NULL), json_pack("{s:b}", "mqgate_grant", 0),
                NULL, &a);
    return change_end(c, &a);
}

int change_delete_vhost(struct ctl *c)
{
    struct answer a;
    print_banner(c, "Deleting vhost \"%s\" ...", c->args[1]);
    client_call(c, "DELETE", client_path("vhosts", c->args[1], NULL), NULL, NULL, &a);
    if (a.status != 404)
        return change_end(c, &a);
    answer_fini(&a);
    fprintf(stderr, "%sVirtual host '%s' does not exist\n", c->rabbit ? "" : "mqgatectl: ", c->args[1]);
    return CTL_DATA;
}

static bool change_vhost_there(const struct ctl *c, int *code)
{
    struct answer a;
    client_call(c, "GET", client_path("vhosts", ctl_vhost(c), NULL), NULL, NULL, &a);
    bool there = client_good(&a);
    if (a.status == 404)
        *code = ctl_error(c, CTL_UNAVAILABLE, "Virtual host %s does not exist", ctl_vhost(c));
    else if (!there)
        *code = client_fault(c, &a);
    answer_fini(&a);
    return there;
}

int change_set_permissions(struct ctl *c)
{
    struct answer a;
    int code = CTL_OK;
    print_banner(c, "Setting permissions for user \"%s\" in vhost \"%s\" ...", c->args[1], ctl_vhost(c));
    if (!change_user(c, c->args[1], NULL, &code) || !change_vhost_there(c, &code))
        return code;
    client_call(c, "PUT", client_path("permissions", ctl_vhost(c), c->args[1], NULL),
                json_pack("{s:s,s:s,s:s}", "configure", c->args[2], "write", c->args[3], "read", c->args[4]),
                NULL, &a);
    return change_end(c, &a);
}

int change_clear_permissions(struct ctl *c)
{
    struct answer a;
    int code = CTL_OK;
    print_banner(c, "Clearing permissions for user \"%s\" in vhost \"%s\" ...", c->args[1], ctl_vhost(c));
    if (!change_user(c, c->args[1], NULL, &code) || !change_vhost_there(c, &code))
        return code;
    client_call(c, "DELETE", client_path("permissions", ctl_vhost(c), c->args[1], NULL), NULL, NULL, &a);
    if (a.status == 404)
        a.status = 204; /* nothing to clear is cleared */
    return change_end(c, &a);
}

int change_set_topic_permissions(struct ctl *c)
{
    struct answer a;
    int code = CTL_OK;
    print_banner(c, "Setting topic permissions on \"%s\" for user \"%s\" in vhost \"%s\" ...", c->args[2],
                 c->args[1], ctl_vhost(c));
    if (!change_user(c, c->args[1], NULL, &code) || !change_vhost_there(c, &code))
        return code;
    client_call(c, "PUT", client_path("topic-permissions", ctl_vhost(c), c->args[1], NULL),
                json_pack("{s:s,s:s,s:s}", "exchange", c->args[2], "write", c->args[3], "read", c->args[4]),
                NULL, &a);
    return change_end(c, &a);
}

int change_clear_topic_permissions(struct ctl *c)
{
    struct answer a;
    int code = CTL_OK;
    print_banner(c, "Clearing topic permissions for user \"%s\" in vhost \"%s\" ...", c->args[1],
                 ctl_vhost(c));
    if (!change_user(c, c->args[1], NULL, &code) || !change_vhost_there(c, &code))
        return code;
    client_call(c, "DELETE", client_path("topic-permissions", ctl_vhost(c), c->args[1], NULL), NULL, NULL,
                &a);
    if (a.status == 404)
        a.status = 204; /* nothing to clear is cleared */
    return change_end(c, &a);
}

/* ---- queues ------------------------------------------------------------------------------------------------------------------------ */

/* KEY=VALUE arguments: a whole number, true or false, else text. */
static json_t *change_arguments(const struct ctl *c, int from)
{
    json_t *out = json_object();
    for (int i = from; i < c->nargs; i++) {
        char *equals = strchr(c->args[i], '='), *end = NULL;
        if (equals == NULL || equals == c->args[i]) {
            json_decref(out);
            return NULL;
        }
        const char *value = equals + 1;
        long long n = strtoll(value, &end, 10);
        json_t *v = *value != '\0' && *end == '\0' ? json_integer(n)
                    : strcmp(value, "true") == 0   ? json_true()
                    : strcmp(value, "false") == 0  ? json_false()
                                                   : json_string(value);
        *equals = '\0';
        json_object_set_new(out, c->args[i], v);
    }
    return out;
}

int change_declare_queue(struct ctl *c)
{
    struct answer a;
    json_t *arguments = change_arguments(c, 2);
    if (arguments == NULL)
        return ctl_error(c, CTL_USAGE, "arguments are KEY=VALUE");
    client_call(c, "PUT", client_path("queues", ctl_vhost(c), c->args[1], NULL),
                json_pack("{s:b,s:b,s:o}", "durable", !(c->flags & CTL_FLAG_TRANSIENT), "auto_delete",
                          (c->flags & CTL_FLAG_AUTO_DELETE) != 0, "arguments", arguments),
                NULL, &a);
    return change_end(c, &a);
}

static char *change_query(char *path, const char *query)
{
    size_t len = strlen(path), more = strlen(query);
    path = mqg_xrealloc(path, len + more + 1);
    memcpy(path + len, query, more + 1);
    return path;
}

int change_delete_queue(struct ctl *c)
{
    struct answer a;
    char *path = client_path("queues", ctl_vhost(c), c->args[1], NULL);
    print_banner(c, "Deleting queue '%s' on vhost '%s' ...", c->args[1], ctl_vhost(c));
    path = change_query(path, "?mqgate=1");
    if (c->flags & CTL_FLAG_IF_EMPTY)
        path = change_query(path, "&if-empty=true");
    if (c->flags & CTL_FLAG_IF_UNUSED)
        path = change_query(path, "&if-unused=true");
    client_call(c, "DELETE", path, NULL, NULL, &a);
    if (a.status != 404)
        return change_end(c, &a);
    answer_fini(&a);
    return ctl_error(c, CTL_USAGE, "Queue not found"); /* rabbitmqctl's code */
}

int change_purge_queue(struct ctl *c)
{
    struct answer a;
    print_banner(c, "Purging queue '%s' in vhost '%s' ...", c->args[1], ctl_vhost(c));
    client_call(c, "DELETE", client_path("queues", ctl_vhost(c), c->args[1], "contents", NULL), NULL, NULL,
                &a);
    if (a.status != 404)
        return change_end(c, &a);
    answer_fini(&a);
    return ctl_error(c, CTL_UNAVAILABLE, c->rabbit ? "not_found" : "there is no such queue");
}

/* ---- connections ---------------------------------------------------------------------------------------------------------------------- */

int change_close_connection(struct ctl *c)
{
    struct answer a;
    print_banner(c, "Closing connection %s, reason: %s...", c->args[1], c->args[2]);
    client_call(c, "DELETE", client_path("connections", c->args[1], NULL), NULL, c->args[2], &a);
    if (a.status != 404)
        return change_end(c, &a);
    answer_fini(&a);
    return ctl_error(c, CTL_UNAVAILABLE, "there is no connection %s", c->args[1]);
}

int change_close_all_connections(struct ctl *c)
{
    struct answer a;
    bool all = c->global || (!c->rabbit && c->vhost == NULL);
    char *path = client_path("connections", NULL);
    if (!all) {
        char *vhost = client_path(ctl_vhost(c), NULL);
        path = change_query(change_query(path, "?vhost="), vhost);
        free(vhost);
    }
    if (all)
        print_banner(c, "Closing all connections, reason: %s...", c->args[1]);
    else
        print_banner(c, "Closing all connections in vhost %s, reason: %s...", ctl_vhost(c), c->args[1]);
    client_call(c, "DELETE", path, NULL, c->args[1], &a);
    if (client_good(&a))
        printf("Closed %" JSON_INTEGER_FORMAT " connections\n",
               json_integer_value(json_object_get(a.json, "closed")));
    return change_end(c, &a);
}

/* ---- others ------------------------------------------------------------------------------------------------------------------------------ */

int change_trace(struct ctl *c)
{
    struct answer a;
    bool on = strcmp(c->args[1], "on") == 0;
    if (!on && strcmp(c->args[1], "off") != 0)
        return ctl_error(c, CTL_USAGE, "trace on|off COMPONENT [CONNECTION]");
    char *path = client_path("mqgate", "trace", c->args[2], NULL);
    if (c->nargs > 3) {
        char *id = client_path(c->args[3], NULL);
        path = change_query(change_query(path, "?connection="), id);
        free(id);
    }
    client_call(c, on ? "PUT" : "DELETE", path, NULL, NULL, &a);
    return change_end(c, &a);
}

int change_refused(struct ctl *c)
{
    return ctl_error(c, CTL_USAGE, "'%s' is not supported by mqgate: %s", c->args[0], c->command->help);
}
