/* names.c - names of objects.
 *
 * Metadata keys are paths of percent-encoded parts ("q/%2F/orders"), so that any byte may stand in a name and
 * still every object has exactly one key: two spellings would be two records of one queue, of which a removal
 * takes one. */
#include "names.h"

static const char names_base64url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

bool names_reserved(struct mqg_slice name)
{
    return mqg_slice_starts(name, MQG_SLICE_LIT("amq."));
}

void names_generate(char out[NAMES_GENERATED_BYTES + 1])
{
    uint8_t raw[22];
    mqg_random_bytes(raw, sizeof raw);
    memcpy(out, "amq.gen-", 8);
    for (size_t i = 0; i < sizeof raw; i++)
        out[8 + i] = names_base64url[raw[i] & 63];
    out[NAMES_GENERATED_BYTES] = '\0';
}

static bool names_plain(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

void names_key_part(struct mqg_dynbuf *out, struct mqg_slice part)
{
    static const char hex[] = "0123456789ABCDEF";
    if (out->len > 0)
        mqg_dynbuf_u8(out, '/');
    for (size_t i = 0; i < part.len; i++) {
        uint8_t c = part.ptr[i];
        if (names_plain(c)) {
            mqg_dynbuf_u8(out, c);
            continue;
        }
        uint8_t escaped[3] = {'%', (uint8_t)hex[c >> 4], (uint8_t)hex[c & 15]};
        mqg_dynbuf_put(out, escaped, sizeof escaped);
    }
}

const char *names_value_type(enum mqg_value_type type)
{
    static const char *const words[MQG_VALUE_TYPE_COUNT] = {
        [MQG_VALUE_NULL] = "void",          [MQG_VALUE_BOOL] = "bool",
        [MQG_VALUE_INT8] = "byte",          [MQG_VALUE_INT16] = "short",
        [MQG_VALUE_INT32] = "signedint",    [MQG_VALUE_INT64] = "long",
        [MQG_VALUE_UINT8] = "unsignedbyte", [MQG_VALUE_UINT16] = "unsignedshort",
        [MQG_VALUE_UINT32] = "unsignedint", [MQG_VALUE_UINT64] = "unsignedlong",
        [MQG_VALUE_FLOAT] = "float",        [MQG_VALUE_DOUBLE] = "double",
        [MQG_VALUE_DECIMAL] = "decimal",    [MQG_VALUE_TIMESTAMP] = "timestamp",
        [MQG_VALUE_STRING] = "longstr",     [MQG_VALUE_BYTES] = "binary",
        [MQG_VALUE_ARRAY] = "array",        [MQG_VALUE_TABLE] = "table",
    };
    return type < MQG_VALUE_TYPE_COUNT ? words[type] : "unknown";
}
