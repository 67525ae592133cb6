/* store.c - mqgatectl store check|dump|stats PATH: a look at the folder of a stopped or copied store.
 *
 * The adapter's own decoders do the work (mqgate/tool.h); here are the options, and the names: which queue has which
 * number is in the router's definitions. */
#include "ctl.h"

#include "routing/meta_codec.h"

#include <mqgate/map.h>
#include <mqgate/tool.h>

#include <stdio.h>
#include <stdlib.h>

enum { STORE_LIMIT = 1000 };

/* Queues by number: few enough to look through (a tool has the time). */
struct store_name {
    uint64_t id;
    char *name;
};
struct store_names {
    struct store_name *at;
    size_t n, cap;
    bool sorted;
};

static int store_order(const void *a, const void *b)
{
    const struct store_name *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

static void store_meta(void *arg, struct mqg_slice key, struct mqg_slice value)
{
    struct store_names *names = arg;
    struct meta_record r;
    struct mqg_arena a;
    if (meta_kind_of(key) != META_QUEUE)
        return;
    mqg_arena_init(&a, 4096);
    if (meta_decode(META_QUEUE, value, &a, &r) == MQG_OK) {
        if (names->n == names->cap) {
            names->cap = names->cap ? names->cap * 2 : 64;
            names->at = mqg_xrealloc(names->at, names->cap * sizeof *names->at);
        }
        struct store_name *row = &names->at[names->n++];
        *row = (struct store_name){.id = r.number};
        if (asprintf(&row->name, "%.*s/%.*s", (int)r.vhost.len, (const char *)r.vhost.ptr,
                     (int)r.queue.name.len, (const char *)r.queue.name.ptr) < 0)
            row->name = NULL;
        names->sorted = false;
    }
    mqg_arena_fini(&a);
}

static const char *store_queue(void *arg, uint64_t id)
{
    struct store_names *names = arg;
    struct store_name want = {.id = id};
    if (names->n == 0)
        return NULL;
    if (!names->sorted)
        qsort(names->at, names->n, sizeof *names->at, store_order);
    names->sorted = true;
    const struct store_name *found = bsearch(&want, names->at, names->n, sizeof want, store_order);
    return found ? found->name : NULL;
}

static bool store_verb(const char *word, enum mqg_tool_verb *out)
{
    static const char *const words[] = {
        [MQG_TOOL_CHECK] = "check", [MQG_TOOL_DUMP] = "dump", [MQG_TOOL_STATS] = "stats"};
    for (size_t i = 0; i < MQG_COUNTOF(words); i++) {
        *out = (enum mqg_tool_verb)i;
        if (strcmp(words[i], word) == 0)
            return true;
    }
    return false;
}

int store_look(struct ctl *c)
{
    struct store_names names = {NULL, 0, 0, false};
    struct mqg_tool tool = {.path = c->args[2],
                            .json = c->json,
                            .bodies = (c->flags & CTL_FLAG_BODIES) != 0,
                            .queue = c->queue,
                            .type = c->type,
                            .limit = c->limit ? c->limit : STORE_LIMIT,
                            .names = {store_meta, store_queue, &names}};
    if (!store_verb(c->args[1], &tool.verb))
        return ctl_error(c, CTL_USAGE, "store: check, dump or stats, not '%s'", c->args[1]);
    if (!mqg_journal_tool)
        return ctl_error(c, CTL_SOFTWARE, "store: this program was built without a journal");
    int code = mqg_journal_tool(&tool);
    for (size_t i = 0; i < names.n; i++)
        free(names.at[i].name);
    free(names.at);
    return code;
}
