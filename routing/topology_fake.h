/* routing/topology_fake.h - a small stand-in for queues, the store's metadata and accounts, for tests of the
 * topology alone. */
#ifndef MQG_ROUTING_TOPOLOGY_FAKE_H
#define MQG_ROUTING_TOPOLOGY_FAKE_H

#include "definitions_int.h"

#include <mqgate/map.h>

#define FAKE_QUEUE_MAGIC 0x46514455u

struct mqg_queue {
    uint32_t magic;
    _Atomic uint32_t refs;
    uint64_t id;
    struct mqg_vhost *vhost;
    struct mqg_queue_def def;
    struct mqg_table *args;
    struct queue_opts opts;
    _Atomic bool ended;
    uint64_t ready, consumers; /* what a test says */
    unsigned recovered;        /* messages */
    struct queue_entry model;
};

struct mqg_msg;

/* The metadata that was put: key -> value as malloc'ed struct fake_value. */
struct fake_value {
    size_t len;
    uint8_t bytes[];
};
extern struct mqg_map fake_meta;
extern _Atomic int64_t fake_queues_alive;
/* What mqg_msg_view gives. */
extern struct mqg_table fake_headers;
/* Denies perm on names with this prefix; NULL: nothing is denied. */
extern const char *fake_denied[MQG_PERM_COUNT];
extern unsigned fake_kills;

void fake_start(void);           /* an empty node that recovered nothing: vhost "/" */
void fake_restart(bool unclean); /* everything is forgotten, then recovered from fake_meta */
void fake_stop(void);
/* A record as a store might bring it back. */
void fake_put(struct mqg_slice key, struct mqg_slice value);

/* A session of connection `conn` on vhost "/"; valid until stop. */
struct mqg_session *fake_session(uint64_t conn);

#endif
