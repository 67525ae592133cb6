/* list.c - listings.
 *
 * rabbitmqctl lists one vhost, "/" unless -p says another; mqgatectl's own voice lists all unless -p says one. */
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

static const struct column *list_known(const struct column *known, const char *word, size_t len)
{
    for (; known->word != NULL; known++)
        if (strlen(known->word) == len && strncmp(known->word, word, len) == 0)
            return known;
    return NULL;
}

static void list_unknown(const struct ctl *c, const struct column *known, struct mqg_slice word)
{
    if (c->rabbit) {
        fprintf(stderr, "Error (argument validation): Info key(s) %.*s are not supported\n",
                MQG_SLICE_FMT(word));
        return;
    }
    fprintf(stderr, "mqgatectl: there is no column '%.*s'; there are", MQG_SLICE_FMT(word));
    for (; known->word != NULL; known++)
        fprintf(stderr, " %s", known->word);
    fputc('\n', stderr);
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
                list_unknown(c, l->known, mqg_slice_of(at, len));
                return 0;
            }
            if (len > 0)
                out[n++] = *col;
            at += len + (at[len] != '\0');
        }
    }
    return n;
}

/* What a listing's path named is not there. */
static int list_missing(const struct ctl *c)
{
    const char *store = c->store, *vhost = c->vhost;
    if (store != NULL)
        return ctl_error(c, CTL_UNAVAILABLE, "there is no store '%s'; see list_stores", store);
    if (c->command->run == list_user_permissions)
        return ctl_error(c, CTL_NO_USER, "User \"%s\" does not exist", c->args[1]);
    return ctl_error(c, CTL_UNAVAILABLE, "there is no vhost '%s'; see list_vhosts",
                     vhost != NULL ? vhost : "/");
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
    else if (a.status == 404)
        code = list_missing(c);
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
    static const struct list l = {"queues", true, columns_queue, "name messages",
                                  "vhost name type messages_ready messages_unacknowledged consumers"};
    return list_of(c, &l, "Timeout: 60.0 seconds ...\nListing queues for");
}

int list_exchanges(struct ctl *c)
{
    static const struct list l = {"exchanges", true, columns_exchange, "name type", "vhost name type"};
    return list_of(c, &l, "Listing exchanges for");
}

int list_bindings(struct ctl *c)
{
    static const struct list l = {
        "bindings", true, columns_binding,
        "source_name source_kind destination_name destination_kind routing_key arguments",
        "vhost source_name destination_name destination_kind routing_key arguments"};
    return list_of(c, &l, "Listing bindings for");
}

int list_consumers(struct ctl *c)
{
    static const struct list l = {
        "consumers", true, columns_consumer,
        "queue_name channel_pid consumer_tag ack_required prefetch_count active arguments",
        "vhost queue_name consumer_tag channel_pid ack_required prefetch_count active"};
    return list_of(c, &l, "Listing consumers in");
}

int list_connections(struct ctl *c)
{
    static const struct list l = {"connections", false, columns_connection, "user peer_host peer_port state",
                                  "id user vhost peer_host peer_port protocol state channels"};
    print_banner(c, "Listing connections ...");
    return list_of(c, &l, "");
}

int list_channels(struct ctl *c)
{
    static const struct list l = {"channels", false, columns_channel,
                                  "pid user consumer_count messages_unacknowledged",
                                  "name user vhost consumer_count messages_unacknowledged"};
    print_banner(c, "Listing channels ...");
    return list_of(c, &l, "");
}

int list_users(struct ctl *c)
{
    static const struct list l = {"users", false, columns_user, "user tags", "user tags"};
    print_banner(c, "Listing users ...");
    return list_of(c, &l, "");
}

int list_vhosts(struct ctl *c)
{
    static const struct list l = {"vhosts", false, columns_vhost, "name", "name messages"};
    print_banner(c, "Listing vhosts ...");
    return list_of(c, &l, "");
}

int list_stores(struct ctl *c)
{
    static const struct list l = {"stores", false, columns_store, "",
                                  "name type state disk_bytes live_bytes segments moved_bytes"};
    return list_of(c, &l, "");
}

/* The name of the default store, as the caller's; NULL: printed, and *code set. */
static char *list_default_store(const struct ctl *c, int *code)
{
    struct answer a;
    char *name = NULL;
    size_t i;
    json_t *store;
    client_call(c, "GET", client_path("stores", NULL), NULL, NULL, &a);
    *code = client_good(&a) ? CTL_OK : client_fault(c, &a);
    json_array_foreach(a.json, i, store) if (json_is_true(json_object_get(store, "default")) &&
                                             json_is_string(json_object_get(store, "name")))
        name = mqg_xstrdup(json_string_value(json_object_get(store, "name")));
    answer_fini(&a);
    return name;
}

int list_segments(struct ctl *c)
{
    static const struct list l = {
        "stores", false, columns_segment, "",
        "kind sequence state disk_bytes used_bytes live_bytes live_messages queues"};
    int code = CTL_OK;
    char *store = c->nargs > 1 ? mqg_xstrdup(c->args[1]) : list_default_store(c, &code);
    if (store == NULL)
        return code;
    c->nargs = 1;
    c->store = store;
    code = list_fetch(c, &l, client_path("stores", store, "segments", NULL));
    c->store = NULL;
    free(store);
    return code;
}

/* Who uses the disk: the queues, the largest first. */
int list_disk(struct ctl *c)
{
    static const struct list l = {"queues", true, columns_queue, "",
                                  "vhost name type disk_bytes disk_messages disk_segments messages"};
    struct column probe[LIST_COLUMNS_MAX];
    if (list_choose(c, &l, probe) == 0)
        return CTL_USAGE;
    char *path = c->vhost != NULL ? client_path("queues", c->vhost, NULL) : client_path("queues", NULL),
         *sorted;
    int n = asprintf(&sorted, "%s?sort=disk_bytes&sort_reverse=true", path);
    MQG_ASSERT(n > 0);
    free(path);
    return list_fetch(c, &l, sorted);
}

int list_permissions(struct ctl *c)
{
    static const struct list l = {"permissions", false, columns_permission, "user configure write read",
                                  "user vhost configure write read"};
    if (!c->rabbit && c->vhost == NULL)
        return list_of(c, &l, "");
    print_banner(c, "Listing permissions for vhost \"%s\" ...", ctl_vhost(c));
    return list_fetch(c, &l, client_path("vhosts", ctl_vhost(c), "permissions", NULL));
}

int list_user_permissions(struct ctl *c)
{
    static const struct list l = {"permissions", false, columns_permission, "vhost configure write read",
                                  "vhost configure write read"};
    const char *user = c->args[1];
    print_banner(c, "Listing permissions for user \"%s\" ...", user);
    c->nargs = 1;
    return list_fetch(c, &l, client_path("users", user, "permissions", NULL));
}
