/* group_table.c - the table of groups, their locks and timers; group_table.h says why. */
#include "group_table.h"

#include "admin.h"

#include <stdlib.h>

#define GROUPS_MAX 200000u

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
    kafka_group_record_look(g);
    timer_ask(g);
    pthread_mutex_unlock(&g->lock);
}

void kafka_group_done(struct kafka_group *g)
{
    kafka_group_unlock(g);
    kafka_group_unref(g);
}

struct kafka_group *kafka_group_find(struct mqg_vhost *v, struct mqg_slice name, bool create)
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
        struct kafka_group *g = kafka_group_find(v, name, create && name.len <= KAFKA_GROUP_NAME_MAX);
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
    if (g->written >= 0)
        ticket = kafka_group_record_remove(g);
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

/* ---- begin and end ---------------------------------------------------------------------------------------------------------------- */

void kafka_groups_init(void)
{
    mqg_map_init(&table, MQG_MAP_COPY);
    table_made = true;
}

void kafka_groups_fini(void)
{
    if (!table_made)
        return;
    for (struct mqg_map_iter it = {.left = 0}; mqg_map_next(&table, &it);)
        group_free(it.value);
    mqg_map_fini(&table);
    table_made = false;
}
