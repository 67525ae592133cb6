/* conn_out.c - how bytes go out: a chain of chunks and of references to messages, written once per turn.
 *
 *   head -> [chunk 16 KiB: frames] -> [a message's body, not copied] -> [chunk: frames ...] <- tail
 *
 * Handlers write into the tail chunk without knowing of sockets. In the WRITE phase each dirty connection makes one
 * writev of its chain. A peer that does not read makes the chain grow: above the high mark deliveries stop (the
 * handler asks mqg_conn_out_full), far above it no more requests are read, and at the hard limit, which only answers
 * can reach, the connection is aborted. Many such peers together are worse than one, so the marks fall when a worker's
 * connections hold more than its share. Chunks come from a pool of the worker, so idle connections hold none. */
#include "conn_int.h"

#include <mqgate/obs.h>

#include <errno.h>
#include <stdlib.h>

enum { CONN_IOV_MAX = 64, CONN_CHUNKS_KEPT = 64, CONN_TURN_BYTES = 1 << 20 };

struct conn_node {
    struct conn_node *next;
    struct mqg_msg *msg; /* the bytes lie in it, */
    struct mqg_buf *buf; /* or in it; both NULL: in data */
    const uint8_t *ptr;
    uint32_t start, end, cap;
    uint8_t data[];
};

static bool conn_node_refers(const struct conn_node *node)
{
    return node->msg != NULL || node->buf != NULL;
}

#define CONN_CHUNK_ROOM (CONN_CHUNK_BYTES - (uint32_t)sizeof(struct conn_node))

/* ---- nodes --------------------------------------------------------------------------------------------------------------- */

static struct conn_node *conn_chunk_new(struct conn_worker *cw, size_t n)
{
    struct conn_node *node = n <= CONN_CHUNK_ROOM ? cw->chunks : NULL;
    uint32_t cap = n <= CONN_CHUNK_ROOM ? CONN_CHUNK_ROOM : (uint32_t)n;
    if (node != NULL) {
        cw->chunks = node->next;
        cw->nchunks--;
    } else {
        node = mqg_xmalloc(sizeof *node + cap);
    }
    *node = (struct conn_node){.ptr = node->data, .cap = cap};
    return node;
}

static void conn_node_free(struct conn_worker *cw, struct conn_node *node)
{
    if (conn_node_refers(node) || node->cap != CONN_CHUNK_ROOM || cw->nchunks >= CONN_CHUNKS_KEPT) {
        mqg_msg_unref(&node->msg);
        mqg_buf_unref(&node->buf);
        free(node);
        return;
    }
    node->next = cw->chunks;
    cw->chunks = node;
    cw->nchunks++;
}

void conn_output_worker_free(struct conn_worker *cw)
{
    while (cw->chunks != NULL) {
        struct conn_node *node = cw->chunks;
        cw->chunks = node->next;
        free(node);
    }
}

static void conn_append(struct mqg_conn *c, struct conn_node *node)
{
    if (c->out_tail != NULL)
        c->out_tail->next = node;
    else
        c->out_head = node;
    c->out_tail = node;
}

static void conn_pop(struct mqg_conn *c)
{
    struct conn_node *node = c->out_head;
    c->out_head = node->next;
    if (c->out_head == NULL)
        c->out_tail = NULL;
    if (!conn_node_refers(node)) {
        c->out_copied -= node->end;
        conn_worker_of(c->w)->out_bytes -= node->end;
    }
    conn_node_free(conn_worker_of(c->w), node);
}

void conn_output_fini(struct mqg_conn *c)
{
    while (c->out_head != NULL)
        conn_pop(c);
    c->out_pending = 0;
}

void conn_dirty_later(struct mqg_conn *c)
{
    struct conn_worker *cw = conn_worker_of(c->w);
    if (c->dirty_queued)
        return;
    c->dirty_queued = true;
    c->dirty_next = NULL;
    *cw->dirty_end = c;
    cw->dirty_end = &c->dirty_next;
}

/* ---- what handlers write -------------------------------------------------------------------------------------------------- */

static uint8_t *conn_scratch(struct mqg_conn *c)
{
    struct conn_worker *cw = conn_worker_of(c->w);
    if (cw->scratch == NULL)
        cw->scratch = mqg_xmalloc(CONN_RESERVE_MAX);
    c->out_scratch = true;
    return cw->scratch;
}

uint8_t *mqg_conn_reserve(struct mqg_conn *c, size_t n)
{
    MQG_CHECK(c, CONN_MAGIC);
    MQG_ASSERT(n <= CONN_RESERVE_MAX);
    if (MQG_UNLIKELY(c->state != CONN_OPEN))
        return conn_scratch(c);
    c->out_scratch = false;
    struct conn_node *tail = c->out_tail;
    if (MQG_UNLIKELY(tail == NULL || conn_node_refers(tail) || tail->cap - tail->end < n)) {
        tail = conn_chunk_new(conn_worker_of(c->w), n);
        conn_append(c, tail);
    }
    return tail->data + tail->end;
}

static void conn_too_much(struct mqg_conn *c)
{
    mqg_log(MQG_LOG_INFO, MQG_EVENT_CONN_CLOSE, "conn=%llu peer=%s:%u why=output_not_read pending=%zu",
            (unsigned long long)c->info.id, c->info.peer_host, c->info.peer_port, c->out_pending);
    mqg_conn_abort(c);
}

static void conn_grown(struct mqg_conn *c, size_t n)
{
    c->out_pending += n;
    if (!c->dirty_queued)
        conn_dirty_later(c);
    if (MQG_LIKELY(c->out_pending <= CONN_OUT_LOW))
        return;
    bool crowded = conn_worker_of(c->w)->out_bytes > CONN_OUT_SHARE;
    if (MQG_LIKELY(c->out_pending <= CONN_OUT_HIGH && !crowded))
        return;
    c->out_full = true;
    if (c->out_pending > (crowded ? CONN_OUT_HIGH : CONN_OUT_PAUSE) && !c->out_paused) {
        c->out_paused = true;
        mqg_conn_pause(c, MQG_PAUSE_OUTPUT, true);
    }
    if (c->out_copied > CONN_OUT_HARD)
        conn_too_much(c);
}

void mqg_conn_commit(struct mqg_conn *c, size_t n)
{
    if (MQG_UNLIKELY(c->out_scratch))
        return;
    struct conn_node *tail = c->out_tail;
    MQG_ASSERT(tail != NULL && n <= tail->cap - tail->end);
    tail->end += (uint32_t)n;
    c->out_copied += n;
    conn_worker_of(c->w)->out_bytes += n;
    conn_grown(c, n);
}

void mqg_conn_write(struct mqg_conn *c, struct mqg_slice s)
{
    while (s.len > 0) {
        size_t n = s.len < CONN_RESERVE_MAX ? s.len : CONN_RESERVE_MAX;
        memcpy(mqg_conn_reserve(c, n), s.ptr, n);
        mqg_conn_commit(c, n);
        s = mqg_slice_of(s.ptr + n, s.len - n);
    }
}

/* A node for bytes that lie elsewhere; the caller fills in where. */
static struct conn_node *conn_refer(struct mqg_conn *c, struct mqg_slice part)
{
    MQG_ASSERT(part.len <= UINT32_MAX);
    struct conn_node *node = mqg_xmalloc(sizeof *node);
    *node = (struct conn_node){.ptr = part.ptr, .end = (uint32_t)part.len, .cap = (uint32_t)part.len};
    conn_append(c, node);
    conn_grown(c, part.len);
    return node;
}

void mqg_conn_write_msg(struct mqg_conn *c, struct mqg_msg *m, struct mqg_slice part)
{
    MQG_CHECK(m, MQG_MSG_MAGIC);
    if (part.len < CONN_REF_MIN) {
        mqg_conn_write(c, part);
        return;
    }
    if (c->state == CONN_OPEN)
        conn_refer(c, part)->msg = mqg_msg_ref(m);
}

void mqg_conn_write_buf(struct mqg_conn *c, struct mqg_buf *b, struct mqg_slice part)
{
    if (part.len < CONN_REF_MIN)
        mqg_conn_write(c, part);
    else if (c->state == CONN_OPEN)
        conn_refer(c, part)->buf = mqg_buf_ref(b);
}

size_t mqg_conn_out_pending(const struct mqg_conn *c)
{
    return c->out_pending;
}

/* Once full, until MQG_EV_WRITABLE. */
bool mqg_conn_out_full(const struct mqg_conn *c)
{
    return c->out_full;
}

/* ---- writing ----------------------------------------------------------------------------------------------------------------- */

static int conn_gather(const struct mqg_conn *c, struct iovec *iov)
{
    int n = 0;
    for (struct conn_node *node = c->out_head; node != NULL && n < CONN_IOV_MAX; node = node->next) {
        if (node->end == node->start)
            continue;
        iov[n].iov_base = (void *)(uintptr_t)(node->ptr + node->start);
        iov[n++].iov_len = node->end - node->start;
    }
    return n;
}

static void conn_sent(struct mqg_conn *c, size_t n)
{
    c->out_pending -= n;
    c->bytes_out += n;
    c->last_write_ms = c->w->pub.now.mono_ms;
    mqg_count(MQG_COUNT_BYTES_OUT, n);
    MQG_TRACE("io", c->info.id, "conn=%llu wrote=%zu unsent=%zu", (unsigned long long)c->info.id, n,
              c->out_pending);
    while (c->out_head != NULL) {
        struct conn_node *node = c->out_head;
        size_t here = node->end - node->start;
        if (n < here) {
            node->start += (uint32_t)n;
            return;
        }
        n -= here;
        conn_pop(c);
    }
}

static void conn_wait_writable(struct mqg_conn *c)
{
    c->out_wait = event_add(&c->write_event, NULL) == 0;
}

static void conn_write_failed(struct mqg_conn *c)
{
    mqg_log(MQG_LOG_DEBUG, MQG_EVENT_CONN_CLOSE, "conn=%llu peer=%s:%u why=%s",
            (unsigned long long)c->info.id, c->info.peer_host, c->info.peer_port, mqg_logqs(strerror(errno)));
    mqg_conn_abort(c);
}

/* Until the chain is empty, the socket full, or the connection had its share of the turn. */
static void conn_flush(struct mqg_conn *c)
{
    struct iovec iov[CONN_IOV_MAX];
    size_t share = CONN_TURN_BYTES;
    while (c->out_pending > 0) {
        int n = conn_gather(c, iov);
        size_t all = 0;
        for (int i = 0; i < n; i++)
            all += iov[i].iov_len;
        ssize_t sent = io_filter_writev(c->filter, iov, n);
        if (sent < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
            conn_write_failed(c);
            return;
        }
        if (sent > 0)
            conn_sent(c, (size_t)sent);
        if (sent < (ssize_t)all || (size_t)sent >= share) {
            conn_wait_writable(c); /* others first */
            return;
        }
        share -= (size_t)sent;
    }
    conn_output_fini(c);
}

/* Below the low mark again: true when the handler was told. */
static bool conn_relieved(struct mqg_conn *c)
{
    if (!c->out_full || c->out_pending > CONN_OUT_LOW)
        return false;
    c->out_full = false;
    if (c->out_paused) {
        c->out_paused = false;
        mqg_conn_pause(c, MQG_PAUSE_OUTPUT, false);
    }
    if (c->state != CONN_OPEN || c->ops->event == NULL)
        return false;
    c->ops->event(c, MQG_EV_WRITABLE, MQG_SLICE_NONE);
    return true;
}

static bool conn_write(struct mqg_conn *c)
{
    if (c->state == CONN_DEAD || c->state == CONN_LINGER || c->out_wait)
        return false;
    conn_flush(c);
    if (c->state == CONN_CLOSING && c->out_pending == 0)
        conn_end_later(c);
    return conn_relieved(c);
}

/* MQG_PHASE_WRITE. true when a handler may have something to deliver again. */
bool conn_write_phase(struct mqg_worker *w)
{
    struct conn_worker *cw = conn_worker_of(io_worker_of(w));
    struct mqg_conn *c = cw->dirty, *next;
    cw->dirty = NULL;
    cw->dirty_end = &cw->dirty;
    bool more = false;
    for (; c != NULL; c = next) {
        next = c->dirty_next;
        c->dirty_queued = false;
        more |= conn_write(c);
    }
    return more;
}
