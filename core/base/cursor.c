/* cursor.c - the one read that is too long to be inline.
 *
 * A varint has one spelling only: a peer that could write a length in two ways could make two parsers of the
 * same bytes disagree. So an overlong form fails, as does a tenth byte with more than the 64th bit. */
#include <mqgate/base.h>

enum { VARINT_BYTES_MAX = 10 };

uint64_t mqg_cursor_varint(struct mqg_cursor *c)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < VARINT_BYTES_MAX; i++) {
        uint8_t byte = mqg_cursor_u8(c);
        if (c->failed)
            return 0;
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte & 0x80)
            continue;
        bool overlong = byte == 0 && i > 0;
        bool overflow = i == VARINT_BYTES_MAX - 1 && byte > 1;
        if (overlong || overflow)
            break;
        return value;
    }
    mqg_cursor_fail(c);
    return 0;
}
