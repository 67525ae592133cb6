/* AMQP 0-9-1 as far as a load generator needs it: a buffer that frames are written into, and getters. */
#ifndef MQGATE_BENCH_LOAD_WIRE_H
#define MQGATE_BENCH_LOAD_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { LOAD_FRAME_METHOD = 1, LOAD_FRAME_HEADER = 2, LOAD_FRAME_BODY = 3, LOAD_FRAME_HEARTBEAT = 8 };
enum { LOAD_FRAME_HEAD = 7, LOAD_FRAME_OVERHEAD = 8, LOAD_FRAME_END = 0xCE };

/* A method as one number, class in the upper half. */
#define LOAD_METHOD(class_id, method_id) (((uint32_t)(class_id) << 16) | (uint32_t)(method_id))
enum {
    LOAD_CONNECTION_START = LOAD_METHOD(10, 10),
    LOAD_CONNECTION_START_OK = LOAD_METHOD(10, 11),
    LOAD_CONNECTION_TUNE = LOAD_METHOD(10, 30),
    LOAD_CONNECTION_TUNE_OK = LOAD_METHOD(10, 31),
    LOAD_CONNECTION_OPEN = LOAD_METHOD(10, 40),
    LOAD_CONNECTION_OPEN_OK = LOAD_METHOD(10, 41),
    LOAD_CONNECTION_CLOSE = LOAD_METHOD(10, 50),
    LOAD_CONNECTION_CLOSE_OK = LOAD_METHOD(10, 51),
    LOAD_CONNECTION_BLOCKED = LOAD_METHOD(10, 60),
    LOAD_CONNECTION_UNBLOCKED = LOAD_METHOD(10, 61),
    LOAD_CHANNEL_OPEN = LOAD_METHOD(20, 10),
    LOAD_CHANNEL_OPEN_OK = LOAD_METHOD(20, 11),
    LOAD_CHANNEL_CLOSE = LOAD_METHOD(20, 40),
    LOAD_EXCHANGE_DECLARE = LOAD_METHOD(40, 10),
    LOAD_EXCHANGE_DECLARE_OK = LOAD_METHOD(40, 11),
    LOAD_EXCHANGE_DELETE = LOAD_METHOD(40, 20),
    LOAD_EXCHANGE_DELETE_OK = LOAD_METHOD(40, 21),
    LOAD_QUEUE_DECLARE = LOAD_METHOD(50, 10),
    LOAD_QUEUE_DECLARE_OK = LOAD_METHOD(50, 11),
    LOAD_QUEUE_BIND = LOAD_METHOD(50, 20),
    LOAD_QUEUE_BIND_OK = LOAD_METHOD(50, 21),
    LOAD_QUEUE_DELETE = LOAD_METHOD(50, 40),
    LOAD_QUEUE_DELETE_OK = LOAD_METHOD(50, 41),
    LOAD_BASIC_QOS = LOAD_METHOD(60, 10),
    LOAD_BASIC_QOS_OK = LOAD_METHOD(60, 11),
    LOAD_BASIC_CONSUME = LOAD_METHOD(60, 20),
    LOAD_BASIC_CONSUME_OK = LOAD_METHOD(60, 21),
    LOAD_BASIC_CANCEL = LOAD_METHOD(60, 30),
    LOAD_BASIC_PUBLISH = LOAD_METHOD(60, 40),
    LOAD_BASIC_RETURN = LOAD_METHOD(60, 50),
    LOAD_BASIC_DELIVER = LOAD_METHOD(60, 60),
    LOAD_BASIC_ACK = LOAD_METHOD(60, 80),
    LOAD_BASIC_NACK = LOAD_METHOD(60, 120),
    LOAD_CONFIRM_SELECT = LOAD_METHOD(85, 10),
    LOAD_CONFIRM_SELECT_OK = LOAD_METHOD(85, 11),
};

static inline uint16_t load_get_u16(const uint8_t *p)
{
    return (uint16_t)((p[0] << 8) | p[1]);
}

static inline uint32_t load_get_u32(const uint8_t *p)
{
    uint32_t value;
    memcpy(&value, p, sizeof value);
    return __builtin_bswap32(value);
}

static inline uint64_t load_get_u64(const uint8_t *p)
{
    uint64_t value;
    memcpy(&value, p, sizeof value);
    return __builtin_bswap64(value);
}

static inline void load_set_u64(uint8_t *p, uint64_t value)
{
    value = __builtin_bswap64(value);
    memcpy(p, &value, sizeof value);
}

/* A growing output buffer. data is owned; sent bytes at its start are dropped when it is empty. */
struct load_out {
    uint8_t *data;
    size_t len;
    size_t cap;
    size_t sent;
};

void load_put_bytes(struct load_out *out, const void *data, size_t bytes);
void load_put_u8(struct load_out *out, unsigned value);
void load_put_u16(struct load_out *out, unsigned value);
void load_put_u32(struct load_out *out, uint32_t value);
void load_put_u64(struct load_out *out, uint64_t value);
/* At most 255 bytes; longer text is our own bug and ends the program. */
void load_put_short(struct load_out *out, const char *text);
void load_put_long(struct load_out *out, const void *data, size_t bytes);

/* begin returns where the frame starts; end fills in its length and writes the frame end. */
size_t load_frame_begin(struct load_out *out, unsigned type, unsigned channel);
size_t load_method_begin(struct load_out *out, unsigned channel, uint32_t method);
void load_frame_end(struct load_out *out, size_t start);

/* A field table of `pairs` ("key=value"): a value of digits only is a 64-bit integer, else a long string. */
void load_put_table(struct load_out *out, const char *const *pairs, size_t count);

#endif
