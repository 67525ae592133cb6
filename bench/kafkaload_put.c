/* Producers. Each has a ring of requests that are built once: a request's batches get their numbers where they lie, it is written
 * from there, and its slot is free again when its answer came. */
#include "kafkaload_peer.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { IOV_MAX_OWN = 64 };

static size_t slot_stride(const struct run *r)
{
    return 8 + r->model.len;
}

static void slot_build(struct run *r, struct slot *s, uint32_t batches)
{
    s->bytes = room(256 + batches * slot_stride(r));
    struct text t = text_begin(s->bytes, PRODUCE, 7);
    text_16(&t, UINT16_MAX); /* no transaction */
    text_16(&t, (uint16_t)r->job->acks);
    text_32(&t, STALL_S * 1000);
    text_32(&t, 1);
    text_string(&t, r->job->topic);
    text_32(&t, batches);
    s->tail = t.at;
    for (uint32_t i = 0; i < batches; i++) {
        text_32(&t, 0);
        text_32(&t, (uint32_t)r->model.len);
        memcpy(t.at, r->model.bytes, r->model.len);
        t.at += r->model.len;
    }
    s->len = text_end(&t);
}

static uint32_t per_request(const struct run *r, const struct peer *p)
{
    return r->job->per_request < p->count ? r->job->per_request : p->count;
}

void producer_open(struct run *r, struct peer *p, uint32_t first, uint32_t count)
{
    p->first = first;
    p->count = count;
    peer_connect(p, r->job, SETUP_BYTES);
    p->slots = room(r->job->inflight * sizeof *p->slots);
    for (unsigned i = 0; i < r->job->inflight; i++)
        slot_build(r, &p->slots[i], per_request(r, p));
}

static void producer_put(struct run *r, struct peer *p)
{
    struct slot *s = &p->slots[p->put % r->job->inflight];
    uint32_t n = per_request(r, p);
    s->done = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = p->first + (p->next + i) % p->count;
        uint8_t *entry = s->tail + i * slot_stride(r);
        put32(entry, at);
        model_stamp(&r->model, entry + 8, r->parts[at].sent++);
    }
    p->next = (p->next + n) % p->count;
    p->put++;
    r->sent += n;
}

void producer_flush(struct run *r, struct peer *p)
{
    while (p->sent < p->put) {
        struct iovec iov[IOV_MAX_OWN];
        int n = 0;
        for (uint64_t i = p->sent; i < p->put && n < IOV_MAX_OWN; i++) {
            struct slot *s = &p->slots[i % r->job->inflight];
            iov[n++] = (struct iovec){s->bytes + s->done, s->len - s->done};
        }
        struct msghdr m = {.msg_iov = iov, .msg_iovlen = (size_t)n};
        ssize_t done = sendmsg(p->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (done < 0 && errno == EAGAIN)
            return;
        if (done < 0)
            die("send");
        while (done > 0) {
            struct slot *s = &p->slots[p->sent % r->job->inflight];
            size_t part = s->len - s->done < (size_t)done ? s->len - s->done : (size_t)done;
            s->done += part;
            done -= (ssize_t)part;
            p->sent += s->done == s->len;
        }
    }
}

void producer_fill(struct run *r, struct peer *p)
{
    uint64_t lag = r->job->lag_bytes / r->model.len + per_request(r, p);
    while (p->put - p->answered < r->job->inflight && (!r->fetching || r->sent - r->got < lag))
        producer_put(r, p);
    producer_flush(r, p);
}

static void producer_answer(struct run *r, struct peer *p, struct view v)
{
    view_32(&v);
    view_string(&v);
    int32_t n = view_32(&v);
    if (n != (int32_t)per_request(r, p))
        fail("an answer has not the partitions of its request", n);
    for (int32_t i = 0; i < n; i++) { /* in the server's order */
        uint32_t at = (uint32_t)view_32(&v);
        int16_t code = view_16(&v);
        uint64_t offset = (uint64_t)view_64(&v);
        view_take(&v, 16);
        if (code != 0 || at - p->first >= p->count)
            fail("a batch was refused", code);
        r->misordered += offset != r->parts[at].acked * r->model.count;
        r->parts[at].acked++;
    }
    p->answered++;
    r->acked += (uint64_t)n;
}

void producer_read(struct run *r, struct peer *p)
{
    struct view v;
    while (peer_recv(p)) {
        size_t at = 0;
        while (peer_next(p, &at, &v))
            producer_answer(r, p, v);
        peer_shift(p, at);
    }
}
