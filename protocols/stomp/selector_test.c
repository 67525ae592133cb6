/* selector_test.c - selectors, clause by clause of JMS 2.0 (3.8): what each says of the same message, and what is refused. */
#include "selector.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define TEXT(s)                                              \
    {                                                        \
        .type = MQG_VALUE_STRING, .bytes = MQG_SLICE_INIT(s) \
    }
#define NUMBER(n)                         \
    {                                     \
        .type = MQG_VALUE_INT64, .i = (n) \
    }

/* The message that all rows are about. */
static const struct mqg_field test_headers[] = {
    {MQG_SLICE_INIT("color"), TEXT("blue")},
    {MQG_SLICE_INIT("weight"), NUMBER(2501)},
    {MQG_SLICE_INIT("small"), {.type = MQG_VALUE_INT8, .i = -3}},
    {MQG_SLICE_INIT("huge"), {.type = MQG_VALUE_UINT64, .u = UINT64_MAX}},
    {MQG_SLICE_INIT("least"), NUMBER(INT64_MIN)},
    {MQG_SLICE_INIT("price"), {.type = MQG_VALUE_DOUBLE, .d = 2.5}},
    {MQG_SLICE_INIT("tenth"), {.type = MQG_VALUE_DECIMAL, .dec = {1, 5}}},
    {MQG_SLICE_INIT("urgent"), {.type = MQG_VALUE_BOOL, .boolean = true}},
    {MQG_SLICE_INIT("at"), {.type = MQG_VALUE_TIMESTAMP, .i = 5000000}},
    {MQG_SLICE_INIT("none"), {.type = MQG_VALUE_NULL}},
    {MQG_SLICE_INIT("raw"), {.type = MQG_VALUE_BYTES, .bytes = MQG_SLICE_INIT("blue")}},
    {MQG_SLICE_INIT("list"), {.type = MQG_VALUE_ARRAY}},
    {MQG_SLICE_INIT("digits"), TEXT("42")},
    {MQG_SLICE_INIT("half"), TEXT("0.5")},
    {MQG_SLICE_INIT("flag"), TEXT("true")},
    {MQG_SLICE_INIT("quote"), TEXT("it's")},
    {MQG_SLICE_INIT("path"), TEXT("a_b%c")},
    {MQG_SLICE_INIT("tongue"), TEXT("gr\xc3\xbc\xc3\x9f")},
    {MQG_SLICE_INIT("empty"), TEXT("")},
    {MQG_SLICE_INIT("content-type"), TEXT("text/plain")},
    {MQG_SLICE_INIT("Color"), TEXT("red")},
    {MQG_SLICE_INIT("$_x1"), NUMBER(1)},
};

static bool test_get(void *arg, struct mqg_slice name, struct mqg_value *out)
{
    (void)arg;
    const struct mqg_table t = {.fields = (struct mqg_field *)(uintptr_t)test_headers,
                                .n = MQG_COUNTOF(test_headers)};
    const struct mqg_value *v = mqg_table_get(&t, name);
    if (v != NULL)
        *out = *v;
    return v != NULL;
}

static const struct row {
    const char *clause, *text;
    bool match;
} rows[] = {
    {"literals: string", "color = 'blue'", true},
    {"literals: string", "color = 'red'", false},
    {"literals: a quote twice", "quote = 'it''s'", true},
    {"literals: exact", "weight = 2501", true},
    {"literals: exact, long", "weight = 2501L", true},
    {"literals: approximate", "price = 2.5 AND price = 25E-1 AND price = .25e1 AND price = 2.5f", true},
    {"literals: boolean", "urgent = TRUE", true},
    {"literals: boolean", "urgent = false", false},
    {"literals: a condition alone", "TRUE", true},
    {"literals: a condition alone", "FALSE", false},
    {"literals: beyond 64 bits", "huge >= 18446744073709551615", true},
    {"identifiers: case counts", "Color = 'red' AND color = 'blue'", true},
    {"identifiers: letters", "$_x1 = 1", true},
    {"identifiers: in quotes", "\"content-type\" = 'text/plain'", true},
    {"identifiers: not there", "absent = 'blue'", false},
    {"identifiers: not there", "NOT (absent = 'blue')", false},
    {"identifiers: a flag alone", "urgent", true},
    {"identifiers: no flag alone", "color", false},
    {"words: any case", "color Like 'b%' aNd nOt weight in (1) oR false", true},
    {"white space", "\t color\n=\r\f'blue' ", true},
    {"order: AND before OR", "TRUE OR FALSE AND FALSE", true},
    {"order: parentheses", "(TRUE OR FALSE) AND FALSE", false},
    {"order: NOT before AND", "NOT FALSE AND FALSE", false},
    {"order: NOT before comparison is not", "NOT weight = 1", true},
    {"order: * before +", "weight = 1 + 2 * 1250", true},
    {"order: from the left", "10 - 4 - 3 = 3 AND 24 / 4 / 2 = 3", true},
    {"logic: unknown OR true", "absent = 1 OR TRUE", true},
    {"logic: unknown AND true", "absent = 1 AND TRUE", false},
    {"logic: NOT unknown", "NOT absent", false},
    {"logic: unknown AND false, negated", "NOT (absent = 1 AND FALSE)", true},
    {"comparison: <>", "color <> 'red'", true},
    {"comparison: numbers of both kinds", "price > 2 AND price < 3 AND small = -3.0", true},
    {"comparison: <= and >=", "weight >= 2501 AND weight <= 2501 AND NOT weight < 2501 AND NOT weight > 2501",
     true},
    {"comparison: with a value first", "2500 < weight", true},
    {"comparison: of two headers", "weight > price", true},
    {"comparison: unlike types are false", "color = 5", false},
    {"comparison: unlike types are false", "color <> 5", false},
    {"comparison: unlike types are false", "NOT (color = 5)", true},
    {"comparison: text is no number", "digits = 42", false},
    {"comparison: text is no number", "digits > 41", false},
    {"comparison: text has no order", "color < Color", false},
    {"comparison: flags", "urgent <> FALSE", true},
    {"comparison: unsigned", "huge > 9223372036854775807", true},
    {"comparison: decimal", "tenth = 0.5", true},
    {"comparison: time in ms", "at = 5000", true},
    {"comparison: bytes are nothing's equal", "raw = 'blue' OR raw <> 'blue' OR raw = raw OR list = 1",
     false},
    {"arithmetic: header", "weight - 1 = 2500 AND -small = 3 AND +small = -3", true},
    {"arithmetic: whole numbers", "7 / 2 = 3 AND 7 % 4 = 3 AND -7 / 2 = -3", true},
    {"arithmetic: others", "7 / 2.0 = 3.5 AND 7.5 * 2 = 15", true},
    {"arithmetic: a rest is of whole numbers", "7.5 % 2 = 1.5 OR NOT (7.5 % 2 = 1.5)", false},
    {"arithmetic: by zero", "weight / 0 = 1 OR NOT (weight / 0 = 1) OR weight % 0 = 0", false},
    {"arithmetic: too large", "least - 1 < 0 OR -least > 0 OR least / -1 > 0 OR least * 2 < 0", false},
    {"arithmetic: of text", "color + 1 = 1", false},
    {"arithmetic: of what is not there", "absent + 1 = 1 OR NOT (absent + 1 = 1)", false},
    {"BETWEEN", "weight BETWEEN 2501 AND 2501", true},
    {"BETWEEN", "weight NOT BETWEEN 1 AND 2500", true},
    {"BETWEEN with sums", "weight BETWEEN 2500 + 1 AND 2 * 1251", true},
    {"BETWEEN binds before AND", "weight BETWEEN 1 AND 9999 AND FALSE", false},
    {"BETWEEN of what is not there", "absent BETWEEN 1 AND 2 OR absent NOT BETWEEN 1 AND 2", false},
    {"IN", "color IN ('red', 'blue')", true},
    {"IN", "color NOT IN ('red', 'green')", true},
    {"IN with numbers", "weight IN (1, 2501)", true},
    {"IN of what is not there", "absent IN ('a') OR absent NOT IN ('a')", false},
    {"LIKE: one letter", "color LIKE 'b_ue'", true},
    {"LIKE: one letter", "color LIKE 'blu_e'", false},
    {"LIKE: many", "color LIKE '%lu%' AND color LIKE 'blue%' AND color LIKE '%' AND color LIKE '%%e'", true},
    {"LIKE: whole", "color LIKE 'blu'", false},
    {"LIKE: whole", "color LIKE 'blue_'", false},
    {"LIKE: goes back", "\"content-type\" LIKE '%t%p%n' AND \"content-type\" NOT LIKE '%x%e%'", true},
    {"LIKE: escape", "path LIKE 'a\\_b\\%c' ESCAPE '\\'", true},
    {"LIKE: escape", "color LIKE 'b\\_ue' ESCAPE '\\'", false},
    {"LIKE: a letter may have two bytes", "tongue LIKE 'gr__' AND tongue NOT LIKE 'gr___'", true},
    {"LIKE: empty", "empty LIKE '' AND empty LIKE '%' AND empty NOT LIKE '_'", true},
    {"LIKE: of a number", "weight LIKE '25%'", false},
    {"LIKE of what is not there", "absent LIKE '%' OR absent NOT LIKE '%'", false},
    {"IS NULL", "absent IS NULL AND none IS NULL AND empty IS NOT NULL AND list IS NOT NULL", true},
    {"IS NULL", "color IS NULL", false},
    {"ActiveMQ: text as numbers", "convert_string_expressions:digits = 42 AND digits > 41.5 AND half < 1",
     true},
    {"ActiveMQ: text as numbers", "convert_string_expressions:digits + half = 42.5 AND color <> 5", false},
    {"ActiveMQ: text as numbers", "convert_string_expressions:digits + half = 42.5", true},
    {"ActiveMQ: text as flags", "convert_string_expressions:flag = TRUE", true},
    {"ActiveMQ: text stays text", "convert_string_expressions:digits = '42' AND color = 'blue'", true},
    {"ActiveMQ: names with hyphens", "hyphenated_props:content-type = 'text/plain' AND 5 -3 = 2 AND 5-3 = 2",
     true},
    {"ActiveMQ: both", "hyphenated_props:convert_string_expressions:content-type LIKE 't%' AND digits = 42",
     true},
};

static void each_clause_is_kept(void **state)
{
    (void)state;
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        struct stomp_selector *s;
        struct mqg_error e;
        if (stomp_selector_parse(mqg_slice_str(rows[i].text), &s, &e) != MQG_OK)
            fail_msg("%s: %s: %s", rows[i].clause, rows[i].text, e.text);
        if (stomp_selector_match(s, test_get, NULL) != rows[i].match)
            fail_msg("%s: %s", rows[i].clause, rows[i].text);
        stomp_selector_free(&s);
        assert_null(s);
    }
}

static const struct bad_row {
    const char *text, *says;
} bad_rows[] = {
    {"", "at byte 0: here a name or a value is missing"},
    {"color =", "at byte 7: here a name or a value is missing"},
    {"color = 'blue", "at byte 8: a quote that does not end"},
    {"color = 'blue''", "at byte 8: a quote that does not end"},
    {"'", "at byte 0: a quote that does not end"},
    {"\"color = 1", "at byte 0: a quote that does not end"},
    {"color 'blue'", "at byte 6: here something stands behind its end"},
    {"a = 1 = 1", "at byte 6: here something stands behind its end"},
    {"(a = 1", "at byte 6: here ) is missing"},
    {"a = 1)", "at byte 5: here something stands behind its end"},
    {"a == 1", "at byte 3: here a name or a value is missing"},
    {"a ! 1", "at byte 2: a letter that means nothing here"},
    {"a = 1.2.3", "at byte 4: this is no number"},
    {"a = 1e", "at byte 4: this is no number"},
    {"a = 12x", "at byte 4: this is no number"},
    {"5", "at byte 1: it is a value, not a condition"},
    {"'a'", "at byte 3: it is a value, not a condition"},
    {"a + 1", "at byte 5: it is a value, not a condition"},
    {"'a' + 1 = 1", "at byte 6: arithmetic needs numbers"},
    {"a > 'b'", "at byte 7: only numbers are less or greater"},
    {"TRUE < a", "at byte 8: only numbers are less or greater"},
    {"-'a' = 1", "at byte 5: a sign stands before what is no number"},
    {"NOT 5", "at byte 5: NOT stands before what is no condition"},
    {"a AND 5", "at byte 7: AND and OR stand between conditions"},
    {"a NOT 5", "at byte 6: here BETWEEN, IN or LIKE is missing"},
    {"a IS 5", "at byte 5: here NULL is missing"},
    {"a BETWEEN 1 OR 2", "at byte 12: here the AND of a BETWEEN is missing"},
    {"a BETWEEN 'x' AND 2", "at byte 14: BETWEEN needs numbers"},
    {"a IN 'x'", "at byte 5: here the ( of an IN is missing"},
    {"a IN ()", "at byte 6: IN needs a list of values"},
    {"a IN ('x',)", "at byte 10: IN needs a list of values"},
    {"a IN ('x' 'y')", "at byte 10: here ) is missing"},
    {"a LIKE b", "at byte 7: LIKE needs a string"},
    {"a LIKE 'b' ESCAPE 'xy'", "at byte 18: ESCAPE needs a string of one letter"},
    {"5 LIKE 'b'", "at byte 7: LIKE is about strings"},
    {"XPATH 'a'", "at byte 6: here something stands behind its end"},
    {"NULL", "at byte 0: here a name or a value is missing"},
};

static void what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < MQG_COUNTOF(bad_rows); i++) {
        struct stomp_selector *s;
        struct mqg_error e;
        if (stomp_selector_parse(mqg_slice_str(bad_rows[i].text), &s, &e) != MQG_INVALID)
            fail_msg("%s: taken", bad_rows[i].text);
        assert_string_equal(e.text, bad_rows[i].says);
        assert_null(s);
    }
}

/* `n` times `piece`, with a head and a tail. */
static enum mqg_err parse_many(const char *head, const char *piece, size_t n, const char *tail)
{
    struct mqg_dynbuf text;
    struct stomp_selector *s;
    struct mqg_error e;
    mqg_dynbuf_init(&text, 1u << 20);
    mqg_dynbuf_printf(&text, "%s", head);
    for (size_t i = 0; i < n; i++)
        mqg_dynbuf_printf(&text, "%s", piece);
    mqg_dynbuf_printf(&text, "%s", tail);
    enum mqg_err err = stomp_selector_parse(mqg_dynbuf_view(&text), &s, &e);
    stomp_selector_free(&s);
    mqg_dynbuf_fini(&text);
    return err;
}

static void bounds_hold(void **state)
{
    (void)state;
    assert_int_equal(parse_many("a", " ", STOMP_SELECTOR_BYTES_MAX - 1, ""), MQG_OK);
    assert_int_equal(parse_many("a", " ", STOMP_SELECTOR_BYTES_MAX, ""), MQG_TOO_LARGE);
    assert_int_equal(parse_many("", "NOT ", STOMP_SELECTOR_DEPTH_MAX, "a"), MQG_OK);
    assert_int_equal(parse_many("", "NOT ", STOMP_SELECTOR_DEPTH_MAX + 1, "a"), MQG_TOO_LARGE);
    assert_int_equal(parse_many("", "(", STOMP_SELECTOR_DEPTH_MAX + 1, "a"), MQG_TOO_LARGE);
    assert_int_equal(parse_many("a=", "-", STOMP_SELECTOR_DEPTH_MAX + 1, "1"), MQG_TOO_LARGE);
    assert_int_equal(parse_many("a", " OR a", 200, ""), MQG_OK);
    assert_int_equal(parse_many("a", " OR a", STOMP_SELECTOR_OPS_MAX / 2, ""), MQG_TOO_LARGE);
    assert_int_equal(parse_many("a IN (1", ",1", STOMP_SELECTOR_OPS_MAX, ")"), MQG_TOO_LARGE);
    assert_int_equal(parse_many("a = ", "1", 64, ""), MQG_TOO_LARGE);
}

static bool long_get(void *arg, struct mqg_slice name, struct mqg_value *out)
{
    (void)name;
    *out = *(const struct mqg_value *)arg;
    return true;
}

/* The product of both lengths would be two hundred million. */
static void a_like_is_bounded(void **state)
{
    (void)state;
    struct mqg_dynbuf text, value;
    struct stomp_selector *s;
    struct mqg_error e;
    mqg_dynbuf_init(&text, STOMP_SELECTOR_BYTES_MAX);
    mqg_dynbuf_init(&value, 1u << 20);
    mqg_dynbuf_printf(&text, "a LIKE '%%%0900db%%' OR NOT (a LIKE '%%%0900db%%')", 0, 0);
    for (int i = 0; i < 200000; i++)
        mqg_dynbuf_u8(&value, '0');
    assert_int_equal(stomp_selector_parse(mqg_dynbuf_view(&text), &s, &e), MQG_OK);
    struct mqg_value v = {.type = MQG_VALUE_STRING, .bytes = mqg_dynbuf_view(&value)};
    assert_false(stomp_selector_match(s, long_get, &v)); /* unknown, both */
    v.bytes.len = 1000;
    assert_true(stomp_selector_match(s, long_get, &v));
    stomp_selector_free(&s);
    mqg_dynbuf_fini(&text);
    mqg_dynbuf_fini(&value);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_clause_is_kept),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(bounds_hold),
        cmocka_unit_test(a_like_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
