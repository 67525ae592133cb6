/* group_part.c - the group coordinator as a part of the module: its settings, and what becomes of positions and groups whose time is
 * over or whose vhost is gone. */
#include "group_table.h"

/* ---- retention ------------------------------------------------------------------------------------------------------------------ */

struct sweep {
    struct kafka_group *g;
};

static bool sweep_kept(void *arg, struct mqg_slice topic)
{
    struct kafka_group *g = ((struct sweep *)arg)->g;
    if (g->kind == KAFKA_GROUP_CONSUMER)
        return consumer_subscribes(&g->consumer, topic);
    if (g->classic.members.n == 0)
        return false;
    return !mqg_slice_eq(group_view(g->classic.protocol_type), MQG_SLICE_LIT("consumer")) ||
           g->classic.state != GROUP_STABLE || group_subscribes(&g->classic, topic);
}

static void sweep_gone(void *arg, const struct kafka_offset_row *row)
{
    kafka_group_position_drop(((struct sweep *)arg)->g, row, NULL);
}

static bool sweep_one(void *arg, struct kafka_group *g)
{
    (void)arg;
    struct sweep s = {g};
    bool empty = kafka_group_empty(g);
    if (!mqg_vhost_alive(g->vhost)) {
        group_kill(&g->classic);
        (void)kafka_group_remove(g);
        return true;
    }
    (void)group_offsets_expire(&g->offsets, kafka_wall_ms(), kafka_group_settings.offsets_retention_ms,
                               empty && g->written >= 0 ? g->since_ms : 0, sweep_kept, sweep_gone, &s);
    if (empty && group_offsets_count(&g->offsets) == 0 && g->offsets.pending.n == 0)
        (void)kafka_group_remove(g);
    return true;
}

static void groups_vhost_gone(struct mqg_vhost *v)
{
    kafka_groups_each(v, sweep_one, NULL);
}

static struct mqg_timer sweep_timer;

static void sweep_fire(struct mqg_timer *t)
{
    kafka_groups_each(NULL, sweep_one, NULL);
    mqg_timer_in(t, kafka_group_settings.sweep_ms);
}

static void sweep_start(struct mqg_worker *w)
{
    if (w->index != 0)
        return;
    mqg_timer_init(&sweep_timer, sweep_fire);
    mqg_timer_in(&sweep_timer, kafka_group_settings.sweep_ms);
}

static void sweep_stop(struct mqg_worker *w)
{
    if (w->index == 0)
        mqg_timer_cancel(&sweep_timer);
}

/* ---- the part --------------------------------------------------------------------------------------------------------------------- */

struct kafka_group_settings kafka_group_settings = {.limits = {UINT32_MAX, 3000, 300000},
                                                    .session_min_ms = 6000,
                                                    .session_max_ms = 1800000,
                                                    .offsets_retention_ms = 7ull * 86400000,
                                                    .sweep_ms = 600000,
                                                    .consumer = {UINT32_MAX, 45000},
                                                    .consumer_heartbeat_ms = 5000};

static void group_settings_read(const struct mqg_conf *conf)
{
    struct kafka_group_settings *s = &kafka_group_settings;
    s->limits.initial_delay_ms = (uint32_t)mqg_conf_int(conf, "kafka", "group_initial_rebalance_delay");
    s->limits.max_members = (uint32_t)mqg_conf_int(conf, "kafka", "group_max_size");
    s->consumer.max_members = s->limits.max_members;
    s->session_min_ms = (uint32_t)mqg_conf_int(conf, "kafka", "group_min_session_timeout");
    s->session_max_ms = (uint32_t)mqg_conf_int(conf, "kafka", "group_max_session_timeout");
    s->offsets_retention_ms = (uint64_t)mqg_conf_int(conf, "kafka", "offsets_retention");
    s->sweep_ms = (uint64_t)mqg_conf_int(conf, "kafka", "offsets_retention_check_interval");
    s->consumer.session_ms = (uint32_t)mqg_conf_int(conf, "kafka", "consumer_group_session_timeout");
    s->consumer_heartbeat_ms = (uint32_t)mqg_conf_int(conf, "kafka", "consumer_group_heartbeat_interval");
}

static enum mqg_err group_part_load(const struct mqg_conf *conf, struct mqg_error *e)
{
    (void)e;
    group_settings_read(conf);
    kafka_groups_init();
    kafka_group_records_load();
    mqg_worker_on_start(sweep_start, sweep_stop);
    mqg_vhost_on_delete(groups_vhost_gone);
    return MQG_OK;
}

const struct kafka_part kafka_group_part = {
    .name = "groups", .apis = kafka_group_apis, .load = group_part_load, .unload = kafka_groups_fini};
