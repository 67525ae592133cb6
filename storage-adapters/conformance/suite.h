/* suite.h - one conformance suite per capability, run over any storage adapter through its table alone.
 *
 * An adapter brings its module descriptor and the settings of its section; a test program per adapter calls suite_main().
 * What an adapter does not declare is not asked of it, and printed by name as not run. What its present engine cannot do
 * (a mock without topic deletion) is named in `without` and printed with the reason. Tests that need DURABLE reopen the
 * store on the same folder or engine, after a clean stop and after none. */
#ifndef SUITE_H
#define SUITE_H

#include <mqgate/module.h>

#include <stdbool.h>
#include <stdint.h>

struct suite_without {
    const char *test;
    const char *reason;
};

struct suite_adapter {
    const struct mqg_module *module;
    const char *const *settings;         /* "key=value" for its section, ended by NULL; may be NULL */
    bool folder;                         /* wants path= to a fresh folder per test */
    bool verbatim;                       /* batches come back byte by byte; else record by record */
    const struct suite_without *without; /* ended by a row without a test; may be NULL */
};

/* Runs every test, or those whose names begin with argv[1]; the exit code. */
int suite_main(const struct suite_adapter *a, int argc, char **argv);

#endif
