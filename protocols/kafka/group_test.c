/* group_test.c - every transition of a classic group of dynamic members: rounds, sessions, leaving, refusals, commits. */
#include "group_test_kit.h"

static const struct group_join_protocol other[] = {{TEXT("other"), TEXT("x")}};

static void test_round(void **state)
{
    (void)state;
    struct group g;
    two(&g, 1000);
    assert_true(text_is(g.protocol, "range") && text_is(g.protocol_type, "consumer"));
    assert_int_equal(beat(&g, 1000, 2, "a"), KAFKA_NONE);
    assert_int_equal(beat(&g, 1000, 1, "a"), KAFKA_ILLEGAL_GENERATION);
    assert_int_equal(beat(&g, 1000, 2, "z"), KAFKA_UNKNOWN_MEMBER_ID);
    group_fini(&g);
}

static void test_member_id_required(void **state)
{
    (void)state;
    struct group g;
    struct group_wait w;
    struct group_join in = plain("", "a");
    in.version = 4;
    group_init(&g, &limits, 0);
    join(&g, 0, in, &w);
    assert_int_equal(drained(&g), 1);
    assert_true(w.error == KAFKA_MEMBER_ID_REQUIRED && text_is(w.member_id, "a") && g.state == GROUP_EMPTY);
    group_wait_fini(&w);
    in.member_id = MQG_SLICE_LIT("a");
    join(&g, 0, in, &w);
    assert_int_equal(drained(&g), 1);
    assert_true(w.error == KAFKA_NONE && w.generation == 1 && g.promises.n == 0);
    group_wait_fini(&w);
    in.member_id = MQG_SLICE_LIT("nobody");
    join(&g, 0, in, &w);
    assert_int_equal(drained(&g), 1);
    assert_int_equal(w.error, KAFKA_UNKNOWN_MEMBER_ID);
    group_wait_fini(&w);
    group_fini(&g);
}

/* A promised id holds a round up until it is over. */
static void test_promise_expires(void **state)
{
    (void)state;
    struct group g;
    struct group_wait a, p;
    struct group_join in = plain("", "p");
    in.version = 4;
    two(&g, 0);
    join(&g, 1000, in, &p);
    assert_int_equal(drained(&g), 1);
    assert_int_equal(beat(&g, 9000, 2, "a"), KAFKA_NONE);
    assert_int_equal(group_leave(&g, 9000, MQG_SLICE_LIT("b"), MQG_SLICE_NONE), KAFKA_NONE);
    join(&g, 9000, plain("a", ""), &a);
    assert_int_equal(drained(&g), 0);
    group_expire(&g, 11000);
    assert_int_equal(drained(&g), 1);
    assert_true(a.error == KAFKA_NONE && a.npeers == 1 && g.generation == 3);
    group_wait_fini(&a);
    group_wait_fini(&p);
    group_fini(&g);
}

static void test_promise_leaves(void **state)
{
    (void)state;
    struct group g;
    struct group_wait p;
    struct group_join in = plain("", "p");
    in.version = 4;
    group_init(&g, &limits, 0);
    join(&g, 0, in, &p);
    assert_int_equal(drained(&g), 1);
    assert_int_equal(group_leave(&g, 0, MQG_SLICE_LIT("p"), MQG_SLICE_NONE), KAFKA_NONE);
    assert_int_equal(group_leave(&g, 0, MQG_SLICE_LIT("p"), MQG_SLICE_NONE), KAFKA_UNKNOWN_MEMBER_ID);
    group_wait_fini(&p);
    group_fini(&g);
}

static void test_initial_delay(void **state)
{
    (void)state;
    struct group g;
    struct group_wait a, b;
    group_init(&g, &slow_limits, 0);
    join(&g, 0, plain("", "a"), &a);
    assert_int_equal(g.due_ms, 3000);
    join(&g, 2000, plain("", "b"), &b);
    group_expire(&g, 3000);
    assert_int_equal(drained(&g), 0); /* b prolonged it */
    assert_int_equal(g.due_ms, 6000);
    group_expire(&g, 6000);
    assert_int_equal(drained(&g), 2);
    assert_true(a.generation == 1 && a.npeers == 2 && b.generation == 1);
    group_wait_fini(&a);
    group_wait_fini(&b);
    group_fini(&g);
}

static void test_session_ends(void **state)
{
    (void)state;
    struct group g;
    struct group_wait a;
    two(&g, 0);
    assert_int_equal(beat(&g, 6000, 2, "a"), KAFKA_NONE);
    assert_true(g.due_ms > 0 && g.due_ms <= 10000);
    group_expire(&g, 9999);
    assert_int_equal(g.members.n, 2);
    group_expire(&g, 10000);
    assert_true(g.members.n == 1 && g.state == GROUP_PREPARING);
    assert_int_equal(beat(&g, 10000, 2, "a"), KAFKA_REBALANCE_IN_PROGRESS);
    join(&g, 10000, plain("a", ""), &a);
    assert_int_equal(drained(&g), 1);
    assert_true(a.error == 0 && a.generation == 3 && a.npeers == 1);
    group_wait_fini(&a);
    group_fini(&g);
}

/* Who waits for an answer is alive; who does not come back to a round is dropped at its end. */
static void test_round_ends_by_time(void **state)
{
    (void)state;
    struct group g;
    struct group_wait c;
    two(&g, 0);
    join(&g, 1000, plain("", "c"), &c);
    assert_int_equal(g.state, GROUP_PREPARING);
    for (uint64_t now_ms = 5000; now_ms < 61000; now_ms += 5000) {
        assert_int_equal(beat(&g, now_ms, 2, "a"), KAFKA_REBALANCE_IN_PROGRESS);
        assert_int_equal(beat(&g, now_ms, 2, "b"), KAFKA_REBALANCE_IN_PROGRESS);
        group_expire(&g, now_ms);
        assert_int_equal(drained(&g), 0);
    }
    group_expire(&g, 61000);
    assert_int_equal(drained(&g), 1);
    assert_true(c.error == 0 && c.npeers == 1 && g.members.n == 1 && text_is(c.leader, "c"));
    assert_int_equal(beat(&g, 61000, 3, "a"), KAFKA_UNKNOWN_MEMBER_ID);
    group_wait_fini(&c);
    group_fini(&g);
}

static void test_rebalance_while_syncing(void **state)
{
    (void)state;
    struct group g;
    struct group_wait a, sb, c, late;
    two(&g, 0);
    join(&g, 0, plain("a", ""), &a); /* the leader wants another round */
    assert_int_equal(g.state, GROUP_PREPARING);
    struct group_wait b;
    join(&g, 0, plain("b", ""), &b);
    assert_int_equal(drained(&g), 2);
    assert_int_equal(g.state, GROUP_COMPLETING);
    sync_as(&g, 0, "b", &sb, NULL, NULL);
    join(&g, 0, plain("", "c"), &c);
    assert_int_equal(drained(&g), 1);
    assert_int_equal(sb.error, KAFKA_REBALANCE_IN_PROGRESS);
    sync_as(&g, 0, "a", &late, "a", "b");
    assert_int_equal(drained(&g), 1);
    assert_int_equal(late.error, KAFKA_REBALANCE_IN_PROGRESS);
    group_wait_cancel(&g, 0, &c);
    group_wait_fini(&a);
    group_wait_fini(&b);
    group_fini(&g);
}

static void test_leader_leaves(void **state)
{
    (void)state;
    struct group g;
    struct group_wait b;
    two(&g, 0);
    assert_int_equal(group_leave(&g, 0, MQG_SLICE_LIT("a"), MQG_SLICE_NONE), KAFKA_NONE);
    assert_int_equal(g.state, GROUP_PREPARING);
    join(&g, 0, plain("b", ""), &b);
    assert_int_equal(drained(&g), 1);
    assert_true(text_is(b.leader, "b") && b.npeers == 1);
    assert_int_equal(group_leave(&g, 0, MQG_SLICE_LIT("b"), MQG_SLICE_NONE), KAFKA_NONE);
    assert_true(g.state == GROUP_EMPTY && g.generation == 4 && g.protocol == NULL);
    assert_int_equal(beat(&g, 0, 4, "b"), KAFKA_UNKNOWN_MEMBER_ID);
    group_wait_fini(&b);
    group_fini(&g);
}

static void test_nobody_syncs(void **state)
{
    (void)state;
    struct group g;
    struct group_wait a;
    group_init(&g, &limits, 7);
    join(&g, 0, plain("", "a"), &a);
    assert_int_equal(drained(&g), 1);
    assert_int_equal(a.generation, 8);
    for (uint64_t now_ms = 5000; now_ms < 60000; now_ms += 5000)
        assert_int_equal(beat(&g, now_ms, 8, "a"), KAFKA_NONE);
    group_expire(&g, 60000);
    assert_true(g.members.n == 0 && g.state == GROUP_EMPTY);
    group_wait_fini(&a);
    group_fini(&g);
}

/* An answer that was lost is asked for again, and changes nothing. */
static void test_join_again(void **state)
{
    (void)state;
    struct group g;
    struct group_wait b;
    two(&g, 0);
    join(&g, 0, plain("b", ""), &b);
    assert_int_equal(drained(&g), 1);
    assert_true(b.error == 0 && b.generation == 2 && b.npeers == 0 && g.state == GROUP_STABLE);
    group_wait_fini(&b);
    struct group_join changed = plain("b", "");
    changed.protocols = sticky;
    changed.nprotocols = 1;
    join(&g, 0, changed, &b);
    assert_true(drained(&g) == 0 && g.state == GROUP_PREPARING);
    struct group_wait a;
    join(&g, 0, plain("a", ""), &a);
    assert_int_equal(drained(&g), 2);
    assert_true(text_is(g.protocol, "sticky"));
    assert_true(text_is(a.peers[0].metadata, "meta2"));
    group_wait_fini(&a);
    group_wait_fini(&b);
    group_fini(&g);
}

static void test_refusals(void **state)
{
    (void)state;
    struct group g;
    struct group_wait w;
    two(&g, 0);
    struct group_join in = plain("", "x");
    in.protocols = other;
    in.nprotocols = 1;
    join(&g, 0, in, &w);
    assert_true(drained(&g) == 1 && w.error == KAFKA_INCONSISTENT_GROUP_PROTOCOL);
    group_wait_fini(&w);
    in = plain("", "x");
    in.protocol_type = MQG_SLICE_LIT("connect");
    join(&g, 0, in, &w);
    assert_true(drained(&g) == 1 && w.error == KAFKA_INCONSISTENT_GROUP_PROTOCOL);
    group_wait_fini(&w);
    in = plain("", "p1");
    in.version = 4;
    for (int i = 0; i < 3; i++) {
        join(&g, 0, in, &w);
        assert_int_equal(drained(&g), 1);
        assert_int_equal(w.error, i < 2 ? KAFKA_MEMBER_ID_REQUIRED : KAFKA_GROUP_MAX_SIZE_REACHED);
        group_wait_fini(&w);
    }
    group_kill(&g);
    join(&g, 0, plain("", "x"), &w);
    assert_true(drained(&g) == 1 && w.error == KAFKA_COORDINATOR_NOT_AVAILABLE);
    group_wait_fini(&w);
    group_fini(&g);
}

/* ---- commits --------------------------------------------------------------------------------------------------------------- */

static void test_commits(void **state)
{
    (void)state;
    static const struct {
        int32_t generation;
        const char *id;
        bool transactional;
        int16_t empty, stable;
    } rows[] = {
        {-1, "", false, KAFKA_NONE, KAFKA_UNKNOWN_MEMBER_ID},
        {-1, "", true, KAFKA_NONE, KAFKA_NONE},
        {2, "a", false, KAFKA_UNKNOWN_MEMBER_ID, KAFKA_NONE},
        {1, "a", false, KAFKA_UNKNOWN_MEMBER_ID, KAFKA_ILLEGAL_GENERATION},
        {1, "a", true, KAFKA_UNKNOWN_MEMBER_ID, KAFKA_ILLEGAL_GENERATION},
        {2, "z", false, KAFKA_UNKNOWN_MEMBER_ID, KAFKA_UNKNOWN_MEMBER_ID},
        {-1, "z", false, KAFKA_NONE, KAFKA_UNKNOWN_MEMBER_ID},
        {-1, "z", true, KAFKA_NONE, KAFKA_UNKNOWN_MEMBER_ID},
    };
    struct group empty, stable;
    group_init(&empty, &limits, 0);
    two(&stable, 0);
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        struct mqg_slice id = mqg_slice_str(rows[i].id);
        assert_int_equal(
            group_check_commit(&empty, 0, rows[i].generation, id, MQG_SLICE_NONE, rows[i].transactional),
            rows[i].empty);
        assert_int_equal(
            group_check_commit(&stable, 0, rows[i].generation, id, MQG_SLICE_NONE, rows[i].transactional),
            rows[i].stable);
    }
    struct group_wait a, b;
    join(&stable, 0, plain("a", ""), &a);
    assert_int_equal(group_check_commit(&stable, 0, 2, MQG_SLICE_LIT("b"), MQG_SLICE_NONE, false),
                     KAFKA_NONE);
    join(&stable, 0, plain("b", ""), &b);
    assert_int_equal(drained(&stable), 2);
    assert_int_equal(group_check_commit(&stable, 0, 3, MQG_SLICE_LIT("b"), MQG_SLICE_NONE, false),
                     KAFKA_REBALANCE_IN_PROGRESS);
    assert_int_equal(group_check_commit(&stable, 0, 2, MQG_SLICE_LIT("b"), MQG_SLICE_NONE, false),
                     KAFKA_ILLEGAL_GENERATION);
    group_wait_fini(&a);
    group_wait_fini(&b);
    group_fini(&empty);
    group_fini(&stable);
}

static void test_subscribes(void **state)
{
    (void)state;
    static const uint8_t meta[] = {0, 0, 0, 0, 0, 2, 0, 1, 'x', 0, 2, 'y', 'z', 0, 0, 0, 0};
    static const uint8_t lies[] = {0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 1, 'q'};
    const struct group_join_protocol p = {TEXT("range"), {meta, sizeof meta}};
    const struct group_join_protocol bad = {TEXT("range"), {lies, sizeof lies}};
    struct group g;
    struct group_wait w;
    struct group_join in = plain("", "a");
    in.protocols = &p;
    in.nprotocols = 1;
    group_init(&g, &limits, 0);
    join(&g, 0, in, &w);
    assert_int_equal(drained(&g), 1);
    group_wait_fini(&w);
    assert_true(group_subscribes(&g, MQG_SLICE_LIT("x")) && group_subscribes(&g, MQG_SLICE_LIT("yz")));
    assert_false(group_subscribes(&g, MQG_SLICE_LIT("y")));
    in = plain("a", "");
    in.protocols = &bad;
    in.nprotocols = 1;
    join(&g, 0, in, &w);
    assert_int_equal(drained(&g), 1);
    group_wait_fini(&w);
    assert_false(group_subscribes(&g, MQG_SLICE_LIT("x")));
    group_fini(&g);
}

/* A connection that ends takes its wait back; its member has a session's time. */
static void test_cancel(void **state)
{
    (void)state;
    struct group g;
    struct group_wait a, c;
    two(&g, 0);
    join(&g, 100, plain("", "c"), &c);
    group_wait_cancel(&g, 100, &c);
    assert_int_equal(g.members.n, 3);
    assert_int_equal(beat(&g, 5000, 2, "a"), KAFKA_REBALANCE_IN_PROGRESS);
    join(&g, 5000, plain("a", ""), &a);
    assert_int_equal(drained(&g), 0);
    group_expire(&g, 10100); /* b and c are gone */
    assert_int_equal(drained(&g), 1);
    assert_true(a.error == 0 && a.npeers == 1);
    group_wait_fini(&a);
    group_fini(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round),
        cmocka_unit_test(test_member_id_required),
        cmocka_unit_test(test_promise_expires),
        cmocka_unit_test(test_promise_leaves),
        cmocka_unit_test(test_initial_delay),
        cmocka_unit_test(test_session_ends),
        cmocka_unit_test(test_round_ends_by_time),
        cmocka_unit_test(test_rebalance_while_syncing),
        cmocka_unit_test(test_leader_leaves),
        cmocka_unit_test(test_nobody_syncs),
        cmocka_unit_test(test_join_again),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_commits),
        cmocka_unit_test(test_subscribes),
        cmocka_unit_test(test_cancel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
