/* Connections to the server, and the topic of the run. */
#include "kafkaload_peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { PARTITIONS_AT_ONCE = 5000 };

void peer_connect(struct peer *p, const struct job *j, size_t in_cap)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)j->port)};
    int on = 1;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    p->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    p->in_cap = in_cap;
    p->in = malloc(in_cap);
    if (p->fd < 0 || p->in == NULL || connect(p->fd, (struct sockaddr *)&to, sizeof to) != 0)
        die("connect");
    setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

void peer_watch(struct run *r, struct peer *p)
{
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = p};
    if (epoll_ctl(r->epoll, EPOLL_CTL_ADD, p->fd, &e) != 0)
        die("epoll_ctl");
}

bool peer_recv(struct peer *p)
{
    ssize_t n = recv(p->fd, p->in + p->in_len, p->in_cap - p->in_len, MSG_DONTWAIT);
    if (n == 0)
        fail("the server closed a connection", 0);
    if (n < 0 && errno != EAGAIN)
        die("recv");
    p->in_len += n > 0 ? (size_t)n : 0;
    return n > 0;
}

/* The answer at *at, without its length and number; false: not all there. */
bool peer_next(struct peer *p, size_t *at, struct view *v)
{
    if (p->in_len - *at < 4)
        return false;
    size_t n = get32(p->in + *at);
    if (n < 4 || n + 4 > p->in_cap)
        fail("an answer is too long for its buffer", (int)n);
    if (p->in_len - *at < n + 4)
        return false;
    *v = (struct view){p->in + *at + 8, p->in + *at + 4 + n};
    *at += n + 4;
    return true;
}

void peer_shift(struct peer *p, size_t at)
{
    memmove(p->in, p->in + at, p->in_len - at);
    p->in_len -= at;
}

/* One request and its answer, waited for. The view holds until the next one. */
struct view peer_ask(struct peer *p, const uint8_t *bytes, size_t n)
{
    struct view v;
    size_t at = 0;
    double limit = now_s() + SETUP_S;
    struct timeval wait = {1, 0};
    setsockopt(p->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    for (size_t done = 0; done < n;) {
        ssize_t w = send(p->fd, bytes + done, n - done, MSG_NOSIGNAL);
        if (w < 0)
            die("send");
        done += (size_t)w;
    }
    p->in_len = 0;
    while (!peer_next(p, &at, &v)) {
        ssize_t got = recv(p->fd, p->in + p->in_len, p->in_cap - p->in_len, 0);
        if (got == 0 || (got < 0 && errno != EAGAIN))
            die("no answer");
        p->in_len += got > 0 ? (size_t)got : 0;
        if (now_s() > limit)
            fail("no answer in time", 0);
    }
    p->in_len = 0;
    return v;
}

/* ---- the topic ----------------------------------------------------------------------------------------------------- */

/* The answers to the making of topics and of partitions begin alike. */
static void topic_answer(struct view v, const char *what)
{
    view_32(&v);
    view_32(&v);
    view_string(&v);
    int16_t code = view_16(&v);
    if (code != 0)
        fail(what, code);
}

static void topic_create(struct run *r, struct peer *p)
{
    uint8_t bytes[1024];
    uint32_t n = r->job->partitions;
    struct text t = text_begin(bytes, CREATE_TOPICS, 2);
    text_32(&t, 1);
    text_string(&t, r->job->topic);
    text_32(&t, n < PARTITIONS_AT_ONCE ? n : PARTITIONS_AT_ONCE);
    text_16(&t, 1);
    text_32(&t, 0);
    char config[sizeof r->job->config];
    memcpy(config, r->job->config, sizeof config);
    char *value = strchr(config, '=');
    text_32(&t, value != NULL);
    if (value != NULL) {
        *value = 0;
        text_string(&t, config);
        text_string(&t, value + 1);
    }
    text_32(&t, SETUP_S * 1000);
    *t.at++ = 0;
    topic_answer(peer_ask(p, bytes, text_end(&t)), "the topic cannot be made");
}

/* Apache Kafka makes fewer than 10,000 partitions at once. */
static void topic_extend(struct run *r, struct peer *p, uint32_t partitions)
{
    uint8_t bytes[1024];
    struct text t = text_begin(bytes, CREATE_PARTITIONS, 0);
    text_32(&t, 1);
    text_string(&t, r->job->topic);
    text_32(&t, partitions);
    text_32(&t, UINT32_MAX); /* wherever */
    text_32(&t, SETUP_S * 1000);
    *t.at++ = 0;
    topic_answer(peer_ask(p, bytes, text_end(&t)), "the topic cannot have more partitions");
}

void topic_delete(struct run *r, struct peer *p)
{
    uint8_t bytes[1024];
    struct text t = text_begin(bytes, DELETE_TOPICS, 1);
    text_32(&t, 1);
    text_string(&t, r->job->topic);
    text_32(&t, SETUP_S * 1000);
    struct view v = peer_ask(p, bytes, text_end(&t));
    view_32(&v);
    view_32(&v);
    view_string(&v);
    int16_t code = view_16(&v);
    if (code != 0)
        fail("the topic cannot be deleted", code);
}

/* Is every partition served? Asked by a fetch without a session. */
static bool topic_is_served(struct run *r, struct peer *p)
{
    uint32_t n = r->job->partitions;
    uint8_t *bytes = room(1024 + (size_t)n * FETCH_ROW);
    struct text t = fetch_begin(bytes, 0, SETUP_BYTES, 0, UINT32_MAX);
    text_32(&t, 1);
    text_string(&t, r->job->topic);
    text_32(&t, n);
    for (uint32_t i = 0; i < n; i++)
        fetch_row(&t, i, 0, SETUP_BYTES);
    fetch_rest(&t);
    struct view v = peer_ask(p, bytes, text_end(&t));
    view_32(&v);
    bool served = view_16(&v) == 0;
    view_32(&v);
    for (int32_t topics = view_32(&v); topics > 0; topics--) {
        view_string(&v);
        for (int32_t left = view_32(&v); left > 0; left--)
            served = fetch_row_read(&v).code == 0 && served;
    }
    free(bytes);
    return served;
}

void topic_open(struct run *r, struct peer *p)
{
    double limit = now_s() + SETUP_S;
    topic_create(r, p);
    for (uint32_t n = PARTITIONS_AT_ONCE; n < r->job->partitions;) {
        n = n + PARTITIONS_AT_ONCE < r->job->partitions ? n + PARTITIONS_AT_ONCE : r->job->partitions;
        topic_extend(r, p, n);
    }
    while (!topic_is_served(r, p)) {
        if (now_s() > limit)
            fail("the topic has no leader", 0);
        poll(NULL, 0, 20);
    }
}
