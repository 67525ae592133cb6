/* sasl.h - what conn.c and request.c ask of a connection's SASL login. */
#ifndef KAFKA_SASL_H
#define KAFKA_SASL_H

#include "kafka.h"

/* After SaslHandshake v0 frames are tokens, without a request's head, until the login is done. */
bool kafka_sasl_is_raw(const struct kafka_conn *kc);
/* Takes such a token and answers it. */
void kafka_sasl_raw(struct kafka_conn *kc, struct mqg_slice token);
/* Has the login's time run out (kafka.sasl_lifetime)? Only a new login is served then. */
bool kafka_sasl_expired(const struct kafka_conn *kc);

#endif
