/* stream_test.c - a stream with several partitions, appended to and read by several workers at once.
 *
 * Four real workers over the memory store. Each appends batches to all partitions and follows all partitions from their
 * beginning, waiting where there is no more. Must hold: offsets are dense from 0, each reader sees the same order, the batches
 * of one worker in the order of its appends, all of them, and nothing twice. Then what is published through an exchange lands
 * in the partition of its key, positions of groups come back, and a deleted stream tells those who wait. Run under TSan, this
 * is also the test of the waiting. */
#include <mqgate/broker.h>
#include <mqgate/stream.h>

#include "core_rows.h"

#include <sched.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#define WORKERS    4u
#define PARTITIONS 3u
#define BATCHES    3000u /* per worker */
#define PER_TURN   20u
#define KEYED      500u
#define DEADLINE_S 120

extern const struct mqg_module mqg_module; /* the memory store's */

static struct mqg_stream *stream;

/* ---- appending ------------------------------------------------------------------------------------------------------ */

struct appender {
    struct mqg_task task;
    uint32_t number, next;
    struct mqg_batch_builder builder;
};

static struct appender appenders[WORKERS];

/* One batch of 1 to 3 records, each with (worker, its sequence number) as value. */
static void append_one(struct appender *a)
{
    uint8_t value[8];
    uint32_t partition = a->next % PARTITIONS, records = 1 + a->next % 3;
    mqg_builder_begin(&a->builder);
    for (uint32_t i = 0; i < records; i++) {
        mqg_put_le32(value, a->number);
        mqg_put_le32(value + 4, a->next);
        bool added = mqg_builder_record(&a->builder, 1000 + i, MQG_SLICE_NONE, true,
                                        mqg_slice_of(value, sizeof(value)), false);
        MQG_ASSERT(added);
    }
    struct mqg_slice bytes = mqg_builder_end(&a->builder);
    struct mqg_slice rope[2] = {mqg_slice_of(bytes.ptr, 20), mqg_slice_of(bytes.ptr + 20, bytes.len - 20)};
    struct mqg_append append = {
        .rope = rope, .nrope = 2, .count = records, .max_time_ms = 1000, .producer_id = -1};
    enum mqg_err err = mqg_partition_append(mqg_stream_partition(stream, partition), &append, false);
    MQG_ASSERT(err == MQG_OK);
    a->next++;
}

static void appender_run(struct mqg_task *task)
{
    struct appender *a = MQG_CONTAINER_OF(task, struct appender, task);
    for (uint32_t i = 0; i < PER_TURN && a->next < BATCHES; i++)
        append_one(a);
    if (a->next < BATCHES)
        mqg_worker_post(mqg_worker_self(), task);
    else
        mqg_builder_fini(&a->builder);
}

static void appender_start(void *arg)
{
    struct appender *a = arg;
    mqg_builder_init(&a->builder, 4096);
    a->task.run = appender_run;
    mqg_worker_post(mqg_worker_self(), &a->task);
}

/* ---- reading --------------------------------------------------------------------------------------------------------- */

struct follower {
    struct mqg_task task;
    struct mqg_partition *partition;
    struct mqg_partition_read read;
    struct mqg_partition_wait wait;
    uint64_t next;
    uint32_t last[WORKERS]; /* sequence number + 1 of the newest batch of each worker */
    uint32_t part;          /* records of that batch seen so far */
    uint32_t now_worker, now_seq;
    uint64_t hash; /* of the order */
    _Atomic uint64_t seen;
    _Atomic enum mqg_err ended;
};

static struct follower followers[WORKERS][PARTITIONS];

static void follow_record(struct follower *f, const struct mqg_record *r)
{
    MQG_ASSERT(r->offset == f->next++ && r->value.len == 8);
    uint32_t worker = mqg_le32(r->value.ptr), seq = mqg_le32(r->value.ptr + 4);
    MQG_ASSERT(worker < WORKERS && seq < BATCHES);
    if (f->part == 0) { /* the first record of a batch */
        MQG_ASSERT(seq + 1 > f->last[worker]);
        f->last[worker] = seq + 1;
        f->now_worker = worker;
        f->now_seq = seq;
    }
    MQG_ASSERT(worker == f->now_worker && seq == f->now_seq);
    f->part = (f->part + 1) % (1 + seq % 3);
    f->hash = (f->hash ^ worker ^ (uint64_t)seq << 8) * UINT64_C(0x100000001b3);
    atomic_fetch_add(&f->seen, 1);
}

static void follow_data(struct follower *f)
{
    struct mqg_slice rest = mqg_slice_of(f->read.data->data, f->read.data->len);
    while (rest.len > 0) {
        struct mqg_batch b;
        struct mqg_record_iter it;
        struct mqg_record r;
        enum mqg_err err = mqg_batch_read(rest, &b);
        MQG_ASSERT(err == MQG_OK && mqg_batch_sum_ok(rest, &b) && b.leader_epoch == mqg_stream_epoch());
        mqg_record_iter_init(&it, &b, b.records);
        while (mqg_record_next(&it, &r))
            follow_record(f, &r);
        MQG_ASSERT(!it.bad);
        rest = mqg_slice_of(rest.ptr + b.bytes, rest.len - b.bytes);
    }
    MQG_ASSERT(f->next == f->read.next_offset && f->next <= f->read.high_watermark);
    mqg_buf_unref(&f->read.data);
}

static bool follow_answer(struct follower *f)
{
    if (f->read.err != MQG_OK) {
        atomic_store(&f->ended, f->read.err);
        return false;
    }
    if (f->read.data == NULL) {
        mqg_partition_wait(f->partition, &f->wait, f->next);
        return false;
    }
    follow_data(f);
    return true;
}

static void follow(struct follower *f)
{
    do {
        f->read.offset = f->next;
        f->read.max_bytes = 4096;
        if (!mqg_partition_read(f->partition, &f->read))
            return;
    } while (follow_answer(f));
}

static void follow_read_done(struct mqg_partition_read *r)
{
    struct follower *f = MQG_CONTAINER_OF(r, struct follower, read);
    if (follow_answer(f))
        follow(f);
}

static void follow_waited(struct mqg_partition_wait *w, enum mqg_err err)
{
    struct follower *f = MQG_CONTAINER_OF(w, struct follower, wait);
    if (err == MQG_OK)
        follow(f);
    else
        atomic_store(&f->ended, err);
}

static void follower_start(void *arg)
{
    struct follower *f = arg;
    f->read.done = follow_read_done;
    f->wait.fire = follow_waited;
    follow(f);
}

static void wait_far(void *arg)
{
    struct follower *f = arg;
    mqg_partition_wait(f->partition, &f->wait, f->next);
}

/* ---- the node -------------------------------------------------------------------------------------------------------- */

static void recover_meta(void *arg, struct mqg_slice key, struct mqg_slice value)
{
    (void)arg;
    mqg_routing_recover_meta(key, value);
}

static void recover_meta_end(void *arg)
{
    (void)arg;
    mqg_routing_recovered_meta();
}

static struct mqg_conf *node_start(void)
{
    struct mqg_error e = {0};
    struct mqg_conf *conf = mqg_conf_new();
    mqg_conf_schema(conf, mqg_core_rows);
    mqg_conf_schema(conf, mqg_module.conf);
    assert_int_equal(mqg_conf_set(conf, "store.memory.type=memory", &e), MQG_OK);
    assert_int_equal(mqg_conf_set(conf, "store.default=memory", &e), MQG_OK);
    assert_int_equal(mqg_conf_check(conf, &e), MQG_OK);
    assert_int_equal(mqg_workers_init(WORKERS, &e), MQG_OK);
    assert_int_equal(mqg_auth_init(conf, &e), MQG_OK);
    assert_int_equal(mqg_routing_init(conf, &e), MQG_OK);
    mqg_stores_register(mqg_module.storage);
    mqg_stores_queue_live(mqg_routing_queue_live);
    mqg_stores_stream_ready(mqg_routing_stream_ready);
    assert_int_equal(mqg_stores_open(conf, WORKERS + 1, &e), MQG_OK);
    struct mqg_recover r = {.meta = recover_meta, .meta_end = recover_meta_end};
    assert_int_equal(mqg_stores_recover(&r, &e), MQG_OK);
    assert_int_equal(mqg_stores_start(&e), MQG_OK);
    mqg_routing_recovered(false);
    mqg_auth_recovered();
    mqg_workers_start();
    return conf;
}

static void node_stop(struct mqg_conf *conf)
{
    mqg_workers_stop();
    mqg_stores_close();
    mqg_routing_fini();
    mqg_auth_fini();
    mqg_stores_fini();
    mqg_workers_fini();
    mqg_conf_free(&conf);
}

/* ---- on a worker ------------------------------------------------------------------------------------------------------- */

static struct mqg_session *session_new(void)
{
    return mqg_session_internal(mqg_vhost_find(MQG_SLICE_LIT("/")));
}

static void declare(void *arg)
{
    (void)arg;
    struct mqg_session *s = session_new();
    struct mqg_error e;
    uint64_t ticket;
    struct mqg_stream_conf c = {.retention_bytes = 1u << 30, .segment_ms = 5};
    enum mqg_err err = mqg_stream_declare(s, MQG_SLICE_LIT("s"), PARTITIONS, &c, &ticket, &e);
    MQG_ASSERT(err == MQG_OK);
    err = mqg_stream_declare(s, MQG_SLICE_LIT("s"), PARTITIONS, &c, &ticket, &e);
    MQG_ASSERT(err == MQG_OK);
    err = mqg_stream_declare(s, MQG_SLICE_LIT("s"), PARTITIONS + 1, &c, &ticket, &e);
    MQG_ASSERT(err == MQG_MISMATCH);
    err = mqg_stream_open(s, MQG_SLICE_LIT("s"), &stream, &e);
    MQG_ASSERT(err == MQG_OK && mqg_stream_partitions(stream) == PARTITIONS);
    c = mqg_stream_conf(stream);
    MQG_ASSERT(c.retention_bytes == 1u << 30 && c.segment_ms == 5 && c.retention_ms == 0 && c.cleanup == 0);
    MQG_ASSERT(mqg_stream_partition(stream, PARTITIONS) == NULL);
    mqg_session_unref(&s);
}

static void not_a_stream(void *arg)
{
    (void)arg;
    struct mqg_session *s = session_new();
    struct mqg_error e;
    uint64_t ticket;
    struct mqg_queue_ok ok;
    struct mqg_stream *none;
    struct mqg_queue_def d = {.name = MQG_SLICE_LIT("q")};
    struct mqg_stream_conf c = {.cleanup = MQG_CLEANUP_COMPACT};
    enum mqg_err err = mqg_queue_declare(s, &d, false, &ok, &ticket, &e);
    MQG_ASSERT(err == MQG_OK);
    err = mqg_stream_open(s, d.name, &none, &e);
    MQG_ASSERT(err == MQG_MISMATCH && none == NULL);
    err = mqg_stream_open(s, MQG_SLICE_LIT("nowhere"), &none, &e);
    MQG_ASSERT(err == MQG_NOT_FOUND && none == NULL);
    err = mqg_stream_declare(s, d.name, 1, &c, &ticket, &e);
    MQG_ASSERT(err == MQG_MISMATCH);
    mqg_session_unref(&s);
}

static void seek_and_positions(void *arg)
{
    (void)arg;
    struct mqg_partition *p = mqg_stream_partition(stream, 0);
    struct mqg_stream_bounds b;
    uint64_t at = 0;
    enum mqg_err err = mqg_partition_bounds(p, &b);
    MQG_ASSERT(err == MQG_OK && b.log_start == 0 && b.high_watermark == b.log_end && b.log_end > 10);
    static const struct {
        enum mqg_seek how;
        uint64_t arg;
        int64_t wanted; /* below 0: from the high watermark */
    } rows[] = {{MQG_SEEK_FIRST, 0, 0},
                {MQG_SEEK_OFFSET, 7, 7},
                {MQG_SEEK_OFFSET, UINT64_MAX, -1},
                {MQG_SEEK_NEXT, 0, -1},
                {MQG_SEEK_LAST, 0, -2}};
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        err = mqg_partition_seek(p, rows[i].how, rows[i].arg, &at);
        MQG_ASSERT(err == MQG_OK);
        MQG_ASSERT(at == (rows[i].wanted >= 0 ? (uint64_t)rows[i].wanted
                                              : b.high_watermark + (uint64_t)(rows[i].wanted + 1)));
    }
    struct mqg_partition_time t = {.time_ms = 1};
    MQG_ASSERT(mqg_partition_time(p, &t) && t.err == MQG_OK && t.offset == 0);
    t.time_ms = 5000;
    MQG_ASSERT(mqg_partition_time(p, &t) && t.err == MQG_OK && t.offset == b.high_watermark);
    struct mqg_group_position g = {.group = MQG_SLICE_LIT("g")};
    MQG_ASSERT(mqg_group_position(p, &g) && g.err == MQG_NOT_FOUND);
    (void)mqg_group_commit(p, MQG_SLICE_LIT("g"), 42, MQG_SLICE_NONE);
}

static void position_back(void *arg)
{
    (void)arg;
    struct mqg_group_position g = {.group = MQG_SLICE_LIT("g")};
    MQG_ASSERT(mqg_group_position(mqg_stream_partition(stream, 0), &g) && g.err == MQG_OK && g.offset == 42);
    (void)mqg_partition_trim(mqg_stream_partition(stream, 0), 5);
}

static void trimmed(void *arg)
{
    (void)arg;
    struct mqg_stream_bounds b;
    struct mqg_partition_read r = {.offset = 0, .max_bytes = 100};
    enum mqg_err err = mqg_partition_bounds(mqg_stream_partition(stream, 0), &b);
    MQG_ASSERT(err == MQG_OK && b.log_start == 5);
    MQG_ASSERT(mqg_partition_read(mqg_stream_partition(stream, 0), &r) && r.err == MQG_NOT_FOUND &&
               r.log_start == 5 && r.data == NULL);
}

/* ---- through an exchange ------------------------------------------------------------------------------------------------ */

static struct mqg_pub pub;
static struct mqg_session *pub_session;
static _Atomic uint64_t confirmed;

static void pub_confirm(struct mqg_pub *p, uint64_t upto, const uint64_t *rejected, size_t n)
{
    (void)p, (void)rejected;
    MQG_ASSERT(n == 0);
    atomic_store(&confirmed, upto);
}

static const struct mqg_pub_ops pub_ops = {.confirm = pub_confirm};

static void publish_keyed(void *arg)
{
    (void)arg;
    struct mqg_error e;
    pub_session = session_new();
    mqg_pub_init(&pub, &pub_ops, pub_session, NULL);
    for (uint32_t i = 0; i < KEYED; i++) {
        char key[16];
        int n = snprintf(key, sizeof(key), "key-%u", i % 50);
        struct mqg_msg_parts parts = {.proto = MQG_PROTO_INTERNAL,
                                      .key_sep = '.',
                                      .key = MQG_SLICE_LIT("s"),
                                      .flags = MQG_MSG_HAS_PKEY,
                                      .pkey = mqg_slice_of(key, (size_t)n)};
        enum mqg_err err = mqg_publish(&pub, mqg_msg_new(&parts), 0, i + 1, NULL, 0, &e);
        MQG_ASSERT(err == MQG_OK);
    }
}

static uint64_t keyed_from[PARTITIONS], keyed_found;

static void keyed_marks(void *arg)
{
    (void)arg;
    for (uint32_t i = 0; i < PARTITIONS; i++) {
        enum mqg_err err = mqg_partition_seek(mqg_stream_partition(stream, i), MQG_SEEK_NEXT, 0,
                                              &keyed_from[i]);
        MQG_ASSERT(err == MQG_OK);
    }
}

static void keyed_check(void *arg)
{
    (void)arg;
    for (uint32_t i = 0; i < PARTITIONS; i++) {
        struct mqg_partition_read r = {.offset = keyed_from[i], .max_bytes = 1 << 20};
        struct mqg_batch b;
        struct mqg_record_iter it;
        struct mqg_record rec;
        MQG_ASSERT(mqg_partition_read(mqg_stream_partition(stream, i), &r) && r.err == MQG_OK && r.data);
        MQG_ASSERT(mqg_batch_read(mqg_slice_of(r.data->data, r.data->len), &b) == MQG_OK);
        MQG_ASSERT(b.bytes == r.data->len); /* one batch for the turn */
        mqg_record_iter_init(&it, &b, b.records);
        for (; mqg_record_next(&it, &rec); keyed_found++)
            MQG_ASSERT(mqg_record_partition(rec.key, PARTITIONS) == i);
        mqg_buf_unref(&r.data);
    }
}

static void alter(void *arg)
{
    (void)arg;
    struct mqg_session *s = session_new();
    struct mqg_error e;
    uint64_t ticket;
    struct mqg_stream_conf c = {.retention_ms = 7000, .cleanup = MQG_CLEANUP_DELETE};
    struct mqg_partition *first = mqg_stream_partition(stream, 0);
    enum mqg_err err = mqg_stream_alter(s, MQG_SLICE_LIT("s"), 2, NULL, &ticket, &e);
    MQG_ASSERT(err == MQG_INVALID);
    err = mqg_stream_alter(s, MQG_SLICE_LIT("q"), 5, NULL, &ticket, &e);
    MQG_ASSERT(err == MQG_MISMATCH);
    err = mqg_stream_alter(s, MQG_SLICE_LIT("nowhere"), 5, NULL, &ticket, &e);
    MQG_ASSERT(err == MQG_NOT_FOUND);
    err = mqg_stream_alter(s, MQG_SLICE_LIT("s"), 100, &c, &ticket, &e);
    MQG_ASSERT(err == MQG_OK && mqg_stream_partitions(stream) == 100);
    MQG_ASSERT(mqg_stream_partition(stream, 0) == first && mqg_stream_partition(stream, 100) == NULL);
    c = mqg_stream_conf(stream);
    MQG_ASSERT(c.retention_ms == 7000 && c.retention_bytes == 0 && c.segment_ms == 0);
    for (uint32_t i = 0; i < 100; i++) {
        struct mqg_stream_bounds b;
        struct mqg_partition *p = mqg_stream_partition(stream, i);
        err = mqg_partition_bounds(p, &b);
        MQG_ASSERT(err == MQG_OK && mqg_partition_stream(p) == stream);
        MQG_ASSERT(mqg_partition_id(p) == mqg_partition_id(first) + i);
        MQG_ASSERT(i < PARTITIONS || b.log_end == 0);
    }
    mqg_session_unref(&s);
}

static void delete_stream(void *arg)
{
    (void)arg;
    struct mqg_session *s = session_new();
    struct mqg_error e;
    uint64_t messages, ticket;
    struct mqg_append a = {0};
    enum mqg_err err = mqg_queue_delete(s, MQG_SLICE_LIT("s"), false, false, &messages, &ticket, &e);
    MQG_ASSERT(err == MQG_OK && messages > 0);
    uint8_t head[MQG_BATCH_HEAD_BYTES] = {0};
    struct mqg_slice rope = mqg_slice_of(head, sizeof(head));
    a = (struct mqg_append){.rope = &rope, .nrope = 1, .count = 1, .producer_id = -1};
    err = mqg_partition_append(mqg_stream_partition(stream, 0), &a, false);
    MQG_ASSERT(err == MQG_GONE);
    mqg_pub_fini(&pub);
    mqg_session_unref(&pub_session);
    mqg_session_unref(&s);
}

static void let_go(void *arg)
{
    (void)arg;
    mqg_stream_unref(&stream);
}

/* ---- the test ----------------------------------------------------------------------------------------------------------- */

static uint64_t wanted_records(uint32_t partition)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < BATCHES; i++)
        n += i % PARTITIONS == partition ? 1 + i % 3 : 0;
    return n * WORKERS;
}

static uint64_t deadline_ms;

static bool in_time(void)
{
    sched_yield();
    return mqg_clock_now().mono_ms < deadline_ms;
}

static void on(uint32_t worker, void (*fn)(void *arg), void *arg)
{
    assert_true(mqg_worker_call(mqg_worker_at(worker), fn, arg));
}

static void start_all(void)
{
    for (uint32_t w = 0; w < WORKERS; w++) {
        appenders[w].number = w;
        on(w, appender_start, &appenders[w]);
        for (uint32_t p = 0; p < PARTITIONS; p++) {
            followers[w][p].partition = mqg_stream_partition(stream, p);
            on(w, follower_start, &followers[w][p]);
        }
    }
}

static void wait_all_seen(void)
{
    for (uint32_t w = 0; w < WORKERS; w++)
        for (uint32_t p = 0; p < PARTITIONS; p++) {
            while (atomic_load(&followers[w][p].seen) < wanted_records(p) && in_time())
                continue;
            assert_int_equal(atomic_load(&followers[w][p].seen), wanted_records(p));
        }
}

static void take_back(void *arg)
{
    for (uint32_t p = 0; p < PARTITIONS; p++)
        mqg_partition_unwait(&followers[*(uint32_t *)arg][p].wait);
}

static void wait_all_ended(uint32_t from)
{
    for (uint32_t w = from; w < WORKERS; w++)
        for (uint32_t p = 0; p < PARTITIONS; p++) {
            while (atomic_load(&followers[w][p].ended) != MQG_GONE && in_time())
                continue;
            assert_int_equal(atomic_load(&followers[w][p].ended), MQG_GONE);
        }
}

static void test_streams(void **state)
{
    (void)state;
    uint32_t all[WORKERS] = {0, 1, 2, 3};
    struct mqg_conf *conf = node_start();
    deadline_ms = mqg_clock_now().mono_ms + DEADLINE_S * 1000u;
    on(0, declare, NULL);
    on(0, not_a_stream, NULL);
    start_all();
    wait_all_seen();
    for (uint32_t p = 0; p < PARTITIONS; p++) /* one order for all */
        for (uint32_t w = 1; w < WORKERS; w++)
            assert_true(followers[w][p].hash == followers[0][p].hash);
    on(1, seek_and_positions, NULL);
    on(1, position_back, NULL);
    on(1, trimmed, NULL);
    for (uint32_t w = 0; w < WORKERS; w++) /* the records to come are not theirs */
        on(w, take_back, &all[w]);
    on(2, keyed_marks, NULL);
    on(2, publish_keyed, NULL);
    while (atomic_load(&confirmed) < KEYED && in_time())
        continue;
    on(2, keyed_check, NULL);
    assert_int_equal(keyed_found, KEYED);
    for (uint32_t w = 0; w < WORKERS; w++)
        for (uint32_t p = 0; p < PARTITIONS; p++) {
            followers[w][p].next = UINT32_MAX; /* waits for what never comes */
            on(w, wait_far, &followers[w][p]);
        }
    on(3, alter, NULL);
    on(2, delete_stream, NULL);
    wait_all_ended(0);
    on(0, let_go, NULL);
    node_stop(conf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_streams)};
    return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
