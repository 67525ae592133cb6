/* local_main.c - the suite over an adapter of this process: compiled once per adapter, linked with its module. */
#include "suite.h"

#include <string.h>

#ifdef MQG_MODULE_STATIC
#define LOCAL_NAME_OF(name) mqg_module_##name
#define LOCAL_NAME(name)    LOCAL_NAME_OF(name)
#define LOCAL_MODULE        LOCAL_NAME(SUITE_ADAPTER)
#else
#define LOCAL_MODULE mqg_module
#endif
extern const struct mqg_module LOCAL_MODULE;

static const char *const journal_settings[] = {"segment_size=1MiB", "min_free=1MiB", NULL};

int main(int argc, char **argv)
{
    bool journal = strcmp(LOCAL_MODULE.name, "journal") == 0;
    struct suite_adapter a = {
        .module = &LOCAL_MODULE,
        .settings = journal ? journal_settings : NULL,
        .folder = journal,
        .verbatim = true,
    };
    return suite_main(&a, argc, argv);
}
