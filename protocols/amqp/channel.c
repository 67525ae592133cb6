/* channel.c - AMQP channels: opening and closing, which function handles which method, answers in order.
 *
 * An answer to a definition leaves when the definition is durable; answers behind it wait in the channel's list, so that they
 * leave in the order of the requests (part 1, 2.2.2: a channel is a sequence). A method that is no definition and needs an
 * answer waits with the whole connection (conn.c), which keeps get, consume, qos and commit simple. */
#include "amqp.h"

#include <stdlib.h>

/* ---- opening and closing ---------------------------------------------------------------------------------------- */

struct amqp_channel *amqp_channel_at(const struct amqp_conn *ac, uint16_t number)
{
    return number < ac->channels_cap ? ac->channels[number] : NULL;
}

static void channels_room(struct amqp_conn *ac, uint16_t number)
{
    uint32_t cap = ac->channels_cap ? ac->channels_cap : 4;
    while (cap <= number)
        cap *= 2;
    if (cap == ac->channels_cap)
        return;
    ac->channels = mqg_xrealloc(ac->channels, cap * sizeof(struct amqp_channel *));
    memset(ac->channels + ac->channels_cap, 0, (cap - ac->channels_cap) * sizeof(struct amqp_channel *));
    ac->channels_cap = cap;
}

enum mqg_err amqp_channel_open(struct amqp_conn *ac, uint16_t number, struct mqg_error *e)
{
    if (ac->nchannels >= ac->channel_max || number > ac->channel_max)
        return mqg_error_set(e, MQG_TOO_LARGE, AMQP_NOT_ALLOWED,
                             "number of channels opened (%u) has reached the negotiated channel_max (%u)",
                             ac->nchannels, ac->channel_max);
    channels_room(ac, number);
    struct amqp_channel *ch = mqg_xcalloc(1, sizeof(*ch));
    ch->ac = ac;
    ch->number = number;
    ch->tag_first = ch->tag_next = 1;
    ch->replies_tail = &ch->replies;
    mqg_pub_init(&ch->pub, &amqp_pub_ops, ac->session, ch);
    ac->channels[number] = ch;
    ac->nchannels++;
    mqg_count(MQG_COUNT_CHANNELS_OPENED, 1);
    AMQP_SEND(ac->conn, number, channel_open_ok, .channel_id = MQG_SLICE_NONE);
    return MQG_OK;
}

/* Gives back what the channel holds; the struct stays (closing) or goes (free). */
static void channel_release(struct amqp_channel *ch)
{
    amqp_settle_flush(ch->ac);
    amqp_content_drop(ch);
    amqp_tx_free(ch);
    amqp_get_orphan(ch);
    while (ch->consumers)
        amqp_consumer_free(ch->consumers);
    amqp_settle_all(ch, MQG_SETTLE_RETURN);
    amqp_settle_flush(ch->ac);
    if (ch->waiting) {
        mqg_lane_unwait(mqg_storage_default(), &ch->waiter);
        ch->waiting = false;
    }
    while (ch->replies) {
        struct amqp_answer *r = ch->replies;
        ch->replies = r->next;
        free(r);
    }
    ch->replies_tail = &ch->replies;
    if (ch->pub.state)
        mqg_pub_fini(&ch->pub);
    free(ch->unacked);
    ch->unacked = NULL;
    ch->unacked_cap = 0;
    amqp_conn_stall(ch->ac, false);
}

void amqp_channel_free(struct amqp_channel *ch)
{
    struct amqp_conn *ac = ch->ac;
    channel_release(ch);
    ac->channels[ch->number] = NULL;
    ac->nchannels--;
    mqg_count(MQG_COUNT_CHANNELS_CLOSED, 1);
    free(ch);
}

int amqp_code_of(const struct mqg_error *e)
{
    static const int codes[MQG_ERR_COUNT] = {
        [MQG_MALFORMED] = AMQP_SYNTAX_ERROR,
        [MQG_TOO_LARGE] = AMQP_PRECONDITION_FAILED,
        [MQG_UNSUPPORTED] = AMQP_NOT_IMPLEMENTED,
        [MQG_INVALID] = AMQP_PRECONDITION_FAILED,
        [MQG_NOT_FOUND] = AMQP_NOT_FOUND,
        [MQG_EXISTS] = AMQP_PRECONDITION_FAILED,
        [MQG_MISMATCH] = AMQP_PRECONDITION_FAILED,
        [MQG_LOCKED] = AMQP_RESOURCE_LOCKED,
        [MQG_IN_USE] = AMQP_PRECONDITION_FAILED,
        [MQG_NOT_EMPTY] = AMQP_PRECONDITION_FAILED,
        [MQG_DENIED] = AMQP_ACCESS_REFUSED,
        [MQG_UNAUTHENTICATED] = AMQP_ACCESS_REFUSED,
        [MQG_GONE] = AMQP_NOT_FOUND,
        [MQG_REJECTED] = AMQP_PRECONDITION_FAILED,
        [MQG_NO_MEMORY] = AMQP_RESOURCE_ERROR,
        [MQG_NO_SPACE] = AMQP_RESOURCE_ERROR,
    };
    if (e->code)
        return e->code;
    return e->err < MQG_ERR_COUNT && codes[e->err] ? codes[e->err] : AMQP_INTERNAL_ERROR;
}

void amqp_channel_fail(struct amqp_channel *ch, uint32_t method, const struct mqg_error *e)
{
    struct amqp_conn *ac = ch->ac;
    int code = amqp_code_of(e);
    if (amqp_reply_is_hard(code)) {
        amqp_conn_fail(ac, code, method, "%s", e->text);
        return;
    }
    char text[AMQP_SHORTSTR_MAX_BYTES + 1];
    struct mqg_slice reply = amqp_reply_text(text, code, "%s", e->text);
    mqg_count(MQG_COUNT_PROTOCOL_ERRORS, 1);
    mqg_log(MQG_LOG_INFO, MQG_EVENT_PROTOCOL_ERROR, "conn=%llu channel=%u code=%d text=%s method=%s",
            (unsigned long long)mqg_conn_info(ac->conn)->id, ch->number, code, mqg_logq(reply),
            amqp_method_name(method));
    channel_release(ch);
    ch->closing = true;
    AMQP_SEND(ac->conn, ch->number, channel_close, .reply_code = (uint16_t)code, .reply_text = reply,
              .class_id = amqp_method_class(method), .method_id = (uint16_t)method);
}

/* ---- answers in order ------------------------------------------------------------------------------------------------ */

static void replies_wait(struct amqp_channel *ch);

static void replies_release(struct amqp_channel *ch)
{
    for (struct amqp_consumer *co = ch->consumers; co; co = co->next) {
        if (co->held) {
            co->held = false;
            mqg_sub_pause(co->sub, ch->flow_off);
        }
    }
    amqp_conn_stall(ch->ac, false);
}

static void replies_fire(struct mqg_waiter *w, enum mqg_err err)
{
    struct amqp_channel *ch = MQG_CONTAINER_OF(w, struct amqp_channel, waiter);
    ch->waiting = false;
    if (err != MQG_OK) /* the store failed: nothing is answered any more, the process ends */
        return;
    uint64_t done = mqg_lane_done(mqg_storage_default());
    while (ch->replies && ch->replies->ticket <= done) {
        struct amqp_answer *r = ch->replies;
        mqg_conn_write(ch->ac->conn, mqg_slice_of(r->bytes, r->len));
        ch->replies = r->next;
        free(r);
    }
    if (ch->replies) {
        replies_wait(ch);
        return;
    }
    ch->replies_tail = &ch->replies;
    replies_release(ch);
}

static void replies_wait(struct amqp_channel *ch)
{
    ch->waiting = true;
    ch->waiter.ticket = ch->replies->ticket;
    ch->waiter.fire = replies_fire;
    mqg_lane_wait(mqg_storage_default(), &ch->waiter);
}

void amqp_reply_send(struct amqp_channel *ch, uint64_t ticket, const uint8_t *frame, size_t n)
{
    if (!ch->replies && (ticket == 0 || mqg_lane_done(mqg_storage_default()) >= ticket)) {
        mqg_conn_write(ch->ac->conn, mqg_slice_of(frame, n));
        return;
    }
    struct amqp_answer *r = mqg_xmalloc(sizeof(*r) + n);
    r->next = NULL;
    r->ticket = ticket;
    r->len = n;
    memcpy(r->bytes, frame, n);
    *ch->replies_tail = r;
    ch->replies_tail = &r->next;
    if (!ch->waiting)
        replies_wait(ch);
}

/* ---- methods ------------------------------------------------------------------------------------------------------------- */

enum mqg_err amqp_channel_queue_name(struct amqp_channel *ch, struct mqg_slice given, struct mqg_slice *out,
                                     struct mqg_error *e)
{
    *out = given.len ? given : mqg_slice_of(ch->last_queue, ch->last_queue_len);
    if (out->len == 0)
        return mqg_error_set(e, MQG_NOT_FOUND, AMQP_NOT_FOUND, "no previously declared queue");
    return MQG_OK;
}

static enum mqg_err channel_close(struct amqp_channel *ch)
{
    struct amqp_conn *ac = ch->ac;
    uint16_t number = ch->number;
    amqp_channel_free(ch);
    AMQP_SEND(ac->conn, number, channel_close_ok, 0);
    return MQG_OK;
}

/* Between our channel.close and its answer everything else is dropped (part 1, 1.5.2.5). */
static enum mqg_err channel_closing_method(struct amqp_channel *ch, uint32_t id)
{
    if (id == AMQP_CHANNEL_CLOSE_OK) {
        amqp_channel_free(ch);
    } else if (id == AMQP_CHANNEL_CLOSE) { /* both at once: answered, and our own answer comes still */
        AMQP_SEND(ch->ac->conn, ch->number, channel_close_ok, 0);
    }
    return MQG_OK;
}

static enum mqg_err channel_undecodable(uint32_t id, struct mqg_error *e)
{
    return mqg_error_set(e, MQG_MALFORMED, AMQP_FRAME_ERROR, "cannot decode %s", amqp_method_name(id));
}

static enum mqg_err channel_flow(struct amqp_channel *ch, struct mqg_slice args, struct mqg_error *e)
{
    struct amqp_channel_flow m;
    if (amqp_channel_flow_decode(args, &m) != MQG_OK)
        return channel_undecodable(AMQP_CHANNEL_FLOW, e);
    return amqp_flow(ch, m.active, e);
}

static enum mqg_err channel_confirm(struct amqp_channel *ch, struct mqg_slice args, struct mqg_error *e)
{
    struct amqp_confirm_select m;
    if (amqp_confirm_select_decode(args, &m) != MQG_OK)
        return channel_undecodable(AMQP_CONFIRM_SELECT, e);
    if (ch->tx)
        return mqg_error_set(e, MQG_INVALID, AMQP_PRECONDITION_FAILED,
                             "cannot switch from tx to confirm mode");
    ch->confirm = true;
    if (!m.nowait)
        AMQP_REPLY(ch, 0, confirm_select_ok, 0);
    return MQG_OK;
}

static enum mqg_err channel_access(struct amqp_channel *ch)
{
    AMQP_REPLY(ch, 0, access_request_ok, .ticket = 1);
    return MQG_OK;
}

static enum mqg_err channel_ack(struct amqp_channel *ch, struct mqg_slice args, struct mqg_error *e)
{
    struct amqp_basic_ack m;
    if (amqp_basic_ack_decode(args, &m) != MQG_OK)
        return channel_undecodable(AMQP_BASIC_ACK, e);
    return amqp_settle_tag(ch, m.delivery_tag, m.multiple, MQG_SETTLE_ACK, e);
}

static enum mqg_err channel_nack(struct amqp_channel *ch, struct mqg_slice args, struct mqg_error *e)
{
    struct amqp_basic_nack m;
    if (amqp_basic_nack_decode(args, &m) != MQG_OK)
        return channel_undecodable(AMQP_BASIC_NACK, e);
    return amqp_settle_tag(ch, m.delivery_tag, m.multiple, m.requeue ? MQG_SETTLE_REQUEUE : MQG_SETTLE_REJECT,
                           e);
}

static enum mqg_err channel_reject(struct amqp_channel *ch, struct mqg_slice args, struct mqg_error *e)
{
    struct amqp_basic_reject m;
    if (amqp_basic_reject_decode(args, &m) != MQG_OK)
        return channel_undecodable(AMQP_BASIC_REJECT, e);
    return amqp_settle_tag(ch, m.delivery_tag, false, m.requeue ? MQG_SETTLE_REQUEUE : MQG_SETTLE_REJECT, e);
}

static enum mqg_err channel_recover(struct amqp_channel *ch, uint32_t id, struct mqg_slice args,
                                    struct mqg_error *e)
{
    struct amqp_basic_recover m; /* recover and recover-async have the same arguments */
    if (amqp_basic_recover_decode(args, &m) != MQG_OK)
        return channel_undecodable(id, e);
    if (!m.requeue)
        return mqg_error_set(e, MQG_UNSUPPORTED, AMQP_NOT_IMPLEMENTED, "requeue=false");
    amqp_settle_all(ch, MQG_SETTLE_RETURN);
    amqp_settle_flush(ch->ac);
    amqp_consumers_kick(ch);
    if (id == AMQP_BASIC_RECOVER)
        AMQP_REPLY(ch, 0, basic_recover_ok, 0);
    return MQG_OK;
}

static enum mqg_err channel_basic(struct amqp_channel *ch, uint32_t id, struct mqg_slice args,
                                  struct mqg_error *e)
{
    switch (id) {
    case AMQP_BASIC_PUBLISH: return amqp_content_method(ch, args, e);
    case AMQP_BASIC_ACK: return channel_ack(ch, args, e);
    case AMQP_BASIC_NACK: return channel_nack(ch, args, e);
    case AMQP_BASIC_REJECT: return channel_reject(ch, args, e);
    case AMQP_BASIC_QOS: return amqp_qos(ch, args, e);
    case AMQP_BASIC_CONSUME: return amqp_consume(ch, args, e);
    case AMQP_BASIC_CANCEL: return amqp_cancel(ch, args, e);
    case AMQP_BASIC_CANCEL_OK: return MQG_OK;
    case AMQP_BASIC_GET: return amqp_get(ch, args, e);
    case AMQP_BASIC_RECOVER:
    case AMQP_BASIC_RECOVER_ASYNC: return channel_recover(ch, id, args, e);
    default: return mqg_error_set(e, MQG_UNSUPPORTED, AMQP_COMMAND_INVALID, "unimplemented method");
    }
}

enum mqg_err amqp_channel_method(struct amqp_channel *ch, uint32_t id, struct mqg_slice args,
                                 struct mqg_error *e)
{
    if (MQG_UNLIKELY(ch->closing))
        return channel_closing_method(ch, id);
    if (amqp_method_class(id) == amqp_method_class(AMQP_BASIC_PUBLISH)) {
        if (id != AMQP_BASIC_PUBLISH && id != AMQP_BASIC_ACK && id != AMQP_BASIC_NACK &&
            id != AMQP_BASIC_REJECT)
            amqp_settle_flush(ch->ac);
        return channel_basic(ch, id, args, e);
    }
    amqp_settle_flush(ch->ac);
    switch (id) {
    case AMQP_CHANNEL_CLOSE: return channel_close(ch);
    case AMQP_CHANNEL_CLOSE_OK: return MQG_OK;
    case AMQP_CHANNEL_FLOW: return channel_flow(ch, args, e);
    case AMQP_CHANNEL_FLOW_OK: return MQG_OK;
    case AMQP_CONFIRM_SELECT: return channel_confirm(ch, args, e);
    case AMQP_ACCESS_REQUEST: return channel_access(ch);
    case AMQP_TX_SELECT:
    case AMQP_TX_COMMIT:
    case AMQP_TX_ROLLBACK: return amqp_tx_method(ch, id, e);
    default: break;
    }
    if (amqp_method_class(id) == amqp_method_class(AMQP_QUEUE_DECLARE))
        return amqp_queue_method(ch, id, args, e);
    if (amqp_method_class(id) == amqp_method_class(AMQP_EXCHANGE_DECLARE))
        return amqp_exchange_method(ch, id, args, e);
    return mqg_error_set(e, MQG_UNSUPPORTED, AMQP_COMMAND_INVALID, "unimplemented method");
}
