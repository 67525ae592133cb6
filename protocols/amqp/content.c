/* content.c - basic.publish: method, content header, body frames, until the message is whole and published.
 *
 * The message's memory is taken when the header has come and said how long the body will be; body frames are copied straight
 * into it. A body over the limit is refused at its header, before any memory; what a client announces and does not send costs
 * no memory either, since the kernel backs a large block only where it is written. */
#include "amqp.h"

#include <stdlib.h>

uint32_t amqp_body_max_bytes = 16u << 20; /* limits.message_size; set before workers start */

void amqp_content_drop(struct amqp_channel *ch)
{
    if (ch->msg)
        mqg_msg_unref(&ch->msg);
    ch->content = AMQP_NO_CONTENT;
}

/* ---- method ------------------------------------------------------------------------------------------------------ */

enum mqg_err amqp_content_method(struct amqp_channel *ch, struct mqg_slice args, struct mqg_error *e)
{
    struct amqp_basic_publish m;
    if (amqp_basic_publish_decode(args, &m) != MQG_OK)
        return mqg_error_set(e, MQG_MALFORMED, AMQP_FRAME_ERROR, "cannot decode basic.publish");
    if (m.immediate)
        return mqg_error_set(e, MQG_UNSUPPORTED, AMQP_NOT_IMPLEMENTED, "immediate=true");
    ch->mandatory = m.mandatory;
    ch->exchange_len = (uint8_t)m.exchange.len;
    memcpy(ch->exchange, m.exchange.ptr, m.exchange.len);
    ch->key_len = (uint8_t)m.routing_key.len;
    memcpy(ch->key, m.routing_key.ptr, m.routing_key.len);
    ch->content = AMQP_WANT_HEADER;
    mqg_conn_publishes(ch->ac->conn);
    return mqg_publish_check(&ch->pub, m.exchange, e);
}

/* ---- header -------------------------------------------------------------------------------------------------------- */

/* Milliseconds in decimal, as RabbitMQ reads them, with its texts for what it does not understand. */
static enum mqg_err content_expiration(struct mqg_slice text, uint64_t *ms, struct mqg_error *e)
{
    size_t at = text.len > 0 && (text.ptr[0] == '-' || text.ptr[0] == '+') ? 1 : 0;
    size_t first = at;
    uint64_t value = 0;
    while (at < text.len && text.ptr[at] >= '0' && text.ptr[at] <= '9' && value < UINT64_MAX / 20)
        value = value * 10 + (uint64_t)(text.ptr[at++] - '0');
    if (at == first)
        return mqg_error_set(e, MQG_INVALID, AMQP_PRECONDITION_FAILED,
                             "invalid expiration '%.*s': no_integer", MQG_SLICE_FMT(text));
    if (at < text.len)
        return mqg_error_set(e, MQG_INVALID, AMQP_PRECONDITION_FAILED,
                             "invalid expiration '%.*s': {leftover_string,\"%.*s\"}", MQG_SLICE_FMT(text),
                             (int)(text.len - at), (const char *)text.ptr + at);
    if (text.ptr[0] == '-' && value > 0)
        return mqg_error_set(e, MQG_INVALID, AMQP_PRECONDITION_FAILED,
                             "invalid expiration '%.*s': {value_negative,-%llu}", MQG_SLICE_FMT(text),
                             (unsigned long long)value);
    if (value > UINT32_MAX) /* Erlang timers end there */
        return mqg_error_set(e, MQG_INVALID, AMQP_PRECONDITION_FAILED,
                             "invalid expiration '%.*s': {value_too_big,%llu}", MQG_SLICE_FMT(text),
                             (unsigned long long)value);
    *ms = value;
    return MQG_OK;
}

static const char *content_type_word(uint8_t type)
{
    switch (type) {
    case 'S': return "longstr";
    case 't': return "bool";
    case 'F': return "table";
    case 'V': return "void";
    case 'd': return "double";
    case 'f': return "float";
    case 'x': return "binary";
    case 'T': return "timestamp";
    case 'D': return "decimal";
    default: return "signedint";
    }
}

/* CC and BCC must be arrays of long strings. */
static enum mqg_err content_key_list(struct amqp_channel *ch, struct mqg_slice headers, const char *name,
                                     bool *there, struct mqg_error *e)
{
    struct amqp_value v;
    *there = amqp_table_find(headers, mqg_slice_str(name), &v);
    if (!*there)
        return MQG_OK;
    if (v.type != 'A')
        return mqg_error_set(e, MQG_INVALID, AMQP_PRECONDITION_FAILED,
                             "invalid message: {unacceptable_type_in_header,\"%s\",%s}", name,
                             content_type_word(v.type));
    ch->nextra += 1; /* counted again, exactly, when the message has its own copy */
    return MQG_OK;
}

static enum mqg_err content_check(struct amqp_channel *ch, const struct amqp_props *p,
                                  struct mqg_msg_parts *parts, bool *bcc, struct mqg_error *e)
{
    struct mqg_session *s = ch->ac->session;
    if (amqp_props_has(p, AMQP_PROP_DELIVERY_MODE)) {
        if (p->delivery_mode == 2)
            parts->flags |= MQG_MSG_PERSISTENT;
        else if (p->delivery_mode != 1)
            return mqg_error_set(e, MQG_INVALID, AMQP_PRECONDITION_FAILED,
                                 "invalid message: {delivery_mode_unknown,%u}", p->delivery_mode);
    }
    if (amqp_props_has(p, AMQP_PROP_USER_ID) && !mqg_slice_eq(p->user_id, mqg_slice_str(s->user)) &&
        !(s->tags & MQG_TAG_IMPERSONATOR))
        return mqg_error_set(e, MQG_INVALID, AMQP_PRECONDITION_FAILED,
                             "user_id property set to '%.*s' but authenticated user was '%s'",
                             MQG_SLICE_FMT(p->user_id), s->user);
    if (amqp_props_has(p, AMQP_PROP_EXPIRATION)) {
        enum mqg_err err = content_expiration(p->expiration, &parts->ttl_ms, e);
        if (err != MQG_OK)
            return err;
        parts->flags |= MQG_MSG_HAS_TTL;
    }
    ch->nextra = 0;
    if (!amqp_props_has(p, AMQP_PROP_HEADERS))
        return MQG_OK;
    bool cc;
    enum mqg_err err = content_key_list(ch, p->headers, "CC", &cc, e);
    return err != MQG_OK ? err : content_key_list(ch, p->headers, "BCC", bcc, e);
}

/* What leaves the message before anybody sees it: the BCC list; the reply-to name that only this channel understands. */
static enum mqg_err content_overlay(struct amqp_channel *ch, const struct amqp_props *p, bool bcc,
                                    struct mqg_dynbuf *out, struct mqg_error *e)
{
    bool reply_to = amqp_props_has(p, AMQP_PROP_REPLY_TO) &&
                    mqg_slice_eq(p->reply_to, MQG_SLICE_LIT(AMQP_REPLY_TO));
    if (!bcc && !reply_to)
        return MQG_OK;
    struct mqg_overlay o = {0};
    struct mqg_arena a;
    mqg_arena_init(&a, 0);
    if (reply_to && !ch->reply_queue) {
        mqg_arena_fini(&a);
        return mqg_error_set(e, MQG_INVALID, AMQP_PRECONDITION_FAILED, "fast reply consumer does not exist");
    }
    if (reply_to) {
        o.has_reply_to = true;
        o.reply_to = mqg_queue_name(ch->reply_queue);
    }
    if (bcc)
        mqg_table_add(&a, &o.remove, MQG_SLICE_LIT("BCC"));
    mqg_overlay_encode(out, &o);
    mqg_arena_fini(&a);
    return MQG_OK;
}

static enum mqg_err content_new_msg(struct amqp_channel *ch, const struct amqp_content *c,
                                    const struct amqp_props *p, struct mqg_error *e)
{
    /* Field by field: a zeroed initialiser of this size costs more than all the rest of it. */
    struct mqg_msg_parts parts;
    parts.proto = MQG_PROTO_AMQP091;
    parts.flags = 0;
    parts.priority = p->priority;
    parts.key_sep = '.';
    parts.ttl_ms = 0;
    parts.exchange = mqg_slice_of(ch->exchange, ch->exchange_len);
    parts.key = mqg_slice_of(ch->key, ch->key_len);
    parts.pkey = parts.client = parts.overlay = MQG_SLICE_NONE;
    parts.user = mqg_slice_str(ch->ac->session->user);
    parts.origin = c->raw;
    parts.body_len = (uint32_t)c->body_bytes;
    bool bcc = false;
    enum mqg_err err = content_check(ch, p, &parts, &bcc, e);
    if (err != MQG_OK)
        return err;
    struct mqg_dynbuf overlay;
    mqg_dynbuf_init(&overlay, 4096);
    err = content_overlay(ch, p, bcc, &overlay, e);
    if (err == MQG_OK) {
        parts.overlay = mqg_dynbuf_view(&overlay);
        ch->msg = mqg_msg_new(&parts);
        if (!ch->msg)
            err = mqg_error_set(e, MQG_NO_MEMORY, AMQP_RESOURCE_ERROR,
                                "the node's message memory is used up");
    }
    mqg_dynbuf_fini(&overlay);
    return err;
}

static enum mqg_err content_done(struct amqp_channel *ch, struct mqg_error *e);

enum mqg_err amqp_content_header(struct amqp_channel *ch, struct mqg_slice payload, struct mqg_error *e)
{
    struct amqp_content c;
    struct amqp_props p;
    if (ch->content == AMQP_NO_CONTENT)
        return mqg_error_set(e, MQG_INVALID, AMQP_UNEXPECTED_FRAME,
                             "expected method frame, got non method frame instead");
    if (ch->content != AMQP_WANT_HEADER)
        return mqg_error_set(e, MQG_INVALID, AMQP_UNEXPECTED_FRAME,
                             "expected content body, got non content body frame instead");
    if (amqp_content_peek(payload, &c) != MQG_OK)
        return mqg_error_set(e, MQG_MALFORMED, AMQP_FRAME_ERROR, "cannot decode content header");
    if (c.class_id != amqp_method_class(AMQP_BASIC_PUBLISH))
        return mqg_error_set(e, MQG_INVALID, AMQP_UNEXPECTED_FRAME,
                             "expected content header for class 60, got one for class %u instead",
                             c.class_id);
    enum mqg_err err = amqp_props_scan(c.raw, &p);
    if (err != MQG_OK)
        return mqg_error_set(e, err, AMQP_SYNTAX_ERROR, "cannot decode message properties (%s)",
                             mqg_err_name(err));
    if (c.body_bytes > amqp_body_max_bytes)
        return mqg_error_set(e, MQG_TOO_LARGE, AMQP_PRECONDITION_FAILED,
                             "message size %llu is larger than configured max size %u",
                             (unsigned long long)c.body_bytes, amqp_body_max_bytes);
    err = content_new_msg(ch, &c, &p, e);
    if (err != MQG_OK)
        return err;
    ch->content = AMQP_WANT_BODY;
    ch->body_at = mqg_msg_body_mut(ch->msg);
    ch->body_left = c.body_bytes;
    return ch->body_left == 0 ? content_done(ch, e) : MQG_OK;
}

/* ---- body ------------------------------------------------------------------------------------------------------------- */

enum mqg_err amqp_content_body(struct amqp_channel *ch, struct mqg_slice payload, struct mqg_error *e)
{
    if (ch->content == AMQP_NO_CONTENT)
        return mqg_error_set(e, MQG_INVALID, AMQP_UNEXPECTED_FRAME,
                             "expected method frame, got non method frame instead");
    if (ch->content == AMQP_WANT_HEADER)
        return mqg_error_set(e, MQG_INVALID, AMQP_UNEXPECTED_FRAME,
                             "expected content header for class 60, got non content header frame instead");
    if (payload.len > ch->body_left)
        return mqg_error_set(e, MQG_MALFORMED, AMQP_UNEXPECTED_FRAME,
                             "content body is longer than its header said");
    memcpy(ch->body_at, payload.ptr, payload.len);
    ch->body_at += payload.len;
    ch->body_left -= payload.len;
    return ch->body_left == 0 ? content_done(ch, e) : MQG_OK;
}

/* ---- publish ------------------------------------------------------------------------------------------------------------ */

static void content_return(struct amqp_channel *ch, struct mqg_msg *m)
{
    struct amqp_basic_return r = {.reply_code = AMQP_NO_ROUTE,
                                  .reply_text = MQG_SLICE_LIT("NO_ROUTE"),
                                  .exchange = mqg_msg_exchange(m),
                                  .routing_key = mqg_msg_key(m)};
    uint8_t frame[600];
    size_t n = amqp_basic_return_frame_size(&r);
    MQG_ASSERT(n <= sizeof(frame));
    amqp_basic_return_frame(frame, ch->number, &r);
    amqp_send_content(ch->ac, ch->number, frame, n, m, 0);
}

enum mqg_err amqp_content_publish(struct amqp_channel *ch, struct mqg_msg *m, bool mandatory,
                                  const struct mqg_slice *keys, uint32_t nkeys, struct mqg_error *e)
{
    uint64_t seq = ch->confirm ? ++ch->publish_seq : 0;
    e->code = 0;
    enum mqg_err err = mqg_publish(&ch->pub, m, mandatory ? MQG_PUBLISH_MANDATORY : 0, seq, keys, nkeys, e);
    if (MQG_UNLIKELY(err == MQG_NOT_FOUND && e->code == AMQP_NO_ROUTE)) {
        content_return(ch, m);
        mqg_msg_unref(&m);
        return MQG_OK;
    }
    return err;
}

static enum mqg_err content_done(struct amqp_channel *ch, struct mqg_error *e)
{
    struct mqg_msg *m = ch->msg;
    ch->msg = NULL;
    ch->content = AMQP_NO_CONTENT;
    if (ch->tx) {
        amqp_tx_publish(ch, m, ch->mandatory);
        return MQG_OK;
    }
    if (MQG_UNLIKELY(ch->nextra > 0)) {
        struct amqp_props p;
        ch->nextra = amqp_props_scan(mqg_msg_origin(m), &p) == MQG_OK
                         ? amqp_extra_keys(p.headers, ch->extra_keys, MQG_COUNTOF(ch->extra_keys))
                         : 0;
    }
    return amqp_content_publish(ch, m, ch->mandatory, ch->extra_keys, ch->nextra, e);
}

/* ---- confirms (RabbitMQ's extension "publisher confirms") ---------------------------------------------------------------- */

static void content_confirm(struct mqg_pub *p, uint64_t upto, const uint64_t *rejected, size_t n)
{
    struct amqp_channel *ch = p->owner;
    struct mqg_conn *c = ch->ac->conn;
    for (size_t i = 0; i < n; i++) {
        if (rejected[i] - 1 > ch->confirmed)
            AMQP_SEND(c, ch->number, basic_ack, .delivery_tag = rejected[i] - 1,
                      .multiple = rejected[i] - 1 > ch->confirmed + 1);
        AMQP_SEND(c, ch->number, basic_nack, .delivery_tag = rejected[i], .multiple = false,
                  .requeue = false);
        ch->confirmed = rejected[i];
    }
    if (upto > ch->confirmed) {
        AMQP_SEND(c, ch->number, basic_ack, .delivery_tag = upto, .multiple = upto > ch->confirmed + 1);
        mqg_count(MQG_COUNT_CONFIRMED, upto - ch->confirmed);
        ch->confirmed = upto;
    }
}

const struct mqg_pub_ops amqp_pub_ops = {.confirm = content_confirm};
