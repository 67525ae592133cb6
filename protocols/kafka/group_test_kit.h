/* group_test_kit.h - what the tests of the classic group engine share: members that join and sync, by a clock that is turned by hand. */
#ifndef KAFKA_GROUP_TEST_KIT_H
#define KAFKA_GROUP_TEST_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "group.h"

#include "error.h"

static const struct group_limits limits = {.max_members = 4, .initial_delay_ms = 0, .fresh_join_ms = 300000};
static const struct group_limits slow_limits = {
    .max_members = 4, .initial_delay_ms = 3000, .fresh_join_ms = 300000};
#define TEXT(lit)                               \
    {                                           \
        (const uint8_t *)(lit), sizeof(lit) - 1 \
    }
static const struct group_join_protocol both[] = {{TEXT("range"), TEXT("meta")},
                                                  {TEXT("sticky"), TEXT("meta2")}};
static const struct group_join_protocol sticky[] = {{TEXT("sticky"), TEXT("meta2")}};

static inline struct group_join plain(const char *id, const char *new_id)
{
    return (struct group_join){.version = 3,
                               .member_id = mqg_slice_str(id),
                               .client_id = MQG_SLICE_LIT("c"),
                               .client_host = MQG_SLICE_LIT("/127.0.0.1"),
                               .protocol_type = MQG_SLICE_LIT("consumer"),
                               .session_ms = 10000,
                               .rebalance_ms = 60000,
                               .protocols = both,
                               .nprotocols = 2,
                               .new_id = mqg_slice_str(new_id)};
}

/* Takes the waits out of the list; how many. */
static inline size_t drained(struct group *g)
{
    size_t n = 0;
    while (group_answered(g) != NULL)
        n++;
    return n;
}

static inline bool text_is(const struct mqg_buf *b, const char *text)
{
    return mqg_slice_eq(group_view(b), mqg_slice_str(text));
}

static inline void join(struct group *g, uint64_t now_ms, struct group_join in, struct group_wait *w)
{
    *w = (struct group_wait){.error = -7};
    group_join(g, now_ms, &in, w);
}

static inline void sync_as(struct group *g, uint64_t now_ms, const char *id, struct group_wait *w,
                           const char *first, const char *second)
{
    struct group_sync_row rows[2] = {{mqg_slice_str(first ? first : ""), MQG_SLICE_LIT("one")},
                                     {mqg_slice_str(second ? second : ""), MQG_SLICE_LIT("two")}};
    struct group_sync in = {.generation = g->generation,
                            .member_id = mqg_slice_str(id),
                            .rows = rows,
                            .nrows = first == NULL    ? 0
                                     : second == NULL ? 1
                                                      : 2};
    *w = (struct group_wait){.error = -7};
    group_sync(g, now_ms, &in, w);
}

/* A stable group of a (leader) and b. */
static inline void two(struct group *g, uint64_t now_ms)
{
    struct group_wait a, b, sa, sb;
    group_init(g, &limits, 0);
    join(g, now_ms, plain("", "a"), &a);
    assert_int_equal(drained(g), 1);
    group_wait_fini(&a);
    join(g, now_ms, plain("", "b"), &b);
    assert_int_equal(drained(g), 0);
    join(g, now_ms, plain("a", ""), &a);
    assert_int_equal(drained(g), 2);
    assert_true(a.error == 0 && b.error == 0 && a.npeers == 2 && b.npeers == 0);
    assert_true(text_is(a.leader, "a") && text_is(b.leader, "a") && text_is(b.member_id, "b"));
    assert_int_equal(g->state, GROUP_COMPLETING);
    sync_as(g, now_ms, "b", &sb, NULL, NULL);
    assert_int_equal(drained(g), 0);
    sync_as(g, now_ms, "a", &sa, "a", "b");
    assert_int_equal(drained(g), 2);
    assert_true(text_is(sa.assignment, "one") && text_is(sb.assignment, "two"));
    assert_true(g->state == GROUP_STABLE && g->generation == 2);
    group_wait_fini(&a);
    group_wait_fini(&b);
    group_wait_fini(&sa);
    group_wait_fini(&sb);
}

static inline int16_t beat(struct group *g, uint64_t now_ms, int32_t generation, const char *id)
{
    return group_heartbeat(g, now_ms, generation, mqg_slice_str(id), MQG_SLICE_NONE);
}

#endif
