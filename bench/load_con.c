/* A consumer looks at as little as it can and still proves that nothing was lost: 8 bytes of sequence of
 * every body (per queue and publisher they must come one after the other, once), and the checksum of every
 * n-th body. The consumer tag is the queue's number in four hex digits, so that telling queues apart costs
 * no table. */
#include "load_con.h"

#include <stdlib.h>

enum { CON_TAG_DIGITS = 4 };

static void con_subscribe(struct load_con *con, unsigned queue)
{
    enum { NO_ACK_BIT = 2, NO_WAIT_BIT = 8 };
    char name[256];
    char tag[CON_TAG_DIGITS + 1];
    struct load_out *out = &con->conn.out;
    load_job_queue_name(con->job, queue, name);
    snprintf(tag, sizeof tag, "%04x", queue & 0xFFFFU);
    const size_t start = load_method_begin(out, 1, LOAD_BASIC_CONSUME);
    load_put_u16(out, 0);
    load_put_short(out, name);
    load_put_short(out, tag);
    load_put_u8(out, NO_WAIT_BIT | (con->job->ack_every == 0 ? NO_ACK_BIT : 0));
    load_put_u32(out, 0);
    load_frame_end(out, start);
}

static void con_qos(struct load_con *con)
{
    const size_t start = load_method_begin(&con->conn.out, 1, LOAD_BASIC_QOS);
    load_put_u32(&con->conn.out, 0);
    load_put_u16(&con->conn.out, con->job->prefetch);
    load_put_u8(&con->conn.out, 0);
    load_frame_end(&con->conn.out, start);
    load_conn_call(&con->conn, LOAD_BASIC_QOS_OK);
}

void load_con_open(struct load_con *con, const struct load_job *job, unsigned index,
                   struct load_hist *deliver_ns)
{
    memset(con, 0, sizeof *con);
    con->job = job;
    con->deliver_ns = deliver_ns;
    con->expected = load_alloc((size_t)job->queues * job->publishers * sizeof *con->expected);
    load_conn_open(&con->conn, &job->target);
    if (!job->publishes && index == 0)
        load_job_declare(job, &con->conn);
    if (job->ack_every != 0)
        con_qos(con);
    for (unsigned queue = index; queue < job->queues; queue += job->consumers)
        con_subscribe(con, queue);
    if (job->publishes)
        con_qos(con); /* its answer says that all consumers stand; the queues are still empty */
    else
        load_conn_flush(&con->conn);
}

static unsigned con_hex_digit(uint8_t digit)
{
    return digit <= '9' ? digit - (unsigned)'0' : digit - (unsigned)'a' + 10U;
}

static void con_on_deliver(struct load_con *con, const uint8_t *payload, size_t bytes)
{
    enum { TAG_AT = 5, DELIVERY_AT = TAG_AT + CON_TAG_DIGITS, MIN_BYTES = DELIVERY_AT + 9 };
    if (bytes < MIN_BYTES || payload[4] != CON_TAG_DIGITS || con->body_left != 0)
        load_fail("a delivery that does not fit");
    const uint8_t *tag = payload + TAG_AT;
    con->queue = con_hex_digit(tag[0]) << 12 | con_hex_digit(tag[1]) << 8 | con_hex_digit(tag[2]) << 4 |
                 con_hex_digit(tag[3]);
    if (con->queue >= con->job->queues)
        load_fail("a delivery for a consumer that is not ours");
    con->tag = load_get_u64(payload + DELIVERY_AT);
    con->redelivered += payload[DELIVERY_AT + 8] & 1U;
}

static void con_on_header(struct load_con *con, const uint8_t *payload, size_t bytes)
{
    if (bytes < 14)
        load_fail("a content header of %zu bytes", bytes);
    con->body_left = load_get_u64(payload + 4);
    con->body_begun = false;
    if (con->body_left != con->job->body_bytes)
        load_fail("a body of %llu bytes, %zu were published", (unsigned long long)con->body_left,
                  con->job->body_bytes);
}

static void con_first_piece(struct load_con *con, const uint8_t *body, size_t bytes, uint64_t now_ns)
{
    uint64_t sequence;
    if (bytes < LOAD_STAMP_BYTES)
        load_fail("a first body frame of %zu bytes", bytes);
    memcpy(&sequence, body + LOAD_BODY_SEQUENCE, sizeof sequence);
    const uint64_t publisher = sequence >> LOAD_SEQUENCE_BITS;
    if (publisher >= con->job->publishers) {
        con->corrupt++;
        return;
    }
    uint64_t *expected = &con->expected[con->queue * con->job->publishers + publisher];
    sequence &= LOAD_SEQUENCE_MASK;
    con->misordered += sequence != *expected;
    *expected = sequence + 1;
    con->sampling = con->job->sample_every != 0 && con->delivered % con->job->sample_every == 0;
    con->hash = LOAD_HASH_SEED;
    memcpy(&con->check, body + LOAD_BODY_CHECK, sizeof con->check);
    if (con->job->takes_latency) {
        uint64_t sent_ns;
        memcpy(&sent_ns, body + LOAD_BODY_TIME, sizeof sent_ns);
        load_hist_add(con->deliver_ns, now_ns > sent_ns ? now_ns - sent_ns : 0);
    }
}

static void con_on_body(struct load_con *con, const uint8_t *body, size_t bytes, uint64_t now_ns)
{
    if (bytes == 0 || bytes > con->body_left)
        load_fail("a body frame of %zu bytes, %llu were missing", bytes, (unsigned long long)con->body_left);
    size_t skip = 0;
    if (!con->body_begun) {
        con->body_begun = true;
        con_first_piece(con, body, bytes, now_ns);
        skip = LOAD_STAMP_BYTES;
    }
    if (con->sampling)
        con->hash = load_hash(con->hash, body + skip, bytes - skip);
    con->body_left -= bytes;
    if (con->body_left != 0)
        return;
    con->delivered++;
    con->sampled += con->sampling;
    con->corrupt += con->sampling && con->hash != con->check;
    con->sampling = false;
}

static void con_put_ack(struct load_con *con)
{
    const size_t start = load_method_begin(&con->conn.out, 1, LOAD_BASIC_ACK);
    load_put_u64(&con->conn.out, con->tag);
    load_put_u8(&con->conn.out, 1);
    load_frame_end(&con->conn.out, start);
    con->acked = con->tag;
}

static void con_frame(struct load_con *con, const struct load_frame *frame, uint64_t now_ns)
{
    if (frame->method == LOAD_BASIC_DELIVER)
        con_on_deliver(con, frame->payload, frame->bytes);
    else if (frame->type == LOAD_FRAME_HEADER)
        con_on_header(con, frame->payload, frame->bytes);
    else if (frame->type == LOAD_FRAME_BODY)
        con_on_body(con, frame->payload, frame->bytes, now_ns);
    else
        load_conn_other(&con->conn, frame);
    if (con->job->ack_every != 0 && con->body_left == 0 && frame->type == LOAD_FRAME_BODY &&
        con->tag - con->acked >= con->job->ack_every)
        con_put_ack(con);
}

bool load_con_receive(struct load_con *con)
{
    struct load_frame frame;
    if (load_conn_read(&con->conn) == 0)
        return false;
    const uint64_t before = con->delivered;
    const uint64_t now_ns = load_now_ns();
    while (load_conn_next(&con->conn, &frame))
        con_frame(con, &frame, now_ns);
    if (con->delivered != before)
        con->last_ns = now_ns;
    load_conn_flush(&con->conn);
    return true;
}

void load_con_ack_rest(struct load_con *con)
{
    if (con->job->ack_every != 0 && con->tag != con->acked && con->body_left == 0)
        con_put_ack(con);
    load_conn_flush(&con->conn);
}

void load_con_close(struct load_con *con)
{
    load_conn_close(&con->conn);
    free(con->expected);
}
