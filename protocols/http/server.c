/* server.c - the library's daemons, one per listening socket, and a request's way through them.
 *
 * The library calls back several times per request: when its head is there, for each piece of the body, when it is complete.
 * Bounds come first: the head lives in the library's memory limit, the body in a buffer with a maximum, so nobody makes us keep
 * more than a little. The library unescapes nothing for us: a vhost "/" is %2F in a path, and must not become a slash.
 *
 * The daemons run before the stores are read. What comes until the node is up is told how far the start is, by starting.c
 * alone: there is no model to look into yet. The port stays the same one, so nobody is turned away in between. */
#include "http.h"

#include "listen.h"

#include <mqgate/obs.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    SERVER_THREADS = 2,
    SERVER_CONNECTIONS = 256,
    SERVER_IDLE_S = 60,
    SERVER_HEAD_BYTES = 64 << 10,
    SERVER_DRAIN_BYTES = 16 << 20,
    SERVER_PEM_MAX_BYTES = 1 << 20,
};

struct server {
    struct MHD_Daemon *daemon;
    struct http_listener listener;
    bool tls;
};

static struct server servers[2 * LISTEN_MAX];
static size_t nservers;
static atomic_bool server_opened; /* the node is up */
static struct mqg_dynbuf server_cert, server_key;

/* ---- a request ------------------------------------------------------------------------------------------------------------ */

static struct http_request *request_new(struct MHD_Connection *mhd, const char *url)
{
    struct http_request *r = mqg_xcalloc(1, sizeof *r);
    r->mhd = mhd;
    r->url = mqg_xstrdup(url);
    r->early = !atomic_load(&server_opened);
    mqg_dynbuf_init(&r->body, HTTP_BODY_MAX_BYTES);
    mqg_dynbuf_init(&r->text, 16 << 20);
    return r;
}

static void request_free(struct http_request *r)
{
    json_decref(r->json);
    json_decref(r->reply);
    mqg_dynbuf_fini(&r->body);
    mqg_dynbuf_fini(&r->text);
    free(r->url);
    free(r);
}

static void request_completed(void *cls, struct MHD_Connection *mhd, void **con_cls,
                              enum MHD_RequestTerminationCode why)
{
    (void)cls;
    (void)mhd;
    (void)why;
    if (*con_cls != NULL)
        request_free(*con_cls);
    *con_cls = NULL;
}

static bool request_from_loopback(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    if (info == NULL || info->client_addr == NULL)
        return false;
    const struct sockaddr *sa = info->client_addr;
    struct sockaddr_in in4;
    struct sockaddr_in6 in6;
    if (sa->sa_family == AF_INET) {
        memcpy(&in4, sa, sizeof in4);
        return ntohl(in4.sin_addr.s_addr) >> 24 == 127;
    }
    if (sa->sa_family != AF_INET6)
        return false;
    memcpy(&in6, sa, sizeof in6);
    return IN6_IS_ADDR_LOOPBACK(&in6.sin6_addr) ||
           (IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr) && in6.sin6_addr.s6_addr[12] == 127);
}

/* ---- the answer ------------------------------------------------------------------------------------------------------------- */

static struct MHD_Response *response_of(struct http_request *r)
{
    if (r->text_type != NULL)
        return MHD_create_response_from_buffer(r->text.len, r->text.ptr, MHD_RESPMEM_MUST_COPY);
    if (r->reply == NULL)
        return MHD_create_response_from_buffer(0, (void *)(uintptr_t) "", MHD_RESPMEM_PERSISTENT);
    char *text = json_dumps(r->reply, JSON_COMPACT | JSON_ENCODE_ANY);
    MQG_ASSERT(text != NULL);
    return MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE);
}

static enum MHD_Result response_send(struct http_request *r)
{
    struct MHD_Response *response = response_of(r);
    if (response == NULL)
        return MHD_NO;
    if (r->text_type != NULL || r->reply != NULL)
        MHD_add_response_header(response, "content-type",
                                r->text_type != NULL ? r->text_type : "application/json");
    MHD_add_response_header(response, "cache-control", "no-cache");
    MHD_add_response_header(response, "x-content-type-options", "nosniff");
    if (r->early)
        MHD_add_response_header(response, "retry-after", "1");
    if (r->status == 401 && r->user[0] == '\0')
        MHD_add_response_header(response, "www-authenticate", "Basic realm=\"mqgate management\"");
    if (r->location[0] != '\0')
        MHD_add_response_header(response, "location", r->location);
    if (r->allow[0] != '\0')
        MHD_add_response_header(response, "allow", r->allow);
    enum MHD_Result result = MHD_queue_response(r->mhd, r->status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result response_refuse(struct http_request *r, unsigned status, const char *error,
                                       const char *reason)
{
    http_reply_error(r, status, error, "%s", reason);
    return response_send(r);
}

/* ---- the library's call backs -------------------------------------------------------------------------------------------------- */

static bool server_method(struct http_request *r, const char *word)
{
    static const struct {
        const char *word;
        enum http_method method;
    } words[] = {{"GET", HTTP_GET},
                 {"HEAD", HTTP_GET},
                 {"PUT", HTTP_PUT},
                 {"POST", HTTP_POST},
                 {"DELETE", HTTP_DELETE}};
    for (size_t i = 0; i < MQG_COUNTOF(words); i++)
        if (strcmp(word, words[i].word) == 0)
            r->method = words[i].method;
    r->head = strcmp(word, "HEAD") == 0;
    return r->method != 0;
}

/* Faults of the request line are answered before the body is read; the library then closes. A body that is too large is read
 * and dropped instead, up to a bound: a client that still writes would not see the answer. */
static enum MHD_Result server_head(struct http_request *r, const char *method)
{
    const char *length = MHD_lookup_connection_value(r->mhd, MHD_HEADER_KIND, "content-length");
    if (strlen(r->url) > HTTP_URL_MAX_BYTES)
        return response_refuse(r, 414, "uri_too_long", "the path is longer than 8192 bytes");
    if (!server_method(r, method))
        return response_refuse(r, 501, "not_implemented", "method not implemented");
    r->loopback = request_from_loopback(r->mhd);
    r->too_large = length != NULL && strtoull(length, NULL, 10) > HTTP_BODY_MAX_BYTES;
    if (!r->early)
        http_login(r); /* whoever is nobody makes us keep nothing */
    return MHD_YES;
}

static enum MHD_Result server_access(void *cls, struct MHD_Connection *mhd, const char *url,
                                     const char *method, const char *version, const char *data,
                                     size_t *data_bytes, void **con_cls)
{
    (void)cls;
    (void)version;
    struct http_request *r = *con_cls;
    if (r == NULL) {
        *con_cls = r = request_new(mhd, url);
        return server_head(r, method);
    }
    if (*data_bytes > 0) {
        r->received += *data_bytes;
        if (!r->too_large && r->user[0] != '\0')
            r->too_large = !mqg_dynbuf_put(&r->body, data, *data_bytes);
        *data_bytes = 0;
        return r->received <= SERVER_DRAIN_BYTES ? MHD_YES : MHD_NO;
    }
    if (r->status != 0)
        return MHD_YES; /* answered already */
    if (r->too_large && r->user[0] != '\0')
        return response_refuse(r, 413, "payload_too_large", "the body is larger than 1 MiB");
    http_handle(r);
    return response_send(r);
}

static size_t server_unescape(void *cls, struct MHD_Connection *mhd, char *s)
{
    (void)cls;
    (void)mhd;
    return strlen(s);
}

MQG_PRINTF(2, 0) static void server_log(void *cls, const char *fmt, va_list args)
{
    char text[256];
    (void)cls;
    vsnprintf(text, sizeof text, fmt, args);
    text[strcspn(text, "\n")] = '\0';
    mqg_log(MQG_LOG_DEBUG, MQG_EVENT_ADMIN, "service=http text=%s", mqg_logqs(text));
}

/* ---- start and stop --------------------------------------------------------------------------------------------------------------- */

static enum mqg_err server_pem(const struct mqg_conf *conf, const char *key, struct mqg_dynbuf *out,
                               struct mqg_error *e)
{
    const char *path = mqg_conf_str(conf, "tls", key);
    char piece[4096];
    size_t n;
    FILE *f = fopen(path, "re");
    mqg_dynbuf_reset(out);
    if (f == NULL)
        return mqg_error_set(e, MQG_IO, 0, "listeners.https needs tls.%s: cannot read '%s'", key, path);
    while ((n = fread(piece, 1, sizeof piece, f)) > 0)
        mqg_dynbuf_put(out, piece, n);
    fclose(f);
    if (mqg_dynbuf_u8(out, 0)) /* the library wants strings */
        return MQG_OK;
    return mqg_error_set(e, MQG_TOO_LARGE, 0, "tls.%s: '%s' is larger than 1 MiB", key, path);
}

static struct MHD_Daemon *server_daemon(const struct server *s)
{
    const unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_EPOLL | MHD_USE_ERROR_LOG | MHD_USE_ITC;
    struct MHD_OptionItem tls[] = {
        {MHD_OPTION_HTTPS_MEM_CERT, 0, server_cert.ptr},
        {MHD_OPTION_HTTPS_MEM_KEY, 0, server_key.ptr},
        {MHD_OPTION_END, 0, NULL},
    };
    struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}};
    return MHD_start_daemon(flags | (s->tls ? MHD_USE_TLS : 0), 0, NULL, NULL, server_access, NULL,
                            MHD_OPTION_EXTERNAL_LOGGER, server_log, NULL,                  //
                            MHD_OPTION_LISTEN_SOCKET, s->listener.fd,                      //
                            MHD_OPTION_THREAD_POOL_SIZE, (unsigned)SERVER_THREADS,         //
                            MHD_OPTION_CONNECTION_LIMIT, (unsigned)SERVER_CONNECTIONS,     //
                            MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)SERVER_IDLE_S,        //
                            MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)SERVER_HEAD_BYTES, //
                            MHD_OPTION_NOTIFY_COMPLETED, request_completed, NULL,          //
                            MHD_OPTION_UNESCAPE_CALLBACK, server_unescape, NULL,           //
                            MHD_OPTION_ARRAY, s->tls ? tls : none, MHD_OPTION_END);
}

static enum mqg_err server_open(const struct mqg_conf *conf, const char *key, bool tls, struct mqg_error *e)
{
    struct http_listener listeners[LISTEN_MAX];
    size_t n = 0;
    enum mqg_err err = http_listen(key, mqg_conf_str(conf, "listeners", key),
                                   mqg_conf_given(conf, "listeners", key), listeners, &n, e);
    if (err != MQG_OK || n == 0)
        return err;
    if (tls && MHD_is_feature_supported(MHD_FEATURE_TLS) != MHD_YES)
        err = mqg_error_set(e, MQG_UNSUPPORTED, 0, "listeners.%s: this libmicrohttpd was built without TLS",
                            key);
    else if (tls && (err = server_pem(conf, "cert", &server_cert, e)) == MQG_OK)
        err = server_pem(conf, "key", &server_key, e);
    for (size_t i = 0; i < n; i++) {
        struct server *s = &servers[nservers];
        *s = (struct server){.listener = listeners[i], .tls = tls};
        if (err == MQG_OK && (s->daemon = server_daemon(s)) == NULL)
            err = mqg_error_set(e, MQG_IO, 0, "listeners.%s: cannot start the service on %s", key,
                                s->listener.name);
        if (err == MQG_OK)
            nservers++;
        else
            close(s->listener.fd);
    }
    return err;
}

enum mqg_err http_prepare(const struct mqg_conf *conf, struct mqg_error *e)
{
    nservers = 0;
    atomic_store(&server_opened, false);
    mqg_dynbuf_init(&server_cert, SERVER_PEM_MAX_BYTES);
    mqg_dynbuf_init(&server_key, SERVER_PEM_MAX_BYTES);
    enum mqg_err err = server_open(conf, "http", false, e);
    if (err == MQG_OK)
        err = server_open(conf, "https", true, e);
    if (err != MQG_OK)
        http_stop();
    for (size_t i = 0; i < nservers; i++)
        mqg_log(MQG_LOG_INFO, MQG_EVENT_LISTEN, "listener=%s address=%s answers=status",
                servers[i].tls ? "https" : "http", servers[i].listener.name);
    return err;
}

enum mqg_err http_start(const struct mqg_conf *conf, struct mqg_error *e)
{
    (void)conf;
    (void)e;
    atomic_store(&server_opened, true);
    return MQG_OK;
}

void http_stop(void)
{
    for (size_t i = 0; i < nservers; i++)
        MHD_stop_daemon(servers[i].daemon); /* closes the socket, waits for the threads */
    nservers = 0;
    mqg_dynbuf_fini(&server_cert);
    mqg_dynbuf_fini(&server_key);
}

void http_describe(struct mqg_dynbuf *out)
{
    const char *const words[] = {"http=", "https="};
    bool any = false;
    for (size_t kind = 0; kind < MQG_COUNTOF(words); kind++) {
        bool first = true;
        for (size_t i = 0; i < nservers; i++) {
            if (servers[i].tls != (kind == 1))
                continue;
            if (first)
                mqg_dynbuf_printf(out, "%s%s", any ? " " : "", words[kind]);
            mqg_dynbuf_printf(out, "%s%s", first ? "" : ",", servers[i].listener.name);
            first = false;
            any = true;
        }
    }
}
