/* ws.h - WebSocket: a filter above TLS or the socket; private to the core. */
#ifndef MQG_IO_WS_H
#define MQG_IO_WS_H

#include "filter.h"
#include "ws_upgrade.h"

struct mqg_conn_info;

/* Takes `below` into its stack. The rules must outlive it. */
struct io_filter *io_ws_filter_new(struct io_filter *below, const struct io_ws_rules *rules);
/* After the handshake: that it is a WebSocket, and its sub-protocol. Nothing when the stack has none. */
void io_ws_filter_info(struct io_filter *f, struct mqg_conn_info *info);

#endif
