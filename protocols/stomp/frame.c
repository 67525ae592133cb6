/* frame.c - header blocks of STOMP frames: found, read, written.
 *
 *   COMMAND LF (name ':' value LF)* LF body NUL            each LF may have a CR before it (1.2; taken in all versions)
 *
 * The block is one contiguous slice of the input, so reading it copies nothing: names and values are slices that are still
 * escaped. Known names are found by length and first letter, since each header of each SEND goes through here. Escapes are
 * undone only where a backslash is and only for values that somebody looks at. */
#include "frame.h"

static const struct {
    struct mqg_slice text;
    enum stomp_header_group group;
} stomp_headers[STOMP_H_COUNT] = {
#define STOMP_HEADER_ROW(sym, name, grp) {MQG_SLICE_INIT(name), STOMP_GROUP_##grp},
    STOMP_HEADERS(STOMP_HEADER_ROW)
#undef STOMP_HEADER_ROW
};

static const struct mqg_slice stomp_commands[STOMP_COMMAND_COUNT] = {
#define STOMP_COMMAND_ROW(sym, name) MQG_SLICE_INIT(name),
    STOMP_COMMANDS(STOMP_COMMAND_ROW)
#undef STOMP_COMMAND_ROW
};

/* ---- names -------------------------------------------------------------------------------------------------------------- */

const char *stomp_version_name(enum stomp_version v)
{
    static const char *const names[] = {"1.0", "1.1", "1.2"};
    return names[v];
}

const char *stomp_header_name(enum stomp_header_id id)
{
    return (const char *)stomp_headers[id].text.ptr;
}

enum stomp_header_group stomp_header_group(enum stomp_header_id id)
{
    return id < STOMP_H_COUNT ? stomp_headers[id].group : STOMP_GROUP_BODY;
}

static enum stomp_command stomp_command_find(struct mqg_slice text)
{
    for (size_t i = 0; i < STOMP_COMMAND_COUNT; i++)
        if (mqg_slice_eq(text, stomp_commands[i]))
            return (enum stomp_command)i;
    return STOMP_UNKNOWN;
}

/* Candidates by (length * 3 + first letter) mod 64: a list of ids each, made once before main by the constructor below. */
static uint8_t stomp_buckets[64][8];
static uint8_t stomp_bucket_n[64];

static unsigned stomp_bucket(struct mqg_slice name)
{
    return (unsigned)(name.len * 3 + name.ptr[0]) & 63;
}

__attribute__((constructor)) static void stomp_buckets_fill(void)
{
    for (size_t i = 0; i < STOMP_H_COUNT; i++) {
        unsigned b = stomp_bucket(stomp_headers[i].text);
        MQG_ASSERT(stomp_bucket_n[b] < 8);
        stomp_buckets[b][stomp_bucket_n[b]++] = (uint8_t)i;
    }
}

enum stomp_header_id stomp_header_find(struct mqg_slice name)
{
    if (name.len == 0)
        return STOMP_H_OTHER;
    unsigned b = stomp_bucket(name);
    for (unsigned i = 0; i < stomp_bucket_n[b]; i++)
        if (mqg_slice_eq(name, stomp_headers[stomp_buckets[b][i]].text))
            return (enum stomp_header_id)stomp_buckets[b][i];
    return STOMP_H_OTHER;
}

/* ---- reading ------------------------------------------------------------------------------------------------------------- */

size_t stomp_eols(struct mqg_slice in)
{
    size_t n = 0;
    while (n < in.len &&
           (in.ptr[n] == '\n' || (in.ptr[n] == '\r' && n + 1 < in.len && in.ptr[n + 1] == '\n')))
        n++;
    return n;
}

/* Is the line that ends at this line feed empty? */
static bool stomp_is_empty_line(const uint8_t *start, const uint8_t *lf)
{
    return lf == start || (lf == start + 1 && *start == '\r');
}

enum mqg_err stomp_head_end(struct mqg_slice in, size_t *scanned, size_t *len)
{
    const uint8_t *end = in.ptr + in.len, *line = in.ptr + *scanned;
    while (line < end) {
        const uint8_t *lf = memchr(line, '\n', (size_t)(end - line));
        if (memchr(line, 0, (size_t)((lf != NULL ? lf : end) - line)) != NULL)
            return MQG_MALFORMED;
        if (lf == NULL)
            break;
        bool empty = stomp_is_empty_line(line, lf);
        line = lf + 1;
        if (!empty)
            continue;
        *len = (size_t)(line - in.ptr);
        return MQG_OK;
    }
    *scanned = (size_t)(line - in.ptr);
    return MQG_MORE;
}

/* The next line without its end; the block ends with one, so there is always a line feed. */
static struct mqg_slice stomp_line_take(const uint8_t **at, const uint8_t *end)
{
    const uint8_t *start = *at, *lf = memchr(start, '\n', (size_t)(end - start));
    MQG_ASSERT(lf != NULL);
    *at = lf + 1;
    size_t n = (size_t)(lf - start);
    return mqg_slice_of(start, n > 0 && start[n - 1] == '\r' ? n - 1 : n);
}

static enum mqg_err stomp_line_read(struct mqg_slice text, struct stomp_head *h, struct mqg_error *e)
{
    const uint8_t *colon = memchr(text.ptr, ':', text.len);
    if (colon == NULL || colon == text.ptr)
        return mqg_error_set(e, MQG_MALFORMED, 0, "a header is name:value, this is '%.*s'",
                             MQG_SLICE_FMT(text));
    if (h->n == h->max)
        return mqg_error_set(e, MQG_TOO_LARGE, 0, "more than %u headers", h->max);
    struct stomp_line *line = &h->lines[h->n++];
    line->name = mqg_slice_of(text.ptr, (size_t)(colon - text.ptr));
    line->value = mqg_slice_of(colon + 1, text.len - line->name.len - 1);
    line->id = stomp_header_find(line->name);
    if (line->id != STOMP_H_OTHER && !stomp_has(h, line->id)) {
        h->has |= UINT64_C(1) << line->id;
        h->known[line->id] = line->value;
    }
    return MQG_OK;
}

enum mqg_err stomp_head_read(struct mqg_slice block, struct stomp_head *h, struct mqg_error *e)
{
    const uint8_t *at = block.ptr, *end = block.ptr + block.len;
    h->len = block.len;
    h->has = 0;
    h->n = 0;
    h->escapes = memchr(block.ptr, '\\', block.len) != NULL;
    h->command_text = stomp_line_take(&at, end);
    h->command = stomp_command_find(h->command_text);
    while (at < end) {
        struct mqg_slice text = stomp_line_take(&at, end);
        if (text.len == 0)
            return at == end ? MQG_OK : mqg_error_set(e, MQG_MALFORMED, 0, "an empty line among the headers");
        enum mqg_err err = stomp_line_read(text, h, e);
        if (err != MQG_OK)
            return err;
    }
    return mqg_error_set(e, MQG_MALFORMED, 0, "headers without an end");
}

/* ---- escapes --------------------------------------------------------------------------------------------------------------- */

/* What stands behind the backslash; 0 when the version does not have it. */
static uint8_t stomp_escape_meaning(uint8_t c, enum stomp_version v)
{
    switch (c) {
    case '\\': return '\\';
    case 'c': return ':';
    case 'n': return '\n';
    case 'r': return v == STOMP_12 ? '\r' : 0;
    default: return 0;
    }
}

enum mqg_err stomp_unescape(struct mqg_slice in, enum stomp_version v, struct mqg_arena *a,
                            struct mqg_slice *out)
{
    *out = in;
    if (v == STOMP_10 || in.len == 0 || memchr(in.ptr, '\\', in.len) == NULL)
        return MQG_OK;
    uint8_t *to = mqg_arena_alloc(a, in.len);
    if (to == NULL)
        return MQG_NO_MEMORY;
    size_t n = 0;
    for (size_t i = 0; i < in.len; i++) {
        uint8_t c = in.ptr[i];
        if (c == '\\') {
            c = ++i < in.len ? stomp_escape_meaning(in.ptr[i], v) : 0;
            if (c == 0)
                return MQG_MALFORMED;
        }
        to[n++] = c;
    }
    *out = mqg_slice_of(to, n);
    return MQG_OK;
}

/* The letter that stands for a byte; 0 for one that stands for itself. NUL ends a frame and cannot be written at all (who renders
 * a value with one writes base64); should one come here, it leaves as a space. */
static uint8_t stomp_escape_letter(uint8_t c, enum stomp_version v, bool is_name)
{
    switch (c) {
    case '\n': return 'n';
    case ':': return v != STOMP_10 || is_name ? 'c' : 0;
    case '\\': return v != STOMP_10 ? '\\' : 0;
    case '\r': return v == STOMP_12 ? 'r' : 0;
    default: return 0;
    }
}

uint8_t *stomp_escape(uint8_t *to, struct mqg_slice s, enum stomp_version v, bool is_name)
{
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i], letter = stomp_escape_letter(c, v, is_name);
        if (letter != 0)
            *to++ = '\\';
        *to++ = letter != 0 ? letter : c != 0 ? c : ' ';
    }
    return to;
}

void stomp_put_header(struct mqg_dynbuf *out, enum stomp_version v, struct mqg_slice name,
                      struct mqg_slice value)
{
    uint8_t *to = mqg_dynbuf_reserve(out, STOMP_ESCAPED_MAX(name.len + value.len) + 2);
    if (to == NULL)
        return;
    uint8_t *at = stomp_escape(to, name, v, true);
    *at++ = ':';
    at = stomp_escape(at, value, v, false);
    *at++ = '\n';
    out->len += (size_t)(at - to);
}

/* ---- values ----------------------------------------------------------------------------------------------------------------- */

bool stomp_number(struct mqg_slice s, uint64_t max, uint64_t *out)
{
    uint64_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return false;
        uint64_t digit = s.ptr[i] - (uint64_t)'0';
        if (n > (max - digit) / 10)
            return false;
        n = n * 10 + digit;
    }
    *out = n;
    return s.len > 0;
}

bool stomp_flag(const struct stomp_head *h, enum stomp_header_id id, bool fallback)
{
    if (!stomp_has(h, id))
        return fallback;
    struct mqg_slice v = h->known[id];
    return mqg_slice_eq(v, MQG_SLICE_LIT("true")) || mqg_slice_eq(v, MQG_SLICE_LIT("1")) ||
           mqg_slice_eq(v, MQG_SLICE_LIT("yes"));
}
