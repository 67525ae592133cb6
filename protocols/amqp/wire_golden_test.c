/* wire_golden_test.c - every method and content header against the bytes of another encoder (golden.py).
 *
 * A vector is a frame and the arguments it was made from. Each is decoded and compared argument by argument,
 * encoded from its arguments and compared byte by byte, fed cut at each byte (nothing shorter may pass), with each
 * bit of each byte flipped (whatever passes must encode to the same length and decode to the same again), and with a
 * byte too many. A last test sees that no method of the table went without a vector. */
#include "methods.h"
#include "props.h"
#include "table.h"
#include "wire_kit.h"

enum { GOLDEN_FRAME_MAX = 131072 };

static bool golden_seen[AMQP_METHOD_COUNT];

struct golden_method {
    uint32_t id;
    size_t args_len;
};

/* ---- helpers of the rows --------------------------------------------------------------------------------------- */

static struct mqg_slice golden_open(struct mqg_slice frame_bytes, uint8_t type, uint16_t channel)
{
    struct amqp_frame frame;
    assert_int_equal(amqp_frame_peek(frame_bytes, GOLDEN_FRAME_MAX, &frame), MQG_OK);
    assert_int_equal(frame.type, type);
    assert_int_equal(frame.channel, channel);
    assert_int_equal(frame.total_bytes, frame_bytes.len);
    return frame.payload;
}

static void golden_cut_frame(struct mqg_slice cut, void *arg)
{
    (void)arg;
    struct amqp_frame frame;
    assert_int_equal(amqp_frame_peek(cut, GOLDEN_FRAME_MAX, &frame), MQG_MORE);
}

static void golden_cut_args(struct mqg_slice cut, void *arg)
{
    const struct golden_method *method = arg;
    union amqp_any any;
    assert_int_equal(amqp_any_decode(method->id, cut, &any), MQG_MALFORMED);
}

static struct mqg_slice golden_written(uint32_t id, const union amqp_any *any)
{
    const size_t size = amqp_any_size(id, any);
    uint8_t *bytes = malloc(size);
    assert_non_null(bytes);
    assert_ptr_equal(amqp_any_write(bytes, id, any), bytes + size);
    return mqg_slice_of(bytes, size);
}

static void golden_flip_args(struct mqg_slice bad, void *arg)
{
    const struct golden_method *method = arg;
    union amqp_any first;
    union amqp_any second;
    if (amqp_any_decode(method->id, bad, &first) != MQG_OK)
        return;
    struct mqg_slice once = golden_written(method->id, &first);
    assert_int_equal(once.len, bad.len + 4);
    const struct mqg_slice args = mqg_slice_of(once.ptr + 4, once.len - 4);
    assert_int_equal(amqp_any_decode(method->id, args, &second), MQG_OK);
    struct mqg_slice twice = golden_written(method->id, &second);
    kit_assert_slice(twice, once);
    kit_free(once);
    kit_free(twice);
}

static void golden_flip_frame(struct mqg_slice bad, void *arg)
{
    (void)arg;
    struct amqp_frame frame;
    const enum mqg_err err = amqp_frame_peek(bad, GOLDEN_FRAME_MAX, &frame);
    assert_true(err == MQG_OK || err == MQG_MORE || err == MQG_MALFORMED || err == MQG_TOO_LARGE);
    if (err == MQG_OK)
        assert_in_range(frame.total_bytes, AMQP_FRAME_OVERHEAD_BYTES, bad.len);
}

static void golden_one_more(uint32_t id, struct mqg_slice args)
{
    uint8_t *longer = malloc(args.len + 1);
    assert_non_null(longer);
    amqp_put_bytes(longer, args);
    longer[args.len] = 0;
    union amqp_any any;
    assert_int_equal(amqp_any_decode(id, mqg_slice_of(longer, args.len + 1), &any), MQG_MALFORMED);
    free(longer);
}

static void golden_hostile(uint32_t id, struct mqg_slice frame_bytes, struct mqg_slice args)
{
    struct golden_method method = {id, args.len};
    kit_each_cut(frame_bytes, golden_cut_frame, NULL);
    kit_each_flip(frame_bytes, golden_flip_frame, NULL);
    kit_each_cut(args, golden_cut_args, &method);
    kit_each_flip(args, golden_flip_args, &method);
    golden_one_more(id, args);
}

/* ---- methods: each row of wire_golden.inc becomes a function ---------------------------------------------------- */

#define GOLDEN_BEGIN(label, method, ENUM, channel_, bytes)                                     \
    static void golden_##label(void **state)                                                   \
    {                                                                                          \
        (void)state;                                                                           \
        const struct mqg_slice frame_bytes = kit_exact_copy(MQG_SLICE_LIT(bytes));             \
        const uint16_t channel = channel_;                                                     \
        const struct mqg_slice payload = golden_open(frame_bytes, AMQP_FRAME_METHOD, channel); \
        struct mqg_slice args = MQG_SLICE_NONE;                                                \
        uint32_t id = 0;                                                                       \
        assert_int_equal(amqp_method_split(payload, &id, &args), MQG_OK);                      \
        assert_int_equal(id, ENUM);                                                            \
        golden_seen[amqp_method_find(id)->ordinal] = true;                                     \
        union amqp_any got_any;                                                                \
        assert_int_equal(amqp_any_decode(id, args, &got_any), MQG_OK);                         \
        const struct amqp_##method *got = &got_any.method;                                     \
        struct amqp_##method want = {0};                                                       \
        (void)got;
#define GOLDEN_NUM(field, value)        \
    assert_true(got->field == (value)); \
    want.field = (value);
#define GOLDEN_STR(field, bytes)                        \
    kit_assert_slice(got->field, MQG_SLICE_LIT(bytes)); \
    want.field = MQG_SLICE_LIT(bytes);
#define GOLDEN_TABLE(field, bytes) \
    GOLDEN_STR(field, bytes)       \
    assert_int_equal(amqp_table_check(got->field), MQG_OK);
#define GOLDEN_END(label, method)                                            \
    uint8_t *made = malloc(amqp_##method##_frame_size(&want));               \
    assert_non_null(made);                                                   \
    const uint8_t *end = amqp_##method##_frame(made, channel, &want);        \
    assert_int_equal(end - made, amqp_##method##_frame_size(&want));         \
    kit_assert_slice(mqg_slice_of(made, (size_t)(end - made)), frame_bytes); \
    free(made);                                                              \
    golden_hostile(id, frame_bytes, args);                                   \
    kit_free(frame_bytes);                                                   \
    }

/* ---- content headers --------------------------------------------------------------------------------------------- */

static void golden_cut_raw(struct mqg_slice cut, void *arg)
{
    (void)arg;
    struct amqp_props props;
    assert_int_equal(amqp_props_scan(cut, &props), MQG_MALFORMED);
}

static void golden_flip_raw(struct mqg_slice bad, void *arg)
{
    (void)arg;
    struct amqp_props props;
    if (amqp_props_scan(bad, &props) != MQG_OK)
        return;
    uint8_t *again = malloc(bad.len);
    assert_int_equal(amqp_props_size(&props), bad.len);
    amqp_props_write(again, &props);
    kit_assert_slice(mqg_slice_of(again, bad.len), bad);
    free(again);
}

static void golden_content_made(const struct amqp_props *want, uint16_t channel, uint64_t body_bytes,
                                struct mqg_slice frame_bytes)
{
    uint8_t *raw = malloc(amqp_props_size(want));
    assert_non_null(raw);
    const uint8_t *raw_end = amqp_props_write(raw, want);
    const struct mqg_slice made_raw = mqg_slice_of(raw, (size_t)(raw_end - raw));
    assert_int_equal(made_raw.len, amqp_props_size(want));
    uint8_t *made = malloc(amqp_content_frame_size(made_raw));
    assert_non_null(made);
    const uint8_t *end = amqp_content_frame(made, channel, body_bytes, made_raw);
    assert_int_equal(end - made, amqp_content_frame_size(made_raw));
    kit_assert_slice(mqg_slice_of(made, (size_t)(end - made)), frame_bytes);
    free(made);
    free(raw);
}

#define CONTENT_BEGIN(label, channel_, size, bytes)                                                         \
    static void golden_##label(void **state)                                                                \
    {                                                                                                       \
        (void)state;                                                                                        \
        const struct mqg_slice frame_bytes = kit_exact_copy(MQG_SLICE_LIT(bytes));                          \
        const uint16_t channel = channel_;                                                                  \
        const uint64_t body_bytes = size;                                                                   \
        struct amqp_content content;                                                                        \
        assert_int_equal(amqp_content_peek(golden_open(frame_bytes, AMQP_FRAME_HEADER, channel), &content), \
                         MQG_OK);                                                                           \
        assert_int_equal(content.class_id, AMQP_CLASS_BASIC);                                               \
        assert_true(content.body_bytes == body_bytes);                                                      \
        struct amqp_props props;                                                                            \
        assert_int_equal(amqp_props_scan(content.raw, &props), MQG_OK);                                     \
        const struct amqp_props *got = &props;                                                              \
        struct amqp_props want = {0};
#define CONTENT_FLAG(FLAG)                              \
    assert_true(amqp_props_has(got, AMQP_PROP_##FLAG)); \
    want.flags |= AMQP_PROP_##FLAG;
#define CONTENT_NUM(FLAG, field, value) \
    CONTENT_FLAG(FLAG)                  \
    GOLDEN_NUM(field, value)
#define CONTENT_STR(FLAG, field, bytes) \
    CONTENT_FLAG(FLAG)                  \
    GOLDEN_STR(field, bytes)
#define CONTENT_TABLE(FLAG, field, bytes) \
    CONTENT_FLAG(FLAG)                    \
    GOLDEN_TABLE(field, bytes)
#define CONTENT_END(label)                                        \
    assert_int_equal(got->flags, want.flags);                     \
    golden_content_made(&want, channel, body_bytes, frame_bytes); \
    kit_each_cut(frame_bytes, golden_cut_frame, NULL);            \
    kit_each_flip(frame_bytes, golden_flip_frame, NULL);          \
    kit_each_cut(content.raw, golden_cut_raw, NULL);              \
    kit_each_flip(content.raw, golden_flip_raw, NULL);            \
    kit_free(frame_bytes);                                        \
    }

#include "wire_golden.inc"

/* ---- the list ----------------------------------------------------------------------------------------------------- */

/* Runs last. */
static void golden_complete(void **state)
{
    (void)state;
    static const char *const names[AMQP_METHOD_COUNT] = {
#define GOLDEN_NAME(ENUM, name, class_id, method_id, flags) #name,
        AMQP_METHODS(GOLDEN_NAME)
#undef GOLDEN_NAME
    };
    for (size_t i = 0; i < AMQP_METHOD_COUNT; i++) {
        if (!golden_seen[i])
            fail_msg("no vector for %s", names[i]);
    }
}

#undef GOLDEN_BEGIN
#undef GOLDEN_NUM
#undef GOLDEN_STR
#undef GOLDEN_TABLE
#undef GOLDEN_END
#undef CONTENT_BEGIN
#undef CONTENT_NUM
#undef CONTENT_STR
#undef CONTENT_TABLE
#undef CONTENT_END
#define GOLDEN_BEGIN(label, method, ENUM, channel, bytes) cmocka_unit_test(golden_##label),
#define GOLDEN_NUM(field, value)
#define GOLDEN_STR(field, bytes)
#define GOLDEN_TABLE(field, bytes)
#define GOLDEN_END(label, method)
#define CONTENT_BEGIN(label, channel, size, bytes) cmocka_unit_test(golden_##label),
#define CONTENT_NUM(FLAG, field, value)
#define CONTENT_STR(FLAG, field, bytes)
#define CONTENT_TABLE(FLAG, field, bytes)
#define CONTENT_END(label)

int main(void)
{
    const struct CMUnitTest tests[] = {
#include "wire_golden.inc"
        cmocka_unit_test(golden_complete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
