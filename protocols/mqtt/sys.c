/* sys.c - the $SYS topics, named as Mosquitto names them, retained in the default vhost. One worker publishes them, once a client of
 * MQTT has been there; a value that has not changed is not published again.
 *
 * What is counted is MQTT's: each worker has a row that it alone writes (mqtt_tally). Bytes, dropped messages and connections are the
 * node's. `heap` is the memory that the process holds. `load` are averages per minute over 1, 5 and 15 minutes, each weighing the
 * past by exp(-t / span). What the queues hold is counted while there are not many sessions: to walk them takes time. */
#include "mqtt.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define SYS_FIRST_MS     200u /* until the first client has come */
#define SYS_SESSIONS_MAX 10000u

/* ---- counting ----------------------------------------------------------------------------------------------------------- */

static struct {
    _Alignas(64) _Atomic uint64_t n[MQTT_TALLY_COUNT];
} sys_rows[MQG_WORKERS_MAX];

void mqtt_tally(const struct mqtt_conn *c, enum mqtt_tally what, uint64_t n)
{
    _Atomic uint64_t *at = &sys_rows[mqg_conn_worker(c->conn)->index].n[what];
    atomic_store_explicit(at, atomic_load_explicit(at, memory_order_relaxed) + n, memory_order_relaxed);
}

static uint64_t sys_tally(enum mqtt_tally what)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < MQG_COUNTOF(sys_rows); i++)
        sum += atomic_load_explicit(&sys_rows[i].n[what], memory_order_relaxed);
    return sum;
}

/* ---- values ------------------------------------------------------------------------------------------------------------- */

/* What a round of publishing says, taken at its beginning. */
static struct {
    uint64_t started_ms, last_ms; /* last_ms: of the round before; 0: none */
    struct mqtt_census census;
    uint64_t held, held_bytes;
    bool version_said;
} sys;
static struct mqg_timer sys_timer;

static uint64_t sys_total(void)
{
    return sys.census.sessions;
}
static uint64_t sys_connected(void)
{
    return sys.census.connected;
}
static uint64_t sys_disconnected(void)
{
    return sys.census.sessions > sys.census.connected ? sys.census.sessions - sys.census.connected : 0;
}
static uint64_t sys_most(void)
{
    return sys.census.most;
}
static uint64_t sys_expired(void)
{
    return sys.census.expired;
}
static uint64_t sys_bytes_in(void)
{
    return mqg_count_sum(MQG_COUNT_BYTES_IN);
}
static uint64_t sys_bytes_out(void)
{
    return mqg_count_sum(MQG_COUNT_BYTES_OUT);
}
static uint64_t sys_packets_in(void)
{
    return sys_tally(MQTT_TALLY_PACKETS_IN);
}
static uint64_t sys_packets_out(void)
{
    return sys_tally(MQTT_TALLY_PACKETS_OUT);
}
static uint64_t sys_pubs_in(void)
{
    return sys_tally(MQTT_TALLY_PUBS_IN);
}
static uint64_t sys_pubs_out(void)
{
    return sys_tally(MQTT_TALLY_PUBS_OUT);
}
static uint64_t sys_pub_bytes_in(void)
{
    return sys_tally(MQTT_TALLY_PUB_BYTES_IN);
}
static uint64_t sys_pub_bytes_out(void)
{
    return sys_tally(MQTT_TALLY_PUB_BYTES_OUT);
}
static uint64_t sys_dropped(void)
{
    return mqg_count_sum(MQG_COUNT_OVERFLOW_DROPPED);
}
static uint64_t sys_sockets(void)
{
    return mqg_count_sum(MQG_COUNT_CONNS_OPENED);
}
static uint64_t sys_connects(void)
{
    return sys_tally(MQTT_TALLY_CONNECTS);
}
static uint64_t sys_retained(void)
{
    return mqtt_retained_count();
}
static uint64_t sys_held(void)
{
    return sys.held;
}
static uint64_t sys_held_bytes(void)
{
    return sys.held_bytes;
}
static uint64_t sys_subscriptions(void)
{
    return mqtt_subs_total() - mqtt_share_members();
}
static uint64_t sys_shared(void)
{
    return mqtt_share_members();
}
static uint64_t sys_heap(void)
{
    unsigned long size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f) {
        if (fscanf(f, "%lu %lu", &size, &resident) != 2)
            resident = 0;
        fclose(f);
    }
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}
static uint64_t sys_heap_most(void)
{
    struct rusage used = {.ru_maxrss = 0};
    getrusage(RUSAGE_SELF, &used);
    return (uint64_t)used.ru_maxrss * 1024;
}

static const struct {
    const char *name;
    uint64_t (*value)(void);
} sys_topics[] = {
    {"clients/total", sys_total},
    {"clients/maximum", sys_most},
    {"clients/expired", sys_expired},
    {"clients/connected", sys_connected},
    {"clients/active", sys_connected},
    {"clients/disconnected", sys_disconnected},
    {"clients/inactive", sys_disconnected},
    {"bytes/received", sys_bytes_in},
    {"bytes/sent", sys_bytes_out},
    {"messages/received", sys_packets_in},
    {"messages/sent", sys_packets_out},
    {"messages/stored", sys_held},
    {"publish/messages/received", sys_pubs_in},
    {"publish/messages/sent", sys_pubs_out},
    {"publish/messages/dropped", sys_dropped},
    {"publish/bytes/received", sys_pub_bytes_in},
    {"publish/bytes/sent", sys_pub_bytes_out},
    {"retained messages/count", sys_retained},
    {"store/messages/count", sys_held},
    {"store/messages/bytes", sys_held_bytes},
    {"subscriptions/count", sys_subscriptions},
    {"shared_subscriptions/count", sys_shared},
    {"heap/current", sys_heap},
    {"heap/maximum", sys_heap_most},
};

static const struct {
    const char *name;
    uint64_t (*value)(void);
} sys_loads[] = {
    {"load/bytes/received", sys_bytes_in},      {"load/bytes/sent", sys_bytes_out},
    {"load/messages/received", sys_packets_in}, {"load/messages/sent", sys_packets_out},
    {"load/publish/received", sys_pubs_in},     {"load/publish/sent", sys_pubs_out},
    {"load/publish/dropped", sys_dropped},      {"load/sockets", sys_sockets},
    {"load/connections", sys_connects},
};
static const unsigned sys_spans[] = {1, 5, 15}; /* minutes */

static char sys_last[MQG_COUNTOF(sys_topics)][40];
static struct {
    uint64_t before;
    double average[MQG_COUNTOF(sys_spans)];
    char last[MQG_COUNTOF(sys_spans)][40];
} sys_load[MQG_COUNTOF(sys_loads)];

/* ---- publishing --------------------------------------------------------------------------------------------------------- */

static void sys_confirm(struct mqg_pub *p, uint64_t upto, const uint64_t *rejected, size_t n)
{
    (void)p;
    (void)upto;
    (void)rejected;
    (void)n;
}

static const struct mqg_pub_ops sys_pub_ops = {.confirm = sys_confirm};

static void sys_publish(struct mqg_vhost *v, const char *name, const char *text)
{
    char topic[128];
    snprintf(topic, sizeof(topic), "$SYS/broker/%s", name);
    struct mqtt_props none = {.has = 0};
    struct mqg_msg *m = mqtt_msg_new(MQG_SLICE_NONE, MQG_SLICE_NONE, mqg_slice_str(topic), 0, true, MQTT_311,
                                     &none, (uint32_t)strlen(text));
    if (!m)
        return;
    memcpy(mqg_msg_body_mut(m), text, strlen(text));
    m->st.flags &= (uint8_t)~MQG_MSG_PERSISTENT; /* made anew after a restart */
    struct mqg_session *own = mqg_session_internal(v);
    struct mqg_pub pub;
    struct mqg_error e = {0};
    mqg_pub_init(&pub, &sys_pub_ops, own, NULL);
    struct mqg_msg *held = mqg_msg_ref(m);
    if (mqg_publish(&pub, m, 0, 0, NULL, 0, &e) == MQG_OK)
        mqtt_retained_set(v, held, false);
    mqg_msg_unref(&held);
    mqg_pub_fini(&pub);
    mqg_session_unref(&own);
}

static bool sys_look(void *arg, const struct mqg_queue_info *q)
{
    (void)arg;
    if (!mqg_slice_starts(q->name, MQG_SLICE_LIT("mqtt-")))
        return true;
    sys.held += q->messages_ready + q->messages_unacked;
    sys.held_bytes += q->bytes_ready + q->bytes_unacked;
    return true;
}

static void sys_take(struct mqg_vhost *v)
{
    sys.census = mqtt_session_census();
    if (sys.census.sessions > SYS_SESSIONS_MAX)
        return;
    sys.held = sys.held_bytes = 0;
    mqg_queue_each(v, sys_look, NULL);
}

/* Says it unless it was said last. */
static void sys_say(struct mqg_vhost *v, const char *name, const char *text, char *last, size_t room)
{
    if (strcmp(text, last) == 0)
        return;
    snprintf(last, room, "%s", text);
    sys_publish(v, name, text);
}

static void sys_say_counts(struct mqg_vhost *v, uint64_t now_ms)
{
    char text[40];
    snprintf(text, sizeof(text), "%llu seconds", (unsigned long long)((now_ms - sys.started_ms) / 1000));
    sys_publish(v, "uptime", text);
    for (size_t i = 0; i < MQG_COUNTOF(sys_topics); i++) {
        snprintf(text, sizeof(text), "%llu", (unsigned long long)sys_topics[i].value());
        sys_say(v, sys_topics[i].name, text, sys_last[i], sizeof(sys_last[i]));
    }
}

/* exp(-x), near enough and never negative. */
static double sys_decay(double x)
{
    return 1.0 / (1.0 + x + x * x / 2 + x * x * x / 6);
}

static void sys_say_loads(struct mqg_vhost *v, uint64_t now_ms)
{
    double minutes = (double)(now_ms - sys.last_ms) / 60000;
    for (size_t i = 0; i < MQG_COUNTOF(sys_loads); i++) {
        uint64_t now = sys_loads[i].value(), more = now - sys_load[i].before;
        sys_load[i].before = now;
        for (size_t k = 0; sys.last_ms != 0 && minutes > 0 && k < MQG_COUNTOF(sys_spans); k++) {
            double *average = &sys_load[i].average[k], rate = (double)more / minutes;
            char name[64], text[40];
            *average = rate + sys_decay(minutes / sys_spans[k]) * (*average - rate);
            snprintf(name, sizeof(name), "%s/%umin", sys_loads[i].name, sys_spans[k]);
            snprintf(text, sizeof(text), "%.2f", *average);
            sys_say(v, name, text, sys_load[i].last[k], sizeof(sys_load[i].last[k]));
        }
    }
    sys.last_ms = now_ms;
}

static void sys_tick(struct mqg_timer *t)
{
    struct mqg_vhost *v = mqg_vhost_find(mqg_slice_str(mqtt_settings()->vhost));
    uint64_t pause_ms = mqtt_settings()->sys_interval_ms, now_ms = mqg_worker_self()->now.mono_ms;
    if (pause_ms == 0) {
        mqg_timer_in(t, 10000); /* a reload may switch it on */
        return;
    }
    if (v && mqg_vhost_alive(v) && mqtt_retained_begun(v)) {
        if (!sys.version_said)
            sys_publish(v, "version", "mqgate version " MQG_VERSION);
        sys.version_said = true;
        sys_take(v);
        sys_say_counts(v, now_ms);
        sys_say_loads(v, now_ms);
    }
    mqg_timer_in(t, sys.version_said || pause_ms < SYS_FIRST_MS ? pause_ms : SYS_FIRST_MS);
}

void mqtt_sys_start(struct mqg_worker *w)
{
    memset(sys_last, 0, sizeof(sys_last));
    memset(sys_load, 0, sizeof(sys_load));
    memset(&sys, 0, sizeof(sys));
    sys.started_ms = w->now.mono_ms;
    mqg_timer_init(&sys_timer, sys_tick);
    mqg_timer_in(&sys_timer, 100);
}

void mqtt_sys_stop(void)
{
    mqg_timer_cancel(&sys_timer);
}
