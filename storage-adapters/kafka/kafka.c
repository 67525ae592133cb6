/* kafka.c - the module: its table, its configuration, and the life of the store from open to fini.
 *
 * A first adapter: streams only. A partition is a partition of a topic (`topic_prefix` and the stream's name), appended to
 * by this gateway alone, read from any offset; a group's position is the group's committed offset there, so tools of the
 * engine see it. Not here yet: queues on topics, metadata as a compacted topic, trimming. Hence it cannot be the default
 * store, and says so. What "verbatim" means on an engine that gives offsets itself stands in writer.c, what reads bring in
 * reader.c; kafka.md has the promises. */
#include "kafka.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

static const struct mqg_conf_row kafka_rows[] = {
    {"store.*", "brokers", MQG_CONF_STR, "", 0, 0, NULL, "type=kafka: host:port[,host:port] of the cluster"},
    {"store.*", "topic_prefix", MQG_CONF_STR, "", 0, 0, NULL, "type=kafka: stands before every topic's name"},
    {"store.*", "create_topics", MQG_CONF_BOOL, "on", 0, 0, NULL,
     "type=kafka: create missing topics; off: they exist, or the cluster makes them when asked"},
    {"store.*", "linger", MQG_CONF_DURATION, "5ms", 0, 1000, NULL,
     "type=kafka: how long records wait to be sent together"},
    {"store.*", "timeout", MQG_CONF_DURATION, "10s", 100, 600000, NULL,
     "type=kafka: how long an answer of the cluster is waited for"},
    {NULL, NULL, MQG_CONF_STR, NULL, 0, 0, NULL, NULL},
};

void kfk_fail(struct mqg_store *s, enum mqg_err err, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (atomic_load(&s->stopping) || atomic_exchange(&s->failed, true))
        return;
    s->host.failed(s->host.host, err, text);
    pthread_mutex_lock(&s->lock);
    pthread_cond_broadcast(&s->all_done);
    pthread_mutex_unlock(&s->lock);
}

/* ---- librdkafka's handles ---------------------------------------------------------------------------------------------- */

static void kafka_log(const rd_kafka_t *rk, int level, const char *fac, const char *text)
{
    const struct mqg_store *s = rd_kafka_opaque(rk);
    mqg_log(level <= 4 ? MQG_LOG_WARN : MQG_LOG_INFO, MQG_EVENT_STORE, "store=%s kafka=%s text=%s",
            s ? s->name : "?", fac, mqg_logqs(text));
}

static enum mqg_err kafka_set(rd_kafka_conf_t *conf, const char *const (*rows)[2], struct mqg_error *e)
{
    char text[256];
    for (; (*rows)[0]; rows++)
        if (rd_kafka_conf_set(conf, (*rows)[0], (*rows)[1], text, sizeof(text)) != RD_KAFKA_CONF_OK)
            return mqg_error_set(e, MQG_INVALID, 0, "%s=%s: %s", (*rows)[0], (*rows)[1], text);
    return MQG_OK;
}

static rd_kafka_t *kafka_handle(struct mqg_store *s, rd_kafka_type_t type, const char *const (*rows)[2],
                                struct mqg_error *e)
{
    char text[256] = "";
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    const char *const common[][2] = {
        {"bootstrap.servers", s->brokers}, {"client.id", "mqgate"}, {NULL, NULL}};
    enum mqg_err err = kafka_set(conf, common, e);
    if (err == MQG_OK)
        err = kafka_set(conf, rows, e);
    rd_kafka_conf_set_opaque(conf, s);
    rd_kafka_conf_set_log_cb(conf, kafka_log);
    if (type == RD_KAFKA_PRODUCER)
        rd_kafka_conf_set_dr_msg_cb(conf, kfk_delivered);
    rd_kafka_t *rk = err == MQG_OK ? rd_kafka_new(type, conf, text, sizeof(text)) : NULL;
    if (!rk) {
        rd_kafka_conf_destroy(conf);
        if (err == MQG_OK)
            mqg_error_set(e, MQG_INVALID, 0, "store %s: %s", s->name, text);
    }
    return rk;
}

static enum mqg_err kafka_handles(struct mqg_store *s, struct mqg_error *e)
{
    char linger[16];
    snprintf(linger, sizeof(linger), "%d", s->linger_ms);
    /* Idempotence brings acks=all, order and no doubles; no time limit: an engine that is away comes back. */
    const char *const out[][2] = {{"enable.idempotence", "true"},
                                  {"message.timeout.ms", "0"},
                                  {"linger.ms", linger},
                                  {"message.max.bytes", "134217728"},
                                  {"queue.buffering.max.kbytes", "262144"},
                                  {NULL, NULL}};
    /* It never joins this group. But librdkafka answers NOT_COORDINATOR, which a young cluster says, by asking the group
     * of the handle to look again, and ends in a fault where the handle has none. */
    const char *const in[][2] = {{"group.id", "mqgate.positions"},
                                 {"enable.partition.eof", "true"},
                                 {"auto.offset.reset", "error"},
                                 {"enable.auto.commit", "false"},
                                 {"check.crcs", "true"},
                                 {"queued.max.messages.kbytes", "8192"},
                                 {"fetch.error.backoff.ms", "50"},
                                 {"fetch.wait.max.ms", "10"},
                                 {NULL, NULL}};
    s->producer = kafka_handle(s, RD_KAFKA_PRODUCER, out, e);
    if (s->producer)
        s->consumer = kafka_handle(s, RD_KAFKA_CONSUMER, in, e);
    if (!s->consumer)
        return e && e->err ? e->err : MQG_INVALID;
    uint64_t one = 1;
    s->events = rd_kafka_queue_get_main(s->producer);
    rd_kafka_queue_io_event_enable(s->events, s->wake_fd, &one, sizeof(one));
    return MQG_OK;
}

/* ---- life -------------------------------------------------------------------------------------------------------------- */

static void kafka_stop(struct mqg_store *s)
{
    MQG_CHECK(s, KFK_MAGIC);
    pthread_mutex_lock(&s->lock);
    bool was = s->running;
    s->running = false;
    atomic_store(&s->stopping, true);
    pthread_cond_broadcast(&s->clerk_has);
    pthread_cond_broadcast(&s->asker_has);
    pthread_cond_broadcast(&s->reader_has);
    pthread_mutex_unlock(&s->lock);
    if (!was)
        return;
    kfk_wake(s);
    pthread_join(s->writer, NULL);
    pthread_join(s->clerk, NULL);
    pthread_join(s->reader, NULL);
    pthread_join(s->asker, NULL);
}

/* Batches that were never done, in lanes and inbox. Their messages have left librdkafka by then. */
static void kafka_drop_batches(struct mqg_store *s)
{
    for (uint32_t i = 0; i <= s->nlanes; i++) {
        struct kfk_batch *b = i < s->nlanes ? s->lanes[i].first : s->inbox;
        while (b) {
            struct kfk_batch *next = b->next;
            kfk_batch_free(&b);
            b = next;
        }
    }
}

static void kafka_fini(struct mqg_store **store)
{
    struct mqg_store *s = *store;
    *store = NULL;
    if (!s)
        return;
    kafka_stop(s);
    for (size_t i = 0; i < s->all.n; i++) {
        struct kfk_part *p = s->all.items[i];
        kfk_part_free(&p);
    }
    if (s->consumer)
        rd_kafka_destroy(s->consumer);
    if (s->events) {
        rd_kafka_queue_io_event_enable(s->events, -1, NULL, 0);
        rd_kafka_queue_destroy(s->events);
    }
    if (s->producer) {
        rd_kafka_purge(s->producer, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
        rd_kafka_destroy(s->producer);
    }
    kafka_drop_batches(s);
    mqg_vec_fini(&s->all);
    mqg_map_fini(&s->parts);
    if (s->wake_fd >= 0)
        close(s->wake_fd);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->clerk_has);
    pthread_cond_destroy(&s->reader_has);
    pthread_cond_destroy(&s->asker_has);
    pthread_cond_destroy(&s->all_done);
    free(s->lanes);
    free(s->brokers);
    free(s->prefix);
    free(s->name);
    s->magic = 0;
    free(s);
}

static enum mqg_err kafka_refuse(const struct mqg_conf *conf, const char *section, struct mqg_error *e)
{
    const char *name = section + strlen("store.");
    if (strcmp(mqg_conf_str(conf, "store", "default"), name) == 0)
        return mqg_error_set(
            e, MQG_UNSUPPORTED, 0,
            "%s: store.default=%s: a kafka store keeps streams, not yet metadata or queues; name a store of "
            "type journal there",
            mqg_conf_where(conf, "store", "default"), name);
    if (mqg_conf_str(conf, section, "brokers")[0] == '\0')
        return mqg_error_set(e, MQG_INVALID, 0, "[%s] type=kafka: brokers=host:port is missing", section);
    return MQG_OK;
}

static struct mqg_store *kafka_new(const struct mqg_store_host *host, const struct mqg_conf *conf,
                                   const char *section, uint32_t nlanes)
{
    struct mqg_store *s = mqg_xcalloc(1, sizeof(*s));
    s->magic = KFK_MAGIC;
    s->host = *host;
    s->nlanes = nlanes;
    s->name = mqg_xstrdup(section + strlen("store."));
    s->brokers = mqg_xstrdup(mqg_conf_str(conf, section, "brokers"));
    s->prefix = mqg_xstrdup(mqg_conf_str(conf, section, "topic_prefix"));
    s->create_topics = mqg_conf_bool(conf, section, "create_topics");
    s->linger_ms = (int)mqg_conf_int(conf, section, "linger");
    s->timeout_ms = (int)mqg_conf_int(conf, section, "timeout");
    s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&s->lock, NULL);
    mqg_cond_init(&s->clerk_has);
    mqg_cond_init(&s->reader_has);
    mqg_cond_init(&s->asker_has);
    mqg_cond_init(&s->all_done);
    mqg_map_init(&s->parts, MQG_MAP_BORROW);
    s->inbox_last = &s->inbox;
    s->clerk_last = &s->clerk_ops;
    s->reads_last = &s->reads;
    s->times_last = &s->times;
    s->positions_last = &s->positions;
    s->lanes = mqg_xcalloc(nlanes, sizeof(*s->lanes));
    for (uint32_t i = 0; i < nlanes; i++)
        s->lanes[i].last = &s->lanes[i].first;
    return s;
}

static enum mqg_err kafka_open(struct mqg_store **out, const struct mqg_store_host *host,
                               const struct mqg_conf *conf, const char *section, uint32_t nlanes,
                               struct mqg_error *e)
{
    *out = NULL;
    enum mqg_err err = kafka_refuse(conf, section, e);
    if (err != MQG_OK)
        return err;
    struct mqg_store *s = kafka_new(host, conf, section, nlanes);
    err = s->wake_fd < 0 ? mqg_error_set(e, MQG_IO, 0, "[%s]: no eventfd", section) : kafka_handles(s, e);
    if (err != MQG_OK)
        kafka_fini(&s);
    *out = s;
    return err;
}

/* Definitions are the default store's: the host says STREAM_NEW again for each, and the engine has the rest. */
static enum mqg_err kafka_recover(struct mqg_store *s, struct mqg_recover *r, struct mqg_error *e)
{
    MQG_CHECK(s, KFK_MAGIC);
    (void)e;
    r->unclean = false;
    if (r->meta_end)
        r->meta_end(r->arg);
    return MQG_OK;
}

static enum mqg_err kafka_start(struct mqg_store *s, struct mqg_error *e)
{
    MQG_CHECK(s, KFK_MAGIC);
    (void)e;
    pthread_mutex_lock(&s->lock);
    s->running = true;
    pthread_mutex_unlock(&s->lock);
    MQG_ASSERT(pthread_create(&s->writer, NULL, kfk_writer_run, s) == 0);
    MQG_ASSERT(pthread_create(&s->clerk, NULL, kfk_clerk_run, s) == 0);
    MQG_ASSERT(pthread_create(&s->reader, NULL, kfk_reader_run, s) == 0);
    MQG_ASSERT(pthread_create(&s->asker, NULL, kfk_asker_run, s) == 0);
    return MQG_OK;
}

/* Waits for what was submitted, but no longer than three times `timeout`: an engine may stay away for ever. */
static void kafka_close(struct mqg_store *s)
{
    MQG_CHECK(s, KFK_MAGIC);
    struct timespec until = mqg_wait_until(3 * (uint64_t)s->timeout_ms + 1000);
    int r = 0;
    pthread_mutex_lock(&s->lock);
    while (s->running && s->open_batches > 0 && r == 0 && !kfk_over(s))
        r = pthread_cond_timedwait(&s->all_done, &s->lock, &until);
    uint64_t left = s->open_batches;
    pthread_mutex_unlock(&s->lock);
    if (left > 0)
        mqg_log(MQG_LOG_WARN, MQG_EVENT_STORE, "store=%s what=close unfinished_batches=%llu", s->name,
                (unsigned long long)left);
}

static void kafka_stats(struct mqg_store *s, struct mqg_store_stats *out)
{
    *out = (struct mqg_store_stats){
        .live_bytes = (uint64_t)atomic_load(&s->queued_bytes),
        .commits = atomic_load(&s->stat_batches),
        .records = atomic_load(&s->stat_records),
        .state = atomic_load(&s->failed)    ? "failed"
                 : atomic_load(&s->blocked) ? "blocked"
                                            : "ok",
    };
}

static void kafka_dump(struct mqg_store *s, int fd)
{
    dprintf(fd, "kafka store %s: %lld bytes queued, %llu batches\n", s->name,
            (long long)atomic_load(&s->queued_bytes), (unsigned long long)atomic_load(&s->stat_batches));
}

static const struct mqg_store_ops kafka_ops = {
    .type = "kafka",
    .caps = MQG_STORE_DURABLE | MQG_STORE_STREAMS | MQG_STORE_SEEK | MQG_STORE_POSITIONS | MQG_STORE_REMOTE,
    .open = kafka_open,
    .recover = kafka_recover,
    .start = kafka_start,
    .submit = kfk_submit,
    .stream_bounds = kfk_stream_bounds,
    .stream_read = kfk_stream_read,
    .stream_wait = kfk_stream_wait,
    .offset_for_time = kfk_offset_for_time,
    .position_get = kfk_position_get,
    .stats = kafka_stats,
    .close = kafka_close,
    .stop = kafka_stop,
    .fini = kafka_fini,
    .dump = kafka_dump,
};

MQG_MODULE(kafka_store) = {
    MQG_MODULE_HEAD(struct mqg_store_ops),
    .kind = MQG_MODULE_STORAGE,
    .name = "kafka_store",
    .version = MQG_VERSION,
    .conf = kafka_rows,
    .storage = &kafka_ops,
};
