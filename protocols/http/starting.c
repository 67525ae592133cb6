/* starting.c - how the node is, for anybody: no login, no names of objects.
 *
 * A start may take a while, and whoever waits for it (an operator, a load balancer, a service manager's probe) wants to know
 * for how long. Accounts are among what is being read, so nobody can be asked who he is: what is told here is the same
 * for all, and says nothing of what is stored but how many bytes it has. */
#include "http.h"

#include <mqgate/host.h>

#include <stdio.h>

static unsigned starting_percent(const struct mqg_node_progress *p)
{
    return p->all_bytes > 0 ? (unsigned)((double)p->done_bytes * 100.0 / (double)p->all_bytes) : 0;
}

/* "reading the store journal, 41% of 2290 MiB, 12 s so far, about 17 s left" */
static void starting_text(const struct mqg_node_progress *p, char *out, size_t room)
{
    struct mqg_dynbuf text;
    mqg_dynbuf_init(&text, 1024);
    if (p->all_bytes > 0 && strcmp(p->phase, "reading") == 0)
        mqg_dynbuf_printf(&text, "reading the store %s, %u%% of %llu MiB", p->store, starting_percent(p),
                          (unsigned long long)(p->all_bytes + (1 << 20) - 1) >> 20);
    else if (strcmp(p->phase, "building") == 0)
        mqg_dynbuf_printf(&text, "building queues, %llu messages so far", (unsigned long long)p->messages);
    else
        mqg_dynbuf_printf(&text, "%s", p->phase[0] != '\0' ? p->phase : "listening");
    mqg_dynbuf_printf(&text, ", %llu s so far", (unsigned long long)p->elapsed_ms / 1000);
    if (p->rest_ms != UINT64_MAX)
        mqg_dynbuf_printf(&text, ", about %llu s left", (unsigned long long)(p->rest_ms + 999) / 1000);
    snprintf(out, room, "%.*s", (int)text.len, (const char *)text.ptr);
    mqg_dynbuf_fini(&text);
}

static json_t *starting_progress(const struct mqg_node_progress *p)
{
    json_t *out = json_object();
    js_set_str(out, "phase", p->phase);
    if (p->store[0] != '\0')
        js_set_str(out, "store", p->store);
    if (p->all_bytes > 0) {
        js_set_int(out, "percent", starting_percent(p));
        js_set_int(out, "done_bytes", p->done_bytes);
        js_set_int(out, "all_bytes", p->all_bytes);
    }
    js_set_int(out, "messages", p->messages);
    js_set_int(out, "elapsed_ms", p->elapsed_ms);
    if (p->rest_ms != UINT64_MAX)
        js_set_int(out, "rest_ms", p->rest_ms);
    return out;
}

void starting_reply(struct http_request *r)
{
    struct mqg_node_progress p;
    char text[256];
    mqg_node_progress(&p);
    starting_text(&p, text, sizeof text);
    http_reply_error(r, 503, "starting", "the node is starting: %s", text);
    js_set_str(r->reply, "status", "failed");
    js_set_str(r->reply, "state", mqg_node_state());
    js_set(r->reply, "progress", starting_progress(&p));
}

void status_get(struct http_request *r)
{
    const char *state = mqg_node_state();
    bool good = strcmp(state, "running") == 0 && mqg_stores_failure() == NULL;
    json_t *out = json_object();
    js_set_str(out, "status", good ? "ok" : "failed");
    js_set_str(out, "state", state);
    http_reply(r, good ? 200 : 503, out);
}
