/* link.c - a connection to a node: connect, send all, read to the end; plain, or over TLS for https.
 *
 * The socket blocks, with the time limit as its own, so TLS needs no loop: OpenSSL reads and writes it as it is. A node's
 * certificate must be signed by --ca, or by what the system trusts, and must name the host of the URL: there is no way to
 * leave that out, since a password goes over the line. */
#include "ctl.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { LINK_READ_BYTES = 64 << 10 };

struct ctl_link {
    int fd;
    SSL_CTX *ctx; /* NULL: plain */
    SSL *ssl;
    struct sigaction pipe; /* what SIGPIPE did before: OpenSSL writes without MSG_NOSIGNAL */
};

/* ---- TLS ---------------------------------------------------------------------------------------------------------------- */

/* OpenSSL's first complaint, behind what was being done. */
static bool tls_fault(char why[LINK_WHY], const char *doing)
{
    const char *text = ERR_reason_error_string(ERR_get_error());
    snprintf(why, LINK_WHY, "%s: %s", doing, text != NULL ? text : errno != 0 ? strerror(errno) : "failed");
    ERR_clear_error();
    return false;
}

static bool tls_trusts(SSL_CTX *ctx, const char *ca)
{
    return (ca != NULL ? SSL_CTX_load_verify_file(ctx, ca) : SSL_CTX_set_default_verify_paths(ctx)) == 1;
}

/* The certificate is to name the host: as an address where the URL has one (RFC 9110, 4.3.4). */
static bool tls_expect(SSL *ssl, const char *host)
{
    unsigned char room[sizeof(struct in6_addr)];
    if (inet_pton(AF_INET, host, room) == 1 || inet_pton(AF_INET6, host, room) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
    return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

static bool tls_start(struct ctl_link *l, const struct ctl *c, const struct client_url *url,
                      char why[LINK_WHY])
{
    errno = 0;
    l->ctx = SSL_CTX_new(TLS_client_method());
    if (l->ctx == NULL || SSL_CTX_set_min_proto_version(l->ctx, TLS1_2_VERSION) != 1)
        return tls_fault(why, "TLS");
    SSL_CTX_set_verify(l->ctx, SSL_VERIFY_PEER, NULL);
    if (!tls_trusts(l->ctx, c->ca))
        return tls_fault(why, c->ca != NULL ? c->ca : "the system's certificates");
    l->ssl = SSL_new(l->ctx);
    if (l->ssl == NULL || !tls_expect(l->ssl, url->host) || SSL_set_fd(l->ssl, l->fd) != 1)
        return tls_fault(why, "TLS");
    if (SSL_connect(l->ssl) == 1)
        return true;
    long verdict = SSL_get_verify_result(l->ssl);
    if (verdict == X509_V_OK)
        return tls_fault(why, "TLS handshake");
    snprintf(why, LINK_WHY, "the node's certificate is not accepted: %s (see --ca)",
             X509_verify_cert_error_string(verdict));
    return false;
}

/* ---- the socket --------------------------------------------------------------------------------------------------------- */

/* -1 and why, or a connected socket. */
static int link_connect(const struct client_url *url, unsigned timeout_s, char why[LINK_WHY])
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    struct timeval limit = {.tv_sec = (time_t)timeout_s};
    int rc = getaddrinfo(url->host, url->port, &hints, &list), fd = -1;
    if (rc != 0)
        snprintf(why, LINK_WHY, "%s", gai_strerror(rc));
    for (struct addrinfo *ai = list; ai != NULL && fd < 0; ai = ai->ai_next) {
        fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
            continue;
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        if (connect(fd, ai->ai_addr, ai->ai_addrlen) != 0) {
            snprintf(why, LINK_WHY, "%s", strerror(errno));
            close(fd);
            fd = -1;
        }
    }
    if (list != NULL)
        freeaddrinfo(list);
    return fd;
}

/* As send() and recv(): 0 = the end, -1 = errno says why. */
static ssize_t link_send(struct ctl_link *l, const uint8_t *from, size_t n)
{
    size_t sent = 0;
    if (l->ssl == NULL)
        return send(l->fd, from, n, MSG_NOSIGNAL);
    return SSL_write_ex(l->ssl, from, n, &sent) == 1 ? (ssize_t)sent : -1;
}

static ssize_t link_recv(struct ctl_link *l, uint8_t *to, size_t n)
{
    size_t got = 0;
    if (l->ssl == NULL)
        return recv(l->fd, to, n, 0);
    errno = 0;
    if (SSL_read_ex(l->ssl, to, n, &got) == 1)
        return (ssize_t)got;
    if (SSL_get_error(l->ssl, 0) == SSL_ERROR_ZERO_RETURN)
        return 0;
    errno = errno != 0 ? errno : EPROTO;
    return -1;
}

/* ---- the whole ---------------------------------------------------------------------------------------------------------- */

struct ctl_link *link_open(const struct ctl *c, const struct client_url *url, char why[LINK_WHY])
{
    int fd = link_connect(url, c->timeout_s, why);
    if (fd < 0)
        return NULL;
    struct ctl_link *l = mqg_xcalloc(1, sizeof *l);
    l->fd = fd;
    sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, &l->pipe);
    if (url->tls && !tls_start(l, c, url, why))
        link_close(&l);
    return l;
}

void link_close(struct ctl_link **link)
{
    struct ctl_link *l = *link;
    *link = NULL;
    if (l == NULL)
        return;
    SSL_free(l->ssl);
    SSL_CTX_free(l->ctx);
    close(l->fd);
    sigaction(SIGPIPE, &l->pipe, NULL);
    free(l);
}

bool link_exchange(struct ctl_link *l, const struct mqg_dynbuf *request, struct mqg_dynbuf *response,
                   char why[LINK_WHY])
{
    for (size_t sent = 0; sent < request->len;) {
        ssize_t n = link_send(l, request->ptr + sent, request->len - sent);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            break; /* an early refusal may be waiting to be read */
        sent += (size_t)n;
    }
    for (;;) {
        uint8_t *room = mqg_dynbuf_reserve(response, LINK_READ_BYTES);
        ssize_t n = room != NULL ? link_recv(l, room, LINK_READ_BYTES) : -1;
        if (n < 0 && room != NULL && errno == EINTR)
            continue;
        if (n < 0 && response->len == 0) {
            snprintf(why, LINK_WHY, "%s",
                     room == NULL      ? "the answer is too large"
                     : errno == EAGAIN ? "no answer in time"
                                       : strerror(errno));
            return false;
        }
        if (n <= 0)
            return true;
        response->len += (size_t)n;
    }
}
