/* group_assign_test.c - sets, assignors, and the language of expressions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "group_assign.h"
#include "group_regex.h"

static struct kafka_uuid id(int n)
{
    return (struct kafka_uuid){{(uint8_t)n}};
}

static void test_sets(void **state)
{
    (void)state;
    struct group_parts a = {.n = 0}, b = {.n = 0}, out = {.n = 0};
    for (int i = 5; i-- > 0;)
        group_parts_add(&a, id(i % 2), i);
    group_parts_add(&a, id(0), 2);
    group_parts_sort(&a);
    assert_int_equal(a.n, 5);
    assert_false(group_parts_meet(&a, &b));
    assert_true(group_parts_within(&b, &a));
    group_parts_add(&b, id(1), 3);
    group_parts_add(&b, id(2), 0);
    assert_true(group_parts_meet(&a, &b) && !group_parts_within(&b, &a));
    group_parts_filter(&a, &b, true, &out);
    assert_true(out.n == 1 && out.items[0].partition == 3);
    group_parts_filter(&a, &b, false, &out);
    assert_int_equal(out.n, 4);
    group_parts_copy(&out, &a);
    assert_true(group_parts_equal(&out, &a));
    group_parts_fini(&a);
    group_parts_fini(&b);
    group_parts_fini(&out);
}

enum { MEMBERS = 5, TOPICS = 3 };

static struct group_parts targets[MEMBERS];
static struct assign_member members[MEMBERS];
static uint32_t wants[MEMBERS][TOPICS];

static void subscribe_all(uint32_t ntopics)
{
    for (uint32_t m = 0; m < MEMBERS; m++) {
        for (uint32_t t = 0; t < ntopics; t++)
            wants[m][t] = t;
        members[m] = (struct assign_member){wants[m], ntopics, &targets[m]};
    }
}

static void forget(void)
{
    for (uint32_t m = 0; m < MEMBERS; m++)
        group_parts_fini(&targets[m]);
}

static uint32_t handed_out(uint32_t n, uint32_t *least, uint32_t *most)
{
    uint32_t all = 0;
    *least = UINT32_MAX;
    *most = 0;
    for (uint32_t m = 0; m < n; m++) {
        all += targets[m].n;
        *least = targets[m].n < *least ? targets[m].n : *least;
        *most = targets[m].n > *most ? targets[m].n : *most;
        for (uint32_t k = m + 1; k < n; k++)
            assert_false(group_parts_meet(&targets[m], &targets[k]));
    }
    return all;
}

static void test_uniform(void **state)
{
    (void)state;
    const struct assign_topic topics[] = {{id(1), 7}, {id(2), 3}, {id(3), 1}};
    uint32_t least, most;
    subscribe_all(3);
    for (uint32_t n = 1; n <= MEMBERS; n++) { /* members come one by one */
        struct group_parts before[MEMBERS] = {{.n = 0}};
        for (uint32_t m = 0; m < n; m++)
            group_parts_copy(&before[m], &targets[m]);
        group_assign_uniform(topics, 3, members, n);
        assert_int_equal(handed_out(n, &least, &most), 11);
        assert_true(most - least <= 1);
        for (uint32_t m = 0; m + 1 < n; m++) /* an old member only loses */
            assert_true(group_parts_within(&targets[m], &before[m]));
        for (uint32_t m = 0; m < n; m++)
            group_parts_fini(&before[m]);
    }
    targets[0].n = 0; /* and one goes: the others keep what they have */
    struct group_parts kept = {.n = 0};
    group_parts_copy(&kept, &targets[1]);
    group_assign_uniform(topics, 3, members + 1, 4);
    assert_true(group_parts_within(&kept, &targets[1]));
    group_parts_fini(&kept);
    forget();
}

/* Who wants only the small topic does not get the others, and who wants more takes less of it. */
static void test_uniform_mixed(void **state)
{
    (void)state;
    const struct assign_topic topics[] = {{id(1), 4}, {id(2), 4}, {id(3), 4}};
    uint32_t least, most;
    subscribe_all(3);
    members[1].ntopics = 1;
    group_assign_uniform(topics, 3, members, 2);
    assert_int_equal(handed_out(2, &least, &most), 12);
    assert_true(targets[1].n == 4 && targets[0].n == 8);
    members[1].ntopics = 0;
    group_assign_uniform(topics, 3, members, 2);
    assert_true(targets[1].n == 0 && targets[0].n == 12);
    forget();
}

static void test_range(void **state)
{
    (void)state;
    const struct assign_topic topics[] = {{id(1), 5}, {id(2), 5}};
    uint32_t least, most;
    subscribe_all(2);
    group_assign_range(topics, 2, members, 2);
    assert_int_equal(handed_out(2, &least, &most), 10);
    assert_true(targets[0].n == 6 && targets[1].n == 4); /* 0 1 2 of each; 3 4 of each */
    for (uint32_t i = 0; i < 3; i++)
        assert_true(targets[0].items[i].partition == (int32_t)i &&
                    targets[0].items[i + 3].partition == (int32_t)i);
    forget();
    assert_true(group_assignor_find(MQG_SLICE_LIT("")) == group_assign_uniform);
    assert_true(group_assignor_find(MQG_SLICE_LIT("range")) == group_assign_range);
    assert_null(group_assignor_find(MQG_SLICE_LIT("cooperative-sticky")));
}

static void test_nothing_to_give(void **state)
{
    (void)state;
    const struct assign_topic topics[] = {{id(1), 2}};
    subscribe_all(1);
    group_assign_uniform(topics, 0, members, 0);
    group_assign_range(topics, 1, members, 0);
    for (uint32_t m = 0; m < 2; m++)
        members[m].ntopics = 0;
    group_assign_uniform(topics, 1, members, 2);
    assert_true(targets[0].n == 0 && targets[1].n == 0);
    forget();
}

/* ---- expressions ----------------------------------------------------------------------------------------------------------- */

static void test_regex(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *name;
        bool valid, matches;
    } rows[] = {
        {"t.*", "topic", true, true},
        {"t.*", "a-topic", true, false},
        {"topi", "topic", true, false},
        {"a|b", "b", true, true},
        {"a|b", "ab", true, false},
        {"(?i)TOPIC", "topic", true, true},
        {"(?:x|y)+", "xyx", true, true},
        {"(?P<n>x)y", "xy", true, true},
        {"\\Qa.b\\E", "a.b", true, true},
        {"[[:alpha:]]+[0-9]{2}", "ab12", true, true},
        {"[](]x", "(x", true, true},
        {"", "", true, true},
        {"(", "", false, false},
        {"*", "", false, false},
        {"(a)\\1", "", false, false},
        {"(?=x)x", "", false, false},
        {"(?<!x)x", "", false, false},
        {"(?>x)x", "", false, false},
        {"(?R)", "", false, false},
        {"(*FAIL)", "", false, false},
        {"a++", "", false, false},
        {"\xff", "", false, false},
        {"(a*)*(a*)*(a*)*(a*)*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", true, false},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        struct group_regex *r = NULL;
        enum mqg_err err = group_regex_new(mqg_slice_str(rows[i].pattern), &r);
        if ((err == MQG_OK) != rows[i].valid ||
            (r != NULL && group_regex_matches(r, mqg_slice_str(rows[i].name)) != rows[i].matches))
            fail_msg("%s on %s", rows[i].pattern, rows[i].name);
        group_regex_free(&r);
    }
    struct group_regex *slow = NULL;
    assert_int_equal(group_regex_new(MQG_SLICE_LIT("(a*)*(a*)*(a*)*b|c"), &slow), MQG_OK);
    assert_true(group_regex_matches(slow, MQG_SLICE_LIT("c")));
    for (int i = 0; i < 100; i++)
        assert_false(group_regex_slow(slow) ||
                     group_regex_matches(slow, MQG_SLICE_LIT("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")));
    assert_true(group_regex_slow(slow) && !group_regex_matches(slow, MQG_SLICE_LIT("c")));
    group_regex_free(&slow);
    static uint8_t many[GROUP_REGEX_MAX + 1];
    memset(many, '(', sizeof many);
    struct group_regex *r = NULL;
    assert_int_equal(group_regex_new(mqg_slice_of(many, sizeof many), &r), MQG_INVALID);
    assert_int_equal(group_regex_new(mqg_slice_of(many, sizeof many / 2), &r), MQG_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sets),
        cmocka_unit_test(test_uniform),
        cmocka_unit_test(test_uniform_mixed),
        cmocka_unit_test(test_range),
        cmocka_unit_test(test_nothing_to_give),
        cmocka_unit_test(test_regex),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
