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

int status_show(struct ctl *c)
{
    struct answer overview = {0}, nodes = {0}, vhosts = {0};
    int code = CTL_OK;
    client_call(c, "GET", client_path("overview", NULL), NULL, NULL, &overview);
    if (client_good(&overview))
        client_call(c, "GET", client_path("nodes", NULL), NULL, NULL, &nodes);
    if (client_good(&nodes))
        client_call(c, "GET", client_path("vhosts", NULL), NULL, NULL, &vhosts);
    if (!client_good(&vhosts)) {
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

/* Until the node answers, or the time is over. */
int status_await(struct ctl *c)
{
    struct timespec nap = {.tv_nsec = 100000000};
    uint64_t until_ms = mqg_clock_now().mono_ms + (uint64_t)c->timeout_s * 1000;
    for (;;) {
        struct answer a;
        bool last = mqg_clock_now().mono_ms >= until_ms;
        c->mute = !last;
        client_call(c, "GET", client_path("whoami", NULL), NULL, NULL, &a);
        int status = a.status;
        answer_fini(&a);
        if (status != 0)
            return CTL_OK;
        if (last)
            return CTL_UNAVAILABLE;
        nanosleep(&nap, NULL);
    }
}

int status_version(struct ctl *c)
{
    (void)c;
    printf("%s\n", MQG_VERSION);
    return CTL_OK;
}
