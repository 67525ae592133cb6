/* Frames are written into one growing buffer and their length filled in afterwards: only set-up and acks come
 * through here, publishes are built once and then only stamped. */
#include "load_wire.h"

#include "load_util.h"

#include <stdlib.h>

void load_put_bytes(struct load_out *out, const void *data, size_t bytes)
{
    if (out->len + bytes > out->cap) {
        out->cap = (out->len + bytes) * 2;
        out->data = realloc(out->data, out->cap);
        if (out->data == NULL)
            load_fail("out of memory for %zu bytes", out->cap);
    }
    if (bytes != 0)
        memcpy(out->data + out->len, data, bytes);
    out->len += bytes;
}

void load_put_u8(struct load_out *out, unsigned value)
{
    const uint8_t byte = (uint8_t)value;
    load_put_bytes(out, &byte, 1);
}

void load_put_u16(struct load_out *out, unsigned value)
{
    load_put_u8(out, value >> 8);
    load_put_u8(out, value);
}

void load_put_u32(struct load_out *out, uint32_t value)
{
    value = __builtin_bswap32(value);
    load_put_bytes(out, &value, sizeof value);
}

void load_put_u64(struct load_out *out, uint64_t value)
{
    value = __builtin_bswap64(value);
    load_put_bytes(out, &value, sizeof value);
}

void load_put_short(struct load_out *out, const char *text)
{
    const size_t bytes = strlen(text);
    if (bytes > UINT8_MAX)
        load_fail("a name has more than 255 bytes");
    load_put_u8(out, (unsigned)bytes);
    load_put_bytes(out, text, bytes);
}

void load_put_long(struct load_out *out, const void *data, size_t bytes)
{
    load_put_u32(out, (uint32_t)bytes);
    load_put_bytes(out, data, bytes);
}

size_t load_frame_begin(struct load_out *out, unsigned type, unsigned channel)
{
    const size_t start = out->len;
    load_put_u8(out, type);
    load_put_u16(out, channel);
    load_put_u32(out, 0);
    return start;
}

size_t load_method_begin(struct load_out *out, unsigned channel, uint32_t method)
{
    const size_t start = load_frame_begin(out, LOAD_FRAME_METHOD, channel);
    load_put_u32(out, method);
    return start;
}

static void wire_fill_u32(struct load_out *out, size_t at, size_t value)
{
    const uint32_t swapped = __builtin_bswap32((uint32_t)value);
    memcpy(out->data + at, &swapped, sizeof swapped);
}

void load_frame_end(struct load_out *out, size_t start)
{
    wire_fill_u32(out, start + 3, out->len - start - LOAD_FRAME_HEAD);
    load_put_u8(out, LOAD_FRAME_END);
}

static void wire_put_pair(struct load_out *out, const char *pair)
{
    const size_t key_bytes = strcspn(pair, "=");
    if (pair[key_bytes] == '\0' || key_bytes > UINT8_MAX)
        load_fail("'%s' is not key=value", pair);
    const char *value = pair + key_bytes + 1;
    load_put_u8(out, (unsigned)key_bytes);
    load_put_bytes(out, pair, key_bytes);
    if (*value != '\0' && strspn(value, "0123456789") == strlen(value)) {
        load_put_u8(out, 'l');
        load_put_u64(out, strtoull(value, NULL, 10));
    } else {
        load_put_u8(out, 'S');
        load_put_long(out, value, strlen(value));
    }
}

void load_put_table(struct load_out *out, const char *const *pairs, size_t count)
{
    const size_t start = out->len;
    load_put_u32(out, 0);
    for (size_t i = 0; i < count; i++)
        wire_put_pair(out, pairs[i]);
    wire_fill_u32(out, start, out->len - start - 4);
}
