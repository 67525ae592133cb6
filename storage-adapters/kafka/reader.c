/* reader.c - the thread that reads: from any offset, as record batches with the engine's own offsets.
 *
 * A read asks for what lies below the high watermark, so it is answered soon: nothing here is a long poll (the host waits
 * with stream_wait). Each partition that is read has one fetch under way; a read that goes on where the last one ended
 * takes what is already there, any other one begins the fetch anew. At most FETCHES_MAX are open, the one not used longest
 * is closed for the next; and all are closed when nobody has read for a second.
 *
 * Offsets that the engine left out (transaction markers, compaction) are gaps in the batches given out, which the format
 * allows. Where nothing else is left below the high watermark the answer has no data and a next_offset beyond the gap. */
#include "kafka.h"
#include "record.h"

#include <stdlib.h>
#include <time.h>

enum { FETCHES_MAX = 16, READ_BYTES_MAX = 128 << 20, POLL_MS = 100, IDLE_MS = 1000 };

void kfk_stream_read(struct mqg_store *s, struct mqg_stream_read *r)
{
    MQG_CHECK(s, KFK_MAGIC);
    r->data = NULL;
    r->next_offset = r->offset;
    r->high_watermark = r->log_start = 0;
    r->next = NULL;
    pthread_mutex_lock(&s->lock);
    bool over = !s->running || atomic_load(&s->stopping);
    if (!over) {
        *s->reads_last = r;
        s->reads_last = &r->next;
        pthread_cond_signal(&s->reader_has);
    }
    pthread_mutex_unlock(&s->lock);
    if (over) {
        r->err = MQG_CLOSED;
        r->done(r);
    }
}

/* ---- fetches ----------------------------------------------------------------------------------------------------------- */

static void reader_stop_fetch(struct kfk_part *p)
{
    if (p->kept)
        rd_kafka_message_destroy(p->kept);
    p->kept = NULL;
    if (p->fetching)
        rd_kafka_consume_stop(p->in, p->index);
    p->fetching = false;
}

void kfk_reader_forget(struct kfk_part *p)
{
    reader_stop_fetch(p);
    if (p->in)
        rd_kafka_topic_destroy(p->in);
    p->in = NULL;
}

/* Closes the fetch used longest ago when there are too many. Parts are only added, at the list's end. */
static void reader_make_room(struct mqg_store *s)
{
    struct kfk_part *oldest = NULL;
    uint32_t n = 0;
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->all.n; i++) {
        struct kfk_part *p = s->all.items[i];
        if (!p->fetching)
            continue;
        n++;
        if (!oldest || p->used < oldest->used)
            oldest = p;
    }
    pthread_mutex_unlock(&s->lock);
    if (n >= FETCHES_MAX)
        reader_stop_fetch(oldest);
}

static bool reader_begin(struct mqg_store *s, struct kfk_part *p, uint64_t offset)
{
    static _Thread_local uint64_t counter;
    p->used = ++counter;
    if (p->fetching && p->at == offset)
        return true;
    reader_stop_fetch(p);
    reader_make_room(s);
    if (!p->in)
        p->in = rd_kafka_topic_new(s->consumer, p->topic, NULL);
    p->fetching = p->in && rd_kafka_consume_start(p->in, p->index, (int64_t)offset) == 0;
    p->at = offset;
    return p->fetching;
}

/* ---- records ----------------------------------------------------------------------------------------------------------- */

static struct mqg_slice reader_slice(const void *ptr, size_t len)
{
    return mqg_slice_of(ptr, ptr ? len : 0);
}

static void reader_record(const rd_kafka_message_t *m, struct kfk_record *r, struct kfk_header *headers)
{
    rd_kafka_timestamp_type_t type;
    rd_kafka_headers_t *hdrs;
    *r = (struct kfk_record){
        .offset = (uint64_t)m->offset,
        .time_ms = rd_kafka_message_timestamp(m, &type),
        .null_key = m->key == NULL,
        .null_value = m->payload == NULL,
        .key = reader_slice(m->key, m->key_len),
        .value = reader_slice(m->payload, m->len),
        .headers = headers,
    };
    r->append_time = type == RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME;
    if (rd_kafka_message_headers(m, &hdrs) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return;
    const char *name;
    const void *value;
    size_t size;
    while (r->nheader < KFK_HEADERS_MAX &&
           rd_kafka_header_get_all(hdrs, r->nheader, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR)
        headers[r->nheader++] = (struct kfk_header){mqg_slice_str(name), reader_slice(value, size),
                                                    value == NULL};
}

/* No less than what the record takes in a batch. */
static size_t reader_cost(const struct kfk_record *r)
{
    size_t cost = 40 + r->key.len + r->value.len;
    for (uint32_t i = 0; i < r->nheader; i++)
        cost += 10 + r->headers[i].name.len + r->headers[i].value.len;
    return cost;
}

struct reading {
    struct mqg_store *s;
    struct kfk_part *p;
    struct mqg_stream_read *r;
    struct kfk_encoder e;
    struct kfk_header headers[KFK_HEADERS_MAX];
};

/* True when the message was taken; false: it is kept for the next read, this one is full. */
static bool reading_take(struct reading *g, const rd_kafka_message_t *m)
{
    struct kfk_record rec;
    if ((uint64_t)m->offset < g->p->at)
        return true;
    reader_record(m, &rec, g->headers);
    bool full = g->e.count > 0 &&
                (g->e.out.len + reader_cost(&rec) > g->r->max_bytes || rec.append_time != g->e.append_time);
    if (full || rec.offset >= g->r->high_watermark || !kfk_encoder_add(&g->e, &rec))
        return false;
    g->p->at = rec.offset + 1;
    return true;
}

/* The engine refused the offset. Either the log's front has moved over it, or this was an answer to a fetch that began
 * before (a leader that changed): then the fetch is begun anew. */
static enum mqg_err reading_refused(struct reading *g)
{
    int64_t low, high;
    reader_stop_fetch(g->p);
    if (rd_kafka_query_watermark_offsets(g->s->consumer, g->p->topic, g->p->index, &low, &high,
                                         g->s->timeout_ms))
        return MQG_IO;
    pthread_mutex_lock(&g->s->lock);
    g->p->start = g->r->log_start = (uint64_t)low;
    pthread_mutex_unlock(&g->s->lock);
    if (g->r->offset < (uint64_t)low)
        return MQG_NOT_FOUND;
    return reader_begin(g->s, g->p, g->r->offset) ? MQG_OK : MQG_IO;
}

enum reading_step { STEP_ON, STEP_END, STEP_REFUSED };

static enum reading_step reading_message(struct reading *g, rd_kafka_message_t *m)
{
    enum reading_step step = STEP_ON;
    if (!m->err) {
        if (!reading_take(g, m)) {
            g->p->kept = m;
            return STEP_END;
        }
    } else if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        if (g->e.count == 0 && (uint64_t)m->offset > g->p->at) { /* only markers there */
            g->p->at = (uint64_t)m->offset;
            step = STEP_END;
        }
    } else if (m->err == RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE ||
               m->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET) {
        step = STEP_REFUSED;
    }
    rd_kafka_message_destroy(m);
    return step;
}

static enum mqg_err reading_run(struct reading *g)
{
    uint64_t until = mqg_clock_mono_us() + (uint64_t)g->s->timeout_ms * 1000;
    enum reading_step step = STEP_ON;
    while (step != STEP_END && !kfk_over(g->s)) {
        rd_kafka_message_t *m = g->p->kept;
        g->p->kept = NULL;
        if (!m)
            m = rd_kafka_consume(g->p->in, g->p->index, g->e.count ? 0 : POLL_MS);
        if (m)
            step = reading_message(g, m);
        else if (g->e.count)
            break;
        else
            step = STEP_ON;
        if (step == STEP_REFUSED && g->e.count > 0)
            break;
        enum mqg_err err = step == STEP_REFUSED ? reading_refused(g) : MQG_OK;
        if (err != MQG_OK)
            return err;
        if ((!m || step == STEP_REFUSED) && mqg_clock_mono_us() > until)
            return MQG_AGAIN; /* the engine is away */
        if (g->p->at >= g->r->high_watermark)
            break;
    }
    g->r->data = kfk_encoder_end(&g->e);
    g->r->next_offset = g->p->at;
    return MQG_OK;
}

static enum mqg_err reader_answer(struct mqg_store *s, struct mqg_stream_read *r)
{
    pthread_mutex_lock(&s->lock);
    struct kfk_part *p = kfk_part_find(s, r->partition);
    bool known = p && p->ready;
    if (known) {
        r->high_watermark = p->high;
        r->log_start = p->start;
    }
    pthread_mutex_unlock(&s->lock);
    if (!known || r->offset < r->log_start || r->offset > r->high_watermark)
        return MQG_NOT_FOUND;
    if (r->offset == r->high_watermark)
        return MQG_OK;
    if (!reader_begin(s, p, r->offset))
        return MQG_IO;
    struct reading *g = mqg_xmalloc(sizeof(*g));
    g->s = s;
    g->p = p;
    g->r = r;
    kfk_encoder_init(&g->e, READ_BYTES_MAX);
    enum mqg_err err = reading_run(g);
    kfk_encoder_fini(&g->e);
    free(g);
    return err;
}

/* ---- the thread -------------------------------------------------------------------------------------------------------- */

static void reader_idle(struct mqg_store *s)
{
    for (size_t i = 0;; i++) {
        pthread_mutex_lock(&s->lock);
        struct kfk_part *p = i < s->all.n ? s->all.items[i] : NULL;
        pthread_mutex_unlock(&s->lock);
        if (!p)
            return;
        reader_stop_fetch(p);
    }
}

/* The next read; NULL at the store's end, or with *idle when none has come for a while. */
static struct mqg_stream_read *reader_next(struct mqg_store *s, bool *over, bool *idle)
{
    struct timespec until = mqg_wait_until(IDLE_MS);
    int waited = 0;
    pthread_mutex_lock(&s->lock);
    while (!s->reads && !atomic_load(&s->stopping) && waited == 0)
        waited = *idle ? pthread_cond_wait(&s->reader_has, &s->lock)
                       : pthread_cond_timedwait(&s->reader_has, &s->lock, &until);
    *over = atomic_load(&s->stopping);
    *idle = waited != 0;
    struct mqg_stream_read *r = s->reads;
    if (r) {
        s->reads = r->next;
        if (!s->reads)
            s->reads_last = &s->reads;
    }
    pthread_mutex_unlock(&s->lock);
    return r;
}

void *kfk_reader_run(void *store)
{
    struct mqg_store *s = store;
    bool over = false, idle = true;
    while (!over) {
        struct mqg_stream_read *r = reader_next(s, &over, &idle);
        if (r) {
            r->err = over ? MQG_CLOSED : reader_answer(s, r);
            r->done(r);
            over = false; /* until no read is left */
        } else if (idle) {
            reader_idle(s);
        }
    }
    return NULL;
}
