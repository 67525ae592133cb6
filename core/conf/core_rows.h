/* core_rows.h - the core's own keys; private to the core. */
#ifndef MQG_CONF_CORE_ROWS_H
#define MQG_CONF_CORE_ROWS_H

#include <mqgate/conf.h>

extern const struct mqg_conf_row mqg_core_rows[];

/* Every listener key and the module that serves it, known from the first day. Ended by a row with name NULL. */
struct mqg_core_listener {
    const char *name;   /* "amqps" */
    const char *module; /* "amqp" */
    const char *base;   /* "amqp": the name in the module's own table */
    bool tls;
};
extern const struct mqg_core_listener mqg_core_listeners[];

/* After all sources, before the check: what follows from what was said (types of stores, TLS or not). */
void mqg_conf_complete(struct mqg_conf *c);

/* Both checked, with the same rows: every key whose value differs. */
void mqg_conf_diff(const struct mqg_conf *a, const struct mqg_conf *b,
                   void (*fn)(void *arg, const char *section, const char *key), void *arg);
/* Like free, but what was handed out stays valid until the end of the process (a reload). *c becomes NULL. */
void mqg_conf_retire(struct mqg_conf **c);

#endif
