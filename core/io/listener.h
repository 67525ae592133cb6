/* listener.h - sockets that accept; private to the core. All calls on the main thread. */
#ifndef MQG_IO_LISTENER_H
#define MQG_IO_LISTENER_H

#include "conf_addr.h"
#include "conn.h"

struct event_base;
struct io_listener;

/* Binds one address and accepts on `base`, handing connections to the workers in turn. IN_USE names the holder and the
 * option that moves it; NOT_FOUND: the machine has no such address. */
enum mqg_err io_listener_open(struct io_listener **out, struct event_base *base,
                              const struct conn_source *source, const struct conf_addr *addr,
                              struct mqg_error *e);
void io_listener_close(struct io_listener **l);
/* "127.0.0.1:5672", with the port that was bound. */
const char *io_listener_address(const struct io_listener *l);

#endif
