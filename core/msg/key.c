/* key.c - routing keys as lists of levels.
 *
 * A key is kept as its publisher wrote it, together with that protocol's separator: AMQP "a.b/c" and MQTT "a/b.c" are
 * the same two levels. Rendering for the other protocol swaps the two separators everywhere, which is its own inverse,
 * so a key survives any number of crossings. */
#include <mqgate/msg.h>

size_t mqg_key_levels(struct mqg_slice key, char sep, struct mqg_slice *levels, size_t max)
{
    size_t n = 0, start = 0;
    for (size_t i = 0; i <= key.len; i++) {
        if (i < key.len && key.ptr[i] != (uint8_t)sep)
            continue;
        if (n == max)
            return 0;
        levels[n++] = i > start ? mqg_slice_of(key.ptr + start, i - start) : MQG_SLICE_NONE;
        start = i + 1;
    }
    return n;
}

void mqg_key_swap(uint8_t *to, struct mqg_slice key, char from_sep, char to_sep)
{
    for (size_t i = 0; i < key.len; i++) {
        uint8_t c = key.ptr[i];
        if (c == (uint8_t)from_sep)
            c = (uint8_t)to_sep;
        else if (c == (uint8_t)to_sep)
            c = (uint8_t)from_sep;
        to[i] = c;
    }
}

void mqg_key_render(struct mqg_dynbuf *out, struct mqg_slice key, char from_sep, char to_sep)
{
    uint8_t *to = mqg_dynbuf_reserve(out, key.len);
    if (to == NULL)
        return;
    mqg_key_swap(to, key, from_sep, to_sep);
    out->len += key.len;
}
