/* topology_race_test.c - readers route while a writer binds, unbinds and deletes: every queue that a route
 * names is alive until the reader's quiescent point, and what is always bound is always reached. Meant for
 * ThreadSanitizer and AddressSanitizer. */
#include "topology_fake.h"

#include "../core/base/test_kit.h"

#include <pthread.h>

enum { RACE_READERS = 3, RACE_STEPS = 20000, RACE_QUEUES = 100 };

static _Atomic bool race_end;
static _Atomic unsigned race_ready;
static const char *const race_exchanges[] = {"amq.direct", "amq.fanout", "amq.topic", "amq.headers", "x"};

static void race_bind(const char *source, const char *destination, bool to_exchange, const char *key,
                      bool unbind)
{
    struct mqg_session *s = fake_session(1);
    struct mqg_binding_def def = {.source = mqg_slice_str(source),
                                  .destination = mqg_slice_str(destination),
                                  .to_exchange = to_exchange,
                                  .key = mqg_slice_str(key)};
    uint64_t ticket;
    struct mqg_error e;
    enum mqg_err err = unbind ? mqg_binding_delete(s, &def, &ticket, &e)
                              : mqg_binding_put(s, &def, &ticket, &e);
    assert_true(err == MQG_OK || err == MQG_NOT_FOUND);
}

static void race_queue(const char *name, bool delete)
{
    struct mqg_session *s = fake_session(1);
    struct mqg_queue_def def = {.name = mqg_slice_str(name), .owner_conn = 1};
    struct mqg_queue_ok ok;
    uint64_t ticket, messages;
    if (delete)
        assert_int_equal(mqg_queue_delete(s, def.name, false, false, &messages, &ticket, NULL), MQG_OK);
    else
        assert_int_equal(mqg_queue_declare(s, &def, false, &ok, &ticket, NULL), MQG_OK);
}

static void race_exchange(bool delete)
{
    struct mqg_session *s = fake_session(1);
    struct mqg_exchange_def def = {.name = MQG_SLICE_LIT("x"), .type = MQG_SLICE_LIT("topic")};
    uint64_t ticket;
    if (delete)
        assert_int_equal(mqg_exchange_delete(s, def.name, false, &ticket, NULL), MQG_OK);
    else
        assert_int_equal(mqg_exchange_declare(s, &def, false, &ticket, NULL), MQG_OK);
}

/* True when the queue that is always bound was among them. */
static bool race_check(const struct route_set *r)
{
    bool stays = false;
    for (size_t i = 0; i < r->n; i++) {
        const struct mqg_queue *q = r->queues[i];
        MQG_CHECK(q, FAKE_QUEUE_MAGIC);
        stays = stays || mqg_slice_eq(mqg_queue_name(q), MQG_SLICE_LIT("stays"));
    }
    return stays;
}

static bool race_visit(void *arg, const struct mqg_binding_info *b)
{
    *(size_t *)arg += b->source.len + b->destination.len + b->args->n;
    return true;
}

static void race_read(struct route_set *r, uint64_t *seed)
{
    const struct mqg_vhost *v = mqg_vhost_find(MQG_SLICE_LIT("/"));
    const struct mqg_exchange *x = topology_exchange(
        v, mqg_slice_str(race_exchanges[test_random(seed) % MQG_COUNTOF(race_exchanges)]));
    struct mqg_slice keys[2] = {MQG_SLICE_LIT("a.b"), MQG_SLICE_LIT("a")};
    if (x == NULL)
        return;
    topology_route(v, x, NULL, keys, 2, r);
    bool stays = race_check(r);
    MQG_ASSERT(stays || !mqg_slice_starts(x->cell->name, MQG_SLICE_LIT("amq.")));
    const struct mqg_queue *q = topology_queue(v, MQG_SLICE_LIT("q7"));
    MQG_ASSERT(q == NULL || mqg_slice_eq(mqg_queue_name(q), MQG_SLICE_LIT("q7")));
}

static void *race_reader(void *arg)
{
    struct mqg_epoch_reader *reader = mqg_epoch_register();
    uint64_t seed = 1 + (uint64_t)(uintptr_t)arg;
    struct route_set r;
    size_t bytes = 0;
    route_set_init(&r);
    atomic_fetch_add(&race_ready, 1);
    for (unsigned turn = 0; !atomic_load_explicit(&race_end, memory_order_relaxed); turn++) {
        for (int i = 0; i < 16; i++)
            race_read(&r, &seed);
        if (turn % 128 == 0)
            mqg_binding_each(NULL, race_visit, &bytes);
        mqg_epoch_quiescent(reader);
    }
    route_set_fini(&r);
    mqg_epoch_unregister(&reader);
    return NULL;
}

static void race_step(uint64_t *seed)
{
    static const char *const keys[] = {"a.b", "a.*", "#", "a.#", "*.b", "#.#.b", "a"};
    char name[16];
    snprintf(name, sizeof name, "q%d", (int)(test_random(seed) % RACE_QUEUES));
    const char *x = race_exchanges[test_random(seed) % MQG_COUNTOF(race_exchanges)];
    const char *key = keys[test_random(seed) % MQG_COUNTOF(keys)];
    switch (test_random(seed) % 16) {
    case 0: race_queue(name, true); break;
    case 1: race_exchange(true); break;
    case 2: race_exchange(false); break;
    case 3: race_bind("x", "amq.fanout", true, key, test_random(seed) % 2); break;
    case 4:
    case 5:
    case 6: race_bind(x, name, false, key, true); break;
    default: race_queue(name, false); race_bind(x, name, false, key, false);
    }
}

static void test_readers_and_a_writer(void **state)
{
    (void)state;
    pthread_t threads[RACE_READERS];
    uint64_t seed = 77;
    fake_start();
    race_queue("stays", false);
    race_bind("amq.direct", "stays", false, "a", false);
    race_bind("amq.fanout", "stays", false, "", false);
    race_bind("amq.topic", "stays", false, "a.*", false);
    race_bind("amq.headers", "stays", false, "", false);
    for (size_t i = 0; i < RACE_READERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, race_reader, (void *)(uintptr_t)i), 0);
    while (atomic_load(&race_ready) < RACE_READERS)
        sched_yield();
    for (int i = 0; i < RACE_STEPS; i++)
        race_step(&seed);
    atomic_store(&race_end, true);
    for (size_t i = 0; i < RACE_READERS; i++)
        pthread_join(threads[i], NULL);
    fake_stop();
}

/* ---- several that declare -------------------------------------------------------------------------------- */

enum { RACE_DECLARERS = 3, RACE_TURNS = 2000, RACE_OWN = 16 };

static void declare_one(struct mqg_session *s, const char *name, bool delete)
{
    struct mqg_queue_def def = {.name = mqg_slice_str(name), .durable = true};
    struct mqg_queue_ok ok;
    uint64_t ticket, messages;
    enum mqg_err err = delete ? mqg_queue_delete(s, def.name, false, false, &messages, &ticket, NULL)
                              : mqg_queue_declare(s, &def, false, &ok, &ticket, NULL);
    MQG_ASSERT(err == MQG_OK);
}

/* A turn: some commands, then its end. All that it declared is there then. */
static void declare_turn(struct mqg_session *s, unsigned who, uint64_t *seed)
{
    bool there[RACE_OWN] = {false};
    char name[24];
    for (uint64_t n = test_random(seed) % 8; n > 0; n--) {
        unsigned which = (unsigned)(test_random(seed) % RACE_OWN);
        there[which] = test_random(seed) % 4 > 0;
        snprintf(name, sizeof name, "%u-%u", who, which);
        declare_one(s, name, !there[which]);
    }
    topology_see();
    for (unsigned which = 0; which < RACE_OWN; which++) {
        snprintf(name, sizeof name, "%u-%u", who, which);
        MQG_ASSERT(!there[which] || topology_queue(s->vhost, mqg_slice_str(name)) != NULL);
    }
}

static void *declare_run(void *arg)
{
    unsigned who = (unsigned)(uintptr_t)arg;
    struct mqg_epoch_reader *reader = mqg_epoch_register();
    uint64_t seed = 100 + who;
    struct mqg_session *s = fake_session(who + 1);
    topology_may_draft = true;
    for (int i = 0; i < RACE_TURNS; i++) {
        declare_turn(s, who, &seed);
        mqg_epoch_quiescent(reader);
    }
    topology_may_draft = false;
    mqg_epoch_unregister(&reader);
    return NULL;
}

/* Their drafts are one, published when all have submitted their records; nobody waits for ever. */
static void test_several_declare(void **state)
{
    (void)state;
    pthread_t threads[RACE_DECLARERS];
    fake_start();
    for (size_t i = 0; i < RACE_DECLARERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, declare_run, (void *)(uintptr_t)i), 0);
    for (size_t i = 0; i < RACE_DECLARERS; i++)
        pthread_join(threads[i], NULL);
    fake_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_readers_and_a_writer),
                                       cmocka_unit_test(test_several_declare)};
    return cmocka_run_group_tests_name("topology_race", tests, NULL, NULL);
}
