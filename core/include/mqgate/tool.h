/* mqgate/tool.h - what a storage adapter offers to the command line on a stopped store: to look, never to write.
 *
 * `mqgatectl store check|dump|stats PATH` works on the folder itself, with the adapter's own decoders linked in. What
 * definitions mean is the router's: it is asked by `names`, so that a queue has its name and not only its number. */
#ifndef MQGATE_TOOL_H
#define MQGATE_TOOL_H

#include <mqgate/base.h>

enum mqg_tool_verb { MQG_TOOL_CHECK, MQG_TOOL_DUMP, MQG_TOOL_STATS };

/* Exit codes. */
enum mqg_tool_exit {
    MQG_TOOL_GOOD = 0,    /* a start would find everything that was confirmed */
    MQG_TOOL_DAMAGED = 1, /* something is damaged; what can be saved was said */
    MQG_TOOL_REFUSED = 2, /* not looked at: no store, in use, a newer format, not readable */
};

struct mqg_tool_names {
    void (*meta)(void *arg, struct mqg_slice key,
                 struct mqg_slice value); /* each definition, before any name is asked */
    /* "vhost/name" of a queue; NULL when no definition speaks of it. Valid until the next call. */
    const char *(*queue)(void *arg, uint64_t id);
    void *arg;
};

struct mqg_tool {
    enum mqg_tool_verb verb;
    const char *path;
    bool json;         /* JSON lines instead of logfmt */
    bool bodies;       /* dump: with bodies (their first KiB) */
    const char *queue; /* dump: only what speaks of this queue, by name or number; NULL: all */
    const char *type;  /* dump: only records of this type; NULL: all */
    uint64_t limit;    /* dump: at most so many records */
    struct mqg_tool_names names;
};

/* Results go to stdout, what is wrong to stderr. enum mqg_tool_exit. The folder is not changed in any way. */
int mqg_journal_tool(const struct mqg_tool *tool) __attribute__((weak)); /* weak: a build may be without it */

#endif
