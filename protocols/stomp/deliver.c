/* deliver.c - MESSAGE frames.
 *
 *   MESSAGE | subscription | destination | message-id | ack (1.2) | redelivered | the message's own headers | content-length
 *
 * What does not change between two messages of a subscription is kept as text: its head, its destination, the beginning of
 * its message-ids. A message that came by STOMP brings its header lines as they are. So a small frame is some copies into the
 * output and one number; of a large one the body is sent from the message's own memory. */
#include "stomp.h"

#include <stdio.h>

#define DELIVER_SMALL_BYTES 8192u
#define DELIVER_ROOM        60000u

static uint8_t *deliver_put(uint8_t *to, struct mqg_slice s)
{
    memcpy(to, s.ptr, s.len);
    return to + s.len;
}

static uint8_t *deliver_number(uint8_t *to, uint64_t n)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    memcpy(to, digits + at, sizeof digits - at);
    return to + (sizeof digits - at);
}

/* The line "destination:..." of this exchange and key, made anew when they differ from the last ones. */
static void deliver_dest(struct stomp_sub *s, const struct mqg_msg *m)
{
    struct mqg_slice address = mqg_slice_of(m->data, (size_t)m->st.exchange_len + m->st.key_len);
    uint8_t form[3] = {(uint8_t)m->st.exchange_len, (uint8_t)(m->st.exchange_len >> 8), m->st.key_sep};
    struct mqg_slice last = mqg_dynbuf_view(&s->address);
    if (last.len == address.len + 3 && memcmp(last.ptr, form, 3) == 0 &&
        memcmp(last.ptr + 3, address.ptr, address.len) == 0)
        return;
    struct mqg_dynbuf text;
    mqg_dynbuf_init(&text, 1u << 20);
    stomp_dest_write(&text, mqg_msg_exchange(m), mqg_msg_key(m), (char)m->st.key_sep);
    mqg_dynbuf_reset(&s->dest);
    stomp_put_header(&s->dest, s->sc->version, MQG_SLICE_LIT("destination"), mqg_dynbuf_view(&text));
    mqg_dynbuf_fini(&text);
    mqg_dynbuf_reset(&s->address);
    mqg_dynbuf_put(&s->address, form, 3);
    mqg_dynbuf_slice(&s->address, address);
}

/* All headers up to the empty line. */
static uint8_t *deliver_headers(uint8_t *at, const struct stomp_sub *s, const struct mqg_delivery *d,
                                uint64_t number, struct mqg_slice lines)
{
    bool ack = s->sc->version == STOMP_12 && s->mode != STOMP_ACK_AUTO;
    at = deliver_put(at, mqg_dynbuf_view(&s->head));
    at = deliver_put(at, mqg_dynbuf_view(&s->dest));
    at = deliver_put(at, MQG_SLICE_LIT("message-id:"));
    at = deliver_number(deliver_put(at, mqg_dynbuf_view(&s->mid)), number);
    if (ack) {
        at = deliver_put(at, MQG_SLICE_LIT("\nack:"));
        at = deliver_number(deliver_put(at, mqg_dynbuf_view(&s->mid)), number);
    }
    at = deliver_put(at, d->redelivered ? MQG_SLICE_LIT("\nredelivered:true\n")
                                        : MQG_SLICE_LIT("\nredelivered:false\n"));
    if (lines.len > 0)
        at = deliver_put(at, lines);
    at = deliver_put(at, MQG_SLICE_LIT("content-length:"));
    at = deliver_number(at, d->msg->st.body_len);
    return deliver_put(at, MQG_SLICE_LIT("\n\n"));
}

static size_t deliver_headers_max(const struct stomp_sub *s, struct mqg_slice lines)
{
    return s->head.len + s->dest.len + 2 * s->mid.len + lines.len + 160;
}

static void deliver_large(struct stomp_sub *s, const struct mqg_delivery *d, uint64_t number,
                          struct mqg_slice lines)
{
    struct mqg_conn *c = s->sc->conn;
    struct mqg_dynbuf head;
    mqg_dynbuf_init(&head, deliver_headers_max(s, lines));
    uint8_t *start = mqg_dynbuf_reserve(&head, deliver_headers_max(s, lines));
    if (start != NULL) {
        head.len = (size_t)(deliver_headers(start, s, d, number, lines) - start);
        mqg_conn_write(c, mqg_dynbuf_view(&head));
        mqg_conn_write_msg(c, d->msg, mqg_msg_body(d->msg));
        mqg_conn_write(c, mqg_slice_of("", 1));
    }
    mqg_dynbuf_fini(&head);
}

static void deliver_one(struct stomp_sub *s, const struct mqg_delivery *d)
{
    struct stomp_conn *sc = s->sc;
    struct mqg_dynbuf rendered;
    mqg_dynbuf_init(&rendered, 16u << 20);
    struct mqg_slice lines = stomp_render(d->msg, sc->version, d->delivery_count, &rendered);
    struct mqg_slice body = mqg_msg_body(d->msg);
    uint64_t number = stomp_unacked_add(sc, s->mode == STOMP_ACK_AUTO ? NULL : s, d->handle);
    deliver_dest(s, d->msg);
    size_t room = deliver_headers_max(s, lines) + body.len + 1;
    if (body.len < DELIVER_SMALL_BYTES && room <= DELIVER_ROOM) {
        uint8_t *start = mqg_conn_reserve(sc->conn, room);
        uint8_t *at = deliver_headers(start, s, d, number, lines);
        if (body.len > 0)
            at = deliver_put(at, body);
        *at++ = 0;
        mqg_conn_commit(sc->conn, (size_t)(at - start));
    } else {
        deliver_large(s, d, number, lines);
    }
    mqg_dynbuf_fini(&rendered);
}

static size_t sub_deliver(struct mqg_sub *sub, void *owner, const struct mqg_delivery *d, size_t n)
{
    (void)sub;
    struct stomp_sub *s = owner;
    size_t took = 0;
    uint64_t again = 0;
    while (took < n && s->sc->phase == STOMP_RUNNING && !mqg_conn_out_full(s->sc->conn)) {
        struct mqg_msg *m = d[took].msg;
        if (s->filter == NULL || stomp_filter_match(s->filter, &d[took])) {
            deliver_one(s, &d[took]);
            again += d[took].redelivered;
        } else {
            stomp_filter_drop(s, &d[took]);
        }
        mqg_msg_unref(&m);
        took++;
    }
    if (s->filter != NULL)
        stomp_filter_flush(s);
    if (again > 0)
        mqg_count(MQG_COUNT_REDELIVERED, again);
    return took;
}

static void sub_cancelled(struct mqg_sub *sub, void *owner)
{
    (void)sub;
    struct stomp_sub *s = owner;
    stomp_fail(s->sc, "Server cancelled subscription",
               "The server has canceled a subscription. No more messages will be delivered for %.*s.",
               MQG_SLICE_FMT(mqg_slice_of(s->id.ptr + 2, s->id.len - 2)));
}

const struct mqg_sub_ops stomp_sub_ops = {.deliver = sub_deliver, .cancelled = sub_cancelled};
