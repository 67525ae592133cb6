/* channels.c - channels: what connections say of theirs. */
#include "http.h"

#include <mqgate/host.h>

static void channels_add(json_t *array, const json_t *conn)
{
    static const char *const shared[] = {"node", "user", "vhost"};
    const json_t *list = json_object_get(conn, "channels_list");
    const char *name = json_string_value(json_object_get(conn, "name"));
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *ch = json_array_get(list, i), *details = json_object();
        js_set(ch, "name",
               json_sprintf("%s (%" JSON_INTEGER_FORMAT ")", name,
                            json_integer_value(json_object_get(ch, "number"))));
        js_set(ch, "pid",
               json_sprintf("<%s.%" JSON_INTEGER_FORMAT ".%" JSON_INTEGER_FORMAT ">", mqg_node_name(),
                            json_integer_value(json_object_get(conn, "id")),
                            json_integer_value(json_object_get(ch, "number"))));
        for (size_t k = 0; k < MQG_COUNTOF(shared); k++)
            json_object_set(ch, shared[k], json_object_get(conn, shared[k]));
        json_object_set(details, "name", json_object_get(conn, "name"));
        json_object_set(details, "peer_host", json_object_get(conn, "peer_host"));
        json_object_set(details, "peer_port", json_object_get(conn, "peer_port"));
        js_set(ch, "connection_details", details);
        json_array_append(array, ch);
    }
}

void channels_get(struct http_request *r)
{
    json_t *connections = connections_visible(r), *array = json_array();
    for (size_t i = 0; i < json_array_size(connections); i++)
        channels_add(array, json_array_get(connections, i));
    if (connections != NULL)
        http_reply_list(r, array, "name");
    else
        json_decref(array);
    json_decref(connections);
}

void channel_get(struct http_request *r)
{
    json_t *connections = connections_visible(r), *array = json_array(), *found = NULL;
    for (size_t i = 0; i < json_array_size(connections); i++)
        channels_add(array, json_array_get(connections, i));
    for (size_t i = 0; found == NULL && i < json_array_size(array); i++)
        if (mqg_slice_eq(r->arg[0],
                         mqg_slice_str(json_string_value(json_object_get(json_array_get(array, i), "name")))))
            found = json_array_get(array, i);
    if (found != NULL)
        http_reply_object(r, json_incref(found));
    else if (connections != NULL)
        http_reply_not_found(r);
    json_decref(array);
    json_decref(connections);
}

void connection_channels_get(struct http_request *r)
{
    json_t *conn = connection_find(r);
    if (conn == NULL)
        return;
    json_t *array = json_array();
    channels_add(array, conn);
    json_decref(conn);
    http_reply_list(r, array, "name");
}
