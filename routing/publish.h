/* routing/publish.h - one worker's routing state: what was published and settled in this turn. Internal to routing/.
 *
 * Publishing only notes: routes the message, and puts it on the list of each destination queue (one `slot` per queue and
 * worker). The PUBLISH phase then takes each dirty queue's lock once, appends, dispatches, and hands one MSG op per stored
 * message to the lane. So the cost per message is a cache lookup and two list entries; locks, submits and wake-ups are per
 * turn. Settles are collected as ranges the same way and leave in the STORE phase. */
#ifndef MQG_ROUTING_PUBLISH_H
#define MQG_ROUTING_PUBLISH_H

#include "queue.h"
#include "topology.h"

#include <mqgate/records.h>
#include <mqgate/stream.h>

#define PUT_NONE UINT32_MAX

/* One copy for one queue. */
struct put {
    uint32_t item;
    uint32_t dest; /* index into dests: qseq goes there, or queue_id 0 when the queue did not take it */
    uint32_t next;
};

/* One message published in this turn. */
struct item {
    struct mqg_msg *msg;
    struct mqg_pub_state *pub; /* NULL: the node's own (dead letters) */
    uint64_t seq;
    uint32_t dest, ndest;
    struct mqg_storage *storage; /* NULL: no destination stores it */
    bool rejected;
};

struct settled {
    struct mqg_range range;
    uint32_t next;
};

/* One condition on which a publisher's turn is confirmed. */
struct pending {
    uint64_t upto;
    struct mqg_storage *storage;     /* its ticket must be durable */
    struct mqg_partition *partition; /* or: its high watermark must reach the offset `until` */
    uint64_t until; /* ticket or offset; neither of both: nothing stored, decided once it is the oldest */
};

struct mqg_pub_state {
    struct mqg_pub *pub; /* NULL: its owner is gone */
    struct publisher *publisher;
    struct mqg_pub_state *next_dirty;
    bool dirty, waiting;
    bool streamed;   /* something went to a stream, this turn */
    unsigned stored; /* bit per store index, this turn */
    uint64_t turn_seq;
    struct pending *pending;
    uint32_t pending_at, pending_n, pending_cap;
    uint64_t *rejected;
    uint32_t nrejected, rejected_cap;
    struct mqg_waiter waiter;
    struct mqg_storage *waits_on;
    struct mqg_partition_wait high;
    /* the last route: right while the topology's generation is the same */
    uint64_t generation, auth_generation;
    struct mqg_vhost *vhost;
    struct route_set routes;
    bool cached; /* for (exchange, key), these generations of definitions and of permissions */
    char key_sep;
    uint8_t exchange_len;
    uint16_t key_len;
    uint8_t exchange[256];
    uint8_t key[256];
    const struct mqg_exchange *x; /* valid with `cached` only */
};

/* How far a turn's appends reach in a partition. */
struct stream_end {
    struct mqg_partition *partition; /* with a reference on its queue, until the flush is over */
    uint64_t end;
};

/* A queue's part in a worker's turn. Lives in the queue, one per worker, touched by that worker only. */
struct queue_slot {
    struct mqg_queue *queue;
    struct queue_slot *next_put, *next_settle;
    uint32_t put_head, put_tail;       /* into publisher.puts; PUT_NONE when clean */
    uint32_t settle_head, settle_tail; /* into publisher.settles */
};

struct publisher {
    struct mqg_worker *worker;
    struct item *items;
    struct mqg_dest *dests;
    struct put *puts;
    struct settled *settles;
    struct mqg_range *ranges; /* scratch of the STORE phase */
    struct stream_end *ends;  /* of this flush */
    uint32_t nends, ends_cap;
    uint32_t nitems, items_cap, ndests, dests_cap, nputs, puts_cap, nsettles, settles_cap, ranges_cap;
    struct queue_slot *dirty_puts, *dirty_settles;
    struct route_set routes;
    _Atomic(struct mqg_sub *) ready;  /* subscriptions of this worker with deliveries, from any thread */
    struct mqg_pub_state *dirty_pubs; /* pubs with confirms to note */
    struct mqg_arena arena;           /* one dead letter, one header match */
    struct mqg_dynbuf overlay;
    struct mqg_task drop;             /* bindings of deleted exchanges, a slice per turn */
    bool dropping;                    /* it is posted */
    struct mqg_batch_builder builder; /* the batch for a stream that is being built */
};

void publish_init(void); /* registers phases */
void publish_fini(void);
struct publisher *publisher_self(void);
bool publish_flush(struct publisher *p); /* true: there was something */
/* publish_settle.c: what was settled in this turn goes to the lanes. */
void publish_settle_flush(struct publisher *p);
/* publish_confirm.c: the flush is done with this publisher's turn; its end. */
void pub_close_turn(struct mqg_pub_state *ps);
void pub_state_free(struct mqg_pub_state *ps);
/* publish.c: the message will be confirmed negatively. */
void pub_reject(struct mqg_pub_state *ps, uint64_t seq);
/* Room for one more; *array grows by doubling. */
void *publisher_room(void *array, uint32_t n, uint32_t *cap, size_t size);

/* Puts m (its reference is taken) to the queues of r as the node itself: dead letters. Durable when storage is given. */
void publish_internal(struct publisher *p, struct mqg_msg *m, const struct route_set *r);
/* The publish will be confirmed negatively. */
void publish_reject(struct item *item);
/* Notes that an entry which a store holds is settled; `extent` loses one live destination. */
void publish_settled(struct publisher *p, struct queue_slot *slot, uint64_t qseq, struct mqg_extent *extent);
/* All from first to last is settled, and their extents lose nothing yet: the store remembers them (queue_span.c). */
void publish_settled_span(struct publisher *p, struct queue_slot *slot, uint64_t first, uint64_t last);
/* The next qseq base of this start: epoch:16 | counter:48. */
uint64_t publish_qseq_base(void);
void publish_epoch_set(uint16_t epoch);
uint16_t publish_epoch(void);

#endif
