/* view_test.c - the overlay's codec, and the common view with an overlay applied. */
#include <mqgate/msg.h>

#include <setjmp.h>
#include <stdlib.h>

#include <cmocka.h>

static struct mqg_arena arena;

static int arena_setup(void **state)
{
    (void)state;
    mqg_arena_init(&arena, 1 << 20);
    return 0;
}

static int arena_teardown(void **state)
{
    (void)state;
    mqg_arena_fini(&arena);
    return 0;
}

static struct mqg_overlay overlay_sample(void)
{
    struct mqg_overlay o = {
        .drop = MQG_PROP_EXPIRATION, .has_reply_to = true, .reply_to = MQG_SLICE_LIT("amq.reply")};
    mqg_table_set_bool(&arena, &o.remove, "bcc", true);
    mqg_table_set_int(&arena, &o.set, "x-count", 2);
    mqg_table_set_str(&arena, &o.set, "x-new", MQG_SLICE_LIT("v"));
    return o;
}

static void overlay_bytes(const struct mqg_overlay *o, struct mqg_dynbuf *out)
{
    mqg_dynbuf_init(out, 1 << 16);
    mqg_overlay_encode(out, o);
    assert_false(out->failed);
}

static void test_overlay_goes_round(void **state)
{
    (void)state;
    struct mqg_overlay o = overlay_sample(), back;
    struct mqg_dynbuf out;
    overlay_bytes(&o, &out);
    assert_int_equal(mqg_overlay_decode(mqg_dynbuf_view(&out), &arena, &back), MQG_OK);
    assert_int_equal(back.drop, MQG_PROP_EXPIRATION);
    assert_true(back.has_reply_to && mqg_slice_eq(back.reply_to, o.reply_to));
    assert_true(mqg_table_equal(&back.remove, &o.remove));
    assert_true(mqg_table_equal(&back.set, &o.set));
    mqg_dynbuf_fini(&out);
}

static void test_empty_overlay_changes_nothing(void **state)
{
    (void)state;
    struct mqg_overlay o;
    assert_int_equal(mqg_overlay_decode(MQG_SLICE_NONE, &arena, &o), MQG_OK);
    assert_int_equal(o.drop, 0);
    assert_int_equal(o.set.n, 0);
}

static void test_overlay_cut_or_longer_is_refused(void **state)
{
    (void)state;
    struct mqg_overlay o = overlay_sample(), back;
    struct mqg_dynbuf out;
    overlay_bytes(&o, &out);
    for (size_t n = 1; n < out.len; n++) {
        uint8_t *exact = malloc(n);
        memcpy(exact, out.ptr, n);
        assert_int_not_equal(mqg_overlay_decode(mqg_slice_of(exact, n), &arena, &back), MQG_OK);
        free(exact);
    }
    mqg_dynbuf_u8(&out, 0);
    assert_int_equal(mqg_overlay_decode(mqg_dynbuf_view(&out), &arena, &back), MQG_MALFORMED);
    out.ptr[0] = 2;
    assert_int_equal(mqg_overlay_decode(mqg_dynbuf_view(&out), &arena, &back), MQG_UNSUPPORTED);
    mqg_dynbuf_fini(&out);
}

static void test_overlay_over_its_maximum_fails_softly(void **state)
{
    (void)state;
    struct mqg_overlay o = overlay_sample();
    for (size_t max = 1; max < 40; max++) {
        struct mqg_dynbuf out;
        mqg_dynbuf_init(&out, max);
        mqg_overlay_encode(&out, &o);
        assert_true(out.failed);
        mqg_dynbuf_fini(&out);
    }
}

/* The origin form of the test: "E" sets an expiration, each further letter is a header of that name. */
static enum mqg_err letters_decode(struct mqg_slice origin, struct mqg_arena *a, struct mqg_view *out)
{
    out->has = MQG_PROP_CONTENT_TYPE | MQG_PROP_EXPIRATION | MQG_PROP_PRIORITY;
    out->content_type = MQG_SLICE_LIT("text/plain");
    out->expiration_ms = 99;
    out->priority = 5;
    for (size_t i = 0; i < origin.len; i++) {
        struct mqg_field *f = mqg_table_add(a, &out->headers, mqg_slice_of(origin.ptr + i, 1));
        if (f == NULL)
            return MQG_NO_MEMORY;
        f->value = (struct mqg_value){.type = MQG_VALUE_INT32, .i = (int64_t)i};
    }
    return origin.len > 8 ? MQG_MALFORMED : MQG_OK;
}

static struct mqg_msg *letters_msg(const char *origin, const struct mqg_overlay *o)
{
    struct mqg_dynbuf out;
    overlay_bytes(o, &out);
    struct mqg_msg_parts parts = {.proto = MQG_PROTO_INTERNAL,
                                  .key_sep = '.',
                                  .origin = mqg_slice_str(origin),
                                  .overlay = mqg_dynbuf_view(&out)};
    struct mqg_msg *m = mqg_msg_new(&parts);
    mqg_dynbuf_fini(&out);
    return m;
}

static void letters_register(void)
{
    static const struct mqg_origin_ops ops = {.proto = MQG_PROTO_INTERNAL, .decode = letters_decode};
    mqg_origin_register(&ops);
}

static void assert_headers(const struct mqg_table *t, const char *names, const int64_t *values)
{
    assert_int_equal(t->n, strlen(names));
    for (uint32_t i = 0; i < t->n; i++) {
        int64_t v = -1;
        assert_int_equal(t->fields[i].name.ptr[0], names[i]);
        assert_true(mqg_value_int(&t->fields[i].value, &v));
        assert_int_equal(v, values[i]);
    }
}

static void test_view_applies_the_overlay(void **state)
{
    (void)state;
    letters_register();
    struct mqg_overlay o = {.drop = MQG_PROP_EXPIRATION | MQG_PROP_CONTENT_TYPE,
                            .has_reply_to = true,
                            .reply_to = MQG_SLICE_LIT("q")};
    mqg_table_set_bool(&arena, &o.remove, "b", true);
    mqg_table_set_int(&arena, &o.set, "c", 70);
    mqg_table_set_int(&arena, &o.set, "z", 80);
    struct mqg_msg *m = letters_msg("abcbcd", &o);
    struct mqg_view v;
    assert_int_equal(mqg_msg_view(m, &arena, &v), MQG_OK);
    assert_int_equal(v.has, MQG_PROP_PRIORITY | MQG_PROP_REPLY_TO);
    assert_int_equal(v.expiration_ms, 0);
    assert_int_equal(v.content_type.len, 0);
    assert_true(mqg_slice_eq(v.reply_to, MQG_SLICE_LIT("q")));
    assert_headers(&v.headers, "acdz", (const int64_t[]){0, 70, 5, 80});
    mqg_msg_unref(&m);
}

static void test_view_keeps_repeats_that_nobody_set(void **state)
{
    (void)state;
    letters_register();
    struct mqg_overlay o = {0};
    struct mqg_msg *m = letters_msg("aba", &o);
    struct mqg_view v;
    assert_int_equal(mqg_msg_view(m, &arena, &v), MQG_OK);
    assert_headers(&v.headers, "aba", (const int64_t[]){0, 1, 2});
    assert_int_equal(v.priority, 5);
    mqg_msg_unref(&m);
}

static void test_view_of_a_missing_or_failing_protocol_is_empty(void **state)
{
    (void)state;
    letters_register();
    struct mqg_overlay o = {0};
    struct mqg_msg *m = letters_msg("aaaaaaaaaa", &o);
    struct mqg_view v;
    assert_int_equal(mqg_msg_view(m, &arena, &v), MQG_MALFORMED);
    assert_int_equal(v.headers.n, 0);
    m->st.proto = MQG_PROTO_STOMP;
    assert_int_equal(mqg_msg_view(m, &arena, &v), MQG_UNSUPPORTED);
    assert_int_equal(v.has, 0);
    mqg_msg_unref(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_overlay_goes_round),
        cmocka_unit_test(test_empty_overlay_changes_nothing),
        cmocka_unit_test(test_overlay_cut_or_longer_is_refused),
        cmocka_unit_test(test_overlay_over_its_maximum_fails_softly),
        cmocka_unit_test(test_view_applies_the_overlay),
        cmocka_unit_test(test_view_keeps_repeats_that_nobody_set),
        cmocka_unit_test(test_view_of_a_missing_or_failing_protocol_is_empty),
    };
    return cmocka_run_group_tests(tests, arena_setup, arena_teardown);
}
