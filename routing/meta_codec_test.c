/* meta_codec_test.c - definitions as metadata: golden bytes, round trips, every cut and every flipped byte. */
#include "meta_codec.h"

#include "names.h"

#include "../core/base/test_kit.h"

static struct mqg_field sample_args[] = {
    {{(const uint8_t *)"x-max-length", 12}, {.type = MQG_VALUE_INT32, .i = 7}},
    {{(const uint8_t *)"b", 1}, {.type = MQG_VALUE_STRING, .bytes = {(const uint8_t *)"text", 4}}},
};
static const struct mqg_table sample_table = {sample_args, 2, 2};

static struct meta_record sample(enum meta_kind kind)
{
    struct meta_record r = {.kind = kind, .number = 0x1122334455667788};
    r.vhost = MQG_SLICE_LIT("/");
    r.exchange = (struct mqg_exchange_def){MQG_SLICE_LIT("x"), MQG_SLICE_LIT("topic"), true, false, true,
                                           sample_table};
    r.queue = (struct mqg_queue_def){
        .name = MQG_SLICE_LIT("a/b%"), .durable = true, .auto_delete = true, .args = sample_table};
    r.binding = (struct mqg_binding_def){MQG_SLICE_LIT("x"), MQG_SLICE_LIT("a/b%"), false,
                                         MQG_SLICE_LIT("k.#"), sample_table};
    return r;
}

static void assert_key(const struct meta_record *r, const char *want)
{
    struct mqg_dynbuf key;
    mqg_dynbuf_init(&key, 4096);
    meta_key(&key, r);
    assert_false(key.failed);
    mqg_dynbuf_u8(&key, 0);
    assert_string_equal((const char *)key.ptr, want);
    assert_int_equal(meta_kind_of(mqg_slice_of(key.ptr, key.len - 1)), r->kind);
    mqg_dynbuf_fini(&key);
}

static void test_keys(void **state)
{
    (void)state;
    struct meta_record r = sample(META_VHOST);
    assert_key(&r, "vhost/%2F");
    r.kind = META_EXCHANGE;
    assert_key(&r, "x/%2F/x");
    r.kind = META_QUEUE;
    assert_key(&r, "q/%2F/a%2Fb%25");
    r.kind = META_BINDING;
    r.binding.args.n = 0;
    assert_key(&r, "b/%2F/x/q/a%2Fb%25/k.%23/");
    r.binding.to_exchange = true;
    r.binding.key = MQG_SLICE_NONE;
    assert_key(&r, "b/%2F/x/x/a%2Fb%25//");
    r.kind = META_QUEUE_ID;
    assert_key(&r, "node/queue_id");
    r.kind = META_EPOCH;
    assert_key(&r, "node/epoch");
    assert_int_equal(meta_kind_of(MQG_SLICE_LIT("user/guest")), META_KIND_COUNT);
    assert_int_equal(meta_kind_of(MQG_SLICE_LIT("node/other")), META_KIND_COUNT);
}

static void key_of(const struct mqg_table *args, struct mqg_dynbuf *out)
{
    struct meta_record r = sample(META_BINDING);
    r.binding.args = *args;
    mqg_dynbuf_init(out, 4096);
    meta_key(out, &r);
}

/* The order of arguments does not tell bindings apart; types and values do. */
static void test_args_in_key(void **state)
{
    (void)state;
    struct mqg_field turned[] = {sample_args[1], sample_args[0]};
    struct mqg_field other[] = {sample_args[0], sample_args[1]};
    other[0].value.type = MQG_VALUE_INT64;
    struct mqg_table tables[] = {sample_table, {turned, 2, 2}, {other, 2, 2}};
    struct mqg_dynbuf keys[3];
    for (size_t i = 0; i < 3; i++)
        key_of(&tables[i], &keys[i]);
    assert_true(mqg_slice_eq(mqg_dynbuf_view(&keys[0]), mqg_dynbuf_view(&keys[1])));
    assert_false(mqg_slice_eq(mqg_dynbuf_view(&keys[0]), mqg_dynbuf_view(&keys[2])));
    for (size_t i = 0; i < 3; i++)
        mqg_dynbuf_fini(&keys[i]);
}

static const uint8_t golden_queue_id[] = {1, 0, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11};
static const uint8_t golden_vhost[] = {1, 0, 1, 0, '/'};
static const uint8_t golden_queue_head[] = {1, 3, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
                                            1, 0, '/',  4,    0,    'a',  '/',  'b',  '%'};
static const uint8_t golden_exchange_head[] = {1, 5, 1, 0, '/', 1, 0, 'x', 5, 0, 't', 'o', 'p', 'i', 'c'};
static const uint8_t golden_binding_head[] = {1,   0,   1,   0,   '/', 1, 0,   'x', 4,  0,
                                              'a', '/', 'b', '%', 3,   0, 'k', '.', '#'};

static const struct {
    enum meta_kind kind;
    const uint8_t *head;
    size_t len;
} golden[] = {
    {META_QUEUE_ID, golden_queue_id, sizeof golden_queue_id},
    {META_EPOCH, golden_queue_id, sizeof golden_queue_id},
    {META_VHOST, golden_vhost, sizeof golden_vhost},
    {META_QUEUE, golden_queue_head, sizeof golden_queue_head},
    {META_EXCHANGE, golden_exchange_head, sizeof golden_exchange_head},
    {META_BINDING, golden_binding_head, sizeof golden_binding_head},
};

static void test_golden_bytes(void **state)
{
    (void)state;
    for (size_t i = 0; i < MQG_COUNTOF(golden); i++) {
        struct meta_record r = sample(golden[i].kind);
        struct mqg_dynbuf out;
        mqg_dynbuf_init(&out, 4096);
        meta_encode(&out, &r);
        assert_false(out.failed);
        assert_true(out.len >= golden[i].len);
        assert_memory_equal(out.ptr, golden[i].head, golden[i].len);
        mqg_dynbuf_fini(&out);
    }
}

static void assert_same(const struct meta_record *a, const struct meta_record *b)
{
    struct mqg_dynbuf x, y;
    mqg_dynbuf_init(&x, 4096);
    mqg_dynbuf_init(&y, 4096);
    meta_encode(&x, a);
    meta_encode(&y, b);
    assert_true(mqg_slice_eq(mqg_dynbuf_view(&x), mqg_dynbuf_view(&y)));
    mqg_dynbuf_fini(&x);
    mqg_dynbuf_fini(&y);
}

static void encode_sample(enum meta_kind kind, struct mqg_dynbuf *out)
{
    struct meta_record r = sample(kind);
    mqg_dynbuf_init(out, 4096);
    meta_encode(out, &r);
}

static void test_round_trip_and_cuts(void **state)
{
    (void)state;
    for (enum meta_kind kind = META_VHOST; kind < META_KIND_COUNT; kind++) {
        struct meta_record want = sample(kind), got;
        struct mqg_dynbuf out;
        struct mqg_arena a;
        encode_sample(kind, &out);
        mqg_arena_init(&a, 1u << 20);
        assert_int_equal(meta_decode(kind, mqg_dynbuf_view(&out), &a, &got), MQG_OK);
        assert_same(&want, &got);
        for (size_t cut = 0; cut < out.len; cut++) {
            uint8_t *exact = test_exact_copy(mqg_slice_of(out.ptr, cut));
            assert_int_not_equal(meta_decode(kind, mqg_slice_of(exact, cut), &a, &got), MQG_OK);
            free(exact);
        }
        mqg_dynbuf_u8(&out, 0);
        assert_int_equal(meta_decode(kind, mqg_dynbuf_view(&out), &a, &got), MQG_MALFORMED);
        mqg_arena_fini(&a);
        mqg_dynbuf_fini(&out);
    }
}

/* A flipped byte is refused, or is another record that encodes to the same bytes; never a crash. */
static void test_flips(void **state)
{
    (void)state;
    for (enum meta_kind kind = META_VHOST; kind < META_KIND_COUNT; kind++) {
        struct mqg_dynbuf out;
        encode_sample(kind, &out);
        for (size_t i = 0; i < out.len * 8; i++) {
            struct meta_record got;
            struct mqg_arena a;
            mqg_arena_init(&a, 1u << 20);
            uint8_t *exact = test_exact_copy(mqg_dynbuf_view(&out));
            exact[i / 8] ^= (uint8_t)(1u << (i % 8));
            if (meta_decode(kind, mqg_slice_of(exact, out.len), &a, &got) == MQG_OK) {
                struct mqg_dynbuf again;
                mqg_dynbuf_init(&again, 4096);
                meta_encode(&again, &got);
                assert_int_equal(again.len, out.len);
                mqg_dynbuf_fini(&again);
            }
            free(exact);
            mqg_arena_fini(&a);
        }
        mqg_dynbuf_fini(&out);
    }
}

static void test_later_versions_are_refused(void **state)
{
    (void)state;
    struct mqg_dynbuf out;
    struct mqg_arena a;
    struct meta_record got;
    mqg_arena_init(&a, 1u << 20);
    encode_sample(META_QUEUE, &out);
    out.ptr[0] = 2;
    assert_int_equal(meta_decode(META_QUEUE, mqg_dynbuf_view(&out), &a, &got), MQG_UNSUPPORTED);
    out.ptr[0] = 1;
    out.ptr[1] |= 0x40;
    assert_int_equal(meta_decode(META_QUEUE, mqg_dynbuf_view(&out), &a, &got), MQG_UNSUPPORTED);
    mqg_dynbuf_fini(&out);
    mqg_arena_fini(&a);
}

static void test_names(void **state)
{
    (void)state;
    char one[NAMES_GENERATED_BYTES + 1], two[NAMES_GENERATED_BYTES + 1];
    names_generate(one);
    names_generate(two);
    assert_int_equal(strlen(one), 30);
    assert_int_equal(strspn(one + 8, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"), 22);
    assert_string_not_equal(one, two);
    assert_true(names_reserved(mqg_slice_str(one)));
    assert_false(names_reserved(MQG_SLICE_LIT("amqp")));
    assert_string_equal(names_value_type(MQG_VALUE_INT64), "long");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),         cmocka_unit_test(test_args_in_key),
        cmocka_unit_test(test_golden_bytes), cmocka_unit_test(test_round_trip_and_cuts),
        cmocka_unit_test(test_flips),        cmocka_unit_test(test_later_versions_are_refused),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests_name("meta_codec", tests, NULL, NULL);
}
