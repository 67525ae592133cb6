/* routing/publish_confirm.c - when a publisher is told that what it published is safe.
 *
 * What a publisher sent in a turn is decided together. Nothing stored: at once. Else when the ticket of the turn's submit is
 * durable, and, where it went to streams, when their high watermarks have passed it: a batch may be durable and yet stand
 * behind one that another worker was given an earlier offset for and has not handed in, and a crash would cut both. Earlier turns
 * come first, so a confirm is always cumulative, and rejected ones are listed. */
#include "publish.h"
#include "queue_int.h"
#include "stream_int.h"

#include <stdlib.h>

#include <mqgate/obs.h>

static void pub_decided(struct mqg_pub_state *ps);

static int seq_cmp(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void pub_pending_add(struct mqg_pub_state *ps, struct mqg_storage *s, struct mqg_partition *part,
                            uint64_t until)
{
    if (ps->pending_at == ps->pending_n)
        ps->pending_at = ps->pending_n = 0;
    if (ps->pending_n == ps->pending_cap && ps->pending_at > 0) {
        ps->pending_n -= ps->pending_at;
        memmove(ps->pending, ps->pending + ps->pending_at, ps->pending_n * sizeof(*ps->pending));
        ps->pending_at = 0;
    }
    ps->pending = publisher_room(ps->pending, ps->pending_n, &ps->pending_cap, sizeof(*ps->pending));
    ps->pending[ps->pending_n++] = (struct pending){ps->turn_seq, s, part, until};
    if (part != NULL)
        mqg_queue_ref(part->stream->queue);
}

static void pending_release(struct pending *d)
{
    struct mqg_queue *q = d->partition != NULL ? d->partition->stream->queue : NULL;
    if (q != NULL)
        mqg_queue_unref(&q);
}

/* Of all partitions that the flush appended to: another publisher's as well, which is not worth telling apart. */
static void pub_close_streams(struct mqg_pub_state *ps)
{
    const struct publisher *p = ps->publisher;
    for (uint32_t i = 0; i < p->nends; i++)
        pub_pending_add(ps, NULL, p->ends[i].partition, p->ends[i].end);
}

void pub_close_turn(struct mqg_pub_state *ps)
{
    unsigned stored = ps->stored;
    bool streamed = ps->streamed;
    ps->dirty = ps->streamed = false;
    ps->stored = 0;
    if (!ps->pub)
        return;
    if (ps->nrejected > 1)
        qsort(ps->rejected, ps->nrejected, sizeof(*ps->rejected), seq_cmp);
    for (uint32_t i = 0; i < MQG_STORES_MAX; i++) {
        struct mqg_storage *s = stored & 1u << i ? mqg_storage_at(i) : NULL;
        if (s)
            pub_pending_add(ps, s, NULL, mqg_lane_ticket(s));
    }
    if (streamed)
        pub_close_streams(ps);
    if (!stored)
        pub_pending_add(ps, NULL, NULL, 0);
    if (!ps->waiting)
        pub_decided(ps);
}

void pub_state_free(struct mqg_pub_state *ps)
{
    for (; ps->pending_at < ps->pending_n; ps->pending_at++)
        pending_release(&ps->pending[ps->pending_at]);
    free(ps->pending);
    free(ps->rejected);
    route_set_fini(&ps->routes);
    free(ps);
}

/* ---- confirms ------------------------------------------------------------------------------------------------------------------ */

static bool pending_decided(const struct pending *d)
{
    struct mqg_stream_bounds b;
    if (d->storage != NULL)
        return mqg_lane_done(d->storage) >= d->until;
    return d->partition == NULL || mqg_partition_bounds(d->partition, &b) != MQG_OK ||
           b.high_watermark >= d->until; /* a stream that is gone keeps nobody waiting */
}

static void pub_high_fire(struct mqg_partition_wait *w, enum mqg_err err)
{
    struct mqg_pub_state *ps = MQG_CONTAINER_OF(w, struct mqg_pub_state, high);
    (void)err; /* GONE is seen again */
    ps->waiting = false;
    pub_decided(ps);
}

static void pub_waiter_fire(struct mqg_waiter *w, enum mqg_err err)
{
    struct mqg_pub_state *ps = MQG_CONTAINER_OF(w, struct mqg_pub_state, waiter);
    ps->waiting = false;
    if (err == MQG_OK) /* a failed store ends the process; nothing is confirmed any more */
        pub_decided(ps);
}

static void pub_wait_oldest(struct mqg_pub_state *ps)
{
    const struct pending *d = &ps->pending[ps->pending_at];
    ps->waiting = true;
    ps->waits_on = d->storage;
    if (d->partition != NULL) {
        ps->high.fire = pub_high_fire;
        mqg_partition_wait(d->partition, &ps->high, d->until - 1);
        return;
    }
    ps->waiter.ticket = d->until;
    ps->waiter.fire = pub_waiter_fire;
    mqg_lane_wait(d->storage, &ps->waiter);
}

static void pub_tell(struct mqg_pub_state *ps, uint64_t upto)
{
    uint32_t n = 0;
    while (n < ps->nrejected && ps->rejected[n] <= upto)
        n++;
    mqg_count(MQG_COUNT_REJECTED, n);
    ps->pub->ops->confirm(ps->pub, upto, ps->rejected, n);
    if (n > 0) {
        ps->nrejected -= n;
        memmove(ps->rejected, ps->rejected + n, ps->nrejected * sizeof(*ps->rejected));
    }
}

static void pub_decided(struct mqg_pub_state *ps)
{
    uint64_t upto = 0;
    while (ps->pending_at < ps->pending_n && pending_decided(&ps->pending[ps->pending_at])) {
        struct pending *d = &ps->pending[ps->pending_at++];
        pending_release(d);
        /* A turn that went to several stores has an entry for each, and is decided with the last. */
        if (ps->pending_at == ps->pending_n || ps->pending[ps->pending_at].upto != d->upto)
            upto = d->upto;
    }
    if (ps->pending_at < ps->pending_n)
        pub_wait_oldest(ps);
    if (upto)
        pub_tell(ps, upto);
}

void mqg_pub_init(struct mqg_pub *pub, const struct mqg_pub_ops *ops, struct mqg_session *s, void *owner)
{
    struct mqg_pub_state *ps = mqg_xcalloc(1, sizeof(*ps));
    ps->pub = pub;
    ps->publisher = publisher_self();
    route_set_init(&ps->routes);
    *pub = (struct mqg_pub){.ops = ops, .session = s, .owner = owner, .state = ps};
}

void mqg_pub_fini(struct mqg_pub *pub)
{
    struct mqg_pub_state *ps = pub->state;
    pub->state = NULL;
    if (ps->waiting && ps->waits_on != NULL)
        mqg_lane_unwait(ps->waits_on, &ps->waiter);
    mqg_partition_unwait(&ps->high);
    for (uint32_t i = 0; i < ps->publisher->nitems; i++) /* what it published stays published */
        if (ps->publisher->items[i].pub == ps)
            ps->publisher->items[i].pub = NULL;
    ps->pub = NULL;
    if (!ps->dirty)
        pub_state_free(ps);
}
