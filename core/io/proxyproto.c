/* proxyproto.c - the header by which a proxy tells whom it speaks for (PROXY protocol 1 and 2).
 *
 *   v1  "PROXY TCP4 192.0.2.1 192.0.2.2 51000 5672\r\n"                           at most 107 bytes
 *   v2  0d 0a 0d 0a 00 0d 0a 51 55 49 54 0a | ver:4 cmd:4 | family:4 proto:4 | length:2 | addresses | TLVs
 *
 * Strict, since what it says decides who counts as local: exactly one space, no leading zeros, addresses of the family
 * that was named, nothing unknown let through. TLVs are passed over. A connection without a header on a listener that
 * expects one is refused: else everybody could leave it out, or bring a forged one to a listener that does not. */
#include "proxyproto.h"

#include <mqgate/protocol.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>

static const uint8_t proxy_v2_magic[12] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d,
                                           0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};

enum { PROXY_V1_MAX = 107, PROXY_V2_HEAD = 16 };

static enum mqg_err proxy_bad(struct mqg_error *e, const char *what)
{
    return mqg_error_set(e, MQG_MALFORMED, 0, "PROXY header: %s", what);
}

/* ---- version 1 ------------------------------------------------------------------------------------------------------------ */

/* The next word, up to one space or the end; empty words are refused by whoever reads them. */
static struct mqg_slice proxy_word(struct mqg_cursor *c)
{
    size_t left = mqg_cursor_left(c);
    const uint8_t *space = left > 0 ? memchr(c->pos, ' ', left) : NULL;
    struct mqg_slice word = mqg_cursor_slice(c, space != NULL ? (size_t)(space - c->pos) : left);
    if (space != NULL)
        mqg_cursor_take(c, 1);
    return word;
}

static bool proxy_v1_port(struct mqg_slice s, uint16_t *out)
{
    uint32_t v = 0;
    if (s.len == 0 || s.len > 5 || (s.len > 1 && s.ptr[0] == '0'))
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return false;
        v = v * 10 + (uint32_t)(s.ptr[i] - '0');
    }
    *out = (uint16_t)v;
    return v <= UINT16_MAX;
}

/* Parsed and printed again, so that one address has one text. */
static bool proxy_v1_host(int family, struct mqg_slice s, char out[64], uint8_t raw[16])
{
    char text[64];
    if (s.len == 0 || s.len >= sizeof text)
        return false;
    memcpy(text, s.ptr, s.len);
    text[s.len] = '\0';
    return inet_pton(family, text, raw) == 1 && inet_ntop(family, raw, out, 64) != NULL;
}

static bool proxy_is_loopback(int family, const uint8_t *raw)
{
    static const uint8_t one[16] = {[15] = 1};
    return family == AF_INET ? raw[0] == 127 : memcmp(raw, one, sizeof one) == 0;
}

static enum mqg_err proxy_v1_line(struct mqg_slice line, struct mqg_proxy *out, struct mqg_error *e)
{
    struct mqg_cursor c = mqg_cursor_of(line);
    proxy_word(&c); /* "PROXY" */
    struct mqg_slice kind = proxy_word(&c);
    if (mqg_slice_eq(kind, MQG_SLICE_LIT("UNKNOWN"))) {
        out->local = true;
        return MQG_OK;
    }
    bool v4 = mqg_slice_eq(kind, MQG_SLICE_LIT("TCP4"));
    if (!v4 && !mqg_slice_eq(kind, MQG_SLICE_LIT("TCP6")))
        return proxy_bad(e, "neither TCP4, TCP6 nor UNKNOWN");
    int family = v4 ? AF_INET : AF_INET6;
    uint8_t src[16], dst[16];
    if (!proxy_v1_host(family, proxy_word(&c), out->src_host, src) ||
        !proxy_v1_host(family, proxy_word(&c), out->dst_host, dst))
        return proxy_bad(e, "not an address of its family");
    if (!proxy_v1_port(proxy_word(&c), &out->src_port) || !proxy_v1_port(proxy_word(&c), &out->dst_port) ||
        !mqg_cursor_done(&c) || line.ptr[line.len - 1] == ' ')
        return proxy_bad(e, "not two ports");
    out->src_loopback = proxy_is_loopback(family, src);
    return MQG_OK;
}

static enum mqg_err proxy_v1(struct mqg_slice in, struct mqg_proxy *out, size_t *used, struct mqg_error *e)
{
    size_t look = in.len < PROXY_V1_MAX ? in.len : PROXY_V1_MAX;
    const uint8_t *end = memchr(in.ptr, '\n', look);
    if (end == NULL)
        return look < PROXY_V1_MAX ? MQG_MORE : proxy_bad(e, "line longer than 107 bytes");
    size_t len = (size_t)(end - in.ptr);
    if (len < 7 || end[-1] != '\r')
        return proxy_bad(e, "line not ended by CR LF");
    *used = len + 1;
    return proxy_v1_line(mqg_slice_of(in.ptr, len - 1), out, e);
}

/* ---- version 2 ------------------------------------------------------------------------------------------------------------ */

static enum mqg_err proxy_v2_addresses(struct mqg_cursor *c, int family, struct mqg_proxy *out,
                                       struct mqg_error *e)
{
    size_t n = family == AF_INET ? 4 : 16;
    const uint8_t *src = mqg_cursor_take(c, n);
    const uint8_t *dst = mqg_cursor_take(c, n);
    out->src_port = mqg_cursor_be16(c);
    out->dst_port = mqg_cursor_be16(c);
    if (c->failed)
        return proxy_bad(e, "too short for its addresses");
    inet_ntop(family, src, out->src_host, sizeof out->src_host);
    inet_ntop(family, dst, out->dst_host, sizeof out->dst_host);
    out->src_loopback = proxy_is_loopback(family, src);
    return MQG_OK;
}

static enum mqg_err proxy_v2_body(uint8_t command, uint8_t kind, struct mqg_cursor *c, struct mqg_proxy *out,
                                  struct mqg_error *e)
{
    if (command == 0x20) {
        out->local = true;
        return MQG_OK;
    }
    if (command != 0x21)
        return mqg_error_set(e, MQG_UNSUPPORTED, 0, "PROXY header: version and command 0x%02x", command);
    if (kind == 0x11 || kind == 0x21)
        return proxy_v2_addresses(c, kind == 0x11 ? AF_INET : AF_INET6, out, e);
    if (kind != 0x00)
        return mqg_error_set(e, MQG_UNSUPPORTED, 0, "PROXY header: family and protocol 0x%02x", kind);
    out->local = true; /* unspecified */
    return MQG_OK;
}

static enum mqg_err proxy_v2(struct mqg_slice in, struct mqg_proxy *out, size_t *used, struct mqg_error *e)
{
    if (in.len < PROXY_V2_HEAD)
        return MQG_MORE;
    size_t len = mqg_be16(in.ptr + 14);
    if (PROXY_V2_HEAD + len > MQG_PROXY_HEADER_MAX)
        return mqg_error_set(e, MQG_TOO_LARGE, 0, "PROXY header: %zu bytes", len);
    if (in.len < PROXY_V2_HEAD + len)
        return MQG_MORE;
    *used = PROXY_V2_HEAD + len;
    struct mqg_cursor c = mqg_cursor_of(mqg_slice_of(in.ptr + PROXY_V2_HEAD, len));
    return proxy_v2_body(in.ptr[12], in.ptr[13], &c, out, e);
}

/* ---- both ------------------------------------------------------------------------------------------------------------------ */

static bool proxy_begins(struct mqg_slice in, const void *magic, size_t n)
{
    return memcmp(in.ptr, magic, in.len < n ? in.len : n) == 0;
}

enum mqg_err mqg_proxy_decode(struct mqg_slice in, struct mqg_proxy *out, size_t *used, struct mqg_error *e)
{
    *out = (struct mqg_proxy){.local = false};
    *used = 0;
    if (in.len == 0)
        return MQG_MORE;
    if (proxy_begins(in, "PROXY ", 6))
        return in.len < 6 ? MQG_MORE : proxy_v1(in, out, used, e);
    if (proxy_begins(in, proxy_v2_magic, sizeof proxy_v2_magic))
        return proxy_v2(in, out, used, e);
    return proxy_bad(e, "missing; this listener stands behind a proxy (listeners.proxy_protocol)");
}

void mqg_proxy_apply(const struct mqg_proxy *p, struct mqg_conn_info *info)
{
    if (p->local)
        return;
    snprintf(info->peer_host, sizeof info->peer_host, "%s", p->src_host);
    snprintf(info->host, sizeof info->host, "%s", p->dst_host);
    info->peer_port = p->src_port;
    info->port = p->dst_port;
    info->flags = (info->flags & ~(unsigned)MQG_CONN_LOOPBACK) | MQG_CONN_PROXIED;
    if (p->src_loopback)
        info->flags |= MQG_CONN_LOOPBACK;
}
