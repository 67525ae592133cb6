/* stream.c - partitions and group positions in memory.
 *
 * A partition is an array of batches, each a buffer exactly as it was appended, in offset order. Offsets are given out
 * under the partition's lock in the host, but batches arrive lane by lane: one may come before an earlier one. The array
 * is kept sorted; `ready` of its batches form the contiguous prefix, and the high watermark is where that ends. Readers
 * never see past a gap. What is below the log start leaves the front of the array, which is closed up lazily.
 *
 * One lock for all partitions: each batch of a lane takes it once, and nothing is copied or told under it but the
 * appended bytes themselves. Answers to stream_wait are collected under the lock and told after it. */
#include "memory.h"

#include <mqgate/vec.h>

#include <stdlib.h>

struct mem_batch {
    uint64_t base, end; /* offsets [base, end) */
    uint64_t max_time_ms;
    struct mqg_buf *data;
};

struct mem_stream {
    uint64_t partition;
    uint64_t start, high; /* log start, high watermark */
    uint64_t bytes;       /* of the batches held */
    struct mem_batch *batches;
    size_t first, n, cap; /* batches[first .. first + n) are held */
    size_t ready;         /* of them, contiguous up to `high` */
    struct mqg_stream_conf conf;
    uint64_t *waits; /* offsets that somebody waits to be passed */
    size_t nwait, cap_wait;
};

struct mem_streams {
    pthread_mutex_t lock;
    struct mqg_map streams;   /* partition (8 bytes) -> struct mem_stream */
    struct mqg_map positions; /* partition (8 bytes) and group -> uint64_t */
};

struct mem_streams *mem_streams_new(void)
{
    struct mem_streams *st = mqg_xcalloc(1, sizeof(*st));
    pthread_mutex_init(&st->lock, NULL);
    mqg_map_init(&st->streams, MQG_MAP_BORROW);
    mqg_map_init(&st->positions, MQG_MAP_COPY);
    return st;
}

static struct mqg_slice stream_key(const uint64_t *partition)
{
    return mqg_slice_of(partition, sizeof(*partition));
}

static struct mem_stream *stream_find(struct mem_streams *st, uint64_t partition)
{
    return mqg_map_get(&st->streams, stream_key(&partition));
}

static struct mem_batch *stream_at(const struct mem_stream *m, size_t i)
{
    return &m->batches[m->first + i];
}

static int64_t stream_free(struct mem_stream *m)
{
    int64_t bytes = 0;
    for (size_t i = 0; i < m->n; i++) {
        bytes += stream_at(m, i)->data->len;
        mqg_buf_unref(&stream_at(m, i)->data);
    }
    free(m->batches);
    free(m->waits);
    free(m);
    return bytes;
}

void mem_streams_free(struct mem_streams **streams)
{
    struct mem_streams *st = *streams;
    *streams = NULL;
    for (struct mqg_map_iter it = {.left = 0}; mqg_map_next(&st->streams, &it);)
        stream_free(it.value);
    for (struct mqg_map_iter it = {.left = 0}; mqg_map_next(&st->positions, &it);)
        free(it.value);
    mqg_map_fini(&st->streams);
    mqg_map_fini(&st->positions);
    pthread_mutex_destroy(&st->lock);
    free(st);
}

/* ---- appending ------------------------------------------------------------------------------------------------------ */

/* Room for one batch more behind the last. */
static void stream_grow(struct mem_stream *m)
{
    if (m->first + m->n < m->cap)
        return;
    if (m->first > m->n) { /* more empty than held: close up */
        memmove(m->batches, m->batches + m->first, m->n * sizeof(*m->batches));
        m->first = 0;
        return;
    }
    m->cap = m->cap ? m->cap * 2 : 16;
    m->batches = mqg_xrealloc(m->batches, m->cap * sizeof(*m->batches));
}

/* The high watermark moves over every batch that follows without a gap. */
static void stream_advance(struct mem_stream *m)
{
    while (m->ready < m->n && stream_at(m, m->ready)->base == m->high)
        m->high = stream_at(m, m->ready++)->end;
}

static struct mqg_buf *stream_join(const struct mqg_slice *rope, uint32_t n)
{
    size_t len = 0;
    for (uint32_t i = 0; i < n; i++)
        len += rope[i].len;
    struct mqg_buf *buf = mqg_buf_new(len);
    MQG_ASSERT(buf != NULL); /* the host's frame limit stands far below 2 GiB */
    uint8_t *to = buf->data;
    for (uint32_t i = 0; i < n; to += rope[i++].len)
        if (rope[i].len)
            memcpy(to, rope[i].ptr, rope[i].len);
    return buf;
}

/* A batch that is there already (a retry after AGAIN never is, a replay may be) is left as it was. */
static int64_t stream_append(struct mem_streams *st, const struct mqg_store_op *op)
{
    struct mem_stream *m = stream_find(st, op->append.partition);
    uint64_t base = op->append.base_offset;
    if (!m || op->append.count == 0 || base < m->high)
        return 0;
    size_t at = m->n;
    while (at > m->ready && stream_at(m, at - 1)->base > base)
        at--;
    if (at > m->ready && stream_at(m, at - 1)->end > base)
        return 0;
    stream_grow(m);
    memmove(stream_at(m, at + 1), stream_at(m, at), (m->n - at) * sizeof(*m->batches));
    *stream_at(m, at) = (struct mem_batch){base, base + op->append.count, op->append.max_time_ms,
                                           stream_join(op->append.rope, op->append.nrope)};
    m->n++;
    int64_t len = stream_at(m, at)->data->len;
    m->bytes += (uint64_t)len;
    stream_advance(m);
    return len;
}

/* Batches that lie whole below the new start go; the one that holds it stays. */
static int64_t stream_trim(struct mem_streams *st, uint64_t partition, uint64_t start)
{
    struct mem_stream *m = stream_find(st, partition);
    if (!m || start <= m->start)
        return 0;
    int64_t freed = 0;
    m->start = start < m->high ? start : m->high;
    while (m->ready > 0 && stream_at(m, 0)->end <= m->start) {
        freed -= stream_at(m, 0)->data->len;
        mqg_buf_unref(&stream_at(m, 0)->data);
        m->first++;
        m->n--;
        m->ready--;
    }
    m->bytes -= (uint64_t)-freed;
    return freed;
}

/* Retention, batch by batch, looked at with each append and each setting. A partition at rest keeps what it has. */
static int64_t stream_retain(struct mem_streams *st, uint64_t partition)
{
    struct mem_stream *m = stream_find(st, partition);
    if (!m || (m->conf.cleanup && !(m->conf.cleanup & MQG_CLEANUP_DELETE)))
        return 0;
    uint64_t now_ms = mqg_clock_now().wall_us / 1000, bytes = m->bytes, start = m->start;
    for (size_t i = 0; i < m->ready; i++) {
        const struct mem_batch *b = stream_at(m, i);
        bool large = m->conf.retention_bytes && bytes - b->data->len >= m->conf.retention_bytes;
        bool old = m->conf.retention_ms && b->max_time_ms + m->conf.retention_ms < now_ms;
        if (!large && !old)
            break;
        bytes -= b->data->len;
        start = b->end;
    }
    return stream_trim(st, partition, start);
}

static int64_t stream_configure(struct mem_streams *st, const struct mqg_store_op *op)
{
    struct mem_stream *m = stream_find(st, op->stream_conf.partition);
    if (m)
        m->conf = *op->stream_conf.conf;
    return stream_retain(st, op->stream_conf.partition);
}

static void stream_new(struct mem_streams *st, uint64_t partition)
{
    if (stream_find(st, partition))
        return;
    struct mem_stream *m = mqg_xcalloc(1, sizeof(*m));
    m->partition = partition;
    mqg_map_set(&st->streams, stream_key(&m->partition), m);
}

static int64_t stream_delete(struct mem_streams *st, uint64_t partition)
{
    struct mem_stream *m = mqg_map_del(&st->streams, stream_key(&partition));
    return m ? -stream_free(m) : 0;
}

/* ---- positions ------------------------------------------------------------------------------------------------------ */

static struct mqg_slice position_key(struct mqg_dynbuf *buf, struct mqg_slice group, uint64_t partition)
{
    mqg_dynbuf_init(buf, sizeof(partition) + group.len);
    mqg_dynbuf_le64(buf, partition);
    mqg_dynbuf_slice(buf, group);
    return mqg_dynbuf_view(buf);
}

static void position_set(struct mem_streams *st, const struct mqg_store_op *op)
{
    struct mqg_dynbuf buf;
    struct mqg_slice key = position_key(&buf, op->position.group, op->position.partition);
    uint64_t *at = mqg_map_get(&st->positions, key);
    if (op->position.offset == MQG_OFFSET_NONE) {
        free(mqg_map_del(&st->positions, key));
    } else if (!at) {
        at = mqg_xmalloc(sizeof(*at));
        mqg_map_set(&st->positions, key, at);
        *at = op->position.offset;
    } else {
        *at = op->position.offset;
    }
    mqg_dynbuf_fini(&buf);
}

void mem_position_get(struct mqg_store *s, struct mqg_position_req *req)
{
    struct mqg_dynbuf buf;
    struct mqg_slice key = position_key(&buf, req->group, req->partition);
    pthread_mutex_lock(&s->streams->lock);
    const uint64_t *at = mqg_map_get(&s->streams->positions, key);
    req->err = at ? MQG_OK : MQG_NOT_FOUND;
    if (at)
        req->offset = *at;
    pthread_mutex_unlock(&s->streams->lock);
    mqg_dynbuf_fini(&buf);
    req->done(req);
}

/* ---- a batch of the host -------------------------------------------------------------------------------------------- */

/* Forgets the waits that the high watermark has passed; true when there were any. */
static bool stream_passed(struct mem_stream *m)
{
    size_t kept = 0;
    for (size_t i = 0; i < m->nwait; i++)
        if (m->waits[i] >= m->high)
            m->waits[kept++] = m->waits[i];
    bool passed = kept < m->nwait;
    m->nwait = kept;
    return passed;
}

static void stream_touched(struct mem_streams *st, uint64_t partition, struct mqg_vec *ready)
{
    struct mem_stream *m = stream_find(st, partition);
    if (m && m->nwait > 0 && stream_passed(m))
        mqg_vec_push(ready, (void *)(uintptr_t)partition);
}

static int64_t stream_apply(struct mem_streams *st, const struct mqg_store_op *op, struct mqg_vec *ready)
{
    int64_t bytes = 0;
    switch (op->kind) {
    case MQG_OP_APPEND:
        bytes = stream_append(st, op);
        bytes += stream_retain(st, op->append.partition);
        stream_touched(st, op->append.partition, ready);
        break;
    case MQG_OP_TRIM: bytes = stream_trim(st, op->trim.partition, op->trim.start_offset); break;
    case MQG_OP_STREAM_CONF: bytes = stream_configure(st, op); break;
    case MQG_OP_STREAM_NEW: stream_new(st, op->stream.partition); break;
    case MQG_OP_STREAM_DELETE: bytes = stream_delete(st, op->stream.partition); break;
    case MQG_OP_POSITION: position_set(st, op); break;
    default: break;
    }
    return bytes;
}

static bool stream_concerns(const struct mqg_store_op *op)
{
    return op->kind == MQG_OP_APPEND || op->kind == MQG_OP_TRIM || op->kind == MQG_OP_STREAM_NEW ||
           op->kind == MQG_OP_STREAM_DELETE || op->kind == MQG_OP_POSITION || op->kind == MQG_OP_STREAM_CONF;
}

void mem_streams_apply(struct mqg_store *s, const struct mqg_store_op *ops, size_t n)
{
    size_t i = 0;
    while (i < n && !stream_concerns(&ops[i]))
        i++;
    if (i == n)
        return;
    struct mqg_vec ready = {NULL, 0, 0};
    int64_t bytes = 0;
    pthread_mutex_lock(&s->streams->lock);
    for (; i < n; i++)
        bytes += stream_apply(s->streams, &ops[i], &ready);
    pthread_mutex_unlock(&s->streams->lock);
    mem_charge(s, bytes);
    for (i = 0; i < ready.n; i++)
        s->host.stream_ready(s->host.host, (uint64_t)(uintptr_t)ready.items[i]);
    mqg_vec_fini(&ready);
}

/* ---- reading -------------------------------------------------------------------------------------------------------- */

static uint64_t stream_log_end(const struct mem_stream *m)
{
    return m->n > m->ready ? stream_at(m, m->n - 1)->end : m->high;
}

enum mqg_err mem_stream_bounds(struct mqg_store *s, uint64_t partition, struct mqg_stream_bounds *out)
{
    pthread_mutex_lock(&s->streams->lock);
    const struct mem_stream *m = stream_find(s->streams, partition);
    if (m)
        *out = (struct mqg_stream_bounds){m->start, m->high, stream_log_end(m)};
    pthread_mutex_unlock(&s->streams->lock);
    return m ? MQG_OK : MQG_NOT_FOUND;
}

/* The first readable batch that ends behind the offset, by halving; `ready` when there is none. */
static size_t stream_search(const struct mem_stream *m, uint64_t offset)
{
    size_t low = 0, high = m->ready;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (stream_at(m, mid)->end <= offset)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* Whole batches from the one that holds the offset, at least one. */
static struct mqg_buf *stream_gather(const struct mem_stream *m, size_t at, uint32_t max_bytes,
                                     uint64_t *next)
{
    size_t end = at, len = 0;
    while (end < m->ready && (end == at || len + stream_at(m, end)->data->len <= max_bytes))
        len += stream_at(m, end++)->data->len;
    *next = stream_at(m, end - 1)->end;
    if (end == at + 1)
        return mqg_buf_ref(stream_at(m, at)->data);
    struct mqg_buf *buf = mqg_buf_new(len);
    uint8_t *to = buf ? buf->data : NULL;
    for (size_t i = at; buf && i < end; to += stream_at(m, i++)->data->len)
        memcpy(to, stream_at(m, i)->data->data, stream_at(m, i)->data->len);
    return buf;
}

static enum mqg_err stream_answer(const struct mem_stream *m, struct mqg_stream_read *r)
{
    if (!m)
        return MQG_NOT_FOUND;
    r->high_watermark = m->high;
    r->log_start = m->start;
    if (r->offset < m->start || r->offset > stream_log_end(m))
        return MQG_NOT_FOUND;
    size_t at = stream_search(m, r->offset);
    if (at == m->ready)
        return MQG_OK; /* nothing there yet, or only behind a gap */
    r->data = stream_gather(m, at, r->max_bytes, &r->next_offset);
    return r->data ? MQG_OK : MQG_NO_MEMORY;
}

void mem_stream_read(struct mqg_store *s, struct mqg_stream_read *r)
{
    MQG_CHECK(s, MEM_MAGIC);
    r->data = NULL;
    r->next_offset = r->offset;
    r->high_watermark = r->log_start = 0;
    pthread_mutex_lock(&s->streams->lock);
    r->err = stream_answer(stream_find(s->streams, r->partition), r);
    pthread_mutex_unlock(&s->streams->lock);
    r->done(r);
}

void mem_stream_wait(struct mqg_store *s, uint64_t partition, uint64_t offset)
{
    pthread_mutex_lock(&s->streams->lock);
    struct mem_stream *m = stream_find(s->streams, partition);
    bool ready = m && m->high > offset;
    if (m && !ready) {
        if (m->nwait == m->cap_wait) {
            m->cap_wait = m->cap_wait ? m->cap_wait * 2 : 4;
            m->waits = mqg_xrealloc(m->waits, m->cap_wait * sizeof(*m->waits));
        }
        m->waits[m->nwait++] = offset;
    }
    pthread_mutex_unlock(&s->streams->lock);
    if (ready)
        s->host.stream_ready(s->host.host, partition);
}

static uint64_t stream_time(const struct mem_stream *m, uint64_t time_ms)
{
    for (size_t i = 0; i < m->ready; i++)
        if (stream_at(m, i)->max_time_ms >= time_ms)
            return stream_at(m, i)->base > m->start ? stream_at(m, i)->base : m->start;
    return m->high;
}

void mem_offset_for_time(struct mqg_store *s, struct mqg_time_req *req)
{
    pthread_mutex_lock(&s->streams->lock);
    const struct mem_stream *m = stream_find(s->streams, req->partition);
    req->err = m ? MQG_OK : MQG_NOT_FOUND;
    if (m)
        req->offset = stream_time(m, req->time_ms);
    pthread_mutex_unlock(&s->streams->lock);
    req->done(req);
}

enum mqg_err mem_stream_stats(struct mqg_store *s, uint64_t partition, struct mqg_stream_stats *out)
{
    *out = (struct mqg_stream_stats){.segments = 0};
    pthread_mutex_lock(&s->streams->lock);
    const struct mem_stream *m = stream_find(s->streams, partition);
    if (m) {
        out->bounds = (struct mqg_stream_bounds){m->start, m->high, stream_log_end(m)};
        out->bytes = m->bytes;
    }
    pthread_mutex_unlock(&s->streams->lock);
    return m ? MQG_OK : MQG_NOT_FOUND;
}
