/* send.c - SEND: headers to a message, its body, publishing, the confirm.
 *
 * The message's origin is the header lines as they came, without those that mean something to this connection only
 * (destination, receipt, transaction...), behind one byte that says how they are escaped: a STOMP subscriber gets them back
 * by one copy. What AMQP calls properties is read only as far as the router needs it (persistent, priority, expiration).
 *
 * Clients send many messages to one destination, so its meaning is kept from one SEND to the next. A queue is made when it is
 * not there, as RabbitMQ's adapter does; one that exists is used as it is, whatever its properties (RabbitMQ refuses those
 * that it would not have made so). */
#include "later.h"
#include "stomp.h"

#include <stdlib.h>

void stomp_send_drop(struct stomp_conn *sc)
{
    mqg_msg_unref(&sc->send.msg);
    free(sc->send.kept);
    sc->send = (struct stomp_send){.msg = NULL};
}

void stomp_send_keep(struct stomp_conn *sc)
{
    struct stomp_send *s = &sc->send;
    s->kept = mqg_xmalloc(s->receipt.len + s->tx.len + 1);
    if (s->receipt.ptr != NULL) {
        memcpy(s->kept, s->receipt.ptr, s->receipt.len);
        s->receipt.ptr = s->kept;
    }
    if (s->tx.ptr != NULL) {
        memcpy(s->kept + s->receipt.len, s->tx.ptr, s->tx.len);
        s->tx.ptr = s->kept + s->receipt.len;
    }
}

/* ---- destination -------------------------------------------------------------------------------------------------------- */

static void send_dest_failed(struct stomp_conn *sc, const struct mqg_error *e)
{
    stomp_fail(sc, e->code == 1 ? "Unknown destination" : "Invalid destination", "%s", e->text);
}

static bool send_dest_keep(struct stomp_conn *sc, struct mqg_slice text, const struct stomp_dest *d)
{
    mqg_dynbuf_reset(&sc->last_dest);
    mqg_dynbuf_reset(&sc->last_mean);
    mqg_dynbuf_slice(&sc->last_mean, d->exchange);
    mqg_dynbuf_slice(&sc->last_mean, d->key);
    sc->last_exchange_len = d->exchange.len;
    sc->last_kind = d->kind;
    if (sc->last_mean.failed || d->key.len > STOMP_KEY_MAX || d->exchange.len > 255) {
        mqg_dynbuf_reset(&sc->last_mean);
        sc->last_mean.failed = false;
        stomp_fail(sc, "Invalid destination", "the names in it are too long");
        return false;
    }
    if (!mqg_dynbuf_slice(&sc->last_dest, text)) { /* too long to keep: read again the next time */
        mqg_dynbuf_reset(&sc->last_dest);
        sc->last_dest.failed = false;
    }
    return true;
}

/* The destination's meaning into last_mean. */
static bool send_dest(struct stomp_conn *sc, const struct stomp_head *h)
{
    struct mqg_slice text;
    struct stomp_dest d;
    struct mqg_error e;
    if (!stomp_has(h, STOMP_H_DESTINATION)) {
        stomp_fail(sc, "Missing destination", "SEND must include a 'destination'");
        return false;
    }
    if (sc->last_dest.len > 0 && mqg_slice_eq(h->known[STOMP_H_DESTINATION], mqg_dynbuf_view(&sc->last_dest)))
        return true;
    if (!stomp_value(sc, h, STOMP_H_DESTINATION, &text))
        return false;
    e.code = 0;
    if (stomp_dest_read(text, stomp_arena(sc), &d, &e) != MQG_OK) {
        send_dest_failed(sc, &e);
        return false;
    }
    if (d.kind == STOMP_DEST_TEMP_QUEUE) {
        stomp_fail(sc, "Invalid destination",
                   "a /temp-queue/ stands in reply-to, nothing is sent to it by that name");
        return false;
    }
    return send_dest_keep(sc, h->known[STOMP_H_DESTINATION], &d);
}

/* ---- headers ------------------------------------------------------------------------------------------------------------ */

/* A reply-to of "/temp-queue/name" becomes the name of a real queue that others can answer to. */
static bool send_reply_to(struct stomp_conn *sc, struct mqg_slice raw, struct mqg_dynbuf *out)
{
    struct mqg_slice text, queue;
    struct stomp_dest d;
    struct mqg_error e;
    if (stomp_unescape(raw, sc->version, stomp_arena(sc), &text) != MQG_OK)
        text = raw;
    if (!mqg_slice_starts(text, MQG_SLICE_LIT("/temp-queue/"))) {
        mqg_dynbuf_printf(out, "reply-to:");
        mqg_dynbuf_slice(out, raw);
        return mqg_dynbuf_u8(out, '\n');
    }
    e.code = 0;
    if (stomp_dest_read(text, stomp_arena(sc), &d, &e) != MQG_OK) {
        send_dest_failed(sc, &e);
        return false;
    }
    if (!stomp_temp_queue(sc, text, &queue))
        return false;
    mqg_dynbuf_printf(out, "reply-to:/reply-queue/");
    mqg_dynbuf_slice(out, queue);
    return mqg_dynbuf_u8(out, '\n');
}

/* Headers that speak of identity are ours to write (MAPPING: `mqgate-*`). */
static bool send_is_ours(const struct stomp_line *line)
{
    return mqg_slice_starts(line->name, MQG_SLICE_LIT("mqgate-")) && line->id != STOMP_H_MQGATE_NULL_BODY &&
           line->id != STOMP_H_MQGATE_ORIGIN;
}

static bool send_origin(struct stomp_conn *sc, const struct stomp_head *h)
{
    struct mqg_dynbuf *out = &sc->origin;
    mqg_dynbuf_reset(out);
    stomp_origin_begin(out, sc->version, h->escapes);
    for (uint32_t i = 0; i < h->n; i++) {
        const struct stomp_line *line = &h->lines[i];
        if (stomp_header_group(line->id) == STOMP_GROUP_HOP)
            continue;
        if (MQG_UNLIKELY(line->id == STOMP_H_REPLY_TO)) {
            if (!send_reply_to(sc, line->value, out))
                return false;
            continue;
        }
        if (MQG_UNLIKELY(send_is_ours(line))) {
            mqg_count(MQG_COUNT_CONVERSION_DROPPED, 1);
            continue;
        }
        uint8_t *to = mqg_dynbuf_reserve(out, line->name.len + line->value.len + 2);
        if (to == NULL)
            break;
        memcpy(to, line->name.ptr, line->name.len);
        to[line->name.len] = ':';
        memcpy(to + line->name.len + 1, line->value.ptr, line->value.len);
        to[line->name.len + line->value.len + 1] = '\n';
        out->len += line->name.len + line->value.len + 2;
    }
    return !out->failed;
}

static bool send_number(struct stomp_conn *sc, const struct stomp_head *h, enum stomp_header_id id,
                        uint64_t max, uint64_t *out)
{
    if (!stomp_has(h, id) || stomp_number(h->known[id], max, out))
        return true;
    stomp_fail(sc, "Invalid header", "%s must be a number up to %llu, this is '%.*s'", stomp_header_name(id),
               (unsigned long long)max, MQG_SLICE_FMT(h->known[id]));
    return false;
}

/* ActiveMQ's rule: the first time after DELAY, or else after PERIOD; then REPEAT times more, PERIOD apart. */
static bool send_later_times(struct stomp_conn *sc, const struct stomp_head *h, struct stomp_later *l)
{
    uint64_t delay_ms = 0, left = 0;
    if (stomp_has(h, STOMP_H_AMQ_SCHEDULED_CRON) && h->known[STOMP_H_AMQ_SCHEDULED_CRON].len > 0) {
        stomp_fail(sc, "not_implemented",
                   "NOT_IMPLEMENTED - AMQ_SCHEDULED_CRON: use AMQ_SCHEDULED_DELAY, _PERIOD and _REPEAT");
        return false;
    }
    if (!send_number(sc, h, STOMP_H_AMQ_SCHEDULED_DELAY, STOMP_LATER_MAX_MS, &delay_ms) ||
        !send_number(sc, h, STOMP_H_AMQ_SCHEDULED_PERIOD, STOMP_LATER_MAX_MS, &l->period_ms) ||
        !send_number(sc, h, STOMP_H_AMQ_SCHEDULED_REPEAT, INT32_MAX, &left))
        return false;
    if (left > 0 && l->period_ms == 0) {
        stomp_fail(sc, "Invalid header", "AMQ_SCHEDULED_REPEAT needs an AMQ_SCHEDULED_PERIOD above 0");
        return false;
    }
    l->left = (uint32_t)left;
    l->due_us = (delay_ms > 0 ? delay_ms : l->period_ms) * 1000;
    return true;
}

/* A message for later says so in its overlay, and its time to live begins when it leaves. */
static bool send_later(struct stomp_conn *sc, const struct stomp_head *h, struct mqg_msg_parts *parts)
{
    struct stomp_later l = {.make = sc->last_kind == STOMP_DEST_QUEUE};
    if (!send_later_times(sc, h, &l) || l.due_us == 0)
        return sc->phase == STOMP_RUNNING;
    l.due_us += mqg_conn_worker(sc->conn)->now.wall_us;
    l.has_ttl = (parts->flags & MQG_MSG_HAS_TTL) != 0;
    l.ttl_ms = parts->ttl_ms;
    parts->flags &= (uint8_t)~MQG_MSG_HAS_TTL;
    parts->ttl_ms = 0;
    mqg_dynbuf_reset(&sc->later);
    stomp_later_encode(&sc->later, stomp_arena(sc), &l);
    parts->overlay = mqg_dynbuf_view(&sc->later);
    return !sc->later.failed;
}

static bool send_wants_later(const struct stomp_head *h)
{
    const uint64_t any = UINT64_C(1) << STOMP_H_AMQ_SCHEDULED_DELAY |
                         UINT64_C(1) << STOMP_H_AMQ_SCHEDULED_PERIOD |
                         UINT64_C(1) << STOMP_H_AMQ_SCHEDULED_REPEAT |
                         UINT64_C(1) << STOMP_H_AMQ_SCHEDULED_CRON;
    return (h->has & any) != 0;
}

/* What the router needs to know. */
static bool send_parts(struct stomp_conn *sc, const struct stomp_head *h, struct mqg_msg_parts *parts)
{
    uint64_t priority = 0, ttl_ms = 0;
    if (!send_number(sc, h, STOMP_H_PRIORITY, 255, &priority) ||
        !send_number(sc, h, STOMP_H_EXPIRATION, UINT32_MAX, &ttl_ms) ||
        !stomp_value(sc, h, STOMP_H_X_PARTITION_KEY, &parts->pkey))
        return false;
    parts->priority = (uint8_t)priority;
    parts->ttl_ms = ttl_ms;
    parts->flags = 0;
    if (stomp_flag(h, STOMP_H_PERSISTENT, false))
        parts->flags |= MQG_MSG_PERSISTENT;
    if (stomp_has(h, STOMP_H_EXPIRATION))
        parts->flags |= MQG_MSG_HAS_TTL;
    if (stomp_has(h, STOMP_H_X_PARTITION_KEY))
        parts->flags |= MQG_MSG_HAS_PKEY;
    struct mqg_slice user;
    if (!stomp_value(sc, h, STOMP_H_USER_ID, &user))
        return false;
    if (stomp_has(h, STOMP_H_USER_ID) && !mqg_slice_eq(user, mqg_slice_str(sc->session->user)) &&
        !(sc->session->tags & MQG_TAG_IMPERSONATOR)) {
        stomp_fail(sc, "precondition_failed", "user-id set to '%.*s' but authenticated user was '%s'",
                   MQG_SLICE_FMT(user), sc->session->user);
        return false;
    }
    return true;
}

/* A wrong escape anywhere is fatal (1.2), also in a header that nobody here looks at. */
static bool send_escapes(struct stomp_conn *sc, const struct stomp_head *h)
{
    struct mqg_slice s;
    for (uint32_t i = 0; i < h->n; i++)
        if (stomp_unescape(h->lines[i].name, sc->version, stomp_arena(sc), &s) != MQG_OK ||
            stomp_unescape(h->lines[i].value, sc->version, stomp_arena(sc), &s) != MQG_OK) {
            stomp_fail(sc, "Invalid header", "the header %.*s has an escape that STOMP %s does not know",
                       MQG_SLICE_FMT(h->lines[i].name), stomp_version_name(sc->version));
            return false;
        }
    return true;
}

bool stomp_send_begin(struct stomp_conn *sc, const struct stomp_head *h, uint32_t body_len)
{
    struct mqg_msg_parts parts; /* field by field: zeroing it all costs more than the rest */
    struct stomp_send *s = &sc->send;
    parts.client = parts.overlay = MQG_SLICE_NONE;
    if ((h->escapes && !send_escapes(sc, h)) || !send_dest(sc, h) || !send_parts(sc, h, &parts) ||
        (send_wants_later(h) && !send_later(sc, h, &parts)) || !send_origin(sc, h) ||
        !stomp_value(sc, h, STOMP_H_TRANSACTION, &s->tx))
        return false;
    if (body_len == 0 && stomp_flag(h, STOMP_H_MQGATE_NULL_BODY, false))
        parts.flags |= MQG_MSG_NULL_BODY;
    struct mqg_slice mean = mqg_dynbuf_view(&sc->last_mean);
    parts.proto = MQG_PROTO_STOMP;
    parts.key_sep = '.';
    parts.exchange = mqg_slice_of(mean.ptr, sc->last_exchange_len);
    parts.key = mqg_slice_of(mean.ptr + sc->last_exchange_len, mean.len - sc->last_exchange_len);
    parts.user = mqg_slice_str(sc->session->user);
    parts.origin = mqg_dynbuf_view(&sc->origin);
    parts.body_len = body_len;
    s->to_queue = sc->last_kind == STOMP_DEST_QUEUE;
    s->receipt = sc->receipt;
    s->msg = mqg_msg_new(&parts);
    if (s->msg == NULL) {
        stomp_fail(sc, "resource_error", "the node's message memory is used up");
        return false;
    }
    s->body_at = mqg_msg_body_mut(s->msg);
    mqg_conn_publishes(sc->conn);
    return true;
}

/* ---- publishing --------------------------------------------------------------------------------------------------------- */

/* Takes m; what the SEND needs is looked at now, not when it is due. */
static bool send_put_later(struct stomp_conn *sc, struct mqg_msg *m, uint64_t *ticket)
{
    struct mqg_error e = {.code = 0};
    struct stomp_later l;
    bool good = stomp_later_decode(m, stomp_arena(sc), &l);
    MQG_ASSERT(good);
    enum mqg_err err = mqg_publish_check(&sc->pub, mqg_msg_exchange(m), &e);
    if (err == MQG_OK)
        err = stomp_later_put(sc->session->vhost, m, l.due_us, STOMP_DAY, ticket, &e);
    else
        mqg_msg_unref(&m);
    if (err != MQG_OK)
        stomp_fail_router(sc, &e);
    return err == MQG_OK;
}

bool stomp_publish(struct stomp_conn *sc, struct mqg_msg *m, bool to_queue, bool confirm, uint64_t *seq,
                   uint64_t *ticket)
{
    struct mqg_error e;
    struct mqg_slice key = mqg_msg_key(m);
    *ticket = *seq = 0;
    if (to_queue && mqg_map_get(&sc->made, key) == NULL && !stomp_queue_make(sc, key, ticket)) {
        mqg_msg_unref(&m);
        return false;
    }
    if (MQG_UNLIKELY(stomp_is_for_later(m)))
        return send_put_later(sc, m, ticket);
    for (int attempt = 0;; attempt++) {
        e.code = 0;
        *seq = confirm ? ++sc->publish_seq : 0;
        enum mqg_err err = mqg_publish(&sc->pub, m, to_queue ? MQG_PUBLISH_MANDATORY : 0, *seq, NULL, 0, &e);
        if (MQG_LIKELY(err == MQG_OK))
            return true;
        if (err != MQG_NOT_FOUND || e.code != 312) {
            stomp_fail_router(sc, &e);
            return false;
        }
        /* The queue went since it was made: again, once. */
        if (attempt > 0 || !stomp_queue_make(sc, key, ticket)) {
            mqg_msg_unref(&m);
            stomp_fail(sc, "not_found", "NOT_FOUND - no queue '%.*s'", MQG_SLICE_FMT(key));
            return false;
        }
    }
}

void stomp_send_end(struct stomp_conn *sc)
{
    struct stomp_send *s = &sc->send;
    struct mqg_msg *m = s->msg;
    uint64_t seq, ticket;
    bool later = stomp_is_for_later(m);
    s->msg = NULL;
    if (s->tx.ptr != NULL) {
        if (stomp_tx_send(sc, s->tx, m, s->to_queue))
            stomp_receipt(sc, s->receipt, 0, 0);
    } else if (stomp_publish(sc, m, s->to_queue, s->receipt.ptr != NULL, &seq, &ticket)) {
        if (MQG_UNLIKELY(later))
            stomp_receipt_barrier(sc, s->receipt);
        else
            stomp_receipt(sc, s->receipt, seq, ticket);
    }
    if (MQG_UNLIKELY(s->kept != NULL)) {
        free(s->kept);
        s->kept = NULL;
    }
}

/* ---- confirms ----------------------------------------------------------------------------------------------------------- */

static void send_confirm(struct mqg_pub *p, uint64_t upto, const uint64_t *rejected, size_t n)
{
    struct stomp_conn *sc = p->owner;
    if (upto > sc->confirmed) {
        mqg_count(MQG_COUNT_CONFIRMED, upto - sc->confirmed);
        sc->confirmed = upto;
    }
    stomp_receipts_confirmed(sc, rejected, n);
}

const struct mqg_pub_ops stomp_pub_ops = {.confirm = send_confirm};
