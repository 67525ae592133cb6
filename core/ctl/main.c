/* main.c - mqgatectl: the table of commands, help, and the dispatch. */
#include "ctl.h"

#include <stdio.h>
#include <stdlib.h>

static const char refused_policy[] = "policies and parameters are not there yet";
static const char refused_erlang[] = "there is no Erlang here";
static const char refused_cluster[] =
    "a node is started and stopped by its service manager, and is no cluster";

static const struct ctl_command commands[] = {
    {"status", "", "how the node is; while it starts, how far that is (exit 75)", 0, 0, CTL_BOTH,
     status_show},
    {"ping", "", "does the node answer?", 0, 0, CTL_BOTH, status_ping},
    {"await_startup", "", "wait until the node is up, -t seconds at most", 0, 0, CTL_BOTH, status_await},
    {"version", "", "of this program", 0, 0, CTL_BOTH, status_version},
    {"list_queues", "[COLUMN...]", "queues", 0, -1, CTL_BOTH, list_queues},
    {"list_exchanges", "[COLUMN...]", "exchanges", 0, -1, CTL_BOTH, list_exchanges},
    {"list_bindings", "[COLUMN...]", "bindings", 0, -1, CTL_BOTH, list_bindings},
    {"list_connections", "[COLUMN...]", "connections", 0, -1, CTL_BOTH, list_connections},
    {"list_channels", "[COLUMN...]", "channels", 0, -1, CTL_BOTH, list_channels},
    {"list_consumers", "[COLUMN...]", "consumers", 0, -1, CTL_BOTH, list_consumers},
    {"list_stores", "[COLUMN...]", "stores: what they have on the disk, and how much of it is live", 0, -1,
     CTL_NATIVE, list_stores},
    {"list_segments", "[STORE]", "the files of a store (the default one), and what is live in each", 0, 1,
     CTL_NATIVE, list_segments},
    {"list_disk", "[COLUMN...]", "queues by what they keep on the disk, the largest first", 0, -1, CTL_NATIVE,
     list_disk},
    {"list_users", "[COLUMN...]", "users and their tags", 0, -1, CTL_BOTH, list_users},
    {"list_vhosts", "[COLUMN...]", "vhosts", 0, -1, CTL_BOTH, list_vhosts},
    {"list_permissions", "[COLUMN...]", "permissions", 0, -1, CTL_BOTH, list_permissions},
    {"list_user_permissions", "USER", "a user's permissions", 1, 1, CTL_BOTH, list_user_permissions},
    {"add_user", "USER [PASSWORD]", "make a user; the password from standard input when it is not given", 1,
     2, CTL_BOTH, change_add_user},
    {"change_password", "USER [PASSWORD]", "give a user another password", 1, 2, CTL_BOTH, change_password},
    {"clear_password", "USER", "take a user's password away", 1, 1, CTL_BOTH, change_clear_password},
    {"set_user_tags", "USER [TAG...]", "administrator, monitoring, policymaker, management, impersonator", 1,
     -1, CTL_BOTH, change_user_tags},
    {"delete_user", "USER", "remove a user, close its connections", 1, 1, CTL_BOTH, change_delete_user},
    {"add_vhost", "VHOST", "make a vhost", 1, 1, CTL_BOTH, change_add_vhost},
    {"delete_vhost", "VHOST", "remove a vhost with everything in it", 1, 1, CTL_BOTH, change_delete_vhost},
    {"set_permissions", "USER CONFIGURE WRITE READ", "three patterns, in the vhost of -p", 4, 4, CTL_BOTH,
     change_set_permissions},
    {"set_topic_permissions", "USER EXCHANGE WRITE READ", "patterns on routing keys, in the vhost of -p", 4,
     4, CTL_BOTH, change_set_topic_permissions},
    {"clear_topic_permissions", "USER", "take them away", 1, 1, CTL_BOTH, change_clear_topic_permissions},
    {"clear_permissions", "USER", "take them away", 1, 1, CTL_BOTH, change_clear_permissions},
    {"declare_queue", "NAME [KEY=VALUE...]", "--transient, --auto-delete; arguments as x-max-length=10", 1,
     -1, CTL_NATIVE, change_declare_queue},
    {"delete_queue", "NAME", "--if-empty, --if-unused", 1, 1, CTL_BOTH, change_delete_queue},
    {"purge_queue", "NAME", "drop its ready messages", 1, 1, CTL_BOTH, change_purge_queue},
    {"close_connection", "ID REASON", "an id, pid or name of list_connections", 2, 2, CTL_BOTH,
     change_close_connection},
    {"close_all_connections", "REASON", "all, or those of -p", 1, 1, CTL_BOTH, change_close_all_connections},
    {"trace", "on|off COMPONENT [CONNECTION]", "runtime trace into the log: amqp, queue, journal..., all", 2,
     3, CTL_NATIVE, change_trace},
    {"store", "check|dump|stats PATH", "look at the folder of a stopped or copied store", 2, 2, CTL_NATIVE,
     store_look},

    {"eval", "", refused_erlang, 0, -1, CTL_RABBIT, change_refused},
    {"eval_file", "", refused_erlang, 0, -1, CTL_RABBIT, change_refused},
    {"remote_shell", "", refused_erlang, 0, -1, CTL_RABBIT, change_refused},
    {"set_policy", "", refused_policy, 0, -1, CTL_RABBIT, change_refused},
    {"clear_policy", "", refused_policy, 0, -1, CTL_RABBIT, change_refused},
    {"list_policies", "", refused_policy, 0, -1, CTL_RABBIT, change_refused},
    {"set_parameter", "", refused_policy, 0, -1, CTL_RABBIT, change_refused},
    {"clear_parameter", "", refused_policy, 0, -1, CTL_RABBIT, change_refused},
    {"set_vm_memory_high_watermark", "", "set limits.memory in its configuration", 0, -1, CTL_RABBIT,
     change_refused},
    {"stop", "", refused_cluster, 0, -1, CTL_RABBIT, change_refused},
    {"stop_app", "", refused_cluster, 0, -1, CTL_RABBIT, change_refused},
    {"start_app", "", refused_cluster, 0, -1, CTL_RABBIT, change_refused},
    {"reset", "", refused_cluster, 0, -1, CTL_RABBIT, change_refused},
    {"join_cluster", "", refused_cluster, 0, -1, CTL_RABBIT, change_refused},
};

const char *ctl_vhost(const struct ctl *c)
{
    return c->vhost != NULL ? c->vhost : "/";
}

static const struct ctl_command *command_find(const struct ctl *c, const char *name)
{
    for (size_t i = 0; i < MQG_COUNTOF(commands); i++)
        if (strcmp(commands[i].name, name) == 0 &&
            (commands[i].voice & (c->rabbit ? CTL_RABBIT : CTL_NATIVE)))
            return &commands[i];
    return NULL;
}

static void main_help(void)
{
    printf(
        "usage: mqgatectl [options] command [argument]...\n"
        "       mqgatectl [options] rabbitmqctl command [argument]...   in rabbitmqctl's words and format\n\n"
        "options:\n"
        "  --url URL           management API, http or https (MQGATE_URL; http://127.0.0.1:15672)\n"
        "  --user NAME         (MQGATE_USER; guest)\n"
        "  --password TEXT     (MQGATE_PASSWORD; guest)\n"
        "  --ca FILE           https: who may sign the node's certificate (MQGATE_CA; what the system "
        "trusts)\n"
        "  -p, --vhost VHOST   for one vhost; listings without it show all\n"
        "  -t, --timeout S     seconds to wait for an answer (60)\n"
        "  -q, --quiet         no banners\n"
        "  -s, --silent        no banners, no column names\n"
        "  --format FORMAT     text, or json: status and listings as JSON, store as JSON lines; --json is "
        "the same\n"
        "  --queue NAME, --type TYPE, --limit N, --bodies   what store dump shows: of one queue (VHOST/NAME "
        "or its\n"
        "                      number), of one type of record, so many (1000), with bodies\n"
        "  --help, --version\n\n"
        "commands:\n");
    for (size_t i = 0; i < MQG_COUNTOF(commands); i++) {
        char words[80];
        if (!(commands[i].voice & CTL_NATIVE))
            continue;
        snprintf(words, sizeof words, "%s %s", commands[i].name, commands[i].usage);
        printf("  %-42s %s\n", words, commands[i].help);
    }
    printf("\nexit codes: 0 done, 64 usage, 65 refused, 67 no such user, 69 not reachable or not there, 70 "
           "exists already, "
           "75 the node is starting, 77 not allowed; store: 0 good, 1 damaged, 2 not looked at\n"
           "mqgatectl help COMMAND tells of one, and of a listing's columns\n");
}

/* Of one command; false: there is none of that name. */
static bool command_help(const struct ctl *c, const char *name)
{
    const struct ctl_command *command = command_find(c, name);
    if (command == NULL)
        return false;
    const struct column *columns = list_columns(command->run);
    printf("usage: mqgatectl [options] %s%s%s\n\n  %s\n", command->name, *command->usage != '\0' ? " " : "",
           command->usage, command->help);
    if (columns != NULL)
        printf("\ncolumns:\n");
    for (; columns != NULL && columns->word != NULL; columns++)
        printf("  %s\n", columns->word);
    return true;
}

static int main_unknown(const struct ctl *c, const char *name)
{
    fprintf(stderr,
            c->rabbit ? "\nCommand '%s' not found. \n"
                      : "mqgatectl: there is no command '%s'; see mqgatectl --help\n",
            name);
    return CTL_USAGE;
}

/* "help", "help COMMAND", "COMMAND --help". */
static int main_help_of(const struct ctl *c)
{
    bool word = c->nargs > 0 && strcmp(c->args[0], "help") == 0;
    const char *name = c->nargs > word ? c->args[word] : NULL;
    if (name == NULL)
        main_help();
    return name == NULL || command_help(c, name) ? CTL_OK : main_unknown(c, name);
}

static int main_dispatch(struct ctl *c)
{
    if (options_version(c))
        return status_version(c);
    if (options_help(c) || (c->nargs > 0 && strcmp(c->args[0], "help") == 0))
        return main_help_of(c);
    if (c->nargs == 0) {
        fprintf(stderr, "mqgatectl: no command; see mqgatectl --help\n");
        return CTL_USAGE;
    }
    c->command = command_find(c, c->args[0]);
    if (c->command == NULL)
        return main_unknown(c, c->args[0]);
    int given = c->nargs - 1;
    if (given < c->command->min || (c->command->max >= 0 && given > c->command->max)) {
        fprintf(stderr, "%s: usage: %s%s%s\n", c->rabbit ? "Error (argument validation)" : "mqgatectl",
                c->command->name, *c->command->usage != '\0' ? " " : "", c->command->usage);
        return CTL_USAGE;
    }
    return c->command->run(c);
}

int main(int argc, char **argv)
{
    struct ctl c = {0};
    int code = options_parse(&c, argc, argv);
    if (code < 0)
        code = main_dispatch(&c);
    free(c.args);
    return fflush(stdout) == 0 ? code : CTL_SOFTWARE;
}
