/* define.c - exchange.* and queue.*: arguments to definitions, answers when they are durable.
 *
 * What was published on this worker before is flushed first, so that a declare on the same connection counts it. */
#include "amqp.h"

#define DEFINE_ARENA_BYTES (1u << 20)

/* One definition's decoded arguments; freed at the end of the method. */
static enum mqg_err define_args(struct mqg_slice raw, struct mqg_arena *a, struct mqg_table *out,
                                struct mqg_error *e)
{
    mqg_arena_init(a, DEFINE_ARENA_BYTES);
    enum mqg_err err = amqp_table_decode(raw, a, out);
    if (err != MQG_OK)
        return mqg_error_set(e, err, AMQP_SYNTAX_ERROR, "arguments table cannot be decoded (%s)",
                             mqg_err_name(err));
    return MQG_OK;
}

static enum mqg_err define_undecodable(uint32_t id, struct mqg_error *e)
{
    return mqg_error_set(e, MQG_MALFORMED, AMQP_FRAME_ERROR, "cannot decode %s", amqp_method_name(id));
}

/* ---- exchange.* (part 1, 1.6) ------------------------------------------------------------------------------------- */

static enum mqg_err exchange_declare(struct amqp_channel *ch, struct mqg_slice args, struct mqg_error *e)
{
    struct amqp_exchange_declare m;
    if (amqp_exchange_declare_decode(args, &m) != MQG_OK)
        return define_undecodable(AMQP_EXCHANGE_DECLARE, e);
    struct mqg_arena a;
    struct mqg_exchange_def d = {.name = m.exchange,
                                 .type = m.type,
                                 .durable = m.durable,
                                 .auto_delete = m.auto_delete,
                                 .internal = m.internal};
    uint64_t ticket = 0;
    enum mqg_err err = define_args(m.arguments, &a, &d.args, e);
    if (err == MQG_OK)
        err = mqg_exchange_declare(ch->ac->session, &d, m.passive, &ticket, e);
    mqg_arena_fini(&a);
    if (err == MQG_OK && !m.nowait)
        AMQP_REPLY(ch, ticket, exchange_declare_ok, 0);
    return err;
}

static enum mqg_err exchange_delete(struct amqp_channel *ch, struct mqg_slice args, struct mqg_error *e)
{
    struct amqp_exchange_delete m;
    if (amqp_exchange_delete_decode(args, &m) != MQG_OK)
        return define_undecodable(AMQP_EXCHANGE_DELETE, e);
    uint64_t ticket = 0;
    enum mqg_err err = mqg_exchange_delete(ch->ac->session, m.exchange, m.if_unused, &ticket, e);
    if (err == MQG_OK && !m.nowait)
        AMQP_REPLY(ch, ticket, exchange_delete_ok, 0);
    return err;
}

/* Bind and unbind, of queues and exchanges: all four come down to this. */
static enum mqg_err define_binding(struct amqp_channel *ch, struct mqg_binding_def *d, struct mqg_slice raw,
                                   bool put, uint64_t *ticket, struct mqg_error *e)
{
    struct mqg_arena a;
    *ticket = 0;
    enum mqg_err err = define_args(raw, &a, &d->args, e);
    if (err == MQG_OK)
        err = put ? mqg_binding_put(ch->ac->session, d, ticket, e)
                  : mqg_binding_delete(ch->ac->session, d, ticket, e);
    mqg_arena_fini(&a);
    return err;
}

static enum mqg_err exchange_bind(struct amqp_channel *ch, struct mqg_slice args, struct mqg_error *e)
{
    struct amqp_exchange_bind m;
    if (amqp_exchange_bind_decode(args, &m) != MQG_OK)
        return define_undecodable(AMQP_EXCHANGE_BIND, e);
    struct mqg_binding_def d = {
        .source = m.source, .destination = m.destination, .to_exchange = true, .key = m.routing_key};
    uint64_t ticket;
    enum mqg_err err = define_binding(ch, &d, m.arguments, true, &ticket, e);
    if (err == MQG_OK && !m.nowait)
        AMQP_REPLY(ch, ticket, exchange_bind_ok, 0);
    return err;
}

static enum mqg_err exchange_unbind(struct amqp_channel *ch, struct mqg_slice args, struct mqg_error *e)
{
    struct amqp_exchange_unbind m;
    if (amqp_exchange_unbind_decode(args, &m) != MQG_OK)
        return define_undecodable(AMQP_EXCHANGE_UNBIND, e);
    struct mqg_binding_def d = {
        .source = m.source, .destination = m.destination, .to_exchange = true, .key = m.routing_key};
    uint64_t ticket;
    enum mqg_err err = define_binding(ch, &d, m.arguments, false, &ticket, e);
    if (err == MQG_OK && !m.nowait)
        AMQP_REPLY(ch, ticket, exchange_unbind_ok, 0);
    return err;
}

enum mqg_err amqp_exchange_method(struct amqp_channel *ch, uint32_t id, struct mqg_slice args,
                                  struct mqg_error *e)
{
    switch (id) {
    case AMQP_EXCHANGE_DECLARE: return exchange_declare(ch, args, e);
    case AMQP_EXCHANGE_DELETE: return exchange_delete(ch, args, e);
    case AMQP_EXCHANGE_BIND: return exchange_bind(ch, args, e);
    case AMQP_EXCHANGE_UNBIND: return exchange_unbind(ch, args, e);
    default: return mqg_error_set(e, MQG_UNSUPPORTED, AMQP_COMMAND_INVALID, "unimplemented method");
    }
}

/* ---- queue.* (part 1, 1.7) ------------------------------------------------------------------------------------------- */

static void channel_note_queue(struct amqp_channel *ch, struct mqg_slice name)
{
    if (name.len > sizeof(ch->last_queue))
        return;
    memmove(ch->last_queue, name.ptr, name.len);
    ch->last_queue_len = (uint8_t)name.len;
}

static uint32_t count32(uint64_t n)
{
    return n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

static enum mqg_err queue_declare(struct amqp_channel *ch, struct mqg_slice args, struct mqg_error *e)
{
    struct amqp_queue_declare m;
    if (amqp_queue_declare_decode(args, &m) != MQG_OK)
        return define_undecodable(AMQP_QUEUE_DECLARE, e);
    mqg_publish_flush();
    struct mqg_arena a;
    struct mqg_queue_def d = {.name = m.queue,
                              .durable = m.durable,
                              .exclusive = m.exclusive,
                              .auto_delete = m.auto_delete,
                              .owner_conn = mqg_conn_info(ch->ac->conn)->id};
    struct mqg_queue_ok ok;
    uint64_t ticket = 0;
    enum mqg_err err = define_args(m.arguments, &a, &d.args, e);
    if (err == MQG_OK)
        err = mqg_queue_declare(ch->ac->session, &d, m.passive, &ok, &ticket, e);
    if (err == MQG_OK) {
        channel_note_queue(ch, ok.name);
        if (!m.nowait)
            AMQP_REPLY(ch, ticket, queue_declare_ok, .queue = ok.name, .message_count = count32(ok.messages),
                       .consumer_count = count32(ok.consumers));
    }
    mqg_arena_fini(&a);
    return err;
}

static enum mqg_err queue_bind(struct amqp_channel *ch, struct mqg_slice args, struct mqg_error *e)
{
    struct amqp_queue_bind m;
    if (amqp_queue_bind_decode(args, &m) != MQG_OK)
        return define_undecodable(AMQP_QUEUE_BIND, e);
    struct mqg_binding_def d = {.source = m.exchange, .key = m.routing_key};
    enum mqg_err err = amqp_channel_queue_name(ch, m.queue, &d.destination, e);
    if (err != MQG_OK)
        return err;
    if (m.queue.len == 0 && m.routing_key.len == 0) /* 1.7.2.3: an empty key is then the queue's name */
        d.key = d.destination;
    uint64_t ticket;
    err = define_binding(ch, &d, m.arguments, true, &ticket, e);
    if (err == MQG_OK && !m.nowait)
        AMQP_REPLY(ch, ticket, queue_bind_ok, 0);
    return err;
}

static enum mqg_err queue_unbind(struct amqp_channel *ch, struct mqg_slice args, struct mqg_error *e)
{
    struct amqp_queue_unbind m;
    if (amqp_queue_unbind_decode(args, &m) != MQG_OK)
        return define_undecodable(AMQP_QUEUE_UNBIND, e);
    struct mqg_binding_def d = {.source = m.exchange, .key = m.routing_key};
    enum mqg_err err = amqp_channel_queue_name(ch, m.queue, &d.destination, e);
    if (err != MQG_OK)
        return err;
    if (m.queue.len == 0 && m.routing_key.len == 0)
        d.key = d.destination;
    uint64_t ticket;
    err = define_binding(ch, &d, m.arguments, false, &ticket, e);
    if (err == MQG_OK)
        AMQP_REPLY(ch, ticket, queue_unbind_ok, 0);
    return err;
}

static enum mqg_err queue_purge(struct amqp_channel *ch, struct mqg_slice args, struct mqg_error *e)
{
    struct amqp_queue_purge m;
    if (amqp_queue_purge_decode(args, &m) != MQG_OK)
        return define_undecodable(AMQP_QUEUE_PURGE, e);
    struct mqg_slice name;
    uint64_t messages = 0;
    mqg_publish_flush();
    enum mqg_err err = amqp_channel_queue_name(ch, m.queue, &name, e);
    if (err == MQG_OK)
        err = mqg_queue_purge(ch->ac->session, name, &messages, e);
    if (err == MQG_OK && !m.nowait)
        AMQP_REPLY(ch, 0, queue_purge_ok, .message_count = count32(messages));
    return err;
}

static enum mqg_err queue_delete(struct amqp_channel *ch, struct mqg_slice args, struct mqg_error *e)
{
    struct amqp_queue_delete m;
    if (amqp_queue_delete_decode(args, &m) != MQG_OK)
        return define_undecodable(AMQP_QUEUE_DELETE, e);
    struct mqg_slice name;
    uint64_t messages = 0, ticket = 0;
    mqg_publish_flush();
    enum mqg_err err = amqp_channel_queue_name(ch, m.queue, &name, e);
    if (err == MQG_OK)
        err = mqg_queue_delete(ch->ac->session, name, m.if_unused, m.if_empty, &messages, &ticket, e);
    if (err == MQG_OK && !m.nowait)
        AMQP_REPLY(ch, ticket, queue_delete_ok, .message_count = count32(messages));
    return err;
}

enum mqg_err amqp_queue_method(struct amqp_channel *ch, uint32_t id, struct mqg_slice args,
                               struct mqg_error *e)
{
    switch (id) {
    case AMQP_QUEUE_DECLARE: return queue_declare(ch, args, e);
    case AMQP_QUEUE_BIND: return queue_bind(ch, args, e);
    case AMQP_QUEUE_UNBIND: return queue_unbind(ch, args, e);
    case AMQP_QUEUE_PURGE: return queue_purge(ch, args, e);
    case AMQP_QUEUE_DELETE: return queue_delete(ch, args, e);
    default: return mqg_error_set(e, MQG_UNSUPPORTED, AMQP_COMMAND_INVALID, "unimplemented method");
    }
}
