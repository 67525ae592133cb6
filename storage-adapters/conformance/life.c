/* life.c - the order of calls in a store's life, and what holds for every batch whatever is in it. */
#include "fix.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* A batch that any adapter takes: metadata, an append, or a message. */
static uint64_t submit_any(struct fix *f, uint32_t lane, uint64_t n, unsigned flags)
{
    char value[32];
    snprintf(value, sizeof(value), "%llu", (unsigned long long)n);
    struct mqg_store_op op = {.kind = MQG_OP_META,
                              .meta = {MQG_SLICE_LIT("suite/any"), mqg_slice_str(value), false}};
    struct mqg_range range = {n + 1, n + 1};
    if (!(f->caps & MQG_STORE_META))
        op = (f->caps & MQG_STORE_QUEUES)
                 ? fix_op_settle(0x51, &range, 1)
                 : (struct mqg_store_op){.kind = MQG_OP_POSITION,
                                         .position = {MQG_SLICE_LIT("suite"), 0x51, n, MQG_SLICE_NONE}};
    return fix_submit_flags(f, lane, &op, 1, flags);
}

static void life_open_fini(void **state)
{
    (void)state;
    struct fix *f = fix_new();
    struct mqg_error e = {0};
    assert_int_equal(fix_open(f, &e), MQG_OK);
    assert_non_null(f->store);
    f->ops->stop(f->store);
    f->ops->fini(&f->store);
    assert_null(f->store);
    fix_free(&f);
}

static void life_recover_fini(void **state)
{
    (void)state;
    struct fix *f = fix_new();
    struct mqg_error e = {0};
    assert_int_equal(fix_open(f, &e), MQG_OK);
    fix_recover(f);
    assert_int_equal(f->msgs.n, 0);
    assert_false(f->unclean);
    fix_down(f, false);
    fix_free(&f);
}

static void life_start_close_stop_fini(void **state)
{
    (void)state;
    struct fix *f = fix_new();
    fix_up(f);
    fix_down(f, true);
    fix_free(&f);
}

static void life_stop_without_close(void **state)
{
    (void)state;
    struct fix *f = fix_new();
    fix_up(f);
    for (uint64_t i = 0; i < 20; i++)
        submit_any(f, (uint32_t)(i % FIX_LANES), i, 0);
    fix_down(f, false); /* a crash test: what was not done may be lost, nothing may hang or leak */
    fix_free(&f);
}

static void life_close_finishes_what_was_submitted(void **state)
{
    (void)state;
    struct fix *f = fix_new();
    fix_up(f);
    uint64_t last[FIX_LANES];
    for (uint32_t lane = 0; lane < FIX_LANES; lane++)
        for (uint64_t i = 0; i < 50; i++)
            last[lane] = submit_any(f, lane, i, 0);
    f->ops->close(f->store);
    for (uint32_t lane = 0; lane < FIX_LANES; lane++)
        if (f->lanes[lane].done != last[lane])
            fix_broke(f, "lane %u: %llu of %llu done after close", lane,
                      (unsigned long long)f->lanes[lane].done, (unsigned long long)last[lane]);
    f->ops->stop(f->store);
    f->ops->fini(&f->store);
    fix_free(&f);
}

static void life_many_times(void **state)
{
    (void)state;
    struct fix *f = fix_new();
    fix_up(f);
    for (uint32_t i = 0; i < 6; i++) {
        assert_true(fix_wait(f, i % FIX_LANES, submit_any(f, i % FIX_LANES, i, MQG_SUBMIT_URGENT)));
        fix_reopen(f, i % 2 == 0);
    }
    fix_down(f, true);
    fix_free(&f);
}

static void life_clean_or_not(void **state)
{
    struct fix *f = *state;
    assert_false(f->unclean);
    assert_true(fix_wait(f, 0, submit_any(f, 0, 1, MQG_SUBMIT_URGENT)));
    fix_reopen(f, true);
    assert_false(f->unclean);
    assert_true(fix_wait(f, 0, submit_any(f, 0, 2, MQG_SUBMIT_URGENT)));
    fix_reopen(f, false);
    if (fix_local(f))
        assert_true(f->unclean);
    fix_reopen(f, true);
    assert_false(f->unclean);
}

static void life_one_owner(void **state)
{
    struct fix *f = *state;
    if (!f->adapter->folder) {
        printf("no folder to own\n");
        skip();
    }
    struct mqg_store *first = f->store;
    struct mqg_error e = {0};
    enum mqg_err err = fix_open(f, &e);
    struct mqg_store *second = f->store;
    f->store = first;
    assert_int_equal(err, MQG_LOCKED);
    assert_null(second);
    assert_true(strlen(e.text) > 0);
}

static void life_stats_and_dump(void **state)
{
    struct fix *f = *state;
    struct mqg_store_stats st = {0};
    assert_true(fix_wait(f, 0, submit_any(f, 0, 1, MQG_SUBMIT_URGENT)));
    f->ops->stats(f->store, &st);
    assert_non_null(st.state);
    assert_string_equal(st.state, "ok");
    if (f->ops->dump) {
        int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        f->ops->dump(f->store, fd);
        close(fd);
    }
}

/* ---- submit and done ------------------------------------------------------------------------------------------------- */

static void submit_done_rises(void **state)
{
    struct fix *f = *state;
    uint64_t last = 0;
    for (uint64_t i = 0; i < 500; i++)
        last = submit_any(f, 1, i, i % 7 == 0 ? MQG_SUBMIT_URGENT : 0);
    last = submit_any(f, 1, 500, MQG_SUBMIT_URGENT);
    assert_true(fix_wait(f, 1, last)); /* the fixture has watched the order */
    assert_int_equal(f->lanes[1].done, 501);
    assert_int_equal(f->lanes[0].done, 0);
}

static void submit_without_urgency_ends_too(void **state)
{
    struct fix *f = *state;
    uint64_t before = fix_now_ms();
    assert_true(fix_wait(f, 2, submit_any(f, 2, 1, 0)));
    assert_true(fix_now_ms() - before < 5000);
}

static void submit_lanes_are_apart(void **state)
{
    struct fix *f = *state;
    uint64_t last[FIX_LANES];
    for (uint64_t i = 0; i < 100; i++)
        for (uint32_t lane = 0; lane < FIX_LANES; lane++)
            last[lane] = submit_any(f, lane, i, MQG_SUBMIT_URGENT);
    for (uint32_t lane = 0; lane < FIX_LANES; lane++)
        assert_true(fix_wait(f, lane, last[lane]));
}

static void submit_groups(void **state)
{
    struct fix *f = *state;
    struct mqg_store_op ops[4] = {
        {.kind = MQG_OP_GROUP_BEGIN},
        {.kind = MQG_OP_META, .meta = {MQG_SLICE_LIT("suite/a"), MQG_SLICE_LIT("1"), false}},
        {.kind = MQG_OP_META, .meta = {MQG_SLICE_LIT("suite/b"), MQG_SLICE_LIT("2"), false}},
        {.kind = MQG_OP_GROUP_END},
    };
    for (int i = 0; i < 10; i++)
        fix_do(f, 0, ops, 4);
}

const struct suite_test suite_life[] = {
    {"life_open_fini", 0, life_open_fini, true},
    {"life_recover_fini", 0, life_recover_fini, true},
    {"life_start_close_stop_fini", 0, life_start_close_stop_fini, true},
    {"life_stop_without_close", 0, life_stop_without_close, true},
    {"life_close_finishes_what_was_submitted", 0, life_close_finishes_what_was_submitted, true},
    {"life_many_times", 0, life_many_times, true},
    {"life_clean_or_not", MQG_STORE_DURABLE, life_clean_or_not, false},
    {"life_one_owner", MQG_STORE_DURABLE | MQG_STORE_QUEUES, life_one_owner, false},
    {"life_stats_and_dump", 0, life_stats_and_dump, false},
    {"submit_done_rises", 0, submit_done_rises, false},
    {"submit_without_urgency_ends_too", 0, submit_without_urgency_ends_too, false},
    {"submit_lanes_are_apart", 0, submit_lanes_are_apart, false},
    {"submit_groups", MQG_STORE_META | MQG_STORE_ATOMIC_GROUPS, submit_groups, false},
    {NULL, 0, NULL, false},
};
