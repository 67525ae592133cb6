/* conn.h - core/io's connections for the host: making them from sockets, counting and draining them. */
#ifndef MQG_IO_CONN_H
#define MQG_IO_CONN_H

#include "ws_upgrade.h"

#include <mqgate/protocol.h>

#include <sys/socket.h>

/* What a listener says of its connections. Static while any of them lives. */
struct conn_source {
    char name[32]; /* "amqps" */
    const struct mqg_protocol_ops *ops;
    bool tls;
    bool proxy; /* a PROXY header comes first */
    bool ws;    /* WebSocket above it */
    struct io_ws_rules ws_rules;
};

struct conn_settings {
    uint64_t login_timeout_ms;
    uint32_t connections_max; /* 0: no limit */
    bool dribble;
    int64_t memory_high_bytes; /* publishers are blocked above; 0: never */
    int64_t memory_hard_bytes; /* and what of theirs is still read must fit below this */
};

/* Before workers start, and at a reload. */
void conn_configure(const struct conn_settings *s);
/* Any thread: hands a connected non-blocking socket to a worker; takes the descriptor. addr may be NULL (socketpair). false
 * (and closed) when there are too many connections. */
bool conn_adopt(struct mqg_worker *w, int fd, const struct conn_source *source, const struct sockaddr *addr);
/* Before workers start: names the protocol that first bytes belong to, for the log of a wrong port; NULL when none does. */
void conn_on_guess(const char *(*guess)(struct mqg_slice head));
/* Any thread. */
uint32_t conn_count(void);
/* Any thread: every connection is told that the node stops. */
void conn_drain(void);

#endif
