/* Consumers. Each has a fetch session: after the first fetch it names the partitions of which it took something, and only them. What
 * came is checked where it lies. */
#include "kafkaload_peer.h"

#include <errno.h>
#include <sys/socket.h>

static void consumer_begin(struct run *r, struct peer *p)
{
    struct text t = fetch_begin(p->out, r->job->wait_ms, r->job->fetch_bytes, (uint32_t)p->session,
                                (uint32_t)p->epoch);
    p->list_at = (size_t)(t.at - p->out);
    text_32(&t, 0);
    p->out_len = (size_t)(t.at - p->out);
    p->out_at = 0;
    p->epoch++;
}

static void consumer_want(struct run *r, struct peer *p, uint32_t at)
{
    struct text t = {p->out + p->out_len, p->out};
    if (get32(p->out + p->list_at) == 0) {
        text_string(&t, r->job->topic);
        text_32(&t, 0);
        put32(p->out + p->list_at, 1);
    }
    uint8_t *count = p->out + p->list_at + 4 + 2 + strlen(r->job->topic);
    put32(count, get32(count) + 1);
    fetch_row(&t, at, r->parts[at].got * r->model.count, r->job->partition_bytes);
    p->out_len = (size_t)(t.at - p->out);
}

void consumer_flush(struct peer *p)
{
    while (p->out_at < p->out_len) {
        ssize_t n = send(p->fd, p->out + p->out_at, p->out_len - p->out_at, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0)
            die("send");
        p->out_at += (size_t)n;
    }
}

static void consumer_end(struct peer *p)
{
    struct text t = {p->out + p->out_len, p->out};
    fetch_rest(&t);
    p->out_len = text_end(&t);
    consumer_flush(p);
}

void consumer_open(struct run *r, struct peer *p, uint32_t first, uint32_t count)
{
    size_t in = r->job->role == ROLE_POLLS ? 65536 : (size_t)r->job->fetch_bytes + SETUP_BYTES * 4;
    *p = (struct peer){.poll_first = first, .poll_count = count};
    peer_connect(p, r->job, in);
    p->out = room(1024 + (size_t)count * FETCH_ROW);
}

void consumer_start(struct run *r, struct peer *p)
{
    p->session = p->epoch = 0;
    consumer_begin(r, p);
    for (uint32_t i = 0; i < p->poll_count; i++)
        consumer_want(r, p, p->poll_first + i);
    consumer_end(p);
}

/* Is it the batch that is due? Compared whole now and then; its number and offset are the receiver's to know. */
static void batch_check(struct run *r, struct part *part, const uint8_t *b, size_t len)
{
    const struct model *m = &r->model;
    uint8_t due[STAMP];
    put64(due, part->got);
    if (len != m->len || get64(b) != part->got * m->count || get32(b + 57) != m->count ||
        memcmp(b + m->stamp_at, due, STAMP) != 0) {
        r->misordered++;
    } else if (get32(b + AT_CRC) != model_sum(m, due)) {
        r->corrupt++;
    } else if (part->got % r->job->sample == 0) {
        r->sampled++;
        r->corrupt += memcmp(b + AT_SUMMED, m->bytes + AT_SUMMED, m->stamp_at - AT_SUMMED) != 0 ||
                      memcmp(b + m->stamp_at + STAMP, m->bytes + m->stamp_at + STAMP,
                             m->len - m->stamp_at - STAMP) != 0;
    }
    part->got++;
    r->got++;
}

/* Whole batches; a last one that is cut comes again. */
static bool batches_check(struct run *r, struct part *part, const uint8_t *b, size_t n)
{
    bool some = false;
    while (n >= BATCH_HEAD && n >= 12 + (size_t)get32(b + 8)) {
        size_t len = 12 + (size_t)get32(b + 8);
        batch_check(r, part, b, len);
        b += len;
        n -= len;
        some = true;
    }
    return some;
}

static bool consumer_partition(struct run *r, struct peer *p, struct view *v)
{
    struct fetched f = fetch_row_read(v);
    if (f.code != 0 || f.partition >= r->job->partitions)
        fail("a fetch was refused", f.code);
    if (!batches_check(r, &r->parts[f.partition], f.records, f.len))
        return false;
    consumer_want(r, p, f.partition);
    return true;
}

static void consumer_answer(struct run *r, struct peer *p, struct view v)
{
    bool some = false;
    view_32(&v);
    int16_t code = view_16(&v);
    if (code != 0)
        fail("a fetch was refused", code);
    p->session = view_32(&v);
    p->epoch = p->session != 0 ? p->epoch : 0;
    consumer_begin(r, p);
    for (int32_t topics = view_32(&v); topics > 0; topics--) {
        view_string(&v);
        for (int32_t n = view_32(&v); n > 0; n--)
            some = consumer_partition(r, p, &v) || some;
    }
    if (p->session == 0)
        fail("the server keeps no fetch session", 0);
    r->polls += !some;
    consumer_end(p);
}

void consumer_read(struct run *r, struct peer *p)
{
    struct view v;
    while (peer_recv(p)) {
        size_t at = 0;
        while (peer_next(p, &at, &v))
            consumer_answer(r, p, v);
        peer_shift(p, at);
    }
}
