/* msg_stored_fuzz.c - a stored form from a broken disk: refused, or a message whose parts lie inside it. */
#include <mqgate/msg.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum mqg_err err = MQG_OK;
    struct mqg_msg *m = mqg_msg_from_stored(mqg_slice_of(data, size), &err);
    MQG_ASSERT((m == NULL) == (err != MQG_OK));
    if (m == NULL)
        return 0;
    struct mqg_slice body = mqg_msg_body(m);
    MQG_ASSERT(body.ptr + body.len == (const uint8_t *)&m->st + size);
    MQG_ASSERT(mqg_slice_eq(mqg_msg_stored(m), mqg_slice_of(data, size)));
    struct mqg_slice levels[MQG_KEY_LEVELS_MAX];
    size_t n = mqg_key_levels(mqg_msg_key(m), (char)m->st.key_sep, levels, MQG_KEY_LEVELS_MAX);
    MQG_ASSERT(n <= MQG_KEY_LEVELS_MAX);
    struct mqg_msg *copy = mqg_msg_derive(m, MQG_SLICE_LIT("x"), mqg_msg_key(m), mqg_msg_overlay(m),
                                          m->st.flags, 1);
    MQG_ASSERT(copy != NULL && mqg_slice_eq(mqg_msg_body(copy), mqg_msg_body(m)));
    mqg_msg_unref(&copy);
    mqg_msg_unref(&m);
    return 0;
}
