/* slice.c - borrowed bytes: order, copies, and whether they are text.
 *
 * UTF-8 is checked by the ranges of RFC 3629 section 4, whose table excludes overlong forms, surrogates and
 * what lies beyond U+10FFFF by bounding the second byte alone. Eight ASCII bytes at a time are passed over
 * first, because most names and headers are nothing else. */
#include <mqgate/base.h>

int mqg_slice_cmp(struct mqg_slice a, struct mqg_slice b)
{
    size_t common = a.len < b.len ? a.len : b.len;
    int order = common > 0 ? memcmp(a.ptr, b.ptr, common) : 0;
    if (order != 0)
        return order < 0 ? -1 : 1;
    return (a.len > b.len) - (a.len < b.len);
}

bool mqg_slice_starts(struct mqg_slice s, struct mqg_slice prefix)
{
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.ptr, prefix.ptr, prefix.len) == 0);
}

char *mqg_slice_dup(struct mqg_slice s)
{
    MQG_ASSERT(s.len < SIZE_MAX);
    char *copy = mqg_xmalloc(s.len + 1);
    if (s.len > 0)
        memcpy(copy, s.ptr, s.len);
    copy[s.len] = '\0';
    return copy;
}

static size_t utf8_ascii(const uint8_t *p, size_t left)
{
    size_t n = 0;
    while (left - n >= 8 && (mqg_le64(p + n) & UINT64_C(0x8080808080808080)) == 0)
        n += 8;
    while (n < left && p[n] < 0x80)
        n++;
    return n;
}

static bool utf8_tail(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return false;
    return true;
}

/* Bytes of the sequence that starts at p with a byte >= 0x80; 0 when it is not well-formed. */
static size_t utf8_sequence(const uint8_t *p, size_t left)
{
    static const struct {
        uint8_t first_min, first_max, second_min, second_max, len;
    } rows[] = {
        {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
        {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
        {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        if (p[0] < rows[i].first_min || p[0] > rows[i].first_max)
            continue;
        bool good = left >= rows[i].len && p[1] >= rows[i].second_min && p[1] <= rows[i].second_max &&
                    utf8_tail(p + 2, rows[i].len - 2u);
        return good ? rows[i].len : 0;
    }
    return 0;
}

bool mqg_utf8_valid(struct mqg_slice s)
{
    if (s.len == 0)
        return true; /* ptr may be NULL */
    const uint8_t *p = s.ptr;
    const uint8_t *end = s.ptr + s.len;
    while (p < end) {
        p += utf8_ascii(p, (size_t)(end - p));
        if (p == end)
            return true;
        size_t n = utf8_sequence(p, (size_t)(end - p));
        if (n == 0)
            return false;
        p += n;
    }
    return true;
}
