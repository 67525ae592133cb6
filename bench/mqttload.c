/* mqttload.c - a cheap MQTT 3.1.1 load: one publisher, N subscribers, QoS 0, 1 or 2, one thread, epoll.
 *
 * It costs little itself, so that one core of generator is enough for what it measures, and it checks what comes: each subscriber
 * must see the numbers 0, 1, 2, ... in order, none twice, none left out (QoS 0 as well: nothing is slow enough to be dropped, since
 * the publisher never runs further ahead of the slowest subscriber than --lag).
 *
 * The harness leads it through: it connects, subscribes and warms up, says {"ready":...}; at a newline the timed part runs for
 * --seconds; its result is one line of JSON; then it drains, and says {"end":...} with what was correct in the end. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SUBS_MAX = 1000, IN_BYTES = 1 << 18, OUT_BYTES = 1 << 18, PIDS = 65535 };

struct load {
    uint16_t port;
    unsigned subs, qos, size, window, lag;
    double seconds, warmup;
    bool durable, wait;
    int cpu;
};

struct peer {
    int fd;
    uint8_t *in, *out;
    size_t in_n, out_n;
    uint64_t next; /* subscriber: number expected */
    bool ready, wrong, waits_out;
};

static struct load load = {
    .subs = 1, .size = 100, .window = 1000, .lag = 20000, .seconds = 3, .warmup = 1, .cpu = -1};
static struct peer peers[SUBS_MAX + 1]; /* the last is the publisher */
static int epoll_fd;
static uint64_t sent, acked;
static char topic[64];
static uint8_t pid_open[PIDS + 1]; /* QoS 2: 1 PUBLISH sent, 2 PUBREL sent */

__attribute__((format(printf, 1, 2))) static void fail(const char *fmt, ...)
{
    char text[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    printf("{\"error\":\"%s\"}\n", text);
    fflush(stdout);
    exit(1);
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double cpu_s(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* ---- bytes --------------------------------------------------------------------------------------------------- */

static void peer_watch(struct peer *p, bool out)
{
    struct epoll_event e = {.events = EPOLLIN | (out ? (uint32_t)EPOLLOUT : 0), .data.ptr = p};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, p->fd, &e);
    p->waits_out = out;
}

static void peer_flush(struct peer *p)
{
    size_t at = 0;
    while (at < p->out_n) {
        ssize_t n = write(p->fd, p->out + at, p->out_n - at);
        if (n < 0 && errno == EAGAIN)
            break;
        if (n <= 0)
            fail("write: %s", strerror(errno));
        at += (size_t)n;
    }
    memmove(p->out, p->out + at, p->out_n - at);
    p->out_n -= at;
    if ((p->out_n > 0) != p->waits_out)
        peer_watch(p, p->out_n > 0);
}

static uint8_t *peer_room(struct peer *p, size_t n)
{
    if (p->out_n + n > OUT_BYTES)
        peer_flush(p);
    if (p->out_n + n > OUT_BYTES)
        fail("the server does not read");
    uint8_t *at = p->out + p->out_n;
    p->out_n += n;
    return at;
}

static void put_ack(struct peer *p, uint8_t type, uint16_t pid)
{
    uint8_t *at = peer_room(p, 4);
    at[0] = type;
    at[1] = 2;
    at[2] = (uint8_t)(pid >> 8);
    at[3] = (uint8_t)pid;
}

static size_t put_length(uint8_t *at, size_t n)
{
    size_t i = 0;
    for (; n >= 128; n >>= 7)
        at[i++] = (uint8_t)(n | 128);
    at[i++] = (uint8_t)n;
    return i;
}

static void put_connect(struct peer *p, const char *name, bool clean)
{
    size_t id = strlen(name);
    uint8_t *at = peer_room(p, 2 + 10 + 2 + id + 14);
    static const uint8_t head[] = {0, 4, 'M', 'Q', 'T', 'T', 4};
    at[0] = 0x10;
    at[1] = (uint8_t)(10 + 2 + id + 14);
    memcpy(at + 2, head, sizeof head);
    at[9] = (uint8_t)(0xc0 | (clean ? 2 : 0));
    at[10] = at[11] = 0;
    at[12] = 0;
    at[13] = (uint8_t)id;
    memcpy(at + 14, name, id);
    memcpy(at + 14 + id, "\0\5guest\0\5guest", 14);
}

static void put_subscribe(struct peer *p)
{
    size_t n = strlen(topic);
    uint8_t *at = peer_room(p, 2 + 2 + 2 + n + 1);
    at[0] = 0x82;
    at[1] = (uint8_t)(5 + n);
    at[2] = 0;
    at[3] = 1;
    at[4] = 0;
    at[5] = (uint8_t)n;
    memcpy(at + 6, topic, n);
    at[6 + n] = (uint8_t)load.qos;
}

static void put_publish(struct peer *p)
{
    size_t n = strlen(topic), body = 2 + n + (load.qos ? 2 : 0) + load.size;
    uint8_t *at = peer_room(p, 5 + body);
    uint8_t *begin = at;
    *at++ = (uint8_t)(0x30 | load.qos << 1);
    at += put_length(at, body);
    *at++ = 0;
    *at++ = (uint8_t)n;
    memcpy(at, topic, n);
    at += n;
    if (load.qos) {
        uint16_t pid = (uint16_t)(sent % PIDS + 1);
        pid_open[pid] = 1;
        *at++ = (uint8_t)(pid >> 8);
        *at++ = (uint8_t)pid;
    }
    memcpy(at, &sent, 8);
    memset(at + 8, 'x', load.size - 8);
    p->out_n -= (size_t)(begin + 5 + body - (at + load.size));
    sent++;
}

/* ---- packets in --------------------------------------------------------------------------------------------------- */

static void take_publish(struct peer *p, uint8_t flags, const uint8_t *body, size_t n)
{
    unsigned qos = flags >> 1 & 3;
    size_t at = 2 + (size_t)(body[0] << 8 | body[1]);
    uint16_t pid = qos ? (uint16_t)(body[at] << 8 | body[at + 1]) : 0;
    uint64_t number;
    at += qos ? 2 : 0;
    if (n - at != load.size)
        p->wrong = true;
    memcpy(&number, body + at, 8);
    if (number != p->next)
        p->wrong = true;
    p->next = number + 1;
    if (qos)
        put_ack(p, qos == 1 ? 0x40 : 0x50, pid);
}

static void take(struct peer *p, uint8_t first, const uint8_t *body, size_t n)
{
    uint16_t pid = n >= 2 ? (uint16_t)(body[0] << 8 | body[1]) : 0;
    switch (first >> 4) {
    case 2:
        if (body[1] != 0)
            fail("CONNACK %u", body[1]);
        p->ready = true;
        break;
    case 3: take_publish(p, first & 15, body, n); break;
    case 4: acked++; break;
    case 5:
        pid_open[pid] = 2;
        put_ack(p, 0x62, pid);
        break;
    case 6: put_ack(p, 0x70, pid); break;
    case 7: acked++; break;
    case 9:
        if (body[2] != load.qos)
            fail("SUBACK %u", body[2]);
        p->ready = true;
        break;
    default: fail("packet %u", first >> 4);
    }
}

static void peer_read(struct peer *p)
{
    ssize_t got = read(p->fd, p->in + p->in_n, IN_BYTES - p->in_n);
    if (got <= 0 && !(got < 0 && errno == EAGAIN))
        fail("the server closed a connection");
    p->in_n += got > 0 ? (size_t)got : 0;
    size_t at = 0;
    while (p->in_n - at >= 2) {
        size_t n = 0, i = 1;
        while (i < 5 && at + i < p->in_n && p->in[at + i] >= 128) {
            n |= (size_t)(p->in[at + i] & 127) << (7 * (i - 1));
            i++;
        }
        if (at + i >= p->in_n)
            break;
        n |= (size_t)p->in[at + i] << (7 * (i - 1));
        if (p->in_n - at < i + 1 + n)
            break;
        take(p, p->in[at], p->in + at + i + 1, n);
        at += i + 1 + n;
    }
    memmove(p->in, p->in + at, p->in_n - at);
    p->in_n -= at;
    peer_flush(p);
}

static void turn(int timeout_ms)
{
    struct epoll_event events[64];
    int n = epoll_wait(epoll_fd, events, 64, timeout_ms);
    for (int i = 0; i < n; i++) {
        struct peer *p = events[i].data.ptr;
        if (events[i].events & EPOLLOUT)
            peer_flush(p);
        if (events[i].events & ~(uint32_t)EPOLLOUT)
            peer_read(p);
    }
}

/* ---- the load ------------------------------------------------------------------------------------------------------- */

static uint64_t slowest(void)
{
    uint64_t least = UINT64_MAX;
    for (unsigned i = 0; i < load.subs; i++)
        if (peers[i].next < least)
            least = peers[i].next;
    return least;
}

static uint64_t delivered(void)
{
    uint64_t all = 0;
    for (unsigned i = 0; i < load.subs; i++)
        all += peers[i].next;
    return all;
}

static void fill(void)
{
    struct peer *p = &peers[load.subs];
    uint64_t room = slowest() + load.lag;
    if (load.qos && acked + load.window < room)
        room = acked + load.window;
    while (sent < room && p->out_n < OUT_BYTES / 4)
        put_publish(p);
    peer_flush(p);
}

static void peer_open(struct peer *p, unsigned number)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(load.port), .sin_addr.s_addr = htonl(0x7f000001)};
    int one = 1;
    char name[64];
    p->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (p->fd < 0 || connect(p->fd, (struct sockaddr *)&to, sizeof to) != 0)
        fail("connect: %s", strerror(errno));
    setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(p->fd, F_SETFL, O_NONBLOCK);
    p->in = malloc(IN_BYTES);
    p->out = malloc(OUT_BYTES);
    if (!p->in || !p->out)
        fail("no memory");
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = p};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, p->fd, &e);
    snprintf(name, sizeof name, "load%d-%u", (int)getpid(), number);
    put_connect(p, name, !load.durable || number == load.subs);
    peer_flush(p);
    double until = now_s() + 10;
    for (p->ready = false; !p->ready && now_s() < until;)
        turn(100);
    if (p->ready && number < load.subs) {
        put_subscribe(p);
        peer_flush(p);
        for (p->ready = false; !p->ready && now_s() < until;)
            turn(100);
    }
    if (!p->ready)
        fail("no answer to CONNECT or SUBSCRIBE");
}

static void run_for(double seconds)
{
    double until = now_s() + seconds;
    while (now_s() < until) {
        fill();
        turn(1);
    }
}

static bool all_right(void)
{
    for (unsigned i = 0; i < load.subs; i++)
        if (peers[i].wrong)
            return false;
    return true;
}

static void wait_for_newline(void)
{
    char c;
    fflush(stdout);
    while (load.wait && read(0, &c, 1) == 1 && c != '\n')
        continue;
}

static void forget_sessions(void)
{
    if (!load.durable)
        return;
    load.durable = false;
    for (unsigned i = 0; i <= load.subs; i++)
        close(peers[i].fd);
    unsigned subs = load.subs;
    for (unsigned i = 0; i < subs; i++) { /* a clean connect ends the session */
        struct peer *p = &peers[i];
        *p = (struct peer){.fd = -1};
        load.subs = 0;
        peer_open(p, i);
        load.subs = subs;
    }
}

static void timed(void)
{
    uint64_t sent0 = sent, got0 = delivered();
    double begun = now_s(), cpu = cpu_s();
    run_for(load.seconds);
    double seconds = now_s() - begun;
    printf("{\"messages\":%llu,\"deliveries\":%llu,\"seconds\":%.4f,\"own_cpu_s\":%.4f,\"body_bytes\":%u,"
           "\"correct\":%s}\n",
           (unsigned long long)(load.subs == 1 ? delivered() - got0 : sent - sent0),
           (unsigned long long)(delivered() - got0), seconds, cpu_s() - cpu, load.size,
           all_right() ? "true" : "false");
    fflush(stdout);
}

static void parse(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *o = argv[i], *v = i + 1 < argc ? argv[i + 1] : "0";
        if (strcmp(o, "--wait") == 0)
            load.wait = true;
        else if (strcmp(o, "--durable") == 0)
            load.durable = true;
        else if (strcmp(o, "--delete") != 0) {
            i++;
            if (strcmp(o, "--port") == 0)
                load.port = (uint16_t)(int)strtol(v, NULL, 10);
            else if (strcmp(o, "--cpu") == 0)
                load.cpu = (int)strtol(v, NULL, 10);
            else if (strcmp(o, "--fanout") == 0)
                load.subs = (unsigned)(int)strtol(v, NULL, 10);
            else if (strcmp(o, "--qos") == 0)
                load.qos = (unsigned)(int)strtol(v, NULL, 10);
            else if (strcmp(o, "--size") == 0)
                load.size = (unsigned)(int)strtol(v, NULL, 10);
            else if (strcmp(o, "--window") == 0)
                load.window = (unsigned)(int)strtol(v, NULL, 10);
            else if (strcmp(o, "--lag") == 0)
                load.lag = (unsigned)(int)strtol(v, NULL, 10);
            else if (strcmp(o, "--seconds") == 0)
                load.seconds = strtod(v, NULL);
            else if (strcmp(o, "--warmup") == 0)
                load.warmup = strtod(v, NULL);
            else
                fail("unknown option %s", o);
        }
    }
    if (load.subs < 1 || load.subs > SUBS_MAX || load.qos > 2 || load.size < 8 || load.size > 60000)
        fail("options out of bounds");
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    if (load.cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((size_t)load.cpu, &set);
        sched_setaffinity(0, sizeof set, &set);
    }
    epoll_fd = epoll_create1(0);
    snprintf(topic, sizeof topic, "load/%d/topic", (int)getpid());
    for (unsigned i = 0; i <= load.subs; i++)
        peer_open(&peers[i], i);
    run_for(load.warmup);
    printf("{\"ready\":true}\n");
    wait_for_newline();
    timed();
    double until = now_s() + 20;
    while ((slowest() < sent || (load.qos && acked < sent)) && now_s() < until)
        turn(10);
    bool whole = slowest() == sent && all_right();
    forget_sessions();
    if (!whole)
        fail("messages were lost, doubled or out of order");
    printf("{\"end\":true}\n");
    fflush(stdout);
    return 0;
}
