/* proxyproto.h - the PROXY protocol header, versions 1 and 2. */
#ifndef MQG_IO_PROXYPROTO_H
#define MQG_IO_PROXYPROTO_H

#include <mqgate/base.h>

#define MQG_PROXY_HEADER_MAX 2048u

struct mqg_conn_info;

struct mqg_proxy {
    bool local; /* the proxy's own connection (health check): the addresses of the socket count */
    char src_host[64], dst_host[64];
    uint16_t src_port, dst_port;
    bool src_loopback;
};

/* Decodes a header at the front of `in`: OK with *used bytes, MORE while it is a proper beginning, MALFORMED, TOO_LARGE,
 * UNSUPPORTED with a text. A pure function. */
enum mqg_err mqg_proxy_decode(struct mqg_slice in, struct mqg_proxy *out, size_t *used, struct mqg_error *e);
/* The announced addresses become the connection's. */
void mqg_proxy_apply(const struct mqg_proxy *p, struct mqg_conn_info *info);

#endif
