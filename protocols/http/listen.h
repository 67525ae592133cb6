/* listen.h - the sockets that the service listens on. */
#ifndef MQG_HTTP_LISTEN_H
#define MQG_HTTP_LISTEN_H

#include <mqgate/base.h>

enum { LISTEN_MAX = 8, LISTEN_NAME_BYTES = 80 };

struct http_listener {
    int fd;
    char name[LISTEN_NAME_BYTES]; /* "127.0.0.1:15672", "[::1]:15672": the port that was bound */
};

/* Binds "host:port[,host:port]" or nothing for "off". `asked`: the user gave the addresses; else one that this machine does not
 * have is left out. On a refusal nothing stays open, and the text names the key. */
enum mqg_err http_listen(const char *key, const char *addresses, bool asked,
                         struct http_listener out[LISTEN_MAX], size_t *n, struct mqg_error *e) MQG_MUST_CHECK;

#endif
