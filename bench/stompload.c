/* stompload - publishes to a STOMP server and takes everything back, cheaper than the server takes and gives it.
 *
 * One publisher, one consumer, one queue, one thread. Frames are built in one buffer and written with one call; a message costs a
 * copy of its frame and 16 stamped digits. Deliveries are read by their content-length. Every body carries its number: a
 * message lost, doubled or out of order is found out, and every 1024th body is compared whole. It speaks to the bench as
 * amqpload does: {"ready"}, a line, the timed part, its result, {"done"}, a line. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { IN_BYTES = 1 << 20, OUT_BYTES = 1 << 18, STAMP = 16, STALL_S = 30 };

struct job {
    unsigned port, size, confirm, ack_every, prefetch, lag;
    bool persistent, waits;
    double seconds, warmup;
    int cpu;
    char queue[64];
};

struct peer {
    int fd;
    char *in;
    size_t in_at, in_len;
    char *out;
    size_t out_at, out_len;
};

struct run {
    const struct job *job;
    struct peer pub, con;
    char *frame; /* one SEND, its stamps to be filled in */
    size_t frame_len, stamp_at, receipt_at;
    uint64_t sent, confirmed, delivered, acked, misordered, redelivered, corrupt, sampled;
    char last_ack[256];
};

static void die(const char *what)
{
    printf("{\"error\":\"%s: %s\"}\n", what, errno != 0 ? strerror(errno) : "");
    fflush(stdout);
    exit(1);
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double own_cpu_s(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* ---- frames ------------------------------------------------------------------------------------------------------------- */

struct frame {
    const char *head;
    size_t head_len;
    const char *body;
    size_t body_len, total;
};

static const char *frame_header(const struct frame *f, const char *name, size_t *len)
{
    size_t n = strlen(name);
    const char *at = f->head, *end = f->head + f->head_len;
    while ((at = memmem(at, (size_t)(end - at), name, n)) != NULL) {
        if (at[-1] == '\n') {
            const char *lf = memchr(at, '\n', (size_t)(end - at));
            *len = (size_t)(lf - at) - n;
            return at + n;
        }
        at += n;
    }
    return NULL;
}

/* The frame at the front of what has come; false: not all there. */
static bool frame_next(struct peer *p, struct frame *f)
{
    while (p->in_at < p->in_len && p->in[p->in_at] == '\n')
        p->in_at++;
    const char *start = p->in + p->in_at;
    size_t have = p->in_len - p->in_at, len;
    const char *end = memmem(start, have, "\n\n", 2);
    if (end == NULL)
        return false;
    *f = (struct frame){.head = start, .head_len = (size_t)(end - start) + 1, .body = end + 2};
    const char *length = frame_header(f, "content-length:", &len);
    size_t left = have - f->head_len - 1;
    const char *nul = length == NULL ? memchr(f->body, 0, left) : NULL;
    f->body_len = length != NULL ? strtoul(length, NULL, 10) : nul != NULL ? (size_t)(nul - f->body) : left;
    if (left < f->body_len + 1)
        return false;
    f->total = f->head_len + 1 + f->body_len + 1;
    p->in_at += f->total;
    return true;
}

static bool frame_is(const struct frame *f, const char *command)
{
    size_t n = strlen(command);
    return f->head_len > n && memcmp(f->head, command, n) == 0 && f->head[n] == '\n';
}

/* ---- a connection ------------------------------------------------------------------------------------------------------- */

static void peer_read(struct peer *p)
{
    if (p->in_at == p->in_len)
        p->in_at = p->in_len = 0;
    if (p->in_at > IN_BYTES / 2) {
        memmove(p->in, p->in + p->in_at, p->in_len - p->in_at);
        p->in_len -= p->in_at;
        p->in_at = 0;
    }
    ssize_t n = recv(p->fd, p->in + p->in_len, IN_BYTES - p->in_len, MSG_DONTWAIT);
    if (n == 0)
        errno = 0, die("the server closed a connection");
    if (n < 0 && errno != EAGAIN)
        die("recv");
    p->in_len += n > 0 ? (size_t)n : 0;
}

static void peer_flush(struct peer *p)
{
    while (p->out_at < p->out_len) {
        ssize_t n = send(p->fd, p->out + p->out_at, p->out_len - p->out_at, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0)
            die("send");
        p->out_at += (size_t)n;
    }
    p->out_at = p->out_len = 0;
}

static void peer_put(struct peer *p, const char *bytes, size_t n)
{
    if (p->out_len + n > OUT_BYTES)
        errno = 0, die("output is full");
    memcpy(p->out + p->out_len, bytes, n);
    p->out_len += n;
}

static void peer_wait_for(struct peer *p, const char *command)
{
    struct frame f;
    double limit = now_s() + STALL_S;
    peer_flush(p);
    while (!frame_next(p, &f)) {
        struct pollfd fd = {p->fd, POLLIN, 0};
        poll(&fd, 1, 100);
        peer_read(p);
        if (now_s() > limit)
            errno = 0, die("no answer");
    }
    if (!frame_is(&f, command))
        errno = 0, die("another answer than was expected");
}

static void peer_open(struct peer *p, unsigned port)
{
    static const char hello[] = "CONNECT\naccept-version:1.2\nhost:/\nlogin:guest\npasscode:guest\n\n";
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int on = 1;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    p->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    p->in = malloc(IN_BYTES);
    p->out = malloc(OUT_BYTES);
    if (p->fd < 0 || p->in == NULL || p->out == NULL ||
        connect(p->fd, (struct sockaddr *)&to, sizeof to) != 0)
        die("connect");
    setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    peer_put(p, hello, sizeof hello);
    peer_wait_for(p, "CONNECTED");
}

/* ---- publishing --------------------------------------------------------------------------------------------------------- */

static void run_frame(struct run *r)
{
    const struct job *j = r->job;
    char head[512];
    int n = snprintf(head, sizeof head, "SEND\ndestination:%s\n%scontent-length:%u\n", j->queue,
                     j->persistent ? "persistent:true\n" : "", j->size);
    if (j->confirm > 0) {
        r->receipt_at = (size_t)n + 8;
        n += snprintf(head + n, sizeof head - (size_t)n, "receipt:%016d\n", 0);
    }
    head[n++] = '\n';
    r->stamp_at = (size_t)n;
    r->frame_len = (size_t)n + j->size + 1;
    r->frame = malloc(r->frame_len);
    if (r->frame == NULL)
        die("malloc");
    memcpy(r->frame, head, (size_t)n);
    for (unsigned i = 0; i < j->size; i++)
        r->frame[(size_t)n + i] = (char)('a' + i % 26);
    r->frame[r->frame_len - 1] = 0;
}

static void stamp(char *to, uint64_t n)
{
    for (int i = STAMP - 1; i >= 0; i--, n >>= 4)
        to[i] = "0123456789abcdef"[n & 15];
}

static uint64_t stamp_read(const char *from)
{
    uint64_t n = 0;
    for (int i = 0; i < STAMP; i++)
        n = n << 4 | (uint64_t)(from[i] <= '9' ? from[i] - '0' : from[i] - 'a' + 10);
    return n;
}

static void run_publish(struct run *r)
{
    const struct job *j = r->job;
    while (r->pub.out_len + r->frame_len <= OUT_BYTES && r->sent - r->delivered < j->lag &&
           (j->confirm == 0 || r->sent - r->confirmed < j->confirm)) {
        stamp(r->frame + r->stamp_at, r->sent);
        if (j->confirm > 0)
            stamp(r->frame + r->receipt_at, r->sent);
        peer_put(&r->pub, r->frame, r->frame_len);
        r->sent++;
    }
    peer_flush(&r->pub);
}

static void run_receipts(struct run *r)
{
    struct frame f;
    while (frame_next(&r->pub, &f)) {
        if (!frame_is(&f, "RECEIPT"))
            errno = 0, die("the publisher got something else than a RECEIPT");
        r->confirmed++;
    }
}

/* ---- consuming ---------------------------------------------------------------------------------------------------------- */

static void run_check(struct run *r, const struct frame *f)
{
    size_t len;
    if (f->body_len != r->job->size || stamp_read(f->body) != r->delivered)
        r->misordered++;
    const char *again = frame_header(f, "redelivered:", &len);
    r->redelivered += again != NULL && len == 4;
    if (r->delivered % 1024 == 0 && f->body_len == r->job->size) {
        r->sampled++;
        r->corrupt += memcmp(f->body + STAMP, r->frame + r->stamp_at + STAMP, r->job->size - STAMP) != 0;
    }
    r->delivered++;
}

static void run_ack(struct run *r, const struct frame *f)
{
    char frame[400];
    size_t len;
    const char *id = frame_header(f, "ack:", &len);
    if (id == NULL)
        errno = 0, die("a MESSAGE without ack");
    int n = snprintf(frame, sizeof frame, "ACK\nid:%.*s\n\n", (int)len, id);
    peer_put(&r->con, frame, (size_t)n + 1);
    r->acked = r->delivered;
}

static void run_deliveries(struct run *r)
{
    struct frame f;
    while (frame_next(&r->con, &f)) {
        if (!frame_is(&f, "MESSAGE"))
            errno = 0, die("the consumer got something else than a MESSAGE");
        run_check(r, &f);
        if (r->job->ack_every > 0 && r->delivered - r->acked >= r->job->ack_every)
            run_ack(r, &f);
    }
    peer_flush(&r->con);
}

/* ---- phases ------------------------------------------------------------------------------------------------------------- */

static bool run_is_over(const struct run *r)
{
    return r->delivered >= r->sent && (r->job->confirm == 0 || r->confirmed >= r->sent) &&
           r->pub.out_len == 0;
}

/* Publishes for that long, then until all is delivered and confirmed. */
static double run_phase(struct run *r, double seconds)
{
    double start = now_s(), progress_s = start;
    uint64_t progress = 0;
    for (;;) {
        double now = now_s();
        bool publishing = now < start + seconds;
        if (publishing)
            run_publish(r);
        else
            peer_flush(&r->pub);
        if (!publishing && run_is_over(r))
            return now_s() - start;
        struct pollfd fds[2] = {{r->pub.fd, (short)(POLLIN | (r->pub.out_len > 0 ? POLLOUT : 0)), 0},
                                {r->con.fd, (short)(POLLIN | (r->con.out_len > 0 ? POLLOUT : 0)), 0}};
        poll(fds, 2, 10);
        if (fds[0].revents & POLLIN) {
            peer_read(&r->pub);
            run_receipts(r);
        }
        if (fds[1].revents & (POLLIN | POLLOUT)) {
            peer_read(&r->con);
            run_deliveries(r);
        }
        if (r->delivered + r->confirmed != progress) {
            progress = r->delivered + r->confirmed;
            progress_s = now;
        }
        if (now > progress_s + STALL_S)
            errno = 0, die("nothing moves");
    }
}

static void run_wait(const struct job *j, const char *text)
{
    char line[64];
    if (!j->waits)
        return;
    printf("%s\n", text);
    fflush(stdout);
    if (fgets(line, sizeof line, stdin) == NULL)
        exit(0);
}

static void run_subscribe(struct run *r)
{
    char frame[400];
    int n = snprintf(frame, sizeof frame,
                     "SUBSCRIBE\ndestination:%s\nid:0\nreceipt:s\nack:%s\nprefetch-count:%u\n\n",
                     r->job->queue, r->job->ack_every > 0 ? "client" : "auto", r->job->prefetch);
    peer_put(&r->con, frame, (size_t)n + 1);
    peer_wait_for(&r->con, "RECEIPT");
}

static void run_all(const struct job *j)
{
    struct run r = {.job = j};
    run_frame(&r);
    peer_open(&r.pub, j->port);
    peer_open(&r.con, j->port);
    run_subscribe(&r);
    run_phase(&r, j->warmup);
    run_wait(j, "{\"ready\":true}");
    uint64_t before = r.sent;
    double cpu = own_cpu_s(), seconds = run_phase(&r, j->seconds);
    cpu = own_cpu_s() - cpu;
    uint64_t n = r.sent - before;
    bool correct = r.misordered == 0 && r.corrupt == 0 && r.redelivered == 0 && r.delivered == r.sent;
    printf("{\"messages\":%llu,\"deliveries\":%llu,\"seconds\":%.4f,\"rate\":%.1f,\"own_cpu_s\":%.4f,\"body_"
           "bytes\":%u,"
           "\"misordered\":%llu,\"redelivered\":%llu,\"sampled\":%llu,\"corrupt\":%llu,\"correct\":%s}\n",
           (unsigned long long)n, (unsigned long long)n, seconds, (double)n / seconds, cpu, j->size,
           (unsigned long long)r.misordered, (unsigned long long)r.redelivered, (unsigned long long)r.sampled,
           (unsigned long long)r.corrupt, correct ? "true" : "false");
    fflush(stdout);
    run_wait(j, "{\"done\":true}");
}

/* ---- options ------------------------------------------------------------------------------------------------------------ */

static const struct option OPTIONS[] = {
    {"port", required_argument, NULL, 'p'},
    {"size", required_argument, NULL, 's'},
    {"confirm", required_argument, NULL, 'c'},
    {"ack-every", required_argument, NULL, 'a'},
    {"prefetch", required_argument, NULL, 'f'},
    {"lag", required_argument, NULL, 'l'},
    {"seconds", required_argument, NULL, 't'},
    {"warmup", required_argument, NULL, 'w'},
    {"cpu", required_argument, NULL, 'u'},
    {"persistent", no_argument, NULL, 'P'},
    {"wait", no_argument, NULL, 'W'},
    {"delete", no_argument, NULL, 'D'},
    {NULL, 0, NULL, 0},
};

static void job_option(struct job *j, int option, const char *value)
{
    unsigned n = value != NULL ? (unsigned)strtoul(value, NULL, 10) : 0;
    switch (option) {
    case 'p': j->port = n; break;
    case 's': j->size = n < STAMP ? STAMP : n; break;
    case 'c': j->confirm = n; break;
    case 'a': j->ack_every = n; break;
    case 'f': j->prefetch = n; break;
    case 'l': j->lag = n; break;
    case 't': j->seconds = strtod(value, NULL); break;
    case 'w': j->warmup = strtod(value, NULL); break;
    case 'u': j->cpu = (int)n; break;
    case 'P': j->persistent = true; break;
    case 'W': j->waits = true; break;
    case 'D': break; /* its queues are empty at the end, and the server's folder goes */
    default: exit(2);
    }
}

int main(int argc, char **argv)
{
    struct job j = {.port = 61613, .size = 100, .lag = 20000, .seconds = 3, .warmup = 1, .cpu = -1};
    int option;
    while ((option = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1)
        job_option(&j, option, optarg);
    snprintf(j.queue, sizeof j.queue, "/queue/stompload-%d", (int)getpid());
    if (j.cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((size_t)j.cpu, &set);
        sched_setaffinity(0, sizeof set, &set);
    }
    run_all(&j);
    return 0;
}
