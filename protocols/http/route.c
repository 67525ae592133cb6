/* route.c - from a path and a method to a handler; who may call it.
 *
 * The table is the API: docs/http-api.md follows it row by row. A part ":" matches anything and is handed to the handler,
 * decoded; so a name with a slash in it (%2F) is one part. */
#include "http.h"

#include <mqgate/obs.h>

#include <stdio.h>
#include <stdlib.h>

struct route {
    enum http_method method;
    const char *path;
    enum http_need need;
    void (*handle)(struct http_request *r);
};

static const struct route routes[] = {
    {HTTP_GET, "overview", HTTP_NEED_TAG, overview_get},
    {HTTP_GET, "whoami", HTTP_NEED_TAG, whoami_get},
    {HTTP_GET, "nodes", HTTP_NEED_MONITOR, nodes_get},
    {HTTP_GET, "nodes/:", HTTP_NEED_MONITOR, node_get},
    {HTTP_GET, "stores", HTTP_NEED_MONITOR, stores_get},
    {HTTP_GET, "stores/:", HTTP_NEED_MONITOR, store_get},
    {HTTP_GET, "stores/:/segments", HTTP_NEED_MONITOR, store_segments_get},
    {HTTP_GET, "healthchecks/node", HTTP_NEED_TAG, health_get},
    {HTTP_GET, "healthchecks/node/:", HTTP_NEED_TAG, health_get},
    {HTTP_GET, "health/checks/alarms", HTTP_NEED_TAG, health_get},
    {HTTP_GET, "health/checks/local-alarms", HTTP_NEED_TAG, health_get},
    {HTTP_GET, "health/checks/virtual-hosts", HTTP_NEED_TAG, health_get},
    {HTTP_GET, "aliveness-test/:", HTTP_NEED_TAG, aliveness_get},
    {HTTP_PUT, "mqgate/trace/:", HTTP_NEED_ADMIN, trace_put},
    {HTTP_DELETE, "mqgate/trace/:", HTTP_NEED_ADMIN, trace_delete},

    {HTTP_GET, "vhosts", HTTP_NEED_TAG, vhosts_get},
    {HTTP_GET, "vhosts/:", HTTP_NEED_TAG, vhost_get},
    {HTTP_PUT, "vhosts/:", HTTP_NEED_ADMIN, vhost_put},
    {HTTP_DELETE, "vhosts/:", HTTP_NEED_ADMIN, vhost_delete},
    {HTTP_GET, "vhosts/:/permissions", HTTP_NEED_ADMIN, vhost_permissions_get},

    {HTTP_GET, "users", HTTP_NEED_ADMIN, users_get},
    {HTTP_GET, "users/:", HTTP_NEED_ADMIN, user_get},
    {HTTP_PUT, "users/:", HTTP_NEED_ADMIN, user_put},
    {HTTP_DELETE, "users/:", HTTP_NEED_ADMIN, user_delete},
    {HTTP_GET, "users/:/permissions", HTTP_NEED_ADMIN, user_permissions_get},
    {HTTP_GET, "permissions", HTTP_NEED_ADMIN, permissions_get},
    {HTTP_GET, "permissions/:/:", HTTP_NEED_ADMIN, permission_get},
    {HTTP_PUT, "permissions/:/:", HTTP_NEED_ADMIN, permission_put},
    {HTTP_DELETE, "permissions/:/:", HTTP_NEED_ADMIN, permission_delete},
    {HTTP_GET, "topic-permissions", HTTP_NEED_ADMIN, topic_permissions_get},
    {HTTP_GET, "topic-permissions/:/:", HTTP_NEED_ADMIN, topic_permission_get},
    {HTTP_PUT, "topic-permissions/:/:", HTTP_NEED_ADMIN, topic_permission_put},
    {HTTP_DELETE, "topic-permissions/:/:", HTTP_NEED_ADMIN, topic_permission_delete},

    {HTTP_GET, "exchanges", HTTP_NEED_TAG, exchanges_get},
    {HTTP_GET, "exchanges/:", HTTP_NEED_TAG, exchanges_get},
    {HTTP_GET, "exchanges/:/:", HTTP_NEED_TAG, exchange_get},
    {HTTP_PUT, "exchanges/:/:", HTTP_NEED_TAG, exchange_put},
    {HTTP_DELETE, "exchanges/:/:", HTTP_NEED_TAG, exchange_delete},
    {HTTP_GET, "exchanges/:/:/bindings/source", HTTP_NEED_TAG, exchange_source_get},
    {HTTP_GET, "exchanges/:/:/bindings/destination", HTTP_NEED_TAG, exchange_destination_get},
    {HTTP_POST, "exchanges/:/:/publish", HTTP_NEED_TAG, exchange_publish},

    {HTTP_GET, "queues", HTTP_NEED_TAG, queues_get},
    {HTTP_GET, "queues/:", HTTP_NEED_TAG, queues_get},
    {HTTP_GET, "queues/:/:", HTTP_NEED_TAG, queue_get},
    {HTTP_PUT, "queues/:/:", HTTP_NEED_TAG, queue_put},
    {HTTP_DELETE, "queues/:/:", HTTP_NEED_TAG, queue_delete},
    {HTTP_DELETE, "queues/:/:/contents", HTTP_NEED_TAG, queue_contents_delete},
    {HTTP_GET, "queues/:/:/bindings", HTTP_NEED_TAG, queue_bindings_get},
    {HTTP_POST, "queues/:/:/get", HTTP_NEED_TAG, queue_messages},

    {HTTP_GET, "bindings", HTTP_NEED_TAG, bindings_get},
    {HTTP_GET, "bindings/:", HTTP_NEED_TAG, bindings_get},
    {HTTP_GET, "bindings/:/e/:/:/:", HTTP_NEED_TAG, binding_pair_get},
    {HTTP_POST, "bindings/:/e/:/:/:", HTTP_NEED_TAG, binding_post},
    {HTTP_GET, "bindings/:/e/:/:/:/:", HTTP_NEED_TAG, binding_get},
    {HTTP_DELETE, "bindings/:/e/:/:/:/:", HTTP_NEED_TAG, binding_delete},

    {HTTP_GET, "connections", HTTP_NEED_TAG, connections_get},
    {HTTP_DELETE, "connections", HTTP_NEED_ADMIN, connections_delete},
    {HTTP_GET, "connections/:", HTTP_NEED_TAG, connection_get},
    {HTTP_DELETE, "connections/:", HTTP_NEED_TAG, connection_delete},
    {HTTP_GET, "connections/:/channels", HTTP_NEED_TAG, connection_channels_get},
    {HTTP_GET, "channels", HTTP_NEED_TAG, channels_get},
    {HTTP_GET, "channels/:", HTTP_NEED_TAG, channel_get},
    {HTTP_GET, "consumers", HTTP_NEED_TAG, consumers_get},
    {HTTP_GET, "consumers/:", HTTP_NEED_TAG, consumers_get},
};

/* ---- the path ------------------------------------------------------------------------------------------------------------ */

static int route_hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

size_t http_unescape(char *s)
{
    char *to = s;
    for (const char *from = s; *from != '\0'; from++) {
        if (*from != '%') {
            *to++ = *from;
            continue;
        }
        int high = route_hex(from[1]), low = high < 0 ? -1 : route_hex(from[2]);
        if (low < 0 || (high == 0 && low == 0)) /* no name holds a NUL */
            return SIZE_MAX;
        *to++ = (char)(high << 4 | low);
        from += 2;
    }
    *to = '\0';
    return (size_t)(to - s);
}

/* Splits and decodes the path behind "/api/" in place. */
static bool route_split(struct http_request *r)
{
    char *at = r->url + strlen("/api/");
    while (*at != '\0') {
        char *slash = strchr(at, '/');
        char *next = slash != NULL ? slash + 1 : at + strlen(at);
        if (slash != NULL)
            *slash = '\0';
        size_t len = http_unescape(at);
        if (len == SIZE_MAX || r->nparts == HTTP_PARTS_MAX)
            return false;
        r->parts[r->nparts++] = mqg_slice_of(at, len);
        at = next;
    }
    return true;
}

static bool route_match(struct http_request *r, const char *path)
{
    size_t nargs = 0;
    for (size_t i = 0; i < r->nparts; i++) {
        size_t len = strcspn(path, "/");
        if (len == 0)
            return false;
        if (len == 1 && *path == ':')
            r->arg[nargs++] = r->parts[i];
        else if (!mqg_slice_eq(r->parts[i], mqg_slice_of(path, len)))
            return false;
        path += len + (path[len] == '/');
    }
    return *path == '\0';
}

static const struct route *route_find(struct http_request *r)
{
    unsigned others = 0;
    for (size_t i = 0; i < MQG_COUNTOF(routes); i++) {
        if (!route_match(r, routes[i].path))
            continue;
        if (routes[i].method == r->method)
            return &routes[i];
        others |= routes[i].method;
    }
    if (others == 0) {
        http_reply_not_found(r);
        return NULL;
    }
    snprintf(r->allow, sizeof r->allow, "%s%s%s%s", others & HTTP_GET ? "GET, HEAD, " : "",
             others & HTTP_PUT ? "PUT, " : "", others & HTTP_POST ? "POST, " : "",
             others & HTTP_DELETE ? "DELETE, " : "");
    r->allow[strlen(r->allow) - 2] = '\0';
    http_reply_error(r, 405, "method_not_allowed", "Method Not Allowed");
    return NULL;
}

/* ---- the query ------------------------------------------------------------------------------------------------------------- */

const char *http_query(const struct http_request *r, const char *key)
{
    return MHD_lookup_connection_value(r->mhd, MHD_GET_ARGUMENT_KIND, key);
}

/* The library does not unescape for us (see server.c), so values are decoded where they stand, once, before any is read. */
static enum MHD_Result route_query_value(void *cls, enum MHD_ValueKind kind, const char *key,
                                         const char *value)
{
    bool *good = cls;
    (void)kind;
    (void)key;
    if (value != NULL && strchr(value, '%') != NULL && http_unescape((char *)(uintptr_t)value) == SIZE_MAX)
        *good = false;
    return MHD_YES;
}

static bool route_query(struct http_request *r)
{
    bool good = true;
    MHD_get_connection_values(r->mhd, MHD_GET_ARGUMENT_KIND, route_query_value, &good);
    return good;
}

bool http_query_true(const struct http_request *r, const char *key)
{
    const char *value = http_query(r, key);
    return value != NULL && strcmp(value, "true") == 0;
}

/* ---- the caller ------------------------------------------------------------------------------------------------------------- */

bool http_is_admin(const struct http_request *r)
{
    return (r->tags & MQG_TAG_ADMINISTRATOR) != 0;
}

bool http_is_monitor(const struct http_request *r)
{
    return (r->tags & (MQG_TAG_ADMINISTRATOR | MQG_TAG_MONITORING)) != 0;
}

void http_login(struct http_request *r)
{
    char *password = NULL;
    if (strncmp(r->url, "/api/", 5) != 0)
        return;
    char *user = MHD_basic_auth_get_username_password(r->mhd, &password);
    struct mqg_slice name = mqg_slice_str(user != NULL ? user : "");
    struct mqg_slice secret = mqg_slice_str(password != NULL ? password : "");
    if (mqg_auth_check(name, secret, r->loopback, &r->tags) == MQG_OK && r->tags != 0)
        snprintf(r->user, sizeof r->user, "%s", name.len > 0 ? user : "guest");
    MHD_free(user);
    MHD_free(password);
}

static bool route_may(struct http_request *r, enum http_need need)
{
    if (need == HTTP_NEED_ADMIN && !http_is_admin(r)) {
        http_reply_error(r, 401, "not_authorised", "Not administrator user");
        return false;
    }
    if (need == HTTP_NEED_MONITOR && !http_is_monitor(r)) {
        http_reply_error(r, 401, "not_authorised", "Not monitor user");
        return false;
    }
    return true;
}

/* A page of another site must not use the password that the browser remembers for this one. */
static bool route_same_origin(struct http_request *r)
{
    const char *origin = MHD_lookup_connection_value(r->mhd, MHD_HEADER_KIND, "origin");
    const char *host = MHD_lookup_connection_value(r->mhd, MHD_HEADER_KIND, "host");
    const char *there = origin != NULL ? strstr(origin, "://") : NULL;
    if (origin == NULL || r->method == HTTP_GET ||
        (there != NULL && host != NULL && strcmp(there + 3, host) == 0))
        return true;
    http_reply_error(r, 403, "forbidden", "requests from pages of another origin change nothing");
    return false;
}

/* ---- the whole ---------------------------------------------------------------------------------------------------------------- */

static bool route_body(struct http_request *r)
{
    if (r->method != HTTP_PUT && r->method != HTTP_POST)
        return true;
    if (r->body.len == 0)
        r->json = json_object(); /* curl -X PUT without a body */
    else
        r->json = json_loadb((const char *)r->body.ptr, r->body.len, 0, NULL);
    if (json_is_object(r->json))
        return true;
    http_reply_error(r, 400, "bad_request", "not_json");
    return false;
}

static void route_log(const struct http_request *r, const struct route *route)
{
    struct mqg_slice zero = r->arg[0], one = r->arg[1];
    if (route->method == HTTP_GET)
        return;
    mqg_log(MQG_LOG_INFO, MQG_EVENT_ADMIN, "user=%s method=%s path=%s arg0=%s arg1=%s status=%u",
            mqg_logqs(r->user),
            route->method == HTTP_PUT    ? "PUT"
            : route->method == HTTP_POST ? "POST"
                                         : "DELETE",
            route->path, mqg_logq(zero), mqg_logq(one), r->status);
}

static void route_api(struct http_request *r)
{
    if (r->user[0] == '\0') {
        http_reply_error(r, 401, "not_authorized", "Login failed");
        return;
    }
    if (!route_split(r) || !route_query(r)) {
        http_reply_error(r, 400, "bad_request", "malformed path or query");
        return;
    }
    const struct route *route = route_find(r);
    if (route == NULL || !route_may(r, route->need) || !route_same_origin(r) || !route_body(r))
        return;
    r->reader = mqg_epoch_register();
    route->handle(r);
    mqg_epoch_unregister(&r->reader);
    route_log(r, route);
}

void http_handle(struct http_request *r)
{
    r->status = 500;
    if (r->early)
        starting_reply(r);
    else if (strcmp(r->url, "/api/mqgate/status") == 0 && r->method == HTTP_GET)
        status_get(r);
    else if (strncmp(r->url, "/api/", 5) == 0)
        route_api(r);
    else if (strcmp(r->url, "/metrics") == 0 && r->method == HTTP_GET)
        metrics_get(r);
    else
        http_reply_not_found(r);
}
