/* error.c - names of error codes, and our own errors in the protocol's terms. */
#include "error.h"

static const struct {
    int16_t code;
    const char *name;
} error_rows[] = {
#define KAFKA_ERROR_NAME(name, code) {(code), #name},
    KAFKA_ERRORS(KAFKA_ERROR_NAME)
#undef KAFKA_ERROR_NAME
};

const char *kafka_error_name(enum kafka_error code)
{
    for (size_t i = 0; i < MQG_COUNTOF(error_rows); i++)
        if (error_rows[i].code == (int)code)
            return error_rows[i].name;
    return "UNKNOWN_SERVER_ERROR";
}

enum kafka_error kafka_error_of(enum mqg_err err)
{
    static const struct {
        enum mqg_err err;
        enum kafka_error code;
    } rows[] = {
        {MQG_OK, KAFKA_NONE},
        {MQG_AGAIN, KAFKA_NOT_LEADER_OR_FOLLOWER}, /* retriable, with a look at the metadata between */
        {MQG_MALFORMED, KAFKA_CORRUPT_MESSAGE},
        {MQG_TOO_LARGE, KAFKA_MESSAGE_TOO_LARGE},
        {MQG_UNSUPPORTED, KAFKA_UNSUPPORTED_VERSION},
        {MQG_INVALID, KAFKA_INVALID_REQUEST},
        {MQG_NOT_FOUND, KAFKA_UNKNOWN_TOPIC_OR_PARTITION},
        {MQG_GONE, KAFKA_UNKNOWN_TOPIC_OR_PARTITION},
        {MQG_EXISTS, KAFKA_TOPIC_ALREADY_EXISTS},
        {MQG_MISMATCH, KAFKA_INVALID_TOPIC_EXCEPTION}, /* the name is a queue's */
        {MQG_LOCKED, KAFKA_INVALID_TOPIC_EXCEPTION},
        {MQG_DENIED, KAFKA_TOPIC_AUTHORIZATION_FAILED},
        {MQG_UNAUTHENTICATED, KAFKA_SASL_AUTHENTICATION_FAILED},
        {MQG_REJECTED, KAFKA_POLICY_VIOLATION},
        {MQG_NO_SPACE, KAFKA_KAFKA_STORAGE_ERROR},
        {MQG_IO, KAFKA_KAFKA_STORAGE_ERROR},
        {MQG_CORRUPT, KAFKA_KAFKA_STORAGE_ERROR},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++)
        if (rows[i].err == err)
            return rows[i].code;
    return KAFKA_UNKNOWN_SERVER_ERROR;
}
