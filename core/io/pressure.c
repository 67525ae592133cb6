/* pressure.c - what happens when the node cannot take more: publishers stop, consumers go on.
 *
 * Two things can run short: memory of messages, watched here, and the store, which says so itself. Blocked is one flag
 * with a generation; each worker notices a new generation at its next turn and tells its connections. A connection
 * that publishes is then not read any more, unless it holds deliveries that it has not settled: its acks alone make
 * room, and they stand behind its publishes in the same stream. It is read at a trickle, so that the acks arrive: every 10 ms
 * it gets a share of what lies between the memory in use and the hard limit, at least 16 KiB and at most 1 MiB. So a flood
 * with acks behind it is worked off fast while there is room, and memory stops growing where there is none. When the store is
 * what runs short, it is the least. */
#include "pressure.h"
#include "conn_int.h"

#include <mqgate/obs.h>

#include <stdio.h>

enum { TRICKLE_MAX_BYTES = 1 << 20, TRICKLE_PART = 8 };

static _Atomic int64_t pressure_high_bytes, pressure_hard_bytes;
static _Atomic uint32_t pressure_generation;
static _Atomic bool pressure_blocked;
static pthread_mutex_t pressure_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic unsigned pressure_sources; /* changed under the lock */
static char pressure_why[128];

void pressure_memory(int64_t high_bytes, int64_t hard_bytes)
{
    atomic_store(&pressure_high_bytes, high_bytes);
    atomic_store(&pressure_hard_bytes, hard_bytes);
}

bool mqg_node_blocked(void)
{
    return atomic_load_explicit(&pressure_blocked, memory_order_relaxed);
}

static void pressure_wake_all(void)
{
    for (uint32_t i = 0; i < mqg_worker_count(); i++)
        mqg_worker_wake(mqg_worker_at(i));
}

/* Under the lock. */
static void pressure_change(bool blocked, const char *why)
{
    snprintf(pressure_why, sizeof pressure_why, "%s", why);
    atomic_store(&pressure_blocked, blocked);
    atomic_fetch_add(&pressure_generation, 1);
    mqg_log(blocked ? MQG_LOG_WARN : MQG_LOG_INFO, MQG_EVENT_PRESSURE, "blocked=%s why=%s memory_bytes=%lld",
            blocked ? "yes" : "no", mqg_logqs(why), (long long)mqg_msg_memory_used());
}

void mqg_node_pressure(enum mqg_pressure source, bool on, const char *why)
{
    pthread_mutex_lock(&pressure_lock);
    unsigned before = atomic_load(&pressure_sources);
    unsigned now = on ? before | 1u << source : before & ~(1u << source);
    atomic_store(&pressure_sources, now);
    bool changed = (before != 0) != (now != 0);
    if (changed)
        pressure_change(on, why);
    pthread_mutex_unlock(&pressure_lock);
    if (changed)
        pressure_wake_all();
}

/* Two marks, so that it does not flap. */
static void pressure_watch_memory(void)
{
    static _Atomic bool high_now;
    int64_t high = atomic_load_explicit(&pressure_high_bytes, memory_order_relaxed);
    int64_t used = mqg_msg_memory_used();
    bool was = atomic_load_explicit(&high_now, memory_order_relaxed);
    bool is = high > 0 && used > (was ? high - high / 10 : high);
    if (MQG_LIKELY(is == was) || !atomic_compare_exchange_strong(&high_now, &was, is))
        return;
    mqg_node_pressure(MQG_PRESSURE_MEMORY, is, "low on memory");
}

/* ---- one worker ------------------------------------------------------------------------------------------------------------ */

bool conn_is_held(const struct mqg_conn *c)
{
    for (int i = 0; i < MQG_PAUSE_COUNT; i++)
        if (c->pauses[i] > 0)
            return true;
    if (MQG_LIKELY(!conn_worker_of(c->w)->blocked) || !c->publishes)
        return false;
    return !c->unsettled || c->trickle == 0;
}

size_t conn_read_room(const struct mqg_conn *c, size_t room)
{
    bool trickles = conn_worker_of(c->w)->blocked && c->publishes;
    return trickles && room > c->trickle ? c->trickle : room;
}

static bool pressure_trickles(const struct mqg_conn *c)
{
    return c->state == CONN_OPEN && c->publishes && c->unsettled;
}

/* What each of n connections may send until the next tick. */
static uint32_t pressure_share(uint32_t n)
{
    int64_t room = atomic_load_explicit(&pressure_hard_bytes, memory_order_relaxed) - mqg_msg_memory_used();
    if (n == 0 || room <= 0 || atomic_load(&pressure_sources) != 1u << MQG_PRESSURE_MEMORY)
        return CONN_TRICKLE_BYTES;
    int64_t share = room / TRICKLE_PART / mqg_worker_count() / n;
    return share < CONN_TRICKLE_BYTES  ? CONN_TRICKLE_BYTES
           : share > TRICKLE_MAX_BYTES ? TRICKLE_MAX_BYTES
                                       : (uint32_t)share;
}

static void pressure_tick(struct mqg_timer *t)
{
    struct conn_worker *cw = MQG_CONTAINER_OF(t, struct conn_worker, trickle_timer);
    uint32_t n = 0;
    if (!cw->blocked)
        return;
    for (const struct conn_link *l = cw->all.next; l != &cw->all; l = l->next)
        n += pressure_trickles(MQG_CONTAINER_OF(l, const struct mqg_conn, link));
    uint32_t share = pressure_share(n);
    for (struct conn_link *l = cw->all.next; l != &cw->all; l = l->next) {
        struct mqg_conn *c = MQG_CONTAINER_OF(l, struct mqg_conn, link);
        if (!pressure_trickles(c))
            continue;
        c->trickle = share;
        conn_read_update(c);
    }
    mqg_timer_in(t, CONN_TRICKLE_MS); /* also the turn that sees memory fall */
}

void pressure_worker_init(struct conn_worker *cw)
{
    mqg_timer_init(&cw->trickle_timer, pressure_tick);
}

static void pressure_tell(struct conn_worker *cw, struct mqg_slice why)
{
    enum mqg_conn_event ev = cw->blocked ? MQG_EV_BLOCKED : MQG_EV_UNBLOCKED;
    for (struct conn_link *l = cw->all.next; l != &cw->all; l = l->next) {
        struct mqg_conn *c = MQG_CONTAINER_OF(l, struct mqg_conn, link);
        if (c->state != CONN_OPEN || !c->publishes)
            continue; /* who only consumes is not concerned, and might give up its connection if it were told */
        if (c->ops->event != NULL)
            c->ops->event(c, ev, why);
        conn_read_update(c);
    }
}

void pressure_turn(struct io_worker *w)
{
    struct conn_worker *cw = conn_worker_of(w);
    pressure_watch_memory();
    uint32_t now = atomic_load_explicit(&pressure_generation, memory_order_acquire);
    if (MQG_LIKELY(now == cw->pressure_seen))
        return;
    cw->pressure_seen = now;
    bool was = cw->blocked;
    char why[sizeof pressure_why];
    pthread_mutex_lock(&pressure_lock);
    cw->blocked = atomic_load(&pressure_blocked);
    memcpy(why, pressure_why, sizeof why);
    pthread_mutex_unlock(&pressure_lock);
    if (cw->blocked == was)
        return;
    if (cw->blocked)
        mqg_timer_in(&cw->trickle_timer, CONN_TRICKLE_MS);
    pressure_tell(cw, mqg_slice_str(why));
}

void mqg_conn_has_unsettled(struct mqg_conn *c, bool yes)
{
    c->unsettled = yes;
}

/* The first publish of a connection that comes while publishers are blocked: it is told now. */
void mqg_conn_publishes(struct mqg_conn *c)
{
    if (MQG_LIKELY(c->publishes))
        return;
    c->publishes = true;
    if (!conn_worker_of(c->w)->blocked || c->ops->event == NULL)
        return;
    char why[sizeof pressure_why];
    pthread_mutex_lock(&pressure_lock);
    memcpy(why, pressure_why, sizeof why);
    pthread_mutex_unlock(&pressure_lock);
    c->ops->event(c, MQG_EV_BLOCKED, mqg_slice_str(why));
}
