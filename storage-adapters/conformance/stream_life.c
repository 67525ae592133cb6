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

static void position_forgotten(void **state)
{
    struct fix *f = *state;
    struct model *m = model_new(f);
    char group[40];
    snprintf(group, sizeof(group), "f-%llx", (unsigned long long)m->partition);
    model_append(m, 0, 5, 10, false);
    set_position(f, 0, group, m->partition, 3);
    set_position(f, 0, group, m->partition, MQG_OFFSET_NONE);
    expect_position(f, group, m->partition, UINT64_MAX);
    if (f->caps & MQG_STORE_DURABLE) {
        fix_reopen(f, false);
        expect_position(f, group, m->partition, UINT64_MAX);
    }
    set_position(f, 1, group, m->partition, 4);
    expect_position(f, group, m->partition, 4);
    model_free(m);
}

static const struct fix_position *found_position(struct fix *f, const char *group, uint64_t partition)
{
    for (size_t i = 0; i < f->positions.n; i++) {
        const struct fix_position *p = f->positions.items[i];
        if (p->partition == partition && strcmp(p->group, group) == 0)
            return p;
    }
    return NULL;
}

/* The last word on each group, with its note; none of a partition that was deleted. */
static void position_told(void **state)
{
    struct fix *f = *state;
    struct model *m = model_new(f), *gone = model_new(f);
    set_position(f, 0, "told", m->partition, 1);
    set_position(f, 1, "told", m->partition, 7);
    set_position(f, 1, "not", m->partition, 8);
    set_position(f, 2, "not", m->partition, MQG_OFFSET_NONE);
    set_position(f, 2, "told", gone->partition, 9);
    struct mqg_store_op op = {.kind = MQG_OP_STREAM_DELETE,
                              .stream = {gone->partition, MQG_SLICE_LIT("x"), 0}};
    fix_do(f, 0, &op, 1);
    for (int life = 0; life < 2; life++) {
        fix_reopen(f, life == 1);
        const struct fix_position *p = found_position(f, "told", m->partition);
        assert_non_null(p);
        assert_int_equal(p->offset, 7);
        assert_string_equal(p->metadata, "note");
        assert_null(found_position(f, "not", m->partition));
        assert_null(found_position(f, "told", gone->partition));
    }
    model_free(m);
    model_free(gone);
}

static void say_producer(struct fix *f, uint32_t lane, uint64_t partition, uint64_t id, int32_t last,
                         uint64_t offset)
{
    struct mqg_store_op op = {.kind = MQG_OP_PRODUCER,
                              .producer = {partition, id, 3, last - 4, last, offset}};
    fix_do(f, lane, &op, 1);
}

/* The last word that was told; those before it must be of lower offsets. */
static const struct fix_producer *found_producer(struct fix *f, uint64_t partition, uint64_t id)
{
    const struct fix_producer *last = NULL;
    for (size_t i = 0; i < f->producers.n; i++) {
        const struct fix_producer *p = f->producers.items[i];
        if (p->partition != partition || p->producer_id != id)
            continue;
        assert_true(last == NULL || last->offset < p->offset);
        last = p;
    }
    return last;
}

static void producer_told(void **state)
{
    struct fix *f = *state;
    struct model *m = model_new(f);
    say_producer(f, 0, m->partition, 77, 9, 100);
    say_producer(f, 1, m->partition, 77, 14, 105);
    say_producer(f, 2, m->partition, 78, 4, 110);
    say_producer(f, 2, m->partition, 79, 4, 111);
    say_producer(f, 3, m->partition, 79, 4, MQG_OFFSET_NONE);
    for (int life = 0; life < 2; life++) {
        fix_reopen(f, life == 1);
        const struct fix_producer *p = found_producer(f, m->partition, 77);
        assert_non_null(p);
        assert_true(p->epoch == 3 && p->base_seq == 10 && p->last_seq == 14 && p->offset == 105);
        assert_non_null(found_producer(f, m->partition, 78));
        assert_null(found_producer(f, m->partition, 79));
    }
    model_free(m);
}

/* ---- how a partition is kept ------------------------------------------------------------------------------------------- */

static void configure(struct model *m, struct mqg_stream_conf conf)
{
    struct mqg_store_op op = {.kind = MQG_OP_STREAM_CONF, .stream_conf = {m->partition, &conf}};
    fix_do(m->f, 0, &op, 1);
}

static struct mqg_stream_stats stats_of(struct model *m)
{
    struct mqg_stream_stats st = {.segments = 0};
    assert_int_equal(m->f->ops->stream_stats(m->f->store, m->partition, &st), MQG_OK);
    return st;
}

/* Waits until the log starts there or later. */
static bool start_reaches(struct model *m, uint64_t start)
{
    uint64_t until = fix_now_ms() + FIX_WAIT_MS;
    while (stats_of(m).bounds.log_start < start && fix_now_ms() < until)
        fix_pause();
    return stats_of(m).bounds.log_start >= start;
}

static void stream_stats_add_up(void **state)
{
    struct model *m = model_new(*state);
    struct mqg_stream_stats st;
    if (!m->f->ops->stream_stats) { /* optional */
        model_free(m);
        return;
    }
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < 20; i++) {
        model_append(m, i % FIX_LANES, 3, 500, false);
        bytes += ((struct mqg_buf *)m->batches.items[i])->len;
    }
    model_expect_bounds(m, 0, 60);
    st = stats_of(m);
    assert_int_equal(st.bytes, bytes);
    assert_int_equal(st.bounds.high_watermark, 60);
    assert_int_equal(m->f->ops->stream_stats(m->f->store, 0x123456789, &st), MQG_NOT_FOUND);
    model_free(m);
}

/* The oldest goes, whole batches, never more than is said: what is left is not under the bound, less one segment. */
static void stream_retention_bytes(void **state)
{
    struct model *m = model_new(*state);
    configure(m, (struct mqg_stream_conf){.retention_bytes = 100000, .segment_bytes = 20000});
    for (uint32_t i = 0; i < 100; i++)
        model_append(m, i % FIX_LANES, 1, 5000, false);
    assert_true(start_reaches(m, 70));
    struct mqg_stream_stats st = stats_of(m);
    assert_true(st.bounds.log_start < 85);
    assert_int_equal(st.bounds.high_watermark, 100);
    model_check_from(m, st.bounds.log_start, 50000);
    if (m->f->caps & MQG_STORE_DURABLE) {
        fix_reopen(m->f, false);
        assert_true(stats_of(m).bounds.log_start >= st.bounds.log_start);
        model_check_from(m, stats_of(m).bounds.log_start, 50000);
    }
    model_free(m);
}

/* The model's records are of long ago: a bound of a day takes them all, one of a century none. */
static void stream_retention_time(void **state)
{
    struct model *m = model_new(*state), *kept = model_new(*state);
    configure(m, (struct mqg_stream_conf){.retention_ms = 86400000, .segment_bytes = 20000});
    configure(kept, (struct mqg_stream_conf){.retention_ms = 3153600000000, .segment_bytes = 20000});
    for (uint32_t i = 0; i < 20; i++) {
        model_append(m, 0, 1, 5000, false);
        model_append(kept, 0, 1, 5000, false);
    }
    assert_true(start_reaches(m, 20));
    model_expect_bounds(m, 20, 20);
    model_append(kept, 0, 1, 5000, false);
    model_check_from(kept, 0, 50000);
    model_free(m);
    model_free(kept);
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
    {"position_forgotten", READS | MQG_STORE_POSITIONS | MQG_STORE_META, position_forgotten, false},
    {"position_told", DURABLE | MQG_STORE_POSITIONS | MQG_STORE_META, position_told, false},
    {"producer_told", DURABLE | MQG_STORE_META, producer_told, false},
    {"stream_stats_add_up", READS, stream_stats_add_up, false},
    {"stream_retention_bytes", READS | MQG_STORE_TRIM, stream_retention_bytes, false},
    {"stream_retention_time", READS | MQG_STORE_TRIM, stream_retention_time, false},
    {"stream_lasts", DURABLE, stream_lasts, false},
    {"stream_many_partitions", READS, stream_many_partitions, false},
    {NULL, 0, NULL, false},
};
