/* trace.c - runtime trace, by component and connection.
 *
 * Off, it costs one relaxed load (mqg_trace_any, in the macro). On, a short list under a lock is searched: whoever
 * traces wants to see, not to be fast. "all" as a component and 0 as a connection stand for every one. */
#include <mqgate/obs.h>

#include <pthread.h>
#include <stdio.h>

enum { TRACE_RULES_MAX = 32, TRACE_NAME_BYTES = 24 };

struct trace_rule {
    char component[TRACE_NAME_BYTES];
    uint64_t conn_id;
};

_Atomic int mqg_trace_any;
static pthread_mutex_t trace_lock = PTHREAD_MUTEX_INITIALIZER;
static struct trace_rule trace_rules[TRACE_RULES_MAX];
static int trace_count;

static bool trace_rule_is(const struct trace_rule *r, const char *component, uint64_t conn_id)
{
    return strcmp(r->component, component) == 0 && r->conn_id == conn_id;
}

static bool trace_rule_matches(const struct trace_rule *r, const char *component, uint64_t conn_id)
{
    bool named = strcmp(r->component, "all") == 0 || strcmp(r->component, component) == 0;
    return named && (r->conn_id == 0 || r->conn_id == conn_id);
}

bool mqg_trace_on(const char *component, uint64_t conn_id)
{
    bool on = false;
    pthread_mutex_lock(&trace_lock);
    for (int i = 0; i < trace_count && !on; i++)
        on = trace_rule_matches(&trace_rules[i], component, conn_id);
    pthread_mutex_unlock(&trace_lock);
    return on;
}

static void trace_remove(const char *component, uint64_t conn_id)
{
    for (int i = 0; i < trace_count; i++)
        if (trace_rule_is(&trace_rules[i], component, conn_id))
            trace_rules[i--] = trace_rules[--trace_count];
}

void mqg_trace_set(const char *component, uint64_t conn_id, bool on)
{
    pthread_mutex_lock(&trace_lock);
    trace_remove(component, conn_id);
    if (on && trace_count < TRACE_RULES_MAX) {
        struct trace_rule *r = &trace_rules[trace_count++];
        snprintf(r->component, sizeof r->component, "%s", component);
        r->conn_id = conn_id;
    }
    atomic_store_explicit(&mqg_trace_any, trace_count, memory_order_relaxed);
    pthread_mutex_unlock(&trace_lock);
}
