/* dynbuf.c - bytes that grow by doubling, up to a maximum that each owner must name.
 *
 * The failure is sticky, so that a writer of ten fields checks once. Memory that cannot be had counts as a
 * failure too, and not as an abort: how much is written is often a peer's choice. Text needs one byte more
 * while it is made, for the NUL of vsnprintf; hence cap may be max + 1, len never is. */
#include <mqgate/base.h>

#include <stdio.h>
#include <stdlib.h>

enum { DYNBUF_START_BYTES = 64, DYNBUF_VARINT_MAX = 10 };

void mqg_dynbuf_init(struct mqg_dynbuf *b, size_t max_bytes)
{
    MQG_ASSERT(max_bytes > 0 && max_bytes < SIZE_MAX / 2);
    *b = (struct mqg_dynbuf){.max = max_bytes};
}

void mqg_dynbuf_fini(struct mqg_dynbuf *b)
{
    free(b->ptr);
    *b = (struct mqg_dynbuf){.max = b->max};
}

void mqg_dynbuf_reset(struct mqg_dynbuf *b)
{
    b->len = 0;
    b->failed = false;
}

static bool dynbuf_grow(struct mqg_dynbuf *b, size_t need, size_t limit)
{
    size_t cap = b->cap > 0 ? b->cap : DYNBUF_START_BYTES;
    while (cap < need)
        cap *= 2; /* need <= max + 1 < SIZE_MAX / 2: no overflow */
    if (cap > limit)
        cap = limit;
    uint8_t *ptr = realloc(b->ptr, cap);
    if (ptr == NULL)
        return false;
    b->ptr = ptr;
    b->cap = cap;
    return true;
}

/* Room for n bytes of content and `extra` bytes that are not content. */
static bool dynbuf_room(struct mqg_dynbuf *b, size_t n, size_t extra)
{
    MQG_ASSERT(b->max > 0); /* not initialised */
    if (b->failed)
        return false;
    if (n > b->max - b->len)
        b->failed = true;
    else if (b->ptr == NULL || n + extra > b->cap - b->len)
        b->failed = !dynbuf_grow(b, b->len + n + extra, b->max + extra);
    return !b->failed;
}

uint8_t *mqg_dynbuf_reserve(struct mqg_dynbuf *b, size_t n)
{
    return dynbuf_room(b, n, 0) ? b->ptr + b->len : NULL;
}

bool mqg_dynbuf_put(struct mqg_dynbuf *b, const void *ptr, size_t n)
{
    uint8_t *room = mqg_dynbuf_reserve(b, n);
    if (room == NULL)
        return false;
    if (n > 0)
        memcpy(room, ptr, n); /* ptr may be NULL when n is 0 */
    b->len += n;
    return true;
}

static int MQG_PRINTF(2, 0) dynbuf_vprintf(struct mqg_dynbuf *b, const char *fmt, va_list args)
{
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    if (n < 0 || !dynbuf_room(b, (size_t)n, 1))
        return -1;
    return vsnprintf((char *)b->ptr + b->len, (size_t)n + 1, fmt, args);
}

bool mqg_dynbuf_printf(struct mqg_dynbuf *b, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = dynbuf_vprintf(b, fmt, args);
    va_end(args);
    if (n < 0)
        b->failed = true;
    else
        b->len += (size_t)n;
    return n >= 0;
}

bool mqg_dynbuf_varint(struct mqg_dynbuf *b, uint64_t v)
{
    uint8_t bytes[DYNBUF_VARINT_MAX];
    size_t n = 0;
    for (; v >= 0x80; v >>= 7)
        bytes[n++] = (uint8_t)(v | 0x80);
    bytes[n++] = (uint8_t)v;
    return mqg_dynbuf_put(b, bytes, n);
}
