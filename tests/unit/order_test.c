/* order_test.c - several workers publish to and consume from the same queues, and consumers die in between.
 *
 * Twice: with a store in memory, publishers and consumers side by side; and with one that takes parts of long indexes, the
 * consumers coming when all is published, so that the queues are mostly spans by then.
 *
 * Four real workers; a publisher on each, publishing to a fanout exchange over three queues; two consumers per queue on
 * different workers, which now and then go away with deliveries unsettled and come back. Must hold: at each consumer the
 * messages of one publisher that were not delivered before ascend; in each queue every message is acknowledged exactly once.
 * Run under TSan, this is also the test of the locking. */
#include <mqgate/broker.h>

#include "core_rows.h"
#include "span_store.h"

#include <sched.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#define WORKERS    4u
#define QUEUES     3u
#define CONSUMERS  (2u * QUEUES)
#define MESSAGES   12000u /* per publisher */
#define PER_TURN   60u
#define HELD_MAX   64u
#define LIFE       1500u /* deliveries until a consumer dies */
#define DEADLINE_S 120

extern const struct mqg_module mqg_module; /* the memory store's */

struct publisher {
    struct mqg_task task;
    struct mqg_pub pub;
    struct mqg_session *session;
    uint32_t number, next;
    _Atomic uint64_t confirmed;
};

struct consumer {
    struct mqg_task task;
    uint32_t queue_number;
    struct mqg_queue *queue;
    struct mqg_sub *sub;
    uint32_t last[WORKERS]; /* seq + 1 of the last new message of each publisher */
    uint64_t held[HELD_MAX];
    uint32_t held_seq[HELD_MAX], held_pub[HELD_MAX];
    uint32_t nheld, age;
    bool dying;
};

static struct publisher publishers[WORKERS];
static struct consumer consumers[CONSUMERS];
static _Atomic uint32_t acked[QUEUES];
static _Atomic uint8_t seen[QUEUES][WORKERS][MESSAGES];
static _Atomic uint32_t disorder, twice, deaths;

/* ---- publishers ---------------------------------------------------------------------------------------------------- */

static void publisher_confirm(struct mqg_pub *p, uint64_t upto, const uint64_t *rejected, size_t n)
{
    struct publisher *self = p->owner;
    (void)rejected;
    MQG_ASSERT(n == 0 && upto > self->confirmed);
    self->confirmed = upto;
}

static const struct mqg_pub_ops publisher_ops = {.confirm = publisher_confirm};

static void publish_one(struct publisher *p)
{
    struct mqg_error e;
    struct mqg_msg_parts parts = {
        .proto = MQG_PROTO_INTERNAL,
        .key_sep = '.',
        .flags = MQG_MSG_PERSISTENT,
        .exchange = MQG_SLICE_LIT("order"),
        .body_len = 8,
    };
    struct mqg_msg *m = mqg_msg_new(&parts);
    MQG_ASSERT(m != NULL);
    mqg_put_le32(mqg_msg_body_mut(m), p->number);
    mqg_put_le32(mqg_msg_body_mut(m) + 4, p->next++);
    enum mqg_err err = mqg_publish(&p->pub, m, 0, p->next, NULL, 0, &e);
    MQG_ASSERT(err == MQG_OK);
}

static void publisher_run(struct mqg_task *task)
{
    struct publisher *p = MQG_CONTAINER_OF(task, struct publisher, task);
    for (uint32_t i = 0; i < PER_TURN && p->next < MESSAGES; i++)
        publish_one(p);
    if (p->next < MESSAGES)
        mqg_worker_post(mqg_worker_self(), task);
}

static void publisher_start(void *arg)
{
    struct publisher *p = arg;
    p->session = mqg_session_internal(mqg_vhost_find(MQG_SLICE_LIT("/")));
    mqg_pub_init(&p->pub, &publisher_ops, p->session, p);
    p->task.run = publisher_run;
    mqg_worker_post(mqg_worker_self(), &p->task);
}

static void publisher_stop(void *arg)
{
    struct publisher *p = arg;
    mqg_pub_fini(&p->pub);
    mqg_session_unref(&p->session);
}

/* ---- consumers ------------------------------------------------------------------------------------------------------ */

static void consumer_subscribe(struct consumer *c);

static void consumer_ack(struct consumer *c)
{
    mqg_settle(c->queue, c->sub, c->held, c->nheld, MQG_SETTLE_ACK);
    for (uint32_t i = 0; i < c->nheld; i++)
        if (atomic_fetch_add(&seen[c->queue_number][c->held_pub[i]][c->held_seq[i]], 1) != 0)
            atomic_fetch_add(&twice, 1);
    atomic_fetch_add(&acked[c->queue_number], c->nheld);
    c->nheld = 0;
}

/* Like a connection that ends: what is unsettled goes back, and a new one comes. */
static void consumer_die(struct mqg_task *task)
{
    struct consumer *c = MQG_CONTAINER_OF(task, struct consumer, task);
    mqg_unsubscribe(&c->sub);
    mqg_settle(c->queue, NULL, c->held, c->nheld, MQG_SETTLE_RETURN);
    c->nheld = 0;
    memset(c->last, 0, sizeof(c->last));
    atomic_fetch_add(&deaths, 1);
    consumer_subscribe(c);
}

static void consumer_take(struct consumer *c, const struct mqg_delivery *d)
{
    const uint8_t *body = mqg_msg_body(d->msg).ptr;
    uint32_t publisher = mqg_le32(body), seq = mqg_le32(body + 4);
    MQG_ASSERT(publisher < WORKERS && seq < MESSAGES);
    if (!d->redelivered) {
        if (seq + 1 <= c->last[publisher])
            atomic_fetch_add(&disorder, 1);
        c->last[publisher] = seq + 1;
    }
    c->held[c->nheld] = d->handle;
    c->held_pub[c->nheld] = publisher;
    c->held_seq[c->nheld++] = seq;
    struct mqg_msg *m = d->msg;
    mqg_msg_unref(&m);
}

static size_t consumer_deliver(struct mqg_sub *sub, void *owner, const struct mqg_delivery *d, size_t n)
{
    struct consumer *c = owner;
    size_t took = 0;
    (void)sub;
    while (took < n && c->nheld < HELD_MAX && !c->dying)
        consumer_take(c, &d[took++]);
    c->age += (uint32_t)took;
    if (c->age >= LIFE && !c->dying) {
        c->age = 0;
        c->dying = true;
        mqg_worker_post(mqg_worker_self(), &c->task);
    }
    if (!c->dying && c->nheld > 0)
        consumer_ack(c);
    return took;
}

static void consumer_cancelled(struct mqg_sub *sub, void *owner)
{
    (void)sub;
    (void)owner;
    mqg_assert_fail("nobody deletes these queues", __FILE__, __LINE__, __func__);
}

static const struct mqg_sub_ops consumer_ops = {.deliver = consumer_deliver, .cancelled = consumer_cancelled};

static void consumer_subscribe(struct consumer *c)
{
    struct mqg_error e;
    struct mqg_sub_def d = {.tag = MQG_SLICE_LIT("c"), .prefetch = HELD_MAX};
    c->dying = false;
    enum mqg_err err = mqg_subscribe(c->queue, &d, &consumer_ops, c, &c->sub, &e);
    MQG_ASSERT(err == MQG_OK);
}

static void consumer_start(void *arg)
{
    struct consumer *c = arg;
    struct mqg_error e;
    char name[16];
    snprintf(name, sizeof(name), "q%u", c->queue_number);
    struct mqg_session *s = mqg_session_internal(mqg_vhost_find(MQG_SLICE_LIT("/")));
    enum mqg_err err = mqg_queue_open(s, mqg_slice_str(name), &c->queue, &e);
    MQG_ASSERT(err == MQG_OK);
    mqg_session_unref(&s);
    c->task.run = consumer_die;
    consumer_subscribe(c);
}

static void consumer_stop(void *arg)
{
    struct consumer *c = arg;
    mqg_unsubscribe(&c->sub);
    mqg_queue_unref(&c->queue);
}

/* ---- the node ---------------------------------------------------------------------------------------------------------- */

static void define_all(void *arg)
{
    (void)arg;
    struct mqg_session *s = mqg_session_internal(mqg_vhost_find(MQG_SLICE_LIT("/")));
    struct mqg_exchange_def x = {
        .name = MQG_SLICE_LIT("order"), .type = MQG_SLICE_LIT("fanout"), .durable = true};
    struct mqg_error e;
    uint64_t ticket;
    enum mqg_err err = mqg_exchange_declare(s, &x, false, &ticket, &e);
    for (uint32_t i = 0; i < QUEUES && err == MQG_OK; i++) {
        char name[16];
        snprintf(name, sizeof(name), "q%u", i);
        struct mqg_queue_def q = {.name = mqg_slice_str(name), .durable = i != 0};
        struct mqg_binding_def b = {.source = x.name, .destination = q.name};
        struct mqg_queue_ok ok;
        err = mqg_queue_declare(s, &q, false, &ok, &ticket, &e);
        if (err == MQG_OK)
            err = mqg_binding_put(s, &b, &ticket, &e);
    }
    MQG_ASSERT(err == MQG_OK);
    mqg_session_unref(&s);
}

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

static struct mqg_conf *node_start(const char *store)
{
    char setting[64];
    struct mqg_error e = {0};
    struct mqg_conf *conf = mqg_conf_new();
    mqg_conf_schema(conf, mqg_core_rows);
    mqg_conf_schema(conf, mqg_module.conf);
    snprintf(setting, sizeof(setting), "store.%s.type=%s", store, store);
    assert_int_equal(mqg_conf_set(conf, setting, &e), MQG_OK);
    snprintf(setting, sizeof(setting), "store.default=%s", store);
    assert_int_equal(mqg_conf_set(conf, setting, &e), MQG_OK);
    assert_int_equal(mqg_conf_set(conf, "limits.queue_index=256", &e), MQG_OK);
    assert_int_equal(mqg_conf_check(conf, &e), MQG_OK);
    assert_int_equal(mqg_workers_init(WORKERS, &e), MQG_OK);
    assert_int_equal(mqg_auth_init(conf, &e), MQG_OK);
    assert_int_equal(mqg_routing_init(conf, &e), MQG_OK);
    mqg_stores_register(mqg_module.storage);
    mqg_stores_register(&span_store_ops);
    mqg_stores_queue_live(mqg_routing_queue_live);
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

static bool all_acked(void)
{
    for (uint32_t i = 0; i < QUEUES; i++)
        if (atomic_load(&acked[i]) < WORKERS * MESSAGES)
            return false;
    return true;
}

static void wait_all_acked(void)
{
    uint64_t deadline_ms = mqg_clock_now().mono_ms + DEADLINE_S * 1000u;
    while (!all_acked() && mqg_clock_now().mono_ms < deadline_ms)
        sched_yield();
    for (uint32_t i = 0; i < QUEUES; i++)
        assert_int_equal(atomic_load(&acked[i]), WORKERS * MESSAGES);
}

static void consumers_start(void)
{
    for (uint32_t i = 0; i < CONSUMERS; i++) {
        consumers[i].queue_number = i % QUEUES;
        assert_true(mqg_worker_call(mqg_worker_at(i % WORKERS), consumer_start, &consumers[i]));
    }
}

static void publishers_start(void)
{
    for (uint32_t i = 0; i < WORKERS; i++) {
        publishers[i].number = i;
        assert_true(mqg_worker_call(mqg_worker_at(i), publisher_start, &publishers[i]));
    }
}

static void wait_all_confirmed(void)
{
    uint64_t deadline_ms = mqg_clock_now().mono_ms + DEADLINE_S * 1000u;
    for (uint32_t i = 0; i < WORKERS; i++)
        while (atomic_load(&publishers[i].confirmed) < MESSAGES && mqg_clock_now().mono_ms < deadline_ms)
            sched_yield();
}

static void all_stop(struct mqg_conf *conf)
{
    wait_all_acked();
    wait_all_confirmed(); /* a message may be acknowledged before it is confirmed */
    for (uint32_t i = 0; i < CONSUMERS; i++)
        assert_true(mqg_worker_call(mqg_worker_at(i % WORKERS), consumer_stop, &consumers[i]));
    for (uint32_t i = 0; i < WORKERS; i++)
        assert_true(mqg_worker_call(mqg_worker_at(i), publisher_stop, &publishers[i]));
    assert_int_equal(atomic_load(&disorder), 0);
    assert_int_equal(atomic_load(&twice), 0);
    assert_true(atomic_load(&deaths) > 0);
    for (uint32_t i = 0; i < WORKERS; i++)
        assert_int_equal(publishers[i].confirmed, MESSAGES);
    node_stop(conf);
}

static int setup(void **unused)
{
    (void)unused;
    memset(publishers, 0, sizeof(publishers));
    memset(consumers, 0, sizeof(consumers));
    memset((void *)acked, 0, sizeof(acked));
    memset((void *)seen, 0, sizeof(seen));
    atomic_store(&deaths, 0);
    span_store_reset();
    return 0;
}

static void test_order_over_workers(void **unused)
{
    (void)unused;
    struct mqg_conf *conf = node_start("memory");
    assert_true(mqg_worker_call(mqg_worker_at(0), define_all, NULL));
    consumers_start();
    publishers_start();
    all_stop(conf);
}

static void test_order_over_spans(void **unused)
{
    (void)unused;
    struct mqg_conf *conf = node_start("span");
    assert_true(mqg_worker_call(mqg_worker_at(0), define_all, NULL));
    publishers_start();
    wait_all_confirmed();
    assert_true(span_store_forgotten() > WORKERS * MESSAGES); /* of two durable queues */
    consumers_start();
    all_stop(conf);
    assert_int_equal(span_store_live(), 0);
    assert_int_equal(span_store_forgotten(), 0);
    assert_int_equal(span_store_extents(), 0);
    span_store_reset();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup(test_order_over_workers, setup),
                                       cmocka_unit_test_setup(test_order_over_spans, setup)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
