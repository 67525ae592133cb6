/* retained.c - retained messages (3.3.1.3): one per topic, in a tree of levels in memory, durable through a queue.
 *
 * A retained publish goes, besides to its subscribers, to a durable queue of the vhost: one body, one fsync, one answer for all.
 * The node itself consumes that queue and never acknowledges what is current; when a topic gets its next message the old one is
 * settled, so the queue holds exactly one message per topic, and after a restart it brings them all again, in order. The tree
 * shows a message at once, when it is published; the queue's order has the last word where two publishers are at it together.
 *
 * So an entry is in one of two states: its place in the queue is known (handle), or it is still on its way. What arrives while
 * another is on its way is settled; what arrives after a known one replaces it. An empty payload is an entry like any other until
 * it has arrived, then the topic is gone ([MQTT-3.3.1-6], [MQTT-3.3.1-7]).
 *
 * Other protocols read them from a stream bound by the same key (docs/decisions/0010-mqtt-retained.md). */
#include "mqtt.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define RETAINED_KEY     "$mqtt/retained"
#define RETAINED_LOAD_MS 5000u /* then clients are let in with what is there */

struct retained_node {
    struct retained_node *parent;
    struct mqg_slice level;  /* owned */
    struct mqg_map children; /* level -> retained_node */
    struct mqg_msg *msg;     /* NULL: no message here, only below */
    uint64_t handle, qseq;   /* 0: on its way, or never in the queue */
};

struct retained {
    struct retained *next;
    struct mqg_vhost *vhost;
    pthread_mutex_t lock;
    struct retained_node root;
    size_t count;
    /* under retained_lock until it has started, then its worker's */
    struct mqg_worker *worker;
    struct mqg_queue *queue;
    struct mqg_sub *sub;
    uint64_t expected, started_ms;
    _Atomic uint64_t loaded;
    _Atomic bool ready;
};

static pthread_mutex_t retained_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(struct retained *) retained_all;

struct mqg_slice mqtt_retained_key(void)
{
    return MQG_SLICE_LIT(RETAINED_KEY);
}

static struct retained *retained_find(const struct mqg_vhost *v)
{
    struct retained *r = atomic_load_explicit(&retained_all, memory_order_acquire);
    while (r && r->vhost != v)
        r = r->next;
    return r;
}

/* ---- the tree: under r->lock --------------------------------------------------------------------------------------- */

static bool level_next(struct mqg_slice *rest, struct mqg_slice *level, bool *more)
{
    if (!*more)
        return false;
    const uint8_t *slash = rest->len ? memchr(rest->ptr, '/', rest->len) : NULL;
    *level = mqg_slice_of(rest->ptr, slash ? (size_t)(slash - rest->ptr) : rest->len);
    *more = slash != NULL;
    if (slash)
        *rest = mqg_slice_of(slash + 1, rest->len - level->len - 1);
    return true;
}

static struct retained_node *node_at(struct retained *r, struct mqg_slice topic, bool make)
{
    struct retained_node *node = &r->root;
    struct mqg_slice level;
    bool more = true;
    while (node && level_next(&topic, &level, &more)) {
        struct retained_node *child = mqg_map_get(&node->children, level);
        if (!child && make) {
            child = mqg_xcalloc(1, sizeof(*child));
            child->parent = node;
            child->level = mqg_slice_of(mqg_slice_dup(level), level.len);
            mqg_map_init(&child->children, MQG_MAP_BORROW);
            mqg_map_set(&node->children, child->level, child);
        }
        node = child;
    }
    return node;
}

static void node_prune(struct retained_node *node)
{
    while (node->parent && !node->msg && node->children.count == 0) {
        struct retained_node *parent = node->parent;
        mqg_map_del(&parent->children, node->level);
        mqg_map_fini(&node->children);
        free((void *)(uintptr_t)node->level.ptr);
        free(node);
        node = parent;
    }
}

static bool msg_clears(const struct mqg_msg *m)
{
    return m->st.body_len == 0;
}

/* Takes one reference of m; NULL empties the node. */
static void node_set(struct retained *r, struct retained_node *node, struct mqg_msg *m)
{
    bool had = node->msg && !msg_clears(node->msg), has = m && !msg_clears(m);
    r->count += has;
    r->count -= had;
    mqg_msg_unref(&node->msg);
    node->msg = m;
}

static bool msg_same(const struct mqg_msg *a, const struct mqg_msg *b)
{
    return a && a->st.id_hi == b->st.id_hi && a->st.id_lo == b->st.id_lo;
}

static void topic_text(struct mqg_dynbuf *b, const struct mqg_msg *m)
{
    bool escaped;
    mqtt_topic_out(b, mqg_msg_key(m), (char)m->st.key_sep, &escaped);
}

/* One message of the queue, in its order. Handles to be settled are added to `done`. */
static void retained_arrived(struct retained *r, const struct mqg_delivery *d, uint64_t *done, size_t *ndone)
{
    struct mqg_dynbuf text;
    mqg_dynbuf_init(&text, 1u << 17);
    topic_text(&text, d->msg);
    pthread_mutex_lock(&r->lock);
    struct retained_node *node = node_at(r, mqg_dynbuf_view(&text), true);
    bool ours = msg_same(node->msg, d->msg);
    if (!ours && node->msg && node->handle == 0) { /* a newer one is on its way */
        done[(*ndone)++] = d->handle;
    } else {
        if (node->handle != 0)
            done[(*ndone)++] = node->handle;
        if (!ours)
            node_set(r, node, mqg_msg_ref(d->msg));
        node->handle = d->handle;
        node->qseq = d->qseq;
        if (msg_clears(d->msg)) {
            done[(*ndone)++] = d->handle;
            node->handle = 0;
            node_set(r, node, NULL);
        }
    }
    node_prune(node);
    pthread_mutex_unlock(&r->lock);
    mqg_dynbuf_fini(&text);
}

/* ---- the queue's consumer -------------------------------------------------------------------------------------------- */

static size_t retained_deliver(struct mqg_sub *sub, void *owner, const struct mqg_delivery *d, size_t n)
{
    struct retained *r = owner;
    uint64_t done[MQTT_SETTLE_BATCH];
    size_t ndone = 0;
    for (size_t i = 0; i < n; i++) {
        if (ndone + 2 > MQTT_SETTLE_BATCH) {
            mqg_settle(r->queue, sub, done, ndone, MQG_SETTLE_ACK);
            ndone = 0;
        }
        retained_arrived(r, &d[i], done, &ndone);
        struct mqg_msg *m = d[i].msg;
        mqg_msg_unref(&m);
    }
    if (ndone > 0)
        mqg_settle(r->queue, sub, done, ndone, MQG_SETTLE_ACK);
    atomic_fetch_add(&r->loaded, n);
    return n;
}

static void node_clear(struct retained *r, struct retained_node *node)
{
    for (struct mqg_map_iter it = {.left = 0}; mqg_map_next(&node->children, &it);) {
        struct retained_node *child = it.value;
        node_clear(r, child);
        free((void *)(uintptr_t)child->level.ptr);
        free(child);
    }
    mqg_map_fini(&node->children);
    mqg_map_init(&node->children, MQG_MAP_BORROW);
    node_set(r, node, NULL);
    node->handle = 0;
}

/* The queue was deleted, with its vhost or by somebody: nothing is retained any more. */
static void retained_cancelled(struct mqg_sub *sub, void *owner)
{
    struct retained *r = owner;
    (void)sub;
    pthread_mutex_lock(&r->lock);
    node_clear(r, &r->root);
    pthread_mutex_unlock(&r->lock);
    mqg_unsubscribe(&r->sub);
    mqg_queue_unref(&r->queue);
}

static const struct mqg_sub_ops retained_ops = {.deliver = retained_deliver, .cancelled = retained_cancelled};

static enum mqg_err retained_open(struct retained *r, struct mqg_error *e)
{
    struct mqg_slice name = MQG_SLICE_LIT(MQTT_RETAINED_QUEUE);
    struct mqg_session *own = mqg_session_internal(r->vhost);
    struct mqg_queue_def d = {.name = name, .durable = true};
    struct mqg_sub_def sub = {.tag = name};
    struct mqg_queue_ok ok = {.messages = 0};
    uint64_t ticket = 0;
    enum mqg_err err = mqg_queue_declare(own, &d, false, &ok, &ticket, e);
    if (err == MQG_OK)
        err = mqtt_bind(r->vhost, name, mqtt_retained_key(), true, &ticket, e);
    if (err == MQG_OK)
        err = mqg_queue_open(own, name, &r->queue, e);
    r->expected = ok.messages;
    if (err == MQG_OK)
        err = mqg_subscribe(r->queue, &sub, &retained_ops, r, &r->sub, e);
    mqg_session_unref(&own);
    return err;
}

static enum mqg_err retained_sys_exchange(struct mqg_vhost *v, struct mqg_error *e)
{
    struct mqg_session *own = mqg_session_internal(v);
    struct mqg_exchange_def d = {
        .name = MQG_SLICE_LIT(MQTT_SYS_EXCHANGE), .type = MQG_SLICE_LIT("topic"), .durable = true};
    uint64_t ticket = 0;
    enum mqg_err err = mqg_exchange_declare(own, &d, false, &ticket, e);
    mqg_session_unref(&own);
    return err;
}

static struct retained *retained_start(struct mqg_vhost *v)
{
    struct retained *r = mqg_xcalloc(1, sizeof(*r));
    struct mqg_error e = {0};
    r->vhost = v;
    r->worker = mqg_worker_self();
    r->started_ms = r->worker->now.mono_ms;
    pthread_mutex_init(&r->lock, NULL);
    mqg_map_init(&r->root.children, MQG_MAP_BORROW);
    if (retained_sys_exchange(v, &e) != MQG_OK || retained_open(r, &e) != MQG_OK)
        mqg_log(MQG_LOG_ERROR, MQG_EVENT_DEFINE, "queue=%s why=%s", MQTT_RETAINED_QUEUE, mqg_logqs(e.text));
    r->next = atomic_load(&retained_all);
    atomic_store_explicit(&retained_all, r, memory_order_release);
    return r;
}

bool mqtt_retained_begun(const struct mqg_vhost *v)
{
    const struct retained *r = retained_find(v);
    return r && atomic_load_explicit(&r->ready, memory_order_acquire);
}

struct mqg_slice mqtt_exchange_of(struct mqg_slice topic)
{
    return mqg_slice_starts(topic, MQG_SLICE_LIT("$SYS/")) ? MQG_SLICE_LIT(MQTT_SYS_EXCHANGE)
                                                           : mqg_slice_str(mqtt_settings()->exchange);
}

bool mqtt_retained_ready(struct mqg_vhost *v)
{
    struct retained *r = retained_find(v);
    if (r && atomic_load_explicit(&r->ready, memory_order_acquire))
        return true;
    pthread_mutex_lock(&retained_lock);
    r = retained_find(v);
    if (!r)
        r = retained_start(v);
    pthread_mutex_unlock(&retained_lock);
    uint64_t waited_ms = mqg_worker_self()->now.mono_ms - r->started_ms;
    bool ready = atomic_load(&r->loaded) >= r->expected || waited_ms > RETAINED_LOAD_MS;
    if (ready)
        atomic_store_explicit(&r->ready, true, memory_order_release);
    return ready;
}

/* ---- publishing ------------------------------------------------------------------------------------------------------------ */

bool mqtt_retained_room(struct mqg_vhost *v, struct mqg_slice topic)
{
    struct retained *r = retained_find(v);
    if (!r)
        return true;
    pthread_mutex_lock(&r->lock);
    bool room = r->count < mqtt_settings()->retained_max || node_at(r, topic, false) != NULL;
    pthread_mutex_unlock(&r->lock);
    return room;
}

bool mqtt_retained_set(struct mqg_vhost *v, struct mqg_msg *m, bool stored)
{
    struct retained *r = retained_find(v);
    if (!r)
        return false;
    pthread_mutex_lock(&r->lock);
    struct retained_node *node = node_at(r, mqg_msg_key(m), true);
    uint64_t old = node->handle;
    /* What is known in the queue is settled when this one arrives there: its handle stays with the node until then, unless
     * nothing will arrive. */
    node_set(r, node, mqg_msg_ref(m));
    if (!stored) {
        node->handle = 0;
        if (msg_clears(m))
            node_set(r, node, NULL);
        node_prune(node);
    }
    (void)old;
    pthread_mutex_unlock(&r->lock);
    return true;
}

/* ---- subscribing ------------------------------------------------------------------------------------------------------------- */

struct retained_search {
    struct mqg_slice levels[MQTT_LEVELS_MAX + 1];
    size_t n;
    struct mqg_vec found;
    uint64_t now_us;
};

static void search_take(struct retained_search *s, const struct retained_node *node)
{
    struct mqg_msg *m = node->msg;
    if (!m || msg_clears(m))
        return;
    bool over = (m->st.flags & MQG_MSG_HAS_TTL) && s->now_us >= m->st.append_us + m->st.ttl_ms * 1000;
    if (!over)
        mqg_vec_push(&s->found, mqg_msg_ref(m));
}

static bool search_hidden(const struct retained_node *node, size_t depth)
{
    return depth == 0 && node->level.len > 0 && node->level.ptr[0] == '$'; /* [MQTT-4.7.2-1] */
}

static void search_all(struct retained_search *s, const struct retained_node *node, size_t depth)
{
    search_take(s, node);
    for (struct mqg_map_iter it = {.left = 0}; mqg_map_next(&node->children, &it);)
        if (!search_hidden(it.value, depth))
            search_all(s, it.value, depth + 1);
}

static void search_node(struct retained_search *s, const struct retained_node *node, size_t depth)
{
    if (depth == s->n) {
        search_take(s, node);
        return;
    }
    struct mqg_slice level = s->levels[depth];
    if (mqg_slice_eq(level, MQG_SLICE_LIT("#"))) {
        search_all(s, node, depth);
        return;
    }
    if (!mqg_slice_eq(level, MQG_SLICE_LIT("+"))) {
        const struct retained_node *child = mqg_map_get(&node->children, level);
        if (child)
            search_node(s, child, depth + 1);
        return;
    }
    for (struct mqg_map_iter it = {.left = 0}; mqg_map_next(&node->children, &it);)
        if (!search_hidden(it.value, depth))
            search_node(s, it.value, depth + 1);
}

static bool sent_back_to_its_publisher(const struct mqtt_session *s, const struct mqtt_sub *sub,
                                       const struct mqg_msg *m)
{
    struct mqg_slice client = mqg_slice_of(mqg_msg_at_user(m) + m->st.user_len, m->st.client_len);
    return sub->no_local && m->st.proto == MQG_PROTO_MQTT && mqg_slice_eq(client, s->client);
}

static void retained_send_one(struct mqtt_session *s, const struct mqtt_sub *sub, const struct mqg_msg *m,
                              struct mqg_queue *q)
{
    char mark[64];
    if (sent_back_to_its_publisher(s, sub, m))
        return;
    uint8_t qos = mqtt_origin_of(m).qos < sub->qos ? mqtt_origin_of(m).qos : sub->qos;
    int n = snprintf(mark, sizeof(mark), MQTT_RETAINED_MARK "%u/%u", qos, sub->id);
    uint8_t flags = m->st.flags;
    if (qos == 0 || !s->durable)
        flags &= (uint8_t)~MQG_MSG_PERSISTENT;
    struct mqg_msg *copy = mqg_msg_derive(m, mqg_slice_of(mark, (size_t)n), mqg_msg_key(m),
                                          mqg_msg_overlay(m), flags, m->st.ttl_ms);
    if (!copy)
        return;
    copy->st.append_us = m->st.append_us; /* its life began when it was published */
    mqg_publish_direct(q, copy);
}

void mqtt_retained_send(struct mqtt_session *s, const struct mqtt_sub *sub, struct mqg_queue *q)
{
    struct retained *r = retained_find(s->vhost);
    if (!r)
        return;
    struct retained_search search = {.n = 0, .now_us = mqg_worker_self()->now.wall_us};
    struct mqg_slice rest = mqtt_sub_filter(sub), level;
    bool more = true;
    while (search.n <= MQTT_LEVELS_MAX && level_next(&rest, &level, &more))
        search.levels[search.n++] = level;
    pthread_mutex_lock(&r->lock);
    search_node(&search, &r->root, 0);
    pthread_mutex_unlock(&r->lock);
    for (size_t i = 0; i < search.found.n; i++) {
        struct mqg_msg *m = search.found.items[i];
        retained_send_one(s, sub, m, q);
        mqg_msg_unref(&m);
    }
    mqg_vec_fini(&search.found);
}

/* ---- the end ---------------------------------------------------------------------------------------------------------------------- */

size_t mqtt_retained_count(void)
{
    size_t n = 0;
    for (struct retained *r = atomic_load(&retained_all); r; r = r->next) {
        pthread_mutex_lock(&r->lock);
        n += r->count;
        pthread_mutex_unlock(&r->lock);
    }
    return n;
}

void mqtt_retained_stop(struct mqg_worker *w)
{
    for (struct retained *r = atomic_load(&retained_all); r; r = r->next) {
        if (r->worker != w || !r->sub)
            continue;
        mqg_unsubscribe(&r->sub);
        mqg_queue_unref(&r->queue);
        pthread_mutex_lock(&r->lock);
        node_clear(r, &r->root);
        pthread_mutex_unlock(&r->lock);
    }
}

void mqtt_retained_fini(void)
{
    struct retained *r = atomic_exchange(&retained_all, NULL);
    while (r) {
        struct retained *next = r->next;
        mqg_map_fini(&r->root.children);
        pthread_mutex_destroy(&r->lock);
        free(r);
        r = next;
    }
}
