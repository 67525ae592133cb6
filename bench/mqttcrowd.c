/* mqttcrowd.c - many MQTT 3.1.1 clients at once: what they and their subscriptions cost, and how a server bears a storm of them.
 *
 *   mqttcrowd --port P [--clients N] [--filters F] [--qos Q] [--keep 1] [--publish 1] [--storm R]
 *
 * One thread, epoll. Phase after phase, each said as a line of JSON on stdout; after each it waits for a line on stdin, so that who
 * leads it can look at the server's memory:
 *
 *   connected    N clients are connected (--keep: their sessions outlive them)
 *   subscribed   each has F filters of three levels, `crowd/CLIENT/fK`, all different; with --publish one more client meanwhile
 *                publishes with QoS 1, each time to another of these topics
 *   delivered    a message to each of 1,000 topics came to its one subscriber
 *   storm        R times: every client connects again under its name, and each old connection is ended by the server */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
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

enum {
    OPEN_MAX = 200,       /* connects that wait for CONNACK */
    SUBSCRIBE_MAX = 16,   /* SUBSCRIBEs that wait for SUBACK */
    PACKET_FILTERS = 100, /* filters in one SUBSCRIBE */
    WINDOW = 100,         /* publishes not yet acknowledged */
    PROBES = 1000,
    KEPT = 128, /* bytes of a packet's body that are looked at */
};

static struct {
    unsigned port, clients, filters, qos, keep, publish, storm;
} opt = {.clients = 1000, .filters = 100};

struct client {
    int fd, old_fd; /* old_fd: taken over, its end awaited */
    unsigned number;
    bool up;
    unsigned asked, granted;
    /* the packet that comes */
    uint8_t head[5], body[KEPT];
    unsigned nhead;
    uint32_t left, nbody;
};

static struct client *clients, publisher;
static int epoll_fd;
static unsigned up, open_now, ended, probe_next, probe_at;
static uint64_t granted, published, acked, got;
static bool probing;

__attribute__((format(printf, 1, 2), noreturn)) static void fail(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    printf("{\"error\":\"");
    vprintf(fmt, args);
    printf("\"}\n");
    va_end(args);
    fflush(stdout);
    exit(1);
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- packets out ----------------------------------------------------------------------------------------------------- */

static size_t put_text(uint8_t *at, const char *text)
{
    size_t n = strlen(text);
    at[0] = (uint8_t)(n >> 8);
    at[1] = (uint8_t)n;
    memcpy(at + 2, text, n);
    return n + 2;
}

/* Packets are small and their acknowledgements awaited: a socket that does not take one is a server that does not read. */
static void send_packet(const struct client *c, uint8_t first, const uint8_t *body, size_t n)
{
    uint8_t out[8192];
    size_t at = 0, rest = n;
    out[at++] = first;
    for (; rest >= 128; rest >>= 7)
        out[at++] = (uint8_t)(rest | 128);
    out[at++] = (uint8_t)rest;
    memcpy(out + at, body, n);
    if (write(c->fd, out, at + n) != (ssize_t)(at + n))
        fail("write: %s", strerror(errno));
}

static void name_of(const struct client *c, char room[32])
{
    snprintf(room, 32, c == &publisher ? "crowd-publisher" : "crowd%06u", c->number);
}

static void topic_of(unsigned client, unsigned filter, char room[64])
{
    snprintf(room, 64, "crowd/c%06u/f%u", client, filter);
}

static void send_connect(const struct client *c)
{
    uint8_t body[128] = "\0\4MQTT\4";
    char name[32];
    bool keep = opt.keep && c != &publisher;
    name_of(c, name);
    size_t n = 7;
    body[n++] = (uint8_t)(0xc0 | (keep ? 0 : 2));
    body[n++] = 0;
    body[n++] = 0;
    n += put_text(body + n, name);
    n += put_text(body + n, "guest");
    n += put_text(body + n, "guest");
    send_packet(c, 0x10, body, n);
}

static void send_subscribe(struct client *c)
{
    static uint8_t body[8000];
    char topic[64];
    size_t n = 2;
    body[0] = 0;
    body[1] = 1;
    for (unsigned i = 0; i < PACKET_FILTERS && c->asked < opt.filters; i++) {
        topic_of(c->number, c->asked++, topic);
        n += put_text(body + n, topic);
        body[n++] = (uint8_t)opt.qos;
    }
    send_packet(c, 0x82, body, n);
}

static void send_publish(unsigned client, unsigned filter, unsigned qos)
{
    uint8_t body[128];
    char topic[64];
    topic_of(client, filter, topic);
    size_t n = put_text(body, topic);
    if (qos) {
        uint16_t id = (uint16_t)(published % 65535 + 1);
        body[n++] = (uint8_t)(id >> 8);
        body[n++] = (uint8_t)id;
    }
    memcpy(body + n, "x", 1);
    send_packet(&publisher, (uint8_t)(0x30 | qos << 1), body, n + 1);
    published++;
}

/* ---- packets in ------------------------------------------------------------------------------------------------------- */

static void client_open(struct client *c)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port)};
    int one = 1;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    c->up = false;
    c->nhead = 0;
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to) != 0)
        fail("connect %u: %s", c->number, strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &e);
    send_connect(c);
}

static void take_publish(const struct client *c)
{
    char topic[64];
    topic_of(probe_next % opt.clients, probe_at, topic);
    size_t n = (size_t)(c->body[0] << 8 | c->body[1]);
    got++;
    if (probing &&
        (n != strlen(topic) || memcmp(c->body + 2, topic, n) != 0 || c->number != probe_next % opt.clients))
        fail("%.*s came to client %u, not %s", (int)n, (const char *)c->body + 2, c->number, topic);
    if (c->head[0] & 6)
        send_packet(c, 0x40, c->body + 2 + n, 2);
}

static void take(struct client *c)
{
    switch (c->head[0] >> 4) {
    case 2:
        if (c->body[1] != 0)
            fail("CONNACK %u for client %u", c->body[1], c->number);
        c->up = true;
        up++;
        open_now -= c != &publisher;
        break;
    case 3: take_publish(c); break;
    case 4: acked++; break;
    case 9:
        for (unsigned i = 2; i < c->nbody; i++)
            if (c->body[i] != opt.qos)
                fail("SUBACK %u for client %u", c->body[i], c->number);
        c->granted = c->asked;
        granted += c->nbody - 2;
        if (c->asked < opt.filters)
            send_subscribe(c);
        else
            open_now--;
        break;
    default: fail("packet %u for client %u", c->head[0] >> 4, c->number);
    }
}

static bool head_whole(struct client *c)
{
    if (c->nhead < 2 || (c->head[c->nhead - 1] & 128))
        return false;
    c->left = 0;
    for (unsigned i = 1; i < c->nhead; i++)
        c->left |= (uint32_t)(c->head[i] & 127) << (7 * (i - 1));
    if (c->left > KEPT)
        fail("a packet of %u bytes", c->left);
    c->nbody = 0;
    return true;
}

static void client_bytes(struct client *c, const uint8_t *in, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bool in_body = c->nhead > 0 && c->left > 0;
        if (in_body) {
            c->body[c->nbody++] = in[i];
            c->left--;
        } else {
            c->head[c->nhead++] = in[i];
            if (!head_whole(c))
                continue;
        }
        if (c->left == 0) {
            take(c);
            c->nhead = 0;
        }
    }
}

static void client_read(struct client *c)
{
    uint8_t in[16384];
    if (c->old_fd > 0) { /* a storm: is it the old connection's end? */
        ssize_t n = recv(c->old_fd, in, sizeof in, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno == ECONNRESET)) {
            close(c->old_fd);
            c->old_fd = 0;
            ended++;
        }
    }
    ssize_t n = recv(c->fd, in, sizeof in, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0)
        fail("the server closed client %u", c->number);
    client_bytes(c, in, (size_t)n);
}

static void turn(int timeout_ms)
{
    struct epoll_event events[256];
    int n = epoll_wait(epoll_fd, events, 256, timeout_ms);
    for (int i = 0; i < n; i++)
        client_read(events[i].data.ptr);
}

/* ---- phases ------------------------------------------------------------------------------------------------------------ */

__attribute__((format(printf, 1, 2))) static void phase_end(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    fflush(stdout);
    char line[16];
    if (!fgets(line, sizeof line, stdin))
        exit(0);
}

static void connect_all(void)
{
    double begin = now_s();
    client_open(&publisher);
    while (!publisher.up)
        turn(100);
    up = 0;
    for (unsigned next = 0; up < opt.clients;) {
        while (next < opt.clients && open_now < OPEN_MAX) {
            clients[next].number = next;
            client_open(&clients[next++]);
            open_now++;
        }
        turn(100);
    }
    phase_end("{\"phase\":\"connected\",\"clients\":%u,\"seconds\":%.3f}\n", opt.clients, now_s() - begin);
}

static void subscribe_all(void)
{
    double begin = now_s();
    uint64_t want = (uint64_t)opt.clients * opt.filters;
    uint64_t random = 88172645463325252u;
    for (unsigned next = 0; granted < want;) {
        while (next < opt.clients && open_now < SUBSCRIBE_MAX) {
            send_subscribe(&clients[next++]);
            open_now++;
        }
        while (opt.publish && published < acked + WINDOW) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            send_publish((unsigned)(random % opt.clients), (unsigned)(random >> 40) % opt.filters, 1);
        }
        turn(100);
    }
    double took = now_s() - begin;
    uint64_t meanwhile = acked;
    while (acked < published)
        turn(100);
    phase_end(
        "{\"phase\":\"subscribed\",\"subscriptions\":%llu,\"seconds\":%.3f,\"rate\":%.0f,\"published\":%llu,"
        "\"publish_rate\":%.0f}\n",
        (unsigned long long)granted, took, (double)granted / took, (unsigned long long)meanwhile,
        (double)meanwhile / took);
}

static void probe_all(void)
{
    double begin = now_s();
    while (now_s() < begin + 0.3) /* what was published meanwhile comes first */
        turn(10);
    probing = true;
    for (unsigned i = 0; i < PROBES; i++) {
        uint64_t before = got;
        probe_next = (unsigned)((uint64_t)i * 7919 % opt.clients);
        probe_at = i % opt.filters;
        send_publish(probe_next, probe_at, 0);
        for (double until = now_s() + 30; got == before;) {
            if (now_s() > until)
                fail("a message did not come");
            turn(100);
        }
    }
    probing = false;
    phase_end("{\"phase\":\"delivered\",\"messages\":%d}\n", PROBES);
}

/* Every client again under its name. */
static void storm(void)
{
    double begin = now_s();
    for (unsigned r = 0; r < opt.storm; r++) {
        up = ended = 0;
        for (unsigned next = 0; up < opt.clients || ended < opt.clients;) {
            while (next < opt.clients && open_now < OPEN_MAX) {
                clients[next].old_fd = clients[next].fd;
                client_open(&clients[next++]);
                open_now++;
            }
            turn(100);
            if (now_s() > begin + 300)
                fail("%u are up, %u have ended", up, ended);
        }
    }
    double took = now_s() - begin;
    phase_end("{\"phase\":\"storm\",\"takeovers\":%u,\"seconds\":%.3f,\"rate\":%.0f}\n",
              opt.clients * opt.storm, took, (double)opt.clients * opt.storm / took);
}

static void options(int argc, char **argv)
{
    static const struct {
        const char *name;
        unsigned *to;
    } rows[] = {{"--port", &opt.port},  {"--clients", &opt.clients}, {"--filters", &opt.filters},
                {"--qos", &opt.qos},    {"--keep", &opt.keep},       {"--publish", &opt.publish},
                {"--storm", &opt.storm}};
    for (int i = 1; i < argc; i += 2) {
        size_t r = 0;
        while (r < sizeof rows / sizeof rows[0] && strcmp(rows[r].name, argv[i]) != 0)
            r++;
        if (r == sizeof rows / sizeof rows[0] || i + 1 == argc)
            fail("%s is not understood", argv[i]);
        *rows[r].to = (unsigned)strtoul(argv[i + 1], NULL, 10);
    }
    if (opt.port == 0 || opt.port > 65535 || opt.clients == 0 || opt.clients > 1000000 || opt.qos > 2)
        fail("out of bounds");
}

int main(int argc, char **argv)
{
    struct rlimit files;
    options(argc, argv);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    clients = calloc(opt.clients, sizeof *clients);
    if (!clients)
        fail("no memory");
    connect_all();
    if (opt.filters > 0) {
        subscribe_all();
        probe_all();
    }
    if (opt.storm > 0)
        storm();
    return 0;
}
