/* definitions.c - how a command changes the topology: the frame around exchanges, queues and bindings.
 *
 * A command runs under one mutex from its look-ups to the publication of the new snapshot: it changes the
 * model, hands the metadata records to the store's lane (which never waits), and publishes, in this order, so
 * that no message can be routed by a definition whose record is not on its way. The answer to the client
 * waits for the ticket, not we. A client that declares much sends many commands in a turn; copying the paths to each
 * change anew would cost publishers' caches more than the changes, so the edit stays open over the commands of a turn (the
 * **draft**) and is published at its end, before any answer leaves, or when the same worker looks at the snapshot.
 * Commands of other workers go on with the same draft. Only what is durable at all its ends is recorded; exclusive queues never
 * are, their owner does not outlive us.
 *
 * Records of a turn leave together, too: a submission for each would cost the committer, and with it every publisher, more than
 * the records. But no message may come before its queue's definition in the log, so a draft is published only when all workers
 * have submitted what they hold of it. Whoever wants to publish submits its own and waits for the others, which come to the end
 * of their turn soon, and never wait before they have submitted theirs; the last one publishes.
 *
 * Ids of queues are 64 bit numbers that count up and are never used again, because the store's records name
 * queues by id: an old record must not find a new queue. A time-based id would do this only while the clock
 * does not step back, so a high-water mark is kept in the metadata ("node/queue_id"), a million ahead; it is
 * moved when half of the block is used, long before the first id beyond the old mark, so the mark is durable
 * before any message can carry such an id. */
#include "definitions_int.h"

#include "names.h"
#include "publish.h"

#include <mqgate/obs.h>

#include <pthread.h>
#include <stdlib.h>

#define DEFINITIONS_ID_BLOCK UINT64_C(1000000)
enum {
    DEFINITIONS_META_MAX_BYTES = 4u << 20,
    DEFINITIONS_ARGS_MAX_BYTES = 256u << 10,
    DEFINITIONS_BATCH = 256
};

static pthread_mutex_t definitions_mutex = PTHREAD_MUTEX_INITIALIZER;
/* under it */
static uint64_t definitions_next_id = 1, definitions_reserved_id;
static uint64_t definitions_next_dest = 1;
static struct mqg_dynbuf definitions_buffers[SCRATCH_COUNT];
static struct topology_edit definitions_draft;
static bool definitions_open; /* there is a draft */
static uint64_t definitions_commits;
static uint32_t definitions_holders; /* workers whose lanes hold records of the draft */
static pthread_cond_t definitions_sent =
    PTHREAD_COND_INITIALIZER; /* there are none any more, or a draft was published */

static _Thread_local bool definitions_holds; /* this one does */

_Thread_local bool topology_drafted, topology_may_draft;

void definitions_lock(void)
{
    pthread_mutex_lock(&definitions_mutex);
}

void definitions_unlock(void)
{
    pthread_mutex_unlock(&definitions_mutex);
}

struct mqg_dynbuf *definitions_scratch(enum definitions_scratch which)
{
    struct mqg_dynbuf *b = &definitions_buffers[which];
    if (b->max == 0)
        mqg_dynbuf_init(b, DEFINITIONS_META_MAX_BYTES);
    mqg_dynbuf_reset(b);
    return b;
}

/* ---- an edit ------------------------------------------------------------------------------------------- */

/* This thread's records leave. Under the mutex. */
static void definitions_send(void)
{
    if (!definitions_holds)
        return;
    definitions_holds = false;
    mqg_lane_submit(mqg_storage_default());
    if (--definitions_holders == 0)
        pthread_cond_broadcast(&definitions_sent);
}

/* Publishes the draft, if there is one, once all its records are on their way. Under the mutex, which is let go of meanwhile: the
 * model is whole by then, and the draft may grow. */
static void definitions_draft_commit(void)
{
    definitions_send();
    uint64_t seen = definitions_commits;
    while (definitions_open && definitions_holders > 0 && definitions_commits == seen)
        pthread_cond_wait(&definitions_sent, &definitions_mutex);
    if (!definitions_open || definitions_commits != seen)
        return; /* somebody else did it */
    definitions_open = false;
    definitions_commits++;
    topology_edit_commit(&definitions_draft);
    pthread_cond_broadcast(&definitions_sent);
}

void definitions_lock_settled(void)
{
    definitions_lock();
    while (definitions_open)
        definitions_draft_commit();
}

void topology_draft_flush(void)
{
    definitions_lock();
    topology_drafted = false;
    definitions_draft_commit();
    definitions_unlock();
    mqg_epoch_reclaim();
}

void definitions_edit_init(struct definitions_edit *d, struct mqg_vhost *v)
{
    *d = (struct definitions_edit){.vhost = v};
    topology_drafted = false; /* what was ours is this edit's now, and published with it or kept again */
    while (definitions_open && definitions_draft.vhost != v)
        definitions_draft_commit();
    if (definitions_open)
        d->topology = definitions_draft;
    else
        topology_edit_begin(&d->topology, v);
    definitions_open = false;
}

void definitions_begin(struct definitions_edit *d, struct mqg_vhost *v)
{
    definitions_lock();
    definitions_edit_init(d, v);
}

/* The root that this worker's commands have made, published or not. Under the mutex. */
static const struct topology *definitions_root(const struct mqg_vhost *v)
{
    return definitions_open && definitions_draft.vhost == v ? &definitions_draft.root : vhost_root(v);
}

struct mqg_queue *definitions_look_queue(const struct mqg_vhost *v, struct mqg_slice name)
{
    if (MQG_LIKELY(!topology_drafted))
        return topology_queue(v, name);
    definitions_lock();
    struct mqg_queue *q = mqg_pmap_get(definitions_root(v)->queues, name);
    definitions_unlock();
    return q;
}

const struct exchange_cell *definitions_look_exchange(const struct mqg_vhost *v, struct mqg_slice name)
{
    const struct mqg_exchange *x;
    if (MQG_LIKELY(!topology_drafted)) {
        x = topology_exchange(v, name);
        return x != NULL ? x->cell : NULL;
    }
    definitions_lock();
    x = mqg_pmap_get(definitions_root(v)->exchanges, name);
    const struct exchange_cell *cell = x != NULL
                                           ? x->cell
                                           : NULL; /* the version may be changed in place, the cell is not */
    definitions_unlock();
    return cell;
}

static void definitions_submit(struct definitions_edit *d)
{
    if (d->records == 0)
        return;
    d->records = 0;
    d->ticket = mqg_lane_submit(mqg_storage_default());
}

void definitions_record(struct definitions_edit *d, const struct meta_record *r, bool remove)
{
    if (d->recovering)
        return;
    struct mqg_dynbuf *key = definitions_scratch(SCRATCH_KEY), *value = definitions_scratch(SCRATCH_VALUE);
    meta_key(key, r);
    if (!remove)
        meta_encode(value, r);
    MQG_ASSERT(!key->failed && !value->failed); /* bounds were checked when it was declared */
    struct mqg_store_op op = {.kind = MQG_OP_META,
                              .meta = {mqg_dynbuf_view(key), mqg_dynbuf_view(value), remove}};
    mqg_lane_add(mqg_storage_default(), &op, true);
    if (++d->records == DEFINITIONS_BATCH)
        definitions_submit(d);
}

void definitions_log(const struct definitions_edit *d, const char *kind, struct mqg_slice name,
                     struct mqg_slice to, bool remove)
{
    if (MQG_LIKELY(!mqg_log_on(MQG_LOG_DEBUG)) || d->recovering)
        return;
    mqg_log(MQG_LOG_DEBUG, MQG_EVENT_DEFINE, "%s=%s vhost=%s change=%s%s%s", kind, mqg_logq(name),
            mqg_logq(d->vhost->name), remove ? "removed" : "made", to.len > 0 ? " to=" : "",
            to.len > 0 ? mqg_logq(to) : "");
}

/* All of it is in the edit. */
static void definitions_close(struct definitions_edit *d)
{
    while (d->doomed != NULL) {
        struct exchange_entry *x = d->doomed;
        d->doomed = x->next_doomed;
        exchange_drop(d, x);
    }
}

void definitions_publish(struct definitions_edit *d)
{
    definitions_close(d);
    definitions_submit(d);
    definitions_draft = d->topology;
    definitions_open = true;
    definitions_draft_commit();
}

/* For commands of connections; all else (tasks of other threads, who look at once) is published by its own end. */
uint64_t definitions_end_later(struct definitions_edit *d, const struct mqg_session *s)
{
    if (s->conn_id == 0 || !topology_may_draft)
        return definitions_end(d);
    definitions_close(d);
    if (d->records > 0) {
        d->ticket = mqg_lane_ticket(mqg_storage_default());
        definitions_holders += !definitions_holds;
        definitions_holds = true;
    }
    definitions_draft = d->topology;
    definitions_open = topology_drafted = true;
    definitions_unlock();
    return d->ticket;
}

uint64_t definitions_end(struct definitions_edit *d)
{
    definitions_publish(d);
    definitions_unlock();
    mqg_epoch_reclaim();
    return d->ticket;
}

/* ---- ids ----------------------------------------------------------------------------------------------- */

static void definitions_id_reserve(struct definitions_edit *d)
{
    definitions_reserved_id = definitions_next_id + DEFINITIONS_ID_BLOCK;
    definitions_record(d, &(struct meta_record){.kind = META_QUEUE_ID, .number = definitions_reserved_id},
                       false);
}

uint64_t definitions_queue_id(struct definitions_edit *d)
{
    if (definitions_next_id + DEFINITIONS_ID_BLOCK / 2 >= definitions_reserved_id)
        definitions_id_reserve(d);
    return definitions_next_id++;
}

void definitions_queue_id_used(uint64_t id)
{
    if (definitions_next_id <= id)
        definitions_next_id = id + 1;
}

void definitions_queue_id_start(struct definitions_edit *d)
{
    definitions_id_reserve(d);
    definitions_submit(d);
}

void definitions_reset(void)
{
    definitions_next_id = 1;
    definitions_reserved_id = 0;
    MQG_ASSERT(!definitions_open);
    for (size_t i = 0; i < SCRATCH_COUNT; i++) {
        mqg_dynbuf_fini(&definitions_buffers[i]);
        definitions_buffers[i] = (struct mqg_dynbuf){.max = 0};
    }
}

uint64_t definitions_dest_id(void)
{
    return definitions_next_dest++;
}

/* ---- refusals ------------------------------------------------------------------------------------------ */

enum mqg_err definitions_no(struct mqg_error *e, const char *kind, struct mqg_slice name,
                            const struct mqg_vhost *v)
{
    return mqg_error_set(e, MQG_NOT_FOUND, 404, "no %s '%.*s' in vhost '%.*s'", kind, MQG_SLICE_FMT(name),
                         MQG_SLICE_FMT(mqg_vhost_name(v)));
}

enum mqg_err definitions_locked(struct mqg_error *e, struct mqg_slice name, const struct mqg_vhost *v)
{
    return mqg_error_set(
        e, MQG_LOCKED, 405,
        "cannot obtain exclusive access to locked queue '%.*s' in vhost '%.*s'. It could be originally "
        "declared on another connection or the exclusive property value does not match that of the "
        "original declaration.",
        MQG_SLICE_FMT(name), MQG_SLICE_FMT(mqg_vhost_name(v)));
}

enum mqg_err definitions_default_exchange(struct mqg_error *e)
{
    return mqg_error_set(e, MQG_DENIED, 403, "operation not permitted on the default exchange");
}

enum mqg_err definitions_need(struct mqg_session *s, enum mqg_perm perm, const char *kind,
                              struct mqg_slice name, struct mqg_error *e)
{
    enum mqg_err err = mqg_session_need(s, perm, kind, name, e);
    if (err != MQG_OK && e != NULL && e->code == 0)
        e->code = 403;
    return err;
}

enum mqg_err definitions_vhost_gone(struct mqg_error *e, const struct mqg_vhost *v)
{
    return mqg_error_set(e, MQG_GONE, 530, "vhost '%.*s' is deleted", MQG_SLICE_FMT(mqg_vhost_name(v)));
}

enum mqg_err definitions_bounds(const char *kind, struct mqg_slice name, const struct mqg_table *args,
                                struct mqg_error *e)
{
    if (name.len > NAMES_MAX_BYTES)
        return mqg_error_set(e, MQG_TOO_LARGE, 406, "%s name of %zu bytes is longer than %d", kind, name.len,
                             NAMES_MAX_BYTES);
    if (args->n == 0)
        return MQG_OK;
    struct mqg_dynbuf probe;
    mqg_dynbuf_init(&probe, DEFINITIONS_ARGS_MAX_BYTES);
    mqg_table_encode(&probe, args);
    bool failed = probe.failed;
    mqg_dynbuf_fini(&probe);
    if (!failed)
        return MQG_OK;
    return mqg_error_set(e, MQG_TOO_LARGE, 406, "arguments of %s '%.*s' are larger than %d bytes", kind,
                         MQG_SLICE_FMT(name), DEFINITIONS_ARGS_MAX_BYTES);
}
