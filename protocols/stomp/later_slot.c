/* later_slot.c - where messages wait that are to come later: a queue per stretch of time, and the clock that empties it.
 *
 *   SEND, due in 3 days --> [amq.stomp.later.day.N] --its day begins--> [...hour.N] --> [...minute.N] --due--> exchange, key
 *
 * A wheel of durable queues. Nobody reads a stretch before it begins, so what waits costs no more than in any queue: bodies leave
 * memory, a restart finds them, listings count them, a purge forgets them. When its time comes the node subscribes to it. What
 * was in an hour or a day goes on to shorter stretches; the messages of a minute are held until each is due and then published
 * under their own exchange and key. Every step puts the copy and settles the original in one turn of the worker, hence in one
 * frame of the journal: a crash neither loses nor doubles a persistent message.
 *
 * A stretch belongs to one worker, whose clock runs it; messages are put into it by any. The registry's lock is held while its
 * queue is found or made, and while it goes, so that nobody puts into one that is going. */
#include "later.h"

#include <mqgate/map.h>
#include <mqgate/obs.h>

#include <pthread.h>
#include <stdlib.h>

enum {
    SLOT_HELD_BYTES =
        32 << 20,          /* of messages that wait for their moment in a minute; then no more are taken */
    SLOT_FIRE_BATCH = 256, /* per turn */
    SLOT_LINGER_MS = 5000, /* after somebody asked for its queue */
    SLOT_AGAIN_MS = 1000,
    SLOT_LOOK_MS = 60000, /* at the wall clock, which may step */
    SLOT_ARENA_BYTES = 65536,
};

struct slot_held {
    uint64_t due_us, order; /* of two that are due together the first put is the first out */
    uint64_t handle;
    struct mqg_msg *msg;
};

struct slot {
    struct mqg_task task;
    struct mqg_timer timer;
    struct mqg_worker *worker;
    struct mqg_vhost *vhost;
    struct stomp_slot_id id;
    struct mqg_slice key; /* vhost NUL name; owned */
    struct mqg_slice name;
    _Atomic uint64_t put_ms; /* the last time somebody asked for its queue */
    /* the worker's, once it has begun */
    struct mqg_session *session;
    struct mqg_pub pub;
    struct mqg_queue *queue;
    struct mqg_sub *sub;
    struct mqg_arena arena;
    struct slot_held *heap;
    size_t n, cap, bytes;
    uint64_t came;
    bool paused;
};

static pthread_mutex_t slots_lock = PTHREAD_MUTEX_INITIALIZER;
static struct mqg_map slots = {.keys = MQG_MAP_BORROW};

/* ---- the heap: what is due first stands at its front -------------------------------------------------------------------- */

static bool held_before(const struct slot_held *a, const struct slot_held *b)
{
    return a->due_us != b->due_us ? a->due_us < b->due_us : a->order < b->order;
}

static void held_swap(struct slot_held *a, struct slot_held *b)
{
    struct slot_held x = *a;
    *a = *b;
    *b = x;
}

static void slot_push(struct slot *s, const struct slot_held *one)
{
    if (s->n == s->cap) {
        s->cap = s->cap > 0 ? s->cap * 2 : 16;
        s->heap = mqg_xrealloc(s->heap, s->cap * sizeof *s->heap);
    }
    size_t at = s->n++;
    s->heap[at] = *one;
    for (; at > 0 && held_before(&s->heap[at], &s->heap[(at - 1) / 2]); at = (at - 1) / 2)
        held_swap(&s->heap[at], &s->heap[(at - 1) / 2]);
    s->bytes += one->msg->total_len;
}

static struct slot_held slot_pop(struct slot *s)
{
    struct slot_held first = s->heap[0];
    s->heap[0] = s->heap[--s->n];
    for (size_t at = 0, child; (child = 2 * at + 1) < s->n; at = child) {
        if (child + 1 < s->n && held_before(&s->heap[child + 1], &s->heap[child]))
            child++;
        if (!held_before(&s->heap[child], &s->heap[at]))
            break;
        held_swap(&s->heap[child], &s->heap[at]);
    }
    s->bytes -= first.msg->total_len;
    return first;
}

/* ---- life --------------------------------------------------------------------------------------------------------------- */

static void slot_run(struct mqg_task *task);
static void slot_tick(struct mqg_timer *t);

static struct slot *slot_new(struct mqg_vhost *v, struct stomp_slot_id id, struct mqg_slice key)
{
    struct slot *s = mqg_xcalloc(1, sizeof *s);
    size_t before = mqg_vhost_name(v).len + 1;
    s->worker = mqg_worker_at((uint32_t)(id.number % mqg_worker_count()));
    s->vhost = v;
    s->id = id;
    s->key = mqg_slice_of(mqg_slice_dup(key), key.len);
    s->name = mqg_slice_of(s->key.ptr + before, key.len - before);
    s->task.run = slot_run;
    mqg_timer_init(&s->timer, slot_tick);
    mqg_map_set(&slots, s->key, s);
    mqg_worker_post(s->worker, &s->task);
    return s;
}

/* Under the lock. */
static struct slot *slot_get(struct mqg_vhost *v, struct stomp_slot_id id)
{
    char room[64];
    struct mqg_dynbuf key;
    mqg_dynbuf_init(&key, 4096);
    mqg_dynbuf_slice(&key, mqg_vhost_name(v));
    mqg_dynbuf_u8(&key, 0);
    mqg_dynbuf_slice(&key, stomp_slot_name(id, room));
    struct slot *s = mqg_map_get(&slots, mqg_dynbuf_view(&key));
    if (s == NULL)
        s = slot_new(v, id, mqg_dynbuf_view(&key));
    mqg_dynbuf_fini(&key);
    return s;
}

/* What is held goes back, where the queue is still there. */
static void slot_leave_queue(struct slot *s)
{
    if (s->sub != NULL)
        mqg_unsubscribe(&s->sub);
    while (s->n > 0) {
        struct slot_held one = slot_pop(s);
        mqg_settle(s->queue, NULL, &one.handle, 1, MQG_SETTLE_UNSENT);
        mqg_msg_unref(&one.msg);
    }
    mqg_queue_unref(&s->queue);
    s->paused = false;
}

/* It is out of the registry. */
static void slot_free(struct slot *s)
{
    slot_leave_queue(s);
    mqg_timer_cancel(&s->timer);
    if (s->session != NULL) {
        mqg_pub_fini(&s->pub);
        mqg_session_unref(&s->session);
        mqg_arena_fini(&s->arena);
    }
    free(s->heap);
    free((void *)(uintptr_t)s->key.ptr);
    free(s);
}

/* ---- putting ------------------------------------------------------------------------------------------------------------ */

static enum mqg_err slot_queue(struct slot *s, struct mqg_queue **q, uint64_t *ticket, struct mqg_error *e)
{
    struct mqg_session *own = mqg_session_internal(s->vhost);
    struct mqg_queue_def d = {.name = s->name, .durable = true, .reserved = true};
    struct mqg_queue_ok ok;
    enum mqg_err err = mqg_queue_open(own, s->name, q, e);
    if (err == MQG_NOT_FOUND) {
        err = mqg_queue_declare(own, &d, false, &ok, ticket, e);
        if (err == MQG_OK)
            err = mqg_queue_open(own, s->name, q, e);
    }
    mqg_session_unref(&own);
    return err;
}

enum mqg_err stomp_later_put(struct mqg_vhost *v, struct mqg_msg *m, uint64_t due_us, enum stomp_span longest,
                             uint64_t *ticket, struct mqg_error *e)
{
    struct mqg_time now = mqg_worker_self()->now;
    struct mqg_queue *q = NULL;
    pthread_mutex_lock(&slots_lock);
    struct slot *s = slot_get(v, stomp_slot_for(now.wall_us, due_us, longest));
    enum mqg_err err = slot_queue(s, &q, ticket, e);
    atomic_store(&s->put_ms, now.mono_ms);
    pthread_mutex_unlock(&slots_lock);
    if (err != MQG_OK) {
        mqg_msg_unref(&m);
        return err;
    }
    mqg_publish_direct(q, m);
    mqg_queue_unref(&q);
    return MQG_OK;
}

/* ---- leaving ------------------------------------------------------------------------------------------------------------ */

static void slot_lost(const struct slot *s, const struct mqg_msg *m, const char *why)
{
    mqg_count(MQG_COUNT_UNROUTABLE_DROPPED, 1);
    mqg_log(MQG_LOG_INFO, MQG_EVENT_STORE, "queue=%s what=\"message for later dropped\" exchange=%s why=%s",
            mqg_logq(s->name), mqg_logq(mqg_msg_exchange(m)), mqg_logqs(why));
}

static struct mqg_msg *slot_copy(const struct mqg_msg *m, struct mqg_slice overlay, uint8_t flags,
                                 uint64_t ttl_ms)
{
    return mqg_msg_derive(m, mqg_msg_exchange(m), mqg_msg_key(m), overlay, flags, ttl_ms);
}

static bool slot_make(struct slot *s, struct mqg_slice name, struct mqg_error *e)
{
    struct mqg_queue_def d = {.name = name, .durable = true};
    struct mqg_queue_ok ok;
    uint64_t ticket;
    return mqg_queue_declare(s->session, &d, false, &ok, &ticket, e) == MQG_OK;
}

/* Under its own exchange and key, as if it came just now; takes m. */
static void slot_publish(struct slot *s, struct mqg_msg *m, bool make)
{
    struct mqg_error e = {.code = 0};
    struct mqg_queue *q = NULL;
    bool missing = make && mqg_queue_open(s->session, mqg_msg_key(m), &q, &e) == MQG_NOT_FOUND;
    mqg_queue_unref(&q);
    if (missing && !slot_make(s, mqg_msg_key(m), &e)) {
        slot_lost(s, m, e.text);
        mqg_msg_unref(&m);
        return;
    }
    mqg_msg_ref(m);
    if (mqg_publish(&s->pub, m, 0, 0, NULL, 0, &e) != MQG_OK)
        slot_lost(s, m, e.text);
    mqg_msg_unref(&m);
}

/* Into its next stretch; what it says is `l`. False: nothing was done. */
static bool slot_put_on(struct slot *s, const struct mqg_msg *m, const struct stomp_later *l,
                        enum stomp_span longest)
{
    struct mqg_dynbuf overlay;
    struct mqg_error e = {.code = 0};
    uint64_t ticket;
    mqg_dynbuf_init(&overlay, 4096);
    stomp_later_encode(&overlay, &s->arena, l);
    struct mqg_msg *copy = slot_copy(m, mqg_dynbuf_view(&overlay), m->st.flags, 0);
    mqg_dynbuf_fini(&overlay);
    if (copy == NULL)
        return false;
    if (stomp_later_put(s->vhost, copy, l->due_us, longest, &ticket, &e) != MQG_OK)
        slot_lost(s, m, e.text);
    return true;
}

/* One more time, after its period; who was late does not hurry. False: nothing was done. */
static bool slot_again(struct slot *s, const struct mqg_msg *m, struct stomp_later *l, uint64_t now_us)
{
    l->left--;
    l->due_us += l->period_ms * 1000;
    if (l->due_us < now_us)
        l->due_us = now_us + l->period_ms * 1000;
    return slot_put_on(s, m, l, STOMP_DAY);
}

static void slot_fire_one(struct slot *s, struct slot_held *one, uint64_t now_us)
{
    struct stomp_later l;
    enum mqg_settle how = MQG_SETTLE_ACK;
    mqg_arena_reset(&s->arena);
    bool good = stomp_later_decode(one->msg, &s->arena, &l);
    MQG_ASSERT(good); /* it was looked at when it came */
    uint8_t flags = one->msg->st.flags | (l.has_ttl ? MQG_MSG_HAS_TTL : 0);
    struct mqg_msg *m = slot_copy(one->msg, MQG_SLICE_NONE, flags, l.ttl_ms);
    if (m == NULL || (l.left > 0 && !slot_again(s, one->msg, &l, now_us))) {
        how = MQG_SETTLE_RETURN;
        mqg_msg_unref(&m);
    } else {
        slot_publish(s, m, l.make);
    }
    mqg_settle(s->queue, s->sub, &one->handle, 1, how);
    mqg_msg_unref(&one->msg);
}

static void slot_fire(struct slot *s)
{
    uint64_t now_us = s->worker->now.wall_us;
    for (int i = 0; i < SLOT_FIRE_BATCH && s->n > 0 && s->heap[0].due_us <= now_us; i++) {
        struct slot_held one = slot_pop(s);
        slot_fire_one(s, &one, now_us);
    }
    if (s->paused && s->bytes < SLOT_HELD_BYTES / 2) {
        s->paused = false;
        mqg_sub_pause(s->sub, false);
    }
}

/* ---- coming ------------------------------------------------------------------------------------------------------------- */

/* Takes the delivery's reference. */
static void slot_take(struct slot *s, const struct mqg_delivery *d)
{
    struct stomp_later l;
    struct mqg_msg *m = d->msg;
    mqg_arena_reset(&s->arena);
    if (!stomp_later_decode(m, &s->arena, &l)) { /* not put here by us */
        slot_lost(s, m, "it does not say when");
        mqg_settle(s->queue, s->sub, &d->handle, 1, MQG_SETTLE_REJECT);
        mqg_msg_unref(&m);
    } else if (s->id.span == STOMP_MINUTE) {
        slot_push(s, &(struct slot_held){l.due_us, s->came++, d->handle, m});
    } else {
        bool put = slot_put_on(s, m, &l, s->id.span - 1);
        mqg_settle(s->queue, s->sub, &d->handle, 1, put ? MQG_SETTLE_ACK : MQG_SETTLE_RETURN);
        mqg_msg_unref(&m);
    }
}

static void slot_arm(struct slot *s);

static size_t slot_deliver(struct mqg_sub *sub, void *owner, const struct mqg_delivery *d, size_t n)
{
    struct slot *s = owner;
    for (size_t i = 0; i < n; i++)
        slot_take(s, &d[i]);
    if (!s->paused && s->bytes >= SLOT_HELD_BYTES) {
        s->paused = true;
        mqg_sub_pause(sub, true);
    }
    slot_arm(s);
    return n;
}

/* Somebody deleted the queue, or its vhost: what waited is gone. */
static void slot_cancelled(struct mqg_sub *sub, void *owner)
{
    (void)sub;
    struct slot *s = owner;
    slot_leave_queue(s);
    mqg_timer_in(&s->timer, 0);
}

static const struct mqg_sub_ops slot_sub_ops = {.deliver = slot_deliver, .cancelled = slot_cancelled};

static void slot_confirm(struct mqg_pub *p, uint64_t upto, const uint64_t *rejected, size_t n)
{
    (void)p;
    (void)upto;
    (void)rejected;
    (void)n;
}

static const struct mqg_pub_ops slot_pub_ops = {.confirm = slot_confirm};

/* ---- the clock ---------------------------------------------------------------------------------------------------------- */

static bool slot_has_begun(const struct slot *s)
{
    return s->worker->now.wall_us >= stomp_slot_begin_us(s->id);
}

static void slot_begin(struct slot *s)
{
    s->session = mqg_session_internal(s->vhost);
    mqg_pub_init(&s->pub, &slot_pub_ops, s->session, s);
    mqg_arena_init(&s->arena, SLOT_ARENA_BYTES);
}

/* Where its queue is not there, or somebody else reads it, it is looked at again. */
static enum mqg_err slot_open(struct slot *s)
{
    struct mqg_error e;
    struct mqg_sub_def d = {.tag = MQG_SLICE_LIT("later"), .exclusive = true};
    if (s->session == NULL)
        slot_begin(s);
    enum mqg_err err = mqg_queue_open(s->session, s->name, &s->queue, &e);
    if (err != MQG_OK)
        return err;
    err = mqg_subscribe(s->queue, &d, &slot_sub_ops, s, &s->sub, &e);
    if (err != MQG_OK)
        mqg_queue_unref(&s->queue);
    return err;
}

/* True: it is gone, with its queue. Not while somebody may be putting something into that. */
static bool slot_close(struct slot *s)
{
    struct mqg_error e;
    uint64_t messages, ticket;
    pthread_mutex_lock(&slots_lock);
    bool gone = s->worker->now.mono_ms > atomic_load(&s->put_ms) + SLOT_LINGER_MS &&
                mqg_queue_delete(s->session, s->name, false, true, &messages, &ticket, &e) == MQG_OK;
    if (gone)
        mqg_map_del(&slots, s->key);
    pthread_mutex_unlock(&slots_lock);
    if (gone)
        slot_free(s);
    return gone;
}

static void slot_arm(struct slot *s)
{
    uint64_t now_us = s->worker->now.wall_us, due_us;
    if (s->sub == NULL)
        due_us = stomp_slot_begin_us(s->id);
    else
        due_us = s->n > 0 ? s->heap[0].due_us : stomp_slot_end_us(s->id);
    uint64_t in_ms = due_us > now_us ? (due_us - now_us) / 1000 + 1 : s->n > 0 ? 0 : SLOT_AGAIN_MS;
    mqg_timer_in(&s->timer, in_ms < SLOT_LOOK_MS ? in_ms : SLOT_LOOK_MS);
}

/* Whatever its time asks for. */
static void slot_look(struct slot *s)
{
    bool missing = s->sub == NULL && slot_has_begun(s) && slot_open(s) == MQG_NOT_FOUND;
    if (s->sub != NULL)
        slot_fire(s);
    bool over = s->sub != NULL && s->n == 0 && s->worker->now.wall_us > stomp_slot_end_us(s->id);
    if ((missing || over) && slot_close(s))
        return;
    slot_arm(s);
}

static void slot_run(struct mqg_task *task)
{
    slot_look(MQG_CONTAINER_OF(task, struct slot, task));
}

static void slot_tick(struct mqg_timer *t)
{
    slot_look(MQG_CONTAINER_OF(t, struct slot, timer));
}

/* ---- start and stop ----------------------------------------------------------------------------------------------------- */

struct slot_found {
    struct slot_found *next;
    struct mqg_vhost *vhost;
    struct stomp_slot_id id;
};

struct slot_search {
    struct mqg_vhost *vhost;
    struct slot_found *first;
};

static bool slot_see_queue(void *arg, const struct mqg_queue_info *q)
{
    struct slot_search *search = arg;
    struct stomp_slot_id id;
    if (!stomp_slot_parse(q->name, &id))
        return true;
    struct slot_found *f = mqg_xcalloc(1, sizeof *f);
    *f = (struct slot_found){search->first, search->vhost, id};
    search->first = f;
    return true;
}

static bool slot_see_vhost(void *arg, struct mqg_vhost *v)
{
    struct slot_search *search = arg;
    search->vhost = v;
    mqg_queue_each(v, slot_see_queue, search);
    return true;
}

/* The first turn: what was there when the node stopped. */
static void slots_find(struct mqg_task *task)
{
    struct slot_search search = {.first = NULL};
    free(task);
    mqg_vhost_each(slot_see_vhost, &search);
    pthread_mutex_lock(&slots_lock);
    while (search.first != NULL) {
        struct slot_found *f = search.first;
        search.first = f->next;
        (void)slot_get(f->vhost, f->id);
        free(f);
    }
    pthread_mutex_unlock(&slots_lock);
}

void stomp_later_worker_start(struct mqg_worker *w)
{
    if (w->index != 0)
        return;
    struct mqg_task *task = mqg_xcalloc(1, sizeof *task);
    task->run = slots_find;
    mqg_worker_post(w, task);
}

void stomp_later_worker_stop(struct mqg_worker *w)
{
    pthread_mutex_lock(&slots_lock);
    for (struct mqg_map_iter it = {.left = 0}; mqg_map_next(&slots, &it);) {
        struct slot *s = it.value;
        if (s->worker != w)
            continue;
        mqg_map_del(&slots, s->key);
        slot_free(s);
    }
    pthread_mutex_unlock(&slots_lock);
}

/* Those that were made while their worker stopped. */
void stomp_later_fini(void)
{
    for (struct mqg_map_iter it = {.left = 0}; mqg_map_next(&slots, &it);) {
        struct slot *s = it.value;
        free((void *)(uintptr_t)s->key.ptr);
        free(s);
    }
    mqg_map_fini(&slots);
    mqg_map_init(&slots, MQG_MAP_BORROW);
}
