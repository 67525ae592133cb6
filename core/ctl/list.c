/* list.c - listings.
 *
 * The words of columns are rabbitmqctl's; each names the place of its value in the API's JSON, its own name when nothing else
 * is said. rabbitmqctl lists one vhost, "/" unless -p says another; mqgatectl's own voice lists all unless -p says one. */
#include "ctl.h"

#include <stdio.h>
#include <stdlib.h>

enum { LIST_COLUMNS_MAX = 64 };

struct list {
    const char *api; /* "queues" */
    bool per_vhost;
    const struct column *known;  /* ended by word NULL */
    const char *rabbit, *native; /* default columns, separated by spaces */
};

static const struct column queue_columns[] = {
    {.word = "name"},
    {.word = "vhost"},
    {.word = "durable"},
    {.word = "auto_delete"},
    {.word = "arguments"},
    {.word = "policy"},
    {.word = "pid"},
    {.word = "owner_pid"},
    {.word = "exclusive"},
    {.word = "exclusive_consumer_pid"},
    {.word = "exclusive_consumer_tag"},
    {.word = "messages_ready"},
    {.word = "messages_unacknowledged"},
    {.word = "messages"},
    {.word = "messages_ready_ram"},
    {.word = "messages_unacknowledged_ram"},
    {.word = "messages_ram"},
    {.word = "messages_persistent"},
    {.word = "message_bytes"},
    {.word = "message_bytes_ready"},
    {.word = "message_bytes_unacknowledged"},
    {.word = "message_bytes_ram"},
    {.word = "message_bytes_persistent"},
    {.word = "head_message_timestamp"},
    {.word = "disk_reads"},
    {.word = "disk_writes"},
    {.word = "consumers"},
    {.word = "consumer_utilisation"},
    {.word = "consumer_capacity"},
    {.word = "memory"},
    {.word = "slave_pids"},
    {.word = "synchronised_slave_pids"},
    {.word = "state"},
    {.word = "type"},
    {.word = "node"},
    {.word = "leader", .path = "node"},
    {.word = "members"},
    {.word = "online"},
    {.word = "disk_bytes"},
    {.word = "disk_messages"},
    {.word = "disk_segments"},
    {.word = "operator_policy"},
    {.word = "effective_policy_definition"},
    {.word = "single_active_consumer_tag"},
    {.word = "id"},
    {.word = NULL},
};
static const struct column exchange_columns[] = {
    {.word = "name"},      {.word = "vhost"},       {.word = "type"},
    {.word = "durable"},   {.word = "auto_delete"}, {.word = "internal"},
    {.word = "arguments"}, {.word = "policy"},      {.word = NULL},
};
static const struct column binding_columns[] = {
    {.word = "source_name", .path = "source"},
    {.word = "source_kind", .constant = "exchange"},
    {.word = "destination_name", .path = "destination"},
    {.word = "destination_kind", .path = "destination_type"},
    {.word = "routing_key"},
    {.word = "arguments"},
    {.word = "vhost"},
    {.word = NULL},
};
static const struct column connection_columns[] = {
    {.word = "pid"},
    {.word = "id"},
    {.word = "name"},
    {.word = "port"},
    {.word = "host"},
    {.word = "peer_port"},
    {.word = "peer_host"},
    {.word = "ssl"},
    {.word = "ssl_protocol"},
    {.word = "ssl_key_exchange"},
    {.word = "ssl_cipher"},
    {.word = "ssl_hash"},
    {.word = "peer_cert_subject"},
    {.word = "peer_cert_issuer"},
    {.word = "peer_cert_validity"},
    {.word = "state"},
    {.word = "channels"},
    {.word = "protocol"},
    {.word = "auth_mechanism"},
    {.word = "user"},
    {.word = "vhost"},
    {.word = "timeout"},
    {.word = "frame_max"},
    {.word = "channel_max"},
    {.word = "client_properties"},
    {.word = "user_provided_name"},
    {.word = "connected_at"},
    {.word = "recv_oct"},
    {.word = "recv_cnt"},
    {.word = "send_oct"},
    {.word = "send_cnt"},
    {.word = "send_pend"},
    {.word = "node"},
    {.word = "listener"},
    {.word = NULL},
};
static const struct column channel_columns[] = {
    {.word = "pid"},
    {.word = "connection", .path = "connection_details.name"},
    {.word = "name"},
    {.word = "number"},
    {.word = "user"},
    {.word = "vhost"},
    {.word = "transactional"},
    {.word = "confirm"},
    {.word = "consumer_count"},
    {.word = "messages_unacknowledged"},
    {.word = "messages_uncommitted"},
    {.word = "acks_uncommitted"},
    {.word = "messages_unconfirmed"},
    {.word = "prefetch_count"},
    {.word = "global_prefetch_count"},
    {.word = "state"},
    {.word = "node"},
    {.word = NULL},
};
static const struct column consumer_columns[] = {
    {.word = "queue_name", .path = "queue.name"},
    {.word = "vhost", .path = "queue.vhost"},
    {.word = "channel_pid", .path = "channel_details.pid"},
    {.word = "consumer_tag"},
    {.word = "ack_required"},
    {.word = "prefetch_count"},
    {.word = "active"},
    {.word = "activity_status"},
    {.word = "exclusive"},
    {.word = "priority"},
    {.word = "arguments"},
    {.word = NULL},
};
static const struct column user_columns[] = {
    {.word = "user", .path = "name"}, {.word = "tags"}, {.word = NULL}};
static const struct column vhost_columns[] = {
    {.word = "name"},
    {.word = "tracing"},
    {.word = "description"},
    {.word = "tags"},
    {.word = "default_queue_type"},
    {.word = "messages"},
    {.word = NULL},
};
static const struct column store_columns[] = {
    {.word = "name"},          {.word = "type"},           {.word = "default"},     {.word = "durable"},
    {.word = "state"},         {.word = "blocked"},        {.word = "disk_bytes"},  {.word = "live_bytes"},
    {.word = "segments"},      {.word = "moved_messages"}, {.word = "moved_bytes"}, {.word = "commits"},
    {.word = "written_bytes"}, {.word = "last_sync_us"},   {.word = NULL},
};
static const struct column segment_columns[] = {
    {.word = "kind"},          {.word = "sequence"},   {.word = "state"},
    {.word = "disk_bytes"},    {.word = "used_bytes"}, {.word = "live_bytes"},
    {.word = "live_messages"}, {.word = "queues"},     {.word = NULL},
};
static const struct column permission_columns[] = {
    {.word = "user"},  {.word = "vhost"}, {.word = "configure"},
    {.word = "write"}, {.word = "read"},  {.word = NULL},
};

static const struct column *list_known(const struct column *known, const char *word, size_t len)
{
    for (; known->word != NULL; known++)
        if (strlen(known->word) == len && strncmp(known->word, word, len) == 0)
            return known;
    return NULL;
}

/* How many columns; 0 when a word is not known, and it was printed. Words may be joined by commas. */
static size_t list_choose(const struct ctl *c, const struct list *l, struct column out[LIST_COLUMNS_MAX])
{
    const char *defaults[] = {c->rabbit ? l->rabbit : l->native};
    const char *const *words = c->nargs > 1 ? (const char *const *)c->args + 1 : defaults;
    int nwords = c->nargs > 1 ? c->nargs - 1 : 1;
    size_t n = 0;
    for (int i = 0; i < nwords; i++) {
        for (const char *at = words[i]; *at != '\0';) {
            size_t len = strcspn(at, " ,");
            const struct column *col = list_known(l->known, at, len);
            if (len > 0 && (col == NULL || n == LIST_COLUMNS_MAX)) {
                fprintf(stderr,
                        c->rabbit ? "Error (argument validation): Info key(s) %.*s are not supported\n"
                                  : "mqgatectl: there is no column '%.*s'; see mqgatectl --help\n",
                        (int)len, at);
                return 0;
            }
            if (len > 0)
                out[n++] = *col;
            at += len + (at[len] != '\0');
        }
    }
    return n;
}

static int list_fetch(struct ctl *c, const struct list *l, char *path)
{
    struct column columns[LIST_COLUMNS_MAX];
    struct answer a;
    size_t n = list_choose(c, l, columns);
    if (n == 0) {
        free(path);
        return CTL_USAGE;
    }
    client_call(c, "GET", path, NULL, NULL, &a);
    int code = CTL_OK;
    if (a.status == 404 && c->rabbit)
        code = CTL_OK; /* a vhost that is not there has nothing in it */
    else if (!client_good(&a))
        code = client_fault(c, &a);
    else
        print_table(c, a.json, columns, n);
    answer_fini(&a);
    return code;
}

static int list_of(struct ctl *c, const struct list *l, const char *what)
{
    bool one = l->per_vhost && (c->rabbit || c->vhost != NULL);
    struct column probe[LIST_COLUMNS_MAX];
    if (list_choose(c, l, probe) == 0)
        return CTL_USAGE;
    if (l->per_vhost)
        print_banner(c, "%s vhost %s ...", what, ctl_vhost(c));
    return list_fetch(c, l, one ? client_path(l->api, ctl_vhost(c), NULL) : client_path(l->api, NULL));
}

int list_queues(struct ctl *c)
{
    static const struct list l = {"queues", true, queue_columns, "name messages",
                                  "vhost name type messages_ready messages_unacknowledged consumers"};
    return list_of(c, &l, "Timeout: 60.0 seconds ...\nListing queues for");
}

int list_exchanges(struct ctl *c)
{
    static const struct list l = {"exchanges", true, exchange_columns, "name type", "vhost name type"};
    return list_of(c, &l, "Listing exchanges for");
}

int list_bindings(struct ctl *c)
{
    static const struct list l = {
        "bindings", true, binding_columns,
        "source_name source_kind destination_name destination_kind routing_key arguments",
        "vhost source_name destination_name destination_kind routing_key arguments"};
    return list_of(c, &l, "Listing bindings for");
}

int list_consumers(struct ctl *c)
{
    static const struct list l = {
        "consumers", true, consumer_columns,
        "queue_name channel_pid consumer_tag ack_required prefetch_count active arguments",
        "vhost queue_name consumer_tag channel_pid ack_required prefetch_count active"};
    return list_of(c, &l, "Listing consumers in");
}

int list_connections(struct ctl *c)
{
    static const struct list l = {"connections", false, connection_columns, "user peer_host peer_port state",
                                  "id user vhost peer_host peer_port protocol state channels"};
    print_banner(c, "Listing connections ...");
    return list_of(c, &l, "");
}

int list_channels(struct ctl *c)
{
    static const struct list l = {"channels", false, channel_columns,
                                  "pid user consumer_count messages_unacknowledged",
                                  "name user vhost consumer_count messages_unacknowledged"};
    print_banner(c, "Listing channels ...");
    return list_of(c, &l, "");
}

int list_users(struct ctl *c)
{
    static const struct list l = {"users", false, user_columns, "user tags", "user tags"};
    print_banner(c, "Listing users ...");
    return list_of(c, &l, "");
}

int list_vhosts(struct ctl *c)
{
    static const struct list l = {"vhosts", false, vhost_columns, "name", "name messages"};
    print_banner(c, "Listing vhosts ...");
    return list_of(c, &l, "");
}

int list_stores(struct ctl *c)
{
    static const struct list l = {"stores", false, store_columns, "",
                                  "name type state disk_bytes live_bytes segments moved_bytes"};
    return list_of(c, &l, "");
}

int list_segments(struct ctl *c)
{
    static const struct list l = {
        "stores", false, segment_columns, "",
        "kind sequence state disk_bytes used_bytes live_bytes live_messages queues"};
    c->nargs = 1;
    return list_fetch(c, &l, client_path("stores", c->args[1], "segments", NULL));
}

int list_permissions(struct ctl *c)
{
    static const struct list l = {"permissions", false, permission_columns, "user configure write read",
                                  "user vhost configure write read"};
    if (!c->rabbit && c->vhost == NULL)
        return list_of(c, &l, "");
    print_banner(c, "Listing permissions for vhost \"%s\" ...", ctl_vhost(c));
    return list_fetch(c, &l, client_path("vhosts", ctl_vhost(c), "permissions", NULL));
}

int list_user_permissions(struct ctl *c)
{
    static const struct list l = {"permissions", false, permission_columns, "vhost configure write read",
                                  "vhost configure write read"};
    const char *user = c->args[1];
    print_banner(c, "Listing permissions for user \"%s\" ...", user);
    c->nargs = 1;
    return list_fetch(c, &l, client_path("users", user, "permissions", NULL));
}
