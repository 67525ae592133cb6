/* ops.c - the fixture's batches, messages, loads and reads: what a worker of the host would do, and waiting for it. */
#include "fix.h"

#include <time.h>

/* ---- batches ----------------------------------------------------------------------------------------------------------- */

uint64_t fix_submit_flags(struct fix *f, uint32_t lane, const struct mqg_store_op *ops, size_t n,
                          unsigned flags)
{
    struct fix_lane *l = &f->lanes[lane];
    uint64_t ticket = atomic_load(&l->submitted) + 1;
    bool fills = false;
    for (size_t i = 0; i < n; i++)
        fills = fills || ops[i].kind == MQG_OP_MSG;
    atomic_store(&l->submitted, ticket); /* before: done may come from inside */
    uint64_t until = fix_now_ms() + FIX_WAIT_MS;
    enum mqg_err err;
    ops = held_ops(&l->held, ops, n);
    while ((err = f->ops->submit(f->store, lane, ops, n, ticket, flags)) == MQG_AGAIN && fix_now_ms() < until)
        fix_pause();
    if (err != MQG_OK)
        fix_broke(f, "submit answered %s", mqg_err_name(err));
    if (fills)
        l->current = NULL;
    return ticket;
}

uint64_t fix_submit(struct fix *f, uint32_t lane, const struct mqg_store_op *ops, size_t n)
{
    return fix_submit_flags(f, lane, ops, n, MQG_SUBMIT_URGENT);
}

/* Waits under the lock until the condition holds or the time is over. */

static bool fix_until(struct fix *f, bool (*holds)(struct fix *f, uint64_t a, uint64_t b), uint64_t a,
                      uint64_t b)
{
    struct timespec until = mqg_wait_until(FIX_WAIT_MS);
    int r = 0;
    pthread_mutex_lock(&f->lock);
    while (!holds(f, a, b) && r == 0)
        r = pthread_cond_timedwait(&f->moved, &f->lock, &until);
    bool held = holds(f, a, b);
    pthread_mutex_unlock(&f->lock);
    return held;
}

static bool until_done(struct fix *f, uint64_t lane, uint64_t ticket)
{
    return f->lanes[lane].done >= ticket || f->failed;
}

bool fix_wait(struct fix *f, uint32_t lane, uint64_t ticket)
{
    return fix_until(f, until_done, lane, ticket) && !f->failed;
}

void fix_do(struct fix *f, uint32_t lane, const struct mqg_store_op *ops, size_t n)
{
    assert_true(fix_wait(f, lane, fix_submit(f, lane, ops, n)));
}

/* ---- extents ----------------------------------------------------------------------------------------------------------- */

struct mqg_extent *fix_extent(struct fix *f, uint32_t lane)
{
    struct fix_lane *l = &f->lanes[lane];
    struct mqg_extent *x = f->ops->extent_open(f->store, lane);
    if (x == l->current)
        return x;
    if (l->current)
        fix_broke(f, "another extent before the batch was submitted");
    if (atomic_load(&x->live) != 1)
        fix_broke(f, "a new extent with live = %lld", (long long)atomic_load(&x->live));
    if (atomic_load(&x->place) != MQG_PLACE_NONE)
        fix_broke(f, "a new extent has a place");
    l->current = x;
    x->ops = &f->counted;
    pthread_mutex_lock(&f->lock);
    f->opened++;
    pthread_mutex_unlock(&f->lock);
    return x;
}

bool fix_dead_reach(struct fix *f, uint64_t dead)
{
    struct mqg_store_stats st;
    uint64_t until = fix_now_ms() + FIX_WAIT_MS;
    do {
        f->ops->stats(f->store, &st);
        if (fix_opened(f) >= dead + st.live_extents)
            return fix_opened(f) == dead + st.live_extents;
        fix_pause();
    } while (fix_now_ms() < until);
    return false;
}

uint64_t fix_dead(struct fix *f)
{
    pthread_mutex_lock(&f->lock);
    uint64_t dead = f->dead;
    pthread_mutex_unlock(&f->lock);
    return dead;
}

uint64_t fix_opened(struct fix *f)
{
    pthread_mutex_lock(&f->lock);
    uint64_t opened = f->opened;
    pthread_mutex_unlock(&f->lock);
    return opened;
}

/* ---- messages ---------------------------------------------------------------------------------------------------------- */

struct mqg_msg *fix_msg(uint64_t seed, uint32_t body_bytes)
{
    char key[32], origin[16];
    snprintf(key, sizeof(key), "key.%llu", (unsigned long long)seed);
    snprintf(origin, sizeof(origin), "o%llu", (unsigned long long)(seed % 1000));
    struct mqg_msg_parts parts = {
        .proto = MQG_PROTO_AMQP091,
        .flags = (uint8_t)(MQG_MSG_PERSISTENT | (seed % 2 ? MQG_MSG_HAS_TTL : 0)),
        .priority = (uint8_t)(seed % 10),
        .key_sep = '.',
        .ttl_ms = seed % 2 ? 60000 + seed : 0,
        .exchange = MQG_SLICE_LIT("suite"),
        .key = mqg_slice_str(key),
        .user = MQG_SLICE_LIT("guest"),
        .origin = mqg_slice_str(origin),
        .body_len = body_bytes,
    };
    struct mqg_msg *m = mqg_msg_new(&parts);
    MQG_ASSERT(m != NULL);
    uint8_t *body = mqg_msg_body_mut(m);
    for (uint32_t i = 0; i < body_bytes; i++)
        body[i] = (uint8_t)((seed + 1) * 2654435761u + i * 40503u + (i >> 9));
    return m;
}

struct mqg_store_op fix_op_msg(struct fix *f, uint32_t lane, struct mqg_msg *m, const struct mqg_dest *dests,
                               uint32_t ndest)
{
    if (!m->extent)
        m->extent = fix_extent(f, lane);
    mqg_extent_take(m->extent, ndest);
    return (struct mqg_store_op){.kind = MQG_OP_MSG, .msg = {m, dests, ndest}};
}

struct mqg_store_op fix_op_settle(uint64_t queue_id, const struct mqg_range *ranges, uint32_t n)
{
    return (struct mqg_store_op){.kind = MQG_OP_SETTLE, .settle = {queue_id, ranges, n}};
}

struct mqg_msg *fix_put(struct fix *f, uint32_t lane, uint64_t queue_id, uint64_t qseq, uint64_t seed,
                        uint32_t body_bytes)
{
    struct mqg_msg *m = fix_msg(seed, body_bytes);
    struct mqg_dest dest = {queue_id, qseq};
    struct mqg_store_op op = fix_op_msg(f, lane, m, &dest, 1);
    fix_do(f, lane, &op, 1);
    return m;
}

void fix_settle(struct fix *f, uint32_t lane, uint64_t queue_id, uint64_t qseq, struct mqg_extent *x)
{
    struct mqg_range range = {qseq, qseq};
    struct mqg_store_op op = fix_op_settle(queue_id, &range, 1);
    fix_do(f, lane, &op, 1);
    mqg_extent_give(x, 1);
}

bool fix_same(const struct mqg_msg *a, const struct mqg_msg *b)
{
    return mqg_slice_eq(mqg_msg_stored(a), mqg_msg_stored(b));
}

/* ---- asking and waiting for the answer --------------------------------------------------------------------------------- */

struct ask {
    struct fix *fix;
    uint32_t answers; /* under the fixture's lock */
};

static void ask_answered(struct ask *a)
{
    struct fix *f = a->fix;
    pthread_mutex_lock(&f->lock);
    a->answers++;
    pthread_cond_broadcast(&f->moved);
    pthread_mutex_unlock(&f->lock);
}

static bool until_answer(struct fix *f, uint64_t ask, uint64_t unused)
{
    (void)f;
    (void)unused;
    return ((struct ask *)(uintptr_t)ask)->answers > 0;
}

static void ask_wait(struct ask *a, const char *what)
{
    if (!fix_until(a->fix, until_answer, (uint64_t)(uintptr_t)a, 0)) {
        fprintf(stderr, "%s: no answer in %d ms\n", what, FIX_WAIT_MS);
        abort(); /* the request's memory is still the adapter's: nothing can go on */
    }
}

static void load_answered(struct mqg_load_req *req)
{
    ask_answered(req->arg);
}

void fix_load(struct fix *f, uint32_t lane, struct mqg_load *items, uint32_t n)
{
    struct ask ask = {f, 0};
    struct mqg_load_req req = {.items = items, .n = n, .lane = lane, .done = load_answered, .arg = &ask};
    f->ops->load(f->store, &req);
    ask_wait(&ask, "load");
    for (uint32_t i = 0; i < n; i++)
        if (items[i].err != MQG_OK || !items[i].msg)
            fix_broke(f, "load: item %u: %s", i, mqg_err_name(items[i].err));
}

void fix_found_same(struct fix *f, uint64_t queue_id, uint64_t qseq, const struct mqg_msg *m)
{
    const struct fix_msg *found = fix_found(f, queue_id, qseq);
    if (!found)
        fail_msg("message %llu of queue %llx is not there", (unsigned long long)qseq,
                 (unsigned long long)queue_id);
    assert_int_equal(found->len, m->total_len);
    assert_int_equal(found->head.priority, m->st.priority);
    assert_int_equal(found->head.flags, m->st.flags);
    assert_int_equal(found->head.append_us, m->st.append_us);
    assert_int_equal(found->head.ttl_ms, m->st.ttl_ms);
    assert_int_equal(found->head.body_len, m->st.body_len);
    struct mqg_load item = {.extent = found->extent, .off = found->off, .len = found->len};
    fix_load(f, 0, &item, 1);
    assert_non_null(item.msg);
    assert_true(fix_same(item.msg, m));
    mqg_msg_unref(&item.msg);
}

/* ---- streams ----------------------------------------------------------------------------------------------------------- */

static struct mqg_store_op stream_definition(uint64_t partition, char name[40])
{
    snprintf(name, 40, "suite-%016llx", (unsigned long long)partition);
    return (struct mqg_store_op){.kind = MQG_OP_STREAM_NEW, .stream = {partition, mqg_slice_str(name), 0}};
}

uint64_t fix_stream_new(struct fix *f)
{
    static _Atomic uint32_t counter;
    uint64_t partition = (mqg_random_u64() << 16) + atomic_fetch_add(&counter, 1) + 1;
    char name[40];
    struct mqg_store_op op = stream_definition(partition, name);
    fix_do(f, 0, &op, 1);
    return partition;
}

void fix_stream_again(struct fix *f, uint64_t partition)
{
    if (f->caps & MQG_STORE_META)
        return;
    char name[40];
    struct mqg_store_op op = stream_definition(partition, name);
    fix_do(f, 0, &op, 1);
}

static bool until_ready(struct fix *f, uint64_t partition, uint64_t count)
{
    uint64_t n = 0;
    for (size_t i = 0; i < f->ready.n; i++)
        n += (uint64_t)(uintptr_t)f->ready.items[i] == partition;
    return n >= count;
}

uint32_t fix_ready_count(struct fix *f, uint64_t partition)
{
    uint32_t n = 0;
    pthread_mutex_lock(&f->lock);
    while (until_ready(f, partition, n + 1))
        n++;
    pthread_mutex_unlock(&f->lock);
    return n;
}

bool fix_ready_reach(struct fix *f, uint64_t partition, uint32_t count)
{
    return fix_until(f, until_ready, partition, count);
}

static void read_answered(struct mqg_stream_read *r)
{
    ask_answered(r->arg);
}

struct mqg_stream_read fix_read(struct fix *f, uint64_t partition, uint64_t offset, uint32_t max_bytes,
                                bool durable_only)
{
    struct ask ask = {f, 0};
    struct mqg_stream_read r = {.partition = partition,
                                .offset = offset,
                                .max_bytes = max_bytes,
                                .durable_only = durable_only,
                                .err = MQG_INVALID,
                                .done = read_answered,
                                .arg = &ask};
    f->ops->stream_read(f->store, &r);
    ask_wait(&ask, "stream_read");
    return r;
}

bool fix_high_reach(struct fix *f, uint64_t partition, uint64_t high)
{
    struct mqg_stream_bounds b;
    uint64_t until = fix_now_ms() + FIX_WAIT_MS;
    do {
        if (f->ops->stream_bounds(f->store, partition, &b) == MQG_OK && b.high_watermark >= high)
            return b.high_watermark == high;
        fix_pause();
    } while (fix_now_ms() < until);
    return false;
}

static void time_answered(struct mqg_time_req *req)
{
    ask_answered(req->arg);
}

enum mqg_err fix_time(struct fix *f, uint64_t partition, uint64_t time_ms, uint64_t *offset)
{
    struct ask ask = {f, 0};
    struct mqg_time_req req = {
        .partition = partition, .time_ms = time_ms, .err = MQG_INVALID, .done = time_answered, .arg = &ask};
    f->ops->offset_for_time(f->store, &req);
    ask_wait(&ask, "offset_for_time");
    *offset = req.offset;
    return req.err;
}

static void position_answered(struct mqg_position_req *req)
{
    ask_answered(req->arg);
}

enum mqg_err fix_position(struct fix *f, const char *group, uint64_t partition, uint64_t *offset)
{
    struct ask ask = {f, 0};
    struct mqg_position_req req = {.group = mqg_slice_str(group),
                                   .partition = partition,
                                   .err = MQG_INVALID,
                                   .done = position_answered,
                                   .arg = &ask};
    f->ops->position_get(f->store, &req);
    ask_wait(&ask, "position_get");
    *offset = req.offset;
    return req.err;
}
