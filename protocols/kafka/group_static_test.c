/* group_static_test.c - static members of a classic group (KIP-345): they come back, are fenced, stay away, are removed. */
#include "group_test_kit.h"

static struct group_join fixed(const char *id, const char *new_id, const char *instance)
{
    struct group_join in = plain(id, new_id);
    in.instance_id = mqg_slice_str(instance);
    return in;
}

static void stable_static(struct group *g)
{
    struct group_wait a, s;
    group_init(g, &limits, 0);
    join(g, 0, fixed("", "i-1", "i"), &a);
    assert_int_equal(drained(g), 1);
    sync_as(g, 0, "i-1", &s, "i-1", NULL);
    assert_int_equal(drained(g), 1);
    group_wait_fini(&a);
    group_wait_fini(&s);
}

static void test_static_comes_back(void **state)
{
    (void)state;
    struct group g;
    struct group_wait w, s;
    stable_static(&g);
    join(&g, 5000, fixed("", "i-2", "i"), &w);
    assert_int_equal(drained(&g), 1);
    assert_true(w.error == 0 && w.generation == 1 && g.state == GROUP_STABLE);
    assert_true(text_is(w.member_id, "i-2") && text_is(w.leader, "i-1") && w.npeers == 0);
    group_wait_fini(&w);
    sync_as(&g, 5000, "i-2", &s, NULL, NULL);
    assert_true(drained(&g) == 1 && text_is(s.assignment, "one"));
    group_wait_fini(&s);
    assert_int_equal(group_heartbeat(&g, 5000, 1, MQG_SLICE_LIT("i-1"), MQG_SLICE_LIT("i")),
                     KAFKA_FENCED_INSTANCE_ID);
    assert_int_equal(group_heartbeat(&g, 5000, 1, MQG_SLICE_LIT("i-2"), MQG_SLICE_LIT("i")), KAFKA_NONE);
    assert_int_equal(beat(&g, 5000, 1, "i-1"), KAFKA_UNKNOWN_MEMBER_ID);
    struct group_join in = fixed("", "i-3", "i");
    in.version = 9;
    join(&g, 5000, in, &w);
    assert_int_equal(drained(&g), 1);
    assert_true(w.skip_assignment && text_is(w.leader, "i-3") && w.npeers == 1);
    group_wait_fini(&w);
    group_expire(&g, 16000);
    assert_int_equal(g.state, GROUP_EMPTY);
    group_fini(&g);
}

static void test_static_fences_who_waits(void **state)
{
    (void)state;
    struct group g;
    struct group_wait old, new, other_one, o;
    stable_static(&g);
    join(&g, 0, plain("", "o"), &other_one);
    assert_true(drained(&g) == 0 && g.state == GROUP_PREPARING);
    join(&g, 0, fixed("i-1", "", "i"), &old);
    assert_int_equal(drained(&g), 2);
    group_wait_fini(&old);
    group_wait_fini(&other_one);
    join(&g, 0, plain("o", ""), &o); /* COMPLETING: the answer again */
    assert_int_equal(drained(&g), 1);
    group_wait_fini(&o);
    struct group_join in = plain("o", "");
    in.protocols = sticky;
    in.nprotocols = 1;
    join(&g, 0, in, &o);
    assert_int_equal(g.state, GROUP_PREPARING);
    join(&g, 0, fixed("", "i-2", "i"), &new);
    assert_int_equal(drained(&g), 2);
    assert_true(new.error == 0 && text_is(new.member_id, "i-2"));
    join(&g, 0, fixed("i-1", "", "i"), &old);
    assert_true(drained(&g) == 1 && old.error == KAFKA_FENCED_INSTANCE_ID);
    group_wait_fini(&old);
    join(&g, 0, fixed("i-1", "", "unknown"), &old);
    assert_true(drained(&g) == 1 && old.error == KAFKA_UNKNOWN_MEMBER_ID);
    group_wait_fini(&old);
    group_wait_fini(&new);
    group_wait_fini(&o);
    group_fini(&g);
}

static void test_static_fenced_while_joining(void **state)
{
    (void)state;
    struct group g;
    struct group_wait old, new;
    group_init(&g, &slow_limits, 0);
    join(&g, 0, fixed("", "i-1", "i"), &old);
    join(&g, 0, fixed("", "i-2", "i"), &new);
    assert_int_equal(drained(&g), 1);
    assert_int_equal(old.error, KAFKA_FENCED_INSTANCE_ID);
    group_expire(&g, 3000);
    group_expire(&g, 6000);
    assert_true(drained(&g) == 1 && new.error == 0 && text_is(new.member_id, "i-2"));
    group_wait_fini(&old);
    group_wait_fini(&new);
    group_fini(&g);
}

/* A static member that stays away keeps its place for its session, and the round does not wait for it beyond its end. */
static void test_static_stays_away(void **state)
{
    (void)state;
    struct group g;
    struct group_wait o;
    stable_static(&g);
    struct group_join in = plain("", "o");
    in.rebalance_ms = 5000;
    g.limits = &limits;
    ((struct group_member *)g.members.items[0])->rebalance_ms = 5000;
    join(&g, 0, in, &o);
    group_expire(&g, 5000);
    assert_int_equal(drained(&g), 1);
    assert_true(o.error == 0 && o.npeers == 2 && text_is(o.leader, "o"));
    group_wait_fini(&o);
    group_fini(&g);
}

static void test_operator_removes_static(void **state)
{
    (void)state;
    struct group g;
    stable_static(&g);
    assert_int_equal(group_leave(&g, 0, MQG_SLICE_LIT(""), MQG_SLICE_LIT("none")), KAFKA_UNKNOWN_MEMBER_ID);
    assert_int_equal(group_leave(&g, 0, MQG_SLICE_LIT("zzz"), MQG_SLICE_LIT("i")), KAFKA_FENCED_INSTANCE_ID);
    assert_int_equal(group_leave(&g, 0, MQG_SLICE_LIT(""), MQG_SLICE_LIT("i")), KAFKA_NONE);
    assert_int_equal(g.state, GROUP_EMPTY);
    group_fini(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_static_comes_back),           cmocka_unit_test(test_static_fences_who_waits),
        cmocka_unit_test(test_static_fenced_while_joining), cmocka_unit_test(test_static_stays_away),
        cmocka_unit_test(test_operator_removes_static),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
