/* listen.h - which listeners are opened, for which module, and why one is not. */
#ifndef MQG_HOST_LISTEN_H
#define MQG_HOST_LISTEN_H

#include <mqgate/conf.h>

struct event_base;

/* Before anything is bound (also for --check-config): every listener that the user asked for has its module and, for
 * TLS, a certificate. */
enum mqg_err listen_check(const struct mqg_conf *conf, struct mqg_error *e);
/* (main) Binds all; the first that cannot be had is refused. Defaults without module or certificate are left out, with
 * one log line. */
enum mqg_err listen_open(const struct mqg_conf *conf, struct event_base *base, struct mqg_error *e);
void listen_close(void);
/* Appends "amqp=127.0.0.1:5672,[::1]:5672 ...". */
void listen_describe(struct mqg_dynbuf *out);

#endif
