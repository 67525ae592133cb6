/* mqgate/value.h - typed header values: ordered, repeatable, nested.
 *
 * The common view of what every protocol's headers can say. A tree lives in one arena and borrows the strings
 * from the bytes it was decoded from; it is made lazily (headers exchange, crossing protocols, dead letters),
 * never per message on the same-protocol path. The encoded form (mqg_value_encode) is ours: little-endian,
 * versioned, stored in a message's overlay and in definitions. */
#ifndef MQGATE_VALUE_H
#define MQGATE_VALUE_H

#include <mqgate/base.h>

enum mqg_value_type {
    MQG_VALUE_NULL = 0,
    MQG_VALUE_BOOL,
    MQG_VALUE_INT8,
    MQG_VALUE_INT16,
    MQG_VALUE_INT32,
    MQG_VALUE_INT64,
    MQG_VALUE_UINT8,
    MQG_VALUE_UINT16,
    MQG_VALUE_UINT32,
    MQG_VALUE_UINT64,
    MQG_VALUE_FLOAT,
    MQG_VALUE_DOUBLE,
    MQG_VALUE_DECIMAL,   /* scale and unscaled int32, as AMQP */
    MQG_VALUE_TIMESTAMP, /* microseconds since 1970 (AMQP: seconds on the wire) */
    MQG_VALUE_STRING,
    MQG_VALUE_BYTES,
    MQG_VALUE_ARRAY,
    MQG_VALUE_TABLE,
    MQG_VALUE_TYPE_COUNT
};

#define MQG_VALUE_DEPTH_MAX  128  /* arrays and tables nested inside the outermost table */
#define MQG_VALUE_FIELDS_MAX 4096 /* fields and array items in one message's headers, all levels together */

struct mqg_field;

struct mqg_value;
struct mqg_table {
    struct mqg_field *fields; /* in order; names may repeat */
    uint32_t n;
    uint32_t cap; /* of fields, as mqg_table_add keeps it; 0 in a table made by hand: full */
};

struct mqg_array {
    struct mqg_value *items;
    uint32_t n;
    uint32_t cap; /* as in a table */
};

struct mqg_value {
    enum mqg_value_type type;
    union {
        bool boolean;
        int64_t i;  /* INT8..INT64, TIMESTAMP */
        uint64_t u; /* UINT8..UINT64 */
        double d;   /* FLOAT, DOUBLE */
        struct {
            uint8_t scale;
            int32_t unscaled;
        } dec;
        struct mqg_slice bytes; /* STRING, BYTES */
        struct mqg_array array;
        struct mqg_table table;
    };
};

struct mqg_field {
    struct mqg_slice name;
    struct mqg_value value;
};

/* First field of that name, or NULL. Linear: tables are small. */
MQG_API const struct mqg_value *mqg_table_get(const struct mqg_table *t, struct mqg_slice name);
/* Equal in meaning: integers of any width compare by value, 10 equals 10.0 (RabbitMQ's redeclare rule); NULL
 * type equals only NULL; tables compare as sets of fields, arrays in order. */
MQG_API bool mqg_value_equal(const struct mqg_value *a, const struct mqg_value *b);
MQG_API bool mqg_table_equal(const struct mqg_table *a, const struct mqg_table *b);
/* The value as an integer where it is one (any width, or a double without fraction). */
MQG_API bool mqg_value_int(const struct mqg_value *v, int64_t *out);

/* Builders, in an arena; NULL when the arena's bound is reached. Strings are borrowed, not copied. */
MQG_API struct mqg_field *mqg_table_add(struct mqg_arena *a, struct mqg_table *t, struct mqg_slice name);
MQG_API struct mqg_value *mqg_array_add(struct mqg_arena *a, struct mqg_array *array);
/* Replace the first field of that name, or add one. */
MQG_API void mqg_table_set_str(struct mqg_arena *a, struct mqg_table *t, const char *name,
                               struct mqg_slice v);
MQG_API void mqg_table_set_int(struct mqg_arena *a, struct mqg_table *t, const char *name, int64_t v);
MQG_API void mqg_table_set_bool(struct mqg_arena *a, struct mqg_table *t, const char *name, bool v);
/* Deep copy, strings included; an empty table when the arena's bound is reached. */
MQG_API struct mqg_table mqg_table_copy(struct mqg_arena *a, const struct mqg_table *t);

/* Our encoded form. encode fails only by out->failed: over its maximum, or a tree over the limits above; so
 * what was encoded can be decoded. decode checks everything (depth, counts, lengths, no byte left over) and
 * borrows the strings from `in`: MQG_MALFORMED, MQG_UNSUPPORTED (a later version), MQG_TOO_LARGE (limits),
 * MQG_NO_MEMORY (arena's bound). */
MQG_API void mqg_table_encode(struct mqg_dynbuf *out, const struct mqg_table *t);
MQG_API enum mqg_err mqg_table_decode(struct mqg_slice in, struct mqg_arena *a,
                                      struct mqg_table *out) MQG_MUST_CHECK;
/* JSON text of a table, for listings; bytes that are no UTF-8 are base64, a name that repeats becomes an
 * array at its first place, a timestamp is its microseconds, no number is "NaN" or "Infinity". */
MQG_API void mqg_table_json(struct mqg_dynbuf *out, const struct mqg_table *t);

#endif
