/* wire.h - the Kafka protocol's bytes: requests and responses of every version, headers, varints.
 *
 * A message is described by a table (made from messages.def); one decoder and one encoder walk it. So a version is data, and
 * what a handler sees is a plain struct, the same for all versions: a field that its version does not have holds its default.
 *
 *   request   | length 4 | api key 2 | version 2 | correlation id 4 | client id, nullable string | tags, if flexible | body |
 *   response  | length 4 | correlation id 4 | tags, if flexible | body |
 *
 * Before "flexible" (KIP-482) a string has a length of 2 bytes, bytes and arrays of 4, -1 is null; after it all are unsigned
 * varints of the length plus one, 0 is null, and each struct ends with tagged fields, of which unknown ones are skipped.
 * Sources: the protocol guide, "Protocol Primitive Types"; KIP-482; KIP-511 (the header of ApiVersions).
 *
 * Pure functions of bytes. Every length is held against what is left before anything is allocated, and what a request may
 * allocate is bounded by the arena. */
#ifndef KAFKA_WIRE_H
#define KAFKA_WIRE_H

#include <mqgate/base.h>

struct kafka_uuid {
    uint8_t bytes[16];
};

enum kafka_type {
    KAFKA_BOOL,
    KAFKA_INT8,
    KAFKA_INT16,
    KAFKA_UINT16,
    KAFKA_INT32,
    KAFKA_UINT32,
    KAFKA_INT64,
    KAFKA_FLOAT64,
    KAFKA_STRING, /* struct mqg_slice; ptr NULL is null, an empty one has a ptr */
    KAFKA_BYTES,
    KAFKA_RECORDS,
    KAFKA_UUID,
    KAFKA_STRUCT,
};

struct kafka_range {
    int8_t first, last; /* inclusive; empty when first > last */
};

static inline bool kafka_range_has(struct kafka_range r, int16_t version)
{
    return version >= r.first && version <= r.last;
}

struct kafka_layout;

struct kafka_field {
    const char *name;
    enum kafka_type type;
    bool array;
    int8_t tag; /* -1: never tagged */
    struct kafka_range versions, null, tagged;
    size_t offset; /* of the value, or of the array's pointer */
    size_t extra;  /* of the array's count, or of a nullable struct's flag; 0: none */
    size_t size;   /* of one element */
    const struct kafka_layout *sub;
    int64_t initial; /* the default; -1 for a null */
};

struct kafka_layout {
    const char *name;
    const struct kafka_field *fields;
    size_t nfields;
    size_t size;
};

struct kafka_message {
    const char *name; /* "produce" */
    int16_t key;
    int16_t first, last; /* versions that the table knows */
    int16_t flexible;    /* from this version on; 127: never */
    const struct kafka_layout *layout;
};

/* By key; NULL where the table has none. */
extern const struct kafka_message *const kafka_requests[];
extern const struct kafka_message *const kafka_responses[];
extern const size_t kafka_api_slots;

static inline bool kafka_is_flexible(const struct kafka_message *m, int16_t version)
{
    return version >= m->flexible;
}

/* What a handler may fill or read: all fields at their defaults. out has m->layout->size bytes. */
void kafka_init(const struct kafka_message *m, void *out);

/* Decodes a body of that version (which the table must know) into *out; strings borrow from `in`, arrays come from the arena.
 * Bytes left over are not looked at, as in Apache Kafka: librdkafka 2.0's ListGroups 4 and OffsetFetch 7 of all partitions have
 * some. MALFORMED: lengths or nulls that cannot be. TOO_LARGE: the arena's bound. */
enum mqg_err kafka_decode(const struct kafka_message *m, int16_t version, struct mqg_slice in,
                          struct mqg_arena *a, void *out) MQG_MUST_CHECK;
/* Appends the body of that version. A null where the version has none is written as empty. Fails only by out->failed. */
void kafka_encode(const struct kafka_message *m, int16_t version, const void *in, struct mqg_dynbuf *out);

struct kafka_request_head {
    int16_t key, version;
    int32_t correlation_id;
    struct mqg_slice client_id;          /* ptr NULL: null */
    const struct kafka_message *message; /* NULL: an api that the table does not know */
    struct mqg_slice body;
};

/* frame: a request without its length. UNSUPPORTED: key or version unknown (key, version and correlation id are set then, and
 * an ApiVersions request is answered all the same, KIP-511); MALFORMED. */
enum mqg_err kafka_request_head(struct mqg_slice frame, struct kafka_request_head *out) MQG_MUST_CHECK;
/* The head of a response, without its length. */
void kafka_response_head(struct mqg_dynbuf *out, const struct kafka_message *response, int16_t version,
                         int32_t correlation_id);

#endif
