/* tls.h - TLS: one context for all listeners, one filter per connection. */
#ifndef MQG_IO_TLS_H
#define MQG_IO_TLS_H

#include "filter.h"

#include <mqgate/conf.h>

struct mqg_conn_info;

/* (main) Reads tls.*; may be called again (SIGHUP): connections made from then on use the new certificate, and a failure
 * leaves the old one. Without tls.cert there is no TLS. */
enum mqg_err io_tls_load(const struct mqg_conf *conf, struct mqg_error *e);
void io_tls_unload(void);
bool io_tls_ready(void); /* any thread */

/* Any thread. NULL when TLS is not configured. */
struct io_filter *io_tls_filter_new(int fd);
/* After the handshake: protocol, cipher, verified client certificate. Nothing when the stack has no TLS. */
void io_tls_filter_info(struct io_filter *f, struct mqg_conn_info *info);

#endif
