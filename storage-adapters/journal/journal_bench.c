/* journal_bench.c - what a durable message costs inside the journal: on the worker that submits it, and on
 * the committer.
 *
 * One lane submits turns of B messages (100 B bodies, one queue each) and settles them two turns later; at
 * most W messages wait for their done. CPU is taken from the threads' own clocks, so the disk's waiting time
 * is not in it. With --window 1 the latency of one commit is seen, beside the disk's bare fdatasync of 4 KiB
 * in an already written file.
 *
 * With --keep 1 nothing is settled: the backlog stays, over --queues Q queues, each message in --fan F of them. --kill 1 ends the process without a word when
 * all is durable. A later start prints what it took to recover it; --recover N does nothing but start N times (without a clean
 * stop) and prints the medians, the peak of memory, and beside them the time that `cat` takes over the same bytes.
 *
 * usage: journal_bench [--keep 1] [--kill 1] [--recover N] [--spans 0|1] [--queues Q] [--fan F] [--path DIR] [--messages N] [--turn B]
 * [--window W] [--body BYTES] [--flush sync|os] */
#include "journal.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <mqgate/module.h>

extern const struct mqg_module mqg_module;

struct bench {
    const char *path, *flush;
    uint64_t messages, turn, window, body, keep, kill, recover, spans, queues, fan, recovered, told, nspan;
    double open_ms;
    struct mqg_store *s;
    struct mqg_conf *conf;
    _Atomic uint64_t done;
    uint64_t submit_ns, make_ns;
};

static void bench_done(void *host, uint32_t lane, uint64_t ticket)
{
    struct bench *b = host;
    (void)lane;
    atomic_store_explicit(&b->done, ticket, memory_order_release);
}

static void bench_failed(void *host, enum mqg_err err, const char *text)
{
    (void)host;
    fprintf(stderr, "%s: %s\n", mqg_err_name(err), text);
    exit(1);
}

static void bench_pressure(void *host, bool blocked, const char *why)
{
    (void)host;
    fprintf(stderr, "blocked=%d %s\n", blocked, why);
}

static bool bench_recovered(void *arg, uint64_t queue_id, uint64_t qseq, struct mqg_extent *extent,
                            uint32_t off, uint32_t len, const struct mqg_stored *head,
                            uint32_t delivery_count, uint32_t acquired_count)
{
    struct bench *b = arg;
    (void)queue_id, (void)qseq, (void)extent, (void)off, (void)len, (void)head, (void)delivery_count,
        (void)acquired_count;
    b->recovered++;
    b->told++;
    return true;
}

static bool bench_span(void *arg, uint64_t queue_id, uint64_t first, uint64_t last, uint64_t count,
                       uint64_t body_bytes)
{
    struct bench *b = arg;
    (void)queue_id, (void)first, (void)last, (void)body_bytes;
    b->recovered += count;
    b->nspan++;
    return true;
}

static bool bench_wanted(void *arg, uint64_t queue_id)
{
    const struct bench *b = arg;
    (void)queue_id;
    return b->spans != 0;
}

static uint64_t bench_clock(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static void bench_pause(long us)
{
    nanosleep(&(struct timespec){0, us * 1000}, NULL);
}

static void bench_set(struct bench *b, const char *key, const char *value)
{
    char text[512];
    struct mqg_error e;
    snprintf(text, sizeof text, "store.journal.%s=%s", key, value);
    if (mqg_conf_set(b->conf, text, &e) != MQG_OK) {
        fprintf(stderr, "%s\n", e.text);
        exit(2);
    }
}

static void bench_open(struct bench *b)
{
    struct mqg_store_host host = {bench_done, bench_failed, bench_pressure, NULL, NULL, b};
    struct mqg_recover r = {
        .message = bench_recovered, .span = bench_span, .spans_wanted = bench_wanted, .arg = b};
    b->recovered = b->told = b->nspan = 0;
    uint64_t begin = bench_clock(CLOCK_MONOTONIC);
    struct mqg_error e;
    b->conf = mqg_conf_new();
    mqg_conf_schema(b->conf, mqg_module.conf);
    bench_set(b, "path", b->path);
    bench_set(b, "flush", b->flush);
    if (mqg_conf_check(b->conf, &e) != MQG_OK ||
        jrn_ops.open(&b->s, &host, b->conf, "store.journal", 1, &e) != MQG_OK ||
        jrn_ops.recover(b->s, &r, &e) != MQG_OK || jrn_ops.start(b->s, &e) != MQG_OK) {
        fprintf(stderr, "%s\n", e.text);
        exit(1);
    }
    b->open_ms = (double)(bench_clock(CLOCK_MONOTONIC) - begin) / 1e6;
    printf("recovered=%llu one_by_one=%llu spans=%llu ms=%.0f\n", (unsigned long long)b->recovered,
           (unsigned long long)b->told, (unsigned long long)b->nspan, b->open_ms);
    fflush(stdout);
}

static struct mqg_msg *bench_msg(const struct bench *b, struct mqg_extent *x)
{
    struct mqg_msg_parts p = {.proto = MQG_PROTO_AMQP091,
                              .flags = MQG_MSG_PERSISTENT,
                              .key_sep = '.',
                              .key = MQG_SLICE_LIT("bench"),
                              .origin = MQG_SLICE_LIT("\x10\x00\x02"),
                              .body_len = (uint32_t)b->body};
    struct mqg_msg *m = mqg_msg_new(&p);
    MQG_ASSERT(m != NULL);
    memset(mqg_msg_body_mut(m), 'b', b->body);
    m->extent = x;
    return m;
}

/* One turn: `turn` messages and the settling of an earlier turn, one submit. Returns the extent. */
static struct mqg_extent *bench_turn(struct bench *b, uint64_t ticket, uint64_t first, uint64_t settle)
{
    static struct mqg_store_op ops[4096];
    static struct mqg_dest *dests;
    uint64_t begin = bench_clock(CLOCK_THREAD_CPUTIME_ID);
    struct mqg_extent *x = jrn_ops.extent_open(b->s, 0);
    struct mqg_range range = {settle, settle + b->turn - 1};
    size_t n = 0;
    mqg_extent_take(x, (int64_t)(b->turn * b->fan));
    if (!dests)
        dests = mqg_xcalloc(b->turn * b->fan, sizeof *dests);
    for (uint64_t i = 0; i < b->turn; i++) {
        struct mqg_dest *to = &dests[i * b->fan];
        for (uint64_t k = 0; k < b->fan; k++)
            to[k] = (struct mqg_dest){1 + (first + i + k) % b->queues, first + i};
        ops[n++] = (struct mqg_store_op){.kind = MQG_OP_MSG, .msg = {bench_msg(b, x), to, (uint32_t)b->fan}};
    }
    if (settle && !b->keep)
        ops[n++] = (struct mqg_store_op){.kind = MQG_OP_SETTLE, .settle = {1, &range, 1}};
    uint64_t made = bench_clock(CLOCK_THREAD_CPUTIME_ID);
    while (jrn_ops.submit(b->s, 0, ops, n, ticket, MQG_SUBMIT_URGENT) == MQG_AGAIN)
        bench_pause(100);
    b->submit_ns += bench_clock(CLOCK_THREAD_CPUTIME_ID) - made;
    b->make_ns += made - begin;
    for (uint64_t i = 0; i < b->turn; i++)
        mqg_msg_unref(&ops[i].msg.msg);
    return x;
}

static void bench_wait(struct bench *b, uint64_t ticket)
{
    /* With one turn under way nothing else is to be done, and a sleep would be measured as the journal's. */
    for (int spins = 0; atomic_load_explicit(&b->done, memory_order_acquire) < ticket; spins++)
        if (spins > 100 && b->window > b->turn)
            bench_pause(20);
        else
            sched_yield();
}

static void bench_run(struct bench *b)
{
    enum { BEHIND = 2 };
    uint64_t turns = b->messages / b->turn, ahead = b->window / b->turn ? b->window / b->turn : 1;
    struct mqg_extent *extents[BEHIND] = {NULL};
    for (uint64_t t = 0; t < turns; t++) {
        uint64_t settle = t >= BEHIND ? 1 + (t - BEHIND) * b->turn : 0;
        struct mqg_extent *old = extents[t % BEHIND];
        extents[t % BEHIND] = bench_turn(b, t + 1, 1 + t * b->turn, settle);
        if (old && !b->keep)
            mqg_extent_give(old, (int64_t)b->turn);
        if (t + 1 > ahead)
            bench_wait(b, t + 1 - ahead);
        if (ahead == 1)
            bench_wait(b, t + 1);
    }
    bench_wait(b, turns);
}

/* The disk's own figure, to read the others by: the median fdatasync of 4 KiB in a written file, in us. */
static double bench_bare_sync(const struct bench *b)
{
    enum { N = 101 };
    static double us[N];
    static uint8_t block[4096];
    char path[512];
    snprintf(path, sizeof path, "%s/bare", b->path);
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    for (int i = 0; i < 1024; i++)
        if (pwrite(fd, block, sizeof block, i * 4096) < 0)
            return 0;
    fsync(fd);
    for (int i = 0; i < N; i++) {
        uint64_t begin = bench_clock(CLOCK_MONOTONIC);
        block[0]++;
        if (pwrite(fd, block, sizeof block, i * 4096) < 0 || fdatasync(fd) < 0)
            return 0;
        us[i] = (double)(bench_clock(CLOCK_MONOTONIC) - begin) / 1000;
    }
    close(fd);
    unlink(path);
    for (int i = 0; i < N; i++)
        for (int j = i + 1; j < N; j++)
            if (us[j] < us[i]) {
                double x = us[i];
                us[i] = us[j];
                us[j] = x;
            }
    return us[N / 2];
}

static void bench_print(struct bench *b, double seconds, double committer_ns, double bare_us)
{
    struct mqg_store_stats st;
    jrn_ops.stats(b->s, &st);
    double n = (double)(b->messages / b->turn * b->turn);
    printf("messages=%.0f body=%llu turn=%llu window=%llu flush=%s bare_4k_fdatasync_us=%.0f\n", n,
           (unsigned long long)b->body, (unsigned long long)b->turn, (unsigned long long)b->window, b->flush,
           bare_us);
    printf("submit_cpu_ns_per_msg=%.1f make_cpu_ns_per_msg=%.1f committer_cpu_ns_per_msg=%.1f\n",
           (double)b->submit_ns / n, (double)b->make_ns / n, committer_ns / n);
    printf(
        "msgs_per_s=%.0f commits=%llu commits_per_s=%.0f msgs_per_commit=%.1f committer_us_per_commit=%.1f "
        "disk_bytes_per_msg=%.0f segments=%llu\n",
        n / seconds, (unsigned long long)st.commits, (double)st.commits / seconds, n / (double)st.commits,
        committer_ns / 1000 / (double)st.commits, (double)st.synced_bytes / n,
        (unsigned long long)st.segments);
    printf("round_trip_us_per_commit=%.0f fdatasync_us_per_commit=%.0f\n", seconds * 1e6 / (double)st.commits,
           (double)mqg_count_sum(MQG_COUNT_STORE_SYNC_US) / (double)st.commits);
}

static void bench_arguments(struct bench *b, int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *key = argv[i], *value = argv[i + 1];
        if (strcmp(key, "--path") == 0)
            b->path = value;
        else if (strcmp(key, "--flush") == 0)
            b->flush = value;
        else if (strcmp(key, "--messages") == 0)
            b->messages = strtoull(value, NULL, 10);
        else if (strcmp(key, "--turn") == 0)
            b->turn = strtoull(value, NULL, 10);
        else if (strcmp(key, "--window") == 0)
            b->window = strtoull(value, NULL, 10);
        else if (strcmp(key, "--keep") == 0)
            b->keep = strtoull(value, NULL, 10);
        else if (strcmp(key, "--kill") == 0)
            b->kill = strtoull(value, NULL, 10);
        else if (strcmp(key, "--recover") == 0)
            b->recover = strtoull(value, NULL, 10);
        else if (strcmp(key, "--spans") == 0)
            b->spans = strtoull(value, NULL, 10);
        else if (strcmp(key, "--queues") == 0)
            b->queues = strtoull(value, NULL, 10);
        else if (strcmp(key, "--fan") == 0)
            b->fan = strtoull(value, NULL, 10);
        else if (strcmp(key, "--body") == 0)
            b->body = strtoull(value, NULL, 10);
        else
            exit(2);
    }
    if (b->turn == 0 || b->turn > 4000 || b->queues == 0 || b->fan == 0 || b->fan > b->queues)
        exit(2);
}

static void bench_close(struct bench *b, bool clean)
{
    if (clean)
        jrn_ops.close(b->s);
    jrn_ops.stop(b->s);
    jrn_ops.fini(&b->s);
    mqg_conf_free(&b->conf);
}

/* One start in a process of its own: what it took, and the most memory it had. */
static double bench_start(struct bench *b, long *peak_kib)
{
    int pipes[2];
    double ms = 0;
    struct rusage used;
    if (pipe(pipes) < 0)
        exit(1);
    pid_t pid = fork();
    if (pid == 0) {
        bench_open(b);
        ssize_t n = write(pipes[1], &b->open_ms, sizeof b->open_ms);
        _exit(n == (ssize_t)sizeof b->open_ms ? 0 : 1); /* as killed: nothing is closed */
    }
    if (pid < 0 || read(pipes[0], &ms, sizeof ms) != (ssize_t)sizeof ms || wait4(pid, NULL, 0, &used) < 0)
        exit(1);
    close(pipes[0]);
    close(pipes[1]);
    *peak_kib = used.ru_maxrss;
    return ms;
}

static double bench_cat(const struct bench *b)
{
    char command[1024];
    snprintf(command, sizeof command, "cat %s/*.seg > /dev/null", b->path);
    uint64_t begin = bench_clock(CLOCK_MONOTONIC);
    int code = system(command); /* lint:allow banned_calls cat is what is measured */
    if (code != 0)
        exit(1);
    return (double)(bench_clock(CLOCK_MONOTONIC) - begin) / 1e6;
}

static double bench_median(double *at, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        for (uint64_t j = i + 1; j < n; j++)
            if (at[j] < at[i]) {
                double x = at[i];
                at[i] = at[j];
                at[j] = x;
            }
    return at[n / 2];
}

static int bench_recover(struct bench *b)
{
    enum { MAX = 101 };
    double ms[MAX] = {0}, cat[MAX] = {0};
    long peak = 0, most = 0;
    uint64_t n = b->recover < MAX ? b->recover : MAX;
    for (uint64_t i = 0; i < n; i++) {
        ms[i] = bench_start(b, &peak);
        cat[i] = bench_cat(b);
        most = peak > most ? peak : most;
    }
    double first = ms[0];
    printf("starts=%llu first_ms=%.0f median_ms=%.0f peak_rss_mib=%ld cat_median_ms=%.0f\n",
           (unsigned long long)n, first, bench_median(ms, n), most / 1024, bench_median(cat, n));
    return 0;
}

int main(int argc, char **argv)
{
    struct bench b = {.path = "/tmp/mqg-journal-bench",
                      .flush = "sync",
                      .messages = 2000000,
                      .turn = 100,
                      .window = 1000,
                      .spans = 1,
                      .queues = 1,
                      .fan = 1,
                      .body = 100};
    clockid_t committer;
    bench_arguments(&b, argc, argv);
    mqg_log_level_set(b.recover ? MQG_LOG_INFO : MQG_LOG_WARN);
    if (b.recover)
        return bench_recover(&b);
    bench_open(&b);
    double bare_us = bench_bare_sync(&b);
    pthread_getcpuclockid(b.s->com.thread, &committer);
    uint64_t cpu = bench_clock(committer), begin = bench_clock(CLOCK_MONOTONIC);
    bench_run(&b);
    double seconds = (double)(bench_clock(CLOCK_MONOTONIC) - begin) / 1e9;
    double committer_ns = (double)(bench_clock(committer) - cpu);
    bench_print(&b, seconds, committer_ns, bare_us);
    if (b.kill)
        _exit(0);
    bench_close(&b, true);
    return 0;
}
