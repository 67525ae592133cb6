/* tls.c - TLS by OpenSSL, as a filter at the bottom of a connection's stack.
 *
 * OpenSSL reads and writes the socket itself, non-blocking. Output is gathered into records of up to 16 KiB, since a
 * chain of small pieces would become a record each; a write that could not complete is retried with the same bytes,
 * because the chain keeps them at its head. Buffers are released when idle (34 KiB less for each quiet connection).
 *
 * The context is replaced whole at a reload. New connections take the new one; the old one lives until its last
 * connection has gone. */
#include "tls.h"

#include <mqgate/protocol.h>

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { TLS_RECORD_BYTES = 16384 };

static pthread_mutex_t tls_lock = PTHREAD_MUTEX_INITIALIZER;
static SSL_CTX *tls_context;

/* ---- context -------------------------------------------------------------------------------------------------------------- */

static enum mqg_err tls_refuse(struct mqg_error *e, const struct mqg_conf *conf, const char *key)
{
    char reason[256] = "";
    unsigned long code = ERR_get_error();
    if (code != 0)
        ERR_error_string_n(code, reason, sizeof reason);
    ERR_clear_error();
    return mqg_error_set(e, MQG_INVALID, 0, "%s: tls.%s=%s cannot be used: %s",
                         mqg_conf_where(conf, "tls", key), key, mqg_conf_str(conf, "tls", key),
                         reason[0] != '\0' ? reason : "no reason given");
}

static bool tls_has(const struct mqg_conf *conf, const char *key)
{
    const char *value = mqg_conf_str(conf, "tls", key);
    return value != NULL && *value != '\0';
}

static enum mqg_err tls_set_identity(SSL_CTX *ctx, const struct mqg_conf *conf, struct mqg_error *e)
{
    if (!tls_has(conf, "key"))
        return mqg_error_set(e, MQG_INVALID, 0, "%s: tls.cert needs tls.key, its private key",
                             mqg_conf_where(conf, "tls", "cert"));
    if (SSL_CTX_use_certificate_chain_file(ctx, mqg_conf_str(conf, "tls", "cert")) != 1)
        return tls_refuse(e, conf, "cert");
    if (SSL_CTX_use_PrivateKey_file(ctx, mqg_conf_str(conf, "tls", "key"), SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(ctx) != 1)
        return tls_refuse(e, conf, "key");
    return MQG_OK;
}

static enum mqg_err tls_set_verify(SSL_CTX *ctx, const struct mqg_conf *conf, struct mqg_error *e)
{
    int64_t verify = mqg_conf_int(conf, "tls", "verify"); /* none optional required */
    if (verify == 0)
        return MQG_OK;
    if (!tls_has(conf, "ca"))
        return mqg_error_set(e, MQG_INVALID, 0, "%s: tls.verify needs tls.ca, who signs client certificates",
                             mqg_conf_where(conf, "tls", "verify"));
    const char *ca = mqg_conf_str(conf, "tls", "ca");
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(ca);
    if (names == NULL || SSL_CTX_load_verify_locations(ctx, ca, NULL) != 1) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return tls_refuse(e, conf, "ca");
    }
    SSL_CTX_set_client_CA_list(ctx, names);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | (verify == 2 ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), NULL);
    return MQG_OK;
}

static SSL_CTX *tls_context_new(void)
{
    static const unsigned char id[] = "mqgate";
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    MQG_ASSERT(ctx != NULL);
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_session_id_context(ctx, id, sizeof id - 1);
    return ctx;
}

static SSL_CTX *tls_swap(SSL_CTX *ctx)
{
    pthread_mutex_lock(&tls_lock);
    SSL_CTX *old = tls_context;
    tls_context = ctx;
    pthread_mutex_unlock(&tls_lock);
    return old;
}

enum mqg_err io_tls_load(const struct mqg_conf *conf, struct mqg_error *e)
{
    if (!tls_has(conf, "cert")) {
        if (tls_has(conf, "key"))
            return mqg_error_set(e, MQG_INVALID, 0, "%s: tls.key needs tls.cert, its certificate",
                                 mqg_conf_where(conf, "tls", "key"));
        SSL_CTX_free(tls_swap(NULL));
        return MQG_OK;
    }
    SSL_CTX *ctx = tls_context_new();
    enum mqg_err err = tls_set_identity(ctx, conf, e);
    if (err == MQG_OK)
        err = tls_set_verify(ctx, conf, e);
    SSL_CTX_free(err == MQG_OK ? tls_swap(ctx) : ctx);
    return err;
}

void io_tls_unload(void)
{
    SSL_CTX_free(tls_swap(NULL));
}

bool io_tls_ready(void)
{
    pthread_mutex_lock(&tls_lock);
    bool ready = tls_context != NULL;
    pthread_mutex_unlock(&tls_lock);
    return ready;
}

/* ---- filter ------------------------------------------------------------------------------------------------------------------ */

struct tls_filter {
    struct io_filter filter;
    SSL *ssl;
    int fd;
    bool more; /* bytes were read ahead that the socket will not announce */
};

static struct tls_filter *tls_of(struct io_filter *f)
{
    return MQG_CONTAINER_OF(f, struct tls_filter, filter);
}

/* OpenSSL's outcome as readv's: 0 end, -1 with errno. */
static ssize_t tls_outcome(struct tls_filter *t, int rc)
{
    int saved = errno;
    int why = SSL_get_error(t->ssl, rc);
    ERR_clear_error();
    t->filter.wants_write = why == SSL_ERROR_WANT_WRITE;
    switch (why) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE: errno = EAGAIN; return -1;
    case SSL_ERROR_ZERO_RETURN: return 0;
    case SSL_ERROR_SYSCALL: errno = saved != 0 ? saved : ECONNRESET; return -1;
    default: errno = EPROTO; return -1;
    }
}

static ssize_t tls_read(struct io_filter *f, void *buf, size_t n)
{
    struct tls_filter *t = tls_of(f);
    size_t got = 0;
    f->wants_write = t->more = false;
    while (got < n) {
        ERR_clear_error();
        errno = 0;
        int rc = SSL_read(t->ssl, (char *)buf + got, n - got > INT32_MAX ? INT32_MAX : (int)(n - got));
        if (rc <= 0) {
            t->more = false;
            return got > 0 ? (ssize_t)got : tls_outcome(t, rc);
        }
        got += (size_t)rc;
        t->more = SSL_has_pending(t->ssl) == 1; /* a whole record, or a part of one: the next read tells */
        if (!t->more)
            break;
    }
    return (ssize_t)got;
}

/* Small pieces are copied into one record; a first piece that fills a record goes as it is. */
static size_t tls_gather(const struct iovec *iov, int n, uint8_t *record, const uint8_t **from)
{
    if (n > 0 && iov[0].iov_len >= TLS_RECORD_BYTES) {
        *from = iov[0].iov_base;
        return TLS_RECORD_BYTES;
    }
    size_t len = 0;
    for (int i = 0; i < n && len < TLS_RECORD_BYTES; i++) {
        size_t take = iov[i].iov_len < TLS_RECORD_BYTES - len ? iov[i].iov_len : TLS_RECORD_BYTES - len;
        memcpy(record + len, iov[i].iov_base, take);
        len += take;
    }
    *from = record;
    return len;
}

static void tls_skip(struct iovec **at, int *n, size_t sent)
{
    for (; *n > 0 && sent >= (*at)->iov_len; (*at)++, (*n)--)
        sent -= (*at)->iov_len;
    if (*n > 0) {
        (*at)->iov_base = (char *)(*at)->iov_base + sent;
        (*at)->iov_len -= sent;
    }
}

static ssize_t tls_writev(struct io_filter *f, const struct iovec *iov, int n)
{
    struct tls_filter *t = tls_of(f);
    uint8_t record[TLS_RECORD_BYTES];
    struct iovec left[64], *at = left;
    MQG_ASSERT(n <= (int)MQG_COUNTOF(left));
    memcpy(left, iov, (size_t)n * sizeof *iov);
    ssize_t sent = 0;
    while (n > 0) {
        const uint8_t *from;
        size_t len = tls_gather(at, n, record, &from);
        if (len == 0)
            break;
        ERR_clear_error();
        errno = 0;
        int rc = SSL_write(t->ssl, from, (int)len);
        if (rc <= 0)
            return sent > 0 ? sent : tls_outcome(t, rc);
        sent += rc;
        tls_skip(&at, &n, (size_t)rc);
    }
    return sent;
}

static bool tls_pending(const struct io_filter *f)
{
    return ((const struct tls_filter *)(const void *)f)->more;
}

static enum mqg_err tls_handshake(struct io_filter *f, struct mqg_error *e)
{
    struct tls_filter *t = tls_of(f);
    ERR_clear_error();
    int rc = SSL_accept(t->ssl);
    f->wants_write = false;
    t->more = rc == 1 && SSL_has_pending(t->ssl) == 1;
    if (rc == 1)
        return MQG_OK;
    int why = SSL_get_error(t->ssl, rc);
    f->wants_write = why == SSL_ERROR_WANT_WRITE;
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
        return MQG_AGAIN;
    char reason[256] = "the peer went away";
    unsigned long code = ERR_get_error();
    if (code != 0)
        ERR_error_string_n(code, reason, sizeof reason);
    ERR_clear_error();
    return mqg_error_set(e, MQG_UNAUTHENTICATED, 0, "TLS handshake: %s", reason);
}

static void tls_shutdown(struct io_filter *f)
{
    struct tls_filter *t = tls_of(f);
    ERR_clear_error();
    if (SSL_is_init_finished(t->ssl))
        SSL_shutdown(t->ssl);
    ERR_clear_error();
    shutdown(t->fd, SHUT_WR);
}

static void tls_free(struct io_filter *f)
{
    SSL_free(tls_of(f)->ssl);
    free(tls_of(f));
}

static const struct io_filter_ops tls_filter_ops = {
    .name = "tls",
    .read = tls_read,
    .writev = tls_writev,
    .pending = tls_pending,
    .handshake = tls_handshake,
    .shutdown = tls_shutdown,
    .free = tls_free,
};

static SSL *tls_ssl_new(int fd)
{
    pthread_mutex_lock(&tls_lock);
    SSL *ssl = tls_context != NULL ? SSL_new(tls_context) : NULL;
    pthread_mutex_unlock(&tls_lock);
    if (ssl != NULL && SSL_set_fd(ssl, fd) == 1) {
        SSL_set_accept_state(ssl);
        return ssl;
    }
    SSL_free(ssl);
    return NULL;
}

struct io_filter *io_tls_filter_new(int fd)
{
    SSL *ssl = tls_ssl_new(fd);
    if (ssl == NULL)
        return NULL;
    struct tls_filter *t = mqg_xcalloc(1, sizeof *t);
    t->filter.ops = &tls_filter_ops;
    t->ssl = ssl;
    t->fd = fd;
    return &t->filter;
}

/* ---- who is there ------------------------------------------------------------------------------------------------------------- */

/* The first common name; one with a NUL inside or over its room counts as none. */
static void tls_common_name(X509_NAME *name, char *out, size_t room)
{
    int at = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
    X509_NAME_ENTRY *entry = at >= 0 ? X509_NAME_get_entry(name, at) : NULL;
    unsigned char *utf8 = NULL;
    int len = entry != NULL ? ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(entry)) : -1;
    if (len > 0 && (size_t)len < room && memchr(utf8, '\0', (size_t)len) == NULL) {
        memcpy(out, utf8, (size_t)len);
        out[len] = '\0';
    }
    OPENSSL_free(utf8);
}

static void tls_subject(X509_NAME *name, char *out, size_t room)
{
    BIO *bio = BIO_new(BIO_s_mem());
    if (bio != NULL &&
        X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB) >= 0) {
        int n = BIO_read(bio, out, (int)room - 1);
        out[n > 0 ? n : 0] = '\0';
    }
    BIO_free(bio);
}

void io_tls_filter_info(struct io_filter *f, struct mqg_conn_info *info)
{
    while (f != NULL && f->ops != &tls_filter_ops)
        f = f->below;
    if (f == NULL)
        return;
    SSL *ssl = tls_of(f)->ssl;
    snprintf(info->tls_protocol, sizeof info->tls_protocol, "%s", SSL_get_version(ssl));
    snprintf(info->tls_cipher, sizeof info->tls_cipher, "%s", SSL_get_cipher_name(ssl));
    X509 *cert = SSL_get1_peer_certificate(ssl);
    if (cert != NULL && SSL_get_verify_result(ssl) == X509_V_OK) {
        tls_common_name(X509_get_subject_name(cert), info->cert_subject_cn, sizeof info->cert_subject_cn);
        tls_subject(X509_get_subject_name(cert), info->cert_subject, sizeof info->cert_subject);
    }
    X509_free(cert);
}
