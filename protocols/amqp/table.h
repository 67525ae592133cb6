/* table.h - AMQP field tables and arrays (specification part 2, 4.2.5.5), with every type that RabbitMQ
 * knows.
 *
 * A table on the wire is a long length and this content; "table" below always means the content alone,
 * without the length before it, as the method and property decoders hand it out:
 *
 *   table = *( shortstr name, octet type, value )        array = *( octet type, value )
 *
 *   type  value              MQG_VALUE_       type  value               MQG_VALUE_
 *   t     octet, 0 is false  BOOL             d     double, 8 octets    DOUBLE
 *   b     int8               INT8             D     scale octet, int32  DECIMAL
 *   B     uint8              UINT8            S     long length, bytes  STRING
 *   s     int16              INT16            x     long length, bytes  BYTES
 *   u     uint16             UINT16           T     uint64, seconds     TIMESTAMP (us)
 *   I     int32              INT32            A     long length, array  ARRAY
 *   i     uint32             UINT32           F     long length, table  TABLE
 *   l, L  int64              INT64            V     none                NULL
 *   f     float, 4 octets    FLOAT
 *
 * These letters are RabbitMQ's, which differ from the specification's ('s' is no short string, 'L' is
 * signed): its errata page says so, and all clients follow it.
 *
 * Three ways to read one, from cheap to dear: find or iterate over one level without allocating; check the
 * whole without allocating; decode the whole into an arena. Whatever enters from a peer is checked once
 * (methods with AMQP_HAS_TABLE; properties by amqp_props_scan); find and iterate are safe on unchecked bytes
 * too. */
#ifndef MQGATE_AMQP_TABLE_H
#define MQGATE_AMQP_TABLE_H

#include "wire.h"
#include <mqgate/value.h>

/* ---- one level, no allocation ------------------------------------------------------------------------- */

/* A value as it lies on the wire. */
struct amqp_value {
    uint8_t type;         /* the letter; 0: none */
    struct mqg_slice raw; /* the value's bytes; for S x A F without the length before them */
};

/* Reads name by name. Start with amqp_table_iter_of or amqp_array_iter_of; an array's names are empty. */
struct amqp_table_iter {
    struct mqg_cursor cursor;
    bool array;
    struct mqg_slice name;
    struct amqp_value value;
};

static inline struct amqp_table_iter amqp_table_iter_of(struct mqg_slice table)
{
    return (struct amqp_table_iter){mqg_cursor_of(table), false, MQG_SLICE_NONE, {0, MQG_SLICE_NONE}};
}

static inline struct amqp_table_iter amqp_array_iter_of(struct mqg_slice array)
{
    return (struct amqp_table_iter){mqg_cursor_of(array), true, MQG_SLICE_NONE, {0, MQG_SLICE_NONE}};
}

/* Steps to the next field: true, and it->name and it->value are set; false at the end. At the end
 * it->cursor.failed tells whether bytes were wrong. What is nested in the value has been measured, not looked
 * into. */
bool amqp_table_next(struct amqp_table_iter *it);

/* The first field of that name, as RabbitMQ looks them up. False (and *out without a type) when there is none
 * before the end or before bytes that are wrong. */
bool amqp_table_find(struct mqg_slice table, struct mqg_slice name, struct amqp_value *out);

/* The value as an integer: any integer type, or a double or float without a fraction. False when it is none.
 * */
bool amqp_value_int(const struct amqp_value *v, int64_t *out);
/* The bytes of S or x. False when it is neither. */
bool amqp_value_bytes(const struct amqp_value *v, struct mqg_slice *out);
/* The value of t. False when it is none. */
bool amqp_value_bool(const struct amqp_value *v, bool *out);

/* ---- the whole ---------------------------------------------------------------------------------------- */

/* Checks types, lengths, nesting (MQG_VALUE_DEPTH_MAX levels inside the table) and the number of fields
 * (MQG_VALUE_FIELDS_MAX, all levels together) in one pass without allocating or recursing. MQG_OK;
 * MQG_MALFORMED (502 SYNTAX_ERROR), MQG_TOO_LARGE for nesting and number (502 as well). */
enum mqg_err amqp_table_check(struct mqg_slice table) MQG_MUST_CHECK;

/* Decodes a whole table: checks it, then builds fields and items in the arena; names and strings are slices
 * into the table's bytes. A timestamp that does not fit in 63 bits of microseconds (after the year 294246) is
 * cut to what does. Errors as amqp_table_check, and MQG_NO_MEMORY when the arena's bound is reached. */
enum mqg_err amqp_table_decode(struct mqg_slice table, struct mqg_arena *a,
                               struct mqg_table *out) MQG_MUST_CHECK;
/* One value that find or iterate gave, nested ones included. The same rules; MQG_INVALID for a value without
 * a type. */
enum mqg_err amqp_value_decode(const struct amqp_value *v, struct mqg_arena *a,
                               struct mqg_value *out) MQG_MUST_CHECK;

/* Appends the table's content (without a length before it) to out, each value in the type that decodes to it;
 * int64 as 'l'. What AMQP cannot say is left out and counted in *dropped (set, not added to; may be NULL): a
 * name over 255 bytes, a time before 1970, a string of 4 GiB, nesting over MQG_VALUE_DEPTH_MAX. Two are said
 * less exactly: a time loses what is under a second, an unsigned integer over 2^63 - 1 becomes a string of
 * digits. MQG_OK, or MQG_TOO_LARGE when out's maximum is reached (its content is then no table). */
enum mqg_err amqp_table_encode(struct mqg_dynbuf *out, const struct mqg_table *t,
                               uint32_t *dropped) MQG_MUST_CHECK;

#endif
