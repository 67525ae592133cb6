/* routing/deadletter.c - messages that leave a queue other than by ack, on their way to its dead letter exchange.
 *
 * The copy keeps identity, body and origin bytes; what the hop changes is the overlay: the x-death table (an entry per queue
 * and reason, newest first, with count), x-first-death-*, no expiration, no CC/BCC when a dead letter key replaces the
 * routing keys. Source and copy are settled and stored in the same turn, hence in one journal frame: a crash leaves either
 * both or neither. A message that comes to a queue it has died in before, without any rejection on the way, is in a cycle
 * and is dropped there (RabbitMQ's rule). */
#include "queue_int.h"

#include <stdio.h>
#include <stdlib.h>

#include <mqgate/obs.h>

#define DEATH_KEYS_MAX 64u

struct death {
    struct publisher *pub;
    struct mqg_queue *queue;
    struct mqg_msg *msg;
    const char *reason;
    struct mqg_view view;
    struct mqg_overlay overlay;
    struct mqg_slice cc[DEATH_KEYS_MAX]; /* CC of the message, without BCC */
    size_t ncc;
};

/* ---- x-death ------------------------------------------------------------------------------------------------------- */

static struct mqg_slice death_str(const struct mqg_table *t, const char *name)
{
    const struct mqg_value *v = mqg_table_get(t, mqg_slice_str(name));
    return v && v->type == MQG_VALUE_STRING ? v->bytes : MQG_SLICE_NONE;
}

static bool death_same(const struct mqg_value *entry, struct mqg_slice queue, struct mqg_slice reason)
{
    return entry->type == MQG_VALUE_TABLE && mqg_slice_eq(death_str(&entry->table, "queue"), queue) &&
           mqg_slice_eq(death_str(&entry->table, "reason"), reason);
}

static void death_keys(struct death *d, struct mqg_table *t)
{
    struct mqg_arena *a = &d->pub->arena;
    struct mqg_field *f = mqg_table_add(a, t, MQG_SLICE_LIT("routing-keys"));
    struct mqg_value *items = mqg_arena_alloc(a, (d->ncc + 1) * sizeof(*items));
    if (!f || !items)
        return;
    items[0] = (struct mqg_value){.type = MQG_VALUE_STRING, .bytes = mqg_msg_key(d->msg)};
    for (size_t i = 0; i < d->ncc; i++)
        items[i + 1] = (struct mqg_value){.type = MQG_VALUE_STRING, .bytes = d->cc[i]};
    f->value = (struct mqg_value){.type = MQG_VALUE_ARRAY,
                                  .array = {.items = items, .n = (uint32_t)d->ncc + 1}};
}

static struct mqg_value death_new_entry(struct death *d)
{
    struct mqg_arena *a = &d->pub->arena;
    struct mqg_table t = {0};
    mqg_table_set_int(a, &t, "count", 1);
    mqg_table_set_str(a, &t, "reason", mqg_slice_str(d->reason));
    mqg_table_set_str(a, &t, "queue", mqg_queue_name(d->queue));
    struct mqg_field *time = mqg_table_add(a, &t, MQG_SLICE_LIT("time"));
    if (time) {
        uint64_t seconds = d->pub->worker->now.wall_us / 1000000;
        time->value = (struct mqg_value){.type = MQG_VALUE_TIMESTAMP, .i = (int64_t)(seconds * 1000000)};
    }
    mqg_table_set_str(a, &t, "exchange", mqg_msg_exchange(d->msg));
    death_keys(d, &t);
    if (d->view.has & MQG_PROP_EXPIRATION) {
        char *text = mqg_arena_alloc(a, 24);
        if (text) {
            int n = snprintf(text, 24, "%llu", (unsigned long long)d->view.expiration_ms);
            mqg_table_set_str(a, &t, "original-expiration", mqg_slice_of(text, (size_t)n));
        }
    }
    return (struct mqg_value){.type = MQG_VALUE_TABLE, .table = t};
}

/* The entry counted once more; its time stays that of the first death (RabbitMQ). */
static struct mqg_value death_count_entry(struct death *d, const struct mqg_value *old)
{
    struct mqg_value v = *old;
    v.table = mqg_table_copy(&d->pub->arena, &old->table);
    for (uint32_t i = 0; i < v.table.n; i++) {
        struct mqg_field *f = &v.table.fields[i];
        int64_t count;
        if (mqg_slice_eq(f->name, MQG_SLICE_LIT("count")) && mqg_value_int(&f->value, &count))
            f->value = (struct mqg_value){.type = MQG_VALUE_INT64, .i = count + 1};
    }
    return v;
}

/* The new x-death: this queue's entry first, the others behind it in their order. */
static struct mqg_value death_list(struct death *d, const struct mqg_value *old)
{
    uint32_t n = old && old->type == MQG_VALUE_ARRAY ? old->array.n : 0;
    struct mqg_value *items = mqg_arena_alloc(&d->pub->arena, (n + 1) * sizeof(*items));
    if (!items)
        return (struct mqg_value){.type = MQG_VALUE_NULL};
    uint32_t out = 1;
    bool seen = false;
    for (uint32_t i = 0; i < n; i++) {
        if (!seen && death_same(&old->array.items[i], mqg_queue_name(d->queue), mqg_slice_str(d->reason))) {
            items[0] = death_count_entry(d, &old->array.items[i]);
            seen = true;
        } else {
            items[out++] = old->array.items[i];
        }
    }
    if (!seen)
        items[0] = death_new_entry(d);
    return (struct mqg_value){.type = MQG_VALUE_ARRAY, .array = {.items = items, .n = out}};
}

/* ---- the copy ----------------------------------------------------------------------------------------------------------- */

static void overlay_set(struct death *d, const char *name, struct mqg_value value)
{
    struct mqg_table *set = &d->overlay.set;
    struct mqg_slice key = mqg_slice_str(name);
    for (uint32_t i = 0; i < set->n; i++) {
        if (mqg_slice_eq(set->fields[i].name, key)) {
            set->fields[i].value = value;
            return;
        }
    }
    struct mqg_field *f = mqg_table_add(&d->pub->arena, set, key);
    if (f)
        f->value = value;
}

static void overlay_remove(struct death *d, const char *name)
{
    if (!mqg_table_get(&d->overlay.remove, mqg_slice_str(name)))
        mqg_table_add(&d->pub->arena, &d->overlay.remove, mqg_slice_str(name));
}

static struct mqg_value death_string(struct mqg_slice s)
{
    return (struct mqg_value){.type = MQG_VALUE_STRING, .bytes = s};
}

static size_t death_extra_keys(const struct mqg_table *headers, const char *name, struct mqg_slice *out,
                               size_t max)
{
    const struct mqg_value *v = mqg_table_get(headers, mqg_slice_str(name));
    size_t n = 0;
    if (v && v->type == MQG_VALUE_ARRAY)
        for (uint32_t i = 0; i < v->array.n && n < max; i++)
            if (v->array.items[i].type == MQG_VALUE_STRING)
                out[n++] = v->array.items[i].bytes;
    return n;
}

static bool death_prepare(struct death *d)
{
    struct mqg_arena *a = &d->pub->arena;
    mqg_arena_reset(a);
    enum mqg_err err = mqg_msg_view(d->msg, a, &d->view);
    if (err != MQG_OK && err != MQG_UNSUPPORTED)
        return false;
    struct mqg_slice before = mqg_msg_overlay(d->msg);
    if (before.len && mqg_overlay_decode(before, a, &d->overlay) != MQG_OK)
        return false;
    d->ncc = death_extra_keys(&d->view.headers, "CC", d->cc, DEATH_KEYS_MAX);
    const struct mqg_value *old = mqg_table_get(&d->view.headers, MQG_SLICE_LIT("x-death"));
    overlay_set(d, "x-death", death_list(d, old));
    if (!mqg_table_get(&d->view.headers, MQG_SLICE_LIT("x-first-death-reason"))) {
        overlay_set(d, "x-first-death-reason", death_string(mqg_slice_str(d->reason)));
        overlay_set(d, "x-first-death-queue", death_string(mqg_queue_name(d->queue)));
        overlay_set(d, "x-first-death-exchange", death_string(mqg_msg_exchange(d->msg)));
    }
    d->overlay.drop |= MQG_PROP_EXPIRATION;
    if (queue_opts(d->queue)->has_dlk) {
        overlay_remove(d, "CC");
        overlay_remove(d, "BCC");
    }
    return true;
}

/* Did it die in that queue before, and was nothing rejected since? */
static bool death_cycle(const struct death *d, struct mqg_queue *target)
{
    if (strcmp(d->reason, "rejected") == 0)
        return false;
    const struct mqg_value *list = mqg_table_get(&d->overlay.set, MQG_SLICE_LIT("x-death"));
    if (!list || list->type != MQG_VALUE_ARRAY)
        return false;
    bool seen = false;
    for (uint32_t i = 0; i < list->array.n; i++) {
        const struct mqg_value *v = &list->array.items[i];
        if (v->type != MQG_VALUE_TABLE)
            continue;
        if (mqg_slice_eq(death_str(&v->table, "reason"), MQG_SLICE_LIT("rejected")))
            return false;
        seen = seen || mqg_slice_eq(death_str(&v->table, "queue"), mqg_queue_name(target));
    }
    return seen;
}

static void death_drop_cycles(const struct death *d, struct route_set *r)
{
    size_t kept = 0;
    for (size_t i = 0; i < r->n; i++) {
        if (death_cycle(d, r->queues[i]))
            mqg_count(MQG_COUNT_DEAD_LETTER_DROPPED, 1);
        else
            r->queues[kept++] = r->queues[i];
    }
    r->n = kept;
}

/* Its headers cannot be read or have grown beyond the bound: said and counted, for it goes nowhere. */
static void death_lost(const struct death *d)
{
    mqg_count(MQG_COUNT_DEAD_LETTER_DROPPED, 1);
    mqg_log(MQG_LOG_WARN, MQG_EVENT_STORE, "queue=%s what=\"dead letter dropped\" reason=%s headers_bytes=%u",
            mqg_logq(mqg_queue_name(d->queue)), d->reason, d->msg->st.origin_len + d->msg->st.overlay_len);
}

static void death_route(struct death *d)
{
    const struct queue_opts *o = queue_opts(d->queue);
    struct publisher *p = d->pub;
    struct mqg_vhost *v = queue_vhost(d->queue);
    const struct mqg_exchange *x = topology_exchange(v, o->dlx);
    if (!x) {
        mqg_count(MQG_COUNT_DEAD_LETTER_DROPPED, 1);
        return;
    }
    struct mqg_slice keys[2 * DEATH_KEYS_MAX + 1];
    size_t nkeys = 1;
    keys[0] = o->has_dlk ? o->dlk : mqg_msg_key(d->msg);
    if (!o->has_dlk) {
        nkeys += death_extra_keys(&d->view.headers, "CC", keys + nkeys, DEATH_KEYS_MAX);
        nkeys += death_extra_keys(&d->view.headers, "BCC", keys + nkeys, DEATH_KEYS_MAX);
    }
    mqg_dynbuf_reset(&p->overlay);
    mqg_overlay_encode(&p->overlay, &d->overlay);
    if (p->overlay.failed) {
        death_lost(d);
        return;
    }
    uint8_t flags = d->msg->st.flags & (uint8_t)~MQG_MSG_HAS_TTL;
    struct mqg_msg *copy = mqg_msg_derive(d->msg, o->dlx, keys[0], mqg_dynbuf_view(&p->overlay), flags, 0);
    if (!copy) {
        death_lost(d);
        return;
    }
    struct route_set routes;
    route_set_init(&routes);
    topology_route(v, x, copy, keys, nkeys, &routes);
    death_drop_cycles(d, &routes);
    mqg_count(routes.n ? MQG_COUNT_DEAD_LETTERED : MQG_COUNT_DEAD_LETTER_DROPPED, 1);
    publish_internal(p, copy, &routes);
    route_set_fini(&routes);
}

/* ---- bodies that must be read first -------------------------------------------------------------------------------------- */

struct death_load {
    struct mqg_load_req req;
    struct mqg_load item;
    struct mqg_task task;
    struct mqg_worker *worker;
    struct mqg_queue *queue;
    struct dead *dead;
};

static void death_load_arrived(struct mqg_task *task)
{
    struct death_load *l = MQG_CONTAINER_OF(task, struct death_load, task);
    bool stored = l->dead->stored;
    if (!stored) /* it had been put aside */
        mqg_extent_give(l->item.extent, 1);
    if (l->item.msg) {
        l->dead->msg = l->item.msg;
        l->dead->msg->extent = stored ? l->item.extent : NULL;
        deadletter_publish(publisher_self(), l->queue, l->dead);
    } else {
        mqg_log(MQG_LOG_ERROR, MQG_EVENT_CORRUPTION,
                "queue=%s what=\"dead letter cannot be read back\" err=%s",
                mqg_logq(mqg_queue_name(l->queue)), mqg_err_name(l->item.err));
        free(l->dead);
    }
    mqg_queue_unref(&l->queue);
    free(l);
}

static void death_load_done(struct mqg_load_req *req)
{
    struct death_load *l = MQG_CONTAINER_OF(req, struct death_load, req);
    mqg_worker_post(l->worker, &l->task);
}

static void death_load(struct publisher *p, struct mqg_queue *q, struct dead *dead)
{
    struct death_load *l = mqg_xcalloc(1, sizeof(*l));
    l->item = (struct mqg_load){.extent = dead->extent, .off = dead->off, .len = dead->len};
    l->req = (struct mqg_load_req){
        .items = &l->item, .n = 1, .lane = p->worker->index, .done = death_load_done};
    l->task.run = death_load_arrived;
    l->worker = p->worker;
    l->queue = mqg_queue_ref(q);
    l->dead = dead;
    struct mqg_storage *s = queue_load_storage(q);
    s->ops->load(s->store, &l->req);
}

void deadletter_publish(struct publisher *p, struct mqg_queue *q, struct dead *dead)
{
    if (!dead->msg) {
        death_load(p, q, dead);
        return;
    }
    struct death d = {.pub = p, .queue = q, .msg = dead->msg, .reason = dead->reason};
    if (death_prepare(&d))
        death_route(&d);
    else
        death_lost(&d);
    if (dead->stored)
        publish_settled(p, queue_slot(q, p->worker), dead->qseq, dead->extent);
    mqg_msg_unref(&dead->msg);
    free(dead);
}
