/* start.h - bringing the parts up in order, and down in the other. */
#ifndef MQG_HOST_START_H
#define MQG_HOST_START_H

#include <mqgate/conf.h>

struct event_base;

/* Modules are loaded and the configuration is checked. Each step is undone by start_down, however far it came. */
enum mqg_err start_up(const struct mqg_conf *conf, struct event_base *base, struct mqg_error *e);
/* Nobody new comes in. */
void start_close_listeners(void);
/* Services first, then workers, then stores, so that each finds below it what it needs. */
void start_down(void);

#endif
