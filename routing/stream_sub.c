/* stream_sub.c - subscriptions that read a stream: a cursor, whole batches from the store, one message per record.
 *
 * A queue gives its consumers what it holds; a stream's consumers fetch. So all of a subscription lies on its own worker and
 * takes no lock: it reads a buffer of batches that readers share, takes records out of it as credit allows, makes a message of
 * each in the form that the consumer's protocol sends (the body is copied once, into that message), and when the buffer is
 * empty reads on, or waits for the high watermark to move. An acknowledgement gives credit and nothing else: the position is
 * the consumer's own business.
 *
 * A record that cannot be read (a codec nobody here knows, bytes that do not check) is passed over, logged and counted;
 * markers of transactions are passed over in silence. */
#include "queue_args.h"
#include "stream_int.h"

#include <inttypes.h>
#include <stdlib.h>

#include <mqgate/obs.h>

enum {
    SUB_OUT_MAX = 64,          /* messages made at once */
    SUB_TURN_MAX = 512,        /* deliveries per turn: others want theirs too */
    SUB_READ_BYTES = 256 << 10 /* asked of the store at once */
};

#define SUB_PLAIN_MAX_BYTES (256u << 20) /* what a compressed batch may become */

enum reader_state { READER_IDLE, READER_READING, READER_WAITING, READER_BROKEN };

struct stream_reader {
    struct mqg_sub *sub; /* NULL: it is gone, an answer is still on its way */
    struct mqg_partition *partition;
    enum reader_state state;
    uint64_t next;    /* to be read from the store */
    uint64_t from;    /* records below are not wanted */
    uint64_t from_ms; /* nor those that are older */
    bool whole_batch; /* the batch that holds `next` is wanted from its beginning */
    struct mqg_buf *data;
    size_t at; /* in data: the next batch */
    bool in_batch;
    struct mqg_record_iter records;
    struct mqg_dynbuf plain; /* of a compressed batch */
    struct mqg_partition_read read;
    struct mqg_partition_time time;
    struct mqg_partition_wait wait;
    uint32_t out_at, out_n;
    struct mqg_delivery out[SUB_OUT_MAX];
};

/* ---- what may be asked --------------------------------------------------------------------------------------------------- */

struct sub_start {
    enum mqg_seek how;
    uint64_t offset;
    bool by_time;
    uint64_t time_ms;
};

static bool start_word(struct mqg_slice word, struct sub_start *out)
{
    static const struct {
        struct mqg_slice word;
        enum mqg_seek how;
    } words[] = {{MQG_SLICE_INIT("first"), MQG_SEEK_FIRST},
                 {MQG_SLICE_INIT("last"), MQG_SEEK_LAST},
                 {MQG_SLICE_INIT("next"), MQG_SEEK_NEXT}};
    for (size_t i = 0; i < MQG_COUNTOF(words); i++) {
        if (!mqg_slice_eq(words[i].word, word))
            continue;
        out->how = words[i].how;
        return true;
    }
    uint64_t age_ms;
    if (!queue_args_age(word, &age_ms))
        return false;
    uint64_t now_ms = mqg_clock_now().wall_us / 1000;
    out->by_time = true;
    out->time_ms = age_ms < now_ms ? now_ms - age_ms : 0;
    return true;
}

static bool start_parse(const struct mqg_table *args, struct sub_start *out)
{
    const struct mqg_value *v = mqg_table_get(args, MQG_SLICE_LIT("x-stream-offset"));
    int64_t n;
    *out = (struct sub_start){.how = MQG_SEEK_NEXT};
    if (v == NULL)
        return true;
    if (v->type == MQG_VALUE_STRING)
        return start_word(v->bytes, out);
    if (v->type == MQG_VALUE_TIMESTAMP) {
        out->by_time = true;
        out->time_ms = v->i > 0 ? (uint64_t)v->i / 1000 : 0;
        return true;
    }
    if (v->type == MQG_VALUE_DOUBLE || v->type == MQG_VALUE_FLOAT || !mqg_value_int(v, &n) || n < 0)
        return false;
    out->how = MQG_SEEK_OFFSET;
    out->offset = (uint64_t)n;
    return true;
}

static enum mqg_err check_offset(const struct mqg_queue *q, const struct mqg_table *args, struct mqg_error *e)
{
    struct sub_start start;
    if (start_parse(args, &start))
        return MQG_OK;
    const struct mqg_value *v = mqg_table_get(args, MQG_SLICE_LIT("x-stream-offset"));
    struct mqg_slice text = v->type == MQG_VALUE_STRING ? v->bytes : MQG_SLICE_NONE;
    return mqg_error_set(e, MQG_INVALID, 406,
                         "invalid arg 'x-stream-offset' for queue '%.*s' in vhost '%.*s': "
                         "{invalid_stream_offset_arg,{longstr,<<\"%.*s\">>}}",
                         MQG_SLICE_FMT(q->def.name), MQG_SLICE_FMT(mqg_vhost_name(q->vhost)),
                         MQG_SLICE_FMT(text));
}

enum mqg_err stream_sub_check(struct mqg_queue *q, const struct mqg_sub_def *d, struct mqg_error *e)
{
    struct mqg_slice vhost = mqg_vhost_name(q->vhost);
    enum mqg_err err = check_offset(q, &d->args, e);
    if (err != MQG_OK)
        return err;
    if (!d->no_ack && d->prefetch == 0 && (d->credit == NULL || d->credit->limit == 0))
        return mqg_error_set(e, MQG_INVALID, 406,
                             "consumer prefetch count is not set for 'queue '%.*s' in vhost '%.*s''",
                             MQG_SLICE_FMT(q->def.name), MQG_SLICE_FMT(vhost));
    if (d->no_ack)
        return mqg_error_set(e, MQG_UNSUPPORTED, 540,
                             "automatic acknowledgement not supported by stream queues queue '%.*s' in vhost "
                             "'%.*s'",
                             MQG_SLICE_FMT(q->def.name), MQG_SLICE_FMT(vhost));
    if (d->credit != NULL && d->credit->limit != 0)
        return mqg_error_set(e, MQG_UNSUPPORTED, 540,
                             "queue '%.*s' in vhost '%.*s' does not support global qos",
                             MQG_SLICE_FMT(q->def.name), MQG_SLICE_FMT(vhost));
    return MQG_OK;
}

/* ---- the reader ----------------------------------------------------------------------------------------------------------- */

static void reader_data_drop(struct stream_reader *r)
{
    if (r->data != NULL)
        mqg_buf_unref(&r->data);
    r->at = 0;
    r->in_batch = false;
}

static void reader_broken(struct stream_reader *r, enum mqg_err err)
{
    mqg_log(MQG_LOG_ERROR, MQG_EVENT_CORRUPTION, "stream=%s partition=%" PRIu64 " offset=%" PRIu64 " err=%s",
            mqg_logq(r->partition->stream->queue->def.name), r->partition->id, r->next, mqg_err_name(err));
    r->state = READER_BROKEN;
    atomic_store_explicit(&r->sub->cancelled, true, memory_order_release);
    sub_ready(r->sub);
}

static void reader_wait(struct stream_reader *r)
{
    r->state = READER_WAITING;
    mqg_partition_wait(r->partition, &r->wait, r->next);
}

/* Takes in the store's answer; true when there is something to go on with at once. */
static bool reader_answered(struct stream_reader *r)
{
    r->state = READER_IDLE;
    if (r->read.data != NULL && (r->read.err != MQG_OK || r->sub == NULL))
        mqg_buf_unref(&r->read.data);
    if (r->read.err == MQG_GONE)
        return false; /* the cancellation is on its way */
    if (r->read.err == MQG_NOT_FOUND && r->next < r->read.log_start) {
        r->next = r->read.log_start; /* retention was quicker */
        return true;
    }
    if (r->read.err != MQG_OK && r->read.err != MQG_NOT_FOUND) {
        reader_broken(r, r->read.err);
        return false;
    }
    bool moved = r->read.err == MQG_OK && r->read.next_offset > r->next;
    if (!moved) {
        reader_wait(r);
        return false;
    }
    r->data = r->read.data;
    r->read.data = NULL;
    r->next = r->read.next_offset;
    return true;
}

static void reader_read_done(struct mqg_partition_read *read)
{
    struct stream_reader *r = MQG_CONTAINER_OF(read, struct stream_reader, read);
    if (r->sub == NULL) {
        if (read->data != NULL)
            mqg_buf_unref(&read->data);
        free(r);
        return;
    }
    (void)reader_answered(r);
    sub_ready(r->sub);
}

static void reader_waited(struct mqg_partition_wait *w, enum mqg_err err)
{
    struct stream_reader *r = MQG_CONTAINER_OF(w, struct stream_reader, wait);
    r->state = READER_IDLE;
    if (err == MQG_OK)
        sub_ready(r->sub);
}

/* True when data came at once. */
static bool reader_fetch(struct stream_reader *r)
{
    while (r->state == READER_IDLE) {
        r->read.offset = r->next;
        r->read.max_bytes = SUB_READ_BYTES;
        r->read.done = reader_read_done;
        r->state = READER_READING;
        if (!mqg_partition_read(r->partition, &r->read) || !reader_answered(r))
            return false;
        if (r->data != NULL)
            return true;
    }
    return false;
}

/* ---- records --------------------------------------------------------------------------------------------------------------- */

static void reader_skip(const struct stream_reader *r, const struct mqg_batch *b, const char *why)
{
    mqg_log(MQG_LOG_WARN, MQG_EVENT_CORRUPTION,
            "stream=%s partition=%" PRIu64 " offset=%" PRIu64 " skipped=%" PRIu32 " why=%s",
            mqg_logq(r->partition->stream->queue->def.name), r->partition->id, b->base_offset, b->count,
            mqg_logqs(why));
    mqg_count(MQG_COUNT_CONVERSION_DROPPED, b->count);
}

static void reader_enter(struct stream_reader *r, const struct mqg_batch *b)
{
    struct mqg_slice plain;
    enum mqg_err err = mqg_batch_plain(b, &r->plain, &plain);
    if (err != MQG_OK) {
        reader_skip(r, b, err == MQG_UNSUPPORTED ? "no such codec" : "it cannot be decompressed");
        return;
    }
    mqg_record_iter_init(&r->records, b, plain);
    r->in_batch = true;
}

/* Enters the next batch of the buffer; false at its end. */
static bool reader_batch(struct stream_reader *r)
{
    struct mqg_slice rest = mqg_slice_of(r->data->data + r->at, r->data->len - r->at);
    struct mqg_batch b = {.base_offset = r->next};
    if (rest.len == 0 || mqg_batch_read(rest, &b) != MQG_OK) {
        if (rest.len > 0)
            reader_skip(r, &b, "no batch");
        reader_data_drop(r);
        return false;
    }
    r->at += b.bytes;
    if (b.attributes & MQG_BATCH_CONTROL)
        return true;
    if (r->whole_batch && b.base_offset < r->from)
        r->from = b.base_offset;
    r->whole_batch = false;
    if (!mqg_batch_sum_ok(rest, &b))
        reader_skip(r, &b, "its sum is wrong");
    else
        reader_enter(r, &b);
    return true;
}

static bool reader_wants(struct stream_reader *r, const struct mqg_record *rec)
{
    if (rec->offset < r->from || (rec->time_ms < (int64_t)r->from_ms && r->from_ms <= INT64_MAX))
        return false;
    r->from = rec->offset + 1;
    r->from_ms = 0; /* what follows is wanted, whatever clocks said */
    return true;
}

static bool reader_next(struct stream_reader *r, struct mqg_record *rec)
{
    for (;;) {
        while (r->in_batch && mqg_record_next(&r->records, rec))
            if (reader_wants(r, rec))
                return true;
        if (r->in_batch && r->records.bad)
            mqg_log(MQG_LOG_WARN, MQG_EVENT_CORRUPTION,
                    "stream=%s partition=%" PRIu64 " before=%" PRIu64 " why=%s",
                    mqg_logq(r->partition->stream->queue->def.name), r->partition->id, r->next,
                    mqg_logqs("a record does not check"));
        r->in_batch = false;
        if (r->data != NULL ? !reader_batch(r) && r->data != NULL : !reader_fetch(r))
            return false;
    }
}

static void reader_fill(struct stream_reader *r, uint32_t max)
{
    struct publisher *p = publisher_self();
    struct mqg_record_to to = {
        .proto = r->sub->def.proto, .partition = r->partition->id, .offset_header = true};
    struct mqg_record rec;
    enum mqg_err err;
    uint64_t bytes = 0;
    r->out_at = r->out_n = 0;
    while (r->out_n < max && bytes < SUB_WINDOW_BYTES && reader_next(r, &rec)) {
        bytes += rec.value.len;
        mqg_arena_reset(&p->arena);
        struct mqg_msg *m = mqg_record_to_msg(&rec, &to, &p->arena, &p->overlay, &err);
        if (m == NULL) {
            mqg_count(MQG_COUNT_CONVERSION_DROPPED, 1);
            continue;
        }
        r->out[r->out_n++] = (struct mqg_delivery){.msg = m, .handle = rec.offset + 1, .qseq = rec.offset};
    }
    r->sub->unacked += r->out_n;
}

/* ---- delivering ------------------------------------------------------------------------------------------------------------- */

static uint32_t sub_credit(const struct mqg_sub *s)
{
    if (s->paused || s->over)
        return 0;
    if (s->def.prefetch == 0)
        return SUB_OUT_MAX;
    if (s->def.prefetch <= s->unacked)
        return 0;
    uint32_t left = s->def.prefetch - s->unacked;
    return left < SUB_OUT_MAX ? left : SUB_OUT_MAX;
}

/* Hands out what is made; false when the handler took less, or left. */
static bool sub_hand_out(struct mqg_sub *s, struct stream_reader *r, uint32_t *taken)
{
    uint32_t n = r->out_n - r->out_at;
    size_t took = s->ops->deliver(s, s->owner, r->out + r->out_at, n);
    MQG_ASSERT(took <= n);
    *taken += (uint32_t)took;
    mqg_count(MQG_COUNT_DELIVERED, took);
    if (s->freed)
        return false; /* r went with it */
    r->out_at += (uint32_t)took;
    return took == n;
}

bool stream_sub_deliver(struct mqg_sub *s)
{
    struct stream_reader *r = s->reader;
    uint32_t taken = 0;
    while (r->state != READER_BROKEN && !s->paused && taken < SUB_TURN_MAX) {
        if (r->out_at == r->out_n)
            reader_fill(r, sub_credit(s));
        if (r->out_at == r->out_n || !sub_hand_out(s, r, &taken))
            return taken > 0;
    }
    if (taken >= SUB_TURN_MAX)
        sub_ready(s);
    return taken > 0;
}

void stream_sub_settle(struct mqg_sub *s, size_t n)
{
    s->unacked -= s->unacked < n ? s->unacked : (uint32_t)n;
    sub_ready(s);
}

/* ---- beginning and end -------------------------------------------------------------------------------------------------------- */

static void start_at(struct stream_reader *r, enum mqg_err err, uint64_t offset)
{
    r->state = READER_IDLE;
    if (err != MQG_OK && err != MQG_GONE) {
        reader_broken(r, err);
        return;
    }
    r->next = offset;
    sub_ready(r->sub);
}

/* Nothing that old or younger is there: then all that comes is wanted, as RabbitMQ has it. */
static void start_at_time(struct stream_reader *r)
{
    struct mqg_stream_bounds b;
    if (mqg_partition_bounds(r->partition, &b) == MQG_OK && r->time.offset >= b.high_watermark)
        r->from_ms = 0;
    start_at(r, r->time.err, r->time.offset);
}

static void start_time_known(struct mqg_partition_time *t)
{
    struct stream_reader *r = MQG_CONTAINER_OF(t, struct stream_reader, time);
    if (r->sub == NULL)
        free(r);
    else
        start_at_time(r);
}

/* AMQP's streams have one partition; of a stream with several, a subscription reads the first. */
void stream_sub_start(struct mqg_sub *s)
{
    struct stream_reader *r = mqg_xcalloc(1, sizeof(*r));
    struct sub_start start;
    bool good = start_parse(&s->def.args, &start);
    MQG_ASSERT(good); /* checked before */
    s->reader = r;
    r->sub = s;
    r->partition = stream_at(s->queue->stream, 0);
    r->wait.fire = reader_waited;
    mqg_dynbuf_init(&r->plain, SUB_PLAIN_MAX_BYTES);
    if (start.by_time) {
        r->from_ms = start.time_ms;
        r->time.time_ms = start.time_ms;
        r->time.done = start_time_known;
        r->state = READER_READING;
        if (mqg_partition_time(r->partition, &r->time))
            start_at_time(r);
        return;
    }
    uint64_t offset;
    enum mqg_err err = mqg_partition_seek(r->partition, start.how, start.offset, &offset);
    r->from = start.how == MQG_SEEK_OFFSET ? start.offset : offset;
    r->whole_batch = start.how == MQG_SEEK_LAST;
    start_at(r, err, offset);
}

void stream_sub_stop(struct mqg_sub *s)
{
    struct stream_reader *r = s->reader;
    s->reader = NULL;
    mqg_partition_unwait(&r->wait);
    for (uint32_t i = r->out_at; i < r->out_n; i++)
        mqg_msg_unref(&r->out[i].msg);
    reader_data_drop(r);
    mqg_dynbuf_fini(&r->plain);
    r->sub = NULL;
    if (r->state != READER_READING)
        free(r);
}
