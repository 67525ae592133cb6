/* A connection serves three kinds of use with one buffer pair: set-up calls that wait for their answer,
 * roles that parse millions of frames, and ten thousand idle ones of which each must stay small. So the
 * buffers start as small as the role says and grow only for a frame that does not fit. Any refusal by the
 * server ends the program: a benchmark that goes on after an error measures the error. */
#include "load_conn.h"

#include "load_util.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONN_FRAME_MAX = 131072, CONN_WAIT_MS = 60000, CONN_FRAME_LIMIT = 16 << 20 };

void load_conn_start(struct load_conn *conn, const struct load_target *target, in_addr_t source,
                     size_t in_bytes)
{
    memset(conn, 0, sizeof *conn);
    conn->in = load_alloc(in_bytes);
    conn->in_cap = in_bytes;
    conn->state = LOAD_CONNECTING;
    conn->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (conn->fd < 0)
        load_fail("socket: %s", strerror(errno));
    const int on = 1;
    setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (source != 0) {
        setsockopt(conn->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        const struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = source};
        if (bind(conn->fd, (const struct sockaddr *)&from, sizeof from) != 0)
            load_fail("bind: %s", strerror(errno));
    }
    const struct sockaddr *to = (const struct sockaddr *)&target->address;
    if (connect(conn->fd, to, sizeof target->address) != 0 && errno != EINPROGRESS)
        load_fail("connect: %s", strerror(errno));
}

bool load_conn_flush(struct load_conn *conn)
{
    struct load_out *out = &conn->out;
    while (out->sent < out->len) {
        const ssize_t n = send(conn->fd, out->data + out->sent, out->len - out->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return false;
        if (n < 0)
            load_fail("send: %s", strerror(errno));
        out->sent += (size_t)n;
    }
    out->sent = 0;
    out->len = 0;
    return true;
}

/* Makes room for the rest of the frame that the buffer begins with. */
static void conn_make_room(struct load_conn *conn)
{
    const size_t held = conn->in_end - conn->in_start;
    if (conn->in_start != 0) {
        memmove(conn->in, conn->in + conn->in_start, held);
        conn->in_start = 0;
        conn->in_end = held;
    }
    if (held < conn->in_cap)
        return;
    if (conn->in_cap >= CONN_FRAME_LIMIT)
        load_fail("the server sent a frame of more than %d bytes", CONN_FRAME_LIMIT);
    conn->in_cap *= 2;
    conn->in = realloc(conn->in, conn->in_cap);
    if (conn->in == NULL)
        load_fail("out of memory for %zu bytes", conn->in_cap);
}

size_t load_conn_read(struct load_conn *conn)
{
    conn_make_room(conn);
    for (;;) {
        const ssize_t n = recv(conn->fd, conn->in + conn->in_end, conn->in_cap - conn->in_end, 0);
        if (n > 0) {
            conn->in_end += (size_t)n;
            return (size_t)n;
        }
        if (n == 0)
            load_fail("the server closed the connection");
        if (errno == EAGAIN)
            return 0;
        if (errno != EINTR)
            load_fail("recv: %s", strerror(errno));
    }
}

bool load_conn_next(struct load_conn *conn, struct load_frame *frame)
{
    const size_t held = conn->in_end - conn->in_start;
    const uint8_t *head = conn->in + conn->in_start;
    if (held < LOAD_FRAME_HEAD)
        return false;
    const size_t bytes = load_get_u32(head + 3);
    if (held < bytes + LOAD_FRAME_OVERHEAD)
        return false;
    if (head[LOAD_FRAME_HEAD + bytes] != LOAD_FRAME_END)
        load_fail("the server sent a frame of %zu bytes without its end byte", bytes);
    frame->type = head[0];
    frame->channel = load_get_u16(head + 1);
    frame->payload = head + LOAD_FRAME_HEAD;
    frame->bytes = bytes;
    frame->method = frame->type == LOAD_FRAME_METHOD && bytes >= 4 ? load_get_u32(frame->payload) : 0;
    conn->in_start += bytes + LOAD_FRAME_OVERHEAD;
    return true;
}

void load_conn_other(struct load_conn *conn, const struct load_frame *frame)
{
    if (frame->method == LOAD_CONNECTION_BLOCKED)
        conn->blocked_count++;
    if (frame->method == LOAD_BASIC_CANCEL)
        load_fail("the server cancelled a consumer");
    if (frame->method != LOAD_CONNECTION_CLOSE && frame->method != LOAD_CHANNEL_CLOSE)
        return;
    if (frame->bytes < 7 || frame->bytes < 7U + frame->payload[6])
        load_fail("the server closed with a short frame");
    load_fail("the server said %u %.*s", load_get_u16(frame->payload + 4), frame->payload[6],
              frame->payload + 7);
}

static void conn_put_start_ok(struct load_conn *conn, const struct load_target *target)
{
    static const char *const CLIENT[] = {"product=amqpload"};
    struct load_out *out = &conn->out;
    const size_t start = load_method_begin(out, 0, LOAD_CONNECTION_START_OK);
    load_put_table(out, CLIENT, 1);
    load_put_short(out, "PLAIN");
    load_put_u32(out, (uint32_t)(2 + strlen(target->user) + strlen(target->password)));
    load_put_u8(out, 0);
    load_put_bytes(out, target->user, strlen(target->user));
    load_put_u8(out, 0);
    load_put_bytes(out, target->password, strlen(target->password));
    load_put_short(out, "en_US");
    load_frame_end(out, start);
}

/* No heartbeats: what a run needs is seen by its own deadline. */
static void conn_put_tune_ok(struct load_conn *conn, const struct load_target *target,
                             const struct load_frame *tune)
{
    if (tune->bytes < 12)
        load_fail("connection.tune is too short");
    struct load_out *out = &conn->out;
    const uint32_t offered = load_get_u32(tune->payload + 6);
    conn->frame_max = offered == 0 || offered > CONN_FRAME_MAX ? CONN_FRAME_MAX : offered;
    size_t start = load_method_begin(out, 0, LOAD_CONNECTION_TUNE_OK);
    load_put_u16(out, load_get_u16(tune->payload + 4));
    load_put_u32(out, conn->frame_max);
    load_put_u16(out, 0);
    load_frame_end(out, start);
    start = load_method_begin(out, 0, LOAD_CONNECTION_OPEN);
    load_put_short(out, target->vhost);
    load_put_short(out, "");
    load_put_u8(out, 0);
    load_frame_end(out, start);
}

static void conn_handshake_frame(struct load_conn *conn, const struct load_target *target,
                                 const struct load_frame *frame)
{
    if (frame->method == LOAD_CONNECTION_START)
        conn_put_start_ok(conn, target);
    else if (frame->method == LOAD_CONNECTION_TUNE)
        conn_put_tune_ok(conn, target, frame);
    else if (frame->method == LOAD_CONNECTION_OPEN_OK)
        conn->state = LOAD_READY;
    else
        load_conn_other(conn, frame);
}

bool load_conn_advance(struct load_conn *conn, const struct load_target *target)
{
    if (conn->state == LOAD_CONNECTING) {
        int error = 0;
        socklen_t bytes = sizeof error;
        getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &bytes);
        if (error != 0)
            load_fail("connect: %s", strerror(error));
        load_put_bytes(&conn->out, "AMQP\0\0\x09\x01", 8);
        conn->state = LOAD_HANDSHAKE;
        load_conn_flush(conn);
        return false;
    }
    struct load_frame frame;
    while (conn->state != LOAD_READY && load_conn_read(conn) != 0)
        while (conn->state != LOAD_READY && load_conn_next(conn, &frame))
            conn_handshake_frame(conn, target, &frame);
    load_conn_flush(conn);
    return conn->state == LOAD_READY;
}

static void conn_wait(const struct load_conn *conn, short events)
{
    struct pollfd ready = {.fd = conn->fd, .events = events};
    int n;
    do
        n = poll(&ready, 1, CONN_WAIT_MS);
    while (n < 0 && errno == EINTR);
    if (n == 0)
        load_fail("no answer from the server for %d s", CONN_WAIT_MS / 1000);
}

const uint8_t *load_conn_call(struct load_conn *conn, uint32_t method)
{
    struct load_frame frame;
    while (!load_conn_flush(conn))
        conn_wait(conn, POLLOUT);
    for (;;) {
        while (load_conn_next(conn, &frame)) {
            if (frame.method == method)
                return frame.payload + 4;
            load_conn_other(conn, &frame);
        }
        if (load_conn_read(conn) == 0)
            conn_wait(conn, POLLIN);
    }
}

void load_conn_open(struct load_conn *conn, const struct load_target *target)
{
    enum { IN_BYTES = 512 << 10 };
    load_conn_start(conn, target, 0, IN_BYTES);
    conn_wait(conn, POLLOUT);
    while (!load_conn_advance(conn, target))
        conn_wait(conn, POLLIN);
    const size_t start = load_method_begin(&conn->out, 1, LOAD_CHANNEL_OPEN);
    load_put_short(&conn->out, "");
    load_frame_end(&conn->out, start);
    load_conn_call(conn, LOAD_CHANNEL_OPEN_OK);
}

void load_conn_close(struct load_conn *conn)
{
    const size_t start = load_method_begin(&conn->out, 0, LOAD_CONNECTION_CLOSE);
    load_put_u16(&conn->out, 200);
    load_put_short(&conn->out, "bye");
    load_put_u32(&conn->out, 0);
    load_frame_end(&conn->out, start);
    load_conn_call(conn, LOAD_CONNECTION_CLOSE_OK);
    load_conn_drop(conn);
}

void load_conn_drop(struct load_conn *conn)
{
    close(conn->fd);
    free(conn->in);
    free(conn->out.data);
    memset(conn, 0, sizeof *conn);
    conn->fd = -1;
}
