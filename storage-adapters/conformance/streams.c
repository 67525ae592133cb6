/* streams.c - partitions: batches appended and read as they came, watermarks, gaps, waiting. */
#include "model.h"

#include <string.h>

/* ---- appending and reading --------------------------------------------------------------------------------------------- */

static void stream_new_is_empty(void **state)
{
    struct model *m = model_new(*state);
    model_expect_bounds(m, 0, 0);
    struct mqg_stream_read r = fix_read(m->f, m->partition, 0, 1000, true);
    assert_int_equal(r.err, MQG_OK);
    assert_null(r.data);
    assert_int_equal(r.next_offset, 0);
    model_free(m);
}

static void stream_unknown(void **state)
{
    struct fix *f = *state;
    struct mqg_stream_bounds b;
    uint64_t offset;
    assert_int_equal(f->ops->stream_bounds(f->store, 0x123456789, &b), MQG_NOT_FOUND);
    assert_int_equal(fix_time(f, 0x123456789, 1, &offset), MQG_NOT_FOUND);
    struct mqg_stream_read r = fix_read(f, 0x123456789, 0, 1000, true);
    assert_int_equal(r.err, MQG_NOT_FOUND);
    assert_null(r.data);
    f->ops->stream_wait(f->store, 0x123456789, 0);
}

static void stream_comes_back_as_appended(void **state)
{
    struct model *m = model_new(*state);
    static const struct {
        uint32_t count, value;
    } shapes[] = {{1, 0}, {1, 1}, {10, 100}, {1, 70000}, {300, 1000}, {1, 400000}, {50, 0}, {2000, 10}};
    for (size_t i = 0; i < MQG_COUNTOF(shapes); i++)
        model_append(m, (uint32_t)i % FIX_LANES, shapes[i].count, shapes[i].value, i % 2 == 1);
    model_expect_bounds(m, 0, m->end);
    model_check_from(m, 0, 1u << 20);
    model_free(m);
}

static void stream_batch_over_a_segment(void **state)
{
    struct model *m = model_new(*state);
    model_append(m, 0, 3, 100, false);
    model_append(m, 0, 3, 700000, false);
    model_append(m, 0, 3, 100, false);
    model_expect_bounds(m, 0, 9);
    model_check_from(m, 0, 100);
    model_free(m);
}

static void stream_batch_in_pieces(void **state)
{
    struct model *m = model_new(*state);
    struct batch_spec spec = {0, 9, MODEL_TIME(0), 20, 5000, true};
    struct batch_view b = model_batch(m, &spec);
    struct mqg_slice rope[40];
    uint32_t n = 0;
    for (size_t at = 0, len; at < b.bytes.len; at += len) {
        len = n == 0 ? 1 : n == 1 ? 0 : b.bytes.len - at < 3777 ? b.bytes.len - at : 3777;
        rope[n++] = mqg_slice_of(b.bytes.ptr + at, len); /* the second is empty */
        assert_true(n < MQG_COUNTOF(rope));
    }
    struct mqg_store_op op = model_append_op(m, &b, rope, n);
    uint64_t ticket = fix_submit(m->f, 0, &op, 1);
    assert_true(fix_wait(m->f, 0, ticket));
    model_expect_bounds(m, 0, 20);
    model_check_from(m, 0, 1u << 20);
    model_free(m);
}

/* Several batches in one append, as a producer sends them. */
static void stream_batches_of_one_append(void **state)
{
    struct model *m = model_new(*state);
    struct mqg_slice rope[3];
    struct batch_view all = {0};
    for (uint32_t i = 0; i < 3; i++) {
        struct batch_spec spec = {m->end, i, MODEL_TIME(m->end), 4 + i, 50, false};
        struct batch_view b = model_batch(m, &spec);
        rope[i] = b.bytes;
        all.base = i ? all.base : b.base;
        all.count += b.count;
        all.max_time_ms = b.max_time_ms;
    }
    struct mqg_store_op op = model_append_op(m, &all, rope, 3);
    fix_do(m->f, 0, &op, 1);
    model_expect_bounds(m, 0, 15);
    for (uint64_t offset = 0; offset < 15; offset++)
        model_check_from(m, offset, 1);
    model_free(m);
}

static void stream_bytes_are_the_callers_again(void **state)
{
    struct model *m = model_new(*state);
    struct batch_spec spec = {0, 1, MODEL_TIME(0), 5, 100, false};
    struct batch_view b = model_batch(m, &spec);
    uint8_t *copy = mqg_xmalloc(b.bytes.len);
    memcpy(copy, b.bytes.ptr, b.bytes.len);
    struct mqg_slice rope = mqg_slice_of(copy, b.bytes.len);
    struct mqg_store_op op = model_append_op(m, &b, &rope, 1);
    uint64_t ticket = fix_submit(m->f, 0, &op, 1);
    memset(copy, 0xee, b.bytes.len); /* 64 KiB or less: copied by the store */
    rope = MQG_SLICE_NONE;
    assert_true(fix_wait(m->f, 0, ticket));
    model_expect_bounds(m, 0, 5);
    model_check_from(m, 0, 1000);
    free(copy);
    model_free(m);
}

static void stream_read_from_any_offset(void **state)
{
    struct model *m = model_new(*state);
    for (uint32_t i = 0; i < 30; i++)
        model_append(m, i % FIX_LANES, 1 + i % 7, 40, i % 2 == 0);
    model_expect_bounds(m, 0, m->end);
    for (uint64_t offset = 0; offset < m->end; offset++) {
        struct mqg_stream_read r = fix_read(m->f, m->partition, offset, 300, true);
        assert_int_equal(r.err, MQG_OK);
        assert_non_null(r.data);
        model_check_read(m, &r);
        assert_int_equal(r.high_watermark, m->end);
        assert_int_equal(r.log_start, 0);
        mqg_buf_unref(&r.data);
        if (m->wrong)
            fail_msg("at %llu: %s", (unsigned long long)offset, m->wrong);
    }
    model_free(m);
}

/* Reads from the start until the answer goes to `next`: a store may be moving the last batches to where they stay, and answer
 * with fewer while it does. */
static struct mqg_stream_read read_upto(struct model *m, uint32_t max_bytes, uint64_t next)
{
    uint64_t until = fix_now_ms() + FIX_WAIT_MS;
    struct mqg_stream_read r = fix_read(m->f, m->partition, 0, max_bytes, true);
    while (m->f->adapter->verbatim && r.next_offset < next && fix_now_ms() < until) {
        mqg_buf_unref(&r.data);
        fix_pause();
        r = fix_read(m->f, m->partition, 0, max_bytes, true);
    }
    return r;
}

static void stream_max_bytes(void **state)
{
    struct model *m = model_new(*state);
    for (uint32_t i = 0; i < 10; i++)
        model_append(m, 0, 4, 1000, false);
    model_expect_bounds(m, 0, 40);
    struct mqg_buf *one = m->batches.items[0];
    struct mqg_stream_read r = fix_read(m->f, m->partition, 0, 1, true);
    assert_non_null(r.data); /* at least one, whatever its size */
    assert_int_equal(model_check_read(m, &r), 1);
    mqg_buf_unref(&r.data);
    r = read_upto(m, one->len * 3 + one->len / 2, 12);
    assert_non_null(r.data);
    assert_true(r.data->len <= one->len * 3 + one->len / 2);
    size_t n = model_check_read(m, &r);
    if (m->f->adapter->verbatim)
        assert_int_equal(n, 3);
    mqg_buf_unref(&r.data);
    r = read_upto(m, 1u << 20, 40);
    assert_non_null(r.data);
    model_check_read(m, &r);
    if (m->f->adapter->verbatim)
        assert_int_equal(r.next_offset, 40);
    mqg_buf_unref(&r.data);
    assert_null(m->wrong);
    model_free(m);
}

static void stream_read_outside(void **state)
{
    struct model *m = model_new(*state);
    model_append(m, 0, 5, 10, false);
    model_expect_bounds(m, 0, 5);
    struct mqg_stream_read r = fix_read(m->f, m->partition, 5, 1000, true);
    assert_int_equal(r.err, MQG_OK); /* nothing there yet */
    assert_null(r.data);
    assert_int_equal(r.high_watermark, 5);
    r = fix_read(m->f, m->partition, 6, 1000, true);
    assert_int_equal(r.err, MQG_NOT_FOUND);
    assert_null(r.data);
    r = fix_read(m->f, m->partition, UINT64_MAX / 2, 1000, false);
    assert_int_equal(r.err, MQG_NOT_FOUND);
    model_free(m);
}

/* ---- gaps -------------------------------------------------------------------------------------------------------------- */

/* Offsets are given out in order, but lanes submit on their own: what comes early waits for what comes late. */
static void stream_gap(void **state)
{
    struct model *m = model_new(*state);
    model_append(m, 0, 10, 10, false);
    struct batch_view parts[4];
    for (uint32_t i = 0; i < 4; i++) {
        struct batch_spec spec = {10 + i * 10, i, MODEL_TIME(10 + i * 10), 10, 20, false};
        parts[i] = model_batch(m, &spec);
    }
    static const uint32_t order[] = {2, 1, 3, 0};
    uint64_t tickets[4];
    for (uint32_t i = 0; i < 4; i++) {
        model_expect_bounds(m, 0, 10);
        struct mqg_stream_read r = fix_read(m->f, m->partition, 20, 1000, true);
        assert_null(r.data); /* not even what is there, behind the gap */
        r = fix_read(m->f, m->partition, 0, 100000, true);
        assert_int_equal(r.next_offset, 10);
        mqg_buf_unref(&r.data);
        struct batch_view *b = &parts[order[i]];
        struct mqg_store_op op = model_append_op(m, b, &b->bytes, 1);
        tickets[i] = fix_submit(m->f, i, &op, 1);
        if (fix_local(m->f)) /* a remote engine takes it when its turn has come */
            assert_true(fix_wait(m->f, i, tickets[i]));
    }
    for (uint32_t i = 0; i < 4; i++)
        assert_true(fix_wait(m->f, i, tickets[i]));
    model_expect_bounds(m, 0, 50);
    model_check_from(m, 0, 1u << 20);
    model_free(m);
}

/* After an unclean stop what lies behind a gap is gone: it was never confirmed as readable. */
static void stream_gap_is_cut(void **state)
{
    struct model *m = model_new(*state);
    model_append(m, 0, 10, 10, false);
    struct batch_spec spec = {20, 5, MODEL_TIME(20), 10, 20, false};
    struct batch_view late = model_batch(m, &spec);
    struct mqg_store_op op = model_append_op(m, &late, &late.bytes, 1);
    fix_do(m->f, 1, &op, 1);
    fix_reopen(m->f, false);
    model_expect_bounds(m, 0, 10);
    struct mqg_stream_bounds b;
    assert_int_equal(m->f->ops->stream_bounds(m->f->store, m->partition, &b), MQG_OK);
    assert_int_equal(b.log_end, 10);
    m->end = 10;
    m->batches.n--;
    struct mqg_buf *gone = m->batches.items[m->batches.n];
    mqg_buf_unref(&gone);
    model_append(m, 0, 25, 10, false); /* over the place of both */
    model_expect_bounds(m, 0, 35);
    model_check_from(m, 0, 1u << 20);
    fix_reopen(m->f, false);
    model_expect_bounds(m, 0, 35);
    model_check_from(m, 0, 1u << 20);
    model_free(m);
}

/* ---- waiting ----------------------------------------------------------------------------------------------------------- */

static void stream_wait_tells_once(void **state)
{
    struct model *m = model_new(*state);
    struct fix *f = m->f;
    model_append(m, 0, 5, 10, false);
    model_expect_bounds(m, 0, 5);
    f->ops->stream_wait(f->store, m->partition, 3); /* already beyond */
    assert_true(fix_ready_reach(f, m->partition, 1));
    f->ops->stream_wait(f->store, m->partition, 5);
    assert_int_equal(fix_ready_count(f, m->partition), 1);
    model_append(m, 1, 1, 10, false);
    assert_true(fix_ready_reach(f, m->partition, 2));
    model_append(m, 1, 1, 10, false);
    model_append(m, 2, 1, 10, false);
    model_expect_bounds(m, 0, 8);
    model_check_from(m, 0, 1000);
    assert_int_equal(fix_ready_count(f, m->partition), 2); /* nobody asked again */
    model_free(m);
}

static void stream_wait_for_later(void **state)
{
    struct model *m = model_new(*state);
    struct fix *f = m->f;
    f->ops->stream_wait(f->store, m->partition, 10);
    model_append(m, 0, 10, 10, false);
    model_expect_bounds(m, 0, 10);
    model_check_from(m, 0, 1000);
    assert_int_equal(fix_ready_count(f, m->partition), 0); /* 10 is reached, not passed */
    f->ops->stream_wait(f->store, m->partition, 0);
    assert_true(fix_ready_reach(f, m->partition, 1));
    model_append(m, 0, 1, 10, false);
    assert_true(fix_ready_reach(f, m->partition, 2));
    model_free(m);
}

static void stream_waits_are_apart(void **state)
{
    struct fix *f = *state;
    struct model *a = model_new(f), *b = model_new(f);
    f->ops->stream_wait(f->store, a->partition, 0);
    f->ops->stream_wait(f->store, b->partition, 0);
    model_append(b, 0, 1, 10, false);
    assert_true(fix_ready_reach(f, b->partition, 1));
    assert_int_equal(fix_ready_count(f, a->partition), 0);
    model_free(a);
    model_free(b);
}

#define READS   (MQG_STORE_STREAMS | MQG_STORE_SEEK)
#define DURABLE (READS | MQG_STORE_DURABLE)

const struct suite_test suite_streams[] = {
    {"stream_new_is_empty", MQG_STORE_STREAMS, stream_new_is_empty, false},
    {"stream_unknown", MQG_STORE_STREAMS, stream_unknown, false},
    {"stream_comes_back_as_appended", MQG_STORE_STREAMS, stream_comes_back_as_appended, false},
    {"stream_batch_over_a_segment", MQG_STORE_STREAMS, stream_batch_over_a_segment, false},
    {"stream_batch_in_pieces", MQG_STORE_STREAMS, stream_batch_in_pieces, false},
    {"stream_batches_of_one_append", MQG_STORE_STREAMS, stream_batches_of_one_append, false},
    {"stream_bytes_are_the_callers_again", MQG_STORE_STREAMS, stream_bytes_are_the_callers_again, false},
    {"stream_read_from_any_offset", READS, stream_read_from_any_offset, false},
    {"stream_max_bytes", READS, stream_max_bytes, false},
    {"stream_read_outside", READS, stream_read_outside, false},
    {"stream_gap", READS, stream_gap, false},
    {"stream_gap_is_cut", DURABLE, stream_gap_is_cut, false},
    {"stream_wait_tells_once", MQG_STORE_STREAMS, stream_wait_tells_once, false},
    {"stream_wait_for_later", MQG_STORE_STREAMS, stream_wait_for_later, false},
    {"stream_waits_are_apart", MQG_STORE_STREAMS, stream_waits_are_apart, false},
    {NULL, 0, NULL, false},
};
