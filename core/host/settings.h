/* settings.h - from sources to a checked configuration, and what the core makes of it. */
#ifndef MQG_HOST_SETTINGS_H
#define MQG_HOST_SETTINGS_H

#include "options.h"

#include <mqgate/conf.h>

/* Reads file, environment and --set with the core's rows only: enough to find the modules. Unchecked. */
enum mqg_err settings_read(const struct options *o, struct mqg_conf **out, struct mqg_error *e);
/* With the rows of the loaded modules: checks everything. */
enum mqg_err settings_check(struct mqg_conf *conf, struct mqg_error *e);
/* Log, limits, TLS; at the start and at a reload. */
enum mqg_err settings_apply(const struct mqg_conf *conf, struct mqg_error *e);
uint32_t settings_workers(const struct mqg_conf *conf);

#endif
