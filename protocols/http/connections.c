/* connections.c - connections: listed, closed.
 *
 * A connection belongs to its worker and is described by it. A worker describes a few at a time, so that a listing of ten
 * thousand connections is many short interruptions: first the ids, then slice by slice those that are still there.
 *
 * A connection's name is RabbitMQ's, "PEER:PORT -> HOST:PORT"; its id is a number that is never used again, also written as a
 * pid, "<NODE.ID.0>", for scripts that copy it from a listing into close_connection. */
#include "http.h"

#include <mqgate/host.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { CONNECTIONS_SLICE = 64 };

/* ---- one connection ---------------------------------------------------------------------------------------------------------- */

static void connection_name(const struct mqg_conn_info *i, char out[192])
{
    snprintf(out, 192, "%s:%u -> %s:%u", i->peer_host, i->peer_port, i->host, i->port);
}

/* What the protocol says of itself; a child "channel" becomes an entry of "channels_list". */
struct describing {
    json_t *conn, *at;
};

static void describe_str(void *arg, const char *key, struct mqg_slice value)
{
    js_set_slice(((struct describing *)arg)->at, key, value);
}

static void describe_num(void *arg, const char *key, int64_t value)
{
    js_set(((struct describing *)arg)->at, key, json_integer(value));
}

static void describe_flag(void *arg, const char *key, bool value)
{
    js_set_bool(((struct describing *)arg)->at, key, value);
}

static void describe_table(void *arg, const char *key, const struct mqg_table *value)
{
    js_set(((struct describing *)arg)->at, key, js_table(value));
}

static void describe_begin(void *arg, const char *kind)
{
    struct describing *d = arg;
    char key[64];
    json_t *child = json_object();
    snprintf(key, sizeof key, "%ss_list", kind);
    if (json_object_get(d->conn, key) == NULL)
        js_set(d->conn, key, json_array());
    json_array_append_new(json_object_get(d->conn, key), child);
    d->at = child;
}

static void describe_end(void *arg)
{
    struct describing *d = arg;
    d->at = d->conn;
}

static void connection_tls(json_t *out, const struct mqg_conn_info *i)
{
    bool tls = (i->flags & MQG_CONN_TLS) != 0;
    js_set_bool(out, "ssl", tls);
    js_set(out, "ssl_protocol", tls ? js_slice(mqg_slice_str(i->tls_protocol)) : json_null());
    js_set(out, "ssl_cipher", tls ? js_slice(mqg_slice_str(i->tls_cipher)) : json_null());
    js_set(out, "peer_cert_subject",
           i->cert_subject[0] ? js_slice(mqg_slice_str(i->cert_subject)) : json_null());
}

static void connection_owner(json_t *out, const struct mqg_session *s)
{
    js_set_str(out, "user", s != NULL ? s->user : "");
    js_set_str(out, "user_who_performed_action", s != NULL ? s->user : "");
    js_set_slice(out, "vhost", s != NULL && s->vhost != NULL ? mqg_vhost_name(s->vhost) : MQG_SLICE_NONE);
}

/* (worker) */
static json_t *connection_json(const struct mqg_conn *c)
{
    const struct mqg_conn_info *i = mqg_conn_info(c);
    char name[192];
    json_t *out = json_object();
    connection_name(i, name);
    js_set_str(out, "name", name);
    js_set_int(out, "id", i->id);
    js_set(out, "pid", json_sprintf("<%s.%" PRIu64 ".0>", mqg_node_name(), i->id));
    js_set_str(out, "node", mqg_node_name());
    js_set_str(out, "type", "network");
    js_set_str(out, "listener", i->listener != NULL ? i->listener : "");
    js_set_str(out, "peer_host", i->peer_host);
    js_set_int(out, "peer_port", i->peer_port);
    js_set_str(out, "host", i->host);
    js_set_int(out, "port", i->port);
    connection_tls(out, i);
    connection_owner(out, mqg_conn_get_session(c));
    js_set_int(out, "connected_at", i->connected_us / 1000);
    js_set_int(out, "recv_oct", mqg_conn_bytes_in(c));
    js_set_int(out, "send_oct", mqg_conn_bytes_out(c));
    js_set_int(out, "send_pend", mqg_conn_out_pending(c));
    js_set_str(out, "state", "running");
    struct describing d = {out, out};
    struct mqg_describe visitor = {.arg = &d,
                                   .str = describe_str,
                                   .num = describe_num,
                                   .flag = describe_flag,
                                   .table = describe_table,
                                   .begin = describe_begin,
                                   .end = describe_end};
    if (mqg_conn_protocol(c)->describe != NULL)
        mqg_conn_protocol(c)->describe(c, &visitor);
    json_t *given = json_object_get(json_object_get(out, "client_properties"), "connection_name");
    if (json_is_string(given))
        json_object_set(out, "user_provided_name", given);
    return out;
}

/* ---- all of a worker ------------------------------------------------------------------------------------------------------------ */

struct connection_ids {
    struct mqg_worker *worker;
    uint64_t *ids;
    size_t n, cap;
    /* a slice being described */
    size_t from, to;
    json_t *array;
};

static bool connection_note_id(struct mqg_conn *c, void *arg)
{
    struct connection_ids *l = arg;
    if (l->n == l->cap) {
        l->cap = l->cap > 0 ? l->cap * 2 : 64;
        l->ids = mqg_xrealloc(l->ids, l->cap * sizeof *l->ids);
    }
    l->ids[l->n++] = mqg_conn_info(c)->id;
    return true;
}

static void connection_note_ids(void *arg)
{
    struct connection_ids *l = arg;
    mqg_conn_each(l->worker, connection_note_id, l);
}

static int connection_id_order(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static bool connection_describe_one(struct mqg_conn *c, void *arg)
{
    struct connection_ids *l = arg;
    uint64_t id = mqg_conn_info(c)->id;
    if (bsearch(&id, l->ids + l->from, l->to - l->from, sizeof id, connection_id_order) != NULL)
        json_array_append_new(l->array, connection_json(c));
    return true;
}

static void connection_describe_slice(void *arg)
{
    struct connection_ids *l = arg;
    mqg_conn_each(l->worker, connection_describe_one, l);
}

static bool connections_of(struct http_request *r, struct mqg_worker *w, json_t *array)
{
    struct connection_ids l = {.worker = w, .array = array};
    bool good = http_on_worker(r, w, connection_note_ids, &l);
    if (l.n > 0)
        qsort(l.ids, l.n, sizeof *l.ids, connection_id_order);
    for (; good && l.from < l.n; l.from = l.to) {
        l.to = l.n - l.from > CONNECTIONS_SLICE ? l.from + CONNECTIONS_SLICE : l.n;
        good = http_on_worker(r, w, connection_describe_slice, &l);
    }
    free(l.ids);
    return good;
}

json_t *connections_json(struct http_request *r)
{
    json_t *array = json_array();
    for (uint32_t i = 0; i < mqg_worker_count(); i++)
        if (!connections_of(r, mqg_worker_at(i), array)) {
            json_decref(array);
            return NULL;
        }
    return array;
}

/* ---- what the caller may see ---------------------------------------------------------------------------------------------------- */

static bool connection_visible(const struct http_request *r, const json_t *conn)
{
    const char *user = json_string_value(json_object_get(conn, "user"));
    return http_is_monitor(r) || (user != NULL && strcmp(user, r->user) == 0);
}

json_t *connections_visible(struct http_request *r)
{
    json_t *all = connections_json(r);
    if (all == NULL)
        return NULL;
    json_t *out = json_array();
    for (size_t i = 0; i < json_array_size(all); i++)
        if (connection_visible(r, json_array_get(all, i)))
            json_array_append(out, json_array_get(all, i));
    json_decref(all);
    return out;
}

void connections_get(struct http_request *r)
{
    json_t *array = connections_visible(r);
    if (array == NULL)
        return;
    for (size_t i = 0; i < json_array_size(array); i++)
        json_object_del(json_array_get(array, i), "channels_list");
    http_reply_list(r, array, "name");
}

json_t *connection_find(struct http_request *r)
{
    json_t *all = connections_visible(r), *found = NULL;
    if (all == NULL)
        return NULL;
    for (size_t i = 0; found == NULL && i < json_array_size(all); i++) {
        json_t *conn = json_array_get(all, i);
        const char *name = json_string_value(json_object_get(conn, "name"));
        const char *pid = json_string_value(json_object_get(conn, "pid"));
        char id[24];
        snprintf(id, sizeof id, "%" JSON_INTEGER_FORMAT, json_integer_value(json_object_get(conn, "id")));
        if (mqg_slice_eq(r->arg[0], mqg_slice_str(name)) || mqg_slice_eq(r->arg[0], mqg_slice_str(pid)) ||
            mqg_slice_eq(r->arg[0], mqg_slice_str(id)))
            found = json_incref(conn);
    }
    json_decref(all);
    if (found == NULL)
        http_reply_not_found(r);
    return found;
}

void connection_get(struct http_request *r)
{
    json_t *conn = connection_find(r);
    if (conn == NULL)
        return;
    json_object_del(conn, "channels_list");
    http_reply_object(r, conn);
}

/* ---- closing ---------------------------------------------------------------------------------------------------------------------------- */

struct connection_closing {
    struct connection_ids list;
    bool (*which)(const struct mqg_conn *c, const void *arg);
    const void *arg;
    struct mqg_slice reason;
    size_t closed;
};

static bool connection_choose(struct mqg_conn *c, void *arg)
{
    struct connection_closing *x = arg;
    if (x->which(c, x->arg))
        connection_note_id(c, &x->list);
    return true;
}

/* Chosen first, closed after: closing may take a connection out of the list that is being walked. */
static void connection_close_chosen(void *arg)
{
    struct connection_closing *x = arg;
    mqg_conn_each(x->list.worker, connection_choose, x);
    for (size_t i = 0; i < x->list.n; i++)
        x->closed += mqg_conn_kill(x->list.worker, x->list.ids[i], x->reason);
}

size_t connections_close(struct http_request *r, bool (*which)(const struct mqg_conn *c, const void *arg),
                         const void *arg, struct mqg_slice reason)
{
    size_t closed = 0;
    for (uint32_t i = 0; i < mqg_worker_count(); i++) {
        struct connection_closing x = {
            .list.worker = mqg_worker_at(i), .which = which, .arg = arg, .reason = reason};
        bool ran = http_on_worker(r, x.list.worker, connection_close_chosen, &x);
        free(x.list.ids);
        closed += x.closed;
        if (!ran)
            break;
    }
    return closed;
}

static struct mqg_slice connection_reason(const struct http_request *r)
{
    const char *reason = MHD_lookup_connection_value(r->mhd, MHD_HEADER_KIND, "x-reason");
    struct mqg_slice s = mqg_slice_str(reason != NULL && *reason != '\0' ? reason
                                                                         : "Closed via management plugin");
    return mqg_slice_of(s.ptr, s.len > 200 ? 200 : s.len);
}

static bool connection_has_id(const struct mqg_conn *c, const void *arg)
{
    return mqg_conn_info(c)->id == *(const uint64_t *)arg;
}

void connection_delete(struct http_request *r)
{
    json_t *conn = connection_find(r);
    if (conn == NULL)
        return;
    uint64_t id = (uint64_t)json_integer_value(json_object_get(conn, "id"));
    json_decref(conn);
    connections_close(r, connection_has_id, &id, connection_reason(r));
    if (r->status != 503)
        http_reply_none(r, 204);
}

static bool connection_in_vhost(const struct mqg_conn *c, const void *arg)
{
    const struct mqg_session *s = mqg_conn_get_session(c);
    const char *vhost = arg;
    return vhost == NULL ||
           (s != NULL && s->vhost != NULL && mqg_slice_eq(mqg_vhost_name(s->vhost), mqg_slice_str(vhost)));
}

/* Ours, for close_all_connections: ?vhost=NAME, or all. */
void connections_delete(struct http_request *r)
{
    size_t closed = connections_close(r, connection_in_vhost, http_query(r, "vhost"), connection_reason(r));
    if (r->status == 503)
        return;
    json_t *out = json_object();
    js_set_int(out, "closed", closed);
    http_reply(r, 200, out);
}
