/* kafkaload - produces to a Kafka server and fetches everything back, cheaper than the server takes and gives it.
 *
 * One topic; producers that each have their own partitions and several requests on their way; one consumer with a fetch session.
 * Requests are built once, one per slot of a producer's ring, and written from where they lie. A batch that goes out gets a new
 * number in its first record; what that changes in its CRC-32C is looked up (the sum is linear), so that a batch of a megabyte costs
 * the generator no more than its bytes on the socket.
 *
 * What comes back is held against what was sent: every batch follows the one before in its partition by offset and by number, has
 * its count and its sum, and every 64th is compared byte by byte. An answer to a producer must tell the offset that was due. What is lost,
 * doubled, changed or out of order is counted; the exit code is then 1.
 *
 * Roles: relay (both at once), produce and consume (one timed, the other before or after), polls (consumers of an empty topic
 * whose fetches expire). It speaks to the bench as amqpload does: {"ready"}, a line, the timed part, its result, {"done"}, a line. */
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "kafkaload_peer.h"

enum { EVENTS_MS = 10 };

/* ---- phases --------------------------------------------------------------------------------------------------------------------- */

static bool run_is_over(const struct run *r, bool fetched)
{
    return r->acked == r->sent && (!fetched || r->got >= r->sent);
}

static void run_events(struct run *r, int wait_ms)
{
    struct epoll_event events[256];
    int n = epoll_wait(r->epoll, events, 256, wait_ms);
    for (int i = 0; i < n; i++) {
        struct peer *p = events[i].data.ptr;
        if (p->slots != NULL)
            producer_read(r, p);
        else
            consumer_read(r, p);
        if (p->slots == NULL)
            consumer_flush(p);
    }
}

static void run_stalled(const struct run *r, uint64_t *progress, double *since_s)
{
    uint64_t now = r->acked + r->got + (r->job->role == ROLE_POLLS ? r->polls : 0);
    if (now != *progress)
        *since_s = now_s();
    *progress = now;
    if (now_s() > *since_s + r->job->stall_s)
        fail("nothing moves", 0);
}

/* Produces for that long, or that many batches (0: none); then until all is acknowledged and, where somebody fetches, has come. */
static double run_phase(struct run *r, double seconds, uint64_t batches)
{
    double start = now_s(), since_s = start;
    uint64_t progress = 0, until = r->sent + batches;
    for (;;) {
        bool producing = batches > 0 ? r->sent < until : now_s() < start + seconds;
        if (!producing && run_is_over(r, r->fetching))
            return now_s() - start;
        for (unsigned i = 0; i < r->job->producers; i++)
            if (producing)
                producer_fill(r, &r->producers[i]);
            else
                producer_flush(r, &r->producers[i]);
        run_events(r, EVENTS_MS);
        run_stalled(r, &progress, &since_s);
    }
}

static void run_consumers(struct run *r)
{
    uint32_t each = r->job->partitions / r->job->consumers;
    double start = now_s();
    if (r->consumers != NULL)
        return;
    r->consumers = room(r->job->consumers * sizeof *r->consumers);
    for (unsigned i = 0; i < r->job->consumers; i++) {
        struct peer *p = &r->consumers[i];
        consumer_open(r, p, i * each, i + 1 < r->job->consumers ? each : r->job->partitions - i * each);
        peer_watch(r, p);
        consumer_start(r, p);
        /* pollers one after the other, over the time that each waits */
        double due_s = start + r->job->wait_ms / 1000.0 * i / r->job->consumers;
        while (r->job->role == ROLE_POLLS && now_s() < due_s)
            run_events(r, 1);
    }
    r->fetching = true;
}

static double run_polls(struct run *r, double seconds)
{
    double start = now_s(), since_s = start;
    uint64_t progress = 0;
    while (now_s() < start + seconds) {
        run_events(r, EVENTS_MS);
        run_stalled(r, &progress, &since_s);
    }
    return now_s() - start;
}

static void run_open(struct run *r)
{
    const struct job *j = r->job;
    r->epoll = epoll_create1(EPOLL_CLOEXEC);
    r->parts = room(j->partitions * sizeof *r->parts);
    model_build(&r->model, j->size, j->batch);
    r->producers = room(j->producers * sizeof *r->producers);
    for (unsigned i = 0; i < j->producers; i++) {
        uint32_t first = (uint32_t)((uint64_t)j->partitions * i / j->producers),
                 end = (uint32_t)((uint64_t)j->partitions * (i + 1) / j->producers);
        producer_open(r, &r->producers[i], first, end - first);
        if (i == 0)
            topic_open(r, &r->producers[0]);
        peer_watch(r, &r->producers[i]);
    }
}

static void run_wait(const struct job *j, const char *text)
{
    char line[64];
    printf("%s\n", text);
    fflush(stdout);
    if (j->waits && fgets(line, sizeof line, stdin) == NULL)
        exit(0);
}

/* Before the timed part: the role's other side, or a bit of the same. */
static void run_warm(struct run *r)
{
    const struct job *j = r->job;
    if (j->role == ROLE_CONSUME) {
        run_phase(r, 0, ((uint64_t)j->fill_mib << 20) / r->model.len + 1);
        return;
    }
    if (j->role != ROLE_PRODUCE)
        run_consumers(r);
    if (j->role == ROLE_POLLS)
        run_polls(r, j->warmup + j->wait_ms / 1000.0);
    else
        run_phase(r, j->warmup, 0);
}

static double run_timed(struct run *r)
{
    if (r->job->role == ROLE_POLLS)
        return run_polls(r, r->job->seconds);
    if (r->job->role == ROLE_CONSUME)
        run_consumers(r);
    return run_phase(r, r->job->role == ROLE_CONSUME ? 0 : r->job->seconds, 0);
}

static bool run_is_correct(const struct run *r)
{
    return r->misordered == 0 && r->corrupt == 0 && (!r->fetching || r->got == r->sent);
}

static uint64_t run_units(const struct run *r)
{
    return r->job->role == ROLE_POLLS     ? r->polls
           : r->job->role == ROLE_CONSUME ? r->got * r->model.count
                                          : r->sent * r->model.count;
}

static bool run_all(const struct job *j)
{
    struct run r = {.job = j};
    run_open(&r);
    run_warm(&r);
    run_wait(j, "{\"ready\":true}");
    uint64_t before = run_units(&r);
    double cpu = own_cpu_s(), seconds = run_timed(&r);
    cpu = own_cpu_s() - cpu;
    uint64_t n = run_units(&r) - before;
    printf("{\"messages\":%llu,\"deliveries\":%llu,\"seconds\":%.4f,\"rate\":%.1f,\"own_cpu_s\":%.4f,"
           "\"body_bytes\":%u,\"batch_bytes\":%zu,\"batch_records\":%u,\"correct\":%s}\n",
           (unsigned long long)n, (unsigned long long)n, seconds, (double)n / seconds, cpu, j->size,
           r.model.len, r.model.count, run_is_correct(&r) ? "true" : "false");
    fflush(stdout);
    if (j->role == ROLE_PRODUCE) { /* what was stored is what was sent: looked at outside the timed part */
        run_consumers(&r);
        run_phase(&r, 0, 0);
    }
    char text[256];
    snprintf(text, sizeof text,
             "{\"done\":true,\"misordered\":%llu,\"sampled\":%llu,\"corrupt\":%llu,\"correct\":%s}",
             (unsigned long long)r.misordered, (unsigned long long)r.sampled, (unsigned long long)r.corrupt,
             run_is_correct(&r) ? "true" : "false");
    run_wait(j, text);
    if (j->deletes) {
        struct peer last = {0};
        peer_connect(&last, j, SETUP_BYTES);
        topic_delete(&r, &last);
    }
    return run_is_correct(&r);
}

/* ---- options -------------------------------------------------------------------------------------------------------------------- */

static const struct option OPTIONS[] = {
    {"port", required_argument, NULL, 'p'},
    {"role", required_argument, NULL, 'r'},
    {"size", required_argument, NULL, 's'},  /* of a record's value */
    {"batch", required_argument, NULL, 'b'}, /* bytes of a batch, about */
    {"partitions", required_argument, NULL, 'n'},
    {"producers", required_argument, NULL, 'P'}, /* connections; each has its share of the partitions */
    {"consumers", required_argument, NULL, 'C'},
    {"inflight", required_argument, NULL, 'i'},    /* requests of a producer */
    {"per-request", required_argument, NULL, 'R'}, /* partitions in one request at most */
    {"acks", required_argument, NULL, 'a'},
    {"lag", required_argument, NULL, 'l'},     /* bytes produced and not fetched at most */
    {"fill", required_argument, NULL, 'f'},    /* MiB that are produced before the role consume is timed */
    {"wait-ms", required_argument, NULL, 'm'}, /* of a fetch */
    {"config", required_argument, NULL, 'c'},  /* KEY=VALUE of the topic */
    {"sample", required_argument, NULL, 'S'},  /* one batch of so many is compared whole */
    {"stall", required_argument, NULL, 'T'},   /* seconds without any progress that end the run */
    {"seconds", required_argument, NULL, 't'},
    {"warmup", required_argument, NULL, 'w'},
    {"cpu", required_argument, NULL, 'u'},
    {"wait", no_argument, NULL, 'W'},
    {"delete", no_argument, NULL, 'D'},
    {NULL, 0, NULL, 0},
};

static enum role role_of(const char *name)
{
    static const char *const names[] = {"relay", "produce", "consume", "polls"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return (enum role)i;
    exit(2);
}

static void job_option(struct job *j, int option, const char *value)
{
    unsigned n = value != NULL ? (unsigned)strtoul(value, NULL, 10) : 0, some = n > 0 ? n : 1;
    switch (option) {
    case 'p': j->port = n; break;
    case 'r': j->role = role_of(value); break;
    case 's': j->size = n < STAMP ? STAMP : n; break;
    case 'b': j->batch = n; break;
    case 'n': j->partitions = some; break;
    case 'P': j->producers = some; break;
    case 'C': j->consumers = some; break;
    case 'i': j->inflight = some; break;
    case 'R': j->per_request = some; break;
    case 'a': j->acks = (int)strtol(value, NULL, 10); break;
    case 'l': j->lag_bytes = n; break;
    case 'f': j->fill_mib = n; break;
    case 'm': j->wait_ms = n; break;
    case 'c': snprintf(j->config, sizeof j->config, "%s", value); break;
    case 'S': j->sample = some; break;
    case 'T': j->stall_s = some; break;
    case 't': j->seconds = strtod(value, NULL); break;
    case 'w': j->warmup = strtod(value, NULL); break;
    case 'u': j->cpu = (int)n; break;
    case 'W': j->waits = true; break;
    case 'D': j->deletes = true; break;
    default: exit(2);
    }
}

int main(int argc, char **argv)
{
    struct job j = {.port = 9092,
                    .size = 100,
                    .batch = 16384,
                    .partitions = 1,
                    .producers = 1,
                    .consumers = 1,
                    .inflight = 5,
                    .per_request = 64,
                    .acks = -1,
                    .lag_bytes = 64 << 20,
                    .fill_mib = 512,
                    .wait_ms = 500,
                    .fetch_bytes = 50 << 20,
                    .partition_bytes = 1 << 20,
                    .sample = 64,
                    .stall_s = STALL_S,
                    .seconds = 3,
                    .warmup = 1,
                    .cpu = -1};
    int option;
    while ((option = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1)
        job_option(&j, option, optarg);
    if (j.producers > j.partitions || j.consumers > j.partitions)
        exit(2);
    snprintf(j.topic, sizeof j.topic, "kafkaload-%d-%lld", (int)getpid(), (long long)time(NULL));
    if (j.cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((size_t)j.cpu, &set);
        sched_setaffinity(0, sizeof set, &set);
    }
    return run_all(&j) ? 0 : 1;
}
