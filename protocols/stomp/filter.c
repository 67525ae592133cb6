/* filter.c - a subscription's selector at work: which deliveries its client gets.
 *
 * What does not match is settled as if it had been acknowledged: the queue is the subscription's own (queue.c sees to it), or a
 * stream, from which nothing is taken. So nobody waits behind such a message, and nobody else loses it. It takes no room in
 * the client's prefetch. What was settled is collected and handed on together.
 *
 * A name means, in this order: one of JMS's (JMSPriority...), a header of the message, a property by STOMP's name for it
 * (priority, "content-type"). Types are those of the common view (MAPPING, "Keys, headers, values"): what a STOMP client sent
 * is text, what AMQP typed is typed. */
#include "selector.h"
#include "stomp.h"

#include <stdlib.h>

struct stomp_filter {
    struct stomp_selector *selector;
    struct mqg_arena arena; /* of the message being judged */
    uint32_t n;
    uint64_t handles[STOMP_FILTER_BATCH]; /* to be settled */
};

bool stomp_filter_new(struct stomp_conn *sc, const struct stomp_head *h, struct stomp_filter **out)
{
    struct mqg_slice text;
    struct mqg_error e;
    *out = NULL;
    if (!stomp_value(sc, h, STOMP_H_SELECTOR, &text))
        return false;
    if (text.len == 0)
        return true;
    struct stomp_selector *selector;
    if (stomp_selector_parse(text, &selector, &e) != MQG_OK) {
        stomp_fail(sc, "Invalid header", "the selector '%.*s' cannot be read: %s", MQG_SLICE_FMT(text),
                   e.text);
        return false;
    }
    *out = mqg_xcalloc(1, sizeof **out);
    (*out)->selector = selector;
    mqg_arena_init(&(*out)->arena, STOMP_ARENA_BYTES);
    return true;
}

void stomp_filter_free(struct stomp_filter **f)
{
    if (*f == NULL)
        return;
    stomp_selector_free(&(*f)->selector);
    mqg_arena_fini(&(*f)->arena);
    free(*f);
    *f = NULL;
}

/* ---- names -------------------------------------------------------------------------------------------------------------- */

struct filter_message {
    const struct mqg_delivery *d;
    struct mqg_arena *arena;
    struct mqg_view view;
};

static struct mqg_value filter_text(struct mqg_slice s)
{
    return (struct mqg_value){.type = MQG_VALUE_STRING, .bytes = s};
}

static struct mqg_value filter_int(uint64_t n)
{
    return (struct mqg_value){.type = MQG_VALUE_UINT64, .u = n};
}

static bool filter_mode(struct filter_message *m, struct mqg_value *out)
{
    *out = filter_text(mqg_msg_persistent(m->d->msg) ? MQG_SLICE_LIT("PERSISTENT")
                                                     : MQG_SLICE_LIT("NON_PERSISTENT"));
    return true;
}

/* JMS's priority of a message that says none is 4 (JMS 2.0, 3.4.10). */
static bool filter_priority(struct filter_message *m, struct mqg_value *out)
{
    *out = filter_int((m->view.has & MQG_PROP_PRIORITY) != 0 ? m->view.priority : 4);
    return true;
}

static bool filter_timestamp(struct filter_message *m, struct mqg_value *out)
{
    bool said = (m->view.has & MQG_PROP_TIMESTAMP) != 0;
    *out = filter_int((said ? m->view.timestamp_us : m->d->msg->st.create_us) / 1000);
    return true;
}

/* When it expires, in ms since 1970; 0: never. */
static bool filter_expiration(struct filter_message *m, struct mqg_value *out)
{
    const struct mqg_stored *st = &m->d->msg->st;
    *out = filter_int((st->flags & MQG_MSG_HAS_TTL) != 0 ? st->append_us / 1000 + st->ttl_ms : 0);
    return true;
}

static bool filter_redelivered(struct filter_message *m, struct mqg_value *out)
{
    *out = (struct mqg_value){.type = MQG_VALUE_BOOL, .boolean = m->d->redelivered};
    return true;
}

static bool filter_destination(struct filter_message *m, struct mqg_value *out)
{
    struct mqg_dynbuf text;
    mqg_dynbuf_init(&text, 1u << 20);
    stomp_dest_write(&text, mqg_msg_exchange(m->d->msg), mqg_msg_key(m->d->msg), (char)m->d->msg->st.key_sep);
    *out = filter_text(mqg_arena_dup(m->arena, mqg_dynbuf_view(&text)));
    mqg_dynbuf_fini(&text);
    return true;
}

static bool filter_type(struct filter_message *m, struct mqg_value *out)
{
    return stomp_property(&m->view, STOMP_H_TYPE, out);
}

static bool filter_message_id(struct filter_message *m, struct mqg_value *out)
{
    return stomp_property(&m->view, STOMP_H_AMQP_MESSAGE_ID, out);
}

static bool filter_correlation_id(struct filter_message *m, struct mqg_value *out)
{
    return stomp_property(&m->view, STOMP_H_CORRELATION_ID, out);
}

static bool filter_reply_to(struct filter_message *m, struct mqg_value *out)
{
    return stomp_property(&m->view, STOMP_H_REPLY_TO, out);
}

static const struct {
    struct mqg_slice name;
    bool (*get)(struct filter_message *m, struct mqg_value *out);
} filter_names[] = {
    {MQG_SLICE_INIT("JMSDeliveryMode"), filter_mode},
    {MQG_SLICE_INIT("JMSPriority"), filter_priority},
    {MQG_SLICE_INIT("JMSTimestamp"), filter_timestamp},
    {MQG_SLICE_INIT("JMSExpiration"), filter_expiration},
    {MQG_SLICE_INIT("JMSRedelivered"), filter_redelivered},
    {MQG_SLICE_INIT("JMSDestination"), filter_destination},
    {MQG_SLICE_INIT("JMSType"), filter_type},
    {MQG_SLICE_INIT("JMSMessageID"), filter_message_id},
    {MQG_SLICE_INIT("JMSCorrelationID"), filter_correlation_id},
    {MQG_SLICE_INIT("JMSReplyTo"), filter_reply_to},
};

static bool filter_get(void *arg, struct mqg_slice name, struct mqg_value *out)
{
    struct filter_message *m = arg;
    if (mqg_slice_starts(name, MQG_SLICE_LIT("JMS")))
        for (size_t i = 0; i < MQG_COUNTOF(filter_names); i++)
            if (mqg_slice_eq(filter_names[i].name, name))
                return filter_names[i].get(m, out);
    const struct mqg_value *v = mqg_table_get(&m->view.headers, name);
    if (v == NULL)
        return stomp_property(&m->view, stomp_header_find(name), out);
    *out = *v;
    return true;
}

/* ---- deliveries --------------------------------------------------------------------------------------------------------- */

bool stomp_filter_match(struct stomp_filter *f, const struct mqg_delivery *d)
{
    struct filter_message m = {.d = d, .arena = &f->arena};
    if (mqg_msg_view(d->msg, &f->arena, &m.view) != MQG_OK)
        mqg_count(MQG_COUNT_CONVERSION_DROPPED, 1);
    bool match = stomp_selector_match(f->selector, filter_get, &m);
    mqg_arena_reset(&f->arena);
    return match;
}

void stomp_filter_drop(struct stomp_sub *s, const struct mqg_delivery *d)
{
    if (s->mode == STOMP_ACK_AUTO) /* settled already */
        return;
    s->filter->handles[s->filter->n++] = d->handle;
    if (s->filter->n == STOMP_FILTER_BATCH)
        stomp_filter_flush(s);
}

void stomp_filter_flush(struct stomp_sub *s)
{
    if (s->filter->n > 0)
        mqg_settle(s->queue, s->sub, s->filter->handles, s->filter->n, MQG_SETTLE_ACK);
    s->filter->n = 0;
}
