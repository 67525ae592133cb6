/* consume.c - basic.consume, deliver, cancel, get, qos, flow.
 *
 * A delivery is method frame, content header and body frames. Small ones are written into the output in one go; of large ones
 * the body is sent from the message's own memory. The window between queue and socket is bounded: when the output is full,
 * deliver takes no more and the queue keeps the rest.
 *
 * Direct reply-to is a hidden auto-delete queue named by an unguessable token: requests carry its name instead of the pseudo
 * name, so the answer is an ordinary publish to the default exchange, from any connection, worker or protocol. */
#include "amqp.h"

#include <mqgate/stream.h>

#include <stdio.h>
#include <stdlib.h>

#define DELIVER_SMALL_BYTES 8192u

/* ---- sending content ------------------------------------------------------------------------------------------------ */

static void send_body(struct amqp_conn *ac, uint16_t channel, struct mqg_msg *m, struct mqg_slice body)
{
    size_t piece_max = ac->frame_max - AMQP_FRAME_OVERHEAD_BYTES;
    while (body.len > 0) {
        size_t n = body.len < piece_max ? body.len : piece_max;
        uint8_t *p = mqg_conn_reserve(ac->conn, AMQP_FRAME_HEAD_BYTES);
        amqp_put_frame_head(p, AMQP_FRAME_BODY, channel, n);
        mqg_conn_commit(ac->conn, AMQP_FRAME_HEAD_BYTES);
        mqg_conn_write_msg(ac->conn, m, mqg_slice_of(body.ptr, n));
        mqg_conn_write(ac->conn, mqg_slice_of("\xce", 1));
        body = mqg_slice_of(body.ptr + n, body.len - n);
    }
}

/* Everything in one reserved piece: the common case. */
static void send_small(struct amqp_conn *ac, uint16_t channel, const uint8_t *method, size_t method_len,
                       struct mqg_slice raw, struct mqg_slice body)
{
    size_t total = method_len + amqp_content_frame_size(raw) +
                   (body.len ? AMQP_FRAME_OVERHEAD_BYTES + body.len : 0);
    uint8_t *p = mqg_conn_reserve(ac->conn, total);
    memcpy(p, method, method_len);
    p = amqp_content_frame(p + method_len, channel, body.len, raw);
    if (body.len) {
        p = amqp_put_bytes(amqp_put_frame_head(p, AMQP_FRAME_BODY, channel, body.len), body);
        amqp_put_frame_end(p);
    }
    mqg_conn_commit(ac->conn, total);
}

void amqp_send_content(struct amqp_conn *ac, uint16_t channel, const uint8_t *method, size_t method_len,
                       struct mqg_msg *m, uint32_t delivery_count)
{
    struct mqg_dynbuf rendered;
    mqg_dynbuf_init(&rendered, ac->frame_max);
    struct mqg_slice raw = amqp_render_props(m, delivery_count, &rendered);
    struct mqg_slice body = mqg_msg_body(m);
    if (raw.len + AMQP_CONTENT_HEAD_BYTES + AMQP_FRAME_OVERHEAD_BYTES >
        ac->frame_max) { /* its own header, on a smaller frame_max */
        mqg_count(MQG_COUNT_CONVERSION_DROPPED, 1);
        raw = mqg_slice_of(AMQP_PROPS_EMPTY, 2);
    }
    if (method_len + raw.len + body.len + 64 <= DELIVER_SMALL_BYTES &&
        body.len + AMQP_FRAME_OVERHEAD_BYTES <= ac->frame_max) {
        send_small(ac, channel, method, method_len, raw, body);
    } else {
        mqg_conn_write(ac->conn, mqg_slice_of(method, method_len));
        size_t n = amqp_content_frame_size(raw);
        if (n <= 60000) {
            amqp_content_frame(mqg_conn_reserve(ac->conn, n), channel, body.len, raw);
            mqg_conn_commit(ac->conn, n);
        } else {
            uint8_t *big = mqg_xmalloc(n);
            amqp_content_frame(big, channel, body.len, raw);
            mqg_conn_write(ac->conn, mqg_slice_of(big, n));
            free(big);
        }
        send_body(ac, channel, m, body);
    }
    mqg_dynbuf_fini(&rendered);
}

/* ---- deliver ----------------------------------------------------------------------------------------------------------- */

/* A key or exchange of another protocol may be longer than a short string. */
static struct mqg_slice short_cut(struct mqg_slice s)
{
    if (MQG_LIKELY(s.len <= AMQP_SHORTSTR_MAX_BYTES))
        return s;
    mqg_count(MQG_COUNT_CONVERSION_DROPPED, 1);
    return mqg_slice_of(s.ptr, AMQP_SHORTSTR_MAX_BYTES);
}

/* Levels joined by dots, whatever protocol it came by (docs/mapping): an MQTT topic a/b.c is a.b/c here. */
static struct mqg_slice key_dotted(const struct mqg_msg *m, uint8_t room[AMQP_SHORTSTR_MAX_BYTES])
{
    struct mqg_slice key = short_cut(mqg_msg_key(m));
    if (MQG_LIKELY(m->st.key_sep == '.'))
        return key;
    mqg_key_swap(room, key, (char)m->st.key_sep, '.');
    return mqg_slice_of(room, key.len);
}

static void deliver_one(struct amqp_consumer *co, const struct mqg_delivery *d)
{
    struct amqp_channel *ch = co->channel;
    uint8_t key[AMQP_SHORTSTR_MAX_BYTES];
    struct amqp_basic_deliver m = {
        .consumer_tag = mqg_slice_of(co->tag, co->tag_len),
        .redelivered = d->redelivered,
        .exchange = short_cut(mqg_msg_exchange(d->msg)),
        .routing_key = key_dotted(d->msg, key),
    };
    m.delivery_tag = co->no_ack ? amqp_unacked_skip(ch) : amqp_unacked_add(ch, co->queue, co, d->handle);
    uint8_t frame[AMQP_FRAME_OVERHEAD_BYTES + 800];
    size_t n = amqp_basic_deliver_frame_size(&m);
    amqp_basic_deliver_frame(frame, ch->number, &m);
    amqp_send_content(ch->ac, ch->number, frame, n, d->msg, d->delivery_count);
}

static size_t consumer_deliver(struct mqg_sub *sub, void *owner, const struct mqg_delivery *d, size_t n)
{
    (void)sub;
    struct amqp_consumer *co = owner;
    struct mqg_conn *c = co->channel->ac->conn;
    size_t took = 0;
    uint64_t again = 0;
    while (took < n && !mqg_conn_out_full(c)) {
        struct mqg_msg *m = d[took].msg;
        deliver_one(co, &d[took]);
        again += d[took].redelivered;
        mqg_msg_unref(&m);
        took++;
    }
    if (again)
        mqg_count(MQG_COUNT_REDELIVERED, again);
    return took;
}

static void consumer_cancelled(struct mqg_sub *sub, void *owner)
{
    (void)sub;
    struct amqp_consumer *co = owner;
    struct amqp_channel *ch = co->channel;
    if (ch->ac->cancel_notify && ch->ac->phase == AMQP_RUNNING && !ch->closing)
        AMQP_SEND(ch->ac->conn, ch->number, basic_cancel, .consumer_tag = mqg_slice_of(co->tag, co->tag_len),
                  .nowait = true);
    amqp_consumer_free(co);
}

static const struct mqg_sub_ops consumer_ops = {.deliver = consumer_deliver, .cancelled = consumer_cancelled};

/* ---- consumers ----------------------------------------------------------------------------------------------------------- */

static struct amqp_consumer *consumer_find(const struct amqp_channel *ch, struct mqg_slice tag)
{
    for (struct amqp_consumer *co = ch->consumers; co; co = co->next)
        if (mqg_slice_eq(mqg_slice_of(co->tag, co->tag_len), tag))
            return co;
    return NULL;
}

void amqp_consumer_free(struct amqp_consumer *co)
{
    struct amqp_channel *ch = co->channel;
    amqp_settle_flush(ch->ac);
    amqp_unacked_forget(ch, co);
    struct amqp_consumer **at = &ch->consumers;
    while (*at != co)
        at = &(*at)->next;
    *at = co->next;
    if (co->reply_to)
        mqg_queue_unref(&ch->reply_queue);
    mqg_unsubscribe(&co->sub);
    mqg_queue_unref(&co->queue);
    free(co);
}

void amqp_consumers_kick(struct amqp_channel *ch)
{
    for (struct amqp_consumer *co = ch->consumers; co; co = co->next)
        mqg_sub_kick(co->sub);
}

static void consumer_name(struct amqp_consumer *co, struct mqg_slice given)
{
    if (given.len) {
        co->tag_len = (uint8_t)given.len;
        memcpy(co->tag, given.ptr, given.len);
        return;
    }
    int n = snprintf((char *)co->tag, sizeof(co->tag), "amq.ctag-%016llx%08x",
                     (unsigned long long)mqg_random_u64(), (unsigned)mqg_random_u64());
    co->tag_len = (uint8_t)n;
}

static const char *value_word(enum mqg_value_type type)
{
    switch (type) {
    case MQG_VALUE_STRING: return "longstr";
    case MQG_VALUE_BOOL: return "bool";
    case MQG_VALUE_TABLE: return "table";
    case MQG_VALUE_ARRAY: return "array";
    case MQG_VALUE_NULL: return "void";
    case MQG_VALUE_DOUBLE: return "double";
    case MQG_VALUE_FLOAT: return "float";
    default: return "binary";
    }
}

static enum mqg_err consume_priority(struct amqp_channel *ch, struct mqg_slice queue, struct mqg_sub_def *d,
                                     struct mqg_error *e)
{
    const struct mqg_value *v = mqg_table_get(&d->args, MQG_SLICE_LIT("x-priority"));
    int64_t priority;
    if (!v)
        return MQG_OK;
    if (!mqg_value_int(v, &priority))
        return mqg_error_set(
            e, MQG_INVALID, AMQP_PRECONDITION_FAILED,
            "invalid arg 'x-priority' for queue '%.*s' in vhost '%.*s': \"expected integer, got %s\"",
            MQG_SLICE_FMT(queue), MQG_SLICE_FMT(mqg_vhost_name(ch->ac->session->vhost)), value_word(v->type));
    d->priority = priority > INT32_MAX ? INT32_MAX : priority < INT32_MIN ? INT32_MIN : (int32_t)priority;
    return MQG_OK;
}

/* Which arguments mean something depends on the queue's type; RabbitMQ refuses the others. */
static enum mqg_err consume_args(struct amqp_channel *ch, struct mqg_queue *q, const struct mqg_table *args,
                                 struct mqg_error *e)
{
    bool stream = mqg_queue_stream(q) != NULL;
    const char *name = stream ? "x-priority" : "x-stream-offset";
    if (mqg_table_get(args, mqg_slice_str(name)) == NULL)
        return MQG_OK;
    return mqg_error_set(e, MQG_INVALID, AMQP_PRECONDITION_FAILED,
                         "invalid arg '%s' for queue '%.*s' in vhost '%.*s' of queue type %s", name,
                         MQG_SLICE_FMT(mqg_queue_name(q)),
                         MQG_SLICE_FMT(mqg_vhost_name(ch->ac->session->vhost)),
                         stream ? "rabbit_stream_queue" : "rabbit_classic_queue");
}

/* The hidden queue behind the pseudo name; one per channel. */
static enum mqg_err consume_reply_to(struct amqp_channel *ch, const struct amqp_basic_consume *m,
                                     struct mqg_queue **q, struct mqg_error *e)
{
    if (ch->reply_queue)
        return mqg_error_set(e, MQG_INVALID, AMQP_PRECONDITION_FAILED, "reply consumer already set");
    if (!m->no_ack)
        return mqg_error_set(e, MQG_INVALID, AMQP_PRECONDITION_FAILED, "reply consumer cannot acknowledge");
    char name[96];
    int n = snprintf(name, sizeof(name), AMQP_REPLY_TO ".%016llx%016llx",
                     (unsigned long long)mqg_random_u64(), (unsigned long long)mqg_random_u64());
    struct mqg_slice s = mqg_slice_of(name, (size_t)n);
    struct mqg_queue_def d = {.name = s, .auto_delete = true, .reserved = true};
    struct mqg_session *own = mqg_session_internal(ch->ac->session->vhost);
    struct mqg_queue_ok ok;
    uint64_t ticket;
    enum mqg_err err = mqg_queue_declare(own, &d, false, &ok, &ticket, e);
    if (err == MQG_OK)
        err = mqg_queue_open(own, s, q, e);
    mqg_session_unref(&own);
    return err;
}

static enum mqg_err consume_open(struct amqp_channel *ch, const struct amqp_basic_consume *m,
                                 struct mqg_queue **q, struct mqg_error *e)
{
    if (mqg_slice_eq(m->queue, MQG_SLICE_LIT(AMQP_REPLY_TO)))
        return consume_reply_to(ch, m, q, e);
    struct mqg_slice name;
    enum mqg_err err = amqp_channel_queue_name(ch, m->queue, &name, e);
    if (err == MQG_OK)
        err = mqg_session_need(ch->ac->session, MQG_READ, "queue", name, e);
    return err != MQG_OK ? err : mqg_queue_open(ch->ac->session, name, q, e);
}

static enum mqg_err consume_start(struct amqp_channel *ch, const struct amqp_basic_consume *m,
                                  struct mqg_queue *q, struct mqg_sub_def *d, struct mqg_error *e)
{
    enum mqg_err err = consume_args(ch, q, &d->args, e);
    if (err == MQG_OK)
        err = consume_priority(ch, mqg_queue_name(q), d, e);
    if (err != MQG_OK)
        return err;
    struct amqp_consumer *co = mqg_xcalloc(1, sizeof(*co));
    co->channel = ch;
    co->no_ack = m->no_ack;
    consumer_name(co, m->consumer_tag);
    d->tag = mqg_slice_of(co->tag, co->tag_len);
    err = mqg_subscribe(q, d, &consumer_ops, co, &co->sub, e);
    if (err != MQG_OK) {
        free(co);
        return err;
    }
    co->queue = mqg_queue_ref(q);
    co->next = ch->consumers;
    ch->consumers = co;
    co->reply_to = mqg_slice_eq(m->queue, MQG_SLICE_LIT(AMQP_REPLY_TO));
    if (co->reply_to)
        ch->reply_queue = mqg_queue_ref(q);
    co->held = ch->replies != NULL;
    if (co->held || ch->flow_off)
        mqg_sub_pause(co->sub, true);
    if (!m->nowait)
        AMQP_REPLY(ch, 0, basic_consume_ok, .consumer_tag = d->tag);
    return MQG_OK;
}

enum mqg_err amqp_consume(struct amqp_channel *ch, struct mqg_slice args, struct mqg_error *e)
{
    struct amqp_basic_consume m;
    if (amqp_basic_consume_decode(args, &m) != MQG_OK)
        return mqg_error_set(e, MQG_MALFORMED, AMQP_FRAME_ERROR, "cannot decode basic.consume");
    if (m.consumer_tag.len && consumer_find(ch, m.consumer_tag))
        return mqg_error_set(e, MQG_EXISTS, AMQP_NOT_ALLOWED, "attempt to reuse consumer tag '%.*s'",
                             MQG_SLICE_FMT(m.consumer_tag));
    struct mqg_sub_def d = {.no_ack = m.no_ack,
                            .exclusive = m.exclusive,
                            .no_local = m.no_local,
                            .prefetch = m.no_ack ? 0 : ch->prefetch,
                            .credit = m.no_ack ? NULL : &ch->credit,
                            .conn_id = mqg_conn_info(ch->ac->conn)->id,
                            .channel = ch->number,
                            .proto = MQG_PROTO_AMQP091};
    struct mqg_arena a;
    mqg_arena_init(&a, 1u << 20);
    struct mqg_queue *q = NULL;
    mqg_publish_flush();
    enum mqg_err err = amqp_table_decode(m.arguments, &a, &d.args);
    if (err != MQG_OK)
        (void)mqg_error_set(e, err, AMQP_SYNTAX_ERROR, "arguments table cannot be decoded (%s)",
                            mqg_err_name(err));
    if (err == MQG_OK)
        err = consume_open(ch, &m, &q, e);
    if (err == MQG_OK)
        err = consume_start(ch, &m, q, &d, e);
    mqg_queue_unref(&q);
    mqg_arena_fini(&a);
    return err;
}

enum mqg_err amqp_cancel(struct amqp_channel *ch, struct mqg_slice args, struct mqg_error *e)
{
    struct amqp_basic_cancel m;
    if (amqp_basic_cancel_decode(args, &m) != MQG_OK)
        return mqg_error_set(e, MQG_MALFORMED, AMQP_FRAME_ERROR, "cannot decode basic.cancel");
    struct amqp_consumer *co = consumer_find(ch, m.consumer_tag);
    if (co)
        amqp_consumer_free(co);
    if (!m.nowait)
        AMQP_REPLY(ch, 0, basic_cancel_ok, .consumer_tag = m.consumer_tag);
    return MQG_OK;
}

/* ---- qos and flow ------------------------------------------------------------------------------------------------------------ */

/* Deliveries of the channel's consumers that are not settled, those on their way too. */
static int64_t qos_held(struct amqp_channel *ch)
{
    int64_t held = 0;
    amqp_settle_flush(ch->ac);
    for (uint64_t t = ch->tag_first; t < ch->tag_next; t++) {
        const struct amqp_unacked *u = &ch->unacked[t & (ch->unacked_cap - 1)];
        held += u->counts && u->consumer == NULL;
    }
    for (struct amqp_consumer *co = ch->consumers; co; co = co->next)
        held += co->sub && !co->no_ack ? mqg_sub_unacked(co->sub) : 0;
    return held;
}

/* Other workers may be giving deliveries to this channel's consumers, and without a limit they do not count them. So the limit is
 * first set with nothing left; whoever gave one without counting did it before we counted under his queue's lock. */
static void qos_global(struct amqp_channel *ch, uint16_t limit)
{
    int64_t before = atomic_load(&ch->credit.limit), closed = INT64_MIN / 2;
    if (before != 0) {
        atomic_fetch_add(&ch->credit.left, limit - before);
        atomic_store(&ch->credit.limit, limit);
    } else if (limit != 0) {
        atomic_store(&ch->credit.left, closed);
        atomic_store(&ch->credit.limit, limit);
        atomic_fetch_add(&ch->credit.left, limit - qos_held(ch) - closed);
    }
    amqp_consumers_kick(ch);
}

/* RabbitMQ's meaning: global=false is the prefetch of consumers to come, global=true one shared by the channel's consumers. */
enum mqg_err amqp_qos(struct amqp_channel *ch, struct mqg_slice args, struct mqg_error *e)
{
    struct amqp_basic_qos m;
    if (amqp_basic_qos_decode(args, &m) != MQG_OK)
        return mqg_error_set(e, MQG_MALFORMED, AMQP_FRAME_ERROR, "cannot decode basic.qos");
    if (m.prefetch_size != 0)
        return mqg_error_set(e, MQG_UNSUPPORTED, AMQP_NOT_IMPLEMENTED, "prefetch_size!=0 (%u)",
                             m.prefetch_size);
    if (m.global) {
        qos_global(ch, m.prefetch_count);
    } else {
        ch->prefetch = m.prefetch_count;
    }
    AMQP_REPLY(ch, 0, basic_qos_ok, 0);
    return MQG_OK;
}

enum mqg_err amqp_flow(struct amqp_channel *ch, bool active, struct mqg_error *e)
{
    (void)e;
    ch->flow_off = !active;
    for (struct amqp_consumer *co = ch->consumers; co; co = co->next)
        mqg_sub_pause(co->sub, !active || co->held);
    AMQP_REPLY(ch, 0, channel_flow_ok, .active = active);
    return MQG_OK;
}

/* ---- get ------------------------------------------------------------------------------------------------------------------------ */

struct amqp_get {
    struct mqg_get get;
    struct amqp_channel *channel; /* NULL: it went before the answer came */
    struct mqg_queue *queue;
};

static void get_send(struct amqp_channel *ch, struct amqp_get *g)
{
    struct mqg_delivery *d = &g->get.d;
    if (!d->msg) {
        AMQP_REPLY(ch, 0, basic_get_empty, .cluster_id = MQG_SLICE_NONE);
        return;
    }
    uint8_t key[AMQP_SHORTSTR_MAX_BYTES];
    struct amqp_basic_get_ok m = {
        .redelivered = d->redelivered,
        .exchange = short_cut(mqg_msg_exchange(d->msg)),
        .routing_key = key_dotted(d->msg, key),
        .message_count = g->get.messages_left > UINT32_MAX ? UINT32_MAX : (uint32_t)g->get.messages_left,
    };
    m.delivery_tag = g->get.no_ack ? amqp_unacked_skip(ch) : amqp_unacked_add(ch, g->queue, NULL, d->handle);
    uint8_t frame[AMQP_FRAME_OVERHEAD_BYTES + 800];
    size_t n = amqp_basic_get_ok_frame_size(&m);
    amqp_basic_get_ok_frame(frame, ch->number, &m);
    amqp_send_content(ch->ac, ch->number, frame, n, d->msg, d->delivery_count);
}

static void get_done(struct mqg_get *get)
{
    struct amqp_get *g = MQG_CONTAINER_OF(get, struct amqp_get, get);
    struct amqp_channel *ch = g->channel;
    if (ch) {
        ch->get = NULL;
        get_send(ch, g);
        amqp_conn_stall(ch->ac, false);
    } else if (g->get.d.handle) {
        mqg_settle(g->queue, NULL, &g->get.d.handle, 1, MQG_SETTLE_UNSENT);
    }
    if (g->get.d.msg)
        mqg_msg_unref(&g->get.d.msg);
    mqg_queue_unref(&g->queue);
    free(g);
}

void amqp_get_orphan(struct amqp_channel *ch)
{
    if (ch->get)
        ch->get->channel = NULL;
    ch->get = NULL;
}

enum mqg_err amqp_get(struct amqp_channel *ch, struct mqg_slice args, struct mqg_error *e)
{
    struct amqp_basic_get m;
    if (amqp_basic_get_decode(args, &m) != MQG_OK)
        return mqg_error_set(e, MQG_MALFORMED, AMQP_FRAME_ERROR, "cannot decode basic.get");
    struct mqg_slice name;
    struct mqg_queue *q = NULL;
    enum mqg_err err = amqp_channel_queue_name(ch, m.queue, &name, e);
    if (err == MQG_OK)
        err = mqg_session_need(ch->ac->session, MQG_READ, "queue", name, e);
    if (err == MQG_OK)
        err = mqg_queue_open(ch->ac->session, name, &q, e);
    if (err != MQG_OK)
        return err;
    if (mqg_queue_stream(q) != NULL) {
        mqg_queue_unref(&q);
        return mqg_error_set(e, MQG_UNSUPPORTED, AMQP_NOT_IMPLEMENTED,
                             "basic.get not supported by stream queues queue '%.*s' in vhost '%.*s'",
                             MQG_SLICE_FMT(name), MQG_SLICE_FMT(mqg_vhost_name(ch->ac->session->vhost)));
    }
    mqg_publish_flush();
    struct amqp_get *g = mqg_xcalloc(1, sizeof(*g));
    g->channel = ch;
    g->queue = q;
    g->get.no_ack = m.no_ack;
    g->get.done = get_done;
    ch->get = g;
    mqg_queue_get(q, &g->get);
    if (ch->get) /* its body has to be read */
        amqp_conn_stall(ch->ac, true);
    return MQG_OK;
}
