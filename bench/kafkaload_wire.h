/* What every part of kafkaload needs: the one way to give up, the clock, and the bytes of requests and answers. */
#ifndef MQGATE_BENCH_KAFKALOAD_WIRE_H
#define MQGATE_BENCH_KAFKALOAD_WIRE_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { PRODUCE = 0, FETCH = 1, CREATE_TOPICS = 19, DELETE_TOPICS = 20, CREATE_PARTITIONS = 37 };

/* Print {"error":"..."}, with errno's text or a number, and exit with 1. */
_Noreturn void die(const char *what);
_Noreturn void fail(const char *what, int code);
double now_s(void);
double own_cpu_s(void);
/* Zeroed, never NULL. */
void *room(size_t n);

static inline void put16(uint8_t *p, uint16_t v)
{
    v = htobe16(v);
    memcpy(p, &v, sizeof v);
}

static inline void put32(uint8_t *p, uint32_t v)
{
    v = htobe32(v);
    memcpy(p, &v, sizeof v);
}

static inline void put64(uint8_t *p, uint64_t v)
{
    v = htobe64(v);
    memcpy(p, &v, sizeof v);
}

static inline uint32_t get32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return be32toh(v);
}

static inline uint64_t get64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return be64toh(v);
}

/* A request under construction; its length is filled in at the end. */
struct text {
    uint8_t *at, *start;
};

void text_16(struct text *t, unsigned v);
void text_32(struct text *t, uint32_t v);
void text_64(struct text *t, uint64_t v);
void text_string(struct text *t, const char *s);
struct text text_begin(uint8_t *at, int key, int version);
/* Its bytes, with the length. */
size_t text_end(struct text *t);

/* What an answer says, with its end; a field beyond it ends the run. */
struct view {
    const uint8_t *at, *end;
};

const uint8_t *view_take(struct view *v, size_t n);
int16_t view_16(struct view *v);
int32_t view_32(struct view *v);
int64_t view_64(struct view *v);
void view_string(struct view *v);

/* ---- Fetch, version 11 ---- */

enum { FETCH_ROW = 28 };

struct fetched {
    uint32_t partition;
    int16_t code;
    const uint8_t *records;
    size_t len;
};

/* Up to the number of topics. */
struct text fetch_begin(uint8_t *at, uint32_t wait_ms, uint32_t max_bytes, uint32_t session, uint32_t epoch);
/* FETCH_ROW bytes. */
void fetch_row(struct text *t, uint32_t partition, uint64_t offset, uint32_t max_bytes);
/* Behind the topics. */
void fetch_rest(struct text *t);
struct fetched fetch_row_read(struct view *v);

#endif
