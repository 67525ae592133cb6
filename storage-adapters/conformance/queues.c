/* queues.c - messages of queues while the store runs: stored, counted by extents, loaded, settled. */
#include "fix.h"

#include <string.h>

enum { QUEUE = 0x1001, OTHER = 0x1002 };

static const uint32_t sizes[] = {0,    1,    79,    100,   400,    511,      512,     513,
                                 4095, 4096, 65535, 65536, 300000, 1u << 20, 3u << 20};

static void expect_loaded(struct fix *f, struct mqg_msg *const *msgs, uint32_t n)
{
    struct mqg_load items[64];
    assert_true(n <= MQG_COUNTOF(items));
    for (uint32_t i = 0; i < n; i++)
        items[i] = (struct mqg_load){
            .extent = msgs[i]->extent, .off = msgs[i]->extent_off, .len = msgs[i]->total_len};
    fix_load(f, 0, items, n);
    for (uint32_t i = 0; i < n; i++) {
        assert_non_null(items[i].msg);
        assert_true(fix_same(items[i].msg, msgs[i]));
        mqg_msg_unref(&items[i].msg);
    }
}

static void queue_load_of_every_size(void **state)
{
    struct fix *f = *state;
    for (uint32_t i = 0; i < MQG_COUNTOF(sizes); i++) {
        struct mqg_msg *m = fix_put(f, 0, QUEUE, i + 1, i, sizes[i]);
        assert_true(atomic_load(&m->extent->place) != MQG_PLACE_NONE);
        expect_loaded(f, &m, 1);
        fix_settle(f, 0, QUEUE, i + 1, m->extent);
        mqg_msg_unref(&m);
    }
    assert_true(fix_dead_reach(f, MQG_COUNTOF(sizes)));
}

static void queue_load_out_of_one_batch(void **state)
{
    struct fix *f = *state;
    enum { N = MQG_COUNTOF(sizes) };
    struct mqg_msg *msgs[N];
    struct mqg_dest dests[N];
    struct mqg_store_op ops[N];
    for (uint32_t i = 0; i < N; i++) {
        msgs[i] = fix_msg(100 + i, sizes[N - 1 - i]);
        dests[i] = (struct mqg_dest){QUEUE, i + 1};
        ops[i] = fix_op_msg(f, 0, msgs[i], &dests[i], 1);
    }
    struct mqg_extent *x = msgs[0]->extent;
    uint64_t ticket = fix_submit(f, 0, ops, N);
    memset(dests, 0xee, sizeof(dests)); /* not the store's any more */
    memset(ops, 0xee, sizeof(ops));
    assert_true(fix_wait(f, 0, ticket));
    expect_loaded(f, msgs, N);
    assert_int_equal(atomic_load(&x->live), N);
    mqg_extent_give(x, N);
    assert_true(fix_dead_reach(f, 1));
    for (uint32_t i = 0; i < N; i++)
        mqg_msg_unref(&msgs[i]);
}

static void queue_load_from_several_batches(void **state)
{
    struct fix *f = *state;
    enum { N = 60 };
    struct mqg_msg *msgs[N];
    for (uint32_t i = 0; i < N; i++)
        msgs[i] = fix_put(f, i % FIX_LANES, QUEUE, i + 1, i, i * 37);
    expect_loaded(f, msgs, N);
    for (uint32_t i = 0; i < N; i++) {
        fix_settle(f, (i + 1) % FIX_LANES, QUEUE, i + 1, msgs[i]->extent);
        mqg_msg_unref(&msgs[i]);
    }
    assert_true(fix_dead_reach(f, N));
}

static void queue_fan_out(void **state)
{
    struct fix *f = *state;
    enum { N = 3000 }; /* beyond what a store may keep in one record */
    struct mqg_dest *dests = mqg_xcalloc(N, sizeof(*dests));
    for (uint32_t i = 0; i < N; i++)
        dests[i] = (struct mqg_dest){0x20000 + i * 7, 5 + i % 3};
    struct mqg_msg *m = fix_msg(1, 1000);
    struct mqg_store_op op = fix_op_msg(f, 0, m, dests, N);
    uint64_t ticket = fix_submit(f, 0, &op, 1);
    memset(dests, 0xee, N * sizeof(*dests));
    assert_true(fix_wait(f, 0, ticket));
    expect_loaded(f, &m, 1);
    mqg_extent_give(m->extent, N - 1);
    assert_int_equal(fix_dead(f), 0);
    expect_loaded(f, &m, 1);
    mqg_extent_give(m->extent, 1);
    assert_true(fix_dead_reach(f, 1));
    mqg_msg_unref(&m);
    free(dests);
}

/* One batch as a busy worker's turn makes it: many small messages, settles between them. */
static void queue_batch_of_many(void **state)
{
    struct fix *f = *state;
    enum { N = 2000 };
    struct mqg_msg **msgs = mqg_xcalloc(N, sizeof(struct mqg_msg *));
    struct mqg_dest *dests = mqg_xcalloc(N, sizeof(*dests));
    struct mqg_store_op *ops = mqg_xcalloc(N + 1, sizeof(*ops));
    for (uint32_t i = 0; i < N; i++) {
        msgs[i] = fix_msg(i, 100);
        dests[i] = (struct mqg_dest){i % 2 ? QUEUE : OTHER, i + 1};
        ops[i] = fix_op_msg(f, 0, msgs[i], &dests[i], 1);
    }
    struct mqg_range ranges[2] = {{1, 10}, {1990, 2000}};
    ops[N] = fix_op_settle(OTHER, ranges, 2);
    fix_do(f, 0, ops, N + 1);
    for (uint32_t i = 0; i < N; i += 50)
        expect_loaded(f, msgs + i, 50);
    struct mqg_extent *x = msgs[0]->extent;
    for (uint32_t i = 0; i < N; i++)
        mqg_msg_unref(&msgs[i]);
    mqg_extent_give(x, N);
    assert_true(fix_dead_reach(f, 1));
    free(msgs);
    free(dests);
    free(ops);
}

static void queue_settled_before_submit(void **state)
{
    struct fix *f = *state;
    struct mqg_msg *m = fix_msg(3, 10); /* a consumer without acknowledgement, in the same turn */
    struct mqg_dest dest = {QUEUE, 1};
    struct mqg_range range = {1, 1};
    struct mqg_store_op ops[2] = {fix_op_msg(f, 0, m, &dest, 1), fix_op_settle(QUEUE, &range, 1)};
    mqg_extent_give(m->extent, 1);
    assert_int_equal(fix_dead(f), 0);
    fix_do(f, 0, ops, 2);
    assert_true(fix_dead_reach(f, 1)); /* by the store, when it gave back its own */
    mqg_msg_unref(&m);
}

static void queue_settled_before_its_message(void **state)
{
    struct fix *f = *state;
    struct mqg_range range = {7, 7};
    struct mqg_store_op op = fix_op_settle(QUEUE, &range, 1);
    fix_do(f, 1, &op, 1); /* another lane was quicker */
    struct mqg_msg *m = fix_put(f, 0, QUEUE, 7, 1, 100);
    mqg_extent_give(m->extent, 1);
    assert_true(fix_dead_reach(f, 1));
    mqg_msg_unref(&m);
}

static void queue_settles_of_every_shape(void **state)
{
    struct fix *f = *state;
    struct mqg_range ranges[600];
    for (uint32_t i = 0; i < MQG_COUNTOF(ranges); i++)
        ranges[i] = (struct mqg_range){i * 10 + 1, i * 10 + 1 + i % 5};
    struct mqg_range mixed[4] = {
        {900, 950}, {1, 1}, {UINT64_MAX - 1, UINT64_MAX}, {40, 60}}; /* in no order */
    struct mqg_store_op ops[3] = {fix_op_settle(QUEUE, ranges, MQG_COUNTOF(ranges)),
                                  fix_op_settle(OTHER, mixed, 4), fix_op_settle(0xdead0000, mixed, 1)};
    uint64_t ticket = fix_submit(f, 0, ops, 3);
    memset(ranges, 0xee, sizeof(ranges));
    assert_true(fix_wait(f, 0, ticket));
}

static void queue_counts(void **state)
{
    struct fix *f = *state;
    struct mqg_msg *m = fix_put(f, 0, QUEUE, 1, 1, 10);
    struct mqg_store_op ops[2] = {
        {.kind = MQG_OP_COUNT, .count = {QUEUE, 1, 2, 3}},
        {.kind = MQG_OP_COUNT, .count = {QUEUE, 99, 1, 1}}}; /* of a message never seen */
    fix_do(f, 1, ops, 2);
    fix_settle(f, 0, QUEUE, 1, m->extent);
    assert_true(fix_dead_reach(f, 1));
    mqg_msg_unref(&m);
}

static void queue_extent_is_the_lanes(void **state)
{
    struct fix *f = *state;
    struct mqg_extent *a = fix_extent(f, 0), *b = fix_extent(f, 1);
    assert_ptr_not_equal(a, b);
    assert_ptr_equal(f->ops->extent_open(f->store, 0), a);
    struct mqg_msg *m = fix_msg(1, 1), *n = fix_msg(2, 1);
    struct mqg_dest dests[2] = {{QUEUE, 1}, {QUEUE, 2}};
    struct mqg_store_op op = fix_op_msg(f, 0, m, &dests[0], 1), second = fix_op_msg(f, 1, n, &dests[1], 1);
    assert_ptr_equal(m->extent, a);
    fix_do(f, 0, &op, 1);
    fix_do(f, 1, &second, 1);
    assert_ptr_not_equal(fix_extent(f, 0), a); /* a holds a live message: it cannot be used again yet */
    assert_int_equal(atomic_load(&a->live), 1);
    assert_true(atomic_load(&a->place) != MQG_PLACE_NONE);
    mqg_extent_give(a, 1);
    mqg_extent_give(b, 1);
    assert_true(fix_dead_reach(f, 2));
    mqg_msg_unref(&m);
    mqg_msg_unref(&n);
}

static void queue_extents_go_round(void **state)
{
    struct fix *f = *state;
    for (uint32_t i = 0; i < 300; i++) {
        struct mqg_msg *m = fix_msg(i, 50);
        struct mqg_dest dest = {QUEUE, i + 1};
        struct mqg_store_op op = fix_op_msg(f, 0, m, &dest, 1);
        uint64_t ticket = fix_submit(f, 0, &op, 1);
        if (i % 2)
            assert_true(fix_wait(f, 0, ticket)); /* settled before done, and after it */
        mqg_extent_give(m->extent, 1);
        mqg_msg_unref(&m);
    }
    assert_true(fix_dead_reach(f, 300));
}

static void queue_message_memory_is_given_back(void **state)
{
    struct fix *f = *state;
    int64_t before = mqg_msg_memory_used();
    for (uint32_t i = 0; i < 20; i++) {
        struct mqg_msg *m = fix_put(f, 0, QUEUE, i + 1, i, 200000);
        fix_settle(f, 0, QUEUE, i + 1, m->extent);
        mqg_msg_unref(&m);
    }
    assert_true(fix_dead_reach(f, 20));
    uint64_t until = fix_now_ms() + FIX_WAIT_MS;
    while (mqg_msg_memory_used() > before + 1000000 && fix_now_ms() < until)
        fix_pause();
    assert_true(mqg_msg_memory_used() <= before + 1000000);
}

const struct suite_test suite_queues[] = {
    {"queue_load_of_every_size", MQG_STORE_QUEUES, queue_load_of_every_size, false},
    {"queue_load_out_of_one_batch", MQG_STORE_QUEUES, queue_load_out_of_one_batch, false},
    {"queue_load_from_several_batches", MQG_STORE_QUEUES, queue_load_from_several_batches, false},
    {"queue_fan_out", MQG_STORE_QUEUES, queue_fan_out, false},
    {"queue_batch_of_many", MQG_STORE_QUEUES, queue_batch_of_many, false},
    {"queue_settled_before_submit", MQG_STORE_QUEUES, queue_settled_before_submit, false},
    {"queue_settled_before_its_message", MQG_STORE_QUEUES, queue_settled_before_its_message, false},
    {"queue_settles_of_every_shape", MQG_STORE_QUEUES, queue_settles_of_every_shape, false},
    {"queue_counts", MQG_STORE_QUEUES, queue_counts, false},
    {"queue_extent_is_the_lanes", MQG_STORE_QUEUES, queue_extent_is_the_lanes, false},
    {"queue_extents_go_round", MQG_STORE_QUEUES, queue_extents_go_round, false},
    {"queue_message_memory_is_given_back", MQG_STORE_QUEUES, queue_message_memory_is_given_back, false},
    {NULL, 0, NULL, false},
};
