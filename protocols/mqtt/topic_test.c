/* topic_test.c - topic names and filters (4.7), shared names (4.8.2), routing keys. */
#include "wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

struct match_row {
    const char *filter, *topic;
    bool fits;
};

/* The examples of 4.7.1 and 4.7.2, and what lies around them. */
static const struct match_row match_rows[] = {
    {"sport/tennis/player1/#", "sport/tennis/player1", true},
    {"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
    {"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
    {"sport/#", "sport", true},
    {"#", "a/b/c", true},
    {"#", "/", true},
    {"sport/tennis/+", "sport/tennis/player1", true},
    {"sport/tennis/+", "sport/tennis/player1/ranking", false},
    {"sport/+", "sport", false},
    {"sport/+", "sport/", true},
    {"+/+", "/finance", true},
    {"/+", "/finance", true},
    {"+", "/finance", false},
    {"+", "finance", true},
    {"+/tennis/#", "sport/tennis", true},
    {"a/+/c", "a//c", true},
    {"a/b", "a/bc", false},
    {"a/bc", "a/b", false},
    {"a", "a/b", false},
    {"a/b", "a", false},
    {"a/", "a", false},
    {"a", "a/", false},
    {"a/#", "ab", false},
    {"ab/#", "a", false},
    {"#", "$SYS/x", false},
    {"+/monitor/Clients", "$SYS/monitor/Clients", false},
    {"$SYS/#", "$SYS/x", true},
    {"$SYS/monitor/+", "$SYS/monitor/Clients", true},
    {"a/$x", "a/$x", true},
    {"a/+", "a/$x", true},
    {"ACCOUNTS", "Accounts", false},
    {"a/*/b", "a/*/b", true},
    {"a/*/b", "a/x/b", false},
    {"+/b/#", "/b", true},
    {"/#", "/", true},
    {"/#", "", true},
    {"a/+/#", "a/b", true},
    {"a/+/#", "a", false},
};

static void test_match(void **state)
{
    (void)state;
    for (size_t i = 0; i < MQG_COUNTOF(match_rows); i++) {
        const struct match_row *r = &match_rows[i];
        bool fits = mqtt_topic_matches(mqg_slice_str(r->filter), mqg_slice_str(r->topic));
        if (fits != r->fits)
            fail_msg("%s %s %s", r->filter, fits ? "matches" : "does not match", r->topic);
    }
}

static void test_names(void **state)
{
    (void)state;
    static const char *const filters_good[] = {"a",   "/",     "#",    "+",     "a/#",
                                               "+/a", "a/+/b", "a//b", "+/+/#", " "};
    static const char *const filters_bad[] = {"",     "a#", "#/a", "a/#/b", "a+",  "+a",
                                              "a/+b", "##", "++",  "a/b#",  "\xff"};
    static const char *const topics_bad[] = {"", "a/+", "#", "a/#", "\xc0\x80", "\xed\xa0\x80"};
    for (size_t i = 0; i < MQG_COUNTOF(filters_good); i++)
        assert_true(mqtt_filter_ok(mqg_slice_str(filters_good[i])));
    for (size_t i = 0; i < MQG_COUNTOF(filters_bad); i++)
        if (mqtt_filter_ok(mqg_slice_str(filters_bad[i])))
            fail_msg("'%s' taken", filters_bad[i]);
    for (size_t i = 0; i < MQG_COUNTOF(topics_bad); i++)
        assert_false(mqtt_topic_ok(mqg_slice_str(topics_bad[i])));
    assert_true(mqtt_topic_ok(MQG_SLICE_LIT("a/b")));
    assert_false(mqtt_topic_ok(MQG_SLICE_LIT("a\0b")));
    uint8_t deep[2 * MQTT_LEVELS_MAX + 2];
    memset(deep, '/', sizeof(deep));
    assert_true(mqtt_topic_ok(mqg_slice_of(deep, MQTT_LEVELS_MAX - 1)));
    assert_false(mqtt_topic_ok(mqg_slice_of(deep, MQTT_LEVELS_MAX)));
    assert_false(mqtt_filter_ok(mqg_slice_of(deep, MQTT_LEVELS_MAX)));
}

static void test_shares(void **state)
{
    (void)state;
    struct mqg_slice group, filter;
    bool bad;
    assert_true(mqtt_share_split(MQG_SLICE_LIT("$share/g/a/+"), &group, &filter, &bad));
    assert_false(bad);
    assert_true(mqg_slice_eq(group, MQG_SLICE_LIT("g")));
    assert_true(mqg_slice_eq(filter, MQG_SLICE_LIT("a/+")));
    static const char *const broken[] = {"$share/",   "$share/g",    "$share/g/",
                                         "$share//a", "$share/g+/a", "$share/#/a"};
    for (size_t i = 0; i < MQG_COUNTOF(broken); i++) {
        assert_true(mqtt_share_split(mqg_slice_str(broken[i]), &group, &filter, &bad));
        assert_true(bad);
    }
    assert_false(mqtt_share_split(MQG_SLICE_LIT("$shared/a"), &group, &filter, &bad));
    assert_false(bad);
    assert_false(mqtt_share_split(MQG_SLICE_LIT("$share"), &group, &filter, &bad));
    assert_true(bad);
}

static void test_keys(void **state)
{
    (void)state;
    struct mqg_dynbuf b;
    bool escaped;
    mqg_dynbuf_init(&b, 1024);
    mqtt_filter_key(&b, MQG_SLICE_LIT("a/+/b.c/#"));
    assert_true(mqg_slice_eq(mqg_dynbuf_view(&b), MQG_SLICE_LIT("a.*.b/c.#")));
    mqg_dynbuf_reset(&b);
    mqtt_topic_of_key(&b, MQG_SLICE_LIT("a.b/c"), '.', &escaped);
    assert_true(mqg_slice_eq(mqg_dynbuf_view(&b), MQG_SLICE_LIT("a/b.c")));
    assert_false(escaped);
    mqg_dynbuf_reset(&b);
    mqtt_topic_of_key(&b, MQG_SLICE_LIT("a/b.c"), '/', &escaped);
    assert_true(mqg_slice_eq(mqg_dynbuf_view(&b), MQG_SLICE_LIT("a/b.c")));
    mqg_dynbuf_reset(&b);
    mqtt_topic_of_key(&b, MQG_SLICE_LIT("a.#.+\0"), '.', &escaped);
    assert_true(mqg_slice_eq(mqg_dynbuf_view(&b), MQG_SLICE_LIT("a/%23/%2B%00")));
    assert_true(escaped);
    mqg_dynbuf_reset(&b);
    mqtt_topic_of_key(&b, MQG_SLICE_NONE, '.', &escaped);
    assert_true(escaped && b.len == 1);
    mqg_dynbuf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_match),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
