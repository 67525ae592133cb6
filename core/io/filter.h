/* filter.h - what lies between a connection and its socket: a stack of filters, each above the next.
 *
 *   connection -> WebSocket -> dribble (tests) -> TLS -> socket
 *
 * read and writev are as readv and writev of a non-blocking socket: bytes, 0 for the end of the stream, or -1 with errno.
 * EAGAIN means that the socket must become readable, or writable when `wants_write` is set. */
#ifndef MQG_IO_FILTER_H
#define MQG_IO_FILTER_H

#include <mqgate/base.h>

#include <sys/types.h>
#include <sys/uio.h>

struct io_filter;

struct io_filter_ops {
    const char *name;
    ssize_t (*read)(struct io_filter *f, void *buf, size_t n);
    ssize_t (*writev)(struct io_filter *f, const struct iovec *iov, int n);
    /* Holds bytes that the socket will not announce again. */
    bool (*pending)(const struct io_filter *f);
    /* Goes on with a handshake: OK when it is done, AGAIN while it is not, else failed with a text. */
    enum mqg_err (*handshake)(struct io_filter *f, struct mqg_error *e);
    /* Says to the peer that no more will come; best effort. */
    void (*shutdown)(struct io_filter *f);
    void (*free)(struct io_filter *f);
};

struct io_filter {
    const struct io_filter_ops *ops;
    struct io_filter *below;
    bool wants_write;
};

static inline ssize_t io_filter_read(struct io_filter *f, void *buf, size_t n)
{
    return f->ops->read(f, buf, n);
}

static inline ssize_t io_filter_writev(struct io_filter *f, const struct iovec *iov, int n)
{
    return f->ops->writev(f, iov, n);
}

bool io_filter_pending(const struct io_filter *f);                          /* it, or one below */
enum mqg_err io_filter_handshake(struct io_filter *f, struct mqg_error *e); /* from the bottom up */
bool io_filter_wants_write(const struct io_filter *f);
void io_filter_shutdown(struct io_filter *f); /* from the top down */
void io_filter_free(struct io_filter **f);    /* the whole stack; the descriptor stays open */

struct io_filter *io_socket_filter_new(int fd);
struct io_filter *io_dribble_filter_new(struct io_filter *below);

#endif
