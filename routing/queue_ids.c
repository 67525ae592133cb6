/* queue_ids.c - queues by their id: the store's records name queues so.
 *
 * Asked at recovery, while nobody declares, and afterwards seldom and under the topology mutex. So it is a chained table for one
 * thread at a time, not a snapshot: a link in each queue and a pointer per bucket, where a persistent map would cost every
 * idle queue 70 bytes more. Ids count up, so the lowest bits spread them. */
#include "definitions_int.h"

#include <stdlib.h>

enum { QUEUE_IDS_MIN = 64 };

static struct queue_entry **queue_ids; /* a power of two of buckets */
static size_t queue_ids_cap, queue_ids_n;

static struct queue_entry **queue_ids_bucket(uint64_t id)
{
    return &queue_ids[id & (queue_ids_cap - 1)];
}

static void queue_ids_put(struct queue_entry *q)
{
    struct queue_entry **bucket = queue_ids_bucket(mqg_queue_id(q->queue));
    q->next_id = *bucket;
    *bucket = q;
}

static void queue_ids_grow(void)
{
    struct queue_entry **old = queue_ids;
    size_t old_cap = queue_ids_cap;
    queue_ids_cap = old_cap > 0 ? old_cap * 2 : QUEUE_IDS_MIN;
    queue_ids = mqg_xcalloc(queue_ids_cap, sizeof(struct queue_entry *));
    for (size_t i = 0; i < old_cap; i++)
        for (struct queue_entry *q = old[i], *next; q != NULL; q = next) {
            next = q->next_id;
            queue_ids_put(q);
        }
    free(old);
}

void queue_ids_add(struct queue_entry *q)
{
    if (queue_ids_n == queue_ids_cap)
        queue_ids_grow();
    queue_ids_n++;
    queue_ids_put(q);
}

void queue_ids_remove(struct queue_entry *q)
{
    struct queue_entry **at = queue_ids_bucket(mqg_queue_id(q->queue));
    while (*at != q) {
        MQG_ASSERT(*at != NULL);
        at = &(*at)->next_id;
    }
    *at = q->next_id;
    queue_ids_n--;
}

struct mqg_queue *topology_queue_by_id(uint64_t id)
{
    if (queue_ids_n == 0)
        return NULL;
    struct queue_entry *q = *queue_ids_bucket(id);
    while (q != NULL && mqg_queue_id(q->queue) != id)
        q = q->next_id;
    return q != NULL ? q->queue : NULL;
}

void queue_ids_fini(void)
{
    MQG_ASSERT(queue_ids_n == 0);
    free(queue_ids);
    queue_ids = NULL;
    queue_ids_cap = 0;
}
