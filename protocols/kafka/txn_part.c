/* txn_part.c - transactions as a part of the handler: which requests, which settings, and the clock that ends what took too long.
 *
 * The clock is a timer of the first worker: every second while a transaction is open, else once a minute, for what is forgotten
 * after days. */
#include "producer_part.h"
#include "txn_api.h"

#include <stdlib.h>

enum { CLOCK_FAST_MS = 1000, CLOCK_SLOW_MS = 60000 };

struct kafka_txn_settings kafka_txn_settings = {
    .timeout_max_ms = 900000,
    .id_expiry_ms = UINT64_C(7) * 86400000,
    .producer_expiry_ms = 86400000,
};

/* ---- the clock ------------------------------------------------------------------------------------------------------------ */

static struct mqg_timer clock_timer;
static uint64_t clock_swept_ms;

struct tick {
    uint64_t now_ms;
    bool open;
    struct mqg_vec over, old; /* of struct kafka_txn */
};

static void tick_visit(void *arg, struct kafka_txn *t)
{
    struct tick *k = arg;
    struct mqg_vhost *v = mqg_vhost_find(t->vhost);
    bool dead = v == NULL || !mqg_vhost_alive(v);
    if (t->state == KAFKA_TXN_ONGOING) {
        k->open = true;
        if (!t->busy && (dead || (k->now_ms > t->start_ms && k->now_ms - t->start_ms > t->timeout_ms)))
            mqg_vec_push(&k->over, t);
    } else if (!t->busy && (dead || (k->now_ms > t->update_ms &&
                                     k->now_ms - t->update_ms > kafka_txn_settings.id_expiry_ms))) {
        mqg_vec_push(&k->old, t);
    }
}

struct orphans {
    struct mqg_slice vhost;
    struct mqg_vec ids; /* of struct kafka_txn */
};

static void orphan_visit(void *arg, struct kafka_txn *t)
{
    struct orphans *o = arg;
    if (mqg_slice_eq(t->vhost, o->vhost) && t->busy == 0)
        mqg_vec_push(&o->ids, t);
}

/* Those that are busy go at the clock's next look. */
static void txn_vhost_gone(struct mqg_vhost *v)
{
    struct orphans o = {.vhost = mqg_vhost_name(v)};
    kafka_txns_lock();
    kafka_txns_each(orphan_visit, &o);
    for (size_t i = 0; i < o.ids.n; i++)
        kafka_txns_abandon(o.ids.items[i]);
    kafka_txns_unlock();
    mqg_vec_fini(&o.ids);
}

/* Its producer may ask for the next epoch, and go on. */
static void tick_end(struct kafka_txn *t)
{
    mqg_log(MQG_LOG_INFO, MQG_EVENT_PROTOCOL_ERROR, "what=transaction rolled_back=true why=timeout id=%s",
            mqg_logq(t->id));
    kafka_txn_fence(t, true);
    kafka_txns_end(t, false);
    kafka_txns_wait(&t, 1, NULL, NULL);
}

static void clock_fire(struct mqg_timer *timer)
{
    struct mqg_time now = mqg_clock_now();
    struct tick k = {.now_ms = now.wall_us / 1000};
    kafka_txns_lock();
    kafka_txns_each(tick_visit, &k);
    for (size_t i = 0; i < k.over.n; i++)
        tick_end(k.over.items[i]);
    for (size_t i = 0; i < k.old.n; i++)
        kafka_txns_drop(k.old.items[i]);
    kafka_txns_clock_said(k.open);
    kafka_txns_unlock();
    mqg_vec_fini(&k.over);
    mqg_vec_fini(&k.old);
    if (now.mono_ms - clock_swept_ms >= CLOCK_SLOW_MS) {
        clock_swept_ms = now.mono_ms;
        kafka_parts_sweep(kafka_txn_settings.producer_expiry_ms);
    }
    mqg_timer_in(timer, k.open ? CLOCK_FAST_MS : CLOCK_SLOW_MS);
}

/* A transaction was opened while the clock went slowly. */
static void clock_hurry(struct mqg_task *task)
{
    (void)task;
    kafka_txns_lock();
    kafka_txns_clock_hurried();
    kafka_txns_unlock();
    mqg_timer_in(&clock_timer, CLOCK_FAST_MS);
}

static void clock_start(struct mqg_worker *w)
{
    static struct mqg_task hurry = {.run = clock_hurry};
    if (w->index != 0)
        return;
    kafka_txns_clock(w, &hurry);
    mqg_timer_init(&clock_timer, clock_fire);
    mqg_timer_in(&clock_timer, CLOCK_FAST_MS);
}

static void clock_stop(struct mqg_worker *w)
{
    if (w->index == 0)
        mqg_timer_cancel(&clock_timer);
}

/* ---- the part -------------------------------------------------------------------------------------------------------------- */

static void txn_reload(const struct mqg_conf *conf)
{
    kafka_txn_settings.timeout_max_ms = (uint64_t)mqg_conf_int(conf, "kafka", "transaction_max_timeout");
    kafka_txn_settings.id_expiry_ms = (uint64_t)mqg_conf_int(conf, "kafka", "transactional_id_expiry");
    kafka_txn_settings.producer_expiry_ms = (uint64_t)mqg_conf_int(conf, "kafka", "producer_id_expiry");
}

static enum mqg_err txn_load(const struct mqg_conf *conf, struct mqg_error *e)
{
    (void)e;
    txn_reload(conf);
    kafka_txns_load();
    mqg_worker_on_start(clock_start, clock_stop);
    mqg_vhost_on_delete(txn_vhost_gone);
    return MQG_OK;
}

static const struct kafka_api kafka_txn_apis[] = {
    {.key = 22, .first = 0, .last = 5, .call = kafka_init_producer_id},
    {.key = 24, .first = 0, .last = 5, .call = kafka_add_partitions},
    {.key = 25, .first = 0, .last = 4, .call = kafka_add_offsets},
    {.key = 26, .first = 0, .last = 5, .call = kafka_end_txn},
    {.key = 27, .first = 0, .last = 1, .call = kafka_write_markers},
    {.key = 28, .first = 0, .last = 5, .call = kafka_txn_commit_offsets},
    {.key = 61, .first = 0, .last = 0, .call = kafka_describe_producers},
    {.key = 65, .first = 0, .last = 0, .call = kafka_describe_transactions},
    {.key = 66, .first = 0, .last = 2, .call = kafka_list_transactions},
    {.key = -1},
};

const struct kafka_part kafka_txn_part = {
    .name = "transactions",
    .apis = kafka_txn_apis,
    .load = txn_load,
    .unload = kafka_txns_fini,
};
