/* stream_life.c - what becomes of a partition: trimmed, deleted, made anew, found by time, read by groups, kept over restarts. */
#include "model.h"

#include <string.h>

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
    model_expect_bounds(m, 35, 100);
    struct mqg_stream_read r = fix_read(m->f, m->partition, 34, 100, true);
    assert_int_equal(r.err, MQG_NOT_FOUND);
    assert_int_equal(r.log_start, 35);
    r = fix_read(m->f, m->partition, 0, 100, true);
    assert_int_equal(r.err, MQG_NOT_FOUND);
    model_check_from(m, 35, 1000);
    do_trim(m, 2, 20); /* never back */
    model_expect_bounds(m, 35, 100);
    do_trim(m, 0, 100); /* all of it */
    model_expect_bounds(m, 100, 100);
    model_append(m, 0, 3, 50, false);
    model_expect_bounds(m, 100, 103);
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
        model_expect_bounds(m, 55, 100);
        model_check_from(m, 55, 1000);
    }
    do_trim(m, 1, 100);
    for (int i = 0; i < 2; i++) {
        fix_reopen(m->f, i == 1);
        fix_stream_again(m->f, m->partition);
        model_expect_bounds(m, 100, 100); /* empty, and its offsets are not used again */
    }
    model_append(m, 0, 2, 10, false);
    model_expect_bounds(m, 100, 102);
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
    model_expect_bounds(m, 0, 10);
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
    model_expect_bounds(n, 0, 0);
    model_append(n, 1, 4, 30, true);
    model_expect_bounds(n, 0, 4);
    model_check_from(n, 0, 1000);
    if ((f->caps & MQG_STORE_DURABLE) && fix_local(f)) {
        fix_reopen(f, false);
        assert_int_equal(f->ops->stream_bounds(f->store, m->partition, &b), MQG_NOT_FOUND);
        model_expect_bounds(n, 0, 4);
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
        model_append(m, 0, 10, 10, false); /* record n has MODEL_TIME(n) */
    model_expect_bounds(m, 0, 100);
    assert_int_equal(fix_time(f, m->partition, MODEL_TIME(0) - 1000, &offset), MQG_OK);
    assert_int_equal(offset, 0);
    assert_int_equal(fix_time(f, m->partition, MODEL_TIME(40), &offset), MQG_OK);
    assert_int_equal(offset, 40);
    assert_int_equal(fix_time(f, m->partition, MODEL_TIME(45), &offset), MQG_OK);
    assert_true(offset >= 40 && offset <= 45); /* the batch that holds it; an engine may know it exactly */
    assert_int_equal(fix_time(f, m->partition, MODEL_TIME(49), &offset), MQG_OK);
    assert_true(offset >= 40 && offset <= 49); /* its last record counts */
    assert_int_equal(fix_time(f, m->partition, MODEL_TIME(100), &offset), MQG_OK);
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
    enum mqg_err err = fix_position(f, group, partition, &got);
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
        model_expect_bounds(m, 0, m->end);
        model_expect_bounds(empty, 0, 0);
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
        model_expect_bounds(models[i], 0, models[i]->end);
        model_check_from(models[i], 0, 100);
        model_free(models[i]);
    }
}

#define READS   (MQG_STORE_STREAMS | MQG_STORE_SEEK)
#define DURABLE (READS | MQG_STORE_DURABLE)

const struct suite_test suite_stream_life[] = {
    {"stream_trim", READS | MQG_STORE_TRIM, stream_trim, false},
    {"stream_trim_lasts", DURABLE | MQG_STORE_TRIM, stream_trim_lasts, false},
    {"stream_new_incarnation", MQG_STORE_STREAMS, stream_new_incarnation, false},
    {"stream_offset_for_time", READS, stream_offset_for_time, false},
    {"position_set_and_get", READS | MQG_STORE_POSITIONS, position_set_and_get, false},
    {"stream_lasts", DURABLE, stream_lasts, false},
    {"stream_many_partitions", READS, stream_many_partitions, false},
    {NULL, 0, NULL, false},
};
