/* group_consumer_test.c - a KIP-848 group step by step, by a clock and topics that are turned by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "group_consumer.h"

#include "error.h"

static const struct consumer_limits limits = {.max_members = 4, .session_ms = 45000};

/* ---- the world: topics a, b, ... --------------------------------------------------------------------------------------- */

static int32_t world_partitions[4];
static struct consumer_world world;

static struct kafka_uuid id_of(char name)
{
    return (struct kafka_uuid){{(uint8_t)name}};
}

static bool find(void *arg, struct mqg_slice name, struct consumer_topic *out)
{
    (void)arg;
    size_t at = name.len == 1 ? (size_t)(name.ptr[0] - 'a') : 9;
    if (at >= MQG_COUNTOF(world_partitions) || world_partitions[at] == 0)
        return false;
    *out = (struct consumer_topic){name, id_of((char)name.ptr[0]), world_partitions[at]};
    return true;
}

/* "[" is no expression; any other matches every topic. */
static bool match(void *arg, struct mqg_slice regex, void (*visit)(void *to, struct mqg_slice name), void *to)
{
    (void)arg;
    for (size_t i = 0; i < MQG_COUNTOF(world_partitions); i++) {
        uint8_t name = (uint8_t)('a' + i);
        if (world_partitions[i] > 0)
            visit(to, mqg_slice_of(&name, 1));
    }
    return regex.ptr[0] != '[';
}

static void world_is(int32_t a, int32_t b)
{
    world_partitions[0] = a;
    world_partitions[1] = b;
    world_partitions[2] = world_partitions[3] = 0;
    world = (struct consumer_world){find, match, world.generation + 1, NULL};
}

/* ---- members ------------------------------------------------------------------------------------------------------------- */

static struct consumer_beat joins(const char *id, const struct mqg_slice *names, int32_t n)
{
    static const struct group_parts none;
    return (struct consumer_beat){.member_id = mqg_slice_str(id),
                                  .client_id = MQG_SLICE_LIT("c"),
                                  .client_host = MQG_SLICE_LIT("/h"),
                                  .rebalance_ms = 60000,
                                  .names = names,
                                  .nnames = n,
                                  .owned = &none};
}

static struct consumer_beat stays(const char *id, int32_t epoch, const struct group_parts *owned)
{
    return (struct consumer_beat){
        .member_id = mqg_slice_str(id), .epoch = epoch, .rebalance_ms = -1, .nnames = -1, .owned = owned};
}

static struct consumer_answer beat(struct consumer_group *g, uint64_t now_ms, struct consumer_beat in)
{
    struct consumer_answer out;
    consumer_heartbeat(g, now_ms, &in, &world, &out);
    return out;
}

static struct consumer_answer join(struct consumer_group *g, uint64_t now_ms, const char *id)
{
    struct mqg_slice a = MQG_SLICE_LIT("a");
    return beat(g, now_ms, joins(id, &a, 1));
}

static uint32_t assigned(const struct consumer_answer *a)
{
    return a->assignment != NULL ? a->assignment->n : UINT32_MAX;
}

static void test_alone(void **state)
{
    (void)state;
    struct consumer_group g;
    world_is(4, 0);
    consumer_init(&g, &limits, 0);
    struct consumer_answer a = join(&g, 0, "m1");
    assert_true(a.error == 0 && a.epoch == 1 && assigned(&a) == 4);
    assert_string_equal(consumer_state_name(&g), "Stable");
    a = beat(&g, 1000, stays("m1", 1, NULL));
    assert_true(a.error == 0 && a.epoch == 1 && a.assignment == NULL);
    a = beat(&g, 1000, stays("m1", 2, NULL));
    assert_int_equal(a.error, KAFKA_FENCED_MEMBER_EPOCH);
    a = beat(&g, 1000, stays("m2", 1, NULL));
    assert_int_equal(a.error, KAFKA_UNKNOWN_MEMBER_ID);
    assert_int_equal(consumer_check(&g, MQG_SLICE_LIT("m1"), 1), KAFKA_NONE);
    assert_int_equal(consumer_check(&g, MQG_SLICE_LIT("m1"), 0), KAFKA_STALE_MEMBER_EPOCH);
    assert_int_equal(consumer_check(&g, MQG_SLICE_LIT("m9"), 1), KAFKA_UNKNOWN_MEMBER_ID);
    a = beat(&g, 1000, stays("m1", -1, NULL));
    assert_true(a.error == 0 && a.epoch == -1 && g.members.n == 0);
    assert_string_equal(consumer_state_name(&g), "Empty");
    consumer_fini(&g);
}

/* A partition is the second member's only when the first has said that it let go. */
static void test_two_hand_over(void **state)
{
    (void)state;
    struct consumer_group g;
    world_is(4, 0);
    consumer_init(&g, &limits, 0);
    struct consumer_answer a = join(&g, 0, "m1");
    struct group_parts all = {.n = 0};
    group_parts_copy(&all, a.assignment);
    struct consumer_answer b = join(&g, 0, "m2");
    assert_true(b.error == 0 && b.epoch == 2 && assigned(&b) == 0);
    assert_string_equal(consumer_state_name(&g), "Reconciling");
    a = beat(&g, 100, stays("m1", 1, NULL));
    assert_true(a.error == 0 && a.epoch == 1 && assigned(&a) == 2);
    struct group_parts kept = {.n = 0};
    group_parts_copy(&kept, a.assignment);
    b = beat(&g, 200, stays("m2", 2, NULL));
    assert_true(b.epoch == 2 && b.assignment == NULL); /* not yet */
    a = beat(&g, 300, stays("m1", 1, &all));
    assert_true(a.epoch == 1 && a.assignment == NULL); /* still holds them */
    a = beat(&g, 400, stays("m1", 1, &kept));
    assert_true(a.epoch == 2 && a.error == 0);
    b = beat(&g, 500, stays("m2", 2, NULL));
    assert_true(b.epoch == 2 && assigned(&b) == 2);
    assert_false(group_parts_meet(b.assignment, &kept));
    assert_string_equal(consumer_state_name(&g), "Stable");
    group_parts_fini(&all);
    group_parts_fini(&kept);
    consumer_fini(&g);
}

static void test_silent_member(void **state)
{
    (void)state;
    struct consumer_group g;
    world_is(2, 0);
    consumer_init(&g, &limits, 0);
    (void)join(&g, 0, "m1");
    (void)join(&g, 10000, "m2");
    assert_int_equal(g.due_ms, 45000);
    consumer_expire(&g, 44999);
    assert_int_equal(g.members.n, 2);
    consumer_expire(&g, 45000);
    assert_int_equal(g.members.n, 1);
    struct consumer_answer b = beat(&g, 46000, stays("m2", 2, NULL));
    assert_true(b.error == 0 && b.epoch == 3 && assigned(&b) == 2);
    struct consumer_answer a = beat(&g, 46000, stays("m1", 1, NULL));
    assert_int_equal(a.error, KAFKA_UNKNOWN_MEMBER_ID);
    consumer_fini(&g);
}

/* It heartbeats and never lets go: its rebalance timeout ends it. */
static void test_stubborn_member(void **state)
{
    (void)state;
    struct consumer_group g;
    world_is(2, 0);
    consumer_init(&g, &limits, 0);
    struct consumer_answer a = join(&g, 0, "m1");
    struct group_parts all = {.n = 0};
    group_parts_copy(&all, a.assignment);
    (void)join(&g, 0, "m2");
    (void)beat(&g, 1000, stays("m1", 1, &all));
    for (uint64_t now_ms = 2000; now_ms < 61000; now_ms += 1000) {
        assert_int_equal(beat(&g, now_ms, stays("m1", 1, &all)).error, 0);
        assert_int_equal(beat(&g, now_ms, stays("m2", 2, NULL)).error, 0);
        consumer_expire(&g, now_ms);
    }
    assert_int_equal(g.members.n, 2);
    consumer_expire(&g, 61000);
    assert_int_equal(g.members.n, 1);
    struct consumer_answer b = beat(&g, 61000, stays("m2", 2, NULL));
    assert_true(b.epoch == 3 && assigned(&b) == 2);
    group_parts_fini(&all);
    consumer_fini(&g);
}

/* The answer to the last heartbeat was lost. */
static void test_answer_lost(void **state)
{
    (void)state;
    struct consumer_group g;
    world_is(2, 0);
    consumer_init(&g, &limits, 0);
    struct consumer_answer a = join(&g, 0, "m1");
    a = join(&g, 0, "m1");
    assert_true(a.error == 0 && a.epoch == 1 && assigned(&a) == 2 && g.members.n == 1);
    world_is(3, 0);
    a = beat(&g, 0, stays("m1", 1, NULL));
    assert_true(a.epoch == 2 && assigned(&a) == 3);
    struct group_parts two = {.n = 0}, more = {.n = 0};
    group_parts_add(&two, id_of('a'), 0);
    group_parts_add(&two, id_of('a'), 1);
    group_parts_add(&more, id_of('b'), 7);
    a = beat(&g, 0, stays("m1", 1, &two));
    assert_true(a.error == 0 && a.epoch == 2);
    assert_int_equal(beat(&g, 0, stays("m1", 1, NULL)).error, KAFKA_FENCED_MEMBER_EPOCH);
    assert_int_equal(beat(&g, 0, stays("m1", 1, &more)).error, KAFKA_FENCED_MEMBER_EPOCH);
    assert_int_equal(beat(&g, 0, stays("m1", 0, NULL)).error, KAFKA_INVALID_REQUEST);
    assert_int_equal(join(&g, 0, "m1").error, KAFKA_FENCED_MEMBER_EPOCH);
    group_parts_fini(&two);
    group_parts_fini(&more);
    consumer_fini(&g);
}

static void test_topics_change(void **state)
{
    (void)state;
    struct consumer_group g;
    struct mqg_slice both[] = {MQG_SLICE_LIT("b"), MQG_SLICE_LIT("a"), MQG_SLICE_LIT("b")};
    world_is(1, 0);
    consumer_init(&g, &limits, 0);
    struct consumer_answer a = beat(&g, 0, joins("m1", both, 3));
    assert_true(a.epoch == 1 && assigned(&a) == 1);
    assert_true(consumer_subscribes(&g, MQG_SLICE_LIT("b")) && !consumer_subscribes(&g, MQG_SLICE_LIT("c")));
    world_is(1, 2); /* b is made */
    a = beat(&g, 0, stays("m1", 1, NULL));
    assert_true(a.epoch == 2 && assigned(&a) == 3);
    assert_true(mqg_slice_eq(consumer_topic_name(&g, &(struct kafka_uuid){{'b'}}), MQG_SLICE_LIT("b")));
    world_is(0, 2); /* a is deleted */
    struct group_parts left = {.n = 0};
    group_parts_add(&left, id_of('b'), 0);
    group_parts_add(&left, id_of('b'), 1);
    a = beat(&g, 0, stays("m1", 2, NULL));
    assert_true(a.epoch == 2 && assigned(&a) == 2);
    a = beat(&g, 0, stays("m1", 2, &left));
    assert_true(a.epoch == 3 && a.assignment == NULL);
    struct consumer_beat only_b = stays("m1", 3, &left);
    only_b.names = both;
    only_b.nnames = 1;
    assert_int_equal(beat(&g, 0, only_b).epoch, 4);
    group_parts_fini(&left);
    consumer_fini(&g);
}

static void test_regex(void **state)
{
    (void)state;
    struct consumer_group g;
    world_is(1, 0);
    consumer_init(&g, &limits, 0);
    struct consumer_beat in = joins("m1", NULL, -1);
    assert_int_equal(beat(&g, 0, in).error, KAFKA_INVALID_REQUEST);
    in.regex = MQG_SLICE_LIT("[");
    assert_int_equal(beat(&g, 0, in).error, KAFKA_INVALID_REGULAR_EXPRESSION);
    assert_int_equal(g.members.n, 0);
    in.regex = MQG_SLICE_LIT("x.*");
    struct consumer_answer a = beat(&g, 0, in);
    assert_true(a.error == 0 && assigned(&a) == 1 && consumer_subscribes(&g, MQG_SLICE_LIT("a")));
    int32_t epoch = a.epoch;
    world_is(1, 3);
    a = beat(&g, 0, stays("m1", epoch, NULL));
    assert_true(a.epoch > epoch && assigned(&a) == 4);
    struct consumer_beat plain = stays("m1", a.epoch, NULL);
    struct mqg_slice name = MQG_SLICE_LIT("a");
    plain.names = &name;
    plain.nnames = 1;
    plain.regex = MQG_SLICE_LIT("");
    a = beat(&g, 0, plain);
    assert_int_equal(assigned(&a), 1);
    assert_false(consumer_subscribes(&g, MQG_SLICE_LIT("b")));
    consumer_fini(&g);
}

/* ---- static members -------------------------------------------------------------------------------------------------------- */

static struct consumer_beat fixed(struct consumer_beat in)
{
    in.instance_id = MQG_SLICE_LIT("i");
    return in;
}

static void test_static(void **state)
{
    (void)state;
    struct consumer_group g;
    struct mqg_slice a_name = MQG_SLICE_LIT("a");
    world_is(2, 0);
    consumer_init(&g, &limits, 0);
    struct consumer_answer a = beat(&g, 0, fixed(joins("m1", &a_name, 1)));
    assert_true(a.epoch == 1 && assigned(&a) == 2);
    assert_int_equal(beat(&g, 0, fixed(joins("m2", &a_name, 1))).error, KAFKA_UNRELEASED_INSTANCE_ID);
    assert_int_equal(beat(&g, 0, fixed(stays("m2", 1, NULL))).error, KAFKA_FENCED_INSTANCE_ID);
    assert_int_equal(beat(&g, 0, stays("m1", -2, NULL)).error, KAFKA_INVALID_REQUEST);
    a = beat(&g, 0, fixed(stays("m1", -2, NULL)));
    assert_true(a.error == 0 && a.epoch == -2 && g.members.n == 1);
    a = beat(&g, 30000, fixed(joins("m2", &a_name, 1)));
    assert_true(a.error == 0 && a.epoch == 1 && assigned(&a) == 2); /* nobody noticed */
    assert_int_equal(beat(&g, 30000, fixed(stays("m1", 1, NULL))).error, KAFKA_FENCED_INSTANCE_ID);
    assert_int_equal(consumer_remove(&g, 0, MQG_SLICE_LIT("zz"), MQG_SLICE_LIT("i")),
                     KAFKA_FENCED_INSTANCE_ID);
    assert_int_equal(consumer_remove(&g, 0, MQG_SLICE_LIT(""), MQG_SLICE_LIT("i")), KAFKA_NONE);
    assert_int_equal(consumer_remove(&g, 0, MQG_SLICE_LIT(""), MQG_SLICE_LIT("i")), KAFKA_UNKNOWN_MEMBER_ID);
    consumer_fini(&g);
}

static void test_refusals(void **state)
{
    (void)state;
    struct consumer_group g;
    struct mqg_slice a_name = MQG_SLICE_LIT("a");
    world_is(2, 0);
    consumer_init(&g, &limits, 0);
    struct consumer_beat in = joins("m1", &a_name, 1);
    in.rebalance_ms = -1;
    assert_int_equal(beat(&g, 0, in).error, KAFKA_INVALID_REQUEST);
    in = joins("m1", &a_name, 1);
    in.owned = NULL;
    assert_int_equal(beat(&g, 0, in).error, KAFKA_INVALID_REQUEST);
    in = joins("m1", &a_name, 1);
    in.assignor = MQG_SLICE_LIT("none");
    assert_int_equal(beat(&g, 0, in).error, KAFKA_UNSUPPORTED_ASSIGNOR);
    assert_int_equal(beat(&g, 0, stays("", 1, NULL)).error, KAFKA_INVALID_REQUEST);
    assert_int_equal(beat(&g, 0, stays("m", -3, NULL)).error, KAFKA_INVALID_REQUEST);
    assert_int_equal(beat(&g, 0, stays("m", -1, NULL)).error, KAFKA_UNKNOWN_MEMBER_ID);
    for (int i = 0; i < 4; i++) {
        char id[3] = {'m', (char)('0' + i), 0};
        assert_int_equal(join(&g, 0, id).error, 0);
    }
    assert_int_equal(join(&g, 0, "m9").error, KAFKA_GROUP_MAX_SIZE_REACHED);
    consumer_fini(&g);
}

static void test_range_is_chosen(void **state)
{
    (void)state;
    struct consumer_group g;
    struct mqg_slice a_name = MQG_SLICE_LIT("a");
    world_is(4, 0);
    consumer_init(&g, &limits, 0);
    struct consumer_beat in = joins("m1", &a_name, 1);
    in.assignor = MQG_SLICE_LIT("range");
    (void)beat(&g, 0, in);
    assert_true(mqg_slice_eq(group_view(g.assignor), MQG_SLICE_LIT("range")));
    consumer_fini(&g);
}

/* ---- chaos: whatever happens, a partition has one owner ---------------------------------------------------------------------- */

static uint32_t dice_state = 12345;

static uint32_t dice(uint32_t n)
{
    dice_state = dice_state * 1103515245u + 12345u;
    return (dice_state >> 8) % n;
}

struct client {
    char id[4];
    bool in;
    int32_t epoch;
    struct group_parts owned;
};

static void client_answered(struct client *c, const struct consumer_answer *a)
{
    if (a->error != 0) {
        c->in = false;
        c->owned.n = 0;
        return;
    }
    c->epoch = a->epoch;
    if (a->assignment != NULL)
        group_parts_copy(&c->owned, a->assignment);
}

static void client_turn(struct consumer_group *g, struct client *c, uint64_t now_ms)
{
    struct consumer_answer a;
    if (!c->in) {
        a = join(g, now_ms, c->id);
        c->in = true;
    } else if (dice(12) == 0) {
        (void)beat(g, now_ms, stays(c->id, -1, NULL));
        c->in = false;
        c->owned.n = 0;
        return;
    } else {
        a = beat(g, now_ms, stays(c->id, c->epoch, &c->owned));
    }
    client_answered(c, &a);
}

static void nobody_shares(const struct client *clients, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = i + 1; k < n; k++)
            assert_false(group_parts_meet(&clients[i].owned, &clients[k].owned));
}

static void test_chaos(void **state)
{
    (void)state;
    struct consumer_group g;
    struct client clients[4] = {{.id = "m0"}, {.id = "m1"}, {.id = "m2"}, {.id = "m3"}};
    world_is(7, 0);
    consumer_init(&g, &limits, 0);
    for (uint64_t now_ms = 0; now_ms < 200000; now_ms += 100) {
        client_turn(&g, &clients[dice(4)], now_ms);
        nobody_shares(clients, 4);
        if (dice(50) == 0)
            world_is((int32_t)dice(12), 0);
    }
    world_is(9, 0);
    uint32_t held = 0;
    for (int turn = 0; turn < 10; turn++)
        for (size_t i = 0; i < 4; i++) {
            struct consumer_answer a = clients[i].in
                                           ? beat(&g, 200000,
                                                  stays(clients[i].id, clients[i].epoch, &clients[i].owned))
                                           : join(&g, 200000, clients[i].id);
            clients[i].in = true;
            client_answered(&clients[i], &a);
        }
    nobody_shares(clients, 4);
    for (size_t i = 0; i < 4; i++) {
        held += clients[i].owned.n;
        group_parts_fini(&clients[i].owned);
    }
    assert_int_equal(held, 9);
    assert_string_equal(consumer_state_name(&g), "Stable");
    consumer_fini(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alone),         cmocka_unit_test(test_two_hand_over),
        cmocka_unit_test(test_silent_member), cmocka_unit_test(test_stubborn_member),
        cmocka_unit_test(test_answer_lost),   cmocka_unit_test(test_topics_change),
        cmocka_unit_test(test_regex),         cmocka_unit_test(test_static),
        cmocka_unit_test(test_refusals),      cmocka_unit_test(test_range_is_chosen),
        cmocka_unit_test(test_chaos),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
