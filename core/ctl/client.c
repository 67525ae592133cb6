/* client.c - one request, one connection: a small blocking HTTP/1.1 client, over link.c.
 *
 * Each command makes one to three requests to a server on the same machine; a library would bring more than it saves. The
 * server closes after each answer (we ask it to), so a response is read to its end, within a bound, and taken apart at once. */
#include "ctl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    CLIENT_ANSWER_MAX_BYTES = 512 << 20,
    CLIENT_REQUEST_MAX_BYTES = 4 << 20,
    CLIENT_HEAD_MAX_BYTES = 64 << 10
};

/* ---- addresses ------------------------------------------------------------------------------------------------------------ */

bool client_url_parse(const char *url, struct client_url *out)
{
    static const char plain[] = "http://", tls[] = "https://";
    out->tls = strncmp(url, tls, sizeof tls - 1) == 0;
    if (!out->tls && strncmp(url, plain, sizeof plain - 1) != 0)
        return false;
    url += out->tls ? sizeof tls - 1 : sizeof plain - 1;
    bool bracket = *url == '[';
    const char *host = url + bracket;
    size_t len = strcspn(host, bracket ? "]" : ":/");
    const char *rest = host + len + bracket;
    if (len == 0 || len >= sizeof out->host || (bracket && host[len] != ']'))
        return false;
    memcpy(out->host, host, len);
    out->host[len] = '\0';
    snprintf(out->port, sizeof out->port, out->tls ? "15671" : "15672"); /* as RabbitMQ's */
    if (*rest == ':') {
        size_t digits = strspn(++rest, "0123456789");
        if (digits == 0 || digits > 5)
            return false;
        memcpy(out->port, rest, digits);
        out->port[digits] = '\0';
        rest += digits;
    }
    size_t base = strlen(rest);
    if ((*rest != '\0' && *rest != '/') || base >= sizeof out->base)
        return false;
    while (base > 0 && rest[base - 1] == '/')
        base--;
    memcpy(out->base, rest, base);
    out->base[base] = '\0';
    return true;
}

char *client_path(const char *first, ...)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-~";
    struct mqg_dynbuf out;
    va_list parts;
    mqg_dynbuf_init(&out, CLIENT_REQUEST_MAX_BYTES);
    va_start(parts, first);
    for (const char *part = first; part != NULL; part = va_arg(parts, const char *)) {
        if (out.len > 0)
            mqg_dynbuf_u8(&out, '/');
        for (; *part != '\0'; part++)
            if (strchr(plain, *part) != NULL)
                mqg_dynbuf_u8(&out, (uint8_t)*part);
            else
                mqg_dynbuf_printf(&out, "%%%02X", (unsigned char)*part);
    }
    va_end(parts);
    mqg_dynbuf_u8(&out, 0);
    MQG_ASSERT(!out.failed);
    return (char *)out.ptr;
}

/* ---- the request -------------------------------------------------------------------------------------------------------------- */

static void request_base64(struct mqg_dynbuf *out, struct mqg_slice in)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < in.len; i += 3) {
        size_t left = in.len - i;
        uint32_t v = (uint32_t)in.ptr[i] << 16 | (left > 1 ? (uint32_t)in.ptr[i + 1] << 8 : 0) |
                     (left > 2 ? in.ptr[i + 2] : 0);
        mqg_dynbuf_u8(out, (uint8_t)digits[v >> 18]);
        mqg_dynbuf_u8(out, (uint8_t)digits[v >> 12 & 63]);
        mqg_dynbuf_u8(out, left > 1 ? (uint8_t)digits[v >> 6 & 63] : '=');
        mqg_dynbuf_u8(out, left > 2 ? (uint8_t)digits[v & 63] : '=');
    }
}

/* A header's value holds no line ends. */
static void request_header(struct mqg_dynbuf *out, const char *name, const char *value)
{
    mqg_dynbuf_printf(out, "%s: ", name);
    for (; *value != '\0'; value++)
        mqg_dynbuf_u8(out, (unsigned char)*value < ' ' ? ' ' : (uint8_t)*value);
    mqg_dynbuf_put(out, "\r\n", 2);
}

static void request_make(struct mqg_dynbuf *out, const struct ctl *c, const struct client_url *url,
                         const char *method, const char *path, const json_t *body, const char *why)
{
    char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
    struct mqg_dynbuf login;
    mqg_dynbuf_init(&login, CLIENT_HEAD_MAX_BYTES);
    mqg_dynbuf_printf(&login, "%s:%s", c->user, c->password);
    mqg_dynbuf_printf(out, "%s %s/api/%s HTTP/1.1\r\n", method, url->base, path);
    mqg_dynbuf_printf(out, strchr(url->host, ':') ? "host: [%s]:%s\r\n" : "host: %s:%s\r\n", url->host,
                      url->port);
    mqg_dynbuf_printf(out, "connection: close\r\nauthorization: Basic ");
    request_base64(out, mqg_dynbuf_view(&login));
    mqg_dynbuf_printf(out, "\r\n");
    if (why != NULL)
        request_header(out, "x-reason", why);
    if (text != NULL)
        mqg_dynbuf_printf(out, "content-type: application/json\r\n");
    mqg_dynbuf_printf(out, "content-length: %zu\r\n\r\n", text != NULL ? strlen(text) : 0);
    if (text != NULL)
        mqg_dynbuf_put(out, text, strlen(text));
    mqg_dynbuf_fini(&login);
    free(text);
}

/* ---- the response ----------------------------------------------------------------------------------------------------------------- */

/* The value of a header in the head, lower case name; NULL when absent. */
static const char *response_header(const char *head, const char *name)
{
    size_t len = strlen(name);
    for (const char *line = strchr(head, '\n'); line != NULL; line = strchr(line, '\n')) {
        line++;
        if (strncasecmp(line, name, len) == 0 && line[len] == ':')
            return line + len + 1 + strspn(line + len + 1, " \t");
    }
    return NULL;
}

/* Moves the pieces together; false when the framing breaks. */
static bool response_unchunk(uint8_t *body, size_t len, size_t *out_len)
{
    size_t at = 0, to = 0;
    for (;;) {
        size_t size = 0, digits = 0;
        for (; at < len && digits < 8; digits++, at++) {
            unsigned ch = body[at], low = ch | 32;
            unsigned v = ch >= '0' && ch <= '9' ? ch - '0' : low >= 'a' && low <= 'f' ? low - 'a' + 10 : 99;
            if (v == 99)
                break;
            size = size << 4 | v;
        }
        const uint8_t *end = at < len ? memchr(body + at, '\n', len - at) : NULL;
        if (digits == 0 || end == NULL)
            return false;
        at = (size_t)(end - body) + 1;
        if (size == 0) {
            *out_len = to;
            return true;
        }
        if (len - at < size + 2)
            return false;
        memmove(body + to, body + at, size);
        to += size;
        at += size + 2;
    }
}

int client_response_parse(struct mqg_dynbuf *in, struct mqg_slice *body)
{
    int status = 0;
    *body = MQG_SLICE_NONE;
    mqg_dynbuf_u8(in, 0); /* the head is read as a string */
    if (in->failed || in->len < 13 || sscanf((const char *)in->ptr, "HTTP/1.%*1[01] %3d", &status) != 1 ||
        status < 100)
        return -1;
    char *end = strstr((char *)in->ptr, "\r\n\r\n");
    if (end == NULL)
        return -1;
    *end = '\0';
    uint8_t *at = (uint8_t *)end + 4;
    size_t len = in->len - 1 - (size_t)(at - in->ptr);
    const char *length = response_header((const char *)in->ptr, "content-length");
    const char *encoding = response_header((const char *)in->ptr, "transfer-encoding");
    if (encoding != NULL && strncasecmp(encoding, "chunked", 7) == 0) {
        if (!response_unchunk(at, len, &len))
            return -1;
    } else if (length != NULL) {
        unsigned long long said = strtoull(length, NULL, 10);
        if (said > len)
            return -1;
        len = (size_t)said;
    }
    *body = mqg_slice_of(at, len);
    return status;
}

/* ---- the whole ------------------------------------------------------------------------------------------------------------------------ */

static void answer_read(struct answer *a, struct mqg_dynbuf *response)
{
    struct mqg_slice body;
    int status = client_response_parse(response, &body);
    a->status = status > 0 ? status : 0;
    if (body.len > 0)
        a->json = json_loadb((const char *)body.ptr, body.len, JSON_ALLOW_NUL, NULL);
    json_t *reason = json_object_get(a->json, "reason");
    if (json_is_string(reason))
        snprintf(a->reason, sizeof a->reason, "%s", json_string_value(reason));
    else
        snprintf(a->reason, sizeof a->reason, "HTTP status %d", status);
}

static void client_unreachable(const struct ctl *c, const char *why)
{
    if (c->mute)
        return;
    if (c->rabbit)
        fprintf(stderr,
                "Error: unable to perform an operation on node '%s'. Please see diagnostics information and "
                "suggestions below.\n\n%s\n",
                c->url, why);
    else
        fprintf(stderr, "mqgatectl: %s: %s%s\n", c->url, why,
                strcmp(why, strerror(ECONNREFUSED)) == 0
                    ? ": no node is running there (or it listens elsewhere: see --url)"
                    : "");
}

void client_call(const struct ctl *c, const char *method, char *path, json_t *body, const char *why,
                 struct answer *out)
{
    struct mqg_dynbuf request, response;
    struct client_url url;
    char fault[LINK_WHY] = "not an address of the form http://host:port or https://host:port";
    *out = (struct answer){0};
    mqg_dynbuf_init(&request, CLIENT_REQUEST_MAX_BYTES);
    mqg_dynbuf_init(&response, CLIENT_ANSWER_MAX_BYTES);
    struct ctl_link *link = client_url_parse(c->url, &url) ? link_open(c, &url, fault) : NULL;
    if (link != NULL) {
        request_make(&request, c, &url, method, path, body, why);
        if (request.failed)
            snprintf(fault, sizeof fault, "the request is too large");
        else if (link_exchange(link, &request, &response, fault)) {
            answer_read(out, &response);
            snprintf(fault, sizeof fault, "the answer is not HTTP");
        }
        link_close(&link);
    }
    if (out->status == 0)
        client_unreachable(c, fault);
    mqg_dynbuf_fini(&request);
    mqg_dynbuf_fini(&response);
    json_decref(body);
    free(path);
}

void answer_fini(struct answer *a)
{
    json_decref(a->json);
    a->json = NULL;
}

bool client_good(const struct answer *a)
{
    return a->status >= 200 && a->status < 300;
}

const json_t *client_progress(const struct answer *a)
{
    const json_t *progress = a->status == 503 ? json_object_get(a->json, "progress") : NULL;
    return json_is_object(progress) ? progress : NULL;
}

int client_fault(const struct ctl *c, const struct answer *a)
{
    if (a->status == 0)
        return CTL_UNAVAILABLE; /* printed already */
    if (client_progress(a) != NULL)
        return ctl_error(c, CTL_STARTING, "%s", a->reason);
    int code = a->status == 401 || a->status == 403 ? CTL_DENIED
               : a->status >= 500                   ? CTL_UNAVAILABLE
                                                    : CTL_DATA;
    return ctl_error(c, code, "%s", a->reason);
}
