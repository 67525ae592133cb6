/* subscribe.c - SUBSCRIBE and UNSUBSCRIBE, and the temporary queues of reply-to: what a subscription is while it lives. */
#include "stomp.h"

#include <stdlib.h>

/* ---- a subscription's own memory ---------------------------------------------------------------------------------------- */

static struct stomp_sub *sub_new(struct stomp_conn *sc, struct mqg_slice key, struct mqg_slice id)
{
    struct stomp_sub *s = mqg_xcalloc(1, sizeof *s);
    s->sc = sc;
    s->id = mqg_slice_of(mqg_slice_dup(key), key.len);
    mqg_dynbuf_init(&s->head, 1u << 20);
    mqg_dynbuf_init(&s->mid, 1u << 20);
    mqg_dynbuf_init(&s->address, 1u << 20);
    mqg_dynbuf_init(&s->dest, 1u << 20);
    mqg_dynbuf_printf(&s->head, "MESSAGE\n");
    if (id.ptr != NULL)
        stomp_put_header(&s->head, sc->version, MQG_SLICE_LIT("subscription"), id);
    uint8_t *to = mqg_dynbuf_reserve(&s->mid, STOMP_ESCAPED_MAX(key.len));
    if (to != NULL)
        s->mid.len += (size_t)(stomp_escape(to, key, sc->version, false) - to);
    mqg_dynbuf_printf(&s->mid, "@@%s@@", sc->session_name);
    return s;
}

static void sub_free(struct stomp_sub *s)
{
    stomp_settle_flush(s->sc);
    stomp_settle_return(s->sc, s);
    mqg_map_del(&s->sc->subs, s->id);
    if (s->sub != NULL)
        mqg_unsubscribe(&s->sub);
    mqg_queue_unref(&s->queue);
    stomp_filter_free(&s->filter);
    free((void *)(uintptr_t)s->id.ptr);
    mqg_dynbuf_fini(&s->head);
    mqg_dynbuf_fini(&s->mid);
    mqg_dynbuf_fini(&s->address);
    mqg_dynbuf_fini(&s->dest);
    free(s);
}

void stomp_subs_free(struct stomp_conn *sc)
{
    for (struct mqg_map_iter it = {.left = 0}; mqg_map_next(&sc->subs, &it);)
        sub_free(it.value);
    mqg_map_fini(&sc->subs);
    mqg_map_init(&sc->subs, MQG_MAP_BORROW);
}

void stomp_subs_kick(struct stomp_conn *sc)
{
    for (struct mqg_map_iter it = {.left = 0}; mqg_map_next(&sc->subs, &it);)
        mqg_sub_kick(((struct stomp_sub *)it.value)->sub);
}

/* ---- SUBSCRIBE ---------------------------------------------------------------------------------------------------------- */

static bool sub_mode(struct stomp_conn *sc, const struct stomp_head *h, enum stomp_ack_mode *mode)
{
    struct mqg_slice v = stomp_has(h, STOMP_H_ACK) ? h->known[STOMP_H_ACK] : MQG_SLICE_LIT("auto");
    *mode = STOMP_ACK_AUTO;
    if (mqg_slice_eq(v, MQG_SLICE_LIT("client")))
        *mode = STOMP_ACK_CLIENT;
    else if (mqg_slice_eq(v, MQG_SLICE_LIT("client-individual")))
        *mode = STOMP_ACK_INDIVIDUAL;
    else if (!mqg_slice_eq(v, MQG_SLICE_LIT("auto"))) {
        stomp_fail(sc, "Invalid header", "ack must be auto, client or client-individual, this is '%.*s'",
                   MQG_SLICE_FMT(v));
        return false;
    }
    return true;
}

static bool sub_def(struct stomp_conn *sc, const struct stomp_head *h, struct mqg_sub_def *d)
{
    uint64_t prefetch = 0;
    int64_t priority;
    if (stomp_has(h, STOMP_H_PREFETCH_COUNT) &&
        !stomp_number(h->known[STOMP_H_PREFETCH_COUNT], 65535, &prefetch)) {
        stomp_fail(sc, "Invalid header", "prefetch-count must be a number up to 65535, this is '%.*s'",
                   MQG_SLICE_FMT(h->known[STOMP_H_PREFETCH_COUNT]));
        return false;
    }
    if (!stomp_args(sc, h, true, &d->args))
        return false;
    const struct mqg_value *v = mqg_table_get(&d->args, MQG_SLICE_LIT("x-priority"));
    if (v != NULL && mqg_value_int(v, &priority))
        d->priority = priority > INT32_MAX ? INT32_MAX : (int32_t)priority;
    d->prefetch = d->no_ack ? 0 : (uint32_t)prefetch;
    d->conn_id = mqg_conn_info(sc->conn)->id;
    d->channel = 1;
    return true;
}

static bool sub_start(struct stomp_conn *sc, struct stomp_sub *s, const struct mqg_sub_def *d,
                      struct mqg_queue *q)
{
    struct mqg_error e;
    enum mqg_err err = mqg_session_need(sc->session, MQG_READ, "queue", mqg_queue_name(q), &e);
    if (err == MQG_OK)
        err = mqg_subscribe(q, d, &stomp_sub_ops, s, &s->sub, &e);
    if (err != MQG_OK) {
        stomp_fail_router(sc, &e);
        sub_free(s);
        return false;
    }
    s->queue = mqg_queue_ref(q);
    mqg_map_set(&sc->subs, s->id, s);
    return true;
}

/* "T_id", or "Q_destination" of a subscription without an id (1.0). */
static bool sub_key(struct stomp_conn *sc, const struct stomp_head *h, struct mqg_slice *id,
                    struct mqg_slice *text, struct mqg_slice *key)
{
    if (!stomp_value(sc, h, STOMP_H_ID, id) || !stomp_value(sc, h, STOMP_H_DESTINATION, text))
        return false;
    struct mqg_slice from = id->ptr != NULL ? *id : *text;
    uint8_t *to = mqg_arena_alloc(stomp_arena(sc), from.len + 2);
    if (to == NULL)
        return false;
    memcpy(to, id->ptr != NULL ? "T_" : "Q_", 2);
    if (from.len > 0)
        memcpy(to + 2, from.ptr, from.len);
    *key = mqg_slice_of(to, from.len + 2);
    return true;
}

static bool sub_may(struct stomp_conn *sc, struct mqg_slice id, struct mqg_slice text, struct mqg_slice key)
{
    if (text.len == 0)
        stomp_fail(sc, "Missing destination", "SUBSCRIBE must include a 'destination'");
    else if (id.ptr == NULL && sc->version != STOMP_10)
        stomp_fail(sc, "Missing header", "SUBSCRIBE must include an 'id' in STOMP %s",
                   stomp_version_name(sc->version));
    else if (mqg_slice_starts(id, MQG_SLICE_LIT("/temp-queue/")))
        stomp_fail(sc, "Invalid id", "SUBSCRIBE 'id' may not start with /temp-queue/");
    else if (mqg_map_get(&sc->subs, key) != NULL)
        stomp_fail(sc, "Duplicated subscription identifier",
                   "A subscription identified by '%.*s' already exists.",
                   MQG_SLICE_FMT(mqg_slice_of(key.ptr + 2, key.len - 2)));
    else if (sc->subs.count >= STOMP_SUBS_MAX)
        stomp_fail(sc, "Too many subscriptions", "a connection may have %u", STOMP_SUBS_MAX);
    return sc->phase == STOMP_RUNNING;
}

/* The subscription with its queue; takes *f. */
static void sub_begin(struct stomp_conn *sc, struct stomp_want *w, struct mqg_sub_def *d,
                      enum stomp_ack_mode mode, struct stomp_filter **f)
{
    struct mqg_queue *q = NULL;
    w->filters = *f != NULL;
    if (!stomp_queue_open(sc, w, &q))
        return;
    d->exclusive = w->filters && !mqg_queue_is_stream(q); /* its own by more than its name */
    struct stomp_sub *s = sub_new(sc, d->tag, w->id);
    s->mode = mode;
    s->filter = *f;
    *f = NULL;
    if (sub_start(sc, s, d, q))
        stomp_receipt(sc, sc->receipt, 0, w->ticket);
    mqg_queue_unref(&q);
}

void stomp_subscribe(struct stomp_conn *sc, const struct stomp_head *h)
{
    struct stomp_want w = {.h = h};
    struct mqg_sub_def d = {.no_ack = false};
    struct mqg_error e = {.code = 0};
    struct stomp_filter *f = NULL;
    enum stomp_ack_mode mode;
    if (!sub_key(sc, h, &w.id, &w.text, &d.tag) || !sub_may(sc, w.id, w.text, d.tag) ||
        !sub_mode(sc, h, &mode))
        return;
    if (stomp_dest_read(w.text, stomp_arena(sc), &w.dest, &e) != MQG_OK) {
        stomp_fail(sc, e.code == 1 ? "Unknown destination" : "Invalid destination", "%s", e.text);
        return;
    }
    d.no_ack = mode == STOMP_ACK_AUTO;
    if (sub_def(sc, h, &d) && stomp_filter_new(sc, h, &f))
        sub_begin(sc, &w, &d, mode, &f);
    stomp_filter_free(&f);
}

/* ---- UNSUBSCRIBE -------------------------------------------------------------------------------------------------------- */

void stomp_unsubscribe(struct stomp_conn *sc, const struct stomp_head *h)
{
    struct mqg_slice id, text, key;
    if (!sub_key(sc, h, &id, &text, &key))
        return;
    if (id.ptr == NULL && text.ptr == NULL) {
        stomp_fail(sc, "Missing destination or id",
                   "UNSUBSCRIBE must include a 'destination' or 'id' header");
        return;
    }
    struct stomp_sub *s = mqg_map_get(&sc->subs, key);
    if (s == NULL || s->temp) {
        stomp_fail(sc, "No subscription found",
                   "UNSUBSCRIBE must refer to an existing subscription. Subscription to %.*s not found.",
                   MQG_SLICE_FMT(mqg_slice_of(key.ptr + 2, key.len - 2)));
        return;
    }
    uint64_t ticket = 0;
    struct mqg_queue *q = mqg_queue_ref(s->queue);
    sub_free(s);
    stomp_settle_flush(sc);
    struct mqg_slice name = mqg_queue_name(q);
    if (stomp_flag(h, STOMP_H_DURABLE, stomp_flag(h, STOMP_H_PERSISTENT, false)) &&
        mqg_slice_starts(name, MQG_SLICE_LIT("stomp-subscription-"))) {
        struct mqg_error e;
        uint64_t messages;
        if (mqg_queue_delete(sc->session, name, false, false, &messages, &ticket, &e) != MQG_OK)
            stomp_fail_router(sc, &e);
    }
    mqg_queue_unref(&q);
    stomp_receipt(sc, sc->receipt, 0, ticket);
}

/* ---- temporary queues --------------------------------------------------------------------------------------------------- */

bool stomp_temp_queue(struct stomp_conn *sc, struct mqg_slice reply_to, struct mqg_slice *out)
{
    uint8_t *to = mqg_arena_alloc(stomp_arena(sc), reply_to.len + 2);
    if (to == NULL)
        return false;
    memcpy(to, "T_", 2);
    memcpy(to + 2, reply_to.ptr, reply_to.len);
    struct mqg_slice key = mqg_slice_of(to, reply_to.len + 2);
    struct stomp_sub *s = mqg_map_get(&sc->subs, key);
    if (s == NULL) {
        struct stomp_want w = {.def = {.exclusive = true, .auto_delete = true}};
        struct mqg_sub_def d = {
            .no_ack = true, .tag = key, .conn_id = mqg_conn_info(sc->conn)->id, .channel = 1};
        struct mqg_queue *q = NULL;
        if (sc->subs.count >= STOMP_SUBS_MAX) {
            stomp_fail(sc, "Too many subscriptions", "a connection may have %u", STOMP_SUBS_MAX);
            return false;
        }
        if (!stomp_queue_declare(sc, &w, &q))
            return false;
        s = sub_new(sc, key, reply_to);
        s->temp = true;
        bool good = sub_start(sc, s, &d, q);
        mqg_queue_unref(&q);
        if (!good)
            return false;
    }
    *out = mqg_queue_name(s->queue);
    return true;
}
