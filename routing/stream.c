/* stream.c - streams and partitions: birth, end, facts, appending, bounds.
 *
 * A partition's mutex is held to give an offset and to look at two flags, nothing else: batches are built before, the lane's
 * copy is made by the lane, the store is called after. Since lanes hand in batches in any order the store keeps what stands
 * behind a gap aside, and shows what is contiguous and durable.
 *
 * Stores name partitions by id, from threads that know nothing of epochs, so there is one table of all partitions under a
 * mutex of its own. It is asked when somebody waits and the high watermark moved, never per message. */
#include "stream_int.h"

#include <stdlib.h>

#include <mqgate/map.h>
#include <mqgate/obs.h>

/* A queue's id and a partition's number make an id that is never used again. */
enum { PARTITION_ID_BITS = 16 };

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static struct mqg_map registry = {
    .keys = MQG_MAP_BORROW}; /* partition id (8 bytes) -> struct mqg_partition */

static struct mqg_slice registry_key(const uint64_t *id)
{
    return mqg_slice_of(id, sizeof(*id));
}

/* One whose last reference is gone, but is still in the table, is as good as gone. */
static bool queue_try_ref(struct mqg_queue *q)
{
    uint32_t refs = atomic_load_explicit(&q->refs, memory_order_relaxed);
    while (refs > 0)
        if (atomic_compare_exchange_weak_explicit(&q->refs, &refs, refs + 1, memory_order_acq_rel,
                                                  memory_order_relaxed))
            return true;
    return false;
}

struct mqg_partition *stream_partition_find(uint64_t id)
{
    pthread_mutex_lock(&registry_lock);
    struct mqg_partition *p = mqg_map_get(&registry, registry_key(&id));
    if (p != NULL && !queue_try_ref(p->stream->queue))
        p = NULL;
    pthread_mutex_unlock(&registry_lock);
    return p;
}

/* ---- birth and end ------------------------------------------------------------------------------------------------------ */

static void partition_init(struct mqg_partition *p, struct mqg_stream *s, uint32_t index)
{
    p->magic = PARTITION_MAGIC;
    p->index = index;
    p->id = s->queue->id << PARTITION_ID_BITS | index;
    p->stream = s;
    p->asked = MQG_STREAM_NONE;
    pthread_mutex_init(&p->lock, NULL);
    partition_waits_init(p);
    void *old = mqg_map_set(&registry, registry_key(&p->id), p);
    MQG_ASSERT(old == NULL); /* ids are never used again */
}

/* Makes partitions up to n. Others see them when the number says so. */
static void stream_grow(struct mqg_stream *s, uint32_t n)
{
    uint32_t have = atomic_load_explicit(&s->npartitions, memory_order_relaxed);
    pthread_mutex_lock(&registry_lock);
    for (uint32_t i = have; i < n; i++) {
        uint32_t chunk = stream_chunk_of(i);
        if (s->chunks[chunk] == NULL)
            s->chunks[chunk] = mqg_xcalloc(chunk == 0 ? 1 : stream_chunk_base(chunk), sizeof(**s->chunks));
        partition_init(stream_at(s, i), s, i);
    }
    pthread_mutex_unlock(&registry_lock);
}

static struct mqg_stream_conf stream_conf_of(const struct queue_opts *o)
{
    struct mqg_stream_conf conf = o->stream;
    conf.retention_bytes = o->max_bytes == UINT64_MAX ? 0 : o->max_bytes;
    return conf;
}

struct mqg_stream *stream_new(struct mqg_queue *q)
{
    struct mqg_stream *s = mqg_xcalloc(1, sizeof(*s));
    s->magic = STREAM_MAGIC;
    s->queue = q;
    s->storage = q->storage;
    s->conf = stream_conf_of(q->opts);
    atomic_init(&s->bridge, s->conf.bridge);
    stream_grow(s, q->opts->partitions);
    atomic_store_explicit(&s->npartitions, q->opts->partitions, memory_order_release);
    return s;
}

static void partition_fini(struct mqg_partition *p)
{
    mqg_map_del(&registry, registry_key(&p->id));
    partition_waits_fini(p);
    free(p->producers);
    pthread_mutex_destroy(&p->lock);
    p->magic = 0;
}

void stream_free(struct mqg_stream **stream)
{
    struct mqg_stream *s = *stream;
    *stream = NULL;
    MQG_CHECK(s, STREAM_MAGIC);
    pthread_mutex_lock(&registry_lock);
    for (uint32_t i = 0; i < s->npartitions; i++)
        partition_fini(stream_at(s, i));
    if (registry.count == 0) {
        mqg_map_fini(&registry);
        mqg_map_init(&registry, MQG_MAP_BORROW);
    }
    pthread_mutex_unlock(&registry_lock);
    for (uint32_t i = 0; i < STREAM_CHUNKS; i++)
        free(s->chunks[i]);
    s->magic = 0;
    free(s);
}

/* What has its offset and reaches the store after the deletion is dropped there: the id is never used again. */
void stream_end(struct mqg_stream *s)
{
    for (uint32_t i = 0; i < s->npartitions; i++) {
        struct mqg_partition *p = stream_at(s, i);
        pthread_mutex_lock(&p->lock);
        atomic_store_explicit(&p->ended, true, memory_order_release);
        pthread_mutex_unlock(&p->lock);
        partition_tell(p);
    }
}

/* How the store is to keep it. */
static void stream_conf_op(const struct mqg_partition *p)
{
    struct mqg_store_op op = {.kind = MQG_OP_STREAM_CONF, .stream_conf = {p->id, &p->stream->conf}};
    mqg_lane_add(p->stream->storage, &op, true);
}

static void stream_op(const struct mqg_partition *p, enum mqg_store_op_kind kind)
{
    struct mqg_store_op op = {.kind = kind, .stream = {p->id, p->stream->queue->def.name, (int32_t)p->index}};
    mqg_lane_add(p->stream->storage, &op, true);
    if (kind == MQG_OP_STREAM_NEW)
        stream_conf_op(p);
}

void queue_stream_store(struct mqg_queue *q, bool remove)
{
    for (uint32_t i = 0; q->stream != NULL && i < q->stream->npartitions; i++)
        stream_op(stream_at(q->stream, i), remove ? MQG_OP_STREAM_DELETE : MQG_OP_STREAM_NEW);
}

void stream_change(struct mqg_stream *s, const struct queue_opts *opts)
{
    uint32_t have = mqg_stream_partitions(s);
    pthread_mutex_lock(&s->queue->lock);
    s->conf = stream_conf_of(opts);
    atomic_store_explicit(&s->bridge, s->conf.bridge, memory_order_relaxed);
    pthread_mutex_unlock(&s->queue->lock);
    stream_grow(s, opts->partitions);
    for (uint32_t i = 0; i < have; i++)
        stream_conf_op(stream_at(s, i));
    for (uint32_t i = have; i < opts->partitions; i++)
        stream_op(stream_at(s, i), MQG_OP_STREAM_NEW);
    if (opts->partitions == have)
        return;
    (void)mqg_lane_submit(s->storage); /* no append may reach the store before its partition */
    atomic_store_explicit(&s->npartitions, opts->partitions, memory_order_release);
}

/* ---- recovery ----------------------------------------------------------------------------------------------------------- */

/* What no definition knows: its deletion was recorded, the store's part of it was not. */
static void recover_orphan(uint64_t partition)
{
    struct mqg_store_op op = {.kind = MQG_OP_STREAM_DELETE, .stream = {.partition = partition}};
    mqg_log(MQG_LOG_INFO, MQG_EVENT_RECOVERY, "partition=%llu dropped=true why=no_stream_has_it",
            (unsigned long long)partition);
    mqg_lane_add(mqg_storage_default(), &op, false);
}

void mqg_routing_recover_stream(uint64_t partition, const struct mqg_stream_bounds *b)
{
    struct mqg_partition *p = stream_partition_find(partition);
    if (p == NULL) {
        recover_orphan(partition);
        return;
    }
    struct mqg_queue *q = p->stream->queue;
    p->next_offset = b->log_end;
    p->recovered = true;
    mqg_queue_unref(&q);
}

void mqg_routing_recover_producer(uint64_t partition, const struct mqg_producer_state *state)
{
    struct mqg_partition *p = stream_partition_find(partition);
    if (p == NULL)
        return;
    struct mqg_queue *q = p->stream->queue;
    if (p->nproducers == p->cap_producers) {
        p->cap_producers = p->cap_producers ? p->cap_producers * 2 : 4;
        p->producers = mqg_xrealloc(p->producers, p->cap_producers * sizeof(*p->producers));
    }
    p->producers[p->nproducers++] = *state;
    mqg_queue_unref(&q);
}

static void (*recover_group)(const struct mqg_group_found *f);

void mqg_group_on_recover(void (*fn)(const struct mqg_group_found *f))
{
    MQG_ASSERT(recover_group == NULL || recover_group == fn);
    recover_group = fn;
}

void mqg_routing_recover_position(struct mqg_slice group, uint64_t partition, uint64_t offset,
                                  struct mqg_slice metadata)
{
    struct mqg_partition *p = recover_group != NULL ? stream_partition_find(partition) : NULL;
    if (p == NULL)
        return;
    struct mqg_queue *q = p->stream->queue;
    recover_group(&(struct mqg_group_found){q->vhost, p->stream, p->index, p, group, metadata, offset});
    mqg_queue_unref(&q);
}

void mqg_partition_producers(struct mqg_partition *p,
                             bool (*visit)(void *arg, const struct mqg_producer_state *state), void *arg)
{
    for (uint32_t i = 0; i < p->nproducers && visit(arg, &p->producers[i]); i++)
        continue;
}

bool queue_takes_bridge(const struct mqg_queue *q)
{
    return q->stream != NULL &&
           (atomic_load_explicit(&q->stream->bridge, memory_order_relaxed) & MQG_BRIDGE_IN) != 0;
}

bool queue_takes_front(const struct mqg_queue *q)
{
    return q->stream != NULL;
}

void queue_stream_declared(struct mqg_queue *q)
{
    if (q != NULL && q->stream != NULL)
        stream_router_start(q->stream, false);
}

void queue_stream_routed(struct mqg_queue *q)
{
    if (q->stream != NULL)
        stream_router_start(q->stream, true);
}

void queue_streams_fini(void)
{
    stream_router_fini();
}

void queue_stream_recovered(struct mqg_queue *q)
{
    struct mqg_stream *s = q->stream;
    for (uint32_t i = 0; s != NULL && i < s->npartitions; i++)
        if (!stream_at(s, i)->recovered)
            stream_op(stream_at(s, i), MQG_OP_STREAM_NEW);
}

/* ---- facts -------------------------------------------------------------------------------------------------------------- */

struct mqg_stream *mqg_queue_stream(const struct mqg_queue *q)
{
    return q->stream;
}
struct mqg_queue *mqg_stream_queue(const struct mqg_stream *s)
{
    return s->queue;
}
struct mqg_slice mqg_stream_name(const struct mqg_stream *s)
{
    return s->queue->def.name;
}
uint32_t mqg_stream_partitions(const struct mqg_stream *s)
{
    return atomic_load_explicit(&((struct mqg_stream *)(uintptr_t)s)->npartitions, memory_order_acquire);
}
struct mqg_stream_conf mqg_stream_conf(const struct mqg_stream *s)
{
    pthread_mutex_lock(&s->queue->lock);
    struct mqg_stream_conf conf = s->conf;
    pthread_mutex_unlock(&s->queue->lock);
    return conf;
}
struct mqg_storage *mqg_stream_storage(const struct mqg_stream *s)
{
    return s->storage;
}
int32_t mqg_stream_epoch(void)
{
    return publish_epoch();
}
struct mqg_stream *mqg_partition_stream(const struct mqg_partition *p)
{
    return p->stream;
}
uint64_t mqg_partition_id(const struct mqg_partition *p)
{
    return p->id;
}
uint32_t mqg_partition_index(const struct mqg_partition *p)
{
    return p->index;
}

struct mqg_partition *mqg_partition_find(uint64_t id)
{
    struct mqg_partition *p = stream_partition_find(id);
    if (p == NULL || !atomic_load_explicit(&p->ended, memory_order_acquire))
        return p;
    struct mqg_queue *q = p->stream->queue;
    mqg_queue_unref(&q);
    return NULL;
}

struct mqg_partition *mqg_stream_partition(const struct mqg_stream *s, uint32_t index)
{
    return index < mqg_stream_partitions(s) ? stream_at(s, index) : NULL;
}

struct mqg_stream *mqg_stream_ref(struct mqg_stream *s)
{
    mqg_queue_ref(s->queue);
    return s;
}

void mqg_stream_unref(struct mqg_stream **s)
{
    struct mqg_queue *q = *s != NULL ? (*s)->queue : NULL;
    *s = NULL;
    mqg_queue_unref(&q);
}

enum mqg_err mqg_partition_bounds(struct mqg_partition *p, struct mqg_stream_bounds *out)
{
    struct mqg_storage *s = p->stream->storage;
    *out = (struct mqg_stream_bounds){0, 0, 0};
    if (atomic_load_explicit(&p->ended, memory_order_acquire))
        return MQG_GONE;
    /* Not there: its STREAM_NEW is still on the way. */
    enum mqg_err err = s->ops->stream_bounds(s->store, p->id, out);
    return err == MQG_NOT_FOUND ? MQG_OK : err;
}

uint64_t stream_messages(struct mqg_stream *s)
{
    uint64_t n = 0;
    struct mqg_stream_bounds b;
    for (uint32_t i = 0; i < s->npartitions; i++)
        if (mqg_partition_bounds(stream_at(s, i), &b) == MQG_OK)
            n += b.high_watermark - b.log_start;
    return n;
}

/* ---- appending ---------------------------------------------------------------------------------------------------------- */

enum { APPEND_PIECES_MAX = 15 };

static void append_producer(struct mqg_partition *p, const struct mqg_append *a, bool urgent)
{
    if (a->producer_id < 0)
        return;
    struct mqg_store_op op = {
        .kind = MQG_OP_PRODUCER,
        .producer = {p->id, (uint64_t)a->producer_id, a->producer_epoch, a->base_sequence, a->last_sequence,
                     a->base_offset},
    };
    mqg_lane_add(p->stream->storage, &op, urgent);
}

enum mqg_err mqg_partition_append(struct mqg_partition *p, struct mqg_append *a, bool urgent)
{
    MQG_CHECK(p, PARTITION_MAGIC);
    MQG_ASSERT(a->nrope > 0 && a->nrope <= APPEND_PIECES_MAX && a->rope[0].len >= MQG_BATCH_PATCH_BYTES);
    uint8_t head[MQG_BATCH_PATCH_BYTES];
    struct mqg_slice rope[APPEND_PIECES_MAX + 1];
    memcpy(head, a->rope[0].ptr, sizeof(head));
    rope[0] = mqg_slice_of(head, sizeof(head));
    rope[1] = mqg_slice_of(a->rope[0].ptr + sizeof(head), a->rope[0].len - sizeof(head));
    for (uint32_t i = 1; i < a->nrope; i++)
        rope[i + 1] = a->rope[i];
    struct mqg_store_op op = {
        .kind = MQG_OP_APPEND,
        .append = {p->id, 0, a->count, a->max_time_ms, rope, a->nrope + 1},
    };
    pthread_mutex_lock(&p->lock);
    if (atomic_load_explicit(&p->ended, memory_order_relaxed)) {
        pthread_mutex_unlock(&p->lock);
        return MQG_GONE;
    }
    a->base_offset = op.append.base_offset = p->next_offset;
    p->next_offset += a->count;
    pthread_mutex_unlock(&p->lock);
    mqg_batch_patch(head, a->base_offset, mqg_stream_epoch());
    mqg_lane_add(p->stream->storage, &op, urgent);
    append_producer(p, a, urgent);
    a->ticket = mqg_lane_ticket(p->stream->storage);
    return MQG_OK;
}

uint64_t mqg_partition_trim(struct mqg_partition *p, uint64_t start_offset)
{
    struct mqg_store_op op = {.kind = MQG_OP_TRIM, .trim = {p->id, start_offset}};
    mqg_lane_add(p->stream->storage, &op, true);
    return mqg_lane_ticket(p->stream->storage);
}

/* ---- by name ------------------------------------------------------------------------------------------------------------ */

enum mqg_err mqg_stream_open(struct mqg_session *session, struct mqg_slice name, struct mqg_stream **out,
                             struct mqg_error *e)
{
    struct mqg_queue *q;
    *out = NULL;
    enum mqg_err err = mqg_queue_open(session, name, &q, e);
    if (err != MQG_OK)
        return err;
    if (q->stream == NULL) {
        mqg_queue_unref(&q);
        return mqg_error_set(e, MQG_MISMATCH, 406, "queue '%.*s' in vhost '%.*s' is not a stream",
                             MQG_SLICE_FMT(name), MQG_SLICE_FMT(mqg_vhost_name(session->vhost)));
    }
    *out = q->stream;
    return MQG_OK;
}
