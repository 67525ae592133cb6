/* echo.h - a protocol for the tests of core/io: lines come back, and a few words do something. */
#ifndef MQG_IO_ECHO_H
#define MQG_IO_ECHO_H

#include <mqgate/protocol.h>

/* What the handlers saw, for asserts; counted over all connections. */
extern _Atomic int echo_inits, echo_finis, echo_lines, echo_writable, echo_blocked, echo_unblocked,
    echo_kills, echo_drains;

extern const struct mqg_protocol_ops echo_ops;

#endif
