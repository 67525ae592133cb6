/* static.c - the modules that the build linked in; none in the usual one. */
#include "loader.h"

#define MQG_STATIC_MODULE(name) extern const struct mqg_module mqg_module_##name;
#include "mqg_static_modules.inc"
#undef MQG_STATIC_MODULE

const struct mqg_module *const host_static_modules[] = {
#define MQG_STATIC_MODULE(name) &mqg_module_##name,
#include "mqg_static_modules.inc"
#undef MQG_STATIC_MODULE
    NULL,
};
