/* later_test.c - where a message waits, and what its overlay says. */
#include "later.h"

#include <mqgate/worker.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define S(n) ((n)*UINT64_C(1000000))

static void test_the_farther_the_longer(void **state)
{
    (void)state;
    const uint64_t now = S(1000000);
    static const struct {
        uint64_t in_s;
        enum stomp_span longest, span;
        uint64_t length_s;
    } rows[] = {
        {0, STOMP_DAY, STOMP_MINUTE, 60},         {59, STOMP_DAY, STOMP_MINUTE, 60},
        {3599, STOMP_DAY, STOMP_MINUTE, 60},      {3600, STOMP_DAY, STOMP_HOUR, 3600},
        {172799, STOMP_DAY, STOMP_HOUR, 3600},    {172800, STOMP_DAY, STOMP_DAY, 86400},
        {315360000, STOMP_DAY, STOMP_DAY, 86400}, {172800, STOMP_HOUR, STOMP_HOUR, 3600},
        {172800, STOMP_MINUTE, STOMP_MINUTE, 60},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        uint64_t due = now + S(rows[i].in_s);
        struct stomp_slot_id id = stomp_slot_for(now, due, rows[i].longest);
        assert_int_equal(id.span, rows[i].span);
        assert_true(stomp_slot_begin_us(id) <= due && due < stomp_slot_end_us(id));
        assert_int_equal(stomp_slot_end_us(id) - stomp_slot_begin_us(id), S(rows[i].length_s));
    }
}

static void test_what_is_overdue_waits_in_the_present(void **state)
{
    (void)state;
    struct stomp_slot_id id = stomp_slot_for(S(1000000), S(5), STOMP_DAY);
    assert_int_equal(id.span, STOMP_MINUTE);
    assert_true(stomp_slot_begin_us(id) <= S(1000000) && S(1000000) < stomp_slot_end_us(id));
}

static void test_names_are_read_back(void **state)
{
    (void)state;
    static const uint64_t numbers[] = {0, 1, 29384723, 999999999999};
    for (enum stomp_span span = STOMP_MINUTE; span < STOMP_SPANS; span++)
        for (size_t i = 0; i < MQG_COUNTOF(numbers); i++) {
            char room[64];
            struct stomp_slot_id id;
            assert_true(
                stomp_slot_parse(stomp_slot_name((struct stomp_slot_id){span, numbers[i]}, room), &id));
            assert_int_equal(id.span, span);
            assert_int_equal(id.number, numbers[i]);
        }
}

static void test_other_names_are_not(void **state)
{
    (void)state;
    static const char *const names[] = {
        "",
        "q",
        "amq.stomp.later.",
        "amq.stomp.later.minute.",
        "amq.stomp.later.minute.x",
        "amq.stomp.later.minute.01",
        "amq.stomp.later.minute.-1",
        "amq.stomp.later.minute.1 ",
        "amq.stomp.later.year.1",
        "amq.stomp.later.day.1000000000000",
        "amq.stomp.later.day.99999999999999999999999999999999",
    };
    struct stomp_slot_id id;
    for (size_t i = 0; i < MQG_COUNTOF(names); i++)
        assert_false(stomp_slot_parse(mqg_slice_str(names[i]), &id));
}

static struct mqg_msg *message(struct mqg_slice overlay)
{
    struct mqg_msg_parts parts = {.proto = MQG_PROTO_STOMP, .key_sep = '.', .overlay = overlay};
    struct mqg_msg *m = mqg_msg_new(&parts);
    assert_non_null(m);
    return m;
}

static void test_what_is_said_is_read_back(void **state)
{
    (void)state;
    static const struct stomp_later rows[] = {
        {S(1), 0, 0, false, false, 0},
        {INT64_MAX, STOMP_LATER_MAX_MS, INT32_MAX, true, true, UINT32_MAX},
        {S(1800000000), 1, 1, true, true, 0},
    };
    struct mqg_arena a;
    mqg_arena_init(&a, 65536);
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        struct mqg_dynbuf b;
        struct stomp_later l;
        mqg_dynbuf_init(&b, 4096);
        stomp_later_encode(&b, &a, &rows[i]);
        assert_false(b.failed);
        struct mqg_msg *m = message(mqg_dynbuf_view(&b));
        assert_true(stomp_later_decode(m, &a, &l));
        assert_int_equal(l.due_us, rows[i].due_us);
        assert_int_equal(l.period_ms, rows[i].period_ms);
        assert_int_equal(l.left, rows[i].left);
        assert_int_equal(l.make, rows[i].make);
        assert_int_equal(l.has_ttl, rows[i].has_ttl);
        assert_int_equal(l.ttl_ms, rows[i].ttl_ms);
        mqg_msg_unref(&m);
        mqg_dynbuf_fini(&b);
    }
    mqg_arena_fini(&a);
}

/* Of a dead letter, or of nobody; whole, cut at each byte, and with each byte another. */
static void test_other_overlays_say_nothing(void **state)
{
    (void)state;
    struct mqg_arena a;
    struct mqg_dynbuf b;
    struct stomp_later l;
    mqg_arena_init(&a, 1u << 20);
    mqg_dynbuf_init(&b, 4096);
    struct mqg_overlay dead = {.drop = MQG_PROP_EXPIRATION};
    mqg_table_set_int(&a, &dead.set, "mqgate-later-due", -5);
    mqg_overlay_encode(&b, &dead);
    struct mqg_msg *none = message(MQG_SLICE_NONE), *m = message(mqg_dynbuf_view(&b));
    assert_false(stomp_later_decode(none, &a, &l));
    assert_false(stomp_later_decode(m, &a, &l));
    mqg_msg_unref(&none);
    mqg_msg_unref(&m);
    mqg_dynbuf_reset(&b);
    stomp_later_encode(&b, &a, &(struct stomp_later){.due_us = S(7), .left = 1, .has_ttl = true});
    for (size_t i = 0; i < b.len; i++) {
        m = message(mqg_slice_of(b.ptr, i));
        assert_false(stomp_later_decode(m, &a, &l));
        mqg_msg_unref(&m);
        b.ptr[i] ^= 0x41;
        m = message(mqg_dynbuf_view(&b));
        (void)stomp_later_decode(m, &a, &l);
        mqg_msg_unref(&m);
        b.ptr[i] ^= 0x41;
        mqg_arena_reset(&a);
    }
    mqg_dynbuf_fini(&b);
    mqg_arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_farther_the_longer),
        cmocka_unit_test(test_what_is_overdue_waits_in_the_present),
        cmocka_unit_test(test_names_are_read_back),
        cmocka_unit_test(test_other_names_are_not),
        cmocka_unit_test(test_what_is_said_is_read_back),
        cmocka_unit_test(test_other_overlays_say_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
