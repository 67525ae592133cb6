/* options.c - the command line: few words, everything else is configuration (--set). */
#include "options.h"

#include <getopt.h>

const char options_help[] =
    "usage: mqgate [--config FILE] [--set section.key=value]... [--check-config | --print-config]\n"
    "\n"
    "  --config FILE             read this configuration (default: " MQG_CONF_FILE ")\n"
    "  --set section.key=value   override one key; may be given again\n"
    "  --check-config            check the configuration and the modules, then exit\n"
    "  --print-config            print every key with its value and where it comes from, then exit\n"
    "  --version                 print the version, then exit\n"
    "  --help                    print this, then exit\n"
    "\n"
    "The environment overrides the file: MQGATE__SECTION__KEY=value, a dot in a section is __.\n";

static const struct option options_long[] = {
    {"config", required_argument, NULL, 'c'},
    {"set", required_argument, NULL, 's'},
    {"check-config", no_argument, NULL, 'k'},
    {"print-config", no_argument, NULL, 'p'},
    {"version", no_argument, NULL, 'v'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static enum mqg_err options_set(struct options *o, const char *text, struct mqg_error *e)
{
    if (o->nsets == OPTIONS_SETS_MAX)
        return mqg_error_set(e, MQG_INVALID, 0, "more than %d --set", OPTIONS_SETS_MAX);
    o->sets[o->nsets++] = text;
    return MQG_OK;
}

static enum mqg_err options_take(int c, struct options *o, const char *word, struct mqg_error *e)
{
    switch (c) {
    case 'c': o->config = optarg; return MQG_OK;
    case 's': return options_set(o, optarg, e);
    case 'k': o->mode = OPTIONS_CHECK; return MQG_OK;
    case 'p': o->mode = OPTIONS_PRINT; return MQG_OK;
    case 'v': o->mode = OPTIONS_VERSION; return MQG_OK;
    case 'h': o->mode = OPTIONS_HELP; return MQG_OK;
    case ':': return mqg_error_set(e, MQG_INVALID, 0, "%s needs a value; see --help", word);
    default: return mqg_error_set(e, MQG_INVALID, 0, "unknown option %s; see --help", word);
    }
}

enum mqg_err options_parse(int argc, char **argv, struct options *o, struct mqg_error *e)
{
    *o = (struct options){.mode = OPTIONS_RUN};
    enum mqg_err err = MQG_OK;
    int c;
    optind = 0; /* getopt keeps state; tests call this again */
    while (err == MQG_OK && (c = getopt_long(argc, argv, ":", options_long, NULL)) != -1)
        err = options_take(c, o, argv[optind > 0 ? optind - 1 : 0], e);
    if (err == MQG_OK && optind < argc)
        err = mqg_error_set(e, MQG_INVALID, 0, "%s is no option; see --help", argv[optind]);
    return err;
}
