/* stream_put.c - what a worker published to a stream in a turn becomes one batch per partition.
 *
 * Batches are built outside any lock, in the worker's one builder; the partition's mutex is taken to give the offset. A batch
 * ends early at 1 MiB, so that a reader who wants one record need not take a hundred megabytes; a record larger than that has
 * a batch of its own.
 *
 * With several partitions the turn's messages are first dealt out: by the key's hash as Kafka's clients do it, those without a
 * key in turns. */
#include "stream_int.h"

#include <stdlib.h>

#include <mqgate/obs.h>

#define BATCH_BYTES        (1u << 20)
#define BUILDER_KEEP_BYTES (4u << 20)

/* What is done with the batch that is being built. */
struct batch_put {
    struct publisher *publisher;
    struct mqg_partition *partition;
    bool urgent, gone;
    uint64_t taken;
};

/* The last batch of a partition in this flush says how far it reaches. */
static void batch_note(struct publisher *p, struct mqg_partition *part, uint64_t end)
{
    if (p->nends > 0 && p->ends[p->nends - 1].partition == part) {
        p->ends[p->nends - 1].end = end;
        return;
    }
    p->ends = publisher_room(p->ends, p->nends, &p->ends_cap, sizeof(*p->ends));
    p->ends[p->nends++] = (struct stream_end){part, end};
    mqg_queue_ref(part->stream->queue);
}

static void batch_append(struct batch_put *b)
{
    struct mqg_batch_builder *builder = &b->publisher->builder;
    struct mqg_slice bytes = mqg_builder_end(builder);
    struct mqg_append a = {.rope = &bytes,
                           .nrope = 1,
                           .count = builder->count,
                           .max_time_ms = (uint64_t)builder->max_time_ms,
                           .producer_id = -1};
    if (bytes.len > 0 && !b->gone) {
        b->gone = mqg_partition_append(b->partition, &a, b->urgent) != MQG_OK; /* as if not bound */
        b->taken += b->gone ? 0 : builder->count;
        if (!b->gone)
            batch_note(b->publisher, b->partition, a.base_offset + a.count);
    }
    if (builder->out.cap > BUILDER_KEEP_BYTES) {
        mqg_builder_fini(builder);
        mqg_builder_init(builder, STREAM_BATCH_MAX_BYTES);
        builder->attributes = MQG_BATCH_ROUTED;
    }
    mqg_builder_begin(builder);
}

static void batch_add(struct batch_put *b, struct item *item)
{
    struct publisher *p = b->publisher;
    struct mqg_msg *m = item->msg;
    mqg_arena_reset(&p->arena);
    bool added = mqg_record_from_msg(&p->builder, m, &p->arena);
    if (!added && p->builder.count > 0) {
        batch_append(b);
        added = mqg_record_from_msg(&p->builder, m, &p->arena);
    }
    if (!added) {
        mqg_count(MQG_COUNT_CONVERSION_DROPPED, 1);
        publish_reject(item);
    }
    b->urgent = b->urgent || item->seq != 0;
    if (p->builder.out.len >= BATCH_BYTES)
        batch_append(b);
    mqg_msg_unref(&m);
}

/* The chain of puts that begins at `at` goes to one partition. */
static uint64_t partition_put(struct publisher *p, struct mqg_partition *part, uint32_t at)
{
    struct batch_put b = {.publisher = p, .partition = part};
    mqg_builder_begin(&p->builder);
    for (; at != PUT_NONE; at = p->puts[at].next)
        batch_add(&b, &p->items[p->puts[at].item]);
    batch_append(&b);
    return b.taken;
}

/* ---- several partitions -------------------------------------------------------------------------------------------------- */

struct chain {
    uint32_t head, tail;
};

static uint32_t partition_of(struct publisher *p, struct mqg_stream *s, uint32_t n, const struct mqg_msg *m)
{
    struct mqg_slice key;
    mqg_arena_reset(&p->arena);
    if (mqg_record_key(m, &p->arena, &key))
        return mqg_record_partition(key, n);
    return atomic_fetch_add_explicit(&s->next_partition, 1, memory_order_relaxed) % n;
}

static uint64_t stream_deal(struct publisher *p, struct mqg_stream *s, uint32_t partitions, uint32_t at)
{
    struct chain *chains = mqg_xmalloc(partitions * sizeof(*chains));
    for (uint32_t i = 0; i < partitions; i++)
        chains[i].head = PUT_NONE;
    while (at != PUT_NONE) {
        uint32_t next = p->puts[at].next;
        struct chain *c = &chains[partition_of(p, s, partitions, p->items[p->puts[at].item].msg)];
        p->puts[at].next = PUT_NONE;
        if (c->head == PUT_NONE)
            c->head = at;
        else
            p->puts[c->tail].next = at;
        c->tail = at;
        at = next;
    }
    uint64_t taken = 0;
    for (uint32_t i = 0; i < partitions; i++)
        if (chains[i].head != PUT_NONE)
            taken += partition_put(p, stream_at(s, i), chains[i].head);
    free(chains);
    return taken;
}

uint64_t stream_put(struct publisher *p, struct queue_slot *slot)
{
    struct mqg_queue *q = slot->queue;
    struct mqg_stream *s = q->stream;
    uint32_t at = slot->put_head;
    slot->put_head = slot->put_tail = PUT_NONE;
    uint32_t n = mqg_stream_partitions(s);
    uint64_t taken = n == 1 ? partition_put(p, stream_at(s, 0), at) : stream_deal(p, s, n, at);
    mqg_queue_unref(&q);
    return taken;
}
