/* model.c - see model.h. */
#include "model.h"

#include <string.h>

static void model_note(void *arg, const struct batch_record *r)
{
    struct model *m = arg;
    MQG_ASSERT(r->offset < MODEL_RECORDS_MAX);
    m->records[r->offset] = *r;
}

struct model *model_new(struct fix *f)
{
    struct model *m = mqg_xcalloc(1, sizeof(*m));
    m->f = f;
    m->partition = fix_stream_new(f);
    return m;
}

void model_free(struct model *m)
{
    for (size_t i = 0; i < m->batches.n; i++) {
        struct mqg_buf *buf = m->batches.items[i];
        mqg_buf_unref(&buf);
    }
    mqg_vec_fini(&m->batches);
    free(m);
}

struct batch_view model_batch(struct model *m, const struct batch_spec *spec)
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

struct mqg_store_op model_append_op(const struct model *m, const struct batch_view *b,
                                    const struct mqg_slice *rope, uint32_t nrope)
{
    return (struct mqg_store_op){.kind = MQG_OP_APPEND,
                                 .append = {m->partition, b->base, b->count, b->max_time_ms, rope, nrope}};
}

void model_append(struct model *m, uint32_t lane, uint32_t count, uint32_t value_bytes, bool rich)
{
    struct batch_spec spec = {m->end, m->end * 3 + 1, MODEL_TIME(m->end), count, value_bytes, rich};
    struct batch_view b = model_batch(m, &spec);
    struct mqg_store_op op = model_append_op(m, &b, &b.bytes, 1);
    fix_do(m->f, lane, &op, 1);
}

static void model_check_record(void *arg, const struct batch_record *r)
{
    struct model *m = arg;
    if (r->offset >= m->end || m->records[r->offset].digest != r->digest ||
        m->records[r->offset].time_ms != r->time_ms)
        m->wrong = "a record differs";
}

static void model_check_verbatim(struct model *m, const struct batch_view *b)
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

size_t model_check_read(struct model *m, const struct mqg_stream_read *r)
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
        if (!batch_records(&b, model_check_record, m))
            m->wrong = "records do not check";
        if (m->f->adapter->verbatim)
            model_check_verbatim(m, &b);
    }
    if (bad)
        m->wrong = "a batch does not check";
    if (next != r->next_offset)
        m->wrong = "next_offset is not the last batch's end";
    if (next <= r->offset)
        m->wrong = "the batch that holds the offset did not come";
    return n;
}

void model_check_from(struct model *m, uint64_t offset, uint32_t max_bytes)
{
    struct mqg_stream_bounds b;
    assert_int_equal(m->f->ops->stream_bounds(m->f->store, m->partition, &b), MQG_OK);
    while (offset < b.high_watermark && !m->wrong) {
        struct mqg_stream_read r = fix_read(m->f, m->partition, offset, max_bytes, true);
        if (r.err != MQG_OK || !r.data)
            fail_msg("read at %llu: %s", (unsigned long long)offset,
                     r.data ? mqg_err_name(r.err) : "no data");
        model_check_read(m, &r);
        offset = r.next_offset;
        mqg_buf_unref(&r.data);
    }
    if (m->wrong)
        fail_msg("before %llu: %s", (unsigned long long)offset, m->wrong);
}

void model_expect_bounds(struct model *m, uint64_t start, uint64_t high)
{
    struct mqg_stream_bounds b = {0};
    assert_true(fix_high_reach(m->f, m->partition, high));
    assert_int_equal(m->f->ops->stream_bounds(m->f->store, m->partition, &b), MQG_OK);
    assert_int_equal(b.log_start, start);
    assert_int_equal(b.high_watermark, high);
    assert_true(b.log_end >= high);
}
