/* txn_table.c - transactional ids and the waits for their changes.
 *
 * A wait outlives the connection that asked: what was decided is carried through, whoever hears of it. It also waits until every
 * marker is below its partition's high watermark: a marker behind a gap could be lost in a crash, and the record that names it
 * may be replaced by the next transaction's only when that cannot happen any more. */
#include "txn_table.h"
#include "producer_part.h"

#include <pthread.h>
#include <stdlib.h>

enum { WAIT_AGAIN_MS = 2, RECORD_BYTES_MAX = 64 << 20 };

/* One wait: a ticket, and then perhaps high watermarks. */
struct txn_wait {
    struct mqg_waiter waiter;
    struct mqg_timer timer;
    struct txn_wait *next, **prev;
    struct kafka_call *call;
    void (*done)(struct kafka_call *call);
    size_t n;
    struct kafka_txn *txns[];
};

static pthread_mutex_t txns_lock = PTHREAD_MUTEX_INITIALIZER;
static struct mqg_map txns = {.keys = MQG_MAP_BORROW};
static struct txn_wait *waits;
static _Atomic uint32_t ids_given;
static struct mqg_worker *clock_worker;
static struct mqg_task *clock_task;
static bool clock_fast = true; /* it goes every second */
static bool clock_posted;      /* the task is on its way */

void kafka_txns_lock(void)
{
    pthread_mutex_lock(&txns_lock);
}

void kafka_txns_unlock(void)
{
    pthread_mutex_unlock(&txns_lock);
}

/* The start's epoch is durable before anybody is served, and no two starts have the same. */
int64_t kafka_producer_id_new(void)
{
    return (int64_t)((uint64_t)(uint32_t)mqg_stream_epoch() << 32 | atomic_fetch_add(&ids_given, 1));
}

/* ---- finding ---------------------------------------------------------------------------------------------------------------- */

static struct kafka_txn *txns_look(struct mqg_vhost *v, struct mqg_slice id, bool make)
{
    struct kafka_txn *t = kafka_txn_new(mqg_vhost_name(v), id);
    struct kafka_txn *found = mqg_map_get(&txns, t->key);
    if (found == NULL && make) {
        (void)mqg_map_set(&txns, t->key, t);
        return t;
    }
    kafka_txn_free(&t);
    return found;
}

struct kafka_txn *kafka_txns_find(struct mqg_vhost *v, struct mqg_slice id)
{
    return txns_look(v, id, false);
}

struct kafka_txn *kafka_txns_take(struct mqg_vhost *v, struct mqg_slice id)
{
    return txns_look(v, id, true);
}

void kafka_txns_each(void (*visit)(void *arg, struct kafka_txn *t), void *arg)
{
    for (struct mqg_map_iter it = {.left = 0}; mqg_map_next(&txns, &it);)
        visit(arg, it.value);
}

size_t kafka_txns_count(void)
{
    return txns.count;
}

/* ---- writing ---------------------------------------------------------------------------------------------------------------- */

static void txn_put(struct kafka_txn *t, bool remove)
{
    struct mqg_dynbuf key, value;
    mqg_dynbuf_init(&key, KAFKA_TXN_ID_MAX * 4);
    mqg_dynbuf_init(&value, RECORD_BYTES_MAX);
    kafka_txn_record_key(t, &key);
    if (!remove)
        kafka_txn_record(t, &value);
    MQG_ASSERT(!key.failed && !value.failed);
    struct mqg_store_op op = {.kind = MQG_OP_META,
                              .meta = {mqg_dynbuf_view(&key), mqg_dynbuf_view(&value), remove}};
    mqg_lane_add(mqg_storage_default(), &op, true);
    mqg_dynbuf_fini(&key);
    mqg_dynbuf_fini(&value);
}

void kafka_txns_write(struct kafka_txn *t)
{
    t->busy++;
    t->writer = mqg_worker_self();
    t->update_ms = mqg_clock_now().wall_us / 1000;
    txn_put(t, false);
    if (t->state != KAFKA_TXN_ONGOING || clock_fast || clock_posted || clock_task == NULL)
        return;
    clock_posted = true;
    mqg_worker_post(clock_worker, clock_task);
}

void kafka_txns_clock(struct mqg_worker *w, struct mqg_task *hurry)
{
    kafka_txns_lock();
    clock_worker = w;
    clock_task = hurry;
    clock_fast = true;
    kafka_txns_unlock();
}

void kafka_txns_clock_said(bool open)
{
    clock_fast = open;
}

void kafka_txns_clock_hurried(void)
{
    clock_fast = true;
    clock_posted = false;
}

void kafka_txns_drop(struct kafka_txn *t)
{
    MQG_ASSERT(!t->busy && t->state != KAFKA_TXN_ONGOING);
    txn_put(t, true);
    (void)mqg_map_del(&txns, t->key);
    kafka_txn_free(&t);
}

void kafka_txns_abandon(struct kafka_txn *t)
{
    kafka_txn_forget(t);
    t->state = KAFKA_TXN_EMPTY;
    kafka_txns_drop(t);
}

void kafka_txns_erase(struct kafka_txn *t)
{
    txn_put(t, true);
}

static void end_part(const struct kafka_txn *t, struct kafka_txn_part *part, bool commit)
{
    struct kafka_marker m = {.producer_id = t->producer_id, .epoch = t->epoch, .commit = commit};
    struct mqg_partition *p = mqg_partition_find(part->partition);
    part->marker = MQG_OFFSET_NONE;
    if (p == NULL)
        return;
    struct mqg_stream *s = mqg_partition_stream(p);
    if (kafka_part_end(p, &m) == MQG_OK)
        part->marker = m.offset;
    mqg_stream_unref(&s);
}

void kafka_txns_end(struct kafka_txn *t, bool commit)
{
    struct mqg_vhost *v = mqg_vhost_find(t->vhost);
    kafka_txn_prepare(t, commit);
    for (size_t i = 0; i < t->nparts; i++)
        end_part(t, &t->parts[i], commit);
    for (size_t i = 0; commit && v != NULL && i < t->groups.n; i++)
        kafka_offsets_write(v, ((struct kafka_txn_group *)t->groups.items[i])->name, t->producer_id);
    kafka_txns_write(t);
}

/* ---- requests that came while it was busy ------------------------------------------------------------------------------- */

/* In the call's arena. */
struct parked {
    struct parked *next, **prev; /* prev NULL: woken */
    struct kafka_call *call;
    void (*again)(struct kafka_call *call);
};

static void parked_unlink(struct parked *p)
{
    if (p->prev == NULL)
        return;
    *p->prev = p->next;
    if (p->next != NULL)
        p->next->prev = p->prev;
    p->prev = NULL;
}

static void parked_gone(struct kafka_call *call)
{
    kafka_txns_lock();
    parked_unlink(call->owner);
    kafka_txns_unlock();
}

static void parked_resume(struct kafka_call *call)
{
    struct parked *p = call->owner;
    call->gone = call->resume = NULL;
    call->owner = NULL;
    p->again(call);
}

bool kafka_txns_park(struct kafka_txn *t, struct kafka_call *call, void (*again)(struct kafka_call *call))
{
    struct parked *p = kafka_call_alloc(call, 1, sizeof(*p));
    if (p == NULL)
        return false;
    *p = (struct parked){.call = call, .again = again};
    struct parked **at = (struct parked **)&t->parked;
    while (*at != NULL) /* in the order in which they came */
        at = &(*at)->next;
    p->prev = at;
    *at = p;
    call->owner = p;
    call->gone = parked_gone;
    call->resume = parked_resume;
    return true;
}

/* Under the lock: so no call goes away before it is woken. */
static void parked_wake(struct kafka_txn *t)
{
    while (t->parked != NULL) {
        struct parked *p = t->parked;
        parked_unlink(p);
        kafka_call_wake(p->call);
    }
}

/* ---- waiting ---------------------------------------------------------------------------------------------------------------- */

static bool part_safe(const struct kafka_txn_part *part)
{
    struct mqg_stream_bounds b;
    struct mqg_partition *p = part->marker != MQG_OFFSET_NONE ? mqg_partition_find(part->partition) : NULL;
    if (p == NULL)
        return true;
    struct mqg_stream *s = mqg_partition_stream(p);
    bool safe = mqg_partition_bounds(p, &b) != MQG_OK || b.high_watermark > part->marker;
    mqg_stream_unref(&s);
    return safe;
}

static bool txn_ended(const struct kafka_txn *t)
{
    return t->state == KAFKA_TXN_PREPARE_COMMIT || t->state == KAFKA_TXN_PREPARE_ABORT;
}

static bool wait_safe(const struct txn_wait *w)
{
    for (size_t i = 0; i < w->n; i++)
        for (size_t k = 0; txn_ended(w->txns[i]) && k < w->txns[i]->nparts; k++)
            if (!part_safe(&w->txns[i]->parts[k]))
                return false;
    return true;
}

static void txn_over(struct kafka_txn *t)
{
    struct mqg_vhost *v = mqg_vhost_find(t->vhost);
    bool commit = t->state == KAFKA_TXN_PREPARE_COMMIT;
    for (size_t i = 0; v != NULL && i < t->groups.n; i++)
        kafka_offsets_end(v, ((struct kafka_txn_group *)t->groups.items[i])->name, t->producer_id, commit);
    kafka_txn_complete(t);
}

static void wait_over(struct txn_wait *w)
{
    kafka_txns_lock();
    if (!wait_safe(w)) {
        kafka_txns_unlock();
        mqg_timer_in(&w->timer, WAIT_AGAIN_MS);
        return;
    }
    for (size_t i = 0; i < w->n; i++) {
        if (txn_ended(w->txns[i]))
            txn_over(w->txns[i]);
        if (--w->txns[i]->busy == 0)
            parked_wake(w->txns[i]);
    }
    *w->prev = w->next;
    if (w->next != NULL)
        w->next->prev = w->prev;
    struct kafka_call *call = w->call;
    void (*done)(struct kafka_call *) = w->done;
    kafka_txns_unlock();
    free(w);
    if (call == NULL)
        return;
    call->gone = NULL;
    call->owner = NULL;
    done(call);
}

static void wait_timer(struct mqg_timer *t)
{
    wait_over(MQG_CONTAINER_OF(t, struct txn_wait, timer));
}

/* A store that failed ends the process: nothing is answered. */
static void wait_fire(struct mqg_waiter *waiter, enum mqg_err err)
{
    if (err == MQG_OK)
        wait_over(MQG_CONTAINER_OF(waiter, struct txn_wait, waiter));
}

static void wait_gone(struct kafka_call *call)
{
    struct txn_wait *w = call->owner;
    w->call = NULL;
}

void kafka_txns_wait(struct kafka_txn *const *of, size_t n, struct kafka_call *call,
                     void (*done)(struct kafka_call *call))
{
    struct txn_wait *w = mqg_xcalloc(1, sizeof(*w) + n * sizeof(w->txns[0]));
    w->waiter.fire = wait_fire;
    w->waiter.ticket = mqg_lane_ticket(mqg_storage_default());
    mqg_timer_init(&w->timer, wait_timer);
    w->call = call;
    w->done = done;
    w->n = n;
    memcpy(w->txns, of, n * sizeof(w->txns[0]));
    w->next = waits;
    w->prev = &waits;
    if (waits != NULL)
        waits->prev = &w->next;
    waits = w;
    if (call != NULL) {
        call->owner = w;
        call->gone = wait_gone;
    }
    mqg_lane_wait(mqg_storage_default(), &w->waiter);
}

/* ---- the end ---------------------------------------------------------------------------------------------------------------- */

void kafka_txns_fini(void)
{
    while (waits != NULL) {
        struct txn_wait *w = waits;
        waits = w->next;
        free(w);
    }
    for (struct mqg_map_iter it = {.left = 0}; mqg_map_next(&txns, &it);) {
        struct kafka_txn *t = it.value;
        kafka_txn_free(&t);
    }
    mqg_map_fini(&txns);
    mqg_map_init(&txns, MQG_MAP_BORROW);
    kafka_parts_fini();
}
