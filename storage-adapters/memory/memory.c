/* memory.c - the memory store: the storage table without a disk, for queues and streams that may be lost at a restart.
 *
 * Nothing here waits, so nothing needs a thread: a batch takes effect inside submit(), and done() is told before submit
 * returns. That makes it the table's plainest reading, and what the conformance suite is first tried on.
 *
 * What it promises: everything but DURABLE. Recovery finds nothing. Metadata, settles, counts and producer state are
 * accepted and forgotten, because the table has no call that asks a running store for them: their only reader is
 * recovery. Messages are held by reference, never copied, as long as any message of their batch is unsettled; streams are
 * held as the batches came.
 *
 * The bound. `max_bytes` counts messages and stream batches. Beyond it the host is told to block publishers, and a batch
 * that would only add is answered AGAIN; one that also frees (TRIM, STREAM_DELETE) is always taken. A batch is judged by
 * what is held already, not by its own size, so one larger than the whole bound still comes through. Settling frees by
 * the extents' counts, outside submit, so a refused batch cannot stand in its own way. */
#include "memory.h"

#include <stdio.h>
#include <stdlib.h>

static enum mqg_err mem_open(struct mqg_store **out, const struct mqg_store_host *host,
                             const struct mqg_conf *conf, const char *section, uint32_t nlanes,
                             struct mqg_error *e)
{
    if (nlanes == 0)
        return mqg_error_set(e, MQG_INVALID, 0, "[%s]: a store needs at least one lane", section);
    struct mqg_store *s = mqg_xcalloc(1, sizeof(*s));
    s->magic = MEM_MAGIC;
    s->host = *host;
    s->nlanes = nlanes;
    s->max_bytes = mqg_conf_int(conf, section, "max_bytes");
    s->lanes = aligned_alloc(64, nlanes * sizeof(*s->lanes));
    MQG_ASSERT(s->lanes != NULL);
    for (uint32_t i = 0; i < nlanes; i++)
        mem_lane_init(&s->lanes[i]);
    s->streams = mem_streams_new();
    *out = s;
    return MQG_OK;
}

static enum mqg_err mem_recover(struct mqg_store *s, struct mqg_recover *r, struct mqg_error *e)
{
    MQG_CHECK(s, MEM_MAGIC);
    (void)e;
    r->unclean = false;
    if (r->meta_end)
        r->meta_end(r->arg);
    return MQG_OK;
}

static enum mqg_err mem_start(struct mqg_store *s, struct mqg_error *e)
{
    MQG_CHECK(s, MEM_MAGIC);
    (void)e;
    return MQG_OK;
}

/* ---- the bound ---------------------------------------------------------------------------------------------------------- */

static void mem_tell_pressure(struct mqg_store *s, bool blocked)
{
    if (atomic_exchange(&s->blocked, blocked) != blocked && !atomic_load(&s->stopped))
        s->host.pressure(s->host.host, blocked, blocked ? "max_bytes" : "below max_bytes");
}

void mem_charge(struct mqg_store *s, int64_t n)
{
    int64_t now = atomic_fetch_add_explicit(&s->used_bytes, n, memory_order_relaxed) + n;
    if (MQG_LIKELY(s->max_bytes == 0))
        return;
    if (n > 0 && now >= s->max_bytes)
        mem_tell_pressure(s, true);
    else if (n < 0 && now < s->max_bytes / 4 * 3 && atomic_load_explicit(&s->blocked, memory_order_relaxed))
        mem_tell_pressure(s, false);
}

/* Does the batch hold more afterwards, and give nothing back? */
static bool mem_only_adds(const struct mqg_store_op *ops, size_t n)
{
    bool adds = false;
    for (size_t i = 0; i < n; i++) {
        if (ops[i].kind == MQG_OP_TRIM || ops[i].kind == MQG_OP_STREAM_DELETE ||
            ops[i].kind == MQG_OP_STREAM_CONF)
            return false;
        adds = adds || ops[i].kind == MQG_OP_MSG || ops[i].kind == MQG_OP_APPEND;
    }
    return adds;
}

static bool mem_full(const struct mqg_store *s)
{
    return s->max_bytes != 0 && atomic_load_explicit(&s->used_bytes, memory_order_relaxed) >= s->max_bytes;
}

/* ---- batches ------------------------------------------------------------------------------------------------------------- */

static enum mqg_err mem_submit(struct mqg_store *s, uint32_t lane, const struct mqg_store_op *ops, size_t n,
                               uint64_t ticket, unsigned flags)
{
    MQG_CHECK(s, MEM_MAGIC);
    MQG_ASSERT(lane < s->nlanes);
    if (MQG_UNLIKELY(!(flags & MQG_SUBMIT_CONTROL) && mem_full(s) && mem_only_adds(ops, n)))
        return MQG_AGAIN;
    mem_extent_fill(s, lane, ops, n);
    mem_streams_apply(s, ops, n);
    atomic_fetch_add_explicit(&s->stat_batches, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&s->stat_records, n, memory_order_relaxed);
    s->host.done(s->host.host, lane, ticket);
    return MQG_OK;
}

static void mem_stats(struct mqg_store *s, struct mqg_store_stats *out)
{
    *out = (struct mqg_store_stats){
        .live_bytes = (uint64_t)atomic_load(&s->used_bytes),
        .live_extents = atomic_load(&s->stat_extents),
        .commits = atomic_load(&s->stat_batches),
        .records = atomic_load(&s->stat_records),
        .state = atomic_load(&s->blocked) ? "blocked" : "ok",
    };
}

static void mem_close(struct mqg_store *s)
{
    MQG_CHECK(s, MEM_MAGIC); /* every batch took effect in its submit: nothing to flush */
}

static void mem_stop(struct mqg_store *s)
{
    MQG_CHECK(s, MEM_MAGIC);
    atomic_store(&s->stopped, true);
}

static void mem_fini(struct mqg_store **store)
{
    struct mqg_store *s = *store;
    *store = NULL;
    if (!s)
        return;
    MQG_CHECK(s, MEM_MAGIC);
    atomic_store(&s->stopped, true);
    for (uint32_t i = 0; i < s->nlanes; i++)
        mem_lane_fini(&s->lanes[i]);
    free(s->lanes);
    mem_streams_free(&s->streams);
    s->magic = 0;
    free(s);
}

static void mem_dump(struct mqg_store *s, int fd)
{
    dprintf(fd, "memory store: %lld of %lld bytes, %llu extents, %llu batches\n",
            (long long)atomic_load(&s->used_bytes), (long long)s->max_bytes,
            (unsigned long long)atomic_load(&s->stat_extents),
            (unsigned long long)atomic_load(&s->stat_batches));
}

const struct mqg_store_ops mem_ops = {
    .type = "memory",
    .caps = MQG_STORE_QUEUES | MQG_STORE_STREAMS | MQG_STORE_SEEK | MQG_STORE_TRIM | MQG_STORE_POSITIONS |
            MQG_STORE_META | MQG_STORE_ATOMIC_GROUPS,
    .open = mem_open,
    .recover = mem_recover,
    .start = mem_start,
    .extent_open = mem_extent_open,
    .extent_dead = mem_extent_dead,
    .submit = mem_submit,
    .load = mem_load,
    .stream_bounds = mem_stream_bounds,
    .stream_read = mem_stream_read,
    .stream_wait = mem_stream_wait,
    .offset_for_time = mem_offset_for_time,
    .position_get = mem_position_get,
    .stats = mem_stats,
    .close = mem_close,
    .stop = mem_stop,
    .fini = mem_fini,
    .dump = mem_dump,
    .stream_stats = mem_stream_stats,
};
