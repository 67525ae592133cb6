/* options.h - the command line. */
#ifndef MQG_HOST_OPTIONS_H
#define MQG_HOST_OPTIONS_H

#include <mqgate/base.h>

#define OPTIONS_SETS_MAX 256

enum options_mode { OPTIONS_RUN, OPTIONS_CHECK, OPTIONS_PRINT, OPTIONS_VERSION, OPTIONS_HELP };

struct options {
    enum options_mode mode;
    const char *config; /* NULL: the installed one, where it is there */
    const char *sets[OPTIONS_SETS_MAX];
    size_t nsets;
};

/* INVALID with a text that says what would be right. Strings are argv's. */
enum mqg_err options_parse(int argc, char **argv, struct options *o, struct mqg_error *e);
extern const char options_help[];

#endif
