/* methods.h - every method of AMQP 0-9-1: struct, decoder, encoder, id, name, flags.
 *
 * The code is generated from methods.def by gen.py (amqp_methods.h in the build folder), so that structs,
 * decoders, encoders and names cannot disagree; wire_golden_test.c holds its bytes against those of another
 * encoder.
 *
 * For each method X ("basic_publish"):
 *
 *   struct amqp_X              the arguments; strings and tables are slices that the caller keeps alive
 *   amqp_X_decode(args, &m)    args is what follows class and method id. Fills m with slices into args; the
 *                              length must be exact. MQG_OK or MQG_MALFORMED (RabbitMQ answers 501 FRAME_ERROR
 *                              "cannot decode"; m is then without meaning). Tables are not looked into:
 *                              amqp_table_check() does. Unused bits are ignored.
 *   amqp_X_size(&m)            bytes of a method frame's payload: class id, method id, arguments
 *   amqp_X_write(p, &m)        writes exactly these; returns the place behind. A short string over 255 bytes is
 *                              our own bug and asserts: the caller cuts or refuses before.
 *   amqp_X_frame_size(&m)      the same as a whole frame, head and end octet included
 *   amqp_X_frame(p, channel, &m)
 *
 * All are pure: no state, no allocation, any thread. A method's id is class << 16 | method, as on the wire; it
 * is enum amqp_method (AMQP_BASIC_PUBLISH). AMQP_METHODS(X) and AMQP_METHOD_COUNT list them all, union amqp_any
 * holds any of them, amqp_any_decode / _size / _write take the id at run time (traces, tests). */
#ifndef MQGATE_AMQP_METHODS_DESCRIBED_H
#define MQGATE_AMQP_METHODS_DESCRIBED_H

#include "wire.h"

enum amqp_method_flag {
    AMQP_FROM_CLIENT = 0x01, /* a client may send it */
    AMQP_FROM_SERVER = 0x02, /* a server may send it */
    AMQP_SYNC = 0x04,        /* its sender waits for the answer */
    AMQP_CONTENT = 0x08,     /* a content header and body frames follow */
    AMQP_HAS_TABLE = 0x10,   /* an argument is a field table, to be checked */
};

struct amqp_method_info {
    uint32_t id;      /* class << 16 | method */
    uint16_t ordinal; /* place in AMQP_METHODS, 0 .. AMQP_METHOD_COUNT - 1: an index for tables of handlers */
    uint16_t flags;   /* enum amqp_method_flag */
    const char *name; /* "basic.get-ok" */
};

/* The row of a method, or NULL when there is none of that id. Static storage. */
const struct amqp_method_info *amqp_method_find(uint32_t id);
/* "basic.get-ok"; "unknown" when there is none. */
const char *amqp_method_name(uint32_t id);
/* "basic"; "unknown" when there is none. */
const char *amqp_class_name(uint16_t class_id);
static inline uint16_t amqp_method_class(uint32_t id)
{
    return (uint16_t)(id >> 16);
}

#include <amqp_methods.h>

#endif
