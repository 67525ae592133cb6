/* threads.c - several lanes from several threads, as workers use a store: what TSan is to look at.
 *
 * Threads note what went wrong and the test's own thread fails, since cmocka's checks jump. A start barrier makes them
 * overlap. */
#include "batch.h"
#include "fix.h"

#include <string.h>

enum { THREADS = FIX_LANES, BATCHES = 60, EACH = 8, QUEUES = 5 };

struct crew {
    struct fix *f;
    pthread_barrier_t start;
    pthread_mutex_t lock; /* what the host holds under a queue's or partition's lock */
    uint64_t next_qseq[QUEUES];
    uint64_t partition, next_offset;
    _Atomic uint32_t left; /* threads still at work */
    struct {               /* messages that nobody has settled yet */
        struct mqg_msg *msg;
        uint64_t queue_id, qseq;
    } live[THREADS * BATCHES * EACH];
    size_t nlive;
};

struct hand {
    struct crew *crew;
    uint32_t lane;
    uint64_t last; /* ticket */
    pthread_t thread;
};

static void crew_run(struct crew *c, void *(*const runs[])(void *), uint32_t n)
{
    struct hand hands[THREADS];
    atomic_store(&c->left, n);
    pthread_barrier_init(&c->start, NULL, n);
    for (uint32_t i = 0; i < n; i++) {
        hands[i] = (struct hand){c, i, 0, 0};
        MQG_ASSERT(pthread_create(&hands[i].thread, NULL, runs[i], &hands[i]) == 0);
    }
    for (uint32_t i = 0; i < n; i++)
        pthread_join(hands[i].thread, NULL);
    for (uint32_t i = 0; i < n; i++)
        if (hands[i].last && !fix_wait(c->f, i, hands[i].last))
            fix_broke(c->f, "lane %u was not done", i);
    pthread_barrier_destroy(&c->start);
}

/* ---- queues ------------------------------------------------------------------------------------------------------------ */

static void crew_publish(struct hand *h, uint32_t batch)
{
    struct crew *c = h->crew;
    struct mqg_msg *msgs[EACH];
    struct mqg_dest dests[EACH];
    struct mqg_store_op ops[EACH];
    for (uint32_t i = 0; i < EACH; i++) {
        uint32_t q = (batch + i) % QUEUES;
        pthread_mutex_lock(&c->lock);
        dests[i] = (struct mqg_dest){0x7000 + q, ++c->next_qseq[q]};
        pthread_mutex_unlock(&c->lock);
        msgs[i] = fix_msg(dests[i].qseq * QUEUES + q, (uint32_t)(dests[i].qseq % 50) * 40);
        ops[i] = fix_op_msg(c->f, h->lane, msgs[i], &dests[i], 1);
    }
    h->last = fix_submit_flags(c->f, h->lane, ops, EACH, batch % 3 ? MQG_SUBMIT_URGENT : 0);
    pthread_mutex_lock(&c->lock);
    for (uint32_t i = 0; i < EACH; i++) {
        c->live[c->nlive].msg = msgs[i];
        c->live[c->nlive].queue_id = dests[i].queue_id;
        c->live[c->nlive++].qseq = dests[i].qseq;
    }
    pthread_mutex_unlock(&c->lock);
}

/* Takes one live message: loads it when its extent is durable, settles it by this lane. False when there is none. */
static bool crew_consume(struct hand *h)
{
    struct crew *c = h->crew;
    pthread_mutex_lock(&c->lock);
    bool any = c->nlive > 0;
    struct mqg_msg *m = NULL;
    uint64_t queue_id = 0, qseq = 0;
    if (any) {
        c->nlive--;
        m = c->live[c->nlive].msg;
        queue_id = c->live[c->nlive].queue_id;
        qseq = c->live[c->nlive].qseq;
    }
    pthread_mutex_unlock(&c->lock);
    if (!any)
        return false;
    if (atomic_load_explicit(&m->extent->place, memory_order_acquire) != MQG_PLACE_NONE) {
        struct mqg_load item = {.extent = m->extent, .off = m->extent_off, .len = m->total_len};
        fix_load(c->f, h->lane, &item, 1);
        if (item.msg && !fix_same(item.msg, m))
            fix_broke(c->f, "a loaded message differs");
        if (item.msg)
            mqg_msg_unref(&item.msg);
    }
    struct mqg_range range = {qseq, qseq};
    struct mqg_store_op op = fix_op_settle(queue_id, &range, 1);
    h->last = fix_submit_flags(c->f, h->lane, &op, 1, 0);
    mqg_extent_give(m->extent, 1);
    mqg_msg_unref(&m);
    return true;
}

static void *publisher_run(void *arg)
{
    struct hand *h = arg;
    pthread_barrier_wait(&h->crew->start);
    for (uint32_t i = 0; i < BATCHES; i++)
        crew_publish(h, i);
    atomic_fetch_sub(&h->crew->left, 1);
    return NULL;
}

static void *consumer_run(void *arg)
{
    struct hand *h = arg;
    pthread_barrier_wait(&h->crew->start);
    while (atomic_load(&h->crew->left) > 2) /* two publishers beside two consumers */
        if (!crew_consume(h))
            fix_pause();
    atomic_fetch_sub(&h->crew->left, 1);
    return NULL;
}

static void *both_run(void *arg)
{
    struct hand *h = arg;
    pthread_barrier_wait(&h->crew->start);
    for (uint32_t i = 0; i < BATCHES; i++) {
        crew_publish(h, i);
        for (uint32_t k = 0; k < EACH / 2; k++)
            crew_consume(h);
    }
    atomic_fetch_sub(&h->crew->left, 1);
    return NULL;
}

static struct crew *crew_new(struct fix *f)
{
    struct crew *c = mqg_xcalloc(1, sizeof(*c));
    c->f = f;
    pthread_mutex_init(&c->lock, NULL);
    return c;
}

static void crew_free(struct crew *c)
{
    for (size_t i = 0; i < c->nlive; i++)
        mqg_msg_unref(&c->live[i].msg);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

/* What is left is settled; then no extent may be alive, and after a restart nothing there. */
static void crew_drain(struct crew *c)
{
    struct hand h = {c, 0, 0, 0};
    while (crew_consume(&h)) {
    }
    if (h.last)
        assert_true(fix_wait(c->f, 0, h.last));
    assert_true(fix_dead_reach(c->f, fix_opened(c->f)));
    if (c->f->caps & MQG_STORE_DURABLE) {
        fix_reopen(c->f, false);
        assert_int_equal(c->f->msgs.n, 0);
    }
}

static void threads_publish_and_consume(void **state)
{
    static void *(*const runs[])(void *) = {publisher_run, publisher_run, consumer_run, consumer_run};
    struct crew *c = crew_new(*state);
    crew_run(c, runs, THREADS);
    crew_drain(c);
    crew_free(c);
}

static void threads_all_do_both(void **state)
{
    static void *(*const runs[])(void *) = {both_run, both_run, both_run, both_run};
    struct crew *c = crew_new(*state);
    crew_run(c, runs, THREADS);
    if (c->f->caps & MQG_STORE_DURABLE) { /* what is live is what comes back */
        fix_reopen(c->f, false);
        assert_int_equal(c->f->msgs.n, c->nlive);
        for (size_t i = 0; i < c->nlive; i++)
            fix_found_same(c->f, c->live[i].queue_id, c->live[i].qseq, c->live[i].msg);
    } else {
        crew_drain(c);
    }
    crew_free(c);
}

/* ---- streams ----------------------------------------------------------------------------------------------------------- */

static void *appender_run(void *arg)
{
    struct hand *h = arg;
    struct crew *c = h->crew;
    pthread_barrier_wait(&c->start);
    for (uint32_t i = 0; i < BATCHES; i++) {
        struct mqg_dynbuf out;
        mqg_dynbuf_init(&out, 1u << 20);
        struct batch_spec spec = {0, i, 1700000000000u, 1 + i % 4, 60, false};
        pthread_mutex_lock(&c->lock);
        spec.base = c->next_offset;
        c->next_offset += spec.count;
        pthread_mutex_unlock(&c->lock);
        batch_build(&out, &spec);
        struct mqg_slice rope = mqg_dynbuf_view(&out);
        struct mqg_store_op op = {
            .kind = MQG_OP_APPEND,
            .append = {c->partition, spec.base, spec.count, spec.time_ms + spec.count - 1, &rope, 1},
        };
        h->last = fix_submit(c->f, h->lane, &op, 1);
        mqg_dynbuf_fini(&out); /* small: copied */
    }
    atomic_fetch_sub(&c->left, 1);
    return NULL;
}

/* Reads behind the appenders, asking to be told; sees every offset once and in order. */
static void *reader_run(void *arg)
{
    struct hand *h = arg;
    struct crew *c = h->crew;
    uint64_t offset = 0, until = fix_now_ms() + FIX_WAIT_MS;
    pthread_barrier_wait(&c->start);
    while ((atomic_load(&c->left) > 1 || offset < c->next_offset) && fix_now_ms() < until) {
        struct mqg_stream_read r = fix_read(c->f, c->partition, offset, 2000, true);
        if (r.err != MQG_OK)
            fix_broke(c->f, "read at %llu: %s", (unsigned long long)offset, mqg_err_name(r.err));
        if (!r.data) {
            c->f->ops->stream_wait(c->f->store, c->partition, offset);
            fix_pause();
            continue;
        }
        struct mqg_slice in = mqg_slice_of(r.data->data, r.data->len);
        struct batch_view b;
        bool bad = false;
        while (batch_next(&in, &b, &bad)) {
            if (b.base > offset || b.end <= offset)
                fix_broke(c->f, "offset %llu was expected, [%llu, %llu) came", (unsigned long long)offset,
                          (unsigned long long)b.base, (unsigned long long)b.end);
            offset = b.end;
        }
        if (bad)
            fix_broke(c->f, "a batch does not check");
        mqg_buf_unref(&r.data);
    }
    if (fix_now_ms() >= until)
        fix_broke(c->f, "the reader did not reach the end");
    return NULL;
}

static void threads_append_and_read(void **state)
{
    static void *(*const runs[])(void *) = {appender_run, appender_run, appender_run, reader_run};
    struct crew *c = crew_new(*state);
    c->partition = fix_stream_new(c->f);
    crew_run(c, runs, THREADS);
    assert_true(fix_high_reach(c->f, c->partition, c->next_offset));
    crew_free(c);
}

const struct suite_test suite_threads[] = {
    {"threads_publish_and_consume", MQG_STORE_QUEUES, threads_publish_and_consume, false},
    {"threads_all_do_both", MQG_STORE_QUEUES, threads_all_do_both, false},
    {"threads_append_and_read", MQG_STORE_STREAMS, threads_append_and_read, false},
    {NULL, 0, NULL, false},
};
