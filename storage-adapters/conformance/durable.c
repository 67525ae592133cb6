/* durable.c - what was confirmed is there after a clean stop and after none: messages, settles, counts, metadata.
 *
 * "Unclean" is stop and fini without close: the process dies for the store's files, though not for its page cache. What a
 * power cut leaves is the crash-image prover's matter. */
#include "fix.h"

#include <string.h>

enum { QUEUE = 0x3001, OTHER = 0x3002 };

#define HIGH_QSEQ ((uint64_t)3 << 48) /* the third start of a node: its epoch stands on top */

static struct mqg_store_op op_meta(const char *key, const char *value)
{
    return (struct mqg_store_op){
        .kind = MQG_OP_META,
        .meta = {mqg_slice_str(key), value ? mqg_slice_str(value) : MQG_SLICE_NONE, value == NULL},
    };
}

static void put_meta(struct fix *f, uint32_t lane, const char *key, const char *value)
{
    struct mqg_store_op op = op_meta(key, value);
    fix_do(f, lane, &op, 1);
}

static void expect_meta(struct fix *f, const char *key, const char *value)
{
    const struct fix_meta *m = fix_found_meta(f, key);
    if (!value) {
        assert_null(m);
        return;
    }
    if (!m)
        fail_msg("key %s is not there", key);
    assert_true(mqg_slice_eq(m->value, mqg_slice_str(value)));
}

/* ---- metadata -------------------------------------------------------------------------------------------------------- */

static void meta_last_writer_wins(void **state)
{
    struct fix *f = *state;
    put_meta(f, 0, "q/a", "1");
    put_meta(f, 1, "q/b", "1");
    put_meta(f, 2, "q/a", "2");
    put_meta(f, 3, "q/a", "3");
    put_meta(f, 1, "q/b", "");
    put_meta(f, 1, "q/A", "another key");
    for (int i = 0; i < 2; i++) {
        fix_reopen(f, i == 1);
        expect_meta(f, "q/a", "3");
        expect_meta(f, "q/b", "");
        expect_meta(f, "q/A", "another key");
        assert_int_equal(f->metas.n, 3);
    }
}

static void meta_removal(void **state)
{
    struct fix *f = *state;
    put_meta(f, 0, "x/kept", "1");
    put_meta(f, 0, "x/gone", "1");
    put_meta(f, 1, "x/gone", NULL);
    put_meta(f, 1, "x/back", "1");
    put_meta(f, 2, "x/back", NULL);
    put_meta(f, 3, "x/back", "2");
    put_meta(f, 3, "x/never", NULL);
    for (int i = 0; i < 3; i++) {
        fix_reopen(f, i != 0);
        expect_meta(f, "x/kept", "1");
        expect_meta(f, "x/gone", NULL);
        expect_meta(f, "x/back", "2");
        expect_meta(f, "x/never", NULL);
    }
}

static void meta_several_in_a_batch(void **state)
{
    struct fix *f = *state;
    struct mqg_store_op ops[4] = {op_meta("b/1", "old"), op_meta("b/2", "x"), op_meta("b/1", "new"),
                                  op_meta("b/2", NULL)};
    fix_do(f, 0, ops, 4);
    fix_reopen(f, false);
    expect_meta(f, "b/1", "new");
    expect_meta(f, "b/2", NULL);
}

static void meta_any_bytes(void **state)
{
    struct fix *f = *state;
    uint8_t key[4] = {0, 0xff, 'k', 0};
    size_t len = 300000;
    uint8_t *value = mqg_xmalloc(len);
    for (size_t i = 0; i < len; i++)
        value[i] = (uint8_t)(i * 31);
    struct mqg_store_op op = {.kind = MQG_OP_META,
                              .meta = {mqg_slice_of(key, 4), mqg_slice_of(value, len), false}};
    uint64_t ticket = fix_submit(f, 0, &op, 1);
    memset(key, 0xee, sizeof(key));
    memset(value, 0xee, len);
    assert_true(fix_wait(f, 0, ticket));
    fix_reopen(f, false);
    assert_int_equal(f->metas.n, 1);
    struct fix_meta *m = f->metas.items[0];
    assert_int_equal(m->key_len, 4);
    assert_memory_equal(m->key, ((uint8_t[]){0, 0xff, 'k', 0}), 4);
    assert_int_equal(m->value.len, len);
    for (size_t i = 0; i < len; i++)
        if (m->value.ptr[i] != (uint8_t)(i * 31))
            fail_msg("byte %zu differs", i);
    free(value);
}

static void meta_of_many_keys(void **state)
{
    struct fix *f = *state;
    enum { KEYS = 500, ROUNDS = 6 };
    char key[32], value[32];
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t last[FIX_LANES] = {0};
        for (uint32_t i = 0; i < KEYS; i++) {
            snprintf(key, sizeof(key), "q/many-%u", i);
            snprintf(value, sizeof(value), "%u-%d", i, round);
            struct mqg_store_op op = op_meta(key, i % 10 == 9 && round == ROUNDS - 1 ? NULL : value);
            last[i % FIX_LANES] = fix_submit_flags(f, i % FIX_LANES, &op, 1, 0);
        }
        for (uint32_t lane = 0; lane < FIX_LANES; lane++)
            assert_true(fix_wait(f, lane, last[lane]));
        if (round % 2)
            fix_reopen(f, round == 1);
    }
    assert_int_equal(f->metas.n, KEYS - KEYS / 10);
    for (uint32_t i = 0; i < KEYS; i += 7) {
        snprintf(key, sizeof(key), "q/many-%u", i);
        snprintf(value, sizeof(value), "%u-%d", i, ROUNDS - 1);
        expect_meta(f, key, i % 10 == 9 ? NULL : value);
    }
}

/* ---- messages -------------------------------------------------------------------------------------------------------- */

/* Reopens uncleanly, then cleanly, and holds the one message of the queue against m each time. */
static void expect_kept(struct fix *f, uint64_t queue_id, uint64_t qseq, const struct mqg_msg *m)
{
    for (int i = 0; i < 3; i++) {
        fix_reopen(f, i == 1);
        fix_found_same(f, queue_id, qseq, m);
    }
}

static void durable_every_size(void **state)
{
    struct fix *f = *state;
    static const uint32_t sizes[] = {0, 1, 100, 4096, 65536, 300000, 1u << 20, 3u << 20};
    struct mqg_msg *msgs[MQG_COUNTOF(sizes)];
    for (uint32_t i = 0; i < MQG_COUNTOF(sizes); i++)
        msgs[i] = fix_put(f, i % FIX_LANES, QUEUE, HIGH_QSEQ + i, i, sizes[i]);
    for (int round = 0; round < 3; round++) {
        fix_reopen(f, round == 1);
        assert_int_equal(fix_found_count(f, QUEUE), MQG_COUNTOF(sizes));
        for (uint32_t i = 0; i < MQG_COUNTOF(sizes); i++)
            fix_found_same(f, QUEUE, HIGH_QSEQ + i, msgs[i]);
    }
    for (uint32_t i = 0; i < MQG_COUNTOF(sizes); i++)
        mqg_msg_unref(&msgs[i]);
}

/* The queue's order is qseq order, whatever lane and batch brought a message. */
static void durable_order_is_qseq(void **state)
{
    struct fix *f = *state;
    enum { N = 200 };
    for (uint32_t i = 0; i < N; i++) {
        struct mqg_msg *m = fix_put(f, i % FIX_LANES, i % 3 ? QUEUE : OTHER, HIGH_QSEQ + (i * 73) % N, i, 64);
        mqg_msg_unref(&m);
    }
    for (int round = 0; round < 2; round++) {
        fix_reopen(f, round == 1); /* the fixture checks the order */
        assert_int_equal(fix_found_count(f, QUEUE) + fix_found_count(f, OTHER), N);
    }
}

static void durable_settled_stays_settled(void **state)
{
    struct fix *f = *state;
    enum { N = 100 };
    for (uint32_t i = 0; i < N; i++) {
        struct mqg_msg *m = fix_put(f, i % FIX_LANES, QUEUE, i + 1, i, 200);
        mqg_msg_unref(&m);
    }
    struct mqg_range ranges[3] = {{1, 10}, {50, 50}, {90, 200}};
    struct mqg_store_op op = fix_op_settle(QUEUE, ranges, 3);
    fix_do(f, 2, &op, 1);
    for (int round = 0; round < 3; round++) {
        fix_reopen(f, round == 1);
        assert_int_equal(fix_found_count(f, QUEUE), N - 10 - 1 - 11);
        assert_null(fix_found(f, QUEUE, 10));
        assert_non_null(fix_found(f, QUEUE, 11));
        assert_null(fix_found(f, QUEUE, 50));
        assert_non_null(fix_found(f, QUEUE, 89));
        assert_null(fix_found(f, QUEUE, 90));
    }
}

static void durable_settle_may_come_first(void **state)
{
    struct fix *f = *state;
    struct mqg_range range = {5, 5};
    struct mqg_store_op op = fix_op_settle(QUEUE, &range, 1);
    fix_do(f, 1, &op, 1);
    for (uint64_t qseq = 4; qseq <= 6; qseq++) {
        struct mqg_msg *m = fix_put(f, 0, QUEUE, qseq, qseq, 100);
        mqg_msg_unref(&m);
    }
    for (int round = 0; round < 2; round++) {
        fix_reopen(f, round == 1);
        assert_non_null(fix_found(f, QUEUE, 4));
        assert_null(fix_found(f, QUEUE, 5));
        assert_non_null(fix_found(f, QUEUE, 6));
    }
}

static void durable_fan_out(void **state)
{
    struct fix *f = *state;
    enum { N = 2500 };
    struct mqg_dest *dests = mqg_xcalloc(N, sizeof(*dests));
    for (uint32_t i = 0; i < N; i++)
        dests[i] = (struct mqg_dest){0x50000 + i * 3, HIGH_QSEQ + i % 7};
    struct mqg_msg *m = fix_msg(1, 5000);
    struct mqg_store_op op = fix_op_msg(f, 0, m, dests, N);
    fix_do(f, 0, &op, 1);
    struct mqg_range range = {dests[1].qseq, dests[1].qseq};
    op = fix_op_settle(dests[1].queue_id, &range, 1);
    fix_do(f, 1, &op, 1);
    fix_reopen(f, false);
    assert_int_equal(f->msgs.n, N - 1);
    assert_null(fix_found(f, dests[1].queue_id, dests[1].qseq));
    for (uint32_t i = 0; i < N; i += 499)
        fix_found_same(f, dests[i].queue_id, dests[i].qseq, m);
    mqg_msg_unref(&m);
    free(dests);
}

static void durable_counts(void **state)
{
    struct fix *f = *state;
    struct mqg_msg *m = fix_put(f, 0, QUEUE, 1, 1, 10), *n = fix_put(f, 0, QUEUE, 2, 2, 10);
    struct mqg_store_op ops[2] = {{.kind = MQG_OP_COUNT, .count = {QUEUE, 1, 1, 2}},
                                  {.kind = MQG_OP_COUNT, .count = {QUEUE, 1, 3, 4}}};
    fix_do(f, 0, &ops[0], 1);
    fix_do(f, 0, &ops[1], 1);
    for (int round = 0; round < 2; round++) {
        fix_reopen(f, round == 1);
        const struct fix_msg *found = fix_found(f, QUEUE, 1);
        assert_non_null(found);
        assert_int_equal(found->delivery_count, 3);
        assert_int_equal(found->acquired_count, 4);
        found = fix_found(f, QUEUE, 2);
        assert_non_null(found);
        assert_int_equal(found->delivery_count, 0);
    }
    mqg_msg_unref(&m);
    mqg_msg_unref(&n);
}

/* Recovered messages are settled like new ones: nothing of them is left after the next start. */
static void durable_recovered_are_settled(void **state)
{
    struct fix *f = *state;
    enum { N = 30 };
    for (uint32_t i = 0; i < N; i++) {
        struct mqg_msg *m = fix_put(f, 0, QUEUE, i + 1, i, 3000);
        mqg_msg_unref(&m);
    }
    fix_reopen(f, false);
    assert_int_equal(fix_found_count(f, QUEUE), N);
    for (uint32_t i = 0; i < N; i++)
        fix_settle(f, i % FIX_LANES, QUEUE, i + 1, fix_found(f, QUEUE, i + 1)->extent);
    fix_reopen(f, false);
    assert_int_equal(f->msgs.n, 0);
    fix_reopen(f, true);
    assert_int_equal(f->msgs.n, 0);
}

static void durable_host_may_drop(void **state)
{
    struct fix *f = *state;
    for (uint32_t i = 0; i < 10; i++) {
        struct mqg_msg *m = fix_put(f, 0, QUEUE, i + 1, i, 3000);
        mqg_msg_unref(&m);
    }
    f->drop_messages = true; /* the queue is not defined any more */
    fix_reopen(f, true);
    assert_int_equal(f->msgs.n, 0);
    f->drop_messages = false;
    struct mqg_msg *m = fix_put(f, 0, OTHER, 1, 77, 100);
    expect_kept(f, OTHER, 1, m);
    mqg_msg_unref(&m);
}

/* Several lives, each adding, settling and checking what the ones before left. */
static void durable_generations(void **state)
{
    struct fix *f = *state;
    enum { LIVES = 6, EACH = 40 };
    for (uint32_t life = 0; life < LIVES; life++) {
        for (uint32_t i = 0; i < EACH; i++) {
            uint64_t qseq = ((uint64_t)life << 48) + i;
            struct mqg_msg *m = fix_put(f, i % FIX_LANES, QUEUE, qseq, qseq, 2000 + i);
            if (i % 2)
                fix_settle(f, (i + 1) % FIX_LANES, QUEUE, qseq, m->extent);
            mqg_msg_unref(&m);
        }
        fix_reopen(f, life % 3 == 1);
        assert_int_equal(fix_found_count(f, QUEUE), (life + 1) * EACH / 2);
        for (uint32_t l = 0; l <= life; l++) {
            uint64_t qseq = ((uint64_t)l << 48) + 2 * l;
            struct mqg_msg *m = fix_msg(qseq, (uint32_t)(2000 + 2 * l));
            const struct fix_msg *found = fix_found(f, QUEUE, qseq);
            assert_non_null(found);
            struct mqg_load item = {.extent = found->extent, .off = found->off, .len = found->len};
            fix_load(f, 0, &item, 1);
            assert_true(mqg_slice_eq(mqg_msg_body(item.msg), mqg_msg_body(m)));
            mqg_msg_unref(&item.msg);
            mqg_msg_unref(&m);
        }
    }
}

/* More than several segments, and only the ends of it live: recycling must not take what is alive. */
static void durable_through_many_segments(void **state)
{
    struct fix *f = *state;
    enum { N = 600, BODY = 20000 };
    struct mqg_msg *kept[N / 100] = {NULL};
    for (uint32_t i = 0; i < N; i++) {
        struct mqg_msg *m = fix_put(f, i % FIX_LANES, QUEUE, i + 1, i, BODY);
        if (i % 100 == 50) {
            kept[i / 100] = m;
            continue;
        }
        fix_settle(f, i % FIX_LANES, QUEUE, i + 1, m->extent);
        mqg_msg_unref(&m);
    }
    for (int round = 0; round < 2; round++) {
        fix_reopen(f, round == 1);
        assert_int_equal(f->msgs.n, MQG_COUNTOF(kept));
        for (uint32_t i = 0; i < MQG_COUNTOF(kept); i++)
            fix_found_same(f, QUEUE, i * 100 + 50 + 1, kept[i]);
    }
    for (uint32_t i = 0; i < MQG_COUNTOF(kept); i++)
        mqg_msg_unref(&kept[i]);
}

/* ---- groups ---------------------------------------------------------------------------------------------------------- */

/* Stops without waiting for done: of each group all is there, or nothing. */
static void durable_groups_are_whole(void **state)
{
    struct fix *f = *state;
    enum { GROUPS = 40 };
    struct mqg_msg *m = fix_put(f, 0, OTHER, 1, 1, 50);
    for (uint32_t i = 0; i < GROUPS; i++) {
        struct mqg_msg *first = fix_msg(2 * i, 3000), *second = fix_msg(2 * i + 1, 20);
        struct mqg_dest dests[2] = {{QUEUE, i + 1}, {OTHER, i + 100}};
        char key[16];
        snprintf(key, sizeof(key), "group/%u", i);
        struct mqg_store_op ops[5] = {{.kind = MQG_OP_GROUP_BEGIN},
                                      fix_op_msg(f, 1, first, &dests[0], 1),
                                      op_meta(key, "1"),
                                      fix_op_msg(f, 1, second, &dests[1], 1),
                                      {.kind = MQG_OP_GROUP_END}};
        fix_submit_flags(f, 1, ops, 5, i % 4 == 0 ? MQG_SUBMIT_URGENT : 0);
        mqg_msg_unref(&first);
        mqg_msg_unref(&second);
    }
    pthread_mutex_lock(&f->lock);
    uint64_t done = f->lanes[1].done;
    pthread_mutex_unlock(&f->lock);
    fix_reopen(f, false);
    for (uint32_t i = 0; i < GROUPS; i++) {
        char key[16];
        snprintf(key, sizeof(key), "group/%u", i);
        int parts = (fix_found(f, QUEUE, i + 1) != NULL) + (fix_found(f, OTHER, i + 100) != NULL) +
                    (fix_found_meta(f, key) != NULL);
        if (parts != 0 && parts != 3)
            fail_msg("group %u: %d of 3 parts are there", i, parts);
        if (i + 1 <= done && parts != 3)
            fail_msg("group %u was done and is not there", i);
    }
    fix_found_same(f, OTHER, 1, m);
    mqg_msg_unref(&m);
}

#define MESSAGES (MQG_STORE_DURABLE | MQG_STORE_QUEUES)
#define METADATA (MQG_STORE_DURABLE | MQG_STORE_META)

const struct suite_test suite_durable[] = {
    {"meta_last_writer_wins", METADATA, meta_last_writer_wins, false},
    {"meta_removal", METADATA, meta_removal, false},
    {"meta_several_in_a_batch", METADATA, meta_several_in_a_batch, false},
    {"meta_any_bytes", METADATA, meta_any_bytes, false},
    {"meta_of_many_keys", METADATA, meta_of_many_keys, false},
    {"durable_every_size", MESSAGES, durable_every_size, false},
    {"durable_order_is_qseq", MESSAGES, durable_order_is_qseq, false},
    {"durable_settled_stays_settled", MESSAGES, durable_settled_stays_settled, false},
    {"durable_settle_may_come_first", MESSAGES, durable_settle_may_come_first, false},
    {"durable_fan_out", MESSAGES, durable_fan_out, false},
    {"durable_counts", MESSAGES, durable_counts, false},
    {"durable_recovered_are_settled", MESSAGES, durable_recovered_are_settled, false},
    {"durable_host_may_drop", MESSAGES, durable_host_may_drop, false},
    {"durable_generations", MESSAGES, durable_generations, false},
    {"durable_through_many_segments", MESSAGES, durable_through_many_segments, false},
    {"durable_groups_are_whole", MESSAGES | METADATA | MQG_STORE_ATOMIC_GROUPS, durable_groups_are_whole,
     false},
    {NULL, 0, NULL, false},
};
