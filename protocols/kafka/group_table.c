/* group_table.c - the table of groups, their locks, timers and records; group_table.h says why. */
#include "group_table.h"

#include "admin.h"

#include <stdlib.h>

#define GROUPS_MAX   200000u
#define GROUP_PREFIX "kafka/group/"

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static struct mqg_map table; /* vhost pointer and name -> struct kafka_group */
static bool table_made;

/* ---- keys ------------------------------------------------------------------------------------------------------------- */

static void table_key(struct mqg_dynbuf *out, const struct mqg_vhost *v, struct mqg_slice name)
{
    mqg_dynbuf_init(out, sizeof v + name.len);
    mqg_dynbuf_put(out, &v, sizeof v);
    mqg_dynbuf_slice(out, name);
}

static void key_part(struct mqg_dynbuf *out, struct mqg_slice part)
{
    for (size_t i = 0; i < part.len; i++) {
        uint8_t b = part.ptr[i];
        if (b <= ' ' || b >= 0x7f || b == '/' || b == '%')
            mqg_dynbuf_printf(out, "%%%02X", b);
        else
            mqg_dynbuf_u8(out, b);
    }
}

static int hex_digit(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* One part of a record's key, as it was; false: no such form. */
static bool key_unpart(struct mqg_slice in, struct mqg_dynbuf *out)
{
    for (size_t i = 0; i < in.len; i++) {
        if (in.ptr[i] != '%') {
            mqg_dynbuf_u8(out, in.ptr[i]);
            continue;
        }
        int high = i + 2 < in.len ? hex_digit(in.ptr[i + 1]) : -1;
        int low = i + 2 < in.len ? hex_digit(in.ptr[i + 2]) : -1;
        if (i + 2 >= in.len || high < 0 || low < 0)
            return false;
        mqg_dynbuf_u8(out, (uint8_t)(high * 16 + low));
        i += 2;
    }
    return !out->failed;
}

static void record_key(struct mqg_dynbuf *out, const struct kafka_group *g)
{
    mqg_dynbuf_init(out, 4096 + 3 * (size_t)g->name->len);
    mqg_dynbuf_put(out, GROUP_PREFIX, sizeof GROUP_PREFIX - 1);
    key_part(out, mqg_vhost_name(g->vhost));
    mqg_dynbuf_u8(out, '/');
    key_part(out, group_view(g->name));
}

/* ---- references --------------------------------------------------------------------------------------------------------- */

struct kafka_group *kafka_group_ref(struct kafka_group *g)
{
    atomic_fetch_add_explicit(&g->refs, 1, memory_order_relaxed);
    return g;
}

static void group_free(struct kafka_group *g)
{
    group_fini(&g->classic);
    consumer_fini(&g->consumer);
    group_offsets_fini(&g->offsets);
    mqg_buf_unref(&g->name);
    pthread_mutex_destroy(&g->lock);
    free(g);
}

void kafka_group_unref(struct kafka_group *g)
{
    if (atomic_fetch_sub_explicit(&g->refs, 1, memory_order_acq_rel) == 1)
        group_free(g);
}

static void timer_fire(struct mqg_timer *t);
static void timer_task(struct mqg_task *task);

static struct kafka_group *group_new(struct mqg_vhost *v, struct mqg_slice name)
{
    struct kafka_group *g = mqg_xcalloc(1, sizeof *g);
    g->refs = 1;
    g->vhost = v;
    g->name = group_text(name.ptr != NULL ? name : MQG_SLICE_LIT(""));
    pthread_mutex_init(&g->lock, NULL);
    mqg_timer_init(&g->timer, timer_fire);
    g->task.run = timer_task;
    group_init(&g->classic, &kafka_group_settings.limits, 0);
    consumer_init(&g->consumer, &kafka_group_settings.consumer, 0);
    group_offsets_init(&g->offsets);
    g->empty = true;
    g->written = -1;
    return g;
}

/* ---- timer ---------------------------------------------------------------------------------------------------------------- */

static uint64_t group_due_ms(const struct kafka_group *g)
{
    return g->kind == KAFKA_GROUP_CLASSIC ? g->classic.due_ms : g->consumer.due_ms;
}

/* On the home worker, under the mutex. */
static void timer_arm(struct kafka_group *g)
{
    uint64_t due_ms = g->gone ? 0 : group_due_ms(g);
    if (due_ms == 0 || (g->armed_ms > 0 && g->armed_ms <= due_ms))
        return;
    if (g->armed_ms == 0)
        (void)kafka_group_ref(g);
    g->armed_ms = due_ms;
    mqg_timer_at(&g->timer, due_ms);
}

static void timer_task(struct mqg_task *task)
{
    struct kafka_group *g = MQG_CONTAINER_OF(task, struct kafka_group, task);
    pthread_mutex_lock(&g->lock);
    g->posted = false;
    if (g->gone && g->armed_ms > 0) {
        mqg_timer_cancel(&g->timer);
        g->armed_ms = 0;
        kafka_group_unref(g); /* the task's own is left */
    }
    kafka_group_done(g);
}

static void timer_fire(struct mqg_timer *t)
{
    struct kafka_group *g = MQG_CONTAINER_OF(t, struct kafka_group, timer);
    uint64_t now_ms = kafka_now_ms();
    pthread_mutex_lock(&g->lock);
    g->armed_ms = 0;
    if (g->kind == KAFKA_GROUP_CLASSIC)
        group_expire(&g->classic, now_ms);
    else
        consumer_expire(&g->consumer, now_ms);
    kafka_group_done(g);
}

static void timer_ask(struct kafka_group *g)
{
    uint64_t due_ms = g->gone ? 0 : group_due_ms(g);
    bool late = due_ms > 0 && (g->armed_ms == 0 || due_ms < g->armed_ms);
    bool idle = g->gone && g->armed_ms > 0;
    if ((!late && !idle) || g->posted)
        return;
    if (g->home == NULL)
        g->home = mqg_worker_self();
    if (late && g->home == mqg_worker_self()) {
        timer_arm(g);
        return;
    }
    g->posted = true;
    mqg_worker_post(g->home, &kafka_group_ref(g)->task);
}

/* ---- records -------------------------------------------------------------------------------------------------------------- */

static int32_t group_number(const struct kafka_group *g)
{
    return g->kind == KAFKA_GROUP_CLASSIC ? g->classic.generation : g->consumer.epoch;
}

static void record_write(struct kafka_group *g)
{
    struct mqg_dynbuf key, value;
    struct mqg_slice type = group_view(g->classic.protocol_type);
    record_key(&key, g);
    mqg_dynbuf_init(&value, 64 + type.len);
    mqg_dynbuf_u8(&value, 1);
    mqg_dynbuf_u8(&value, (uint8_t)g->kind);
    mqg_dynbuf_le32(&value, (uint32_t)group_number(g));
    mqg_dynbuf_le64(&value, g->empty ? g->since_ms : 0);
    mqg_dynbuf_slice(&value, type);
    (void)mqg_meta_put(mqg_dynbuf_view(&key), mqg_dynbuf_view(&value));
    g->written = group_number(g);
    mqg_dynbuf_fini(&key);
    mqg_dynbuf_fini(&value);
}

/* A generation that has begun, or a group that its members left. */
static void record_look(struct kafka_group *g)
{
    bool empty = kafka_group_empty(g);
    bool turned = empty != g->empty;
    if (turned && empty)
        g->since_ms = kafka_wall_ms();
    g->empty = empty;
    bool settled = empty ? turned : g->kind == KAFKA_GROUP_CONSUMER || g->classic.state == GROUP_STABLE;
    if (!g->gone && settled && (turned || g->written != group_number(g)))
        record_write(g);
}

/* ---- lock and give back --------------------------------------------------------------------------------------------------- */

bool kafka_group_relock(struct kafka_group *g)
{
    pthread_mutex_lock(&g->lock);
    return !g->gone;
}

void kafka_group_unlock(struct kafka_group *g)
{
    for (struct group_wait *w; (w = group_answered(&g->classic)) != NULL;)
        kafka_group_call_answered(w);
    record_look(g);
    timer_ask(g);
    pthread_mutex_unlock(&g->lock);
}

void kafka_group_done(struct kafka_group *g)
{
    kafka_group_unlock(g);
    kafka_group_unref(g);
}

/* With a reference; NULL: none. */
static struct kafka_group *table_find(struct mqg_vhost *v, struct mqg_slice name, bool create)
{
    struct mqg_dynbuf key;
    table_key(&key, v, name);
    pthread_mutex_lock(&table_lock);
    struct kafka_group *g = mqg_map_get(&table, mqg_dynbuf_view(&key));
    if (g == NULL && create && table.count < GROUPS_MAX) {
        g = group_new(v, name);
        (void)mqg_map_set(&table, mqg_dynbuf_view(&key), g);
    }
    if (g != NULL)
        (void)kafka_group_ref(g);
    pthread_mutex_unlock(&table_lock);
    mqg_dynbuf_fini(&key);
    return g;
}

struct kafka_group *kafka_group_lock(struct mqg_vhost *v, struct mqg_slice name, bool create)
{
    for (;;) {
        struct kafka_group *g = table_find(v, name, create && name.len <= KAFKA_GROUP_NAME_MAX);
        if (g == NULL || kafka_group_relock(g))
            return g;
        pthread_mutex_unlock(&g->lock);
        kafka_group_unref(g);
    }
}

uint64_t kafka_group_remove(struct kafka_group *g)
{
    struct mqg_dynbuf key;
    uint64_t ticket = 0;
    if (g->gone)
        return 0;
    g->gone = true;
    table_key(&key, g->vhost, group_view(g->name));
    pthread_mutex_lock(&table_lock);
    (void)mqg_map_del(&table, mqg_dynbuf_view(&key));
    pthread_mutex_unlock(&table_lock);
    mqg_dynbuf_fini(&key);
    if (g->written >= 0) {
        record_key(&key, g);
        ticket = mqg_meta_remove(mqg_dynbuf_view(&key));
        mqg_dynbuf_fini(&key);
    }
    kafka_group_unref(g); /* the table's; the caller has its own */
    return ticket;
}

/* ---- facts ------------------------------------------------------------------------------------------------------------------ */

bool kafka_group_empty(const struct kafka_group *g)
{
    return g->kind == KAFKA_GROUP_CLASSIC ? g->classic.members.n == 0 && g->classic.promises.n == 0
                                          : g->consumer.members.n == 0;
}

const char *kafka_group_state(const struct kafka_group *g)
{
    return g->kind == KAFKA_GROUP_CLASSIC ? group_state_name(g->classic.state)
                                          : consumer_state_name(&g->consumer);
}

const char *kafka_group_type(const struct kafka_group *g)
{
    return g->kind == KAFKA_GROUP_CLASSIC ? "Classic" : "Consumer";
}

bool kafka_group_become(struct kafka_group *g, enum kafka_group_kind kind)
{
    if (g->kind == kind)
        return true;
    if (!kafka_group_empty(g))
        return false;
    if (kind == KAFKA_GROUP_CONSUMER) { /* numbers go on: nobody meets an old one again */
        g->consumer.epoch = g->classic.generation;
        group_replace_text(&g->classic.protocol_type, MQG_SLICE_LIT("consumer"));
    } else {
        g->classic.generation = g->consumer.epoch;
    }
    g->kind = kind;
    return true;
}

static bool each_collect(struct mqg_vhost *v, struct mqg_vec *out)
{
    pthread_mutex_lock(&table_lock);
    for (struct mqg_map_iter it = {.left = 0}; mqg_map_next(&table, &it);) {
        struct kafka_group *g = it.value;
        if (v == NULL || g->vhost == v)
            mqg_vec_push(out, kafka_group_ref(g));
    }
    pthread_mutex_unlock(&table_lock);
    return out->n > 0;
}

void kafka_groups_each(struct mqg_vhost *v, bool (*visit)(void *arg, struct kafka_group *g), void *arg)
{
    struct mqg_vec found = {.n = 0};
    bool more = each_collect(v, &found);
    for (size_t i = 0; i < found.n; i++) {
        struct kafka_group *g = found.items[i];
        if (more && kafka_group_relock(g))
            more = visit(arg, g);
        else if (!more)
            pthread_mutex_lock(&g->lock);
        kafka_group_done(g);
    }
    mqg_vec_fini(&found);
}

/* ---- positions that go -------------------------------------------------------------------------------------------------------- */

struct mqg_partition *kafka_group_partition(const struct kafka_group *g, const struct kafka_offset_row *row,
                                            struct mqg_stream **stream)
{
    struct mqg_session *s = mqg_session_internal(g->vhost);
    struct mqg_partition *p = NULL;
    struct mqg_error e;
    if (mqg_stream_open(s, row->topic, stream, &e) == MQG_OK)
        p = mqg_stream_partition(*stream, (uint32_t)row->index);
    if (p != NULL && mqg_partition_id(p) != row->partition_id)
        p = NULL;
    if (p == NULL && *stream != NULL)
        mqg_stream_unref(stream);
    mqg_session_unref(&s);
    return p;
}

void kafka_group_position_drop(struct kafka_group *g, const struct kafka_offset_row *row,
                               struct kafka_durable *durable)
{
    struct mqg_stream *stream = NULL;
    struct mqg_partition *p = kafka_group_partition(g, row, &stream);
    if (p == NULL)
        return;
    struct mqg_storage *storage = mqg_stream_storage(stream);
    if ((storage->caps & MQG_STORE_POSITIONS) != 0) {
        uint64_t ticket = mqg_group_commit(p, group_view(g->name), MQG_OFFSET_NONE, MQG_SLICE_NONE);
        if (durable != NULL)
            kafka_durable_note(durable, storage, ticket);
    }
    mqg_stream_unref(&stream);
}

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

/* ---- recovery ------------------------------------------------------------------------------------------------------------------- */

/* Records come before there are vhosts: they wait for the end. */
struct recovered {
    struct mqg_buf *key, *value;
};
static struct mqg_vec recovered;

static void recover_record(struct mqg_slice key, struct mqg_slice value)
{
    struct recovered *r = mqg_xcalloc(1, sizeof *r);
    r->key = group_text(key);
    r->value = group_text(value.ptr != NULL ? value : MQG_SLICE_LIT(""));
    mqg_vec_push(&recovered, r);
}

static void recover_position(const struct mqg_group_found *f)
{
    if (f->offset > INT64_MAX)
        return;
    struct kafka_group *g = table_find(f->vhost, f->group, true);
    if (g == NULL)
        return;
    struct kafka_offset_row row = {.topic = mqg_stream_name(f->stream),
                                   .index = (int32_t)f->index,
                                   .partition_id = mqg_partition_id(f->partition),
                                   .offset = (int64_t)f->offset};
    group_position_decode(f->metadata, mqg_clock_now().wall_us / 1000, &row);
    group_offsets_set(&g->offsets, &row, 0);
    kafka_group_unref(g);
}

static bool record_names(struct mqg_slice key, struct mqg_dynbuf *vhost, struct mqg_dynbuf *name)
{
    size_t prefix = sizeof GROUP_PREFIX - 1;
    if (key.len <= prefix)
        return false;
    struct mqg_slice rest = mqg_slice_of(key.ptr + prefix, key.len - prefix);
    const uint8_t *slash = memchr(rest.ptr, '/', rest.len);
    if (slash == NULL)
        return false;
    size_t at = (size_t)(slash - rest.ptr);
    return key_unpart(mqg_slice_of(rest.ptr, at), vhost) &&
           key_unpart(mqg_slice_of(slash + 1, rest.len - at - 1), name);
}

static void record_take(struct kafka_group *g, struct mqg_slice value)
{
    struct mqg_cursor c = mqg_cursor_of(value);
    uint8_t version = mqg_cursor_u8(&c), kind = mqg_cursor_u8(&c);
    int32_t number = (int32_t)mqg_cursor_le32(&c);
    uint64_t since_ms = mqg_cursor_le64(&c);
    if (c.failed || version != 1 || kind > KAFKA_GROUP_CONSUMER || number < 0)
        return;
    g->kind = (enum kafka_group_kind)kind;
    g->classic.generation = g->consumer.epoch = number;
    /* members that were there when the node stopped are gone since now */
    g->since_ms = since_ms > 0 ? since_ms : mqg_clock_now().wall_us / 1000;
    g->written = number;
    group_replace_text(&g->classic.protocol_type, mqg_slice_of(c.pos, mqg_cursor_left(&c)));
}

static void recover_end(void)
{
    for (size_t i = 0; i < recovered.n; i++) {
        struct recovered *r = recovered.items[i];
        struct mqg_dynbuf vhost, name;
        mqg_dynbuf_init(&vhost, 4096);
        mqg_dynbuf_init(&name, 1u << 16);
        bool named = record_names(group_view(r->key), &vhost, &name);
        struct mqg_vhost *v = named ? mqg_vhost_find(mqg_dynbuf_view(&vhost)) : NULL;
        struct kafka_group *g = v != NULL ? table_find(v, mqg_dynbuf_view(&name), true) : NULL;
        if (g != NULL) {
            record_take(g, group_view(r->value));
            kafka_group_unref(g);
        } else {
            (void)mqg_meta_remove(group_view(r->key));
        }
        mqg_dynbuf_fini(&vhost);
        mqg_dynbuf_fini(&name);
        mqg_buf_unref(&r->key);
        mqg_buf_unref(&r->value);
        free(r);
    }
    mqg_vec_fini(&recovered);
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
    mqg_map_init(&table, MQG_MAP_COPY);
    table_made = true;
    mqg_group_on_recover(recover_position);
    mqg_meta_on_recover(GROUP_PREFIX, recover_record, recover_end);
    mqg_worker_on_start(sweep_start, sweep_stop);
    mqg_vhost_on_delete(groups_vhost_gone);
    return MQG_OK;
}

/* Workers have stopped, connections are gone. */
static void group_part_unload(void)
{
    if (!table_made)
        return;
    for (struct mqg_map_iter it = {.left = 0}; mqg_map_next(&table, &it);)
        group_free(it.value);
    mqg_map_fini(&table);
    table_made = false;
}

const struct kafka_part kafka_group_part = {
    .name = "groups", .apis = kafka_group_apis, .load = group_part_load, .unload = group_part_unload};
