/* status.c - how the node is. */
#include "ctl.h"

#include <stdio.h>
#include <time.h>

static void status_listeners(const json_t *overview)
{
    const json_t *list = json_object_get(overview, "listeners");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *l = json_array_get(list, i);
        const char *ip = json_string_value(json_object_get(l, "ip_address"));
        const char *protocol = json_string_value(json_object_get(l, "protocol"));
        printf("Interface: %s, port: %" JSON_INTEGER_FORMAT ", protocol: %s\n", ip != NULL ? ip : "?",
               json_integer_value(json_object_get(l, "port")), protocol != NULL ? protocol : "?");
    }
}

static void status_line(const char *label, const json_t *object, const char *path)
{
    struct mqg_dynbuf text;
    mqg_dynbuf_init(&text, 4096);
    print_value(&text, print_at(object, path));
    printf("%s: %.*s\n", label, (int)text.len, text.len > 0 ? (const char *)text.ptr : "");
    mqg_dynbuf_fini(&text);
}

static void status_print(const json_t *overview, const json_t *node, size_t vhosts)
{
    printf("Runtime\n\n");
    status_line("OS PID", node, "os_pid");
    printf("OS: Linux\n");
    printf("Uptime (seconds): %" JSON_INTEGER_FORMAT "\n",
           json_integer_value(json_object_get(node, "uptime")) / 1000);
    status_line("State", overview, "state");
    status_line("RabbitMQ version", overview, "rabbitmq_version");
    status_line("mqgate version", overview, "product_version");
    status_line("Node name", overview, "node");
    status_line("Workers", node, "workers");
    printf("\nAlarms\n\n");
    bool memory = json_is_true(json_object_get(node, "mem_alarm"));
    bool disk = json_is_true(json_object_get(node, "disk_free_alarm"));
    printf("%s%s%s", memory ? "Publishers are blocked\n" : "", disk ? "Free disk space alarm\n" : "",
           memory || disk ? "" : "(none)\n");
    printf("\nMemory\n\n");
    printf("Total memory used: %.4f gb\n",
           (double)json_integer_value(json_object_get(node, "mem_used")) / 1e9);
    printf("\nTotals\n\n");
    status_line("Connection count", overview, "object_totals.connections");
    status_line("Queue count", overview, "object_totals.queues");
    printf("Virtual host count: %zu\n", vhosts);
    status_line("Messages", overview, "queue_totals.messages");
    printf("\nListeners\n\n");
    status_listeners(overview);
}

static long long status_ms(const json_t *progress, const char *key)
{
    return (long long)json_integer_value(json_object_get(progress, key));
}

/* A node that reads its store: its own words, and what a script may want line by line. */
static int status_starting(const struct ctl *c, const struct answer *a)
{
    const json_t *p = client_progress(a);
    if (c->json) {
        json_dumpf(a->json, stdout, JSON_INDENT(1) | JSON_ENSURE_ASCII);
        putchar('\n');
        return CTL_STARTING;
    }
    status_line("State", a->json, "state");
    status_line("Phase", p, "phase");
    if (json_object_get(p, "store") != NULL)
        status_line("Store", p, "store");
    if (json_object_get(p, "percent") != NULL)
        printf("Read: %lld%%, %lld of %lld bytes\n", status_ms(p, "percent"), status_ms(p, "done_bytes"),
               status_ms(p, "all_bytes"));
    printf("Messages in queues so far: %lld\n", status_ms(p, "messages"));
    printf("Elapsed (seconds): %.1f\n", (double)status_ms(p, "elapsed_ms") / 1000);
    if (json_object_get(p, "rest_ms") != NULL)
        printf("Left (seconds, estimated): %.1f\n", (double)status_ms(p, "rest_ms") / 1000);
    return CTL_STARTING;
}

int status_show(struct ctl *c)
{
    struct answer overview = {0}, nodes = {0}, vhosts = {0};
    int code = CTL_OK;
    client_call(c, "GET", client_path("overview", NULL), NULL, NULL, &overview);
    if (client_good(&overview))
        client_call(c, "GET", client_path("nodes", NULL), NULL, NULL, &nodes);
    if (client_good(&nodes))
        client_call(c, "GET", client_path("vhosts", NULL), NULL, NULL, &vhosts);
    if (client_progress(&overview) != NULL) {
        code = status_starting(c, &overview);
    } else if (!client_good(&vhosts)) {
        code = client_fault(c, nodes.status != 0 ? (client_good(&nodes) ? &vhosts : &nodes) : &overview);
    } else if (c->json) {
        json_object_set(overview.json, "node_details", json_array_get(nodes.json, 0));
        json_dumpf(overview.json, stdout, JSON_INDENT(1) | JSON_ENSURE_ASCII);
        putchar('\n');
    } else {
        const char *name = json_string_value(json_object_get(overview.json, "node"));
        print_banner(c, "Status of node %s ...", name != NULL ? name : "?");
        status_print(overview.json, json_array_get(nodes.json, 0), json_array_size(vhosts.json));
    }
    answer_fini(&overview);
    answer_fini(&nodes);
    answer_fini(&vhosts);
    return code;
}

int status_ping(struct ctl *c)
{
    struct answer a;
    client_call(c, "GET", client_path("whoami", NULL), NULL, NULL, &a);
    int code = client_good(&a) ? CTL_OK : client_fault(c, &a);
    if (code == CTL_OK)
        printf("Ping succeeded\n");
    answer_fini(&a);
    return code;
}

/* Until the node is up, or the time is over. Who asks needs no account for that: a refused login is an answer. */
int status_await(struct ctl *c)
{
    struct timespec nap = {.tv_nsec = 100000000};
    uint64_t until_ms = mqg_clock_now().mono_ms + (uint64_t)c->timeout_s * 1000;
    for (;;) {
        struct answer a;
        bool last = mqg_clock_now().mono_ms >= until_ms;
        c->mute = !last;
        client_call(c, "GET", client_path("whoami", NULL), NULL, NULL, &a);
        bool starting = client_progress(&a) != NULL, up = a.status != 0 && !starting;
        int code = up ? CTL_OK : last ? client_fault(c, &a) : CTL_UNAVAILABLE;
        answer_fini(&a);
        if (up || last)
            return code;
        nanosleep(&nap, NULL);
    }
}

int status_version(struct ctl *c)
{
    (void)c;
    printf("%s\n", MQG_VERSION);
    return CTL_OK;
}
