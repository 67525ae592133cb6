/* fetch_answer.c - the bytes of a Fetch's answer.
 *
 * Written by hand and not by the message's table, because the records are not in it: everything else goes into a buffer of the
 * worker, and where records stand, the connection's output gets a reference to the store's buffer. Versions 0 to 18; what each
 * version has is messages.def's. */
#include "fetch.h"
#include "producer_part.h"
#include "quota.h"

#include <stdlib.h>

enum { ANSWER_KEEP = 1 << 20 };

/* Records that stand before byte `at` of the buffer. */
struct cut {
    size_t at;
    struct fetch_part *part;
};

struct answer {
    struct mqg_dynbuf *out;
    struct cut *cuts;
    size_t ncuts;
    uint64_t record_bytes;
    size_t throttle_at; /* where throttle_time_ms stands */
    int16_t version;
    bool flexible;
};

static _Thread_local struct mqg_dynbuf answer_buffer;

bool fetch_part_is_told(const struct fetch_part *p)
{
    return p->set->full || p->code != KAFKA_NONE || p->records.len > 0 ||
           (p->high >= 0 && (p->high != p->told_high || p->start != p->told_start));
}

static void put_count(struct answer *a, int64_t n)
{
    if (a->flexible)
        mqg_dynbuf_varint(a->out, (uint64_t)(n + 1));
    else
        mqg_dynbuf_be32(a->out, (uint32_t)n);
}

static void put_tags(struct answer *a)
{
    if (a->flexible)
        mqg_dynbuf_u8(a->out, 0);
}

static void put_aborted(struct answer *a, const struct fetch_part *p)
{
    put_count(a, p->set->committed ? (int64_t)p->naborted : -1);
    for (size_t i = 0; i < p->naborted; i++) {
        mqg_dynbuf_be64(a->out, (uint64_t)p->aborted[i].producer_id);
        mqg_dynbuf_be64(a->out, p->aborted[i].first);
        put_tags(a);
    }
}

static void put_partition(struct answer *a, struct fetch_part *p)
{
    mqg_dynbuf_be32(a->out, (uint32_t)p->index);
    mqg_dynbuf_be16(a->out, (uint16_t)p->code);
    mqg_dynbuf_be64(a->out, (uint64_t)p->high);
    if (a->version >= 4)
        mqg_dynbuf_be64(a->out, (uint64_t)p->stable);
    if (a->version >= 5)
        mqg_dynbuf_be64(a->out, (uint64_t)p->start);
    if (a->version >= 4)
        put_aborted(a, p);
    if (a->version >= 11)
        mqg_dynbuf_be32(a->out, UINT32_MAX); /* no other replica is preferred */
    put_count(a, (int64_t)p->records.len);
    if (p->records.len > 0) {
        a->cuts[a->ncuts++] = (struct cut){a->out->len, p};
        a->record_bytes += p->records.len;
    }
    put_tags(a);
    p->told_high = p->high;
    p->told_start = p->start;
}

static bool same_topic(const struct fetch_part *a, const struct fetch_part *b)
{
    return mqg_slice_eq(fetch_part_topic(a), fetch_part_topic(b));
}

static struct fetch_part *told_from(struct fetch_part *p, bool full)
{
    while (p != NULL && !fetch_part_is_told(p))
        p = full ? p->next : p->ready_next;
    return p;
}

/* A full answer tells of all in their order, an incremental one of those that were looked at. */
static struct fetch_part *told_first(const struct fetch_set *set)
{
    return told_from(set->full ? set->first : set->ready, set->full);
}

static struct fetch_part *told_next(const struct fetch_part *p)
{
    return told_from(p->set->full ? p->next : p->ready_next, p->set->full);
}

static void put_topic_head(struct answer *a, const struct fetch_part *p)
{
    struct mqg_slice topic = fetch_part_topic(p);
    if (a->version < 12)
        mqg_dynbuf_be16(a->out, (uint16_t)topic.len);
    else if (a->version == 12)
        mqg_dynbuf_varint(a->out, topic.len + 1);
    mqg_dynbuf_slice(a->out, topic);
}

/* Partitions of one topic that follow each other are one element. */
static struct fetch_part *put_topic(struct answer *a, struct fetch_part *p)
{
    struct fetch_part *end = p;
    int64_t n = 0;
    for (; end != NULL && same_topic(p, end); end = told_next(end))
        n++;
    put_topic_head(a, p);
    put_count(a, n);
    while (p != end) {
        struct fetch_part *next = told_next(p);
        put_partition(a, p);
        p = next;
    }
    put_tags(a);
    return end;
}

static int64_t topics_count(const struct fetch_set *set)
{
    int64_t n = 0;
    const struct fetch_part *before = NULL;
    for (const struct fetch_part *p = told_first(set); p != NULL; before = p, p = told_next(p))
        n += before == NULL || !same_topic(before, p);
    return n;
}

static void put_all(struct answer *a, struct kafka_call *c, struct fetch_set *set)
{
    mqg_dynbuf_be32(a->out, 0);
    kafka_response_head(a->out, kafka_responses[KAFKA_API_FETCH], a->version, c->head.correlation_id);
    a->throttle_at = a->out->len;
    if (a->version >= 1)
        mqg_dynbuf_be32(a->out, 0);
    if (a->version >= 7) {
        mqg_dynbuf_be16(a->out, 0);
        mqg_dynbuf_be32(a->out, set->session ? (uint32_t)set->id : 0);
    }
    put_count(a, topics_count(set));
    for (struct fetch_part *p = told_first(set); p != NULL;)
        p = put_topic(a, p);
    put_tags(a);
}

static void answer_send(struct answer *a, struct mqg_conn *conn)
{
    size_t at = 0;
    for (size_t i = 0; i < a->ncuts; i++) {
        mqg_conn_write(conn, mqg_slice_of(a->out->ptr + at, a->cuts[i].at - at));
        mqg_conn_write_buf(conn, a->cuts[i].part->data, a->cuts[i].part->records);
        at = a->cuts[i].at;
    }
    mqg_conn_write(conn, mqg_slice_of(a->out->ptr + at, a->out->len - at));
}

/* In a session the wait for those that had nothing begins now, and what had something goes behind the others. */
static void answer_over(struct fetch_set *set)
{
    struct fetch_part *end = NULL;
    for (struct fetch_part *p = set->ready, *next; p != NULL && p != end; p = next) {
        next = p->ready_next;
        bool more = p->records.len > 0 || p->code != KAFKA_NONE ||
                    (p->limit > p->offset && p->high > p->offset);
        fetch_part_release(p);
        if (more) {
            end = end != NULL ? end : p;
            fetch_part_ready(p);
        } else {
            fetch_part_unready(p);
            fetch_part_wait(p);
        }
    }
}

void fetch_write(struct kafka_call *c)
{
    struct fetch_set *set = c->owner;
    if (answer_buffer.max == 0)
        mqg_dynbuf_init(&answer_buffer, KAFKA_ARENA_BYTES);
    mqg_dynbuf_reset(&answer_buffer);
    struct answer a = {.out = &answer_buffer,
                       .version = c->head.version,
                       .flexible = c->head.version >= 12,
                       .cuts = mqg_xcalloc(set->nparts + 1, sizeof(struct cut))};
    put_all(&a, c, set);
    uint64_t bytes = answer_buffer.len - 4 + a.record_bytes;
    if (answer_buffer.failed || bytes > INT32_MAX) {
        kafka_conn_fail(c->conn, "an answer to a fetch is too large");
    } else {
        uint32_t throttle_ms = kafka_quota(c->conn, KAFKA_QUOTA_FETCH, bytes);
        mqg_put_be32(answer_buffer.ptr, (uint32_t)bytes);
        if (a.version >= 1)
            mqg_put_be32(answer_buffer.ptr + a.throttle_at, throttle_ms);
        answer_send(&a, c->conn->conn);
        kafka_conn_mute(c->conn, throttle_ms);
    }
    free(a.cuts);
    if (answer_buffer.cap > ANSWER_KEEP)
        mqg_dynbuf_fini(&answer_buffer);
    c->gone = NULL;
    c->owner = NULL;
    set->call = NULL;
    if (set->session)
        answer_over(set);
    else
        fetch_set_free(&set);
}

void kafka_fetch_worker_stop(void)
{
    fetch_down_stop();
    if (answer_buffer.max != 0)
        mqg_dynbuf_fini(&answer_buffer);
}
