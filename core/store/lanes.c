/* core/store/lanes.c - configured stores, and the batch that each worker hands each of them once per turn.
 *
 * A lane is one worker's part of one store: the ops of this turn with what they point to (copied into pieces that never
 * move), the next ticket, and the waiters in ticket order. The store's done() only raises an atomic number; the worker is
 * woken only if somebody waits for that ticket, so a batch of settles wakes nobody. */
#include <mqgate/lanes.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <mqgate/obs.h>

#define LANE_PIECE_BYTES (64u << 10)
#define LANE_RETRY_MS    2

/* Memory for what ops point to; kept from turn to turn. */
struct piece {
    struct piece *next;
    size_t used, cap;
    max_align_t data[];
};

/* A large append: the store writes it from here, so it stays until its batch is done. */
struct held {
    struct held *next;
    uint64_t ticket;
    max_align_t data[];
};

struct lane {
    struct mqg_storage *storage;
    struct mqg_store_op *ops;
    uint32_t n, cap;
    struct piece *pieces, *at;      /* `at`: the one being filled */
    struct held *held, **held_last; /* by ticket */
    uint64_t next_ticket;
    bool urgent;
    bool control; /* holds a definition */
    bool behind;  /* refused last time: publishers stand still until it is taken */
    struct mqg_waiter *first, **last;
    struct mqg_extent *extent;
    struct mqg_timer retry;
    _Atomic uint64_t done;
    _Atomic uint64_t wanted; /* lowest ticket somebody waits for; UINT64_MAX: nobody */
};

struct lanes {
    struct lane lane[MQG_STORES_MAX];
};

static struct mqg_storage storages[MQG_STORES_MAX];
static uint32_t nstorages;
static struct mqg_storage *storage_default;
static const char *storage_recovering = "";
static const struct mqg_store_ops *types[MQG_STORES_MAX * 2];
static uint32_t ntypes;
static struct lanes *all_lanes; /* one per worker, and the main thread's behind them */
static uint32_t nlanes;
static _Atomic(const char *) failure;
static char failure_text[256];
static void (*failure_fn)(const char *text);
static void (*pressure_fn)(bool blocked, const char *why);
static void (*stream_ready_fn)(uint64_t partition);
static size_t (*queue_live_fn)(uint64_t queue_id, struct mqg_range *ranges, size_t max, uint64_t *upto);

/* ---- what adapters call (any thread) --------------------------------------------------------------------------------- */

static void host_done(void *host, uint32_t lane, uint64_t ticket)
{
    struct mqg_storage *s = host;
    struct lane *l = &all_lanes[lane].lane[s->index];
    atomic_store_explicit(&l->done, ticket, memory_order_seq_cst);
    if (atomic_load_explicit(&l->wanted, memory_order_seq_cst) <= ticket && lane < mqg_worker_count())
        mqg_worker_wake(mqg_worker_at(lane));
}

static void host_failed(void *host, enum mqg_err err, const char *text)
{
    struct mqg_storage *s = host;
    if (atomic_exchange(&s->failed, true))
        return;
    snprintf(failure_text, sizeof(failure_text), "store %s failed: %s (%s)", s->name, text,
             mqg_err_name(err));
    atomic_store(&failure, failure_text);
    mqg_log(MQG_LOG_ERROR, MQG_EVENT_STORE, "store=%s state=failed err=%s text=%s", s->name,
            mqg_err_name(err), mqg_logqs(text));
    if (failure_fn)
        failure_fn(failure_text);
}

/* Publishers stand still while any store asks for it, or is behind with what it was given. */
static void storage_pressure(const char *why)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* what is told last is what holds */
    pthread_mutex_lock(&lock);
    bool any = false;
    for (uint32_t i = 0; i < MQG_STORES_MAX; i++)
        any = any || atomic_load(&storages[i].blocked) || atomic_load(&storages[i].behind) > 0;
    if (pressure_fn)
        pressure_fn(any, why);
    pthread_mutex_unlock(&lock);
}

static void host_pressure(void *host, bool blocked, const char *why)
{
    struct mqg_storage *s = host;
    if (atomic_exchange(&s->blocked, blocked) == blocked)
        return;
    mqg_log(MQG_LOG_WARN, MQG_EVENT_PRESSURE, "store=%s blocked=%s why=%s", s->name,
            blocked ? "true" : "false", mqg_logqs(why ? why : ""));
    storage_pressure(why);
}

static void host_stream_ready(void *host, uint64_t partition)
{
    (void)host;
    if (stream_ready_fn)
        stream_ready_fn(partition);
}

static size_t host_queue_live(void *host, uint64_t queue_id, struct mqg_range *ranges, size_t max,
                              uint64_t *upto)
{
    (void)host;
    *upto = 0;
    return queue_live_fn ? queue_live_fn(queue_id, ranges, max, upto) : 0;
}

/* ---- configured stores -------------------------------------------------------------------------------------------------- */

void mqg_stores_register(const struct mqg_store_ops *ops)
{
    MQG_ASSERT(ntypes < MQG_COUNTOF(types));
    types[ntypes++] = ops;
}

void mqg_stores_on_failure(void (*fn)(const char *text))
{
    failure_fn = fn;
}

void mqg_stores_on_pressure(void (*fn)(bool blocked, const char *why))
{
    pressure_fn = fn;
}

void mqg_stores_queue_live(size_t (*fn)(uint64_t queue_id, struct mqg_range *ranges, size_t max,
                                        uint64_t *upto))
{
    queue_live_fn = fn;
}

void mqg_stores_stream_ready(void (*fn)(uint64_t partition))
{
    stream_ready_fn = fn;
}

const char *mqg_stores_failure(void)
{
    return atomic_load(&failure);
}

static const struct mqg_store_ops *type_find(const char *type)
{
    for (uint32_t i = 0; i < ntypes; i++)
        if (strcmp(types[i]->type, type) == 0)
            return types[i];
    return NULL;
}

static enum mqg_err storage_open(const struct mqg_conf *conf, const char *section, struct mqg_error *e)
{
    if (nstorages == MQG_STORES_MAX)
        return mqg_error_set(e, MQG_INVALID, 0, "[%s]: at most %d stores", section, MQG_STORES_MAX);
    const char *type = mqg_conf_str(conf, section, "type");
    const struct mqg_store_ops *ops = type_find(type);
    if (!ops)
        return mqg_error_set(e, MQG_INVALID, 0, "[%s] type=%s: no such storage module is loaded", section,
                             type);
    struct mqg_storage *s = &storages[nstorages];
    *s = (struct mqg_storage){.index = nstorages, .name = section + strlen("store."), .ops = ops};
    struct mqg_store_host host = {
        .done = host_done,
        .failed = host_failed,
        .pressure = host_pressure,
        .stream_ready = host_stream_ready,
        .queue_live = host_queue_live,
        .host = s,
    };
    enum mqg_err err = ops->open(&s->store, &host, conf, section, nlanes, e);
    if (err != MQG_OK)
        return err;
    s->caps = ops->caps_of ? ops->caps_of(s->store) : ops->caps;
    nstorages++;
    return MQG_OK;
}

static void lanes_make(void)
{
    all_lanes = mqg_xcalloc(nlanes, sizeof(*all_lanes));
    for (uint32_t i = 0; i < nlanes; i++) {
        for (uint32_t k = 0; k < MQG_STORES_MAX; k++) {
            struct lane *l = &all_lanes[i].lane[k];
            l->next_ticket = 1;
            l->last = &l->first;
            l->held_last = &l->held;
            atomic_init(&l->wanted, UINT64_MAX);
        }
    }
}

enum mqg_err mqg_stores_open(const struct mqg_conf *conf, uint32_t lanes, struct mqg_error *e)
{
    nlanes = lanes;
    lanes_make();
    const char *section;
    for (size_t i = 0; (section = mqg_conf_section(conf, "store.", i)) != NULL; i++) {
        enum mqg_err err = storage_open(conf, section, e);
        if (err != MQG_OK)
            return err;
    }
    const char *name = mqg_conf_str(conf, "store", "default");
    storage_default = mqg_storage_by_name(mqg_slice_str(name));
    if (!storage_default)
        return mqg_error_set(e, MQG_INVALID, 0, "store.default=%s: there is no [store.%s]", name, name);
    if (!(storage_default->caps & MQG_STORE_META))
        return mqg_error_set(e, MQG_UNSUPPORTED, 0, "store.default=%s: a %s store keeps no metadata", name,
                             storage_default->ops->type);
    for (uint32_t i = 0; i < nlanes; i++)
        for (uint32_t k = 0; k < nstorages; k++)
            all_lanes[i].lane[k].storage = &storages[k];
    return MQG_OK;
}

enum mqg_err mqg_stores_recover(struct mqg_recover *r, struct mqg_error *e)
{
    bool unclean = false;
    for (uint32_t i = 0; i < nstorages; i++) {
        /* Metadata comes from the default store; others only bring messages and streams of what it defines. */
        struct mqg_storage *s = i == 0 ? storage_default : &storages[i <= storage_default->index ? i - 1 : i];
        struct mqg_recover one = *r;
        if (s != storage_default)
            one.meta_end = NULL;
        storage_recovering = s->name;
        enum mqg_err err = s->ops->recover(s->store, &one, e);
        storage_recovering = "";
        if (err != MQG_OK)
            return err;
        unclean = unclean || one.unclean;
    }
    r->unclean = unclean;
    return MQG_OK;
}

const char *mqg_stores_recovering(void)
{
    return storage_recovering;
}

enum mqg_err mqg_stores_start(struct mqg_error *e)
{
    for (uint32_t i = 0; i < nstorages; i++) {
        enum mqg_err err = storages[i].ops->start(storages[i].store, e);
        if (err != MQG_OK)
            return err;
    }
    return MQG_OK;
}

void mqg_stores_close(void)
{
    for (uint32_t i = 0; i < nstorages; i++)
        storages[i].ops->close(storages[i].store);
}

static void lane_release(struct lane *l, uint64_t done)
{
    while (l->held && l->held->ticket <= done) {
        struct held *h = l->held;
        l->held = h->next;
        if (!l->held)
            l->held_last = &l->held;
        free(h);
    }
}

static void lane_fini(struct lane *l)
{
    free(l->ops);
    lane_release(l, UINT64_MAX);
    while (l->pieces) {
        struct piece *p = l->pieces;
        l->pieces = p->next;
        free(p);
    }
}

void mqg_stores_fini(void)
{
    for (uint32_t i = 0; i < nstorages; i++) {
        storages[i].ops->stop(storages[i].store);
        storages[i].ops->fini(&storages[i].store);
    }
    for (uint32_t i = 0; all_lanes && i < nlanes; i++)
        for (uint32_t k = 0; k < MQG_STORES_MAX; k++)
            lane_fini(&all_lanes[i].lane[k]);
    free(all_lanes);
    all_lanes = NULL;
    nstorages = ntypes = 0;
    storage_default = NULL;
    atomic_store(&failure, NULL);
    pressure_fn = NULL;
    queue_live_fn = NULL;
    stream_ready_fn = NULL;
    failure_fn = NULL;
}

struct mqg_storage *mqg_storage_by_name(struct mqg_slice name)
{
    for (uint32_t i = 0; i < nstorages; i++)
        if (mqg_slice_eq(mqg_slice_str(storages[i].name), name))
            return &storages[i];
    return NULL;
}

struct mqg_storage *mqg_storage_default(void)
{
    return storage_default;
}

struct mqg_storage *mqg_storage_at(uint32_t index)
{
    return index < nstorages ? &storages[index] : NULL;
}

/* ---- a lane --------------------------------------------------------------------------------------------------------------- */

static struct lane *lane_of(const struct mqg_storage *s)
{
    struct mqg_worker *w = mqg_worker_self();
    return &all_lanes[w ? w->index : nlanes - 1].lane[s->index];
}

static void *lane_room(struct lane *l, size_t n)
{
    n = (n + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
    while (l->at && l->at->used + n > l->at->cap)
        l->at = l->at->next;
    if (!l->at) {
        size_t cap = n > LANE_PIECE_BYTES ? n : LANE_PIECE_BYTES;
        struct piece *p = mqg_xmalloc(sizeof(*p) + cap);
        p->used = 0;
        p->cap = cap;
        p->next = l->pieces;
        l->pieces = l->at = p;
    }
    void *room = (uint8_t *)l->at->data + l->at->used;
    l->at->used += n;
    return room;
}

static const void *lane_copy(struct lane *l, const void *from, size_t n)
{
    void *to = lane_room(l, n);
    if (n)
        memcpy(to, from, n);
    return to;
}

static struct mqg_slice lane_slice(struct lane *l, struct mqg_slice s)
{
    return mqg_slice_of(lane_copy(l, s.ptr, s.len), s.len);
}

static void *lane_hold(struct lane *l, size_t n)
{
    struct held *h = mqg_xmalloc(sizeof(*h) + n);
    h->next = NULL;
    h->ticket = l->next_ticket;
    *l->held_last = h;
    l->held_last = &h->next;
    return h->data;
}

static void lane_copy_append(struct lane *l, struct mqg_store_op *op)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < op->append.nrope; i++)
        bytes += op->append.rope[i].len;
    size_t head = sizeof(struct mqg_slice);
    struct mqg_slice *rope = bytes >= MQG_ROPE_HELD ? lane_hold(l, head + bytes) : lane_room(l, head + bytes);
    uint8_t *to = (uint8_t *)rope + head;
    *rope = mqg_slice_of(to, bytes);
    for (uint32_t i = 0; i < op->append.nrope; to += op->append.rope[i++].len)
        if (op->append.rope[i].len)
            memcpy(to, op->append.rope[i].ptr, op->append.rope[i].len);
    op->append.rope = rope;
    op->append.nrope = 1;
}

static void lane_copy_op(struct lane *l, struct mqg_store_op *op)
{
    switch (op->kind) {
    case MQG_OP_MSG:
        op->msg.dests = lane_copy(l, op->msg.dests, op->msg.ndest * sizeof(*op->msg.dests));
        break;
    case MQG_OP_SETTLE:
        op->settle.ranges = lane_copy(l, op->settle.ranges, op->settle.n * sizeof(*op->settle.ranges));
        break;
    case MQG_OP_META:
        op->meta.key = lane_slice(l, op->meta.key);
        op->meta.value = lane_slice(l, op->meta.value);
        l->control = true;
        break;
    case MQG_OP_APPEND: lane_copy_append(l, op); break;
    case MQG_OP_STREAM_NEW:
    case MQG_OP_STREAM_DELETE:
        op->stream.name = lane_slice(l, op->stream.name);
        l->control = true;
        break;
    case MQG_OP_POSITION:
        op->position.group = lane_slice(l, op->position.group);
        op->position.metadata = lane_slice(l, op->position.metadata);
        break;
    case MQG_OP_STREAM_CONF:
        op->stream_conf.conf = lane_copy(l, op->stream_conf.conf, sizeof(*op->stream_conf.conf));
        break;
    default: /* nothing pointed to */ break;
    }
}

void mqg_lane_add(struct mqg_storage *s, const struct mqg_store_op *op, bool urgent)
{
    struct lane *l = lane_of(s);
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 64;
        l->ops = mqg_xrealloc(l->ops, l->cap * sizeof(*l->ops));
    }
    l->ops[l->n] = *op;
    lane_copy_op(l, &l->ops[l->n++]);
    l->urgent = l->urgent || urgent;
}

uint64_t mqg_lane_ticket(struct mqg_storage *s)
{
    return lane_of(s)->next_ticket;
}
bool mqg_lane_collected(struct mqg_storage *s)
{
    return lane_of(s)->n > 0;
}

uint64_t mqg_lane_done(struct mqg_storage *s)
{
    return atomic_load_explicit(&lane_of(s)->done, memory_order_acquire);
}

struct mqg_extent *mqg_lane_extent(struct mqg_storage *s)
{
    struct lane *l = lane_of(s);
    if (!l->extent) {
        struct mqg_worker *w = mqg_worker_self();
        l->extent = s->ops->extent_open(s->store, w ? w->index : nlanes - 1);
    }
    return l->extent;
}

static void lane_clear(struct lane *l)
{
    for (uint32_t i = 0; i < l->n; i++)
        if (l->ops[i].kind == MQG_OP_MSG)
            mqg_msg_unref(&l->ops[i].msg.msg);
    l->n = 0;
    l->urgent = l->control = false;
    l->extent = NULL;
    while (l->pieces && l->pieces->next) { /* keep one */
        struct piece *p = l->pieces;
        l->pieces = p->next;
        free(p);
    }
    if (l->pieces)
        l->pieces->used = 0;
    l->at = l->pieces;
}

static void lane_retry(struct mqg_timer *t)
{
    (void)t; /* the turn that it causes tries again */
}

/* A refused batch is kept whole and grows with every turn; what bounds it is that publishers stop meanwhile. */
static void lane_behind(struct lane *l, bool behind)
{
    if (MQG_LIKELY(l->behind == behind))
        return;
    l->behind = behind;
    uint32_t before = behind ? atomic_fetch_add(&l->storage->behind, 1)
                             : atomic_fetch_sub(&l->storage->behind, 1);
    if (before == (behind ? 0 : 1))
        storage_pressure("the store is behind");
}

uint64_t mqg_lane_submit(struct mqg_storage *s)
{
    struct lane *l = lane_of(s);
    if (l->n == 0)
        return 0;
    struct mqg_worker *w = mqg_worker_self();
    uint32_t index = w ? w->index : nlanes - 1;
    unsigned flags = (l->urgent ? MQG_SUBMIT_URGENT : 0u) | (l->control ? MQG_SUBMIT_CONTROL : 0u);
    enum mqg_err err = s->ops->submit(s->store, index, l->ops, l->n, l->next_ticket, flags);
    lane_behind(l, err == MQG_AGAIN);
    if (err == MQG_AGAIN) { /* kept whole, in order; the next turn tries again */
        if (w && !l->retry.due_ms) {
            mqg_timer_init(&l->retry, lane_retry);
            mqg_timer_in(&l->retry, LANE_RETRY_MS);
        }
        return l->next_ticket;
    }
    MQG_ASSERT(err == MQG_OK || atomic_load(&s->failed));
    lane_clear(l);
    return l->next_ticket++;
}

/* ---- waiting ------------------------------------------------------------------------------------------------------------------- */

static void lane_want(struct lane *l)
{
    atomic_store_explicit(&l->wanted, l->first ? l->first->ticket : UINT64_MAX, memory_order_seq_cst);
}

void mqg_lane_wait(struct mqg_storage *s, struct mqg_waiter *w)
{
    struct lane *l = lane_of(s);
    struct mqg_waiter **at = l->last;
    if (l->first && MQG_CONTAINER_OF(l->last, struct mqg_waiter, next)->ticket > w->ticket)
        for (at = &l->first; *at && (*at)->ticket <= w->ticket;)
            at = &(*at)->next;
    w->next = *at;
    *at = w;
    if (!w->next)
        l->last = &w->next;
    if (w->ticket == l->next_ticket)
        l->urgent = true;
    lane_want(l);
    if (mqg_worker_self() && atomic_load_explicit(&l->done, memory_order_seq_cst) >= w->ticket)
        mqg_worker_wake(mqg_worker_self());
}

void mqg_lane_unwait(struct mqg_storage *s, struct mqg_waiter *w)
{
    struct lane *l = lane_of(s);
    for (struct mqg_waiter **at = &l->first; *at; at = &(*at)->next) {
        if (*at != w)
            continue;
        *at = w->next;
        if (l->last == &w->next)
            l->last = at;
        break;
    }
    lane_want(l);
}

static bool lane_fire(struct lane *l)
{
    bool fired = false;
    bool failed = atomic_load(&l->storage->failed);
    uint64_t done = atomic_load_explicit(&l->done, memory_order_seq_cst);
    while (l->first && (failed || l->first->ticket <= done)) {
        struct mqg_waiter *w = l->first;
        l->first = w->next;
        if (!l->first)
            l->last = &l->first;
        lane_want(l);
        w->fire(w, failed ? MQG_IO : MQG_OK);
        fired = true;
    }
    return fired;
}

bool mqg_lanes_turn(void)
{
    bool fired = false;
    for (uint32_t i = 0; i < nstorages; i++) {
        mqg_lane_submit(&storages[i]);
        lane_release(lane_of(&storages[i]), mqg_lane_done(&storages[i]));
        fired = lane_fire(lane_of(&storages[i])) || fired;
    }
    return fired;
}

/* ---- metadata -------------------------------------------------------------------------------------------------------------------- */

static uint64_t meta_write(struct mqg_slice key, struct mqg_slice value, bool gone)
{
    struct mqg_store_op op = {.kind = MQG_OP_META, .meta = {key, value, gone}};
    mqg_lane_add(storage_default, &op, true);
    return mqg_lane_submit(storage_default);
}

uint64_t mqg_meta_put(struct mqg_slice key, struct mqg_slice value)
{
    return meta_write(key, value, false);
}

uint64_t mqg_meta_remove(struct mqg_slice key)
{
    return meta_write(key, MQG_SLICE_NONE, true);
}
