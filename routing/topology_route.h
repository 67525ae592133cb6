/* routing/topology_route.h - what routing keeps between calls: memory for duplicate checks, matching and
 * headers. Internal to topology*.c. */
#ifndef MQG_ROUTING_TOPOLOGY_ROUTE_H
#define MQG_ROUTING_TOPOLOGY_ROUTE_H

#include "topic.h"

enum { ROUTE_HEADERS_MAX_BYTES = 8u << 20, ROUTE_KEYS_MAX_BYTES = 8u << 20 };

struct route_slot {
    struct mqg_queue *queue;
    uint64_t mark;
};

struct route_scratch {
    struct route_slot *slots; /* an open hash table, a power of two */
    size_t slots_cap;
    bool tabled; /* the slots hold what the set holds */
    const struct mqg_exchange **visited;
    size_t visited_cap;
    struct topic_scratch topic;
    struct mqg_arena arena;
    struct mqg_dynbuf swapped; /* keys of other separators, rendered */
    struct mqg_slice *keys;
};

struct route_scratch *route_scratch(struct route_set *r);

#endif
