/* lanes_test.c - the workers' lanes: tickets, waiters and wakes, over a store that a test moves by hand, and over memory.
 *
 * Workers and timers are the test's own here, so that it says who the calling thread is and sees each wake. */
#include "self.h"

#include <mqgate/lanes.h>
#include <mqgate/obs.h>

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { WORKERS = 2, SEEN_MAX = 64 };

static struct mqg_worker workers[WORKERS];
static uint32_t wakes[WORKERS];
static struct mqg_timer *timer_armed;

uint32_t mqg_worker_count(void)
{
    return WORKERS;
}

struct mqg_worker *mqg_worker_at(uint32_t index)
{
    return &workers[index];
}

void mqg_worker_wake(struct mqg_worker *w)
{
    wakes[w->index]++;
}

void mqg_timer_init(struct mqg_timer *t, void (*fire)(struct mqg_timer *t))
{
    *t = (struct mqg_timer){.fire = fire};
}

void mqg_timer_in(struct mqg_timer *t, uint64_t delay_ms)
{
    t->due_ms = delay_ms;
    timer_armed = t;
}

/* ---- a store that a test moves --------------------------------------------------------------------------------------- */

/* What submit was given. */
struct seen {
    uint32_t lane;
    uint64_t ticket;
    size_t n;
    unsigned flags;
    enum mqg_store_op_kind kinds[8];
    uint64_t qseq;           /* of a SETTLE's first range */
    char key[16], value[16]; /* of a META */
    const uint8_t *rope;     /* of an APPEND */
    size_t rope_len;
};

static struct mqg_store_host host;
static struct seen seen[SEEN_MAX];
static size_t nseen, again_left;
static uint32_t closed, stopped, freed;
static struct mqg_extent extents[MQG_LANES_MAX];

static enum mqg_err hand_open(struct mqg_store **out, const struct mqg_store_host *h,
                              const struct mqg_conf *conf, const char *section, uint32_t nlanes,
                              struct mqg_error *e)
{
    (void)conf;
    (void)section;
    (void)nlanes;
    (void)e;
    host = *h;
    *out = (struct mqg_store *)(void *)&host; /* opaque, never followed */
    return MQG_OK;
}

static enum mqg_err hand_recover(struct mqg_store *s, struct mqg_recover *r, struct mqg_error *e)
{
    (void)s;
    (void)e;
    if (r->meta_end)
        r->meta_end(r->arg);
    return MQG_OK;
}

static enum mqg_err hand_start(struct mqg_store *s, struct mqg_error *e)
{
    (void)s;
    (void)e;
    return MQG_OK;
}

static struct mqg_extent *hand_extent(struct mqg_store *s, uint32_t lane)
{
    (void)s;
    return &extents[lane];
}

static void hand_note(struct seen *to, const struct mqg_store_op *op)
{
    if (op->kind == MQG_OP_SETTLE)
        to->qseq = op->settle.ranges[0].first;
    if (op->kind == MQG_OP_META) {
        snprintf(to->key, sizeof(to->key), "%.*s", MQG_SLICE_FMT(op->meta.key));
        snprintf(to->value, sizeof(to->value), "%.*s", MQG_SLICE_FMT(op->meta.value));
    }
    if (op->kind == MQG_OP_APPEND) {
        to->rope = op->append.rope[0].ptr;
        to->rope_len = op->append.rope[0].len;
    }
}

static enum mqg_err hand_submit(struct mqg_store *s, uint32_t lane, const struct mqg_store_op *ops, size_t n,
                                uint64_t ticket, unsigned flags)
{
    (void)s;
    if (again_left > 0) {
        again_left--;
        return MQG_AGAIN;
    }
    MQG_ASSERT(nseen < SEEN_MAX);
    struct seen *to = &seen[nseen++];
    *to = (struct seen){.lane = lane, .ticket = ticket, .n = n, .flags = flags};
    for (size_t i = 0; i < n; i++) {
        if (i < MQG_COUNTOF(to->kinds))
            to->kinds[i] = ops[i].kind;
        hand_note(to, &ops[i]);
    }
    return MQG_OK;
}

static void hand_stats(struct mqg_store *s, struct mqg_store_stats *out)
{
    (void)s;
    *out = (struct mqg_store_stats){.state = "ok"};
}

static void hand_close(struct mqg_store *s)
{
    (void)s;
    closed++;
}

static void hand_stop(struct mqg_store *s)
{
    (void)s;
    stopped++;
}

static void hand_fini(struct mqg_store **s)
{
    *s = NULL;
    freed++;
}

static const struct mqg_store_ops hand_ops = {
    .type = "hand",
    .caps = MQG_STORE_DURABLE | MQG_STORE_QUEUES | MQG_STORE_STREAMS | MQG_STORE_META,
    .open = hand_open,
    .recover = hand_recover,
    .start = hand_start,
    .extent_open = hand_extent,
    .submit = hand_submit,
    .stats = hand_stats,
    .close = hand_close,
    .stop = hand_stop,
    .fini = hand_fini,
};

/* A store without metadata: not to be the default one. */
static const struct mqg_store_ops bare_ops = {
    .type = "bare",
    .caps = MQG_STORE_STREAMS,
    .open = hand_open,
    .recover = hand_recover,
    .start = hand_start,
    .submit = hand_submit,
    .stats = hand_stats,
    .close = hand_close,
    .stop = hand_stop,
    .fini = hand_fini,
};

#ifdef MQG_MODULE_STATIC
#define MEMORY_MODULE mqg_module_memory
#else
#define MEMORY_MODULE mqg_module
#endif
extern const struct mqg_module MEMORY_MODULE;

/* ---- setting up ------------------------------------------------------------------------------------------------------ */

static const struct mqg_conf_row rows[] = {
    {"store", "default", MQG_CONF_STR, "main", 0, 0, NULL, ""},
    {"store.*", "type", MQG_CONF_STR, NULL, 0, 0, NULL, ""},
    {NULL, NULL, MQG_CONF_STR, NULL, 0, 0, NULL, NULL},
};

static struct mqg_conf *conf;

static enum mqg_err stores_open(const char *const *settings, struct mqg_error *e)
{
    for (uint32_t i = 0; i < WORKERS; i++)
        workers[i] = (struct mqg_worker){.index = i};
    memset(wakes, 0, sizeof(wakes));
    nseen = again_left = 0;
    closed = stopped = freed = 0;
    timer_armed = NULL;
    conf = mqg_conf_new();
    mqg_conf_schema(conf, rows);
    mqg_conf_schema(conf, MEMORY_MODULE.conf);
    for (; *settings; settings++)
        assert_int_equal(mqg_conf_set(conf, *settings, e), MQG_OK);
    assert_int_equal(mqg_conf_check(conf, e), MQG_OK);
    mqg_stores_register(&hand_ops);
    mqg_stores_register(&bare_ops);
    mqg_stores_register(MEMORY_MODULE.storage);
    return mqg_stores_open(conf, WORKERS + 1, e);
}

static void stores_up(const char *const *settings)
{
    struct mqg_error e = {0};
    struct mqg_recover r = {.arg = NULL};
    if (stores_open(settings, &e) != MQG_OK)
        fail_msg("%s", e.text);
    assert_int_equal(mqg_stores_recover(&r, &e), MQG_OK);
    assert_int_equal(mqg_stores_start(&e), MQG_OK);
    mqg_self_set(&workers[0]);
}

static int setup(void **state)
{
    static const char *const one[] = {"store.main.type=hand", NULL};
    stores_up(one);
    *state = mqg_storage_default();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mqg_self_set(NULL);
    mqg_stores_close();
    mqg_stores_fini();
    mqg_conf_free(&conf);
    return 0;
}

static void add_settle(struct mqg_storage *s, uint64_t qseq, bool urgent)
{
    struct mqg_range range = {qseq, qseq};
    struct mqg_store_op op = {.kind = MQG_OP_SETTLE, .settle = {7, &range, 1}};
    mqg_lane_add(s, &op, urgent);
    range = (struct mqg_range){0, 0}; /* copied by then */
}

/* ---- tickets --------------------------------------------------------------------------------------------------------- */

static void test_one_batch_per_turn(void **state)
{
    struct mqg_storage *s = *state;
    assert_false(mqg_lane_collected(s));
    assert_false(mqg_lanes_turn());
    assert_int_equal(nseen, 0);
    assert_int_equal(mqg_lane_ticket(s), 1);
    for (uint64_t i = 0; i < 5; i++)
        add_settle(s, 10 + i, false);
    assert_true(mqg_lane_collected(s));
    assert_int_equal(mqg_lane_ticket(s), 1); /* known before the submit */
    mqg_lanes_turn();
    assert_int_equal(nseen, 1);
    assert_int_equal(seen[0].ticket, 1);
    assert_int_equal(seen[0].lane, 0);
    assert_int_equal(seen[0].n, 5);
    assert_int_equal(seen[0].qseq, 14);
    assert_int_equal(seen[0].flags, 0);
    assert_int_equal(mqg_lane_ticket(s), 2);
    mqg_lanes_turn();
    assert_int_equal(nseen, 1);
}

static void test_lanes_have_tickets_of_their_own(void **state)
{
    struct mqg_storage *s = *state;
    add_settle(s, 1, false);
    mqg_lanes_turn();
    mqg_self_set(&workers[1]);
    add_settle(s, 2, false);
    mqg_lanes_turn();
    mqg_self_set(NULL); /* the main thread's lane is the last */
    assert_int_equal(mqg_meta_put(MQG_SLICE_LIT("k"), MQG_SLICE_LIT("v")), 1);
    assert_int_equal(nseen, 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(seen[i].lane, i);
        assert_int_equal(seen[i].ticket, 1);
    }
}

static void test_urgent_when_said_or_waited_for(void **state)
{
    struct mqg_storage *s = *state;
    add_settle(s, 1, true);
    mqg_lanes_turn();
    assert_int_equal(seen[0].flags, MQG_SUBMIT_URGENT);
    add_settle(s, 2, false);
    mqg_lanes_turn();
    assert_int_equal(seen[1].flags, 0);
}

static void test_meta_in_the_middle_of_a_turn(void **state)
{
    struct mqg_storage *s = *state;
    add_settle(s, 1, false);
    uint64_t ticket = mqg_meta_put(MQG_SLICE_LIT("q/a"), MQG_SLICE_LIT("def"));
    assert_int_equal(ticket, 1); /* what was collected before goes with it, in order */
    assert_int_equal(nseen, 1);
    assert_int_equal(seen[0].n, 2);
    assert_int_equal(seen[0].kinds[0], MQG_OP_SETTLE);
    assert_int_equal(seen[0].kinds[1], MQG_OP_META);
    assert_string_equal(seen[0].key, "q/a");
    assert_string_equal(seen[0].value, "def");
    assert_int_equal(seen[0].flags, MQG_SUBMIT_URGENT | MQG_SUBMIT_CONTROL);
    add_settle(s, 2, false);
    assert_int_equal(mqg_lane_ticket(s), 2);
    mqg_lanes_turn();
    assert_int_equal(seen[1].ticket, 2);
    assert_int_equal(mqg_meta_remove(MQG_SLICE_LIT("q/a")), 3);
}

/* ---- pressure -------------------------------------------------------------------------------------------------------- */

static void pressed(bool blocked, const char *why);
static int pressed_now = -1;

static void pressed(bool blocked, const char *why)
{
    (void)why;
    pressed_now = blocked;
}

static void test_again_is_kept_and_tried_again(void **state)
{
    struct mqg_storage *s = *state;
    pressed_now = -1;
    mqg_stores_on_pressure(pressed);
    again_left = 2;
    add_settle(s, 1, false);
    mqg_lanes_turn();
    assert_int_equal(nseen, 0);
    assert_int_equal(pressed_now, true); /* or the batch would grow for ever */
    assert_non_null(timer_armed);        /* so that a quiet worker tries again */
    assert_true(mqg_lane_collected(s));
    assert_int_equal(mqg_lane_ticket(s), 1);
    add_settle(s, 2, false); /* joins what waits */
    mqg_lanes_turn();
    assert_int_equal(nseen, 0);
    mqg_lanes_turn();
    assert_int_equal(nseen, 1);
    assert_int_equal(seen[0].ticket, 1);
    assert_int_equal(seen[0].n, 2);
    assert_int_equal(mqg_lane_ticket(s), 2);
    assert_false(mqg_lane_collected(s));
    assert_int_equal(pressed_now, false);
}

/* A message for a new queue may come by another lane right after: its definition must be in the log by then. */
static void test_definitions_are_marked(void **state)
{
    struct mqg_storage *s = *state;
    add_settle(s, 1, false);
    mqg_lanes_turn();
    assert_int_equal(seen[0].flags & MQG_SUBMIT_CONTROL, 0);
    add_settle(s, 2, false);
    mqg_meta_put(MQG_SLICE_LIT("q/a"), MQG_SLICE_LIT("1"));
    assert_int_equal(seen[1].flags & MQG_SUBMIT_CONTROL, MQG_SUBMIT_CONTROL);
    add_settle(s, 3, false);
    mqg_lanes_turn();
    assert_int_equal(seen[2].flags & MQG_SUBMIT_CONTROL, 0);
}

static void test_pressure_is_passed_on_once(void **state)
{
    struct mqg_storage *s = *state;
    mqg_stores_on_pressure(pressed);
    pressed_now = -1;
    host.pressure(host.host, true, "full");
    assert_int_equal(pressed_now, true);
    assert_true(atomic_load(&s->blocked));
    pressed_now = -1;
    host.pressure(host.host, true, "full");
    assert_int_equal(pressed_now, -1);
    host.pressure(host.host, false, "room");
    assert_int_equal(pressed_now, false);
}

/* ---- waiting --------------------------------------------------------------------------------------------------------- */

struct waited {
    struct mqg_waiter w; /* first */
    uint32_t order;
    enum mqg_err err;
};

static uint32_t fired;

static void waited_fire(struct mqg_waiter *w, enum mqg_err err)
{
    struct waited *x = (struct waited *)w;
    x->order = ++fired;
    x->err = err;
}

static void wait_for(struct mqg_storage *s, struct waited *x, uint64_t ticket)
{
    *x = (struct waited){.w = {.ticket = ticket, .fire = waited_fire}};
    mqg_lane_wait(s, &x->w);
}

static void submit_some(struct mqg_storage *s, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        add_settle(s, i, false);
        mqg_lane_submit(s);
    }
}

static void test_waiters_fire_by_ticket(void **state)
{
    struct mqg_storage *s = *state;
    struct waited x[5];
    static const uint64_t tickets[] = {3, 1, 2, 3, 1};
    fired = 0;
    submit_some(s, 3);
    for (uint32_t i = 0; i < 5; i++)
        wait_for(s, &x[i], tickets[i]);
    host.done(host.host, 0, 1);
    assert_true(mqg_lanes_turn());
    assert_int_equal(fired, 2);
    assert_int_equal(x[1].order, 1); /* equal tickets in the order they came */
    assert_int_equal(x[4].order, 2);
    assert_false(mqg_lanes_turn());
    host.done(host.host, 0, 3);
    assert_int_equal(mqg_lane_done(s), 3);
    assert_true(mqg_lanes_turn());
    assert_int_equal(x[2].order, 3);
    assert_int_equal(x[0].order, 4);
    assert_int_equal(x[3].order, 5);
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(x[i].err, MQG_OK);
}

static void test_wakes_only_who_waits(void **state)
{
    struct mqg_storage *s = *state;
    struct waited x;
    fired = 0;
    submit_some(s, 3);
    host.done(host.host, 0, 1);
    assert_int_equal(wakes[0], 0); /* nobody waits: settles wake nobody */
    wait_for(s, &x, 3);
    assert_int_equal(wakes[0], 0);
    host.done(host.host, 0, 2);
    assert_int_equal(wakes[0], 0);
    host.done(host.host, 0, 3);
    assert_int_equal(wakes[0], 1);
    assert_int_equal(wakes[1], 0);
    mqg_lanes_turn();
    assert_int_equal(fired, 1);
    submit_some(s, 1);
    host.done(host.host, 0, 4);
    assert_int_equal(wakes[0], 1);
}

static void test_waiting_for_what_is_done(void **state)
{
    struct mqg_storage *s = *state;
    struct waited x;
    fired = 0;
    submit_some(s, 1);
    host.done(host.host, 0, 1);
    wait_for(s, &x, 1);
    assert_int_equal(wakes[0], 1); /* no done will come any more: the worker takes another turn */
    assert_true(mqg_lanes_turn());
    assert_int_equal(fired, 1);
}

static void test_a_waiter_makes_its_batch_urgent(void **state)
{
    struct mqg_storage *s = *state;
    struct waited x;
    add_settle(s, 1, false);
    wait_for(s, &x, mqg_lane_ticket(s));
    mqg_lanes_turn();
    assert_int_equal(seen[0].flags, MQG_SUBMIT_URGENT);
    mqg_lane_unwait(s, &x.w);
}

static void test_unwait(void **state)
{
    struct mqg_storage *s = *state;
    struct waited x[4];
    fired = 0;
    submit_some(s, 2);
    for (uint32_t i = 0; i < 3; i++)
        wait_for(s, &x[i], 1);
    mqg_lane_unwait(s, &x[2].w); /* the last one: the end moves */
    wait_for(s, &x[3], 2);
    mqg_lane_unwait(s, &x[0].w); /* the first one */
    mqg_lane_unwait(s, &x[0].w); /* twice does no harm */
    host.done(host.host, 0, 2);
    mqg_lanes_turn();
    assert_int_equal(fired, 2);
    assert_int_equal(x[1].order, 1);
    assert_int_equal(x[3].order, 2);
    submit_some(s, 1);
    wait_for(s, &x[0], 3);
    mqg_lane_unwait(s, &x[0].w);
    uint32_t before = wakes[0];
    host.done(host.host, 0, 3);
    assert_int_equal(wakes[0], before); /* nobody is left */
}

struct chained {
    struct mqg_waiter w;
    struct mqg_storage *s;
    struct waited *next;
};

static void chained_fire(struct mqg_waiter *w, enum mqg_err err)
{
    struct chained *c = (struct chained *)w;
    assert_int_equal(err, MQG_OK);
    add_settle(c->s, 9, false);
    wait_for(c->s, c->next, mqg_lane_ticket(c->s));
}

static void test_a_waiter_may_wait_again(void **state)
{
    struct mqg_storage *s = *state;
    struct waited next;
    struct chained c = {.w = {.ticket = 1, .fire = chained_fire}, .s = s, .next = &next};
    fired = 0;
    submit_some(s, 1);
    mqg_lane_wait(s, &c.w);
    host.done(host.host, 0, 1);
    assert_true(mqg_lanes_turn());
    assert_int_equal(fired, 0);
    mqg_lanes_turn();
    assert_int_equal(seen[1].ticket, 2);
    assert_int_equal(seen[1].flags, MQG_SUBMIT_URGENT);
    host.done(host.host, 0, 2);
    mqg_lanes_turn();
    assert_int_equal(fired, 1);
}

/* ---- failure --------------------------------------------------------------------------------------------------------- */

static uint32_t failures;

static void failed_told(const char *text)
{
    assert_non_null(strstr(text, "disk on fire"));
    failures++;
}

static void test_failure_fires_with_an_error(void **state)
{
    struct mqg_storage *s = *state;
    struct waited x[2];
    fired = failures = 0;
    mqg_stores_on_failure(failed_told);
    mqg_log_level_set(MQG_LOG_ERROR);
    submit_some(s, 2);
    wait_for(s, &x[0], 2);
    add_settle(s, 5, false);
    wait_for(s, &x[1], 3); /* of a batch that is not yet submitted */
    assert_null(mqg_stores_failure());
    host.failed(host.host, MQG_IO, "disk on fire");
    host.failed(host.host, MQG_IO, "disk on fire");
    assert_int_equal(failures, 1);
    assert_non_null(strstr(mqg_stores_failure(), "store main failed: disk on fire"));
    assert_true(mqg_lanes_turn());
    assert_int_equal(fired, 2);
    assert_int_equal(x[0].err, MQG_IO);
    assert_int_equal(x[1].err, MQG_IO);
    wait_for(s, &x[0], 4);
    mqg_lanes_turn();
    assert_int_equal(fired, 3); /* later ones too: nothing is confirmed any more */
}

/* ---- what ops point to ------------------------------------------------------------------------------------------------ */

static void test_large_ropes_last_until_done(void **state)
{
    struct mqg_storage *s = *state;
    size_t len = 200000;
    uint8_t *bytes = mqg_xmalloc(len);
    memset(bytes, 0xab, len);
    struct mqg_slice rope = mqg_slice_of(bytes, len);
    struct mqg_store_op op = {.kind = MQG_OP_APPEND, .append = {1, 0, 1, 0, &rope, 1}};
    mqg_lane_add(s, &op, true);
    memset(bytes, 0, len);
    mqg_lanes_turn();
    for (int turn = 0; turn < 4; turn++) { /* later turns use the lane's memory again */
        char value[1000];
        memset(value, turn, sizeof(value));
        struct mqg_store_op meta = {.kind = MQG_OP_META,
                                    .meta = {MQG_SLICE_LIT("k"), mqg_slice_of(value, sizeof(value)), false}};
        for (int i = 0; i < 300; i++)
            mqg_lane_add(s, &meta, false);
        mqg_lanes_turn();
    }
    assert_int_equal(seen[0].rope_len, len);
    for (size_t i = 0; i < len; i++)
        if (seen[0].rope[i] != 0xab)
            fail_msg("byte %zu was changed before the batch was done", i);
    host.done(host.host, 0, 5);
    mqg_lanes_turn(); /* freed here: the address sanitizer sees to the rest */
    free(bytes);
}

static void test_ops_are_copied(void **state)
{
    struct mqg_storage *s = *state;
    char key[16] = "k", value[16];
    for (int i = 0; i < 1000; i++) {
        snprintf(value, sizeof(value), "%d", i);
        struct mqg_store_op op = {.kind = MQG_OP_META,
                                  .meta = {mqg_slice_str(key), mqg_slice_str(value), false}};
        mqg_lane_add(s, &op, false);
        memset(value, 'x', sizeof(value));
    }
    mqg_lanes_turn();
    assert_int_equal(seen[0].n, 1000);
    assert_string_equal(seen[0].value, "999");
}

/* ---- configured stores ------------------------------------------------------------------------------------------------ */

static void expect_refused(const char *const *settings, enum mqg_err want, const char *text)
{
    struct mqg_error e = {0};
    assert_int_equal(stores_open(settings, &e), want);
    if (!strstr(e.text, text))
        fail_msg("the refusal does not say \"%s\": %s", text, e.text);
    mqg_stores_fini();
    mqg_conf_free(&conf);
}

static void test_refusals(void **state)
{
    (void)state;
    static const char *const unknown[] = {"store.main.type=paper", NULL};
    static const char *const elsewhere[] = {"store.other.type=hand", NULL};
    static const char *const bare[] = {"store.main.type=bare", NULL};
    expect_refused(unknown, MQG_INVALID, "no such storage module");
    expect_refused(elsewhere, MQG_INVALID, "there is no [store.main]");
    expect_refused(bare, MQG_UNSUPPORTED, "keeps no metadata");
}

static void test_two_stores(void **state)
{
    (void)state;
    static const char *const two[] = {"store.main.type=hand", "store.fast.type=memory", NULL};
    stores_up(two);
    struct mqg_storage *main_store = mqg_storage_default(),
                       *fast = mqg_storage_by_name(MQG_SLICE_LIT("fast"));
    assert_non_null(fast);
    assert_ptr_equal(mqg_storage_at(0), main_store);
    assert_ptr_equal(mqg_storage_at(1), fast);
    assert_null(mqg_storage_at(2));
    struct waited x;
    fired = 0;
    add_settle(main_store, 1, false);
    add_settle(fast, 1, false);
    wait_for(fast, &x, 1);
    assert_true(mqg_lanes_turn()); /* memory is done at once */
    assert_int_equal(fired, 1);
    assert_int_equal(nseen, 1);
    assert_int_equal(mqg_lane_done(main_store), 0);
    void *none = NULL;
    teardown(&none);
    assert_int_equal(closed, 1);
    assert_int_equal(stopped, 1);
    assert_int_equal(freed, 1);
}

/* A message's way through the lane into the memory store and back. */
static void test_a_message_in_memory(void **state)
{
    (void)state;
    static const char *const memory[] = {"store.main.type=memory", NULL};
    stores_up(memory);
    struct mqg_storage *s = mqg_storage_default();
    struct mqg_msg_parts parts = {
        .flags = MQG_MSG_PERSISTENT, .key_sep = '.', .key = MQG_SLICE_LIT("k"), .body_len = 3};
    struct mqg_msg *m = mqg_msg_new(&parts);
    memcpy(mqg_msg_body_mut(m), "abc", 3);
    struct mqg_extent *x = mqg_lane_extent(s);
    m->extent = x;
    mqg_extent_take(x, 1);
    struct mqg_dest dest = {1, 1};
    struct mqg_store_op op = {.kind = MQG_OP_MSG, .msg = {mqg_msg_ref(m), &dest, 1}};
    struct waited w;
    fired = 0;
    wait_for(s, &w, mqg_lane_ticket(s));
    mqg_lane_add(s, &op, true);
    assert_int_equal(atomic_load(&m->refs), 2);
    assert_true(mqg_lanes_turn());
    assert_int_equal(fired, 1);
    assert_int_equal(atomic_load(&m->refs), 2); /* ours, and the store's for the lane's */
    assert_true(atomic_load(&x->place) != MQG_PLACE_NONE);
    assert_ptr_not_equal(mqg_lane_extent(s), x);
    mqg_extent_give(x, 1);
    assert_int_equal(atomic_load(&m->refs), 1);
    mqg_msg_unref(&m);
    void *none = NULL;
    teardown(&none);
}

#define WITH_HAND(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        WITH_HAND(test_one_batch_per_turn),
        WITH_HAND(test_lanes_have_tickets_of_their_own),
        WITH_HAND(test_urgent_when_said_or_waited_for),
        WITH_HAND(test_meta_in_the_middle_of_a_turn),
        WITH_HAND(test_again_is_kept_and_tried_again),
        WITH_HAND(test_definitions_are_marked),
        WITH_HAND(test_pressure_is_passed_on_once),
        WITH_HAND(test_waiters_fire_by_ticket),
        WITH_HAND(test_wakes_only_who_waits),
        WITH_HAND(test_waiting_for_what_is_done),
        WITH_HAND(test_a_waiter_makes_its_batch_urgent),
        WITH_HAND(test_unwait),
        WITH_HAND(test_a_waiter_may_wait_again),
        WITH_HAND(test_failure_fires_with_an_error),
        WITH_HAND(test_large_ropes_last_until_done),
        WITH_HAND(test_ops_are_copied),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_two_stores),
        cmocka_unit_test(test_a_message_in_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
