/* ticker.c - a sample service module: a thread of its own that counts.
 *
 * A service does what is no protocol and no store: it has its own thread and sockets, and never makes a worker wait.
 * This one ticks, and asks each worker for its turn number by mqg_worker_call, as an admin listing would. */
#include <mqgate/conf.h>
#include <mqgate/module.h>
#include <mqgate/obs.h>
#include <mqgate/worker.h>

#include <pthread.h>

static const struct mqg_conf_row ticker_rows[] = {
    {"ticker", "every", MQG_CONF_DURATION, "1s", 1, 3600000, NULL, "time between two ticks"},
    {.section = NULL},
};

static struct {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stopping;
    uint64_t every_ms;
    uint64_t ticks, turns;
} ticker = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static void ticker_ask(void *arg)
{
    *(uint64_t *)arg += mqg_worker_self()->turn;
}

/* Without the lock: the worker may be busy, and stop() must get through. */
static uint64_t ticker_turns(void)
{
    uint64_t turns = 0;
    for (uint32_t i = 0; i < mqg_worker_count(); i++)
        if (!mqg_worker_call(mqg_worker_at(i), ticker_ask, &turns))
            break; /* the node stops */
    return turns;
}

static void ticker_wait(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (time_t)(ticker.every_ms / 1000);
    until.tv_nsec += (long)(ticker.every_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait(&ticker.wake, &ticker.lock, &until);
}

static void *ticker_main(void *arg)
{
    pthread_mutex_lock(&ticker.lock);
    while (!ticker.stopping) {
        pthread_mutex_unlock(&ticker.lock);
        uint64_t turns = ticker_turns();
        pthread_mutex_lock(&ticker.lock);
        ticker.turns = turns;
        ticker.ticks++;
        mqg_log(MQG_LOG_DEBUG, MQG_EVENT_ADMIN, "ticker=%llu turns=%llu", (unsigned long long)ticker.ticks,
                (unsigned long long)turns);
        if (!ticker.stopping)
            ticker_wait();
    }
    pthread_mutex_unlock(&ticker.lock);
    return arg;
}

static enum mqg_err ticker_start(const struct mqg_conf *conf, struct mqg_error *e)
{
    ticker.stopping = false;
    ticker.every_ms = (uint64_t)mqg_conf_int(conf, "ticker", "every");
    if (pthread_create(&ticker.thread, NULL, ticker_main, NULL) != 0)
        return mqg_error_set(e, MQG_IO, 0, "ticker: no thread could be made");
    return MQG_OK;
}

static void ticker_stop(void)
{
    pthread_mutex_lock(&ticker.lock);
    ticker.stopping = true;
    pthread_cond_signal(&ticker.wake);
    pthread_mutex_unlock(&ticker.lock);
    pthread_join(ticker.thread, NULL);
}

/* For the ready line. */
static void ticker_describe(struct mqg_dynbuf *out)
{
    pthread_mutex_lock(&ticker.lock);
    mqg_dynbuf_printf(out, "ticker=%llums", (unsigned long long)ticker.every_ms);
    pthread_mutex_unlock(&ticker.lock);
}

static const struct mqg_service_ops ticker_ops = {
    .start = ticker_start,
    .stop = ticker_stop,
    .describe = ticker_describe,
};

MQG_MODULE(ticker) = {
    MQG_MODULE_HEAD(struct mqg_service_ops),
    .kind = MQG_MODULE_SERVICE,
    .name = "ticker",
    .version = "1",
    .conf = ticker_rows,
    .service = &ticker_ops,
};
