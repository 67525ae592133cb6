/* kafka_txn_test.c - transactions in real partitions: what is appended, what readers are told, what a start makes of the records.
 *
 * A worker over the memory store. Groups are not part of it: their calls are noted here. */
#include <mqgate/broker.h>
#include <mqgate/stream.h>

#include "core_rows.h"
#include "producer_part.h"
#include "txn_table.h"

#include <sched.h>
#include <setjmp.h>
#include <stdlib.h>
#include <cmocka.h>

#define DEADLINE_S 120

enum { ID = 7 };

extern const struct mqg_module mqg_module; /* the memory store's */

static struct mqg_stream *stream;
static struct mqg_partition *part[2];
static uint32_t held;

/* ---- what the handler would bring ------------------------------------------------------------------------------------- */

void kafka_offsets_hold(struct mqg_vhost *v, struct mqg_slice group, int64_t producer_id,
                        const struct kafka_offset_row *rows, size_t n)
{
    MQG_ASSERT(v != NULL && mqg_slice_eq(group, MQG_SLICE_LIT("g")) && producer_id == ID &&
               rows->offset == 55);
    held += (uint32_t)n;
}
void kafka_offsets_write(struct mqg_vhost *v, struct mqg_slice group, int64_t producer_id)
{
    (void)v, (void)group, (void)producer_id;
}
void kafka_offsets_end(struct mqg_vhost *v, struct mqg_slice group, int64_t producer_id, bool committed)
{
    (void)v, (void)group, (void)producer_id, (void)committed;
}
void *kafka_call_alloc(struct kafka_call *c, size_t n, size_t size)
{
    return mqg_arena_alloc(&c->arena, n * size);
}
void kafka_call_wake(struct kafka_call *c)
{
    (void)c;
}

/* ---- a node ------------------------------------------------------------------------------------------------------------- */

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
    assert_int_equal(mqg_conf_set(conf, "store.default=memory", &e), MQG_OK);
    assert_int_equal(mqg_conf_set(conf, "store.memory.type=memory", &e), MQG_OK);
    assert_int_equal(mqg_conf_check(conf, &e), MQG_OK);
    assert_int_equal(mqg_workers_init(1, &e), MQG_OK);
    assert_int_equal(mqg_auth_init(conf, &e), MQG_OK);
    assert_int_equal(mqg_routing_init(conf, &e), MQG_OK);
    mqg_stores_register(mqg_module.storage);
    mqg_stores_queue_live(mqg_routing_queue_live);
    mqg_stores_stream_ready(mqg_routing_stream_ready);
    assert_int_equal(mqg_stores_open(conf, 2, &e), MQG_OK);
    struct mqg_recover r = {.meta = recover_meta, .meta_end = recover_meta_end};
    assert_int_equal(mqg_stores_recover(&r, &e), MQG_OK);
    assert_int_equal(mqg_stores_start(&e), MQG_OK);
    mqg_routing_recovered(false);
    mqg_auth_recovered();
    kafka_txns_load();
    mqg_workers_start();
    return conf;
}

static void node_stop(struct mqg_conf *conf)
{
    mqg_workers_stop();
    mqg_stores_close();
    kafka_txns_fini();
    mqg_routing_fini();
    mqg_auth_fini();
    mqg_stores_fini();
    mqg_workers_fini();
    mqg_conf_free(&conf);
}

static void on(void (*fn)(void *arg), void *arg)
{
    assert_true(mqg_worker_call(mqg_worker_at(0), fn, arg));
}

struct reach {
    uint32_t index;
    uint64_t high;
    bool there;
};

static void reach_look(void *arg)
{
    struct reach *r = arg;
    struct mqg_stream_bounds b;
    r->there = mqg_partition_bounds(part[r->index], &b) == MQG_OK && b.high_watermark >= r->high;
    MQG_ASSERT(b.log_end <= r->high);
}

/* Waits until the partition has exactly so many offsets, all durable. */
static void reaches(uint32_t index, uint64_t high)
{
    uint64_t until = mqg_clock_now().mono_ms + DEADLINE_S * 1000u;
    struct reach r = {index, high, false};
    for (on(reach_look, &r); !r.there && mqg_clock_now().mono_ms < until; on(reach_look, &r))
        sched_yield();
    assert_true(r.there);
}

/* ---- steps ---------------------------------------------------------------------------------------------------------------- */

static void declare(void *arg)
{
    (void)arg;
    struct mqg_error e = {0};
    uint64_t ticket;
    struct mqg_stream_conf c = {0};
    struct mqg_session *s = mqg_session_internal(mqg_vhost_find(MQG_SLICE_LIT("/")));
    enum mqg_err err = mqg_stream_declare(s, MQG_SLICE_LIT("s"), 2, &c, &ticket, &e);
    MQG_ASSERT(err == MQG_OK);
    err = mqg_stream_open(s, MQG_SLICE_LIT("s"), &stream, &e);
    MQG_ASSERT(err == MQG_OK);
    for (uint32_t i = 0; i < 2; i++) {
        part[i] = mqg_stream_partition(stream, i);
        struct mqg_partition *found = mqg_partition_find(mqg_partition_id(part[i]));
        struct mqg_stream *of = mqg_partition_stream(found);
        MQG_ASSERT(found == part[i] && mqg_partition_index(found) == i && kafka_part_can(found));
        mqg_stream_unref(&of);
    }
    MQG_ASSERT(mqg_partition_find(12345) == NULL);
    mqg_session_unref(&s);
}

/* Three records of the producer at that sequence; the answer is an error code. */
static int16_t produce(int32_t sequence, bool transactional, struct kafka_produced *out)
{
    struct mqg_batch_builder builder;
    struct mqg_batch b;
    mqg_builder_init(&builder, 4096);
    mqg_builder_begin(&builder);
    for (int i = 0; i < 3; i++)
        MQG_ASSERT(mqg_builder_record(&builder, 1000, MQG_SLICE_NONE, true, MQG_SLICE_LIT("v"), false));
    struct mqg_slice bytes = mqg_builder_end(&builder);
    MQG_ASSERT(mqg_batch_read(bytes, &b) == MQG_OK);
    b.producer_id = ID;
    b.producer_epoch = 0;
    b.base_sequence = sequence;
    b.attributes = transactional ? MQG_BATCH_TRANSACTIONAL : 0;
    struct mqg_append a = {.rope = &bytes, .nrope = 1, .count = 3, .max_time_ms = 1000};
    int16_t error = kafka_producer_append(part[0], &b, &a, true, out);
    mqg_builder_fini(&builder);
    return error;
}

static void produce_in_a_transaction(void *arg)
{
    (void)arg;
    struct kafka_produced done;
    uint64_t first = 99;
    MQG_ASSERT(produce(0, true, &done) == KAFKA_INVALID_TXN_STATE);
    MQG_ASSERT(kafka_part_begin(part[0], ID, 0, &first) && first == 0);
    MQG_ASSERT(produce(0, true, &done) == 0 && done.base_offset == 0 && done.end == 3 && !done.duplicate);
    MQG_ASSERT(produce(3, true, &done) == 0 && done.base_offset == 3);
    MQG_ASSERT(produce(0, true, &done) == 0 && done.base_offset == 0 && done.end == 3 && done.duplicate);
    MQG_ASSERT(produce(9, true, &done) == KAFKA_OUT_OF_ORDER_SEQUENCE_NUMBER);
    MQG_ASSERT(produce(6, false, &done) == KAFKA_INVALID_TXN_STATE);
    MQG_ASSERT(kafka_txn_lso(part[0]) == 0 && kafka_txn_lso(part[1]) == 0);
}

static void roll_back(void *arg)
{
    (void)arg;
    struct kafka_marker m = {.producer_id = ID, .epoch = 1, .coordinator_epoch = 4};
    MQG_ASSERT(kafka_txn_lso(part[0]) == 0);
    MQG_ASSERT(kafka_part_end(part[0], &m) == MQG_OK && m.offset == 6);
}

static void look_rolled_back(void *arg)
{
    (void)arg;
    struct mqg_arena a;
    size_t n;
    bool failed;
    struct kafka_produced done;
    mqg_arena_init(&a, 4096);
    MQG_ASSERT(kafka_txn_lso(part[0]) == 7);
    const struct kafka_aborted *aborted = kafka_txn_aborted(part[0], 2, 5, &a, &n, &failed);
    MQG_ASSERT(n == 1 && !failed && aborted->producer_id == ID && aborted->first == 0 &&
               aborted->marker == 6);
    MQG_ASSERT(kafka_txn_aborted(part[0], 7, 9, &a, &n, &failed) == NULL && n == 0);
    MQG_ASSERT(produce(6, true, &done) == KAFKA_INVALID_PRODUCER_EPOCH); /* the marker's epoch fences */
    mqg_arena_fini(&a);
}

struct wanted {
    uint32_t index;
    uint64_t offset;
    int16_t epoch;
    uint16_t type;
};

/* The marker is a control batch that any reader of batches takes. */
static void look_marker(void *arg)
{
    const struct wanted *want = arg;
    struct mqg_partition_read r = {.offset = want->offset, .max_bytes = 1 << 20};
    struct mqg_batch b;
    struct mqg_record_iter it;
    struct mqg_record rec;
    MQG_ASSERT(mqg_partition_read(part[want->index], &r) && r.err == MQG_OK && r.data != NULL);
    struct mqg_slice bytes = mqg_slice_of(r.data->data, r.data->len);
    MQG_ASSERT(mqg_batch_read(bytes, &b) == MQG_OK && mqg_batch_sum_ok(bytes, &b) && b.bytes == bytes.len);
    MQG_ASSERT(b.attributes == (MQG_BATCH_CONTROL | MQG_BATCH_TRANSACTIONAL) &&
               b.base_offset == want->offset);
    MQG_ASSERT(b.producer_id == ID && b.producer_epoch == want->epoch && b.base_sequence == -1);
    mqg_record_iter_init(&it, &b, b.records);
    MQG_ASSERT(mqg_record_next(&it, &rec) && rec.key.len == 4 && rec.value.len == 6);
    MQG_ASSERT(mqg_be16(rec.key.ptr) == 0 && mqg_be16(rec.key.ptr + 2) == want->type);
    MQG_ASSERT(!mqg_record_next(&it, &rec) && !it.bad);
    mqg_buf_unref(&r.data);
}

/* ---- a start ------------------------------------------------------------------------------------------------------------------ */

static struct kafka_txn *record_of(const char *id, uint64_t partition, uint64_t first)
{
    struct kafka_txn *t = kafka_txn_new(MQG_SLICE_LIT("/"), mqg_slice_str(id));
    t->producer_id = ID;
    t->epoch = 5;
    t->timeout_ms = 60000;
    kafka_txn_add_part(t, partition, first, 1000);
    return t;
}

static void recover_record(struct kafka_txn *t)
{
    struct mqg_dynbuf key, value;
    mqg_dynbuf_init(&key, 1000);
    mqg_dynbuf_init(&value, 10000);
    kafka_txn_record_key(t, &key);
    kafka_txn_record(t, &value);
    MQG_ASSERT(mqg_meta_recover(mqg_dynbuf_view(&key), mqg_dynbuf_view(&value)));
    mqg_dynbuf_fini(&key);
    mqg_dynbuf_fini(&value);
    kafka_txn_free(&t);
}

/* One was committed, and a crash took its marker at offset 3; of one the partition is gone; one is damaged. */
static void recover_ended(void *arg)
{
    (void)arg;
    struct kafka_txn *t = record_of("lost", mqg_partition_id(part[1]), 0);
    kafka_txn_prepare(t, true);
    t->parts[0].marker = 3;
    t->last_epoch = 4;
    t->rotated_id = ID - 1;
    recover_record(t);
    t = record_of("gone", 4711, 0);
    kafka_txn_prepare(t, false);
    t->parts[0].marker = 3;
    recover_record(t);
    MQG_ASSERT(mqg_meta_recover(MQG_SLICE_LIT(KAFKA_TXN_PREFIX "x"), MQG_SLICE_LIT("damaged")));
    mqg_meta_recovered();
    kafka_txns_lock();
    t = kafka_txns_find(mqg_vhost_find(MQG_SLICE_LIT("/")), MQG_SLICE_LIT("lost"));
    MQG_ASSERT(t != NULL && t->state == KAFKA_TXN_COMPLETE_COMMIT && !t->busy && t->nparts == 0 &&
               t->epoch == 5 && t->last_epoch == 4 && t->rotated_id == ID - 1);
    MQG_ASSERT(kafka_txns_count() == 2);
    kafka_txns_unlock();
}

/* Its marker is where the record says: nothing is written. One that is open holds readers back, and its positions. */
static void recover_open(void *arg)
{
    (void)arg;
    struct kafka_txn *t = record_of("whole", mqg_partition_id(part[1]), 0);
    kafka_txn_prepare(t, true);
    t->parts[0].marker = 0;
    recover_record(t);
    t = record_of("open", mqg_partition_id(part[1]), 1);
    struct kafka_offset_row row = {.topic = MQG_SLICE_LIT("t"), .partition_id = 9, .offset = 55};
    kafka_txn_add_row(kafka_txn_add_group(t, MQG_SLICE_LIT("g"), 1000), &row);
    recover_record(t);
    mqg_meta_recovered();
    kafka_txns_lock();
    t = kafka_txns_find(mqg_vhost_find(MQG_SLICE_LIT("/")), MQG_SLICE_LIT("open"));
    MQG_ASSERT(t != NULL && t->state == KAFKA_TXN_ONGOING && t->nparts == 1 && t->groups.n == 1 && held == 1);
    kafka_txns_end(t, true);
    kafka_txns_wait(&t, 1, NULL, NULL);
    MQG_ASSERT(t->busy && t->state == KAFKA_TXN_PREPARE_COMMIT && t->parts[0].marker == 1);
    MQG_ASSERT(kafka_txn_lso(part[1]) == 1);
    kafka_txns_unlock();
}

static void look_over(void *arg)
{
    kafka_txns_lock();
    const struct kafka_txn *t = kafka_txns_find(mqg_vhost_find(MQG_SLICE_LIT("/")), MQG_SLICE_LIT("open"));
    *(bool *)arg = t->state == KAFKA_TXN_COMPLETE_COMMIT && !t->busy && t->nparts == 0;
    kafka_txns_unlock();
}

static void let_go(void *arg)
{
    (void)arg;
    MQG_ASSERT(kafka_txn_lso(part[1]) == 2);
    mqg_stream_unref(&stream);
}

static void test_transactions(void **state)
{
    (void)state;
    struct mqg_conf *conf = node_start();
    struct wanted rolled_back = {0, 6, 1, 0}, committed = {1, 0, 5, 1};
    on(declare, NULL);
    on(produce_in_a_transaction, NULL);
    reaches(0, 6);
    on(roll_back, NULL);
    reaches(0, 7);
    on(look_rolled_back, NULL);
    on(look_marker, &rolled_back);
    on(recover_ended, NULL);
    reaches(1, 1);
    on(look_marker, &committed);
    on(recover_open, NULL);
    reaches(1, 2);
    uint64_t until = mqg_clock_now().mono_ms + DEADLINE_S * 1000u;
    bool over = false;
    for (on(look_over, &over); !over && mqg_clock_now().mono_ms < until; on(look_over, &over))
        sched_yield();
    assert_true(over);
    on(let_go, NULL);
    node_stop(conf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_transactions)};
    return cmocka_run_group_tests_name("kafka_txn", tests, NULL, NULL);
}
