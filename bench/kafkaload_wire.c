/* The clock, giving up, requests written and answers read. */
#include "kafkaload_wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

void die(const char *what)
{
    printf("{\"error\":\"%s%s%s\"}\n", what, errno != 0 ? ": " : "", errno != 0 ? strerror(errno) : "");
    fflush(stdout);
    exit(1);
}

void fail(const char *what, int code)
{
    char text[128];
    snprintf(text, sizeof text, "%s (%d)", what, code);
    errno = 0;
    die(text);
}

double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

double own_cpu_s(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

void *room(size_t n)
{
    void *p = calloc(1, n > 0 ? n : 1);
    if (p == NULL)
        die("calloc");
    return p;
}

/* ---- requests, answers --------------------------------------------------------------------------------------------- */

void text_16(struct text *t, unsigned v)
{
    put16(t->at, (uint16_t)v);
    t->at += 2;
}

void text_32(struct text *t, uint32_t v)
{
    put32(t->at, v);
    t->at += 4;
}

void text_64(struct text *t, uint64_t v)
{
    put64(t->at, v);
    t->at += 8;
}

void text_string(struct text *t, const char *s)
{
    size_t n = strlen(s);
    text_16(t, (unsigned)n);
    memcpy(t->at, s, n);
    t->at += n;
}

struct text text_begin(uint8_t *at, int key, int version)
{
    struct text t = {at + 4, at};
    text_16(&t, (unsigned)key);
    text_16(&t, (unsigned)version);
    text_32(&t, 0); /* correlation */
    text_string(&t, "kafkaload");
    return t;
}

size_t text_end(struct text *t)
{
    size_t n = (size_t)(t->at - t->start);
    put32(t->start, (uint32_t)(n - 4));
    return n;
}

const uint8_t *view_take(struct view *v, size_t n)
{
    const uint8_t *p = v->at;
    if ((size_t)(v->end - v->at) < n)
        fail("an answer is shorter than it says", 0);
    v->at += n;
    return p;
}

int16_t view_16(struct view *v)
{
    const uint8_t *p = view_take(v, 2);
    return (int16_t)((p[0] << 8) | p[1]);
}

int32_t view_32(struct view *v)
{
    return (int32_t)get32(view_take(v, 4));
}

int64_t view_64(struct view *v)
{
    return (int64_t)get64(view_take(v, 8));
}

void view_string(struct view *v)
{
    int16_t n = view_16(v);
    if (n > 0)
        view_take(v, (size_t)n);
}

/* ---- Fetch ------------------------------------------------------------------------------------------------------------- */

struct text fetch_begin(uint8_t *at, uint32_t wait_ms, uint32_t max_bytes, uint32_t session, uint32_t epoch)
{
    struct text t = text_begin(at, FETCH, 11);
    text_32(&t, UINT32_MAX); /* no replica */
    text_32(&t, wait_ms);
    text_32(&t, 1); /* at least a byte */
    text_32(&t, max_bytes);
    *t.at++ = 0;
    text_32(&t, session);
    text_32(&t, epoch);
    return t;
}

void fetch_row(struct text *t, uint32_t partition, uint64_t offset, uint32_t max_bytes)
{
    text_32(t, partition);
    text_32(t, UINT32_MAX); /* leader epoch: any */
    text_64(t, offset);
    text_64(t, UINT64_MAX); /* no log of its own */
    text_32(t, max_bytes);
}

void fetch_rest(struct text *t)
{
    text_32(t, 0); /* nothing forgotten */
    text_string(t, "");
}

struct fetched fetch_row_read(struct view *v)
{
    struct fetched f = {.partition = (uint32_t)view_32(v), .code = view_16(v)};
    view_take(v, 24);
    int32_t aborted = view_32(v);
    view_take(v, aborted > 0 ? (size_t)aborted * 16 : 0);
    view_32(v);
    int32_t n = view_32(v);
    f.len = n > 0 ? (size_t)n : 0;
    f.records = view_take(v, f.len);
    return f;
}
