/* dest_test.c - destinations: what each text means, what is refused, and that each written one means what it was made of. */
#include "dest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct good_row {
    const char *text;
    enum stomp_dest_kind kind;
    const char *exchange, *key;
} good_rows[] = {
    {"/queue/q", STOMP_DEST_QUEUE, "", "q"},
    {"q", STOMP_DEST_QUEUE, "", "q"},
    {"/queue/a%2Fb%25%20c", STOMP_DEST_QUEUE, "", "a/b% c"},
    {"/queue/a.b:c", STOMP_DEST_QUEUE, "", "a.b:c"},
    {"/amq/queue/q", STOMP_DEST_AMQ_QUEUE, "", "q"},
    {"/topic/a.*.#", STOMP_DEST_TOPIC, "amq.topic", "a.*.#"},
    {"/exchange/x", STOMP_DEST_EXCHANGE, "x", ""},
    {"/exchange/x/k", STOMP_DEST_EXCHANGE, "x", "k"},
    {"/exchange/x/", STOMP_DEST_EXCHANGE, "x", ""},
    {"/exchange/a%2fb/k%2Fl", STOMP_DEST_EXCHANGE, "a/b", "k/l"},
    {"/temp-queue/t", STOMP_DEST_TEMP_QUEUE, "", "t"},
    {"/reply-queue/amq.gen/with%2Fall", STOMP_DEST_REPLY_QUEUE, "", "amq.gen/with%2Fall"},
};

static void each_form_is_read(void **state)
{
    (void)state;
    struct mqg_arena a;
    mqg_arena_init(&a, 0);
    for (size_t i = 0; i < MQG_COUNTOF(good_rows); i++) {
        struct stomp_dest d;
        struct mqg_error e;
        if (stomp_dest_read(mqg_slice_str(good_rows[i].text), &a, &d, &e) != MQG_OK)
            fail_msg("%s: %s", good_rows[i].text, e.text);
        assert_int_equal(d.kind, good_rows[i].kind);
        assert_true(mqg_slice_eq(d.exchange, mqg_slice_str(good_rows[i].exchange)));
        assert_true(mqg_slice_eq(d.key, mqg_slice_str(good_rows[i].key)));
    }
    mqg_arena_fini(&a);
}

static const struct bad_row {
    const char *text;
    int code; /* 1: no such kind */
} bad_rows[] = {
    {"/queue/a/b", 0},
    {"/queue/", 0},
    {"/queue", 0},
    {"/topic/", 0},
    {"/exchange/", 0},
    {"/exchange", 0},
    {"/exchange//k", 0},
    {"/temp-queue", 0},
    {"/exchange/x/k/l", 0},
    {"/queue/a%2", 0},
    {"/queue/%zz", 0},
    {"", 1},
    {"/", 1},
    {"//", 1},
    {"/nothing/x", 1},
    {"/queues/x", 1},
    {"/amq/x", 1},
    {"a/b", 1},
};

static void bad_ones_are_refused(void **state)
{
    (void)state;
    struct mqg_arena a;
    mqg_arena_init(&a, 0);
    for (size_t i = 0; i < MQG_COUNTOF(bad_rows); i++) {
        struct stomp_dest d;
        struct mqg_error e = {.code = 0};
        if (stomp_dest_read(mqg_slice_str(bad_rows[i].text), &a, &d, &e) != MQG_INVALID ||
            e.code != bad_rows[i].code)
            fail_msg("'%s' is taken, or refused in another way", bad_rows[i].text);
    }
    mqg_arena_fini(&a);
}

static const struct written_row {
    const char *exchange, *key;
    char sep;
    const char *text;
} written_rows[] = {
    {"", "q", '.', "/queue/q"},
    {"", "a/b%c", '.', "/queue/a%2Fb%25c"},
    {"", "gr\xc3\xbcn", '.', "/queue/gr%C3%BCn"},
    {"amq.topic", "a.b", '.', "/topic/a.b"},
    {"amq.topic", "a/b.c", '/', "/topic/a.b%2Fc"},
    {"x", "k", '.', "/exchange/x/k"},
    {"x y", "", '.', "/exchange/x y"},
};

static void written_ones_mean_what_they_were_made_of(void **state)
{
    (void)state;
    struct mqg_arena a;
    mqg_arena_init(&a, 0);
    for (size_t i = 0; i < MQG_COUNTOF(written_rows); i++) {
        const struct written_row *row = &written_rows[i];
        struct mqg_dynbuf out;
        struct stomp_dest d;
        mqg_dynbuf_init(&out, 4096);
        stomp_dest_write(&out, mqg_slice_str(row->exchange), mqg_slice_str(row->key), row->sep);
        if (!mqg_slice_eq(mqg_dynbuf_view(&out), mqg_slice_str(row->text)))
            fail_msg("%.*s is not %s", (int)out.len, (const char *)out.ptr, row->text);
        assert_int_equal(stomp_dest_read(mqg_dynbuf_view(&out), &a, &d, NULL), MQG_OK);
        assert_true(mqg_slice_eq(d.exchange, mqg_slice_str(row->exchange)));
        if (row->sep == '.')
            assert_true(mqg_slice_eq(d.key, mqg_slice_str(row->key)));
        mqg_dynbuf_fini(&out);
    }
    mqg_arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_form_is_read),
        cmocka_unit_test(bad_ones_are_refused),
        cmocka_unit_test(written_ones_mean_what_they_were_made_of),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
