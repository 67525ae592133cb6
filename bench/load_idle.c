/* Many connections that do nothing: what one costs in memory, and how fast they can be made. They come
 * from several loopback addresses, since one address has some 28,000 ports; a fixed number is in the
 * handshake at a time, so that the server's backlog does not decide the result. */
#include "load_run.h"
#include "load_util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { IDLE_PER_ADDRESS = 2000, IDLE_IN_BYTES = 1024 };

struct idle {
    const struct load_job *job;
    int epoll;
    struct load_conn *conns;
    unsigned started;
    unsigned ready;
};

static in_addr_t idle_source(unsigned index)
{
    return htonl(INADDR_LOOPBACK + 1 + index / IDLE_PER_ADDRESS % 250);
}

static void idle_start_one(struct idle *idle)
{
    const unsigned i = idle->started++;
    struct load_conn *conn = &idle->conns[i];
    load_conn_start(conn, &idle->job->target, idle_source(i), IDLE_IN_BYTES);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.u32 = i};
    if (epoll_ctl(idle->epoll, EPOLL_CTL_ADD, conn->fd, &event) != 0)
        load_fail("epoll_ctl: %s", strerror(errno));
}

static void idle_on_event(struct idle *idle, unsigned i)
{
    struct load_conn *conn = &idle->conns[i];
    const bool was_connecting = conn->state == LOAD_CONNECTING;
    if (load_conn_advance(conn, &idle->job->target)) {
        epoll_ctl(idle->epoll, EPOLL_CTL_DEL, conn->fd, NULL);
        idle->ready++;
        if (idle->started < idle->job->idle)
            idle_start_one(idle);
    } else if (was_connecting) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        epoll_ctl(idle->epoll, EPOLL_CTL_MOD, conn->fd, &event);
    }
}

static void idle_open_all(struct idle *idle)
{
    enum { EVENTS = 256, WAIT_MS = 60000 };
    struct epoll_event events[EVENTS];
    while (idle->started < idle->job->idle && idle->started < idle->job->parallel)
        idle_start_one(idle);
    while (idle->ready < idle->job->idle) {
        const int n = epoll_wait(idle->epoll, events, EVENTS, WAIT_MS);
        if (n == 0)
            load_fail("only %u of %u connections were opened", idle->ready, idle->job->idle);
        for (int i = 0; i < n; i++)
            idle_on_event(idle, events[i].data.u32);
    }
}

int load_idle(const struct load_job *job)
{
    struct idle idle = {.job = job, .epoll = epoll_create1(EPOLL_CLOEXEC)};
    idle.conns = load_alloc(job->idle * sizeof *idle.conns);
    load_wait_for_go(job, "{\"ready\":true}");
    const uint64_t start_ns = load_now_ns();
    const uint64_t cpu_ns = load_own_cpu_ns();
    idle_open_all(&idle);
    const double seconds = (double)(load_now_ns() - start_ns) / (double)LOAD_NS_PER_S;
    printf("{\"connections\":%u,\"seconds\":%.4f,\"rate\":%.1f,\"own_cpu_s\":%.4f,\"correct\":true}\n",
           idle.ready, seconds, idle.ready / seconds,
           (double)(load_own_cpu_ns() - cpu_ns) / (double)LOAD_NS_PER_S);
    fflush(stdout);
    load_wait_for_go(job, "{\"done\":true}");
    for (unsigned i = 0; i < idle.ready; i++)
        load_conn_drop(&idle.conns[i]);
    free(idle.conns);
    close(idle.epoll);
    return 0;
}
