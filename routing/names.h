/* routing/names.h - names of objects: what is reserved, what the server makes up, and how they become
 * metadata keys. Internal to routing/. */
#ifndef MQG_ROUTING_NAMES_H
#define MQG_ROUTING_NAMES_H

#include <mqgate/base.h>
#include <mqgate/value.h>

enum { NAMES_MAX_BYTES = 255, NAMES_GENERATED_BYTES = 8 + 22, NAMES_KEY_MAX_BYTES = 1u << 20 };

/* "amq." at its start: the server's own. */
bool names_reserved(struct mqg_slice name);
/* "amq.gen-" and 22 base64url characters (132 random bits), NUL-terminated. */
void names_generate(char out[NAMES_GENERATED_BYTES + 1]);
/* Appends '/' (unless the buffer is empty) and the part, with every byte but [A-Za-z0-9._-] as %XX; so a part
 * never holds a
 * '/', and one part has one spelling. An empty part is written as nothing. */
void names_key_part(struct mqg_dynbuf *out, struct mqg_slice part);
/* RabbitMQ's word for a header value's type: "longstr", "signedint"... Static storage. */
const char *names_value_type(enum mqg_value_type type);

#endif
