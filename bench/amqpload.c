/* amqpload: a load generator for AMQP 0-9-1 that costs less than the server it loads.
 *
 * General clients spend 5-50 us on a message, so that with them a fast server is never the slower side and
 * a benchmark compares clients. This one builds publish frames once, stamps and writes them 256 KiB at a
 * time, and reads deliveries by their lengths: about 0.1 us per message and role, with every sequence
 * number checked. One process plays one role or several on one thread; start more for more. */
#include "load_job.h"
#include "load_run.h"
#include "load_util.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

enum option_id {
    OPT_HOST = 256,
    OPT_PORT,
    OPT_USER,
    OPT_PASSWORD,
    OPT_VHOST,
    OPT_ROLE,
    OPT_IDLE,
    OPT_PARALLEL,
    OPT_QUEUE,
    OPT_FANOUT,
    OPT_DURABLE,
    OPT_ARG,
    OPT_NO_DECLARE,
    OPT_DELETE,
    OPT_SIZE,
    OPT_PERSISTENT,
    OPT_PUBLISHERS,
    OPT_CONFIRM,
    OPT_COUNT,
    OPT_SECONDS,
    OPT_WARMUP,
    OPT_RATE,
    OPT_LAG,
    OPT_CONSUMERS,
    OPT_PREFETCH,
    OPT_ACK_EVERY,
    OPT_SAMPLE,
    OPT_STALL,
    OPT_LATENCY,
    OPT_WAIT,
    OPT_CPU,
    OPT_HELP,
};

struct option_row {
    enum option_id id;
    const char *name;
    const char *value; /* NULL: takes none */
    const char *help;
};

static const struct option_row OPTIONS[] = {
    {OPT_HOST, "host", "ADDRESS", "server, an IPv4 address (127.0.0.1)"},
    {OPT_PORT, "port", "PORT", "its port (5672)"},
    {OPT_USER, "user", "NAME", "user (guest)"},
    {OPT_PASSWORD, "password", "TEXT", "password (guest)"},
    {OPT_VHOST, "vhost", "NAME", "vhost (/)"},
    {OPT_ROLE, "role", "pub|con|both", "what this process does (both)"},
    {OPT_IDLE, "idle", "N", "instead: open N connections and hold them"},
    {OPT_PARALLEL, "parallel", "N", "of them at a time in the handshake (64)"},
    {OPT_QUEUE, "queue", "NAME", "queue; with --fanout NAME.0, NAME.1, ... (bench)"},
    {OPT_FANOUT, "fanout", "N", "a fanout exchange NAME.fanout with N queues"},
    {OPT_DURABLE, "durable", NULL, "durable queues and exchange"},
    {OPT_ARG, "queue-arg", "KEY=VALUE", "argument of queue.declare; digits are an integer; may be repeated"},
    {OPT_NO_DECLARE, "no-declare", NULL, "the queues are there already"},
    {OPT_DELETE, "delete", NULL, "delete queues and exchange at the end"},
    {OPT_SIZE, "size", "BYTES", "body, at least 24 (100)"},
    {OPT_PERSISTENT, "persistent", NULL, "delivery mode 2"},
    {OPT_PUBLISHERS, "publishers", "N", "publishing connections; a lone consumer must be told too (1)"},
    {OPT_CONFIRM, "confirm", "WINDOW", "publisher confirms, so many open per publisher; 0: none (0)"},
    {OPT_COUNT, "count", "N", "messages per publisher, or to be consumed per publisher"},
    {OPT_SECONDS, "seconds", "S", "or publish so long (3)"},
    {OPT_WARMUP, "warmup", "S", "and so long before, untimed (0)"},
    {OPT_RATE, "rate", "N", "messages per second of all publishers; 0: as fast as it goes (0)"},
    {OPT_LAG, "lag", "N", "role both: pause while so many are published but not delivered; 0: never (0)"},
    {OPT_CONSUMERS, "consumers", "N", "connections that the queues are spread over (1)"},
    {OPT_PREFETCH, "prefetch", "N", "per consumer (1000)"},
    {OPT_ACK_EVERY, "ack-every", "N", "one multiple ack for so many deliveries; 0: no-ack consumers (100)"},
    {OPT_SAMPLE, "sample", "N", "verify the checksum of every n-th body; 0: of none (1024)"},
    {OPT_STALL, "stall", "S", "give up when nothing happened for so long (60)"},
    {OPT_LATENCY, "latency", NULL, "take latencies: publish to confirm, publish to delivery"},
    {OPT_WAIT, "wait", NULL,
     "print ready and wait for a line on stdin before the timed part and before the end"},
    {OPT_CPU, "cpu", "N", "stay on this core"},
    {OPT_HELP, "help", NULL, "this text"},
};
enum { OPTION_COUNT = sizeof OPTIONS / sizeof OPTIONS[0] };

_Noreturn static void print_help(void)
{
    printf("usage: amqpload [options]; prints one line of JSON\n");
    for (size_t i = 0; i < OPTION_COUNT; i++)
        printf("  --%-12s %-13s %s\n", OPTIONS[i].name, OPTIONS[i].value == NULL ? "" : OPTIONS[i].value,
               OPTIONS[i].help);
    exit(0);
}

static uint64_t number(const char *text, uint64_t most)
{
    char *end;
    const uint64_t value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || value > most)
        load_fail("'%s' is not a number of at most %llu", text, (unsigned long long)most);
    return value;
}

static double real(const char *text)
{
    char *end;
    const double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= 0 && value < 1e12))
        load_fail("'%s' is not a positive number", text);
    return value;
}

static void set_role(struct load_job *job, const char *text)
{
    job->publishes = strcmp(text, "con") != 0;
    job->consumes = strcmp(text, "pub") != 0;
    if (strcmp(text, "both") != 0 && job->publishes && job->consumes)
        load_fail("a role is pub, con or both");
}

static void add_arg(struct load_job *job, const char *pair)
{
    if (job->arg_count == LOAD_ARGS_MAX)
        load_fail("at most %d queue arguments", LOAD_ARGS_MAX);
    job->args[job->arg_count++] = pair;
}

static void set_host(struct load_job *job, const char *text)
{
    if (inet_pton(AF_INET, text, &job->target.address.sin_addr) != 1)
        load_fail("'%s' is not an IPv4 address", text);
}

static bool set_server_option(struct load_job *job, enum option_id id, const char *text)
{
    switch (id) {
    case OPT_HOST: set_host(job, text); return true;
    case OPT_PORT: job->target.address.sin_port = htons((uint16_t)number(text, UINT16_MAX)); return true;
    case OPT_USER: job->target.user = text; return true;
    case OPT_PASSWORD: job->target.password = text; return true;
    case OPT_VHOST: job->target.vhost = text; return true;
    case OPT_ROLE: set_role(job, text); return true;
    case OPT_IDLE: job->idle = (unsigned)number(text, 1000000); return true;
    case OPT_PARALLEL: job->parallel = (unsigned)number(text, 4096); return true;
    case OPT_QUEUE: job->queue = text; return true;
    case OPT_FANOUT:
        job->exchange = "";
        job->queues = (unsigned)number(text, 65535);
        return true;
    case OPT_DURABLE: job->durable = true; return true;
    case OPT_ARG: add_arg(job, text); return true;
    case OPT_NO_DECLARE: job->declares = false; return true;
    case OPT_DELETE: job->deletes = true; return true;
    default: return false;
    }
}

static void set_load_option(struct load_job *job, enum option_id id, const char *text)
{
    switch (id) {
    case OPT_SIZE: job->body_bytes = number(text, 1U << 30); break;
    case OPT_PERSISTENT: job->persistent = true; break;
    case OPT_PUBLISHERS: job->publishers = (unsigned)number(text, 60000); break;
    case OPT_CONFIRM: job->window = (unsigned)number(text, 100000); break;
    case OPT_COUNT: job->count = number(text, UINT32_MAX); break;
    case OPT_SECONDS: job->seconds = real(text); break;
    case OPT_WARMUP: job->warmup_seconds = real(text); break;
    case OPT_RATE: job->rate = real(text); break;
    case OPT_LAG: job->lag = number(text, UINT32_MAX); break;
    case OPT_CONSUMERS: job->consumers = (unsigned)number(text, 60000); break;
    case OPT_PREFETCH: job->prefetch = (unsigned)number(text, UINT16_MAX); break;
    case OPT_ACK_EVERY: job->ack_every = (unsigned)number(text, UINT16_MAX); break;
    case OPT_SAMPLE: job->sample_every = (unsigned)number(text, UINT32_MAX); break;
    case OPT_STALL: job->stall_s = (unsigned)number(text, 3600); break;
    case OPT_LATENCY: job->takes_latency = true; break;
    case OPT_WAIT: job->waits = true; break;
    case OPT_CPU: job->cpu = (int)number(text, CPU_SETSIZE - 1); break;
    default: print_help();
    }
}

static void read_options(struct load_job *job, int argc, char **argv)
{
    struct option table[OPTION_COUNT + 1] = {0};
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        table[i].name = OPTIONS[i].name;
        table[i].has_arg = OPTIONS[i].value == NULL ? no_argument : required_argument;
        table[i].val = (int)OPTIONS[i].id;
    }
    int id;
    while ((id = getopt_long(argc, argv, "", table, NULL)) != -1) {
        if (id == '?')
            exit(2);
        if (!set_server_option(job, (enum option_id)id, optarg))
            set_load_option(job, (enum option_id)id, optarg);
    }
    if (optind != argc)
        load_fail("what is '%s'?", argv[optind]);
}

static void check_options(struct load_job *job)
{
    static char exchange[256];
    if (job->exchange != NULL) {
        snprintf(exchange, sizeof exchange, "%s.fanout", job->queue);
        job->exchange = exchange;
    }
    if (strlen(job->queue) > 240)
        load_fail("a queue's name of more than 240 bytes");
    if (job->queues == 0 || job->publishers == 0 || job->consumers == 0)
        load_fail("no queues, publishers or consumers: nothing to do");
    if (job->body_bytes < LOAD_STAMP_BYTES)
        load_fail("a body has at least %d bytes", LOAD_STAMP_BYTES);
    if (job->prefetch != 0 && job->ack_every > job->prefetch)
        load_fail("acks every %u deliveries, but the server stops after %u", job->ack_every, job->prefetch);
    if (!job->publishes && job->count == 0)
        load_fail("a lone consumer needs --count");
    if (job->consumers > job->queues)
        job->consumers = job->queues;
}

static void stay_on_core(int cpu)
{
    if (cpu < 0)
        return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0)
        load_fail("cannot stay on core %d", cpu);
}

static void raise_file_limit(const struct load_job *job)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < job->idle + 64)
        load_fail("%u connections, but only %llu open files are allowed", job->idle,
                  (unsigned long long)limit.rlim_cur);
}

int main(int argc, char **argv)
{
    struct load_job job = {
        .target = {.address = {.sin_family = AF_INET,
                               .sin_port = htons(5672),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)},
                   .user = "guest",
                   .password = "guest",
                   .vhost = "/"},
        .publishes = true,
        .consumes = true,
        .parallel = 64,
        .queue = "bench",
        .queues = 1,
        .declares = true,
        .body_bytes = 100,
        .publishers = 1,
        .seconds = 3,
        .consumers = 1,
        .prefetch = 1000,
        .ack_every = 100,
        .sample_every = 1024,
        .stall_s = 60,
        .cpu = -1,
    };
    signal(SIGPIPE, SIG_IGN);
    read_options(&job, argc, argv);
    check_options(&job);
    stay_on_core(job.cpu);
    raise_file_limit(&job);
    return job.idle != 0 ? load_idle(&job) : load_run(&job);
}
