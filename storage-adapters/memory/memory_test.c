/* memory_test.c - what the conformance suite does not ask of every adapter: the bound on bytes, and loads that come late. */
#include "memory.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { BOUND = 100000, PARTITION = 5 };

struct told {
    uint64_t done;
    int blocked; /* -1: nothing told */
    uint32_t loads;
};

static struct told told;

static void told_done(void *host, uint32_t lane, uint64_t ticket)
{
    (void)host;
    (void)lane;
    told.done = ticket;
}

static void told_pressure(void *host, bool blocked, const char *why)
{
    (void)host;
    assert_non_null(why);
    told.blocked = blocked;
}

static int setup(void **state)
{
    static const struct mqg_conf_row rows[2] = {
        {"store.*", "max_bytes", MQG_CONF_SIZE, "100000", 0, INT64_MAX, NULL, ""},
        {.section = NULL},
    };
    struct mqg_store_host host = {.done = told_done, .pressure = told_pressure};
    struct mqg_store *s;
    struct mqg_error e;
    struct mqg_conf *conf = mqg_conf_new();
    mqg_conf_schema(conf, rows);
    told = (struct told){.blocked = -1};
    assert_int_equal(mem_ops.open(&s, &host, conf, "store.m", 2, &e), MQG_OK);
    mqg_conf_free(&conf);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct mqg_store *s = *state;
    mem_ops.close(s);
    mem_ops.stop(s);
    mem_ops.fini(&s);
    return 0;
}

static enum mqg_err append(struct mqg_store *s, uint32_t lane, uint64_t ticket, uint64_t base, size_t len)
{
    uint8_t *bytes = mqg_xcalloc(1, len);
    struct mqg_slice rope = mqg_slice_of(bytes, len);
    struct mqg_store_op ops[2] = {{.kind = MQG_OP_STREAM_NEW, .stream = {PARTITION, MQG_SLICE_NONE, 0}},
                                  {.kind = MQG_OP_APPEND, .append = {PARTITION, base, 1, 0, &rope, 1}}};
    enum mqg_err err = mem_ops.submit(s, lane, ops, 2, ticket, 0);
    free(bytes);
    return err;
}

static void test_full_blocks_and_answers_again(void **state)
{
    struct mqg_store *s = *state;
    assert_int_equal(append(s, 0, 1, 0, BOUND - 1), MQG_OK);
    assert_int_equal(told.blocked, -1);
    assert_int_equal(append(s, 0, 2, 1, BOUND), MQG_OK); /* judged by what is held, so it comes through */
    assert_int_equal(told.blocked, true);
    assert_int_equal(append(s, 0, 3, 2, 1), MQG_AGAIN);
    assert_int_equal(told.done, 2);
    struct mqg_store_stats st;
    mem_ops.stats(s, &st);
    assert_string_equal(st.state, "blocked");
    struct mqg_store_op trim = {.kind = MQG_OP_TRIM, .trim = {PARTITION, 2}};
    assert_int_equal(mem_ops.submit(s, 1, &trim, 1, 1, 0), MQG_OK); /* what frees is always taken */
    assert_int_equal(told.blocked, false);
    mem_ops.stats(s, &st);
    assert_int_equal(st.live_bytes, 0);
    assert_int_equal(append(s, 0, 3, 2, 1), MQG_OK);
}

static struct mqg_msg *put(struct mqg_store *s, uint64_t ticket, uint32_t body, enum mqg_err want)
{
    struct mqg_msg_parts parts = {.key_sep = '.', .body_len = body};
    struct mqg_msg *m = mqg_msg_new(&parts);
    struct mqg_dest dest = {1, ticket};
    m->extent = mem_ops.extent_open(s, 0);
    mqg_extent_take(m->extent, 1);
    struct mqg_store_op op = {.kind = MQG_OP_MSG, .msg = {m, &dest, 1}};
    assert_int_equal(mem_ops.submit(s, 0, &op, 1, ticket, 0), want);
    return m;
}

static void test_settling_makes_room(void **state)
{
    struct mqg_store *s = *state;
    struct mqg_msg *a = put(s, 1, BOUND, MQG_OK);
    assert_int_equal(told.blocked, true);
    struct mqg_msg *b = put(s, 2, 10, MQG_AGAIN);
    mqg_extent_give(a->extent, 1); /* a consumer's acknowledgement: no submit is needed for it */
    assert_int_equal(told.blocked, false);
    struct mqg_dest dest = {1, 2};
    struct mqg_store_op op = {.kind = MQG_OP_MSG, .msg = {b, &dest, 1}};
    assert_int_equal(mem_ops.submit(s, 0, &op, 1, 2, 0), MQG_OK);
    mqg_extent_give(b->extent, 1);
    mqg_msg_unref(&a);
    mqg_msg_unref(&b);
}

static void load_done(struct mqg_load_req *req)
{
    (void)req;
    told.loads++;
}

static void test_a_load_may_come_too_late(void **state)
{
    struct mqg_store *s = *state;
    struct mqg_msg *m = put(s, 1, 10, MQG_OK);
    struct mqg_load items[2] = {{.extent = m->extent, .off = 0, .len = m->total_len},
                                {.extent = m->extent, .off = 1, .len = m->total_len}};
    struct mqg_load_req req = {.items = items, .n = 2, .done = load_done};
    mem_ops.load(s, &req);
    assert_int_equal(told.loads, 1);
    assert_ptr_equal(items[0].msg, m);
    assert_int_equal(items[1].err, MQG_GONE);
    assert_null(items[1].msg);
    mqg_msg_unref(&items[0].msg);
    mqg_extent_give(m->extent, 1);
    mem_ops.load(s, &req);
    assert_int_equal(items[0].err, MQG_GONE);
    assert_null(items[0].msg);
    mqg_msg_unref(&m);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_full_blocks_and_answers_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_settling_makes_room, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_load_may_come_too_late, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
