/* selector_fuzz.c - any text as a selector, judged against headers of every type: refused with a text, or run to its end; and the
 * same text says the same twice. */
#include "selector.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What a name means follows from its first byte, so that all types come by. */
static bool fuzz_get(void *arg, struct mqg_slice name, struct mqg_value *out)
{
    (void)arg;
    uint8_t first = name.len > 0 ? name.ptr[0] : 0;
    *out = (struct mqg_value){.type = (enum mqg_value_type)(first % MQG_VALUE_TYPE_COUNT)};
    switch (out->type) {
    case MQG_VALUE_FLOAT:
    case MQG_VALUE_DOUBLE: out->d = first / 7.0; break;
    case MQG_VALUE_STRING:
    case MQG_VALUE_BYTES: out->bytes = name; break;
    case MQG_VALUE_DECIMAL: out->dec.scale = first; break;
    case MQG_VALUE_INT64: out->i = INT64_MIN; break;
    case MQG_VALUE_UINT64: out->u = UINT64_MAX; break;
    default: out->i = first & 1; break;
    }
    if (out->type == MQG_VALUE_ARRAY || out->type == MQG_VALUE_TABLE)
        out->table = (struct mqg_table){.n = 0};
    return first != 'z';
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct stomp_selector *s;
    struct mqg_error e = {.text = ""};
    enum mqg_err err = stomp_selector_parse(mqg_slice_of(data, size), &s, &e);
    if (err == MQG_OK) {
        bool match = stomp_selector_match(s, fuzz_get, NULL), again = stomp_selector_match(s, fuzz_get, NULL);
        MQG_ASSERT(match == again);
    } else {
        bool told = s == NULL && (err == MQG_INVALID || err == MQG_TOO_LARGE) && e.text[0] != '\0';
        MQG_ASSERT(told);
    }
    stomp_selector_free(&s);
    return 0;
}
