/* topology_bench.c - what declaring and routing cost, on one core, without queues and store.
 *
 *   topology_bench [bindings]
 *
 * Prints binds per second, a snapshot published per 64 binds as for a client that sends many at a time, and nanoseconds per route: a direct
 * key, a topic key among all the patterns, a fanout of 100; then the p99 of routing while another thread
 * binds at full speed. Memory is reclaimed as workers do it: at each turn. */
#include "definitions_int.h"
#include "topology_fake.h"

#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    BENCH_BINDINGS = 100000,
    BENCH_QUEUES = 1000,
    BENCH_ROUTES = 1000000,
    BENCH_TURN = 64,
    BENCH_SAMPLES = 200000
};

static uint64_t bench_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Of this thread alone: what it would take on an idle machine. */
static uint64_t bench_cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void bench_bind(const char *exchange, unsigned i, const char *format)
{
    char key[64], queue[16];
    uint64_t ticket;
    int len = snprintf(key, sizeof key, "%s%u.%u.%u", format, i % 100, i / 100 % 100, i / 10000);
    int queue_len = snprintf(queue, sizeof queue, "q%u", i % BENCH_QUEUES);
    struct mqg_binding_def def = {.source = mqg_slice_str(exchange),
                                  .destination = mqg_slice_of(queue, (size_t)queue_len),
                                  .key = mqg_slice_of(key, (size_t)len)};
    MQG_ASSERT(mqg_binding_put(fake_session(1), &def, &ticket, NULL) == MQG_OK);
    if (i % BENCH_TURN == BENCH_TURN - 1)
        topology_see(); /* the end of a turn */
}

static void bench_binds(const char *exchange, const char *format, unsigned n)
{
    struct mqg_epoch_reader *reader = mqg_epoch_register();
    size_t bytes = mallinfo2().uordblks;
    uint64_t start = bench_ns();
    for (unsigned i = 0; i < n; i++) {
        bench_bind(exchange, i, format);
        if (i % BENCH_TURN == 0)
            mqg_epoch_quiescent(reader);
    }
    double s = (double)(bench_ns() - start) / 1e9;
    mqg_epoch_quiescent(reader);
    while (mqg_epoch_reclaim() > 0)
        mqg_epoch_quiescent(reader);
    printf("bind    %-12s %8u bindings  %10.0f /s  %zu bytes each, metadata of the fake included\n", exchange,
           n, n / s, (mallinfo2().uordblks - bytes) / n);
    mqg_epoch_unregister(&reader);
}

static void bench_route(const char *exchange, const char *what, unsigned n)
{
    const struct mqg_vhost *v = mqg_vhost_find(MQG_SLICE_LIT("/"));
    struct route_set r;
    char key[64];
    uint64_t reached = 0;
    route_set_init(&r);
    uint64_t start = bench_ns();
    for (unsigned i = 0; i < BENCH_ROUTES; i++) {
        int len = snprintf(key, sizeof key, "%u.%u.%u", i % 100, i / 100 % 100,
                           i / 10000 % (n / 10000 > 0 ? n / 10000 : 1));
        struct mqg_slice one = mqg_slice_of(key, (size_t)len);
        topology_route(v, topology_exchange(v, mqg_slice_str(exchange)), NULL, &one, 1, &r);
        reached += r.n;
    }
    double ns = (double)(bench_ns() - start) / BENCH_ROUTES;
    printf("route   %-12s %-34s %8.0f ns  %.2f queues\n", exchange, what, ns, (double)reached / BENCH_ROUTES);
    route_set_fini(&r);
}

/* ---- deleting ------------------------------------------------------------------------------------------ */

/* What one command takes of its worker when an exchange goes with all its bindings, and what is left to do after it. */
static void bench_delete(unsigned n)
{
    struct mqg_epoch_reader *reader = mqg_epoch_register();
    struct mqg_exchange_def def = {
        .name = MQG_SLICE_LIT("gone"), .type = MQG_SLICE_LIT("direct"), .durable = true};
    uint64_t ticket, longest = 0;
    MQG_ASSERT(mqg_exchange_declare(fake_session(1), &def, false, &ticket, NULL) == MQG_OK);
    for (unsigned i = 0; i < n; i++)
        bench_bind("gone", i, "");
    mqg_epoch_quiescent(reader);
    while (mqg_epoch_reclaim() > 0)
        mqg_epoch_quiescent(reader);
    uint64_t start = bench_cpu_ns();
    MQG_ASSERT(mqg_exchange_delete(fake_session(1), def.name, false, &ticket, NULL) == MQG_OK);
    uint64_t command = bench_cpu_ns() - start;
    for (bool more = true; more;) {
        uint64_t turn = bench_cpu_ns();
        mqg_epoch_quiescent(reader);
        more = definitions_drop_slice();
        more = mqg_epoch_reclaim() > 0 || more;
        turn = bench_cpu_ns() - turn;
        longest = turn > longest ? turn : longest;
    }
    printf("delete  %-12s %8u bindings  command %.1f ms, longest turn after it %.1f ms, all %.1f ms\n",
           "direct", n, (double)command / 1e6, (double)longest / 1e6, (double)(bench_cpu_ns() - start) / 1e6);
    mqg_epoch_unregister(&reader);
}

/* ---- routing while somebody declares ------------------------------------------------------------------- */

static _Atomic bool bench_go, bench_end;
static uint32_t bench_sample[BENCH_SAMPLES];

static void *bench_reader(void *arg)
{
    const struct mqg_vhost *v = mqg_vhost_find(MQG_SLICE_LIT("/"));
    struct mqg_epoch_reader *reader = mqg_epoch_register();
    struct mqg_slice key = MQG_SLICE_LIT("7.7.1");
    struct route_set r;
    size_t *n = arg;
    route_set_init(&r);
    atomic_store(&bench_go, true);
    for (*n = 0; *n < BENCH_SAMPLES && !atomic_load_explicit(&bench_end, memory_order_relaxed); (*n)++) {
        uint64_t start = bench_ns();
        for (int i = 0; i < 8; i++)
            topology_route(v, topology_exchange(v, MQG_SLICE_LIT("amq.topic")), NULL, &key, 1, &r);
        bench_sample[*n] = (uint32_t)(bench_ns() - start);
        mqg_epoch_quiescent(reader);
    }
    route_set_fini(&r);
    mqg_epoch_unregister(&reader);
    return NULL;
}

static int bench_order(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void bench_report(const char *what, size_t n)
{
    qsort(bench_sample, n, sizeof bench_sample[0], bench_order);
    printf("latency %-12s p50 %u ns, p99 %u ns, p99.9 %u ns (of 8 routes, %zu samples)\n", what,
           bench_sample[n / 2], bench_sample[n * 99 / 100], bench_sample[n * 999 / 1000], n);
}

static void bench_concurrent(unsigned n)
{
    pthread_t thread;
    size_t samples = 0;
    bench_reader(&samples);
    bench_report("quiet", samples);
    atomic_store(&bench_go, false);
    pthread_create(&thread, NULL, bench_reader, &samples);
    while (!atomic_load(&bench_go))
        continue;
    uint64_t start = bench_ns();
    for (unsigned i = 0; i < n; i++)
        bench_bind("amq.topic", i, "*.");
    double s = (double)(bench_ns() - start) / 1e9;
    atomic_store(&bench_end, true);
    pthread_join(thread, NULL);
    printf("bind    %-12s %8u bindings  %10.0f /s beside a router\n", "amq.topic", n, n / s);
    bench_report("binding", samples);
}

int main(int argc, char **argv)
{
    unsigned n = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : BENCH_BINDINGS;
    char name[16];
    uint64_t ticket;
    MQG_ASSERT(n > 0);
    fake_start();
    topology_may_draft = true;
    for (unsigned i = 0; i < BENCH_QUEUES; i++) {
        struct mqg_queue_ok ok;
        int len = snprintf(name, sizeof name, "q%u", i);
        struct mqg_queue_def def = {.name = mqg_slice_of(name, (size_t)len), .durable = true};
        MQG_ASSERT(mqg_queue_declare(fake_session(1), &def, false, &ok, &ticket, NULL) == MQG_OK);
    }
    bench_binds("amq.direct", "", n);
    bench_binds("amq.topic", "", n);
    bench_binds("amq.fanout", "", 100);
    bench_route("amq.direct", "one of all keys", n);
    bench_route("amq.topic", "one of all patterns", n);
    bench_bind("amq.topic", 3, "#.");
    bench_bind("amq.topic", 3, "*.");
    bench_route("amq.topic", "with '#' and '*' patterns beside", n);
    bench_route("amq.fanout", "100 queues", n);
    bench_delete(n);
    bench_concurrent(n);
    topology_see();
    fake_stop();
    return 0;
}
