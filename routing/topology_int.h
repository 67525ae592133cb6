/* routing/topology_int.h - the inside of the snapshot, shared by topology*.c, topic.c and the definitions.
 * Internal to routing/.
 *
 *   vhost -> topology (root) -> exchanges: pmap name -> struct mqg_exchange (one version)
 *                                             -> direct: pmap key -> dest_set; fanout: dest_set;
 *                                                topic: trie of levels -> dest_set;
 *                                                headers: pmap id -> headers_match
 *                            -> queues: pmap name -> struct mqg_queue
 *
 * What is published never changes. An edit copies what it changes, once: nodes that carry the edit's own
 * number are not published yet and are changed in place. Cells and destinations are stable: versions point to
 * them, and they live until no reader can hold a version that does. All edits run under the topology
 * mutex. */
#ifndef MQG_ROUTING_TOPOLOGY_INT_H
#define MQG_ROUTING_TOPOLOGY_INT_H

#include "queue.h"
#include "topology.h"

#include <mqgate/epoch.h>
#include <mqgate/pmap.h>

#define EXCHANGE_MAGIC 0x45584348u

/* Where a binding leads: a queue, or an exchange by its name. */
struct dest {
    uint64_t id;             /* never used again: the key in large sets */
    struct mqg_queue *queue; /* NULL: an exchange */
    struct mqg_slice exchange;
};

struct dest_ref {
    const struct dest *dest;
    uint32_t count; /* bindings that say so */
};

/* A set of destinations: flat while it is small, a map by id beyond. One alone, bound once, is no set at all but its
 * pointer with the lowest bit set: most keys lead to one queue. */
struct dest_set {
    uint64_t edit;
    uint32_t n, cap;
    struct mqg_pmap *many; /* dest id -> struct dest_ref */
    struct dest_ref refs[];
};

/* Where nothing follows and one destination stands, its parent holds that in the place of the node, marked likewise
 * (not below '#', whose nodes are told apart by their addresses). */
struct topic_node {
    uint64_t edit;
    struct mqg_pmap *children; /* level -> topic_node */
    struct topic_node *star, *hash;
    struct dest_set *dests;
};

enum headers_mode { HEADERS_ALL, HEADERS_ANY, HEADERS_ALL_X, HEADERS_ANY_X };

/* A binding of a headers exchange; the table is the binding's, which lives at least as long. */
struct headers_match {
    enum headers_mode mode;
    const struct mqg_table *args;
    const struct dest *dest;
};

/* What an exchange is, as long as it exists. */
struct exchange_cell {
    struct mqg_vhost *vhost;
    struct mqg_slice name;
    enum mqg_exchange_type type;
    bool durable, auto_delete, internal;
    const struct mqg_table *args;
    bool fronts;  /* the stream of its name */
    bool bridges; /* the streams that are addresses of it: amq.topic */
    bool has_alternate;
    struct mqg_slice alternate; /* borrowed from args */
    struct dest dest;
};

/* One version of an exchange: what it is, and its bindings. */
struct mqg_exchange {
    uint32_t magic;
    const struct exchange_cell *cell;
    uint64_t edit;
    uint32_t bindings;     /* in all */
    uint32_t to_exchanges; /* of them to exchanges */
    union {
        struct mqg_pmap *keys;    /* DIRECT: key -> dest_set */
        struct dest_set *all;     /* FANOUT */
        struct topic_node *topic; /* TOPIC */
        struct mqg_pmap *headers; /* HEADERS: binding id -> headers_match */
    };
};

/* A root. */
struct topology {
    uint64_t generation;
    struct mqg_pmap *exchanges, *queues;
    uint32_t headers_bound; /* bindings of all headers exchanges */
};

/* One binding as the snapshot sees it. */
struct topology_binding {
    const struct exchange_cell *source;
    const struct dest *dest;
    struct mqg_slice key;
    uint64_t id;                       /* HEADERS */
    const struct headers_match *match; /* HEADERS */
};

/* ---- edits: under the topology mutex ------------------------------------------------------------------- */

struct topology_edit {
    struct mqg_vhost *vhost;
    struct mqg_pmap_edit pmap; /* pmap.id is the edit's number */
    struct topology root;      /* the draft */
    bool changed;
};

void topology_edit_begin(struct topology_edit *t, struct mqg_vhost *v);
/* Publishes the draft when something changed; what it replaced goes to the epochs. */
void topology_edit_commit(struct topology_edit *t);
void topology_add_queue(struct topology_edit *t, struct mqg_queue *q);
void topology_remove_queue(struct topology_edit *t, struct mqg_slice name);
void topology_add_exchange(struct topology_edit *t, const struct exchange_cell *cell);
/* With all its bindings; none needs to be unbound before. */
void topology_remove_exchange(struct topology_edit *t, const struct exchange_cell *cell);
/* Everything, in one piece. */
void topology_edit_clear(struct topology_edit *t);
void topology_bind(struct topology_edit *t, const struct topology_binding *b);
/* b must be bound. */
void topology_unbind(struct topology_edit *t, const struct topology_binding *b);
/* The root of a vhost without anything, and its end with all that it holds (no readers). */
struct topology *topology_new(void);
void topology_free(struct topology *root);
/* ptr is out of reach once the edit at hand is published; free_fn runs when no reader can hold it. */
void topology_retire(void *ptr, void (*free_fn)(void *ptr, void *arg), void *arg);
void topology_retire_plain(void *ptr); /* by free() */
/* At the end, without readers. */
void topology_fini(void);

/* ---- sets ---------------------------------------------------------------------------------------------- */

static inline const struct dest *dest_marked(const void *p)
{
    return ((uintptr_t)p & 1) != 0 ? (const struct dest *)((uintptr_t)p - 1) : NULL;
}

static inline void *dest_mark(const struct dest *d)
{
    return (void *)((uintptr_t)d + 1);
}

/* NULL is the empty set. */
struct dest_set *dests_add(const struct topology_edit *t, struct dest_set *set,
                           const struct dest *d) MQG_MUST_CHECK;
/* NULL when nothing is left. d must be in it. */
struct dest_set *dests_remove(const struct topology_edit *t, struct dest_set *set,
                              const struct dest *d) MQG_MUST_CHECK;
void dests_free(struct dest_set *set); /* all of it, no readers */

/* ---- routing: what one call keeps in route_set.scratch ------------------------------------------------- */

struct route_job {
    const struct topology *root;
    const struct mqg_msg *msg;
    const struct mqg_slice *keys;
    size_t nkeys;
    struct route_set *out;
    bool matched; /* by the exchange at hand */
    bool headers_known;
    const struct mqg_table *headers;
    const struct mqg_exchange **visited; /* also the work list; scratch's */
    size_t nvisited;
};

void route_add_queue(struct route_set *r, struct mqg_queue *q);
void route_add_dests(struct route_job *job, const struct dest_set *set);
void route_add_exchange(struct route_job *job, struct mqg_slice name);
const struct mqg_table *route_headers(struct route_job *job);

/* ---- headers ------------------------------------------------------------------------------------------- */

/* x-match of binding arguments; refuses unknown words with RabbitMQ's text. */
enum mqg_err headers_mode_parse(const struct mqg_table *args, enum headers_mode *out,
                                struct mqg_error *e) MQG_MUST_CHECK;
bool headers_match(const struct headers_match *m, const struct mqg_table *headers);

#endif
