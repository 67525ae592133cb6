/* subscribe.c - SUBSCRIBE and UNSUBSCRIBE; the queues behind them, those of SENDs and of reply-to.
 *
 *   /queue/q                    q, durable unless the headers say else; one that exists is used as it is when they say nothing
 *   /amq/queue/q, /reply-queue  q, which must exist
 *   /topic/k, /exchange/x/k     a queue of this subscription, bound with k: gone with it, or, with durable:true, named after
 *                               destination and id, so that the subscription goes on with the next connection
 *
 * Definitions come into effect at once; the RECEIPT waits until they are on disk. */
#include "stomp.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#define SUB_QUEUES_KNOWN 4096u

/* ---- queues for SENDs --------------------------------------------------------------------------------------------------- */

bool stomp_queue_make(struct stomp_conn *sc, struct mqg_slice name, uint64_t *ticket)
{
    struct mqg_error e;
    struct mqg_queue *q = NULL;
    enum mqg_err err = mqg_queue_open(sc->session, name, &q, &e);
    if (err == MQG_OK)
        mqg_queue_unref(&q);
    if (err == MQG_NOT_FOUND || err == MQG_GONE) {
        struct mqg_queue_def d = {.name = name, .durable = true};
        struct mqg_queue_ok ok;
        d.owner_conn = mqg_conn_info(sc->conn)->id;
        if (mqg_queue_declare(sc->session, &d, false, &ok, ticket, &e) != MQG_OK) {
            stomp_fail_router(sc, &e);
            return false;
        }
    }
    if (sc->made.count >= SUB_QUEUES_KNOWN) {
        mqg_map_fini(&sc->made);
        mqg_map_init(&sc->made, MQG_MAP_COPY);
    }
    mqg_map_set(&sc->made, name, sc);
    return true;
}

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

/* ---- arguments ---------------------------------------------------------------------------------------------------------- */

/* Arguments that stay text, whatever they look like. */
static bool sub_arg_is_text(struct mqg_slice name)
{
    static const char *const names[] = {"x-dead-letter-exchange", "x-dead-letter-routing-key",
                                        "x-queue-type",           "x-overflow",
                                        "x-queue-mode",           "x-max-age",
                                        "x-dead-letter-strategy"};
    for (size_t i = 0; i < MQG_COUNTOF(names); i++)
        if (mqg_slice_eq(name, mqg_slice_str(names[i])))
            return true;
    return false;
}

/* RabbitMQ's forms: first, last, next, offset=N, timestamp=N (seconds); a number alone is an offset. */
static struct mqg_value sub_stream_offset(struct mqg_slice text)
{
    struct mqg_slice offset = MQG_SLICE_LIT("offset="), timestamp = MQG_SLICE_LIT("timestamp=");
    bool is_time = mqg_slice_starts(text, timestamp);
    size_t skip = is_time ? timestamp.len : mqg_slice_starts(text, offset) ? offset.len : 0;
    uint64_t n;
    if (!stomp_number(mqg_slice_of(text.ptr + skip, text.len - skip), INT64_MAX / 1000000, &n))
        return (struct mqg_value){.type = MQG_VALUE_STRING, .bytes = text};
    if (is_time)
        return (struct mqg_value){.type = MQG_VALUE_TIMESTAMP, .i = (int64_t)n * 1000000};
    return (struct mqg_value){.type = MQG_VALUE_INT64, .i = (int64_t)n};
}

static struct mqg_value sub_arg_value(struct mqg_slice name, struct mqg_slice text)
{
    uint64_t n;
    if (!sub_arg_is_text(name)) {
        if (stomp_number(text, INT64_MAX, &n))
            return (struct mqg_value){.type = MQG_VALUE_INT64, .i = (int64_t)n};
        if (mqg_slice_eq(text, MQG_SLICE_LIT("true")) || mqg_slice_eq(text, MQG_SLICE_LIT("false")))
            return (struct mqg_value){.type = MQG_VALUE_BOOL, .boolean = text.len == 4};
    }
    return (struct mqg_value){.type = MQG_VALUE_STRING, .bytes = text};
}

static bool sub_arg_is_consumers(const struct stomp_line *line)
{
    return line->id == STOMP_H_X_PRIORITY || line->id == STOMP_H_X_STREAM_OFFSET ||
           mqg_slice_starts(line->name, MQG_SLICE_LIT("x-stream-filter")) ||
           mqg_slice_starts(line->name, MQG_SLICE_LIT("x-stream-match"));
}

/* x-* headers: those of the consumer, or those of the queue. */
static bool sub_args(struct stomp_conn *sc, const struct stomp_head *h, bool consumers, struct mqg_table *out)
{
    for (uint32_t i = 0; i < h->n; i++) {
        const struct stomp_line *line = &h->lines[i];
        struct mqg_slice text;
        if (!mqg_slice_starts(line->name, MQG_SLICE_LIT("x-")) || line->id == STOMP_H_X_QUEUE_NAME ||
            sub_arg_is_consumers(line) != consumers || mqg_table_get(out, line->name) != NULL)
            continue;
        struct mqg_field *f = mqg_table_add(stomp_arena(sc), out, line->name);
        if (f == NULL || stomp_unescape(line->value, sc->version, stomp_arena(sc), &text) != MQG_OK) {
            stomp_fail(sc, "Invalid header", "the header %.*s cannot be read", MQG_SLICE_FMT(line->name));
            return false;
        }
        f->value = line->id == STOMP_H_X_STREAM_OFFSET ? sub_stream_offset(text)
                                                       : sub_arg_value(line->name, text);
    }
    return true;
}

/* ---- the queue behind a destination ------------------------------------------------------------------------------------- */

struct sub_want {
    const struct stomp_head *h;
    struct stomp_dest dest;
    struct mqg_slice text; /* the destination as it was given */
    struct mqg_slice id;
    bool durable, says_properties;
    struct mqg_queue_def def;
    char name[96];
    uint64_t ticket;
};

/* "stomp-subscription-" and 32 digits: of destination and id where it shall be found again, else random. */
static struct mqg_slice sub_queue_name(struct sub_want *w)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    if (w->durable) {
        EVP_MD_CTX *md = EVP_MD_CTX_new();
        bool good = md != NULL && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 &&
                    EVP_DigestUpdate(md, w->text.ptr, w->text.len) == 1 && EVP_DigestUpdate(md, "", 1) == 1 &&
                    EVP_DigestUpdate(md, w->id.ptr, w->id.len) == 1 &&
                    EVP_DigestFinal_ex(md, digest, NULL) == 1;
        EVP_MD_CTX_free(md);
        MQG_ASSERT(good);
    } else {
        mqg_random_bytes(digest, 16);
    }
    int n = snprintf(w->name, sizeof w->name, "stomp-subscription-%016llx%016llx",
                     (unsigned long long)mqg_be64(digest), (unsigned long long)mqg_be64(digest + 8));
    return mqg_slice_of(w->name, (size_t)n);
}

static bool sub_declare(struct stomp_conn *sc, struct sub_want *w, struct mqg_queue **q)
{
    struct mqg_error e;
    struct mqg_queue_ok ok;
    w->def.owner_conn = mqg_conn_info(sc->conn)->id;
    enum mqg_err err = mqg_queue_declare(sc->session, &w->def, false, &ok, &w->ticket, &e);
    if (err == MQG_OK)
        err = mqg_queue_open(sc->session, ok.name, q, &e);
    if (err != MQG_OK)
        stomp_fail_router(sc, &e);
    return err == MQG_OK;
}

static bool sub_open_queue(struct stomp_conn *sc, struct sub_want *w, bool may_make, struct mqg_queue **q)
{
    struct mqg_error e;
    if (!may_make || !w->says_properties) {
        enum mqg_err err = mqg_queue_open(sc->session, w->dest.key, q, &e);
        if (err == MQG_OK)
            return true;
        if (!may_make || err != MQG_NOT_FOUND) {
            stomp_fail_router(sc, &e);
            return false;
        }
    }
    w->def.name = w->dest.key;
    w->def.durable = stomp_flag(w->h, STOMP_H_DURABLE, stomp_flag(w->h, STOMP_H_PERSISTENT, true));
    w->def.auto_delete = stomp_flag(w->h, STOMP_H_AUTO_DELETE, false);
    w->def.exclusive = stomp_flag(w->h, STOMP_H_EXCLUSIVE, false);
    return sub_declare(sc, w, q);
}

/* A queue that was made for nothing: nobody else knows of it. */
static void sub_forget(struct stomp_conn *sc, struct mqg_slice name)
{
    struct mqg_error e;
    uint64_t messages, ticket;
    if (mqg_queue_delete(sc->session, name, false, false, &messages, &ticket, &e) != MQG_OK)
        mqg_log(MQG_LOG_DEBUG, MQG_EVENT_DEFINE, "queue=%s why=%s", mqg_logq(name), mqg_logqs(e.text));
}

static bool sub_open_topic(struct stomp_conn *sc, struct sub_want *w, struct mqg_queue **q)
{
    struct mqg_slice given;
    struct mqg_error e;
    if (!stomp_value(sc, w->h, STOMP_H_X_QUEUE_NAME, &given))
        return false;
    if (w->durable && w->id.ptr == NULL && given.len == 0) {
        stomp_fail(sc, "Missing header", "a durable subscription needs an 'id', by which it is found again");
        return false;
    }
    w->def.name = given.len > 0 ? given : sub_queue_name(w);
    w->def.durable = w->durable;
    w->def.auto_delete = stomp_flag(w->h, STOMP_H_AUTO_DELETE, !w->durable);
    w->def.exclusive = stomp_flag(w->h, STOMP_H_EXCLUSIVE, !w->durable && given.len == 0);
    if (!sub_declare(sc, w, q))
        return false;
    struct mqg_binding_def b = {.source = w->dest.exchange, .destination = w->def.name, .key = w->dest.key};
    uint64_t ticket = 0;
    if (mqg_binding_put(sc->session, &b, &ticket, &e) != MQG_OK) {
        mqg_queue_unref(q);
        if (!w->durable)
            sub_forget(sc, w->def.name);
        stomp_fail_router(sc, &e);
        return false;
    }
    w->ticket = ticket > w->ticket ? ticket : w->ticket;
    return true;
}

static bool sub_open(struct stomp_conn *sc, struct sub_want *w, struct mqg_queue **q)
{
    mqg_publish_flush();
    if (!sub_args(sc, w->h, false, &w->def.args))
        return false;
    w->durable = stomp_flag(w->h, STOMP_H_DURABLE, stomp_flag(w->h, STOMP_H_PERSISTENT, false));
    w->says_properties = w->def.args.n > 0 || stomp_has(w->h, STOMP_H_DURABLE) ||
                         stomp_has(w->h, STOMP_H_PERSISTENT) || stomp_has(w->h, STOMP_H_AUTO_DELETE) ||
                         stomp_has(w->h, STOMP_H_EXCLUSIVE);
    switch (w->dest.kind) {
    case STOMP_DEST_QUEUE: return sub_open_queue(sc, w, true, q);
    case STOMP_DEST_AMQ_QUEUE:
    case STOMP_DEST_REPLY_QUEUE: return sub_open_queue(sc, w, false, q);
    case STOMP_DEST_TOPIC:
    case STOMP_DEST_EXCHANGE: return sub_open_topic(sc, w, q);
    case STOMP_DEST_TEMP_QUEUE: break;
    }
    stomp_fail(sc, "Invalid destination", "a /temp-queue/ is subscribed to by naming it in reply-to");
    return false;
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
    if (!sub_args(sc, h, true, &d->args))
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

static bool sub_may(struct stomp_conn *sc, const struct stomp_head *h, struct mqg_slice id,
                    struct mqg_slice text, struct mqg_slice key)
{
    if (text.len == 0)
        stomp_fail(sc, "Missing destination", "SUBSCRIBE must include a 'destination'");
    else if (id.ptr == NULL && sc->version != STOMP_10)
        stomp_fail(sc, "Missing header", "SUBSCRIBE must include an 'id' in STOMP %s",
                   stomp_version_name(sc->version));
    else if (mqg_slice_starts(id, MQG_SLICE_LIT("/temp-queue/")))
        stomp_fail(sc, "Invalid id", "SUBSCRIBE 'id' may not start with /temp-queue/");
    else if (stomp_has(h, STOMP_H_SELECTOR))
        stomp_fail(sc, "not_implemented",
                   "selector: subscriptions are not filtered; bind a headers exchange instead");
    else if (mqg_map_get(&sc->subs, key) != NULL)
        stomp_fail(sc, "Duplicated subscription identifier",
                   "A subscription identified by '%.*s' already exists.",
                   MQG_SLICE_FMT(mqg_slice_of(key.ptr + 2, key.len - 2)));
    else if (sc->subs.count >= STOMP_SUBS_MAX)
        stomp_fail(sc, "Too many subscriptions", "a connection may have %u", STOMP_SUBS_MAX);
    return sc->phase == STOMP_RUNNING;
}

void stomp_subscribe(struct stomp_conn *sc, const struct stomp_head *h)
{
    struct sub_want w = {.h = h};
    struct mqg_sub_def d = {.no_ack = false};
    struct mqg_slice key;
    struct mqg_error e = {.code = 0};
    enum stomp_ack_mode mode;
    struct mqg_queue *q = NULL;
    if (!sub_key(sc, h, &w.id, &w.text, &key) || !sub_may(sc, h, w.id, w.text, key) ||
        !sub_mode(sc, h, &mode))
        return;
    if (stomp_dest_read(w.text, stomp_arena(sc), &w.dest, &e) != MQG_OK) {
        stomp_fail(sc, e.code == 1 ? "Unknown destination" : "Invalid destination", "%s", e.text);
        return;
    }
    d.no_ack = mode == STOMP_ACK_AUTO;
    d.tag = key;
    if (!sub_def(sc, h, &d) || !sub_open(sc, &w, &q))
        return;
    struct stomp_sub *s = sub_new(sc, key, w.id);
    s->mode = mode;
    if (sub_start(sc, s, &d, q))
        stomp_receipt(sc, sc->receipt, 0, w.ticket);
    mqg_queue_unref(&q);
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

bool stomp_temp_queue(struct stomp_conn *sc, struct mqg_slice reply_to, struct mqg_slice name,
                      struct mqg_slice *out)
{
    uint8_t *to = mqg_arena_alloc(stomp_arena(sc), reply_to.len + 2);
    (void)name;
    if (to == NULL)
        return false;
    memcpy(to, "T_", 2);
    memcpy(to + 2, reply_to.ptr, reply_to.len);
    struct mqg_slice key = mqg_slice_of(to, reply_to.len + 2);
    struct stomp_sub *s = mqg_map_get(&sc->subs, key);
    if (s == NULL) {
        struct sub_want w = {.def = {.exclusive = true, .auto_delete = true}};
        struct mqg_sub_def d = {
            .no_ack = true, .tag = key, .conn_id = mqg_conn_info(sc->conn)->id, .channel = 1};
        struct mqg_queue *q = NULL;
        if (sc->subs.count >= STOMP_SUBS_MAX) {
            stomp_fail(sc, "Too many subscriptions", "a connection may have %u", STOMP_SUBS_MAX);
            return false;
        }
        if (!sub_declare(sc, &w, &q))
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
