/* routing/topology.h - exchanges and bindings as the publishing side reads them. Internal to routing/.
 *
 * One immutable snapshot per vhost, made of persistent (path-copied) maps and tries; readers load one pointer, definitions
 * make a new root under the topology mutex; what was replaced is freed by epochs. Everything returned is valid until the
 * worker's quiescent point (the end of its turn). */
#ifndef MQG_ROUTING_TOPOLOGY_H
#define MQG_ROUTING_TOPOLOGY_H

#include <mqgate/broker.h>

/* A set of queues: each once. Reused from publish to publish by its owner. */
struct route_set {
    struct mqg_queue **queues;
    size_t n, cap;
    struct mqg_queue *
        bridged; /* the one that is there by a bridge alone: its own right to write is asked for; else NULL */
    uint64_t mark; /* private: for fast duplicate checks in large sets */
    void *scratch; /* private */
};
void route_set_init(struct route_set *r);
void route_set_fini(struct route_set *r);

/* This thread has changes in an edit that is not published yet (definitions.c): it must not look at the snapshot
 * before it has flushed them. */
extern _Thread_local bool topology_drafted;
extern _Thread_local bool topology_may_draft; /* workers, which come to the end of a turn */
void topology_draft_flush(void);

static inline void topology_see(void)
{
    if (MQG_UNLIKELY(topology_drafted))
        topology_draft_flush();
}

/* NULL when there is none. name "" is the default exchange. */
const struct mqg_exchange *topology_exchange(const struct mqg_vhost *v, struct mqg_slice name);
bool topology_exchange_internal(const struct mqg_exchange *x);
/* Changes whenever anything in the vhost's snapshot has changed: a route cache keyed by (generation, exchange, key) is right
 * as long as it is equal and topology_cacheable(x) holds (no headers exchange can be reached from x). */
uint64_t topology_generation(const struct mqg_vhost *v);
bool topology_cacheable(const struct mqg_exchange *x);
/* Fills r with the destinations of m published to x under the given keys (the routing key first, then CC/BCC): bindings of x,
 * exchange-to-exchange transitively (cycles end), alternate exchanges where an exchange matched nothing. m is looked into
 * (lazily decoded headers) only when a headers exchange is met; it may be NULL for exchanges without headers. */
void topology_route(const struct mqg_vhost *v, const struct mqg_exchange *x, const struct mqg_msg *m,
                    const struct mqg_slice *keys, size_t nkeys, struct route_set *r);
/* Dead lettering: the queue of that name through the snapshot (no permission check); NULL when none. */
struct mqg_queue *topology_queue(const struct mqg_vhost *v, struct mqg_slice name);
/* (worker) All queues there are now; visit may lock them. */
void topology_queues_each(bool (*visit)(void *arg, struct mqg_queue *q), void *arg);
/* By incarnation id: in recovery, or under the topology mutex. NULL when unknown. Takes no reference. */
struct mqg_queue *topology_queue_by_id(uint64_t id);

#endif
