/* produce_wait.c - a Produce request between its last append and its answer.
 *
 * What a request appended is answered when it is durable and nothing before it can be missing: the ticket of the turn says the
 * first, the partition's high watermark the second (another worker may have been given an earlier offset and not be done). Mostly
 * both come together, so the high watermark is looked at when the ticket is through. Tickets are one number per store, since
 * a lane is durable in order. */
#include "produce_wait.h"

/* One batch. */
struct produce_end {
    struct mqg_stream *stream; /* one reference */
    struct mqg_partition *partition;
    uint64_t end;
    produce_row *row;
};

struct produce_wait {
    struct mqg_waiter ticket;
    struct mqg_partition_wait high;
    struct kafka_call *call;
    struct mqg_storage *storage; /* whose ticket is waited for */
    uint64_t tickets[MQG_STORES_MAX];
    uint32_t store, at, n;
    struct produce_end ends[];
};

struct produce_wait *produce_wait_new(struct kafka_call *c, size_t nbatch)
{
    struct produce_wait *w = mqg_arena_alloc(&c->arena, sizeof *w + nbatch * sizeof(struct produce_end));
    if (w != NULL)
        w->call = c;
    return w;
}

void produce_wait_note(struct produce_wait *w, struct mqg_partition *part, produce_row *row, uint64_t end,
                       uint64_t ticket)
{
    struct mqg_stream *s = mqg_partition_stream(part);
    w->ends[w->n++] = (struct produce_end){mqg_stream_ref(s), part, end, row};
    uint64_t *last = &w->tickets[mqg_stream_storage(s)->index];
    *last = ticket > *last ? ticket : *last;
}

void produce_wait_drop(struct produce_wait *w)
{
    for (uint32_t i = 0; i < w->n; i++)
        mqg_stream_unref(&w->ends[i].stream);
    w->n = 0;
}

static void wait_gone(struct kafka_call *c)
{
    struct produce_wait *w = c->owner;
    if (w->storage != NULL)
        mqg_lane_unwait(w->storage, &w->ticket);
    mqg_partition_unwait(&w->high);
    produce_wait_drop(w);
}

static void wait_done(struct produce_wait *w)
{
    produce_wait_drop(w);
    kafka_call_answer(w->call);
}

/* Is the high watermark beyond each batch? Goes on when it is. */
static void wait_high(struct produce_wait *w)
{
    for (; w->at < w->n; w->at++) {
        struct produce_end *e = &w->ends[w->at];
        struct mqg_stream_bounds b;
        if (mqg_partition_bounds(e->partition, &b) != MQG_OK) {
            e->row->error_code = KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
        } else if (b.high_watermark < e->end) {
            mqg_partition_wait(e->partition, &w->high, e->end - 1);
            return;
        }
    }
    wait_done(w);
}

static void wait_high_fired(struct mqg_partition_wait *high, enum mqg_err err)
{
    (void)err; /* GONE is seen again */
    wait_high(MQG_CONTAINER_OF(high, struct produce_wait, high));
}

static void wait_tickets(struct produce_wait *w)
{
    for (; w->store < MQG_STORES_MAX; w->store++) {
        uint64_t ticket = w->tickets[w->store];
        struct mqg_storage *s = ticket > 0 ? mqg_storage_at(w->store) : NULL;
        if (s == NULL || mqg_lane_done(s) >= ticket)
            continue;
        w->storage = s;
        w->ticket.ticket = ticket;
        w->store++;
        mqg_lane_wait(s, &w->ticket);
        return;
    }
    wait_high(w);
}

static void wait_ticket_fired(struct mqg_waiter *ticket, enum mqg_err err)
{
    struct produce_wait *w = MQG_CONTAINER_OF(ticket, struct produce_wait, ticket);
    w->storage = NULL;
    if (err == MQG_OK) {
        wait_tickets(w);
        return;
    }
    struct kafka_call *c = w->call;
    produce_wait_drop(w);
    kafka_call_drop(c, "the store failed");
}

void produce_wait_begin(struct produce_wait *w)
{
    w->ticket.fire = wait_ticket_fired;
    w->high.fire = wait_high_fired;
    w->call->owner = w;
    w->call->gone = wait_gone;
    if (w->n == 0)
        wait_done(w);
    else
        wait_tickets(w);
}
