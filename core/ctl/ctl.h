/* ctl.h - mqgatectl: what its files share.
 *
 * One set of commands, two voices. `mqgatectl list_queues` speaks for itself; `mqgatectl rabbitmqctl list_queues` answers as
 * rabbitmqctl would: its banners, its texts, its exit codes, so that scripts and test suites cannot tell. */
#ifndef MQG_CTL_H
#define MQG_CTL_H

#include <mqgate/base.h>

#include <jansson.h>

/* sysexits, as rabbitmqctl uses them. */
enum ctl_exit {
    CTL_OK = 0,
    CTL_USAGE = 64,
    CTL_DATA = 65,
    CTL_NO_USER = 67,
    CTL_UNAVAILABLE = 69,
    CTL_SOFTWARE = 70,
    CTL_STARTING = 75, /* the node answers, but is not up yet */
    CTL_DENIED = 77,
};

struct ctl_command;

struct ctl {
    const char *url, *user, *password;
    const char *ca;           /* https: a file of certificates that may sign the node's; NULL: the system's */
    bool rabbit;              /* rabbitmqctl's voice */
    bool quiet;               /* no banners */
    bool headless;            /* no line of column names */
    bool json;                /* listings as JSON */
    bool mute;                /* nothing is said of a server that does not answer */
    bool global;              /* close_all_connections --global */
    const char *vhost;        /* NULL: not given */
    unsigned timeout_s;       /* per request */
    unsigned flags;           /* CTL_FLAG_* */
    const char *store;        /* list_segments: which */
    const char *queue, *type; /* store dump: filters; NULL: all */
    uint64_t limit;           /* store dump: 0: not given */
    const char *fault;        /* an option's value that cannot be */
    const struct ctl_command *command;
    char **args;
    int nargs;
};

enum ctl_flag {
    CTL_FLAG_IF_EMPTY = 1,
    CTL_FLAG_IF_UNUSED = 2,
    CTL_FLAG_TRANSIENT = 4,
    CTL_FLAG_AUTO_DELETE = 8,
    CTL_FLAG_BODIES = 16,
};

/* Who offers a command. */
enum ctl_voice { CTL_NATIVE = 1, CTL_RABBIT = 2, CTL_BOTH = 3 };

struct ctl_command {
    const char *name;
    const char *usage; /* its arguments */
    const char *help;
    int min, max; /* number of arguments; max -1: any */
    enum ctl_voice voice;
    int (*run)(struct ctl *c);
};

/* The vhost that was given, or "/". */
const char *ctl_vhost(const struct ctl *c);

/* ---- options.c ------------------------------------------------------------------------------------------------- */

/* Takes options out of argv wherever they stand; what is left is args. "--" ends options. -1, or the exit code of a
 * refusal that was printed. A command's name is args[0] afterwards. */
int options_parse(struct ctl *c, int argc, char **argv);
bool options_help(const struct ctl *c); /* --help or -h was there */
bool options_version(const struct ctl *c);

/* ---- client.c ----------------------------------------------------------------------------------------------------- */

struct answer {
    int status; /* HTTP; 0: nobody answered, and it was printed */
    json_t *json;
    char reason[600]; /* of a refusal: the text of its JSON */
};

/* Joins parts with '/', each percent-encoded; ended by NULL. The caller frees. */
char *client_path(const char *first, ...) __attribute__((sentinel));
/* One request; frees path. body may be NULL, its reference is taken. `why` becomes X-Reason. */
void client_call(const struct ctl *c, const char *method, char *path, json_t *body, const char *why,
                 struct answer *out);
void answer_fini(struct answer *a);
/* Prints what went wrong and gives the exit code, for answers that no command knows better. */
int client_fault(const struct ctl *c, const struct answer *a);
/* true for 2xx. */
bool client_good(const struct answer *a);
/* The node is starting: how far, or NULL. */
const json_t *client_progress(const struct answer *a);

struct client_url {
    bool tls; /* https */
    char host[256], port[8], base[256];
};
bool client_url_parse(const char *url, struct client_url *out);
/* Status and body of a whole HTTP/1.1 response (Content-Length, chunked, or to the end); -1 when malformed. The body is
 * decoded in place. */
int client_response_parse(struct mqg_dynbuf *in, struct mqg_slice *body);

/* ---- link.c ------------------------------------------------------------------------------------------------------------ */

enum { LINK_WHY = 400 };

struct ctl_link;

/* Connects, over TLS for https; NULL, and why not. One at a time: SIGPIPE is ignored until it is closed. */
struct ctl_link *link_open(const struct ctl *c, const struct client_url *url, char why[LINK_WHY]);
void link_close(struct ctl_link **link);
/* Sends the request, appends what comes to response until the node closes. False, and why, when nothing came. */
bool link_exchange(struct ctl_link *l, const struct mqg_dynbuf *request, struct mqg_dynbuf *response,
                   char why[LINK_WHY]);

/* ---- print.c --------------------------------------------------------------------------------------------------------- */

/* A column: its word, and where in the JSON its value is ("" as a path: the constant). */
struct column {
    const char *word, *path, *constant;
};
/* A value as rabbitmqctl prints it: strings bare, tables as [{"k",v}]. Appends. */
void print_value(struct mqg_dynbuf *out, const json_t *value);
json_t *print_at(const json_t *object, const char *path);
/* A listing in the voice of c. */
void print_table(const struct ctl *c, const json_t *rows, const struct column *columns, size_t n);
/* "Listing users ..." in rabbitmqctl's voice, unless quiet. */
void print_banner(const struct ctl *c, const char *fmt, ...) MQG_PRINTF(2, 3);
/* "Error:\ntext" or "mqgatectl: text" on stderr; returns code. */
int ctl_error(const struct ctl *c, int code, const char *fmt, ...) MQG_PRINTF(3, 4);

/* ---- commands: list.c, change.c, status.c, store.c ------------------------------------------------------------------------------ */

#define CTL_COMMANDS(X)               \
    X(status_show)                    \
    X(status_await)                   \
    X(status_ping)                    \
    X(status_version)                 \
    X(list_queues)                    \
    X(list_exchanges)                 \
    X(list_bindings)                  \
    X(list_connections)               \
    X(list_channels)                  \
    X(list_consumers)                 \
    X(list_users)                     \
    X(list_stores)                    \
    X(list_segments)                  \
    X(list_disk)                      \
    X(list_vhosts)                    \
    X(list_permissions)               \
    X(list_user_permissions)          \
    X(change_add_user)                \
    X(change_password)                \
    X(change_clear_password)          \
    X(change_user_tags)               \
    X(change_delete_user)             \
    X(change_add_vhost)               \
    X(change_delete_vhost)            \
    X(change_set_permissions)         \
    X(change_set_topic_permissions)   \
    X(change_clear_topic_permissions) \
    X(change_clear_permissions)       \
    X(change_declare_queue)           \
    X(change_delete_queue)            \
    X(change_purge_queue)             \
    X(change_close_connection)        \
    X(change_close_all_connections)   \
    X(change_trace)                   \
    X(store_look)                     \
    X(change_refused)
/* columns.c: each ended by one without a word. */
extern const struct column columns_queue[], columns_exchange[], columns_binding[], columns_connection[],
    columns_channel[], columns_consumer[], columns_user[], columns_vhost[], columns_store[],
    columns_segment[], columns_permission[];
/* The columns of a listing, ended by one without a word; NULL: the command is none. */
const struct column *list_columns(int (*run)(struct ctl *c));
#define CTL_COMMAND_DECLARE(name) int name(struct ctl *c);
CTL_COMMANDS(CTL_COMMAND_DECLARE)
#undef CTL_COMMAND_DECLARE

#endif
