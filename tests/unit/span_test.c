/* span_test.c - a queue whose middle only its store knows: order, counts, purge, delete, limits, expiry, restarts.
 *
 * Two workers, the store of span_store.c, an index of 256 entries: a backlog of 20,000 is nearly all spans. */
#include <mqgate/broker.h>

#include "core_rows.h"
#include "span_store.h"

#include <sched.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define MESSAGES   20000u
#define HELD_MAX   100u
#define DEADLINE_S 60

static struct mqg_conf *conf;
static struct mqg_pub pub;
static struct mqg_session *session;
static uint32_t seq; /* of the next message */

/* What the consumer saw. */
static struct mqg_queue *queue;
static struct mqg_sub *sub;
static uint32_t got[2 * MESSAGES];
static _Atomic uint32_t ngot;
static _Atomic uint32_t redelivered;

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

static bool recover_message(void *arg, uint64_t queue_id, uint64_t qseq, struct mqg_extent *extent,
                            uint32_t off, uint32_t len, const struct mqg_stored *head,
                            uint32_t delivery_count, uint32_t acquired_count)
{
    (void)arg;
    return mqg_routing_recover_message(queue_id, qseq, extent, off, len, head, delivery_count,
                                       acquired_count);
}

static bool recover_span(void *arg, uint64_t queue_id, uint64_t first, uint64_t last, uint64_t count,
                         uint64_t body_bytes)
{
    (void)arg;
    return mqg_routing_recover_span(queue_id, first, last, count, body_bytes);
}

static bool recover_spans_wanted(void *arg, uint64_t queue_id)
{
    (void)arg;
    return mqg_routing_spans_wanted(queue_id);
}

static void node_start(void)
{
    struct mqg_error e = {0};
    conf = mqg_conf_new();
    mqg_conf_schema(conf, mqg_core_rows);
    assert_int_equal(mqg_conf_set(conf, "store.span.type=span", &e), MQG_OK);
    assert_int_equal(mqg_conf_set(conf, "store.default=span", &e), MQG_OK);
    assert_int_equal(mqg_conf_set(conf, "limits.queue_index=256", &e), MQG_OK);
    assert_int_equal(mqg_conf_check(conf, &e), MQG_OK);
    assert_int_equal(mqg_workers_init(2, &e), MQG_OK);
    assert_int_equal(mqg_auth_init(conf, &e), MQG_OK);
    assert_int_equal(mqg_routing_init(conf, &e), MQG_OK);
    mqg_stores_register(&span_store_ops);
    mqg_stores_queue_live(mqg_routing_queue_live);
    assert_int_equal(mqg_stores_open(conf, 3, &e), MQG_OK);
    struct mqg_recover r = {.meta = recover_meta,
                            .meta_end = recover_meta_end,
                            .message = recover_message,
                            .span = recover_span,
                            .spans_wanted = recover_spans_wanted};
    assert_int_equal(mqg_stores_recover(&r, &e), MQG_OK);
    assert_int_equal(mqg_stores_start(&e), MQG_OK);
    mqg_routing_recovered(r.unclean);
    mqg_auth_recovered();
    mqg_workers_start();
}

static void node_stop(void)
{
    mqg_workers_stop();
    mqg_stores_close();
    mqg_routing_fini();
    mqg_auth_fini();
    mqg_stores_fini();
    mqg_workers_fini();
    mqg_conf_free(&conf);
}

/* ---- publisher: worker 0 ----------------------------------------------------------------------------------------------- */

static void pub_confirm(struct mqg_pub *p, uint64_t upto, const uint64_t *rejected, size_t n)
{
    (void)p, (void)upto, (void)rejected, (void)n;
}
static const struct mqg_pub_ops pub_ops = {.confirm = pub_confirm};

static void publisher_begin(void *arg)
{
    (void)arg;
    session = mqg_session_internal(mqg_vhost_find(MQG_SLICE_LIT("/")));
    mqg_pub_init(&pub, &pub_ops, session, NULL);
}

static void publisher_end(void *arg)
{
    (void)arg;
    mqg_pub_fini(&pub);
    mqg_session_unref(&session);
}

static void declare(void *arg)
{
    struct mqg_error e;
    struct mqg_queue_ok ok;
    uint64_t ticket;
    struct mqg_queue_def d = {.name = MQG_SLICE_LIT("q"), .durable = true};
    struct mqg_field one;
    if (arg) {
        one = *(struct mqg_field *)arg;
        d.args = (struct mqg_table){.fields = &one, .n = 1};
    }
    assert_int_equal(mqg_queue_declare(session, &d, false, &ok, &ticket, &e), MQG_OK);
}

static void publish_one(bool persistent)
{
    struct mqg_error e;
    struct mqg_msg_parts parts = {.proto = MQG_PROTO_INTERNAL,
                                  .key_sep = '.',
                                  .flags = persistent ? MQG_MSG_PERSISTENT : 0,
                                  .key = MQG_SLICE_LIT("q"),
                                  .body_len = 4};
    struct mqg_msg *m = mqg_msg_new(&parts);
    MQG_ASSERT(m != NULL);
    mqg_put_le32(mqg_msg_body_mut(m), seq++);
    MQG_ASSERT(mqg_publish(&pub, m, 0, 0, NULL, 0, &e) == MQG_OK);
}

struct burst {
    uint32_t n, transient_each;
};

static void publish_burst(void *arg)
{
    const struct burst *b = arg;
    for (uint32_t i = 0; i < b->n; i++)
        publish_one(b->transient_each == 0 || seq % b->transient_each != 0);
}

/* In turns of 100, as clients do: what was published is durable when the next turn looks for entries to hand over. */
static void fill_mixed(uint32_t n, uint32_t transient_each)
{
    for (struct burst b = {100, transient_each}; n > 0; n -= b.n) {
        b.n = n < 100 ? n : 100;
        assert_true(mqg_worker_call(mqg_worker_at(0), publish_burst, &b));
    }
}

static void fill(uint32_t n)
{
    fill_mixed(n, 0);
}

/* ---- consumer: worker 1 -------------------------------------------------------------------------------------------------- */

static size_t take(struct mqg_sub *s, void *owner, const struct mqg_delivery *d, size_t n)
{
    (void)owner;
    uint64_t handles[HELD_MAX];
    n = n < HELD_MAX ? n : HELD_MAX;
    for (size_t i = 0; i < n; i++) {
        struct mqg_msg *m = d[i].msg;
        uint32_t at = atomic_load(&ngot);
        MQG_ASSERT(at < MQG_COUNTOF(got));
        got[at] = mqg_le32(mqg_msg_body(m).ptr);
        atomic_fetch_add(&redelivered, d[i].redelivered);
        atomic_store(&ngot, at + 1);
        handles[i] = d[i].handle;
        mqg_msg_unref(&m);
    }
    mqg_settle(queue, s, handles, n, MQG_SETTLE_ACK);
    return n;
}

static void take_cancelled(struct mqg_sub *s, void *owner)
{
    (void)s, (void)owner;
}
static const struct mqg_sub_ops take_ops = {.deliver = take, .cancelled = take_cancelled};

static void consume(void *arg)
{
    (void)arg;
    struct mqg_error e;
    struct mqg_sub_def d = {.tag = MQG_SLICE_LIT("c"), .prefetch = HELD_MAX};
    assert_int_equal(mqg_subscribe(queue, &d, &take_ops, NULL, &sub, &e), MQG_OK);
}

static void unconsume(void *arg)
{
    (void)arg;
    mqg_unsubscribe(&sub);
}

static void open_queue(void *arg)
{
    (void)arg;
    struct mqg_error e;
    assert_int_equal(mqg_queue_open(session, MQG_SLICE_LIT("q"), &queue, &e), MQG_OK);
}

static bool find_queue(void *arg, const struct mqg_queue_info *i)
{
    *(struct mqg_queue_info *)arg = *i;
    return true;
}

static void info_on_worker(void *arg)
{
    mqg_queue_each(NULL, find_queue, arg);
}

static struct mqg_queue_info info(void)
{
    struct mqg_queue_info i = {.messages_ready = UINT64_MAX};
    assert_true(mqg_worker_call(mqg_worker_at(0), info_on_worker, &i));
    return i;
}

/* Polls until `value` gives `want`. */
static void wait_for(uint64_t (*value)(void), uint64_t want)
{
    uint64_t deadline_ms = mqg_clock_now().mono_ms + DEADLINE_S * 1000u;
    while (value() != want && mqg_clock_now().mono_ms < deadline_ms)
        sched_yield();
    assert_int_equal(value(), want);
}

static uint64_t value_got(void)
{
    return atomic_load(&ngot);
}
static uint64_t value_live(void)
{
    return span_store_live();
}
static uint64_t value_ready(void)
{
    return info().messages_ready;
}
static uint64_t value_waiting(void)
{
    return span_store_waiting();
}

/* Takes everything: these numbers from `first` on, in order. */
static void drain(uint32_t first, uint32_t n)
{
    assert_true(mqg_worker_call(mqg_worker_at(1), consume, NULL));
    wait_for(value_got, n);
    assert_true(mqg_worker_call(mqg_worker_at(1), unconsume, NULL));
    for (uint32_t i = 0; i < n; i++)
        assert_int_equal(got[i], first + i);
}

static uint64_t value_forgotten(void)
{
    return span_store_forgotten();
}

static uint64_t value_extents(void)
{
    return (uint64_t)span_store_extents();
}

/* What was purged is settled first, and let go of when it has come back. */
static void nothing_left(void)
{
    wait_for(value_live, 0);
    wait_for(value_forgotten, 0);
    wait_for(value_extents, 0);
}

static int setup(void **unused)
{
    (void)unused;
    span_store_reset();
    seq = 0;
    atomic_store(&ngot, 0);
    atomic_store(&redelivered, 0);
    node_start();
    assert_true(mqg_worker_call(mqg_worker_at(0), publisher_begin, NULL));
    return 0;
}

static int teardown(void **unused)
{
    (void)unused;
    mqg_queue_unref(&queue);
    assert_true(mqg_worker_call(mqg_worker_at(0), publisher_end, NULL));
    node_stop();
    span_store_reset();
    return 0;
}

static void declared(struct mqg_field *arg)
{
    assert_true(mqg_worker_call(mqg_worker_at(0), declare, arg));
    assert_true(mqg_worker_call(mqg_worker_at(0), open_queue, NULL));
}

/* ---- tests --------------------------------------------------------------------------------------------------------------- */

static void test_drain(void **unused)
{
    (void)unused;
    declared(NULL);
    fill(MESSAGES);
    assert_true(span_store_forgotten() > MESSAGES / 10 * 9);
    assert_int_equal(info().messages_ready, MESSAGES);
    assert_int_equal(info().bytes_ready, 4 * MESSAGES);
    drain(0, MESSAGES);
    assert_int_equal(info().bytes_ready, 0);
    assert_int_equal(redelivered, 0);
    nothing_left();
}

/* Transient messages stay in memory, in their places. */
static void test_transient_between(void **unused)
{
    (void)unused;
    declared(NULL);
    fill_mixed(MESSAGES, 70);
    assert_true(span_store_forgotten() > MESSAGES / 2);
    drain(0, MESSAGES);
    nothing_left();
}

struct get {
    struct mqg_get g;
    _Atomic bool over;
};

static void get_done(struct mqg_get *g)
{
    struct get *own = MQG_CONTAINER_OF(g, struct get, g);
    atomic_store(&own->over, true);
}

static void get_one(void *arg)
{
    struct get *g = arg;
    g->g = (struct mqg_get){.no_ack = true, .done = get_done};
    mqg_queue_get(queue, &g->g);
}

static void test_get(void **unused)
{
    (void)unused;
    declared(NULL);
    fill(MESSAGES);
    for (uint32_t i = 0; i < 3000; i++) {
        struct get g = {.over = false};
        assert_true(mqg_worker_call(mqg_worker_at(i % 2), get_one, &g));
        while (!atomic_load(&g.over))
            sched_yield();
        assert_non_null(g.g.d.msg);
        assert_int_equal(mqg_le32(mqg_msg_body(g.g.d.msg).ptr), i);
        assert_int_equal(g.g.messages_left, MESSAGES - i - 1);
        mqg_msg_unref(&g.g.d.msg);
    }
    drain(3000, MESSAGES - 3000);
    nothing_left();
}

static void purge(void *arg)
{
    struct mqg_error e;
    assert_int_equal(mqg_queue_purge(session, MQG_SLICE_LIT("q"), arg, &e), MQG_OK);
}

static void test_purge(void **unused)
{
    (void)unused;
    uint64_t n = 0;
    declared(NULL);
    fill(MESSAGES);
    assert_true(mqg_worker_call(mqg_worker_at(0), purge, &n));
    assert_int_equal(n, MESSAGES);
    assert_int_equal(info().messages_ready, 0);
    assert_int_equal(info().bytes_ready, 0);
    fill(10);
    wait_for(value_live, 10);
    drain(MESSAGES, 10);
    nothing_left();
}

/* A purge is one fact: the spans are settled with the rest, before anything of them was read back. */
static void test_purge_whole(void **unused)
{
    (void)unused;
    uint64_t n = 0;
    declared(NULL);
    fill(MESSAGES);
    assert_true(span_store_forgotten() > MESSAGES / 10 * 9);
    span_store_hold(true);
    assert_true(mqg_worker_call(mqg_worker_at(0), purge, &n));
    assert_int_equal(n, MESSAGES);
    wait_for(value_live, 0);
    assert_true(span_store_forgotten() > MESSAGES / 10 * 9);
    span_store_hold(false);
    nothing_left();
}

/* The answer to what was asked for comes when nobody wants it any more. */
static void test_purge_while_reading(void **unused)
{
    (void)unused;
    uint64_t n = 0;
    declared(NULL);
    fill(MESSAGES);
    span_store_hold(true);
    assert_true(mqg_worker_call(mqg_worker_at(1), consume, NULL));
    wait_for(value_waiting, 1);
    assert_true(mqg_worker_call(mqg_worker_at(0), purge, &n));
    uint64_t before = atomic_load(&ngot);
    assert_true(n + HELD_MAX + before >= MESSAGES && n <= MESSAGES);
    fill(MESSAGES);
    span_store_hold(false);
    wait_for(value_got, MESSAGES - n + MESSAGES);
    assert_true(mqg_worker_call(mqg_worker_at(1), unconsume, NULL));
    for (uint32_t i = 0; i < MESSAGES; i++)
        assert_int_equal(got[MESSAGES - n + i], MESSAGES + i);
    nothing_left();
}

static void delete_queue(void *arg)
{
    struct mqg_error e;
    uint64_t ticket;
    assert_int_equal(mqg_queue_delete(session, MQG_SLICE_LIT("q"), false, false, arg, &ticket, &e), MQG_OK);
}

static void test_delete(void **unused)
{
    (void)unused;
    uint64_t n = 0;
    declared(NULL);
    fill(MESSAGES);
    assert_true(mqg_worker_call(mqg_worker_at(0), delete_queue, &n));
    assert_int_equal(n, MESSAGES);
    nothing_left();
}

static void restart(bool unclean)
{
    mqg_queue_unref(&queue);
    assert_true(mqg_worker_call(mqg_worker_at(0), publisher_end, NULL));
    node_stop();
    span_store_unclean(unclean);
    node_start();
    assert_true(mqg_worker_call(mqg_worker_at(0), publisher_begin, NULL));
    assert_true(mqg_worker_call(mqg_worker_at(0), open_queue, NULL));
}

static void test_restart(void **unused)
{
    (void)unused;
    declared(NULL);
    fill(MESSAGES);
    restart(true);
    assert_int_equal(info().messages_ready, MESSAGES);
    assert_int_equal(info().bytes_ready, 4 * MESSAGES);
    fill(2000); /* the new ones become a span of their own kind */
    restart(false);
    fill(500);
    drain(0, MESSAGES + 2500);
    assert_int_equal(redelivered, 0); /* the last stop was clean, and counts alone */
    nothing_left();
}

static void test_restart_unclean(void **unused)
{
    (void)unused;
    declared(NULL);
    fill(MESSAGES);
    restart(true);
    fill(2000);
    drain(0, MESSAGES + 2000);
    assert_int_equal(redelivered, MESSAGES);
    nothing_left();
}

static void live_ranges(void *arg)
{
    struct mqg_range r[64];
    uint64_t upto;
    size_t n = mqg_routing_queue_live(mqg_queue_id(queue), r, 64, &upto);
    assert_in_range(n, 1, 64);
    uint64_t all = 0;
    for (size_t i = 0; i < n; i++) {
        assert_true(i == 0 || r[i].first > r[i - 1].last);
        all += r[i].last - r[i].first + 1;
    }
    *(uint64_t *)arg = all;
}

static void test_live_ranges(void **unused)
{
    (void)unused;
    uint64_t n;
    declared(NULL);
    fill(MESSAGES);
    assert_true(mqg_worker_call(mqg_worker_at(0), live_ranges, &n));
    assert_int_equal(n, MESSAGES);
    drain(0, MESSAGES);
}

static void test_max_length(void **unused)
{
    (void)unused;
    struct mqg_field arg = {MQG_SLICE_LIT("x-max-length"), {.type = MQG_VALUE_INT64, .i = 5000}};
    declared(&arg);
    fill(MESSAGES);
    assert_true(span_store_forgotten() > 3000);
    wait_for(value_ready, 5000);
    drain(MESSAGES - 5000, 5000);
    nothing_left();
}

static void test_expiry(void **unused)
{
    (void)unused;
    struct mqg_field arg = {MQG_SLICE_LIT("x-message-ttl"), {.type = MQG_VALUE_INT64, .i = 1500}};
    declared(&arg);
    fill(MESSAGES);
    assert_true(span_store_forgotten() > 10000);
    wait_for(value_ready, 0);
    nothing_left();
    fill(MESSAGES);
    restart(false); /* due times go on by the wall clock */
    wait_for(value_ready, 0);
    nothing_left();
}

/* What cannot be read back is counted off, and what is behind it comes. */
static void test_unreadable(void **unused)
{
    (void)unused;
    declared(NULL);
    fill(MESSAGES);
    span_store_break(10000, UINT64_C(1) << 40);
    assert_true(mqg_worker_call(mqg_worker_at(1), consume, NULL));
    wait_for(value_ready, 0);
    uint32_t n = (uint32_t)value_got();
    wait_for(value_live, span_store_forgotten());
    assert_in_range(n, 9999, MESSAGES - 1);
    for (uint32_t i = 1; i < n; i++)
        assert_true(got[i] > got[i - 1]);
    assert_int_equal(got[9998], 9998);
    fill(100);
    wait_for(value_got, n + 100);
    assert_true(mqg_worker_call(mqg_worker_at(1), unconsume, NULL));
    span_store_break(0, 0);
    uint64_t kept = span_store_forgotten();
    assert_int_equal(kept, MESSAGES - n);
    atomic_store(&ngot, 0);
    restart(false);
    assert_int_equal(info().messages_ready, kept);
    drain(9999, (uint32_t)kept);
    nothing_left();
}

int main(void)
{
#define SPAN_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        SPAN_TEST(test_drain),       SPAN_TEST(test_transient_between), SPAN_TEST(test_get),
        SPAN_TEST(test_purge),       SPAN_TEST(test_purge_whole),       SPAN_TEST(test_purge_while_reading),
        SPAN_TEST(test_delete),      SPAN_TEST(test_restart),           SPAN_TEST(test_restart_unclean),
        SPAN_TEST(test_live_ranges), SPAN_TEST(test_max_length),        SPAN_TEST(test_expiry),
        SPAN_TEST(test_unreadable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
