/* routing/publish.c - publishing, per worker and turn: route, note, flush, confirm.
 *
 * mqg_publish only routes and notes (see publish.h). The flush gives each dirty queue its messages under one lock, then hands
 * every stored message to the lane once with all its destinations. A dead letter made during the flush is noted the same
 * way and flushed in the same pass: lists are walked by index, since they may grow meanwhile.
 *
 * Confirms are publish_confirm.c's. */
#include "definitions_int.h"
#include "publish.h"

#include <stdlib.h>

#include <mqgate/obs.h>

#include "queue_int.h"
#include "stream_int.h"

static _Thread_local struct publisher *publisher_tls;
static uint16_t publish_epoch_now;

struct publisher *publisher_self(void)
{
    MQG_ASSERT(publisher_tls != NULL);
    return publisher_tls;
}

uint64_t publish_qseq_base(void)
{
    return (uint64_t)publish_epoch_now << 48 | 1;
}
void publish_epoch_set(uint16_t epoch)
{
    publish_epoch_now = epoch;
}
uint16_t publish_epoch(void)
{
    return publish_epoch_now;
}

void *publisher_room(void *array, uint32_t n, uint32_t *cap, size_t size)
{
    if (n < *cap)
        return array;
    *cap = *cap ? *cap * 2 : 256;
    return mqg_xrealloc(array, *cap * size);
}

/* ---- noting ---------------------------------------------------------------------------------------------------------- */

static void publish_put(struct publisher *p, struct mqg_queue *q, uint32_t item, uint32_t dest)
{
    struct queue_slot *slot = queue_slot(q, p->worker);
    p->puts = publisher_room(p->puts, p->nputs, &p->puts_cap, sizeof(*p->puts));
    p->puts[p->nputs] = (struct put){item, dest, PUT_NONE};
    if (slot->put_head == PUT_NONE) {
        slot->put_head = p->nputs;
        slot->next_put = p->dirty_puts;
        p->dirty_puts = slot;
        mqg_queue_ref(q);
    } else {
        p->puts[slot->put_tail].next = p->nputs;
    }
    slot->put_tail = p->nputs++;
}

/* One message to those of r that keep what they store in `storage` (NULL: nothing is stored). Takes m. */
static void publish_note(struct publisher *p, struct mqg_msg *m, struct mqg_pub_state *ps, uint64_t seq,
                         const struct route_set *r, struct mqg_storage *storage, bool all)
{
    p->items = publisher_room(p->items, p->nitems, &p->items_cap, sizeof(*p->items));
    uint32_t at = p->nitems++;
    p->items[at] = (struct item){.msg = m, .pub = ps, .seq = seq, .dest = p->ndests, .storage = storage};
    for (size_t i = 0; i < r->n; i++) {
        struct mqg_queue *q = r->queues[i];
        if (!all && q->storage != storage)
            continue;
        p->dests = publisher_room(p->dests, p->ndests, &p->dests_cap, sizeof(*p->dests));
        p->dests[p->ndests] = (struct mqg_dest){0, 0};
        if (q->stream && ps) { /* a stream keeps everything, persistent or not */
            ps->stored |= 1u << q->storage->index;
            ps->streamed = true;
        }
        publish_put(p, q, at, p->ndests++);
    }
    p->items[at].ndest = p->ndests - p->items[at].dest;
    /* One reference per copy, one for the flush, besides those that the caller keeps; no other thread sees m yet. */
    uint32_t refs = atomic_load_explicit(&m->refs, memory_order_relaxed);
    atomic_store_explicit(&m->refs, refs + p->items[at].ndest, memory_order_relaxed);
    if (storage && ps)
        ps->stored |= 1u << storage->index;
}

/* The publish will be confirmed negatively. */
void pub_reject(struct mqg_pub_state *ps, uint64_t seq)
{
    if (!ps || seq == 0 || (ps->nrejected > 0 && ps->rejected[ps->nrejected - 1] == seq))
        return;
    ps->rejected = publisher_room(ps->rejected, ps->nrejected, &ps->rejected_cap, sizeof(*ps->rejected));
    ps->rejected[ps->nrejected++] = seq;
}

/* Persistent messages are stored where their durable queues are: usually one store, else a copy for each further one. */
static void publish_spread(struct publisher *p, struct mqg_msg *m, struct mqg_pub_state *ps, uint64_t seq,
                           const struct route_set *r)
{
    struct mqg_storage *first = NULL;
    bool one = true;
    if (mqg_msg_persistent(m)) {
        first = r->queues[0]->storage;
        for (size_t i = 1; i < r->n && one; i++)
            one = r->queues[i]->storage == first;
    }
    if (one) {
        publish_note(p, m, ps, seq, r, first, true);
        return;
    }
    struct mqg_storage *seen[MQG_STORES_MAX + 1];
    size_t nseen = 0;
    for (size_t i = 0; i < r->n; i++) {
        struct mqg_storage *s = r->queues[i]->storage;
        size_t k = 0;
        while (k < nseen && seen[k] != s)
            k++;
        if (k < nseen)
            continue;
        seen[nseen++] = s;
        struct mqg_msg *copy = nseen == 1 ? m : mqg_msg_clone(m);
        if (copy)
            publish_note(p, copy, ps, seq, r, s, false);
        else
            pub_reject(ps, seq);
    }
}

static void pub_mark(struct publisher *p, struct mqg_pub_state *ps, uint64_t seq)
{
    if (seq == 0)
        return;
    ps->turn_seq = seq;
    if (ps->dirty)
        return;
    ps->dirty = true;
    ps->next_dirty = p->dirty_pubs;
    p->dirty_pubs = ps;
}

void publish_internal(struct publisher *p, struct mqg_msg *m, const struct route_set *r)
{
    if (r->n == 0)
        mqg_msg_unref(&m);
    else
        publish_spread(p, m, NULL, 0, r);
}

void mqg_publish_direct(struct mqg_queue *q, struct mqg_msg *m)
{
    struct route_set one = {.queues = &q, .n = 1};
    publish_internal(publisher_self(), m, &one);
}

/* ---- routing with a one-entry cache -------------------------------------------------------------------------------------- */

static bool pub_cache_hit(const struct mqg_pub_state *ps, const struct mqg_msg *m, uint64_t generation,
                          uint64_t auth_generation)
{
    return ps->cached && ps->generation == generation && ps->auth_generation == auth_generation &&
           ps->exchange_len == m->st.exchange_len && ps->key_len == m->st.key_len &&
           ps->key_sep == m->st.key_sep && memcmp(ps->exchange, m->data, ps->exchange_len) == 0 &&
           memcmp(ps->key, mqg_msg_at_key(m), ps->key_len) == 0;
}

static enum mqg_err pub_exchange(struct mqg_pub *pub, struct mqg_slice name, const struct mqg_exchange **out,
                                 struct mqg_error *e)
{
    struct mqg_session *s = pub->session;
    const struct mqg_exchange *x = topology_exchange(s->vhost, name);
    if (!x)
        return mqg_error_set(e, MQG_NOT_FOUND, 404, "no exchange '%.*s' in vhost '%.*s'", MQG_SLICE_FMT(name),
                             MQG_SLICE_FMT(mqg_vhost_name(s->vhost)));
    enum mqg_err err = mqg_session_need(s, MQG_WRITE, "exchange", name, e);
    if (err != MQG_OK)
        return err;
    if (topology_exchange_internal(x))
        return mqg_error_set(e, MQG_DENIED, 403, "cannot publish to internal exchange '%.*s' in vhost '%.*s'",
                             MQG_SLICE_FMT(name), MQG_SLICE_FMT(mqg_vhost_name(s->vhost)));
    *out = x;
    return MQG_OK;
}

enum mqg_err mqg_publish_check(struct mqg_pub *pub, struct mqg_slice exchange, struct mqg_error *e)
{
    struct mqg_pub_state *ps = pub->state;
    if (ps->cached && ps->exchange_len == exchange.len &&
        memcmp(ps->exchange, exchange.ptr, exchange.len) == 0 &&
        ps->generation == topology_generation(pub->session->vhost) &&
        ps->auth_generation == mqg_auth_generation())
        return MQG_OK;
    const struct mqg_exchange *x;
    return pub_exchange(pub, exchange, &x, e);
}

/* A stream that is reached by its bridge alone wants the right to write to it, too. */
static void pub_cross(struct mqg_pub *pub, struct route_set *r)
{
    struct mqg_error e;
    if (r->bridged == NULL ||
        mqg_session_need(pub->session, MQG_WRITE, "queue", r->bridged->def.name, &e) == MQG_OK)
        return;
    for (size_t i = 0; i < r->n; i++)
        if (r->queues[i] == r->bridged) {
            r->queues[i] = r->queues[--r->n];
            break;
        }
    mqg_count(MQG_COUNT_CROSSING_DENIED, 1);
}

static enum mqg_err pub_route(struct mqg_pub *pub, struct mqg_msg *m, const struct mqg_slice *extra,
                              size_t nextra, struct mqg_error *e)
{
    struct mqg_pub_state *ps = pub->state;
    struct mqg_vhost *v = pub->session->vhost;
    uint64_t generation = topology_generation(v), auth_generation = mqg_auth_generation();
    if (nextra == 0 && pub_cache_hit(ps, m, generation, auth_generation))
        return MQG_OK;
    ps->cached = false;
    const struct mqg_exchange *x = NULL;
    enum mqg_err err = pub_exchange(pub, mqg_msg_exchange(m), &x, e);
    if (err != MQG_OK)
        return err;
    struct mqg_slice one = mqg_msg_key(m);
    struct mqg_slice keys[129];
    keys[0] = one;
    size_t n = nextra > 128 ? 128 : nextra;
    for (size_t i = 0; i < n; i++)
        keys[i + 1] = extra[i];
    topology_route(v, x, m, keys, n + 1, &ps->routes);
    pub_cross(pub, &ps->routes);
    if (nextra == 0 && m->st.exchange_len < 256 && m->st.key_len < 256 && topology_cacheable(x)) {
        ps->cached = true;
        ps->generation = generation;
        ps->auth_generation = auth_generation;
        ps->exchange_len = (uint8_t)m->st.exchange_len;
        ps->key_len = m->st.key_len;
        ps->key_sep = (char)m->st.key_sep;
        memcpy(ps->exchange, m->data, m->st.exchange_len);
        memcpy(ps->key, one.ptr, one.len);
    }
    return MQG_OK;
}

enum mqg_err mqg_publish(struct mqg_pub *pub, struct mqg_msg *m, unsigned flags, uint64_t seq,
                         const struct mqg_slice *extra_keys, size_t nkeys, struct mqg_error *e)
{
    struct mqg_pub_state *ps = pub->state;
    struct publisher *p = ps->publisher;
    enum mqg_err err = pub_route(pub, m, extra_keys, nkeys, e);
    if (err != MQG_OK) {
        mqg_msg_unref(&m);
        return err;
    }
    pub_mark(p, ps, seq);
    if (MQG_LIKELY(ps->routes.n > 0)) {
        publish_spread(p, m, ps, seq, &ps->routes);
        return MQG_OK;
    }
    if (flags & MQG_PUBLISH_MANDATORY) {
        mqg_count(MQG_COUNT_UNROUTABLE_RETURNED, 1);
        return mqg_error_set(e, MQG_NOT_FOUND, 312, "NO_ROUTE");
    }
    mqg_count(MQG_COUNT_UNROUTABLE_DROPPED, 1);
    mqg_msg_unref(&m);
    return MQG_OK;
}

/* ---- flush ------------------------------------------------------------------------------------------------------------------ */

void publish_reject(struct item *item)
{
    if (item->rejected)
        return;
    item->rejected = true;
    pub_reject(item->pub, item->seq);
}

/* True when the queue took its copy. */
static bool publish_put_one(struct queue_work *w, const struct put *put)
{
    struct publisher *p = w->pub;
    struct item *item = &p->items[put->item];
    struct mqg_msg *m = item->msg;
    bool stored = item->storage != NULL && w->queue->storage == item->storage;
    if (w->queue->ended) { /* deleted in this turn: as if it had not been bound */
        mqg_msg_unref(&m);
        return false;
    }
    if (stored && m->extent == NULL)
        m->extent = mqg_lane_extent(item->storage);
    if (!queue_append(w, m, &p->dests[put->dest], stored)) {
        publish_reject(item);
        mqg_msg_unref(&m);
        return false;
    }
    if (stored)
        mqg_extent_take(m->extent, 1);
    return true;
}

static uint64_t publish_slot(struct publisher *p, struct queue_slot *slot)
{
    struct mqg_queue *q = slot->queue;
    uint32_t at = slot->put_head;
    slot->put_head = slot->put_tail = PUT_NONE;
    struct queue_work w;
    queue_lock(q, &w);
    bool limited = q->opts->max_length != UINT64_MAX || q->opts->max_bytes != UINT64_MAX;
    bool was_empty = q->ready == 0;
    uint64_t taken = 0;
    while (at != PUT_NONE) {
        struct put put = p->puts[at];
        if (publish_put_one(&w, &put))
            taken++;
        if (limited) {
            queue_dispatch(&w);
            queue_overflow(&w);
        }
        at = put.next;
    }
    queue_dispatch(&w);
    if (was_empty && q->ready > 0)
        queue_arm(q);
    if (q->storage) {
        queue_page_out(q, taken);
        queue_span_forget(q, taken);
    }
    queue_put_aside(&w);
    queue_unlock(&w);
    mqg_queue_unref(&q);
    return taken;
}

static void publish_store_item(struct publisher *p, struct item *item)
{
    struct mqg_dest *dests = p->dests + item->dest;
    uint32_t n = 0;
    for (uint32_t i = 0; i < item->ndest; i++)
        if (dests[i].queue_id != 0)
            dests[n++] = dests[i];
    if (n == 0) {
        mqg_msg_unref(&item->msg);
        return;
    }
    struct mqg_store_op op = {.kind = MQG_OP_MSG, .msg = {item->msg, dests, n}};
    mqg_lane_add(item->storage, &op, item->seq != 0);
    item->msg = NULL; /* the lane's now */
}

static void publish_ends_forget(struct publisher *p)
{
    for (uint32_t i = 0; i < p->nends; i++) {
        struct mqg_queue *q = p->ends[i].partition->stream->queue;
        mqg_queue_unref(&q);
    }
    p->nends = 0;
}

bool publish_flush(struct publisher *p)
{
    if (p->nitems == 0 && !p->dirty_pubs)
        return false;
    uint64_t routed = 0;
    while (p->dirty_puts) {
        struct queue_slot *slot = p->dirty_puts;
        p->dirty_puts = slot->next_put;
        routed += slot->queue->stream ? stream_put(p, slot) : publish_slot(p, slot);
    }
    mqg_count(MQG_COUNT_PUBLISHED, p->nitems);
    mqg_count(MQG_COUNT_ROUTED, routed);
    for (uint32_t i = 0; i < p->nitems; i++) {
        if (p->items[i].storage)
            publish_store_item(p, &p->items[i]);
        else
            mqg_msg_unref(&p->items[i].msg);
    }
    p->nitems = p->nputs = p->ndests = 0;
    while (p->dirty_pubs) {
        struct mqg_pub_state *ps = p->dirty_pubs;
        p->dirty_pubs = ps->next_dirty;
        pub_close_turn(ps);
        if (!ps->pub)
            pub_state_free(ps);
    }
    publish_ends_forget(p);
    return true;
}

void mqg_publish_flush(void)
{
    publish_flush(publisher_self());
}

/* ---- what definitions leave for later ------------------------------------------------------------------------------------------ */

static void publish_drop_run(struct mqg_task *task)
{
    if (definitions_drop_slice())
        mqg_worker_post(mqg_worker_self(), task);
    else
        publisher_self()->dropping = false;
}

/* A slice per turn of this worker, in which others are served too. */
bool definitions_drop_later(void)
{
    struct mqg_worker *w = mqg_worker_self();
    if (!w)
        return false;
    struct publisher *p = w->routing;
    if (!p->dropping)
        mqg_worker_post(w, &p->drop);
    p->dropping = true;
    return true;
}

/* ---- phases --------------------------------------------------------------------------------------------------------------------------- */

/* What connections declared in this turn is visible before anything it caused leaves. */
static bool phase_publish(struct mqg_worker *w)
{
    topology_see();
    return publish_flush(w->routing);
}

static bool phase_deliver(struct mqg_worker *w)
{
    return sub_ready_drain(w->routing);
}

static bool phase_store(struct mqg_worker *w)
{
    topology_see();
    publish_settle_flush(w->routing);
    return mqg_lanes_turn();
}

static void publisher_start(struct mqg_worker *w)
{
    publisher_tls = w->routing;
    topology_may_draft = true;
    if (w->index == 0)
        queue_memory_watch();
}

static void publisher_stop(struct mqg_worker *w)
{
    topology_see();
    topology_may_draft = false;
    publish_settle_flush(w->routing);
    mqg_lanes_turn();
}

static struct publisher *publisher_new(struct mqg_worker *w)
{
    struct publisher *p = mqg_xcalloc(1, sizeof(*p));
    p->worker = w;
    p->drop.run = publish_drop_run;
    route_set_init(&p->routes);
    mqg_arena_init(&p->arena, 4u << 20);
    mqg_dynbuf_init(&p->overlay, 4u << 20);
    mqg_builder_init(&p->builder, STREAM_BATCH_MAX_BYTES);
    p->builder.attributes = MQG_BATCH_ROUTED;
    return p;
}

void publish_init(void)
{
    for (uint32_t i = 0; i < mqg_worker_count(); i++)
        mqg_worker_at(i)->routing = publisher_new(mqg_worker_at(i));
    publisher_tls = mqg_worker_at(0)->routing; /* the main thread's, until the workers run */
    mqg_worker_on_start(publisher_start, publisher_stop);
    mqg_worker_on_phase(MQG_PHASE_PUBLISH, phase_publish);
    mqg_worker_on_phase(MQG_PHASE_DELIVER, phase_deliver);
    mqg_worker_on_phase(MQG_PHASE_STORE, phase_store);
}

void publish_fini(void)
{
    for (uint32_t i = 0; i < mqg_worker_count(); i++) {
        struct publisher *p = mqg_worker_at(i)->routing;
        free(p->items);
        free(p->dests);
        free(p->puts);
        free(p->settles);
        free(p->ranges);
        free(p->ends);
        route_set_fini(&p->routes);
        mqg_arena_fini(&p->arena);
        mqg_dynbuf_fini(&p->overlay);
        mqg_builder_fini(&p->builder);
        free(p);
        mqg_worker_at(i)->routing = NULL;
    }
    publisher_tls = NULL;
}
