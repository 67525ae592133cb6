/* streams.c - partitions: batches appended and read as they came, watermarks, gaps, waiting, trimming, positions.
 *
 * A model beside the store keeps every batch that was appended. What a read brings is taken apart, checked, and held
 * against the model: byte by byte where the adapter says so, else record by record (a remote engine encodes anew). */
#include "batch.h"
#include "fix.h"

#include <string.h>

enum { RECORDS_MAX = 20000, T0 = 1700000000 };

#define TIME(n) ((uint64_t)T0 * 1000 + (uint64_t)(n))

/* What a partition should hold. */
struct model {
    struct fix *f;
    uint64_t partition, end;
    struct mqg_vec batches; /* struct mqg_buf: one batch each, in order */
    struct batch_record records[RECORDS_MAX];
    const char *wrong;
};

static void model_note(void *arg, const struct batch_record *r)
{
    struct model *m = arg;
    MQG_ASSERT(r->offset < RECORDS_MAX);
    m->records[r->offset] = *r;
}

static struct model *model_new(struct fix *f)
{
    struct model *m = mqg_xcalloc(1, sizeof(*m));
    m->f = f;
    m->partition = fix_stream_new(f);
    return m;
}

static void model_free(struct model *m)
{
    for (size_t i = 0; i < m->batches.n; i++) {
        struct mqg_buf *buf = m->batches.items[i];
        mqg_buf_unref(&buf);
    }
    mqg_vec_fini(&m->batches);
    free(m);
}

/* Builds the batch and notes it; the slice lives as long as the model. */
static struct batch_view model_batch(struct model *m, const struct batch_spec *spec)
{
    struct mqg_dynbuf out;
    mqg_dynbuf_init(&out, 8u << 20);
    batch_build(&out, spec);
    struct mqg_buf *buf = mqg_buf_new(out.len);
    memcpy(buf->data, out.ptr, out.len);
    mqg_dynbuf_fini(&out);
    mqg_vec_push(&m->batches, buf);
    struct mqg_slice in = mqg_slice_of(buf->data, buf->len);
    struct batch_view view;
    bool bad = false;
    MQG_ASSERT(batch_next(&in, &view, &bad) && batch_records(&view, model_note, m));
    if (view.end > m->end)
        m->end = view.end;
    return view;
}

static struct mqg_store_op append_op(const struct model *m, const struct batch_view *b,
                                     const struct mqg_slice *rope, uint32_t nrope)
{
    return (struct mqg_store_op){.kind = MQG_OP_APPEND,
                                 .append = {m->partition, b->base, b->count, b->max_time_ms, rope, nrope}};
}

/* Appends one batch at the end, done. */
static void model_append(struct model *m, uint32_t lane, uint32_t count, uint32_t value_bytes, bool rich)
{
    struct batch_spec spec = {m->end, m->end * 3 + 1, TIME(m->end), count, value_bytes, rich};
    struct batch_view b = model_batch(m, &spec);
    struct mqg_store_op op = append_op(m, &b, &b.bytes, 1);
    fix_do(m->f, lane, &op, 1);
}

static void check_record(void *arg, const struct batch_record *r)
{
    struct model *m = arg;
    if (r->offset >= m->end || m->records[r->offset].digest != r->digest ||
        m->records[r->offset].time_ms != r->time_ms)
        m->wrong = "a record differs";
}

static void check_verbatim(struct model *m, const struct batch_view *b)
{
    for (size_t i = 0; i < m->batches.n; i++) {
        struct mqg_buf *buf = m->batches.items[i];
        if (mqg_be64(buf->data) == b->base) {
            if (!mqg_slice_eq(b->bytes, mqg_slice_of(buf->data, buf->len)))
                m->wrong = "a batch differs";
            return;
        }
    }
    m->wrong = "a batch begins where none was appended";
}

/* Checks what a read brought; how many batches it was. */
static size_t check_read(struct model *m, const struct mqg_stream_read *r)
{
    struct mqg_slice in = mqg_slice_of(r->data->data, r->data->len);
    struct batch_view b;
    bool bad = false;
    size_t n = 0;
    uint64_t next = 0;
    for (; batch_next(&in, &b, &bad); next = b.end, n++) {
        if (n > 0 && b.base != next)
            m->wrong = "a gap between batches";
        if (n == 0 && b.base > r->offset)
            m->wrong = "the first batch begins behind the offset";
        if (!batch_records(&b, check_record, m))
            m->wrong = "records do not check";
        if (m->f->adapter->verbatim)
            check_verbatim(m, &b);
    }
    if (bad)
        m->wrong = "a batch does not check";
    if (next != r->next_offset)
        m->wrong = "next_offset is not the last batch's end";
    if (next <= r->offset)
        m->wrong = "the batch that holds the offset did not come";
    return n;
}

/* Reads from the offset to the high watermark and checks all of it. */
static void model_check_from(struct model *m, uint64_t offset, uint32_t max_bytes)
{
    struct mqg_stream_bounds b;
    assert_int_equal(m->f->ops->stream_bounds(m->f->store, m->partition, &b), MQG_OK);
    while (offset < b.high_watermark && !m->wrong) {
        struct mqg_stream_read r = fix_read(m->f, m->partition, offset, max_bytes, true);
        if (r.err != MQG_OK || !r.data)
            fail_msg("read at %llu: %s", (unsigned long long)offset,
                     r.data ? mqg_err_name(r.err) : "no data");
        check_read(m, &r);
        offset = r.next_offset;
        mqg_buf_unref(&r.data);
    }
    if (m->wrong)
        fail_msg("before %llu: %s", (unsigned long long)offset, m->wrong);
}

static void expect_bounds(struct model *m, uint64_t start, uint64_t high)
{
    struct mqg_stream_bounds b = {0};
    assert_true(fix_high_reach(m->f, m->partition, high));
    assert_int_equal(m->f->ops->stream_bounds(m->f->store, m->partition, &b), MQG_OK);
    assert_int_equal(b.log_start, start);
    assert_int_equal(b.high_watermark, high);
    assert_true(b.log_end >= high);
}

/* ---- appending and reading --------------------------------------------------------------------------------------------- */

static void stream_new_is_empty(void **state)
{
    struct model *m = model_new(*state);
    expect_bounds(m, 0, 0);
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
    assert_int_equal(f->ops->offset_for_time(f->store, 0x123456789, 1, &offset), MQG_NOT_FOUND);
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
    expect_bounds(m, 0, m->end);
    model_check_from(m, 0, 1u << 20);
    model_free(m);
}

static void stream_batch_over_a_segment(void **state)
{
    struct model *m = model_new(*state);
    model_append(m, 0, 3, 100, false);
    model_append(m, 0, 3, 700000, false);
    model_append(m, 0, 3, 100, false);
    expect_bounds(m, 0, 9);
    model_check_from(m, 0, 100);
    model_free(m);
}

static void stream_batch_in_pieces(void **state)
{
    struct model *m = model_new(*state);
    struct batch_spec spec = {0, 9, TIME(0), 20, 5000, true};
    struct batch_view b = model_batch(m, &spec);
    struct mqg_slice rope[40];
    uint32_t n = 0;
    for (size_t at = 0, len; at < b.bytes.len; at += len) {
        len = n == 0 ? 1 : n == 1 ? 0 : b.bytes.len - at < 3777 ? b.bytes.len - at : 3777;
        rope[n++] = mqg_slice_of(b.bytes.ptr + at, len); /* the second is empty */
        assert_true(n < MQG_COUNTOF(rope));
    }
    struct mqg_store_op op = append_op(m, &b, rope, n);
    uint64_t ticket = fix_submit(m->f, 0, &op, 1);
    assert_true(fix_wait(m->f, 0, ticket));
    expect_bounds(m, 0, 20);
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
        struct batch_spec spec = {m->end, i, TIME(m->end), 4 + i, 50, false};
        struct batch_view b = model_batch(m, &spec);
        rope[i] = b.bytes;
        all.base = i ? all.base : b.base;
        all.count += b.count;
        all.max_time_ms = b.max_time_ms;
    }
    struct mqg_store_op op = append_op(m, &all, rope, 3);
    fix_do(m->f, 0, &op, 1);
    expect_bounds(m, 0, 15);
    for (uint64_t offset = 0; offset < 15; offset++)
        model_check_from(m, offset, 1);
    model_free(m);
}

static void stream_bytes_are_the_callers_again(void **state)
{
    struct model *m = model_new(*state);
    struct batch_spec spec = {0, 1, TIME(0), 5, 100, false};
    struct batch_view b = model_batch(m, &spec);
    uint8_t *copy = mqg_xmalloc(b.bytes.len);
    memcpy(copy, b.bytes.ptr, b.bytes.len);
    struct mqg_slice rope = mqg_slice_of(copy, b.bytes.len);
    struct mqg_store_op op = append_op(m, &b, &rope, 1);
    uint64_t ticket = fix_submit(m->f, 0, &op, 1);
    memset(copy, 0xee, b.bytes.len); /* 64 KiB or less: copied by the store */
    rope = MQG_SLICE_NONE;
    assert_true(fix_wait(m->f, 0, ticket));
    expect_bounds(m, 0, 5);
    model_check_from(m, 0, 1000);
    free(copy);
    model_free(m);
}

static void stream_read_from_any_offset(void **state)
{
    struct model *m = model_new(*state);
    for (uint32_t i = 0; i < 30; i++)
        model_append(m, i % FIX_LANES, 1 + i % 7, 40, i % 2 == 0);
    expect_bounds(m, 0, m->end);
    for (uint64_t offset = 0; offset < m->end; offset++) {
        struct mqg_stream_read r = fix_read(m->f, m->partition, offset, 300, true);
        assert_int_equal(r.err, MQG_OK);
        assert_non_null(r.data);
        check_read(m, &r);
        assert_int_equal(r.high_watermark, m->end);
        assert_int_equal(r.log_start, 0);
        mqg_buf_unref(&r.data);
        if (m->wrong)
            fail_msg("at %llu: %s", (unsigned long long)offset, m->wrong);
    }
    model_free(m);
}

static void stream_max_bytes(void **state)
{
    struct model *m = model_new(*state);
    for (uint32_t i = 0; i < 10; i++)
        model_append(m, 0, 4, 1000, false);
    expect_bounds(m, 0, 40);
    struct mqg_buf *one = m->batches.items[0];
    struct mqg_stream_read r = fix_read(m->f, m->partition, 0, 1, true);
    assert_non_null(r.data); /* at least one, whatever its size */
    assert_int_equal(check_read(m, &r), 1);
    mqg_buf_unref(&r.data);
    r = fix_read(m->f, m->partition, 0, one->len * 3 + one->len / 2, true);
    assert_non_null(r.data);
    assert_true(r.data->len <= one->len * 3 + one->len / 2);
    size_t n = check_read(m, &r);
    if (m->f->adapter->verbatim)
        assert_int_equal(n, 3);
    mqg_buf_unref(&r.data);
    r = fix_read(m->f, m->partition, 0, 1u << 20, true);
    assert_non_null(r.data);
    check_read(m, &r);
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
    expect_bounds(m, 0, 5);
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
        struct batch_spec spec = {10 + i * 10, i, TIME(10 + i * 10), 10, 20, false};
        parts[i] = model_batch(m, &spec);
    }
    static const uint32_t order[] = {2, 1, 3, 0};
    uint64_t tickets[4];
    for (uint32_t i = 0; i < 4; i++) {
        expect_bounds(m, 0, 10);
        struct mqg_stream_read r = fix_read(m->f, m->partition, 20, 1000, true);
        assert_null(r.data); /* not even what is there, behind the gap */
        r = fix_read(m->f, m->partition, 0, 100000, true);
        assert_int_equal(r.next_offset, 10);
        mqg_buf_unref(&r.data);
        struct batch_view *b = &parts[order[i]];
        struct mqg_store_op op = append_op(m, b, &b->bytes, 1);
        tickets[i] = fix_submit(m->f, i, &op, 1);
        if (fix_local(m->f)) /* a remote engine takes it when its turn has come */
            assert_true(fix_wait(m->f, i, tickets[i]));
    }
    for (uint32_t i = 0; i < 4; i++)
        assert_true(fix_wait(m->f, i, tickets[i]));
    expect_bounds(m, 0, 50);
    model_check_from(m, 0, 1u << 20);
    model_free(m);
}

/* After an unclean stop what lies behind a gap is gone: it was never confirmed as readable. */
static void stream_gap_is_cut(void **state)
{
    struct model *m = model_new(*state);
    model_append(m, 0, 10, 10, false);
    struct batch_spec spec = {20, 5, TIME(20), 10, 20, false};
    struct batch_view late = model_batch(m, &spec);
    struct mqg_store_op op = append_op(m, &late, &late.bytes, 1);
    fix_do(m->f, 1, &op, 1);
    fix_reopen(m->f, false);
    expect_bounds(m, 0, 10);
    struct mqg_stream_bounds b;
    assert_int_equal(m->f->ops->stream_bounds(m->f->store, m->partition, &b), MQG_OK);
    assert_int_equal(b.log_end, 10);
    m->end = 10;
    m->batches.n--;
    struct mqg_buf *gone = m->batches.items[m->batches.n];
    mqg_buf_unref(&gone);
    model_append(m, 0, 25, 10, false); /* over the place of both */
    expect_bounds(m, 0, 35);
    model_check_from(m, 0, 1u << 20);
    fix_reopen(m->f, false);
    expect_bounds(m, 0, 35);
    model_check_from(m, 0, 1u << 20);
    model_free(m);
}

/* ---- waiting ----------------------------------------------------------------------------------------------------------- */

static void stream_wait_tells_once(void **state)
{
    struct model *m = model_new(*state);
    struct fix *f = m->f;
    model_append(m, 0, 5, 10, false);
    expect_bounds(m, 0, 5);
    f->ops->stream_wait(f->store, m->partition, 3); /* already beyond */
    assert_true(fix_ready_reach(f, m->partition, 1));
    f->ops->stream_wait(f->store, m->partition, 5);
    assert_int_equal(fix_ready_count(f, m->partition), 1);
    model_append(m, 1, 1, 10, false);
    assert_true(fix_ready_reach(f, m->partition, 2));
    model_append(m, 1, 1, 10, false);
    model_append(m, 2, 1, 10, false);
    expect_bounds(m, 0, 8);
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
    expect_bounds(m, 0, 10);
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

/* ---- the front --------------------------------------------------------------------------------------------------------- */

static void do_trim(struct model *m, uint32_t lane, uint64_t start)
{
    struct mqg_store_op op = {.kind = MQG_OP_TRIM, .trim = {m->partition, start}};
    fix_do(m->f, lane, &op, 1);
}

static void stream_trim(void **state)
{
    struct model *m = model_new(*state);
    for (uint32_t i = 0; i < 10; i++)
        model_append(m, 0, 10, 50, false);
    do_trim(m, 1, 35); /* in the middle of a batch: it stays whole, the log begins at 35 */
    expect_bounds(m, 35, 100);
    struct mqg_stream_read r = fix_read(m->f, m->partition, 34, 100, true);
    assert_int_equal(r.err, MQG_NOT_FOUND);
    assert_int_equal(r.log_start, 35);
    r = fix_read(m->f, m->partition, 0, 100, true);
    assert_int_equal(r.err, MQG_NOT_FOUND);
    model_check_from(m, 35, 1000);
    do_trim(m, 2, 20); /* never back */
    expect_bounds(m, 35, 100);
    do_trim(m, 0, 100); /* all of it */
    expect_bounds(m, 100, 100);
    model_append(m, 0, 3, 50, false);
    expect_bounds(m, 100, 103);
    model_check_from(m, 100, 1000);
    model_free(m);
}

static void stream_trim_lasts(void **state)
{
    struct model *m = model_new(*state);
    for (uint32_t i = 0; i < 10; i++)
        model_append(m, 0, 10, 5000, false);
    do_trim(m, 1, 55);
    for (int i = 0; i < 2; i++) {
        fix_reopen(m->f, i == 1);
        fix_stream_again(m->f, m->partition);
        expect_bounds(m, 55, 100);
        model_check_from(m, 55, 1000);
    }
    do_trim(m, 1, 100);
    for (int i = 0; i < 2; i++) {
        fix_reopen(m->f, i == 1);
        fix_stream_again(m->f, m->partition);
        expect_bounds(m, 100, 100); /* empty, and its offsets are not used again */
    }
    model_append(m, 0, 2, 10, false);
    expect_bounds(m, 100, 102);
    model_check_from(m, 100, 1000);
    model_free(m);
}

/* Deletes and makes anew under the same name: a new incarnation has nothing of the old one. */
static void stream_new_incarnation(void **state)
{
    struct fix *f = *state;
    struct model *m = model_new(f);
    char name[40];
    snprintf(name, sizeof(name), "suite-%016llx", (unsigned long long)m->partition);
    model_append(m, 0, 10, 100, false);
    expect_bounds(m, 0, 10);
    struct mqg_store_op op = {.kind = MQG_OP_STREAM_DELETE, .stream = {m->partition, mqg_slice_str(name), 0}};
    fix_do(f, 0, &op, 1);
    struct mqg_stream_bounds b;
    assert_int_equal(f->ops->stream_bounds(f->store, m->partition, &b), MQG_NOT_FOUND);
    struct mqg_stream_read r = fix_read(f, m->partition, 0, 100, true);
    assert_int_equal(r.err, MQG_NOT_FOUND);
    struct model *n = mqg_xcalloc(1, sizeof(*n));
    n->f = f;
    n->partition = m->partition + 1000003;
    op = (struct mqg_store_op){.kind = MQG_OP_STREAM_NEW, .stream = {n->partition, mqg_slice_str(name), 0}};
    fix_do(f, 0, &op, 1);
    expect_bounds(n, 0, 0);
    model_append(n, 1, 4, 30, true);
    expect_bounds(n, 0, 4);
    model_check_from(n, 0, 1000);
    if ((f->caps & MQG_STORE_DURABLE) && fix_local(f)) {
        fix_reopen(f, false);
        assert_int_equal(f->ops->stream_bounds(f->store, m->partition, &b), MQG_NOT_FOUND);
        expect_bounds(n, 0, 4);
        model_check_from(n, 0, 1000);
    }
    model_free(m);
    model_free(n);
}

/* ---- time -------------------------------------------------------------------------------------------------------------- */

static void stream_offset_for_time(void **state)
{
    struct model *m = model_new(*state);
    struct fix *f = m->f;
    uint64_t offset = 99;
    for (uint32_t i = 0; i < 10; i++)
        model_append(m, 0, 10, 10, false); /* record n has TIME(n) */
    expect_bounds(m, 0, 100);
    assert_int_equal(f->ops->offset_for_time(f->store, m->partition, TIME(0) - 1000, &offset), MQG_OK);
    assert_int_equal(offset, 0);
    assert_int_equal(f->ops->offset_for_time(f->store, m->partition, TIME(40), &offset), MQG_OK);
    assert_int_equal(offset, 40);
    assert_int_equal(f->ops->offset_for_time(f->store, m->partition, TIME(45), &offset), MQG_OK);
    assert_true(offset >= 40 && offset <= 45); /* the batch that holds it; an engine may know it exactly */
    assert_int_equal(f->ops->offset_for_time(f->store, m->partition, TIME(49), &offset), MQG_OK);
    assert_true(offset >= 40 && offset <= 49); /* its last record counts */
    assert_int_equal(f->ops->offset_for_time(f->store, m->partition, TIME(100), &offset), MQG_OK);
    assert_int_equal(offset, 100); /* none: the high watermark */
    model_free(m);
}

/* ---- positions --------------------------------------------------------------------------------------------------------- */

static void set_position(struct fix *f, uint32_t lane, const char *group, uint64_t partition, uint64_t offset)
{
    struct mqg_store_op op = {.kind = MQG_OP_POSITION,
                              .position = {mqg_slice_str(group), partition, offset, MQG_SLICE_LIT("note")}};
    fix_do(f, lane, &op, 1);
}

static void expect_position(struct fix *f, const char *group, uint64_t partition, uint64_t offset)
{
    uint64_t got = UINT64_MAX;
    enum mqg_err err = f->ops->position_get(f->store, mqg_slice_str(group), partition, &got);
    if (offset == UINT64_MAX) {
        assert_int_equal(err, MQG_NOT_FOUND);
        return;
    }
    assert_int_equal(err, MQG_OK);
    assert_int_equal(got, offset);
}

static void position_set_and_get(void **state)
{
    struct fix *f = *state;
    struct model *m = model_new(f), *n = model_new(f);
    char group[40], other[40];
    snprintf(group, sizeof(group), "g-%llx", (unsigned long long)m->partition);
    snprintf(other, sizeof(other), "h-%llx", (unsigned long long)m->partition);
    model_append(m, 0, 50, 10, false);
    model_append(n, 0, 50, 10, false);
    expect_position(f, group, m->partition, UINT64_MAX);
    set_position(f, 0, group, m->partition, 7);
    expect_position(f, group, m->partition, 7);
    set_position(f, 1, group, m->partition, 30);
    set_position(f, 2, group, m->partition, 12); /* a group may go back */
    set_position(f, 0, group, n->partition, 40);
    expect_position(f, group, m->partition, 12);
    expect_position(f, group, n->partition, 40);
    expect_position(f, other, m->partition, UINT64_MAX);
    set_position(f, 3, other, m->partition, 0);
    expect_position(f, other, m->partition, 0);
    if (f->caps & MQG_STORE_DURABLE) {
        fix_reopen(f, false);
        fix_stream_again(f, m->partition);
        fix_stream_again(f, n->partition);
        expect_position(f, group, m->partition, 12);
        expect_position(f, group, n->partition, 40);
        expect_position(f, other, m->partition, 0);
    }
    model_free(m);
    model_free(n);
}

/* ---- after a restart --------------------------------------------------------------------------------------------------- */

static const struct fix_stream *found_bounds(struct fix *f, uint64_t partition)
{
    for (size_t i = 0; i < f->streams.n; i++) {
        const struct fix_stream *s = f->streams.items[i];
        if (s->partition == partition)
            return s;
    }
    return NULL;
}

static void stream_lasts(void **state)
{
    struct fix *f = *state;
    struct model *m = model_new(f), *empty = model_new(f);
    for (int life = 0; life < 4; life++) {
        for (uint32_t i = 0; i < 20; i++)
            model_append(m, i % FIX_LANES, 1 + i % 5, 100 + i * 400, i % 2 == 0);
        fix_reopen(f, life == 1);
        const struct fix_stream *s = found_bounds(f, m->partition);
        if (f->caps & MQG_STORE_META) { /* keeps definitions itself: tells them */
            assert_non_null(s);
            assert_int_equal(s->bounds.high_watermark, m->end);
            assert_non_null(found_bounds(f, empty->partition));
        }
        fix_stream_again(f, m->partition);
        fix_stream_again(f, empty->partition);
        expect_bounds(m, 0, m->end);
        expect_bounds(empty, 0, 0);
        model_check_from(m, 0, 50000);
    }
    model_free(m);
    model_free(empty);
}

static void stream_many_partitions(void **state)
{
    struct fix *f = *state;
    enum { N = 40 };
    struct model *models[N];
    for (uint32_t i = 0; i < N; i++)
        models[i] = model_new(f);
    for (uint32_t round = 0; round < 5; round++)
        for (uint32_t i = 0; i < N; i++)
            model_append(models[i], i % FIX_LANES, 1 + (i + round) % 3, 30, false);
    if ((f->caps & MQG_STORE_DURABLE)) {
        fix_reopen(f, false);
        for (uint32_t i = 0; i < N; i++)
            fix_stream_again(f, models[i]->partition);
    }
    for (uint32_t i = 0; i < N; i++) {
        expect_bounds(models[i], 0, models[i]->end);
        model_check_from(models[i], 0, 100);
        model_free(models[i]);
    }
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
    {"stream_trim", READS | MQG_STORE_TRIM, stream_trim, false},
    {"stream_trim_lasts", DURABLE | MQG_STORE_TRIM, stream_trim_lasts, false},
    {"stream_new_incarnation", MQG_STORE_STREAMS, stream_new_incarnation, false},
    {"stream_offset_for_time", READS, stream_offset_for_time, false},
    {"position_set_and_get", READS | MQG_STORE_POSITIONS, position_set_and_get, false},
    {"stream_lasts", DURABLE, stream_lasts, false},
    {"stream_many_partitions", READS, stream_many_partitions, false},
    {NULL, 0, NULL, false},
};
