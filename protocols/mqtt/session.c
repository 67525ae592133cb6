/* session.c - the registry of sessions, and who holds one.
 *
 * Every session has a holder, the worker whose thread alone touches it, also while its client is away (its timers run there). A
 * CONNECT makes a claim. The claim of the holder's own worker is granted by a task of its own; another worker's is granted by the
 * holder, which is asked by a task, sends its present client away ("session taken over"), and hands the session on. Claims stand
 * in line, so in a storm each of them gets the session for a moment and loses it to the next; nothing is decided twice.
 *
 * Before a session leaves a worker its last records there are durable: another lane's records could otherwise come to stand
 * before them. */
#include "mqtt.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define MQTT_SESSION_MAGIC 0x4d51534eu
#define SESSION_RETRY_MS   50

struct mqtt_claim {
    struct mqg_task task;
    struct mqtt_claim *next;
    struct mqtt_conn *conn; /* its worker's; NULL: it ended meanwhile */
    struct mqg_worker *worker;
    struct mqtt_session *session;
};

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static struct mqg_map registry = {.keys = MQG_MAP_BORROW};
static size_t registry_connected, registry_most; /* under the lock */
static _Atomic uint64_t registry_expired;

static void session_yield(struct mqtt_session *s);
static void session_timer(struct mqg_timer *t);

/* ---- making and ending ------------------------------------------------------------------------------------------ */

static void session_ask(struct mqg_task *task)
{
    struct mqtt_session *s = MQG_CONTAINER_OF(task, struct mqtt_session, ask);
    pthread_mutex_lock(&registry_lock);
    s->ask_posted = false;
    bool ours = s->holder == mqg_worker_self()->index && !s->granting && s->claims != NULL;
    pthread_mutex_unlock(&registry_lock);
    if (ours)
        session_yield(s);
}

static struct mqtt_session *session_new(struct mqg_slice key, struct mqg_slice client, uint32_t holder)
{
    struct mqtt_session *s = mqg_xcalloc(1, sizeof(*s));
    s->magic = MQTT_SESSION_MAGIC;
    s->key = mqg_slice_of(mqg_slice_dup(key), key.len);
    s->client = mqg_slice_of(s->key.ptr + key.len - client.len, client.len);
    mqtt_digest_hex(key, s->hex);
    s->holder = holder;
    s->claims_tail = &s->claims;
    s->ask.run = session_ask;
    mqg_timer_init(&s->timer, session_timer);
    mqg_map_set(&registry, s->key, s);
    return s;
}

static void session_free(struct mqtt_session *s)
{
    mqtt_subs_fini(&s->subs);
    mqtt_ids_fini(&s->in);
    mqtt_ids_fini(&s->out);
    mqtt_will_free(&s->will);
    s->magic = 0;
    free((void *)(uintptr_t)s->key.ptr);
    free(s);
}

static struct mqg_slice session_key(struct mqg_dynbuf *b, struct mqg_slice vhost, struct mqg_slice client)
{
    mqg_dynbuf_slice(b, vhost);
    mqg_dynbuf_u8(b, 0);
    mqg_dynbuf_slice(b, client);
    return mqg_dynbuf_view(b);
}

static void session_drop_subs(struct mqtt_session *s)
{
    while (s->subs.n > 0) {
        struct mqtt_sub *sub = s->subs.list[s->subs.n - 1];
        if (s->durable)
            mqtt_persist_sub(s, sub, true);
        mqtt_sub_free(s, sub);
    }
}

static void session_drop_queue(struct mqtt_session *s, enum mqtt_feed_kind kind)
{
    if (!s->has_queue[kind])
        return;
    s->has_queue[kind] = kind == MQTT_FEED_QOS0 && s->known &&
                         s->expiry_s > 0; /* made again at the next connect */
    char room[256];
    uint64_t messages, ticket;
    struct mqg_error e = {0};
    struct mqg_session *own = mqg_session_internal(s->vhost);
    if (mqg_queue_delete(own, mqtt_session_queue_name(s, kind, room), false, false, &messages, &ticket, &e) !=
        MQG_OK)
        mqg_log(MQG_LOG_WARN, MQG_EVENT_DEFINE, "client=%s why=%s", mqg_logq(s->client), mqg_logqs(e.text));
    mqg_session_unref(&own);
}

void mqtt_session_wipe(struct mqtt_session *s)
{
    MQG_ASSERT(s->conn == NULL);
    mqtt_will_end(s, true); /* the session ends: [MQTT-3.1.2-10], will delay */
    s->known = false;
    if (s->vhost) {
        session_drop_queue(s, MQTT_FEED_QOS0);
        session_drop_queue(s, MQTT_FEED_SESSION);
    }
    session_drop_subs(s);
    mqtt_ids_fini(&s->in);
    mqtt_ids_fini(&s->out);
    if (s->durable)
        mqtt_persist_session_gone(s);
    s->durable = s->cached = s->begun = false;
    s->sent_upto = s->gone_us = s->expire_ms = 0;
    mqg_timer_cancel(&s->timer);
}

/* The session is over: it leaves the registry, unless somebody stands in line for it. */
static void session_over(struct mqtt_session *s)
{
    mqtt_session_wipe(s);
    pthread_mutex_lock(&registry_lock);
    bool wanted = s->claims != NULL, asked = s->ask_posted;
    if (!wanted && !asked)
        mqg_map_del(&registry, s->key);
    pthread_mutex_unlock(&registry_lock);
    if (wanted) {
        session_yield(s);
    } else if (asked) { /* a question is still on its way */
        s->expire_ms = mqg_worker_self()->now.mono_ms + SESSION_RETRY_MS;
        mqg_timer_at(&s->timer, s->expire_ms);
    } else {
        session_free(s);
    }
}

/* ---- timers: expiry, delayed will --------------------------------------------------------------------------------- */

void mqtt_session_arm(struct mqtt_session *s)
{
    uint64_t due = s->expire_ms;
    if (s->will_ms != 0 && (due == 0 || s->will_ms < due))
        due = s->will_ms;
    if (due != 0)
        mqg_timer_at(&s->timer, due);
}

static void session_timer(struct mqg_timer *t)
{
    struct mqtt_session *s = MQG_CONTAINER_OF(t, struct mqtt_session, timer);
    uint64_t now = mqg_worker_self()->now.mono_ms;
    if (s->conn || s->granting)
        return;
    bool over = (s->will_ms != 0 && s->will_ms <= now) || (s->expire_ms != 0 && s->expire_ms <= now);
    if (over && s->will && !mqtt_retained_ready(s->vhost)) { /* after a start */
        mqg_timer_in(&s->timer, SESSION_RETRY_MS);
        return;
    }
    if (s->will_ms != 0 && s->will_ms <= now)
        mqtt_will_end(s, true);
    if (s->expire_ms != 0 && s->expire_ms <= now) {
        atomic_fetch_add(&registry_expired, s->known);
        session_over(s);
        return;
    }
    mqtt_session_arm(s);
}

/* ---- claims ---------------------------------------------------------------------------------------------------------- */

static void claim_run(struct mqg_task *task)
{
    struct mqtt_claim *claim = MQG_CONTAINER_OF(task, struct mqtt_claim, task);
    struct mqtt_session *s = claim->session;
    struct mqtt_conn *c = claim->conn;
    pthread_mutex_lock(&registry_lock);
    s->granting = false;
    bool more = s->claims != NULL;
    if (c)
        registry_connected++;
    if (registry_connected > registry_most)
        registry_most = registry_connected;
    pthread_mutex_unlock(&registry_lock);
    free(claim);
    if (c) {
        c->claim = NULL;
        mqtt_connected(c, s);
    } else if (!s->known) {
        session_over(s);
        return;
    }
    if (more)
        session_yield(s);
    else if (!c)
        mqtt_session_arm(s);
}

static void session_hand_now(struct mqg_waiter *w, enum mqg_err err)
{
    (void)err;
    struct mqtt_session *s = MQG_CONTAINER_OF(w, struct mqtt_session, handing);
    struct mqtt_claim *claim = s->next_claim;
    s->next_claim = NULL;
    s->ticket = 0; /* tickets of another lane mean nothing there */
    mqg_worker_post(claim->worker, &claim->task);
}

/* To the first in line. */
static void session_hand(struct mqtt_session *s)
{
    pthread_mutex_lock(&registry_lock);
    struct mqtt_claim *claim = s->claims;
    s->claims = claim->next;
    if (!s->claims)
        s->claims_tail = &s->claims;
    s->granting = true;
    s->holder = claim->worker->index;
    pthread_mutex_unlock(&registry_lock);
    mqg_timer_cancel(&s->timer);
    if (claim->worker == mqg_worker_self()) {
        mqg_worker_post(claim->worker, &claim->task);
        return;
    }
    s->next_claim = claim;
    s->handing = (struct mqg_waiter){.ticket = s->ticket, .fire = session_hand_now};
    if (s->ticket > mqg_lane_done(mqg_storage_default()))
        mqg_lane_wait(mqg_storage_default(), &s->handing);
    else
        session_hand_now(&s->handing, MQG_OK);
}

/* Somebody else wants it: the present client goes. */
static void session_yield(struct mqtt_session *s)
{
    struct mqtt_conn *c = s->conn;
    if (c) {
        mqtt_fail(c, MQTT_RC_TAKEN_OVER, "another connection has the client identifier");
        c->session = NULL;
        mqtt_session_detach(s, c->normal_end);
        return; /* which hands it on */
    }
    session_hand(s);
}

void mqtt_session_claim(struct mqtt_conn *c)
{
    struct mqtt_claim *claim = mqg_xcalloc(1, sizeof(*claim));
    struct mqg_worker *self = mqg_worker_self();
    struct mqg_dynbuf b;
    mqg_dynbuf_init(&b, 1024);
    struct mqg_slice client = mqg_slice_of(c->client, c->client_len);
    struct mqg_slice key = session_key(&b, mqg_vhost_name(c->principal->vhost), client);
    *claim = (struct mqtt_claim){.task = {.run = claim_run}, .conn = c, .worker = self};
    c->claim = claim;
    pthread_mutex_lock(&registry_lock);
    struct mqtt_session *s = mqg_map_get(&registry, key);
    if (!s)
        s = session_new(key, client, self->index);
    claim->session = s;
    *s->claims_tail = claim;
    s->claims_tail = &claim->next;
    bool here = s->holder == self->index;
    bool now = here && !s->granting && s->claims == claim;
    bool ask = !now && !s->granting && !s->ask_posted;
    s->ask_posted = s->ask_posted || ask;
    uint32_t holder = s->holder;
    pthread_mutex_unlock(&registry_lock);
    mqg_dynbuf_fini(&b);
    if (ask)
        mqg_worker_post(mqg_worker_at(holder), &s->ask);
    else if (now)
        session_yield(s);
}

void mqtt_session_unclaim(struct mqtt_conn *c)
{
    if (c->claim)
        c->claim->conn = NULL;
    c->claim = NULL;
}

/* ---- the connection leaves --------------------------------------------------------------------------------------------- */

/* Exactly once: what was sent does not expire ([MQTT-4.3.3-7]). */
static void session_keep(struct mqtt_session *s, struct mqtt_feed *f)
{
    uint64_t upto = 0;
    struct mqtt_id *x;
    for (uint32_t at = 0; (x = mqtt_ids_next(&s->out, &at)) != NULL;)
        if (x->feed == f && x->state == MQTT_OUT_QOS2 && x->qseq > upto)
            upto = x->qseq;
    if (upto > 0)
        mqg_queue_keep(f->queue, upto);
}

/* What was sent and not acknowledged goes back to its queues; what the client has received stays noted. */
static void session_return(struct mqtt_session *s, struct mqtt_feed *f)
{
    uint64_t handles[MQTT_SETTLE_BATCH];
    size_t n = 0;
    struct mqtt_id *x;
    for (uint32_t at = 0; (x = mqtt_ids_next(&s->out, &at)) != NULL;) {
        if (x->feed != f || x->handle == 0)
            continue;
        handles[n++] = x->handle;
        x->handle = 0;
        if (n == MQTT_SETTLE_BATCH) {
            mqg_settle(f->queue, NULL, handles, n, MQG_SETTLE_RETURN);
            n = 0;
        }
    }
    if (n > 0)
        mqg_settle(f->queue, NULL, handles, n, MQG_SETTLE_RETURN);
}

static void session_forget_ids(struct mqtt_session *s)
{
    struct mqtt_ids out = {0}, in = {0};
    struct mqtt_id *x;
    for (uint32_t at = 0; (x = mqtt_ids_next(&s->out, &at)) != NULL;)
        if (x->state == MQTT_OUT_RELEASED || (x->state == MQTT_OUT_RECEIVED && s->durable))
            *mqtt_ids_add(&out,
                          x->id) = (struct mqtt_id){.id = x->id, .state = MQTT_OUT_RELEASED, .qseq = x->qseq};
        else if ((x->state == MQTT_OUT_QOS1 || x->state == MQTT_OUT_QOS2) && x->qseq != 0)
            *mqtt_ids_add(&out, x->id) = (struct mqtt_id){
                .id = x->id, .state = x->state, .noted = true, .qseq = x->qseq};
    for (uint32_t at = 0; (x = mqtt_ids_next(&s->in, &at)) != NULL;)
        if (x->state == MQTT_IN_PENDING || x->state == MQTT_IN_RECEIVED)
            *mqtt_ids_add(&in, x->id) = (struct mqtt_id){.id = x->id, .state = MQTT_IN_RECEIVED};
    for (uint32_t at = 0; !s->begun && (x = mqtt_ids_next(&out, &at)) != NULL;)
        s->begun = mqtt_id_begun(x);
    mqtt_ids_fini(&s->out);
    mqtt_ids_fini(&s->in);
    s->out = out;
    s->in = in;
}

static void session_leave_feeds(struct mqtt_session *s, struct mqtt_conn *c)
{
    mqtt_settle_flush(c);
    for (struct mqtt_feed *f = c->feeds; f; f = f->next)
        if (f->sub)
            mqg_unsubscribe(&f->sub);
    for (struct mqtt_feed *f = c->feeds; f; f = f->next) {
        if (f->kind == MQTT_FEED_SESSION)
            session_keep(s, f);
        session_return(s, f);
    }
    session_forget_ids(s);
    while (c->feeds)
        mqtt_feed_close(c->feeds);
}

static void session_will(struct mqtt_session *s, struct mqtt_conn *c, bool normal)
{
    if (normal)
        mqtt_will_free(&c->will); /* [MQTT-3.14.4-3] */
    s->will = c->will;
    c->will = NULL;
    if (s->will && (s->will->delay_s == 0 || s->expiry_s == 0))
        mqtt_will_publish(&s->will);
    if (!s->will) {
        mqtt_will_end(s, false);
        return;
    }
    struct mqg_time now = mqg_worker_self()->now;
    s->will_ms = now.mono_ms + UINT64_C(1000) * s->will->delay_s;
    s->will_stored = s->durable;
    if (s->durable)
        mqtt_persist_will(s, s->will, now.wall_us + UINT64_C(1000000) * s->will->delay_s);
}

void mqtt_session_detach(struct mqtt_session *s, bool normal)
{
    struct mqtt_conn *c = s->conn;
    struct mqg_time now = mqg_worker_self()->now;
    session_leave_feeds(s, c);
    s->cached = false;
    s->conn = NULL;
    c->session = NULL;
    session_will(s, c, normal);
    pthread_mutex_lock(&registry_lock);
    registry_connected--;
    bool wanted = s->claims != NULL;
    pthread_mutex_unlock(&registry_lock);
    if (s->expiry_s == 0) {
        session_over(s);
        return;
    }
    session_drop_queue(s, MQTT_FEED_QOS0);
    s->gone_us = now.wall_us;
    s->expire_ms = s->expiry_s == MQTT_EXPIRY_NEVER ? 0 : now.mono_ms + UINT64_C(1000) * s->expiry_s;
    if (s->durable && s->begun)
        mqtt_persist_ids(s);
    if (s->durable)
        mqtt_persist_session(s);
    if (wanted)
        session_hand(s);
    else
        mqtt_session_arm(s);
}

/* ---- queues -------------------------------------------------------------------------------------------------------------- */

struct mqg_slice mqtt_session_queue_name(const struct mqtt_session *s, enum mqtt_feed_kind kind,
                                         char room[256])
{
    int n = snprintf(room, 256, "mqtt-subscription-%.*sqos%d", (int)s->client.len,
                     (const char *)s->client.ptr, kind == MQTT_FEED_QOS0 ? 0 : 1);
    return mqg_slice_of(room, (size_t)n);
}

static enum mqg_err session_bind_all(struct mqtt_session *s, enum mqtt_feed_kind kind, struct mqg_slice name,
                                     uint64_t *ticket, struct mqg_error *e)
{
    enum mqg_err err = MQG_OK;
    for (uint32_t i = 0; i < s->subs.n && err == MQG_OK; i++) {
        const struct mqtt_sub *sub = s->subs.list[i];
        if (!sub->share && (sub->qos == 0) == (kind == MQTT_FEED_QOS0))
            err = mqtt_bind(s->vhost, name, mqtt_sub_filter(sub), true, ticket, e);
    }
    return err;
}

static enum mqg_err session_declare(struct mqtt_session *s, enum mqtt_feed_kind kind, struct mqg_session *own,
                                    struct mqg_slice name, uint64_t *ticket, struct mqg_error *e)
{
    bool qos0 = kind == MQTT_FEED_QOS0;
    struct mqg_arena a;
    struct mqg_queue_ok ok;
    mqg_arena_init(&a, 4096);
    struct mqg_queue_def d = {.name = name, .durable = s->durable && !qos0};
    mqg_table_set_int(&a, &d.args, "x-max-length",
                      (int64_t)(qos0 ? mqtt_settings()->qos0_length : mqtt_settings()->queue_length));
    mqg_table_set_int(&a, &d.args, "x-max-length-bytes",
                      (int64_t)(qos0 ? mqtt_settings()->qos0_bytes : mqtt_settings()->queue_bytes));
    enum mqg_err err = mqg_queue_declare(own, &d, false, &ok, ticket, e);
    mqg_arena_fini(&a);
    return err == MQG_OK ? session_bind_all(s, kind, name, ticket, e) : err;
}

enum mqg_err mqtt_session_queue(struct mqtt_session *s, enum mqtt_feed_kind kind, struct mqg_queue **out,
                                uint64_t *ticket, struct mqg_error *e)
{
    char room[256];
    struct mqg_session *own = mqg_session_internal(s->vhost);
    struct mqg_slice name = mqtt_session_queue_name(s, kind, room);
    enum mqg_err err = mqg_queue_open(own, name, out, e);
    if (err == MQG_NOT_FOUND) {
        err = session_declare(s, kind, own, name, ticket, e);
        if (err == MQG_OK)
            err = mqg_queue_open(own, name, out, e);
    }
    mqg_session_unref(&own);
    if (err == MQG_OK)
        s->has_queue[kind] = true;
    return err;
}

/* ---- recovery, listing, the end ---------------------------------------------------------------------------------------------- */

struct mqtt_session *mqtt_session_recover(struct mqg_slice vhost, struct mqg_slice client)
{
    struct mqg_dynbuf b;
    mqg_dynbuf_init(&b, 1024);
    struct mqg_slice key = session_key(&b, vhost, client);
    struct mqtt_session *s = mqg_map_get(&registry, key);
    if (!s)
        s = session_new(key, client, 0);
    mqg_dynbuf_fini(&b);
    s->durable = true;
    return s;
}

void mqtt_session_drop_recovered(struct mqtt_session *s)
{
    mqg_map_del(&registry, s->key);
    s->durable = false;
    session_drop_subs(s);
    session_free(s);
}

void mqtt_session_each(void (*visit)(struct mqtt_session *s, void *arg), void *arg)
{
    pthread_mutex_lock(&registry_lock);
    for (struct mqg_map_iter it = {.left = 0}; mqg_map_next(&registry, &it);)
        visit(it.value, arg);
    pthread_mutex_unlock(&registry_lock);
}

struct mqtt_census mqtt_session_census(void)
{
    pthread_mutex_lock(&registry_lock);
    struct mqtt_census out = {registry.count, registry_connected, registry_most,
                              atomic_load(&registry_expired)};
    pthread_mutex_unlock(&registry_lock);
    return out;
}

void mqtt_session_fini(void)
{
    for (struct mqg_map_iter it = {.left = 0}; mqg_map_next(&registry, &it);) {
        struct mqtt_session *s = it.value;
        s->durable = false;
        session_drop_subs(s);
        session_free(s);
    }
    mqg_map_fini(&registry);
    mqg_map_init(&registry, MQG_MAP_BORROW);
}
