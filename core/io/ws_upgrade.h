/* ws_upgrade.h - the HTTP request that opens a WebSocket, as a pure function; private to the core. */
#ifndef MQG_IO_WS_UPGRADE_H
#define MQG_IO_WS_UPGRADE_H

#include <mqgate/base.h>

#define WS_REQUEST_MAX 8192u /* bytes of request line and headers */
#define WS_HEADERS_MAX 64u
#define WS_ANSWER_MAX  512u

/* What a listener takes. Static while any of its connections lives. */
struct io_ws_rules {
    const char *path;             /* "/ws"; a query behind it is ignored */
    const char *const *protocols; /* sub-protocols that may be chosen, best first, NULL at the end */
    bool text;                    /* text messages are taken, and answered with text; else binary only */
};

struct io_ws_upgrade {
    int status;           /* 101, or why not: 400, 404, 405, 426, 431 */
    const char *why;      /* for the log; static */
    const char *protocol; /* chosen, from the rules; NULL: the client named none */
    size_t answer_len;
    char answer[WS_ANSWER_MAX];
};

/* Reads a request whole. MQG_MORE: it is not all there. OK: out is filled and *used are the request's bytes; status says
 * whether the connection goes on. RFC 6455, 4.2; RFC 9112 for the form of it. */
enum mqg_err io_ws_upgrade(struct mqg_slice in, const struct io_ws_rules *rules, struct io_ws_upgrade *out,
                           size_t *used) MQG_MUST_CHECK;

#endif
