/* echo_peer.h - a client for the loader's test. */
#ifndef TESTS_MODULES_ECHO_PEER_H
#define TESTS_MODULES_ECHO_PEER_H

#include <stdint.h>

struct event_base;

/* Connects to 127.0.0.1:port, sends, and reads to the end of the stream while the acceptor's base runs; what came must
 * be `expected`. */
void peer_talk(struct event_base *base, uint16_t port, const char *send, const char *expected);

#endif
