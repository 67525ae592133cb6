/* definitions_stream.c - streams declared and changed by those who know them as streams (Kafka's topics).
 *
 * A stream is a queue of that type, and its definition the queue's record: its configuration stands in the arguments, under
 * RabbitMQ's names where it has them. A change replaces the arguments as a whole; listings that hold the old ones may go on
 * reading them until their epoch ends. Partitions are only added: an offset must not change its meaning. */
#include "definitions_int.h"
#include "stream_int.h"

static void declare_args(struct mqg_arena *a, struct mqg_table *t, const struct mqg_stream_conf *c)
{
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {
        {"x-max-length-bytes", c->retention_bytes},
        {"x-stream-max-segment-size-bytes", c->segment_bytes},
        {"x-mqgate-cleanup", c->cleanup},
        {"x-mqgate-bridge", c->bridge},
        {"x-mqgate-retention-ms", c->retention_ms},
        {"x-mqgate-segment-ms", c->segment_ms},
        {"x-mqgate-compact-lag-min-ms", c->compact_lag_min_ms},
        {"x-mqgate-compact-lag-max-ms", c->compact_lag_max_ms},
        {"x-mqgate-tombstone-ms", c->tombstone_ms},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++)
        if (rows[i].value != 0 || mqg_table_get(t, mqg_slice_str(rows[i].name)) != NULL)
            mqg_table_set_int(a, t, rows[i].name,
                              rows[i].value > INT64_MAX ? INT64_MAX : (int64_t)rows[i].value);
}

enum mqg_err mqg_stream_declare(struct mqg_session *s, struct mqg_slice name, uint32_t partitions,
                                const struct mqg_stream_conf *c, uint64_t *ticket, struct mqg_error *e)
{
    struct mqg_queue_def def = {.name = name, .durable = true, .owner_conn = s->conn_id};
    struct mqg_queue_ok ok;
    struct mqg_arena a;
    mqg_arena_init(&a, 0);
    mqg_table_set_str(&a, &def.args, "x-queue-type", MQG_SLICE_LIT("stream"));
    if (partitions != 1)
        mqg_table_set_int(&a, &def.args, "x-mqgate-partitions", partitions);
    declare_args(&a, &def.args, c);
    enum mqg_err err = mqg_queue_declare(s, &def, false, &ok, ticket, e);
    mqg_arena_fini(&a);
    return err;
}

/* ---- changing ----------------------------------------------------------------------------------------------------------- */

static enum mqg_err alter_check(const struct mqg_queue *q, struct mqg_slice name, const struct mqg_vhost *v,
                                uint32_t partitions, struct mqg_error *e)
{
    if (q == NULL)
        return definitions_no(e, "queue", name, v);
    if (q->stream == NULL)
        return mqg_error_set(e, MQG_MISMATCH, 406, "queue '%.*s' in vhost '%.*s' is not a stream",
                             MQG_SLICE_FMT(name), MQG_SLICE_FMT(mqg_vhost_name(v)));
    if (partitions != 0 && partitions < mqg_stream_partitions(q->stream))
        return mqg_error_set(e, MQG_INVALID, 406, "queue '%.*s' in vhost '%.*s' has %u partitions already",
                             MQG_SLICE_FMT(name), MQG_SLICE_FMT(mqg_vhost_name(v)),
                             mqg_stream_partitions(q->stream));
    return MQG_OK;
}

static enum mqg_err alter_apply(struct definitions_edit *d, struct mqg_queue *q, uint32_t partitions,
                                const struct mqg_stream_conf *c, struct mqg_arena *a, struct mqg_error *e)
{
    struct mqg_queue_def def = {
        .name = mqg_queue_name(q), .durable = true, .args = mqg_table_copy(a, queue_args(q))};
    struct queue_opts opts;
    if (partitions != 0 && partitions != mqg_stream_partitions(q->stream))
        mqg_table_set_int(a, &def.args, "x-mqgate-partitions", partitions);
    if (c != NULL) {
        struct mqg_stream_conf conf = *c;
        conf.bridge = c->bridge != 0 ? c->bridge : mqg_stream_conf(q->stream).bridge;
        declare_args(a, &def.args, &conf);
    }
    enum mqg_err err = queue_opts_parse(&def, d->vhost->name, &opts, e);
    if (err != MQG_OK)
        return err;
    topology_retire_plain(q->args);
    q->args = args_new(&def.args);
    uint32_t bridge = atomic_load_explicit(&q->stream->bridge, memory_order_relaxed);
    stream_change(q->stream, &opts);
    d->topology.changed |= bridge != opts.stream.bridge; /* routes that are remembered */
    queue_record_again(d, q);
    return MQG_OK;
}

enum mqg_err mqg_stream_alter(struct mqg_session *s, struct mqg_slice name, uint32_t partitions,
                              const struct mqg_stream_conf *c, uint64_t *ticket, struct mqg_error *e)
{
    *ticket = 0;
    enum mqg_err err = definitions_need(s, MQG_CONFIGURE, "queue", name, e);
    if (err != MQG_OK)
        return err;
    struct mqg_arena a;
    struct definitions_edit d;
    mqg_arena_init(&a, 0);
    definitions_begin(&d, s->vhost);
    struct queue_entry *entry = queue_find(&d, name);
    struct mqg_queue *q = entry != NULL ? entry->queue : NULL;
    err = alter_check(q, name, s->vhost, partitions, e);
    if (err == MQG_OK)
        err = alter_apply(&d, q, partitions, c, &a, e);
    *ticket = definitions_end(&d);
    if (err == MQG_OK)
        stream_router_start(q->stream, false);
    mqg_arena_fini(&a);
    return err;
}
