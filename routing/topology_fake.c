/* topology_fake.c - what the topology needs of others, just enough for its tests: queues without messages,
 * metadata in a map, accounts that deny by prefix. */
#include "topology_fake.h"

#include "publish.h"

#include <stdlib.h>

struct mqg_map fake_meta;
_Atomic int64_t fake_queues_alive;
struct mqg_table fake_headers;
const char *fake_denied[MQG_PERM_COUNT];
unsigned fake_kills;

static uint64_t fake_ticket;
static unsigned fake_records; /* added, not submitted */
static uint16_t fake_epoch;
static struct mqg_session fake_sessions[8];

/* ---- life ---------------------------------------------------------------------------------------------- */

static void fake_meta_clear(void)
{
    for (struct mqg_map_iter it = {0}; mqg_map_next(&fake_meta, &it);)
        free(it.value);
    mqg_map_fini(&fake_meta);
    mqg_map_init(&fake_meta, MQG_MAP_COPY);
}

static void fake_begin(bool unclean)
{
    struct mqg_error e;
    MQG_ASSERT(mqg_routing_init(NULL, &e) == MQG_OK);
    for (struct mqg_map_iter it = {0}; mqg_map_next(&fake_meta, &it);)
        mqg_routing_recover_meta(it.key, mqg_slice_of(((struct fake_value *)it.value)->bytes,
                                                      ((struct fake_value *)it.value)->len));
    mqg_routing_recovered_meta();
    mqg_routing_recovered(unclean);
}

void fake_start(void)
{
    mqg_map_init(&fake_meta, MQG_MAP_COPY);
    fake_headers = (struct mqg_table){.fields = NULL};
    memset(fake_denied, 0, sizeof fake_denied);
    fake_begin(false);
}

void fake_restart(bool unclean)
{
    mqg_routing_fini();
    MQG_ASSERT(atomic_load(&fake_queues_alive) == 0);
    fake_begin(unclean);
}

void fake_stop(void)
{
    MQG_ASSERT(fake_records == 0);
    mqg_routing_fini();
    fake_meta_clear();
    mqg_map_fini(&fake_meta);
    MQG_ASSERT(atomic_load(&fake_queues_alive) == 0);
    MQG_ASSERT(mqg_epoch_pending() == 0);
}

struct mqg_session *fake_session(uint64_t conn)
{
    struct mqg_session *s = &fake_sessions[conn % MQG_COUNTOF(fake_sessions)];
    *s = (struct mqg_session){.vhost = mqg_vhost_find(MQG_SLICE_LIT("/")), .conn_id = conn, .user = "guest"};
    return s;
}

/* ---- queues -------------------------------------------------------------------------------------------- */

struct mqg_queue *queue_new(struct mqg_vhost *v, uint64_t id, const struct mqg_queue_def *d,
                            const struct queue_opts *opts, struct mqg_storage *storage)
{
    struct mqg_queue *q = mqg_xcalloc(1, sizeof *q);
    (void)storage;
    q->magic = FAKE_QUEUE_MAGIC;
    atomic_init(&q->refs, 1);
    q->id = id;
    q->vhost = v;
    q->def = *d;
    q->def.name = mqg_slice_of(mqg_slice_dup(d->name), d->name.len);
    q->args = args_new(&d->args);
    q->def.args = *q->args;
    q->opts = *opts;
    atomic_fetch_add(&fake_queues_alive, 1);
    return q;
}

struct queue_entry *queue_model(struct mqg_queue *q)
{
    return &q->model;
}

struct mqg_queue *mqg_queue_ref(struct mqg_queue *q)
{
    atomic_fetch_add(&q->refs, 1);
    return q;
}

void mqg_queue_unref(struct mqg_queue **qp)
{
    struct mqg_queue *q = *qp;
    *qp = NULL;
    MQG_CHECK(q, FAKE_QUEUE_MAGIC);
    if (atomic_fetch_sub(&q->refs, 1) > 1)
        return;
    q->magic = 0;
    free((void *)(uintptr_t)q->def.name.ptr);
    free(q->args);
    free(q);
    atomic_fetch_sub(&fake_queues_alive, 1);
}

struct mqg_slice mqg_queue_name(const struct mqg_queue *q)
{
    return q->def.name;
}

uint64_t mqg_queue_id(const struct mqg_queue *q)
{
    return q->id;
}

enum mqg_err queue_end(struct mqg_queue *q, bool if_unused, bool if_empty, uint64_t *messages,
                       struct mqg_error *e)
{
    if (atomic_load(&q->ended))
        return MQG_GONE;
    if (if_unused && q->consumers > 0)
        return mqg_error_set(e, MQG_IN_USE, 406, "in use");
    if (if_empty && q->ready > 0)
        return mqg_error_set(e, MQG_NOT_EMPTY, 406, "not empty");
    *messages = q->ready;
    atomic_store(&q->ended, true);
    return MQG_OK;
}

const struct mqg_table *queue_args(const struct mqg_queue *q)
{
    return &q->def.args;
}
const struct queue_opts *queue_opts(const struct mqg_queue *q)
{
    return &q->opts;
}
struct mqg_vhost *queue_vhost(const struct mqg_queue *q)
{
    return q->vhost;
}
bool queue_durable(const struct mqg_queue *q)
{
    return q->def.durable;
}
bool queue_exclusive(const struct mqg_queue *q)
{
    return q->def.exclusive;
}
bool queue_auto_delete(const struct mqg_queue *q)
{
    return q->def.auto_delete;
}
uint64_t queue_owner(const struct mqg_queue *q)
{
    return q->def.owner_conn;
}
void queue_counts(struct mqg_queue *q, uint64_t *ready, uint64_t *consumers)
{
    *ready = q->ready;
    *consumers = q->consumers;
}
void queue_stream_store(struct mqg_queue *q, bool remove)
{
    (void)q, (void)remove;
}
void queue_stream_routed(struct mqg_queue *q)
{
    (void)q;
}

void queue_stream_declared(struct mqg_queue *q)
{
    (void)q;
}

void queue_streams_fini(void)
{
}

bool queue_takes_bridge(const struct mqg_queue *q)
{
    return q->def.durable && mqg_table_get(q->args, MQG_SLICE_LIT("x-mqgate-bridge")) != NULL;
}

bool queue_takes_front(const struct mqg_queue *q)
{
    return mqg_table_get(q->args, MQG_SLICE_LIT("x-queue-type")) != NULL;
}

void queue_stream_recovered(struct mqg_queue *q)
{
    (void)q;
}
void queue_timer_drop(struct mqg_queue *q)
{
    (void)q;
}

void queue_touch(struct mqg_queue *q)
{
    MQG_CHECK(q, FAKE_QUEUE_MAGIC);
}
uint64_t queue_purge(struct mqg_queue *q)
{
    uint64_t n = q->ready;
    q->ready = 0;
    return n;
}
void queue_info(struct mqg_queue *q, struct mqg_queue_info *out)
{
    *out = (struct mqg_queue_info){
        .name = q->def.name, .durable = q->def.durable, .args = &q->def.args, .queue = q};
}
bool queue_consumers(struct mqg_queue *q, bool (*visit)(void *arg, const struct mqg_consumer_info *c),
                     void *arg)
{
    struct mqg_consumer_info info = {.queue = q->def.name};
    for (uint64_t i = 0; i < q->consumers; i++)
        if (!visit(arg, &info))
            return false;
    return true;
}
void queue_recover(struct mqg_queue *q, uint64_t qseq, struct mqg_extent *extent, uint32_t off, uint32_t len,
                   const struct mqg_stored *head, uint32_t delivery_count, bool redelivered)
{
    (void)qseq, (void)extent, (void)off, (void)len, (void)head, (void)delivery_count, (void)redelivered;
    q->recovered++;
}
void queue_recovered(struct mqg_queue *q, bool unclean)
{
    (void)unclean;
    MQG_CHECK(q, FAKE_QUEUE_MAGIC);
}
bool queue_recover_spans(const struct mqg_queue *q)
{
    MQG_CHECK(q, FAKE_QUEUE_MAGIC);
    return queue_durable(q);
}
void queue_recover_span(struct mqg_queue *q, uint64_t first, uint64_t last, uint64_t count, uint64_t bytes)
{
    (void)first, (void)last, (void)bytes;
    q->recovered += (unsigned)count;
}
void queue_limits(const struct mqg_conf *conf)
{
    (void)conf;
}
size_t queue_live_ranges(struct mqg_queue *q, struct mqg_range *ranges, size_t max, uint64_t *upto)
{
    (void)ranges, (void)max;
    *upto = 0;
    return q->recovered;
}

/* ---- the others ---------------------------------------------------------------------------------------- */

void mqg_publish_flush(void)
{
}
bool definitions_drop_later(void)
{
    return true; /* the tests do it */
}
void publish_init(void)
{
}
void publish_fini(void)
{
}
uint16_t publish_epoch(void)
{
    return fake_epoch;
}
void publish_epoch_set(uint16_t epoch)
{
    fake_epoch = epoch;
}
struct mqg_storage *mqg_storage_default(void)
{
    static struct mqg_storage storage = {.caps = MQG_STORE_STREAMS};
    return &storage;
}
void vhost_kill_connections(struct mqg_vhost *v)
{
    MQG_ASSERT(!mqg_vhost_alive(v));
    fake_kills++;
}

void fake_put(struct mqg_slice key, struct mqg_slice value)
{
    struct fake_value *v = mqg_xmalloc(sizeof *v + value.len);
    v->len = value.len;
    memcpy(v->bytes, value.ptr, value.len);
    free(mqg_map_set(&fake_meta, key, v));
}

void mqg_lane_add(struct mqg_storage *s, const struct mqg_store_op *op, bool urgent)
{
    MQG_ASSERT(s == mqg_storage_default() && op->kind == MQG_OP_META && urgent);
    fake_records++;
    if (!op->meta.remove) {
        fake_put(op->meta.key, op->meta.value);
        return;
    }
    void *old = mqg_map_del(&fake_meta, op->meta.key);
    MQG_ASSERT(old != NULL); /* what is removed was there */
    free(old);
}

uint64_t mqg_lane_submit(struct mqg_storage *s)
{
    MQG_ASSERT(s == mqg_storage_default());
    if (fake_records == 0)
        return 0;
    fake_records = 0;
    return ++fake_ticket;
}

uint64_t mqg_lane_ticket(struct mqg_storage *s)
{
    MQG_ASSERT(s == mqg_storage_default());
    return fake_ticket + 1;
}

enum mqg_err mqg_session_need(struct mqg_session *s, enum mqg_perm perm, const char *kind,
                              struct mqg_slice resource, struct mqg_error *e)
{
    if (fake_denied[perm] == NULL || !mqg_slice_starts(resource, mqg_slice_str(fake_denied[perm])))
        return MQG_OK;
    return mqg_error_set(e, MQG_DENIED, 0, "access to %s '%.*s' in vhost '/' refused for user '%s'", kind,
                         MQG_SLICE_FMT(resource), s->user);
}

enum mqg_err mqg_msg_view(const struct mqg_msg *m, struct mqg_arena *a, struct mqg_view *out)
{
    (void)m;
    *out = (struct mqg_view){.headers = mqg_table_copy(a, &fake_headers)};
    return MQG_OK;
}
