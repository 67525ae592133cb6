/* options.c - options, which may stand before and behind the command, as scripts write them.
 *
 * rabbitmqctl's own options are understood in its voice; those that choose a node mean nothing here and are taken. */
#include "ctl.h"

#include <stdio.h>
#include <stdlib.h>

enum option_kind { OPTION_FLAG, OPTION_VALUE };
enum { OPTION_HELP = 1u << 16, OPTION_VERSION = 1u << 17 };

struct option_row {
    const char *name, *alias;
    enum option_kind kind;
    enum ctl_voice voice;
    void (*take)(struct ctl *c, const char *value);
};

static void take_url(struct ctl *c, const char *v)
{
    c->url = v;
}
static void take_user(struct ctl *c, const char *v)
{
    c->user = v;
}
static void take_password(struct ctl *c, const char *v)
{
    c->password = v;
}
static void take_ca(struct ctl *c, const char *v)
{
    c->ca = v;
}
static void take_vhost(struct ctl *c, const char *v)
{
    c->vhost = v;
}
static void take_quiet(struct ctl *c, const char *v)
{
    (void)v;
    c->quiet = true;
}
static void take_silent(struct ctl *c, const char *v)
{
    (void)v;
    c->quiet = c->headless = true;
}
static void take_headless(struct ctl *c, const char *v)
{
    (void)v;
    c->headless = true;
}
static void take_json(struct ctl *c, const char *v)
{
    (void)v;
    c->json = true;
}
/* rabbitmqctl has more formats; who asks for one of them gets text. */
static void take_format(struct ctl *c, const char *v)
{
    c->json = strcmp(v, "json") == 0;
    if (!c->json && !c->rabbit && strcmp(v, "text") != 0)
        c->fault = "--format is text or json";
}
/* A whole number and nothing else. */
static bool option_number(const char *v, uint64_t *out)
{
    char *end = NULL;
    *out = strtoull(v, &end, 10);
    return *v >= '0' && *v <= '9' && *end == '\0';
}
/* rabbitmqctl is given "infinity", and fractions, too. */
static void take_timeout(struct ctl *c, const char *v)
{
    uint64_t s = 0;
    bool good = option_number(v, &s) && s > 0 && s < 86400;
    c->timeout_s = good ? (unsigned)s : c->timeout_s;
    if (!good && !c->rabbit)
        c->fault = "--timeout is a number of seconds, 1 to 86399";
}
static void take_global(struct ctl *c, const char *v)
{
    (void)v;
    c->global = true;
}
static void take_if_empty(struct ctl *c, const char *v)
{
    (void)v;
    c->flags |= CTL_FLAG_IF_EMPTY;
}
static void take_if_unused(struct ctl *c, const char *v)
{
    (void)v;
    c->flags |= CTL_FLAG_IF_UNUSED;
}
static void take_transient(struct ctl *c, const char *v)
{
    (void)v;
    c->flags |= CTL_FLAG_TRANSIENT;
}
static void take_auto_delete(struct ctl *c, const char *v)
{
    (void)v;
    c->flags |= CTL_FLAG_AUTO_DELETE;
}
static void take_bodies(struct ctl *c, const char *v)
{
    (void)v;
    c->flags |= CTL_FLAG_BODIES;
}
static void take_queue(struct ctl *c, const char *v)
{
    c->queue = v;
}
static void take_type(struct ctl *c, const char *v)
{
    c->type = v;
}
static void take_limit(struct ctl *c, const char *v)
{
    if (!option_number(v, &c->limit) || c->limit == 0)
        c->fault = "--limit is a number, at least 1";
}
static void take_help(struct ctl *c, const char *v)
{
    (void)v;
    c->flags |= OPTION_HELP;
}
static void take_version(struct ctl *c, const char *v)
{
    (void)v;
    c->flags |= OPTION_VERSION;
}
static void take_nothing(struct ctl *c, const char *v)
{
    (void)c;
    (void)v;
}

static const struct option_row option_rows[] = {
    {"--url", NULL, OPTION_VALUE, CTL_BOTH, take_url},
    {"--user", NULL, OPTION_VALUE, CTL_BOTH, take_user},
    {"--password", NULL, OPTION_VALUE, CTL_BOTH, take_password},
    {"--ca", NULL, OPTION_VALUE, CTL_BOTH, take_ca},
    {"--vhost", "-p", OPTION_VALUE, CTL_BOTH, take_vhost},
    {"--timeout", "-t", OPTION_VALUE, CTL_BOTH, take_timeout},
    {"--quiet", "-q", OPTION_FLAG, CTL_BOTH, take_quiet},
    {"--silent", "-s", OPTION_FLAG, CTL_BOTH, take_silent},
    {"--no-table-headers", NULL, OPTION_FLAG, CTL_BOTH, take_headless},
    {"--json", NULL, OPTION_FLAG, CTL_BOTH, take_json},
    {"--formatter", NULL, OPTION_VALUE, CTL_BOTH, take_format},
    {"--format", NULL, OPTION_VALUE, CTL_NATIVE, take_format},
    {"--global", NULL, OPTION_FLAG, CTL_BOTH, take_global},
    {"--if-empty", "-e", OPTION_FLAG, CTL_BOTH, take_if_empty},
    {"--if-unused", "-u", OPTION_FLAG, CTL_BOTH, take_if_unused},
    {"--transient", NULL, OPTION_FLAG, CTL_NATIVE, take_transient},
    {"--auto-delete", NULL, OPTION_FLAG, CTL_NATIVE, take_auto_delete},
    {"--bodies", NULL, OPTION_FLAG, CTL_NATIVE, take_bodies},
    {"--queue", NULL, OPTION_VALUE, CTL_NATIVE, take_queue},
    {"--type", NULL, OPTION_VALUE, CTL_NATIVE, take_type},
    {"--limit", NULL, OPTION_VALUE, CTL_NATIVE, take_limit},
    {"--help", "-h", OPTION_FLAG, CTL_BOTH, take_help},
    {"--version", NULL, OPTION_FLAG, CTL_BOTH, take_version},
    {"--node", "-n", OPTION_VALUE, CTL_RABBIT, take_nothing},
    {"--longnames", "-l", OPTION_FLAG, CTL_RABBIT, take_nothing},
    {"--dry-run", NULL, OPTION_FLAG, CTL_RABBIT, take_nothing},
    {"--erlang-cookie", NULL, OPTION_VALUE, CTL_RABBIT, take_nothing},
    {"--online", NULL, OPTION_FLAG, CTL_RABBIT, take_nothing},
    {"--offline", NULL, OPTION_FLAG, CTL_RABBIT, take_nothing},
    {"--local", NULL, OPTION_FLAG, CTL_RABBIT, take_nothing},
    {"--limit", NULL, OPTION_VALUE, CTL_RABBIT, take_nothing},
    {"--per-connection-delay", NULL, OPTION_VALUE, CTL_RABBIT, take_nothing},
};

/* The row of an option, "--name=value" included; NULL when it is none of ours in this voice. */
static const struct option_row *option_find(const struct ctl *c, const char *word, const char **value)
{
    size_t len = strcspn(word, "=");
    *value = NULL;
    for (size_t i = 0; i < MQG_COUNTOF(option_rows); i++) {
        const struct option_row *o = &option_rows[i];
        if (!(o->voice & (c->rabbit ? CTL_RABBIT : CTL_NATIVE)))
            continue;
        if (o->alias != NULL && strcmp(word, o->alias) == 0)
            return o;
        if (strlen(o->name) == len && strncmp(o->name, word, len) == 0) {
            if (word[len] == '=')
                *value = word + len + 1;
            return o;
        }
    }
    return NULL;
}

/* Scripts put a pattern or a name that begins with '-' behind "--"; a lone "-" is an argument. */
static bool option_like(const char *word)
{
    return word[0] == '-' && word[1] != '\0';
}

static const char *option_environment(const char *name, const char *fallback)
{
    const char *value = getenv(name);
    return value != NULL && *value != '\0' ? value : fallback;
}

static void options_default(struct ctl *c)
{
    c->url = option_environment("MQGATE_URL", "http://127.0.0.1:15672");
    c->user = option_environment("MQGATE_USER", "guest");
    c->password = option_environment("MQGATE_PASSWORD", "guest");
    c->ca = option_environment("MQGATE_CA", NULL);
    c->timeout_s = 60;
}

int options_parse(struct ctl *c, int argc, char **argv)
{
    options_default(c);
    c->args = mqg_xcalloc((size_t)argc + 1, sizeof *c->args);
    bool open = true;
    for (int i = 1; i < argc; i++) {
        const char *value;
        if (open && strcmp(argv[i], "--") == 0) {
            open = false;
            continue;
        }
        if (open && c->nargs == 0 && !c->rabbit && strcmp(argv[i], "rabbitmqctl") == 0) {
            c->rabbit = true;
            continue;
        }
        const struct option_row *o = open && option_like(argv[i]) ? option_find(c, argv[i], &value) : NULL;
        if (o == NULL && open && option_like(argv[i]))
            return ctl_error(c, CTL_USAGE, "Invalid options for this command: %s", argv[i]);
        if (o == NULL) {
            c->args[c->nargs++] = argv[i];
            continue;
        }
        if (o->kind == OPTION_VALUE && value == NULL && ++i == argc)
            return ctl_error(c, CTL_USAGE, "%s needs a value", o->name);
        o->take(c, o->kind == OPTION_VALUE && value == NULL ? argv[i] : value);
        if (c->fault != NULL)
            return ctl_error(c, CTL_USAGE, "%s", c->fault);
    }
    return -1;
}

bool options_help(const struct ctl *c)
{
    return (c->flags & OPTION_HELP) != 0;
}

bool options_version(const struct ctl *c)
{
    return (c->flags & OPTION_VERSION) != 0;
}
