/* filter.c - the stack of filters, the socket at its bottom, and the filter that tests put on its top.
 *
 * The dribble filter reads and writes one byte at a time: each decoder meets each split of its input, and each writer a
 * peer that takes little. It stands below WebSocket, which has a decoder of its own. What it holds back counts as pending, so that the connection comes round at once. */
#include "filter.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

bool io_filter_pending(const struct io_filter *f)
{
    for (; f != NULL; f = f->below)
        if (f->ops->pending != NULL && f->ops->pending(f))
            return true;
    return false;
}

enum mqg_err io_filter_handshake(struct io_filter *f, struct mqg_error *e)
{
    if (f == NULL)
        return MQG_OK;
    enum mqg_err err = io_filter_handshake(f->below, e);
    if (err == MQG_OK && f->ops->handshake != NULL)
        err = f->ops->handshake(f, e);
    return err;
}

bool io_filter_wants_write(const struct io_filter *f)
{
    for (; f != NULL; f = f->below)
        if (f->wants_write)
            return true;
    return false;
}

void io_filter_shutdown(struct io_filter *f)
{
    for (; f != NULL; f = f->below)
        if (f->ops->shutdown != NULL)
            f->ops->shutdown(f);
}

void io_filter_free(struct io_filter **filter)
{
    struct io_filter *f = *filter;
    *filter = NULL;
    while (f != NULL) {
        struct io_filter *below = f->below;
        f->ops->free(f);
        f = below;
    }
}

/* ---- the socket --------------------------------------------------------------------------------------------------------- */

struct socket_filter {
    struct io_filter filter;
    int fd;
};

static int socket_fd(const struct io_filter *f)
{
    return ((const struct socket_filter *)(const void *)f)->fd;
}

static ssize_t socket_read(struct io_filter *f, void *buf, size_t n)
{
    return recv(socket_fd(f), buf, n, MSG_DONTWAIT);
}

static ssize_t socket_writev(struct io_filter *f, const struct iovec *iov, int n)
{
    struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)n};
    return sendmsg(socket_fd(f), &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void socket_shutdown(struct io_filter *f)
{
    shutdown(socket_fd(f), SHUT_WR);
}

static void socket_free(struct io_filter *f)
{
    free(f);
}

static const struct io_filter_ops socket_filter_ops = {
    .name = "socket",
    .read = socket_read,
    .writev = socket_writev,
    .shutdown = socket_shutdown,
    .free = socket_free,
};

struct io_filter *io_socket_filter_new(int fd)
{
    struct socket_filter *f = mqg_xcalloc(1, sizeof *f);
    f->filter.ops = &socket_filter_ops;
    f->fd = fd;
    return &f->filter;
}

/* ---- dribble --------------------------------------------------------------------------------------------------------------- */

static ssize_t dribble_read(struct io_filter *f, void *buf, size_t n)
{
    return io_filter_read(f->below, buf, n > 0 ? 1 : 0);
}

static ssize_t dribble_writev(struct io_filter *f, const struct iovec *iov, int n)
{
    while (n > 0 && iov->iov_len == 0) {
        iov++;
        n--;
    }
    struct iovec one = {n > 0 ? iov->iov_base : NULL, n > 0 ? 1 : 0};
    return io_filter_writev(f->below, &one, 1);
}

static void dribble_free(struct io_filter *f)
{
    free(f);
}

static const struct io_filter_ops dribble_filter_ops = {
    .name = "dribble",
    .read = dribble_read,
    .writev = dribble_writev,
    .free = dribble_free,
};

struct io_filter *io_dribble_filter_new(struct io_filter *below)
{
    struct io_filter *f = mqg_xcalloc(1, sizeof *f);
    f->ops = &dribble_filter_ops;
    f->below = below;
    return f;
}
