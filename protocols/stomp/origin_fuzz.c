/* origin_fuzz.c - any bytes as an origin (it may come from a disk): its view is inside its bounds, and every value of it has a
 * text. */
#include "stomp.h"
#include "text.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct stomp_settings stomp_settings;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mqg_arena a;
    struct mqg_view view;
    mqg_arena_init(&a, 4u << 20);
    if (stomp_origin_ops.decode(mqg_slice_of(data, size), &a, &view) == MQG_OK)
        for (uint32_t i = 0; i < view.headers.n; i++) {
            struct mqg_dynbuf out;
            mqg_dynbuf_init(&out, 1u << 20);
            stomp_text_of(&out, &view.headers.fields[i].value);
            MQG_ASSERT(out.len <= out.max);
            mqg_dynbuf_fini(&out);
        }
    mqg_arena_fini(&a);
    return 0;
}
