/* One AMQP connection: a non-blocking socket, its two buffers, the handshake. */
#ifndef MQGATE_BENCH_LOAD_CONN_H
#define MQGATE_BENCH_LOAD_CONN_H

#include "load_wire.h"

#include <netinet/in.h>

struct load_target {
    struct sockaddr_in address;
    const char *user;
    const char *password;
    const char *vhost;
};

enum load_state { LOAD_CLOSED, LOAD_CONNECTING, LOAD_HANDSHAKE, LOAD_READY };

struct load_conn {
    int fd;
    enum load_state state;
    uint32_t frame_max;
    unsigned blocked_count; /* how often the server said connection.blocked */
    struct load_out out;
    uint8_t *in;
    size_t in_cap;
    size_t in_start;
    size_t in_end;
};

/* A whole frame inside the connection's buffer: valid until the next read. */
struct load_frame {
    unsigned type;
    unsigned channel;
    uint32_t method; /* 0 if the frame is no method */
    const uint8_t *payload;
    size_t bytes;
};

/* Starts a non-blocking connect from `source` (0: any address of this machine). */
void load_conn_start(struct load_conn *conn, const struct load_target *target, in_addr_t source,
                     size_t in_bytes);

/* Call when the socket is ready: finishes the connect, answers the handshake. True once the connection is
 * open. */
bool load_conn_advance(struct load_conn *conn, const struct load_target *target);

/* Connects and waits until the connection and channel 1 are open. */
void load_conn_open(struct load_conn *conn, const struct load_target *target);

/* Sends what is in `out` and waits for the answer `method`; its payload after the method id. A refusal
 * ends the program. */
const uint8_t *load_conn_call(struct load_conn *conn, uint32_t method);

/* Says connection.close, waits for the answer, frees. */
void load_conn_close(struct load_conn *conn);
/* Closes the socket without a word, frees. */
void load_conn_drop(struct load_conn *conn);

/* One read. The number of bytes that came; 0 if there is nothing now. The server's end of file ends the
 * program. */
size_t load_conn_read(struct load_conn *conn);

/* The next whole frame of the buffer; false if more must be read first. */
bool load_conn_next(struct load_conn *conn, struct load_frame *frame);

/* What every role answers alike: a close ends the program with its text; blocked and heartbeats are noted. */
void load_conn_other(struct load_conn *conn, const struct load_frame *frame);

/* Writes pending output; true if nothing is left. */
bool load_conn_flush(struct load_conn *conn);

#endif
