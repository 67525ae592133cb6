/* writer.c - the thread that produces: appends in offset order, delivery reports, done().
 *
 * The engine gives offsets itself, so verbatim means here: record by record the same offset, key, value, headers and time,
 * in batches that the engine cuts as it likes. The gateway is the only writer, hence a partition's next offset is known;
 * appends are held back until their turn (lanes submit on their own), and each delivery report is held against the offset
 * that the host gave. A difference means that somebody else writes to the topic: nothing is confirmed from then on.
 *
 * The producer is idempotent with acks=all: reports come in order, retries neither double nor reorder, and a report
 * means that all in-sync replicas have the record. */
#include "kafka.h"
#include "record.h"

#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- producing ------------------------------------------------------------------------------------------------------- */

static rd_kafka_headers_t *writer_headers(const struct kfk_record *r)
{
    if (r->nheader == 0)
        return NULL;
    rd_kafka_headers_t *h = rd_kafka_headers_new(r->nheader);
    for (uint32_t i = 0; i < r->nheader; i++) {
        const struct kfk_header *from = &r->headers[i];
        rd_kafka_header_add(h, (const char *)from->name.ptr, (ssize_t)from->name.len,
                            from->null_value ? NULL : from->value.ptr, (ssize_t)from->value.len);
    }
    return h;
}

static void *writer_mem(struct mqg_slice s, bool null)
{
    return null ? NULL : (void *)(uintptr_t)(s.ptr ? s.ptr : (const uint8_t *)"");
}

static rd_kafka_resp_err_t writer_produce_one(struct mqg_store *s, struct kfk_op *op,
                                              const struct kfk_record *r)
{
    struct mqg_slice key = r->null_key ? MQG_SLICE_NONE : r->key,
                     value = r->null_value ? MQG_SLICE_NONE : r->value;
    rd_kafka_headers_t *headers = writer_headers(r);
    rd_kafka_vu_t vus[8] = {
        {.vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = op->part->out},
        {.vtype = RD_KAFKA_VTYPE_PARTITION, .u.i32 = op->part->index},
        {.vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY},
        {.vtype = RD_KAFKA_VTYPE_KEY, .u.mem = {writer_mem(key, r->null_key), key.len}},
        {.vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = {writer_mem(value, r->null_value), value.len}},
        {.vtype = RD_KAFKA_VTYPE_TIMESTAMP, .u.i64 = r->time_ms},
        {.vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = op},
        {.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers},
    };
    rd_kafka_error_t *error = rd_kafka_produceva(s->producer, vus, headers ? 8 : 7);
    rd_kafka_resp_err_t err = error ? rd_kafka_error_code(error) : RD_KAFKA_RESP_ERR_NO_ERROR;
    if (error) {
        rd_kafka_error_destroy(error);
        if (headers)
            rd_kafka_headers_destroy(headers);
    }
    return err;
}

/* Waits for room in librdkafka's own queue, while reports go on. */
static void writer_produce(struct mqg_store *s, struct kfk_op *op, const struct kfk_record *r)
{
    rd_kafka_resp_err_t err;
    while ((err = writer_produce_one(s, op, r)) == RD_KAFKA_RESP_ERR__QUEUE_FULL && !kfk_over(s))
        rd_kafka_poll(s->producer, 50);
    if (err != RD_KAFKA_RESP_ERR_NO_ERROR && err != RD_KAFKA_RESP_ERR__QUEUE_FULL)
        kfk_fail(s, MQG_IO, "topic %s partition %d offset %llu: %s", op->part->topic, op->part->index,
                 (unsigned long long)r->offset, rd_kafka_err2str(err));
}

static void writer_append(struct mqg_store *s, struct kfk_op *op)
{
    struct kfk_decoder d;
    struct kfk_record r;
    int more;
    kfk_decoder_init(&d, mqg_slice_of(op->buf->data, op->buf->len), op->offset);
    while ((more = kfk_decoder_next(&d, &r)) > 0 && !kfk_over(s))
        writer_produce(s, op, &r);
    if (more < 0 || (more == 0 && d.next != op->offset + op->count))
        kfk_fail(s, MQG_UNSUPPORTED, "topic %s partition %d offset %llu: %s", op->part->topic,
                 op->part->index, (unsigned long long)d.next,
                 d.why ? d.why : "another number of records than was said");
    op->part->next_out = d.next;
    kfk_decoder_fini(&d);
}

/* Everything of the partition whose turn has come. */
static void writer_release(struct mqg_store *s, struct kfk_part *p)
{
    while (p->held && p->held->offset == p->next_out && !kfk_over(s)) {
        struct kfk_op *op = p->held;
        p->held = op->next;
        writer_append(s, op);
    }
}

static bool writer_gone(struct mqg_store *s, const struct kfk_part *p)
{
    pthread_mutex_lock(&s->lock);
    bool gone = p->gone;
    pthread_mutex_unlock(&s->lock);
    return gone;
}

/* Delivery report of one record; on the writer's thread, out of rd_kafka_poll. */
void kfk_delivered(rd_kafka_t *rk, const rd_kafka_message_t *m, void *store)
{
    struct mqg_store *s = store;
    struct kfk_op *op = m->_private;
    (void)rk;
    if (kfk_over(s))
        return;
    uint64_t expected = op->offset + op->delivered;
    if (m->err && !writer_gone(s, op->part)) {
        kfk_fail(s, MQG_IO, "topic %s partition %d offset %llu: %s", op->part->topic, op->part->index,
                 (unsigned long long)expected, rd_kafka_err2str(m->err));
        return;
    }
    if (!m->err && m->offset != (int64_t)expected) {
        kfk_fail(s, MQG_MISMATCH,
                 "topic %s partition %d: a record was given offset %lld instead of %llu: somebody else "
                 "writes to it",
                 op->part->topic, op->part->index, (long long)m->offset, (unsigned long long)expected);
        return;
    }
    if (++op->delivered < op->count)
        return;
    if (!m->err)
        kfk_part_advance(s, op->part, expected + 1);
    kfk_op_done(s, op);
}

/* ---- taking over batches ------------------------------------------------------------------------------------------------ */

static void writer_hold(struct kfk_part *p, struct kfk_op *op)
{
    struct kfk_op **at = &p->held;
    while (*at && (*at)->offset < op->offset)
        at = &(*at)->next;
    op->next = *at;
    *at = op;
}

/* An append to a partition that is not there (deleted meanwhile) goes nowhere, as on every store. */
static void writer_take_append(struct mqg_store *s, struct kfk_op *op)
{
    pthread_mutex_lock(&s->lock);
    struct kfk_part *p = kfk_part_find(s, op->partition);
    bool ready = p && p->ready;
    pthread_mutex_unlock(&s->lock);
    op->part = p;
    if (!p || op->count == 0 || (ready && op->offset < p->next_out)) {
        kfk_op_done(s, op);
        return;
    }
    writer_hold(p, op);
    if (ready)
        writer_release(s, p);
}

static void writer_to_clerk(struct mqg_store *s, struct kfk_op *op)
{
    if (op->kind == MQG_OP_STREAM_NEW) { /* known from now on, ready when the clerk has seen to it */
        char *topic = mqg_xmalloc(strlen(s->prefix) + strlen(op->name) + 1);
        memcpy(topic, s->prefix, strlen(s->prefix));
        memcpy(topic + strlen(s->prefix), op->name, strlen(op->name) + 1);
        op->part = kfk_part_new(s, op->partition, topic, op->index);
        if (!op->part) {
            kfk_op_done(s, op);
            return;
        }
    }
    pthread_mutex_lock(&s->lock);
    op->next = NULL;
    *s->clerk_last = op;
    s->clerk_last = &op->next;
    pthread_cond_signal(&s->clerk_has);
    pthread_mutex_unlock(&s->lock);
}

static void writer_take(struct mqg_store *s, struct kfk_batch *b)
{
    struct kfk_lane *l = &s->lanes[b->lane];
    b->next = NULL;
    *l->last = b;
    l->last = &b->next;
    atomic_fetch_add(&s->stat_batches, 1);
    atomic_fetch_add(&s->stat_records, b->nops);
    uint32_t n = b->nops; /* the last of them done, the batch may be gone */
    for (uint32_t i = 0; i < n; i++) {
        if (b->ops[i].kind == MQG_OP_APPEND)
            writer_take_append(s, &b->ops[i]);
        else
            writer_to_clerk(s, &b->ops[i]);
    }
}

static void writer_inbox(struct mqg_store *s)
{
    pthread_mutex_lock(&s->lock);
    struct kfk_batch *b = s->inbox;
    s->inbox = NULL;
    s->inbox_last = &s->inbox;
    pthread_mutex_unlock(&s->lock);
    while (b) {
        struct kfk_batch *next = b->next;
        writer_take(s, b);
        b = next;
    }
}

/* Partitions that the clerk has made ready, and those that were deleted with appends on hand. */
static void writer_parts(struct mqg_store *s)
{
    if (!atomic_exchange(&s->parts_changed, false))
        return;
    for (size_t i = 0;; i++) {
        pthread_mutex_lock(&s->lock);
        struct kfk_part *p = i < s->all.n ? s->all.items[i] : NULL;
        bool ready = p && p->ready, gone = p && p->gone;
        pthread_mutex_unlock(&s->lock);
        if (!p)
            return;
        if (!p->held)
            continue;
        if (gone) {
            struct kfk_op *op = p->held;
            p->held = op->next;
            kfk_op_done(s, op);
            i--;
        } else if (ready) {
            writer_release(s, p);
        }
    }
}

/* ---- done ---------------------------------------------------------------------------------------------------------------- */

static void writer_tell(struct mqg_store *s, uint32_t lane)
{
    struct kfk_lane *l = &s->lanes[lane];
    uint64_t ticket = 0, n = 0;
    while (l->first && atomic_load_explicit(&l->first->pending, memory_order_acquire) == 0) {
        struct kfk_batch *b = l->first;
        l->first = b->next;
        if (!l->first)
            l->last = &l->first;
        ticket = b->ticket;
        n++;
        kfk_batch_free(&b);
    }
    if (n == 0 || kfk_over(s))
        return;
    s->host.done(s->host.host, lane, ticket);
    pthread_mutex_lock(&s->lock);
    s->open_batches -= n;
    pthread_cond_broadcast(&s->all_done);
    pthread_mutex_unlock(&s->lock);
}

void *kfk_writer_run(void *store)
{
    struct mqg_store *s = store;
    struct pollfd fd = {.fd = s->wake_fd, .events = POLLIN};
    uint64_t woken;
    while (!atomic_load(&s->stopping)) {
        poll(&fd, 1, 200);
        if (read(s->wake_fd, &woken, sizeof(woken)) < 0 && !(fd.revents & POLLIN))
            woken = 0;
        writer_inbox(s);
        writer_parts(s);
        while (rd_kafka_poll(s->producer, 0) > 0) {
        }
        for (uint32_t lane = 0; lane < s->nlanes; lane++)
            writer_tell(s, lane);
    }
    return NULL;
}
