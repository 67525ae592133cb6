/* start.c - the order in which a gateway comes up and goes down.
 *
 *   workers made -> accounts, routing -> stores opened -> services prepared -> stores recovered -> started
 *     -> first definitions -> workers run -> listeners -> services -> ready
 *
 * Recovery fills the model before any thread can see it. Listeners come after the workers, so that no connection waits
 * for a recovery, and after all of it "ready" is said once. Services are prepared before the recovery: they bind, and tell
 * whoever asks how far it is (progress.c), nothing else; a port that is taken is refused before the reading, and a folder
 * that is taken before the port. Down is the same in the other order; a start that failed half-way goes down from where it
 * came to. */
#include "start.h"
#include "heap.h"
#include "listen.h"
#include "loader.h"
#include "node.h"
#include "notify.h"
#include "progress.h"
#include "settings.h"

#include <mqgate/auth.h>
#include <mqgate/broker.h>
#include <mqgate/lanes.h>
#include <mqgate/obs.h>
#include <mqgate/stream.h>

#include <event2/event.h>
#include <stdio.h>
#include <unistd.h>

enum start_step {
    START_NOTHING,
    START_WORKERS_MADE,
    START_ROUTING,
    START_STORES_OPEN,
    START_STORES,
    START_WORKERS
};

static enum start_step start_reached;
static struct event_base *start_base; /* the main thread's, where signals arrive */
static size_t start_services;         /* of the loader's list, how many were looked at */
static size_t start_prepared;         /* the same, by the step before recovery */

enum { RECOVER_HEED_MESSAGES = 1 << 18 };

/* ---- recovery -------------------------------------------------------------------------------------------------------------- */

/* Recovery changes nothing that a later one would miss, so it may be left at any point. Signals only arrive when the main
 * thread's loop runs, which is not before the end of it: it is run here for a moment. */
static void recover_heed_stop(void)
{
    int exit_code;
    char why[256];
    event_base_loop(start_base, EVLOOP_NONBLOCK);
    if (!node_stop_asked(&exit_code, why))
        return;
    mqg_log(MQG_LOG_INFO, MQG_EVENT_STOP, "exit=%d why=%s while=recovering", exit_code, mqg_logqs(why));
    _exit(exit_code);
}

/* So many more messages are in their queues. */
static void recover_built(uint64_t count)
{
    static uint64_t heed_at;
    uint64_t built = progress_built(count);
    if (built < heed_at)
        return;
    heed_at = built + RECOVER_HEED_MESSAGES;
    recover_heed_stop();
}

static void recover_meta(void *arg, struct mqg_slice key, struct mqg_slice value)
{
    (void)arg;
    progress_building();
    if (mqg_slice_starts(key, MQG_SLICE_LIT("user/")) || mqg_slice_starts(key, MQG_SLICE_LIT("perm/")) ||
        mqg_slice_starts(key, MQG_SLICE_LIT("tperm/")))
        mqg_auth_recover(key, value);
    else if (!mqg_meta_recover(key, value))
        mqg_routing_recover_meta(key, value);
}

static void recover_meta_end(void *arg)
{
    (void)arg;
    mqg_routing_recovered_meta();
}

static bool recover_message(void *arg, uint64_t queue_id, uint64_t qseq, struct mqg_extent *extent,
                            uint32_t off, uint32_t len, const struct mqg_stored *head,
                            uint32_t delivery_count, uint32_t acquired_count)
{
    (void)arg;
    recover_built(1);
    return mqg_routing_recover_message(queue_id, qseq, extent, off, len, head, delivery_count,
                                       acquired_count);
}

static bool recover_span(void *arg, uint64_t queue_id, uint64_t first, uint64_t last, uint64_t count,
                         uint64_t body_bytes)
{
    (void)arg;
    recover_built(count);
    return mqg_routing_recover_span(queue_id, first, last, count, body_bytes);
}

static bool recover_spans_wanted(void *arg, uint64_t queue_id)
{
    (void)arg;
    return mqg_routing_spans_wanted(queue_id);
}

static void recover_stream(void *arg, uint64_t partition, const struct mqg_stream_bounds *b)
{
    (void)arg;
    mqg_routing_recover_stream(partition, b);
}

static void recover_producer(void *arg, uint64_t partition, uint64_t producer_id, int16_t epoch,
                             int32_t base_seq, int32_t last_seq, uint64_t offset)
{
    (void)arg;
    struct mqg_producer_state state = {producer_id, epoch, base_seq, last_seq, offset};
    mqg_routing_recover_producer(partition, &state);
}

static void recover_position(void *arg, struct mqg_slice group, uint64_t partition, uint64_t offset,
                             struct mqg_slice metadata)
{
    (void)arg;
    mqg_routing_recover_position(group, partition, offset, metadata);
}

/* The rest as " rest_s=12", or nothing while it is not known. */
static const char *recover_rest(const struct mqg_node_progress *p, const char *before, char out[48])
{
    out[0] = '\0';
    if (p->rest_ms != UINT64_MAX)
        snprintf(out, 48, "%s%llu", before, (unsigned long long)(p->rest_ms + 999) / 1000);
    return out;
}

static void recover_progress(void *arg, uint64_t done_bytes, uint64_t all_bytes)
{
    (void)arg;
    char text[256], rest[48];
    struct mqg_node_progress p;
    if (all_bytes == 0)
        return;
    progress_reading(mqg_stores_recovering(), done_bytes, all_bytes);
    mqg_node_progress(&p);
    unsigned percent = (unsigned)((double)done_bytes * 100.0 / (double)all_bytes);
    mqg_log(MQG_LOG_INFO, MQG_EVENT_RECOVERY,
            "percent=%u done_bytes=%llu all_bytes=%llu store=%s elapsed_s=%llu%s", percent,
            (unsigned long long)done_bytes, (unsigned long long)all_bytes, mqg_logqs(p.store),
            (unsigned long long)p.elapsed_ms / 1000, recover_rest(&p, " rest_s=", rest));
    snprintf(text, sizeof text, "STATUS=reading the store %s, %u%%%s\nEXTEND_TIMEOUT_USEC=30000000", p.store,
             percent, recover_rest(&p, ", seconds left: ", rest));
    notify_state(text);
    recover_heed_stop();
}

static enum mqg_err start_recover(struct mqg_error *e)
{
    uint64_t begun_ms = mqg_clock_now().mono_ms;
    struct mqg_recover r = {.meta = recover_meta,
                            .meta_end = recover_meta_end,
                            .message = recover_message,
                            .span = recover_span,
                            .spans_wanted = recover_spans_wanted,
                            .stream = recover_stream,
                            .position = recover_position,
                            .producer = recover_producer,
                            .progress = recover_progress};
    node_state_set("recovering");
    enum mqg_err err = mqg_stores_recover(&r, e);
    if (err == MQG_OK)
        err = mqg_stores_start(e);
    if (err != MQG_OK)
        return err;
    start_reached = START_STORES;
    node_state_set("starting");
    progress_phase("listening");
    mqg_routing_recovered(r.unclean);
    mqg_auth_recovered();
    mqg_meta_recovered();
    heap_trim(); /* a recovery holds much for a while; what it freed lies below what stays */
    mqg_log(MQG_LOG_INFO, MQG_EVENT_RECOVERY, "state=done clean=%s ms=%llu", r.unclean ? "no" : "yes",
            (unsigned long long)(mqg_clock_now().mono_ms - begun_ms));
    return MQG_OK;
}

/* ---- up ---------------------------------------------------------------------------------------------------------------------- */

static void start_store_failed(const char *text)
{
    node_state_set("failed");
    mqg_node_stop(1, text);
}

static void start_store_pressure(bool blocked, const char *why)
{
    mqg_node_pressure(MQG_PRESSURE_STORE, blocked, why != NULL ? why : "store");
}

static enum mqg_err start_stores(const struct mqg_conf *conf, struct mqg_error *e)
{
    const struct loaded *l;
    for (size_t i = 0; (l = loader_at(i)) != NULL; i++)
        if (l->module.kind == MQG_MODULE_STORAGE)
            mqg_stores_register(&l->ops.storage);
    mqg_stores_on_failure(start_store_failed);
    mqg_stores_on_pressure(start_store_pressure);
    mqg_stores_queue_live(mqg_routing_queue_live);
    mqg_stores_stream_ready(mqg_routing_stream_ready);
    start_reached = START_STORES_OPEN;
    return mqg_stores_open(conf, mqg_worker_count() + 1, e);
}

/* What a service bound before the recovery answers while it lasts. */
static enum mqg_err start_services_prepare(const struct mqg_conf *conf, struct mqg_error *e)
{
    const struct loaded *l;
    for (; (l = loader_at(start_prepared)) != NULL; start_prepared++) {
        bool has = l->module.kind == MQG_MODULE_SERVICE && l->ops.service.prepare != NULL;
        enum mqg_err err = has ? l->ops.service.prepare(conf, e) : MQG_OK;
        if (err != MQG_OK)
            return err;
    }
    return MQG_OK;
}

static enum mqg_err start_services_up(const struct mqg_conf *conf, struct mqg_error *e)
{
    const struct loaded *l;
    for (; (l = loader_at(start_services)) != NULL; start_services++) {
        enum mqg_err err = l->module.kind == MQG_MODULE_SERVICE ? l->ops.service.start(conf, e) : MQG_OK;
        if (err != MQG_OK)
            return err;
    }
    return MQG_OK;
}

static enum mqg_err start_model(const struct mqg_conf *conf, struct mqg_error *e)
{
    enum mqg_err err = mqg_workers_init(settings_workers(conf), e);
    if (err != MQG_OK)
        return err;
    start_reached = START_WORKERS_MADE;
    err = mqg_auth_init(conf, e);
    if (err == MQG_OK)
        err = mqg_routing_init(conf, e);
    if (err != MQG_OK)
        return err;
    start_reached = START_ROUTING;
    err = start_stores(conf, e);
    if (err == MQG_OK)
        err = start_services_prepare(conf, e);
    return err == MQG_OK ? start_recover(e) : err;
}

static void start_describe(void)
{
    struct mqg_dynbuf out;
    const struct loaded *l;
    mqg_dynbuf_init(&out, 4000);
    listen_describe(&out);
    for (size_t i = 0; (l = loader_at(i)) != NULL; i++) {
        if (l->module.kind != MQG_MODULE_SERVICE || l->ops.service.describe == NULL)
            continue;
        if (out.len > 0)
            mqg_dynbuf_u8(&out, ' ');
        l->ops.service.describe(&out);
    }
    node_listeners_set(mqg_dynbuf_view(&out));
    mqg_dynbuf_fini(&out);
}

enum mqg_err start_up(const struct mqg_conf *conf, struct event_base *base, struct mqg_error *e)
{
    start_base = base;
    enum mqg_err err = start_model(conf, e);
    if (err != MQG_OK)
        return err;
    mqg_workers_start();
    start_reached = START_WORKERS;
    err = listen_open(conf, base, e);
    if (err == MQG_OK)
        err = start_services_up(conf, e);
    if (err == MQG_OK) {
        progress_phase("");
        start_describe();
    }
    return err;
}

/* ---- down ------------------------------------------------------------------------------------------------------------------- */

void start_close_listeners(void)
{
    listen_close();
}

static void start_services_down(void)
{
    for (size_t i = start_prepared; i > 0; i--) {
        const struct loaded *l = loader_at(i - 1);
        bool started = i <= start_services;
        if (l->module.kind == MQG_MODULE_SERVICE && (started || l->ops.service.prepare != NULL))
            l->ops.service.stop();
    }
    start_services = start_prepared = 0;
}

void start_down(void)
{
    listen_close();
    start_services_down();
    if (start_reached >= START_WORKERS)
        mqg_workers_stop();
    if (start_reached >= START_STORES)
        mqg_stores_close();
    if (start_reached >= START_ROUTING) {
        mqg_routing_fini();
        mqg_auth_fini();
    }
    if (start_reached >= START_STORES_OPEN)
        mqg_stores_fini();
    if (start_reached >= START_WORKERS_MADE)
        mqg_workers_fini();
    start_reached = START_NOTHING;
}
