/* mqgate/base.h - the ground everything stands on: asserts, errors, slices, cursors, buffers, arenas, clocks.
 *
 * Three kinds of error have three idioms. Our own bug: MQG_ASSERT, always on. The peer's fault: enum mqg_err
 * and a struct mqg_error filled once where it was found. The world's fault (disk, network): a code, retried
 * in one place. Peer data is never char* + strlen: it is a slice that somebody else owns, or a buffer that is
 * counted. */
#ifndef MQGATE_BASE_H
#define MQGATE_BASE_H

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MQG_API                             __attribute__((visibility("default")))
#define MQG_MUST_CHECK                      __attribute__((warn_unused_result))
#define MQG_PRINTF(fmt_at, args_at)         __attribute__((format(printf, fmt_at, args_at)))
#define MQG_COUNTOF(array)                  (sizeof(array) / sizeof((array)[0]))
#define MQG_CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define MQG_LIKELY(x)                       __builtin_expect(!!(x), 1)
#define MQG_UNLIKELY(x)                     __builtin_expect(!!(x), 0)

/* ---- asserts ------------------------------------------------------------------------------------------- */

/* Checks an invariant of ours; prints expression, place and the registered dumps, then aborts. Never compiled
 * out. */
#define MQG_ASSERT(expr) (MQG_LIKELY(expr) ? (void)0 : mqg_assert_fail(#expr, __FILE__, __LINE__, __func__))

/* Object magic: the first field of long-lived objects, checked where they enter a function from elsewhere. */
#define MQG_CHECK(obj, magic_value) MQG_ASSERT((obj) != NULL && (obj)->magic == (magic_value))

MQG_API _Noreturn void mqg_assert_fail(const char *expr, const char *file, int line, const char *func);
/* Registers a function that prints state to fd when the process dies of an assert. At most 16. Any thread. */
MQG_API void mqg_assert_on_fail(void (*dump)(int fd, void *arg), void *arg);

/* ---- errors -------------------------------------------------------------------------------------------- */

/* The field-neutral outcome of an operation. Protocols map it to their own codes (one table per protocol). */
enum mqg_err {
    MQG_OK = 0,
    MQG_AGAIN,       /* pressure: try again later */
    MQG_MORE,        /* a decoder needs more bytes */
    MQG_MALFORMED,   /* bytes that break the framing or the structure */
    MQG_TOO_LARGE,   /* over a limit */
    MQG_UNSUPPORTED, /* legal, but we do not do it */
    MQG_INVALID,     /* an argument that means nothing here */
    MQG_NOT_FOUND,
    MQG_EXISTS,
    MQG_MISMATCH,  /* exists, with other properties (AMQP 406) */
    MQG_LOCKED,    /* exclusive to somebody else (AMQP 405) */
    MQG_IN_USE,    /* if-unused, exclusive consumer (AMQP 406 / 403) */
    MQG_NOT_EMPTY, /* if-empty */
    MQG_DENIED,    /* no permission */
    MQG_UNAUTHENTICATED,
    MQG_GONE,      /* was deleted meanwhile */
    MQG_REJECTED,  /* refused by policy (overflow reject-publish) */
    MQG_NO_MEMORY, /* a budget is used up */
    MQG_NO_SPACE,  /* disk watermark */
    MQG_IO,        /* the world failed */
    MQG_CORRUPT,   /* stored bytes that do not check */
    MQG_CLOSED,
    MQG_ERR_COUNT
};

/* "not_found", "mismatch"... for logs. Static storage. */
MQG_API const char *mqg_err_name(enum mqg_err err);

/* Filled once where the fault is found. `code` is the protocol's own code where the finder knows, else 0. */
struct mqg_error {
    enum mqg_err err;
    int code;
    char text[512];
};

/* Fills *e (if not NULL) and returns err, so that `return mqg_error_set(...)` reads well. Text is cut, never
 * overrun. */
MQG_API enum mqg_err mqg_error_set(struct mqg_error *e, enum mqg_err err, int code, const char *fmt, ...)
    MQG_PRINTF(4, 5);

/* ---- slices -------------------------------------------------------------------------------------------- */

/* Borrowed bytes. ptr may be NULL when len is 0. */
struct mqg_slice {
    const uint8_t *ptr;
    size_t len;
};

/* A literal's bytes: as an expression, and as an initializer of static tables. */
#define MQG_SLICE_LIT(lit) ((struct mqg_slice){(const uint8_t *)("" lit), sizeof(lit) - 1})
#define MQG_SLICE_INIT(lit)                        \
    {                                              \
        (const uint8_t *)("" lit), sizeof(lit) - 1 \
    }
#define MQG_SLICE_NONE ((struct mqg_slice){NULL, 0})

static inline struct mqg_slice mqg_slice_of(const void *ptr, size_t len)
{
    return (struct mqg_slice){(const uint8_t *)ptr, len};
}

static inline struct mqg_slice mqg_slice_str(const char *str)
{
    return (struct mqg_slice){(const uint8_t *)str, strlen(str)};
}

static inline bool mqg_slice_eq(struct mqg_slice a, struct mqg_slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* -1, 0, 1 in bytewise order, shorter first on a tie. */
MQG_API int mqg_slice_cmp(struct mqg_slice a, struct mqg_slice b);
MQG_API bool mqg_slice_starts(struct mqg_slice s, struct mqg_slice prefix);
/* malloc'ed, NUL-terminated copy; bytes that are NUL stay inside. Caller frees with free(). Aborts without
 * memory. */
MQG_API char *mqg_slice_dup(struct mqg_slice s);
/* True when the bytes are well-formed UTF-8 (RFC 3629, no surrogates, no overlong forms). */
MQG_API bool mqg_utf8_valid(struct mqg_slice s);
/* printf("%.*s", MQG_SLICE_FMT(s)): for texts; cuts at 1024 bytes. */
#define MQG_SLICE_FMT(s) \
    (int)((s).len > 1024 ? 1024 : (s).len), (const char *)((s).ptr ? (s).ptr : (const uint8_t *)"")

/* ---- byte order ---------------------------------------------------------------------------------------- */

static inline uint16_t mqg_be16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, 2);
    return __builtin_bswap16(v);
}
static inline uint32_t mqg_be32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return __builtin_bswap32(v);
}
static inline uint64_t mqg_be64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return __builtin_bswap64(v);
}
static inline void mqg_put_be16(uint8_t *p, uint16_t v)
{
    v = __builtin_bswap16(v);
    memcpy(p, &v, 2);
}
static inline void mqg_put_be32(uint8_t *p, uint32_t v)
{
    v = __builtin_bswap32(v);
    memcpy(p, &v, 4);
}
static inline void mqg_put_be64(uint8_t *p, uint64_t v)
{
    v = __builtin_bswap64(v);
    memcpy(p, &v, 8);
}
/* The host is little-endian (checked at build time); stored formats are little-endian. */
static inline uint16_t mqg_le16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}
static inline uint32_t mqg_le32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
static inline uint64_t mqg_le64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}
static inline void mqg_put_le16(uint8_t *p, uint16_t v)
{
    memcpy(p, &v, 2);
}
static inline void mqg_put_le32(uint8_t *p, uint32_t v)
{
    memcpy(p, &v, 4);
}
static inline void mqg_put_le64(uint8_t *p, uint64_t v)
{
    memcpy(p, &v, 8);
}

/* ---- cursor: reads with a sticky error ----------------------------------------------------------------- */

/* Read ten fields, check once. After a read past the end every further read gives 0 / an empty slice and
 * `failed` stays true. Inline because decoders live in it. */
struct mqg_cursor {
    const uint8_t *pos;
    const uint8_t *end;
    bool failed;
};

static inline struct mqg_cursor mqg_cursor_of(struct mqg_slice s)
{
    const uint8_t *ptr = s.ptr ? s.ptr : (const uint8_t *)""; /* arithmetic on NULL is undefined, even + 0 */
    return (struct mqg_cursor){ptr, ptr + s.len, false};
}

static inline size_t mqg_cursor_left(const struct mqg_cursor *c)
{
    return (size_t)(c->end - c->pos);
}
/* All bytes read and no read failed. */
static inline bool mqg_cursor_done(const struct mqg_cursor *c)
{
    return !c->failed && c->pos == c->end;
}

static inline void mqg_cursor_fail(struct mqg_cursor *c)
{
    c->failed = true;
    c->pos = c->end;
}

static inline const uint8_t *mqg_cursor_take(struct mqg_cursor *c, size_t n)
{
    if (MQG_UNLIKELY(c->failed || mqg_cursor_left(c) < n)) {
        mqg_cursor_fail(c);
        return NULL;
    }
    const uint8_t *p = c->pos;
    c->pos += n;
    return p;
}

static inline struct mqg_slice mqg_cursor_slice(struct mqg_cursor *c, size_t n)
{
    const uint8_t *p = mqg_cursor_take(c, n);
    return p ? mqg_slice_of(p, n) : MQG_SLICE_NONE;
}

static inline uint8_t mqg_cursor_u8(struct mqg_cursor *c)
{
    const uint8_t *p = mqg_cursor_take(c, 1);
    return p ? *p : 0;
}
static inline uint16_t mqg_cursor_be16(struct mqg_cursor *c)
{
    const uint8_t *p = mqg_cursor_take(c, 2);
    return p ? mqg_be16(p) : 0;
}
static inline uint32_t mqg_cursor_be32(struct mqg_cursor *c)
{
    const uint8_t *p = mqg_cursor_take(c, 4);
    return p ? mqg_be32(p) : 0;
}
static inline uint64_t mqg_cursor_be64(struct mqg_cursor *c)
{
    const uint8_t *p = mqg_cursor_take(c, 8);
    return p ? mqg_be64(p) : 0;
}
static inline uint16_t mqg_cursor_le16(struct mqg_cursor *c)
{
    const uint8_t *p = mqg_cursor_take(c, 2);
    return p ? mqg_le16(p) : 0;
}
static inline uint32_t mqg_cursor_le32(struct mqg_cursor *c)
{
    const uint8_t *p = mqg_cursor_take(c, 4);
    return p ? mqg_le32(p) : 0;
}
static inline uint64_t mqg_cursor_le64(struct mqg_cursor *c)
{
    const uint8_t *p = mqg_cursor_take(c, 8);
    return p ? mqg_le64(p) : 0;
}

/* A cursor over the next n bytes, which the outer cursor has then passed; failed when they are not there. */
static inline struct mqg_cursor mqg_cursor_sub(struct mqg_cursor *c, size_t n)
{
    struct mqg_cursor sub = mqg_cursor_of(mqg_cursor_slice(c, n));
    sub.failed = c->failed;
    return sub;
}

/* Unsigned LEB128 of at most 10 bytes; overlong or overflowing = failed. */
MQG_API uint64_t mqg_cursor_varint(struct mqg_cursor *c);

/* ---- dynbuf: bytes that grow, never without a maximum -------------------------------------------------- */

struct mqg_dynbuf {
    uint8_t *ptr;
    size_t len;
    size_t cap;
    size_t max;  /* 0 is no dynbuf: init sets it */
    bool failed; /* sticky: an append went over max; the content is then not to be used */
};

MQG_API void mqg_dynbuf_init(struct mqg_dynbuf *b, size_t max_bytes);
MQG_API void mqg_dynbuf_fini(struct mqg_dynbuf *b);
/* Forgets the content, keeps the memory. */
MQG_API void mqg_dynbuf_reset(struct mqg_dynbuf *b);
/* Room for n bytes at the end, not yet counted in len; NULL and failed when over max or without memory. */
MQG_API uint8_t *mqg_dynbuf_reserve(struct mqg_dynbuf *b, size_t n);
MQG_API bool mqg_dynbuf_put(struct mqg_dynbuf *b, const void *ptr, size_t n);
MQG_API bool mqg_dynbuf_printf(struct mqg_dynbuf *b, const char *fmt, ...) MQG_PRINTF(2, 3);
static inline bool mqg_dynbuf_u8(struct mqg_dynbuf *b, uint8_t v)
{
    return mqg_dynbuf_put(b, &v, 1);
}
static inline bool mqg_dynbuf_be16(struct mqg_dynbuf *b, uint16_t v)
{
    uint8_t x[2];
    mqg_put_be16(x, v);
    return mqg_dynbuf_put(b, x, 2);
}
static inline bool mqg_dynbuf_be32(struct mqg_dynbuf *b, uint32_t v)
{
    uint8_t x[4];
    mqg_put_be32(x, v);
    return mqg_dynbuf_put(b, x, 4);
}
static inline bool mqg_dynbuf_be64(struct mqg_dynbuf *b, uint64_t v)
{
    uint8_t x[8];
    mqg_put_be64(x, v);
    return mqg_dynbuf_put(b, x, 8);
}
static inline bool mqg_dynbuf_le16(struct mqg_dynbuf *b, uint16_t v)
{
    return mqg_dynbuf_put(b, &v, 2);
}
static inline bool mqg_dynbuf_le32(struct mqg_dynbuf *b, uint32_t v)
{
    return mqg_dynbuf_put(b, &v, 4);
}
static inline bool mqg_dynbuf_le64(struct mqg_dynbuf *b, uint64_t v)
{
    return mqg_dynbuf_put(b, &v, 8);
}
static inline bool mqg_dynbuf_slice(struct mqg_dynbuf *b, struct mqg_slice s)
{
    return mqg_dynbuf_put(b, s.ptr, s.len);
}
MQG_API bool mqg_dynbuf_varint(struct mqg_dynbuf *b, uint64_t v);
static inline struct mqg_slice mqg_dynbuf_view(const struct mqg_dynbuf *b)
{
    return mqg_slice_of(b->ptr, b->len);
}

/* ---- arena: many small allocations, freed at once ------------------------------------------------------ */

/* For one frame, one command, one decode. Not thread-safe. Poisoned under ASan when reset. */
struct mqg_arena {
    struct mqg_arena_block *head;
    size_t used_bytes;
    size_t max_bytes; /* 0: no bound (trusted input only) */
};

MQG_API void mqg_arena_init(struct mqg_arena *a, size_t max_bytes);
MQG_API void mqg_arena_fini(struct mqg_arena *a);
/* Keeps the first block, frees the others. */
MQG_API void mqg_arena_reset(struct mqg_arena *a);
/* Zeroed, aligned to 16; NULL when over max_bytes. */
MQG_API void *mqg_arena_alloc(struct mqg_arena *a, size_t n);
MQG_API struct mqg_slice mqg_arena_dup(struct mqg_arena *a, struct mqg_slice s);

/* ---- buf: counted bytes, immutable once shared --------------------------------------------------------- */

/* For bytes that outlive a turn and are shared: a TLS record, a file piece, a rope's part. Atomic count. */
struct mqg_buf {
    _Atomic uint32_t refs;
    uint32_t len;
    uint8_t data[];
};

MQG_API struct mqg_buf *mqg_buf_new(size_t len); /* refs = 1; NULL over 2^31 bytes or without memory */
MQG_API struct mqg_buf *mqg_buf_ref(struct mqg_buf *b);
MQG_API void mqg_buf_unref(struct mqg_buf **b); /* *b becomes NULL */

/* ---- memory that must be there ------------------------------------------------------------------------- */

/* Small fixed sizes: abort without memory. A size that a peer chose goes through a budget instead. */
MQG_API void *mqg_xmalloc(size_t n) __attribute__((malloc));
MQG_API void *mqg_xcalloc(size_t n, size_t size) __attribute__((malloc));
MQG_API void *mqg_xrealloc(void *p, size_t n);
MQG_API char *mqg_xstrdup(const char *s) __attribute__((malloc));

/* ---- budget: a bound on bytes that peers choose -------------------------------------------------------- */

/* Any thread. A child charges its parent too; take fails when any level is over its limit. limit 0 = none. */
struct mqg_budget {
    struct mqg_budget *parent;
    _Atomic int64_t used_bytes;
    int64_t limit_bytes;
};

MQG_API bool mqg_budget_take(struct mqg_budget *b, size_t n) MQG_MUST_CHECK;
MQG_API void mqg_budget_give(struct mqg_budget *b, size_t n);

/* ---- clock --------------------------------------------------------------------------------------------- */

/* One virtual clock for tests: when set, all readings come from it. */
struct mqg_time {
    uint64_t mono_ms; /* never goes back */
    uint64_t wall_us; /* since 1970 */
};

MQG_API struct mqg_time mqg_clock_now(void);
MQG_API uint64_t mqg_clock_mono_us(void);
/* Tests only: freezes both clocks at *t, or returns to the real ones with NULL. */
MQG_API void mqg_clock_set(const struct mqg_time *t);

/* ---- hash and checksums -------------------------------------------------------------------------------- */

/* Seeded per process (getrandom), for keys that peers choose. */
MQG_API uint64_t mqg_hash(struct mqg_slice s);
/* CRC32C (Castagnoli), isa-l where built with it, a table otherwise; both compiled so that one checks the
 * other. */
MQG_API uint32_t mqg_crc32c(uint32_t crc, const void *ptr, size_t n);
MQG_API uint32_t mqg_crc32c_table(uint32_t crc, const void *ptr, size_t n);
MQG_API uint64_t mqg_random_u64(void); /* getrandom; for nonces and ids, not a hot path */
MQG_API void mqg_random_bytes(void *ptr, size_t n);

#endif
