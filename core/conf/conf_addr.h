/* conf_addr.h - addresses to listen on, as text; private to the core. */
#ifndef MQG_CONF_ADDR_H
#define MQG_CONF_ADDR_H

#include <mqgate/base.h>

#define CONF_ADDR_MAX 8

struct conf_addr {
    char host[256]; /* without brackets */
    uint16_t port;
};

/* "host:port[,host:port]", at most CONF_ADDR_MAX; "off" gives none. false when it is neither. */
bool conf_addr_parse(const char *text, struct conf_addr list[CONF_ADDR_MAX], size_t *n);

#endif
