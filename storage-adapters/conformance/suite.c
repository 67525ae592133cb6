/* suite.c - which tests an adapter gets, and how the rest is reported. */
#include "fix.h"

#include <mqgate/obs.h>

#include <string.h>

static const struct {
    uint32_t cap;
    const char *name;
} caps[] = {
    {MQG_STORE_DURABLE, "DURABLE"}, {MQG_STORE_QUEUES, "QUEUES"},
    {MQG_STORE_STREAMS, "STREAMS"}, {MQG_STORE_SEEK, "SEEK"},
    {MQG_STORE_TRIM, "TRIM"},       {MQG_STORE_POSITIONS, "POSITIONS"},
    {MQG_STORE_META, "META"},       {MQG_STORE_ATOMIC_GROUPS, "ATOMIC_GROUPS"},
};

static const struct suite_test *const tables[] = {suite_life,    suite_queues,      suite_durable,
                                                  suite_streams, suite_stream_life, suite_threads};

/* Why the test is not run, or NULL. */
static const char *suite_reason(const struct suite_adapter *a, uint32_t have, const struct suite_test *t)
{
    static char lacks[128];
    uint32_t missing = t->needs & ~have;
    if (missing) {
        size_t len = (size_t)snprintf(lacks, sizeof(lacks), "the adapter declares no");
        for (size_t i = 0; i < MQG_COUNTOF(caps); i++)
            if ((missing & caps[i].cap) && len < sizeof(lacks))
                len += (size_t)snprintf(lacks + len, sizeof(lacks) - len, " %s", caps[i].name);
        return lacks;
    }
    for (const struct suite_without *w = a->without; w && w->test; w++)
        if (strcmp(w->test, t->name) == 0)
            return w->reason;
    return NULL;
}

static uint32_t suite_caps(void)
{
    struct fix *f = fix_new();
    struct mqg_error e = {0};
    if (fix_open(f, &e) != MQG_OK) {
        fprintf(stderr, "open: %s\n", e.text);
        exit(1);
    }
    uint32_t have = f->caps;
    fix_down(f, false);
    fix_free(&f);
    return have;
}

int suite_main(const struct suite_adapter *a, int argc, char **argv)
{
    static struct CMUnitTest chosen[256];
    const char *only = argc > 1 ? argv[1] : "";
    size_t n = 0, not_run = 0;
    fix_adapter = a;
    mqg_log_level_set(MQG_LOG_ERROR);
    uint32_t have = suite_caps();
    for (size_t k = 0; k < MQG_COUNTOF(tables); k++) {
        for (const struct suite_test *t = tables[k]; t->name; t++) {
            if (strncmp(t->name, only, strlen(only)) != 0)
                continue;
            const char *reason = suite_reason(a, have, t);
            if (reason) {
                printf("NOT RUN %s: %s\n", t->name, reason);
                not_run++;
                continue;
            }
            MQG_ASSERT(n < MQG_COUNTOF(chosen));
            chosen[n++] = (struct CMUnitTest){t->name, t->run, t->bare ? NULL : fix_setup,
                                              t->bare ? NULL : fix_teardown, NULL};
        }
    }
    printf("%s: %zu tests, %zu not run\n", a->module->name, n, not_run);
    fflush(stdout);
    if (n == 0)
        return 77;
    return _cmocka_run_group_tests(a->module->name, chosen, n, NULL, NULL) == 0 ? 0 : 1;
}
