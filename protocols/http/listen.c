/* listen.c - sockets for "host:port[,host:port]".
 *
 * They are bound here and handed to the library, so that port 0 can be asked for and told, and a refusal says which address and
 * which option. */
#include "listen.h"

#include <mqgate/host.h>
#include <mqgate/obs.h>

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LISTEN_BACKLOG = 64 };

/* "host:port" or "[host]:port". */
static bool listen_split(const char *text, size_t len, char host[256], char port[6])
{
    const char *colon = memrchr(text, ':', len);
    if (colon == NULL)
        return false;
    size_t host_len = (size_t)(colon - text), port_len = len - host_len - 1;
    if (host_len >= 2 && text[0] == '[' && text[host_len - 1] == ']') {
        text++;
        host_len -= 2;
    }
    if (host_len == 0 || host_len >= 256 || port_len == 0 || port_len > 5)
        return false;
    memcpy(host, text, host_len);
    host[host_len] = '\0';
    memcpy(port, colon + 1, port_len);
    port[port_len] = '\0';
    return true;
}

static void listen_name(struct http_listener *l)
{
    struct sockaddr_storage addr;
    socklen_t len = sizeof addr;
    char host[64] = "?", port[8] = "?";
    if (getsockname(l->fd, (struct sockaddr *)&addr, &len) == 0)
        getnameinfo((struct sockaddr *)&addr, len, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(l->name, sizeof l->name, addr.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

/* 0, or errno. */
static int listen_bind(const struct addrinfo *ai, int *out)
{
    int one = 1;
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (ai->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, 26 /* IPV6_V6ONLY */, &one, sizeof one);
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, LISTEN_BACKLOG) == 0) {
        *out = fd;
        return 0;
    }
    int saved = errno;
    close(fd);
    return saved;
}

static enum mqg_err listen_in_use(const char *key, const char *text, size_t len, const char *port,
                                  struct mqg_error *e)
{
    char holder[128];
    mqg_port_holder((uint16_t)strtoul(port, NULL, 10), holder, sizeof holder);
    return mqg_error_set(e, MQG_IN_USE, EADDRINUSE,
                         "%.*s is in use%s%s; --set listeners.%s=host:port moves it, ./run --port-offset N "
                         "moves all listeners",
                         (int)len, text, holder[0] != '\0' ? " by " : "", holder, key);
}

static enum mqg_err listen_one(const char *key, const char *text, size_t len, struct http_listener *l,
                               int *error, struct mqg_error *e)
{
    char host[256], port[6];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV},
                    *found = NULL;
    if (!listen_split(text, len, host, port))
        return mqg_error_set(e, MQG_INVALID, 0, "listeners.%s: '%.*s' is not host:port", key, (int)len, text);
    int rc = getaddrinfo(host, port, &hints, &found);
    if (rc != 0)
        return mqg_error_set(e, MQG_INVALID, 0, "listeners.%s: %s: %s", key, host, gai_strerror(rc));
    *error = listen_bind(found, &l->fd);
    freeaddrinfo(found);
    if (*error == EADDRINUSE)
        return listen_in_use(key, text, len, port, e);
    if (*error != 0)
        return mqg_error_set(e, MQG_IO, 0,
                             "listeners.%s: cannot listen on %.*s: %s; listeners.%s=host:port moves it", key,
                             (int)len, text, strerror(*error), key);
    listen_name(l);
    return MQG_OK;
}

static bool listen_no_such_address(int error)
{
    return error == EADDRNOTAVAIL || error == EAFNOSUPPORT;
}

enum mqg_err http_listen(const char *key, const char *addresses, bool asked,
                         struct http_listener out[LISTEN_MAX], size_t *n, struct mqg_error *e)
{
    size_t before = *n;
    if (addresses == NULL || strcmp(addresses, "off") == 0)
        return MQG_OK;
    for (const char *at = addresses; *at != '\0' && *n < LISTEN_MAX;) {
        int error = 0;
        while (*at == ' ')
            at++;
        size_t len = strcspn(at, ", ");
        enum mqg_err err = listen_one(key, at, len, &out[*n], &error, e);
        if (err == MQG_OK) {
            (*n)++;
        } else if (asked || !listen_no_such_address(error)) {
            while (*n > before)
                close(out[--*n].fd);
            return err;
        } else {
            mqg_log(MQG_LOG_INFO, MQG_EVENT_LISTEN, "listener=%s result=left_out why=%s", key,
                    mqg_logqs(e->text));
        }
        at += len + strspn(at + len, ", ");
    }
    return MQG_OK;
}
