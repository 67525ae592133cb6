/* messages.h - one message in, a few messages out: what publish.c and get.c share. */
#ifndef MQG_HTTP_MESSAGES_H
#define MQG_HTTP_MESSAGES_H

#include "http.h"

/* All these keys are in the body; false: answered, naming those that are not. */
bool messages_keys(struct http_request *r, const char *const *keys, size_t n);
/* Publishes as the request's user and waits for the confirm. false: answered. */
bool messages_publish(struct http_request *r, struct mqg_slice vhost, const struct mqg_msg_parts *parts,
                      struct mqg_slice body, bool *routed);

#endif
