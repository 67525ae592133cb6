/* ws_upgrade.c - the HTTP request that opens a WebSocket (RFC 6455, 4.2), and its answer.
 *
 * There is no HTTP server here: one request, at most 8 KiB, 64 headers, each byte of it checked, no folding, no bare line
 * feeds, no body. What is not the one thing we want is answered with the status that says what would be right, and the
 * connection ends. The text is judged only when it is whole, but for its first bytes: what does not begin like a request
 * is not waited for. */
#include "ws_upgrade.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <strings.h>

#define WS_GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

struct upgrade_headers {
    struct mqg_slice key, version;
    unsigned hosts, keys, versions;
    bool upgrade, connection, body;
    bool wants_protocol;  /* the client named sub-protocols */
    size_t protocol_rank; /* the best of ours that it named */
};

/* ---- words ------------------------------------------------------------------------------------------------------------ */

static bool upgrade_is(struct mqg_slice s, const char *word)
{
    return s.len == strlen(word) && strncasecmp((const char *)s.ptr, word, s.len) == 0;
}

static bool upgrade_is_token(struct mqg_slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i];
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!alnum && (c == 0 || strchr("!#$%&'*+-.^_`|~", c) == NULL))
            return false;
    }
    return s.len > 0;
}

/* Visible bytes, spaces and tabs; bytes above 127 are opaque. */
static bool upgrade_is_value(struct mqg_slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((s.ptr[i] < ' ' && s.ptr[i] != '\t') || s.ptr[i] == 0x7f)
            return false;
    return true;
}

static struct mqg_slice upgrade_trim(struct mqg_slice s)
{
    while (s.len > 0 && (s.ptr[0] == ' ' || s.ptr[0] == '\t'))
        s = mqg_slice_of(s.ptr + 1, s.len - 1);
    while (s.len > 0 && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
        s.len--;
    return s;
}

/* The next word of a list with commas; false at its end. */
static bool upgrade_word(struct mqg_slice *list, struct mqg_slice *word)
{
    while (list->len > 0) {
        const uint8_t *comma = memchr(list->ptr, ',', list->len);
        size_t n = comma != NULL ? (size_t)(comma - list->ptr) : list->len;
        *word = upgrade_trim(mqg_slice_of(list->ptr, n));
        size_t skip = comma != NULL ? n + 1 : n;
        *list = mqg_slice_of(list->ptr + skip, list->len - skip);
        if (word->len > 0)
            return true;
    }
    return false;
}

static bool upgrade_lists(struct mqg_slice list, const char *wanted)
{
    struct mqg_slice word;
    while (upgrade_word(&list, &word))
        if (upgrade_is(word, wanted))
            return true;
    return false;
}

/* ---- headers ------------------------------------------------------------------------------------------------------------ */

static void upgrade_protocols(struct upgrade_headers *h, struct mqg_slice list,
                              const struct io_ws_rules *rules)
{
    struct mqg_slice word;
    h->wants_protocol = true;
    while (upgrade_word(&list, &word))
        for (size_t i = 0; rules->protocols != NULL && rules->protocols[i] != NULL; i++)
            if (i < h->protocol_rank && mqg_slice_eq(word, mqg_slice_str(rules->protocols[i])))
                h->protocol_rank = i;
}

static void upgrade_header(struct upgrade_headers *h, struct mqg_slice name, struct mqg_slice value,
                           const struct io_ws_rules *rules)
{
    if (upgrade_is(name, "host")) {
        h->hosts++;
    } else if (upgrade_is(name, "upgrade")) {
        h->upgrade |= upgrade_lists(value, "websocket");
    } else if (upgrade_is(name, "connection")) {
        h->connection |= upgrade_lists(value, "upgrade");
    } else if (upgrade_is(name, "sec-websocket-key")) {
        h->keys++;
        h->key = value;
    } else if (upgrade_is(name, "sec-websocket-version")) {
        h->versions++;
        h->version = value;
    } else if (upgrade_is(name, "sec-websocket-protocol")) {
        upgrade_protocols(h, value, rules);
    } else if (upgrade_is(name, "transfer-encoding") ||
               (upgrade_is(name, "content-length") && !upgrade_is(value, "0"))) {
        h->body = true;
    }
}

/* A line without its end; false when the text ends inside it or a line feed stands alone. */
static bool upgrade_line(struct mqg_slice *text, struct mqg_slice *line)
{
    const uint8_t *lf = text->len > 0 ? memchr(text->ptr, '\n', text->len) : NULL;
    if (lf == NULL || lf == text->ptr || lf[-1] != '\r')
        return false;
    *line = mqg_slice_of(text->ptr, (size_t)(lf - text->ptr) - 1);
    *text = mqg_slice_of(lf + 1, text->len - line->len - 2);
    return true;
}

static bool upgrade_headers(struct upgrade_headers *h, struct mqg_slice text, const struct io_ws_rules *rules)
{
    struct mqg_slice line;
    for (unsigned n = 0; upgrade_line(&text, &line); n++) {
        if (line.len == 0)
            return true;
        const uint8_t *colon = memchr(line.ptr, ':', line.len);
        if (colon == NULL || n >= WS_HEADERS_MAX)
            return false;
        struct mqg_slice name = mqg_slice_of(line.ptr, (size_t)(colon - line.ptr));
        struct mqg_slice value = upgrade_trim(mqg_slice_of(colon + 1, line.len - name.len - 1));
        if (!upgrade_is_token(name) || !upgrade_is_value(value))
            return false;
        upgrade_header(h, name, value, rules);
    }
    return false;
}

/* 16 bytes in base64: 22 digits and "==". */
static bool upgrade_key_fits(struct mqg_slice key)
{
    if (key.len != 24 || key.ptr[22] != '=' || key.ptr[23] != '=')
        return false;
    for (size_t i = 0; i < 22; i++) {
        uint8_t c = key.ptr[i];
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!alnum && c != '+' && c != '/')
            return false;
    }
    return true;
}

/* ---- the answer -------------------------------------------------------------------------------------------------------------- */

static enum mqg_err upgrade_refuse(struct io_ws_upgrade *out, int status, const char *phrase, const char *why)
{
    const char *more = status == 426   ? "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                       : status == 405 ? "Allow: GET\r\n"
                                       : "";
    int n = snprintf(out->answer, sizeof out->answer,
                     "HTTP/1.1 %d %s\r\nConnection: close\r\n%sContent-Type: text/plain\r\n"
                     "Content-Length: %zu\r\n\r\n%s\n",
                     status, phrase, more, strlen(why) + 1, why);
    MQG_ASSERT(n > 0 && (size_t)n < sizeof out->answer);
    out->status = status;
    out->why = why;
    out->answer_len = (size_t)n;
    return MQG_OK;
}

static void upgrade_accept_key(struct mqg_slice key, char out[32])
{
    uint8_t text[24 + sizeof WS_GUID - 1], digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    memcpy(text, key.ptr, 24);
    memcpy(text + 24, WS_GUID, sizeof WS_GUID - 1);
    int rc = EVP_Digest(text, sizeof text, digest, &len, EVP_sha1(), NULL);
    MQG_ASSERT(rc == 1 && len == 20);
    EVP_EncodeBlock((unsigned char *)out, digest, 20);
}

static enum mqg_err upgrade_accept(struct io_ws_upgrade *out, const struct upgrade_headers *h,
                                   const struct io_ws_rules *rules)
{
    char key[32];
    upgrade_accept_key(h->key, key);
    out->protocol = h->wants_protocol ? rules->protocols[h->protocol_rank] : NULL;
    int n = snprintf(out->answer, sizeof out->answer,
                     "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Accept: %s\r\n%s%s%s\r\n",
                     key, out->protocol != NULL ? "Sec-WebSocket-Protocol: " : "",
                     out->protocol != NULL ? out->protocol : "", out->protocol != NULL ? "\r\n" : "");
    MQG_ASSERT(n > 0 && (size_t)n < sizeof out->answer);
    out->status = 101;
    out->why = "";
    out->answer_len = (size_t)n;
    return MQG_OK;
}

static enum mqg_err upgrade_judge(struct io_ws_upgrade *out, const struct upgrade_headers *h,
                                  const struct io_ws_rules *rules)
{
    if (h->hosts != 1)
        return upgrade_refuse(out, 400, "Bad Request", "one Host header is needed");
    if (h->body)
        return upgrade_refuse(out, 400, "Bad Request", "the request must have no body");
    if (!h->upgrade || !h->connection)
        return upgrade_refuse(out, 426, "Upgrade Required",
                              "this is a WebSocket: Upgrade and Connection are needed");
    if (h->versions != 1 || !upgrade_is(h->version, "13"))
        return upgrade_refuse(out, 426, "Upgrade Required", "only version 13 of WebSocket is spoken here");
    if (h->keys != 1 || !upgrade_key_fits(h->key))
        return upgrade_refuse(out, 400, "Bad Request",
                              "one Sec-WebSocket-Key of 16 bytes in base64 is needed");
    if (h->wants_protocol && h->protocol_rank == SIZE_MAX)
        return upgrade_refuse(out, 400, "Bad Request", "none of the sub-protocols named is spoken here");
    return upgrade_accept(out, h, rules);
}

/* ---- the request ---------------------------------------------------------------------------------------------------------------- */

/* "GET /ws HTTP/1.1"; 0 when it is right, else the status. */
static int upgrade_request_line(struct mqg_slice line, const char *path)
{
    const uint8_t *first = memchr(line.ptr, ' ', line.len);
    if (first == NULL || !upgrade_is_token(mqg_slice_of(line.ptr, (size_t)(first - line.ptr))))
        return 400;
    struct mqg_slice rest = mqg_slice_of(first + 1, line.len - (size_t)(first - line.ptr) - 1);
    const uint8_t *second = rest.len > 0 ? memchr(rest.ptr, ' ', rest.len) : NULL;
    if (second == NULL || !upgrade_is_value(rest))
        return 400;
    struct mqg_slice target = mqg_slice_of(rest.ptr, (size_t)(second - rest.ptr));
    struct mqg_slice version = mqg_slice_of(second + 1, rest.len - target.len - 1);
    if (!mqg_slice_eq(version, MQG_SLICE_LIT("HTTP/1.1")))
        return 400;
    if (!mqg_slice_eq(mqg_slice_of(line.ptr, (size_t)(first - line.ptr)), MQG_SLICE_LIT("GET")))
        return 405;
    const uint8_t *query = target.len > 0 ? memchr(target.ptr, '?', target.len) : NULL;
    if (query != NULL)
        target.len = (size_t)(query - target.ptr);
    return mqg_slice_eq(target, mqg_slice_str(path)) ? 0 : 404;
}

/* A request begins with an upper-case word; anything else need not be waited for. */
static bool upgrade_hopeless(struct mqg_slice in)
{
    for (size_t i = 0; i < 16 && i < in.len; i++) {
        if (in.ptr[i] == ' ')
            return i == 0;
        if (in.ptr[i] < 'A' || in.ptr[i] > 'Z')
            return true;
    }
    return in.len >= 16;
}

enum mqg_err io_ws_upgrade(struct mqg_slice in, const struct io_ws_rules *rules, struct io_ws_upgrade *out,
                           size_t *used)
{
    *out = (struct io_ws_upgrade){.status = 0};
    *used = in.len;
    if (upgrade_hopeless(in))
        return upgrade_refuse(out, 400, "Bad Request", "this is a WebSocket: an HTTP request comes first");
    size_t look = in.len < WS_REQUEST_MAX ? in.len : WS_REQUEST_MAX;
    const uint8_t *end = look > 0 ? memmem(in.ptr, look, "\r\n\r\n", 4) : NULL;
    if (end == NULL && in.len < WS_REQUEST_MAX)
        return MQG_MORE;
    if (end == NULL)
        return upgrade_refuse(out, 431, "Request Header Fields Too Large", "at most 8 KiB of headers");
    *used = (size_t)(end - in.ptr) + 4;
    struct mqg_slice text = mqg_slice_of(in.ptr, *used), line;
    if (!upgrade_line(&text, &line))
        return upgrade_refuse(out, 400, "Bad Request", "the request line is malformed");
    int status = upgrade_request_line(line, rules->path);
    if (status == 404)
        return upgrade_refuse(out, 404, "Not Found", "there is nothing at this path");
    if (status == 405)
        return upgrade_refuse(out, 405, "Method Not Allowed", "only GET opens a WebSocket");
    struct upgrade_headers h = {.protocol_rank = SIZE_MAX};
    if (status != 0 || !upgrade_headers(&h, text, rules))
        return upgrade_refuse(out, 400, "Bad Request", "the request is malformed");
    return upgrade_judge(out, &h, rules);
}
