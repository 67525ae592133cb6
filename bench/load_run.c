/* One thread, one epoll, everything level-triggered: a turn reads what came and publishes what is allowed.
 * A phase (warm-up, then the timed one) publishes until its count or time is reached, and ends when each
 * message was delivered to each queue and confirmed; so a server is measured until the work is done, not
 * until it was accepted. At a fixed rate a message's latency counts from the moment it should have left: a
 * stalled server cannot hide the messages that it kept from being sent. */
#include "load_run.h"

#include "load_con.h"
#include "load_pub.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

struct run {
    const struct load_job *job;
    int epoll;
    struct load_pub *pubs;
    struct load_con *cons;
    unsigned pub_count;
    unsigned con_count;
    struct load_hist confirm_ns;
    struct load_hist deliver_ns;

    uint64_t start_ns;
    uint64_t now_ns;
    uint64_t stop_ns;  /* publish until then; 0: until quota */
    uint64_t quota;    /* messages of all publishers in this phase */
    uint64_t base;     /* published before this phase */
    uint64_t progress; /* what had happened when it was last looked at, and when that was */
    uint64_t progress_ns;
};

struct run_totals {
    uint64_t sent, confirmed, nacked, returned, delivered, redelivered, misordered, sampled, corrupt, blocked;
};

static struct run_totals run_sum(const struct run *run)
{
    struct run_totals sum = {0};
    for (unsigned i = 0; i < run->pub_count; i++) {
        sum.sent += run->pubs[i].sent;
        sum.confirmed += run->pubs[i].confirmed;
        sum.nacked += run->pubs[i].nacked;
        sum.returned += run->pubs[i].returned;
        sum.blocked += run->pubs[i].conn.blocked_count;
    }
    for (unsigned i = 0; i < run->con_count; i++) {
        sum.delivered += run->cons[i].delivered;
        sum.redelivered += run->cons[i].redelivered;
        sum.misordered += run->cons[i].misordered;
        sum.sampled += run->cons[i].sampled;
        sum.corrupt += run->cons[i].corrupt;
    }
    return sum;
}

static void run_watch(const struct run *run, int fd, uint64_t id, uint32_t events, int operation)
{
    struct epoll_event event = {.events = events, .data.u64 = id};
    if (epoll_ctl(run->epoll, operation, fd, &event) != 0)
        load_fail("epoll_ctl: %s", strerror(errno));
}

void load_wait_for_go(const struct load_job *job, const char *text)
{
    char line[64];
    if (!job->waits)
        return;
    printf("%s\n", text);
    fflush(stdout);
    if (fgets(line, sizeof line, stdin) == NULL)
        return;
}

static void run_open(struct run *run)
{
    const struct load_job *job = run->job;
    run->epoll = epoll_create1(EPOLL_CLOEXEC);
    run->pub_count = job->publishes ? job->publishers : 0;
    run->con_count = job->consumes ? job->consumers : 0;
    run->pubs = load_alloc(run->pub_count * sizeof *run->pubs);
    run->cons = load_alloc(run->con_count * sizeof *run->cons);
    for (unsigned i = 0; i < run->pub_count; i++) {
        load_pub_open(&run->pubs[i], job, i, &run->confirm_ns);
        run_watch(run, run->pubs[i].conn.fd, i, EPOLLIN, EPOLL_CTL_ADD);
    }
    for (unsigned i = 0; i < run->con_count; i++) {
        load_con_open(&run->cons[i], job, i, &run->deliver_ns);
        run_watch(run, run->cons[i].conn.fd, run->pub_count + i, EPOLLIN, EPOLL_CTL_ADD);
    }
}

/* Delivered as often as the messages published so far must be delivered at least, 0 if nothing is to be
 * awaited. */
static uint64_t run_due_deliveries(const struct run *run, const struct run_totals *sum)
{
    if (run->con_count == 0)
        return 0;
    return (run->pub_count != 0 ? sum->sent : run->quota * run->job->publishers) * run->job->queues;
}

static bool run_publishing_over(const struct run *run, const struct run_totals *sum)
{
    if (run->pub_count == 0)
        return true;
    return run->stop_ns != 0 ? run->now_ns >= run->stop_ns : sum->sent - run->base >= run->quota;
}

static bool run_is_over(const struct run *run, const struct run_totals *sum)
{
    if (!run_publishing_over(run, sum) || sum->delivered < run_due_deliveries(run, sum))
        return false;
    for (unsigned i = 0; i < run->pub_count; i++)
        if (load_pub_is_writing(&run->pubs[i]))
            return false;
    return run->job->window == 0 || sum->confirmed + sum->nacked >= sum->sent;
}

/* How many messages may be published now; `wait_ns` is the time until there will be one more. */
static uint64_t run_allowance(const struct run *run, const struct run_totals *sum, uint64_t *wait_ns)
{
    const struct load_job *job = run->job;
    uint64_t allowed = 1U << 30; /* more than any turn can send, and far from overflow in shares */
    *wait_ns = UINT64_MAX;
    if (run_publishing_over(run, sum))
        return 0;
    if (run->stop_ns == 0)
        allowed = run->quota - (sum->sent - run->base);
    if (job->lag != 0 && run->con_count != 0) {
        const uint64_t open = sum->sent - sum->delivered / job->queues;
        allowed = open >= job->lag ? 0 : allowed < job->lag - open ? allowed : job->lag - open;
    }
    if (job->rate > 0) {
        const double step_ns = (double)LOAD_NS_PER_S / job->rate;
        const uint64_t due = (uint64_t)((double)(run->now_ns - run->start_ns) / step_ns) + 1;
        const uint64_t sent = sum->sent - run->base;
        const uint64_t late = due > sent ? due - sent : 0;
        const uint64_t next_ns = run->start_ns + (uint64_t)(step_ns * (double)due);
        *wait_ns = next_ns > run->now_ns ? next_ns - run->now_ns : 0;
        allowed = allowed < late ? allowed : late;
    }
    return allowed;
}

/* When the next message of this phase should leave: now, or at a fixed rate its place in the schedule. */
static uint64_t run_due_ns(const struct run *run, uint64_t sent, uint64_t *step_ns)
{
    *step_ns = 0;
    if (run->job->rate <= 0)
        return run->now_ns;
    const double step = (double)LOAD_NS_PER_S / run->job->rate;
    *step_ns = (uint64_t)step;
    return run->start_ns + (uint64_t)(step * (double)(sent - run->base));
}

static void run_mark_stuck(struct run *run, unsigned i, bool was_stuck)
{
    const bool is_stuck = run->pubs[i].stuck;
    if (is_stuck != was_stuck)
        run_watch(run, run->pubs[i].conn.fd, i, is_stuck ? EPOLLIN | EPOLLOUT : EPOLLIN, EPOLL_CTL_MOD);
}

/* Lets each publisher send what is allowed; the time that the loop may then wait. */
static uint64_t run_publish(struct run *run)
{
    struct run_totals sum = run_sum(run);
    uint64_t wait_ns;
    uint64_t allowed = run_allowance(run, &sum, &wait_ns);
    for (unsigned i = 0; i < run->pub_count; i++) {
        struct load_pub *pub = &run->pubs[i];
        const bool was_stuck = pub->stuck;
        uint64_t step_ns;
        const uint64_t share = (allowed + run->pub_count - i - 1) / (run->pub_count - i);
        const uint64_t due_ns = run_due_ns(run, sum.sent, &step_ns);
        const uint64_t n = load_pub_send(pub, share, due_ns, step_ns);
        run_mark_stuck(run, i, was_stuck);
        sum.sent += n;
        allowed -= n;
        if (n != 0 && !pub->stuck && run->job->rate <= 0)
            wait_ns = 0;
    }
    return wait_ns;
}

static void run_receive(struct run *run, uint64_t wait_ns)
{
    enum { EVENTS = 64 };
    struct epoll_event events[EVENTS];
    const uint64_t longest_ns = 50000000;
    const uint64_t ns = wait_ns < longest_ns ? wait_ns : longest_ns;
    const struct timespec timeout = {.tv_sec = 0, .tv_nsec = (long)ns};
    const int n = epoll_pwait2(run->epoll, events, EVENTS, &timeout, NULL);
    for (int i = 0; i < n; i++) {
        const uint64_t id = events[i].data.u64;
        if (id >= run->pub_count)
            load_con_receive(&run->cons[id - run->pub_count]);
        else if ((events[i].events & ~(uint32_t)EPOLLOUT) != 0)
            load_pub_receive(&run->pubs[id]);
    }
}

static void run_check_stall(struct run *run, const struct run_totals *sum)
{
    const uint64_t progress = sum->sent + sum->confirmed + sum->nacked + sum->delivered;
    if (progress != run->progress) {
        run->progress = progress;
        run->progress_ns = run->now_ns;
    } else if (run->now_ns - run->progress_ns > run->job->stall_s * LOAD_NS_PER_S) {
        load_fail("nothing happened for %u s: %llu sent, %llu confirmed, %llu delivered", run->job->stall_s,
                  (unsigned long long)sum->sent, (unsigned long long)sum->confirmed,
                  (unsigned long long)sum->delivered);
    }
}

static void run_phase(struct run *run, uint64_t count, double seconds)
{
    run->base = run_sum(run).sent;
    run->quota = run->pub_count != 0 ? count * run->pub_count : count;
    run->start_ns = run->now_ns = run->progress_ns = load_now_ns();
    run->stop_ns = count != 0 ? 0 : run->start_ns + (uint64_t)(seconds * (double)LOAD_NS_PER_S);
    for (;;) {
        run_receive(run, run_publish(run));
        run->now_ns = load_now_ns();
        const struct run_totals sum = run_sum(run);
        if (run_is_over(run, &sum))
            return;
        if (run_publishing_over(run, &sum))
            for (unsigned i = 0; i < run->con_count; i++)
                load_con_ack_rest(&run->cons[i]);
        run_check_stall(run, &sum);
    }
}

static bool run_is_correct(const struct run *run, const struct run_totals *sum)
{
    const bool confirmed = run->pub_count == 0 || run->job->window == 0 || sum->confirmed == sum->sent;
    return confirmed && sum->delivered == run_due_deliveries(run, sum) && sum->misordered == 0 &&
           sum->corrupt == 0 && sum->redelivered == 0 && sum->returned == 0;
}

static void run_print(const struct run *run, const struct run_totals *sum, const struct run_totals *before,
                      uint64_t cpu_ns, bool correct)
{
    const double seconds = (double)(run->now_ns - run->start_ns) / (double)LOAD_NS_PER_S;
    const uint64_t sent = sum->sent - before->sent;
    const uint64_t delivered = sum->delivered - before->delivered;
    const uint64_t messages = run->pub_count != 0 ? sent : delivered;
    printf("{\"messages\":%llu,\"deliveries\":%llu,\"seconds\":%.4f,\"rate\":%.1f,\"own_cpu_s\":%.4f,"
           "\"body_bytes\":%zu,\"confirmed\":%llu,\"nacked\":%llu,\"returned\":%llu,\"redelivered\":%llu,"
           "\"misordered\":%llu,\"sampled\":%llu,\"corrupt\":%llu,\"blocked\":%llu,\"correct\":%s",
           (unsigned long long)messages, (unsigned long long)delivered, seconds, (double)messages / seconds,
           (double)cpu_ns / (double)LOAD_NS_PER_S, run->job->body_bytes,
           (unsigned long long)(sum->confirmed - before->confirmed), (unsigned long long)sum->nacked,
           (unsigned long long)sum->returned, (unsigned long long)sum->redelivered,
           (unsigned long long)sum->misordered, (unsigned long long)sum->sampled,
           (unsigned long long)sum->corrupt, (unsigned long long)sum->blocked, correct ? "true" : "false");
    load_hist_print(stdout, "confirm", &run->confirm_ns);
    load_hist_print(stdout, "deliver", &run->deliver_ns);
    printf("}\n");
    fflush(stdout);
}

static void run_close(struct run *run)
{
    for (unsigned i = 0; i < run->con_count; i++) {
        load_con_ack_rest(&run->cons[i]);
        if (run->pub_count == 0 && i + 1 == run->con_count)
            load_job_delete(run->job, &run->cons[i].conn);
        load_con_close(&run->cons[i]);
    }
    for (unsigned i = 0; i < run->pub_count; i++) {
        if (i + 1 == run->pub_count)
            load_job_delete(run->job, &run->pubs[i].conn);
        load_pub_close(&run->pubs[i]);
    }
    free(run->pubs);
    free(run->cons);
    close(run->epoll);
}

int load_run(const struct load_job *job)
{
    struct run *run = load_alloc(sizeof *run);
    run->job = job;
    run_open(run);
    if (job->warmup_seconds > 0 && job->publishes)
        run_phase(run, 0, job->warmup_seconds);
    load_hist_clear(&run->confirm_ns);
    load_hist_clear(&run->deliver_ns);
    const struct run_totals before = run_sum(run);
    load_wait_for_go(job, "{\"ready\":true}");
    const uint64_t cpu_ns = load_own_cpu_ns();
    run_phase(run, job->count, job->seconds);
    const struct run_totals sum = run_sum(run);
    const bool correct = run_is_correct(run, &sum);
    run_print(run, &sum, &before, load_own_cpu_ns() - cpu_ns, correct);
    load_wait_for_go(job, "{\"done\":true}");
    run_close(run);
    free(run);
    return correct ? 0 : 1;
}
