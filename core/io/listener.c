/* listener.c - accepting connections, on the main thread.
 *
 * One acceptor hands sockets to the workers in turn, so that all of them have the same number; accepts come in batches
 * (accept4 until nothing waits, bounded). When the process is out of descriptors it rests for a moment instead of
 * spinning on a readiness that it cannot use.
 *
 * An address in use is the commonest failure of a first start: the refusal names who holds it and what moves us. */
#include "listener.h"

#include <mqgate/host.h>
#include <mqgate/obs.h>

#include <errno.h>
#include <event2/event.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { LISTENER_BATCH = 64, LISTENER_BACKLOG = 4096, LISTENER_REST_MS = 100 };

struct io_listener {
    const struct conn_source *source;
    int fd;
    struct event *accept_event, *rest_event;
    char address[300];
};

static uint32_t listener_next_worker;

/* ---- accepting ----------------------------------------------------------------------------------------------------------- */

static void listener_rest(struct io_listener *l)
{
    struct timeval tv = {.tv_usec = LISTENER_REST_MS * 1000};
    mqg_log(MQG_LOG_WARN, MQG_EVENT_LISTEN, "listener=%s accept=%s rest_ms=%d", l->source->name,
            mqg_logqs(strerror(errno)), LISTENER_REST_MS);
    event_del(l->accept_event);
    event_add(l->rest_event, &tv);
}

static void listener_rested(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct io_listener *l = arg;
    event_add(l->accept_event, NULL);
}

static bool listener_accept_one(struct io_listener *l)
{
    struct sockaddr_storage addr;
    socklen_t len = sizeof addr;
    int fd = accept4(l->fd, (struct sockaddr *)&addr, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        bool spent = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
        if (spent)
            listener_rest(l);
        return errno == ECONNABORTED || errno == EINTR;
    }
    struct mqg_worker *w = mqg_worker_at(listener_next_worker++ % mqg_worker_count());
    if (!conn_adopt(w, fd, l->source, (struct sockaddr *)&addr))
        mqg_log(MQG_LOG_WARN, MQG_EVENT_LISTEN, "listener=%s refused=too_many_connections", l->source->name);
    return true;
}

static void listener_accept(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    for (int i = 0; i < LISTENER_BATCH; i++)
        if (!listener_accept_one(arg))
            return;
}

/* ---- binding --------------------------------------------------------------------------------------------------------------- */

static enum mqg_err listener_in_use(const struct conn_source *source, const struct conf_addr *addr,
                                    struct mqg_error *e)
{
    char holder[128];
    mqg_port_holder(addr->port, holder, sizeof holder);
    bool v6 = strchr(addr->host, ':') != NULL;
    unsigned other = addr->port < UINT16_MAX ? addr->port + 1u : 1024u;
    return mqg_error_set(e, MQG_IN_USE, EADDRINUSE,
                         "%s:%u is in use%s%s; --set listeners.%s=%s%s%s:%u moves it, ./run --port-offset N "
                         "moves all listeners",
                         addr->host, addr->port, holder[0] != '\0' ? " by " : "", holder, source->name,
                         v6 ? "[" : "", addr->host, v6 ? "]" : "", other);
}

static enum mqg_err listener_refuse(const struct conn_source *source, const struct conf_addr *addr, int error,
                                    struct mqg_error *e)
{
    if (error == EADDRINUSE)
        return listener_in_use(source, addr, e);
    bool absent = error == EADDRNOTAVAIL || error == EAFNOSUPPORT;
    enum mqg_err err = absent ? MQG_NOT_FOUND : error == EACCES ? MQG_DENIED : MQG_IO;
    return mqg_error_set(e, err, error, "listeners.%s: %s:%u cannot be bound: %s", source->name, addr->host,
                         addr->port, strerror(error));
}

/* A bound, listening socket, or -1 with errno. */
static int listener_bind(const struct addrinfo *ai)
{
    int on = 1;
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (ai->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, LISTENER_BACKLOG) == 0)
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static void listener_describe(struct io_listener *l)
{
    struct sockaddr_storage addr;
    socklen_t len = sizeof addr;
    char host[256] = "?", port[16] = "?";
    if (getsockname(l->fd, (struct sockaddr *)&addr, &len) == 0)
        getnameinfo((struct sockaddr *)&addr, len, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV);
    bool v6 = strchr(host, ':') != NULL;
    snprintf(l->address, sizeof l->address, "%s%s%s:%s", v6 ? "[" : "", host, v6 ? "]" : "", port);
}

static struct io_listener *listener_new(int fd, struct event_base *base, const struct conn_source *source)
{
    struct io_listener *l = mqg_xcalloc(1, sizeof *l);
    l->source = source;
    l->fd = fd;
    l->accept_event = event_new(base, fd, EV_READ | EV_PERSIST, listener_accept, l);
    l->rest_event = event_new(base, -1, 0, listener_rested, l);
    MQG_ASSERT(l->accept_event != NULL && l->rest_event != NULL);
    event_add(l->accept_event, NULL);
    listener_describe(l);
    return l;
}

enum mqg_err io_listener_open(struct io_listener **out, struct event_base *base,
                              const struct conn_source *source, const struct conf_addr *addr,
                              struct mqg_error *e)
{
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM},
                    *found = NULL;
    char port[8];
    snprintf(port, sizeof port, "%u", addr->port);
    int rc = getaddrinfo(addr->host, port, &hints, &found);
    if (rc != 0)
        return mqg_error_set(e, MQG_INVALID, 0, "listeners.%s: %s is no address of a machine: %s",
                             source->name, addr->host, gai_strerror(rc));
    int fd = listener_bind(found);
    int error = errno;
    freeaddrinfo(found);
    if (fd < 0)
        return listener_refuse(source, addr, error, e);
    *out = listener_new(fd, base, source);
    return MQG_OK;
}

void io_listener_close(struct io_listener **listener)
{
    struct io_listener *l = *listener;
    *listener = NULL;
    if (l == NULL)
        return;
    event_free(l->accept_event);
    event_free(l->rest_event);
    close(l->fd);
    free(l);
}

const char *io_listener_address(const struct io_listener *l)
{
    return l->address;
}
